"""Part of module 13, transformers: the feed-forward layers, which work on each position by itself."""

from __future__ import annotations

from collections.abc import Callable

from tt_core.activations import gelu, relu, silu
from tt_core.engine.arguments import checked
from tt_core.layers import Layer, Linear
from tt_core.tensor import Tensor
from tt_language.errors import ConfigError

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": relu,
    "gelu": gelu,
    "gelu_tanh": lambda x: gelu(x, approximate="tanh"),
}


class FeedForward(Layer):
    """`down(activation(up(x)))`: two linear maps with an activation between them.

    `hidden_dim` is 4 times `embed_dim` by default; `activation` is "gelu", "gelu_tanh" (GPT-2's) or "relu".
    Takes and returns (..., embed_dim). Raises `ConfigError` for another activation.

    >>> from tt_core import ones
    >>> FeedForward(4)(ones(2, 3, 4)).shape
    (2, 3, 4)
    """

    @checked
    def __init__(
        self, embed_dim: int, hidden_dim: int | None = None, activation: str = "gelu", bias: bool = True
    ) -> None:
        super().__init__()
        if activation not in ACTIVATIONS:
            raise ConfigError(f"FeedForward: activation is {activation!r}, expected gelu, gelu_tanh or relu")
        # up (..., embed_dim) -> (..., hidden_dim), down back again; 4 times is the width of the first transformer
        hidden_dim = 4 * embed_dim if hidden_dim is None else hidden_dim
        self.activation = activation
        self.up = Linear(embed_dim, hidden_dim, bias)
        self.down = Linear(hidden_dim, embed_dim, bias)

    def forward(self, x: Tensor) -> Tensor:
        """x (..., embed_dim) to the same shape: up, the activation, down."""
        return self.down(ACTIVATIONS[self.activation](self.up(x)))

    def extra_repr(self) -> str:
        return self.activation


class SwiGLU(Layer):
    """`down(silu(gate(x)) * up(x))`, the feed-forward layer of Llama (Shazeer 2020, arXiv:2002.05202).

    `hidden_dim` is 8/3 of `embed_dim` by default, which makes it as large as a `FeedForward`. Takes and returns
    (..., embed_dim).

    >>> from tt_core import ones
    >>> SwiGLU(6)(ones(2, 3, 6)).shape
    (2, 3, 6)
    """

    @checked
    def __init__(self, embed_dim: int, hidden_dim: int | None = None, bias: bool = False) -> None:
        super().__init__()
        # three matrices instead of two, so 2/3 of 4 times the width has as many parameters
        hidden_dim = 8 * embed_dim // 3 if hidden_dim is None else hidden_dim
        self.gate = Linear(embed_dim, hidden_dim, bias)
        self.up = Linear(embed_dim, hidden_dim, bias)
        self.down = Linear(hidden_dim, embed_dim, bias)

    def forward(self, x: Tensor) -> Tensor:
        """x (..., embed_dim) to the same shape: down(silu(gate(x)) * up(x))."""
        return self.down(silu(self.gate(x)) * self.up(x))
