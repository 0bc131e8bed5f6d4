"""Module 07, training: the loop that turns a model, an optimizer and batches into a trained model.

    trainer = Trainer(model, optimizer, tt_core.cross_entropy, callbacks=[ProgressBar(), Checkpoints("run")])
    trainer.fit(loader, epochs=3, val=val_loader)

**Exact resume.** A run that is stopped after any step, in the middle of an epoch too, and continued from its checkpoint
ends with the same bits as one that never stopped: a checkpoint holds the weights, the optimizer, the schedule, the
generator, the loader's position and the callbacks' own state. Steps are what can be resumed: batches that were
accumulated for a step that was not finished are seen again. Validation leaves the generator as it found it, so
that a run has the same bits with and without it.

What this file does not do: it shows and writes nothing itself (`callbacks.py` does), and knows no data loader but by
what it can do: be iterated, and for resuming in the middle of an epoch have `state_dict` and `load_state_dict`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import math
import os
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tt_core
from tt_core.engine.arguments import checked
from tt_core.engine.errors import TinyTorchError, is_integer, is_number, shown
from tt_core.layers import Layer
from tt_learn.autograd import no_grad
from tt_learn.optim.plateau import ReduceLROnPlateau
from tt_learn.optimizers import Optimizer, clip_grad_norm_
from tt_learn.training.checkpoints import environment_changes, load_checkpoint, save_checkpoint
from tt_learn.training.history import History, table
from tt_learn.training.history import Record as Record


class TrainingError(TinyTorchError):
    """A run that cannot start, go on or be resumed, and what to change."""


@contextlib.contextmanager
@checked
def evaluating(model: Layer) -> Iterator[None]:
    """A block in which `model` is in evaluation and nothing is recorded; then each layer is in its own mode again.

    >>> layer = tt_core.Dropout(0.5)
    >>> with evaluating(layer):
    ...     layer(tt_core.ones(2))
    tensor([1., 1.])
    >>> layer.training
    True
    """
    training = [layer for layer in model.layers() if layer.training]  # others may be in evaluation for good
    for layer in training:
        layer.training = False
    try:
        with no_grad():
            yield
    finally:
        for layer in training:
            layer.training = True


class Callback:
    """What a trainer tells while it trains; override what is of interest. `state_dict` goes into checkpoints.

    >>> class Print(Callback):
    ...     def on_step_end(self, trainer):
    ...         print(trainer.step)
    >>> from tt_learn import SGD
    >>> model = tt_core.Linear(1, 1)
    >>> trainer = Trainer(model, SGD(model.parameters()), tt_core.mse_loss, callbacks=[Print()])
    >>> _ = trainer.fit([(tt_core.zeros(1, 1), tt_core.zeros(1, 1))], epochs=2)
    1
    2
    """

    runs_last = False  # after the others, so that a checkpoint holds what they concluded

    def on_fit_start(self, trainer: Trainer) -> None:
        """Training begins, or goes on after `trainer.resume`."""

    def on_step_end(self, trainer: Trainer) -> None:
        """One step is done, and what was due after it: schedule, validation, log."""

    def on_log(self, trainer: Trainer, record: Record) -> None:
        """A line for the log; it is the last of `trainer.history`."""

    def on_validation(self, trainer: Trainer, metrics: Mapping[str, float]) -> None:
        """The model was evaluated."""

    def on_epoch_end(self, trainer: Trainer) -> None:
        """The data was seen once more."""

    def on_train_end(self, trainer: Trainer) -> None:
        """The last step is done, or training was interrupted (`trainer.interrupted`); going on is still exact."""

    def on_fit_end(self, trainer: Trainer) -> None:
        """The last validation and line of the log, which no unbroken run would have had here, are there too."""

    def on_abort(self, trainer: Trainer) -> None:
        """Training ends by an exception, after which the trainer's state is not to be saved."""

    def state_dict(self) -> dict[str, Any]:
        """What this callback needs to go on, in plain data."""
        return {}

    @checked
    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Go on from what `state_dict` returned."""


@dataclass(frozen=True)
class _Plan:
    """The arguments of one `fit`."""

    batches: Any
    steps: int | None
    epochs: int | None
    val: Any
    val_every: int | None


class Trainer:
    """Trains `model` with `optimizer`, a step at a time.

    model, optimizer: what learns and how. `loss_fn(model(x), y)` is the loss of a batch (x, y); or `compute_loss`,
        a function (model, batch) -> loss, for every other kind of batch.
    scheduler: stepped after each step, or with `schedule_each="epoch"` after each epoch; `ReduceLROnPlateau` is
        stepped with val_loss after each validation.
    callbacks: see `callbacks.py`.
    accumulate: batches a step; gradients are those of the mean of their losses.
    clip_grad_norm: largest norm of all gradients together.
    metrics: name -> function (model(x), y) -> number, for `evaluate`.
    tokens_per_step: for the log's tokens_per_second; without it, examples are counted.
    log_every: steps a line of the log, whose train_loss is their mean.

    Raises `TrainingError` when the loss is no finite number, before the step that would spoil the weights; with
    `clip_grad_norm`, which looks at all gradients anyway, `GradientError` when one of them is not.

    >>> from tt_learn import SGD
    >>> model = tt_core.Linear(1, 1)
    >>> x = tt_core.tensor([[0.0], [1.0]])
    >>> batches = [(x, 2 * x + 1)]
    >>> trainer = Trainer(model, SGD(model.parameters(), lr=0.5), lambda out, y: ((out - y) ** 2).mean())
    >>> history = trainer.fit(batches, epochs=200)
    >>> round(model(tt_core.tensor([[3.0]])).item(), 3)
    7.0
    """

    @checked
    def __init__(
        self,
        model: Layer,
        optimizer: Optimizer,
        loss_fn: Callable[[Any, Any], Any] | None = None,
        *,
        compute_loss: Callable[[Any, Any], Any] | None = None,
        scheduler: Any = None,
        schedule_each: str = "step",
        callbacks: Sequence[Callback] = (),
        accumulate: int = 1,
        clip_grad_norm: float | None = None,
        metrics: Mapping[str, Callable[[Any, Any], Any]] | None = None,
        tokens_per_step: int | None = None,
        log_every: int = 10,
    ) -> None:
        if (loss_fn is None) == (compute_loss is None):
            raise TrainingError("Trainer: give one of loss_fn and compute_loss")
        if metrics and loss_fn is None:
            raise TrainingError("Trainer: metrics need loss_fn; with compute_loss there is no output to look at")
        if schedule_each not in ("step", "epoch"):
            raise TrainingError(f"Trainer: schedule_each is {schedule_each!r}, expected 'step' or 'epoch'")
        _check_parts(model, optimizer, loss_fn or compute_loss, scheduler)
        for name, value in (("accumulate", accumulate), ("log_every", log_every)):
            _check_count("Trainer", name, value)
        if tokens_per_step is not None:
            _check_count("Trainer", "tokens_per_step", tokens_per_step)
        if not (clip_grad_norm is None or is_number(clip_grad_norm)):
            raise TrainingError(f"Trainer: clip_grad_norm is {clip_grad_norm!r}, expected a number or None")
        _check_metrics(metrics)
        self.model, self.optimizer, self.loss_fn, self.compute_loss = model, optimizer, loss_fn, compute_loss
        if not (scheduler is None or hasattr(scheduler, "step")):
            raise TrainingError(f"Trainer: scheduler is a learning-rate schedule or None, got {shown(scheduler)}")
        self.scheduler, self.schedule_each = scheduler, schedule_each
        self.callbacks = sorted(_checked_callbacks(callbacks), key=lambda callback: callback.runs_last)
        self.accumulate, self.clip_grad_norm, self.metrics = accumulate, clip_grad_norm, dict(metrics or {})
        self.tokens_per_step, self.log_every = tokens_per_step, log_every
        self.step = self.epoch = self.batches_in_epoch = 0
        self.total_steps: int | None = None
        self.loss = math.nan  # of the last step
        self.seconds = 0.0  # spent on steps, all runs together
        self.history = History()
        self.interrupted = self.should_stop = False
        self._signal = signal.SIGINT  # what interrupted
        self._window = {"loss": 0.0, "steps": 0, "examples": 0, "seconds": 0.0}
        self._epoch_is_over = False  # the loader was seen to end, but what follows an epoch is not done yet
        self._batches: Any = None
        self._resumed: dict[str, Any] | None = None

    # --- the loop

    @checked
    def fit(
        self,
        batches: Any,
        steps: int | None = None,
        epochs: int | None = None,
        val: Any = None,
        val_every: int | None = None,
        overfit_one_batch: bool = False,
    ) -> History:
        """Train until `steps` steps or `epochs` epochs are done in all, those before a resume or in earlier calls too.

        Returns the history, which notebooks show as a chart of the losses.

        batches: a loader that gives an epoch's batches each time it is iterated, or a function `step -> batch` that
            draws from the framework's generator (then there are no epochs). A loader without `state_dict` can be
            resumed at the end of epochs only.
        val: batches to evaluate on, or a function that returns val_loss or a dict of metrics; after every
            `val_every` steps, or without it after each epoch, and at the end.
        overfit_one_batch: see the first batch again and again; a model that cannot learn that one has an error.

        Ctrl-C, SIGTERM, SIGHUP (a closed terminal) and Windows' SIGBREAK end training after the step that is running:
        callbacks save, then `KeyboardInterrupt` is raised with the signal as its argument. A second Ctrl-C does not
        wait. Signals that are ignored stay so, as under `nohup`, and a program's own handler of the others stays.
        """
        if overfit_one_batch:
            batches = self._one_batch(batches)
        plan = _Plan(batches, steps, epochs, val, val_every)
        self._check(plan)
        self._continue_loader(batches)
        self.total_steps = self._total_steps(plan)
        self.interrupted = self.should_stop = False
        self.model.train()
        with self._interruptible():
            try:
                self._tell("on_fit_start")
                self._run(plan)
                self._tell("on_train_end")
                if not self.interrupted:
                    self._conclude(plan)
                self._tell("on_fit_end")
            except BaseException:
                self._tell("on_abort")
                raise
        if self.interrupted:
            raise KeyboardInterrupt(self._signal)
        return self.history

    def _run(self, plan: _Plan) -> None:
        while not self._finished(plan):
            for group in self._epoch(plan.batches):
                self._train_step(group)
                self._after_step(plan)
                if self._finished(plan):
                    return
            self._end_epoch(plan)

    def _finished(self, plan: _Plan) -> bool:
        enough_steps = plan.steps is not None and self.step >= plan.steps
        return self.should_stop or enough_steps or (plan.epochs is not None and self.epoch >= plan.epochs)

    def _epoch(self, batches: Any) -> Iterator[list[Any]]:
        """The batches of each step of what is left of this epoch."""
        if callable(batches):
            self._resumed = None
            while True:
                yield [batches(self.step) for _ in range(self.accumulate)]
        if self._epoch_is_over:  # it was, when the checkpoint was made; the loader knows that too
            return
        # Restored after an epoch's last batch, some loaders first give what is left of it: nothing.
        attempts, self._resumed = 2 if self._resumed else 1, None
        for _ in range(attempts):
            remaining = iter(batches)
            while group := list(itertools.islice(remaining, min(self.accumulate, sys.maxsize))):
                self._epoch_is_over = len(group) < self.accumulate
                yield group
            if self.batches_in_epoch:
                return
        raise TrainingError("fit: the loader gave no batches; a generator is used up after one epoch, a list is not")

    def _train_step(self, group: list[Any]) -> None:
        started = time.perf_counter()
        self.optimizer.zero_grad()
        self.loss = 0.0
        for batch in group:
            loss = _checked_loss(self._loss(batch))
            self.loss += loss.item() / len(group)
            if not math.isfinite(self.loss):
                if not _examples(batch):
                    raise TrainingError("fit: a batch holds no examples, so its loss is no number; leave it out")
                raise TrainingError(
                    f"fit: the loss is {self.loss} after {self.step} steps; lower the learning rate, clip gradients, "
                    f"or look for bad values in the data"
                )
            (loss if len(group) == 1 else loss / len(group)).backward()
        if self.clip_grad_norm is not None:
            clip_grad_norm_(self._parameters(), self.clip_grad_norm, error_if_nonfinite=True)
        self.optimizer.step()
        self.step += 1
        self.batches_in_epoch += len(group)
        self._count(group, time.perf_counter() - started)
        self._schedule("step")

    def _loss(self, batch: Any) -> Any:
        if self.compute_loss is not None:
            return self.compute_loss(self.model, batch)
        return self._output_and_loss(batch)[1]

    def _output_and_loss(self, batch: Any) -> tuple[Any, Any]:
        try:
            x, y = batch
        except (TypeError, ValueError):
            raise TrainingError("Trainer: loss_fn needs batches (x, y); use compute_loss for others") from None
        output = self.model(x)
        return output, self.loss_fn(output, y) if self.loss_fn else None

    def _parameters(self) -> Iterable[Any]:
        return (p for group in self.optimizer.param_groups for p in group["params"])

    def _after_step(self, plan: _Plan) -> None:
        due = plan.val is not None and plan.val_every is not None and self.step % plan.val_every == 0
        metrics = self._validate(plan.val) if due else {}
        if due or self.step % self.log_every == 0:
            self._log(metrics)
        self._tell("on_step_end")

    def _end_epoch(self, plan: _Plan) -> None:
        self.epoch, self.batches_in_epoch, self._epoch_is_over = self.epoch + 1, 0, False
        self._schedule("epoch")
        if plan.val is not None and plan.val_every is None:
            self._log(self._validate(plan.val))
        self._tell("on_epoch_end")

    def _conclude(self, plan: _Plan) -> None:
        """Validation and a line of the log for the last steps, if they had none yet; no schedule follows them."""
        last = self.history[-1] if self.history else {}
        if plan.val is not None and (last.get("step") != self.step or last.get("val_loss") is None):
            self._log(self._validate(plan.val, schedule=False))
        elif self._window["steps"]:
            self._log({})

    def _schedule(self, moment: str) -> None:
        if self.scheduler is None or isinstance(self.scheduler, ReduceLROnPlateau):
            return
        if moment == self.schedule_each:
            self.scheduler.step()

    def _tell(self, event: str, *arguments: Any) -> None:
        for callback in self.callbacks:
            getattr(callback, event)(self, *arguments)

    def __repr__(self) -> str:
        return f"Trainer({', '.join(f'{name} {text}' for name, text in self._described())})"

    def _described(self) -> list[tuple[str, str]]:
        model = f"{type(self.model).__name__} of {self.model.num_parameters():,} parameters"
        total = "" if self.total_steps is None else f" of {self.total_steps}"
        done = [("step", f"{self.step}{total}"), ("epoch", str(self.epoch))]
        return [("model", model), ("optimizer", type(self.optimizer).__name__), *done]

    def _repr_html_(self) -> str:
        return table(self._described()) + (self.history._repr_html_() if self.history else "")

    # --- numbers

    def _count(self, group: list[Any], seconds: float) -> None:
        self.seconds += seconds
        self._window["loss"] += self.loss
        self._window["steps"] += 1
        self._window["examples"] += sum(map(_examples, group))
        self._window["seconds"] += seconds

    def _log(self, metrics: Mapping[str, float]) -> None:
        steps, seconds = self._window["steps"], max(self._window["seconds"], 1e-9)
        before = self.history[-1]["train_loss"] if self.history else self.loss
        tokens = self.tokens_per_step
        record: Record = {
            "step": self.step,
            "epoch": self.epoch,
            "train_loss": self._window["loss"] / steps if steps else before,
            "val_loss": None,
            "lr": self.optimizer.param_groups[0]["lr"],
            "tokens_per_second": round(tokens * steps / seconds, 1) if tokens and steps else None,
            "examples_per_second": round(self._window["examples"] / seconds, 1) if steps else None,
            "seconds": round(self.seconds, 3),
            **metrics,
        }
        self._window = dict.fromkeys(self._window, 0)
        self.history.append(record)
        self._tell("on_log", record)

    def _validate(self, val: Any, schedule: bool = True) -> dict[str, float]:
        metrics = self._measured(val) if callable(val) else self.evaluate(val)
        if schedule and isinstance(self.scheduler, ReduceLROnPlateau):
            if "val_loss" not in metrics:
                raise TrainingError("Trainer: ReduceLROnPlateau needs val_loss, which the val function does not return")
            self.scheduler.step(metrics["val_loss"])
        self._tell("on_validation", metrics)
        return metrics

    def _measured(self, val: Callable[[], Any]) -> dict[str, float]:
        with self._evaluating():
            found = val()
        metrics = found if isinstance(found, Mapping) else {"val_loss": found}
        return {name: _number(name, value) for name, value in metrics.items()}

    @checked
    def evaluate(self, batches: Iterable[Any]) -> dict[str, float]:
        """`val_loss` and `val_` each of the metrics over all batches, weighted by their examples.

        The model is in evaluation meanwhile, nothing is recorded, and the generator is left as it was. Raises
        `TrainingError` where there are no batches, or no examples in them. A batch without examples counts for nothing.
        """
        given: Any = batches
        if not isinstance(given, Iterable):
            raise TrainingError(f"evaluate: batches is a {type(batches).__name__}, expected a loader or a list")
        sums: dict[str, float] = {}
        count = 0
        with self._evaluating():
            for batch in batches:
                examples = _examples(batch)
                count += examples
                for name, value in self._measure(batch).items() if examples else ():
                    sums[f"val_{name}"] = sums.get(f"val_{name}", 0.0) + _number(name, value) * examples
        if not count:
            raise TrainingError("evaluate: got no batches with examples")
        return {name: total / count for name, total in sums.items()}

    def _measure(self, batch: Any) -> dict[str, Any]:
        if self.compute_loss is not None:
            return {"loss": self.compute_loss(self.model, batch)}
        output, loss = self._output_and_loss(batch)
        return {"loss": loss, **{name: metric(output, batch[1]) for name, metric in self.metrics.items()}}

    @contextlib.contextmanager
    def _evaluating(self) -> Iterator[None]:
        generator = tt_core.get_rng_state()
        try:
            with evaluating(self.model):
                yield
        finally:
            tt_core.set_rng_state(generator)

    # --- stopping and going on

    def stop(self) -> None:
        """End training after this step."""
        self.should_stop = True

    @contextlib.contextmanager
    def _interruptible(self) -> Iterator[None]:
        """A block in which signals that would end the process ask for an end of training; in the main thread alone."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before, process = _ending_signals(), os.getpid()

        def ask(number: int, _: Any) -> None:
            if os.getpid() != process:  # a forked child has nothing to save
                signal.signal(number, before[signal.Signals(number)])
                signal.raise_signal(number)
                return
            self._signal, self.interrupted = signal.Signals(number), True
            self.stop()
            # Of the others, a second one often follows at once: a shell and the terminal each send SIGHUP.
            if signal.SIGINT in before:
                signal.signal(signal.SIGINT, before[signal.SIGINT])

        for number in before:
            signal.signal(number, ask)
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    @checked
    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a checkpoint of everything `resume` needs; raises as `save_checkpoint` does."""
        save_checkpoint(path, **self._parts(), trainer=self, loader=_position(self._batches))

    @checked
    def resume(self, path: str | os.PathLike[str], exact: bool = True) -> None:
        """Go on from a checkpoint, or from the last one in a folder; call `fit` with the same arguments after it.

        Warns where versions, machine or threads differ from those it was saved with, since bits may differ then.
        `exact=False` begins an epoch again whose loader cannot be put back into its middle. Raises
        `CheckpointError` for a damaged file, and what model, optimizer or scheduler raise for one that does not fit.
        """
        file = Path(path) / "last.safetensors" if Path(path).is_dir() else Path(path)
        saved = load_checkpoint(file, **self._parts(), trainer=self)
        self._resumed = {"loader": saved["loader"], "exact": exact}
        changes = environment_changes(saved["environment"])
        if changes:
            warnings.warn(f"resume: last bits may differ from an unbroken run's: {', '.join(changes)}", stacklevel=2)

    def _parts(self) -> dict[str, Any]:
        parts = {"model": self.model, "optimizer": self.optimizer, "scheduler": self.scheduler}
        return {name: part for name, part in parts.items() if part is not None}

    def state_dict(self) -> dict[str, Any]:
        """Counters, history, and the callbacks' state; models and optimizers have their own."""
        callbacks = {name: callback.state_dict() for name, callback in self._named_callbacks()}
        counters = {name: getattr(self, name) for name in ("step", "epoch", "batches_in_epoch", "seconds")}
        counters |= {"epoch_is_over": self._epoch_is_over, "window": self._window}
        return {**counters, "history": self.history, "callbacks": callbacks}

    @checked
    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Go on from what `state_dict` returned; raises `TrainingError` where another version did."""
        missing = [name for name in self.state_dict() if name not in state_dict]
        if missing:
            raise TrainingError(f"Trainer: the state has no {' and no '.join(missing)}; another version saved it")
        for name in ("step", "epoch", "batches_in_epoch", "seconds"):
            setattr(self, name, state_dict[name])
        self._epoch_is_over = state_dict["epoch_is_over"]
        self._window, self.history = dict(state_dict["window"]), History(state_dict["history"])
        for name, callback in self._named_callbacks():
            if state_dict["callbacks"].get(name):
                callback.load_state_dict(state_dict["callbacks"][name])

    def _named_callbacks(self) -> Iterator[tuple[str, Callback]]:
        seen: dict[str, int] = {}
        for callback in self.callbacks:
            kind = type(callback).__name__
            seen[kind] = seen.get(kind, 0) + 1
            yield kind if seen[kind] == 1 else f"{kind}.{seen[kind]}", callback

    def _continue_loader(self, batches: Any) -> None:
        before, self._batches = self._batches, batches
        if self._resumed is None and self.batches_in_epoch:  # an earlier fit of this trainer stopped in an epoch
            self._resumed = {"loader": _position(batches) if batches is before else None, "exact": False}
        if self._resumed is None or callable(batches):
            return
        if self._resumed["loader"] is not None and hasattr(batches, "load_state_dict"):
            batches.load_state_dict(self._resumed["loader"])
        elif self.batches_in_epoch and self._resumed["exact"]:
            raise TrainingError(
                f"fit: the checkpoint was made {self.batches_in_epoch} batches into epoch {self.epoch + 1}, and this "
                f"loader has no load_state_dict to go on there; resume(path, exact=False) begins the epoch again"
            )
        else:
            self.batches_in_epoch, self._epoch_is_over = 0, False

    # --- arguments of fit

    def _check(self, plan: _Plan) -> None:
        if plan.steps is None and plan.epochs is None:
            raise TrainingError("fit: give steps or epochs")
        if callable(plan.batches) and plan.steps is None:
            raise TrainingError("fit: a batch function has no epochs; give steps")
        if not callable(plan.batches) and not isinstance(plan.batches, Iterable):
            given = type(plan.batches).__name__
            raise TrainingError(f"fit: batches is a {given}, expected a loader or a function step -> batch")
        if plan.val is plan.batches and hasattr(plan.val, "load_state_dict"):
            raise TrainingError("fit: val is the training loader, which would lose its place; make a second one")
        if not (plan.val is None or callable(plan.val) or isinstance(plan.val, Iterable)):
            raise TrainingError(f"fit: val is a {type(plan.val).__name__}, expected batches or a function")
        for name, least in (("steps", 0), ("epochs", 0), ("val_every", 1)):
            if getattr(plan, name) is not None:
                _check_count("fit", name, getattr(plan, name), least)

    def _total_steps(self, plan: _Plan) -> int | None:
        if plan.epochs is None or callable(plan.batches) or not hasattr(plan.batches, "__len__"):
            return plan.steps
        counted = plan.epochs * math.ceil(len(plan.batches) / self.accumulate)
        return counted if plan.steps is None else min(counted, plan.steps)

    def _one_batch(self, batches: Any) -> Callable[[int], Any]:
        if self._resumed is not None:
            raise TrainingError("fit: overfit_one_batch cannot go on from a checkpoint, which does not hold the batch")
        nothing = object()
        first = batches(0) if callable(batches) else next(iter(batches), nothing)
        if first is nothing:
            raise TrainingError("fit: the loader gave no batches")
        return lambda step: first


def _ending_signals() -> dict[signal.Signals, Any]:
    """Ctrl-C unless it is ignored, and the other signals that end the process by default, each with its handler now."""
    names = ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK")  # the last two exist on POSIX and on Windows alone
    numbers = [signal.Signals[name] for name in names if hasattr(signal, name)]
    handlers = {number: signal.getsignal(number) for number in numbers}
    return {
        number: handler
        for number, handler in handlers.items()
        if handler is signal.SIG_DFL or (number == signal.SIGINT and handler not in (signal.SIG_IGN, None))
    }


def _position(batches: Any) -> Any:
    """Where a loader stands, if it can tell."""
    return batches.state_dict() if hasattr(batches, "state_dict") else None


def _examples(batch: Any) -> int:
    """How many examples a batch holds: the length of the first tensor or array in it; 1 where there is none."""
    return next(_lengths(batch), 1)


def _lengths(batch: Any) -> Iterator[int]:
    """The lengths of all tensors and arrays in a batch that have dimensions, in order."""
    if isinstance(batch, Mapping):
        batch = tuple(batch.values())
    elif dataclasses.is_dataclass(batch) and not isinstance(batch, type):
        batch = tuple(vars(batch).values())
    if isinstance(batch, (tuple, list)):
        for part in batch:
            yield from _lengths(part)
    elif getattr(batch, "shape", ()):
        yield int(batch.shape[0])


def _number(name: str, value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        what = f"a tensor of shape {value.shape}" if hasattr(value, "shape") else f"a {type(value).__name__}"
        raise TrainingError(f"evaluate: {name} is {what}, expected one number") from None


# --- arguments of the trainer


def _check_parts(model: Any, optimizer: Any, loss: Any, scheduler: Any) -> None:
    if not isinstance(model, Layer):
        raise TrainingError(f"Trainer: the model is {_described(model)}, expected a Layer")
    if isinstance(optimizer, type) or not hasattr(optimizer, "param_groups"):
        raise TrainingError(
            f"Trainer: the optimizer is {_described(optimizer)}, expected one such as SGD(model.parameters())"
        )
    if not callable(loss):
        raise TrainingError(f"Trainer: the loss is {_described(loss)}, expected a function")
    if scheduler is not None and (isinstance(scheduler, type) or not hasattr(scheduler, "step")):
        raise TrainingError(
            f"Trainer: the scheduler is {_described(scheduler)}, expected one such as StepLR(optimizer, 10)"
        )


def _checked_loss(loss: Any) -> Any:
    if not isinstance(loss, tt_core.Tensor):
        what = f"a {type(loss).__name__}, expected a tensor of one number, which gradients can flow through"
        raise TrainingError(f"fit: the loss is {what}")
    return loss


def _check_metrics(metrics: Any) -> None:
    if not (metrics is None or (isinstance(metrics, Mapping) and all(map(callable, metrics.values())))):
        raise TrainingError(f"Trainer: metrics is {metrics!r}, expected a dictionary of functions (output, y)")


def _checked_callbacks(callbacks: Any) -> Iterator[Callback]:
    if not isinstance(callbacks, Iterable):
        raise TrainingError(f"Trainer: callbacks is {_described(callbacks)}, expected a list of callbacks")
    for i, callback in enumerate(callbacks):
        if not isinstance(callback, Callback):
            advice = (
                f"write {callback.__name__}()" if isinstance(callback, type) else "derive it from tt_learn.Callback"
            )
            raise TrainingError(f"Trainer: callbacks[{i}] is {_described(callback)}, expected a callback; {advice}")
        yield callback


def _described(value: Any) -> str:
    return f"the class {value.__name__}" if isinstance(value, type) else f"a {type(value).__name__}"


def _check_count(where: str, name: str, value: Any, least: int = 1) -> None:
    if not is_integer(value, least):
        raise TrainingError(f"{where}: {name} is {value!r}, expected an integer of {least} or more")
