"""Module 03, layers: lists and dictionaries of layers, which a model calls as it likes."""

from __future__ import annotations

from collections.abc import ItemsView, Iterable, Iterator, KeysView, Mapping, ValuesView
from typing import TYPE_CHECKING, Any, overload

from tt_core.engine.arguments import checked
from tt_core.engine.errors import DTypeError, OutOfRangeError, did_you_mean, shown
from tt_core.layers.base import Layer

if TYPE_CHECKING:
    from typing_extensions import Self


class Numbered(Layer):
    """Layers in order, registered under their numbers, with the methods of a list."""

    def append(self, layer: Layer) -> Self:
        """Appends one layer."""
        return self.extend([layer])

    def extend(self, layers: Iterable[Layer]) -> Self:
        """Appends several layers."""
        for number, layer in enumerate(self._checked(layers), len(self)):
            self.add_module(str(number), layer)
        return self

    @checked
    def insert(self, index: int, layer: Layer) -> Self:
        """Inserts one layer before position `index`; later layers get new numbers."""
        layers = list(self)
        layers.insert(index, layer)
        return self._become(layers)

    @checked
    def pop(self, index: int) -> Layer:
        """Removes the layer at `index` and returns it; later layers get new numbers."""
        layer = self[index]
        del self[index]
        return layer

    def _checked(self, layers: Iterable[Any]) -> list[Layer]:
        if isinstance(layers, (str, bytes, Mapping)) or not hasattr(layers, "__iter__"):
            raise DTypeError(f"{type(self).__name__}: layers is a list of layers, got {shown(layers)}")
        layers = list(layers)
        for layer in layers:
            self._check(layer)
        return layers

    def _become(self, layers: list[Layer]) -> Self:
        layers = self._checked(layers)
        for name in list(self._children):
            delattr(self, name)
        return self.extend(layers)

    def __len__(self) -> int:
        return len(self._children)

    def __iter__(self) -> Iterator[Layer]:
        return iter(self._children.values())

    @overload
    def __getitem__(self, index: int) -> Layer: ...
    @overload
    def __getitem__(self, index: slice) -> Self: ...
    def __getitem__(self, index: int | slice) -> Any:
        chosen = self._at(index)
        if isinstance(chosen, Layer):
            return chosen
        part = object.__new__(type(self))
        Layer.__init__(part)
        return part.extend(chosen)

    def _at(self, index: Any) -> Any:
        try:
            return list(self)[index]
        except TypeError:
            raise DTypeError(f"{type(self).__name__}: index is an integer or a slice, got {shown(index)}") from None
        except IndexError:
            raise OutOfRangeError(f"{type(self).__name__}: no layer {index}, there are {len(self)}") from None

    def __setitem__(self, index: int, layer: Layer) -> None:
        layers, _ = list(self), self._at(index)
        layers[index] = layer
        self._become(layers)

    def __delitem__(self, index: int | slice) -> None:
        layers, _ = list(self), self._at(index)
        del layers[index]
        self._become(layers)


class LayerList(Numbered):
    """A list of layers that registers them and leaves the calling to you (PyTorch's `ModuleList`).

    Raises as `Sequential` does.

    >>> from tt_core import Linear
    >>> blocks = LayerList(Linear(2, 2) for _ in range(3))
    >>> len(blocks[1:]), blocks[-1] is blocks[2]
    (2, True)
    """

    @checked
    def __init__(self, layers: Iterable[Layer] = ()) -> None:
        super().__init__()
        self.extend(layers)


class LayerDict(Layer):
    """A dictionary of layers that registers them and leaves the calling to you (PyTorch's `ModuleDict`).

    Raises `DTypeError` for an entry that is not a layer and for the name of a method, `OutOfRangeError` for an unknown
    name.

    >>> from tt_core import Linear, ones
    >>> heads = LayerDict({"digits": Linear(4, 10), "parity": Linear(4, 2)})
    >>> heads["parity"](ones(1, 4)).shape, list(heads), "colour" in heads
    ((1, 2), ['digits', 'parity'], False)
    """

    @checked
    def __init__(self, layers: Mapping[str, Layer] | Iterable[tuple[str, Layer]] | None = None) -> None:
        super().__init__()
        self.update(layers or {})

    @checked
    def update(self, layers: Mapping[str, Layer] | Iterable[tuple[str, Layer]]) -> None:
        """Adds layers by name, from a mapping or from pairs; a layer of the same name is replaced."""
        for name, layer in dict(layers).items():
            self.add_module(name, layer)

    def keys(self) -> KeysView[str]:
        """The names."""
        return self._children.keys()

    def values(self) -> ValuesView[Layer]:
        """The layers."""
        return self._children.values()

    def items(self) -> ItemsView[str, Layer]:
        """Names and layers."""
        return self._children.items()

    @checked
    def pop(self, name: str) -> Layer:
        """Removes a layer and returns it."""
        layer = self[name]
        del self[name]
        return layer

    def clear(self) -> None:
        """Removes all layers."""
        for name in list(self):
            del self[name]

    def __len__(self) -> int:
        return len(self._children)

    def __iter__(self) -> Iterator[str]:
        return iter(self._children)

    def __contains__(self, name: object) -> bool:
        return name in self._children

    @checked
    def __getitem__(self, name: str) -> Layer:
        if name not in self._children:
            raise OutOfRangeError(f"LayerDict: no layer is called {name}; {did_you_mean(str(name), self._children)}")
        return self._children[name]

    def __setitem__(self, name: str, layer: Layer) -> None:
        self.add_module(name, layer)

    def __delitem__(self, name: str) -> None:
        self[name]  # raises for an unknown name
        delattr(self, name)
