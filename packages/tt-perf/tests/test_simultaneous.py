"""Plugins, captured steps and compiled kernels that several threads reach at once, paused at the critical point."""

from __future__ import annotations

import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

import tt_core as tt
import tt_learn
from tt_core import hookimpl, manager
from tt_learn import SGD, Tensor
from tt_perf import capture
from tt_perf.acceleration import jit as jit_module
from tt_perf.acceleration.capture import captured as captured_module
from tt_perf.acceleration.capture import hooks, traced
from tt_perf.acceleration.capture.captured import CaptureWarning
from tt_perf.acceleration.capture.program import Program
from tt_perf.acceleration.jit import JitPlugin
from tt_perf.kernels.decoding import hook as decoding_hook
from tt_perf.profiling import memory


def elsewhere(function: Callable[[], object]) -> None:
    """Runs `function` in another thread until it ends."""
    thread = threading.Thread(target=function)
    thread.start()
    thread.join(60)
    assert not thread.is_alive()


class Negative:
    """A plugin: another relu."""

    @hookimpl
    def tt_kernel(self, op: Any) -> Any:
        return (lambda x, /: -x) if op is tt.relu else None


@pytest.fixture(autouse=True)
def same_plugins() -> Iterator[None]:
    manager.load_pending()
    before = manager.get_plugins()
    yield
    for plugin in manager.get_plugins() - before:
        manager.unregister(plugin)


# --- optimizers


def test_an_optimizer_steps_while_another_thread_plugs_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """What it has asked plugins is dropped between the question and the use of the answer."""
    weight = Tensor([1.0], requires_grad=True)
    optimizer, ask, left = SGD([weight], lr=0.5), manager.ask, [1]

    def slowly(hook: str, /, **given: Any) -> Any:
        answer = ask(hook, **given)
        if hook == "tt_update" and left:
            left.pop()
            elsewhere(lambda: tt.use(Updates()))
        return answer

    class Updates:
        @hookimpl
        def tt_update(self, optimizer: Any) -> Any:
            return update

    def update(optimizer: Any, p: Any, g: Any, state: Any, step: int, group: Any) -> None:
        p -= 10

    manager.rebind({"tt_update"})
    monkeypatch.setattr(manager, "ask", slowly)
    for _ in range(2):
        weight.grad = tt.tensor([1.0])
        optimizer.step()
    assert weight.item() == 1.0 - 0.5 - 10  # the second step runs the plugin's update


# --- capture


def forward(layer: Any) -> Any:
    def step(x: Any) -> Any:
        with tt_learn.no_grad():
            return tt.relu(layer(x))

    return step


def test_a_step_that_was_refused_may_call_another_captured_step() -> None:
    """It must not wait for the recording that it is part of."""
    layer = tt.Linear(2, 2)
    inner = capture(forward(layer))

    @capture
    def outer(x: Any) -> Any:
        with tt_learn.no_grad():
            y = layer(x)
            assert y.sum().item() < 100  # which ends the recording
        return inner(y)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CaptureWarning)
        results = [outer(tt.ones(1, 2)).tolist() for _ in range(4)]
    assert results == [results[0]] * 4


def test_a_step_that_waits_for_another_thread_is_recorded_without_a_deadlock() -> None:
    """Two threads wait for each other inside of their steps, as two processes do that add up gradients."""
    met = threading.Barrier(2, timeout=60)

    def work(seed: int) -> list[float]:
        tt.manual_seed(seed)
        layer = tt.Linear(2, 2)

        def step(x: Any) -> Any:
            with tt_learn.no_grad():
                y = layer(x)
            met.wait()
            return y

        with warnings.catch_warnings():
            warnings.simplefilter("ignore", CaptureWarning)
            return [*capture(step)(tt.ones(1, 2)).data.ravel().tolist()]

    with ThreadPoolExecutor(2) as pool:
        assert len(list(pool.map(work, range(2), timeout=60))) == 2


def test_a_plugin_that_comes_while_a_recording_begins_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """The thread that records takes its own coming and going for no change, and nobody else's."""
    layer = tt.Linear(2, 2)
    known, new = capture(forward(layer)), capture(forward(layer))
    x = tt.tensor([[1.0, 2.0]])
    for _ in range(3):
        plain = known(x)
    assert known.replayed == 1
    register, left = manager.register, [1]

    def slowly(plugin: object, name: str | None = None) -> Any:
        if plugin is hooks._hooks and left:
            left.pop()
            elsewhere(lambda: register(Negative()))
        return register(plugin, name)

    monkeypatch.setattr(manager, "register", slowly)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CaptureWarning)  # plugins come or go in it
        new(x)
    assert known(x).tolist() == (-(x.data @ layer.weight.data.T + layer.bias.data)).tolist()
    assert known(x).tolist() != plain.tolist()


