"""The trainer: what a step is, exact resume for every optimizer, callbacks, and what stops a run."""

from __future__ import annotations

import contextlib
import io
import itertools
import json
import math
import os
import re
import signal
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tt_core
import tt_learn
from tt_core import tensor
from tt_core.engine.errors import ArgumentError, ShapeError, TinyTorchError
from tt_learn import (
    SGD,
    AdamW,
    Callback,
    Checkpoints,
    CosineWarmupLR,
    EarlyStopping,
    GradientError,
    JSONLog,
    LossCurve,
    Muon,
    ProgressBar,
    ReduceLROnPlateau,
    StepLR,
    Trainer,
    TrainingError,
    accuracy,
    binary_accuracy,
    confusion_matrix,
    optimizers,
    perplexity,
    svg,
    top_k_accuracy,
)


class Loader:
    """Shuffled batches of (x, y) with a state, as a data loader of a later act has."""

    def __init__(self, x: Any, y: Any, batch_size: int) -> None:
        self.x, self.y, self.batch_size = x, y, batch_size
        self.order: list[int] = []
        self.position = 0
        self.resuming = self.ended = False

    def __len__(self) -> int:
        return -(-len(self.x) // self.batch_size)

    def __iter__(self) -> Iterator[tuple[Any, Any]]:
        if not self.resuming:
            self.order, self.position = tt_core.generator().permutation(len(self.x)).tolist(), 0
        self.resuming = self.ended = False
        while self.position < len(self):
            some = self.order[self.position * self.batch_size :][: self.batch_size]
            self.position += 1
            yield tensor(self.x[some]), tensor(self.y[some])
        self.ended = True

    def state_dict(self) -> dict[str, Any]:
        return {"order": self.order, "position": self.position}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.order, self.position, self.resuming = state["order"], state["position"], True


class ForgetfulLoader(Loader):
    """One whose state after an epoch's end is that of a new epoch, not of an empty rest."""

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "ended": self.ended}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        super().load_state_dict(state)
        self.resuming = not state["ended"]


def data(n: int = 22) -> tuple[Any, Any]:
    draw = np.random.default_rng(0)
    x = draw.standard_normal((n, 6)).astype("float32")
    return x, (x[:, 0] * x[:, 1] > 0).astype("int64") + (x[:, 2] > 1)


def network(seed: int = 0) -> Any:
    tt_core.manual_seed(seed)
    layers = [tt_core.Linear(6, 16), tt_core.ReLU(), tt_core.Dropout(0.3), tt_core.Linear(16, 3)]
    return tt_core.Sequential(*layers)


class StopAfter(Callback):
    def __init__(self, step: int) -> None:
        self.last_step = step

    def on_step_end(self, trainer: Trainer) -> None:
        if trainer.step == self.last_step:
            trainer.stop()


def mse(output: Any, y: Any) -> Any:
    return ((output - y) ** 2).mean()


# --- exact resume

OPTIMIZERS: dict[str, Callable[[Any], Any]] = {
    "SGD": lambda m: optimizers.SGD(m.parameters(), lr=0.1),
    "SGDMomentum": lambda m: optimizers.SGDMomentum(m.parameters(), lr=0.05, nesterov=True),
    "RMSprop": lambda m: optimizers.RMSprop(m.parameters(), momentum=0.5, centered=True),
    "Adagrad": lambda m: tt_learn.Adagrad(m.parameters(), lr=0.1),
    "Adam": lambda m: optimizers.Adam(m.parameters(), lr=0.01, amsgrad=True),
    "AdamW": lambda m: optimizers.AdamW(m.parameters(), lr=0.01, weight_decay=0.1),
    "Lion": lambda m: tt_learn.Lion(m.parameters(), lr=0.01),
    "Muon": lambda m: Muon(
        [
            {"params": [p for p in m.parameters() if p.ndim == 2]},
            {"params": [p for p in m.parameters() if p.ndim != 2], "use_muon": False},
        ],
        lr=0.02,
    ),
}
SCHEDULES: dict[str, Callable[[Any], Any]] = {
    "warm-up": lambda o: CosineWarmupLR(o, 3, 12),
    "plateau": lambda o: ReduceLROnPlateau(o, factor=0.5, patience=0, threshold=0.5),
}


def run(
    optimizer: str,
    schedule: str = "warm-up",
    seed: int = 0,
    callbacks: Any = (),
    resume: Path | None = None,
    accumulate: int = 2,
    val_every: int | None = None,
    batches: Any = None,
    loader: type[Loader] = Loader,
) -> Trainer:
    """Three epochs of 6 batches, two a step, with dropout, shuffling, clipping, a schedule and validation."""
    model = network(seed)
    made = OPTIMIZERS[optimizer](model)
    trainer = Trainer(
        model,
        made,
        tt_core.cross_entropy,
        scheduler=SCHEDULES[schedule](made),
        callbacks=[EarlyStopping(patience=50), *callbacks],
        accumulate=accumulate,
        clip_grad_norm=0.5,
        log_every=2,
    )
    if resume is not None:
        trainer.resume(resume)
    x, y = data()
    trainer.fit(batches or loader(x, y, 4), steps=1000, epochs=3, val=Loader(x, y, 8), val_every=val_every)
    return trainer


