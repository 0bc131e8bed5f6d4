"""Convolution along one dimension and transposed convolution, with PyTorch's names. Beside module 09, spatial.

One dimension is an image of one row. A transposed convolution is the gradient of a convolution for its input. There are
no kernels here, so gradients of any order follow from the ops.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from tt_core import Tensor
from tt_core.engine.arguments import checked
from tt_core.engine.compositions import of_tensors
from tt_core.engine.errors import ArgumentError, ShapeError, is_integer
from tt_core.tensor.shapes import as_size
from tt_data.spatial.convolution import conv2d, conv2d_input
from tt_data.spatial.layers import Convolution
from tt_data.spatial.sizes import IntOrPair, Pair, pair, per_dimension
from tt_data.torch_names.rows import IntOrOne, row

if TYPE_CHECKING:
    from tt_core.engine.hints import DeviceLike, DTypeLike


@of_tensors("x weight bias?")
def conv1d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: IntOrOne = 1,
    padding: IntOrOne | str = 0,
    dilation: IntOrOne = 1,
    groups: int = 1,
) -> Tensor:
    """`conv2d` along one dimension: x (N, C, L) or (C, L), weight (O, C / groups, k), bias (O,) gives (N, O, L').

    >>> from tt_core import ones
    >>> conv1d(ones(1, 1, 4), ones(1, 1, 3), padding=1)
    tensor([[[2., 3., 3., 2.]]])
    """
    if x.ndim not in (2, 3) or weight.ndim != 3:
        raise ShapeError(f"conv1d: expected (N, C, L) or (C, L) and (O, C / groups, k), got {x.shape}, {weight.shape}")
    how = {"stride": row(stride, "conv1d: stride"), "dilation": row(dilation, "conv1d: dilation"), "groups": groups}
    around = padding if isinstance(padding, str) else row(padding, "conv1d: padding", 0)
    return conv2d(x.unsqueeze(-2), weight.unsqueeze(-2), bias, padding=around, **how).squeeze(-2)


@of_tensors("x weight bias?")
def conv_transpose2d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: IntOrPair = 1,
    padding: IntOrPair = 0,
    output_padding: IntOrPair = 0,
    groups: int = 1,
    dilation: IntOrPair = 1,
) -> Tensor:
    """The gradient of `conv2d` for its input, used as a layer: each element of x adds its kernel to the result.

    x (N, C, H, W) or (C, H, W), weight (C, O / groups, kh, kw), bias (O,) gives (N, O, H', W') with
    `H' = (H - 1) stride - 2 padding + dilation (kh - 1) + output_padding + 1`. Raises `ArgumentError` for an
    `output_padding` that is not smaller than the stride, `ShapeError` for a result without pixels.

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
        raise ArgumentError(f"conv_transpose2d: groups {groups!r} must divide {weight.shape[0]} input channels")
    size = _transposed_size(x.shape[-2:], weight.shape[2:], stride, padding, output_padding, dilation)
    how = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    y = conv2d_input(x, weight, size=size, **how)
    if bias is None:
        return y
    if bias.shape != (y.shape[-3],):
        raise ShapeError(f"conv_transpose2d: bias has shape {bias.shape}, expected {(y.shape[-3],)}")
    return y + bias.reshape(-1, 1, 1)


def _transposed_size(
    size: Sequence[int],
    kernel: Sequence[int],
    stride: IntOrPair,
    padding: IntOrPair,
    output_padding: IntOrPair,
    dilation: IntOrPair,
) -> Pair:
    who = "conv_transpose2d"
    step, apart = pair(stride, f"{who}: stride"), pair(dilation, f"{who}: dilation")
    around, extra = pair(padding, f"{who}: padding", 0), pair(output_padding, f"{who}: output_padding", 0)
    if extra[0] >= step[0] or extra[1] >= step[1]:
        raise ArgumentError(f"{who}: output_padding {extra} must be smaller than stride {step}")
    least = _least_size(size, kernel, step, around, apart)
    rows, columns = least[0] + extra[0], least[1] + extra[1]
    if rows < 1 or columns < 1:
        raise ShapeError(f"{who}: padding {around} leaves no pixels of images {size} and kernels {kernel}")
    return rows, columns


def _least_size(
    size: Sequence[int], kernel: Sequence[int], stride: Sequence[int], padding: Sequence[int], dilation: Sequence[int]
) -> list[int]:
    """The size of a result without output padding."""
    parts = zip(size, kernel, stride, padding, dilation)
    return [(n - 1) * s - 2 * p + d * (k - 1) + 1 for n, k, s, p, d in parts]


@of_tensors("x weight bias?")
def conv_transpose1d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: IntOrOne = 1,
    padding: IntOrOne = 0,
    output_padding: IntOrOne = 0,
    groups: int = 1,
    dilation: IntOrOne = 1,
) -> Tensor:
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
    around, extra = row(padding, f"{who}: padding", 0), row(output_padding, f"{who}: output_padding", 0)
    how = (row(stride, f"{who}: stride"), around, extra, groups, row(dilation, f"{who}: dilation"))
    return conv_transpose2d(x.unsqueeze(-2), weight.unsqueeze(-2), bias, *how).squeeze(-2)


