"""Module 06, optimizers: how parameters follow their gradients.

Each optimizer is one formula, `update`, on NumPy arrays: `p` is a parameter, `g` its gradient, and `state` holds arrays
that live from step to step. Arguments, defaults and numerics are PyTorch's. An update changes `p` and the arrays of
`state` in place, so it writes `m[...] = ...`, which fills the array, and not `m = ...`, which would make a new one.

Parameter groups, state dicts and the walk over the parameters are in `base.py`. The tuned forms of these formulas are
in `tt_learn/kernels/optimizers.py`, and `blocks.py` cuts parameters into blocks that stay in the cache.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from tt_core.engine.arguments import checked
from tt_core.engine.dispatch import Array
from tt_learn.optimizers.base import Optimizer, as_tuple, below_one
from tt_learn.optimizers.blocks import State
from tt_learn.optimizers.saving import Group, OptimizerError

# --- stochastic gradient descent


def penalized(p: Array, g: Array, group: Group) -> Array:
    """The gradient to descend: `g` (`-g` to maximize) plus `weight_decay p`, the gradient of an L2 penalty.

    >>> penalized(np.array([2.0]), np.array([1.0]), {"weight_decay": 0.5, "maximize": False})
    array([2.])
    """
    g = -g if group["maximize"] else g  # uphill is downhill of the negated loss
    return g + group["weight_decay"] * p if group["weight_decay"] else g


def momentum(g: Array, state: State, group: Group) -> Array:
    """Moves the running direction b and returns it: b = momentum b + (1 - dampening) g, where b = g at first.

    >>> group, state = {"momentum": 0.5, "dampening": 0.0}, State({"momentum_buffer": np.array([4.0])})
    >>> momentum(np.array([1.0]), state, group)
    array([3.])
    """
    b = state["momentum_buffer"]
    # b starts at g and not at 0, as in PyTorch: the first step has full length, where Adam has to correct its start
    first = "momentum_buffer" in state.unset
    b[...] = g if first else group["momentum"] * b + (1 - group["dampening"]) * g
    return b


class SGD(Optimizer):
    """Stochastic gradient descent, optionally with momentum (Polyak 1964; Nesterov 1983; Sutskever et al. 2013).

    Without momentum p -= lr g. With momentum b = momentum b + (1 - dampening) g and p -= lr b; `nesterov` looks one
    step ahead, p -= lr (g + momentum b). `weight_decay` is an L2 penalty. `foreach` and `fused`
    are PyTorch's and change nothing: the parameters of a group are updated together. Raises `OptimizerError` for
    negative options.

    >>> from tt_learn import Tensor
    >>> w = Tensor([1.0], requires_grad=True)
    >>> sgd = SGD([w], lr=0.1)
    >>> (w * w).sum().backward()
    >>> sgd.step()
    >>> w
    tensor([0.8], requires_grad=True)
    """

    @checked
    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        momentum: float = 0.0,
        dampening: float = 0.0,
        weight_decay: float = 0.0,
        nesterov: bool = False,
        *,
        maximize: bool = False,
        foreach: bool | None = None,
        fused: bool | None = None,
    ) -> None:
        options = {"lr": lr, "momentum": momentum, "dampening": dampening, "weight_decay": weight_decay}
        super().__init__(params, {**options, "nesterov": nesterov, "maximize": maximize})

    def check(self, group: Group) -> None:
        super().check(group)
        if group["nesterov"] and (group["momentum"] <= 0 or group["dampening"] != 0):
            raise OptimizerError(f"{self.name}: nesterov needs a momentum above 0 and a dampening of 0")

    def state_names(self, group: Group) -> tuple[str, ...]:
        return ("momentum_buffer",) if group["momentum"] else ()

    def update(self, p: Array, g: Array, state: State, step: int, group: Group) -> None:
        """Moves `p` in place, against the penalized gradient or, with momentum, along its running direction."""
        direction = g = penalized(p, g, group)
        if group["momentum"]:
            b = momentum(g, state, group)
            # nesterov looks one step ahead: what b will add next is in this step already
            direction = g + group["momentum"] * b if group["nesterov"] else b
        p -= group["lr"] * direction


# --- a step size for each element


class RMSprop(Optimizer):
    """Divides the gradient by a running root mean square (Hinton 2012, lecture 6e; centred: Graves 2013).

    v = alpha v + (1 - alpha) g^2 and p -= lr g / (sqrt(v) + eps). `centered` subtracts the square of the running mean
    of g from v first. With `momentum`, b = momentum b + g / (sqrt(v) + eps) and p -= lr b. Raises `OptimizerError` for
    negative options and an `alpha` outside [0, 1).

    >>> from tt_learn import Tensor
    >>> w = Tensor([1.0], requires_grad=True)
    >>> rmsprop = RMSprop([w], lr=0.1, alpha=0.75)
    >>> (w * w).sum().backward()
    >>> rmsprop.step()
    >>> w
    tensor([0.8], requires_grad=True)
    """

    @checked
    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-2,
        alpha: float = 0.99,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        momentum: float = 0.0,
        centered: bool = False,
        *,
        maximize: bool = False,
    ) -> None:
        options = {"lr": lr, "alpha": alpha, "eps": eps, "weight_decay": weight_decay, "momentum": momentum}
        super().__init__(params, {**options, "centered": centered, "maximize": maximize})

    def check(self, group: Group) -> None:
        super().check(group)
        below_one(self.name, "alpha", group["alpha"])

    def state_names(self, group: Group) -> tuple[str, ...]:
        # allocates only the arrays that the options use
        names = ("square_avg", "momentum_buffer" * bool(group["momentum"]), "grad_avg" * group["centered"])
        return tuple(filter(None, names))

    def update(self, p: Array, g: Array, state: State, step: int, group: Group) -> None:
        """Moves `p` in place by lr g / (sqrt(v) + eps), where v is a running mean of g^2."""
        g, v, alpha = penalized(p, g, group), state["square_avg"], group["alpha"]
        v[...] = alpha * v + (1 - alpha) * g**2
        if group["centered"]:
            mean = state["grad_avg"]
            mean[...] = alpha * mean + (1 - alpha) * g
            v = v - mean**2  # the variance: the mean of the squares minus the square of the mean
        # each element is divided by its own usual size, so steep and flat directions get steps of one length
        direction = g / (np.sqrt(v) + group["eps"])
        if group["momentum"]:
            b = state["momentum_buffer"]
            direction = b[...] = group["momentum"] * b + direction
        p -= group["lr"] * direction


# --- Adam


def adam(p: Array, g: Array, state: State, step: int, group: Group) -> None:
    """One step of Adam: m and v are running means of g and g^2, and m_hat and v_hat their bias-corrected values.

    m and v start at 0, so after the first step they are (1 - beta) g and (1 - beta) g^2, far too small. Dividing by
    1 - beta^step makes up for it. With `amsgrad`, the largest v so far takes the place of v (Reddi et al. 2018). All
    arrays have the same shape.

    >>> p, state = np.ones(1), State({"exp_avg": np.zeros(1), "exp_avg_sq": np.zeros(1)})
    >>> adam(p, np.array([5.0]), state, 1, {"lr": 0.1, "betas": (0.9, 0.999), "eps": 1e-8})
    >>> p.round(6)
    array([0.9])
    """
    m, v, (beta1, beta2) = state["exp_avg"], state["exp_avg_sq"], group["betas"]
    m[...] = beta1 * m + (1 - beta1) * g
    v[...] = beta2 * v + (1 - beta2) * g**2
    if group.get("amsgrad"):  # a v that never shrinks, so that the steps never grow
        v = state["max_exp_avg_sq"][...] = np.maximum(state["max_exp_avg_sq"], v)
    # the weights of the gradients in m add up to 1 - beta1^step; dividing by it makes m a mean
    m_hat = m / (1 - beta1**step)
    v_hat = v / (1 - beta2**step)
    p -= group["lr"] * m_hat / (np.sqrt(v_hat) + group["eps"])


class Adam(Optimizer):
    """Running means of the gradient and of its square, bias-corrected (Kingma and Ba 2015, arXiv:1412.6980).

    m = beta1 m + (1 - beta1) g, v = beta2 v + (1 - beta2) g^2, and with m' = m / (1 - beta1^step) and
    v' = v / (1 - beta2^step), p -= lr m' / (sqrt(v') + eps). `amsgrad` uses the largest v so far (Reddi et al. 2018).
    `weight_decay` is an L2 penalty; see `AdamW` for the other kind. With m and v, memory is three times that of the
    parameters. `foreach` and `fused` change nothing, as for `SGD`. Raises `OptimizerError` for negative options and
    `betas` outside [0, 1).

    >>> from tt_learn import Tensor
    >>> w = Tensor([1.0], requires_grad=True)
    >>> optimizer = Adam([w], lr=0.1)
    >>> (w * w).sum().backward()
    >>> optimizer.step()
    >>> w
    tensor([0.9], requires_grad=True)
    """

    @checked
    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        amsgrad: bool = False,
        *,
        maximize: bool = False,
        foreach: bool | None = None,
        fused: bool | None = None,
    ) -> None:
        options = {"lr": lr, "betas": as_tuple(betas), "eps": eps, "weight_decay": weight_decay}
        super().__init__(params, {**options, "amsgrad": amsgrad, "maximize": maximize})

    def state_names(self, group: Group) -> tuple[str, ...]:
        return ("exp_avg", "exp_avg_sq", "max_exp_avg_sq")[: 3 if group["amsgrad"] else 2]

    def update(self, p: Array, g: Array, state: State, step: int, group: Group) -> None:
        adam(p, penalized(p, g, group), state, step, group)


class AdamW(Adam):
    """Adam whose weight decay acts on the weights and not through the gradient (Loshchilov and Hutter 2019).

    p -= lr weight_decay p before each step of `Adam`; raises as `Adam` does.

    >>> from tt_learn import Tensor
    >>> w = Tensor([1.0], requires_grad=True)
    >>> optimizer = AdamW([w], lr=0.1, weight_decay=0.5)
    >>> (w * w).sum().backward()
    >>> optimizer.step()
    >>> w
    tensor([0.85], requires_grad=True)
    """

    @checked
    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        amsgrad: bool = False,
        *,
        maximize: bool = False,
        foreach: bool | None = None,
        fused: bool | None = None,
    ) -> None:
        super().__init__(params, lr, betas, eps, weight_decay, amsgrad, maximize=maximize)

    def update(self, p: Array, g: Array, state: State, step: int, group: Group) -> None:
        """Shrinks `p` in place by lr weight_decay of itself, then takes a step of Adam without the penalty."""
        # on p itself: through the gradient, Adam would divide the decay by sqrt(v) too
        p *= 1 - group["lr"] * group["weight_decay"]
        adam(p, -g if group["maximize"] else g, state, step, group)
