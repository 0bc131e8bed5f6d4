"""Part of module 12, attention: features cut into heads, and heads joined to features."""

from __future__ import annotations

from typing import Any

import numpy as np

from tt_core.engine.dispatch import Array, op
from tt_core.tensor.creation import zeros
from tt_learn.autograd import gradient


@op(view=True)
def split_heads(x: Array, /, heads: tuple[int, ...]) -> Any:
    """(batch, T, sum(heads) * size) cut into one (batch, heads[i], T, size) for each entry of `heads`; views.

    A single entry gives the array itself, not a tuple. Raises `ShapeError` for features that do not divide.

    >>> queries, keys = split_heads(np.ones((1, 5, 6), np.float32), heads=(2, 1))
    >>> queries.shape, keys.shape
    ((1, 2, 5, 2), (1, 1, 5, 2))
    """
    size, rest = divmod(x.shape[-1], sum(heads))
    if rest:
        raise ValueError(f"{x.shape[-1]} features do not divide into {' + '.join(map(str, heads))} heads")
    apart = x.reshape(*x.shape[:-1], sum(heads), size).swapaxes(-2, -3)  # (batch, all heads, T, size)
    ends = np.cumsum(heads).tolist()  # where the queries, the keys and the values end among all heads
    parts = tuple([apart[..., end - n : end, :, :] for n, end in zip(heads, ends)])
    return parts if len(parts) > 1 else parts[0]


@op(view=True)
def join_heads(*parts: Array) -> Array:
    """Several (batch, heads, T, size) side by side as (batch, T, sum of heads * size): undoes `split_heads`.

    >>> join_heads(np.ones((1, 2, 5, 2), np.float32), np.ones((1, 1, 5, 2), np.float32)).shape
    (1, 5, 6)
    """
    swapped = [x.swapaxes(-2, -3) for x in parts]  # (batch, T, heads, size)
    apart = swapped[0] if len(parts) == 1 else np.concatenate(swapped, -2)
    # copies nothing where the attention kernel laid out the memory
    return apart.reshape(*apart.shape[:-2], apart.shape[-2] * apart.shape[-1])


@gradient(split_heads)
def _(out: Any, x: Any, heads: tuple[int, ...]) -> Any:
    shapes = [part.shape for part in (out if isinstance(out, tuple) else (out,))]
    dtype = x.dtype

    def for_x(g: Any) -> Any:
        parts = g if isinstance(g, tuple) else (g,)
        # a part that nothing used has no gradient, which counts as 0
        return join_heads(*[zeros(shape, dtype=dtype) if p is None else p for p, shape in zip(parts, shapes)])

    return for_x


@gradient(join_heads)
def _(out: Any, *parts: Any) -> Any:
    heads = tuple([x.shape[-3] for x in parts])
    return lambda g: split_heads(g, heads=heads)
