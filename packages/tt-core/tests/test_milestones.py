"""1957: the perceptron learns what can be separated by a line, and says so when it did not."""

from __future__ import annotations

import numpy as np
import pytest

import tt_core
from tt_core.command.journey import Shortfall, require
from tt_core.command.milestones import accuracy, learn, perceptron, two_clouds


def test_learns_any_two_separable_clouds() -> None:
    for seed in range(10):
        tt_core.manual_seed(seed)
        x, y = two_clouds(60)
        layer = tt_core.Linear(2, 1)
        mistakes, epochs = learn(layer, x, y)
        assert accuracy(layer, x, y) == 1.0
        assert epochs <= mistakes + 1  # an epoch without a mistake is the last


def test_does_not_learn_xor() -> None:
    x = tt_core.tensor([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
    y = tt_core.tensor([0, 1, 1, 0])
    layer = tt_core.Linear(2, 1)
    _, epochs = learn(layer, x, y, most_epochs=50)
    assert epochs == 50
    assert accuracy(layer, x, y) <= 0.75


def test_prints_what_it_measured(capsys: pytest.CaptureFixture[str]) -> None:
    perceptron()
    printed = capsys.readouterr().out
    assert "100.0% of them right" in printed
    assert "1,000 points it never saw" in printed


def test_a_shortfall_is_an_error() -> None:
    with pytest.raises(Shortfall, match=r"perceptron: accuracy is 93.00%, 95% was to be reached"):
        require("perceptron", "accuracy", 0.93, 0.95)
    with pytest.raises(Shortfall):
        require("perceptron", "accuracy", float(np.nan), 0.95)
