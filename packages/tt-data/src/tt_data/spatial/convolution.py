"""Module 09, spatial: convolution, which looks for the same small pattern everywhere, and its derivatives.

Weights are shared over the image, and each output sees only a small patch: 3x3 kernels from 3 to 32 channels are 896
numbers, where a Linear layer over the same 32x32 image would need 100 million.

The three ops are one trilinear form read in three ways. With <., .> the sum over all products of elements,

    <g, conv2d(x, w)>  =  <x, conv2d_input(g, w)>  =  <w, conv2d_weight(g, x)>

so each is the derivative of the others, to any order. The faster forms are in `kernels/convolution.py`.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tt_core import Tensor, init
from tt_core.engine.arguments import checked
from tt_core.engine.dispatch import Array, op
from tt_core.engine.errors import ArgumentError
from tt_core.layers import Layer
from tt_core.tensor.creation import empty
from tt_core.tensor.products import einsum
from tt_data.spatial.common import check_images, on_images
from tt_data.spatial.padding import pad
from tt_data.spatial.windows import IntOrPair, Pair, Windows, pair, per_dimension, sides_of, windows
from tt_learn.autograd import gradient


def check_conv2d(x: Array, weight: Array, bias: Array | None = None, /, *_: Any, groups: int = 1, **__: Any) -> None:
    """Raise `ValueError` for images, weight, bias and groups that do not fit together."""
    check_images(x)
    channels = x.shape[-3]
    if weight.ndim != 4:
        raise ValueError(f"weight has {weight.ndim} dimensions, expected 4: (O, C / groups, kh, kw)")
    if groups < 1 or weight.shape[0] % groups or channels % groups:
        raise ValueError(f"groups {groups} must divide {channels} input and {weight.shape[0]} output channels")
    if channels != weight.shape[1] * groups:
        expected = f"{weight.shape[1]}" + (f" x {groups} groups" if groups > 1 else "")
        raise ValueError(f"input has {channels} channels, weight expects {expected}")
    if bias is not None and bias.shape != weight.shape[:1]:
        raise ValueError(f"bias has shape {bias.shape}, expected {weight.shape[:1]}, one for each output channel")


def _in_groups(x: Array, groups: int, axis: int = 1) -> Array:
    """The channels, dimension `axis`, as (groups, channels of a group)."""
    return x.reshape(*x.shape[:axis], groups, x.shape[axis] // groups, *x.shape[axis + 1 :])


@op(check=check_conv2d)
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

    x (N, C, H, W), weight (O, C / groups, kh, kw), bias (O,) gives (N, O, H', W'); N may be left out. The height is
    `H' = (H + 2 padding - dilation (kh - 1) - 1) // stride + 1`, the width alike. Raises `ShapeError` for channels that
    do not match, groups that do not divide them, and a kernel larger than the padded image.

    >>> from tt_core import ones
    >>> conv2d(ones(1, 1, 3, 3), ones(1, 1, 3, 3), padding=1)
    tensor([[[[4., 6., 4.],
              [6., 9., 6.],
              [4., 6., 4.]]]])
    """
    w = windows(x.shape[2:], weight.shape[2:], stride, padding, dilation)
    patches = _in_groups(w.patches(w.pad(x)), groups)  # (N, G, C/G, H', W', kh, kw)
    kernels = _in_groups(weight, groups, axis=0)
    out = np.einsum("ngcyxij,gocij->ngoyx", patches, kernels, optimize=True)  # (N, G, O/G, H', W')
    out = out.reshape(len(x), len(weight), *w.out)
    return out if bias is None else out + bias[:, None, None]


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
    """Gradient of `conv2d` for its input of `size` (H, W): each element of `g` (N, O, H', W') adds its kernel."""
    w = windows(size, weight.shape[2:], stride, padding, dilation)
    # (N, G, C/G, H', W', kh, kw): what each g adds to each element of its patch
    kernels = _in_groups(weight, groups, axis=0)
    patches = np.einsum("ngoyx,gocij->ngcyxij", _in_groups(g, groups), kernels, optimize=True)
    return w.sum_patches(patches.reshape(len(g), groups * weight.shape[1], *w.out, *w.kernel))


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
    """Gradient of `conv2d` for its weight: the sum of the patches of `x`, each weighted by its `g` (N, O, H', W')."""
    w = windows(x.shape[2:], kernel_size, stride, padding, dilation)
    patches = _in_groups(w.patches(w.pad(x)), groups)  # (N, G, C/G, H', W', kh, kw)
    total = np.einsum("ngoyx,ngcyxij->gocij", _in_groups(g, groups), patches, optimize=True)  # (G, O/G, C/G, kh, kw)
    return total.reshape(g.shape[1], x.shape[1] // groups, *w.kernel)


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


# --- patches as columns


@op(check=check_images)
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
    w = windows(x.shape[2:], kernel_size, stride, padding, dilation)
    columns = w.patches(w.pad(x)).transpose(0, 1, 4, 5, 2, 3)  # (N, C, kh, kw, H', W')
    return columns.reshape(len(x), x.shape[1] * math.prod(w.kernel), math.prod(w.out))


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


# --- layers


class Convolution(Layer):
    """Base of `Conv2d` and its relatives: arguments, weight, bias and their initial values."""

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
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        name = type(self).__name__
        if groups < 1 or in_channels % groups or out_channels % groups:
            raise ArgumentError(
                f"{name}: groups {groups} must divide in_channels {in_channels} and out_channels {out_channels}"
            )
        if padding_mode not in self._paddings:
            raise ArgumentError(f"{name}: padding_mode is {' or '.join(self._paddings)}, got {padding_mode!r}")
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
        self._made_in(device, dtype)

    def _weight_shape(self) -> tuple[int, ...]:
        return (self.out_channels, self.in_channels // self.groups, *self.kernel_size)

    def _sides_of_padding(self) -> tuple[int, ...]:
        """The padding in the form that `pad` takes; raises for a padding that fits no image."""
        reach = [d * (k - 1) + 1 for d, k in zip(self.dilation, self.kernel_size)]
        padding = self.padding if isinstance(self.padding, str) else _two(self.padding, 0)
        rows, columns = sides_of(padding, _two(reach, 1), _two(self.stride, 1))
        return (*columns, *rows)[: 2 * self._dims]

    def _padded(self, x: Tensor) -> tuple[Tensor, dict[str, Any]]:
        """The input and the attributes of the op; only a border of zeros is left to the op."""
        how = {name: getattr(self, name) for name in ("stride", "padding", "dilation", "groups")}
        if self.padding_mode == "zeros":
            return x, how
        return pad(x, self._sides, self.padding_mode), how | {"padding": 0}

    def reset_parameters(self) -> None:
        """Draws the initial values again."""
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


def _two(values: Any, rows: int) -> Pair:
    """One or two numbers as a pair; a single number is for columns, beside `rows`."""
    first, second = (rows, *values)[-2:]
    return first, second


class Conv2d(Convolution):
    """Convolution of images with learnt kernels (LeCun et al. 1989).

    Takes (N, in_channels, H, W), or one image without N; returns (N, out_channels, H', W'), see `conv2d`.
    `kernel_size`, `stride` and `dilation` are a number or a pair (rows, columns); `padding` may also be 'same' or
    'valid', `padding_mode` is 'zeros', 'reflect', 'replicate' or 'circular' (see `pad`). `groups` splits the channels
    into as many separate convolutions. `weight` (out, in / groups, kh, kw) and `bias` (out,) start uniform in
    +-1/sqrt(in / groups * kh * kw), as in PyTorch. Raises `ArgumentError` for arguments outside of these.

    >>> from tt_core import ones
    >>> Conv2d(3, 8, kernel_size=3, padding="same")(ones(2, 3, 32, 32)).shape
    (2, 8, 32, 32)
    """

    def forward(self, x: Tensor) -> Tensor:
        x, how = self._padded(x)
        return conv2d(x, self.weight, self.bias, **how)
