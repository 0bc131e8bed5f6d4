"""Tuned kernel of `tt_core.tensor.shapes`. The figure is a share of the formula's time."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tt_core.engine.dispatch import Array, tuned
from tt_core.tensor import shapes as S


@tuned(S.pad)
def pad(x: Array, /, pad: Sequence[int], mode: str = "constant", value: float | None = None) -> Array:
    """Takes entries along one dimension at a time: 0.07 of the time for (64, 3, 32, 32) padded by reflection."""
    if mode == "constant":
        return S.pad.formula(x, pad, mode, value)
    widened = x
    for axis, places in enumerate(S.padded_places(x.shape, pad, mode)):
        if axis >= x.ndim - len(pad) // 2:
            widened = np.take(widened, places, axis)
    return x.copy() if widened is x else widened
