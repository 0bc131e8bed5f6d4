"""Every computation is a named op; calling one runs the chain that the plugins' answers were bound into.

An op is a plain NumPy function on arrays. Parameters before `/` are its inputs, parameters after it its attributes:

    @op
    def softmax(x, /, dim=-1): ...

`softmax(tensor)` is the op, and this function is its formula. `@tuned(softmax)` registers a faster form of it, in the
package's folder `kernels/`: this is `softmax.kernel`, which is the formula itself for an op without a faster form. A
call goes front -> wraps -> observers -> kernel:

    front      puts inputs and attributes in their places, looks the chain up
    chain      what `bind` made of the hooks' answers; without plugins it is `op.base`, the same object each time
    call       arrays out of tensors, kernel, a tensor out of the result, observers

An op whose callers write its arguments in another form than its kernels take them, such as `cat([a, b])`, has a public
function and a formula: see `op(formula=...)`.

Rare things are in files of their own: `placing` (arguments out of place), `residuals` (kernels that return more than
the result), `failures` (kernels that raise). pluggy is asked in `bind` only. This file does not know gradients,
profiles or caches.
"""

from __future__ import annotations

import functools
import inspect
import weakref
from collections.abc import Callable, KeysView
from typing import Any, cast, overload

from tt_core.course import finder
from tt_core.engine.blame import blame, remember
from tt_core.engine.failures import numeric, rescue
from tt_core.engine.placing import EMPTY, arrange, call_method, of_tensors, parameters_of
from tt_core.engine.plugins import manager, snapshot
from tt_core.engine.protocols import AnyTensor as AnyTensor
from tt_core.engine.protocols import Array as Array
from tt_core.engine.protocols import Call, Definition, Publication
from tt_core.engine.protocols import HasArray as HasArray
from tt_core.engine.protocols import Op as Op
from tt_core.engine.protocols import TensorOp as TensorOp
from tt_core.engine.quiet import quiet_context
from tt_core.engine.quiet import quietly as quietly
from tt_core.engine.redefinition import redefined
from tt_core.engine.residuals import AnyCall, has_residuals, split
from tt_core.engine.residuals import residuals_of as residuals_of
from tt_core.engine.residuals import with_residuals as with_residuals
from tt_core.engine.wrapping import set_base_tensor_type as set_base_tensor_type
from tt_core.engine.wrapping import tensor_type as tensor_type
from tt_core.engine.wrapping import wrap as wrap

registry: dict[str, Op] = {}
"""Every op by its name."""
_replaced: weakref.WeakSet[Op] = weakref.WeakSet()
"""Ops that another one took the place of, and that code which refers to them still calls."""


@overload
def op(kernel: Callable[..., Array], /) -> TensorOp: ...
@overload
def op(kernel: Call, /) -> Op: ...
@overload
def op(
    *,
    residuals: tuple[str, ...],
    name: str | None = None,
    check: Call | None = None,
    random: bool = False,
    view: bool = False,
) -> Callable[[Call], TensorOp]: ...
@overload
def op(*, formula: Call, check: Call | None = None, random: bool = False, view: bool = False) -> Publication: ...
@overload
def op(
    *, name: str | None = None, check: Call | None = None, random: bool = False, view: bool = False
) -> Definition: ...
def op(
    kernel: Call | None = None,
    /,
    *,
    formula: Call | None = None,
    name: str | None = None,
    residuals: tuple[str, ...] = (),
    check: Call | None = None,
    random: bool = False,
    view: bool = False,
) -> Any:
    """Register a NumPy function as an op: its formula. The op has the function's name, or `name`.

    A function with `residuals=("scale",)` returns `(result, scale)`: callers receive the result, and the gradient rule
    receives `scale` as a keyword argument. Every kernel of this op must return these too. `check` takes what the
    function takes, and raises an error for arguments that no kernel of this op accepts. `random=True` says that the op
    draws from the generator, `view=True` that its result may share memory with an input.

    With `formula`, the decorated function is what users call. It puts its arguments in the order of the formula, which
    takes arrays, and hands them to `op.call`; plugins see inputs and attributes as the formula takes them.

    An op that is defined again in `__main__`, as by a notebook cell that runs twice, replaces the old one. Raises
    `ValueError` when the name is taken otherwise or no parameter stands before `/`.

    >>> @op
    ... def _double(x, /):
    ...     return x * 2
    >>> _double(3), _double.kernel(3)
    (tensor(6), 6)
    >>> del registry["_double"]
    """
    options: dict[str, Any] = {"residuals": residuals, "check": check, "random": random, "view": view}
    if formula is not None:
        return lambda public: _define(formula, public.__name__, public=public, **options)
    if kernel is None:
        return functools.partial(_define, name=name, **options)
    return _define(kernel, name, **options)