def assert_same_bits(a: Trainer, b: Trainer) -> None:
    for p, q in zip(a.model.parameters(), b.model.parameters()):
        np.testing.assert_array_equal(p.data, q.data)
    first, second = a.optimizer.state_dict(), b.optimizer.state_dict()
    assert first["param_groups"] == second["param_groups"]
    for i, entry in first["state"].items():
        for name, value in entry.items():
            np.testing.assert_array_equal(np.asarray(value), np.asarray(second["state"][i][name]))
    assert a.scheduler.state_dict() == b.scheduler.state_dict()
    timed = ("seconds", "examples_per_second")
    without_times = [[{k: v for k, v in r.items() if k not in timed} for r in t.history] for t in (a, b)]
    assert without_times[0] == without_times[1]
    assert (a.step, a.epoch) == (b.step, b.epoch)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("stop_after", [1, 2, 3, 4, 8])  # 3 is the end of an epoch of 3 steps
def test_a_stopped_run_ends_with_the_same_bits(tmp_path: Path, optimizer: str, stop_after: int) -> None:
    straight = run(optimizer)
    generator = tt_core.get_rng_state()
    run(optimizer, callbacks=[StopAfter(stop_after), Checkpoints(tmp_path)])
    continued = run(optimizer, seed=99, resume=tmp_path)
    assert_same_bits(straight, continued)
    assert tt_core.get_rng_state() == generator


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("val_every", [None, 2])
@pytest.mark.parametrize("accumulate", [1, 2, 4])
@pytest.mark.parametrize("loader", [Loader, ForgetfulLoader])
def test_every_step_can_be_resumed(
    tmp_path: Path, schedule: str, val_every: int | None, accumulate: int, loader: type[Loader]
) -> None:
    """Each checkpoint written on the way, whatever was due after its step."""
    options: dict[str, Any] = {"schedule": schedule, "val_every": val_every, "accumulate": accumulate, "loader": loader}

    class Keep(Callback):
        runs_last = True

        def on_step_end(self, trainer: Trainer) -> None:
            trainer.save(tmp_path / f"step{trainer.step}.safetensors")

        def on_epoch_end(self, trainer: Trainer) -> None:
            trainer.save(tmp_path / f"epoch{trainer.epoch}.safetensors")

    straight = run("AdamW", callbacks=[Keep()], **options)
    saved = sorted(tmp_path.iterdir())
    assert len(saved) == straight.step + 3
    for path in saved:
        assert_same_bits(straight, run("AdamW", seed=99, resume=path, **options))


@pytest.mark.parametrize("loader", [Loader, ForgetfulLoader])
@pytest.mark.parametrize("accumulate", [2, 4])
def test_fitting_in_pieces_gives_the_same_bits(loader: type[Loader], accumulate: int) -> None:
    x, y = data()
    weights = []
    for pieces in ([9], [1, 2, 3, 4, 5, 9]):
        model = network()
        trainer = Trainer(model, AdamW(model.parameters()), tt_core.cross_entropy, accumulate=accumulate)
        batches = loader(x, y, 4)
        for steps in pieces:
            trainer.fit(batches, steps=steps)
        weights.append(model[0].weight.data)
    np.testing.assert_array_equal(*weights)


def test_a_batch_function_is_resumed(tmp_path: Path) -> None:
    x, y = data()

    def next_batch(step: int) -> Any:
        some = tt_core.generator().integers(0, len(x), 5)
        return tensor(x[some]), tensor(y[some])

    def train(steps_now: int, folder: Path, resume: bool = False) -> Trainer:
        model = network(int(resume))
        trainer = Trainer(
            model,
            AdamW(model.parameters()),
            compute_loss=lambda model, batch: tt_core.cross_entropy(model(batch[0]), batch[1]),
            callbacks=[StopAfter(steps_now), Checkpoints(folder, every=1)],
            tokens_per_step=5,
        )
        if resume:
            trainer.resume(folder)
        trainer.fit(next_batch, steps=15)
        return trainer

    straight = train(100, tmp_path / "straight")
    train(7, tmp_path / "stopped")
    continued = train(100, tmp_path / "stopped", resume=True)
    assert continued.step == straight.step == 15
    for p, q in zip(straight.model.parameters(), continued.model.parameters()):
        np.testing.assert_array_equal(p.data, q.data)


def test_validation_changes_no_bit() -> None:
    weights = [run("SGD", val_every=every).model[0].weight.data for every in (1, 3, None)]
    np.testing.assert_array_equal(weights[0], weights[1])
    np.testing.assert_array_equal(weights[0], weights[2])


