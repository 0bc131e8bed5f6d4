"""What several threads reach at once, and what an interruption leaves; tests pause a thread at the critical point."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import tt_core as tt
from tt_core import hookimpl, manager
from tt_core.engine import arguments, mutation, plugins
from tt_core.engine.arguments import checked
from tt_core.engine.dispatch import Op, op, registry
from tt_core.engine.errors import PluginError
from tt_core.engine.plugins import Answers, snapshot


def elsewhere(function: Callable[[], object]) -> None:
    """Runs `function` in another thread until it ends."""
    thread = threading.Thread(target=function)
    thread.start()
    thread.join(60)
    assert not thread.is_alive()


class Doubling:
    """A plugin: relu gives twice its input."""

    @hookimpl
    def tt_kernel(self, op: Op) -> Any:
        return (lambda x, /: 2 * x) if op is tt.relu else None

    @hookimpl
    def tt_wrap_layer(self, layer_type: Any, call: Any) -> Any:
        return lambda layer, *inputs: call(layer, *inputs) * 2


@pytest.fixture(autouse=True)
def same_chains() -> Iterator[None]:
    manager.load_pending()
    before, chains = manager.get_plugins(), {name: defined.chain for name, defined in registry.items()}
    yield
    for plugin in manager.get_plugins() - before:
        manager.unregister(plugin)
    assert {name: defined.chain for name, defined in registry.items()} == chains


class Once:
    """A plugin whose first answer to `hook` comes while another thread does something."""

    def __init__(self, meanwhile: Callable[[], object]) -> None:
        self.left = [meanwhile]

    @hookimpl(tryfirst=True)
    def tt_wrap_op(self, op: Op, call: Any) -> None:
        if op is tt.relu and self.left:
            elsewhere(self.left.pop())

    @hookimpl(tryfirst=True)
    def tt_wrap_layer(self, layer_type: Any, call: Any) -> None:
        if layer_type is tt.Linear and self.left:
            elsewhere(self.left.pop())


def test_a_plugin_that_comes_while_another_one_is_bound_is_not_lost() -> None:
    doubling = Doubling()
    with tt.use(Once(lambda: manager.register(doubling))):
        assert tt.relu(tt.tensor([1.0])).tolist() == [2.0]
        manager.unregister(doubling)
    assert tt.relu(tt.tensor([1.0])).tolist() == [1.0]


def test_a_plugin_that_goes_while_another_one_is_bound_does_not_stay() -> None:
    doubling = Doubling()
    manager.register(doubling)
    with tt.use(Once(lambda: manager.unregister(doubling))):
        assert tt.relu(tt.tensor([1.0])).tolist() == [1.0]


def test_a_layer_and_an_op_that_are_defined_while_a_plugin_comes_see_it(monkeypatch: pytest.MonkeyPatch) -> None:
    doubling, chained = Doubling(), manager.chained

    def slowly(hook: str, value: Any, /, **given: Any) -> Any:
        found = chained(hook, value, **given)
        if not manager.is_registered(doubling):
            elsewhere(lambda: manager.register(doubling))
        return found

    monkeypatch.setattr(manager, "chained", slowly)

    class Late(tt.Layer):
        def forward(self, x: Any) -> Any:
            return x

    assert Late()(tt.tensor([1.0])).tolist() == [2.0]


def test_layers_may_be_defined_while_a_plugin_is_bound() -> None:
    def define() -> None:
        for _ in range(50):
            type("Made", (tt.Linear,), {})

    with tt.use(Once(define)):
        assert tt.Linear(1, 1)(tt.ones(1)).shape == (1,)


def test_a_snapshot_begins_again_after_a_change() -> None:
    class Changing(list[int]):
        def __iter__(self) -> Iterator[int]:
            if len(self) < 3:
                self.append(len(self))
                raise RuntimeError("changed size during iteration")
            return super().__iter__()

    assert snapshot(Changing()) == [0, 1, 2]


def test_an_answer_from_before_a_change_is_not_kept() -> None:
    doubling = Doubling()
    asked: list[int] = []

    def ask(key: str) -> bool:
        answer = manager.is_registered(doubling)
        asked.append(len(asked))
        if len(asked) == 1:
            elsewhere(lambda: manager.register(doubling))
        return answer

    answers = Answers(ask, {"tt_kernel"})
    try:
        assert answers("key") is False  # as it was when the question came
        assert answers("key") is True
        assert answers("key") is True
    finally:
        manager.rebinders.pop()
    assert len(asked) == 2


def test_an_answer_is_there_even_if_plugins_change_before_it_is_read() -> None:
    answers: Answers[str, int] = Answers(lambda key: elsewhere(answers._forget) or 3, {"tt_kernel"})
    manager.rebinders.pop()
    assert answers("key") == 3


def test_other_threads_wait_for_the_plugins_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first op of one thread loads them; an op of another thread must not run without them."""
    loading, found = threading.Event(), []
    doubling = Doubling()

    def load(name: str) -> bool:
        assert tt.relu(tt.tensor([1.0])).tolist() == [1.0]  # a plugin may run ops while it is imported
        other.start()
        loading.set()
        other.join(0.2)  # it waits
        manager.register(doubling, name)
        return True

    def late() -> None:
        loading.wait(60)
        found.append(tt.relu(tt.tensor([1.0])).tolist())

    other = threading.Thread(target=late)
    monkeypatch.setenv("TT_PLUGINS", "doubling")
    monkeypatch.setattr(plugins, "activate", load)
    monkeypatch.setattr(plugins, "_report_at_exit", lambda name: None)
    monkeypatch.setattr(manager, "environment", [])
    monkeypatch.setattr(manager, "pending", True)
    manager.rebind()
    tt.relu(tt.tensor([1.0]))
    other.join(60)
    assert found == [[2.0]]


