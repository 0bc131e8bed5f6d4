"""Module 17, memoization: results are kept, and are reused only where the computation would give the same.

The lesson is `dynamic.py`. Read in this order:

    dynamic.py    keys and values of past positions, joined at each token: the KV cache as an idea
    checks.py     what a cache can keep, checked
    cache.py      the KV cache that generation uses: rows, layers, tokens
    storage.py    memory for keys and values; formats.py: as floats or as int8
    window.py     a sliding window: what a query sees, and which slot a position is kept in
    prefixes.py   prompts that begin alike are read once
    rows.py       rows of their own lengths that come and go: what a server reads with
    files.py      the cache of a prompt on disk
    plugin.py     the plugins `kv-cache` and `kv-cache-int8`
    results.py    results of pure ops and of layers by their inputs; memoizing.py: the plugin `memoize`

Each cache answers one question first: would the result be the same? For the KV cache, causality says yes, until a
weight changes (`tt_perf.versions`). For an op, yes if it is pure and its inputs have the same bytes.
"""

from __future__ import annotations

from tt_perf.memoization.cache import KVCache, StaticCache
from tt_perf.memoization.checks import CacheError
from tt_perf.memoization.dynamic import DynamicCache
from tt_perf.memoization.files import load_prompt_cache, save_prompt_cache
from tt_perf.memoization.memoizing import MemoizePlugin, memoize
from tt_perf.memoization.plugin import CacheOptions, KVCachePlugin, int8, kv_cache, prompt_cached
from tt_perf.memoization.rows import RowCache

plugin = kv_cache

__all__ = [
    "CacheError",
    "CacheOptions",
    "DynamicCache",
    "KVCache",
    "KVCachePlugin",
    "MemoizePlugin",
    "RowCache",
    "StaticCache",
    "int8",
    "kv_cache",
    "load_prompt_cache",
    "memoize",
    "plugin",
    "prompt_cached",
    "save_prompt_cache",
]
