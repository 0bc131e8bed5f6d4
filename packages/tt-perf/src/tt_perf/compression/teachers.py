"""Part of module 16: the loss of distillation as a `Trainer` takes it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tt_core.engine.arguments import checked, explained
from tt_core.layers import Layer
from tt_core.tensor import Tensor
from tt_learn.optimizers import Optimizer
from tt_learn.training import Trainer, evaluating
from tt_perf.compression.distillation import check_settings, distillation_loss
from tt_perf.compression.reports import CompressionError


class Distillation:
    """The loss of a batch (x, labels) under a teacher, as `compute_loss` of a `Trainer` takes it.

    The teacher runs in evaluation and without gradients; each of its layers is in its own mode again afterwards.
    Raises `CompressionError` as `distillation_loss` does, and for a teacher that is no layer.

    >>> import tt_core
    >>> teacher, student = tt_core.Linear(2, 3), tt_core.Linear(2, 3)
    >>> loss = Distillation(teacher, temperature=4.0)
    >>> loss(student, (tt_core.ones(5, 2), tt_core.tensor([0, 1, 2, 0, 1]))).shape
    ()
    """

    @checked
    def __init__(
        self,
        teacher: Layer,
        *,
        temperature: float = 2.0,
        alpha: float = 0.5,
        ignore_index: int = -100,
        label_smoothing: float = 0.0,
    ) -> None:
        if not isinstance(teacher, Layer):
            raise CompressionError(f"Distillation: the teacher is a {type(teacher).__name__}, expected a layer")
        check_settings(temperature, alpha)
        self.teacher = teacher
        self.options: Mapping[str, Any] = {
            "temperature": temperature,
            "alpha": alpha,
            "ignore_index": ignore_index,
            "label_smoothing": label_smoothing,
        }

    @explained
    def __call__(self, student: Layer, batch: Any) -> Tensor:
        x, labels = batch
        return distillation_loss(student(x), self.taught(x), labels, **self.options)

    @explained
    def taught(self, x: Tensor) -> Tensor:
        """The teacher's logits."""
        with evaluating(self.teacher):
            return self.teacher(x).detach()


class DistillationTrainer(Trainer):
    """A `Trainer` whose loss is `Distillation` from `teacher`; `options` are the trainer's own.

    >>> import tt_core, tt_learn
    >>> teacher, student = tt_core.Linear(2, 3), tt_core.Linear(2, 3)
    >>> trainer = DistillationTrainer(student, tt_learn.SGD(student.parameters(), lr=0.1), teacher)
    >>> _ = trainer.fit([(tt_core.ones(4, 2), tt_core.tensor([0, 1, 2, 0]))], steps=2)
    >>> trainer.step
    2
    """

    @checked
    def __init__(
        self,
        model: Layer,
        optimizer: Optimizer,
        teacher: Layer,
        *,
        temperature: float = 2.0,
        alpha: float = 0.5,
        ignore_index: int = -100,
        label_smoothing: float = 0.0,
        **options: Any,
    ) -> None:
        loss = Distillation(
            teacher,
            temperature=temperature,
            alpha=alpha,
            ignore_index=ignore_index,
            label_smoothing=label_smoothing,
        )
        super().__init__(model, optimizer, compute_loss=loss, **options)
        self.teacher = teacher