class Conv1d(Convolution):
    """`Conv2d` along one dimension: (N, in_channels, L) or (in_channels, L) to (N, out_channels, L').

    >>> from tt_core import ones
    >>> Conv1d(3, 8, kernel_size=3, padding="same")(ones(2, 3, 10)).shape
    (2, 8, 10)
    """

    _dims = 1

    def forward(self, x: Tensor) -> Tensor:
        x, how = self._padded(x)
        return conv1d(x, self.weight, self.bias, **how)


class ConvTranspose2d(Convolution):
    """Enlarges images with learned kernels: `conv_transpose2d` (Zeiler et al. 2010).

    Takes (N, in_channels, H, W) or one image without N, and optionally the size (H', W') of the result, which replaces
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
        device: DeviceLike | None = None,
        dtype: DTypeLike | None = None,
    ) -> None:
        name = type(self).__name__
        per_dimension(padding, self._dims, f"{name}: padding", least=0)  # 'same' and 'valid' are not supported
        extra = per_dimension(output_padding, self._dims, f"{name}: output_padding", least=0)
        how = (stride, padding, dilation, groups, bias, padding_mode, device, dtype)
        super().__init__(in_channels, out_channels, kernel_size, *how)
        self.output_padding = extra

    def _weight_shape(self) -> tuple[int, ...]:
        return (self.in_channels, self.out_channels // self.groups, *self.kernel_size)

    def _how(self, x: Tensor, output_size: Sequence[int] | None) -> tuple[Any, ...]:
        """Arguments after the bias, in the order of the functions."""
        return self.stride, self.padding, self._output_padding(x, output_size), self.groups, self.dilation

    def _output_padding(self, x: Tensor, output_size: Sequence[int] | None) -> tuple[int, ...]:
        if output_size is None:
            return self.output_padding
        around = per_dimension(self.padding, self._dims, f"{type(self).__name__}: padding", least=0)  # type: ignore[arg-type]
        least = _least_size(x.shape[-self._dims :], self.kernel_size, self.stride, around, self.dilation)
        wanted = as_size(f"{type(self).__name__}: output_size", (output_size,))
        extra = tuple(n - m for n, m in zip(wanted[-self._dims :], least))
        if not all(0 <= e < s for e, s in zip(extra, self.stride)):
            most = [m + s - 1 for m, s in zip(least, self.stride)]
            raise ArgumentError(
                f"{type(self).__name__}: output_size is between {least} and {most}, got {output_size!r}"
            )
        return extra

    def forward(self, x: Tensor, output_size: Sequence[int] | None = None) -> Tensor:
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

    def forward(self, x: Tensor, output_size: Sequence[int] | None = None) -> Tensor:
        return conv_transpose1d(x, self.weight, self.bias, *self._how(x, output_size))
