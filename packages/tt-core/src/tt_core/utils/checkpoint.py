"""PyTorch's `torch.utils.checkpoint`: recomputation of Act II, once `import tt_learn` has run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tt_core.engine.later import absent

if not TYPE_CHECKING:  # where it would hide misspelt names
    __getattr__ = absent(__name__)
