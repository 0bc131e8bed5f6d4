"""Module 20, capstone: the plugin `data-parallel`, which makes the gradients of all processes one.

    g = (g_0 + g_1 + ... + g_{n-1}) / n

Backward reaches the last layers first, so their gradients can travel while the first layers are still computed (Li et
al. 2020, arXiv:2006.15704). Gradients that are complete are collected in buckets of some megabytes, since a message has
a cost of its own; a full bucket is on its way at once. `finish`, which hands a gradient to its parameter, waits for it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from tinygpt.distributed.world import NAME, World, started
from tt_core.engine.dispatch import wrap
from tt_core.engine.errors import PluginError
from tt_core.engine.heap import aligned
from tt_core.engine.hookspecs import hookimpl
from tt_learn.autograd.backward import Backward, Roots
from tt_learn.autograd.errors import GradientError
from tt_learn.autograd.graph import Edge, Node, edge_of
from tt_learn.autograd.hooks import HookedBackward
from tt_learn.autograd.tensor import Tensor

BUCKET = 4 << 20
"""Bytes of gradients that travel together: large enough that a message's own cost is small, small enough that the first
one leaves early."""


class Bucket:
    """Gradients of one dtype that travel together."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.gradients: list[tuple[int, Any]] = []  # the id of a leaf, and its gradient
        self.nbytes = 0

    def add(self, leaf: Tensor, g: Tensor) -> None:
        """Put a gradient in."""
        self.gradients.append((id(leaf), g))
        self.nbytes += g.data.nbytes

    def send(self) -> None:
        """Starts the sum, which continues while backward computes."""
        self.flat = np.concatenate([g.data.reshape(-1) for _, g in self.gradients])
        self.request = self.world.comm.Iallreduce(_in_place(), self.flat)

    def progress(self) -> None:
        """Let MPI work on what has arrived; it has no thread of its own."""
        self.request.Test()

    def receive(self) -> Iterator[tuple[int, Any]]:
        """Wait for all processes; the id of each leaf and its mean gradient, in memory of its own."""
        self.request.Wait()
        at = 0
        for leaf, g in self.gradients:
            total = self.flat[at : at + g.data.size].reshape(g.data.shape)
            yield leaf, wrap(np.divide(total, self.world.size, out=aligned(total.shape, total.dtype)))
            at += g.data.size


class Reduction:
    """The gradients of one backward pass on their way."""

    def __init__(self, world: World, walk: Backward, roots: Roots) -> None:
        self.world, self.walk = world, walk
        self.missing = uses_of_leaves(roots)
        self.check_alike()
        self.sent: list[Bucket] = []
        self.filling: dict[Any, Bucket] = {}  # by dtype
        self.collected: dict[int, Any] = {}  # the gradients in buckets, by the id of the leaf
        self.reduced: dict[int, Any] = {}
        self._add, self._visit, self._finish = walk.add, walk.visit, walk.finish
        walk.add, walk.visit, walk.finish = self.add, self.visit, self.finish  # type: ignore[method-assign]

    def release(self) -> None:
        """Give the walk its own methods back: else the two refer to each other, and keep the gradients, the buckets
        and the means until the garbage collector runs."""
        del self.walk.add, self.walk.visit, self.walk.finish

    def check_alike(self) -> None:
        """Raise `GradientError` unless all processes recorded the same graph: else they would wait for each other."""
        seen = repr([(leaf.shape, count) for leaf, count in self.missing.values()])
        digest = hashlib.sha256(seen.encode()).digest()
        if len(set(self.world.comm.allgather(digest))) > 1:
            raise GradientError(
                "data-parallel: the processes computed different graphs, so their gradients cannot be added; "
                "the model must not choose its layers by its data"
            )

    def add(self, edge: Edge, g: Tensor) -> None:
        """Adds a gradient; when the last one of a leaf has arrived, the sum is put into a bucket."""
        self._add(edge, g)
        leaf = edge[0]
        if id(leaf) in self.missing and not isinstance(leaf, Node):
            _, count = self.missing[id(leaf)]
            self.missing[id(leaf)] = leaf, count - 1
            if count == 1:
                self.collect(leaf, self.walk.leaves[id(leaf)][1])

    def collect(self, leaf: Tensor, g: Tensor) -> None:
        """Put a gradient into the bucket of its dtype, and send that when it is full."""
        self.collected[id(leaf)] = g
        bucket = self.filling.setdefault(g.dtype, Bucket(self.world))
        bucket.add(leaf, g)
        if bucket.nbytes >= BUCKET:
            self.send(self.filling.pop(g.dtype))

    def send(self, bucket: Bucket) -> None:
        """Send a bucket."""
        bucket.send()
        self.sent.append(bucket)

    def visit(self, node: Node, gradients: list[Any]) -> None:
        """Computes while messages are sent."""
        self._visit(node, gradients)
        if self.sent:
            self.sent[-1].progress()

    def finish(self, leaf: Tensor, g: Tensor) -> None:
        """Hand the mean gradient to its leaf. The first call comes when backward has computed everything."""
        if not self.reduced:
            self.conclude()
        if self.collected[id(leaf)] is not g:
            raise GradientError("data-parallel: a gradient changed after it was sent; unplug it for this model")
        self._finish(leaf, self.reduced[id(leaf)])

    def conclude(self) -> None:
        """Sends the remaining buckets in order, and waits for all of them."""
        for leaf, g in self.walk.leaves.values():
            if id(leaf) not in self.collected:
                self.collect(leaf, g)
        for bucket in self.filling.values():
            self.send(bucket)
        for bucket in self.sent:
            self.reduced.update(bucket.receive())


