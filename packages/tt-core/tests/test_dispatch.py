"""The contract between the framework and its plugins, written as its specification."""

from __future__ import annotations

import inspect
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from importlib.metadata import EntryPoint
from importlib.util import find_spec
from types import ModuleType
from typing import Any

import click
import numpy as np
import pytest

import tt_core
from tt_core import Layer, Linear, Tensor, hookimpl, hookspec, manager, op, relu, tensor, use
from tt_core.command.checking import compare
from tt_core.engine import plugins
from tt_core.engine.dispatch import Array, Op, registry, tuned, with_residuals
from tt_core.engine.effects import effect
from tt_core.engine.errors import DTypeError, OutOfRangeError, PluginError, ShapeError
from tt_core.engine.hookspecs import hookspec as core_hookspec
from tt_core.layers import dropout
from tt_core.samples import Draw


@pytest.fixture(autouse=True)
def nothing_left_behind() -> Iterator[None]:
    """Every test ends with the plugins, the ops and the chains that it found."""
    manager.load_pending()
    plugged, ops = manager.get_plugins(), dict(registry)
    chains = {name: defined.chain for name, defined in registry.items()}
    yield
    for plugin in manager.get_plugins() - plugged:
        manager.unregister(plugin)
    assert registry == ops
    assert {name: defined.chain for name, defined in registry.items()} == chains


@pytest.fixture
def double() -> Iterator[Op]:
    """An op of our own."""

    @op
    def double(x: Any, /) -> Any:
        """Twice x."""
        return x * 2

    yield double
    del registry["double"]


class Answers:
    """A plugin made of functions."""

    def __init__(self, **hooks: Any) -> None:
        vars(self).update(hooks)


def plugin(**hooks: Any) -> Answers:
    """A plugin that answers the given hooks."""
    return Answers(**{name: hookimpl(answer) for name, answer in hooks.items()})


def tracer(trace: list[str], name: str, **options: Any) -> Answers:
    """A plugin that notes when it is entered and left around every op."""

    def tt_wrap_op(op: Op, call: Any) -> Any:
        def wrapped(*inputs: Any, **attributes: Any) -> Any:
            trace.append(f"{name} in")
            result = call(*inputs, **attributes)
            trace.append(f"{name} out")
            return result

        return wrapped

    return Answers(tt_wrap_op=hookimpl(tt_wrap_op, **options))


# --- ops


def test_an_op_knows_its_name_kernel_inputs_and_attributes() -> None:
    assert tt_core.softmax.name == "softmax"
    assert tt_core.softmax.inputs == ("x",)
    assert tt_core.softmax.attributes == {"dim": -1}
    assert isinstance(tt_core.softmax.kernel(np.zeros(2)), np.ndarray)
    assert tt_core.linear.inputs == ("x", "weight", "bias")
    assert tt_core.linear.required == 2


def test_inputs_are_tensors_arrays_or_numbers(double: Op) -> None:
    for given in (tensor([1.0]), np.ones(1, "f4"), 1):
        result = double(given)
        assert type(result) is tt_core.engine.dispatch.tensor_type()
        assert result.tolist() in ([2.0], 2)


def test_attributes_may_be_positional_and_optional_inputs_named() -> None:
    x = tensor([[1.0, 2.0], [3.0, 4.0]])
    assert tt_core.sum(x, 0).tolist() == tt_core.sum(x, dim=0).tolist() == [4, 6]
    weight, bias = tensor([[1.0, 1.0]]), tensor([10.0])
    assert tt_core.linear(x, weight, bias=bias).tolist() == [[13], [17]]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: tt_core.softmax(x, dimm=1), "dimm"),
        (lambda x: tt_core.softmax(x, 1, dim=1), "dim was given twice"),
        (lambda x: tt_core.softmax(), "x must be given"),
        (lambda x: tt_core.softmax(x, 1, 2), "takes 2 arguments"),
        (lambda x: tt_core.linear(x), "weight must be given"),
        (lambda x: tt_core.transpose(x, 0), "dim1 must be given"),
    ],
)
def test_a_wrong_call_is_an_error_that_names_the_op_and_the_argument(call: Any, message: str) -> None:
    with pytest.raises(DTypeError, match=message):
        call(tensor([[1.0]]))


