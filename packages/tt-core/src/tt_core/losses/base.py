"""Module 04, losses: what all losses share. `reduction` is "none" (a loss for each example), "mean" or "sum"."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar, cast

import numpy as np

from tt_core.engine.arguments import checked
from tt_core.engine.errors import ArgumentError, DTypeError, ShapeError, is_number, shown
from tt_core.layers import Layer
from tt_core.tensor import reductions as R
from tt_core.tensor import shapes as S
from tt_core.tensor.elementwise import HALF
from tt_core.tensor.tensor import Tensor

if TYPE_CHECKING:
    from tt_core.engine.hints import TensorLike

F = TypeVar("F", bound=Callable[..., Any])
_REDUCTIONS = ("none", "mean", "sum")


def check_reduction(reduction: object, *more: str, name: str = "") -> None:
    """Raises `ArgumentError` unless `reduction` is "none", "mean", "sum" or one of `more`; `name` is the loss."""
    if not isinstance(reduction, str) or (reduction not in _REDUCTIONS and reduction not in more):
        known, where = (*_REDUCTIONS, *more), f"{name}: " if name else ""
        raise ArgumentError(f"{where}reduction is one of {', '.join(known)}, got {shown(reduction)}")


def check_number(name: str, argument: str, value: object, fine: Callable[[float], bool], expected: str) -> None:
    """Raises `ArgumentError` unless `value` is a number for which `fine` is true."""
    if not is_number(value) or not fine(value):
        raise ArgumentError(f"{name}: {argument} {expected}, got {shown(value)}")


def reduced(loss: Tensor, reduction: str) -> Tensor:
    """The loss itself, its mean or its sum."""
    return loss if reduction == "none" else R.mean(loss) if reduction == "mean" else R.sum(loss)


def pair(name: str, reduction: str, x: TensorLike, target: TensorLike) -> tuple[Tensor, Tensor]:
    """Prediction and target as tensors of one shape; integers get the dtype of the other one.

    Raises `ShapeError` for two shapes, `DTypeError` if neither holds floats.
    """
    check_reduction(reduction, name=name)
    x, target = as_tensor(x), as_tensor(target)
    if x.shape != target.shape:
        raise ShapeError(f"{name}: input {x.shape} and target {target.shape} differ; reshape or expand one of them")
    x, target = like(x, target), like(target, x)
    if x.dtype.kind != "f":  # unsigned integers would wrap around, 0 - 1 to 255
        raise DTypeError(f"{name}: needs a floating dtype, got {x.dtype}; call .float() first")
    return x, target


def as_tensor(x: TensorLike) -> Tensor:
    """`x` itself if it is a tensor, else a tensor of it."""
    return x if isinstance(x, Tensor) else Tensor(x)


def like(x: Tensor, other: Tensor) -> Tensor:
    """Integers and booleans in the dtype of `other`, because NumPy would promote them to float64; floats unchanged."""
    return x if x.dtype.kind == "f" else S.cast(x, dtype=other.dtype)


def element_weight(name: str, weight: TensorLike, x: Tensor) -> Tensor:
    """A weight for each element; raises `ShapeError` if it does not broadcast to the shape of `x`."""
    weight = like(as_tensor(weight), x)
    check_broadcasts(weight.shape, x.shape, f"{name}: ")
    return weight


def check_broadcasts(weight: tuple[int, ...], shape: tuple[int, ...], where: str = "") -> None:
    """Raises `ShapeError` unless a weight of shape `weight` broadcasts to `shape` without enlarging it."""
    try:
        fits = np.broadcast_shapes(weight, shape) == tuple(shape)
    except ValueError:
        fits = False
    if not fits:
        raise ShapeError(f"{where}a weight of shape {weight} does not broadcast to the input {tuple(shape)}")


def half_through_float32(loss: F) -> F:
    """Decorates a composition of ops: float16 inputs are converted to float32, and only the result is rounded.

    float16 overflows above 65504: at the square of a difference of 256, or at the sum of a few thousand terms.
    """

    @functools.wraps(loss)
    def compute(*inputs: Any, **options: Any) -> Any:
        given = [x.dtype for x in (*inputs, *options.values()) if hasattr(x, "dtype")]
        if HALF not in given or any(dtype.kind == "f" and dtype != HALF for dtype in given):
            return loss(*inputs, **options)
        wide = {name: _as_float32(x) for name, x in options.items()}
        return S.cast(loss(*map(_as_float32, inputs), **wide), dtype=HALF)

    return cast(F, compute)


def _as_float32(x: TensorLike) -> Any:
    return S.cast(x, dtype=np.float32) if getattr(x, "dtype", None) == HALF else x


class Loss(Layer):
    """Base of the losses: it holds `reduction`, and raises `ArgumentError` for an unknown one."""

    @checked
    def __init__(self, reduction: str = "mean") -> None:
        super().__init__()
        check_reduction(reduction, name=type(self).__name__)
        self.reduction = reduction

    def extra_repr(self) -> str:
        return f"reduction={self.reduction!r}"


class WeightedLoss(Loss):
    """Base of the losses with a weight, which the state dict holds."""

    weight: Tensor | None

    @checked
    def __init__(self, weight: TensorLike | None = None, reduction: str = "mean") -> None:
        super().__init__(reduction)
        self.register_buffer("weight", None if weight is None else as_tensor(weight))
