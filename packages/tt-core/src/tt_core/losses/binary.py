"""Module 04, losses: yes or no. Binary cross entropy is one op: no composition gives its gradient at 0 and 1."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from tt_core.activations import softplus
from tt_core.engine.dispatch import Array, op
from tt_core.engine.errors import ArgumentError, ShapeError, check_floats
from tt_core.losses.base import (
    check_broadcasts,
    check_reduction,
    element_weight,
    half_through_float32,
    pair,
    reduced,
)
from tt_core.tensor import elementwise as E
from tt_core.tensor.elementwise import half_in_float32
from tt_core.tensor.tensor import Tensor

if TYPE_CHECKING:
    from tt_core.engine.hints import TensorLike


def _check_binary_cross_entropy(
    input: Array, target: Array, weight: Array | None = None, /, reduction: str = "mean"
) -> None:
    check_reduction(reduction)
    if input.shape != target.shape:
        raise ShapeError(f"input {input.shape} and target {target.shape} differ; reshape or expand one of them")
    if target.dtype.kind != "f":
        check_floats(input)
    if weight is not None:
        check_broadcasts(np.shape(weight), input.shape)
    if input.size and not (input.min() >= 0 and input.max() <= 1):
        raise ArgumentError(f"input must hold probabilities between 0 and 1, got {input.min()} to {input.max()}")


@op(check=_check_binary_cross_entropy)
@half_in_float32
def binary_cross_entropy(input: Array, target: Array, weight: Array | None = None, /, reduction: str = "mean") -> Array:
    """`-(t log x + (1 - t) log(1 - x))` for probabilities `x` of "yes"; logarithms are limited to -100, as in PyTorch.

    `weight` scales each element. Raises `ShapeError` for different shapes and for a weight that does not broadcast,
    `ArgumentError` for an input outside [0, 1] and an unknown `reduction`, `DTypeError` for two tensors of integers.

    >>> from tt_core import tensor
    >>> binary_cross_entropy(tensor([0.9, 0.2]), tensor([1.0, 0.0]))
    tensor(0.1643)
    """
    x, t = _floats_of(input, target)
    # limited to -100: at x = 0 with t = 0 the product would be 0 times -inf, which is nan
    loss = (t - 1) * np.maximum(np.log1p(-x), -100) - t * np.maximum(np.log(x), -100)
    if weight is not None:
        loss = loss * np.asarray(weight, x.dtype)
    return loss if reduction == "none" else loss.sum() / (loss.size if reduction == "mean" else 1)


# targets are often integers, 0 or 1
def _floats_of(x: Array, target: Array) -> tuple[Array, Array]:
    """Both arrays as floats: integers get the dtype of the other one."""
    return (x if x.dtype.kind == "f" else x.astype(target.dtype)), (
        target if target.dtype.kind == "f" else target.astype(x.dtype)
    )


@half_through_float32
def binary_cross_entropy_with_logits(
    input: Tensor,
    target: Tensor,
    weight: TensorLike | None = None,
    reduction: str = "mean",
    pos_weight: TensorLike | None = None,
) -> Tensor:
    """`binary_cross_entropy` of `sigmoid(x)`, right at any magnitude:
    `(1 - t) x + (1 + (pos_weight - 1) t) softplus(-x)`.

    Raises as `mse_loss` does, and `ShapeError` for a weight that does not broadcast to the input.

    >>> from tt_core import tensor
    >>> binary_cross_entropy_with_logits(tensor([1e4, 0.0]), tensor([1.0, 1.0]))
    tensor(0.3466)
    """
    x, target = pair("binary_cross_entropy_with_logits", reduction, input, target)
    # -log(sigmoid(x)) = softplus(-x), which neither overflows nor takes the logarithm of 0
    loss = softplus(E.neg(x), threshold=math.inf)
    if pos_weight is not None:
        loss = loss * ((element_weight("binary_cross_entropy_with_logits", pos_weight, x) - 1) * target + 1)
    loss = (1 - target) * x + loss
    if weight is not None:
        loss = loss * element_weight("binary_cross_entropy_with_logits", weight, x)
    return reduced(loss, reduction)
