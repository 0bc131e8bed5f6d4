"""Module 03, layers: state dicts, the names and tensors that describe a trained layer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from tt_core.engine import mutation
from tt_core.engine.dispatch import Array
from tt_core.engine.errors import DTypeError, TinyTorchError
from tt_core.tensor.tensor import Tensor

if TYPE_CHECKING:
    from tt_core.layers.base import Layer


class StateDictError(TinyTorchError):
    """A state dict that does not fit the layer it is loaded into."""


class MissingAndUnexpected(NamedTuple):
    """What `load_state_dict` returns: entries that the state dict lacks, and entries that the layer does not have."""

    missing_keys: list[str]
    unexpected_keys: list[str]


def dotted(prefix: str, name: str) -> str:
    """A name below a prefix.

    >>> dotted("", "weight"), dotted("0", "weight")
    ('weight', '0.weight')
    """
    return f"{prefix}.{name}" if prefix else name


def state_of(root: Layer) -> dict[str, Tensor]:
    """Every parameter and persistent buffer by its dotted name; a shared one appears under each of its names."""
    state: dict[str, Tensor] = {}
    stack: list[tuple[str, Layer]] = [("", root)]
    while stack:
        prefix, layer = stack.pop()
        entries = (layer._parameters | layer._buffers).items()
        state |= {dotted(prefix, name): entry for name, entry in entries if entry is not None}
        stack += [(dotted(prefix, name), child) for name, child in reversed(layer._children.items())]
    return state


def load_state(root: Layer, state: Mapping[str, Any], strict: bool) -> MissingAndUnexpected:
    """Copies a state dict into a layer, as `Layer.load_state_dict` describes; nothing changes if it does not fit."""
    if not isinstance(state, Mapping):
        raise DTypeError(f"load_state_dict: takes a dictionary of names and tensors, got {type(state).__name__}")
    own = state_of(root)
    given = {name: np.asarray(entry) for name, entry in state.items() if name in own}
    problems = [misfit for name, array in given.items() for misfit in _misfits(name, array, own[name].data)]
    optional = {id(layer._buffers.get(name)) for layer in root.modules() for name in layer._may_be_missing}
    missing = [name for name in own if name not in state and id(own[name]) not in optional]
    unexpected = [name for name in state if name not in own]
    if strict:
        problems += [f"missing {', '.join(_head(missing))}"] * bool(missing)
        problems += [f"unexpected {', '.join(map(str, _head(unexpected)))}"] * bool(unexpected)
    if problems:
        raise StateDictError(f"{type(root).__name__}: state dict does not fit: {'; '.join(_head(problems))}")
    for name, array in given.items():
        np.copyto(own[name].data, array, casting="same_kind")
        mutation.record(own[name].data)
    return MissingAndUnexpected(missing, unexpected)


def _misfits(name: str, given: Array, own: Array) -> Iterator[str]:
    if given.shape != own.shape:
        yield f"{name} is {given.shape}, expected {own.shape}"
    if not np.can_cast(given.dtype, own.dtype, "same_kind"):
        yield f"{name} is {given.dtype}, expected {own.dtype}"
    if not own.flags.writeable:
        yield f"{name} is read-only in the layer"


def _head(entries: list[str], most: int = 8) -> list[str]:
    return entries if len(entries) <= most else [*entries[:most], f"... and {len(entries) - most} more"]
