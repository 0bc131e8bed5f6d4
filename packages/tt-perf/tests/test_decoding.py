"""Module 18: a token of a GPT as one compiled call gives what the ops give, and leaves to them what is not its own."""

from __future__ import annotations

import dataclasses
import gc
import threading
import weakref
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

import tt_core as tt
from tt_core.engine.plugins import manager
from tt_language import GPT, GPTConfig, generate
from tt_learn import no_grad
from tt_perf import (
    Int4WeightOnly,
    Int8DynamicActivation,
    Int8WeightOnly,
    KVCache,
    KVCachePlugin,
    StaticCache,
    low_rank_,
    prune_,
    quantize_,
)
from tt_perf.acceleration import JitPlugin
from tt_perf.kernels.decoding import hook, session
from tt_perf.kernels.decoding.hook import Decoding

pytest.importorskip("numba")

GPT2 = GPTConfig(vocab_size=301, block_size=64, n_layer=2, n_head=4, n_embd=128)
LLAMA = GPTConfig(
    vocab_size=301, block_size=64, n_layer=2, n_head=8, n_kv_head=2, n_embd=128, position="rotary", norm="rms",
    mlp="swiglu", bias=False, tie_weights=False,
)  # fmt: skip
PARALLEL = GPTConfig(vocab_size=77, block_size=32, n_layer=2, n_head=2, n_embd=46, parallel=True, mlp="gelu")
PLAIN = GPTConfig(
    vocab_size=77, block_size=32, n_layer=1, n_head=2, n_kv_head=1, n_embd=20, mlp="relu", position="none"
)
CONFIGS = {"gpt2": GPT2, "llama": LLAMA, "parallel": PARALLEL, "plain": PLAIN}
QUANTIZED = {
    "int8": Int8WeightOnly(), "int4": Int4WeightOnly(64), "int4 by 32": Int4WeightOnly(32),
    "int8 dynamic": Int8DynamicActivation(),
}  # fmt: skip


@pytest.fixture
def decoding() -> Iterator[Decoding]:
    """The plugin `jit`, a new one."""
    plugin = JitPlugin()
    manager.register(plugin, "jit")
    yield plugin._decoding
    manager.unregister(name="jit")


def model_of(config: GPTConfig) -> GPT:
    """A model whose biases and norms are not those of the beginning, with logits that are not small."""
    tt.manual_seed(0)
    model, random = GPT(config).eval(), np.random.default_rng(0)
    for parameter in model.parameters():
        if parameter.ndim == 1:
            parameter.data += 0.1 * random.standard_normal(parameter.shape, np.float32)
        parameter.data *= 1.5
    return model


def logits(model: GPT, cache: Any, rows: int = 1, tokens: int = 6, plain: bool = False) -> np.ndarray:
    """The logits of some tokens after a prompt of 5, computed with `cache`; `plain` hides the plugin."""
    random = np.random.default_rng(1)
    ids = random.integers(0, model.config.vocab_size, (rows, 5 + tokens))
    found: list[np.ndarray] = []
    with no_grad(), tt.use(*[Watching()] * plain):
        model(tt.tensor(ids[:, :5]), past=cache)
        found += [model(tt.tensor(ids[:, i : i + 1]), past=cache).data[:, 0] for i in range(5, 5 + tokens)]
    return np.stack(found)


class Watching:
    """A plugin that must see each op, so that nothing is left out."""

    @tt.hookimpl
    def tt_observe_op(self, op: Any) -> Any:
        return lambda op, inputs, attributes, output: None


def both(decoding: Decoding, model: GPT, rows: int = 1, **options: Any) -> float:
    """The largest difference of logits, of which the covered ones must all be one call."""
    wanted = logits(model, KVCache(rows=rows, **options), rows, plain=True)
    assert not decoding.tokens
    found = logits(model, KVCache(rows=rows, **options), rows)
    assert decoding.tokens == len(found)
    assert np.abs(wanted).max() > 0.1
    return float(np.abs(wanted - found).max())


@pytest.mark.parametrize("rows", [1, 5])
@pytest.mark.parametrize("name", CONFIGS)
def test_a_token_in_one_call_gives_the_logits_of_the_ops(decoding: Decoding, name: str, rows: int) -> None:
    assert both(decoding, model_of(CONFIGS[name]), rows) <= 1e-5


