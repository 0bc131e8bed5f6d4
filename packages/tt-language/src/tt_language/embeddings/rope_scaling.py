"""Part of module 11, embeddings: the frequencies of rotary positions, and how checkpoints stretch them to longer texts.

A configuration names a kind (`rope_type`) and its numbers, by Hugging Face's names in config.json. A name that a kind
does not take is an error, since ignoring a setting would give other logits. The rotation itself is in `rotary`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from tt_core.engine.dispatch import Array, quietly
from tt_core.engine.errors import ArgumentError
from tt_language.errors import short

Scaled = tuple[Array, float]
"""Frequencies (dim / 2,) and the factor of cosines and sines."""


def plain_frequencies(dim: int, theta: float) -> Array:
    """`theta ** (-2i / dim)` for each pair i, float32 (dim / 2,).

    Computed in float32, as in the code that trained the checkpoints: at position 4000, angles are off by 1e-4.

    >>> plain_frequencies(4, 100.0)
    array([1. , 0.1], dtype=float32)
    """
    return 1 / np.float32(theta) ** (np.arange(0, dim, 2, dtype=np.float32) / np.float32(dim))


@dataclass(frozen=True)
class RopeScaling:
    """A kind of scaling and its numbers, which `read` checks."""

    kind: str
    numbers: Mapping[str, Any]

    @classmethod
    def read(cls, scaling: Mapping[str, Any], dim: int, theta: float, max_length: int) -> RopeScaling:
        """The scaling that a configuration describes, for heads of `dim` features and texts of up to `max_length`.

        Raises `ArgumentError` for an unknown kind, a name that the kind does not take, and a number out of range.

        >>> RopeScaling.read({"rope_type": "linear", "factor": 2.0}, 8, 10000.0, 2048).numbers
        {'factor': 2.0}
        """
        if not isinstance(scaling, Mapping):
            raise ArgumentError(f"a scaling of rotary positions is a mapping, got {short(scaling)}")
        kind = scaling.get("rope_type", scaling.get("type", "default"))
        if not isinstance(kind, str) or kind not in _KINDS:
            raise ArgumentError(f"rope_type is {short(kind)}, expected one of {', '.join(_KINDS)}")
        if kind in ("dynamic", "yarn") and (dim <= 2 or theta <= 1):
            raise ArgumentError(f"rope_type {kind} needs more than 2 features per head and a theta above 1")
        given = {name: x for name, x in scaling.items() if name not in ("rope_type", "type") and x is not None}
        for name, value in given.items():
            _check_number(kind, name, value, dim)
        return cls(kind, _complete(kind, given, max_length))

    def frequencies(self, dim: int, theta: float, length: int) -> Scaled:
        """Frequencies and factor for a text of `length` positions."""
        scaled: Scaled = quietly(_KINDS[self.kind].compute, dim, theta, length, **self.numbers)
        return scaled

    def changes_at(self, length: int) -> bool:
        """Whether a text of `length` positions has other frequencies than one that is a position shorter."""
        original = self.numbers.get("original_max_position_embeddings", 0)
        if self.kind == "longrope":
            return bool(length == original + 1)
        return self.kind == "dynamic" and length > original


def _check_number(kind: str, name: str, value: Any, dim: int) -> None:
    takes = _KINDS[kind].takes
    if name not in takes:
        raise ArgumentError(f"rope_type {kind} does not take {short(name)}; it takes {', '.join(takes) or 'none'}")
    fine, expected = _CHECKS.get(name, _POSITIVE)
    if not fine(value, dim):
        raise ArgumentError(f"rope_type {kind} needs {expected} {name}, got {short(value)}")


def _complete(kind: str, given: dict[str, Any], max_length: int) -> dict[str, Any]:
    """The numbers, completed by those that follow from the context."""
    takes = _KINDS[kind].takes
    if kind in ("yarn", "longrope") and _CONTEXT in given:
        given.setdefault("factor", max_length / given[_CONTEXT])
    if _CONTEXT in takes:
        given.setdefault(_CONTEXT, max_length)
    missing = [name for name in takes if takes[name] and name not in given]
    if missing:
        expected = _CHECKS.get(missing[0], _POSITIVE)[1]
        raise ArgumentError(f"rope_type {kind} needs {expected} {missing[0]}, got None")
    return given


# --- the kinds


def _default(dim: int, theta: float, length: int) -> Scaled:
    return plain_frequencies(dim, theta), 1.0


def _linear(dim: int, theta: float, length: int, factor: float) -> Scaled:
    return plain_frequencies(dim, theta) / np.float32(factor), 1.0


def _dynamic(dim: int, theta: float, length: int, factor: float, original_max_position_embeddings: int) -> Scaled:
    """A base that grows with the text beyond the context of training ("NTK-aware")."""
    beyond = max(1.0, factor * length / original_max_position_embeddings - (factor - 1))
    return plain_frequencies(dim, theta * beyond ** (dim / (dim - 2))), 1.0


def _llama3(
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
    turns = original_max_position_embeddings * frequency / (2 * math.pi)  # per context of training
    width = max(high_freq_factor - low_freq_factor, 1e-9)
    blend = np.clip((turns - low_freq_factor) / width, 0, 1)
    return ((1 - blend) * frequency / factor + blend * frequency).astype(np.float32), 1.0


def _yarn(
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
    if attention_factor is None:
        both = bool(mscale and mscale_all_dim)
        attention_factor = _yarn_magnitude(factor, mscale if both else 1)
        attention_factor /= _yarn_magnitude(factor, mscale_all_dim) if both else 1.0

    def pair_with(turns: float) -> float:
        return dim * math.log(original_max_position_embeddings / (turns * 2 * math.pi)) / (2 * math.log(theta))

    low, high = pair_with(beta_fast), pair_with(beta_slow)
    if truncate:
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, dim - 1)
    high += 0.001 if high == low else 0
    ramp = np.clip((np.arange(dim // 2, dtype=np.float32) - np.float32(low)) / np.float32(high - low), 0, 1)
    frequency = plain_frequencies(dim, theta)
    return (frequency / np.float32(factor) * ramp + frequency * (1 - ramp)).astype(np.float32), attention_factor


def _yarn_magnitude(factor: float, mscale: float) -> float:
    return 1.0 if factor <= 1 else 0.1 * mscale * math.log(factor) + 1.0


def _longrope(
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
        attention_factor = 1.0 if factor <= 1 else math.sqrt(1 + math.log(factor) / math.log(original))
    factors = np.array(long_factor if length > original else short_factor, np.float32)
    return plain_frequencies(dim, theta) / factors, attention_factor


@dataclass(frozen=True)
class _Kind:
    compute: Callable[..., Scaled]
    takes: Mapping[str, bool]
    """The names it takes, True for those that are required."""


def _is_positive(value: Any, dim: int) -> bool:
    return type(value) in (int, float) and 0 < value < math.inf


def _is_context(value: Any, dim: int) -> bool:
    return type(value) is int and 1 < value < 1 << 40


def _is_flag(value: Any, dim: int) -> bool:
    return isinstance(value, bool)


def _are_factors(value: Any, dim: int) -> bool:
    return isinstance(value, (list, tuple)) and len(value) == dim // 2 and all(_is_positive(x, dim) for x in value)


_POSITIVE = (_is_positive, "a positive")
_CHECKS: dict[str, tuple[Callable[[Any, int], bool], str]] = {
    "original_max_position_embeddings": (_is_context, "an integer above 1 as"),
    "truncate": (_is_flag, "true or false as"),
    "short_factor": (_are_factors, "a positive number for each pair of features as"),
    "long_factor": (_are_factors, "a positive number for each pair of features as"),
}
_YARN_OPTIONS = ("attention_factor", "beta_fast", "beta_slow", "mscale", "mscale_all_dim", "truncate")
_CONTEXT = "original_max_position_embeddings"
_KINDS = {
    "default": _Kind(_default, {}),
    "linear": _Kind(_linear, {"factor": True}),
    "dynamic": _Kind(_dynamic, {"factor": True, _CONTEXT: True}),
    "llama3": _Kind(_llama3, dict.fromkeys(("factor", "low_freq_factor", "high_freq_factor", _CONTEXT), True)),
    "yarn": _Kind(_yarn, {"factor": True, _CONTEXT: True, **dict.fromkeys(_YARN_OPTIONS, False)}),
    "longrope": _Kind(
        _longrope,
        {**dict.fromkeys(("short_factor", "long_factor", "factor", _CONTEXT), True), "attention_factor": False},
    ),
}