def test_errors_of_kernels_name_the_op_and_the_shapes() -> None:
    with pytest.raises(ShapeError, match=r"^add: .*\(a \(2,\), b \(3,\)\)$"):
        tensor([1, 2]) + tensor([1, 2, 3])
    with pytest.raises(OutOfRangeError, match=r"^getitem: "):
        tensor([1, 2])[5]
    with pytest.raises(DTypeError, match=r"^mean: needs a floating dtype, got int64; call .float\(\) first"):
        tensor([1, 2]).mean()


def test_errors_of_ours_are_the_errors_that_python_would_raise() -> None:
    assert issubclass(ShapeError, ValueError)
    assert issubclass(DTypeError, TypeError)
    assert issubclass(OutOfRangeError, IndexError)


def test_what_is_no_users_error_passes_unchanged() -> None:
    @op
    def broken(x: Any, /) -> Any:
        raise ZeroDivisionError("a bug")

    try:
        with pytest.raises(ZeroDivisionError, match="a bug"):
            broken(tensor([1.0]))
    finally:
        del registry["broken"]


def test_a_name_is_taken_once_and_an_op_has_inputs() -> None:
    with pytest.raises(ValueError, match="op relu exists already"):
        op(name="relu")(lambda x, /: x)
    with pytest.raises(ValueError, match="no parameter stands before '/'"):

        @op
        def without_inputs(dim: int) -> Any:
            return dim


def test_residuals_reach_observers_and_not_callers() -> None:
    seen: list[Any] = []
    watcher = plugin(tt_observe_op=lambda op: lambda *call: seen.append(call) if op.name == "dropout" else None)
    manager.register(watcher)
    x = tensor([1.0])
    result = dropout(x, p=0.5)
    (observed_op, inputs, attributes, output), *_ = [call for call in seen if call]
    assert isinstance(result, Tensor)
    assert observed_op is dropout
    assert inputs[0] is x
    scale = attributes.pop("scale")
    assert attributes == {"p": 0.5, "training": True}
    assert output is result
    assert (x * scale).tolist() == result.tolist()


@pytest.fixture
def halved() -> Iterator[Op]:
    """An op of our own whose tuned kernel has residuals."""

    @op
    def halved(x: Any, /) -> Any:
        return x / 2

    @tuned(halved, residuals=("least", "most"))
    def fast(x: Any, /) -> Any:
        return x * 0.5, x.min(), x.max()

    yield halved
    del registry["halved"]


def test_a_plugins_kernel_names_its_residuals_or_returns_the_result_alone(halved: Op) -> None:
    seen: dict[str, Any] = {}
    x = tensor([1.0, 3.0])
    watcher = plugin(tt_observe_op=lambda op: lambda op, inputs, attributes, output: seen.update(attributes))
    for kernel, names in (
        (None, ["least", "most"]),
        (halved.formula, []),
        (with_residuals("most")(lambda x, /: (x / 2, x.max())), ["most"]),
    ):
        mine = plugin(tt_kernel=lambda op, kernel=kernel: kernel if op is halved else None)
        for watched in (False, True):
            seen.clear()
            manager.register(mine, "mine")
            if watched:
                manager.register(watcher)
            assert halved(x).tolist() == [0.5, 1.5]
            assert sorted(seen) == (names if watched else [])
            manager.unregister(mine)
        manager.unregister(watcher)


def test_a_kernel_that_returns_another_number_of_values_is_an_error_with_its_plugin(halved: Op) -> None:
    mine = plugin(tt_kernel=lambda op: (lambda x, /: (x, x)) if op is halved else None)
    manager.register(mine, "mine")
    with pytest.raises(
        PluginError, match="halved: the kernel of plugin mine returns 2 values, expected the result alone"
    ):
        halved(tensor([1.0]))
    few = plugin(tt_kernel=lambda op: with_residuals("least")(lambda x, /: x) if op is halved else None)
    manager.register(few, "few")
    with pytest.raises(PluginError, match="the kernel of plugin few returns 1 values, expected the result and least"):
        halved(tensor([1.0]))


