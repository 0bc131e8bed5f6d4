"""Module 04, losses: distances between embeddings, which bring similar things together."""

from __future__ import annotations

import math

import numpy as np

from tt_core.engine.errors import ShapeError
from tt_core.losses.base import as_tensor, check_number, half_through_float32, like, pair, reduced
from tt_core.losses.classification import cross_entropy
from tt_core.tensor import elementwise as E
from tt_core.tensor import reductions as R
from tt_core.tensor.tensor import Tensor

_TINY = 1e-12
"""Smallest squared distance: the square root has no gradient at 0."""


def _root(squared: Tensor, least: float) -> Tensor:
    """Square root of at least `least`, or of the smallest positive number of the dtype."""
    return E.sqrt(E.clip(squared, min=max(least, float(np.finfo(squared.dtype).smallest_subnormal))))


# --- the formulas


def pulled_or_pushed(squared: Tensor, target: Tensor, margin: float) -> Tensor:
    """With D = sqrt(squared), `(1 - t) D^2 / 2 + t max(0, margin - D)^2 / 2`.

    >>> from tt_core import tensor
    >>> pulled_or_pushed(tensor([25.0, 0.25]), tensor([0.0, 1.0]), 1.0)
    tensor([12.5  ,  0.125])
    """
    short = E.clip(margin - _root(squared, _TINY), min=0.0)
    return ((1 - target) * squared + target * short * short) * 0.5


def similarities(query: Tensor, key: Tensor) -> Tensor:
    """The cosine of the angle between each query (N, D) and each key (M, D): (N, M).

    >>> from tt_core import tensor
    >>> similarities(tensor([[2.0, 0.0]]), tensor([[1.0, 0.0], [0.0, 3.0], [-1.0, 0.0]]))
    tensor([[ 1.,  0., -1.]])
    """
    return _unit(query) @ _unit(key).T


# --- the losses


@half_through_float32
def contrastive_loss(a: Tensor, b: Tensor, target: Tensor, margin: float = 1.0, reduction: str = "mean") -> Tensor:
    """Pulls embeddings of similar pairs together and pushes others `margin` apart (Hadsell, Chopra, LeCun 2006):
    with D = |a - b|, `(1 - t) D^2 / 2 + t max(0, margin - D)^2 / 2`.

    `a` and `b` are (..., D), `target` (...) is 0 for similar pairs and 1 for the others, as in the paper. Raises
    `ShapeError` for other shapes, `DTypeError` for embeddings of integers.

    >>> from tt_core import tensor
    >>> a, b = tensor([[0.0, 0.0], [0.0, 0.0]]), tensor([[3.0, 4.0], [0.3, 0.4]])
    >>> contrastive_loss(a, b, tensor([0, 1]), reduction="none")
    tensor([12.5  ,  0.125])
    """
    check_number("contrastive_loss", "margin", margin, math.isfinite, "is a finite number")
    a, b = pair("contrastive_loss", reduction, a, b)  # (..., D)
    target = like(as_tensor(target), a)  # (...)
    if target.shape != a.shape[:-1]:
        raise ShapeError(f"contrastive_loss: target needs shape {a.shape[:-1]} for pairs {a.shape}, got {target.shape}")
    difference = E.sub(a, b)
    squared = R.sum(E.mul(difference, difference), dim=-1)  # (..., D) -> (...)
    return reduced(pulled_or_pushed(squared, target, margin), reduction)


@half_through_float32
def info_nce_loss(query: Tensor, key: Tensor, temperature: float = 0.1, reduction: str = "mean") -> Tensor:
    """Cross entropy of finding, for each `query[i]`, its own `key[i]` among all keys by cosine similarity
    (van den Oord et al. 2018, arXiv:1807.03748).

    Both are (N, D). Similarities are divided by `temperature`, so a small one sharpens the choice. Raises `ShapeError`
    for other shapes, `ArgumentError` for a temperature that is not positive, `DTypeError` for embeddings of integers.

    >>> from tt_core import eye
    >>> info_nce_loss(eye(3), eye(3), temperature=1.0)
    tensor(0.5514)
    """
    query, key = pair("info_nce_loss", reduction, query, key)
    if query.ndim != 2:
        raise ShapeError(f"info_nce_loss: embeddings are (N, D), got {query.shape}")
    check_number("info_nce_loss", "temperature", temperature, lambda t: t > 0, "must be positive")
    # (N, D), (N, D) -> (N, N) logits: the right class of row i is column i, and the other keys are the wrong classes
    return cross_entropy(similarities(query, key) / temperature, np.arange(len(query)), reduction=reduction)


def _unit(x: Tensor) -> Tensor:
    """Scales each row to length 1; a row of zeros stays zero."""
    squared = R.sum(E.mul(x, x), dim=-1, keepdim=True)
    return x / _root(squared, _TINY**2)
