"""Part of module 03, layers: methods that PyTorch's `nn.Module` has and the journey does not need.

`Layer` inherits them, so that classes written for PyTorch work unchanged.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from tt_core.engine import devices
from tt_core.engine.arguments import checked
from tt_core.engine.errors import OutOfRangeError, TinyTorchError

if TYPE_CHECKING:
    from tt_core.layers import Layer
    from tt_core.tensor.tensor import Tensor

Hook = Callable[..., Any]


class RemovableHandle:
    """What registering a hook returns, to take the hook out again."""

    def __init__(self, hooks: dict[int, Hook], hook: Hook) -> None:
        self._hooks, self._number = hooks, max(hooks, default=-1) + 1
        hooks[self._number] = hook

    def remove(self) -> None:
        """Take the hook out; a second time does nothing."""
        self._hooks.pop(self._number, None)


class ModuleNames:
    """What `Layer` inherits under PyTorch's names."""

    _hooks: tuple[dict[int, Hook], dict[int, Hook]] | None = None
    """Those called before and those called after `forward`; None, which costs a call nothing, until one is added."""

    @checked
    def get_submodule(self: Any, target: str) -> Layer:
        """The layer with this dotted name, this one for ""; raises `OutOfRangeError` where there is none."""
        layer = self
        for name in filter(None, target.split(".")):
            if name not in layer._children:
                raise OutOfRangeError(f"{type(self).__name__}: has no layer {target!r}; named_layers() lists them")
            layer = layer._children[name]
        return layer

    @checked
    def get_parameter(self: Any, target: str) -> Tensor:
        """The parameter with this dotted name; raises `OutOfRangeError` where there is none."""
        prefix, _, name = target.rpartition(".")
        parameters = self.get_submodule(prefix)._parameters
        if name not in parameters:
            raise OutOfRangeError(f"{type(self).__name__}: has no parameter {target!r}; named_parameters() lists them")
        return parameters[name]

    @checked
    def get_buffer(self: Any, target: str) -> Tensor:
        """The buffer with this dotted name; raises `OutOfRangeError` where there is none."""
        prefix, _, name = target.rpartition(".")
        layer = self.get_submodule(prefix)
        buffers = {**layer._buffers, **layer._transient}
        if buffers.get(name) is None:
            raise OutOfRangeError(f"{type(self).__name__}: has no buffer {target!r}; named_buffers() lists them")
        return cast(Any, buffers[name])

    def requires_grad_(self: Any, requires_grad: bool = True) -> Any:
        """Have all parameters ask for gradients, or stop asking; returns this layer. Act II brings gradients."""
        for parameter in self.parameters():
            if not hasattr(parameter, "requires_grad_"):
                raise TinyTorchError("requires_grad_: gradients come with Act II; import tt_learn first")
            parameter.requires_grad_(requires_grad)
        return self

    def zero_grad(self: Any, set_to_none: bool = True) -> None:
        """Sets the gradient of every parameter to None. Act II brings gradients."""
        for _, parameter in self._named_parameters():
            if hasattr(parameter, "zero_grad"):
                parameter.zero_grad()

    def half(self: Any) -> Any:
        """Same as `to("float16")`."""
        return self.to(np.float16)

    def cpu(self: Any) -> Any:
        """The layer itself."""
        return self

    def cuda(self: Any, *_: Any) -> Any:
        """Raises `DeviceError`: there is only the CPU."""
        devices.check("cuda")
        return self

    @checked
    def register_forward_pre_hook(self: Any, hook: Hook) -> RemovableHandle:
        """Call `hook(layer, inputs)` before each forward; inputs that it returns take the place of the given ones."""
        return RemovableHandle(self._own_hooks()[0], hook)

    @checked
    def register_forward_hook(self: Any, hook: Hook) -> RemovableHandle:
        """Call `hook(layer, inputs, output)` after each forward; what it returns, unless None, becomes the output."""
        return RemovableHandle(self._own_hooks()[1], hook)

    def _made_in(self: Any, device: Any, dtype: Any) -> None:
        """Move what a constructor made to the device and dtype that it was given; None leaves them."""
        if device is not None or dtype is not None:
            self.to(device=device, dtype=dtype)

    def _own_hooks(self: Any) -> tuple[dict[int, Hook], dict[int, Hook]]:
        if self._hooks is None:
            self._hooks = ({}, {})
        return self._hooks

    def _call_with_hooks(self: Any, inputs: tuple[Any, ...], options: dict[str, Any]) -> Any:
        before, after = self._hooks
        for hook in tuple(before.values()):
            changed = hook(self, inputs)
            if changed is not None:
                inputs = changed if isinstance(changed, tuple) else (changed,)
        chain = type(self)._chain
        output = self.forward(*inputs, **options) if chain is None else chain(self, *inputs, **options)
        for hook in tuple(after.values()):
            changed = hook(self, inputs, output)
            output = output if changed is None else changed
        return output
