"""Initial values for parameters, written in place from the one generator (PyTorch's `nn.init`).

They keep the magnitude of signals constant from layer to layer. The scale of a weight follows from its fan-in (the
number of inputs in each sum) and from the gain, which compensates for what the activation removes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from statistics import NormalDist
from typing import Any

import numpy as np

from tt_core.engine import mutation
from tt_core.engine.arguments import checked
from tt_core.engine.dispatch import Array, quietly
from tt_core.engine.errors import ArgumentError, ShapeError, kind_of
from tt_core.random import generator
from tt_core.tensor.tensor import Tensor


def _write(x: Tensor, values: Any) -> Tensor:
    """Writes the memory directly, since initialization is not part of a tensor's history."""
    try:
        quietly(np.copyto, x.data, values, casting="same_kind")  # too large values become infinite
    except (TypeError, ValueError) as error:
        raise (kind_of(error) or ShapeError)(f"init: {error} (tensor {x.shape} {x.dtype})") from None
    mutation.record(x.data)
    return x


_skipping: ContextVar[bool] = ContextVar("skipping", default=False)


@contextmanager
def skipped() -> Iterator[None]:
    """A block in which layers are made without random values, because all of their weights are read from a file.

    Their memory is uninitialized. The generator is not used. Constants are still written.

    >>> from tt_core import Linear, init, random
    >>> before = random.get_rng_state()
    >>> with init.skipped():
    ...     layer = Linear(1000, 1000)
    >>> random.get_rng_state() == before
    True
    """
    token = _skipping.set(True)
    try:
        yield
    finally:
        _skipping.reset(token)


def _draw(x: Tensor, values: Callable[[], Any]) -> Tensor:
    """Writes random values, except in a block of `skipped`."""
    return x if _skipping.get() else _write(x, values())


def _fans(name: str, x: Tensor) -> tuple[int, int]:
    """Fan-in and fan-out of a weight (out, in, *kernel): the channels times the size of the kernel."""
    if x.ndim < 2:
        raise ShapeError(f"{name}: a fan needs a weight (out, in, ...), got shape {x.shape}")
    kernel = math.prod(x.shape[2:])
    return x.shape[1] * kernel, x.shape[0] * kernel


def _normal(x: Tensor, mean: float, std: float) -> Array:
    values = generator().standard_normal(x.shape, np.float64 if x.dtype == np.float64 else np.float32)
    values *= std
    values += mean
    return values


# --- plain values


@checked
def constant_(x: Tensor, val: float) -> Tensor:
    """Sets every element to `val`; raises `ShapeError` for a read-only tensor, as all functions of this file do.

    >>> from tt_core import zeros
    >>> constant_(zeros(2), 0.5)
    tensor([0.5, 0.5])
    """
    return _write(x, val)


@checked
def zeros_(x: Tensor) -> Tensor:
    """Sets every element to 0; raises `ShapeError` for a read-only tensor.

    >>> from tt_core import ones
    >>> zeros_(ones(2))
    tensor([0., 0.])
    """
    return _write(x, 0)


@checked
def ones_(x: Tensor) -> Tensor:
    """Sets every element to 1; raises `ShapeError` for a read-only tensor.

    >>> from tt_core import zeros
    >>> ones_(zeros(2))
    tensor([1., 1.])
    """
    return _write(x, 1)


# --- distributions


@checked
def uniform_(x: Tensor, a: float = 0.0, b: float = 1.0) -> Tensor:
    """Uniform in [a, b); raises `ArgumentError` where `a` is above `b`, `DTypeError` for a tensor of integers.

    >>> from tt_core import zeros
    >>> bool((uniform_(zeros(1000), -0.1, 0.1).abs() <= 0.1).all())
    True
    """
    if not 0 <= b - a < math.inf:
        raise ArgumentError(f"uniform_: a must not be above b, got {a} and {b} (both must be finite)")
    return _draw(x, lambda: generator().uniform(a, b, x.shape))


@checked
def normal_(x: Tensor, mean: float = 0.0, std: float = 1.0) -> Tensor:
    """Normal with `mean` and standard deviation `std`.

    Raises `ArgumentError` for a negative `std`, `DTypeError` for a tensor of integers.

    >>> from tt_core import zeros
    >>> normal_(zeros(2), mean=3.0, std=0.0)
    tensor([3., 3.])
    """
    if std < 0:
        raise ArgumentError(f"normal_: std must not be negative, got {std}")
    return _draw(x, lambda: quietly(_normal, x, mean, std))


@checked
def trunc_normal_(x: Tensor, mean: float = 0.0, std: float = 1.0, a: float = -2.0, b: float = 2.0) -> Tensor:
    """Normal with `mean` and `std`, drawn again where it falls outside [a, b] (bounds are absolute, as in PyTorch).

    Raises `ArgumentError` where less than a hundredth of the distribution lies between the bounds.

    >>> from tt_core import zeros
    >>> bool((trunc_normal_(zeros(1000), std=0.02, a=-0.04, b=0.04).abs() <= 0.04).all())
    True
    """
    if std <= 0:
        raise ArgumentError(f"trunc_normal_: std must be positive, got {std}")
    normal = NormalDist(mean, std)
    if not normal.cdf(b) - normal.cdf(a) >= 0.01:
        raise ArgumentError(f"trunc_normal_: [{a}, {b}] holds next to nothing of a normal of mean {mean} and std {std}")
    return _draw(x, lambda: _truncated(x, mean, std, a, b))


