"""`Function`: an operation with forward and backward written by the user."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import tt_core
from tt_core.engine import mutation
from tt_learn.autograd.errors import GradientError
from tt_learn.autograd.graph import Node, edges_of
from tt_learn.autograd.guards import refuse_gradients
from tt_learn.autograd.modes import is_grad_enabled, no_grad
from tt_learn.autograd.record import Recalled, attach
from tt_learn.autograd.tensor import Tensor


class Context:
    """Passes values from the forward of a Function to its backward; attributes may be set freely.

    `needs_input_grad` shows which inputs require a gradient; `saved_tensors` holds what `save_for_backward` saved.

    >>> class Product(Function):
    ...     @staticmethod
    ...     def forward(ctx, a, b):
    ...         ctx.save_for_backward(a, b)
    ...         return a * b
    ...
    ...     @staticmethod
    ...     def backward(ctx, g):
    ...         a, b = ctx.saved_tensors
    ...         return g * b, g * a
    >>> a, b = Tensor([2.0], requires_grad=True), Tensor([3.0])
    >>> Product.apply(a, b).sum().backward()
    >>> a.grad
    tensor([3.])
    """

    saved_tensors: tuple[Any, ...] = ()
    needs_input_grad: tuple[bool, ...] = ()

    def save_for_backward(self, *tensors: Tensor | None) -> None:
        """Saves tensors for backward, which finds them in `saved_tensors`; changes to them in place are noticed."""
        self.saved_tensors = tensors


class Function:
    """An operation with forward and backward in one class, as PyTorch's `autograd.Function`.

    Raises as `apply` does, and `NotImplementedError` where a class lacks one of the two.

    >>> class Double(Function):
    ...     @staticmethod
    ...     def forward(ctx, x):
    ...         return x * 2
    ...
    ...     @staticmethod
    ...     def backward(ctx, g):
    ...         return g * 2
    >>> x = Tensor([1.0], requires_grad=True)
    >>> Double.apply(x).sum().backward()
    >>> x.grad
    tensor([2.])
    """

    @staticmethod
    def forward(ctx: Context, *inputs: Any, **options: Any) -> Any:
        """Computes the result from the inputs, without recording."""
        raise NotImplementedError("a Function defines forward(ctx, ...)")

    @staticmethod
    def backward(ctx: Context, *gradients: Any) -> Any:
        """Returns one gradient for each input of forward, or None for an input without one."""
        raise NotImplementedError("a Function defines backward(ctx, ...)")

    @classmethod
    def apply(cls, *inputs: Any, **options: Any) -> Any:
        """Runs forward and records it as one operation; only positional inputs receive gradients.

        Raises `GradientError` for a tensor that requires a gradient in an option or a list, and in backward for a
        wrong number of gradients.
        """
        ctx = Context()
        ctx.needs_input_grad = tuple([isinstance(x, Tensor) and x.requires_grad for x in inputs])
        if is_grad_enabled():
            _refuse_hidden_gradients(cls.__name__, inputs, options)
        with no_grad():
            output = cls.forward(ctx, *inputs, **options)
        if not (is_grad_enabled() and any(ctx.needs_input_grad)):
            return output
        outputs = detached(cls.__name__, output)  # an input that is returned unchanged is not an output
        _record_function(cls, ctx, inputs, outputs)
        return outputs if isinstance(output, tuple) else outputs[0]


def _refuse_hidden_gradients(name: str, inputs: tuple[Any, ...], options: dict[str, Any]) -> None:
    for key, value in options.items():
        refuse_gradients(name, key, value)
    for x in inputs:
        if isinstance(x, (list, tuple)):
            refuse_gradients(name, "a list", x)


def _record_function(cls: type[Function], ctx: Context, inputs: tuple[Any, ...], outputs: tuple[Tensor, ...]) -> None:
    own = [Recalled.of(x) for x in outputs]
    given = {id(x) for x in inputs}
    saved = tuple([x if id(x) in given else _own_output(x, outputs, own) for x in ctx.saved_tensors])
    ctx.saved_tensors = ()  # outputs among them would create a reference cycle

    def all_inputs(g: Any) -> tuple[Any, ...]:
        given = zip(g if isinstance(g, tuple) else (g,), own)
        gradients = [None if g is None else g.to(x.dtype) for g, x in given]  # float16 arrives as float32
        ctx.saved_tensors = saved
        moment = mutation.now()
        found = cls.backward(ctx, *[_zeros_for(x) if g is None else g for g, x in zip(gradients, own)])
        if any(mutation.changed_since(g.data, moment) for g in gradients if g is not None):
            raise GradientError(f"{cls.__name__}.backward changed its gradient in place, which other tensors use too")
        return _checked_gradients(cls.__name__, found, ctx.needs_input_grad)

    attach(Node(cls.__name__, edges_of(inputs), all_inputs, outputs), outputs, own)


def _own_output(x: Any, outputs: tuple[Tensor, ...], own: Sequence[Tensor]) -> Any:
    """A saved output without its history, which would create a reference cycle."""
    for output, recalled in zip(outputs, own):
        if isinstance(x, tt_core.Tensor) and x.data is output.data:
            return recalled
    return x


def detached(name: str, output: Any) -> tuple[Tensor, ...]:
    outputs = output if isinstance(output, tuple) else (output,)
    for x in outputs:
        if not isinstance(x, Tensor):
            raise GradientError(f"{name}: returns tensors or a tuple of them, got {type(x).__name__}")
    return tuple([x.detach() for x in outputs])


def _zeros_for(x: Tensor) -> Tensor:
    return cast(Tensor, tt_core.zeros_like(x))


def _checked_gradients(name: str, found: Any, needed: tuple[bool, ...]) -> tuple[Any, ...]:
    """One gradient per input, each in memory that the user's backward does not hold."""
    found = found if isinstance(found, tuple) else (found,)
    if len(found) != len(needed):
        raise GradientError(f"{name}.backward returned {len(found)} gradients, forward took {len(needed)} inputs")
    for g in found:
        if g is not None and not isinstance(g, Tensor):
            raise GradientError(f"{name}.backward returned {type(g).__name__} as a gradient; return tensors or None")
    return tuple([g.clone() if needs and g is not None else None for g, needs in zip(found, needed)])
