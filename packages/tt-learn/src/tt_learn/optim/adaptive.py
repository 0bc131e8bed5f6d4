"""More optimizers with a step size for each element: Adagrad, Adadelta, Adamax, NAdam, RAdam and Lion.

Arguments, defaults, numerics and the names of the state are PyTorch's. Each `update` works in place, with the helpers
of `tt_learn/kernels/optimizers.py`; the formula is in the docstring of its class.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np

from tt_core.engine.arguments import checked
from tt_core.engine.dispatch import Array
from tt_core.engine.errors import is_number
from tt_learn.kernels.optimizers import decay_weights, descended, lerp, mean_of_squares, step_along
from tt_learn.optimizers.base import Optimizer, as_tuple, at_least_zero
from tt_learn.optimizers.blocks import State
from tt_learn.optimizers.saving import Group, OptimizerError


def _after_weight_decay(p: Array, g: Array, group: Group, out: Array) -> Array:
    """The gradient to descend; weight decay goes through it, or acts on the weights if it is decoupled."""
    if not group["decoupled_weight_decay"]:
        return descended(p, g, group, out)
    decay_weights(p, group)
    return np.negative(g, out=out) if group["maximize"] else g


class NAdam(Optimizer):
    """Adam with Nesterov momentum (Dozat 2016, openreview.net/forum?id=OM0jvwB8jIp57ZJjtNEZ).

    With m and v as in `Adam`, mu(t) = beta1 (1 - 0.96^(t momentum_decay) / 2), M(t) the product of mu(1) to mu(t),
    and v' = v / (1 - beta2^t):
    p -= lr ((1 - mu(t)) g / (1 - M(t)) + mu(t + 1) m / (1 - M(t + 1))) / (sqrt(v') + eps).
    `decoupled_weight_decay` decays the weights as `AdamW` does. Raises `OptimizerError` for negative options and
    `betas` outside [0, 1).

    >>> from tt_learn import Tensor
    >>> w = Tensor([1.0], requires_grad=True)
    >>> optimizer = NAdam([w], lr=0.1)
    >>> (w * w).sum().backward()
    >>> optimizer.step()
    >>> w
    tensor([0.8944], requires_grad=True)
    """

    number_names = ("mu_product",)

    @checked
    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 2e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        momentum_decay: float = 4e-3,
        decoupled_weight_decay: bool = False,
        *,
        maximize: bool = False,
    ) -> None:
        options = {"lr": lr, "betas": as_tuple(betas), "eps": eps, "weight_decay": weight_decay}
        options |= {"momentum_decay": momentum_decay, "decoupled_weight_decay": decoupled_weight_decay}
        super().__init__(params, {**options, "maximize": maximize})

    def check(self, group: Group) -> None:
        super().check(group)
        at_least_zero(self.name, group, "momentum_decay")

    def state_names(self, group: Group) -> tuple[str, ...]:
        return ("exp_avg", "exp_avg_sq")

    def update(self, p: Array, g: Array, state: State, step: int, group: Group) -> None:
        w, out = state.work
        g, lr, (beta1, beta2) = _after_weight_decay(p, g, group, out), group["lr"], group["betas"]
        m, v, mu, mu_next = state["exp_avg"], state["exp_avg_sq"], _mu(step, group), _mu(step + 1, group)
        product = state.numbers["mu_product"] = state.numbers.get("mu_product", 1.0) * mu
        lerp(m, g, 1 - beta1, w)
        mean_of_squares(v, g, beta2, w)
        direction = np.multiply(g, (1 - mu) / (1 - product), out=out)
        np.add(direction, np.multiply(m, mu_next / (1 - product * mu_next), out=w), out=direction)
        np.sqrt(np.divide(v, 1 - beta2**step, out=w), out=w)
        np.add(w, group["eps"], out=w)
        step_along(p, np.divide(direction, w, out=out), lr, w)


def _mu(step: int, group: Group) -> float:
    return float(group["betas"][0] * (1 - 0.5 * 0.96 ** (step * group["momentum_decay"])))


class RAdam(Optimizer):
    """Adam whose first steps, where v is still uncertain, are plain momentum (Liu et al. 2020, arXiv:1908.03265).

    With m and v as in `Adam`, m' = m / (1 - beta1^t), R = 2 / (1 - beta2) - 1 and r = R - 2 t beta2^t / (1 - beta2^t):
    p -= lr m' while r <= 5, then p -= lr m' sqrt(1 - beta2^t) / (sqrt(v) + eps)
    sqrt((r - 4) (r - 2) R / ((R - 4) (R - 2) r)). `decoupled_weight_decay` decays the weights as `AdamW` does.
    Raises `OptimizerError` for negative options and `betas` outside [0, 1).

    >>> from tt_learn import Tensor
    >>> w = Tensor([1.0], requires_grad=True)
    >>> optimizer = RAdam([w], lr=0.1)
    >>> (w * w).sum().backward()
    >>> optimizer.step()
    >>> w
    tensor([0.8], requires_grad=True)
    """

    @checked
    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        decoupled_weight_decay: bool = False,
        *,
        maximize: bool = False,
    ) -> None:
        options = {"lr": lr, "betas": as_tuple(betas), "eps": eps, "weight_decay": weight_decay}
        super().__init__(params, {**options, "decoupled_weight_decay": decoupled_weight_decay, "maximize": maximize})

    def state_names(self, group: Group) -> tuple[str, ...]:
        return ("exp_avg", "exp_avg_sq")

    def update(self, p: Array, g: Array, state: State, step: int, group: Group) -> None:
        w, out = state.work
        g, (beta1, beta2) = _after_weight_decay(p, g, group, out), group["betas"]
        m, v, lr = state["exp_avg"], state["exp_avg_sq"], group["lr"] / (1 - beta1**step)
        lerp(m, g, 1 - beta1, w)
        mean_of_squares(v, g, beta2, w)
        most, bias = 2 / (1 - beta2) - 1, 1 - beta2**step
        length = most - 2 * step * beta2**step / bias  # how many gradients v is a mean of
        if length <= 5:
            return step_along(p, m, lr, w)
        rectified = (length - 4) * (length - 2) * most / ((most - 4) * (most - 2) * length)
        np.sqrt(v, out=w)
        np.add(w, group["eps"], out=w)
        step_along(p, np.divide(m, w, out=out), lr * math.sqrt(bias * rectified), w)


class Adamax(Optimizer):
    """Adam with the largest gradient in place of the root mean square (Kingma and Ba 2015, arXiv:1412.6980, section 7).

    m = beta1 m + (1 - beta1) g, u = max(beta2 u, |g| + eps) and p -= lr / (1 - beta1^step) m / u. Raises
    `OptimizerError` for negative options and `betas` outside [0, 1).

    >>> from tt_learn import Tensor
    >>> w = Tensor([1.0], requires_grad=True)
    >>> optimizer = Adamax([w], lr=0.1)
    >>> (w * w).sum().backward()
    >>> optimizer.step()
    >>> w
    tensor([0.9], requires_grad=True)
    """

    @checked
    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 2e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        *,
        maximize: bool = False,
    ) -> None:
        options = {"lr": lr, "betas": as_tuple(betas), "eps": eps, "weight_decay": weight_decay}
        super().__init__(params, {**options, "maximize": maximize})

    def state_names(self, group: Group) -> tuple[str, ...]:
        return ("exp_avg", "exp_inf")

    def update(self, p: Array, g: Array, state: State, step: int, group: Group) -> None:
        w, out = state.work
        g, (beta1, beta2) = descended(p, g, group, out), group["betas"]
        m, u = state["exp_avg"], state["exp_inf"]
        lerp(m, g, 1 - beta1, w)
        np.multiply(u, beta2, out=u)
        np.abs(g, out=w)
        np.maximum(u, np.add(w, group["eps"], out=w), out=u)
        step_along(p, np.divide(m, u, out=out), group["lr"] / (1 - beta1**step), w)


class Adadelta(Optimizer):
    """Steps in the units of the parameters, without a learning rate to tune (Zeiler 2012, arXiv:1212.5701).

    v = rho v + (1 - rho) g^2, d = sqrt(a + eps) / sqrt(v + eps) g, a = rho a + (1 - rho) d^2 and
    p -= lr d. Raises `OptimizerError` for negative options and a `rho` outside [0, 1].

    >>> from tt_learn import Tensor
    >>> w = Tensor([1.0], requires_grad=True)
    >>> optimizer = Adadelta([w], eps=0.5)
    >>> (w * w).sum().backward()
    >>> optimizer.step()
    >>> w
    tensor([-0.4907], requires_grad=True)
    """

    @checked
    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1.0,
        rho: float = 0.9,
        eps: float = 1e-6,
        weight_decay: float = 0.0,
        *,
        maximize: bool = False,
    ) -> None:
        options = {"lr": lr, "rho": rho, "eps": eps, "weight_decay": weight_decay, "maximize": maximize}
        super().__init__(params, options)

    def check(self, group: Group) -> None:
        super().check(group)
        if not (is_number(group["rho"]) and 0 <= group["rho"] <= 1):
            raise OptimizerError(f"Adadelta: rho is {group['rho']}, expected a number in [0, 1]")

    def state_names(self, group: Group) -> tuple[str, ...]:
        return ("square_avg", "acc_delta")

    def update(self, p: Array, g: Array, state: State, step: int, group: Group) -> None:
        w, out = state.work
        g, v, a = descended(p, g, group, out), state["square_avg"], state["acc_delta"]
        mean_of_squares(v, g, group["rho"], w)
        direction = np.multiply(g, np.sqrt(np.add(a, group["eps"], out=w), out=w), out=out)
        np.sqrt(np.add(v, group["eps"], out=w), out=w)
        np.divide(direction, w, out=direction)
        mean_of_squares(a, direction, group["rho"], w)
        step_along(p, direction, group["lr"], w)


class Adagrad(Optimizer):
    """Takes smaller steps where gradients have been large (Duchi, Hazan, Singer 2011).

    s += g^2 and p -= lr / (1 + (step - 1) lr_decay) g / (sqrt(s) + eps), where s starts at `initial_accumulator_value`.
    Raises `OptimizerError` for negative options.

    >>> from tt_learn import Tensor
    >>> w = Tensor([1.0], requires_grad=True)
    >>> adagrad = Adagrad([w], lr=0.1)
    >>> (w * w).sum().backward()
    >>> adagrad.step()
    >>> w
    tensor([0.9], requires_grad=True)
    """

    @checked
    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-2,
        lr_decay: float = 0.0,
        weight_decay: float = 0.0,
        initial_accumulator_value: float = 0.0,
        eps: float = 1e-10,
        *,
        maximize: bool = False,
    ) -> None:
        options = {"lr": lr, "lr_decay": lr_decay, "weight_decay": weight_decay, "eps": eps}
        start = initial_accumulator_value
        super().__init__(params, {**options, "initial_accumulator_value": start, "maximize": maximize})

    def check(self, group: Group) -> None:
        super().check(group)
        at_least_zero(self.name, group, "lr_decay", "initial_accumulator_value")

    def state_names(self, group: Group) -> tuple[str, ...]:
        return ("sum",)

    def update(self, p: Array, g: Array, state: State, step: int, group: Group) -> None:
        w, out = state.work
        g, s = descended(p, g, group, out), state["sum"]
        if step == 1:
            s.fill(group["initial_accumulator_value"])
        np.add(s, np.multiply(g, g, out=w), out=s)
        np.sqrt(s, out=w)
        np.add(w, group["eps"], out=w)
        np.divide(g, w, out=w)
        step_along(p, w, group["lr"] / (1 + (step - 1) * group["lr_decay"]), w)


class Lion(Optimizer):
    """Steps of one size, in the direction of a running mean's sign (Chen et al. 2023, arXiv:2302.06675).

    p -= lr (sign(beta1 m + (1 - beta1) g) + weight_decay p), then m = beta2 m + (1 - beta2) g. One
    state array, so less memory than Adam; the paper advises a third to a tenth of Adam's `lr`. Raises as `Adam` does.

    >>> from tt_learn import Tensor
    >>> w = Tensor([1.0], requires_grad=True)
    >>> optimizer = Lion([w], lr=0.1)
    >>> (w * w).sum().backward()
    >>> optimizer.step()
    >>> w
    tensor([0.9], requires_grad=True)
    """

    @checked
    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-4,
        betas: tuple[float, float] = (0.9, 0.99),
        weight_decay: float = 0.0,
        *,
        maximize: bool = False,
    ) -> None:
        super().__init__(
            params, {"lr": lr, "betas": as_tuple(betas), "weight_decay": weight_decay, "maximize": maximize}
        )

    def state_names(self, group: Group) -> tuple[str, ...]:
        return ("exp_avg",)

    def update(self, p: Array, g: Array, state: State, step: int, group: Group) -> None:
        w, out = state.work
        g = np.negative(g, out=out) if group["maximize"] else g
        m, (beta1, beta2) = state["exp_avg"], group["betas"]
        decay_weights(p, group)
        np.subtract(g, m, out=w)
        np.multiply(w, 1 - beta1, out=w)
        np.add(w, m, out=w)
        step_along(p, np.sign(w, out=w), group["lr"], w)
        lerp(m, g, 1 - beta2, w)
