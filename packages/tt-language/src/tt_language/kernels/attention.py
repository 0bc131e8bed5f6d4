"""Tuned kernels of `tt_language.attention`: softmax(q k^T) v and its gradients, a block of queries at a time.

The whole (T, S) matrix of weights never exists for long texts (the memory argument of Dao et al. 2022,
arXiv:2205.14135). Short texts keep their weights for backward, long ones compute them again.

Inside, arrays have five dimensions: q (B, H, G, T, D) with H key-value heads that G query heads share, k and v
(B, H, 1, S, D). Scores are laid out keys first, (B, H, G, S, T): maxima and sums over keys then run along the rows of
memory, which is 3 times as fast in NumPy. The per-query offsets of softmax and of its gradient are folded into the
matrix products as an extra column.

Heads stay where the projection put them: NumPy's batched product is as fast on strided heads as on packed ones, and
faster than a Python loop over heads (64 x 64 x 32: 0.23 against 0.31 ms; 256 x 256 x 64: 1.7 against 1.8 ms).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from tt_core.engine.dispatch import Array, tuned
from tt_core.engine.heap import address_of
from tt_core.engine.threads import in_parallel
from tt_core.kernels.products import product
from tt_core.random import generator
from tt_language import attention as A

if TYPE_CHECKING:
    from tt_core.engine.hints import DTypeLike

KEPT = 256 * 256
"""The most scores per head for which forward keeps the weights; beyond, backward recomputes them."""
_ONE = 128 * 128
"""The most scores per head for which all queries are one block."""
_FEW = 4
"""The most queries for which the formula is faster than blocks."""
_TILE = 1 << 19
"""Scores worked on at a time, so that they stay in the second-level cache. Threads over rows gained nothing: BLAS
runs one product at a time, and two threads of small products waited for each other."""
_STEP = (16, 64)
"""Fewest and most queries in a block: fewer make products slow, more compute scores that no query may see."""

# --- the kernels


@tuned(A.scaled_dot_product_attention, residuals=("seed", "lse", "kept", "exact"))
def scaled_dot_product_attention(
    query: Array,
    key: Array,
    value: Array,
    attn_mask: Array | None = None,
    /,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
    causal_offset: int = 0,
) -> tuple[Any, ...]:
    """In blocks of queries, softmax in place: 0.3 of the time on (12, 4, 64, 32) and (1, 4, 1024, 64), causal.

    For up to 4 queries, preparing blocks takes longer than the formula (25 in place of 40 us for one query, 6 heads and
    64 keys; 120 in place of 220 for 12 heads and 1024 keys), so the formula runs, and backward computes the weights.

    Residuals: the dropout seed, log(sum(exp(score))) of each query, the weights where they are kept, and the result
    before it was rounded to float16: with the rounded one, the gradients of peaked scores are off by 4 %.
    """
    if query.shape[-2] <= _FEW and not (enable_gqa or dropout_p) and query.dtype != np.float16:
        options = (dropout_p, is_causal, scale, enable_gqa, causal_offset)
        result, seed_of_dropout = A.scaled_dot_product_attention.formula(query, key, value, attn_mask, *options)
        return result, seed_of_dropout, None, None, result[:0]
    seed = int(generator().integers(1 << 62)) if dropout_p else 0
    problem = Problem.of(query, key, value, attn_mask, scale, enable_gqa, (dropout_p, is_causal, causal_offset, seed))
    out, lse, kept = attend(problem)
    exact = problem.outside(out)
    if max(query.ndim, key.ndim, value.ndim) == 2:
        exact = exact[0]
    if exact.dtype == query.dtype:
        return exact, np.asarray(seed), lse, kept, exact[:0]
    return exact.astype(query.dtype), np.asarray(seed), lse, kept, exact


@tuned(A.scaled_dot_product_attention_backward)
def scaled_dot_product_attention_backward(
    g: Array,
    query: Array,
    key: Array,
    value: Array,
    out: Array,
    lse: Array | None = None,
    kept: Array | None = None,
    seed: Array | None = None,
    attn_mask: Array | None = None,
    /,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
    causal_offset: int = 0,
    mask_gradient: bool = False,
) -> tuple[Array, ...]:
    """In blocks, with the weights that forward kept: 0.25 of the time on (12, 4, 64, 32), 0.4 on (1, 4, 1024, 64)."""
    options = (dropout_p, is_causal, causal_offset, 0 if seed is None else int(seed))
    problem = Problem.of(query, key, value, attn_mask, scale, enable_gqa, options)
    if lse is None or kept is None or kept.ndim != 1:  # of another kernel's forward
        exact, lse, kept = attend(problem)
    else:
        exact = problem.inside(out)
    dq, dk, dv, dmask = attend_backward(problem, problem.inside(g), exact, lse, kept, mask_gradient)
    mask_part = np.empty(0, dq.dtype)
    if dmask is not None and attn_mask is not None:
        mask_part = A.sum_to_shape(problem.outside(dmask), attn_mask.shape)
    gradients = [problem.outside(x) for x in (dq, dk, dv)]
    if max(query.ndim, key.ndim, value.ndim) == 2:
        gradients = [x[0] for x in gradients]
    return (*gradients, mask_part)


@tuned(A.join_heads)
def join_heads(*parts: Array) -> Array:
    """Returns the memory in which the parts lie side by side, where they do; else the same time as the formula.

    Gradients of attention do, so the gradient of the projection to queries, keys and values is never copied.
    """
    whole = _side_by_side(parts) if len(parts) > 1 else None
    return A.join_heads.formula(*parts) if whole is None else whole


def _side_by_side(parts: tuple[Array, ...]) -> Array | None:
    """The array whose heads the parts are, all and in order; None if there is none."""
    first, base = parts[0], parts[0].base
    if not isinstance(base, np.ndarray) or first.ndim < 3 or any(x.base is not base for x in parts):
        return None
    heads, (*lead, _, length, size) = sum(x.shape[-3] for x in parts), first.shape
    shape = (*lead, length, heads, size)
    if base.dtype != first.dtype or base.size != math.prod(shape) or not base.flags.c_contiguous:
        return None
    whole, at = base.reshape(shape), 0
    for x in parts:
        expected = whole[..., at : at + x.shape[-3], :].swapaxes(-2, -3)
        at += x.shape[-3]
        if (x.shape, x.strides) != (expected.shape, expected.strides) or address_of(x) != address_of(expected):
            return None
    return whole.reshape(*lead, length, heads * size)


# --- one call, and its blocks


class Block(NamedTuple):
    """Some rows of the batch, some queries, and the keys that these can see."""

    rows: slice
    queries: slice
    keys: slice

    def shape_of(self, q: Array) -> tuple[int, ...]:
        """The shape of its scores, (B, H, G, S, T)."""
        rows, queries = self.rows.stop - self.rows.start, self.queries.stop - self.queries.start
        return rows, q.shape[1], q.shape[2], self.keys.stop, queries

    def of_queries(self, x: Array) -> Array:
        """The part of (B, H, G, T, n)."""
        return x[self.rows, :, :, self.queries]

    def of_keys(self, x: Array) -> Array:
        """The part of (B, H, G, S, n)."""
        return x[self.rows, :, :, self.keys]

    def of_lse(self, x: Array) -> Array:
        """The part of (B, H, G, 1, T)."""
        return x[self.rows, ..., self.queries]

    def of_mask(self, mask: Array) -> Array:
        """The part of (B or 1, H or 1, G or 1, T, S)."""
        return mask[self.rows if mask.shape[0] > 1 else slice(None)][..., self.queries, self.keys]


class Problem(NamedTuple):
    """One call: the arrays in five dimensions, and the options."""

    q: Array
    k: Array
    v: Array
    mask: Array | None
    scale: float
    dropout_p: float
    is_causal: bool
    offset: int
    """In causal attention, query i sees keys 0 to i + offset."""
    seed: int
    lead: tuple[int, ...]
    """The dimensions before heads, of which B is the product."""

    @classmethod
    def of(
        cls,
        query: Array,
        key: Array,
        value: Array,
        attn_mask: Array | None,
        scale: float | None,
        enable_gqa: bool,
        options: tuple[float, bool, int, int],
    ) -> Problem:
        """The call in five dimensions, float16 as float32. The check of the op has refused what does not fit."""
        scale = A.scale_of(query, scale)
        if query.dtype == np.float16:  # float16 overflows above 65504 and cannot represent 2049
            query, key, value = (x.astype(np.float32) for x in (query, key, value))
        query, key, value = (x if x.ndim > 2 else x[None] for x in (query, key, value))
        *batches, heads = _common_shape(query, key, value, enable_gqa)
        lead = tuple(batches)
        shared = key.shape[-3] if enable_gqa else heads
        batch, groups = math.prod(lead), heads // max(shared, 1)
        # (*lead, heads, T, D) -> (B, H, G, T, D), and keys and values (B, H, 1, S, D or E)
        q = _expanded(query, lead, heads).reshape(batch, shared, groups, *query.shape[-2:])
        k = _expanded(key, lead, shared).reshape(batch, shared, 1, *key.shape[-2:])
        v = _expanded(value, lead, shared).reshape(batch, shared, 1, *value.shape[-2:])
        mask = None if attn_mask is None else _five_dimensional_mask(attn_mask, lead, q, k)
        return cls(q, k, v, mask, scale, *options, lead)

    def inside(self, x: Array) -> Array:
        """The result or its gradient, (*lead, heads, T, E) or (T, E), as (B, H, G, T, E)."""
        return x.astype(self.q.dtype, copy=False).reshape(*self.q.shape[:4], self.v.shape[-1])

    def outside(self, x: Array) -> Array:
        """(B, H, G, n, m) as (*lead, heads, n, m)."""
        lead = self.lead if x.shape[0] == self.q.shape[0] else (1,) * len(self.lead)
        return x.reshape(*lead, x.shape[1] * x.shape[2], *x.shape[3:])

    @property
    def scaled_q(self) -> Array:
        """Queries times the scale, on contiguous heads."""
        return self.q * self.q.dtype.type(self.scale)

    def blocks(self) -> list[tuple[Block, slice]]:
        """Blocks that cover all queries, each without the keys that none of its queries sees, and their places.

        A place is the slice of memory for the weights of a block: its own where weights are kept, else one for all.
        """
        (batch, heads, groups, queries, _), keys = self.q.shape, self.k.shape[-2]
        fitting = max(1, _TILE // max(1, heads * groups * keys))  # queries of one row whose scores fill a tile
        one = queries * keys <= _ONE
        step = max(1, queries if one else min(_STEP[1], max(_STEP[0], fitting)))
        rows = max(1, batch if one else fitting // step)
        found: list[tuple[Block, slice]] = []
        at = 0
        for row in range(0, batch, rows):
            for start in range(0, queries, step):
                end = min(start + step, queries)
                seen = keys if not self.is_causal or one else min(keys, max(0, end + self.offset))
                block = Block(slice(row, min(row + rows, batch)), slice(start, end), slice(0, seen))
                size = (block.rows.stop - row) * heads * groups * (end - start) * seen
                found.append((block, slice(at, at + size)))
                at += size if self.keeps else 0
        return found

    @property
    def keeps(self) -> bool:
        """Whether backward finds the weights in memory."""
        return self.q.shape[-2] * self.k.shape[-2] <= KEPT

    @property
    def bounded(self) -> bool:
        """Whether no exponential of a score can overflow, by |q k| <= |q| |k|.

        Then softmax need not subtract the largest score, which saves two passes of five.
        """
        if self.mask is not None and self.mask.dtype != np.bool_:
            return False
        limit = np.log(np.finfo(self.q.dtype).max) / 2
        return bool(_longest(self.q) * _longest(self.k) * self.scale**2 < limit**2)

    def scores(self, block: Block, q: Array, k: Array, room: Array) -> Array:
        """Products of keys and queries, minus infinity where a query may not look: (B, H, G, S, T), in `room`."""
        queries, keys = block.of_queries(q), block.of_keys(k)
        scores = room.reshape(block.shape_of(q))
        product(keys, queries.swapaxes(-1, -2), out=scores)  # (B, H, 1, S, D) @ (B, H, G, D, T) -> (B, H, G, S, T)
        if self.mask is not None:
            part = block.of_mask(self.mask).swapaxes(-1, -2)  # (B or 1, H or 1, G or 1, S, T)
            if part.dtype == np.bool_:
                np.copyto(scores, -np.inf, where=~part)
            else:
                scores += part
        if self.is_causal:
            self._hide_future(scores, block)
        return scores

    def _hide_future(self, scores: Array, block: Block) -> None:
        """Keys up to that of the first query are seen by all queries of the block."""
        first = max(0, block.queries.start + self.offset + 1)
        late = np.arange(first, block.keys.stop)
        if late.size:
            seen = np.arange(block.queries.start, block.queries.stop) + self.offset  # (T,), the last key of each query
            scores[..., first:, :] += np.where(late[:, None] > seen, -np.inf, 0).astype(scores.dtype)

    def dropout_scale(self, weights: Array, block: Block) -> Array:
        """0 or 1/(1-p) for each weight of a block: the same in forward and backward.

        NumPy seeds [seed, 0, 0] and [seed] alike, so the first block is drawn as the formula draws all.
        """
        scale = self.draws(weights.shape, block)
        np.greater_equal(scale, self.dropout_p, out=scale, casting="unsafe")
        if self.dropout_p < 1:
            scale *= scale.dtype.type(1 / (1 - self.dropout_p))
        return scale

    def draws(self, shape: tuple[int, ...], block: Block) -> Array:
        """A number in [0, 1) for each weight of a block (B, H, G, S, T); dropout drops those below p.

        Each core draws a share: a generator can skip what the others draw. A step of it gives two float32.
        """
        drawn, seed = np.empty(shape, self.q.dtype), [self.seed, block.rows.start, block.queries.start]
        flat, each = drawn.reshape(-1), max(1, 8 // drawn.itemsize)

        def draw(part: slice) -> None:
            steps = np.random.PCG64(seed).advance(part.start)
            np.random.Generator(steps).random(out=flat[part.start * each : part.stop * each], dtype=drawn.dtype)

        in_parallel(draw, -(-flat.size // each), flat.nbytes)
        return drawn


# --- forward and backward over blocks


def attend(problem: Problem) -> tuple[Array, Array, Array]:
    """The result (B, H, G, T, E), log(sum(exp(score))) of each query (B, H, G, 1, T), and the kept weights."""
    q, k, v, bounded, blocks = problem.scaled_q, problem.k, problem.v, problem.bounded, problem.blocks()
    out = heads_inside((*q.shape[:4], v.shape[-1]), q.dtype)
    lse = np.empty((*q.shape[:3], 1, q.shape[3]), q.dtype)
    memory = _memory(blocks, q.dtype)
    for block, place in blocks:
        weights = problem.scores(block, q, k, memory[place])
        block.of_lse(lse)[...] = _softmax(weights, bounded)  # weights (B, H, G, S, T) in place
        dropped = weights * problem.dropout_scale(weights, block) if problem.dropout_p else weights
        # (B, H, G, T, S) @ (B, H, 1, S, E) -> (B, H, G, T, E)
        product(dropped.swapaxes(-1, -2), block.of_keys(v), out=block.of_queries(out))
    return out, lse, memory if problem.keeps else memory[:0].copy()


def attend_backward(
    problem: Problem, g: Array, out: Array, lse: Array, kept: Array, mask_gradient: bool
) -> tuple[Array, Array, Array, Array | None]:
    """Gradients for q, k, v (k's and v's summed over G) and, if asked for, for an additive mask.

    With the weights w = exp(score - lse) and r = sum(g * out) of each query,

        dv = w^T g      d score = w (g v^T - r)      dq = scale * d score k      dk = scale * d score^T q
    """
    q, k, blocks = problem.scaled_q, problem.k, problem.blocks()
    dq, dk, dv = heads_beside(problem)
    if not blocks:
        dk.fill(0)
        dv.fill(0)
    dmask = np.zeros(problem.mask.shape, q.dtype) if mask_gradient and problem.mask is not None else None
    r = np.einsum("...e,...e->...", g, out)[..., None]  # (B, H, G, T, 1)
    g_less, v_more = _with_feature(g, -r), _with_feature(problem.v, 1)  # their product is g v^T - r
    if not problem.keeps:
        kept, q_less, k_more = _memory(blocks, q.dtype), _with_feature(q, -lse.swapaxes(-1, -2)), _with_feature(k, 1)
    slopes = np.empty(max((place.stop - place.start for _, place in blocks), default=0), q.dtype)
    for block, place in reversed(blocks):  # the last queries see most keys: what they write, the others add to
        shape = block.shape_of(q)
        weights = kept[place].reshape(shape)
        if not problem.keeps:
            _exp(problem.scores(block, q_less, k_more, kept[place]))
        scale = problem.dropout_scale(weights, block) if problem.dropout_p else None
        fresh = block.queries.stop == q.shape[-2]
        # (B, H, G, S, T) @ (B, H, G, T, E) -> (B, H, G, S, E), summed over G
        _product(weights if scale is None else weights * scale, block.of_queries(g), dv, block, fresh)
        slope = slopes[: weights.size].reshape(shape)
        # (B, H, 1, S, E + 1) @ (B, H, G, E + 1, T) -> (B, H, G, S, T)
        product(block.of_keys(v_more), block.of_queries(g_less).swapaxes(-1, -2), out=slope)
        if scale is not None:
            _drop(slope, scale, block.of_queries(r))
        slope *= weights
        if dmask is not None:
            _add(block.of_mask(dmask), slope.swapaxes(-1, -2))
        # (B, H, G, T, S) @ (B, H, 1, S, D) -> (B, H, G, T, D), and (B, H, G, S, T) @ (B, H, G, T, D) for the keys
        product(slope.swapaxes(-1, -2), block.of_keys(k), out=block.of_queries(dq))
        _product(slope, block.of_queries(q), dk, block, fresh)
    dq *= dq.dtype.type(problem.scale)  # dk has it from q
    return dq, dk, dv, dmask


def _memory(blocks: list[tuple[Block, slice]], dtype: Any) -> Array:
    return np.empty(max((place.stop for _, place in blocks), default=0), dtype)


def _drop(slope: Array, scale: Array, r: Array) -> None:
    """g v^T - r to (g v^T) * scale - r, in place."""
    r = r.swapaxes(-1, -2)
    slope += r
    slope *= scale
    slope -= r


def heads_inside(shape: tuple[int, ...], dtype: DTypeLike) -> Array:
    """(B, H, G, T, n) on memory ordered (B, T, H, G, n), so that joining heads afterwards copies nothing."""
    batch, heads, groups, length, size = shape
    return np.empty((batch, length, heads, groups, size), dtype).transpose(0, 2, 3, 1, 4)


def heads_beside(problem: Problem) -> tuple[Array, Array, Array]:
    """Arrays for the gradients of q, k and v, side by side in memory as a projection has them, if their shapes allow.

    Then `join_heads` copies nothing in backward.
    """
    q, k, v = problem.q, problem.k, problem.v
    if q.shape[3:] != k.shape[3:] or k.shape != v.shape:
        q, k, v = (heads_inside(x.shape, x.dtype) for x in (q, k, v))
        return q, k, v
    batch, heads, groups, length, size = q.shape
    # queries take heads * groups heads, keys and values `heads` each
    whole = np.empty((batch, length, heads * (groups + 2), size), q.dtype)
    ends = heads * groups, heads * (groups + 1)
    dq, dk, dv = (whole[:, :, part] for part in (slice(ends[0]), slice(*ends), slice(ends[1], None)))
    dq = dq.reshape(batch, length, heads, groups, size).transpose(0, 2, 3, 1, 4)
    return dq, dk.swapaxes(1, 2)[:, :, None], dv.swapaxes(1, 2)[:, :, None]


def _softmax(scores: Array, bounded: bool) -> Array:
    """Scores turned into weights in place; returns log(sum(exp(score))) of each query, 0 where it sees nothing."""
    peak = None
    if not bounded:
        peak = scores.max(-2, keepdims=True, initial=-np.inf)
        np.copyto(peak, 0, where=np.isneginf(peak))  # no infinity may meet another
        scores -= peak
    total = np.einsum("...st->...t", _exp(scores))[..., None, :]  # (B, H, G, 1, T)
    np.copyto(total, 1, where=total == 0)
    scores *= 1 / total
    return np.log(total) if peak is None else np.log(total) + peak


def _exp(scores: Array) -> Array:
    return np.exp(scores, out=scores)


def _with_feature(x: Array, value: Any) -> Array:
    """(..., n) with one more feature."""
    wide = np.empty((*x.shape[:-1], x.shape[-1] + 1), x.dtype)
    wide[..., :-1] = x
    wide[..., -1:] = value
    return wide


def _longest(x: Array) -> float:
    """The largest squared length of any vector."""
    return float(np.einsum("...d,...d->...", x, x).max(initial=0))


def _product(a: Array, b: Array, target: Array, block: Block, fresh: bool) -> None:
    """`a @ b` written to the block's keys, or added to them; summed over groups that share a head."""
    part = block.of_keys(target)
    if not fresh:
        _add(part, product(a, b))
        return
    target[block.rows, :, :, block.keys.stop :] = 0
    if part.shape[2] == a.shape[2]:
        product(a, b, out=part)
    else:
        np.sum(product(a, b), axis=2, keepdims=True, out=part)


