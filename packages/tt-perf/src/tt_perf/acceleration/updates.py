"""Part of module 18: steps of optimizers by the loops of `loops.py`, one pass over memory in place of ten."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from tt_core.engine.dispatch import Array
from tt_learn.optimizers import SGD, Adam, AdamW, Group, Optimizer, SGDMomentum, State, own_update
from tt_perf.acceleration.kernels import fits, number

Call = Callable[..., Any]


def updates_from(loop: dict[str, Call]) -> dict[type[Optimizer], Call]:
    """Ways to change a block of parameters, by the class of the optimizer whose `update` they replace."""

    def adam(optimizer: Adam, p: Array, g: Array, state: State, step: int, group: Group) -> None:
        m, v = state["exp_avg"], state["exp_avg_sq"]
        if group["amsgrad"] or group["maximize"] or not fits(p, g, m, v) or not p.flags.writeable:
            return own_update(type(optimizer))(optimizer, p, g, state, step, group)
        beta1, beta2 = group["betas"]
        correction = math.sqrt(1 - beta2**step)
        lr, eps = group["lr"] * correction / (1 - beta1**step), group["eps"] * correction
        apart = isinstance(optimizer, AdamW)  # its weight decay acts on the weights, not through the gradient
        decay = 0.0 if apart else group["weight_decay"]
        shrink = 1 - group["lr"] * group["weight_decay"] if apart else 1.0
        arrays = [x.reshape(-1) for x in (p, g, m, v)]
        loop["adam"](*arrays, *map(number, (1 - beta1, beta2, 1 - beta2, eps, lr, decay, shrink)))

    def sgd(optimizer: SGD, p: Array, g: Array, state: State, step: int, group: Group) -> None:
        plain = group["momentum"] and not (group["dampening"] or group["nesterov"] or group["maximize"])
        if not plain or step == 1 or not fits(p, g, state["momentum_buffer"]) or not p.flags.writeable:
            return own_update(type(optimizer))(optimizer, p, g, state, step, group)
        arrays = [x.reshape(-1) for x in (p, g, state["momentum_buffer"])]
        loop["sgd_momentum"](*arrays, *map(number, (group["momentum"], group["lr"], group["weight_decay"])))

    return {Adam: adam, AdamW: adam, SGD: sgd, SGDMomentum: sgd}
