"""The exercises of module 08, dataloader."""

from __future__ import annotations

import json
from collections import namedtuple
from collections.abc import Iterator
from itertools import count, islice
from types import SimpleNamespace
from typing import Any

import numpy as np

import tt_core
from tt_core.course.exercises import Exercise
from tt_core.course.trial import Trial
from tt_data.dataloader import (
    BatchSampler,
    BlockShuffleSampler,
    ConcatDataset,
    DataLoader,
    IterableDataset,
    RandomSampler,
    SequentialSampler,
    TensorDataset,
    WeightedRandomSampler,
    collate,
    seeding,
)
from tt_data.dataloader.epoch import Epoch
from tt_data.dataloader.workers.fetch import Task

DATASET, SAMPLERS, COLLATE, SEEDING, LOADER, EPOCH = (
    f"tt_data.dataloader.{name}" for name in ("dataset", "samplers", "collate", "seeding", "loader", "epoch")
)


def numbers(n: int) -> TensorDataset:
    """The numbers below n as a dataset."""
    return TensorDataset(np.arange(n))


def drawn(sampler: Any, seed: int) -> list[int]:
    """The indices that a sampler draws after `seed`."""
    tt_core.manual_seed(seed)
    return [int(i) for i in sampler.indices()]


# --- datasets


def sample_is_a_row_of_each(t: Trial) -> None:
    """Sample i is the tuple of the rows i of all arrays."""
    pair = TensorDataset(np.array([[1, 2], [3, 4], [5, 6]], np.float32), np.array([7, 8, 9]))
    t.call(pair.__getitem__, 1, why="one row of the first array, and one of the second")
    t.call(pair.__getitem__, -1, why="NumPy counts negative indices from the end")
    t.call(TensorDataset(np.arange(3)).__getitem__, 0, why="a tuple even if there is one array")
    t.call(TensorDataset(t.normal(4, 2, 3), t.normal(4), np.arange(4)).__getitem__, 2)


def samples_end(t: Trial) -> None:
    """A `for` loop over a dataset ends after the last sample."""
    three: Any = numbers(3)
    t.show(
        "[x for (x,) in TensorDataset(arange(3))]",
        lambda: [int(x) for (x,) in islice(three, 10)],
        why="an index that is too large raises IndexError, as arrays do; a loop ends there",
    )


def index_finds_its_dataset(t: Trial) -> None:
    """Indices go on from one dataset to the next."""
    joined = ConcatDataset([[10, 11], [20], [30, 31]])
    t.show("joined = ConcatDataset([[10, 11], [20], [30, 31]]); joined[0]", lambda: joined[0])
    t.show(
        "[joined[i] for i in range(5)]",
        lambda: [joined[i] for i in range(5)],
        why="which dataset has sample i? cumulative_sizes is [2, 3, 5]; then subtract where it starts",
    )
    t.show("joined[-1], joined[-5]", lambda: [joined[-1], joined[-5]], why="count from the end of all: wrap_index")
    gaps: Any = ConcatDataset([[], [10], [], [], [11]])
    t.show(
        "list of ConcatDataset([[], [10], [], [], [11]])",
        lambda: list(gaps),
        why="an empty dataset has no sample: the first cumulative size that is larger than i",
    )


# --- from samples to batches


Point = namedtuple("Point", "x y")


def leaves_in_their_places(t: Trial) -> None:
    """The function reaches every leaf, and tuples, lists and dicts stay what they are."""

    def twice(x: Any) -> Any:
        return x * 2

    t.call(collate.map_leaves, twice, 3, why="a leaf alone")
    t.call(collate.map_leaves, twice, [1, 2])
    t.call(collate.map_leaves, twice, {"a": 1, "b": "x"}, why="a string is a leaf")
    t.call(collate.map_leaves, twice, [(1, [2, {"a": 3}]), 4], why="call map_leaves for each part")
    t.show("map_leaves((1, [2])) as text", lambda: repr(collate.map_leaves(twice, (1, [2]))), why="rebuild(batch, ...)")
    t.show("map_leaves(Point(x=1, y=2)) as text", lambda: repr(collate.map_leaves(twice, Point(1, 2))))