def test_a_plain_list_is_resumed_at_the_end_of_epochs_only(tmp_path: Path) -> None:
    x, y = data()
    batches = [(tensor(x[i : i + 4]), tensor(y[i : i + 4])) for i in range(0, 22, 4)]
    straight = run("Adam", batches=batches)

    class Keep(Callback):
        def on_epoch_end(self, trainer: Trainer) -> None:
            trainer.save(tmp_path / f"{trainer.epoch}.safetensors")

    run("Adam", batches=batches, callbacks=[Keep(), StopAfter(8), Checkpoints(tmp_path)])
    assert_same_bits(straight, run("Adam", seed=9, batches=batches, resume=tmp_path / "1.safetensors"))
    with pytest.raises(TrainingError, match=r"4 batches into epoch 3.*exact=False\) begins"):
        run("Adam", batches=batches, resume=tmp_path)
    model = network()
    trainer = Trainer(model, OPTIMIZERS["Adam"](model), tt_core.cross_entropy, accumulate=2)
    trainer.resume(tmp_path, exact=False)
    trainer.fit(batches, epochs=3)
    assert (trainer.step, trainer.epoch) == (8 + 3, 3)


def test_another_environment_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run("SGD", callbacks=[Checkpoints(tmp_path)])
    monkeypatch.setattr("tt_learn.training.environments.thread_count", lambda: 99)
    with pytest.warns(UserWarning, match="last bits may differ.*threads .* -> 99"):
        run("SGD", resume=tmp_path)


# --- what a step is


def test_accumulated_steps_are_those_of_large_batches() -> None:
    x, y = np.random.default_rng(0).standard_normal((2, 8, 3)), np.random.default_rng(1).standard_normal((2, 8, 1))
    results = []
    for accumulate, size in ((1, 8), (4, 2)):
        tt_core.manual_seed(0)
        model = tt_core.Linear(3, 1)
        batches = [
            (tensor(x[i, j : j + size]), tensor(y[i, j : j + size])) for i in range(2) for j in range(0, 8, size)
        ]
        trainer = Trainer(model, SGD(model.parameters(), lr=0.1), mse, accumulate=accumulate)
        trainer.fit(batches, epochs=2)
        assert trainer.step == 4
        results.append(model.weight.data)
    np.testing.assert_allclose(results[0], results[1], rtol=1e-5)


def test_the_rest_of_an_epoch_is_a_step_of_its_own() -> None:
    model = tt_core.Linear(1, 1)
    batches = [(tt_core.ones(2, 1), tt_core.ones(2, 1))] * 5
    trainer = Trainer(model, SGD(model.parameters()), mse, accumulate=2)
    trainer.fit(batches, epochs=2)
    assert trainer.step == trainer.total_steps == 6


def test_evaluation_weights_batches_and_leaves_everything_as_it_was() -> None:
    x, y = data()
    model = network()
    model[2].eval()  # for good: a layer that is not to be trained further
    modes = [layer.training for layer in model.layers()]
    trainer = Trainer(model, SGD(model.parameters()), tt_core.cross_entropy, metrics={"accuracy": accuracy})
    before = tt_core.get_rng_state()
    found = trainer.evaluate(Loader(x, y, 5))
    assert tt_core.get_rng_state() == before
    assert [layer.training for layer in model.layers()] == modes
    assert all(p.grad is None for p in model.parameters())
    output = model.eval()(tensor(x))
    assert found["val_loss"] == pytest.approx(tt_core.cross_entropy(output, tensor(y)).item(), rel=1e-5)
    assert found["val_accuracy"] == pytest.approx(accuracy(output, y))


def test_one_batch_is_learnt_by_heart() -> None:
    x, y = data()
    model = tt_core.Sequential(tt_core.Linear(6, 32), tt_core.ReLU(), tt_core.Linear(32, 3))
    trainer = Trainer(model, AdamW(model.parameters(), lr=0.02), tt_core.cross_entropy)
    trainer.fit(Loader(x, y, 8), steps=150, overfit_one_batch=True)
    assert trainer.loss < 0.01


def test_schedules_step_with_steps_or_epochs() -> None:
    x, y = data()
    for each, expected in (("step", 0.5**12), ("epoch", 0.5**2)):
        model = network()
        sgd = SGD(model.parameters(), lr=1.0)
        trainer = Trainer(model, sgd, tt_core.cross_entropy, scheduler=StepLR(sgd, 1, 0.5), schedule_each=each)
        trainer.fit(Loader(x, y, 4), epochs=2)
        assert sgd.param_groups[0]["lr"] == pytest.approx(expected)


# --- callbacks


