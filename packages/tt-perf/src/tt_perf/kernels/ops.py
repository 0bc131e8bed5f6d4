"""Beside module 18: kernels of ops that hand their arrays to the loops of `loops.py`, compiled or not.

A kernel checks that the loops are made for what it got (float32, contiguous, the usual options), allocates the result,
and splits the work across threads. Anything else goes to the framework's kernel.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from tt_core import activations, layers, losses
from tt_core.engine.dispatch import Array, with_residuals
from tt_core.engine.threads import in_parallel
from tt_core.kernels.losses import reduced_rows
from tt_learn.rules import activations as gradients
from tt_learn.rules import layers as of_layers
from tt_learn.rules import losses as of_losses
from tt_perf.acceleration.capture.tape import Arrays, Job
from tt_perf.acceleration.uncovered import contiguous, leave, unfit
from tt_perf.kernels.attention import attention_kernels
from tt_perf.kernels.rows import row_kernels, shared_loss, shared_slopes
from tt_perf.kernels.team import job
from tt_perf.quantization import packed
from tt_perf.quantization.layers import dynamic_linear, static_linear

Call = Callable[..., Any]
number = np.float32


def fits(*arrays: object) -> bool:
    """Whether the loops are made for these arrays: float32 and contiguous."""
    return not unfit(*arrays)


def _by_element(loop: Call, *arrays: Array) -> None:
    """Run a loop over single elements, shared out over the cores."""
    flat = [x.reshape(-1) for x in arrays]
    in_parallel(lambda part: loop(*[x[part] for x in flat]), flat[0].size, sum(x.nbytes for x in flat))


def kernels_from(loop: dict[str, Call]) -> dict[str, Call]:
    """Kernels for ops, by the ops' names; arguments and results are those of the kernels that they replace."""

    def gelu(x: Array, /, approximate: str = "none") -> Array:
        if approximate != "tanh" or not fits(x):
            leave("gelu", unfit(x) or "approximate is not tanh")
            return activations.gelu.kernel(x, approximate=approximate)
        out = np.empty_like(x)
        _by_element(loop["gelu_tanh"], x, out)
        return out

    def gelu_backward(g: Array, x: Array, out: Array, /, approximate: str = "none") -> Array:
        g = contiguous(g)
        if approximate != "tanh" or not fits(g, x) or g.shape != x.shape:
            leave("gelu_backward", unfit(g, x) or "approximate is not tanh, or broadcast")
            return gradients.gelu_backward.kernel(g, x, out, approximate=approximate)
        result = np.empty_like(x)
        _by_element(loop["gelu_tanh_backward"], g, x, result)
        return result

    def relu_backward(g: Array, out: Array, /) -> Array:
        g = contiguous(g)
        if not fits(g, out) or g.shape != out.shape:
            leave("relu_backward", unfit(g, out) or "broadcast")
            return gradients.relu_backward.kernel(g, out)
        result = np.empty_like(g)
        _by_element(loop["relu_backward"], g, out, result)
        return result

    @with_residuals("mean", "rstd")
    def layer_norm(
        x: Array, weight: Array | None = None, bias: Array | None = None, /, dims: int = 1, eps: float = 1e-5
    ) -> tuple[Array, Array, Array]:
        shape, given = x.shape[x.ndim - dims :], [p for p in (weight, bias) if p is not None]
        if not (fits(x, *given) and x.size and 1 <= dims <= x.ndim and all(p.shape == shape for p in given)):
            leave("layer_norm", unfit(x, *given) or "empty, or shape")
            return layers.layer_norm.kernel(x, weight, bias, dims=dims, eps=eps)
        columns = math.prod(shape)
        rows, out = x.reshape(-1, columns), np.empty(x.shape, number)
        mean, rstd = np.empty((2, len(rows), 1), number)
        scale = np.ones(columns, number) if weight is None else weight.reshape(-1)
        shift = np.zeros(columns, number) if bias is None else bias.reshape(-1)
        results = out.reshape(rows.shape)

        def normalize(part: slice) -> None:
            loop["layer_norm"](rows[part], scale, shift, number(eps), results[part], mean[part], rstd[part])

        in_parallel(normalize, len(rows), x.nbytes + out.nbytes)
        return out, mean, rstd

    def layer_norm_backward(
        g: Array,
        x: Array,
        mean: Array | None = None,
        rstd: Array | None = None,
        weight: Array | None = None,
        /,
        dims: int = 1,
        eps: float = 1e-5,
    ) -> tuple[Array, Array, Array]:
        g = contiguous(g)
        shape = g.shape[g.ndim - dims :]
        columns = math.prod(shape)
        # a loop does not notice where an array ends
        each_row = (g.size // max(columns, 1), 1)
        scaled = weight is None or (fits(weight) and weight.shape == shape)
        whole = mean is not None and rstd is not None and g.shape == x.shape and mean.shape == rstd.shape == each_row
        if mean is None or rstd is None or not (fits(g, x, mean, rstd) and g.size and whole and scaled):
            leave("layer_norm_backward", unfit(g, x, mean, rstd, weight) or "empty, shape, or no residuals")
            kernel = of_layers.layer_norm_backward.kernel
            return kernel(g, x, mean, rstd, weight, dims=dims, eps=eps)
        upstream, dx = g.reshape(-1, columns), np.empty(g.shape, number)
        rows, results = x.reshape(upstream.shape), dx.reshape(upstream.shape)
        scale = np.ones(upstream.shape[1], number) if weight is None else weight.reshape(-1)
        sums: dict[int, Array] = {}  # for weight and bias, by where the part begins

        def slopes(part: slice) -> None:
            added = sums[part.start] = np.zeros((2, upstream.shape[1]), number)
            given = upstream[part], rows[part], mean[part], rstd[part]
            loop["layer_norm_backward"](*given, scale, results[part], *added)

        in_parallel(slopes, len(rows), g.nbytes + x.nbytes + dx.nbytes)
        total = np.sum([sums[start] for start in sorted(sums)], axis=0)  # in one order, whoever was first
        return dx, total[0].reshape(shape), total[1].reshape(shape)

    @with_residuals("peak", "total")
    def cross_entropy(
        x: Array,
        target: Array,
        weight: Array | None = None,
        /,
        ignore_index: int = -100,
        reduction: str = "mean",
        label_smoothing: float = 0.0,
    ) -> Any:
        reason = _unlike_classes(x, target, weight, ignore_index, label_smoothing)
        if not reason and weight is None and not label_smoothing:
            loss, peak, total = np.empty((3, len(x)), number)
            if loop["cross_entropy"](x, target, loss, peak, total):
                return reduced_rows(loss, None, reduction, target.shape), peak, total
        if not reason and reduction in ("none", "mean", "sum"):
            found = shared_loss(loop, x, target, weight, ignore_index, reduction, label_smoothing)
            if found is not None:
                return found
            reason = "infinite or nan, or a label that is no class"
        leave("cross_entropy", reason or "reduction")
        return losses.cross_entropy.kernel(x, target, weight, ignore_index, reduction, label_smoothing)

    def cross_entropy_backward(
        g: Array,
        x: Array,
        target: Array,
        peak: Array | None = None,
        total: Array | None = None,
        weight: Array | None = None,
        /,
        ignore_index: int = -100,
        reduction: str = "mean",
        label_smoothing: float = 0.0,
    ) -> Array:
        reason = _unlike_classes(x, target, weight, ignore_index, label_smoothing)
        if peak is None or total is None or unfit(peak, total) or not peak.shape == total.shape == x.shape[:1]:
            reason = reason or "no residuals"
        elif g.size != 1 and (reduction != "none" or g.shape != target.shape):
            reason = reason or "shape"
        elif not reason:
            if weight is None and not label_smoothing and g.size == 1:
                each = g.reshape(())[()] / (len(x) if reduction == "mean" else 1)
                out = np.empty(x.shape, number)
                if loop["cross_entropy_backward"](x, target, peak, total, number(each), out):
                    return out
            options = ignore_index, reduction, label_smoothing
            found = shared_slopes(loop, g, x, target, peak, total, weight, *options)
            if found is not None:
                return found
            reason = "a label that is no class"
        leave("cross_entropy_backward", reason)
        kernel = of_losses.cross_entropy_backward.kernel
        return kernel(g, x, target, peak, total, weight, ignore_index, reduction, label_smoothing)

    def cross_entropy_job(inputs: Arrays, results: Arrays, attributes: Any, failed: Array) -> Job | None:
        x, target = inputs[:2]
        if not _is_plain(x, target, inputs[2:], **attributes):
            return None
        mean = attributes["reduction"] == "mean"
        return job(loop, "cross_entropy_piece", (x, target, *results, *x.shape, mean, failed))

    def cross_entropy_backward_job(inputs: Arrays, results: Arrays, attributes: Any, failed: Array) -> Job | None:
        g, x, target, *sums = (*inputs, None, None)[:5]
        whole = not any(each is None or unfit(each) or each.shape != x.shape[:1] for each in sums)
        one = not unfit(g) and g.size == 1
        if not (one and whole and _is_plain(x, target, inputs[5:], **attributes)):
            return None
        mean = attributes["reduction"] == "mean"
        return job(loop, "cross_entropy_backward_piece", (g, x, target, *sums, *results, *x.shape, mean, failed))

    cross_entropy.as_job = cross_entropy_job  # type: ignore[attr-defined]
    cross_entropy_backward.as_job = cross_entropy_backward_job  # type: ignore[attr-defined]
    made: tuple[Call, ...] = (gelu, gelu_backward, relu_backward, layer_norm, layer_norm_backward)
    made += (cross_entropy, cross_entropy_backward)
    return (
        {kernel.__name__: kernel for kernel in made}
        | _integer_kernels(loop)
        | attention_kernels(loop)
        | row_kernels(loop)
    )


FEW_ROWS = {8: 16, 4: 2}
"""Rows up to which loops beat BLAS on a stored weight, by its bits: there, reading the weight is what takes the time.
One row of 768 times (50257, 768): 1.4 ms, BLAS on the float weight 12 ms; 64 rows times (3072, 768): 3.5 and 1.5 ms."""


def _by_bytes(loop: dict[str, Call]) -> Any:
    """The module of products by bytes, which imports Numba; None for loops that are not compiled."""
    if not hasattr(loop, "address"):
        return None
    from tt_perf.kernels.decoding import linear

    return linear


def _integer_kernels(loop: dict[str, Call]) -> dict[str, Call]:
    """Kernels for products with stored weights and of integers."""

    def quantized_linear(
        x: Array, codes: Array, scale: Array, zero_point: Array | None = None, bias: Array | None = None, /
    ) -> Array:
        ours = fits(x, scale) and x.ndim and codes.flags.c_contiguous and codes.ndim == 2 and x.size and codes.size
        bits = 8 if zero_point is None else 4
        by_bytes = _by_bytes(loop)
        if ours and by_bytes is not None and x.size // x.shape[-1] in by_bytes.FASTER[bits]:
            packed.check_inputs(x.shape[-1], codes, zero_point)
            found: Array = by_bytes.stored_product(x.reshape(-1, x.shape[-1]), codes, scale, zero_point)
            found = found if bias is None else found + bias
            return found.reshape(*x.shape[:-1], len(codes))
        few = ours and x.size // x.shape[-1] <= FEW_ROWS[bits]
        if not few:
            leave("quantized_linear", unfit(x, scale) or "many rows, empty, or not contiguous")
            return packed.quantized_linear.kernel(x, codes, scale, zero_point, bias)
        inputs = x.shape[-1]
        packed.check_inputs(inputs, codes, zero_point)
        rows, out = x.reshape(-1, inputs), np.empty((x.size // inputs, len(codes)), number)
        if zero_point is None:

            def multiply(part: slice) -> None:
                loop["int8_linear"](rows, codes[part], scale[part], out[:, part])
        else:
            groups, padded = scale.shape[1], np.zeros((len(rows), 2 * codes.shape[1]), number)
            padded[:, :inputs] = rows
            sums = padded.reshape(len(rows), groups, -1).sum(2)
            if not np.isfinite(sums).all():  # the loop takes two sums apart, and infinity - infinity is nan
                leave("quantized_linear", "infinite or nan")
                return packed.quantized_linear.kernel(x, codes, scale, zero_point, bias)
            halves = np.ascontiguousarray(padded.reshape(len(rows), -1, 2).swapaxes(1, 2))

            def multiply(part: slice) -> None:
                loop["int4_linear"](halves, codes[part], scale[part], zero_point[part], sums, out[:, part])

        in_parallel(multiply, len(codes), codes.nbytes * 4)
        if bias is not None:
            out = out + bias
        return out.reshape(*x.shape[:-1], len(codes))

    def integer_product(a: Array, b: Array, /) -> Array:
        whole = a.ndim == b.ndim == 2 and a.shape[1:] == b.shape[1:] and a.flags.c_contiguous and b.flags.c_contiguous
        signed = a.dtype in (np.int8, np.int16) and b.dtype == np.int8
        # 16 bits times 8 bits: 2^15 2^7 2^8 < 2^31
        short = whole and a.shape[1] <= (1 << 17 if a.dtype == np.int8 else 1 << 8) - 1
        centred = whole and a.dtype == np.int16 and a.shape[1] < 1 << 15 and packed.largest(a) <= 256
        if not (whole and signed and (short or centred) and 0 < len(a) <= FEW_ROWS[8]):
            leave("integer_product", "many rows, or other integers")
            return packed.integer_product.kernel(a, b)
        out = np.empty((len(a), len(b)), np.int32)
        wide = a.astype(np.int16, copy=False)
        in_parallel(lambda part: loop["integer_product"](wide, b[part], out[:, part]), len(b), b.nbytes * 4)
        return out

    def int8_linear_dynamic(x: Array, codes: Array, scale: Array, bias: Array | None = None, /) -> Array:
        return dynamic_linear(x, codes, scale, bias, integer_product)

    def int8_linear_static(
        x: Array,
        codes: Array,
        scale: Array,
        input_scale: Array,
        input_zero_point: Array,
        bias: Array | None = None,
        /,
    ) -> Array:
        return static_linear(x, codes, scale, input_scale, input_zero_point, bias, integer_product)

    made: tuple[Call, ...] = (quantized_linear, integer_product, int8_linear_dynamic, int8_linear_static)
    return {kernel.__name__: kernel for kernel in made}


def _is_plain(
    x: Array, target: Array, weights: Arrays, ignore_index: int, reduction: str, label_smoothing: float
) -> bool:
    """Whether all rows have the same weight in the loss, and the loops cover these arrays."""
    alike = not label_smoothing and reduction in ("mean", "sum") and all(weight is None for weight in weights)
    return alike and not _unlike_classes(x, target, None, ignore_index, label_smoothing)


def _unlike_classes(x: Array, target: Array, weight: Any, ignore_index: Any, label_smoothing: Any) -> str:
    """Why the loops of cross entropy are not made for these; empty for rows of logits with a label each."""
    if unfit(x):
        return unfit(x)
    if x.ndim != 2 or not x.size or target.shape != x.shape[:1] or target.dtype != np.int64:
        return "shape or dtype of the labels"
    if unfit(weight) or (weight is not None and weight.shape != x.shape[1:]):
        return "weight"
    if (
        not (target.flags.c_contiguous and target.flags.aligned)
        or type(ignore_index) is not int
        or 0 <= ignore_index < x.shape[1]
    ):
        return "labels"
    return "" if isinstance(label_smoothing, (int, float)) and 0 <= label_smoothing <= 1 else "label_smoothing"
