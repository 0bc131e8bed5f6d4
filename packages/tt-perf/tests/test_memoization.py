"""Module 17: a cache gives back what went in, follows its rows, and makes each token cost the same."""

from __future__ import annotations

import contextlib
import gc
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tt_core
import tt_learn
from tt_core.engine.plugins import manager
from tt_core.layers import Layer
from tt_language import GPT, GPTConfig, generate, next_token_loss, stream
from tt_language.transformers.window import Reader
from tt_learn import load_tensors, save_tensors
from tt_learn.autograd import GradientError
from tt_perf import Profiler
from tt_perf.memoization import (
    CacheError,
    DynamicCache,
    KVCache,
    KVCachePlugin,
    MemoizePlugin,
    StaticCache,
    load_prompt_cache,
    save_prompt_cache,
)
from tt_perf.memoization.cache import dtype_of
from tt_perf.memoization.memoizing import memo
from tt_perf.quantization.report import digest_of_arrays


def some(positions: int, rows: int = 2, first: float = 0.0) -> tt_core.Tensor:
    """(rows, 3 heads, positions, 4), each number another one."""
    count = rows * 3 * positions * 4
    return tt_core.tensor(first + np.arange(count, dtype=np.float32).reshape(rows, 3, positions, 4))


WATCHED = """
from tt_language import GPT, GPTConfig, generate

class Watched(GPT):
    def forward(self, ids, **options):
        print(ids.shape[1])
        return super().forward(ids, **options)

generate(Watched(GPTConfig(vocab_size=9, block_size=8, n_layer=1, n_head=1, n_embd=4)), [[1, 2, 3]], 3, seed=0)
"""


@pytest.mark.parametrize(("plugins", "read"), [("kv-cache", ["3", "1", "1"]), ("", ["3", "4", "5"])])
def test_the_variable_plugs_it_in_before_the_first_token(plugins: str, read: list[str]) -> None:
    environment = {**os.environ, "TT_PLUGINS": plugins}
    done = subprocess.run([sys.executable, "-c", WATCHED], env=environment, stdout=subprocess.PIPE, text=True)
    assert done.stdout.split() == read


def test_gives_back_all_that_went_in_oldest_first() -> None:
    cache, layer = KVCache(rows=2, length=8), Layer()
    parts = [some(3), some(1, first=100), some(2, first=200)]
    for part in parts:
        k, v = cache.extend(layer, part, part + 0.5)
    expected = np.concatenate([part.numpy() for part in parts], axis=2)
    np.testing.assert_array_equal(k.numpy(), expected)
    np.testing.assert_array_equal(v.numpy(), expected + 0.5)
    assert cache.length == 6


def test_each_layer_has_its_own() -> None:
    cache, one, two = KVCache(rows=2, length=4), Layer(), Layer()
    cache.extend(one, some(2), some(2))
    k, _ = cache.extend(two, some(2, first=50), some(2))
    np.testing.assert_array_equal(k.numpy(), some(2, first=50).numpy())
    assert cache.length == 2


def test_keeps_a_copy_of_what_it_is_given() -> None:
    cache, layer, k = KVCache(rows=2, length=4), Layer(), some(1)
    cache.extend(layer, k, k)
    k.data[:] = -1
    kept, _ = cache.extend(layer, some(1), some(1))
    np.testing.assert_array_equal(kept.numpy()[:, :, :1], some(1).numpy())


def test_grows_when_there_is_no_room_and_forgets_nothing() -> None:
    cache, layer = KVCache(rows=2, length=2), Layer()
    for position in range(9):
        k, v = cache.extend(layer, some(1, first=position), some(1, first=-position))
    assert k.shape == v.shape == (2, 3, 9, 4)
    np.testing.assert_array_equal(k.numpy()[0, 0, :, 0], np.arange(9))
    np.testing.assert_array_equal(v.numpy()[0, 0, :, 0], -np.arange(9))


def test_allocates_once_where_the_room_suffices() -> None:
    cache, layer = KVCache(rows=2, length=16), Layer()
    cache.extend(layer, some(3), some(3))
    bytes_at_first = cache.nbytes
    assert bytes_at_first == 2 * (2 * 3 * 16 * 4) * 4  # keys and values: rows, heads, room, size, float32
    for _ in range(13):
        cache.extend(layer, some(1), some(1))
    assert cache.nbytes == bytes_at_first


