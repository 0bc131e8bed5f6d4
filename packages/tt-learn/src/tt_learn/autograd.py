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
import functools
import heapq
import inspect
import itertools
import math
import threading
import weakref
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, NoReturn, SupportsIndex, TypeVar, cast, overload

import numpy as np

import tt_core
from tt_core import mutation, reductions
from tt_core.dispatch import Array, Op, op, quietly, wrap
from tt_core.elementwise import HALF, half_in_float32
from tt_core.errors import ShapeError, TinyTorchError
from tt_core.heap import LINE
from tt_core.hookspecs import hookimpl

if TYPE_CHECKING:
    from typing_extensions import Self

    from tt_core.samples import Draw

F = TypeVar("F", bound=Callable[..., Any])
Rule = Callable[..., Any]
Hook = Callable[["Tensor"], Any]
Signature = tuple[tuple[int, ...], Any]  # shape and dtype


class GradientError(TinyTorchError, RuntimeError):
    """A gradient that cannot be computed, and why; never a missing one in silence."""


# --- whether calls are recorded


class _Recording(threading.local):
    on = True


_recording = _Recording()


class _RecordingMode:
    """A block, or a decorated function, in which recording is on or off."""

    def __init__(self, mode: bool) -> None:
        self._mode = mode
        self._before: list[bool] = []  # a stack: one object may be entered again inside itself

    def __enter__(self) -> None:
        self._before.append(_recording.on)
        _recording.on = self._mode

    def __exit__(self, *_: object) -> None:
        _recording.on = self._before.pop()

    def __call__(self, function: F) -> F:
        """`function` run in this mode; each call has a stack of its own, since threads may call it together."""
        decorate = _decorated_generator if inspect.isgeneratorfunction(function) else _decorated
        return cast(F, functools.wraps(function)(decorate(function, self._mode)))


def _decorated(function: Callable[..., Any], mode: bool) -> Callable[..., Any]:
    def run(*inputs: Any, **options: Any) -> Any:
        with _RecordingMode(mode):
            return function(*inputs, **options)

    return run


def _decorated_generator(function: Callable[..., Any], mode: bool) -> Callable[..., Any]:
    """A generator's body runs in the mode, whoever reads it and sends to it does not."""

    def run(*inputs: Any, **options: Any) -> Generator[Any, Any, Any]:
        sent = None
        with contextlib.closing(function(*inputs, **options)) as steps:
            while True:
                try:
                    with _RecordingMode(mode):
                        value = steps.send(sent)
                except StopIteration as end:
                    return end.value
                sent = yield value

    return run


class _FixedMode(_RecordingMode):
    """A mode with a name of its own; as a decorator, it may stand with or without parentheses."""

    mode: ClassVar[bool]

    def __new__(cls, function: Any = None) -> Any:
        if function is None:
            return super().__new__(cls)
        if not callable(function):
            given, name = type(function).__name__, cls.__name__
            raise TypeError(f"{name}: decorates a function, got {given}; or write `with {name}():`")
        return cls()(function)

    def __init__(self) -> None:
        super().__init__(self.mode)


class no_grad(_FixedMode):
    """A block or decorated function in which nothing is recorded.

    >>> x = Tensor([1.0], requires_grad=True)
    >>> with no_grad():
    ...     (x * 2).requires_grad
    False
    """

    mode = False


class enable_grad(_FixedMode):
    """A block or decorated function in which calls are recorded, also inside `no_grad`.

    >>> x = Tensor([1.0], requires_grad=True)
    >>> with no_grad(), enable_grad():
    ...     (x * 2).requires_grad
    True
    """

    mode = True


def is_grad_enabled() -> bool:
    """Whether calls are recorded now, in this thread.

    >>> with no_grad():
    ...     is_grad_enabled()
    False
    """
    return _recording.on


# --- the tensor that remembers


