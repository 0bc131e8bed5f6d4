"""Numbers and pictures of lesson 17, memoization."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

import numpy as np

import tt_core
from measured import fastest, number, picture
from tt_core import use
from tt_language import GPT, GPTConfig, generate
from tt_learn.svg import line_chart
from tt_perf.memoization import DynamicCache, KVCache, MemoizePlugin
from tt_perf.memoization.results import key_of
from tt_perf.profiling import Profiler

LENGTH = 192


@functools.cache
def model() -> GPT:
    """A GPT with a context of 256 tokens."""
    tt_core.manual_seed(0)
    return GPT(GPTConfig(vocab_size=64, block_size=256, n_layer=2, n_head=4, n_embd=128)).eval()


def ids(count: int) -> Any:
    """Token ids (1, count)."""
    return tt_core.from_numpy(np.random.default_rng(0).integers(0, 64, (1, count)))


@functools.cache
def seconds_of_a_token(length: int) -> tuple[float, float]:
    """The time of the next token after so many, without a cache and with one."""
    text, cache = ids(length + 1), DynamicCache()
    with tt_core.no_grad():
        model()(ids(length), past=cache)

        def cached() -> None:
            cache.crop(length)
            model()(text[:, length:], past=cache)

        plain, short = fastest(lambda: model()(text), cached, rounds=7)
    return plain, short


@picture
def time_by_length() -> str:
    """Milliseconds for the next token by the number of tokens before it, without a cache and with one."""
    lengths = (1, 16, 32, 64, 96, 128, 160, 192, 224, 255)
    times = {n: seconds_of_a_token(n) for n in lengths}
    curves = {name: [(n, 1000 * times[n][i]) for n in lengths] for i, name in enumerate(("no cache", "KV cache"))}
    return line_chart(curves, x_label="tokens before", y_label="milliseconds")


@number(1.5, 2000, ".0f")
def cache_speedup() -> float:
    """How many times as fast the token after 255 is with a cache."""
    plain, short = seconds_of_a_token(255)
    return plain / short


def flops_of(length: int, plugin: str | None) -> int:
    """FLOPs of generating so many tokens."""
    with Profiler() as profiler:
        if plugin is None:
            generate(model(), [[1]], length, seed=0)
        else:
            with use(plugin, report=False):
                generate(model(), [[1]], length, seed=0)
    return sum(entry.flops for entry in profiler.entries() if entry.kind == "op")


@functools.cache
def growth(plugin: str | None) -> float:
    """By how much the FLOPs grow when twice as many tokens are generated."""
    return flops_of(96, plugin) / flops_of(48, plugin)


@number(3.5, 4.5, ".1f")
def growth_without_cache() -> float:
    """FLOPs of 96 tokens over those of 48, without a cache."""
    return growth(None)


@number(1.9, 2.3, ".1f")
def growth_with_cache() -> float:
    """FLOPs of 96 tokens over those of 48, with a cache."""
    return growth("kv-cache")


@number(2048, 2048, ".0f")
def bytes_of_a_token() -> float:
    """Bytes that the cache of this model keeps for each token: 2 * layers * features * 4."""
    cache = DynamicCache()
    with tt_core.no_grad():
        model()(ids(10), past=cache)
    return cache.nbytes / 10


@number(0.25, 0.35, ".2f")
def int8_share() -> float:
    """Bytes of an int8 cache as a share of those of a float one."""
    caches = [KVCache(1, 64, dtype=dtype, static=True) for dtype in ("int8", None)]
    with tt_core.no_grad():
        for cache in caches:
            model()(ids(10), past=cache)
    return caches[0].nbytes / caches[1].nbytes


@number(0, 1e-4, ".1g")
def difference() -> float:
    """The largest difference between logits with a cache and without."""
    text, cache = ids(64), DynamicCache()
    with tt_core.no_grad():
        model()(text[:, :63], past=cache)
        return float(np.abs(model()(text[:, 63:], past=cache).data[:, -1] - model()(text).data[:, -1]).max())


X = np.random.default_rng(0).standard_normal((512, 512)).astype(np.float32)


@number(0.05, 20, ".1f")
def hash_gigabytes() -> float:
    """Gigabytes a second that SHA-256 reads."""
    (time,) = fastest(lambda: key_of(X))
    return X.nbytes / time / 1e9


def hit_and_call(op: Any) -> Iterator[float]:
    """The time of an op, and of a call that is answered with a kept result."""
    x = tt_core.from_numpy(X)
    (call,) = fastest(lambda: op(x))
    with use(MemoizePlugin(op), report=False):
        (hit,) = fastest(lambda: op(x))
    yield from (hit, call)


@number(1.1, 3000, ".0f")
def hit_of_relu() -> float:
    """How many times as long a kept result of relu takes to find as relu takes to compute, on 512 x 512 numbers."""
    hit, call = hit_and_call(tt_core.relu)
    return hit / call
