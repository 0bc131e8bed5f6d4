"""Module 03, layers: the interface of everything that has parameters.

A layer defines `forward` and is called like a function. Parameters and layers assigned as attributes are registered
under the attribute's name, so that training, saving and `eval()` find them. This act does not know how parameters are
learned.
"""

from __future__ import annotations

import functools
import weakref
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn

import numpy as np

from tt_core.engine import devices
from tt_core.engine.arguments import checked
from tt_core.engine.blame import blame, remember
from tt_core.engine.errors import DTypeError, TinyTorchError, shown
from tt_core.engine.plugins import manager, snapshot
from tt_core.layers.state import MissingAndUnexpected, dotted, load_state, state_of
from tt_core.layers.tree import as_html, as_text, warn_of_unregistered
from tt_core.tensor.tensor import Tensor
from tt_core.torch_names.layers import ModuleNames

if TYPE_CHECKING:
    from typing_extensions import Self

    from tt_core.engine.protocols import Array


_MAY_BE_HIDDEN = ("layers", "named_layers", "add_layer", "num_parameters")
"""Methods that PyTorch does not have: children may have these names, since the framework never calls them by name."""


class Layer(ModuleNames):
    """Base of all layers (PyTorch's `nn.Module`).

    Calling a layer that defines no `forward` raises `NotImplementedError`; assigning an attribute before
    `super().__init__()` raises `TinyTorchError`.

    >>> from tt_core import Parameter, tensor
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
    _chain: Callable[..., Any] | None
    """`forward` inside the wraps of plugins; None where there are none."""
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
        manager.settle(functools.partial(_bind, cls))

    def __init__(self) -> None:
        for registry in self._registries:
            object.__setattr__(self, registry, {})
        self.training = True

    def forward(self, *inputs: Any, **options: Any) -> Any:
        """Computes the output; every layer defines this method."""
        raise NotImplementedError(f"{type(self).__name__} defines no forward(self, ...)")

    def __call__(self, *inputs: Any, **options: Any) -> Tensor:
        try:
            if self._hooks is not None:
                return self._call_with_hooks(inputs, options)
            chain = type(self)._chain
            if chain is None:  # without plugins; a forward that somebody has replaced is found
                return self.forward(*inputs, **options)
            return chain(self, *inputs, **options)
        except AttributeError as error:  # costs nothing until something raises
            blame(type(self).__name__, error)
            _explain(self, inputs, error)
        except Exception as error:
            blame(type(self).__name__, error)
            raise

    # --- registration

    def __setattr__(self, name: str, value: object) -> None:
        if "_parameters" not in self.__dict__:
            raise TinyTorchError(f"{type(self).__name__}: call super().__init__() before assigning {name}")
        registry = self._registry_of(name, value)
        self._forget(name, but=registry)  # a value that replaces one of its kind keeps its place in the order
        if registry is not None:
            registry[name] = value
        object.__setattr__(self, name, value)

    def _registry_of(self, name: str, value: Any) -> dict[str, Any] | None:
        """The registry for `value`, or None; raises `DTypeError` if it cannot replace a parameter or buffer."""
        if isinstance(value, Layer):
            self._check(value)
            return self._children
        if isinstance(value, Tensor) and value.is_parameter:
            return self._parameters
        if value is not None and name in self._parameters:
            what = "a plain tensor" if isinstance(value, Tensor) else type(value).__name__
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
        """A copy with the same parameters and sublayers; assigning to the copy does not change the original."""
        other = object.__new__(type(self))
        own = {name: dict(self.__dict__[name]) for name in self._registries}
        other.__dict__.update(self.__dict__ | own)
        return other

    def register_buffer(self, name: str, value: Tensor | Array | None, persistent: bool = True) -> None:
        """Registers `value` (a tensor or None) as state that is not learned; the state dict holds persistent buffers.

        A tensor assigned to the attribute later replaces the buffer. Raises `DTypeError` for a value that is not a
        tensor, and for a name that is empty, contains a dot or belongs to a method.

        >>> from tt_core import Identity, zeros
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

        Raises `DTypeError` for a value that is not a layer, and for a name that is empty, contains a dot or belongs to
        a method.
        """
        self._check_name(name)
        self._check(layer)
        setattr(self, name, layer)

    def _check_name(self, name: Any) -> None:
        """Raises `DTypeError` for a name that a state dict could confuse with a path, or a name of a method."""
        hidden = isinstance(name, str) and name not in _MAY_BE_HIDDEN and callable(getattr(type(self), name, None))
        if not isinstance(name, str) or not name or "." in name or hidden:
            raise DTypeError(
                f"{type(self).__name__}: a name is a text without dots that no method has, got {name!r}; choose another"
            )

    def _check(self, layer: Any) -> None:
        """Raises an error unless `layer` is a layer that does not contain this one."""
        if not isinstance(layer, Layer):
            raise DTypeError(f"{type(self).__name__}: holds layers, got {_not_a_layer(layer)}")
        if any(below is self for below in layer.modules()):
            raise TinyTorchError(f"{type(self).__name__}: cannot hold {type(layer).__name__}, which contains it")

    # --- walks over the tree

    @checked
    def named_layers(self, prefix: str = "") -> Iterator[tuple[str, Layer]]:
        """This layer and all layers below it, each once, with dotted names.

        >>> from tt_core import Identity, Linear, Sequential
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
            stack += [(dotted(name, child), below) for child, below in reversed(layer._children.items())]

    def layers(self) -> Iterator[Layer]:
        """This layer and all layers below it, each once."""
        return (layer for _, layer in self.named_modules())

    add_module = register_module = add_layer
    named_modules, modules = named_layers, layers
    """PyTorch's names. The framework calls these, since `self.layers = LayerList(...)` hides the method `layers`."""

    def named_children(self) -> Iterator[tuple[str, Layer]]:
        """The layers directly below, with their names."""
        return iter(self._children.items())

    def children(self) -> Iterator[Layer]:
        """The layers directly below."""
        return iter(self._children.values())

    @checked
    def named_parameters(self, prefix: str = "", recurse: bool = True) -> Iterator[tuple[str, Tensor]]:
        """All parameters with dotted names; `recurse` includes the layers below.

        A shared parameter comes once, under its first name. Warns about layers and parameters in a plain list or dict,
        which are not found.

        >>> from tt_core import Linear, Sequential
        >>> [name for name, _ in Sequential(Linear(2, 2), Linear(2, 1, bias=False)).named_parameters()]
        ['0.weight', '0.bias', '1.weight']
        """
        warn_of_unregistered(self)
        return self._named_parameters(prefix, recurse)

    def _named_parameters(self, prefix: str = "", recurse: bool = True) -> Iterator[tuple[str, Tensor]]:
        seen: set[int] = set()
        for path, layer in self.named_modules(prefix) if recurse else [(prefix, self)]:
            for name, parameter in layer._parameters.items():
                if id(parameter) not in seen:
                    seen.add(id(parameter))
                    yield dotted(path, name), parameter

    def parameters(self, recurse: bool = True) -> Iterator[Tensor]:
        """All parameters; `recurse` includes the layers below."""
        return (parameter for _, parameter in self.named_parameters(recurse=recurse))

    def named_buffers(self) -> Iterator[tuple[str, Tensor]]:
        """All buffers with dotted names, including those that are not in the state dict."""
        return (
            (dotted(prefix, name), buffer)
            for prefix, layer in self.named_modules()
            for name, buffer in (layer._buffers | layer._transient).items()
            if buffer is not None
        )

    def buffers(self) -> Iterator[Tensor]:
        """All buffers, including those that are not in the state dict."""
        return (buffer for _, buffer in self.named_buffers())

    def num_parameters(self) -> int:
        """Number of elements of all parameters; shared parameters count once.

        >>> from tt_core import Linear
        >>> Linear(3, 2).num_parameters()
        8
        """
        return sum(parameter.numel() for _, parameter in self._named_parameters())

    @checked
    def apply(self, function: Callable[[Layer], Any]) -> Self:
        """Calls `function` on every layer, children first, and returns this layer.

        >>> from tt_core import Linear, init
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
        """Switches this layer and all below to training or, with False, to evaluation; returns this layer."""
        for layer in self.modules():
            layer.training = mode
        return self

    def eval(self) -> Self:
        """Switches this layer and all below to evaluation; returns this layer."""
        return self.train(False)

    def to(self, *dtype: Any, **options: Any) -> Self:
        """Converts every floating-point parameter and buffer to a dtype, in place; returns this layer.

        Make optimizers after this call. `to("cpu")` changes nothing. Raises `DTypeError` for anything but a
        floating-point dtype, `DeviceError` for a device other than the CPU.

        >>> from tt_core import Linear
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

    # --- state

    def state_dict(self) -> dict[str, Tensor]:
        """Every parameter and persistent buffer, detached, under its dotted name; they share this layer's memory.

        A parameter that two layers share is listed under both names, as in PyTorch. Warns as `named_parameters` does.
        """
        warn_of_unregistered(self)
        return {name: entry.detach() for name, entry in state_of(self).items()}

    def load_state_dict(self, state: Mapping[str, Any], strict: bool = True) -> MissingAndUnexpected:
        """Copies the tensors (or arrays) of `state` into this layer's parameters and buffers.

        Returns the names that are missing and those that are unexpected. Raises `StateDictError` that lists missing
        and unexpected entries and wrong shapes, and changes nothing then. `strict=False` allows missing and unexpected
        entries; shapes must still agree.

        >>> from tt_core import Linear, ones
        >>> Linear(2, 1).load_state_dict({"weight": ones(1, 2)}, strict=False)
        MissingAndUnexpected(missing_keys=['bias'], unexpected_keys=[])
        """
        return load_state(self, state, strict)

    # --- repr

    def extra_repr(self) -> str:
        """Text between the brackets of the repr."""
        return ""

    def __repr__(self) -> str:
        count = f"  # {Layer.num_parameters(self):,} parameters" if self._parameters or self._children else ""
        return as_text(self) + count

    def _repr_html_(self) -> str:
        """The HTML for a notebook: the tree of layers, which can be unfolded, with numbers of parameters."""
        return as_html(self)