class Tensor(tt_core.Tensor):
    """A tensor that can remember how it was computed.

    `requires_grad=True` asks for the gradient of a later `backward()` in `grad`. Only floats can have gradients: raises
    `GradientError` for others.

    >>> x = Tensor([2.0, 3.0], requires_grad=True)
    >>> (x * x).sum().backward()
    >>> x.grad
    tensor([4., 6.])
    """

    _requires_grad: bool = False  # read at each call, where a property would take 30 ns more
    _grad: Tensor | None = None
    grad_fn: Node | None = None
    _output = 0  # which output of grad_fn this is
    _retains = False
    _hooks: list[Hook] | None = None  # of a leaf; others keep theirs at the node

    def __init__(self, data: Any, dtype: Any = None, requires_grad: bool = False) -> None:
        super().__init__(data, dtype)
        if requires_grad:
            self.requires_grad_()

    @property
    def requires_grad(self) -> bool:
        """Whether a gradient is asked for, or flows through; assigning to it does what `requires_grad_` does."""
        return self._requires_grad

    @requires_grad.setter
    def requires_grad(self, requires_grad: bool) -> None:
        self.requires_grad_(requires_grad)

    @property
    def grad(self) -> Tensor | None:
        """The gradient that `backward` has added up, or None; raises `GradientError` when what is no tensor is set."""
        return self._grad

    @grad.setter
    def grad(self, grad: Any) -> None:
        if grad is not None and not isinstance(grad, Tensor):
            if not isinstance(grad, tt_core.Tensor):
                raise GradientError(f"grad: takes a tensor or None, got {type(grad).__name__}; wrap it with tensor()")
            grad = wrap(grad.data)
        self._grad = grad

    @property
    def is_leaf(self) -> bool:
        """Whether this tensor was made by a user, not by a recorded call."""
        return self.grad_fn is None

    def requires_grad_(self, requires_grad: bool = True) -> Self:
        """Ask for a gradient, or stop asking; in place.

        Raises `GradientError` for what holds no floats, and when a result that has history is to stop.
        """
        if requires_grad and self.dtype.kind != "f":
            raise GradientError(f"requires_grad_: only floats have gradients, this tensor is {self.dtype}")
        if not requires_grad and self.grad_fn is not None:
            raise GradientError(f"requires_grad_: a result of {self.grad_fn.name} has history; use detach()")
        self._requires_grad = bool(requires_grad)
        return self

    def as_parameter(self) -> Self:
        return super().as_parameter().requires_grad_()

    def backward(self, gradient: Any = None, retain_graph: bool = False, create_graph: bool = False) -> None:
        """Add to `grad` of every leaf this tensor was computed from.

        `gradient` has this tensor's shape; it may be left out where there is one element. The graph is released
        unless `retain_graph` (or `create_graph`, which records the backward pass itself for further derivatives).
        Raises `GradientError` without history, for a released graph, and for a saved tensor that was changed.
        """
        _Walk(retain_graph or create_graph, create_graph).run([(self, gradient)])

    def register_hook(self, hook: Hook) -> HookHandle:
        """Call `hook(gradient)` when this tensor's gradient is known; a tensor it returns replaces the gradient.

        `remove()` of the result takes the hook out again. Raises `GradientError` where no gradient is required, and in
        backward for a hook that returns a tensor of another shape.

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
        hooks.insert(len(hooks) - self._retains, hook)  # what retain_grad keeps is what all hooks left
        return HookHandle(hooks, hook)

    def retain_grad(self) -> None:
        """Keep the gradient in `grad` of a tensor that is no leaf too; raises `GradientError` where none is required.

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
            self.register_hook(_keeper(self))
            self._retains = True

    def zero_grad(self) -> None:
        """Forget the gradient: `grad` is None again."""
        self.grad = None

    def detach_(self) -> Self:
        """Forget the history of this tensor, which becomes a leaf without a gradient; in place."""
        self.grad_fn, self._requires_grad = None, False
        return self

    def _in_place(self, what: str, instead: str, source: Any, write: Callable[[Array], Any]) -> Self:
        if _recording.on:
            if isinstance(source, (list, tuple)):
                _refuse_gradients(what, "a list", source)
            for tensor in (self, source):
                if isinstance(tensor, Tensor) and tensor.requires_grad:
                    kind = "is a leaf that requires a gradient" if tensor.grad_fn is None else "has history"
                    whom = "this tensor" if tensor is self else "the value"
                    raise GradientError(
                        f"{what}: {whom} {kind}, and a change in place would be missing from it; "
                        f"use {instead}, or no_grad() if no gradient should know"
                    )
        return super()._in_place(what, instead, source, write)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        if _recording.on and self.grad_fn is not None:
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
        """What a pickle holds: as in a deep copy, neither hooks nor the history of the gradient."""
        state = {name: value for name, value in self.__dict__.items() if name != "_hooks"}
        if self.grad is not None and self.grad.grad_fn is not None:
            state["_grad"] = self.grad.detach()
        return state

    def _repr_suffix(self) -> str:
        history = f", grad_fn={self.grad_fn.name}" if self.grad_fn else ", requires_grad=True"
        return super()._repr_suffix() + (history if self.requires_grad else "")


