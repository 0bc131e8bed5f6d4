"""Module 09, spatial: normalization of each image separately, by channel (instance) or by group of channels.

Both are batch normalization of a batch of one, in which each group of each image is a channel.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, ClassVar

from tt_core import Tensor
from tt_core.engine.arguments import checked
from tt_core.engine.compositions import as_tensor, of_tensors
from tt_core.engine.errors import ArgumentError, ShapeError, is_integer
from tt_core.layers import Layer
from tt_core.tensor.creation import ones, zeros
from tt_data.spatial.checks import check_channels
from tt_data.spatial.layers import Normalization
from tt_data.spatial.normalization import (
    batch_norm,
    batch_norm_training,
    normalized_nothing,
    per_channel,
    track_statistics,
)

if TYPE_CHECKING:
    from tt_core.engine.hints import DeviceLike, DTypeLike


@of_tensors("x running_mean? running_var? weight? bias?")
def instance_norm(
    x: Tensor,
    running_mean: Tensor | None = None,
    running_var: Tensor | None = None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    use_input_stats: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """Mean 0 and variance 1 in each channel of each image of x (N, C, ...) (Ulyanov et al. 2016, arXiv:1607.08022).

    Running statistics (C,) move towards the mean over the images. Raises `ShapeError` for images of one pixel.

    >>> from tt_core import tensor
    >>> instance_norm(tensor([[[1.0, 3.0]], [[10.0, 30.0]]]), eps=0.0).tolist()
    [[[-1.0, 1.0]], [[-1.0, 1.0]]]
    """
    check_channels("instance_norm", x, running_mean, running_var, weight, bias)
    if not use_input_stats:
        return batch_norm(x, running_mean, running_var, weight, bias, eps=eps)
    (n, channels), count = x.shape[:2], math.prod(x.shape[2:])
    if count == 1:
        raise ShapeError(f"instance_norm: one value in each channel of each image of {x.shape} has no variance")
    if not n or not count:
        return normalized_nothing(x, weight, bias)
    # each channel of each image is a channel of a batch of one: (1, N C, L)
    y, mean, var = batch_norm_training(x.reshape(1, n * channels, count), eps=eps)
    track_statistics(running_mean, mean, momentum, images=n)
    track_statistics(running_var, var, momentum, count / (count - 1), images=n)
    return _scale_and_shift(y.reshape(x.shape), weight, bias)


@of_tensors("x")
def group_norm(
    x: Tensor,
    num_groups: int,
    weight: Any = None,
    bias: Any = None,
    eps: float = 1e-5,
) -> Tensor:
    """Mean 0 and variance 1 in each of `num_groups` groups of channels of each image.

    x (N, C, ...), weight and bias (C,) (Wu and He 2018, arXiv:1803.08494). Raises `ArgumentError` for groups that do
    not divide the channels.

    >>> from tt_core import tensor
    >>> group_norm(tensor([[1.0, 3.0, 10.0, 30.0]]), num_groups=2, eps=0.0).tolist()
    [[-1.0, 1.0, -1.0, 1.0]]
    """
    weight, bias = (as_tensor(given, "group_norm", "weight and bias", optional=True) for given in (weight, bias))
    check_channels("group_norm", x, weight, bias)
    _check_groups("group_norm", num_groups, x.shape[1])
    if 0 in x.shape:
        return normalized_nothing(x, weight, bias)
    # (1, N G, C/G L)
    y, _, _ = batch_norm_training(x.reshape(1, x.shape[0] * num_groups, -1), eps=eps)
    return _scale_and_shift(y.reshape(x.shape), weight, bias)


def _check_groups(who: str, num_groups: int, channels: int) -> None:
    if not is_integer(num_groups, least=1) or not channels or channels % num_groups:
        raise ArgumentError(f"{who}: num_groups must divide the {channels} channels, got {num_groups!r}")


def _scale_and_shift(y: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
    y = y if weight is None else y * per_channel(weight, y.ndim)
    return y if bias is None else y + per_channel(bias, y.ndim)


class _InstanceNorm(Normalization):
    _usual: ClassVar[dict[str, Any]] = {"affine": False, "track_running_stats": False}

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = False,
        track_running_stats: bool = False,
        device: DeviceLike | None = None,
        dtype: DTypeLike | None = None,
    ) -> None:
        super().__init__(num_features, eps, momentum, affine, track_running_stats, device, dtype)

    def forward(self, x: Tensor) -> Tensor:
        x = as_tensor(x, type(self).__name__)
        single = x.ndim == self._ndims[0] - 1
        self._check_shape(x, (1, *x.shape) if single else x.shape)
        own = self.training or not self.track_running_stats
        step = self.momentum or 0.0  # as in PyTorch, batches are not counted here
        images = x.unsqueeze(0) if single else x
        y = instance_norm(images, self.running_mean, self.running_var, self.weight, self.bias, own, step, self.eps)
        return y.squeeze(0) if single else y


class InstanceNorm2d(_InstanceNorm):
    """Normalizes each channel of each image (N, C, H, W), or of one image (C, H, W): contrast is removed.

    There is no weight and bias unless `affine`. Evaluation uses the statistics of the image too, unless
    `track_running_stats` (Ulyanov et al. 2016, arXiv:1607.08022). Raises `ShapeError` for other shapes.

    >>> from tt_core import ones
    >>> InstanceNorm2d(3)(ones(2, 3, 4, 4)).shape
    (2, 3, 4, 4)
    """

    _ndims, _expected = (4,), "(N, C, H, W) or (C, H, W)"


class InstanceNorm1d(_InstanceNorm):
    """Normalizes each channel of each sequence (N, C, L), or of one (C, L); otherwise as `InstanceNorm2d`.

    >>> from tt_core import ones
    >>> InstanceNorm1d(3)(ones(2, 3, 4)).shape
    (2, 3, 4)
    """

    _ndims, _expected = (3,), "(N, C, L) or (C, L)"


class GroupNorm(Layer):
    """Normalizes groups of channels of each image (N, C, ...) with `group_norm`, for batches of any size.

    `weight` starts at 1, `bias` at 0, both (num_channels,). Raises `ArgumentError` for groups that do not divide the
    channels, `ShapeError` for another number of channels.

    >>> from tt_core import ones
    >>> GroupNorm(2, 6)(ones(1, 6, 4, 4)).shape
    (1, 6, 4, 4)
    """

    weight: Tensor | None
    bias: Tensor | None

    @checked
    def __init__(
        self,
        num_groups: int,
        num_channels: int,
        eps: float = 1e-5,
        affine: bool = True,
        device: DeviceLike | None = None,
        dtype: DTypeLike | None = None,
    ) -> None:
        super().__init__()
        _check_groups("GroupNorm", num_groups, num_channels)
        self.num_groups, self.num_channels, self.eps, self.affine = num_groups, num_channels, eps, affine
        self.weight = ones(num_channels).as_parameter() if affine else None
        self.bias = zeros(num_channels).as_parameter() if affine else None
        self._made_in(device, dtype)

    def forward(self, x: Tensor) -> Tensor:
        x = as_tensor(x, "GroupNorm")
        if x.ndim < 2 or x.shape[1] != self.num_channels:
            raise ShapeError(f"GroupNorm: input has shape {x.shape}, expected (N, {self.num_channels}, ...)")
        return group_norm(x, self.num_groups, self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        return f"{self.num_groups}, {self.num_channels}, eps={self.eps}, affine={self.affine}"
