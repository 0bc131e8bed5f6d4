"""The hooks of tt_perf: kernels that compute two ops at once.

The specifications are added to the plugin manager when `tt_perf` is imported.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from tt_core.engine.hookspecs import hookspec

if TYPE_CHECKING:
    from tt_core.engine.dispatch import Op
    from tt_perf.acceleration.capture.tape import Tape


@hookspec(firstresult=True)
def tt_fused(first: Op, second: Op) -> Callable[..., Any] | None:
    """A kernel for a call of `first` and a call of `second` whose first input is the result of `first`, or None.

    Asked when a step is captured. It is called as `kernel(inputs, attributes, others, more)`: the inputs and attributes
    of the first call, the other inputs and the attributes of the second. It returns a tuple of what the two kernels
    return, residuals included, with the same bits; or None for arrays that it does not cover. The first answer wins,
    unless a plugin that was plugged in later has its own kernel for one of the ops.
    An attribute `as_job` of the kernel offers its compiled code to captured steps (see docs/plugins.md).
    """


@hookspec
def tt_rewrite(tape: Tape) -> None:
    """Put other calls in the place of calls on the tape of a captured step.

    For sequences of more than two ops; `tt_perf.acceleration.capture.fuse` has examples. The step must compute the
    same bits. Called once for each plan, before pairs are fused.
    """
