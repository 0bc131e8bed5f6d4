"""A captured step computes what the step computes, to the bit, or does not run from its tape."""

from __future__ import annotations

import argparse
import collections
import os
import random
import threading
import types
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import tt_core as tt
import tt_data
import tt_learn
from tt_core.engine.dispatch import Op, op, registry
from tt_core.engine.errors import ArgumentError
from tt_core.engine.hookspecs import hookimpl
from tt_core.engine.plugins import manager
from tt_language import GPT, GPTConfig, next_token_loss
from tt_learn import SGD, Adam, Function, Muon, Tensor, checkpoint, clip_grad_norm_
from tt_learn.autograd import forget_rule, gradient
from tt_learn.training import Trainer, TrainingError
from tt_perf.acceleration.capture import Captured, CaptureWarning, capture
from tt_perf.acceleration.capture import plugin as capture_plugin
from tt_perf.acceleration.capture.watch import Watch
from tt_perf.benchmarking.jobs import JOBS

Step = Callable[..., Any]


def training_on_text(model: Any, optimizer: Any) -> Any:
    def step(ids: Any, following: Any) -> Any:
        optimizer.zero_grad()
        loss = next_token_loss(model(ids), following)
        loss.backward()
        optimizer.step()
        return loss

    return step


def batches(count: int = 6, rows: int = 8, features: int = 5, classes: int = 3) -> list[tuple[Any, Any]]:
    rng = np.random.default_rng(0)
    return [
        (tt.tensor(rng.standard_normal((rows, features), np.float32)), tt.tensor(rng.integers(classes, size=rows)))
        for _ in range(count)
    ]


def network(*more: Any, seed: int = 0) -> Any:
    tt.manual_seed(seed)
    return tt.Sequential(tt.Linear(5, 7), tt.ReLU(), *more, tt.Linear(7, 3))


def training(model: Any, optimizer: Any = None, clip: float | None = None) -> Any:
    optimizer = optimizer or Adam(model.parameters(), lr=0.01)

    def step(x: Any, y: Any) -> Any:
        optimizer.zero_grad()
        loss = tt.cross_entropy(model(x), y)
        loss.backward()
        if clip is not None:
            clip_grad_norm_(model.parameters(), clip)
        optimizer.step()
        return loss

    return step


def state_of(model: Any) -> list[bytes]:
    return [entry.data.tobytes() for entry in model.state_dict().values()]


def run(step: Step, data: list[Any], seed: int = 1) -> list[float]:
    tt.manual_seed(seed)
    return [step(*batch).item() for batch in data]


def both(make: Callable[[], tuple[Any, Step]], data: list[Any]) -> Any:
    """Runs a step with and without `capture`, holds the two equal, and returns the captured one."""
    (model, plain), (twin, step) = make(), make()
    captured = capture(step)
    assert run(plain, data) == run(captured, data)
    assert state_of(model) == state_of(twin)
    for p, q in zip(model.parameters(), twin.parameters()):
        assert (p.grad is None) == (q.grad is None)
        assert p.grad is None or p.grad.data.tobytes() == q.grad.data.tobytes()
    return captured


def simple(*layers: Callable[[], Any], **options: Any) -> Callable[[], tuple[Any, Step]]:
    def make() -> tuple[Any, Step]:
        model = network(*(layer() for layer in layers))
        return model, training(model, **options)

    return make


# --- the same bits


def test_replays_a_step_to_the_bit() -> None:
    captured = both(simple(clip=0.5), batches(20))
    assert (captured.recorded, captured.replayed, captured.reason) == (2, 18, None)


def test_draws_the_same_random_numbers() -> None:
    captured = both(simple(lambda: tt.Dropout(0.4), tt.GELU, lambda: tt.Dropout(0.1)), batches(12))
    assert captured.replayed == 10


def test_moves_running_statistics() -> None:
    captured = both(simple(lambda: tt_data.BatchNorm1d(7)), batches(10))
    assert captured.replayed == 8


def test_captures_convolutions() -> None:
    def make() -> tuple[Any, Step]:
        tt.manual_seed(0)
        parts = [tt_data.Conv2d(2, 3, 3, padding=1), tt_data.BatchNorm2d(3), tt.ReLU(), tt_data.MaxPool2d(2)]
        model = tt.Sequential(*parts, tt_data.Flatten(), tt.Linear(12, 3))
        return model, training(model)

    rng = np.random.default_rng(0)
    images = [
        (tt.tensor(rng.standard_normal((4, 2, 4, 4), np.float32)), tt.tensor(rng.integers(3, size=4))) for _ in range(6)
    ]
    assert both(make, images).replayed == 4


