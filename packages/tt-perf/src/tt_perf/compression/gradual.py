"""Part of module 16: pruning a model while it is trained."""

from __future__ import annotations

from typing import Any

import numpy as np

from tt_core.engine.arguments import checked
from tt_core.engine.errors import is_integer, is_number
from tt_core.layers import Layer
from tt_learn.training import Callback, Trainer
from tt_perf.compression.masks import prunable, set_mask
from tt_perf.compression.pruning import gradual_amount, prune_weights
from tt_perf.compression.reports import CompressionError


class GradualPruning(Callback):
    """Prunes a model while a `Trainer` trains it, from nothing at step `begin` to the share `final` at step `end`.

    Masks of ones are there from the start, so that a checkpoint of any step fits the model that resumes it. `options`
    are those of `prune_` except `example` and `pattern`. Raises `CompressionError` as `prune_` does, and for a first
    step that does not come before the last.

    >>> import tt_core, tt_learn
    >>> model = tt_core.Linear(10, 1, bias=False)
    >>> batches = [(tt_core.ones(2, 10), tt_core.ones(2, 1))]
    >>> pruning = GradualPruning(model, 0.3, end=6)
    >>> trainer = tt_learn.Trainer(model, tt_learn.SGD(model.parameters()), tt_core.mse_loss, callbacks=[pruning])
    >>> _ = trainer.fit(batches, steps=6)
    >>> sum(weight == 0 for weight in model.weight.flatten().tolist())
    3
    """

    @checked
    def __init__(self, model: Layer, final: float, *, end: int, begin: int = 0, every: int = 1, **options: Any) -> None:
        if not (is_number(final) and 0 < final < 1):
            raise CompressionError(f"GradualPruning: final is {final!r}, expected a share between 0 and 1")
        if not (is_integer(begin, 0) and is_integer(end, begin + 1) and is_integer(every, 1)):
            raise CompressionError(f"GradualPruning: needs steps 0 <= begin < end, got begin={begin!r}, end={end!r}")
        self.final, self.begin, self.end, self.every, self.options = final, begin, end, every, options
        for weight in prunable(model, options.get("filter_fn"), "GradualPruning"):
            if weight.mask is None:
                set_mask(weight.layer, weight.name, np.ones(weight.tensor.shape, bool))

    def on_step_end(self, trainer: Trainer) -> None:
        due = (trainer.step - self.begin) % self.every == 0 and trainer.step < self.end
        if self.begin < trainer.step and (due or trainer.step == self.end):
            prune_weights(trainer.model, gradual_amount(trainer.step, self.begin, self.end, self.final), **self.options)
