"""Module 12, attention: each query takes a weighted mean of the values; the weights say how well the keys match it.

    attention(q, k, v) = softmax(q k^T / sqrt(D) + mask) v

`attention_weights` is the softmax and `scaled_dot_product_attention` the whole formula; both are ops. The kernel that
runs, `kernels/attention.py`, works in blocks of queries and never builds the whole matrix of weights for a long text.
In shapes, T counts queries, S keys and values, D features of queries and keys, E features of values.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from tt_core.activations import softmax
from tt_core.engine.dispatch import Array, op
from tt_core.random import generator
from tt_core.tensor.elementwise import half_in_float32
from tt_language.attention.checks import check_attention, check_weights
from tt_learn.autograd import GradientError, formula, gradient, wide
from tt_learn.rules.activations import softmax_backward

if TYPE_CHECKING:
    from tt_core import Tensor

# --- the weights


@op(check=check_weights)
@half_in_float32
def attention_weights(
    query: Array,
    key: Array,
    attn_mask: Array | None = None,
    /,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
    causal_offset: int = 0,
) -> Array:
    """`softmax(query key^T * scale + mask)`: how much each query takes from each key; each row sums to 1.

    query (..., heads, T, D) and key (..., heads, S, D) give (..., heads, T, S). The arguments are those of
    `scaled_dot_product_attention`, which never builds this matrix for long texts; use this op for pictures and checks.
    A row is 0 where the query may see nothing. Raises `ShapeError` or `DTypeError` for arrays that do not fit together.

    >>> x = np.ones((2, 3), np.float32)
    >>> attention_weights(x, x, is_causal=True)
    tensor([[1. , 0. ],
            [0.5, 0.5]])
    """
    key = repeat_heads(key, query) if enable_gqa else key
    scores = query @ key.mT * scale_of(query, scale)  # (..., heads, T, S)
    if attn_mask is not None and attn_mask.dtype == np.bool_:
        scores = np.where(attn_mask, scores, -np.inf)
    elif attn_mask is not None:
        scores = scores + attn_mask.astype(scores.dtype, copy=False)
    if is_causal:  # key j is hidden from query i where j > i + causal_offset
        scores += np.where(np.tri(query.shape[-2], key.shape[-2], causal_offset), 0, -np.inf)
    blind = np.isneginf(scores).all(-1, keepdims=True)  # (..., heads, T, 1), queries that may see nothing
    return np.where(blind, 0, softmax.formula(scores))


@gradient(attention_weights)
def _(out: Any, query: Any, key: Any, attn_mask: Any, scale: float | None, enable_gqa: bool, **options: Any) -> Any:
    groups = query.shape[-3] // key.shape[-3] if enable_gqa else 1  # query heads that share a key-value head

    def all_inputs(g: Any) -> Any:
        q, k, weights = wide(query), wide(repeat_heads(key, query) if enable_gqa else key), out
        if query.dtype == np.float16:  # rounded to float16, weights of many keys no longer sum to 1
            weights = attention_weights(q, k, attn_mask, scale=scale, **options)
        slope = softmax_backward(wide(g), weights, dim=-1)  # (..., heads, T, S), for the scores
        # scores = q k^T * scale: (T, S) @ (S, D) -> (T, D) for q, and (S, T) @ (T, D) -> (S, D) for k
        return slope @ k * scale_of(q, scale), sum_groups(slope.mT @ q * scale_of(q, scale), groups), slope

    return all_inputs


# --- attention


@op(residuals=("seed",), check=check_attention, random=True)
@half_in_float32
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
) -> tuple[Array, Array]:
    """`softmax(query key^T * scale + mask) value` (Vaswani et al. 2017, arXiv:1706.03762), with PyTorch's arguments.

    query (..., heads, T, D), key (..., heads, S, D) and value (..., heads, S, E) give (..., heads, T, E). `attn_mask`
    broadcasts to (..., heads, T, S) and is boolean, True where a query may look, or holds numbers to add. With
    `is_causal`, query i sees keys 0 to i, as in PyTorch, or keys 0 to i + `causal_offset`: an offset of S - T aligns
    the last query with the last key. `enable_gqa` lets groups of query heads share a key-value head. `scale` is
    1/sqrt(D) by default, `dropout_p` the probability with which a weight is dropped. A query that may see nothing gets
    zeros. float16 is computed in float32.

    Raises `ShapeError` or `DTypeError` for arrays that do not fit together, `ArgumentError` for another `dropout_p`.
    Residual: the seed of dropout, 0 without dropout, which every kernel of this op must return.

    >>> x = np.ones((1, 2, 3), np.float32)
    >>> scaled_dot_product_attention(x, x, x, is_causal=True).shape
    (1, 2, 3)
    """
    seed = int(generator().integers(1 << 62)) if dropout_p else 0
    weights = attention_weights.formula(query, key, attn_mask, is_causal, scale, enable_gqa, causal_offset)
    weights = weights * dropout_scale(weights, dropout_p, seed)  # (..., heads, T, S)
    value = repeat_heads(value, query) if enable_gqa else value
    return weights @ value, np.asarray(seed)


@op
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
    """Gradients of `scaled_dot_product_attention` for query, key, value and, if asked for, an additive mask.

    With the weights w, the dropout scale d (1 without dropout) and the gradient a = (g v^T) d of the weights,

        dv = (w d)^T g      s = w (a - sum(w a))      dq = scale s k      dk = scale s^T q      dmask = s

    `out`, `lse` and `kept` are what forward computed, which the formula does not need. float16 gives float32.
    """
    g, query, key, value = (x.astype(np.result_type(x, np.float32), copy=False) for x in (g, query, key, value))
    groups = query.shape[-3] // key.shape[-3] if enable_gqa else 1
    keys, values = (repeat_heads(x, query) if enable_gqa else x for x in (key, value))
    weights = attention_weights.formula(query, key, attn_mask, is_causal, scale, enable_gqa, causal_offset)
    dropped = dropout_scale(weights, dropout_p, 0 if seed is None else int(seed))  # (..., heads, T, S)
    slope = g @ values.mT * dropped  # (..., heads, T, S), for the weights
    slope = weights * (slope - (weights * slope).sum(-1, keepdims=True))  # for the scores
    dk, dv = slope.mT @ query * scale_of(query, scale), (weights * dropped).mT @ g  # (..., heads, S, D or E)
    mask_part = slope if attn_mask is None or not mask_gradient else sum_to_shape(slope, attn_mask.shape)
    return (
        slope @ keys * scale_of(query, scale),  # (..., heads, T, D)
        sum_groups(dk, groups),
        sum_groups(dv, groups),
        mask_part if mask_gradient else np.empty(0, slope.dtype),
    )


@gradient(scaled_dot_product_attention)
def _(
    out: Any, query: Any, key: Any, value: Any, attn_mask: Any, seed: Any, lse: Any = None, kept: Any = None,
    exact: Any = None, **attributes: Any,
) -> Any:  # fmt: skip
    # rounded to float16, the result would put the gradients of peaked scores off by 4 %
    result = out if exact is None or query.dtype != np.float16 else exact
    saved = (query, key, value, result, lse, kept, seed, attn_mask)
    mask_gradient = bool(getattr(attn_mask, "requires_grad", False))

    def all_inputs(g: Any) -> Any:
        found = scaled_dot_product_attention_backward(g, *saved, **attributes, mask_gradient=mask_gradient)
        return found if mask_gradient else (*found[:3], None)

    return all_inputs


@formula(scaled_dot_product_attention_backward)
def _(
    g: Any, query: Any, key: Any, value: Any, out: Any, lse: Any, kept: Any, seed: Any, attn_mask: Any,
    dropout_p: float, scale: float | None, enable_gqa: bool, mask_gradient: bool, **options: Any,
) -> Any:  # fmt: skip
    """The formula above in ops, from the inputs alone: the residuals are functions of them."""
    if dropout_p:
        raise GradientError("scaled_dot_product_attention: has no second derivatives with dropout; set dropout_p to 0")
    groups = query.shape[-3] // key.shape[-3] if enable_gqa else 1
    keys, values = (repeat_heads(x, query) if enable_gqa else x for x in (key, value))  # (..., heads, S, D or E)
    weights = attention_weights(query, keys, attn_mask, scale=scale, **options)
    slope = g @ values.mT  # (..., T, E) @ (..., E, S) -> (..., T, S), for the weights
    slope = weights * (slope - (slope * weights).sum(-1, keepdim=True))  # for the scores
    dk, dv = (sum_groups(x, groups) for x in (slope.mT @ query * scale_of(query, scale), weights.mT @ g))
    mask_part = slope if mask_gradient else g.detach().narrow(-1, 0, 0)
    return slope @ keys * scale_of(query, scale), dk, dv, mask_part


# --- the steps, for arrays and for tensors


def scale_of(query: Tensor | Array, scale: float | None) -> float:
    """What scores are multiplied by: `scale`, or 1/sqrt(D)."""
    # a product of D independent numbers of variance 1 has variance D; without the division, softmax would saturate
    return 1 / math.sqrt(query.shape[-1] or 1) if scale is None else float(scale)


def repeat_heads(x: Any, query: Any) -> Any:
    """Keys or values (..., kv_heads, S, n) as (..., heads, S, n): each head serves a group of query heads.

    `x` is an array or a tensor.
    """
    groups = query.shape[-3] // x.shape[-3]
    if groups == 1:
        return x
    return np.repeat(x, groups, -3) if isinstance(x, np.ndarray) else x.repeat_interleave(groups, -3)


def sum_groups(x: Any, groups: int) -> Any:
    """Gradients (..., heads, S, n) of repeated heads, summed to those of the shared heads; an array or a tensor."""
    return x if groups == 1 else x.reshape(*x.shape[:-3], x.shape[-3] // groups, groups, *x.shape[-2:]).sum(-3)


def dropout_scale(weights: Array, p: float, seed: int) -> Any:
    """0 or 1 / (1 - p) for each weight (..., T, S), which keeps the mean; drawn keys first, as in the kernel."""
    if not p:
        return 1
    # the seed stands for the whole (T, S) pattern, so that backward draws it again instead of keeping it
    draws = np.asarray(np.random.default_rng(seed).random(weights.mT.shape, weights.dtype))
    return np.where(draws.mT >= p, weights.dtype.type(1 / (1 - p) if p < 1 else 1), 0)


def sum_to_shape(x: Array, shape: tuple[int, ...]) -> Array:
    """`x` summed over the dimensions in which an array of `shape` was broadcast."""
    x = x.sum(tuple(range(x.ndim - len(shape))))
    return x.sum(tuple(i for i, n in enumerate(shape) if n == 1 != x.shape[i]), keepdims=True)
