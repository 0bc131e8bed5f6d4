"""Part of module 06: schedules that decay by milestones, exponentially, as a power or after a constant start."""

from __future__ import annotations

import bisect
from collections.abc import Sequence

from tt_core.engine.arguments import checked
from tt_learn.optimizers.base import Optimizer
from tt_learn.optimizers.scheduling import Scheduler, checked_count, checked_list, checked_number, checked_share


class MultiStepLR(Scheduler):
    """Multiplies the rate by `gamma` at each of the `milestones`: base gamma^(number of milestones up to t).

    >>> from tt_learn import SGD, Tensor
    >>> schedule = MultiStepLR(SGD([Tensor([1.0], requires_grad=True)], lr=1.0), milestones=[1, 3], gamma=0.5)
    >>> [schedule.lr_at(t, 1.0) for t in range(4)]
    [1.0, 0.5, 0.5, 0.25]
    """

    @checked
    def __init__(self, optimizer: Optimizer, milestones: Sequence[int], gamma: float = 0.1) -> None:
        self.milestones = sorted(checked_list("MultiStepLR: milestones", milestones))
        self.gamma = checked_number("MultiStepLR: gamma", gamma)
        super().__init__(optimizer)

    @checked
    def lr_at(self, t: int, base: float) -> float:
        return float(base * self.gamma ** bisect.bisect_right(self.milestones, t))


class ExponentialLR(Scheduler):
    """Multiplies the rate by `gamma` at each step: base gamma^t.

    >>> from tt_learn import SGD, Tensor
    >>> schedule = ExponentialLR(SGD([Tensor([1.0], requires_grad=True)], lr=1.0), gamma=0.5)
    >>> [schedule.lr_at(t, 1.0) for t in range(3)]
    [1.0, 0.5, 0.25]
    """

    @checked
    def __init__(self, optimizer: Optimizer, gamma: float) -> None:
        self.gamma = checked_number("ExponentialLR: gamma", gamma)
        super().__init__(optimizer)

    @checked
    def lr_at(self, t: int, base: float) -> float:
        return float(base * self.gamma**t)


class PolynomialLR(Scheduler):
    """Decays to 0 in `total_iters` steps and stays there: base (1 - t / total_iters)^power.

    >>> from tt_learn import SGD, Tensor
    >>> schedule = PolynomialLR(SGD([Tensor([1.0], requires_grad=True)], lr=1.0), total_iters=2, power=2.0)
    >>> [schedule.lr_at(t, 1.0) for t in range(4)]
    [1.0, 0.25, 0.0, 0.0]
    """

    @checked
    def __init__(self, optimizer: Optimizer, total_iters: int = 5, power: float = 1.0) -> None:
        self.total_iters = checked_count("PolynomialLR: total_iters", total_iters)
        self.power = checked_number("PolynomialLR: power", power)
        super().__init__(optimizer)

    @checked
    def lr_at(self, t: int, base: float) -> float:
        return float(base * (1 - min(t / self.total_iters, 1.0)) ** self.power)


class ConstantLR(Scheduler):
    """Multiplies the base by `factor` for the first `total_iters` steps.

    Raises `OptimizerError` for a factor outside [0, 1].

    >>> from tt_learn import SGD, Tensor
    >>> schedule = ConstantLR(SGD([Tensor([1.0], requires_grad=True)], lr=1.0), factor=0.5, total_iters=2)
    >>> [schedule.lr_at(t, 1.0) for t in range(4)]
    [0.5, 0.5, 1.0, 1.0]
    """

    @checked
    def __init__(self, optimizer: Optimizer, factor: float = 1 / 3, total_iters: int = 5) -> None:
        self.factor = checked_share("ConstantLR: factor", factor)
        self.total_iters = checked_number("ConstantLR", total_iters)
        super().__init__(optimizer)

    @checked
    def lr_at(self, t: int, base: float) -> float:
        return base * self.factor if t < self.total_iters else base
