"""Tuned kernel of cross entropy in `tt_core.losses`. The figure is a share of the formula's time."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from tt_core import losses as L
from tt_core.engine.classes import check_class_weight, check_labels, class_dim
from tt_core.engine.dispatch import Array, tuned
from tt_core.engine.heap import BLOCK
from tt_core.tensor.elementwise import HALF

if TYPE_CHECKING:
    from tt_core.engine.hints import ArrayLike

_SHORT = 64
"""Up to this number of classes, rows are transposed first: NumPy starts its loop again for each row, and takes 11
instead of 3 ms to find the largest of each of 153,600 x 10."""


@tuned(L.cross_entropy, residuals=("peak", "total"), checks=True)
def cross_entropy(
    input: Array,
    target: Array,
    weight: Array | None = None,
    /,
    ignore_index: int = -100,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> tuple[Array, Any, Any]:
    """Holds only as many exponentials as fit in the cache: 0.8 of the time on (2048, 512).

    Residuals: the largest logit of each row, and the sum of exponentials of the differences to it. Backward computes
    the exponentials again from these, so that no second array of the size of the logits is kept. Probabilities and
    smoothed labels run on the formula, without residuals.
    """
    plain = label_smoothing == 0 and target.dtype.kind != "f"
    if not (plain and input.dtype.kind == "f" and type(ignore_index) is int and reduction in ("none", "mean", "sum")):
        _check(input, target, weight, ignore_index, reduction, label_smoothing)
    if not plain:
        return L.cross_entropy.formula(input, target, weight, ignore_index, reduction, label_smoothing), None, None
    if input.dtype == HALF:
        wide, peak, total = cross_entropy(input.astype(np.float32), target, weight, ignore_index, reduction)
        return wide.astype(HALF), peak, total
    rows = class_rows(input)  # (N, C, d1, ...) -> (N d1 ..., C)
    labels, kept, weights = counted_labels(input, target, weight, ignore_index)
    peak, total = _exponentials(rows)  # (rows,)
    loss = np.log(total)
    loss -= rows[np.arange(len(rows)), labels] - peak  # in this order, a loss near 0 keeps its digits
    if kept is not None:
        loss = np.where(kept, weights * loss, 0)
    return reduced_rows(loss, weights, reduction, target.shape), peak, total


def _check(*arguments: Any) -> None:
    if L.cross_entropy.check is not None:
        L.cross_entropy.check(*arguments)


def class_rows(x: Array) -> Array:
    """`x` as (rows, classes): the dimension of the classes, 1 (0 for a single example), goes last."""
    if x.ndim > 2:
        x = np.moveaxis(x, 1, -1)
    return x if x.ndim == 2 else x.reshape(math.prod(x.shape[:-1]), *x.shape[-1:])


def _exponentials(rows: Array) -> tuple[Array, Array]:
    """The largest element of each row, and the sum of exponentials of the differences to it."""
    if rows.size > BLOCK and len(rows) > 1:
        peaks, totals = zip(*[_exponentials(rows[block]) for block in row_blocks(rows)])
        return np.concatenate(peaks), np.concatenate(totals)
    if rows.shape[1] > _SHORT:
        peak = np.maximum.reduce(rows, axis=1, initial=-np.inf)  # see peaks() of activations for the initial value
        shifted = rows - peak[:, None]  # (rows, C)
        return peak, np.einsum("nc->n", np.exp(shifted, out=shifted))  # adds up in half the time of sum
    columns = np.array(rows.T, order="C")  # (C, rows), always a copy, because it is changed in place
    peak = np.maximum.reduce(columns, axis=0)
    columns -= peak
    return peak, np.add.reduce(np.exp(columns, out=columns), axis=0)


def row_blocks(rows: Array) -> list[slice]:
    """Slices over as many rows as fit in the cache."""
    step = max(1, BLOCK // max(1, rows.shape[1]))
    return [slice(start, start + step) for start in range(0, len(rows), step)]


def counted_labels(
    x: Array, target: Array, weight: ArrayLike | None, ignore_index: int
) -> tuple[Array, Array | None, Array | None]:
    """Class indices that can be looked up, which rows count, and how much each does; None, None if all count 1.

    Raises as `cross_entropy` does for indices and weights that do not fit `x`.
    """
    check_class_weight(x, weight)
    all_classes = check_labels(target, x.shape, ignore_index)
    labels, classes = target.reshape(-1), x.shape[class_dim(x)]
    if weight is None and all_classes and not 0 <= ignore_index < classes:
        return labels, None, None
    kept = labels != ignore_index
    labels = np.where(kept, labels, 0)  # an ignored class may not exist
    weights = kept if weight is None else np.where(kept, np.asarray(weight)[labels], 0)
    return labels, kept, weights.astype(x.dtype)


def reduced_rows(loss: Array, weights: Array | None, reduction: str, shape: tuple[int, ...]) -> Array:
    """Losses of rows, already weighted, after the reduction; "none" returns them in `shape`."""
    if reduction == "none":
        return loss.reshape(shape)
    total = np.add.reduce(loss)
    return total if reduction == "sum" else total / (loss.size if weights is None else weights.sum())
