"""Calls to try the ops of Act III with, for `tt plugins check`."""

from __future__ import annotations

from collections.abc import Iterable

from tt_core.samples import Arguments, Draw, Samples


def _conv2d(draw: Draw) -> Iterable[Arguments]:
    images, size = (16, 32) if draw.large else (2, 7)
    for groups, stride, dilation in ((1, 1, 1), (2, 2, 1), (1, 1, 2)):
        attributes = {"stride": stride, "padding": 1, "dilation": dilation, "groups": groups}
        x, weight = draw.normal(images, 4, size, size), draw.normal(6, 4 // groups, 3, 3)
        yield (x, weight, draw.normal(6)), attributes
        yield (x, weight, None), attributes


def _pooled(draw: Draw) -> Iterable[Arguments]:
    size = 64 if draw.large else 7
    x = draw.normal(2, 3, size, size)
    return [((x,), {"kernel_size": 2}), ((x,), {"kernel_size": 3, "stride": 2, "padding": 1})]


def _batch_norm(draw: Draw) -> Iterable[Arguments]:
    size = 64 if draw.large else 5
    x = draw.normal(4, 3, size, size)
    return [((x, draw.normal(3), draw.normal(3)), {"eps": 1e-5}), ((x, None, None), {"eps": 1e-5})]


def _inference(draw: Draw) -> Iterable[Arguments]:
    statistics = draw.normal(3), draw.positive(3)
    yield (draw.normal(4, 3, 5, 5), *statistics, draw.normal(3), draw.normal(3)), {"eps": 1e-5}


SAMPLES: dict[str, Samples] = {
    "conv2d": _conv2d,
    "max_pool2d": _pooled,
    "avg_pool2d": _pooled,
    "batch_norm_training": _batch_norm,
    "batch_norm_inference": _inference,
    "dropout2d": lambda draw: [((draw.normal(2, 3, 4, 4),), {"p": 0.5, "training": on}) for on in (True, False)],
    "adaptive_avg_pool2d": lambda draw: [((draw.normal(2, 3, 6, 6),), {"output_size": 2})],
    "resample": lambda draw: [((draw.normal(2, 3, 4, 4),), {"size": (8, 8)})],
}
"""Calls by the name of the op."""
