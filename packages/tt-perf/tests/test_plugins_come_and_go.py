"""Plugins leave no trace: switched on and off in any order, and failing in the middle of a training run.

Also here: each module of Act V has sabotages enough, each of which turns a check of that module red.
"""

from __future__ import annotations

import ast
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tt_core as tt
import tt_learn
from tt_core.engine.dispatch import Op, registry
from tt_core.engine.errors import PluginError
from tt_core.engine.plugins import hookimpl, manager


class Observer:
    """Counts calls."""

    def __init__(self) -> None:
        self.calls = 0

    @hookimpl
    def tt_observe_op(self, op: Op) -> Callable[..., None] | None:
        def count(*_: Any) -> None:
            self.calls += 1

        return count if op.name in ("add", "matmul", "relu") else None


class Wrapper:
    """Calls through, inside or outside of other wraps."""

    @hookimpl
    def tt_wrap_op(self, op: Op, call: Callable[..., Any]) -> Callable[..., Any] | None:
        return (lambda *inputs, **options: call(*inputs, **options)) if op.name != "mul" else None


class Kernel:
    """Its own sum of two arrays."""

    @hookimpl
    def tt_kernel(self, op: Op) -> Callable[..., Any] | None:
        return (lambda a, b, /: a + b) if op is tt.add else None


class LayerWrapper:
    """Calls through a layer."""

    @hookimpl
    def tt_wrap_layer(self, layer_type: type[tt.Layer], call: Callable[..., Any]) -> Callable[..., Any]:
        return lambda layer, *inputs, **options: call(layer, *inputs, **options)


def chains() -> dict[str, Any]:
    """What is called for each op now, and the number of layers that bind nothing."""
    return {name: op.chain for name, op in registry.items()}


def test_ten_plugins_on_and_off_leave_each_chain_as_it_was() -> None:
    tt.ones(1) + 1  # reads TT_PLUGINS
    before = chains()
    answers = tt.add(tt.ones(2), 1).tolist()
    plugins = [Observer(), Observer(), Observer(), Wrapper(), Wrapper(), Wrapper(), Kernel(), Kernel(), LayerWrapper()]
    named = {f"plugin-{i}": plugin for i, plugin in enumerate(plugins)}
    order, active = random.Random(14), set()
    for turn in range(1000):
        name = order.choice([*named, "formula"])
        if name == "formula":
            with tt.use("formula"):
                assert tt.add(tt.ones(2), 1).tolist() == answers
        elif name in active:
            manager.unregister(name=name)
            active.remove(name)
        else:
            manager.register(named[name], name)
            active.add(name)
        if turn % 50 == 0:
            assert tt.add(tt.ones(2), 1).tolist() == answers
    for name in order.sample(sorted(active), len(active)):
        manager.unregister(name=name)
    after = chains()
    assert [name for name, chain in before.items() if after[name] is not chain] == []
    assert all(after[name] is op.base for name, op in registry.items() if before[name] is op.base)


class Failing:
    """An observer, a wrap or a kernel that raises at its n-th call."""

    def __init__(self, hook: str, at: int) -> None:
        self.hook, self.at, self.calls = hook, at, 0

    def _count(self) -> None:
        self.calls += 1
        if self.calls == self.at:
            raise RuntimeError("broken")

    @hookimpl
    def tt_observe_op(self, op: Op) -> Callable[..., None] | None:
        return (lambda *_: self._count()) if self.hook == "observer" else None

    @hookimpl
    def tt_wrap_op(self, op: Op, call: Callable[..., Any]) -> Callable[..., Any] | None:
        def counted(*inputs: Any, **options: Any) -> Any:
            self._count()
            return call(*inputs, **options)

        return counted if self.hook == "wrap" else None

    @hookimpl
    def tt_kernel(self, op: Op) -> Callable[..., Any] | None:
        def counted(*inputs: Any, **options: Any) -> Any:
            self._count()
            return op.kernel(*inputs, **options)

        return tt.engine.dispatch.with_residuals(*op.residuals)(counted) if self.hook == "kernel" else None


def training() -> tuple[Callable[[], float], Callable[[], list[np.ndarray]]]:
    """A step of training, and everything that it changes."""
    tt.manual_seed(18)
    model = tt.Sequential(tt.Linear(4, 8), tt.GELU("tanh"), tt.LayerNorm(8), tt.Dropout(0.1), tt.Linear(8, 3))
    optimizer = tt_learn.AdamW(model.parameters(), lr=0.01)
    x, y = tt.randn(6, 4), tt.randint(0, 3, (6,))

    def step() -> float:
        optimizer.zero_grad()
        loss = tt.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        return loss.item()

    def state() -> list[np.ndarray]:
        moments = optimizer.state_dict()["state"].values()
        arrays = [p.data for p in model.parameters()] + [np.asarray(v) for m in moments for v in m.values()]
        return [np.array(array) for array in arrays]

    return step, state


@pytest.mark.parametrize("hook", ["observer", "wrap", "kernel"])
@pytest.mark.parametrize("at", [1, 3, 8, 14])
def test_a_hook_that_raises_never_corrupts_training(hook: str, at: int) -> None:
    step, state = training()
    wanted = [step() for _ in range(4)]
    end = state()

    step, state = training()
    found = [step(), step()]
    generator, before = tt.get_rng_state(), state()
    plugin = Failing(hook, at)
    manager.register(plugin, "failing")
    try:
        with pytest.raises(PluginError, match="failing"):
            step()
    finally:
        manager.unregister(name="failing")
    for a, b in zip(before, state(), strict=True):
        np.testing.assert_array_equal(a, b)  # a step that fails before its end changes no parameter
    tt.set_rng_state(generator)
    found += [step(), step()]  # and what it left behind does not reach the next ones
    assert found == wanted
    for a, b in zip(end, state(), strict=True):
        np.testing.assert_array_equal(a, b)


MODULES = ("profiling", "quantization", "compression", "memoization", "acceleration", "benchmarking")


def sabotages(module: str) -> int:
    """How many entries the tables of sabotages in a module's tests have."""
    count = 0
    for path in Path(__file__).parent.glob(f"test_{module}*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [t.id for t in getattr(node, "targets", [getattr(node, "target", None)]) if isinstance(t, ast.Name)]
            value = getattr(node, "value", None)
            if names in (["SABOTAGES"], ["SABOTAGE"]) and isinstance(value, (ast.Dict, ast.List)):
                count += len(value.keys if isinstance(value, ast.Dict) else value.elts)
    return count


@pytest.mark.parametrize("module", MODULES)
def test_each_module_has_eight_sabotages_or_more(module: str) -> None:
    assert sabotages(module) >= 8, f"module {module} has {sabotages(module)} sabotages"