def _explain(layer: Layer, inputs: tuple[Any, ...], error: AttributeError) -> NoReturn:
    """Raises `DTypeError` if the error comes from an input that is not a tensor, else the error itself."""
    for i, x in enumerate(inputs):
        if error.obj is x and not isinstance(x, (Tensor, np.ndarray)):
            raise DTypeError(f"{type(layer).__name__}: input {i} is a tensor, got {shown(x)}") from None
    raise error


def _bind(layer_type: type[Layer]) -> None:
    """Binds the plugins' wraps into the call of this type of layer."""
    chain = manager.chained("tt_wrap_layer", _forward, into="call", layer_type=layer_type)
    if chain is not _forward:
        remember(layer_type.forward, "")
    layer_type._chain = manager.once_loaded(None if chain is _forward else chain, _again)


def _forward(layer: Layer, *inputs: Any, **options: Any) -> Any:
    return layer.forward(*inputs, **options)


remember(_forward, "")


def _again(layer: Layer, *inputs: Any, **options: Any) -> Any:
    return (type(layer)._chain or _forward)(layer, *inputs, **options)


def _bind_all() -> None:
    for layer_type in snapshot(Layer._types):
        _bind(layer_type)


Layer._types.add(Layer)
_bind(Layer)
manager.rebinders.append((_bind_all, {"tt_wrap_layer"}))


def _not_a_layer(given: Any) -> str:
    """A value that was given in place of a layer, and a suggestion."""
    if isinstance(given, type):
        return f"the class {given.__name__}; write {given.__name__}()" if issubclass(given, Layer) else shown(given)
    if isinstance(given, (list, tuple)) and all(isinstance(each, Layer) for each in given):
        return f"{type(given).__name__}; write *layers in place of layers"
    if callable(given) and (name := getattr(given, "__name__", "")):  # an op such as relu
        named = [layer.__name__ for layer in snapshot(Layer._types) if layer.__name__.lower() == name.replace("_", "")]
        return f"the function {name}; " + (f"write {named[0]}()" if named else "write a layer whose forward calls it")
    return type(given).__name__
