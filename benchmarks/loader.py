"""The data loader on a dataset larger than memory: what it holds resident, and how long training waits for it.

    python benchmarks/loader.py [--gigabytes 8] [--folder DIR] [--workers 2] [--steps 200]

Writes that many gigabytes of generated 32x32 images as shards, and removes them at the end. Then three figures:

- stream: all of it in order, batches of 256; memory resident above what the program had before it wrote the shards;
- waiting: share of the time that a training step of a small convolutional network waits for its batch, with the thread
  of `prefetch` and with worker processes;
- order: batches of a shuffled epoch over the first samples, from 4 workers and from none, compared byte by byte.
"""

from __future__ import annotations

import argparse
import itertools
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import tt_core  # before NumPy, so that BLAS starts no threads

# isort: split
import numpy as np

from tt_data import Conv2d, DataLoader, Flatten, MaxPool2d, ShardedDataset, Subset, write_shards
from tt_learn import Adam

BATCH, SHAPE = 256, (3, 32, 32)


def generated(total: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Batches of noise and labels, `total` bytes of images in all."""
    rng, count = np.random.default_rng(0), 4096
    for _ in range(total // (count * int(np.prod(SHAPE)))):
        yield rng.integers(256, size=(count, *SHAPE), dtype=np.uint8), rng.integers(10, size=count)


def resident() -> int:
    """Bytes of this process in memory now (Linux)."""
    for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError("/proc/self/status has no VmRSS")


def stream(dataset: ShardedDataset, start: int) -> str:
    most, read, begun = 0, 0, time.perf_counter()
    for images, labels in DataLoader(dataset, BATCH, prefetch=2):
        read += images.nbytes + labels.nbytes
        most = max(most, resident() - start)
    seconds = time.perf_counter() - begun
    return f"{read / 1e9:.2f} GB in {seconds:.0f} s, at most {most / 1e6:.0f} MB resident above the start"


def waiting(dataset: ShardedDataset, steps: int, **how: int) -> str:
    """Share of `steps` training steps that was spent waiting for a batch; the first ones, which fill queues, too."""
    layers = [Conv2d(3, 16, 3, padding=1), tt_core.ReLU(), MaxPool2d(2), Conv2d(16, 32, 3, padding=1), tt_core.ReLU()]
    model = tt_core.Sequential(*layers, MaxPool2d(2), Flatten(), tt_core.Linear(32 * 8 * 8, 10))
    optimizer, loss = Adam(model.parameters()), tt_core.CrossEntropyLoss()
    few = Subset(dataset, range(min(len(dataset), (steps + 1) * BATCH)))
    with DataLoader(few, BATCH, shuffle=True, drop_last=True, **how) as loader:
        batches = iter(loader)
        next(batches)  # workers have started
        begun, waited = time.perf_counter(), loader.wait_seconds
        for images, labels in itertools.islice(batches, steps):
            optimizer.zero_grad()
            loss(model(images.float() / 255), labels).backward()
            optimizer.step()
        seconds = time.perf_counter() - begun
        share = (loader.wait_seconds - waited) / seconds
    return f"{share:.1%} of {seconds / steps * 1e3:.0f} ms a step, {steps} steps"


def same_order(dataset: ShardedDataset, samples: int) -> str:
    def epoch(workers: int) -> list[bytes]:
        tt_core.manual_seed(0)
        few = Subset(dataset, range(min(len(dataset), samples)))
        with DataLoader(few, BATCH, shuffle=True, num_workers=workers) as loader:
            return [images.numpy().tobytes() + labels.numpy().tobytes() for images, labels in loader]

    alone, shared = epoch(0), epoch(4)
    differing = sum(a != b for a, b in itertools.zip_longest(alone, shared))
    return f"{differing} of {len(alone)} batches differ"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--gigabytes", type=float, default=8)
    parser.add_argument("--folder", type=Path, help="where the shards are written (default: the temporary folder)")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--steps", type=int, default=200)
    options = parser.parse_args()
    start = resident()
    folder = Path(tempfile.mkdtemp(prefix="tinytorch-loader-", dir=options.folder))
    try:
        dataset = ShardedDataset(write_shards(folder / "shards", generated(int(options.gigabytes * 1e9))))
        print(f"stream   {stream(dataset, start)}", flush=True)
        print(f"waiting  prefetch: {waiting(dataset, options.steps, prefetch=2)}", flush=True)
        how = {"num_workers": options.workers}
        print(f"waiting  {options.workers} workers: {waiting(dataset, options.steps, **how)}", flush=True)
        print(f"order    4 workers against none: {same_order(dataset, 50_000)}")
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
