"""Beside module 18: what loops need that run on several cores at once: atomic numbers, and calls by address.

`atomics()` has each in Python, for loops that run without a compiler and on one thread, and `compiled_atomics()` for
loops that Numba compiles. Addresses are those of int64.
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from tt_core.engine.dispatch import Array

Call = Callable[..., Any]


def atomics() -> dict[str, Call]:
    """The functions in Python, by name.

    >>> numbers = np.array([5, 7])
    >>> functions, place = atomics(), numbers.ctypes.data
    >>> functions["atomic_add"](place, 2), functions["atomic_swap"](place, 7, 1), functions["atomic_load"](place)
    (5, True, 1)
    """

    def integers_at(address: int, count: int) -> Array:
        return np.ctypeslib.as_array((ctypes.c_int64 * int(count)).from_address(int(address)))

    def atomic_load(address: int) -> int:
        return int(integers_at(address, 1)[0])

    def atomic_store(address: int, value: int) -> None:
        integers_at(address, 1)[0] = value

    def atomic_add(address: int, value: int) -> int:
        before = atomic_load(address)
        atomic_store(address, before + value)
        return before

    def atomic_swap(address: int, expected: int, value: int) -> bool:
        there = atomic_load(address) == expected
        if there:
            atomic_store(address, value)
        return there

    def call(function: int, argument: int) -> int:
        return int(ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int)(int(function))(argument))

    def call_piece(function: int, arguments: int, piece: int) -> None:
        ctypes.CFUNCTYPE(None, ctypes.c_int64, ctypes.c_int64)(int(function))(arguments, piece)

    def matrix_at(address: int, rows: int, columns: int, down: int, right: int) -> Array:
        size = max(1, 1 + (rows - 1) * down + (columns - 1) * right)
        numbers = np.ctypeslib.as_array((ctypes.c_float * int(size)).from_address(int(address)))
        return np.lib.stride_tricks.as_strided(numbers, (rows, columns), (4 * down, 4 * right))

    made = atomic_load, atomic_store, atomic_add, atomic_swap, call, call_piece, integers_at, matrix_at
    return {function.__name__: function for function in made}


@functools.cache
def compiled_atomics() -> dict[str, Call]:
    """The functions for loops that Numba compiles, by name. Needs Numba."""
    from llvmlite import ir  # type: ignore[import-not-found,import-untyped,unused-ignore]
    from numba.core import types  # type: ignore[import-not-found,import-untyped,unused-ignore]
    from numba.extending import intrinsic  # type: ignore[import-not-found,import-untyped,unused-ignore]
    from numba.np import arrayobj  # type: ignore[import-not-found,import-untyped,unused-ignore]

    tools: Any = arrayobj  # Numba has type hints, but not on these
    whole, int32 = ir.IntType(64), ir.IntType(32)
    integer: Any = types.int64
    array_of: Any = types.Array
    flat, strided = array_of(types.int64, 1, "C"), array_of(types.float32, 2, "A")

    def pointer(builder: Any, address: Any) -> Any:
        return builder.inttoptr(address, whole.as_pointer())

    def filled(context: Any, builder: Any, kind: Any, address: Any, shape: Any, strides: Any, size: int) -> Any:
        array = tools.make_array(kind)(context, builder)
        data = builder.inttoptr(address, array.data.type)
        tools.populate_array(array, data, shape, strides, context.get_constant(types.intp, size), None)
        return array._getvalue()

    @intrinsic  # type: ignore[untyped-decorator,unused-ignore]
    def atomic_load(typing: Any, address: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            return builder.load_atomic(pointer(builder, values[0]), "seq_cst", 8)

        return integer(integer), generate

    @intrinsic  # type: ignore[untyped-decorator,unused-ignore]
    def atomic_store(typing: Any, address: Any, value: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            builder.store_atomic(values[1], pointer(builder, values[0]), "seq_cst", 8)
            return context.get_dummy_value()

        return types.void(integer, integer), generate

    @intrinsic  # type: ignore[untyped-decorator,unused-ignore]
    def atomic_add(typing: Any, address: Any, value: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            return builder.atomic_rmw("add", pointer(builder, values[0]), values[1], "seq_cst")

        return integer(integer, integer), generate

    @intrinsic  # type: ignore[untyped-decorator,unused-ignore]
    def atomic_swap(typing: Any, address: Any, expected: Any, value: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            place = pointer(builder, values[0])
            found = builder.cmpxchg(place, values[1], values[2], "seq_cst", "seq_cst")
            return builder.extract_value(found, 1)

        return types.boolean(integer, integer, integer), generate

    @intrinsic  # type: ignore[untyped-decorator,unused-ignore]
    def call(typing: Any, function: Any, argument: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            kind = ir.FunctionType(int32, [int32])
            return builder.call(builder.inttoptr(values[0], kind.as_pointer()), [builder.trunc(values[1], int32)])

        return types.int32(integer, integer), generate

    @intrinsic  # type: ignore[untyped-decorator,unused-ignore]
    def call_piece(typing: Any, function: Any, arguments: Any, piece: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            kind = ir.FunctionType(ir.VoidType(), [whole, whole])
            builder.call(builder.inttoptr(values[0], kind.as_pointer()), values[1:])
            return context.get_dummy_value()

        return types.void(integer, integer, integer), generate

    @intrinsic  # type: ignore[untyped-decorator,unused-ignore]
    def integers_at(typing: Any, address: Any, count: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            return filled(context, builder, flat, values[0], [values[1]], [whole(8)], 8)

        return flat(integer, integer), generate

    @intrinsic  # type: ignore[untyped-decorator,unused-ignore]
    def matrix_at(typing: Any, address: Any, rows: Any, columns: Any, down: Any, right: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            steps = [builder.mul(step, whole(4)) for step in values[3:]]
            return filled(context, builder, strided, values[0], values[1:3], steps, 4)

        return strided(*[integer] * 5), generate

    return {
        "atomic_load": atomic_load,
        "atomic_store": atomic_store,
        "atomic_add": atomic_add,
        "atomic_swap": atomic_swap,
        "call": call,
        "call_piece": call_piece,
        "integers_at": integers_at,
        "matrix_at": matrix_at,
    }
