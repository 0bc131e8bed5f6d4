"""Module 18: loops give what NumPy's kernels give, in plain Python and compiled; what is not theirs they leave."""

from __future__ import annotations

import dataclasses
import importlib.util
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest

import tt_core as tt
import tt_learn
from tt_core.command import checking
from tt_core.engine.dispatch import quietly, registry
from tt_core.engine.errors import PluginError
from tt_core.engine.plugins import manager
from tt_data import Conv2d, Flatten, MaxPool2d
from tt_data.command.cli import plugin as act_3
from tt_language.command.cli import plugin as act_4
from tt_perf import acceleration
from tt_perf.acceleration import JitPlugin, NaivePlugin, loops, naive
from tt_perf.command.cli import plugin as act
from tt_perf.kernels import ops as kernels_of_loops
from tt_perf.kernels import update_loops
from tt_perf.quantization.packed import pack_int4, pack_int8

NUMBA = pytest.mark.skipif(importlib.util.find_spec("numba") is None, reason="Numba is not installed")
random = np.random.default_rng(18)


@pytest.fixture(params=["plain", pytest.param("compiled", marks=NUMBA)])
def jit(request: pytest.FixtureRequest) -> Iterator[str]:
    """The plugin, with its loops as they stand there or compiled."""
    functions = acceleration.plain if request.param == "plain" else acceleration.compiled
    manager.register(JitPlugin(functions), "jit")
    with np.errstate(all="ignore"):
        yield request.param
    manager.unregister(name="jit")


def normal(*shape: int) -> np.ndarray:
    return random.standard_normal(shape, np.float32) * 3


def kernels(name: str) -> tuple[Any, Any]:
    """NumPy's kernel of an op, and the one in its place."""
    op = registry[name]
    return op.kernel, manager.hook.tt_kernel(op=op)


def agree(name: str, *inputs: Any, tolerance: float = 2e-6, **attributes: Any) -> None:
    ours, loop = kernels(name)
    wanted, found = (quietly(kernel, *inputs, **attributes) for kernel in (ours, loop))
    for a, b in zip(*(x if isinstance(x, tuple) else (x,) for x in (wanted, found)), strict=True):
        a, b = np.asarray(a), np.asarray(b)
        assert (a.shape, a.dtype) == (b.shape, b.dtype)
        size = np.abs(a[np.isfinite(a)]).max(initial=1)
        np.testing.assert_allclose(b, a, rtol=tolerance, atol=tolerance * size)


SHAPES = [(), (1,), (0, 3), (5, 7), (2, 3, 4)]


@pytest.mark.parametrize("shape", SHAPES)
def test_activations(jit: str, shape: tuple[int, ...]) -> None:
    x, g = normal(*shape), normal(*shape)
    out = registry["gelu"].kernel(x, approximate="tanh")
    agree("gelu", x, approximate="tanh")
    agree("gelu", x, approximate="none")
    agree("gelu_backward", g, x, out, approximate="tanh", tolerance=1e-5)
    agree("relu_backward", g, np.maximum(np.where(g > 2, np.nan, x), 0).astype(np.float32))


def test_gelu_at_the_limits(jit: str) -> None:
    x = np.array([-np.inf, -1e30, -1e4, -12, -1e-30, 0, 1e-30, 12, 1e4, 1e30, np.inf, np.nan], np.float32)
    _, gelu = kernels("gelu")
    found = gelu(x, approximate="tanh")
    assert np.isnan(found[[0, -1]]).all()  # -inf 0, as PyTorch has it
    np.testing.assert_allclose(found[1:-1], [0, 0, 0, -5e-31, 0, 5e-31, 12, 1e4, 1e30, np.inf], rtol=1e-6, atol=1e-12)
    _, backward = kernels("gelu_backward")
    slope = backward(np.ones_like(x), x, found, approximate="tanh")
    np.testing.assert_allclose(slope[1:10], [0, 0, 0, 0.5, 0.5, 0.5, 1, 1, 1], atol=1e-6)


