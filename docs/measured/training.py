"""Numbers and pictures of lesson 07, training."""

from __future__ import annotations

import functools
import time

import numpy as np

import tt_core as tt
import tt_learn
from measured import number, picture
from tt_learn.command.digits import draw_digits
from tt_learn.svg import line_chart

STEPS = 300


def _model() -> tt.Sequential:
    tt.manual_seed(0)
    return tt.Sequential(tt.Linear(784, 128), tt.ReLU(), tt.Linear(128, 10))


@functools.cache
def _digits(count: int, seed: int) -> tuple[tt.Tensor, tt.Tensor]:
    images, labels = draw_digits(count, np.random.default_rng(seed))
    return tt.from_numpy(images.reshape(count, 784).astype(np.float32) / 255), tt.from_numpy(labels)


@functools.cache
def shares() -> dict[str, float]:
    """The shares of the parts of a step, by the fastest of many steps."""
    model, (x, y) = _model(), _digits(64, 0)
    optimizer = tt_learn.Adam(model.parameters())
    best = [float("inf")] * 3
    for _ in range(60):
        optimizer.zero_grad()
        moments = [time.perf_counter()]
        loss = tt.cross_entropy(model(x), y)
        moments.append(time.perf_counter())
        loss.backward()
        moments.append(time.perf_counter())
        optimizer.step()
        moments.append(time.perf_counter())
        best = [min(old, new) for old, new in zip(best, np.diff(moments).tolist(), strict=True)]
    return dict(zip(("forward", "backward", "optimizer"), (np.array(best) / sum(best)).tolist(), strict=True))


@number(0.03, 0.8, ".0%")
def forward_share() -> float:
    """The share of forward in a step."""
    return shares()["forward"]


@number(0.1, 0.85, ".0%")
def backward_share() -> float:
    """The share of backward."""
    return shares()["backward"]


@number(0.02, 0.85, ".0%")
def optimizer_share() -> float:
    """The share of Adam."""
    return shares()["optimizer"]


@functools.cache
def overfitted() -> dict[str, list[tuple[float, float]]]:
    """The losses on 60 noisy digits that are learned by heart, and on 200 others."""
    model, (x, y), (other_x, other_y) = _model(), _digits(60, 1), _digits(200, 2)
    optimizer = tt_learn.Adam(model.parameters(), lr=3e-3)
    found: dict[str, list[tuple[float, float]]] = {"training": [], "validation": []}
    for step in range(STEPS):
        loss = tt_learn.training.train_step(
            optimizer, lambda batch: tt.cross_entropy(model(batch[0]), batch[1]), [(x, y)]
        )
        if step % 10 == 0:
            with tt_learn.training.evaluating(model):
                other = float(tt.cross_entropy(model(other_x), other_y).item())
            found["training"].append((float(step), loss))
            found["validation"].append((float(step), other))
    return found


@number(0, 0.1, ".0e")
def training_loss() -> float:
    """The loss on what was learned by heart."""
    return overfitted()["training"][-1][1]


@number(0.05, 3, ".2f")
def validation_loss() -> float:
    """The loss on other digits."""
    return overfitted()["validation"][-1][1]


@picture
def overfitting() -> str:
    """The loss on 60 digits that the model was trained on, and on 200 others."""
    return line_chart(overfitted(), "", "step", "loss")


@picture
def warm_up_and_cosine() -> str:
    """The learning rate by the step with CosineWarmupLR."""
    optimizer = tt_learn.SGD([tt_learn.Tensor([1.0], requires_grad=True)], lr=1e-3)
    scheduler = tt_learn.CosineWarmupLR(optimizer, warmup_steps=50, total_steps=500, min_lr=1e-4)
    points = []
    for step in range(500):
        points.append((float(step), float(optimizer.param_groups[0]["lr"])))
        optimizer.step()
        scheduler.step()
    return line_chart({"learning rate": points}, "", "step", "learning rate")


@number(0, 1e-5, ".0e")
def accumulated_difference() -> float:
    """The largest difference between the gradients of one batch of 64 and of four of 16, relative to the largest."""
    gradients = []
    for parts in (1, 4):
        model, (x, y) = _model(), _digits(64, 0)
        size = 64 // parts
        batches = [(x[i : i + size], y[i : i + size]) for i in range(0, 64, size)]
        tt_learn.training.accumulate(lambda batch, model=model: tt.cross_entropy(model(batch[0]), batch[1]), batches)
        gradients.append(model[0].weight.grad.data)
    return float(np.abs(gradients[0] - gradients[1]).max() / np.abs(gradients[0]).max())
