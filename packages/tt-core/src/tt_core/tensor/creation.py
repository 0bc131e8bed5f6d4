"""Module 01, tensor: functions that make tensors from sizes, from Python data, or from random numbers.

They return the active tensor type, Act II's once it is imported. Random ones draw from the framework's generator
(`manual_seed`), unless they are given one.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar, cast

import numpy as np

from tt_core.engine import devices
from tt_core.engine.dispatch import Array, HasArray, quietly, wrap
from tt_core.engine.errors import ArgumentError, DTypeError, ShapeError, TinyTorchError, is_number, kind_of, shown
from tt_core.engine.heap import aligned
from tt_core.random import Generator, source
from tt_core.tensor import shapes as S
from tt_core.tensor.conversion import as_array, native
from tt_core.tensor.sizes import new_size
from tt_core.tensor.tensor import Tensor

if TYPE_CHECKING:
    from tt_core.engine.hints import DeviceLike, DTypeLike, TensorLike

F = TypeVar("F", bound=Callable[..., Any])


def _named(create: F) -> F:
    """Decorates a function that makes a tensor: handles the options that all of them take, and names it in errors.

    A dtype of None is the default, as in PyTorch; one of neither numbers nor booleans is an error. `device` must be the
    CPU; `*_like` functions take the one `memory_format` that there is. Options that the function does not know go to
    the tensor (`Tensor._take`). Errors of NumPy become ours, and begin with the function's name, as those of ops do.
    """
    known = inspect.signature(create).parameters
    stars = [name for name, parameter in known.items() if parameter.kind is parameter.VAR_POSITIONAL]

    @functools.wraps(create)
    def named(*args: Any, **options: Any) -> Any:
        if "dtype" in options and options["dtype"] is None:
            del options["dtype"]
        devices.check(options.pop("device", None))
        if "memory_format" in options and create.__name__.endswith("_like"):
            devices.check_memory_format(create.__name__, options.pop("memory_format"))
        if not args and "size" in options and "size" in stars:  # zeros(size=(2, 3)), as PyTorch takes it
            args = (options.pop("size"),)
        more = {name: options.pop(name) for name in options.keys() - known.keys()}
        try:
            if "dtype" in options:
                options["dtype"] = native(np.dtype(options["dtype"]))
            made = quietly(create, *args, **options)
        except (TypeError, ValueError, OverflowError, MemoryError) as error:
            if isinstance(error, TinyTorchError):
                raise
            raise (kind_of(error) or ShapeError)(f"{create.__name__}: {error}") from None
        if made.dtype.kind not in "fiub":
            raise DTypeError(f"{create.__name__}: holds numbers or booleans, got dtype {made.dtype}")
        return made._take(create.__name__, more) if more else made

    return cast(F, named)


def tensor(
    data: TensorLike, dtype: DTypeLike | None = None, device: DeviceLike | None = None, **options: Any
) -> Tensor:
    """A tensor with a copy of `data` (nested lists, scalars, an array); dtypes and errors as for `Tensor`.

    `device` must be the CPU. Act II adds the option `requires_grad`.

    >>> tensor([1, 2, 3]).dtype, tensor([1.0]).dtype
    (dtype('int64'), dtype('float32'))
    """
    devices.check(device)
    array = as_array(data, dtype)
    given = data.data if isinstance(data, HasArray) else data
    made: Tensor = wrap(array.copy() if array is given else array)
    return made._take("tensor", options) if options else made


def from_numpy(array: np.ndarray) -> Tensor:
    """A tensor that shares memory with `array`; raises `DTypeError` for anything but an array of numbers.

    >>> array = np.zeros(2)
    >>> from_numpy(array).numpy() is array
    True
    """
    if not isinstance(array, np.ndarray):
        raise DTypeError(f"from_numpy: needs a NumPy array, got {type(array).__name__}; use tensor()")
    if not array.dtype.isnative:
        raise DTypeError(f"from_numpy: cannot share memory of foreign byte order, got {array.dtype.str}; use tensor()")
    return wrap(as_array(array, what="from_numpy"))


@_named
def zeros(*size: int | Sequence[int], dtype: DTypeLike = np.float32) -> Tensor:
    """All 0; raises `ShapeError` for a negative size, `DTypeError` for a size that is not an integer.

    >>> zeros(2, 3)
    tensor([[0., 0., 0.],
            [0., 0., 0.]])
    """
    return wrap(aligned(new_size("zeros", size), dtype, np.zeros))


@_named
def ones(*size: int | Sequence[int], dtype: DTypeLike = np.float32) -> Tensor:
    """All 1; raises as `zeros` does.

    >>> ones((2,), dtype="int64")
    tensor([1, 1])
    """
    return _filled(new_size("ones", size), 1, dtype)


@_named
def empty(*size: int | Sequence[int], dtype: DTypeLike = np.float32) -> Tensor:
    """Uninitialized memory, for values that are written before they are read; raises as `zeros` does.

    >>> empty(2, 3).fill_(7).sum()
    tensor(42.)
    """
    return wrap(aligned(new_size("empty", size), dtype))


def _filled(size: Sequence[int], value: Any, dtype: DTypeLike) -> Tensor:
    array = aligned(size, dtype)
    array.fill(value)
    return wrap(array)


def _number(value: Any) -> Any:
    if isinstance(value, HasArray):  # a later act could not see the computation
        raise TypeError(f"fill_value is a number, got a tensor of shape {value.data.shape}; use its item()")
    return value


@_named
def full(size: int | Sequence[int], fill_value: float, dtype: DTypeLike | None = None) -> Tensor:
    """All `fill_value`, float32 or int64 by its type; raises `DTypeError` for a value that is not a number.

    >>> full((2,), 7), full((2,), 7.0)
    (tensor([7, 7]), tensor([7., 7.]))
    """
    value = as_array(_number(fill_value), dtype, "full")
    return _filled(new_size("full", (size,)), value, value.dtype)


def _shape_and_dtype(x: Tensor | Array, dtype: DTypeLike | None) -> tuple[tuple[int, ...], Any]:
    if not hasattr(x, "dtype"):
        raise TypeError(f"needs a tensor or an array, got {type(x).__name__}; make one with tensor()")
    return x.shape, native(x.dtype) if dtype is None else dtype


@_named
def zeros_like(x: Tensor | Array, dtype: DTypeLike | None = None) -> Tensor:
    """All 0 in the shape and dtype of `x`; raises `DTypeError` unless `x` is a tensor or an array.

    >>> zeros_like(tensor([[1, 2]]))
    tensor([[0, 0]])
    """
    return wrap(aligned(*_shape_and_dtype(x, dtype), np.zeros))


@_named
def ones_like(x: Tensor | Array, dtype: DTypeLike | None = None) -> Tensor:
    """All 1 in the shape and dtype of `x`; raises as `zeros_like` does.

    >>> ones_like(tensor([[1, 2]]))
    tensor([[1, 1]])
    """
    shape, dtype = _shape_and_dtype(x, dtype)
    return _filled(shape, 1, dtype)


@_named
def full_like(x: Tensor | Array, fill_value: float, dtype: DTypeLike | None = None) -> Tensor:
    """All `fill_value` in the shape and dtype of `x`; raises as `zeros_like` and `full` do.

    >>> full_like(tensor([[1, 2]]), 7)
    tensor([[7, 7]])
    """
    shape, dtype = _shape_and_dtype(x, dtype)
    return _filled(shape, _number(fill_value), dtype)


@_named
def arange(start: float, end: float | None = None, step: float = 1, dtype: DTypeLike | None = None) -> Tensor:
    """`start`, `start + step`, ... up to `end`, which is not included; with one argument, from 0.

    Raises `ArgumentError` if the steps do not lead from `start` to `end`.

    >>> arange(3), arange(1, 0, -0.25)
    (tensor([0, 1, 2]), tensor([1.  , 0.75, 0.5 , 0.25]))
    """
    first, last = (0, start) if end is None else (start, end)
    for bound in (first, last, step):
        if not (is_number(bound) or (np.shape(bound) == () and hasattr(bound, "dtype"))):
            raise DTypeError(f"arange: bounds and step are numbers, got {shown(bound)}")
    if dtype is not None and np.dtype(dtype).kind in "iu":  # the bounds are of this dtype too, as in PyTorch
        first, last, step = int(first), int(last), int(step)
    if not step or (last - first) * step < 0:
        raise ArgumentError(f"arange: steps of {step} do not lead from {first} to {last}")
    ramp = np.arange(first, last, step)
    return wrap(ramp.astype(dtype or (np.float32 if ramp.dtype.kind == "f" else np.int64)))


@_named
def linspace(start: float, end: float, steps: int, dtype: DTypeLike = np.float32) -> Tensor:
    """`steps` evenly spaced numbers from `start` to `end`, both included; integers are truncated as in PyTorch.

    Raises `ShapeError` for a negative number of steps and for bounds that are not numbers, `DTypeError` for booleans.

    >>> linspace(0, 1, 5)
    tensor([0.  , 0.25, 0.5 , 0.75, 1.  ])
    """
    if np.ndim(start) or np.ndim(end):
        raise ValueError(f"start and end must be numbers, got shapes {np.shape(start)} and {np.shape(end)}")
    if np.dtype(dtype) == np.bool_:
        raise TypeError("makes numbers, got dtype bool")
    return wrap(np.linspace(as_bound(start, dtype), as_bound(end, dtype), steps).astype(dtype))


def as_bound(value: float, dtype: DTypeLike) -> float:
    """A bound of a range as Python's number: truncated for a range of integers, as in PyTorch.

    >>> as_bound(2.7, "int64"), as_bound(tensor(2.5), "float32")
    (2, 2.5)
    """
    return int(value) if np.dtype(dtype).kind in "iu" else float(value)


@_named
def eye(n: int, m: int | None = None, dtype: DTypeLike = np.float32) -> Tensor:
    """Ones on the diagonal of (n, m), without `m` of (n, n); raises `ShapeError` for a negative size.

    >>> eye(2, 3)
    tensor([[1., 0., 0.],
            [0., 1., 0.]])
    """
    new_size("eye", (n, n if m is None else m))
    return wrap(np.eye(n, m, dtype=dtype))


@_named
def rand(*size: int | Sequence[int], generator: Generator | None = None, dtype: DTypeLike = np.float32) -> Tensor:
    """Uniform in [0, 1); raises as `zeros` does, and `DTypeError` for a dtype of integers or booleans.

    >>> rand(2, 3).shape
    (2, 3)
    """
    drawn = _of_dtype(source(generator).random, new_size("rand", size), dtype)
    return wrap(np.minimum(drawn, _BELOW_1) if drawn.dtype == np.float16 else drawn)


@_named
def randn(*size: int | Sequence[int], generator: Generator | None = None, dtype: DTypeLike = np.float32) -> Tensor:
    """Standard normal; raises as `rand` does.

    >>> bool(randn(100, 100).mean().abs() < 0.1)
    True
    """
    return wrap(_of_dtype(source(generator).standard_normal, new_size("randn", size), dtype))


_BELOW_1 = np.nextafter(np.float16(1), np.float16(0))
"""The largest float16 below 1, to which the last float32 numbers below 1 do not round."""


def _of_dtype(draw: Callable[..., Any], size: tuple[int, ...], dtype: DTypeLike) -> Array:
    """Random numbers in `dtype`; NumPy draws no float16."""
    half = dtype == np.float16
    drawn: Array = draw(size, dtype=np.float32 if half else dtype)
    return drawn.astype(np.float16) if half else drawn


@_named
def randint(
    low: int = 0,
    high: int | Sequence[int] | None = None,
    size: Sequence[int] = (),
    generator: Generator | None = None,
    dtype: DTypeLike = np.int64,
) -> Tensor:
    """Integers from `low` to `high` - 1; with one bound, `randint(high, size)`, from 0.

    Raises `ShapeError` if there are none between the bounds, `DTypeError` for a bound that is not an integer.

    >>> bool((randint(1, 7, (100,)) < 7).all())
    True
    """
    if high is None or isinstance(high, Sequence):
        return randint(0, low, size if high is None else high, generator, dtype)
    low, high = S.as_size("randint", (low, high))
    if low >= high:
        raise ShapeError(f"randint: there is no integer from {low} to below {high}")
    return wrap(np.asarray(source(generator).integers(low, high, size=new_size("randint", (size,)), dtype=dtype)))


@_named
def randperm(n: int, generator: Generator | None = None, dtype: DTypeLike = np.int64) -> Tensor:
    """The numbers 0 to n - 1 in random order; raises `ArgumentError` for a negative `n`.

    >>> sorted(randperm(4).tolist())
    [0, 1, 2, 3]
    """
    (n,) = S.as_size("randperm", (n,))
    if n < 0:
        raise ArgumentError(f"randperm: n must not be negative, got {n}")
    return wrap(source(generator).permutation(n).astype(dtype))
