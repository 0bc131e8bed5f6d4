"""Module 06, optimizers: how parameters follow their gradients.

Each optimizer is one formula, `update`, on NumPy arrays: p (the parameter, changed in place), g (its gradient), the
state that it keeps between steps and two scratch arrays. Arguments, defaults and numerics are PyTorch's. What is
common - groups, state dicts, memory, walking over blocks that fit in the cache (`blocks.py`) - is in `Optimizer`.
Learning-rate schedules are in `schedulers.py`, clipping in `clipping.py`, Muon in `muon.py`.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

import tt_core
from tt_core.engine.arguments import checked
from tt_core.engine.dispatch import Array, quietly
from tt_core.engine.errors import DTypeError, TinyTorchError, is_number, shown
from tt_core.engine.plugins import manager
from tt_core.layers import Layer
from tt_learn import hookspecs
from tt_learn.autograd import Tensor, enable_grad
from tt_learn.optimizers.blocks import Block, Blocks, State

Group = dict[str, Any]
_BESIDE = ("initial_lr", "param_names")
"""What a group holds beside its parameters and the optimizer's options."""

if not hasattr(manager.hook, "tt_update"):
    manager.add_hookspecs(hookspecs)


class OptimizerError(TinyTorchError, ValueError):
    """Parameters, options or a state that an optimizer cannot work with."""


@dataclass(frozen=True)
class Memory:
    """Bytes that learning takes, beside activations: what `Optimizer.memory()` tells.

    `parameters`, `gradients` and `state` are bytes in all, `count` is the number of learnt numbers.

    >>> Memory(count=10, parameters=40, gradients=40, state=80, scratch=0).factor
    3.0
    """

    count: int
    parameters: int
    gradients: int
    state: int
    scratch: int

    @property
    def per_parameter(self) -> dict[str, float]:
        """Bytes for each learnt number."""
        parts = {"parameter": self.parameters, "gradient": self.gradients, "state": self.state}
        return {name: size / max(self.count, 1) for name, size in parts.items()}

    @property
    def factor(self) -> float:
        """Parameters and state together, over the parameters alone: 1 for SGD, 2 with momentum, 3 for Adam."""
        return (self.parameters + self.state) / self.parameters if self.parameters else 1.0

    def __str__(self) -> str:
        each = " + ".join(f"{size:g} {name}" for name, size in self.per_parameter.items())
        total = self.parameters + self.gradients + self.state + self.scratch
        size = f"{total / 1e6:.2f} MB in all, {self.factor:g}x without gradients"
        return f"{self.count:,} parameters, bytes each: {each}; {size}"


