"""Part of module 13, transformers: blocks one after the other, as the encoder and the decoder of 2017 have them."""

from __future__ import annotations

from typing import Any

from tt_core.engine.arguments import checked
from tt_core.layers import Layer, LayerList
from tt_core.tensor import Tensor
from tt_language.errors import check_sizes
from tt_language.transformers.blocks import TransformerBlock, norm_of


class EncoderStack(Layer):
    """`num_layers` blocks that see the whole text; the options are those of `TransformerBlock`.

    With `norm_first`, a last normalization follows. Takes and returns (batch, T, embed_dim).

    >>> from tt_core import ones
    >>> EncoderStack(2, 8, num_heads=2)(ones(1, 5, 8)).shape
    (1, 5, 8)
    """

    causal = cross = False

    @checked
    def __init__(self, num_layers: int, embed_dim: int, num_heads: int, **options: Any) -> None:
        super().__init__()
        check_sizes(type(self).__name__, least=0, num_layers=num_layers)
        kinds: dict[str, Any] = {"causal": self.causal, "cross": self.cross}
        self.blocks = LayerList(TransformerBlock(embed_dim, num_heads, **kinds, **options) for _ in range(num_layers))
        last = options.get("norm_first", True)
        kind, eps, bias = options.get("norm", "layer"), options.get("norm_eps", 1e-5), options.get("bias", True)
        self.norm = norm_of(kind, embed_dim, eps, bias) if last else None

    def forward(self, x: Tensor, attn_mask: Tensor | None = None, **options: Any) -> Tensor:
        for block in self.blocks:
            x = block(x, attn_mask, **options)
        return x if self.norm is None else self.norm(x)


class DecoderStack(EncoderStack):
    """`num_layers` causal blocks that attend to an encoder's output too.

    Takes (batch, T, embed_dim) and `memory=` (batch, S, embed_dim), returns the shape of the first.

    >>> from tt_core import ones
    >>> DecoderStack(2, 8, num_heads=2)(ones(1, 5, 8), memory=ones(1, 3, 8)).shape
    (1, 5, 8)
    """

    causal = cross = True
