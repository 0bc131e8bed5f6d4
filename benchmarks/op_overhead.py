"""What a named op costs over the bare NumPy function, in one run: `python benchmarks/op_overhead.py`.

The budget of an op with no plugin active is its kernel, one Tensor construction and one `np.add`, all on
one-element arrays. Rounds are interleaved, so that a slow moment of the machine meets every column alike.
The second figure is what plugins leave behind: after three came and went, each op must hold the very chain
object it held before.
"""

from __future__ import annotations

import statistics
import sys
import timeit
from collections.abc import Callable
from typing import Any

import numpy as np

import tt_core
from tt_core.engine.dispatch import registry, with_residuals
from tt_core.engine.plugins import hookimpl, manager

ROUNDS, CALLS = 101, 2000


def medians(statements: dict[str, Callable[[], Any]]) -> dict[str, float]:
    """Microseconds a call of each statement: the median of interleaved rounds, less an empty call's time."""
    timers = {name: timeit.Timer(run) for name, run in {**statements, "empty": lambda: None}.items()}
    rounds: dict[str, list[float]] = {name: [] for name in timers}
    for _ in range(ROUNDS):
        for name, timer in timers.items():
            rounds[name].append(timer.timeit(CALLS) / CALLS * 1e6)
    middle = {name: statistics.median(times) for name, times in rounds.items()}
    empty = middle.pop("empty")
    return {name: time - empty for name, time in middle.items()}


def measure(op: Any, inputs: int, **attributes: Any) -> dict[str, float]:
    """The columns of one op's row."""
    array = np.ones(1, dtype=np.float32)
    arrays, tensors = (array,) * inputs, (tt_core.Tensor(array),) * inputs
    return medians(
        {
            "op": lambda: op(*tensors, **attributes),
            "kernel": lambda: op.kernel(*arrays, **attributes),
            "Tensor": lambda: tt_core.Tensor(array),
            "np.add": lambda: np.add(array, array),
        }
    )


class Observing:
    @hookimpl
    def tt_observe_op(self, op: Any) -> Callable[..., None]:
        return lambda op, inputs, attributes, output: None


class Wrapping:
    @hookimpl
    def tt_wrap_op(self, op: Any, call: Callable[..., Any]) -> Callable[..., Any]:
        return lambda *inputs, **attributes: call(*inputs, **attributes)


class Replacing:
    @hookimpl
    def tt_kernel(self, op: Any) -> Callable[..., Any]:
        return with_residuals(*op.residuals)(lambda *arrays, **attributes: op.kernel(*arrays, **attributes))


def chains_left() -> tuple[int, int, int]:
    """Ops; ops whose chain three plugins changed; ops whose chain is the same object again without them."""
    before = {name: op.chain for name, op in registry.items()}
    plugins = (Observing(), Wrapping(), Replacing())
    for plugin in plugins:
        manager.register(plugin)
    changed = sum(op.chain is not before[name] for name, op in registry.items())
    for plugin in plugins:
        manager.unregister(plugin)
    return len(before), changed, sum(op.chain is before[name] for name, op in registry.items())


def main() -> int:
    """Print both figures; 1 when a chain was not given back, for that is a bug and no matter of timing."""
    print(f"microseconds, medians of {ROUNDS} interleaved rounds of {CALLS} calls; NumPy {np.__version__}")
    print(f"{'op':<12}{'op':>8}{'kernel':>8}{'Tensor':>8}{'np.add':>8}{'over':>8}{'budget':>8}{'ratio':>8}")
    rows: dict[str, dict[str, float]] = {
        "exp": measure(registry["exp"], 1),
        "add": measure(registry["add"], 2),
        "matmul": measure(registry["matmul"], 2),
        "relu": measure(registry["relu"], 1),
        "softmax": measure(registry["softmax"], 1, dim=-1),
    }
    for name, row in rows.items():
        budget = row["kernel"] + row["Tensor"] + row["np.add"]
        cells = "".join(
            f"{value:8.3f}" for value in (*row.values(), row["op"] - row["kernel"], budget, row["op"] / budget)
        )
        print(f"{name:<12}{cells}")
    ops, changed, same = chains_left()
    print(f"\n{ops} ops: three plugins changed the chains of {changed}; unplugged, {same} are identical again")
    return 0 if same == ops else 1


if __name__ == "__main__":
    sys.exit(main())
