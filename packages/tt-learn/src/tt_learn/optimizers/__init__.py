"""Module 06, optimizers: how parameters follow their gradients.

Read in this order:

    optimizers.py    SGD, momentum, RMSprop, Adam and AdamW, each as its formula
    schedulers.py    how the learning rate changes during training
    clipping.py      bounds on gradients
    base.py          what all optimizers share: parameter groups and steps

`saving.py` holds state dicts, `memory.py` the count of bytes, and `blocks.py` the memory layout that makes a step fast.
Further optimizers and schedules are in `variants.py`, `decays.py` and `tt_learn/optim/`.
"""

from __future__ import annotations

from tt_learn.optimizers.base import Optimizer as Optimizer
from tt_learn.optimizers.base import as_tuple as as_tuple
from tt_learn.optimizers.base import own_update as own_update
from tt_learn.optimizers.base import tuned_update as tuned_update
from tt_learn.optimizers.base import tuned_updates as tuned_updates
from tt_learn.optimizers.blocks import BLOCK as BLOCK
from tt_learn.optimizers.blocks import State as State
from tt_learn.optimizers.clipping import clip_grad_norm_ as clip_grad_norm_
from tt_learn.optimizers.clipping import clip_grad_value_ as clip_grad_value_
from tt_learn.optimizers.decays import ConstantLR as ConstantLR
from tt_learn.optimizers.decays import ExponentialLR as ExponentialLR
from tt_learn.optimizers.decays import MultiStepLR as MultiStepLR
from tt_learn.optimizers.decays import PolynomialLR as PolynomialLR
from tt_learn.optimizers.memory import Memory as Memory
from tt_learn.optimizers.optimizers import SGD as SGD
from tt_learn.optimizers.optimizers import Adam as Adam
from tt_learn.optimizers.optimizers import AdamW as AdamW
from tt_learn.optimizers.optimizers import RMSprop as RMSprop
from tt_learn.optimizers.saving import Group as Group
from tt_learn.optimizers.saving import OptimizerError as OptimizerError
from tt_learn.optimizers.schedulers import CosineAnnealingLR as CosineAnnealingLR
from tt_learn.optimizers.schedulers import CosineWarmupLR as CosineWarmupLR
from tt_learn.optimizers.schedulers import LinearLR as LinearLR
from tt_learn.optimizers.schedulers import Scheduler as Scheduler
from tt_learn.optimizers.schedulers import StepLR as StepLR
from tt_learn.optimizers.schedulers import cosine as cosine
from tt_learn.optimizers.schedulers import linear as linear
from tt_learn.optimizers.variants import SGDMomentum as SGDMomentum
