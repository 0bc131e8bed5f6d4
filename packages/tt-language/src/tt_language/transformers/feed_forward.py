"""What a transformer does to each position by itself (module 13, Act IV): RMS normalization and feed-forward layers.

Blocks put these and attention together in `transformers.py`; LayerNorm is Act I's.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tt_core.activations import gelu, relu, silu
from tt_core.engine.arguments import checked
from tt_core.engine.dispatch import Array, op
from tt_core.engine.errors import ShapeError
from tt_core.layers import Layer, Linear
from tt_core.tensor import Tensor
from tt_core.tensor import elementwise as E
from tt_core.tensor.creation import ones
from tt_core.tensor.shapes import as_size
from tt_language.errors import ConfigError
from tt_learn.autograd import formula, gradient

# --- RMS normalization


@op(residuals=("rstd",))
def rms_norm(x: Array, weight: Array | None = None, /, eps: float | None = None) -> tuple[Array, Array]:
    """x / sqrt(mean(x^2) + eps) over the last dimension, times `weight` (Zhang and Sennrich 2019, arXiv:1910.07467).

    `eps` is the dtype's own by default, float32's for float16, as in PyTorch. Residual: 1 / root mean square.
    Raises `DTypeError` for integers, `ShapeError` for a weight of another size.

    >>> from tt_core import tensor
    >>> rms_norm(tensor([[3.0, 4.0]]))
    tensor([[0.8485, 1.1314]])
    """
    if x.dtype.kind != "f":
        raise TypeError(f"takes floats, got {x.dtype}")
    if weight is not None and weight.shape != x.shape[-1:]:
        raise ValueError(f"weight has shape {weight.shape}, the input's last dimension is {x.shape[-1:]}")
    if x.dtype == np.float16:  # whose sums end at 65504
        y, rstd = rms_norm.kernel(x.astype(np.float32), weight, eps)
        return y.astype(np.float16), rstd
    eps = float(np.finfo(x.dtype).eps) if eps is None else eps
    mean_square = np.einsum("...i,...i->...", x, x)[..., None] / x.dtype.type(x.shape[-1])
    rstd = 1 / np.sqrt(mean_square + x.dtype.type(eps))
    result = x * rstd
    if weight is not None:
        result *= weight
    return result, rstd


@op
def rms_norm_backward(g: Array, x: Array, rstd: Array, weight: Array | None = None, /) -> tuple[Array, Array]:
    """Gradients of `rms_norm` for input and weight; with u = g * weight and n = x * rstd,

    dx = rstd * (u - n * mean(u * n))
    """
    normalized = x * rstd
    g = g.astype(rstd.dtype, copy=False)
    u = g if weight is None else g * weight
    slope = np.einsum("...i,...i->...", u, normalized)[..., None] / u.dtype.type(x.shape[-1])
    weight_gradient = np.einsum("ni,ni->i", g.reshape(-1, x.shape[-1]), normalized.reshape(-1, x.shape[-1]))
    normalized *= slope
    x_gradient = np.subtract(u, normalized, out=normalized)
    x_gradient *= rstd
    return x_gradient, weight_gradient


@gradient(rms_norm)
def _(out: Any, x: Any, weight: Any, eps: float | None, rstd: Any) -> Any:
    return lambda g: rms_norm_backward(g, x, rstd, weight)


@formula(rms_norm_backward)
def _(g: Any, x: Any, rstd: Any, weight: Any) -> Any:
    mean_square = (x * x).mean(-1, keepdim=True)
    eps = (1 / (rstd * rstd) - mean_square).detach()  # rstd holds it: 1 / rstd^2 = mean square + eps
    scale = 1 / E.sqrt(mean_square + eps)
    normalized = x * scale
    u = g if weight is None else g * weight
    leading = tuple(range(g.ndim - 1))
    return scale * (u - normalized * (u * normalized).mean(-1, keepdim=True)), (g * normalized).sum(leading)


class RMSNorm(Layer):
    """Each vector divided by its root mean square, times a learnt `weight` that starts at 1.

    `normalized_shape`: an int or the sizes of the last dimensions, which count as one vector; `weight` has that shape.
    Keeps the shape. Raises `ShapeError` for an input that does not end in it.

    >>> from tt_core import tensor
    >>> RMSNorm(2)(tensor([[3.0, 4.0]])).detach()
    tensor([[0.8485, 1.1314]])
    """

    weight: Tensor | None

    @checked
    def __init__(self, normalized_shape: Any, eps: float | None = None, elementwise_affine: bool = True) -> None:
        super().__init__()
        self.normalized_shape, self.eps = as_size("RMSNorm", (normalized_shape,)), eps
        self.weight = ones(*self.normalized_shape).as_parameter() if elementwise_affine else None

    def forward(self, x: Any) -> Any:
        dims = len(self.normalized_shape)
        if tuple(x.shape[-dims:]) != self.normalized_shape:
            raise ShapeError(f"RMSNorm: input {x.shape} does not end in {self.normalized_shape}")
        if dims == 1:
            return rms_norm(x, self.weight, eps=self.eps)
        weight = None if self.weight is None else self.weight.flatten()
        return rms_norm(x.flatten(-dims), weight, eps=self.eps).reshape(x.shape)

    def extra_repr(self) -> str:
        return ", ".join(map(str, self.normalized_shape))


# --- feed-forward layers


class FeedForward(Layer):
    """Two linear maps with an activation between them, for each position by itself.

    `hidden_dim` is 4 times `embed_dim` by default; `activation` is "gelu", "gelu_tanh" (GPT-2's) or "relu".
    Takes and returns (..., embed_dim). Raises `ConfigError` for another activation.

    >>> FeedForward(4)(ones(2, 3, 4)).shape
    (2, 3, 4)
    """

    @checked
    def __init__(
        self, embed_dim: int, hidden_dim: int | None = None, activation: str = "gelu", bias: bool = True
    ) -> None:
        super().__init__()
        if activation not in ("gelu", "gelu_tanh", "relu"):
            raise ConfigError(f"FeedForward: activation is {activation!r}, expected gelu, gelu_tanh or relu")
        hidden_dim = 4 * embed_dim if hidden_dim is None else hidden_dim
        self.activation = activation
        self.up = Linear(embed_dim, hidden_dim, bias)
        self.down = Linear(hidden_dim, embed_dim, bias)

    def forward(self, x: Any) -> Any:
        return self.down(_activate(self.activation, self.up(x)))

    def extra_repr(self) -> str:
        return self.activation


def _activate(name: str, x: Any) -> Any:
    if name == "relu":
        return relu(x)
    return gelu(x, approximate="tanh" if name == "gelu_tanh" else "none")


class SwiGLU(Layer):
    """down(silu(gate(x)) * up(x)), the feed-forward layer of Llama (Shazeer 2020, arXiv:2002.05202).

    `hidden_dim` is 8/3 of `embed_dim` by default, which makes it as large as a `FeedForward`. Takes and returns
    (..., embed_dim).

    >>> SwiGLU(6)(ones(2, 3, 6)).shape
    (2, 3, 6)
    """

    @checked
    def __init__(self, embed_dim: int, hidden_dim: int | None = None, bias: bool = False) -> None:
        super().__init__()
        hidden_dim = 8 * embed_dim // 3 if hidden_dim is None else hidden_dim
        self.gate = Linear(embed_dim, hidden_dim, bias)
        self.up = Linear(embed_dim, hidden_dim, bias)
        self.down = Linear(hidden_dim, embed_dim, bias)

    def forward(self, x: Any) -> Any:
        return self.down(silu(self.gate(x)) * self.up(x))
