"""Part of module 16: a compressed model in a fresh process. Its state dict shows how it was compressed.

`weight_mask` stands for a mask, `up.weight` and `down.weight` in the place of `weight` for a low rank, and a smaller
shape for removed units. A GPT that was shrunk needs none of this: its config says the new sizes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from tt_core.engine.arguments import checked, explained
from tt_core.layers import Layer, Linear, replace_layers
from tt_perf.compression.low_rank import LowRankLinear
from tt_perf.compression.masks import set_mask
from tt_perf.compression.reports import MASK, CompressionError
from tt_perf.compression.shrinking import resize_attributes, resizer


@explained
@checked
def load_compressed(model: Layer, state_dict: Mapping[str, Any]) -> None:
    """Bring `model`, as it was before compression, into the form that `state_dict` was saved from, and load that.

    Make optimizers afterwards. Raises `CompressionError` for a parameter of another shape in a layer whose sizes are
    unknown, and `StateDictError` as `load_state_dict` does.

    >>> import tt_core
    >>> from tt_perf import prune_
    >>> pruned, fresh = tt_core.Linear(4, 2), tt_core.Linear(4, 2)
    >>> _ = prune_(pruned, 0.5)
    >>> load_compressed(fresh, pruned.state_dict())
    >>> (fresh.weight == pruned.weight).all().item(), sorted(fresh.state_dict())
    (True, ['bias', 'weight', 'weight_mask'])
    """
    shapes = {name: tuple(np.shape(value)) for name, value in state_dict.items()}
    thin: dict[Layer, LowRankLinear] = {}
    for path, layer in model.named_modules():
        up, down = shapes.get(f"{path}.up.weight"), shapes.get(f"{path}.down.weight")
        if type(layer) is Linear and up and down and f"{path}.weight" not in shapes:
            made = LowRankLinear(down[1], up[0], down[0], bias=f"{path}.up.bias" in shapes)
            thin[layer] = made.to(layer.weight.dtype).requires_grad_(layer.weight.requires_grad).train(layer.training)
    replace_layers(model, lambda layer, path: layer in thin, lambda layer: thin[layer])
    for path, layer in model.named_modules():
        for name, entry in (layer._parameters | layer._buffers).items():
            dotted = f"{path}.{name}" if path else name
            if entry is not None and shapes.get(dotted, entry.shape) != entry.shape:
                _resize(layer, entry, dotted, shapes[dotted])
    resize_attributes(model)
    for path, layer in model.named_modules():
        for name in list(layer._parameters):
            dotted = (f"{path}.{name}" if path else name) + MASK
            if dotted in shapes:
                set_mask(layer, name, np.ones(shapes[dotted], bool))
    model.load_state_dict(state_dict)


def _resize(layer: Layer, entry: Any, path: str, shape: tuple[int, ...]) -> None:
    if resizer(layer) is None or len(shape) != entry.ndim or any(n > m for n, m in zip(shape, entry.shape)):
        raise CompressionError(
            f"load_compressed: {path} is {entry.shape}, the state dict has {shape}; build that model"
        )
    entry.data = np.zeros(shape, entry.dtype)
