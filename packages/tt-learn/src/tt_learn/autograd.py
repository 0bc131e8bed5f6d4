"""Module 05, autograd: reverse-mode automatic differentiation, plugged into the ops of every act.

The plugin answers two hooks: ops hand back the `Tensor` below, and every op call is observed. An observed call that a
tensor with `requires_grad` took part in leaves a `Node`: what to do with a gradient of the output to get those of the
inputs. `backward` walks these nodes from the newest to the oldest and never recurses.

Derivatives are in tables (`rules/`), one entry an op. They are written with ops, so they can be differentiated again.
What this file does not do: it patches nothing in tt_core, knows no op by name but `sum_to`, and sees no array that was
changed behind a tensor's back through `.data` or `.numpy()`.
"""

from __future__ import annotations

import contextlib
import heapq
import itertools
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, cast, overload

import numpy as np

import tt_core
from tt_core import mutation
from tt_core.dispatch import Array, Op, op, wrap
from tt_core.errors import TinyTorchError
from tt_core.hookspecs import hookimpl

if TYPE_CHECKING:
    from typing_extensions import Self

Rule = Callable[..., Any]
Parent = Any  # Node | Tensor | None


class GradientError(TinyTorchError, RuntimeError):
    """A gradient that cannot be computed, and why; never a missing one in silence."""


# --- whether calls are recorded


class _Recording(threading.local):
    on = True


_recording = _Recording()


class _RecordingMode(contextlib.ContextDecorator):
    """A block, or a decorated function, in which recording is on or off."""

    def __init__(self, mode: bool) -> None:
        self._mode = mode
        self._before: list[bool] = []  # a stack: a decorated function may call itself

    def __enter__(self) -> None:
        self._before.append(_recording.on)
        _recording.on = self._mode

    def __exit__(self, *_: object) -> None:
        _recording.on = self._before.pop()


class no_grad(_RecordingMode):
    """A block or decorated function in which nothing is recorded.

    >>> x = Tensor([1.0], requires_grad=True)
    >>> with no_grad():
    ...     (x * 2).requires_grad
    False
    """

    def __init__(self) -> None:
        super().__init__(False)


class enable_grad(_RecordingMode):
    """A block or decorated function in which calls are recorded, also inside `no_grad`."""

    def __init__(self) -> None:
        super().__init__(True)


def is_grad_enabled() -> bool:
    """Whether calls are recorded now."""
    return _recording.on


# --- the tensor that remembers