def test_another_batch_is_an_error() -> None:
    cache, layer = KVCache(rows=2, length=4), Layer()
    cache.extend(layer, some(2), some(2))
    with pytest.raises(tt_core.TinyTorchError, match="the cache holds 2 texts, got 1"):
        cache.extend(layer, some(1, rows=1), some(1, rows=1))


@pytest.mark.parametrize("rows", [[1, 0], [1, 1], [0], [1], [0, 1, 0], [1, 0, 1, 1, 0]], ids=str)
def test_rows_follow_a_selection(rows: list[int]) -> None:
    cache, layer = KVCache(rows=2, length=8), Layer()
    cache.extend(layer, some(2), some(2))
    cache.select(rows)
    new = some(1, rows=len(rows), first=500)
    k, v = cache.extend(layer, new, new)
    assert cache.rows == len(rows)
    for result in (k, v):
        np.testing.assert_array_equal(result.numpy()[:, :, :2], some(2).numpy()[rows])
        np.testing.assert_array_equal(result.numpy()[:, :, 2:], new.numpy())


def test_a_long_context_costs_nothing_until_it_is_used() -> None:
    cache, layer = KVCache(rows=4, length=1 << 40), Layer()
    cache.extend(layer, some(3, rows=1), some(3, rows=1))
    cache.select([0, 0, 0, 0])
    assert cache.nbytes < 1 << 20
    k, _ = cache.extend(layer, some(1, rows=4), some(1, rows=4))
    np.testing.assert_array_equal(k.numpy()[:, :, :3], np.repeat(some(3, rows=1).numpy(), 4, axis=0))


def test_rows_that_stay_are_not_copied_and_rows_that_end_give_memory_back() -> None:
    cache, layer = KVCache(rows=8, length=64), Layer()
    before, _ = cache.extend(layer, some(2, rows=8), some(2, rows=8))
    cache.select([0, 1, 2, 3, 4])
    after, _ = cache.extend(layer, some(1, rows=5), some(1, rows=5))
    assert np.shares_memory(before.data, after.data)
    allocated = cache.nbytes
    cache.select([4, 2])
    assert cache.nbytes == allocated / 4
    kept, _ = cache.extend(layer, some(1, rows=2), some(1, rows=2))
    np.testing.assert_array_equal(kept.numpy()[:, :, :2], some(2, rows=8).numpy()[[4, 2]])


def test_another_batch_may_follow_where_nothing_is_remembered() -> None:
    cache, layer = KVCache(rows=1, length=4), Layer()
    cache.extend(layer, some(2, rows=1), some(2, rows=1))
    cache.clear()
    k, _ = cache.extend(layer, some(2, rows=3), some(2, rows=3))
    np.testing.assert_array_equal(k.numpy(), some(2, rows=3).numpy())


def test_clear_forgets_and_keeps_the_memory() -> None:
    cache, layer = KVCache(rows=2, length=8), Layer()
    cache.extend(layer, some(5), some(5))
    allocated = cache.nbytes
    cache.clear()
    assert (cache.length, cache.nbytes) == (0, allocated)
    k, _ = cache.extend(layer, some(1, first=9), some(1))
    np.testing.assert_array_equal(k.numpy(), some(1, first=9).numpy())


# --- in generation


CONFIG = GPTConfig(vocab_size=50, block_size=64, n_layer=2, n_head=2, n_embd=16)


@pytest.fixture(scope="module")
def model() -> GPT:
    tt_core.manual_seed(0)
    model = GPT(CONFIG).eval()
    for parameter in model.parameters():  # as far apart as a trained model's, or all logits would be nearly equal
        parameter.data *= 8
    return model


def test_a_gradient_that_would_end_in_the_cache_is_an_error(model: GPT) -> None:
    with pytest.raises(GradientError, match="no_grad"):
        model(tt_core.tensor([[1, 2]]), past=KVCache(rows=1, length=4))


