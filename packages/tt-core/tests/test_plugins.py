"""Plugins as a stranger uses them: handles, notebooks, TT_PLUGINS, errors, and what ops say of themselves."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FunctionType
from typing import Any

import numpy as np
import pytest

import tt_core as tt
from tt_core import hookimpl, manager
from tt_core.command.checking import misdeclared
from tt_core.engine import plugins
from tt_core.engine.dispatch import Op, bind_all, registry
from tt_core.engine.errors import PluginError, ShapeError
from tt_core.engine.phases import in_phase
from tt_core.engine.redefinition import _noticed, redefined
from tt_core.samples import unary


@pytest.fixture(autouse=True)
def nothing_left_behind() -> Iterator[None]:
    """Every test ends with the plugins, the users, the ops and the chains that it found."""
    manager.load_pending()
    plugged, ops = manager.get_plugins(), dict(registry)
    chains = {name: defined.chain for name, defined in registry.items()}
    yield
    for plugin in manager.get_plugins() - plugged:
        manager.unregister(plugin)
    plugins._users.clear()
    for name in registry.keys() - ops.keys():
        del registry[name]
    assert registry == ops
    assert {name: defined.chain for name, defined in registry.items()} == chains


class Negative:
    """A plugin: another relu."""

    @hookimpl
    def tt_kernel(self, op: Op) -> Any:
        return (lambda x, /: -x) if op is tt.relu else None


class Counting:
    """A plugin that measures something."""

    calls = 0

    @hookimpl
    def tt_observe_op(self, op: Op) -> Any:
        return self.count

    def count(self, *call: Any) -> None:
        self.calls += 1

    @hookimpl
    def tt_report(self) -> str:
        return f"{self.calls} calls"


def relu_of_one() -> float:
    return float(tt.relu(tt.tensor(1.0)).item())


# --- handles


def test_use_on_a_line_of_its_own_plugs_in_and_stays() -> None:
    handle = tt.use(Negative())
    assert relu_of_one() == -1
    assert repr(handle) == "<use Negative(): in use>"
    handle.disable()
    assert relu_of_one() == 1
    handle.disable()  # a second time changes nothing


@pytest.mark.parametrize("which", ["name", "object"])
def test_disable_takes_a_name_or_a_plugin(which: str) -> None:
    plugin = Negative()
    tt.use(plugin)
    tt.use(plugin)
    tt.disable("Negative" if which == "name" else plugin)
    assert relu_of_one() == 1
    with pytest.raises(PluginError, match="disable: no plugin called Negative is active"):
        tt.disable("Negative" if which == "name" else plugin)


def test_a_block_inside_leaves_a_plugin_that_stays() -> None:
    plugin = Negative()
    handle = tt.use(plugin)
    with tt.use(plugin) as given:
        assert given is plugin
    assert relu_of_one() == -1
    with handle:
        assert relu_of_one() == -1
    assert relu_of_one() == 1


def test_a_handle_may_be_entered_again_and_inside_itself() -> None:
    handle = tt.use(Negative())
    for _ in range(2):
        with handle, handle:
            assert relu_of_one() == -1
        assert relu_of_one() == 1


def test_a_handle_decorates_a_function() -> None:
    decorated = tt.use(Negative())(relu_of_one)
    assert (decorated(), relu_of_one(), decorated()) == (-1, 1, -1)


def test_blocks_of_two_plugins_of_a_class_nest() -> None:
    with tt.use(Counting(), report=False) as outer:
        relu_of_one()
        with tt.use(Counting(), report=False) as inner:
            relu_of_one()
        relu_of_one()
    assert (outer.calls, inner.calls) == (3 * outer.calls // 3, outer.calls // 3)


def test_disable_in_a_block_ends_it_early_and_reports_once(capsys: pytest.CaptureFixture[str]) -> None:
    with tt.use(Counting()) as counting:
        relu_of_one()
        tt.disable(counting)
        relu_of_one()
    assert capsys.readouterr().err == f"{counting.calls} calls\n"


def test_what_failed_to_plug_in_leaves_the_others_out() -> None:
    with pytest.raises(PluginError, match="no plugin is called nobody"):
        tt.use(Negative(), "nobody")
    assert relu_of_one() == 1


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (Negative, r"plugin Negative is a class; pass an instance, Negative\(\)"),
        (3, "plugin int answers no hook; mark its methods with @hookimpl"),
        (type("Unmarked", (), {"tt_kernel": lambda self, op: None})(), "tt_kernel is not marked; write @hookimpl"),
    ],
)
def test_what_is_no_plugin_is_an_error(given: Any, message: str) -> None:
    with pytest.raises(PluginError, match=message):
        tt.use(given)


def run(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, **environment}, capture_output=True, encoding="utf-8"
    )
    assert done.returncode == 0, done.stderr
    return done


COUNTING = """
import tt_core as tt
class Counting:
    calls = 0
    @tt.hookimpl
    def tt_observe_op(self, op):
        return self.count
    def count(self, *call):
        self.calls += 1
    @tt.hookimpl
    def tt_report(self):
        return f"{self.calls} calls"
