"""Part of module 14: the FLOPs of each op by name, and the ops that compute nothing."""

from __future__ import annotations

from collections.abc import Mapping
from math import log2, prod
from typing import Any

from tt_perf.profiling.work import (
    Flops,
    attention_backward_flops,
    attention_flops,
    convolution_flops,
    per_input,
    per_output,
    product_flops,
    size,
)


def _rows_product(inputs: tuple[Any, ...], output: Any, attributes: Mapping[str, Any]) -> int:
    # (rows, in)^T @ (rows, out) -> (in, out): the sum runs over the rows
    return 2 * size(output) * int(prod(inputs[0].shape[:-1]))


def _attention_weights(inputs: tuple[Any, ...], output: Any, attributes: Mapping[str, Any]) -> int:
    """A product with the keys for each weight, and its share of a softmax."""
    return size(output) * (2 * int(inputs[0].shape[-1]) + 5)


def _einsum(inputs: tuple[Any, ...], output: Any, attributes: Mapping[str, Any]) -> int:
    """One product and one sum for each combination of the indices; an ellipsis counts through the result."""
    terms = attributes["equation"].replace(" ", "").partition("->")[0].split(",")
    lengths: dict[str, int] = {}
    for term, x in zip(terms, inputs):
        if "..." in term:
            return 2 * max(size(output), *map(size, inputs))
        lengths.update(zip(term, x.shape))
    return max(2, len(inputs)) * int(prod(lengths.values()))


def _window(inputs: tuple[Any, ...], output: Any, attributes: Mapping[str, Any]) -> int:
    """One FLOP for each element of each window."""
    kernel = attributes["kernel_size"]
    height, width = kernel if isinstance(kernel, (tuple, list)) else (kernel, kernel)
    return size(output) * int(height) * int(width)


def _sort(inputs: tuple[Any, ...], output: Any, attributes: Mapping[str, Any]) -> int:
    """n log n comparisons along a dimension of length n."""
    shape = inputs[0].shape
    length = int(shape[attributes["dim"]]) if shape else 1
    return int(size(inputs[0]) * log2(max(length, 2)))


_TO_RESULT = {
    1: "abs acos acosh add asin asinh atan atan2 atanh bitwise_and bitwise_not bitwise_or bitwise_xor ceil cos cosh "
       "div eq erf exp exp2 expm1 floor floor_divide fmod ge gt isfinite isnan le log log10 log1p log2 logical_and "
       "logical_not logical_or lt maximum minimum mul ne neg pow relu remainder round sign sin sinh sqrt sub tan "
       "tanh trunc avg_pool2d_backward adaptive_avg_pool2d_backward dropout2d",
    2: "clip dequantize_affine leaky_relu leaky_relu_backward relu_backward batch_norm_inference dropout",
    3: "hypot rotary sigmoid_backward softplus tanh_backward",
    4: "fake_quantize logaddexp quantize_affine sigmoid softplus_backward resample fake_quantize_backward",
    5: "silu softmax log_softmax softmax_backward log_softmax_backward rms_norm",
    8: "gelu layer_norm silu_backward batch_norm_training",
    14: "gelu_backward",
}  # fmt: skip
"""FLOPs for each element of the result, as their formulas have them: gelu in its tanh form, softmax with its maximum,
difference, exponential, sum and quotient."""


_TO_INPUT = {
    1: "all amax amin any argmax argmin cumprod cumsum embedding_backward fold add_at mean prod "
       "running_extreme sum sum_to adaptive_avg_pool2d adaptive_max_pool2d_with_indices "
       "max_pool2d_backward put_at_indices",
    2: "norm",
    4: "logsumexp resample_backward std var",
    5: "binary_cross_entropy cross_entropy",
    12: "layer_norm_backward rms_norm_backward batch_norm_backward",
}  # fmt: skip
"""FLOPs for each element of the first input."""


FLOPS: dict[str, Flops] = {
    **{name: per_output(count) for count, names in _TO_RESULT.items() for name in names.split()},
    **{name: per_input(count) for count, names in _TO_INPUT.items() for name in names.split()},
    "binary_cross_entropy_backward": per_input(5, which=1),
    "cross_entropy_backward": per_input(4, which=1),
    "matmul": product_flops,
    "linear": product_flops,
    "rows_product": _rows_product,
    "einsum": _einsum,
    "attention_weights": _attention_weights,
    "scaled_dot_product_attention": attention_flops,
    "scaled_dot_product_attention_backward": attention_backward_flops,
    "conv2d": lambda inputs, output, attributes: convolution_flops(output, inputs[1]),
    "conv2d_input": lambda inputs, output, attributes: convolution_flops(*inputs),
    "conv2d_weight": lambda inputs, output, attributes: convolution_flops(inputs[0], output),
    "avg_pool2d": _window,
    "max_pool2d": _window,
    "max_pool2d_index": _window,
    "max_pool2d_with_indices": _window,
    "argsort": _sort,
    "topk_indices": _sort,
    "integer_product": product_flops,
    "quantized_linear": product_flops,
    "quantized_linear_input": lambda inputs, output, attributes: 2 * size(output) * int(inputs[0].shape[-1]),
    "int8_linear_dynamic": product_flops,
    "int8_linear_static": product_flops,
    "int8_conv2d": lambda inputs, output, attributes: convolution_flops(output, inputs[1]),
}
"""FLOPs of each op that computes; add an entry for an op of your own."""


_MOVES = (
    "cast cat clone contiguous embedding expand flip getitem index_select join_heads masked_fill max_pool2d_select pad "
    "permute quantized_embedding repeat_interleave reshape roll split_heads squeeze stack take_along_dim transpose "
    "tril triu unfold unsqueeze view where"
)


MOVES = frozenset(_MOVES.split())
"""Ops that move, choose or convert values and compute none."""


def known(name: str) -> bool:
    """Whether the FLOPs of an op are known."""
    return name in FLOPS or name in MOVES
