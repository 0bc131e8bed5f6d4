"""Attention on compiled loops: results and gradients beside the formula in float64, and what is left to NumPy."""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import tt_core as tt
from tt_core.engine.dispatch import quietly, registry
from tt_core.engine.plugins import manager
from tt_language import attention as A
from tt_perf.acceleration import JitPlugin, blas, plain, uncovered
from tt_perf.kernels import attention

numba = pytest.importorskip("numba")
pytestmark = pytest.mark.skipif(blas.find_blas() is None, reason="NumPy's BLAS is not one that can be called")

COMPILED = JitPlugin()
random = np.random.default_rng(12)


@pytest.fixture(params=["plain", "compiled"])
def kernels(request: pytest.FixtureRequest) -> Iterator[dict[str, Any]]:
    with np.errstate(all="ignore"):  # as in the dispatch
        yield attention.attention_kernels(plain()) if request.param == "plain" else COMPILED._bound()


@pytest.fixture
def jit() -> Iterator[dict[str, Any]]:
    manager.register(COMPILED, "jit")
    yield COMPILED._bound()
    manager.unregister(name="jit")


def normal(*shape: int) -> np.ndarray:
    return random.standard_normal(shape, np.float32)


Shape = tuple[int, int, int, int, int, int]  # batch, heads, key-value heads, T, S, D

CASES: dict[str, tuple[Shape, dict[str, Any]]] = {
    "whole": ((2, 3, 3, 20, 20, 8), {}),
    "causal": ((2, 3, 3, 20, 20, 8), {"is_causal": True}),
    "causal, blocks": ((1, 2, 2, 150, 150, 8), {"is_causal": True}),
    "a block and one query": ((1, 2, 2, 65, 65, 4), {"is_causal": True}),
    "weights computed again": ((1, 1, 1, 260, 260, 4), {"is_causal": True}),
    "more keys": ((1, 2, 2, 7, 33, 8), {"is_causal": True, "causal_offset": 26}),
    "fewer keys": ((1, 2, 2, 70, 33, 8), {"is_causal": True}),
    "first queries see nothing": ((1, 2, 2, 90, 60, 8), {"is_causal": True, "causal_offset": -70}),
    "no query sees anything": ((1, 2, 2, 5, 5, 8), {"is_causal": True, "causal_offset": -5}),
    "two queries": ((2, 4, 4, 2, 40, 8), {"is_causal": True, "causal_offset": 38}),
    "one query, groups": ((2, 4, 2, 1, 40, 8), {"is_causal": True, "causal_offset": 39, "enable_gqa": True}),
    "groups": ((2, 6, 2, 33, 33, 8), {"is_causal": True, "enable_gqa": True}),
    "one key-value head": ((1, 4, 1, 9, 9, 8), {"enable_gqa": True}),
    "one feature": ((1, 2, 2, 9, 9, 1), {}),
    "scale": ((1, 2, 2, 9, 9, 8), {"scale": 0.7}),
    "negative scale": ((1, 2, 2, 9, 9, 8), {"scale": -0.7}),
}


def arrays_of(shape: Shape, size: float = 1.0) -> tuple[np.ndarray, ...]:
    """Query, key, value and upstream gradient; heads are parts of one array, as a projection gives them."""
    batch, heads, shared, queries, keys, features = shape
    q = normal(batch, queries, heads, features).swapaxes(1, 2) * np.float32(size)
    kv = normal(batch, keys, 2 * shared, features).swapaxes(1, 2)
    return q, kv[:, :shared] * np.float32(size), kv[:, shared:], normal(batch, heads, queries, features)


def check(
    kernels: dict[str, Any], arrays: tuple[np.ndarray, ...], mask: Any = None, tolerance: float = 3e-6, **options: Any
) -> None:
    """Kernels beside the formulas in float64, with the kept weights and without."""
    uncovered.calls.clear()
    q, k, v, g = arrays
    exact = [x.astype(np.float64) for x in arrays]
    wide_mask = mask if mask is None or mask.dtype == bool else mask.astype(np.float64)
    wanted = quietly(A.scaled_dot_product_attention.formula, *exact[:3], wide_mask, **options)[0]
    out, seed, lse, _, kept = kernels["scaled_dot_product_attention"](q, k, v, mask, **options)
    assert out.dtype == np.float32
    np.testing.assert_allclose(out, wanted, rtol=tolerance, atol=tolerance)
    slopes = quietly(
        A.scaled_dot_product_attention_backward.formula,
        exact[3],
        *exact[:3],
        wanted,
        None,
        None,
        None,
        wide_mask,
        **options,
    )
    for weights in (kept, None):
        backward = kernels["scaled_dot_product_attention_backward"]
        found = backward(g, q, k, v, out, lse, weights, seed, mask, **options)
        for a, b in zip(found[:3], slopes[:3], strict=True):
            assert a.shape == b.shape
            assert a.dtype == np.float32
            size = np.abs(b).max(initial=1)
            np.testing.assert_allclose(a, b, rtol=3 * tolerance, atol=3 * tolerance * size)
    assert not uncovered.calls


