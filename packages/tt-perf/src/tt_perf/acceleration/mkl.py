"""Part of module 18: the plugin `mkl`, matrix products by Intel's MKL in place of NumPy's BLAS. `pip install mkl`.

Compiled loops call BLAS by its address (`blas.py`), so another address is all that `jit` needs. Without `jit`, the ops
`linear`, `matmul` and `rows_product` call it from here, which takes 3 us a call. MKL computes on the thread that calls
it; large products are shared over TinyTorch's threads.

Whether it gains depends on the processor: products of a GPT took 0.7 to 0.9 of OpenBLAS's time on one machine, and 1.1
to 1.3 on another, an AMD EPYC, for which MKL does not choose its fastest code. So the plugin reports the time of a
product of 256 x 256 matrices.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import functools
import importlib.metadata
import itertools
import math
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from tt_core import linear, matmul
from tt_core.engine.dispatch import Array, Op
from tt_core.engine.errors import PluginError
from tt_core.engine.hookspecs import hookimpl
from tt_core.engine.threads import in_parallel
from tt_learn.rules.products import rows_product
from tt_perf.acceleration.blas import AS_IS, ROW_MAJOR, TRANSPOSED, Blas, blas_of, blas_of_numpy, function_of

Call = Callable[..., Any]

SMALL = 1 << 18
"""Multiplications below which a call through ctypes costs more than another BLAS could save."""
LARGE = 10_000_000
"""Multiplications from which threads share a product."""
_SEQUENTIAL = 1  # of MKL_Set_Threading_Layer
_NAMES = ("libmkl_rt.so*", "libmkl_rt*.dylib", "mkl_rt*.dll")


# --- where it is


def find_mkl() -> Blas:
    """The `cblas_sgemm` of MKL, which computes on the thread that calls it. Raises `PluginError` where there is none.

    The library `mkl_rt` is looked for in the files of the package `mkl` of pip or conda, in the folders of this Python,
    of conda, MKLROOT and oneAPI, and where the system keeps libraries.
    """
    problems = []
    for path in dict.fromkeys(_places()):
        try:
            library = ctypes.CDLL(path)
            library.MKL_Set_Threading_Layer(_SEQUENTIAL)
            found = blas_of(library)
        except (OSError, AttributeError) as error:
            problems.append(f"{path}: {error}")
            continue
        if found:
            return found
        problems.append(f"{path}: it has no cblas_sgemm that multiplies rightly")
    reason = problems[0] if problems else "the library mkl_rt is not installed"
    raise PluginError(f"mkl needs Intel's MKL ({reason}): pip install mkl")


def _places() -> Iterator[str]:
    """Paths of libraries that may be MKL's, the likeliest first."""
    yield from _files_of_package()
    roots = [sys.prefix, os.environ.get("CONDA_PREFIX", ""), os.environ.get("MKLROOT", ""), sys.base_prefix]
    roots += ["/opt/intel/oneapi/mkl/latest", r"C:\Program Files (x86)\Intel\oneAPI\mkl\latest"]
    folders = ("lib", "lib/intel64", "Library/bin", "bin")
    for root, folder, name in itertools.product(filter(None, roots), folders, _NAMES):
        yield from map(str, sorted(Path(root, folder).glob(name)))
    known = ctypes.util.find_library("mkl_rt")
    if known:
        yield known


def _files_of_package() -> Iterator[str]:
    """The files that pip or conda noted; with `pip install --target`, they are in `../../lib` of the target."""
    try:
        package = importlib.metadata.distribution("mkl")
    except importlib.metadata.PackageNotFoundError:
        return
    for file in package.files or ():
        path = Path(str(package.locate_file(file)))
        if any(path.match(name) for name in _NAMES):
            yield str(path.resolve())


# --- products


