"""Part of module 07: measurements besides the loss. Metrics take tensors or arrays and return Python numbers."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from tt_core.engine.arguments import checked
from tt_core.engine.dispatch import Array, quietly
from tt_core.engine.errors import ArgumentError, DTypeError, ShapeError
from tt_core.tensor import as_array

if TYPE_CHECKING:
    from tt_core.engine.hints import TensorLike


def accuracy(output: TensorLike, target: TensorLike) -> float:
    """Returns the share of examples whose largest score is that of the target class.

    output: scores (..., classes). target: class indices (...).

    Raises `ShapeError` for other shapes.

    >>> accuracy(np.array([[0.1, 0.9], [0.8, 0.2]]), np.array([1, 1]))
    0.5
    """
    return top_k_accuracy(output, target, 1)


@checked
def top_k_accuracy(output: TensorLike, target: TensorLike, k: int = 5) -> float:
    """Returns the share of examples whose target class is among the `k` largest scores.

    output: scores (..., classes). target: class indices (...). Raises `ShapeError` for other shapes, `ArgumentError`
    for a `k` below 1.

    >>> top_k_accuracy(np.array([[0.1, 0.7, 0.2], [0.5, 0.4, 0.1]]), np.array([2, 2]), k=2)
    0.5
    """
    scores, classes = as_array(output), as_array(target)  # (..., classes), (...)
    if k < 1:
        raise ArgumentError(f"top_k_accuracy: k is {k}, expected 1 or more")
    if not scores.ndim or not scores.shape[-1] or scores.shape[:-1] != classes.shape:
        raise ShapeError(f"accuracy: scores {scores.shape} do not fit class indices {classes.shape}")
    if k == 1:  # argmax takes the first of equal scores, as PyTorch does
        return _share(scores.argmax(-1) == classes)
    k = min(k, scores.shape[-1])
    # (..., k), in no order: a partition is enough, and takes linear time where sorting takes n log n
    best = np.argpartition(scores, -k, axis=-1)[..., -k:]
    return _share((best == classes[..., None]).any(-1))


def _share(hits: Array) -> float:
    return float(hits.mean()) if hits.size else math.nan


@checked
def binary_accuracy(output: TensorLike, target: TensorLike, threshold: float = 0.0) -> float:
    """Returns the share of examples on the correct side of `threshold`: 0 for logits, 0.5 for probabilities.

    Raises `ShapeError` if the shapes of output and target differ.

    >>> binary_accuracy(np.array([-1.0, 2.0]), np.array([0, 1]))
    1.0
    """
    scores, truth = as_array(output), as_array(target)  # both (...): one score for each example
    if scores.shape != truth.shape:
        raise ShapeError(f"binary_accuracy: output {scores.shape} and target {truth.shape} differ")
    return _share(quietly(np.greater, scores, threshold) == (truth > 0.5))


def confusion_matrix(output: TensorLike, target: TensorLike) -> Array:
    """Counts how often class i (row) was taken for class j (column); returns (classes, classes).

    output: scores (n, classes). target: class indices (n,). Raises `ShapeError` for other shapes and for class indices
    without a score, `DTypeError` for class indices that are not integers.

    >>> confusion_matrix(np.array([[0.1, 0.9], [0.8, 0.2]]), np.array([1, 1]))
    array([[0, 0],
           [1, 1]])
    """
    scores, classes = as_array(output), as_array(target)  # (n, classes), (n,)
    if scores.ndim != 2 or scores.shape[:1] != classes.shape:
        raise ShapeError(f"confusion_matrix: expected (n, classes) and (n,), got {scores.shape} and {classes.shape}")
    if classes.dtype.kind not in "iub":
        raise DTypeError(f"confusion_matrix: class indices are integers, got {classes.dtype}")
    n = scores.shape[1]
    if classes.size and not 0 <= classes.min() <= classes.max() < n:
        raise ShapeError(f"confusion_matrix: classes go from {classes.min()} to {classes.max()}, scores are for {n}")
    # each pair (i, j) is one number i n + j, so one pass counts all pairs: (n n,) -> (n, n)
    counted: Array = np.bincount(classes * n + scores.argmax(-1), minlength=n * n).reshape(n, n)
    return counted


@checked
def perplexity(loss: float) -> float:
    """Returns e^loss: the effective number of equally likely next tokens of a language model with this cross entropy.

    >>> perplexity(0.0)
    1.0
    """
    return math.inf if loss > 700 else math.exp(loss)
