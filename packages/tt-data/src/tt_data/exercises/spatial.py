"""The exercises of module 09, spatial."""

from __future__ import annotations

from typing import Any

import numpy as np

from tt_core import Tensor
from tt_core.course.exercises import Exercise, counted, timing
from tt_core.course.trial import Trial
from tt_data.spatial import convolution as C
from tt_data.spatial import normalization as N
from tt_data.spatial import pooling as P
from tt_data.spatial import windows as W

WINDOWS, CONVOLUTION, POOLING, NORMALIZATION = (
    f"tt_data.spatial.{name}" for name in ("windows", "convolution", "pooling", "normalization")
)


def image(*rows: list[float]) -> Any:
    """One image with one channel, (1, 1, H, W)."""
    return np.array([[rows]], np.float32)


def fields(kernel: W.Pair, size: W.Pair, out: W.Pair, **how: Any) -> W.Windows:
    """Windows with stride and dilation 1 and no padding, unless given."""
    rest = {"stride": (1, 1), "dilation": (1, 1), "padding": ((0, 0), (0, 0))} | how
    return W.Windows(size, kernel, out=out, **rest)


# --- windows


def padding_surrounds(t: Trial) -> None:
    """The image in the middle, and the value around it."""
    w = fields((2, 2), (1, 2), (2, 3), padding=((1, 0), (1, 1)))
    t.show(
        "pad([[1, 2]]) with ((1, 0), (1, 1))",
        lambda: w.pad(image([1, 2])),
        why="padding is (top, bottom), (left, right)",
    )
    t.show("the same with value=-inf", lambda: w.pad(image([1, 2]), -np.inf))
    t.show("pad of integers", lambda: w.pad(np.array([[[[1, 2]]]])), why="the dtype stays that of x")
    several = t.normal(2, 3, 4, 5)
    wide = fields((2, 2), (4, 5), (6, 4), padding=((1, 2), (0, 0)))
    t.show("pad of two images with three channels", lambda: wide.pad(several))


def windows_are_counted(t: Trial) -> None:
    """How often the window fits: once, and once more for each stride that is free."""
    t.call(W._count, 5, (0, 0), 3, 1, False, why="a window of 3 has 3 places on 5 elements")
    t.call(W._count, 5, (0, 0), 5, 1, False)
    t.call(W._count, 5, (1, 1), 3, 1, False, why="padding before and after adds to the size")
    t.call(W._count, 7, (0, 0), 3, 2, False)
    t.call(W._count, 6, (0, 0), 3, 2, False, why="only complete strides count: //")
    t.call(W._count, 6, (2, 1), 4, 3, False)


def last_window_may_extend(t: Trial) -> None:
    """With ceil_mode, a last window that starts inside counts, and the padding reaches to its end."""
    t.call(W._count, 6, (0, 0), 3, 2, True, why="one window more, and one element of padding after the image for it")
    t.call(W._count, 7, (0, 0), 3, 2, True, why="nothing is left over, so there is no other window")
    t.call(W._count, 3, (1, 1), 2, 3, True)
    t.call(W._count, 3, (2, 0), 2, 4, True, why="the padding before the image counts: where does the window start?")
    t.call(
        W._count, 2, (1, 1), 2, 3, True, why="a window that would start in the padding after the image does not count"
    )