def samples_are_stacked(t: Trial) -> None:
    """Samples become rows of a new first dimension."""
    t.call(collate.default_collate, [1, 2, 3])
    t.call(collate.default_collate, [np.zeros(2), np.ones(2)], why="stack makes one array of several")
    t.call(collate.default_collate, [0.5, 1.0], why="Python floats become float32, which stack does")
    t.call(collate.default_collate, [np.ones((2, 2), np.float32)], why="a batch of one has a first dimension too")
    t.call(collate.default_collate, ["a", "bc"], why="there is no tensor of strings: they stay a list")


def fields_are_stacked_apart(t: Trial) -> None:
    """A list of tuples becomes a tuple of batches, field by field."""
    t.call(collate.default_collate, [(np.float32(1), 2), (np.float32(3), 4)], why="zip(*samples) has the fields")
    t.call(collate.default_collate, [{"x": 1, "y": "a"}, {"x": 2, "y": "b"}])
    t.call(collate.default_collate, [{"y": "b", "x": 1}, {"x": 2, "y": "a"}], why="look a field up by its name")
    t.call(collate.default_collate, [(1, (2, {"a": 3.0})), (4, (5, {"a": 6.0}))], why="fields have fields: recursion")
    points = [Point(1, 2), Point(3, 4)]
    t.show(
        "type of default_collate([Point(1, 2), Point(3, 4)])",
        lambda: type(collate.default_collate(points)).__name__,
        why="rebuild(first, ...)",
    )


# --- order


def every_sample_once(t: Trial) -> None:
    """All samples once, in an order that the seed decides."""
    sampler = RandomSampler(range(50))
    t.show("sorted(RandomSampler(range(5)).indices())", lambda: sorted(drawn(RandomSampler(range(5)), 0)))
    t.show("dtype of the indices", lambda: str(np.asarray(sampler.indices()).dtype), why="one array, no list")
    t.show("whether the order of 50 samples is changed", lambda: drawn(sampler, 0) != list(range(50)))
    t.show(
        "whether the same seed gives the same order",
        lambda: drawn(sampler, 1) == drawn(sampler, 1),
        why="draw from seeding.generator(), whose seed the loader sets",
    )
    t.show("whether another seed gives another order", lambda: drawn(sampler, 1) != drawn(sampler, 2))
    t.show("whether the next epoch has another order", lambda: drawn(sampler, 1) != [int(i) for i in sampler.indices()])
    t.show("indices of no samples", lambda: [int(i) for i in RandomSampler([]).indices()])


def draws_may_be_more_or_fewer(t: Trial) -> None:
    """`num_samples` draws: a part of a permutation, or several of them, or with replacement."""
    few = RandomSampler(range(10), num_samples=4)
    t.show("number of different indices, num_samples=4 of 10", lambda: len(set(drawn(few, 0))))
    many = RandomSampler(range(4), num_samples=10)
    t.show("number of indices, num_samples=10 of 4", lambda: len(drawn(many, 0)))
    t.show(
        "the first 4 and the second 4 of them, sorted",
        lambda: [sorted(drawn(many, 0)[i : i + 4]) for i in (0, 4)],
        why="each sample comes once before one comes twice: whole permutations, one after another",
    )
    t.show(
        "whether the two permutations differ",
        lambda: any(drawn(many, seed)[:4] != drawn(many, seed)[4:8] for seed in range(5)),
    )
    free = RandomSampler(range(4), replacement=True, num_samples=4000)
    t.show(
        "share of each of 4 samples in 4000 draws with replacement",
        lambda: np.bincount(drawn(free, 0), minlength=4) / 4000,
        atol=0.05,
    )
    again = RandomSampler(range(100), replacement=True)
    t.show("whether some of 100 draws with replacement are equal", lambda: len(set(drawn(again, 0))) < 90)


