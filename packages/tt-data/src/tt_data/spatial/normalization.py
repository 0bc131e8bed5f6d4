"""Module 09, spatial: batch normalization.

Statistics are over all dimensions except the channels, dimension 1. The layers are in `layers.py`, normalization of
groups and of single images is in `group_normalization.py`, and the faster forms are in `kernels/normalization.py`.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tt_core import Tensor
from tt_core.engine import mutation
from tt_core.engine.compositions import of_tensors
from tt_core.engine.dispatch import Array, op, quietly
from tt_core.engine.effects import effect
from tt_core.engine.errors import ArgumentError, ShapeError
from tt_core.tensor import elementwise as E
from tt_data.spatial.checks import check_backward, check_channels, check_inference, check_training
from tt_learn.autograd import formula, gradient


def over_channels(ndim: int) -> tuple[int, ...]:
    """All dimensions except the channels."""
    return (0, *range(2, ndim))


def per_channel(vector: Tensor | Array, ndim: int) -> Any:
    """(C,) as (1, C, 1, ...), which broadcasts over an input."""
    return vector.reshape((1, -1) + (1,) * (ndim - 2))


@op(check=check_training)
def batch_norm_training(
    x: Array, weight: Array | None = None, bias: Array | None = None, /, eps: float = 1e-5
) -> tuple[Array, Array, Array]:
    """Mean 0 and variance 1 in each channel of this batch, then scaled and shifted (Ioffe and Szegedy 2015).

    x (N, C, ...), weight (C,), bias (C,) gives the result like x, and the mean and the (biased) variance (C,). Raises
    `ShapeError` for other shapes and for an empty input, `DTypeError` for integers.

    >>> from tt_core import tensor
    >>> y, mean, var = batch_norm_training(tensor([[1.0, 10.0], [3.0, 30.0]]))
    >>> y, mean, var
    (tensor([[-1., -1.],
            [ 1.,  1.]]), tensor([ 2., 20.]), tensor([  1., 100.]))
    """
    wide = x.astype(np.result_type(x, np.float32))  # float16 overflows above 65504
    mean, var = wide.mean(over_channels(x.ndim)), wide.var(over_channels(x.ndim))  # (N, C, ...) -> (C,)
    y = _normalized(wide, mean, var, weight, bias, eps)
    return y.astype(result_dtype(x, weight, bias)), mean, var


def _normalized(x: Array, mean: Array, var: Array, weight: Array | None, bias: Array | None, eps: float) -> Array:
    # eps prevents a division by 0 in a channel of equal values
    y = (x - per_channel(mean, x.ndim)) / per_channel(np.sqrt(var + var.dtype.type(eps)), x.ndim)
    y = y if weight is None else y * per_channel(weight, x.ndim)
    return y if bias is None else y + per_channel(bias, x.ndim)


def result_dtype(*arrays: Array | None) -> Any:
    """The dtype of a sum of these arrays."""
    return np.result_type(*[array for array in arrays if array is not None])


@op(check=check_backward)
def batch_norm_backward(
    g: Array, x: Array, mean: Array, var: Array, weight: Array | None = None, /, eps: float = 1e-5
) -> tuple[Array, Array, Array]:
    """Gradients of `batch_norm_training` for input, weight and bias.

    With n the normalized input, rstd = 1 / sqrt(var + eps), and `mean` over everything but the channels,

    dweight = sum(g n)      dbias = sum(g)      dx = weight rstd (g - mean(g) - n mean(g n))
    """
    over, dtype = over_channels(x.ndim), np.result_type(g, x, var)
    rstd = 1 / np.sqrt(var + var.dtype.type(eps))
    scale = rstd if weight is None else rstd * weight
    n = (x - per_channel(mean, x.ndim)) * per_channel(rstd, x.ndim)
    # adding a constant to x, or scaling x, does not change the result: so dx has no component along 1 or along n
    projected = g - g.mean(over, dtype, keepdims=True) - n * (g * n).mean(over, dtype, keepdims=True)
    return per_channel(scale, x.ndim) * projected, (g * n).sum(over, dtype), g.sum(over, dtype)


@op(check=check_inference)
def batch_norm_inference(
    x: Array, mean: Array, var: Array, weight: Array | None = None, bias: Array | None = None, /, eps: float = 1e-5
) -> Array:
    """`(x - mean) / sqrt(var + eps) * weight + bias` with a given mean and variance of each channel, all (C,).

    Raises `ShapeError` for vectors of another length.

    >>> from tt_core import ones, tensor
    >>> batch_norm_inference(tensor([[1.0], [5.0]]), ones(1), 4 * ones(1), eps=0.0)
    tensor([[0.],
            [2.]])
    """
    dtype = result_dtype(x, mean, weight, bias)
    wide = np.result_type(dtype, np.float32)  # float16 is computed in float32, and rounded once
    y = _normalized(x.astype(wide), mean, var.astype(np.result_type(var, np.float32)), weight, bias, eps)
    return y.astype(dtype)


# --- derivatives


@gradient(batch_norm_training)
def _(out: Any, x: Any, weight: Any, bias: Any, eps: float) -> Any:
    _, mean, var = out

    def for_all(g: Any) -> Any:
        by_y, by_mean, by_var = g
        count = x.numel() // x.shape[1]
        found = (0.0, None, None) if by_y is None else batch_norm_backward(by_y, x, mean, var, weight, eps=eps)
        by_x = found[0]
        # mean and variance are results too, and may have gradients of their own
        if by_mean is not None:
            by_x = by_x + per_channel(by_mean / count, x.ndim).expand(x.shape)
        if by_var is not None:
            by_x = by_x + (x - per_channel(mean, x.ndim)) * per_channel(by_var * (2 / count), x.ndim)
        return by_x, found[1], found[2]

    return for_all


@formula(batch_norm_backward)
def _(g: Any, x: Any, mean: Any, var: Any, weight: Any, eps: float) -> Any:
    over = over_channels(x.ndim)
    centred = x - x.mean(over, keepdim=True)  # recomputed, since mean and var depend on x too
    rstd = 1 / E.sqrt((centred * centred).mean(over, keepdim=True) + eps)
    normalized = centred * rstd
    scale = rstd if weight is None else rstd * per_channel(weight, x.ndim)
    projected = normalized * (g * normalized).mean(over, keepdim=True)
    return scale * (g - g.mean(over, keepdim=True) - projected), (g * normalized).sum(over), g.sum(over)


# mean and var are inputs here, and not computed from x, so the gradient of x is only scaled
@gradient(batch_norm_inference)
def _(out: Any, x: Any, mean: Any, var: Any, weight: Any, bias: Any, eps: float) -> Any:
    ndim, over = x.ndim, over_channels(x.ndim)
    rstd = 1 / E.sqrt(var + eps)
    scale = rstd if weight is None else rstd * weight
    return (
        lambda g: g * per_channel(scale, ndim),
        lambda g: -g.sum(over) * scale,
        lambda g: (g * (x - per_channel(mean, ndim))).sum(over) * scale * rstd * rstd * -0.5,
        lambda g: (g * (x - per_channel(mean, ndim))).sum(over) * rstd,
        lambda g: g.sum(over),
    )


# --- the functions


@of_tensors("x running_mean? running_var? weight? bias?")
def batch_norm(
    x: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """Normalizes each channel of x (N, C, ...) by its mean and variance, then scales and shifts it.

    Training uses the mean and variance of the batch, and moves `running_mean` and `running_var` (or None), all (C,),
    towards them by `momentum`, in place. Evaluation uses the running statistics (Ioffe and Szegedy 2015). Raises
    `ShapeError` in training for a single value per channel, `ArgumentError` in evaluation without running statistics.

    >>> from tt_core import tensor
    >>> batch_norm(tensor([[1.0], [3.0]]), None, None, training=True)
    tensor([[-1.],
            [ 1.]])
    """
    check_channels("batch_norm", x, running_mean, running_var, weight, bias)
    if not training:
        if running_mean is None or running_var is None:
            raise ArgumentError("batch_norm: give running_mean and running_var, or training=True")
        return batch_norm_inference(x, running_mean, running_var, weight, bias, eps=eps)
    count = math.prod((x.shape[0], *x.shape[2:]))
    if count == 1:
        raise ShapeError(
            f"batch_norm: one value in each channel of {x.shape} has no variance; pass more, or call eval()"
        )
    if count == 0:
        return normalized_nothing(x, weight, bias)
    y, mean, var = batch_norm_training(x, weight, bias, eps=eps)
    # the running variance is unbiased, as in PyTorch, while the batch is normalized by the biased one
    track_statistics(running_mean, mean, momentum)
    track_statistics(running_var, var, momentum, count / (count - 1))
    return y


def normalized_nothing(x: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
    """The result for an empty batch; the gradients of weight and bias are zeros and not None."""
    y = E.mul(x, 1.0 if weight is None else per_channel(weight, x.ndim))
    return y if bias is None else y + per_channel(bias, x.ndim)


def move_statistics(running: Tensor | None, new: Array, momentum: float) -> None:
    """Moves running statistics (C,), unless they are None, towards the statistics of a batch, in place.

    They become (1 - momentum) running + momentum new.

    >>> from tt_core import zeros
    >>> running = zeros(2)
    >>> move_statistics(running, np.array([1.0, 2.0]), momentum=0.5)
    >>> running
    tensor([0.5, 1. ])
    """
    if running is not None:
        moved = quietly(lambda: running.data * (1 - momentum) + new * momentum)
        np.copyto(running.data, moved, casting="same_kind")  # in place: state dicts and other layers hold this array


@effect(0)
def track_statistics(
    running: Tensor | None, new: Tensor, momentum: float, factor: float = 1.0, images: int = 1
) -> None:
    """`move_statistics` towards `factor` times the mean over `images` of the statistics `new`, one for each channel."""
    statistics = new.data if images == 1 else new.data.reshape(images, -1).mean(0)
    move_statistics(running, statistics if factor == 1 else statistics * factor, momentum)
    if running is not None:
        mutation.record(running.data)