def flops_per_token(model: GPT, prompt: int) -> float:
    """FLOPs in linear layers and products for each token after the first, which reads the prompt."""

    def total(tokens: int) -> int:
        with Profiler() as profiler:
            generate(model, [1] * prompt, tokens, temperature=0)
        return sum(entry.flops for entry in profiler.entries() if entry.name in ("linear", "matmul"))

    return (total(5) - total(1)) / 4


def test_with_the_cache_a_token_costs_the_same_at_any_length(model: GPT) -> None:
    weights = sum(
        p.numel() for name, p in model.named_parameters() if p.ndim == 2 and name not in ("wte.weight", "wpe.weight")
    )
    with tt_core.use("kv-cache"):
        costs = [flops_per_token(model, prompt) for prompt in (2, 20, 50)]
    assert costs[0] == costs[1] == costs[2] >= 2 * weights  # one multiply-add a weight, for one row


def test_without_it_the_cost_grows_with_the_text(model: GPT) -> None:
    short, long = flops_per_token(model, 2), flops_per_token(model, 50)
    assert long > 5 * short


@pytest.mark.parametrize("options", [{"temperature": 0}, {"seed": 4}, {"num_beams": 3}, {"stop": [3, 7], "seed": 1}],
                         ids=str)  # fmt: skip
def test_the_same_tokens_for_a_batch_of_unequal_prompts(model: GPT, options: dict[str, object]) -> None:
    prompts = [[1, 2, 3], [4], list(range(40))]
    plain = generate(model, prompts, 40, **options)  # past the end of the context
    with tt_core.use("kv-cache"):
        assert generate(model, prompts, 40, **options) == plain
    assert len({token for new in plain for token in new}) > 3


SCALINGS = {
    "dynamic": {"rope_type": "dynamic", "factor": 4.0, "original_max_position_embeddings": 12},
    "longrope": {"rope_type": "longrope", "short_factor": [1.0] * 4, "long_factor": [2.0, 3.0, 4.0, 5.0],
                 "factor": 4.0, "original_max_position_embeddings": 12},
}  # fmt: skip


@pytest.mark.parametrize("kind", SCALINGS)
def test_keys_rotated_by_other_frequencies_are_not_remembered(kind: str) -> None:
    tt_core.manual_seed(0)
    model = GPT(GPTConfig(50, 48, 2, 2, 16, position="rotary", rope_scaling=SCALINGS[kind])).eval()
    for parameter in model.parameters():
        parameter.data *= 8
    plain = generate(model, [[1, 2, 3], [4]], 30, temperature=0)
    with tt_core.use("kv-cache"):
        assert generate(model, [[1, 2, 3], [4]], 30, temperature=0) == plain


def test_plugging_out_leaves_generation_without_a_past(model: GPT) -> None:
    with tt_core.use("kv-cache"):
        assert isinstance(manager.ask("tt_past", model=model, rows=1, length=4, prompts=[[1]]), KVCache)
    assert manager.ask("tt_past", model=model, rows=1, length=4, prompts=[[1]]) is None


# --- the lesson and the cache that generation uses


OPERATIONS = st.lists(
    st.one_of(
        st.tuples(st.just("extend"), st.integers(1, 5)),
        st.tuples(st.just("select"), st.lists(st.integers(0, 1), min_size=1, max_size=4)),
        st.tuples(st.just("crop"), st.integers(-4, 8)),
        st.tuples(st.just("clear"), st.none()),
    ),
    max_size=12,
)


@settings(max_examples=60, deadline=None)
@given(OPERATIONS, st.sampled_from([{}, {"static": True, "length": 80}, {"length": 3}]))
def test_it_computes_what_the_lesson_computes(operations: list[tuple[str, object]], options: dict[str, object]) -> None:
    caches, rows, rng = (DynamicCache(), KVCache(**options)), 2, np.random.default_rng(0)
    for name, value in operations:
        if name == "extend":
            rows = rows if caches[0].length else 2
            new = [tt_core.tensor(rng.standard_normal((rows, 2, value, 3), np.float32)) for _ in range(4)]
            for layer in (0, 1):
                results = [cache.update(*new[2 * layer : 2 * layer + 2], layer) for cache in caches]
                for found, expected in zip(*results):
                    np.testing.assert_array_equal(found.numpy(), expected.numpy())
        elif name == "select" and caches[0].length:
            chosen = [row % rows for row in value]
            rows = len(chosen)
            for cache in caches:
                cache.select(chosen)
        elif name == "crop":
            for cache in caches:
                cache.crop(value)
        elif name == "clear":
            for cache in caches:
                cache.clear()
        assert caches[0].get_seq_length() == caches[1].get_seq_length()


