"""Initial values for parameters, written in place from the one generator (PyTorch's `nn.init`)."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tt_core import mutation
from tt_core.random import generator
from tt_core.tensor import Tensor


def uniform_(x: Tensor, a: float = 0.0, b: float = 1.0) -> Tensor:
    """Uniform in [a, b)."""
    return _write(x, generator().uniform(a, b, x.shape))


def _write(x: Tensor, values: Any) -> Tensor:
    """Initialisation is no operation on the tensor's history: it writes the memory directly."""
    np.copyto(x.data, values, casting="same_kind")
    mutation.record(x.data)
    return x


def kaiming_uniform_(x: Tensor, a: float = 0.0) -> Tensor:
    """Uniform in +-sqrt(6 / ((1 + a^2) fan_in)) (He et al. 2015), for a leaky ReLU of slope `a`."""
    fan_in = math.prod(x.shape[1:])
    bound = math.sqrt(6 / ((1 + a * a) * fan_in)) if fan_in else 0.0
    return uniform_(x, -bound, bound)
