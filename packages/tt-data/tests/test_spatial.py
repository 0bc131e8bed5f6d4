"""Module 09: values worked out by hand or by plain loops, and every gradient against finite differences in float64."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import tt_core
import tt_data
from tt_core.engine import mutation
from tt_core.engine.dispatch import registry
from tt_core.engine.errors import TinyTorchError
from tt_data import spatial
from tt_data.kernels import convolution
from tt_learn.autograd import Tensor, grad, rule_of
from tt_learn.autograd.finite_differences import gradcheck, gradgradcheck

rng = np.random.default_rng(0)


def leaf(*shape):
    return Tensor(rng.standard_normal(shape), requires_grad=True)


def loops(x, weight, stride, padding, dilation, groups):
    """The definition of a convolution, one number at a time."""
    x = np.pad(x, ((0, 0), (0, 0), (padding[0],) * 2, (padding[1],) * 2))
    o, per_group, kh, kw = weight.shape
    rows = (x.shape[2] - dilation[0] * (kh - 1) - 1) // stride[0] + 1
    columns = (x.shape[3] - dilation[1] * (kw - 1) - 1) // stride[1] + 1
    out = np.zeros((x.shape[0], o, rows, columns))
    for n, k, r, c in np.ndindex(out.shape):
        first = k // (o // groups) * per_group
        for channel, i, j in np.ndindex(per_group, kh, kw):
            pixel = x[n, first + channel, r * stride[0] + i * dilation[0], c * stride[1] + j * dilation[1]]
            out[n, k, r, c] += weight[k, channel, i, j] * pixel
    return out


pairs = st.tuples(st.integers(1, 3), st.integers(1, 3))


@settings(max_examples=60, deadline=None)
@given(pairs, pairs, pairs, st.tuples(st.integers(0, 2), st.integers(0, 2)), st.sampled_from([1, 2]), st.booleans())
def test_conv2d_is_its_definition_and_its_three_readings_agree(kernel, stride, dilation, padding, groups, small_blocks):
    n, size = 3, (7, 6)
    assume(all(d * (k - 1) + 1 <= s + 2 * p for d, k, s, p in zip(dilation, kernel, size, padding)))
    x, weight = rng.standard_normal((n, 4, *size)), rng.standard_normal((6, 4 // groups, *kernel))
    how = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    with pytest.MonkeyPatch.context() as patch:
        if small_blocks:  # several blocks, also of a few rows of one image
            patch.setattr(convolution, "BLOCK", 1200)
        y = spatial.conv2d.kernel(x, weight, **how)
        np.testing.assert_allclose(y, loops(x, weight, stride, padding, dilation, groups), atol=1e-12)
        g = rng.standard_normal(y.shape)
        by_x = spatial.conv2d_input.kernel(g, weight, size=size, **how)
        by_weight = spatial.conv2d_weight.kernel(g, x, kernel_size=kernel, **how)
    assert by_x.shape == x.shape
    assert by_weight.shape == weight.shape
    np.testing.assert_allclose([(x * by_x).sum(), (weight * by_weight).sum()], (g * y).sum(), atol=1e-10)


@pytest.mark.parametrize(
    ("how", "groups"),
    [
        ({}, 1),
        ({"stride": 2, "padding": 1}, 1),
        ({"dilation": (1, 2), "padding": "same"}, 2),
        ({"stride": (1, 2), "padding": (0, 2)}, 4),
    ],
    ids=str,
)
def test_conv2d_gradients(how, groups):
    inputs = leaf(2, 4, 5, 6), leaf(4, 4 // groups, 3, 2), leaf(4)

    def convolve(x, weight, bias):
        return spatial.conv2d(x, weight, bias, groups=groups, **how)

    assert gradcheck(convolve, inputs)
    assert gradgradcheck(convolve, inputs)


def test_conv2d_backward_ops_can_be_differentiated_themselves():
    g, x, weight = leaf(2, 4, 3, 2), leaf(2, 2, 5, 6), leaf(4, 2, 3, 3)
    assert gradcheck(
        lambda g, weight: spatial.conv2d_input(g, weight, size=(5, 6), stride=2, padding=(1, 0)), (g, weight)
    )
    assert gradcheck(lambda g, x: spatial.conv2d_weight(g, x, kernel_size=(3, 3), stride=2, padding=(1, 0)), (g, x))


def test_conv2d_third_derivative_of_a_cube():
    """y = (w x)^3 for one pixel: the third derivative by w is 6 x^3."""
    x, w = Tensor(np.full((1, 1, 1, 1), 2.0)), Tensor(np.full((1, 1, 1, 1), 3.0), requires_grad=True)
    y = spatial.conv2d(x, w).pow(3).sum()
    for _ in range(3):
        (y,) = grad(y.sum(), w, create_graph=True)
    assert y.item() == pytest.approx(6 * 2.0**3)


def test_a_convolution_whose_input_needs_no_gradient_computes_none(monkeypatch):
    weight = leaf(3, 2, 3, 3)
    y = spatial.conv2d(Tensor(rng.standard_normal((1, 2, 5, 5))), weight)
    monkeypatch.setattr(spatial.conv2d_input, "chain", lambda *_, **__: pytest.fail("a gradient nobody asked for"))
    y.sum().backward()
    assert weight.grad.shape == weight.shape


def test_inputs_that_are_views_and_inputs_without_images():
    x, weight = leaf(6, 5, 3, 2), leaf(2, 3, 2, 2)
    assert gradcheck(lambda x, w: spatial.conv2d(x.permute(3, 2, 1, 0)[:, :, ::2], w), (x, weight))
    empty, weight = Tensor(np.zeros((0, 3, 5, 5)), requires_grad=True), leaf(2, 3, 2, 2)
    y = spatial.conv2d(empty, weight)
    y.sum().backward()
    assert y.shape == (0, 2, 4, 4)
    assert empty.grad.shape == (0, 3, 5, 5)
    assert not weight.grad.numpy().any()
    assert tt_data.MaxPool2d(2)(empty).shape == (0, 3, 2, 2)


@pytest.mark.parametrize(
    "how",
    [{}, {"stride": 1}, {"stride": 2, "padding": 1, "ceil_mode": True}, {"dilation": (1, 2), "stride": 1}],
    ids=str,
)
def test_max_pool2d_gradients(how):
    assert gradcheck(lambda x: spatial.max_pool2d(x, kernel_size=(2, 3), **how), leaf(2, 2, 6, 7))
    assert gradgradcheck(lambda x: spatial.max_pool2d(x, kernel_size=(2, 3), **how).square(), leaf(2, 2, 6, 7))


def test_max_pool2d_gives_the_gradient_to_the_first_of_equals_and_hands_nan_on():
    x = Tensor(np.zeros((1, 1, 2, 2)), requires_grad=True)
    spatial.max_pool2d(x, kernel_size=2).sum().backward()
    assert x.grad.tolist() == [[[[1.0, 0.0], [0.0, 0.0]]]]
    assert np.isnan(spatial.max_pool2d(tt_core.tensor([[[[1.0, float("nan")], [3.0, 2.0]]]]), kernel_size=2).item())


def test_max_pool2d_gives_no_gradient_to_its_padding():
    x = Tensor(np.full((1, 1, 3, 2), -np.inf), requires_grad=True)
    spatial.max_pool2d(x, kernel_size=3, stride=2, padding=1).sum().backward()
    assert x.grad.tolist() == [[[[1.0, 0.0], [1.0, 0.0], [0.0, 0.0]]]]


def test_max_pool2d_of_negative_numbers_does_not_see_its_padding():
    y = spatial.max_pool2d(tt_core.full((1, 1, 3, 3), -5.0), kernel_size=3, padding=1)
    assert y.tolist() == [[[[-5.0]]]]


@pytest.mark.parametrize(
    "how",
    [
        {},
        {"stride": 1, "padding": 1},
        {"stride": 2, "ceil_mode": True, "padding": 1},
        {"count_include_pad": False, "padding": 1},
        {"divisor_override": 5},
    ],
    ids=str,
)
def test_avg_pool2d_gradients(how):
    assert gradcheck(lambda x: spatial.avg_pool2d(x, kernel_size=(2, 3), **how), leaf(2, 2, 6, 7))
    assert gradgradcheck(lambda x: spatial.avg_pool2d(x, kernel_size=(2, 3), **how).square(), leaf(2, 2, 6, 7))


@pytest.mark.parametrize("out", [(1, 1), (2, 3), (4, 5), (7, 6)], ids=str)
def test_adaptive_avg_pool2d_gradients(out):
    assert gradcheck(lambda x: spatial.adaptive_avg_pool2d(x, output_size=out), leaf(2, 2, 5, 6))
    assert gradgradcheck(lambda x: spatial.adaptive_avg_pool2d(x, output_size=out).square(), leaf(2, 2, 5, 6))


def test_adaptive_avg_pool2d_takes_a_number_and_keeps_the_size_where_it_is_none():
    x = Tensor(rng.standard_normal((2, 3, 4, 6)))
    assert np.array_equal(spatial.adaptive_avg_pool2d(x, 2).numpy(), spatial.adaptive_avg_pool2d(x, (2, 2)).numpy())
    assert spatial.adaptive_avg_pool2d(x, (None, 3)).shape == (2, 3, 4, 3)
    assert np.array_equal(spatial.adaptive_avg_pool2d(x, None).numpy(), x.numpy())


@pytest.mark.parametrize("pool", [spatial.max_pool2d, spatial.avg_pool2d], ids=lambda pool: pool.name)
def test_with_ceil_mode_the_one_window_on_a_small_image_may_hang_over_its_edge(pool):
    x = leaf(1, 2, 2, 3)
    expected = x.numpy().max((2, 3)) if pool is spatial.max_pool2d else x.numpy().mean((2, 3))
    assert np.allclose(pool(x, 3, stride=2, ceil_mode=True).numpy()[:, :, 0, 0], expected)
    assert gradcheck(lambda x: pool(x, 3, stride=2, ceil_mode=True), x)
    with pytest.raises(ValueError, match=r"kernel \(4, 4\) is larger than the image \(2, 3\)"):
        pool(x, 4, stride=2, ceil_mode=True)


@pytest.mark.parametrize(
    "how",
    [{"mode": m} for m in ("nearest", "nearest-exact", "bilinear", "bicubic")]
    + [{"mode": m, "align_corners": True} for m in ("bilinear", "bicubic")],
    ids=str,
)
@pytest.mark.parametrize("size", [(6, 8), (5, 3), (1, 7)], ids=str)
def test_upsample_gradients(how, size):
    assert gradcheck(lambda x: spatial.resample(x, size=size, **how), leaf(2, 2, 3, 4))
    assert gradgradcheck(lambda x: spatial.resample(x, size=size, **how).square(), leaf(2, 2, 3, 4))


@pytest.mark.parametrize(("columns", "factor", "each"), [(3, 1.3, 1), (5, 2.15, 2)])
def test_upsample_to_the_same_or_the_double_size_looks_at_no_scale_factor(columns, factor, each):
    """As PyTorch's: 5 times 2.15 is 10 columns, and then each comes twice."""
    x = Tensor(np.arange(float(columns)).reshape(1, 1, 1, columns))
    expected = np.repeat(np.arange(float(columns)), each).tolist()
    assert tt_data.Upsample(scale_factor=(1, factor))(x).numpy().ravel().tolist() == expected
    if each == 1:
        smooth = tt_data.Upsample(scale_factor=[1, factor], mode="bilinear")
        assert smooth(x).numpy().ravel().tolist() == expected