@pytest.mark.parametrize("hook", ["tt_kernel", "tt_plugged"])
def test_an_interruption_while_a_plugin_comes_leaves_it_out(hook: str) -> None:
    class Slow(Doubling):
        stopped = False

        @hookimpl
        def tt_kernel(self, op: Op) -> Any:
            if hook == "tt_kernel" and op is tt.exp and not Slow.stopped:
                Slow.stopped = True
                raise KeyboardInterrupt
            return super().tt_kernel(op)

        @hookimpl
        def tt_plugged(self) -> None:
            if hook == "tt_plugged":
                raise KeyboardInterrupt

    slow = Slow()
    with pytest.raises(KeyboardInterrupt):
        tt.use(slow)
    assert not manager.is_registered(slow)
    assert tt.relu(tt.tensor([1.0])).tolist() == [1.0]
    assert not plugins._users


def test_an_interruption_while_a_plugin_goes_leaves_nothing_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    answers, left = manager.answers, [1]

    def interrupted(hook: str, /, **given: Any) -> Any:
        if hook == "tt_kernel" and given["op"] is tt.relu and left:
            left.pop()
            raise KeyboardInterrupt
        return answers(hook, **given)

    handle = tt.use(Doubling())
    monkeypatch.setattr(manager, "answers", interrupted)
    with pytest.raises(KeyboardInterrupt):
        handle.disable()
    assert tt.relu(tt.tensor([1.0])).tolist() == [1.0]


def test_a_report_that_raises_does_not_keep_other_plugins_on() -> None:
    class Broken(Doubling):
        @hookimpl
        def tt_report(self) -> str:
            raise KeyboardInterrupt

    class Other(Doubling):
        pass

    with pytest.raises(KeyboardInterrupt), tt.use(Other(), Broken()):
        pass
    assert not any(isinstance(plugin, Doubling) for plugin in manager.get_plugins())


def test_a_name_is_given_once() -> None:
    first, second = Doubling(), Doubling()
    manager.register(first, "same")
    with pytest.raises(PluginError, match="active already"):
        manager.register(second, "same")
    assert manager.get_plugin("same") is first


def test_two_threads_read_the_hints_of_a_function_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The second one must not append its own to what the first one has read."""

    @checked
    def function(first: int, *rest: str, name: str = "") -> int:
        return first

    read, calls = arguments._hints, []

    def hints(of: Any) -> Any:
        found = read(of)
        if not calls:
            calls.append(1)
            elsewhere(lambda: function(1, "a"))
        return found

    monkeypatch.setattr(arguments, "_hints", hints)
    assert function(1, "a", "b", name="x") == 1
    assert function(5, "a", "b", name="x") == 5


def test_who_sees_the_new_time_finds_the_change(monkeypatch: pytest.MonkeyPatch) -> None:
    """One thread pauses in the middle of noting a change, while another one asks for it."""
    array, owner, asked = np.zeros(2), mutation.owner, []
    moment = mutation.now()

    def ask() -> None:
        asked.append(mutation.now() == moment or mutation.changed_since(array, moment))

    def slowly(x: Any) -> Any:
        if not asked:
            asked.append(True)
            elsewhere(ask)
        return owner(x)

    monkeypatch.setattr(mutation, "owner", slowly)
    mutation.record(array)
    assert asked == [True, True]
    assert mutation.changed_since(array, moment)


def test_changes_of_many_threads_are_all_counted() -> None:
    before, array, interval = mutation.now(), np.zeros(2), sys.getswitchinterval()
    threads = [threading.Thread(target=lambda: [mutation.record(array) for _ in range(2000)]) for _ in range(4)]
    sys.setswitchinterval(1e-6)
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    assert mutation.now() == before + 8000


def test_one_op_in_many_threads() -> None:
    """A context can be entered once: the others take a new one."""
    entered, results = threading.Barrier(2, timeout=60), []

    @op
    def meeting(x: Any, /) -> Any:
        entered.wait()
        return x + 1

    try:
        threads = [threading.Thread(target=lambda i=i: results.append(meeting(i).item())) for i in (1, 2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        del registry["meeting"]
    assert sorted(results) == [2, 3]
