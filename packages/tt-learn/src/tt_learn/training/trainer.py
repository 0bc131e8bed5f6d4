"""Module 07, training: the loop that turns a model, an optimizer and batches into a trained model.

    trainer = Trainer(model, optimizer, tt_core.cross_entropy, callbacks=[ProgressBar(), Checkpoints("run")])
    trainer.fit(loader, epochs=3, val=val_loader)

`Trainer._run` is the loop; one step is in `loop.py`. `resuming.py` saves and restores, `interrupts.py` handles signals,
and `callbacks.py` prints and writes. The trainer knows nothing of a data loader except that it can be iterated, and
that one that resumes in the middle of an epoch has `state_dict` and `load_state_dict`.
"""

from __future__ import annotations

import contextlib
import itertools
import math
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import tt_core
from tt_core.engine.arguments import checked
from tt_core.engine.plugins import manager
from tt_core.layers import Layer
from tt_learn.autograd import Tensor
from tt_learn.optim.plateau import ReduceLROnPlateau
from tt_learn.optimizers import Optimizer
from tt_learn.training.arguments import Plan, check_options, check_parts, check_plan, checked_callbacks
from tt_learn.training.batches import as_number, examples_in
from tt_learn.training.errors import TrainingError
from tt_learn.training.events import Callback
from tt_learn.training.history import History, Record, table
from tt_learn.training.interrupts import interruptible
from tt_learn.training.loop import evaluate, evaluating, train_step
from tt_learn.training.resuming import Resumable


