"""Pooling along one dimension, with PyTorch's names: an image of one row. Beside module 09, spatial."""

from __future__ import annotations

from typing import Any

from tt_core import Tensor
from tt_core.engine.arguments import checked
from tt_core.engine.compositions import of_tensors
from tt_core.engine.errors import ShapeError
from tt_data.spatial.adaptive_pooling import adaptive_avg_pool2d, adaptive_max_pool2d
from tt_data.spatial.common import FunctionLayer
from tt_data.spatial.pooling import avg_pool2d, max_pool2d
from tt_data.spatial.pooling_indices import max_pool2d_with_indices
from tt_data.torch_names.rows import IntOrOne, row


@of_tensors("x")
def max_pool1d(
    x: Tensor,
    kernel_size: IntOrOne,
    stride: IntOrOne | None = None,
    padding: IntOrOne = 0,
    dilation: IntOrOne = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    """`max_pool2d` along the last dimension of (N, C, L) or (C, L); with `return_indices`, also the positions.

    >>> from tt_core import tensor
    >>> max_pool1d(tensor([[[1.0, 4.0, 2.0, 3.0]]]), kernel_size=2)
    tensor([[[4., 3.]]])
    """
    how = _pooling_along_rows("max_pool1d", x, kernel_size, stride, padding)
    how |= {"dilation": row(dilation, "max_pool1d: dilation"), "ceil_mode": ceil_mode}
    if not return_indices:
        return max_pool2d(x.unsqueeze(-2), **how).squeeze(-2)
    y, indices = max_pool2d_with_indices(x.unsqueeze(-2), **how)
    return y.squeeze(-2), indices.squeeze(-2)


@of_tensors("x")
def avg_pool1d(
    x: Tensor,
    kernel_size: IntOrOne,
    stride: IntOrOne | None = None,
    padding: IntOrOne = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> Tensor:
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
    kernel = row(kernel_size, f"{who}: kernel_size")
    step = kernel if stride is None else row(stride, f"{who}: stride")
    return {"kernel_size": kernel, "stride": step, "padding": row(padding, f"{who}: padding", 0)}


@of_tensors("x")
def adaptive_avg_pool1d(x: Tensor, output_size: IntOrOne) -> Tensor:
    """`adaptive_avg_pool2d` along the last dimension of (N, C, L) or (C, L).

    >>> from tt_core import arange
    >>> adaptive_avg_pool1d(arange(4.0).reshape(1, 1, 4), output_size=2)
    tensor([[[0.5, 2.5]]])
    """
    size = row(output_size, "adaptive_avg_pool1d: output_size")
    return adaptive_avg_pool2d(x.unsqueeze(-2), output_size=size).squeeze(-2)


@of_tensors("x")
def adaptive_max_pool1d(x: Tensor, output_size: IntOrOne, return_indices: bool = False) -> Any:
    """`adaptive_max_pool2d` along the last dimension of (N, C, L) or (C, L), with or without positions.

    >>> from tt_core import arange
    >>> adaptive_max_pool1d(arange(4.0).reshape(1, 1, 4), output_size=2)
    tensor([[[1., 3.]]])
    """
    size = row(output_size, "adaptive_max_pool1d: output_size")
    y, indices = adaptive_max_pool2d(x.unsqueeze(-2), size, return_indices=True)
    return (y.squeeze(-2), indices.squeeze(-2)) if return_indices else y.squeeze(-2)


# --- layers


class MaxPool1d(FunctionLayer):
    """The largest element of each window of (N, C, L) or (C, L): `max_pool1d`.

    >>> from tt_core import ones
    >>> MaxPool1d(2)(ones(1, 3, 8)).shape
    (1, 3, 4)
    """

    function = staticmethod(max_pool1d)

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


class AvgPool1d(FunctionLayer):
    """The mean of each window of (N, C, L) or (C, L): `avg_pool1d`.

    >>> from tt_core import ones
    >>> AvgPool1d(2)(ones(1, 3, 8)).shape
    (1, 3, 4)
    """

    function = staticmethod(avg_pool1d)

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


class AdaptiveAvgPool1d(FunctionLayer):
    """Means over as many windows along (N, C, L) or (C, L) as asked for: `adaptive_avg_pool1d`.

    >>> from tt_core import ones
    >>> AdaptiveAvgPool1d(2)(ones(1, 3, 8)).shape
    (1, 3, 2)
    """

    function = staticmethod(adaptive_avg_pool1d)

    @checked
    def __init__(self, output_size: IntOrOne) -> None:
        super().__init__(output_size=output_size)


class AdaptiveMaxPool1d(FunctionLayer):
    """Maxima over as many windows along (N, C, L) or (C, L) as asked for: `adaptive_max_pool1d`.

    >>> from tt_core import ones
    >>> AdaptiveMaxPool1d(2)(ones(1, 3, 8)).shape
    (1, 3, 2)
    """

    function = staticmethod(adaptive_max_pool1d)

    @checked
    def __init__(self, output_size: IntOrOne, return_indices: bool = False) -> None:
        super().__init__(output_size=output_size, return_indices=return_indices)
