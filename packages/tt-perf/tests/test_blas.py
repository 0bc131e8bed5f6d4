"""Matrix products that compiled loops ask of BLAS."""

from __future__ import annotations

import ctypes
import itertools
import threading
from typing import Any

import numpy as np
import pytest

from tt_perf.acceleration import blas

numba = pytest.importorskip("numba")

FOUND = blas.find_blas()
RANDOM = np.random.default_rng(0)
ONE, ZERO = np.float32(1), np.float32(0)

pytestmark = pytest.mark.skipif(FOUND is None, reason="NumPy's BLAS is not one that can be called by its address")


@pytest.fixture(scope="module")
def product() -> Any:
    gemm = blas.compiled_gemm()

    @numba.njit(nogil=True)
    def product(found, a, b, out, alpha, beta):
        gemm(found, a, b, out, alpha, beta)

    return product


def matrix(rows: int, columns: int, layout: str) -> np.ndarray:
    x = RANDOM.standard_normal((rows, columns)).astype(np.float32)
    if layout == "transposed":
        return np.ascontiguousarray(x.T).T
    if layout == "part":  # rows further apart than they are long, as one head of an undivided array
        whole = np.full((rows, columns + 5), np.nan, np.float32)
        whole[:, 2 : columns + 2] = x
        return whole[:, 2 : columns + 2]
    if layout == "part transposed":
        return matrix(columns, rows, "part").T
    return x


LAYOUTS = "whole", "transposed", "part", "part transposed"
SHAPES = (1, 1, 1), (1, 7, 5), (4, 1, 3), (5, 6, 1), (3, 4, 5), (64, 33, 32), (17, 128, 64), (130, 70, 90)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_products_match_numpy(product: Any, shape: tuple[int, int, int]) -> None:
    m, k, n = shape
    for left, right, whole in itertools.product(LAYOUTS, LAYOUTS, (True, False)):
        for alpha, beta in ((1.0, 0.0), (0.5, 1.0), (-2.0, 0.25), (0.0, 1.0)):
            a, b, out = matrix(m, k, left), matrix(k, n, right), matrix(m, n, "whole" if whole else "part")
            expected = alpha * (a.astype(np.float64) @ b) + beta * out
            product(FOUND, a, b, out, np.float32(alpha), np.float32(beta))
            np.testing.assert_allclose(out, expected, rtol=2e-5, atol=2e-5, err_msg=f"{left} {right} {alpha} {beta}")


def test_the_loop_without_a_compiler_says_the_same(product: Any) -> None:
    a, b = matrix(5, 6, "part"), matrix(6, 4, "transposed")
    ours, plain = np.ones((5, 4), np.float32), np.ones((5, 4), np.float32)
    product(FOUND, a, b, ours, np.float32(3), np.float32(2))
    blas.gemm(FOUND, a, b, plain, 3, 2)
    np.testing.assert_allclose(ours, plain, rtol=1e-5, atol=1e-5)


def test_with_beta_0_the_result_is_not_read(product: Any) -> None:
    out = np.full((3, 3), np.nan, np.float32)
    product(FOUND, np.ones((3, 2), np.float32), np.ones((2, 3), np.float32), out, ONE, ZERO)
    assert (out == 2).all()


def test_nothing_around_the_result_is_written(product: Any) -> None:
    whole = np.full((6, 9), 7, np.float32)
    product(FOUND, matrix(4, 3, "whole"), matrix(3, 5, "whole"), whole[1:5, 2:7], ONE, ZERO)
    outside = np.ones_like(whole, bool)
    outside[1:5, 2:7] = False
    assert (whole[outside] == 7).all()


def test_empty_matrices(product: Any) -> None:
    out = np.full((2, 3), 4, np.float32)
    product(FOUND, np.empty((2, 0), np.float32), np.empty((0, 3), np.float32), out, ONE, ZERO)
    assert (out == 0).all()  # a sum of nothing
    for m, n in ((0, 3), (3, 0)):
        product(
            FOUND, np.empty((m, 2), np.float32), np.empty((2, n), np.float32), np.empty((m, n), np.float32), ONE, ZERO
        )


