"""Module 13, transformers: a block of attention and a feed-forward layer, each added to the residual stream."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tt_core.engine.arguments import checked
from tt_core.layers import Dropout, Layer, LayerNorm
from tt_core.tensor import Tensor
from tt_language.attention import MultiHeadAttention
from tt_language.errors import ConfigError
from tt_language.hookspecs import Past
from tt_language.transformers.feed_forward import FeedForward, SwiGLU
from tt_language.transformers.normalization import RMSNorm


def norm_of(kind: str, dim: int, eps: float, bias: bool) -> Layer:
    """A normalization layer of `kind` "layer" or "rms"; raises `ConfigError` for another."""
    if kind not in ("layer", "rms"):
        raise ConfigError(f"TransformerBlock: norm is {kind!r}, expected layer or rms")
    return RMSNorm(dim, eps=eps) if kind == "rms" else LayerNorm(dim, eps=eps, bias=bias)


def _mlp_of(kind: str, dim: int, hidden_dim: int | None, bias: bool) -> Layer:
    return SwiGLU(dim, hidden_dim, bias) if kind == "swiglu" else FeedForward(dim, hidden_dim, kind, bias)


def add_residual(x: Tensor, part: Callable[[Tensor], Any], norm: Layer, dropout: Layer, norm_first: bool) -> Tensor:
    """`x + part(norm(x))` (GPT-2), or `norm(x + part(x))` (2017) without `norm_first`; `dropout` on what is added."""
    return x + dropout(part(norm(x))) if norm_first else norm(x + dropout(part(x)))


class TransformerBlock(Layer):
    """Attention and a feed-forward layer, each added to its input.

    mlp: the feed-forward layer: "gelu", "gelu_tanh", "relu" or "swiglu".
    norm: "layer" or "rms".
    norm_first: normalizes the input of each part (GPT-2); without it, the sum after each part (2017).
    parallel: both parts read the same input, which is normalized once.
    cross: adds a part between them that attends to an encoder's output.
    bias: of norms and projections; `attention_bias` and `mlp_bias` override it for the projections of one part.
    dropout: on what each part adds, and on the attention weights.

    Takes and returns (batch, T, embed_dim). Raises `ConfigError` for unknown kinds and for `parallel` with `cross` or
    without `norm_first`.

    >>> from tt_core import ones
    >>> TransformerBlock(8, num_heads=2, causal=True)(ones(1, 5, 8)).shape
    (1, 5, 8)
    """

    @checked
    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        *,
        num_kv_heads: int | None = None,
        head_dim: int | None = None,
        hidden_dim: int | None = None,
        dropout: float = 0.0,
        bias: bool = True,
        norm: str = "layer",
        norm_eps: float = 1e-5,
        mlp: str = "gelu",
        causal: bool = False,
        cross: bool = False,
        norm_first: bool = True,
        parallel: bool = False,
        attention_bias: bool | None = None,
        mlp_bias: bool | None = None,
    ) -> None:
        super().__init__()
        if parallel and (cross or not norm_first):
            raise ConfigError("TransformerBlock: parallel goes with norm_first and without cross")
        self.norm_first, self.parallel = norm_first, parallel
        attention_bias = bias if attention_bias is None else attention_bias
        mlp_bias = bias if mlp_bias is None else mlp_bias
        heads: dict[str, Any] = {"bias": attention_bias, "num_kv_heads": num_kv_heads, "head_dim": head_dim}
        self.norm1 = norm_of(norm, embed_dim, norm_eps, bias)
        self.attention = MultiHeadAttention(embed_dim, num_heads, dropout, causal=causal, **heads)
        self.norm_cross = norm_of(norm, embed_dim, norm_eps, bias) if cross else None
        self.cross_attention = MultiHeadAttention(embed_dim, num_heads, dropout, **heads) if cross else None
        # with `parallel`, one normalization serves both parts, as in GPT-J
        self.norm2 = None if parallel else norm_of(norm, embed_dim, norm_eps, bias)
        self.mlp = _mlp_of(mlp, embed_dim, hidden_dim, mlp_bias)
        self.dropout = Dropout(dropout)

    def forward(
        self,
        x: Tensor,
        attn_mask: Tensor | None = None,
        *,
        memory: Tensor | None = None,
        memory_mask: Tensor | None = None,
        angles: tuple[Tensor, Tensor] | None = None,
        past: Past | None = None,
    ) -> Tensor:
        """`memory` (batch, S, embed_dim) is an encoder's output; masks are True where a query may look.

        Raises `ConfigError` where `memory` is missing, or given to a block without `cross`.
        """
        cross = self.cross_attention
        if (memory is None) != (cross is None):
            problem = "needs memory=, got none" if memory is None else "needs cross=True to attend to memory="
            raise ConfigError(f"TransformerBlock: {problem}")

        def attend(h: Tensor) -> Tensor:
            return self.attention(h, None, attn_mask, angles=angles, past=past)

        # x (B, T, embed_dim) is the residual stream: each part reads it normalized and adds to it
        if self.parallel:
            h = self.norm1(x)
            return x + self.dropout(attend(h) + self.mlp(h))
        x = self._add(x, attend, self.norm1)  # positions exchange what they know
        if cross is not None:
            x = self._add(x, lambda h: cross(h, memory, memory_mask), self.norm_cross)
        return self._add(x, self.mlp, self.norm2)  # each position by itself

    def _add(self, x: Tensor, part: Callable[[Tensor], Any], norm: Any) -> Tensor:
        return add_residual(x, part, norm, self.dropout, self.norm_first)
