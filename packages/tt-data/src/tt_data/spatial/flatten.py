"""Module 09, spatial: the step from images to rows, between the convolutions and the linear layers of a network."""

from __future__ import annotations

from tt_core import Tensor
from tt_core.engine.arguments import checked
from tt_core.engine.errors import DTypeError, shown
from tt_core.layers import Layer


class Flatten(Layer):
    """Joins the dimensions from `start_dim` to `end_dim` into one: (N, C, H, W) to (N, C * H * W).

    Raises `DTypeError` for an input that is not a tensor.

    >>> from tt_core import ones
    >>> Flatten()(ones(2, 3, 4, 5)).shape
    (2, 60)
    """

    @checked
    def __init__(self, start_dim: int = 1, end_dim: int = -1) -> None:
        super().__init__()
        self.start_dim, self.end_dim = start_dim, end_dim

    def forward(self, x: Tensor) -> Tensor:
        if not isinstance(x, Tensor):
            raise DTypeError(f"Flatten: input 0 is a tensor, got {shown(x)}")
        return x.flatten(self.start_dim, self.end_dim)

    def extra_repr(self) -> str:
        usual = (self.start_dim, self.end_dim) == (1, -1)
        return "" if usual else f"start_dim={self.start_dim}, end_dim={self.end_dim}"