def _truncated(x: Tensor, mean: float, std: float, a: float, b: float) -> Array:
    values = generator().normal(mean, std, x.shape)
    while (outside := (values < a) | (values > b)).any():
        values[outside] = generator().normal(mean, std, np.count_nonzero(outside))
    return values


# --- scales from fans


_GAINS: dict[str, Callable[[float], float]] = {
    "linear": lambda _: 1.0,
    "sigmoid": lambda _: 1.0,
    "tanh": lambda _: 5 / 3,
    "relu": lambda _: math.sqrt(2),
    "leaky_relu": lambda slope: math.sqrt(2 / (1 + slope**2)),
}


@checked
def calculate_gain(nonlinearity: str, param: float | None = None) -> float:
    """The factor for the scale of weights that keeps the size of signals through this activation.

    `param` is the slope of "leaky_relu" (0.01 without). Raises `ArgumentError` for an unknown name.

    >>> calculate_gain("relu") ** 2
    2.0000000000000004
    """
    if nonlinearity not in _GAINS:
        raise ArgumentError(f"calculate_gain: nonlinearity is one of {', '.join(_GAINS)}, got {nonlinearity!r}")
    return _GAINS[nonlinearity](0.01 if param is None else param)


def _kaiming_std(name: str, x: Tensor, a: float, mode: str, nonlinearity: str) -> float:
    if mode not in ("fan_in", "fan_out"):
        raise ArgumentError(f"{name}: mode is 'fan_in' or 'fan_out', got {mode!r}")
    fan = _fans(name, x)[mode == "fan_out"]
    return calculate_gain(nonlinearity, a) / math.sqrt(fan) if fan else 0.0


@checked
def kaiming_uniform_(x: Tensor, a: float = 0.0, mode: str = "fan_in", nonlinearity: str = "leaky_relu") -> Tensor:
    """Uniform in +-gain sqrt(3 / fan) (He et al. 2015, arXiv:1502.01852), for a leaky ReLU of slope `a`.

    `mode="fan_in"` keeps the size of signals forward, "fan_out" that of gradients backward. Raises `ShapeError` for a
    tensor of fewer than two dimensions and for an unknown `mode` or `nonlinearity`.

    >>> from tt_core import zeros
    >>> bool((kaiming_uniform_(zeros(10, 600), nonlinearity="relu").abs() <= 0.1).all())
    True
    """
    bound = math.sqrt(3) * _kaiming_std("kaiming_uniform_", x, a, mode, nonlinearity)
    return uniform_(x, -bound, bound)


@checked
def kaiming_normal_(x: Tensor, a: float = 0.0, mode: str = "fan_in", nonlinearity: str = "leaky_relu") -> Tensor:
    """Normal with standard deviation gain / sqrt(fan); arguments and errors as for `kaiming_uniform_`.

    >>> from tt_core import zeros
    >>> round(float(kaiming_normal_(zeros(200, 200), nonlinearity="relu").std()), 2)
    0.1
    """
    return normal_(x, 0.0, _kaiming_std("kaiming_normal_", x, a, mode, nonlinearity))


def _xavier_std(name: str, x: Tensor, gain: float) -> float:
    fans = sum(_fans(name, x))
    return gain * math.sqrt(2 / fans) if fans else 0.0


@checked
def xavier_uniform_(x: Tensor, gain: float = 1.0) -> Tensor:
    """Uniform in +-gain sqrt(6 / (fan_in + fan_out)) (Glorot and Bengio 2010).

    Raises `ShapeError` for a tensor of fewer than two dimensions.

    >>> from tt_core import zeros
    >>> bool((xavier_uniform_(zeros(200, 400)).abs() <= 0.1).all())
    True
    """
    bound = math.sqrt(3) * _xavier_std("xavier_uniform_", x, gain)
    return uniform_(x, -bound, bound)


@checked
def xavier_normal_(x: Tensor, gain: float = 1.0) -> Tensor:
    """Normal with standard deviation gain sqrt(2 / (fan_in + fan_out)) (Glorot and Bengio 2010).

    Raises `ShapeError` for a tensor of fewer than two dimensions.

    >>> from tt_core import zeros
    >>> round(float(xavier_normal_(zeros(200, 200)).std()), 2)
    0.07
    """
    return normal_(x, 0.0, _xavier_std("xavier_normal_", x, gain))


@checked
def orthogonal_(x: Tensor, gain: float = 1.0) -> Tensor:
    """Rows (or, where there are fewer, columns) at right angles, of length `gain` (Saxe et al. 2013).

    Dimensions after the first count as columns; raises `ShapeError` where there is but one.

    >>> from tt_core import zeros
    >>> w = orthogonal_(zeros(2, 3))
    >>> (w @ w.T).round().abs()
    tensor([[1., 0.],
            [0., 1.]])
    """
    if x.ndim < 2:
        raise ShapeError(f"orthogonal_: needs at least two dimensions, got shape {x.shape}")
    return _draw(x, lambda: _orthogonal(x, gain))


def _orthogonal(x: Tensor, gain: float) -> Array:
    rows, columns = x.shape[0], math.prod(x.shape[1:])
    q, r = np.linalg.qr(generator().standard_normal((max(rows, columns), min(rows, columns))))
    q *= np.sign(np.diagonal(r))  # makes the choice uniform (Mezzadri 2007)
    return gain * (q if rows >= columns else q.T).reshape(x.shape)
