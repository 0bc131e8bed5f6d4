"""Part of module 18: matrix products for compiled loops, which call BLAS by its address.

A compiled loop that leaves Numba for each product waits for Python's lock each time. BLAS is a C function, and a loop
that knows its address calls it directly: product, softmax and product of one head of attention run in one call that
never returns to Python. The address is an argument, so that compiled code can be kept on disk (an address changes with
each process) and another library can take the place of NumPy's.

`find_blas()` finds the library that NumPy multiplies with. `gemm` is the product in NumPy, for loops that run without a
compiler; `compiled_gemm()` is the same for loops that Numba compiles. What this file does not do: say how many threads
BLAS uses.
"""

from __future__ import annotations

import ctypes
import functools
import os
import sys
from collections.abc import Callable
from typing import Any, Final

import numpy as np
from threadpoolctl import ThreadpoolController  # type: ignore[import-untyped,unused-ignore]

from tt_core.engine.dispatch import Array
from tt_core.engine.plugins import manager

Blas = tuple[int, int]
"""The address of `cblas_sgemm` and the bytes of its integers, 4 or 8; `gemm`'s first argument."""

_SYMBOLS: Final[dict[str, int | None]] = {
    "scipy_cblas_sgemm64_": 8,  # scipy-openblas64, in NumPy's wheels
    "cblas_sgemm64_": 8,  # OpenBLAS with 64-bit integers in Linux distributions and Julia
    "cblas_sgemm_64": 8,  # MKL's second interface, and LAPACK's reference since 3.12
    "cblas_sgemm$NEWLAPACK$ILP64": 8,  # Apple's Accelerate since macOS 13.3
    "cblas_sgemm$NEWLAPACK": 4,
    "scipy_cblas_sgemm": 4,  # scipy-openblas32
    "cblas_sgemm": None,  # any other; the library says how long its integers are
}
"""Names of `cblas_sgemm` in the order they are looked for, and the bytes of its integers."""

ROW_MAJOR, AS_IS, TRANSPOSED = 101, 111, 112  # of cblas.h


def find_blas() -> Blas | None:
    """The `cblas_sgemm` for compiled loops: its address and the bytes of its integers; None if there is none to call.

    It is NumPy's, unless an active plugin has another one in its attribute `blas` (`mkl`). Loops are bound again when
    such a plugin comes or goes, so they ask here when they are bound.

    >>> find_blas() is None or find_blas()[1] in (4, 8)
    True
    """
    given = (getattr(plugin, "blas", None) for plugin in manager.get_plugins())
    return next((found for found in given if found), None) or blas_of_numpy()


@functools.cache
def blas_of_numpy() -> Blas | None:
    """The `cblas_sgemm` that NumPy uses; None if there is none to call."""
    for library in _libraries():
        found = blas_of(library)
        if found:
            return found
    return None


def blas_of(library: ctypes.CDLL) -> Blas | None:
    """The `cblas_sgemm` of a loaded library, or None if it has none that multiplies two matrices rightly."""
    for name, size in _SYMBOLS.items():
        function = getattr(library, name, None)
        if function is not None:
            address = ctypes.cast(function, ctypes.c_void_p).value or 0
            found = address, size or _integer_size(library)
            return found if _multiplies(found) else None
    return None


def _libraries() -> list[ctypes.CDLL]:
    """Where NumPy's BLAS may be: what NumPy's core was linked with, then every BLAS in the process."""
    core = sys.modules["numpy._core._multiarray_umath"].__file__
    paths = [core, *(library["filepath"] for library in ThreadpoolController().select(user_api="blas").info())]
    found = []
    for path in paths:
        try:
            # a handle also finds the symbols of the libraries that this one was linked with, except on Windows
            found.append(ctypes.CDLL(path))
        except OSError:
            continue
    return found


def _integer_size(library: ctypes.CDLL) -> int:
    """Bytes of the integers of a library whose names do not tell: 4, unless it says that it was built with 8."""
    config, blis = (getattr(library, name, None) for name in ("openblas_get_config", "bli_info_get_blas_int_type_size"))
    if config is not None:
        config.restype = ctypes.c_char_p
        return 8 if b"USE64BITINT" in (config() or b"") else 4
    if blis is not None:
        return 8 if blis() == 64 else 4
    mkl = f"{library._name} {os.environ.get('MKL_INTERFACE_LAYER', '')}".lower()
    return 8 if "mkl" in mkl and "ilp64" in mkl else 4


def _multiplies(blas: Blas) -> bool:
    """Whether the function multiplies two small matrices as NumPy does."""
    a, b = np.arange(6, dtype=np.float32).reshape(2, 3), np.arange(12, dtype=np.float32).reshape(3, 4)
    out = np.full((2, 4), np.nan, np.float32)
    matrices = 2.0, a.ctypes.data, 3, b.ctypes.data, 4, 0.0, out.ctypes.data, 4
    function_of(blas)(ROW_MAJOR, AS_IS, AS_IS, 2, 4, 3, *matrices)
    return bool(np.array_equal(out, 2 * (a @ b)))


def function_of(blas: Blas) -> Callable[..., None]:
    """The function for Python, with the arguments of `cblas_sgemm`; it lets other threads run meanwhile."""
    address, size = blas
    whole = ctypes.c_int64 if size == 8 else ctypes.c_int32
    matrix, scalar, setting = ctypes.c_void_p, ctypes.c_float, ctypes.c_int
    types = [setting] * 3 + [whole] * 3 + [scalar, matrix, whole, matrix, whole, scalar, matrix, whole]
    return ctypes.CFUNCTYPE(None, *types)(address)


