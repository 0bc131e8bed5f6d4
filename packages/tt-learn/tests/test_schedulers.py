"""Schedules: the formulas' corners, state and errors (all rates beside PyTorch's are in tests/parity)."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest

from tt_learn import Tensor, optim
from tt_learn.optim import lr_scheduler as schedulers
from tt_learn.optimizers import OptimizerError


def optimizer(lr: float = 1.0, name: str = "AdamW") -> Any:
    weights = [Tensor([1.0], requires_grad=True) for _ in range(2)]
    return getattr(optim, name)([{"params": [weights[0]]}, {"params": [weights[1]], "lr": lr / 2}], lr=lr)


ALL: dict[str, Callable[[Any], Any]] = {
    "StepLR": lambda o: schedulers.StepLR(o, 3),
    "MultiStepLR": lambda o: schedulers.MultiStepLR(o, [2, 5]),
    "ExponentialLR": lambda o: schedulers.ExponentialLR(o, 0.9),
    "CosineAnnealingLR": lambda o: schedulers.CosineAnnealingLR(o, 8),
    "CosineWarmupLR": lambda o: schedulers.CosineWarmupLR(o, 3, 9),
    "LambdaLR": lambda o: schedulers.LambdaLR(o, lambda t: 1 / (t + 1)),
    "OneCycleLR": lambda o: schedulers.OneCycleLR(o, 2.0, total_steps=12),
    "ConstantLR": lambda o: schedulers.ConstantLR(o, 0.5, 3),
    "LinearLR": lambda o: schedulers.LinearLR(o, 0.5, total_iters=3),
    "PolynomialLR": lambda o: schedulers.PolynomialLR(o, 12, 2.0),
    "CosineAnnealingWarmRestarts": lambda o: schedulers.CosineAnnealingWarmRestarts(o, 2, 2),
    "CyclicLR": lambda o: schedulers.CyclicLR(o, [0.2, 0.1], [2.0, 1.0], 3),
    "SequentialLR": lambda o: schedulers.SequentialLR(
        o, [schedulers.LinearLR(o, 0.5, total_iters=2), schedulers.StepLR(o, 2)], [3]
    ),
}
every_schedule = pytest.mark.parametrize("make", ALL.values(), ids=ALL.keys())


@every_schedule
def test_goes_on_from_its_state(make: Callable[[Any], Any]) -> None:
    straight, again = optimizer(), optimizer()
    schedule = make(straight)
    for _ in range(4):
        schedule.step()
    saved = json.loads(json.dumps({"s": schedule.state_dict(), "betas": straight.param_groups[0]["betas"]}))
    continued = make(again)
    continued.load_state_dict(saved["s"])
    for _ in range(5):
        schedule.step()
        continued.step()
        assert continued.get_last_lr() == schedule.get_last_lr()
        assert again.param_groups[1]["betas"] == straight.param_groups[1]["betas"]


@every_schedule
def test_rates_stay_in_proportion_over_groups(make: Callable[[Any], Any]) -> None:
    schedule = make(optimizer())
    for _ in range(6):
        first, second = schedule.get_last_lr()
        assert second == pytest.approx(first if isinstance(schedule, schedulers.OneCycleLR) else first / 2)
        schedule.step()


@every_schedule
def test_a_group_that_came_later_does_not_keep_its_rate_in_silence(make: Callable[[Any], Any]) -> None:
    o = optimizer()
    schedule = make(o)
    o.add_param_group({"params": [Tensor([1.0], requires_grad=True)]})
    with pytest.raises(OptimizerError, match="had 2 parameter groups when this schedule was made, now it has 3"):
        schedule.step()


def test_a_plateau_knows_no_later_group() -> None:
    o = optimizer()
    schedule = schedulers.ReduceLROnPlateau(o, patience=0)
    o.add_param_group({"params": [Tensor([1.0], requires_grad=True)]})
    schedule.step(1.0)
    with pytest.raises(OptimizerError, match="ReduceLROnPlateau: the optimizer had 2 parameter groups"):
        schedule.step(2.0)


def test_a_second_schedule_starts_from_the_first_rate() -> None:
    o = optimizer(lr=0.4)
    first = schedulers.ExponentialLR(o, 0.5)
    first.step()
    assert schedulers.StepLR(o, 1).get_last_lr() == [0.4, 0.2]


def test_warmup_ends_at_the_base_and_the_cosine_at_the_least() -> None:
    schedule = schedulers.CosineWarmupLR(optimizer(), 10, 50, min_lr=0.25)
    rates = []
    for _ in range(61):
        rates.append(schedule.get_last_lr()[0])
        schedule.step()
    assert rates[10] == 1.0
    assert all(a < b for a, b in pairwise(rates[:11]))
    assert all(a > b for a, b in pairwise(rates[10:51]))
    assert rates[50:] == [0.25] * 11


@pytest.mark.parametrize("anneal_strategy", ["cos", "linear"])
def test_one_cycle_ends_after_its_steps(anneal_strategy: str) -> None:
    rmsprop = optimizer(name="RMSprop")
    schedule = schedulers.OneCycleLR(rmsprop, 1.0, total_steps=3, anneal_strategy=anneal_strategy)
    for _ in range(3):
        schedule.step()
    assert schedule.get_last_lr()[0] == pytest.approx(1 / 25 / 1e4)  # PyTorch's line goes on to below 0
    optimizer(name="RMSprop").load_state_dict(rmsprop.state_dict())
    with pytest.raises(OptimizerError, match="step 4 is beyond the 3 total steps"):
        schedule.step()


@pytest.mark.parametrize("pct_start", [0.0, 0.1, 1.0])  # no way up, the top at the first step, no way down
def test_one_cycle_with_a_phase_of_no_steps(pct_start: float) -> None:
    schedule = schedulers.OneCycleLR(optimizer(name="RMSprop"), 1.0, total_steps=10, pct_start=pct_start)
    rates = []
    for _ in range(10):
        rates.append(schedule.get_last_lr()[0])
        schedule.step()
    assert max(rates) == pytest.approx(1.0, abs=0.1)
    assert rates.index(max(rates)) == (9 if pct_start == 1 else 0)
    assert rates == sorted(rates, reverse=pct_start < 1)


def test_plateau_goes_on_from_its_state() -> None:
    values = [3.0, 2.0, 2.0, 2.0, 2.0, 1.0, 1.0, 1.0, 1.0, 1.0]
    straight = optimizer()
    schedule = schedulers.ReduceLROnPlateau(straight, patience=1, cooldown=1)
    for value in values[:4]:
        schedule.step(value)
    again = optimizer()
    again.load_state_dict(straight.state_dict())
    continued = schedulers.ReduceLROnPlateau(again, patience=1, cooldown=1)
    continued.load_state_dict(json.loads(json.dumps(schedule.state_dict())))
    for value in values[4:]:
        schedule.step(value)
        continued.step(value)
    assert continued.get_last_lr() == schedule.get_last_lr()
    assert schedule.get_last_lr()[0] < 1.0


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: schedulers.StepLR(optimizer(), 0), "StepLR: step_size is 0, expected 1 or more"),
        (lambda: schedulers.CosineWarmupLR(optimizer(), 5, 5), "warmup_steps is 5, expected 0 or more and fewer"),
        (lambda: schedulers.LambdaLR(optimizer(), [abs]), "got 1 functions for 2 parameter groups"),
        (lambda: schedulers.OneCycleLR(optimizer(), 1.0), "give total_steps, or epochs and steps_per_epoch"),
        (lambda: schedulers.OneCycleLR(optimizer(), [1.0], 9), "max_lr has 1 values for 2 parameter groups"),
        (lambda: schedulers.OneCycleLR(optimizer(), 1.0, 9, anneal_strategy="x"), "expected 'cos' or 'linear'"),
        (lambda: schedulers.OneCycleLR(optimizer(), 1.0, 9, pct_start=2), r"pct_start is 2, expected .* \[0, 1\]"),
        (lambda: schedulers.OneCycleLR(optimizer(name="Adagrad"), 1.0, 9), "pass cycle_momentum=False"),
        (lambda: schedulers.ReduceLROnPlateau(optimizer(), factor=1.0), "factor is 1.0, expected a number below 1"),
        (lambda: schedulers.ReduceLROnPlateau(optimizer(), mode="less"), "got 'less' and 'rel'"),
        (lambda: schedulers.StepLR(optimizer(), 1).load_state_dict({"best": 1}), "has no last_epoch"),
        (
            lambda: schedulers.StepLR(optimizer(), 1).load_state_dict({"last_epoch": 1, "base_lrs": [1.0]}),
            "another number of parameter groups",
        ),
    ],
)
def test_what_makes_no_sense_is_refused(make: Callable[[], Any], message: str) -> None:
    with pytest.raises(OptimizerError, match=message):
        make()