@pytest.mark.parametrize("rows", [1, 3])
@pytest.mark.parametrize("how", QUANTIZED)
@pytest.mark.parametrize("name", ["gpt2", "llama", "parallel"])
def test_a_token_of_a_quantized_model(decoding: Decoding, name: str, how: str, rows: int) -> None:
    model = model_of(CONFIGS[name])
    quantize_(model, QUANTIZED[how], verbose=False)
    # a quotient near a half is rounded the other way by another order of sums, where inputs are rounded too
    assert both(decoding, model, rows) <= (0.1 if how == "int8 dynamic" else 1e-4)


@pytest.mark.parametrize("options", [{"window": 4, "keep": 2}, {"dtype": "int8"}, {"window": 4, "dtype": "int8"}])
def test_a_token_with_other_caches(decoding: Decoding, options: dict[str, Any]) -> None:
    assert both(decoding, model_of(LLAMA), 2, **options) <= 1e-4


def test_the_comparison_finds_a_difference(decoding: Decoding) -> None:
    model = model_of(GPT2)
    wanted = logits(model, KVCache(), plain=True)
    for change in (lambda p: p.data.fill(0), lambda p: p.data.__imul__(1.001)):
        change(model.blocks[1].mlp.up.weight)
        assert np.abs(wanted - logits(model, KVCache())).max() > 1e-4


def test_generate_chooses_the_same_tokens(decoding: Decoding) -> None:
    model, prompts = model_of(dataclasses.replace(LLAMA, block_size=24)), [[1, 2, 3], [4, 5], [6, 7, 8, 9]]
    plain = generate(model, prompts, 40, temperature=0)
    with tt.use(KVCachePlugin()):
        assert generate(model, prompts, 40, temperature=0) == plain
        assert decoding.tokens > 30
        assert generate(model, prompts, 12, num_beams=3) == generate(model, prompts, 12, num_beams=3)
        ended = generate(model, prompts, 40, temperature=0, stop=[plain[0][3]])  # rows that end leave the batch
    assert ended == generate(model, prompts, 40, temperature=0, stop=[plain[0][3]])


def test_the_cache_grows_and_holds_what_ops_go_on_with(decoding: Decoding) -> None:
    model = model_of(dataclasses.replace(GPT2, block_size=600))
    texts = [[3] * 250]
    with tt.use(KVCachePlugin()):
        found = generate(model, texts, 100, temperature=0)
    assert found == generate(model, [texts[0]], 100, temperature=0)
    cache = KVCache()
    logits(model, cache)
    assert cache.length == 11
    assert [len(text) for text in cache.tokens] == [11]
    with no_grad():
        two = model(tt.tensor([[1, 2]]), past=cache).data[0]  # two tokens are a prompt, op by op
    again = KVCache()
    logits(model, again, plain=True)
    with no_grad():
        wanted = model(tt.tensor([[1, 2]]), past=again).data[0]
    assert np.abs(two - wanted).max() < 1e-5


def test_a_static_cache_that_is_full_refuses(decoding: Decoding) -> None:
    model = model_of(GPT2)
    with pytest.raises(ValueError, match="8 positions"):
        logits(model, StaticCache(GPT2, 7))


# --- guards


def reason_of(decoding: Decoding, model: GPT, cache: Any = None) -> str:
    """Why tokens of `model` are computed op by op; the logits are those of the ops all the same."""
    found = logits(model, KVCache() if cache is None else cache)
    (reason,) = decoding.left
    decoding.left.clear()
    assert np.isfinite(found).all()
    assert not decoding.tokens
    return reason


def test_other_models_are_left_to_the_ops(decoding: Decoding) -> None:
    class Doubled(tt.Linear):
        def forward(self, x: Any) -> Any:
            return super().forward(x) * 2

    model = model_of(GPT2)
    model.blocks[0].mlp.up = Doubled(128, 512)
    assert "Doubled" in reason_of(decoding, model)
    model = model_of(GPT2)
    low_rank_(model, rank=8)
    assert "LowRankLinear" in reason_of(decoding, model)
    model = model_of(GPT2)
    model.norm = tt.Identity()
    assert "Identity" in reason_of(decoding, model)
    model = model_of(GPT2)
    model.blocks[1].mlp.down = tt.Linear(512, 64)
    with pytest.raises(ValueError, match="128"):
        logits(model, KVCache())


