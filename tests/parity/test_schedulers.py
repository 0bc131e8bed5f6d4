"""Each schedule's rates beside PyTorch's."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from tt_learn import Tensor, optim
from tt_learn.optim import lr_scheduler as schedulers

torch = pytest.importorskip("torch", reason="PyTorch, the oracle of these tests, is not installed")

CASES: list[tuple[str, dict[str, Any]]] = [
    ("StepLR", {"step_size": 7, "gamma": 0.3}),
    ("MultiStepLR", {"milestones": [30, 5, 5, 12]}),
    ("ExponentialLR", {"gamma": 0.95}),
    ("CosineAnnealingLR", {"T_max": 20, "eta_min": 0.01}),
    ("LambdaLR", {"lr_lambda": lambda t: 1 / (1 + t)}),
    ("LambdaLR", {"lr_lambda": [lambda t: 0.9**t, lambda t: 1 + t]}),
    ("ConstantLR", {"factor": 0.2, "total_iters": 7}),
    ("LinearLR", {}),
    ("LinearLR", {"start_factor": 0.1, "end_factor": 0.8, "total_iters": 20}),
    ("PolynomialLR", {"total_iters": 30, "power": 2.5}),
    ("CosineAnnealingWarmRestarts", {"T_0": 10}),
    ("CosineAnnealingWarmRestarts", {"T_0": 4, "T_mult": 2, "eta_min": 0.01}),
    ("CyclicLR", {"base_lr": 0.01, "max_lr": 0.5, "step_size_up": 5}),
    (
        "CyclicLR",
        {"base_lr": 0.01, "max_lr": [0.5, 0.1], "step_size_up": 4, "step_size_down": 8, "mode": "triangular2"},
    ),
    ("CyclicLR", {"base_lr": 0.01, "max_lr": 0.5, "step_size_up": 5, "mode": "exp_range", "gamma": 0.95}),
    ("CyclicLR", {"base_lr": 0.01, "max_lr": 0.5, "step_size_up": 6, "scale_fn": lambda x: 1 / x}),
    ("OneCycleLR", {"max_lr": 0.5, "total_steps": 50}),
    ("OneCycleLR", {"max_lr": [0.5, 0.1], "epochs": 5, "steps_per_epoch": 10, "anneal_strategy": "linear"}),
    ("OneCycleLR", {"max_lr": 0.5, "total_steps": 50, "three_phase": True, "cycle_momentum": False}),
]


def both(name: str) -> tuple[Any, Any]:
    options = {"momentum": 0.9} if name == "SGD" else {}
    ours = [Tensor(np.ones(2), requires_grad=True) for _ in range(2)]
    theirs = [torch.nn.Parameter(torch.ones(2)) for _ in range(2)]
    groups = [[{"params": [a]}, {"params": [b], "lr": 0.02}] for a, b in (ours, theirs)]
    return getattr(optim, name)(groups[0], lr=0.1, **options), getattr(torch.optim, name)(groups[1], lr=0.1, **options)


def settings(optimizer: Any) -> list[float]:
    return [
        value
        for group in optimizer.param_groups
        for value in (group["lr"], *group.get("betas", (group.get("momentum"),)))
    ]


@pytest.mark.parametrize("optimizer", ["SGD", "AdamW"])
@pytest.mark.parametrize(("name", "options"), CASES, ids=str)
def test_rates(name: str, options: dict[str, Any], optimizer: str) -> None:
    mine, other = both(optimizer)
    ours = getattr(schedulers, name)(mine, **options)
    theirs = getattr(torch.optim.lr_scheduler, name)(other, **options)
    for _ in range(49):
        assert settings(mine) == pytest.approx(settings(other), rel=1e-10)
        assert ours.get_last_lr() == pytest.approx(theirs.get_last_lr(), rel=1e-10)
        other.step()
        ours.step()
        theirs.step()


SEQUENCES: list[tuple[list[tuple[str, dict[str, Any]]], list[int]]] = [
    ([("LinearLR", {"start_factor": 0.1, "total_iters": 10}), ("CosineAnnealingLR", {"T_max": 30})], [10]),
    ([("ConstantLR", {}), ("StepLR", {"step_size": 3}), ("LambdaLR", {"lr_lambda": lambda t: 1 / (1 + t)})], [5, 20]),
]


@pytest.mark.parametrize(("parts", "milestones"), SEQUENCES, ids=["warm-up", "three"])
def test_one_after_the_other(parts: list[tuple[str, dict[str, Any]]], milestones: list[int]) -> None:
    mine, other = both("AdamW")
    ours = schedulers.SequentialLR(mine, [getattr(schedulers, n)(mine, **o) for n, o in parts], milestones)
    torchs = torch.optim.lr_scheduler
    theirs = torchs.SequentialLR(other, [getattr(torchs, n)(other, **o) for n, o in parts], milestones)
    for t in range(45):
        assert settings(mine) == pytest.approx(settings(other), rel=1e-10), t
        other.step()
        ours.step()
        theirs.step()


@pytest.mark.parametrize("mode", ["min", "max"])
@pytest.mark.parametrize("threshold_mode", ["rel", "abs"])
@pytest.mark.parametrize("options", [{"patience": 2}, {"patience": 1, "cooldown": 3, "factor": 0.5, "min_lr": 0.015}])
def test_plateau(mode: str, threshold_mode: str, options: dict[str, Any]) -> None:
    mine, other = both("SGD")
    options = {"mode": mode, "threshold_mode": threshold_mode, "threshold": 0.01, **options}
    ours = schedulers.ReduceLROnPlateau(mine, **options)
    theirs = torch.optim.lr_scheduler.ReduceLROnPlateau(other, **options)
    draw = np.random.default_rng(1)
    for t in range(60):
        value = math.cos(t / 9) + 0.05 * draw.standard_normal() - 0.2
        value = math.nan if t in (0, 17) else value
        ours.step(value)
        theirs.step(value)
        assert settings(mine) == pytest.approx(settings(other), rel=1e-12)


def test_warmup_and_cosine_is_nanogpts() -> None:
    mine, _ = both("AdamW")
    schedule = schedulers.CosineWarmupLR(mine, 10, 40, min_lr=0.001)
    for t in range(60):
        expected = nanogpt_lr(t, 0.1, 10, 40, 0.001)
        assert mine.param_groups[0]["lr"] == pytest.approx(expected, rel=1e-12)
        schedule.step()


def nanogpt_lr(it: int, learning_rate: float, warmup: int, decay: int, min_lr: float) -> float:
    if it < warmup:
        return learning_rate * (it + 1) / (warmup + 1)
    if it > decay:
        return min_lr
    return min_lr + 0.5 * (1 + math.cos(math.pi * (it - warmup) / (decay - warmup))) * (learning_rate - min_lr)
