"""Beside module 18: steps of optimizers over the loops of `update_loops.py`, all parameters of a group in one call.

NumPy makes ten passes over memory for a step of Adam, block by block; a loop makes one. What a call costs in Python was
as much for 16 parameters as their arithmetic, so a group is handed over as a table of addresses, once for each core:
Adam on 800,000 numbers in 16 parameters takes 0.25 of the time of NumPy's tuned update. States stay where they are, so
the plugin may come and go while a model is trained. Each of Muon's matrices is a piece of work (`muon_loops.py`). A
group that the loops are not made for goes to NumPy's update.
"""

from __future__ import annotations

import contextlib
import functools
import math
import weakref
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from tt_core.engine.dispatch import Array
from tt_core.engine.heap import address_of
from tt_core.engine.threads import at_once, get_num_threads, in_parallel, split
from tt_learn.optim.muon import Muon, scale_of
from tt_learn.optimizers import SGD, Adam, AdamW, Group, Optimizer, SGDMomentum, State, own_update
from tt_learn.optimizers.blocks import Block, Blocks, Part
from tt_perf.acceleration.uncovered import leave, unfit
from tt_perf.kernels.team import has_team, team

Call = Callable[..., Any]
number = np.float32

MANY, FEW = 1 << 17, 1 << 15
"""Numbers from which a step is shared out by Python, 30 us of one core, and by compiled code."""


class Table:
    """The rows of a group: parameters and where they lie, for the blocks that are updated together."""

    def __init__(self, blocks: Blocks, due: Sequence[Block]) -> None:
        self.due = list(due)
        self.parameters = [part.parameter for block in due for part in block.parts]
        self.parts = [part for block in due for part in block.parts]
        self.starts = np.array([part.start for part in self.parts], np.int64)
        firsts = {id(p): start for p, start in zip(blocks.parameters, blocks.starts)}
        self.skipped = [4 * (part.start - firsts[id(part.parameter)]) for part in self.parts]
        self.begins = np.array([0, *np.cumsum([part.stop - part.start for part in self.parts])], np.int64)
        self.p, self.g = np.empty((2, len(self.parts)), np.int64)
        self.seen: list[Array | None] = [None] * len(self.parts)
        self.known: list[tuple[Any, Array, weakref.ref[Array]]] = []  # parameters with arrays that were checked
        self.copies: dict[int, Array] = {}  # gradients that were not contiguous, held during a step
        self.apart = True

    @property
    def count(self) -> int:
        return int(self.begins[-1])

    @functools.cached_property
    def matrices(self) -> Matrices:
        return Matrices(self.parts)

    def is_known(self) -> bool:
        """Whether all arrays are those of the previous step; a captured step reuses the arrays of its gradients."""
        for parameter, data, gradient in self.known:
            if parameter.data is not data or parameter._grad.data is not gradient() or not data.flags.writeable:
                return False
        return bool(self.known) and self.apart

    def look(self) -> bool:
        """Reads the addresses of parameters and gradients; False if parameters share memory."""
        moved = False
        for row, parameter in enumerate(self.parameters):
            data = parameter.data
            if data is not self.seen[row]:
                self.seen[row], moved = data, True
                self.p[row] = address_of(data) + self.skipped[row]
            g = parameter._grad.data
            if not g.flags.c_contiguous:
                g = self.copies[row] = np.ascontiguousarray(g)
            self.g[row] = address_of(g) + self.skipped[row]
        if moved:
            self.apart = self._are_apart()
        different = {id(p): p for p in self.parameters}.values()
        self.known = [] if self.copies else [(p, p.data, weakref.ref(p._grad.data)) for p in different]
        return self.apart

    def _are_apart(self) -> bool:
        """Whether no two rows share memory: one update would be lost if two threads change them."""
        order = np.argsort(self.p)
        ends = self.p + 4 * np.diff(self.begins)
        return bool((ends[order][:-1] <= self.p[order][1:]).all())

    def counted(self) -> None:
        """One step more for each block."""
        self.copies.clear()
        for block in self.due:
            block.step += 1
            block.state.unset.clear()


