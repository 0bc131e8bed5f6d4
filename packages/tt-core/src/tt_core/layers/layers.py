"""Module 03, layers: one interface for everything with parameters, and the layers of Act I.

A layer defines `forward` and is called like a function. Tensors marked with `Parameter` and layers assigned as
attributes are registered under the attribute's name. Nothing here knows how parameters are learnt.
"""

from __future__ import annotations

import itertools
import math
import warnings
import weakref
from collections.abc import Callable, ItemsView, Iterable, Iterator, KeysView, Mapping, ValuesView
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, NoReturn, cast, overload

import numpy as np

from tt_core import init
from tt_core.engine import devices, mutation
from tt_core.engine.arguments import checked
from tt_core.engine.blame import blame, remember
from tt_core.engine.dispatch import Array, op
from tt_core.engine.errors import (
    ArgumentError,
    DTypeError,
    OutOfRangeError,
    ShapeError,
    TinyTorchError,
    check_floats,
    did_you_mean,
    shown,
)
from tt_core.engine.plugins import manager
from tt_core.random import generator
from tt_core.tensor.creation import empty, ones, tensor, zeros
from tt_core.tensor.elementwise import half_in_float32, on_floats
from tt_core.tensor.shapes import as_size
from tt_core.tensor.tensor import Tensor
from tt_core.torch_names.layers import ModuleNames

if TYPE_CHECKING:
    from typing_extensions import Self


class StateDictError(TinyTorchError):
    """A state dict that does not fit the layer it is loaded into."""


def Parameter(data: Any, dtype: Any = None) -> Tensor:
    """A tensor that training changes; assigned to a layer's attribute, it is registered there. Raises as `tensor` does.

    >>> Parameter([1.0, 2.0]).is_parameter
    True
    """
    return tensor(data, dtype).as_parameter()


class MissingAndUnexpected(NamedTuple):
    """What `load_state_dict` returns: entries that the state dict lacks, and those that the layer does not have."""

    missing_keys: list[str]
    unexpected_keys: list[str]


