"""Module 09, spatial: further names of PyTorch's, each a few lines over the ops of the module's other files.

One dimension is an image of one row; a transposed convolution is the gradient of a convolution for its input; a pixel
shuffle is a permutation. There are no kernels here, so gradients of any order come for free.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tt_core.engine.arguments import checked
from tt_core.engine.compositions import of_tensors
from tt_core.engine.errors import ShapeError, is_integer
from tt_core.layers import Layer
from tt_core.nn import Unflatten as Unflatten
from tt_core.tensor.shapes import as_size
from tt_data.spatial.adaptive_pooling import adaptive_avg_pool2d, adaptive_max_pool2d
from tt_data.spatial.convolution import Convolution, conv2d, conv2d_input, fold, unfold
from tt_data.spatial.pooling import avg_pool2d, max_pool2d, max_pool2d_with_indices
from tt_data.spatial.windows import IntOrPair, Pair, pair, per_dimension

IntOrOne = int | Sequence[int]

# --- convolutions


@of_tensors("x weight bias?")
def conv1d(
    x: Any,
    weight: Any,
    bias: Any = None,
    stride: IntOrOne = 1,
    padding: IntOrOne | str = 0,
    dilation: IntOrOne = 1,
    groups: int = 1,
) -> Any:
    """`conv2d` along one dimension: x (N, C, L) or (C, L), weight (O, C / groups, k), bias (O,) gives (N, O, L').

    >>> from tt_core import ones
    >>> conv1d(ones(1, 1, 4), ones(1, 1, 3), padding=1)
    tensor([[[2., 3., 3., 2.]]])
    """
    if x.ndim not in (2, 3) or weight.ndim != 3:
        raise ShapeError(f"conv1d: expected (N, C, L) or (C, L) and (O, C / groups, k), got {x.shape}, {weight.shape}")
    how = {"stride": _row(stride, "conv1d: stride"), "dilation": _row(dilation, "conv1d: dilation"), "groups": groups}
    around = padding if isinstance(padding, str) else _row(padding, "conv1d: padding", 0)
    return conv2d(x.unsqueeze(-2), weight.unsqueeze(-2), bias, padding=around, **how).squeeze(-2)


@of_tensors("x weight bias?")
def conv_transpose2d(
    x: Any,
    weight: Any,
    bias: Any = None,
    stride: IntOrPair = 1,
    padding: IntOrPair = 0,
    output_padding: IntOrPair = 0,
    groups: int = 1,
    dilation: IntOrPair = 1,
) -> Any:
    """The gradient of `conv2d` for its input, as an operation of its own: each element of x spreads a kernel.

    x (N, C, H, W) or (C, H, W), weight (C, O / groups, kh, kw), bias (O,) gives (N, O, H', W') with
    `H' = (H - 1) stride - 2 padding + dilation (kh - 1) + output_padding + 1`. Raises `ShapeError` for an
    `output_padding` that is not smaller than the stride, and for a result without pixels.

    >>> from tt_core import ones
    >>> conv_transpose2d(ones(1, 1, 2, 2), ones(1, 1, 2, 2), stride=2).shape
    (1, 1, 4, 4)
    """
    if x.ndim not in (3, 4) or weight.ndim != 4 or x.shape[-3] != weight.shape[0]:
        raise ShapeError(
            f"conv_transpose2d: expected (N, C, H, W) or (C, H, W) and (C, O / groups, kh, kw), got {x.shape} and "
            f"{weight.shape}"
        )
    if not is_integer(groups, least=1) or weight.shape[0] % groups:
        raise ShapeError(f"conv_transpose2d: groups {groups!r} must divide {weight.shape[0]} input channels")
    size = _transposed_size(x.shape[-2:], weight.shape[2:], stride, padding, output_padding, dilation)
    how = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    y = conv2d_input(x, weight, size=size, **how)
    if bias is None:
        return y
    if bias.shape != (y.shape[-3],):
        raise ShapeError(f"conv_transpose2d: bias has shape {bias.shape}, expected {(y.shape[-3],)}")
    return y + bias.reshape(-1, 1, 1)


def _transposed_size(
    size: Pair, kernel: Pair, stride: IntOrPair, padding: IntOrPair, output_padding: IntOrPair, dilation: IntOrPair
) -> Pair:
    who = "conv_transpose2d"
    step, apart = pair(stride, f"{who}: stride"), pair(dilation, f"{who}: dilation")
    around, extra = pair(padding, f"{who}: padding", 0), pair(output_padding, f"{who}: output_padding", 0)
    if extra[0] >= step[0] or extra[1] >= step[1]:
        raise ShapeError(f"{who}: output_padding {extra} must be smaller than stride {step}")
    rows, columns = (
        (n - 1) * s - 2 * p + d * (k - 1) + e + 1 for n, s, p, d, k, e in zip(size, step, around, apart, kernel, extra)
    )
    if rows < 1 or columns < 1:
        raise ShapeError(f"{who}: padding {around} leaves no pixels of images {size} and kernels {kernel}")
    return rows, columns


@of_tensors("x weight bias?")
def conv_transpose1d(
    x: Any,
    weight: Any,
    bias: Any = None,
    stride: IntOrOne = 1,
    padding: IntOrOne = 0,
    output_padding: IntOrOne = 0,
    groups: int = 1,
    dilation: IntOrOne = 1,
) -> Any:
    """`conv_transpose2d` along one dimension: x (N, C, L) or (C, L), weight (C, O / groups, k) gives (N, O, L').

    >>> from tt_core import ones
    >>> conv_transpose1d(ones(1, 1, 2), ones(1, 1, 3), stride=2)
    tensor([[[1., 1., 2., 1., 1.]]])
    """
    if x.ndim not in (2, 3) or weight.ndim != 3:
        raise ShapeError(
            f"conv_transpose1d: expected (N, C, L) or (C, L) and (C, O / groups, k), got {x.shape}, {weight.shape}"
        )
    who = "conv_transpose1d"
    around, extra = _row(padding, f"{who}: padding", 0), _row(output_padding, f"{who}: output_padding", 0)
    how = (_row(stride, f"{who}: stride"), around, extra, groups, _row(dilation, f"{who}: dilation"))
    return conv_transpose2d(x.unsqueeze(-2), weight.unsqueeze(-2), bias, *how).squeeze(-2)


class Conv1d(Convolution):
    """`Conv2d` along one dimension: (N, in_channels, L) or (in_channels, L) to (N, out_channels, L').

    >>> from tt_core import ones
    >>> Conv1d(3, 8, kernel_size=3, padding="same")(ones(2, 3, 10)).shape
    (2, 8, 10)
    """

    _dims = 1

    def forward(self, x: Any) -> Any:
        x, how = self._padded(x)
        return conv1d(x, self.weight, self.bias, **how)


class ConvTranspose2d(Convolution):
    """Enlarges images by learnt kernels: `conv_transpose2d` (Zeiler et al. 2010).

    Takes (N, in_channels, H, W) or one image without N, and optionally the size (H', W') of the result, in place of
    `output_padding`. `weight` is (in, out / groups, kh, kw).

    >>> from tt_core import ones
    >>> ConvTranspose2d(8, 3, kernel_size=4, stride=2, padding=1)(ones(2, 8, 16, 16)).shape
    (2, 3, 32, 32)
    """

    _paddings = ("zeros",)

    @checked
    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: IntOrPair,
        stride: IntOrPair = 1,
        padding: IntOrPair = 0,
        output_padding: IntOrPair = 0,
        groups: int = 1,
        bias: bool = True,
        dilation: IntOrPair = 1,
        padding_mode: str = "zeros",
    ) -> None:
        name = type(self).__name__
        per_dimension(padding, self._dims, f"{name}: padding", least=0)  # no 'same' here
        extra = per_dimension(output_padding, self._dims, f"{name}: output_padding", least=0)
        super().__init__(in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias, padding_mode)
        self.output_padding = extra

    def _weight_shape(self) -> tuple[int, ...]:
        return (self.in_channels, self.out_channels // self.groups, *self.kernel_size)

    def _how(self, x: Any, output_size: Any) -> tuple[Any, ...]:
        """Arguments after the bias, in the order of the functions."""
        return self.stride, self.padding, self._output_padding(x, output_size), self.groups, self.dilation

    def _output_padding(self, x: Any, output_size: Any) -> tuple[int, ...]:
        if output_size is None:
            return self.output_padding
        around = per_dimension(self.padding, self._dims, f"{type(self).__name__}: padding", least=0)  # type: ignore[arg-type]
        least = [
            (n - 1) * s - 2 * p + d * (k - 1) + 1
            for n, s, p, d, k in zip(x.shape[-self._dims :], self.stride, around, self.dilation, self.kernel_size)
        ]
        wanted = as_size(f"{type(self).__name__}: output_size", (output_size,))
        extra = tuple(n - m for n, m in zip(wanted[-self._dims :], least))
        if not all(0 <= e < s for e, s in zip(extra, self.stride)):
            most = [m + s - 1 for m, s in zip(least, self.stride)]
            raise ShapeError(f"{type(self).__name__}: output_size is between {least} and {most}, got {output_size!r}")
        return extra

    def forward(self, x: Any, output_size: Any = None) -> Any:
        return conv_transpose2d(x, self.weight, self.bias, *self._how(x, output_size))

    def extra_repr(self) -> str:
        extra = f", output_padding={self.output_padding}" if any(self.output_padding) else ""
        return super().extra_repr() + extra


class ConvTranspose1d(ConvTranspose2d):
    """`ConvTranspose2d` along one dimension: (N, in_channels, L) or (in_channels, L) to (N, out_channels, L').

    >>> from tt_core import ones
    >>> ConvTranspose1d(8, 3, kernel_size=4, stride=2, padding=1)(ones(2, 8, 16)).shape
    (2, 3, 32)
    """

    _dims = 1

    def forward(self, x: Any, output_size: Any = None) -> Any:
        return conv_transpose1d(x, self.weight, self.bias, *self._how(x, output_size))


def _row(value: Any, name: str, least: int = 1) -> Pair:
    """A number, or a tuple of one, for an image of one row."""
    (columns,) = per_dimension(value, 1, name, least)
    return least, columns


# --- pooling along one dimension


@of_tensors("x")
def max_pool1d(
    x: Any,
    kernel_size: IntOrOne,
    stride: IntOrOne | None = None,
    padding: IntOrOne = 0,
    dilation: IntOrOne = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    """`max_pool2d` along the last dimension of (N, C, L) or (C, L); with `return_indices`, also where along it.

    >>> from tt_core import tensor
    >>> max_pool1d(tensor([[[1.0, 4.0, 2.0, 3.0]]]), kernel_size=2)
    tensor([[[4., 3.]]])
    """
    how = _pooling_along_rows("max_pool1d", x, kernel_size, stride, padding)
    how |= {"dilation": _row(dilation, "max_pool1d: dilation"), "ceil_mode": ceil_mode}
    if not return_indices:
        return max_pool2d(x.unsqueeze(-2), **how).squeeze(-2)
    y, indices = max_pool2d_with_indices(x.unsqueeze(-2), **how)
    return y.squeeze(-2), indices.squeeze(-2)


@of_tensors("x")
def avg_pool1d(
    x: Any,
    kernel_size: IntOrOne,
    stride: IntOrOne | None = None,
    padding: IntOrOne = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> Any:
    """`avg_pool2d` along the last dimension of (N, C, L) or (C, L).

    >>> from tt_core import tensor
    >>> avg_pool1d(tensor([[[1.0, 3.0, 2.0, 4.0]]]), kernel_size=2)
    tensor([[[2., 3.]]])
    """
    how = _pooling_along_rows("avg_pool1d", x, kernel_size, stride, padding)
    how |= {"ceil_mode": ceil_mode, "count_include_pad": count_include_pad}
    return avg_pool2d(x.unsqueeze(-2), **how).squeeze(-2)


def _pooling_along_rows(who: str, x: Any, kernel_size: Any, stride: Any, padding: Any) -> dict[str, Any]:
    if x.ndim not in (2, 3):
        raise ShapeError(f"{who}: input has shape {x.shape}, expected (N, C, L) or (C, L)")
    kernel = _row(kernel_size, f"{who}: kernel_size")
    step = kernel if stride is None else _row(stride, f"{who}: stride")
    return {"kernel_size": kernel, "stride": step, "padding": _row(padding, f"{who}: padding", 0)}


@of_tensors("x")
def adaptive_avg_pool1d(x: Any, output_size: IntOrOne) -> Any:
    """`adaptive_avg_pool2d` along the last dimension of (N, C, L) or (C, L).

    >>> from tt_core import arange
    >>> adaptive_avg_pool1d(arange(4.0).reshape(1, 1, 4), output_size=2)
    tensor([[[0.5, 2.5]]])
    """
    size = _row(output_size, "adaptive_avg_pool1d: output_size")
    return adaptive_avg_pool2d(x.unsqueeze(-2), output_size=size).squeeze(-2)


@of_tensors("x")
def adaptive_max_pool1d(x: Any, output_size: IntOrOne, return_indices: bool = False) -> Any:
    """`adaptive_max_pool2d` along the last dimension of (N, C, L) or (C, L), with or without indices along it.

    >>> from tt_core import arange
    >>> adaptive_max_pool1d(arange(4.0).reshape(1, 1, 4), output_size=2)
    tensor([[[1., 3.]]])
    """
    size = _row(output_size, "adaptive_max_pool1d: output_size")
    y, indices = adaptive_max_pool2d(x.unsqueeze(-2), size, return_indices=True)
    return (y.squeeze(-2), indices.squeeze(-2)) if return_indices else y.squeeze(-2)


class _Named(Layer):
    """A layer without parameters whose arguments are attributes, and its repr."""

    def __init__(self, **arguments: Any) -> None:
        super().__init__()
        for name, value in arguments.items():
            setattr(self, name, value)
        self._arguments = arguments

    def extra_repr(self) -> str:
        return ", ".join(f"{name}={value!r}" for name, value in self._arguments.items())


class MaxPool1d(_Named):
    """The largest element of each window of (N, C, L) or (C, L): `max_pool1d`.

    >>> from tt_core import ones
    >>> MaxPool1d(2)(ones(1, 3, 8)).shape
    (1, 3, 4)
    """

    @checked
    def __init__(
        self,
        kernel_size: IntOrOne,
        stride: IntOrOne | None = None,
        padding: IntOrOne = 0,
        dilation: IntOrOne = 1,
        return_indices: bool = False,
        ceil_mode: bool = False,
    ) -> None:
        how = {"padding": padding, "dilation": dilation, "ceil_mode": ceil_mode, "return_indices": return_indices}
        super().__init__(kernel_size=kernel_size, stride=kernel_size if stride is None else stride, **how)

    def forward(self, x: Any) -> Any:
        return max_pool1d(x, **self._arguments)


class AvgPool1d(_Named):
    """The mean of each window of (N, C, L) or (C, L): `avg_pool1d`.

    >>> from tt_core import ones
    >>> AvgPool1d(2)(ones(1, 3, 8)).shape
    (1, 3, 4)
    """

    @checked
    def __init__(
        self,
        kernel_size: IntOrOne,
        stride: IntOrOne | None = None,
        padding: IntOrOne = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
    ) -> None:
        how = {"padding": padding, "ceil_mode": ceil_mode, "count_include_pad": count_include_pad}
        super().__init__(kernel_size=kernel_size, stride=kernel_size if stride is None else stride, **how)

    def forward(self, x: Any) -> Any:
        return avg_pool1d(x, **self._arguments)


class AdaptiveAvgPool1d(_Named):
    """Means over as many windows along (N, C, L) or (C, L) as asked for: `adaptive_avg_pool1d`.

    >>> from tt_core import ones
    >>> AdaptiveAvgPool1d(2)(ones(1, 3, 8)).shape
    (1, 3, 2)
    """

    @checked
    def __init__(self, output_size: IntOrOne) -> None:
        super().__init__(output_size=output_size)

    def forward(self, x: Any) -> Any:
        return adaptive_avg_pool1d(x, **self._arguments)


class AdaptiveMaxPool1d(_Named):
    """Maxima over as many windows along (N, C, L) or (C, L) as asked for: `adaptive_max_pool1d`.

    >>> from tt_core import ones
    >>> AdaptiveMaxPool1d(2)(ones(1, 3, 8)).shape
    (1, 3, 2)
    """

    @checked
    def __init__(self, output_size: IntOrOne, return_indices: bool = False) -> None:
        super().__init__(output_size=output_size, return_indices=return_indices)

    def forward(self, x: Any) -> Any:
        return adaptive_max_pool1d(x, **self._arguments)


# --- elements in another order


@of_tensors("x")
def pixel_shuffle(x: Any, upscale_factor: int) -> Any:
    """Channels become pixels: (..., C r r, H, W) to (..., C, H r, W r) (Shi et al. 2016, arXiv:1609.05158).

    Raises `ShapeError` for channels that r * r does not divide.

    >>> from tt_core import arange
    >>> pixel_shuffle(arange(4.0).reshape(1, 4, 1, 1), 2)
    tensor([[[[0., 1.],
              [2., 3.]]]])
    """
    r = upscale_factor
    if x.ndim < 3 or not is_integer(r, least=1) or x.shape[-3] % (r * r):
        raise ShapeError(f"pixel_shuffle: expected (..., C * {r} * {r}, H, W), got {x.shape}")
    *lead, channels, height, width = x.shape
    y = x.reshape(-1, channels // (r * r), r, r, height, width).permute(0, 1, 4, 2, 5, 3)
    return y.reshape(*lead, channels // (r * r), height * r, width * r)


@of_tensors("x")
def pixel_unshuffle(x: Any, downscale_factor: int) -> Any:
    """Pixels become channels, the inverse of `pixel_shuffle`: (..., C, H r, W r) to (..., C r r, H, W).

    >>> from tt_core import ones
    >>> pixel_unshuffle(ones(1, 3, 8, 6), 2).shape
    (1, 12, 4, 3)
    """
    r = downscale_factor
    if x.ndim < 3 or not is_integer(r, least=1) or x.shape[-1] % r or x.shape[-2] % r:
        raise ShapeError(f"pixel_unshuffle: expected (..., C, H * {r}, W * {r}), got {x.shape}")
    *lead, channels, height, width = x.shape
    y = x.reshape(-1, channels, height // r, r, width // r, r).permute(0, 1, 3, 5, 2, 4)
    return y.reshape(*lead, channels * r * r, height // r, width // r)


class PixelShuffle(_Named):
    """Enlarges images by turning channels into pixels: `pixel_shuffle`.

    >>> from tt_core import ones
    >>> PixelShuffle(2)(ones(1, 12, 4, 3)).shape
    (1, 3, 8, 6)
    """

    @checked
    def __init__(self, upscale_factor: int) -> None:
        super().__init__(upscale_factor=upscale_factor)

    def forward(self, x: Any) -> Any:
        return pixel_shuffle(x, **self._arguments)


class PixelUnshuffle(_Named):
    """Shrinks images by turning pixels into channels: `pixel_unshuffle`.

    >>> from tt_core import ones
    >>> PixelUnshuffle(2)(ones(1, 3, 8, 6)).shape
    (1, 12, 4, 3)
    """

    @checked
    def __init__(self, downscale_factor: int) -> None:
        super().__init__(downscale_factor=downscale_factor)

    def forward(self, x: Any) -> Any:
        return pixel_unshuffle(x, **self._arguments)


class Unfold(_Named):
    """The patches of (N, C, H, W) as columns (N, C kh kw, windows): `unfold`.

    >>> from tt_core import ones
    >>> Unfold(3)(ones(1, 2, 5, 5)).shape
    (1, 18, 9)
    """

    @checked
    def __init__(
        self, kernel_size: IntOrPair, dilation: IntOrPair = 1, padding: IntOrPair = 0, stride: IntOrPair = 1
    ) -> None:
        super().__init__(kernel_size=kernel_size, dilation=dilation, padding=padding, stride=stride)

    def forward(self, x: Any) -> Any:
        return unfold(x, **self._arguments)


class Fold(_Named):
    """Columns (N, C kh kw, windows) added up in the images they cover, (N, C, H, W): `fold`.

    >>> from tt_core import ones
    >>> Fold(5, 3)(ones(1, 18, 9)).shape
    (1, 2, 5, 5)
    """

    @checked
    def __init__(
        self,
        output_size: IntOrPair,
        kernel_size: IntOrPair,
        dilation: IntOrPair = 1,
        padding: IntOrPair = 0,
        stride: IntOrPair = 1,
    ) -> None:
        how = {"dilation": dilation, "padding": padding, "stride": stride}
        super().__init__(output_size=output_size, kernel_size=kernel_size, **how)

    def forward(self, x: Any) -> Any:
        return fold(x, **self._arguments)