class Optimizer:
    """Base of all optimizers: parameter groups, state, and one pass over the blocks of parameters a step.

    `params`: an iterable of parameters, of pairs `(name, parameter)` as `named_parameters()` gives them, or of dicts
    `{"params": [...], "lr": ...}` whose options override `defaults`. A subclass defines `state_names` and `update`.
    Raises `OptimizerError` for options that make no sense, and for no parameters, the same one twice, and tensors that
    hold no gradients.

    >>> class SignSGD(Optimizer):  # Bernstein et al. 2018, arXiv:1802.04434
    ...     def update(self, p, g, state, step, group, work):
    ...         p -= group["lr"] * np.sign(g)
    >>> w = Tensor([1.0], requires_grad=True)
    >>> (w * w).sum().backward()
    >>> SignSGD([w], {"lr": 0.1}).step()
    >>> w
    tensor([0.9], requires_grad=True)
    """

    param_groups: list[Group]

    @checked
    def __init__(self, params: Iterable[Any], defaults: Mapping[str, Any]) -> None:
        self.defaults = dict(defaults)
        self.param_groups = []
        self._blocks: list[list[Blocks]] = []
        if isinstance(params, Layer) or not isinstance(params, Iterable):
            raise OptimizerError(f"{self.name}: got a {type(params).__name__}; pass parameters: model.parameters()")
        given: list[Any] = [params] if isinstance(params, (tt_core.Tensor, Mapping)) else list(params)
        if not given:
            raise OptimizerError(f"{self.name}: got no parameters")
        for group in given if isinstance(given[0], Mapping) else [{"params": given}]:
            self.add_param_group(group)

    @property
    def name(self) -> str:
        """The class's name, for messages."""
        return type(self).__name__

    # --- what a subclass defines

    number_names: tuple[str, ...] = ()
    """Names of the numbers that `update` keeps in `state.numbers`, one per parameter; PyTorch's names."""

    def state_names(self, group: Group) -> tuple[str, ...]:
        """Names of the arrays, one element a parameter element, that `update` keeps; PyTorch's names."""
        return ()

    def update(self, p: Array, g: Array, state: State, step: int, group: Group, work: list[Array]) -> None:
        """Change `p` and `state` in place, given the gradient `g` (not to be written to).

        `step` counts from 1. `work` holds two scratch arrays. All arrays have one shape. `state.unset` names the
        arrays that no update has written, which are zero: all of them at the first step, and those of an option that
        was switched on later.
        """
        raise NotImplementedError(f"{self.name} defines no update()")

    def check(self, group: Group) -> None:
        """Raise `OptimizerError` for options that make no sense."""
        _at_least_zero(self.name, group, "lr", "weight_decay", "eps", "momentum")
        if "betas" in group:
            if not (isinstance(group["betas"], tuple) and len(group["betas"]) == 2):
                raise OptimizerError(f"{self.name}: betas is {group['betas']!r}, expected two numbers in [0, 1)")
            for beta in group["betas"]:
                _below_one(self.name, "betas", beta)

    def whole(self, group: Group) -> bool:
        """Whether `update` needs a parameter whole and in its shape."""
        return False

    # --- groups

    @checked
    def add_param_group(self, group: Mapping[str, Any]) -> None:
        """Learn more parameters: `{"params": [...]}` with options that differ from the defaults.

        Raises `OptimizerError` for an unknown option and for parameters as the constructor does.
        """
        given: Any = group
        if not isinstance(given, Mapping) or not isinstance(given.get("params"), Iterable):
            raise OptimizerError(
                f'{self.name}: a group is a dictionary {{"params": [...], ...}} of parameters and options'
            )
        params, names = self._named(group["params"])
        unknown = [name for name in group if name not in (*self.defaults, "params", *_BESIDE)]
        if unknown:
            known = ", ".join(self.defaults)
            raise OptimizerError(f"{self.name}: a group has no option {unknown[0]}; there are: {known}")
        seen = {id(p) for other in self.param_groups for p in other["params"]}
        for i, p in enumerate(params):
            self._check_parameter(i, p, seen)
        made = {**self.defaults, **group, "params": params, **names}
        self.check(made)
        self.param_groups.append(made)
        self._blocks.append(self._blocks_of(made))

    def _blocks_of(self, group: Group) -> list[Blocks]:
        by_dtype: dict[Any, list[Any]] = {}
        for p in group["params"]:
            by_dtype.setdefault(p.data.dtype, []).append(p)
        return [Blocks(same, self.whole(group)) for same in by_dtype.values()]

    def _named(self, params: Any) -> tuple[list[Any], Group]:
        """Parameters without their names, and an entry for the group with the names where there are any."""
        given = [params] if isinstance(params, tt_core.Tensor) else list(params)
        named = [entry for entry in given if isinstance(entry, tuple)]
        if not named:
            return given, {}
        if len(named) < len(given) or any(len(pair) != 2 for pair in named):
            raise OptimizerError(f"{self.name}: give all parameters as pairs (name, parameter), or none")
        return [p for _, p in named], {"param_names": [name for name, _ in named]}

    def _check_parameter(self, i: int, p: Any, seen: set[int]) -> None:
        what = f"{self.name}: parameter {i}"
        if not isinstance(p, tt_core.Tensor):
            raise OptimizerError(f"{what} is a {type(p).__name__}, expected a tensor; pass model.parameters()")
        if not isinstance(p, Tensor):
            raise OptimizerError(f"{what} is a tensor without gradients; import tt_learn before making the model")
        if not p.requires_grad:
            raise OptimizerError(f"{what} {p.shape} does not require a gradient; leave it out or call requires_grad_()")
        if p.grad_fn is not None:
            raise OptimizerError(f"{what} {p.shape} is a result of {p.grad_fn.name}; only leaves can be learnt")
        if id(p) in seen:
            raise OptimizerError(f"{what} {p.shape} is given twice")
        seen.add(id(p))

    # --- learning

    @checked
    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients, or with False set them to zero in place."""
        for p in self._parameters():
            if set_to_none:
                p._grad = None
            elif p._grad is not None:
                p.grad = p._grad.detach().zero_()  # a gradient of a recorded backward has history

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update every parameter that has a gradient; with `closure`, which computes loss and gradients, first that.

        Returns what `closure` returned. Raises `ShapeError` for a parameter or gradient whose shape was changed.
        """
        return _step_of(type(self))(self, closure)

    def _step(self, closure: Callable[[], Any] | None) -> Any:
        """What plugins wrap: the closure, then the update of each parameter."""
        loss = None
        if closure is not None:
            if not callable(closure):
                raise DTypeError(f"{self.name}.step: closure is a function, got {shown(closure)}")
            with enable_grad():
                loss = closure()
        for group, every in zip(self.param_groups, self._blocks):
            names, change = self.state_names(group), functools.partial(self._change, _update_of(type(self)), group)
            for blocks in every:
                blocks.prepare(names)
                blocks.update(change)
                blocks.changed()
        self._tell_observers()
        return loss

    def _tell_observers(self) -> None:
        for observe in _observers_of(type(self)):
            observe(self)

    def _change(self, update: Callable[..., None], group: Group, block: Block) -> None:
        block.step += 1
        quietly(update, self, *block.read(), block.state, block.step, group, block.work)
        block.state.unset.clear()
        block.write()

    def _parameters(self) -> list[Tensor]:
        return [p for group in self.param_groups for p in group["params"]]

    # --- memory and state

    def memory(self) -> Memory:
        """Bytes for parameters, their gradients, and the state that this optimizer keeps once it has stepped.

        >>> weight = Tensor(np.zeros((100, 10), "float32"), requires_grad=True)
        >>> print(Adam([weight]).memory())
        1,000 parameters, bytes each: 4 parameter + 4 gradient + 8 state; 0.03 MB in all, 3x without gradients
        """
        parameters = self._parameters()
        size = sum(p.nbytes for p in parameters)
        state = scratch = 0
        for group, every in zip(self.param_groups, self._blocks):
            names = self.state_names(group)
            state += sum(len({*names, *blocks.flat}) * blocks.size * blocks.dtype.itemsize for blocks in every)
            scratch += sum(4 * blocks.largest * blocks.shares * blocks.dtype.itemsize for blocks in every)
        return Memory(sum(p.numel() for p in parameters), size, size, state, scratch)

    def state_dict(self) -> dict[str, Any]:
        """`{"state": {index: {"step": ..., name: Tensor}}, "param_groups": [...]}` as in PyTorch; shares memory.

        Parameters are known by their index over all groups. Everything but the tensors is plain JSON.
        """
        index = {id(p): i for i, p in enumerate(self._parameters())}
        state: dict[int, dict[str, Any]] = {}
        for group, every in zip(self.param_groups, self._blocks):
            unset = dict.fromkeys(self.state_names(group))  # an option may have been switched on since the last step
            for blocks in every:
                for p, entry in zip(blocks.parameters, blocks.entries()):
                    if entry:
                        state[index[id(p)]] = {"step": entry["step"], **unset, **_tensors(entry)}
        groups = [{**group, "params": [index[id(p)] for p in group["params"]]} for group in self.param_groups]
        return {"state": dict(sorted(state.items())), "param_groups": groups}

    @checked
    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Continue where `state_dict` was taken, copying it; keys may have become strings on the way through JSON.

        Raises `OptimizerError`, with nothing changed, when the state is another optimizer's, or groups, names or shapes
        differ.
        """
        given: Any = state_dict
        for name in ("param_groups", "state"):
            if not isinstance(given, Mapping) or name not in given:
                raise OptimizerError(f"{self.name}: the state has no {name}; it is no optimizer's")
        groups = state_dict["param_groups"]
        self._check_groups(groups)
        state = {int(i): entry for i, entry in state_dict["state"].items()}
        loaded = [self._loaded_group(own, new) for own, new in zip(self.param_groups, groups)]
        parameters = self._parameters()
        index = {id(p): i for i, p in enumerate(parameters)}
        for group, every in zip(loaded, self._blocks):
            for p in (p for blocks in every for p in blocks.parameters):
                self._check_entry(index[id(p)], p, state.get(index[id(p)], {}), self.state_names(group))
        self.param_groups[:] = loaded
        for group, every in zip(loaded, self._blocks):
            for blocks in every:
                blocks.prepare(self.state_names(group))
                blocks.load([state.get(index[id(p)], {}) for p in blocks.parameters], self.number_names)

    def rebuild(self, state_dict: Mapping[str, Any]) -> None:
        """Go on with parameters that hold arrays of another shape now, from a state dict cut to these shapes.

        Raises as `load_state_dict` does, with nothing changed.

        >>> w = Tensor(np.ones(3, "float32"), requires_grad=True)
        >>> sgd = SGD([w], momentum=0.9)
        >>> w.sum().backward()
        >>> sgd.step()
        >>> state = sgd.state_dict()
        >>> w.data, w.grad = w.data[:2].copy(), None
        >>> state["state"][0]["momentum_buffer"] = state["state"][0]["momentum_buffer"][:2]
        >>> sgd.rebuild(state)
        >>> sgd.state_dict()["state"][0]["momentum_buffer"]
        tensor([1., 1.])
        """
        before = self._blocks
        self._blocks = [self._blocks_of(group) for group in self.param_groups]
        try:
            self.load_state_dict(state_dict)
        except BaseException:
            self._blocks = before
            raise

    def _check_groups(self, groups: Sequence[Any]) -> None:
        sizes = [len(group["params"]) for group in self.param_groups]
        if not all(isinstance(group, Mapping) and "params" in group for group in groups):
            raise OptimizerError(f"{self.name}: the state's param_groups are no groups of parameters")
        given = [len(group["params"]) for group in groups]
        if sizes != given:
            raise OptimizerError(f"{self.name}: the state has groups of {given} parameters, this optimizer of {sizes}")

    def _loaded_group(self, own: Group, new: Mapping[str, Any]) -> Group:
        options = {
            name: tuple(value) if isinstance(value, list) and name != "param_names" else value
            for name, value in new.items()
        }
        known = {name: value for name, value in options.items() if name in self.defaults or name in _BESIDE}
        foreign = [name for name in options if name not in known and name != "params"]
        missing = [name for name in self.defaults if name not in options]
        if foreign and missing:  # PyTorch's groups of the same optimizer may have either, not both
            raise OptimizerError(
                f"{self.name}: the state is another optimizer's, with {foreign[0]} and without {missing[0]}"
            )
        made = {**own, **known, "params": own["params"]}
        self.check(made)
        return made

    def _check_entry(self, i: int, p: Tensor, entry: Mapping[str, Any], names: Sequence[str]) -> None:
        if not entry:
            return
        for name in (*names, *self.number_names):
            if name in names and name in entry and entry[name] is None:  # never written
                continue
            shape = tuple(np.shape(entry[name])) if entry.get(name) is not None else None
            expected = p.shape if name in names else ()
            if shape != expected:
                had = f"has shape {shape}" if shape is not None else "is missing"
                raise OptimizerError(f"{self.name}: {name} of parameter {i} {had} in the state, expected {expected}")

    def __repr__(self) -> str:
        lines = []
        for i, group in enumerate(self.param_groups):
            shown = {name: value for name, value in group.items() if name not in ("params", "param_names")}
            options = ", ".join(f"{name}={value}" for name, value in shown.items())
            lines.append(f"  group {i}: {sum(p.numel() for p in group['params']):,} parameters, {options}")
        return "\n".join([f"{self.name}(", *lines, ")"])


_updates: dict[type[Optimizer], Callable[..., None]] = {}
_observers: dict[type[Optimizer], tuple[Callable[[Optimizer], None], ...]] = {}
_steps: dict[type[Optimizer], Callable[..., Any]] = {}
manager.rebinders += [
    (_updates.clear, {"tt_update"}),
    (_observers.clear, {"tt_observe_step"}),
    (_steps.clear, {"tt_wrap_step"}),
]


def _step_of(optimizer: type[Optimizer]) -> Callable[..., Any]:
    """The class's own step, in what plugins wrap around it."""
    if optimizer not in _steps:
        manager.load_pending()
        _steps[optimizer] = manager.chained("tt_wrap_step", optimizer._step, into="call", optimizer=optimizer)
    return _steps[optimizer]


