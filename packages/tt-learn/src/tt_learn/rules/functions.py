"""Derivatives of `tt_core.torch_names.ops`."""

from __future__ import annotations

import math
from typing import Any

from tt_core.tensor import elementwise as E
from tt_core.tensor.creation import ones_like, zeros_like
from tt_core.tensor.shapes import cat
from tt_core.torch_names import ops as M
from tt_learn.autograd import gradient, non_differentiable

non_differentiable(M.bitwise_and, M.bitwise_or, M.bitwise_xor, M.bitwise_not, M.running_extreme)

gradient(M.tan, lambda out, x: (lambda g: g * (out * out + 1),))
gradient(M.asin, lambda out, x: (lambda g: g / E.sqrt(1 - x * x),))
gradient(M.acos, lambda out, x: (lambda g: -g / E.sqrt(1 - x * x),))
gradient(M.atan, lambda out, x: (lambda g: g / (x * x + 1),))
gradient(M.sinh, lambda out, x: (lambda g: g * M.cosh(x),))
gradient(M.cosh, lambda out, x: (lambda g: g * M.sinh(x),))
gradient(M.asinh, lambda out, x: (lambda g: g / E.sqrt(x * x + 1),))
gradient(M.acosh, lambda out, x: (lambda g: g / E.sqrt(x * x - 1),))
gradient(M.atanh, lambda out, x: (lambda g: g / (1 - x * x),))
gradient(M.log2, lambda out, x: (lambda g: g / (x * math.log(2)),))
gradient(M.log10, lambda out, x: (lambda g: g / (x * math.log(10)),))
gradient(M.exp2, lambda out, x: (lambda g: g * out * math.log(2),))
gradient(M.hypot, lambda out, a, b: (lambda g: g * a / out, lambda g: g * b / out))
gradient(M.fmod, lambda out, a, b: (lambda g: g, lambda g: -g * M.trunc(a / b)))
gradient(M.trunc, lambda out, x: (zeros_like,))
gradient(M.atan2, lambda out, a, b: (lambda g: g * b / (a * a + b * b), lambda g: -g * a / (a * a + b * b)))


@gradient(M.logaddexp)
def _(out: Any, a: Any, b: Any) -> Any:
    return lambda g: g * _share(a, out), lambda g: g * _share(b, out)


def _share(x: Any, out: Any) -> Any:
    """`exp(x - out)`; 0 where both are -inf, whose difference is nan."""
    return E.exp(E.where(E.eq(out, -math.inf), -math.inf, x - E.where(E.eq(out, -math.inf), 0.0, out)))


@gradient(M.cumprod)
def _(out: Any, x: Any, dim: int) -> Any:
    """The product of all others up to each entry, without a division, so that zeros are right too.

    With b[k] the product before k, and r[k] = g[k] + x[k + 1] r[k + 1], the gradient is b[k] r[k].
    """

    def for_x(g: Any) -> Any:
        if not x.ndim or not x.data.size:
            return g
        n = x.shape[dim]
        x_at, g_at = ([t.narrow(dim, i, 1) for i in range(n)] for t in (x, g))
        before, after = [ones_like(x_at[0])], [g_at[-1]]
        for i in range(n - 1):
            before.append(before[-1] * x_at[i])
            after.append(g_at[n - 2 - i] + x_at[n - 1 - i] * after[-1])
        return cat(before, dim) * cat(after[::-1], dim)

    return (for_x,)
