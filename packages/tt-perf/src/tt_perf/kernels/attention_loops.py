"""Beside module 18: attention as loops over heads and blocks of queries, written to be compiled, as `loops.py` is.

One call goes through all steps of its heads: scores, mask, softmax, product with the values. The scores of a block stay
in the cache of the core between these steps, and nothing returns to Python in between. In causal attention, a block
multiplies with the keys up to its end alone. Products are done by tiles, or by BLAS where vectors are short.

Arrays are float32 in the five dimensions of `tt_language.kernels.attention`, q (B, H, G, T, D) with H key-value heads
that G query heads share, k (B, H, 1, S, D) and v (B, H, 1, S, E). Heads lie where the projection put them, and only
features must be contiguous. `attend` and `attend_backward` return False, and no results, if a number is not finite.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tt_core.engine.dispatch import Array
from tt_perf.acceleration.blas import Blas, gemm
from tt_perf.acceleration.loops import ONE, ZERO, Number, exp_below_0, total_of
from tt_perf.kernels.arrays import In2, Out2, StridedBytes5, StridedIn5, StridedOut5, any_order
from tt_perf.kernels.atomics import atomics
from tt_perf.kernels.product_loops import strided_product, tools
from tt_perf.kernels.tiles import LANES
from tt_perf.kernels.views import line

BLOCK = 64
"""Queries in a block: 32 are no faster, and more compute scores that no query may see."""
WIDE = 32
"""Rows of scores have a multiple of this length: what is left over after whole vectors goes number by number."""
_HIDDEN = Number(-np.inf)  # a score that no query may see; its exponential is 0
_BOUND = Number(44)  # scores up to this need no maximum: sums of their exponentials stay in float32
_INFINITE = Number(np.inf)

matrix_at = atomics()["matrix_at"]


def seen_keys(end: int, keys: int, causal: bool, offset: int) -> int:
    """How many keys a block of queries sees that ends before query `end`."""
    return min(keys, max(0, end + offset)) if causal else keys


def widened(count: int) -> int:
    """Rounded up to a multiple of WIDE."""
    return (count + WIDE - 1) // WIDE * WIDE


def weights_of_head(queries: int, keys: int, causal: bool, offset: int) -> int:
    """Numbers that the weights of a head take, all blocks one after the other, rows padded to whole vectors."""
    total = 0
    for start in range(0, queries, BLOCK):
        end = min(start + BLOCK, queries)
        total += (end - start) * widened(seen_keys(end, keys, causal, offset))
    return total


# --- rows: sums and maxima stand apart, because they may be computed in any order


@any_order
def product_of(x: Array, y: Array) -> Number:
    """The sum of the products of two rows."""
    total = ZERO
    for i in range(x.size):
        total += x[i] * y[i]
    return total


@any_order
def is_finite(x: Array) -> bool:
    """Whether all numbers of a row are finite: 0 times infinity or nan is nan."""
    total = ZERO
    for i in range(x.size):
        total += x[i] * ZERO
    return total == ZERO


def order_of_largest(x: Array) -> Any:
    """The largest number of a row, as an integer that keeps the order of floats; maxima of integers are vectorized.

    The bits of positive floats are in order already; those of negative ones are reversed. nan is above infinity.
    """
    bits = x.view(np.int32)
    largest = np.int32(-(2**31))
    for i in range(bits.size):
        key = np.int32(bits[i] ^ ((bits[i] >> np.int32(31)) & np.int32(0x7FFFFFFF)))
        largest = max(largest, key)
    return largest


def largest_of(x: Array) -> Number:
    """The largest number of a row."""
    key = np.int32(order_of_largest(x))
    return np.int32(key ^ ((key >> np.int32(31)) & np.int32(0x7FFFFFFF))).view(np.float32)


def longest_of(x: Array) -> Number:
    """The largest squared length of the rows of a matrix; infinite or nan if a number is not finite."""
    longest = ZERO
    for i in range(x.shape[0]):
        row = line(x, i)
        length = product_of(row, row)
        if not length <= longest:
            longest = length
        if length != length:
            break
    return longest


def scale_row(row: Array, factor: Number) -> None:
    """`row *= factor`."""
    for j in range(row.size):
        row[j] *= factor


def subtract(row: Array, number: Number) -> None:
    """`row -= number`."""
    for j in range(row.size):
        row[j] -= number


def add_row(row: Array, other: Array) -> None:
    """`row += other`, where the other may have any stride."""
    for j in range(row.size):
        row[j] += other[j]


def exponentials(x: Array) -> None:
    """`exp(x)` in place."""
    for i in range(x.size):
        x[i] = exp_below_0(x[i])


# --- blocks


def times(blas: Blas, a: Array, b: Array, out: Array, scale: Number, adds: bool, given: Any) -> None:
    """`out = scale a b`, or `out += scale a b`: by tiles where vectors have 512 bits, else by BLAS.

    BLAS spends much of its time on copying matrices as small as those of a head. With tiles, forward takes 0.55 to 0.68
    of the time and backward 0.52 to 0.57, for 32 to 64 features and 64 to 1024 tokens.
    """
    if LANES == 16:  # of one type whatever may be written to, or it would be compiled several times
        left = matrix_at(a.ctypes.data, a.shape[0], a.shape[1], a.strides[0] // 4, a.strides[1] // 4)
        right = matrix_at(b.ctypes.data, b.shape[0], b.shape[1], b.strides[0] // 4, b.strides[1] // 4)
        strided_product(left, right, out, scale, adds, given)
    else:
        gemm(blas, a, b, out, scale, ONE if adds else ZERO)


def hide(scores: Array, first: int, seen: int, causal: bool, offset: int) -> None:
    """Hides what queries from `first` on may not see, and the columns from `seen` on, which fill up vectors."""
    for i in range(scores.shape[0]):
        line(scores, i)[min(seen, max(0, first + i + 1 + offset)) if causal else seen :] = _HIDDEN


def weigh(scores: Array, bounded: Any, lse: Array) -> bool:
    """Softmax of each row in place; `lse` becomes log(sum(exp(score))), and 0 where a query sees nothing.

    Exponentials are computed for the whole block at once, hidden scores included: starting a loop for each row takes
    longer. False if a score is infinite or nan.
    """
    if not bounded:
        for i in range(scores.shape[0]):
            peak = largest_of(line(scores, i))
            lse[i] = ZERO if peak == _HIDDEN else peak  # a mask may hide all
            subtract(line(scores, i), lse[i])
    exponentials(scores.reshape(-1))
    finite: Any = True
    for i in range(scores.shape[0]):
        row = line(scores, i)
        total, peak = total_of(row), ZERO if bounded else lse[i]
        finite &= total + peak < _INFINITE
        if total > ZERO:
            scale_row(row, ONE / total)
            lse[i] = np.log(total) + peak
        else:
            lse[i] = ZERO
    return finite


def scores_of(
    blas: Blas, q: Array, k: Array, mask: Array, masked: bool, start: int, seen: int, scale: Number, scores: Array,
    given: Any,
) -> None:  # fmt: skip
    """`scale q k^T + mask` for a block of queries and the first `seen` keys."""
    times(blas, q, k[:seen].T, scores[:, :seen], scale, False, given)
    if masked:
        for i in range(scores.shape[0]):
            add_row(scores[i, :seen], mask[start + i, :seen])


def attend(
    blas: Blas, q: StridedIn5, k: StridedIn5, v: StridedIn5, mask: StridedIn5, masked: bool, hides: bool, scale: Number,
    causal: bool, offset: int, dropped: StridedBytes5, factor: Number, out: StridedOut5, lse: Out2, kept: Out2,
    keeps: bool, first: int, last: int,
) -> bool:  # fmt: skip
    """`softmax(scale q k^T + mask) v` for key-value heads `first` to `last` of all B * H.

    `mask` (B, H, G, T, S) is added if `masked`; `hides` says that it holds nothing but 0 and minus infinity. `kept`
    (B * H * G, n) receives the weights if `keeps`, with n of `weights_of_head`. `lse` is (B * H * G, T). If the factor
    is above 0, weights are dropped where `dropped` (B, H, G, S, T) is 1, and the others multiplied by it.
    """
    _, heads, groups, queries, _ = q.shape
    keys = k.shape[3]
    room = np.empty(0 if keeps else min(BLOCK, queries) * widened(keys), np.float32)
    spare = np.empty(min(BLOCK, queries) * widened(keys) if factor > ZERO else 0, np.float32)
    given = tools()
    for pair in range(first, last):
        b, h = pair // heads, pair % heads
        longest = longest_of(k[b, h, 0]) * scale * scale
        for group in range(groups):
            n = pair * groups + group
            bound = longest_of(q[b, h, group]) * longest
            if not np.isfinite(bound):
                return False
            bounded = bound < _BOUND * _BOUND and (hides or not masked)
            at = 0
            for start in range(0, queries, BLOCK):
                end = min(start + BLOCK, queries)
                seen = seen_keys(end, keys, causal, offset)
                size = (end - start) * widened(seen)
                place = kept[n, at : at + size] if keeps else room[:size]
                at += size
                result = out[b, h, group, start:end]
                if seen == 0:
                    result[:] = ZERO
                    lse[n, start:end] = ZERO
                    continue
                scores = place.reshape(end - start, widened(seen))
                scores_of(
                    blas, q[b, h, group, start:end], k[b, h, 0], mask[b, h, group], masked, start, seen, scale, scores,
                    given,
                )  # fmt: skip
                hide(scores, start, seen, causal, offset)
                if not weigh(scores, bounded, lse[n, start:end]):
                    return False
                used = scores
                if factor > ZERO:
                    used = spare[:size].reshape(end - start, widened(seen))
                    for i in range(end - start):
                        drop_row(line(scores, i), dropped[b, h, group, :seen, start + i], factor, line(used, i))
                times(blas, used[:, :seen], v[b, h, 0, :seen], result, ONE, False, given)
                for i in range(end - start):
                    if not is_finite(line(result, i)):
                        return False
    return True


def weigh_again(scores: Array, lse: Array) -> None:
    """`exp(score - lse)` in place: the weights that forward did not keep."""
    for i in range(scores.shape[0]):
        subtract(line(scores, i), lse[i])
    exponentials(scores.reshape(-1))


def drop_row(weights: Array, dropped: Array, factor: Number, used: Array) -> None:
    """`used = factor weights`, 0 where dropped; there, the weights change their sign, which tells backward."""
    for j in range(dropped.size):
        used[j] = ZERO if dropped[j] else factor * weights[j]
        weights[j] = -weights[j] if dropped[j] else weights[j]


def used_row(weights: Array, factor: Number, used: Array) -> None:
    """What `drop_row` used, from the weights that it left."""
    for j in range(weights.size):
        used[j] = max(weights[j], ZERO) * factor


def slope_of_dropped_row(slope: Array, weights: Array, share: Number, scale: Number, factor: Number) -> None:
    """`slope_of_row` for weights that `drop_row` left."""
    for j in range(slope.size):
        passed = slope[j] * factor if weights[j] > ZERO else ZERO
        slope[j] = abs(weights[j]) * (passed - share) * scale


def slope_of_row(slope: Array, weights: Array, share: Number, scale: Number) -> None:
    """`scale w (a - sum(w a))` in place, for the gradient a of the weights and its mean, the share."""
    for j in range(slope.size):
        slope[j] = weights[j] * (slope[j] - share) * scale


def attend_backward(
    blas: Blas, g: StridedIn5, q: StridedIn5, k: StridedIn5, v: StridedIn5, out: StridedIn5, mask: StridedIn5,
    masked: bool, scale: Number, causal: bool, offset: int, factor: Number, lse: In2, kept: Out2, keeps: bool,
    dq: StridedOut5, dk: StridedOut5, dv: StridedOut5, first: int, last: int,
) -> bool:  # fmt: skip
    """Gradients for q, k and v; the last block comes first, because it writes all keys that the others add to."""
    _, heads, groups, queries, _ = q.shape
    keys = k.shape[3]
    half = min(BLOCK, queries) * widened(keys)
    slopes, room = np.empty(half, np.float32), np.empty(0 if keeps and factor == ZERO else half, np.float32)
    given = tools()
    for pair in range(first, last):
        b, h = pair // heads, pair % heads
        adds = False  # whether the gradients of keys and values are added to, or written
        most = seen_keys(queries, keys, causal, offset)
        dk[b, h, 0, most:] = ZERO
        dv[b, h, 0, most:] = ZERO
        for group in range(groups):
            n = pair * groups + group
            at = weights_of_head(queries, keys, causal, offset)
            for block in range((queries + BLOCK - 1) // BLOCK):
                start = ((queries - 1) // BLOCK - block) * BLOCK
                end = min(start + BLOCK, queries)
                seen = seen_keys(end, keys, causal, offset)
                wide = widened(seen)
                size = (end - start) * wide
                at -= size
                if seen == 0:
                    dq[b, h, group, start:end] = ZERO
                    continue
                queried, upstream = q[b, h, group, start:end], g[b, h, group, start:end]
                result = out[b, h, group, start:end]
                if keeps:
                    weights = kept[n, at : at + size].reshape(end - start, wide)
                else:
                    weights = room[:size].reshape(end - start, wide)
                    scores_of(blas, queried, k[b, h, 0], mask[b, h, group], masked, start, seen, scale, weights, given)
                    hide(weights, start, seen, causal, offset)
                    weigh_again(weights, lse[n, start:end])
                slope = slopes[:size].reshape(end - start, wide)
                used = weights
                if factor > ZERO:
                    used = room[:size].reshape(end - start, wide)
                    for i in range(end - start):
                        used_row(line(weights, i), factor, line(used, i))
                times(blas, used[:, :seen].T, upstream, dv[b, h, 0, :seen], ONE, adds, given)
                times(blas, upstream, v[b, h, 0, :seen].T, slope[:, :seen], ONE, False, given)
                for i in range(end - start):
                    share = product_of(line(upstream, i), line(result, i))
                    if not np.isfinite(share):
                        return False
                    if factor > ZERO:
                        slope_of_dropped_row(line(slope, i), line(weights, i), share, scale, factor)
                    else:
                        slope_of_row(line(slope, i), line(weights, i), share, scale)
                times(blas, slope[:, :seen], k[b, h, 0, :seen], dq[b, h, group, start:end], ONE, False, given)
                times(blas, slope[:, :seen].T, queried, dk[b, h, 0, :seen], ONE, adds, given)
                adds = True
    return True
