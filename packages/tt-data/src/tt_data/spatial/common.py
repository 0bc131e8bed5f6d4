"""Module 09, spatial: shared by its files: kernels that take a batch or one image, and layers without parameters.

Windows are in `windows.py`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, ClassVar, TypeVar, cast

from tt_core import Tensor
from tt_core.layers import Layer
from tt_core.tensor.elementwise import half_in_float32
from tt_data.spatial.checks import check_float_images as check_float_images
from tt_data.spatial.checks import check_images as check_images

Function = TypeVar("Function", bound=Callable[..., Any])


def on_images(batches: int = 1, gives_images: bool = True, ndim: int = 4) -> Callable[[Function], Function]:
    """Decorate a kernel of batches: it also takes one image, and computes float16 in float32.

    If the first input has one dimension less than `ndim`, as (C, H, W) has, the first `batches` inputs get a batch
    dimension, and results that are images lose it. float16 overflows above 65504 and cannot represent 2049, so sums are
    accumulated in float32 and rounded once, as in PyTorch.

    >>> import numpy as np
    >>> @on_images()
    ... def total(x):
    ...     return x.sum((2, 3))
    >>> total(np.ones((1, 50, 50), np.float16)).tolist()
    [2500.0]
    """

    def decorate(kernel: Function) -> Function:
        compute = half_in_float32(kernel)  # rounds once, at the end

        @functools.wraps(kernel)
        def run(*inputs: Any, **attributes: Any) -> Any:
            if inputs[0].ndim != ndim - 1:
                return compute(*inputs, **attributes)
            result = compute(*[x[None] for x in inputs[:batches]], *inputs[batches:], **attributes)
            if not gives_images:
                return result
            return tuple([x[0] for x in result]) if isinstance(result, tuple) else result[0]

        return cast(Function, run)

    return decorate


class FunctionLayer(Layer):
    """A layer without parameters that calls `function` with the keyword arguments it was created with.

    >>> class Doubled(FunctionLayer):
    ...     function = staticmethod(lambda x, times: x * times)
    >>> from tt_core import ones
    >>> Doubled(times=2)(ones(2)), Doubled(times=2)
    (tensor([2., 2.]), Doubled(times=2))
    """

    function: ClassVar[Callable[..., Any]]

    def __init__(self, **arguments: object) -> None:
        super().__init__()
        for name, value in arguments.items():
            setattr(self, name, value)
        self._names = tuple(arguments)

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.function(x, **{name: getattr(self, name) for name in self._names}))

    def extra_repr(self) -> str:
        shown = [name for name in self._names if name != "return_indices"]
        return ", ".join(f"{name}={getattr(self, name)!r}" for name in shown)