@pytest.mark.parametrize("position", ["learned", "rotary", "none"])
def test_captures_a_gpt(position: str) -> None:
    def make() -> tuple[Any, Step]:
        tt.manual_seed(0)
        sizes = {"vocab_size": 7, "block_size": 6, "n_layer": 2, "n_head": 2, "n_embd": 8}
        model = GPT(GPTConfig(**sizes, position=position, norm="rms", mlp="swiglu", dropout=0.1))
        matrices = [p for p in model.blocks.parameters() if p.ndim == 2]
        others = [p for p in model.parameters() if all(p is not each for each in matrices)]
        optimizer = Muon([{"params": matrices}, {"params": others, "use_muon": False}], lr=0.01)
        return model, training_on_text(model, optimizer)

    rng = np.random.default_rng(0)
    texts = [tuple(tt.tensor(ids) for ids in rng.integers(7, size=(2, 3, 6))) for _ in range(6)]
    assert both(make, texts).replayed == 4


def test_is_within_rounding_over_a_hundred_steps() -> None:
    model, twin = network(), network()
    plain, captured = training(model), capture(training(twin))
    data = batches(10) * 10
    assert run(plain, data) == run(captured, data)


def test_returns_containers() -> None:
    model = network()
    optimizer = SGD(model.parameters(), lr=0.1)

    @capture
    def step(batch: dict[str, Any], scale: float = 1.0) -> dict[str, Any]:
        optimizer.zero_grad()
        logits = model(batch["x"])
        loss = tt.cross_entropy(logits, batch["y"]) * scale
        loss.backward()
        optimizer.step()
        return {"loss": loss, "parts": (logits, None, len(batch))}

    for x, y in batches(4):
        found = step({"x": x, "y": y}, scale=2.0)
    assert step.replayed == 2
    assert found["parts"][0].shape == (8, 3)
    assert found["parts"][1:] == (None, 2)
    assert not found["loss"].requires_grad


def test_captures_a_forward_pass() -> None:
    model = network().eval()
    forward = capture(model)
    with tt_learn.no_grad():
        for x, _ in batches(5):
            assert forward(x).data.tobytes() == model(x).data.tobytes()
    assert forward.replayed == 3
    x = batches(1)[0][0]
    with pytest.warns(CaptureWarning, match="history"):
        assert forward(x).requires_grad


# --- what is fused


def classifier() -> tuple[Any, Step]:
    tt.manual_seed(0)
    parts = [tt_data.Conv2d(2, 3, 3, padding=1), tt.ReLU(), tt_data.MaxPool2d(2), tt_data.Conv2d(3, 4, 3), tt.ReLU()]
    model = tt.Sequential(*parts, tt_data.MaxPool2d(2), tt_data.Flatten(), tt.Linear(16, 3))
    return model, training(model)


def images(count: int = 6, nan: bool = False) -> list[tuple[Any, Any]]:
    rng = np.random.default_rng(0)
    found = []
    for _ in range(count):
        x = rng.standard_normal((4, 2, 12, 12)).astype(np.float32).round(0)  # many are equal
        x[0, 0, 0, 0] = np.nan if nan else 0
        found.append((tt.tensor(x), tt.tensor(rng.integers(3, size=4))))
    return found


def ops_of(captured: Any) -> list[str]:
    """The ops of the newest plan, in order."""
    plan = next(reversed(captured._plans.values()))[0]
    return [each.op.name for each in plan.tape.instructions if hasattr(each, "op")]


def test_pools_before_relu() -> None:
    captured = both(classifier, images())
    assert captured.replayed == 4
    names = ops_of(captured)
    assert names[:6] == ["conv2d", "max_pool2d", "relu", "conv2d", "max_pool2d", "relu"]
    first = names.index("relu_backward")
    assert names[first + 1] == "max_pool2d_backward"


def test_pools_before_relu_in_a_forward_pass() -> None:
    model = classifier()[0].eval()
    forward = capture(model)
    with tt_learn.no_grad():
        for x, _ in images(4):
            assert forward(x).data.tobytes() == model(x).data.tobytes()
    assert ops_of(forward)[1:3] == ["max_pool2d", "relu"]


def test_leaves_relu_where_others_read_it() -> None:
    def make() -> tuple[Any, Step]:
        tt.manual_seed(0)
        conv, pool, last = tt_data.Conv2d(2, 3, 3), tt_data.MaxPool2d(2), tt.Linear(75, 3)
        model = tt.Sequential(conv, pool, last)

        def forward(x: Any) -> Any:
            cut = tt.relu(conv(x))
            return last(pool(cut).flatten(1)) + cut.mean()

        optimizer = SGD(model.parameters(), lr=0.1)

        def step(x: Any, y: Any) -> Any:
            optimizer.zero_grad()
            loss = tt.cross_entropy(forward(x), y)
            loss.backward()
            optimizer.step()
            return loss

        return model, step

    captured = both(make, images())
    assert captured.replayed == 4
    assert ops_of(captured)[:3] == ["conv2d", "relu", "max_pool2d"]


def test_nan_passes_through_what_is_fused() -> None:
    (model, plain), (twin, step) = classifier(), classifier()
    captured = capture(step)
    run(captured, images(3)), run(plain, images(3))
    assert np.isnan(run(captured, images(1, nan=True))) == np.isnan(run(plain, images(1, nan=True)))
    for p, q in zip(model.parameters(), twin.parameters()):
        np.testing.assert_array_equal(p.grad.data, q.grad.data)


