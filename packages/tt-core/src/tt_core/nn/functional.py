"""PyTorch's `torch.nn.functional`: the functions of Act I with PyTorch's arguments, and functions beyond the journey.

All are compositions of existing ops, so they need no gradient rules. `inplace=` is accepted without effect: no function
here changes its input. Functions of later acts (`conv2d`, `max_pool2d`, `embedding`, ...) appear here when these acts
are imported.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from tt_core import activations as A
from tt_core import layers as L
from tt_core import losses
from tt_core.engine.compositions import as_tensor, of_tensors
from tt_core.engine.dispatch import Array, quietly, wrap
from tt_core.engine.errors import ArgumentError, DTypeError, OutOfRangeError, ShapeError
from tt_core.engine.later import absent, listed
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
from tt_core.tensor.tensor import Tensor

if TYPE_CHECKING:
    from tt_core.engine.hints import DTypeLike, TensorLike

if not TYPE_CHECKING:  # where it would hide misspelt names
    __getattr__ = absent(__name__)
    __dir__ = listed(__name__)


# --- functions of Act I with PyTorch's arguments


def linear(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """`input @ weight.T + bias`."""
    return L.linear(input, weight, bias)


@of_tensors("input")
def layer_norm(
    input: Tensor | Array,
    normalized_shape: int | Sequence[int],
    weight: Tensor | Array | None = None,
    bias: Tensor | Array | None = None,
    eps: float = 1e-5,
) -> Tensor:
    """Mean 0 and variance 1 over the last dimensions, whose sizes are `normalized_shape`.

    Raises `ShapeError` for an input whose last dimensions have other sizes.
    """
    shape = S.as_size("layer_norm", (normalized_shape if np.ndim(normalized_shape) else (normalized_shape,),))
    if input.shape[-len(shape) :] != shape:
        raise ShapeError(f"layer_norm: input {input.shape} does not end in {shape}")
    return L.layer_norm(input, weight, bias, dims=len(shape), eps=eps)


def dropout(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """Sets elements to 0 with probability `p`, scales the others by 1/(1-p); returns the input unless `training`."""
    return L.dropout(input, p=p, training=training)


def relu(input: Tensor, inplace: bool = False) -> Tensor:
    """`max(x, 0)`."""
    return A.relu(input)


def leaky_relu(input: Tensor, negative_slope: float = 0.01, inplace: bool = False) -> Tensor:
    """`x` above 0, `negative_slope * x` below."""
    return A.leaky_relu(input, negative_slope=negative_slope)


def silu(input: Tensor, inplace: bool = False) -> Tensor:
    """`x sigmoid(x)`."""
    return A.silu(input)


sigmoid, tanh, softplus, gelu = A.sigmoid, A.tanh, A.softplus, A.gelu


def softmax(input: Tensor, dim: int = -1, _stacklevel: int = 3, dtype: DTypeLike | None = None) -> Tensor:
    """`softmax` over `dim`, in `dtype` if one is given."""
    return A.softmax(input if dtype is None else as_tensor(input, "softmax").to(dtype), dim=dim)


def log_softmax(input: Tensor, dim: int = -1, _stacklevel: int = 3, dtype: DTypeLike | None = None) -> Tensor:
    """`log_softmax` over `dim`, in `dtype` if one is given."""
    return A.log_softmax(input if dtype is None else as_tensor(input, "log_softmax").to(dtype), dim=dim)


@of_tensors("input")
def pad(input: Tensor, pad: int | Sequence[int], mode: str = "constant", value: float | bool | None = None) -> Tensor:
    """Pads `input` by `pad`, (before, after) pairs from the last dimension backwards."""
    if mode == "constant":
        return S.pad(input, pad=pad, value=value or 0.0)
    return S.pad(input, pad=pad, mode=mode)


# --- activations


def elu(input: Tensor, alpha: float = 1.0, inplace: bool = False) -> Tensor:
    """`x` above 0, `alpha (exp(x) - 1)` below (Clevert et al. 2015, arXiv:1511.07289).

    >>> elu(C.tensor([-1.0, 2.0]))
    tensor([-0.6321,  2.    ])
    """
    return E.where(E.gt(input, 0), input, E.expm1(E.clip(input, max=0.0)) * alpha)


def celu(input: Tensor, alpha: float = 1.0, inplace: bool = False) -> Tensor:
    """`max(x, 0) + min(0, alpha (exp(x / alpha) - 1))` (Barron 2017, arXiv:1704.07483).

    >>> celu(C.tensor([-1.0, 2.0]), alpha=2.0)
    tensor([-0.7869,  2.    ])
    """
    return E.where(E.gt(input, 0), input, E.expm1(E.clip(input, max=0.0) / alpha) * alpha)


_SELU_ALPHA, _SELU_SCALE = 1.6732632423543772, 1.0507009873554805


def selu(input: Tensor, inplace: bool = False) -> Tensor:
    """Scaled `elu` that keeps mean 0 and variance 1 (Klambauer et al. 2017, arXiv:1706.02515).

    >>> selu(C.tensor([-1.0, 2.0]))
    tensor([-1.1113,  2.1014])
    """
    return elu(input, _SELU_ALPHA) * _SELU_SCALE


def mish(input: Tensor, inplace: bool = False) -> Tensor:
    """`x tanh(softplus(x))` (Misra 2019, arXiv:1908.08681).

    >>> mish(C.tensor([-1.0, 2.0]))
    tensor([-0.3034,  1.944 ])
    """
    return input * A.tanh(A.softplus(input))


@of_tensors("input")
def relu6(input: Tensor, inplace: bool = False) -> Tensor:
    """`min(max(x, 0), 6)`.

    >>> relu6(C.tensor([-1.0, 2.0, 7.0]))
    tensor([0., 2., 6.])
    """
    return hardtanh(input, 0.0, 6.0)


@of_tensors("input")
def hardtanh(input: Tensor, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False) -> Tensor:
    """`x` limited to [min_val, max_val]; the gradient at the bounds is 0.

    >>> hardtanh(C.tensor([-2.0, 0.5]))
    tensor([-1. ,  0.5])
    """
    inside = E.gt(input, min_val) & E.lt(input, max_val)
    return E.where(inside, input, quietly(np.clip, input.data, min_val, max_val))


@of_tensors("input")
def hardsigmoid(input: Tensor, inplace: bool = False) -> Tensor:
    """`relu6(x + 3) / 6`.

    >>> hardsigmoid(C.tensor([-3.0, 0.0, 3.0]))
    tensor([0. , 0.5, 1. ])
    """
    return relu6(input + 3) / 6


@of_tensors("input")
def hardswish(input: Tensor, inplace: bool = False) -> Tensor:
    """`x hardsigmoid(x)` (Howard et al. 2019, arXiv:1905.02244).

    >>> hardswish(C.tensor([-3.0, 1.0]))
    tensor([-0.    ,  0.6667])
    """
    return input * hardsigmoid(input)


@of_tensors("input")
def logsigmoid(input: Tensor) -> Tensor:
    """`log(sigmoid(x))`, safe at any magnitude.

    >>> logsigmoid(C.tensor([-1e4, 0.0]))
    tensor([-1.0000e+04, -6.9315e-01])
    """
    return -A.softplus(-input, threshold=math.inf)


def softsign(input: Tensor) -> Tensor:
    """`x / (1 + |x|)`.

    >>> softsign(C.tensor([-1.0, 3.0]))
    tensor([-0.5 ,  0.75])
    """
    return input / (E.abs(input) + 1)


def tanhshrink(input: Tensor) -> Tensor:
    """`x - tanh(x)`.

    >>> tanhshrink(C.tensor([0.0, 2.0]))
    tensor([0.   , 1.036])
    """
    return input - A.tanh(input)


def hardshrink(input: Tensor, lambd: float = 0.5) -> Tensor:
    """`x` outside [-lambd, lambd], else 0.

    >>> hardshrink(C.tensor([-1.0, 0.2]))
    tensor([-1.,  0.])
    """
    return E.masked_fill(input, E.le(E.abs(input), lambd), 0.0)


def softshrink(input: Tensor, lambd: float = 0.5) -> Tensor:
    """Moves `x` towards 0 by `lambd`, and stops at 0.

    >>> softshrink(C.tensor([-1.0, 0.2]))
    tensor([-0.5,  0. ])
    """
    return E.masked_fill(input - E.sign(input) * lambd, E.le(E.abs(input), lambd), 0.0)


def threshold(input: Tensor, threshold: float, value: float, inplace: bool = False) -> Tensor:
    """`x` above `threshold`, else `value`.

    >>> threshold(C.tensor([0.5, 2.0]), 1.0, 9.0)
    tensor([9., 2.])
    """
    return E.masked_fill(input, E.le(input, threshold), value)


@of_tensors("input")
def softmin(input: Tensor, dim: int = -1, _stacklevel: int = 3, dtype: DTypeLike | None = None) -> Tensor:
    """`softmax(-x)`.

    >>> softmin(C.tensor([0.0, 0.0]))
    tensor([0.5, 0.5])
    """
    return softmax(-input, dim, dtype=dtype)


@of_tensors("input")
def glu(input: Tensor, dim: int = -1) -> Tensor:
    """One half of `dim` times the sigmoid of the other (Dauphin et al. 2016); raises `ShapeError` for an odd size.

    >>> glu(C.tensor([3.0, 0.0]))
    tensor([1.5])
    """
    if input.shape[input._own_dim("glu", dim)] % 2:
        raise ShapeError(f"glu: dimension {dim} must have an even size, got shape {input.shape}")
    value, gate = input.chunk(2, dim)
    return value * A.sigmoid(gate)


@of_tensors("input weight")
def prelu(input: Tensor, weight: Tensor) -> Tensor:
    """`x` above 0, `weight * x` below, with one weight or one for each channel, which is dimension 1.

    >>> prelu(C.tensor([-2.0, 2.0]), C.tensor([0.5]))
    tensor([-1.,  2.])
    """
    if weight.numel() > 1:
        weight = weight.reshape((-1,) + (1,) * max(input.ndim - 2, 0))
    return E.where(E.gt(input, 0), input, input * weight)


@of_tensors("logits")
def gumbel_softmax(logits: Tensor, tau: float = 1, hard: bool = False, eps: float = 1e-10, dim: int = -1) -> Tensor:
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
def normalize(input: Tensor, p: float = 2.0, dim: int = 1, eps: float = 1e-12) -> Tensor:
    """Divides by the norm over `dim`, or by `eps` if the norm is smaller.

    >>> normalize(C.tensor([[3.0, 4.0]]))
    tensor([[0.6, 0.8]])
    """
    return input / E.clip(input.norm(p, dim, keepdim=True), min=eps)


@of_tensors("x1 x2")
def cosine_similarity(x1: Tensor, x2: Tensor, dim: int = 1, eps: float = 1e-8) -> Tensor:
    """Cosine of the angle between vectors along `dim`; norms are at least `eps`.

    >>> cosine_similarity(C.tensor([[1.0, 0.0]]), C.tensor([[1.0, 1.0]]))
    tensor([0.7071])
    """
    first, second = (x / E.clip(x.norm(2, dim, keepdim=True), min=eps) for x in (x1, x2))
    return R.sum(first * second, dim=dim)


@of_tensors("x1 x2")
def pairwise_distance(x1: Tensor, x2: Tensor, p: float = 2.0, eps: float = 1e-6, keepdim: bool = False) -> Tensor:
    """Norm of `x1 - x2 + eps` over the last dimension.

    >>> pairwise_distance(C.tensor([[3.0, 4.0]]), C.zeros(1, 2))
    tensor([5.])
    """
    return (x1 - x2 + eps).norm(p, -1, keepdim)


@of_tensors("x1 x2")
def cdist(x1: Tensor, x2: Tensor, p: float = 2.0) -> Tensor:
    """Distances between all rows of `x1` and all rows of `x2`; (..., n, d) and (..., m, d) give (..., n, m).

    >>> cdist(C.zeros(1, 2), C.tensor([[3.0, 4.0], [0.0, 1.0]]))
    tensor([[5., 1.]])
    """
    return (x1.unsqueeze(-2) - x2.unsqueeze(-3)).norm(p, -1)


@of_tensors("tensor")
def one_hot(tensor: Tensor, num_classes: int = -1) -> Tensor:
    """A row of zeros with a 1 at the class, in int64, for each class index; by default, the largest is the last class.

    Raises `DTypeError` for indices that are not integers, `OutOfRangeError` for a class that does not exist.

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
        wrong = tensor.data.min() if tensor.data.min() < 0 else tensor.data.max()
        fact = "is negative" if wrong < 0 else f"is out of range for {classes} classes (0 to {classes - 1})"
        raise OutOfRangeError(f"one_hot: class index {wrong} {fact}")
    return wrap((tensor.data[..., None] == np.arange(classes)).astype(np.int64))


