"""Module 04, losses: one number that says how wrong a model is, which training then makes small.

Reading order: `regression`, `classification`, `binary`, `divergence`, `contrastive`. Each loss reads as its formula.
`layers` has the losses as layers, and `base` what the files share.
"""

from __future__ import annotations

from tt_core.losses.base import Loss as Loss
from tt_core.losses.binary import binary_cross_entropy as binary_cross_entropy
from tt_core.losses.binary import binary_cross_entropy_with_logits as binary_cross_entropy_with_logits
from tt_core.losses.classification import cross_entropy as cross_entropy
from tt_core.losses.classification import nll_loss as nll_loss
from tt_core.losses.contrastive import contrastive_loss as contrastive_loss
from tt_core.losses.contrastive import info_nce_loss as info_nce_loss
from tt_core.losses.contrastive import pulled_or_pushed as pulled_or_pushed
from tt_core.losses.contrastive import similarities as similarities
from tt_core.losses.divergence import KLDivLoss as KLDivLoss
from tt_core.losses.divergence import kl_div as kl_div
from tt_core.losses.layers import BCELoss as BCELoss
from tt_core.losses.layers import BCEWithLogitsLoss as BCEWithLogitsLoss
from tt_core.losses.layers import ContrastiveLoss as ContrastiveLoss
from tt_core.losses.layers import CrossEntropyLoss as CrossEntropyLoss
from tt_core.losses.layers import InfoNCELoss as InfoNCELoss
from tt_core.losses.layers import L1Loss as L1Loss
from tt_core.losses.layers import MSELoss as MSELoss
from tt_core.losses.layers import NLLLoss as NLLLoss
from tt_core.losses.layers import SmoothL1Loss as SmoothL1Loss
from tt_core.losses.regression import l1_loss as l1_loss
from tt_core.losses.regression import mse_loss as mse_loss
from tt_core.losses.regression import smooth_l1_loss as smooth_l1_loss
from tt_core.losses.regression import smoothed_error as smoothed_error
from tt_core.losses.regression import squared_error as squared_error
