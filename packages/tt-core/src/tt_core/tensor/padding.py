"""Module 01, tensor: padding, which widens dimensions with a value, a mirror image, the edge or the other end."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from tt_core.engine.dispatch import Array, op
from tt_core.engine.errors import ArgumentError, shown


def _pairs(pad: Sequence[int], ndim: int) -> list[tuple[int, int]]:
    """(before, after) for each dimension, from PyTorch's list that begins with the last dimension."""
    pairs = [(pad[i], pad[i + 1]) for i in range(0, len(pad), 2)][::-1]
    return [(0, 0)] * (ndim - len(pairs)) + pairs


def _check_pad(x: Array, /, pad: Sequence[int], mode: str = "constant", value: float | None = None) -> None:
    if not isinstance(pad, (tuple, list)):
        raise TypeError(f"pad is a list of (before, after) pairs, last dimension first, got {shown(pad)}")
    if len(pad) % 2 or len(pad) > 2 * x.ndim:
        raise ValueError(f"pad has {len(pad)} entries; expected a (before, after) pair for at most {x.ndim} dimensions")
    if mode != "constant" and mode not in _PAD_MODES:
        raise ArgumentError(f"mode is one of constant, {', '.join(_PAD_MODES)}, got {mode!r}")
    for n, (before, after) in zip(x.shape, _pairs(pad, x.ndim)):
        if before + n + after < 0:
            raise ValueError(f"pad {tuple(pad)} cuts off more than there is")
        most = {"reflect": n - 1, "circular": n, "replicate": math.inf if n else 0}.get(mode, math.inf)
        if max(before, after) > most and mode != "constant":
            raise ValueError(f"mode {mode!r} widens a dimension of {n} by at most {most}, got {max(before, after)}")


@op(check=_check_pad)
def pad(x: Array, /, pad: Sequence[int], mode: str = "constant", value: float | None = None) -> Array:
    """Widens `x` by `pad`: (before, after) pairs from the last dimension backwards; a negative width cuts entries off.

    `mode` says what the new entries are: "constant" (`value`, 0 by default), "reflect" (mirrored at the edge, which is
    not repeated), "replicate" (the edge) or "circular" (from the other end). Raises `ArgumentError` for an unknown
    mode, `ShapeError` for a width that cuts off or mirrors more entries than there are, for more pairs than dimensions,
    and for an odd number of widths.

    >>> pad(np.array([[1, 2]]), (0, 1, 1, 0))
    tensor([[0, 0, 0],
            [1, 2, 0]])
    """
    if mode != "constant":
        return x[np.ix_(*padded_places(x.shape, pad, mode))]
    pairs = _pairs(pad, x.ndim)
    kept = tuple([slice(max(0, -before), n - max(0, -after)) for (before, after), n in zip(pairs, x.shape)])
    widths = [(max(0, before), max(0, after)) for before, after in pairs]
    return np.pad(x[kept], widths, constant_values=value or 0)


_PAD_MODES = {"reflect": "reflect", "replicate": "edge", "circular": "wrap"}
"""PyTorch's names and NumPy's."""


def padded_places(shape: tuple[int, ...], pad: Sequence[int], mode: str) -> list[Array]:
    """For each dimension, the index in `x` from which each entry of the padded dimension is taken.

    >>> padded_places((3,), (1, 2), "circular")
    [array([2, 0, 1, 2, 0, 1])]
    """
    return [_padded(n, before, after, mode) for n, (before, after) in zip(shape, _pairs(pad, len(shape)))]


def _padded(size: int, before: int, after: int, mode: str) -> Array:
    places = np.arange(size)
    if mode == "circular":  # negative widths first, because only the entries that are left are repeated
        places = places[max(0, -before) : size - max(0, -after)]
    widths, known = (max(0, before), max(0, after)), _PAD_MODES[mode]
    whole = np.pad(places, widths, mode=known)  # type: ignore[call-overload]
    return whole if mode == "circular" else whole[max(0, -before) : len(whole) - max(0, -after)]
