"""Module 09, spatial: the inverse of max pooling, which puts each maximum back where it was found."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from tt_core import Tensor
from tt_core.engine.arguments import checked
from tt_core.engine.compositions import of_tensors
from tt_core.engine.dispatch import Array, op
from tt_core.layers import Layer
from tt_core.tensor.shapes import as_size, take_along_dim
from tt_data.spatial.sizes import IntOrPair, Pair, pair
from tt_learn.autograd import gradient


@op
def put_at_indices(x: Array, indices: Array, /, output_size: Pair) -> Array:
    """Zeros of `output_size` (H, W), and each element of `x` at its index, which `max_pool2d_with_indices` gives.

    x and indices (..., H', W') give (..., H, W). Raises `ShapeError` for indices of another shape, `OutOfRangeError`
    for an index outside the image.

    >>> from tt_core import tensor
    >>> put_at_indices(tensor([[[5.0]]]), tensor([[[2]]]), output_size=(2, 2))
    tensor([[[0., 0.],
             [5., 0.]]])
    """
    size = pair(output_size, "output_size")
    if indices.shape != x.shape:
        raise ValueError(f"indices have shape {indices.shape}, expected {x.shape}")
    if indices.size and not 0 <= indices.min() <= indices.max() < math.prod(size):
        raise IndexError(f"indices are from 0 to {math.prod(size) - 1} in an image of {size}")
    out = np.zeros((*x.shape[:-2], math.prod(size)), dtype=x.dtype)
    np.put_along_axis(out, indices.reshape(*x.shape[:-2], -1), x.reshape(*x.shape[:-2], -1), axis=-1)
    return out.reshape(*x.shape[:-2], *size)


@gradient(put_at_indices)
def _(out: Any, x: Any, indices: Any, output_size: Pair) -> Any:
    shape, places = x.shape, np.asarray(indices).reshape(*x.shape[:-2], -1)  # a tensor or an array
    return lambda g: take_along_dim(g.flatten(-2), places, dim=len(shape) - 2).reshape(shape), None


@of_tensors("x indices")
def max_unpool2d(
    x: Tensor,
    indices: Tensor,
    kernel_size: IntOrPair,
    stride: IntOrPair | None = None,
    padding: IntOrPair = 0,
    output_size: Sequence[int] | None = None,
) -> Tensor:
    """Images (..., H, W) of zeros, and x (..., H', W') at `indices`, which `max_pool2d_with_indices` returned.

    `output_size` is (H, W) or all dimensions; the default is the smallest image with this number of windows. Raises
    `ShapeError` for indices of another shape, `OutOfRangeError` for an index outside the image.

    >>> from tt_core import tensor
    >>> max_unpool2d(tensor([[[5.0]]]), tensor([[[2]]]), kernel_size=2)
    tensor([[[0., 0.],
             [5., 0.]]])
    """
    if output_size is None:
        kernel, around = pair(kernel_size, "kernel_size"), pair(padding, "padding", least=0)
        step = kernel if stride is None else pair(stride, "stride")
        output_size = [(n - 1) * s - 2 * p + k for n, s, p, k in zip(x.shape[-2:], step, around, kernel)]
    size = as_size("max_unpool2d: output_size", (output_size,))
    return put_at_indices(x, indices, output_size=size[-2:])


class MaxUnpool2d(Layer):
    """Puts the maxima of `MaxPool2d(return_indices=True)` back, and zeros elsewhere (Zeiler and Fergus 2014).

    Called with (N, C, H', W'), the indices, and optionally the size of the image, by default the smallest that has this
    number of windows.

    >>> from tt_core import arange
    >>> from tt_data.spatial.layers import MaxPool2d
    >>> y, indices = MaxPool2d(2, return_indices=True)(arange(4.0).reshape(1, 2, 2))
    >>> MaxUnpool2d(2)(y, indices)
    tensor([[[0., 0.],
             [0., 3.]]])
    """

    @checked
    def __init__(self, kernel_size: IntOrPair, stride: IntOrPair | None = None, padding: IntOrPair = 0) -> None:
        super().__init__()
        self.kernel_size = pair(kernel_size, "MaxUnpool2d: kernel_size")
        self.stride = self.kernel_size if stride is None else pair(stride, "MaxUnpool2d: stride")
        self.padding = pair(padding, "MaxUnpool2d: padding", least=0)

    def forward(self, x: Tensor, indices: Tensor, output_size: Sequence[int] | None = None) -> Tensor:
        return max_unpool2d(x, indices, self.kernel_size, self.stride, self.padding, output_size)

    def extra_repr(self) -> str:
        return f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}"
