"""Module 15, quantization: weights as integers that stay integers in memory, and the products with them.

An int8 weight keeps one scale an output row (per channel); an int4 weight keeps a scale and a zero point for each group
of inputs of a row, and stores two numbers to a byte. NumPy has no fast product of int8, so products run through
float32 BLAS, where they are exact as long as every sum stays below 2^24: 127 * 127 * 1040 does, so longer rows are
multiplied in pieces and the pieces added up as int32.
"""

from __future__ import annotations

import math
import operator
from typing import Any, NamedTuple

import numpy as np

from tt_core.engine.dispatch import Array, op
from tt_core.engine.threads import on_each_core
from tt_core.kernels.products import product
from tt_learn.autograd import gradient
from tt_perf.quantization.affine import choose_qparams, dequantize_affine, no_gradient, quantize_affine, refusing

BLOCK = 1 << 18
"""Weights that are converted to floats at a time, a megabyte, so that the product finds them in the cache."""


class Packed(NamedTuple):
    """A weight as it is stored: integers (out, ...), scales, and zero points where the range is not symmetric."""

    codes: Array
    scale: Array
    zero_point: Array | None = None

    @property
    def nbytes(self) -> int:
        """Bytes of all parts."""
        return sum(part.nbytes for part in self if part is not None)


# --- int8: one scale for each output row
# A row is one neuron. Its largest weight sets its scale, so a neuron of small weights keeps its precision.


def pack_int8(weight: Array) -> Packed:
    """A weight (out, ...) as int8 from -127 to 127 and scales (out,); raises `QuantizationError` for inf and nan.

    >>> pack_int8(np.array([[0.5, -1.0], [100.0, 0.0]], np.float32)).codes
    array([[  64, -127],
           [ 127,    0]], dtype=int8)
    """
    rows = weight.reshape(len(weight), math.prod(weight.shape[1:]))
    low, high = rows.min(1, initial=0), rows.max(1, initial=0)
    scale, zero_point = choose_qparams(low, high, -127, 127, symmetric=True)
    codes = quantize_affine.kernel(rows, scale[:, None], zero_point[:, None], quant_min=-127, quant_max=127)
    return Packed(codes.reshape(weight.shape), scale)


def unpack_int8(codes: Array, scale: Array) -> Array:
    """The weight (out, ...) in float32."""
    wide = codes.astype(np.float32)
    # scale (out,) -> (out, 1, ...)
    wide *= scale.reshape(-1, *[1] * (codes.ndim - 1))
    return wide


# --- int4: a scale and a zero point for each group of a row, two numbers to a byte
# 16 values are few for a whole row: one outlier would leave two or three of them to all others. With a scale for each
# group, it spoils its own group alone, at the price of 5 bytes a group.


