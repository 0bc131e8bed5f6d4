"""Part of module 16: distillation. A student learns from what a larger teacher finds likely, not from labels alone.

    loss = alpha T^2 KL(softmax(teacher / T) || softmax(student / T)) + (1 - alpha) cross_entropy(student, labels)

(Hinton, Vinyals and Dean 2015, arXiv:1503.02531). A temperature T above 1 shows how the teacher ranks what it finds
unlikely. The gradient of the first term shrinks as 1 / T^2, and T^2 undoes that, so that `alpha` means the same at each
temperature. The divergence is a sum over classes and a mean over examples (PyTorch's "batchmean"), whatever the shape.
`teachers.py` has both as the loss of a `Trainer`.
"""

from __future__ import annotations

import numpy as np

from tt_core.activations import log_softmax
from tt_core.engine.arguments import checked, explained
from tt_core.engine.errors import is_number
from tt_core.losses import cross_entropy
from tt_core.tensor import Tensor
from tt_core.tensor import elementwise as E
from tt_perf.compression.reports import CompressionError


def soft_loss(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """T^2 KL(teacher || student) of logits (..., classes), summed over classes, mean over all else.

    A class that the teacher finds impossible (a logit of -inf, such as padding of the vocabulary) counts for nothing.

    >>> import tt_core
    >>> logits = tt_core.tensor([[1.0, 2.0, 4.0]])
    >>> soft_loss(logits, logits, 2.0).item(), round(soft_loss(logits * 0, logits, 2.0).item(), 3)
    (0.0, 0.771)
    """
    log_p = log_softmax(teacher.detach() / temperature, dim=-1)
    log_q = log_softmax(student / temperature, dim=-1)
    log_p, log_q = _without_impossible(log_p, log_q)
    divergence = (E.exp(log_p) * (log_p - log_q)).sum()
    rows = max(log_p.numel() // log_p.shape[-1], 1)
    return divergence * (temperature**2 / rows)


def _without_impossible(log_p: Tensor, log_q: Tensor) -> tuple[Tensor, Tensor]:
    """Both with 0 where `log_p` is -inf, so that the difference there is 0; 0 * (-inf - -inf) would be nan."""
    # lim p log p = 0 for p -> 0, which floats do not know
    impossible = log_p.data == -np.inf
    if not impossible.any():
        return log_p, log_q
    zero = np.asarray(0, log_p.dtype), np.asarray(0, log_q.dtype)
    return E.masked_fill(log_p, impossible, zero[0]), E.masked_fill(log_q, impossible, zero[1])


@explained
@checked
def distillation_loss(
    student: Tensor,
    teacher: Tensor,
    labels: Tensor | None = None,
    *,
    temperature: float = 2.0,
    alpha: float = 0.5,
    ignore_index: int = -100,
    label_smoothing: float = 0.0,
) -> Tensor:
    """alpha T^2 KL + (1 - alpha) cross entropy of logits (..., classes) and labels (...); without labels KL alone.

    Examples whose label is `ignore_index` count in neither term. `label_smoothing` is the cross entropy's. No gradient
    reaches the teacher. Raises `CompressionError` for logits of different shapes and a temperature or `alpha` that
    makes no sense.

    >>> import tt_core
    >>> student, teacher = tt_core.zeros(2, 3), tt_core.tensor([[4.0, 0.0, 0.0], [0.0, 4.0, 0.0]])
    >>> round(distillation_loss(student, teacher, tt_core.tensor([0, 1])).item(), 3)
    1.415
    """
    check_settings(temperature, alpha)
    if student.shape != teacher.shape or not student.ndim:
        raise CompressionError(
            f"distillation_loss: the student's logits are {student.shape}, the teacher's {teacher.shape}; "
            f"both rank the same classes of the same examples"
        )
    classes = student.shape[-1]
    student, teacher = student.reshape(-1, classes), teacher.detach().reshape(-1, classes)
    if labels is None:
        return soft_loss(student, teacher, temperature)
    labels = labels.reshape(-1)
    # (examples, classes) and (examples,)
    hard = cross_entropy(student, labels, ignore_index=ignore_index, label_smoothing=label_smoothing)
    counted = np.flatnonzero(labels.data != ignore_index)
    if len(counted) < labels.numel():  # both terms are means over the same examples
        student, teacher = student[counted], teacher[counted]
    return alpha * soft_loss(student, teacher, temperature) + (1 - alpha) * hard


def check_settings(temperature: float, alpha: float) -> None:
    """Raise `CompressionError` unless the temperature is positive and `alpha` a share."""
    if not (is_number(temperature) and 0 < temperature < float("inf")):
        raise CompressionError(f"distillation: temperature is {temperature!r}, expected a number above 0")
    if not (is_number(alpha) and 0 <= alpha <= 1):
        raise CompressionError(f"distillation: alpha is {alpha!r}, expected a share from 0 to 1")
