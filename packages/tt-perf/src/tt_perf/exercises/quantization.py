"""The exercises of module 15, quantization."""

from __future__ import annotations

from typing import Any

import numpy as np

from tt_core.course.exercises import Exercise, doubles, floats, timing
from tt_core.course.trial import Trial
from tt_perf.quantization import MovingAverageMinMaxObserver, packed
from tt_perf.quantization import affine as A

AFFINE, OBSERVERS, PACKED = (f"tt_perf.quantization.{name}" for name in ("affine", "observers", "packed"))


HALF, ZERO = np.float32(0.5), np.int32(0)


# --- scale and zero point


def affine_scale_uses_every_integer(t: Trial) -> None:
    """The width of the range, divided by the number of steps."""
    why = "between n integers there are n - 1 steps"
    t.call(A.affine_scale, np.float64(-1), np.float64(3), 0, 8, why=why)
    t.call(A.affine_scale, np.float64(0), np.float64(15), 0, 15, why=why)
    t.call(A.affine_scale, doubles(-1, 0, -5), doubles(1, 10, 0), -128, 127, why="one scale for each pair of ends")
    t.call(A.affine_scale, doubles(0), doubles(0), -128, 127, why="an empty range has the width 0")


def zero_point_stands_for_zero(t: Trial) -> None:
    """The lowest number becomes the lowest integer, so 0 becomes this one."""
    t.call(A.affine_zero_point, np.float64(-1), HALF, -128, why="-1 is 2 steps below 0, so 0 is 2 steps above -128")
    t.call(A.affine_zero_point, np.float64(0), HALF, -128, why="0 is the lowest number itself")
    t.call(A.affine_zero_point, doubles(-4, -0.5, 0), floats(0.5, 0.5, 2), 0)


def zero_point_is_a_whole_number(t: Trial) -> None:
    """It is rounded, as int32."""
    why = "round the steps to the nearest integer; a cast alone cuts off"
    t.call(A.affine_zero_point, doubles(-1.3, -1.2), HALF, -128, why=why)
    t.call(A.affine_zero_point, doubles(-1000, -3), floats(7.9, 0.023), -128, why=why)


def symmetric_scale_reaches_both_ends(t: Trial) -> None:
    """With the zero point 0, each end of the range must have an integer."""
    why = "the larger of both ends, over the smaller of the two numbers of steps"
    t.call(A.symmetric_scale, np.float64(-1), np.float64(1), -127, 127, why=why)
    t.call(A.symmetric_scale, np.float64(-1), np.float64(4), -8, 7, why="4 must be 7 steps or fewer")
    t.call(A.symmetric_scale, np.float64(-8), np.float64(1), -8, 7, why=why)
    t.call(A.symmetric_scale, doubles(-1, -9, 0), doubles(3, 2, 0), -127, 127, why="one scale for each pair of ends")


# --- the grid


def grid_rounds_to_the_nearest(t: Trial) -> None:
    """Divide by the scale, round, add the zero point."""
    t.call(A.to_grid, floats(-1, 0, 0.26, 1.2), HALF, ZERO, -128, 127)
    t.call(A.to_grid, floats(-1, 0, 0.26, 1.2), HALF, np.int32(3), -128, 127, why="the zero point is added")
    t.call(A.to_grid, floats(0.25, 0.75, 1.25, -0.25), HALF, ZERO, -128, 127, why="halves go to the even neighbour")
    t.call(A.to_grid, floats(0.25, 0.75), HALF, np.int32(3), -128, 127, why="round first, then add the zero point")


def grid_saturates(t: Trial) -> None:
    """What lies outside of the range gets its nearest end, after the zero point is added."""
    why = "clip after adding the zero point"
    t.call(A.to_grid, floats(-99, 99), HALF, np.int32(10), -128, 127, why=why)
    t.call(A.to_grid, floats(-5, 3.4, 4.9, 99), HALF, np.int32(8), 0, 15, why=why)
    t.call(A.to_grid, floats(-np.inf, np.inf, np.nan), HALF, ZERO, 0, 15, why="infinities saturate, nan stays nan")


