"""`tt kernels`: what each form of an op takes, beside the error of its results. Belongs to module 18.

A form is a way to compute the same: the formula as it stands in the module, the framework's tuned kernel, the kernels
of plugins (`naive`, `jit`), and `capture`, which replays a recorded call of the op, after comparing all that a replay
rests on; it runs the kernels of `jit` where these are shown too. All forms get the same float32 inputs. They run in
turn, so that other work on the machine slows down all of them; the shortest time of a block counts.

    time      of one call
    limit     share of what this machine reaches at best, see module 14's roofline: the FLOPs of a large matrix product
              per second, or the bytes of a large copy, whichever allows less for this op. A form that is faster than
              that product, which other programs disturbed, raises the limit
    error     the largest difference from the formula computed in float64, as a share of its largest element
    speed     against the formula; in the line of the kernel it is what its trick buys

A naive loop that would take more than `PATIENCE` seconds is not run.
"""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from tt_core import tensor, use
from tt_core.command.checking import brought_by, calls_of
from tt_core.engine.dispatch import Array, Op, quietly, registry, residuals_of
from tt_core.engine.errors import PluginError, did_you_mean
from tt_core.engine.files import write_json
from tt_core.samples import Arguments, Samples
from tt_learn import no_grad
from tt_perf.acceleration import CaptureWarning, capture
from tt_perf.benchmarking import BenchmarkError
from tt_perf.benchmarking.comparing import take_turns
from tt_perf.benchmarking.comparison_table import BUSY
from tt_perf.benchmarking.environment import environment, load_per_core
from tt_perf.benchmarking.timer import duration
from tt_perf.profiling import Machine, measure_machine
from tt_perf.profiling.flops import FLOPS
from tt_perf.profiling.roofline import verdict
from tt_perf.profiling.work import bytes_moved
from tt_perf.quantization.packed import pack_int8

Call = Callable[..., Any]
PLUGINS = ("naive", "jit", "capture")
"""The plugins whose kernels are compared by default."""
PATIENCE = 10.0
"""Seconds that one call of a naive loop may take."""
_NAIVE_FLOP = 1e-7  # seconds, in plain Python
_BLOCK = 2e-3  # seconds that a block of calls takes at least


# --- what is called


def _normal(*shape: int) -> Array:
    return np.random.default_rng(0).standard_normal(shape, np.float32)


def _gelu_backward(n: int) -> Arguments:
    x = _normal(8 * n, n)
    return (_normal(8 * n, n), x, registry["gelu"].kernel(x, approximate="tanh")), {"approximate": "tanh"}


def _layer_norm_backward(n: int) -> Arguments:
    x, weight = _normal(8 * n, n), _normal(n)
    mean = x.mean(1, keepdims=True)
    return (_normal(8 * n, n), x, mean, 1 / np.sqrt(x.var(1, keepdims=True) + 1e-5), weight), {}


