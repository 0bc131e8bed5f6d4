"""The hook of tt_language: a plugin may keep keys and values between two calls of a model (a KV cache).

The specification is added to the plugin manager when `tt_language` is imported. This act has no cache: without a
plugin, `generate` runs the model over its whole window for each new token.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from tt_core.engine.hookspecs import hookspec

if TYPE_CHECKING:
    from tt_core.layers import Layer
    from tt_core.tensor import Tensor


class Past(Protocol):
    """Keys and values of the attention layers of one model, kept from one call to the next.

    It is passed to the model as `model(ids, past=past)`, and by the model to each attention layer. The tokens of a call
    follow those of earlier calls, so a query sees all earlier tokens and those of its own call up to itself.

    Two more attributes are optional. `beyond` names what happens to texts longer than the model's context: "crop" (the
    default: the older half is dropped and the rest read again), "error", or "window" (the cache itself drops old keys;
    positions go on, which only models without learned positions can do). `begin(ids, positions, attn_mask)` is called
    by the model once in each call, before its layers; it receives what the model was given (`positions` may be None)
    and returns the mask that the layers receive.
    """

    @property
    def length(self) -> int:
        """The number of positions that were read since the last `clear()`; the next token has this position."""

    def extend(self, layer: Layer, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Keep the keys and values of new tokens for one attention layer; returns all of that layer.

        `k` and `v` are (batch, key-value heads, new positions, head size), rotated and not yet repeated for grouped
        queries. The results are (batch, key-value heads, all positions, head size), oldest first. Each attention layer
        calls this once in a call of the model; layers are compared by identity.
        """

    def select(self, rows: Sequence[int]) -> None:
        """Row i of the batch becomes what row `rows[i]` was, as beams fork and rows end."""

    def clear(self) -> None:
        """Drop everything, so that `length` is 0 again; called when the window of a long text moves."""


@hookspec(firstresult=True)
def tt_past(model: Layer, rows: int, length: int, prompts: Sequence[Sequence[int]]) -> Past | None:
    """A `Past` for one generation with `model`, or None. The first answer wins.

    `rows` is the number of texts in the batch, `length` the largest number of positions that will be needed, for a
    cache that allocates ahead. `prompts` are the token ids at the start, one list per text, or one list for the beams
    of a text. The model reads the last `block_size` ids of a longer prompt, unless `beyond` is not "crop". A `Past`
    that is not empty holds one row, with which all of these texts begin, and is shorter than each of them. Your
    function may leave out arguments that it does not need.
    """
