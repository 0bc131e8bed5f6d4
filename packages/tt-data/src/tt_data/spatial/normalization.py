"""Module 09, spatial: batch normalization, and dropout of whole channels.

Statistics are over everything but the channels, dimension 1, so channels do not know of each other: the kernels take
a few at a time through all their passes, and different ones in each thread. They do so in memory of their own: where
images lie a power of two apart, the same channel of all images falls on the same few lines of a cache.
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
from tt_core.engine.errors import ArgumentError, ShapeError, check_floats
from tt_core.engine.threads import in_parallel
from tt_core.layers import Layer
from tt_core.random import generator
from tt_core.tensor import elementwise as E
from tt_core.tensor.creation import ones, zeros
from tt_learn.autograd import formula, gradient


@op
def batch_norm_training(
    x: Array, weight: Array | None = None, bias: Array | None = None, /, eps: float = 1e-5
) -> tuple[Array, Array, Array]:
    """Mean 0 and variance 1 in each channel of this batch, then scaled and shifted (Ioffe & Szegedy 2015).

    x (N, C, ...), weight (C,), bias (C,) gives the result like x, and the mean and the (biased) variance (C,).

    >>> from tt_core import tensor
    >>> y, mean, var = batch_norm_training(tensor([[1.0, 10.0], [3.0, 30.0]]))
    >>> y, mean, var
    (tensor([[-1., -1.],
            [ 1.,  1.]]), tensor([ 2., 20.]), tensor([  1., 100.]))
    """
    _check(x, weight, bias)
    check_floats(x)
    if x.dtype == np.float16:  # which overflows above 65504, so sums are accumulated in float32
        y, mean, var = batch_norm_training.kernel(x.astype(np.float32), weight, bias, eps)
        return y.astype(_result_dtype(x, weight, bias)), mean, var
    flat = _flat(x)
    count = x.dtype.type(flat.shape[0] * flat.shape[2])
    if not count:
        raise ValueError("input has no values to take a mean of")
    mean, var = np.empty((2, flat.shape[1]), dtype=x.dtype)
    out = np.empty(flat.shape, dtype=_result_dtype(x, weight, bias))

    def normalize(channels: slice) -> None:
        mean[channels] = np.einsum("ncl->c", flat[:, channels]) / count
        centred = np.subtract(flat[:, channels], mean[channels, None], dtype=out.dtype)
        var[channels] = np.einsum("ncl,ncl->c", centred, centred) / count
        _scale(centred, var, weight, bias, eps, channels, out)

    in_parallel(normalize, flat.shape[1], flat.nbytes + out.nbytes)
    return out.reshape(x.shape), mean, var


@op
def batch_norm_backward(
    g: Array, x: Array, mean: Array, var: Array, weight: Array | None = None, /, eps: float = 1e-5
) -> tuple[Array, Array, Array]:
    """Gradients of `batch_norm_training` for input, weight and bias.

    With n the normalized input and rstd = 1 / sqrt(var + eps),

    dweight = sum(g n)      dbias = sum(g)      dx = weight rstd (g - dbias / count - n dweight / count)
    """
    flat, gradients = _flat(x), _flat(g)
    count = var.dtype.type(flat.shape[0] * flat.shape[2])
    rstd = 1 / np.sqrt(var + var.dtype.type(eps))
    scale = rstd if weight is None else rstd * weight
    out = np.empty(flat.shape, dtype=np.result_type(g, x, scale))
    by_weight, by_bias = np.empty((2, flat.shape[1]), dtype=out.dtype)

    def differentiate(channels: slice) -> None:
        upstream = gradients[:, channels].astype(out.dtype, order="C")
        own = np.subtract(flat[:, channels], mean[channels, None], dtype=out.dtype)
        by_bias[channels] = np.einsum("ncl->c", upstream)
        by_weight[channels] = np.einsum("ncl,ncl->c", own, upstream) * rstd[channels]
        own *= (by_weight[channels] * rstd[channels] / count)[:, None]
        own += by_bias[channels, None] / count
        np.subtract(upstream, own, out=own)
        np.multiply(own, scale[channels, None], out=out[:, channels])

    in_parallel(differentiate, flat.shape[1], flat.nbytes + gradients.nbytes + out.nbytes)
    return out.reshape(x.shape), by_weight, by_bias


@op
def batch_norm_inference(
    x: Array, mean: Array, var: Array, weight: Array | None = None, bias: Array | None = None, /, eps: float = 1e-5
) -> Array:
    """`(x - mean) / sqrt(var + eps) * weight + bias` with the mean and variance of each channel given, all (C,)."""
    _check(x, weight, bias)
    if mean.shape != x.shape[1:2] or var.shape != x.shape[1:2]:
        raise ValueError(f"mean {mean.shape} and var {var.shape} must have one entry for each of {x.shape[1]} channels")
    flat = _flat(x)
    out = np.empty(flat.shape, dtype=_result_dtype(x, mean, weight, bias))
    computed = np.result_type(out, np.float32)  # float16 is rounded once, at the end
    var = var.astype(np.result_type(var, np.float32), copy=False)

    def normalize(channels: slice) -> None:
        centred = np.subtract(flat[:, channels], mean[channels, None], dtype=computed)
        _scale(centred, var, weight, bias, eps, channels, out)

    in_parallel(normalize, flat.shape[1], flat.nbytes + out.nbytes)
    return out.reshape(x.shape)


def _scale(
    centred: Array, var: Array, weight: Array | None, bias: Array | None, eps: float, channels: slice, out: Array
) -> None:
    """From centred values (N, c, L), which are overwritten, to the result of these channels."""
    scale = 1 / np.sqrt(var[channels] + var.dtype.type(eps))
    scale = (scale if weight is None else scale * weight[channels])[:, None]
    if bias is None:
        np.multiply(centred, scale, out=out[:, channels])
    else:
        np.add(np.multiply(centred, scale, out=centred), bias[channels, None], out=out[:, channels])


def _result_dtype(*arrays: Array | None) -> Any:
    return np.result_type(*[array for array in arrays if array is not None])


def _flat(x: Array) -> Array:
    """(N, C, L)."""
    return x.reshape(*x.shape[:2], math.prod(x.shape[2:]))


def _check(x: Array, weight: Array | None, bias: Array | None) -> None:
    if x.ndim < 2:
        raise ValueError(f"input has {x.ndim} dimensions, expected (N, C, ...)")
    for name, vector in (("weight", weight), ("bias", bias)):
        if vector is not None and vector.shape != x.shape[1:2]:
            raise ValueError(f"{name} has shape {vector.shape}, input has {x.shape[1]} channels")


# --- derivatives


def per_channel(vector: Any, ndim: int) -> Any:
    """(C,) as (1, C, 1, ...), which broadcasts over an input."""
    return vector.reshape((1, -1) + (1,) * (ndim - 2))


def _others(ndim: int) -> tuple[int, ...]:
    return (0, *range(2, ndim))


@gradient(batch_norm_training)
def _(out: Any, x: Any, weight: Any, bias: Any, eps: float) -> Any:
    _, mean, var = out

    def for_all(g: Any) -> Any:
        by_y, by_mean, by_var = g
        count = x.numel() // x.shape[1]
        found = (0.0, None, None) if by_y is None else batch_norm_backward(by_y, x, mean, var, weight, eps=eps)
        by_x = found[0]
        if by_mean is not None:
            by_x = by_x + per_channel(by_mean / count, x.ndim).expand(x.shape)
        if by_var is not None:
            by_x = by_x + (x - per_channel(mean, x.ndim)) * per_channel(by_var * (2 / count), x.ndim)
        return by_x, found[1], found[2]

    return for_all


@formula(batch_norm_backward)
def _(g: Any, x: Any, mean: Any, var: Any, weight: Any, eps: float) -> Any:
    over = _others(x.ndim)
    centred = x - x.mean(over, keepdim=True)  # mean and var were made of x: their own derivatives are in here
    rstd = 1 / E.sqrt((centred * centred).mean(over, keepdim=True) + eps)
    normalized = centred * rstd
    scale = rstd if weight is None else rstd * per_channel(weight, x.ndim)
    projected = normalized * (g * normalized).mean(over, keepdim=True)
    return scale * (g - g.mean(over, keepdim=True) - projected), (g * normalized).sum(over), g.sum(over)


@gradient(batch_norm_inference)
def _(out: Any, x: Any, mean: Any, var: Any, weight: Any, bias: Any, eps: float) -> Any:
    ndim, over = x.ndim, _others(x.ndim)
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
    x: Any,
    running_mean: Any,
    running_var: Any,
    weight: Any = None,
    bias: Any = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Any:
    """Normalize each channel of x (N, C, ...) by its mean and variance, then scale and shift (Ioffe & Szegedy 2015).

    In training these are the batch's own, and `running_mean` and `running_var` (or None), all (C,), move towards them
    by `momentum` in place; otherwise the running ones are used. Raises `ShapeError` for one value per channel in
    training, and for running statistics that are needed and missing.

    >>> from tt_core import tensor, zeros
    >>> batch_norm(tensor([[1.0], [3.0]]), None, None, training=True)
    tensor([[-1.],
            [ 1.]])
    """
    check_channels("batch_norm", x, running_mean, running_var, weight, bias)
    if not training:
        if running_mean is None or running_var is None:
            raise ShapeError("batch_norm: give running_mean and running_var, or training=True")
        return batch_norm_inference(x, running_mean, running_var, weight, bias, eps=eps)
    count = math.prod((x.shape[0], *x.shape[2:]))
    if count == 1:
        raise ShapeError(
            f"batch_norm: one value in each channel of {x.shape} has no variance; pass more, or call eval()"
        )
    if count == 0:
        return of_nothing(x, weight, bias)
    y, mean, var = batch_norm_training(x, weight, bias, eps=eps)
    move_statistics(running_mean, mean.data, momentum)
    move_statistics(running_var, var.data * (count / (count - 1)), momentum)
    return y


def check_channels(who: str, x: Any, *vectors: Any) -> None:
    """Raise `ShapeError` unless x is (N, C, ...) and what is given for each channel is (C,)."""
    if x.ndim < 2:
        raise ShapeError(f"{who}: input has {x.ndim} dimensions, expected (N, C, ...)")
    for vector in vectors:
        if vector is not None and vector.shape != x.shape[1:2]:
            raise ShapeError(f"{who}: {vector.shape} is given for each of {x.shape[1]} channels of {x.shape}")


def of_nothing(x: Any, weight: Any, bias: Any) -> Any:
    """An empty batch: nothing to normalize, but the gradients of weight and bias are zeros and not None."""
    y = E.mul(x, 1.0 if weight is None else per_channel(weight, x.ndim))
    return y if bias is None else y + per_channel(bias, x.ndim)


def move_statistics(running: Any, new: Array, momentum: float) -> None:
    """Move running statistics (C,), if there are any, towards those of a batch, in place."""
    if running is not None:
        moved = quietly(lambda: running.data * (1 - momentum) + new * momentum)
        np.copyto(running.data, moved, casting="same_kind")
        mutation.record(running.data)


# --- layers


class Normalization(Layer):
    """What layers with running statistics have in common: their state, and how it moves."""

    weight: Tensor | None
    bias: Tensor | None
    running_mean: Tensor | None
    running_var: Tensor | None
    num_batches_tracked: Tensor | None
    _ndims: tuple[int, ...]
    _expected: str
    _usual: ClassVar[dict[str, Any]] = {"affine": True, "track_running_stats": True}
    _may_be_missing = ("num_batches_tracked",)  # state dicts of before PyTorch 0.4.1 lack it

    @checked
    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
    ) -> None:
        super().__init__()
        self.num_features, self.eps, self.momentum = num_features, eps, momentum
        self.affine, self.track_running_stats = affine, track_running_stats
        self.weight = ones(num_features).as_parameter() if affine else None
        self.bias = zeros(num_features).as_parameter() if affine else None
        self.register_buffer("running_mean", zeros(num_features) if track_running_stats else None)
        self.register_buffer("running_var", ones(num_features) if track_running_stats else None)
        self.register_buffer("num_batches_tracked", zeros(dtype=np.int64) if track_running_stats else None)

    def _check_shape(self, x: Any, shape: tuple[int, ...]) -> None:
        """Raise unless `shape`, that of x with a batch, is one this layer takes."""
        if len(shape) not in self._ndims or shape[1] != self.num_features:
            expected = self._expected.replace("C", str(self.num_features))
            raise ShapeError(f"{type(self).__name__}: input has shape {x.shape}, expected {expected}")

    def _step(self) -> float:
        """How far running statistics move: by `momentum`, or where it is None to the mean of all batches so far."""
        if self.num_batches_tracked is None:
            return self.momentum or 0.0
        self.num_batches_tracked.data += 1
        return self.momentum if self.momentum is not None else 1 / self.num_batches_tracked.item()

    def extra_repr(self) -> str:
        usual = {"eps": 1e-5, "momentum": 0.1, **self._usual}
        unusual = {name: getattr(self, name) for name, value in usual.items() if getattr(self, name) != value}
        return ", ".join([str(self.num_features), *(f"{name}={value}" for name, value in unusual.items())])


class _BatchNorm(Normalization):
    def forward(self, x: Any) -> Any:
        x = as_tensor(x, type(self).__name__)
        self._check_shape(x, x.shape)
        own = self.training or self.running_mean is None
        tracked = (self.running_mean, self.running_var) if self.training or not own else (None, None)
        step = self._step() if self.training else 0.0
        return batch_norm(x, *tracked, self.weight, self.bias, own, step, self.eps)


class BatchNorm2d(_BatchNorm):
    """Normalizes each channel of (N, C, H, W) over the batch (Ioffe & Szegedy 2015, arXiv:1502.03167).

    Training uses the batch's own mean and variance and moves `running_mean` and `running_var` (unbiased) towards them
    by `momentum` (None: their mean over all batches); evaluation uses these. `weight` starts at 1, `bias` at 0, (C,).
    Raises `ShapeError` for other shapes, and in training for a single value a channel.

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


