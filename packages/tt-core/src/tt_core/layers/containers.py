"""Module 03, layers: `Sequential`, which calls its layers one after the other, and `Identity`.

Lists and dictionaries of layers are in `collections.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from tt_core.layers.base import Layer
from tt_core.layers.collections import Numbered
from tt_core.tensor.tensor import Tensor


class Sequential(Numbered):
    """Calls its layers one after the other.

    Takes layers, which are numbered, or one dictionary of named layers. A slice is a `Sequential` too. Raises
    `DTypeError` for an entry that is not a layer, `OutOfRangeError` for an index out of range.

    >>> from tt_core import Identity, Linear, ones
    >>> Sequential(Linear(4, 3), Identity())(ones(2, 4)).shape
    (2, 3)
    """

    def __init__(self, *layers: Layer | Mapping[str, Layer]) -> None:
        super().__init__()
        if len(layers) == 1 and isinstance(layers[0], Mapping):
            for name, layer in layers[0].items():
                self.add_module(name, layer)
        else:
            self.extend(cast(Any, layers))

    def forward(self, x: Tensor) -> Tensor:
        """Each layer's output is the next layer's input."""
        for layer in self._children.values():  # a dict keeps the order in which layers were added
            x = layer(x)  # called, and not its `forward`: hooks run around a call
        return x


class Identity(Layer):
    """Returns its input itself.

    >>> from tt_core import ones
    >>> x = ones(2)
    >>> Identity()(x) is x
    True
    """

    def forward(self, x: Tensor) -> Any:
        return x