def pack_int4(weight: Array, group_size: int) -> Packed:
    """A weight (out, in) as bytes (out, in / 2 rounded up to whole groups), scales and zero points (out, groups).

    The even columns are in the lower half of a byte. Raises `QuantizationError` for inf and nan.

    >>> packed = pack_int4(np.array([[0.0, 1.0, 15.0, 7.0]], np.float32), group_size=4)
    >>> [hex(byte) for byte in packed.codes[0]], packed.scale
    (['0x10', '0x7f'], array([[1.]], dtype=float32))
    """
    out, inputs = weight.shape
    groups = -(-inputs // group_size)
    padded = np.zeros((out, groups * group_size), np.float32)
    padded[:, :inputs] = weight
    parts = padded.reshape(out, groups, group_size)  # (out, inputs) -> (out, groups, group_size)
    scale, zero_point = choose_qparams(parts.min(2), parts.max(2), 0, 15)
    how: dict[str, Any] = {"quant_min": 0, "quant_max": 15, "dtype": "uint8"}
    # scale (out, groups) -> (out, groups, 1), the same for all inputs of a group
    q = quantize_affine.kernel(parts, scale[:, :, None], zero_point[:, :, None], **how).reshape(padded.shape)
    return Packed(pack_nibbles(q), scale, zero_point.astype(np.uint8))


def pack_nibbles(q: Array) -> Array:
    """Integers from 0 to 15 (rows, n), n even, as bytes (rows, n / 2): even columns in the lower half of a byte.

    >>> pack_nibbles(np.array([[1, 2, 15, 0]], np.uint8))
    array([[33, 15]], dtype=uint8)
    """
    return np.asarray(q[:, ::2] | q[:, 1::2] << 4)


def unpack_nibbles(codes: Array) -> Array:
    """The integers (rows, n) of bytes (rows, n / 2) that `pack_nibbles` made.

    >>> unpack_nibbles(np.array([[33, 15]], np.uint8))
    array([[ 1,  2, 15,  0]], dtype=uint8)
    """
    q = np.empty((*codes.shape, 2), np.uint8)
    np.bitwise_and(codes, 15, out=q[..., 0])
    np.right_shift(codes, 4, out=q[..., 1])
    return q.reshape(len(codes), 2 * codes.shape[1])


def unpack_int4(codes: Array, scale: Array, zero_point: Array, inputs: int) -> Array:
    """The weight (out, inputs) in float32.

    >>> unpack_int4(*pack_int4(np.array([[0.0, 1.0, 15.0]], np.float32), 4), inputs=3)
    array([[ 0.,  1., 15.]], dtype=float32)
    """
    groups = scale.shape[1]
    # (out, bytes) -> (out, 2 bytes) -> (out, groups, group_size)
    values = unpack_nibbles(codes).reshape(len(codes), groups, 2 * codes.shape[1] // groups if groups else 0)
    weight = dequantize_affine.kernel(values, scale[:, :, None], zero_point[:, :, None])
    return weight.reshape(len(codes), 2 * codes.shape[1])[:, :inputs]


def _unpacked(codes: Array, scale: Array, zero_point: Array | None, inputs: int) -> Array:
    return unpack_int8(codes, scale) if zero_point is None else unpack_int4(codes, scale, zero_point, inputs)


# --- products of floats with a stored weight


@op
def quantized_linear(
    x: Array, codes: Array, scale: Array, zero_point: Array | None = None, bias: Array | None = None, /
) -> Array:
    """`x @ weight.T + bias` for a stored weight; x (..., in) gives (..., out).

    One block of the weight at a time is converted to floats, in the cache, so that memory is read as integers only.
    Raises `ShapeError` where the rows of `x` do not fit.

    >>> quantized_linear(np.ones((1, 2), np.float32), *pack_int8(np.array([[1.0, 1.0], [0.0, 3.0]], np.float32)))
    tensor([[2., 3.]])
    """
    inputs = x.shape[-1] if x.ndim else 0
    check_inputs(inputs, codes, zero_point)
    # (..., in) -> (rows, in); float16 sums overflow above 65504
    rows = x.reshape(math.prod(x.shape[:-1]), inputs).astype(np.result_type(x, np.float32), copy=False)
    out = np.empty((len(rows), len(codes)), rows.dtype)
    step = max(1, BLOCK // max(1, inputs))

    def multiply(part: slice) -> None:
        for start in range(part.start, part.stop, step):
            some = slice(start, min(start + step, part.stop))
            if zero_point is None:  # the scale of a row is the scale of its results, which are fewer
                # (rows, in) @ (in, some) -> (rows, some)
                np.matmul(rows, codes[some].astype(rows.dtype).T, out=out[:, some])
                out[:, some] *= scale[some]
            else:
                out[:, some] = rows @ unpack_int4(codes[some], scale[some], zero_point[some], inputs).T

    on_each_core(multiply, len(codes), codes.nbytes * 4)
    if bias is not None:
        out = out + bias
    return out.reshape(*x.shape[:-1], len(codes))


def check_inputs(inputs: int, codes: Array, zero_point: Array | None) -> None:
    """Raise `ValueError` where rows of `inputs` numbers do not fit a stored weight; int4 rounds up to whole groups."""
    held = least = codes.shape[1]
    if zero_point is not None and held:
        held *= 2
        least = held - held // zero_point.shape[1] + 1
    if not least <= inputs <= held:
        raise ValueError(f"input has {inputs} features, weight expects {held}")


@op
def quantized_linear_input(
    g: Array, codes: Array, scale: Array, zero_point: Array | None = None, /, inputs: int = 0
) -> Array:
    """Gradient of `quantized_linear` for its input: `g @ weight`, (..., out) gives (..., inputs)."""
    # (..., out) @ (out, inputs) -> (..., inputs)
    weight = _unpacked(codes, scale, zero_point, operator.index(inputs)).astype(g.dtype, copy=False)
    return product(g, weight)


@gradient(quantized_linear)
def _(out: Any, x: Any, codes: Any, scale: Any, zero_point: Any, bias: Any) -> Any:
    inputs = x.shape[-1]
    for_scale = no_gradient("quantized_linear")
    for_bias = None if bias is None else lambda g: g.reshape(-1, g.shape[-1]).sum(0)
    return (
        lambda g: quantized_linear_input(g, codes, scale, zero_point, inputs=inputs),
        None,
        for_scale,
        None,
        for_bias,
    )


@gradient(quantized_linear_input)
def _(out: Any, g: Any, codes: Any, scale: Any, zero_point: Any, inputs: int) -> Any:
    return lambda gg: quantized_linear(gg, codes, scale, zero_point), None, no_gradient("quantized_linear"), None


@op
def quantized_embedding(
    ids: Array, codes: Array, scale: Array, zero_point: Array | None = None, /, dim: int = 0
) -> Array:
    """Rows `ids` (...) of a stored table, as float32 (..., dim); only these rows are converted.

    Raises `DTypeError` for ids that are not integers, `OutOfRangeError` for ids outside the table.

    >>> quantized_embedding(np.array([1]), *pack_int8(np.array([[1.0, 1.0], [0.0, 3.0]], np.float32)))
    tensor([[0., 3.]])
    """
    if ids.dtype.kind not in "iu":
        raise TypeError(f"ids are whole numbers, got {ids.dtype}")
    if ids.size and (ids.min() < 0 or ids.max() >= len(codes)):
        wrong = ids[(ids < 0) | (ids >= len(codes))].flat[0]
        raise IndexError(f"id {wrong} is outside the table, which has {len(codes)} entries (0 to {len(codes) - 1})")
    if operator.index(dim) > codes.shape[1] * (1 if zero_point is None else 2):
        raise ValueError(f"dim is {dim}, the table has rows of {codes.shape[1]} bytes")
    flat = ids.reshape(-1)
    rows = _unpacked(codes[flat], scale[flat], None if zero_point is None else zero_point[flat], dim)
    return rows.reshape(*ids.shape, rows.shape[-1])


gradient(quantized_embedding, refusing("quantized_embedding"))


# --- products of integers


def exact_length(a: int, b: int) -> int:
    """How many products of integers up to `a` and `b` float32 adds up exactly, in any order: 2^24 / (a b), at least 1.

    >>> exact_length(127, 127), exact_length(128, 128)
    (1040, 1024)
    """
    return max(1, (1 << 24) // max(1, a * b))


def largest(x: Array) -> int:
    """The largest absolute value among integers, 0 where there are none; as Python's int, since int8 has no 128."""
    return max(-int(x.min()), int(x.max())) if x.size else 0


def sum_dtype(a: int, b: int, length: int) -> Any:
    """The integer dtype that holds a sum of `length` products of integers up to `a` and `b`."""
    return np.int32 if a * b * length < 1 << 31 else np.int64


@op
def integer_product(a: Array, b: Array, /) -> Array:
    """`a @ b.T` of integers of 8 or 16 bits, exact: (n, K) and (m, K) give (n, m) as int32, or int64 for larger sums.

    Raises `ShapeError` for rows of different length, `DTypeError` for wider integers and for floats.

    >>> integer_product(np.full((1, 2000), -128, np.int8), np.full((1, 2000), -128, np.int8))
    tensor([[32768000]], dtype=int32)
    """
    check_integers(a, b)
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1]:
        raise ValueError(f"rows of both are of one length, got {a.shape} and {b.shape}")
    most = largest(a), largest(b)
    length, piece = a.shape[1], exact_length(*most)
    total = np.zeros((len(a), len(b)), sum_dtype(*most, length))
    for start in range(0, length, piece):
        some = slice(start, start + piece)
        floats = a[:, some].astype(np.float32), b[:, some].astype(np.float32).T
        total += product(*floats).astype(total.dtype)
    return total


def check_integers(*arrays: Array) -> None:
    """Raise `TypeError` unless all are integers of at most 16 bits."""
    for x in arrays:
        if x.dtype.kind not in "iu" or x.dtype.itemsize > 2:
            raise TypeError(f"takes integers of 8 or 16 bits, got {x.dtype}")


gradient(integer_product, refusing("integer_product"))
