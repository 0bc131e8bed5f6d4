"""Sums, means and RMS normalization as loops beside the formulas in float64, and beside NumPy's kernels."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import tt_core as tt
from tt_core.engine.dispatch import quietly, registry
from tt_perf.acceleration import JitPlugin, plain, uncovered
from tt_perf.kernels import row_loops, sum_loops

numba = pytest.importorskip("numba")
COMPILED, PLAIN = JitPlugin(), JitPlugin(plain)
random = np.random.default_rng(11)


@pytest.fixture(params=["plain", "compiled"])
def jit(request: pytest.FixtureRequest) -> JitPlugin:
    return PLAIN if request.param == "plain" else COMPILED


@pytest.fixture
def threads() -> Iterator[Any]:
    before = tt.get_num_threads()
    yield tt.set_num_threads
    tt.set_num_threads(before)


def normal(*shape: int) -> np.ndarray:
    return random.standard_normal(shape, np.float32)


def both(jit: JitPlugin, name: str, *inputs: Any, **attributes: Any) -> tuple[Any, Any]:
    """What the loop gives, and what the formula gives in float64."""
    wide = [x.astype(np.float64) if isinstance(x, np.ndarray) else x for x in inputs]
    found = quietly(jit._bound()[name], *inputs, **attributes)
    return found, quietly(registry[name].formula, *wide, **attributes)


def close(found: np.ndarray, wanted: np.ndarray, tolerance: float = 2e-6) -> None:
    assert (found.shape, found.dtype) == (wanted.shape, np.float32)
    np.testing.assert_allclose(found, wanted, rtol=tolerance, atol=tolerance * max(1, np.abs(wanted).max(initial=0)))


def check_sums(jit: JitPlugin, shape: tuple[int, ...], dim: Any, keepdim: bool = False) -> None:
    uncovered.calls.clear()
    x = normal(*shape) + 1
    for name in ("sum", "mean"):
        close(*both(jit, name, x, dim=dim, keepdim=keepdim))
    assert not uncovered.calls


REDUCED = [
    ((70, 265), None), ((70, 265), 1), ((70, 265), (0,)), ((9, 29, 64), -1), ((4, 1, 4200), 0), ((9, 264, 9), 1),
    ((8, 14, 5, 40), (0, 2, 3)), ((8, 14, 5, 40), [1, 2]), ((8, 14, 5, 40), (-4, -3)), ((8, 14, 5, 40), (2, 3)),
    ((2, 9000), -1), ((9000, 2), 0), ((20000,), 0), ((140000,), None),
]  # fmt: skip


@pytest.mark.parametrize("keepdim", [False, True])
@pytest.mark.parametrize(("shape", "dim"), REDUCED, ids=str)
def test_sums(jit: JitPlugin, shape: tuple[int, ...], dim: Any, keepdim: bool) -> None:
    check_sums(jit, shape, dim, keepdim)


@pytest.mark.parametrize("dim", [None, 0, 1, (0, 1)])
def test_numbers_that_are_not_finite(jit: JitPlugin, dim: Any) -> None:
    for numbers in ([np.nan], [np.inf], [-np.inf, np.inf]):
        x = normal(270, 65)
        x[[5] * len(numbers), range(len(numbers))] = numbers
        found = quietly(jit._bound()["sum"], x, dim=dim)
        wanted = quietly(registry["sum"].kernel, x, dim=dim)
        np.testing.assert_array_equal(np.isnan(found), np.isnan(wanted))
        np.testing.assert_array_equal(np.isinf(found), np.isinf(wanted))


def test_what_is_left_to_numpy(jit: JitPlugin) -> None:
    uncovered.calls.clear()
    x = normal(270, 65)
    for given, dim in ((x.astype(np.float64), 0), (normal(270, 130)[:, ::2], 1), (x.astype(np.int64), 0)):
        for name in ("sum", "mean") if given.dtype.kind == "f" else ("sum",):
            found, wanted = (k(given, dim=dim) for k in (jit._bound()[name], registry[name].kernel))
            np.testing.assert_array_equal(found, wanted)
            assert found.dtype == wanted.dtype
    many = normal(8, 8, 32, 9, 1)
    close(*both(jit, "sum", many, dim=(0, 2)))
    assert set(uncovered.calls) == {
        ("sum", "float64"), ("mean", "float64"), ("sum", "not contiguous"), ("mean", "not contiguous"),
        ("sum", "int64"), ("sum", "dimensions"),
    }  # fmt: skip


def test_dimensions_that_do_not_exist_are_errors(jit: JitPlugin) -> None:
    for dim in (2, -3, (0, 0), (0, -2), (0, 5)):
        for name in ("sum", "mean"):
            with pytest.raises((IndexError, ValueError)):
                jit._bound()[name](normal(270, 65), dim=dim)


def test_long_sums_are_exact() -> None:
    x = np.full(3_000_000, 0.1, np.float32)
    for given, dim in ((x, None), (x, 0), (x.reshape(1, -1), 1), (x.reshape(-1, 2), 0)):
        found, wanted = both(COMPILED, "mean", given, dim=dim)
        close(found, wanted, 1e-7)


def test_the_number_of_threads_changes_nothing(threads: Any) -> None:
    x, found = normal(64, 33, 513), []
    for number in (1, 2):
        threads(number)
        found.append([COMPILED._bound()["sum"](x, dim=dim) for dim in (None, 0, 1, 2, (0, 2), (0, 1))])
    for a, b in zip(*found, strict=True):
        np.testing.assert_array_equal(a, b)


def test_pooling_to_one_number(jit: JitPlugin) -> None:
    uncovered.calls.clear()
    found, wanted = both(jit, "adaptive_avg_pool2d", normal(3, 5, 7, 6), output_size=(1, 1))
    close(found, wanted)
    g = np.broadcast_to(normal(3, 1, 1, 1), (3, 5, 1, 1))
    close(*both(jit, "adaptive_avg_pool2d_backward", g, size=(7, 6)))
    assert not uncovered.calls
    close(*both(jit, "adaptive_avg_pool2d", normal(3, 5, 7, 6), output_size=2))
    close(*both(jit, "adaptive_avg_pool2d", normal(5, 7, 6), output_size=1))
    close(*both(jit, "adaptive_avg_pool2d_backward", normal(3, 5, 2, 3), size=(7, 6)))
    assert sum(uncovered.calls.values()) == 3


def check_rms_norm(jit: JitPlugin, shape: tuple[int, ...], scaled: bool = True, eps: float | None = 1e-5) -> None:
    uncovered.calls.clear()
    x, g, weight = normal(*shape), normal(*shape), normal(shape[-1]) if scaled else None
    (out, rstd), _ = both(jit, "rms_norm", x, weight, eps=eps)
    close(out, both(jit, "rms_norm", x, weight, eps=1e-5 if eps else 2**-23)[1])
    given = g, x, rstd, weight
    found = jit._bound()["rms_norm_backward"](*given, eps=eps)
    wide = [None if a is None else a.astype(np.float64) for a in given]
    for a, b in zip(found, registry["rms_norm_backward"].formula(*wide, eps=eps or 2**-23), strict=True):
        close(a, b, 1e-5)
    assert not uncovered.calls


@pytest.mark.parametrize("shape", [(1,), (7,), (3, 5), (2, 3, 33), (70, 64)], ids=str)
@pytest.mark.parametrize("scaled", [True, False])
def test_rms_norm(jit: JitPlugin, shape: tuple[int, ...], scaled: bool) -> None:
    check_rms_norm(jit, shape, scaled)
    check_rms_norm(jit, shape, scaled, eps=None)


def test_rms_norm_of_what_is_not_finite_or_not_covered(jit: JitPlugin) -> None:
    kernel, numpys = jit._bound()["rms_norm"], registry["rms_norm"].kernel
    for number in (np.nan, np.inf, -np.inf):
        x = normal(4, 9)
        x[1, 3] = number
        for a, b in zip(quietly(kernel, x, None, eps=1e-5), quietly(numpys, x, None, eps=1e-5), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-5)
    uncovered.calls.clear()
    for x in (normal(4, 9).astype(np.float64), normal(4, 9).astype(np.float16), normal(4, 18)[:, ::2], normal(0, 9)):
        for a, b in zip(kernel(x, None, eps=1e-5), numpys(x, None, eps=1e-5), strict=True):
            np.testing.assert_array_equal(a, b)
        g, back = x * 2, "rms_norm_backward"
        for a, b in zip(jit._bound()[back](g, x, None, None), registry[back].kernel(g, x, None, None), strict=True):
            np.testing.assert_array_equal(a, b)
    assert sum(uncovered.calls.values()) == 8


@pytest.mark.parametrize("name", ["relu_backward", "silu_backward", "softmax_backward"])
def test_a_gradient_that_was_broadcast_is_covered(jit: JitPlugin, name: str) -> None:
    uncovered.calls.clear()
    g, x = np.broadcast_to(normal(6, 1), (6, 33)), np.abs(normal(6, 33))
    close(*both(jit, name, g, x), 1e-5)
    assert not uncovered.calls


# --- sabotage: each breaks a loop, and a test must fail


def _half(loop: Any, position: int) -> Any:
    def run(*arguments: Any) -> None:
        loop(*arguments)
        arguments[position][...] *= 0.5

    return run


SABOTAGES: dict[str, tuple[Any, str, Any, Any]] = {
    "half of each row": (
        sum_loops, "row_sums", _half(sum_loops.row_sums, 1), lambda: check_sums(JitPlugin(plain), (270, 65), 1)),
    "half of each column": (
        sum_loops, "stacked_column_sums", _half(sum_loops.stacked_column_sums, 1),
        lambda: check_sums(JitPlugin(plain), (270, 65), 0)),
    "half of a gradient": (
        row_loops, "rms_norm_backward", _half(row_loops.rms_norm_backward, 4),
        lambda: check_rms_norm(JitPlugin(plain), (3, 5))),
}  # fmt: skip


@pytest.mark.parametrize("name", SABOTAGES)
def test_sabotage_turns_a_check_red(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    where, attribute, broken, check = SABOTAGES[name]
    check()
    monkeypatch.setattr(where, attribute, broken)
    with pytest.raises(AssertionError):
        check()
