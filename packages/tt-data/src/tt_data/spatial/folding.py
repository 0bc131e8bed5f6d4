"""Module 09, spatial: `fold`, which adds patches up to images, and the derivatives of `unfold` and `fold`.

Each is the transpose of the other, so each is the other's derivative. `unfold` is in `convolution.py`.
"""

from __future__ import annotations

import math
from typing import Any

from tt_core.engine.dispatch import Array, op
from tt_data.spatial.common import on_images
from tt_data.spatial.convolution import unfold
from tt_data.spatial.sizes import IntOrPair, pair
from tt_data.spatial.windows import Windows, windows
from tt_learn.autograd import gradient


def fold_windows(
    x: Array, output_size: IntOrPair, kernel_size: IntOrPair, dilation: IntOrPair, padding: IntOrPair, stride: IntOrPair
) -> Windows:
    """The windows that columns `x` belong to; raises `ValueError` for columns of other images."""
    w = windows(pair(output_size, "output_size"), kernel_size, stride, padding, dilation)
    if x.ndim != 3 or x.shape[1] % math.prod(w.kernel) or x.shape[2] != math.prod(w.out):
        raise ValueError(f"expected (N, C * {math.prod(w.kernel)}, {math.prod(w.out)}) for images of {w.size}")
    return w


@op
@on_images(ndim=3)
def fold(
    x: Array,
    /,
    output_size: IntOrPair,
    kernel_size: IntOrPair,
    dilation: IntOrPair = 1,
    padding: IntOrPair = 0,
    stride: IntOrPair = 1,
) -> Array:
    """Adds columns (N, C kh kw, windows) up to images of `output_size`, (N, C, H, W): the transpose of `unfold`.

    Raises `ShapeError` for columns that do not fit such images.

    >>> from tt_core import ones
    >>> fold(ones(1, 2, 2), output_size=(1, 3), kernel_size=(1, 2))
    tensor([[[[1., 2., 1.]]]])
    """
    w = fold_windows(x, output_size, kernel_size, dilation, padding, stride)
    columns = x.reshape(len(x), x.shape[1] // math.prod(w.kernel), *w.kernel, *w.out)  # (N, C, kh, kw, H', W')
    return w.sum_patches(columns.transpose(0, 1, 4, 5, 2, 3))  # (N, C, H', W', kh, kw)


@gradient(unfold)
def _(out: Any, x: Any, **how: Any) -> Any:
    size = x.shape[-2:]
    return (lambda g: fold(g, output_size=size, **how),)


gradient(fold, lambda out, x, output_size, **how: (lambda g: unfold(g, **how),))
