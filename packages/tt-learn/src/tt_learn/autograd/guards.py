"""Guards against lost gradients: every way by which a value could leave the graph unnoticed is an error."""

from __future__ import annotations

from typing import Any

from tt_learn.autograd.errors import GradientError


def refuse_gradients(whose: str, what: str, value: object) -> None:
    """Raises `GradientError` for a tensor that requires a gradient in a place that no gradient can come back from."""
    if isinstance(value, (list, tuple)):
        for part in value:
            refuse_gradients(whose, what, part)
    elif getattr(value, "_requires_grad", False):
        raise GradientError(
            f"{whose}: {what} contains a tensor that requires a gradient, which would be lost; "
            f"pass it as an input of its own (stack() makes one of several), or detach() it"
        )


def refuse_in_place(what: str, instead: str, tensor: Any, source: Any) -> None:
    """Raises `GradientError` for a change in place that would be missing from the graph of `tensor` or `source`."""
    if isinstance(source, (list, tuple)):
        refuse_gradients(what, "a list", source)
    for whom, x in (("this tensor", tensor), ("the value", source)):
        if getattr(x, "_requires_grad", False):
            kind = "is a leaf that requires a gradient" if x.grad_fn is None else "has history"
            raise GradientError(
                f"{what}: {whom} {kind}, and a change in place would be missing from it; "
                f"use {instead}, or no_grad() if it needs no gradient"
            )
