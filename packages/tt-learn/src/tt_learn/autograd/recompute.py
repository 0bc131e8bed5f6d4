"""Recomputation: calls that run their function again in backward, and differentiate what it records then.

`checkpoint` trades time for memory. `formula` gives a fused op its derivatives from its formula in other ops.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Sequence
from typing import Any, overload

import tt_core
from tt_core.engine import mutation
from tt_core.engine.arguments import checked
from tt_core.engine.dispatch import Op
from tt_core.engine.phases import in_phase
from tt_learn.autograd.errors import GradientError
from tt_learn.autograd.function import detached
from tt_learn.autograd.graph import Edge, Node, edge_of, edges_of
from tt_learn.autograd.modes import enable_grad, is_grad_enabled, no_grad
from tt_learn.autograd.rules import Rule, register


class RecomputedNode(Node):
    """A call whose `functions` is one function without arguments, which computes the outputs again.

    Backward continues through the graph that this records. It is newer than every other node, so it is visited next.
    """

    __slots__ = ()

    def propagate(self, gradients: list[Any]) -> Iterable[tuple[Edge | None, Any]]:
        if self.functions is None or mutation.now() != self.moment:
            self.check()
        return [
            (edge_of(x), g if g.shape == x.shape else g.expand(x.shape))  # the op may return sums of its formula
            for x, g in zip(self.run_again(), gradients)
            if g is not None and getattr(x, "requires_grad", False)
        ]

    def run_again(self) -> tuple[Any, ...]:
        """The outputs, recorded."""
        with enable_grad(), in_phase("recomputation"):
            output = self.functions()
        return output if isinstance(output, tuple) else (output,)


@overload
def formula(of: Op) -> Callable[[Rule], Rule]: ...
@overload
def formula(of: Op, composition: Rule) -> Rule: ...
def formula(of: Op, composition: Rule | None = None) -> Any:
    """Registers the derivative of a fused op by its formula in other ops, which backward recomputes.

    For backward kernels, whose own derivatives are needed only for second and higher orders.
    `composition(*inputs, **attributes)` returns what the op returns. Raises `GradientError` if the op has a rule.

    >>> from tt_core.engine.dispatch import op, registry
    >>> from tt_learn import Tensor
    >>> from tt_learn.autograd import forget_rule
    >>> @op
    ... def _quartic(x, /):
    ...     return x**4
    >>> composition = formula(_quartic, lambda x: (x * x) * (x * x))
    >>> x = Tensor([2.0], requires_grad=True)
    >>> _quartic(x).sum().backward()
    >>> x.grad
    tensor([32.])
    >>> del registry["_quartic"]
    >>> forget_rule(_quartic)
    """
    if composition is None:
        return lambda decorated: formula(of, decorated)

    @functools.wraps(composition)
    def rule(out: Any, *inputs: Any, **attributes: Any) -> Any:
        return lambda: composition(*inputs, **attributes)

    return register(of, rule, node=RecomputedNode)


class CheckpointNode(RecomputedNode):
    """A recomputed call that also reads tensors other than its inputs, such as the parameters of a layer."""

    __slots__ = ("known",)
    open = True

    def __init__(self, name: str, parents: list[Edge | None], functions: Any, outputs: Sequence[Any]) -> None:
        super().__init__(name, parents, functions, outputs)
        self.known = self.moment  # when the function read these other tensors; they must not have changed since

    def run_again(self) -> tuple[Any, ...]:
        first = Node._next_number()
        outputs = super().run_again()
        if tuple([(x.data.shape, x.data.dtype) for x in outputs]) != self.outputs:
            raise GradientError(f"backward: {self.name} ran its function again, and it returned other shapes or dtypes")
        if mutation.now() != self.known:
            self._check_leaves([edge_of(x)[0] for x in outputs if getattr(x, "requires_grad", False)], first)
        return outputs

    def _check_leaves(self, stack: list[Any], first: int) -> None:
        """Raises `GradientError` if a leaf that the calls since number `first` read was changed since `known`.

        A checkpoint among these calls must find the values of `known` too.
        """
        seen: set[int] = set()
        while stack:
            at = stack.pop()
            if id(at) in seen:
                continue
            seen.add(id(at))
            if not isinstance(at, Node):
                if mutation.changed_since(at.data, self.known):
                    raise GradientError(
                        f"backward: {self.name} runs its function again, and a tensor of shape {at.shape} that this "
                        f"uses was changed in place meanwhile; call backward() before changing it"
                    )
            elif at.number > first:
                stack += [edge[0] for edge in at.parents if edge]
                if isinstance(at, CheckpointNode):
                    at.known = self.known


@checked
def checkpoint(function: Callable[..., Any], *inputs: Any, **options: Any) -> Any:
    """Computes `function(*inputs, **options)` without keeping what its backward needs; backward runs it again.

    Memory for the block falls to its inputs and outputs, time rises by one forward pass (Chen et al. 2016,
    arXiv:1604.06174). Dropout draws the same numbers in both runs, and the results have the same bits. Tensors that
    the function reads from elsewhere, such as a layer's parameters, get their gradients too. Raises `GradientError`
    if the function returns anything but tensors, and in backward if a tensor that it reads was changed in place since.

    >>> from tt_learn import Tensor
    >>> x = Tensor([0.5], requires_grad=True)
    >>> checkpoint(lambda x: x.exp() * x, x).sum().backward()
    >>> x.grad
    tensor([2.4731])
    """
    state = tt_core.get_rng_state()
    with no_grad():
        output = function(*inputs, **options)
    if not is_grad_enabled():
        return output
    outputs = detached("checkpoint", output)

    def run() -> Any:
        now = tt_core.get_rng_state()
        tt_core.set_rng_state(state)
        try:
            return function(*inputs, **options)
        finally:
            tt_core.set_rng_state(now)

    CheckpointNode("checkpoint", edges_of(inputs), run, outputs).attach(outputs)
    return outputs if isinstance(output, tuple) else outputs[0]
