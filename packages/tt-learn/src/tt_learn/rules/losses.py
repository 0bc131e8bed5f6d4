"""Derivatives of the fused ops of `tt_core.losses`; the other losses are made of ops that have theirs."""

from __future__ import annotations

from typing import Any

from tt_core import elementwise as E
from tt_core import losses as L
from tt_core import shapes as S
from tt_core.activations import softmax
from tt_core.creation import arange
from tt_learn.autograd import GradientError, formula, gradient


@gradient(L.class_cross_entropy)
def _(out: Any, x: Any, target: Any, weight: Any, peak: Any = None, total: Any = None, **attributes: Any) -> Any:
    """Kept are the logits and two numbers a row; the probabilities are computed again."""
    if getattr(weight, "requires_grad", False):
        raise GradientError("cross_entropy: the class weights get no gradient; detach() them")
    return lambda g: L.cross_entropy_backward(g, x, target, peak, total, weight, **attributes), None, None


@formula(L.cross_entropy_backward)
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


@gradient(L.binary_entropy)
def _(out: Any, x: Any, target: Any) -> Any:
    def for_target(g: Any) -> Any:
        return g * (E.clip(E.log1p(-x), min=-100) - E.clip(E.log(x), min=-100))

    return lambda g: L.binary_cross_entropy_backward(g, x, target), for_target


@formula(L.binary_cross_entropy_backward)
def _(g: Any, x: Any, target: Any) -> Any:
    return g * (x - target) / E.clip((1 - x) * x, min=1e-12)
