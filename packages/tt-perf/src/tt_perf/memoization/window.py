"""Part of module 17: the sliding window. Which positions a query sees, and in which slot each position is kept.

A query at position i sees the last `window` positions, itself included, and the first `keep` of the text:

    seen(i, j) = j <= i and (j > i - window or j < keep)

The first few stay because trained models pay much attention to them, whatever they say (Xiao et al. 2023,
arXiv:2309.17453). So `keep + window` slots are enough for a text of any length. Position j is kept in slot j where
j < keep, and otherwise in slot keep + (j - keep) % window, where it replaces the position that has just left the
window. Rows of a batch may stand at different positions; padding is kept nowhere.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from tt_core.engine.dispatch import Array
from tt_core.engine.errors import ShapeError
from tt_core.tensor import as_array
from tt_core.tensor.creation import from_numpy

if TYPE_CHECKING:
    from tt_core import Tensor


class Plan(NamedTuple):
    """Where the positions of one call of the model go."""

    slots: Array
    """(rows, new): the slot of each new position, -1 for one that is not kept."""
    before: int
    """How many slots were in use before."""
    used: int
    """How many slots are in use afterwards."""


def seen(query: Array, key: Array, window: int, keep: int) -> Array:
    """Whether the query at each position sees the key at each position; -1 is an empty slot. The arrays broadcast.

    >>> seen(np.array([[5]]), np.arange(6), window=3, keep=1).astype(int)
    array([[1, 0, 0, 1, 1, 1]])
    """
    return (key >= 0) & (key <= query) & ((key > query - window) | (key < keep))


def slot_of(positions: Array, window: int, keep: int) -> Array:
    """The slot that holds each position: the first `keep` have one each, all others share `window` slots in turn.

    >>> slot_of(np.arange(8), window=3, keep=2)
    array([0, 1, 2, 3, 4, 2, 3, 4])
    """
    return np.where(positions < keep, positions, keep + (positions - keep) % window)


class Slots:
    """The position and the column that each slot of each row holds, -1 where it is empty."""

    def __init__(self, window: int, keep: int) -> None:
        self.window, self.keep = window, keep
        self.columns_read = 0
        self.positions = np.empty((0, 0), np.int64)
        self.columns = self.positions

    def clear(self) -> None:
        """Forget everything."""
        self.columns_read = 0
        self.positions = self.columns = np.empty((0, 0), np.int64)

    def select(self, rows: list[int]) -> None:
        """Row i becomes what row `rows[i]` was."""
        self.positions, self.columns = self.positions[rows], self.columns[rows]

    @property
    def complete(self) -> bool:
        """Whether every position that was read is still there."""
        return bool((self.positions.max(1, initial=-1) < self.keep + self.window).all())

    def crop(self, columns: int) -> None:
        """Removes the positions of column `columns` and later."""
        late = self.columns >= columns
        self.positions[late] = self.columns[late] = -1
        self.columns_read = min(self.columns_read, columns)

    @property
    def used(self) -> int:
        """The number of slots up to the last one in use."""
        return int(np.flatnonzero(self.positions.max(0, initial=-1) >= 0).max(initial=-1)) + 1

    def read(self, positions: Array, real: Array, attn_mask: Tensor | Array | None) -> tuple[Plan, Any]:
        """Choose slots for new positions (rows, new), of which those not `real` are padding; note what they hold.

        Returns the plan, and the mask (rows, 1, new, keys) over the keys that layers get back; None where it hides
        nothing but later positions. `attn_mask` is about all columns that were read.
        """
        rows, new = positions.shape
        if not len(self.positions):
            self.positions, self.columns = np.full((2, rows, self.keep + self.window), -1, np.int64)
        before = self.used
        # columns count what was read, padding included; positions count the tokens of each row
        fresh = np.arange(self.columns_read, self.columns_read + new)
        keys = np.concatenate([self.positions[:, :before], np.where(real, positions, -1)], axis=1)
        columns = np.concatenate([self.columns[:, :before], np.broadcast_to(fresh, (rows, new))], axis=1)
        plan = Plan(self._place(positions, real, fresh), before, self.used)
        if new == 1:  # layers get back the slots themselves
            keys, columns = self.positions[:, : plan.used], self.columns[:, : plan.used]
        visible = seen(positions[:, :, None], keys[:, None, :], self.window, self.keep)[:, None]
        if attn_mask is not None:
            return plan, from_numpy(_combined(visible, as_array(attn_mask), columns, self.columns_read))
        # attention hides later keys by itself, without a mask to read
        causal = np.tri(new, keys.shape[1], keys.shape[1] - new, dtype=bool)
        return plan, None if (visible == causal).all() else from_numpy(visible)

    def _place(self, positions: Array, real: Array, fresh: Array) -> Array:
        """The slot of each new position, -1 for one that is padding or has left the window by the end of the call."""
        window, keep = self.window, self.keep
        # of a chunk longer than the window, only the last `window` positions are still needed
        last = np.where(real, positions, -1).max(1, keepdims=True)
        kept = real & ((positions < keep) | (positions > last - window))
        slots = slot_of(positions, window, keep)
        row, at = np.nonzero(kept)
        self.positions[row, slots[row, at]] = positions[row, at]
        self.columns[row, slots[row, at]] = fresh[at]
        self.columns_read += len(fresh)
        return np.where(kept, slots, -1)


def _combined(visible: Array, mask: Array, columns: Array, read: int) -> Array:
    """`visible` together with the user's mask, of which only the columns still in the window count."""
    if mask.ndim != 4 or mask.shape[-1] != read:
        raise ShapeError(
            f"kv-cache: attn_mask is (batch, heads, queries, {read}), for all positions that were read, "
            f"got {tuple(mask.shape)}"
        )
    wide = np.broadcast_to(mask, (len(visible), *mask.shape[1:]))
    where = np.maximum(columns, 0)[:, None, None, :]
    chosen = np.take_along_axis(wide, np.broadcast_to(where, (*wide.shape[:3], where.shape[-1])), -1)
    if chosen.dtype == np.bool_:
        return chosen & visible
    return np.where(visible, chosen, chosen.dtype.type(-np.inf))