def uses_of_leaves(roots: Roots) -> dict[int, tuple[Any, int]]:
    """How many gradients will arrive at each leaf, by its id, in the order in which they are met.

    Nothing is known of leaves that a recomputed part of a graph may hold (`Node.open`): then nothing is said of any.
    """
    found: dict[int, tuple[Any, int]] = {}
    seen: set[int] = set()
    stack = [edge_of(root)[0] for root, _ in roots]
    while stack:
        at = stack.pop()
        if not isinstance(at, Node):
            found[id(at)] = (at, found.get(id(at), (at, 0))[1] + 1)
        elif at.open:
            return {}
        elif at.number not in seen:
            seen.add(at.number)
            stack += [edge[0] for edge in at.parents if edge is not None]
    return found


def _in_place() -> Any:
    from mpi4py import MPI  # type: ignore[import-not-found,import-untyped,unused-ignore]

    return MPI.IN_PLACE


def check_connected(comm: Any) -> None:
    """Raise `PluginError` if several processes were started, but each knows itself alone."""
    if started() and comm.Get_size() == 1:
        raise PluginError(
            f"{NAME}: {started()} processes were started, but each is alone: mpi4py runs on another MPI than what "
            f"started them; use that MPI's mpiexec, or srun --mpi=pmi2 (MPICH) or --mpi=pmix (Open MPI)"
        )


class DataParallel:
    """What `use("data-parallel")` plugs in; the communicator is mpi4py's COMM_WORLD, or the one that is given."""

    def __init__(self, comm: Any = None) -> None:
        self._comm = comm
        self._world: World | None = None

    @property
    def world(self) -> World:
        """The processes; MPI is started when this is first asked. Raises `PluginError` without mpi4py or MPI."""
        if self._world is None:
            if self._comm is None:
                try:
                    from mpi4py import MPI  # type: ignore[import-not-found,import-untyped,unused-ignore]
                except (ImportError, RuntimeError) as error:
                    why = str(error).splitlines()[0]
                    raise PluginError(
                        f"{NAME} needs mpi4py and MPI: pip install 'tinygpt[mpi]' mpich ({why:.80})"
                    ) from None
                self._comm = MPI.COMM_WORLD
                check_connected(self._comm)
            self._world = World(self._comm)
        return self._world

    @hookimpl
    def tt_plugged(self) -> None:
        """Starts MPI, so that a missing library is reported at once."""
        _ = self.world

    @hookimpl
    def tt_wrap_backward(self, call: Callable[[Backward, Roots], None]) -> Callable[[Backward, Roots], None] | None:
        def together(walk: Backward, roots: Roots) -> None:
            if type(walk) in (Backward, HookedBackward):  # `grad()` changes no parameter
                if walk.create_graph:
                    raise GradientError(f"{NAME}: gradients that have gradients cannot be sent; unplug it for them")
                reduction = Reduction(self.world, walk, roots)
                try:
                    return call(walk, roots)
                finally:
                    reduction.release()
            call(walk, roots)

        return together if self.world.size > 1 else None


plugin = DataParallel()
