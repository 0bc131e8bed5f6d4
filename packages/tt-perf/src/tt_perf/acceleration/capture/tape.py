"""Part of `capture`: what a tape is made of.

A tape lists what one step did: calls of kernels, gradients that were set, functions that change tensors, steps of
optimizers. A *slot* is a place for one array: an argument of the step, an array that was there before (a parameter), a
constant, or a result.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tt_core.engine.dispatch import Array, Op
from tt_core.engine.effects import Effect
from tt_learn.autograd import Tensor
from tt_learn.optimizers import Optimizer

Kernel = Callable[..., Any]
Arrays = tuple[Any, ...]


@dataclass(frozen=True)
class Job:
    """Compiled code that computes one call, in pieces that may run at the same time.

    `function` is the address of a C function of two int64: the address of the arguments, and the index of a piece. An
    array among the arguments (at most 24) stands for the address of its first element.
    """

    function: int
    arguments: tuple[int | Array, ...]
    pieces: int = 1


@dataclass
class Call:
    """One kernel: `results` holds the slots of what it returns, in the order in which nested tuples are read."""

    op: Op
    kernel: Kernel
    inputs: tuple[int, ...]
    attributes: dict[str, Any]
    results: tuple[int, ...]
    shapes: tuple[Any, ...]
    """The shape of each result, None for what is not an array."""
    views: tuple[int | None, ...]
    """For each result, the slot of the input whose memory it shares."""


@dataclass
class SetGradient:
    """`tensor.grad` becomes the array of a slot, or None."""

    tensor: Tensor
    slot: int | None


@dataclass
class Expect:
    """Whether a gradient is there, which the step looked at before it set it."""

    tensor: Tensor
    there: bool


@dataclass
class Change:
    """A function under `@effect`; `Slot` stands for tensors in its arguments."""

    effect: Effect
    arguments: Any
    options: dict[str, Any]
    result: int | None


@dataclass
class Step:
    """A step of an optimizer."""

    optimizer: Optimizer


@dataclass
class Finite:
    """A number that must be finite, or the step is run again without its tape, to raise its error."""

    slot: int


@dataclass(frozen=True)
class Slot:
    """Stands for the tensor of a slot."""

    number: int


Instruction = Call | SetGradient | Expect | Change | Step | Finite


@dataclass
class Tape:
    """Everything that one step computed."""

    instructions: list[Instruction] = field(default_factory=list)
    arguments: tuple[int, ...] = ()
    """Slots of the tensors that the step was given."""
    constants: dict[int, Any] = field(default_factory=dict)
    """By slot: arrays that were there before the step or were made by it, and numbers."""
    fresh: set[int] = field(default_factory=set)
    """Slots of constants that the step made."""
    doubtful: set[int] = field(default_factory=set)
    """Of these, and of results, the ones that may depend on the arguments in a way that the recorder cannot see."""
    result: Any = None
    """What the step returned, with `Slot` for its tensors."""
    slots: int = 0
    inputs: list[bytes] = field(default_factory=list)
    """The contents of the arguments, if a constant is doubtful."""

    def difference(self, other: Tape) -> str | None:
        """How `other`, recorded later for the same kind of arguments, differs; None if a replay of one is the other."""
        for mine, yours in zip(self.instructions, other.instructions):
            if not _same(mine, yours):
                return f"{_described(mine)} became {_described(yours)}"
        if len(self.instructions) != len(other.instructions):
            return f"{len(self.instructions)} calls became {len(other.instructions)}"
        if not _same(self.result, other.result) or self.arguments != other.arguments:
            return "it returns something else"
        if self.constants.keys() != other.constants.keys() or self.fresh != other.fresh:
            return "it uses other constants"
        for slot, value in self.constants.items():
            if value is not other.constants[slot] and not (slot in self.fresh and _same(value, other.constants[slot])):
                return f"a constant of {_user_of(self, slot)} has another value each time"
        return None


def replaced(value: Any, replace: Callable[[Any], Any]) -> Any:
    """Nested containers with other leaves."""
    if type(value) in (tuple, list):
        return type(value)([replaced(part, replace) for part in value])
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*[replaced(part, replace) for part in value])
    if type(value) is dict:
        return {key: replaced(part, replace) for key, part in value.items()}
    return replace(value)


def _same(a: Any, b: Any) -> bool:
    """Whether two pieces of tapes are equal, to the bit."""
    if a is b:
        return True
    if type(a) is not type(b):
        return False
    if isinstance(a, (Call, SetGradient, Expect, Change, Step, Finite)):
        return _same(vars(a), vars(b))
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(_same(value, b[key]) for key, value in a.items())
    if isinstance(a, (tuple, list)):
        return len(a) == len(b) and all(map(_same, a, b))
    if isinstance(a, np.ndarray):
        return a.dtype == b.dtype and a.shape == b.shape and a.strides == b.strides and a.tobytes() == b.tobytes()
    if isinstance(a, (float, np.generic)):
        return np.asarray(a).tobytes() == np.asarray(b).tobytes()
    if isinstance(a, (int, str, slice, np.dtype, Slot)):
        return bool(a == b)
    return False


def _described(instruction: Instruction) -> str:
    if isinstance(instruction, Call):
        attributes = ", ".join(f"{name}={value}" for name, value in instruction.attributes.items())
        return f"{instruction.op.name}({attributes})"
    return type(instruction).__name__


def _user_of(tape: Tape, slot: int) -> str:
    users = (each.op.name for each in tape.instructions if isinstance(each, Call) and slot in each.inputs)
    return next(users, "the result")