@pytest.mark.parametrize("shape", [(5, 7), (2, 3, 4), (1, 1), (0, 4), (9, 64)])
@pytest.mark.parametrize("affine", [(), ("weight",), ("weight", "bias")])
def test_layer_norm(jit: str, shape: tuple[int, ...], affine: tuple[str, ...]) -> None:
    for dims in range(1, len(shape)):
        given = [normal(*shape[-dims:]) if name in affine else None for name in ("weight", "bias")]
        x, g = normal(*shape) + 5, normal(*shape)
        agree("layer_norm", x, *given, dims=dims, eps=0.1, tolerance=2e-5)
        _, mean, rstd = registry["layer_norm"].kernel(x, *given, dims=dims, eps=0.1)
        agree("layer_norm_backward", g, x, mean, rstd, given[0], dims=dims, tolerance=2e-5)


@pytest.mark.parametrize("shape", [(1, 1), (6, 10), (3, 1000), (0, 5)])
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_cross_entropy(jit: str, shape: tuple[int, int], reduction: str) -> None:
    x, target = normal(*shape) * 10, random.integers(0, shape[1], shape[0])
    agree("cross_entropy", x, target, ignore_index=-100, reduction=reduction)
    _, peak, total = registry["cross_entropy"].kernel(x, target, reduction=reduction)
    g = normal(*(target.shape if reduction == "none" else ()))
    agree("cross_entropy_backward", g, x, target, peak, total, ignore_index=-100, reduction=reduction)


def test_cross_entropy_of_labels_that_are_no_classes(jit: str) -> None:
    x = normal(3, 4)
    ignored = np.array([1, -100, 2])
    agree("cross_entropy", x, ignored)
    _, peak, total = registry["cross_entropy"].kernel(x, ignored)
    agree("cross_entropy_backward", np.float32(2).reshape(()), x, ignored, peak, total)
    with pytest.raises(tt.TinyTorchError, match="class index 4 is out of range for 4 classes"):
        tt.cross_entropy(tt.tensor(x), tt.tensor([0, 4, 1]))


def test_cross_entropy_of_infinite_logits(jit: str) -> None:
    x = np.array([[np.inf, 0], [-np.inf, 0], [-np.inf, -np.inf], [np.nan, 1], [3e38, -3e38]], np.float32)
    for label in (0, 1):
        agree("cross_entropy", x, np.full(5, label), reduction="none")


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("x", [np.zeros((0, 3), np.float32), np.full((2, 1), np.nan, np.float32),
                               np.array([[3e38, 0]] * 2, np.float32)], ids=["none", "nan", "huge"])  # fmt: skip
def test_cross_entropy_says_no_more_than_numpys(jit: str, x: np.ndarray) -> None:
    label = np.full(len(x), x.shape[1] - 1) if len(x) else np.zeros(0, int)
    with np.errstate(all="warn" if jit == "compiled" else "ignore"):  # plain Python warns at each number
        agree("cross_entropy", x, label)
        _, peak, total = quietly(registry["cross_entropy"].kernel, x, label)
        agree("cross_entropy_backward", np.ones((), np.float32), x, label, peak, total)


def test_no_loop_reads_past_the_end_of_an_array(jit: str) -> None:
    x, one, g = normal(4, 3), np.ones(1, np.float32), np.ones((), np.float32)
    agree("cross_entropy_backward", g, x, np.zeros(4, int), one, one)  # NumPy repeats what is one number
    agree("layer_norm_backward", x, x, one[None], one[None])
    _, loop = kernels("layer_norm_backward")
    rows = np.ones((4, 1), np.float32)
    with pytest.raises(ValueError, match="broadcast"):
        loop(x, x, rows, rows, np.ones(2, np.float32))


def test_what_is_not_float32_in_one_piece_goes_to_numpy(jit: str) -> None:
    for x in (normal(6, 4).astype(np.float64), normal(4, 6).T, normal(6, 8)[:, ::2], np.asfortranarray(normal(6, 4))):
        out = registry["gelu"].kernel(x, approximate="tanh")
        agree("gelu", x, approximate="tanh", tolerance=0)
        agree("gelu_backward", x, x, out, approximate="tanh", tolerance=0)
        agree("layer_norm", x, None, None, dims=1, eps=1e-5, tolerance=0)
        agree("cross_entropy", x, np.zeros(len(x), int), tolerance=0)