class Trainer(Resumable):
    """Trains `model` with `optimizer`.

    loss_fn: `loss_fn(model(x), y)` is the loss of a batch (x, y).
    compute_loss: `compute_loss(model, batch)` is the loss of any other kind of batch; give one of the two.
    scheduler: advanced after each step, or with `schedule_each="epoch"` after each epoch. `ReduceLROnPlateau` is
        advanced with val_loss after each validation.
    callbacks: see `callbacks.py`.
    accumulate: batches per step; the gradients are those of the mean of their losses.
    clip_grad_norm: largest allowed norm of all gradients together.
    metrics: functions (model(x), y) -> number by name, for `evaluate`.
    tokens_per_step: for tokens_per_second in the log.
    log_every: steps per log line, whose train_loss is their mean.

    Raises `TrainingError` if the loss is not finite, before the step that would spoil the weights. With
    `clip_grad_norm`, raises `GradientError` if a gradient is not finite.

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
            raise TrainingError("Trainer: metrics need loss_fn; with compute_loss there is no output to measure")
        check_parts(model, optimizer, loss_fn or compute_loss, scheduler)
        check_options(schedule_each, accumulate, clip_grad_norm, metrics, tokens_per_step, log_every)
        self.model, self.optimizer, self.loss_fn, self.compute_loss = model, optimizer, loss_fn, compute_loss
        self.scheduler, self.schedule_each = scheduler, schedule_each
        self.callbacks = sorted(checked_callbacks(callbacks), key=lambda callback: callback.runs_last)
        self.accumulate, self.clip_grad_norm, self.metrics = accumulate, clip_grad_norm, dict(metrics or {})
        self.tokens_per_step, self.log_every = tokens_per_step, log_every
        self.step = self.epoch = self.batches_in_epoch = 0
        self.total_steps: int | None = None
        self.loss = math.nan  # of the last step
        self.seconds = 0.0  # spent on steps in all runs
        self.history = History()
        self.interrupted = self.should_stop = False
        self._signal = signal.SIGINT  # the one that interrupted
        self._window = {"loss": 0.0, "steps": 0, "examples": 0, "seconds": 0.0}
        self._epoch_is_over = False  # the loader has ended, but the work after an epoch is not done yet
        self._batches: Any = None
        self._resumed: dict[str, Any] | None = None

    # --- the loop

    @checked
    def fit(
        self,
        batches: Iterable[Any] | Callable[[int], Any],
        steps: int | None = None,
        epochs: int | None = None,
        val: Iterable[Any] | Callable[[], Any] | None = None,
        val_every: int | None = None,
        overfit_one_batch: bool = False,
    ) -> History:
        """Trains until `steps` steps or `epochs` epochs are done in total, including earlier calls and resumed runs.

        Returns the history, which notebooks show as a chart of the losses.

        batches: a loader that yields the batches of an epoch each time it is iterated, or a function `step -> batch`
            that draws from the framework's generator (then there are no epochs). A loader without `state_dict` can
            be resumed at the end of epochs only.
        val: batches to evaluate on, or a function that returns val_loss or a dictionary of metrics. It is used every
            `val_every` steps, or without it after each epoch, and at the end.
        overfit_one_batch: trains on the first batch only; a model that cannot learn it has a bug.

        Ctrl-C, SIGTERM, SIGHUP (a closed terminal) and Windows' SIGBREAK end training after the current step:
        callbacks save, then `KeyboardInterrupt` is raised with the signal as its argument. A second Ctrl-C does not
        wait. Signals that are ignored (as under `nohup`) or that the program handles itself keep their handlers.
        """
        if overfit_one_batch:
            batches = self._one_batch(batches)
        plan = Plan(batches, steps, epochs, val, val_every)
        check_plan(plan)
        self._continue_loader(batches)
        self.total_steps = self._total_steps(plan)
        self.interrupted = self.should_stop = False
        self.model.train()
        with interruptible(self._interrupt):
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

    def _run(self, plan: Plan) -> None:
        """The training loop: epochs, and the steps of each."""
        while not self._finished(plan):
            for batches in self._steps_of_epoch(plan.batches):
                started = time.perf_counter()
                self.loss = _wrapped.step(self, batches)
                self._after_step(plan, batches, time.perf_counter() - started)
                if self._finished(plan):
                    return
            self._end_epoch(plan)

    def _finished(self, plan: Plan) -> bool:
        enough_steps = plan.steps is not None and self.step >= plan.steps
        return self.should_stop or enough_steps or (plan.epochs is not None and self.epoch >= plan.epochs)

    def _steps_of_epoch(self, batches: Any) -> Iterator[list[Any]]:
        """The batches of each remaining step of this epoch."""
        if callable(batches):
            self._resumed = None
            while True:
                yield [batches(self.step) for _ in range(self.accumulate)]
        if self._epoch_is_over:  # the checkpoint was made here, and the loader knows that too
            return
        # A loader restored after the last batch of an epoch may first yield the rest of that epoch, which is empty.
        attempts, self._resumed = 2 if self._resumed else 1, None
        for _ in range(attempts):
            remaining = iter(batches)
            while group := list(itertools.islice(remaining, min(self.accumulate, sys.maxsize))):
                self._epoch_is_over = len(group) < self.accumulate
                yield group
            if self.batches_in_epoch:
                return
        raise TrainingError("fit: the loader gave no batches; a generator is used up after one epoch, a list is not")

    def _step(self, batches: list[Any]) -> float:
        """What plugins wrap: one step on the mean loss of some batches; returns that loss."""
        return train_step(self.optimizer, self._loss, batches, self.clip_grad_norm)

    def _loss(self, batch: Any) -> Tensor:
        """The loss of one training batch, checked before it can spoil the weights."""
        loss: Tensor = self.loss_of(batch)
        self.check_loss(loss, batch)
        return loss

    def loss_of(self, batch: object) -> Any:
        """The loss of one batch, as `loss_fn` or `compute_loss` returns it."""
        return self.compute_loss(self.model, batch) if self.compute_loss else self._output_and_loss(batch)[1]

    def check_loss(self, loss: object, batch: object) -> None:
        """Raises `TrainingError` for a loss that is not a tensor or not finite."""
        if not isinstance(loss, Tensor):
            what = f"a {type(loss).__name__}, expected a tensor of one number that has a gradient"
            raise TrainingError(f"fit: the loss is {what}")
        if not math.isfinite(value := loss.item()):
            if not examples_in(batch):
                raise TrainingError("fit: a batch has no examples, so its loss is not a number; leave it out")
            raise TrainingError(
                f"fit: the loss is {value} after {self.step} steps; lower the learning rate, clip gradients, "
                f"or look for bad values in the data"
            )

    def _output_and_loss(self, batch: Any) -> tuple[Any, Any]:
        try:
            x, y = batch
        except (TypeError, ValueError):
            raise TrainingError("Trainer: loss_fn needs batches (x, y); use compute_loss for others") from None
        output = self.model(x)
        return output, self.loss_fn(output, y) if self.loss_fn else None

    def _after_step(self, plan: Plan, batches: list[Any], seconds: float) -> None:
        """Counts the step, then advances the schedule, validates and logs where these are due."""
        self.step += 1
        self.batches_in_epoch += len(batches)
        self._count(batches, seconds)
        self._schedule("step")
        due = plan.val is not None and plan.val_every is not None and self.step % plan.val_every == 0
        metrics = self._validate(plan.val) if due else {}
        ending = plan.val is not None and self.step == plan.steps  # validated and logged once fit has ended
        if due or (self.step % self.log_every == 0 and not ending):
            self._log(metrics)
        self._tell("on_step_end")

    def _end_epoch(self, plan: Plan) -> None:
        self.epoch, self.batches_in_epoch, self._epoch_is_over = self.epoch + 1, 0, False
        self._schedule("epoch")
        if plan.val is not None and plan.val_every is None:
            self._log(self._validate(plan.val))
        self._tell("on_epoch_end")

    def _conclude(self, plan: Plan) -> None:
        """Validates and logs the last steps if that has not been done; the schedule does not advance."""
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
        model = f"{type(self.model).__name__} of {Layer.num_parameters(self.model):,} parameters"
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
        self._window["examples"] += sum(map(examples_in, group))
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
        with evaluating(self.model), _same_generator():
            found = val()
        metrics = found if isinstance(found, Mapping) else {"val_loss": found}
        return {name: as_number(name, value) for name, value in metrics.items()}

    @checked
    def evaluate(self, batches: Iterable[Any]) -> dict[str, float]:
        """Returns `val_loss` and each metric as `val_` and its name: means over all examples.

        The model is in evaluation mode, nothing is recorded, and the generator is left as it was, so that a run has the
        same bits with and without validation. Raises `TrainingError` if there are no examples.
        """
        given: Any = batches
        if not isinstance(given, Iterable):
            raise TrainingError(f"evaluate: batches is a {type(batches).__name__}, expected a loader or a list")
        with _same_generator():
            means = evaluate(self.model, self._measure, batches)
        return {f"val_{name}": mean for name, mean in means.items()}

    def _measure(self, batch: Any) -> dict[str, Any]:
        if self.compute_loss is not None:
            return {"loss": self.compute_loss(self.model, batch)}
        output, loss = self._output_and_loss(batch)
        return {"loss": loss, **{name: metric(output, batch[1]) for name, metric in self.metrics.items()}}

    # --- stopping

    def stop(self) -> None:
        """Ends training after this step."""
        self.should_stop = True

    def _interrupt(self, number: signal.Signals) -> None:
        self._signal, self.interrupted = number, True
        self.stop()

    # --- arguments of fit

    def _total_steps(self, plan: Plan) -> int | None:
        if plan.epochs is None or callable(plan.batches) or not hasattr(plan.batches, "__len__"):
            return plan.steps
        counted = plan.epochs * math.ceil(len(plan.batches) / self.accumulate)
        return counted if plan.steps is None else min(counted, plan.steps)

    def _one_batch(self, batches: Any) -> Callable[[int], Any]:
        if self._resumed is not None:
            raise TrainingError("fit: overfit_one_batch cannot resume, because the checkpoint does not hold the batch")
        nothing = object()
        first = batches(0) if callable(batches) else next(iter(batches), nothing)
        if first is nothing:
            raise TrainingError("fit: the loader gave no batches")
        return lambda step: first


class _Wrapped:
    """A step in the wraps of plugins; without them, the step itself."""

    step: Callable[[Trainer, list[Any]], float] = staticmethod(Trainer._step)

    def bind(self) -> None:
        """Ask plugins what they wrap around a step."""
        self.step = manager.chained("tt_wrap_train_step", Trainer._step, into="call")


_wrapped = _Wrapped()
manager.rebinders.append((_wrapped.bind, {"tt_wrap_train_step"}))


@contextlib.contextmanager
def _same_generator() -> Iterator[None]:
    """A block after which the generator is where it was."""
    generator = tt_core.get_rng_state()
    try:
        yield
    finally:
        tt_core.set_rng_state(generator)