def refused() -> dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]]:
    a, b, out = matrix(4, 6, "whole"), matrix(6, 5, "whole"), matrix(4, 5, "whole")
    return {
        "inner size": (a[:, :5], b, out),
        "rows of the result": (a, b, out[:3]),
        "columns of the result": (a, b, out[:, :3]),
        "columns of the result are contiguous": (a, b, matrix(4, 5, "transposed")),
        "every other column": (matrix(4, 12, "whole")[:, ::2], b, out),
        "backwards": (a[:, ::-1], b, out),
        "rows backwards": (a[::-1], b, out),
        "one row for all": (np.broadcast_to(a[0], a.shape), b, out),
        "overlapping rows": (np.lib.stride_tricks.as_strided(a, (4, 6), (8, 4)), b, out),
    }


@pytest.mark.parametrize("case", refused())
def test_what_blas_cannot_read_is_an_error(product: Any, case: str) -> None:
    a, b, out = refused()[case]
    with pytest.raises(ValueError, match="gemm"):
        product(FOUND, a, b, out, ONE, ZERO)


def test_integers_of_32_bits(product: Any) -> None:
    """A library with short integers, here a function in Python: what it is given, and what it gives back."""
    calls = []
    whole, pointer, scalar = ctypes.c_int32, ctypes.c_void_p, ctypes.c_float
    types = [ctypes.c_int] * 3 + [whole] * 3 + [scalar, pointer, whole, pointer, whole, scalar, pointer, whole]

    @ctypes.CFUNCTYPE(None, *types)
    def sgemm(*given):
        calls.append(given)

    address = ctypes.cast(sgemm, ctypes.c_void_p).value
    a, b, out = matrix(4, 6, "part"), matrix(6, 5, "transposed"), matrix(4, 5, "whole")
    gemm = blas.compiled_gemm()
    numba.njit(lambda *given: gemm(*given))((address, 4), a, b, out, np.float32(0.5), np.float32(2))  # holds the lock
    addresses = [x.__array_interface__["data"][0] for x in (a, b, out)]
    assert calls == [(101, 111, 112, 4, 5, 6, 0.5, addresses[0], 11, addresses[1], 6, 2.0, addresses[2], 5)]


class Library:
    """A loaded library that has these names."""

    def __init__(self, name: str = "libblas.so", **functions: Any) -> None:
        self._name = name
        vars(self).update(functions)


@pytest.mark.parametrize(
    ("library", "size"),
    [
        (Library(), 4),
        (Library(openblas_get_config=lambda: b"OpenBLAS 0.3.30 USE64BITINT DYNAMIC_ARCH"), 8),
        (Library(openblas_get_config=lambda: b"OpenBLAS 0.3.30 DYNAMIC_ARCH"), 4),
        (Library(bli_info_get_blas_int_type_size=lambda: 64), 8),
        (Library(bli_info_get_blas_int_type_size=lambda: 32), 4),
        (Library("/usr/lib/libmkl_intel_ilp64.so.2"), 8),
        (Library("/usr/lib/libmkl_rt.so.2"), 4),
    ],
)
def test_how_long_the_integers_of_a_library_are(library: Any, size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MKL_INTERFACE_LAYER", raising=False)
    assert blas._integer_size(library) == size


def test_mkl_with_a_layer_of_long_integers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MKL_INTERFACE_LAYER", "GNU,ILP64")
    assert blas._integer_size(Library("/usr/lib/libmkl_rt.so.2")) == 8  # type: ignore[arg-type]


def test_a_library_without_products() -> None:
    assert blas.blas_of(Library()) is None  # type: ignore[arg-type]


def test_a_library_with_wrong_products_is_not_taken() -> None:
    whole, pointer, scalar = ctypes.c_int64, ctypes.c_void_p, ctypes.c_float
    types = [ctypes.c_int] * 3 + [whole] * 3 + [scalar, pointer, whole, pointer, whole, scalar, pointer, whole]
    lazy = ctypes.CFUNCTYPE(None, *types)(lambda *given: None)
    assert blas.blas_of(Library(cblas_sgemm64_=lazy)) is None  # type: ignore[arg-type]


def test_two_threads_at_once(product: Any) -> None:
    a, b = matrix(90, 80, "whole"), matrix(80, 70, "transposed")
    outs = [np.empty((90, 70), np.float32) for _ in range(2)]

    def work(out: np.ndarray) -> None:
        for _ in range(50):
            product(FOUND, a, b, out, ONE, ZERO)

    threads = [threading.Thread(target=work, args=(out,)) for out in outs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for out in outs:
        np.testing.assert_allclose(out, a.astype(np.float64) @ b, rtol=1e-5, atol=1e-4)