@pytest.mark.parametrize("case", CASES)
def test_agrees_with_the_formula(kernels: dict[str, Any], case: str) -> None:
    shape, options = CASES[case]
    check(kernels, arrays_of(shape), **options)


@pytest.mark.parametrize("case", ["causal", "causal, blocks", "groups", "two queries"])
def test_large_scores(kernels: dict[str, Any], case: str) -> None:
    """Their exponentials overflow unless the largest is subtracted."""
    shape, options = CASES[case]
    check(kernels, arrays_of(shape, size=20.0), tolerance=2e-3, **options)


MASKS = {
    "rows": (20, 20),
    "a head": (1, 3, 20, 20),
    "an example": (2, 1, 1, 20),
    "all": (2, 3, 20, 20),
    "one": (1, 1, 1, 1),
}


@pytest.mark.parametrize("shape", MASKS.values(), ids=MASKS)
@pytest.mark.parametrize("kind", ["boolean", "added", "infinite"])
def test_masks(kernels: dict[str, Any], shape: tuple[int, ...], kind: str) -> None:
    seen = random.random(shape) < 0.6
    mask = {"boolean": seen, "added": normal(*shape), "infinite": np.where(seen, normal(*shape), -np.inf)}[kind]
    mask = mask if kind == "boolean" else mask.astype(np.float32)
    check(kernels, arrays_of((2, 3, 3, 20, 20, 8)), mask, is_causal=shape == (20, 20))


def test_a_mask_of_the_lowest_number_is_no_hidden_row(kernels: dict[str, Any]) -> None:
    """As in the formula: all scores of a row are equally low, so its weights are equal."""
    mask = np.zeros((20, 20), np.float32)
    mask[3] = np.finfo(np.float32).min
    q, k, v, _ = arrays_of((1, 1, 1, 20, 20, 8))
    out = kernels["scaled_dot_product_attention"](q, k, v, mask)[0]
    np.testing.assert_allclose(out[0, 0, 3], v[0, 0].mean(0), rtol=1e-4, atol=1e-5)


def test_a_mask_of_float64(kernels: dict[str, Any]) -> None:
    check(kernels, arrays_of((1, 2, 2, 9, 9, 8)), random.standard_normal((9, 9)))


def test_groups_with_a_mask_a_head(kernels: dict[str, Any]) -> None:
    check(kernels, arrays_of((2, 6, 2, 12, 12, 4)), normal(2, 6, 12, 12), enable_gqa=True)


def test_more_and_fewer_dimensions(kernels: dict[str, Any]) -> None:
    for lead in ((), (3,), (2, 1, 3)):
        arrays = tuple(normal(*lead, 9, 4) for _ in range(4))
        check(kernels, arrays, is_causal=True)


def test_broadcast_keys(kernels: dict[str, Any]) -> None:
    q, k, v = normal(3, 2, 6, 4), normal(1, 2, 6, 4), normal(1, 2, 6, 4)
    wanted = A.scaled_dot_product_attention.formula(*(x.astype(np.float64) for x in (q, k, v)))[0]
    np.testing.assert_allclose(kernels["scaled_dot_product_attention"](q, k, v)[0], wanted, rtol=1e-5, atol=1e-5)


def read_only(x: np.ndarray) -> np.ndarray:
    x = x.copy()
    x.flags.writeable = False
    return x


def test_arrays_that_cannot_be_written_to(kernels: dict[str, Any]) -> None:
    check(kernels, tuple(map(read_only, arrays_of((1, 2, 2, 9, 9, 8)))), read_only(normal(9, 9)))


def unaligned(x: np.ndarray) -> np.ndarray:
    """A copy that begins one byte after the start of a number, as arrays in files may."""
    memory = np.empty(x.nbytes + 1, np.uint8)[1:]
    copy = np.ndarray(x.shape, x.dtype, memory)
    copy[...] = x
    assert not copy.flags.aligned
    return copy


def test_arrays_that_begin_anywhere(kernels: dict[str, Any]) -> None:
    q, k, v, g = arrays_of((1, 2, 2, 9, 9, 8))
    check(kernels, (q, k, v, g), unaligned(normal(9, 9)))
    assert left(FORWARD, kernels, unaligned(q), k, v) == "features that are not contiguous"


