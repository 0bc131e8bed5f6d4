"""Part of module 17: the cache of a prompt on disk, as safetensors with the digest of the model that filled it.

Arrays are `layer.0.keys`, `layer.0.values` and so on, (batch, key-value heads, positions, head size), with
`layer.0.keys_scale` beside int8 keys, and `tokens`, (batch, positions), -1 for padding. The metadata entry `kv-cache`
is JSON: format, dtype of the model's keys, how they are kept, SHA-256 of the model and of the arrays. Nothing in it is
executed.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from tt_core.engine.arguments import checked
from tt_core.engine.dispatch import Array
from tt_core.layers import Layer
from tt_learn.training.checkpoints import load_tensors, save_tensors
from tt_perf.memoization.cache import KINDS, KVCache, arrays_of, dtype_of, restored
from tt_perf.memoization.checks import CacheError
from tt_perf.quantization.report import digest_of, digest_of_arrays

FORMAT = 1
KEY = "kv-cache"


@checked
def save_prompt_cache(path: str | os.PathLike[str], cache: KVCache, model: Layer) -> None:
    """Write the cache that `model` filled to a `.safetensors` file.

    Raises `CacheError` for one that lacks positions (a window) or tokens, `FileError` where it cannot be written.

    >>> import tempfile
    >>> from pathlib import Path
    >>> import tt_core
    >>> from tt_language import GPT, GPTConfig
    >>> from tt_learn import evaluating
    >>> model = GPT(GPTConfig(vocab_size=9, block_size=16, n_layer=1, n_head=1, n_embd=4))
    >>> cache, path = KVCache(), Path(tempfile.mkdtemp()) / "prompt.safetensors"
    >>> with evaluating(model):
    ...     _ = model(tt_core.tensor([[1, 2, 3]]), past=cache)
    >>> save_prompt_cache(path, cache, model)
    >>> load_prompt_cache(path, model).tokens
    [[1, 2, 3]]
    """
    if not cache.is_whole or not cache.length:
        raise CacheError("save_prompt_cache: expected a cache without a window that a whole model has filled")
    arrays = {**arrays_of(cache), "tokens": np.asarray(cache.tokens, np.int64)}
    described = {
        "format": FORMAT,
        "dtype": cache.dtype,
        "like": str(dtype_of(cache)),
        "model_sha256": digest_of(model),
        "sha256": digest_of_arrays(arrays),
    }
    save_tensors(path, arrays, {KEY: json.dumps(described)})


@checked
def load_prompt_cache(path: str | os.PathLike[str], model: Layer) -> KVCache:
    """The cache in a file of `save_prompt_cache`, for the model that filled it.

    Raises `CheckpointError` for a damaged file, `CacheError` for another kind of file or for a cache of another model,
    or of this one with other weights.
    """
    arrays, metadata = load_tensors(path)
    if KEY not in metadata:
        raise CacheError(f"{path}: holds tensors, but no cache of a prompt")
    try:
        described = json.loads(metadata[KEY])
    except (ValueError, RecursionError):
        raise CacheError(f"{path}: its description is damaged; save the cache again") from None
    _check(described, arrays, str(path))
    if described.get("model_sha256") != digest_of(model):
        raise CacheError(f"{path}: is the cache of another model, or of other weights; read the prompt again")
    tokens = arrays.pop("tokens").tolist()
    return restored(arrays, tokens, described["dtype"], np.dtype(described["like"]))


def _check(described: Any, arrays: Mapping[str, Array], path: str) -> None:
    """Raise `CacheError` unless the description and the arrays are those of a cache."""
    if not isinstance(described, dict) or described.get("format") != FORMAT:
        found = str(described.get("format") if isinstance(described, dict) else described)[:20]
        raise CacheError(f"{path}: is a cache of format {found}, this version reads {FORMAT}")
    if digest_of_arrays(arrays) != described.get("sha256"):
        raise CacheError(f"{path}: the arrays are not those that were saved; the file is damaged")
    dtype, like = described.get("dtype"), described.get("like")
    if dtype not in (None, "int8") or like not in ("float16", "float32", "float64"):
        raise CacheError(f"{path}: its description is damaged: dtype {str(dtype)[:20]}, like {str(like)[:20]}")
    tokens = arrays.get("tokens")
    if tokens is None or tokens.ndim != 2 or tokens.dtype != np.int64:
        raise CacheError(f"{path}: it has no tokens (batch, positions)")
    endings = KINDS[dtype].names
    layers = (len(arrays) - 1) // (2 * len(endings))
    expected = {f"layer.{i}.{name}{end}" for i in range(layers) for name in ("keys", "values") for end in endings}
    if not layers or set(arrays) != {*expected, "tokens"}:
        raise CacheError(f"{path}: expected keys and values of each layer, got {', '.join(sorted(arrays))[:80]}")
    for name in expected:
        array, kind = arrays[name], "f" if dtype is None or name.endswith("_scale") else "i"
        if array.ndim != 4 or (array.shape[0], array.shape[2]) != tokens.shape or array.dtype.kind != kind:
            raise CacheError(f"{path}: {name} is {array.dtype} {array.shape}, which does not fit its tokens")