"""


def test_a_plugin_that_stays_is_reported_when_the_process_ends() -> None:
    assert run(COUNTING + "tt.use(Counting())\ntt.ones(1) + 1\ntt.ones(1) * 2").stderr == "2 calls\n"
    assert run(COUNTING + "tt.use(Counting(), report=False)\ntt.ones(1) + 1").stderr == ""
    assert run(COUNTING + "with tt.use(Counting()): tt.ones(1) + 1\nprint('end')").stderr == "1 calls\n"


# --- TT_PLUGINS


def test_tt_plugins_set_after_the_import_takes_effect_at_the_first_op() -> None:
    code = "import os, tt_core as tt\nos.environ['TT_PLUGINS'] = 'nobody'\ntt.ones(1) + 1\ntt.ones(1) + 1"
    assert run(code, TT_PLUGINS="").stderr.count("TT_PLUGINS: no plugin is called nobody") == 1


def test_tt_plugins_changed_after_the_first_op_is_named_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manager, "environment", manager.environment)
    monkeypatch.setenv("TT_PLUGINS", "nobody")
    with pytest.warns(UserWarning, match=r"TT_PLUGINS has changed .* no effect: call use\('nobody'\)"):
        tt.use()
    tt.use()
    assert not manager.has_plugin("nobody")


# --- notebooks: what `__main__` defines twice


def in_main(function: Any) -> Any:
    """`function` or class, as if a notebook had defined it."""
    if isinstance(function, FunctionType):
        function = FunctionType(function.__code__, function.__globals__, function.__name__, function.__defaults__)
    function.__module__, function.__qualname__ = "__main__", function.__name__
    return function


def test_an_op_that_main_defines_again_replaces_the_old_one_with_one_warning() -> None:
    def again(x: Any, /) -> Any:
        return x * factor

    _noticed.discard("op again")
    factor = 2
    first = tt.op(lambda_of(again))
    with pytest.warns(UserWarning, match="op again is defined again in __main__ and replaces the old one"):
        second = tt.op(lambda_of(again))
    third = tt.op(lambda_of(again))  # no second warning, which would be an error here
    assert registry["again"] is third
    assert first is not second
    assert second(tt.tensor([1.0])).tolist() == [2]
    again.__module__ = __name__
    with pytest.raises(ValueError, match="op again exists already"):
        tt.op(again)


REPLACED = """
import warnings
import tt_core as tt
warnings.simplefilter("ignore")
@tt.op
def twice(x, /): return x * 2
first = twice
@tt.op
def twice(x, /): return x * 3
print(first(tt.tensor([1.0])).tolist(), twice(tt.tensor([1.0])).tolist())
class Doubling:
    @tt.hookimpl
    def tt_wrap_op(self, op, call):
        return (lambda *inputs: call(*inputs) * 2) if op in (first, twice) else None
