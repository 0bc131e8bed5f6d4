"""Act II, Learning: autograd as a plugin, optimizers, schedulers and a trainer that resumes to the bit."""

from __future__ import annotations

from typing import TYPE_CHECKING as _TYPE_CHECKING

from tt_core.engine.later import absent as _absent
from tt_core.engine.plugins import manager as _manager
from tt_learn.__about__ import __version__ as __version__
from tt_learn.autograd import Tensor as Tensor
from tt_learn.autograd import plugin as _plugin

if not _manager.has_plugin("autograd"):
    _manager.register(_plugin, "autograd")

from tt_learn import kernels as _kernels  # noqa: F401 - registers the tuned kernels
from tt_learn import optim as optim  # after all that it names
from tt_learn import rules as _rules  # noqa: F401 - fills the tables
from tt_learn.autograd import Function as Function
from tt_learn.autograd import GradientError as GradientError
from tt_learn.autograd import checkpoint as checkpoint
from tt_learn.autograd import enable_grad as enable_grad
from tt_learn.autograd import formula as formula
from tt_learn.autograd import grad as grad
from tt_learn.autograd import gradient as gradient
from tt_learn.autograd import inference_mode as inference_mode
from tt_learn.autograd import is_grad_enabled as is_grad_enabled
from tt_learn.autograd import no_grad as no_grad
from tt_learn.autograd import non_differentiable as non_differentiable
from tt_learn.autograd import set_grad_enabled as set_grad_enabled
from tt_learn.autograd import tensor as tensor
from tt_learn.autograd.drawing import draw_graph as draw_graph
from tt_learn.autograd.finite_differences import GradcheckError as GradcheckError
from tt_learn.autograd.finite_differences import gradcheck as gradcheck
from tt_learn.autograd.finite_differences import gradgradcheck as gradgradcheck
from tt_learn.optim.adaptive import Adadelta as Adadelta
from tt_learn.optim.adaptive import Adagrad as Adagrad
from tt_learn.optim.adaptive import Adamax as Adamax
from tt_learn.optim.adaptive import Lion as Lion
from tt_learn.optim.adaptive import NAdam as NAdam
from tt_learn.optim.adaptive import RAdam as RAdam
from tt_learn.optim.lbfgs import LBFGS as LBFGS
from tt_learn.optim.muon import Muon as Muon
from tt_learn.optim.plateau import ReduceLROnPlateau as ReduceLROnPlateau
from tt_learn.optim.schedules import CosineAnnealingWarmRestarts as CosineAnnealingWarmRestarts
from tt_learn.optim.schedules import CyclicLR as CyclicLR
from tt_learn.optim.schedules import LambdaLR as LambdaLR
from tt_learn.optim.schedules import OneCycleLR as OneCycleLR
from tt_learn.optim.schedules import SequentialLR as SequentialLR
from tt_learn.optimizers import SGD as SGD
from tt_learn.optimizers import Adam as Adam
from tt_learn.optimizers import AdamW as AdamW
from tt_learn.optimizers import ConstantLR as ConstantLR
from tt_learn.optimizers import CosineAnnealingLR as CosineAnnealingLR
from tt_learn.optimizers import CosineWarmupLR as CosineWarmupLR
from tt_learn.optimizers import ExponentialLR as ExponentialLR
from tt_learn.optimizers import LinearLR as LinearLR
from tt_learn.optimizers import MultiStepLR as MultiStepLR
from tt_learn.optimizers import Optimizer as Optimizer
from tt_learn.optimizers import OptimizerError as OptimizerError
from tt_learn.optimizers import PolynomialLR as PolynomialLR
from tt_learn.optimizers import RMSprop as RMSprop
from tt_learn.optimizers import Scheduler as Scheduler
from tt_learn.optimizers import SGDMomentum as SGDMomentum
from tt_learn.optimizers import StepLR as StepLR
from tt_learn.optimizers import clip_grad_norm_ as clip_grad_norm_
from tt_learn.optimizers import clip_grad_value_ as clip_grad_value_
from tt_learn.training import Callback as Callback
from tt_learn.training import CheckpointError as CheckpointError
from tt_learn.training import Checkpoints as Checkpoints
from tt_learn.training import EarlyStopping as EarlyStopping
from tt_learn.training import JSONLog as JSONLog
from tt_learn.training import LossCurve as LossCurve
from tt_learn.training import ProgressBar as ProgressBar
from tt_learn.training import Trainer as Trainer
from tt_learn.training import TrainingError as TrainingError
from tt_learn.training import accuracy as accuracy
from tt_learn.training import binary_accuracy as binary_accuracy
from tt_learn.training import confusion_matrix as confusion_matrix
from tt_learn.training import evaluating as evaluating
from tt_learn.training import load as load
from tt_learn.training import load_checkpoint as load_checkpoint
from tt_learn.training import load_tensors as load_tensors
from tt_learn.training import perplexity as perplexity
from tt_learn.training import save as save
from tt_learn.training import save_checkpoint as save_checkpoint
from tt_learn.training import save_tensors as save_tensors
from tt_learn.training import top_k_accuracy as top_k_accuracy

if not _TYPE_CHECKING:  # where it would hide misspelt names
    __getattr__ = _absent("tt_learn")