def _update_of(optimizer: type[Optimizer]) -> Callable[..., None]:
    """What a plugin answered to `tt_update`, else the class's own formula."""
    if optimizer not in _updates:
        _updates[optimizer] = manager.ask("tt_update", optimizer=optimizer) or optimizer.update
    return _updates[optimizer]


def _observers_of(optimizer: type[Optimizer]) -> tuple[Callable[[Optimizer], None], ...]:
    """What plugins answered to `tt_observe_step`."""
    if optimizer not in _observers:
        _observers[optimizer] = tuple(manager.ask("tt_observe_step", optimizer=optimizer))
    return _observers[optimizer]


def _tensors(entry: Mapping[str, Any]) -> dict[str, Any]:
    return {name: Tensor(value) if isinstance(value, np.ndarray) else value for name, value in entry.items()}


def _at_least_zero(optimizer: str, group: Group, *names: str) -> None:
    for name in names:
        if not (is_number(group.get(name, 0)) and group.get(name, 0) >= 0):
            raise OptimizerError(f"{optimizer}: {name} is {group[name]}, expected a number >= 0")


def _below_one(optimizer: str, name: str, value: Any) -> None:
    if not (is_number(value) and 0 <= value < 1):
        raise OptimizerError(f"{optimizer}: {name} holds {value!r}, expected numbers in [0, 1)")