def test_halves_are_blended_where_they_lie_and_summed_without_overflow():
    x = rng.random((1, 1, 1, 700)).astype(np.float16)
    for align_corners in (True, False):
        how = {"size": (1, 3000), "mode": "bilinear", "align_corners": align_corners}
        exact = spatial.resample.kernel(x.astype(np.float32), **how)
        assert np.abs(spatial.resample.kernel(x, **how) - exact).max() < 2e-3
    large = np.full((1, 1, 8, 64), 2000, np.float16)
    assert spatial.avg_pool2d.kernel(large, (8, 64)).item() == 2000
    assert spatial.adaptive_avg_pool2d.kernel(large, 1).item() == 2000
    assert spatial.avg_pool2d.kernel(large, 8).dtype == np.float16


@pytest.mark.parametrize("shape", [(5, 3), (4, 3, 5), (3, 3, 4, 2)], ids=str)
@pytest.mark.parametrize("piece", [64, 1 << 20])
def test_batch_norm_gradients(shape, piece, monkeypatch):
    monkeypatch.setattr("tt_core.engine.threads.PIECE", piece)
    inputs = leaf(*shape), leaf(3), leaf(3)
    everything = lambda *inputs: spatial.batch_norm_training(*inputs, eps=1e-2)  # noqa: E731 - output, mean and variance
    assert gradcheck(everything, inputs)
    assert gradcheck(lambda x: spatial.batch_norm_training(x)[0], inputs[0])
    assert gradgradcheck(lambda *inputs: spatial.batch_norm_training(*inputs, eps=1e-2)[0], inputs, atol=1e-4)
    mean, var = leaf(3), Tensor(rng.random(3) + 0.5, requires_grad=True)
    given = (inputs[0], mean, var, *inputs[1:])
    assert gradcheck(lambda *given: spatial.batch_norm_inference(*given), given)
    assert gradgradcheck(lambda *given: spatial.batch_norm_inference(*given), given, atol=1e-4)


