"""`tt plugins check` finds kernels that compute something else, and says what; right ones pass."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import tt_core
from tt_core import hookimpl
from tt_core.command import cli
from tt_core.command.checking import Comparison, compare
from tt_core.command.common import run
from tt_core.engine.dispatch import Op, registry
from tt_core.engine.errors import PluginError, ShapeError
from tt_core.engine.plugins import manager
from tt_core.samples import SAMPLES, Draw

relu = tt_core.relu.kernel


def only_float32(x: Any, /) -> Any:
    return np.maximum(x, x.dtype.type(0)) if x.dtype == np.float32 else relu(x)


def loses_nan(x: Any, /) -> Any:
    return np.where(x > 0, x, x.dtype.type(0))


def takes_memory_as_it_lies(x: Any, /) -> Any:
    result = np.empty_like(x, order="C")
    result.ravel()[:] = np.maximum(x, x.dtype.type(0)).ravel(order="K")
    return result


def in_place(x: Any, /) -> Any:
    result = relu(x)
    x[...] = 0
    return result


def in_float64(x: Any, /) -> Any:
    return relu(x).astype(np.float64)


def roughly(x: Any, /) -> Any:
    return relu(x) * x.dtype.type(1.001) if x.dtype.kind == "f" else relu(x)


def fails_on_empty(x: Any, /) -> Any:
    return relu(x) + 0 * x.reshape(-1)[0]


def row(kernel: Callable[..., Any], name: str = "relu") -> Comparison:
    (found,) = compare({name: kernel})
    return found


def test_a_kernel_that_agrees_passes_and_its_time_is_told() -> None:
    found = row(only_float32)
    assert found.difference == ""
    assert found.calls > 100
    assert found.error == 0
    assert found.time is not None
    assert 0.01 < found.time < 100


@pytest.mark.parametrize(
    ("kernel", "said"),
    [
        (loses_nan, "with nan, inf and -0.0"),
        (takes_memory_as_it_lies, "Fortran"),
        (in_place, "changes its inputs"),
        (in_float64, "gives float64"),
        (roughly, "in place of"),
        (fails_on_empty, "raises IndexError"),
        (lambda x, /: (relu(x), x), "2 results in place of 1"),
        (lambda x, /: None, "raises TypeError: its result is None; a kernel returns an array"),
        (lambda x, /: [1.0], "raises TypeError: its result is [1.0]"),
        (lambda x, /: tt_core.relu(tt_core.tensor(x)) + 1, "in place of"),
    ],
)
def test_a_kernel_that_computes_something_else_is_found(kernel: Callable[..., Any], said: str) -> None:
    assert said in row(kernel).difference
    assert "DIFFERS" in str(row(kernel))


def test_an_op_that_runs_inside_of_another_is_tried_too() -> None:
    assert row(lambda a, b, /: np.subtract(a, b), "sub").difference == ""
    assert row(lambda a, b, /: np.add(a, b), "sub").difference != ""


def test_an_unknown_op_is_an_error() -> None:
    with pytest.raises(PluginError, match="compare: no op is called rleu; did you mean relu"):
        compare({"rleu": relu})


def test_an_op_without_samples_is_named() -> None:
    @tt_core.op(name="of_the_test")
    def kernel(x: Any, /) -> Any:
        return x

    try:
        assert "no samples" in str(row(kernel.kernel, "of_the_test"))

        class Samples:
            @hookimpl
            def tt_samples(self) -> dict[str, Any]:
                return {"of_the_test": lambda draw: [((draw.normal(3),), {})]}

        manager.register(Samples(), "samples")
        assert row(kernel.kernel, "of_the_test").calls > 10
        assert row(lambda x, /: x + 1, "of_the_test").difference
    finally:
        del registry["of_the_test"]
        if manager.has_plugin("samples"):
            manager.unregister(name="samples")


def test_the_samples_of_the_plugin_itself_are_tried(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    @tt_core.op(name="of_the_plugin")
    def double(x: Any, /) -> Any:
        return x + x

    class Mine:
        @hookimpl
        def tt_kernel(self, op: Op) -> Callable[..., Any] | None:
            return (lambda x, /: np.add(x, x)) if op.name == "of_the_plugin" else None

        @hookimpl
        def tt_samples(self) -> dict[str, Any]:
            return {"of_the_plugin": lambda draw: [((draw.normal(3),), {})], "of_no_op": lambda draw: []}

    class Entry:
        name = "with-samples"

        def load(self) -> object:
            return Mine()

    monkeypatch.setattr("tt_core.engine.plugins.available", lambda: {"with-samples": Entry()})
    try:
        assert run(cli.cli, "tt", ["plugins", "check", "with-samples"]) == 0
    finally:
        del registry["of_the_plugin"]
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("of_the_plugin ")
    assert "calls   error 0.0e+00" in line
    assert not manager.has_plugin("with-samples")


def test_the_samples_of_this_act_run_in_float32() -> None:
    for name, calls in SAMPLES.items():
        made = list(calls(Draw("float32")))
        assert made, name
        for inputs, attributes in made:
            with contextlib.suppress(ShapeError):  # an empty array has no largest element
                registry[name].call(*inputs, **attributes)


class Wrong:
    """A plugin with one wrong kernel and a right one."""

    @hookimpl
    def tt_kernel(self, op: Op) -> Callable[..., Any] | None:
        return {"relu": loses_nan, "exp": tt_core.exp.kernel}.get(op.name)


def test_the_command_says_a_line_for_each_op_and_exits_with_1(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Entry:
        name = "mine"

        def load(self) -> object:
            return Wrong()

    monkeypatch.setattr("tt_core.engine.plugins.available", lambda: {"mine": Entry()})
    assert run(cli.cli, "tt", ["plugins", "check", "mine"]) == 1
    said = capsys.readouterr()
    exp, relu_ = said.out.splitlines()
    assert exp.startswith("exp ")
    assert "error 0.0e+00" in exp
    assert relu_.startswith("relu ")
    assert "DIFFERS" in relu_
    assert said.err == "error: mine: 1 of 2 kernels differ from the framework's\n"
    assert not manager.has_plugin("mine")


def test_the_command_knows_plugins_that_replace_nothing_and_names_that_are_none(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(cli.cli, "tt", ["plugins", "check", "nothing-of-this-name"]) == 1
    assert "no plugin is called nothing-of-this-name" in capsys.readouterr().err
