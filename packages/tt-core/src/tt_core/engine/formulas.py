"""The plugin `formula`: every op and every optimizer's update runs as its formula, without the tuned forms.

with tt_core.use("formula"):
    ...
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tt_core.engine.dispatch import Op
from tt_core.engine.hookspecs import hookimpl


class FormulaPlugin:
    """What `use("formula")` activates."""

    @hookimpl
    def tt_kernel(self, op: Op) -> Callable[..., Any] | None:
        return None if op.kernel is op.formula else op.formula

    @hookimpl(optionalhook=True)  # tt_learn specifies it
    def tt_update(self, optimizer: type[Any]) -> Callable[..., Any]:
        formula: Callable[..., Any] = optimizer.update
        return formula


plugin = FormulaPlugin()
