"""Part of module 17: the plugins `kv-cache` and `kv-cache-int8`, and their options.

Options are given to a plugin object, `use(KVCachePlugin(window=256, keep=4))`, or for plugins by name in the variable
TT_KV_CACHE, such as `TT_KV_CACHE=window=256,keep=4`. It is read when a generation begins.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from tt_core.engine.arguments import checked
from tt_core.engine.errors import did_you_mean, is_integer, shown
from tt_core.engine.hookspecs import hookimpl
from tt_core.engine.plugins import use
from tt_core.layers import Layer
from tt_language.hookspecs import Past
from tt_perf.memoization.cache import KVCache, check_options
from tt_perf.memoization.checks import CacheError
from tt_perf.memoization.files import load_prompt_cache, save_prompt_cache
from tt_perf.memoization.prefixes import PrefixStore

VARIABLE = "TT_KV_CACHE"
_CHANGING = ("dynamic", "longrope")
"""Rotary scalings whose frequencies depend on the length of the text."""


@dataclass(frozen=True)
class CacheOptions:
    """How `kv-cache` keeps keys and values.

    `beyond` says what happens to a text longer than the model's context: "crop" drops its older half and reads the
    rest again, "error" raises, "window" lets each position see the last `window` (the context by default) and the
    first `keep`, for models without learned positions; a `window` means it. `dtype` "int8" keeps one byte a number.
    `static` allocates all memory at once. `reuse` is how many megabytes of caches are kept for prompts that begin
    alike; the bound holds whenever a generation begins.
    Raises `CacheError` for values out of range.

    >>> CacheOptions.read("window=64, keep=4")
    CacheOptions(beyond='window', window=64, keep=4, dtype=None, static=False, reuse=0)
    """

    beyond: str = "crop"
    window: int | None = None
    keep: int = 0
    dtype: str | None = None
    static: bool = False
    reuse: int = 0

    def __post_init__(self) -> None:
        check_options(self.window, self.keep, self.dtype, self.beyond)
        if self.window is not None and self.beyond == "crop":
            object.__setattr__(self, "beyond", "window")
        if not isinstance(self.static, bool):
            raise CacheError(f"kv-cache: static is {shown(self.static)}, expected True or False")
        if not is_integer(self.reuse, 0):
            raise CacheError(f"kv-cache: reuse is {shown(self.reuse)}, expected megabytes, 0 or more")
        if self.beyond != "window" and (self.window is not None or self.keep):
            raise CacheError(f"kv-cache: window and keep go with beyond=window, got beyond={self.beyond}")
        if self.beyond == "window" and (self.static or self.reuse):
            raise CacheError("kv-cache: a window drops positions, so it goes with neither static nor reuse")

    @classmethod
    @checked
    def read(cls, text: str, **defaults: Any) -> CacheOptions:
        """Options as `name=value`, separated by commas; a name alone is true. Raises `CacheError` for others."""
        known = {field.name: str(field.type) for field in dataclasses.fields(cls)}
        values = dict(defaults)
        for part in filter(None, (part.strip() for part in text.split(","))):
            name, _, value = (word.strip() for word in part.partition("="))
            if name not in known:
                raise CacheError(f"{VARIABLE}: {name[:40]} is no option, expected one of {', '.join(known)}")
            values[name] = _read_as(known[name], name, value)
        return cls(**values)


_NAMES = [field.name for field in dataclasses.fields(CacheOptions)]
_USUAL = vars(CacheOptions())


def _read_as(kind: str, name: str, value: str) -> Any:
    if kind == "bool" and value.lower() in ("", "1", "true", "0", "false"):
        return value.lower() not in ("0", "false")
    if kind.startswith("int") and value.lstrip("-").isdecimal():
        return int(value)
    if kind.startswith("str"):
        return value or None
    raise CacheError(
        f"{VARIABLE}: {name} is {value[:40]!r}, expected {'true or false' if kind == 'bool' else 'a number'}"
    )


def _check_model(options: CacheOptions, model: Any) -> None:
    """Raise `CacheError` for a model that cannot be used so."""
    config = getattr(model, "config", None)
    if options.beyond != "window" or config is None:
        return
    if config.position == "learned":
        raise CacheError(
            "kv-cache: beyond=window needs rotary positions; this model learned one vector for each position, and "
            "has none for later ones: use beyond=crop"
        )
    if _scaling(model) in _CHANGING:
        raise CacheError(
            f"kv-cache: beyond=window does not go with rope_type {_scaling(model)}, which turns keys otherwise as "
            f"the text grows: use beyond=crop"
        )
    if options.window is not None and options.window > config.block_size:
        raise CacheError(f"kv-cache: window is {options.window}, the model's context only {config.block_size}")


def _scaling(model: Any) -> str:
    """How rotary positions are scaled."""
    return str(getattr(getattr(getattr(model, "rotary", None), "scaling", None), "kind", "default"))


class KVCachePlugin:
    """The plugin of `use("kv-cache")`; the options are those of `CacheOptions`, by name.

    >>> import tt_core
    >>> from tt_language import GPT, GPTConfig, generate
    >>> model = GPT(GPTConfig(vocab_size=10, block_size=16, n_layer=1, n_head=2, n_embd=8))
    >>> plain = generate(model, [[1, 2, 3]], 8, temperature=0)
    >>> KVCachePlugin(dtype="int8")
    KVCachePlugin(dtype='int8')
    >>> with tt_core.use(KVCachePlugin(dtype="int8")):
    ...     generate(model, [[1, 2, 3]], 8, temperature=0) == plain
    True
    """

    name = "kv-cache"

    def __init__(self, **options: Any) -> None:
        unknown = next((name for name in options if name not in _NAMES), None)
        if unknown is not None:
            raise CacheError(f"KVCachePlugin: {unknown} is no option; {did_you_mean(unknown, _NAMES)}")
        self.options = CacheOptions(**options)
        self.store = PrefixStore(self.options.reuse << 20)

    def __repr__(self) -> str:
        unusual = (f"{name}={value!r}" for name, value in vars(self.options).items() if value != _USUAL[name])
        return f"{type(self).__name__}({', '.join(unusual)})"

    @hookimpl
    def tt_past(self, model: Layer, rows: int, length: int, prompts: Sequence[Sequence[int]]) -> Past:
        _check_model(self.options, model)
        cache = self._known(model, rows, length, prompts) or self._new(model, rows, length)
        if self.options.reuse:
            self.store.trim()
            self.store.add(model, cache)
        return cache

    def _new(self, model: Any, rows: int, length: int) -> KVCache:
        options = self.options
        window = options.window
        if options.beyond == "window" and window is None:
            window = model.config.block_size
        return KVCache(
            rows, length, window=window, keep=options.keep, dtype=options.dtype, static=options.static,
            beyond=options.beyond,
        )  # fmt: skip

    def _known(self, model: Any, rows: int, length: int, prompts: Sequence[Sequence[int]]) -> KVCache | None:
        if not self.options.reuse or _scaling(model) in _CHANGING:
            return None
        context = model.config.block_size
        return self.store.find(model, [list(prompt)[-context:] for prompt in prompts], rows, length)

    @checked
    def remember(self, model: Layer, cache: KVCache) -> None:
        """Let a cache that `model` filled be found by prompts that begin with its tokens.

        Raises `CacheError` for a cache that lacks tokens or positions, and where `reuse` is 0.
        """
        if not self.options.reuse:
            raise CacheError("kv-cache: nothing is used again; give the plugin reuse=, in megabytes")
        if not cache.is_whole:
            raise CacheError("kv-cache: only a cache without a window, filled by a whole model, can be used again")
        self.store.add(model, cache)

    @checked
    def load(self, path: str | os.PathLike[str], model: Layer) -> None:
        """`remember` the cache in a file of `save_prompt_cache`; raises as `load_prompt_cache` does."""
        self.remember(model, load_prompt_cache(path, model))

    @checked
    def save(self, path: str | os.PathLike[str], model: Layer) -> None:
        """Write the cache of the last generation with `model`; raises `CacheError` where none is kept."""
        cache = self.store.newest(model)
        if cache is None:
            raise CacheError("kv-cache: no cache of this model is kept; generate with it first")
        save_prompt_cache(path, cache, model)

    @hookimpl
    def tt_report(self) -> str | None:
        store = self.store
        if not store.positions_asked:
            return None
        return (
            f"{self.name}: {store.positions_reused:,} of {store.positions_asked:,} positions of prompts were not read "
            f"again ({store.hits} hits, {store.misses} misses); {len(store)} caches of {store.nbytes:,} bytes"
        )


class NamedKVCache(KVCachePlugin):
    """A `KVCachePlugin` that is plugged in by name: the variable TT_KV_CACHE adds to its options.

    >>> NamedKVCache("kv-cache").options.beyond
    'crop'
    """

    def __init__(self, name: str, excludes: tuple[str, ...] = (), **options: Any) -> None:
        self.name, self.excludes, self._defaults = name, excludes, options
        self._text = ""
        super().__init__(**options)

    @hookimpl
    def tt_past(self, model: Layer, rows: int, length: int, prompts: Sequence[Sequence[int]]) -> Past:
        text = os.environ.get(VARIABLE, "")
        if text != self._text:
            self.options = CacheOptions.read(text, **self._defaults)
            self._text, self.store.max_bytes = text, self.options.reuse << 20
        return super().tt_past(model, rows, length, prompts)


kv_cache = NamedKVCache("kv-cache", excludes=("kv-cache-int8",))
int8 = NamedKVCache("kv-cache-int8", excludes=("kv-cache",), dtype="int8")


@contextmanager
@checked
def prompt_cached(path: str | os.PathLike[str], model: Layer) -> Iterator[KVCachePlugin]:
    """A block in which texts that `model` generates begin with the cache in a file, where there is one.

    When the block ends, the cache of the last text is written there. Raises as `load_prompt_cache` and
    `save_prompt_cache` do.

    >>> import tempfile
    >>> from pathlib import Path
    >>> from tt_language import GPT, GPTConfig, generate
    >>> model = GPT(GPTConfig(vocab_size=10, block_size=16, n_layer=1, n_head=2, n_embd=8))
    >>> path = Path(tempfile.mkdtemp()) / "prompt.safetensors"
    >>> for _ in range(2):
    ...     with prompt_cached(path, model) as plugin:
    ...         _ = generate(model, [[1, 2, 3]], 4)
    >>> plugin.store.positions_reused
    2
    """
    plugin = KVCachePlugin(reuse=1 << 20)  # in megabytes: whatever the text needs
    if os.path.exists(path):
        plugin.load(path, model)
    with use(plugin, report=False):
        yield plugin
    plugin.save(path, model)
