"""Module 09, spatial: layers that know that pixels have neighbours. Act III.

A convolution looks for the same small pattern everywhere (weight sharing, locality): 3x3 kernels from 3 to 32 channels
are 896 numbers, where a Linear layer over the same 32x32 image would need 100 million. This file is the module's front;
each family has a file of its own, with ops, derivatives and layers together:

    convolution.py     conv2d, conv2d_input, conv2d_weight; Conv2d
    pooling.py         max_pool2d, avg_pool2d, adaptive_avg_pool2d; MaxPool2d, AvgPool2d, AdaptiveAvgPool2d
    normalization.py   batch_norm, dropout2d; BatchNorm1d, BatchNorm2d, Dropout2d
    resampling.py      upsample; Upsample
    windows.py         how a window moves over an image
"""

from __future__ import annotations

from typing import Any

from tt_core.layers import Layer
from tt_data.convolution import Conv2d, conv2d, conv2d_input, conv2d_weight
from tt_data.normalization import (
    BatchNorm1d,
    BatchNorm2d,
    Dropout2d,
    batch_norm,
    batch_norm_backward,
    batch_norm_inference,
    dropout2d,
)
from tt_data.pooling import (
    AdaptiveAvgPool2d,
    AvgPool2d,
    MaxPool2d,
    adaptive_avg_pool2d,
    adaptive_avg_pool2d_backward,
    avg_pool2d,
    avg_pool2d_backward,
    max_pool2d,
    max_pool2d_backward,
    max_pool2d_select,
)
from tt_data.resampling import Upsample, upsample, upsample_backward

__all__ = [
    "AdaptiveAvgPool2d",
    "AvgPool2d",
    "BatchNorm1d",
    "BatchNorm2d",
    "Conv2d",
    "Dropout2d",
    "Flatten",
    "MaxPool2d",
    "Upsample",
    "adaptive_avg_pool2d",
    "adaptive_avg_pool2d_backward",
    "avg_pool2d",
    "avg_pool2d_backward",
    "batch_norm",
    "batch_norm_backward",
    "batch_norm_inference",
    "conv2d",
    "conv2d_input",
    "conv2d_weight",
    "dropout2d",
    "max_pool2d",
    "max_pool2d_backward",
    "max_pool2d_select",
    "upsample",
    "upsample_backward",
]


class Flatten(Layer):
    """Joins the dimensions from `start_dim` to `end_dim` into one: (N, C, H, W) to (N, C * H * W).

    >>> from tt_core import ones
    >>> Flatten()(ones(2, 3, 4, 5)).shape
    (2, 60)
    """

    def __init__(self, start_dim: int = 1, end_dim: int = -1) -> None:
        super().__init__()
        self.start_dim, self.end_dim = start_dim, end_dim

    def forward(self, x: Any) -> Any:
        return x.flatten(self.start_dim, self.end_dim)

    def extra_repr(self) -> str:
        return (
            "" if (self.start_dim, self.end_dim) == (1, -1) else f"start_dim={self.start_dim}, end_dim={self.end_dim}"
        )