def test_the_lesson_is_a_cache_for_a_model(model: GPT) -> None:
    with tt_core.no_grad():
        expected = model(tt_core.tensor([[1, 2, 3, 4]])).numpy()
        cache = DynamicCache()
        model(tt_core.tensor([[1, 2, 3]]), past=cache)
        last = model(tt_core.tensor([[4]]), past=cache).numpy()
    np.testing.assert_allclose(last[:, 0], expected[:, 3], atol=1e-4)


@pytest.mark.parametrize("dtype", ["float16", "float64"])
@pytest.mark.parametrize("options", [{}, {"dtype": "int8"}, {"window": 4}], ids=str)
def test_keys_and_values_keep_their_dtype(dtype: str, options: dict[str, object]) -> None:
    model = GPT(GPTConfig(50, 32, 1, 2, 8, position="rotary")).eval().to(dtype)
    cache = KVCache(**options)
    with tt_core.no_grad():
        for ids in ([[1, 2, 3]], [[4]], [[5, 6]]):
            assert model(tt_core.tensor(ids), past=cache).dtype == dtype
    assert dtype_of(cache) == dtype


# --- bad input: one line each


def used(**options: object) -> KVCache:
    cache = KVCache(rows=2, length=4, **options)
    cache.update(some(2), some(2), 0)
    return cache


ROTARY = GPTConfig(50, 32, 1, 2, 8, position="rotary")
BAD: dict[str, tuple[Callable[[], object], str]] = {
    "window 0": (lambda: KVCache(window=0), "window is 0, expected"),
    "keep -1": (lambda: KVCachePlugin(window=4, keep=-1), "keep is -1, expected"),
    "keep alone": (lambda: KVCachePlugin(keep=4), "window and keep go with beyond=window"),
    "dtype": (lambda: KVCache(dtype="int4"), "expected int8, or None"),
    "a misspelt option": (lambda: KVCachePlugin(windw=4), "windw is no option; did you mean window?"),
    "a row too far": (lambda: used().select([2]), "row 2 is out of range for the 2 rows"),
    "beyond": (lambda: KVCachePlugin(beyond="roll"), "expected one of crop, error, window"),
    "window and error": (lambda: KVCachePlugin(beyond="error", window=4), "go with beyond=window"),
    "window and reuse": (lambda: KVCachePlugin(window=4, reuse=1), "neither static nor reuse"),
    "reuse": (lambda: KVCachePlugin(reuse=-1), "reuse is -1, expected megabytes"),
    "another batch": (lambda: used().update(some(1, rows=1), some(1, rows=1), 0), "the cache holds 2 texts, got 1"),
    "other heads": (lambda: used().update(some(1)[:, :2], some(1)[:, :2], 0), "got 2 of 4"),
    "another dtype": (lambda: used().update(some(1).double(), some(1).double(), 0), "float64; the cache is of another"),
    "a layer too far": (lambda: used().update(some(2), some(2), 5), "of another model"),
    "a layer too late": (lambda: used().update(some(1), some(1), 1), "of another model"),
    "shapes": (lambda: KVCache().update(some(2), some(3), 0), "keys and values are"),
    "static": (lambda: used(static=True).update(some(3), some(3), 0), "needs 5 positions, the cache has 4"),
    "StaticCache": (lambda: StaticCache(ROTARY, 99), "expected 1 to the model's context, 32"),
    "no begin": (lambda: used(window=4), "calls begin"),
    "window over context": (lambda: past_of(KVCachePlugin(window=64)), "window is 64, the model's context only 32"),
    "nan": (lambda: KVCache(dtype="int8").update(some(1) * np.nan, some(1), 0), "not finite"),
    "remember": (lambda: KVCachePlugin(reuse=1).remember(GPT(ROTARY), used()), "filled by a whole model"),
    "remember without reuse": (lambda: KVCachePlugin().remember(GPT(ROTARY), used()), "give the plugin reuse"),
    "saving a window": (lambda: save_prompt_cache("x.safetensors", KVCache(window=4), GPT(ROTARY)), "without a window"),
    "memoize random": (lambda: MemoizePlugin("dropout"), "dropout draws random numbers"),
    "memoize a view": (lambda: MemoizePlugin(tt_core.reshape), "view of its input"),
    "memoize a name": (lambda: MemoizePlugin("nothing"), "expected an op, its name, a layer"),
    "memoize bytes": (lambda: MemoizePlugin(max_bytes=0), "max_bytes is 0, expected"),
}  # fmt: skip


