"""Part of module 16: the norms of each layer's inputs, by which Wanda multiplies weights."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from tt_core.engine.dispatch import Array
from tt_core.engine.hookspecs import hookimpl
from tt_core.engine.plugins import manager
from tt_core.layers import Layer, Linear
from tt_data.spatial import Convolution
from tt_data.torch_names import ConvTranspose2d
from tt_learn.training import evaluating
from tt_perf.compression.masks import Weight
from tt_perf.compression.reports import CompressionError, arguments


def for_weight(layer: Any, norms: Array) -> Array:
    """Norms of the inputs in the places of the weights that they are multiplied by."""
    ones = (1,) * (layer.weight.ndim - 2)
    if isinstance(layer, Linear):
        return norms.reshape(1, -1)
    if isinstance(layer, ConvTranspose2d):  # (in, out / groups, ...)
        return norms.reshape(-1, 1, *ones)
    grouped = norms.reshape(layer.groups, -1, *ones)  # each group of filters reads channels of its own
    return grouped.repeat(layer.out_channels // layer.groups, axis=0)


def input_norms(model: Layer, weights: list[Weight], calibration: Iterable[Any]) -> dict[int, Array]:
    """||x_j|| of each input feature (or channel) of each layer over all calibration inputs, by the layer's `id`.

    Raises `CompressionError` for a layer that no input reaches.
    """
    watcher = _Inputs({id(w.layer) for w in weights})
    manager.register(watcher)
    try:
        with evaluating(model):
            for batch in calibration:
                model(*arguments(batch))
    finally:
        manager.unregister(watcher)
    for w in weights:
        if not np.isfinite(watcher.squares.get(id(w.layer), np.nan)).all():
            raise CompressionError(f"prune_: {w.path} saw no finite calibration input; leave it out by filter_fn")
    return {which: np.sqrt(squares) for which, squares in watcher.squares.items()}


class _Inputs:
    """A plugin for one calibration: adds up the squares of the inputs of the given layers."""

    def __init__(self, wanted: set[int]) -> None:
        self.wanted = wanted
        self.squares: dict[int, Array] = {}

    @hookimpl
    def tt_wrap_layer(self, layer_type: type[Layer], call: Callable[..., Any]) -> Callable[..., Any] | None:
        if not issubclass(layer_type, (Linear, Convolution)):
            return None

        def watched(layer: Layer, x: Any, *rest: Any, **options: Any) -> Any:
            if id(layer) in self.wanted:
                axis = x.ndim - 1 if isinstance(layer, Linear) else x.ndim - layer._parameters["weight"].ndim + 1
                others = tuple(i for i in range(x.ndim) if i != axis)
                squares = np.square(x.data, dtype=np.float64).sum(others)
                self.squares[id(layer)] = self.squares.get(id(layer), 0) + squares
            return call(layer, x, *rest, **options)

        return watched
