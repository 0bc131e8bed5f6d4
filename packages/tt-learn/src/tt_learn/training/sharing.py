"""Part of module 07: a tensor that stands under several names, such as a weight of two layers, is stored once."""

from __future__ import annotations

from collections.abc import Mapping

from tt_core import Tensor
from tt_core.engine.dispatch import Array
from tt_core.engine.heap import address_of
from tt_core.layers import Layer
from tt_learn.training.tensor_files import Arrays


class SharedArrays(Arrays):
    """Arrays by name. An array that is given under several names is kept under the first of them only.

    >>> import numpy as np
    >>> arrays, weight = SharedArrays(), np.ones(3)
    >>> arrays.keep("embedding", weight), arrays.keep("head", weight), list(arrays)
    ('embedding', 'embedding', ['embedding'])
    """

    def __init__(self) -> None:
        super().__init__()
        self._names: dict[object, str] = {}

    def keep(self, name: str, array: Array) -> str:
        """Adds an array; returns its name, or the name under which the same memory was added before."""
        memory = (address_of(array), array.shape, array.strides, array.dtype.str)
        known = self._names.setdefault(memory, name) if array.size else name
        if known == name:
            self[name] = array  # which keeps it alive, so that no other array gets its address
        return known


def stored_state(model: Layer) -> dict[str, Tensor]:
    """The state dict of `model`, with each tensor under the first of its names only.

    >>> from tt_core import Linear, Sequential
    >>> model = Sequential(Linear(2, 2, bias=False), Linear(2, 2, bias=False))
    >>> model[1].weight = model[0].weight
    >>> list(stored_state(model))
    ['0.weight']
    """
    kept = SharedArrays()
    return {name: entry for name, entry in model.state_dict().items() if kept.keep(name, entry.data) == name}


def completed_state(model: Layer, arrays: Mapping[str, Array]) -> dict[str, Array]:
    """`arrays` with an entry for each name that `stored_state` left out: the tensor with which `model` shares memory.

    >>> from tt_core import Linear, Sequential
    >>> model = Sequential(Linear(2, 2, bias=False), Linear(2, 2, bias=False))
    >>> model[1].weight = model[0].weight
    >>> sorted(completed_state(model, {"0.weight": model[0].weight.data}))
    ['0.weight', '1.weight']
    """
    kept = SharedArrays()
    first = {name: kept.keep(name, entry.data) for name, entry in model.state_dict().items()}
    return {**{name: arrays[stored] for name, stored in first.items() if stored in arrays}, **arrays}
