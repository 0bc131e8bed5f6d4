"""Module 17: a cache that is looked at while it is being filled, or whose filling ended with an error."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import tt_core as tt
from tt_language import GPT, GPTConfig, generate
from tt_learn import evaluating
from tt_perf.memoization import CacheError, KVCache, KVCachePlugin, formats, prefixes, storage

TEXT = [1, 5, 2, 7, 3, 3, 8, 1, 4, 6]


@pytest.fixture
def model() -> GPT:
    tt.manual_seed(1)
    model = GPT(GPTConfig(vocab_size=9, block_size=32, n_layer=3, n_head=2, n_embd=16, position="rotary")).eval()
    with tt.no_grad():
        for parameter in model.parameters():
            parameter *= 4 if parameter.ndim > 1 else 1
    return model


@pytest.fixture
def at_layer(monkeypatch: pytest.MonkeyPatch) -> Callable[[int, Callable[[], Any]], None]:
    """`at_layer(i, once)` calls `once` when layer i is about to store keys; a hook would change the model's version."""
    extend = KVCache.extend
    waiting: list[tuple[int, Callable[[], Any]]] = []

    def watched(self: KVCache, layer: Any, k: tt.Tensor, v: tt.Tensor) -> Any:
        if waiting and waiting[0][0] == self._places.get(layer, len(self._places)):
            waiting.pop()[1]()
        return extend(self, layer, k, v)

    monkeypatch.setattr(KVCache, "extend", watched)
    return lambda number, once: waiting.append((number, once))


def fail() -> None:
    raise KeyboardInterrupt


def read(model: GPT, text: list[int], past: Any) -> np.ndarray:
    with evaluating(model):
        return model(tt.tensor([text]), past=past).numpy()


@pytest.mark.parametrize("layer", [1, 2])
def test_a_cache_that_is_being_filled_is_not_found(model: GPT, layer: int, at_layer: Any) -> None:
    expected = generate(model, [TEXT], 8, temperature=0)
    found: list[Any] = []
    with tt.use(KVCachePlugin(reuse=8), report=False) as plugin:
        at_layer(layer, lambda: found.append(generate(model, [[*TEXT, 2]], 8, temperature=0)))
        assert generate(model, [TEXT], 8, temperature=0) == expected
        assert plugin.store.hits == 0
        generate(model, [[*TEXT, 2]], 8, temperature=0)
        assert plugin.store.hits == 1
    assert found == [generate(model, [[*TEXT, 2]], 8, temperature=0)]


@pytest.mark.parametrize("layer", [1, 2])
@pytest.mark.parametrize("before", [0, 1])
def test_an_error_in_the_middle_of_a_text_leaves_nothing_to_find(
    model: GPT, layer: int, before: int, at_layer: Any
) -> None:
    expected = generate(model, [TEXT], 8, temperature=0)
    with tt.use(KVCachePlugin(reuse=8), report=False):
        for _ in range(before):
            generate(model, [TEXT[:4]], 1, temperature=0)
        at_layer(layer, fail)
        with pytest.raises(KeyboardInterrupt):
            generate(model, [TEXT], 8, temperature=0)
        for _ in range(2):
            assert generate(model, [TEXT], 8, temperature=0) == expected


@pytest.mark.parametrize("options", [{}, {"dtype": "int8"}, {"window": 16}, {"window": 4}], ids=str)
def test_a_cache_whose_call_failed_must_be_cropped(model: GPT, options: dict[str, Any], at_layer: Any) -> None:
    cache = KVCache(**options)
    read(model, TEXT[:6], cache)
    at_layer(1, fail)
    with pytest.raises(KeyboardInterrupt):
        read(model, TEXT[6:8], cache)
    with pytest.raises(CacheError, match=r"ended with an error.*crop\(6\)"):
        read(model, TEXT[6:8], cache)
    if options.get("window") == 4:  # it has dropped what would be needed again
        with pytest.raises(CacheError, match="dropped earlier positions"):
            cache.crop(6)
        cache.clear()
        read(model, TEXT[:6], cache)
    cache.crop(6)
    expected = KVCache(**options)
    read(model, TEXT[:6], expected)
    assert np.array_equal(read(model, TEXT[6:8], cache), read(model, TEXT[6:8], expected))


def test_memory_that_grows_is_filled_before_it_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[list[np.ndarray]] = []

    class Watched(formats.Floats):
        def __setattr__(self, name: str, value: Any) -> None:
            if name == "parts" and value:
                seen.append([part.copy() for part in value])  # what another thread can read from now on
            super().__setattr__(name, value)

    kind, k = Watched(), np.ones((1, 2, 4, 8), np.float32)
    kind.reserve(1, 4, k, 1, 0)
    kind.write((slice(1), slice(None), slice(0, 4)), k)
    kind.reserve(1, 16, k, 1, 4)
    assert (seen[-1][0][:, :, :4] == 1).all()
    assert seen[-1][0].shape[2] == 16


@pytest.mark.parametrize("change", [lambda cache: cache.crop(2), lambda cache: cache.clear(),
                                    lambda cache: cache.select([0])], ids=["crop", "clear", "select"])  # fmt: skip
def test_a_cache_that_changes_while_it_is_copied_is_not_used(
    model: GPT, change: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether the change begins before, during or after the search, a copy is right or not used."""
    cache, store = KVCache(), prefixes.PrefixStore(1 << 20)
    read(model, TEXT, cache)
    store.add(model, cache)
    search, copy = store._longest, prefixes.part_of

    def changed(found: Any) -> Any:
        change(cache)
        return found

    with monkeypatch.context() as patch:
        patch.setattr(store, "_longest", lambda *args: changed(search(*args)))
        assert store.find(model, [[*TEXT, 2]], 1, 32) is None
    if cache.length < len(TEXT):
        read(model, TEXT[cache.length :], cache)
    with monkeypatch.context() as patch:
        patch.setattr(prefixes, "part_of", lambda *args: changed(copy(*args)))
        assert store.find(model, [[*TEXT, 2]], 1, 32) is None


@pytest.mark.parametrize("change", [lambda cache: cache.crop(2), lambda cache: cache.clear(),
                                    lambda cache: cache.select([0])], ids=["crop", "clear", "select"])  # fmt: skip
def test_the_change_of_a_cache_is_seen_while_it_lasts(model: GPT, change: Any) -> None:
    cache = KVCache()
    read(model, TEXT, cache)
    odd: list[bool] = []

    class Watched(storage.LayerMemory):
        def __setattr__(self, name: str, value: Any) -> None:
            odd.append(cache.moves % 2 == 1)
            super().__setattr__(name, value)

    cache._layers[0].__class__ = Watched
    change(cache)
    assert odd
    assert all(odd)
    assert cache.moves % 2 == 0