def patches_are_windows(t: Trial) -> None:
    """What each window covers, as dimensions of their own."""
    w = fields((2, 2), (2, 3), (1, 2))
    t.show(
        "patches of [[0, 1, 2], [3, 4, 5]], kernel 2x2",
        lambda: w.patches(counted(1, 1, 2, 3)),
        why="(N, C, H', W', kh, kw): first which window, then which element of it",
    )
    x = t.normal(2, 3, 5, 6)
    t.show(
        "patches with stride (2, 1)",
        lambda: fields((3, 2), (5, 6), (2, 5), stride=(2, 1)).patches(x),
        why="sliding_window_view gives all windows; take every stride-th",
    )
    t.show("patches with stride (1, 3)", lambda: fields((3, 2), (5, 6), (3, 2), stride=(1, 3)).patches(x))
    t.show(
        "patches with dilation (3, 1)",
        lambda: fields((2, 3), (5, 6), (2, 4), dilation=(3, 1)).patches(x),
        why="the elements of a window are `dilation` apart",
    )
    t.show(
        "patches with dilation (1, 2)",
        lambda: fields((2, 3), (5, 6), (4, 2), dilation=(1, 2)).patches(x),
        why="self.reach says how far a window extends; take every dilation-th of its elements",
    )
    t.show(
        "whether they are a view",
        lambda: bool(np.shares_memory(w.patches(x[:, :, :2, :3]), x)),
        why="the patches of a 3x3 kernel would take nine times the memory",
    )


def overlaps_add_up(t: Trial) -> None:
    """Each element gets the sum of what stands for it in all windows."""
    w = fields((1, 2), (1, 3), (1, 2))
    t.show(
        "sum_patches of ones, kernel 1x2 on 3 columns",
        lambda: w.sum_patches(np.ones((1, 1, 1, 2, 1, 2))),
        why="the middle element is in two windows",
    )
    strided = fields((3, 2), (5, 6), (2, 5), stride=(2, 1))
    t.show("with a 3x2 kernel and stride (2, 1)", lambda: strided.sum_patches(t.normal(2, 1, 2, 5, 3, 2)))
    around = fields((2, 2), (3, 3), (4, 2), stride=(1, 2), dilation=(1, 2), padding=((1, 1), (1, 1)))
    t.show(
        "with padding and dilation",
        lambda: around.sum_patches(np.ones((1, 2, 4, 2, 2, 2), np.float32)),
        why="add into the padded image, then crop the padding away",
    )


# --- convolution


def unfold_makes_columns(t: Trial) -> None:
    """Each window is a column: channels, then rows, then columns of the kernel."""
    t.call(C.unfold, counted(1, 1, 2, 3), kernel_size=(1, 2), why="four windows of two elements: 2 rows, 4 columns")
    t.call(C.unfold, counted(1, 2, 2, 2), kernel_size=(2, 1), why="all elements of channel 0 before those of channel 1")
    t.call(C.unfold, t.normal(2, 2, 4, 5), kernel_size=2, stride=2, padding=1)
    t.call(C.unfold, counted(1, 1, 3, 4), kernel_size=2, dilation=2)


def convolution_is_a_sum(t: Trial) -> None:
    """Windows times weights, summed."""
    t.call(C.conv2d, image([1, 2, 3]), image([1, 10]), why="1 * 1 + 2 * 10; the kernel is not flipped")
    t.call(C.conv2d, counted(1, 1, 3, 3), image([1, 0], [0, 2]))
    t.call(C.conv2d, t.normal(2, 3, 4, 5), t.normal(4, 3, 2, 2), why="sum over channels too: (N, O, H', W')")
    t.call(C.conv2d, t.normal(1, 2, 3, 3), t.normal(2, 2, 1, 1), np.array([10, 20], np.float32), why="bias by channel")


def convolution_with_options(t: Trial) -> None:
    """Stride, padding, dilation and groups."""
    x, weight = t.normal(2, 4, 6, 5), t.normal(6, 4, 3, 2)
    t.call(C.conv2d, x, weight, stride=(2, 1))
    t.call(C.conv2d, x, weight, padding=(0, 1), why="w.pad")
    t.call(C.conv2d, x, weight, dilation=2)
    t.call(C.conv2d, x, weight, padding="same")
    t.call(C.conv2d, x, t.normal(6, 2, 3, 2), groups=2, why="output channels 0-2 see channels 0-1 only")
    t.call(C.conv2d, x, t.normal(4, 1, 2, 2), t.normal(4), groups=4, stride=2)
    t.call(C.conv2d, x[0], weight, why="one image without N")


