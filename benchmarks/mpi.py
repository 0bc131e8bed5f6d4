"""What adding up the gradients of several processes costs, in a training step of a GPT 6/6/384.

    TT_NUM_THREADS=1 mpiexec -n 2 python benchmarks/mpi.py [--rounds 20] [--batch 4] [--plugin jit ...]

Every process computes its share of each batch. A round has one step without the plugin `data-parallel` and one with it,
in turn, so that what else the machine does meets both. Three figures:

- wall: the time of the step with the plugin over the time without it. It includes waiting for the slower process, so it
  means something on a quiet machine with a core for each process only.
- processor: the same ratio of processor time. MPI spins while it waits, so waiting counts here too.
- work: the processor time of packing, sending, adding, dividing and unpacking the same gradients when no backward pass
  runs and both processes begin together, over the step without the plugin. The minimum of all rounds is little
  disturbed by other programs.

Then where the time goes: seconds in each part of the plugin, and how much of the gradients had been sent before
backward ended.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

import tt_core
from tinygpt.distributed import plugin as parallel
from tinygpt.distributed.plugin import Bucket, DataParallel, Reduction
from tt_core import manual_seed, tensor
from tt_language import GPT, GPTConfig, next_token_loss
from tt_learn import AdamW, clip_grad_norm_

VOCAB, CONTEXT = 1024, 256


def main() -> None:
    options = arguments()
    data_parallel = DataParallel()
    world = data_parallel.world
    with tt_core.use(*options.plugin):
        step, gradients = step_of(world, options.batch)
        step()
        alone, together, work = Times(), Times(), Times()
        spent: dict[str, float] = defaultdict(float)
        for _ in range(options.rounds):
            world.comm.Barrier()
            with alone.measured():
                step()
            world.comm.Barrier()
            with tt_core.use(data_parallel), timed_parts(spent), together.measured():
                step()
            world.comm.Barrier()
            with work.measured():
                reduce_all(world, gradients())
    if world.first:
        report(alone, together, work, spent, options.rounds, world.size)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--batch", type=int, default=4, help="windows of all processes together")
    parser.add_argument("--plugin", action="append", default=[])
    return parser.parse_args()


def step_of(world: Any, batch: int) -> tuple[Callable[[], None], Callable[[], list[Any]]]:
    """A training step on this process's share of a batch, and the gradients that it leaves."""
    manual_seed(0)
    model = GPT(GPTConfig(VOCAB, CONTEXT, 6, 6, 384, bias=False))
    optimizer = AdamW(model.parameters(), lr=1e-3)
    mine = world.share(batch)
    ids = np.random.default_rng(0).integers(VOCAB, size=(batch, CONTEXT + 1))[mine]
    inputs, targets = tensor(ids[:, :-1]), tensor(ids[:, 1:])

    def step() -> None:
        optimizer.zero_grad()
        next_token_loss(model(inputs), targets).backward()
        clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()

    return step, lambda: [p.grad for p in model.parameters()]


def reduce_all(world: Any, gradients: list[Any]) -> None:
    """What the plugin does to the gradients of one step, without a backward pass around it."""
    bucket, sent = Bucket(world), []
    for g in reversed(gradients):
        bucket.add(g, g)
        if bucket.nbytes >= parallel.BUCKET:
            bucket.send()
            sent.append(bucket)
            bucket = Bucket(world)
    if bucket.gradients:
        bucket.send()
        sent.append(bucket)
    for each in sent:
        for _ in each.receive():
            pass


class Times:
    """Wall and processor seconds of each round."""

    def __init__(self) -> None:
        self.wall: list[float] = []
        self.processor: list[float] = []

    @contextmanager
    def measured(self) -> Iterator[None]:
        wall, processor = time.perf_counter(), time.process_time()
        yield
        self.wall.append(time.perf_counter() - wall)
        self.processor.append(time.process_time() - processor)


@contextmanager
def timed_parts(spent: dict[str, float]) -> Iterator[None]:
    """Adds up the seconds of processor time in each part of the plugin, and what was sent early."""
    parts = [
        (Bucket, "send"), (Bucket, "progress"), (Reduction, "check_alike"), (Reduction, "conclude"),
    ]  # fmt: skip
    originals = [(owner, name, getattr(owner, name)) for owner, name in parts]
    ended = False

    def wrapped(name: str, original: Callable[..., Any]) -> Callable[..., Any]:
        def call(self: Any, *given: Any) -> Any:
            nonlocal ended
            ended = ended or name == "conclude"
            started = time.thread_time()
            result = original(self, *given)
            spent[name] += time.thread_time() - started
            if name == "send":
                spent["bytes after backward" if ended else "bytes during backward"] += self.nbytes
            return result

        return call

    for owner, name, original in originals:
        setattr(owner, name, wrapped(name, original))
    try:
        yield
    finally:
        for owner, name, original in originals:
            setattr(owner, name, original)


def report(alone: Times, together: Times, work: Times, spent: dict[str, float], rounds: int, size: int) -> None:
    def ratios(name: str) -> str:
        pairs = zip(getattr(together, name), getattr(alone, name))
        found = [with_plugin / without for with_plugin, without in pairs]
        least = min(getattr(together, name)) / min(getattr(alone, name))
        return f"median {statistics.median(found):.3f} ({min(found):.3f} to {max(found):.3f}), minima {least:.3f}"

    ms = 1000 / rounds
    print(f"{size} processes, {rounds} rounds; a step alone: {min(alone.wall) * 1000:.0f} ms at best,", end=" ")
    print(f"{min(alone.processor) * 1000:.0f} ms of processor time")
    print(f"wall, with over without the plugin       {ratios('wall')}")
    print(f"processor, with over without the plugin  {ratios('processor')}")
    share = min(work.processor) / min(alone.processor)
    print(f"work of the reduction alone              {min(work.processor) * 1000:.1f} ms, {share:.3f} of a step")
    early, late = spent.pop("bytes during backward", 0.0), spent.pop("bytes after backward", 0.0)
    print(f"{early / (early + late):.0%} of {(early + late) / rounds / 1e6:.1f} MB were sent while backward computed")
    print("ms a step in", ", ".join(f"{name} {seconds * ms:.1f}" for name, seconds in spent.items()))


if __name__ == "__main__":
    main()
