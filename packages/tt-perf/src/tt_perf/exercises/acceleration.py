"""The exercises of module 18, acceleration."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from tt_core.course.exercises import Exercise, floats
from tt_core.course.trial import Trial
from tt_perf.acceleration import loops, naive

NAIVE, LOOPS = "tt_perf.acceleration.naive", "tt_perf.acceleration.loops"


def number(value: float) -> Any:
    """A float32 number, as the loops take them."""
    return np.float32(value)


def numbers(t: Trial, *shape: int) -> Any:
    """Nested lists of random numbers."""
    return t.normal(*shape, dtype=np.float64).tolist()


def see_loop(t: Trial, text: str, loop: Callable[..., Any], given: tuple[Any, ...], out: Any, why: str = "") -> None:
    """Let a loop fill `out`, which holds other numbers before, and record it and that the loop kept its inputs."""
    t.step(text, why)
    before = [np.array(x) for x in given if isinstance(x, np.ndarray)]
    with np.errstate(all="ignore"):
        loop(*given, out)
    t.see(f"out after {text}", out, why)
    kept = all(np.array_equal(x, y) for x, y in zip(before, (x for x in given if isinstance(x, np.ndarray))))
    t.see(f"{text} keeps its inputs", kept, why="write into out alone")


# --- one number at a time


def product_of_small_matrices(t: Trial) -> None:
    """out[i][j] is the sum over k of a[i][k] b[k][j]."""
    t.call(naive.product, [[1.0, 2.0]], [[3.0], [4.0]], why="1 * 3 + 2 * 4")
    t.call(naive.product, [[1.0], [2.0]], [[3.0, 4.0, 5.0]], why="two rows and three columns: each row is a new list")
    t.call(naive.product, [[0.0, 1.0], [1.0, 0.0]], [[1.0, 2.0], [3.0, 4.0]], why="the rows of b in another order")
    t.call(naive.product, numbers(t, 3, 4), numbers(t, 4, 2))


def image_of(t: Trial, *shape: int) -> Any:
    """An image of random numbers: channels, rows, columns."""
    return numbers(t, *shape)


def how_many_windows(t: Trial) -> None:
    """How many windows fit into the padded image, in rows and in columns."""
    image = np.zeros((1, 5, 7)).tolist()
    for text, windows in (
        ("Windows((2, 3), (1, 1))", naive.Windows((2, 3), (1, 1))),
        ("Windows((2, 2), (2, 3))", naive.Windows((2, 2), (2, 3))),
        ("Windows((3, 3), (1, 1), padding=(1, 2))", naive.Windows((3, 3), (1, 1), (1, 2))),
        ("Windows((2, 3), (2, 1), (0, 1), dilation=(3, 2))", naive.Windows((2, 3), (2, 1), (0, 1), (3, 2))),
    ):
        why = "(size + 2 padding - dilation (kernel - 1) - 1) // stride + 1"
        t.show(f"{text}.count(an image of 5 rows and 7 columns)", lambda w=windows: w.count(image), why)  # type: ignore[misc]


def where_a_window_lies(t: Trial) -> None:
    """Positions (i, j) of the kernel with the row and column of the image that each of them covers."""
    image = np.zeros((1, 3, 4)).tolist()

    def places(text: str, windows: Any, y: int, x: int, why: str) -> None:
        t.show(f"list({text}.places({y}, {x}, an image (1, 3, 4)))", lambda: list(windows.places(y, x, image)), why)

    places("Windows((2, 2), (1, 1))", naive.Windows((2, 2), (1, 1)), 0, 0, "i, j, row, column")
    places("Windows((2, 2), (1, 2))", naive.Windows((2, 2), (1, 2)), 1, 1, "a window begins at y times the stride")
    padded = naive.Windows((2, 2), (1, 1), (1, 1))
    places("Windows((2, 2), (1, 1), padding=(1, 1))", padded, 0, 0, "what lies in the padding is left out")
    places("Windows((2, 2), (1, 1), padding=(1, 1))", padded, 3, 4, "at the other end too")
    places("Windows((2, 2), (2, 1))", naive.Windows((2, 2), (2, 1)), 1, 1, "rows have a stride of their own")
    spread = naive.Windows((2, 3), (1, 1), (0, 1), (2, 1))
    places("Windows((2, 3), (1, 1), (0, 1), (2, 1))", spread, 0, 1, "with a dilation, i and j count its steps")
    places("Windows((2, 2), (1, 1), (0, 0), (1, 3))", naive.Windows((2, 2), (1, 1), (0, 0), (1, 3)), 0, 0,
           "columns have a dilation of their own")  # fmt: skip


def convolution_of_one_channel(t: Trial) -> None:
    """Each output is the sum of a window times the kernel."""
    row = naive.Windows((1, 2), (1, 1))
    text = "convolution([[[1, 2, 4]]], [[[[1, -1]]]], Windows((1, 2), (1, 1)))"
    t.show(text, lambda: naive.convolution([[[1.0, 2.0, 4.0]]], [[[[1.0, -1.0]]]], row), "1 - 2 and 2 - 4: not flipped")
    image, kernels = image_of(t, 1, 4, 5), numbers(t, 1, 1, 2, 3)
    t.show("an image of 4 rows and 5 columns with a kernel of 2 rows and 3 columns",
           lambda: naive.convolution(image, kernels, naive.Windows((2, 3), (1, 1))))  # fmt: skip


def convolution_of_many_channels(t: Trial) -> None:
    """Channels are added up; each kernel makes a channel of the result."""
    image, kernels = image_of(t, 3, 4, 4), numbers(t, 2, 3, 2, 2)
    t.show("3 channels and 2 kernels", lambda: naive.convolution(image, kernels, naive.Windows((2, 2), (1, 1))),
           "out[o] is the sum over all channels c")  # fmt: skip
    wide = naive.Windows((2, 2), (2, 1), (1, 1), (1, 2))
    t.show("with strides, padding and dilation", lambda: naive.convolution(image, kernels, wide),
           "windows.places knows all of it")  # fmt: skip


def largest_of_each_window(t: Trial) -> None:
    """The largest element of each window, and of each channel by itself."""
    pairs = naive.Windows((1, 2), (1, 2))
    t.show("largest([[[1, 5, 2, 3]]]) of pairs", lambda: naive.largest([[[1.0, 5.0, 2.0, 3.0]]], pairs))
    t.show("largest([[[-1, -5, -2, -3]]]) of pairs", lambda: naive.largest([[[-1.0, -5.0, -2.0, -3.0]]], pairs),
           "begin with -infinity: all numbers of a window may be below 0")  # fmt: skip
    image = image_of(t, 2, 4, 5)
    padded = naive.Windows((2, 3), (2, 1), (1, 1))
    t.show("windows with padding", lambda: naive.largest(image, padded), "padding is never the largest: skip it")
    nan = [[[1.0, math.nan, 2.0], [3.0, 4.0, 5.0]]]
    t.show("an image with nan", lambda: naive.largest(nan, naive.Windows((2, 2), (1, 1))),
           "nan > x is False, and so is x > nan; look for it with math.isnan")  # fmt: skip


def attention_of_one_query(t: Trial) -> None:
    """A mean of the values, weighted by exp(query key scale)."""
    free, open_ = [[0.0, 0.0]], [[True, True]]
    text = "attention([[1]], [[0], [0]], [[2], [4]], scale=1)"
    t.show(text, lambda: naive.attention([[1.0]], [[0.0], [0.0]], [[2.0], [4.0]], 1.0, free, open_),
           "two equal scores weigh 1/2 each")  # fmt: skip
    text = "attention([[1]], [[0], [2]], [[2], [4]], scale=0.5)"
    t.show(text, lambda: naive.attention([[1.0]], [[0.0], [2.0]], [[2.0], [4.0]], 0.5, free, open_),
           "the scale comes before exp")  # fmt: skip
    text = "attention([[1]], [[1000], [1000]], [[2], [4]], scale=1)"
    t.show(text, lambda: naive.attention([[1.0]], [[1000.0], [1000.0]], [[2.0], [4.0]], 1.0, free, open_),
           "math.exp(1000) is an OverflowError: subtract the largest score first")  # fmt: skip


def attention_with_masks(t: Trial) -> None:
    """`mask` is added to the scores; what is not allowed does not count at all."""
    query, key, value = numbers(t, 3, 4), numbers(t, 5, 4), numbers(t, 5, 2)
    mask, all_of_it = numbers(t, 3, 5), np.ones((3, 5), bool).tolist()
    t.show("3 queries and 5 keys with a mask", lambda: naive.attention(query, key, value, 0.5, mask, all_of_it),
           "score * scale + mask")  # fmt: skip
    causal = np.tri(3, 5, 1, dtype=bool).tolist()
    t.show("where each query sees the keys up to the one after its own",
           lambda: naive.attention(query, key, value, 0.5, mask, causal), "a score of -infinity weighs 0")  # fmt: skip
    nothing = np.zeros((3, 5), bool).tolist()
    t.show("where no query sees a key", lambda: naive.attention(query, key, value, 0.5, mask, nothing),
           "-inf - -inf is nan: such a query keeps its zeros")  # fmt: skip


# --- one pass over memory


def gradient_of_relu(t: Trial) -> None:
    """g where the result is above 0."""
    see_loop(t, "relu_backward([1, 2, 3], result=[0, 5, 0.1])", loops.relu_backward,
             (floats(1, 2, 3), floats(0, 5, 0.1)), floats(7, 7, 7))  # fmt: skip
    g, result = t.normal(9), np.maximum(t.normal(9), 0)
    see_loop(t, "relu_backward of 9 numbers", loops.relu_backward, (g, result), np.full(9, 7, np.float32))
    see_loop(t, "relu_backward([1, 2], result=[nan, inf])", loops.relu_backward,
             (floats(1, 2), floats(np.nan, np.inf)), floats(7, 7), "where the result is nan, g passes")  # fmt: skip


def exponential_of_some_numbers(t: Trial) -> None:
    """e^x for x <= 0."""
    for x in (0.0, -1.0, -0.3, -math.log(2), -10.0):
        exponential(t, x, "x = n log(2) + r, and e^x = 2^n e^r")
    for x in -30 * t.rng.random(6):
        exponential(t, float(np.float32(x)), "n is x / log(2), rounded; r is what is left")


def exponential_near_its_ends(t: Trial) -> None:
    """To seven digits wherever the result is a normal number, and 0 below."""
    exponential(t, -87.3, "2^n has the bits (n + 127) << 23")
    exponential(t, -0.3465, "r reaches half of log(2); a polynomial of a lower degree loses digits there")
    for x in (-87.4, -100.0, -1000.0, -math.inf):
        exponential(t, x, "below _SMALLEST, the result is 0")


def exponential(t: Trial, x: float, why: str) -> None:
    """Record exp_below_0 of one number."""
    text = f"exp_below_0({x:.6g})"
    t.step(text, why)
    with np.errstate(all="ignore"):
        value = loops.exp_below_0(number(x))
    t.see(text, np.asarray(value), why, rtol=1e-6, atol=0)


def gelu_in_one_pass(t: Trial) -> None:
    """x gate, with the gate 1 / (1 + exp(-u))."""
    why = "u = _TWO_ROOT (x + _CUBIC x^3); for u > 0 the gate is 1 / (1 + e), else e / (1 + e), with e = exp(-|u|)"
    see_loop(t, "gelu_tanh([0, 1, -1])", loops.gelu_tanh, (floats(0, 1, -1),), floats(7, 7, 7), why)
    see_loop(t, "gelu_tanh of 12 numbers", loops.gelu_tanh, (t.normal(12),), np.full(12, 7, np.float32), why)
    see_loop(t, "gelu_tanh([-10.5, 20, -6])", loops.gelu_tanh, (floats(-10.5, 20, -6),), floats(7, 7, 7),
             "exp_below_0 takes numbers up to 0: give it -abs(u)")  # fmt: skip


def rows_are_normalized(t: Trial) -> None:
    """Each row has mean 0 and variance 1, is scaled and shifted; its mean and 1 / deviation are kept."""
    normalized(t, floats([1, 3]), floats(1, 1), floats(0, 0), 0.0, "mean 2, variance 1")
    normalized(t, t.normal(3, 5), t.normal(5), t.normal(5), 1e-5, "times weight[j], plus bias[j]")
    normalized(t, floats([5, 5, 5]), floats(1, 1, 1), floats(0, 0, 0), 1e-5, "eps is added to the variance")


def rows_far_from_zero(t: Trial) -> None:
    """Numbers far from 0 lose nothing."""
    normalized(t, floats([10000, 10001, 10002, 10003]), np.ones(4, np.float32), np.zeros(4, np.float32), 1e-5,
               "mean(x^2) - mean(x)^2 is a difference of two huge numbers: a second loop for (x - mean)^2")  # fmt: skip


def normalized(t: Trial, x: Any, weight: Any, bias: Any, eps: float, why: str) -> None:
    """Record what layer_norm writes."""
    text = f"layer_norm of rows {x.tolist()}" if x.size < 6 else f"layer_norm of {len(x)} rows"
    out, mean, rstd = np.full_like(x, 7), np.full((len(x), 1), 7, np.float32), np.full((len(x), 1), 7, np.float32)
    t.step(text, why)
    loops.layer_norm(x, weight, bias, number(eps), out, mean, rstd)
    t.see(f"mean after {text}", mean, why)
    t.see(f"rstd after {text}", rstd, why="1 / sqrt(variance + eps)")
    t.see(f"out after {text}", out, why)


def integers_times_floats(t: Trial) -> None:
    """x @ (codes scale).T, with the scale outside of the sum."""
    why = "a sum for each output o and row r; times scale[o] at the end, once"
    see_loop(t, "int8_linear([[1, 2]], [[3, -4]], scale=[0.5])", loops.int8_linear,
             (floats([1, 2]), np.array([[3, -4]], np.int8), floats(0.5)), floats([7]), why)  # fmt: skip
    codes = t.rng.integers(-127, 128, (4, 6)).astype(np.int8)
    given = t.normal(3, 6), codes, np.abs(t.normal(4)) + number(0.1)
    see_loop(t, "int8_linear of 3 rows, 6 inputs and 4 outputs", loops.int8_linear, given,
             np.full((3, 4), 7, np.float32), why)  # fmt: skip
    codes = np.full((1, 3), 127, np.int8)
    see_loop(t, "int8_linear of codes of 127", loops.int8_linear, (floats([100, 100, 100]), codes, floats(1)),
             floats([7]), "Number(codes[o, i]): an int8 has no room for the product")  # fmt: skip


def integers_of_both_sides(t: Trial) -> None:
    """a @ b.T in int32."""
    why = "np.int8(100) * np.int8(2) is -56: widen both before they are multiplied"
    a, b = np.array([[100, -100, 100]], np.int8), np.array([[2, 3, 100], [1, 1, 1]], np.int8)
    see_loop(t, "integer_product([[100, -100, 100]], [[2, 3, 100], [1, 1, 1]])", loops.integer_product, (a, b),
             np.full((1, 2), 7, np.int32), why)  # fmt: skip
    a, b = (t.rng.integers(-127, 128, shape).astype(np.int8) for shape in ((3, 9), (2, 9)))
    see_loop(t, "integer_product of 3 and 2 rows", loops.integer_product, (a, b), np.full((3, 2), 7, np.int32), why)


# --- what is timed


def of_matrices() -> Callable[[], Any]:
    """A product of two matrices (24, 24)."""
    a, b = (np.random.default_rng(i).standard_normal((24, 24)).tolist() for i in range(2))
    return lambda: naive.product(a, b)


def of_an_image() -> Callable[[], Any]:
    """A convolution of an image (2, 12, 12) with 3 kernels."""
    draw = np.random.default_rng(0)
    image, kernels = draw.standard_normal((2, 12, 12)).tolist(), draw.standard_normal((3, 2, 3, 3)).tolist()
    return lambda: naive.convolution(image, kernels, naive.Windows((3, 3), (1, 1)))


def of_a_head() -> Callable[[], Any]:
    """Attention of 24 queries and keys."""
    query, key, value = (np.random.default_rng(i).standard_normal((24, 8)).tolist() for i in range(3))
    mask, allowed = np.zeros((24, 24)).tolist(), np.ones((24, 24), bool).tolist()
    return lambda: naive.attention(query, key, value, 0.35, mask, allowed)


def of_two_thousand() -> Callable[[], Any]:
    """GELU of 2,000 numbers."""
    x = np.random.default_rng(0).standard_normal(2000).astype(np.float32)
    out = np.empty_like(x)
    return lambda: loops.gelu_tanh(x, out)


def of_rows() -> Callable[[], Any]:
    """Layer norm of rows (16, 64)."""
    x = np.random.default_rng(0).standard_normal((16, 64)).astype(np.float32)
    weight, bias, out, mean, rstd = x[0].copy(), x[1].copy(), x.copy(), x[:, :1].copy(), x[:, :1].copy()
    return lambda: loops.layer_norm(x, weight, bias, number(1e-5), out, mean, rstd)


EXERCISES = (
    Exercise(
        "product",
        NAIVE,
        2,
        (
            "Three nested loops: over the rows of a, over the columns of b, and over what they have in common.",
            "Begin with rows of zeros, one list for each row, and add a[i][k] * b[k][j] to out[i][j].",
            "out = [[0.0] * columns for _ in range(rows)]; [[0.0] * columns] * rows would be the same list again and "
            "again.",
        ),
        (product_of_small_matrices,),
        timed=of_matrices,
    ),
    Exercise(
        "Windows.count",
        NAIVE,
        3,
        (
            "How far does a window reach, and how often can it move by one stride?",
            "A kernel of k with dilation d covers d (k - 1) + 1; the image has padding on both sides.",
            "(size + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1, for rows (0) and for columns (1); the "
            "sizes are len(image[0]) and len(image[0][0]).",
        ),
        (how_many_windows,),
    ),
    Exercise(
        "Windows.places",
        NAIVE,
        4,
        (
            "Two loops, over the rows and the columns of the kernel. Where in the image does each position lie?",
            "Window y begins at row y * stride - padding of the image; position i lies i * dilation further on.",
            "row = y * self.stride[0] + i * self.dilation[0] - self.padding[0], the column likewise; yield i, j, row, "
            "column where 0 <= row < len(image[0]) and 0 <= column < len(image[0][0]).",
        ),
        (where_a_window_lies,),
    ),
    Exercise(
        "convolution",
        NAIVE,
        4,
        (
            "Five loops: over kernels, rows and columns of the result, channels, and the places of a window.",
            "windows.count(image) gives the rows and columns, windows.places(y, x, image) what a window covers.",
            "out[o][y][x] += image[c][row][column] * kernels[o][c][i][j]",
        ),
        (convolution_of_one_channel, convolution_of_many_channels),
        timed=of_an_image,
    ),
    Exercise(
        "largest",
        NAIVE,
        3,
        (
            "As convolution, without kernels: keep the largest number that you have seen.",
            "Begin with -math.inf. A nan is not larger than anything, and must not get lost.",
            "if value > out[c][y][x] or math.isnan(value): out[c][y][x] = value",
        ),
        (largest_of_each_window,),
    ),
    Exercise(
        "attention",
        NAIVE,
        6,
        (
            "For each query: the scores of all keys, softmax, and the weighted mean of the values.",
            "A key that is not allowed has the score -math.inf. Subtract the largest score before math.exp, and leave "
            "out a query that sees no key.",
            "scores[j] = sum of query[i][d] * key[j][d], times scale, plus mask[i][j]; weights = exp(score - peak); "
            "out[i][e] += weights[j] / total * value[j][e]",
        ),
        (attention_of_one_query, attention_with_masks),
        timed=of_a_head,
    ),
    Exercise(
        "relu_backward",
        LOOPS,
        2,
        (
            "One loop over all numbers, as in C: for i in range(g.size).",
            "Compare with ZERO, which is a float32, as all numbers of this file.",
            "out[i] = g[i] if result[i] != ZERO else ZERO; != lets the gradient of nan pass.",
        ),
        (gradient_of_relu,),
    ),
    Exercise(
        "exp_below_0",
        LOOPS,
        6,
        (
            "A vector unit can add and multiply, and it knows the bits of a number. Split x into n log(2) + r.",
            "n is x / log(2), rounded: adding _ROUND and taking it off again rounds. r = x - n log(2), with log(2) in "
            "two parts so that no digit is lost. e^r = 1 + r + r^2 p(r), where p has the coefficients _C0 to _C5.",
            "n = (x * _PER_LN2 + _ROUND) - _ROUND; r = (x - n * _LN2_HIGH) - n * _LN2_LOW; p by Horner's rule; 2^n is "
            "np.int32((np.int32(n) + 127) << 23).view(np.float32); ZERO below _SMALLEST.",
        ),
        (exponential_of_some_numbers, exponential_near_its_ends),
    ),
    Exercise(
        "gelu_tanh",
        LOOPS,
        5,
        (
            "All operations for one number, then the next number: what is between never leaves the processor.",
            "u = _TWO_ROOT * (x + _CUBIC x^3), and the gate is 1 / (1 + e^-u). exp_below_0 takes only numbers up to 0: "
            "e = exp_below_0(-abs(u)).",
            "out[i] = x[i] * ((ONE if u > ZERO else e) / (ONE + e))",
        ),
        (gelu_in_one_pass,),
        timed=of_two_thousand,
    ),
    Exercise(
        "layer_norm",
        LOOPS,
        6,
        (
            "Three passes over a row while it is in the cache: its sum, its squared distances, its results.",
            "Each row has a mean and scale = ONE / np.sqrt(variance + eps); keep both in mean[i, 0] and rstd[i, 0].",
            "out[i, j] = (x[i, j] - middle) * scale * weight[j] + bias[j]; divide by Number(columns), or multiply by "
            "ONE / Number(columns), to stay in float32.",
        ),
        (rows_are_normalized, rows_far_from_zero),
        timed=of_rows,
    ),
    Exercise(
        "int8_linear",
        LOOPS,
        4,
        (
            "A matrix product whose second matrix is made of integers: read one byte, and make it a float on the way.",
            "The scale of a row is the same for all its elements. Where does it cost least?",
            "total += x[r, i] * Number(codes[o, i]); after the loop over i: out[r, o] = total * scale[o]",
        ),
        (integers_times_floats,),
    ),
    Exercise(
        "integer_product",
        LOOPS,
        3,
        (
            "Again a product of rows, with integers on both sides.",
            "int8 holds numbers up to 127, and a product of two needs 15 bits.",
            "total = np.int32(total + np.int32(a[r, i]) * np.int32(b[o, i]))",
        ),
        (integers_of_both_sides,),
    ),
)
