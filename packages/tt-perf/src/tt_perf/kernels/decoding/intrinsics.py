"""Beside module 18, decoding: what Numba has no words for: arrays at an address, atomic counters, products of bytes.

Imports Numba, so only compiled code imports this file. Each function becomes a few instructions inside its caller.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any, TypeVar, cast

from tt_perf.kernels.atomics import compiled_atomics

numba: Any = importlib.import_module("numba")  # Any, since not all of its functions have types
llvm: Any = importlib.import_module("llvmlite.binding")
ir: Any = importlib.import_module("llvmlite.ir")
cgutils: Any = importlib.import_module("numba.core.cgutils")
types: Any = importlib.import_module("numba.core.types")
cpu_target: Any = importlib.import_module("numba.core.registry").cpu_target

Function = TypeVar("Function", bound=Callable[..., Any])


def compiled(*fastmath: str, keep: bool = False) -> Callable[[Function], Function]:
    """Compiles a function for the types that it is first called with.

    `keep` keeps it on disk where there is a folder for it. Numba does not notice when a function that it calls changes
    in another file, so this is for the outermost one, which has a number that does (`machine.py`).
    """
    options = {"nogil": True, "error_model": "numpy", "fastmath": {"contract", *fastmath}}

    def compile(function: Function) -> Function:
        try:
            return cast(Function, numba.njit(cache=keep, **options)(function))
        except RuntimeError:  # no folder can be written to
            return cast(Function, numba.njit(**options)(function))

    return compile


def _intrinsic(function: Any) -> Any:
    return importlib.import_module("numba.extending").intrinsic(function)


# --- memory


@_intrinsic
def _float32_at(context: Any, address: Any) -> Any:
    return types.CPointer(types.float32)(types.int64), _to_pointer


@_intrinsic
def _int8_at(context: Any, address: Any) -> Any:
    return types.CPointer(types.int8)(types.int64), _to_pointer


@_intrinsic
def _uint8_at(context: Any, address: Any) -> Any:
    return types.CPointer(types.uint8)(types.int64), _to_pointer


@_intrinsic
def _int64_at(context: Any, address: Any) -> Any:
    return types.CPointer(types.int64)(types.int64), _to_pointer


def _to_pointer(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
    return builder.inttoptr(arguments[0], context.get_value_type(signature.return_type))


@compiled()
def float32_at(address: int, count: int) -> Any:
    """The array of `count` numbers at an address."""
    return numba.carray(_float32_at(address), (count,))


@compiled()
def int8_at(address: int, count: int) -> Any:
    """The same for int8."""
    return numba.carray(_int8_at(address), (count,))


@compiled()
def uint8_at(address: int, count: int) -> Any:
    """The same for uint8."""
    return numba.carray(_uint8_at(address), (count,))


@compiled()
def int64_at(address: int, count: int) -> Any:
    """The same for int64."""
    return numba.carray(_int64_at(address), (count,))


# --- threads


_atomics = compiled_atomics()
atomic_add, atomic_load, call = _atomics["atomic_add"], _atomics["atomic_load"], _atomics["call"]


# --- dot products of unsigned and signed bytes (VNNI)


def _vector_bytes() -> int:
    """Bytes that one instruction of VNNI multiplies on the processor that Numba compiles for; 0 where it has none."""
    features = cpu_target.target_context.codegen().magic_tuple()[2].split(",")
    if "+avx512vnni" in features and "+avx512bw" in features:
        return 64
    return 32 if "+avxvnni" in features or {"+avx512vnni", "+avx512vl"} <= set(features) else 0


WIDTH = _vector_bytes()
"""Bytes of a vector: 64, 32, or 0 where the processor (or NUMBA_CPU_FEATURES) has no such instruction."""
_LANES = WIDTH // 4
AHEAD = 6144
"""Bytes that a product asks memory for ahead of what it reads: 1.3 to 1.7 times as fast on arrays in pages of 4 KB, at
whose ends the processor's own prefetching stops."""
PIECES = 3
"""Digits to base 256 of a rounded number."""
ROWS = 4
"""Rows of a weight that are multiplied at a time."""