@pytest.mark.parametrize("classes", [3, 70])
@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
@pytest.mark.parametrize("options", [{}, {"ignore_index": 1}, {"reduction": "sum"}, {"label_smoothing": 0.1}])
def test_the_loss_with_its_gradient(classes: int, dtype: str, options: dict[str, Any]) -> None:
    rng = np.random.default_rng(0)
    found, captured = [], None
    for wrapped in (lambda step: step, capture):
        x = tt.tensor(rng.standard_normal((900, classes)).astype(dtype), requires_grad=True)
        rng = np.random.default_rng(0)
        x = tt.tensor(rng.standard_normal((900, classes)).astype(dtype), requires_grad=True)

        def step(y: Any, x: Any = x) -> Any:
            x.grad = None
            loss = tt.cross_entropy(x, y, **options)
            loss.backward()
            return loss

        captured = wrapped(step)
        for _ in range(4):
            loss = captured(tt.tensor(rng.integers(classes, size=900)))
            found.append((loss.data.tobytes(), x.grad.data.tobytes()))
    assert found[:4] == found[4:]
    assert isinstance(captured, Captured)
    assert captured.replayed == 2
    assert ("cross_entropy_backward" in ops_of(captured)) == ("label_smoothing" in options or dtype == "float16")


def test_a_plugin_fuses_a_product_with_its_activation() -> None:
    """Its kernel runs for pairs alone, in training and in a forward pass, and may leave arrays to the two kernels."""
    sizes: list[int] = []

    class Fuses:
        @hookimpl
        def tt_fused(self, first: Op, second: Op) -> Any:
            return kernel if (first.name, second.name) == ("linear", "gelu") else None

    def kernel(inputs: Any, attributes: Any, others: Any, more: Any) -> Any:
        sizes.append(len(inputs[0]))
        if len(inputs[0]) == 5:
            return None
        h = tt.linear.kernel(*inputs)
        return h, tt.gelu.kernel(h, **more)

    def make() -> tuple[Any, Step]:
        tt.manual_seed(0)
        model = tt.Sequential(tt.Linear(5, 7), tt.GELU(), tt.Linear(7, 3))
        return model, training(model)

    with tt.use(Fuses()):
        assert both(make, batches(6)).replayed == 4
        assert both(make, batches(6, rows=5)).replayed == 4
    assert sizes == [8] * 4 + [5] * 4


def test_a_fused_kernel_does_not_replace_a_later_plugin() -> None:
    """Who plugs in a kernel of relu after a plugin that fuses relu wants this kernel to run."""
    fused: list[str] = []

    class Fuses:
        @hookimpl
        def tt_fused(self, first: Op, second: Op) -> Any:
            return kernel if (first.name, second.name) == ("linear", "relu") else None

    def kernel(inputs: Any, attributes: Any, others: Any, more: Any) -> Any:
        fused.append("linear, relu")
        h = tt.linear.kernel(*inputs)
        return h, tt.relu.kernel(h)

    class Halves:
        @hookimpl
        def tt_kernel(self, op: Op) -> Any:
            return (lambda x: np.maximum(x, 0) / 2) if op.name == "relu" else None

    model = tt.Sequential(tt.Linear(5, 7), tt.ReLU())
    x = batches(1)[0][0]
    with tt.no_grad():
        plain = model(x).data
        for order, factor, calls in ((Fuses(), Halves()), 0.5, 0), ((Halves(), Fuses()), 1.0, 2):
            with tt.use(order[0]), tt.use(order[1]):
                captured = capture(model)
                outs = [captured(x).data for _ in range(4)]
            assert captured.replayed == 2
            assert len(fused) == calls
            np.testing.assert_array_equal(outs[-1], plain * np.float32(factor))


# --- what is recorded again


@pytest.fixture
def trained() -> Any:
    """A model, its optimizer and its captured step, which replays, and a plain twin."""
    made = types.SimpleNamespace()
    made.model, made.twin = network(tt.Dropout(0.2)), network(tt.Dropout(0.2))
    made.optimizer, made.other = SGD(made.model.parameters(), lr=0.1), SGD(made.twin.parameters(), lr=0.1)
    made.step, made.plain = capture(training(made.model, made.optimizer)), training(made.twin, made.other)
    made.data = batches(8)

    def check(recorded: int, data: list[Any] | None = None) -> None:
        """A few steps equal those of the twin, and so many of them were recorded."""
        before = made.step.recorded
        assert run(made.step, data or made.data) == run(made.plain, data or made.data)
        assert state_of(made.model) == state_of(made.twin)
        assert made.step.recorded - before == recorded

    check(2)
    made.check = check
    return made


def test_another_learning_rate_needs_no_recording(trained: Any) -> None:
    for optimizer in (trained.optimizer, trained.other):
        optimizer.param_groups[0]["lr"] = 0.01
    trained.check(0)


def test_another_shape_is_recorded(trained: Any) -> None:
    trained.check(2, batches(6, rows=5))
    trained.check(0)


def test_another_dtype_is_recorded(trained: Any) -> None:
    data = [(x, y.int()) for x, y in trained.data]
    trained.check(2, data)


