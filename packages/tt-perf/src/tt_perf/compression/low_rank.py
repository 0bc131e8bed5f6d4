"""Part of module 16: low rank. A weight matrix as the product of two thin ones.

    W = U S V^T  ~  (U_r sqrt(S_r)) (sqrt(S_r) V_r^T)        the best approximation of rank r (Eckart and Young 1936)

Its squared error is the sum of the squared singular values left out. The product costs r (in + out) multiplications in
place of in * out, so it pays below rank in * out / (in + out), half of a square matrix; weights of trained networks
often have more rank than that, and `low_rank_` (`factoring.py`) leaves such layers as they are and says so.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tt_core.engine.dispatch import Array
from tt_core.layers import Layer, Linear
from tt_core.tensor import Tensor


def rank_of(singular: Array, *, energy: float | None = None, error: float | None = None) -> int:
    """The smallest rank that keeps the share `energy` of the squared singular values, or whose relative error
    |W - W_r| / |W| (Frobenius) is at most `error`: energy = 1 - error^2.

    >>> rank_of(np.array([3.0, 4.0, 0.0])[[1, 0, 2]], energy=0.6), rank_of(np.array([4.0, 3.0, 0.0]), error=0.1)
    (1, 2)
    """
    # |W - W_r|^2 is the sum of the squared singular values that are left out, so an error is an energy in other words
    wanted = 1 - error**2 if error is not None else energy
    kept = np.cumsum(np.square(singular, dtype=np.float64))
    # a hair less than asked for, since rounding of the sum must not cost one more rank
    return min(int(np.searchsorted(kept, wanted * kept[-1] * (1 - 1e-12))) + 1, len(singular))


def decomposable(weight: Array) -> Array:
    """The weight in a dtype that LAPACK takes: float16 becomes float32.

    >>> decomposable(np.ones((2, 2), "float16")).dtype
    dtype('float32')
    """
    return weight.astype(np.float32) if weight.dtype == np.float16 else weight


def factors(weight: Array, rank: int) -> tuple[Array, Array]:
    """`up` (out, rank) and `down` (rank, in), whose product is the best approximation of `weight` of that rank.

    Each gets the root of every singular value, so that neither is much larger than the other.

    >>> up, down = factors(np.outer([1.0, 2.0], [3.0, 4.0]), 1)
    >>> np.allclose(up @ down, [[3, 4], [6, 8]])
    True
    """
    u, s, vt = np.linalg.svd(weight, full_matrices=False)
    root = np.sqrt(s[:rank])  # each factor gets half of it, so that both train at the same rate
    return u[:, :rank] * root, root[:, None] * vt[:rank]


class LowRankLinear(Layer):
    """`y = x D^T U^T + b`: a `Linear` whose weight is the product of `up` (out, rank) and `down` (rank, in).

    Takes (..., in_features), returns (..., out_features).

    >>> import tt_core
    >>> layer = LowRankLinear(8, 6, rank=2)
    >>> layer(tt_core.ones(3, 8)).shape, layer.weight.shape, layer.num_parameters()
    ((3, 6), (6, 8), 34)
    """

    def __init__(self, in_features: int, out_features: int, rank: int, bias: bool = True) -> None:
        super().__init__()
        self.in_features, self.out_features, self.rank = in_features, out_features, rank
        # r (in + out) numbers in place of in * out
        self.down = Linear(in_features, rank, bias=False)
        self.up = Linear(rank, out_features, bias)

    @classmethod
    def of(cls, layer: Any, rank: int) -> LowRankLinear:
        """The best approximation of `layer`, in its dtype; it takes over the layer's bias."""
        made = cls(layer.in_features, layer.out_features, rank, bias=False)
        for part, values in zip((made.up, made.down), factors(decomposable(layer.weight.data), rank)):
            part.weight.data = np.ascontiguousarray(values, layer.weight.dtype)
            part.weight.requires_grad_(layer.weight.requires_grad)
        made.up.bias = layer.bias
        return made.train(layer.training)

    @property
    def weight(self) -> Tensor:
        """The product (out, in), for code that reads the weight of a `Linear`. Differentiable; computed each time."""
        return self.up.weight @ self.down.weight

    @property
    def bias(self) -> Tensor | None:
        """The bias (out,), or None."""
        return self.up.bias

    def forward(self, x: Tensor) -> Any:
        return self.up(self.down(x))  # (..., in) -> (..., rank) -> (..., out)

    def extra_repr(self) -> str:
        return f"{self.in_features}, {self.out_features}, rank={self.rank}"
