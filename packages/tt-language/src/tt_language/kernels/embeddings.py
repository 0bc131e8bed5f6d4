"""Tuned kernels of `tt_language.embeddings`. The figures are shares of the formula's time."""

from __future__ import annotations

import numpy as np

from tt_core.engine.dispatch import Array, tuned
from tt_core.tensor.elementwise import half_in_float32
from tt_language import embeddings as E


@tuned(E.embedding_backward)
@half_in_float32
def embedding_backward(g: Array, ids: Array, /, size: int, padding_idx: int | None = None) -> Array:
    """Adds single elements, or whole rows from 256 features on: 0.2 of the time for dim 128, 0.1 for 384.

    NumPy has no fast sum of repeated rows. On 1024 ids of 1024 and dim 384, `np.add.at` on rows takes 2.9 ms, a sort
    and `np.add.reduceat` 7.7, a one-hot product 3.0, `np.add.at` on single elements 0.9, and a loop over rows 0.7.
    """
    dim = g.shape[-1]
    rows = g.reshape(ids.size, dim)
    ids = ids.reshape(-1).astype(np.intp, copy=False)  # narrow integers, times dim, would overflow
    total = np.zeros((size, dim), g.dtype)
    if dim < 256:
        np.add.at(total.reshape(-1), (ids[:, None] * dim + np.arange(dim)).reshape(-1), rows.reshape(-1))
    else:
        for i, row in zip(ids.tolist(), rows):
            total[i] += row
    if padding_idx is not None:
        total[padding_idx] = 0
    return total
