"""Compares the kernels that a plugin brings with the framework's: values, shapes, dtypes and time.

A plugin's kernel is tried on random inputs of every dtype and memory layout, without and with nan, inf and -0.0. Ops
that run inside of others, such as those of backward, are recorded while these run, and tried on what they were given.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from tt_core.engine.dispatch import Array, HasArray, Op, quietly, registry, residuals_of
from tt_core.engine.errors import PluginError, did_you_mean, kind_of, shown
from tt_core.engine.plugins import activate, hookimpl, manager
from tt_core.random import get_rng_state, set_rng_state
from tt_core.samples import LAYOUTS, SAMPLES, Arguments, Draw, Samples

DTYPES = ("float32", "float64", "float16", "int64", "int32", "uint8", "bool")
TOLERANCE = {"float16": 4e-3, "float32": 2e-5, "float64": 1e-11}
"""How far a result may be off, as a share of the largest input or result; other dtypes must be equal."""


@dataclass
class Comparison:
    """What became of one op: the number of calls, the largest error, the plugin's share of the framework's time."""

    op: str
    calls: int = 0
    error: float = 0.0
    time: float | None = None
    difference: str = ""

    def __str__(self) -> str:
        if self.difference:
            return f"{self.op:<40} DIFFERS: {self.difference}"
        if not self.calls:
            return f"{self.op:<40} not compared: no samples; return some from the hook tt_samples"
        share = "" if self.time is None else f"   time {self.time:6.2f} of the framework's"
        return f"{self.op:<40}{self.calls:>6} calls   error {self.error:7.1e}{share}"


def check(name: str, timed: bool = True) -> list[Comparison]:
    """Compare all kernels of the installed plugin `name`; raises `PluginError` where it does not load."""
    kernels, samples = brought_by(name)
    return compare(kernels, timed, samples)


def brought_by(name: str) -> tuple[dict[str, Callable[..., Any]], dict[str, Samples]]:
    """The kernels and the samples that the installed plugin `name` brings, by the names of their ops.

    Raises `PluginError` where it does not load.
    """
    activated = activate(name)
    try:
        others = [plugin for plugin in manager.get_plugins() if plugin is not manager.get_plugin(name)]
        kernel_of, tables = (
            manager.subset_hook_caller(hook, remove_plugins=others) for hook in ("tt_kernel", "tt_samples")
        )
        kernels = {op.name: kernel for op in registry.values() if (kernel := kernel_of(op=op)) is not None}
        return kernels, {op: calls for table in tables() for op, calls in table.items()}
    finally:
        if activated:
            manager.unregister(name=name)


def compare(
    kernels: dict[str, Callable[..., Any]], timed: bool = True, samples: Mapping[str, Samples] | None = None
) -> list[Comparison]:
    """Compare kernels, by the names of their ops, with the framework's; raises `PluginError` for an unknown op.

    `samples` are calls of ops besides those of all that is plugged in. Backward ops, such as softmax_backward, are
    known once `tt_learn` is imported.

    >>> compare({"relu": lambda x, /: x}, timed=False)[0].difference != ""
    True
    """
    for name in kernels:
        if name not in registry:
            raise PluginError(f"compare: no op is called {name}; {did_you_mean(str(name), registry)}")
    found = {name: Comparison(name) for name in sorted(kernels)}
    reaching = _those_that_reach(kernels, all_samples() | dict(samples or {}))
    for draw in _draws():
        for op, inputs, attributes in _recorded(reaching, draw, kernels):
            _try(found[op.name], op, kernels[op.name], inputs, attributes, _described(draw))
    for op, inputs, attributes in _recorded(reaching, Draw("float32", large=True), kernels) if timed else ():
        row = found[op.name]
        if row.calls and not row.difference and row.time is None:
            row.time = _seconds(kernels[op.name], inputs, attributes) / _seconds(op.kernel, inputs, attributes)
    return list(found.values())


def calls_of(name: str, samples: Mapping[str, Samples] | None = None) -> list[Arguments]:
    """Large calls of an op in float32: those of its samples and those in which other samples run it, with backward.

    >>> {inputs[0].dtype.name for inputs, _ in calls_of("sigmoid")}
    {'float32'}
    """
    reaching = _those_that_reach([name], all_samples() | dict(samples or {}))
    return [(inputs, attributes) for _, inputs, attributes in _recorded(reaching, Draw("float32", large=True), [name])]


def all_samples() -> dict[str, Samples]:
    """The samples of all that is plugged in, by the names of their ops; of two tables the later act's counts."""
    tables = [*manager.ask("tt_samples"), SAMPLES]
    return {name: calls for table in reversed(tables) for name, calls in table.items() if name in registry}


