"""Part of module 06: the state of an optimizer as a dictionary, in PyTorch's layout."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from tt_core.engine.arguments import checked
from tt_core.engine.errors import ArgumentError
from tt_learn.autograd import Tensor
from tt_learn.optimizers.blocks import Blocks

Group = dict[str, Any]
"""Parameters that share options: `{"params": [...], "lr": ..., ...}`."""
BESIDE = ("initial_lr", "param_names")
"""Keys of a group that are neither parameters nor options."""


class OptimizerError(ArgumentError):
    """Parameters, options or a state that an optimizer cannot work with."""


class Saved:
    """The part of `Optimizer` that saves and restores its state."""

    defaults: dict[str, Any]
    param_groups: list[Group]
    number_names: tuple[str, ...]
    _blocks: list[list[Blocks]]

    def state_dict(self) -> dict[str, Any]:
        """Returns `{"state": {index: {"step": ..., name: Tensor}}, "param_groups": [...]}`, as PyTorch does.

        The index counts parameters over all groups. The tensors share the optimizer's memory; the rest is plain JSON.
        """
        index = self._index()
        state: dict[int, dict[str, Any]] = {}
        for names, blocks in self._blocks_with_names(self.param_groups):
            unset = dict.fromkeys(names)  # an option may have been turned on since the last step
            for p, entry in zip(blocks.parameters, blocks.entries()):
                if entry:
                    state[index[id(p)]] = {"step": entry["step"], **unset, **_tensors(entry)}
        groups = [{**group, "params": [index[id(p)] for p in group["params"]]} for group in self.param_groups]
        return {"state": dict(sorted(state.items())), "param_groups": groups}

    @checked
    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Restores a copy of `state_dict`; its integer keys may have become text in JSON.

        Raises `OptimizerError`, with nothing changed, when the state belongs to another kind of optimizer, or when
        groups, names or shapes differ.
        """
        given: Any = state_dict
        for name in ("param_groups", "state"):
            if not isinstance(given, Mapping) or name not in given:
                raise OptimizerError(f"{self.name}: the state has no {name}; expected the state_dict of an optimizer")
        groups = state_dict["param_groups"]
        self._check_groups(groups)
        state = {int(i): entry for i, entry in state_dict["state"].items()}
        loaded = [self._loaded_group(own, new) for own, new in zip(self.param_groups, groups)]
        index = self._index()
        for names, blocks in self._blocks_with_names(loaded):
            for p in blocks.parameters:
                self._check_entry(index[id(p)], p, state.get(index[id(p)], {}), names)
        self.param_groups[:] = loaded
        for names, blocks in self._blocks_with_names(loaded):
            blocks.prepare(names)
            blocks.load([state.get(index[id(p)], {}) for p in blocks.parameters], self.number_names)

    def rebuild(self, state_dict: Mapping[str, Any]) -> None:
        """Continues with parameters whose arrays have new shapes, from a state dict cut to these shapes.

        Raises as `load_state_dict` does, with nothing changed.

        >>> from tt_learn import SGD
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

    def _index(self) -> dict[int, int]:
        """The position of each parameter over all groups, by its id."""
        return {id(p): i for i, p in enumerate(p for group in self.param_groups for p in group["params"])}

    def _blocks_with_names(self, groups: Sequence[Group]) -> Iterator[tuple[tuple[str, ...], Blocks]]:
        """Each `Blocks` with the names of its state."""
        for group, every in zip(groups, self._blocks):
            names = self.state_names(group)
            for blocks in every:
                yield names, blocks

    def _check_groups(self, groups: Sequence[Any]) -> None:
        sizes = [len(group["params"]) for group in self.param_groups]
        if not all(isinstance(group, Mapping) and "params" in group for group in groups):
            raise OptimizerError(f"{self.name}: param_groups of the state are not groups of parameters")
        given = [len(group["params"]) for group in groups]
        if sizes != given:
            raise OptimizerError(f"{self.name}: the state has groups of {given} parameters, this optimizer of {sizes}")

    def _loaded_group(self, own: Group, new: Mapping[str, Any]) -> Group:
        options = {
            name: tuple(value) if isinstance(value, list) and name != "param_names" else value
            for name, value in new.items()
        }
        known = {name: value for name, value in options.items() if name in self.defaults or name in BESIDE}
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

    # --- defined by Optimizer

    @property
    def name(self) -> str:
        """The name of the class, for messages."""
        return type(self).__name__

    def state_names(self, group: Group) -> tuple[str, ...]:
        """Names of the arrays that `update` keeps."""
        raise NotImplementedError

    def check(self, group: Group) -> None:
        """Raises `OptimizerError` for invalid options."""
        raise NotImplementedError

    def _blocks_of(self, group: Group) -> list[Blocks]:
        raise NotImplementedError


def _tensors(entry: Mapping[str, Any]) -> dict[str, Any]:
    return {name: Tensor(value) if isinstance(value, np.ndarray) else value for name, value in entry.items()}
