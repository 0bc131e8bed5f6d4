"""Hooks: functions of the user that see a tensor's gradient in backward, and may replace it."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from tt_core.engine import mutation
from tt_learn.autograd.backward import Backward
from tt_learn.autograd.errors import GradientError
from tt_learn.autograd.graph import Node

if TYPE_CHECKING:
    from tt_learn.autograd.tensor import Tensor

Hook = Callable[[Any], Any]


class HookHandle:
    """Returned by `register_hook`; removes the hook.

    >>> from tt_learn import Tensor
    >>> x = Tensor([1.0], requires_grad=True)
    >>> x.register_hook(lambda g: g * 10).remove()
    >>> (x * 2).sum().backward()
    >>> x.grad
    tensor([2.])
    """

    def __init__(self, hooks: list[Hook], hook: Hook) -> None:
        self._hooks, self._hook = hooks, hook

    def remove(self) -> None:
        """Removes the hook; calling it a second time does nothing."""
        if self._hook in self._hooks:
            self._hooks.remove(self._hook)
        self._hooks = []  # if the same function was registered twice, the other registration stays


def keeper(x: Tensor) -> Hook:
    """A hook that adds to `x.grad`; it holds `x` by a weak reference, because `x` holds the hook."""
    weak = weakref.ref(x)

    def keep(g: Any) -> None:
        kept = weak()
        if kept is not None:
            kept.grad = g.clone() if kept.grad is None else kept.grad + g

    return keep


class HookedBackward(Backward):
    """Backward that calls the hooks: of a node's outputs when it is visited, of a leaf at the end."""

    def visit(self, node: Node, gradients: list[Any]) -> None:
        if node.hooks:
            self.call_hooks(node, gradients)
        super().visit(node, gradients)

    def finish(self, leaf: Tensor, g: Tensor) -> None:
        super().finish(leaf, self.hooked(leaf._hooks, g) if leaf._hooks else g)

    def call_hooks(self, node: Node, gradients: list[Any]) -> None:
        """Calls the hooks of each output with its gradient, and keeps what they return."""
        for output, hooks in (node.hooks or {}).items():
            if gradients[output] is not None:
                gradients[output] = self.hooked(hooks, gradients[output])

    def hooked(self, hooks: Sequence[Hook] | None, g: Tensor) -> Tensor:
        """The gradient after the hooks. They get a copy, since a change in place must not reach other branches."""
        if not hooks:
            return g
        g = g.clone()
        for hook in tuple(hooks):
            self.foreign.add(id(mutation.owner(g.data)))
            replaced = hook(g)
            if replaced is not None:
                g = _checked(replaced, g)
                self.foreign.add(id(mutation.owner(g.data)))
        return g


def _checked(replaced: Any, g: Any) -> Any:
    is_tensor = hasattr(replaced, "grad_fn")
    if not is_tensor or replaced.shape != g.shape:
        what = f"shape {replaced.shape}" if is_tensor else type(replaced).__name__
        raise GradientError(f"hook: returned {what} for a gradient of shape {g.shape}; return such a tensor or None")
    return replaced.to(g.dtype)
