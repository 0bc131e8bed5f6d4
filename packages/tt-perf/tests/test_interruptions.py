"""An interruption at any op of a step, or of a generation, leaves nothing behind: the next one gives the usual bits."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import tt_core as tt
from tt_core import hookimpl, manager
from tt_core.engine.phases import phase
from tt_language import GPT, GPTConfig, generate, next_token_loss
from tt_learn import Adam, Tensor, clip_grad_norm_, is_grad_enabled
from tt_perf import capture
from tt_perf.acceleration.capture.captured import CaptureWarning
from tt_perf.acceleration.jit import JitPlugin
from tt_perf.memoization import KVCachePlugin, MemoizePlugin
from tt_perf.quantization import Int8WeightOnly
from tt_perf.quantization.plugin import QuantizePlugin

CONFIG = GPTConfig(vocab_size=11, block_size=12, n_layer=1, n_head=2, n_embd=8)


class Interrupting:
    """A plugin: the kernel that would run anyway, and Ctrl-C at the call with number `at` of those that follow."""

    def __init__(self) -> None:
        self.count, self.at = 0, -1
        self._asking = False
        self._made: dict[Any, Any] = {}

    @hookimpl(tryfirst=True)
    def tt_kernel(self, op: Any) -> Any:
        if self._asking:
            return None
        self._asking = True
        try:
            kernel = manager.answers("tt_kernel", op=op) or op.kernel
        finally:
            self._asking = False
        if (op.name, kernel) not in self._made:
            self._made[op.name, kernel] = self._interrupted(kernel)
        return self._made[op.name, kernel]

    def _interrupted(self, kernel: Any) -> Any:
        def interrupted(*arrays: Any, **attributes: Any) -> Any:
            self.count += 1
            if self.count - 1 == self.at:
                raise KeyboardInterrupt
            return kernel(*arrays, **attributes)

        interrupted.residuals = getattr(kernel, "residuals", ())  # type: ignore[attr-defined]
        interrupted.checks = getattr(kernel, "checks", False)  # type: ignore[attr-defined]
        interrupted.__module__ = kernel.__module__
        return interrupted

    def calls_of(self, run: Callable[[], object]) -> int:
        """How many kernels a run calls."""
        self.count, self.at = 0, -1
        run()
        return self.count

    def interrupt(self, at: int, run: Callable[[], Any]) -> Any:
        """Runs it until the call `at`; returns what it gives if it makes no such call, else None."""
        self.count, self.at = 0, at
        try:
            return run()
        except KeyboardInterrupt:
            return None
        finally:
            self.at = -1


@pytest.fixture
def interrupting() -> Iterator[Interrupting]:
    manager.load_pending()
    before = manager.get_plugins()
    plugin = Interrupting()
    with warnings.catch_warnings(), tt.use(plugin):
        warnings.simplefilter("ignore", CaptureWarning)
        yield plugin
    assert manager.get_plugins() == before
    assert is_grad_enabled()
    assert phase() == "forward"


def model_of() -> GPT:
    tt.manual_seed(0)
    return GPT(CONFIG)


def training(model: GPT) -> Callable[[Any, Any], Any]:
    optimizer = Adam(model.parameters(), lr=0.01)

    def step(ids: Any, following: Any) -> Any:
        optimizer.zero_grad()
        loss = next_token_loss(model(ids), following)
        loss.backward()
        clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        return loss

    return step


def batch(number: int) -> tuple[Any, Any]:
    ids = np.random.default_rng(number).integers(0, 11, (2, 7))
    return tt.tensor(ids[:, :-1]), tt.tensor(ids[:, 1:])


def state_of(model: GPT) -> dict[str, bytes]:
    return {name: x.data.tobytes() for name, x in model.state_dict().items()}


def interrupted_everywhere(plugin: Interrupting, calls: int, run: Callable[[], Any], every: int = 1) -> Any:
    """What a run gives after it was interrupted at each of so many calls, or at every second or third."""
    for at in range(0, calls, every):
        result = plugin.interrupt(at, run)
        if result is not None:  # a replay makes fewer calls
            return result
    return run()


def _note(found: list[float], step: Callable[..., Any], data: tuple[Any, Any]) -> None:
    found.append(step(*data).item())


@pytest.mark.parametrize("with_jit", [False, True], ids=["numpy", "jit"])
@pytest.mark.parametrize("captured", [False, True], ids=["as written", "captured"])
def test_a_step_after_an_interrupted_one_gives_the_usual_bits(
    interrupting: Interrupting, with_jit: bool, captured: bool
) -> None:
    """The first steps are recorded, the later ones replayed."""
    if with_jit:
        pytest.importorskip("numba")
    with tt.use(*[JitPlugin()] * with_jit, report=False):
        model, twin = model_of(), model_of()
        step, usual = training(model), training(twin)
        if captured:
            step = capture(step)
        for number in range(5):
            data = batch(number)
            wanted: list[float] = []
            calls = interrupting.calls_of(functools.partial(_note, wanted, usual, data))
            run = functools.partial(step, *data)
            found = interrupted_everywhere(interrupting, calls, run, 3 if captured else 2)
            assert [found.item()] == wanted
            assert state_of(model) == state_of(twin)
        for number in range(5, 9):
            assert step(*batch(number)).item() == usual(*batch(number)).item()
        assert state_of(model) == state_of(twin)
        assert all(type(p) is Tensor for p in model.parameters())
        if captured:
            assert step.replayed > 3  # type: ignore[attr-defined]


@pytest.mark.parametrize("with_jit", [False, True], ids=["numpy", "jit"])
@pytest.mark.parametrize("name", ["none", "kv-cache", "kv-cache-int8", "memoize", "int8"])
def test_a_generation_after_an_interrupted_one_gives_the_usual_text(
    interrupting: Interrupting, name: str, with_jit: bool
) -> None:
    if with_jit:
        pytest.importorskip("numba")
    plugins: dict[str, Callable[[], Any]] = {
        "none": JitPlugin, "kv-cache": lambda: KVCachePlugin(reuse=1),
        "kv-cache-int8": lambda: KVCachePlugin(reuse=1, dtype="int8"),
        "memoize": lambda: MemoizePlugin("linear", "softmax", "layer_norm"),
        "int8": lambda: QuantizePlugin("int8", Int8WeightOnly(), excludes=()),
    }  # fmt: skip

    def text(model: GPT) -> list[list[int]]:
        tt.manual_seed(1)
        return [list(ids) for ids in generate(model, [[1, 2, 3], [4, 5, 6, 7]], 8, temperature=1.0)]

    def made() -> list[Any]:
        return [plugins[name]()] * (name != "none") + [JitPlugin()] * with_jit

    model = model_of().eval()
    with tt.use(*made(), report=False):
        wanted = text(model)
        calls = interrupting.calls_of(lambda: text(model))
    with tt.use(*made(), report=False):
        assert interrupted_everywhere(interrupting, calls, lambda: text(model), every=2) == wanted
        assert text(model) == wanted
    assert not model.training
