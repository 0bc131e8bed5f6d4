"""What `tt plugins check` runs where Act II is installed: an op, and the gradients of its float inputs."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from typing import Any

import numpy as np

from tt_core.engine.dispatch import Op, wrap
from tt_core.samples import Draw
from tt_learn.autograd import GradientError, Tensor


def forward_and_backward(op: Op, inputs: tuple[Any, ...], attributes: dict[str, Any], draw: Draw) -> bool:
    """Run `op` on arrays, then backward with a gradient that `draw` makes.

    The gradient is finite: a kernel need not know what infinity times a rounding error is. All float inputs require a
    gradient, or only the first one where the others cannot have any, as class weights.
    """
    finite = replace(draw, corners=False)
    floats = [i for i, x in enumerate(inputs) if isinstance(x, np.ndarray) and x.dtype.kind == "f"]
    for leaves in (floats, floats[:1], []):
        with suppress(GradientError):
            tensors = [_leaf(x) if i in leaves else x for i, x in enumerate(inputs)]
            output = op.call(*tensors, **attributes)
            if getattr(output, "requires_grad", False):
                output.backward(wrap(finite.normal(*output.shape)))
            break
    return True


def _leaf(array: Any) -> Tensor:
    tensor: Tensor = wrap(array)
    return tensor.requires_grad_()
