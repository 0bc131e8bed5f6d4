"""Module 03, layers: layer normalization."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from tt_core.engine.arguments import checked
from tt_core.engine.dispatch import Array, op
from tt_core.engine.errors import ShapeError, check_floats
from tt_core.layers.base import Layer
from tt_core.tensor.creation import ones, zeros
from tt_core.tensor.elementwise import on_floats
from tt_core.tensor.shapes import new_size
from tt_core.tensor.tensor import Tensor

if TYPE_CHECKING:
    from tt_core.engine.hints import DeviceLike, DTypeLike


def _check_layer_norm(
    x: Array, weight: Array | None = None, bias: Array | None = None, /, dims: int = 1, eps: float = 1e-5
) -> None:
    check_floats(x)
    if not 1 <= dims <= x.ndim:
        raise ValueError(f"dims is between 1 and the {x.ndim} dimensions of the input, got {dims}")
    shape = x.shape[x.ndim - dims :]
    if weight is not None and weight.shape != shape:
        raise ValueError(f"weight has shape {weight.shape}, the last {dims} dimensions of the input are {shape}")
    if bias is not None and bias.shape != shape:
        raise ValueError(f"bias has shape {bias.shape}, the last {dims} dimensions of the input are {shape}")


@op(check=_check_layer_norm)
@on_floats
def layer_norm(
    x: Array, weight: Array | None = None, bias: Array | None = None, /, dims: int = 1, eps: float = 1e-5
) -> Array:
    """`(x - mean) / sqrt(var + eps) * weight + bias` over the last `dims` dimensions (Ba et al. 2016).

    Raises `DTypeError` for integers, `ShapeError` for dimensions that do not exist and for a weight or bias that does
    not have the shape of these dimensions.

    >>> layer_norm(np.array([[1, 3], [10, 30]], np.float32))
    tensor([[-1.,  1.],
            [-1.,  1.]])
    """
    axes = tuple(range(-dims, 0))  # (..., *shape) -> (..., 1, ..., 1): each example has its own mean and variance
    # the biased variance; eps keeps an example of equal numbers from a division by 0
    y = (x - x.mean(axes, keepdims=True)) / np.sqrt(x.var(axes, keepdims=True) + eps)
    y = y if weight is None else y * weight
    return y if bias is None else y + bias


class LayerNorm(Layer):
    """Normalizes each example over its last dimensions (Ba, Kiros, Hinton 2016, arXiv:1607.06450).

    `normalized_shape` is an int or the sizes of these dimensions; `weight` and `bias` have that shape; `device`
    and `dtype` as for `Linear`. Raises `ShapeError` for an input whose last dimensions have another shape.

    >>> from tt_core import tensor
    >>> LayerNorm(4)(tensor([[1.0, 2.0, 3.0, 4.0]])).detach()
    tensor([[-1.3416, -0.4472,  0.4472,  1.3416]])
    """

    weight: Tensor | None
    bias: Tensor | None

    @checked
    def __init__(
        self,
        normalized_shape: int | Sequence[int],
        eps: float = 1e-5,
        elementwise_affine: bool = True,
        bias: bool = True,
        device: DeviceLike | None = None,
        dtype: DTypeLike | None = None,
    ) -> None:
        super().__init__()
        shape = new_size("LayerNorm", (normalized_shape,))
        self.normalized_shape, self.eps = shape, eps
        # 1 and 0 at the start, so that at first the layer only normalizes
        self.weight = ones(*shape).as_parameter() if elementwise_affine else None
        self.bias = zeros(*shape).as_parameter() if elementwise_affine and bias else None
        self._made_in(device, dtype)

    def forward(self, x: Tensor) -> Tensor:
        # checked here, because a weight of None fits any shape
        if tuple(x.shape[-len(self.normalized_shape) :]) != self.normalized_shape:
            raise ShapeError(f"LayerNorm: input {x.shape} does not end in {self.normalized_shape}")
        return layer_norm(x, self.weight, self.bias, dims=len(self.normalized_shape), eps=self.eps)

    def extra_repr(self) -> str:
        return ", ".join(map(str, self.normalized_shape))
