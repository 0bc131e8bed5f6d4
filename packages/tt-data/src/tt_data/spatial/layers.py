"""Module 09, spatial: the layers of convolution, pooling and batch normalization.

A layer holds the arguments, the weights and the running statistics; the functions that it calls are in
`convolution.py`, `pooling.py` and `normalization.py`.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from tt_core import Tensor, init
from tt_core.engine.arguments import checked
from tt_core.engine.compositions import as_tensor
from tt_core.engine.effects import effect
from tt_core.engine.errors import ArgumentError, ShapeError
from tt_core.layers import Layer
from tt_core.tensor.creation import empty, ones, zeros
from tt_core.tensor.shapes import new_size
from tt_data.spatial.common import FunctionLayer
from tt_data.spatial.convolution import conv2d
from tt_data.spatial.normalization import batch_norm
from tt_data.spatial.padding import pad
from tt_data.spatial.pooling import avg_pool2d, max_pool2d
from tt_data.spatial.pooling_indices import max_pool2d_with_indices
from tt_data.spatial.sizes import IntOrPair, Pair, per_dimension, sides_of

if TYPE_CHECKING:
    from tt_core.engine.hints import DeviceLike, DTypeLike

# --- convolution


class Convolution(Layer):
    """Base of `Conv2d` and its relatives: arguments, weight, bias and their initial values."""

    weight: Tensor
    bias: Tensor | None
    _dims = 2
    _paddings: tuple[str, ...] = ("zeros", "reflect", "replicate", "circular")

    @checked
    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: IntOrPair,
        stride: IntOrPair = 1,
        padding: IntOrPair | str = 0,
        dilation: IntOrPair = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
        device: DeviceLike | None = None,
        dtype: DTypeLike | None = None,
    ) -> None:
        super().__init__()
        self.in_channels, self.out_channels, self.groups = in_channels, out_channels, groups
        self.padding_mode, name = padding_mode, type(self).__name__
        self._check_arguments(name)
        self.kernel_size = per_dimension(kernel_size, self._dims, f"{name}: kernel_size")
        self.stride = per_dimension(stride, self._dims, f"{name}: stride")
        self.dilation = per_dimension(dilation, self._dims, f"{name}: dilation")
        self.padding = (
            padding if isinstance(padding, str) else per_dimension(padding, self._dims, f"{name}: padding", least=0)
        )
        self._sides = self._sides_of_padding()
        self.weight = empty(*self._weight_shape()).as_parameter()
        self.bias = empty(out_channels).as_parameter() if bias else None
        self.reset_parameters()
        self._made_in(device, dtype)

    def _check_arguments(self, name: str) -> None:
        """Raises `ShapeError` for a negative number of channels.

        Raises `ArgumentError` for groups that do not divide the channels, and for an unknown padding mode.
        """
        inward, outward, groups = self.in_channels, self.out_channels, self.groups
        new_size(name, (inward, outward))
        if groups < 1 or inward % groups or outward % groups:
            raise ArgumentError(f"{name}: groups {groups} must divide in_channels {inward} and out_channels {outward}")
        if self.padding_mode not in self._paddings:
            raise ArgumentError(f"{name}: padding_mode is {' or '.join(self._paddings)}, got {self.padding_mode!r}")

    def _weight_shape(self) -> tuple[int, ...]:
        return (self.out_channels, self.in_channels // self.groups, *self.kernel_size)

    def _sides_of_padding(self) -> tuple[int, ...]:
        """The padding in the form that `pad` takes; raises for a padding that fits no image."""
        reach = [d * (k - 1) + 1 for d, k in zip(self.dilation, self.kernel_size)]
        padding = self.padding if isinstance(self.padding, str) else _two(self.padding, 0)
        rows, columns = sides_of(padding, _two(reach, 1), _two(self.stride, 1))
        return (*columns, *rows)[: 2 * self._dims]

    def _padded(self, x: Tensor) -> tuple[Tensor, dict[str, Any]]:
        """The input and the attributes of the op; only a border of zeros is left to the op."""
        how = {name: getattr(self, name) for name in ("stride", "padding", "dilation", "groups")}
        if self.padding_mode == "zeros":
            return x, how
        return pad(x, self._sides, self.padding_mode), how | {"padding": 0}

    def reset_parameters(self) -> None:
        """Draws the initial values again."""
        init.kaiming_uniform_(self.weight, a=math.sqrt(5))
        fan_in = math.prod(self.weight.shape[1:])
        if self.bias is not None and fan_in:
            init.uniform_(self.bias, -1 / math.sqrt(fan_in), 1 / math.sqrt(fan_in))

    def extra_repr(self) -> str:
        text = f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}"
        usual = {"stride": (1,) * self._dims, "padding": (0,) * self._dims, "dilation": (1,) * self._dims, "groups": 1}
        usual |= {"padding_mode": "zeros"}
        unusual = {name: getattr(self, name) for name, value in usual.items() if getattr(self, name) != value}
        text += "".join(f", {name}={value!r}" for name, value in unusual.items())
        return text + ("" if self.bias is not None else ", bias=False")


def _two(values: Any, rows: int) -> Pair:
    """One or two numbers as a pair; a single number is for columns, beside `rows`."""
    first, second = (rows, *values)[-2:]
    return first, second


class Conv2d(Convolution):
    """Convolution of images with learned kernels (LeCun et al. 1989).

    Takes (N, in_channels, H, W), or one image without N; returns (N, out_channels, H', W'), see `conv2d`.
    `kernel_size`, `stride` and `dilation` are a number or a pair (rows, columns); `padding` may also be 'same' or
    'valid', `padding_mode` is 'zeros', 'reflect', 'replicate' or 'circular' (see `pad`). `groups` splits the channels
    into as many separate convolutions. `weight` (out, in / groups, kh, kw) and `bias` (out,) start uniform in
    +-1/sqrt(in / groups * kh * kw), as in PyTorch. Raises `ArgumentError` for arguments outside of these.

    >>> from tt_core import ones
    >>> Conv2d(3, 8, kernel_size=3, padding="same")(ones(2, 3, 32, 32)).shape
    (2, 8, 32, 32)
    """

    def forward(self, x: Tensor) -> Tensor:
        x, how = self._padded(x)
        return conv2d(x, self.weight, self.bias, **how)


# --- pooling


def _max_pool2d(x: Any, return_indices: bool, **how: Any) -> Any:
    return max_pool2d_with_indices(x, **how) if return_indices else max_pool2d(x, **how)


class MaxPool2d(FunctionLayer):
    """The maximum of each window (`max_pool2d`); (N, C, H, W) to (N, C, H', W').

    With `return_indices`, it also returns the position of each maximum, which `MaxUnpool2d` takes.

    >>> from tt_core import ones
    >>> MaxPool2d(2)(ones(1, 3, 8, 8)).shape
    (1, 3, 4, 4)
    """

    function = staticmethod(_max_pool2d)

    @checked
    def __init__(
        self,
        kernel_size: IntOrPair,
        stride: IntOrPair | None = None,
        padding: IntOrPair = 0,
        dilation: IntOrPair = 1,
        return_indices: bool = False,
        ceil_mode: bool = False,
    ) -> None:
        how = {"padding": padding, "dilation": dilation, "ceil_mode": ceil_mode, "return_indices": return_indices}
        super().__init__(kernel_size=kernel_size, stride=kernel_size if stride is None else stride, **how)


class AvgPool2d(FunctionLayer):
    """The mean of each window (`avg_pool2d`); (N, C, H, W) to (N, C, H', W').

    >>> from tt_core import ones
    >>> AvgPool2d(3, stride=2)(ones(1, 3, 9, 9)).shape
    (1, 3, 4, 4)
    """

    function = staticmethod(avg_pool2d)

    @checked
    def __init__(
        self,
        kernel_size: IntOrPair,
        stride: IntOrPair | None = None,
        padding: IntOrPair = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
        divisor_override: int | None = None,
    ) -> None:
        super().__init__(
            kernel_size=kernel_size,
            stride=kernel_size if stride is None else stride,
            padding=padding,
            ceil_mode=ceil_mode,
            count_include_pad=count_include_pad,
            divisor_override=divisor_override,
        )


# --- batch normalization


@effect(0)
def count_batch(batches: Tensor) -> None:
    """Add 1 to the number of batches that running statistics have seen, in place."""
    np.add(batches.data, 1, out=batches.data)


class Normalization(Layer):
    """Base of the layers with running statistics: their state and its updates."""

    weight: Tensor | None
    bias: Tensor | None
    running_mean: Tensor | None
    running_var: Tensor | None
    num_batches_tracked: Tensor | None
    _ndims: tuple[int, ...]
    _expected: str
    _usual: ClassVar[dict[str, Any]] = {"affine": True, "track_running_stats": True}
    _may_be_missing = ("num_batches_tracked",)  # state dicts older than PyTorch 0.4.1 lack it

    @checked
    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        device: DeviceLike | None = None,
        dtype: DTypeLike | None = None,
    ) -> None:
        super().__init__()
        new_size(type(self).__name__, (num_features,))
        self.num_features, self.eps, self.momentum = num_features, eps, momentum
        self.affine, self.track_running_stats = affine, track_running_stats
        self.weight = ones(num_features).as_parameter() if affine else None
        self.bias = zeros(num_features).as_parameter() if affine else None
        self.register_buffer("running_mean", zeros(num_features) if track_running_stats else None)
        self.register_buffer("running_var", ones(num_features) if track_running_stats else None)
        self.register_buffer("num_batches_tracked", zeros(dtype=np.int64) if track_running_stats else None)
        self._made_in(device, dtype)

    def _check_shape(self, x: Tensor, shape: tuple[int, ...]) -> None:
        """Raise `ShapeError` unless this layer takes `shape`, the shape of x with a batch dimension."""
        if len(shape) not in self._ndims or shape[1] != self.num_features:
            expected = self._expected.replace("C", str(self.num_features))
            raise ShapeError(f"{type(self).__name__}: input has shape {x.shape}, expected {expected}")

    def _step(self) -> float:
        """The weight of the new batch: `momentum`, or 1 / batches if it is None, for the mean of all batches."""
        if self.num_batches_tracked is None:
            return self.momentum or 0.0
        count_batch(self.num_batches_tracked)
        return self.momentum if self.momentum is not None else 1 / self.num_batches_tracked.item()

    def extra_repr(self) -> str:
        usual = {"eps": 1e-5, "momentum": 0.1, **self._usual}
        unusual = {name: getattr(self, name) for name, value in usual.items() if getattr(self, name) != value}
        return ", ".join([str(self.num_features), *(f"{name}={value}" for name, value in unusual.items())])


class _BatchNorm(Normalization):
    def forward(self, x: Tensor) -> Tensor:
        x = as_tensor(x, type(self).__name__)
        self._check_shape(x, x.shape)
        own = self.training or self.running_mean is None  # the statistics of the batch
        tracked = (self.running_mean, self.running_var) if self.training or not own else (None, None)
        step = self._step() if self.training else 0.0
        return batch_norm(x, *tracked, self.weight, self.bias, own, step, self.eps)


class BatchNorm2d(_BatchNorm):
    """Normalizes each channel of (N, C, H, W) over the batch (Ioffe and Szegedy 2015, arXiv:1502.03167).

    Training uses the batch's own mean and variance and moves `running_mean` and `running_var` (unbiased) towards them
    by `momentum` (None: to their mean over all batches); evaluation uses the running statistics. `weight` (C,) starts
    at 1, `bias` (C,) at 0. Raises `ShapeError` for other shapes, and in training for a single value per channel.

    >>> from tt_core import ones
    >>> BatchNorm2d(3)(ones(2, 3, 4, 4)).shape
    (2, 3, 4, 4)
    """

    _ndims, _expected = (4,), "(N, C, H, W)"


class BatchNorm1d(_BatchNorm):
    """Normalizes each channel of (N, C) or (N, C, L) over the batch; otherwise as `BatchNorm2d`.

    >>> from tt_core import tensor
    >>> BatchNorm1d(1)(tensor([[1.0], [3.0]]))
    tensor([[-1.],
            [ 1.]], grad_fn=batch_norm_training)
    """

    _ndims, _expected = (2, 3), "(N, C) or (N, C, L)"