def as_tuple(betas: Any) -> Any:
    """`betas` as a tuple where it is a list; anything else is left for `check` to refuse.

    >>> as_tuple([0.9, 0.999])
    (0.9, 0.999)
    """
    return tuple(betas) if isinstance(betas, list) else betas


# --- pieces of formulas, in place


def lerp(x: Array, to: Array, weight: float, work: Array) -> None:
    """`x += weight (to - x)`: a running mean takes a step towards `to`. All arrays have one shape.

    >>> x, to = np.zeros(2), np.array([4.0, 8.0])
    >>> lerp(x, to, 0.25, work=np.empty(2))
    >>> x
    array([1., 2.])
    """
    np.subtract(to, x, out=work)
    np.multiply(work, weight, out=work)
    np.add(x, work, out=x)


def mean_of_squares(v: Array, g: Array, beta: float, work: Array) -> None:
    """`v = beta v + (1 - beta) g^2`, in place; all arrays have one shape.

    >>> v = np.ones(2)
    >>> mean_of_squares(v, np.array([1.0, 3.0]), 0.5, work=np.empty(2))
    >>> v
    array([1., 5.])
    """
    np.multiply(v, beta, out=v)
    np.multiply(g, g, out=work)
    np.multiply(work, 1 - beta, out=work)
    np.add(v, work, out=v)


