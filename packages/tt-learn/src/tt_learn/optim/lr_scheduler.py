"""PyTorch's `torch.optim.lr_scheduler`: all schedules under PyTorch's path."""

from __future__ import annotations

from typing import Any

import tt_learn
from tt_learn.optimizers import Scheduler as Scheduler

LRScheduler = Scheduler


def __getattr__(name: str) -> Any:
    found = vars(tt_learn).get(name)
    if isinstance(found, type) and (issubclass(found, Scheduler) or name.endswith(("LR", "Plateau"))):
        return found
    raise AttributeError(f"tt_learn.optim.lr_scheduler has no {name}; docs/not-here.md lists what is left out")