@_intrinsic
def fetch(context: Any, address: Any) -> Any:
    """Asks for the 64 bytes at an address, which need not exist, to be brought to the cache."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        _fetch(builder, arguments[0])
        return context.get_dummy_value()

    return types.void(types.int64), generate


def _fetch(builder: Any, address: Any) -> None:
    pointer, number = ir.IntType(8).as_pointer(), ir.IntType(32)
    kind = ir.FunctionType(ir.VoidType(), [pointer, number, number, number])
    function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
    options = [number(0), number(3), number(1)]  # to read, keep in all caches, data
    builder.call(function, [builder.inttoptr(address, pointer), *options])


class _Vectors:
    """Builds vector instructions of LLVM."""

    def __init__(self, builder: Any) -> None:
        self.builder = builder
        self.byte, self.int32, self.float = ir.IntType(8), ir.IntType(32), ir.FloatType()
        self.bytes, self.sums = ir.VectorType(self.byte, WIDTH), ir.VectorType(self.int32, _LANES)
        self.floats = ir.VectorType(self.float, _LANES)

    def number(self, value: int) -> Any:
        return ir.Constant(ir.IntType(64), value)

    def load(self, base: Any, offset: Any, kind: Any) -> Any:
        pointer = self.builder.inttoptr(self.builder.add(base, offset), kind.as_pointer())
        return self.builder.load(pointer, align=1 if kind is self.bytes else 4)

    def ahead(self, stride: Any) -> Any:
        """Bytes of so many groups of ROWS rows that they are AHEAD or more; not whole groups bring less."""
        group = self.builder.mul(stride, self.number(ROWS))
        groups = self.builder.udiv(self.builder.add(group, self.number(AHEAD - 1)), group)
        return self.builder.mul(groups, group)

    def fetch(self, base: Any, offset: Any, ahead: Any) -> None:
        """Asks for what is ahead of a place, whose rows come next, to be brought to the cache."""
        _fetch(self.builder, self.builder.add(self.builder.add(base, offset), ahead))

    def store(self, value: Any, base: Any, offset: int) -> None:
        address = self.builder.add(base, ir.Constant(ir.IntType(64), offset))
        self.builder.store(value, self.builder.inttoptr(address, value.type.as_pointer()), align=4)

    def splat(self, kind: Any, value: int) -> Any:
        return ir.Constant(kind, [value] * kind.count)

    def variable(self, kind: Any) -> Any:
        pointer = cgutils.alloca_once(self.builder, kind)
        self.builder.store(ir.Constant(kind, None), pointer)
        return pointer

    def dot(self, sums: Any, unsigned: Any, signed: Any) -> Any:
        """`sums` plus the products of four neighbouring bytes each."""
        packed = llvm.llvm_version_info[0] < 22  # until then, bytes were given as integers of 32 bits
        operand = self.sums if packed else self.bytes
        kind = ir.FunctionType(self.sums, [self.sums, operand, operand])
        name = f"llvm.x86.avx512.vpdpbusd.{8 * WIDTH}"
        function = cgutils.get_or_insert_function(self.builder.module, kind, name)
        if packed:
            unsigned, signed = (self.builder.bitcast(x, operand) for x in (unsigned, signed))
        return self.builder.call(function, [sums, unsigned, signed])

    def total(self, sums: Any) -> Any:
        kind = ir.FunctionType(self.int32, [self.sums])
        name = f"llvm.vector.reduce.add.v{_LANES}i32"
        return self.builder.call(cgutils.get_or_insert_function(self.builder.module, kind, name), [sums])


@_intrinsic
def dot_int8(context: Any, weights: Any, stride: Any, digits: Any, plane: Any, blocks: Any, out: Any) -> Any:
    """Writes `sum((codes + 128) * digit)` for ROWS rows of int8 codes and PIECES planes of int8 digits to int32 `out`.

    Rows are `stride` bytes apart, planes `plane`; `blocks` are vectors of WIDTH bytes.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        if not WIDTH:  # compiled, but never called
            return context.get_dummy_value()
        weights, stride, digits, plane, blocks, out = arguments
        v = _Vectors(builder)
        number = v.number
        found = [[v.variable(v.sums) for _ in range(PIECES)] for _ in range(ROWS)]
        bases = [builder.add(weights, builder.mul(stride, number(row))) for row in range(ROWS)]
        ahead = v.ahead(stride)
        planes = [builder.add(digits, builder.mul(plane, number(piece))) for piece in range(PIECES)]
        with cgutils.for_range(builder, blocks) as loop:
            offset = builder.mul(loop.index, number(WIDTH))
            x = [v.load(base, offset, v.bytes) for base in planes]
            for row in range(ROWS):
                v.fetch(bases[row], offset, ahead)
                w = builder.xor(v.load(bases[row], offset, v.bytes), v.splat(v.bytes, -128))
                for piece in range(PIECES):
                    builder.store(v.dot(builder.load(found[row][piece]), w, x[piece]), found[row][piece])
        for row in range(ROWS):
            for piece in range(PIECES):
                v.store(v.total(builder.load(found[row][piece])), out, 4 * (row * PIECES + piece))
        return context.get_dummy_value()

    return types.void(*[types.int64] * 6), generate