def step_along(p: Array, direction: Array, lr: float, work: Array) -> None:
    """`p -= lr direction`, in place; all arrays have one shape.

    >>> p = np.ones(2)
    >>> step_along(p, np.array([1.0, -1.0]), 0.5, work=np.empty(2))
    >>> p
    array([0.5, 1.5])
    """
    np.multiply(direction, lr, out=work)
    np.subtract(p, work, out=p)


def effective_gradient(p: Array, g: Array, group: Group, out: Array) -> Array:
    """The gradient to descend: `g` (`-g` to maximize) plus `weight_decay p`, the gradient of an L2 penalty.

    >>> p, g = np.array([2.0]), np.array([1.0])
    >>> effective_gradient(p, g, {"weight_decay": 0.5, "maximize": False}, out=np.empty(1))
    array([2.])
    """
    if group["weight_decay"]:
        np.multiply(p, group["weight_decay"], out=out)
        return (np.subtract if group["maximize"] else np.add)(out, g, out=out)
    return np.negative(g, out=out) if group["maximize"] else g


def decay_weights(p: Array, group: Group) -> None:
    """Weight decay apart from the gradient (Loshchilov and Hutter 2019): `p -= lr weight_decay p`.

    >>> p = np.ones(2)
    >>> decay_weights(p, {"lr": 0.5, "weight_decay": 0.5})
    >>> p
    array([0.75, 0.75])
    """
    if group["weight_decay"]:
        np.multiply(p, 1 - group["lr"] * group["weight_decay"], out=p)


# --- stochastic gradient descent