OPTIMIZERS: list[tuple[str, dict[str, Any]]] = [
    ("Adam", {}),
    ("Adam", {"weight_decay": 0.1, "betas": (0.5, 0.9), "eps": 1e-3}),
    ("Adam", {"amsgrad": True}),
    ("Adam", {"maximize": True}),
    ("AdamW", {"weight_decay": 0.3}),
    ("SGD", {}),
    ("SGD", {"momentum": 0.9, "weight_decay": 0.1}),
    ("SGD", {"momentum": 0.9, "nesterov": True}),
    ("SGDMomentum", {"dampening": 0.5}),
]


@pytest.mark.parametrize(("name", "options"), OPTIMIZERS)
def test_optimizers_take_the_same_steps(jit: str, name: str, options: dict[str, Any]) -> None:
    def learn() -> list[np.ndarray]:
        shapes = [(3, 5), (5000,), (2, 4)]
        starts = np.random.default_rng(0)
        parameters = [tt.tensor(starts.standard_normal(s, np.float32)).as_parameter() for s in shapes]
        parameters[2].data = np.asfortranarray(parameters[2].data)
        optimizer = getattr(tt_learn, name)(parameters, lr=0.01, **options)
        for _ in range(2 if jit == "plain" else 20):
            for p in parameters:
                p.grad = tt.tensor(starts.standard_normal(p.shape, np.float32))
            optimizer.step()
        state = optimizer.state_dict()["state"].values()
        return [p.data for p in parameters] + [x.data for each in state for x in each.values() if hasattr(x, "data")]

    found = learn()
    manager.unregister(name="jit")
    wanted = learn()
    manager.register(JitPlugin(acceleration.plain), "jit")
    for a, b in zip(wanted, found, strict=True):
        np.testing.assert_allclose(b, a, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["Adam", "AdamW", "SGDMomentum"])
def test_an_infinite_parameter_stays_what_it_is(jit: str, name: str) -> None:
    weight = tt.tensor([-math.inf, 1.0]).as_parameter()
    optimizer = getattr(tt_learn, name)([weight], lr=0.1)
    for _ in range(2):
        weight.grad = tt.tensor([0.0, 1.0])
        optimizer.step()
    assert weight.data[0] == -math.inf
    assert weight.data[1] < 1


@pytest.mark.parametrize("name", ["Adam", "SGDMomentum"])
def test_a_parameter_that_cannot_be_written_is_numpys_error(jit: str, name: str) -> None:
    weight = tt.tensor([1.0, 2.0]).as_parameter()
    optimizer = getattr(tt_learn, name)([weight])
    weight.grad = tt.tensor([1.0, 1.0])
    optimizer.step()
    weight.data = np.ones(2, np.float32)
    weight.data.flags.writeable = False
    with pytest.raises(ValueError, match="read-only"):
        optimizer.step()


def test_a_model_learns_the_same(jit: str) -> None:
    def losses() -> list[float]:
        tt.manual_seed(0)
        parts = tt.Linear(6, 8), tt.LayerNorm(8), tt.GELU("tanh"), tt.Linear(8, 8), tt.ReLU(), tt.Linear(8, 4)
        model = tt.Sequential(*parts)
        optimizer = tt_learn.AdamW(model.parameters(), lr=1e-2)
        x, y = tt.randn(16, 6), tt.randint(0, 4, (16,))
        found = []
        for _ in range(5):
            optimizer.zero_grad()
            loss = tt.cross_entropy(model(x), y)
            loss.backward()
            optimizer.step()
            found.append(loss.item())
        return found

    found = losses()
    manager.unregister(name="jit")
    assert losses() == pytest.approx(found, rel=1e-5)
    manager.register(JitPlugin(acceleration.plain), "jit")


@NUMBA
def test_large_arrays_are_shared_out_and_come_out_the_same_each_time() -> None:
    x, g = normal(3000, 257), normal(3000, 257)
    weight, bias = normal(257), normal(257)
    with tt.use("jit"):
        for name, inputs in {
            "gelu": (x,),
            "relu_backward": (g, x),
            "layer_norm": (x, weight, bias),
            "layer_norm_backward": (g, x, x[:, :1].copy(), np.abs(x[:, 1:2]), weight),
        }.items():
            options = {"approximate": "tanh"} if name == "gelu" else {}
            agree(name, *inputs, tolerance=1e-4, **options)
            _, loop = kernels(name)
            first, again = (loop(*inputs, **options) for _ in range(2))
            for a, b in zip(*(r if isinstance(r, tuple) else (r,) for r in (first, again))):
                np.testing.assert_array_equal(a, b)


