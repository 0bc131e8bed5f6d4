"""Module 18: products by tiles give what float64 gives, in any layout, and the same bits on any number of threads."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import tt_core as tt
from tt_core.engine.dispatch import quietly, registry
from tt_perf.acceleration import compiled, plain
from tt_perf.kernels import product_loops, products

NUMBA = pytest.mark.skipif(importlib.util.find_spec("numba") is None, reason="Numba is not installed")
random = np.random.default_rng(4)
Kernels = dict[str, Callable[..., Any]]


@pytest.fixture(params=["plain", pytest.param("compiled", marks=NUMBA)])
def loops(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The loops as they stand there, or compiled, used on every processor and for small products too."""
    monkeypatch.setattr(products, "FASTER", True)
    monkeypatch.setattr(products, "SMALL", 1)
    return plain() if request.param == "plain" else compiled()


def normal(*shape: int) -> np.ndarray:
    return random.standard_normal(shape, np.float32)


def agree(kernels: Kernels, name: str, *inputs: Any) -> None:
    wide = [x if x is None else x.astype(np.float64) for x in inputs]
    wanted, found = registry[name].formula(*wide), quietly(kernels[name], *inputs)
    assert (found.shape, found.dtype) == (wanted.shape, np.float32)
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=2e-6 * inputs[0].shape[-1])


def counting(loops: Any) -> tuple[Kernels, list[int]]:
    """The kernels, and a list that grows with each call of the loop."""
    calls: list[int] = []

    def run(*arguments: Any) -> None:
        calls.append(1)
        loops["matrix_product"](*arguments)

    return products.products_from({"matrix_product": run}), calls


SHAPES = [(16, 1, 16), (17, 5, 33), (30, 300, 70), (64, 40, 32), (25, 513, 40)]


@pytest.mark.parametrize("shape", SHAPES)
def test_products_in_any_layout(loops: Any, shape: tuple[int, int, int]) -> None:
    kernels, calls = counting(loops)
    m, k, n = shape
    a, b, bias = normal(m, k), normal(k, n), normal(n)
    layouts = [lambda x: x, np.asfortranarray, lambda x: np.ascontiguousarray(np.pad(x, 3))[3:-3, 3:-3]]
    for first in layouts:
        for second in layouts:
            agree(kernels, "matmul", first(a), second(b))
            agree(kernels, "linear", first(a), second(b).T, bias)
            agree(kernels, "linear", first(a), second(b).T, None)
            agree(kernels, "rows_product", first(a).T, second(b))
    assert len(calls) == 4 * 9


def test_stacks_are_folded(loops: Any) -> None:
    kernels, calls = counting(loops)
    x, weight, bias = normal(4, 5, 24), normal(40, 24), normal(40)
    agree(kernels, "linear", x, weight, bias)
    agree(kernels, "matmul", x, weight.T)
    agree(kernels, "rows_product", normal(2, 6, 17), normal(2, 6, 20))
    assert len(calls) == 3


def test_other_products_stay_with_blas(loops: Any) -> None:
    kernels, calls = counting(loops)
    a, b = normal(20, 30), normal(30, 20)
    agree(kernels, "matmul", a[:3], b)
    agree(kernels, "matmul", a, b[:, :2])
    agree(kernels, "matmul", a[:, ::2], b[::2])
    agree(kernels, "matmul", a[:, ::-1], b)
    agree(kernels, "matmul", a, b[:, 0])
    agree(kernels, "matmul", normal(2, 20, 30), normal(2, 30, 20))
    agree(kernels, "linear", a, b[:, 0], None)
    assert kernels["matmul"](a.astype(np.float64), b).dtype == np.float64
    assert kernels["matmul"](a[:, :0], b[:0]).tolist() == np.zeros((20, 20)).tolist()
    assert calls == []
    with pytest.raises(ValueError, match="input has 30 features, weight expects 20"):
        kernels["linear"](a, b, None)


def test_nan_and_infinity_stay_in_their_row_and_column(loops: Any) -> None:
    kernels, _ = counting(loops)
    a, b = normal(21, 50), normal(50, 37)
    a[20, 3], a[4, 6], b[7, 36] = np.nan, np.inf, -np.inf
    with np.errstate(all="ignore"):
        found, wanted = kernels["matmul"](a, b), a @ b
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-4)


@NUMBA
def test_the_number_of_threads_changes_no_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(products, "FASTER", True)
    kernels = products.products_from(compiled())
    wide, tall = (normal(100, 700), normal(700, 900)), (normal(3000, 200), normal(200, 17))
    before, found = tt.get_num_threads(), set()
    try:
        for number in (1, 2, 4) * 34:
            tt.set_num_threads(number)
            found.add(kernels["matmul"](*wide).tobytes() + kernels["matmul"](*tall).tobytes())
    finally:
        tt.set_num_threads(before)
    assert len(found) == 1


def _no_block(*_: Any) -> None:
    """Packs nothing."""


@pytest.mark.parametrize(("name", "broken"), [("pack", _no_block), ("DEEP", 4)])
def test_sabotage_turns_a_check_red(name: str, broken: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(products, "FASTER", True)
    monkeypatch.setattr(products, "SMALL", 1)
    test_products_in_any_layout(plain(), (30, 300, 70))
    monkeypatch.setattr(product_loops, name, broken)
    if name == "DEEP":  # another depth changes the order of sums and nothing else
        test_products_in_any_layout(plain(), (30, 300, 70))
    else:
        with np.errstate(all="ignore"), pytest.raises(AssertionError):
            test_products_in_any_layout(plain(), (30, 300, 70))


@pytest.mark.parametrize("shape", [(64, 32, 64), (24, 300, 32), (13, 7, 70), (1, 24, 61), (8, 1, 1)])
@pytest.mark.parametrize("adds", [False, True])
@pytest.mark.parametrize("scale", [1, 0.25])
def test_small_products_between_strided_matrices(
    loops: Any, shape: tuple[int, int, int], adds: bool, scale: float
) -> None:
    m, k, n = shape
    layouts = [lambda x: np.pad(x, 3)[3:-3, 3:-3], lambda x: np.pad(x.T, 3)[3:-3, 3:-3].T]
    for first in layouts:
        for second in layouts:
            a, b, whole = first(normal(m, k)), second(normal(k, n)), np.full((m + 2, n + 5), np.nan, np.float32)
            out, before = whole[1:-1, 2:-3], normal(m, n)
            out[:] = before if adds else np.inf
            loops["strided_product"](a, b, out, np.float32(scale), adds, product_loops.tools())
            wanted = scale * (a.astype(np.float64) @ b) + (before if adds else 0)
            np.testing.assert_allclose(out, wanted, rtol=1e-5, atol=2e-6 * k)
            assert np.isnan(whole).sum() == whole.size - out.size
