"""Part of `capture`: the plugin, through which a `Trainer` replays its steps."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

from tt_core.engine.hookspecs import hookimpl
from tt_learn.autograd import Tensor
from tt_learn.optimizers import clip_grad_norm_
from tt_learn.training import Trainer
from tt_perf.acceleration.capture.captured import Captured
from tt_perf.acceleration.capture.traced import recording

TrainStep = Callable[[Trainer, list[Any]], float]


class CapturePlugin:
    """What `use("capture")` activates: every `Trainer` captures its step."""

    def __init__(self) -> None:
        self.tt_plugged()

    @hookimpl
    def tt_plugged(self) -> None:
        self._steps: weakref.WeakKeyDictionary[Trainer, tuple[Any, Captured]] = weakref.WeakKeyDictionary()
        self._counted = [0, 0]  # of trainers that are gone, or that were given other parts: recorded and replayed
        self._reasons: dict[str, None] = {}

    @hookimpl
    def tt_wrap_train_step(self, call: TrainStep) -> TrainStep:
        def step(trainer: Trainer, batches: list[Any]) -> float:
            reason = _objection(trainer, batches)
            if reason is not None:
                self._reasons[reason] = None
                return call(trainer, batches)
            captured = self._step_of(trainer)
            recorded, replayed = captured.recorded, captured.replayed
            loss = float(captured(batches[0]).item())
            self._counted[0] += captured.recorded - recorded
            self._counted[1] += captured.replayed - replayed
            if captured.reason is not None:
                self._reasons[captured.reason] = None
            return loss

        return step

    @hookimpl
    def tt_unplugged(self) -> None:
        self._steps.clear()

    @hookimpl
    def tt_report(self) -> str | None:
        recorded, replayed = self._counted
        if not (recorded or replayed or self._reasons):
            return None
        reasons = "".join(f"\n  runs as usual: {reason}" for reason in self._reasons)
        return f"capture: {replayed:,} steps replayed, {recorded:,} recorded{reasons}"

    def _step_of(self, trainer: Trainer) -> Captured:
        parts = trainer.model, trainer.optimizer, trainer.loss_fn, trainer.compute_loss, trainer.clip_grad_norm
        known = self._steps.get(trainer)
        if known is None or any(a is not b for a, b in zip(known[0], parts)):
            known = self._steps[trainer] = parts, Captured(step_of(trainer), watched=(type(trainer), *parts[:4]))
        return known[1]


def _objection(trainer: Trainer, batches: list[Any]) -> str | None:
    if len(batches) != 1:
        return "gradients of several batches are accumulated"
    for name in ("_step", "_loss", "loss_of", "check_loss", "_output_and_loss"):
        if getattr(type(trainer), name) is not getattr(Trainer, name):
            return f"{type(trainer).__name__} has its own {name}"
    return None


def step_of(trainer: Trainer) -> Callable[[Any], Tensor]:
    """The step of a trainer as a function of a batch, which does what `tt_learn.training.train_step` does."""
    weak, optimizer, clip = weakref.ref(trainer), trainer.optimizer, trainer.clip_grad_norm

    def training_step(batch: Any) -> Tensor:
        owner = weak()
        if owner is None:
            raise ReferenceError("the trainer is gone")
        optimizer.zero_grad()
        loss: Tensor = owner.loss_of(batch)
        check_finite(loss, lambda: owner.check_loss(loss, batch))
        loss.backward()
        if clip is not None:
            clip_grad_norm_(optimizer._parameters(), clip, error_if_nonfinite=True)
        optimizer.step()
        return loss

    return training_step


def check_finite(loss: object, check: Callable[[], None]) -> None:
    """Calls `check`, which raises an error if the loss is not finite; a replay calls it for such a loss only."""
    recorder = recording.here()
    if recorder is None or not isinstance(loss, Tensor):
        check()
        return
    recorder.finite(loss)
    with recorder.pause():
        check()


plugin = CapturePlugin()
