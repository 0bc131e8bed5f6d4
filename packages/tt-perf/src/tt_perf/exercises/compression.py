"""The exercises of module 16, compression."""

from __future__ import annotations

from typing import Any

import numpy as np

from tt_core.course.exercises import Exercise, doubles, timing
from tt_core.course.trial import Trial
from tt_learn.autograd import Tensor
from tt_perf.compression import low_rank, pruning
from tt_perf.compression.distillation import soft_loss

PRUNING, LOW_RANK, DISTILLATION = (f"tt_perf.compression.{name}" for name in ("pruning", "low_rank", "distillation"))


# --- scores


def magnitude_forgets_the_sign(t: Trial) -> None:
    """A weight of -2 matters as much as one of 2."""
    t.call(pruning.magnitude, doubles(-2, 1, 0))
    t.call(pruning.magnitude, t.normal(2, 3), why="one score for each weight")


def wanda_multiplies_by_the_input(t: Trial) -> None:
    """A small weight at a large input may matter more than a large weight."""
    weight = doubles([3, -1], [-2, 4])
    t.call(pruning.wanda, weight, doubles([1, 10]), why="|W_ij| * ||x_j||: column j belongs to input j")
    t.call(pruning.wanda, t.normal(3, 4), np.abs(t.normal(1, 4)))
    t.call(pruning.wanda, t.normal(2, 3, 2, 2), np.abs(t.normal(2, 3, 1, 1)), why="norms broadcast to any weight")


# --- masks


def keep_best_drops_the_lowest(t: Trial) -> None:
    """Exactly `pruned` elements are False, those of the lowest scores."""
    t.call(pruning.keep_best, doubles(3, 1, 2), 1)
    t.call(pruning.keep_best, doubles(3, 1, 2), 2)
    t.call(pruning.keep_best, doubles([5, 2], [7, 1]), 2, why="the lowest of the whole array, in its shape")
    t.call(pruning.keep_best, t.normal(4, 5), 7)


def keep_best_is_exact(t: Trial) -> None:
    """Nothing pruned, everything pruned, and equal scores."""
    t.call(pruning.keep_best, doubles(3, 1, 2), 0, why="nothing is pruned")
    t.call(pruning.keep_best, doubles(3, 1, 2), 3, why="everything is")
    for scores, pruned in (((1, 1, 1, 1), 2), ((0, 0, 5, 0), 1)):
        why = "a threshold drops all elements that are equal to it; exactly `pruned` of them must go"
        t.step(f"keep_best of scores {scores}, pruned={pruned}", why)
        kept = pruning.keep_best(doubles(*scores), pruned)
        t.see(f"how many keep_best keeps of scores {scores}, pruned={pruned}", int(np.sum(kept)), why)
    t.call(pruning.keep_best, doubles(-np.inf, 3, -np.inf, 1), 3, why="what was pruned before goes first")


def keep_best_of_rows_is_fair(t: Trial) -> None:
    """Each row loses as many elements."""
    t.call(pruning.keep_best_of_rows, doubles([3, 1, 2], [70, 80, 90]), 1, why="the lowest of each row")
    t.call(pruning.keep_best_of_rows, t.normal(3, 6), 4)
    t.call(pruning.keep_best_of_rows, t.normal(2, 3, 2), 3, why="a row is everything that belongs to one output")


def keep_two_of_four(t: Trial) -> None:
    """Of each 4 neighbours in a row, the best 2 stay."""
    t.call(pruning.keep_best_of_groups, doubles([4, 1, 2, 3]), 2, 4)
    t.call(pruning.keep_best_of_groups, doubles([4, 1, 2, 3, 9, 8, 7, 6]), 2, 4, why="each group has its own best")
    t.call(pruning.keep_best_of_groups, doubles([1, 2, 3, 4], [8, 7, 6, 5]), 2, 4, why="groups lie along the inputs")


def keep_n_of_m(t: Trial) -> None:
    """Any n and m; equal scores keep exactly n."""
    t.call(pruning.keep_best_of_groups, t.normal(3, 6), 1, 3)
    t.call(pruning.keep_best_of_groups, t.normal(2, 8), 3, 8)
    why = "of equal scores, n stay and no more"
    t.step("keep_best_of_groups of zeros (2, 8), 2, 4", why)
    kept = pruning.keep_best_of_groups(np.zeros((2, 8)), 2, 4)
    t.see("how many keep_best_of_groups keeps in each group of zeros", np.reshape(kept, (4, 4)).sum(1), why)


def schedule_is_cubic(t: Trial) -> None:
    """Fast at first, slow at the end."""
    for step in (0, 1, 2, 4):
        t.call(pruning.gradual_amount, step, 0, 4, 0.8, why="final + (initial - final) * (1 - progress)^3")
    t.call(pruning.gradual_amount, 15, 10, 20, 0.9, why="progress counts from `begin`")
    t.call(pruning.gradual_amount, 15, 10, 20, 0.9, 0.5, why="at `begin`, the share is `initial`")


