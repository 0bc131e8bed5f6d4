"""Module 18: products by MKL give what NumPy's give, with and without compiled loops, and go as they came."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tt_core as tt
from tt_core.engine.dispatch import quietly, registry
from tt_core.engine.errors import PluginError
from tt_core.engine.plugins import manager
from tt_learn import tensor
from tt_perf.acceleration import blas, mkl

try:
    FOUND: Any = mkl.find_mkl()
except PluginError:
    FOUND = None
MKL = pytest.mark.skipif(FOUND is None, reason="MKL is not installed")
RANDOM = np.random.default_rng(0)


def normal(*shape: int) -> np.ndarray:
    return RANDOM.standard_normal(shape, np.float32)


@pytest.fixture
def plugged(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """The plugin; the list has the multiplications of each product that MKL computed."""
    counted: list[int] = []
    function_of = blas.function_of

    def counting(found: blas.Blas) -> Any:
        function = function_of(found)

        def call(*given: Any) -> None:
            counted.append(given[3] * given[4] * given[5])
            function(*given)

        return call

    monkeypatch.setattr(mkl, "function_of", counting)
    manager.register(mkl.MklPlugin(), "mkl")
    yield counted
    manager.unregister(name="mkl")


SHAPES = [((64, 96), (96, 80)), ((300, 200), (200, 500)), ((4, 32, 96), (96, 128)), ((700, 256), (256, 100))]


@MKL
@pytest.mark.parametrize(("a", "b"), SHAPES)
def test_matmul_is_numpys_up_to_rounding(plugged: list[int], a: tuple[int, ...], b: tuple[int, ...]) -> None:
    x, y = normal(*a), normal(*b)
    wide = np.asfortranarray(y), normal(b[0], b[1] + 8)[:, 4:-4], normal(b[1], b[0]).T
    for right in (y, *wide):
        found = tt.matmul(x, right).data
        assert np.abs(found - x.astype(np.float64) @ right).max() < 1e-4
    assert sum(plugged) == 4 * np.prod(a) * b[1]


@MKL
def test_linear_and_its_gradients(plugged: list[int]) -> None:
    layer, x = tt.Linear(160, 192), tensor(normal(8, 16, 160), requires_grad=True)
    layer(x).square().sum().backward()
    assert len(plugged) >= 3
    found = [x.grad.data, layer.weight.grad.data, layer.bias.grad.data]
    manager.unregister(name="mkl")
    try:
        other = tensor(x.data.copy(), requires_grad=True)
        layer.zero_grad()
        layer(other).square().sum().backward()
    finally:
        manager.register(mkl.MklPlugin(), "mkl")
    for a, b in zip(found, [other.grad.data, layer.weight.grad.data, layer.bias.grad.data]):
        assert np.abs(a - b).max() < 1e-3 * np.abs(b).max()


@MKL
def test_what_is_not_finite_is_numpys(plugged: list[int]) -> None:
    for value in (np.nan, np.inf, -np.inf):
        for where in (0, 1):
            x, y = normal(100, 100), normal(100, 100)
            (x, y)[where][3, 7] = value
            (y, x)[where][7 if where == 0 else 5, 3] = 0  # inf * 0 is nan
            wanted = quietly(np.matmul, x, y)
            assert np.array_equal(np.isnan(wanted), np.isnan(tt.matmul(x, y).data))
            assert np.array_equal(np.isinf(wanted), np.isinf(tt.matmul(x, y).data))
    assert plugged


@MKL
def test_what_is_not_its_own_goes_to_numpy(plugged: list[int]) -> None:
    tt.matmul(normal(200, 200).astype(np.float64), normal(200, 200).astype(np.float64))
    tt.matmul(normal(200, 200)[::2, ::2], normal(200, 200)[::2, ::2])
    tt.matmul(normal(3, 3), normal(3, 3))
    tt.matmul(normal(5, 100, 100), normal(5, 100, 100))
    tt.matmul(normal(0, 3), normal(3, 4))
    tt.linear(normal(2, 0, 3), normal(4, 3))
    with pytest.raises(ValueError, match="100"):
        tt.matmul(normal(200, 100), normal(200, 100))
    with pytest.raises(ValueError, match="features"):
        tt.linear(normal(200, 100), normal(200, 99))
    assert not plugged


@MKL
def test_compiled_loops_get_its_address_while_it_is_there() -> None:
    numpys = blas.find_blas()
    with tt.use("mkl"):
        assert blas.find_blas() == FOUND
    assert blas.find_blas() == numpys != FOUND
    assert [manager.hook.tt_kernel(op=registry[name]) for name in ("linear", "matmul", "rows_product")] == [None] * 3


@MKL
def test_jit_beside_it_is_bound_to_it_and_back() -> None:
    pytest.importorskip("numba")
    from tt_perf.acceleration.jit import plugin

    with tt.use("jit"):
        before = plugin._blas
        with tt.use("mkl"):
            assert plugin._blas == FOUND
            tt.gelu(tt.ones(4), approximate="tanh")
        assert plugin._blas == before == blas.blas_of_numpy()


@MKL
def test_the_report_says_what_it_gains() -> None:
    text = mkl.MklPlugin().tt_report()
    assert text is not None
    assert ("saves no time" in text) == (mkl._time_ratio(FOUND) >= 0.97)


def test_a_missing_library_is_said_in_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(mkl, "_places", lambda: iter(()))
    with pytest.raises(PluginError, match=r"mkl_rt is not installed\): pip install mkl$"):
        manager.register(mkl.MklPlugin(), "mkl")
    assert not manager.has_plugin("mkl")
    broken = tmp_path / "libmkl_rt.so.2"
    broken.write_bytes(b"not a library")
    monkeypatch.setattr(mkl, "_places", lambda: iter([str(broken)]))
    with pytest.raises(PluginError, match="mkl needs Intel's MKL") as caught:
        mkl.find_mkl()
    assert "\n" not in str(caught.value)


def test_places(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    class Package:
        files = ("../../lib/libmkl_rt.so.2", "../../lib/libmkl_core.so.2")

        def locate_file(self, file: str) -> Path:
            return tmp_path / "a" / "target" / file

    monkeypatch.setattr(mkl.importlib.metadata, "distribution", lambda name: Package())
    monkeypatch.setenv("CONDA_PREFIX", str(tmp_path / "conda"))
    monkeypatch.setattr(ctypes.util, "find_library", lambda name: "of the system")
    (tmp_path / "conda/lib").mkdir(parents=True)
    (tmp_path / "conda/lib/libmkl_rt.so.2").touch()
    found = list(mkl._places())
    assert found[0] == str(tmp_path / "lib/libmkl_rt.so.2")
    assert str(tmp_path / "conda/lib/libmkl_rt.so.2") in found
    assert found[-1] == "of the system"