def test_another_layout_is_recorded(trained: Any) -> None:
    data = [(tt.from_numpy(np.asfortranarray(x.data)), y) for x, y in trained.data]
    assert not data[0][0].is_contiguous()
    trained.check(2, data)


def test_another_mode_is_recorded(trained: Any) -> None:
    trained.model.eval(), trained.twin.eval()
    trained.check(2)
    trained.model.train(), trained.twin.train()
    trained.check(0)


def test_a_changed_attribute_is_recorded(trained: Any) -> None:
    trained.model[2].p = trained.twin[2].p = 0.5
    trained.check(2)


def test_new_data_of_a_parameter_is_recorded(trained: Any) -> None:
    for model in (trained.model, trained.twin):
        model[0].weight.data = model[0].weight.data * 2
    trained.check(2)


def test_values_written_into_a_parameter_count(trained: Any) -> None:
    for model in (trained.model, trained.twin):
        model[0].weight.data[:] = 0.25
        with tt_learn.no_grad():
            model[0].bias += 1
    trained.check(0)


def test_a_frozen_parameter_is_recorded(trained: Any) -> None:
    for model in (trained.model, trained.twin):
        model[0].weight.requires_grad_(False)
        model[0].weight.grad = None
    trained.check(2)


def test_another_layer_is_recorded(trained: Any) -> None:
    trained.model[1], trained.twin[1] = tt.Tanh(), tt.Tanh()
    trained.check(2)


def test_another_kernel_is_recorded(trained: Any) -> None:
    class Doubled:
        @hookimpl
        def tt_kernel(self, op: Op) -> Any:
            return (lambda x, /: np.maximum(2 * x, 0)) if op is tt.relu else None

    with tt.use(Doubled()):
        trained.check(2)
    trained.check(2)


def test_a_state_dict_is_read(trained: Any) -> None:
    state = network(tt.Dropout(0.2), seed=5).state_dict()
    trained.model.load_state_dict(state), trained.twin.load_state_dict(state)
    trained.check(0)


def test_a_profiler_sees_every_call(trained: Any) -> None:
    with pytest.warns(CaptureWarning, match="profiler"), tt.use("profiler", report=False):
        trained.check(0)
    trained.check(2)


def test_hooks_run_as_usual(trained: Any) -> None:
    seen: list[int] = []
    handle = trained.model[0].register_forward_hook(lambda layer, inputs, out: seen.append(1))
    with pytest.warns(CaptureWarning, match="has hooks"):
        trained.check(0)
    assert len(seen) == 8
    handle.remove()


def test_a_hook_on_a_parameter_runs_as_usual(trained: Any) -> None:
    for model in (trained.model, trained.twin):
        model[0].weight.register_hook(lambda g: g * 2)
    with pytest.warns(CaptureWarning, match="has hooks"):
        trained.check(0)


def test_a_changed_variable_is_recorded() -> None:
    scale, data = 1.0, batches(4)
    model, twin = network(), network()

    def make(model: Any) -> Step:
        optimizer = SGD(model.parameters(), lr=0.1)

        def step(x: Any, y: Any) -> Any:
            optimizer.zero_grad()
            loss = tt.cross_entropy(model(x), y) * scale
            loss.backward()
            optimizer.step()
            return loss

        return step

    plain, captured = make(model), capture(make(twin))
    for scale in (1.0, 3.0):  # noqa: B007
        assert run(plain, data) == run(captured, data)
    assert state_of(model) == state_of(twin)
    assert (captured.recorded, captured.replayed) == (4, 4)


def test_an_attribute_of_an_object_is_recorded() -> None:
    class Loop:
        def __init__(self) -> None:
            self.model, self.weights, self.unused = network(), [1.0, 2.0], 0
            self.optimizer = SGD(self.model.parameters(), lr=0.1)

        def step(self, x: Any, y: Any) -> Any:
            self.optimizer.zero_grad()
            loss = tt.cross_entropy(self.model(x), y) * self.weights[1]
            loss.backward()
            self.optimizer.step()
            return loss

    plain, loop = Loop(), Loop()
    captured = capture(loop.step)
    for weight in (2.0, 4.0):
        plain.weights[1] = loop.weights[1] = weight
        for x, y in batches(4):
            loop.unused += 1  # which the step does not name
            assert plain.step(x, y).item() == captured(x, y).item()
    assert (captured.recorded, captured.replayed) == (4, 4)


def test_a_changed_array_is_recorded() -> None:
    weights = np.ones(3, np.float32)
    model, twin = network(), network()

    def make(model: Any) -> Step:
        optimizer = SGD(model.parameters(), lr=0.1)

        def step(x: Any, y: Any) -> Any:
            optimizer.zero_grad()
            loss = tt.cross_entropy(model(x) * tt.tensor(weights), y)
            loss.backward()
            optimizer.step()
            return loss

        return step

    plain, captured, data = make(model), capture(make(twin)), batches(5)
    for factor in (1, 2):
        weights *= factor
        assert run(plain, data) == run(captured, data)
    assert state_of(model) == state_of(twin)
    assert captured.recorded == 4


