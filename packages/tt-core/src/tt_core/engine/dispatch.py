"""Every computation is a named op; calling one runs the chain that the plugins' answers were bound into.

An op is a plain NumPy function on arrays. Parameters before `/` are its inputs, parameters after it its attributes:

    @op
    def softmax(x, /, dim=-1): ...

`softmax(tensor)` is the op, and this function is its formula. `@tuned(softmax)` registers a faster form of it, in the
package's folder `kernels/`: this is `softmax.kernel`, which is the formula itself for an op without a faster form. A
call goes front -> wraps -> observers -> kernel:

    front      puts inputs and attributes in their places, looks the chain up
    chain      what `bind` made of the hooks' answers; without plugins it is `op.base`, the same object each time
    base       arrays out of tensors, kernel, tensors out of arrays

pluggy is asked in `bind` only. This file does not know gradients, profiles or caches, nor what a tensor can do.
"""

from __future__ import annotations

import contextvars
import functools
import inspect
import threading
from collections.abc import Callable, KeysView
from typing import TYPE_CHECKING, Any, NoReturn, Protocol, TypeVar, cast, overload

import numpy as np
from numpy import ndarray

from tt_core.course import finder
from tt_core.engine.blame import blame, described, remember
from tt_core.engine.errors import DTypeError, PluginError, TinyTorchError, kind_of, shown
from tt_core.engine.plugins import manager
from tt_core.engine.redefinition import redefined

if TYPE_CHECKING:
    from tt_core.tensor.tensor import Tensor

Array = np.ndarray[Any, np.dtype[Any]]
Call = Callable[..., Any]
AnyCall = TypeVar("AnyCall", bound=Call)
AnyTensor = TypeVar("AnyTensor", bound="Tensor")


class HasArray:
    """All that the dispatch knows of a tensor: it holds an array in `data`."""

    data: Array


class Op(Protocol):
    """A named computation: call it with tensors, or ask it what it is.

    >>> softmax = registry["softmax"]
    >>> softmax.inputs, softmax.attributes, softmax.variadic
    (('x',), {'dim': -1}, False)
    """

    name: str
    formula: Call
    """The NumPy function that defines it."""
    kernel: Call
    """The function that runs: the tuned form, or the formula; a plugin may run another one in its place."""
    check: Call | None
    """Raises an error for arguments that no kernel of this op accepts; runs before each of them."""
    inputs: tuple[str, ...]
    """Names of its inputs."""
    required: int
    """How many of them must be given; the rest are None where they are not."""
    attributes: dict[str, Any]
    """Names of its attributes with their defaults (`inspect.Parameter.empty` where there is none)."""
    defaulted: bool
    """Whether every attribute has a default."""
    variadic: bool
    """Whether it takes any number of inputs."""
    residuals: tuple[str, ...]
    """Names of what its kernel returns after the result, for the gradient rule."""
    random: bool
    """Whether it draws from `tt_core.random.generator()`."""
    view: bool
    """Whether its result may share memory with an input."""
    pure: bool
    """Whether the same inputs and attributes always give the same result: it is not random."""
    base: Call
    chain: Call

    def __call__(self, *inputs: Any, **attributes: Any) -> Any: ...

    def __hash__(self) -> int: ...


class TensorOp(Op, Protocol):
    """An op with one result, as editors and type checkers see it: given a subclass of Tensor, it returns that one."""

    @overload
    def __call__(self, x: AnyTensor, /, *inputs: Any, **attributes: Any) -> AnyTensor: ...
    @overload
    def __call__(self, *inputs: Any, **attributes: Any) -> Tensor: ...


class _Definition(Protocol):
    """The decorator that `op(name=...)` returns: an op returns a tensor where its kernel returns an array."""

    @overload
    def __call__(self, kernel: Callable[..., Array], /) -> TensorOp: ...
    @overload
    def __call__(self, kernel: Call, /) -> Op: ...


registry: dict[str, Op] = {}
"""Every op by its name."""

