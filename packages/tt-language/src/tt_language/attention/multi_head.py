"""Part of module 12, attention: the layer that projects vectors to queries, keys and values and back."""

from __future__ import annotations

from tt_core import init
from tt_core.engine.arguments import checked
from tt_core.layers import Layer, Linear, dropout, linear
from tt_core.tensor import Tensor
from tt_language.attention.attention import attention_weights, repeat_heads, scaled_dot_product_attention
from tt_language.attention.checks import check_inputs, check_layer
from tt_language.attention.heads import join_heads, split_heads
from tt_language.embeddings import rotary
from tt_language.hookspecs import Past


class MultiHeadAttention(Layer):
    """Attention with several heads, each with its own projection of queries, keys and values.

    embed_dim: features of input and output.
    num_heads: heads of queries; they divide `embed_dim`, unless `head_dim` gives their size.
    num_kv_heads: heads of keys and values, each shared by a group of query heads (Ainslie et al. 2023,
    arXiv:2305.13245); `num_heads` by default, and 1 is multi-query attention.
    causal: hides later tokens.
    dropout: the probability with which a weight is dropped in training.

    `in_proj.weight` holds the rows for queries, keys and values below each other, as PyTorch's `in_proj_weight`.
    Takes (batch, T, embed_dim) and returns the same shape. Raises `ShapeError` for sizes that do not divide,
    `ArgumentError` for another `dropout`.

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
        check_layer(embed_dim, num_heads, num_kv_heads, head_dim, dropout)
        self.embed_dim, self.num_heads, self.num_kv_heads = embed_dim, num_heads, num_kv_heads
        self.head_dim = embed_dim // num_heads if head_dim is None else head_dim
        self.dropout, self.causal = dropout, causal
        # one matrix for all three, since one large product is faster than three small ones
        self.in_proj = Linear(embed_dim, (num_heads + 2 * num_kv_heads) * self.head_dim, bias)
        self.out_proj = Linear(num_heads * self.head_dim, embed_dim, bias)
        self._start_as_pytorch()

    def reset_parameters(self) -> None:
        """Draw the initial values again: Xavier's uniform for the projection in, biases 0, as in PyTorch."""
        self.out_proj.reset_parameters()
        self._start_as_pytorch()

    def _start_as_pytorch(self) -> None:
        init.xavier_uniform_(self.in_proj.weight)
        for projection in (self.in_proj, self.out_proj):
            if projection.bias is not None:
                init.zeros_(projection.bias)

    def forward(
        self,
        query: Tensor,
        memory: Tensor | None = None,
        attn_mask: Tensor | None = None,
        *,
        need_weights: bool = False,
        angles: tuple[Tensor, Tensor] | None = None,
        past: Past | None = None,
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Attention of `query` (B, T, embed_dim) to itself, or to `memory` (B, S, embed_dim).

        attn_mask: broadcasts to (B, heads, T, S); True where a query may look, or numbers to add.
        need_weights: returns `(result, weights)`, with weights (B, heads, T, S).
        angles: cosines and sines that rotate queries and keys (`RotaryEmbedding.angles`).
        past: holds keys and values of earlier calls (a KV cache); a `memory` is read whole, without it.
        """
        q, k, v = self._projected(query, memory)  # (B, heads, T, D) and twice (B, kv_heads, S, D)
        if angles is not None:
            q, k = rotary(q, *angles), rotary(k, *angles)
        if past is not None and memory is None:
            k, v = past.extend(self, k, v)  # S now counts all positions so far
        out, weights = self._attended(q, k, v, attn_mask, need_weights)  # (B, heads, T, D)
        out = self.out_proj(join_heads(out))  # (B, T, heads * D), then (B, T, embed_dim)
        return out if weights is None else (out, weights)

    def _attended(
        self, q: Tensor, k: Tensor, v: Tensor, attn_mask: Tensor | None, need_weights: bool
    ) -> tuple[Tensor, Tensor | None]:
        options = {
            "is_causal": self.causal,
            "enable_gqa": self.num_heads != self.num_kv_heads,
            "causal_offset": k.shape[-2] - q.shape[-2],  # the last query sees the last key
        }
        p = self.dropout if self.training else 0.0
        if not need_weights:
            return scaled_dot_product_attention(q, k, v, attn_mask, dropout_p=p, **options), None
        weights = attention_weights(q, k, attn_mask, **options)
        weights = dropout(weights, p=p) if p else weights  # as in PyTorch, the weights that were used
        return weights @ repeat_heads(v, q), weights

    def _projected(self, query: Tensor, memory: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        heads, shared = self.num_heads, self.num_kv_heads
        check_inputs(query, memory, self.embed_dim)
        if memory is None:  # (B, T, embed_dim) -> (B, T, (heads + 2 kv_heads) D) -> three of (B, its heads, T, D)
            q, k, v = split_heads(self.in_proj(query), heads=(heads, shared, shared))
            return q, k, v
        # queries are rows of `query`, keys and values of `memory`: the projection is applied in two parts
        weight, bias, cut = self.in_proj.weight, self.in_proj.bias, heads * self.head_dim
        q = split_heads(linear(query, weight[:cut], None if bias is None else bias[:cut]), heads=(heads,))
        kv = linear(memory, weight[cut:], None if bias is None else bias[cut:])
        return (q, *split_heads(kv, heads=(shared, shared)))

    def extra_repr(self) -> str:
        shared = f", num_kv_heads={self.num_kv_heads}" if self.num_kv_heads != self.num_heads else ""
        return f"{self.embed_dim}, num_heads={self.num_heads}{shared}" + ", causal" * self.causal