def gradient_of_the_input(t: Trial) -> None:
    """Each gradient of an output adds its kernel to its window."""
    t.call(C.conv2d_input, image([1]), image([2, 3]), size=(1, 2), why="d out / d x is the weight")
    t.call(C.conv2d_input, image([1, 1]), image([1, 10]), size=(1, 3), why="the middle element is in both windows")
    t.call(C.conv2d_input, t.normal(2, 4, 3, 4), t.normal(4, 3, 2, 2), size=(4, 5))
    t.call(
        C.conv2d_input,
        t.normal(1, 2, 3, 3),
        t.normal(2, 2, 3, 3),
        size=(6, 6),
        stride=2,
        padding=1,
        why="rows that no window reaches get 0",
    )
    t.call(C.conv2d_input, t.normal(2, 4, 2, 4), t.normal(4, 2, 3, 2), size=(6, 6), dilation=2, groups=2,
           why="each group of output channels gives gradients to its own input channels alone")  # fmt: skip


def gradient_of_the_weight(t: Trial) -> None:
    """Each weight gets the sum over all windows of what it met, times the gradient."""
    t.call(C.conv2d_weight, image([1]), image([2, 3]), kernel_size=(1, 2), why="d out / d w is what the weight met")
    t.call(C.conv2d_weight, image([1, 10]), image([1, 2, 3]), kernel_size=(1, 2))
    t.call(C.conv2d_weight, t.normal(2, 4, 3, 4), t.normal(2, 3, 4, 5), kernel_size=(2, 2), why="sum over images, too")
    t.call(C.conv2d_weight, t.normal(1, 2, 3, 3), t.normal(1, 2, 6, 6), kernel_size=(3, 3), stride=2, padding=1)
    t.call(C.conv2d_weight, t.normal(2, 4, 2, 4), t.normal(2, 4, 6, 6), kernel_size=(3, 2), dilation=2, groups=2)


# --- pooling


def maximum_of_each_window(t: Trial) -> None:
    """The largest element of each window."""
    t.call(P.max_pool2d, counted(1, 1, 4, 4), kernel_size=2)
    t.call(P.max_pool2d, t.normal(2, 3, 5, 6), kernel_size=(2, 3), why="a last row that no window covers is left out")
    t.call(P.max_pool2d, t.normal(1, 2, 5, 5), kernel_size=3, stride=1)
    t.call(P.max_pool2d, -1 - counted(1, 1, 4, 4), kernel_size=2, padding=1, why="padding counts as -inf, not as 0")
    t.call(P.max_pool2d, np.array([[[[-5, -7], [-6, -8]]]]), kernel_size=2, padding=1, why="lowest(x.dtype)")
    t.call(P.max_pool2d, image([1, np.nan, 3, 4]), kernel_size=(1, 2), why="nan is larger than all numbers")
    t.call(P.max_pool2d, t.normal(1, 1, 5, 5), kernel_size=2, stride=2, ceil_mode=True)
    t.call(P.max_pool2d, t.normal(2, 5, 5), kernel_size=2, dilation=2, stride=1)


def gradient_goes_to_the_maximum(t: Trial) -> None:
    """Each gradient goes to the element that was the maximum; overlapping windows add."""
    how: dict[str, Any] = {"stride": None, "padding": 0, "dilation": 1, "ceil_mode": False}

    def back(g: Any, index: Any, size: Any, kernel: Any, **options: Any) -> Any:
        return P.max_pool2d_backward(g, np.array(index), size=size, kernel_size=kernel, **(how | options))

    t.show(
        "g = [[5]], index [[2]], kernel 2x2 on 2x2",
        lambda: back(image([5]), [[[[2]]]], (2, 2), 2),
        why="index 2 is row 1, column 0 of the window",
    )
    t.show(
        "g = [[1, 10]], index [[1, 0]], kernel 1x2, stride 1, on 3 columns",
        lambda: back(image([1, 10]), [[[[1, 0]]]], (1, 3), (1, 2), stride=1),
        why="both maxima are column 1",
    )
    index = t.rng.integers(0, 6, (2, 3, 2, 2))
    t.show(
        "random g (2, 3, 2, 2), kernel 2x3 on 5x7",
        lambda: back(t.normal(2, 3, 2, 2), index, (5, 7), (2, 3)),
        why="what no window covers gets 0",
    )
    inside = np.array([[[[3, 2], [1, 0]]]])
    t.show("kernel 2x2 with padding 1 on 2x2", lambda: back(image([1, 2], [3, 4]), inside, (2, 2), 2, padding=1))
    three = t.rng.integers(0, 9, (1, 2, 3, 3))
    t.show("kernel 3x3, stride 1, on 5x5", lambda: back(t.normal(1, 2, 3, 3), three, (5, 5), 3, stride=1))


