"""Two examples of `Function`: an operation whose forward and backward passes one writes by hand."""

from __future__ import annotations

from typing import cast

import tt_core
from tt_learn.autograd.function import Context, Function
from tt_learn.autograd.tensor import Tensor


class Cube(Function):
    """x^3, whose derivative is 3 x^2.

    >>> x = Tensor([2.0], requires_grad=True)
    >>> Cube.apply(x).sum().backward()
    >>> x.grad
    tensor([12.])
    """

    @staticmethod
    def forward(ctx: Context, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)  # and not `ctx.x = x`: saved tensors are checked for changes in place
        return x * x * x

    @staticmethod
    def backward(ctx: Context, g: Tensor) -> Tensor:
        """The gradient of x: 3 x^2 g."""
        (x,) = ctx.saved_tensors
        return g * 3 * x * x


class StraightThroughRound(Function):
    """Rounds x, and passes the gradient on where |x| <= `limit` (Bengio et al. 2013, arXiv:1308.3432).

    The derivative of rounding is 0 almost everywhere, so nothing before it could learn. This estimator acts as if
    rounding were the identity, and stops the gradient of values that have left the range.

    >>> x = Tensor([0.4, 5.0], requires_grad=True)
    >>> StraightThroughRound.apply(x, limit=1.0).sum().backward()
    >>> x.grad
    tensor([1., 0.])
    """

    @staticmethod
    def forward(ctx: Context, x: Tensor, limit: float = 1.0) -> Tensor:
        ctx.save_for_backward(x)
        ctx.limit = limit  # type: ignore[attr-defined]
        return tt_core.round(x)

    @staticmethod
    def backward(ctx: Context, g: Tensor) -> Tensor:
        """`g` where |x| <= limit, 0 elsewhere."""
        (x,) = ctx.saved_tensors
        return cast(Tensor, tt_core.where(tt_core.abs(x) <= ctx.limit, g, 0.0))  # type: ignore[attr-defined]
