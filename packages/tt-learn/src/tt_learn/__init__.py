"""Act II, Learning: autograd as a plugin, optimizers, schedulers and a trainer that resumes to the bit."""

from tt_core.plugins import manager as _manager

from tt_learn.__about__ import __version__ as __version__
from tt_learn.autograd import Tensor as Tensor
from tt_learn.autograd import plugin as _plugin

if not _manager.has_plugin("autograd"):
    _manager.register(_plugin, "autograd")

from tt_learn import rules as _rules  # noqa: E402, F401 - fills the tables
from tt_learn.autograd import GradientError as GradientError  # noqa: E402
from tt_learn.autograd import enable_grad as enable_grad  # noqa: E402
from tt_learn.autograd import formula as formula  # noqa: E402
from tt_learn.autograd import grad as grad  # noqa: E402
from tt_learn.autograd import gradient as gradient  # noqa: E402
from tt_learn.autograd import is_grad_enabled as is_grad_enabled  # noqa: E402
from tt_learn.autograd import no_grad as no_grad  # noqa: E402
from tt_learn.autograd import non_differentiable as non_differentiable  # noqa: E402
from tt_learn.autograd import tensor as tensor  # noqa: E402
from tt_learn.function import Function as Function  # noqa: E402
from tt_learn.function import checkpoint as checkpoint  # noqa: E402