class Matrices:
    """What Muon needs of the rows of a table besides their addresses, kept from step to step."""

    def __init__(self, parts: Sequence[Part]) -> None:
        shapes = [part.values.shape for part in parts]  # (out, in, kh, kw) of a convolution is (out, in kh kw)
        self.sizes = np.array([(shape[0], math.prod(shape[1:])) for shape in shapes], np.int64)  # (matrices, 2)
        self._room = int(2 * (self.sizes.prod(axis=1) + self.sizes.min(axis=1) ** 2).max(initial=0))
        self._rooms: list[Array] = []
        self._scales: dict[str | None, Array] = {}

    def scales(self, adjust: str | None) -> Array:
        """`scale_of` for each matrix."""
        if adjust not in self._scales:
            self._scales[adjust] = np.array([scale_of(adjust, *size) for size in self.sizes.tolist()])
        return self._scales[adjust]

    @contextlib.contextmanager
    def room(self) -> Iterator[Array]:
        """Scratch memory for the largest matrix, for one thread at a time."""
        try:
            room = self._rooms.pop()
        except IndexError:
            room = np.empty(self._room, number)
        yield room
        self._rooms.append(room)


def _unfit(block: Block) -> str:
    """Why the loops are not made for the parameters of a block or for their gradients; empty if they are."""
    for part in block.parts:
        data, g = part.parameter.data, part.parameter._grad.data
        reason = unfit(data) or ("" if type(g) is np.ndarray and g.dtype == number else str(g.dtype))
        if not reason and not data.flags.writeable:
            reason = "read-only"
        if not reason and not data.shape == g.shape == part.seen.shape:
            reason = "shapes"
        if reason:
            return reason
    return ""


_tables: weakref.WeakKeyDictionary[Blocks, dict[Any, Table]] = weakref.WeakKeyDictionary()


def _tables_of(blocks: Blocks, due: list[Block]) -> Iterator[tuple[int, bool, Table]]:
    """The blocks that have the same step before them and the same arrays not yet written: (step, first, table)."""
    alike: dict[tuple[int, bool], list[Block]] = {}
    for block in due:
        alike.setdefault((block.step + 1, bool(block.state.unset)), []).append(block)
    kept = _tables.setdefault(blocks, {})
    for i, ((step, first), some) in enumerate(alike.items()):
        if i not in kept or kept[i].due != some:
            kept[i] = Table(blocks, some)
        yield step, first, kept[i]


def _table_before(blocks: Blocks, due: list[Block]) -> Table | None:
    """The table of the previous step, if blocks and arrays are the same and all blocks have the same step count."""
    tables = _tables.get(blocks)
    table = tables.get(0) if tables is not None and len(tables) == 1 else None
    if table is None or table.due != due or any(block.step != due[0].step or block.state.unset for block in due):
        return None
    return table if table.is_known() else None


def together(name: str, run: Callable[[Any, Group, Blocks, Table, int, bool], None]) -> Call:
    """`run(optimizer, group, blocks, table, step, first)` as the attribute `together` of an update (`tt_update`).

    Blocks that are left to NumPy's update are counted under `name`.
    """

    def update(optimizer: Any, group: Group, blocks: Blocks, due: list[Block]) -> list[Block]:
        table = _table_before(blocks, due)
        if table is not None:
            run(optimizer, group, blocks, table, due[0].step + 1, False)
            table.counted()
            return []
        ours: list[Block] = []
        left: list[Block] = []
        for block in due:
            reason = _unfit(block)
            (left if reason else ours).append(block)
            if reason:
                leave(name, reason)
        for step, first, table in _tables_of(blocks, ours):
            if table.look():
                run(optimizer, group, blocks, table, step, first)
                table.counted()
            else:
                leave(name, "shared memory")
                left += table.due
        return left

    return update