def test_residuals_that_the_gradient_does_not_take_are_an_error(halved: Op, double: Op) -> None:
    mine = plugin(tt_kernel=lambda op: with_residuals("median")(lambda x, /: (x, x)) if op is halved else None)
    with pytest.raises(PluginError, match=r"plugin mine returns median, which .* halved has the residuals least, most"):
        manager.register(mine, "mine")
    mine = plugin(tt_kernel=lambda op: with_residuals("median")(lambda x, /: (x, x)) if op is double else None)
    with pytest.raises(PluginError, match=r"plugin mine returns median, .*; double has no residuals"):
        manager.register(mine, "mine")


def test_residuals_of_the_formula_are_needed_from_every_kernel() -> None:
    mine = plugin(tt_kernel=lambda op: (lambda x, /, p, training: x) if op is dropout else None)
    with pytest.raises(
        PluginError, match="dropout: the kernel of plugin mine does not return scale, which the gradient"
    ):
        manager.register(mine, "mine")


def test_a_tuned_kernel_stands_for_the_formula(double: Op) -> None:
    with pytest.raises(ValueError, match=r"the tuned kernel of double takes \(y, /\), the formula \(x, /\)"):

        @tuned(double)
        def other(y: Any, /) -> Any:
            return y

    @tuned(double)
    def fast(x: Any, /) -> Any:
        return x + x

    assert double.kernel is fast
    assert double.formula is not fast
    assert double(tensor([2.0])).tolist() == [4]
    with pytest.raises(ValueError, match="double has a tuned kernel already"):
        tuned(double)(fast)


def test_a_check_runs_before_every_kernel() -> None:
    def positive(x: Any, /, least: int = 0) -> None:
        if (x < least).any():
            raise ValueError(f"x must be at least {least}")

    @op(check=positive)
    def checked(x: Any, /, least: int = 0) -> Any:
        return x

    mine = plugin(tt_kernel=lambda op: (lambda x, least: x * 2) if op is checked else None)
    watcher = plugin(tt_observe_op=lambda op: lambda *_: None)
    try:
        for plugins in ((), (mine,), (mine, watcher)):
            for each in plugins:
                manager.register(each)
            assert checked(tensor([1.0])).tolist() == [2 if plugins else 1]
            with pytest.raises(ShapeError, match="checked: x must be at least 3"):
                checked(tensor([1.0]), least=3)
            for each in plugins:
                manager.unregister(each)
    finally:
        del registry["checked"]


def test_a_tuned_kernel_may_do_the_checks_itself() -> None:
    calls: list[str] = []

    @op(check=lambda x, /: calls.append("check"))
    def checked(x: Any, /) -> Any:
        return x

    @tuned(checked, checks=True)
    def fast(x: Any, /) -> Any:
        calls.append("fast")
        return x

    try:
        checked(tensor([1.0]))
        assert calls == ["fast"]
        with use("formula"):
            checked(tensor([1.0]))
        assert calls == ["fast", "check"]
    finally:
        del registry["checked"]


def test_two_threads_and_a_kernel_of_itself_run_one_op_at_once() -> None:
    both = threading.Barrier(2, timeout=60)

    @op
    def meeting(x: Any, /) -> Any:
        both.wait()  # not until the other thread is in this kernel too
        return np.exp(x)  # overflows without a warning in both

    @op
    def countdown(x: Any, /) -> Any:
        return countdown(x - 1).data + 1e38 if x.max() > 0 else np.exp(x + 100)

    found: list[float] = []
    threads = [threading.Thread(target=lambda: found.append(meeting(tensor([1e4])).item())) for _ in range(2)]
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert found == [np.inf, np.inf]
        assert countdown(tensor([3.0])).item() == np.inf
    finally:
        del registry["meeting"], registry["countdown"]


# --- hooks, one by one


def test_tt_kernel_runs_another_kernel_and_the_first_answer_wins(double: Op) -> None:
    late = plugin(tt_kernel=lambda op: (lambda x: x * 100) if op is double else None)
    manager.register(plugin(tt_kernel=lambda op: (lambda x: x * 10) if op is double else None))
    assert double(tensor([1.0])).tolist() == [10]
    manager.register(late)  # pluggy asks the newest first
    assert double(tensor([1.0])).tolist() == [100]
    manager.unregister(late)
    assert double(tensor([1.0])).tolist() == [10]
    assert relu(tensor([1.0])).tolist() == [1]


