"""Part of module 11, embeddings: the frequencies of rotary positions, and how checkpoints stretch them to longer texts.

Each kind of scaling is a formula that takes the features of a head, the base, the length of the text and the kind's
own numbers, and returns the frequencies and a factor for the cosines and sines. Which kind a checkpoint uses is read
in `rope_config`; the rotation itself is in `rotary`.
"""

from __future__ import annotations

import math

import numpy as np

from tt_core.engine.dispatch import Array

Scaled = tuple[Array, float]
"""Frequencies (dim / 2,) and the factor of cosines and sines."""


def plain_frequencies(dim: int, theta: float) -> Array:
    """`theta ** (-2i / dim)` for each pair i, float32 (dim / 2,).

    Computed in float32, as in the code that trained the checkpoints: at position 4000, angles are off by 1e-4.

    >>> plain_frequencies(4, 100.0)
    array([1. , 0.1], dtype=float32)
    """
    return 1 / np.float32(theta) ** (np.arange(0, dim, 2, dtype=np.float32) / np.float32(dim))


# --- the kinds: the numbers have the names of config.json, so that it can be passed on as it is


def default_frequencies(dim: int, theta: float, length: int) -> Scaled:
    """The frequencies without scaling."""
    return plain_frequencies(dim, theta), 1.0


def linear_frequencies(dim: int, theta: float, length: int, factor: float) -> Scaled:
    """Divides all frequencies by `factor`, which squeezes a longer text into the positions of training."""
    return plain_frequencies(dim, theta) / np.float32(factor), 1.0


def dynamic_frequencies(
    dim: int, theta: float, length: int, factor: float, original_max_position_embeddings: int
) -> Scaled:
    """Raises the base for texts beyond the context of training ("NTK-aware" scaling)."""
    # dim / (dim - 2) makes the slowest pair slower by exactly the factor, and leaves the fastest as it is
    beyond = max(1.0, factor * length / original_max_position_embeddings - (factor - 1))
    return plain_frequencies(dim, theta * beyond ** (dim / (dim - 2))), 1.0


def llama3_frequencies(
    dim: int,
    theta: float,
    length: int,
    factor: float,
    low_freq_factor: float,
    high_freq_factor: float,
    original_max_position_embeddings: int,
) -> Scaled:
    """Divides slow frequencies by `factor`, keeps fast ones, and blends those between (Llama 3.1)."""
    frequency = plain_frequencies(dim, theta)
    # a pair that turns often tells near tokens apart and must stay; one that never completed a turn in training would
    # reach angles that the model has not seen
    turns = original_max_position_embeddings * frequency / (2 * math.pi)  # (dim / 2,), in the context of training
    width = max(high_freq_factor - low_freq_factor, 1e-9)
    blend = np.clip((turns - low_freq_factor) / width, 0, 1)
    return ((1 - blend) * frequency / factor + blend * frequency).astype(np.float32), 1.0


def yarn_frequencies(
    dim: int,
    theta: float,
    length: int,
    factor: float,
    original_max_position_embeddings: int,
    attention_factor: float | None = None,
    beta_fast: float = 32,
    beta_slow: float = 1,
    mscale: float = 0,
    mscale_all_dim: float = 0,
    truncate: bool = True,
) -> Scaled:
    """Divides slow frequencies by `factor`, keeps fast ones, and blends the pairs between in a ramp.

    Peng et al. 2023 (arXiv:2309.00071). `beta_fast` and `beta_slow` are the turns at the ends of the ramp.
    """
    if attention_factor is None:  # longer texts blur softmax, which sharper scores undo
        both = bool(mscale and mscale_all_dim)
        attention_factor = _yarn_magnitude(factor, mscale if both else 1)
        attention_factor /= _yarn_magnitude(factor, mscale_all_dim) if both else 1.0

    def pair_with(turns: float) -> float:  # the index of the pair with this many turns in training
        return dim * math.log(original_max_position_embeddings / (turns * 2 * math.pi)) / (2 * math.log(theta))

    low, high = pair_with(beta_fast), pair_with(beta_slow)
    if truncate:
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, dim - 1)
    high += 0.001 if high == low else 0  # the ramp must not divide by 0
    ramp = np.clip((np.arange(dim // 2, dtype=np.float32) - np.float32(low)) / np.float32(high - low), 0, 1)
    frequency = plain_frequencies(dim, theta)
    # ramp (dim / 2,): 0 keeps a frequency, 1 divides it by the factor
    return (frequency / np.float32(factor) * ramp + frequency * (1 - ramp)).astype(np.float32), attention_factor


def _yarn_magnitude(factor: float, mscale: float) -> float:
    return 1.0 if factor <= 1 else 0.1 * mscale * math.log(factor) + 1.0


def longrope_frequencies(
    dim: int,
    theta: float,
    length: int,
    short_factor: list[float],
    long_factor: list[float],
    factor: float,
    original_max_position_embeddings: int,
    attention_factor: float | None = None,
) -> Scaled:
    """Divides each frequency by a factor of its own, from one list up to the original context and from another beyond.

    Ding et al. 2024 (arXiv:2402.13753).
    """
    original = original_max_position_embeddings
    if attention_factor is None:
        # softmax over more keys is flatter: its scores grow with the logarithm of the length
        attention_factor = 1.0 if factor <= 1 else math.sqrt(1 + math.log(factor) / math.log(original))
    # a list is searched for on long texts, so short ones need their own to stay as good as before
    factors = np.array(long_factor if length > original else short_factor, np.float32)
    return plain_frequencies(dim, theta) / factors, attention_factor