def past_of(plugin: KVCachePlugin) -> object:
    return plugin.tt_past(model=GPT(ROTARY), rows=1, length=8, prompts=[[1]])


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_one_line(name: str) -> None:
    function, message = BAD[name]
    with pytest.raises(tt_core.TinyTorchError, match=re.escape(message)) as caught:
        function()
    assert "\n" not in str(caught.value)


def test_a_window_that_dropped_positions_cannot_be_cropped() -> None:
    model, cache = GPT(ROTARY).eval(), KVCache(window=4, keep=1)
    ids = tt_core.tensor([list(range(12))])
    with tt_core.no_grad():
        model(ids[:, :5], past=cache)
        cache.crop(3)
        found = model(ids[:, 3:5], past=cache)  # as if the last two had not been read
        np.testing.assert_allclose(found.numpy(), model(ids[:, :5]).numpy()[:, 3:], atol=1e-5)
        model(ids[:, 5:], past=cache)
    with pytest.raises(CacheError, match="has dropped earlier positions"):
        cache.crop(-1)


def test_a_window_is_extended_once_in_each_call() -> None:
    model, cache = GPT(ROTARY).eval(), KVCache(window=4)
    with tt_core.no_grad():
        model(tt_core.tensor([[1, 2]]), past=cache)
    k = tt_core.ones(1, 2, 2, 4)
    with pytest.raises(CacheError, match="calls begin"):
        cache.update(k, k, 0)


def test_a_cache_does_not_serve_another_model() -> None:
    one, two, cache = GPT(ROTARY).eval(), GPT(ROTARY).eval(), KVCache()
    with tt_core.no_grad():
        one(tt_core.tensor([[1, 2]]), past=cache)
        with pytest.raises(CacheError, match="of another model"):
            two(tt_core.tensor([[3]]), past=cache)
        cache.clear()
        np.testing.assert_array_equal(
            two(tt_core.tensor([[3]]), past=cache).numpy(), two(tt_core.tensor([[3]])).numpy()
        )


def test_a_window_does_not_go_with_rotations_that_change() -> None:
    model = GPT(GPTConfig(50, 48, 1, 2, 16, position="rotary", rope_scaling=SCALINGS["dynamic"]))
    with tt_core.use(KVCachePlugin(window=8)), pytest.raises(CacheError, match="rope_type dynamic"):
        generate(model, [[1]], 1)


