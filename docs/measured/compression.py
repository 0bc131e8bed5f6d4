"""Numbers and pictures of lesson 16, compression."""

from __future__ import annotations

import copy
import functools
from typing import Any

import numpy as np

import tt_core
from measured import fastest, number, picture
from tt_core import Linear, ReLU, Sequential
from tt_learn import Adam
from tt_learn.svg import line_chart
from tt_perf.compression import LowRankLinear, prune_, shrink_
from tt_perf.compression.low_rank import factors, rank_of
from tt_perf.compression.pruning import gradual_amount


def spirals(count: int) -> tuple[Any, Any]:
    """Points on three arms of a spiral, and the number of the arm of each."""
    random = np.random.default_rng(0)
    arm = random.integers(0, 3, count)
    radius = random.uniform(0.1, 1, count)
    angle = 2 * np.pi * arm / 3 + 4 * radius + random.normal(0, 0.15, count)
    points = np.stack([radius * np.cos(angle), radius * np.sin(angle)], 1).astype(np.float32)
    return tt_core.from_numpy(points), tt_core.from_numpy(arm)


@functools.cache
def trained() -> Sequential:
    """A network of 17,000 weights that tells the arms apart."""
    tt_core.manual_seed(0)
    model = Sequential(Linear(2, 128), ReLU(), Linear(128, 128), ReLU(), Linear(128, 3))
    optimizer = Adam(model.parameters(), lr=0.01)
    x, arm = spirals(512)
    for _ in range(150):
        optimizer.zero_grad()
        tt_core.cross_entropy(model(x), arm).backward()
        optimizer.step()
    return model


def accuracy(model: Any) -> float:
    """Percent of points that the model puts on their arm."""
    x, arm = spirals(2048)
    with tt_core.no_grad():
        return float(100 * np.mean(model(x).data.argmax(1) == arm.data))


@functools.cache
def pruned_accuracy(percent: int, method: str = "magnitude") -> float:
    """The accuracy when so many percent of the weights are zero."""
    model = copy.deepcopy(trained())
    tt_core.manual_seed(1)
    prune_(model, percent / 100, method=method, scope="layer")
    return accuracy(model)


@number(85, 100, ".0f")
def dense_accuracy() -> float:
    """The accuracy of the trained network in percent."""
    return accuracy(trained())


@number(80, 100, ".0f")
def accuracy_at_half() -> float:
    """The accuracy with half of the weights, those of small magnitude, set to zero."""
    return pruned_accuracy(50)


@number(25, 85, ".0f")
def random_accuracy_at_half() -> float:
    """The accuracy with a random half of the weights set to zero."""
    return pruned_accuracy(50, "random")


@picture
def accuracy_by_sparsity() -> str:
    """Accuracy in percent by percent of weights that are zero: those of small magnitude, and random ones."""
    amounts = (0, 10, 20, 30, 40, 50, 60, 70, 80, 85, 90, 95)
    curves = {method: [(p, pruned_accuracy(p, method)) for p in amounts] for method in ("magnitude", "random")}
    return line_chart(curves, x_label="percent of weights that are zero", y_label="accuracy in percent")


@picture
def schedule() -> str:
    """The share that is pruned at each of 100 steps, up to 90 %: the cubic schedule and a straight one."""
    curves = {"cubic": [(s, gradual_amount(s, 10, 90, 0.9)) for s in range(101)]}
    curves["straight"] = [(s, 0.9 * min(max((s - 10) / 80, 0), 1)) for s in range(101)]
    return line_chart(curves, x_label="step", y_label="share pruned")


@functools.cache
def wide() -> tuple[Sequential, Any]:
    """A network with a wide hidden layer, and inputs for it."""
    tt_core.manual_seed(0)
    return Sequential(Linear(512, 1024), ReLU(), Linear(1024, 512)), tt_core.randn(128, 512)


@functools.cache
def time_after(how: str) -> float:
    """The time of the wide network after a compression, as a share of the time before."""
    model, x = wide()
    small = copy.deepcopy(model)
    if how == "masks":
        prune_(small, 0.9, scope="layer")
    elif how == "shrunk":
        shrink_(small, 0.5, x)
    else:
        small = Sequential(LowRankLinear.of(model[0], 64), ReLU(), LowRankLinear.of(model[2], 64))
    with tt_core.no_grad():
        before, after = fastest(lambda: model(x), lambda: small(x))
    return after / before


@number(0.3, 3, ".2f")
def time_of_masks() -> float:
    """Time with 90 % of the weights set to zero, as a share of the time before."""
    return time_after("masks")


@number(0.1, 1, ".2f")
def time_of_half() -> float:
    """Time with half of the hidden neurons removed, as a share of the time before."""
    return time_after("shrunk")


@number(0.03, 1, ".2f")
def time_of_rank_64() -> float:
    """Time with both weights as products of rank 64, as a share of the time before."""
    return time_after("low rank")


def relative_error(weight: Any, rank: int) -> float:
    """The error of the best approximation of a rank, in percent."""
    up, down = factors(weight, rank)
    return float(100 * np.linalg.norm(weight - up @ down) / np.linalg.norm(weight))


RANDOM = np.random.default_rng(0).standard_normal((256, 256))


def smooth() -> Any:
    """A matrix whose singular values fall by 10 % each."""
    u, _, v = np.linalg.svd(RANDOM)
    return (u * 0.9 ** np.arange(256)) @ v


@number(45, 65, ".0f")
def error_of_random() -> float:
    """The error in percent of rank 64 of 256 for random numbers."""
    return relative_error(RANDOM, 64)


@number(0, 1, ".2f")
def error_of_smooth() -> float:
    """The same for a matrix whose singular values fall by 10 % each."""
    return relative_error(smooth(), 64)


@number(100, 256, ".0f")
def rank_for_90_percent() -> float:
    """The rank that a random matrix (256, 256) needs for 90 % of its energy."""
    return float(rank_of(np.linalg.svd(RANDOM, compute_uv=False), energy=0.9))


@picture
def singular_values() -> str:
    """Singular values by rank, as shares of the largest: random numbers, and a matrix with falling ones."""
    curves = {}
    for name, weight in (("random", RANDOM), ("falling", smooth())):
        s = np.linalg.svd(weight, compute_uv=False)
        curves[name] = [(i + 1, float(value / s[0])) for i, value in enumerate(s)]
    return line_chart(curves, x_label="rank", y_label="share of the largest")


LOGITS = np.array([6.0, 4.0, 1.0, -2.0])


def softened(temperature: float) -> Any:
    """softmax(logits / T) of four classes."""
    return tt_core.softmax(tt_core.tensor((LOGITS / temperature).tolist())).data


@number(0.05, 0.15, ".2f")
def second_class_at_1() -> float:
    """The probability of the second class at temperature 1."""
    return float(softened(1)[1])


@number(0.2, 0.4, ".2f")
def second_class_at_4() -> float:
    """The probability of the second class at temperature 4."""
    return float(softened(4)[1])
