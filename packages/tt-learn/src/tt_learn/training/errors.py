"""Part of module 07: the error of the trainer and its callbacks."""

from __future__ import annotations

from tt_core.engine.errors import ArgumentError


class TrainingError(ArgumentError):
    """A run that cannot start, continue or be resumed, and what to change."""