def test_tt_kernel_is_observed_and_wrapped_like_the_own_one(double: Op) -> None:
    trace: list[str] = []
    manager.register(plugin(tt_kernel=lambda op: (lambda x: trace.append("kernel") or x) if op is double else None))
    manager.register(plugin(tt_observe_op=lambda op: lambda *_: trace.append("observer")))
    manager.register(tracer(trace, "wrap"))
    double(tensor([1.0]))
    assert trace == ["wrap in", "kernel", "observer", "wrap out"]


def test_tt_tensor_type_is_what_ops_and_creation_hand_back() -> None:
    class Special(Tensor):
        pass

    before = type(tt_core.zeros(1))
    special = plugin(tt_tensor_type=lambda: Special)
    manager.register(special)
    assert type(tt_core.zeros(1)) is type(relu(tensor([1.0]))) is Special
    manager.unregister(special)
    assert type(tt_core.zeros(1)) is before


def test_tt_observe_op_sees_inputs_attributes_and_output(double: Op) -> None:
    seen: list[Any] = []
    manager.register(plugin(tt_observe_op=lambda op: (lambda *call: seen.append(call)) if op is double else None))
    x = tensor([1.0])
    result = double(x)
    relu(x)
    assert [(call[0], call[1][0] is x, call[2], call[3] is result) for call in seen] == [(double, True, {}, True)]


def test_tt_wrap_op_may_decline(double: Op) -> None:
    before = double.chain
    manager.register(plugin(tt_wrap_op=lambda op, call: None))
    assert double.chain is before


def test_tt_wrap_layer_wraps_one_type_of_layer() -> None:
    calls: list[str] = []

    def wrap(layer_type: type[Layer], call: Any) -> Any:
        def wrapped(layer: Layer, *inputs: Any) -> Any:
            calls.append(type(layer).__name__)
            return call(layer, *inputs)

        return wrapped if layer_type is Linear else None

    wrapper = plugin(tt_wrap_layer=lambda layer_type, call: wrap(layer_type, call))
    model = tt_core.Sequential(Linear(2, 2), tt_core.ReLU())
    manager.register(wrapper)
    model(tt_core.ones(1, 2))
    assert calls == ["Linear"]

    class Late(Linear):
        """A layer that is defined while the plugin is active is asked for too."""

    assert calls == ["Linear"]
    manager.unregister(wrapper)
    model(tt_core.ones(1, 2))
    assert calls == ["Linear"]


def test_tt_prepare_model_hands_the_model_from_plugin_to_plugin() -> None:
    manager.register(plugin(tt_prepare_model=lambda model, options: tt_core.Sequential(model, tt_core.ReLU())))
    manager.register(plugin(tt_prepare_model=lambda model, options: options.setdefault("seen", model) and None))
    options: dict[str, Any] = {}
    prepared = manager.chained("tt_prepare_model", Linear(1, 1), into="model", options=options)
    assert isinstance(prepared[1], tt_core.ReLU)
    assert options["seen"] is prepared


def test_tt_dataset_takes_the_first_answer() -> None:
    manager.register(plugin(tt_dataset=lambda name, data_dir: (name, data_dir)), "a")
    manager.register(plugin(tt_dataset=lambda name, data_dir: None), "b")
    assert manager.hook.tt_dataset(name="mnist", data_dir=None) == ("mnist", None)


@pytest.mark.parametrize("hook", ["tt_modules", "tt_milestones", "tt_commands", "tt_report"])
def test_collected_hooks_give_every_answer(hook: str) -> None:
    arguments = {"cli": click.Group()} if hook == "tt_commands" else {}
    before = len(getattr(manager.hook, hook)(**arguments))
    for name in ("a", "b"):
        answer = (lambda cli, name=name: [name]) if arguments else (lambda name=name: [name])
        manager.register(Answers(**{hook: hookimpl(answer)}), name)
    answers = getattr(manager.hook, hook)(**arguments)
    assert len(answers) == before + 2
    assert [a for a in answers if a in (["a"], ["b"])] == [["b"], ["a"]]


def test_tt_report_collects_what_plugins_measured() -> None:
    manager.register(plugin(tt_report=lambda: "measured"))
    manager.register(plugin(tt_report=lambda: None))
    reports = manager.hook.tt_report()  # a plugin of TT_PLUGINS may have one too
    assert "measured" in reports
    assert None not in reports


