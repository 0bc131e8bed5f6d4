"""Effects: functions that change tensors in place and are not ops, such as clipping gradients or running statistics.

Plugins that record a whole training step must see these changes too. `@effect` puts the answers to `tt_wrap_effect`
around a function, as ops have it.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Protocol, TypeVar, cast

from tt_core.engine.plugins import manager

F = TypeVar("F", bound=Callable[..., Any])


class Effect(Protocol):
    """A function under `@effect`."""

    __name__: str
    function: Callable[..., Any]
    """The function itself."""
    writes: tuple[int, ...]
    """Positions of the tensors that it changes and that were there before the step."""
    chain: Callable[..., Any]
    """The function in the wraps of plugins."""

    def __call__(self, *arguments: Any, **options: Any) -> Any: ...


_effects: list[Effect] = []


def effect(*writes: int) -> Callable[[F], F]:
    """Decorates a function that changes tensors in place: those at the positions `writes`, and gradients.

    >>> @effect(0)
    ... def double_(x):
    ...     x.mul_(2)
    >>> double_.writes
    (0,)
    >>> _ = _effects.pop()
    """

    def decorate(function: F) -> F:
        @functools.wraps(function)
        def call(*arguments: Any, **options: Any) -> Any:
            return made.chain(*arguments, **options)

        made = cast(Effect, call)
        made.function, made.writes = function, writes
        _effects.append(made)
        manager.settle(functools.partial(_bind, made))
        return cast(F, call)

    return decorate


def _bind(made: Effect) -> None:
    made.chain = manager.chained("tt_wrap_effect", made.function, into="call", effect=made)


def _bind_all() -> None:
    for made in _effects:
        _bind(made)


manager.rebinders.append((_bind_all, {"tt_wrap_effect"}))