class HookHandle:
    """What `register_hook` returns, to take the hook out again.

    >>> x = Tensor([1.0], requires_grad=True)
    >>> x.register_hook(lambda g: g * 10).remove()
    >>> (x * 2).sum().backward()
    >>> x.grad
    tensor([2.])
    """

    def __init__(self, hooks: list[Hook], hook: Hook) -> None:
        self._hooks, self._hook = hooks, hook

    def remove(self) -> None:
        """Take the hook out; a second time does nothing."""
        if self._hook in self._hooks:
            self._hooks.remove(self._hook)
        self._hooks = []  # where the same function was given twice, the other one stays


def _keeper(x: Tensor) -> Hook:
    """A hook that adds to `x.grad`; it holds `x` weakly, for `x` holds the hook."""
    weak = weakref.ref(x)

    def keep(g: Tensor) -> None:
        kept = weak()
        if kept is not None:
            kept.grad = g.clone() if kept.grad is None else kept.grad + g

    return keep


def tensor(data: Any, dtype: Any = None, requires_grad: bool = False) -> Tensor:
    """A tensor with a copy of `data`, asking for a gradient or not; raises `GradientError` where that is not of floats.

    >>> tensor([1.0], requires_grad=True)
    tensor([1.], requires_grad=True)
    """
    made = cast(Tensor, tt_core.tensor(data, dtype))
    return made.requires_grad_() if requires_grad else made


# --- rules


class _Entry(NamedTuple):
    rule: Rule
    keeps_output: bool
    """Whether an inner function of the rule names the op's output."""


_rules: dict[str, _Entry | None] = {}


@overload
def gradient(of: Op) -> Callable[[Rule], Rule]: ...
@overload
def gradient(of: Op, rule: Rule) -> Rule: ...
def gradient(of: Op, rule: Rule | None = None) -> Any:
    """Register the derivative of an op: `gradient(op, rule)`, or as a decorator `@gradient(op)`.

    The rule is called as `rule(out, *inputs, **attributes)` after each recorded call. It returns a tuple with one
    function `gradient of out -> gradient of this input` per input (None where there is none), or one function that
    returns the gradients of all inputs together. What these inner functions name stays in memory until backward.
    Broadcasting is undone for them. An op with several outputs hands them a tuple of gradients. Raises `GradientError`
    for an op that has a rule.

    >>> @op
    ... def _cubed(x, /):
    ...     return x**3
    >>> rule = gradient(_cubed, lambda out, x: (lambda g: g * 3 * x**2,))
    >>> x = Tensor([2.0], requires_grad=True)
    >>> _cubed(x).sum().backward()
    >>> x.grad
    tensor([12.])
    >>> from tt_core.dispatch import registry
    >>> del registry["_cubed"]
    >>> forget_rule(_cubed)
    """
    if rule is None:
        return lambda decorated: gradient(of, decorated)
    if of.name in _rules:
        _refuse_second_rule(of)
    _rules[of.name] = _Entry(rule, _keeps_output(rule))
    return rule


def _refuse_second_rule(of: Op) -> NoReturn:
    raise GradientError(f"{of.name} has a gradient rule already; take it out with forget_rule({of.name}) first")


def non_differentiable(*ops: Op) -> None:
    """Register ops whose outputs have no gradient: comparisons and indices.

    Raises `GradientError` for an op that has a rule, whose gradients would be lost without a word.
    """
    for each in ops:
        if _rules.get(each.name) is not None:
            _refuse_second_rule(each)
    _rules.update({each.name: None for each in ops})


