"""Part of module 16: the masks of a model. A mask is applied now and again after each step of an optimizer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from tt_core.engine import mutation
from tt_core.engine.arguments import checked
from tt_core.engine.dispatch import Array, wrap
from tt_core.engine.hookspecs import hookimpl
from tt_core.engine.plugins import manager
from tt_core.layers import Layer, Linear
from tt_core.tensor import Tensor
from tt_data.spatial import Convolution
from tt_learn.optimizers import Optimizer
from tt_perf.compression.reports import MASK, CompressionError
from tt_perf.quantization.layers import QuantizedLayer

Filter = Callable[[Layer, str], bool]


def has_quantized(model: Layer) -> bool:
    """Whether a layer of the model is quantized, so that its weights cannot be cut or masked."""
    return any(isinstance(layer, QuantizedLayer) for layer in model.modules())


@dataclass(frozen=True)
class Weight:
    """A parameter that may be pruned: the layer that holds it, its name there and its dotted name in the model."""

    layer: Layer
    name: str
    path: str

    @property
    def tensor(self) -> Tensor:
        """The parameter."""
        return self.layer._parameters[self.name]

    @property
    def mask(self) -> Array | None:
        """Its mask, None before the first pruning."""
        held = self.layer._buffers.get(self.name + MASK)
        return None if held is None else held.data


def prunable(model: Layer, filter_fn: Filter | None = None, what: str = "prune_") -> list[Weight]:
    """The weights that `prune_` works on; raises `CompressionError` where there are none, in the name of `what`."""
    holders: dict[int, int] = {}
    for layer in model.modules():
        for parameter in layer._parameters.values():
            holders[id(parameter)] = holders.get(id(parameter), 0) + 1
    found = [
        Weight(layer, "weight", f"{path}.weight" if path else "weight")
        for path, layer in model.named_modules()
        if isinstance(layer, (Linear, Convolution))
        and holders[id(layer.weight)] == 1
        and (filter_fn is None or filter_fn(layer, path))
    ]
    if not found:
        quantized = has_quantized(model)
        how = "they are quantized; compress first, or dequantize_" if quantized else "see filter_fn"
        raise CompressionError(f"{what}: {type(model).__name__} has no weights to compress; {how}")
    return found


def set_mask(layer: Layer, name: str, mask: Array) -> None:
    """Give the parameter `name` of `layer` a mask of its shape, True for kept weights, and apply it from now on.

    Raises `CompressionError` for a mask of another shape.

    >>> import tt_core
    >>> layer = tt_core.Linear(2, 1, bias=False)
    >>> set_mask(layer, "weight", np.array([[True, False]]))
    >>> layer.weight.detach()[0, 1].item(), sorted(layer.state_dict())
    (0.0, ['weight', 'weight_mask'])
    """
    parameter = layer._parameters[name]
    if mask.shape != parameter.shape:
        raise CompressionError(f"set_mask: the mask is {mask.shape}, {name} is {parameter.shape}")
    held = wrap(np.array(mask, bool))
    layer.register_buffer(name + MASK, held)
    parameter.pruning_mask = held  # type: ignore[attr-defined]  # found here after a step, and copied with it
    apply_mask(parameter)
    if not manager.is_registered(keeper):
        manager.register(keeper, "pruning-masks")


def apply_mask(parameter: Tensor) -> None:
    """W <- W * mask, in place; nothing for a parameter without a mask."""
    held = getattr(parameter, "pruning_mask", None) if "pruning_mask" in parameter.__dict__ else None
    if held is not None:
        np.copyto(parameter.data, 0, where=~held.data)  # a product would keep nan, and make -0
        mutation.record(parameter.data)


class MaskKeeper:
    """The plugin behind `prune_`: masks hold again after each step, which weight decay and momentum have moved."""

    @hookimpl
    def tt_observe_step(self, optimizer: type[Optimizer]) -> Callable[[Optimizer], None]:
        return self.after_step

    @staticmethod
    def after_step(optimizer: Optimizer) -> None:
        """Apply the masks of the optimizer's parameters."""
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                apply_mask(parameter)


keeper = MaskKeeper()


@checked
def remove_masks_(model: Layer) -> None:
    """Forget all masks; the weights are as they are, and training may change each of them again.

    >>> import tt_core
    >>> model = tt_core.Linear(4, 2)
    >>> set_mask(model, "weight", np.zeros((2, 4), bool))
    >>> remove_masks_(model)
    >>> sorted(model.state_dict())
    ['bias', 'weight']
    """
    for layer in model.modules():
        for name in [name for name in layer._buffers if name.endswith(MASK)]:
            parameter = layer._parameters[name.removesuffix(MASK)]
            del parameter.pruning_mask  # type: ignore[attr-defined]
            delattr(layer, name)
