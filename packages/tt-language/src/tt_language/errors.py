"""The errors of Act IV that a user can act on, each one line."""

from __future__ import annotations

from tt_core.errors import TinyTorchError
from tt_learn.checkpoints import CheckpointError as CheckpointError


class TokenizerError(TinyTorchError, ValueError):
    """Text, ids or a tokenizer file that a tokenizer cannot use."""


class ConfigError(TinyTorchError, ValueError):
    """Sizes or options of which no model or generation can be made."""
