"""Recording: the plugin that observes every op call and adds a node for each one that a gradient passes through."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, cast

from tt_core.engine.dispatch import Op, wrap
from tt_core.engine.hookspecs import hookimpl
from tt_learn.autograd.graph import Edge, Node, edges_of
from tt_learn.autograd.guards import refuse_gradients
from tt_learn.autograd.modes import recording
from tt_learn.autograd.rules import entry_of
from tt_learn.autograd.tensor import Tensor

if TYPE_CHECKING:
    from tt_core.samples import Draw, Samples


class AutogradPlugin:
    """Answers the two hooks of tt_core through which gradients come in."""

    @hookimpl
    def tt_tensor_type(self) -> type[Tensor]:
        return Tensor

    @hookimpl
    def tt_observe_op(self, op: Op) -> Callable[..., None]:
        return observe

    @hookimpl
    def tt_samples(self) -> dict[str, Samples]:
        return {"sum_to": lambda draw: [((draw.normal(6, 8),), {"shape": shape}) for shape in ((6, 8), (8,), (6, 1))]}

    @hookimpl
    def tt_try_op(self, op: Op, inputs: tuple[Any, ...], attributes: dict[str, Any], draw: Draw) -> bool:
        from tt_learn.command.checking import forward_and_backward

        return forward_and_backward(op, inputs, attributes, draw)


plugin = AutogradPlugin()


def observe(op: Op, inputs: tuple[Any, ...], attributes: dict[str, Any], output: object) -> None:
    """Records one call, if this thread records and an input requires a gradient."""
    if not recording.on:
        return
    edges = edges_of(inputs)
    for name in attributes:
        if isinstance(attributes[name], Tensor):
            refuse_gradients(op.name, name, attributes[name])
    if None in edges:
        for x in inputs:
            if type(x) in (list, tuple):
                refuse_gradients(op.name, "a list", x)
        if not any(edges):
            return
    record(op, edges, inputs, attributes, output)


def record(op: Op, edges: list[Edge | None], inputs: Sequence[Any], attributes: dict[str, Any], output: Any) -> None:
    """Adds the node of one call to its output tensors."""
    entry = entry_of(op)
    if entry is None:
        return
    if type(output) is not tuple and not entry.keeps_output:
        node = entry.node(op.name, edges, entry.rule(output, *inputs, **attributes), (output,))
        if output.data.dtype.kind == "f":
            output._requires_grad, output.grad_fn = True, node
        return
    outputs = output if type(output) is tuple else (output,)
    kept = [Recalled.of(x) for x in outputs]
    functions = entry.rule(tuple(kept) if outputs is output else kept[0], *inputs, **attributes)
    attach(entry.node(op.name, edges, functions, outputs), outputs, kept)


def attach(node: Node, outputs: Sequence[Any], kept: Sequence[Recalled]) -> None:
    """Makes `node` the history of `outputs`, and of the stand-ins for them that its rule keeps."""
    node.attach(outputs)
    for i, x in enumerate(kept):
        if x.data.dtype.kind == "f":
            x._requires_grad, x._node, x._output = True, weakref.ref(node), i


class Recalled(Tensor):
    """Stands for a node's output inside the node's own rule: the same memory, and the node by a weak reference.

    The output itself would close a reference cycle (output, node, rule, output), and memory would wait for the garbage
    collector. What is computed from the stand-in while backward is recorded holds the node strongly, so that higher
    derivatives find their way.
    """

    _node: Callable[[], Node | None] = staticmethod(lambda: None)

    @staticmethod
    def of(x: Tensor) -> Recalled:
        """The stand-in for `x`, of the kind that the class of `x` has."""
        recalled = object.__new__(x.recalled)
        recalled.data = x.data
        return recalled

    @property
    def grad_fn(self) -> Node | None:  # type: ignore[override]
        return self._node()

    def detach(self) -> Tensor:  # type: ignore[override]
        return cast(Tensor, wrap(self.data))


Tensor.recalled = Recalled
