"""Part of module 06: `SGD` with the momentum that is usual."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from tt_core.engine.arguments import checked
from tt_learn.optimizers.optimizers import SGD


class SGDMomentum(SGD):
    """`SGD` with a default momentum of 0.9; raises as `SGD` does.

    >>> from tt_learn import Tensor
    >>> SGDMomentum([Tensor([1.0], requires_grad=True)], lr=0.1).param_groups[0]["momentum"]
    0.9
    """

    @checked
    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        momentum: float = 0.9,
        dampening: float = 0.0,
        weight_decay: float = 0.0,
        nesterov: bool = False,
        *,
        maximize: bool = False,
    ) -> None:
        super().__init__(params, lr, momentum, dampening, weight_decay, nesterov, maximize=maximize)
