"""Part of module 06: what all optimizers share. Parameter groups, state, and one pass over the parameters per step.

An optimizer is a formula, `update`, on NumPy arrays. This file calls it for each block of parameters (`blocks.py`).
`tuned_update` registers a faster form of a formula; those of the framework are in `tt_learn/kernels/optimizers.py`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import tt_core
from tt_core.course.finder import runs_as_written
from tt_core.engine.arguments import checked
from tt_core.engine.dispatch import Array, quietly
from tt_core.engine.errors import DTypeError, is_number, shown
from tt_core.engine.plugins import Answers, manager
from tt_core.layers import Layer
from tt_learn import hookspecs
from tt_learn.autograd import Tensor, enable_grad
from tt_learn.optimizers.blocks import Block, Blocks, State
from tt_learn.optimizers.memory import Memory
from tt_learn.optimizers.saving import BESIDE, Group, OptimizerError, Saved

if TYPE_CHECKING:
    from collections.abc import Sequence

Update = Callable[..., None]
U = TypeVar("U", bound=Update)

if not hasattr(manager.hook, "tt_update"):
    manager.add_hookspecs(hookspecs)


class Optimizer(Saved):
    """Base class of all optimizers.

    `params`: an iterable of parameters, of pairs `(name, parameter)` as `named_parameters()` returns them, or of
    dictionaries `{"params": [...], "lr": ...}` whose options override `defaults`. A subclass defines `state_names` and
    `update`. Raises `OptimizerError` for invalid options, for no parameters, for a parameter that is given twice, and
    for tensors that do not require gradients.

    >>> import numpy as np
    >>> class SignSGD(Optimizer):  # Bernstein et al. 2018, arXiv:1802.04434
    ...     def update(self, p, g, state, step, group):
    ...         p -= group["lr"] * np.sign(g)
    >>> w = Tensor([1.0], requires_grad=True)
    >>> (w * w).sum().backward()
    >>> SignSGD([w], {"lr": 0.1}).step()
    >>> w
    tensor([0.9], requires_grad=True)
    """

    @checked
    def __init__(self, params: Iterable[Any], defaults: Mapping[str, Any]) -> None:
        self.defaults = dict(defaults)
        self.param_groups: list[Group] = []
        self._blocks: list[list[Blocks]] = []
        if isinstance(params, Layer) or not isinstance(params, Iterable):
            raise OptimizerError(f"{self.name}: got {shown(params)}; pass parameters: model.parameters()")
        given: list[Any] = [params] if isinstance(params, (tt_core.Tensor, Mapping)) else list(params)
        if not given:
            raise OptimizerError(f"{self.name}: got no parameters")
        for group in given if isinstance(given[0], Mapping) else [{"params": given}]:
            self.add_param_group(group)

    # --- what a subclass defines

    number_names: tuple[str, ...] = ()
    """Names of the numbers that `update` keeps in `state.numbers`, one per parameter; PyTorch's names."""

    def state_names(self, group: Group) -> tuple[str, ...]:
        """Names of the arrays that `update` keeps, each as large as the parameter; PyTorch's names."""
        return ()

    def update(self, p: Array, g: Array, state: State, step: int, group: Group) -> None:
        """Changes the parameter `p` and its `state` in place; `g` is its gradient, which must not be written to.

        `step` counts from 1. All arrays have the same shape and are zero at first. `state.unset` names those that no
        update has written: all of them at the first step, and those of an option that was turned on later.
        """
        raise NotImplementedError(f"{self.name} defines no update()")

    def check(self, group: Group) -> None:
        """Raises `OptimizerError` for invalid options."""
        at_least_zero(self.name, group, "lr", "weight_decay", "eps", "momentum")
        if "betas" in group:
            if not (isinstance(group["betas"], tuple) and len(group["betas"]) == 2):
                raise OptimizerError(f"{self.name}: betas is {group['betas']!r}, expected two numbers in [0, 1)")
            for beta in group["betas"]:
                below_one(self.name, "betas", beta)

    def whole(self, group: Group) -> bool:
        """Whether `update` needs each parameter whole and in its own shape."""
        return False

    # --- groups

    @checked
    def add_param_group(self, group: Mapping[str, Any]) -> None:
        """Adds parameters: `{"params": [...]}` with options that differ from the defaults.

        Raises `OptimizerError` for an unknown option, and for parameters as the constructor does.
        """
        given: Any = group
        if not isinstance(given, Mapping) or not isinstance(given.get("params"), Iterable):
            raise OptimizerError(
                f'{self.name}: a group is a dictionary {{"params": [...], ...}} of parameters and options'
            )
        params, names = self._named(group["params"])
        unknown = [name for name in group if name not in (*self.defaults, "params", *BESIDE)]
        if unknown:
            known = ", ".join(self.defaults)
            raise OptimizerError(f"{self.name}: a group has no option {unknown[0]}; there are: {known}")
        seen = {id(p) for p in self._parameters()}
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
        """The parameters without names, and the group's entry `param_names` if there are names."""
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
            raise OptimizerError(f"{what} is {shown(p)}, expected a tensor; pass model.parameters()")
        if not isinstance(p, Tensor):
            raise OptimizerError(f"{what} is a tensor without gradients; import tt_learn before making the model")
        if not p.requires_grad:
            raise OptimizerError(f"{what} {p.shape} does not require a gradient; omit it or call requires_grad_()")
        if p.grad_fn is not None:
            raise OptimizerError(f"{what} {p.shape} is a result of {p.grad_fn.name}; only leaves can be trained")
        if id(p) in seen:
            raise OptimizerError(f"{what} {p.shape} is given twice")
        seen.add(id(p))

    # --- steps

    @checked
    def zero_grad(self, set_to_none: bool = True) -> None:
        """Removes the gradients, or with False sets them to zero in place."""
        for p in self._parameters():
            if set_to_none:
                p._grad = None
            elif p._grad is not None:
                p.grad = p._grad.detach().zero_()  # a gradient of a recorded backward has history

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Updates every parameter that has a gradient; `closure`, if given, computes loss and gradients first.

        Returns the result of `closure`. Raises `ShapeError` if a parameter or its gradient changed its shape.
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
        update = _update_of(type(self))
        many = getattr(update, "together", None)
        for group, every in zip(self.param_groups, self._blocks):
            names, change = self.state_names(group), functools.partial(self._change, update, group)
            for blocks in every:
                blocks.prepare(names)
                blocks.update(change, many and functools.partial(many, self, group))
                blocks.changed()
        self._tell_observers()
        return loss

    def _tell_observers(self) -> None:
        for observe in _observers_of(type(self)):
            observe(self)

    def _change(self, update: Update, group: Group, block: Block) -> None:
        block.step += 1
        quietly(update, self, *block.read(), block.state, block.step, group)
        block.state.unset.clear()
        block.write()

    def _parameters(self) -> list[Tensor]:
        return [p for group in self.param_groups for p in group["params"]]

    def memory(self) -> Memory:
        """Returns the bytes of parameters, gradients, and the state that exists after the first step.

        >>> import numpy as np
        >>> from tt_learn import Adam
        >>> weight = Tensor(np.zeros((100, 10), "float32"), requires_grad=True)
        >>> print(Adam([weight]).memory())
        1,000 parameters, bytes each: 4 parameter + 4 gradient + 8 state; 0.03 MB in all, 3x without gradients
        """
        parameters = self._parameters()
        size = sum(p.nbytes for p in parameters)
        state = scratch = 0
        for names, blocks in self._blocks_with_names(self.param_groups):
            state += len({*names, *blocks.flat}) * blocks.size * blocks.dtype.itemsize
            scratch += 4 * blocks.largest * blocks.shares * blocks.dtype.itemsize
        return Memory(sum(p.numel() for p in parameters), size, size, state, scratch)

    def __repr__(self) -> str:
        lines = []
        for i, group in enumerate(self.param_groups):
            shown = {name: value for name, value in group.items() if name not in ("params", "param_names")}
            options = ", ".join(f"{name}={value}" for name, value in shown.items())
            lines.append(f"  group {i}: {sum(p.numel() for p in group['params']):,} parameters, {options}")
        return "\n".join([f"{self.name}(", *lines, ")"])