def test_damaged_cache_files_are_one_line(tmp_path: Path) -> None:
    model, cache, path = GPT(ROTARY).eval(), KVCache(), tmp_path / "prompt.safetensors"
    with tt_core.no_grad():
        model(tt_core.tensor([[1, 2, 3]]), past=cache)
    save_prompt_cache(path, cache, model)
    arrays, metadata = load_tensors(path)
    described = json.loads(metadata["kv-cache"])

    def written(arrays: dict[str, object], **changes: object) -> None:
        if "sha256" in changes:
            changes["sha256"] = digest_of_arrays(arrays)
        save_tensors(path, arrays, {"kv-cache": json.dumps({**described, **changes})})

    whole = path.read_bytes()
    cases: dict[str, Callable[[], object]] = {
        "damaged": lambda: path.write_bytes(whole[: len(whole) // 2]),
        "no cache of a prompt": lambda: save_tensors(path, arrays),
        "its description is damaged": lambda: save_tensors(path, arrays, {"kv-cache": "{"}),
        "of format 7": lambda: written(arrays, format=7),
        "the file is damaged": lambda: written({**arrays, "tokens": arrays["tokens"] + 1}),
        "dtype float8": lambda: written(arrays, dtype="float8"),
        "no tokens": lambda: written({k: v for k, v in arrays.items() if k != "tokens"}, sha256=""),
        "keys and values of each layer": lambda: written({**arrays, "more": arrays["tokens"]}, sha256=""),
        "does not fit its tokens": lambda: written({**arrays, "tokens": arrays["tokens"][:, 1:]}, sha256=""),
        "another model": lambda: written(arrays, model_sha256="0"),
        "no such file": path.unlink,
    }
    for message, damage in cases.items():
        damage()
        with pytest.raises(tt_core.TinyTorchError, match=message) as caught:
            load_prompt_cache(path, model)
        assert "\n" not in str(caught.value)


# --- plugins by name


@pytest.mark.parametrize(("text", "expected"), [
    ("", {}), ("window=8,keep=2", {"window": 8, "keep": 2, "beyond": "window"}),
    ("beyond=error, static", {"beyond": "error", "static": True}), ("dtype=int8", {"dtype": "int8"}),
])  # fmt: skip
def test_the_variable_says_how(text: str, expected: dict[str, object], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TT_KV_CACHE", text)
    with tt_core.use("kv-cache"):
        past = manager.ask("tt_past", model=GPT(ROTARY), rows=1, length=4, prompts=[[1]])
    assert {name: getattr(past, name) for name in expected} == expected


@pytest.mark.parametrize("text", ["windows=3", "window=a lot", "static=maybe", "window=0", "beyond=roll"])
def test_a_mistake_in_the_variable_is_one_line(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TT_KV_CACHE", text)
    with tt_core.use("kv-cache"), pytest.raises(CacheError, match="expected") as caught:
        generate(GPT(ROTARY), [[1]], 1)
    assert "\n" not in str(caught.value)


def test_the_int8_cache_by_name() -> None:
    with tt_core.use("kv-cache-int8"):
        past = manager.ask("tt_past", model=GPT(ROTARY), rows=1, length=4, prompts=[[1]])
        assert past.dtype == "int8"
        with pytest.raises(tt_core.TinyTorchError, match="exclude each other"):
            tt_core.use("kv-cache")


def test_the_store_keeps_to_its_bytes_and_says_what_it_saved() -> None:
    model, plugin = GPT(GPTConfig(50, 256, 2, 2, 64)).eval(), KVCachePlugin(reuse=1)
    with tt_core.use(plugin, report=False):
        for start in range(8):
            generate(model, [[start, *range(40, 49)] * 20], 2, temperature=0)
        plugin.store.trim()
        assert 0 < plugin.store.nbytes <= 1 << 20
        assert len(plugin.store) < 8
        assert "0 of 1,600 positions of prompts were not read again (0 hits, 8 misses)" in (plugin.tt_report() or "")
        del model
        gc.collect()
        generate(GPT(ROTARY), [[1, 2]], 1)
        assert len(plugin.store) == 1  # those of a model that is gone are forgotten


def test_memoize_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TT_MEMOIZE", "exp,Linear")
    layer, x = tt_core.Linear(2, 2).eval(), tt_core.ones(1, 2)
    memo.counts.clear()
    with tt_core.use("memoize", report=False), tt_core.no_grad():
        for _ in range(3):
            tt_core.exp(x), layer(x)
        assert (memo.hits, memo.misses) == (4, 2)
        assert "Linear 2 hits, 1 misses, 0 passed on; exp 2 hits" in (memo.tt_report() or "")
    monkeypatch.setenv("TT_MEMOIZE", "dropout")
    with pytest.raises(tt_core.TinyTorchError, match="dropout draws"):
        tt_core.use("memoize")
    assert not manager.has_plugin("memoize")


def test_memoize_lets_pass_what_has_no_key_and_counts_it() -> None:
    model = GPT(ROTARY).eval()
    with tt_core.use(MemoizePlugin(model), report=False) as plugin, tt_core.no_grad():
        model(tt_core.tensor([[1]]), past=KVCache())
        assert plugin.counts["GPT", "passed"] == 1
        first, second = (model(tt_core.tensor([[1, 2]])) for _ in range(2))
        np.testing.assert_array_equal(first.numpy(), second.numpy())
        assert (plugin.hits, plugin.misses) == (1, 1)


def test_memoize_is_safe_in_threads() -> None:
    inputs = [tt_core.full((50,), float(i)) for i in range(8)]
    expected = [np.exp(x.numpy()) for x in inputs]
    wrong: list[int] = []
    with tt_core.use(MemoizePlugin("exp", max_bytes=1000), report=False) as plugin:

        def work(seed: int) -> None:
            chosen = np.random.default_rng(seed).integers(0, 8, 300).tolist()
            wrong.extend(i for i in chosen if not np.array_equal(tt_core.exp(inputs[i]).numpy(), expected[i]))

        threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not wrong
        assert 0 < plugin.results.nbytes <= 1000


# --- models that change


def halved(model: Any) -> Any:
    with tt_learn.no_grad():
        for p in model.parameters():
            p.mul_(-0.7)


def loaded(model: Any) -> Any:
    model.load_state_dict({name: -0.7 * entry.detach() for name, entry in model.state_dict().items()})


def trained(model: Any) -> Any:
    optimizer = tt_learn.SGD(model.parameters(), lr=5.0)
    next_token_loss(model(tt_core.tensor([[1, 2, 3]])), tt_core.tensor([[2, 3, 4]])).backward()
    optimizer.step()


@pytest.mark.parametrize("change", [halved, loaded, trained])
def test_a_model_that_changes_between_two_tokens_reads_its_text_again(change: Any) -> None:
    def tokens(*plugins: Any) -> list[int]:
        tt_core.manual_seed(0)
        model = GPT(GPTConfig(vocab_size=29, block_size=24, n_layer=2, n_head=2, n_embd=16, position="rotary")).eval()
        with tt_core.use(*plugins, report=False) if plugins else contextlib.nullcontext():
            text = stream(model, [1, 2, 3], 10, temperature=0)
            first = [next(text), next(text)]
            change(model)
            return first + list(text)

    expected = tokens()
    for options in ({}, {"static": True}, {"reuse": 1}, {"beyond": "window"}):
        assert tokens(KVCachePlugin(**options)) == expected


def with_a_hook(model: Any) -> Callable[[], None]:
    return model.blocks[0].register_forward_hook(lambda layer, inputs, output: -2 * output).remove


def with_a_setting(model: Any) -> Callable[[], None]:
    model.blocks[0].norm1.eps, before = 100.0, model.blocks[0].norm1.eps
    return lambda: setattr(model.blocks[0].norm1, "eps", before)


def with_a_forward(model: Any) -> Callable[[], None]:
    layer = model.blocks[0].mlp
    layer.forward = lambda x: type(layer).forward(layer, x) * -3  # type: ignore[method-assign]
    return lambda: delattr(layer, "forward")


@pytest.mark.parametrize("change", [with_a_hook, with_a_setting, with_a_forward])
def test_a_prompt_is_read_again_by_a_model_that_computes_otherwise(change: Any, model: GPT) -> None:
    prompts = [[1, 2, 3, 4, 5, 6]]

    def logits() -> Any:
        with tt_learn.no_grad():
            return Reader(model, prompts, 1, 1).logits(prompts)

    plain = logits()
    undo = change(model)
    changed = logits()
    undo()
    assert not np.allclose(plain, changed)
    with tt_core.use(KVCachePlugin(reuse=1), report=False) as plugin:
        np.testing.assert_allclose(logits(), plain, rtol=1e-4, atol=1e-3)
        undo = change(model)
        np.testing.assert_allclose(logits(), changed, rtol=1e-4, atol=1e-3)
        np.testing.assert_allclose(logits(), changed, rtol=1e-4, atol=1e-3)
        assert plugin.store.hits == 1
        undo()
        np.testing.assert_allclose(logits(), plain, rtol=1e-4, atol=1e-3)