class Tensor(tt_core.Tensor):
    """A tensor that can remember how it was computed.

    `requires_grad=True` asks for the gradient of a later `backward()` in `grad`. Only floats can have gradients.

    >>> x = Tensor([2.0, 3.0], requires_grad=True)
    >>> (x * x).sum().backward()
    >>> x.grad
    tensor([4., 6.])
    """

    requires_grad: bool = False
    grad: Tensor | None = None
    grad_fn: Node | None = None
    _output = 0  # which output of grad_fn this is
    _hooks: list[Callable[[Tensor], Tensor | None]] | None = None  # of a leaf; others keep theirs at the node

    def __init__(self, data: Any, dtype: Any = None, requires_grad: bool = False) -> None:
        super().__init__(data, dtype)
        if requires_grad:
            self.requires_grad_()

    @property
    def is_leaf(self) -> bool:
        """Whether this tensor was made by a user, not by a recorded call."""
        return self.grad_fn is None

    def requires_grad_(self, requires_grad: bool = True) -> Self:
        """Ask for a gradient, or stop asking; in place."""
        if requires_grad and self.dtype.kind != "f":
            raise GradientError(f"requires_grad_: only floats have gradients, this tensor is {self.dtype}")
        if not requires_grad and self.grad_fn is not None:
            raise GradientError(f"requires_grad_: a result of {self.grad_fn.name} has history; use detach()")
        self.requires_grad = requires_grad
        return self

    def as_parameter(self) -> Self:
        return super().as_parameter().requires_grad_()

    def backward(self, gradient: Any = None, retain_graph: bool = False, create_graph: bool = False) -> None:
        """Add to `grad` of every leaf this tensor was computed from.

        `gradient` has this tensor's shape; it may be left out where there is one element. The graph is released
        unless `retain_graph` (or `create_graph`, which records the backward pass itself for further derivatives).
        Raises `GradientError` without history, for a released graph, and for a saved tensor that was changed.
        """
        walk([(self, gradient)], retain_graph or create_graph, create_graph)

    def register_hook(self, hook: Callable[[Tensor], Tensor | None]) -> Callable[[], None]:
        """Call `hook(gradient)` when this tensor's gradient is known; what it returns replaces the gradient.

        Returns a function that removes the hook.
        """
        if not self.requires_grad:
            raise GradientError("register_hook: this tensor does not require a gradient")
        if self.grad_fn is None:
            hooks = self._hooks = self._hooks or []
        else:
            hooks = self.grad_fn.hooks.setdefault(self._output, [])
        hooks.append(hook)
        return lambda: hooks.remove(hook)

    def retain_grad(self) -> None:
        """Keep the gradient of a tensor that is no leaf in `grad` too."""

        def keep(gradient: Tensor) -> None:
            self.grad = gradient if self.grad is None else self.grad + gradient

        if self.grad_fn is not None:
            self.register_hook(keep)

    def zero_grad(self) -> None:
        """Forget the gradient."""
        self.grad = None

    def _in_place(self, what: str, instead: str, source: Any, write: Callable[[Array], Any]) -> Self:
        if _recording.on:
            for tensor in (self, source):
                if isinstance(tensor, Tensor) and tensor.requires_grad:
                    kind = "is a leaf that requires a gradient" if tensor.grad_fn is None else "has history"
                    whom = "this tensor" if tensor is self else "the value"
                    raise GradientError(
                        f"{what}: {whom} {kind}, and a change in place would be missing from it; "
                        f"use {instead}, or no_grad() if no gradient should know"
                    )
        return super()._in_place(what, instead, source, write)

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        if self.grad_fn is not None:
            raise GradientError("deepcopy: this tensor has history; detach() it first")
        other = super().__deepcopy__(memo)
        other.requires_grad = self.requires_grad
        other.grad = None if self.grad is None else self.grad.detach().clone()
        return other

    def _repr_suffix(self) -> str:
        history = f", grad_fn={self.grad_fn.name}" if self.grad_fn else ", requires_grad=True"
        return super()._repr_suffix() + (history if self.requires_grad else "")


def tensor(data: Any, dtype: Any = None, requires_grad: bool = False) -> Tensor:
    """A tensor with a copy of `data`, asking for a gradient or not."""
    made = cast(Tensor, tt_core.tensor(data, dtype))
    return made.requires_grad_() if requires_grad else made


# --- rules


_rules: dict[str, Rule | None] = {}


@overload
def gradient(of: Op) -> Callable[[Rule], Rule]: ...
@overload
def gradient(of: Op, rule: Rule) -> Rule: ...
def gradient(of: Op, rule: Rule | None = None) -> Any:
    """Register the derivative of an op: `gradient(op, rule)`, or as a decorator `@gradient(op)`.

    The rule is called as `rule(out, *inputs, **attributes)` after each recorded call. It returns a tuple with one
    function `gradient of out -> gradient of this input` per input (None where there is none), or one function that
    returns the gradients of all inputs together. What these inner functions name stays in memory until backward.
    Broadcasting is undone for them. An op with several outputs hands them a tuple of gradients.

    >>> from tt_core.elementwise import mul  # this is its entry:
    >>> rule = lambda out, a, b: (lambda g: g * b, lambda g: g * a)
    """
    if rule is None:
        return lambda decorated: gradient(of, decorated)
    if of.name in _rules:
        raise GradientError(f"{of.name} has a gradient rule already; take it out with forget_rule({of.name}) first")
    _rules[of.name] = rule
    return rule


def non_differentiable(*ops: Op) -> None:
    """Register ops whose outputs have no gradient: comparisons, indices, rounding."""
    _rules.update({each.name: None for each in ops})


@overload
def formula(of: Op) -> Callable[[Rule], Rule]: ...
@overload
def formula(of: Op, composition: Rule) -> Rule: ...
def formula(of: Op, composition: Rule | None = None) -> Any:
    """Register the derivative of a fused op by its formula in other ops: it is run again and differentiated.

    For backward kernels, whose own derivatives are needed only for second and higher orders.
    `composition(*inputs, **attributes)` returns what the op returns.
    """
    if composition is None:
        return lambda decorated: formula(of, decorated)

    def rule(out: Any, *inputs: Any, **attributes: Any) -> Any:
        def all_inputs(g: Any) -> tuple[Any, ...]:
            with enable_grad():
                # fresh names for the inputs: gradients stop here, and flow on from here at the next order
                own = [x.view(x.shape) if _needs_gradient(x) else x for x in inputs]
                results = composition(*own, **attributes)
            pairs = zip(results, g) if isinstance(results, tuple) else [(results, g)]
            roots = [(result, part) for result, part in pairs if part is not None and result.requires_grad]
            wanted = [x for x in own if _needs_gradient(x)]
            found = iter(walk(roots, True, _recording.on, wanted))
            return tuple([next(found) if _needs_gradient(x) else None for x in own])

        return all_inputs

    return gradient(of, rule)


