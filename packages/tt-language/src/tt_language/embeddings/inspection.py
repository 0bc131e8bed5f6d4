"""Part of module 11, embeddings: the nearest neighbours of a vector in a trained table.

A picture of a table is drawn in `pictures`, and its share of a model's memory counted in `footprint`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tt_core.engine.arguments import checked
from tt_core.engine.dispatch import Array
from tt_core.engine.errors import ArgumentError, DTypeError, ShapeError
from tt_core.tensor import Tensor
from tt_language.embeddings.checks import check_ids
from tt_language.embeddings.embeddings import Embedding

Table = Embedding | Tensor | Array | Sequence[Any]
"""An Embedding, or its vectors (entries, dim)."""


def table_of(source: Table) -> Array:
    """The (entries, dim) array of an Embedding, a tensor or an array."""
    weight = source.weight if isinstance(source, Embedding) else source
    table = np.asarray(weight.data if isinstance(weight, Tensor) else weight)
    table = table.astype(np.float32) if table.dtype == np.float16 else table  # norms overflow in float16
    if table.ndim != 2:
        raise ShapeError(f"embedding table: expected (entries, dim), got shape {table.shape}")
    return table


@checked
def nearest(source: Table, query: int | Tensor | Array | Sequence[float], k: int = 10) -> list[tuple[int, float]]:
    """The `k` entries whose vectors have the largest cosine with that of `query`, best first: (id, cosine).

    source: an Embedding, or a table (entries, dim) as a tensor or an array.
    query: an id, which is left out of the answer, or a vector (dim,). A vector of zeros has the cosine 0 with all.

    Raises `ShapeError` for a vector of another size, `ArgumentError` for a `k` below 0, `OutOfRangeError` for an id
    outside the table.

    >>> nearest(np.array([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0]]), 0, k=1)[0][0]
    1
    """
    if k < 0:
        raise ArgumentError(f"nearest: k is {k}, expected 0 or more")
    table = table_of(source)
    own = query if isinstance(query, (int, np.integer)) else None
    if own is not None:
        check_ids(np.asarray(own), len(table))
    vector = table[own] if own is not None else np.asarray(query.data if isinstance(query, Tensor) else query)
    if table.dtype.kind not in "fiu" or vector.dtype.kind not in "fiu":
        raise DTypeError(f"nearest: needs vectors of numbers, got {table.dtype} and {vector.dtype}")
    if vector.shape != table.shape[1:]:
        raise ShapeError(f"nearest: the vector has shape {vector.shape}, those of the table {table.shape[1:]}")
    # a·b / (|a| |b|): only the direction counts, since frequent tokens get longer vectors
    lengths = np.linalg.norm(table, axis=1) * np.linalg.norm(vector)
    cosine = np.divide(table @ vector, lengths, out=np.zeros_like(lengths), where=lengths > 0)
    order = np.argsort(-cosine, kind="stable")
    return [(int(i), float(cosine[i])) for i in order if i != own][:k]
