"""Module 05, autograd: reverse-mode automatic differentiation, plugged into the ops of every act.

Read in this order; each file is one sitting:

    tensor.py        the tensor that remembers how it was computed
    rules.py         the table of derivatives: one rule for each op
    first_rules.py   the rules of +, *, /, exp and log
    graph.py         the graph: one node for each recorded call
    record.py        the plugin: observes op calls and adds their nodes
    backward.py      the chain rule: from the newest node to the oldest

Files outside of the lesson: where backward starts (`roots.py`), grad modes (`modes.py`, `decorated.py`,
`mode_variants.py`), hooks (`hooks.py`), guards against lost gradients (`guards.py`), `grad()` (`partial.py`),
`Function` (`function.py`, `own_functions.py`) and recomputation (`recompute.py`).

Nothing of tt_core is patched. A change that goes around the tensor, through `.data` or `.numpy()`, is not noticed.
"""

from __future__ import annotations

from tt_learn.autograd import first_rules as first_rules
from tt_learn.autograd.broadcasting import sum_to as sum_to
from tt_learn.autograd.errors import GradientError as GradientError
from tt_learn.autograd.function import Context as Context
from tt_learn.autograd.function import Function as Function
from tt_learn.autograd.graph import Node as Node
from tt_learn.autograd.graph import wide as wide
from tt_learn.autograd.hooks import HookHandle as HookHandle
from tt_learn.autograd.mode_variants import inference_mode as inference_mode
from tt_learn.autograd.mode_variants import set_grad_enabled as set_grad_enabled
from tt_learn.autograd.modes import enable_grad as enable_grad
from tt_learn.autograd.modes import is_grad_enabled as is_grad_enabled
from tt_learn.autograd.modes import no_grad as no_grad
from tt_learn.autograd.own_functions import Cube as Cube
from tt_learn.autograd.own_functions import StraightThroughRound as StraightThroughRound
from tt_learn.autograd.partial import grad as grad
from tt_learn.autograd.recompute import checkpoint as checkpoint
from tt_learn.autograd.recompute import formula as formula
from tt_learn.autograd.record import plugin as plugin
from tt_learn.autograd.rules import forget_rule as forget_rule
from tt_learn.autograd.rules import gradient as gradient
from tt_learn.autograd.rules import non_differentiable as non_differentiable
from tt_learn.autograd.rules import rule_of as rule_of
from tt_learn.autograd.tensor import Tensor as Tensor
from tt_learn.autograd.tensor import tensor as tensor


@gradient(sum_to)
def _(out: object, x: Tensor, shape: tuple[int, ...]) -> object:
    full = x.shape
    return (lambda g: g.expand(full),)