# --- losses


def _reduced(name: str, loss: Tensor, reduction: str) -> Tensor:
    if reduction not in ("none", "mean", "sum"):
        raise ArgumentError(f"{name}: reduction is one of none, mean, sum, got {reduction!r}")
    return loss if reduction == "none" else R.mean(loss) if reduction == "mean" else R.sum(loss)


@of_tensors("input target")
def huber_loss(
    input: Tensor, target: Tensor, reduction: str = "mean", delta: float = 1.0, weight: TensorLike | None = None
) -> Tensor:
    """Squared error near 0 and absolute error beyond `delta` (Huber 1964): with d = |x - t|,
    `d^2 / 2` where d <= delta, else `delta (d - delta / 2)`.

    >>> huber_loss(C.tensor([0.5, 3.0]), C.zeros(2), reduction="none")
    tensor([0.125, 2.5  ])
    """
    loss = losses.smooth_l1_loss(input, target, "none", delta) * delta
    return _reduced("huber_loss", loss if weight is None else loss * weight, reduction)


@of_tensors("input1 input2 target")
def margin_ranking_loss(
    input1: Tensor, input2: Tensor, target: Tensor, margin: float = 0.0, reduction: str = "mean"
) -> Tensor:
    """`max(0, -target (input1 - input2) + margin)`: target 1 ranks the first higher, -1 the second.

    >>> margin_ranking_loss(C.tensor([1.0]), C.tensor([2.0]), C.tensor([1.0]))
    tensor(1.)
    """
    return _reduced("margin_ranking_loss", E.clip(-target * (input1 - input2) + margin, min=0.0), reduction)