@overload
def formula(of: Op) -> Callable[[Rule], Rule]: ...
@overload
def formula(of: Op, composition: Rule) -> Rule: ...
def formula(of: Op, composition: Rule | None = None) -> Any:
    """Register the derivative of a fused op by its formula in other ops: it is run again and differentiated.

    For backward kernels, whose own derivatives are needed only for second and higher orders.
    `composition(*inputs, **attributes)` returns what the op returns. Raises `GradientError` for an op that has a rule.

    >>> @op
    ... def _quartic(x, /):
    ...     return x**4
    >>> composition = formula(_quartic, lambda x: (x * x) * (x * x))
    >>> x = Tensor([2.0], requires_grad=True)
    >>> _quartic(x).sum().backward()
    >>> x.grad
    tensor([32.])
    >>> from tt_core.dispatch import registry
    >>> del registry["_quartic"]
    >>> forget_rule(_quartic)
    """
    if composition is None:
        return lambda decorated: formula(of, decorated)

    def rule(out: Any, *inputs: Any, **attributes: Any) -> Any:
        return Again(lambda: composition(*inputs, **attributes), closed=True)

    return gradient(of, rule)


def _keeps_output(rule: Rule) -> bool:
    code = getattr(rule, "__code__", None)
    return code is None or (code.co_varnames[:1] != () and code.co_varnames[0] in code.co_cellvars)


def rule_of(of: Op) -> Rule | None:
    """The rule of an op; None for a non-differentiable one. Raises `GradientError` where there is neither.

    >>> rule_of(tt_core.argmax) is None
    True
    """
    entry = _entry_of(of)
    return entry and entry.rule


def _entry_of(of: Op) -> _Entry | None:
    try:
        return _rules[of.name]
    except KeyError:
        raise GradientError(
            f"{of.name} has no gradient rule; write one with gradient({of.name}, ...), "
            f"or run it under no_grad() if it needs none"
        ) from None


def wide(x: Any) -> Any:
    """A float16 tensor as float32; others unchanged. For rules that compute with inputs before `g` comes in.

    >>> wide(tt_core.ones(2, dtype="float16")).dtype
    dtype('float32')
    """
    return x.to(np.float32) if x.dtype == HALF else x


def forget_rule(of: Op) -> None:
    """Take an op's rule out of the table, where it has one; `gradient` can then give it another."""
    _rules.pop(of.name, None)


# --- the graph


class Again:
    """A call that is run again when a gradient reaches it; the walk goes on through what is recorded then.

    `closed`: what is recorded leads to the call's inputs alone, not to tensors that the function knows from elsewhere.
    """

    def __init__(self, run: Callable[[], Any], closed: bool) -> None:
        self.run, self.closed = run, closed
        self.moment = mutation.now()  # what the function knows from elsewhere has its values of this moment


class Node:
    """One recorded call: where its inputs came from, and how a gradient gets to them."""

    __slots__ = ("__weakref__", "functions", "hooks", "moment", "name", "number", "outputs", "parents")
    _numbers = itertools.count()

    def __init__(self, name: str, parents: list[Edge | None], functions: Any, outputs: Sequence[Tensor]) -> None:
        self.name = name
        self.number = next(Node._numbers)  # calls are numbered as they happen: walking back is counting down
        self.parents = parents
        if None in parents and type(functions) is tuple:  # what such an input would have kept alive is let go
            functions = tuple([f if parent else None for f, parent in zip(functions, parents)])
        self.functions = functions  # None once released
        self.moment = mutation.now()
        self.hooks: dict[int, list[Hook]] | None = None
        if len(outputs) == 1:  # a fifth of this method's time is saved here
            array = outputs[0].data
            self.outputs: tuple[Signature, ...] = ((array.shape, array.dtype),)
        else:
            self.outputs = tuple([(x.data.shape, x.data.dtype) for x in outputs])

    def attach(self, outputs: Sequence[Tensor], recalled: Sequence[Tensor] = ()) -> None:
        """Make this node the history of its outputs; those that are no floats have none."""
        for i, x in enumerate(outputs):
            if x.data.dtype.kind == "f":
                x._requires_grad, x.grad_fn = True, self
                if i:
                    x._output = i
        for i, x in enumerate(recalled):
            if x.data.dtype.kind == "f":
                x._requires_grad, x._node, x._output = True, weakref.ref(self), i  # type: ignore[attr-defined]

    def input_gradients(self, gradients: list[Any]) -> Sequence[Any]:
        """Gradients of the inputs from those of the outputs (None where nothing arrived).

        Rules compute with float16 gradients in float32; what they return is rounded once, in `_fit`.
        """
        if len(gradients) == 1:
            g = gradients[0]
            if g.data.dtype == HALF:
                g = g.to(np.float32)
        else:
            g = tuple([None if g is None else wide(g) for g in gradients])
        if type(self.functions) is not tuple:
            found = self.functions(g)
            return found if type(found) is tuple else (found,)
        return [None if function is None else function(g) for function in self.functions]

    def check(self) -> None:
        """Raise `GradientError` when the graph was released, or what it kept was changed since."""
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
            function = function.run if type(function) is Again else function
            for cell in getattr(function, "__closure__", None) or ():
                yield from _arrays_in(cell.cell_contents)

    def __repr__(self) -> str:
        return f"<{self.name} #{self.number}>"


