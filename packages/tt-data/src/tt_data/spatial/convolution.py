"""Module 09, spatial: convolution as matrix products over columns of patches (im2col), and its derivatives.

The three ops here are one trilinear form read three ways: with <., .> the sum over all elements,

    <g, conv2d(x, w)>  =  <x, conv2d_input(g, w)>  =  <w, conv2d_weight(g, x)>

so each is the derivative of the others, to any order. Each copies patches of a few images at a time into columns, which
stay in cache, and hands BLAS one product per block (Chellapilla et al. 2006); each core has images of its own. No FFT,
no Winograd.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np

from tt_core import Tensor, init
from tt_core.engine.arguments import checked
from tt_core.engine.dispatch import Array, op
from tt_core.engine.errors import ArgumentError, ShapeError
from tt_core.engine.threads import on_each_core
from tt_core.layers import Layer
from tt_core.tensor.creation import einsum, empty
from tt_data.spatial.padding import pad
from tt_data.spatial.windows import (
    IntOrPair,
    Pair,
    Windows,
    check_images,
    on_images,
    pair,
    per_dimension,
    sides_of,
    windows,
)
from tt_learn.autograd import gradient


@op
@on_images()
def conv2d(
    x: Array,
    weight: Array,
    bias: Array | None = None,
    /,
    stride: IntOrPair = 1,
    padding: IntOrPair | str = 0,
    dilation: IntOrPair = 1,
    groups: int = 1,
) -> Array:
    """Cross-correlation: `out[n, o, y, x] = bias[o] + sum over c, i, j of weight[o, c, i, j] * patch[c, i, j]`.

    x (N, C, H, W), weight (O, C / groups, kh, kw), bias (O,) gives (N, O, H', W'); N may be left out. With
    `H' = (H + 2 padding - dilation (kh - 1) - 1) // stride + 1`. Raises `ShapeError` for channels that do not fit,
    groups that do not divide them, and a kernel larger than the padded image.

    >>> from tt_core import ones
    >>> conv2d(ones(1, 1, 3, 3), ones(1, 1, 3, 3), padding=1)
    tensor([[[[4., 6., 4.],
              [6., 9., 6.],
              [4., 6., 4.]]]])
    """
    _check(x, weight, bias, groups)
    w = windows(x.shape[2:], weight.shape[2:], stride, padding, dilation)
    kernels = weight.reshape(groups, weight.shape[0] // groups, -1)
    out = np.empty((len(x), len(weight), *w.out), dtype=np.result_type(x, weight))
    row_bytes = _row_bytes(w, x.shape[1], x.itemsize)

    def convolve(images: slice) -> None:
        columns, results = w.columns(w.pad(x[images])), out[images]  # (C, kh, kw, N, H', W')
        for some, rows in w.blocks(len(results), row_bytes):
            block = np.ascontiguousarray(columns[:, :, :, some, rows])  # the copy that im2col is
            result = kernels @ block.reshape(groups, kernels.shape[2], -1)
            if bias is not None:
                result += bias.reshape(groups, -1, 1)
            results[some, :, rows] = result.reshape(-1, *block.shape[3:]).swapaxes(0, 1)

    on_each_core(convolve, len(x), len(x) * w.out[0] * row_bytes)
    return out


@op
@on_images()
def conv2d_input(
    g: Array,
    weight: Array,
    /,
    size: Pair,
    stride: IntOrPair = 1,
    padding: IntOrPair | str = 0,
    dilation: IntOrPair = 1,
    groups: int = 1,
) -> Array:
    """Gradient of `conv2d` for its input of `size` (H, W): each `g` (N, O, H', W') spread over its patch.

    Where windows move by one column, what `g` gives to the columns of a patch is gathered before the product, as im2col
    does, and only what it gives to the rows is added up behind it: a third of the additions of a 3x3 kernel.
    """
    w = windows(size, weight.shape[2:], stride, padding, dilation)
    (n, o), (c, kh, kw) = g.shape[:2], weight.shape[1:]
    kernels = weight.reshape(groups, o // groups, c, kh, kw)
    if w.touching:
        kernels = kernels.transpose(0, 2, 3, 1, 4).reshape(groups, c * kh, -1)
    else:
        kernels = kernels.transpose(0, 2, 3, 4, 1).reshape(groups, c * kh * kw, -1)
    out = np.empty((n, c * groups, *size), dtype=np.result_type(g, weight))
    row_bytes = groups * max(kernels.shape[1:]) * (size[1] if w.touching else w.out[1]) * out.itemsize

    def spread(images: slice) -> None:
        upstream, total = g[images], out[images]
        total[...] = 0
        for some, rows in w.blocks(len(total), row_bytes):
            block = upstream[some, :, rows].swapaxes(0, 1)  # (O, images, rows, W')
            if w.touching:
                block = _shifted(block, w)  # (O, kw, images, rows, W)
            columns = kernels @ block.reshape(groups, kernels.shape[2], -1)
            _scatter(columns.reshape(c * groups, kh, -1, *block.shape[-3:]), w, rows, total[some], w.touching)

    on_each_core(spread, n, n * w.out[0] * row_bytes)
    return out


@op
@on_images(batches=2, gives_images=False)
def conv2d_weight(
    g: Array,
    x: Array,
    /,
    kernel_size: Pair,
    stride: IntOrPair = 1,
    padding: IntOrPair | str = 0,
    dilation: IntOrPair = 1,
    groups: int = 1,
) -> Array:
    """Gradient of `conv2d` for its weight: the patches of `x`, each weighted by its `g` (N, O, H', W')."""
    w = windows(x.shape[2:], kernel_size, stride, padding, dilation)
    c, o = x.shape[1], g.shape[1]
    row_bytes = _row_bytes(w, c, x.itemsize)

    def weigh(images: slice) -> Array:
        columns, upstream = w.columns(w.pad(x[images])), g[images]
        # patches x channels: OpenBLAS takes a third longer for the transposed product
        total = np.zeros((groups, c // groups * math.prod(w.kernel), o // groups), dtype=np.result_type(g, x))
        for some, rows in w.blocks(len(upstream), row_bytes):
            block = columns[:, :, :, some, rows].reshape(groups, total.shape[1], -1)
            into = upstream[some, :, rows].swapaxes(0, 1).reshape(groups, total.shape[2], -1)
            total += block @ into.swapaxes(1, 2)
        return total

    total = functools.reduce(np.add, on_each_core(weigh, len(x), len(x) * w.out[0] * row_bytes))
    return total.swapaxes(1, 2).reshape(o, c // groups, *w.kernel)


def _shifted(block: Array, w: Windows) -> Array:
    """(O, N, rows, W') to (O, kw, N, rows, W): at each column of the image, the window that meets it with its jth."""
    o, *between, _ = block.shape
    shifted = np.zeros((o, w.kernel[1], *between, w.size[1]), dtype=block.dtype)
    for j in range(w.kernel[1]):
        met, elements = w.meeting(1, j)
        shifted[:, j, ..., elements] = block[..., met]
    return shifted


def _scatter(columns: Array, w: Windows, rows: slice, images: Array, gathered: bool) -> None:
    """Add columns (C, kh, kw, N, rows, W') up in the images (N, C, H, W) they belong to.

    `rows` are those of the windows. What `_shifted` has `gathered` is (C, kh, 1, N, rows, W).
    """
    everywhere = slice(None), slice(None)
    for i in range(w.kernel[0]):
        down, y = w.meeting(0, i, rows)
        for j in range(columns.shape[2]):
            across, x = everywhere if gathered else w.meeting(1, j)
            images[:, :, y, x] += columns[:, i, j, :, down, across].swapaxes(0, 1)


def _row_bytes(w: Windows, channels: int, itemsize: int) -> int:
    """Bytes of the columns of one row of windows in one image."""
    return channels * math.prod(w.kernel) * w.out[1] * itemsize


def _check(x: Array, weight: Array, bias: Array | None, groups: int) -> None:
    check_images(x)
    if weight.ndim != 4:
        raise ValueError(f"weight has {weight.ndim} dimensions, expected 4: (O, C / groups, kh, kw)")
    if groups < 1 or weight.shape[0] % groups or x.shape[1] % groups:
        raise ValueError(f"groups {groups} must divide {x.shape[1]} input and {weight.shape[0]} output channels")
    if x.shape[1] != weight.shape[1] * groups:
        expected = f"{weight.shape[1]}" + (f" x {groups} groups" if groups > 1 else "")
        raise ValueError(f"input has {x.shape[1]} channels, weight expects {expected}")
    if bias is not None and bias.shape != weight.shape[:1]:
        raise ValueError(f"bias has shape {bias.shape}, expected {weight.shape[:1]}, one for each output channel")


@gradient(conv2d)
def _(out: Any, x: Any, weight: Any, bias: Any, **how: Any) -> Any:
    size, kernel_size = x.shape[-2:], weight.shape[2:]
    return (
        lambda g: conv2d_input(g, weight, size=size, **how),
        lambda g: conv2d_weight(g, x, kernel_size=kernel_size, **how),
        lambda g: einsum("ncl->c" if g.ndim == 4 else "cl->c", g.flatten(-2)),  # half of sum's time, no thread of BLAS
    )


@gradient(conv2d_input)
def _(out: Any, g: Any, weight: Any, size: Pair, **how: Any) -> Any:
    kernel_size = weight.shape[2:]
    return (
        lambda gg: conv2d(gg, weight, **how),
        lambda gg: conv2d_weight(g, gg, kernel_size=kernel_size, **how),
    )


@gradient(conv2d_weight)
def _(out: Any, g: Any, x: Any, kernel_size: Pair, **how: Any) -> Any:
    size = x.shape[-2:]
    return lambda gg: conv2d(x, gg, **how), lambda gg: conv2d_input(g, gg, size=size, **how)


# --- the columns themselves


@op
@on_images()
def unfold(
    x: Array,
    /,
    kernel_size: IntOrPair,
    dilation: IntOrPair = 1,
    padding: IntOrPair = 0,
    stride: IntOrPair = 1,
) -> Array:
    """The patches under a moving window as columns: images (N, C, H, W) to (N, C kh kw, windows).

    >>> from tt_core import arange
    >>> unfold(arange(4.0).reshape(1, 1, 2, 2), kernel_size=(2, 1))
    tensor([[[0., 1.],
             [2., 3.]]])
    """
    check_images(x)
    w = windows(x.shape[2:], kernel_size, stride, padding, dilation)
    return w.columns(w.pad(x)).transpose(3, 0, 1, 2, 4, 5).reshape(len(x), -1, math.prod(w.out))


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
    """Columns (N, C kh kw, windows) added up in the images of `output_size` they cover: (N, C, H, W).

    Raises `ShapeError` for columns that are not those of such images.

    >>> from tt_core import ones
    >>> fold(ones(1, 2, 2), output_size=(1, 3), kernel_size=(1, 2))
    tensor([[[[1., 2., 1.]]]])
    """
    w = windows(pair(output_size, "output_size"), kernel_size, stride, padding, dilation)
    if x.ndim != 3 or x.shape[1] % math.prod(w.kernel) or x.shape[2] != math.prod(w.out):
        raise ValueError(f"expected (N, C * {math.prod(w.kernel)}, {math.prod(w.out)}) for images of {w.size}")
    images = np.zeros((len(x), x.shape[1] // math.prod(w.kernel), *w.size), dtype=x.dtype)
    columns = x.reshape(len(x), -1, *w.kernel, *w.out).transpose(1, 2, 3, 0, 4, 5)
    _scatter(columns, w, slice(0, w.out[0]), images, gathered=False)
    return images


@gradient(unfold)
def _(out: Any, x: Any, **how: Any) -> Any:
    size = x.shape[-2:]
    return (lambda g: fold(g, output_size=size, **how),)


gradient(fold, lambda out, x, output_size, **how: (lambda g: unfold(g, **how),))


# --- layers


class Convolution(Layer):
    """What `Conv2d` and its relatives have in common: arguments, weight, bias and their initial values."""

    weight: Tensor
    bias: Tensor | None
    _dims = 2
    _paddings: tuple[str, ...] = ("zeros", "reflect", "replicate", "circular")

    @checked
    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: IntOrPair,
        stride: IntOrPair = 1,
        padding: IntOrPair | str = 0,
        dilation: IntOrPair = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
    ) -> None:
        super().__init__()
        name = type(self).__name__
        if groups < 1 or in_channels % groups or out_channels % groups:
            raise ArgumentError(
                f"{name}: groups {groups} must divide in_channels {in_channels} and out_channels {out_channels}"
            )
        if padding_mode not in self._paddings:
            raise ShapeError(f"{name}: padding_mode is {' or '.join(self._paddings)}, got {padding_mode!r}")
        self.in_channels, self.out_channels, self.groups = in_channels, out_channels, groups
        self.padding_mode = padding_mode
        self.kernel_size = per_dimension(kernel_size, self._dims, f"{name}: kernel_size")
        self.stride = per_dimension(stride, self._dims, f"{name}: stride")
        self.dilation = per_dimension(dilation, self._dims, f"{name}: dilation")
        self.padding = (
            padding if isinstance(padding, str) else per_dimension(padding, self._dims, f"{name}: padding", least=0)
        )
        self._sides = self._sides_of_padding()
        self.weight = empty(*self._weight_shape()).as_parameter()
        self.bias = empty(out_channels).as_parameter() if bias else None
        self.reset_parameters()

    def _weight_shape(self) -> tuple[int, ...]:
        return (self.out_channels, self.in_channels // self.groups, *self.kernel_size)

    def _sides_of_padding(self) -> tuple[int, ...]:
        """Padding as `pad` takes it; raises for one that no image could have."""
        reach = [d * (k - 1) + 1 for d, k in zip(self.dilation, self.kernel_size)]
        padding = self.padding if isinstance(self.padding, str) else _two(self.padding, 0)
        rows, columns = sides_of(padding, _two(reach, 1), _two(self.stride, 1))
        return (*columns, *rows)[: 2 * self._dims]

    def _padded(self, x: Any) -> tuple[Any, dict[str, Any]]:
        """The input to convolve and how; with another border than zeros, the input has it already."""
        how = {name: getattr(self, name) for name in ("stride", "padding", "dilation", "groups")}
        if self.padding_mode == "zeros":
            return x, how
        return pad(x, self._sides, self.padding_mode), how | {"padding": 0}

    def reset_parameters(self) -> None:
        """Draw the initial values again."""
        init.kaiming_uniform_(self.weight, a=math.sqrt(5))
        fan_in = math.prod(self.weight.shape[1:])
        if self.bias is not None and fan_in:
            init.uniform_(self.bias, -1 / math.sqrt(fan_in), 1 / math.sqrt(fan_in))

    def extra_repr(self) -> str:
        text = f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}"
        usual = {"stride": (1,) * self._dims, "padding": (0,) * self._dims, "dilation": (1,) * self._dims, "groups": 1}
        usual |= {"padding_mode": "zeros"}
        unusual = {name: getattr(self, name) for name, value in usual.items() if getattr(self, name) != value}
        text += "".join(f", {name}={value!r}" for name, value in unusual.items())
        return text + ("" if self.bias is not None else ", bias=False")


def _two(values: Any, first: int) -> Pair:
    """One number or two as a number for rows, `first` where there are none, and one for columns."""
    rows, columns = (first, *values)[-2:]
    return rows, columns


class Conv2d(Convolution):
    """Convolution of images with learnt kernels (LeCun et al. 1989).

    Takes (N, in_channels, H, W), or one image without N; returns (N, out_channels, H', W'), see `conv2d`.
    `kernel_size`, `stride`, `dilation`: a number or a pair (rows, columns); `padding` may also be 'same' or 'valid',
    `padding_mode` is 'zeros', 'reflect', 'replicate' or 'circular' (see `pad`); `groups` cuts the channels into as many
    convolutions of their own. `weight` (out, in / groups, kh, kw) and `bias` start uniform in
    +-1/sqrt(in / groups * kh * kw), as in PyTorch.

    >>> from tt_core import ones
    >>> Conv2d(3, 8, kernel_size=3, padding="same")(ones(2, 3, 32, 32)).shape
    (2, 8, 32, 32)
    """

    def forward(self, x: Any) -> Any:
        x, how = self._padded(x)
        return conv2d(x, self.weight, self.bias, **how)