def test_the_exponential_function(jit: str) -> None:
    exp = (acceleration.plain() if jit == "plain" else acceleration.compiled())["exp_below_0"]
    x = np.linspace(-100, 0, 5001, dtype=np.float32)
    found = np.array([exp(one) for one in x])
    wanted = np.where(x < -87.33654, 0, np.exp(x.astype(np.float64)))
    np.testing.assert_allclose(found, wanted, rtol=2e-7)
    assert exp(np.float32(-math.inf)) == 0
    assert exp(np.float32(0)) == 1
    if jit == "compiled":
        assert math.isnan(exp(np.float32(math.nan)))


def test_unplugged_everything_is_as_before(jit: str) -> None:
    manager.unregister(name="jit")
    assert all(manager.hook.tt_kernel(op=op) is None for op in registry.values())
    assert manager.hook.tt_update(optimizer=tt_learn.Adam) is None
    manager.register(JitPlugin(acceleration.plain), "jit")


def test_without_numba_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "numba", None)
    with pytest.raises(PluginError, match=r"^jit needs Numba .*: pip install numba$"):
        manager.register(JitPlugin(), "jit")
    assert not manager.has_plugin("jit")


def test_a_nan_among_the_logits_and_infinite_inputs_of_gelu_are_not_hidden(jit: str) -> None:
    x = np.array([[1, np.nan, 2], [1, -np.inf, 2], [1, np.inf, 2]], np.float32)
    agree("cross_entropy", x, np.array([0, 0, 0]))
    assert np.isnan(kernels("cross_entropy")[1](x[:1], np.array([0]))[0])
    corners = np.array([np.nan, np.inf, -np.inf, -0.0], np.float32)
    agree("gelu_backward", np.ones(4, np.float32), corners, corners, approximate="tanh")


@NUMBA
def test_the_check_of_plugins_finds_no_difference() -> None:
    kernels = acceleration.JitPlugin()._bound()
    absent = [plugin for plugin in (act, act_3, act_4) if not manager.is_registered(plugin)]
    for plugin in absent:
        manager.register(plugin)  # as the command `tt` does: they have the samples
    try:
        rows = checking.compare(kernels)
    finally:
        for plugin in absent:
            manager.unregister(plugin)
    assert [str(row) for row in rows if row.difference] == []
    assert {row.op for row in rows if row.calls > 10} == set(kernels)


def test_products_of_integers_are_exact(jit: str) -> None:
    _, product = kernels("integer_product")
    for length in (1, 40) if jit == "plain" else (1, 1039, 1040, 1041, 8192):
        rows = [np.full(length, value) for value in (127, -127, -128)]
        a = np.stack([*rows, random.integers(-128, 128, length)]).astype(np.int8)
        for left in (a, a.astype(np.int16) * 2):
            found = product(left, a)
            assert np.array_equal(found, left.astype(np.int64) @ a.astype(np.int64).T)


@pytest.mark.parametrize("rows", [1, 2, 3, 16, 65])
def test_products_with_stored_weights(jit: str, rows: int) -> None:
    weight, x = normal(5, 70), normal(rows, 70)
    for stored in (pack_int8(weight), pack_int4(weight, 32)):
        agree("quantized_linear", x, *stored, None, tolerance=1e-5)
        agree("quantized_linear", x.reshape(1, rows, 70), *stored, normal(5), tolerance=1e-5)
        agree("quantized_linear", x[0], *stored, normal(5), tolerance=1e-5)
    with pytest.raises(ValueError, match="input has 3 features, weight expects 70"):
        kernels("quantized_linear")[1](x[:, :3].copy(), *pack_int8(weight))


# --- the plugin naive


LESSONS = ("matmul", "linear", "conv2d", "max_pool2d", "avg_pool2d", "scaled_dot_product_attention")


@contextmanager
def samples_of_all_acts() -> Iterator[None]:
    """With the samples of Acts III to V plugged in, as in the command `tt`."""
    acts = [each for each in (act, act_3, act_4) if not manager.is_registered(each)]
    for each in acts:
        manager.register(each)
    try:
        yield
    finally:
        for each in acts:
            manager.unregister(each)


