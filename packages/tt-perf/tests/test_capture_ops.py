"""Every op, layer and loss with its gradient: captured and not, in float64, to the bit."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import tt_core as tt
import tt_data
import tt_language
from tt_core import losses, nn
from tt_core.engine.dispatch import registry, wrap
from tt_core.engine.errors import ShapeError
from tt_core.engine.plugins import manager
from tt_core.samples import SAMPLES, Draw
from tt_learn import GradientError
from tt_perf.acceleration.capture import Captured, CaptureWarning, capture

ALL = {name: samples for table in (SAMPLES, *manager.answers("tt_samples")) for name, samples in table.items()}
BY_INDEX = {"index_select", "take_along_dim"}
"""Ops whose rules read an index."""


def leaves_of(inputs: tuple[Any, ...], floats: list[int]) -> list[Any]:
    """The inputs of a call, with tensors that require gradients for those at `floats`."""
    made = [wrap(x.copy()) if isinstance(x, np.ndarray) else x for x in inputs]
    return [x.requires_grad_() if i in floats else x for i, x in enumerate(made)]


def step_of(op: Any, inputs: list[Any], attributes: dict[str, Any], leaves: list[Any]) -> Callable[[Any], Any]:
    def step(scale: Any) -> Any:
        for leaf in leaves:
            leaf.grad = None
        output = op.call(*inputs, **attributes)
        first = output[0] if isinstance(output, tuple) else output
        loss = (first * scale).sum()
        if loss.requires_grad:
            loss.backward()
        return loss

    return step


def losses_and_gradients(step: Any, leaves: list[Any], scales: list[Any]) -> list[bytes]:
    found = []
    for i, scale in enumerate(scales):
        tt.manual_seed(i)
        found.append(step(scale).data.tobytes())
        found += [b"" if leaf.grad is None else leaf.grad.data.tobytes() for leaf in leaves]
    return found


@pytest.mark.parametrize("name", sorted(ALL))
def test_an_op_and_its_gradient(name: str) -> None:
    op = registry[name]
    for inputs, attributes in list(ALL[name](Draw("float64")))[:6]:
        floats = [i for i, x in enumerate(inputs) if isinstance(x, np.ndarray) and x.dtype.kind == "f"]
        for chosen in (floats, floats[:1]):
            found: list[list[bytes]] = []
            steps: list[Any] = []
            try:
                for wrapped in (lambda step: step, capture):
                    given = leaves_of(inputs, chosen)
                    leaves = [given[i] for i in chosen]
                    steps.append(wrapped(step_of(op, given, attributes, leaves)))
                    with warnings.catch_warnings():
                        warnings.simplefilter("ignore", CaptureWarning)
                        scales = [wrap(np.float64(scale).reshape(())) for scale in (0.5, 1.5, 2.5, 3.5)]
                        found.append(losses_and_gradients(steps[-1], leaves, scales))
            except GradientError:
                continue  # not all of its inputs can have gradients
            except ShapeError:
                break  # an empty array
            assert found[0] == found[1]
            assert (steps[-1].replayed == 2) != (name in BY_INDEX), steps[-1].reason
            break


LAYERS: dict[str, tuple[Callable[[], Any], tuple[int, ...]]] = {
    "Linear": (lambda: tt.Linear(6, 4), (3, 6)),
    "ReLU": (tt.ReLU, (3, 6)),
    "GELU": (tt.GELU, (3, 6)),
    "SiLU": (tt.SiLU, (3, 6)),
    "Sigmoid": (tt.Sigmoid, (3, 6)),
    "Tanh": (tt.Tanh, (3, 6)),
    "LeakyReLU": (tt.LeakyReLU, (3, 6)),
    "Softplus": (nn.Softplus, (3, 6)),
    "Softmax": (lambda: tt.Softmax(-1), (3, 6)),
    "LogSoftmax": (lambda: tt.LogSoftmax(-1), (3, 6)),
    "Dropout": (lambda: tt.Dropout(0.3), (3, 6)),
    "LayerNorm": (lambda: tt.LayerNorm(6), (3, 6)),
    "Conv1d": (lambda: tt_data.Conv1d(2, 3, 3), (2, 2, 8)),
    "Conv2d": (lambda: tt_data.Conv2d(2, 3, 3, padding=1, stride=2), (2, 2, 6, 6)),
    "ConvTranspose2d": (lambda: tt_data.ConvTranspose2d(2, 3, 3), (2, 2, 4, 4)),
    "MaxPool2d": (lambda: tt_data.MaxPool2d(2), (2, 2, 6, 6)),
    "AvgPool2d": (lambda: tt_data.AvgPool2d(2), (2, 2, 6, 6)),
    "AdaptiveAvgPool2d": (lambda: tt_data.AdaptiveAvgPool2d(2), (2, 2, 6, 6)),
    "BatchNorm1d": (lambda: tt_data.BatchNorm1d(6), (3, 6)),
    "BatchNorm2d": (lambda: tt_data.BatchNorm2d(2), (2, 2, 4, 4)),
    "GroupNorm": (lambda: tt_data.GroupNorm(2, 4), (2, 4, 3)),
    "InstanceNorm2d": (lambda: tt_data.InstanceNorm2d(2, track_running_stats=True), (2, 2, 4, 4)),
    "RMSNorm": (lambda: tt_language.RMSNorm(6), (3, 6)),
    "MultiHeadAttention": (lambda: tt_language.MultiHeadAttention(8, 2, causal=True), (2, 5, 8)),
}


@pytest.mark.parametrize("name", sorted(LAYERS))
def test_a_layer_and_its_gradients(name: str) -> None:
    make, shape = LAYERS[name]
    found, captured = [], None
    for wrapped in (lambda step: step, capture):
        tt.manual_seed(0)
        layer = tt.Sequential(make()).to("float64")
        x = wrap(np.random.default_rng(0).standard_normal(shape)).requires_grad_()
        captured = wrapped(step_of_layer(layer, x))
        scales = [wrap(np.float64(scale).reshape(())) for scale in (0.5, 1.5, 2.5, 3.5)]
        found.append(losses_and_gradients(captured, [x, *layer.parameters()], scales))
        found[-1] += [entry.data.tobytes() for entry in layer.state_dict().values()]
    assert found[0] == found[1]
    assert isinstance(captured, Captured)
    assert captured.replayed == 2


def step_of_layer(layer: Any, x: Any) -> Callable[[Any], Any]:
    def step(scale: Any) -> Any:
        x.grad = None
        layer.zero_grad()
        output = layer(x)
        loss = ((output[0] if isinstance(output, tuple) else output) ** 2 * scale).sum()
        loss.backward()
        return loss

    return step


def targets(name: str) -> tuple[Any, ...]:
    """What a loss takes beside its input (4, 3)."""
    rng = np.random.default_rng(1)
    numbers = wrap(rng.random((4, 3)))
    labels = wrap(rng.integers(3, size=4))
    signs = wrap(np.sign(rng.standard_normal(4)))
    special: dict[str, tuple[Any, ...]] = {
        "CrossEntropyLoss": (labels,),
        "NLLLoss": (labels,),
        "MarginRankingLoss": (numbers[:, 0], signs),
        "CosineEmbeddingLoss": (numbers, signs),
        "TripletMarginLoss": (numbers, numbers * 2),
        "HingeEmbeddingLoss": (wrap(np.sign(rng.standard_normal((4, 3)))),),
        "GaussianNLLLoss": (numbers, numbers + 1),
        "ContrastiveLoss": (numbers * 2, wrap(rng.integers(2, size=4))),
        "MultiMarginLoss": (labels,),
    }
    return special.get(name, (numbers,))


def _losses() -> dict[str, Any]:
    known = {name: kind for module in (losses, nn) for name, kind in vars(module).items() if name.endswith("Loss")}
    return {name: kind for name, kind in known.items() if inspect.isclass(kind) and "forward" in vars(kind)}


READS_LABELS = {"NLLLoss", "KLDivLoss"}
"""Losses that look at their targets in Python."""


@pytest.mark.parametrize("name", sorted(_losses()))
def test_a_loss_and_its_gradient(name: str) -> None:
    found, captured = [], None
    for wrapped in (lambda step: step, capture):
        x = wrap(np.random.default_rng(0).random((4, 3))).requires_grad_()
        given, loss_fn = targets(name), _losses()[name]()
        if name == "MarginRankingLoss":
            x = wrap(np.random.default_rng(0).random(4)).requires_grad_()

        def step(scale: Any, x: Any = x, given: Any = given, loss_fn: Any = loss_fn) -> Any:
            x.grad = None
            loss = loss_fn(x, *given) * scale
            loss.backward()
            return loss

        captured = wrapped(step)
        scales = [wrap(np.float64(scale).reshape(())) for scale in (0.5, 1.5, 2.5, 3.5)]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", CaptureWarning)
            found.append(losses_and_gradients(captured, [x], scales))
    assert found[0] == found[1]
    assert isinstance(captured, Captured)
    assert (captured.replayed == 0) == (name in READS_LABELS), captured.reason
