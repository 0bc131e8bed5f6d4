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
def _int32_at(context: Any, address: Any) -> Any:
    return types.CPointer(types.int32)(types.int64), _to_pointer


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
def int32_at(address: int, count: int) -> Any:
    """The same for int32."""
    return numba.carray(_int32_at(address), (count,))


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
LANES = WIDTH // 4
"""Numbers of 32 bits in a vector."""
AHEAD = 6144
"""Bytes that a product asks memory for ahead of what it reads: 1.3 to 1.7 times as fast on arrays in pages of 4 KB, at
whose ends the processor's own prefetching stops."""
PIECES = 3
"""Digits to base 256 of a rounded number."""
ROWS = 4
"""Rows of a weight that are multiplied at a time."""
STREAMS = 12 if WIDTH == 64 else 6
"""Digits of vectors that are multiplied with 2 LANES rows at a time: their sums fill the registers."""


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
        self.bytes, self.sums = ir.VectorType(self.byte, WIDTH), ir.VectorType(self.int32, LANES)
        self.floats = ir.VectorType(self.float, LANES)

    def number(self, value: int) -> Any:
        return ir.Constant(ir.IntType(64), value)

    def load(self, base: Any, offset: Any, kind: Any, mask: Any = None) -> Any:
        """The vector at an address; with a mask of 4-byte lanes, zeros in the lanes that it leaves out."""
        address = self.builder.add(base, offset)
        if mask is None:
            pointer = self.builder.inttoptr(address, kind.as_pointer())
            return self.builder.load(pointer, align=1 if kind is self.bytes else 4)
        lanes = self.sums if kind is self.bytes else kind
        pointer = self.builder.inttoptr(address, lanes.as_pointer())  # LLVM 15 wants the pointer's type to fit
        suffix = f"v{lanes.count}{'i32' if lanes is self.sums else 'f32'}.p0"
        signature = ir.FunctionType(lanes, [pointer.type, self.int32, mask.type, lanes])
        function = cgutils.get_or_insert_function(self.builder.module, signature, f"llvm.masked.load.{suffix}")
        found = self.builder.call(function, [pointer, self.int32(1), mask, ir.Constant(lanes, None)])
        return self.builder.bitcast(found, kind) if lanes is not kind else found

    def first_lanes(self, count: Any, lanes: int) -> Any:
        """A mask of the first `count` of `lanes` lanes."""
        kind = ir.VectorType(self.int32, lanes)
        count = self.builder.trunc(count, self.int32)
        one = self.builder.insert_element(ir.Constant(kind, ir.Undefined), count, self.int32(0))
        every = self.builder.shuffle_vector(one, one, ir.Constant(kind, [0] * lanes))
        return self.builder.icmp_unsigned("<", ir.Constant(kind, list(range(lanes))), every)

    def each_block(self, columns: Any, body: Callable[[Any, Any], None]) -> None:
        """`body(offset, None)` for each vector of `columns` bytes, and `body(offset, mask)` for the rest of them."""
        width = self.number(WIDTH)
        with cgutils.for_range(self.builder, self.builder.udiv(columns, width)) as loop:
            body(self.builder.mul(loop.index, width), None)
        rest = self.builder.urem(columns, width)
        with self.builder.if_then(self.builder.icmp_unsigned("!=", rest, self.number(0)), likely=False):
            mask = self.first_lanes(self.builder.udiv(rest, self.number(4)), LANES)
            body(self.builder.sub(columns, rest), mask)

    def ahead(self, stride: Any) -> Any:
        """Bytes of so many groups of ROWS rows that they are AHEAD or more; not whole groups bring less."""
        group = self.builder.mul(stride, self.number(ROWS))
        groups = self.builder.udiv(self.builder.add(group, self.number(AHEAD - 1)), group)
        return self.builder.mul(groups, group)

    def fetch(self, base: Any, offset: Any, ahead: Any) -> None:
        """Asks for what is ahead of a place, whose rows come next, to be brought to the cache."""
        _fetch(self.builder, self.builder.add(self.builder.add(base, offset), ahead))

    def store(self, value: Any, address: Any) -> None:
        self.builder.store(value, self.builder.inttoptr(address, value.type.as_pointer()), align=4)

    def splat(self, kind: Any, value: float) -> Any:
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

    def totals(self, vectors: list[Any], add: Callable[[Any, Any], Any]) -> Any:
        """The sum of the lanes of each of ROWS vectors, in the lanes of one: neighbours are added until ROWS are left.

        So the vectors share their shuffles and additions: 15 instructions in place of 32 for vectors of 16 lanes.
        """
        while len(vectors) > 1:
            vectors = [self._neighbours(*pair, add) for pair in zip(vectors[::2], vectors[1::2])]
        (found,) = vectors
        while found.type.count > ROWS:
            found = self._neighbours(found, found, add, found.type.count // 2)
        return found

    def fused(self, a: Any, b: Any, c: Any) -> Any:
        """`a * b + c` of floats, rounded once."""
        kind = ir.FunctionType(self.floats, [self.floats] * 3)
        return self.builder.call(
            cgutils.get_or_insert_function(self.builder.module, kind, f"llvm.fma.v{LANES}f32"), [a, b, c]
        )

    def everywhere(self, value: Any) -> Any:
        """A number of 32 bits in all lanes."""
        one = self.builder.insert_element(ir.Constant(self.sums, ir.Undefined), value, self.int32(0))
        return self.builder.shuffle_vector(one, one, self.splat(self.sums, 0))

    def transposed(self, rows: list[Any]) -> list[Any]:
        """The columns of LANES vectors of as many lanes, by exchanging quarters of blocks of 2, 4, 8 ... lanes."""
        rows, half = list(rows), 1
        while half < LANES:
            upper = [lane if not lane & half else LANES + lane - half for lane in range(LANES)]
            lower = [lane + half if not lane & half else LANES + lane for lane in range(LANES)]
            for i in range(LANES):
                if not i & half:
                    pair = rows[i], rows[i + half]
                    for place, order in zip((i, i + half), (upper, lower)):
                        rows[place] = self.builder.shuffle_vector(*pair, ir.Constant(self.sums, order))
            half *= 2
        return rows

    def _neighbours(self, a: Any, b: Any, add: Callable[[Any, Any], Any], count: int = 0) -> Any:
        """Each lane of a and b plus the one beside it; `count` lanes of them."""
        count = count or a.type.count
        order = [ir.Constant(ir.VectorType(self.int32, count), list(range(i, 2 * count, 2))) for i in (0, 1)]
        return add(*(self.builder.shuffle_vector(a, b, each) for each in order))

    def rows(self, base: Any, stride: Any, rows: Any, count: int = ROWS) -> list[Any]:
        """The addresses of `count` rows, of which those from `rows` on are the last one again."""
        last = self.builder.sub(rows, self.number(1))
        found = []
        for row in range(count):
            there = self.builder.icmp_unsigned("<", self.number(row), rows)
            row = self.builder.select(there, self.number(row), last)
            found.append(self.builder.add(base, self.builder.mul(stride, row)))
        return found


@_intrinsic
def dot_int8(
    context: Any, weights: Any, stride: Any, rows: Any, digits: Any, plane: Any, columns: Any, out: Any
) -> Any:
    """Writes `sum((codes + 128) * number)` for ROWS rows of int8 codes to int64 `out`; from `rows` on, the last again.

    A number is PIECES int8 digits. Rows are `stride` bytes apart, planes of digits `plane`; `columns`, a multiple of 4,
    are multiplied.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        if not WIDTH:  # compiled, but never called
            return context.get_dummy_value()
        weights, stride, rows, digits, plane, columns, out = arguments
        v = _Vectors(builder)
        number = v.number
        found = [[v.variable(v.sums) for _ in range(PIECES)] for _ in range(ROWS)]
        bases, ahead = v.rows(weights, stride, rows), v.ahead(stride)
        planes = [builder.add(digits, builder.mul(plane, number(piece))) for piece in range(PIECES)]

        def block(offset: Any, mask: Any) -> None:
            x = [v.load(base, offset, v.bytes, mask) for base in planes]
            for row in range(ROWS):
                v.fetch(bases[row], offset, ahead)
                w = builder.xor(v.load(bases[row], offset, v.bytes, mask), v.splat(v.bytes, -128))
                for piece in range(PIECES):
                    builder.store(v.dot(builder.load(found[row][piece]), w, x[piece]), found[row][piece])

        v.each_block(columns, block)
        wide = ir.VectorType(ir.IntType(64), ROWS)
        total = v.splat(wide, 0)
        for piece in reversed(range(PIECES)):
            digit = v.totals([builder.load(row[piece]) for row in found], builder.add)
            total = builder.add(builder.shl(total, v.splat(wide, 8)), builder.sext(digit, wide))
        v.store(total, out)
        return context.get_dummy_value()

    return types.void(*[types.int64] * 7), generate


def _dot_int4(parts: int) -> Any:
    """`dot_int4` for vectors of 2 WIDTH columns with `parts` scales each."""

    def dot_int4(
        context: Any,
        weights: Any,
        stride: Any,
        rows: Any,
        digits: Any,
        scales: Any,
        groups: Any,
        shift: Any,
        out: Any,
    ) -> Any:
        """Writes `sum(code * number * scale of its group)` for ROWS rows of int4 codes to float32 `out`; from `rows`
        on, the last again.

        Each vector of WIDTH bytes has 2 WIDTH columns, the even ones in the lower halves. `digits` are PIECES planes of
        even columns, then as many of odd ones, `stride` bytes each, as the rows have. A row has `groups` scales, one
        for 2**shift columns; where a vector has several, each belongs to as many lanes that follow each other.
        """

        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            if not WIDTH:  # compiled, but never called
                return context.get_dummy_value()
            weights, stride, rows, digits, scales, groups, shift, out = arguments
            v = _Vectors(builder)
            number = v.number
            found = [v.variable(v.floats) for _ in range(ROWS)]
            bases, ahead = v.rows(weights, stride, rows), v.ahead(stride)
            scaling = v.rows(scales, builder.mul(groups, number(4)), rows)
            planes = [builder.add(digits, builder.mul(stride, number(piece))) for piece in range(2 * PIECES)]
            order = ir.Constant(v.sums, [lane * parts // LANES for lane in range(LANES)])
            some = ir.VectorType(v.float, parts)

            def block(offset: Any, mask: Any) -> None:
                x = [v.load(base, offset, v.bytes, mask) for base in planes]
                group = builder.lshr(builder.shl(offset, number(1)), shift)
                place = builder.shl(group, number(2))
                present = None if mask is None else v.first_lanes(builder.sub(groups, group), parts)
                for row in range(ROWS):
                    v.fetch(bases[row], offset, ahead)
                    w = v.load(bases[row], offset, v.bytes, mask)
                    low, high = builder.and_(w, v.splat(v.bytes, 15)), builder.lshr(w, v.splat(v.bytes, 4))
                    whole = v.splat(v.sums, 0)
                    for piece in reversed(range(PIECES)):  # the highest digit first: ((d2 * 256) + d1) * 256 + d0
                        whole = builder.shl(whole, v.splat(v.sums, 8))
                        whole = v.dot(v.dot(whole, low, x[piece]), high, x[PIECES + piece])
                    scale = v.load(scaling[row], place, some, present)
                    scale = builder.shuffle_vector(scale, scale, order)
                    product = builder.fmul(builder.sitofp(whole, v.floats), scale)
                    builder.store(builder.fadd(builder.load(found[row]), product), found[row])

            v.each_block(stride, block)
            v.store(v.totals([builder.load(row) for row in found], builder.fadd), out)
            return context.get_dummy_value()

        return types.void(*[types.int64] * 8), generate

    return _intrinsic(dot_int4)


dot_int4_1, dot_int4_2, dot_int4_4 = _dot_int4(1), _dot_int4(2), _dot_int4(4)
"""By the number of scales that belong to a vector: groups of 128 columns or more, of 64 and of 32 for 64 bytes."""


# --- several vectors (`several.py`)


def _pack(bits: int) -> Any:
    """`pack_int8` or `pack_int4`."""

    def pack(context: Any, weights: Any, stride: Any, rows: Any, out: Any) -> Any:
        """Writes WIDTH bytes of LANES rows as vectors of 4 bytes of each row, 2 WIDTH bytes from one to the next; from
        `rows` on, the last row again. int8 becomes code + 128; int4 becomes a vector of the lower and one of the higher
        halves.
        """

        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            if not WIDTH:  # compiled, but never called
                return context.get_dummy_value()
            weights, stride, rows, out = arguments
            v = _Vectors(builder)
            bases = v.rows(weights, stride, rows, LANES)
            following = builder.mul(stride, v.number(2 * LANES))
            for base in bases:
                v.fetch(base, v.number(0), following)
            loaded = [builder.bitcast(v.load(base, v.number(0), v.bytes), v.sums) for base in bases]
            vectors = [builder.bitcast(x, v.bytes) for x in v.transposed(loaded)]
            if bits == 8:
                vectors = [builder.xor(x, v.splat(v.bytes, -128)) for x in vectors]
            else:
                four, fifteen = v.splat(v.bytes, 4), v.splat(v.bytes, 15)
                vectors = [part for x in vectors for part in (builder.and_(x, fifteen), builder.lshr(x, four))]
            for place, x in enumerate(vectors):
                v.store(x, builder.add(out, v.number(place * 2 * WIDTH)))
            return context.get_dummy_value()

        return types.void(*[types.int64] * 4), generate

    return _intrinsic(pack)


pack_int8, pack_int4 = _pack(8), _pack(4)


def _dot_streams(count: int) -> Any:
    """`dot_streams` for a number of streams."""

    def dot_streams(context: Any, weights: Any, streams: Any, steps: Any, out: Any) -> Any:
        """Writes sums of products as int32 (count, 2 LANES): a row for a stream, a column for a row of the weight.

        `weights`: for each of `steps`, two vectors of 4 unsigned bytes for LANES rows each, as `pack` writes them.
        `streams`: for each of the steps, 4 signed bytes of each stream.
        """

        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            if not WIDTH:  # compiled, but never called
                return context.get_dummy_value()
            weights, streams, steps, out = arguments
            v = _Vectors(builder)
            sums = _tile(v, weights, streams, steps, count)
            for place, total in enumerate(total for pair in sums for total in pair):
                v.store(total, builder.add(out, v.number(place * WIDTH)))
            return context.get_dummy_value()

        return types.void(*[types.int64] * 4), generate

    return _intrinsic(dot_streams)


def _tile(v: _Vectors, weights: Any, streams: Any, steps: Any, count: int) -> list[list[Any]]:
    """The sums of `dot_streams`, two vectors for each stream, in registers."""
    builder = v.builder
    found = [[v.variable(v.sums) for _ in range(2)] for _ in range(count)]
    for place in (place for pair in found for place in pair):
        builder.store(ir.Constant(v.sums, None), place)
    with cgutils.for_range(builder, steps) as loop:
        base = builder.add(weights, builder.mul(loop.index, v.number(2 * WIDTH)))
        digits = builder.add(streams, builder.mul(loop.index, v.number(4 * count)))
        pair = [v.load(base, v.number(half * WIDTH), v.bytes) for half in range(2)]
        for stream, places in enumerate(found):
            address = builder.inttoptr(builder.add(digits, v.number(4 * stream)), v.int32.as_pointer())
            x = builder.bitcast(v.everywhere(builder.load(address, align=4)), v.bytes)
            for w, place in zip(pair, places):
                builder.store(v.dot(builder.load(place), w, x), place)
    return [[builder.load(place) for place in pair] for pair in found]


def _dot_group(count: int) -> Any:
    """`dot_group` for a number of streams."""

    def dot_group(
        context: Any, weights: Any, streams: Any, steps: Any, scales: Any, shifts: Any, totals: Any, out: Any
    ) -> Any:
        """Adds `sum(code * number) * scale - total * shift` for one group of columns to float32 (count / PIECES, 2
        LANES), a row for a vector. `scales`, `shifts`: one for each row of the weight. `totals`: one for each vector.
        """

        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            if not WIDTH:  # compiled, but never called
                return context.get_dummy_value()
            weights, streams, steps, scales, shifts, totals, out = arguments
            v = _Vectors(builder)
            sums = _tile(v, weights, streams, steps, count)
            byte = v.splat(v.floats, 256.0)
            for b in range(count // PIECES):
                total = v.everywhere(builder.load(_pointer(builder, totals, 4 * b, v.int32), align=4))
                for half in range(2):
                    digits = [builder.sitofp(sums[b * PIECES + piece][half], v.floats) for piece in range(PIECES)]
                    whole = digits.pop()
                    while digits:  # the highest first: ((d2 * 256) + d1) * 256 + d0
                        whole = v.fused(whole, byte, digits.pop())
                    scale, shift = (v.load(each, v.number(half * WIDTH), v.floats) for each in (scales, shifts))
                    place = v.number((2 * b + half) * WIDTH)
                    less = builder.fmul(builder.bitcast(total, v.floats), shift)
                    before = builder.fsub(v.load(out, place, v.floats), less)
                    v.store(v.fused(whole, scale, before), builder.add(out, place))
            return context.get_dummy_value()

        return types.void(*[types.int64] * 7), generate

    return _intrinsic(dot_group)


def _pointer(builder: Any, base: Any, offset: int, kind: Any) -> Any:
    return builder.inttoptr(builder.add(base, ir.Constant(ir.IntType(64), offset)), kind.as_pointer())


dot_streams, dot_streams_half = _dot_streams(STREAMS), _dot_streams(STREAMS // 2)
dot_group, dot_group_half = _dot_group(STREAMS), _dot_group(STREAMS // 2)
