"""Module 03, layers: parameters, the tensors that training changes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tt_core.tensor.creation import tensor
from tt_core.tensor.tensor import Tensor

if TYPE_CHECKING:
    from tt_core.engine.hints import DTypeLike, TensorLike


def Parameter(data: TensorLike, requires_grad: bool = True, *, dtype: DTypeLike | None = None) -> Tensor:
    """A tensor that training changes; assigning it to an attribute of a layer registers it. Raises as `tensor` does.

    With `requires_grad=False` it is part of the state dict, and Act II gives it no gradient.

    >>> Parameter([1.0, 2.0]).is_parameter
    True
    """
    parameter = tensor(data, dtype).as_parameter()
    if not requires_grad and hasattr(parameter, "requires_grad_"):
        parameter.requires_grad_(False)
    return parameter
