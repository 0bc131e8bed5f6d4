"""Part of module 16: refitting. After units are removed, the layers that read them are fitted to their old outputs.

With X the inputs of a layer over calibration data, W its weight and S the inputs that are kept, the new weight V is the
closed-form solution of a ridge regression:

    minimize ||X W^T - X_S V^T||^2 + r ||V - W_S||^2        V^T = (G_SS + r I)^-1 (G_S: W^T + r W_S^T),   G = X^T X

What is kept takes over what can be predicted from it, so that less is left to fine-tuning. A convolution is the same
product on the patches of its input. (He et al. 2017, arXiv:1707.06168; ThiNet, Luo et al. 2017, arXiv:1707.06342.)
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from tt_core.engine.dispatch import Array
from tt_core.engine.hookspecs import hookimpl
from tt_core.engine.plugins import manager
from tt_core.layers import Layer, Linear
from tt_core.tensor import Tensor
from tt_data.spatial import Conv2d, pad, unfold
from tt_learn.training import evaluating
from tt_perf.compression.reports import MASK, CompressionError, arguments

_RIDGE = 1e-2
"""r as a share of the mean of G's diagonal; the best of 1e-4, 1e-3 and 1e-2 on 800 to 10,000 images of CIFAR-10."""


class Refit:
    """The second moments G of the layers that lose inputs, over `calibration`; a call fits their weights.

    kept: the entries of each axis that stay, by the `id` of a parameter. Raises `CompressionError` for a layer that no
    finite input reaches. Layers with a mask, groups, a `forward` of their own or shared parameters keep their weights.
    """

    def __init__(self, model: Layer, kept: Mapping[int, tuple[Array, ...]], calibration: Iterable[Any]) -> None:
        modules: list[tuple[str, Any]] = [*model.named_modules()]
        holders = Counter(id(p) for _, layer in modules for p in layer._parameters.values() if p is not None)
        losing = {
            id(layer): path for path, layer in modules if _can_be_fitted(layer, holders) and _loses_inputs(layer, kept)
        }
        watcher = _Moments(set(losing))
        count = 0
        manager.register(watcher)
        try:
            with evaluating(model):
                for batch in calibration:
                    model(*arguments(batch))
                    count += 1
        finally:
            manager.unregister(watcher)
        for which, path in losing.items():
            if not np.isfinite(watcher.moments.get(which, np.nan)).all():
                raise CompressionError(
                    f"shrink_: {path} saw no finite calibration input in {count} batches; check what calibration gives"
                )
        self._layers = [layer for _, layer in modules if id(layer) in losing]
        self._moments = watcher.moments
        self._old = {id(layer): _rows(layer) for layer in self._layers}
        self.note = f"{len(losing)} layers were refitted on {count} batches of calibration inputs"

    def __call__(self, kept: Mapping[int, tuple[Array, ...]]) -> None:
        """Gives the layers, which are cut already, their fitted weights."""
        for layer in self._layers:
            rows, columns = kept[id(layer.weight)]
            each = layer.weight.numel() // (len(rows) * len(columns))
            stays: Array = (columns[:, None] * each + np.arange(each)).ravel()
            if layer.bias is not None:  # the input that is always 1
                stays = np.append(stays, len(self._moments[id(layer)]) - 1)
            fitted = fit(self._moments[id(layer)], self._old[id(layer)][rows], stays)
            if layer.bias is not None:
                fitted, bias = fitted[:, :-1], fitted[:, -1]
                layer.bias.data = bias.astype(layer.bias.data.dtype)
            weight = layer.weight.data
            layer.weight.data = np.ascontiguousarray(fitted.reshape(weight.shape), weight.dtype)


def fit(moments: Array, weight: Array, stays: Array) -> Array:
    """The weight (out, kept) that, on the inputs that stay, does best what `weight` (out, in) does on all.

    >>> x = np.array([[1.0, 2.0], [2.0, 4.0], [3.0, 6.0]])  # the second input is twice the first
    >>> fit(x.T @ x, np.array([[1.0, 1.0]]), np.array([0])).round(2)
    array([[2.95]])
    """
    ridge = _RIDGE * np.trace(moments) / len(moments)
    inner = moments[np.ix_(stays, stays)] + (ridge or 1.0) * np.eye(len(stays))
    found: Array = np.linalg.solve(inner, moments[stays] @ weight.T + (ridge or 1.0) * weight.T[stays])
    return found.T


def _can_be_fitted(layer: Any, holders: Mapping[int, int]) -> bool:
    plain = type(layer) is Linear or (type(layer) is Conv2d and layer.groups == 1)
    if not plain or "forward" in vars(layer) or "weight" + MASK in layer._buffers:
        return False
    return all(holders[id(p)] == 1 for p in (layer.weight, layer.bias) if p is not None)


def _loses_inputs(layer: Any, kept: Mapping[int, tuple[Array, ...]]) -> bool:
    stays = kept.get(id(layer.weight))
    return stays is not None and 0 < len(stays[1]) < layer.weight.shape[1]


def _rows(layer: Any) -> Array:
    """The weight (out, inputs), and the bias as a last column."""
    weight = layer.weight.data.reshape(len(layer.weight.data), -1).astype(np.float64)
    return weight if layer.bias is None else np.column_stack([weight, layer.bias.data])


def _inputs(layer: Any, x: Tensor) -> Array:
    """What the rows of a layer's weight are multiplied by (places, inputs), and 1 for its bias."""
    if isinstance(layer, Linear):
        found = x.data.reshape(-1, x.shape[-1])
    else:
        x = x if x.ndim == 4 else x[None]
        # zeros, since a walk follows no other border
        columns = unfold(
            pad(x, layer._sides), layer.kernel_size, layer.dilation, stride=layer.stride
        ).data  # (N, inputs, places)
        found = columns.swapaxes(1, 2).reshape(-1, columns.shape[1])
    return found if layer.bias is None else np.column_stack([found, np.ones(len(found), found.dtype)])


class _Moments:
    """A plugin for one calibration: sums up X^T X of what goes into the layers it is told."""

    def __init__(self, wanted: set[int]) -> None:
        self.wanted = wanted
        self.moments: dict[int, Array] = {}

    @hookimpl
    def tt_wrap_layer(self, layer_type: type[Layer], call: Callable[..., Any]) -> Callable[..., Any] | None:
        if layer_type not in (Linear, Conv2d):
            return None

        def watched(layer: Layer, x: Any, *rest: Any, **options: Any) -> Any:
            if id(layer) in self.wanted:
                inputs = _inputs(layer, x)
                inputs = inputs.astype(np.result_type(inputs, np.float32), copy=False)  # float16 sums overflow
                moments = (inputs.T @ inputs).astype(np.float64)
                self.moments[id(layer)] = self.moments.get(id(layer), 0) + moments
            return call(layer, x, *rest, **options)

        return watched
