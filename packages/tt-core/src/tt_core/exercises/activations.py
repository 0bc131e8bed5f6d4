"""The exercises of module 02, activations."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tt_core import activations as A
from tt_core.course.exercises import Exercise, floats
from tt_core.course.trial import Trial

FILE = "tt_core.activations"


def on_a_million(function: Callable[[Any], Any]) -> Callable[[], Callable[[], Any]]:
    """Times `function` on (1024, 1024) numbers."""

    def make() -> Callable[[], Any]:
        x = np.random.default_rng(0).standard_normal((1024, 1024)).astype(np.float32)
        return lambda: function(x)

    return make


# --- relu


def relu_keeps_what_is_positive(t: Trial) -> None:
    """Negative numbers become 0, and positive ones stay."""
    t.call(A.relu, floats(-1, 2))
    t.call(A.relu, floats(-3, -0.5, 0, 0.5, 3))
    t.call(A.relu, t.normal(2, 3), why="each element is treated by itself; the shape stays")


def relu_on_all_shapes(t: Trial) -> None:
    """It works for any shape, and does not change its input."""
    x = floats(-1, 1)
    t.call(A.relu, x)
    t.see("x after relu(x)", x, why="relu returns a new array; x itself must stay as it was")
    t.call(A.relu, np.float32(-2).reshape(()), why="an array without dimensions has one element")
    t.call(A.relu, np.zeros((0, 3), np.float32), why="an empty array gives an empty array")
    t.call(A.relu, floats(np.nan, -np.inf, np.inf), why="the maximum of nan and 0 is nan")


# --- leaky_relu


def leaky_relu_lets_a_little_through(t: Trial) -> None:
    """Below 0, the input is multiplied by the slope."""
    t.call(A.leaky_relu, floats(-1, 2), negative_slope=0.1)
    t.call(A.leaky_relu, floats(-1, 2), why="the slope is 0.01 unless another one is given")
    t.call(A.leaky_relu, t.normal(3, 2), negative_slope=0.2)
    t.call(A.leaky_relu, floats(-2, 3), negative_slope=2.0, why="a slope above 1 is allowed: max(x, slope * x) fails")


# --- sigmoid


def sigmoid_is_between_0_and_1(t: Trial) -> None:
    """The result lies between 0 and 1, and is 0.5 for 0."""
    t.call(A.sigmoid, floats(0))
    t.call(A.sigmoid, floats(-1, 1), why="1 / (1 + exp(-x)): mind the sign of x")
    t.call(A.sigmoid, t.normal(2, 3))


def sigmoid_of_large_numbers(t: Trial) -> None:
    """Large numbers give 0 or 1, not nan."""
    t.call(
        A.sigmoid, floats(-1000, 1000), why="exp(x) / (1 + exp(x)) is inf / inf for x = 1000; 1 / (1 + exp(-x)) is not"
    )
    t.call(A.sigmoid, np.array([-100, 0, 100]), why="integers give float32")


# --- tanh


def tanh_is_between_minus_1_and_1(t: Trial) -> None:
    """The result lies between -1 and 1, and has the sign of the input."""
    t.call(A.tanh, floats(-1, 0, 1))
    t.call(A.tanh, t.normal(3, 2))
    t.call(A.tanh, floats(-1000, 1000), why="(exp(x) - exp(-x)) / (exp(x) + exp(-x)) is inf / inf for x = 1000")


# --- gelu


def gelu_by_the_error_function(t: Trial) -> None:
    """x times the probability that a standard normal number is below x."""
    t.call(A.gelu, floats(-1, 0, 1), why="P(z < x) = (1 + erf(x / sqrt(2))) / 2")
    t.call(A.gelu, t.normal(2, 3))


def gelu_by_tanh(t: Trial) -> None:
    """approximate="tanh" uses the formula of GPT-2."""
    t.call(
        A.gelu, floats(-1, 0, 1), approximate="tanh", why="sqrt(2 / pi) * (x + 0.044715 * x**3) is the argument of tanh"
    )
    x = floats(-2, -1, 1, 2)
    exact, near = A.gelu(x), A.gelu(x, approximate="tanh")
    t.see(
        "gelu(x, approximate='tanh') - gelu(x)", near.data - exact.data, why="the two forms differ a little", atol=1e-5
    )


# --- softmax


def softmax_rows_add_up_to_1(t: Trial) -> None:
    """Positive numbers that add up to 1 along the last dimension."""
    t.call(A.softmax, floats(0, 0))
    t.call(A.softmax, floats(1, 2, 3))
    t.call(A.softmax, np.array([[0, 1], [2, 2]], np.float32), why="each row has a sum of its own: keepdims=True")


def softmax_along_another_dimension(t: Trial) -> None:
    """`dim` chooses the dimension that adds up to 1."""
    x = t.normal(2, 3, 2)
    t.call(A.softmax, x, dim=1)
    t.call(A.softmax, x, dim=0)
    t.call(A.softmax, x, -1)


def softmax_of_large_numbers(t: Trial) -> None:
    """Large numbers do not overflow."""
    t.call(A.softmax, floats(1000, 1000), why="exp(1000) is infinite; subtract the row's largest number first")
    t.call(A.softmax, floats(0, -1000))
    t.call(
        A.softmax,
        np.array([[1e4, 0], [0, 1]], np.float32),
        why="the largest number of each row, not of the whole array",
    )


# --- log_softmax


def log_softmax_is_the_logarithm(t: Trial) -> None:
    """The logarithm of softmax."""
    t.call(A.log_softmax, floats(0, 0))
    x = t.normal(3, 4)
    t.call(A.log_softmax, x)
    t.call(A.log_softmax, x, dim=0)


def log_softmax_does_not_underflow(t: Trial) -> None:
    """Where softmax is 0, its logarithm is still a number."""
    t.call(A.log_softmax, floats(0, 1000), why="log(softmax(x)) is log(0); x - log(sum(exp(x))) is not")
    t.call(A.log_softmax, floats(1000, 1000), why="subtract the largest number before exp")


EXERCISES = (
    Exercise(
        "relu",
        FILE,
        2,
        (
            "Which of x and 0 is larger?",
            "NumPy has a function that takes the larger of two arrays, element by element.",
            "return np.maximum(x, 0)",
        ),
        (relu_keeps_what_is_positive, relu_on_all_shapes),
        timed=on_a_million(A.relu),
    ),
    Exercise(
        "leaky_relu",
        FILE,
        2,
        (
            "There are two cases: x above 0, and x below.",
            "np.where(condition, a, b) takes a where the condition holds, and b elsewhere.",
            "np.where(x > 0, x, SOMETHING): what stands below 0?",
        ),
        (leaky_relu_lets_a_little_through,),
        timed=on_a_million(A.leaky_relu),
    ),
    Exercise(
        "sigmoid",
        FILE,
        3,
        (
            "The formula is in the docstring.",
            "There are two ways to write it; one of them divides infinity by infinity for large x.",
            "1 / (1 + np.exp(-x)): for x far below 0, exp(-x) is infinite, and 1 / infinity is rightly 0.",
        ),
        (sigmoid_is_between_0_and_1, sigmoid_of_large_numbers),
        timed=on_a_million(A.sigmoid),
    ),
    Exercise(
        "tanh",
        FILE,
        2,
        (
            "It is a sigmoid that is stretched to lie between -1 and 1.",
            "NumPy has it; written out, it is 2 * sigmoid(2 * x) - 1.",
            "np.tanh(x), or 2 / (1 + np.exp(-2 * x)) - 1",
        ),
        (tanh_is_between_minus_1_and_1,),
        timed=on_a_million(A.tanh),
    ),
    Exercise(
        "gelu",
        FILE,
        5,
        (
            "Both forms are x times a gate between 0 and 1; only the gate differs.",
            "The exact gate is (1 + erf(x / sqrt(2))) / 2, where `erf.kernel` is the error function on arrays; "
            "the other gate is (1 + tanh(...)) / 2.",
            'if approximate == "tanh": return x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))) / 2; '
            "otherwise the same with erf.",
        ),
        (gelu_by_the_error_function, gelu_by_tanh),
        timed=on_a_million(A.gelu),
    ),
    Exercise(
        "softmax",
        FILE,
        6,
        (
            "Exponentials, divided by their sum along dim.",
            "Subtracting a number from all x of a row changes nothing in the result. Which number prevents overflow?",
            "e = np.exp(x - x.max(dim, keepdims=True)), then divide e by its sum along dim, with keepdims=True.",
        ),
        (softmax_rows_add_up_to_1, softmax_along_another_dimension, softmax_of_large_numbers),
        helpers=("_largest",),
        timed=on_a_million(A.softmax),
    ),
    Exercise(
        "log_softmax",
        FILE,
        5,
        (
            "The logarithm of a quotient is a difference of logarithms.",
            "log(exp(x) / sum(exp(x))) = x - log(sum(exp(x)))",
            "Subtract the largest number of the row from x first, then x - np.log(np.exp(x).sum(dim, keepdims=True)).",
        ),
        (log_softmax_is_the_logarithm, log_softmax_does_not_underflow),
        timed=on_a_million(A.log_softmax),
    ),
)
