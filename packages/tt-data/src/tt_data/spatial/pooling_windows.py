"""Module 09, spatial: the windows of a pool, what their padding holds, and how many elements each of them has."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from tt_core.engine.dispatch import Array
from tt_core.engine.errors import ArgumentError
from tt_data.spatial.sizes import IntOrPair, Pair, pair
from tt_data.spatial.windows import Windows, windows

if TYPE_CHECKING:
    from tt_core.engine.hints import DTypeLike


def pool_windows(
    size: Pair,
    kernel_size: IntOrPair,
    stride: IntOrPair | None,
    padding: IntOrPair,
    dilation: IntOrPair,
    ceil_mode: bool,
) -> Windows:
    """The windows of a pool, which by default do not overlap; raises `ArgumentError` for windows of padding alone."""
    kernel, around = pair(kernel_size, "kernel_size"), pair(padding, "padding", least=0)
    if 2 * around[0] > kernel[0] or 2 * around[1] > kernel[1]:
        raise ArgumentError(
            f"padding {around} is more than half of the kernel {kernel}: windows would hold nothing else"
        )
    return windows(size, kernel, kernel if stride is None else stride, around, dilation, ceil_mode)


def lowest(dtype: np.dtype[Any]) -> float:
    """The padding of max pooling, which no element is smaller than."""
    return -math.inf if dtype.kind == "f" else np.iinfo(dtype).min


def divisors(w: Windows, padding: IntOrPair, count_include_pad: bool, override: int | None, dtype: DTypeLike) -> Array:
    """The divisor of each window's sum, (H', W'), or one number for all windows."""
    if override == 0:
        raise ArgumentError("divisor_override must not be 0")
    rows, columns = pair(padding, "padding", least=0) if count_include_pad else (0, 0)
    if override is None and w.padding != ((rows, rows), (columns, columns)):
        return np.outer(_elements(w, 0, rows), _elements(w, 1, columns)).astype(dtype)
    return np.asarray(override or math.prod(w.kernel), dtype)


def _elements(w: Windows, d: int, around: int) -> Array:
    """The number of elements of each window along dimension `d`, where `around` elements of the padding count."""
    first = np.arange(w.out[d]) * w.stride[d] - w.padding[d][0]
    return np.minimum(first + w.kernel[d], w.size[d] + around) - np.maximum(first, -around)
