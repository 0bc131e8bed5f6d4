"""Module 05, autograd: operations with a derivative of the user's own, and checkpoints that trade time for memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tt_core
from tt_learn.autograd import GradientError, Node, Tensor, _stand_in, enable_grad, is_grad_enabled, no_grad, walk


class Context:
    """What a Function's forward hands to its backward; attributes may be set freely."""

    saved_tensors: tuple[Any, ...] = ()
    needs_input_grad: tuple[bool, ...] = ()

    def save_for_backward(self, *tensors: Any) -> None:
        """Keep tensors; changes to them in place are noticed."""
        self.saved_tensors = tensors


class Function:
    """An operation with forward and backward in one class, as PyTorch's `autograd.Function`.

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
    ... x.grad
    tensor([2.])
    """

    @staticmethod
    def forward(ctx: Context, *inputs: Any, **options: Any) -> Any:
        """The result, computed from the inputs; nothing in it is recorded."""
        raise NotImplementedError("a Function defines forward(ctx, ...)")

    @staticmethod
    def backward(ctx: Context, *gradients: Any) -> Any:
        """One gradient for each input of forward (None where there is none)."""
        raise NotImplementedError("a Function defines backward(ctx, ...)")

    @classmethod
    def apply(cls, *inputs: Any, **options: Any) -> Any:
        """Run it, recorded as one operation."""
        ctx = Context()
        ctx.needs_input_grad = tuple(isinstance(x, Tensor) and x.requires_grad for x in inputs)
        with no_grad():
            output = cls.forward(ctx, *inputs, **options)
        if not (is_grad_enabled() and any(ctx.needs_input_grad)):
            return output
        single = not isinstance(output, tuple)
        outputs = [x.detach() for x in ((output,) if single else output)]  # an input handed through stays itself
        _record_function(cls, ctx, inputs, outputs)
        return outputs[0] if single else tuple(outputs)


def _record_function(cls: type[Function], ctx: Context, inputs: tuple[Any, ...], outputs: list[Any]) -> None:
    stand_ins = [_stand_in(x) for x in outputs]
    saved = tuple([_own_output(x, outputs, stand_ins) for x in ctx.saved_tensors])

    def all_inputs(g: Any) -> tuple[Any, ...]:
        ctx.saved_tensors = saved
        found = cls.backward(ctx, *(g if isinstance(g, tuple) else (g,)))
        found = found if isinstance(found, tuple) else (found,)
        if len(found) != len(inputs_given):
            raise GradientError(
                f"{cls.__name__}.backward returned {len(found)} gradients, forward took {len(inputs_given)} inputs"
            )
        return found

    inputs_given = [None] * len(inputs)
    ctx.saved_tensors = ()
    node = Node(cls.__name__, inputs, all_inputs, outputs)
    node.own = stand_ins
    node.attach(outputs)


def _own_output(x: Any, outputs: list[Any], stand_ins: list[Tensor]) -> Any:
    """A saved output without its history, which would close a circle of references."""
    for output, stand_in in zip(outputs, stand_ins):
        if isinstance(x, tt_core.Tensor) and x.data is output.data:
            return stand_in
    return x


def checkpoint(function: Callable[..., Any], *inputs: Any) -> Any:
    """`function(*inputs)` without keeping what its backward needs: it is run again there (Chen et al. 2016).

    Memory for the block falls to its inputs and outputs, time rises by one forward pass. Dropout draws the same
    numbers in both runs. Only for `backward()`: raises `GradientError` under `create_graph`.

    >>> x = Tensor([0.5], requires_grad=True)
    >>> checkpoint(lambda x: x.exp() * x, x).sum().backward()
    ... x.grad
    tensor([2.4731])
    """
    state = tt_core.get_rng_state()
    with no_grad():
        output = function(*inputs)
    if not is_grad_enabled():
        return output
    single = not isinstance(output, tuple)
    outputs = tuple([x.detach() for x in ((output,) if single else output)])

    def all_inputs(g: Any) -> tuple[Any, ...]:
        if is_grad_enabled():
            raise GradientError("checkpoint: create_graph is not possible through it; call the function itself")
        now = tt_core.get_rng_state()
        tt_core.set_rng_state(state)
        own = [x.detach().requires_grad_(x.requires_grad) if isinstance(x, Tensor) else x for x in inputs]
        with enable_grad():
            again = function(*own)
        tt_core.set_rng_state(now)
        pairs = [(again, g)] if single else zip(again, g)
        walk([(x, part) for x, part in pairs if part is not None and x.requires_grad], False, False)
        return tuple([x.grad if isinstance(x, Tensor) else None for x in own])

    Node("checkpoint", inputs, all_inputs, outputs).attach(outputs)
    return outputs[0] if single else outputs
