"""Module 03, layers: replacing layers of a model, which plugins do to prepare it for inference."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

from tt_core.engine.arguments import checked
from tt_core.engine.errors import DTypeError
from tt_core.engine.plugins import manager
from tt_core.layers.base import Layer
from tt_core.layers.state import dotted


@checked
def replace_layers(model: Layer, predicate: Callable[[Layer, str], object], make: Callable[[Layer], Layer]) -> Layer:
    """Replaces every layer for which `predicate(layer, name)` is true by `make(layer)`, in place; returns the model.

    `name` is the dotted name, "" for the model itself; if the model itself is replaced, the result is the new one.
    Layers below a replaced layer are not visited. A layer that is used in several places is made once, and a new layer
    gets the mode (training or evaluation) of the old one. If two layers share parameters, `make` must keep them shared.
    All new layers are made before the first replacement, so an error leaves the model unchanged. Raises `DTypeError` if
    `make` does not return a layer.

    >>> from tt_core import Dropout, Identity, Linear, Sequential
    >>> model = Sequential(Linear(2, 2), Dropout(0.5))
    >>> replace_layers(model, lambda layer, name: isinstance(layer, Dropout), lambda layer: Identity())
    Sequential(
      (0): Linear(2, 2)  # 6
      (1): Identity()
    )  # 6 parameters
    """
    if predicate(model, ""):
        return _made(make, model)
    places: list[tuple[Layer, str, Layer]] = []  # holder, attribute, the new layer
    made: dict[int, Layer | None] = {id(model): None}  # by id of the old layer; None: it stays

    def visit(holder: Layer, prefix: str) -> None:
        for name, child in holder.named_children():
            where, known = dotted(prefix, name), id(child) in made
            if not known:
                made[id(child)] = _made(make, child) if predicate(child, where) else None
            new = made[id(child)]
            if new is not None:
                places.append((holder, name, new))
            elif not known:
                visit(child, where)

    visit(model, "")
    for holder, name, new in places:
        setattr(holder, name, new)
    return model


def _made(make: Callable[[Layer], Layer], layer: Layer) -> Layer:
    new = make(layer)
    if not isinstance(new, Layer):
        raise DTypeError(f"replace_layers: make must return a layer, got {type(new).__name__}")
    return new.train(layer.training) if new is not layer else new


@checked
def prepare_model(model: Layer, *, in_place: bool = False) -> Layer:
    """Returns `model` as the plugins prepare it for generation or evaluation (the hook `tt_prepare_model`).

    Without such a plugin, returns the model itself. `in_place=True` says that the caller is the only user of the model,
    so that a plugin may change it and save the memory of a copy. Raises `PluginError` where a plugin returns something
    other than a layer.

    >>> from tt_core import Linear
    >>> model = Linear(2, 1)
    >>> prepare_model(model) is model
    True
    """
    manager.load_pending()
    options = {"in_place": in_place}
    return cast(Layer, manager.chained("tt_prepare_model", model, into="model", of=Layer, options=options))