class SGD(Optimizer):
    """Stochastic gradient descent, with momentum if asked for (Sutskever et al. 2013, Nesterov 1983).

    Concretely, b = momentum b + (1 - dampening) g (b = g at the first step), and p -= lr b; with `nesterov`,
    p -= lr (g + momentum b). `weight_decay` is an L2 penalty. Raises `OptimizerError` for negative options.

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
    ) -> None:
        options = {"lr": lr, "momentum": momentum, "dampening": dampening, "weight_decay": weight_decay}
        super().__init__(params, {**options, "nesterov": nesterov, "maximize": maximize})

    def check(self, group: Group) -> None:
        super().check(group)
        if group["nesterov"] and (group["momentum"] <= 0 or group["dampening"] != 0):
            raise OptimizerError(f"{self.name}: nesterov needs a momentum above 0 and a dampening of 0")

    def state_names(self, group: Group) -> tuple[str, ...]:
        return ("momentum_buffer",) if group["momentum"] else ()

    def update(self, p: Array, g: Array, state: State, step: int, group: Group, work: list[Array]) -> None:
        w, out = work
        g = effective_gradient(p, g, group, out)
        momentum = group["momentum"]
        if momentum:
            b = state["momentum_buffer"]
            if "momentum_buffer" in state.unset:
                np.copyto(b, g)
            else:
                np.multiply(b, momentum, out=b)
                np.add(b, np.multiply(g, 1 - group["dampening"], out=w), out=b)
            g = np.add(g, np.multiply(b, momentum, out=w), out=out) if group["nesterov"] else b
        step_along(p, g, group["lr"], w)


class SGDMomentum(SGD):
    """`SGD` whose momentum is on by default (Polyak 1964); raises as `SGD` does.

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


# --- a step size for each element


class Adagrad(Optimizer):
    """Steps shrink where gradients have been large (Duchi, Hazan, Singer 2011).

    Concretely, s += g^2 and p -= lr / (1 + (step - 1) lr_decay) g / (sqrt(s) + eps), where s starts at
    `initial_accumulator_value`. Raises `OptimizerError` for negative options.

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
        _at_least_zero(self.name, group, "lr_decay", "initial_accumulator_value")

    def state_names(self, group: Group) -> tuple[str, ...]:
        return ("sum",)

    def update(self, p: Array, g: Array, state: State, step: int, group: Group, work: list[Array]) -> None:
        w, out = work
        g, s = effective_gradient(p, g, group, out), state["sum"]
        if step == 1:
            s.fill(group["initial_accumulator_value"])
        np.add(s, np.multiply(g, g, out=w), out=s)
        np.sqrt(s, out=w)
        np.add(w, group["eps"], out=w)
        np.divide(g, w, out=w)
        step_along(p, w, group["lr"] / (1 + (step - 1) * group["lr_decay"]), w)


class RMSprop(Optimizer):
    """The gradient over a running root of its mean square (Hinton 2012, lecture 6e; centred: Graves 2013).

    Concretely, v = alpha v + (1 - alpha) g^2 and p -= lr g / (sqrt(v) + eps); `centered` takes the square of the
    running mean of g off v first; with `momentum`, b = momentum b + g / (sqrt(v) + eps) and p -= lr b. Raises
    `OptimizerError` for negative options and an `alpha` outside [0, 1).

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
        _below_one(self.name, "alpha", group["alpha"])

    def state_names(self, group: Group) -> tuple[str, ...]:
        names = ("square_avg", "momentum_buffer" * bool(group["momentum"]), "grad_avg" * group["centered"])
        return tuple(filter(None, names))

    def update(self, p: Array, g: Array, state: State, step: int, group: Group, work: list[Array]) -> None:
        w, out = work
        g, v = effective_gradient(p, g, group, out), state["square_avg"]
        mean_of_squares(v, g, group["alpha"], w)
        if group["centered"]:
            mean = state["grad_avg"]
            lerp(mean, g, 1 - group["alpha"], w)
            v = np.subtract(v, np.multiply(mean, mean, out=w), out=w)
        np.sqrt(v, out=w)
        np.add(w, group["eps"], out=w)
        direction = np.divide(g, w, out=out)
        if group["momentum"]:
            b = state["momentum_buffer"]
            np.multiply(b, group["momentum"], out=b)
            direction = np.add(b, direction, out=b)
        step_along(p, direction, group["lr"], w)