def mean_of_each_window(t: Trial) -> None:
    """The mean of each window; `divisors` says what its sum is divided by."""
    t.call(P.avg_pool2d, counted(1, 1, 4, 4), kernel_size=2)
    t.call(P.avg_pool2d, t.normal(2, 3, 5, 6), kernel_size=(2, 3), stride=1)
    ones = np.ones((1, 1, 2, 2), np.float32)
    t.call(P.avg_pool2d, ones, kernel_size=2, padding=1, why="zeros of the padding count")
    t.call(P.avg_pool2d, ones, kernel_size=2, padding=1, count_include_pad=False)
    t.call(P.avg_pool2d, ones, kernel_size=2, divisor_override=3)
    t.call(
        P.avg_pool2d, t.normal(1, 1, 5, 5), kernel_size=2, ceil_mode=True, why="what is beyond the image does not count"
    )


# --- batch normalization


def channels_are_normalized(t: Trial) -> None:
    """Each channel has mean 0 and variance 1 over the batch and the image."""
    t.call(N.batch_norm_training, np.array([[1, 10], [3, 30]], np.float32),
           why="one mean and one variance for each column; divide by n, not by n - 1")  # fmt: skip
    t.call(N.batch_norm_training, t.normal(2, 3, 2, 2) * 3 + 1, why="over everything but dimension 1")
    x, weight, bias = t.normal(4, 2), np.array([1, 10], np.float32), np.array([0, 5], np.float32)
    t.call(N.batch_norm_training, x, weight, bias, why="then times weight plus bias, by channel")
    t.call(N.batch_norm_training, x, eps=1.0, why="sqrt(var + eps), with the biased variance (divided by n)")
    t.call(N.batch_norm_training, np.full((3, 1), 2, np.float32), why="a channel that is constant is not divided by 0")


def far_from_zero(t: Trial) -> None:
    """Numbers far from 0 keep their variance."""
    x = 1e4 + np.tile(np.array([-1, 0, 1], np.float32), 20)[:, None]
    t.show(
        "batch_norm_training of 9999, 10000, 10001, ...",
        lambda: N.batch_norm_training(x)[0],
        rtol=0.02,
        atol=0.02,
        why="mean(x**2) - mean(x)**2 is a difference of large numbers; use the mean of (x - mean)**2",
    )


def gradients_of_batch_norm(t: Trial) -> None:
    """The batch's mean and variance depend on every element, so each gradient reaches all of them."""
    x = np.array([[1], [3]], np.float32)
    mean, var = x.mean(0), x.var(0)
    t.call(
        N.batch_norm_backward,
        np.array([[1], [0]], np.float32),
        x,
        mean,
        var,
        why="subtract the mean of g, and its part along the normalized input",
    )
    t.call(
        N.batch_norm_backward,
        np.ones((2, 1), np.float32),
        x,
        mean,
        var,
        why="to shift all outputs is impossible: the gradient of x is 0, and that of bias is 2",
    )
    x = t.normal(3, 2, 2, 2) * 2 + 1
    g, mean, var = t.normal(3, 2, 2, 2), x.mean((0, 2, 3)), x.var((0, 2, 3))
    t.call(N.batch_norm_backward, g, x, mean, var)
    t.call(
        N.batch_norm_backward,
        g,
        x,
        mean,
        var,
        np.array([2, -3], np.float32),
        eps=0.5,
        why="weight scales dx, but not dweight = sum(g n)",
    )