# --- tuned forms and plugins

tuned_updates: dict[Update, Update] = {}
"""The tuned form of each formula that has one, such as `SGD.update`."""


def tuned_update(formula: Update) -> Callable[[U], U]:
    """Registers the decorated function as the tuned form of `formula`, the `update` of a class and its subclasses.

    It takes the same arguments, and uses the arrays `state.work` as scratch memory. A subclass that overrides `update`
    does not use it, and neither does a formula in a learner's file.
    """

    def register(kernel: U) -> U:
        if not runs_as_written(formula):
            tuned_updates[formula] = kernel
        return kernel

    return register


def own_update(optimizer: type[Optimizer]) -> Update:
    """The update of a class without plugins: the tuned form of its formula, or the formula.

    >>> from tt_learn import SGD
    >>> own_update(SGD).__module__
    'tt_learn.kernels.optimizers'
    """
    return tuned_updates.get(optimizer.update, optimizer.update)


def _ask_for_update(optimizer: type[Optimizer]) -> Update:
    """A plugin's answer to `tt_update`, or else the class's own update."""
    answer: Update | None = manager.ask("tt_update", optimizer=optimizer)
    return answer or own_update(optimizer)


def _ask_for_observers(optimizer: type[Optimizer]) -> tuple[Callable[[Optimizer], None], ...]:
    """The answers of plugins to `tt_observe_step`."""
    return tuple(manager.ask("tt_observe_step", optimizer=optimizer))


def _ask_for_step(optimizer: type[Optimizer]) -> Callable[..., Any]:
    """The class's own step inside the wraps of plugins."""
    manager.load_pending()
    wrapped: Callable[..., Any] = manager.chained("tt_wrap_step", optimizer._step, into="call", optimizer=optimizer)
    return wrapped


_update_of = Answers(_ask_for_update, {"tt_update"})
_observers_of = Answers(_ask_for_observers, {"tt_observe_step"})
_step_of = Answers(_ask_for_step, {"tt_wrap_step"})


# --- checks of options


def at_least_zero(optimizer: str, group: Group, *names: str) -> None:
    """Raises `OptimizerError` for options that are not numbers of at least 0; missing ones are skipped."""
    for name in names:
        if not (is_number(group.get(name, 0)) and group.get(name, 0) >= 0):
            raise OptimizerError(f"{optimizer}: {name} is {group[name]!r}, expected a number >= 0")


def below_one(optimizer: str, name: str, value: float) -> None:
    """Raises `OptimizerError` for a value outside [0, 1)."""
    if not (is_number(value) and 0 <= value < 1):
        raise OptimizerError(f"{optimizer}: {name} holds {value!r}, expected numbers in [0, 1)")


def as_tuple(betas: Sequence[float]) -> Any:
    """Converts a list to a tuple; `check` raises an error for other values.

    >>> as_tuple([0.9, 0.999])
    (0.9, 0.999)
    """
    return tuple(betas) if isinstance(betas, list) else betas