def _define(
    kernel: Call,
    name: str | None,
    residuals: tuple[str, ...],
    check: Call | None,
    random: bool,
    view: bool,
    public: Call | None = None,
) -> Op:
    name = name or kernel.__name__
    if name in registry and not redefined(f"op {name}", registry[name].kernel, kernel):
        raise ValueError(f"op {name} exists already (in {registry[name].kernel.__module__}); pass another name=")
    signature = inspect.signature(kernel)
    parameters = signature.parameters.values()
    inputs = tuple(p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.VAR_POSITIONAL))
    if not inputs:
        raise ValueError(f"op {name}: no parameter stands before '/', so it has no inputs")
    variadic = any(p.kind is p.VAR_POSITIONAL for p in parameters)
    attributes = {p.name: p.default for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
    required = sum(p.kind is p.POSITIONAL_ONLY and p.default is p.empty for p in parameters)
    with_residuals(*residuals)(kernel)
    exact = len(inputs) if not attributes and required == len(inputs) else 0
    front = functools.update_wrapper(_front(exact, len(inputs), attributes.keys()), kernel)
    front.__signature__ = of_tensors(signature, bool(residuals))  # type: ignore[attr-defined]
    defined = cast(Op, public or front)
    defined.call = front
    front.op, front.name = defined, name  # type: ignore[attr-defined]
    defined.name, defined.formula, defined.kernel = name, kernel, kernel
    defined.residuals, defined.check = residuals, check
    defined.random, defined.view, defined.pure = random, view, not random
    defined.inputs, defined.required, defined.variadic = inputs, required, variadic
    defined.attributes = attributes
    defined.defaulted = all(default is not EMPTY for default in attributes.values())
    defined.base = _call(defined, kernel)
    if name in registry:
        _replaced.add(registry[name])
    registry[name] = defined
    manager.settle(functools.partial(bind, defined))
    return defined


def tuned(op: Op, /, *, residuals: tuple[str, ...] = (), checks: bool = False) -> Callable[[AnyCall], AnyCall]:
    """Register the decorated function as the kernel of `op`: it computes the same as the formula, faster.

    With `residuals`, it returns them after the result, as described at `op`; here they are optional, so the backward op
    computes what a plugin's kernel leaves out. `checks=True` says that this kernel raises the errors of the op's
    `check` itself, so that the check need not run before it. Raises `ValueError` when the op has a tuned kernel
    already, or when the parameters differ from the formula's.

    >>> @op
    ... def _cubed(x, /):
    ...     return x**3
    >>> @tuned(_cubed)
    ... def _fast_cubed(x, /):
    ...     return x * x * x
    >>> _cubed.kernel is _fast_cubed, _cubed(2)
    (True, tensor(8))
    >>> del registry["_cubed"]
    """

    def register(kernel: AnyCall) -> AnyCall:
        if op.kernel is not op.formula:
            raise ValueError(f"op {op.name} has a tuned kernel already (in {op.kernel.__module__})")
        wanted, given = parameters_of(op.formula), parameters_of(kernel)
        if wanted != given:
            raise ValueError(f"the tuned kernel of {op.name} takes {given}, the formula {wanted}")
        if finder.runs_as_written(op.formula):
            return kernel
        op.kernel, op.residuals = with_residuals(*residuals)(kernel), residuals
        kernel.checks = checks  # type: ignore[attr-defined]
        op.base = _call(op, kernel)
        manager.settle(functools.partial(bind, op))
        return kernel

    return register


# --- binding: what plugins answer becomes the chain


def bind(op: Op) -> None:
    """Ask the plugins about `op` and put their answers, in the order of nesting, into its chain."""
    kernel = manager.answers("tt_kernel", op=op) or op.kernel
    observers = tuple(manager.answers("tt_observe_op", op=op))
    call = _call(op, kernel, observers) if observers or kernel is not op.kernel else op.base
    remember(call, "")  # what raises inside of it is not the fault of the wraps around it
    call = manager.chained("tt_wrap_op", call, into="call", op=op)
    op.chain = manager.once_loaded(call, lambda *inputs, **attributes: op.chain(*inputs, **attributes))
    op.call.chain = op.chain  # type: ignore[attr-defined]


def bind_all() -> None:
    """Bind every op again; the plugin manager calls this when a hook below has other answers."""
    for defined in (*registry.values(), *snapshot(_replaced)):
        bind(defined)


manager.rebinders.append((bind_all, {"tt_kernel", "tt_observe_op", "tt_wrap_op"}))


# --- the front: what users call. Exact signatures save 0.2 us a call over (*inputs, **attributes), and a try costs
# nothing until something raises.


def _front(exact: int, arity: int, names: KeysView[str]) -> Call:
    lacking = bool(names)

    def one(x: Any, /) -> Any:
        try:
            return front.chain(x)
        except Exception as error:
            blame(front.name, error, front.chain)
            raise

    def two(a: Any, b: Any, /, **options: Any) -> Any:
        if options:
            return call_method(front, (a, b), options)
        try:
            return front.chain(a, b)
        except Exception as error:
            blame(front.name, error, front.chain)
            raise

    def any_number(*inputs: Any, **attributes: Any) -> Any:
        if len(inputs) != arity or (attributes.keys() != names if attributes else lacking):
            op = front.op
            if not attributes.keys() <= {*op.inputs, *op.attributes}:
                return call_method(op, inputs, attributes)
            inputs, attributes = arrange(op, inputs, attributes)
        try:
            return front.chain(*inputs, **attributes)
        except Exception as error:
            blame(front.name, error, front.chain)
            raise

    front: Any = {1: one, 2: two}.get(exact, any_number)
    return cast(Call, front)


# --- the call


_NUMBERS = frozenset({float, int, bool})
_OPTIONAL = _NUMBERS | {type(None)}


def _call(op: Op, kernel: Call, observers: tuple[Call, ...] = ()) -> Call:
    """The call of an op on tensors with one kernel; the same arguments give the same object."""
    try:
        return _built(op, kernel, observers)
    except TypeError:  # one of them cannot be hashed
        return _built.__wrapped__(op, kernel, observers)


@functools.lru_cache(maxsize=4096)  # so that plugins which came and went leave no trace
def _built(op: Op, kernel: Call, observers: tuple[Call, ...]) -> Call:
    several = has_residuals(op, kernel)
    check = None if getattr(kernel, "checks", False) else op.check
    run = quiet_context().run
    lenient = op.required < len(op.inputs) and not op.variadic  # None stands only for an input that may be left out
    plain = _OPTIONAL if lenient else _NUMBERS

    def one(x: Any) -> Any:
        try:
            output = wrap(run(kernel, x.data if isinstance(x, HasArray) else x if type(x) in plain else numeric(x)))
        except Exception as error:
            output = wrap(rescue(op, kernel, (x,), {}, error))
        for observe in observers:
            observe(op, (x,), {}, output)
        return output

    def two(a: Any, b: Any) -> Any:
        try:
            x = a.data if isinstance(a, HasArray) else a if type(a) in plain else numeric(a)
            y = b.data if isinstance(b, HasArray) else b if type(b) in plain else numeric(b)
            output = wrap(run(kernel, x, y))
        except Exception as error:
            output = wrap(rescue(op, kernel, (a, b), {}, error))
        for observe in observers:
            observe(op, (a, b), {}, output)
        return output

    def keep_residuals(returned: Any, attributes: dict[str, Any]) -> Any:
        result, residuals = split(op, kernel, returned)
        attributes |= {name: x if x is None else wrap(x) for name, x in residuals.items()}
        return wrap(result)

    def any_number(*inputs: Any, **attributes: Any) -> Any:
        try:
            arrays = [x.data if isinstance(x, HasArray) else x if type(x) in plain else numeric(x) for x in inputs]
            if check is not None:
                check(*arrays, **attributes)
            result = run(kernel, *arrays, **attributes)
            output = keep_residuals(result, attributes) if several else wrap(result)
        except Exception as error:
            result = rescue(op, kernel, inputs, attributes, error)
            output = keep_residuals(result, attributes) if several else wrap(result)
        for observe in observers:
            observe(op, inputs, attributes, output)
        return output

    simple = not (several or check or op.attributes or op.required < len(op.inputs))
    built: dict[int, Call] = {1: one, 2: two}
    return built.get(len(op.inputs) if simple else 0, any_number)
