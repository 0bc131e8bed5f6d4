"""Module 12, attention: each token looks at the others and takes from them what it asks for.

`scaled_dot_product_attention` is one op with one backward kernel (`attention_blocks.py`). Short texts keep their
weights for backward; long ones are worked through in blocks that are computed again there, so that the whole (queries,
keys) matrix never exists (the memory argument of Dao et al. 2022, arXiv:2205.14135). `MultiHeadAttention` is the layer
around it. Blocks of transformers are module 13; remembering keys between calls is a plugin's business
(`hookspecs.Past`).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tt_core import init
from tt_core.engine.arguments import checked
from tt_core.engine.dispatch import Array, op
from tt_core.engine.errors import DTypeError, ShapeError, shown
from tt_core.layers import Layer, Linear, dropout, linear
from tt_core.random import generator
from tt_core.tensor import Tensor
from tt_core.tensor import elementwise as E
from tt_core.tensor.creation import zeros
from tt_language.embeddings.embeddings import rotary
from tt_language.errors import check_probability, check_sizes
from tt_language.hookspecs import Past
from tt_language.kernels.attention import attend, attend_backward, problem_of
from tt_learn.autograd import GradientError, formula, gradient

# --- the op


@op(residuals=("lse", "kept", "seed", "exact"), random=True)
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
) -> tuple[Array, ...]:
    """softmax(query key^T * scale + mask) value (Vaswani et al. 2017, arXiv:1706.03762), with PyTorch's arguments.

    query (..., heads, T, D), key (..., heads, S, D), value (..., heads, S, E) give (..., heads, T, E). `attn_mask`
    broadcasts to (..., heads, T, S): boolean, true where a query may look, or numbers that are added. `is_causal`
    lets query i see keys 0 to i, counted from the first of each as in PyTorch; `causal_offset=S - T` counts from the
    last, which is what queries need whose earlier keys are remembered. `enable_gqa` lets groups of query heads share
    a key-value head. `scale` is 1/sqrt(D) by default. A query that may see nothing gets zeros. Float16 is worked on in
    float32. Raises `ShapeError` or `DTypeError` for arrays that do not fit together.
    Residuals: log(sum(exp(score))) of each query, the weights where they are kept, the dropout seed, and the result
    before it was rounded to float16: with the rounded one, the gradients of peaked scores are off by 4 %.

    >>> from tt_core import ones
    >>> scaled_dot_product_attention(ones(1, 2, 3), ones(1, 2, 3), ones(1, 2, 3), is_causal=True).shape
    (1, 2, 3)
    """
    seed = int(generator().integers(1 << 62)) if dropout_p else 0
    problem = problem_of(
        query, key, value, attn_mask, dropout_p=dropout_p, is_causal=is_causal, scale=scale, enable_gqa=enable_gqa,
        causal_offset=causal_offset, seed=seed,
    )  # fmt: skip
    out, lse, kept = attend(problem)
    exact = problem.outside(out)
    if max(query.ndim, key.ndim, value.ndim) == 2:  # no heads at all
        exact = exact[0]
    if exact.dtype == query.dtype:
        return exact, lse, kept, np.asarray(seed), exact[:0]
    return exact.astype(query.dtype), lse, kept, np.asarray(seed), exact


@op
def scaled_dot_product_attention_backward(
    g: Array,
    query: Array,
    key: Array,
    value: Array,
    out: Array,
    lse: Array,
    kept: Array,
    seed: Array,
    attn_mask: Array | None = None,
    /,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
    causal_offset: int = 0,
    mask_gradient: bool = False,
) -> tuple[Array, ...]:
    """Gradients of `scaled_dot_product_attention` for query, key, value and, if asked for, an additive mask."""
    problem = problem_of(
        query, key, value, attn_mask, dropout_p=dropout_p, is_causal=is_causal, scale=scale, enable_gqa=enable_gqa,
        causal_offset=causal_offset, seed=int(seed),
    )  # fmt: skip
    shape = (*problem.q.shape[:4], problem.v.shape[-1])
    g, out = (x.astype(problem.q.dtype, copy=False) for x in (g, out))
    dq, dk, dv, dmask = attend_backward(problem, g.reshape(shape), out.reshape(shape), lse, kept, mask_gradient)
    mask_part = np.empty(0, dq.dtype) if dmask is None else problem.outside(dmask)
    return problem.outside(dq), problem.outside(dk), problem.outside(dv), mask_part


@gradient(scaled_dot_product_attention)
def _(
    out: Any, query: Any, key: Any, value: Any, attn_mask: Any, lse: Any, kept: Any, seed: Any, exact: Any,
    **attributes: Any,
) -> Any:  # fmt: skip
    result = exact if query.dtype == np.float16 else out
    saved = (query, key, value, result, lse, kept, seed, attn_mask)
    mask_gradient = bool(getattr(attn_mask, "requires_grad", False))

    def all_inputs(g: Any) -> Any:
        found = scaled_dot_product_attention_backward(g, *saved, **attributes, mask_gradient=mask_gradient)
        return found if mask_gradient else (*found[:3], None)

    return all_inputs


@formula(scaled_dot_product_attention_backward)
def _(
    g: Any, query: Any, key: Any, value: Any, out: Any, lse: Any, kept: Any, seed: Any, attn_mask: Any,
    dropout_p: float, scale: float | None, enable_gqa: bool, mask_gradient: bool, **attributes: Any,
) -> Any:  # fmt: skip
    """The same in elementary ops, from the inputs alone: what forward left is a function of them."""
    if dropout_p:
        raise GradientError(
            "scaled_dot_product_attention: second derivatives do not go through its dropout; set dropout_p to 0"
        )
    scale = 1 / math.sqrt(query.shape[-1]) if scale is None else scale
    groups = query.shape[-3] // key.shape[-3] if enable_gqa else 1
    keys, values = _repeated(key, groups), _repeated(value, groups)
    weights = attention_weights(query, keys, attn_mask, scale=scale, **attributes)
    slope = g @ values.mT
    ds = weights * (slope - (slope * weights).sum(-1, keepdim=True))
    dk, dv = (_grouped(x, groups) for x in (ds.mT @ query * scale, weights.mT @ g))
    return ds @ keys * scale, dk, dv, ds if mask_gradient else g.detach().narrow(-1, 0, 0)


def _repeated(x: Any, groups: int) -> Any:
    return x if groups == 1 else x.repeat_interleave(groups, -3)


def _grouped(x: Any, groups: int) -> Any:
    """Gradients of repeated heads summed to those of the heads."""
    return x if groups == 1 else x.unflatten(-3, (x.shape[-3] // groups, groups)).sum(-3)


@checked
def attention_weights(
    query: Any,
    key: Any,
    attn_mask: Any = None,
    *,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
    causal_offset: int = 0,
) -> Tensor:
    """How much each query takes from each key, (..., heads, T, S) with rows that sum to 1: for pictures and checks.

    Arguments as for `scaled_dot_product_attention`, which never builds this matrix for long texts.

    >>> from tt_core import ones
    >>> attention_weights(ones(2, 3), ones(2, 3), is_causal=True)
    tensor([[1. , 0. ],
            [0.5, 0.5]])
    """
    for name, x in (("query", query), ("key", key)):
        if x.ndim < 2 or not x.shape[-1] or x.dtype.kind != "f":
            raise ShapeError(f"attention_weights: {name} is (..., length, features) of floats, got {shown(x)}")
    if attn_mask is not None and attn_mask.dtype.kind not in "bf":
        raise DTypeError(f"attn_mask is boolean (true: may look) or floats to add, got {attn_mask.dtype}")
    key = _repeated(key, query.shape[-3] // key.shape[-3]) if enable_gqa else key
    scores = query * (1 / math.sqrt(query.shape[-1]) if scale is None else scale) @ key.mT
    visible = np.ones(scores.shape[-2:], bool)
    if is_causal:
        visible = np.tri(scores.shape[-2], scores.shape[-1], causal_offset, dtype=bool)
    if attn_mask is not None and attn_mask.dtype == np.bool_:
        try:
            visible = visible & np.asarray(attn_mask)
        except ValueError as error:
            raise ShapeError(f"attention_weights: attn_mask does not fit: {error}") from None
    elif attn_mask is not None:
        scores = scores + attn_mask
    scores = E.where(visible, scores, np.asarray(-np.inf, scores.dtype))
    peak = scores.data.max(-1, keepdims=True, initial=-np.inf)  # of no keys, too
    weights = E.exp(scores - np.where(np.isfinite(peak), peak, 0).astype(peak.dtype, copy=False))
    total = weights.sum(-1, keepdim=True)
    return weights / E.where(E.eq(total, 0), np.asarray(1, total.dtype), total)


# --- heads


@op(view=True)
def split_heads(x: Array, /, heads: tuple[int, ...]) -> Any:
    """(batch, T, sum(heads) * size) cut into several (batch, heads[i], T, size); views."""
    size, rest = divmod(x.shape[-1], sum(heads))
    if rest:
        raise ValueError(f"{x.shape[-1]} features do not divide into {' + '.join(map(str, heads))} heads")
    apart = x.reshape(*x.shape[:-1], sum(heads), size).swapaxes(-2, -3)
    ends = np.cumsum(heads).tolist()
    parts = tuple([apart[..., end - n : end, :, :] for n, end in zip(heads, ends)])
    return parts if len(parts) > 1 else parts[0]


@op(view=True)
def join_heads(*parts: Array) -> Array:
    """Several (batch, heads, T, size) side by side as (batch, T, sum of heads * size): undoes `split_heads`."""
    if len(parts) == 1:
        apart = parts[0].swapaxes(-2, -3)  # no copy where `heads_inside` made it
        return apart.reshape(*apart.shape[:-2], apart.shape[-2] * apart.shape[-1])
    heads = [x.shape[-3] for x in parts]
    (*lead, _, length, size), ends = parts[0].shape, np.cumsum(heads).tolist()
    joined = np.empty((*lead, length, ends[-1], size), parts[0].dtype)
    for x, n, end in zip(parts, heads, ends):
        joined[..., end - n : end, :] = x.swapaxes(-2, -3)
    return joined.reshape(*lead, length, ends[-1] * size)


@gradient(split_heads)
def _(out: Any, x: Any, heads: tuple[int, ...]) -> Any:
    shapes = [part.shape for part in (out if isinstance(out, tuple) else (out,))]
    dtype = x.dtype

    def for_x(g: Any) -> Any:
        parts = g if isinstance(g, tuple) else (g,)
        return join_heads(*[zeros(shape, dtype=dtype) if p is None else p for p, shape in zip(parts, shapes)])

    return for_x


@gradient(join_heads)
def _(out: Any, *parts: Any) -> Any:
    heads = tuple([x.shape[-3] for x in parts])
    return lambda g: split_heads(g, heads=heads)


# --- the layer


class MultiHeadAttention(Layer):
    """Attention with several heads, each with its own projection of queries, keys and values.

    `embed_dim` features go in and out; `num_heads` divides them. `num_kv_heads` heads of keys and values are shared by
    groups of query heads (grouped queries, Ainslie et al. 2023, arXiv:2305.13245; 1 is multi-query). `causal` hides
    later tokens. `dropout` applies to the weights while training.

    `in_proj.weight` holds the rows for queries, keys and values below each other, as PyTorch's `in_proj_weight`.
    Takes (batch, T, embed_dim), returns the same shape. Raises `ShapeError` for sizes that do not divide.

    >>> from tt_core import ones
    >>> MultiHeadAttention(8, num_heads=2)(ones(1, 5, 8)).shape
    (1, 5, 8)
    """

    @checked
    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        dropout: float = 0.0,
        bias: bool = True,
        *,
        num_kv_heads: int | None = None,
        head_dim: int | None = None,
        causal: bool = False,
    ) -> None:
        super().__init__()
        num_kv_heads = num_heads if num_kv_heads is None else num_kv_heads
        check_sizes("MultiHeadAttention", embed_dim=embed_dim, num_heads=num_heads, num_kv_heads=num_kv_heads)
        check_sizes("MultiHeadAttention", head_dim=1 if head_dim is None else head_dim)
        if head_dim is None and embed_dim % num_heads:
            raise ShapeError(f"MultiHeadAttention: embed_dim {embed_dim} does not divide into {num_heads} heads")
        if num_heads % num_kv_heads:
            raise ShapeError(f"MultiHeadAttention: {num_heads} heads cannot evenly share {num_kv_heads} of keys")
        check_probability("MultiHeadAttention", "dropout", dropout)
        self.embed_dim, self.num_heads, self.num_kv_heads = embed_dim, num_heads, num_kv_heads
        self.head_dim = embed_dim // num_heads if head_dim is None else head_dim
        self.dropout, self.causal = dropout, causal
        self.in_proj = Linear(embed_dim, (num_heads + 2 * num_kv_heads) * self.head_dim, bias)
        self.out_proj = Linear(num_heads * self.head_dim, embed_dim, bias)
        self._start_as_pytorch()

    def reset_parameters(self) -> None:
        """Draw the initial values again: Xavier's uniform for the projection in, biases 0, as PyTorch does."""
        self.out_proj.reset_parameters()
        self._start_as_pytorch()

    def _start_as_pytorch(self) -> None:
        init.xavier_uniform_(self.in_proj.weight)
        for projection in (self.in_proj, self.out_proj):
            if projection.bias is not None:
                init.zeros_(projection.bias)

    def forward(
        self,
        query: Any,
        memory: Any = None,
        attn_mask: Any = None,
        *,
        need_weights: bool = False,
        angles: tuple[Any, Any] | None = None,
        past: Past | None = None,
    ) -> Any:
        """Attention of `query` (B, T, embed_dim) on itself, or on `memory` (B, S, embed_dim).

        `attn_mask` broadcasts to (B, heads, T, S), true where a query may look, or numbers that are added. With
        `need_weights` returns `(result, weights)`, weights (B, heads, T, S). `angles` are cosines and sines that turn
        queries and keys (`RotaryEmbedding.angles`). `past` remembers keys and values of earlier calls.
        """
        q, k, v = self._projected(query, memory)  # (B, heads, T, D), (B, kv_heads, S, D) twice
        if angles is not None:
            q, k = rotary(q, *angles), rotary(k, *angles)
        if past is not None and memory is None:
            k, v = past.extend(self, k, v)  # S is now all positions so far
        options = {
            "is_causal": self.causal,
            "enable_gqa": self.num_heads != self.num_kv_heads,
            "causal_offset": k.shape[-2] - q.shape[-2],  # the last query sees the last key
        }
        dropout_p = self.dropout if self.training else 0.0
        if need_weights:
            weights = attention_weights(q, k, attn_mask, **options)
            weights = dropout(weights, p=dropout_p) if dropout_p else weights  # PyTorch's are those used, too
            out = weights @ _repeated(v, self.num_heads // self.num_kv_heads)
        else:
            out = scaled_dot_product_attention(q, k, v, attn_mask, dropout_p=dropout_p, **options)
        out = self.out_proj(join_heads(out))  # (B, T, heads * D) to (B, T, embed_dim)
        return (out, weights) if need_weights else out

    def _projected(self, query: Any, memory: Any) -> Any:
        heads, shared = self.num_heads, self.num_kv_heads
        if query.ndim != 3 or query.shape[-1] != self.embed_dim:
            raise ShapeError(
                f"MultiHeadAttention: expected (batch, length, {self.embed_dim}), got {tuple(query.shape)}"
            )
        if memory is not None and memory.ndim != 3:
            raise ShapeError(f"MultiHeadAttention: memory is (batch, length, features), got {tuple(memory.shape)}")
        if memory is None:
            return split_heads(self.in_proj(query), heads=(heads, shared, shared))
        weight, bias, cut = self.in_proj.weight, self.in_proj.bias, heads * self.head_dim
        q = linear(query, weight[:cut], None if bias is None else bias[:cut])
        kv = linear(memory, weight[cut:], None if bias is None else bias[cut:])
        return (split_heads(q, heads=(heads,)), *split_heads(kv, heads=(shared, shared)))

    def extra_repr(self) -> str:
        shared = f", num_kv_heads={self.num_kv_heads}" if self.num_kv_heads != self.num_heads else ""
        return f"{self.embed_dim}, num_heads={self.num_heads}{shared}" + ", causal" * self.causal
