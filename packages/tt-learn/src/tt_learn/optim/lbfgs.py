"""L-BFGS: learns the curvature of a loss from the gradients of its last steps.

For small problems whose loss is computed on all data at once. A step evaluates the loss several times, so it needs a
closure. The state is one vector over all parameters, and not divided into blocks.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np

from tt_core.engine import mutation
from tt_core.engine.dispatch import Array
from tt_core.engine.errors import is_integer, is_number
from tt_learn.autograd import Tensor, enable_grad
from tt_learn.optimizers.base import Optimizer
from tt_learn.optimizers.memory import Memory
from tt_learn.optimizers.saving import Group, OptimizerError

_SUFFICIENT, _FLAT = 1e-4, 0.9
"""Constants of the Wolfe conditions: the required share of the predicted decrease, and of flatness at the end."""
_VECTORS = ("d", "prev_flat_grad")
_LISTS = ("old_dirs", "old_stps")


class LBFGS(Optimizer):
    """Steps along minus the inverse Hessian times the gradient, estimated from the last steps (Liu, Nocedal 1989).

    `step(closure)` takes up to `max_iter` such steps with up to `max_eval` calls of `closure` (by default 5/4 as
    many). The closure clears the gradients, computes the loss, calls `backward()` and returns the loss. The steps end
    early if no gradient exceeds `tolerance_grad`, or if parameters or loss change by less than `tolerance_change`.
    `line_search_fn="strong_wolfe"` chooses the length of each step; without it, the length is `lr`. There is one
    parameter group. Memory is that of 2 `history_size` + 2 copies of the parameters. Raises `OptimizerError` for
    invalid options, for more than one group, and for a step without a closure.

    >>> w = Tensor([3.0, -2.0], requires_grad=True)
    >>> optimizer = LBFGS([w], line_search_fn="strong_wolfe")
    >>> def closure():
    ...     optimizer.zero_grad()
    ...     loss = ((w - 1) ** 2).sum()
    ...     loss.backward()
    ...     return loss
    >>> loss = optimizer.step(closure)
    >>> w
    tensor([1., 1.], requires_grad=True)
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1.0,
        max_iter: int = 20,
        max_eval: int | None = None,
        tolerance_grad: float = 1e-7,
        tolerance_change: float = 1e-9,
        history_size: int = 100,
        line_search_fn: str | None = None,
    ) -> None:
        if max_eval is None and is_integer(max_iter, 1):
            max_eval = max_iter * 5 // 4
        limits = {"max_iter": max_iter, "max_eval": max_eval, "history_size": history_size}
        tolerances = {"tolerance_grad": tolerance_grad, "tolerance_change": tolerance_change}
        self._state: dict[str, Any] = {}
        super().__init__(params, {"lr": lr, **limits, **tolerances, "line_search_fn": line_search_fn})

    def add_param_group(self, group: Mapping[str, Any]) -> None:
        if self.param_groups:
            raise OptimizerError(
                "LBFGS: takes one parameter group; it estimates the curvature of all parameters together"
            )
        super().add_param_group(group)

    def check(self, group: Group) -> None:
        super().check(group)
        for name in ("max_iter", "max_eval", "history_size"):
            if not is_integer(group[name], 1):
                raise OptimizerError(f"LBFGS: {name} is {group[name]!r}, expected an integer of 1 or more")
        for name in ("tolerance_grad", "tolerance_change"):
            if not is_number(group[name]):
                raise OptimizerError(f"LBFGS: {name} is {group[name]!r}, expected a number")
        if group["line_search_fn"] not in (None, "strong_wolfe"):
            given = group["line_search_fn"]
            raise OptimizerError(f"LBFGS: line_search_fn is {given!r}, expected 'strong_wolfe' or None")

    # --- learning

    def _step(self, closure: Callable[[], Any] | None) -> Any:
        """Takes steps from the loss that `closure` computes; returns the first result of `closure`."""
        if not callable(closure):
            raise OptimizerError(
                "LBFGS: step() needs a closure that computes loss and gradients; it is called several times"
            )
        group, state = self.param_groups[0], self._state
        state.setdefault("n_iter", 0)
        first = self._evaluate(closure)
        loss, g, evaluations = float(first), self._gradient(), 1
        if not _largest(g) <= group["tolerance_grad"]:
            evaluations = self._iterate(closure, loss, g, group)
        state["func_evals"] = state.get("func_evals", 0) + evaluations
        self._tell_observers()
        return first

    def _iterate(self, closure: Callable[[], Any], loss: float, g: Array, group: Group) -> int:
        """Takes the steps from a point with this loss and gradient; returns the number of evaluations of the loss."""
        state, evaluations, tolerance = self._state, 1, group["tolerance_change"]
        for n in range(1, group["max_iter"] + 1):
            state["n_iter"] += 1
            d, before = self._direction(g, group["history_size"]), loss
            t = group["lr"] * (min(1.0, 1.0 / float(np.abs(g).sum())) if state["n_iter"] == 1 else 1.0)
            state.update(d=d, t=t, prev_flat_grad=g, prev_loss=loss)
            slope = float(g @ d)
            if slope > -tolerance:
                break
            if group["line_search_fn"] is not None:
                start = _Point(0.0, loss, g, slope)
                most = group["max_eval"] - evaluations
                (t, loss, g, _), count = _line_search(self._along(closure, d), start, t, _largest(d), most)
                state["t"] = t
                self._move(t, d)
                evaluations += count
            else:
                self._move(t, d)
                if n < group["max_iter"]:
                    loss, g = float(self._evaluate(closure)), self._gradient()
                    evaluations += 1
            still = t * _largest(d) <= tolerance or abs(loss - before) < tolerance
            if still or evaluations >= group["max_eval"] or _largest(g) <= group["tolerance_grad"]:
                break
        return evaluations

    def _direction(self, g: Array, history_size: int) -> Array:
        """Minus the estimated inverse Hessian times the gradient, by the two-loop recursion."""
        state = self._state
        if state["n_iter"] == 1:
            state.update(old_dirs=[], old_stps=[], ro=[], H_diag=1.0)
            return -g
        changes, steps, weights = state["old_dirs"], state["old_stps"], state["ro"]
        change, step = g - state["prev_flat_grad"], state["d"] * state["t"]
        curvature = float(change @ step)
        if curvature > 1e-10:
            for kept, new in ((changes, change), (steps, step), (weights, 1.0 / curvature)):
                kept.append(new)
                del kept[:-history_size]
            state["H_diag"] = curvature / float(change @ change)
        d, shares = -g, [0.0] * len(steps)
        for i in reversed(range(len(steps))):
            shares[i] = weights[i] * float(steps[i] @ d)
            d -= shares[i] * changes[i]
        d *= state["H_diag"]
        for i in range(len(steps)):
            d += (shares[i] - weights[i] * float(changes[i] @ d)) * steps[i]
        return d

    def _along(self, closure: Callable[[], Any], d: Array) -> Callable[[float], _Point]:
        """A function from a distance along `d` to loss and gradient there; each call puts the parameters back."""
        here = [p.data.copy() for p in self._parameters()]

        def at(t: float) -> _Point:
            self._move(t, d)
            loss, g = float(self._evaluate(closure)), self._gradient()
            for p, values in zip(self._parameters(), here):
                np.copyto(p.data, values)
                mutation.record(p.data)
            return _Point(t, loss, g, float(g @ d))

        return at

    def _evaluate(self, closure: Callable[[], Any]) -> Any:
        with enable_grad():
            return closure()

    def _gradient(self) -> Array:
        """All gradients in one vector; a missing gradient is zero."""
        parts = (np.zeros(p.shape, p.dtype) if p.grad is None else p.grad.data for p in self._parameters())
        return np.concatenate([part.reshape(-1) for part in parts])

    def _move(self, t: float, d: Array) -> None:
        start = 0
        for p in self._parameters():
            piece = d[start : start + p.numel()].reshape(p.shape)
            np.add(p.data, t * piece, out=p.data, casting="same_kind")
            mutation.record(p.data)
            start += p.numel()

    # --- memory and state

    def memory(self) -> Memory:
        """Returns the bytes of parameters, gradients and the vectors of a full history."""
        size = sum(p.nbytes for p in self._parameters())
        state = (2 * self.param_groups[0]["history_size"] + 2) * size
        return Memory(sum(p.numel() for p in self._parameters()), size, size, state, 0)

    def state_dict(self) -> dict[str, Any]:
        """Returns the state as other optimizers do; all of it belongs to the first parameter, as in PyTorch."""
        plain = super().state_dict()
        entry = dict(self._state)
        entry |= {name: Tensor(entry[name]) for name in _VECTORS if name in entry}
        entry |= {name: [Tensor(vector) for vector in entry[name]] for name in _LISTS if name in entry}
        return {**plain, "state": {0: entry} if entry else {}}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Restores `state_dict`; raises `OptimizerError`, with nothing changed, for a state that does not fit."""
        given: Any = state_dict
        state = given.get("state") if isinstance(given, Mapping) else None
        entry: Mapping[str, Any] = next(iter(state.values()), {}) if isinstance(state, Mapping) else {}
        size = sum(p.numel() for p in self._parameters())
        vectors = [entry[name] for name in _VECTORS if name in entry]
        vectors += [vector for name in _LISTS for vector in entry.get(name, ())]
        if (entry and "n_iter" not in entry) or any(np.shape(vector) != (size,) for vector in vectors):
            raise OptimizerError(f"LBFGS: the state is not that of LBFGS over {size} numbers")
        super().load_state_dict({**given, "state": {}} if isinstance(given, Mapping) else given)
        self._state = {name: _loaded(value) for name, value in entry.items() if name != "al"}  # PyTorch's scratch


def _loaded(value: Any) -> Any:
    """A copy of a vector, a list of them, or a number."""
    if isinstance(value, (list, tuple)):
        return [_loaded(part) for part in value]
    array = np.asarray(value)
    return array.copy() if array.ndim else array.item()


def _largest(vector: Array) -> float:
    return float(np.abs(vector).max(initial=0.0))


# --- line search


class _Point(NamedTuple):
    """A distance along the direction, and the loss, gradient and slope there."""

    t: float
    loss: float
    gradient: Array
    slope: float


def _line_search(
    at: Callable[[float], _Point], start: _Point, t: float, largest: float, most: int
) -> tuple[_Point, int]:
    """A point that satisfies the strong Wolfe conditions, and the number of trials (Nocedal, Wright 2006, chapter 3.5).

    First the distance grows until two points enclose a solution, then the interval shrinks. After `most` further
    trials, the best point so far is the result.
    """
    before, here, tried = start, at(t), 0
    while tried < most and not _too_high(start, here) and not (tried > 1 and here.loss >= before.loss):
        if abs(here.slope) <= -_FLAT * start.slope:
            return here, tried + 1
        if here.slope >= 0:
            break
        further = _minimum_of_cubic(before, here, here.t + 0.01 * (here.t - before.t), 10 * here.t)
        before, here, tried = here, at(further), tried + 1
    if tried == most:
        before = start
    low, high = (before, here) if before.loss <= here.loss else (here, before)
    stuck = False
    while tried < most and abs(high.t - low.t) * largest >= 1e-9:
        t, stuck = _inside(low, high, stuck)
        here, tried = at(t), tried + 1
        if _too_high(start, here) or here.loss >= low.loss:
            low, high = (here, low) if here.loss < low.loss else (low, here)
            continue
        if abs(here.slope) <= -_FLAT * start.slope:
            return here, tried + 1
        low, high = here, low if here.slope * (high.t - low.t) >= 0 else high
    return low, tried + 1


def _too_high(start: _Point, here: _Point) -> bool:
    return here.loss > start.loss + _SUFFICIENT * here.t * start.slope


def _inside(low: _Point, high: _Point, stuck: bool) -> tuple[float, bool]:
    """The next distance between two points, and whether it is near an end; after that, the next one keeps away."""
    left, right = sorted((low.t, high.t))
    t, margin = _minimum_of_cubic(low, high, left, right), 0.1 * (right - left)
    if min(right - t, t - left) >= margin:
        return t, False
    if stuck or t >= right or t <= left:
        return (right - margin if right - t < t - left else left + margin), False
    return t, True


def _minimum_of_cubic(a: _Point, b: _Point, least: float, most: float) -> float:
    """The minimum of the cubic through two losses and slopes, clipped to [least, most]."""
    a, b = (a, b) if a.t <= b.t else (b, a)
    mean = a.slope + b.slope - 3 * (a.loss - b.loss) / (a.t - b.t)
    square = mean * mean - a.slope * b.slope
    if not square >= 0:
        return (least + most) / 2
    root = math.sqrt(square)
    divisor = b.slope - a.slope + 2 * root
    if not divisor:
        return (least + most) / 2
    return min(max(b.t - (b.t - a.t) * (b.slope + root - mean) / divisor, least), most)
