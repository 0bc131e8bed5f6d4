"""One dimension as an image of one row. Beside module 09, spatial."""

from __future__ import annotations

from collections.abc import Sequence

from tt_data.spatial.sizes import Pair, per_dimension

IntOrOne = int | Sequence[int]


def row(value: int | Sequence[int], name: str, least: int = 1) -> Pair:
    """A number, or a tuple of one, for an image of one row.

    >>> row(3, "stride"), row((2,), "padding", least=0)
    ((1, 3), (0, 2))
    """
    (columns,) = per_dimension(value, 1, name, least)
    return least, columns
