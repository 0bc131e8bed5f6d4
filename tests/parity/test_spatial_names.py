"""Module 09's compositions and options against PyTorch: output and all gradients, over a grid of arguments."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from comparing import agree, both, check_state, compare, normal  # noqa: E402

import tt_core  # noqa: E402
import tt_data  # noqa: E402
import tt_learn  # noqa: E402

F = torch.nn.functional
rng = np.random.default_rng(0)


def same(name: str, *arrays: Any, **how: Any) -> None:
    """Our function of a name against PyTorch's, with the same arguments."""
    compare(lambda *xs: getattr(tt_data, name)(*xs, **how), lambda *xs: getattr(F, name)(*xs, **how), *arrays)


# --- convolutions


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel:UserWarning")
def test_conv1d() -> None:
    for k, s, p, d, g in itertools.product((1, 3, 4), (1, 2), (0, 2, "same", "valid"), (1, 2), (1, 2)):
        if not (p == "same" and s > 1):
            how = {"stride": s, "padding": p, "dilation": d, "groups": g}
            for shape in ((2, 4, 13), (4, 13)):
                same("conv1d", normal(*shape), normal(6, 4 // g, k), normal(6), **how)


def test_conv_transpose() -> None:
    for k, s, p, o, d, g in itertools.product((1, 3, (2, 3)), (1, 2, (3, 2)), (0, 1), (0, 1), (1, 2), (1, 2)):
        if o < np.min(s) and not (k == 1 and p):
            how = {"stride": s, "padding": p, "output_padding": o, "dilation": d, "groups": g}
            kernel = (k, k) if isinstance(k, int) else k
            weight = normal(4, 6 // g, *kernel)
            for shape in ((2, 4, 5, 6), (4, 5, 6)):
                same("conv_transpose2d", normal(*shape), weight, normal(6), **how)
            if isinstance(k, int) and isinstance(s, int):
                same("conv_transpose1d", normal(2, 4, 7), weight[..., 0], normal(6), **how)
                same("conv_transpose1d", normal(4, 7), weight[..., 0], None, **how)


@pytest.mark.parametrize("mode", ["zeros", "reflect", "replicate", "circular"])
@pytest.mark.parametrize(("name", "shape"), [("Conv2d", (4, 9, 8)), ("Conv1d", (4, 9))])
def test_layers_of_convolution(name: str, shape: tuple[int, ...], mode: str) -> None:
    for padding, bias, batch in itertools.product((0, 2, "same"), (True, False), ((), (2,))):
        layers = both(name, 4, 6, 3, padding=padding, dilation=2, groups=2, bias=bias, padding_mode=mode)
        compare(*layers, normal(*batch, *shape))
        check_state(*layers)


@pytest.mark.parametrize(("name", "shape"), [("ConvTranspose2d", (2, 4, 5, 6)), ("ConvTranspose1d", (2, 4, 5))])
def test_layers_of_transposed_convolution(name: str, shape: tuple[int, ...]) -> None:
    layers = both(name, 4, 6, 3, 2, 1, 1, 2, True, 2)
    compare(*layers, normal(*shape))
    check_state(*layers)
    layers, size = both(name, 4, 6, 3, stride=3), [17] * (len(shape) - 2)
    x = normal(2, 4, *(5 for _ in size))
    compare(lambda x: layers[0](x, [2, 6, *size]), lambda x: layers[1](x, [2, 6, *size]), x)


def test_initial_values_of_transposed_convolutions() -> None:
    ours, theirs = tt_data.ConvTranspose2d(512, 16, 3, groups=2), torch.nn.ConvTranspose2d(512, 16, 3, groups=2)
    for name, p in theirs.named_parameters():
        mine, yours = dict(ours.named_parameters())[name].numpy(), p.detach().numpy()
        assert mine.shape == yours.shape
        if mine.size > 100:
            assert abs(np.abs(mine).max() / np.abs(yours).max() - 1) < 0.06


def test_unfold_and_fold() -> None:
    for k, d, p, s in itertools.product((1, 2, (2, 3)), (1, 2), (0, 1), (1, 2, (2, 1))):
        how = {"kernel_size": k, "dilation": d, "padding": p, "stride": s}
        for shape in ((2, 3, 7, 8), (3, 7, 8)):
            same("unfold", normal(*shape), **how)
            columns = F.unfold(torch.zeros(shape), **how).shape
            same("fold", normal(*columns), output_size=(7, 8), **how)
    compare(tt_data.Fold((5, 6), 2), torch.nn.Fold((5, 6), 2), normal(2, 12, 20))
    compare(tt_data.Unfold(2, padding=1), torch.nn.Unfold(2, padding=1), normal(2, 3, 5, 6))


# --- padding


def test_pad() -> None:
    for mode, widths in itertools.product(("reflect", "replicate", "circular"), ((1, 2, 3, 0), (2, 1), (0, 0, 1, 1))):
        shape = (2, 3, 5, 4) if len(widths) == 4 else (2, 3, 4)
        same("pad", normal(*shape), pad=widths, mode=mode)
    compare(
        lambda x: tt_data.pad(x, (1, 2), "constant", 3.0), lambda x: F.pad(x, (1, 2), "constant", 3.0), normal(2, 4)
    )
    for name in ("ZeroPad2d", "ReflectionPad2d", "ReplicationPad2d", "CircularPad2d"):
        for padding, shape in itertools.product((2, (1, 0, 2, 1)), ((2, 3, 5, 4), (3, 5, 4))):
            compare(*both(name, padding), normal(*shape))
    compare(*both("ConstantPad2d", (1, 0, 2, 1), 7.0), normal(2, 3, 5, 4))


# --- pooling


NAN = float("nan")


@pytest.mark.parametrize(
    "values", [[1, NAN, 3, 2], [NAN, 1, NAN, 2], [3, 2, NAN, NAN], [NAN] * 4, [1, 1, 0, 1]], ids=str
)
def test_the_gradient_goes_to_the_same_element_with_nan_as_in_pytorch(values: list[float]) -> None:
    x = np.array(values, np.float32).reshape(1, 1, 4)
    for name, how in (
        ("max_pool1d", {"kernel_size": 4}),
        ("max_pool1d", {"kernel_size": 2, "stride": 1, "padding": 1}),
        ("adaptive_max_pool1d", {"output_size": 1}),
        ("adaptive_max_pool1d", {"output_size": 3}),
    ):
        mine, yours = tt_learn.tensor(x, requires_grad=True), torch.tensor(x, requires_grad=True)
        y, expected = getattr(tt_data, name)(mine, **how), getattr(F, name)(yours, **how)
        y.sum().backward()
        expected.sum().backward()
        np.testing.assert_array_equal(y.numpy(), expected.detach().numpy())
        np.testing.assert_array_equal(mine.grad.numpy(), yours.grad.numpy(), f"{name} {how}")


def test_max_pooling_with_indices_and_back() -> None:
    for k, s, p, d, c in itertools.product((2, (3, 2)), (None, 1, 2), (0, 1), (1, 2), (False, True)):
        arguments = (k, s, p, d, True, c)
        x = normal(2, 3, 9, 8)
        ours, theirs = tt_data.MaxPool2d(*arguments), torch.nn.MaxPool2d(*arguments)
        np.testing.assert_array_equal(ours(tt_core.tensor(x))[1].numpy(), theirs(torch.tensor(x))[1].numpy())
        compare(lambda x, f=ours: f(x)[0], lambda x, f=theirs: f(x)[0], x)
    for shape in ((2, 3, 8, 6), (3, 8, 6)):
        x = normal(*shape)
        _, indices = F.max_pool2d(torch.tensor(x), 2, return_indices=True)
        pooled = normal(*indices.shape)
        for size in (None, (9, 7)):
            compare(
                lambda x, i=indices, size=size: tt_data.MaxUnpool2d(2)(x, tt_core.tensor(i.numpy()), size),
                lambda x, i=indices, size=size: torch.nn.MaxUnpool2d(2)(x, i, size),
                pooled,
            )
    x = normal(2, 3, 9)
    ours = tt_data.max_pool1d(tt_core.tensor(x), 2, padding=1, return_indices=True)
    theirs = F.max_pool1d(torch.tensor(x), 2, padding=1, return_indices=True)
    np.testing.assert_array_equal(ours[1].numpy(), theirs[1].numpy())


def test_pooling_along_one_dimension() -> None:
    for k, s, p, c in itertools.product((2, 3), (None, 1, 2), (0, 1), (False, True)):
        for shape in ((2, 3, 9), (3, 9)):
            how = {"stride": s, "padding": p, "ceil_mode": c}
            same("max_pool1d", normal(*shape), kernel_size=k, **how)
            same("avg_pool1d", normal(*shape), kernel_size=k, count_include_pad=c, **how)
            compare(*both("MaxPool1d", k, s, p, ceil_mode=c), normal(*shape))
            compare(*both("AvgPool1d", k, s, p, c), normal(*shape))


def test_adaptive_pooling() -> None:
    for out in (1, 2, 3, 5, (7, 3), (None, 2)):
        for shape in ((2, 3, 8, 9), (3, 8, 9)):
            compare(*both("AdaptiveMaxPool2d", out), np.round(normal(*shape)))
    x = normal(2, 3, 7, 5)
    ours = tt_data.adaptive_max_pool2d(tt_core.tensor(x), 3, return_indices=True)[1].numpy()
    np.testing.assert_array_equal(ours, F.adaptive_max_pool2d(torch.tensor(x), 3, return_indices=True)[1].numpy())
    for out, shape in itertools.product((1, 2, 5), ((2, 3, 9), (3, 9))):
        compare(*both("AdaptiveAvgPool1d", out), normal(*shape))
        compare(*both("AdaptiveMaxPool1d", out), normal(*shape))


# --- normalization


@pytest.mark.parametrize("training", [True, False])
def test_functions_of_normalization(training: bool) -> None:
    x, mean, var = normal(4, 6, 5, 3) * 3 + 2, normal(6), normal(6) ** 2 + 0.5
    for weight, bias, eps in itertools.product((None, normal(6)), (None, normal(6)), (1e-5, 0.1)):
        moved = []
        for make, f in ((tt_core.tensor, tt_data.batch_norm), (torch.tensor, F.batch_norm)):
            state = make(mean.copy()), make(var.copy())
            given = [None if a is None else make(a) for a in (weight, bias)]
            moved.append((f(make(x), *state, *given, training, 0.3, eps), *state))
        for a, b in zip(*moved):
            agree(a, b)
        for groups in (1, 2, 3, 6):
            arrays = [a for a in (x, weight, bias) if a is not None]
            if weight is not None or bias is None:
                same_group = {"num_groups": groups, "eps": eps}
                compare(
                    lambda x, w=None, b=None, how=same_group: tt_data.group_norm(x, weight=w, bias=b, **how),
                    lambda x, w=None, b=None, how=same_group: F.group_norm(x, weight=w, bias=b, **how),
                    *arrays,
                )


@pytest.mark.parametrize("track", [True, False])
@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize(("name", "shape"), [("InstanceNorm2d", (5, 6, 4)), ("InstanceNorm1d", (5, 7))])
def test_instance_norm(name: str, shape: tuple[int, ...], affine: bool, track: bool) -> None:
    for momentum in (0.1, None):
        layers = both(name, 5, momentum=momentum, affine=affine, track_running_stats=track)
        compare(*layers, normal(3, *shape) * 3 + 2)
        compare(*layers, normal(*shape))
        check_state(*layers)
        [layer.eval() for layer in layers]
        compare(*layers, normal(3, *shape))


def test_group_norm() -> None:
    for shape, affine in itertools.product(((2, 12), (2, 12, 5), (1, 12, 3, 4), (0, 12, 3)), (True, False)):
        layers = both("GroupNorm", 3, 12, affine=affine)
        compare(*layers, normal(*shape))
        check_state(*layers)


def test_batch_norm_of_nothing_and_of_old_state_dicts() -> None:
    for shape in ((0, 5, 3, 4), (2, 5, 0, 4)):
        layers = both("BatchNorm2d", 5)
        compare(*layers, normal(*shape))
        check_state(*layers)
        [layer.eval() for layer in layers]
        compare(*layers, normal(*shape))
    ours, theirs = both("BatchNorm2d", 5)
    state = {k: v.numpy() for k, v in theirs.state_dict().items() if k != "num_batches_tracked"}
    assert ours.load_state_dict(state) == ([], [])
    assert theirs.load_state_dict({k: torch.tensor(v) for k, v in state.items()}) == ([], [])
    check_state_only = (
        ours.state_dict()["num_batches_tracked"].item(),
        theirs.state_dict()["num_batches_tracked"].item(),
    )
    assert check_state_only == (3, 3)


# --- resampling


@pytest.mark.parametrize("mode", ["nearest", "nearest-exact", "bilinear", "bicubic", "area"])
@pytest.mark.parametrize("size", [(5, 7), (1, 4), (8, 8)], ids=str)
def test_interpolate(size: tuple[int, int], mode: str) -> None:
    for align in (None, True, False) if mode in ("bilinear", "bicubic") else (None,):
        for how in ({"size": 4}, {"size": (11, 9)}, {"scale_factor": 2}, {"scale_factor": (2, 1.3)}):
            for recompute in (None, True) if "scale_factor" in how else (None,):
                rest = {"mode": mode, "align_corners": align, "recompute_scale_factor": recompute}
                same("interpolate", normal(2, 3, *size), **how, **rest)


@pytest.mark.parametrize("mode", ["nearest", "nearest-exact", "linear", "area"])
def test_interpolate_along_one_dimension(mode: str) -> None:
    for how in ({"size": 4}, {"size": (11,)}, {"scale_factor": 2.5}):
        same("interpolate", normal(2, 3, 7), mode=mode, **how)
    compare(*both("Upsample", scale_factor=2, mode=mode), normal(2, 3, 7))


@pytest.mark.filterwarnings("ignore:`nn.functional.upsample` is deprecated")
def test_upsample_takes_pytorch_s_arguments_in_its_order() -> None:
    for arguments in (((4, 9),), (None, 2), (None, 2, "bilinear", True)):
        compare(
            lambda x, a=arguments: tt_data.upsample(x, *a), lambda x, a=arguments: F.upsample(x, *a), normal(2, 3, 5, 4)
        )


# --- sampling


@pytest.mark.parametrize("align", [True, False])
@pytest.mark.parametrize("padding", ["zeros", "border"])
@pytest.mark.parametrize("mode", ["bilinear", "nearest"])
def test_grid_sample(mode: str, padding: str, align: bool) -> None:
    for size, out in (((5, 4), (3, 6)), ((1, 7), (4, 4))):
        grid = (rng.random((2, *out, 2), dtype=np.float32) * 3 - 1.5).astype(np.float32)
        how = {"mode": mode, "padding_mode": padding, "align_corners": align}
        if mode == "bilinear":
            same("grid_sample", normal(2, 3, *size), grid, **how)
        else:  # whose grid has no gradient
            compare(
                lambda x, grid=grid, how=how: tt_data.grid_sample(x, grid, **how),
                lambda x, grid=grid, how=how: F.grid_sample(x, torch.tensor(grid), **how),
                normal(2, 3, *size),
            )
    for size in ((2, 3, 4, 5), (2, 3, 2, 6) if align else (2, 3, 1, 6)):
        same("affine_grid", normal(2, 2, 3), size=size, align_corners=align)


# --- elements in another order


def test_shuffles_and_shapes() -> None:
    for shape in ((2, 12, 3, 4), (12, 3, 4), (2, 2, 4, 3, 2)):
        compare(*both("PixelShuffle", 2), normal(*shape))
    for shape in ((2, 3, 4, 6), (3, 4, 6)):
        compare(*both("PixelUnshuffle", 2), normal(*shape))
    compare(*both("Unflatten", 1, (3, -1)), normal(2, 12))
    compare(*both("Flatten", 0, 1), normal(2, 12, 3))
    same("dropout2d", normal(2, 3, 4, 4), p=0.3, training=False)


# --- one image, and halves


@pytest.mark.parametrize("shape", [(4, 9, 8), (2, 4, 9, 8)], ids=len)
def test_functions_take_one_image(shape: tuple[int, ...]) -> None:
    x = normal(*shape)
    same("conv2d", x, normal(6, 2, 3, 2), normal(6), groups=2, stride=2, padding=1)
    same("max_pool2d", x, kernel_size=2, padding=1)
    same("avg_pool2d", x, kernel_size=3, stride=2)
    same("adaptive_avg_pool2d", x, output_size=(3, 4))


@pytest.mark.parametrize(
    "call",
    [
        lambda lib, x, w: lib.conv2d(x, w),
        lambda lib, x, w: lib.conv2d(x, w, padding=1, stride=2),
        lambda lib, x, w: lib.conv_transpose2d(x, w),
        lambda lib, x, w: lib.avg_pool2d(x, (30, 40)),
        lambda lib, x, w: lib.avg_pool2d(x, 5, stride=1),
        lambda lib, x, w: lib.max_pool2d(x, 5, stride=1),
        lambda lib, x, w: lib.adaptive_avg_pool2d(x, 7),
        lambda lib, x, w: lib.interpolate(x, size=(3, 5), mode="bilinear"),
        lambda lib, x, w: lib.interpolate(x, scale_factor=7, mode="bicubic"),
        lambda lib, x, w: lib.interpolate(x, scale_factor=7),
        lambda lib, x, w: lib.group_norm(x, 2),
        lambda lib, x, w: lib.instance_norm(x),
        lambda lib, x, w: lib.batch_norm(x, None, None, training=True),
        lambda lib, x, w: lib.unfold(x, 5),
    ],
)
def test_halves_are_as_close_to_float32_as_one_rounding(call: Any) -> None:
    """Output and gradients of float16 against ours in float32, within two roundings of the largest number."""
    x, w = (np.abs(normal(2, 8, 30, 40)) * 8).astype(np.float16), (np.abs(normal(8, 8, 3, 3)) * 2).astype(np.float16)
    found, g = [], None
    for dtype in (np.float16, np.float32):
        a, b = (tt_learn.tensor(v.astype(dtype), requires_grad=True) for v in (x, w))
        y = call(tt_data, a, b)
        assert y.dtype == dtype
        g = np.abs(normal(*y.shape)).astype(np.float16) if g is None else g
        y.backward(g.astype(dtype))
        found.append([y.numpy(), *(t.grad.numpy() for t in (a, b) if t.grad is not None)])
    for half, single in zip(*found):
        expected = single.clip(-65504, 65504)  # what is larger is inf in float16
        assert np.abs(half.astype(np.float64).clip(-65504, 65504) - expected).max() <= 2e-3 * np.abs(expected).max()
