"""Beside module 18: kernels of ops over rows that hand them to the loops of `row_loops.py`, a share to each core."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tt_core import activations, layers
from tt_core.engine.dispatch import Array, with_residuals
from tt_core.engine.threads import in_parallel
from tt_core.random import generator
from tt_language import embeddings
from tt_learn.autograd import broadcasting
from tt_learn.rules import activations as gradients
from tt_perf.acceleration.capture.tape import Arrays, Job
from tt_perf.acceleration.uncovered import contiguous, leave, unfit
from tt_perf.kernels.team import job

Call = Callable[..., Any]

FEW = 1 << 16
"""Elements of a matrix up to which a loop sums its columns; BLAS sums those of larger ones."""


def row_kernels(loop: dict[str, Call]) -> dict[str, Call]:
    """Kernels for ops, by the ops' names; arguments and results are those of the kernels that they replace."""

    def softmax(x: Array, /, dim: int = -1) -> Array:
        """One pass in place of five: 0.32 of the time of NumPy's kernel on (1024, 128), one core."""
        return _normalized("softmax", activations.softmax.kernel, x, dim)

    def log_softmax(x: Array, /, dim: int = -1) -> Array:
        """One pass in place of five: 0.46 of the time of NumPy's kernel on (1024, 128), one core."""
        return _normalized("log_softmax", activations.log_softmax.kernel, x, dim)

    def _normalized(name: str, numpys: Call, x: Array, dim: int) -> Array:
        reason = unfit(x) or _not_rows(x, dim)
        if not reason:
            out, finite = np.empty_like(x), []
            rows, results = x.reshape(-1, x.shape[-1]), out.reshape(-1, x.shape[-1])
            in_parallel(lambda part: finite.append(loop[name](rows[part], results[part])), len(rows), 2 * x.nbytes)
            if all(finite):
                return out
            reason = "infinite or nan"
        leave(name, reason)
        return numpys(x, dim=dim)

    def softmax_backward(g: Array, out: Array, /, dim: int = -1) -> Array:
        """One pass in place of three: 0.46 of the time of NumPy's kernel on (1024, 128), one core."""
        g = contiguous(g)
        return _slopes("softmax_backward", gradients.softmax_backward.kernel, g, out, dim)

    def log_softmax_backward(g: Array, out: Array, /, dim: int = -1) -> Array:
        """One pass in place of four: 0.4 of the time of NumPy's kernel on (1024, 128), one core."""
        g = contiguous(g)
        return _slopes("log_softmax_backward", gradients.log_softmax_backward.kernel, g, out, dim)

    def _slopes(name: str, numpys: Call, g: Array, out: Array, dim: int) -> Array:
        reason = unfit(g, out) or _not_rows(out, dim) or ("broadcast" if g.shape != out.shape else "")
        if reason:
            leave(name, reason)
            return numpys(g, out, dim=dim)
        result = np.empty_like(out)
        upstream, rows, results = (x.reshape(-1, out.shape[-1]) for x in (g, out, result))
        in_parallel(lambda part: loop[name](upstream[part], rows[part], results[part]), len(rows), 3 * g.nbytes)
        return result

    def embedding_backward(g: Array, ids: Array, /, size: int, padding_idx: int | None = None) -> Array:
        """A loop over rows in vector instructions: 0.12 of the time of NumPy's kernel on 1024 ids of 128 features."""
        g = contiguous(g)
        reason = unfit(g) or ("ids" if ids.dtype.kind not in "iu" or not ids.size or not g.shape[-1] else "")
        if not reason:
            total = np.zeros((size, g.shape[-1]), np.float32)
            rows = np.array(ids.reshape(-1), np.int64)
            if len(rows) == g.size // g.shape[-1] and loop["add_rows"](g.reshape(-1, g.shape[-1]), rows, total):
                if padding_idx is not None:
                    total[padding_idx] = 0
                return total
            reason = "ids"
        leave("embedding_backward", reason)
        return embeddings.embedding_backward.kernel(g, ids, size=size, padding_idx=padding_idx)

    @with_residuals("scale")
    def dropout(x: Array, /, p: float = 0.5, training: bool = True) -> tuple[Array, Array]:
        """Draws as NumPy's kernel does, which takes most of the time; then one pass: 0.97 of it on (768, 128)."""
        reason = unfit(x)
        if reason or not training:
            if reason:
                leave("dropout", reason)
            found: tuple[Array, Array] = layers.dropout.kernel(x, p=p, training=training)
            return found
        scale, out = np.asarray(generator().random(x.shape, dtype=np.float32)), np.empty_like(x)
        factor = np.float32(1 / (1 - p) if 0 < p < 1 else 1)
        flat = [each.reshape(-1) for each in (x, scale, out)]

        def drop(part: slice) -> None:
            loop["dropout"](flat[0][part], np.float32(p), factor, flat[1][part], flat[2][part])

        in_parallel(drop, x.size, 3 * x.nbytes)
        return out, scale

    def silu(x: Array, /) -> Array:
        """One pass in place of five: 0.32 of the time of NumPy's kernel on (2048, 512), one core."""
        reason = unfit(x)
        if reason:
            leave("silu", reason)
            return activations.silu.kernel(x)
        return _by_element("silu", x)

    def silu_backward(g: Array, x: Array, /) -> Array:
        """One pass in place of nine: 0.26 of the time of NumPy's kernel on (2048, 512), one core."""
        g = contiguous(g)
        reason = unfit(g, x) or ("broadcast" if g.shape != x.shape else "")
        if reason:
            leave("silu_backward", reason)
            return gradients.silu_backward.kernel(g, x)
        return _by_element("silu_backward", g, x)

    def _by_element(name: str, *arrays: Array) -> Array:
        out = np.empty_like(arrays[0])
        flat = [each.reshape(-1) for each in (*arrays, out)]
        in_parallel(lambda part: loop[name](*[each[part] for each in flat]), out.size, len(flat) * out.nbytes)
        return out

    def rotary(x: Array, cos: Array, sin: Array, /) -> Array:
        """One pass in place of eight: 0.38 of the time of NumPy's kernel on (8, 6, 256, 32), one core."""
        reason = _not_heads(x, cos, sin)
        if reason:
            leave("rotary", reason)
            return embeddings.rotary.kernel(x, cos, sin)
        out = np.empty(x.shape, np.float32)
        heads = x.shape[0] * x.shape[1]
        in_parallel(lambda part: loop["rotary"](x, cos, sin, out, part.start, part.stop), heads, 2 * x.nbytes)
        return out

    def sum_to(x: Array, /, shape: tuple[int, ...]) -> Array:
        """A loop over the rows of a small matrix: 0.7 of the time of NumPy's kernel on (64, 10), a bias' gradient."""
        if unfit(x) or not _is_few_rows(x, shape):
            found: Array = broadcasting.sum_to.kernel(x, shape=shape)
            return found
        out = np.empty(shape, np.float32)
        loop["bias_sums"](x, out)
        return out

    def sum_to_job(inputs: Arrays, results: Arrays, attributes: Any, failed: Array) -> Job | None:
        (x,) = inputs
        if unfit(x) or not _is_few_rows(x, attributes["shape"]):
            return None
        return job(loop, "bias_sums_piece", (x, *results, *x.shape))

    sum_to.as_job = sum_to_job  # type: ignore[attr-defined]
    made: tuple[Call, ...] = (softmax, log_softmax, softmax_backward, log_softmax_backward, embedding_backward, dropout)
    made += (silu, silu_backward, rotary, sum_to)
    return {kernel.__name__: kernel for kernel in made}


