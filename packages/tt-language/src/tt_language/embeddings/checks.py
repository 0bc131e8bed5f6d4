"""Part of module 11, embeddings: what tables and ids must be, checked before a look-up."""

from __future__ import annotations

from tt_core.engine.dispatch import Array
from tt_core.engine.errors import OutOfRangeError, ShapeError
from tt_core.tensor import Tensor
from tt_language.errors import ConfigError, short


def check_ids(ids: Array, size: int) -> None:
    """Raise `OutOfRangeError` for an id outside 0 to `size` - 1; NumPy would count a negative one from the end."""
    if ids.size and (ids.min() < 0 or ids.max() >= size):
        wrong = ids[(ids < 0) | (ids >= size)].flat[0]
        raise OutOfRangeError(f"id {wrong} is outside the vocabulary, which has {size} entries (0 to {size - 1})")


def check_embedding(ids: Array, weight: Array, /, padding_idx: int | None = None) -> None:
    """Raise unless `embedding` can look up these ids in this table."""
    if ids.dtype.kind not in "iu":
        raise TypeError(f"ids must be integers, got {ids.dtype}")
    if weight.ndim != 2:
        raise ValueError(f"weight must be (entries, dim), got shape {weight.shape}")
    if padding_idx is not None and not -len(weight) <= padding_idx < len(weight):
        raise OutOfRangeError(f"padding_idx {padding_idx} is outside the table, which has {len(weight)} entries")
    check_ids(ids, len(weight))


def check_table(weight: Tensor, num_embeddings: int, embedding_dim: int) -> None:
    """Raise `ShapeError` for a table that does not have one vector of `embedding_dim` numbers for each entry."""
    if tuple(weight.shape) != (num_embeddings, embedding_dim):
        raise ShapeError(
            f"Embedding: _weight has shape {tuple(weight.shape)}, but {num_embeddings} entries of {embedding_dim} "
            f"need ({num_embeddings}, {embedding_dim})"
        )


def check_options(
    num_embeddings: int, padding_idx: int | None, max_norm: float | None, norm_type: float, unsupported: bool
) -> None:
    """Raise `OutOfRangeError` or `ConfigError` for arguments of `Embedding` that are out of range or not supported."""
    if padding_idx is not None and not -num_embeddings <= padding_idx < num_embeddings:
        raise OutOfRangeError(f"Embedding: padding_idx {padding_idx} is outside its {num_embeddings} entries")
    if unsupported:
        raise ConfigError("Embedding: scale_grad_by_freq and sparse are not supported; leave them False")
    for name, value in (("max_norm", max_norm), ("norm_type", norm_type)):
        if value is not None and not (type(value) in (int, float) and value > 0):
            raise ConfigError(f"Embedding: {name} is {short(value)}, expected a number above 0")