def test_float64_and_training_are_left_to_the_ops(decoding: Decoding) -> None:
    assert reason_of(decoding, model_of(GPT2).double())
    model = model_of(GPT2)
    model.blocks[0].train()
    assert "training" in reason_of(decoding, model)
    assert "training" in reason_of(decoding, model.train())


def test_hooks_on_layers_are_called(decoding: Decoding) -> None:
    model, seen = model_of(GPT2), []
    handle = model.blocks[1].mlp.register_forward_hook(lambda *_: seen.append(1))
    assert "hooks" in reason_of(decoding, model)
    assert len(seen) == 7
    handle.remove()
    logits(model, KVCache())
    assert decoding.tokens == 6


def test_a_forward_that_is_replaced_is_called(decoding: Decoding) -> None:
    model, seen = model_of(GPT2), []
    logits(model, KVCache())
    before, layer = decoding.tokens, model.blocks[1].mlp
    layer.forward = lambda x: [seen.append(1), type(layer).forward(layer, x)][1]
    logits(model, KVCache())
    assert (decoding.tokens, len(seen)) == (before, 7)


def test_gradients_are_left_to_the_ops(decoding: Decoding) -> None:
    model, cache = model_of(GPT2).requires_grad_(False), KVCache()
    model(tt.tensor([[1, 2]]), past=cache)
    model(tt.tensor([[1]]), past=cache)
    assert list(decoding.left) == ["gradients"]


def test_plugins_that_see_each_op_still_do(decoding: Decoding) -> None:
    model = model_of(GPT2)
    with tt.use(Watching()):
        assert "sees each op" in reason_of(decoding, model)
    logits(model, KVCache())
    assert decoding.tokens == 6


def test_input_that_ops_refuse_is_refused(decoding: Decoding) -> None:
    model, cache = model_of(GPT2), KVCache()
    with no_grad():
        model(tt.tensor([[1, 2]]), past=cache)
        for wrong in ([[301]], [[-1]]):
            with pytest.raises(IndexError):
                model(tt.tensor(wrong), past=cache)
        with pytest.raises(TypeError):
            model(tt.tensor([[1.0]]), past=cache)


def test_weights_that_change_are_seen_by_the_next_token(decoding: Decoding) -> None:
    def run(cache: KVCache) -> list[np.ndarray]:
        model, found = model_of(GPT2), []
        token = tt.tensor([[7]])
        with no_grad():
            model(tt.tensor([[1, 2]]), past=cache)
            found.append(model(token, past=cache).data)
            model.blocks[0].mlp.up.weight.mul_(0.5)
            found.append(model(token, past=cache).data)
            model.blocks[1].mlp.up.weight.data = model.blocks[1].mlp.up.weight.data * 2
            found.append(model(token, past=cache).data)
            model.blocks[1].mlp = model.blocks[0].mlp
            found.append(model(token, past=cache).data)
            prune_(model, 0.5)
            found.append(model(token, past=cache).data)
        return found

    with tt.use(Watching()):
        wanted = run(KVCache())
    found = run(KVCache())
    assert decoding.tokens >= 4
    for a, b in zip(wanted, found):
        assert np.abs(a - b).max() < 1e-5


def test_input_that_is_not_finite_stays_so(decoding: Decoding) -> None:
    for how in (None, *QUANTIZED.values()):
        for value in (np.nan, np.inf):
            model = model_of(GPT2)
            if how is not None:
                quantize_(model, how, verbose=False)
            model.blocks[0].mlp.down.bias.data[3] = value
            with np.errstate(all="ignore"):
                cache = KVCache()
                with no_grad():
                    model.blocks[0].mlp.down.bias.data[3] = 0
                    model(tt.tensor([[1, 2]]), past=cache)
                    model.blocks[0].mlp.down.bias.data[3] = value
                    assert not np.isfinite(model(tt.tensor([[1]]), past=cache).data).any()
    assert decoding.tokens == 2 * (1 + len(QUANTIZED))


# --- threads


