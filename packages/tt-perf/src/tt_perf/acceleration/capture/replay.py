"""Part of `capture`: a tape becomes a flat list of functions on a list of arrays, and runs.

Between two kernels there is nothing but the reading and writing of that list: no tensors, no graph, no dispatch. The
first run notes the layouts of all arrays; then neighbours that offer compiled code become one function. The
checks of ops run again, because they may depend on values (a label out of range). Whatever does not go as recorded, an
error included, undoes what was changed before the optimizer's step and hands the step back to be run as usual.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

import tt_core
from tt_core.engine.dispatch import Array, quietly, wrap
from tt_core.random import generator
from tt_perf.acceleration.capture.plan import last_uses, slots_in
from tt_perf.acceleration.capture.program import Layout, Program, Programs, has_jobs
from tt_perf.acceleration.capture.tape import (
    Call,
    Change,
    Expect,
    Finite,
    Instruction,
    SetGradient,
    Slot,
    Step,
    Tape,
    replaced,
)

Values = list[Any]
Run = Callable[[Values], None]
Part = tuple[Run, tuple[int, ...], Any]
"""A function, the slots to clear after it, and the tensor whose gradient it sets."""


class Stale(Exception):
    """Something is not as it was when the step was recorded."""


class Replay:
    """A tape that can be run."""

    def __init__(self, tape: Tape) -> None:
        self._template = [tape.constants.get(slot) for slot in range(tape.slots)]
        self._arguments = tape.arguments
        self._result = tape.result
        leaving = [each.slot for each in tape.instructions if isinstance(each, SetGradient)] + [*slots_in(tape.result)]
        self._copied = [slot for slot in leaving if slot in tape.fresh]  # constants that others may write to
        self._tape = tape
        self._layouts: dict[int, Layout | None] | None = {} if has_jobs(tape) else None  # until programs are built
        self._parts = self._one_by_one()
        self._random = any(isinstance(each, Call) and each.op.random for each in tape.instructions)
        self._changed = [x for each in tape.instructions if isinstance(each, Change) for x in _written(each)]

    def _one_by_one(self) -> tuple[list[Part], list[Part]]:
        """Each instruction as a function, which notes the layouts of its results until programs are built."""
        parts = []
        for each, drop in zip(self._tape.instructions, last_uses(self._tape)):
            run = _function_of(each)
            if self._layouts is not None and isinstance(each, Call):
                run = _noting(run, each.results, self._layouts)
            parts.append((run, drop, each.tensor if isinstance(each, SetGradient) else None))
        return self._split(parts, [*range(len(parts))])

    def _split(self, parts: list[Part], firsts: list[int]) -> tuple[list[Part], list[Part]]:
        """Splits parts at the first step of an optimizer; `firsts` has the index of each part's first instruction."""
        step = next((i for i, each in enumerate(self._tape.instructions) if isinstance(each, Step)), None)
        at = len(parts) if step is None else firsts.index(step)
        return parts[:at], parts[at:]

    def _make_programs(self, arrays: Sequence[Array]) -> None:
        """Replaces calls by programs, once the layouts of all arrays are known."""
        layouts, self._layouts = self._layouts, None
        if layouts is None:
            return
        fixed = {slot: x for slot, x in self._tape.constants.items() if slot not in self._copied}
        layouts |= {slot: Layout.of(x) for slot, x in self._tape.constants.items()}
        layouts |= {slot: Layout.of(x) for slot, x in zip(self._arguments, arrays)}
        parts = [part for some in self._one_by_one() for part in some]
        found = Programs(self._tape, layouts, fixed).parts()
        together = [_program(each, parts[first:last]) if each else parts[first] for first, last, each in found]
        self._parts = self._split(together, [first for first, _, _ in found])

    def run(self, arrays: Sequence[Array]) -> Any:
        """What the step returns for these arguments; raises `Stale`, after undoing everything, if it cannot tell."""
        return quietly(self._run, arrays)

    def _run(self, arrays: Sequence[Array]) -> Any:
        values = self._template.copy()
        for slot, array in zip(self._arguments, arrays):
            values[slot] = array
        for slot in self._copied:
            values[slot] = np.array(values[slot])
        before = generator().bit_generator.state if self._random else None
        contents = [x.data.copy() for x in self._changed]
        safe, final = self._parts
        position = 0
        try:
            for position, (run, drop, _) in enumerate(safe):  # noqa: B007 - read after an error
                run(values)
                for slot in drop:
                    values[slot] = None
        except BaseException as error:
            if before is not None:
                generator().bit_generator.state = before
            for _, _, x in safe[: position + 1]:  # each was cleared first, or was not there
                if x is not None:
                    x._grad = None
            for x, array in zip(self._changed, contents):
                np.copyto(x.data, array)
            if isinstance(error, Exception):
                raise Stale(str(error)) from error
            raise
        for run, drop, _ in final:  # from here on, an error leaves what it leaves in an ordinary step
            run(values)
            for slot in drop:
                values[slot] = None
        if self._layouts is not None:
            self._make_programs(arrays)
        if type(self._result) is Slot:
            return wrap(values[self._result.number])
        return replaced(self._result, lambda x: wrap(values[x.number]) if isinstance(x, Slot) else x)


