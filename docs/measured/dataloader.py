"""Numbers and pictures of lesson 08, dataloader."""

from __future__ import annotations

import functools
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

import tt_core as tt
from measured import fastest, number, picture
from measured._memory import peak_bytes
from tt_data import BlockShuffleSampler, DataLoader, Dataset, MemmapDataset, RandomSampler, TensorDataset
from tt_data.dataloader import default_collate
from tt_learn.svg import circle, framed

READING = 0.010  # seconds for a batch, as from a slow disk


class SlowRows(Dataset):
    """Batches that a disk takes 10 ms to read. Waiting for a disk, as sleeping, leaves the core to others."""

    def __len__(self) -> int:
        return 20 * 32

    def __getitems__(self, indices: Any) -> Any:
        time.sleep(READING)
        return (np.zeros((len(indices), 64), np.float32),)


def waiting_share(prefetch: int) -> float:
    """The share of an epoch in which the loop waits for batches; a step computes for as long as a batch is read."""
    loader = DataLoader(SlowRows(), batch_size=32, prefetch=prefetch)
    start = time.perf_counter()
    for _ in loader:
        end = time.perf_counter() + READING
        while time.perf_counter() < end:
            np.dot(_WORK, _WORK)  # NumPy releases the interpreter's lock, so the thread that reads can go on
    return loader.wait_seconds / (time.perf_counter() - start)


_WORK = np.ones((128, 128), np.float32)


@number(0.1, 0.9, ".0%")
def waiting_without_prefetch() -> float:
    """The share of time in which the loop waits when it reads each batch itself."""
    return waiting_share(0)


@number(0, 0.6, ".0%")
def waiting_with_prefetch() -> float:
    """The same when a thread has two batches in preparation."""
    return min(waiting_share(2) for _ in range(3))


ROWS = TensorDataset(np.zeros((4096, 784), np.float32), np.zeros(4096, np.int64))
BATCH = np.random.default_rng(0).permutation(4096)[:256]


@number(1.1, 1000, ".0f")
def rows_times_batch() -> float:
    """How many times as long it takes to fetch 256 rows one by one and stack them as to fetch them in one call."""
    one_by_one = lambda: default_collate([ROWS[int(i)] for i in BATCH])  # noqa: E731
    single, whole = fastest(one_by_one, lambda: ROWS.__getitems__(BATCH))
    return single / whole


@functools.cache
def mapped_megabytes() -> tuple[float, float]:
    """The size of a file in megabytes, and the peak of allocated memory of an epoch over it."""
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/x.npy"
        np.save(path, np.zeros((32768, 256), np.float32))
        data = MemmapDataset(path)

        def epoch() -> None:
            for _ in DataLoader(data, batch_size=256, shuffle=True):
                pass

        peak = peak_bytes(epoch)
        return 32768 * 256 * 4 / 1e6, peak / 1e6


@number(33, 34, ".0f")
def file_megabytes() -> float:
    """The size of the file."""
    return mapped_megabytes()[0]


@number(0.2, 8, ".1f")
def epoch_megabytes() -> float:
    """The memory that an epoch over the file allocates."""
    return mapped_megabytes()[1]


def _order(sampler: Callable[[], Any]) -> Iterator[tuple[float, float]]:
    tt.manual_seed(0)
    for place, index in enumerate(sampler().indices()):
        yield float(place), float(index)


@picture
def shuffled_orders() -> str:
    """Which sample is read when: a full shuffle (orange), and a shuffle of blocks within windows (blue)."""
    rows = range(600)
    full = list(_order(lambda: RandomSampler(rows)))
    blocks = list(_order(lambda: BlockShuffleSampler(rows, block=50, window=2)))

    def drawn(x_at: Any, y_at: Any) -> list[str]:
        return [
            circle(x_at(x), y_at(y), 2, colour)
            for points, colour in ((full, "#d9541e"), (blocks, "#1f6fb4"))
            for x, y in points
        ]

    return framed(full + blocks, drawn, "Order of reading", "read as number", "sample")
