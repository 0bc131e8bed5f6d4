"""Part of module 06: how the learning rate changes while training.

A schedule is a formula of the number of steps done, `lr_at(t, base)`, so it depends on nothing but `t` and the
rates that the optimizer started with, and resumes by restoring `t`. Names, arguments and values are PyTorch's
(`CosineWarmupLR` is nanoGPT's). Call `step()` after each `optimizer.step()`, or once an epoch.
`ReduceLROnPlateau` is the exception: it follows a measured value.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from tt_core.engine.arguments import checked
from tt_core.engine.errors import is_number
from tt_learn.optimizers.optimizers import Optimizer, OptimizerError

Factor = Callable[[int], float]


class Scheduler:
    """Base of the schedules that are formulas: sets every group's `lr` from the steps done, 0 at first.

    A subclass defines `lr_at`. Raises `OptimizerError` where the optimizer got another group meanwhile.

    >>> from tt_learn import SGD, Tensor
    >>> class Halving(Scheduler):
    ...     def lr_at(self, t, base):
    ...         return base / 2**t
    >>> schedule = Halving(SGD([Tensor([1.0], requires_grad=True)], lr=1.0))
    >>> schedule.step()
    >>> schedule.get_last_lr()
    [0.5]
    """

    _state: tuple[str, ...] = ("last_epoch", "base_lrs")

    @checked
    def __init__(self, optimizer: Optimizer) -> None:
        self.optimizer = _checked(type(self).__name__, optimizer)
        self.base_lrs: list[Any] = [group.setdefault("initial_lr", group["lr"]) for group in optimizer.param_groups]
        self.last_epoch = 0
        self._apply()

    @checked
    def lr_at(self, t: int, base: float) -> float:
        """The learning rate after `t` steps of a group that started with `base`."""
        raise NotImplementedError(f"{type(self).__name__} defines no lr_at()")

    def step(self) -> None:
        """Go one step on."""
        self.last_epoch += 1
        self._apply()

    def get_last_lr(self) -> list[float]:
        """The learning rate of each group now."""
        return [group["lr"] for group in self.optimizer.param_groups]

    def _apply(self) -> None:
        groups = _known_groups(self, len(self.base_lrs))
        for i, (group, base) in enumerate(zip(groups, self.base_lrs)):
            group["lr"] = self._lr(i, base)

    def _lr(self, i: int, base: float) -> float:
        return self.lr_at(self.last_epoch, base)

    def state_dict(self) -> dict[str, Any]:
        """Where the schedule stands, in plain JSON; its formula comes from the constructor."""
        return {name: _copied(getattr(self, name)) for name in self._state}

    @checked
    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Stand where `state_dict` was taken, and set the learning rates so.

        Raises `OptimizerError` for another schedule's state, and for one of another number of groups.
        """
        missing = [name for name in self._state if name not in state_dict]
        if missing:
            raise OptimizerError(f"{type(self).__name__}: the state has no {missing[0]}; it is another schedule's")
        if len(state_dict.get("base_lrs", self.optimizer.param_groups)) != len(self.optimizer.param_groups):
            raise OptimizerError(f"{type(self).__name__}: the state is of another number of parameter groups")
        for name in self._state:
            setattr(self, name, _copied(state_dict[name]))
        self._apply()


def _power(name: str, gamma: float, t: int) -> float:
    try:
        return gamma**t
    except OverflowError:
        raise OptimizerError(f"{name}: gamma {gamma} to the power {t} is too large; choose a smaller gamma") from None


def _copied(value: Any) -> Any:
    return list(value) if isinstance(value, (list, tuple)) else value


