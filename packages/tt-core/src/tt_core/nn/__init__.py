"""PyTorch's `torch.nn`: the layers of Act I under PyTorch's names, and those the journey does not need.

    import tt_core.nn as nn
    import tt_core.nn.functional as F

`Module` is `Layer`, `ModuleList` is `LayerList`. Layers of later acts (`Conv2d`, `Embedding`, ...) are found here once
their act is imported. Most layers below are functions of `tt_core.nn.functional` that keep their arguments.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from tt_core import init as init
from tt_core.engine.arguments import checked
from tt_core.engine.errors import DTypeError, OutOfRangeError, ShapeError, did_you_mean, is_integer, shown
from tt_core.engine.later import absent, listed
from tt_core.layers import GELU as GELU
from tt_core.layers import Dropout as Dropout
from tt_core.layers import Identity as Identity
from tt_core.layers import Layer, LayerDict, LayerList
from tt_core.layers import LayerNorm as LayerNorm
from tt_core.layers import LeakyReLU as LeakyReLU
from tt_core.layers import Linear as Linear
from tt_core.layers import LogSoftmax as LogSoftmax
from tt_core.layers import Parameter as Parameter
from tt_core.layers import ReLU as ReLU
from tt_core.layers import Sequential as Sequential
from tt_core.layers import Sigmoid as Sigmoid
from tt_core.layers import SiLU as SiLU
from tt_core.layers import Softmax as Softmax
from tt_core.layers import Softplus as Softplus
from tt_core.layers import Tanh as Tanh
from tt_core.losses import BCELoss as BCELoss
from tt_core.losses import BCEWithLogitsLoss as BCEWithLogitsLoss
from tt_core.losses import CrossEntropyLoss as CrossEntropyLoss
from tt_core.losses import KLDivLoss as KLDivLoss
from tt_core.losses import L1Loss as L1Loss
from tt_core.losses import MSELoss as MSELoss
from tt_core.losses import NLLLoss as NLLLoss
from tt_core.losses import SmoothL1Loss as SmoothL1Loss
from tt_core.nn import functional as functional
from tt_core.nn import utils as utils
from tt_core.tensor.creation import full
from tt_core.tensor.tensor import Tensor
from tt_core.torch_names.functions import unflatten

if TYPE_CHECKING:
    from tt_core.engine.hints import DeviceLike, DTypeLike

if not TYPE_CHECKING:  # where it would hide misspelt names
    __getattr__ = absent(__name__)
    __dir__ = listed(__name__)


class FunctionLayer(Layer):
    """A function as a layer, which keeps the function's arguments after the tensors.

    `inplace` is accepted without effect. Raises `DTypeError` for an argument that the function does not take.
    """

    function: ClassVar[Callable[..., Any]]
    inputs: ClassVar[int] = 1
    """How many tensors the function takes first."""

    def __init__(self, *given: Any, **options: Any) -> None:
        super().__init__()
        signature = inspect.signature(type(self).function)
        parameters = [p for p in list(signature.parameters.values())[self.inputs :] if p.name not in _NOT_KEPT]
        options.pop("inplace", None)
        try:
            bound = inspect.Signature(parameters).bind(*given, **options)
        except TypeError as error:
            takes = ", ".join(p.name for p in parameters) or "no arguments"
            raise DTypeError(f"{type(self).__name__}: {error}; it takes {takes}") from None
        bound.apply_defaults()
        self._names = tuple(bound.arguments)
        for name, value in bound.arguments.items():
            setattr(self, name, value)

    def forward(self, *inputs: Tensor) -> Tensor:
        return type(self).function(*inputs, **{name: getattr(self, name) for name in self._names})

    def extra_repr(self) -> str:
        return ", ".join(f"{name}={getattr(self, name)!r}" for name in self._names)


_NOT_KEPT = ("inplace", "_stacklevel", "dtype")

# --- activations, losses and distances: see the functions for what they compute


class ELU(FunctionLayer):
    """`functional.elu` as a layer; raises as the function does."""

    function = functional.elu


class CELU(FunctionLayer):
    """`functional.celu` as a layer; raises as the function does."""

    function = functional.celu


class SELU(FunctionLayer):
    """`functional.selu` as a layer; raises as the function does."""

    function = functional.selu


class Mish(FunctionLayer):
    """`functional.mish` as a layer; raises as the function does."""

    function = functional.mish


class ReLU6(FunctionLayer):
    """`functional.relu6` as a layer; raises as the function does."""

    function = functional.relu6


class Hardtanh(FunctionLayer):
    """`functional.hardtanh` as a layer; raises as the function does."""

    function = functional.hardtanh


class Hardsigmoid(FunctionLayer):
    """`functional.hardsigmoid` as a layer; raises as the function does."""

    function = functional.hardsigmoid


class Hardswish(FunctionLayer):
    """`functional.hardswish` as a layer; raises as the function does."""

    function = functional.hardswish


class LogSigmoid(FunctionLayer):
    """`functional.logsigmoid` as a layer; raises as the function does."""

    function = functional.logsigmoid


class Softsign(FunctionLayer):
    """`functional.softsign` as a layer; raises as the function does."""

    function = functional.softsign


class Tanhshrink(FunctionLayer):
    """`functional.tanhshrink` as a layer; raises as the function does."""

    function = functional.tanhshrink


class Hardshrink(FunctionLayer):
    """`functional.hardshrink` as a layer; raises as the function does."""

    function = functional.hardshrink


class Softshrink(FunctionLayer):
    """`functional.softshrink` as a layer; raises as the function does."""

    function = functional.softshrink


class Threshold(FunctionLayer):
    """`functional.threshold` as a layer; raises as the function does."""

    function = functional.threshold


class Softmin(FunctionLayer):
    """`functional.softmin` as a layer; raises as the function does."""

    function = functional.softmin


class GLU(FunctionLayer):
    """`functional.glu` as a layer; raises as the function does."""

    function = functional.glu


class HuberLoss(FunctionLayer):
    """`functional.huber_loss` as a loss of two tensors; raises as the function does."""

    function, inputs = functional.huber_loss, 2


class MarginRankingLoss(FunctionLayer):
    """`functional.margin_ranking_loss` as a loss of three tensors; raises as the function does."""

    function, inputs = functional.margin_ranking_loss, 3


class HingeEmbeddingLoss(FunctionLayer):
    """`functional.hinge_embedding_loss` as a loss of two tensors; raises as the function does."""

    function, inputs = functional.hinge_embedding_loss, 2


class SoftMarginLoss(FunctionLayer):
    """`functional.soft_margin_loss` as a loss of two tensors; raises as the function does."""

    function, inputs = functional.soft_margin_loss, 2


class CosineEmbeddingLoss(FunctionLayer):
    """`functional.cosine_embedding_loss` as a loss of three tensors; raises as the function does."""

    function, inputs = functional.cosine_embedding_loss, 3


class TripletMarginLoss(FunctionLayer):
    """`functional.triplet_margin_loss` as a loss of three tensors; raises as the function does."""

    function, inputs = functional.triplet_margin_loss, 3


class PoissonNLLLoss(FunctionLayer):
    """`functional.poisson_nll_loss` as a loss of two tensors; raises as the function does."""

    function, inputs = functional.poisson_nll_loss, 2


class GaussianNLLLoss(FunctionLayer):
    """`functional.gaussian_nll_loss` as a loss of three tensors; raises as the function does."""

    function, inputs = functional.gaussian_nll_loss, 3


class MultiMarginLoss(FunctionLayer):
    """`functional.multi_margin_loss` as a loss of two tensors; raises as the function does."""

    function, inputs = functional.multi_margin_loss, 2


class CosineSimilarity(FunctionLayer):
    """`functional.cosine_similarity` as a layer of two tensors; raises as the function does."""

    function, inputs = functional.cosine_similarity, 2


class PairwiseDistance(FunctionLayer):
    """`functional.pairwise_distance` as a layer of two tensors; raises as the function does."""

    function, inputs = functional.pairwise_distance, 2


class PReLU(Layer):
    """`x` above 0, `weight * x` below, with a learned weight, or one for each channel (He et al. 2015).

    >>> PReLU()(full((2,), -1.0)).tolist()
    [-0.25, -0.25]
    """

    weight: Tensor

    @checked
    def __init__(
        self,
        num_parameters: int = 1,
        init: float = 0.25,
        device: DeviceLike | None = None,
        dtype: DTypeLike | None = None,
    ) -> None:
        super().__init__()
        self.weight = full((num_parameters,), init).as_parameter()
        self._made_in(device, dtype)

    def forward(self, input: Tensor) -> Tensor:
        return functional.prelu(input, self.weight)

    def extra_repr(self) -> str:
        return f"num_parameters={len(self.weight)}"


class Unflatten(Layer):
    """Splits one dimension into several: `unflatten` as a layer; raises as it does.

    >>> Unflatten(1, (2, 3))(full((5, 6), 0.0)).shape
    (5, 2, 3)
    """

    @checked
    def __init__(self, dim: int, unflattened_size: Iterable[int]) -> None:
        super().__init__()
        self.dim, self.unflattened_size = dim, tuple(unflattened_size)
        if not self.unflattened_size or not all(is_integer(size, least=-1) for size in self.unflattened_size):
            raise ShapeError(f"Unflatten: unflattened_size is a tuple of sizes, got {shown(self.unflattened_size)}")

    def forward(self, input: Tensor) -> Tensor:
        return unflatten(input, self.dim, self.unflattened_size)

    def extra_repr(self) -> str:
        return f"dim={self.dim}, unflattened_size={self.unflattened_size}"


# --- containers


class ParameterList(Layer):
    """A list of parameters, registered under their numbers; tensors become parameters.

    >>> weights = ParameterList([full((2,), 1.0), full((3,), 1.0)])
    >>> [name for name, _ in weights.named_parameters()], len(weights)
    (['0', '1'], 2)
    """

    @checked
    def __init__(self, values: Iterable[Tensor] = ()) -> None:
        super().__init__()
        self.extend(values)

    @checked
    def append(self, value: Tensor) -> ParameterList:
        """Appends one parameter."""
        self.register_parameter(str(len(self)), value if value.is_parameter else Parameter(value))
        return self

    @checked
    def extend(self, values: Iterable[Tensor]) -> ParameterList:
        """Appends several parameters."""
        for value in values:
            self.append(value)
        return self

    @checked
    def __getitem__(self, index: int) -> Tensor:
        if not -len(self) <= index < len(self):
            raise OutOfRangeError(f"ParameterList: has {len(self)} parameters, got index {index}")
        return list(self._parameters.values())[index]

    def __len__(self) -> int:
        return len(self._parameters)

    def __iter__(self) -> Iterator[Tensor]:
        return iter(self._parameters.values())


class ParameterDict(Layer):
    """A dictionary of parameters, registered under their names; tensors become parameters.

    >>> weights = ParameterDict({"a": full((2,), 1.0)})
    >>> [name for name, _ in weights.named_parameters()], "a" in weights
    (['a'], True)
    """

    @checked
    def __init__(self, parameters: Mapping[str, Tensor] | None = None) -> None:
        super().__init__()
        for name, value in (parameters or {}).items():
            self[name] = value

    @checked
    def __getitem__(self, name: str) -> Tensor:
        if name not in self._parameters:
            known = did_you_mean(name, self._parameters)
            raise OutOfRangeError(f"ParameterDict: no parameter is called {name!r}; {known}")
        return self._parameters[name]

    @checked
    def __setitem__(self, name: str, value: Tensor) -> None:
        self.register_parameter(name, value if value.is_parameter else Parameter(value))

    def __len__(self) -> int:
        return len(self._parameters)

    def __iter__(self) -> Iterator[str]:
        return iter(self._parameters)

    def __contains__(self, name: object) -> bool:
        return name in self._parameters

    def items(self) -> Iterable[tuple[str, Tensor]]:
        """Names and parameters."""
        return self._parameters.items()


Module, ModuleList, ModuleDict = Layer, LayerList, LayerDict
