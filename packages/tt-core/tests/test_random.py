"""One generator: one seed repeats a run, one state resumes it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import tt_core
from tt_core import generator, get_rng_state, init, manual_seed, set_rng_state, zeros
from tt_core.engine.errors import ArgumentError


@pytest.fixture(autouse=True)
def same_generator_afterwards() -> Iterator[None]:
    state = get_rng_state()
    yield
    set_rng_state(state)


DRAWS: list[Callable[[], Any]] = [
    lambda: tt_core.rand(3),
    lambda: tt_core.randn(2, 2),
    lambda: tt_core.randint(10, (5,)),
    lambda: tt_core.randperm(5),
    lambda: tt_core.dropout(tt_core.ones(8)),
    lambda: tt_core.Linear(3, 2).weight,
    lambda: init.normal_(zeros(3)),
    lambda: init.trunc_normal_(zeros(3)),
    lambda: init.orthogonal_(zeros(3, 3)),
]


@pytest.mark.parametrize("draw", DRAWS)
def test_everything_draws_from_the_one_generator(draw: Callable[[], Any]) -> None:
    manual_seed(1)
    first, state = draw().numpy().copy(), get_rng_state()
    second = draw().numpy().copy()
    manual_seed(1)
    np.testing.assert_array_equal(draw().numpy(), first)
    assert not np.array_equal(first, second)
    set_rng_state(json.loads(json.dumps(state)))
    np.testing.assert_array_equal(draw().numpy(), second)


def test_the_generator_stays_the_same_object() -> None:
    kept = generator()
    assert manual_seed(3) is kept
    set_rng_state(get_rng_state())
    assert generator() is kept


def test_a_state_is_not_changed_by_later_draws() -> None:
    state = get_rng_state()
    before = json.dumps(state)
    tt_core.rand(10)
    assert json.dumps(state) == before


def test_seeds_differ() -> None:
    manual_seed(0)
    zero = tt_core.rand(4).tolist()
    manual_seed(1)
    assert tt_core.rand(4).tolist() != zero


def test_a_negative_seed_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"manual_seed: a seed is an integer >= 0, got -1"):
        manual_seed(-1)


@pytest.mark.parametrize("seed", [None, [1, 2], 1.5, "a"])
def test_what_is_no_integer_is_no_seed(seed: Any) -> None:
    with pytest.raises(ArgumentError, match=r"manual_seed: a seed is an integer >= 0, got "):
        manual_seed(seed)


@pytest.mark.parametrize("state", [{}, {"bit_generator": "MT19937"}, {"bit_generator": "PCG64"}, None])
def test_a_foreign_state_is_an_error(state: Any) -> None:
    with pytest.raises(ArgumentError, match=r"set_rng_state: takes what get_rng_state\(\) gave; "):
        set_rng_state(state)
