"""Part of module 12, attention: which arrays fit together, checked before the ops run, and sizes of the layer."""

from __future__ import annotations

import numpy as np

from tt_core.engine.dispatch import Array
from tt_core.engine.errors import ArgumentError, ShapeError
from tt_core.tensor import Tensor
from tt_language.errors import check_probability, check_sizes


def check_weights(
    query: Array, key: Array, attn_mask: Array | None = None, /, enable_gqa: bool = False, **options: object
) -> None:
    """Raise unless these arrays are ones that `attention_weights` takes."""
    _check_arrays(query, key, key, attn_mask, enable_gqa)


def check_attention(
    query: Array, key: Array, value: Array, attn_mask: Array | None = None, /,
    dropout_p: float = 0.0, enable_gqa: bool = False, **options: object,
) -> None:  # fmt: skip
    """Raise unless these arrays are ones that `scaled_dot_product_attention` takes."""
    _check_arrays(query, key, value, attn_mask, enable_gqa)
    if key.shape[-2] != value.shape[-2]:
        raise ValueError(f"there are {key.shape[-2]} keys but {value.shape[-2]} values")
    if not 0 <= dropout_p <= 1:
        raise ArgumentError(f"dropout_p is a probability, got {dropout_p}")


def _check_arrays(query: Array, key: Array, value: Array, attn_mask: Array | None, enable_gqa: bool) -> None:
    if min(query.ndim, key.ndim, value.ndim) < 2:
        raise ValueError("query, key and value must be (..., length, features)")
    if not query.dtype.type is key.dtype.type is value.dtype.type or query.dtype.kind != "f":
        raise TypeError(f"needs floats of one dtype, got {query.dtype}, {key.dtype} and {value.dtype}")
    if query.shape[-1] != key.shape[-1]:
        raise ValueError(f"query has {query.shape[-1]} features, key {key.shape[-1]}")
    if enable_gqa:
        _check_groups(query.shape[:-2], key.shape[:-2], value.shape[:-2])
    if attn_mask is not None:
        _check_mask(query, key, value, attn_mask, enable_gqa)


def _check_groups(query: tuple[int, ...], key: tuple[int, ...], value: tuple[int, ...]) -> None:
    """The arguments are shapes without the last two dimensions; the last one is the number of heads."""
    if not (query and key and value and key[-1] == value[-1] and key[-1] and query[-1] % key[-1] == 0):
        counts = [str(shape[-1]) if shape else "no" for shape in (query, key, value)]
        raise ValueError(
            f"enable_gqa: {counts[0]} query heads cannot share {counts[1]} key and {counts[2]} value heads"
        )


def _check_mask(query: Array, key: Array, value: Array, attn_mask: Array, enable_gqa: bool) -> None:
    if attn_mask.dtype.kind not in "bf":
        raise TypeError(f"attn_mask must be boolean (True: may look) or floats to add, got {attn_mask.dtype}")
    arrays = (query, key, value)
    batch = np.broadcast_shapes(*[x.shape[:-3] for x in arrays])
    heads = query.shape[-3:-2] if enable_gqa else np.broadcast_shapes(*[x.shape[-3:-2] for x in arrays])
    full = (*batch, *heads, query.shape[-2], key.shape[-2])
    shape = (1,) * (len(full) - attn_mask.ndim) + attn_mask.shape
    if len(shape) > len(full) or any(n not in (1, m) for n, m in zip(shape, full)):
        raise ValueError(f"attn_mask has shape {attn_mask.shape}, which does not broadcast to {full}")


# --- the layer


def check_layer(embed_dim: int, num_heads: int, num_kv_heads: int, head_dim: int | None, dropout: float) -> None:
    """Raise `ArgumentError` or `ShapeError` for sizes of `MultiHeadAttention` that do not fit together."""
    check_sizes("MultiHeadAttention", embed_dim=embed_dim, num_heads=num_heads, num_kv_heads=num_kv_heads)
    check_sizes("MultiHeadAttention", head_dim=1 if head_dim is None else head_dim)
    if head_dim is None and embed_dim % num_heads:
        raise ShapeError(f"MultiHeadAttention: embed_dim {embed_dim} does not divide into {num_heads} heads")
    if num_heads % num_kv_heads:
        raise ShapeError(f"MultiHeadAttention: {num_heads} heads cannot evenly share {num_kv_heads} key-value heads")
    check_probability("MultiHeadAttention", "dropout", dropout)


def check_inputs(query: Tensor, memory: Tensor | None, embed_dim: int) -> None:
    """Raise `ShapeError` unless the inputs of `MultiHeadAttention` are (batch, length, features)."""
    if query.ndim != 3 or query.shape[-1] != embed_dim:
        raise ShapeError(f"MultiHeadAttention: expected (batch, length, {embed_dim}), got {tuple(query.shape)}")
    if memory is not None and memory.ndim != 3:
        raise ShapeError(f"MultiHeadAttention: memory is (batch, length, features), got {tuple(memory.shape)}")