def left(name: str, kernels: dict[str, Any], *inputs: Any, **options: Any) -> str:
    """Why this call is left to NumPy's kernel, whose results it must have."""
    uncovered.calls.clear()
    found = quietly(kernels[name], *inputs, **options)[0]
    np.testing.assert_array_equal(found, quietly(registry[name].kernel, *inputs, **options)[0])
    assert found.dtype == inputs[0].dtype
    return next(reason for op, reason in uncovered.calls if op == name)


FORWARD, BACKWARD = "scaled_dot_product_attention", "scaled_dot_product_attention_backward"


def test_what_is_left_to_numpy(kernels: dict[str, Any]) -> None:
    q, k, v, g = arrays_of((1, 2, 2, 9, 9, 8))
    assert left(FORWARD, kernels, *(x.astype(np.float64) for x in (q, k, v))) == "float64"
    assert left(FORWARD, kernels, *(x.astype(np.float16) for x in (q, k, v))) == "float16"
    assert left(FORWARD, kernels, q[..., ::2], k[..., ::2], v) == "features that are not contiguous"
    assert left(FORWARD, kernels, q[..., ::-1], k, v) == "features that are not contiguous"
    assert left(FORWARD, kernels, q[:, :, :0], k, v) == "empty"
    assert left(FORWARD, kernels, q, k[:, :, :0], v[:, :, :0]) == "empty"
    assert left(FORWARD, kernels, q[:, :, :1], k, v) == "one query"
    out = A.scaled_dot_product_attention.kernel(q, k, v)[0]
    assert left(BACKWARD, kernels, g, q, k, v, out) == "no residuals"
    mask = normal(9, 9)
    assert (
        left(BACKWARD, kernels, g, q, k, v, out, None, None, None, mask, mask_gradient=True)
        == "a gradient for the mask"
    )


@pytest.mark.parametrize("p", [0.2, 0.5, 1.0])
@pytest.mark.parametrize("case", ["whole", "causal, blocks", "groups", "two queries", "no query sees anything"])
def test_dropout_drops_what_numpys_kernel_drops(kernels: dict[str, Any], case: str, p: float) -> None:
    shape, options = CASES[case]
    q, k, v, g = arrays_of(shape)
    uncovered.calls.clear()
    results = []
    for forward, backward in (
        (registry[FORWARD].kernel, registry[BACKWARD].kernel),
        (kernels[FORWARD], kernels[BACKWARD]),
    ):
        tt.manual_seed(3)
        out, seed, lse, *rest = forward(q, k, v, dropout_p=p, **options)
        kept = rest[1] if forward is kernels[FORWARD] else rest[0]
        slopes = backward(g, q, k, v, out, lse, kept, seed, dropout_p=p, **options)
        results.append((out, seed, *slopes[:3], tt.random.generator().random()))
    for a, b in zip(*results, strict=True):
        np.testing.assert_allclose(b, a, rtol=1e-4, atol=1e-5)
    assert not uncovered.calls


def test_dropout_that_is_left_to_numpy(kernels: dict[str, Any]) -> None:
    q, k, v, g = arrays_of((1, 1, 1, 300, 300, 4))
    infinite = q.copy()
    infinite[0, 0, 3, 1] = np.inf
    for query, reason in ((q, "dropout in a long text"), (infinite[:, :, :9], "infinite or nan")):
        results = []
        uncovered.calls.clear()
        for kernel in (registry[FORWARD].kernel, kernels[FORWARD]):
            tt.manual_seed(3)
            results.append([*quietly(kernel, query, k, v, dropout_p=0.5)[:2], tt.random.generator().random()])
        for a, b in zip(*results, strict=True):
            np.testing.assert_array_equal(a, b)
        assert uncovered.calls[FORWARD, reason] == 1
    out, seed, lse, kept, _ = registry[FORWARD].kernel(q[:, :, :9], k, v, dropout_p=0.5)
    uncovered.calls.clear()
    kernels[BACKWARD](g[:, :, :9], q[:, :, :9], k, v, out, lse, kept, seed, dropout_p=0.5)
    assert uncovered.calls[BACKWARD, "dropout without weights"] == 1


