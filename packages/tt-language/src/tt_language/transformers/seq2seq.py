"""Part of module 13, transformers: the encoder-decoder of Vaswani et al. 2017, which translates.

`torch_names` has PyTorch's `nn.Transformer`, the same without embeddings and output layer.
"""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np

from tt_core import init
from tt_core.engine.arguments import checked
from tt_core.engine.dispatch import Array
from tt_core.engine.errors import ShapeError
from tt_core.layers import Dropout, Layer, Linear
from tt_core.tensor import Tensor
from tt_core.tensor.creation import arange, tensor
from tt_language.embeddings import Embedding, SinusoidalEmbedding
from tt_language.errors import ConfigError, check_sizes
from tt_language.transformers.stacks import DecoderStack, EncoderStack
from tt_learn.training import evaluating


class Seq2SeqTransformer(Layer):
    """The encoder-decoder of Vaswani et al. 2017 (arXiv:1706.03762) with sinusoidal positions.

    Takes ids of a source (batch, S) and of the target so far (batch, T), returns logits (batch, T, target_vocab) for
    the token after each. Source ids equal to `padding_idx` are hidden from attention; the options are those of
    `TransformerBlock`. Raises `ConfigError` for a `padding_idx` outside the source vocabulary.

    >>> model = Seq2SeqTransformer(20, 30, embed_dim=16, num_heads=2, num_layers=1)
    >>> model(tensor([[1, 2, 3]]), tensor([[0, 4]])).shape
    (1, 2, 30)
    """

    @checked
    def __init__(
        self,
        source_vocab: int,
        target_vocab: int,
        embed_dim: int = 512,
        num_heads: int = 8,
        num_layers: int = 6,
        hidden_dim: int | None = None,
        dropout: float = 0.1,
        max_length: int = 512,
        padding_idx: int | None = None,
        **options: Any,
    ) -> None:
        super().__init__()
        options = {"hidden_dim": hidden_dim, "dropout": dropout, "mlp": "relu", "norm_first": False, **options}
        if padding_idx is not None and not 0 <= padding_idx < source_vocab:
            raise ConfigError(
                f"Seq2SeqTransformer: padding_idx {padding_idx} is outside the source vocabulary (0 to "
                f"{source_vocab - 1})"
            )
        check_sizes("Seq2SeqTransformer", embed_dim=embed_dim, max_length=max_length)
        self.max_length, self.padding_idx = max_length, padding_idx
        self.scale = math.sqrt(embed_dim)
        self.source = Embedding(source_vocab, embed_dim)
        self.target = Embedding(target_vocab, embed_dim)
        self.positions = SinusoidalEmbedding(max_length, embed_dim)
        self.dropout = Dropout(dropout)
        self.encoder = EncoderStack(num_layers, embed_dim, num_heads, **options)
        self.decoder = DecoderStack(num_layers, embed_dim, num_heads, **options)
        self.head = Linear(embed_dim, target_vocab)
        for table in (self.source, self.target):  # times sqrt(embed_dim) they are as large as the positions
            init.normal_(table.weight, std=embed_dim**-0.5)

    def forward(self, source: Tensor, target: Tensor) -> Tensor:
        return self.decode(target, self.encode(source), source)

    @checked
    def encode(self, source: Tensor | Array) -> Tensor:
        """Vectors (batch, S, embed_dim) for source ids (batch, S)."""
        return self.encoder(self._embedded(self.source, source), self._visible(source))

    @checked
    def decode(self, target: Tensor | Array, memory: Tensor | Array, source: Tensor | Array) -> Tensor:
        """Logits (batch, T, target_vocab) for target ids (batch, T) and the encoded source (batch, S, embed_dim)."""
        x = self._embedded(self.target, target)
        return self.head(self.decoder(x, memory=memory, memory_mask=self._visible(source)))

    @checked
    def translate(self, source: Tensor | Array, start: int, end: int, max_length: int = 100) -> list[list[int]]:
        """Greedy decoding: the likeliest next token, repeatedly, for each row of source ids (batch, S).

        The results leave out `start` and `end`, and have at most `max_length` tokens, or the model's own `max_length`.
        Nothing is dropped out, even in a model in training.
        """
        most = min(max_length, self.max_length)
        with evaluating(self):
            memory = self.encode(source)
            target = np.full((source.shape[0], 1), start)  # (batch, T)
            while target.shape[1] <= most and not (target == end).any(1).all():
                logits = self.decode(tensor(target), memory, source)
                target = np.concatenate([target, logits.data[:, -1:].argmax(-1)], axis=1)
        return [[*itertools.takewhile(lambda token: token != end, row)] for row in target[:, 1:].tolist()]

    def _embedded(self, table: Layer, ids: Tensor | Array) -> Tensor:
        if not ids.ndim:
            raise ShapeError("Seq2SeqTransformer: expected ids (batch, length), got one without dimensions")
        if ids.shape[-1] > self.max_length:
            raise ShapeError(f"Seq2SeqTransformer: {ids.shape[-1]} tokens, at most max_length = {self.max_length}")
        x = table(ids) * self.scale  # (batch, length, embed_dim)
        return self.dropout(x + self.positions(arange(ids.shape[-1])))

    def _visible(self, source: Tensor | Array) -> Array | None:
        """(batch, 1, 1, S), True where there is no padding."""
        return None if self.padding_idx is None else (np.asarray(source) != self.padding_idx)[:, None, None]