def test_what_a_gradient_rule_reads_is_watched() -> None:
    strength = [1.0]

    @op
    def _reversed(x: Any, /) -> Any:
        return x.copy()

    gradient(_reversed, lambda out, x: (lambda g: g * -strength[0],))
    try:
        plain = around(lambda model, x, y: tt.cross_entropy(_reversed(model(x)), y))
        (model, step), (twin, other), data = plain(), plain(), batches(4)
        captured = capture(other)
        for strength[0] in (1.0, 2.0):
            assert run(step, data) == run(captured, data)
        assert state_of(model) == state_of(twin)
        assert (captured.recorded, captured.replayed) == (4, 4)
    finally:
        del registry["_reversed"]
        forget_rule(_reversed)


class Slotted:
    __slots__ = ("scale",)

    def __init__(self) -> None:
        self.scale = 1.0


@pytest.mark.parametrize(
    ("options", "change"),
    [
        (argparse.Namespace(scale=1.0), lambda options: setattr(options, "scale", 2.0)),
        (types.SimpleNamespace(scale=1.0), lambda options: setattr(options, "scale", 2.0)),
        (Slotted(), lambda options: setattr(options, "scale", 2.0)),
        (collections.UserDict(scale=1.0), lambda options: options.update(scale=2.0)),
        (collections.deque([1.0]), lambda options: options.appendleft(2.0)),
        ([[1.0]], lambda options: options[0].__setitem__(0, 2.0)),
    ],
)
def test_options_in_any_form_are_watched(options: Any, change: Any) -> None:
    def scale() -> float:
        if hasattr(options, "scale"):
            return float(options.scale)
        first = options["scale"] if isinstance(options, collections.UserDict) else options[0]
        return float(first[0] if isinstance(first, list) else first)

    double = capture(lambda x: x * scale())
    for _ in range(3):
        assert double(tt.ones(1)).item() == 1
    assert double.replayed == 1
    change(options)
    for _ in range(3):
        assert double(tt.ones(1)).item() == 2
    assert double.replayed == 2


def test_a_gradient_that_a_step_looks_at_is_recorded() -> None:
    model = network()

    @capture
    def step(x: Any, y: Any) -> Any:
        first = model[0].weight.grad is None
        model.zero_grad()
        loss = tt.cross_entropy(model(x), y)
        loss.backward()
        return loss.detach() * 0 + 1 if first else loss.detach() * 0

    data = batches(5)
    with tt.use():
        found = [step(x, y).item() for x, y in data]
    assert found == [1, 0, 0, 0, 0]
    assert step.replayed == 2
    model.zero_grad()
    assert step(*data[0]).item() == 1


# --- what runs as usual


def unusual(make: Callable[[], tuple[Any, Step]], reason: str, data: list[Any] | None = None) -> None:
    """A step is not replayed and says why, once."""
    data = data or batches(14)
    with pytest.warns(CaptureWarning, match=reason) as seen:
        captured = both(make, data)
    assert captured.replayed == 0
    assert len(seen) == 1


def around(loss_of: Callable[[Any, Any, Any], Any]) -> Callable[[], tuple[Any, Step]]:
    def make() -> tuple[Any, Step]:
        model = network()
        optimizer = SGD(model.parameters(), lr=0.1)

        def step(x: Any, y: Any) -> Any:
            optimizer.zero_grad()
            loss = loss_of(model, x, y)
            loss.backward()
            optimizer.step()
            return loss

        return model, step

    return make


def by_value(model: Any, x: Any, y: Any) -> Any:
    loss = tt.cross_entropy(model(x), y)
    return loss * 2 if loss < 1.1 else loss


def by_item(model: Any, x: Any, y: Any) -> Any:
    loss = tt.cross_entropy(model(x), y)
    return loss * loss.item()


def by_numpy(model: Any, x: Any, y: Any) -> Any:
    return tt.cross_entropy(model(x) * tt.tensor(x.numpy()).mean(), y)


def by_data(model: Any, x: Any, y: Any) -> Any:
    return tt.cross_entropy(model(x) + tt.tensor(model[0].weight.data.max()), y)


def by_mask(model: Any, x: Any, y: Any) -> Any:
    out = model(x)
    return tt.cross_entropy(out, y) + out[out > 0].sum()


@pytest.mark.parametrize("loss_of", [by_value, by_item, by_numpy, by_data, by_mask])
def test_reading_values_runs_as_usual(loss_of: Any) -> None:
    unusual(around(loss_of), "reads the values")


def test_the_same_batch_hides_nothing() -> None:
    unusual(around(by_numpy), "reads the values", batches(1) * 14)


def test_accumulation_runs_as_usual() -> None:
    def make() -> tuple[Any, Step]:
        model = network()
        optimizer = SGD(model.parameters(), lr=0.1)

        def step(x: Any, y: Any) -> Any:
            optimizer.zero_grad()
            for part in (slice(0, 4), slice(4, 8)):
                loss = tt.cross_entropy(model(x[part]), y[part])
                loss.backward()
            optimizer.step()
            return loss

        return model, step

    unusual(make, "accumulated")