def test_early_stopping_waits_for_its_patience() -> None:
    model = tt_core.Linear(1, 1)
    values = iter([3.0, 2.0, 2.5, 2.0, 1.9, 2.0, 2.0, 2.0, 0.0])
    batches = [(tt_core.ones(1, 1), tt_core.ones(1, 1))]
    trainer = Trainer(model, SGD(model.parameters()), mse, callbacks=[EarlyStopping(patience=3)])
    trainer.fit(batches, epochs=50, val=lambda: next(values))
    assert trainer.epoch == 8


def test_a_run_that_early_stopping_ended_does_not_go_on_when_resumed(tmp_path: Path) -> None:
    def trainer() -> Trainer:
        model = tt_core.Linear(1, 1)
        stopping = EarlyStopping(patience=1)
        return Trainer(model, SGD(model.parameters()), mse, callbacks=[stopping, Checkpoints(tmp_path)])

    batch = (tt_core.ones(1, 1), tt_core.ones(1, 1))
    first, values = trainer(), iter([1.0, 2.0, 0.0])
    first.fit(lambda step: batch, steps=9, val=lambda: next(values), val_every=3)
    again = trainer()
    again.resume(tmp_path)
    again.fit(lambda step: batch, steps=9, val=lambda: next(values), val_every=3)
    assert again.step == first.step == 6


def test_best_and_last_are_kept(tmp_path: Path) -> None:
    model = tt_core.Linear(1, 1)
    values = iter([3.0, 1.0, 2.0, 2.5])
    batches = [(tt_core.ones(1, 1), tt_core.ones(1, 1))]
    (tmp_path / "last.safetensors.tmp-tinytorch").write_bytes(b"half")
    trainer = Trainer(model, SGD(model.parameters(), lr=0.1), mse, callbacks=[Checkpoints(tmp_path)])
    trainer.fit(batches, epochs=4, val=lambda: {"val_loss": next(values)})
    for name, step in (("best", 2), ("last", 4)):
        again = Trainer(tt_core.Linear(1, 1), SGD(model.parameters()), mse)
        again.optimizer = SGD(again.model.parameters())
        again.resume(tmp_path / f"{name}.safetensors")
        assert again.step == step
    assert sorted(path.name for path in tmp_path.iterdir()) == ["best.safetensors", "last.safetensors"]


def test_a_state_of_another_version_is_refused_before_anything_changes() -> None:
    model = network(0)
    trainer = Trainer(model, SGD(model.parameters(), lr=0.1), tt_core.mse_loss)
    old = {**trainer.state_dict(), "step": 7}
    del old["epoch_is_over"]
    with pytest.raises(TrainingError, match="the state has no epoch_is_over; another version saved it"):
        trainer.load_state_dict(old)
    assert trainer.step == 0


def test_the_log_holds_each_step_once_after_a_resume(tmp_path: Path) -> None:
    log = tmp_path / "metrics.jsonl"
    run("SGD", callbacks=[StopAfter(3), Checkpoints(tmp_path, every=1)])
    log.write_text('{"step": 3}\n{"step": 4, "train_loss": 1}\n', encoding="utf-8")  # from a run that was killed later
    run("SGD", callbacks=[JSONLog(log)], resume=tmp_path)
    records = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    assert [(r["step"], r["val_loss"] is not None) for r in records] == [
        (2, False), (3, True), (4, False), (6, False), (6, True), (8, False), (9, True)
    ]  # fmt: skip
    assert {"step", "train_loss", "val_loss", "tokens_per_second", "seconds"} <= set(records[0])


def test_progress_is_plain_lines_without_a_terminal() -> None:
    from rich.console import Console

    text = io.StringIO()
    run("SGD", callbacks=[ProgressBar(Console(file=text, width=40))])
    lines = text.getvalue().splitlines()
    assert lines[0].startswith("step 2/9  train loss ")
    assert "examples/s" in lines[0]
    assert lines[0].endswith("left")
    assert "val loss" in lines[1]


def test_progress_is_a_bar_on_a_terminal() -> None:
    from rich.console import Console

    text = io.StringIO()
    run("SGD", callbacks=[ProgressBar(Console(file=text, width=100, force_terminal=True))])
    assert "9/9" in text.getvalue()
    assert "loss" in text.getvalue()


def test_the_loss_curve_is_drawn(tmp_path: Path) -> None:
    run("SGD", callbacks=[LossCurve(tmp_path / "loss.svg", title="a < b")])
    root = ElementTree.fromstring((tmp_path / "loss.svg").read_text(encoding="utf-8"))
    space = "{http://www.w3.org/2000/svg}"
    assert len(root.findall(f"{space}polyline")) == 2
    texts = [text.text for text in root.findall(f"{space}text")]
    assert {"a < b", "step", "loss", "train", "val"} <= set(texts)


