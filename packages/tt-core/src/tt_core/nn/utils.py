"""PyTorch's `torch.nn.utils`; the functions that clip gradients appear here when Act II is imported."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from types import SimpleNamespace
from typing import TYPE_CHECKING

import numpy as np

from tt_core.engine import mutation
from tt_core.engine.compositions import of_tensors
from tt_core.engine.errors import ShapeError
from tt_core.engine.later import absent
from tt_core.tensor.shapes import cat, pad, stack
from tt_core.tensor.tensor import Tensor

if not TYPE_CHECKING:  # where it would hide misspelt names
    __getattr__ = absent(__name__)


def parameters_to_vector(parameters: Iterable[Tensor]) -> Tensor:
    """All parameters in one vector.

    >>> from tt_core import Linear
    >>> parameters_to_vector(Linear(2, 3).parameters()).shape
    (9,)
    """
    return cat([parameter.flatten() for parameter in parameters])


@of_tensors("vec")
def vector_to_parameters(vec: Tensor, parameters: Iterable[Tensor]) -> None:
    """Write the elements of `vec` over the parameters, in order; undoes `parameters_to_vector`.

    Raises `ShapeError` unless `vec` has as many elements as the parameters together.

    >>> from tt_core import Linear, arange
    >>> model = Linear(2, 1)
    >>> vector_to_parameters(arange(3.0), model.parameters())
    >>> model.weight.tolist(), model.bias.tolist()
    ([[0.0, 1.0]], [2.0])
    """
    given = list(parameters)
    total = sum(parameter.numel() for parameter in given)
    if vec.shape != (total,):
        raise ShapeError(f"vector_to_parameters: vec has shape {vec.shape}, the parameters {total} elements")
    start = 0
    for parameter in given:
        np.copyto(parameter.data, vec.data[start : start + parameter.numel()].reshape(parameter.shape))
        mutation.record(parameter.data)
        start += parameter.numel()


def _pad_sequence(
    sequences: Sequence[Tensor], batch_first: bool = False, padding_value: float = 0.0, padding_side: str = "right"
) -> Tensor:
    """Sequences (length, ...) as one tensor (longest, batch, ...), or (batch, longest, ...) with `batch_first`.

    Shorter ones are filled up with `padding_value` on the side `padding_side`, "right" or "left".
    """
    if padding_side not in ("left", "right"):
        raise ShapeError(f"pad_sequence: padding_side is 'left' or 'right', got {padding_side!r}")
    longest = max(len(x) for x in sequences)
    filled = []
    for x in sequences:
        missing = longest - len(x)
        widths = (0, 0) * (x.ndim - 1) + ((missing, 0) if padding_side == "left" else (0, missing))
        filled.append(pad(x, widths, value=padding_value) if missing else x)
    return stack(filled, 0 if batch_first else 1)


rnn = SimpleNamespace(pad_sequence=_pad_sequence)
"""Of PyTorch's `nn.utils.rnn` what does not need recurrent networks."""
