"""The one error of automatic differentiation."""

from __future__ import annotations

from tt_core.engine.errors import TinyTorchError


class GradientError(TinyTorchError, RuntimeError):
    """A gradient that cannot be computed, and why. A gradient is never left out without this error."""
