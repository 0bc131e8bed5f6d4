"""Module 09, spatial: padding of images with zeros, with their mirror image, their edge, or their opposite side.

`tt_core.pad` does the work. This file checks the widths for images, and has the layers.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tt_core import Tensor
from tt_core import pad as pad_with
from tt_core.engine.arguments import checked
from tt_core.engine.compositions import as_tensor, of_tensors
from tt_core.engine.errors import ArgumentError, ShapeError
from tt_core.layers import Layer
from tt_data.spatial.sizes import per_dimension

MODES = ("constant", "reflect", "replicate", "circular")


@of_tensors("x")
def pad(x: Tensor, pad: Sequence[int], mode: str = "constant", value: float | None = None) -> Tensor:
    """Pads x by `pad`: (before, after) pairs from the last dimension backwards.

    `mode` is 'constant' (`value`, by default 0), 'reflect' (without the edge itself), 'replicate' (the edge) or
    'circular' (from the opposite side). Raises `ArgumentError` for other modes, `ShapeError` for more padding than
    there are elements to reflect or to repeat.

    >>> from tt_core import tensor
    >>> pad(tensor([1, 2, 3]), (2, 1), mode="reflect")
    tensor([3, 2, 1, 2, 3, 2])
    """
    if mode not in MODES:
        raise ArgumentError(f"pad: mode is {', '.join(map(repr, MODES))}, got {mode!r}")
    if mode == "constant":
        return pad_with(x, pad=pad, value=0.0 if value is None else value)
    if value is not None:
        raise ArgumentError(f"pad: value is for mode 'constant', got mode {mode!r}")
    if len(pad) % 2 or len(pad) > 2 * x.ndim:
        raise ShapeError(f"pad: expected a (before, after) pair for at most {x.ndim} dimensions, got {pad!r}")
    for i in range(len(pad) // 2):
        # pairs start at the last dimension
        before, after = per_dimension(tuple(pad[2 * i : 2 * i + 2]), 2, "pad: widths", least=0)
        if before or after:
            _check_width(x.shape[x.ndim - 1 - i], before, after, mode)
    return pad_with(x, pad=pad, mode=mode)


def _check_width(size: int, before: int, after: int, mode: str) -> None:
    """Raise `ShapeError` for more padding than a dimension of `size` has elements for."""
    most = {"reflect": size - 1, "circular": size}.get(mode, max(before, after) if size else -1)
    if max(before, after) > most:
        raise ShapeError(f"pad: mode {mode!r} has at most {most} elements for each side of {size}, got {before, after}")


class _Pad2d(Layer):
    _mode: str

    @checked
    def __init__(self, padding: int | tuple[int, int, int, int]) -> None:
        super().__init__()
        sides = (padding,) * 4 if isinstance(padding, (int, np.integer)) else tuple(padding)
        if len(sides) != 4:
            raise ArgumentError(
                f"{type(self).__name__}: padding is a number or (left, right, top, bottom), got {padding!r}"
            )
        self.padding = sides

    def forward(self, x: Tensor) -> Tensor:
        x = as_tensor(x, type(self).__name__)
        if x.ndim not in (3, 4):
            raise ShapeError(f"{type(self).__name__}: expected (N, C, H, W) or (C, H, W), got {x.shape}")
        return pad(x, self.padding, self._mode)

    def extra_repr(self) -> str:
        return str(self.padding)


class ConstantPad2d(_Pad2d):
    """Images (N, C, H, W) or (C, H, W) with a border of `value`; `padding`: a number or (left, right, top, bottom).

    >>> from tt_core import zeros
    >>> ConstantPad2d((1, 0, 0, 0), value=5.0)(zeros(1, 1, 1))
    tensor([[[5., 0.]]])
    """

    _mode = "constant"

    @checked
    def __init__(self, padding: int | tuple[int, int, int, int], value: float) -> None:
        super().__init__(padding)
        self.value = value

    def forward(self, x: Tensor) -> Tensor:
        return pad(x, self.padding, value=self.value)

    def extra_repr(self) -> str:
        return f"{self.padding}, value={self.value}"


class ZeroPad2d(_Pad2d):
    """Images with a border of zeros; otherwise as `ConstantPad2d`.

    >>> from tt_core import ones
    >>> ZeroPad2d(1)(ones(1, 3, 4, 4)).shape
    (1, 3, 6, 6)
    """

    _mode = "constant"


class ReflectionPad2d(_Pad2d):
    """Images with a border that mirrors the inside, without repeating the edge; otherwise as `ConstantPad2d`.

    >>> from tt_core import tensor
    >>> ReflectionPad2d((1, 1, 0, 0))(tensor([[[1.0, 2.0, 3.0]]]))
    tensor([[[2., 1., 2., 3., 2.]]])
    """

    _mode = "reflect"


class ReplicationPad2d(_Pad2d):
    """Images with a border that repeats the edge; otherwise as `ConstantPad2d`.

    >>> from tt_core import tensor
    >>> ReplicationPad2d((1, 1, 0, 0))(tensor([[[1.0, 2.0, 3.0]]]))
    tensor([[[1., 1., 2., 3., 3.]]])
    """

    _mode = "replicate"


class CircularPad2d(_Pad2d):
    """Images with a border taken from the opposite side; otherwise as `ConstantPad2d`.

    >>> from tt_core import tensor
    >>> CircularPad2d((1, 1, 0, 0))(tensor([[[1.0, 2.0, 3.0]]]))
    tensor([[[3., 1., 2., 3., 1.]]])
    """

    _mode = "circular"
