"""Part of module 06: gradients held in bounds before an optimizer uses them, in place."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

import tt_core
from tt_core.engine import mutation
from tt_core.engine.arguments import checked
from tt_core.engine.dispatch import Array
from tt_core.engine.errors import ArgumentError, shown
from tt_learn.autograd import GradientError, Tensor
from tt_learn.optimizers.blocks import BLOCK


@checked
def clip_grad_norm_(
    parameters: Any, max_norm: float, norm_type: float = 2.0, error_if_nonfinite: bool = False
) -> Tensor:
    """Scale all gradients together so that their common norm is at most `max_norm` (Pascanu et al. 2013).

    `parameters`: one tensor or an iterable. Returns the norm before clipping, a tensor without dimensions. A norm
    that is no number makes all gradients so, unless `error_if_nonfinite`, which raises `GradientError`. Raises
    `ShapeError` for a `norm_type` of 0 or less.

    >>> w = Tensor([3.0, 4.0], requires_grad=True)
    >>> (w * w).sum().backward()
    >>> clip_grad_norm_(w, 1.0), w.grad
    (tensor(10.), tensor([0.6, 0.8]))
    """
    if not max_norm >= 0:
        raise ArgumentError(f"clip_grad_norm_: max_norm is {max_norm}, expected a number >= 0")
    gradients = list(_gradients("clip_grad_norm_", parameters))
    total = _norm(gradients, float(norm_type))
    if error_if_nonfinite and not math.isfinite(total):
        raise GradientError(f"clip_grad_norm_: the gradients' norm is {total}; lower the learning rate")
    scale = float(max_norm) / (total + 1e-6)
    if not scale >= 1:  # true for nan, which must not go unnoticed
        for g in gradients:
            np.multiply(g, scale, out=g)
            mutation.record(g)
    dtype = gradients[0].dtype if gradients else np.dtype(np.float32)
    return Tensor(np.asarray(total, dtype))


@checked
def clip_grad_value_(parameters: Any, clip_value: float) -> None:
    """Clip each element of each gradient to [-clip_value, clip_value]; those without a gradient are passed over.

    >>> w = Tensor([0.1, 3.0], requires_grad=True)
    >>> (w * w).sum().backward()
    >>> clip_grad_value_(w, 1.0)
    >>> w.grad
    tensor([0.2, 1. ])
    """
    if not clip_value >= 0:
        raise ArgumentError(f"clip_grad_value_: clip_value is {clip_value}, expected a number >= 0")
    for g in list(_gradients("clip_grad_value_", parameters)):
        np.clip(g, -clip_value, clip_value, out=g)
        mutation.record(g)


def _gradients(name: str, parameters: Any) -> Iterator[Array]:
    given: Any = [parameters] if isinstance(parameters, tt_core.Tensor) else parameters
    if not isinstance(given, Iterable):
        raise GradientError(f"{name}: takes parameters, got {shown(given)}; pass model.parameters()")
    for p in given:
        if not isinstance(p, tt_core.Tensor):
            raise GradientError(f"{name}: takes parameters, got {shown(p)}; pass model.parameters()")
        gradient = getattr(p, "grad", None)
        if gradient is not None:
            yield gradient.data


def _norm(gradients: list[Array], p: float) -> float:
    if p <= 0:
        raise ArgumentError(f"clip_grad_norm_: norm_type is {p}, expected a number above 0 or inf")
    pieces = (piece for g in gradients for piece in _pieces(g))
    if p == math.inf:
        return float(np.max([np.abs(piece).max() for piece in pieces], initial=0.0))  # nan too, unlike Python's max
    if p == 2:
        return math.sqrt(math.fsum(float(np.dot(piece, piece)) for piece in pieces))
    return math.fsum(float((np.abs(piece) ** p).sum()) for piece in pieces) ** (1 / p)


def _pieces(g: Array) -> Iterator[Array]:
    """A gradient as short vectors, so that a float32 sum of squares stays exact to some parts in a million.

    Those of float16 come as float32: its squares end at 255.
    """
    flat = g.reshape(-1)
    if g.dtype == np.float16:
        flat = flat.astype(np.float32)
    return (flat[i : i + BLOCK] for i in range(0, flat.size, BLOCK))
