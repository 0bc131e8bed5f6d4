"""Module 05, autograd: gradients compared with finite differences, to test that a rule is right.

The outputs are weighted with random numbers before they are added up: a plain sum would hide every rule that is wrong
by something that adds up to zero. What this does not do: it cannot check where a function has a kink or jumps, and it
says nothing about float32, whose rounding errors are larger than the differences.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast

import numpy as np

import tt_core
from tt_core.engine.arguments import checked
from tt_core.engine.dispatch import Array, wrap
from tt_core.engine.errors import ArgumentError
from tt_learn.autograd import GradientError, Tensor, grad


class GradcheckError(GradientError):
    """A gradient that finite differences do not confirm."""


@checked
def gradcheck(
    function: Callable[..., Any],
    inputs: Tensor | Sequence[Any],
    eps: float = 1e-6,
    atol: float = 1e-5,
    rtol: float = 1e-3,
) -> bool:
    """Whether the gradients of `function(*inputs)` agree with central differences; True, or an error.

    With random weights w, each entry x_i of each float64 input that requires a gradient is compared:

        d(sum w f)/dx_i = (w f(x + eps e_i) - w f(x - eps e_i)) / (2 eps)    within atol + rtol * |it|

    `function` returns a tensor or a tuple of them; it may be random (each call sees the same numbers). Raises
    `GradcheckError` naming the worst input and entry, `GradientError` for inputs that cannot be checked.

    >>> x = Tensor(np.array([0.5, 2.0]), requires_grad=True)
    >>> gradcheck(lambda x: x * x.exp(), x)
    True
    """
    if not eps > 0:
        raise ArgumentError(f"gradcheck: eps must be positive, got {eps}")
    given = _as_list(inputs)
    checked = _checked_inputs(given)
    state = tt_core.get_rng_state()
    outputs = _as_list(function(*given))
    weights = [np.random.default_rng(i).standard_normal(y.shape) for i, y in enumerate(outputs)]
    found = _analytic(outputs, weights, [x for _, x in checked])

    def weighted() -> float:
        tt_core.set_rng_state(state)
        results = _as_list(function(*given))  # recorded, for a function that calls grad() itself
        return float(sum(np.sum(w * y.data) for w, y in zip(weights, results) if y.dtype.kind == "f"))

    for (position, x), gradient in zip(checked, found):
        expected = _differences(weighted, x.data, eps)
        _compare(position, gradient, expected, atol, rtol)
    return True


@checked
def gradgradcheck(
    function: Callable[..., Any],
    inputs: Tensor | Sequence[Any],
    eps: float = 1e-6,
    atol: float = 1e-5,
    rtol: float = 1e-3,
) -> bool:
    """Whether the second derivatives are right: `gradcheck` of the gradient, by the inputs and by its weights.

    Errors number the inputs of `function` first, then one weight for each of its outputs. Raises
    as `gradcheck` does.

    >>> x = Tensor(np.array([0.5, 2.0]), requires_grad=True)
    >>> gradgradcheck(lambda x: x * x.exp(), x)
    True
    """
    given = _as_list(inputs)
    wanted = [x for _, x in _checked_inputs(given)]
    state = tt_core.get_rng_state()

    def outputs_with_history() -> list[Tensor]:
        tt_core.set_rng_state(state)
        return [y for y in _as_list(function(*given)) if _has_gradient(y)]

    rng = np.random.default_rng(len(given))
    weights = [_leaf(rng.standard_normal(y.shape)) for y in outputs_with_history()]
    if not weights:
        raise GradientError("gradgradcheck: no output depends on an input that requires a gradient")

    def gradients(*_: Any) -> list[Tensor]:
        found = grad(outputs_with_history(), wanted, weights, create_graph=True, allow_unused=True)
        return [g for g in found if g is not None]

    return gradcheck(gradients, [*given, *weights], eps, atol, rtol)


def _as_list(x: Any) -> list[Any]:
    return list(x) if isinstance(x, (tuple, list)) else [x]


def _has_gradient(x: Any) -> bool:
    return isinstance(x, Tensor) and x.requires_grad


def _leaf(array: Array) -> Tensor:
    return cast(Tensor, wrap(array)).requires_grad_()


def _checked_inputs(inputs: Sequence[Any]) -> list[tuple[int, Tensor]]:
    """The inputs that require a gradient, each once, with their positions."""
    found: dict[int, tuple[int, Tensor]] = {}
    for position, x in enumerate(inputs):
        if _has_gradient(x):
            _check_input(position, x)
            found.setdefault(id(x), (position, x))
    if not found:
        raise GradientError("gradcheck: no input requires a gradient; make them with requires_grad=True")
    return list(found.values())


def _check_input(position: int, x: Tensor) -> None:
    if x.dtype != np.float64:
        raise GradientError(f"gradcheck: input {position} is {x.dtype}; only float64 is exact enough, use double()")
    overlaps = x.numel() > 0 and any(step == 0 and n > 1 for step, n in zip(x.strides, x.shape))
    if overlaps or not x.data.flags.writeable:
        raise GradientError(f"gradcheck: entries of input {position} share memory (an expanded view?); clone() it")


def _analytic(outputs: Sequence[Any], weights: Sequence[Array], inputs: Sequence[Tensor]) -> list[Array]:
    """The gradients by backward. An output without history counts as constant; if it is not, differences show it."""
    roots = [(y, cast(Tensor, wrap(w))) for y, w in zip(outputs, weights) if _has_gradient(y)]
    if not roots:
        raise GradientError("gradcheck: no output depends on an input that requires a gradient")
    found = grad([y for y, _ in roots], inputs, [w for _, w in roots], allow_unused=True)
    return [np.zeros(x.shape) if g is None else g.data.copy() for x, g in zip(inputs, found)]


def _differences(value: Callable[[], float], x: Array, eps: float) -> Array:
    """Central differences of `value()` for each entry of `x`, which is changed in place and restored."""
    result = np.empty(x.shape)
    for at in np.ndindex(x.shape):
        result[at] = (_moved(value, x, at, eps) - _moved(value, x, at, -eps)) / (2 * eps)
    return result


def _moved(value: Callable[[], float], x: Array, at: tuple[int, ...], by: float) -> float:
    before = x[at]
    x[at] = before + by
    try:
        return value()
    finally:
        x[at] = before


def _compare(position: int, found: Array, expected: Array, atol: float, rtol: float) -> None:
    if found.shape != expected.shape:
        raise GradcheckError(f"gradcheck: input {position} is {expected.shape}, its gradient {found.shape}")
    excess = np.abs(found - expected) - (atol + rtol * np.abs(expected))
    wrong = ~(excess <= 0)  # nan is wrong too
    if not wrong.any():
        return
    at = np.unravel_index(np.argmax(np.where(np.isnan(excess), np.inf, excess)), excess.shape)
    entry = ", ".join(map(str, at))
    raise GradcheckError(
        f"gradcheck: input {position} at [{entry}]: the gradient is {found[at]:.10g}, finite differences give "
        f"{expected[at]:.10g} ({np.count_nonzero(wrong)} of {wrong.size} entries differ)"
    )
