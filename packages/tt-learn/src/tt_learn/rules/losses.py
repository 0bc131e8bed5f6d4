"""Derivatives of the fused ops of `tt_core.losses`; the other losses are made of ops that have theirs."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tt_core import losses as L
from tt_core.activations import log_softmax, softmax
from tt_core.engine.classes import class_dim, class_shares
from tt_core.engine.dispatch import Array, op
from tt_core.tensor import elementwise as E
from tt_core.tensor import shapes as S
from tt_core.tensor.creation import arange
from tt_core.tensor.elementwise import half_in_float32
from tt_learn.autograd import formula, gradient

# --- cross entropy


@op
def cross_entropy_backward(
    g: Array,
    x: Array,
    target: Array,
    peak: Array | None = None,
    total: Array | None = None,
    weight: Array | None = None,
    /,
    ignore_index: int = -100,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Array:
    """Gradient of `cross_entropy` for `x`: `g (softmax(x) sum(shares) - shares)`, divided by their number for the mean.

    Of a class index, the share is the weight of this class, and 0 for all other classes. `peak` and `total` (rows,)
    are the residuals of forward, which the formula does not need. `g` is one number, or has the shape of the loss
    without a reduction. Raises as the op.

    >>> x, target = np.array([[0, 0]], np.float32), np.array([1])
    >>> cross_entropy_backward(np.float32(1), x, target)
    tensor([[ 0.5, -0.5]])
    """
    last = np.moveaxis(x, class_dim(x), -1)  # (N, ..., C)
    shares, counted = class_shares(x, target, weight, ignore_index, label_smoothing)
    if reduction == "mean":
        g = g / (counted.sum() or 1)  # the gradient of no examples is 0
    gradient = g[..., None] * (softmax.formula(last) * shares.sum(-1, keepdims=True) - shares)
    return np.moveaxis(gradient, -1, class_dim(x)).astype(x.dtype)


@gradient(L.cross_entropy)
def _(out: Any, x: Any, target: Any, weight: Any, peak: Any = None, total: Any = None, **attributes: Any) -> Any:
    """Keeps the logits and two numbers a row; the probabilities are recomputed.

    Probabilities as a target and class weights have gradients too, from compositions of ops.
    """
    dim, mean = class_dim(x), attributes["reduction"] == "mean"

    def for_target(g: Any) -> Any:
        scale = (attributes["label_smoothing"] - 1) / (_examples(x) if mean else 1)
        return _by_row(g, x) * scale * log_softmax(x, dim=dim) * _along_classes(x, weight)

    def for_weight(g: Any) -> Any:
        right, shares = _shares(x, target, attributes["ignore_index"], attributes["label_smoothing"])
        terms = E.neg(shares * log_softmax(x, dim=dim))  # d loss / d weight for each class of each example
        if mean and target.dtype.kind == "f":
            terms = terms / _examples(x)
        elif mean:  # a quotient of two sums, which both have the weight
            counted = (right * _along_classes(x, weight)).sum()
            terms = (terms - right * ((terms * _along_classes(x, weight)).sum() / counted)) / counted
        return (_by_row(g, x) * terms).sum([d for d in range(x.ndim) if d != dim])

    return lambda g: cross_entropy_backward(g, x, target, peak, total, weight, **attributes), for_target, for_weight


@formula(cross_entropy_backward)
def _(
    g: Any, x: Any, target: Any, peak: Any, total: Any, weight: Any,
    ignore_index: int, reduction: str, label_smoothing: float,
) -> Any:  # fmt: skip
    """From `x` alone, because peak and total depend on it too."""
    right, shares = _shares(x, target, ignore_index, label_smoothing)
    shares = shares * _along_classes(x, weight)
    if reduction == "mean":
        g = g / (_examples(x) if target.dtype.kind == "f" else (right * _along_classes(x, weight)).sum())
    return _by_row(g, x) * (softmax(x, dim=class_dim(x)) * shares.sum(class_dim(x), keepdim=True) - shares)


def _shares(x: Any, target: Any, ignore_index: int, label_smoothing: float) -> tuple[Any, Any]:
    """The target as probabilities in the shape of `x`, without and with smoothing; 0 for examples that do not count."""
    dim, classes = class_dim(x), x.shape[class_dim(x)]
    right, kept = target, 1  # probabilities: (N, C, ...)
    if target.dtype.kind != "f":
        kept = S.unsqueeze(E.ne(target, ignore_index), dim=dim).to(x.dtype)
        each = S.reshape(arange(classes), shape=(-1,) + (1,) * (x.ndim - dim - 1))
        # class indices (N, ...) compared with every class: (N, C, ...), 1 for the right one
        right = E.eq(S.unsqueeze(target, dim=dim), each).to(x.dtype) * kept
    return right, right * (1 - label_smoothing) + kept * (label_smoothing / classes)


def _along_classes(x: Any, weight: Any) -> Any:
    """The class weights in a shape that broadcasts to `x`; 1 if there are none."""
    return 1 if weight is None else S.reshape(weight, shape=(-1,) + (1,) * (x.ndim - class_dim(x) - 1))


def _examples(x: Any) -> float:
    return math.prod(x.shape) / x.shape[class_dim(x)]


def _by_row(g: Any, x: Any) -> Any:
    """A gradient of the loss in a shape that broadcasts to `x`."""
    return g.unsqueeze(class_dim(x)) if g.ndim else g


# --- binary cross entropy


@op
@half_in_float32
def binary_cross_entropy_backward(
    g: Array, x: Array, target: Array, weight: Array | None = None, /, reduction: str = "mean"
) -> Array:
    """Gradient of `binary_cross_entropy` for `x`: `g w (x - t) / (x (1 - x))`, the divisor at least 1e-12.

    `g` is one number, or has the shape of `x` without a reduction.

    >>> binary_cross_entropy_backward(np.float32(1), np.float32(0.5), np.float32(1))
    tensor(-2.)
    """
    # d/dx of -(t log x + (1 - t) log(1 - x)) is (x - t) / (x (1 - x)); the limit keeps it finite at 0 and 1
    slope = g * (x - target) / np.maximum((1 - x) * x, 1e-12)
    slope = slope if weight is None else slope * weight
    return slope / np.size(x) if reduction == "mean" else slope


@gradient(L.binary_cross_entropy)
def _(out: Any, x: Any, target: Any, weight: Any, reduction: str) -> Any:
    scale = 1 / (math.prod(x.shape) or 1) if reduction == "mean" else 1

    def for_target(g: Any) -> Any:
        slope = g * (E.clip(E.log1p(-x), min=-100) - E.clip(E.log(x), min=-100)) * scale
        return slope if weight is None else slope * weight

    def for_weight(g: Any) -> Any:
        loss = (1 - target) * E.clip(E.log1p(-x), min=-100) + target * E.clip(E.log(x), min=-100)
        return g * loss * -scale

    return lambda g: binary_cross_entropy_backward(g, x, target, weight, reduction=reduction), for_target, for_weight


@formula(binary_cross_entropy_backward)
def _(g: Any, x: Any, target: Any, weight: Any, reduction: str) -> Any:
    slope = g * (x - target) / E.clip((1 - x) * x, min=1e-12)
    slope = slope if weight is None else slope * weight
    return slope / math.prod(x.shape) if reduction == "mean" else slope