def grid_of_rows(t: Trial) -> None:
    """Each row may have a scale of its own, and the input stays as it was."""
    x = t.normal(3, 4)
    scale, zero = floats(0.1, 0.5, 2).reshape(3, 1), np.array([[0], [5], [-3]], np.int32)
    t.call(A.to_grid, x, scale, zero, -128, 127, why="scale (3, 1) broadcasts over the rows of x (3, 4)")
    t.see("x after to_grid(x, ...)", x, why="the function must not change x")
    t.call(A.to_grid, np.zeros((0, 4), np.float32), HALF, ZERO, 0, 15, why="no rows")


def dequantize_goes_back(t: Trial) -> None:
    """Subtract the zero point, multiply by the scale."""
    t.call(A.dequantize_affine, np.array([-2, 0, 18], np.int8), HALF, ZERO)
    t.call(
        A.dequantize_affine,
        np.array([-2, 0, 18], np.int8),
        HALF,
        np.int32(3),
        why="first the zero point, then the scale",
    )
    t.call(A.dequantize_affine, np.array([[1, 2], [3, 4]], np.int8), floats(0.5, 2).reshape(2, 1), ZERO)


def dequantize_does_not_wrap_around(t: Trial) -> None:
    """The difference of two small integers may need more bits than they have."""
    why = "127 - (-128) is 255, which int8 cannot hold: subtract in floats"
    t.call(A.dequantize_affine, np.array([127, -128], np.int8), HALF, np.int8(-128), why=why)
    t.call(A.dequantize_affine, np.array([0, 15], np.uint8), HALF, np.uint8(8), why="0 - 8 is below 0; uint8 is not")


# --- quantization-aware training


def fake_quantize_rounds_in_floats(t: Trial) -> None:
    """To the grid and back."""
    t.call(A.fake_quantize, floats(0.26, -0.6, 99), HALF, ZERO, why="99 saturates at 127 steps")
    t.call(A.fake_quantize, floats(-3, 0.4, 2.2, 9), HALF, np.int32(3), quant_min=0, quant_max=15)
    t.call(A.fake_quantize, t.normal(2, 3), floats(0.1, 0.7).reshape(2, 1), ZERO, why="a scale for each row")
    t.call(A.fake_quantize, doubles(0.26, 1), HALF, ZERO, why="the result has the dtype of x")


def straight_through_inside(t: Trial) -> None:
    """Inside the range the gradient passes unchanged; where x saturates it is 0."""
    g, x = floats(2, -3, 5, 7), floats(0.26, -0.6, 99, -99)
    t.call(A.fake_quantize_backward, g, x, HALF, ZERO, why="as if rounding were not there, but 0 outside of the range")
    x = t.normal(3, 4)
    t.call(A.fake_quantize_backward, t.normal(3, 4), x, np.float32(0.1), ZERO, quant_min=-8, quant_max=7)


def straight_through_at_the_ends(t: Trial) -> None:
    """What is rounded to an end of the range lies inside, and the zero point shifts both ends."""
    g, x = floats(1, 2, 3, 4, 5), floats(-1.7, -1.5, 5.9, 6.1, 6.4)
    why = "x lies inside if the integer that it is rounded to does, before clipping"
    t.call(A.fake_quantize_backward, g, x, HALF, np.int32(3), quant_min=0, quant_max=15, why=why)


# --- packing


def pack_int8_has_a_scale_for_each_row(t: Trial) -> None:
    """A large row does not take the precision of a small one."""
    see_packed(t, np.array([[0.5, -1.0], [100.0, 0.0]], np.float32), "each row is divided by its own scale")
    see_packed(t, t.normal(3, 5) * floats(1, 0.01, 50).reshape(3, 1), "each row is divided by its own scale")
    see_packed(t, np.zeros((2, 3), np.float32), "a row of zeros has the scale 1")


