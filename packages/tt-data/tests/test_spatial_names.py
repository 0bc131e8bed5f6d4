"""Module 09's further names: gradients of the new ops, known numbers, and errors of one line."""

from __future__ import annotations

import inspect

import numpy as np
import pytest

import tt_core
import tt_data
from tt_core.engine.errors import ArgumentError, DTypeError, ShapeError, TinyTorchError
from tt_data import spatial
from tt_learn.autograd import Tensor
from tt_learn.autograd.finite_differences import gradcheck, gradgradcheck

rng = np.random.default_rng(0)
NAN = float("nan")
MODULES = ("tt_data.spatial.", "tt_data.torch_names.")


def leaf(*shape):
    return Tensor(rng.standard_normal(shape), requires_grad=True)


def distinct(*shape):
    """No two elements close to each other, so that a small step changes no maximum."""
    return Tensor(rng.permutation(np.arange(float(np.prod(shape)))).reshape(shape), requires_grad=True)


@pytest.mark.parametrize(
    ("call", "shapes"),
    [
        (lambda x, w, b: tt_data.conv1d(x, w, b, stride=2, padding=1, groups=2), [(2, 4, 7), (6, 2, 3), (6,)]),
        (lambda x, w, b: tt_data.conv_transpose2d(x, w, b, 2, 1, 1, 2), [(2, 4, 3, 4), (4, 2, 3, 2), (4,)]),
        (lambda x, w: tt_data.conv_transpose1d(x, w, dilation=2), [(4, 5), (4, 3, 3)]),
        (lambda x, w, b: tt_data.conv2d(x, w, b, padding=1), [(3, 5, 4), (2, 3, 3, 3), (2,)]),
        (lambda x: tt_data.unfold(x, (2, 3), stride=(1, 2), padding=1), [(2, 2, 4, 5)]),
        (lambda x: tt_data.fold(x, (4, 5), (2, 3), padding=1), [(12, 25)]),
        (lambda x: tt_data.pad(x, (2, 1, 1, 0), "reflect"), [(2, 3, 4)]),
        (lambda x: tt_data.pad(x, (2, 1), "circular"), [(2, 3)]),
        (lambda x, w, b: tt_data.group_norm(x, 2, w, b, 0.1), [(2, 4, 3), (4,), (4,)]),
        (lambda x, w, b: tt_data.instance_norm(x, None, None, w, b, eps=0.1), [(2, 3, 4), (3,), (3,)]),
        (lambda x: tt_data.interpolate(x, size=(5, 3), mode="bicubic"), [(1, 2, 3, 4)]),
        (lambda x: tt_data.interpolate(x, scale_factor=1.7, mode="area"), [(1, 2, 3, 4)]),
        (lambda x: tt_data.pixel_shuffle(x, 2), [(8, 2, 3)]),
        (lambda x, t: tt_data.grid_sample(x, tt_data.affine_grid(t * 0.1, (2, 3, 4, 3))), [(2, 3, 5, 4), (2, 2, 3)]),
        (lambda x: tt_data.avg_pool1d(x, 3, 2, 1), [(2, 3, 7)]),
    ],
)
def test_gradients(call, shapes):
    inputs = tuple(leaf(*shape) for shape in shapes)
    assert gradcheck(call, inputs)
    assert gradgradcheck(lambda *xs: call(*xs).square(), inputs, atol=1e-4)


@pytest.mark.parametrize(
    "call",
    [
        lambda x: spatial.max_pool2d_with_indices(x, 3, stride=2, padding=1)[0],
        lambda x: tt_data.adaptive_max_pool2d(x, (2, 3)),
        lambda x: tt_data.max_pool1d(x[0], 2, padding=1),
        lambda x: tt_data.MaxUnpool2d(2)(*tt_data.MaxPool2d(2, return_indices=True)(x)),
    ],
)
def test_gradients_of_maxima(call):
    assert gradcheck(call, distinct(2, 2, 5, 6))
    assert gradgradcheck(lambda x: call(x).square(), distinct(2, 2, 5, 6))


@pytest.mark.parametrize(
    ("values", "winner"), [([1, NAN, 3, 2], 1), ([NAN, 1, NAN, 2], 2), ([3, 3, 1, 2], 0), ([NAN] * 4, 3)]
)
def test_nan_wins_a_window_and_gets_its_gradient(values, winner):
    expected = [float(i == winner) for i in range(4)]
    for pool in (
        lambda x: tt_data.max_pool2d(x, (1, 4)),
        lambda x: tt_data.MaxPool2d((1, 4), return_indices=True)(x)[0],
        lambda x: tt_data.adaptive_max_pool2d(x, 1),
        lambda x: tt_data.max_pool1d(x.squeeze(1), 4),
    ):
        x = Tensor(np.reshape(np.array(values, np.float64), (1, 1, 1, 4)), requires_grad=True)
        y = pool(x)
        y.sum().backward()
        assert x.grad.numpy().ravel().tolist() == expected
        assert np.array_equal(y.numpy().ravel(), np.array(values, float)[[winner]], equal_nan=True)


