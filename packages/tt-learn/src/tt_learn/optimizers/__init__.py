"""Module 06, optimizers: how parameters follow their gradients.

Read `optimizers` for SGD, Adam and AdamW, then `schedulers` and `clipping`. `adaptive`, `lbfgs` and `muon` hold further
optimizers; `blocks` holds the memory layout that makes a step fast.
"""

from __future__ import annotations

from tt_learn.optimizers.adaptive import Adadelta as Adadelta
from tt_learn.optimizers.adaptive import Adamax as Adamax
from tt_learn.optimizers.adaptive import NAdam as NAdam
from tt_learn.optimizers.adaptive import RAdam as RAdam
from tt_learn.optimizers.blocks import BLOCK as BLOCK
from tt_learn.optimizers.blocks import MANY as MANY
from tt_learn.optimizers.blocks import SHARED as SHARED
from tt_learn.optimizers.blocks import SMALL as SMALL
from tt_learn.optimizers.blocks import Block as Block
from tt_learn.optimizers.blocks import Blocks as Blocks
from tt_learn.optimizers.blocks import Part as Part
from tt_learn.optimizers.blocks import State as State
from tt_learn.optimizers.clipping import clip_grad_norm_ as clip_grad_norm_
from tt_learn.optimizers.clipping import clip_grad_value_ as clip_grad_value_
from tt_learn.optimizers.lbfgs import LBFGS as LBFGS
from tt_learn.optimizers.muon import Muon as Muon
from tt_learn.optimizers.muon import orthogonalize as orthogonalize
from tt_learn.optimizers.optimizers import SGD as SGD
from tt_learn.optimizers.optimizers import Adagrad as Adagrad
from tt_learn.optimizers.optimizers import Adam as Adam
from tt_learn.optimizers.optimizers import AdamW as AdamW
from tt_learn.optimizers.optimizers import Group as Group
from tt_learn.optimizers.optimizers import Lion as Lion
from tt_learn.optimizers.optimizers import Memory as Memory
from tt_learn.optimizers.optimizers import Optimizer as Optimizer
from tt_learn.optimizers.optimizers import OptimizerError as OptimizerError
from tt_learn.optimizers.optimizers import RMSprop as RMSprop
from tt_learn.optimizers.optimizers import SGDMomentum as SGDMomentum
from tt_learn.optimizers.optimizers import adam as adam
from tt_learn.optimizers.optimizers import as_tuple as as_tuple
from tt_learn.optimizers.optimizers import decay_weights as decay_weights
from tt_learn.optimizers.optimizers import effective_gradient as effective_gradient
from tt_learn.optimizers.optimizers import lerp as lerp
from tt_learn.optimizers.optimizers import mean_of_squares as mean_of_squares
from tt_learn.optimizers.optimizers import step_along as step_along
from tt_learn.optimizers.schedulers import ConstantLR as ConstantLR
from tt_learn.optimizers.schedulers import CosineAnnealingLR as CosineAnnealingLR
from tt_learn.optimizers.schedulers import CosineAnnealingWarmRestarts as CosineAnnealingWarmRestarts
from tt_learn.optimizers.schedulers import CosineWarmupLR as CosineWarmupLR
from tt_learn.optimizers.schedulers import CyclicLR as CyclicLR
from tt_learn.optimizers.schedulers import ExponentialLR as ExponentialLR
from tt_learn.optimizers.schedulers import Factor as Factor
from tt_learn.optimizers.schedulers import LambdaLR as LambdaLR
from tt_learn.optimizers.schedulers import LinearLR as LinearLR
from tt_learn.optimizers.schedulers import MultiStepLR as MultiStepLR
from tt_learn.optimizers.schedulers import OneCycleLR as OneCycleLR
from tt_learn.optimizers.schedulers import PolynomialLR as PolynomialLR
from tt_learn.optimizers.schedulers import ReduceLROnPlateau as ReduceLROnPlateau
from tt_learn.optimizers.schedulers import Scheduler as Scheduler
from tt_learn.optimizers.schedulers import SequentialLR as SequentialLR
from tt_learn.optimizers.schedulers import StepLR as StepLR
from tt_learn.optimizers.schedulers import cosine as cosine
from tt_learn.optimizers.schedulers import linear as linear
