"""The tensor that remembers how it was computed."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar, SupportsIndex, cast

import tt_core
from tt_core.engine.arguments import checked
from tt_core.engine.dispatch import Array, wrap
from tt_learn.autograd.errors import GradientError
from tt_learn.autograd.graph import Node
from tt_learn.autograd.guards import refuse_in_place
from tt_learn.autograd.hooks import Hook, HookedBackward, HookHandle, keeper
from tt_learn.autograd.modes import recording

if TYPE_CHECKING:
    from typing_extensions import Self

    from tt_core.engine.hints import DTypeLike, TensorLike


class Tensor(tt_core.Tensor):
    """A tensor that can remember how it was computed.

    `requires_grad=True` asks for its gradient, which a later `backward()` adds to `grad`. Raises `GradientError` for a
    dtype other than floats, which has no gradients.

    >>> x = Tensor([2.0, 3.0], requires_grad=True)
    >>> (x * x).sum().backward()
    >>> x.grad
    tensor([4., 6.])
    """

    _grad: Tensor | None = None
    grad_fn: Node | None = None
    """The call that computed this tensor; None for a leaf."""
    _requires_grad: bool = False  # read at each call, where a property would cost 30 ns more
    _output = 0  # which output of grad_fn this is
    _retains = False
    recalled: ClassVar[Any]
    """The class of the stand-in for an output of this class inside the rule that computed it (see `record.py`)."""
    _hooks: list[Hook] | None = None  # a leaf's hooks; other tensors keep theirs at the node

    def __init__(self, data: TensorLike, dtype: DTypeLike | None = None, requires_grad: bool = False) -> None:
        super().__init__(data, dtype)
        if requires_grad:
            self.requires_grad_()

    def _take(self, what: str, options: dict[str, Any]) -> Self:
        if options.pop("requires_grad", False):
            self.requires_grad_()
        return super()._take(what, options)

    @property
    def requires_grad(self) -> bool:
        """Whether this tensor gets a gradient, or passes one on; assigning to it calls `requires_grad_`."""
        return self._requires_grad

    @requires_grad.setter
    def requires_grad(self, requires_grad: bool) -> None:
        self.requires_grad_(requires_grad)

    @property
    def grad(self) -> Tensor | None:
        """The sum of gradients from `backward`, or None.

        Setting anything but a tensor of this shape raises `GradientError`.
        """
        return self._grad

    @grad.setter
    def grad(self, grad: Any) -> None:
        if grad is not None and not isinstance(grad, Tensor):
            if not isinstance(grad, tt_core.Tensor):
                raise GradientError(f"grad: takes a tensor or None, got {type(grad).__name__}; wrap it with tensor()")
            grad = wrap(grad.data)
        if grad is not None and grad.data.shape != self.data.shape:
            raise GradientError(
                f"grad: a tensor of shape {self.data.shape} cannot have a gradient of {grad.data.shape}"
            )
        self._grad = grad

    @property
    def is_leaf(self) -> bool:
        """Whether a user made this tensor; False for the result of a recorded call."""
        return self.grad_fn is None

    @checked
    def requires_grad_(self, requires_grad: bool = True) -> Self:
        """Asks for a gradient, or stops asking, in place.

        Raises `GradientError` for a dtype other than floats, and for a result with history that should stop.
        """
        if requires_grad and self.dtype.kind != "f":
            raise GradientError(f"requires_grad_: only floats have gradients, this tensor is {self.dtype}")
        if not requires_grad and self.grad_fn is not None:
            raise GradientError(f"requires_grad_: a result of {self.grad_fn.name} has history; use detach()")
        self._requires_grad = bool(requires_grad)
        return self

    def as_parameter(self) -> Self:
        return super().as_parameter().requires_grad_()

    def backward(
        self, gradient: tt_core.Tensor | None = None, retain_graph: bool = False, create_graph: bool = False
    ) -> None:
        """Adds the gradient of this tensor to `grad` of every leaf that it was computed from.

        `gradient` has this tensor's shape; a tensor of one element needs none. The graph is released, unless
        `retain_graph` keeps it or `create_graph` records this pass for further derivatives. Raises `GradientError`
        for a tensor without history, for a released graph, and if a saved tensor was changed in place.
        """
        HookedBackward(retain_graph or create_graph, create_graph).run([(self, gradient)])

    @checked
    def register_hook(self, hook: Hook) -> HookHandle:
        """Calls `hook(gradient)` when this tensor's gradient is known; a tensor it returns replaces the gradient.

        The handle's `remove()` takes the hook out again. Raises `GradientError` if this tensor requires no gradient,
        and in backward for a hook that returns a tensor of another shape.

        >>> x = Tensor([1.0], requires_grad=True)
        >>> handle = x.register_hook(lambda g: g * 10)
        >>> (x * 2).sum().backward()
        >>> x.grad
        tensor([20.])
        """
        if not self.requires_grad:
            raise GradientError("register_hook: this tensor does not require a gradient")
        if self.grad_fn is None:
            hooks = self._hooks = self._hooks or []
        else:
            self.grad_fn.hooks = self.grad_fn.hooks or {}
            hooks = self.grad_fn.hooks.setdefault(self._output, [])
        hooks.insert(len(hooks) - self._retains, hook)  # retain_grad keeps the gradient after all hooks
        return HookHandle(hooks, hook)

    def retain_grad(self) -> None:
        """Keeps the gradient of a tensor that is no leaf in `grad`; raises `GradientError` if none is required.

        >>> x = Tensor([3.0], requires_grad=True)
        >>> y = x * x
        >>> y.retain_grad()
        >>> (y * 2).sum().backward()
        >>> y.grad
        tensor([2.])
        """
        if not self.requires_grad:
            raise GradientError("retain_grad: this tensor does not require a gradient")
        if self.grad_fn is not None and not self._retains:
            self.register_hook(keeper(self))
            self._retains = True

    def zero_grad(self) -> None:
        """Sets `grad` to None."""
        self._grad = None

    def detach_(self) -> Self:
        """Forgets the history of this tensor, in place; it becomes a leaf without a gradient."""
        self.grad_fn, self._requires_grad = None, False
        return self

    def _in_place(self, what: str, instead: str, source: Any, write: Callable[[Array], Any]) -> Self:
        if recording.on:
            refuse_in_place(what, instead, self, source)
        return super()._in_place(what, instead, source, write)

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> Array:
        if recording.on and self.grad_fn is not None:
            raise GradientError(
                f"array: this tensor is a result of {self.grad_fn.name}, and NumPy would lose its history; "
                f"detach() it, or use its data"
            )
        return super().__array__(dtype, copy)

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        if self.grad_fn is not None:
            raise GradientError("deepcopy: this tensor has history; detach() it first")
        other = super().__deepcopy__(memo)
        other._requires_grad = self._requires_grad
        other.grad = None if self.grad is None else self.grad.detach().clone()
        return other

    def __copy__(self) -> Self:
        other = object.__new__(type(self))
        other.__dict__.update(self.__dict__)
        return other

    def __reduce_ex__(self, protocol: SupportsIndex) -> Any:
        if self.grad_fn is not None:
            raise GradientError("pickle: this tensor has history; detach() it first")
        return super().__reduce_ex__(protocol)

    def __getstate__(self) -> dict[str, Any]:
        """The state for a pickle: without hooks and the history of the gradient, as in a deep copy."""
        state = {name: value for name, value in self.__dict__.items() if name != "_hooks"}
        if self.grad is not None and self.grad.grad_fn is not None:
            state["_grad"] = self.grad.detach()
        return state

    def _repr_suffix(self) -> str:
        history = f", grad_fn={self.grad_fn.name}" if self.grad_fn else ", requires_grad=True"
        return super()._repr_suffix() + (history if self.requires_grad else "")


def tensor(data: TensorLike, dtype: DTypeLike | None = None, requires_grad: bool = False) -> Tensor:
    """Returns a tensor with a copy of `data`; raises `GradientError` for a gradient of a dtype other than floats.

    >>> tensor([1.0], requires_grad=True)
    tensor([1.], requires_grad=True)
    """
    made = cast(Tensor, tt_core.tensor(data, dtype))
    return made.requires_grad_() if requires_grad else made
