"""Derivatives of `tt_core.tensor.elementwise`. `g` is the gradient of the output; broadcasting is undone elsewhere.

Those of add, mul, div, exp and log are in `tt_learn/autograd/first_rules.py`.
"""

from __future__ import annotations

import math
from typing import Any

from tt_core.tensor import elementwise as E
from tt_core.tensor.creation import zeros_like
from tt_learn.autograd import gradient, non_differentiable, wide

non_differentiable(E.eq, E.ne, E.lt, E.le, E.gt, E.ge, E.logical_and, E.logical_or, E.logical_not)
non_differentiable(E.isnan, E.isfinite)

gradient(E.sub, lambda out, a, b: (lambda g: g, lambda g: -g))
gradient(
    E.pow,
    lambda out, a, b: (lambda g: _by_base(g, a, b), lambda g: _by_exponent(g, out, a, b)),
)
gradient(E.remainder, lambda out, a, b: (lambda g: g, lambda g: -g * (a // b)))
gradient(E.maximum, lambda out, a, b: (lambda g: _if_larger(g, a, b), lambda g: _if_larger(g, b, a)))
gradient(E.minimum, lambda out, a, b: (lambda g: _if_larger(g, b, a), lambda g: _if_larger(g, a, b)))

gradient(E.neg, lambda out, x: (lambda g: -g,))
gradient(E.abs, lambda out, x: (lambda g: g * E.sign(x),))
gradient(E.log1p, lambda out, x: (lambda g: g / (x + 1),))
gradient(E.expm1, lambda out, x: (lambda g: g * (out + 1),))
gradient(E.sqrt, lambda out, x: (lambda g: g / (out * 2),))
gradient(E.sin, lambda out, x: (lambda g: g * E.cos(x),))
gradient(E.cos, lambda out, x: (lambda g: -g * E.sin(x),))
gradient(E.erf, lambda out, x: (lambda g: g * E.exp(-wide(x) * x) * (2 / math.sqrt(math.pi)),))

# flat almost everywhere: the gradient is 0, as in PyTorch, and not None
for flat in (E.sign, E.floor, E.ceil, E.round):
    gradient(flat, lambda out, x: (zeros_like,))
gradient(E.floor_divide, lambda out, a, b: (zeros_like, zeros_like))


@gradient(E.where)
def _(out: Any, condition: Any, a: Any, b: Any) -> Any:
    return None, lambda g: E.where(condition, g, 0.0), lambda g: E.where(condition, 0.0, g)


@gradient(E.masked_fill)
def _(out: Any, x: Any, mask: Any, value: Any) -> Any:
    return lambda g: E.masked_fill(g, mask, 0.0), None, lambda g: E.where(mask, g, 0.0)


@gradient(E.clip)
def _(out: Any, x: Any, min: Any, max: Any) -> Any:
    """At a bound, all of the gradient is that of `x`; where `min` is above `max`, the result is `max`."""
    inside = True
    if min is not None:
        inside = x >= min
    if max is not None:
        inside = (x <= max) & inside

    def for_min(g: Any) -> Any:
        below = E.lt(x, min)
        return E.where(below if max is None else below & E.le(min, max), g, 0.0)

    def for_max(g: Any) -> Any:
        above = E.gt(x, max)
        return E.where(above if min is None else above | E.gt(min, max), g, 0.0)

    return lambda g: E.where(inside, g, 0.0), None if min is None else for_min, None if max is None else for_max


def _if_larger(g: Any, a: Any, b: Any) -> Any:
    """`g` where `a` is larger, half of it where they are equal; all of it at nan, which must not go unnoticed."""
    return E.where(E.lt(a, b), 0.0, E.where(E.eq(a, b), g * 0.5, g))


def _by_base(g: Any, a: Any, b: Any) -> Any:
    """Derivative of `a ** b` for a; 0 where b is 0, also for an a whose power -1 is infinite or nan."""
    if isinstance(b, (int, float)):
        return g * (b * wide(a) ** (b - 1)) if b else E.masked_fill(g, True, 0.0)
    flat = E.eq(b, 0) & (E.eq(a, 0) | E.isnan(a))
    return g * (b * E.where(flat, 1.0, wide(a)) ** (b - 1))


def _by_exponent(g: Any, out: Any, a: Any, b: Any) -> Any:
    """Derivative of `a ** b` for b; 0 where a is 0 and b is not negative, as in PyTorch."""
    if isinstance(a, (int, float)) and a:
        return g * (out * (math.log(a) if a > 0 else math.nan))
    flat = E.eq(a, 0) & E.ge(b, 0)
    return g * (out * E.log(E.where(flat, 1.0, a if isinstance(a, (int, float)) else wide(a))))