@pytest.mark.parametrize(
    "points",
    [
        [],
        [(0, 1.0)],
        [(0, 1.0), (1, 1.0)],
        [(0, 1e-9), (1, 2e-9)],
        [(0, -1e12), (1e9, 1e12)],
        [(0, math.nan), (1, math.inf), (2, 3.0)],
        [(i, i * 0.5) for i in range(10_000)],
    ],
    ids=["none", "one", "level", "tiny", "huge", "not finite", "many"],
)
def test_charts_of_any_values(points: list[tuple[float, float]]) -> None:
    text = svg.line_chart({"series": points}, "title")
    ElementTree.fromstring(text)
    assert "nan" not in text
    assert len(text) < 60_000


@pytest.mark.parametrize("values", [[0.0, 1.0], [0.3, 9.1], [-5.0, 5.0], [1e-9, 3e-9], [99.0, 101.0], [7.0]])
def test_ticks_enclose_the_values_in_equal_steps(values: list[float]) -> None:
    marks = svg.ticks(values)
    assert marks[0] <= min(values)
    assert marks[-1] >= max(values)
    assert 3 <= len(marks) <= 9
    np.testing.assert_allclose(np.diff(marks), marks[1] - marks[0], rtol=1e-6)


def test_metrics() -> None:
    scores = np.array([[5.0, 1.0, 2.0], [0.0, 1.0, 2.0], [3.0, 2.0, 1.0]])
    classes = np.array([0, 1, 2])
    assert accuracy(tensor(scores), tensor(classes)) == pytest.approx(1 / 3)
    assert accuracy(tensor(scores).requires_grad_() * 2, classes) == pytest.approx(1 / 3)
    assert top_k_accuracy(scores, classes, k=2) == pytest.approx(2 / 3)
    assert top_k_accuracy(scores, classes, k=9) == 1.0
    with pytest.raises(ArgumentError, match="k is 0"):
        top_k_accuracy(scores, classes, k=0)
    assert binary_accuracy(np.array([0.2, 0.7]), np.array([1, 1]), threshold=0.5) == 0.5
    np.testing.assert_array_equal(confusion_matrix(scores, classes), [[1, 0, 0], [0, 0, 1], [1, 0, 0]])
    for wrong in (-1, 3):
        with pytest.raises(ShapeError, match=r"confusion_matrix: classes go from .* scores are for 3"):
            confusion_matrix(scores, np.array([0, 1, wrong]))
    with pytest.raises(tt_core.TinyTorchError, match="class indices are integers, got float64"):
        confusion_matrix(scores, np.array([0.0, 1.0, 2.0]))
    assert perplexity(math.log(50)) == pytest.approx(50)
    assert perplexity(1e9) == math.inf
    assert math.isnan(perplexity(math.nan))
    with pytest.raises(tt_core.TinyTorchError, match=r"scores \(3, 3\) do not fit class indices \(2,\)"):
        accuracy(scores, classes[:2])


# --- what stops a run


@contextlib.contextmanager
def handled(number: signal.Signals, handler: Any) -> Iterator[None]:
    """A block with a handler of the test's own: under nohup, or in the background of a script, signals are ignored."""
    before = signal.signal(number, handler)
    try:
        yield
        assert signal.getsignal(number) is handler
    finally:
        signal.signal(number, before)


@pytest.fixture
def ctrl_c() -> Iterator[None]:
    """Python's own handler of Ctrl-C."""
    with handled(signal.SIGINT, signal.default_int_handler):
        yield


@pytest.mark.usefixtures("ctrl_c")
def test_ctrl_c_saves_says_how_to_resume_and_is_raised(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    straight = run("Adam")

    class PressCtrlC(Callback):
        def on_log(self, trainer: Trainer, record: Any) -> None:
            if trainer.step == 4:
                signal.raise_signal(signal.SIGINT)

    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        run("Adam", callbacks=[PressCtrlC(), Checkpoints(tmp_path, resume_hint="continue with: train --resume")])
    assert signal.getsignal(signal.SIGINT) is before
    out = capsys.readouterr().out
    assert out == f"stopped after step 4, saved {tmp_path / 'last.safetensors'}; continue with: train --resume\n"
    assert_same_bits(straight, run("Adam", seed=5, resume=tmp_path))


class Raise(Callback):
    """Raises signals after the second step, as often as they are given."""

    def __init__(self, *numbers: signal.Signals) -> None:
        self.numbers = numbers

    def on_step_end(self, trainer: Trainer) -> None:
        if trainer.step == 2:
            for number in self.numbers:
                signal.raise_signal(number)


ENDING = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP", "SIGBREAK") if hasattr(signal, name)]


@pytest.mark.parametrize("number", ENDING)
def test_a_signal_that_ends_the_process_saves_first(number: signal.Signals, tmp_path: Path) -> None:
    straight = run("Adam")
    with handled(number, signal.SIG_DFL), pytest.raises(KeyboardInterrupt) as raised:
        run("Adam", callbacks=[Raise(number, number), Checkpoints(tmp_path)])  # a terminal and a shell both send SIGHUP
    assert raised.value.args == (number,)
    assert_same_bits(straight, run("Adam", seed=5, resume=tmp_path))


@pytest.mark.parametrize("number", [signal.SIGINT, *ENDING])
def test_an_ignored_signal_stays_ignored(number: signal.Signals) -> None:
    with handled(number, signal.SIG_IGN):  # as under nohup
        assert run("SGD", callbacks=[Raise(number)]).step == run("SGD").step


def test_a_program_that_handles_a_signal_itself_is_left_alone() -> None:
    seen = []
    with handled(signal.SIGTERM, lambda number, frame: seen.append(number)):
        assert run("SGD", callbacks=[Raise(signal.SIGTERM)]).step == run("SGD").step
    assert seen == [signal.SIGTERM]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")  # it is multi-threaded: BLAS is
def test_a_forked_child_can_be_terminated() -> None:
    ended = []

    class Fork(Callback):
        def on_fit_start(self, trainer: Trainer) -> None:
            child = os.fork()
            if child == 0:
                signal.raise_signal(signal.SIGTERM)
                os._exit(0)  # reached when the trainer took the signal for its own
            ended.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))

    with handled(signal.SIGTERM, signal.SIG_DFL):
        run("SGD", callbacks=[Fork()])
    assert ended == [-signal.SIGTERM]