def test_batch_norm_gradients_of_mean_and_variance_alone():
    assert gradcheck(lambda x: spatial.batch_norm_training(x)[1:], leaf(4, 3, 2))


def test_batch_norm_tracks_what_it_saw_and_uses_it_in_evaluation():
    layer = tt_data.BatchNorm2d(2, momentum=0.5)
    x = tt_core.tensor(rng.standard_normal((8, 2, 3, 3), dtype=np.float32) * 3 + 1)
    y = layer(x).numpy()
    np.testing.assert_allclose(y.mean((0, 2, 3)), 0, atol=1e-6)
    np.testing.assert_allclose(y.var((0, 2, 3)), 1, atol=1e-4)
    mean, var = x.numpy().mean((0, 2, 3)), x.numpy().var((0, 2, 3), ddof=1)
    np.testing.assert_allclose(layer.running_mean.numpy(), mean / 2, rtol=1e-5)
    np.testing.assert_allclose(layer.running_var.numpy(), 0.5 + var / 2, rtol=1e-5)
    assert layer.num_batches_tracked.item() == 1
    before = {k: v.numpy().copy() for k, v in layer.state_dict().items()}
    layer.eval()(x * 100)
    assert all((before[k] == v.numpy()).all() for k, v in layer.state_dict().items())


