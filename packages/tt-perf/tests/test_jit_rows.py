"""Loops over rows beside NumPy's kernels: softmax, cross entropy with all options, embeddings, dropout, fused ops."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import tt_core as tt
from tt_core.engine.dispatch import quietly, registry
from tt_perf.acceleration import JitPlugin, plain, uncovered

numba = pytest.importorskip("numba")
COMPILED, PLAIN = JitPlugin(), JitPlugin(plain)
random = np.random.default_rng(5)


@pytest.fixture(params=["plain", "compiled"])
def jit(request: pytest.FixtureRequest) -> Iterator[JitPlugin]:
    with np.errstate(all="ignore"):
        yield PLAIN if request.param == "plain" else COMPILED


def normal(*shape: int, size: float = 3.0) -> np.ndarray:
    return random.standard_normal(shape, np.float32) * np.float32(size)


def agree(jit: JitPlugin, name: str, *inputs: Any, left: str = "", tolerance: float = 3e-6, **attributes: Any) -> Any:
    """The kernel beside the formula in float64, or NumPy's bits where the call is left to NumPy's kernel."""
    uncovered.calls.clear()
    op = registry[name]
    found = quietly(jit._bound()[name], *inputs, **attributes)
    result = found[0] if isinstance(found, tuple) else found
    if left:
        wanted = quietly(op.kernel, *inputs, **attributes)
        np.testing.assert_array_equal(result, wanted[0] if isinstance(wanted, tuple) else wanted)
        assert left in next(reason for where, reason in uncovered.calls if where == name)
        return found
    wide = [x.astype(np.float64) if isinstance(x, np.ndarray) and x.dtype == np.float32 else x for x in inputs]
    wanted = quietly(op.formula, *wide, **attributes)
    wanted = wanted[0] if isinstance(wanted, tuple) else wanted
    assert (result.shape, result.dtype) == (wanted.shape, np.float32)
    size = np.abs(wanted[np.isfinite(wanted)]).max(initial=1)
    np.testing.assert_allclose(result, wanted, rtol=tolerance, atol=tolerance * size)
    assert not uncovered.calls
    return found


SHAPES = (1, 1), (5, 7), (2, 3, 33), (70, 65), (3, 200), (9,)


@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_softmax(jit: JitPlugin, name: str, shape: tuple[int, ...]) -> None:
    x, g = normal(*shape), normal(*shape)
    for scale in (1, 30):
        out = agree(jit, name, x * np.float32(scale), tolerance=1e-5)
        agree(jit, f"{name}_backward", g, out, tolerance=1e-5)


@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
def test_hidden_logits(jit: JitPlugin, name: str) -> None:
    """Minus infinity is a probability of 0, as long as something else is likelier."""
    x = normal(4, 9)
    x[1, 3:], x[2, 0] = -np.inf, -np.inf
    agree(jit, name, x, tolerance=1e-5)
    for number in (np.nan, -np.nan, np.inf):
        y = x.copy()
        y[3, 4] = number
        agree(jit, name, y, left="infinite or nan")
    agree(jit, name, np.full((2, 3), -np.inf, np.float32), left="infinite or nan")


def test_softmax_of_other_arrays_is_left_to_numpy(jit: JitPlugin) -> None:
    x = normal(4, 6)
    agree(jit, "softmax", x, dim=0, left="another dimension")
    agree(jit, "softmax", x.astype(np.float64), left="float64")
    agree(jit, "softmax", x[:, ::2], left="not contiguous")
    agree(jit, "softmax", x[:0], left="empty")
    agree(jit, "softmax_backward", x[:1], x, left="broadcast")


OPTIONS: dict[str, dict[str, Any]] = {
    "smoothed": {"label_smoothing": 0.1},
    "all smooth": {"label_smoothing": 1.0},
    "weights": {"weight": True},
    "weights and smoothed": {"weight": True, "label_smoothing": 0.3},
    "some do not count": {"ignore_index": -100, "skip": True},
    "everything": {"weight": True, "label_smoothing": 0.3, "ignore_index": -7, "skip": True},
}


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("case", OPTIONS)
def test_cross_entropy(jit: JitPlugin, case: str, reduction: str) -> None:
    options = {"reduction": reduction, **OPTIONS[case]}
    x, target = normal(12, 7), random.integers(0, 7, 12)
    weight = np.abs(normal(7)) if options.pop("weight", False) else None
    if options.pop("skip", False):
        target[::3] = options["ignore_index"]
    loss, peak, total = agree(jit, "cross_entropy", x, target, weight, tolerance=1e-5, **options)
    g = normal(*np.shape(loss))
    agree(jit, "cross_entropy_backward", g, x, target, peak, total, weight, tolerance=1e-5, **options)


def test_cross_entropy_where_nothing_counts(jit: JitPlugin) -> None:
    x, target = normal(3, 4), np.full(3, -100)
    agree(jit, "cross_entropy", x, target)
    _, peak, total = registry["cross_entropy"].kernel(x, target)
    agree(jit, "cross_entropy_backward", np.float32(1).reshape(()), x, target, peak, total)


def test_cross_entropy_that_is_left_to_numpy(jit: JitPlugin) -> None:
    x, target, weight = normal(3, 4), np.array([0, 3, 1]), np.float32([1, 0, 2, 1])
    x[1, 2] = np.inf
    agree(jit, "cross_entropy", x, target, weight, left="infinite or nan")
    agree(jit, "cross_entropy", normal(3, 4, 2), np.zeros((3, 2), np.int64), weight, left="labels")
    agree(jit, "cross_entropy", normal(3, 4), np.abs(normal(3, 4)), left="labels")
    uncovered.calls.clear()
    with pytest.raises(tt.TinyTorchError, match="label_smoothing is between 0 and 1"):
        quietly(jit._bound()["cross_entropy"], normal(3, 4), target, label_smoothing=1.5)


@pytest.mark.parametrize("dtype", ["int64", "int32", "uint8"])
@pytest.mark.parametrize("shape", [(40,), (3, 5), ()], ids=str)
def test_the_gradient_of_an_embedding(jit: JitPlugin, shape: tuple[int, ...], dtype: str) -> None:
    ids = random.integers(0, 6, shape).astype(dtype)
    for padding in (None, 2):
        agree(jit, "embedding_backward", normal(*shape, 9), np.asarray(ids), size=6, padding_idx=padding)


def test_labels_and_ids_that_begin_anywhere(jit: JitPlugin) -> None:
    at_odd = np.ndarray(3, np.int64, np.zeros(25, np.uint8)[1:])
    at_odd[:] = [1, 0, 2]
    agree(jit, "embedding_backward", normal(3, 5), at_odd, size=4)
    agree(jit, "cross_entropy", normal(3, 4), at_odd, left="labels")


def test_ids_that_have_no_row(jit: JitPlugin) -> None:
    agree(jit, "embedding_backward", normal(2, 3), np.array([-1, 1]), size=4, left="ids")
    with pytest.raises(IndexError):
        jit._bound()["embedding_backward"](normal(2, 3), np.array([9, 1]), size=4)


@pytest.mark.parametrize("p", [0.0, 0.3, 1.0])
def test_dropout_has_the_bits_of_numpys_kernel(jit: JitPlugin, p: float) -> None:
    x = normal(40, 30)
    for training in (True, False):
        results = []
        for kernel in (registry["dropout"].kernel, jit._bound()["dropout"]):
            tt.manual_seed(3)
            results.append(kernel(x, p=p, training=training))
        for a, b in zip(*results, strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_silu(jit: JitPlugin, shape: tuple[int, ...]) -> None:
    x, g = normal(*shape, size=9), normal(*shape)
    agree(jit, "silu", x)
    agree(jit, "silu_backward", g, x)


def test_silu_of_unusual_numbers(jit: JitPlugin) -> None:
    x = np.float32([0, -0.0, 1e-30, -1e-30, 88, -88, 200, -200, np.inf, np.nan])
    for name, inputs in (("silu", (x,)), ("silu_backward", (np.ones_like(x), x))):
        found = quietly(jit._bound()[name], *inputs)
        wide = [each.astype(np.float64) for each in inputs]
        np.testing.assert_allclose(found, quietly(registry[name].formula, *wide), rtol=1e-6, atol=1e-30)
    agree(jit, "silu", x.astype(np.float64), left="float64")
    agree(jit, "silu_backward", normal(1, 4), normal(3, 4), left="broadcast")


@pytest.mark.parametrize("size", [2, 6, 32, 48])
def test_rotary(jit: JitPlugin, size: int) -> None:
    angle = random.uniform(0, 9, (5, size // 2)).astype(np.float32)
    cos, sin = np.cos(angle), np.sin(angle)
    packed = normal(2, 5, 3 * size)  # (batch, T, heads * size), as a projection gives it
    for x in (normal(2, 3, 5, size), packed.reshape(2, 5, 3, size).swapaxes(1, 2), normal(2, 3, 7, size)[:, ::-1, 1:6]):
        turned = agree(jit, "rotary", x, cos, sin)
        agree(jit, "rotary", turned, cos, -sin)
        np.testing.assert_allclose(quietly(jit._bound()["rotary"], turned, cos, -sin), x, rtol=1e-5, atol=1e-5)


def test_rotary_that_is_left_to_numpy(jit: JitPlugin) -> None:
    x, cos = normal(2, 3, 5, 8), normal(5, 4)
    agree(jit, "rotary", x[0], cos, cos, left="shape")
    agree(jit, "rotary", x, normal(2, 1, 5, 4), normal(2, 1, 5, 4), left="shape")  # positions of each row
    agree(jit, "rotary", normal(2, 3, 5, 16)[..., ::2], cos, cos, left="not contiguous")
    agree(jit, "rotary", x, cos.astype(np.float64), cos.astype(np.float64), left="float64")
    agree(jit, "rotary", x.astype(np.float64), cos, cos, left="float64")


# --- several ops in one loop, for capture


def loop(jit: JitPlugin, name: str) -> Any:
    return jit._functions()[name]


def test_bias_and_gelu(jit: JitPlugin) -> None:
    x, bias = normal(6, 40), normal(40)
    moved, out = x.copy(), np.empty_like(x)
    loop(jit, "bias_gelu")(moved, bias, out)
    np.testing.assert_array_equal(moved, x + bias)
    np.testing.assert_allclose(out, registry["gelu"].formula(x + bias, approximate="tanh"), rtol=1e-5, atol=1e-6)
