"""PyTorch's `torch.optim`: the optimizers of Act II under PyTorch's path, and `lr_scheduler`.

import tt_learn.optim as optim
"""

from __future__ import annotations

from typing import Any

import tt_learn
from tt_learn.optim import lr_scheduler as lr_scheduler
from tt_learn.optimizers.optimizers import Optimizer as Optimizer


def __getattr__(name: str) -> Any:
    found = vars(tt_learn).get(name)
    if isinstance(found, type) and issubclass(found, Optimizer):
        return found
    raise AttributeError(f"tt_learn.optim has no {name}; docs/not-here.md lists what is left out")