def test_a_training_step_between_forward_and_backward_is_noticed_by_evaluation_only():
    """Running statistics change in place; a training pass does not keep them, an evaluation pass does."""
    layer, x = tt_data.BatchNorm1d(2), tt_core.tensor(rng.standard_normal((4, 2), dtype=np.float32)).requires_grad_()
    first = layer(x)
    layer(x)
    first.sum().backward()
    evaluated = layer.eval()(x)
    layer.train()(x)
    with pytest.raises(tt_core.TinyTorchError, match="changed"):
        evaluated.square().sum().backward()


def test_dropout2d_drops_whole_channels_and_keeps_the_mean():
    x = tt_core.ones(200, 50, 3, 2).requires_grad_()
    y = tt_data.Dropout2d(0.3)(x)
    values = y.numpy().reshape(10_000, 6)
    assert set(np.unique(values)) == {0.0, np.float32(1 / 0.7)}
    assert (values == values[:, :1]).all()
    assert abs(values.mean() - 1) < 0.03
    y.sum().backward()
    assert (x.grad.numpy() == y.numpy()).all()
    assert not tt_data.Dropout2d(1.0)(x).numpy().any()
    assert tt_data.Dropout2d(0.3).eval()(x) is x


def test_dropout2d_drops_the_channels_of_volumes_whole():
    kept = spatial.dropout2d(tt_core.ones(20, 3, 2, 2, 2), p=0.5).numpy().reshape(60, 8) > 0
    assert (kept.all(1) | ~kept.any(1)).all()


