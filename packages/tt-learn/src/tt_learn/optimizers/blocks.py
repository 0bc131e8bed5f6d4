"""Part of module 06: the parameters of one group, cut into blocks that stay in the cache. No lesson, only speed.

A formula on whole arrays reads and writes main memory once per operation. On blocks that fit in the second-level cache
it does so once in all, and needs scratch memory for one block only. (Adam on 10M float32 takes 27 ms a step in blocks
of 32,768 elements and 45 ms in blocks of 4,096; on 400,000 elements 0.84 ms in blocks of 65,536, 0.90 in half that.)
A large parameter is cut into several blocks. Small ones share a block, so that a model of many small layers costs a few
NumPy calls per block and not a dozen per parameter. The blocks of large groups are shared out over the cores.

This file knows no update rule; those are in `optimizers.py`.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.lib.array_utils import byte_bounds

from tt_core.engine import mutation
from tt_core.engine.dispatch import Array
from tt_core.engine.errors import ShapeError
from tt_core.engine.heap import aligned
from tt_core.engine.threads import get_num_threads, in_parallel

BLOCK = 65_536  # elements: parameter, gradient, two states and two scratch arrays in float32 are 1.6 MB
SHARED = 131_072
"""Elements of a block in a group of `MANY`, whose blocks are shared out over the cores. On smaller blocks, threads wait
for Python's lock: Adam on 10M float32 takes 30 ms in one thread, 31 in two with blocks of 32,768, and 18 with these."""
MANY = 16 * SHARED
SMALL = 4_096  # up to this size, copying a parameter into a shared block costs less than the calls for its own block


class State(dict[str, Array]):
    """The arrays that `update` keeps for one block, by name.

    `unset` holds the names of the arrays that no update has written yet, `numbers` the values kept once per parameter.
    `work` holds two scratch arrays for tuned updates; they keep nothing from call to call.

    >>> state = State({"momentum_buffer": np.zeros(3)})
    >>> state.unset.add("momentum_buffer")
    >>> list(state), state.unset, state.numbers
    (['momentum_buffer'], {'momentum_buffer'}, {})
    """

    def __init__(self, arrays: Mapping[str, Array] = MappingProxyType({})) -> None:
        super().__init__(arrays)
        self.unset: set[str] = set()
        self.numbers: dict[str, float] = {}
        self.work: Sequence[Array] = ()

    def copy(self) -> State:
        """Returns a new dictionary of the same arrays."""
        other = State(self)
        other.unset, other.numbers = set(self.unset), dict(self.numbers)
        return other


class Part:
    """Some rows of a parameter, or all of it, and the position of its state."""

    __slots__ = ("index", "parameter", "seen", "start", "stop", "values", "whole")

    def __init__(self, parameter: Any, index: tuple[Any, ...], start: int) -> None:
        self.parameter, self.index, self.start = parameter, index, start
        self.whole = index == (...,)
        self.look()
        self.stop = start + self.values.size

    def look(self) -> Array:
        """Reads the elements again, for a parameter that was given another array."""
        self.seen = self.parameter.data
        self.values = self.seen[self.index]
        return self.values

    def current(self) -> Array:
        if self.parameter.data is self.seen:
            return self.values
        if self.parameter.data.shape != self.seen.shape or self.parameter.data.dtype != self.seen.dtype:
            raise ShapeError(
                f"optimizer: a parameter of {self.seen.dtype} {self.seen.shape} is {self.parameter.data.dtype} "
                f"{self.parameter.data.shape} now; make a new optimizer for the changed model"
            )
        return self.look()

    def gradient(self) -> Array:
        g: Array = self.parameter._grad.data
        if g.shape != self.seen.shape:  # NumPy would broadcast it
            raise ShapeError(
                f"optimizer: a parameter of {self.seen.shape} has a gradient of {g.shape}; the shapes must be equal"
            )
        return g if self.whole else g[self.index]


