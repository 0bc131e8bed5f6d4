"""Part of module 06: clipping, which bounds gradients in place before an optimizer uses them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

import tt_core
from tt_core.engine import mutation
from tt_core.engine.arguments import checked
from tt_core.engine.dispatch import Array
from tt_core.engine.effects import effect
from tt_core.engine.errors import ArgumentError, shown
from tt_learn.autograd import GradientError, Tensor
from tt_learn.optimizers.blocks import BLOCK


@effect()
@checked
def clip_grad_norm_(
    parameters: Tensor | Iterable[Tensor], max_norm: float, norm_type: float = 2.0, error_if_nonfinite: bool = False
) -> Tensor:
    """Scales all gradients by one factor so that their common norm is at most `max_norm` (Pascanu et al. 2013).

    `parameters`: one tensor or an iterable. Returns the norm before clipping, a tensor without dimensions. If the norm
    is nan, all gradients become nan; `error_if_nonfinite` raises `GradientError` instead. Raises `ArgumentError` for a
    negative `max_norm` and for a `norm_type` of 0 or less.

    >>> w = Tensor([3.0, 4.0], requires_grad=True)
    >>> (w * w).sum().backward()
    >>> clip_grad_norm_(w, 1.0), w.grad
    (tensor(10.), tensor([0.6, 0.8]))
    """
    if not max_norm >= 0:
        raise ArgumentError(f"clip_grad_norm_: max_norm is {max_norm}, expected a number >= 0")
    if norm_type <= 0:
        raise ArgumentError(f"clip_grad_norm_: norm_type is {norm_type}, expected a number above 0 or inf")
    gradients = list(_gradients("clip_grad_norm_", parameters))
    # one norm for all: a factor for each parameter would turn the direction of the step
    total = total_norm(gradients, float(norm_type))
    if error_if_nonfinite and not math.isfinite(total):
        raise GradientError(f"clip_grad_norm_: the gradients' norm is {total}; lower the learning rate")
    if not scale_down(gradients, float(max_norm), total) >= 1:
        for g in gradients:
            mutation.record(g)
    dtype = gradients[0].dtype if gradients else np.dtype(np.float32)
    return Tensor(np.asarray(total, dtype))


@effect()
@checked
def clip_grad_value_(parameters: Tensor | Iterable[Tensor], clip_value: float) -> None:
    """Clips each element of each gradient to [-clip_value, clip_value].

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


def _gradients(name: str, parameters: Tensor | Iterable[Tensor]) -> Iterator[Array]:
    given: Any = [parameters] if isinstance(parameters, tt_core.Tensor) else parameters
    if not isinstance(given, Iterable):
        raise GradientError(f"{name}: takes parameters, got {shown(given)}; pass model.parameters()")
    for p in given:
        if not isinstance(p, tt_core.Tensor):
            raise GradientError(f"{name}: takes parameters, got {shown(p)}; pass model.parameters()")
        gradient = getattr(p, "grad", None)
        if gradient is not None:
            yield gradient.data


def total_norm(gradients: Sequence[Array], norm_type: float) -> float:
    """The norm of all gradients as one long vector: (sum of |g|^p)^(1/p), or the largest |g| for p = inf.

    >>> total_norm([np.array([3.0]), np.array([[4.0]])], 2.0)
    5.0
    """
    pieces = [piece for g in gradients for piece in _pieces(g)]  # each (BLOCK,) or shorter
    if norm_type == math.inf:
        return float(np.max([np.abs(piece).max() for piece in pieces], initial=0.0))  # nan too, unlike Python's max
    if norm_type == 2:
        # fsum adds up in float64, since the pieces of a large model would lose digits in float32
        return math.sqrt(math.fsum(float(np.dot(piece, piece)) for piece in pieces))
    return math.fsum(float((np.abs(piece) ** norm_type).sum()) for piece in pieces) ** (1 / norm_type)


def scale_down(gradients: Sequence[Array], max_norm: float, total: float) -> float:
    """Multiplies all gradients in place by max_norm / (total + 1e-6), unless that is 1 or more; returns the factor.

    >>> gradients = [np.array([3.0]), np.array([4.0])]
    >>> round(scale_down(gradients, 1.0, 5.0), 3)
    0.2
    >>> [g.round(3).tolist() for g in gradients]
    [[0.6], [0.8]]
    """
    scale = max_norm / (total + 1e-6)
    if not scale >= 1:  # also true for nan, which must not go unnoticed
        for g in gradients:
            g *= scale  # in place: the optimizer reads these arrays
    return scale


def _pieces(g: Array) -> Iterator[Array]:
    """A gradient as short vectors, whose float32 sums are accurate to some parts in a million.

    float16 becomes float32, because the square of 256 overflows float16.
    """
    flat = g.reshape(-1)
    if g.dtype == np.float16:
        flat = flat.astype(np.float32)
    return (flat[i : i + BLOCK] for i in range(0, flat.size, BLOCK))