_tensor_type: type[HasArray] = HasArray
_base_tensor_type: type[HasArray] = HasArray


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
def op(
    *, name: str | None = None, check: Call | None = None, random: bool = False, view: bool = False
) -> _Definition: ...
def op(
    kernel: Call | None = None,
    /,
    *,
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

    An op that is defined again in `__main__`, as by a notebook cell that runs twice, replaces the old one. Raises
    `ValueError` when the name is taken otherwise or no parameter stands before `/`.

    >>> @op
    ... def _double(x, /):
    ...     return x * 2
    >>> _double([3]), _double.kernel(3)
    (tensor([3, 3]), 6)
    >>> del registry["_double"]
    """
    if kernel is None:
        return functools.partial(_define, name=name, residuals=residuals, check=check, random=random, view=view)
    return _define(kernel, name, residuals, check, random, view)


def _define(
    kernel: Call, name: str | None, residuals: tuple[str, ...], check: Call | None, random: bool, view: bool
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
    exact = len(inputs) if not attributes and required == len(inputs) else 0
    with_residuals(*residuals)(kernel)
    front = _front(exact, len(inputs), attributes.keys(), {*inputs, *attributes})
    front = functools.update_wrapper(front, kernel)
    front.__signature__ = _of_tensors(signature, bool(residuals))  # type: ignore[attr-defined]
    defined = cast(Op, front)
    defined.name, defined.formula, defined.kernel = name, kernel, kernel
    defined.residuals, defined.check = residuals, check
    defined.random, defined.view, defined.pure = random, view, not random
    defined.inputs, defined.required, defined.variadic = inputs, required, variadic
    defined.attributes = attributes
    defined.defaulted = all(default is not _EMPTY for default in attributes.values())
    defined.base = _base(defined, kernel)
    registry[name] = defined
    bind(defined)
    return defined


def tuned(op: Op, /, *, residuals: tuple[str, ...] = ()) -> Callable[[AnyCall], AnyCall]:
    """Register the decorated function as the kernel of `op`: it computes the same as the formula, faster.

    With `residuals`, it returns them after the result, as described at `op`; here they are optional, so the backward op
    computes what a plugin's kernel leaves out. Raises `ValueError` when the op has a
    tuned kernel already, or when the parameters differ from the formula's.

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
        wanted, given = _parameters(op.formula), _parameters(kernel)
        if wanted != given:
            raise ValueError(f"the tuned kernel of {op.name} takes {given}, the formula {wanted}")
        if finder.runs_as_written(op.formula):
            return kernel
        op.kernel, op.residuals = with_residuals(*residuals)(kernel), residuals
        op.base = _base(op, kernel)
        bind(op)
        return kernel

    return register


def _parameters(function: Call) -> str:
    """The parameters of a function and their defaults, as text."""
    parameters = inspect.signature(function).parameters.values()
    return str(inspect.Signature([p.replace(annotation=_EMPTY) for p in parameters]))


def with_residuals(*names: str) -> Callable[[AnyCall], AnyCall]:
    """Name what the decorated kernel returns after its result; for kernels that a plugin brings.

    >>> with_residuals("mean")(lambda x, /: (x - x.mean(), x.mean())).residuals
    ('mean',)
    """

    def name(kernel: AnyCall) -> AnyCall:
        if names:
            kernel.residuals = names  # type: ignore[attr-defined]
        return kernel

    return name


def residuals_of(kernel: Call) -> tuple[str, ...]:
    """The names of what `kernel` returns after its result."""
    return getattr(kernel, "residuals", ())


def _of_tensors(signature: inspect.Signature, residuals: bool) -> inspect.Signature:
    """A kernel's signature as `help` shows it for the op: tensors for arrays, and without residuals."""

    def shown(annotation: Any) -> Any:
        return annotation.replace("Array", "Tensor") if isinstance(annotation, str) else annotation

    parameters = [p.replace(annotation=shown(p.annotation)) for p in signature.parameters.values()]
    result = "Tensor" if residuals else shown(signature.return_annotation)
    return inspect.Signature(parameters, return_annotation=result)


def bind(op: Op) -> None:
    """Ask the plugins about `op` and put their answers, in the order of nesting, into its chain."""
    kernel, observers = manager.answers("tt_kernel", op=op), tuple(manager.answers("tt_observe_op", op=op))
    try:
        call = _inner(op, op.base, kernel, observers)
    except TypeError:  # one of them cannot be hashed
        call = _inner.__wrapped__(op, op.base, kernel, observers)
    remember(call, "")  # what raises inside of it is no fault of the wraps around it
    call = manager.chained("tt_wrap_op", call, into="call", op=op)
    op.chain = functools.partial(_load_plugins_then_call, op) if manager.pending else call


@functools.lru_cache(maxsize=4096)  # the same answers give the same object: what came and went leaves no trace
def _inner(op: Op, base: Call, kernel: Call | None, observers: tuple[Call, ...]) -> Call:
    """What the wraps of plugins go around: kernel and observers. `base` is another one once a tuned kernel came."""
    if observers:
        return _observed(op, kernel or op.kernel, observers)
    return base if kernel is None else _base(op, kernel)


def bind_all() -> None:
    """Bind every op, and the tensor type, anew; the plugin manager calls this when a hook below has other answers."""
    global _tensor_type
    _tensor_type = manager.answers("tt_tensor_type") or _base_tensor_type
    for defined in registry.values():
        bind(defined)


manager.rebinders.append((bind_all, {"tt_tensor_type", "tt_kernel", "tt_observe_op", "tt_wrap_op"}))


def set_base_tensor_type(base: type[HasArray]) -> None:
    """Tell the dispatch which class to hand back where no plugin brings its own."""
    global _base_tensor_type
    _base_tensor_type = base
    bind_all()


def tensor_type() -> type[Any]:
    """The class that ops and creation functions hand back now: `tt_core.Tensor`, or what a plugin brings."""
    return _tensor_type


_EMPTY = inspect.Parameter.empty
_new = object.__new__


def wrap(value: Any) -> Any:
    """An array as a tensor of the active type, without copying; a tuple of arrays as a tuple of tensors.

    >>> wrap((np.zeros(2, np.float32), 1))
    (tensor([0., 0.]), tensor(1))
    """
    if type(value) is not ndarray:
        if value is None:
            return None
        if type(value) is tuple:
            return tuple([wrap(part) for part in value])
        value = np.asarray(value)  # a NumPy scalar, from arrays without dimensions
    tensor = _new(_tensor_type)
    tensor.data = value
    return tensor


# --- the front: what users call. Exact signatures save 0.2 us a call over (*inputs, **attributes).


def _front(exact: int, arity: int, names: KeysView[str], known: set[str]) -> Call:
    if exact == 1:

        def front(x: Any, /) -> Any:
            try:  # costs nothing until something raises
                return front.chain(x)  # type: ignore[attr-defined]
            except Exception as error:
                blame(front.name, error)  # type: ignore[attr-defined]
                raise

    elif exact == 2:

        def front(a: Any, b: Any, /, *, alpha: Any = None, rounding_mode: Any = None) -> Any:  # type: ignore[misc]
            if alpha is rounding_mode:  # neither is given; taking any option would cost 50 ns
                try:
                    return front.chain(a, b)  # type: ignore[attr-defined]
                except Exception as error:
                    blame(front.name, error)  # type: ignore[attr-defined]
                    raise
            given = {"alpha": alpha, "rounding_mode": rounding_mode}
            options = {name: value for name, value in given.items() if value is not None}
            return _call_method(cast(Op, front), (a, b), options)

    else:

        def front(*inputs: Any, **attributes: Any) -> Any:  # type: ignore[misc]
            if len(inputs) != arity or attributes.keys() != names:
                if attributes and not attributes.keys() <= known:
                    return _call_method(cast(Op, front), inputs, attributes)
                inputs, attributes = _arrange(cast(Op, front), inputs, attributes)
            try:
                return front.chain(*inputs, **attributes)  # type: ignore[attr-defined]
            except Exception as error:
                blame(front.name, error)  # type: ignore[attr-defined]
                raise

    return front


def _call_method(op: Op, inputs: tuple[Any, ...], options: dict[str, Any]) -> Any:
    """Calls the tensor's method of this name, which takes what PyTorch's function takes and the op does not.

    Such as `axis`, `dtype`, `alpha` and `unbiased`. Raises `DTypeError` for what neither takes.
    """
    if "input" in options and not inputs:
        inputs, options = (options["input"],), {name: value for name, value in options.items() if name != "input"}
    method: Any = getattr(_tensor_type, op.name, None)
    first = [x if isinstance(x, HasArray) else wrap(np.asarray(x)) for x in inputs[:1]]
    arguments = (*first, *inputs[1:])
    if method is None or not _accepts(method, arguments, options):
        _arrange(op, inputs, options)  # raises
    return method(*arguments, **options)


def _accepts(function: Call, inputs: tuple[Any, ...], options: dict[str, Any]) -> bool:
    try:
        inspect.signature(function).bind(*inputs, **options)
    except TypeError:
        return False
    return True


def _arrange(op: Op, inputs: tuple[Any, ...], attributes: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Positional attributes and keyword inputs to their places, defaults filled in; a chain sees one form only."""
    if not attributes and op.defaulted and len(inputs) == len(op.inputs):
        return inputs, op.attributes  # the usual call; the chain's ** makes the copy
    names = tuple(op.attributes) if op.variadic else (*op.inputs, *op.attributes)
    given = {} if op.variadic else dict(zip(names, inputs))
    if not op.variadic and len(inputs) > len(names):
        raise DTypeError(f"{op.name}: takes {len(names)} arguments ({', '.join(names)}), got {len(inputs)}")
    for name, value in attributes.items():
        if name in given or name not in names:
            what = "was given twice" if name in given else f"is not one of its arguments ({', '.join(names)})"
            raise DTypeError(f"{op.name}: {name} {what}")
        given[name] = value
    complete = {name: given.get(name, default) for name, default in op.attributes.items()}
    needed = (*op.inputs[: op.required], *(name for name, value in complete.items() if value is _EMPTY))
    missing = [name for name in needed if name not in given]
    if missing:
        raise DTypeError(f"{op.name}: {' and '.join(missing)} must be given")
    return (inputs if op.variadic else tuple([given.get(name) for name in op.inputs])), complete


# --- kernels run in a context of their own in which NumPy gives no RuntimeWarning: infinities and nan are values, as in
# PyTorch. NumPy keeps this setting in a context variable, so the user's own NumPy code keeps its warnings. Entering a
# context takes 0.02 us, and np.errstate 0.8 us. A context cannot be entered twice: a kernel that calls an op is in it
# already.


class _Quiet(threading.local):
    def __init__(self) -> None:
        context = contextvars.Context()
        context.run(np.seterr, all="ignore")
        self.run = context.run


_quiet = _Quiet()


def quietly(function: Call, *arguments: Any, **options: Any) -> Any:
    """Call `function` while NumPy gives no warnings about infinities and nan, as kernels are called.

    >>> quietly(np.divide, 1.0, 0.0)
    np.float64(inf)
    """
    try:
        return _quiet.run(function, *arguments, **options)
    except RuntimeError as error:
        if not _entered(error):
            raise
    return function(*arguments, **options)


def _entered(error: Exception) -> bool:
    """Whether the context was entered already, so that the function did not run: no frame lies below the caller's."""
    trace = error.__traceback__
    return type(error) is RuntimeError and trace is not None and trace.tb_next is None


_PLAIN = {float, int, bool, type(None)}


def _numeric(x: Any) -> Any:
    """`x` in this machine's byte order; raises `DTypeError` for what holds anything but numbers and booleans."""
    array = np.asarray(x)
    if array.dtype.kind not in "fiub":
        raise DTypeError(f"needs a tensor, an array or a number, got {shown(x)}")
    return x if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))