def pack_int8_of_other_shapes(t: Trial) -> None:
    """A convolution's weight keeps its shape, with a scale for each filter."""
    see_packed(t, t.normal(4, 2, 3, 3), "the scale of a filter is that of all its numbers, (out,)")
    see_packed(t, -np.abs(t.normal(2, 3)), "the range is symmetric, from -127 to 127")


def see_packed(t: Trial, weight: Any, why: str) -> None:
    """Record codes and scales of a weight."""
    t.step(f"pack_int8 of a weight {weight.shape}", why)
    found = packed.pack_int8(weight)
    t.see(f"scale of pack_int8 of a weight {weight.shape}", found.scale, why)
    t.see(f"codes of pack_int8 of a weight {weight.shape}", found.codes, why)


def nibbles(*rows: list[int]) -> Any:
    """Numbers from 0 to 15."""
    return np.array(rows, np.uint8)


def pack_two_numbers_to_a_byte(t: Trial) -> None:
    """Even columns in the lower half of a byte, odd ones in the upper half."""
    t.call(packed.pack_nibbles, nibbles([1, 2, 15, 0]), why="1 + 16 * 2, and 15 + 16 * 0")
    t.call(packed.pack_nibbles, nibbles([15, 15], [0, 15]))
    t.call(packed.pack_nibbles, t.rng.integers(0, 16, (3, 8)).astype(np.uint8))
    t.call(packed.pack_nibbles, np.zeros((0, 4), np.uint8), why="no rows give no bytes, (0, 2)")


def unpack_both_halves(t: Trial) -> None:
    """The lower half first, then the upper one, for each byte of a row."""
    t.call(packed.unpack_nibbles, np.array([[33, 15]], np.uint8), why="33 is 1 + 16 * 2")
    t.call(
        packed.unpack_nibbles,
        t.rng.integers(0, 256, (3, 4)).astype(np.uint8),
        why="the halves of a byte are neighbours",
    )
    t.call(packed.unpack_nibbles, np.zeros((0, 2), np.uint8))


def products_that_float32_adds_exactly(t: Trial) -> None:
    """Float32 holds every integer up to 2^24."""
    t.call(packed.exact_length, 127, 127, why="how many products of 127 * 127 fit into 2^24?")
    for a, b in ((128, 128), (1, 1), (255, 127), (5, 100)):
        t.call(packed.exact_length, a, b)
    t.call(packed.exact_length, 32767, 32767, why="one product is too large; at least 1 is returned")
    t.call(packed.exact_length, 0, 127, why="where all numbers are 0, do not divide by 0")


# --- observers


def average_moves_a_part_of_the_way(t: Trial) -> None:
    """Each end moves towards that of the batch by the part `averaging_constant`."""
    for part, batches in ((0.5, ([0, 2], [0, 4])), (0.1, ([-1, 1], [-2, 3], [-1, 10]))):
        observer = MovingAverageMinMaxObserver(averaging_constant=part)
        why = "old + part * (new - old), for both ends"
        t.step(f"MovingAverageMinMaxObserver({part}) after {batches}", why)
        for batch in batches:
            observer.observe(np.array(batch, np.float64))
        t.see(f"range of MovingAverageMinMaxObserver({part}) after {batches}", list(observer.range()), why)