@pytest.mark.usefixtures("ctrl_c")
def test_the_second_ctrl_c_does_not_wait() -> None:
    aborted = []

    class PressTwice(Callback):
        def on_step_end(self, trainer: Trainer) -> None:
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)

        def on_abort(self, trainer: Trainer) -> None:
            aborted.append(trainer.step)

    with pytest.raises(KeyboardInterrupt):
        run("SGD", callbacks=[PressTwice()])
    assert aborted == [1]


def test_a_loss_that_is_no_number_ends_the_run_before_the_step() -> None:
    model = tt_core.Linear(1, 1)
    before = model.weight.data.copy()
    bad = (tt_core.ones(1, 1), tensor([[math.nan]]))
    with pytest.raises(TrainingError, match="the loss is nan after 0 steps; lower the learning rate"):
        Trainer(model, SGD(model.parameters()), mse).fit([bad], epochs=1)
    np.testing.assert_array_equal(model.weight.data, before)


def test_gradients_that_are_no_numbers_end_a_clipped_run_before_the_step() -> None:
    model = tt_core.Linear(1, 1)
    before = model.weight.data.copy()
    batch = (tt_core.ones(1, 1), tensor([[1.0]]))
    zero_times_infinity = lambda output, y: ((output - output).sqrt() * 0).sum()  # noqa: E731
    with pytest.raises(GradientError, match="the gradients' norm is nan"):
        Trainer(model, SGD(model.parameters()), zero_times_infinity, clip_grad_norm=1.0).fit([batch], epochs=1)
    np.testing.assert_array_equal(model.weight.data, before)


def test_a_full_disk_ends_the_run_and_keeps_the_old_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, os.strerror(28))

    run("SGD", callbacks=[StopAfter(2), Checkpoints(tmp_path)])
    monkeypatch.setattr("tt_core.engine.files.os.fsync", full)
    with pytest.raises(tt_core.TinyTorchError, match="what was there before is unchanged"):
        run("SGD", callbacks=[Checkpoints(tmp_path, every=1)], resume=tmp_path)
    monkeypatch.undo()
    assert run("SGD", resume=tmp_path).step == 9


def trainer_of(**options: Any) -> Trainer:
    model = tt_core.Linear(1, 1)
    return Trainer(model, SGD(model.parameters()), **{"loss_fn": mse, **options})


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: trainer_of(loss_fn=None), "give one of loss_fn and compute_loss"),
        (lambda: trainer_of(compute_loss=mse), "give one of loss_fn and compute_loss"),
        (lambda: trainer_of(loss_fn=None, compute_loss=mse, metrics={"a": accuracy}), "metrics need loss_fn"),
        (lambda: trainer_of(accumulate=0), "accumulate is 0, expected an integer of 1 or more"),
        (lambda: trainer_of(schedule_each="day"), "schedule_each is 'day'"),
        (lambda: trainer_of().fit([]), "give steps or epochs"),
        (lambda: trainer_of().fit([], epochs=1), "the loader gave no batches"),
        (lambda: trainer_of().fit(lambda step: 1, epochs=1), "a batch function has no epochs; give steps"),
        (lambda: trainer_of().fit(3, steps=1), "batches is a list or a function, got 3"),
        (lambda: trainer_of().fit([1], steps=1), r"needs batches \(x, y\); use compute_loss"),
        (lambda: trainer_of().fit([], steps=1, overfit_one_batch=True), "the loader gave no batches"),
        (lambda: trainer_of().fit([1], steps=1, val=[1], val_every=0), "val_every is 0"),
        (lambda: trainer_of().evaluate([]), "evaluate: got no batches"),
        (lambda: Checkpoints("x", every=0), "every is 0, expected 1 or more"),
        (lambda: EarlyStopping(patience=0), "patience is 0, expected 1 or more"),
        (lambda: EarlyStopping(mode="least"), "mode is 'least', expected 'min' or 'max'"),
        (lambda: EarlyStopping("f1").on_validation(trainer_of(), {"val_loss": 1.0}), "no metric is called f1"),
    ],
)
def test_what_makes_no_sense_is_refused(make: Callable[[], Any], message: str) -> None:
    with pytest.raises(TinyTorchError, match=message):
        make()