# --- the base: arrays out of tensors, kernel, tensors out of arrays. The try costs nothing until something raises.


def _base(op: Op, kernel: Call) -> Call:
    names = residuals_of(kernel)
    single = bool(names or op.residuals or residuals_of(op.formula))
    exact = 0 if single or op.attributes or op.required < len(op.inputs) else len(op.inputs)
    run, kernel = kernel, _guarded(op, kernel)
    if exact == 1:

        def base(x: Any) -> Any:
            try:
                return wrap(
                    _quiet.run(kernel, x.data if isinstance(x, HasArray) else x if type(x) in _PLAIN else _numeric(x))
                )
            except Exception as error:
                return wrap(_again(op, kernel, (x,), {}, error))

    elif exact == 2:

        def base(a: Any, b: Any) -> Any:  # type: ignore[misc]
            try:
                x = a.data if isinstance(a, HasArray) else a if type(a) in _PLAIN else _numeric(a)
                y = b.data if isinstance(b, HasArray) else b if type(b) in _PLAIN else _numeric(b)
                return wrap(_quiet.run(kernel, x, y))
            except Exception as error:
                return wrap(_again(op, kernel, (a, b), {}, error))

    else:

        def base(*inputs: Any, **attributes: Any) -> Any:  # type: ignore[misc]
            try:
                result = _quiet.run(
                    kernel,
                    *[x.data if isinstance(x, HasArray) else x if type(x) in _PLAIN else _numeric(x) for x in inputs],
                    **attributes,
                )
            except Exception as error:
                result = _again(op, kernel, inputs, attributes, error)
            return wrap(_parts(op, run, names, result)[0] if single else result)

    return base