def _written(change: Change) -> list[Any]:
    """The tensors from before the step that a function changes."""
    given = [change.arguments[i] for i in change.effect.writes if i < len(change.arguments)]
    return [x for x in given if isinstance(x, tt_core.Tensor)]


# --- one function for each instruction, or for several


def _noting(run: Run, slots: Sequence[int], layouts: dict[int, Layout | None]) -> Run:
    """`run`, which also notes the layouts of its results."""

    def noting(values: Values) -> None:
        run(values)
        layouts.update({slot: Layout.of(values[slot]) for slot in slots})

    return noting


def _program(program: Program, calls: Sequence[Part]) -> Part:
    """A program, or its calls one by one if it stops."""

    def run(values: Values) -> None:
        if program.run(values):
            return
        for call, drop, _ in calls:
            call(values)
            for slot in drop:
                values[slot] = None

    given = {slot for slot, *_ in program.given}  # intermediates never get into slots
    return run, tuple([slot for _, drop, _ in calls for slot in drop if slot in given]), None


def _function_of(instruction: Instruction) -> Run:
    return _MAKERS[type(instruction)](instruction)


def _call(call: Call) -> Run:
    check = None if getattr(call.kernel, "checks", False) else call.op.check
    kernel = functools.partial(call.kernel, **call.attributes) if call.attributes else call.kernel
    checked = functools.partial(check, **call.attributes) if check is not None else None
    if len(call.results) > 1 or call.shapes == (None,):
        return _with_several_results(kernel, checked, call)
    if checked is None and len(call.inputs) == 1:
        return _unary(kernel, *call.inputs, *call.results, *call.shapes)
    if checked is None and len(call.inputs) == 2:
        return _binary(kernel, *call.inputs, *call.results, *call.shapes)
    return _with_one_result(kernel, checked, call.inputs, *call.results, *call.shapes)


def _unary(kernel: Callable[..., Any], a: int, out: int, shape: Any) -> Run:
    def run(values: Values) -> None:
        result = kernel(values[a])
        if type(result) is not np.ndarray:
            result = np.asarray(result)
        if result.shape != shape:
            raise Stale
        values[out] = result

    return run


def _binary(kernel: Callable[..., Any], a: int, b: int, out: int, shape: Any) -> Run:
    def run(values: Values) -> None:
        result = kernel(values[a], values[b])
        if type(result) is not np.ndarray:
            result = np.asarray(result)
        if result.shape != shape:
            raise Stale
        values[out] = result

    return run


def _with_one_result(
    kernel: Callable[..., Any], check: Callable[..., Any] | None, inputs: tuple[int, ...], out: int, shape: Any
) -> Run:
    def run(values: Values) -> None:
        given = [values[i] for i in inputs]
        if check is not None:
            check(*given)
        result = kernel(*given)
        if type(result) is not np.ndarray:
            result = np.asarray(result)
        if result.shape != shape:
            raise Stale
        values[out] = result

    return run


def _with_several_results(kernel: Callable[..., Any], check: Callable[..., Any] | None, call: Call) -> Run:
    inputs, out, shapes = call.inputs, call.results, call.shapes

    def run(values: Values) -> None:
        given = [values[i] for i in inputs]
        if check is not None:
            check(*given)
        results = _flat(kernel(*given))
        if len(results) != len(out):
            raise Stale
        for slot, result, shape in zip(out, results, shapes):
            if result is not None and type(result) is not np.ndarray:
                result = np.asarray(result)
            if getattr(result, "shape", None) != shape:
                raise Stale
            values[slot] = result

    return run


def _flat(returned: Any) -> list[Any]:
    if type(returned) is not tuple:
        return [returned]
    if tuple not in map(type, returned):
        return list(returned)
    return [leaf for part in returned for leaf in _flat(part)]


def _set_gradient(instruction: SetGradient) -> Run:
    tensor, slot = instruction.tensor, instruction.slot
    if slot is None:

        def clear(values: Values) -> None:
            tensor._grad = None

        return clear

    def set_(values: Values) -> None:
        tensor._grad = wrap(values[slot])

    return set_


def _expect(instruction: Expect) -> Run:
    tensor, there = instruction.tensor, instruction.there

    def check(values: Values) -> None:
        if (tensor._grad is not None) is not there:
            raise Stale

    return check


def _change(instruction: Change) -> Run:
    effect, arguments, options, result = (
        instruction.effect,
        instruction.arguments,
        instruction.options,
        instruction.result,
    )

    def run(values: Values) -> None:
        def as_tensor(x: Any) -> Any:
            return wrap(values[x.number]) if isinstance(x, Slot) else x

        returned = effect(*replaced(arguments, as_tensor), **replaced(options, as_tensor))
        if result is not None:
            values[result] = returned.data

    return run


def _step(instruction: Step) -> Run:
    step = instruction.optimizer.step

    def run(values: Values) -> None:
        step()

    return run


def _finite(instruction: Finite) -> Run:
    slot = instruction.slot

    def check(values: Values) -> None:
        if not np.isfinite(values[slot]).all():
            raise Stale

    return check


_MAKERS: dict[type[Any], Callable[[Any], Run]] = {
    Call: _call,
    SetGradient: _set_gradient,
    Expect: _expect,
    Change: _change,
    Step: _step,
    Finite: _finite,
}
