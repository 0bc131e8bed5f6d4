"""Part of `capture`: how long each array of a tape lives.

A captured step has no graph, so only the plan refers to the arrays between two kernels. Each array is released after
the last kernel that reads it, and its memory is reused. A captured step therefore needs no more memory than the step
itself, whose graph keeps the arrays of a rule until its node is done. Intermediate results of compiled programs share
one buffer, which is planned in the same way.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tt_perf.acceleration.capture.tape import Call, Change, Finite, Instruction, SetGradient, Slot, Tape


def last_uses(tape: Tape) -> list[tuple[int, ...]]:
    """For each instruction the slots that nothing after it reads; constants are not among them.

    >>> last_uses(Tape())
    []
    """
    kept = {*tape.constants, *slots_in(tape.result)}
    found: list[tuple[int, ...]] = []
    for instruction in reversed(tape.instructions):
        touched = dict.fromkeys((*reads(instruction), *writes(instruction)))
        last = tuple([slot for slot in touched if slot not in kept])
        kept.update(last)
        found.append(last)
    return found[::-1]


def live(tape: Tape) -> Tape:
    """The tape without calls whose results are never read; calls that draw random numbers or change a tensor stay."""
    needed = set(slots_in(tape.result))
    kept: list[Instruction] = []
    for instruction in reversed(tape.instructions):
        idle = isinstance(instruction, Call) and not instruction.op.random and needed.isdisjoint(instruction.results)
        if not idle:
            needed.update(reads(instruction))
            kept.append(instruction)
    tape.instructions = kept[::-1]
    return tape


def reads(instruction: Instruction) -> Iterator[int]:
    """The slots that an instruction reads."""
    if isinstance(instruction, Call):
        yield from instruction.inputs
    elif isinstance(instruction, SetGradient):
        if instruction.slot is not None:
            yield instruction.slot
    elif isinstance(instruction, Finite):
        yield instruction.slot
    elif isinstance(instruction, Change):
        yield from slots_in((instruction.arguments, instruction.options))


def writes(instruction: Instruction) -> tuple[int, ...]:
    """The slots that an instruction fills."""
    if isinstance(instruction, Call):
        return instruction.results
    if isinstance(instruction, Change) and instruction.result is not None:
        return (instruction.result,)
    return ()


def slots_in(value: object) -> Iterator[int]:
    """The slots in nested containers."""
    if isinstance(value, Slot):
        yield value.number
    elif isinstance(value, (tuple, list)):
        for part in value:
            yield from slots_in(part)
    elif isinstance(value, dict):
        yield from slots_in(tuple(value.values()))


def places(lives: Sequence[tuple[int, int, int]]) -> tuple[list[int], int]:
    """Offsets of arrays in one buffer, and its size; arrays that are alive at the same time do not overlap.

    `lives` has the first and last instruction and the size of each array, ordered by the first instruction.

    >>> places([(0, 1, 100), (1, 2, 50), (2, 3, 90)])
    ([0, 100, 0], 150)
    """
    found: list[tuple[int, int, int]] = []  # begin, end, last instruction
    begins = []
    for first, last, size in lives:
        begin = 0
        for other, end, until in sorted(found):
            if until >= first and begin < end and other < begin + size:
                begin = end
        found.append((begin, begin + size, last))
        begins.append(begin)
    return begins, max((end for _, end, _ in found), default=0)