Edge = tuple[Any, int]  # (node, which of its outputs) or (leaf, 0)


def _edge(x: Tensor) -> Edge:
    return x.grad_fn or x, x._output


def _edges(inputs: Sequence[Any]) -> list[Edge | None]:
    """Where each input came from; None for what needs no gradient."""
    return [(x.grad_fn or x, x._output) if isinstance(x, Tensor) and x._requires_grad else None for x in inputs]


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


def record(op: Op, edges: list[Edge | None], inputs: Sequence[Any], attributes: dict[str, Any], output: Any) -> None:
    """Hang a node for one call behind its output tensors. Residuals have no gradient of their own."""
    entry = _entry_of(op)
    if entry is None:
        return
    if type(output) is not tuple and not entry.keeps_output:
        node = Node(op.name, edges, entry.rule(output, *inputs, **attributes), (output,))
        if output.data.dtype.kind == "f":
            output._requires_grad, output.grad_fn = True, node
        return
    # A rule that keeps its own output would close a circle of references: it gets one that knows the node weakly.
    outputs = output if type(output) is tuple else (output,)
    recalled = _recalled(outputs)
    functions = entry.rule(recalled if outputs is output else recalled[0], *inputs, **attributes)
    if op.residuals:
        recalled, outputs = recalled[:1], outputs[:1]
    Node(op.name, edges, functions, outputs).attach(outputs, recalled)


class _Recalled(Tensor):
    """A node's output as the node's own rule keeps it: the same memory, and the node by a weak reference.

    The output itself would close a circle of references. Whatever is computed from this one while the backward pass
    is recorded holds the node strongly, so higher derivatives find their way.
    """

    _node: Callable[[], Node | None] = staticmethod(lambda: None)

    @property
    def grad_fn(self) -> Node | None:  # type: ignore[override]
        return self._node()

    def detach(self) -> Tensor:  # type: ignore[override]
        return cast(Tensor, wrap(self.data))