@pytest.mark.parametrize("dtype", ["uint8", "int32", "float32"])
def test_the_lowest_number_is_found_in_the_image_and_not_in_its_padding(dtype):
    lowest = -np.inf if dtype == "float32" else np.iinfo(dtype).min
    x = np.full((1, 1, 2, 2), lowest, dtype)
    y, indices = spatial.max_pool2d_with_indices(Tensor(x), 2, stride=2, padding=1)
    assert (y.numpy() == lowest).all()
    assert indices.tolist() == [[[[0, 1], [2, 3]]]]


def test_max_unpool_puts_each_element_back_and_zeros_elsewhere():
    x = tt_core.tensor(np.arange(16.0).reshape(1, 1, 4, 4))
    y, indices = tt_data.MaxPool2d(2, return_indices=True)(x)
    back = tt_data.MaxUnpool2d(2)(y, indices).numpy()[0, 0]
    assert back.tolist() == [[0, 0, 0, 0], [0, 5, 0, 7], [0, 0, 0, 0], [0, 13, 0, 15]]
    assert tt_data.MaxUnpool2d(2)(y, indices, output_size=(1, 1, 5, 4)).shape == (1, 1, 5, 4)


def test_an_empty_batch_has_no_statistics_and_no_error():
    for layer, shape in (
        (tt_data.BatchNorm2d(3), (0, 3, 4, 4)),
        (tt_data.BatchNorm1d(3), (2, 3, 0)),
        (tt_data.InstanceNorm2d(3, affine=True), (0, 3, 4, 4)),
        (tt_data.GroupNorm(3, 3), (0, 3, 4)),
    ):
        before = {k: v.numpy().copy() for k, v in layer.state_dict().items() if k.startswith("running")}
        y = layer(tt_core.zeros(*shape).requires_grad_())
        y.sum().backward()
        assert y.shape == shape
        assert layer.weight.grad.tolist() == layer.bias.grad.tolist() == [0, 0, 0]
        assert all((layer.state_dict()[k].numpy() == v).all() for k, v in before.items())


def test_batch_norm_loads_a_state_dict_without_the_number_of_batches():
    model = tt_core.Sequential(tt_core.Linear(2, 3), tt_data.BatchNorm1d(3))
    model(tt_core.randn(4, 2))
    old = {k: v for k, v in model.state_dict().items() if not k.endswith("num_batches_tracked")}
    other = tt_core.Sequential(tt_core.Linear(2, 3), tt_data.BatchNorm1d(3))
    assert other.load_state_dict(old) == ([], [])
    assert other[1].num_batches_tracked.item() == 0
    with pytest.raises(TinyTorchError, match=r"missing 1.running_var"):
        other.load_state_dict({k: v for k, v in old.items() if k != "1.running_var"})


def test_batch_norm_as_a_function_moves_running_statistics_in_place():
    mean, var = tt_core.zeros(1), tt_core.ones(1)
    x = tt_core.tensor([[1.0], [3.0]])
    assert tt_data.batch_norm(x, mean, var, training=True, momentum=0.5, eps=0.0).tolist() == [[-1.0], [1.0]]
    assert (mean.tolist(), var.tolist()) == ([1.0], [1.5])  # halfway to 2, and to the unbiased 2
    assert tt_data.batch_norm(x, mean, var * 0 + 4, eps=0.0).tolist() == [[0.0], [1.0]]
    assert mean.tolist() == [1.0]


def test_functions_take_one_image():
    x, w = tt_core.ones(3, 8, 8), tt_core.ones(4, 3, 3, 3)
    for call, shape in (
        (lambda: tt_data.conv2d(x, w, padding=1), (4, 8, 8)),
        (lambda: tt_data.conv_transpose2d(x, tt_core.ones(3, 2, 2, 2), stride=2), (2, 16, 16)),
        (lambda: tt_data.max_pool2d(x, 2), (3, 4, 4)),
        (lambda: tt_data.avg_pool2d(x, 2), (3, 4, 4)),
        (lambda: tt_data.adaptive_avg_pool2d(x, 3), (3, 3, 3)),
        (lambda: tt_data.adaptive_max_pool2d(x, 3), (3, 3, 3)),
        (lambda: tt_data.unfold(x, 2), (12, 49)),
    ):
        assert call().shape == shape


