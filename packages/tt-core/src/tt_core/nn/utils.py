"""PyTorch's `torch.nn.utils`; clipping of gradients is found here once Act II is imported."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from tt_core.acts import from_later_acts
from tt_core.creation import cat


def __getattr__(name: str) -> Any:
    return from_later_acts(name, __name__)


def parameters_to_vector(parameters: Iterable[Any]) -> Any:
    """All parameters in one vector.

    >>> from tt_core import Linear
    >>> parameters_to_vector(Linear(2, 3).parameters()).shape
    (9,)
    """
    return cat([parameter.flatten() for parameter in parameters])
