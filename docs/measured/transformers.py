"""Numbers and pictures of lesson 13, transformers."""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np

import tt_core as tt
import tt_learn
import tt_perf  # noqa: F401 - brings the plugin kv-cache
from measured import fastest, number, picture
from tt_language import GPT, FeedForward, GPTConfig, TransformerBlock, generate, next_token_loss
from tt_learn.autograd import no_grad
from tt_learn.svg import line_chart

LENGTH = 64
CONFIG = GPTConfig(vocab_size=256, block_size=128, n_layer=4, n_head=4, n_embd=128)


@functools.cache
def model() -> GPT:
    """A small GPT, as it starts."""
    tt.manual_seed(0)
    return GPT(CONFIG).eval()


@number(7_000_000, 7_200_000, ",.0f")
def block_parameters() -> float:
    """The parameters of a block 768 wide."""
    return TransformerBlock(768, num_heads=12).num_parameters()


@number(0.64, 0.68, ".0%")
def feed_forward_share() -> float:
    """The share of the feed-forward layer in them."""
    return FeedForward(768).num_parameters() / block_parameters()


@number(5.5, 5.9, ".2f")
def first_loss_of_gpt() -> float:
    """The loss of a GPT before training on random ids."""
    ids = np.random.default_rng(0).integers(0, 256, (4, LENGTH + 1))
    with no_grad():
        return float(next_token_loss(model()(tt.tensor(ids[:, :-1])), tt.tensor(ids[:, 1:])).item())


@number(5.5, 5.6, ".2f")
def chance_loss() -> float:
    """log(256), the loss at chance."""
    return math.log(CONFIG.vocab_size)


@functools.cache
def token_seconds() -> tuple[float, float, float]:
    """Seconds for 64 tokens: in one pass, one by one, and one by one with a cache of keys and values."""
    ids = tt.tensor(np.random.default_rng(0).integers(0, 256, (1, LENGTH)))

    def one_pass() -> None:
        with no_grad():
            model()(ids)

    def one_by_one() -> None:
        generate(model(), [1], LENGTH, seed=0)

    def with_cache() -> None:
        with tt.use("kv-cache"):
            generate(model(), [1], LENGTH, seed=0)

    (whole,) = fastest(one_pass, rounds=30)
    slow, cached = fastest(one_by_one, with_cache, rounds=3)
    return whole, slow, cached


@number(3, 20000, ".0f")
def generation_times_pass() -> float:
    """How many times as long 64 tokens take one by one as in one pass."""
    return token_seconds()[1] / token_seconds()[0]


@number(1, 300, ".1f")
def no_cache_times_cache() -> float:
    """How many times as long generation takes without the cache as with it."""
    return token_seconds()[1] / token_seconds()[2]


def gradients_by_depth(residual: bool, depth: int = 24) -> list[float]:
    """The norm of the gradient at each of `depth` layers, with or without the sum around each."""
    tt.manual_seed(0)
    parts = [FeedForward(64) for _ in range(depth)]
    norms = [tt.LayerNorm(64) for _ in range(depth)]
    x: Any = tt_learn.Tensor(np.random.default_rng(0).standard_normal((32, 64)).astype(np.float32), requires_grad=True)
    seen = [x]
    for part, norm in zip(parts, norms):
        x = x + part(norm(x)) if residual else part(x)
        x.retain_grad()
        seen.append(x)
    (x * x).mean().backward()
    return [float(np.linalg.norm(each.grad.data)) for each in seen]


def kept_gradient(residual: bool) -> float:
    """The norm of the gradient at the first layer as a share of that at the last."""
    norms = gradients_by_depth(residual)
    return norms[0] / norms[-1]


@number(0.2, 10, ".1f")
def gradient_with_residuals() -> float:
    """With residuals: first layer, as a share of the last."""
    return kept_gradient(True)


@number(0, 1e-4, ".0e")
def gradient_without_residuals() -> float:
    """Without residuals: the same."""
    return kept_gradient(False)


@picture
def gradients_in_depth() -> str:
    """The gradient's norm at each of 24 layers, as a power of ten, relative to the last layer."""
    series = {}
    for name, residual in (("with residuals", True), ("without", False)):
        norms = gradients_by_depth(residual)
        series[name] = [(float(i), math.log10(n / norms[-1])) for i, n in enumerate(norms)]
    return line_chart(series, "", "layer", "log10 of the gradient")
