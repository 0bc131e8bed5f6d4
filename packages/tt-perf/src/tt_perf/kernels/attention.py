"""Beside module 18: kernels of attention that hand heads to the loops of `attention_loops.py`, a share to each core.

NumPy's kernel goes through memory once for the scores, the mask, the maximum, the exponential, the sum and the product,
and back to Python between them. Here a core goes through all of them for a block of 64 queries at a time, whose scores
stay in its cache.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tt_core.engine.dispatch import Array, with_residuals
from tt_core.engine.threads import on_each_core
from tt_core.random import generator, get_rng_state, set_rng_state
from tt_language import attention as A
from tt_language.kernels.attention import KEPT, Problem, heads_beside, heads_inside
from tt_perf.acceleration.blas import find_blas
from tt_perf.acceleration.uncovered import leave, unfit
from tt_perf.kernels.attention_loops import weights_of_head

Call = Callable[..., Any]

_NONE = np.zeros((1,) * 5, np.uint8)
_NOT_FINITE = "infinite or nan"


def attention_kernels(loop: dict[str, Call]) -> dict[str, Call]:
    """Kernels for attention, by the ops' names; none if BLAS cannot be called by its address."""
    blas = find_blas()
    if blas is None:
        return {}

    @with_residuals("seed", "lse", "exact", "kept")  # in another order than NumPy's: its kept weights lie otherwise
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
    ) -> Any:
        """A head or more for each core, all steps in one call that never returns to Python.

        0.57 of the time of NumPy's kernel on (12, 4, 64, 32) and 0.47 on (4, 6, 256, 64), causal, on one core.
        """
        reason, state = _unfit(query, key, value), None
        if not reason and query.shape[-2] == 1 and not (enable_gqa or dropout_p):
            reason = "one query"  # BLAS is slow at products with one row
        if not reason and dropout_p and query.shape[-2] * key.shape[-2] > KEPT:
            reason = "dropout in a long text"
        if not reason:
            seed = 0
            if dropout_p:
                state, seed = get_rng_state(), int(generator().integers(1 << 62))
            options = (dropout_p, is_causal, causal_offset, seed)
            p = Problem.of(query, key, value, attn_mask, scale, enable_gqa, options)
            mask, masked, hides = _added(p)
            keeps, size = _size(p)
            out = heads_inside((*p.q.shape[:4], p.v.shape[-1]), p.q.dtype)
            lse = np.empty((p.q.shape[0] * p.q.shape[1] * p.q.shape[2], p.q.shape[3]), np.float32)
            kept = np.empty((len(lse), size if keeps else 0), np.float32)
            given = blas, p.q, p.k, p.v, mask, masked, hides, np.float32(p.scale), is_causal, causal_offset
            drops = _dropped(p), _factor(dropout_p)
            results = out, lse, kept, keeps

            def attend(part: slice) -> bool:
                return bool(loop["attend"](*given, *drops, *results, part.start, part.stop))

            if _on_cores(attend, p):
                found = p.outside(out)
                found = found[0] if max(query.ndim, key.ndim, value.ndim) == 2 else found
                return found, np.asarray(seed), lse.reshape(*p.q.shape[:3], 1, p.q.shape[3]), found[:0], kept
            reason = _NOT_FINITE
        if state is not None:  # NumPy's kernel draws the same seed
            set_rng_state(state)
        leave("scaled_dot_product_attention", reason)
        numpys: Call = A.scaled_dot_product_attention.kernel
        given_options = dropout_p, is_causal, scale, enable_gqa, causal_offset
        result, drawn, *rest = numpys(query, key, value, attn_mask, *given_options)
        log_sums, weights, exact = rest or (None, None, None)  # a formula gives no more than the seed
        return result, drawn, log_sums, exact, weights

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
        """Four products for each block, with the weights that forward kept.

        0.7 of the time of NumPy's kernel on (12, 4, 64, 32) and 0.5 on (4, 6, 256, 64), causal, on one core.
        """
        reason = "a gradient for the mask" if mask_gradient else _unfit(query, key, value, g, out)
        p = None
        if not reason:
            p = Problem.of(query, key, value, attn_mask, scale, enable_gqa, (0.0, is_causal, causal_offset, 0))
            if lse is None or lse.shape != (*p.q.shape[:3], 1, p.q.shape[3]) or _unfit(lse):
                reason = "no residuals"
        if p is not None and lse is not None and not reason:
            mask, masked, _ = _added(p)
            rows = lse.reshape(-1, p.q.shape[3])
            keeps, size = _size(p)
            if kept is None or kept.shape != (len(rows), size) or unfit(kept) or not kept.flags.writeable:
                keeps, kept = False, np.empty((len(rows), 0), np.float32)
            results = heads_beside(p)
            arrays = blas, p.inside(g), p.q, p.k, p.v, p.inside(out), mask, masked, np.float32(p.scale)
            options = is_causal, causal_offset, _factor(dropout_p), rows, kept, keeps

            def slopes(part: slice) -> bool:
                return bool(loop["attend_backward"](*arrays, *options, *results, part.start, part.stop))

            if dropout_p and not keeps:
                reason = "dropout without weights"
            elif _on_cores(slopes, p):
                found = [p.outside(x) for x in results]
                found = [x[0] for x in found] if max(query.ndim, key.ndim, value.ndim) == 2 else found
                return (*found, np.empty(0, np.float32))
            reason = reason or _NOT_FINITE
        leave("scaled_dot_product_attention_backward", reason)
        if kept is not None and kept.ndim != 1:  # of our forward
            kept = None
        given = g, query, key, value, out, lse, kept, seed, attn_mask
        numpys: Call = A.scaled_dot_product_attention_backward.kernel
        return numpys(*given, dropout_p, is_causal, scale, enable_gqa, causal_offset, mask_gradient)

    made: tuple[Call, ...] = (scaled_dot_product_attention, scaled_dot_product_attention_backward)
    return {kernel.__name__: kernel for kernel in made}


