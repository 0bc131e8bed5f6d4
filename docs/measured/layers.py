"""Numbers and pictures of lesson 03, layers."""

from __future__ import annotations

import functools
import math

import numpy as np

import tt_core as tt
from measured import fastest, number, picture
from tt_learn.autograd import no_grad
from tt_learn.svg import line_chart


@functools.cache
def mlp() -> tt.Sequential:
    """The model of the milestone on digits."""
    tt.manual_seed(0)
    return tt.Sequential(tt.Linear(784, 128), tt.ReLU(), tt.Linear(128, 10))


@number(101_770, 101_770, ",.0f")
def mlp_parameters() -> float:
    """The parameters of 784-128-10."""
    return mlp().num_parameters()


@number(407, 408, ".0f")
def mlp_kilobytes() -> float:
    """Their kilobytes."""
    return sum(p.nbytes for p in mlp().parameters()) / 1e3


@number(0.98, 0.99, ".1%")
def first_layer_share() -> float:
    """The share of the first layer in them."""
    return mlp()[0].num_parameters() / mlp_parameters()


@number(1.1, 1000, ".0f")
def batch_gain() -> float:
    """How many times as long 64 calls with one image take as one call with 64 images."""
    x = tt.randn(64, 784)
    one = x[:1]
    with no_grad():
        single, batch = fastest(lambda: mlp()(one), lambda: mlp()(x), rounds=40)
    return 64 * single / batch


def deviations(factor: float, depth: int = 30, width: int = 128) -> list[float]:
    """The root mean square of numbers behind each layer; weights have the deviation factor sqrt(2 / width)."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((64, width))
    seen = [float(np.sqrt((x * x).mean()))]
    for _ in range(depth):
        weight = rng.standard_normal((width, width)) * factor * math.sqrt(2 / width)
        x = tt.relu.formula(x @ weight.T)
        seen.append(float(np.sqrt((x * x).mean())))
    return seen


@number(0.1, 5, ".1f")
def last_deviation() -> float:
    """Behind 30 layers, with the deviation of He and others."""
    return deviations(1.0)[-1]


@number(1e-11, 1e-7, ".0e")
def last_deviation_halved() -> float:
    """The same with weights half as large."""
    return deviations(0.5)[-1]


@number(1e7, 1e11, ".0e")
def last_deviation_doubled() -> float:
    """The same with weights twice as large."""
    return deviations(2.0)[-1]


@picture
def numbers_in_depth() -> str:
    """The size of the numbers behind each of 30 layers with ReLU, as a power of ten, for weights of three sizes."""
    named = {"He": 1.0, "half of it": 0.5, "twice": 2.0}
    series = {
        name: [(float(i), math.log10(size)) for i, size in enumerate(deviations(factor))]
        for name, factor in named.items()
    }
    return line_chart(series, "", "layer", "log10 of the size")


@number(0.95, 1.05, ".2f")
def mean_after_dropout() -> float:
    """The mean of 100,000 ones after dropout with p = 0.5."""
    tt.manual_seed(0)
    return float(tt.dropout(tt.ones(100_000), p=0.5).mean().item())