@of_tensors("input target")
def hinge_embedding_loss(input: Tensor, target: Tensor, margin: float = 1.0, reduction: str = "mean") -> Tensor:
    """`x` where `target` is 1, `max(0, margin - x)` where it is -1.

    >>> hinge_embedding_loss(C.tensor([0.3, 0.3]), C.tensor([1.0, -1.0]), reduction="none")
    tensor([0.3, 0.7])
    """
    loss = E.where(E.eq(target, 1), input, E.clip(margin - input, min=0.0))
    return _reduced("hinge_embedding_loss", loss, reduction)


@of_tensors("input target")
def soft_margin_loss(input: Tensor, target: Tensor, reduction: str = "mean") -> Tensor:
    """`log(1 + exp(-target x))` for targets 1 and -1.

    >>> soft_margin_loss(C.tensor([0.0]), C.tensor([1.0]))
    tensor(0.6931)
    """
    return _reduced("soft_margin_loss", -logsigmoid(target * input), reduction)


@of_tensors("input1 input2 target")
def cosine_embedding_loss(
    input1: Tensor, input2: Tensor, target: Tensor, margin: float = 0.0, reduction: str = "mean"
) -> Tensor:
    """`1 - cos` of the angle where `target` is 1, `max(0, cos - margin)` where it is -1.

    >>> cosine_embedding_loss(C.eye(2), C.eye(2), C.tensor([1.0, -1.0]), reduction="none")
    tensor([0., 1.])
    """
    cosine = cosine_similarity(input1, input2, dim=-1)
    loss = E.where(E.eq(target, 1), 1 - cosine, E.clip(cosine - margin, min=0.0))
    return _reduced("cosine_embedding_loss", loss, reduction)


