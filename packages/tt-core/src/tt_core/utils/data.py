"""PyTorch's `torch.utils.data`: datasets, samplers and data loaders of Act III, once `import tt_data` has run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tt_core.engine.later import absent

__path__: list[str] = []
"""Makes Python look for a submodule, and so ask `AbsentModules`, before it says "cannot import name"."""

if not TYPE_CHECKING:  # where it would hide misspelt names
    __getattr__ = absent(__name__)