def schedule_ends(t: Trial) -> None:
    """Before `begin` and after `end` nothing changes."""
    t.call(pruning.gradual_amount, 3, 10, 20, 0.9, 0.1, why="progress is not below 0")
    t.call(pruning.gradual_amount, 30, 10, 20, 0.9, 0.1, why="progress is not above 1")


# --- low rank


def see_factors(t: Trial, weight: Any, rank: int, why: str) -> None:
    """Record shapes and product of the factors of a weight."""
    text = f"factors of a weight {weight.shape}, rank={rank}"
    t.step(text, why)
    up, down = low_rank.factors(weight, rank)
    t.see(f"shapes of the {text}", [list(np.shape(up)), list(np.shape(down))], "(out, rank) and (rank, in)")
    t.see(f"up @ down of the {text}", np.asarray(up) @ np.asarray(down), why)


def factors_of_low_rank(t: Trial) -> None:
    """A matrix of rank 1 is the product of a column and a row."""
    see_factors(t, np.outer([1.0, 2.0], [3.0, 4.0]), 1, "one singular value is not 0")
    see_factors(t, t.normal(5, 2, dtype=np.float64) @ t.normal(2, 4, dtype=np.float64), 2, "nothing is lost")


def factors_approximate_best(t: Trial) -> None:
    """With fewer, the largest singular values stay."""
    weight = t.normal(6, 4, dtype=np.float64)
    for rank in (1, 2, 4):
        see_factors(t, weight, rank, "the product of the first r columns, singular values and rows")
    see_factors(t, weight.T, 2, "more inputs than outputs")


def factors_are_balanced(t: Trial) -> None:
    """The root of each singular value goes to either side."""
    weight = t.normal(5, 4, dtype=np.float64) * 100
    why = "column i of up and row i of down are equally long: sqrt(S_i)"
    t.step("factors of a weight (5, 4), rank=3", why)
    up, down = low_rank.factors(weight, 3)
    t.see("lengths of the columns of up", np.sqrt(np.square(up).sum(0)), why)
    t.see("lengths of the rows of down", np.sqrt(np.square(down).sum(1)), why)


def rank_by_energy(t: Trial) -> None:
    """The fewest singular values whose squares hold the share."""
    why = "squares of singular values add up to the energy"
    for energy in (0.5, 0.63, 0.65, 0.99):
        t.call(low_rank.rank_of, doubles(4, 3, 0), energy=energy, why=why)
    t.call(low_rank.rank_of, doubles(5, 1, 1, 1), energy=0.9, why=why)
    t.call(low_rank.rank_of, doubles(2, 2, 2, 2), energy=0.75, why="three of four equal values hold exactly 0.75")


def rank_by_error(t: Trial) -> None:
    """The squared relative error is the energy that is left out."""
    why = "energy = 1 - error^2"
    for error in (0.1, 0.59, 0.61, 1.0):
        t.call(low_rank.rank_of, doubles(4, 3, 0), error=error, why=why)
    t.call(low_rank.rank_of, doubles(3, 2, 1), energy=1.0, why="never more than there are")
    t.call(low_rank.rank_of, np.sort(np.abs(t.normal(20, dtype=np.float64)))[::-1], error=0.2, why=why)


# --- distillation


def logits(array: Any, requires_grad: bool = False) -> Tensor:
    """A float32 tensor."""
    return Tensor(np.asarray(array, np.float32), requires_grad=requires_grad)


def see_loss(t: Trial, student: Any, teacher: Any, temperature: float, why: str) -> None:
    """Record the loss and the student's gradient."""
    learner = logits(student, requires_grad=True)
    text = f"soft_loss(student, teacher, {temperature}) for logits {learner.shape}"
    t.step(text, why)
    loss = soft_loss(learner, logits(teacher), temperature)
    t.see(text, loss, why)
    loss.sum().backward()
    t.see(f"gradient of {text} for the student", learner.grad, why)


def soft_loss_is_zero_for_equals(t: Trial) -> None:
    """A student that agrees with the teacher loses nothing."""
    see_loss(t, [[1, 2, 4]], [[1, 2, 4]], 2.0, "log p - log q is 0")
    see_loss(t, [[0, 1, 3]], [[1, 2, 4]], 2.0, "softmax does not notice a number that is added to all logits")


def soft_loss_is_a_divergence(t: Trial) -> None:
    """The sum over classes of p (log p - log q), where p is the teacher's."""
    why = "KL(teacher || student): the teacher's probabilities weigh the difference of logarithms"
    see_loss(t, [[0, 0, 0]], [[1, 2, 4]], 1.0, why)
    see_loss(t, [[1, 2, 4]], [[0, 0, 0]], 1.0, why)