def _add(target: Array, part: Array) -> None:
    """`target += part`, with dimensions that are 1 in the target summed."""
    repeated = tuple(i for i, (n, m) in enumerate(zip(target.shape, part.shape)) if n == 1 and m != 1)
    target += part.sum(repeated, keepdims=True) if repeated else part


# --- five dimensions


def _common_shape(query: Array, key: Array, value: Array, enable_gqa: bool) -> tuple[int, ...]:
    """(*lead, query heads). Each call of np.broadcast_shapes would add 2 us to the 36 us of a single query."""
    shape, lead = query.shape[:-2], query.shape[:-3]
    if shape == key.shape[:-2] == value.shape[:-2] or (enable_gqa and lead == key.shape[:-3] == value.shape[:-3]):
        return shape
    if not enable_gqa:
        return np.broadcast_shapes(shape, key.shape[:-2], value.shape[:-2])
    return (*np.broadcast_shapes(lead, key.shape[:-3], value.shape[:-3]), shape[-1])


def _expanded(x: Array, lead: tuple[int, ...], heads: int) -> Array:
    shape = (*lead, heads, *x.shape[-2:])
    return x if x.shape == shape else np.broadcast_to(x, shape)


def _five_dimensional_mask(mask: Array, lead: tuple[int, ...], q: Array, k: Array) -> Array:
    """(B or 1, H or 1, G or 1, T, S): dimensions that are 1 stay 1, so that nothing is copied."""
    (_, shared, groups, queries, _), keys = q.shape, k.shape[-2]
    shape = (1,) * (len(lead) + 3 - mask.ndim) + mask.shape
    own_lead = lead if any(n > 1 for n in shape[:-3]) else (1,) * len(lead)
    own_heads = (1, 1) if shape[-3] == 1 else (shared, groups)
    expanded = np.broadcast_to(mask.reshape(shape), (*own_lead, shape[-3], queries, keys))
    return expanded.reshape(math.prod(own_lead), *own_heads, queries, keys)