def rule_of(of: Op) -> Rule | None:
    """The rule of an op; None for a non-differentiable one. Raises `GradientError` where there is neither."""
    try:
        return _rules[of.name]
    except KeyError:
        raise GradientError(
            f"{of.name} has no gradient rule; write one with gradient({of.name}, ...), "
            f"or run it under no_grad() if it needs none"
        ) from None


def forget_rule(of: Op) -> None:
    """Take an op's rule out of the table."""
    _rules.pop(of.name, None)


def _needs_gradient(x: Any) -> bool:
    return isinstance(x, Tensor) and x.requires_grad


# --- the graph


class Node:
    """One recorded call: where its inputs came from, and how a gradient gets to them."""

    __slots__ = (
        "__weakref__",
        "functions",
        "hooks",
        "moment",
        "name",
        "number",
        "outputs",
        "own",
        "parents",
        "signatures",
    )
    _numbers = itertools.count()

    def __init__(self, name: str, inputs: Sequence[Any], functions: Any, outputs: Sequence[Any]) -> None:
        self.name = name
        self.number = next(Node._numbers)  # calls are numbered as they happen: walking back is counting down
        self.parents: list[Parent] = [
            (x.grad_fn or x, x._output) if isinstance(x, Tensor) and x.requires_grad else None for x in inputs
        ]
        self.signatures = [None if p is None else (x.shape, x.dtype) for p, x in zip(self.parents, inputs)]
        if type(functions) is tuple:  # what an input without gradient would have kept alive is let go
            functions = tuple([f if parent else None for f, parent in zip(functions, self.parents)])
        self.functions = functions
        self.moment = mutation.now()
        self.hooks: dict[int, list[Callable[[Tensor], Tensor | None]]] = {}
        self.outputs = [(x.shape, x.dtype) for x in outputs]
        self.own: list[Tensor] = []  # stand-ins for this node's outputs that its functions keep

    def attach(self, outputs: Sequence[Tensor]) -> None:
        """Make this node the history of its outputs; those that are no floats have none."""
        for i, x in enumerate(outputs):
            if x.data.dtype.kind == "f":
                x.requires_grad, x.grad_fn, x._output = True, self, i

    def input_gradients(self, gradients: list[Any]) -> Sequence[Any]:
        """Gradients of the inputs from those of the outputs (None where nothing arrived)."""
        if self.functions is None:
            raise GradientError(
                f"backward: the graph behind {self.name} was released by an earlier backward; "
                f"pass retain_graph=True to that one"
            )
        self._check_unchanged()
        g = gradients[0] if len(gradients) == 1 else tuple(gradients)
        if type(self.functions) is not tuple:
            found = self.functions(g)
            return found if type(found) is tuple else (found,)
        return [None if function is None else function(g) for function in self.functions]

    def _check_unchanged(self) -> None:
        if mutation.now() == self.moment:
            return
        for kept in self.saved():
            if mutation.changed_since(kept.data, self.moment):
                raise GradientError(
                    f"backward: a tensor of shape {kept.shape} that {self.name} kept for its gradient was changed "
                    f"in place afterwards; clone() it before changing it"
                )

    def saved(self) -> Iterator[tt_core.Tensor]:
        """The tensors that this node keeps in memory for its gradient."""
        functions = self.functions if type(self.functions) is tuple else (self.functions,)
        for function in functions:
            for cell in getattr(function, "__closure__", None) or ():
                contents = cell.cell_contents
                for value in contents if isinstance(contents, (tuple, list)) else (contents,):
                    if isinstance(value, tt_core.Tensor):
                        yield value

    def __repr__(self) -> str:
        return f"<{self.name} #{self.number}>"


