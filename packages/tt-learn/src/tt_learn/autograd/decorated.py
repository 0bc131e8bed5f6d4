"""Functions and generators whose bodies run in a block: what `@no_grad()` makes of the function under it."""

from __future__ import annotations

import contextlib
import functools
import inspect
from collections.abc import Callable, Generator
from typing import Any, TypeVar, cast

F = TypeVar("F", bound=Callable[..., Any])
Block = Callable[[], contextlib.AbstractContextManager[None]]


def decorated(function: F, block: Block) -> F:
    """`function`, each call in a block of its own, because threads may call it at the same time.

    >>> decorated(lambda x: x + 1, contextlib.nullcontext)(1)
    2
    """
    decorate = _generator if inspect.isgeneratorfunction(function) else _function
    return cast(F, functools.wraps(function)(decorate(function, block)))


def _function(function: Callable[..., Any], block: Block) -> Callable[..., Any]:
    def run(*inputs: Any, **options: Any) -> Any:
        with block():
            return function(*inputs, **options)

    return run


def _generator(function: Callable[..., Any], block: Block) -> Callable[..., Any]:
    """The generator's body runs in the block; the code that reads from it and sends to it does not."""

    def run(*inputs: Any, **options: Any) -> Generator[Any, Any, Any]:
        sent = None
        with contextlib.closing(function(*inputs, **options)) as steps:
            while True:
                try:
                    with block():
                        value = steps.send(sent)
                except StopIteration as end:
                    return end.value
                sent = yield value

    return run
