"""Module 04, losses: the divergence between two distributions."""

from __future__ import annotations

import numpy as np

from tt_core.engine.arguments import checked
from tt_core.losses.base import Loss, check_reduction, half_through_float32, pair, reduced
from tt_core.tensor import elementwise as E
from tt_core.tensor import reductions as R
from tt_core.tensor.tensor import Tensor


@half_through_float32
def kl_div(input: Tensor, target: Tensor, reduction: str = "mean", log_target: bool = False) -> Tensor:
    """Kullback-Leibler divergence `t (log t - x)` of log-probabilities `x` from probabilities `t` (or their
    logarithms, with `log_target`).

    "mean" divides by the number of elements, as in PyTorch; "batchmean" divides by the number of examples, which is the
    divergence. Raises as `mse_loss` does.

    >>> from tt_core import tensor
    >>> kl_div(tensor([[0.5, 0.5]]).log(), tensor([[1.0, 0.0]]), reduction="batchmean")
    tensor(0.6931)
    """
    check_reduction(reduction, "batchmean", name="kl_div")
    x, target = pair("kl_div", "none", input, target)
    if log_target:
        loss = E.exp(target) * (target - x)
    else:  # 0 log 0 is 0; the logarithm of a negative number is nan, and so is the loss
        loss = target * (E.log(E.where(target.data == 0, np.ones((), target.dtype), target)) - x)
    if reduction == "batchmean":
        return R.sum(loss) / (x.shape[0] if x.ndim else 1)
    return reduced(loss, reduction)


class KLDivLoss(Loss):
    """Kullback-Leibler divergence from log-probabilities; shapes and errors as for `kl_div`.

    >>> from tt_core import tensor
    >>> KLDivLoss(reduction="batchmean")(tensor([[0.5, 0.5]]).log(), tensor([[1.0, 0.0]]))
    tensor(0.6931)
    """

    @checked
    def __init__(self, reduction: str = "mean", log_target: bool = False) -> None:
        super().__init__("mean")
        check_reduction(reduction, "batchmean", name="KLDivLoss")
        self.reduction, self.log_target = reduction, log_target

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        return kl_div(input, target, self.reduction, self.log_target)