def record(op: Op, rule: Rule, inputs: Sequence[Any], attributes: dict[str, Any], output: Any) -> None:
    """Hang a node for one call behind its output tensors. Residuals have no gradient of their own."""
    several = type(output) is tuple
    everything = output if several else (output,)
    outputs = everything[:1] if op.residuals else everything
    own: list[Tensor] = []
    if several or rule.__code__.co_varnames[0] in rule.__code__.co_cellvars:
        # A rule that keeps its own output would close a circle of references: it gets a stand-in on the same memory.
        everything = tuple([_stand_in(x) for x in everything])
        own = list(everything[: len(outputs)])
    node = Node(op.name, inputs, rule(everything if several else everything[0], *inputs, **attributes), outputs)
    node.own = own
    node.attach(outputs)


def _stand_in(x: Tensor) -> Tensor:
    other = object.__new__(Tensor)
    other.data = x.data
    return other


# --- the walk back


def walk(
    roots: Sequence[tuple[Tensor, Any]],
    retain_graph: bool,
    create_graph: bool,
    wanted: Sequence[Tensor] | None = None,
) -> list[Tensor | None]:
    """From the roots with their gradients to the leaves, newest call first, each node once.

    Without `wanted`, the leaves' gradients are added to their `grad`; with it, the gradients of these tensors are
    returned and nothing is added.
    """
    arrived: dict[Node, list[Any]] = {}  # gradients of a node's outputs
    leaves: dict[int, tuple[Tensor, Any]] = {}
    queue: list[tuple[int, Node]] = []
    catch = None if wanted is None else {(id(x.grad_fn or x), x._output): i for i, x in enumerate(wanted)}
    caught: list[Tensor | None] = [None] * len(wanted or ())

    def arrive(at: Node | Tensor, output: int, g: Any) -> None:
        if isinstance(at, Tensor):
            before = leaves.get(id(at))
            leaves[id(at)] = (at, g if before is None else before[1] + g)
            return
        gradients = arrived.get(at)
        if gradients is None:
            gradients = arrived[at] = [None] * len(at.outputs)
            heapq.heappush(queue, (-at.number, at))
        gradients[output] = g if gradients[output] is None else gradients[output] + g

    with _RecordingMode(create_graph):
        for root, g in roots:
            arrive(root.grad_fn or root, root._output, _root_gradient(root, g))
        while queue:
            _, node = heapq.heappop(queue)
            gradients = arrived.pop(node)
            for i, g in enumerate(gradients):
                if g is not None:
                    for hook in node.hooks.get(i, ()):
                        g = gradients[i] = _hooked(hook, g)
                    if catch is not None and (id(node), i) in catch:
                        caught[catch[id(node), i]] = g
            _visit(node, gradients, create_graph, arrive)
            if not retain_graph:
                node.functions = None
        for leaf, g in leaves.values():
            for hook in leaf._hooks or ():
                g = _hooked(hook, g)
            leaves[id(leaf)] = (leaf, g)
            if catch is not None and (id(leaf), leaf._output) in catch:
                caught[catch[id(leaf), leaf._output]] = g
        if wanted is None:
            _accumulate(leaves, {id(_owner(g.data)) for _, g in roots if isinstance(g, tt_core.Tensor)})
    return caught


def _visit(node: Node, gradients: list[Any], create_graph: bool, arrive: Callable[..., None]) -> None:
    if create_graph:  # what the rule kept of its own output gets its history back while the rule runs
        node.attach(node.own)
    try:
        found = node.input_gradients(gradients)
    finally:
        for x in node.own if create_graph else ():
            x.requires_grad, x.grad_fn = False, None
    for parent, signature, g in zip(node.parents, node.signatures, found):
        if parent is not None and g is not None:
            arrive(*parent, _fit(node.name, g, *signature))


def _fit(name: str, g: Any, shape: tuple[int, ...], dtype: Any) -> Any:
    """A gradient in the shape and dtype of its input: the one place where broadcasting is undone."""
    if g.data.dtype != dtype:
        g = g.to(dtype)
    if g.data.shape == shape:
        return g
    return sum_to(g, shape=shape)


def _root_gradient(root: Tensor, g: Any) -> Tensor:
    if not root.requires_grad:
        raise GradientError(
            "backward: this tensor has no history; nothing it was computed from requires a gradient"
            " (or it was computed under no_grad())"
        )
    if g is None:
        if root.data.size != 1:
            raise GradientError(
                f"backward: a tensor of shape {root.shape} needs a gradient of that shape; "
                f"pass gradient=, or reduce it to one number with sum() or mean()"
            )
        return cast(Tensor, wrap(np.ones(root.shape, root.dtype)))
    g = g if isinstance(g, Tensor) else cast(Tensor, wrap(np.asarray(g, dtype=root.dtype)))
    if g.shape != root.shape:
        raise GradientError(f"backward: gradient has shape {g.shape}, the tensor has {root.shape}")
    return g


