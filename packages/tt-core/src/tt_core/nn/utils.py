"""PyTorch's `torch.nn.utils`; the functions that clip gradients appear here when Act II is imported."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from tt_core.engine.later import absent
from tt_core.tensor.shapes import cat
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
