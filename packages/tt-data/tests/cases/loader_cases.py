"""Datasets that tests send to worker processes."""

# ruff: noqa: NPY002  (the legacy generator is what user code draws from)
from __future__ import annotations

import os
import random
import signal
import threading
import time
from typing import NamedTuple

import numpy as np

import tt_core
from tt_core.engine.dispatch import quietly
from tt_data import Dataset, IterableDataset, get_worker_info
from tt_data.dataloader.seeding import generator


class Numbers(Dataset):
    """Sample i is (i, -i)."""

    def __init__(self, count: int) -> None:
        self.count = count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> tuple[np.ndarray, int]:
        return np.full((3, 4), index, np.float32), -index


class Slow(Numbers):
    def __getitem__(self, index: int) -> tuple[np.ndarray, int]:
        time.sleep(0.01)
        return super().__getitem__(index)


class Chancy(Numbers):
    """Draws from the loader's generator in the dataset itself."""

    def __getitem__(self, index: int) -> tuple[float, int]:
        return float(generator().random()), index


def every_generator() -> list[float]:
    """A number from each generator that the code of a user draws from."""
    return [random.random(), np.random.random(), float(tt_core.rand(()).item())]


class ChancyEverywhere(Numbers):
    """Draws from every generator there is."""

    def __getitem__(self, index: int) -> np.ndarray:
        return np.array(every_generator())


def chancy_collate(samples: list[np.ndarray]) -> np.ndarray:
    return np.stack([*samples, np.array(every_generator())])


def chancy_transform(x: np.ndarray) -> np.ndarray:
    return np.stack([*x, np.array(every_generator())])


class ShuffledStream(IterableDataset):
    """0 ... count - 1, shuffled as a user would: by `random`, by `np.random`, and while it is read."""

    def __init__(self, count: int) -> None:
        self.count = count

    def __iter__(self):
        numbers = list(range(self.count))
        random.shuffle(numbers)
        np.random.shuffle(numbers)
        while numbers:
            yield numbers.pop(random.randrange(len(numbers)))


class SharingStream(IterableDataset):
    """Takes its own share of the samples, as PyTorch's documentation shows."""

    def __iter__(self):
        info = get_worker_info()
        return iter(range(23)) if info is None else iter(range(info.id, 23, info.num_workers))


class WhoAmI(Numbers):
    def __getitem__(self, index: int) -> tuple[int, int, int, bool]:
        info = get_worker_info()
        return (-1, -1, -1, False) if info is None else (info.id, info.num_workers, info.seed, info.dataset is self)


class WhoAmIElsewhere(Numbers):
    """Asks in a kernel's context and in a thread of its own."""

    def __getitem__(self, index: int) -> tuple[bool, bool]:
        found: list[bool] = []
        thread = threading.Thread(target=lambda: found.append(get_worker_info() is not None))
        thread.start()
        thread.join()
        return quietly(get_worker_info) is not None, found[0]


class Growing(Numbers):
    """Each sample larger than the one before: slots must grow, in every worker, again and again."""

    def __getitem__(self, index: int) -> np.ndarray:
        return np.full((index + 1) * 5000, index, np.float32)


class Failing(Numbers):
    def __getitem__(self, index: int) -> tuple[np.ndarray, int]:
        if index == 13:
            raise KeyError("sample thirteen is cursed")
        return super().__getitem__(index)


class Suicidal(Numbers):
    """Kills its own worker at sample 13, as the system does when memory runs out."""

    def __init__(self, count: int, sign: int = 9) -> None:
        super().__init__(count)
        self.sign = sign

    def __getitem__(self, index: int) -> tuple[np.ndarray, int]:
        if index == 13:
            os.kill(os.getpid(), self.sign)
        return super().__getitem__(index)


class Exiting(Numbers):
    def __getitem__(self, index: int) -> tuple[np.ndarray, int]:
        if index == 13:
            os._exit(7)
        return super().__getitem__(index)


class Hanging(Numbers):
    def __getitem__(self, index: int) -> tuple[np.ndarray, int]:
        if index == 13:
            time.sleep(3600)
        return super().__getitem__(index)


class Unloadable(Numbers):
    def __setstate__(self, state: dict) -> None:
        raise RuntimeError("cannot be set up here")


class Stream(IterableDataset):
    def __init__(self, count: int, chance: bool = False) -> None:
        self.count, self.chance = count, chance

    def __iter__(self):
        for i in range(self.count):
            yield (float(generator().random()) if self.chance else float(i)), i


class Pair(NamedTuple):
    image: np.ndarray
    name: str


class Named(Numbers):
    def __getitem__(self, index: int) -> dict:
        return {"pair": Pair(np.full(2, index), f"sample {index}"), "list": [index, 0.5]}


class Listed(Dataset):
    """The given samples."""

    def __init__(self, samples: list) -> None:
        self.samples = samples

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> object:
        return self.samples[index]


class Threads(Numbers):
    """Tells its worker's BLAS setting."""

    def __getitem__(self, index: int) -> str:
        return os.environ.get("OPENBLAS_NUM_THREADS", "unset")


def collate_sum(samples: list) -> np.ndarray:
    return np.sum([x for x, _ in samples], axis=0)


def mark_worker(index: int) -> None:
    os.environ["TT_TEST_WORKER"] = str(index)


def fail_at_start(index: int) -> None:
    raise OSError(f"worker {index} finds no disk")


def ignore_sigterm(index: int) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
