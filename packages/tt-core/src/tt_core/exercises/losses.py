"""The exercises of module 04, losses."""

from __future__ import annotations

from typing import Any

import numpy as np

import tt_core as tt
from tt_core import losses as L
from tt_core.course.exercises import Exercise, timing
from tt_core.course.trial import Trial

REGRESSION, CLASSIFICATION = "tt_core.losses.regression", "tt_core.losses.classification"
BINARY, CONTRASTIVE = "tt_core.losses.binary", "tt_core.losses.contrastive"


def floats(*values: Any) -> Any:
    """A float32 tensor of the given numbers, or rows of numbers."""
    return tt.tensor(np.array(values, np.float32))


# --- distances


def squared_error_is_the_square(t: Trial) -> None:
    """The square of the difference, for each element."""
    t.call(L.squared_error, floats(1, 2), floats(0, 4))
    t.call(L.squared_error, tt.tensor(t.normal(2, 3)), tt.tensor(t.normal(2, 3)))
    t.see("mse_loss([1, 2], [0, 4])", tt.mse_loss(floats(1, 2), floats(0, 4)), why="the loss is the mean of these")


def smoothed_error_is_a_square_near_0(t: Trial) -> None:
    """A square where the distance is below beta, a straight line beyond."""
    t.call(L.smoothed_error, floats(0.5), floats(0.0), 1.0, why="d^2 / (2 beta)")
    t.call(L.smoothed_error, floats(3, -3), floats(0, 0), 1.0, why="d - beta / 2, for negative differences too")
    t.call(L.smoothed_error, tt.tensor(t.normal(4, 3)), tt.tensor(t.normal(4, 3)), 0.5)


def smoothed_error_has_no_step(t: Trial) -> None:
    """Both cases give the same where they meet."""
    t.call(L.smoothed_error, floats(1.999, 2, 2.001), floats(0, 0, 0), 2.0)


# --- cross entropy


def cross_entropy_is_the_surprise(t: Trial) -> None:
    """Minus the logarithm of the probability of the right class."""
    t.call(tt.cross_entropy, floats([0, 0]), np.array([1]), why="a probability of 1/2 costs log(2)")
    t.call(tt.cross_entropy, floats([2, 0], [0, 0]), np.array([0, 1]))
    t.call(tt.cross_entropy, tt.tensor(t.normal(4, 5)), np.array([0, 4, 2, 2]))


def cross_entropy_of_confident_models(t: Trial) -> None:
    """Large logits do not give inf or nan."""
    t.call(tt.cross_entropy, floats([1000, 0]), np.array([1]), why="log_softmax first; log(softmax(x)) is log(0)")
    t.call(tt.cross_entropy, floats([1000, 0]), np.array([0]))


def cross_entropy_counts_what_counts(t: Trial) -> None:
    """Examples of `ignore_index` do not count in the mean; weights count in it."""
    x = tt.tensor(t.normal(3, 4))
    t.call(tt.cross_entropy, x, np.array([1, -100, 2]), why="divide by the 2 that count, not by 3")
    t.call(tt.cross_entropy, x, np.array([1, 0, 2]), ignore_index=0, why="ignore_index may be a class")
    t.call(tt.cross_entropy, x, np.array([1, 0, 2]), floats(1, 2, 3, 4), why="the mean is a weighted one")
    t.call(tt.cross_entropy, x, np.array([1, 0, 2]), label_smoothing=0.1)
    t.call(tt.cross_entropy, x, np.array([1, -100, 2]), reduction="none")
    t.call(tt.cross_entropy, x, np.array([1, 0, 2]), reduction="sum")
    t.call(
        tt.cross_entropy,
        tt.tensor(t.normal(2, 3, 4)),
        np.array([[0, 1, 2, 0], [1, 1, 0, 2]]),
        why="classes are in dim 1",
    )


def cross_entropy_of_impossible_classes(t: Trial) -> None:
    """A class that has no share costs nothing, however improbable it is."""
    t.call(tt.cross_entropy, floats([0, -np.inf]), np.array([0]), why="0 * -inf is nan: leave out shares of 0")


# --- binary cross entropy


def binary_cross_entropy_of_probabilities(t: Trial) -> None:
    """-(t log x + (1 - t) log(1 - x))."""
    t.call(tt.binary_cross_entropy, floats(0.9, 0.2), floats(1, 0))
    t.call(tt.binary_cross_entropy, floats(0.5, 0.3), floats(0.5, 1))


