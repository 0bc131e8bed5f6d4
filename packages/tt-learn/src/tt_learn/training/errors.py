"""Part of module 07: the errors of the trainer, its callbacks and its files."""

from __future__ import annotations

from tt_core.engine.errors import ArgumentError, TinyTorchError


class TrainingError(ArgumentError):
    """A run that cannot start, continue or be resumed, and what to change."""


class CheckpointError(TinyTorchError):
    """A checkpoint that is damaged, of another kind, or does not fit."""
