"""Numbers and pictures of lesson 02, activations."""

from __future__ import annotations

import numpy as np

import tt_core as tt
from measured import number, picture, seconds
from tt_learn.svg import line_chart

X = np.random.default_rng(0).standard_normal((1024, 1024)).astype(np.float32)


@number(1.1, 500, ".0f")
def gelu_times_relu() -> float:
    """How many times as long GELU takes as ReLU, with NumPy's kernels, on a million numbers."""
    return seconds(lambda: tt.gelu.kernel(X)) / seconds(lambda: tt.relu.kernel(X))


@number(2, 20000, ".0f")
def gelu_formula_times_kernel() -> float:
    """How many times as long the formula of GELU with tanh takes as its tuned kernel."""
    formula = seconds(lambda: tt.gelu.formula(X, approximate="tanh"), rounds=3)
    return formula / seconds(lambda: tt.gelu.kernel(X, approximate="tanh"))


@number(88, 89, ".1f")
def largest_exponent() -> float:
    """The largest x for which exp(x) is finite in float32."""
    return float(np.log(np.finfo(np.float32).max))


@picture
def activation_curves() -> str:
    """ReLU, sigmoid, tanh and GELU between -4 and 4."""
    x = np.linspace(-4, 4, 161, dtype=np.float32)
    curves = {name: getattr(tt, name)(tt.from_numpy(x)).data for name in ("relu", "sigmoid", "tanh", "gelu")}
    return line_chart({name: list(zip(x.tolist(), y.tolist(), strict=True)) for name, y in curves.items()})