def test_no_zero_grad_runs_as_usual() -> None:
    def make() -> tuple[Any, Step]:
        model = network()

        def step(x: Any, y: Any) -> Any:
            loss = tt.cross_entropy(model(x), y)
            loss.backward()
            return loss

        return model, step

    unusual(make, "accumulated")


def test_gradients_that_are_there_are_not_lost() -> None:
    """A step that clears its gradients at its end adds to what was there before it."""
    model, twin = network(), network()

    def make(model: Any) -> Step:
        optimizer = SGD(model.parameters(), lr=0.1)

        def step(x: Any, y: Any) -> Any:
            loss = tt.cross_entropy(model(x), y)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            return loss

        return step

    plain, captured, data = make(model), capture(make(twin)), batches(5)
    assert run(plain, data) == run(captured, data)
    assert captured.replayed == 3
    for net in (model, twin):
        net[0].weight.grad = tt.ones(7, 5)
    assert run(plain, data) == run(captured, data)
    assert state_of(model) == state_of(twin)


def test_a_function_runs_as_usual() -> None:
    class Double(Function):
        @staticmethod
        def forward(ctx: Any, x: Any) -> Any:
            return x * 2

        @staticmethod
        def backward(ctx: Any, g: Any) -> Any:
            return g * 2

    unusual(around(lambda model, x, y: tt.cross_entropy(Double.apply(model(x)), y)), "Double is not an op")


def test_a_checkpoint_runs_as_usual() -> None:
    unusual(around(lambda model, x, y: tt.cross_entropy(checkpoint(model, x), y)), "checkpoint is not an op")


def test_random_numbers_outside_of_ops_run_as_usual() -> None:
    noisy = around(lambda model, x, y: tt.cross_entropy(model(x + tt.randn(8, 5)), y))
    unusual(noisy, "random numbers outside of ops")


def test_pythons_random_numbers_run_as_usual() -> None:
    def depth(model: Any, x: Any, y: Any) -> Any:
        random.random()
        return tt.cross_entropy(model(x), y)

    unusual(around(depth), "Python's or NumPy's global generator")


def test_a_counter_runs_as_usual() -> None:
    def make() -> tuple[Any, Step]:
        model, calls = network(), [0]
        optimizer = SGD(model.parameters(), lr=0.1)

        def step(x: Any, y: Any) -> Any:
            calls[0] += 1000
            optimizer.zero_grad()
            loss = tt.cross_entropy(model(x), y)
            loss.backward()
            optimizer.step()
            return loss

        return model, step

    unusual(make, "changes calls")


def test_a_changing_number_runs_as_usual() -> None:
    def make() -> tuple[Any, Step]:
        model, rng = network(), np.random.default_rng(0)
        optimizer = SGD(model.parameters(), lr=0.1)

        def step(x: Any, y: Any) -> Any:
            optimizer.zero_grad()
            loss = tt.cross_entropy(model(x), y) * float(rng.random())
            loss.backward()
            optimizer.step()
            return loss

        return model, step

    unusual(make, "changes rng|another value")


def test_a_change_in_place_runs_as_usual() -> None:
    def make() -> tuple[Any, Step]:
        model = network()

        def step(x: Any, y: Any) -> Any:
            loss = tt.cross_entropy(model(x), y)
            model.zero_grad()
            loss.backward()
            with tt_learn.no_grad():
                for p in model.parameters():
                    p -= 0.1 * p.grad
            return loss

        return model, step

    unusual(make, "in place|reads the values")


def test_a_scheduler_inside_runs_as_usual() -> None:
    def make() -> tuple[Any, Step]:
        model = network()
        optimizer = SGD(model.parameters(), lr=0.1)
        scheduler = tt_learn.StepLR(optimizer, 2)

        def step(x: Any, y: Any) -> Any:
            optimizer.zero_grad()
            loss = tt.cross_entropy(model(x), y)
            loss.backward()
            optimizer.step()
            scheduler.step()
            return loss

        return model, step

    unusual(make, "changes")


def test_a_constant_needs_two_batches() -> None:
    """What a rule computes past the ops is the same each time only if the batch is."""

    @op
    def _shifted(x: Any, /) -> Any:
        return x + 1

    gradient(_shifted, lambda out, x: (lambda g: g * tt.tensor(np.linspace(1, 2, 3, dtype=np.float32)),))
    try:
        captured = both(around(lambda model, x, y: tt.cross_entropy(_shifted(model(x)), y)), batches(6))
        assert captured.replayed == 4
        unusual(
            around(lambda model, x, y: tt.cross_entropy(_shifted(model(x)), y)),
            "every batch is the same",
            batches(1) * 9,
        )
    finally:
        del registry["_shifted"]
        forget_rule(_shifted)


def test_a_large_array_runs_as_usual() -> None:
    table = np.zeros((200, 100))
    with pytest.warns(CaptureWarning, match="reads table, an array of 160,000 bytes"):
        capture(lambda x: x + tt.tensor(table[0, 0]))(tt.ones(2))


