"""The optimizers and schedules beyond module 06, and PyTorch's path `torch.optim` to all of them.

    import tt_learn.optim as optim

`adaptive.py` holds Adagrad, Adadelta, Adamax, NAdam, RAdam and Lion; `lbfgs.py` and `muon.py` one optimizer each;
`schedules.py` and `plateau.py` the schedules. `lr_scheduler` is PyTorch's path to the schedules.
"""

from __future__ import annotations

from typing import Any

import tt_learn
from tt_learn.optim import lr_scheduler as lr_scheduler
from tt_learn.optimizers import Optimizer as Optimizer


def __getattr__(name: str) -> Any:
    found = vars(tt_learn).get(name)
    if isinstance(found, type) and issubclass(found, Optimizer):
        return found
    raise AttributeError(f"tt_learn.optim has no {name}; docs/not-here.md lists what is left out")
