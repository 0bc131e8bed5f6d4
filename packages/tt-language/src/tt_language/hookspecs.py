"""The question tt_language asks its plugins: does anybody remember keys and values between two calls of a model?

The specification is added to the one plugin manager when `tt_language` is imported. Nothing here, nor anywhere in this
act, remembers anything itself: without a plugin, `generate` runs the model over its whole window for each new token.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from tt_core.engine.hookspecs import hookspec

if TYPE_CHECKING:
    from tt_core.layers import Layer
    from tt_core.tensor import Tensor


class Past(Protocol):
    """What the attention layers of one model remember from one call to the next.

    It is handed to the model as `model(ids, past=past)`, and by the model to each of its attention layers. The
    tokens of a call stand behind those of the calls before it, so a query sees everything remembered and, of its own
    call, what is not after it.

    Two more attributes are optional. `beyond` names what happens to texts longer than the model's context: "crop" (the
    default: the older half is dropped and the rest read again), "error", or "window" (the cache itself drops old keys;
    positions go on, which only models without learned positions can do). `begin(ids, positions, attn_mask)` is called
    by the model once in each call, before its layers; it receives what the model was given (`positions` may be None)
    and returns the mask that the layers receive.
    """

    @property
    def length(self) -> int:
        """How many positions were read since the last `clear()`; the next token has this position."""

    def extend(self, layer: Layer, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Remember the keys and values of new tokens for one attention layer, and give back all of that layer's.

        Both are (batch, key-value heads, new positions, head size), as they enter the product: rotated, and not yet
        repeated for grouped queries. The results are (batch, key-value heads, all positions, head size), oldest first.
        Each attention layer (compare by identity) calls this once in a call of the model.
        """

    def select(self, rows: Sequence[int]) -> None:
        """Row i of the batch becomes what row `rows[i]` was: beams that fork, rows that are finished."""

    def clear(self) -> None:
        """Forget everything; `length` is 0 again. Happens when the window of a long text moves on."""


@hookspec(firstresult=True)
def tt_past(model: Layer, rows: int, length: int, prompts: Sequence[Sequence[int]]) -> Past | None:
    """A `Past` for one generation with `model`, or None. The first answer wins.

    `rows` is the number of texts in the batch and `length` the number of positions that will be needed at most, for
    those who allocate ahead. `prompts` are the token ids that the batch begins with, one list for each text; for beams,
    which start from one prompt, it is one. The model reads the last `block_size` ids of a longer prompt, unless
    `beyond` says otherwise. A `Past` that is not empty holds one row, with which all of these texts begin, and is
    shorter than each of them. Leave out of your function the arguments that you do not need.
    """