def _draws() -> Iterator[Draw]:
    for dtype in DTYPES:
        for layout in LAYOUTS:
            yield Draw(dtype, layout)
            if dtype.startswith("float"):
                yield Draw(dtype, layout, corners=True)


def _described(draw: Draw) -> str:
    return f"{draw.dtype}, {draw.layout}" + (", with nan, inf and -0.0" if draw.corners else "")


def _those_that_reach(names: Collection[str], samples: Mapping[str, Samples]) -> dict[str, Samples]:
    """The samples of the ops with these names, and of ops that run one of them."""
    found = {}
    with _recording(names) as recorded:
        for name, calls in samples.items():
            if name not in registry:
                continue
            recorded.clear()
            for call in calls(Draw("float32")):
                _run(registry[name], call, Draw("float32"))
            if name in names or recorded:
                found[name] = calls
    return found


def _recorded(
    samples: Mapping[str, Samples], draw: Draw, names: Collection[str]
) -> Iterator[tuple[Op, tuple[Any, ...], dict[str, Any]]]:
    """Run the samples, forward and where an act knows how backward; yield the calls of the ops with these names."""
    with _recording(names) as recorded:
        for name, calls in samples.items():
            for call in calls(draw):
                _run(registry[name], call, draw)
                made = recorded.copy()  # a kernel that is tried may call ops as well
                yield from made
                recorded.clear()


def _run(op: Op, call: Arguments, draw: Draw) -> None:
    inputs, attributes = call
    with np.errstate(all="ignore"):
        try:
            if manager.ask("tt_try_op", op=op, inputs=inputs, attributes=attributes, draw=draw) is None:
                op.call(*inputs, **attributes)
        except Exception as error:
            if kind_of(error) in (None, PluginError):  # an op refuses a dtype or shape by an error of ours
                raise


def misdeclared(names: Iterable[str], samples: Mapping[str, Samples] | None = None) -> dict[str, str]:
    """What these ops declare wrongly about randomness and memory, found by running samples, with backward.

    `samples` are those of all that is installed by default. An op that no sample reaches must declare nothing.
    """
    ops: dict[str, Any] = {name: registry[name] for name in names}
    drew, shared = set(), set()
    for dtype in ("float32", "int64", "bool"):
        for op, inputs, attributes in _recorded(dict(samples or all_samples()), Draw(dtype), ops):
            before = get_rng_state()
            result = quietly(op.kernel, *inputs, **attributes)
            if before != get_rng_state():
                drew.add(op.name)
            results = result[:1] if op.residuals else result if isinstance(result, tuple) else (result,)
            if any(_share_memory(x, y) for x in results for y in inputs):
                shared.add(op.name)
    random = {name: _CONTRADICTIONS["random", name in drew] for name in ops if ops[name].random != (name in drew)}
    view = {name: _CONTRADICTIONS["view", name in shared] for name in ops if ops[name].view != (name in shared)}
    return random | view


_CONTRADICTIONS = {
    ("random", True): "draws from the generator; declare it @op(random=True)",
    ("random", False): "is declared random=True, but no sample draws from the generator",
    ("view", True): "shares memory with an input; declare it @op(view=True)",
    ("view", False): "is declared view=True, but no sample shares memory with an input",
}


def _share_memory(x: Any, y: Any) -> bool:
    return isinstance(x, np.ndarray) and isinstance(y, np.ndarray) and np.shares_memory(x, y)


class _Recorder:
    """Notes the calls of some ops, as an observer."""

    def __init__(self, names: Any) -> None:
        self.names, self.calls = names, []  # type: ignore[var-annotated]

    @hookimpl
    def tt_observe_op(self, op: Op) -> Callable[..., None] | None:
        return self._note if op.name in self.names else None

    def _note(self, op: Op, inputs: tuple[Any, ...], attributes: dict[str, Any], output: Any) -> None:
        arrays = tuple([x.data if isinstance(x, HasArray) else x for x in inputs])
        given = {name: value for name, value in attributes.items() if name in op.attributes}  # no residuals
        self.calls.append((op, arrays, given))