def _on_cores(work: Callable[[slice], bool], p: Problem) -> bool:
    """Runs `work` on shares of the key-value heads, with BLAS on one thread; whether all results are finite."""
    batch, heads, groups, queries, _ = p.q.shape
    return all(on_each_core(work, batch * heads, 4 * batch * heads * groups * queries * p.k.shape[3], each=4))


def _unfit(*arrays: Array) -> str:
    """Why the loops are not made for these heads: float32 with contiguous features that hold something."""
    for x in arrays:
        if type(x) is not np.ndarray or x.dtype != np.float32:
            return str(x.dtype)
        if not x.size:
            return "empty"
        rows, features = x.strides[-2:]
        if (x.shape[-1] > 1 and features != 4) or not x.flags.aligned or (x.shape[-2] > 1 and rows < 4 * x.shape[-1]):
            return "features that are not contiguous"
    return ""


def _factor(dropout_p: float) -> np.float32:
    """What dropout multiplies the other weights by; 0 without dropout."""
    return np.float32(0 if not dropout_p else 1 / (1 - dropout_p) if dropout_p < 1 else 1)


def _dropped(p: Problem) -> Array:
    """1 for each weight that dropout drops, (B, H, G, S, T): the draws of NumPy's kernel, in its blocks."""
    if not p.dropout_p:
        return _NONE
    flags = np.zeros((*p.q.shape[:3], p.k.shape[3], p.q.shape[3]), np.uint8)
    for block, _ in p.blocks():
        part = flags[block.rows, :, :, block.keys, block.queries]
        np.less(p.draws(part.shape, block), p.dropout_p, out=part, casting="unsafe")
    return flags


def _size(p: Problem) -> tuple[bool, int]:
    """Whether forward keeps the weights, and how many numbers they take for each head."""
    queries, keys = p.q.shape[3], p.k.shape[3]
    return queries * keys <= KEPT, weights_of_head(queries, keys, p.is_causal, p.offset)


def _added(p: Problem) -> tuple[Array, bool, bool]:
    """The mask as numbers to add, (B, H, G, T, S), whether there is one, and whether it does nothing but hide."""
    if p.mask is None:
        return p.q, False, True  # an array of five dimensions that is not looked at
    hides = p.mask.dtype == np.bool_
    mask = np.where(p.mask, np.float32(0), np.float32(-np.inf)) if hides else p.mask.astype(np.float32, copy=False)
    mask = np.require(mask, requirements=["ALIGNED"])
    return np.broadcast_to(mask, (*p.q.shape[:4], p.k.shape[3])), True, hides
