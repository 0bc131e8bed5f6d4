"""`grad()`: the gradients for chosen tensors, from a walk that visits only the nodes between."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tt_core
from tt_core.engine.errors import DTypeError, shown
from tt_learn.autograd.backward import Backward, Roots
from tt_learn.autograd.errors import GradientError
from tt_learn.autograd.graph import Edge, Node, edge_of
from tt_learn.autograd.hooks import HookedBackward
from tt_learn.autograd.tensor import Tensor


def grad(
    outputs: Tensor | Sequence[Tensor],
    inputs: Tensor | Sequence[Tensor],
    grad_outputs: Tensor | Sequence[Tensor | None] | None = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
    allow_unused: bool = False,
) -> tuple[Tensor | None, ...]:
    """Returns the gradients of `outputs` (their sum, weighted by `grad_outputs`) for `inputs`; changes no `grad`.

    With `create_graph`, the result can be differentiated again. Raises `GradientError` for an input that took no part,
    unless `allow_unused`, which returns None for it.

    >>> x = Tensor([3.0], requires_grad=True)
    >>> (first,) = grad((x**3).sum(), x, create_graph=True)
    >>> grad(first.sum(), x)  # 6 x
    (tensor([18.]),)
    """
    for name, given in (("outputs", outputs), ("inputs", inputs)):
        if not isinstance(given, (tt_core.Tensor, list, tuple)):
            raise DTypeError(f"grad: {name} is a tensor or a list of tensors, got {shown(given)}")
    if not isinstance(grad_outputs, (tt_core.Tensor, list, tuple, type(None))):
        raise DTypeError(f"grad: grad_outputs is a tensor or a list of tensors, got {shown(grad_outputs)}")
    roots: list[Any] = [outputs] if isinstance(outputs, tt_core.Tensor) else list(outputs)
    wanted: list[Any] = [inputs] if isinstance(inputs, tt_core.Tensor) else list(inputs)
    weights = [None] * len(roots) if grad_outputs is None else grad_outputs
    weights = [weights] if isinstance(weights, tt_core.Tensor) else list(weights)
    if len(weights) != len(roots):
        raise GradientError(f"grad: {len(roots)} outputs but {len(weights)} grad_outputs")
    for i, x in enumerate(wanted):
        if not (isinstance(x, Tensor) and x.requires_grad):
            raise GradientError(f"grad: input {i} does not require a gradient; call requires_grad_() before using it")
    retain = create_graph if retain_graph is None else retain_graph
    walk = PartialBackward(wanted, retain or create_graph, create_graph)
    walk.run(list(zip(roots, weights)))
    found = [walk.caught.get(target) for target in walk.targets]
    for i, g in enumerate(found):
        if g is None and not allow_unused:
            raise GradientError(f"grad: the outputs do not depend on input {i}; pass allow_unused=True to get None")
    return tuple(found)


class PartialBackward(HookedBackward):
    """Backward that catches the gradients of some tensors, and goes only where these can be reached."""

    def __init__(self, wanted: Sequence[Tensor], retain_graph: bool, create_graph: bool) -> None:
        super().__init__(retain_graph, create_graph)
        self.targets = [(id(at), output) for at, output in map(edge_of, wanted)]
        self.caught: dict[tuple[int, int], Any] = {}
        self.between: set[int] | None = None  # numbers of the nodes to visit; None for all
        self.fresh = 0  # the number from which on nodes were recomputed during this walk

    def run(self, roots: Roots) -> None:
        ends = [edge_of(root)[0] for root, _ in roots if getattr(root, "requires_grad", False)]
        self.between = _between(ends, set(self.targets))
        self.fresh = Node._next_number()
        super().run(roots)

    def add(self, edge: Edge, g: Tensor) -> None:
        at, output = edge
        if (id(at), output) in self.targets or (isinstance(at, Node) and self._leads_on(at)):
            super().add(edge, g)

    def visit(self, node: Node, gradients: list[Any]) -> None:
        self.call_hooks(node, gradients)
        for output, g in enumerate(gradients):
            self.catch(node, output, g)
        if self._leads_on(node):
            Backward.visit(self, node, gradients)

    def finish(self, leaf: Tensor, g: Tensor) -> None:
        self.catch(leaf, 0, self.hooked(leaf._hooks, g))

    def catch(self, at: Node | Tensor, output: int, g: Tensor | None) -> None:
        """Keeps a complete gradient that was asked for."""
        if g is not None and (id(at), output) in self.targets:
            self.caught[id(at), output] = g

    def _leads_on(self, node: Node) -> bool:
        return self.between is None or node.number >= self.fresh or node.number in self.between


def _between(ends: Sequence[Any], targets: set[tuple[int, int]]) -> set[int] | None:
    """Numbers of the nodes that lie between the ends and the targets; None if that cannot be known."""
    nodes: dict[int, Node] = {}
    stack = [at for at in ends if isinstance(at, Node)]
    while stack:
        node = stack.pop()
        if node.number not in nodes:
            nodes[node.number] = node
            stack += [edge[0] for edge in node.parents if edge and isinstance(edge[0], Node)]
    found: set[int] = set()
    for number in sorted(nodes):  # a node's inputs come before it
        if nodes[number].open:
            return None
        if any(_leads_to(edge, found, targets) for edge in nodes[number].parents if edge):
            found.add(number)
    return found


def _leads_to(edge: Edge, found: set[int], targets: set[tuple[int, int]]) -> bool:
    at, output = edge
    return (id(at), output) in targets or (isinstance(at, Node) and at.number in found)
