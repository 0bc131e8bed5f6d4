"""Module 09, spatial: dropout of whole channels. Neighbouring pixels are similar, so dropping one has little effect."""

from __future__ import annotations

from typing import Any

import numpy as np

from tt_core import Tensor
from tt_core.engine.arguments import checked
from tt_core.engine.dispatch import Array, op
from tt_core.engine.errors import ArgumentError, check_floats
from tt_core.layers import Layer
from tt_core.random import generator
from tt_learn.autograd import gradient


def _check_dropout2d(x: Array, /, p: float = 0.5, training: bool = True) -> None:
    if not 0 <= p <= 1:
        raise ArgumentError(f"p is a probability, got {p}")
    if np.ndim(x) < 3:
        raise ValueError(f"input has {np.ndim(x)} dimensions, expected (N, C, H, W) or (C, H, W)")
    check_floats(x)


@op(residuals=("scale",), check=_check_dropout2d, random=True, view=True)
def dropout2d(x: Array, /, p: float = 0.5, training: bool = True) -> tuple[Array, Array]:
    """Sets each channel of each image to 0 with probability `p`, else scales it by 1/(1-p) (Tompson et al. 2015).

    x (N, C, H, W, ...), or one image (C, H, W). Returns x itself unless `training`. Residual: the scale (N, C, 1, ...),
    or (C, 1, 1). Raises `ArgumentError` for a `p` outside [0, 1], `DTypeError` for integers.
    """
    if not training:
        return x, np.ones((), x.dtype)
    channels = x.shape[: 1 if x.ndim == 3 else 2]  # (C,) of one image, or (N, C)
    # float32 for every dtype, so that one seed drops the same channels in all of them
    keep = generator().random(channels, dtype=np.float32) >= p
    scale = keep.astype(x.dtype) * x.dtype.type(1 / (1 - p) if p < 1 else 0)
    scale = scale.reshape(*channels, *(1,) * (x.ndim - len(channels)))
    return x * scale, scale


@gradient(dropout2d)
def _(out: Any, x: Any, scale: Any, **_: Any) -> Any:
    return (lambda g: g * scale,)


class Dropout2d(Layer):
    """Zeroes whole channels at random during training, and does nothing in evaluation (Tompson et al. 2015).

    Takes (N, C, H, W) or (C, H, W). Raises `ArgumentError` for a `p` outside [0, 1].

    >>> from tt_core import ones
    >>> Dropout2d(0.5).eval()(ones(1, 2, 1, 1)).tolist()
    [[[[1.0]], [[1.0]]]]
    """

    @checked
    def __init__(self, p: float = 0.5) -> None:
        super().__init__()
        if not 0 <= p <= 1:
            raise ArgumentError(f"Dropout2d: p is a probability, got {p}")
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        return dropout2d(x, p=self.p) if self.training and self.p else x

    def extra_repr(self) -> str:
        return f"p={self.p}"
