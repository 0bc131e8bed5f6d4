"""Module 20, capstone: the processes that train together, and what one of them may do alone.

Without the plugin `data-parallel` there is one process, `ONE`, whose methods do nothing. Code that asks `world()` reads
the same in both cases.
"""

from __future__ import annotations

import contextlib
import os
import platform
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from tt_core import Layer
from tt_core.engine.errors import TinyTorchError
from tt_core.engine.plugins import manager

NAME = "data-parallel"
_SIZES = ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "PMIX_SIZE", "MV2_COMM_WORLD_SIZE", "SLURM_STEP_NUM_TASKS")
"""Where mpiexec and srun say how many processes they started; srun is last, since mpiexec may run in a step of it."""
_RANKS = ("OMPI_COMM_WORLD_RANK", "PMI_RANK", "PMIX_RANK", "MV2_COMM_WORLD_RANK", "SLURM_PROCID")


class World:
    """The processes of a training; without a communicator of mpi4py, this one alone.

    >>> World().rank, World().size, World().sum([1.0, 2.0])
    (0, 1, [1.0, 2.0])
    """

    def __init__(self, comm: Any = None) -> None:
        self.comm = comm
        self.rank: int = 0 if comm is None else comm.Get_rank()
        self.size: int = 1 if comm is None else comm.Get_size()

    @property
    def first(self) -> bool:
        """Whether this process writes files and says what happens."""
        return self.rank == 0

    def share(self, count: int) -> slice:
        """This process's part of `count` examples; the parts differ by one at most.

        >>> World().share(8)
        slice(0, 8, None)
        """
        return slice(count * self.rank // self.size, count * (self.rank + 1) // self.size)

    def sum(self, numbers: list[float]) -> list[float]:
        """The sums over all processes, the same bits in each."""
        if self.comm is None:
            return numbers
        totals = np.asarray(numbers, np.float64)
        self.comm.Allreduce(totals.copy(), totals)
        return [float(total) for total in totals]

    def copy_weights(self, model: Layer) -> None:
        """Give every process the first one's parameters and buffers."""
        if self.comm is not None:
            for tensor in (*model.parameters(), *model.buffers()):
                values = np.ascontiguousarray(tensor.data)
                self.comm.Bcast(values, root=0)
                if not self.first:
                    tensor.data[...] = values

    def weighted(self, loss: Callable[[Layer, Any], Any], batch_size: int) -> Callable[[Layer, Any], Any]:
        """`loss(model, batch)` weighted by this process's share: the mean over processes is then the batch's mean."""
        mine = self.share(batch_size)
        weight = (mine.stop - mine.start) * self.size / batch_size
        return loss if weight == 1 else lambda model, batch: loss(model, batch) * weight

    def only_first(self, say: Callable[[str], None]) -> Callable[[str], None]:
        """`say` for the first process; the others are silent."""
        return say if self.first else lambda line: None

    def check_share(self, count: int) -> None:
        """Raise `TinyTorchError` for a batch that leaves a process without work."""
        if count < self.size:
            raise TinyTorchError(
                f"batch_size is {count} for {self.size} processes; give --batch-size {self.size} or more: "
                f"it counts the windows of all processes together"
            )

    @contextlib.contextmanager
    def ending_together(self) -> Iterator[None]:
        """A block after whose failure in one process all end, with its message; the others would wait forever."""
        try:
            yield
        except BaseException as error:
            if self.size == 1:
                raise
            if isinstance(error, KeyboardInterrupt):  # the training is saved
                _abort(self.comm, 130)
            known = isinstance(error, TinyTorchError)
            told = f"error: {error}\n" if known else traceback.format_exc()
            sys.stderr.write(f"rank {self.rank} of {self.size}: {told}")
            _abort(self.comm, 1)


ONE = World()

_MOMENT = 0.5
"""Seconds."""


def started() -> str:
    """How many processes mpiexec or srun started, as text; "" for one process."""
    return next((os.environ[name] for name in _SIZES if os.environ.get(name, "1") not in ("", "1")), "")


def described() -> str:
    """This process's rank, number and machine.

    When a process is killed, mpiexec kills the others at once, and names the process by its number alone.
    """
    rank = next((os.environ[name] for name in _RANKS if name in os.environ), "?")
    return f"rank {rank} of {started() or 1} is process {os.getpid()} on {platform.node()}"


def end_others(code: int) -> None:
    """End the other processes that were started: this one failed, maybe before MPI began, where they wait for it."""
    if started():
        with contextlib.suppress(ImportError, RuntimeError):
            from mpi4py import MPI  # type: ignore[import-not-found,import-untyped,unused-ignore]

            _abort(MPI.COMM_WORLD, code)


def _abort(comm: Any, code: int) -> None:
    """Ends all processes, after mpiexec had time to read the last message: it drops what comes with the abort."""
    sys.stderr.flush()
    time.sleep(_MOMENT)
    comm.Abort(code)


def world() -> World:
    """The processes that train together: those of the plugin `data-parallel`, or this one.

    Raises `TinyTorchError` if several processes were started and the plugin is not in use: they would all train the
    same model beside each other.
    """
    plugin = manager.get_plugin(NAME)
    if plugin is not None:
        found: World = plugin.world
        return found
    if started():
        raise TinyTorchError(f"{started()} processes were started; add --plugin {NAME}, so that they train together")
    return ONE
