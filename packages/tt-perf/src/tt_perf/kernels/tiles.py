"""Beside module 18: small matrix products that stay in the processor's vector registers.

BLAS copies both matrices into an order of its own before it multiplies them. A convolution would copy its image nine
times for that (im2col). A *tile* multiplies where the numbers lie: `ROWS` rows times two vectors of columns of the
result are kept in registers, and each step adds one column of `a` times one row of `b`, which may begin at any address.
That is the inner loop of every fast matrix product (Goto and van de Geijn 2008), written here as LLVM instructions,
since a compiler does not find it in a loop over numbers. On one core with vectors of 512 bits it reaches 250 GFLOP/s,
the limit of the processor, where OpenBLAS reaches 120 on large matrices.

    correlate_tile    out = a b for packed `a` and rows of `b` at the places in a table: convolution
    gram_tile         out += a b for rows of `a` at the places in a table, whose numbers are `a_step` apart, and rows of
                      `b`, one after the other: gradients of convolution's weights, and any matrix product
    transpose_tile    columns become rows
    every_second      LANES numbers that are two apart become a vector
    numbers_at        the numbers at an address, as an array

`tiles()` has each as a NumPy function for loops that run without a compiler, `compiled_tiles()` as a function for loops
that Numba compiles. Arrays have one dimension and are float32; positions and steps count elements. Nothing checks them.
"""

from __future__ import annotations

import ctypes
import functools
import inspect
from collections.abc import Callable
from typing import Any

import numpy as np

from tt_core.engine.dispatch import Array

Call = Callable[..., Any]


def _size() -> tuple[int, int]:
    """Lanes of a vector and rows of a tile, so that 2 x rows results, 3 operands and no more fill the registers."""
    try:
        from llvmlite import binding  # type: ignore[import-not-found,import-untyped,unused-ignore]
    except ImportError:
        return 4, 6
    features: Any = binding.get_host_cpu_features()
    if features.get("avx512f"):
        return 16, 8
    if features.get("avx"):
        return 8, 6
    return 4, 8 if features.get("neon") else 6


LANES, ROWS = _size()
"""Numbers in a vector, and rows of a tile."""


def tiles() -> dict[str, Call]:
    """The tiles in NumPy, by name; each is also there with one vector in place of two, as `half_...`."""

    def correlate(
        width: int, a: Array, a_at: int, b: Array, b_at: int, offsets: Array, count: int, out: Array, at: int, ld: int
    ) -> None:
        packed = a[a_at : a_at + count * ROWS].reshape(count, ROWS)
        rows = np.stack([b[b_at + place : b_at + place + width] for place in offsets[:count]])
        _view(out, at, ROWS, width, ld)[...] = packed.T @ rows

    def gram(
        width: int, a: Array, a_at: int, offsets: Array, a_step: int, b: Array, b_at: int, ldb: int, count: int,
        out: Array, at: int, ld: int,
    ) -> None:  # fmt: skip
        numbers = a if a.ndim == 1 else _memory(a)
        rows = np.stack([numbers[a_at + place :][: count * a_step : a_step] for place in offsets[:ROWS]])
        _view(out, at, ROWS, width, ld)[...] += rows @ _view(b, b_at, count, width, ldb)

    def transpose_tile(source: Array, source_at: int, ld: int, out: Array, at: int, places: Array) -> None:
        source = source if source.ndim == 1 else _memory(source)
        for place, column in zip(places[:LANES], _view(source, source_at, LANES, LANES, ld).T):
            out[at + place : at + place + LANES] = column

    def every_second(source: Array, source_at: int, out: Array, at: int) -> None:
        out[at : at + LANES] = source[source_at::2][:LANES]

    def numbers_at(address: int, count: int) -> Array:
        return np.ctypeslib.as_array((ctypes.c_float * int(count)).from_address(int(address)))

    made: dict[str, Call] = {"transpose_tile": transpose_tile, "every_second": every_second, "numbers_at": numbers_at}
    for name, function in (("correlate_tile", correlate), ("gram_tile", gram)):
        made[name] = functools.partial(function, 2 * LANES)
        made[f"half_{name}"] = functools.partial(function, LANES)
    return made