class Block:
    """Elements that are updated together; `step` counts the updates."""

    def __init__(self, parts: list[Part], step: int = 0) -> None:
        self.parts, self.step, self.share = parts, step, 0
        self.start, self.stop = parts[0].start, parts[-1].stop
        self.shape = parts[0].values.shape if len(parts) == 1 else (self.stop - self.start,)
        self.state = State()

    def __len__(self) -> int:
        return self.stop - self.start

    def view(self, flat: Array) -> Array:
        """Returns this block's piece of an array over all elements of the group, in the block's shape."""
        return flat[self.start : self.stop].reshape(self.shape)

    def bind(self, flat: Mapping[str, Array], scratch: Sequence[Array]) -> None:
        """Sets the memory this block works in. All blocks of a share use the same four rows of scratch."""
        self.state.unset.update(flat.keys() - self.state.keys())
        self.state.update({name: self.view(array) for name, array in flat.items()})
        self.p, self.g, *self.state.work = (row[: len(self)].reshape(self.shape) for row in scratch)
        self.places = [(part, self._place(part, scratch[0]), self._place(part, scratch[1])) for part in self.parts]

    def _place(self, part: Part, row: Array) -> Array:
        """Returns the place in a row of scratch where a part's elements are gathered, in its shape."""
        return row[part.start - self.start : part.stop - self.start].reshape(part.values.shape)

    def read(self) -> tuple[Array, Array]:
        """Returns the block's elements `(p, g)`: p may be changed in place, g is only read."""
        if len(self.parts) > 1:
            for part, p, g in self.places:
                np.copyto(p, part.current())
                np.copyto(g, part.gradient())
            return self.p, self.g
        part = self.parts[0]
        g = part.gradient()
        if not g.flags.c_contiguous:  # it is read more than once
            np.copyto(self.g, g)
            g = self.g
        return part.current(), g

    def write(self) -> None:
        """Copies changed elements back to the places that `read` gathered them from."""
        if len(self.parts) > 1:
            for part, p, _ in self.places:
                np.copyto(part.values, p)

    def split(self) -> list[Block]:
        """Returns one block for each part."""
        singles = [Block([part], self.step) for part in self.parts]
        for single in singles:
            single.state = self.state.copy()  # `bind` gives it views of its own
        return singles


Together = Callable[["Blocks", list[Block]], list[Block]]
"""Updates blocks of one group that have gradients, and returns the blocks that it did not change."""