def _is_few_rows(x: Array, shape: tuple[int, ...]) -> bool:
    """Whether the sum is over the rows of a small matrix, where calling BLAS takes longer than adding."""
    return x.ndim == 2 and x.shape[1:] == shape and 0 < x.size <= FEW


def _not_rows(x: Array, dim: int) -> str:
    """Why the loops, which go along rows, are not made for this dimension; empty if they are."""
    if not x.ndim or not x.size:
        return "empty" if x.ndim else "no dimension"
    return "" if dim in (-1, x.ndim - 1) else "another dimension than the last"


def _not_heads(x: Array, cos: Array, sin: Array) -> str:
    """Why the loop is not made for these: heads (B, H, T, D) of float32, wherever they lie, with angles (T, D / 2)."""
    if type(x) is not np.ndarray or x.dtype != np.float32:
        return str(x.dtype)
    if x.ndim != 4 or not x.size or cos.shape != sin.shape or cos.shape != (x.shape[2], x.shape[3] // 2):
        return "empty, or shape"
    if x.strides[-1] != x.itemsize or not x.flags.aligned:
        return "features that are not contiguous"
    return unfit(cos, sin)


# --- cross entropy, for `kernels.py`


def shared_loss(
    loop: dict[str, Call], x: Array, target: Array, weight: Array | None, ignore_index: int, reduction: str,
    label_smoothing: float,
) -> tuple[Array, Array, Array] | None:  # fmt: skip
    """Cross entropy with weights, smoothed labels and classes that do not count; None if NumPy's kernel is to do it.

    One pass in place of ten: 0.15 of the time of NumPy's kernel on (768, 65) with smoothed labels, one core.
    """
    classes = np.ones(x.shape[1], np.float32) if weight is None else weight
    loss, counted, peak, total = np.empty((4, len(x)), np.float32)
    smoothing = np.float32(label_smoothing)
    given = x, target, classes, ignore_index, smoothing
    if not loop["shared_cross_entropy"](*given, loss, counted, peak, total):
        return None
    if reduction == "none":
        return loss.reshape(target.shape), peak, total
    whole = np.add.reduce(loss)
    return (whole if reduction == "sum" else whole / np.add.reduce(counted)), peak, total


def shared_slopes(
    loop: dict[str, Call], g: Array, x: Array, target: Array, peak: Array, total: Array, weight: Array | None,
    ignore_index: int, reduction: str, label_smoothing: float,
) -> Array | None:  # fmt: skip
    """The gradient of `shared_loss`, in 0.13 of the time; None if NumPy's kernel is to do it."""
    classes = np.ones(x.shape[1], np.float32) if weight is None else weight
    each = np.broadcast_to(g.reshape(-1), target.shape)
    if reduction == "mean":
        kept = target != ignore_index
        known = kept & (target >= 0) & (target < x.shape[1])
        each = each / (classes[np.where(known, target, 0)] * known).sum() if known.any() else each
    out = np.empty(x.shape, np.float32)
    each = np.ascontiguousarray(each, np.float32)
    given = each, x, target, classes, ignore_index, np.float32(label_smoothing), peak, total
    return out if loop["shared_cross_entropy_backward"](*given, out) else None
