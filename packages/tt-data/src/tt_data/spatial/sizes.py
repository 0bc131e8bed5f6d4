"""Module 09, spatial: sizes that users give as a number, a pair or a word.

`windows.py` computes with pairs (rows, columns). This file makes them from `stride=2`, `padding="same"` and the like,
and raises the errors.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tt_core.engine.errors import ArgumentError, is_integer

Pair = tuple[int, int]
IntOrPair = int | Sequence[int]

_TUPLES = ("", "tuple of one", "pair of them")


def pair(value: IntOrPair, name: str, least: int = 1) -> Pair:
    """`value` as a pair (rows, columns); raises `ArgumentError` as `per_dimension` does.

    >>> pair(3, "stride"), pair((1, 2), "stride")
    ((3, 3), (1, 2))
    """
    rows, columns = per_dimension(value, 2, name, least)
    return rows, columns


def per_dimension(value: IntOrPair, dims: int, name: str, least: int = 1) -> tuple[int, ...]:
    """`value` for each of `dims` dimensions (1 or 2); raises `ArgumentError` unless it is one integer or that many."""
    parts = (value,) * dims if isinstance(value, (int, np.integer)) else value
    if not isinstance(parts, (tuple, list)) or len(parts) != dims or not all(is_integer(p, least) for p in parts):
        raise ArgumentError(f"{name} is an integer >= {least} or a {_TUPLES[dims]}, got {value!r}")
    return tuple(map(int, parts))


def reach_of(kernel: Pair, dilation: Pair) -> Pair:
    """Rows and columns from the first to the last element of a window.

    >>> reach_of((3, 2), (1, 4))
    (3, 5)
    """
    return dilation[0] * (kernel[0] - 1) + 1, dilation[1] * (kernel[1] - 1) + 1


def sides_of(padding: IntOrPair | str, reach: Pair, stride: Pair) -> tuple[Pair, Pair]:
    """Elements added (before, after) to rows and to columns, for windows that extend over `reach` elements.

    Raises `ArgumentError` for an unknown word, and for "same" with a stride, which makes the result smaller.
    """
    if not isinstance(padding, str):
        rows, columns = pair(padding, "padding", least=0)
        return (rows, rows), (columns, columns)
    if padding == "valid":
        return (0, 0), (0, 0)
    if padding != "same":
        raise ArgumentError(f"padding is a number, a pair, 'same' or 'valid', got {padding!r}")
    if stride != (1, 1):
        raise ArgumentError(f"padding 'same' needs stride 1, got {stride}")
    rows, columns = reach[0] - 1, reach[1] - 1  # an odd number is padded more at the end, as in PyTorch
    return (rows // 2, rows - rows // 2), (columns // 2, columns - columns // 2)


def too_large(size: Pair, kernel: Pair, dilation: Pair, sides: tuple[Pair, Pair]) -> ValueError:
    """The error for a kernel that is larger than the padded image."""
    reach = reach_of(kernel, dilation)
    padded = (size[0] + sum(sides[0]), size[1] + sum(sides[1]))
    spread = f" spread to {reach} by dilation {dilation}" if reach != kernel else ""
    around = f", {padded} with padding" if padded != size else ""
    return ValueError(f"kernel {kernel}{spread} is larger than the image {size}{around}")
