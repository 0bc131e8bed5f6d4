"""Module 18: convolution, pooling and batch normalization as loops give what the formulas give in float64."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import tt_core as tt
from tt_core.engine.dispatch import quietly, registry
from tt_data import BatchNorm2d, Conv2d, Flatten, MaxPool2d
from tt_perf.acceleration import compiled, plain, uncovered
from tt_perf.kernels import image_loops, planes, stage_loops, stages, tiles, window_loops
from tt_perf.kernels.convolution import convolutions_from
from tt_perf.kernels.normalization import norms_from
from tt_perf.kernels.ops import kernels_from
from tt_perf.kernels.pooling import pools_from

NUMBA = pytest.mark.skipif(importlib.util.find_spec("numba") is None, reason="Numba is not installed")
random = np.random.default_rng(9)
Kernels = dict[str, Callable[..., Any]]


def kernels_of(loops: Any) -> Kernels:
    every = kernels_from, convolutions_from, pools_from, norms_from
    return {name: kernel for made in every for name, kernel in made(loops).items()}


@pytest.fixture(params=["plain", pytest.param("compiled", marks=NUMBA)])
def loops(request: pytest.FixtureRequest) -> Any:
    """The loops as they stand there, or compiled."""
    return plain() if request.param == "plain" else compiled()


@pytest.fixture
def kernels(loops: Any) -> Kernels:
    return kernels_of(loops)


@pytest.fixture
def threads() -> Iterator[Callable[[int], None]]:
    before = tt.get_num_threads()
    yield tt.set_num_threads
    tt.set_num_threads(before)


def normal(*shape: int) -> np.ndarray:
    return random.standard_normal(shape, np.float32)


def in_double(name: str, *inputs: Any, **attributes: Any) -> Any:
    """What the formula gives in float64."""
    wide = [x.astype(np.float64) if isinstance(x, np.ndarray) and x.dtype == np.float32 else x for x in inputs]
    return quietly(registry[name].formula, *wide, **attributes)


def agree(found: Any, wanted: Any, tolerance: float = 1e-5) -> None:
    for a, b in zip(*(x if isinstance(x, tuple) else (x,) for x in (wanted, found)), strict=True):
        assert a.shape == b.shape
        assert b.dtype == (np.float32 if a.dtype.kind == "f" else np.uint8)
        size = np.abs(a[np.isfinite(a)]).max(initial=1)
        np.testing.assert_allclose(b, a, rtol=tolerance, atol=tolerance * size)


def same_as_numpy(kernels: Kernels, name: str, *inputs: Any, **attributes: Any) -> None:
    found, wanted = (quietly(k, *inputs, **attributes) for k in (kernels[name], registry[name].kernel))
    for a, b in zip(*(x if isinstance(x, tuple) else (x,) for x in (wanted, found)), strict=True):
        assert (a.shape, a.dtype) == (b.shape, b.dtype)
        np.testing.assert_allclose(b, a, rtol=1e-5, atol=1e-5)


# --- tiles


@NUMBA
@pytest.mark.parametrize("name", [name for name in tiles.tiles() if name != "numbers_at"])
@pytest.mark.parametrize("count", [0, 1, 7])
def test_tiles_compute_what_they_say(name: str, count: int) -> None:
    import numba

    rows, lanes = tiles.ROWS, tiles.LANES
    tile, a, b = tiles.compiled_tiles()[name], normal(4000), normal(4000)
    places = random.permutation(lanes) * lanes if name == "transpose_tile" else random.integers(0, 900, 2 * rows)
    arguments: tuple[Any, ...] = (b, 3) if name == "every_second" else (b, 3, 70)
    if name.endswith("correlate_tile"):
        arguments = (a, 5, b, 3, places, count)
    elif name.endswith("gram_tile"):
        arguments = (a, 5, places, 1, b, 3, 40, count)
    found, wanted = (np.full(4000, 2, np.float32) for _ in range(2))
    last: tuple[Any, ...] = {"transpose_tile": (7, places), "every_second": (7,)}.get(name, (7, 100))

    @numba.njit  # type: ignore[untyped-decorator,unused-ignore]
    def run(given: Any, out: Any, rest: Any) -> None:
        tile(*given, out, *rest)

    if name.endswith("correlate_tile") and not count:
        wanted[:] = 2
        for row in range(rows):
            width = lanes * (1 if "half" in name else 2)
            wanted[7 + 100 * row : 7 + 100 * row + width] = 0
    else:
        tiles.tiles()[name](*arguments, wanted, *last)
    run(arguments, found, last)
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-5)


# --- convolution

GEOMETRY: list[dict[str, Any]] = [
    {},
    {"padding": 1},
    {"padding": "same"},
    {"padding": (2, 3), "stride": 2},
    {"stride": (3, 2), "dilation": (1, 2), "padding": 2},
    {"dilation": 2, "padding": (0, 4)},
    {"groups": 2, "padding": 1},
    {"groups": 4, "stride": (1, 2)},
]


@pytest.mark.parametrize("how", GEOMETRY, ids=str)
@pytest.mark.parametrize("kernel", [(3, 3), (1, 1), (2, 5)])
def test_convolution_and_its_gradients(kernels: Kernels, kernel: tuple[int, int], how: dict[str, Any]) -> None:
    how = {"stride": 1, "padding": 0, "dilation": 1, "groups": 1, **how}
    for size, outputs in (((9, 11), 4), ((13, 9), 20)):
        x, weight = normal(3, 4, *size), normal(outputs, 4 // how["groups"], *kernel)
        wanted = in_double("conv2d", x, weight, normal(outputs) * 0, **how)
        agree(kernels["conv2d"](x, weight, None, **how), wanted)
        bias, g = normal(outputs), normal(*wanted.shape)
        agree(kernels["conv2d"](x, weight, bias, **how), in_double("conv2d", x, weight, bias, **how))
        agree(kernels["conv2d_input"](g, weight, size=size, **how), in_double("conv2d_input", g, weight, size, **how))
        agree(
            kernels["conv2d_weight"](g, x, kernel_size=kernel, **how), in_double("conv2d_weight", g, x, kernel, **how)
        )


@NUMBA
def test_large_images_are_convolved_in_strips() -> None:
    kernels = kernels_of(compiled())
    x, weight, bias = normal(1, 16, 150, 200), normal(24, 16, 3, 3), normal(24)
    agree(kernels["conv2d"](x, weight, bias, padding=1), in_double("conv2d", x, weight, bias, padding=1))
    g = normal(1, 24, 150, 200)
    agree(kernels["conv2d_input"](g, weight, size=(150, 200), padding=1),
          in_double("conv2d_input", g, weight, (150, 200), padding=1))  # fmt: skip
    agree(kernels["conv2d_weight"](g, x, kernel_size=(3, 3), padding=1),
          in_double("conv2d_weight", g, x, (3, 3), padding=1))  # fmt: skip


@NUMBA
@pytest.mark.parametrize("number", [1, 2, 4])
def test_the_same_number_of_threads_gives_the_same_bits(number: int, threads: Callable[[int], None]) -> None:
    threads(number)
    kernels = kernels_of(compiled())
    x, weight, g = normal(9, 16, 12, 12), normal(24, 16, 3, 3), normal(9, 24, 12, 12)
    y, index = kernels["max_pool2d"](g, kernel_size=2)

    def results() -> bytes:
        pooled = y, index, (12, 12), 2, None, 0, 1, False
        found = [
            kernels["conv2d"](x, weight, padding=1),
            kernels["conv2d_input"](g, weight, size=(12, 12), padding=1),
            kernels["conv2d_weight"](g, x, kernel_size=(3, 3), padding=1),
            kernels["max_pool2d_backward"](*pooled),
            *kernels["batch_norm_training"](x),
        ]
        return b"".join(array.tobytes() for array in found)

    first = results()
    assert all(results() == first for _ in range(100))


def test_the_forward_pass_does_not_depend_on_the_batch(kernels: Kernels) -> None:
    x, weight = normal(5, 3, 8, 8), normal(4, 3, 3, 3)
    whole = kernels["conv2d"](x, weight, padding=1)
    for n in range(5):
        np.testing.assert_array_equal(kernels["conv2d"](x[n : n + 1], weight, padding=1)[0], whole[n])


def test_values_that_are_not_finite_go_where_numpys_go(kernels: Kernels) -> None:
    x, weight, g = normal(2, 3, 6, 6), normal(4, 3, 3, 3), normal(2, 4, 6, 6)
    for odd in (np.nan, np.inf, -np.inf):
        x[0, 1, 0, 5], weight[2, 0, 1, 1], g[1, 3, 5, 0] = odd, 1, 2
        same_as_numpy(kernels, "conv2d", x, weight, padding=1)
        same_as_numpy(kernels, "conv2d_weight", g, x, kernel_size=(3, 3), padding=1)
        x[0, 1, 0, 5], weight[2, 0, 1, 1] = 1, odd
        same_as_numpy(kernels, "conv2d", x, weight, padding=1)
        same_as_numpy(kernels, "conv2d_input", g, weight, size=(6, 6), padding=1)
        weight[2, 0, 1, 1], g[1, 3, 5, 0] = 1, odd
        same_as_numpy(kernels, "conv2d_input", g, weight, size=(6, 6), padding=1)
        same_as_numpy(kernels, "conv2d_weight", g, x, kernel_size=(3, 3), padding=1)


def test_what_the_loops_are_not_made_for_is_counted(kernels: Kernels) -> None:
    uncovered.calls.clear()
    x, weight = normal(2, 3, 6, 6), normal(4, 3, 3, 3)
    for images in (x.astype(np.float64), x[..., ::2], x[0], x[:0]):
        same_as_numpy(kernels, "conv2d", images, weight, padding=1)
    same_as_numpy(kernels, "max_pool2d", x[..., ::2], kernel_size=2)
    same_as_numpy(kernels, "avg_pool2d", x.repeat(3, -2), kernel_size=(16, 16), padding=(0, 8), ceil_mode=True)
    same_as_numpy(kernels, "relu", x.astype(np.float64))
    same_as_numpy(kernels, "batch_norm_training", x.astype(np.float16))
    assert dict(uncovered.calls) == {
        ("conv2d", "float64"): 1,
        ("conv2d", "not contiguous"): 1,
        ("conv2d", "one image"): 1,
        ("conv2d", "nothing"): 1,
        ("max_pool2d", "not contiguous"): 1,
        ("avg_pool2d", "a kernel of more than 255 elements"): 1,
        ("relu", "float64"): 1,
        ("batch_norm_training", "float16"): 1,
    }


# --- pooling and batch normalization


@pytest.mark.parametrize("size", [(2, 2), (8, 6), (7, 9), (3, 40)])
def test_pooling(kernels: Kernels, size: tuple[int, int]) -> None:
    x = random.integers(-3, 4, (2, 3, *size)).astype(np.float32)
    with_nans, empty = x.copy(), x.copy()
    with_nans[random.random(x.shape) < 0.3] = np.nan
    empty[random.random(x.shape) < 0.5] = -np.inf
    for images in (x, with_nans, empty):
        same_as_numpy(kernels, "max_pool2d", images, kernel_size=2)
        same_as_numpy(kernels, "relu", images)
        same_as_numpy(kernels, "avg_pool2d", images, kernel_size=2)
    same_as_numpy(kernels, "avg_pool2d", x, kernel_size=2, divisor_override=3)
    y, index = kernels["max_pool2d"](x, kernel_size=2)
    g = normal(*y.shape)
    how: dict[str, Any] = {"size": size, "kernel_size": 2, "stride": None, "padding": 0, "ceil_mode": False}
    same_as_numpy(kernels, "max_pool2d_backward", g, index, **how, dilation=1)
    same_as_numpy(kernels, "avg_pool2d_backward", g, **how, count_include_pad=True, divisor_override=None)


WINDOWS: list[dict[str, Any]] = [
    {"kernel_size": 3, "stride": 2, "padding": 1},
    {"kernel_size": 3, "stride": 1, "padding": 1},
    {"kernel_size": (2, 3), "stride": (3, 2), "padding": (1, 0)},
    {"kernel_size": 2, "stride": 3, "padding": 1},
    {"kernel_size": 3, "stride": 2, "ceil_mode": True},
    {"kernel_size": (5, 1), "stride": (4, 5), "padding": (2, 0), "ceil_mode": True},
]


@pytest.mark.parametrize("how", WINDOWS, ids=str)
@pytest.mark.parametrize("size", [(5, 5), (8, 41), (33, 6)])
def test_pooling_over_any_windows(kernels: Kernels, size: tuple[int, int], how: dict[str, Any]) -> None:
    x = random.integers(-3, 4, (2, 3, *size)).astype(np.float32)
    odd = [x.copy() for _ in range(3)]
    for images, number in zip(odd, (np.nan, np.inf, -np.inf), strict=True):
        images[random.random(x.shape) < 0.5] = number
    for images in (x, x[0], *odd, np.full_like(x, -np.inf)):
        same_as_numpy(kernels, "max_pool2d", images, **how)
        same_as_numpy(kernels, "avg_pool2d", images, **how)
    if size != (5, 5):
        same_as_numpy(kernels, "max_pool2d", x, **how | {"ceil_mode": False, "dilation": 2})
    same_as_numpy(kernels, "avg_pool2d", x, **how, count_include_pad=False)
    same_as_numpy(kernels, "avg_pool2d", x, **how, divisor_override=3)
    full: dict[str, Any] = {"stride": None, "padding": 0, "ceil_mode": False, **how, "size": size}
    for images in (x, x[0]):
        y, index = kernels["max_pool2d"](images, **how)
        g = normal(*y.shape[:-1], 2 * y.shape[-1])[..., ::2]
        same_as_numpy(kernels, "max_pool2d_backward", g, index, **full, dilation=1)
        for counted in (True, False):
            options = {**full, "count_include_pad": counted, "divisor_override": None}
            same_as_numpy(kernels, "avg_pool2d_backward", g, **options)


def test_pooling_is_the_same_on_any_number_of_threads(kernels: Kernels, threads: Callable[[int], None]) -> None:
    x, found = normal(4, 32, 33, 33), []
    for number in (1, 2):
        threads(number)
        y, index = kernels["max_pool2d"](x, 3, 2, 1)
        back = kernels["max_pool2d_backward"](y, index, (33, 33), 3, 2, 1, 1, False)
        mean = kernels["avg_pool2d"](x, 3, 2, 1)
        found.append((y, index, back, mean, kernels["avg_pool2d_backward"](y, (33, 33), 3, 2, 1, False, True, None)))
    for a, b in zip(*found, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("shape", [(4, 3, 5, 6), (6, 3), (2, 5, 7)])
@pytest.mark.parametrize("affine", [0, 1, 2])
def test_batch_norm(kernels: Kernels, shape: tuple[int, ...], affine: int) -> None:
    x, g = normal(*shape) * 2 + 3, normal(*shape)
    given = [normal(shape[1]) for _ in range(affine)] + [None] * (2 - affine)
    y, mean, var = found = kernels["batch_norm_training"](x, *given, eps=1e-3)
    agree(found, in_double("batch_norm_training", x, *given, eps=1e-3))
    agree(
        kernels["batch_norm_inference"](y, mean, var, *given), in_double("batch_norm_inference", y, mean, var, *given)
    )
    inputs = g, x, mean, var, given[0]
    agree(kernels["batch_norm_backward"](*inputs, eps=1e-3), in_double("batch_norm_backward", *inputs, eps=1e-3), 1e-4)


# --- a whole stage


@pytest.mark.parametrize(("size", "outputs"), [((8, 9), 5), ((7, 6), 17)])
@pytest.mark.parametrize("how", [(0, 1), (1, 1), (2, 2)])
@pytest.mark.parametrize("kernel", [(3, 3), (2, 3), (1, 1)])
def test_a_stage_equals_its_three_ops(
    loops: Any, size: tuple[int, int], outputs: int, how: tuple[int, int], kernel: tuple[int, int]
) -> None:
    x, weight, bias = normal(3, 2, *size), normal(outputs, 2, *kernel), normal(outputs)
    y = np.maximum(registry["conv2d"].kernel(x, weight, bias, 1, *how), 0)
    wanted, index = registry["max_pool2d"].kernel(y, 2)
    out, place = stages.conv_relu_pool(loops, x, weight, bias, *how)
    agree(out, wanted.astype(np.float64))
    cut = wanted == 0
    np.testing.assert_array_equal(place == 4, cut)
    np.testing.assert_array_equal(place[~cut], index[~cut])


def test_a_stage_refuses_what_it_does_not_cover(loops: Any) -> None:
    with pytest.raises(ValueError, match=r"no stage for x float64 \(1, 1, 4, 4\)"):
        stages.conv_relu_pool(loops, np.ones((1, 1, 4, 4)), normal(1, 1, 3, 3))


def test_a_stage_passes_nan_on(loops: Any) -> None:
    x, weight = normal(1, 1, 4, 4), normal(2, 1, 1, 1)
    x[0, 0, 1, 1] = np.nan
    out, place = stages.conv_relu_pool(loops, x, weight)
    assert np.isnan(out[0, :, 0, 0]).all()
    assert (place[0, :, 0, 0] == 3).all()


@NUMBA
def test_a_network_has_the_gradients_of_float64() -> None:
    def gradients(dtype: Any) -> list[np.ndarray]:
        tt.manual_seed(0)
        model = tt.Sequential(
            Conv2d(3, 8, 3, padding=1), BatchNorm2d(8), tt.ReLU(), MaxPool2d(2),
            Conv2d(8, 12, 3, stride=2, groups=2), tt.ReLU(), Flatten(), tt.Linear(12 * 9, 5),
        )  # fmt: skip
        for p in model.parameters():
            p.data = p.data.astype(dtype)
        x = tt.randn(6, 3, 16, 16)
        x.data = x.data.astype(dtype)
        tt.cross_entropy(model(x), tt.tensor([0, 1, 2, 3, 4, 0])).backward()
        return [p.grad.data for p in model.parameters()]

    wanted = gradients(np.float64)
    with tt.use("jit"):
        found = gradients(np.float32)
    for a, b in zip(wanted, found, strict=True):
        np.testing.assert_allclose(b, a, rtol=1e-4, atol=1e-7 + 1e-5 * np.abs(a).max())


# --- sabotage: each breaks a loop, and a test must fail


def _plain_kernels() -> Kernels:
    return kernels_of(plain())


def _spoilt(loop: Callable[..., None], position: int) -> Callable[..., None]:
    def run(*arguments: Any) -> None:
        loop(*arguments)
        arguments[position][...] *= 0.5

    return run


SABOTAGES: dict[str, tuple[Any, str, Any, Callable[[], None]]] = {
    "a border that is not filled": (
        planes, "fill", lambda *a: None, lambda: test_convolution_and_its_gradients(_plain_kernels(), (3, 3), {})),
    "half of the product": (
        planes, "multiply", _spoilt(planes.multiply, 7),
        lambda: test_convolution_and_its_gradients(_plain_kernels(), (1, 1), {})),
    "half of the gradient for weights": (
        planes, "add_gradient", _spoilt(planes.add_gradient, 7),
        lambda: test_convolution_and_its_gradients(_plain_kernels(), (1, 1), {"padding": 1})),
    "the first maximum alone": (
        image_loops, "max_pool_2x2", lambda x, out, index: index.fill(0),
        lambda: test_pooling(_plain_kernels(), (8, 6))),
    "a border of zeros around maxima": (
        window_loops, "room_of", lambda *a: np.zeros(9999, np.float32),
        lambda: test_pooling_over_any_windows(_plain_kernels(), (5, 5), WINDOWS[0])),
    "no gradient of the mean": (
        image_loops, "batch_norm_backward", _spoilt(image_loops.batch_norm_backward, 6),
        lambda: test_batch_norm(_plain_kernels(), (6, 3), 1)),
    "ReLU forgotten in a stage": (
        stage_loops, "CUT", np.uint8(0),
        lambda: test_a_stage_equals_its_three_ops(plain(), (8, 9), 5, (1, 1), (3, 3))),
}  # fmt: skip


@pytest.mark.parametrize("name", SABOTAGES)
def test_sabotage_turns_a_check_red(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    where, attribute, broken, check = SABOTAGES[name]
    check()
    monkeypatch.setattr(where, attribute, broken)
    with pytest.raises(AssertionError):
        check()
