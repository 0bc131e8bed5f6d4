"""PyTorch's `torch.nn.functional`: functions of Act I with PyTorch's arguments, and those the journey does not need.

All are compositions of existing ops, so their gradients follow. `inplace=` is accepted and saves nothing: no function
here changes its input. What later acts export (`conv2d`, `max_pool2d`, `embedding`, ...) is found here once they are
imported.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from tt_core import activations as A
from tt_core import layers as L
from tt_core import losses
from tt_core.engine.compositions import as_tensor, of_tensors
from tt_core.engine.dispatch import quietly, wrap
from tt_core.engine.errors import DTypeError, OutOfRangeError, ShapeError
from tt_core.engine.later import absent
from tt_core.losses import binary_cross_entropy as binary_cross_entropy
from tt_core.losses import binary_cross_entropy_with_logits as binary_cross_entropy_with_logits
from tt_core.losses import cross_entropy as cross_entropy
from tt_core.losses import kl_div as kl_div
from tt_core.losses import l1_loss as l1_loss
from tt_core.losses import mse_loss as mse_loss
from tt_core.losses import nll_loss as nll_loss
from tt_core.losses import smooth_l1_loss as smooth_l1_loss
from tt_core.random import source
from tt_core.tensor import creation as C
from tt_core.tensor import elementwise as E
from tt_core.tensor import reductions as R
from tt_core.tensor import shapes as S

if not TYPE_CHECKING:  # where it would hide misspelt names
    __getattr__ = absent(__name__)


# --- functions of Act I with PyTorch's arguments


def linear(input: Any, weight: Any, bias: Any = None) -> Any:
    """`input @ weight.T + bias`."""
    return L.linear(input, weight, bias)


@of_tensors("input")
def layer_norm(input: Any, normalized_shape: Any, weight: Any = None, bias: Any = None, eps: float = 1e-5) -> Any:
    """Mean 0 and variance 1 over the last dimensions, whose sizes are `normalized_shape`.

    Raises `ShapeError` for an input that does not end in it.
    """
    shape = S.as_size("layer_norm", (normalized_shape if np.ndim(normalized_shape) else (normalized_shape,),))
    if input.shape[-len(shape) :] != shape:
        raise ShapeError(f"layer_norm: input {input.shape} does not end in {shape}")
    return L.layer_norm(input, weight, bias, dims=len(shape), eps=eps)


def dropout(input: Any, p: float = 0.5, training: bool = True, inplace: bool = False) -> Any:
    """Each element 0 with probability `p`, else scaled by 1/(1-p); the input itself unless `training`."""
    return L.dropout(input, p=p, training=training)


def relu(input: Any, inplace: bool = False) -> Any:
    """`max(x, 0)`."""
    return A.relu(input)


def leaky_relu(input: Any, negative_slope: float = 0.01, inplace: bool = False) -> Any:
    """`x` above 0, `negative_slope * x` below."""
    return A.leaky_relu(input, negative_slope=negative_slope)


def silu(input: Any, inplace: bool = False) -> Any:
    """`x sigmoid(x)`."""
    return A.silu(input)


sigmoid, tanh, softplus, gelu = A.sigmoid, A.tanh, A.softplus, A.gelu


def softmax(input: Any, dim: int = -1, _stacklevel: int = 3, dtype: Any = None) -> Any:
    """`softmax` over `dim`, in `dtype` if one is given."""
    return A.softmax(input if dtype is None else as_tensor(input, "softmax").to(dtype), dim=dim)


def log_softmax(input: Any, dim: int = -1, _stacklevel: int = 3, dtype: Any = None) -> Any:
    """`log_softmax` over `dim`, in `dtype` if one is given."""
    return A.log_softmax(input if dtype is None else as_tensor(input, "log_softmax").to(dtype), dim=dim)


@of_tensors("input")
def pad(input: Any, pad: Any, mode: str = "constant", value: float | None = None) -> Any:
    """Widened by `pad`, (before, after) pairs from the last dimension backwards."""
    if mode == "constant":
        return S.pad(input, pad=pad, value=value or 0.0)
    return S.pad(input, pad=pad, mode=mode)


# --- activations


def elu(input: Any, alpha: float = 1.0, inplace: bool = False) -> Any:
    """`x` above 0, `alpha (exp(x) - 1)` below (Clevert et al. 2015, arXiv:1511.07289).

    >>> elu(C.tensor([-1.0, 2.0]))
    tensor([-0.6321,  2.    ])
    """
    return E.where(E.gt(input, 0), input, E.expm1(E.clip(input, max=0.0)) * alpha)


def celu(input: Any, alpha: float = 1.0, inplace: bool = False) -> Any:
    """`max(x, 0) + min(0, alpha (exp(x / alpha) - 1))` (Barron 2017, arXiv:1704.07483).

    >>> celu(C.tensor([-1.0, 2.0]), alpha=2.0)
    tensor([-0.7869,  2.    ])
    """
    return E.where(E.gt(input, 0), input, E.expm1(E.clip(input, max=0.0) / alpha) * alpha)


_SELU_ALPHA, _SELU_SCALE = 1.6732632423543772, 1.0507009873554805


def selu(input: Any, inplace: bool = False) -> Any:
    """Scaled `elu` that keeps mean 0 and variance 1 (Klambauer et al. 2017, arXiv:1706.02515).

    >>> selu(C.tensor([-1.0, 2.0]))
    tensor([-1.1113,  2.1014])
    """
    return elu(input, _SELU_ALPHA) * _SELU_SCALE


def mish(input: Any, inplace: bool = False) -> Any:
    """`x tanh(softplus(x))` (Misra 2019, arXiv:1908.08681).

    >>> mish(C.tensor([-1.0, 2.0]))
    tensor([-0.3034,  1.944 ])
    """
    return input * A.tanh(A.softplus(input))


@of_tensors("input")
def relu6(input: Any, inplace: bool = False) -> Any:
    """`min(max(x, 0), 6)`.

    >>> relu6(C.tensor([-1.0, 2.0, 7.0]))
    tensor([0., 2., 6.])
    """
    return hardtanh(input, 0.0, 6.0)


@of_tensors("input")
def hardtanh(input: Any, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False) -> Any:
    """`x` limited to [min_val, max_val]; the gradient at the bounds is 0.

    >>> hardtanh(C.tensor([-2.0, 0.5]))
    tensor([-1. ,  0.5])
    """
    inside = E.gt(input, min_val) & E.lt(input, max_val)
    return E.where(inside, input, quietly(np.clip, input.data, min_val, max_val))


@of_tensors("input")
def hardsigmoid(input: Any, inplace: bool = False) -> Any:
    """`relu6(x + 3) / 6`.

    >>> hardsigmoid(C.tensor([-3.0, 0.0, 3.0]))
    tensor([0. , 0.5, 1. ])
    """
    return relu6(input + 3) / 6


@of_tensors("input")
def hardswish(input: Any, inplace: bool = False) -> Any:
    """`x hardsigmoid(x)` (Howard et al. 2019, arXiv:1905.02244).

    >>> hardswish(C.tensor([-3.0, 1.0]))
    tensor([-0.    ,  0.6667])
    """
    return input * hardsigmoid(input)


@of_tensors("input")
def logsigmoid(input: Any) -> Any:
    """`log(sigmoid(x))`, safe at any magnitude.

    >>> logsigmoid(C.tensor([-1e4, 0.0]))
    tensor([-1.0000e+04, -6.9315e-01])
    """
    return -A.softplus(-input, threshold=math.inf)


def softsign(input: Any) -> Any:
    """`x / (1 + |x|)`.

    >>> softsign(C.tensor([-1.0, 3.0]))
    tensor([-0.5 ,  0.75])
    """
    return input / (E.abs(input) + 1)


def tanhshrink(input: Any) -> Any:
    """`x - tanh(x)`.

    >>> tanhshrink(C.tensor([0.0, 2.0]))
    tensor([0.   , 1.036])
    """
    return input - A.tanh(input)


def hardshrink(input: Any, lambd: float = 0.5) -> Any:
    """`x` beyond +-lambd, 0 between.

    >>> hardshrink(C.tensor([-1.0, 0.2]))
    tensor([-1.,  0.])
    """
    return E.masked_fill(input, E.le(E.abs(input), lambd), 0.0)


def softshrink(input: Any, lambd: float = 0.5) -> Any:
    """`x` moved towards 0 by `lambd`, and 0 where that would cross it.

    >>> softshrink(C.tensor([-1.0, 0.2]))
    tensor([-0.5,  0. ])
    """
    return E.masked_fill(input - E.sign(input) * lambd, E.le(E.abs(input), lambd), 0.0)


def threshold(input: Any, threshold: float, value: float, inplace: bool = False) -> Any:
    """`x` above `threshold`, else `value`.

    >>> threshold(C.tensor([0.5, 2.0]), 1.0, 9.0)
    tensor([9., 2.])
    """
    return E.masked_fill(input, E.le(input, threshold), value)


@of_tensors("input")
def softmin(input: Any, dim: int = -1, _stacklevel: int = 3, dtype: Any = None) -> Any:
    """`softmax(-x)`.

    >>> softmin(C.tensor([0.0, 0.0]))
    tensor([0.5, 0.5])
    """
    return softmax(-input, dim, dtype=dtype)


@of_tensors("input")
def glu(input: Any, dim: int = -1) -> Any:
    """One half of `dim` times the sigmoid of the other (Dauphin et al. 2016); raises `ShapeError` for an odd size.

    >>> glu(C.tensor([3.0, 0.0]))
    tensor([1.5])
    """
    if input.shape[input._own_dim("glu", dim)] % 2:
        raise ShapeError(f"glu: dimension {dim} must have an even size, got shape {input.shape}")
    value, gate = input.chunk(2, dim)
    return value * A.sigmoid(gate)


@of_tensors("input weight")
def prelu(input: Any, weight: Any) -> Any:
    """`x` above 0, `weight * x` below, with one weight or one for each channel, which is dimension 1.

    >>> prelu(C.tensor([-2.0, 2.0]), C.tensor([0.5]))
    tensor([-1.,  2.])
    """
    if weight.numel() > 1:
        weight = weight.reshape((-1,) + (1,) * max(input.ndim - 2, 0))
    return E.where(E.gt(input, 0), input, input * weight)


@of_tensors("logits")
def gumbel_softmax(logits: Any, tau: float = 1, hard: bool = False, eps: float = 1e-10, dim: int = -1) -> Any:
    """A random, differentiable choice (Jang et al. 2016, arXiv:1611.01144): `softmax((logits + Gumbel noise) / tau)`.

    With `hard`, the result is one-hot and the gradient is that of the soft choice.

    >>> gumbel_softmax(C.zeros(2, 3), hard=True).sum(1)
    tensor([1., 1.])
    """
    noise = -np.log(source(None).standard_exponential(logits.shape)).astype(logits.dtype)
    soft = A.softmax((logits + noise) / tau, dim=dim)
    if not hard:
        return soft
    chosen = C.zeros(*soft.shape, dtype=soft.dtype).scatter(dim, R.argmax(soft, dim=dim, keepdim=True), 1.0)
    return chosen - soft.detach() + soft


# --- vectors and their distances


@of_tensors("input")
def normalize(input: Any, p: float = 2.0, dim: int = 1, eps: float = 1e-12) -> Any:
    """Divided by the norm over `dim`, which counts as `eps` at least.

    >>> normalize(C.tensor([[3.0, 4.0]]))
    tensor([[0.6, 0.8]])
    """
    return input / E.clip(input.norm(p, dim, keepdim=True), min=eps)


@of_tensors("x1 x2")
def cosine_similarity(x1: Any, x2: Any, dim: int = 1, eps: float = 1e-8) -> Any:
    """Cosine of the angle between vectors along `dim`; a norm counts as `eps` at least.

    >>> cosine_similarity(C.tensor([[1.0, 0.0]]), C.tensor([[1.0, 1.0]]))
    tensor([0.7071])
    """
    first, second = (x / E.clip(x.norm(2, dim, keepdim=True), min=eps) for x in (x1, x2))
    return R.sum(first * second, dim=dim)


@of_tensors("x1 x2")
def pairwise_distance(x1: Any, x2: Any, p: float = 2.0, eps: float = 1e-6, keepdim: bool = False) -> Any:
    """Norm of `x1 - x2 + eps` over the last dimension.

    >>> pairwise_distance(C.tensor([[3.0, 4.0]]), C.zeros(1, 2))
    tensor([5.])
    """
    return (x1 - x2 + eps).norm(p, -1, keepdim)


@of_tensors("x1 x2")
def cdist(x1: Any, x2: Any, p: float = 2.0) -> Any:
    """Distance of each row of one to each row of the other; (..., n, d) and (..., m, d) give (..., n, m).

    >>> cdist(C.zeros(1, 2), C.tensor([[3.0, 4.0], [0.0, 1.0]]))
    tensor([[5., 1.]])
    """
    return (x1.unsqueeze(-2) - x2.unsqueeze(-3)).norm(p, -1)


@of_tensors("tensor")
def one_hot(tensor: Any, num_classes: int = -1) -> Any:
    """A row of zeros with a 1 at its class for each class index, in int64; without `num_classes`, up to the largest.

    Raises `DTypeError` for what is not integers, `OutOfRangeError` for a class that does not exist.

    >>> one_hot(C.tensor([0, 2]))
    tensor([[1, 0, 0],
            [0, 0, 1]])
    """
    if tensor.dtype.kind not in "iu":
        raise DTypeError(f"one_hot: class indices are integers, got {tensor.dtype}")
    if num_classes < 0 and not tensor.numel():
        raise ShapeError("one_hot: num_classes must be given for an empty tensor")
    classes = int(tensor.data.max()) + 1 if num_classes < 0 else num_classes
    if tensor.numel() and not (tensor.data.min() >= 0 and tensor.data.max() < classes):
        least, most = tensor.data.min(), tensor.data.max()
        raise OutOfRangeError(f"one_hot: indices go from {least} to {most}, there are {classes} classes (from 0)")
    return wrap((tensor.data[..., None] == np.arange(classes)).astype(np.int64))


# --- losses


def _reduced(name: str, loss: Any, reduction: str) -> Any:
    if reduction not in ("none", "mean", "sum"):
        raise ShapeError(f"{name}: reduction is one of none, mean, sum, got {reduction!r}")
    return loss if reduction == "none" else R.mean(loss) if reduction == "mean" else R.sum(loss)


@of_tensors("input target")
def huber_loss(input: Any, target: Any, reduction: str = "mean", delta: float = 1.0, weight: Any = None) -> Any:
    """Squared error near 0 and absolute error beyond `delta` (Huber 1964): with d = |x - t|,
    `d^2 / 2` where d <= delta, else `delta (d - delta / 2)`.

    >>> huber_loss(C.tensor([0.5, 3.0]), C.zeros(2), reduction="none")
    tensor([0.125, 2.5  ])
    """
    loss = losses.smooth_l1_loss(input, target, "none", delta) * delta
    return _reduced("huber_loss", loss if weight is None else loss * weight, reduction)


@of_tensors("input1 input2 target")
def margin_ranking_loss(input1: Any, input2: Any, target: Any, margin: float = 0.0, reduction: str = "mean") -> Any:
    """`max(0, -target (input1 - input2) + margin)`: target 1 ranks the first higher, -1 the second.

    >>> margin_ranking_loss(C.tensor([1.0]), C.tensor([2.0]), C.tensor([1.0]))
    tensor(1.)
    """
    return _reduced("margin_ranking_loss", E.clip(-target * (input1 - input2) + margin, min=0.0), reduction)


@of_tensors("input target")
def hinge_embedding_loss(input: Any, target: Any, margin: float = 1.0, reduction: str = "mean") -> Any:
    """`x` where `target` is 1, `max(0, margin - x)` where it is -1.

    >>> hinge_embedding_loss(C.tensor([0.3, 0.3]), C.tensor([1.0, -1.0]), reduction="none")
    tensor([0.3, 0.7])
    """
    loss = E.where(E.eq(target, 1), input, E.clip(margin - input, min=0.0))
    return _reduced("hinge_embedding_loss", loss, reduction)


@of_tensors("input target")
def soft_margin_loss(input: Any, target: Any, reduction: str = "mean") -> Any:
    """`log(1 + exp(-target x))` for targets 1 and -1.

    >>> soft_margin_loss(C.tensor([0.0]), C.tensor([1.0]))
    tensor(0.6931)
    """
    return _reduced("soft_margin_loss", -logsigmoid(target * input), reduction)


@of_tensors("input1 input2 target")
def cosine_embedding_loss(input1: Any, input2: Any, target: Any, margin: float = 0.0, reduction: str = "mean") -> Any:
    """`1 - cos` of the angle where `target` is 1, `max(0, cos - margin)` where it is -1.

    >>> cosine_embedding_loss(C.eye(2), C.eye(2), C.tensor([1.0, -1.0]), reduction="none")
    tensor([0., 1.])
    """
    cosine = cosine_similarity(input1, input2, dim=-1)
    loss = E.where(E.eq(target, 1), 1 - cosine, E.clip(cosine - margin, min=0.0))
    return _reduced("cosine_embedding_loss", loss, reduction)


@of_tensors("anchor positive negative")
def triplet_margin_loss(
    anchor: Any,
    positive: Any,
    negative: Any,
    margin: float = 1.0,
    p: float = 2,
    eps: float = 1e-6,
    swap: bool = False,
    reduction: str = "mean",
) -> Any:
    """`max(0, |anchor - positive| - |anchor - negative| + margin)`; with `swap`, the nearer of anchor and positive
    counts for the negative (Balntas et al. 2016).

    >>> triplet_margin_loss(C.zeros(1, 2), C.zeros(1, 2), C.tensor([[0.6, 0.0]]), eps=0.0)
    tensor(0.4)
    """
    near, far = pairwise_distance(anchor, positive, p, eps), pairwise_distance(anchor, negative, p, eps)
    if swap:
        far = E.minimum(far, pairwise_distance(positive, negative, p, eps))
    return _reduced("triplet_margin_loss", E.clip(near - far + margin, min=0.0), reduction)


@of_tensors("input target")
def poisson_nll_loss(
    input: Any,
    target: Any,
    log_input: bool = True,
    full: bool = False,
    eps: float = 1e-8,
    reduction: str = "mean",
) -> Any:
    """`exp(x) - target x` for logarithms `x` of rates, or `x - target log(x + eps)` for rates (`log_input=False`).

    `full` adds Stirling's approximation of `log(target!)` where target > 1.

    >>> poisson_nll_loss(C.tensor([0.0]), C.tensor([2.0]))
    tensor(1.)
    """
    loss = E.exp(input) - target * input if log_input else input - target * E.log(input + eps)
    if full:
        many = E.where(E.gt(target, 1), target, 1.0)
        stirling = many * E.log(many) - many + E.log(many * (2 * math.pi)) * 0.5
        loss = loss + E.where(E.gt(target, 1), stirling, 0.0)
    return _reduced("poisson_nll_loss", loss, reduction)


@of_tensors("input target var")
def gaussian_nll_loss(
    input: Any, target: Any, var: Any, full: bool = False, eps: float = 1e-6, reduction: str = "mean"
) -> Any:
    """`(log(var) + (x - target)^2 / var) / 2`, with a variance of at least `eps`.

    >>> gaussian_nll_loss(C.tensor([1.0]), C.tensor([3.0]), C.tensor([2.0]))
    tensor(1.3466)
    """
    variance = E.where(E.lt(var, eps), eps, var)
    difference = input - target
    loss = (E.log(variance) + difference * difference / variance) * 0.5
    return _reduced("gaussian_nll_loss", loss + 0.5 * math.log(2 * math.pi) * full, reduction)


@of_tensors("input target")
def multi_margin_loss(
    input: Any, target: Any, p: int = 1, margin: float = 1.0, weight: Any = None, reduction: str = "mean"
) -> Any:
    """Mean over classes of `max(0, margin - x[target] + x[i])^p` for the other classes i; `input` (N, C).

    >>> multi_margin_loss(C.tensor([[1.0, 0.5]]), C.tensor([0]))
    tensor(0.25)
    """
    right = S.take_along_dim(input, target.unsqueeze(-1), dim=-1)
    others = E.clip(margin - right + input, min=0.0) ** p
    if weight is not None:
        others = others * as_tensor(weight, "multi_margin_loss", "weight")[target].unsqueeze(-1)
    kept = E.masked_fill(others, E.eq(one_hot(target, input.shape[-1]), 1), 0.0)
    return _reduced("multi_margin_loss", R.sum(kept, dim=-1) / input.shape[-1], reduction)