@pytest.mark.parametrize("hook", ["tt_plugged", "tt_unplugged"])
def test_coming_and_going_is_told_to_the_plugin_itself(hook: str) -> None:
    told: list[str] = []

    def telling(name: str) -> object:
        return plugin(**{hook: lambda: told.append(name)})

    first, second = telling("first"), telling("second")
    manager.register(first)
    manager.register(second)
    manager.unregister(first)
    assert told == (["first", "second"] if hook == "tt_plugged" else ["first"])


def test_a_plugin_that_cannot_start_leaves_no_trace() -> None:
    def fails() -> None:
        raise ValueError("nothing to start with")

    broken = plugin(tt_plugged=fails)
    with pytest.raises(PluginError, match="asked tt_plugged: ValueError: nothing to start with"):
        manager.register(broken)
    assert not manager.is_registered(broken)


def test_tt_wrap_effect_wraps_changes_beside_the_ops() -> None:
    @effect(0)
    def double_(x: Tensor) -> None:
        x.mul_(2)

    seen: list[tuple[str, tuple[int, ...]]] = []

    def wrap_effect(effect: Any, call: Any) -> Any:
        return lambda *given: (seen.append((effect.__name__, effect.writes)), call(*given))[1]

    x = tensor([1.0])
    with use(plugin(tt_wrap_effect=wrap_effect)):
        double_(x)
    double_(x)
    assert x.item() == 4
    assert seen == [("double_", (0,))]


def test_every_hook_has_a_test_and_says_what_it_does() -> None:
    with open(__file__, encoding="utf-8") as file:
        source = file.read()
    hooks = [name for name in vars(tt_core.engine.hookspecs) if name.startswith("tt_")]
    assert len(hooks) >= 9
    for name in hooks:
        assert f"test_{name}" in source or f'"{name}"' in source, f"{name} has no test"
        assert getattr(tt_core.engine.hookspecs, name).__doc__


def test_later_acts_bring_hooks_of_their_own() -> None:
    class Specs:
        @hookspec
        def tt_of_a_later_act(self, x: int) -> int | None:
            """A hook."""

    assert hookspec is core_hookspec
    late = plugin(tt_of_a_later_act=lambda x: x + 1)
    with pytest.raises(PluginError, match="tt_of_a_later_act, which is no hook"):
        manager.register(late)
    manager.add_hookspecs(Specs)
    try:
        manager.register(late)
        assert manager.hook.tt_of_a_later_act(x=1) == [2]
        manager.unregister(late)
    finally:
        delattr(manager.hook, "tt_of_a_later_act")


# --- nesting


def test_answers_nest_kernel_observers_trylast_plain_in_order_tryfirst(double: Op) -> None:
    trace: list[str] = []
    manager.register(tracer(trace, "profiler", tryfirst=True))
    manager.register(tracer(trace, "plain 1"))
    manager.register(tracer(trace, "memo", trylast=True))
    manager.register(plugin(tt_kernel=lambda op: (lambda x: trace.append("kernel") or x) if op is double else None))
    manager.register(tracer(trace, "plain 2"))
    manager.register(plugin(tt_observe_op=lambda op: (lambda *_: trace.append("gradients")) if op is double else None))
    double(tensor([1.0]))
    entered = ["profiler in", "plain 2 in", "plain 1 in", "memo in"]
    left = ["memo out", "plain 1 out", "plain 2 out", "profiler out"]
    assert trace == [*entered, "kernel", "gradients", *left]


def test_three_plugins_that_come_and_go_leave_the_identical_chain() -> None:
    before = {name: defined.chain for name, defined in registry.items()}
    trace: list[str] = []
    three = [
        tracer(trace, "wrap"),
        plugin(tt_kernel=lambda op: op.kernel),
        plugin(tt_observe_op=lambda op: lambda *_: None),
    ]
    for each in three:
        manager.register(each)
    assert all(defined.chain is not before[name] for name, defined in registry.items())
    for each in three:
        manager.unregister(each)
    assert all(defined.chain is before[name] for name, defined in registry.items())