def _share_out(loop: Any, kind: str, count: int, *given: Any) -> None:
    """Runs a loop over a group of so many numbers: by the team, by threads of Python, or on this core."""
    if count >= FEW and has_team(loop):
        pieces = max(get_num_threads(), min(4 * get_num_threads(), count // FEW))
        loop[f"{kind}_job"](team().ready(loop, pieces), loop.address(f"{kind}_piece"), pieces, *given)
    elif count < MANY:
        loop[f"{kind}_group"](*given, 0, count)
    else:
        in_parallel(lambda part: loop[f"{kind}_group"](*given, part.start, part.stop), count, 4 * count)


def updates_from(loop: dict[str, Call]) -> dict[type[Optimizer], Call]:
    """Updates of optimizers by their classes: of a block as NumPy does it, and of a whole group by the loops."""

    def adam_of(group: Group, blocks: Blocks, table: Table, step: int, apart: bool, eps: float, amsgrad: bool) -> None:
        beta1, beta2 = group["betas"]
        correction = math.sqrt(1 - beta2**step)
        rate = group["lr"] * correction / (1 - beta1**step)
        decay, shrink = group["weight_decay"], 1.0
        if apart:  # weight decay that acts on the weights, not through the gradient
            decay, shrink = 0.0, 1 - group["lr"] * group["weight_decay"]
        sign = -1.0 if group.get("maximize") else 1.0
        how = np.array((1 - beta1, beta2, 1 - beta2, eps * correction, rate, decay, shrink, sign), number)
        m, v = blocks.flat["exp_avg"], blocks.flat["exp_avg_sq"]
        states = m, v, blocks.flat["max_exp_avg_sq"] if amsgrad else m, amsgrad
        rows = table.p, table.g, table.begins, table.starts
        _share_out(loop, "adam", table.count, *rows, *states, how)

    def adam(optimizer: Adam, group: Group, blocks: Blocks, table: Table, step: int, first: bool) -> None:
        apart = isinstance(optimizer, AdamW)
        adam_of(group, blocks, table, step, apart, group["eps"], bool(group["amsgrad"]))

    def sgd(optimizer: SGD, group: Group, blocks: Blocks, table: Table, step: int, first: bool) -> None:
        momentum, fresh = (0.0, 1.0) if first else (group["momentum"], 1 - group["dampening"])
        how = [group["lr"], group["weight_decay"], -1.0 if group["maximize"] else 1.0]
        numbers = np.array([*how, momentum, fresh, group["momentum"]], number)
        b = blocks.flat["momentum_buffer"] if group["momentum"] else numbers
        options = bool(group["momentum"]), bool(group["nesterov"]), numbers
        rows = table.p, table.g, table.begins, table.starts
        _share_out(loop, "sgd", table.count, *rows, b, *options)

    def muon(optimizer: Muon, group: Group, blocks: Blocks, table: Table, step: int, first: bool) -> None:
        """0.5 of the time of NumPy's update on the matrices of a GPT of 192 features, one core."""
        if not group["use_muon"]:
            adam_of(group, blocks, table, step, True, group["adamw_eps"], False)
            return
        momentum, lr = group["momentum"], group["lr"]
        matrices = table.matrices
        how = np.empty((len(matrices.sizes), 8), number)
        how[:, :7] = *group["ns_coefficients"], group["eps"], 1 - momentum, momentum, 1 - lr * group["weight_decay"]
        how[:, 7] = lr * matrices.scales(group["adjust_lr_fn"])
        rows, m = (table.p, table.g, table.begins, table.starts), blocks.flat["momentum_buffer"]
        given = *rows, matrices.sizes, m, bool(group["nesterov"]), int(group["ns_steps"]), how

        def steps(part: slice) -> None:
            with matrices.room() as room:
                loop["muon_group"](*given, room, part.start, part.stop)

        at_once(steps, split(len(how), len(how)))  # a matrix is a piece of work

    def made(kind: type[Optimizer], run: Call) -> Call:
        def update(optimizer: Any, p: Array, g: Array, state: State, step: int, group: Group) -> None:
            own_update(type(optimizer))(optimizer, p, g, state, step, group)

        update.together = together(f"{kind.__name__}.update", run)  # type: ignore[attr-defined]
        return update

    runs: dict[type[Optimizer], Call] = {Adam: adam, AdamW: adam, SGD: sgd, SGDMomentum: sgd, Muon: muon}
    return {kind: made(kind, run) for kind, run in runs.items()}