# --- dropout of channels


@op(residuals=("scale",), random=True, view=True)
def dropout2d(x: Array, /, p: float = 0.5, training: bool = True) -> tuple[Array, Array]:
    """Each channel of each image 0 with probability `p`, else scaled by 1/(1-p) (Tompson et al. 2015).

    x (N, C, H, W, ...), or one image (C, H, W). Returns x itself unless `training`. Residual: the scale (N, C, 1, ...),
    or (C, 1, 1).
    """
    if not 0 <= p <= 1:
        raise ValueError(f"p is a probability, got {p}")
    if x.ndim < 3:
        raise ValueError(f"input has {x.ndim} dimensions, expected (N, C, H, W) or (C, H, W)")
    check_floats(x)
    if not training:
        return x, np.ones((), x.dtype)
    channels = x.shape[: 1 if x.ndim == 3 else 2]  # (C,) of one image, or (N, C)
    keep = generator().random(channels, dtype=np.float32) >= p
    scale = keep.astype(x.dtype) * x.dtype.type(1 / (1 - p) if p < 1 else 0)
    scale = scale.reshape(*channels, *(1,) * (x.ndim - len(channels)))
    return x * scale, scale


@gradient(dropout2d)
def _(out: Any, x: Any, scale: Any, **_: Any) -> Any:
    return (lambda g: g * scale,)


class Dropout2d(Layer):
    """Zeroes whole channels at random while training, and does nothing in evaluation (Tompson et al. 2015).

    Neighbouring pixels say the same, so dropping single ones teaches little. Takes (N, C, H, W) or (C, H, W).

    >>> from tt_core import ones
    >>> Dropout2d(0.5).eval()(ones(1, 2, 1, 1)).tolist()
    [[[[1.0]], [[1.0]]]]
    """

    @checked
    def __init__(self, p: float = 0.5) -> None:
        super().__init__()
        if not 0 <= p <= 1:
            raise ArgumentError(f"Dropout2d: p is a probability, got {p}")
        self.p = p

    def forward(self, x: Any) -> Any:
        return dropout2d(x, p=self.p) if self.training and self.p else x

    def extra_repr(self) -> str:
        return f"p={self.p}"