def test_without_plugins_the_chain_is_the_base() -> None:
    found = [(p, manager.get_name(p)) for p in manager.get_plugins()]
    for each, _ in found:
        manager.unregister(each)
    try:
        assert all(defined.chain is defined.base for defined in registry.values())
    finally:
        for each, name in found:
            manager.register(each, name)


# --- mistakes


def test_a_misspelt_hook_is_an_error_that_names_the_near_one() -> None:
    with pytest.raises(PluginError, match=r"plugin mine answers tt_kernl, which is no hook; did you mean tt_kernel\?"):
        manager.register(plugin(tt_kernl=lambda op: None), "mine")
    assert not manager.has_plugin("mine")


def test_a_hook_may_be_answered_under_another_name(double: Op) -> None:
    fast = Answers(mine=hookimpl(lambda op: (lambda x: x) if op is double else None, specname="tt_kernel"))
    manager.register(fast)
    assert double(tensor([1.0])).tolist() == [1]


def test_a_misspelt_argument_is_an_error_and_leaves_no_trace() -> None:
    wrong = plugin(tt_kernel=lambda opp: None)
    with pytest.raises(PluginError, match="opp"):
        manager.register(wrong, "wrong")
    assert not manager.is_registered(wrong)


def test_pluggys_wrappers_are_refused() -> None:
    def tt_kernel(op: Op) -> Any:
        return (yield)

    with pytest.raises(PluginError, match="tt_kernel takes a plain function"):
        manager.register(Answers(tt_kernel=hookimpl(tt_kernel, wrapper=True)), "wrapper")


def test_a_plugin_that_fails_while_it_is_bound_leaves_no_trace() -> None:
    def tt_kernel(op: Op) -> Any:
        if op.name == "tril":
            raise RuntimeError("no kernel today")

    before = {name: defined.chain for name, defined in registry.items()}
    with pytest.raises(PluginError, match="plugin faulty fails when asked tt_kernel for tril: RuntimeError: no"):
        manager.register(plugin(tt_kernel=tt_kernel), "faulty")
    assert not manager.has_plugin("faulty")
    assert all(defined.chain is before[name] for name, defined in registry.items())


def test_a_plugin_is_registered_once() -> None:
    once = plugin(tt_kernel=lambda op: None)
    manager.register(once, "once")
    with pytest.raises(PluginError, match="once is active already"):
        manager.register(once, "once")
    with pytest.raises(PluginError, match="once is active already"):
        manager.register(plugin(tt_kernel=lambda op: None), "once")
    assert manager.has_plugin("once")