@pytest.mark.parametrize("name", LESSONS)
def test_the_plain_loops_equal_the_framework(name: str) -> None:
    with samples_of_all_acts():
        (row,) = checking.compare({name: NaivePlugin().tt_kernel(registry[name])}, timed=False)
    assert (row.difference, row.calls > 40) == ("", True)


def test_plain_windows_with_steps_and_padding() -> None:
    x, plain = normal(2, 3, 7, 6), NaivePlugin()
    options: dict[str, Any] = {"kernel_size": (3, 2), "stride": (2, 3), "padding": (1, 1)}
    for more in ({}, {"count_include_pad": False}):
        kernel = plain.tt_kernel(registry["avg_pool2d"])
        assert kernel is not None
        wanted = registry["avg_pool2d"].kernel(x, **options, **more)
        np.testing.assert_allclose(kernel(x, **options, **more), wanted, rtol=1e-5, atol=1e-6)


def test_naive_is_selected_by_name_and_runs_what_it_brings(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    known = naive.product

    def counted(a: naive.Matrix, b: naive.Matrix) -> naive.Matrix:
        calls.append((len(a), len(b)))
        return known(a, b)

    monkeypatch.setattr(naive, "product", counted)
    x = tt.tensor(normal(3, 4))
    wanted = x @ tt.tensor(normal(4, 2))
    assert calls == []
    with tt.use("naive"):
        tt.Linear(4, 2)(x)
        tt.matmul(x, tt.ones(4, 2))
    assert calls == [(3, 4), (3, 4)]
    assert wanted.shape == (3, 2)


def test_naive_and_jit_exclude_each_other() -> None:
    with tt.use("naive"), pytest.raises(PluginError, match="plugin jit and plugin naive exclude each other"):
        manager.register(JitPlugin(acceleration.plain), "jit")


def test_a_network_learns_the_same_with_plain_loops() -> None:
    def loss() -> float:
        tt.manual_seed(3)
        model = tt.Sequential(Conv2d(1, 2, 3, padding=1), tt.ReLU(), MaxPool2d(2), Flatten(), tt.Linear(8, 3))
        optimizer = tt_learn.SGD(model.parameters(), lr=0.1)
        x, y = tt.randn(4, 1, 4, 4), tt.randint(0, 3, (4,))
        for _ in range(2):
            optimizer.zero_grad()
            found = tt.cross_entropy(model(x), y)
            found.backward()
            optimizer.step()
        return found.item()

    wanted = loss()
    with tt.use("naive"):
        assert loss() == pytest.approx(wanted, rel=1e-5)


# --- sabotage: each breaks a loop or a kernel, and a check must fail


def _nothing(*arrays: Any) -> None:
    """A loop that leaves its results as they are."""


def _then(name: str, spoil: Callable[..., None]) -> Callable[..., Any]:
    """The loop `name`, whose arguments `spoil` changes afterwards."""
    loop = getattr(loops, name)

    def spoilt(*arguments: Any) -> Any:
        found = loop(*arguments)
        spoil(*arguments)
        return found

    return spoilt


def _halve(*arguments: Any) -> None:
    arguments[-1][...] /= 2


def _swap_rows(*arguments: Any) -> None:
    arguments[-1][...] = np.roll(arguments[-1], 1, axis=0)


def _next_label(x: np.ndarray, labels: np.ndarray, *results: Any) -> bool:
    return CROSS_ENTROPY(x, (labels + 1) % x.shape[1], *results)


def _own_decay(*arguments: Any) -> None:
    *others, how = arguments
    ADAM(*others, how[[0, 1, 0, *range(3, len(how))]])


def _wrapping(a: np.ndarray, b: np.ndarray, out: np.ndarray) -> None:
    out[...] = (a.astype(np.int16) @ b.astype(np.int16).T).astype(np.int16)  # sums need 32 bits


def _without_first_term(a: naive.Matrix, b: naive.Matrix) -> naive.Matrix:
    return PRODUCT([[0.0, *row[1:]] for row in a], b)


def _no_steps(image: naive.Image, kernels: Any, windows: naive.Windows) -> naive.Image:
    return CONVOLUTION(image, kernels, dataclasses.replace(windows, stride=(1, 1)))


def _counts_padding(image: naive.Image, windows: naive.Windows, count_padding: bool = True) -> naive.Image:
    return MEAN(image, windows)


def _sees_all(query: Any, key: Any, value: Any, scale: float, mask: naive.Matrix, allowed: Any) -> naive.Matrix:
    every = [[True] * len(row) for row in mask]
    return ATTENTION(query, key, value, scale, [[0.0] * len(row) for row in mask], every)


CROSS_ENTROPY, ADAM = loops.cross_entropy, update_loops.adam
PRODUCT, CONVOLUTION, LARGEST, MEAN = naive.product, naive.convolution, naive.largest, naive.mean
ATTENTION = naive.attention


def _loops(test: Callable[..., None], *arguments: Any) -> Callable[[], None]:
    """A test of the loops in plain Python."""

    def check() -> None:
        manager.register(JitPlugin(acceleration.plain), "jit")
        try:
            with np.errstate(all="ignore"):
                test("plain", *arguments)
        finally:
            if manager.has_plugin("jit"):
                manager.unregister(name="jit")

    return check


def _plain(name: str) -> Callable[[], None]:
    return lambda: test_the_plain_loops_equal_the_framework(name)


AFFINE = ("weight", "bias")
Sabotage = tuple[Any, str, Any, Callable[[], None]]
SABOTAGES: dict[str, Sabotage] = {
    "gelu does nothing": (loops, "gelu_tanh", _nothing, _loops(test_activations, (5, 7))),
    "half the slope of gelu": (
        loops, "gelu_tanh_backward", _then("gelu_tanh_backward", _halve), _loops(test_activations, (5, 7))),
    "relu passes every gradient": (
        loops, "relu_backward", lambda g, result, out: np.copyto(out, g), _loops(test_activations, (5, 7))),
    "rstd of another row": (
        loops, "layer_norm", _then("layer_norm", _swap_rows), _loops(test_layer_norm, (5, 7), AFFINE)),
    "no gradient of the bias": (
        loops, "layer_norm_backward", _then("layer_norm_backward", lambda *a: a[-1].fill(0)),
        _loops(test_layer_norm, (5, 7), AFFINE)),
    "the label beside": (loops, "cross_entropy", _next_label, _loops(test_cross_entropy, (6, 10), "none")),
    "half the slope of cross entropy": (
        loops, "cross_entropy_backward", _then("cross_entropy_backward", _halve),
        _loops(test_cross_entropy, (6, 10), "sum")),
    "one beta for both averages": (
        update_loops, "adam", _own_decay, _loops(test_optimizers_take_the_same_steps, "Adam", {})),
    "an optimizer that does nothing": (
        update_loops, "sgd_momentum", _nothing, _loops(test_optimizers_take_the_same_steps, *OPTIMIZERS[6])),
    "sums of 16 bits": (loops, "integer_product", _wrapping, _loops(test_products_of_integers_are_exact)),
    "the exponential of a neighbour": (
        loops, "exp_below_0", lambda x: np.float32(math.exp(x) * 1.001), _loops(test_the_exponential_function)),
    "every array is said to fit": (
        kernels_of_loops, "fits", lambda *arrays: True,
        _loops(test_what_is_not_float32_in_one_piece_goes_to_numpy)),
    "a product without its first term": (naive, "product", _without_first_term, _plain("matmul")),
    "a convolution without steps": (naive, "convolution", _no_steps, _plain("conv2d")),
    "padding counts in the mean": (naive, "mean", _counts_padding, test_plain_windows_with_steps_and_padding),
    "the smallest of a window": (
        naive, "largest", lambda image, w: [[[-x for x in r] for r in c] for c in LARGEST(image, w)],
        _plain("max_pool2d")),
    "attention without masks": (naive, "attention", _sees_all, _plain("scaled_dot_product_attention")),
}  # fmt: skip


@pytest.mark.parametrize("name", SABOTAGES)
def test_sabotage_turns_a_check_red(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    where, attribute, broken, check = SABOTAGES[name]
    check()
    monkeypatch.setattr(where, attribute, broken)
    with pytest.raises((AssertionError, tt.TinyTorchError, ValueError, IndexError)):
        check()
