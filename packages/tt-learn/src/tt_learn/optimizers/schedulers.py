"""Part of module 06: how the learning rate changes during training.

A schedule is a formula of the number of steps done, `lr_at(t, base)`. It depends only on `t` and on the rate that the
optimizer started with, so a run resumes by restoring `t`. Names, arguments and values are PyTorch's (`CosineWarmupLR`
is nanoGPT's). Call `step()` after each `optimizer.step()`, or once per epoch. Further schedules are in `decays.py` and
`tt_learn/optim/schedules.py`.
"""

from __future__ import annotations

import math

from tt_core.engine.arguments import checked
from tt_learn.optimizers.base import Optimizer
from tt_learn.optimizers.saving import OptimizerError
from tt_learn.optimizers.scheduling import Scheduler as Scheduler
from tt_learn.optimizers.scheduling import checked_count, checked_number, checked_share


def linear(start: float, end: float, done: float) -> float:
    """Follows a line from `start` (done = 0) to `end` (done = 1).

    >>> linear(1.0, 0.0, 0.25)
    0.75
    """
    return start + (end - start) * done


def cosine(start: float, end: float, done: float) -> float:
    """Follows half a cosine from `start` (done = 0) to `end` (done = 1).

    >>> [round(cosine(1.0, 0.0, done), 3) for done in (0, 0.25, 0.5, 1)]
    [1.0, 0.854, 0.5, 0.0]
    """
    # (1 + cos) / 2 falls from 1 to 0, and is flat at both ends
    return end + (start - end) * (1 + math.cos(math.pi * done)) / 2


class StepLR(Scheduler):
    """Multiplies the rate by `gamma` every `step_size` steps: base gamma^floor(t / step_size).

    Raises `OptimizerError` for a `step_size` below 1.

    >>> from tt_learn import SGD, Tensor
    >>> schedule = StepLR(SGD([Tensor([1.0], requires_grad=True)], lr=1.0), step_size=2)
    >>> [schedule.lr_at(t, 1.0) for t in range(4)]
    [1.0, 1.0, 0.1, 0.1]
    """

    @checked
    def __init__(self, optimizer: Optimizer, step_size: int, gamma: float = 0.1) -> None:
        self.step_size = checked_count("StepLR: step_size", step_size)
        self.gamma = checked_number("StepLR: gamma", gamma)
        super().__init__(optimizer)

    @checked
    def lr_at(self, t: int, base: float) -> float:
        """`base` times `gamma` for each `step_size` steps that are complete after `t` steps."""
        # from the base and not from the last rate, so that resuming at t needs nothing else
        return float(base * self.gamma ** (t // self.step_size))


class LinearLR(Scheduler):
    """Multiplies the base by a factor that goes linearly from `start_factor` to `end_factor` in `total_iters` steps.

    Raises `OptimizerError` for factors outside [0, 1] and a `start_factor` of 0.

    >>> from tt_learn import SGD, Tensor
    >>> schedule = LinearLR(SGD([Tensor([1.0], requires_grad=True)], lr=1.0), start_factor=0.5, total_iters=2)
    >>> [schedule.lr_at(t, 1.0) for t in range(4)]
    [0.5, 0.75, 1.0, 1.0]
    """

    @checked
    def __init__(
        self, optimizer: Optimizer, start_factor: float = 1 / 3, end_factor: float = 1.0, total_iters: int = 5
    ) -> None:
        self.start_factor = checked_share("LinearLR: start_factor", start_factor)
        if not start_factor:
            raise OptimizerError("LinearLR: start_factor is 0, expected a number above 0")
        self.end_factor = checked_share("LinearLR: end_factor", end_factor)
        self.total_iters = checked_number("LinearLR: total_iters", total_iters)
        super().__init__(optimizer)

    @checked
    def lr_at(self, t: int, base: float) -> float:
        done = min(t / self.total_iters, 1.0) if self.total_iters else 1.0  # the line ends, and the rate stays
        return base * linear(self.start_factor, self.end_factor, done)


class CosineAnnealingLR(Scheduler):
    """Follows a cosine from the base down to `eta_min` in `T_max` steps and up again (Loshchilov and Hutter 2017).

    Raises `OptimizerError` for a `T_max` below 1.

    >>> from tt_learn import SGD, Tensor
    >>> schedule = CosineAnnealingLR(SGD([Tensor([1.0], requires_grad=True)], lr=1.0), T_max=2)
    >>> [round(schedule.lr_at(t, 1.0), 3) for t in range(4)]
    [1.0, 0.5, 0.0, 0.5]
    """

    @checked
    def __init__(self, optimizer: Optimizer, T_max: int, eta_min: float = 0.0) -> None:
        self.T_max, self.eta_min = checked_count("CosineAnnealingLR: T_max", T_max), eta_min
        super().__init__(optimizer)

    @checked
    def lr_at(self, t: int, base: float) -> float:
        return cosine(base, self.eta_min, t / self.T_max)  # beyond T_max the cosine rises again


class CosineWarmupLR(Scheduler):
    """Rises linearly for `warmup_steps`, then follows half a cosine down to `min_lr` at `total_steps` and stays there.

    The schedule of GPT training, as nanoGPT computes it. Step t of the warm-up has base (t + 1) / (warmup_steps + 1),
    so that the first step does not have a rate of 0. Raises `OptimizerError` unless `warmup_steps` is less than
    `total_steps`.

    >>> from tt_learn import SGD, Tensor
    >>> schedule = CosineWarmupLR(SGD([Tensor([1.0], requires_grad=True)], lr=1.0), 3, 9, min_lr=0.1)
    >>> [round(schedule.lr_at(t, 1.0), 3) for t in (0, 1, 2, 3, 6, 9, 12)]
    [0.25, 0.5, 0.75, 1.0, 0.55, 0.1, 0.1]
    """

    @checked
    def __init__(self, optimizer: Optimizer, warmup_steps: int, total_steps: int, min_lr: float = 0.0) -> None:
        if not 0 <= warmup_steps < total_steps:
            raise OptimizerError(
                f"CosineWarmupLR: warmup_steps is {warmup_steps}, expected 0 or more and fewer than the "
                f"{total_steps} total_steps"
            )
        self.warmup_steps, self.total_steps, self.min_lr = warmup_steps, total_steps, min_lr
        super().__init__(optimizer)

    @checked
    def lr_at(self, t: int, base: float) -> float:
        """A line up to `base` in the warm-up, then half a cosine down to `min_lr`."""
        # Adam's running means are first computed from few gradients, and a full step could go in any direction
        if t < self.warmup_steps:
            return base * (t + 1) / (self.warmup_steps + 1)
        done = (t - self.warmup_steps) / (self.total_steps - self.warmup_steps)
        return cosine(base, self.min_lr, min(done, 1.0))
