"""Part of module 07: checks of the arguments of `Trainer` and `fit`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from tt_core.engine.errors import is_integer, is_number
from tt_core.layers import Layer
from tt_learn.training.errors import TrainingError
from tt_learn.training.events import Callback


@dataclass(frozen=True)
class Plan:
    """The arguments of one `fit`."""

    batches: Any
    steps: int | None
    epochs: int | None
    val: Any
    val_every: int | None


def check_plan(plan: Plan) -> None:
    """Raises `TrainingError` for arguments of `fit` that are wrong or missing."""
    if plan.steps is None and plan.epochs is None:
        raise TrainingError("fit: give steps or epochs")
    if callable(plan.batches) and plan.steps is None:
        raise TrainingError("fit: a batch function has no epochs; give steps")
    if not callable(plan.batches) and not isinstance(plan.batches, Iterable):
        given = type(plan.batches).__name__
        raise TrainingError(f"fit: batches is a {given}, expected a loader or a function step -> batch")
    if plan.val is plan.batches and hasattr(plan.val, "load_state_dict"):
        raise TrainingError("fit: val is the training loader, which would lose its position; make a second one")
    if not (plan.val is None or callable(plan.val) or isinstance(plan.val, Iterable)):
        raise TrainingError(f"fit: val is a {type(plan.val).__name__}, expected batches or a function")
    for name, least in (("steps", 0), ("epochs", 0), ("val_every", 1)):
        if getattr(plan, name) is not None:
            check_count("fit", name, getattr(plan, name), least)


def check_parts(model: object, optimizer: object, loss: object, scheduler: object) -> None:
    """Raises `TrainingError` for a part of a trainer that is of the wrong kind."""
    if not isinstance(model, Layer):
        raise TrainingError(f"Trainer: the model is {_described(model)}, expected a Layer")
    if isinstance(optimizer, type) or not hasattr(optimizer, "param_groups"):
        given = _described(optimizer)
        raise TrainingError(f"Trainer: the optimizer is {given}, expected one such as SGD(model.parameters())")
    if not callable(loss):
        raise TrainingError(f"Trainer: the loss is {_described(loss)}, expected a function")
    if scheduler is not None and (isinstance(scheduler, type) or not hasattr(scheduler, "step")):
        given = _described(scheduler)
        raise TrainingError(f"Trainer: the scheduler is {given}, expected one such as StepLR(optimizer, 10)")


def check_options(
    schedule_each: object,
    accumulate: object,
    clip_grad_norm: object,
    metrics: object,
    tokens_per_step: object,
    log_every: object,
) -> None:
    """Raises `TrainingError` for an option of a trainer that is of the wrong kind or out of range."""
    if schedule_each not in ("step", "epoch"):
        raise TrainingError(f"Trainer: schedule_each is {schedule_each!r}, expected 'step' or 'epoch'")
    check_count("Trainer", "accumulate", accumulate)
    check_count("Trainer", "log_every", log_every)
    if tokens_per_step is not None:
        check_count("Trainer", "tokens_per_step", tokens_per_step)
    if not (clip_grad_norm is None or is_number(clip_grad_norm)):
        raise TrainingError(f"Trainer: clip_grad_norm is {clip_grad_norm!r}, expected a number or None")
    if not (metrics is None or (isinstance(metrics, Mapping) and all(map(callable, metrics.values())))):
        raise TrainingError(f"Trainer: metrics is {metrics!r}, expected a dictionary of functions (output, y)")


def checked_callbacks(callbacks: object) -> Iterator[Callback]:
    """The callbacks; raises `TrainingError` for anything else."""
    if not isinstance(callbacks, Iterable):
        raise TrainingError(f"Trainer: callbacks is {_described(callbacks)}, expected a list of callbacks")
    for i, callback in enumerate(callbacks):
        if not isinstance(callback, Callback):
            advice = f"write {callback.__name__}()" if isinstance(callback, type) else "derive it from Callback"
            raise TrainingError(f"Trainer: callbacks[{i}] is {_described(callback)}, expected a callback; {advice}")
        yield callback


def _described(value: object) -> str:
    return f"the class {value.__name__}" if isinstance(value, type) else f"a {type(value).__name__}"


def check_count(where: str, name: str, value: object, least: int = 1) -> None:
    """Raises `TrainingError` for a value that is not an integer of `least` or more."""
    if not is_integer(value, least):
        raise TrainingError(f"{where}: {name} is {value!r}, expected an integer of {least} or more")