with tt.use(Doubling()):
    print(first(tt.tensor([1.0])).tolist(), twice(tt.tensor([1.0])).tolist())
"""


def test_an_op_that_was_replaced_still_works_for_code_that_refers_to_it() -> None:
    """Before the first call, an op waits for the plugins of the environment; a replaced one must not wait forever."""
    done = subprocess.run([sys.executable, "-c", REPLACED], capture_output=True, encoding="utf-8")
    assert (done.stdout, done.stderr) == ("[2.0] [3.0]\n[4.0] [6.0]\n", "")


def lambda_of(function: Any) -> Any:
    """A copy of a function, with its closure, that `__main__` has defined."""
    code, names = function.__code__, function.__globals__
    copy = FunctionType(code, names, function.__name__, function.__defaults__, function.__closure__)
    copy.__module__, copy.__qualname__ = "__main__", function.__name__
    return copy


def test_only_main_replaces_and_only_under_the_same_name() -> None:
    def one() -> None: ...

    def other() -> None: ...

    _noticed.add("it")
    assert not redefined("it", one, one)
    assert redefined("it", in_main(one), in_main(one))
    assert not redefined("it", in_main(one), in_main(other))


def cell(value: float) -> Any:
    """A plugin whose class is defined each time this is called, as by a cell."""

    class Cell:
        @hookimpl
        def tt_kernel(self, op: Op) -> Any:
            return (lambda x, /: x * value) if op is tt.relu else None

    return in_main(Cell)()


def test_a_plugin_that_main_registers_again_replaces_the_old_one() -> None:
    _noticed.discard("plugin mine")
    manager.register(cell(2.0), "mine")
    with pytest.warns(UserWarning, match="plugin mine is defined again in __main__"):
        manager.register(cell(3.0), "mine")
    assert relu_of_one() == 3
    manager.unregister(name="mine")
    assert relu_of_one() == 1


def test_two_plugins_of_one_class_and_one_call_are_no_repeated_cell() -> None:
    class Scale:
        def __init__(self, by: float) -> None:
            self.by = by

        @hookimpl
        def tt_wrap_op(self, op: Op, call: Any) -> Any:
            return (lambda x: call(x) * self.by) if op is tt.relu else None

    scale = in_main(Scale)
    with tt.use(scale(2.0), scale(3.0)):
        assert relu_of_one() == 6
    assert relu_of_one() == 1


def test_a_replacement_that_fails_leaves_the_old_plugin() -> None:
    _noticed.add("plugin mine")
    manager.register(cell(2.0), "mine")
    broken = type("Cell", (), {"tt_kernel": hookimpl(lambda self, op: 1 / 0)})
    with pytest.raises(PluginError, match=r"fails when asked tt_kernel for \w+: ZeroDivisionError"):
        manager.register(in_main(broken)(), "mine")
    assert relu_of_one() == 2


def test_a_cell_that_uses_a_plugin_again_replaces_it_and_blocks_nest() -> None:
    _noticed.add("plugin Cell")
    for value in (2.0, 3.0, 4.0):
        tt.use(cell(value))
        assert relu_of_one() == value
    tt.disable("Cell")
    assert relu_of_one() == 1
    outer, inner = cell(2.0), cell(3.0)
    inner.__class__ = type(outer)
    with tt.use(outer), tt.use(inner):
        assert manager.is_registered(outer)
        assert manager.is_registered(inner)


# --- errors of plugins


def one_hook(name: str, answer: Any) -> Any:
    return type("Faulty", (), {name: hookimpl(answer)})()


def boom(*_: Any, **__: Any) -> Any:
    raise ZeroDivisionError("boom")


PLACE = r"\(test_plugins.py:\d+\)"


@pytest.mark.parametrize("error", [ZeroDivisionError("boom"), ValueError("boom")])
def test_an_error_in_a_plugins_kernel_names_op_and_plugin(error: Exception) -> None:
    def kernel(x: Any, /) -> Any:
        raise error

    faulty = one_hook("tt_kernel", lambda self, op: kernel if op is tt.relu else None)
    with tt.use(faulty), pytest.raises(PluginError, match=rf"^plugin Faulty: its kernel of relu raises .*boom {PLACE}"):
        relu_of_one()
    with tt.use(faulty), pytest.raises(PluginError) as caught:
        relu_of_one()
    assert caught.value.__cause__ is error


def test_an_error_of_the_user_is_the_same_with_a_plugins_kernel() -> None:
    faulty = one_hook("tt_kernel", lambda self, op: boom if op is tt.matmul else None)
    with pytest.raises(ShapeError) as plain:
        tt.zeros(2, 3) @ tt.zeros(2, 3)
    with tt.use(faulty), pytest.raises(ShapeError) as plugged:
        tt.zeros(2, 3) @ tt.zeros(2, 3)
    assert str(plain.value) == str(plugged.value)


def wrapping(function: Any) -> Any:
    def tt_wrap_op(self: Any, op: Op, call: Any) -> Any:
        def wrapped(*inputs: Any, **attributes: Any) -> Any:
            return function(call(*inputs, **attributes))

        return wrapped

    return tt_wrap_op


def test_an_error_in_a_wrap_names_op_and_plugin() -> None:
    with tt.use(one_hook("tt_wrap_op", wrapping(boom))):
        message = rf"^plugin Faulty: its wrap of relu raises ZeroDivisionError: boom {PLACE}"
        with pytest.raises(PluginError, match=message) as caught:
            relu_of_one()
    assert isinstance(caught.value.__cause__, ZeroDivisionError)


def test_an_error_in_an_observer_names_op_and_plugin() -> None:
    faulty = one_hook("tt_observe_op", lambda self, op: (lambda *call: boom()) if op is tt.add else None)
    message = rf"^plugin Faulty: its observer of add raises .*boom {PLACE}"
    with tt.use(faulty), pytest.raises(PluginError, match=message):
        tt.ones(1) + 1


def test_an_error_in_a_wrap_of_a_layer_names_layer_and_plugin() -> None:
    def tt_wrap_layer(self: Any, layer_type: Any, call: Any) -> Any:
        return (lambda *inputs: boom()) if layer_type is tt.ReLU else None

    message = rf"^plugin Faulty: its wrap of ReLU raises .*boom {PLACE}"
    with tt.use(one_hook("tt_wrap_layer", tt_wrap_layer)), pytest.raises(PluginError, match=message):
        tt.ReLU()(tt.ones(1))


def test_a_wrap_is_not_blamed_for_what_it_goes_around() -> None:
    @tt.op
    def broken(x: Any, /) -> Any:
        raise ZeroDivisionError("a bug")

    class Broken(tt.Layer):
        def forward(self, x: Any) -> Any:
            raise KeyError("another")

    def tt_wrap_layer(self: Any, layer_type: Any, call: Any) -> Any:
        return lambda *inputs: call(*inputs)

    both = type("Both", (), {"tt_wrap_op": hookimpl(wrapping(lambda x: x)), "tt_wrap_layer": hookimpl(tt_wrap_layer)})
    with tt.use(both()):
        with pytest.raises(ZeroDivisionError, match="a bug"):
            broken(tt.ones(1))
        with pytest.raises(KeyError, match="another"):
            Broken()(tt.ones(1))
        with pytest.raises(ShapeError, match=r"^add: "):
            tt.ones(2) + tt.ones(3)


@pytest.mark.parametrize("hook", ["tt_report", "tt_tensor_type", "tt_modules", "tt_samples"])
def test_a_hook_that_raises_names_hook_and_plugin(hook: str) -> None:
    faulty = one_hook(hook, lambda self: boom())

    def ask() -> None:
        manager.register(faulty, "faulty")
        manager.ask(hook)

    with pytest.raises(PluginError, match=rf"^plugin faulty fails when asked {hook}: .*boom {PLACE}"):
        ask()


def test_an_error_for_users_passes_as_it_is() -> None:
    def refuse(self: Any, op: Op) -> Any:
        raise ShapeError("as the plugin says")

    with pytest.raises(ShapeError, match=r"^as the plugin says$"):
        tt.use(one_hook("tt_kernel", refuse))


# --- what ops say of themselves


def test_ops_are_random_and_views_as_they_declare() -> None:
    ours = {name: op for name, op in registry.items() if op.kernel.__module__.startswith("tt_core.")}
    assert misdeclared(ours) == {}


def test_what_is_declared_wrongly_is_found() -> None:
    tt.op(name="hidden_view")(lambda x, /: x)
    tt.op(name="hidden_random")(lambda x, /: x + tt.generator().random())
    tt.op(name="no_view", view=True)(lambda x, /: x + 1)
    tt.op(name="no_random", random=True)(lambda x, /: x + 1)
    samples = dict.fromkeys(("hidden_view", "hidden_random", "no_view", "no_random"), unary())
    assert misdeclared(samples, samples) == {
        "hidden_view": "shares memory with an input; declare it @op(view=True)",
        "hidden_random": "draws from the generator; declare it @op(random=True)",
        "no_view": "is declared view=True, but no sample shares memory with an input",
        "no_random": "is declared random=True, but no sample draws from the generator",
    }


def test_an_op_is_pure_unless_it_is_random() -> None:
    assert tt.relu.pure
    assert not tt.dropout.pure
    assert tt.dropout.random
    assert tt.reshape.view
    assert not tt.relu.view


# --- phases, speed


def test_phases_nest() -> None:
    assert tt.phase() == "forward"
    with in_phase("backward"):
        with in_phase("recomputation"):
            assert tt.phase() == "recomputation"
        assert tt.phase() == "backward"
    assert tt.phase() == "forward"


def test_switching_asks_only_hooks_that_the_plugin_answers() -> None:
    asked = []
    with tt.use(one_hook("tt_wrap_op", lambda self, op, call: asked.append(op.name))):
        first = len(asked)
        assert set(asked) >= set(registry)  # and ops that were replaced in another test
        with tt.use(one_hook("tt_report", lambda self: None)):
            pass
        assert len(asked) == first


def test_switching_is_fast() -> None:
    """Coming and going bind each op once: measured beside that, the best of many tries of each."""

    def switch() -> None:
        with tt.use(Negative()):
            pass

    def seconds(run: Callable[[], None]) -> float:
        start = time.thread_time()
        run()
        return time.thread_time() - start

    taken = [(seconds(switch), seconds(bind_all)) for _ in range(20)]
    assert min(switching for switching, _ in taken) < 6 * min(binding for _, binding in taken)


def test_results_are_those_of_numpy_after_all() -> None:
    with tt.use(Negative()):
        pass
    assert np.array_equal(tt.relu(tt.tensor([-1.0, 2.0])).numpy(), [0, 2])


def answering(**hooks: Any) -> Any:
    """A plugin whose hooks are these functions."""
    return type("Mine", (), {name: staticmethod(hookimpl(call)) for name, call in hooks.items()})()


def endless(x: Any, /) -> Any:
    return tt.relu(tt.tensor(x))


@pytest.mark.parametrize(
    ("kernel", "said"),
    [
        (
            lambda x, /: None,
            "plugin Mine: its kernel of relu raises TypeError: its result is None; a kernel returns an",
        ),
        (lambda x, /: [1.0], r"plugin Mine: its kernel of relu raises TypeError: its result is \[1.0\]"),
        (endless, "plugin Mine: its kernel of relu recurses without end; a kernel calls relu.kernel on arrays"),
        (3, "plugin Mine answers tt_kernel for relu with 3; return a function or None"),
    ],
)
def test_a_kernel_that_is_none_is_told_with_its_plugin(kernel: Any, said: str) -> None:
    mine = answering(tt_kernel=lambda op: kernel if op is tt.relu else None)
    with pytest.raises(PluginError, match=said) as raised, tt.use(mine):
        tt.relu(tt.ones(1))
    assert str(raised.value).count("relu") <= 3


def test_an_op_of_the_users_says_what_it_must_return() -> None:
    @tt.op(name="of_the_test")
    def kernel(x: Any, /, scale: float = 1.0) -> Any:
        return [scale]

    with pytest.raises(
        TypeError, match=r"of_the_test: its result is \[1.0\]; a kernel returns an array .* \(x \(2,\)\)"
    ):
        kernel(tt.ones(2))


@pytest.mark.parametrize(
    ("hooks", "said"),
    [
        ({"tt_kernel": lambda operation: None}, "plugin Mine: tt_kernel takes op, not operation"),
        ({"tt_report": lambda text: None}, "plugin Mine: tt_report takes no argument, not text"),
        (
            {"tt_observe_op": lambda op: lambda op: None},
            r"its observer is called with \(op, inputs, attributes, output\)",
        ),
        ({"tt_observe_op": lambda op: 3}, "plugin Mine answers tt_observe_op for .* with 3; return a function or None"),
        ({"tt_wrap_op": lambda op, call: "x"}, "plugin Mine answers tt_wrap_op for .* with 'x'; return a function"),
    ],
)
def test_an_answer_that_cannot_be_used_is_told_when_it_is_plugged_in(hooks: dict[str, Any], said: str) -> None:
    with pytest.raises(PluginError, match=said):
        tt.use(answering(**hooks))
    assert tt.relu(tt.ones(1)).item() == 1


def test_a_wrap_that_does_not_take_the_ops_arguments_is_told_with_its_plugin() -> None:
    mine = answering(tt_wrap_op=lambda op, call: (lambda x: call(x)) if op is tt.softmax else None)
    with tt.use(mine), pytest.raises(PluginError, match="plugin Mine: its wrap of softmax raises TypeError"):
        tt.softmax(tt.ones(1))


def test_a_prepared_model_is_a_layer() -> None:
    said = "plugin Mine answers tt_prepare_model with 'x'; return a layer or None"
    with tt.use(answering(tt_prepare_model=lambda model, options: "x")), pytest.raises(PluginError, match=said):
        tt.prepare_model(tt.Linear(1, 1))


@pytest.mark.parametrize("names", ["jit,profiler", "jit+profiler", "jit profiler", "jit;profiler"])
def test_several_names_in_one_are_told_apart(names: str) -> None:
    with pytest.raises(
        PluginError, match=r"name several one by one: use\('a', 'b'\), --plugin a --plugin b, TT_PLUGINS"
    ):
        tt.use(names)
    with pytest.raises(PluginError, match="takes a plugin's name or a plugin, got"):
        tt.use(["jit", "profiler"])


def test_data_that_is_no_array_is_told_by_ops_that_cannot_use_it() -> None:
    x = tt.ones(2)
    x.data = tt.ones(2)  # type: ignore[assignment]
    for call in (lambda: x + 1, lambda: 2 * x):
        with pytest.raises(TypeError, match=r"the data of \w is a tensor of shape \(2,\), expected a NumPy array"):
            call()


def test_the_warning_about_a_repeated_definition_names_the_users_line(tmp_path: Path) -> None:
    script = tmp_path / "notebook.py"
    cell = "class Mine:\n    @tt.hookimpl\n    def tt_report(self): ...\n"
    script.write_text(f"import tt_core as tt\n{cell}tt.use(Mine())\n{cell}tt.use(Mine())\n", encoding="utf-8")
    done = subprocess.run([sys.executable, str(script)], capture_output=True, encoding="utf-8")
    assert "notebook.py:9: UserWarning: plugin Mine is defined again in __main__" in done.stderr