def test_halves_are_accumulated_in_float32():
    x, w = tt_core.full((1, 1, 64, 64), 8.0, dtype="float16"), tt_core.ones(1, 1, 64, 64, dtype="float16")
    assert tt_data.conv2d(x, w).item() == 32768  # in float16, 8 + ... + 8 ends at 16384
    half = Tensor(np.ones((1, 1, 1, 4096), np.float16), requires_grad=True)
    kernel = Tensor(np.ones((1, 1, 1, 1), np.float16), requires_grad=True)
    tt_data.conv2d(half, kernel).sum().backward()
    assert kernel.grad.item() == 4096
    column = Tensor(np.ones((1, 1, 1, 1), np.float16), requires_grad=True)
    tt_data.interpolate(column, size=(64, 64)).sum().backward()
    assert column.grad.item() == 4096
    running = tt_core.full((1,), 2048.0, dtype="float16")
    x = tt_core.tensor(np.array([[2049.5]], np.float32)).to("float16")
    assert tt_data.batch_norm(x, running, tt_core.ones(1, dtype="float16")).item() == 2.0


def test_upsample_and_interpolate_take_pytorch_s_order():
    x = tt_core.ones(1, 1, 2, 2)
    assert tt_data.upsample(x, None, 2, "bilinear", True).shape == (1, 1, 4, 4)
    assert tt_data.interpolate(x, (3, 5), None, "nearest-exact").shape == (1, 1, 3, 5)


def test_layers_show_what_they_were_given():
    for layer, text in (
        (tt_data.Conv1d(2, 4, 3, padding_mode="circular"), "Conv1d(2, 4, kernel_size=(3,), padding_mode='circular')"),
        (tt_data.ConvTranspose2d(2, 4, 3, 2, output_padding=1), "stride=(2, 2), output_padding=(1, 1))"),
        (tt_data.GroupNorm(2, 4), "GroupNorm(2, 4, eps=1e-05, affine=True)"),
        (tt_data.InstanceNorm2d(4), "InstanceNorm2d(4)"),
        (tt_data.MaxPool1d(2), "MaxPool1d(kernel_size=2, stride=2, padding=0"),
        (tt_data.ZeroPad2d(1), "ZeroPad2d((1, 1, 1, 1))"),
        (tt_data.Fold(4, 2), "Fold(output_size=4, kernel_size=2"),
    ):
        assert text in repr(layer)


def test_bad_input_is_one_line():
    x, row, ones = tt_core.ones(2, 4, 5, 5), tt_core.ones(2, 4, 5), tt_core.ones
    for call, expected in (
        (lambda: tt_data.conv1d(x, ones(3, 4, 2)), "conv1d: expected (N, C, L) or (C, L)"),
        (
            lambda: tt_data.conv1d(row, ones(3, 4, 2), stride=(1, 2)),
            "conv1d: stride is an integer >= 1 or a tuple of one",
        ),
        (lambda: tt_data.conv_transpose2d(x, ones(3, 4, 2, 2)), "conv_transpose2d: expected (N, C, H, W)"),
        (lambda: tt_data.conv_transpose2d(x, ones(4, 3, 2, 2), ones(4)), "bias has shape (4,), expected (3,)"),
        (lambda: tt_data.conv_transpose2d(x, ones(4, 3, 2, 2), groups=3), "groups 3 must divide 4"),
        (lambda: tt_data.conv_transpose2d(x, ones(4, 3, 1, 1), padding=3), "leaves no pixels"),
        (lambda: tt_data.conv_transpose2d(x, ones(4, 3, 2, 2), output_padding=1), "must be smaller than stride (1, 1)"),
        (lambda: tt_data.ConvTranspose2d(4, 3, 2, padding="same"), "ConvTranspose2d: padding is an integer"),
        (
            lambda: tt_data.ConvTranspose2d(4, 3, 2, stride=2)(x, (13, 13)),
            "output_size is between [10, 10] and [11, 11]",
        ),
        (lambda: tt_data.ConvTranspose2d(4, 3, 2, padding_mode="reflect"), "padding_mode is zeros, got 'reflect'"),
        (lambda: tt_data.Conv2d(4, 3, 2, padding_mode="mirror"), "padding_mode is zeros or reflect or"),
        (lambda: tt_data.pad(row, (5, 0), "reflect"), "has at most 4 elements for each side of 5, got (5, 0)"),
        (lambda: tt_data.pad(row, (1, 0, 2), "reflect"), "expected a (before, after) pair"),
        (lambda: tt_data.pad(row, (1, 0), "reflect", 3.0), "value is for mode 'constant'"),
        (lambda: tt_data.pad(row, (1, 0), "mirror"), "pad: mode is 'constant', 'reflect'"),
        (lambda: tt_data.pad(row, (-1, 0), "circular"), "widths is an integer >= 0"),
        (lambda: tt_data.ZeroPad2d((1, 2)), "(left, right, top, bottom)"),
        (lambda: tt_data.group_norm(x, 3), "num_groups must divide the 4 channels, got 3"),
        (lambda: tt_data.GroupNorm(2, 6)(x), "GroupNorm: input has shape (2, 4, 5, 5), expected (N, 6, ...)"),
        (lambda: tt_data.InstanceNorm2d(3)(x), "InstanceNorm2d: input has shape (2, 4, 5, 5)"),
        (lambda: tt_data.instance_norm(ones(2, 3, 1)), "one value in each channel of each image"),
        (lambda: tt_data.batch_norm(x, None, None), "batch_norm: give running_mean and running_var"),
        (lambda: tt_data.interpolate(x, 4, antialias=True), "antialias is not here; shrink with mode='area'"),
        (lambda: tt_data.interpolate(x, 4, 2), "give either size or scale_factor"),
        (lambda: tt_data.interpolate(x, 4, mode="linear"), "mode 'linear' is for inputs of 3 dimensions, got 4"),
        (lambda: tt_data.interpolate(ones(4, 4), 2), "input has 2 dimensions, expected (N, C, H, W) or (N, C, L)"),
        (lambda: tt_data.grid_sample(x, ones(2, 3, 3, 2), "bicubic"), "mode is 'bilinear' or 'nearest'"),
        (lambda: tt_data.grid_sample(x, ones(1, 3, 3, 2)), "expected (N, C, H, W) and (N, H', W', 2)"),
        (lambda: tt_data.affine_grid(ones(1, 2, 2), (1, 1, 2, 2)), "expected theta (N, 2, 3)"),
        (lambda: tt_data.fold(ones(2, 12, 9), 5, 2), "expected (N, C * 4, 16) for images of (5, 5)"),
        (lambda: tt_data.pixel_shuffle(x, 3), "expected (..., C * 3 * 3, H, W)"),
        (lambda: tt_data.pixel_unshuffle(x, 2), "expected (..., C, H * 2, W * 2)"),
        (lambda: tt_data.max_unpool2d(ones(1, 1, 1), tt_core.tensor([[0]]), 2), "indices have shape (1, 1)"),
        (lambda: tt_data.max_unpool2d(ones(1, 1, 1), tt_core.tensor([[[4]]]), 2), "indices are from 0 to 3"),
        (lambda: tt_data.max_pool1d(x, 2), "expected (N, C, L) or (C, L)"),
        (lambda: tt_data.Unflatten(1, ()), "unflattened_size is a tuple of sizes"),
    ):
        with pytest.raises(TinyTorchError) as caught:
            call()
        assert isinstance(caught.value, (ShapeError, ArgumentError, DTypeError, IndexError))
        assert "\n" not in str(caught.value)
        assert expected in str(caught.value), str(caught.value)