# --- Adam and its kin


def adam(p: Array, g: Array, state: State, step: int, group: Group, w: Array) -> None:
    """`p -= lr m / (1 - beta1^step) / (sqrt(v / (1 - beta2^step)) + eps)` with running means m of g and v of g^2.

    The bias corrections are drawn into the scalars, which saves a pass over the elements. All arrays have one shape.

    >>> p, state = np.ones(1), {"exp_avg": np.zeros(1), "exp_avg_sq": np.zeros(1)}
    >>> adam(p, np.array([5.0]), state, 1, {"lr": 0.1, "betas": (0.9, 0.999), "eps": 1e-8}, np.empty(1))
    >>> p.round(6)
    array([0.9])
    """
    m, v, (beta1, beta2) = state["exp_avg"], state["exp_avg_sq"], group["betas"]
    lerp(m, g, 1 - beta1, w)
    mean_of_squares(v, g, beta2, w)
    if group.get("amsgrad"):
        v = np.maximum(state["max_exp_avg_sq"], v, out=state["max_exp_avg_sq"])
    correction = math.sqrt(1 - beta2**step)
    np.sqrt(v, out=w)
    np.add(w, group["eps"] * correction, out=w)
    np.divide(m, w, out=w)
    step_along(p, w, group["lr"] * correction / (1 - beta1**step), w)


class Adam(Optimizer):
    """Running means of the gradient and of its square, bias corrected (Kingma and Ba 2015, arXiv:1412.6980).

    Concretely, m = beta1 m + (1 - beta1) g, v = beta2 v + (1 - beta2) g^2, and with m' = m / (1 - beta1^step) and
    v' = v / (1 - beta2^step), p -= lr m' / (sqrt(v') + eps). `amsgrad` uses the largest v so far (Reddi et al.
    2018). `weight_decay` is an L2 penalty; `AdamW` decays weights apart from it. m and v make memory three times
    that of the parameters. Raises `OptimizerError` for negative options and `betas` outside [0, 1).

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
    ) -> None:
        options = {"lr": lr, "betas": as_tuple(betas), "eps": eps, "weight_decay": weight_decay}
        super().__init__(params, {**options, "amsgrad": amsgrad, "maximize": maximize})

    def state_names(self, group: Group) -> tuple[str, ...]:
        return ("exp_avg", "exp_avg_sq", "max_exp_avg_sq")[: 3 if group["amsgrad"] else 2]

    def update(self, p: Array, g: Array, state: State, step: int, group: Group, work: list[Array]) -> None:
        w, out = work
        adam(p, effective_gradient(p, g, group, out), state, step, group, w)


class AdamW(Adam):
    """Adam whose weight decay acts on the weights, not through the gradient (Loshchilov and Hutter 2019).

    Concretely, p -= lr weight_decay p before each step of `Adam`; raises as that does.

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
    ) -> None:
        super().__init__(params, lr, betas, eps, weight_decay, amsgrad, maximize=maximize)

    def update(self, p: Array, g: Array, state: State, step: int, group: Group, work: list[Array]) -> None:
        w, out = work
        decay_weights(p, group)
        adam(p, np.negative(g, out=out) if group["maximize"] else g, state, step, group, w)


class Lion(Optimizer):
    """Steps of one size, in the direction of a running mean's sign (Chen et al. 2023, arXiv:2302.06675).

    Concretely, p -= lr (sign(beta1 m + (1 - beta1) g) + weight_decay p), then m = beta2 m + (1 - beta2) g. One
    state array, so less memory than Adam; the paper advises a third to a tenth of Adam's `lr`. Raises as `Adam` does.

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

    def update(self, p: Array, g: Array, state: State, step: int, group: Group, work: list[Array]) -> None:
        w, out = work
        g = np.negative(g, out=out) if group["maximize"] else g
        m, (beta1, beta2) = state["exp_avg"], group["betas"]
        decay_weights(p, group)
        np.subtract(g, m, out=w)
        np.multiply(w, 1 - beta1, out=w)
        np.add(w, m, out=w)
        step_along(p, np.sign(w, out=w), group["lr"], w)
        lerp(m, g, 1 - beta2, w)