def test_results_do_not_depend_on_threads(decoding: Decoding, monkeypatch: pytest.MonkeyPatch) -> None:
    model, found = model_of(LLAMA), []
    monkeypatch.setattr(session, "_ALONE", 0)
    session._helpers.cache_clear()
    for count in (1, 2, 5):
        monkeypatch.setattr(session, "get_num_threads", lambda count=count: count)
        found.append(logits(model, KVCache(rows=3), 3, tokens=20))
        session._helpers.cache_clear()
    assert decoding.tokens == 60
    assert np.array_equal(found[0], found[1])
    assert np.array_equal(found[0], found[2])


def test_a_thread_that_never_comes_holds_nobody_up(decoding: Decoding, monkeypatch: pytest.MonkeyPatch) -> None:
    model, free = model_of(GPT2), threading.Event()
    wanted = logits(model, KVCache())
    monkeypatch.setattr(session, "_ALONE", 0)
    monkeypatch.setattr(session, "get_num_threads", lambda: 2)
    session._helpers.cache_clear()
    blocked = session._helpers().submit(free.wait, 60)
    try:
        assert np.array_equal(logits(model, KVCache()), wanted)
        assert not blocked.done()
    finally:
        free.set()
        session._helpers.cache_clear()


def test_generations_at_the_same_time(decoding: Decoding) -> None:
    model = model_of(LLAMA)
    wanted, found = logits(model, KVCache(), tokens=20), {}

    def run(i: int) -> None:
        found[i] = logits(model, KVCache(), tokens=20)

    threads = [threading.Thread(target=run, args=(i,)) for i in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(np.array_equal(found[i], wanted) for i in range(3))


def test_nothing_is_kept_after_a_generation(decoding: Decoding) -> None:
    model, cache = model_of(GPT2), KVCache()
    logits(model, cache)
    known = weakref.ref(model), weakref.ref(cache)
    del model, cache
    gc.collect()
    assert [ref() for ref in known] == [None, None]
    assert not decoding._sessions


def test_a_thread_that_comes_late_keeps_neither_model_nor_cache(
    decoding: Decoding, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The helper's work of the first token waits in the queue while the generation ends and the model is dropped."""
    released = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        pool.submit(released.wait)
        monkeypatch.setattr(session, "_helpers", lambda: pool)
        monkeypatch.setattr(session, "get_num_threads", lambda: 2)
        model, cache = model_of(GPT2), KVCache()
        logits(model, cache)
        waiting = decoding._sessions[cache]._helping[0]  # type: ignore[union-attr]
        known = weakref.ref(model), weakref.ref(cache)
        del model, cache
        gc.collect()
        kept = [ref() for ref in known]
        released.set()
    assert kept == [None, None]
    assert waiting is not None
    assert waiting.exception() is None


def test_the_memory_of_an_interrupted_token_is_kept_for_late_threads(
    decoding: Decoding, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C comes before this thread has begun, so a helper computes the whole token, by addresses."""
    released, compiled = threading.Event(), decoding._compiled()

    def run(*given: Any) -> None:
        if threading.current_thread() is threading.main_thread():
            raise KeyboardInterrupt
        compiled(*given)

    monkeypatch.setattr(decoding, "_compiled", lambda: run)
    monkeypatch.setattr(session, "_ALONE", 0)
    with ThreadPoolExecutor(1) as pool:
        pool.submit(released.wait, 60)
        monkeypatch.setattr(session, "_helpers", lambda: pool)
        monkeypatch.setattr(session, "get_num_threads", lambda: 2)
        model, cache = model_of(GPT2), KVCache()
        with pytest.raises(KeyboardInterrupt):
            logits(model, cache)
        assert not decoding._sessions  # the next token gets tables of its own
        known = [weakref.ref(part) for layer in cache._layers for part in layer.keys.parts]
        del model, cache
        gc.collect()
        kept = [ref() is not None for ref in known]
        released.set()
    gc.collect()
    assert kept == [True] * len(known)
    assert not any(ref() is not None for ref in known)


def test_the_report_names_reasons_once(decoding: Decoding) -> None:
    assert decoding.report() is None
    logits(model_of(GPT2).double(), KVCache())
    assert "op by op: 6 for " in (decoding.report() or "")
    assert decoding.report() is None


def test_more_texts_than_a_program_takes(decoding: Decoding) -> None:
    logits(model_of(PLAIN), KVCache(rows=hook.MOST_ROWS + 1), hook.MOST_ROWS + 1)
    assert list(decoding.left) == [f"more than {hook.MOST_ROWS} texts"]