def soft_loss_has_a_temperature(t: Trial) -> None:
    """Both logits are divided by T, and the loss is multiplied by T^2."""
    why = "divide both by T before softmax; multiply the result by T squared"
    for temperature in (2.0, 0.5, 10.0):
        see_loss(t, [[0, 0, 0]], [[1, 2, 4]], temperature, why)


def soft_loss_of_a_batch(t: Trial) -> None:
    """A sum over classes, and a mean over all else."""
    why = "divide by the number of rows, not by that of elements"
    see_loss(t, t.normal(4, 3), t.normal(4, 3), 2.0, why)
    see_loss(t, t.normal(2, 5, 3), t.normal(2, 5, 3), 2.0, "every dimension but the last counts examples")


def soft_loss_of_impossible_classes(t: Trial) -> None:
    """A class whose logit is -inf for the teacher counts for nothing, and numbers may be large."""
    why = "0 * (-inf - log q) is nan; `_without_impossible` takes such classes out"
    see_loss(t, [[1, 2, 3]], [[1, 2, -np.inf]], 2.0, why)
    see_loss(t, [[1000, 0]], [[0, 1000]], 1.0, "use log_softmax: log(softmax(x)) is -inf where the probability is 0")


EXERCISES = (
    Exercise(
        "magnitude",
        PRUNING,
        2,
        ("How far is the weight from 0?", "NumPy has absolute values.", "return np.abs(weight)"),
        (magnitude_forgets_the_sign,),
    ),
    Exercise(
        "wanda",
        PRUNING,
        2,
        (
            "What a weight adds to an output is the weight times its input.",
            "The norms broadcast to the weight.",
            "np.abs(weight) * norms",
        ),
        (wanda_multiplies_by_the_input,),
    ),
    Exercise(
        "keep_best",
        PRUNING,
        4,
        (
            "Which are the indices of the lowest scores?",
            "np.argsort, or the faster np.argpartition, of the flattened scores.",
            "Ones of dtype bool; set those at the first `pruned` indices to False; reshape to the shape of scores.",
        ),
        (keep_best_drops_the_lowest, keep_best_is_exact),
        timed=timing(pruning.keep_best, (512, 512), pruned=100_000),
    ),
    Exercise(
        "keep_best_of_rows",
        PRUNING,
        3,
        ("`keep_best` does it for one row.", "np.stack puts rows together.", "np.stack of keep_best(row, pruned)"),
        (keep_best_of_rows_is_fair,),
    ),
    Exercise(
        "keep_best_of_groups",
        PRUNING,
        5,
        (
            "A group is m neighbours of a row: reshape to (groups, m).",
            "np.argsort(-groups, axis=1)[:, :n] are the places of the best n of each group.",
            "np.put_along_axis(keep, places, True, axis=1) on an array of False; reshape to the shape of scores.",
        ),
        (keep_two_of_four, keep_n_of_m),
        timed=timing(pruning.keep_best_of_groups, (512, 512), n=2, m=4),
    ),
    Exercise(
        "gradual_amount",
        PRUNING,
        3,
        (
            "How far has the schedule come, from 0 to 1?",
            "progress = (step - begin) / (end - begin), between 0 and 1.",
            "final + (initial - final) * (1 - progress) ** 3",
        ),
        (schedule_is_cubic, schedule_ends),
    ),
    Exercise(
        "factors",
        LOW_RANK,
        5,
        (
            "Which decomposition of a matrix sorts its parts by size?",
            "u, s, vt = np.linalg.svd(weight, full_matrices=False)",
            "The first `rank` columns of u times sqrt(s), and sqrt(s) times the first rows of vt.",
        ),
        (factors_of_low_rank, factors_approximate_best, factors_are_balanced),
    ),
    Exercise(
        "rank_of",
        LOW_RANK,
        5,
        (
            "The energy of the first r is the sum of their squares.",
            "np.cumsum of the squares; find the first that reaches the share of the whole sum.",
            "With `error`, the share is 1 - error**2. np.searchsorted(kept, share * kept[-1] * (1 - 1e-12)) + 1, at "
            "most as many as there are: the small factor allows for rounding.",
        ),
        (rank_by_energy, rank_by_error),
    ),
    Exercise(
        "soft_loss",
        DISTILLATION,
        8,
        (
            "KL(p || q) = sum of p (log p - log q). Which of p and q is the teacher's?",
            "log_softmax(logits / temperature, dim=-1) gives both logarithms. The teacher gets no gradient: detach().",
            "Take impossible classes out by _without_impossible; (E.exp(log_p) * (log_p - log_q)).sum() times "
            "temperature**2, divided by the number of rows.",
        ),
        (
            soft_loss_is_zero_for_equals,
            soft_loss_is_a_divergence,
            soft_loss_has_a_temperature,
            soft_loss_of_a_batch,
            soft_loss_of_impossible_classes,
        ),
    ),
)
