"""Module 03, layers: parameters, the tensors that training changes."""

from __future__ import annotations

from typing import Any

from tt_core.tensor.creation import tensor
from tt_core.tensor.tensor import Tensor


def Parameter(data: Any, dtype: Any = None) -> Tensor:
    """A tensor that training changes; assigning it to an attribute of a layer registers it. Raises as `tensor` does.

    >>> Parameter([1.0, 2.0]).is_parameter
    True
    """
    return tensor(data, dtype).as_parameter()
