"""Part of `capture`: which slot of the tape an array belongs to, by its identity and by the memory that it shares."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from typing import Any

import numpy as np

from tt_core.engine import mutation
from tt_core.engine.dispatch import Array
from tt_perf.acceleration.capture.tape import Tape


class Slots:
    """The arrays of a step that is being recorded.

    `there` are arrays that were there before the step, by their ids. `refusal` says why the recording has stopped.
    """

    def __init__(self, tape: Tape, there: dict[int, Array]) -> None:
        self.tape = tape
        self.there = there
        self.refusal: str | None = None
        self._known: dict[int, tuple[int, weakref.ref[Array]]] = {}  # by an array's id: its slot
        self._owners: dict[int, weakref.ref[Array]] = {}  # arrays whose memory a known array is a view of

    def refuse(self, reason: str) -> None:
        """Stops the recording; the step goes on."""
        self.refusal = self.refusal or reason

    def argument(self, array: Array) -> None:
        """A slot for an argument of the step."""
        if id(array) in self._known or id(array) in self.there:
            self.refuse("two arguments, or an argument and a parameter, share an array")
        self.tape.arguments += (self.result(array),)

    def _new(self) -> int:
        self.tape.slots += 1
        return self.tape.slots - 1

    def result(self, array: object) -> int:
        """A new slot for an array that was computed or given."""
        slot = self._new()
        if type(array) is np.ndarray:
            self._known[id(array)] = slot, _forgetting(self._known, array)
            owner = mutation.owner(array)
            if owner is not array:
                self._owners[id(owner)] = _forgetting(self._owners, owner)
        return slot

    def of(self, x: object) -> int:
        """The slot of what a kernel was given."""
        if type(x) is np.ndarray and id(x) in self._known:
            return self._known[id(x)][0]
        slot = self._new()
        self.tape.constants[slot] = x
        if isinstance(x, np.ndarray):
            self._known[id(x)] = slot, _forgetting(self._known, x)
            if id(x) not in self.there:
                self._check_origin(x)
                self.tape.fresh.add(slot)
                if x.size > 1 and not _counts_up(x):
                    self.tape.doubtful.add(slot)
        elif x is not None:
            self.tape.fresh.add(slot)
        return slot

    def _check_origin(self, array: Array) -> None:
        owner = mutation.owner(array)
        if owner is not array and (id(owner) in self._known or id(owner) in self._owners or id(owner) in self.there):
            self.refuse("it takes a part of a tensor's array past the ops")
        elif owner is not array and not isinstance(array.base, np.ndarray):
            self.refuse("it uses an array whose memory belongs to something else")

    def source(self, leaf: object, arrays: Sequence[Any], slots: tuple[int, ...]) -> int | None:
        """The slot of the array, among a kernel's inputs, whose memory its result shares."""
        if not isinstance(leaf, np.ndarray):
            return None
        owner = mutation.owner(leaf)
        for x, slot in zip(arrays, slots):
            if isinstance(x, np.ndarray) and mutation.owner(x) is owner:
                return slot
        return None

    def alive(self) -> list[Array]:
        """All arrays that are known and still there."""
        references = [reference for _, reference in self._known.values()]
        return [*self.there.values(), *[array for array in [each() for each in references] if array is not None]]


def _forgetting(known: dict[int, Any], array: Array) -> weakref.ref[Array]:
    """A reference that takes the array's entry out when it is freed, because Python uses ids again."""
    key = id(array)

    def forget(reference: weakref.ref[Array]) -> None:
        entry = known.get(key)
        if entry is reference or (type(entry) is tuple and entry[1] is reference):
            del known[key]

    return weakref.ref(array, forget)


def _counts_up(array: Array) -> bool:
    """Whether an array holds one number only, or 0, 1, 2, ...: what `zeros`, `ones` and `arange` make."""
    flat = array.reshape(-1)
    return bool((flat == flat[0]).all()) or bool((flat == np.arange(flat.size)).all())