FUNCTIONS = {
    name: getattr(tt_data, name)
    for name in vars(tt_data)
    if name[0].islower() and getattr(getattr(tt_data, name), "__module__", "").startswith(MODULES)
}
ARGUMENTS = {
    "kernel_size": 2, "output_size": 2, "size": 2, "pad": (1, 1), "num_groups": 1, "upscale_factor": 1,
    "downscale_factor": 1, "running_mean": None, "running_var": None,
}  # fmt: skip


@pytest.mark.parametrize("name", sorted(FUNCTIONS))
@pytest.mark.parametrize(
    "bad", [None, "text", 3, [[1.0], [2.0, 3.0]], object()], ids=["None", "text", "number", "ragged", "object"]
)
def test_what_is_no_tensor_is_an_error_of_ours(name, bad):
    parameters = inspect.signature(FUNCTIONS[name]).parameters
    rest = {each: ARGUMENTS[each] for each in parameters if each in ARGUMENTS and each != "x"}
    tensors = [each for each in ("x", "weight", "indices", "grid", "theta") if each in parameters]
    for wrong in tensors:
        given = {each: bad if each == wrong else tt_core.ones(1, 1, 4, 4) for each in tensors}
        if bad is None and parameters[wrong].default is None:
            continue
        with pytest.raises(TinyTorchError) as caught:
            FUNCTIONS[name](given.pop(tensors[0]), **given, **rest)
        assert "\n" not in str(caught.value)


def test_functions_take_arrays_as_ops_do():
    x, w = np.ones((1, 4, 6), np.float32), np.ones((4, 4, 2), np.float32)
    assert tt_data.conv1d(x, w).shape == (1, 4, 5)
    assert tt_data.group_norm(x, 2, np.ones(4, np.float32)).shape == (1, 4, 6)
    mean = np.zeros(4, np.float32)
    tt_data.batch_norm(x, mean, np.ones(4, np.float32), training=True, momentum=1.0)
    assert mean.tolist() == [1] * 4
    assert tt_data.pad(x, (1, 1), mode="reflect").shape == (1, 4, 8)
    with pytest.raises(ShapeError, match=r"\(3,\) is given for each of 4 channels"):
        tt_data.batch_norm(x, np.zeros(3, np.float32), None, training=True)
