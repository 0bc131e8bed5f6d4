"""Numbers and pictures of lesson 12, attention."""

from __future__ import annotations

import functools
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from measured import fastest, number, picture
from measured._memory import peak_bytes
from tt_core.activations import softmax
from tt_language import attention_weights, scaled_dot_product_attention
from tt_language.attention import heat_map
from tt_learn.svg import line_chart


def queries(length: int, heads: int = 4, features: int = 64) -> Any:
    """Random vectors (1, heads, length, features)."""
    return np.random.default_rng(length).standard_normal((1, heads, length, features)).astype(np.float32)


def attend(x: Any, **options: Any) -> Any:
    """Attention of vectors to themselves, by the kernel."""
    return scaled_dot_product_attention.kernel(x, x, x, **options)


@functools.cache
def times() -> tuple[float, float]:
    """Seconds of attention over 512 tokens and over 1,024."""
    short, long = queries(512, heads=1), queries(1024, heads=1)
    return tuple(fastest(lambda: attend(short), lambda: attend(long), rounds=25))  # type: ignore[return-value]


@number(1.5, 40, ".1f")
def doubled_time() -> float:
    """How many times as long attention takes over twice as many tokens."""
    return times()[1] / times()[0]


def weights_megabytes(length: int) -> float:
    """Megabytes of the weights of four heads."""
    return 4 * length * length * 4 / 1e6


@number(67, 68, ".0f")
def weights_2048() -> float:
    """Megabytes of all weights of four heads over 2,048 tokens, as the op computes them."""
    x = queries(2048)
    return attention_weights.kernel(x, x).nbytes / 1e6


@number(2, 3, ".1f")
def values_2048() -> float:
    """Megabytes of the queries of four heads with 64 features over 2,048 tokens."""
    return queries(2048).nbytes / 1e6


@number(1.5, 100, ".0f")
def memory_formula_times_kernel() -> float:
    """How many times as much memory the formula takes as the kernel, over 2,048 tokens."""
    x = queries(2048)
    return peak_bytes(lambda: scaled_dot_product_attention.formula(x, x, x)) / peak_bytes(lambda: attend(x))


@number(0.1, 1.3, ".2f")
def causal_time() -> float:
    """The time of causal attention as a share of that of full attention, over 768 tokens."""
    x = queries(768, heads=1)
    causal, full = fastest(lambda: attend(x, is_causal=True), lambda: attend(x), rounds=25)
    return causal / full


D = 64
SCORES = (lambda rng: rng.standard_normal((1000, D)) @ rng.standard_normal((D, 32)))(np.random.default_rng(0))


@number(7.5, 8.5, ".1f")
def deviation_of_scores() -> float:
    """The standard deviation of the product of two random vectors of 64 features."""
    return float(SCORES.std())


@number(0.5, 1, ".0%")
def largest_weight_unscaled() -> float:
    """The mean of the largest of 32 weights without the scale."""
    return float(softmax.formula(SCORES).max(-1).mean())


@number(0.05, 0.4, ".0%")
def largest_weight_scaled() -> float:
    """The same, with it."""
    return float(softmax.formula(SCORES / np.sqrt(D)).max(-1).mean())


@picture
def growth_of_weights() -> str:
    """Megabytes of the weights of one layer with four heads by the length of the text."""
    lengths = (256, 512, 1024, 1536, 2048, 3072, 4096)
    points = [(float(n), weights_megabytes(n)) for n in lengths]
    values = [(float(n), queries(n).nbytes / 1e6) for n in lengths]
    return line_chart({"weights": points, "queries": values}, "", "tokens", "megabytes")


@picture
def a_dictionary() -> str:
    """A dictionary of four entries: each key is found by its own query, and a mixed query finds two."""
    keys = 6 * np.eye(4, dtype=np.float32)
    asked = np.stack([keys[0], keys[2], (keys[1] + keys[3]) / 2, 0 * keys[0]])
    weights = attention_weights(asked, keys)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "weights.svg"
        heat_map(weights, path, ["as key 1", "as key 3", "between 2 and 4", "0"], [f"key {i}" for i in range(1, 5)])
        return path.read_text(encoding="utf-8")
