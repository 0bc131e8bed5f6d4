"""`checked` and `explained`: which calls they refuse, and what they cost."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
import pytest

import tt_core as tt
from tt_core.engine.arguments import checked, explained
from tt_core.engine.errors import ArgumentError, DTypeError

F = TypeVar("F", bound=Callable[..., Any])


@checked
def plain(x: Any, times: int = 1, *rest: float, flag: bool = False, each: F | None = None) -> Any:
    return x, times, rest, flag, each


@explained
def composed(x: Any, times: int = 1, flag: bool = False) -> Any:
    return x, times, flag


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: plain(0, "2"), "plain: times is an integer, got '2'"),
        (lambda: plain(0, True), "plain: times is an integer, got True"),
        (lambda: plain(0, 1, 2.0, "3"), "plain: rest is a number, got '3'"),
        (lambda: plain(0, flag="yes"), "plain: flag is True or False, got 'yes'"),
        (lambda: plain(0, each=3), "plain: each is a function or None, got 3"),
        (lambda: plain(0, tt.tensor(2)), "plain: times is an integer, got a Tensor"),
        (lambda: composed(0, "2"), "composed: times is an integer, got '2'"),
        (lambda: composed(0, tt.tensor([2])), "composed: times is an integer, got a tensor of shape (1,)"),
        (lambda: tt.ones(3).sort(0, "descending"), "descending is True or False, got 'descending'"),
        (lambda: tt.sort(tt.ones(3), descending="yes"), "descending is True or False, got 'yes'"),
        (lambda: tt.randn(2, generator=np.random.default_rng()), "generator: takes a tt_core.Generator or None"),
        (lambda: tt.isin("text", tt.ones(2)), "isin: holds numbers or booleans"),
        (lambda: tt.device("cpu", 1), "got 'cpu:1'"),
    ],
)
def test_an_argument_that_does_not_fit_its_hint_is_named(call: Callable[[], Any], message: str) -> None:
    with pytest.raises(tt.TinyTorchError) as caught:
        call()
    assert message in str(caught.value)


def test_arguments_that_fit_pass_unchanged() -> None:
    assert plain("any", np.int64(2), 1, 2.5, flag=1, each=len) == ("any", 2, (1, 2.5), 1, len)
    times = tt.tensor(2)
    assert composed(0, times)[1] is times  # a tensor without dimensions stands for a number
    assert composed(0, times=times)[1] is times


def test_tolerances_are_at_least_zero_and_may_be_infinite() -> None:
    x, y = tt.tensor([1.0, float("inf"), float("nan")]), tt.tensor([2.0, float("inf"), float("nan")])
    assert x.isclose(y, atol=float("inf")).tolist() == [True, True, False]
    assert x.isclose(y, equal_nan=True).tolist() == [False, True, True]
    assert tt.tensor([1, 2**60]).isclose(tt.tensor([1, 2**60 + 1])).tolist() == [True, True]
    for options in ({"rtol": -1.0}, {"atol": float("nan")}):
        with pytest.raises(ArgumentError, match="isclose: rtol and atol must be at least 0"):
            x.isclose(y, **options)


def test_scatter_takes_src_or_value() -> None:
    x, index = tt.zeros(2, 3), tt.tensor([[0, 1, 0]])
    assert x.scatter(0, index, 2).sum().item() == x.scatter(0, index, value=2).sum().item() == 6.0
    for given in ({}, {"src": 1.0, "value": 1.0}):
        with pytest.raises(ArgumentError, match="give one of them"):
            x.scatter(0, index, **given)
    with pytest.raises(DTypeError, match="scatter: takes numbers or booleans, got 'text'"):
        x.scatter(0, index, "text")


def test_float16_is_drawn_within_its_bounds() -> None:
    tt.manual_seed(0)
    x = tt.rand(100_000, dtype="float16")
    assert x.dtype == np.float16
    assert 0 <= x.min().item() < x.max().item() < 1
    assert tt.randn_like(x).dtype == tt.normal(x, 1.0).dtype == np.float16


def test_a_big_endian_array_is_taken_in_the_byte_order_of_this_machine() -> None:
    array = np.array([1.0, -2.0], ">f4")
    for result in (tt.clone(array), tt.zeros_like(array), tt.flip(array, dims=(0,)), tt.nn.functional.hardtanh(array)):
        assert result.dtype == np.float32
        assert result.dtype.isnative
    assert tt.isclose(tt.tensor(array), array).all()