class Blocks:
    """All blocks of the parameters of one group that have one dtype, with their state.

    `whole`: each parameter is one block in its own shape, for rules that need the whole matrix.
    """

    def __init__(self, parameters: Sequence[Any], whole: bool = False) -> None:
        self.parameters = list(parameters)
        self.dtype = self.parameters[0].data.dtype
        self.flat: dict[str, Array] = {}
        self.whole, self._bound = whole, False
        self.many = not whole and sum(p.data.size for p in self.parameters) >= MANY
        apart = _overlapping([p.data for p in self.parameters])  # gathered together, one update would be lost
        large = [i for i, p in enumerate(self.parameters) if whole or p.data.size > SMALL or i in apart]
        small = sorted(set(range(len(self.parameters))) - set(large))
        self.starts, self.size = [0] * len(self.parameters), 0
        for i in large + small:  # small ones lie next to each other
            self.starts[i], self.size = self.size, self.size + self.parameters[i].data.size
        self.blocks = [Block([part]) for i in large for part in self._cut(i, whole)]
        self.blocks += _packed([part for i in small for part in self._cut(i, whole)])
        self.largest = max(map(len, self.blocks))

    def _cut(self, i: int, whole: bool) -> Iterator[Part]:
        start = self.starts[i]
        shape, most = self.parameters[i].data.shape, SHARED if self.many else BLOCK
        for index in [(...,)] if whole else _pieces(shape, most):
            part = Part(self.parameters[i], index, start)
            start = part.stop
            yield part

    def prepare(self, names: Sequence[str]) -> None:
        """Allocates the state called `names`, filled with zeros."""
        missing = [name for name in names if name not in self.flat]
        for name in missing:
            self.flat[name] = aligned((self.size,), self.dtype, np.zeros)
        if missing or not self._bound:
            scratch = [[aligned((self.largest,), self.dtype) for _ in range(4)] for _ in range(self.shares)]
            for i, block in enumerate(self.blocks):
                block.share = i * self.shares // len(self.blocks)
                block.bind(self.flat, scratch[block.share])
            self._bound = True

    @property
    def shares(self) -> int:
        """The number of shares, one per core, into which the blocks are divided."""
        return min(get_num_threads(), len(self.blocks)) if self.many else 1

    def update(self, change: Callable[[Block], None], together: Together | None = None) -> None:
        """Calls `change` with each block that has gradients; each share runs in its own thread.

        If `together` is given, it updates many blocks at once, and `change` those that it leaves.
        """
        due = list(self.due())  # which may split blocks
        if together is not None:
            due = together(self, due)
        if not self.many:
            for block in due:
                change(block)
            return
        shares = [list(share) for _, share in itertools.groupby(due, key=lambda block: block.share)]

        def work(part: slice) -> None:
            for block in itertools.chain.from_iterable(shares[part]):
                change(block)

        in_parallel(work, len(shares), self.size * self.dtype.itemsize)

    def due(self) -> Iterator[Block]:
        """The blocks that have gradients. A block of which only some parameters have one is split for good."""
        for block in tuple(self.blocks):
            have = [part.parameter._grad is not None for part in block.parts]
            if all(have):
                yield block
            elif any(have):
                yield from (single for single, has in zip(self._split(block), have) if has)

    def _split(self, block: Block) -> list[Block]:
        singles = block.split()
        at = self.blocks.index(block)
        self.blocks[at : at + 1] = singles
        self._bound = False
        self.prepare(tuple(self.flat))
        return singles

    def changed(self) -> None:
        """Tells autograd that the parameters with gradients were changed in place."""
        for parameter in self.parameters:
            if parameter._grad is not None:
                mutation.record(parameter.data)

    def _state_of(self, i: int) -> dict[str, Array]:
        """Returns the state of one parameter in its shape; it shares memory with the blocks."""
        start, shape = self.starts[i], self.parameters[i].data.shape
        return {
            name: flat[start : start + self.parameters[i].data.size].reshape(shape) for name, flat in self.flat.items()
        }

    def entries(self) -> list[dict[str, Any]]:
        """Returns each parameter's step and state, sharing memory with the blocks.

        An array that was never written is None; the entry of a parameter that was never updated is empty.
        """
        block_of = {id(part.parameter): block for block in self.blocks for part in block.parts}
        entries: list[dict[str, Any]] = []
        for i, parameter in enumerate(self.parameters):
            block = block_of[id(parameter)]
            arrays = {name: None if name in block.state.unset else x for name, x in self._state_of(i).items()}
            entries.append({"step": block.step, **block.state.numbers, **arrays} if block.step else {})
        return entries

    def load(self, entries: Sequence[Mapping[str, Any]], numbers: Sequence[str] = ()) -> None:
        """Copies each parameter's state from its entry; an empty entry means that it was never updated.

        `numbers` are the names in `State.numbers`.
        """
        for i, entry in enumerate(entries):
            for name, array in self._state_of(i).items():
                given = entry.get(name)
                np.copyto(array, 0 if given is None else np.asarray(given), casting="same_kind")
        known = {id(parameter): self._progress(entry, numbers) for parameter, entry in zip(self.parameters, entries)}
        for block in tuple(self.blocks):
            wanted = [known[id(part.parameter)] for part in block.parts]
            alike = all(each == wanted[0] for each in wanted)
            for single, (step, unset, kept) in zip([block] if alike else self._split(block), wanted):
                single.step, single.state.unset, single.state.numbers = step, set(unset), dict(kept)

    def _progress(self, entry: Mapping[str, Any], numbers: Sequence[str]) -> tuple[int, set[str], dict[str, float]]:
        unset = {name for name in self.flat if entry.get(name) is None}
        kept = {name: float(np.asarray(entry[name])) for name in numbers if name in entry}
        return int(entry.get("step", bool(entry))), unset, kept  # PyTorch's SGD saves no step, only its buffers

    # --- copies: blocks are views of their parameters and of `flat`, so a copy makes its own

    def __getstate__(self) -> dict[str, Any]:
        for block in self.blocks:
            for part in block.parts:
                part.current()  # raises if a parameter has another shape or dtype now
        numbers = sorted({name for block in self.blocks for name in block.state.numbers})
        content = {"entries": self.entries(), "names": list(self.flat), "numbers": numbers}
        return {"parameters": self.parameters, "whole": self.whole, **content}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["parameters"], state["whole"])  # type: ignore[misc]
        if state["names"] or any(state["entries"]):
            self.prepare(state["names"])
            self.load(state["entries"], state["numbers"])


def _overlapping(arrays: Sequence[Array]) -> set[int]:
    """Indices that include every array that shares memory with a later one."""
    spans = sorted((*byte_bounds(array), i) for i, array in enumerate(arrays) if array.size)
    return {i for (_, end, i), (start, _, _) in itertools.pairwise(spans) if start < end}


def _pieces(shape: tuple[int, ...], most: int) -> Iterator[tuple[Any, ...]]:
    """Indices that cut an array of this shape into pieces of equal rows and at most `most` elements, in order."""
    size = math.prod(shape)
    if size <= most:
        yield (...,)
        return
    rows, row = shape[0], size // shape[0]
    if row > most:
        yield from ((i, *rest) for i in range(rows) for rest in _pieces(shape[1:], most))
        return
    count = -(-rows // (most // row))
    edges = [rows * i // count for i in range(count + 1)]
    yield from ((slice(a, b),) for a, b in itertools.pairwise(edges))


def _packed(parts: Sequence[Part]) -> list[Block]:
    """Joins small neighbours as long as they fit into one block."""
    runs: list[list[Part]] = []
    for part in parts:
        if runs and part.stop - runs[-1][0].start <= BLOCK:
            runs[-1].append(part)
        else:
            runs.append([part])
    return [Block(run) for run in runs]
