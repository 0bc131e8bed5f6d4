"""Module 09, spatial: layers that know that pixels have neighbours. Act III.

A convolution looks for the same small pattern everywhere (weight sharing, locality): 3x3 kernels from 3 to 32 channels
are 896 numbers, where a Linear layer over the same 32x32 image would need 100 million. This file is the module's front;
each family has a file of its own, with ops, derivatives and layers together:

    convolution.py          conv2d, conv2d_input, conv2d_weight, unfold, fold; Conv2d
    padding.py              pad; ZeroPad2d, ReflectionPad2d, ...
    pooling.py              max_pool2d, avg_pool2d, max_unpool2d; MaxPool2d, AvgPool2d, MaxUnpool2d
    adaptive_pooling.py     adaptive_avg_pool2d, adaptive_max_pool2d; AdaptiveAvgPool2d, AdaptiveMaxPool2d
    normalization.py        batch_norm, dropout2d; BatchNorm1d, BatchNorm2d, Dropout2d
    group_normalization.py  group_norm, instance_norm; GroupNorm, InstanceNorm2d
    grid_sampling.py        grid_sample, affine_grid
    resampling.py           interpolate, upsample; Upsample
    torch_names.py          Conv1d, ConvTranspose2d, MaxPool1d, PixelShuffle and others: short compositions of these
    windows.py              how a window moves over an image
"""

from __future__ import annotations

from typing import Any

from tt_core.engine.arguments import checked
from tt_core.engine.errors import DTypeError, shown
from tt_core.layers import Layer
from tt_core.tensor import Tensor
from tt_data.spatial.adaptive_pooling import (
    AdaptiveAvgPool2d,
    AdaptiveMaxPool2d,
    adaptive_avg_pool2d,
    adaptive_avg_pool2d_backward,
    adaptive_max_pool2d,
    adaptive_max_pool2d_with_indices,
)
from tt_data.spatial.convolution import (
    Conv2d,
    conv2d,
    conv2d_input,
    conv2d_weight,
    fold,
    unfold,
)
from tt_data.spatial.grid_sampling import affine_grid, grid_sample
from tt_data.spatial.group_normalization import (
    GroupNorm,
    InstanceNorm1d,
    InstanceNorm2d,
    group_norm,
    instance_norm,
)
from tt_data.spatial.normalization import (
    BatchNorm1d,
    BatchNorm2d,
    Dropout2d,
    batch_norm,
    batch_norm_backward,
    batch_norm_inference,
    batch_norm_training,
    dropout2d,
)
from tt_data.spatial.padding import (
    CircularPad2d,
    ConstantPad2d,
    ReflectionPad2d,
    ReplicationPad2d,
    ZeroPad2d,
    pad,
)
from tt_data.spatial.pooling import (
    AvgPool2d,
    MaxPool2d,
    MaxUnpool2d,
    avg_pool2d,
    avg_pool2d_backward,
    max_pool2d,
    max_pool2d_backward,
    max_pool2d_select,
    max_pool2d_with_indices,
    max_unpool2d,
    put_at_indices,
)
from tt_data.spatial.resampling import (
    Upsample,
    interpolate,
    resample,
    resample_backward,
    upsample,
)
from tt_data.torch_names import (
    AdaptiveAvgPool1d,
    AdaptiveMaxPool1d,
    AvgPool1d,
    Conv1d,
    ConvTranspose1d,
    ConvTranspose2d,
    Fold,
    MaxPool1d,
    PixelShuffle,
    PixelUnshuffle,
    Unflatten,
    Unfold,
    adaptive_avg_pool1d,
    adaptive_max_pool1d,
    avg_pool1d,
    conv1d,
    conv_transpose1d,
    conv_transpose2d,
    max_pool1d,
    pixel_shuffle,
    pixel_unshuffle,
)

__all__ = [
    "AdaptiveAvgPool1d",
    "AdaptiveAvgPool2d",
    "AdaptiveMaxPool1d",
    "AdaptiveMaxPool2d",
    "AvgPool1d",
    "AvgPool2d",
    "BatchNorm1d",
    "BatchNorm2d",
    "CircularPad2d",
    "ConstantPad2d",
    "Conv1d",
    "Conv2d",
    "ConvTranspose1d",
    "ConvTranspose2d",
    "Dropout2d",
    "Flatten",
    "Fold",
    "GroupNorm",
    "InstanceNorm1d",
    "InstanceNorm2d",
    "MaxPool1d",
    "MaxPool2d",
    "MaxUnpool2d",
    "PixelShuffle",
    "PixelUnshuffle",
    "ReflectionPad2d",
    "ReplicationPad2d",
    "Unflatten",
    "Unfold",
    "Upsample",
    "ZeroPad2d",
    "adaptive_avg_pool1d",
    "adaptive_avg_pool2d",
    "adaptive_avg_pool2d_backward",
    "adaptive_max_pool1d",
    "adaptive_max_pool2d",
    "adaptive_max_pool2d_with_indices",
    "affine_grid",
    "avg_pool1d",
    "avg_pool2d",
    "avg_pool2d_backward",
    "batch_norm",
    "batch_norm_backward",
    "batch_norm_inference",
    "batch_norm_training",
    "conv1d",
    "conv2d",
    "conv2d_input",
    "conv2d_weight",
    "conv_transpose1d",
    "conv_transpose2d",
    "dropout2d",
    "fold",
    "grid_sample",
    "group_norm",
    "instance_norm",
    "interpolate",
    "max_pool1d",
    "max_pool2d",
    "max_pool2d_backward",
    "max_pool2d_select",
    "max_pool2d_with_indices",
    "max_unpool2d",
    "pad",
    "pixel_shuffle",
    "pixel_unshuffle",
    "put_at_indices",
    "resample",
    "resample_backward",
    "unfold",
    "upsample",
]


class Flatten(Layer):
    """Joins the dimensions from `start_dim` to `end_dim` into one: (N, C, H, W) to (N, C * H * W).

    >>> from tt_core import ones
    >>> Flatten()(ones(2, 3, 4, 5)).shape
    (2, 60)
    """

    @checked
    def __init__(self, start_dim: int = 1, end_dim: int = -1) -> None:
        super().__init__()
        self.start_dim, self.end_dim = start_dim, end_dim

    def forward(self, x: Any) -> Any:
        if not isinstance(x, Tensor):
            raise DTypeError(f"Flatten: input 0 is a tensor, got {shown(x)}")
        return x.flatten(self.start_dim, self.end_dim)

    def extra_repr(self) -> str:
        return (
            "" if (self.start_dim, self.end_dim) == (1, -1) else f"start_dim={self.start_dim}, end_dim={self.end_dim}"
        )