def test_a_nan_elsewhere_does_not_lead_gradients_into_the_padding():
    x = np.full((2, 1, 3, 3), -np.inf)
    x[1, 0, 1, 1] = np.nan
    images = Tensor(x, requires_grad=True)
    spatial.max_pool2d(images, 2, stride=2, padding=1)[:1].sum().backward()
    assert images.grad.numpy()[0].sum() == 4


def test_batch_norm_takes_arrays_as_a_convolution_does():
    layer = tt_data.BatchNorm2d(2)
    assert layer(rng.standard_normal((3, 2, 4, 4))).shape == (3, 2, 4, 4)
    assert layer.num_batches_tracked.item() == 1


def test_every_op_of_the_module_has_a_gradient_rule():
    ours = [op for op in registry.values() if op.kernel.__module__.startswith("tt_data.")]
    assert {"conv2d", "conv2d_input", "conv2d_weight", "max_pool2d", "batch_norm_training", "resample"} <= {
        op.name for op in ours
    }
    for op in ours:
        assert rule_of(op) is not None


def test_kernels_can_be_replaced():
    class Naive:
        @tt_core.hookimpl
        def tt_kernel(self, op):
            return (lambda x, weight, bias=None, /, **_: np.full((1, 1, 1, 1), 42.0)) if op.name == "conv2d" else None

    layer, x = tt_data.Conv2d(1, 1, 3), tt_core.ones(1, 1, 3, 3)
    tt_core.manager.register(plugin := Naive())
    try:
        assert layer(x).item() == 42
    finally:
        tt_core.manager.unregister(plugin)
    assert layer(x).item() != 42


def test_state_dicts_have_the_names_of_pytorch():
    model = tt_core.Sequential(tt_data.Conv2d(3, 4, 3, groups=1), tt_data.BatchNorm2d(4))
    assert list(model.state_dict()) == [
        "0.weight", "0.bias", "1.weight", "1.bias", "1.running_mean", "1.running_var", "1.num_batches_tracked",
    ]  # fmt: skip


def test_layers_show_what_they_were_given():
    assert repr(tt_data.Conv2d(3, 8, 3, stride=2, groups=1)).startswith(
        "Conv2d(3, 8, kernel_size=(3, 3), stride=(2, 2))"
    )
    assert repr(tt_data.Flatten()) == "Flatten()"
    assert "mode='bilinear'" in repr(tt_data.Upsample(scale_factor=2, mode="bilinear"))


# --- bad input: one line each, with the shapes


def message(call):
    with pytest.raises(TinyTorchError) as caught:
        call()
    text = str(caught.value)
    assert "\n" not in text
    return text


