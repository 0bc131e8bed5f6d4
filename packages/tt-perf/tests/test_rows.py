"""Module 17: rows of different lengths that are read together are as if each were read alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import tt_core
from tt_core.engine.errors import ShapeError
from tt_language import GPT, GPTConfig
from tt_learn.autograd import no_grad
from tt_perf.memoization import CacheError, KVCache, RowCache
from tt_perf.memoization.prefixes import PrefixStore

SIZES: dict[str, Any] = {"vocab_size": 40, "block_size": 600, "n_layer": 2, "n_embd": 16}
SHAPES = {
    "learned": GPTConfig(**SIZES, n_head=2),
    "rotary": GPTConfig(**SIZES, n_head=4, n_kv_head=2, position="rotary", norm="rms", mlp="swiglu"),
}


@pytest.fixture(params=SHAPES)
def model(request: pytest.FixtureRequest) -> GPT:
    tt_core.manual_seed(3)
    made = GPT(SHAPES[request.param]).eval()
    for parameter in made.parameters():
        parameter.data *= 3
    return made


def alone(model: GPT, text: list[int], past: KVCache | None = None) -> np.ndarray:
    """Logits after a text that the model reads at once."""
    with no_grad():
        return np.asarray(model(tt_core.tensor([text]), past=past).data[0, -1])


def close(found: np.ndarray, wanted: np.ndarray, limit: float = 1e-4) -> bool:
    assert np.abs(wanted).max() > 0.5  # an all-zero model would be equal to anything
    return np.allclose(found, wanted, atol=limit * np.abs(wanted).max())


@pytest.mark.parametrize("dtype", [None, "int8"])
def test_rows_that_come_and_go_are_as_if_alone(model: GPT, dtype: str | None) -> None:
    random = np.random.default_rng(0)
    cache = RowCache(rows=5, length=600, dtype=dtype)
    checked = 0
    for _ in range(60):
        if len(cache.tokens) < 5 and random.random() < 0.5:
            cache.add()
        if len(cache.tokens) > 1 and random.random() < 0.2:
            cache.remove(int(random.integers(len(cache.tokens))))
        rows = [int(row) for row in random.permutation(len(cache.tokens))[: random.integers(1, 6)]]
        if not rows:
            continue
        most = int(random.choice([1, 1, 9, 70]))
        new = [random.integers(0, 40, random.integers(1, most + 1)).tolist() for _ in rows]
        if max(len(cache.tokens[row]) for row in rows) + most > 600:
            continue
        logits = cache.read(model, rows, new)
        for i, row in enumerate(rows):
            past = KVCache(dtype="int8") if dtype else None
            assert close(logits[i, -1], alone(model, cache.tokens[row], past), 1e-3)
            checked += 1
    assert checked > 80


def test_a_row_begins_with_a_cache_and_becomes_one(model: GPT) -> None:
    text = list(range(40)) * 8  # longer than what is allocated at first
    cache, store = RowCache(rows=3, length=600), PrefixStore(1 << 24)
    cache.add()
    cache.read(model, [0], [text])
    copied = cache.copy(0)
    assert (copied.length, copied.tokens) == (320, [text])
    store.add(model, copied)
    cache.remove(0)
    assert cache.nbytes == 0
    found = store.find(model, [[*text[:300], 1, 1]], 1, 600)
    assert found is not None
    cache.add()
    assert cache.add(found) == 1
    assert cache.tokens == [[], text[:300]]
    logits = cache.read(model, [1, 0], [[1], [2]])
    assert close(logits[0, -1], alone(model, [*text[:300], 1]))
    assert close(logits[1, -1], alone(model, [2]))


def test_a_call_that_fails_leaves_the_rows_as_they_were(model: GPT) -> None:
    cache = RowCache(rows=2, length=600)
    rows = [cache.add(), cache.add()]
    cache.read(model, rows, [[1, 2, 3], [4]])
    norm, model.norm = model.norm, tt_core.Linear(3, 3)  # after all layers have extended the cache
    with pytest.raises(ShapeError):
        cache.read(model, rows, [[5], [6]])
    model.norm = norm
    assert cache.tokens == [[1, 2, 3], [4]]
    logits = cache.read(model, rows, [[7], [8]])
    assert close(logits[0, -1], alone(model, [1, 2, 3, 7]))
    assert close(logits[1, -1], alone(model, [4, 8]))


def test_a_cleared_row_reads_another_text(model: GPT) -> None:
    cache = RowCache(rows=1, length=600)
    cache.add()
    cache.read(model, [0], [[1, 2, 3]])
    cache.clear(0)
    assert close(cache.read(model, [0], [[9, 8]])[0, -1], alone(model, [9, 8]))


def test_what_does_not_fit_is_refused(model: GPT) -> None:
    cache = RowCache(rows=1, length=4)
    cache.add()
    with pytest.raises(CacheError, match="all 1 rows are taken"):
        cache.add()
    with pytest.raises(CacheError, match="needs 5 positions, the cache has 4"):
        cache.read(model, [0], [[1, 2, 3, 4, 5]])
    with pytest.raises(CacheError, match="1 token or more"):
        cache.read(model, [0], [[]])
    with pytest.raises(CacheError, match="call read"):
        model(tt_core.tensor([[1]]), past=cache)
    with pytest.raises(CacheError, match="is a cache of one text"):
        RowCache(rows=1, length=4).add(KVCache())


def test_a_cache_that_another_one_begins_with_is_dropped(model: GPT) -> None:
    store = PrefixStore(1 << 24)
    for text in ([1, 2, 3], [7, 8], [1, 2, 3, 4]):
        cache = RowCache(rows=1, length=600)
        cache.add()
        cache.read(model, [0], [text])
        store.add(model, cache.copy(0))
    assert len(store) == 2
