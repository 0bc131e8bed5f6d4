"""Initialisers have the spread that their papers give, draw in place, and follow the seed."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tt_core import Tensor, init, manual_seed, zeros
from tt_core.engine import mutation
from tt_core.engine.errors import ArgumentError, ShapeError, TinyTorchError

OUT, IN = 300, 200


@pytest.fixture(autouse=True)
def seeded() -> None:
    manual_seed(0)


@pytest.mark.parametrize(
    ("write", "std"),
    [
        (lambda w: init.kaiming_uniform_(w), math.sqrt(2 / IN)),
        (lambda w: init.kaiming_uniform_(w, a=math.sqrt(5)), math.sqrt(1 / (3 * IN))),
        (lambda w: init.kaiming_normal_(w, mode="fan_out", nonlinearity="relu"), math.sqrt(2 / OUT)),
        (lambda w: init.kaiming_normal_(w, nonlinearity="tanh"), 5 / 3 / math.sqrt(IN)),
        (lambda w: init.xavier_uniform_(w), math.sqrt(2 / (IN + OUT))),
        (lambda w: init.xavier_normal_(w, gain=2.0), 2 * math.sqrt(2 / (IN + OUT))),
        (lambda w: init.normal_(w, std=0.02), 0.02),
        (lambda w: init.uniform_(w, -1, 1), 1 / math.sqrt(3)),
        (lambda w: init.trunc_normal_(w, std=0.5), 0.5),
        (lambda w: init.trunc_normal_(w, a=-1, b=1), 0.5397),
    ],
)
def test_spread(write: Callable[[Tensor], Tensor], std: float) -> None:
    w = zeros(OUT, IN)
    data = w.data
    assert write(w) is w
    assert w.data is data
    assert w.dtype == np.float32
    assert abs(float(w.std()) / std - 1) < 0.02
    assert abs(float(w.mean())) < 0.02 * std


def test_uniform_ones_stay_within_their_bound() -> None:
    w = init.kaiming_uniform_(zeros(OUT, IN), nonlinearity="linear")
    bound = math.sqrt(3 / IN)
    assert 0.99 * bound < float(w.abs().max()) <= bound


def test_kernels_count_in_the_fan() -> None:
    w = init.kaiming_normal_(zeros(100, 8, 5, 5))
    assert abs(float(w.std()) / math.sqrt(2 / 200) - 1) < 0.02


@pytest.mark.parametrize(("a", "b"), [(-2, 2), (0, 1), (1.5, 1.7)])
def test_trunc_normal_stays_between_its_bounds(a: float, b: float) -> None:
    w = init.trunc_normal_(zeros(10_000), a=a, b=b)
    assert a <= float(w.min())
    assert float(w.max()) <= b


def test_trunc_normal_mean_moves_the_distribution_and_not_the_bounds() -> None:
    w = init.trunc_normal_(zeros(10_000), mean=3.0, std=0.1, a=2.9, b=3.1)
    assert abs(float(w.mean()) - 3) < 0.01


def test_trunc_normal_refuses_bounds_that_hold_nothing() -> None:
    with pytest.raises(ArgumentError, match=r"\[10, 11\] holds next to nothing of a normal of mean 0.0 and std 1.0"):
        init.trunc_normal_(zeros(3), a=10, b=11)
    with pytest.raises(ArgumentError, match="holds next to nothing"):
        init.trunc_normal_(zeros(3), a=1, b=-1)


@pytest.mark.parametrize("shape", [(5, 5), (3, 7), (7, 3), (4, 2, 3)])
def test_orthogonal(shape: tuple[int, ...]) -> None:
    w = init.orthogonal_(zeros(*shape, dtype="f8"), gain=2.0).numpy().reshape(shape[0], -1)
    product = w @ w.T if w.shape[0] <= w.shape[1] else w.T @ w
    np.testing.assert_allclose(product, 4 * np.eye(len(product)), atol=1e-12)


def test_constants() -> None:
    assert init.ones_(zeros(2)).tolist() == [1, 1]
    assert init.constant_(zeros(2), 0.5).tolist() == [0.5, 0.5]
    assert init.zeros_(init.ones_(zeros(2))).tolist() == [0, 0]


@pytest.mark.parametrize(
    ("name", "param", "gain"),
    [
        ("linear", None, 1),
        ("sigmoid", None, 1),
        ("tanh", None, 5 / 3),
        ("relu", None, math.sqrt(2)),
        ("leaky_relu", None, math.sqrt(2 / (1 + 0.01**2))),
        ("leaky_relu", 0.5, math.sqrt(2 / 1.25)),
    ],
)
def test_gains(name: str, param: float | None, gain: float) -> None:
    assert init.calculate_gain(name, param) == gain


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: init.kaiming_uniform_(zeros(3)),
            r"kaiming_uniform_: a fan needs a weight \(out, in, ...\)",
        ),
        (lambda: init.xavier_normal_(zeros(3)), "xavier_normal_: a fan needs a weight"),
        (lambda: init.orthogonal_(zeros(3)), "at least two dimensions"),
        (lambda: init.kaiming_normal_(zeros(2, 2), mode="fan"), "mode is 'fan_in' or 'fan_out', got 'fan'"),
        (lambda: init.calculate_gain("relo"), "nonlinearity is one of .*, got 'relo'"),
    ],
)
def test_errors(call: Callable[[], Any], message: str) -> None:
    with pytest.raises((ArgumentError, ShapeError), match=message):
        call()


def test_a_weight_without_inputs_is_left_at_zero() -> None:
    assert init.kaiming_uniform_(zeros(3, 0)).shape == (3, 0)
    assert init.xavier_uniform_(zeros(0, 0)).shape == (0, 0)


def test_the_change_is_noted_for_whoever_kept_the_memory() -> None:
    w = zeros(2)
    before = mutation.now()
    init.ones_(w)
    assert mutation.changed_since(w.data, before)


def test_it_writes_through_views_and_keeps_float16() -> None:
    w = zeros(2, 2)
    init.ones_(w[0])
    assert w.tolist() == [[1, 1], [0, 0]]
    assert init.normal_(zeros(4, dtype="f2")).dtype == np.float16


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda: init.normal_(zeros(2, dtype=np.int64)), r"init: Cannot cast .* \(tensor \(2,\) int64\)"),
        (lambda: init.ones_(zeros(1).expand(2)), "init: assignment destination is read-only"),
        (lambda: init.uniform_(zeros(2), 1.0, 0.0), "uniform_: a must not be above b, got 1.0 and 0.0"),
        (lambda: init.uniform_(zeros(2), 0.0, float("inf")), "uniform_: .* got 0.0 and inf .both must be finite"),
        (lambda: init.normal_(zeros(2), std=-1.0), "normal_: std must not be negative, got -1.0"),
        (lambda: init.trunc_normal_(zeros(2), std=0.0), "trunc_normal_: std must be positive, got 0.0"),
    ],
)
def test_what_cannot_be_drawn_or_written_is_an_error_of_one_line(write: Callable[[], Any], message: str) -> None:
    with pytest.raises(TinyTorchError, match=message):
        write()