@of_tensors("anchor positive negative")
def triplet_margin_loss(
    anchor: Tensor,
    positive: Tensor,
    negative: Tensor,
    margin: float = 1.0,
    p: float = 2,
    eps: float = 1e-6,
    swap: bool = False,
    reduction: str = "mean",
) -> Tensor:
    """`max(0, |anchor - positive| - |anchor - negative| + margin)`; with `swap`, the distance to the
    negative is the smaller one of those from anchor and positive (Balntas et al. 2016).

    >>> triplet_margin_loss(C.zeros(1, 2), C.zeros(1, 2), C.tensor([[0.6, 0.0]]), eps=0.0)
    tensor(0.4)
    """
    near, far = pairwise_distance(anchor, positive, p, eps), pairwise_distance(anchor, negative, p, eps)
    if swap:
        far = E.minimum(far, pairwise_distance(positive, negative, p, eps))
    return _reduced("triplet_margin_loss", E.clip(near - far + margin, min=0.0), reduction)


@of_tensors("input target")
def poisson_nll_loss(
    input: Tensor,
    target: Tensor,
    log_input: bool = True,
    full: bool = False,
    eps: float = 1e-8,
    reduction: str = "mean",
) -> Tensor:
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
    input: Tensor, target: Tensor, var: Tensor, full: bool = False, eps: float = 1e-6, reduction: str = "mean"
) -> Tensor:
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
    input: Tensor,
    target: Tensor,
    p: int = 1,
    margin: float = 1.0,
    weight: TensorLike | None = None,
    reduction: str = "mean",
) -> Tensor:
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