@contextmanager
def _recording(names: Any) -> Iterator[list[tuple[Op, tuple[Any, ...], dict[str, Any]]]]:
    recorder = _Recorder(names)
    manager.register(recorder, "checking")
    try:
        yield recorder.calls
    finally:
        manager.unregister(name="checking")


def _try(
    row: Comparison, op: Op, kernel: Callable[..., Any], inputs: tuple[Any, ...], attributes: dict[str, Any], how: str
) -> None:
    """Run both kernels on the same inputs and note what differs first."""
    if row.difference:
        return
    row.calls += 1
    shapes = ", ".join(str(x.shape) if isinstance(x, np.ndarray) else str(x) for x in inputs)
    before = [x.copy() if isinstance(x, np.ndarray) else x for x in inputs]
    try:
        wanted, found = (_results(f, inputs, attributes) for f in (op.kernel, kernel))
        if residuals_of(kernel) != op.residuals:  # a kernel may leave residuals to the backward op
            wanted, found = wanted[:1], found[: 1 if residuals_of(kernel) else None]
    except Exception as error:
        row.difference = f"raises {type(error).__name__}: {error} (inputs {shapes}; {how})"
        return
    fact, error_ = _difference(wanted, found, _largest(*inputs, *wanted))
    if any(isinstance(x, np.ndarray) and x.tobytes() != y.tobytes() for x, y in zip(inputs, before)):
        fact = "changes its inputs"
    row.error = max(row.error, error_)
    if fact:
        row.difference = f"{fact} (inputs {shapes}; {how})"


def _results(kernel: Callable[..., Any], inputs: tuple[Any, ...], attributes: dict[str, Any]) -> tuple[Array, ...]:
    """A kernel's results as arrays; both kernels see the same random numbers."""
    state = get_rng_state()
    try:
        with np.errstate(all="ignore"):
            result = kernel(*inputs, **attributes)
    finally:
        set_rng_state(state)
    results = result if isinstance(result, tuple) else (result,)
    for x in results:
        if not isinstance(x, (np.ndarray, np.generic, HasArray, int, float)) and (x is not None or x is result):
            raise TypeError(f"its result is {shown(x)}; a kernel returns an array or a tuple of arrays")
    return tuple([np.asarray(x) for x in results])


def _largest(*arrays: Any) -> float:
    """The largest finite number of these: rounding errors are a share of it, also where terms cancel."""
    floats = [np.abs(x[np.isfinite(x)]) for x in arrays if isinstance(x, np.ndarray) and x.dtype.kind == "f"]
    return max([float(np.finfo(np.float32).tiny), *(float(x.max(initial=0)) for x in floats)])


def _difference(wanted: tuple[Array, ...], found: tuple[Array, ...], scale: float) -> tuple[str, float]:
    """What differs, in words ("" for nothing), and the largest error as a share of `scale`."""
    if len(wanted) != len(found):
        return f"{len(found)} results in place of {len(wanted)}", 0.0
    largest = 0.0
    for a, b in zip(wanted, found):
        if a.dtype == object:  # None: a residual that this kernel leaves to the backward op
            continue
        if (a.shape, a.dtype) != (b.shape, b.dtype):
            return f"gives {b.dtype} {b.shape} in place of {a.dtype} {a.shape}", largest
        if a.dtype.kind != "f":
            off = np.where(a != b, np.inf, 0.0)
        else:
            finite = np.isfinite(a)
            with np.errstate(all="ignore"):
                off = np.abs(a.astype(np.float64) - b.astype(np.float64)) / scale
            same = (a == b) | (np.isnan(a) & np.isnan(b))
            off = np.where(same, 0.0, np.where(finite & np.isfinite(b), off, np.inf))
        if off.size and off.max() > TOLERANCE.get(str(a.dtype), 0.0):
            at = np.unravel_index(np.argmax(off), off.shape)
            return f"gives {b[at]} in place of {a[at]} at [{', '.join(map(str, at))}]", largest
        largest = max(largest, float(off.max(initial=0.0)))
    return "", largest


def _seconds(kernel: Callable[..., Any], inputs: tuple[Any, ...], attributes: dict[str, Any]) -> float:
    """The shortest of five runs; the first one, which may compile, does not count."""
    taken = []
    for _ in range(6):
        start = time.perf_counter()
        _results(kernel, inputs, attributes)
        taken.append(time.perf_counter() - start)
    return min(taken[1:])
