"""Module 04, losses: one number that says how wrong a model is, which training then makes small.

Most are compositions of ops and read as their formula. Cross entropy is one op, since its input is the largest array
of a language model, and so is binary cross entropy, whose gradient at 0 and 1 no composition gives. The faster form of
cross entropy is in `kernels/losses.py`. `reduction` is "none" (a loss for each example), "mean" or "sum".
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any, TypeVar, cast

import numpy as np

from tt_core.activations import log_softmax, softplus
from tt_core.engine.arguments import checked
from tt_core.engine.dispatch import Array, op
from tt_core.engine.errors import (
    ArgumentError,
    DTypeError,
    OutOfRangeError,
    ShapeError,
    TinyTorchError,
    check_floats,
    is_number,
    shown,
)
from tt_core.layers import Layer
from tt_core.tensor import elementwise as E
from tt_core.tensor import reductions as R
from tt_core.tensor import shapes as S
from tt_core.tensor.elementwise import HALF, half_in_float32
from tt_core.tensor.tensor import Tensor


def _check_reduction(name: str, reduction: Any, *more: str) -> None:
    known = ("none", "mean", "sum", *more)
    if not isinstance(reduction, str) or reduction not in known:
        raise ArgumentError(f"{name}: reduction is one of {', '.join(known)}, got {shown(reduction)}")


def _check_number(name: str, argument: str, value: Any, fine: Callable[[float], bool], expected: str) -> None:
    if not is_number(value) or not fine(value):
        raise ArgumentError(f"{name}: {argument} {expected}, got {shown(value)}")


def _check_index(name: str, ignore_index: Any) -> None:
    if not isinstance(ignore_index, (int, np.integer)):
        raise DTypeError(f"{name}: ignore_index is an integer, got {shown(ignore_index)}")


def _reduced(loss: Any, reduction: str) -> Any:
    return loss if reduction == "none" else R.mean(loss) if reduction == "mean" else R.sum(loss)


def _pair(name: str, reduction: str, x: Any, target: Any) -> tuple[Any, Any]:
    """Prediction and target as tensors of one shape and, where one of them holds integers, one dtype."""
    _check_reduction(name, reduction)
    x, target = _tensor(x), _tensor(target)
    if x.shape != target.shape:
        raise ShapeError(f"{name}: input {x.shape} and target {target.shape} differ; reshape or expand one of them")
    x, target = _like(x, target), _like(target, x)
    if x.dtype.kind != "f":  # unsigned ones would wrap around, 0 - 1 to 255
        raise DTypeError(f"{name}: needs a floating dtype, got {x.dtype}; call .float() first")
    return x, target


F = TypeVar("F", bound=Callable[..., Any])


def _half_in_float32(loss: F) -> F:
    """Decorate a loss so that float16 inputs are computed with in float32, and only the result is rounded.

    float16 overflows above 65504: the square of a difference of 256, or the sum of a few thousand terms.
    """

    @functools.wraps(loss)
    def compute(*inputs: Any, **options: Any) -> Any:
        given = [x.dtype for x in (*inputs, *options.values()) if hasattr(x, "dtype")]
        if HALF not in given or any(dtype.kind == "f" and dtype != HALF for dtype in given):
            return loss(*inputs, **options)
        wide = {name: _as_float32(x) for name, x in options.items()}
        return S.cast(loss(*map(_as_float32, inputs), **wide), dtype=HALF)

    return cast(F, compute)


def _as_float32(x: Any) -> Any:
    return S.cast(x, dtype=np.float32) if getattr(x, "dtype", None) == HALF else x


def _tensor(x: Any) -> Any:
    return x if isinstance(x, Tensor) else Tensor(x)


def _like(target: Any, x: Any) -> Any:
    """Integers and booleans in the dtype of `x`, which NumPy would promote to float64."""
    return target if target.dtype.kind == "f" else S.cast(target, dtype=x.dtype)


# --- distances between numbers


@_half_in_float32
def mse_loss(input: Any, target: Any, reduction: str = "mean") -> Tensor:
    """Squared error `(x - t)^2`; both of one shape (PyTorch broadcasts with a warning, here it is an error).

    Raises `ShapeError` where shapes differ or `reduction` is unknown, `DTypeError` for two of integers.

    >>> from tt_core import tensor
    >>> mse_loss(tensor([1.0, 2.0]), tensor([0.0, 4.0]))
    tensor(2.5)
    """
    x, target = _pair("mse_loss", reduction, input, target)
    difference = E.sub(x, target)
    return _reduced(E.mul(difference, difference), reduction)


@_half_in_float32
def l1_loss(input: Any, target: Any, reduction: str = "mean") -> Tensor:
    """Absolute error `|x - t|`; raises as `mse_loss` does.

    >>> from tt_core import tensor
    >>> l1_loss(tensor([1.0, 2.0]), tensor([0.0, 4.0]))
    tensor(1.5)
    """
    x, target = _pair("l1_loss", reduction, input, target)
    return _reduced(E.abs(E.sub(x, target)), reduction)


@_half_in_float32
def smooth_l1_loss(input: Any, target: Any, reduction: str = "mean", beta: float = 1.0) -> Tensor:
    """Squared error near 0 and absolute error beyond `beta` (Girshick 2015): with d = |x - t|,
    `d^2 / (2 beta)` where d < beta, else `d - beta / 2`.

    Raises as `mse_loss` does, and `ArgumentError` for a negative `beta`.

    >>> from tt_core import tensor
    >>> smooth_l1_loss(tensor([1.0, 3.0]), tensor([0.5, 0.0]), reduction="none")
    tensor([0.125, 2.5  ])
    """
    _check_number("smooth_l1_loss", "beta", beta, lambda b: b >= 0, "must not be negative")
    x, target = _pair("smooth_l1_loss", reduction, input, target)
    distance = E.abs(E.sub(x, target))
    if beta == 0:
        return _reduced(distance, reduction)
    near = E.minimum(distance, float(beta))  # near (d - near/2) / beta is both cases at once
    return _reduced(E.mul(near, E.sub(distance, E.mul(near, 0.5))) / float(beta), reduction)


# --- cross entropy: classes by index


@op(name="cross_entropy")
@half_in_float32
def class_cross_entropy(
    x: Array, target: Array, weight: Array | None = None, /, ignore_index: int = -100, reduction: str = "mean"
) -> Array:
    """`-log(softmax(x))[target]` over dimension 1 of `x` (N, C, ...), `target` (N, ...); or (C,) and ().

    Raises `OutOfRangeError` for a class index that does not exist.

    >>> class_cross_entropy(np.array([[2, 0], [0, 0]], np.float32), np.array([0, 1]), reduction="none")
    tensor([0.1269, 0.6931])
    """
    rows = class_rows(x, target)
    labels, _ = checked_labels(target, rows.shape[1], ignore_index)
    kept = labels != ignore_index
    labels = np.where(kept, labels, 0)
    share = np.where(kept, 1 if weight is None else weight[labels], 0).astype(x.dtype)
    logs = log_softmax.formula(rows)[np.arange(len(rows)), labels]
    loss = np.where(kept, -logs * share, 0)
    if reduction == "none":
        return loss.reshape(target.shape)
    return loss.sum() / (share.sum() if reduction == "mean" else 1)


def class_rows(x: Array, target: Array) -> Array:
    """`x` as (rows, classes): the class dimension, which is 1 (0 for a single example), goes last."""
    check_floats(x)
    if x.ndim == 2 and target.shape == x.shape[:1]:
        return x
    expected = (*x.shape[:1], *x.shape[2:]) if x.ndim > 1 else ()
    if not x.ndim or target.shape != expected:
        raise ShapeError(f"class indices of shape {expected} are expected for an input of shape {x.shape}")
    if x.ndim > 2:
        x = np.moveaxis(x, 1, -1)
    return x.reshape(math.prod(expected), x.shape[-1])


def checked_labels(target: Array, classes: int, ignore_index: int) -> tuple[Array, bool]:
    """`target` as one row of class indices, and whether all are classes; the others are `ignore_index`."""
    if target.dtype.kind not in "iu":
        raise DTypeError(f"class indices are integers, got {target.dtype}")
    labels = target.reshape(-1)
    # as unsigned numbers, negative ones are above all classes too
    classes_only = not labels.size or bool(np.maximum.reduce(labels.astype(np.uint64)) < classes)
    if not classes_only:
        wrong = labels[((labels < 0) | (labels >= classes)) & (labels != ignore_index)]
        if wrong.size:
            raise OutOfRangeError(f"class index {wrong[0]} is out of range for {classes} classes (0 to {classes - 1})")
    return labels, classes_only


@_half_in_float32
def cross_entropy(
    input: Any,
    target: Any,
    weight: Any = None,
    ignore_index: int = -100,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Tensor:
    """`-log(softmax(x)[target])`: how surprised a model with logits `input` is by the right class.

    `input` is (N, C), (N, C, d1, ...) or (C,), `target` class indices (N,), (N, d1, ...) or (), or probabilities of
    the shape of `input`; flatten (B, T, V) logits to (B T, V) first. `weight` (C,) scales each class, and the mean
    is a weighted one; examples with class `ignore_index` do not count; `label_smoothing` mixes the target with the
    uniform distribution (Szegedy et al. 2016). Raises `OutOfRangeError` for a class that does not exist, `ShapeError`
    for a target or weight of another shape, `DTypeError` for logits that are integers.

    >>> from tt_core import tensor
    >>> cross_entropy(tensor([[2.0, 0.0], [0.0, 0.0]]), tensor([0, 1]))
    tensor(0.41)
    """
    _check_reduction("cross_entropy", reduction)
    x, target = _tensor(input), _tensor(target)
    weight = _class_weight("cross_entropy", x, weight)
    _check_index("cross_entropy", ignore_index)
    _check_number("cross_entropy", "label_smoothing", label_smoothing, lambda p: 0 <= p <= 1, "is between 0 and 1")
    if target.dtype.kind == "f":
        return _probability_cross_entropy(x, target, weight, reduction, label_smoothing)
    if label_smoothing:
        return _smoothed_cross_entropy(x, target, weight, ignore_index, reduction, label_smoothing)
    return class_cross_entropy(x, target, weight, ignore_index=ignore_index, reduction=reduction)


def _class_dim(x: Any) -> int:
    return 1 if x.ndim > 1 else 0


def _class_weight(name: str, x: Any, weight: Any) -> Any:
    if weight is None:
        return None
    weight = _like(_tensor(weight), x)
    classes = x.shape[_class_dim(x)] if x.ndim else 0
    if weight.shape != (classes,):
        raise ShapeError(f"{name}: weight needs an entry for each of the {classes} classes, got shape {weight.shape}")
    return weight


def _along_classes(x: Any, weight: Any) -> Any:
    """`weight` (C,) shaped to multiply `x` (N, C, d1, ...)."""
    return S.reshape(weight, shape=(-1,) + (1,) * (x.ndim - _class_dim(x) - 1))


def _probability_cross_entropy(x: Any, target: Any, weight: Any, reduction: str, smoothing: float) -> Any:
    if x.shape != target.shape:
        raise ShapeError(
            f"cross_entropy: a target of floats holds probabilities of the input's shape {x.shape}, got {target.shape}"
        )
    dim = _class_dim(x)
    if smoothing:
        target = target * (1 - smoothing) + smoothing / x.shape[dim]
    terms = E.neg(log_softmax(x, dim=dim)) * target
    if weight is not None:
        terms = terms * _along_classes(x, weight)
    return _reduced(R.sum(terms, dim=dim), reduction)


def _smoothed_cross_entropy(
    x: Any, target: Any, weight: Any, ignore_index: int, reduction: str, smoothing: float
) -> Tensor:
    """(1 - s) of the loss for the right class and s of the mean over all classes."""
    dim = _class_dim(x)
    logs = log_softmax(x, dim=dim)
    right = nll_loss(logs, target, weight, ignore_index, reduction)
    terms = logs if weight is None else logs * _along_classes(x, weight)
    every = E.masked_fill(E.neg(R.sum(terms, dim=dim)), E.eq(target, ignore_index), 0.0)
    if reduction == "mean":
        _, weights = _weights_of(target.data, weight, ignore_index, x.dtype)
        every = R.sum(every) / R.sum(weights)
    elif reduction == "sum":
        every = R.sum(every)
    return right * (1 - smoothing) + every * (smoothing / x.shape[dim])


def _weights_of(target: Array, weight: Any, ignore_index: int, dtype: Any) -> tuple[Array, Any]:
    """Which targets count, and how much each of them does: in ops, so that a learnt weight gets its gradient."""
    kept = target != ignore_index
    if weight is None:
        return kept, Tensor(kept.astype(dtype))
    return kept, E.where(kept, S.getitem(weight, index=np.where(kept, target, 0)), np.zeros((), dtype))


@_half_in_float32
def nll_loss(input: Any, target: Any, weight: Any = None, ignore_index: int = -100, reduction: str = "mean") -> Tensor:
    """`-x[target]` for log-probabilities `x`; shapes, weights and errors as for `cross_entropy`.

    >>> from tt_core import tensor
    >>> nll_loss(tensor([[-0.1, -2.3], [-1.6, -0.2]]), tensor([0, 1]))
    tensor(0.15)
    """
    _check_reduction("nll_loss", reduction)
    _check_index("nll_loss", ignore_index)
    x, target = _tensor(input), _tensor(target)
    weight = _class_weight("nll_loss", x, weight)
    try:
        labels, _ = checked_labels(target.data, class_rows(x.data, target.data).shape[1], ignore_index)
    except TinyTorchError as error:
        raise type(error)(f"nll_loss: {error}") from None
    kept, weights = _weights_of(target.data, weight, ignore_index, x.dtype)
    index = np.where(kept, labels.reshape(target.shape), 0)
    dim = _class_dim(x)
    picked = S.squeeze(S.take_along_dim(x, np.expand_dims(index, dim), dim=dim), dim=dim)
    loss = E.where(kept, E.neg(picked) * weights, np.zeros((), x.dtype))
    return R.sum(loss) / R.sum(weights) if reduction == "mean" else _reduced(loss, reduction)


# --- two classes


def _spread(name: str, weight: Any, x: Any) -> Any:
    """A weight for each element: of a shape that broadcasts to that of `x`, and not the other way round."""
    weight = _like(_tensor(weight), x)
    try:
        fits = np.broadcast_shapes(weight.shape, x.shape) == x.shape
    except ValueError:
        fits = False
    if not fits:
        raise ShapeError(f"{name}: a weight of shape {weight.shape} does not broadcast to the input {x.shape}")
    return weight


@op(name="binary_cross_entropy")
@half_in_float32
def binary_entropy(x: Array, target: Array, /) -> Array:
    """`-(t log x + (1 - t) log(1 - x))` for each element, logarithms limited to -100 as in PyTorch.

    Its backward kernel needs both. Raises `ShapeError` for a probability outside [0, 1].

    >>> binary_entropy(np.array([0.9, 0], np.float32), np.array([1, 1], np.float32))
    tensor([  0.1054, 100.    ])
    """
    if x.size and not (x.min() >= 0 and x.max() <= 1):
        raise ShapeError(f"input must hold probabilities between 0 and 1, got {x.min()} to {x.max()}")
    yes = np.maximum(np.log(x), -100)
    no = np.maximum(np.log1p(-x), -100)
    return (target - 1) * no - target * yes


@_half_in_float32
def binary_cross_entropy(input: Any, target: Any, weight: Any = None, reduction: str = "mean") -> Tensor:
    """`-(t log x + (1 - t) log(1 - x))` for probabilities `x` of "yes"; `weight` scales each element.

    Raises as `mse_loss` does, and `ShapeError` for what is no probability and for a weight that does not broadcast.

    >>> from tt_core import tensor
    >>> binary_cross_entropy(tensor([0.9, 0.2]), tensor([1.0, 0.0]))
    tensor(0.1643)
    """
    x, target = _pair("binary_cross_entropy", reduction, input, target)
    loss = binary_entropy(x, target)
    return _reduced(loss if weight is None else loss * _spread("binary_cross_entropy", weight, x), reduction)


@_half_in_float32
def binary_cross_entropy_with_logits(
    input: Any, target: Any, weight: Any = None, reduction: str = "mean", pos_weight: Any = None
) -> Tensor:
    """`binary_cross_entropy` of `sigmoid(x)`, right at any magnitude:
    `(1 - t) x + (1 + (pos_weight - 1) t) softplus(-x)`.

    Raises as `mse_loss` does, and `ShapeError` for a weight that does not broadcast to the input.

    >>> from tt_core import tensor
    >>> binary_cross_entropy_with_logits(tensor([1e4, 0.0]), tensor([1.0, 1.0]))
    tensor(0.3466)
    """
    x, target = _pair("binary_cross_entropy_with_logits", reduction, input, target)
    loss = softplus(E.neg(x), threshold=math.inf)
    if pos_weight is not None:
        loss = loss * ((_spread("binary_cross_entropy_with_logits", pos_weight, x) - 1) * target + 1)
    loss = (1 - target) * x + loss
    if weight is not None:
        loss = loss * _spread("binary_cross_entropy_with_logits", weight, x)
    return _reduced(loss, reduction)


# --- distances between distributions and between embeddings


@_half_in_float32
def kl_div(input: Any, target: Any, reduction: str = "mean", log_target: bool = False) -> Tensor:
    """Kullback-Leibler divergence `t (log t - x)` of log-probabilities `x` from probabilities `t` (or their
    logarithms, with `log_target`).

    "mean" divides by the number of elements, as in PyTorch; "batchmean", by the number of examples, is the divergence.
    Raises as `mse_loss` does.

    >>> from tt_core import tensor
    >>> kl_div(tensor([[0.5, 0.5]]).log(), tensor([[1.0, 0.0]]), reduction="batchmean")
    tensor(0.6931)
    """
    _check_reduction("kl_div", reduction, "batchmean")
    x, target = _pair("kl_div", "none", input, target)
    if log_target:
        loss = E.exp(target) * (target - x)
    else:  # 0 log 0 is 0; the logarithm of a negative number is nan, and so is the loss
        loss = target * (E.log(E.where(target.data == 0, np.ones((), target.dtype), target)) - x)
    if reduction == "batchmean":
        return R.sum(loss) / (x.shape[0] if x.ndim else 1)
    return _reduced(loss, reduction)


_TINY = 1e-12
"""Least squared distance: the square root has no gradient at 0."""


def _root(squared: Any, least: float) -> Any:
    """Square root of at least `least`, or of the least number above 0 that the dtype has."""
    return E.sqrt(E.clip(squared, min=max(least, float(np.finfo(squared.dtype).smallest_subnormal))))


@_half_in_float32
def contrastive_loss(a: Any, b: Any, target: Any, margin: float = 1.0, reduction: str = "mean") -> Tensor:
    """Pulls embeddings of similar pairs together and pushes others `margin` apart (Hadsell, Chopra, LeCun 2006):
    with D = |a - b|, `(1 - t) D^2 / 2 + t max(0, margin - D)^2 / 2`.

    `a` and `b` are (..., D), `target` (...) is 0 for similar pairs and 1 for the others, as in the paper. Raises
    `ShapeError` for other shapes, `DTypeError` for embeddings of integers.

    >>> from tt_core import tensor
    >>> a, b = tensor([[0.0, 0.0], [0.0, 0.0]]), tensor([[3.0, 4.0], [0.3, 0.4]])
    >>> contrastive_loss(a, b, tensor([0, 1]), reduction="none")
    tensor([12.5  ,  0.125])
    """
    _check_number("contrastive_loss", "margin", margin, math.isfinite, "is a finite number")
    a, b = _pair("contrastive_loss", reduction, a, b)
    target = _like(_tensor(target), a)
    if target.shape != a.shape[:-1]:
        raise ShapeError(f"contrastive_loss: target needs shape {a.shape[:-1]} for pairs {a.shape}, got {target.shape}")
    difference = E.sub(a, b)
    squared = R.sum(E.mul(difference, difference), dim=-1)
    short = E.clip(margin - _root(squared, _TINY), min=0.0)
    return _reduced(((1 - target) * squared + target * short * short) * 0.5, reduction)


@_half_in_float32
def info_nce_loss(query: Any, key: Any, temperature: float = 0.1, reduction: str = "mean") -> Tensor:
    """Cross entropy of finding, for each `query[i]`, its own `key[i]` among all keys by cosine similarity
    (van den Oord et al. 2018, arXiv:1807.03748).

    Both are (N, D); similarities are divided by `temperature`, so small ones sharpen the choice. Raises `ShapeError`
    for other shapes and for a temperature of 0 or less, `DTypeError` for embeddings of integers.

    >>> from tt_core import eye
    >>> info_nce_loss(eye(3), eye(3), temperature=1.0)
    tensor(0.5514)
    """
    query, key = _pair("info_nce_loss", reduction, query, key)
    if query.ndim != 2:
        raise ShapeError(f"info_nce_loss: embeddings are (N, D), got {query.shape}")
    _check_number("info_nce_loss", "temperature", temperature, lambda t: t > 0, "must be positive")
    similarity = _unit(query) @ _unit(key).T
    return cross_entropy(similarity / temperature, np.arange(len(query)), reduction=reduction)


def _unit(x: Any) -> Any:
    """Each row with length 1; a row of zeros stays one."""
    squared = R.sum(E.mul(x, x), dim=-1, keepdim=True)
    return x / _root(squared, _TINY**2)


# --- layers


class Loss(Layer):
    """Base of the losses: it holds `reduction`, and raises `ShapeError` for an unknown one."""

    @checked
    def __init__(self, reduction: str = "mean") -> None:
        super().__init__()
        _check_reduction(type(self).__name__, reduction)
        self.reduction = reduction

    def extra_repr(self) -> str:
        return f"reduction={self.reduction!r}"


class _WeightedLoss(Loss):
    weight: Tensor | None

    @checked
    def __init__(self, weight: Any = None, reduction: str = "mean") -> None:
        super().__init__(reduction)
        self.register_buffer("weight", None if weight is None else _tensor(weight))


class MSELoss(Loss):
    """Mean squared error; shapes and errors as for `mse_loss`.

    >>> from tt_core import tensor
    >>> MSELoss()(tensor([1.0, 2.0]), tensor([0.0, 4.0]))
    tensor(2.5)
    """

    def forward(self, input: Any, target: Any) -> Any:
        return mse_loss(input, target, self.reduction)


class L1Loss(Loss):
    """Mean absolute error; shapes and errors as for `l1_loss`.

    >>> from tt_core import tensor
    >>> L1Loss(reduction="sum")(tensor([1.0, 2.0]), tensor([0.0, 4.0]))
    tensor(3.)
    """

    def forward(self, input: Any, target: Any) -> Any:
        return l1_loss(input, target, self.reduction)


class SmoothL1Loss(Loss):
    """Squared error near 0, absolute error beyond `beta`; shapes and errors as for `smooth_l1_loss`.

    >>> from tt_core import tensor
    >>> SmoothL1Loss()(tensor([0.5]), tensor([0.0]))
    tensor(0.125)
    """

    @checked
    def __init__(self, reduction: str = "mean", beta: float = 1.0) -> None:
        super().__init__(reduction)
        self.beta = beta

    def forward(self, input: Any, target: Any) -> Any:
        return smooth_l1_loss(input, target, self.reduction, self.beta)


class CrossEntropyLoss(_WeightedLoss):
    """Cross entropy of logits (N, C, ...) with class indices (N, ...) or probabilities; errors as for `cross_entropy`.

    >>> from tt_core import tensor
    >>> CrossEntropyLoss()(tensor([[2.0, 0.0], [0.0, 0.0]]), tensor([0, 1]))
    tensor(0.41)
    """

    @checked
    def __init__(
        self, weight: Any = None, ignore_index: int = -100, reduction: str = "mean", label_smoothing: float = 0.0
    ) -> None:
        super().__init__(weight, reduction)
        self.ignore_index, self.label_smoothing = ignore_index, label_smoothing

    def forward(self, input: Any, target: Any) -> Any:
        return cross_entropy(input, target, self.weight, self.ignore_index, self.reduction, self.label_smoothing)


class NLLLoss(_WeightedLoss):
    """Negative log-likelihood of log-probabilities; shapes and errors as for `nll_loss`.

    >>> from tt_core import tensor
    >>> NLLLoss()(tensor([[-0.1, -2.3], [-1.6, -0.2]]), tensor([0, 1]))
    tensor(0.15)
    """

    @checked
    def __init__(self, weight: Any = None, ignore_index: int = -100, reduction: str = "mean") -> None:
        super().__init__(weight, reduction)
        self.ignore_index = ignore_index

    def forward(self, input: Any, target: Any) -> Any:
        return nll_loss(input, target, self.weight, self.ignore_index, self.reduction)


class BCELoss(_WeightedLoss):
    """Cross entropy of probabilities with targets between 0 and 1; shapes and errors as for `binary_cross_entropy`.

    >>> from tt_core import tensor
    >>> BCELoss()(tensor([0.9, 0.2]), tensor([1.0, 0.0]))
    tensor(0.1643)
    """

    def forward(self, input: Any, target: Any) -> Any:
        return binary_cross_entropy(input, target, self.weight, self.reduction)


class BCEWithLogitsLoss(_WeightedLoss):
    """`BCELoss` of sigmoid(input), right at any magnitude; see `binary_cross_entropy_with_logits`, also for its errors.

    >>> from tt_core import tensor
    >>> BCEWithLogitsLoss()(tensor([1e4, 0.0]), tensor([1.0, 1.0]))
    tensor(0.3466)
    """

    pos_weight: Tensor | None

    @checked
    def __init__(self, weight: Any = None, reduction: str = "mean", pos_weight: Any = None) -> None:
        super().__init__(weight, reduction)
        self.register_buffer("pos_weight", None if pos_weight is None else _tensor(pos_weight))

    def forward(self, input: Any, target: Any) -> Any:
        return binary_cross_entropy_with_logits(input, target, self.weight, self.reduction, self.pos_weight)


class KLDivLoss(Loss):
    """Kullback-Leibler divergence from log-probabilities; shapes and errors as for `kl_div`.

    >>> from tt_core import tensor
    >>> KLDivLoss(reduction="batchmean")(tensor([[0.5, 0.5]]).log(), tensor([[1.0, 0.0]]))
    tensor(0.6931)
    """

    @checked
    def __init__(self, reduction: str = "mean", log_target: bool = False) -> None:
        super().__init__("mean")
        _check_reduction("KLDivLoss", reduction, "batchmean")
        self.reduction, self.log_target = reduction, log_target

    def forward(self, input: Any, target: Any) -> Any:
        return kl_div(input, target, self.reduction, self.log_target)


class ContrastiveLoss(Loss):
    """Draws similar pairs together and others `margin` apart; shapes and errors as for `contrastive_loss`.

    >>> from tt_core import tensor
    >>> ContrastiveLoss()(tensor([[0.0, 0.0]]), tensor([[3.0, 4.0]]), tensor([0]))
    tensor(12.5)
    """

    @checked
    def __init__(self, margin: float = 1.0, reduction: str = "mean") -> None:
        super().__init__(reduction)
        self.margin = margin

    def forward(self, a: Any, b: Any, target: Any) -> Any:
        return contrastive_loss(a, b, target, self.margin, self.reduction)


class InfoNCELoss(Loss):
    """Finds each query's own key among all keys; shapes and errors as for `info_nce_loss`.

    >>> from tt_core import eye
    >>> InfoNCELoss(temperature=1.0)(eye(3), eye(3))
    tensor(0.5514)
    """

    @checked
    def __init__(self, temperature: float = 0.1, reduction: str = "mean") -> None:
        super().__init__(reduction)
        self.temperature = temperature

    def forward(self, query: Any, key: Any) -> Any:
        return info_nce_loss(query, key, self.temperature, self.reduction)