def _memory(x: Array) -> Array:
    """All numbers from the first of `x` to its last, whatever its strides."""
    size = 1 + sum((n - 1) * step // x.itemsize for n, step in zip(x.shape, x.strides))
    return np.lib.stride_tricks.as_strided(x, (size,), (x.itemsize,))


def _view(x: Array, at: int, rows: int, columns: int, ld: int) -> Array:
    """Rows that begin `ld` elements apart in the memory of `x`."""
    x = x if x.ndim == 1 else _memory(x)
    return np.lib.stride_tricks.as_strided(x[at:], (rows, columns), (ld * x.itemsize, x.itemsize))


@functools.cache
def compiled_tiles() -> dict[str, Call]:
    """The tiles for functions that Numba compiles, by name. Needs Numba."""
    from llvmlite import ir  # type: ignore[import-not-found,import-untyped,unused-ignore]
    from numba.core import cgutils, types  # type: ignore[import-not-found,import-untyped,unused-ignore]
    from numba.extending import intrinsic  # type: ignore[import-not-found,import-untyped,unused-ignore]
    from numba.np import arrayobj  # type: ignore[import-not-found,import-untyped,unused-ignore]

    number, whole, lane = ir.FloatType(), ir.IntType(64), ir.IntType(32)
    vector, undefined = ir.VectorType(number, LANES), ir.Constant(ir.VectorType(number, LANES), ir.Undefined)
    first_everywhere = ir.Constant(ir.VectorType(lane, LANES), [0] * LANES)
    loose: Any = cgutils  # Numba has type hints, but not on these
    loose_arrays: Any = arrayobj
    make_array: Any = arrayobj.make_array

    def as_function(emit: Call) -> Call:
        """`emit(builder, *values)` as a function for compiled code: arrays become addresses, numbers 64 bits."""

        def typed(_: Any, *kinds: Any) -> Any:
            given = [k if isinstance(k, types.Array) else types.int64 for k in kinds]

            def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
                pairs = zip(signature.args, values)
                found = [make_array(k)(context, builder, v).data if isinstance(k, types.Array) else v for k, v in pairs]
                emit(builder, *found)
                return context.get_dummy_value()

            return types.void(*given), generate

        typed.__signature__ = inspect.signature(emit)  # type: ignore[attr-defined]  # Numba needs names
        return intrinsic(typed)  # type: ignore[no-any-return,unused-ignore]

    def element(b: Any, array: Any, *terms: Any) -> Any:
        """The address of an element at the sum of `terms`."""
        for term in terms:
            array = b.gep(array, [term if isinstance(term, ir.Value) else whole(term)])
        return array

    def load(b: Any, array: Any, *terms: Any) -> Any:
        found = b.load(b.bitcast(element(b, array, *terms), vector.as_pointer()))
        found.align = 4
        return found

    def store(b: Any, value: Any, array: Any, *terms: Any) -> None:
        b.store(value, b.bitcast(element(b, array, *terms), vector.as_pointer())).align = 4

    def everywhere(b: Any, value: Any) -> Any:
        return b.shuffle_vector(b.insert_element(undefined, value, lane(0)), undefined, first_everywhere)

    def accumulate(b: Any, count: Any, start: Any, column_of: Call, row_of: Call) -> list[list[Any]]:
        """`start` plus the sum over k < count of column k times row k: one multiplication and addition a step."""
        kind = ir.FunctionType(vector, [vector] * 3)
        fused = loose.get_or_insert_function(b.module, kind, f"llvm.fmuladd.v{LANES}f32")
        before, body, after = b.block, b.append_basic_block("step"), b.append_basic_block("done")
        b.cbranch(b.icmp_signed("<", whole(0), count), body, after)
        b.position_at_end(body)
        k = b.phi(whole)
        sums = [[b.phi(vector) for _ in row] for row in start]
        row = row_of(k)
        columns = [everywhere(b, value) for value in column_of(k)]
        added = [[b.call(fused, [a, x, total]) for x, total in zip(row, totals)] for a, totals in zip(columns, sums)]
        following = b.add(k, whole(1))
        b.cbranch(b.icmp_signed("<", following, count), body, after)
        k.add_incoming(whole(0), before)
        k.add_incoming(following, body)
        b.position_at_end(after)
        results = [[b.phi(vector) for _ in row] for row in start]
        for r, totals in enumerate(sums):
            for v, total in enumerate(totals):
                total.add_incoming(start[r][v], before)
                total.add_incoming(added[r][v], body)
                results[r][v].add_incoming(start[r][v], before)
                results[r][v].add_incoming(added[r][v], body)
        return results

    def write(b: Any, results: list[list[Any]], out: Any, at: Any, ld: Any) -> None:
        for r, row in enumerate(results):
            for v, value in enumerate(row):
                store(b, value, out, at, b.mul(ld, whole(r)), v * LANES)

    def correlate(vectors: int) -> Call:
        def emit(
            b: Any, a: Any, a_at: Any, rows: Any, rows_at: Any, offsets: Any, count: Any, out: Any, at: Any, ld: Any
        ) -> None:
            packed, rows = element(b, a, a_at), element(b, rows, rows_at)

            def column(k: Any) -> list[Any]:
                return [b.load(element(b, packed, b.mul(k, whole(ROWS)), r)) for r in range(ROWS)]

            def row(k: Any) -> list[Any]:
                place = b.load(element(b, offsets, k))
                return [load(b, rows, place, v * LANES) for v in range(vectors)]

            zeros = [[ir.Constant(vector, [0.0] * LANES)] * vectors] * ROWS
            write(b, accumulate(b, count, zeros, column, row), out, at, ld)

        return emit

    def gram(vectors: int) -> Call:
        def emit(
            b: Any, a: Any, a_at: Any, offsets: Any, a_step: Any, rows: Any, rows_at: Any, ldb: Any, count: Any,
            out: Any, at: Any, ld: Any,
        ) -> None:  # fmt: skip
            begins = [element(b, a, a_at, b.load(element(b, offsets, r))) for r in range(ROWS)]
            rows = element(b, rows, rows_at)
            start = [[load(b, out, at, b.mul(ld, whole(r)), v * LANES) for v in range(vectors)] for r in range(ROWS)]

            def column(k: Any) -> list[Any]:
                return [b.load(element(b, begin, b.mul(k, a_step))) for begin in begins]

            def row(k: Any) -> list[Any]:
                return [load(b, rows, b.mul(k, ldb), v * LANES) for v in range(vectors)]

            write(b, accumulate(b, count, start, column, row), out, at, ld)

        return emit

    def transpose_tile(b: Any, source: Any, source_at: Any, ld: Any, out: Any, at: Any, places: Any) -> None:
        x = [load(b, source, source_at, b.mul(ld, whole(r))) for r in range(LANES)]
        half = 1
        while half < LANES:  # exchange the off-diagonal halves of blocks of 2, 4, 8 ... rows and columns
            upper = [j if not j & half else LANES + j - half for j in range(LANES)]
            lower = [j + half if not j & half else LANES + j for j in range(LANES)]
            masks = [ir.Constant(ir.VectorType(lane, LANES), mask) for mask in (upper, lower)]
            for i in range(LANES):
                if not i & half:
                    pair = x[i], x[i + half]
                    x[i], x[i + half] = (b.shuffle_vector(*pair, mask) for mask in masks)
            half *= 2
        for r, row in enumerate(x):
            store(b, row, out, at, b.load(element(b, places, r)))

    def every_second(b: Any, source: Any, source_at: Any, out: Any, at: Any) -> None:
        pair = load(b, source, source_at), load(b, source, source_at, LANES - 1)  # and nothing beyond the last
        places = [*range(0, LANES, 2), *range(LANES + 1, 2 * LANES, 2)]
        store(b, b.shuffle_vector(*pair, ir.Constant(ir.VectorType(lane, LANES), places)), out, at)

    @intrinsic  # type: ignore[untyped-decorator,unused-ignore]
    def numbers_at(typing: Any, address: Any, count: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            array = make_array(signature.return_type)(context, builder)
            size, data = whole(4), builder.inttoptr(values[0], array.data.type)
            loose_arrays.populate_array(array, data, [values[1]], [size], size, None)
            return array._getvalue()

        make: Any = types.Array
        return make(types.float32, 1, "C")(types.int64, types.int64), generate

    return {
        "numbers_at": numbers_at,
        "correlate_tile": as_function(correlate(2)),
        "half_correlate_tile": as_function(correlate(1)),
        "gram_tile": as_function(gram(2)),
        "half_gram_tile": as_function(gram(1)),
        "transpose_tile": as_function(transpose_tile),
        "every_second": as_function(every_second),
    }
