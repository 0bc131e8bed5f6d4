"""The derivatives of addition, products, quotients, exponentials and logarithms, to read before those in `rules/`.

A rule receives the output and the inputs of the op and returns a function for each input. Each function turns the
gradient `g` of the output into that of the input: by the chain rule, `g` times the derivative. It does not need to undo
broadcasting, because `backward.py` does. The rules compute with tensors, so they can be differentiated again.
"""

from __future__ import annotations

from typing import Any

from tt_core.tensor import elementwise as E
from tt_learn.autograd.rules import gradient
from tt_learn.autograd.tensor import Tensor


@gradient(E.add)
def add_rule(out: Tensor, a: Tensor, b: Tensor) -> Any:
    """a + b: both derivatives are 1."""
    # without a product, both inputs get the same array; `backward.py` copies it before it is changed
    return lambda g: g, lambda g: g


@gradient(E.mul)
def mul_rule(out: Tensor, a: Tensor, b: Tensor) -> Any:
    """a b: the derivative by a is b, and that by b is a."""
    return lambda g: g * b, lambda g: g * a


@gradient(E.div)
def div_rule(out: Tensor, a: Tensor, b: Tensor) -> Any:
    """a / b: the derivative by a is 1 / b, and that by b is -a / b^2."""
    # a / b is the output, so a need not stay in memory
    return lambda g: g / b, lambda g: -g * out / b


@gradient(E.exp)
def exp_rule(out: Tensor, x: Tensor) -> Any:
    """e^x: the derivative is e^x, which is the output."""
    # names `out` and not x: what an inner function names is what the graph keeps in memory
    return (lambda g: g * out,)


@gradient(E.log)
def log_rule(out: Tensor, x: Tensor) -> Any:
    """ln x: the derivative is 1 / x."""
    return (lambda g: g / x,)
