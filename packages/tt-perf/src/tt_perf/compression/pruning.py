"""Part of module 16: pruning by masks. Weights of little effect become zero and stay zero.

    score     |W| (Han et al. 2015), random, or |W_ij| ||x_j|| of calibration inputs (Wanda, Sun et al. 2023)
    mask      1 for the best scores of the whole model, each layer or each row, or for N of each M neighbours in a row
    W <- W * mask, once now and again after each step of an optimizer

**A mask saves neither bytes nor time**: zeros in a dense array are numbers like any others, and `prune_` says so. It
shows how little of a network is needed; removing it is what `shrinking.py` does. Amounts are always shares of the
original weights, so a schedule that ends at 30 % leaves 70 % of them. A mask is the buffer `weight_mask` beside its
parameter, so it is saved, loaded and copied with the model (`masks.py`). `gradual.py` prunes during training.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from tt_core.engine.arguments import checked, explained
from tt_core.engine.dispatch import Array
from tt_core.layers import Layer
from tt_core.random import generator
from tt_perf.compression.amounts import check_grows, check_options, count_of, grown
from tt_perf.compression.input_norms import for_weight, input_norms
from tt_perf.compression.masks import Filter, Weight, prunable, set_mask
from tt_perf.compression.reports import CompressionError, Report, cost

DENSE = "bytes and time unchanged: zeros in a dense array"


# --- scores: the weights with the lowest are pruned first


def magnitude(weight: Array) -> Array:
    """The absolute values (Han et al. 2015, arXiv:1506.02626).

    >>> magnitude(np.array([-2.0, 1.0]))
    array([2., 1.])
    """
    return np.abs(weight)


def wanda(weight: Array, norms: Array) -> Array:
    """|W_ij| * ||x_j||: a weight matters as much as what it is multiplied by (Sun et al. 2023, arXiv:2306.11695).

    `norms` broadcasts to `weight`: (1, in) for a weight (out, in).

    >>> wanda(np.array([[3.0, 1.0]]), np.array([[1.0, 10.0]]))
    array([[ 3., 10.]])
    """
    return np.abs(weight) * norms  # (out, in) * (1, in)


# --- masks


def keep_best(scores: Array, pruned: int) -> Array:
    """False for exactly `pruned` elements, those with the lowest scores; True for all others.

    >>> keep_best(np.array([3.0, 1.0, 2.0]), 1)
    array([ True, False,  True])
    """
    keep = np.ones(scores.size, bool)
    if pruned:
        keep[np.argpartition(scores.reshape(-1), pruned - 1)[:pruned]] = False
    return keep.reshape(scores.shape)


def keep_best_of_rows(scores: Array, pruned: int) -> Array:
    """False for the `pruned` elements with the lowest scores in each row of (out, ...); True for all others.

    >>> keep_best_of_rows(np.array([[3.0, 1.0, 2.0], [7.0, 8.0, 9.0]]), 1)
    array([[ True, False,  True],
           [False,  True,  True]])
    """
    return np.stack([keep_best(row, pruned) for row in scores])


def keep_best_of_groups(scores: Array, n: int, m: int) -> Array:
    """The best `n` of each `m` neighbours along the inputs, (out, in) (2:4 in Mishra et al. 2021, arXiv:2104.08378).

    >>> keep_best_of_groups(np.array([[4.0, 1.0, 2.0, 3.0]]), 2, 4)
    array([[ True, False, False,  True]])
    """
    groups = scores.reshape(-1, m)
    keep = np.zeros(groups.shape, bool)
    np.put_along_axis(keep, np.argsort(-groups, axis=1, kind="stable")[:, :n], True, axis=1)
    return keep.reshape(scores.shape)


# --- the pruner


@explained
@checked
def prune_(
    model: Layer,
    amount: float | int | None = None,
    *,
    method: str = "magnitude",
    scope: str | None = None,
    pattern: tuple[int, int] | None = None,
    calibration: Iterable[Any] | None = None,
    filter_fn: Filter | None = None,
    example: Any = None,
) -> Report:
    """Set weights of `model` to zero, keep them zero while it is trained on, and report what that changed.

    amount: share of the original weights (a float below 1), or their number (an integer), pruned earlier ones included.
    method: "magnitude", "random" or "wanda", which needs `calibration`, an iterable of the model's inputs.
    scope: "global" compares all weights with each other, "layer" prunes the same share of each layer, "row" of each
        row, that is output. By default "row" for Wanda, whose scores are made for that, and "global" otherwise.
    pattern: (n, m) in place of an amount: the best n of each m neighbours in a row are kept, such as (2, 4).
    filter_fn: which layers, by `(layer, path)`; all Linear and convolution layers by default. A weight that other
        layers share is left alone.
    example: an input, or a tuple of them, on which FLOPs and time are measured.

    Raises `CompressionError` where a layer would be emptied, and where a mask would have to give weights back.

    >>> import tt_core
    >>> model = tt_core.Linear(4, 2, bias=False)
    >>> report = prune_(model, 0.5)
    >>> report.sparsity, report.bytes_ratio, report.notes[0]
    (0.5, 1.0, 'bytes and time unchanged: zeros in a dense array')
    """
    before = cost(model, example)  # measured, not assumed: the report shows that a mask saves neither bytes nor time
    masks = prune_weights(model, amount, method, scope, pattern, calibration, filter_fn)
    after = cost(model, example)
    rows = tuple(f"{path}: {np.mean(~mask):.1%} of {mask.size:,} are zero" for path, mask in masks.items())
    return Report(f"prune_: {method}", before, after, rows, (DENSE, f"masks take {after.mask_bytes:,} bytes more"))


def prune_weights(
    model: Layer,
    amount: float | int | None = None,
    method: str = "magnitude",
    scope: str | None = None,
    pattern: tuple[int, int] | None = None,
    calibration: Iterable[Any] | None = None,
    filter_fn: Filter | None = None,
) -> dict[str, Array]:
    """Score, choose and apply: the new masks by the names of their weights."""
    weights = prunable(model, filter_fn)
    scope = scope if scope is not None else "row" if method == "wanda" else "global"
    check_options(amount, method, scope, pattern, calibration)
    scores = [_with_earlier(w, s) for w, s in zip(weights, _scores(model, weights, method, calibration))]
    if pattern is not None:
        masks = [_pattern_mask(w, s, *pattern) for w, s in zip(weights, scores)]
    else:
        masks = _amount_masks(weights, scores, amount, scope)
    for weight, mask in zip(weights, masks):  # all are checked before the first weight changes
        if not mask.any():
            raise CompressionError(
                f"prune_: {weight.path} would be left empty; prune less, or leave it out by filter_fn"
            )
    for weight, mask in zip(weights, masks):
        set_mask(weight.layer, weight.name, mask)
    return {weight.path: mask for weight, mask in zip(weights, masks)}


def _scores(model: Layer, weights: list[Weight], method: str, calibration: Any) -> list[Array]:
    if method == "random":  # the baseline that a method has to beat
        return [generator().random(w.tensor.shape) for w in weights]
    if method == "magnitude":
        return [magnitude(w.tensor.data) for w in weights]
    # rows compete among themselves: a feature with large inputs is needed whatever its weights are (Sun et al. 2023)
    norms = input_norms(model, weights, calibration)
    return [wanda(w.tensor.data, for_weight(w.layer, norms[id(w.layer)])) for w in weights]


def _with_earlier(weight: Weight, scores: Array) -> Array:
    """Gives the lowest score to pruned weights, so that amounts are shares of the original."""
    return scores if weight.mask is None else np.where(weight.mask, scores, -np.inf)


def _amount_masks(weights: list[Weight], scores: list[Array], amount: Any, scope: str) -> list[Array]:
    if scope == "row":
        return [_row_mask(w, s, amount) for w, s in zip(weights, scores)]
    if scope == "layer":
        return [keep_best(s, grown(amount, [w])) for w, s in zip(weights, scores)]
    # one ranking over all layers: a layer that matters little may lose most of its weights
    together = np.concatenate([s.reshape(-1) for s in scores])
    keep, ends = keep_best(together, grown(amount, weights)), np.cumsum([s.size for s in scores])
    return [part.reshape(s.shape) for part, s in zip(np.split(keep, ends[:-1]), scores)]


def _row_mask(weight: Weight, scores: Array, amount: Any) -> Array:
    keep = keep_best_of_rows(scores, count_of(amount, scores[0].size, f"prune_: a row of {weight.path}"))
    check_grows(weight, keep)
    return keep


def _pattern_mask(weight: Weight, scores: Array, n: int, m: int) -> Array:
    if scores[0].size % m:
        raise CompressionError(f"prune_: {weight.path} has rows of {scores[0].size}, which {m} does not divide")
    keep = keep_best_of_groups(scores, n, m)
    check_grows(weight, keep)
    return keep


# --- schedules


def gradual_amount(step: int, begin: int, end: int, final: float, initial: float = 0.0) -> float:
    """Share of the original that is pruned at a step: fast at first, when much is redundant, then slowly.

    final + (initial - final) (1 - (step - begin) / (end - begin))^3 (Zhu and Gupta 2017, arXiv:1710.01878).

    >>> [round(gradual_amount(step, 0, 4, 0.8), 3) for step in range(6)]
    [0.0, 0.463, 0.7, 0.788, 0.8, 0.8]
    """
    progress = min(max((step - begin) / (end - begin), 0.0), 1.0)
    return final + (initial - final) * (1 - progress) ** 3
