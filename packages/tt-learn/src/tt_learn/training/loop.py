"""Part of module 07: the parts of the training loop: one step, and one evaluation.

`loss_of(batch)` computes the loss of a batch as a tensor of one number; `measure(batch)` returns numbers by name.
`Trainer` puts these functions together with schedules, callbacks and checkpoints.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from tt_core.engine.arguments import checked
from tt_core.layers import Layer
from tt_learn.autograd import Tensor, no_grad
from tt_learn.optimizers import Optimizer, clip_grad_norm_
from tt_learn.training.batches import as_number, examples_in
from tt_learn.training.errors import TrainingError

LossOf = Callable[[Any], Tensor]
Measure = Callable[[Any], Mapping[str, Any]]


def accumulate(loss_of: LossOf, batches: Sequence[Any]) -> float:
    """Adds the gradients of the mean loss of several batches to the parameters; returns the mean loss.

    Each batch runs forward and backward by itself, so memory holds the activations of one batch only.

    >>> w = Tensor([1.0], requires_grad=True)
    >>> accumulate(lambda batch: (w * batch).sum(), [2.0, 4.0]), w.grad
    (3.0, tensor([3.]))
    """
    mean = 0.0
    for batch in batches:
        loss = loss_of(batch)  # one number: backward starts from a tensor ()
        mean += loss.item() / len(batches)
        # divided before backward: gradients of several batches sum up, and the sum is to be that of the mean loss
        (loss / len(batches) if len(batches) > 1 else loss).backward()
    return mean


def train_step(
    optimizer: Optimizer, loss_of: LossOf, batches: Sequence[Any], clip_grad_norm: float | None = None
) -> float:
    """One step of `optimizer` on the mean loss of `batches`; returns that loss.

    Raises `GradientError` if `clip_grad_norm` is given and a gradient is not finite.

    >>> from tt_learn import SGD
    >>> w = Tensor([1.0], requires_grad=True)
    >>> train_step(SGD([w], lr=0.25), lambda batch: (w * batch).sum(), [2.0]), w
    (2.0, tensor([0.5], requires_grad=True))
    """
    optimizer.zero_grad()  # backward adds to `grad`, so the last step's gradients would still be in it
    loss = accumulate(loss_of, batches)
    if clip_grad_norm is not None:
        # between backward and the step: the norm is that of the whole gradient, and the step must see the scaled one
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        clip_grad_norm_(parameters, clip_grad_norm, error_if_nonfinite=True)
    optimizer.step()
    return loss


@contextlib.contextmanager
@checked
def evaluating(model: Layer) -> Iterator[None]:
    """A block in which `model` is in evaluation mode and nothing is recorded; each layer returns to its mode after it.

    >>> import tt_core
    >>> layer = tt_core.Dropout(0.5)
    >>> with evaluating(layer):
    ...     layer(tt_core.ones(2))
    tensor([1., 1.])
    >>> layer.training
    True
    """
    training = [layer for layer in model.modules() if layer.training]  # others may be frozen in evaluation mode
    for layer in training:
        layer.training = False
    try:
        with no_grad():
            yield
    finally:
        for layer in training:
            layer.training = True


def evaluate(model: Layer, measure: Measure, batches: Iterable[Any]) -> dict[str, float]:
    """The mean of each measured number over all examples, computed without gradients and in evaluation mode.

    The last batch may be smaller, so each batch counts by its number of examples. Raises `TrainingError` if there are
    no examples.

    >>> import tt_core
    >>> layer, batches = tt_core.Dropout(0.5), [tt_core.ones(3), tt_core.zeros(1)]
    >>> evaluate(layer, lambda batch: {"mean": layer(batch).mean()}, batches)
    {'mean': 0.75}
    """
    sums: dict[str, float] = {}
    count = 0
    with evaluating(model):
        for batch in batches:
            examples = examples_in(batch)
            count += examples  # a mean of means would give the examples of a small last batch too much weight
            for name, value in measure(batch).items() if examples else ():
                sums[name] = sums.get(name, 0.0) + as_number(name, value) * examples
    if not count:
        raise TrainingError("evaluate: got no batches with examples")
    return {name: total / count for name, total in sums.items()}