def running_statistics_move(t: Trial) -> None:
    """A step from the old statistics towards those of the batch, in place."""
    running = Tensor(np.array([0, 10], np.float32))
    memory = running.data
    t.step("move_statistics([0, 10], [1, 20], 0.1)")
    N.move_statistics(running, np.array([1, 20], np.float32), 0.1)
    t.see("running after move_statistics([0, 10], [1, 20], 0.1)", running.data, why="(1 - momentum) old + momentum new")
    t.see("the array that it had", memory, why="in place: others hold this array")
    N.move_statistics(running, np.array([1, 20], np.float32), 1.0)
    t.see("running after momentum=1", running.data)
    t.show(
        "move_statistics(None, ...)",
        lambda: N.move_statistics(None, np.ones(2, np.float32), 0.1),
        why="a layer may track nothing",
    )


EXERCISES = (
    Exercise(
        "Windows.pad",
        WINDOWS,
        2,
        (
            "Make an array that is filled with the value, and put the image inside.",
            "np.full makes it, with the size self.padded_size and the dtype of x; self.crop is the view of its middle.",
            "padded = np.full((*x.shape[:2], *self.padded_size), value, dtype=x.dtype); self.crop(padded)[...] = x",
        ),
        (padding_surrounds,),
    ),
    Exercise(
        "_count",
        WINDOWS,
        4,
        (
            "How far can the first window move before it reaches the end of the padded image?",
            "free = before + size + after - reach elements. It moves by `stride`: free // stride + 1 windows.",
            "In ceil_mode there is one more if free % stride and count * stride < size + before. The padding after the "
            "image is at least (count - 1) * stride + reach - size - before.",
        ),
        (windows_are_counted, last_window_may_extend),
    ),
    Exercise(
        "Windows.patches",
        WINDOWS,
        5,
        (
            "Strides of an array can show the same element in several windows, without a copy.",
            "sliding_window_view(padded, self.reach, axis=(2, 3)) has every window; some of them, and some of their "
            "elements, are skipped.",
            "Windows every self.stride, elements every self.dilation: view[:, :, ::down, ::right, ::rows, ::columns]",
        ),
        (patches_are_windows,),
    ),
    Exercise(
        "Windows.sum_patches",
        WINDOWS,
        5,
        (
            "The reverse of patches: an element that is in several windows gets the sum of its values.",
            "self.positions() gives for each place (i, j) in the kernel the elements of all windows there. For one "
            "place, these elements are different, so += is safe.",
            "padded = np.zeros(...); for i, j, covered in self.positions(): padded[covered] += patches[..., i, j].",
        ),
        (overlaps_add_up,),
    ),
    Exercise(
        "unfold",
        CONVOLUTION,
        4,
        (
            "The patches are (N, C, H', W', kh, kw); a column holds C, kh and kw.",
            "Move the dimensions of the kernel in front of those of the windows, then join dimensions.",
            "w.patches(w.pad(x)).transpose(0, 1, 4, 5, 2, 3).reshape(N, C * kh * kw, H' * W'), "
            "where w = windows(x.shape[2:], kernel_size, stride, padding, dilation).",
        ),
        (unfold_makes_columns,),
        timed=timing(C.unfold, (4, 4, 12, 12), kernel_size=3),
    ),
    Exercise(
        "conv2d",
        CONVOLUTION,
        6,
        (
            "Each output is the sum over a patch of products with the weights: write the sum as np.einsum.",
            "windows(x.shape[2:], weight.shape[2:], stride, padding, dilation) gives pad and patches. "
            "_in_groups splits C, and the output channels, into groups that do not mix.",
            'np.einsum("ngcyxij,gocij->ngoyx", patches in groups, weight in groups on axis 0), then '
            "reshape to (N, O, H', W') and add bias[:, None, None] if there is one. "
            "optimize=True lets NumPy compute it as a matrix product, which is many times as fast.",
        ),
        (convolution_is_a_sum, convolution_with_options),
        timed=timing(C.conv2d, (4, 4, 12, 12), (8, 4, 3, 3)),
    ),
    Exercise(
        "conv2d_input",
        CONVOLUTION,
        6,
        (
            "out is a sum of x times weight; so d out / d x is the weight, for each window that x is in.",
            "Compute for each window what its g adds to its patch, then add the patches up where they overlap.",
            'np.einsum("ngoyx,gocij->ngcyxij", g in groups, weight in groups on axis 0), reshape to '
            "(N, C, H', W', kh, kw), then w.sum_patches.",
        ),
        (gradient_of_the_input,),
    ),
    Exercise(
        "conv2d_weight",
        CONVOLUTION,
        6,
        (
            "A weight is used in every window of every image: its gradient is a sum over all of them.",
            "The indices of the sum are the same three as in conv2d; now those of g and of the patches are summed.",
            'np.einsum("ngoyx,ngcyxij->gocij", g in groups, patches in groups); reshape to (O, C / groups, kh, kw).',
        ),
        (gradient_of_the_weight,),
    ),
    Exercise(
        "max_pool2d",
        POOLING,
        3,
        (
            "The windows are patches as in a convolution.",
            "Padding must never be the maximum: pad with lowest(x.dtype).",
            "w = pool_windows(x.shape[2:], ...); the maximum of w.patches(w.pad(x, lowest(x.dtype))) over the last two "
            "dimensions.",
        ),
        (maximum_of_each_window,),
        timed=timing(P.max_pool2d, (8, 16, 32, 32), kernel_size=2),
    ),
    Exercise(
        "max_pool2d_backward",
        POOLING,
        5,
        (
            "Only the maximum had an influence, so it gets the whole gradient.",
            "Make patches that are g where the place in the kernel is `index`, and 0 elsewhere, then add them up.",
            "np.where(index[..., None] == np.arange(kh * kw), g[..., None], 0), reshape to (*g.shape, kh, kw), then "
            "w.sum_patches.",
        ),
        (gradient_goes_to_the_maximum,),
    ),
    Exercise(
        "avg_pool2d",
        POOLING,
        3,
        (
            "The sum of each patch, divided by a number.",
            "divisors(w, padding, count_include_pad, divisor_override, x.dtype) is the number.",
            "w = pool_windows(x.shape[2:], kernel_size, stride, padding, 1, ceil_mode), then "
            "w.patches(w.pad(x)).sum((-2, -1)) / divisors(...)",
        ),
        (mean_of_each_window,),
    ),
    Exercise(
        "batch_norm_training",
        NORMALIZATION,
        4,
        (
            "Subtract the mean of the channel and divide by its standard deviation.",
            "over_channels(x.ndim) are the dimensions of the mean; per_channel shapes (C,) so that it broadcasts.",
            "mean, var = x.mean(over_channels(x.ndim)), x.var(...); _normalized(x, mean, var, weight, bias, eps) is "
            "the result. Return it with mean and var.",
        ),
        (channels_are_normalized, far_from_zero),
        timed=timing(N.batch_norm_training, (64, 16, 16, 16)),
    ),
    Exercise(
        "batch_norm_backward",
        NORMALIZATION,
        8,
        (
            "The docstring has the formula. What do mean(g) and mean(g n) mean, and over which dimensions?",
            "n = (x - mean) / sqrt(var + eps). The gradient of x is g without its mean and without its part along n.",
            "dx = weight rstd (g - mean(g) - n mean(g n)), all vectors by per_channel, means with keepdims=True; "
            "then sum(g n) and sum(g), both (C,).",
        ),
        (gradients_of_batch_norm,),
    ),
    Exercise(
        "move_statistics",
        NORMALIZATION,
        3,
        (
            "A running mean that forgets: most of the old value, and a little of the new one.",
            "old + momentum * (new - old), written into the array running.data.",
            "if running is not None: running.data[...] = running.data * (1 - momentum) + new * momentum",
        ),
        (running_statistics_move,),
    ),
)
