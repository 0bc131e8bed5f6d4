"""Module 03, layers: the activations of module 02 as layers, for `Sequential`."""

from __future__ import annotations

from tt_core.activations import (
    gelu,
    leaky_relu,
    log_softmax,
    relu,
    sigmoid,
    silu,
    softmax,
    softplus,
    tanh,
)
from tt_core.engine.arguments import checked
from tt_core.engine.errors import ArgumentError
from tt_core.layers.base import Layer
from tt_core.tensor.tensor import Tensor


class ReLU(Layer):
    """`max(x, 0)` for each element; raises as `relu` does.

    >>> from tt_core import tensor
    >>> ReLU()(tensor([-1.0, 2.0]))
    tensor([0., 2.])
    """

    @checked
    def __init__(self, inplace: bool = False) -> None:  # accepted as in PyTorch, without effect
        super().__init__()

    def forward(self, x: Tensor) -> Tensor:
        return relu(x)


class LeakyReLU(Layer):
    """`x` above 0, `negative_slope * x` below; raises as `leaky_relu` does.

    >>> from tt_core import tensor
    >>> LeakyReLU(0.1)(tensor([-1.0, 2.0]))
    tensor([-0.1,  2. ])
    """

    @checked
    def __init__(self, negative_slope: float = 0.01, inplace: bool = False) -> None:
        super().__init__()
        self.negative_slope = negative_slope

    def forward(self, x: Tensor) -> Tensor:
        return leaky_relu(x, negative_slope=self.negative_slope)

    def extra_repr(self) -> str:
        return f"negative_slope={self.negative_slope}"


class Sigmoid(Layer):
    """`1 / (1 + exp(-x))` for each element; raises as `sigmoid` does.

    >>> from tt_core import tensor
    >>> Sigmoid()(tensor([-1e4, 0.0, 1e4]))
    tensor([0. , 0.5, 1. ])
    """

    def forward(self, x: Tensor) -> Tensor:
        return sigmoid(x)


class Tanh(Layer):
    """Hyperbolic tangent of each element; raises as `tanh` does.

    >>> from tt_core import tensor
    >>> Tanh()(tensor([0.0, 1e4]))
    tensor([0., 1.])
    """

    def forward(self, x: Tensor) -> Tensor:
        return tanh(x)


class GELU(Layer):
    """`x Phi(x)` for each element; raises `ArgumentError` unless `approximate` is "none" or "tanh".

    >>> from tt_core import tensor
    >>> GELU()(tensor([-1.0, 0.0, 1.0]))
    tensor([-0.1587,  0.    ,  0.8413])
    """

    @checked
    def __init__(self, approximate: str = "none") -> None:
        super().__init__()
        if approximate not in ("none", "tanh"):
            raise ArgumentError(f"GELU: approximate is 'none' or 'tanh', got {approximate!r}")
        self.approximate = approximate

    def forward(self, x: Tensor) -> Tensor:
        return gelu(x, approximate=self.approximate)

    def extra_repr(self) -> str:
        return f"approximate={self.approximate!r}"


class SiLU(Layer):
    """`x sigmoid(x)` for each element; raises as `silu` does.

    >>> from tt_core import tensor
    >>> SiLU()(tensor([-1.0, 0.0, 1.0]))
    tensor([-0.2689,  0.    ,  0.7311])
    """

    @checked
    def __init__(self, inplace: bool = False) -> None:
        super().__init__()

    def forward(self, x: Tensor) -> Tensor:
        return silu(x)


class Softplus(Layer):
    """`log(1 + exp(beta x)) / beta` for each element; `x` itself where `beta x > threshold`. Raises as `softplus` does.

    >>> from tt_core import tensor
    >>> Softplus()(tensor([-1e4, 0.0, 1e4]))
    tensor([0.0000e+00, 6.9315e-01, 1.0000e+04])
    """

    @checked
    def __init__(self, beta: float = 1.0, threshold: float = 20.0) -> None:
        super().__init__()
        self.beta, self.threshold = beta, threshold

    def forward(self, x: Tensor) -> Tensor:
        return softplus(x, beta=self.beta, threshold=self.threshold)

    def extra_repr(self) -> str:
        return f"beta={self.beta}, threshold={self.threshold}"


class Softmax(Layer):
    """`exp(x) / sum(exp(x))` over `dim`: positive numbers that add up to 1; raises as `softmax` does.

    >>> from tt_core import tensor
    >>> Softmax()(tensor([[0.0, 0.0], [1e4, 0.0]]))
    tensor([[0.5, 0.5],
            [1. , 0. ]])
    """

    @checked
    def __init__(self, dim: int = -1) -> None:
        super().__init__()
        self.dim = dim

    def forward(self, x: Tensor) -> Tensor:
        return softmax(x, dim=self.dim)

    def extra_repr(self) -> str:
        return f"dim={self.dim}"


class LogSoftmax(Softmax):
    """Logarithm of `Softmax`; raises as `softmax` does.

    >>> from tt_core import tensor
    >>> LogSoftmax()(tensor([0.0, 0.0]))
    tensor([-0.6931, -0.6931])
    """

    def forward(self, x: Tensor) -> Tensor:
        return log_softmax(x, dim=self.dim)
