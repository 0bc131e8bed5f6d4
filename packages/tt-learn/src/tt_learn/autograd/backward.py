"""Backward: the chain rule, applied to the recorded calls from the newest to the oldest.

A call is visited when every call that used its output has been visited, because those are newer. So each node is
visited once, with the sum of all gradients that arrived at it. A heap finds the newest node; nothing recurses.

`Backward` adds the gradients of the leaves to their `grad`. Hooks, the partial walk of `grad()` and recomputation
override single methods in files of their own.
"""

from __future__ import annotations

import heapq
import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from tt_core.engine import mutation
from tt_core.engine.dispatch import quietly
from tt_core.engine.heap import LINE
from tt_core.engine.phases import in_phase
from tt_core.engine.plugins import manager
from tt_learn import hookspecs
from tt_learn.autograd.broadcasting import fit
from tt_learn.autograd.graph import Edge, Node, edge_of
from tt_learn.autograd.modes import GradMode
from tt_learn.autograd.roots import root_gradient

if TYPE_CHECKING:
    from tt_learn.autograd.tensor import Tensor

Roots = Sequence[tuple[Any, Any]]
"""Pairs of a result and its gradient; None stands for 1."""


class Backward:
    """One pass from results to leaves."""

    def __init__(self, retain_graph: bool = False, create_graph: bool = False) -> None:
        self.retain_graph, self.create_graph = retain_graph, create_graph
        self.waiting: list[int] = []  # a heap of the negated numbers of the nodes below
        self.arrived: dict[int, tuple[Node, list[Any]]] = {}  # by number: a node and its outputs' gradients so far
        self.leaves: dict[int, tuple[Tensor, Tensor]] = {}  # by id: a leaf and its gradient so far
        self.foreign: set[int] = set()  # ids of arrays that other code may hold

    def run(self, roots: Roots) -> None:
        """Walks from `roots` to the leaves, in what plugins wrap around it."""
        _wrapped.walk(self, roots)

    def walk(self, roots: Roots) -> None:
        """Visits each recorded call once, then adds the gradients of the leaves."""
        with GradMode(self.create_graph), in_phase("backward"):
            for root, g in roots:
                g = root_gradient(root, g)
                self.foreign.add(id(mutation.owner(g.data)))
                self.add(edge_of(root), g)
            while self.waiting:
                newest = -heapq.heappop(self.waiting)  # heapq has the smallest in front, hence the negated numbers
                self.visit(*self.arrived.pop(newest))
            for leaf, g in self.leaves.values():
                self.finish(leaf, g)

    def visit(self, node: Node, gradients: list[Any]) -> None:
        """Applies the node's rule, undoes broadcasting, and adds each input's gradient where that input came from."""
        for edge, g in node.propagate(gradients):
            if edge is not None and g is not None:
                at, output = edge
                shape, dtype = at.outputs[output] if isinstance(at, Node) else (at.data.shape, at.data.dtype)
                array = g.data
                if array.shape != shape or array.dtype != dtype:
                    g = fit(node.name, g, (shape, dtype))
                self.add(edge, g)
        if not self.retain_graph:
            node.functions = None  # frees what they keep at once, while the walk continues

    def add(self, edge: Edge, g: Tensor) -> None:
        """Adds a gradient to what has arrived at an edge: gradients of several uses of a tensor sum up."""
        at, output = edge
        if not isinstance(at, Node):
            before = self.leaves.get(id(at))
            self.leaves[id(at)] = (at, g if before is None else before[1] + g)
            return
        entry = self.arrived.get(at.number)
        if entry is None:
            heapq.heappush(self.waiting, -at.number)
            entry = self.arrived[at.number] = (at, [None] * len(at.outputs))
        gradients = entry[1]
        gradients[output] = g if gradients[output] is None else gradients[output] + g

    def finish(self, leaf: Tensor, g: Tensor) -> None:
        """Adds to `leaf.grad`. Its memory belongs to it alone, since users scale it in place."""
        if not leaf._requires_grad:  # frozen after its use
            return
        with _one_at_a_time:
            total = leaf._grad
            if total is None:
                leaf._grad = g.clone() if self.is_foreign(g) else g
            elif self.create_graph or total.requires_grad or not _fits_into(g, total):
                leaf._grad = total + g
            else:
                quietly(np.add, total.data, g.data, out=total.data)
                mutation.record(total.data)

    def is_foreign(self, g: Tensor) -> bool:
        """Whether other code holds the memory of `g`, or will hold it; True for the second call with one memory."""
        owner = mutation.owner(g.data)
        piece = owner.nbytes > g.data.nbytes + LINE  # of a larger array, which it would keep in memory
        if piece or id(owner) in self.foreign or not g.data.flags.writeable:
            return True
        self.foreign.add(id(owner))
        return False


class _Wrapped:
    """Holds `Backward.walk` with the wraps of plugins around it."""

    walk: Callable[[Backward, Roots], None] = staticmethod(Backward.walk)

    def bind(self) -> None:
        """Asks the plugins for their wraps."""
        self.walk = manager.chained("tt_wrap_backward", Backward.walk, into="call")


if not hasattr(manager.hook, "tt_wrap_backward"):
    manager.add_hookspecs(hookspecs)
_wrapped = _Wrapped()
manager.rebinders.append((_wrapped.bind, {"tt_wrap_backward"}))
_one_at_a_time = threading.Lock()  # two threads may reach one leaf


def _fits_into(g: Any, total: Any) -> bool:
    return total.data.dtype == g.data.dtype and total.data.shape == g.data.shape and total.data.flags.writeable