def test_bad_input_of_convolutions():
    x, ones = tt_core.ones(2, 4, 5, 5), tt_core.ones
    for call, *expected in (
        (
            lambda: spatial.conv2d(x, ones(3, 4, 7, 3)),
            "kernel (7, 3) is larger than the image (5, 5)",
            "weight (3, 4, 7, 3)",
        ),
        (
            lambda: spatial.conv2d(x, ones(3, 4, 3, 3), dilation=4),
            "spread to (9, 9) by dilation (4, 4)",
            "image (5, 5)",
        ),
        (lambda: spatial.conv2d(x, ones(3, 4, 9, 9), padding=1), "(7, 7) with padding"),
        (lambda: spatial.conv2d(x, ones(3, 3, 3, 3)), "input has 4 channels, weight expects 3", "x (2, 4, 5, 5)"),
        (lambda: spatial.conv2d(x, ones(4, 1, 3, 3), groups=2), "input has 4 channels, weight expects 1 x 2 groups"),
        (lambda: spatial.conv2d(x, ones(4, 1, 3, 3), groups=3), "groups 3 must divide 4 input and 4 output channels"),
        (lambda: spatial.conv2d(x, ones(4, 4, 3, 3), groups=0), "groups 0 must divide"),
        (lambda: spatial.conv2d(ones(4, 5), ones(3, 4, 3, 3)), "input has 2 dimensions, expected 4", "x (4, 5)"),
        (lambda: spatial.conv2d(x, ones(3, 4)), "weight has 2 dimensions"),
        (lambda: spatial.conv2d(x, ones(3, 4, 3, 3), ones(4)), "bias has shape (4,), expected (3,)"),
        (lambda: spatial.conv2d(x, ones(3, 4, 3, 3), stride=0), "stride is an integer >= 1 or a pair of them, got 0"),
        (lambda: spatial.conv2d(x, ones(3, 4, 3, 3), stride=(1, 2, 3)), "stride is an integer >= 1 or a pair"),
        (lambda: spatial.conv2d(x, ones(3, 4, 3, 3), padding=-1), "padding is an integer >= 0"),
        (lambda: spatial.conv2d(x, ones(3, 4, 3, 3), padding="full"), "'same' or 'valid', got 'full'"),
        (lambda: tt_data.Conv2d(4, 3, 3, padding="full"), "'same' or 'valid', got 'full'"),
        (lambda: tt_data.Conv2d(4, 3, 3, padding="same", stride=2), "'same' needs stride 1"),
        (lambda: spatial.conv2d(x, ones(3, 4, 3, 3), padding="same", stride=2), "'same' needs stride 1, got (2, 2)"),
        (lambda: tt_data.Conv2d(4, 6, 3, groups=4), "Conv2d: groups 4 must divide in_channels 4 and out_channels 6"),
        (lambda: tt_data.Conv2d(4, 6, 0), "Conv2d: kernel_size is an integer >= 1"),
        (lambda: tt_data.Conv2d(4, 6, 2.5), "Conv2d: kernel_size is an integer >= 1 or a pair of them, got 2.5"),
    ):
        text = message(call)
        assert all(part in text for part in expected), text


def test_batch_norm_of_halves_sums_in_float32():
    images, g = rng.standard_normal((2, 70, 2, 32, 32)).astype(np.float16)  # 71,680 values a channel: more than a half
    results = []
    for dtype in (np.float16, np.float32):
        x, weight = Tensor(images.astype(dtype), requires_grad=True), Tensor(np.ones(2, dtype), requires_grad=True)
        y, mean, var = spatial.batch_norm_training(x, weight)
        y.backward(Tensor(g.astype(dtype)))
        assert y.dtype == x.grad.dtype == dtype
        results.append([each.numpy() for each in (y, mean, var, x.grad, weight.grad)])
    assert all(np.allclose(half, single, rtol=2e-3, atol=2e-3) for half, single in zip(*results))


@pytest.mark.parametrize(
    "call",
    [
        lambda x: spatial.batch_norm_training(x),
        lambda x: spatial.avg_pool2d(x, 2),
        lambda x: spatial.adaptive_avg_pool2d(x, 2),
        lambda x: spatial.upsample(x, size=(4, 4), mode="bilinear"),
        lambda x: spatial.dropout2d(x, p=0.3),
    ],
    ids=["batch_norm_training", "avg_pool2d", "adaptive_avg_pool2d", "upsample", "dropout2d"],
)
def test_whole_numbers_are_refused_where_they_would_be_rounded_or_wrap_around(call):
    with pytest.raises(TypeError, match=r"^\w+: needs a floating dtype, got uint8; call .float\(\) first"):
        call(Tensor(np.ones((2, 3, 4, 4), np.uint8)))