def _hooked(hook: Callable[[Tensor], Tensor | None], g: Tensor) -> Tensor:
    replaced = hook(g)
    return g if replaced is None else replaced


def _accumulate(leaves: dict[int, tuple[Tensor, Any]], taken: set[int]) -> None:
    """Add each leaf's gradient to its `grad`. Each `grad` gets memory of its own, since users scale it in place."""
    for leaf, g in leaves.values():
        if leaf.grad is not None:
            leaf.grad = leaf.grad + g
            continue
        owner = _owner(g.data)
        if id(owner) in taken or not g.data.flags.writeable or owner.size != g.data.size:
            g = g.clone()
        taken.add(id(owner))
        leaf.grad = g


def _owner(array: Array) -> Array:
    while isinstance(array.base, np.ndarray):
        array = array.base
    return array


def grad(
    outputs: Tensor | Sequence[Tensor],
    inputs: Tensor | Sequence[Tensor],
    grad_outputs: Any = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
    allow_unused: bool = False,
) -> tuple[Tensor | None, ...]:
    """The gradients of `outputs` (their sum, weighted by `grad_outputs`) for `inputs`; touches no `grad`.

    With `create_graph`, the result can be differentiated again. Raises `GradientError` when an input took no part,
    unless `allow_unused` (its place then holds None).

    >>> x = Tensor([3.0], requires_grad=True)
    >>> (first,) = grad((x**3).sum(), x, create_graph=True)
    >>> grad(first.sum(), x)  # 6 x
    (tensor([18.]),)
    """
    roots = [outputs] if isinstance(outputs, tt_core.Tensor) else list(outputs)
    wanted = [inputs] if isinstance(inputs, tt_core.Tensor) else list(inputs)
    weights = [None] * len(roots) if grad_outputs is None else grad_outputs
    weights = [weights] if isinstance(weights, tt_core.Tensor) else list(weights)
    if len(weights) != len(roots):
        raise GradientError(f"grad: {len(roots)} outputs but {len(weights)} grad_outputs")
    for i, x in enumerate(wanted):
        if not _needs_gradient(x):
            raise GradientError(f"grad: input {i} does not require a gradient; call requires_grad_() before using it")
    retain = create_graph if retain_graph is None else retain_graph
    found = walk(list(zip(roots, weights)), retain, create_graph, wanted)
    for i, g in enumerate(found):
        if g is None and not allow_unused:
            raise GradientError(f"grad: the outputs do not depend on input {i}; pass allow_unused=True to get None")
    return tuple(found)


# --- one op of its own


@op
def sum_to(x: Array, /, shape: tuple[int, ...]) -> Array:
    """`x` summed down to `shape`: what broadcasting from `shape` repeated is added up again."""
    lead = x.ndim - len(shape)
    stretched = tuple(i for i, n in enumerate(x.shape) if i < lead or (shape[i - lead] == 1 and n != 1))
    if lead < 0 or any(n not in (1, m) for n, m in zip(shape, x.shape[lead:])):
        raise ValueError(
            f"a gradient of shape {x.shape} does not fit an input of shape {shape}; the rule is wrong"
        )
    return x.sum(stretched, keepdims=True).reshape(shape) if stretched else x.reshape(shape)


@gradient(sum_to)
def _(out: Any, x: Any, shape: Any) -> Any:
    full = x.shape
    return (lambda g: g.expand(full),)


# --- the plugin


class AutogradPlugin:
    """Answers the hooks of tt_core through which gradients come in."""

    @hookimpl
    def tt_tensor_type(self) -> type[Tensor]:
        return Tensor

    @hookimpl
    def tt_observe_op(self, op: Op) -> Callable[..., None]:
        return _observe


def _observe(op: Op, inputs: tuple[Any, ...], attributes: dict[str, Any], output: Any) -> None:
    if not _recording.on:
        return
    for x in inputs:
        if isinstance(x, Tensor) and x.requires_grad:
            break
    else:
        return
    rule = rule_of(op)
    if rule is not None:
        record(op, rule, inputs, attributes, output)


plugin = AutogradPlugin()
