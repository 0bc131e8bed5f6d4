"""Module 04, losses: the losses as layers, which hold the options and call the functions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tt_core.engine.arguments import checked
from tt_core.losses.base import Loss, WeightedLoss, as_tensor
from tt_core.losses.binary import binary_cross_entropy, binary_cross_entropy_with_logits
from tt_core.losses.classification import cross_entropy, nll_loss
from tt_core.losses.contrastive import contrastive_loss, info_nce_loss
from tt_core.losses.regression import l1_loss, mse_loss, smooth_l1_loss
from tt_core.tensor.tensor import Tensor

if TYPE_CHECKING:
    from tt_core.engine.hints import TensorLike


class MSELoss(Loss):
    """Mean squared error; shapes and errors as for `mse_loss`.

    >>> from tt_core import tensor
    >>> MSELoss()(tensor([1.0, 2.0]), tensor([0.0, 4.0]))
    tensor(2.5)
    """

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        return mse_loss(input, target, self.reduction)


class L1Loss(Loss):
    """Mean absolute error; shapes and errors as for `l1_loss`.

    >>> from tt_core import tensor
    >>> L1Loss(reduction="sum")(tensor([1.0, 2.0]), tensor([0.0, 4.0]))
    tensor(3.)
    """

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        return l1_loss(input, target, self.reduction)


class SmoothL1Loss(Loss):
    """Squared error near 0, absolute error beyond `beta`; shapes and errors as for `smooth_l1_loss`.

    >>> from tt_core import tensor
    >>> SmoothL1Loss()(tensor([0.5]), tensor([0.0]))
    tensor(0.125)
    """

    @checked
    def __init__(self, reduction: str = "mean", beta: float = 1.0) -> None:
        super().__init__(reduction)
        self.beta = beta

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        return smooth_l1_loss(input, target, self.reduction, self.beta)


class CrossEntropyLoss(WeightedLoss):
    """Cross entropy of logits (N, C, ...) with class indices (N, ...) or probabilities; errors as for `cross_entropy`.

    >>> from tt_core import tensor
    >>> CrossEntropyLoss()(tensor([[2.0, 0.0], [0.0, 0.0]]), tensor([0, 1]))
    tensor(0.41)
    """

    @checked
    def __init__(
        self,
        weight: TensorLike | None = None,
        ignore_index: int = -100,
        reduction: str = "mean",
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__(weight, reduction)
        self.ignore_index, self.label_smoothing = ignore_index, label_smoothing

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        return cross_entropy(
            input,
            target,
            self.weight,
            ignore_index=self.ignore_index,
            reduction=self.reduction,
            label_smoothing=self.label_smoothing,
        )


class NLLLoss(WeightedLoss):
    """Negative log-likelihood of log-probabilities; shapes and errors as for `nll_loss`.

    >>> from tt_core import tensor
    >>> NLLLoss()(tensor([[-0.1, -2.3], [-1.6, -0.2]]), tensor([0, 1]))
    tensor(0.15)
    """

    @checked
    def __init__(self, weight: TensorLike | None = None, ignore_index: int = -100, reduction: str = "mean") -> None:
        super().__init__(weight, reduction)
        self.ignore_index = ignore_index

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        return nll_loss(input, target, self.weight, self.ignore_index, self.reduction)


class BCELoss(WeightedLoss):
    """Cross entropy of probabilities with targets between 0 and 1; shapes and errors as for `binary_cross_entropy`.

    >>> from tt_core import tensor
    >>> BCELoss()(tensor([0.9, 0.2]), tensor([1.0, 0.0]))
    tensor(0.1643)
    """

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        return binary_cross_entropy(input, target, self.weight, reduction=self.reduction)


class BCEWithLogitsLoss(WeightedLoss):
    """`BCELoss` of sigmoid(input), right at any magnitude; see `binary_cross_entropy_with_logits`, also for its errors.

    >>> from tt_core import tensor
    >>> BCEWithLogitsLoss()(tensor([1e4, 0.0]), tensor([1.0, 1.0]))
    tensor(0.3466)
    """

    pos_weight: Tensor | None

    @checked
    def __init__(
        self, weight: TensorLike | None = None, reduction: str = "mean", pos_weight: TensorLike | None = None
    ) -> None:
        super().__init__(weight, reduction)
        self.register_buffer("pos_weight", None if pos_weight is None else as_tensor(pos_weight))

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        return binary_cross_entropy_with_logits(input, target, self.weight, self.reduction, self.pos_weight)


class ContrastiveLoss(Loss):
    """Pulls similar pairs together and pushes others `margin` apart; shapes and errors as for `contrastive_loss`.

    >>> from tt_core import tensor
    >>> ContrastiveLoss()(tensor([[0.0, 0.0]]), tensor([[3.0, 4.0]]), tensor([0]))
    tensor(12.5)
    """

    @checked
    def __init__(self, margin: float = 1.0, reduction: str = "mean") -> None:
        super().__init__(reduction)
        self.margin = margin

    def forward(self, a: Tensor, b: Tensor, target: Tensor) -> Tensor:
        return contrastive_loss(a, b, target, self.margin, self.reduction)


class InfoNCELoss(Loss):
    """Finds each query's own key among all keys; shapes and errors as for `info_nce_loss`.

    >>> from tt_core import eye
    >>> InfoNCELoss(temperature=1.0)(eye(3), eye(3))
    tensor(0.5514)
    """

    @checked
    def __init__(self, temperature: float = 0.1, reduction: str = "mean") -> None:
        super().__init__(reduction)
        self.temperature = temperature

    def forward(self, query: Tensor, key: Tensor) -> Tensor:
        return info_nce_loss(query, key, self.temperature, self.reduction)
