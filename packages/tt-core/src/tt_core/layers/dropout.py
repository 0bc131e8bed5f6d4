"""Module 03, layers: dropout."""

from __future__ import annotations

import numpy as np

from tt_core.engine.arguments import checked
from tt_core.engine.dispatch import Array, op
from tt_core.engine.errors import ArgumentError, check_floats
from tt_core.layers.base import Layer
from tt_core.random import generator
from tt_core.tensor.tensor import Tensor


def _check_probability(p: float, where: str = "") -> None:
    if not 0 <= p <= 1:
        raise ArgumentError(f"{where}p is a probability, got {p}")


def _check_dropout(x: Array, /, p: float = 0.5, training: bool = True) -> None:
    _check_probability(p)
    check_floats(x)


@op(residuals=("scale",), check=_check_dropout, random=True, view=True)
def dropout(x: Array, /, p: float = 0.5, training: bool = True) -> tuple[Array, Array]:
    """Sets each element to 0 with probability `p` and scales the others by 1/(1-p) (Srivastava et al. 2014).

    Residual: the scale, which is 0 or 1/(1-p). Returns x itself unless `training`. Raises `ArgumentError` for a `p`
    outside [0, 1], `DTypeError` for integers.

    >>> from tt_core import ones
    >>> set(dropout(ones(100), p=0.5).tolist()) <= {0.0, 2.0}
    True
    """
    if not training:
        return x, np.ones((), x.dtype)
    # drawn in float32 for every dtype, so that a seed drops the same elements
    keep = np.asarray(generator().random(x.shape, dtype=np.float32)) >= p
    scale = keep.astype(x.dtype)
    if 0 < p < 1:  # the mean stays what it was, so that evaluation needs no scale; p = 1 would divide by 0
        scale *= x.dtype.type(1 / (1 - p))
    return x * scale, scale  # the gradient needs the same elements, which cannot be drawn again


class Dropout(Layer):
    """Sets elements to 0 at random in training, and returns its input in evaluation (Srivastava et al. 2014).

    Raises `ArgumentError` for a `p` outside [0, 1].

    >>> from tt_core import ones
    >>> Dropout(0.5).eval()(ones(3))
    tensor([1., 1., 1.])
    """

    @checked
    def __init__(self, p: float = 0.5, inplace: bool = False) -> None:
        super().__init__()
        _check_probability(p, "Dropout: ")
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        """`dropout` in training, and `x` itself outside of it."""
        return dropout(x, p=self.p) if self.training and self.p else x

    def extra_repr(self) -> str:
        return f"p={self.p}"