# --- plugins by name


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Entry points `ten`, `hundred` and `broken`, as if distributions had brought them."""
    module = ModuleType("some_plugins")
    module.ten = plugin(tt_kernel=lambda op: (lambda x: x * 10) if op.name == "double" else None)  # type: ignore[attr-defined]
    module.hundred = plugin(tt_kernel=lambda op: (lambda x: x * 100) if op.name == "double" else None)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "some_plugins", module)
    values = {"ten": "some_plugins:ten", "hundred": "some_plugins:hundred", "broken": "no_such_module:plugin"}
    entries = [EntryPoint(name, value, plugins.GROUP) for name, value in values.items()]
    monkeypatch.setattr(plugins, "entry_points", lambda group: entries if group == plugins.GROUP else [])
    return vars(module)


def test_use_plugs_in_for_a_block(double: Op, installed: dict[str, Any]) -> None:
    with use("ten"):
        assert double(tensor([1.0])).tolist() == [10]
    assert double(tensor([1.0])).tolist() == [2]


def test_use_nests_and_leaves_what_was_active_before(double: Op, installed: dict[str, Any]) -> None:
    with use("ten"):
        with use("hundred", "ten"):
            assert double(tensor([1.0])).tolist() == [100]
        assert double(tensor([1.0])).tolist() == [10]
    assert not manager.has_plugin("ten")


def test_use_unplugs_after_an_error_too(double: Op, installed: dict[str, Any]) -> None:
    with pytest.raises(KeyError), use("ten"):
        raise KeyError
    assert not manager.has_plugin("ten")


def test_an_unknown_plugin_is_an_error_that_names_the_near_ones(installed: dict[str, Any]) -> None:
    with pytest.raises(PluginError, match=r"no plugin is called tenn; did you mean ten\?"), use("tenn"):
        pass
    with pytest.raises(PluginError, match="no plugin is called xyz; known: broken, hundred, ten"), use("xyz"):
        pass


def test_a_plugin_that_does_not_load_is_named_and_the_others_are_unplugged(installed: dict[str, Any]) -> None:
    with pytest.raises(PluginError, match="plugin broken does not load: ModuleNotFoundError"), use("ten", "broken"):
        pass
    assert not manager.has_plugin("ten")


def test_nothing_is_imported_to_list_what_is_available(installed: dict[str, Any]) -> None:
    assert list(plugins.available()) == ["broken", "hundred", "ten"]


def as_after_import(monkeypatch: pytest.MonkeyPatch) -> None:
    """TT_PLUGINS has yet to be read, as when the packages have just been imported."""
    monkeypatch.setattr(manager, "environment", manager.environment)
    monkeypatch.setattr(manager, "pending", True)
    manager.rebind()


def test_tt_plugins_are_loaded_at_the_first_op_and_what_fails_is_named(
    double: Op, installed: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TT_PLUGINS", "ten, broken,,tenn")
    assert plugins.names_from_environment() == ["ten", "broken", "tenn"]
    as_after_import(monkeypatch)
    assert not manager.has_plugin("ten")
    with pytest.warns(UserWarning, match="TT_PLUGINS: .*; skipped") as caught:
        assert double(tensor([1.0])).tolist() == [10]
    assert ["broken" in str(w.message) or "tenn" in str(w.message) for w in caught] == [True, True]
    assert manager.has_plugin("ten")
    assert double(tensor([1.0])).tolist() == [10]  # and warns no more


def test_tt_plugins_are_loaded_at_the_first_layer_too(
    double: Op, installed: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Doubling(Layer):
        def forward(self, x: Any) -> Any:
            return double(x)

    monkeypatch.setenv("TT_PLUGINS", "ten")
    as_after_import(monkeypatch)
    assert Doubling()(tensor([1.0])).tolist() == [10]


def test_help_shows_the_names_of_arguments_and_tensors_for_arrays() -> None:
    assert str(inspect.signature(tt_core.linear)).replace("'", "") == (
        "(x: Tensor, weight: Tensor, bias: Tensor | None = None, /) -> Tensor"
    )
    assert inspect.signature(tt_core.layer_norm).return_annotation == "Tensor"  # the kernel returns residuals too
    assert inspect.signature(tt_core.linear.kernel).return_annotation == "Array"


def test_completion_finds_the_methods_of_a_result() -> None:
    assert {"reshape", "sum", "exp"} <= set(dir(tt_core.relu(tt_core.ones(1))))


def test_tt_samples_are_tables_of_calls_by_the_name_of_an_op() -> None:
    class Samples:
        @hookimpl
        def tt_samples(self) -> dict[str, Any]:
            return {"mine": lambda draw: [((draw.normal(2),), {})]}

    manager.register(Samples(), "samples")
    try:
        (inputs, attributes) = next(iter(manager.ask("tt_samples")[0]["mine"](Draw("float64"))))
        assert (inputs[0].shape, inputs[0].dtype, attributes) == ((2,), np.float64, {})
    finally:
        manager.unregister(name="samples")


def test_tt_try_op_runs_an_op_with_what_belongs_to_it() -> None:
    tried = []

    class Trying:
        @hookimpl(tryfirst=True)
        def tt_try_op(self, op: Op, inputs: Any, draw: Draw) -> bool:
            tried.append((op.name, draw.dtype))
            op.call(*inputs)
            return True

    manager.register(Trying(), "trying")
    try:
        assert compare({"relu": relu.kernel})[0].calls > 100
        assert ("relu", "float16") in tried
    finally:
        manager.unregister(name="trying")


# --- blocks that overlap, reports


def test_a_plugin_stays_until_the_last_block_that_uses_it_ends(double: Op, installed: dict[str, Any]) -> None:
    before = double.chain
    first, second = use("ten"), use("ten")
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert double(tensor([1.0])).tolist() == [10]
    second.__exit__(None, None, None)
    assert double.chain is before


def test_a_suspended_generator_is_a_user_too(double: Op, installed: dict[str, Any]) -> None:
    def steps() -> Iterator[Any]:
        with use("ten"):
            yield double(tensor([1.0])).item()

    generator = steps()
    with use("ten"):
        next(generator)
    assert double(tensor([1.0])).tolist() == [10]
    generator.close()
    assert double(tensor([1.0])).tolist() == [2]


def test_threads_that_come_and_go_leave_the_plugin_to_each_other(double: Op, installed: dict[str, Any]) -> None:
    found: list[float] = []

    def work() -> None:
        for _ in range(20):
            with use("ten"):
                found.append(double(tensor([1.0])).item())

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [10.0] * 80
    assert not manager.has_plugin("ten")


def test_a_plugin_that_was_unplugged_by_hand_ends_no_block(installed: dict[str, Any]) -> None:
    with use("ten"):
        manager.unregister(name="ten")


def test_use_gives_the_plugin(installed: dict[str, Any]) -> None:
    with use("ten") as ten:
        assert ten is installed["ten"]
    with use("ten", "hundred") as both:
        assert both == (installed["ten"], installed["hundred"])
    with use() as none:
        assert none is None


def test_what_was_measured_is_printed_when_the_last_block_ends(
    installed: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    for name, text in (("ten", "measured"), ("hundred", None)):
        monkeyed = plugin(tt_report=lambda text=text: text)
        setattr(sys.modules["some_plugins"], name, monkeyed)
    with use("ten"), use("ten", "hundred"):
        pass
    assert capsys.readouterr().err == "measured\n"
    with use("ten", report=False):
        pass
    assert capsys.readouterr().err == ""


def test_plugins_of_tt_plugins_outlive_a_block_and_are_reported_when_the_process_ends() -> None:
    if find_spec("tt_perf") is None:  # not imported here, which would bring ops of later acts
        pytest.skip("the profiler comes with Act V")
    code = "import tt_core as tt\nwith tt.use('profiler'):\n    tt.ones(1) + 1\ntt.ones(1) * 2\nprint('done')"
    run = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "TT_PLUGINS": "profiler"},
        capture_output=True,
        encoding="utf-8",
        check=True,
    )
    assert run.stdout == "done\n"
    rows = [line.split()[:3] for line in run.stderr.splitlines()[1:-1]]  # between headings and the whole time
    assert sorted(rows) == [["op", "add", "1"], ["op", "mul", "1"]]


# --- ops with a public function


@pytest.mark.parametrize("name", ["cat", "stack", "where", "einsum", "index_select", "std", "norm"])
def test_what_users_call_is_the_op(name: str) -> None:
    assert getattr(tt_core, name) is registry[name]


def test_a_plugin_sees_the_inputs_of_a_list_one_by_one() -> None:
    seen: list[Any] = []

    class Joining:
        @hookimpl
        def tt_kernel(self, op: Op) -> Any:
            return (lambda *parts, dim: np.full(len(parts), dim)) if op is tt_core.cat else None

        @hookimpl
        def tt_observe_op(self, op: Op) -> Any:
            return lambda op, inputs, attributes, output: seen.append((op.name, len(inputs), attributes))

    x = tt_core.ones(2)
    with tt_core.use(Joining()):
        assert tt_core.cat([x, x, x], 1).tolist() == [1, 1, 1]
    assert seen == [("cat", 3, {"dim": 1})]
    assert tt_core.cat([x, x]).shape == (4,)


def test_an_op_with_a_public_function_takes_arguments_in_its_own_order() -> None:
    def scaled(x: Array, /, factor: float = 2.0) -> Array:
        return x * factor

    @op(formula=scaled)
    def scaled_by(factor: float, x: Tensor) -> Tensor:
        """Returns `x` times `factor`."""
        return scaled_by.call(x, factor=factor)

    try:
        assert scaled_by is registry["scaled_by"]
        assert (scaled_by.formula, scaled_by.inputs, scaled_by.attributes) == (scaled, ("x",), {"factor": 2.0})
        assert scaled_by(3.0, tt_core.ones(2)).tolist() == [3, 3]
        assert scaled_by.call(tt_core.ones(2)).tolist() == [2, 2]
        with pytest.raises(DTypeError, match="scaled_by: needs a tensor, an array or a number, got 'text'"):
            scaled_by(3.0, "text")  # type: ignore[arg-type]
    finally:
        del registry["scaled_by"]
