"""Undoing broadcasting: the gradient of a repeated element is the sum of the gradients of its copies."""

from __future__ import annotations

from typing import Any

from tt_core.engine.dispatch import Array, op
from tt_core.engine.errors import TinyTorchError
from tt_learn.autograd.errors import GradientError
from tt_learn.autograd.graph import Signature


@op(view=True)
def sum_to(x: Array, /, shape: tuple[int, ...]) -> Array:
    """Sums `x` down to `shape`, over the dimensions along which broadcasting from `shape` repeated elements.

    Raises `ShapeError` if `shape` does not broadcast to the shape of `x`.

    >>> import numpy as np
    >>> sum_to(np.ones((2, 3)), (1, 3)).shape, sum_to(np.ones((2, 3)), ()).item()
    ((1, 3), 6.0)
    """
    # (2, 3) -> (1, 3) -> (3,): summed with the dimensions kept, then the new ones in front are dropped
    repeated = repeated_dims(x.shape, shape)
    return x.sum(repeated, x.dtype, keepdims=True).reshape(shape) if repeated else x.reshape(shape)


def repeated_dims(full: tuple[int, ...], shape: tuple[int, ...]) -> tuple[int, ...]:
    """The dimensions of `full` along which broadcasting from `shape` repeats elements: new ones, and those of size 1.

    >>> repeated_dims((5, 2, 3), (1, 3))
    (0, 1)
    """
    lead = len(full) - len(shape)  # broadcasting aligns shapes at their ends: new dimensions are in front
    if lead < 0 or any(n not in (1, m) for n, m in zip(shape, full[lead:])):
        raise ValueError(f"a gradient of shape {full} does not fit an input of shape {shape}; the rule is wrong")
    return tuple(i for i, n in enumerate(full) if i < lead or (shape[i - lead] == 1 and n != 1))


def fit(name: str, g: Any, signature: Signature) -> Any:
    """Gradient `g` in the shape and dtype of its input; raises `GradientError`, naming the op, if it does not fit."""
    shape, dtype = signature  # of the input that the gradient is for
    g = g.to(dtype)
    try:
        return g if g.data.shape == shape else sum_to(g, shape=shape)
    except TinyTorchError as error:
        raise GradientError(f"backward: the gradient rule of {name} is wrong ({error})") from None