def test_bad_input_of_the_other_layers():
    x, ones = tt_core.ones(2, 4, 5, 5), tt_core.ones
    for call, *expected in (
        (lambda: tt_data.MaxPool2d(7)(x), "max_pool2d: kernel (7, 7) is larger than the image (5, 5)"),
        (lambda: tt_data.MaxPool2d(2, padding=2)(x), "padding (2, 2) is more than half of the kernel (2, 2)"),
        (lambda: tt_data.MaxPool2d(2, stride=0)(x), "stride is an integer >= 1 or a pair of them, got 0"),
        (lambda: tt_data.AvgPool2d(2)(ones(4, 5)), "avg_pool2d: input has 2 dimensions", "x (4, 5)"),
        (lambda: tt_data.AvgPool2d(2, divisor_override=0)(x), "divisor_override must not be 0"),
        (lambda: tt_data.AdaptiveAvgPool2d(0)(x), "adaptive_avg_pool2d: output_size is an integer >= 1"),
        (lambda: spatial.adaptive_avg_pool2d(x, (1, 2, 3)), "output_size is a number or a pair (rows, columns)"),
        (lambda: tt_data.BatchNorm2d(3)(x), "BatchNorm2d: input has shape (2, 4, 5, 5), expected (N, 3, H, W)"),
        (lambda: tt_data.BatchNorm2d(4)(ones(4, 4)), "BatchNorm2d: input has shape (4, 4)"),
        (lambda: tt_data.BatchNorm1d(4)(x), "BatchNorm1d: input has shape (2, 4, 5, 5), expected (N, 4) or (N, 4, L)"),
        (lambda: tt_data.BatchNorm1d(4)(ones(1, 4)), "one value in each channel of (1, 4) has no variance"),
        (lambda: spatial.batch_norm_training(x, ones(3)), "weight has shape (3,), input has 4 channels"),
        (lambda: spatial.batch_norm_inference(x, ones(3), ones(3)), "one entry for each of 4 channels"),
        (lambda: tt_data.Dropout2d(1.5), "p is a probability, got 1.5"),
        (lambda: tt_data.Upsample(), "give either size or scale_factor"),
        (lambda: tt_data.Upsample(2, mode="cubic"), "'bilinear', 'bicubic', 'linear' or 'area', got 'cubic'"),
        (
            lambda: tt_data.Upsample(2, align_corners=True),
            "align_corners is for modes that blend",
            "got mode 'nearest'",
        ),
        (lambda: tt_data.Upsample(scale_factor=0.1)(x), "interpolate: size is an integer >= 1"),
        (
            lambda: tt_data.Upsample(scale_factor=0),
            "scale_factor is a number > 0, or one for each of 2 dimensions, got 0",
        ),
        (lambda: tt_data.Upsample(scale_factor=float("nan")), "scale_factor is a number > 0"),
        (lambda: tt_data.Upsample(scale_factor=(2, 2, 2))(x), "scale_factor is a number > 0"),
        (lambda: spatial.upsample(x, size=(0, 4)), "interpolate: size is an integer >= 1"),
    ):
        text = message(call)
        assert all(part in text for part in expected), text


@pytest.mark.parametrize("own", [False, True])
def test_running_statistics_that_move_are_noticed(own: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also with a learner's `move_statistics`, which writes into the array and does no more."""
    from tt_data.spatial import normalization

    def written(running: Tensor, new: np.ndarray, momentum: float) -> None:
        running.data[...] = running.data * (1 - momentum) + new * momentum

    if own:
        monkeypatch.setattr(normalization, "move_statistics", written)
    mean, moment = tt_core.zeros(2), mutation.now()
    x = tt_core.tensor([[1.0, 2.0], [3.0, 6.0]])
    tt_data.spatial.batch_norm(x, mean, tt_core.ones(2), training=True)
    assert mean.tolist() == pytest.approx([0.2, 0.4])
    assert mutation.changed_since(mean.data, moment)
