"""What compositions of ops have in common: an array is taken for a tensor, and errors name the composition.

Ops take arrays by themselves. A composition that calls methods of its arguments needs tensors first.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar, cast

import numpy as np

from tt_core.engine.arguments import explained
from tt_core.engine.dispatch import HasArray, wrap
from tt_core.engine.errors import DTypeError, shown

Function = TypeVar("Function", bound=Callable[..., Any])


def of_tensors(names: str) -> Callable[[Function], Function]:
    """Let a composition of ops take arrays for its first arguments, as an op does.

    `names`: these arguments, separated by spaces; one with a question mark may be None. Anything else raises
    `DTypeError`, and so does another argument that does not fit its hint (`explained`).

    >>> @of_tensors("x weight?")
    ... def double(x, weight=None):
    ...     return x + x
    >>> double(np.ones(2))
    tensor([2., 2.], dtype=float64)
    """
    taken = [(name.rstrip("?"), name.endswith("?")) for name in names.split()]

    def decorate(function: Function) -> Function:
        who, composed = function.__name__, explained(function)

        @functools.wraps(function)
        def call(*inputs: Any, **options: Any) -> Any:
            tensors = [as_tensor(x, who, *name) for x, name in zip(inputs, taken)]
            for name in taken[len(inputs) :]:
                if name[0] in options:
                    options[name[0]] = as_tensor(options[name[0]], who, *name)
            return composed(*tensors, *inputs[len(tensors) :], **options)

        return cast(Function, call)

    return decorate


def as_tensor(x: object, who: str, name: str = "input", optional: bool = False) -> Any:
    """`x`, an array as a tensor on the same memory; raises `DTypeError` for anything else."""
    if isinstance(x, HasArray) or (x is None and optional):
        return x
    if not isinstance(x, np.ndarray) or x.dtype.kind not in "fiub":
        raise DTypeError(f"{who}: {name} must be a tensor or an array of numbers, got {shown(x)}")
    return wrap(x if x.dtype.isnative else x.astype(x.dtype.newbyteorder("=")))