def _recalled(outputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
    return tuple([_with_data(_Recalled, x.data) for x in outputs])


def _with_data(cls: type[Tensor], data: Array) -> Tensor:
    x = object.__new__(cls)
    x.data = data
    return x


# --- the walk back


class _Walk:
    """One pass from the roots with their gradients to the leaves, newest call first, each node once.

    Without `wanted`, the leaves' gradients are added to their `grad`; with it, the gradients of these tensors are
    returned, only the nodes between are visited, and no `grad` is touched.
    """

    def __init__(self, retain_graph: bool, create_graph: bool, wanted: Sequence[Tensor] | None = None) -> None:
        self.retain_graph, self.create_graph = retain_graph, create_graph
        self.waiting: list[int] = []  # a heap of negated numbers of the nodes that a gradient arrived at
        self.arrived: dict[int, tuple[Node, list[Any]]] = {}  # these nodes, and the gradients of their outputs
        self.leaves: dict[int, tuple[Tensor, Any]] = {}
        self.shared: set[int] = set()  # ids of arrays that somebody else may hold, so that no `grad` takes them over
        self.wanted = None if wanted is None else [_edge(x) for x in wanted]
        self.targets = {(id(at), output) for at, output in self.wanted or ()}
        self.caught: dict[tuple[int, int], Tensor] = {}
        self.between: set[int] | None = None  # numbers of the nodes to visit; None for all

    def run(self, roots: Sequence[tuple[Tensor, Any]]) -> list[Tensor | None]:
        """Walk; returns the gradients of `wanted`, None for those that were not reached."""
        with _RecordingMode(self.create_graph):
            starts = [(_root_gradient(root, g), *_edge(root)) for root, g in roots]
            if self.wanted is not None:
                self.between = _between([at for _, at, _ in starts], self.targets)
            self.fresh = next(Node._numbers)  # what is run again on the way is newer
            self.shared.update(id(mutation.owner(g.data)) for g, _, _ in starts)
            for g, at, output in starts:
                self.arrive(at, output, g)
            while self.waiting:
                self._visit(*self.arrived.pop(-heapq.heappop(self.waiting)))
            for leaf, g in self.leaves.values():
                self._settle(leaf, self._hooked(leaf, 0, leaf._hooks or (), g))
        return [self.caught.get((id(at), output)) for at, output in self.wanted or ()]

    def arrive(self, at: Any, output: int, g: Any) -> None:
        """Add a gradient to what has arrived at one output of a node, or at a leaf."""
        if self.between is not None and not self._is_on_the_way(at, output):
            return
        if type(at) is not Node:
            before = self.leaves.get(id(at))
            self.leaves[id(at)] = (at, g if before is None else before[1] + g)
            return
        entry = self.arrived.get(at.number)
        if entry is None:
            heapq.heappush(self.waiting, -at.number)
            entry = self.arrived[at.number] = (at, [None] * len(at.outputs))
        gradients = entry[1]
        gradients[output] = g if gradients[output] is None else gradients[output] + g

    def _is_on_the_way(self, at: Any, output: int) -> bool:
        if (id(at), output) in self.targets:
            return True
        return type(at) is Node and (at.number >= self.fresh or at.number in cast("set[int]", self.between))

    def _visit(self, node: Node, gradients: list[Any]) -> None:
        if node.hooks or self.targets:
            hooks = node.hooks or {}
            for i, g in enumerate(gradients):
                if g is not None:
                    gradients[i] = self._hooked(node, i, hooks.get(i, ()), g)
        if self.between is not None and node.number < self.fresh and node.number not in self.between:
            return  # a target, and the way ends here
        if node.functions is None or mutation.now() != node.moment:
            node.check()
        if type(node.functions) is Again:
            self._run_again(node, node.functions, gradients)
        else:
            self._pass_on(node, gradients)
        if not self.retain_graph:
            node.functions = None

    def _pass_on(self, node: Node, gradients: list[Any]) -> None:
        """The gradients of a node's inputs, each in the shape and dtype of its input, to where these came from."""
        found = node.input_gradients(gradients)
        if len(found) != len(node.parents):
            raise GradientError(
                f"backward: the gradient rule of {node.name} is wrong (it gives {len(found)} gradients for "
                f"{len(node.parents)} inputs)"
            )
        for edge, g in zip(node.parents, found):
            if edge is not None and g is not None:
                at, output = edge
                shape, dtype = at.outputs[output] if type(at) is Node else (at.data.shape, at.data.dtype)
                if g.data.shape != shape or g.data.dtype != dtype:
                    g = _fit(node.name, g, shape, dtype)
                self.arrive(at, output, g)

    def _run_again(self, node: Node, again: Again, gradients: list[Any]) -> None:
        first = next(Node._numbers)
        with enable_grad():
            output = again.run()
        outputs = output if isinstance(output, tuple) else (output,)
        if not again.closed and tuple([(x.data.shape, x.data.dtype) for x in outputs]) != node.outputs:
            raise GradientError(f"backward: {node.name} ran its function again, and it returned other shapes or dtypes")
        ends = [
            (*_edge(x), g)
            for x, g in zip(outputs, gradients)
            if g is not None and isinstance(x, Tensor) and x.requires_grad
        ]
        if not again.closed and mutation.now() != again.moment:
            _check_leaves(node.name, again.moment, [at for at, _, _ in ends], first)
        for at, output, g in ends:
            self.arrive(at, output, g)

    def _hooked(self, at: Any, output: int, hooks: Sequence[Hook], g: Tensor) -> Tensor:
        """The gradient after the hooks; caught if it is wanted."""
        if hooks:
            g = g.clone()  # one that changes it in place must not change what went other ways
        for hook in tuple(hooks):
            self.shared.add(id(mutation.owner(g.data)))
            replaced = hook(g)
            if replaced is not None:
                g = _checked_replacement(replaced, g)
                self.shared.add(id(mutation.owner(g.data)))
        if (id(at), output) in self.targets:
            self.caught[id(at), output] = g
        return g

    def _settle(self, leaf: Tensor, g: Tensor) -> None:
        """Add to `leaf.grad`, whose memory is its own, since users scale it in place."""
        if self.wanted is not None or not leaf.requires_grad:  # it may have been frozen after its use
            return
        with _settling:
            if leaf.grad is None:
                leaf.grad = self._owned(g)
            elif self.create_graph or leaf.grad.requires_grad or not _fits_into(g, leaf.grad):
                leaf.grad = leaf.grad + g
            else:
                quietly(np.add, leaf.grad.data, g.data, out=leaf.grad.data)
                mutation.record(leaf.grad.data)

    def _owned(self, g: Tensor) -> Tensor:
        owner = mutation.owner(g.data)
        piece = owner.nbytes > g.data.nbytes + LINE  # of something larger, which it would keep in memory
        if piece or id(owner) in self.shared or not g.data.flags.writeable:
            return g.clone()
        self.shared.add(id(owner))
        return g


def _check_leaves(name: str, moment: int, ends: Sequence[Any], first: int) -> None:
    """Raise `GradientError` when a leaf that calls since number `first` were made with was changed after `moment`.

    What runs again inside these calls (a checkpoint in a checkpoint) has to find the values of `moment` too.
    """
    seen: set[int] = set()
    stack = list(ends)
    while stack:
        at = stack.pop()
        if id(at) in seen:
            continue
        seen.add(id(at))
        if type(at) is not Node:
            if mutation.changed_since(at.data, moment):
                raise GradientError(
                    f"backward: {name} runs its function again, and a tensor of shape {at.shape} that this uses was "
                    f"changed in place meanwhile; call backward() before changing it"
                )
        elif at.number > first:
            stack += [edge[0] for edge in at.parents if edge]
            if type(at.functions) is Again:
                at.functions.moment = moment


_settling = threading.Lock()  # two threads may reach one leaf


def _between(starts: Sequence[Any], targets: set[tuple[int, int]]) -> set[int] | None:
    """Numbers of the nodes that lie between the starts and the targets; None where that cannot be known."""
    seen: dict[int, Node] = {}
    stack = [at for at in starts if type(at) is Node]
    while stack:
        node = stack.pop()
        if node.number not in seen:
            seen[node.number] = node
            stack += [edge[0] for edge in node.parents if edge and type(edge[0]) is Node]
    found: set[int] = set()
    for number in sorted(seen):  # inputs before what was computed from them
        node = seen[number]
        if type(node.functions) is Again and not node.functions.closed:
            return None
        if any(_leads_to(edge, found, targets) for edge in node.parents if edge):
            found.add(number)
    return found


def _leads_to(edge: Edge, found: set[int], targets: set[tuple[int, int]]) -> bool:
    at, output = edge
    return (id(at), output) in targets or (type(at) is Node and at.number in found)


def _fit(name: str, g: Any, shape: tuple[int, ...], dtype: Any) -> Any:
    """A gradient in the shape and dtype of its input: the one place where broadcasting is undone."""
    g = g.to(dtype)
    try:
        return g if g.data.shape == shape else sum_to(g, shape=shape)
    except ShapeError as error:
        raise GradientError(f"backward: the gradient rule of {name} is wrong ({error})") from None


def _root_gradient(root: Any, g: Any) -> Tensor:
    if not (isinstance(root, Tensor) and root.requires_grad):
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
    g = g.to(root.dtype) if isinstance(g, Tensor) else cast(Tensor, wrap(np.asarray(g, dtype=root.dtype)))
    if g.shape != root.shape:
        raise GradientError(f"backward: gradient has shape {g.shape}, the tensor has {root.shape}")
    return g


def _checked_replacement(replaced: Any, g: Tensor) -> Tensor:
    if not isinstance(replaced, Tensor) or replaced.shape != g.shape:
        what = f"shape {replaced.shape}" if isinstance(replaced, Tensor) else type(replaced).__name__
        raise GradientError(f"hook: returned {what} for a gradient of shape {g.shape}; return such a tensor or None")
    return replaced.to(g.dtype)


def _fits_into(g: Tensor, total: Tensor) -> bool:
    return total.data.dtype == g.data.dtype and total.data.shape == g.data.shape and total.data.flags.writeable


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
    wanted: list[Any] = [inputs] if isinstance(inputs, tt_core.Tensor) else list(inputs)
    weights = [None] * len(roots) if grad_outputs is None else grad_outputs
    weights = [weights] if isinstance(weights, tt_core.Tensor) else list(weights)
    if len(weights) != len(roots):
        raise GradientError(f"grad: {len(roots)} outputs but {len(weights)} grad_outputs")
    for i, x in enumerate(wanted):
        if not (isinstance(x, Tensor) and x.requires_grad):
            raise GradientError(f"grad: input {i} does not require a gradient; call requires_grad_() before using it")
    retain = create_graph if retain_graph is None else retain_graph
    found = _Walk(retain, create_graph, wanted).run(list(zip(roots, weights)))
    for i, g in enumerate(found):
        if g is None and not allow_unused:
            raise GradientError(f"grad: the outputs do not depend on input {i}; pass allow_unused=True to get None")
    return tuple(found)


# --- one op of its own


@op
@half_in_float32
def sum_to(x: Array, /, shape: tuple[int, ...]) -> Array:
    """`x` summed down to `shape`: what broadcasting from `shape` repeated is added up again.

    Raises `ShapeError` where `x` is not broadcast from it.

    >>> sum_to(np.ones((2, 3)), (1, 3)).shape, sum_to(np.ones((2, 3)), ()).item()
    ((1, 3), 6.0)
    """
    lead = x.ndim - len(shape)
    if lead > 0 and shape and x.shape[lead:] == shape:  # a bias; BLAS adds rows up faster than NumPy's sum
        rows = x.reshape(math.prod(x.shape[:lead]), math.prod(shape))
        return (np.ones(len(rows), x.dtype) @ rows).reshape(shape)
    stretched = tuple(i for i, n in enumerate(x.shape) if i < lead or (shape[i - lead] == 1 and n != 1))
    if lead < 0 or any(n not in (1, m) for n, m in zip(shape, x.shape[lead:])):
        raise ValueError(f"a gradient of shape {x.shape} does not fit an input of shape {shape}; the rule is wrong")
    return reductions.sum.kernel(x, stretched, True).reshape(shape) if stretched else x.reshape(shape)


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

    @hookimpl
    def tt_try_op(self, op: Op, inputs: tuple[Any, ...], attributes: dict[str, Any], draw: Draw) -> bool:
        from tt_learn.checking import forward_and_backward

        return forward_and_backward(op, inputs, attributes, draw)


def _observe(op: Op, inputs: tuple[Any, ...], attributes: dict[str, Any], output: Any) -> None:
    if _recording.on:
        edges = _edges(inputs)
        if None in edges:
            for x in inputs:
                if type(x) in (list, tuple):
                    _refuse_gradients(op.name, "a list", x)
        for name, value in attributes.items():
            if isinstance(value, Tensor):
                _refuse_gradients(op.name, name, value)
        if any(edges):
            record(op, edges, inputs, attributes, output)


def _refuse_gradients(whose: str, what: str, value: Any) -> None:
    """Raise `GradientError` where a tensor that requires a gradient came in by a way that none can come back."""
    if isinstance(value, (list, tuple)):
        for part in value:
            _refuse_gradients(whose, what, part)
    elif isinstance(value, Tensor) and value.requires_grad:
        raise GradientError(
            f"{whose}: {what} brings a tensor that requires a gradient, which it would not get; "
            f"pass it as an input of its own (stack() makes one of several), or detach() it"
        )


plugin = AutogradPlugin()