class Layer(ModuleNames):
    """Base of all layers (PyTorch's `nn.Module`).

    Raises `NotImplementedError` when one without `forward` is called, `TinyTorchError` when an attribute is assigned
    before `super().__init__()`.

    >>> class Scale(Layer):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.factor = Parameter(2.0)
    ...
    ...     def forward(self, x):
    ...         return x * self.factor
    >>> Scale()(tensor([1.0, 2.0])).tolist(), list(Scale().state_dict())
    ([2.0, 4.0], ['factor'])
    """

    _types: ClassVar[weakref.WeakSet[type[Layer]]] = weakref.WeakSet()
    _chain: Callable[..., Any]
    _parameters: dict[str, Tensor]
    _buffers: dict[str, Tensor | None]
    _transient: dict[str, Tensor | None]  # buffers that are not in the state dict
    _children: dict[str, Layer]
    _may_be_missing: ClassVar[tuple[str, ...]] = ()
    """Buffers of this layer that a state dict need not hold; they keep their values."""
    _registries = ("_parameters", "_buffers", "_transient", "_children")
    training: bool

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        Layer._types.add(cls)
        _bind(cls)

    def __init__(self) -> None:
        for registry in self._registries:
            object.__setattr__(self, registry, {})
        self.training = True

    def forward(self, *inputs: Any, **options: Any) -> Any:
        """What the layer computes; every layer defines it."""
        raise NotImplementedError(f"{type(self).__name__} defines no forward(self, ...)")

    def __call__(self, *inputs: Any, **options: Any) -> Tensor:
        try:
            if self._hooks is not None:
                return self._call_with_hooks(inputs, options)
            return type(self)._chain(self, *inputs, **options)
        except AttributeError as error:  # costs nothing until something raises
            blame(type(self).__name__, error)
            _explain(self, inputs, error)
        except Exception as error:
            blame(type(self).__name__, error)
            raise

    # --- registration

    def __setattr__(self, name: str, value: Any) -> None:
        if "_parameters" not in self.__dict__:
            raise TinyTorchError(f"{type(self).__name__}: call super().__init__() before assigning {name}")
        registry = self._registry_of(name, value)
        self._forget(name, but=registry)  # where it replaces its like, it keeps the place among the others
        if registry is not None:
            registry[name] = value
        object.__setattr__(self, name, value)

    def _registry_of(self, name: str, value: Any) -> dict[str, Any] | None:
        """Where `value` belongs: what takes a buffer's place is a buffer, what takes a parameter's must be learnt."""
        if isinstance(value, Layer):
            self._check(value)
            return self._children
        if isinstance(value, Tensor) and value.is_parameter:
            return self._parameters
        if value is not None and name in self._parameters:
            what = "a tensor that is none" if isinstance(value, Tensor) else type(value).__name__
            raise DTypeError(
                f"{type(self).__name__}: {name} is a parameter, got {what}; "
                "assign Parameter(...) or None, or write the values with copy_()"
            )
        registry = next((each for each in (self._buffers, self._transient) if name in each), None)
        if registry is None:
            return None
        if not (value is None or isinstance(value, Tensor)):
            raise DTypeError(f"{type(self).__name__}: {name} is a buffer, got {type(value).__name__}; use tensor()")
        return registry

    def __delattr__(self, name: str) -> None:
        self._forget(name)
        object.__delattr__(self, name)

    def _forget(self, name: str, but: dict[str, Any] | None = None) -> None:
        for each in self._registries:
            registry = self.__dict__[each]
            if registry is not but:
                registry.pop(name, None)

    def __copy__(self) -> Self:
        """The same parameters and layers below, but what is assigned to the copy is not the original's."""
        other = object.__new__(type(self))
        own = {name: dict(self.__dict__[name]) for name in self._registries}
        other.__dict__.update(self.__dict__ | own)
        return other

    def register_buffer(self, name: str, value: Any, persistent: bool = True) -> None:
        """Keep `value` (a tensor or None) as state that is not learnt; persistent ones are in the state dict.

        A tensor assigned to the attribute later takes its place. Raises `DTypeError` for what is no tensor, and for a
        name that is empty, has a dot or is that of a method.

        >>> layer = Identity()
        >>> layer.register_buffer("mean", zeros(2))
        >>> list(layer.state_dict()), list(layer.parameters())
        (['mean'], [])
        """
        if not (value is None or isinstance(value, Tensor)):
            raise DTypeError(
                f"{type(self).__name__}: buffer {name} must be a tensor or None, got {type(value).__name__}"
            )
        self._check_name(name)
        self._forget(name)
        (self._buffers if persistent else self._transient)[name] = value
        setattr(self, name, value)

    def register_parameter(self, name: str, value: Tensor | None) -> None:
        """Same as assigning `value`, a parameter or None, to the attribute `name`; raises `DTypeError` for others."""
        if value is not None and not getattr(value, "is_parameter", False):
            raise DTypeError(f"{type(self).__name__}: {name} must be a Parameter or None, got {type(value).__name__}")
        self._check_name(name)
        setattr(self, name, value)

    def add_layer(self, name: str, layer: Layer) -> None:
        """Same as assigning `layer` to the attribute `name`, for names that are not identifiers.

        Raises `DTypeError` for what is no layer, and for a name that is empty, has a dot or is that of a method.
        """
        self._check_name(name)
        self._check(layer)
        setattr(self, name, layer)

    def _check_name(self, name: Any) -> None:
        """Raise where state dicts could not tell `name` from a path, or where it would hide a method."""
        if not isinstance(name, str) or not name or "." in name or callable(getattr(type(self), name, None)):
            raise DTypeError(
                f"{type(self).__name__}: a name is a text without dots that no method has, got {name!r}; choose another"
            )

    def _check(self, layer: Any) -> None:
        """Raise where `layer` cannot be held here: it is no layer, or holds this one, so that the tree had no end."""
        if not isinstance(layer, Layer):
            raise DTypeError(f"{type(self).__name__}: holds layers, got {type(layer).__name__}")
        if any(below is self for below in layer.layers()):
            raise TinyTorchError(f"{type(self).__name__}: cannot hold {type(layer).__name__}, which it is a part of")

    # --- walks over the tree

    def named_layers(self, prefix: str = "") -> Iterator[tuple[str, Layer]]:
        """This layer and all below it, each once, with dotted names.

        >>> [name for name, _ in Sequential(Linear(2, 2), Sequential(Identity())).named_layers()]
        ['', '0', '1', '1.0']
        """
        seen: set[int] = set()
        stack = [(prefix, self)]
        while stack:
            name, layer = stack.pop()
            if id(layer) in seen:
                continue
            seen.add(id(layer))
            yield name, layer
            stack += [(_join(name, child), below) for child, below in reversed(layer._children.items())]

    def layers(self) -> Iterator[Layer]:
        """This layer and all below it."""
        return (layer for _, layer in self.named_layers())

    def named_children(self) -> Iterator[tuple[str, Layer]]:
        """The layers directly below."""
        return iter(self._children.items())

    def children(self) -> Iterator[Layer]:
        """The layers directly below."""
        return iter(self._children.values())

    @checked
    def named_parameters(self, prefix: str = "", recurse: bool = True) -> Iterator[tuple[str, Tensor]]:
        """All parameters with dotted names, those of layers below too where `recurse`.

        One that is shared comes once, under its first name.

        Warns of layers and parameters that are kept in a plain list or dict, where they are not found.

        >>> [name for name, _ in Sequential(Linear(2, 2), Linear(2, 1, bias=False)).named_parameters()]
        ['0.weight', '0.bias', '1.weight']
        """
        _warn_of_unregistered(self)
        return self._named_parameters(prefix, recurse)

    def _named_parameters(self, prefix: str = "", recurse: bool = True) -> Iterator[tuple[str, Tensor]]:
        seen: set[int] = set()
        for path, layer in self.named_layers(prefix) if recurse else [(prefix, self)]:
            for name, parameter in layer._parameters.items():
                if id(parameter) not in seen:
                    seen.add(id(parameter))
                    yield _join(path, name), parameter

    def parameters(self, recurse: bool = True) -> Iterator[Tensor]:
        """All parameters, those of layers below too where `recurse`."""
        return (parameter for _, parameter in self.named_parameters(recurse=recurse))

    def named_buffers(self) -> Iterator[tuple[str, Tensor]]:
        """All buffers with dotted names, also those that are not in the state dict."""
        return (
            (_join(prefix, name), buffer)
            for prefix, layer in self.named_layers()
            for name, buffer in (layer._buffers | layer._transient).items()
            if buffer is not None
        )

    def buffers(self) -> Iterator[Tensor]:
        """All buffers, also those that are not in the state dict."""
        return (buffer for _, buffer in self.named_buffers())

    def num_parameters(self) -> int:
        """Number of learnt numbers, shared ones counted once.

        >>> Linear(3, 2).num_parameters()
        8
        """
        return sum(parameter.numel() for _, parameter in self._named_parameters())

    @checked
    def apply(self, function: Callable[[Layer], Any]) -> Self:
        """Call `function` on every layer, children first, and return this one.

        >>> model = Linear(2, 2).apply(lambda layer: init.ones_(layer.weight))
        >>> model.weight.sum().item()
        4.0
        """
        for child in self.children():
            child.apply(function)
        function(self)
        return self

    # --- modes

    @checked
    def train(self, mode: bool = True) -> Self:
        """Switch everything below to training (dropout on) or, with False, to evaluation; returns this layer."""
        for layer in self.layers():
            layer.training = mode
        return self

    def eval(self) -> Self:
        """Switch everything below to evaluation; returns this layer."""
        return self.train(False)

    def to(self, *dtype: Any, **options: Any) -> Self:
        """Every parameter and buffer of floats in this dtype, in place; gradients and optimizers start anew after it.

        `to("cpu")` changes nothing. Raises `DTypeError` for anything but a dtype of floats, `DeviceError` for a device
        other than the CPU.

        >>> Linear(2, 2).to("float64").weight.dtype
        dtype('float64')
        """
        name = f"{type(self).__name__}.to"
        known = devices.dtype_of(name, *dtype, **options)
        if known is None and not options and (not dtype or None in dtype):
            raise DTypeError(f"{name}: takes a dtype of floats such as 'float64', or 'cpu', got None")
        if known is not None and known.kind != "f":
            raise DTypeError(f"{name}: takes a dtype of floats such as 'float64', got {known}")
        for entry in (*self.parameters(), *self.buffers()) if known is not None else ():
            if entry.is_floating_point():
                entry.data = entry.data.astype(known, copy=False)
        return self

    def float(self) -> Self:
        """Same as `to("float32")`."""
        return self.to(np.float32)

    def double(self) -> Self:
        """Same as `to("float64")`."""
        return self.to(np.float64)

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget all gradients (Act II sets them)."""
        for _, parameter in self._named_parameters():
            parameter.grad = None

    # --- state

    def state_dict(self) -> dict[str, Tensor]:
        """Every parameter and persistent buffer, detached, under its dotted name; they share this layer's memory.

        A parameter that two layers share stands under both names, as in PyTorch. Warns as `named_parameters` does.
        """
        _warn_of_unregistered(self)
        return {name: entry.detach() for name, entry in self._state().items()}

    def _state(self) -> dict[str, Tensor]:
        state: dict[str, Tensor] = {}
        stack: list[tuple[str, Layer]] = [("", self)]
        while stack:
            prefix, layer = stack.pop()
            entries = (layer._parameters | layer._buffers).items()
            state |= {_join(prefix, name): entry for name, entry in entries if entry is not None}
            stack += [(_join(prefix, name), child) for name, child in reversed(layer._children.items())]
        return state

    def load_state_dict(self, state: Mapping[str, Any], strict: bool = True) -> MissingAndUnexpected:
        """Copy the tensors (or arrays) of `state` into this layer's parameters and buffers.

        Returns the names that are missing and those that are unexpected. Raises `StateDictError` that lists missing,
        unexpected and misshapen entries, with nothing changed; `strict=False` lets entries be missing or unexpected,
        shapes must still agree.

        >>> Linear(2, 1).load_state_dict({"weight": ones(1, 2)}, strict=False)
        MissingAndUnexpected(missing_keys=['bias'], unexpected_keys=[])
        """
        if not isinstance(state, Mapping):
            raise DTypeError(f"load_state_dict: takes a dictionary of names and tensors, got {type(state).__name__}")
        own = self._state()
        given = {name: np.asarray(entry) for name, entry in state.items() if name in own}
        problems = [misfit for name, array in given.items() for misfit in _misfits(name, array, own[name].data)]
        optional = {id(layer._buffers.get(name)) for layer in self.layers() for name in layer._may_be_missing}
        missing = [name for name in own if name not in state and id(own[name]) not in optional]
        unexpected = [name for name in state if name not in own]
        if strict:
            problems += [f"missing {_some(missing)}"] * bool(missing)
            problems += [f"unexpected {_some(unexpected)}"] * bool(unexpected)
        if problems:
            raise StateDictError(f"{type(self).__name__}: state dict does not fit: {'; '.join(_head(problems))}")
        for name, array in given.items():
            np.copyto(own[name].data, array, casting="same_kind")
            mutation.record(own[name].data)
        return MissingAndUnexpected(missing, unexpected)

    # --- repr

    def extra_repr(self) -> str:
        """What the repr shows between this layer's brackets."""
        return ""

    def __repr__(self) -> str:
        count = f"  # {self.num_parameters():,} parameters" if self._parameters or self._children else ""
        return self._tree() + count

    def _repr_html_(self) -> str:
        """What a notebook shows: the tree of layers, which unfolds, with counts of parameters."""
        return self._html("", depth=0)

    def _html(self, name: str, depth: int) -> str:
        from tt_core.engine.notebook import tree

        label = f"{name}: " * bool(name) + f"{type(self).__name__}({self.extra_repr()})"
        note = f"{self.num_parameters():,} parameters" if self.num_parameters() else ""
        branches = [child._html(below, depth + 1) for below, child in self._children.items()]
        return tree(label, note, branches, opened=depth < 2)

    def _tree(self) -> str:
        if not self._children:
            return f"{type(self).__name__}({self.extra_repr()})"
        lines = []
        for name, child in self._children.items():
            text = child._tree().replace("\n", "\n  ")
            lines.append(
                f"\n  ({name}): {text}" + (f"  # {child.num_parameters():,}" if child.num_parameters() else "")
            )
        return f"{type(self).__name__}({self.extra_repr()}{''.join(lines)}\n)"


