"""Module 09, spatial: convolution, which looks for the same small pattern everywhere, and its derivatives.

Weights are shared over the image, and each output sees only a small patch: 3x3 kernels from 3 to 32 channels are 896
numbers, where a Linear layer over the same 32x32 image would need 100 million.

The three ops are one trilinear form read in three ways. With <., .> the sum over all products of elements,

    <g, conv2d(x, w)>  =  <x, conv2d_input(g, w)>  =  <w, conv2d_weight(g, x)>

so each is the derivative of the others, to any order. The faster forms are in `kernels/convolution.py`, the layer
`Conv2d` is in `layers.py`.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tt_core.engine.dispatch import Array, op
from tt_core.tensor.products import einsum
from tt_data.spatial.checks import check_conv2d, check_images
from tt_data.spatial.common import on_images
from tt_data.spatial.windows import IntOrPair, Pair, windows
from tt_learn.autograd import gradient


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
    `H' = (H + 2 padding - dilation (kh - 1) - 1) // stride + 1`, and W' likewise. Raises `ShapeError` for channels that
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
    """Gradient of `conv2d` for its input of `size` (H, W): each element of `g` (N, O, H', W') adds its kernel.

    >>> from tt_core import ones, tensor
    >>> conv2d_input(ones(1, 1, 1, 2), tensor([[[[2.0, 3.0]]]]), size=(1, 3))
    tensor([[[[2., 5., 3.]]]])
    """
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
    """Gradient of `conv2d` for its weight: the sum of the patches of `x`, each weighted by its `g` (N, O, H', W').

    >>> from tt_core import ones, tensor
    >>> conv2d_weight(ones(1, 1, 1, 2), tensor([[[[1.0, 2.0, 3.0]]]]), kernel_size=(1, 2))
    tensor([[[[3., 5.]]]])
    """
    w = windows(x.shape[2:], kernel_size, stride, padding, dilation)
    patches = _in_groups(w.patches(w.pad(x)), groups)  # (N, G, C/G, H', W', kh, kw)
    total = np.einsum("ngoyx,ngcyxij->gocij", _in_groups(g, groups), patches, optimize=True)  # (G, O/G, C/G, kh, kw)
    return total.reshape(g.shape[1], x.shape[1] // groups, *w.kernel)


# the form is linear in x, in w and in g, so the rule of each op calls the other two


@gradient(conv2d)
def _(out: Any, x: Any, weight: Any, bias: Any, **how: Any) -> Any:
    size, kernel_size = x.shape[-2:], weight.shape[2:]
    return (
        lambda g: conv2d_input(g, weight, size=size, **how),
        lambda g: conv2d_weight(g, x, kernel_size=kernel_size, **how),
        # bias is added to every window: (N, O, H', W') -> (O,). Takes half the time of sum, and no thread of BLAS
        lambda g: einsum("ncl->c" if g.ndim == 4 else "cl->c", g.flatten(-2)),
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
    x: Array, /, kernel_size: IntOrPair, dilation: IntOrPair = 1, padding: IntOrPair = 0, stride: IntOrPair = 1
) -> Array:
    """The patches under a moving window as columns: images (N, C, H, W) to (N, C kh kw, windows).

    Its transpose and derivative is `fold`, in `folding.py`. Raises `ShapeError` for a kernel larger than the image.

    >>> from tt_core import arange
    >>> unfold(arange(4.0).reshape(1, 1, 2, 2), kernel_size=(2, 1))
    tensor([[[0., 1.],
             [2., 3.]]])
    """
    w = windows(x.shape[2:], kernel_size, stride, padding, dilation)
    columns = w.patches(w.pad(x)).transpose(0, 1, 4, 5, 2, 3)  # (N, C, kh, kw, H', W')
    return columns.reshape(len(x), x.shape[1] * math.prod(w.kernel), math.prod(w.out))