EXERCISES = (
    Exercise(
        "affine_scale",
        AFFINE,
        2,
        (
            "How wide is the range, and how many steps does it have?",
            "From quant_min to quant_max there are quant_max - quant_min steps.",
            "(highest - lowest) / (quant_max - quant_min), as an array.",
        ),
        (affine_scale_uses_every_integer,),
    ),
    Exercise(
        "affine_zero_point",
        AFFINE,
        3,
        (
            "How many steps is 0 above the lowest number?",
            "-lowest / scale steps; the lowest number itself is stored as quant_min.",
            "quant_min - np.rint(lowest / scale), as int32. Divide in float64.",
        ),
        (zero_point_stands_for_zero, zero_point_is_a_whole_number),
    ),
    Exercise(
        "symmetric_scale",
        AFFINE,
        3,
        (
            "0 is stored as 0, so there are -quant_min steps below and quant_max steps above.",
            "The end that is farther from 0 must be reached with the fewer steps.",
            "np.maximum(-lowest, highest) / min(-quant_min, quant_max)",
        ),
        (symmetric_scale_reaches_both_ends,),
    ),
    Exercise(
        "to_grid",
        AFFINE,
        5,
        (
            "Three steps: divide and round, shift, limit.",
            "np.rint rounds halves to the even neighbour; np.clip limits.",
            "q = np.rint(_divided(x, scale)); add the zero point; np.clip between quant_min and quant_max.",
        ),
        (grid_rounds_to_the_nearest, grid_saturates, grid_of_rows),
    ),
    Exercise(
        "dequantize_affine",
        AFFINE,
        3,
        (
            "The inverse of quantizing, but for the rounding.",
            "What is 127 - (-128) in int8? np.subtract takes a dtype.",
            "(np.subtract(q, zero_point, dtype=np.float32) * scale) as float32.",
        ),
        (dequantize_goes_back, dequantize_does_not_wrap_around),
    ),
    Exercise(
        "fake_quantize",
        AFFINE,
        3,
        (
            "To the grid and back, without storing integers.",
            "`to_grid` does the first half.",
            "q = to_grid(...); ((q - zero_point) * scale) in the dtype of x.",
        ),
        (fake_quantize_rounds_in_floats,),
    ),
    Exercise(
        "fake_quantize_backward",
        AFFINE,
        5,
        (
            "Rounding is treated as the identity, and saturation as what it is: flat.",
            "Where does x saturate? Where its integer, before clipping, lies outside of quant_min to quant_max.",
            "q = np.rint(_divided(x, scale)) + zero_point; g where quant_min <= q <= quant_max, and 0 elsewhere.",
        ),
        (straight_through_inside, straight_through_at_the_ends),
    ),
    Exercise(
        "pack_int8",
        PACKED,
        5,
        (
            "Make a row of each output: weight.reshape(len(weight), -1). Each row has a range.",
            "choose_qparams(low, high, -127, 127, symmetric=True) takes the ends of all rows at once.",
            "quantize_affine.kernel(rows, scale[:, None], zero_point[:, None], quant_min=-127, quant_max=127), in "
            "the shape of the weight; Packed(codes, scale).",
        ),
        (pack_int8_has_a_scale_for_each_row, pack_int8_of_other_shapes),
        timed=timing(packed.pack_int8, (512, 512)),
    ),
    Exercise(
        "pack_nibbles",
        PACKED,
        3,
        (
            "A byte has 8 bits, a number below 16 needs 4.",
            "q[:, ::2] are the even columns, q[:, 1::2] the odd ones; x << 4 moves a number to the upper half.",
            "The even columns | the odd columns << 4",
        ),
        (pack_two_numbers_to_a_byte,),
        timed=timing(packed.pack_nibbles, np.arange(512 * 512, dtype=np.uint8).reshape(512, 512) % 16),
    ),
    Exercise(
        "unpack_nibbles",
        PACKED,
        4,
        (
            "byte & 15 is the lower half, byte >> 4 the upper half.",
            "Both become neighbours: an array (rows, bytes, 2) in the right order, reshaped.",
            "np.stack([codes & 15, codes >> 4], axis=-1).reshape(len(codes), 2 * codes.shape[1])",
        ),
        (unpack_both_halves,),
    ),
    Exercise(
        "exact_length",
        PACKED,
        3,
        (
            "A float32 has 24 significant bits.",
            "Each product is at most a * b, and the sum must not exceed 2^24.",
            "2**24 // (a * b), at least 1; mind a * b = 0.",
        ),
        (products_that_float32_adds_exactly,),
    ),
    Exercise(
        "MovingAverageMinMaxObserver._joined",
        OBSERVERS,
        3,
        (
            "The old ends are self._low and self._high; the batch's are low and high.",
            "A part of 1 jumps to the batch, a part of 0 stays.",
            "old + part * (new - old), for both ends.",
        ),
        (average_moves_a_part_of_the_way,),
    ),
)
