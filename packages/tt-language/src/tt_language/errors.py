"""The errors of Act IV that a user can act on, each one line."""

from __future__ import annotations

from tt_core.errors import TinyTorchError


class TokenizerError(TinyTorchError, ValueError):
    """Text, ids or a tokenizer file that a tokenizer cannot use."""
