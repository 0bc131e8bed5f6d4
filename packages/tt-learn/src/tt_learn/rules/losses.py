"""Derivatives of the fused ops of `tt_core.losses`; the other losses are made of ops that have theirs."""

from __future__ import annotations

from typing import Any

import numpy as np

from tt_core import losses as L
from tt_core.activations import softmax
from tt_core.engine.dispatch import Array, op
from tt_core.tensor import elementwise as E
from tt_core.tensor import shapes as S
from tt_core.tensor.creation import arange
from tt_core.tensor.elementwise import half_in_float32
from tt_learn.autograd import GradientError, formula, gradient

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
) -> Array:
    """Gradient of `cross_entropy` for `x`: `g w (softmax(x) - onehot(target))`, divided by sum(w) for the mean.

    `peak` and `total` (rows,) are the residuals of forward, which the formula does not need. `g` is one number, or
    has the shape of `target` without a reduction. Raises as the op.

    >>> x, target = np.array([[0, 0]], np.float32), np.array([1])
    >>> cross_entropy_backward(np.float32(1), x, target)
    tensor([[ 0.5, -0.5]])
    """
    last = np.moveaxis(x, min(x.ndim - 1, 1), -1)  # classes last
    kept = target != ignore_index
    labels = np.where(kept, target, 0)
    share = np.where(kept, 1 if weight is None else weight[labels], 0)
    if reduction == "mean":
        share = share / (share.sum() or 1)  # of no examples, the gradient is 0
    right = labels[..., None] == np.arange(last.shape[-1])
    gradient = (g * share)[..., None] * (softmax.formula(last) - right)
    return np.moveaxis(gradient, -1, min(x.ndim - 1, 1)).astype(x.dtype)


@gradient(L.class_cross_entropy)
def _(out: Any, x: Any, target: Any, weight: Any, peak: Any = None, total: Any = None, **attributes: Any) -> Any:
    """Kept are the logits and two numbers a row; the probabilities are computed again."""
    if getattr(weight, "requires_grad", False):
        raise GradientError("cross_entropy: the class weights get no gradient; detach() them")
    return lambda g: cross_entropy_backward(g, x, target, peak, total, weight, **attributes), None, None


@formula(cross_entropy_backward)
def _(g: Any, x: Any, target: Any, peak: Any, total: Any, weight: Any, ignore_index: int, reduction: str) -> Any:
    """From `x` alone: peak and total depend on it too."""
    dim = min(x.ndim - 1, 1)
    kept = E.ne(target, ignore_index)
    labels = E.where(kept, target, 0)
    share = kept.to(x.dtype) if weight is None else S.getitem(weight, index=labels.data) * kept
    if reduction == "mean":
        share = share / share.sum()
    classes = arange(x.shape[dim]).reshape((-1,) + (1,) * (x.ndim - dim - 1))
    right = E.eq(labels.unsqueeze(dim), classes)
    return (g * share).unsqueeze(dim) * (softmax(x, dim=dim) - right)


# --- binary cross entropy


@op
@half_in_float32
def binary_cross_entropy_backward(g: Array, x: Array, target: Array, /) -> Array:
    """Gradient of `binary_cross_entropy` for `x`: `g (x - t) / (x (1 - x))`, the divisor at least 1e-12.

    All have one shape.

    >>> binary_cross_entropy_backward(np.float32(1), np.float32(0.5), np.float32(1))
    tensor(-2.)
    """
    return g * (x - target) / np.maximum((1 - x) * x, 1e-12)


@gradient(L.binary_entropy)
def _(out: Any, x: Any, target: Any) -> Any:
    def for_target(g: Any) -> Any:
        return g * (E.clip(E.log1p(-x), min=-100) - E.clip(E.log(x), min=-100))

    return lambda g: binary_cross_entropy_backward(g, x, target), for_target


@formula(binary_cross_entropy_backward)
def _(g: Any, x: Any, target: Any) -> Any:
    return g * (x - target) / E.clip((1 - x) * x, min=1e-12)