def weights_decide(t: Trial) -> None:
    """Samples with larger weights are drawn more often."""
    sampler = WeightedRandomSampler([0, 1, 3], num_samples=4000)
    t.show(
        "share of each sample in 4000 draws with the weights 0, 1, 3",
        lambda: np.bincount(drawn(sampler, 0), minlength=3) / 4000,
        atol=0.05,
        why="self.weights add up to 1 already",
    )
    t.show("whether the same seed gives the same draws", lambda: drawn(sampler, 1) == drawn(sampler, 1))
    rest = WeightedRandomSampler([0, 1, 3, 100], num_samples=3, replacement=False)
    t.show(
        "sorted draws of 3 of the weights 0, 1, 3, 100 without replacement",
        lambda: sorted(drawn(rest, 0)),
        why="without replacement, no sample comes twice",
    )


def batches_of(sampler: Any, size: int, drop_last: bool) -> list[list[int]]:
    """The batches as lists."""
    return [[int(i) for i in batch] for batch in BatchSampler(sampler, size, drop_last)]


def indices_come_in_groups(t: Trial) -> None:
    """Groups of `batch_size` indices; the last may be shorter, or is dropped."""
    five, six = SequentialSampler(range(5)), SequentialSampler(range(6))
    t.show("batches of 2 of 0 ... 5", lambda: batches_of(six, 2, False), why="no empty batch at the end")
    t.show("batches of 2 of 0 ... 4", lambda: batches_of(five, 2, False), why="what is left is a batch too")
    t.show("the same with drop_last", lambda: batches_of(five, 2, True))
    t.show("batches of 3 of 0 ... 5 with drop_last", lambda: batches_of(six, 3, True), why="a whole last batch stays")
    t.show("batches of 9 of 0 ... 4", lambda: batches_of(five, 9, False))
    t.show("batches of no samples", lambda: batches_of(SequentialSampler([]), 2, False))


def groups_are_read_as_needed(t: Trial) -> None:
    """The order may be endless: only what a batch needs is read."""
    read: list[int] = []

    def order() -> Iterator[int]:
        for i in range(10_000):
            read.append(i)
            yield i

    t.show(
        "the first two batches of 3", lambda: [[int(i) for i in b] for b in islice(BatchSampler(order(), 3, True), 2)]
    )
    t.see("whether fewer than 20 indices were read for them", len(read) < 20, why="yield each batch once it is full")