@_intrinsic
def dot_int4(
    context: Any,
    weights: Any,
    stride: Any,
    digits: Any,
    plane: Any,
    blocks: Any,
    scales: Any,
    groups: Any,
    shift: Any,
    out: Any,
) -> Any:
    """Writes `sum(code * digits * scale of its group)` for ROWS rows of int4 codes to `out`, a vector of floats a row.

    Each vector of WIDTH bytes has 2 WIDTH columns, the even ones in the lower halves. `digits` are PIECES planes of
    even columns, then as many of odd ones, `plane` bytes each. A row has `groups` scales, one for 2**shift columns.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        if not WIDTH:  # compiled, but never called
            return context.get_dummy_value()
        weights, stride, digits, plane, blocks, scales, groups, shift, out = arguments
        v = _Vectors(builder)
        number = v.number
        found = [v.variable(v.floats) for _ in range(ROWS)]
        bases = [builder.add(weights, builder.mul(stride, number(row))) for row in range(ROWS)]
        rows = [builder.add(scales, builder.mul(groups, number(4 * row))) for row in range(ROWS)]
        ahead = v.ahead(stride)
        planes = [builder.add(digits, builder.mul(plane, number(piece))) for piece in range(2 * PIECES)]
        halves = WIDTH // 32
        with cgutils.for_range(builder, blocks) as loop:
            offset = builder.mul(loop.index, number(WIDTH))
            x = [v.load(base, offset, v.bytes) for base in planes]
            first = builder.mul(loop.index, number(2 * WIDTH))
            places = [
                builder.shl(builder.lshr(builder.add(first, number(64 * half)), shift), number(2))
                for half in range(halves)
            ]
            for row in range(ROWS):
                v.fetch(bases[row], offset, ahead)
                w = v.load(bases[row], offset, v.bytes)
                low, high = builder.and_(w, v.splat(v.bytes, 15)), builder.lshr(w, v.splat(v.bytes, 4))
                whole = v.splat(v.sums, 0)
                for piece in reversed(range(PIECES)):  # the highest digit first: ((d2 * 256) + d1) * 256 + d0
                    whole = builder.shl(whole, v.splat(v.sums, 8))
                    whole = v.dot(v.dot(whole, low, x[piece]), high, x[PIECES + piece])
                scale = ir.Constant(v.floats, ir.Undefined)
                for half, place in enumerate(places):
                    scale = builder.insert_element(scale, v.load(rows[row], place, v.float), v.int32(half))
                order = [lane * halves // _LANES for lane in range(_LANES)]
                scale = builder.shuffle_vector(scale, scale, ir.Constant(v.sums, order))
                product = builder.fmul(builder.sitofp(whole, v.floats), scale)
                builder.store(builder.fadd(builder.load(found[row]), product), found[row])
        for row in range(ROWS):
            v.store(builder.load(found[row]), out, WIDTH * row)
        return context.get_dummy_value()

    return types.void(*[types.int64] * 9), generate
