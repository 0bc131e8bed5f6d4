"""Whether a model still computes what it computed: by its layers, its arrays, and the clock of in-place changes.

What was computed with a model may be used again only while this holds. Optimizer steps, `load_state_dict`, `quantize_`,
`prune_`, `shrink_` and merges change an array in place, which `tt_core.engine.mutation` notes, or put another array or
layer in its place. Code that writes into `parameter.data` with NumPy goes round the clock, so some numbers of each
array are compared as well: that finds a change of a whole array, not that of a few of its numbers. Hooks of layers and
their plain attributes, such as `eps`, are compared too, except `training`. Code that makes a layer compute otherwise by
anything else, such as a switch in a list, calls `mutation.record` on one of its parameters.
"""

from __future__ import annotations

import functools
import types
import weakref
from typing import Any

import numpy as np

from tt_core.engine import mutation
from tt_core.engine.dispatch import Array
from tt_core.layers import Layer

_PLAIN = (type(None), bool, int, float, str, types.FunctionType, types.MethodType, functools.partial)
_SAMPLES = 16
"""How many numbers of each array are compared."""


class Version:
    """A model as it is now; it keeps the arrays alive, and not the model.

    >>> import tt_core
    >>> layer = tt_core.Linear(2, 1)
    >>> version = Version(layer)
    >>> version.holds(layer)
    True
    >>> _ = layer.load_state_dict({"weight": [[1.0, 2.0]], "bias": [0.0]})
    >>> version.holds(layer)
    False
    """

    def __init__(self, model: Layer) -> None:
        self._moment = mutation.now()
        self._layers = [weakref.ref(layer) for layer in model.modules()]
        self._settings = [_settings_of(layer) for layer in model.modules()]
        self._arrays = arrays_of(model)
        self._samples = [_sample(array) for array in self._arrays]

    def holds(self, model: Layer) -> bool:
        """Whether `model` is the same one and nothing in it has changed."""
        layers, arrays = list(model.modules()), arrays_of(model)
        if len(layers) != len(self._layers) or len(arrays) != len(self._arrays):
            return False
        if any(known() is not layer for known, layer in zip(self._layers, layers)):
            return False
        if any(known != _settings_of(layer) for known, layer in zip(self._settings, layers)):
            return False
        if any(known is not array for known, array in zip(self._arrays, arrays)):
            return False
        if any(mutation.changed_since(array, self._moment) for array in arrays):
            return False
        return all(known == _sample(array) for known, array in zip(self._samples, arrays))


def arrays_of(model: Layer) -> list[Array]:
    """The arrays of all parameters and buffers."""
    return [entry.data for entry in (*model.parameters(), *model.buffers())]


def _settings_of(layer: Layer) -> list[Any]:
    """The numbers, texts and functions among a layer's attributes, and its hooks."""
    found: list[Any] = [
        (name, value) for name, value in layer.__dict__.items() if isinstance(value, _PLAIN) and name != "training"
    ]
    return [*found, type(layer).forward, *[hook for hooks in layer._hooks or () for hook in hooks.items()]]


def _sample(array: Array) -> bytes:
    """Bytes of numbers spread over an array, the first and the last among them."""
    if not array.size:
        return b""
    return array.flat[_places(array.size)].tobytes()


@functools.lru_cache(maxsize=256)
def _places(size: int) -> Array:
    return np.linspace(0, size - 1, min(_SAMPLES, size)).astype(np.intp)
