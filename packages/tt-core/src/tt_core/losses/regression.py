"""Module 04, losses: distances between numbers."""

from __future__ import annotations

from tt_core.losses.base import check_number, half_through_float32, pair, reduced
from tt_core.tensor import elementwise as E
from tt_core.tensor.tensor import Tensor

# --- the formulas, element by element


def squared_error(x: Tensor, t: Tensor) -> Tensor:
    """`(x - t)^2`.

    >>> from tt_core import tensor
    >>> squared_error(tensor([1.0, 2.0]), tensor([0.0, 4.0]))
    tensor([1., 4.])
    """
    difference = E.sub(x, t)
    return E.mul(difference, difference)


def smoothed_error(x: Tensor, t: Tensor, beta: float) -> Tensor:
    """With d = |x - t|, `d^2 / (2 beta)` where d < beta, else `d - beta / 2`; `beta` is positive.

    >>> from tt_core import tensor
    >>> smoothed_error(tensor([1.0, 3.0]), tensor([0.5, 0.0]), 1.0)
    tensor([0.125, 2.5  ])
    """
    distance = E.abs(E.sub(x, t))  # in the shape of x, as all of these are
    near = E.minimum(distance, beta)  # near (d - near/2) / beta covers both cases
    return E.mul(near, E.sub(distance, E.mul(near, 0.5))) / beta


# --- the losses


@half_through_float32
def mse_loss(input: Tensor, target: Tensor, reduction: str = "mean") -> Tensor:
    """Squared error `(x - t)^2`; both have one shape (PyTorch broadcasts with a warning, here it is an error).

    Raises `ShapeError` for different shapes, `ArgumentError` for an unknown `reduction`, `DTypeError` for two tensors
    of integers.

    >>> from tt_core import tensor
    >>> mse_loss(tensor([1.0, 2.0]), tensor([0.0, 4.0]))
    tensor(2.5)
    """
    # shapes must be equal: (N, 1) with (N,) would broadcast to (N, N), and train on pairs that do not belong together
    x, target = pair("mse_loss", reduction, input, target)
    return reduced(squared_error(x, target), reduction)


@half_through_float32
def l1_loss(input: Tensor, target: Tensor, reduction: str = "mean") -> Tensor:
    """Absolute error `|x - t|`; raises as `mse_loss` does.

    >>> from tt_core import tensor
    >>> l1_loss(tensor([1.0, 2.0]), tensor([0.0, 4.0]))
    tensor(1.5)
    """
    x, target = pair("l1_loss", reduction, input, target)
    return reduced(E.abs(E.sub(x, target)), reduction)


@half_through_float32
def smooth_l1_loss(input: Tensor, target: Tensor, reduction: str = "mean", beta: float = 1.0) -> Tensor:
    """Squared error near 0 and absolute error beyond `beta` (Girshick 2015): with d = |x - t|,
    `d^2 / (2 beta)` where d < beta, else `d - beta / 2`.

    Raises as `mse_loss` does, and `ArgumentError` for a negative `beta`.

    >>> from tt_core import tensor
    >>> smooth_l1_loss(tensor([1.0, 3.0]), tensor([0.5, 0.0]), reduction="none")
    tensor([0.125, 2.5  ])
    """
    check_number("smooth_l1_loss", "beta", beta, lambda b: b >= 0, "must not be negative")
    x, target = pair("smooth_l1_loss", reduction, input, target)
    if beta == 0:  # the limit, whose formula would divide by 0
        return reduced(E.abs(E.sub(x, target)), reduction)
    return reduced(smoothed_error(x, target, float(beta)), reduction)
