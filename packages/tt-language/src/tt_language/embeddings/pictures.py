"""Part of module 11, embeddings: the vectors of a table drawn in a plane."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence

import numpy as np

from tt_core.engine.arguments import checked
from tt_core.engine.dispatch import Array
from tt_core.engine.errors import ArgumentError
from tt_core.engine.files import write_atomic
from tt_language.embeddings.checks import check_ids
from tt_language.embeddings.inspection import Table, table_of
from tt_language.errors import printable
from tt_learn.svg import circle, drawing, text


@checked
def picture(
    source: Table, ids: Sequence[int], path: str | os.PathLike[str], labels: Sequence[str] | None = None
) -> None:
    """Draw the vectors of `ids` in the plane in which they vary most (principal components), as an SVG file at `path`.

    source: an Embedding, or a table (entries, dim) as a tensor or an array.
    labels: the texts beside the points, the ids by default.

    Raises `ArgumentError` for fewer than 2 ids, for another number of labels, and for infinite or nan vectors.
    """
    table = table_of(source)
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