def test_the_training_loader_cannot_validate() -> None:
    loader = Loader(*data(), 4)
    with pytest.raises(TrainingError, match="val is the training loader"):
        trainer_of().fit(loader, epochs=1, val=loader)


# --- sizes of batches, folders, notebooks, arguments


@pytest.mark.parametrize(
    "wrap",
    [
        lambda i, x: {"id": i, "x": x},
        lambda i, x: (i, ["text"] * len(x), x),
        lambda i, x: {"id": tensor(i), "x": (x, tt_core.zeros(3))},
    ],
)
def test_evaluation_weighs_by_the_first_tensor_with_examples(wrap: Any) -> None:
    model = tt_core.Linear(1, 1)
    losses = iter([1.0, 11.0])
    trainer = Trainer(model, SGD(model.parameters()), compute_loss=lambda model, batch: next(losses))
    assert trainer.evaluate([wrap(0, tt_core.zeros(9, 1)), wrap(1, tt_core.zeros(1, 1))]) == {"val_loss": 2.0}


def test_a_batch_of_no_examples_counts_for_nothing_in_evaluation_and_ends_training() -> None:
    model = tt_core.Linear(1, 1)
    trainer = Trainer(model, SGD(model.parameters()), tt_core.mse_loss)
    full, empty = [(tt_core.ones(n, 1), tt_core.ones(n, 1)) for n in (2, 0)]
    assert trainer.evaluate([empty, full, empty]) == trainer.evaluate([full])
    with pytest.raises(TrainingError, match="no batches with examples"):
        trainer.evaluate([empty])
    with pytest.raises(TrainingError, match="a batch has no examples"):
        trainer.fit([full, empty], epochs=1)


@pytest.mark.parametrize("reverse", [False, True])
def test_callbacks_make_their_folders_in_any_order(tmp_path: Path, reverse: bool) -> None:
    model, batches = tt_core.Linear(1, 1), [(tt_core.ones(1, 1), tt_core.ones(1, 1))]
    folder = tmp_path / "runs" / "first"
    callbacks = [
        Checkpoints(folder),
        JSONLog(folder / "log" / "log.jsonl"),
        LossCurve(folder / "pictures" / "loss.svg"),
    ]
    Trainer(model, SGD(model.parameters()), tt_core.mse_loss, callbacks=callbacks[::-1] if reverse else callbacks).fit(
        batches, epochs=1
    )
    files = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    assert files == ["last.safetensors", "log/log.jsonl", "pictures/loss.svg"]


def test_the_last_step_has_one_line_with_its_validation() -> None:
    model, batch = tt_core.Linear(1, 1), (tt_core.ones(2, 1), tt_core.ones(2, 1))
    trainer = Trainer(model, SGD(model.parameters()), tt_core.mse_loss, log_every=2)
    trainer.fit([batch] * 4, steps=4, val=[batch], val_every=100)
    assert [(line["step"], line["val_loss"] is None) for line in trainer.history] == [(2, True), (4, False)]
    assert trainer.history[-1]["examples_per_second"] is not None


def test_fit_returns_the_history_which_notebooks_show() -> None:
    model, batches = tt_core.Linear(1, 1), [(tt_core.ones(1, 1), tt_core.ones(1, 1))]
    trainer = Trainer(model, SGD(model.parameters()), tt_core.mse_loss, log_every=1)
    history = trainer.fit(batches, epochs=3)
    assert history is trainer.history
    assert [record["step"] for record in history] == [1, 2, 3]
    assert repr(history).startswith("History(3 records; step 3, epoch 2, train_loss ")
    assert repr(trainer).startswith("Trainer(model Linear of 2 parameters, optimizer SGD, step 3 of 3, epoch 3")
    for html in (history._repr_html_(), trainer._repr_html_()):
        ElementTree.fromstring(f"<p>{html}</p>")
        assert "<svg" in html
    assert ElementTree.fromstring(type(history)()._repr_html_()).tag == "table"


