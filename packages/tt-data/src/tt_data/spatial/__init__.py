"""Module 09, spatial: layers that use the neighbourhood of pixels.

Read `windows`, `convolution`, `pooling` and `normalization`: ops as formulas, and their gradients. `layers` has their
layers. `folding`, `pooling_windows` and `pooling_indices` complete them. The others follow in any order: `unpooling`,
`adaptive_pooling`, `group_normalization`, `dropout`, `padding`, `resampling`, `grid_sampling`, `flatten`. `sizes` and
`checks` validate arguments, and `common` has what the files share.
"""

from __future__ import annotations

from tt_data.spatial.adaptive_pooling import AdaptiveAvgPool2d as AdaptiveAvgPool2d
from tt_data.spatial.adaptive_pooling import AdaptiveMaxPool2d as AdaptiveMaxPool2d
from tt_data.spatial.adaptive_pooling import OutputSize as OutputSize
from tt_data.spatial.adaptive_pooling import adaptive_avg_pool2d as adaptive_avg_pool2d
from tt_data.spatial.adaptive_pooling import adaptive_avg_pool2d_backward as adaptive_avg_pool2d_backward
from tt_data.spatial.adaptive_pooling import adaptive_max_pool2d as adaptive_max_pool2d
from tt_data.spatial.adaptive_pooling import adaptive_max_pool2d_with_indices as adaptive_max_pool2d_with_indices
from tt_data.spatial.checks import check_conv2d as check_conv2d
from tt_data.spatial.checks import check_float_images as check_float_images
from tt_data.spatial.checks import check_images as check_images
from tt_data.spatial.common import FunctionLayer as FunctionLayer
from tt_data.spatial.common import on_images as on_images
from tt_data.spatial.convolution import conv2d as conv2d
from tt_data.spatial.convolution import conv2d_input as conv2d_input
from tt_data.spatial.convolution import conv2d_weight as conv2d_weight
from tt_data.spatial.convolution import unfold as unfold
from tt_data.spatial.dropout import Dropout2d as Dropout2d
from tt_data.spatial.dropout import dropout2d as dropout2d
from tt_data.spatial.flatten import Flatten as Flatten
from tt_data.spatial.folding import fold as fold
from tt_data.spatial.grid_sampling import affine_grid as affine_grid
from tt_data.spatial.grid_sampling import grid_sample as grid_sample
from tt_data.spatial.group_normalization import GroupNorm as GroupNorm
from tt_data.spatial.group_normalization import InstanceNorm1d as InstanceNorm1d
from tt_data.spatial.group_normalization import InstanceNorm2d as InstanceNorm2d
from tt_data.spatial.group_normalization import group_norm as group_norm
from tt_data.spatial.group_normalization import instance_norm as instance_norm
from tt_data.spatial.layers import AvgPool2d as AvgPool2d
from tt_data.spatial.layers import BatchNorm1d as BatchNorm1d
from tt_data.spatial.layers import BatchNorm2d as BatchNorm2d
from tt_data.spatial.layers import Conv2d as Conv2d
from tt_data.spatial.layers import Convolution as Convolution
from tt_data.spatial.layers import MaxPool2d as MaxPool2d
from tt_data.spatial.layers import Normalization as Normalization
from tt_data.spatial.normalization import batch_norm as batch_norm
from tt_data.spatial.normalization import batch_norm_backward as batch_norm_backward
from tt_data.spatial.normalization import batch_norm_inference as batch_norm_inference
from tt_data.spatial.normalization import batch_norm_training as batch_norm_training
from tt_data.spatial.padding import CircularPad2d as CircularPad2d
from tt_data.spatial.padding import ConstantPad2d as ConstantPad2d
from tt_data.spatial.padding import ReflectionPad2d as ReflectionPad2d
from tt_data.spatial.padding import ReplicationPad2d as ReplicationPad2d
from tt_data.spatial.padding import ZeroPad2d as ZeroPad2d
from tt_data.spatial.padding import pad as pad
from tt_data.spatial.pooling import avg_pool2d as avg_pool2d
from tt_data.spatial.pooling import avg_pool2d_backward as avg_pool2d_backward
from tt_data.spatial.pooling import max_pool2d as max_pool2d
from tt_data.spatial.pooling import max_pool2d_backward as max_pool2d_backward
from tt_data.spatial.pooling_indices import max_pool2d_index as max_pool2d_index
from tt_data.spatial.pooling_indices import max_pool2d_select as max_pool2d_select
from tt_data.spatial.pooling_indices import max_pool2d_with_indices as max_pool2d_with_indices
from tt_data.spatial.pooling_windows import pool_windows as pool_windows
from tt_data.spatial.resampling import Upsample as Upsample
from tt_data.spatial.resampling import interpolate as interpolate
from tt_data.spatial.resampling import resample as resample
from tt_data.spatial.resampling import resample_backward as resample_backward
from tt_data.spatial.resampling import upsample as upsample
from tt_data.spatial.sizes import IntOrPair as IntOrPair
from tt_data.spatial.sizes import Pair as Pair
from tt_data.spatial.sizes import pair as pair
from tt_data.spatial.sizes import per_dimension as per_dimension
from tt_data.spatial.sizes import sides_of as sides_of
from tt_data.spatial.unpooling import MaxUnpool2d as MaxUnpool2d
from tt_data.spatial.unpooling import max_unpool2d as max_unpool2d
from tt_data.spatial.unpooling import put_at_indices as put_at_indices
from tt_data.spatial.windows import Windows as Windows
