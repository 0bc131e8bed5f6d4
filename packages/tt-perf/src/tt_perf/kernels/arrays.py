"""Beside module 18: type hints by which a loop says what it is compiled for.

    def scaled(x: In1, factor: Number, out: Out1) -> None: ...

`In2` is a matrix of float32 that is read and `Out2` one that is written to, both C-contiguous. `StridedIn5` and
`StridedOut5` may have any strides. A loop with such hints on all parameters is compiled ahead of its first call; one
with an `Array` is a part of the loops that call it, or compiled for what it is called with.
"""

from __future__ import annotations

import functools
import types
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar, get_type_hints

import numpy as np

from tt_core.engine.dispatch import Array
from tt_perf.acceleration.blas import Blas


@dataclass(frozen=True)
class Kind:
    """What is known of an array before the call."""

    dtype: str
    ndim: int
    written: bool = False
    strided: bool = False


In1 = Annotated[Array, Kind("float32", 1)]
In2 = Annotated[Array, Kind("float32", 2)]
In3 = Annotated[Array, Kind("float32", 3)]
In4 = Annotated[Array, Kind("float32", 4)]
Out1 = Annotated[Array, Kind("float32", 1, written=True)]
Out2 = Annotated[Array, Kind("float32", 2, written=True)]
Out3 = Annotated[Array, Kind("float32", 3, written=True)]
Out4 = Annotated[Array, Kind("float32", 4, written=True)]
StridedIn2 = Annotated[Array, Kind("float32", 2, strided=True)]
StridedIn4 = Annotated[Array, Kind("float32", 4, strided=True)]
StridedIn5 = Annotated[Array, Kind("float32", 5, strided=True)]
StridedBytes5 = Annotated[Array, Kind("uint8", 5, strided=True)]
StridedOut2 = Annotated[Array, Kind("float32", 2, written=True, strided=True)]
StridedOut5 = Annotated[Array, Kind("float32", 5, written=True, strided=True)]
Labels = Annotated[Array, Kind("int64", 1)]
LabelsOut = Annotated[Array, Kind("int64", 1, written=True)]
Int64_2 = Annotated[Array, Kind("int64", 2)]
Bytes2 = Annotated[Array, Kind("uint8", 2)]
Bytes3 = Annotated[Array, Kind("uint8", 3)]
BytesOut3 = Annotated[Array, Kind("uint8", 3, written=True)]
BytesOut4 = Annotated[Array, Kind("uint8", 4, written=True)]
Ints2 = tuple[int, int]
Ints4 = tuple[int, int, int, int]
Ints5 = tuple[int, int, int, int, int]
Int8_2 = Annotated[Array, Kind("int8", 2)]
Int16_2 = Annotated[Array, Kind("int16", 2)]
StridedInt32Out2 = Annotated[Array, Kind("int32", 2, written=True, strided=True)]

_SCALARS: dict[Any, str | int] = {np.float32: "float32", int: "int64", bool: "boolean", Blas: 2, Ints4: 4, Ints5: 5}
"""What Numba calls a number; of a tuple, how many integers it has."""


@functools.cache
def signature(loop: types.FunctionType) -> tuple[Kind | str | int, ...]:
    """What each parameter of a loop is; empty if a hint leaves it open, or no parameter is an array.

    >>> from tt_perf.acceleration.loops import exp_below_0, gelu_tanh
    >>> signature(gelu_tanh)[1]
    Kind(dtype='float32', ndim=1, written=True, strided=False)
    >>> signature(exp_below_0)
    ()
    """
    hints = get_type_hints(loop, include_extras=True)
    hints.pop("return", None)
    found = [_known(hint) for hint in hints.values()]
    return tuple(found) if None not in found and any(isinstance(kind, Kind) for kind in found) else ()  # type: ignore[arg-type]


def _known(hint: Any) -> Kind | str | int | None:
    for note in getattr(hint, "__metadata__", ()):
        if isinstance(note, Kind):
            return note
    return _SCALARS.get(hint)


Loop = TypeVar("Loop", bound=Callable[..., Any])


def any_order(loop: Loop) -> Loop:
    """Marks a loop whose sums may be added in another order, which vectors need.

    Not one that computes an exponential: that formula rests on the order of its operations.
    """
    loop.any_order = True  # type: ignore[attr-defined]
    return loop


def as_written(loop: Loop) -> Loop:
    """Marks a loop in which each product and each sum is rounded.

    In other loops the compiler may join a product and a sum into one instruction that rounds once. In `a b + c d` it
    chooses one of two, perhaps another where the loop is part of a larger function. Loops that are bound by memory lose
    no time by rounding twice.
    """
    loop.as_written = True  # type: ignore[attr-defined]
    return loop