@pytest.mark.parametrize("number", [np.nan, -np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("which", ["query", "key", "value", "mask", "upstream"])
def test_numbers_that_are_not_finite(kernels: dict[str, Any], which: str, number: float) -> None:
    """As NumPy's kernel has them, whatever that is: it computes what the loops refuse."""
    q, k, v, g = (x.copy() for x in arrays_of((1, 2, 2, 9, 9, 8)))
    mask = np.zeros((9, 9), np.float32)
    {"query": q, "key": k, "value": v, "upstream": g}.get(which, mask[None, None])[0, 0, 4, 2] = number
    if which != "upstream" and not (which == "mask" and number == -np.inf):
        assert left(FORWARD, kernels, q, k, v, mask) == "infinite or nan"
    out, seed, lse, kept, _ = quietly(registry[FORWARD].kernel, q, k, v, mask)
    wanted = quietly(registry[BACKWARD].kernel, g, q, k, v, out, lse, kept, seed, mask)
    result, seed, lse, _, kept = quietly(kernels[FORWARD], q, k, v, mask)
    found = quietly(kernels[BACKWARD], g, q, k, v, result, lse, kept, seed, mask)
    for a, b in zip(found[:3], wanted[:3], strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


def test_a_plugin_that_comes_or_goes_between_forward_and_backward(kernels: dict[str, Any]) -> None:
    q, k, v, g = arrays_of((1, 2, 2, 30, 30, 8))
    numpys = registry[FORWARD].kernel(q, k, v, is_causal=True)
    ours = kernels[FORWARD](q, k, v, is_causal=True)
    wanted = registry[BACKWARD].kernel(g, q, k, v, numpys[0], numpys[2], numpys[3], is_causal=True)
    mixed = (
        registry[BACKWARD].kernel(g, q, k, v, ours[0], ours[2], ours[4], is_causal=True),
        kernels[BACKWARD](g, q, k, v, numpys[0], numpys[2], numpys[3], is_causal=True),
    )
    for found in mixed:
        for a, b in zip(found[:3], wanted[:3], strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


def test_nothing_outside_of_the_gradients_is_written(kernels: dict[str, Any]) -> None:
    arrays = arrays_of((2, 3, 3, 70, 70, 8))
    before = [x.copy() for x in arrays]
    check(kernels, arrays, is_causal=True)
    for x, y in zip(arrays, before, strict=True):
        np.testing.assert_array_equal(x, y)


# --- a layer: the gradient of the undivided projection is never copied


def test_a_layer_learns_as_without_the_plugin(jit: dict[str, Any]) -> None:
    from tt_language import MultiHeadAttention

    layer = MultiHeadAttention(16, num_heads=2, causal=True)
    x = tt.tensor(normal(2, 7, 16), requires_grad=True)

    def gradients() -> list[np.ndarray]:
        layer.zero_grad()
        x.grad = None  # type: ignore[attr-defined]
        (layer(x) ** 2).sum().backward()
        return [p.grad.data.copy() for p in (x, *layer.parameters())]

    with_jit = gradients()
    manager.unregister(name="jit")
    try:
        without = gradients()
    finally:
        manager.register(COMPILED, "jit")
    for a, b in zip(with_jit, without, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_gradients_lie_side_by_side(kernels: dict[str, Any]) -> None:
    q, k, v, g = arrays_of((2, 3, 3, 7, 7, 8))
    out, seed, lse, _, kept = kernels[FORWARD](q, k, v)
    slopes = kernels[BACKWARD](g, q, k, v, out, lse, kept, seed)[:3]
    joined = A.join_heads.kernel(*slopes)
    assert all(np.shares_memory(joined, x) for x in slopes)
    np.testing.assert_array_equal(joined, A.join_heads.formula(*slopes))


# --- threads and processes


def digest() -> str:
    """Of forward and backward, the same a hundred times."""
    rng = np.random.default_rng(0)
    q, k, v, g = (rng.standard_normal((2, 3, 100, 16), np.float32) for _ in range(4))
    found = set()
    kernels = COMPILED._bound()
    for _ in range(100):
        out, seed, lse, _, kept = kernels[FORWARD](q, k, v, is_causal=True)
        slopes = kernels[BACKWARD](g, q, k, v, out, lse, kept, seed, is_causal=True)
        found.add(hashlib.sha256(b"".join(x.tobytes() for x in (out, *slopes))).hexdigest())
    assert len(found) == 1
    return found.pop()


def test_the_same_bits_from_any_number_of_threads() -> None:
    code = "import test_jit_attention as t; print(t.digest())"
    found = set()
    for threads in (1, 2, 4):
        env = {**os.environ, "OMP_NUM_THREADS": str(threads), "PYTHONPATH": os.path.dirname(__file__)}
        done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
        found.add(done.stdout)
    assert len(found) == 1


def test_two_threads_at_once() -> None:
    wanted, found = digest(), []
    threads = [threading.Thread(target=lambda: found.append(digest())) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [wanted, wanted]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_process_goes_on() -> None:
    wanted = digest()
    with multiprocessing.get_context("fork").Pool(1) as pool:
        assert pool.apply_async(digest).get(timeout=120) == wanted
