"""Module 03, layers: the linear map."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from tt_core import init
from tt_core.engine.arguments import checked
from tt_core.engine.dispatch import Array, op
from tt_core.layers.base import Layer
from tt_core.tensor.creation import empty
from tt_core.tensor.elementwise import half_in_float32
from tt_core.tensor.shapes import new_size
from tt_core.tensor.tensor import Tensor

if TYPE_CHECKING:
    from tt_core.engine.hints import DeviceLike, DTypeLike


def _check_linear(x: Array, weight: Array, bias: Array | None = None, /) -> None:
    """Raises `ValueError` for an input or a weight of the wrong shape."""
    if weight.ndim not in (1, 2):
        raise ValueError(f"weight must be a matrix or a vector, got shape {weight.shape}")
    if not x.ndim or x.shape[-1] != weight.shape[-1]:
        raise ValueError(f"input has {x.shape[-1] if x.ndim else 0} features, weight expects {weight.shape[-1]}")


@op(check=_check_linear)
@half_in_float32
def linear(x: Array, weight: Array, bias: Array | None = None, /) -> Array:
    """`x @ weight.T + bias`; x (..., in), weight (out, in), bias (out,) gives (..., out).

    A weight (in,) with a bias () gives (...). Raises `ShapeError` for other shapes.

    >>> from tt_core import tensor
    >>> linear(tensor([1, 2]), tensor([[10, 1], [0, 1]]), tensor([100, 0]))
    tensor([112,   2])
    """
    # (..., in) @ (in, out) -> (..., out); a row of weight for each output keeps the numbers of one output together
    return x @ weight.T if bias is None else x @ weight.T + bias


class Linear(Layer):
    """Affine map `y = x W^T + b`.

    Takes (..., in_features), returns (..., out_features). `weight` (out_features, in_features) and `bias`
    (out_features,) start uniform in +-1/sqrt(in_features), as in PyTorch, and are float32 unless `dtype` is given.
    Raises `ShapeError` for an input with another number of features, `DTypeError` for a `dtype` that is not of floats,
    `DeviceError` for a `device` other than the CPU.

    >>> from tt_core import ones
    >>> Linear(3, 2)(ones(5, 3)).shape
    (5, 2)
    """

    weight: Tensor
    bias: Tensor | None

    @checked
    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        device: DeviceLike | None = None,
        dtype: DTypeLike | None = None,
    ) -> None:
        super().__init__()
        self.in_features, self.out_features = new_size("Linear", (in_features, out_features))
        self.weight = empty(out_features, in_features).as_parameter()
        self.bias = empty(out_features).as_parameter() if bias else None
        self.reset_parameters()  # drawn in float32 and then converted, so that a seed gives one model in each dtype
        self._made_in(device, dtype)

    def reset_parameters(self) -> None:
        """Draws the initial values again."""
        # a = sqrt(5) makes the bound 1/sqrt(in): the sum of `in` products then has the size of one input, not of many
        init.kaiming_uniform_(self.weight, a=math.sqrt(5))
        if self.bias is not None:
            bound = 1 / math.sqrt(self.in_features) if self.in_features else 0
            init.uniform_(self.bias, -bound, bound)

    def forward(self, x: Tensor) -> Tensor:
        """`linear` with the layer's own weight and bias."""
        return linear(x, self.weight, self.bias)

    def extra_repr(self) -> str:
        return f"{self.in_features}, {self.out_features}" + ("" if self.bias is not None else ", bias=False")
