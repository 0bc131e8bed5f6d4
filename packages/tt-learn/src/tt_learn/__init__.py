"""Act II, Learning: autograd as a plugin, optimizers, schedulers and a trainer that resumes to the bit."""

from __future__ import annotations

from tt_core.plugins import manager as _manager
from tt_learn.__about__ import __version__ as __version__
from tt_learn.autograd import Tensor as Tensor
from tt_learn.autograd import plugin as _plugin

if not _manager.has_plugin("autograd"):
    _manager.register(_plugin, "autograd")

from tt_learn import rules as _rules  # noqa: F401 - fills the tables
from tt_learn.autograd import GradientError as GradientError
from tt_learn.autograd import enable_grad as enable_grad
from tt_learn.autograd import formula as formula
from tt_learn.autograd import grad as grad
from tt_learn.autograd import gradient as gradient
from tt_learn.autograd import is_grad_enabled as is_grad_enabled
from tt_learn.autograd import no_grad as no_grad
from tt_learn.autograd import non_differentiable as non_differentiable
from tt_learn.autograd import tensor as tensor
from tt_learn.function import Function as Function
from tt_learn.function import checkpoint as checkpoint
from tt_learn.gradcheck import GradcheckError as GradcheckError
from tt_learn.gradcheck import gradcheck as gradcheck
from tt_learn.gradcheck import gradgradcheck as gradgradcheck
