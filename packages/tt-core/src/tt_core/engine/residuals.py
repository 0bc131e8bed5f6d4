"""Residuals: what a kernel returns after its result, by name, for the gradient rule of its op."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from tt_core.course import finder
from tt_core.engine.errors import PluginError
from tt_core.engine.plugins import manager

if TYPE_CHECKING:
    from tt_core.engine.protocols import Call, Op

AnyCall = TypeVar("AnyCall", bound=Callable[..., Any])


def with_residuals(*names: str) -> Callable[[AnyCall], AnyCall]:
    """Names what the decorated kernel returns after its result; for kernels that a plugin brings.

    >>> with_residuals("mean")(lambda x, /: (x - x.mean(), x.mean())).residuals
    ('mean',)
    """

    def name(kernel: AnyCall) -> AnyCall:
        if names:
            kernel.residuals = names  # type: ignore[attr-defined]
        return kernel

    return name


def residuals_of(kernel: Call) -> tuple[str, ...]:
    """The names of what `kernel` returns after its result."""
    return getattr(kernel, "residuals", ())


def has_residuals(op: Op, kernel: Call) -> bool:
    """Whether a kernel of `op` may return more than the result.

    Raises `PluginError` for a plugin's kernel that lacks residuals which the formula returns, and for one that names
    residuals which the gradient rule does not take.
    """
    named = residuals_of(kernel)
    missing = [name for name in residuals_of(op.formula) if name not in named]
    if missing:
        raise PluginError(
            f"{op.name}: the kernel of {_source_of(op, kernel)} does not return {' and '.join(missing)}, which the "
            f"gradient needs; return it after the result and name it with @with_residuals"
        )
    unknown = [name for name in named if name not in op.residuals]
    if unknown and kernel is not op.kernel and not finder.runs_as_written(op.formula):
        known = f"the residuals {', '.join(op.residuals)}" if op.residuals else "no residuals"
        raise PluginError(
            f"{op.name}: the kernel of {_source_of(op, kernel)} returns {' and '.join(unknown)}, which the gradient "
            f"does not take; {op.name} has {known}"
        )
    return bool(named or op.residuals)


def split(op: Op, kernel: Call, returned: Any) -> tuple[Any, dict[str, Any]]:
    """The result of a kernel, and its residuals by name; raises `PluginError` for more or fewer than it names."""
    names = residuals_of(kernel)
    parts = returned if type(returned) is tuple else (returned,)
    if len(parts) != len(names) + 1:
        expected = f"the result and {', '.join(names)}" if names else "the result alone"
        raise PluginError(
            f"{op.name}: the kernel of {_source_of(op, kernel)} returns {len(parts)} values, expected {expected}; "
            f"name residuals with @with_residuals"
        )
    return parts[0], dict(zip(names, parts[1:]))


def _source_of(op: Op, kernel: Call) -> str:
    """Where a kernel comes from: a plugin, or the op's own module."""
    return f"module {kernel.__module__}" if kernel is op.kernel else f"plugin {manager.who_answers('tt_kernel', op=op)}"
