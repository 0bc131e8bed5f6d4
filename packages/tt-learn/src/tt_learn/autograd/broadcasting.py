"""Undoing broadcasting: the gradient of a repeated element is the sum of the gradients of its copies."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tt_core.engine.dispatch import Array, op
from tt_core.engine.errors import TinyTorchError
from tt_core.tensor import reductions
from tt_core.tensor.elementwise import half_in_float32
from tt_learn.autograd.errors import GradientError
from tt_learn.autograd.graph import Signature


@op(view=True)
@half_in_float32
def sum_to(x: Array, /, shape: tuple[int, ...]) -> Array:
    """Sums `x` down to `shape`, over the dimensions along which broadcasting from `shape` repeated elements.

    Raises `ShapeError` if `shape` does not broadcast to the shape of `x`.

    >>> sum_to(np.ones((2, 3)), (1, 3)).shape, sum_to(np.ones((2, 3)), ()).item()
    ((1, 3), 6.0)
    """
    lead = x.ndim - len(shape)
    if lead > 0 and shape and x.shape[lead:] == shape:  # a bias; BLAS adds rows faster than NumPy's sum
        rows = x.reshape(math.prod(x.shape[:lead]), math.prod(shape))
        return (np.ones(len(rows), x.dtype) @ rows).reshape(shape)
    stretched = tuple(i for i, n in enumerate(x.shape) if i < lead or (shape[i - lead] == 1 and n != 1))
    if lead < 0 or any(n not in (1, m) for n, m in zip(shape, x.shape[lead:])):
        raise ValueError(f"a gradient of shape {x.shape} does not fit an input of shape {shape}; the rule is wrong")
    return reductions.sum.kernel(x, stretched, True).reshape(shape) if stretched else x.reshape(shape)


def fit(name: str, g: Any, signature: Signature) -> Any:
    """Gradient `g` in the shape and dtype of its input; raises `GradientError`, naming the op, if it does not fit."""
    shape, dtype = signature
    g = g.to(dtype)
    try:
        return g if g.data.shape == shape else sum_to(g, shape=shape)
    except TinyTorchError as error:
        raise GradientError(f"backward: the gradient rule of {name} is wrong ({error})") from None
