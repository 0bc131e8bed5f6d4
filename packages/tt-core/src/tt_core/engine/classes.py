"""Class indices and class weights, which the losses, their tuned kernels and their gradients read in the same way."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tt_core.engine.errors import DTypeError, OutOfRangeError, ShapeError
from tt_core.engine.protocols import Array

if TYPE_CHECKING:
    from tt_core.engine.hints import ArrayLike
    from tt_core.tensor.tensor import Tensor


def class_dim(x: Tensor | Array) -> int:
    """The dimension of the classes: 1, or 0 for a single example.

    >>> class_dim(np.zeros((2, 3))), class_dim(np.zeros(3))
    (1, 0)
    """
    return 1 if x.ndim > 1 else 0


def check_labels(target: Array, shape: tuple[int, ...], ignore_index: int) -> bool:
    """Whether all class indices are classes of an input of this shape; the others are `ignore_index`.

    Raises `OutOfRangeError`, `ShapeError` or `DTypeError` for any other index, shape or dtype.

    >>> check_labels(np.array([0, 2]), (2, 3), ignore_index=-100)
    True
    """
    expected = (*shape[:1], *shape[2:]) if len(shape) > 1 else ()
    if not shape or target.shape != expected:
        remedy = "; a one-hot target must be float" if target.shape == shape else ""
        raise ShapeError(f"class indices of shape {expected} are expected for an input of shape {shape}{remedy}")
    if target.dtype.kind not in "iu":
        raise DTypeError(f"class indices are integers, got {target.dtype}")
    labels, classes = target.reshape(-1), shape[1 if len(shape) > 1 else 0]
    # converted to unsigned numbers, negative ones are above all classes too
    if not labels.size or np.maximum.reduce(labels.astype(np.uint64)) < classes:
        return True
    wrong = labels[((labels < 0) | (labels >= classes)) & (labels != ignore_index)]
    if wrong.size:
        raise OutOfRangeError(f"class index {wrong[0]} is out of range for {classes} classes (0 to {classes - 1})")
    return False


def check_class_weight(x: Array, weight: ArrayLike | None) -> None:
    """Raises `ShapeError` unless `weight` is None or has an entry for each class.

    >>> check_class_weight(np.zeros((2, 3)), np.ones(3))
    """
    if weight is not None:
        classes = x.shape[class_dim(x)] if x.ndim else 0
        if np.shape(weight) != (classes,):
            raise ShapeError(f"weight needs an entry for each of the {classes} classes, got shape {np.shape(weight)}")


def class_shares(
    x: Array, target: Array, weight: ArrayLike | None, ignore_index: int, label_smoothing: float
) -> tuple[Array, Array]:
    """How much each class of each example counts in the loss (N, ..., C), and each example in the mean (N, ...).

    Of a class index, this is the weight of its class, and 0 for the other classes.

    >>> class_shares(np.zeros((2, 3)), np.array([0, -100]), None, -100, 0.0)[0]
    array([[1., 0., 0.],
           [0., 0., 0.]])
    """
    classes, kind = x.shape[class_dim(x)], x.dtype.type
    weights = np.ones(classes, x.dtype) if weight is None else np.asarray(weight, x.dtype)
    if target.dtype.kind == "f":
        right = np.moveaxis(target, class_dim(x), -1)
        counted = np.ones(right.shape[:-1], x.dtype)
    else:
        right = target[..., None] == np.arange(classes)
        weights = weights * np.asarray(target != ignore_index)[..., None]
        counted = (weights * right).sum(-1)
    return weights * (right * kind(1 - label_smoothing) + kind(label_smoothing / classes)), counted
