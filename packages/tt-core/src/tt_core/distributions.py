"""The four of PyTorch's `torch.distributions` that teaching code uses: Normal, Categorical, Bernoulli and Uniform.

They are not part of the journey. Log-probabilities and reparameterized samples are compositions of ops, so gradients
reach the parameters (policy gradients, variational autoencoders).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from tt_core.activations import log_softmax, sigmoid
from tt_core.engine.errors import ArgumentError, ShapeError, TinyTorchError
from tt_core.losses import binary_cross_entropy_with_logits
from tt_core.tensor import creation as C
from tt_core.tensor import elementwise as E
from tt_core.tensor import reductions as R
from tt_core.tensor import shapes as S
from tt_core.tensor.conversion import as_array
from tt_core.tensor.tensor import Tensor


def _tensor(x: Any) -> Tensor:
    return x if isinstance(x, Tensor) else C.tensor(as_array(x, what="distribution"))


def _floats(x: Any) -> Tensor:
    x = _tensor(x)
    return x if x.is_floating_point() else x.float()


def _together(name: str, *tensors: Any) -> tuple[int, ...]:
    """The shape that tensors broadcast to."""
    shapes = [x.shape for x in tensors]
    try:
        return np.broadcast_shapes(*shapes)
    except ValueError:
        raise ShapeError(f"{name}: shapes {' and '.join(map(str, shapes))} do not broadcast together") from None


class Distribution:
    """Base of the distributions: `sample`, `log_prob` and `entropy`, elementwise over the parameters' shape."""

    batch_shape: tuple[int, ...]

    def rsample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        """A sample through which gradients reach the parameters; raises `TinyTorchError` if there is none."""
        raise TinyTorchError(f"{type(self).__name__}: has no reparameterized sample; use sample() and log_prob()")

    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        """A sample of shape `sample_shape` + the parameters' shape, without history."""
        return self.rsample(sample_shape).detach()

    def log_prob(self, value: Tensor | float) -> Tensor:
        """Logarithm of the probability or density of `value`."""
        raise NotImplementedError(f"{type(self).__name__} defines no log_prob(self, value)")

    def entropy(self) -> Tensor:
        """Expected `-log_prob` of a sample."""
        raise NotImplementedError(f"{type(self).__name__} defines no entropy(self)")

    def _shape(self, sample_shape: Sequence[int]) -> tuple[int, ...]:
        return S.as_size("sample", (sample_shape,)) + self.batch_shape


class Normal(Distribution):
    """Normal distribution of mean `loc` and standard deviation `scale`; raises `ArgumentError` unless `scale > 0`.

    >>> Normal(0.0, 1.0).log_prob(C.tensor([0.0, 1.0]))
    tensor([-0.9189, -1.4189])
    """

    def __init__(self, loc: Tensor | float, scale: Tensor | float) -> None:
        loc, scale = _floats(loc), _floats(scale)
        self.batch_shape = _together("Normal", loc, scale)
        self.loc, self.scale = loc.expand(self.batch_shape), scale.expand(self.batch_shape)
        if not (self.scale.data > 0).all():
            raise ArgumentError(f"Normal: scale must be positive, got {self.scale.data.min()}")

    @property
    def mean(self) -> Tensor:
        """The mean."""
        return self.loc

    @property
    def stddev(self) -> Tensor:
        """The standard deviation."""
        return self.scale

    @property
    def variance(self) -> Tensor:
        """The variance."""
        return self.scale * self.scale

    def rsample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        return self.loc + C.randn(self._shape(sample_shape)).to(self.loc.dtype) * self.scale

    def log_prob(self, value: Tensor | float) -> Tensor:
        z = (_tensor(value) - self.loc) / self.scale
        return -(z * z) * 0.5 - E.log(self.scale) - 0.5 * math.log(2 * math.pi)

    def entropy(self) -> Tensor:
        return E.log(self.scale) + 0.5 * (1 + math.log(2 * math.pi))

    def cdf(self, value: Tensor | float) -> Tensor:
        """Probability of less than `value`."""
        return (E.erf((_tensor(value) - self.loc) / self.scale * math.sqrt(0.5)) + 1) * 0.5


class Uniform(Distribution):
    """Uniform distribution between `low` and `high`; raises `ArgumentError` unless `low < high`.

    >>> Uniform(0.0, 4.0).log_prob(C.tensor([1.0, 5.0]))
    tensor([-1.3863,    -inf])
    """

    def __init__(self, low: Tensor | float, high: Tensor | float) -> None:
        low, high = _floats(low), _floats(high)
        self.batch_shape = _together("Uniform", low, high)
        self.low, self.high = low.expand(self.batch_shape), high.expand(self.batch_shape)
        if not (self.low.data < self.high.data).all():
            raise ArgumentError("Uniform: high must be above low")

    @property
    def mean(self) -> Tensor:
        """The mean."""
        return (self.low + self.high) * 0.5

    def rsample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        return self.low + C.rand(self._shape(sample_shape)).to(self.low.dtype) * (self.high - self.low)

    def log_prob(self, value: Tensor | float) -> Tensor:
        value = _tensor(value)
        inside = E.ge(value, self.low) & E.lt(value, self.high)
        return E.where(inside, -E.log(self.high - self.low), -math.inf)

    def entropy(self) -> Tensor:
        return E.log(self.high - self.low)