def binary_cross_entropy_at_0_and_1(t: Trial) -> None:
    """Logarithms are limited to -100, so certainty that is wrong has a finite price."""
    t.call(tt.binary_cross_entropy, floats(0, 1), floats(1, 0), why="np.maximum(log, -100)")
    t.call(tt.binary_cross_entropy, floats(0, 1), floats(0, 1), why="0 * log(0) must be 0")
    rare = "binary_cross_entropy([1e-8], [0])"
    t.show(rare, lambda: tt.binary_cross_entropy(floats(1e-8), floats(0)), "log1p(-x) keeps what log(1 - x) loses",
           atol=0)  # fmt: skip
    t.call(tt.binary_cross_entropy, floats(0.9, 0.2), floats(1, 0), floats(1, 3), reduction="none")
    t.call(tt.binary_cross_entropy, floats(0.9, 0.2), floats(1, 0), reduction="sum")


# --- contrastive losses


def similar_pairs_are_pulled(t: Trial) -> None:
    """For similar pairs (t = 0), half of the squared distance."""
    t.call(L.pulled_or_pushed, floats(25, 0.25), floats(0, 0), 1.0)


def other_pairs_are_pushed(t: Trial) -> None:
    """For other pairs (t = 1), half of the square of what is missing to the margin."""
    t.call(L.pulled_or_pushed, floats(0.25), floats(1), 1.0, why="D = 0.5, and 1 - D is missing")
    t.call(L.pulled_or_pushed, floats(25), floats(1), 1.0, why="nothing is missing beyond it: max(0, margin - D)")
    t.call(L.pulled_or_pushed, floats(4, 1, 0.04), floats(1, 0, 1), 3.0)


def similarities_are_cosines(t: Trial) -> None:
    """1 for the same direction, 0 for a right angle, -1 for the opposite, whatever the lengths."""
    t.call(L.similarities, floats([2, 0]), floats([1, 0], [0, 3], [-1, 0]))
    t.call(L.similarities, tt.tensor(t.normal(3, 4)), tt.tensor(t.normal(2, 4)), why="(N, D) and (M, D) give (N, M)")


EXERCISES = (
    Exercise(
        "squared_error",
        REGRESSION,
        2,
        (
            "A difference, multiplied by itself.",
            "Use the ops of module 01, `E.sub` and `E.mul`, so that Act II can differentiate them.",
            "difference = E.sub(x, t); return E.mul(difference, difference)",
        ),
        (squared_error_is_the_square,),
    ),
    Exercise(
        "smoothed_error",
        REGRESSION,
        5,
        (
            "A far outlier should not weigh with its square. What is the distance, and which part of it is near?",
            "With near = minimum(d, beta), one formula covers both cases.",
            "near * (d - near / 2) / beta: try it for d < beta, where near is d, and for d > beta, where near is beta.",
        ),
        (smoothed_error_is_a_square_near_0, smoothed_error_has_no_step),
    ),
    Exercise(
        "cross_entropy",
        CLASSIFICATION,
        8,
        (
            "Logarithms of probabilities first, along the dimension of the classes; then pick what counts.",
            "`log_softmax.formula` gives the logarithms, `class_shares` how much each class of each example counts.",
            "loss = -np.where(shares == 0, 0, shares * logs).sum(-1), with the classes moved to the end of logs; "
            "the mean divides by counted.sum().",
        ),
        (
            cross_entropy_is_the_surprise,
            cross_entropy_of_confident_models,
            cross_entropy_counts_what_counts,
            cross_entropy_of_impossible_classes,
        ),
        timed=timing(tt.cross_entropy, (512, 512), np.arange(512)),
    ),
    Exercise(
        "binary_cross_entropy",
        BINARY,
        5,
        (
            "One logarithm for yes, one for no, weighted by the target.",
            "np.log1p(-x) is log(1 - x). Both logarithms are limited with np.maximum(..., -100).",
            "x, t = _floats_of(input, target); (t - 1) * log(1 - x) - t * log(x), both limited; weight and reduction.",
        ),
        (binary_cross_entropy_of_probabilities, binary_cross_entropy_at_0_and_1),
    ),
    Exercise(
        "pulled_or_pushed",
        CONTRASTIVE,
        4,
        (
            "Two parts: one counts where t is 0, the other where t is 1.",
            "`_root` takes the square root in a way that has a gradient at 0; E.clip(..., min=0.0) is max(0, ...).",
            "short = E.clip(margin - _root(squared, _TINY), min=0.0); half of (1 - t) * squared + t * short * short",
        ),
        (similar_pairs_are_pulled, other_pairs_are_pushed),
    ),
    Exercise(
        "similarities",
        CONTRASTIVE,
        3,
        (
            "The cosine of an angle is the product of two vectors of length 1.",
            "`_unit` scales each row to length 1.",
            "return _unit(query) @ _unit(key).T",
        ),
        (similarities_are_cosines,),
    ),
)