def test_one_bar_moves_in_a_notebook(monkeypatch: pytest.MonkeyPatch) -> None:
    from types import ModuleType

    drawn: list[str] = []

    class Handle:
        def update(self, shown: Any) -> None:
            drawn.append(shown._repr_html_())

    notebook = ModuleType("IPython.display")
    notebook.display = lambda shown, display_id: Handle()  # type: ignore[attr-defined]
    monkeypatch.setitem(__import__("sys").modules, "IPython.display", notebook)
    console = type("Console", (), {"is_jupyter": True, "is_terminal": False})()
    model, batches = tt_core.Linear(1, 1), [(tt_core.ones(1, 1), tt_core.ones(1, 1))]
    trainer = Trainer(model, SGD(model.parameters()), tt_core.mse_loss, callbacks=[ProgressBar(console)], log_every=1)
    trainer.fit(batches, epochs=4, val=batches)
    assert len(drawn) >= 4
    assert drawn[-1].startswith('<progress max="4" value="4"></progress> step 4/4  loss ')


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"callbacks": [ProgressBar]},
            r"is the class ProgressBar, expected a callback; write ProgressBar\(\)",
        ),
        ({"callbacks": ProgressBar()}, "callbacks is a ProgressBar, expected a list"),
        ({"callbacks": ["bar"]}, r"callbacks\[0\] is a str"),
        ({"accumulate": 1.5}, "accumulate is 1.5, expected an integer"),
        ({"log_every": None}, "log_every is None, expected an integer"),
        ({"tokens_per_step": "a"}, "tokens_per_step is 'a'"),
        ({"clip_grad_norm": "a"}, "clip_grad_norm is 'a', expected a number"),
        ({"scheduler": StepLR}, "the scheduler is the class StepLR"),
        ({"metrics": 3}, "metrics is 3"),
        ({"optimizer": SGD}, "the optimizer is the class SGD"),
        ({"model": None}, "the model is a NoneType"),
        ({"loss_fn": 3}, "the loss is a int"),
    ],
)
def test_parts_that_fit_nowhere_are_refused(options: dict[str, Any], message: str) -> None:
    model = tt_core.Linear(1, 1)
    parts = {"model": model, "optimizer": SGD(model.parameters()), "loss_fn": tt_core.mse_loss, **options}
    with pytest.raises(TrainingError, match=message):
        Trainer(**parts)


@pytest.mark.parametrize(
    ("loss", "message"),
    [(lambda out, y: 1.0, "the loss is a float"), (lambda out, y: (out - y).data, "the loss is a ndarray")],
)
def test_a_loss_that_is_no_tensor_is_refused(loss: Any, message: str) -> None:
    model, batches = tt_core.Linear(1, 1), [(tt_core.ones(1, 1), tt_core.ones(1, 1))]
    with pytest.raises(TrainingError, match=message):
        Trainer(model, SGD(model.parameters()), loss).fit(batches, steps=1)


def test_a_legend_that_does_not_fit_beside_the_title_stands_below() -> None:
    few = {"train": [(0.0, 1.0), (1.0, 2.0)]}
    many = {f"benchmark {i} with a plugin": [(0.0, 1.0), (1.0, float(i))] for i in range(8)}
    assert 'viewBox="0 0 760 440"' in svg.line_chart(few, "Loss")
    drawn = svg.line_chart(many, "Times as fast")
    places = [float(x) for x in re.findall(r'<text x="([-\d.]+)" y="4[5-9]\d', drawn)]
    assert len(places) > 2
    assert min(places) > 0
    assert drawn.count("polyline") == 8
    assert drawn.count("stroke-dasharray") == 4  # two lines whose colours are taken, and their rows of the legend


def test_names_of_points_at_one_place_cover_neither_each_other_nor_circles() -> None:
    taken = [svg.around(300.0, 200.0, 6.0), svg.around(320.0, 200.0, 6.0)]  # the second is where the name would be
    for i in range(6):
        svg.named_circle(f"name {i}", 300.0, 200.0, 6.0, taken)
    for i, (left, upper, right, lower) in enumerate(taken[2:], start=2):
        for x0, y0, x1, y1 in taken[:i]:
            assert right <= x0 or x1 <= left or lower <= y0 or y1 <= upper
    drawn = svg.scatter_chart({"first": (1.0, 1.0), "second": (1.0, 1.0), "third": (2.0, 2.0)})
    places = re.findall(r'<text x="([\d.]+)" y="([\d.]+)" text-anchor="(\w+)"[^>]*>(?:first|second)<', drawn)
    assert len(set(places)) == 2


@pytest.mark.parametrize("count", [1, 2, 6, 20])
def test_names_on_the_axis_stand_inside_the_picture_and_apart(count: int) -> None:
    names = [f"{i:08x}" for i in range(count)]
    drawn = svg.line_chart({"jit": [(float(i), 1.0 + i) for i in range(count)]}, x_names=names)
    places = [float(x) for x in re.findall(r'<text x="([\d.]+)"[^>]*>[0-9a-f]{8}<', drawn)]
    assert f">{names[-1]}<" in drawn
    assert all(b - a >= 64 for a, b in itertools.pairwise(places))
    assert 32 <= min(places) <= max(places) <= svg.WIDTH - 32
