"""Module 04, losses: one class out of many.

Cross entropy is one op, because its input is the largest array of a language model. Its faster form is in
`kernels/losses.py`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from tt_core.activations import log_softmax
from tt_core.engine.classes import check_class_weight, check_labels, class_dim, class_shares
from tt_core.engine.dispatch import Array, op
from tt_core.engine.errors import (
    ArgumentError,
    DTypeError,
    ShapeError,
    TinyTorchError,
    check_floats,
    is_number,
    shown,
)
from tt_core.losses.base import as_tensor, check_reduction, half_through_float32, like, reduced
from tt_core.tensor import elementwise as E
from tt_core.tensor import reductions as R
from tt_core.tensor import shapes as S
from tt_core.tensor.elementwise import half_in_float32
from tt_core.tensor.tensor import Tensor

if TYPE_CHECKING:
    from tt_core.engine.hints import TensorLike

# --- cross entropy


def _check_cross_entropy(
    input: Array,
    target: Array,
    weight: Array | None = None,
    /,
    ignore_index: int = -100,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> None:
    """Raises an error for arguments that `cross_entropy` does not take."""
    _check_options(ignore_index, reduction, label_smoothing)
    check_floats(input)
    check_class_weight(input, weight)
    if target.dtype.kind != "f":
        check_labels(target, input.shape, ignore_index)
    elif target.shape != input.shape:
        raise ShapeError(
            f"a target of floats holds probabilities of the input's shape {input.shape}, got {target.shape}"
        )


@op(check=_check_cross_entropy)
@half_in_float32
def cross_entropy(
    input: Array,
    target: Array,
    weight: Array | None = None,
    /,
    ignore_index: int = -100,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Array:
    """`-log(softmax(input)[target])`: how surprised a model with logits `input` is by the right class.

    `input` is (N, C), (N, C, d1, ...) or (C,). `target` holds class indices (N,), (N, d1, ...) or (), or probabilities
    in the shape of `input`; flatten (B, T, V) logits to (B T, V) first. `weight` (C,) scales each class, and the mean
    is a weighted one. Examples with class `ignore_index` do not count. `label_smoothing` mixes the target with the
    uniform distribution (Szegedy et al. 2016). Raises `OutOfRangeError` for a class that does not exist, `ShapeError`
    for a target or weight of another shape, `DTypeError` for logits of integers, `ArgumentError` for an unknown
    `reduction` and a `label_smoothing` outside [0, 1].

    >>> from tt_core import tensor
    >>> cross_entropy(tensor([[2.0, 0.0], [0.0, 0.0]]), tensor([0, 1]))
    tensor(0.41)
    """
    logs = np.moveaxis(log_softmax.formula(input, class_dim(input)), class_dim(input), -1)  # (N, ..., C)
    shares, counted = class_shares(input, target, weight, ignore_index, label_smoothing)  # (N, ..., C), (N, ...)
    # a class that does not count is left out: 0 times a logarithm of -inf would be nan
    loss = -np.where(shares == 0, 0, shares * logs).sum(-1)  # (N, ..., C) -> (N, ...)
    return loss if reduction == "none" else loss.sum() / (counted.sum() if reduction == "mean" else 1)


def _check_options(ignore_index: Any, reduction: Any, label_smoothing: Any) -> None:
    """Raises `ArgumentError` or `DTypeError` for options that no cross entropy takes."""
    check_reduction(reduction)
    if not isinstance(ignore_index, (int, np.integer)):
        raise DTypeError(f"ignore_index is an integer, got {shown(ignore_index)}")
    if label_smoothing != 0 and (not is_number(label_smoothing) or not 0 <= label_smoothing <= 1):
        raise ArgumentError(f"label_smoothing is between 0 and 1, got {shown(label_smoothing)}")


# --- negative log-likelihood


@half_through_float32
def nll_loss(
    input: Tensor, target: Tensor, weight: TensorLike | None = None, ignore_index: int = -100, reduction: str = "mean"
) -> Tensor:
    """`-x[target]` for log-probabilities `x`; shapes, weights and errors as for `cross_entropy`.

    >>> from tt_core import tensor
    >>> nll_loss(tensor([[-0.1, -2.3], [-1.6, -0.2]]), tensor([0, 1]))
    tensor(0.15)
    """
    x, target = as_tensor(input), as_tensor(target)
    weight = None if weight is None else like(as_tensor(weight), x)
    try:
        _check_options(ignore_index, reduction, 0)
        check_floats(x)
        check_class_weight(x.data, weight)
        check_labels(target.data, x.data.shape, ignore_index)
    except TinyTorchError as error:
        raise type(error)(f"nll_loss: {error}") from None
    dim, kept = class_dim(x), target.data != ignore_index
    index = np.where(kept, target.data, 0)  # an ignored class may not exist, so class 0 is read in its place
    counted = as_tensor(kept.astype(x.dtype))
    if weight is not None:
        counted = E.where(kept, S.getitem(weight, index=index), np.zeros((), x.dtype))
    # (N, C, ...) and (N, 1, ...) -> (N, ...): the log-probability of the right class
    picked = S.squeeze(S.take_along_dim(x, np.expand_dims(index, dim), dim=dim), dim=dim)
    # chosen by `where` and not multiplied by 0, which an infinite loss would turn into nan
    loss = E.where(kept, E.neg(picked) * counted, np.zeros((), x.dtype))
    return R.sum(loss) / R.sum(counted) if reduction == "mean" else reduced(loss, reduction)
