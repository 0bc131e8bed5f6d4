"""Part of module 11, embeddings: positions as vectors, learned or made of sine waves, that are added to token vectors.

Rotations of queries and keys, the third way to tell attention about positions, are in `rotary`.
"""

from __future__ import annotations

import numpy as np

from tt_core.engine.arguments import checked
from tt_core.engine.dispatch import Array
from tt_core.engine.errors import ShapeError
from tt_core.layers import Layer
from tt_core.tensor import Tensor
from tt_core.tensor.creation import tensor
from tt_language.embeddings.embeddings import Embedding, embedding
from tt_language.errors import check_positive, check_sizes


class PositionalEmbedding(Embedding):
    """A learned vector for each of `max_length` positions, as in GPT-2; starts normal with deviation 0.02.

    Takes positions (...) and returns (..., dim).

    >>> PositionalEmbedding(16, 4)(tensor([0, 1])).shape
    (2, 4)
    """

    @checked
    def __init__(self, max_length: int, dim: int) -> None:
        super().__init__(max_length, dim)
        self.weight.data *= np.float32(0.02)  # small beside the token's vector, to which it is added


def sine_waves(max_length: int, dim: int, base: float = 10000.0) -> Array:
    """PE(p, 2i) = sin(p / base^(2i/dim)) and PE(p, 2i + 1) = cos(p / base^(2i/dim)), float64 (max_length, dim).

    A row for each position p; `dim` is even (Vaswani et al. 2017, section 3.5).

    >>> sine_waves(2, 2).round(4)
    array([[0.    , 1.    ],
           [0.8415, 0.5403]])
    """
    angle = np.arange(max_length)[:, None] / base ** (np.arange(0, dim, 2) / dim)  # (max_length, dim / 2)
    return np.stack([np.sin(angle), np.cos(angle)], axis=-1).reshape(max_length, dim)


class SinusoidalEmbedding(Layer):
    """Sine waves of falling frequency, one vector for each of `max_length` positions; nothing is learned.

    The waves are those of `sine_waves`. Takes positions (...) and returns (..., dim). Raises `ShapeError` for an odd
    `dim`, `ArgumentError` for a `base` that is not above 0.

    >>> SinusoidalEmbedding(16, 2)(tensor([0]))
    tensor([[0., 1.]])
    """

    table: Tensor

    @checked
    def __init__(self, max_length: int, dim: int, base: float = 10000.0) -> None:
        super().__init__()
        check_sizes("SinusoidalEmbedding", max_length=max_length, dim=dim)
        check_positive("SinusoidalEmbedding", "base", base)
        if dim % 2:
            raise ShapeError(f"SinusoidalEmbedding: dim {dim} is odd; a sine and a cosine share each frequency")
        self.max_length, self.dim = max_length, dim
        # not persistent: a formula gives the table, so a checkpoint need not hold it
        self.register_buffer("table", tensor(sine_waves(max_length, dim, base), np.float32), persistent=False)

    def forward(self, positions: Tensor) -> Tensor:
        return embedding(positions, self.table)

    def extra_repr(self) -> str:
        return f"{self.max_length}, {self.dim}"