def test_what_comes_from_outside_runs_as_usual(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCALE", "1")
    scaled = capture(lambda x: x * float(os.environ["SCALE"]))
    with pytest.warns(CaptureWarning, match="reads os.environ"):
        assert scaled(tt.ones(1)).item() == 1
    numbers = iter([1.0, 2.0])
    with pytest.warns(CaptureWarning, match="reads numbers, an iterator"):
        assert capture(lambda x: x * next(numbers))(tt.ones(1)).item() == 1


def test_says_so_for_arrays_as_arguments() -> None:
    with pytest.warns(CaptureWarning, match="an argument"):
        capture(lambda x: tt.relu(x))(np.ones(2))


def test_takes_functions_only() -> None:
    with pytest.raises(ArgumentError, match="takes a function"):
        capture(3)  # type: ignore[arg-type]


# --- errors and other steps


def test_an_error_is_that_of_the_step(trained: Any) -> None:
    """A label out of range in the middle of a replay: the same error, and nothing has changed but the generator."""
    x, y = trained.data[0]
    wrong = y.clone()
    wrong[0] = 7
    before = state_of(trained.model)
    errors = []
    for step in (trained.step, trained.plain):
        tt.manual_seed(3)
        with pytest.raises(tt.TinyTorchError) as error:
            step(x, wrong)
        errors.append((str(error.value), tt.get_rng_state()))
    assert errors[0] == errors[1]
    assert state_of(trained.model) == before
    trained.check(0)


def test_a_loss_of_nan_passes(trained: Any) -> None:
    x, y = trained.data[0]
    bad = tt.tensor(np.where(np.arange(40).reshape(8, 5) == 3, np.nan, x.data).astype(np.float32))
    trained.check(0, [(x, y), (bad, y)][:1])
    assert all(np.isnan(loss) for loss in run(trained.step, [(bad, y)]) + run(trained.plain, [(bad, y)]))
    assert state_of(trained.model) == state_of(trained.twin)


def test_a_kernel_that_fails_once_runs_again() -> None:
    calls = {"count": 0, "fail": 0}

    class Fragile:
        @hookimpl
        def tt_kernel(self, op: Op) -> Any:
            return kernel if op is tt.relu else None

    def kernel(x: Any, /) -> Any:
        calls["count"] += 1
        if calls["count"] == calls["fail"]:
            raise MemoryError
        return np.maximum(x, 0)

    model, twin = network(tt.Dropout(0.5)), network(tt.Dropout(0.5))
    plain, captured, data = training(model), capture(training(twin)), batches(8)
    with tt.use(Fragile()):
        run(captured, data[:4])
        run(plain, data[:4])
        calls["fail"] = calls["count"] + 2
        assert run(captured, data) == run(plain, data)
    assert state_of(model) == state_of(twin)


def test_two_captured_steps_take_turns() -> None:
    models = [network(seed=i) for i in range(4)]
    steps = [capture(training(model)) for model in models[:2]] + [training(model) for model in models[2:]]
    for p, q in ((0, 2), (1, 3)):
        models[q].load_state_dict(models[p].state_dict())
    for x, y in batches(8):
        losses = [step(x, y).item() for step in steps]
        assert losses[:2] == losses[2:]
    assert steps[0].replayed == steps[1].replayed == 6


def test_steps_in_threads_do_not_disturb_each_other() -> None:
    data = batches(40)
    models, twins = [network(seed=i) for i in range(3)], [network(seed=i) for i in range(3)]
    found: dict[int, list[float]] = {}

    def work(i: int) -> None:
        step = capture(training(models[i]))
        found[i] = [step(x, y).item() for x, y in data]

    threads = [threading.Thread(target=work, args=(i,)) for i in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for i, twin in enumerate(twins):
        step = training(twin)
        assert found[i] == [step(x, y).item() for x, y in data]
        assert state_of(models[i]) == state_of(twin)
        assert all(type(p) is Tensor for p in models[i].parameters())


def test_a_captured_step_inside_another_is_part_of_it() -> None:
    model = network().eval()
    forward = capture(model)
    outer = capture(lambda x: forward(x) * 2)
    with tt_learn.no_grad():
        for x, _ in batches(5):
            assert outer(x).data.tobytes() == (model(x) * 2).data.tobytes()
    assert outer.replayed == 3


def test_leaves_no_trace(trained: Any) -> None:
    assert all(type(p) is Tensor and type(p.grad) is Tensor for p in trained.model.parameters())
    assert not manager.has_plugin("capture-recorder")
    assert type(tt.relu(tt.ones(2))) is Tensor
    assert tt.cross_entropy.chain.__name__ == tt.cross_entropy.base.__name__


def test_an_error_while_recording_leaves_no_trace() -> None:
    model = network()
    step = capture(training(model))
    x, y = batches(1)[0]
    with pytest.raises(tt.TinyTorchError):
        step(x[:, :3], y)
    assert type(model[0].weight) is Tensor
    assert not manager.has_plugin("capture-recorder")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run(step, batches(4))
    assert step.replayed == 2


# --- the plugin: a Trainer captures its step


def fitted(*plugins: str, steps: int = 10, batches_of: Any = None, stop: int | None = None, **options: Any) -> Any:
    """A model that a Trainer has trained, and the losses."""
    with tt.use(*plugins, report=False):
        model = network(tt.Dropout(0.1))
        optimizer = Adam(model.parameters(), lr=0.01)
        scheduler = tt_learn.StepLR(optimizer, 3)
        options = {"clip_grad_norm": 1.0, **options}
        trainer = Trainer(model, optimizer, tt.cross_entropy, scheduler=scheduler, log_every=1, **options)
        trainer.fit(batches_of or batches(5), steps=steps)
        return model, [record["train_loss"] for record in trainer.history], trainer


def test_a_trainer_replays_to_the_bit() -> None:
    plain, losses, _ = fitted()
    capture_plugin.tt_plugged()
    captured, same, _ = fitted("capture")
    assert losses == same
    assert state_of(plain) == state_of(captured)
    assert capture_plugin.tt_report() == "capture: 8 steps replayed, 2 recorded"


def test_a_trainer_that_accumulates_runs_as_usual() -> None:
    plain, losses, _ = fitted(accumulate=2)
    capture_plugin.tt_plugged()
    captured, same, _ = fitted("capture", accumulate=2)
    assert (losses, state_of(plain)) == (same, state_of(captured))
    assert "accumulated" in str(capture_plugin.tt_report())


def test_a_trainer_stops_at_a_loss_that_is_not_finite() -> None:
    data = batches(5)
    data[4] = (data[4][0] * np.inf, data[4][1])
    messages = []
    for plugins in ((), ("capture",)):
        with pytest.raises(TrainingError, match="the loss is nan after 4 steps") as error:
            fitted(*plugins, batches_of=data)
        messages.append(str(error.value))
    assert messages[0] == messages[1]


def test_a_resumed_run_has_the_same_bits(tmp_path: Any) -> None:
    whole, losses, _ = fitted("capture", batches_of=lambda step: batches(10)[step])
    with tt.use("capture", report=False):
        model = network(tt.Dropout(0.1))
        optimizer = Adam(model.parameters(), lr=0.01)
        parts = {"scheduler": tt_learn.StepLR(optimizer, 3), "log_every": 1, "clip_grad_norm": 1.0}
        trainer = Trainer(model, optimizer, tt.cross_entropy, **parts)
        trainer.fit(lambda step: batches(10)[step], steps=5)
        trainer.save(tmp_path / "checkpoint.safetensors")
        tt.manual_seed(99)
        again = network(tt.Dropout(0.1), seed=7)
        optimizer = Adam(again.parameters(), lr=0.01)
        parts["scheduler"] = tt_learn.StepLR(optimizer, 3)
        trainer = Trainer(again, optimizer, tt.cross_entropy, **parts)
        trainer.resume(tmp_path / "checkpoint.safetensors")
        trainer.fit(lambda step: batches(10)[step], steps=10)
    assert state_of(whole) == state_of(again)
    assert losses == [record["train_loss"] for record in trainer.history]


def test_validation_and_parts_that_are_replaced() -> None:
    with tt.use("capture", report=False):
        capture_plugin.tt_plugged()
        model = network()
        trainer = Trainer(model, SGD(model.parameters(), lr=0.1), tt.cross_entropy)
        trainer.fit(batches(5), steps=8, val=batches(2), val_every=2)
        trainer.loss_fn = lambda out, y: tt.cross_entropy(out, y) * 2
        trainer.fit(batches(5), steps=12)
    assert capture_plugin.tt_report() == "capture: 8 steps replayed, 4 recorded"


def test_a_trainer_with_its_own_loss_runs_as_usual() -> None:
    class Twice(Trainer):
        def _loss(self, batch: Any) -> Any:
            return super()._loss(batch) * 2

    capture_plugin.tt_plugged()
    with tt.use("capture", report=False):
        model = network()
        Twice(model, SGD(model.parameters(), lr=0.1), tt.cross_entropy).fit(batches(5), steps=5)
    reason = "runs as usual: Twice has its own _loss"
    assert capture_plugin.tt_report() == f"capture: 0 steps replayed, 0 recorded\n  {reason}"


def test_moved_entries_are_noticed() -> None:
    """What leaves one list and begins the next one, and what comes into an empty one."""
    first, second, empty = [1000, 2000], [3000], []
    watch = Watch([lambda: (first, second, empty)])
    second.insert(0, first.pop())
    assert not watch.holds()
    first.append(second.pop(0))
    assert watch.holds()
    empty.append(4000)
    assert not watch.holds()
    assert watch.changed() is not None


def test_jobs_of_tt_compare_are_captured() -> None:
    with tt.use("capture", report=False):
        step = JOBS["mlp-step"].build()
        assert isinstance(step, Captured)
        for _ in range(4):
            step()
    assert step.replayed == 2


def test_a_plugin_may_be_captured_through_a_hook() -> None:
    class Wraps:
        captured_through = ("tt_wrap_layer",)

        @hookimpl
        def tt_wrap_layer(self, layer_type: Any, call: Any) -> Any:
            return lambda layer, *inputs, **options: call(layer, *inputs, **options)

    with tt.use(Wraps()):
        assert both(simple(), batches(5)).replayed == 3