def _observed(op: Op, kernel: Call, observers: tuple[Call, ...]) -> Call:
    names = residuals_of(kernel)
    single = bool(names or op.residuals or residuals_of(op.formula))
    run, kernel = kernel, _guarded(op, kernel)

    def observed(*inputs: Any, **attributes: Any) -> Any:
        try:  # here as in `base`, since a call of its own would take 0.1 us
            result = _quiet.run(
                kernel,
                *[x.data if isinstance(x, HasArray) else x if type(x) in _PLAIN else _numeric(x) for x in inputs],
                **attributes,
            )
        except Exception as error:
            result = _again(op, kernel, inputs, attributes, error)
        if single:
            result, *rest = _parts(op, run, names, result)
            for name, residual in zip(names, rest):
                attributes[name] = wrap(residual)
        output = wrap(result)
        for observe in observers:
            observe(op, inputs, attributes, output)
        return output

    return observed


def _guarded(op: Op, kernel: Call) -> Call:
    """`kernel` after the op's `check`; raises `PluginError` for one that lacks residuals that the formula returns."""
    missing = [name for name in residuals_of(op.formula) if name not in residuals_of(kernel)]
    if missing:
        raise PluginError(
            f"{op.name}: the kernel of {_source_of(op, kernel)} does not return {' and '.join(missing)}, which the "
            f"gradient needs; return it after the result and name it with @with_residuals"
        )
    check = op.check
    if check is None:
        return kernel

    def guarded(*inputs: Any, **attributes: Any) -> Any:
        check(*inputs, **attributes)
        return kernel(*inputs, **attributes)

    guarded.unguarded = kernel  # type: ignore[attr-defined]
    return guarded


