"""Part of module 11, embeddings: the scaling of rotary positions that a checkpoint's configuration describes.

A configuration names a kind (`rope_type`) and its numbers, by Hugging Face's names in config.json. A name that a kind
does not take is an error, since ignoring a setting would give other logits. The formulas are in `rope_scaling`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from tt_core.engine.dispatch import quietly
from tt_core.engine.errors import ArgumentError
from tt_language.embeddings.rope_scaling import (
    Scaled,
    default_frequencies,
    dynamic_frequencies,
    linear_frequencies,
    llama3_frequencies,
    longrope_frequencies,
    yarn_frequencies,
)
from tt_language.errors import short


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
        """Whether a text of `length` positions has other frequencies than a text that is one position shorter."""
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
    "default": _Kind(default_frequencies, {}),
    "linear": _Kind(linear_frequencies, {"factor": True}),
    "dynamic": _Kind(dynamic_frequencies, {"factor": True, _CONTEXT: True}),
    "llama3": _Kind(
        llama3_frequencies, dict.fromkeys(("factor", "low_freq_factor", "high_freq_factor", _CONTEXT), True)
    ),
    "yarn": _Kind(yarn_frequencies, {"factor": True, _CONTEXT: True, **dict.fromkeys(_YARN_OPTIONS, False)}),
    "longrope": _Kind(
        longrope_frequencies,
        {**dict.fromkeys(("short_factor", "long_factor", "factor", _CONTEXT), True), "attention_factor": False},
    ),
}
