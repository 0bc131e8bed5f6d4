"""Part of module 13, transformers: RMS normalization, Llama's form of layer normalization. LayerNorm is in Act I."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from tt_core.engine.arguments import checked
from tt_core.engine.dispatch import Array, op
from tt_core.engine.errors import ShapeError, check_floats
from tt_core.layers import Layer
from tt_core.tensor import Tensor
from tt_core.tensor import elementwise as E
from tt_core.tensor.creation import ones
from tt_core.tensor.elementwise import on_floats
from tt_core.tensor.shapes import new_size
from tt_learn.autograd import formula, gradient

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tt_core.engine.hints import DeviceLike, DTypeLike


def _check_rms_norm(x: Array, weight: Array | None = None, /, eps: float | None = None) -> None:
    check_floats(x)
    if not x.ndim:
        raise ValueError("input must have a dimension to normalize over, got none")
    if weight is not None and weight.shape != x.shape[-1:]:
        raise ValueError(f"weight has shape {weight.shape}, the input's last dimension is {x.shape[-1:]}")


@op(check=_check_rms_norm)
@on_floats
def rms_norm(x: Array, weight: Array | None = None, /, eps: float | None = None) -> Array:
    """`x / sqrt(mean(x^2) + eps)` over the last dimension, times `weight` (Zhang and Sennrich 2019, arXiv:1910.07467).

    `eps` is the dtype's own by default, and float32's for float16, as in PyTorch. Raises `DTypeError` for integers,
    `ShapeError` for a weight of another size.

    >>> rms_norm(np.array([[3, 4]], np.float32))
    tensor([[0.8485, 1.1314]])
    """
    y = x / np.sqrt(np.mean(x * x, -1, keepdims=True) + eps_of(x, eps))
    return y if weight is None else y * weight


def eps_of(x: Tensor | Array, eps: float | None) -> float:
    """`eps`, or the smallest relative step of the dtype of `x`, at least that of float32 for float16."""
    # keeps the quotient finite for a vector of zeros
    return float(np.finfo(np.result_type(x.dtype, np.float32)).eps) if eps is None else eps


@op
def rms_norm_backward(
    g: Array, x: Array, rstd: Array | None = None, weight: Array | None = None, /, eps: float | None = None
) -> tuple[Array, Array]:
    """Gradients of `rms_norm` for input and weight; with u = g weight, r = 1 / sqrt(mean(x^2) + eps) and n = x r,

    dx = r (u - n mean(u n))

    `rstd` is r as forward computed it, which the formula does not need. float16 gives float32.
    """
    g, x = (each.astype(np.result_type(each, np.float32), copy=False) for each in (g, x))
    r = 1 / np.sqrt(np.mean(x * x, -1, keepdims=True) + eps_of(x, eps))
    n = x * r
    u = g if weight is None else g * weight
    return r * (u - n * np.mean(u * n, -1, keepdims=True)), (g * n).sum(tuple(range(g.ndim - 1)))


@gradient(rms_norm)
def _(out: Any, x: Any, weight: Any, eps: float | None, rstd: Any = None) -> Any:
    return lambda g: rms_norm_backward(g, x, rstd, weight, eps=eps)


@formula(rms_norm_backward)
def _(g: Any, x: Any, rstd: Any, weight: Any, eps: float | None) -> Any:
    """From `x` alone: r depends on it too."""
    # in ops, so that it can be differentiated again
    r = 1 / E.sqrt((x * x).mean(-1, keepdim=True) + eps_of(x, eps))
    n = x * r
    u = g if weight is None else g * weight
    return r * (u - n * (u * n).mean(-1, keepdim=True)), (g * n).sum(tuple(range(g.ndim - 1)))


class RMSNorm(Layer):
    """Each vector divided by its root mean square, times a learned `weight` that starts at 1.

    `normalized_shape`: an int or the sizes of the last dimensions, which count as one vector; `weight` has that shape.
    Keeps the shape. Raises `ShapeError` for an input that does not end in it.

    >>> from tt_core import tensor
    >>> RMSNorm(2)(tensor([[3.0, 4.0]])).detach()
    tensor([[0.8485, 1.1314]])
    """

    weight: Tensor | None

    @checked
    def __init__(
        self,
        normalized_shape: int | Sequence[int],
        eps: float | None = None,
        elementwise_affine: bool = True,
        device: DeviceLike | None = None,
        dtype: DTypeLike | None = None,
    ) -> None:
        super().__init__()
        self.normalized_shape, self.eps = new_size("RMSNorm", (normalized_shape,)), eps
        self.weight = ones(*self.normalized_shape).as_parameter() if elementwise_affine else None
        self._made_in(device, dtype)

    def forward(self, x: Tensor) -> Tensor:
        dims = len(self.normalized_shape)
        if tuple(x.shape[-dims:]) != self.normalized_shape:
            raise ShapeError(f"RMSNorm: input {x.shape} does not end in {self.normalized_shape}")
        if dims == 1:
            return rms_norm(x, self.weight, eps=self.eps)
        # several dimensions count as one vector: (..., A, B) as (..., A * B)
        weight = None if self.weight is None else self.weight.flatten()
        return rms_norm(x.flatten(-dims), weight, eps=self.eps).reshape(x.shape)

    def extra_repr(self) -> str:
        return ", ".join(map(str, self.normalized_shape))
