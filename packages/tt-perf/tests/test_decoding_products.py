"""Module 18: products of a vector with an integer weight are exact, by each set of instructions and by the loop."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence

import numpy as np
import pytest

from tt_perf.quantization.packed import Packed, pack_nibbles, unpack_nibbles

pytest.importorskip("numba")

from tt_perf.kernels.decoding import columns as C
from tt_perf.kernels.decoding.intrinsics import WIDTH, cpu_target
from tt_perf.kernels.decoding.products import product, round_input

WIDTHS = (1, 3, 31, 32, 33, 64, 95, 96, 127, 128, 129, 176, 192, 224, 255, 384, 1000)
ROWS = C.WIDEST + 11
LARGEST = 127 * 256 * 256
"""The largest number of an input whose step is 1."""


def multiplied(x: np.ndarray, stored: Packed, group: int, loop: bool = False, finite: bool = True) -> np.ndarray:
    """`x @ weight.T` for x (batch, inputs) by the functions of `products.py`; `loop` has it use no digits."""
    batch, inputs = x.shape
    codes, out = np.ascontiguousarray(stored.codes), np.zeros((batch, ROWS), np.float32)
    step = np.zeros(C.COLUMNS, np.int64)
    step[[C.WEIGHT, C.SCALE, C.TARGET]] = codes.ctypes.data, stored.scale.ctypes.data, out.ctypes.data
    step[[C.INPUTS, C.OUTPUTS, C.STRIDE]] = inputs, ROWS, codes.shape[1]
    step[[C.BITS, C.GROUPS]] = (4, stored.scale.shape[1]) if group else (8, 1)
    zeros = stored.zero_point
    step[C.ZERO] = 0 if zeros is None else zeros.ctypes.data
    widest = max(inputs, codes.shape[1])
    floats, digits = np.zeros(batch * widest, np.float32), np.full(C.digit_bytes(batch, widest), 77, np.int8)
    sums, steps = np.zeros(3 * batch, np.int64), np.zeros(batch, np.float32)
    floats[: x.size] = x.ravel()
    round_input(step, np.zeros(C.NUMBERS, np.float32), batch, floats, digits, sums, steps)
    if loop:
        steps[:] = 0
    elif WIDTH and finite:
        assert (steps > 0).all()  # the instructions are used
    product(step, batch, 0, C.WIDEST, floats, digits, sums, steps)
    product(step, batch, C.WIDEST, ROWS - C.WIDEST, floats, digits, sums, steps)
    return out


def stored_of(inputs: int, group: int, zero: int = 0) -> Packed:
    """A weight of random codes with scales that are powers of 2, whose first column is 0; int8 where group is 0."""
    random = np.random.default_rng(inputs)
    if not group:
        codes = random.choice(np.array([-128, -127, -1, 0, 5, 127], np.int8), (ROWS, inputs))
        codes[:, 0] = 0
        return Packed(codes, np.exp2(random.integers(-2, 3, ROWS)).astype(np.float32))
    groups = -(-inputs // group)
    q = random.integers(0, 16, (ROWS, groups * group), dtype=np.uint8)
    q[:, 0] = 0
    scale = np.exp2(random.integers(-2, 3, (ROWS, groups))).astype(np.float32)
    return Packed(pack_nibbles(q), scale, np.full((ROWS, groups), zero, np.uint8))


def expected(x: np.ndarray, stored: Packed, group: int) -> np.ndarray:
    """The same in int64; scales are multiples of a quarter."""
    inputs = x.shape[1]
    whole = x.astype(np.int64)
    if not group or stored.zero_point is None:
        scales = (4 * stored.scale).astype(np.int64)
        return (whole @ stored.codes.astype(np.int64).T * scales) / 4
    q = unpack_nibbles(stored.codes).astype(np.int64)
    each = [np.repeat(part.astype(np.int64), group, axis=1) for part in (4 * stored.scale, stored.zero_point)]
    weight = (q - each[1]) * each[0]
    return whole @ weight[:, :inputs].T / 4


def check_products(widths: Sequence[int] = WIDTHS, batch: int = 2) -> None:
    """Products of integers are those of int64, to the last bit."""
    for inputs in widths:
        random = np.random.default_rng(inputs)
        x = random.integers(-99, 100, (batch, inputs)).astype(np.float32)
        x[:, 0] = LARGEST  # the step is 1; its column of the weight is 0
        for group in (0, 32, 64, 128):
            stored = stored_of(inputs, group)
            wanted = expected(x, stored, group)
            for loop in (False, True):
                found = multiplied(x, stored, group, loop)
                assert np.array_equal(found, wanted), (inputs, group, loop)


def test_products_of_integers_are_exact() -> None:
    check_products()


@pytest.mark.parametrize("batch", [3, 4, 5, 7, 16])
def test_products_with_several_vectors_are_exact(batch: int) -> None:
    check_products((1, 31, 64, 129, 224, 384), batch)


@pytest.mark.parametrize("group", [0, 32, 64, 128])
def test_several_vectors_are_independent(group: int) -> None:
    """Each has the result that it has in another batch, and infinity stays in its row."""
    random, stored = np.random.default_rng(group), stored_of(300, group, zero=7)
    x = random.standard_normal((6, 300)).astype(np.float32)
    wanted = multiplied(x, stored, group)
    if not group:  # sums of integers do not depend on the order of addition
        assert np.array_equal(wanted, np.concatenate([multiplied(row[None], stored, group) for row in x]))
    x[4, 7] = np.inf
    found = multiplied(x, stored, group, finite=False)
    assert np.array_equal(np.delete(found, 4, 0), np.delete(wanted, 4, 0))
    assert not np.isfinite(found[4]).any()


def test_inputs_of_24_bits_lose_nothing_with_int8() -> None:
    random = np.random.default_rng(0)
    for inputs in (64, 100, 1041):
        x = random.integers(-LARGEST, LARGEST + 1, (1, inputs)).astype(np.float32)
        x[0, 0] = LARGEST
        stored = stored_of(inputs, 0)
        if WIDTH:
            assert np.array_equal(multiplied(x, stored, 0), expected(x, stored, 0).astype(np.float32))


@pytest.mark.parametrize("batch", [2, 3, 6])
@pytest.mark.parametrize("group", [32, 64, 128])
def test_zero_points_and_inputs_of_any_size(group: int, batch: int) -> None:
    for inputs in (33, 192, 777):
        random, stored = np.random.default_rng(inputs), stored_of(inputs, group, zero=7)
        x = random.standard_normal((batch, inputs)).astype(np.float32)
        q = unpack_nibbles(stored.codes)[:, :inputs].astype(float) - 7
        weight = q * np.repeat(stored.scale, group, axis=1)[:, :inputs]
        size = np.abs(x) @ (np.abs(weight) + 7 * np.repeat(stored.scale, group, axis=1)[:, :inputs]).T
        for loop in (False, True):
            assert (np.abs(multiplied(x, stored, group, loop) - x @ weight.T) <= 1e-6 * size).all()


def _features(without: Sequence[str]) -> str:
    """The processor's features but for some; every one of AVX-512 where "avx512" is among those."""
    mine = cpu_target.target_context.codegen().magic_tuple()[2].split(",")
    return ",".join(f"-{each[1:]}" if any(name in each for name in without) else each for each in mine)


@pytest.mark.skipif(not WIDTH, reason="the processor has no products of bytes: the loop is all there is")
@pytest.mark.parametrize(("without", "width"), [(("avx512bw",), 32), (("vnni",), 0)])
def test_products_with_fewer_instructions(without: Sequence[str], width: int) -> None:
    """A process that is told to use less of the processor."""
    program = (
        f"import test_decoding_products as t; assert t.WIDTH == {width}, t.WIDTH; "
        "t.check_products((31, 96, 129, 176, 384)); t.check_products((31, 96, 129, 384), 5); print('fine')"
    )
    given = {"NUMBA_CPU_NAME": "generic", "NUMBA_CPU_FEATURES": _features(without)}
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=os.path.dirname(__file__),
        env=os.environ | given,
        capture_output=True,
        text=True,
        check=False,
    )
    if width and "AssertionError: 0" in done.stderr:
        pytest.skip("the processor has no products of 32 bytes")
    assert done.stdout.strip() == "fine", done.stderr
