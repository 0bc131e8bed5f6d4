"""`tt kernels`: every form of an op with its time and its error, and a wrong kernel is seen."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

import tt_core as tt
from tt_core.engine.dispatch import Op
from tt_core.engine.errors import PluginError
from tt_core.engine.plugins import hookimpl
from tt_perf.benchmarking import BenchmarkError
from tt_perf.command import kernels as table
from tt_perf.command.cli import kernels as command
from tt_perf.command.kernels import CALLS, Form, OpCost, Table, compare_kernels
from tt_perf.profiling import Machine


class Halved:
    """A plugin with a wrong softmax."""

    @hookimpl
    def tt_kernel(self, op: Op) -> Callable[..., Any] | None:
        return (lambda x, /, dim=-1: op.formula(x, dim=dim) / 2) if op is tt.softmax else None


def brought_by_halved(name: str) -> tuple[dict[str, Callable[..., Any]], dict[str, Any]]:
    kernel = Halved().tt_kernel(tt.softmax)
    assert kernel is not None
    return {"softmax": kernel}, {}


def forms(cost: OpCost) -> dict[str, Form]:
    return {form.name: form for form in cost.forms}


def test_each_form_is_measured_and_near_the_formula_in_float64() -> None:
    (cost,) = compare_kernels(["linear"], ["naive"], size=32, rounds=2).costs
    found = forms(cost)
    assert list(found) == ["naive", "formula", "kernel"]
    assert all(form.seconds and form.seconds > 0 and form.error is not None for form in found.values())
    assert max(form.error or 0 for form in found.values()) < 1e-5
    assert found["naive"].error <= found["formula"].error  # type: ignore[operator]  # it sums in float64
    assert (cost.flops, cost.bytes) == (2 * 32**3, 4 * (3 * 32 * 32 + 32))
    assert (cost.speedup("naive") or 1) < 0.5
    assert cost.speedup("formula") == 1


def test_a_captured_call_is_a_form() -> None:
    costs = compare_kernels(["linear", "layer_norm", "cross_entropy"], ["capture"], size=16, rounds=1).costs
    for cost in costs:
        found = forms(cost)
        assert list(found) == ["formula", "kernel", "capture"]
        assert found["capture"].error == found["kernel"].error
        assert found["capture"].seconds


def test_an_op_that_cannot_be_captured_says_so() -> None:
    class Sees:
        @hookimpl
        def tt_observe_op(self, op: Op) -> Any:
            return lambda *_: None

    with tt.use(Sees(), report=False):
        (cost,) = compare_kernels(["linear"], ["capture"], size=16, rounds=1).costs
    assert forms(cost)["capture"].note == "runs as usual: the plugin Sees looks at each call"


def test_a_wrong_kernel_shows_its_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table, "brought_by", brought_by_halved)
    (cost,) = compare_kernels(["softmax"], ["halved"], size=16, rounds=1).costs
    assert forms(cost)["halved"].error == pytest.approx(0.5, abs=1e-6)
    assert (forms(cost)["kernel"].error or 0) < 1e-6


def test_what_is_not_run_says_why() -> None:
    (cost,) = compare_kernels(["matmul"], ["naive", "int8"], size=1024, rounds=1).costs
    found = forms(cost)
    assert found["naive"].note == "not run: would take 215 s or more"
    assert found["int8"].note == "has no kernel for it"
    assert cost.speedup("naive") is None
    assert "naive      not run" in str(Table(Machine(1e9, 1e9, 1e-6), (cost,)))


def test_an_op_without_a_tuned_kernel_says_so() -> None:
    (cost,) = compare_kernels(["quantized_linear"], [], size=16, rounds=1).costs
    assert forms(cost)["kernel"].note == "the formula is the kernel"


def test_a_faster_form_raises_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table, "measure_machine", lambda: Machine(1e3, 1e15, 1e-12))
    found = compare_kernels(["matmul"], [], size=64, rounds=2)
    assert max(form.share or 0 for form in found.costs[0].forms) == pytest.approx(1)
    assert found.machine.flops_per_second > 1e3


@pytest.mark.parametrize("name", CALLS)
def test_every_usual_call_runs(name: str) -> None:
    inputs, attributes = table.call_of(name, 16)
    wanted = table._exact(table.registry[name], (inputs, attributes))
    kernel = table.registry[name].kernel
    found = table._first(kernel(*inputs, **attributes), kernel)
    assert table._error(wanted, found) < 1e-4


def test_another_op_is_called_with_its_largest_sample() -> None:
    (cost,) = compare_kernels(["exp"], [], rounds=1).costs
    assert cost.shapes == ((512, 512),)


def test_an_op_of_backward_is_called_as_the_samples_of_its_op_call_it() -> None:
    (cost,) = compare_kernels(["softmax_backward"], [], rounds=1).costs
    assert len(cost.shapes) == 2
    assert cost.shapes[0] == cost.shapes[1]


def test_a_plugin_may_bring_the_op_and_its_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    def brought_by(name: str) -> tuple[dict[str, Any], dict[str, Any]]:
        @tt.op(name="of_the_plugin")
        def double(x: Any, /) -> Any:
            return x + x

        return {"of_the_plugin": lambda x, /: x * 2}, {"of_the_plugin": lambda draw: [((draw.normal(7),), {})]}

    monkeypatch.setattr(table, "brought_by", brought_by)
    try:
        found = compare_kernels(["of_the_plugin"], ["a-longer-name"], rounds=1)
    finally:
        del table.registry["of_the_plugin"]
    assert found.costs[0].shapes == ((7,),)
    formula, _, mine = str(found).splitlines()[-3:]
    assert formula.index(" of the ") == mine.index(" of the ")


def test_the_command(tmp_path: Path) -> None:
    path = tmp_path / "kernels.json"
    arguments = ["layer_norm", "--plugin", "naive", "--size", "16", "--rounds", "1", "--json", str(path)]
    found = CliRunner().invoke(command, arguments)
    assert found.exit_code == 0
    assert "times slower than the formula" in found.output
    saved = json.loads(path.read_text(encoding="utf-8"))
    assert saved["format"] == "tinytorch-kernels-1"
    assert [form["name"] for form in saved["costs"][0]["forms"]] == ["naive", "formula", "kernel"]


def test_bad_input_is_one_line() -> None:
    with pytest.raises(BenchmarkError, match="no op is called mathmul; did you mean matmul"):
        compare_kernels(["mathmul"])
    with pytest.raises(PluginError, match="nonsense"):
        compare_kernels(["matmul"], ["nonsense"])


def test_errors_of_several_results_and_of_zeros() -> None:
    a = np.array([2.0, 4.0])
    assert table._error((a, a), (a, a + 1)) == 0.25
    assert table._error(np.zeros(2), np.zeros(2)) == 0