def _warn_of_unregistered(root: Layer) -> None:
    """Warn of layers and parameters below `root` in plain lists and dicts, unless they are registered elsewhere too."""
    found = list(root.named_layers())
    known = {id(layer) for _, layer in found} | {id(p) for _, layer in found for p in layer._parameters.values()}
    for prefix, layer in found:
        for name, value in layer.__dict__.items():
            if type(value) in (list, dict) and name not in layer._registries and _holds_another(value, known):
                kind = "LayerDict" if type(value) is dict else "LayerList"
                where = f"{type(root).__name__}.{_join(prefix, name)}"
                warnings.warn(
                    f"{where} is a {type(value).__name__} of layers or parameters, which training, saving and eval() "
                    f"do not find; keep layers in a {kind}, parameters as attributes",
                    stacklevel=4,
                )


def _holds_another(value: Any, known: set[int], depth: int = 3) -> bool:
    """Whether the first entries of a list or dict, nested up to `depth`, hold a layer or parameter not in `known`."""
    for entry in itertools.islice(value.values() if isinstance(value, dict) else value, 100):
        if isinstance(entry, Layer) or (isinstance(entry, Tensor) and entry.is_parameter):
            if id(entry) not in known:
                return True
        elif depth > 1 and type(entry) in (list, tuple, dict) and _holds_another(entry, known, depth - 1):
            return True
    return False


