"""The graph: one node for each recorded call, with edges to the calls its inputs came from.

An edge is `(node, which of its outputs)`, or `(leaf, 0)` for a tensor that a user made. Nodes are numbered as the
calls happen, so that backward walks the graph by counting down. A node keeps in memory what its rule's inner functions
name, and checks before use that none of it was changed in place since.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

import tt_core
from tt_core.engine import mutation
from tt_core.engine.dispatch import Array
from tt_core.tensor.elementwise import HALF
from tt_learn.autograd.errors import GradientError

if TYPE_CHECKING:
    from tt_learn.autograd.tensor import Tensor

Edge = tuple[Any, int]
Signature = tuple[tuple[int, ...], Any]  # shape and dtype


class Node:
    """One recorded call: where its inputs came from, and how a gradient gets to them."""

    __slots__ = ("__weakref__", "functions", "hooks", "moment", "name", "number", "outputs", "parents", "site")
    _next_number = itertools.count().__next__
    open = False  # whether a gradient may leave it for tensors other than its inputs (see recompute.py)
    site: str  # where the user's program made the call; set by a profiler that asks for it, and absent otherwise

    def __init__(self, name: str, parents: list[Edge | None], functions: Any, outputs: Sequence[Any]) -> None:
        self.name = name
        self.number = self._next_number()
        self.parents = parents
        if None in parents and type(functions) is tuple:  # drops what the functions of these inputs keep in memory
            functions = tuple([f if parent else None for f, parent in zip(functions, parents)])
        self.functions = functions  # None once the graph is released
        self.moment = mutation.now()
        self.hooks: dict[int, list[Any]] | None = None
        if len(outputs) == 1:  # saves a fifth of the time of this method
            array = outputs[0].data
            self.outputs: tuple[Signature, ...] = ((array.shape, array.dtype),)
        else:
            self.outputs = tuple([(x.data.shape, x.data.dtype) for x in outputs])

    def attach(self, outputs: Sequence[Any]) -> None:
        """Makes this node the history of its outputs; integer outputs have none."""
        for i, x in enumerate(outputs):
            if x.data.dtype.kind == "f":  # integers have no derivative, since they cannot change by a small amount
                x._requires_grad, x.grad_fn = True, self
                if i:
                    x._output = i

    def propagate(self, gradients: list[Any]) -> Iterable[tuple[Edge | None, Any]]:
        """Applies the rule: each input's edge with its gradient, from the gradients of the outputs (None: 0).

        Rules compute with float16 gradients in float32; backward rounds what they return once.
        """
        if self.functions is None or mutation.now() != self.moment:
            self.check()
        if len(gradients) == 1:  # most ops have one output, and a tuple of one would cost each of them
            g = gradients[0]
            if g.data.itemsize == 2 and g.data.dtype == HALF:
                g = g.to(np.float32)
        else:
            g = tuple([None if g is None else wide(g) for g in gradients])
        if type(self.functions) is tuple:
            found: Sequence[Any] = [None if function is None else function(g) for function in self.functions]
        else:
            found = self.functions(g)
            found = found if type(found) is tuple else (found,)
        if len(found) != len(self.parents):
            raise GradientError(
                f"backward: the gradient rule of {self.name} is wrong (it gives {len(found)} gradients for "
                f"{len(self.parents)} inputs)"
            )
        return zip(self.parents, found)

    def check(self) -> None:
        """Raises `GradientError` if the graph was released, or if a kept array was changed since the call."""
        if self.functions is None:
            raise GradientError(
                f"backward: the graph behind {self.name} was released by an earlier backward; "
                f"pass retain_graph=True to that one"
            )
        for kept in self.saved():
            if mutation.changed_since(kept, self.moment):
                raise GradientError(
                    f"backward: a tensor of shape {kept.shape} that {self.name} kept for its gradient was changed "
                    f"in place afterwards; clone() it before changing it"
                )

    def saved(self) -> Iterator[Array]:
        """The arrays that this node keeps in memory for its gradient."""
        for function in self.functions if type(self.functions) is tuple else (self.functions,):
            for cell in getattr(function, "__closure__", None) or ():
                yield from _arrays_in(cell.cell_contents)

    def __repr__(self) -> str:
        return f"<{self.name} #{self.number}>"


def wide(x: Tensor) -> Any:
    """Returns a float16 tensor as float32, others unchanged; for rules that compute before `g` comes in.

    >>> wide(tt_core.ones(2, dtype="float16")).dtype
    dtype('float32')
    """
    return x.to(np.float32) if x.dtype == HALF else x


def edge_of(x: Tensor) -> Edge:
    """Where a tensor came from: its node and output number, or itself if it is a leaf."""
    return x.grad_fn or x, x._output


def edges_of(inputs: Sequence[Any]) -> list[Edge | None]:
    """The edge of each input; None for an input that needs no gradient."""
    return [(x.grad_fn or x, x._output) if getattr(x, "_requires_grad", False) else None for x in inputs]


def _arrays_in(value: Any) -> Iterator[Array]:
    if isinstance(value, tt_core.Tensor):
        yield value.data
    elif isinstance(value, np.ndarray):
        yield value
    elif isinstance(value, (tuple, list)):
        for part in value:
            yield from _arrays_in(part)
    elif isinstance(value, dict):
        yield from _arrays_in(tuple(value.values()))
