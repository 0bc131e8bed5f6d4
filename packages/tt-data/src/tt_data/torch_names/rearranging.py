"""Layers that only rearrange elements, with PyTorch's names. Beside module 09, spatial."""

from __future__ import annotations

from tt_core import Tensor
from tt_core.engine.arguments import checked
from tt_core.engine.compositions import of_tensors
from tt_core.engine.errors import ShapeError, is_integer
from tt_data.spatial.common import FunctionLayer
from tt_data.spatial.convolution import unfold
from tt_data.spatial.folding import fold
from tt_data.spatial.sizes import IntOrPair


@of_tensors("x")
def pixel_shuffle(x: Tensor, upscale_factor: int) -> Tensor:
    """Rearranges channels to pixels: (..., C r r, H, W) to (..., C, H r, W r) (Shi et al. 2016, arXiv:1609.05158).

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
    y = x.reshape(-1, channels // (r * r), r, r, height, width).permute(0, 1, 4, 2, 5, 3)  # (N, C, H, r, W, r)
    return y.reshape(*lead, channels // (r * r), height * r, width * r)


@of_tensors("x")
def pixel_unshuffle(x: Tensor, downscale_factor: int) -> Tensor:
    """Rearranges pixels to channels, the inverse of `pixel_shuffle`: (..., C, H r, W r) to (..., C r r, H, W).

    >>> from tt_core import ones
    >>> pixel_unshuffle(ones(1, 3, 8, 6), 2).shape
    (1, 12, 4, 3)
    """
    r = downscale_factor
    if x.ndim < 3 or not is_integer(r, least=1) or x.shape[-1] % r or x.shape[-2] % r:
        raise ShapeError(f"pixel_unshuffle: expected (..., C, H * {r}, W * {r}), got {x.shape}")
    *lead, channels, height, width = x.shape
    y = x.reshape(-1, channels, height // r, r, width // r, r).permute(0, 1, 3, 5, 2, 4)  # (N, C, r, r, H, W)
    return y.reshape(*lead, channels * r * r, height // r, width // r)


class PixelShuffle(FunctionLayer):
    """Enlarges images by rearranging channels to pixels: `pixel_shuffle`.

    >>> from tt_core import ones
    >>> PixelShuffle(2)(ones(1, 12, 4, 3)).shape
    (1, 3, 8, 6)
    """

    function = staticmethod(pixel_shuffle)

    @checked
    def __init__(self, upscale_factor: int) -> None:
        super().__init__(upscale_factor=upscale_factor)


class PixelUnshuffle(FunctionLayer):
    """Shrinks images by rearranging pixels to channels: `pixel_unshuffle`.

    >>> from tt_core import ones
    >>> PixelUnshuffle(2)(ones(1, 3, 8, 6)).shape
    (1, 12, 4, 3)
    """

    function = staticmethod(pixel_unshuffle)

    @checked
    def __init__(self, downscale_factor: int) -> None:
        super().__init__(downscale_factor=downscale_factor)


class Unfold(FunctionLayer):
    """The patches of (N, C, H, W) as columns (N, C kh kw, windows): `unfold`.

    >>> from tt_core import ones
    >>> Unfold(3)(ones(1, 2, 5, 5)).shape
    (1, 18, 9)
    """

    function = staticmethod(unfold)

    @checked
    def __init__(
        self, kernel_size: IntOrPair, dilation: IntOrPair = 1, padding: IntOrPair = 0, stride: IntOrPair = 1
    ) -> None:
        super().__init__(kernel_size=kernel_size, dilation=dilation, padding=padding, stride=stride)


class Fold(FunctionLayer):
    """Adds columns (N, C kh kw, windows) up to the images they cover, (N, C, H, W): `fold`.

    >>> from tt_core import ones
    >>> Fold(5, 3)(ones(1, 18, 9)).shape
    (1, 2, 5, 5)
    """

    function = staticmethod(fold)

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