def _join(prefix: str, name: str) -> str:
    return f"{prefix}.{name}" if prefix else name


def _misfits(name: str, given: Array, own: Array) -> Iterator[str]:
    if given.shape != own.shape:
        yield f"{name} is {given.shape}, expected {own.shape}"
    if not np.can_cast(given.dtype, own.dtype, "same_kind"):
        yield f"{name} is {given.dtype}, expected {own.dtype}"
    if not own.flags.writeable:
        yield f"{name} is read-only in the layer"


def _some(names: list[Any]) -> str:
    return ", ".join(map(str, _head(names)))


def _head(entries: list[str], most: int = 8) -> list[str]:
    return entries if len(entries) <= most else [*entries[:most], f"... and {len(entries) - most} more"]


def _explain(layer: Layer, inputs: tuple[Any, ...], error: AttributeError) -> NoReturn:
    """Raise `DTypeError` where an input lacks what tensors have; any other error passes."""
    for i, x in enumerate(inputs):
        if error.obj is x and not isinstance(x, (Tensor, np.ndarray)):
            raise DTypeError(f"{type(layer).__name__}: input {i} is a tensor, got {shown(x)}") from None
    raise error


def _bind(layer_type: type[Layer]) -> None:
    """Bind the plugins' wraps into the call of this type of layer."""
    forward = layer_type.forward
    chain = manager.chained("tt_wrap_layer", forward, into="call", layer_type=layer_type)
    if chain is not forward:
        remember(forward, "")
    layer_type._chain = _load_plugins_then_call if manager.pending else chain