def _parts(op: Op, kernel: Call, names: tuple[str, ...], result: Any) -> tuple[Any, ...]:
    """The result and the residuals of a kernel; raises `PluginError` for another number of them than it names."""
    parts = result if type(result) is tuple else (result,)
    if len(parts) != len(names) + 1:
        named = f"the result and {', '.join(names)}" if names else "the result alone"
        raise PluginError(
            f"{op.name}: the kernel of {_source_of(op, kernel)} returns {len(parts)} values, expected {named}; "
            f"name residuals with @with_residuals"
        )
    return parts


def _source_of(op: Op, kernel: Call) -> str:
    """Where a kernel comes from: a plugin, or the op's own module."""
    return f"module {kernel.__module__}" if kernel is op.kernel else f"plugin {manager.who_answers('tt_kernel', op=op)}"


def _load_plugins_then_call(op: Op, *inputs: Any, **attributes: Any) -> Any:
    manager.load_pending()
    return op.chain(*inputs, **attributes)


def _again(op: Op, kernel: Call, inputs: tuple[Any, ...], attributes: dict[str, Any], error: Exception) -> Any:
    """The kernel's result where only its context was taken: it was called by another kernel. Raises any other error."""
    if _entered(error):
        try:
            return kernel(*[x.data if isinstance(x, HasArray) else x for x in inputs], **attributes)
        except Exception as other:
            error = other
    if getattr(kernel, "unguarded", kernel) is not op.kernel:
        error = _judged(op, inputs, attributes, error)
    _explain(op, inputs, error)


def _judged(op: Op, inputs: tuple[Any, ...], attributes: dict[str, Any], error: Exception) -> Exception:
    """The user's error when a plugin's kernel has raised one: that of the op's own kernel.

    Raises `PluginError` where that one does not raise on the same inputs.
    """
    if isinstance(error, (TinyTorchError, MemoryError, RecursionError)):
        return error
    try:
        _guarded(op, op.kernel)(*[x.data if isinstance(x, HasArray) else x for x in inputs], **attributes)
    except Exception as own:
        return own
    plugin = manager.who_answers("tt_kernel", op=op)
    raise PluginError(f"plugin {plugin}: its kernel of {op.name} raises {described(error)}") from error


def _explain(op: Op, inputs: tuple[Any, ...], error: Exception) -> NoReturn:
    """Raise a kernel's error again with the op's name and what it was given; what is no user's error passes."""
    names = op.inputs if not op.variadic else [f"{op.inputs[-1]}[{i}]" for i in range(len(inputs))]
    required = len(names) if op.variadic else op.required
    present = [(name, x) for i, (name, x) in enumerate(zip(names, inputs)) if x is not None or i < required]
    given = ", ".join(f"{name} {_describe(x)}" for name, x in present)
    plain = [name for name, x in present if not hasattr(x, "shape")]
    if plain and isinstance(error, AttributeError):
        raise DTypeError(f"{op.name}: {' and '.join(plain)} must be a tensor or an array ({given})") from None
    if isinstance(error, AttributeError) and isinstance(error.obj, HasArray):  # kernels see no tensors but those
        raise DTypeError(
            f"{op.name}: attributes are no tensors, got one of {error.obj.data.shape}; use its item()"
        ) from None
    ours = kind_of(error)
    if ours is None:
        raise error
    fact = str(error).strip()
    if plain and "did not contain a loop" in fact:  # NumPy's word for what is no number
        fact = f"does not work on {' and '.join(str(getattr(x, 'dtype', type(x).__name__)) for _, x in present)}"
    raise ours(f"{op.name}: {fact} ({given})") from None


def _describe(x: Any) -> str:
    shape = getattr(x.data if isinstance(x, HasArray) else x, "shape", None)
    return type(x).__name__ if shape is None else str(shape)