def products(blas: Blas) -> dict[str, Call]:
    """Kernels of the ops that are matrix products, by name; what is small, or not of float32, is left to NumPy."""
    sgemm = function_of(blas)

    def product(a: Array, b: Array) -> Array | None:
        """`a @ b` for matrices; None for what is left to NumPy."""
        if a.dtype != np.float32 or b.dtype != np.float32 or a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[0]:
            return None
        (m, k), n = a.shape, b.shape[1]
        size, left, right = m * k * n, _layout(a), _layout(b)
        if size < SMALL or min(m, n) == 1 or left is None or right is None:
            return None
        out = np.empty((m, n), np.float32)

        def multiply(part: slice) -> None:
            rows = slice(None) if m < n else part
            columns = part if m < n else slice(None)
            x, y, z = a[rows], b[:, columns], out[rows, columns]
            given = x.ctypes.data, left[1], y.ctypes.data, right[1], 0.0, z.ctypes.data, n
            sgemm(ROW_MAJOR, left[0], right[0], *z.shape, k, 1.0, *given)

        in_parallel(multiply, max(m, n), 1 << 20 if size >= LARGE else 0)
        return out

    def of_linear(x: Array, weight: Array, bias: Array | None = None, /) -> Array:
        out = product(x.reshape(-1, x.shape[-1]), weight.T) if weight.ndim == 2 and x.ndim and x.size else None
        if out is None or (bias is not None and bias.dtype != np.float32):
            return linear.kernel(x, weight, bias)
        if bias is not None:
            out += bias
        return out.reshape(*x.shape[:-1], len(weight))

    def of_matmul(a: Array, b: Array, /) -> Array:
        fold = a.ndim > 1 and b.ndim == 2 and a.size
        out = product(a.reshape(-1, a.shape[-1]) if a.ndim > 2 else a, b) if fold else None
        return matmul.kernel(a, b) if out is None else out.reshape(*a.shape[:-1], b.shape[1])

    def of_rows(a: Array, b: Array, /) -> Array:
        rows, fits = math.prod(a.shape[:-1]), a.shape[:-1] == b.shape[:-1] and a.size and b.size
        out = product(a.reshape(rows, -1).T, b.reshape(rows, -1)) if fits and a.ndim > 1 else None
        return rows_product.kernel(a, b) if out is None else out

    return {"linear": of_linear, "matmul": of_matmul, "rows_product": of_rows}


def _layout(x: Array) -> tuple[int, int] | None:
    """How BLAS reads a matrix, and the numbers from row to row (or column to column); None if it cannot."""
    outer, inner = x.strides
    if inner == 4 and outer % 4 == 0 and outer >= 4 * x.shape[1]:
        return AS_IS, outer // 4
    if outer == 4 and inner % 4 == 0 and inner >= 4 * x.shape[0]:
        return TRANSPOSED, inner // 4
    return None


# --- the plugin


@functools.cache
def _time_ratio(blas: Blas) -> float:
    """The time of a product of 256 x 256 matrices over that of NumPy's BLAS; the best of several, in turn."""
    ours, theirs = function_of(blas), blas_of_numpy()
    if theirs is None:
        return math.nan
    size, best = 256, [math.inf, math.inf]
    a = np.ones((size, size), np.float32)
    out = np.empty_like(a)
    read, write = a.ctypes.data, out.ctypes.data
    for _ in range(5):
        for i, function in enumerate((ours, function_of(theirs))):
            start = time.perf_counter()
            function(ROW_MAJOR, AS_IS, AS_IS, size, size, size, 1.0, read, size, read, size, 0.0, write, size)
            best[i] = min(best[i], time.perf_counter() - start)
    return best[0] / best[1]


class MklPlugin:
    """What `use("mkl")` activates, beside `jit` or alone."""

    excludes = ("naive",)

    def __init__(self) -> None:
        self._kernels: dict[str, Call] | None = None
        self._blas: Blas | None = None

    @property
    def blas(self) -> Blas:
        """The function that compiled loops call; raises `PluginError` without MKL."""
        if self._blas is None:
            self._blas = find_mkl()
        return self._blas

    @hookimpl
    def tt_kernel(self, op: Op) -> Call | None:
        if self._kernels is None:
            self._kernels = products(self.blas)
        return self._kernels.get(op.name)

    @hookimpl
    def tt_report(self) -> str | None:
        ratio = _time_ratio(self.blas)
        gain = "" if ratio < 0.97 else "; it saves no time on this processor"
        return f"mkl: a product of 256 x 256 matrices takes {ratio:.2f} of the time of NumPy's BLAS{gain}"


plugin = MklPlugin()