def _either(name: str, probs: Any, logits: Any) -> None:
    if (probs is None) == (logits is None):
        raise ArgumentError(f"{name}: takes either probs or logits")


class Categorical(Distribution):
    """Classes 0, 1, ... in proportion to `probs`, or by `logits`, over the last dimension.

    Raises `ArgumentError` unless exactly one of them is given, and for probabilities that are negative or all 0.

    >>> Categorical(probs=C.tensor([1.0, 3.0])).log_prob(C.tensor(1)).exp()
    tensor(0.75)
    """

    def __init__(self, probs: Tensor | float | None = None, logits: Tensor | float | None = None) -> None:
        _either("Categorical", probs, logits)
        if probs is not None:
            probs = _floats(probs)
            total = R.sum(probs, dim=-1, keepdim=True)
            if not ((probs.data >= 0).all() and (total.data > 0).all()):
                raise ArgumentError("Categorical: probs must be at least 0, and not all 0")
            self.probs = probs / total
            tiny = float(np.finfo(probs.dtype).eps)
            self.logits = E.log(E.clip(self.probs, min=tiny, max=1 - tiny))
        else:
            self.logits = log_softmax(_floats(logits), dim=-1)
            self.probs = E.exp(self.logits)
        self.batch_shape = self.probs.shape[:-1]

    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        shape = self._shape(sample_shape)
        count = math.prod(shape[: len(shape) - len(self.batch_shape)])
        drawn = self.probs.detach().reshape(-1, self.probs.shape[-1]).multinomial(count, replacement=True)
        return drawn.T.reshape(shape)

    def log_prob(self, value: Tensor | float) -> Tensor:
        value = _tensor(value)
        shape = _together("Categorical.log_prob", value, self.probs[..., 0])
        logits = self.logits.expand(*shape, self.logits.shape[-1])
        return S.take_along_dim(logits, value.expand(shape).unsqueeze(-1), dim=-1).squeeze(-1)

    def entropy(self) -> Tensor:
        return -R.sum(self.probs * self.logits, dim=-1)


class Bernoulli(Distribution):
    """1 with probability `probs`, or `sigmoid(logits)`, else 0; raises `ArgumentError` unless exactly one is given.

    >>> Bernoulli(probs=0.25).log_prob(C.tensor(1.0)).exp()
    tensor(0.25)
    """

    def __init__(self, probs: Tensor | float | None = None, logits: Tensor | float | None = None) -> None:
        _either("Bernoulli", probs, logits)
        if probs is not None:
            self.probs = _floats(probs)
            if not ((self.probs.data >= 0) & (self.probs.data <= 1)).all():
                raise ArgumentError("Bernoulli: probs must be between 0 and 1")
            self.logits = self.probs.logit(float(np.finfo(self.probs.dtype).eps))
        else:
            self.logits = _floats(logits)
            self.probs = sigmoid(self.logits)
        self.batch_shape = self.probs.shape

    @property
    def mean(self) -> Tensor:
        """The mean, which is the probability of 1."""
        return self.probs

    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        return self.probs.detach().expand(self._shape(sample_shape)).bernoulli()

    def log_prob(self, value: Tensor | float) -> Tensor:
        value = _floats(value)
        shape = _together("Bernoulli.log_prob", value, self.probs)
        return -binary_cross_entropy_with_logits(self.logits.expand(shape), value.expand(shape), reduction="none")

    def entropy(self) -> Tensor:
        return binary_cross_entropy_with_logits(self.logits, self.probs, reduction="none")


def kl_divergence(p: Distribution, q: Distribution) -> Tensor:
    """Kullback-Leibler divergence of `q` from `p`; raises `TinyTorchError` for two different kinds of distribution.

    >>> kl_divergence(Normal(0.0, 1.0), Normal(1.0, 1.0))
    tensor(0.5)
    """
    if isinstance(p, Normal) and isinstance(q, Normal):
        ratio, distance = (p.scale / q.scale).square(), ((p.loc - q.loc) / q.scale).square()
        return (ratio + distance - 1 - E.log(ratio)) * 0.5
    if isinstance(p, Categorical) and isinstance(q, Categorical):
        return R.sum(p.probs * (p.logits - q.logits), dim=-1)
    if isinstance(p, Bernoulli) and isinstance(q, Bernoulli):
        return binary_cross_entropy_with_logits(q.logits, p.probs, reduction="none") - p.entropy()
    raise TinyTorchError(
        f"kl_divergence: takes two distributions of one kind, got {type(p).__name__} and {type(q).__name__}"
    )