def _load_plugins_then_call(layer: Layer, *inputs: Any, **options: Any) -> Any:
    manager.load_pending()
    return type(layer)._chain(layer, *inputs, **options)


def _bind_all() -> None:
    for layer_type in list(Layer._types):
        _bind(layer_type)


Layer._types.add(Layer)
_bind(Layer)
manager.rebinders.append((_bind_all, {"tt_wrap_layer"}))


# --- exchanging layers


@checked
def replace_layers(model: Layer, predicate: Callable[[Layer, str], object], make: Callable[[Layer], Layer]) -> Layer:
    """Exchange every layer for which `predicate(layer, name)` is true by `make(layer)`, in place; returns the model.

    `name` is the dotted name, "" for the model itself; where that one is exchanged, the result is the new one. A layer
    that stands in several places is made once and stands there again, and the new layer is in the old one's mode.
    What is below an exchanged layer is not looked at. Parameters that two layers share are for `make` to keep shared.
    All layers are made before the first is exchanged, so an error leaves the model as it was. Raises `DTypeError`
    where `make` returns no layer.

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
    made: dict[int, Layer | None] = {id(model): None}

    def visit(holder: Layer, prefix: str) -> None:
        for name, child in holder.named_children():
            where, known = _join(prefix, name), id(child) in made
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
    """What the plugins make of `model` before it generates or is evaluated (the hook `tt_prepare_model`).

    The model itself where no plugin answers. `in_place` says that nobody else holds the model, so that a plugin may
    change it and save the memory of a copy.

    >>> model = Linear(2, 1)
    >>> prepare_model(model) is model
    True
    """
    manager.load_pending()
    return cast(Layer, manager.chained("tt_prepare_model", model, into="model", options={"in_place": in_place}))


# --- containers


class _Numbered(Layer):
    """Layers in order, registered under their numbers, with what a list can do."""

    def append(self, layer: Layer) -> Self:
        """Add one layer at the end."""
        return self.extend([layer])

    def extend(self, layers: Iterable[Layer]) -> Self:
        """Add layers at the end."""
        for number, layer in enumerate(self._checked(layers), len(self)):
            self.add_layer(str(number), layer)
        return self

    @checked
    def insert(self, index: int, layer: Layer) -> Self:
        """Add one layer before the one at `index`; those behind it are numbered anew."""
        layers = list(self)
        layers.insert(index, layer)
        return self._become(layers)

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


class Sequential(_Numbered):
    """Layers one after the other, numbered, or named as in the one dictionary that is given; a slice is one too.

    Raises `DTypeError` for what is no layer, `OutOfRangeError` for a number that is not there.

    >>> Sequential(Linear(4, 3), Identity())(ones(2, 4)).shape
    (2, 3)
    """

    def __init__(self, *layers: Layer | Mapping[str, Layer]) -> None:
        super().__init__()
        if len(layers) == 1 and isinstance(layers[0], Mapping):
            for name, layer in layers[0].items():
                self.add_layer(name, layer)
        else:
            self.extend(cast(Any, layers))

    def forward(self, x: Any) -> Any:
        for layer in self._children.values():
            x = layer(x)
        return x


class LayerList(_Numbered):
    """A list of layers that are registered but not called by the list itself (PyTorch's `ModuleList`); raises as
    `Sequential` does.

    >>> blocks = LayerList(Linear(2, 2) for _ in range(3))
    >>> len(blocks[1:]), blocks[-1] is blocks[2]
    (2, True)
    """

    @checked
    def __init__(self, layers: Iterable[Layer] = ()) -> None:
        super().__init__()
        self.extend(layers)


class LayerDict(Layer):
    """A dictionary of layers that are registered but not called by it (PyTorch's `ModuleDict`).

    Raises `DTypeError` for what is no layer and for a name that a method has, `OutOfRangeError` for a name that is not
    there.

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
        """Add layers by name, from a mapping or from pairs; an equal name is replaced."""
        for name, layer in dict(layers).items():
            self.add_layer(name, layer)

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
        """Take a layer out and return it."""
        layer = self[name]
        del self[name]
        return layer

    def clear(self) -> None:
        """Take all layers out."""
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
        self.add_layer(name, layer)

    def __delitem__(self, name: str) -> None:
        self[name]  # raises where there is none
        delattr(self, name)


class Identity(Layer):
    """Returns its input, the very same object.

    >>> x = ones(2)
    >>> Identity()(x) is x
    True
    """

    def forward(self, x: Any) -> Any:
        return x


# --- linear


def _check_linear(x: Array, weight: Array, bias: Array | None = None, /) -> None:
    if weight.ndim not in (1, 2):
        raise ValueError(f"weight must be a matrix or a vector, got shape {weight.shape}")
    if not x.ndim or x.shape[-1] != weight.shape[-1]:
        raise ValueError(f"input has {x.shape[-1] if x.ndim else 0} features, weight expects {weight.shape[-1]}")


@op(check=_check_linear)
@half_in_float32
def linear(x: Array, weight: Array, bias: Array | None = None, /) -> Array:
    """`x @ weight.T + bias`; x (..., in), weight (out, in), bias (out,) gives (..., out).

    A weight (in,) with a bias () gives (...). Raises `ShapeError` where these do not fit.

    >>> linear(np.array([1, 2]), np.array([[10, 1], [0, 1]]), np.array([100, 0]))
    tensor([112,   2])
    """
    return x @ weight.T if bias is None else x @ weight.T + bias


class Linear(Layer):
    """Affine map `y = x W^T + b`.

    `weight` (out_features, in_features) and `bias` (out_features,) start uniform in +-1/sqrt(in_features), as in
    PyTorch. Takes (..., in_features), returns (..., out_features). Raises `ShapeError` for another input.

    >>> Linear(3, 2)(ones(5, 3)).shape
    (5, 2)
    """

    weight: Tensor
    bias: Tensor | None

    @checked
    def __init__(self, in_features: int, out_features: int, bias: bool = True) -> None:
        super().__init__()
        self.in_features, self.out_features = as_size("Linear", (in_features, out_features))
        self.weight = empty(out_features, in_features).as_parameter()
        self.bias = empty(out_features).as_parameter() if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the initial values again."""
        init.kaiming_uniform_(self.weight, a=math.sqrt(5))
        if self.bias is not None:
            bound = 1 / math.sqrt(self.in_features) if self.in_features else 0
            init.uniform_(self.bias, -bound, bound)

    def forward(self, x: Any) -> Any:
        return linear(x, self.weight, self.bias)

    def extra_repr(self) -> str:
        return f"{self.in_features}, {self.out_features}" + ("" if self.bias is not None else ", bias=False")


# --- layer normalization


def _check_layer_norm(
    x: Array, weight: Array | None = None, bias: Array | None = None, /, dims: int = 1, eps: float = 1e-5
) -> None:
    check_floats(x)
    if not 1 <= dims <= x.ndim:
        raise ValueError(f"dims is between 1 and the {x.ndim} dimensions of the input, got {dims}")
    shape = x.shape[x.ndim - dims :]
    for name, given in (("weight", weight), ("bias", bias)):
        if given is not None and given.shape != shape:
            raise ValueError(f"{name} has shape {given.shape}, the last {dims} dimensions of the input are {shape}")


@op(check=_check_layer_norm)
@on_floats
def layer_norm(
    x: Array, weight: Array | None = None, bias: Array | None = None, /, dims: int = 1, eps: float = 1e-5
) -> Array:
    """Mean 0 and variance 1 over the last `dims` dimensions, then scaled and shifted (Ba et al. 2016).

    Raises `DTypeError` for integers, `ShapeError` for dimensions that do not exist and for a weight or bias of any
    shape but theirs.

    >>> layer_norm(np.array([[1, 3], [10, 30]], np.float32))
    tensor([[-1.,  1.],
            [-1.,  1.]])
    """
    axes = tuple(range(-dims, 0))
    y = (x - x.mean(axes, keepdims=True)) / np.sqrt(x.var(axes, keepdims=True) + eps)
    y = y if weight is None else y * weight
    return y if bias is None else y + bias


class LayerNorm(Layer):
    """Normalizes each example over its last dimensions (Ba, Kiros, Hinton 2016, arXiv:1607.06450).

    `normalized_shape`: an int or the sizes of these dimensions; `weight` and `bias` have that shape. Raises
    `ShapeError` for an input that does not end in it.

    >>> LayerNorm(4)(tensor([[1.0, 2.0, 3.0, 4.0]])).detach()
    tensor([[-1.3416, -0.4472,  0.4472,  1.3416]])
    """

    weight: Tensor | None
    bias: Tensor | None

    @checked
    def __init__(
        self, normalized_shape: Any, eps: float = 1e-5, elementwise_affine: bool = True, bias: bool = True
    ) -> None:
        super().__init__()
        shape = as_size("LayerNorm", (normalized_shape,))
        self.normalized_shape, self.eps = shape, eps
        self.weight = ones(*shape).as_parameter() if elementwise_affine else None
        self.bias = zeros(*shape).as_parameter() if elementwise_affine and bias else None

    def forward(self, x: Any) -> Any:
        if tuple(x.shape[-len(self.normalized_shape) :]) != self.normalized_shape:
            raise ShapeError(f"LayerNorm: input {x.shape} does not end in {self.normalized_shape}")
        return layer_norm(x, self.weight, self.bias, dims=len(self.normalized_shape), eps=self.eps)

    def extra_repr(self) -> str:
        return ", ".join(map(str, self.normalized_shape))


# --- dropout


def _check_dropout(x: Array, /, p: float = 0.5, training: bool = True) -> None:
    if not 0 <= p <= 1:
        raise ValueError(f"p is a probability, got {p}")
    check_floats(x)


@op(residuals=("scale",), check=_check_dropout, random=True, view=True)
def dropout(x: Array, /, p: float = 0.5, training: bool = True) -> tuple[Array, Array]:
    """Each element 0 with probability `p`, else scaled by 1/(1-p) (Srivastava et al. 2014). Residual: the scale.

    Returns x itself unless `training`. Raises `ShapeError` for a `p` outside [0, 1], `DTypeError` for integers.

    >>> set(dropout(ones(100), p=0.5).tolist()) <= {0.0, 2.0}
    True
    """
    if not training:
        return x, np.ones((), x.dtype)
    keep = np.asarray(generator().random(x.shape, dtype=np.float32)) >= p
    scale = keep.astype(x.dtype)
    if 0 < p < 1:
        scale *= x.dtype.type(1 / (1 - p))
    return x * scale, scale


class Dropout(Layer):
    """Zeroes elements at random while training, and does nothing in evaluation (Srivastava et al. 2014).

    Raises `ArgumentError` for a `p` outside [0, 1].

    >>> Dropout(0.5).eval()(ones(3))
    tensor([1., 1., 1.])
    """

    @checked
    def __init__(self, p: float = 0.5, inplace: bool = False) -> None:
        super().__init__()
        if not 0 <= p <= 1:
            raise ArgumentError(f"Dropout: p is a probability, got {p}")
        self.p = p

    def forward(self, x: Any) -> Any:
        return cast(Any, dropout(x, p=self.p)) if self.training and self.p else x

    def extra_repr(self) -> str:
        return f"p={self.p}"
