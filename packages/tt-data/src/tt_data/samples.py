"""Calls to try the ops of Act III with, for `tt plugins check` and the test that compares kernels with formulas."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from tt_core.samples import Arguments, Draw, Samples


def _conv2d(draw: Draw) -> Iterable[Arguments]:
    finite = replace(draw, corners=False)  # 0 times an infinite weight is nan, and forms differ in the zeros they add
    images, channels, size = (32, 32, 16) if draw.large else (2, 4, 7)
    for groups, stride, dilation, kernel in ((1, 1, 1, (3, 3)), (2, 2, 1, (3, 2)), (1, (1, 2), (2, 1), (2, 3))):
        attributes = {"stride": stride, "padding": 1, "dilation": dilation, "groups": groups}
        outputs = 64 if draw.large else 6
        weight = finite.normal(outputs, channels // groups, *kernel)
        yield (draw.normal(images, channels, size, size), weight, draw.normal(outputs)), attributes
        yield (draw.normal(images, channels, size, size), weight, None), attributes
    if not draw.large:
        yield (draw.normal(4, 7, 7), weight, None), attributes
        yield (draw.normal(0, 4, 7, 7), weight, None), attributes


def _images(draw: Draw, **attributes: object) -> Iterable[Arguments]:
    shapes = ((32, 32, 32, 32),) if draw.large else ((2, 3, 7, 6), (3, 6, 7), (0, 2, 6, 6))
    return [((draw.normal(*shape),), attributes) for shape in shapes]


def _pooled(draw: Draw) -> Iterable[Arguments]:
    yield from _images(draw, kernel_size=2)
    yield from _images(draw, kernel_size=(3, 2), stride=2, padding=1)
    yield from _images(draw, kernel_size=3, stride=1, padding=(0, 1))
    yield from _images(draw, kernel_size=3, stride=2, ceil_mode=True)


def _max_pooled(draw: Draw) -> Iterable[Arguments]:
    yield from _pooled(draw)
    yield from _images(draw, kernel_size=2, dilation=(1, 2), stride=1)


def _avg_pooled(draw: Draw) -> Iterable[Arguments]:
    yield from _pooled(draw)
    yield from _images(draw, kernel_size=2, padding=1, count_include_pad=False)
    yield from _images(draw, kernel_size=2, divisor_override=3)


def _batch_norm(draw: Draw) -> Iterable[Arguments]:
    for shape in ((32, 64, 16, 16),) if draw.large else ((4, 3, 5, 5), (6, 3), (2, 3, 0), (2, 3, 1, 2, 2)):
        x, channels = draw.normal(*shape), shape[1]
        yield (x, draw.normal(channels), draw.normal(channels)), {"eps": 1e-5}
        yield (x, draw.normal(channels), None), {"eps": 1e-5}
        yield (x, None, None), {"eps": 1e-5}


def _inference(draw: Draw) -> Iterable[Arguments]:
    for shape in ((32, 64, 16, 16),) if draw.large else ((4, 3, 5, 5), (6, 3), (0, 3, 2)):
        channels = shape[1]
        statistics = draw.normal(channels), draw.positive(channels)
        yield (draw.normal(*shape), *statistics, draw.normal(channels), draw.normal(channels)), {"eps": 1e-5}
        yield (draw.normal(*shape), *statistics, None, None), {"eps": 1e-5}


def _batch_norm_backward(draw: Draw) -> Iterable[Arguments]:
    finite = replace(draw, corners=False)
    for shape in ((32, 64, 16, 16),) if draw.large else ((4, 3, 5, 5), (6, 3)):
        channels = shape[1]
        given = finite.normal(*shape), finite.normal(*shape), finite.normal(channels), finite.positive(channels)
        yield (*given, finite.normal(channels)), {"eps": 1e-5}
        yield (*given, None), {"eps": 1e-5}


def _selected(draw: Draw) -> Iterable[Arguments]:
    how = {"kernel_size": 2, "stride": 2, "padding": 0, "dilation": 1, "ceil_mode": False}
    return [((draw.normal(2, 3, 4, 4), draw.integers(4, 2, 3, 2, 2)), how)]


SAMPLES: dict[str, Samples] = {
    "conv2d": _conv2d,
    "unfold": lambda draw: _images(draw, kernel_size=(2, 3), padding=1, stride=2),
    "fold": lambda draw: [((draw.normal(2, 8, 6),), {"output_size": (3, 4), "kernel_size": 2})],
    "max_pool2d": _max_pooled,
    "max_pool2d_index": _max_pooled,
    "max_pool2d_with_indices": _max_pooled,
    "avg_pool2d": _avg_pooled,
    "put_at_indices": lambda draw: [((draw.normal(2, 3, 1), draw.integers(1, 2, 3, 1)), {"output_size": (4, 4)})],
    "batch_norm_training": _batch_norm,
    "batch_norm_inference": _inference,
    "batch_norm_backward": _batch_norm_backward,
    "max_pool2d_select": _selected,
    "dropout2d": lambda draw: [((draw.normal(2, 3, 4, 4),), {"p": 0.5, "training": on}) for on in (True, False)],
    "adaptive_avg_pool2d": lambda draw: _images(draw, output_size=(2, 5)),
    "adaptive_max_pool2d_with_indices": lambda draw: _images(draw, output_size=(2, 5)),
    "resample": lambda draw: [
        call
        for mode in ("nearest", "nearest-exact", "bilinear", "bicubic")
        for call in _images(draw, size=(8, 5), mode=mode)
    ],
}
"""Calls by the name of the op."""
