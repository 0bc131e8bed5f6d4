"""More of PyTorch's names: each is a few lines over the ops of module 09, spatial, which the journey does not need."""

from __future__ import annotations

from tt_core.nn import Unflatten as Unflatten
from tt_data.torch_names.convolution import Conv1d as Conv1d
from tt_data.torch_names.convolution import ConvTranspose1d as ConvTranspose1d
from tt_data.torch_names.convolution import ConvTranspose2d as ConvTranspose2d
from tt_data.torch_names.convolution import conv1d as conv1d
from tt_data.torch_names.convolution import conv_transpose1d as conv_transpose1d
from tt_data.torch_names.convolution import conv_transpose2d as conv_transpose2d
from tt_data.torch_names.pooling import AdaptiveAvgPool1d as AdaptiveAvgPool1d
from tt_data.torch_names.pooling import AdaptiveMaxPool1d as AdaptiveMaxPool1d
from tt_data.torch_names.pooling import AvgPool1d as AvgPool1d
from tt_data.torch_names.pooling import MaxPool1d as MaxPool1d
from tt_data.torch_names.pooling import adaptive_avg_pool1d as adaptive_avg_pool1d
from tt_data.torch_names.pooling import adaptive_max_pool1d as adaptive_max_pool1d
from tt_data.torch_names.pooling import avg_pool1d as avg_pool1d
from tt_data.torch_names.pooling import max_pool1d as max_pool1d
from tt_data.torch_names.rearranging import Fold as Fold
from tt_data.torch_names.rearranging import PixelShuffle as PixelShuffle
from tt_data.torch_names.rearranging import PixelUnshuffle as PixelUnshuffle
from tt_data.torch_names.rearranging import Unfold as Unfold
from tt_data.torch_names.rearranging import pixel_shuffle as pixel_shuffle
from tt_data.torch_names.rearranging import pixel_unshuffle as pixel_unshuffle
