"""Part of module 14: a model as a table: each layer's shapes, parameters, FLOPs, bytes and time, all measured.

The model runs once on the input, in evaluation and without gradients; then its modes and the random generator are as
before. A layer's figures include those of the layers in it. Shared layers and parameters are counted once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import tt_core
from tt_core.engine.arguments import checked
from tt_core.engine.plugins import hookimpl
from tt_core.layers import Layer
from tt_learn.training import evaluating
from tt_perf.profiling.averages import size, text_table
from tt_perf.profiling.profiler import Profiler
from tt_perf.profiling.tree import Call
from tt_perf.profiling.watching import ProfilerError
from tt_perf.profiling.work import arrays


@dataclass
class Row:
    """One layer; the figures include the layers in it, and all its calls."""

    name: str
    type: str
    depth: int
    parameters: int
    """The number of parameters; a shared one counts once."""
    calls: int = 0
    input_shapes: tuple[tuple[int, ...], ...] = ()
    output_shapes: tuple[tuple[int, ...], ...] = ()
    flops: int = 0
    bytes_read: int = 0
    bytes_written: int = 0
    seconds: float = 0.0
    container: bool = False
    """Whether only layers inside it were called, not the layer itself."""

    @property
    def label(self) -> str:
        """The last part of the name and the type, indented by depth."""
        last = self.name.rpartition(".")[2]
        return "  " * self.depth + (f"{last}: {self.type}" if last else self.type)


@dataclass(repr=False)
class Summary:
    """The rows of all layers, the model first; prints as a table."""

    rows: list[Row]
    shared: list[str] = field(default_factory=list)
    """Parameters that several layers share; they are counted once."""

    @property
    def total(self) -> Row:
        """The row of the whole model."""
        return self.rows[0]

    def __str__(self) -> str:
        lines = text_table(_COLUMNS, self.rows)
        total = self.total
        line = f"{total.parameters:,} parameters, {_count(total.flops)}FLOP in {total.seconds * 1e3:.3g} ms"
        tied = [f"shared, and counted once: {', '.join(self.shared)}"] if self.shared else []
        return "\n".join([*lines, line, *tied])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        """What a notebook shows: the same table; the indent is made of spaces that do not break."""
        from tt_core.engine.notebook import table

        rows = [[value(row).replace("  ", "\u00a0\u00a0") for _, value in _COLUMNS] for row in self.rows]
        return table([name for name, _ in _COLUMNS], rows, "Summary")


_COLUMNS: list[tuple[str, Callable[[Row], str]]] = [
    ("layer", lambda row: row.label),
    ("input", lambda row: _shapes(row.input_shapes)),
    ("output", lambda row: _shapes(row.output_shapes)),
    ("parameters", lambda row: f"{row.parameters:,}" if row.parameters else ""),
    ("FLOPs", lambda row: _count(row.flops) if row.calls else "" if row.container else "not called"),
    ("read", lambda row: size(row.bytes_read) if row.calls else ""),
    ("written", lambda row: size(row.bytes_written) if row.calls else ""),
    ("ms", lambda row: f"{row.seconds * 1e3:.3f}" if row.calls else ""),
    ("GFLOP/s", lambda row: f"{row.flops / row.seconds / 1e9:.1f}" if row.flops and row.seconds else ""),
]


@checked
def summary(model: Layer, input: Any) -> Summary:
    """The layers of `model` as a tree, with what each does for `input`, a tensor or a tuple of the model's inputs.

    Raises `ProfilerError` for an input that the model does not take.

    >>> result = summary(tt_core.Sequential(tt_core.Linear(4, 3), tt_core.ReLU()), tt_core.ones(2, 4))
    >>> [(row.label, row.parameters, row.flops) for row in result.rows]
    [('Sequential', 15, 54), ('  0: Linear', 15, 48), ('  1: ReLU', 0, 6)]
    """
    inputs = input if isinstance(input, tuple) else (input,)
    watching = _Watching(model)
    state = tt_core.get_rng_state()
    try:
        with evaluating(model):
            model(*inputs)  # what only the first call does, such as allocating, is not measured
            with watching:
                model(*inputs)
    except (TypeError, AttributeError) as error:
        raise ProfilerError(f"summary: {type(model).__name__} does not take this input: {error}") from error
    finally:
        tt_core.set_rng_state(state)
    rows = {name: Row(name, type(layer).__name__, _depth(name), _parameters(layer)) for name, layer in watching.layers}
    for call in watching.calls():
        _add(rows[call.key.name], call)
    called = [name for name, row in rows.items() if row.calls]
    for name, row in rows.items():
        row.container = not row.calls and any(other.startswith(f"{name}.") for other in called)
    for name, (taken, returned) in watching.shapes.items():
        rows[name].input_shapes, rows[name].output_shapes = taken, returned
    return Summary(list(rows.values()), _shared(model))


class _Watching(Profiler):
    """A profiler that names layers as the model does, and records the shapes of their first call."""

    def __init__(self, model: Layer) -> None:
        super().__init__()
        self.layers = list(model.named_modules())
        self.names = {id(layer): name for name, layer in self.layers}
        self.shapes: dict[str, tuple[tuple[tuple[int, ...], ...], tuple[tuple[int, ...], ...]]] = {}

    @hookimpl(tryfirst=True)
    def tt_wrap_layer(self, layer_type: type[Layer], call: Any) -> Any:
        measured = super().tt_wrap_layer(layer_type, call)

        def noted(layer: Any, *inputs: Any, **options: Any) -> Any:
            output = measured(layer, *inputs, **options)
            name = self.names.get(id(layer))
            if name is not None and name not in self.shapes:
                self.shapes[name] = tuple(x.shape for x in arrays(inputs)), tuple(x.shape for x in arrays(output))
            return output

        return noted

    def calls(self) -> Iterator[Call]:
        """The nodes of layers of the model, not of others that run inside of them."""
        known = set(self.names.values())
        for call, _ in self._read().calls():
            if call.key.kind == "layer" and call.key.name in known:
                yield call


def _add(row: Row, call: Call) -> None:
    row.calls += call.count
    row.seconds += call.ns / 1e9
    for inner, _ in call.walk():
        row.flops += inner.flops
        row.bytes_read += inner.read
        row.bytes_written += inner.written


def _depth(name: str) -> int:
    return name.count(".") + 1 if name else 0


def _parameters(layer: Layer) -> int:
    return sum(parameter.data.size for parameter in layer.parameters())


def _shared(model: Layer) -> list[str]:
    """Names of parameters that another layer holds too."""
    first: dict[int, str] = {}
    found = []
    for name, layer in model.named_modules():
        for own, parameter in layer.named_parameters(recurse=False):
            full = f"{name}.{own}" if name else own
            if id(parameter) in first:
                found.append(f"{full} is {first[id(parameter)]}")
            first.setdefault(id(parameter), full)
    return found


def _shapes(shapes: tuple[tuple[int, ...], ...]) -> str:
    return " ".join("x".join(map(str, shape)) or "number" for shape in shapes)


def _count(value: float) -> str:
    """A count with its prefix.

    >>> _count(48), _count(1_230_000)
    ('48 ', '1.23 M')
    """
    for prefix in ("", "k", "M", "G"):
        if value < 1000:
            return f"{value:.3g} {prefix}"
        value /= 1000
    return f"{value:.3g} T"
