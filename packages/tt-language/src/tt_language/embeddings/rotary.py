"""Part of module 11, embeddings: positions as rotations of queries and keys.

A query at position m and a key at position n, each rotated by its position times a frequency, have a product that
depends on m - n alone. `rope_scaling` computes the frequencies.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tt_core.engine.arguments import checked
from tt_core.engine.dispatch import Array, op
from tt_core.engine.errors import DTypeError, OutOfRangeError, ShapeError, shown
from tt_core.layers import Layer
from tt_core.tensor import Tensor
from tt_core.tensor.creation import from_numpy
from tt_language.embeddings.rope_config import RopeScaling
from tt_language.errors import check_positive, check_sizes
from tt_learn.autograd import gradient


def _check_rotary(x: Array, cos: Array, sin: Array, /) -> None:
    if x.shape[-1] % 2 or cos.shape[-1] != x.shape[-1] // 2:
        raise ValueError(f"{x.shape[-1]} features need {x.shape[-1] / 2:g} angles, got {cos.shape[-1]}")


@op(check=_check_rotary)
def rotary(x: Array, cos: Array, sin: Array, /) -> Array:
    """Rotates each pair (a, b) = (x[i], x[i + dim/2]) by its angle: (a cos - b sin, b cos + a sin).

    x (..., T, dim), cos and sin (..., T, dim/2). Su et al. 2021 (arXiv:2104.09864), with the halves split as in
    Llama's checkpoints, not interleaved. Raises `ShapeError` unless there is one angle for each pair.

    >>> from tt_core import tensor
    >>> rotary(tensor([[1.0, 0.0]]), tensor([[0.0]]), tensor([[1.0]]))  # by 90 degrees
    tensor([[0., 1.]])
    """
    half = x.shape[-1] // 2
    a, b = x[..., :half], x[..., half:]  # (..., T, dim/2)
    return np.concatenate([a * cos - b * sin, b * cos + a * sin], -1).astype(x.dtype, copy=False)


@gradient(rotary)
def _(out: Any, x: Any, cos: Any, sin: Any) -> Any:
    """A rotation's transpose rotates back; for the angles, pairs are multiplied as complex numbers."""

    def halves(*pairs: Any) -> list[Any]:
        return [part for each in pairs for part in each.chunk(2, -1)]

    def for_cos(g: Any) -> Any:
        g_a, g_b, a, b = halves(g, x)
        return g_a * a + g_b * b

    def for_sin(g: Any) -> Any:
        g_a, g_b, a, b = halves(g, x)
        return g_b * a - g_a * b

    # a rotation changes no length, so its gradient is the rotation back: no division, nothing to keep but the angles
    return lambda g: rotary(g, cos, -sin), for_cos, for_sin


class RotaryEmbedding(Layer):
    """Rotates queries and keys by angles that grow with their position, so that products depend on distances alone.

    dim: features of a head, an even number. Pair i has the frequency `theta ** (-2i / dim)`.
    max_length: positions must be below it.
    scaling: stretches the frequencies to longer texts, as Llama's configurations do: `rope_type` is "linear",
    "dynamic", "llama3", "yarn" or "longrope", and the numbers have Hugging Face's names.

    Takes x (batch, heads, T, dim) and positions (T,) or (batch, T), returns the shape of x. Raises `ShapeError` for an
    odd `dim`, `ArgumentError` for an unknown scaling, `OutOfRangeError` for a position from `max_length` on.

    >>> from tt_core import tensor
    >>> x = tensor(np.ones((1, 2, 3, 8), np.float32))
    >>> rotated = RotaryEmbedding(8, max_length=16)(x, tensor([0, 1, 2]))
    >>> bool(np.allclose(rotated.norm(dim=-1).data, x.norm(dim=-1).data))
    True
    """

    frequency: Array

    @checked
    def __init__(
        self, dim: int, max_length: int = 2048, theta: float = 10000.0, scaling: Mapping[str, Any] | None = None
    ) -> None:
        super().__init__()
        check_sizes("RotaryEmbedding", dim=dim, max_length=max_length)
        check_positive("RotaryEmbedding", "theta", theta)
        if dim % 2:
            raise ShapeError(f"RotaryEmbedding: dim {dim} is odd; features are rotated in pairs")
        self.dim, self.max_length, self.theta = dim, max_length, theta
        self.scaling = RopeScaling.read(scaling or {}, dim, theta, max_length)
        # not a buffer: in float16, to which a model may be converted, it would be off by a whole turn at position 4000;
        # not a tensor: a captured step could not be replayed if it depended on the values of one
        self.frequency, self.magnitude = self.scaling.frequencies(dim, theta, 1)

    @checked
    def angles(self, positions: Tensor | Array | Sequence[int], endless: bool = False) -> tuple[Tensor, Tensor]:
        """Cosines and sines for positions (T,) as (T, dim/2), for (batch, T) as (batch, 1, T, dim/2).

        `endless` allows positions from `max_length` on, for queries that see only keys near them.
        """
        where = np.asarray(positions)
        if where.dtype.kind not in "iu" and where.size:
            raise DTypeError(f"RotaryEmbedding: positions are integers, got {shown(positions)}")
        if where.size and not (where.min() >= 0 and (endless or where.max() < self.max_length)):
            wrong = where.min() if where.min() < 0 else where.max()
            raise OutOfRangeError(f"RotaryEmbedding: position {wrong} is outside its {self.max_length} positions")
        frequency = self._frequencies(where)  # (dim/2,) or (batch, 1, dim/2)
        angle = where[..., None].astype(np.float32) * frequency  # (..., T, dim/2)
        angle = angle if where.ndim < 2 else angle[:, None]  # (batch, 1, T, dim/2), the same for all heads
        cos, sin = np.cos(angle), np.sin(angle)
        if self.magnitude != 1:
            cos, sin = cos * np.float32(self.magnitude), sin * np.float32(self.magnitude)
        return from_numpy(cos), from_numpy(sin)

    @checked
    def changes_at(self, length: int) -> bool:
        """Whether a text of `length` positions has other frequencies than a text that is one position shorter.

        The keys in a cache were rotated by the old frequencies, so they must be computed again. True for "dynamic"
        beyond the original context, and for "longrope" at its end.
        """
        return self.scaling.changes_at(length)

    def _frequencies(self, where: Array) -> Array:
        """Those of a text that ends with its largest position; each row of a batch is a text of its own."""
        if self.scaling.kind not in ("dynamic", "longrope") or not where.size:
            return self.frequency
        if where.ndim < 2:
            return self._for_length(int(where.max()) + 1)
        return np.stack([self._for_length(int(row.max()) + 1) for row in where])[:, None]

    def _for_length(self, length: int) -> Array:
        return self.scaling.frequencies(self.dim, self.theta, length)[0]

    def forward(self, x: Tensor, positions: Tensor) -> Tensor:
        return rotary(x, *self.angles(positions))

    def extra_repr(self) -> str:
        kind = "" if self.scaling.kind == "default" else f", {self.scaling.kind}"
        return f"{self.dim}, theta={self.theta:g}{kind}"