def test_a_plugin_that_comes_between_recording_and_plan_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    layer, x, left = tt.Linear(2, 2), tt.tensor([[1.0, 2.0]]), [2]
    record = captured_module.record

    def slowly(*given: Any) -> Any:
        found = record(*given)
        left[0] -= 1
        if not left[0]:
            elsewhere(lambda: manager.register(Negative()))
        return found

    monkeypatch.setattr(captured_module, "record", slowly)
    step = capture(forward(layer))
    step(x), step(x)
    negative = (-(x.data @ layer.weight.data.T + layer.bias.data)).tolist()
    assert [step(x).tolist() for _ in range(3)] == [negative] * 3


def test_a_tensor_of_another_thread_does_not_stay_a_traced_one() -> None:
    """It looks up the class of results before a recording ends, and makes the tensor afterwards."""
    late = object.__new__(traced.Traced)
    late.data = np.ones(2)
    assert type(late) is Tensor
    assert late.tolist() == [1.0, 1.0]


def test_a_tensor_that_is_noted_after_the_end_of_a_recording_is_an_ordinary_one() -> None:
    layer, found = tt.Linear(2, 2), []

    @capture
    def step(x: Any) -> Any:
        with tt_learn.no_grad():
            found.append(traced.recording.recorder)
            return layer(x)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CaptureWarning)
        step(tt.ones(1, 2))
    late = object.__new__(traced.Traced)
    found[0].made(late)
    assert type(late) is Tensor


def test_an_interruption_while_tensors_become_traced_leaves_ordinary_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    layer = tt.Linear(2, 2)

    class Interrupting(traced._Recording):
        def __setattr__(self, name: str, value: object) -> None:
            if name == "recorder" and value is not None:
                raise KeyboardInterrupt
            super().__setattr__(name, value)

    module = sys.modules["tt_perf.acceleration.capture.record"]  # its name is that of a function as well
    monkeypatch.setattr(module, "recording", Interrupting())
    step = capture(forward(layer))
    with pytest.raises(KeyboardInterrupt):
        step(tt.ones(1, 2))
    assert type(layer.weight) is Tensor
    assert not manager.has_plugin("capture-recorder")


# --- jit


def test_kernels_are_all_there_when_a_second_thread_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    """BLAS has changed, so the kernels are made again; a second thread must not get those of before."""
    plugin, made = JitPlugin(dict), []

    def kernels(functions: Any) -> dict[str, Any]:
        made.append(len(made))
        if len(made) == 2:
            other.start()
            other.join(0.2)  # it waits
        return {"relu": made[-1]}

    for name in ("convolutions_from", "pools_from", "norms_from", "sums_from", "products_from", "pairs_from"):
        monkeypatch.setattr(jit_module, name, lambda functions: {})
    monkeypatch.setattr(jit_module, "updates_from", lambda functions: {})
    monkeypatch.setattr(jit_module, "kernels_from", kernels)
    answers: list[Any] = []
    other = threading.Thread(target=lambda: answers.append(plugin.tt_kernel(tt.relu)))
    assert plugin.tt_kernel(tt.relu) == 0
    monkeypatch.setattr(jit_module, "find_blas", lambda: "another")
    assert plugin.tt_kernel(tt.relu) == 1
    other.join(60)
    assert answers == [1]


def test_whether_a_plugin_watches_is_asked_again_after_a_change() -> None:
    before = decoding_hook._watching(decoding_hook._HOOKS)
    with tt.use(Negative()):
        assert decoding_hook._watching(decoding_hook._HOOKS) == "Negative"
    assert decoding_hook._watching(decoding_hook._HOOKS) == before


def test_an_interruption_between_memory_and_address_leaves_no_stale_address() -> None:
    """The table of a program must never hold the address of memory that is freed."""

    class Layout:
        shape, dtype = (2,), np.dtype(np.float32)

    class Interrupted(Program):
        interrupt = True

        def __init__(self) -> None:
            self.given, self.made, self._kept = [], [(0, Layout(), [(0, 0)])], [None]  # type: ignore[list-item]
            self.pointed: list[int] = []

        def _point(self, cells: Any, x: Any) -> None:
            if self.interrupt:
                self.interrupt = False
                raise KeyboardInterrupt
            self.pointed.append(x.ctypes.data)
            raise StopIteration  # before the compiled code, which is not part of this test

    program = Interrupted()
    with pytest.raises(KeyboardInterrupt):
        program._attempt([None])
    with pytest.raises(StopIteration):
        program._attempt([None])
    assert len(program.pointed) == 1  # the address was written again


# --- the profiler


def test_memory_that_two_threads_see_at_once_is_counted_once(monkeypatch: pytest.MonkeyPatch) -> None:
    watched, held, left = memory.Memory(), memory._Held, [1]
    arrays = [np.zeros(1000)]

    def watch(name: str) -> None:
        watched.watch(arrays[0], "activations", name)

    def slowly(*given: Any) -> Any:
        if left:
            left.pop()
            elsewhere(lambda: watch("first"))
        return held(*given)

    monkeypatch.setattr(memory, "_Held", slowly)
    watch("second")
    assert watched.total == arrays[0].nbytes
    arrays.clear()
    assert watched.total == 0