def gemm(blas: Blas, a: Array, b: Array, out: Array, alpha: Any, beta: Any) -> None:
    """`out = alpha a @ b + beta out` for matrices of float32, whose rows or columns are contiguous; `out` has rows.

    Slices and transposes are views, so one head of an undivided array, or the transpose of a matrix, is multiplied
    where it lies. If beta is 0, what `out` held does not matter, nan included.

    >>> out = np.empty((1, 2), np.float32)
    >>> gemm((0, 8), np.ones((1, 3), np.float32), np.ones((2, 3), np.float32).T, out, 2.0, 0.0)
    >>> out.tolist()
    [[6.0, 6.0]]
    """
    product = (a @ b) * np.float32(alpha)
    out[...] = product if beta == 0 else product + np.float32(beta) * out


@functools.cache
def compiled_gemm() -> Callable[..., None]:
    """`gemm` for functions that Numba compiles; it calls BLAS at the given address. Needs Numba.

    Raises ValueError, also inside compiled code, for matrices that do not fit together or that BLAS cannot read.
    """
    import numba  # type: ignore[import-not-found,import-untyped,unused-ignore]

    call = _intrinsic()

    @numba.njit(error_model="numpy")  # type: ignore[untyped-decorator,unused-ignore]
    def step(count: int, length: int, outer: int, inner: int) -> int:
        """Elements from row to row, or -1 if `count` rows of `length` elements do not lie at these strides (bytes)."""
        if not count or not length:
            return max(length, 1)
        if (length > 1 and inner != 4) or (count > 1 and (outer % 4 or outer < 4 * length)):
            return -1
        return max(outer // 4 if count > 1 else 0, length, 1)

    @numba.njit(error_model="numpy")  # type: ignore[untyped-decorator,unused-ignore]
    def gemm(blas: Blas, a: Array, b: Array, out: Array, alpha: Any, beta: Any) -> None:
        m, k, n = a.shape[0], a.shape[1], b.shape[1]
        if b.shape[0] != k or out.shape[0] != m or out.shape[1] != n:
            raise ValueError("gemm: shapes must be (m, k), (k, n) and (m, n)")
        kind_a, lda = AS_IS, step(m, k, a.strides[0], a.strides[1])
        if lda < 0:
            kind_a, lda = TRANSPOSED, step(k, m, a.strides[1], a.strides[0])
        kind_b, ldb = AS_IS, step(k, n, b.strides[0], b.strides[1])
        if ldb < 0:
            kind_b, ldb = TRANSPOSED, step(n, k, b.strides[1], b.strides[0])
        ldc = step(m, n, out.strides[0], out.strides[1])
        if lda < 0 or ldb < 0 or ldc < 0:
            raise ValueError("gemm: rows or columns must be contiguous, and the rows of the result")
        call(blas, kind_a, kind_b, m, n, k, np.float32(alpha), a, lda, b, ldb, np.float32(beta), out, ldc)

    return gemm  # type: ignore[no-any-return,unused-ignore]


def _intrinsic() -> Any:
    """Numba's form of a call of `cblas_sgemm` at an address, with integers of the size that stands beside it."""
    from llvmlite import ir  # type: ignore[import-not-found,import-untyped,unused-ignore]
    from numba.core import cgutils, types  # type: ignore[import-not-found,import-untyped,unused-ignore]
    from numba.extending import intrinsic  # type: ignore[import-not-found,import-untyped,unused-ignore]
    from numba.np import arrayobj  # type: ignore[import-not-found,import-untyped,unused-ignore]

    make_array: Any = arrayobj.make_array  # Numba has type hints, but not on these
    unpack_tuple: Any = cgutils.unpack_tuple
    tuple_of: Any = types.UniTuple
    setting, scalar, matrix = ir.IntType(32), ir.FloatType(), ir.IntType(8).as_pointer()

    def emit(builder: Any, address: Any, bits: int, values: list[Any]) -> None:
        whole = ir.IntType(bits)
        kinds = [setting] * 3 + [whole] * 3 + [scalar, matrix, whole, matrix, whole, scalar, matrix, whole]
        function = builder.inttoptr(address, ir.FunctionType(ir.VoidType(), kinds).as_pointer())
        narrow = {
            i: builder.trunc(v, kind)
            for i, (v, kind) in enumerate(zip(values, kinds))
            if isinstance(kind, ir.IntType) and v.type != kind
        }
        builder.call(function, [narrow.get(i, v) for i, v in enumerate(values)])

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        values = [setting(ROW_MAJOR)]
        for kind, value in zip(signature.args[1:], args[1:]):
            if isinstance(kind, types.Array):
                value = builder.bitcast(make_array(kind)(context, builder, value).data, matrix)
            values.append(value)
        address, size = unpack_tuple(builder, args[0])
        with builder.if_else(builder.icmp_signed("==", size, size.type(8))) as (long, short):
            with long:
                emit(builder, address, 64, values)
            with short:
                emit(builder, address, 32, values)
        return context.get_dummy_value()

    @intrinsic  # type: ignore[untyped-decorator,unused-ignore]
    def call(
        typing: Any, blas: Any, kind_a: Any, kind_b: Any, m: Any, n: Any, k: Any, alpha: Any,
        a: Any, lda: Any, b: Any, ldb: Any, beta: Any, c: Any, ldc: Any,
    ) -> Any:  # fmt: skip
        """The arguments of cblas_sgemm after its order, integers of 64 bits."""
        if any(not isinstance(x, types.Array) or x.dtype != types.float32 or x.ndim != 2 for x in (a, b, c)):
            return None
        whole = types.int64
        pair = tuple_of(whole, 2)
        sizes = [whole] * 5 + [types.float32]
        return types.void(pair, *sizes, a, whole, b, whole, types.float32, c, whole), codegen

    return call
