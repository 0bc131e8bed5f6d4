"""Beside module 18: kernels of sums and means over the loops of `sum_loops.py`.

Dimensions that are reduced, or kept, and lie side by side count as one. What is left is rows, columns, or both:

    (2, 3, 4) over all, or the last            rows
    (2, 3, 4) over the first, or the second    columns of matrices
    (2, 3, 4, 5) over 0, 2, 3                  rows, and then columns: a number for each channel
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from tt_core.engine.dispatch import Array
from tt_core.engine.threads import in_parallel
from tt_core.tensor import reductions as R
from tt_core.tensor.reductions import Dim
from tt_data.spatial import adaptive_pooling as A
from tt_perf.acceleration.uncovered import contiguous, leave, unfit

Call = Callable[..., Any]
number = np.float32

FEW = 1 << 14
"""Numbers below which NumPy's sum takes less time than calling a loop."""
_PIECE = 1 << 16
"""Numbers of a long sum that are added by one thread."""


@dataclass(frozen=True)
class Stretches:
    """Dimensions of an array as stretches that are reduced (R) or kept (K), without those of size 1."""

    kinds: str
    sizes: tuple[int, ...]
    shape: tuple[int, ...]
    """Of the result."""
    kept: tuple[int, ...]
    """Of the result with `keepdim`."""


@functools.lru_cache(maxsize=512)
def stretches(shape: tuple[int, ...], dims: tuple[int, ...] | None) -> Stretches | None:
    """What a sum over `dims` of an array of `shape` is; None for dimensions that do not exist, or are named twice.

    >>> stretches((2, 3, 4, 5), (0, 2, 3))
    Stretches(kinds='RKR', sizes=(2, 3, 20), shape=(3,), kept=(1, 3, 1, 1))
    """
    ndim = len(shape)
    found = {d % ndim for d in dims} if dims is not None else set(range(ndim))
    if dims is not None and not (len(found) == len(dims) and all(-ndim <= d < ndim for d in dims)):
        return None
    reduced = [d in found for d in range(ndim)]
    pairs = [(r, n) for r, n in zip(reduced, shape) if n != 1]
    groups = [(r, math.prod(n for _, n in group)) for r, group in itertools.groupby(pairs, lambda pair: pair[0])]
    kinds, sizes = "".join("R" if r else "K" for r, _ in groups), tuple(n for _, n in groups)
    left = tuple(n for r, n in zip(reduced, shape) if not r)
    return Stretches(kinds, sizes, left, tuple(1 if r else n for r, n in zip(reduced, shape)))


def sums_from(loop: dict[str, Call]) -> dict[str, Call]:
    """Kernels of sums and means, by the ops' names."""

    def sum(x: Array, /, dim: Dim = None, keepdim: bool = False) -> Array:
        """0.3 to 0.4 of the time of NumPy's kernel on rows and on everything, 0.9 on columns; one core."""
        return _reduced("sum", R.sum.kernel, x, dim, keepdim)

    def mean(x: Array, /, dim: Dim = None, keepdim: bool = False) -> Array:
        """As `sum`."""
        return _reduced("mean", R.mean.kernel, x, dim, keepdim)

    def _reduced(name: str, numpys: Call, x: Array, dim: Dim, keepdim: bool) -> Array:
        if type(x) is not np.ndarray or x.size < FEW:
            return numpys(x, dim=dim, keepdim=keepdim)
        dims = dim if dim is None else tuple(dim) if isinstance(dim, (tuple, list)) else (dim,)
        plan = stretches(x.shape, dims)
        total = None if plan is None or unfit(x) else added(x, plan)
        if plan is None or total is None:
            leave(name, unfit(x) or "dimensions")
            return numpys(x, dim=dim, keepdim=keepdim)
        if name == "mean":
            total = total / number(x.size // math.prod(plan.shape))
        return total.reshape(plan.kept if keepdim else plan.shape)

    def added(x: Array, plan: Stretches) -> Array | None:
        """The sums as one row of numbers; None if neither rows nor columns are left."""
        kinds, sizes = plan.kinds, plan.sizes
        if kinds == "R":
            return everything(x.reshape(-1))
        if kinds in ("RK", "KRK"):
            return columns(x.reshape(-1, *sizes[-2:])).reshape(-1)
        if kinds in ("KR", "RKR"):
            found = rows(x.reshape(-1, sizes[-1]))
            return found if kinds == "KR" else columns(found.reshape(1, *sizes[:2])).reshape(-1)
        return None

    def rows(x: Array) -> Array:
        out = np.empty(len(x), number)
        in_parallel(lambda part: loop["row_sums"](x[part], out[part]), len(x), x.nbytes)
        return out

    def columns(x: Array) -> Array:
        out = np.empty((len(x), x.shape[2]), number)
        in_parallel(lambda part: loop["stacked_column_sums"](x, out, part.start, part.stop), x.shape[2], x.nbytes)
        return out

    def everything(x: Array) -> Array:
        whole = len(x) // _PIECE * _PIECE
        parts = rows(x[:whole].reshape(-1, _PIECE)), rows(x[whole:].reshape(1, -1))
        return np.array(np.add.reduce(np.concatenate(parts), dtype=np.float64), number)

    def adaptive_avg_pool2d(x: Array, /, output_size: A.OutputSize) -> Array:
        """The mean of each channel: 0.03 of the time of NumPy's kernel on (32, 128, 8, 8), one core."""
        if unfit(x) or x.ndim != 4 or not x.size or output_size not in (1, (1, 1)):
            leave("adaptive_avg_pool2d", unfit(x) or "more than one window, one image, or empty")
            return A.adaptive_avg_pool2d.kernel(x, output_size=output_size)
        count = math.prod(x.shape[2:])
        return (rows(x.reshape(-1, count)) / number(count)).reshape(*x.shape[:2], 1, 1)

    def adaptive_avg_pool2d_backward(g: Array, /, size: tuple[int, int]) -> Array:
        """0.2 of the time of NumPy's kernel on (32, 128, 8, 8), one core."""
        g = contiguous(g)
        if unfit(g) or g.ndim != 4 or g.shape[2:] != (1, 1):
            leave("adaptive_avg_pool2d_backward", unfit(g) or "more than one window, or one image")
            return A.adaptive_avg_pool2d_backward.kernel(g, size=size)
        out = np.empty((*g.shape[:2], *size), number)
        out[...] = g / number(math.prod(size))
        return out

    made: tuple[Call, ...] = (sum, mean, adaptive_avg_pool2d, adaptive_avg_pool2d_backward)
    return {kernel.__name__: kernel for kernel in made}
