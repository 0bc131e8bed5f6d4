"""Part of module 11, embeddings: looking at a trained table: nearest neighbours, a picture, its share of the memory."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tt_core.engine.arguments import checked
from tt_core.engine.dispatch import Array
from tt_core.engine.errors import ArgumentError, DTypeError, ShapeError
from tt_core.engine.files import write_atomic
from tt_core.layers import Layer
from tt_core.tensor import Tensor
from tt_language.embeddings.embeddings import Embedding, check_ids
from tt_language.errors import printable
from tt_learn.svg import circle, drawing, text

Table = Embedding | Tensor | Array | Sequence[Any]
"""An Embedding, or its vectors (entries, dim)."""


def _table(source: Table) -> Array:
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
    query: an id, which is left out of the answer, or a vector (dim,).

    Raises `ShapeError` for a vector of another size, `ArgumentError` for a `k` below 0, `OutOfRangeError` for an id
    outside the table.

    >>> nearest(np.array([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0]]), 0, k=1)[0][0]
    1
    """
    if k < 0:
        raise ArgumentError(f"nearest: k is {k}, expected 0 or more")
    table = _table(source)
    own = query if isinstance(query, (int, np.integer)) else None
    if own is not None:
        check_ids(np.asarray(own), len(table))
    vector = table[own] if own is not None else np.asarray(query.data if isinstance(query, Tensor) else query)
    if table.dtype.kind not in "fiu" or vector.dtype.kind not in "fiu":
        raise DTypeError(f"nearest: needs vectors of numbers, got {table.dtype} and {vector.dtype}")
    if vector.shape != table.shape[1:]:
        raise ShapeError(f"nearest: the vector has shape {vector.shape}, those of the table {table.shape[1:]}")
    lengths = np.linalg.norm(table, axis=1) * np.linalg.norm(vector)
    cosine = np.divide(table @ vector, lengths, out=np.zeros_like(lengths), where=lengths > 0)
    order = np.argsort(-cosine, kind="stable")
    return [(int(i), float(cosine[i])) for i in order if i != own][:k]


@checked
def picture(
    source: Table, ids: Sequence[int], path: str | os.PathLike[str], labels: Sequence[str] | None = None
) -> None:
    """Draw the vectors of `ids` in the plane in which they vary most (principal components), as an SVG file at `path`.

    source: an Embedding, or a table (entries, dim) as a tensor or an array.
    labels: the texts beside the points, the ids by default.

    Raises `ArgumentError` for fewer than 2 ids, for another number of labels, and for infinite or nan vectors.
    """
    table = _table(source)
    if len(ids) < 2 or (labels is not None and len(labels) != len(ids)):
        raise ArgumentError(f"picture: needs 2 ids or more and a label for each, got {len(ids)} ids")
    check_ids(np.asarray(ids), len(table))
    if not np.isfinite(table[list(ids)]).all():
        raise ArgumentError("picture: vectors must be finite, got inf or nan")
    names = [str(i) for i in ids] if labels is None else labels
    parts = list(_dots(_plane(table[list(ids)]), names))
    write_atomic(path, drawing(parts, _WIDTH, _HEIGHT).encode("utf-8"))


def _plane(vectors: Array) -> Array:
    """(n, dim) to (n, 2): coordinates along the two directions of largest variance, scaled to [0, 1]."""
    centred = vectors - vectors.mean(0)
    left, size, _ = np.linalg.svd(centred, full_matrices=False)
    flat = np.zeros((len(vectors), 2))
    flat[:, : min(2, len(size))] = (left * size)[:, :2]
    low, span = flat.min(0), np.ptp(flat, axis=0)
    return (flat - low) / np.where(span > 0, span, 1)


_WIDTH, _HEIGHT, _MARGIN = 720, 540, 36  # pixels


def _dots(points: Array, names: Sequence[str]) -> Iterator[str]:
    for (x, y), name in zip(points.tolist(), names):
        left, top = _MARGIN + x * (_WIDTH - 2 * _MARGIN), _MARGIN + (1 - y) * (_HEIGHT - 2 * _MARGIN)
        yield circle(left, top, 2.5, "#3366cc")
        yield text(left + 4, top + 4, printable(name), size=11)


# --- memory


@dataclass(frozen=True)
class MemoryFootprint:
    """Bytes of a model's parameters: those in embedding tables, and all others."""

    embeddings: dict[str, int]
    """Bytes of each table by its name in the model."""
    rest: int

    @property
    def total(self) -> int:
        """All bytes."""
        return sum(self.embeddings.values()) + self.rest

    def __str__(self) -> str:
        rows = [*self.embeddings.items(), ("everything else", self.rest), ("total", self.total)]
        wide = max(len(name) for name, _ in rows)
        return "\n".join(f"{name:{wide}}  {n / 1e6:10.2f} MB  {n / max(self.total, 1):6.1%}" for name, n in rows)


@checked
def memory_footprint(model: Layer) -> MemoryFootprint:
    """How much of a model's memory its embedding tables take; a table shared with the output counts once.

    >>> memory_footprint(Embedding(1000, 10)).embeddings
    {'weight': 40000}
    """
    tables = {id(layer.weight) for layer in model.modules() if isinstance(layer, Embedding)}
    named = dict(model.named_parameters())
    found = {name: p.nbytes for name, p in named.items() if id(p) in tables}
    return MemoryFootprint(found, sum(p.nbytes for p in named.values()) - sum(found.values()))