CALLS: dict[str, Callable[[int], Arguments]] = {
    "matmul": lambda n: ((_normal(n, n), _normal(n, n)), {}),
    "linear": lambda n: ((_normal(n, n), _normal(n, n), _normal(n)), {}),
    "conv2d": lambda n: ((_normal(4, 16, n // 8, n // 8), _normal(32, 16, 3, 3), _normal(32)), {"padding": 1}),
    "max_pool2d": lambda n: ((_normal(8, 16, n // 4, n // 4),), {"kernel_size": 2}),
    "avg_pool2d": lambda n: ((_normal(8, 16, n // 4, n // 4),), {"kernel_size": 2}),
    "scaled_dot_product_attention": lambda n: (
        (_normal(1, 4, n, 32), _normal(1, 4, n, 32), _normal(1, 4, n, 32), None),
        {"is_causal": True},
    ),
    "softmax": lambda n: ((_normal(8 * n, n),), {"dim": -1}),
    "sum": lambda n: ((_normal(8 * n, n),), {"dim": -1}),
    "rms_norm": lambda n: ((_normal(8 * n, n), _normal(n)), {"eps": 1e-5}),
    "layer_norm": lambda n: ((_normal(8 * n, n), _normal(n), _normal(n)), {}),
    "layer_norm_backward": _layer_norm_backward,
    "gelu": lambda n: ((_normal(8 * n, n),), {"approximate": "tanh"}),
    "gelu_backward": _gelu_backward,
    "relu_backward": lambda n: ((_normal(8 * n, n), np.maximum(_normal(8 * n, n), 0)), {}),
    "cross_entropy": lambda n: ((_normal(8 * n, n), np.arange(8 * n) % n, None), {}),
    "quantized_linear": lambda n: ((_normal(1, 8 * n), *pack_int8(_normal(8 * n, 8 * n)), None), {}),
}
"""A call of each op that is compared by default, for a size."""


def call_of(name: str, size: int, samples: Mapping[str, Samples] | None = None) -> Arguments:
    """The inputs and attributes of a call: those of `CALLS`, or for another op the largest call that samples make.

    `samples` are those of plugins that are not plugged in. Raises `BenchmarkError` for an unknown op, and for one that
    no sample runs.

    >>> inputs, _ = call_of("matmul", 16)
    >>> inputs[0].shape
    (16, 16)
    """
    if name not in registry:
        raise BenchmarkError(f"no op is called {name}; {did_you_mean(name, registry)}")
    if name in CALLS:
        return CALLS[name](size)
    calls = calls_of(name, samples)
    if not calls:
        raise BenchmarkError(f"no sample runs {name}; return one from the hook tt_samples of a plugin")
    return max(calls, key=lambda call: sum(getattr(x, "nbytes", 0) for x in call[0]))


# --- what it takes


@dataclass(frozen=True)
class Form:
    """One way to compute an op: seconds of a call, share of the machine's limit, largest relative error.

    `seconds` is None for a form that was not run, and `note` says why.
    """

    name: str
    seconds: float | None = None
    share: float | None = None
    error: float | None = None
    note: str = ""


@dataclass(frozen=True)
class OpCost:
    """All forms of an op on one call; `bound` names the limit: compute, memory, or the overhead of calling."""

    op: str
    shapes: tuple[tuple[int, ...], ...]
    flops: int
    bytes: int
    forms: tuple[Form, ...]
    bound: str = ""

    def seconds(self, form: str) -> float | None:
        """The time of a form, None where it was not run."""
        return next((each.seconds for each in self.forms if each.name == form), None)

    def speedup(self, form: str) -> float | None:
        """How many times as fast as the formula."""
        own, formula = self.seconds(form), self.seconds("formula")
        return None if own is None or formula is None else formula / own

    def judged(self, machine: Machine) -> OpCost:
        """The same with the limit of `machine`, and each form's share of it."""
        found = [None if f.seconds is None else verdict(self.op, 1, f.seconds, self.flops, self.bytes, machine)
                 for f in self.forms]  # fmt: skip
        forms = [form if v is None else replace(form, share=v.share) for form, v in zip(self.forms, found)]
        return replace(self, forms=tuple(forms), bound=next(v.bound for v in found if v is not None))


@dataclass(frozen=True)
class Table:
    """What `compare_kernels` measured, on which machine, and how many programs wanted each core before."""

    machine: Machine
    costs: tuple[OpCost, ...]
    load: float | None = None

    def __str__(self) -> str:
        lines = [f"this machine: {self.machine}"]
        if self.load is not None and self.load > BUSY:
            lines.append(f"warning: the machine was busy: {self.load:.1f} programs wanted each core")
        for cost in self.costs:
            lines += ["", f"{cost.op}  {_shapes(cost.shapes)}  {cost.flops / 1e6:.3g} MFLOP, {cost.bytes / 1e6:.3g} MB"]
            width = max(10, *[len(form.name) for form in cost.forms])
            lines += [_line(cost, form, width) for form in cost.forms]
        return "\n".join(lines)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write everything as JSON; raises `FileError` when that fails."""
        content = {"format": "tinytorch-kernels-1", **asdict(self), "environment": environment()}
        write_json(path, content, indent=1)


def compare_kernels(
    names: Sequence[str] = (),
    plugins: Sequence[str] | None = None,
    size: int = 128,
    rounds: int = 15,
    through: Callable[[Sequence[str]], Iterable[str]] = iter,
) -> Table:
    """Measure the forms of these ops, by default of all in `CALLS`, with the kernels of these plugins.

    By default these are `naive`, `jit` where Numba is installed, and `capture`. `through` goes through the names of the
    ops, and may show how far the measurement is. Raises `BenchmarkError` as `call_of` does, and `PluginError` for a
    plugin that does not load.
    """
    load = load_per_core()  # before the work of this table adds to it
    brought, samples = _brought(PLUGINS, optional=True) if plugins is None else _brought(plugins)  # and their ops
    calls = {name: call_of(name, size, samples) for name in names or CALLS}
    captured = "capture" in (PLUGINS if plugins is None else plugins)
    machine = measure_machine()
    with use(*["jit"] if captured and isinstance(brought.get("jit"), dict) else [], report=False):
        costs = [_cost(registry[name], calls[name], brought, rounds, captured) for name in through([*calls])]
    rates = [cost.flops / form.seconds for cost in costs for form in cost.forms if form.seconds]
    machine = replace(machine, flops_per_second=max(machine.flops_per_second, *rates))
    return Table(machine, tuple([cost.judged(machine) for cost in costs]), load)


def _brought(
    plugins: Sequence[str], optional: bool = False
) -> tuple[dict[str, dict[str, Call] | str], dict[str, Samples]]:
    """The kernels of each plugin, by the ops' names, or its error if it may be missing; and the samples of all."""
    found: dict[str, dict[str, Call] | str] = {}
    samples: dict[str, Samples] = {}
    for name in plugins:
        if name == "capture":  # which brings no kernels, but runs those of others
            continue
        try:
            found[name], theirs = brought_by(name)
            samples |= theirs
        except PluginError as error:
            if not optional:
                raise
            found[name] = str(error)
    return found, samples


def _captured(op: Op, call: Arguments) -> Call | str:
    """A captured call of an op, which returns an array or several; or why it cannot be captured."""
    inputs, attributes = call
    given = [None if x is None else tensor(x) for x in inputs]
    step = capture(lambda *tensors: op(*tensors, **attributes))
    with warnings.catch_warnings(), no_grad():
        warnings.simplefilter("ignore", CaptureWarning)
        for _ in range(3):
            step(*given)
    if not step.replayed:
        return f"runs as usual: {step.reason}"

    def run() -> Any:
        with no_grad():
            return step(*given)

    return run


def _cost(
    op: Op, call: Arguments, brought: Mapping[str, dict[str, Call] | str], rounds: int, captured: bool = False
) -> OpCost:
    inputs, attributes = call
    flops, moved = _work(op, call)
    kernels, notes = _kernels_of(op, brought, flops)
    wanted = _exact(op, call)
    runs: dict[str, Callable[[], Any]] = {
        name: lambda kernel=kernel: quietly(kernel, *inputs, **attributes)  # type: ignore[misc]
        for name, kernel in kernels.items()
    }
    order = [*[n for n in brought if n == "naive"], "formula", "kernel", *[n for n in brought if n != "naive"]]
    if captured:
        replay = _captured(op, call)
        order.append("capture")
        if isinstance(replay, str):
            notes["capture"] = replay
        else:
            runs["capture"] = replay
    seconds = _measured(runs, rounds)
    forms = []
    for name in order:
        if name in notes:
            forms.append(Form(name, note=notes[name]))
        else:
            found = _arrays(runs[name]()) if name == "capture" else _first(runs[name](), kernels[name])
            forms.append(Form(name, seconds[name], error=_error(wanted, found)))
    shapes = tuple([x.shape for x in inputs if isinstance(x, np.ndarray)])
    return OpCost(op.name, shapes, flops, moved, tuple(forms))


def _kernels_of(
    op: Op, brought: Mapping[str, dict[str, Call] | str], flops: int
) -> tuple[dict[str, Call], dict[str, str]]:
    """The kernels that run, by the name of their form, and the reason for each form that does not run."""
    kernels: dict[str, Call] = {"formula": op.formula}
    notes: dict[str, str] = {}
    if op.kernel is op.formula:
        notes["kernel"] = "the formula is the kernel"
    else:
        kernels["kernel"] = op.kernel
    for name, theirs in brought.items():
        if isinstance(theirs, str):
            notes[name] = theirs
        elif op.name not in theirs:
            notes[name] = "has no kernel for it"
        elif name == "naive" and flops * _NAIVE_FLOP > PATIENCE:
            notes[name] = f"not run: would take {duration(flops * _NAIVE_FLOP)} or more"
        else:
            kernels[name] = theirs[op.name]
    return kernels, notes


def _work(op: Op, call: Arguments) -> tuple[int, int]:
    """FLOPs, 0 where they are unknown, and bytes of the call."""
    inputs, attributes = call
    result = _first(quietly(op.kernel, *inputs, **attributes), op.kernel)
    flops = FLOPS[op.name](inputs, result, {**op.attributes, **attributes}) if op.name in FLOPS else 0
    return int(flops), sum(bytes_moved(op, inputs, result))


def _first(result: Any, kernel: Call) -> Any:
    """The result without the residuals."""
    return result[0] if residuals_of(kernel) else result


def _arrays(result: Any) -> Any:
    """The arrays of tensors."""
    return tuple([_arrays(part) for part in result]) if isinstance(result, tuple) else result.data


def _exact(op: Op, call: Arguments) -> Any:
    """The formula's result for the inputs in float64."""
    inputs, attributes = call
    wide = [x.astype(np.float64) if isinstance(x, np.ndarray) and x.dtype.kind == "f" else x for x in inputs]
    return _first(quietly(op.formula, *wide, **attributes), op.formula)


def _error(wanted: Any, found: Any) -> float:
    """The largest difference as a share of the largest element, over all results."""
    pairs = zip(wanted, found) if isinstance(wanted, tuple) else [(wanted, found)]
    errors = [np.abs(np.asarray(b, np.float64) - a).max(initial=0) / max(np.abs(a).max(initial=0), 1e-300)
              for a, b in pairs]  # fmt: skip
    return float(max(errors))


def _measured(calls: Mapping[str, Callable[[], Any]], rounds: int) -> dict[str, float]:
    """The shortest time of one call of each: blocks of calls run in turn; what takes long runs in one round."""
    seconds, blocks = {}, {}
    for name, call in calls.items():
        call()  # which may compile
        seconds[name] = _seconds(call, 1)
        if seconds[name] < PATIENCE / 100:
            once = min(seconds[name], _seconds(call, 1), _seconds(call, 1))  # other work may disturb one of them
            blocks[name] = (call, max(1, round(_BLOCK / max(once, 1e-9))))
    turns = [lambda c=call, n=number: _seconds(c, n) / n for call, number in blocks.values()]
    for name, times in zip(blocks, take_turns(turns, rounds)):
        seconds[name] = min(times)
    return seconds


def _seconds(call: Callable[[], Any], number: int) -> float:
    start = time.perf_counter()
    for _ in range(number):
        call()
    return time.perf_counter() - start


# --- how it is shown


def _shapes(shapes: Sequence[tuple[int, ...]]) -> str:
    return ", ".join("x".join(map(str, shape)) or "number" for shape in shapes)


def _line(cost: OpCost, form: Form, width: int) -> str:
    if form.seconds is None:
        return f"  {form.name:<{width}} {form.note}"
    speedup = cost.speedup(form.name) or 0.0
    against = "" if form.name == "formula" else f"{_times(speedup)} than the formula"
    return (
        f"  {form.name:<{width}} {duration(form.seconds):>9}  {form.share or 0:6.1%} of the {cost.bound} limit"
        f"   error {form.error:7.1e}   {against}"
    ).rstrip()


def _times(speedup: float) -> str:
    """A speed-up in words.

    >>> _times(2), _times(1 / 144_321), _times(8009.6)
    ('2 times faster', '144,000 times slower', '8,010 times faster')
    """
    factor, word = (speedup, "faster") if speedup >= 1 else (1 / speedup if speedup else float("inf"), "slower")
    rounded = float(f"{factor:.3g}")
    return f"{rounded:,.0f} times {word}" if rounded >= 100 else f"{rounded:g} times {word}"
