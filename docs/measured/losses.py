"""Numbers and pictures of lesson 04, losses."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

import tt_core as tt
import tt_learn
from measured import fastest, number, picture
from measured._memory import peak_bytes
from tt_learn.svg import line_chart

LOGITS = np.random.default_rng(0).standard_normal((256, 4096)).astype(np.float32)
TARGET = np.random.default_rng(1).integers(0, 4096, 256)


@number(2.3, 2.31, ".3f")
def loss_at_chance() -> float:
    """The cross entropy of ten equal logits."""
    return float(tt.cross_entropy(tt.zeros(1, 10), tt.tensor([3])).item())


@number(200, 200, ".0f")
def stable_loss() -> float:
    """The loss of the logits 0 and 200 where the first class is the right one."""
    return float(tt.cross_entropy(tt.tensor([[0.0, 200.0]]), tt.tensor([0])).item())


@number(0, 0, ".0f")
def probability_in_float32() -> float:
    """The probability that softmax gives to that class in float32."""
    return float(tt.softmax(tt.tensor([0.0, 200.0])).data[0])


def _gradients(logit: float) -> tuple[float, float]:
    """The gradients for one logit of cross entropy and of the squared error, where the right answer is 1."""
    found = []
    for loss in (tt.binary_cross_entropy_with_logits, lambda x, t: tt.mse_loss(tt.sigmoid(x), t)):
        x: Any = tt_learn.Tensor([logit], requires_grad=True)
        loss(x, tt.tensor([1.0])).backward()
        found.append(abs(float(x.grad.data[0])))
    return found[0], found[1]


@number(0.99, 1, ".3f")
def gradient_of_cross_entropy() -> float:
    """The gradient of cross entropy at the logit -7."""
    return _gradients(-7.0)[0]


@number(0.001, 0.003, ".4f")
def gradient_of_squared_error() -> float:
    """That of the squared error of the probability."""
    return _gradients(-7.0)[1]


@number(1, 100, ".1f")
def formula_times_kernel() -> float:
    """How many times as long the formula of cross entropy takes as the kernel, on 256 rows of 4,096 logits."""
    formula, kernel = fastest(
        lambda: tt.cross_entropy.formula(LOGITS, TARGET), lambda: tt.cross_entropy.kernel(LOGITS, TARGET), rounds=7
    )
    return formula / kernel


@number(1.5, 100, ".1f")
def formula_memory_times_logits() -> float:
    """The peak of memory of the formula, in sizes of the logits."""
    return peak_bytes(lambda: tt.cross_entropy.formula(LOGITS, TARGET)) / LOGITS.nbytes


@number(0, 1, ".2f")
def kernel_memory_times_logits() -> float:
    """The peak of memory of the kernel, in sizes of the logits."""
    return peak_bytes(lambda: tt.cross_entropy.kernel(LOGITS, TARGET)) / LOGITS.nbytes


@number(1.6, 1.7, ".2f")
def gpt2_logits_gigabytes() -> float:
    """Gigabytes of the logits of 8 texts of 1,024 tokens with GPT-2's vocabulary."""
    return 8 * 1024 * 50257 * 4 / 1e9


@picture
def losses_by_probability() -> str:
    """The loss by the probability that the model gives to the right class."""
    p = np.linspace(0.01, 1, 100)
    entropy = [(x, -math.log(x)) for x in p.tolist()]
    squared = [(x, (1 - x) ** 2) for x in p.tolist()]
    return line_chart(
        {"cross entropy": entropy, "squared error": squared}, "", "probability of the right class", "loss"
    )