class StepLR(Scheduler):
    """`gamma` times smaller every `step_size` steps: base gamma^floor(t / step_size).

    Raises `OptimizerError` for a `step_size` below 1.

    >>> from tt_learn import SGD, Tensor
    >>> schedule = StepLR(SGD([Tensor([1.0], requires_grad=True)], lr=1.0), step_size=2)
    >>> [schedule.lr_at(t, 1.0) for t in range(4)]
    [1.0, 1.0, 0.1, 0.1]
    """

    @checked
    def __init__(self, optimizer: Optimizer, step_size: int, gamma: float = 0.1) -> None:
        self.step_size, self.gamma = _positive("StepLR: step_size", step_size), _number("StepLR: gamma", gamma)
        super().__init__(optimizer)

    @checked
    def lr_at(self, t: int, base: float) -> float:
        return float(base * self.gamma ** (t // self.step_size))


class MultiStepLR(Scheduler):
    """`gamma` times smaller at each of the `milestones`: base gamma^(how many of them are at or before t).

    >>> from tt_learn import SGD, Tensor
    >>> schedule = MultiStepLR(SGD([Tensor([1.0], requires_grad=True)], lr=1.0), milestones=[1, 3], gamma=0.5)
    >>> [schedule.lr_at(t, 1.0) for t in range(4)]
    [1.0, 0.5, 0.5, 0.25]
    """

    @checked
    def __init__(self, optimizer: Optimizer, milestones: Sequence[int], gamma: float = 0.1) -> None:
        self.milestones = sorted(_listed("MultiStepLR: milestones", milestones))
        self.gamma = _number("MultiStepLR: gamma", gamma)
        super().__init__(optimizer)

    @checked
    def lr_at(self, t: int, base: float) -> float:
        return float(base * self.gamma ** bisect.bisect_right(self.milestones, t))


class ExponentialLR(Scheduler):
    """`gamma` times smaller at each step: base gamma^t.

    >>> from tt_learn import SGD, Tensor
    >>> schedule = ExponentialLR(SGD([Tensor([1.0], requires_grad=True)], lr=1.0), gamma=0.5)
    >>> [schedule.lr_at(t, 1.0) for t in range(3)]
    [1.0, 0.5, 0.25]
    """

    @checked
    def __init__(self, optimizer: Optimizer, gamma: float) -> None:
        self.gamma = _number("ExponentialLR: gamma", gamma)
        super().__init__(optimizer)

    @checked
    def lr_at(self, t: int, base: float) -> float:
        return float(base * self.gamma**t)


class CosineAnnealingLR(Scheduler):
    """Half a cosine from the base down to `eta_min` in `T_max` steps, and up again (Loshchilov and Hutter 2017).

    Raises `OptimizerError` for a `T_max` below 1.

    >>> from tt_learn import SGD, Tensor
    >>> schedule = CosineAnnealingLR(SGD([Tensor([1.0], requires_grad=True)], lr=1.0), T_max=2)
    >>> [round(schedule.lr_at(t, 1.0), 3) for t in range(4)]
    [1.0, 0.5, 0.0, 0.5]
    """

    @checked
    def __init__(self, optimizer: Optimizer, T_max: int, eta_min: float = 0.0) -> None:
        self.T_max, self.eta_min = _positive("CosineAnnealingLR: T_max", T_max), eta_min
        super().__init__(optimizer)

    @checked
    def lr_at(self, t: int, base: float) -> float:
        return cosine(base, self.eta_min, t / self.T_max)


class CosineWarmupLR(Scheduler):
    """Up in a line for `warmup_steps`, down to `min_lr` along half a cosine at `total_steps`, and there it stays.

    The schedule that GPTs are trained with, as nanoGPT computes it: step t of the warm-up has
    base (t + 1) / (warmup_steps + 1), so that no step is wasted on a rate of 0. Raises `OptimizerError` unless there
    are fewer of these steps than in all.

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
        if t < self.warmup_steps:
            return base * (t + 1) / (self.warmup_steps + 1)
        done = (t - self.warmup_steps) / (self.total_steps - self.warmup_steps)
        return cosine(base, self.min_lr, min(done, 1.0))


class ConstantLR(Scheduler):
    """`factor` times the base for `total_iters` steps, then the base.

    Raises `OptimizerError` for a factor outside [0, 1].

    >>> from tt_learn import SGD, Tensor
    >>> schedule = ConstantLR(SGD([Tensor([1.0], requires_grad=True)], lr=1.0), factor=0.5, total_iters=2)
    >>> [schedule.lr_at(t, 1.0) for t in range(4)]
    [0.5, 0.5, 1.0, 1.0]
    """

    @checked
    def __init__(self, optimizer: Optimizer, factor: float = 1 / 3, total_iters: int = 5) -> None:
        self.factor, self.total_iters = _share("ConstantLR: factor", factor), _number("ConstantLR", total_iters)
        super().__init__(optimizer)

    @checked
    def lr_at(self, t: int, base: float) -> float:
        return base * self.factor if t < self.total_iters else base


class LinearLR(Scheduler):
    """The base times a factor that goes in a line from `start_factor` to `end_factor` in `total_iters` steps.

    Raises `OptimizerError` for factors outside [0, 1] and a `start_factor` of 0, which would learn nothing.

    >>> from tt_learn import SGD, Tensor
    >>> schedule = LinearLR(SGD([Tensor([1.0], requires_grad=True)], lr=1.0), start_factor=0.5, total_iters=2)
    >>> [schedule.lr_at(t, 1.0) for t in range(4)]
    [0.5, 0.75, 1.0, 1.0]
    """

    @checked
    def __init__(
        self, optimizer: Optimizer, start_factor: float = 1 / 3, end_factor: float = 1.0, total_iters: int = 5
    ) -> None:
        self.start_factor = _share("LinearLR: start_factor", start_factor)
        if not start_factor:
            raise OptimizerError("LinearLR: start_factor is 0, expected a number above 0")
        self.end_factor = _share("LinearLR: end_factor", end_factor)
        self.total_iters = _number("LinearLR: total_iters", total_iters)
        super().__init__(optimizer)

    @checked
    def lr_at(self, t: int, base: float) -> float:
        done = min(t / self.total_iters, 1.0) if self.total_iters else 1.0
        return base * linear(self.start_factor, self.end_factor, done)


class PolynomialLR(Scheduler):
    """The base times (1 - t / total_iters)^power: down to 0 in `total_iters` steps, and there it stays.

    >>> from tt_learn import SGD, Tensor
    >>> schedule = PolynomialLR(SGD([Tensor([1.0], requires_grad=True)], lr=1.0), total_iters=2, power=2.0)
    >>> [schedule.lr_at(t, 1.0) for t in range(4)]
    [1.0, 0.25, 0.0, 0.0]
    """

    @checked
    def __init__(self, optimizer: Optimizer, total_iters: int = 5, power: float = 1.0) -> None:
        self.total_iters = _positive("PolynomialLR: total_iters", total_iters)
        self.power = _number("PolynomialLR: power", power)
        super().__init__(optimizer)

    @checked
    def lr_at(self, t: int, base: float) -> float:
        return float(base * (1 - min(t / self.total_iters, 1.0)) ** self.power)


class CosineAnnealingWarmRestarts(Scheduler):
    """Half a cosine from the base down to `eta_min`, again and again (SGDR: Loshchilov and Hutter 2017).

    The first takes `T_0` steps, each following one `T_mult` times as many. Raises `OptimizerError` for a `T_0` or
    `T_mult` below 1.

    >>> from tt_learn import SGD, Tensor
    >>> schedule = CosineAnnealingWarmRestarts(SGD([Tensor([1.0], requires_grad=True)], lr=1.0), T_0=2, T_mult=2)
    >>> [round(schedule.lr_at(t, 1.0), 3) for t in range(7)]
    [1.0, 0.5, 1.0, 0.854, 0.5, 0.146, 1.0]
    """

    @checked
    def __init__(self, optimizer: Optimizer, T_0: int, T_mult: int = 1, eta_min: float = 0.0) -> None:
        self.T_0 = _positive("CosineAnnealingWarmRestarts: T_0", T_0)
        self.T_mult = _positive("CosineAnnealingWarmRestarts: T_mult", T_mult)
        self.eta_min = _number("CosineAnnealingWarmRestarts: eta_min", eta_min)
        super().__init__(optimizer)

    @checked
    def lr_at(self, t: int, base: float) -> float:
        if self.T_mult == 1:
            return cosine(base, self.eta_min, t % self.T_0 / self.T_0)
        length = self.T_0
        while t >= length:
            t, length = t - length, length * self.T_mult
        return cosine(base, self.eta_min, t / length)


class CyclicLR(Scheduler):
    """Up from `base_lr` to `max_lr` and down again, in lines, while momentum goes the other way (Smith 2017).

    Each cycle takes `step_size_up` and `step_size_down` steps. Its height stays ("triangular"), halves from cycle to
    cycle ("triangular2"), or shrinks by `gamma` each step ("exp_range"); `scale_fn` is a function of your own, of the
    cycle's number or, with `scale_mode="iterations"`, of the step. Raises `OptimizerError` for options that make no
    sense, and where there is no momentum to cycle.

    >>> from tt_learn import SGD, Tensor
    >>> sgd = SGD([Tensor([1.0], requires_grad=True)], lr=1.0, momentum=0.9)
    >>> schedule, rates = CyclicLR(sgd, base_lr=0.0, max_lr=1.0, step_size_up=2), []
    >>> for _ in range(5):
    ...     rates += schedule.get_last_lr()
    ...     schedule.step()
    >>> rates
    [0.0, 0.5, 1.0, 0.5, 0.0]
    """

    @checked
    def __init__(
        self,
        optimizer: Optimizer,
        base_lr: float | Sequence[float],
        max_lr: float | Sequence[float],
        step_size_up: int = 2000,
        step_size_down: int | None = None,
        mode: str = "triangular",
        gamma: float = 1.0,
        scale_fn: Callable[[float], float] | None = None,
        scale_mode: str = "cycle",
        cycle_momentum: bool = True,
        base_momentum: float = 0.8,
        max_momentum: float = 0.9,
    ) -> None:
        groups = _checked("CyclicLR", optimizer).param_groups
        if mode not in ("triangular", "triangular2", "exp_range") or scale_mode not in ("cycle", "iterations"):
            raise OptimizerError(
                f"CyclicLR: got {mode!r} and {scale_mode!r}, expected mode 'triangular', 'triangular2' or 'exp_range' "
                "and scale_mode 'cycle' or 'iterations'"
            )
        if cycle_momentum and not all("momentum" in group or "betas" in group for group in groups):
            raise OptimizerError("CyclicLR: this optimizer has no momentum to cycle; pass cycle_momentum=False")
        self.up = _positive("CyclicLR: step_size_up", step_size_up)
        self.down = self.up if step_size_down is None else _positive("CyclicLR: step_size_down", step_size_down)
        self.mode, self.gamma = mode, _number("CyclicLR: gamma", gamma)
        self.scale_fn, self.scale_mode = scale_fn, scale_mode
        self.max_lrs = _one_each("CyclicLR: max_lr", max_lr, len(groups))
        self.momenta = (base_momentum, max_momentum) if cycle_momentum else None
        for group, base in zip(groups, _one_each("CyclicLR: base_lr", base_lr, len(groups))):
            group["lr"] = group["initial_lr"] = base
        super().__init__(optimizer)

    def _height(self) -> float:
        """How far the rate has come from base to maximum, and how high this cycle is, in one number."""
        t, length = self.last_epoch, self.up + self.down
        cycle = 1 + t // length
        x = t / length - (cycle - 1)
        share = self.up / length
        height = x / share if x <= share else (x - 1) / (share - 1)
        if self.scale_fn is not None:
            return float(height * self.scale_fn(cycle if self.scale_mode == "cycle" else t))
        if self.mode == "exp_range":
            return float(height * _power("CyclicLR", self.gamma, t))
        return height * 0.5 ** (cycle - 1) if self.mode == "triangular2" else height

    def _lr(self, i: int, base: float) -> float:
        return base + (self.max_lrs[i] - base) * self._height()

    def _apply(self) -> None:
        super()._apply()
        if self.momenta is not None:
            low, high = self.momenta
            _set_momentum(self.optimizer, high - (high - low) * self._height())


class SequentialLR(Scheduler):
    """Several schedules one after the other: the next one begins at each of the `milestones`, from its own start.

    Raises `OptimizerError` unless there is one milestone fewer than there are schedules, all of this optimizer.

    >>> from tt_learn import SGD, Tensor
    >>> sgd = SGD([Tensor([1.0], requires_grad=True)], lr=1.0)
    >>> schedules = [LinearLR(sgd, 0.5, total_iters=2), ExponentialLR(sgd, 0.5)]
    >>> schedule, rates = SequentialLR(sgd, schedules, milestones=[2]), []
    >>> for _ in range(5):
    ...     rates += schedule.get_last_lr()
    ...     schedule.step()
    >>> rates
    [0.5, 0.75, 1.0, 0.5, 0.25]
    """

    _state = ("last_epoch",)

    @checked
    def __init__(self, optimizer: Optimizer, schedulers: Sequence[Scheduler], milestones: Sequence[int]) -> None:
        self.schedulers = _listed("SequentialLR: schedulers", schedulers)
        self.milestones = _listed("SequentialLR: milestones", milestones)
        for schedule in self.schedulers:
            if not isinstance(schedule, Scheduler) or schedule.optimizer is not optimizer:
                raise OptimizerError(
                    "SequentialLR: takes schedules of the same optimizer that are formulas of the step"
                )
        if len(self.milestones) != len(self.schedulers) - 1:
            given = f"{len(self.milestones)} milestones for {len(self.schedulers)} schedules"
            raise OptimizerError(f"SequentialLR: got {given}, expected one milestone fewer than schedules")
        super().__init__(optimizer)

    def _apply(self) -> None:
        """Put the schedule whose turn it is at the steps since its milestone."""
        i = bisect.bisect_right(self.milestones, self.last_epoch)
        current = self.schedulers[i]
        current.last_epoch = self.last_epoch - (self.milestones[i - 1] if i else 0)
        current._apply()

    def state_dict(self) -> dict[str, Any]:
        """Where it stands, and where each of its schedules does."""
        return {**super().state_dict(), "schedulers": [schedule.state_dict() for schedule in self.schedulers]}

    @checked
    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Stand where `state_dict` was taken; raises `OptimizerError` for another schedule's state."""
        states = state_dict.get("schedulers")
        if not isinstance(states, list) or len(states) != len(self.schedulers):
            raise OptimizerError("SequentialLR: the state is not one of these schedules")
        for schedule, state in zip(self.schedulers, states):
            schedule.load_state_dict(state)
        super().load_state_dict(state_dict)


class LambdaLR(Scheduler):
    """The base times a function of the steps done; a list holds one function a parameter group.

    Raises `OptimizerError` for another number of functions.

    >>> from tt_learn import SGD, Tensor
    >>> schedule = LambdaLR(SGD([Tensor([1.0], requires_grad=True)], lr=0.5), lambda t: 1 / (1 + t))
    >>> schedule.step()
    >>> schedule.get_last_lr()
    [0.25]
    """

    @checked
    def __init__(self, optimizer: Optimizer, lr_lambda: Factor | Sequence[Factor]) -> None:
        groups = len(_checked("LambdaLR", optimizer).param_groups)
        self.lr_lambdas = [lr_lambda] * groups if callable(lr_lambda) else _listed("LambdaLR: lr_lambda", lr_lambda)
        if len(self.lr_lambdas) != groups:
            raise OptimizerError(f"LambdaLR: got {len(self.lr_lambdas)} functions for {groups} parameter groups")
        super().__init__(optimizer)

    def _lr(self, i: int, base: float) -> float:
        return base * self.lr_lambdas[i](self.last_epoch)


class OneCycleLR(Scheduler):
    """Up to `max_lr` and down far below the start, while momentum goes the other way (Smith and Topin 2018).

    From max_lr / div_factor to max_lr in the first `pct_start` of all steps, then to that start / final_div_factor;
    `three_phase` comes down to the start in as many steps as it went up, then to the end. The number of steps is
    `total_steps`, or `epochs * steps_per_epoch`. Raises `OptimizerError` for a step beyond them, for options that make
    no sense, and where there is no momentum to cycle.

    >>> from tt_learn import SGD, Tensor
    >>> sgd = SGD([Tensor([1.0], requires_grad=True)], lr=1.0, momentum=0.9)
    >>> schedule, rates = OneCycleLR(sgd, max_lr=1.0, total_steps=5, pct_start=0.4), []
    >>> for _ in range(4):
    ...     rates += schedule.get_last_lr()
    ...     schedule.step()
    >>> [round(rate, 3) for rate in rates]
    [0.04, 1.0, 0.75, 0.25]
    """

    _state = ("last_epoch",)

    @checked
    def __init__(
        self,
        optimizer: Optimizer,
        max_lr: float | Sequence[float],
        total_steps: int | None = None,
        epochs: int | None = None,
        steps_per_epoch: int | None = None,
        pct_start: float = 0.3,
        anneal_strategy: str = "cos",
        cycle_momentum: bool = True,
        base_momentum: float = 0.85,
        max_momentum: float = 0.95,
        div_factor: float = 25.0,
        final_div_factor: float = 1e4,
        three_phase: bool = False,
    ) -> None:
        if total_steps is None and (epochs is None or steps_per_epoch is None):
            raise OptimizerError("OneCycleLR: give total_steps, or epochs and steps_per_epoch")
        if anneal_strategy not in ("cos", "linear"):
            raise OptimizerError(f"OneCycleLR: anneal_strategy is {anneal_strategy!r}, expected 'cos' or 'linear'")
        if not 0 <= pct_start <= 1:
            raise OptimizerError(f"OneCycleLR: pct_start is {pct_start}, expected a number in [0, 1]")
        groups = _checked("OneCycleLR", optimizer).param_groups
        if cycle_momentum and not all("momentum" in group or "betas" in group for group in groups):
            raise OptimizerError("OneCycleLR: this optimizer has no momentum to cycle; pass cycle_momentum=False")
        self.total_steps = _positive("OneCycleLR: total_steps", total_steps or (epochs or 0) * (steps_per_epoch or 0))
        self.between = cosine if anneal_strategy == "cos" else linear
        self.ends = self._phase_ends(pct_start, three_phase)
        self.max_lrs = _one_each("OneCycleLR: max_lr", max_lr, len(groups))
        if not (div_factor > 0 and final_div_factor > 0):
            got = f"{div_factor} and {final_div_factor}"
            raise OptimizerError(f"OneCycleLR: div_factor and final_div_factor must be positive, got {got}")
        start, end = 1 / div_factor, 1 / div_factor / final_div_factor
        self.factors = [start, 1.0, start, end] if three_phase else [start, 1.0, end]
        self.momenta = [max_momentum, base_momentum, max_momentum, max_momentum] if cycle_momentum else []
        super().__init__(optimizer)
        for group, highest in zip(groups, self.max_lrs):
            group["initial_lr"] = highest * start

    def _phase_ends(self, pct_start: float, three_phase: bool) -> list[float]:
        top = pct_start * self.total_steps - 1
        last = self.total_steps - 1.0
        return [top, 2 * top, last] if three_phase else [top, last]

    def _at(self, values: Sequence[float], t: int) -> float:
        i = min(bisect.bisect_left(self.ends, t), len(self.ends) - 1)
        begin, end = self.ends[i - 1] if i else 0.0, self.ends[i]
        # a phase without steps is over; after the last step the rate stays, and does not fall below 0
        share = min((t - begin) / (end - begin), 1.0) if end != begin else 1.0
        return self.between(values[i], values[i + 1], share)

    def _lr(self, i: int, base: float) -> float:
        return self.max_lrs[i] * self._at(self.factors, self.last_epoch)

    def _apply(self) -> None:
        if self.last_epoch > self.total_steps:
            raise OptimizerError(f"OneCycleLR: step {self.last_epoch} is beyond the {self.total_steps} total steps")
        super()._apply()
        if self.momenta:
            _set_momentum(self.optimizer, self._at(self.momenta, self.last_epoch))


class ReduceLROnPlateau:
    """The learning rate is multiplied by `factor` when a measured value has not improved for `patience` steps.

    `mode`: whether "min" or "max" is better. An improvement is one by more than `threshold`, a share of the best
    value ("rel") or an amount ("abs"). After a reduction, `cooldown` steps are not counted. No rate goes below
    `min_lr`, and none changes by less than `eps`. Raises `OptimizerError` for a `factor` of 1 or more and
    unknown modes.

    >>> from tt_learn import SGD, Tensor
    >>> schedule = ReduceLROnPlateau(SGD([Tensor([1.0], requires_grad=True)], lr=1.0), patience=1)
    >>> for loss in (3.0, 2.0, 2.0, 2.0):
    ...     schedule.step(loss)
    >>> schedule.get_last_lr()
    [0.1]
    """

    _state = ("best", "num_bad_epochs", "cooldown_counter", "last_epoch")

    @checked
    def __init__(
        self,
        optimizer: Optimizer,
        mode: str = "min",
        factor: float = 0.1,
        patience: int = 10,
        threshold: float = 1e-4,
        threshold_mode: str = "rel",
        cooldown: int = 0,
        min_lr: float | Sequence[float] = 0.0,
        eps: float = 1e-8,
    ) -> None:
        if factor >= 1:
            raise OptimizerError(f"ReduceLROnPlateau: factor is {factor}, expected a number below 1")
        if mode not in ("min", "max") or threshold_mode not in ("rel", "abs"):
            given = f"{mode!r} and {threshold_mode!r}"
            raise OptimizerError(f"ReduceLROnPlateau: got {given}, expected mode 'min' or 'max' and 'rel' or 'abs'")
        groups = len(_checked("ReduceLROnPlateau", optimizer).param_groups)
        self.min_lrs = _one_each("ReduceLROnPlateau: min_lr", min_lr, groups)
        self.optimizer, self.mode, self.factor, self.patience = optimizer, mode, factor, patience
        self.threshold, self.threshold_mode, self.cooldown, self.eps = threshold, threshold_mode, cooldown, eps
        self.best: float | None = None
        self.num_bad_epochs = self.cooldown_counter = self.last_epoch = 0

    @checked
    def step(self, metrics: float) -> None:
        """Take note of the value measured now."""
        value = float(metrics)
        self.last_epoch += 1
        if self._is_better(value):
            self.best, self.num_bad_epochs = value, 0
        else:
            self.num_bad_epochs += 1
        if self.cooldown_counter > 0:
            self.cooldown_counter -= 1
            self.num_bad_epochs = 0
        if self.num_bad_epochs > self.patience:
            self._reduce()
            self.cooldown_counter, self.num_bad_epochs = self.cooldown, 0

    def _is_better(self, value: float) -> bool:
        if self.best is None:
            return not math.isnan(value)
        sign = 1 if self.mode == "min" else -1
        change = self.threshold * (self.best if self.threshold_mode == "rel" else 1.0)
        return sign * value < sign * (self.best - sign * change)

    def _reduce(self) -> None:
        for group, lowest in zip(_known_groups(self, len(self.min_lrs)), self.min_lrs):
            lr = max(group["lr"] * self.factor, lowest)
            if group["lr"] - lr > self.eps:
                group["lr"] = lr

    def get_last_lr(self) -> list[float]:
        """The learning rate of each group now."""
        return [group["lr"] for group in self.optimizer.param_groups]

    def state_dict(self) -> dict[str, Any]:
        """What was measured so far, in plain JSON; the rates themselves are in the optimizer's state."""
        return {name: getattr(self, name) for name in self._state}

    @checked
    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Stand where `state_dict` was taken; raises `OptimizerError` for another schedule's state."""
        missing = [name for name in self._state if name not in state_dict]
        if missing:
            raise OptimizerError(f"ReduceLROnPlateau: the state has no {missing[0]}; it is another schedule's")
        for name in self._state:
            setattr(self, name, state_dict[name])


def cosine(start: float, end: float, done: float) -> float:
    """Half a cosine from `start` (done = 0) to `end` (done = 1).

    >>> [round(cosine(1.0, 0.0, done), 3) for done in (0, 0.25, 0.5, 1)]
    [1.0, 0.854, 0.5, 0.0]
    """
    return end + (start - end) * (1 + math.cos(math.pi * done)) / 2


def linear(start: float, end: float, done: float) -> float:
    """A line from `start` (done = 0) to `end` (done = 1).

    >>> linear(1.0, 0.0, 0.25)
    0.75
    """
    return start + (end - start) * done


def _known_groups(schedule: Scheduler | ReduceLROnPlateau, count: int) -> list[dict[str, Any]]:
    """The optimizer's groups, of which none may have come after the schedule was made: its rate would stay."""
    groups = schedule.optimizer.param_groups
    if len(groups) != count:
        raise OptimizerError(
            f"{type(schedule).__name__}: the optimizer had {count} parameter groups when this schedule was made, "
            f"now it has {len(groups)}; make a new schedule"
        )
    return groups


def _set_momentum(optimizer: Optimizer, momentum: float) -> None:
    for group in optimizer.param_groups:
        if "betas" in group:
            group["betas"] = (momentum, *group["betas"][1:])
        else:
            group["momentum"] = momentum


def _share(what: str, value: Any) -> Any:
    if not 0 <= _number(what, value) <= 1:
        raise OptimizerError(f"{what} is {value}, expected a number in [0, 1]")
    return value


def _checked(schedule: str, optimizer: Any) -> Any:
    if isinstance(optimizer, type) or not hasattr(optimizer, "param_groups"):
        raise OptimizerError(f"{schedule}: takes an optimizer, got {optimizer!r}")
    return optimizer


def _number(what: str, value: Any) -> Any:
    if not is_number(value):
        raise OptimizerError(f"{what} is {value!r}, expected a number")
    return value


def _listed(what: str, values: Any) -> list[Any]:
    if not isinstance(values, Iterable):
        raise OptimizerError(f"{what} is {values!r}, expected a list")
    return list(values)


def _positive(what: str, n: int) -> int:
    if not (is_number(n) and n >= 1):
        raise OptimizerError(f"{what} is {n}, expected 1 or more")
    return n


def _one_each(what: str, given: Any, groups: int) -> list[float]:
    values = [float(given)] * groups if is_number(given) else _listed(what, given)
    if len(values) != groups:
        raise OptimizerError(f"{what} has {len(values)} values for {groups} parameter groups")
    return values
