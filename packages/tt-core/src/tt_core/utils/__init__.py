"""PyTorch's `torch.utils`: `data` and `checkpoint`, which hold what later acts bring once these are imported."""

from __future__ import annotations

from tt_core.utils import checkpoint as checkpoint
from tt_core.utils import data as data
