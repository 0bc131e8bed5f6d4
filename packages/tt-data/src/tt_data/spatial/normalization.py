"""Module 09, spatial: batch normalization.

Statistics are over all dimensions except the channels, dimension 1. Normalization of groups and of single images is in
`group_normalization.py`, the faster forms of the ops in `kernels/normalization.py`.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar

import numpy as np

from tt_core import Tensor
from tt_core.engine import mutation
from tt_core.engine.arguments import checked
from tt_core.engine.compositions import as_tensor, of_tensors
from tt_core.engine.dispatch import Array, op, quietly
from tt_core.engine.effects import effect
from tt_core.engine.errors import ArgumentError, ShapeError, check_floats
from tt_core.layers import Layer
from tt_core.tensor import elementwise as E
from tt_core.tensor.creation import ones, zeros
from tt_learn.autograd import formula, gradient


def _check(x: Array, weight: Array | None, bias: Array | None) -> None:
    if np.ndim(x) < 2:
        raise ValueError(f"input has {np.ndim(x)} dimensions, expected (N, C, ...)")
    for name, vector in (("weight", weight), ("bias", bias)):
        if vector is not None and vector.shape != x.shape[1:2]:
            raise ValueError(f"{name} has shape {vector.shape}, input has {x.shape[1]} channels")


def _check_training(x: Array, weight: Array | None = None, bias: Array | None = None, /, eps: float = 1e-5) -> None:
    _check(x, weight, bias)
    check_floats(x)
    if not x.size:
        raise ValueError("input has no values to take a mean of")


def over_channels(ndim: int) -> tuple[int, ...]:
    """All dimensions except the channels."""
    return (0, *range(2, ndim))


def per_channel(vector: Any, ndim: int) -> Any:
    """(C,) as (1, C, 1, ...), which broadcasts over an input."""
    return vector.reshape((1, -1) + (1,) * (ndim - 2))


@op(check=_check_training)
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
    mean, var = wide.mean(over_channels(x.ndim)), wide.var(over_channels(x.ndim))
    y = _normalized(wide, mean, var, weight, bias, eps)
    return y.astype(result_dtype(x, weight, bias)), mean, var


def _normalized(x: Array, mean: Array, var: Array, weight: Array | None, bias: Array | None, eps: float) -> Array:
    y = (x - per_channel(mean, x.ndim)) / per_channel(np.sqrt(var + var.dtype.type(eps)), x.ndim)
    y = y if weight is None else y * per_channel(weight, x.ndim)
    return y if bias is None else y + per_channel(bias, x.ndim)


def result_dtype(*arrays: Array | None) -> Any:
    """The dtype of a sum of these arrays."""
    return np.result_type(*[array for array in arrays if array is not None])


def _check_backward(g: Array, x: Array, *_: Any, **__: Any) -> None:
    check_floats(g)
    check_floats(x)


@op(check=_check_backward)
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
    projected = g - g.mean(over, dtype, keepdims=True) - n * (g * n).mean(over, dtype, keepdims=True)
    return per_channel(scale, x.ndim) * projected, (g * n).sum(over, dtype), g.sum(over, dtype)


def _check_inference(
    x: Array, mean: Array, var: Array, weight: Array | None = None, bias: Array | None = None, /, eps: float = 1e-5
) -> None:
    _check(x, weight, bias)
    if mean.shape != x.shape[1:2] or var.shape != x.shape[1:2]:
        raise ValueError(f"mean {mean.shape} and var {var.shape} must have one entry for each of {x.shape[1]} channels")


@op(check=_check_inference)
def batch_norm_inference(
    x: Array, mean: Array, var: Array, weight: Array | None = None, bias: Array | None = None, /, eps: float = 1e-5
) -> Array:
    """`(x - mean) / sqrt(var + eps) * weight + bias` with a given mean and variance of each channel, all (C,)."""
    dtype = result_dtype(x, mean, weight, bias)
    wide = np.result_type(dtype, np.float32)
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


def check_channels(who: str, x: Tensor, *vectors: Tensor | None) -> None:
    """Raise `ShapeError` unless x is (N, C, ...) and each of `vectors` is (C,) or None."""
    if x.ndim < 2:
        raise ShapeError(f"{who}: input has {x.ndim} dimensions, expected (N, C, ...)")
    for vector in vectors:
        if vector is not None and vector.shape != x.shape[1:2]:
            raise ShapeError(f"{who}: {vector.shape} is given for each of {x.shape[1]} channels of {x.shape}")


def normalized_nothing(x: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
    """The result for an empty batch; the gradients of weight and bias are zeros and not None."""
    y = E.mul(x, 1.0 if weight is None else per_channel(weight, x.ndim))
    return y if bias is None else y + per_channel(bias, x.ndim)


def move_statistics(running: Tensor | None, new: Array, momentum: float) -> None:
    """Move running statistics (C,), unless they are None, towards the statistics of a batch, in place."""
    if running is not None:
        moved = quietly(lambda: running.data * (1 - momentum) + new * momentum)
        np.copyto(running.data, moved, casting="same_kind")
        mutation.record(running.data)


@effect(0)
def track_statistics(
    running: Tensor | None, new: Tensor, momentum: float, factor: float = 1.0, images: int = 1
) -> None:
    """`move_statistics` towards `factor` times the mean over `images` of the statistics `new`, one for each channel."""
    statistics = new.data if images == 1 else new.data.reshape(images, -1).mean(0)
    move_statistics(running, statistics if factor == 1 else statistics * factor, momentum)


@effect(0)
def count_batch(batches: Tensor) -> None:
    """Add 1 to the number of batches that running statistics have seen, in place."""
    np.add(batches.data, 1, out=batches.data)


# --- layers


class Normalization(Layer):
    """Base of the layers with running statistics: their state and its updates."""

    weight: Tensor | None
    bias: Tensor | None
    running_mean: Tensor | None
    running_var: Tensor | None
    num_batches_tracked: Tensor | None
    _ndims: tuple[int, ...]
    _expected: str
    _usual: ClassVar[dict[str, Any]] = {"affine": True, "track_running_stats": True}
    _may_be_missing = ("num_batches_tracked",)  # state dicts older than PyTorch 0.4.1 lack it

    @checked
    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        self.num_features, self.eps, self.momentum = num_features, eps, momentum
        self.affine, self.track_running_stats = affine, track_running_stats
        self.weight = ones(num_features).as_parameter() if affine else None
        self.bias = zeros(num_features).as_parameter() if affine else None
        self.register_buffer("running_mean", zeros(num_features) if track_running_stats else None)
        self.register_buffer("running_var", ones(num_features) if track_running_stats else None)
        self.register_buffer("num_batches_tracked", zeros(dtype=np.int64) if track_running_stats else None)
        self._made_in(device, dtype)

    def _check_shape(self, x: Tensor, shape: tuple[int, ...]) -> None:
        """Raise `ShapeError` unless this layer takes `shape`, the shape of x with a batch dimension."""
        if len(shape) not in self._ndims or shape[1] != self.num_features:
            expected = self._expected.replace("C", str(self.num_features))
            raise ShapeError(f"{type(self).__name__}: input has shape {x.shape}, expected {expected}")

    def _step(self) -> float:
        """The weight of the new batch: `momentum`, or 1 / batches if it is None, for the mean of all batches."""
        if self.num_batches_tracked is None:
            return self.momentum or 0.0
        count_batch(self.num_batches_tracked)
        return self.momentum if self.momentum is not None else 1 / self.num_batches_tracked.item()

    def extra_repr(self) -> str:
        usual = {"eps": 1e-5, "momentum": 0.1, **self._usual}
        unusual = {name: getattr(self, name) for name, value in usual.items() if getattr(self, name) != value}
        return ", ".join([str(self.num_features), *(f"{name}={value}" for name, value in unusual.items())])


class _BatchNorm(Normalization):
    def forward(self, x: Tensor) -> Tensor:
        x = as_tensor(x, type(self).__name__)
        self._check_shape(x, x.shape)
        own = self.training or self.running_mean is None  # the statistics of the batch
        tracked = (self.running_mean, self.running_var) if self.training or not own else (None, None)
        step = self._step() if self.training else 0.0
        return batch_norm(x, *tracked, self.weight, self.bias, own, step, self.eps)


class BatchNorm2d(_BatchNorm):
    """Normalizes each channel of (N, C, H, W) over the batch (Ioffe and Szegedy 2015, arXiv:1502.03167).

    Training uses the batch's own mean and variance and moves `running_mean` and `running_var` (unbiased) towards them
    by `momentum` (None: to their mean over all batches); evaluation uses the running statistics. `weight` (C,) starts
    at 1, `bias` (C,) at 0. Raises `ShapeError` for other shapes, and in training for a single value per channel.

    >>> from tt_core import ones
    >>> BatchNorm2d(3)(ones(2, 3, 4, 4)).shape
    (2, 3, 4, 4)
    """

    _ndims, _expected = (4,), "(N, C, H, W)"


class BatchNorm1d(_BatchNorm):
    """Normalizes each channel of (N, C) or (N, C, L) over the batch; otherwise as `BatchNorm2d`.

    >>> from tt_core import tensor
    >>> BatchNorm1d(1)(tensor([[1.0], [3.0]]))
    tensor([[-1.],
            [ 1.]], grad_fn=batch_norm_training)
    """

    _ndims, _expected = (2, 3), "(N, C) or (N, C, L)"