def blocks_stay_near(t: Trial) -> None:
    """Blocks in random order, and the samples of each window of blocks in random order."""
    small = BlockShuffleSampler(range(18), block=4, window=2)
    t.show(
        "sorted indices of 18 samples in blocks of 4", lambda: sorted(drawn(small, 0)), why="the last block is shorter"
    )
    sampler = BlockShuffleSampler(range(240), block=20, window=2)

    def chunks() -> list[list[int]]:
        order = drawn(sampler, 3)
        return [order[i : i + 40] for i in range(0, 240, 40)]

    t.show(
        "number of different blocks in each window of 2 blocks",
        lambda: [len({i // 20 for i in chunk}) for chunk in chunks()],
        why="a window ends before the next one begins, so few shards are open at a time",
    )
    t.show("whether the blocks come in another order", lambda: [c[0] // 20 for c in chunks()] != list(range(0, 12, 2)))
    t.show(
        "whether some window holds blocks that are not neighbours",
        lambda: any(max(c) - min(c) > 39 for c in chunks()),
        why="first permute the blocks",
    )
    t.show(
        "whether the samples of each window are mixed",
        lambda: [len({i // 20 for i in chunk[:20]}) for chunk in chunks()],
        why="permute the samples of the window, not those of each block",
    )
    t.show("whether the same seed gives the same order", lambda: drawn(sampler, 1) == drawn(sampler, 1))
    t.show("indices of no samples", lambda: drawn(BlockShuffleSampler([], block=4), 0))


def streams_are_apart(t: Trial) -> None:
    """The same seed and number give the same numbers; any other pair gives others."""

    def first(seed: int, number: int) -> float:
        return float(seeding.stream(seed, number).random())

    t.show("whether stream(1, 2) draws the same twice", lambda: first(1, 2) == first(1, 2))
    t.show("whether stream(1, 2) and stream(1, 3) differ", lambda: first(1, 2) != first(1, 3), why="use the number")
    t.show("whether stream(1, 2) and stream(2, 2) differ", lambda: first(1, 2) != first(2, 2), why="use the seed")
    t.show(
        "whether stream(1, 2) and stream(2, 1) differ",
        lambda: first(1, 2) != first(2, 1),
        why="seed + number and seed * number are the same for both: give the generator both numbers",
    )
    t.show("whether stream(1, 23) and stream(12, 3) differ", lambda: first(1, 23) != first(12, 3))
    t.show(
        "number of different first draws of 20 seeds with 50 streams",
        lambda: len({first(seed, number) for seed in range(20) for number in range(50)}),
    )


# --- an epoch


class Pool:
    """Prepares nothing, and notes what is asked for."""

    def __init__(self) -> None:
        self.log: list[str] = []
        self.waiting: list[Any] = []

    def submit(self, task: Task) -> None:
        self.log.append(f"submit {task.number}: {list(task.indices)}, seed {task.seed}")
        self.waiting.append(np.asarray(task.indices))

    def take(self) -> Any:
        self.log.append("take")
        return self.waiting.pop(0)


def epoch(batches: int, ahead: int, first: int = 0) -> tuple[Any, Pool]:
    """An epoch of batches of 2, of which `ahead` are prepared ahead, and its pool."""
    pool = Pool()
    loader: Any = SimpleNamespace(
        prefetch=ahead,
        num_workers=0,
        _index_batches=lambda seed, start: iter([[2 * n, 2 * n + 1] for n in range(start, batches)]),
        _handed_out=lambda *_: None,
        _finished=lambda *_: None,
    )
    prepares: Any = pool
    return Epoch(loader, prepares, Task(0, first, 7, range(0))), pool


def batches_are_asked_for_ahead(t: Trial) -> None:
    """As many batches are under way as the loader prepares ahead, and no more."""
    t.show("what an epoch with prefetch=1 asks the pool for at once", lambda: epoch(5, 1)[1].log)
    t.show(
        "with prefetch=3", lambda: epoch(5, 3)[1].log, why="the number of the next task is 1 more; stop at self._depth"
    )
    t.show(
        "with prefetch=3 and two batches",
        lambda: epoch(2, 3)[1].log,
        why="next(self._indices, None) is None at the end",
    )
    t.show(
        "with prefetch=2, begun at batch 3",
        lambda: epoch(5, 2, first=3)[1].log,
        why="each task has the number of its batch: _replace(number=...)",
    )


def a_batch_makes_room_for_the_next(t: Trial) -> None:
    """When a batch is taken, one more is asked for, until there are none."""
    running, pool = epoch(4, 2)
    t.show("the first batch", lambda: next(running))
    t.see("the pool's log", pool.log, why="the next batch is prepared while the loop computes")
    t.show("the other batches", lambda: list(islice(running, 10)))
    t.see("the pool's log at the end", pool.log)


class Naturals(IterableDataset):
    """A stream without an end."""

    def __iter__(self) -> Iterator[int]:
        return count()


def state_says_where(t: Trial) -> None:
    """The epoch, its seed and the batches returned; and the batch size and number of samples it belongs to."""
    tt_core.manual_seed(5)
    loader = DataLoader(numbers(10), batch_size=2, shuffle=True, prefetch=3)
    t.show(
        "state of a new loader",
        lambda: sorted(loader.state_dict().items(), key=str),
        why='the keys are "epoch", "position", "seed", "batch_size" and "samples"; see __init__',
    )
    batches = iter(loader)
    next(batches), next(batches)
    t.show(
        "state after two batches",
        lambda: sorted(loader.state_dict().items(), key=str),
        why="batches that are prepared ahead do not count: self._position",
    )
    t.show("the same as JSON", lambda: json.dumps(loader.state_dict(), sort_keys=True))
    list(batches)
    t.show("state after the epoch", lambda: sorted(loader.state_dict().items(), key=str))
    t.show(
        "state of a loader of a stream",
        lambda: sorted(DataLoader(Naturals(), batch_size=2).state_dict().items(), key=str),
        why="a stream has no length; self._samples() is None for it",
    )


def values(batches: Any) -> list[list[int]]:
    """The batches of numbers as lists."""
    return [x.tolist() for (x,) in batches]


def epoch_goes_on(t: Trial) -> None:
    """A loader that gets a state returns the batches that were still to come."""
    tt_core.manual_seed(5)
    loader = DataLoader(numbers(10), batch_size=2, shuffle=True)
    batches = iter(loader)
    next(batches), next(batches)
    saved = {"epoch": 1, "position": 2, "seed": loader._seed, "batch_size": 2, "samples": 10}
    rest = values(batches)
    tt_core.manual_seed(99)
    other = DataLoader(numbers(10), batch_size=2, shuffle=True)
    t.step("load_state_dict of a state after two of five batches")
    other.load_state_dict(saved)
    t.show(
        "whether the batches are those that the first loader returned after its second",
        lambda: values(other) == rest,
        why="_seed gives the same order, _position leaves out what was read, _resuming tells __iter__",
    )
    t.show(
        "number of batches of the next epoch", lambda: len(values(other)), why="only one epoch goes on in its middle"
    )
    t.see("number of epochs started", other._epochs_started)


def resuming_twice_and_from_the_start(t: Trial) -> None:
    """A state can be used again, while an epoch is being read, and before any has begun."""
    tt_core.manual_seed(5)
    loader = DataLoader(numbers(8), batch_size=2, shuffle=True, prefetch=2)
    batches = iter(loader)
    next(batches)
    saved = {"epoch": 1, "position": 1, "seed": loader._seed, "batch_size": 2, "samples": 8}
    rest = values(batches)
    for _ in range(2):
        t.step("load_state_dict of the same state again, while an epoch is being read")
        loader.load_state_dict(saved)
        half = iter(loader)
        t.show("whether the next batch is the second", lambda it=half: next(it)[0].tolist() == rest[0])  # type: ignore[misc]
    t.step("load_state_dict, and the first batch of the epoch that goes on")
    loader.load_state_dict(saved)
    again = iter(loader)
    next(again)
    t.show(
        "whether the epoch that was being read before still returns its own batches",
        lambda: values(half) == rest[1:],
        why="it keeps its pool: where self._being_read(), set self._pool = None",
    )
    t.show("whether the new one does, too", lambda: values(again) == rest[1:])
    loader.close()
    fresh = DataLoader(numbers(4), batch_size=2, shuffle=True)
    t.step("load_state_dict of a state before the first epoch, whose seed is None")
    fresh.load_state_dict({"epoch": 0, "position": 0, "seed": None, "batch_size": 2, "samples": 4})
    t.show("all batches, sorted", lambda: sorted(x for batch in values(fresh) for x in batch))
    t.see("number of epochs started", fresh._epochs_started, why="without a seed, there is nothing to go on with")


EXERCISES = (
    Exercise(
        "TensorDataset.__getitem__",
        DATASET,
        2,
        (
            "A dataset of images and labels holds two arrays; sample i is image i and label i.",
            "self.arrays holds the arrays. Index each of them.",
            "return tuple(array[index] for array in self.arrays)",
        ),
        (sample_is_a_row_of_each, samples_end),
    ),
    Exercise(
        "ConcatDataset.__getitem__",
        DATASET,
        4,
        (
            "First find the dataset that has the sample, then the sample's index in it.",
            "self.cumulative_sizes[n] is where dataset n ends. Find the first that is larger than the index.",
            'index = wrap_index(index, len(self), "ConcatDataset"); part = bisect_right(self.cumulative_sizes, index); '
            "then index - self._start(part) is the index in self.datasets[part].",
        ),
        (index_finds_its_dataset,),
    ),
    Exercise(
        "map_leaves",
        COLLATE,
        3,
        (
            "There are three cases: a mapping, a tuple or list, and a leaf.",
            "Call map_leaves for each value; only a leaf is given to the function.",
            "A mapping becomes a dict of the mapped values by key, a tuple or list rebuild(batch, the mapped values).",
        ),
        (leaves_in_their_places,),
    ),
    Exercise(
        "default_collate",
        COLLATE,
        5,
        (
            "Look at the first sample: all others have its structure.",
            "For fields, collect the values of each field over all samples and collate them in the same way.",
            "dict: {key: default_collate([sample[key] for sample in samples]) for key in first}; tuple or list: "
            "rebuild(first, [default_collate(column) for column in zip(*samples)]); text: a list; else stack.",
        ),
        (samples_are_stacked, fields_are_stacked_apart),
    ),
    Exercise(
        "stream",
        SEEDING,
        3,
        (
            "Two numbers must decide the stream, so that batch 3 of seed 1 is not batch 1 of seed 3.",
            "NumPy's SeedSequence mixes a list of integers into one seed.",
            "np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, number])))",
        ),
        (streams_are_apart,),
    ),
    Exercise(
        "RandomSampler.indices",
        SAMPLERS,
        5,
        (
            "Shuffling is a permutation of the indices, drawn from seeding.generator().",
            "len(self) is the number of draws. More draws than samples need several permutations, one after another.",
            "With replacement: rng.integers(0, size, len(self)). Otherwise join -(-len(self) // size) permutations by "
            "np.concatenate and keep the first len(self); without samples, an empty array.",
        ),
        (every_sample_once, draws_may_be_more_or_fewer),
    ),
    Exercise(
        "WeightedRandomSampler.indices",
        SAMPLERS,
        2,
        (
            "A generator can choose indices with given probabilities.",
            "seeding.generator().choice(n, size, replace, p): which are the four?",
            "seeding.generator().choice(len(self.weights), self.num_samples, self.replacement, self.weights)",
        ),
        (weights_decide,),
    ),
    Exercise(
        "BlockShuffleSampler.indices",
        SAMPLERS,
        6,
        (
            "A disk reads blocks. Shuffle the blocks, then the samples of a few blocks at a time.",
            "Permute the starts 0, block, 2 block, ...; make an array of indices of each block, the last one shorter; "
            "join each `window` of them and permute the result.",
            "starts = rng.permutation(np.arange(0, len(self), self.block)); blocks = [np.arange(s, min(s + self.block, "
            "len(self))) for s in starts]; np.concatenate(blocks[i : i + self.window]) is one window.",
        ),
        (blocks_stay_near,),
    ),
    Exercise(
        "BatchSampler.__iter__",
        SAMPLERS,
        4,
        (
            "Collect indices until there are enough for a batch, then yield it.",
            "What is left at the end is shorter than batch_size, and may be empty.",
            "batch = []; for each index of self.sampler: append it, and when len(batch) is self.batch_size, yield "
            "np.array(batch) and start a new one; at the end, yield what is left, unless drop_last is set.",
        ),
        (indices_come_in_groups, groups_are_read_as_needed),
        helpers=("BatchSampler._groups",),
    ),
    Exercise(
        "Epoch._submit_ahead",
        EPOCH,
        6,
        (
            "A batch takes time to prepare, so ask for it before the loop needs it: a queue of self._depth batches.",
            "While fewer than self._depth are under way and indices are left, submit a task to self._pool.",
            "task = self._next_task._replace(indices=...); submit it; then self._next_task has the number + 1, and one "
            "more is under way. next(self._indices, None) is None when no indices are left.",
        ),
        (batches_are_asked_for_ahead, a_batch_makes_room_for_the_next),
    ),
    Exercise(
        "DataLoader.state_dict",
        LOADER,
        3,
        (
            "What must be known to read the rest of an epoch in the same order?",
            "The order comes from the seed of the epoch; the place in it is the number of batches returned.",
            'A dict of "epoch": self._epochs_started, "position", "seed", "batch_size" and "samples": self._samples().',
        ),
        (state_says_where,),
    ),
    Exercise(
        "DataLoader.load_state_dict",
        LOADER,
        6,
        (
            "__iter__ tells what a new epoch begins with; a resumed one begins with the numbers of the state.",
            "Set _epochs_started, _position and _seed, and tell __iter__ that it must not draw new ones.",
            "self._resuming = self._seed is not None. An epoch that is still being read keeps its pool, so where "
            "self._being_read(), set self._pool = None; then self._epoch = None.",
        ),
        (epoch_goes_on, resuming_twice_and_from_the_start),
    ),
)
