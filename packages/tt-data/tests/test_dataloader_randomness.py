"""Random numbers in a user's dataset, collate function and transform: two seeded runs give the same batches."""

# ruff: noqa: NPY002  (the legacy generator is what user code draws from)
from __future__ import annotations

import random

import numpy as np
import pytest
from loader_cases import (
    ChancyEverywhere,
    SharingStream,
    ShuffledStream,
    WhoAmI,
    WhoAmIElsewhere,
    chancy_collate,
    chancy_transform,
    every_generator,
)

import tt_core
from tt_data import DataLoader, default_collate, get_worker_info


def seeded_run(workers: int, epochs: int = 2) -> list:
    random.seed(1)
    np.random.seed(2)
    tt_core.manual_seed(3)
    chance = {"collate_fn": chancy_collate, "transform": chancy_transform}
    with DataLoader(ChancyEverywhere(7), 2, shuffle=True, num_workers=workers, **chance) as loader:
        return [batch.tolist() for _ in range(epochs) for batch in loader]


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_two_seeded_runs_draw_the_same_from_every_generator(workers):
    first = seeded_run(workers)
    assert first == seeded_run(workers)
    rows = [tuple(row) for batch in first for row in batch]
    assert len(set(rows)) == len(rows)  # no stream is dealt out twice


def test_the_framework_s_generator_gives_the_same_numbers_for_any_number_of_workers():
    runs = [[[row[2] for row in batch] for batch in seeded_run(workers, epochs=1)] for workers in (0, 1, 2)]
    assert runs[0] == runs[1] == runs[2]


def test_workers_give_the_same_numbers_whatever_their_number():
    assert seeded_run(1) == seeded_run(2)


def test_a_dataset_that_seeds_the_framework_does_not_restart_the_loop_s_generator():
    class Seeding(ChancyEverywhere):
        def __getitem__(self, index):
            tt_core.manual_seed(index)
            return tt_core.rand(()).item()

    tt_core.manual_seed(5)
    values = [batch.item() for batch in DataLoader(Seeding(2))]
    after = tt_core.rand(()).item()
    assert values == [tt_core.manual_seed(i).random(dtype=np.float32) for i in range(2)]
    tt_core.manual_seed(5)
    list(DataLoader(range(2)))
    assert tt_core.rand(()).item() == after


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_a_stream_that_shuffles_itself_loses_no_sample(workers):
    with DataLoader(ShuffledStream(23), 4, num_workers=workers) as loader:
        epochs = [[x for batch in loader for x in batch.tolist()] for _ in range(2)]
    assert [sorted(epoch) for epoch in epochs] == [list(range(23))] * 2
    assert epochs[0] != epochs[1]


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_a_stream_that_takes_its_share_loses_no_sample(workers):
    with DataLoader(SharingStream(), 4, num_workers=workers) as loader:
        assert [x for batch in loader for x in batch.tolist()] == list(range(23))


def test_workers_know_who_they_are():
    assert get_worker_info() is None
    with DataLoader(WhoAmI(6), num_workers=2) as loader:
        rows = {tuple(int(field.item()) for field in batch) for batch in loader}
    ids, counts, seeds, own = zip(*sorted(rows))
    assert (ids, counts, own) == ((0, 1), (2, 2), (1, 1))
    assert seeds[1] == seeds[0] + 1


def test_workers_know_who_they_are_in_kernels_and_threads():
    with DataLoader(WhoAmIElsewhere(4), num_workers=1) as loader:
        assert all(bool(field.all()) for batch in loader for field in batch)


def test_python_s_own_numbers_are_collated_to_one_dtype_whatever_their_order():
    for samples in ([0, 0.5], [0.5, 0], [True, 0.5], [0.5, True, 2]):
        batch = default_collate(samples)
        assert (batch.dtype, batch.tolist()) == (np.float32, [float(x) for x in samples])
    assert default_collate([1, True]).dtype == np.int64
    assert default_collate([True, False]).dtype == bool
    assert default_collate([np.float64(1), 0.5]).dtype == default_collate([0.5, np.float64(1)]).dtype == np.float64
    assert default_collate([np.float16(1), 0.5, 2]).dtype == np.float16
    assert default_collate([np.int8(1), 300]).tolist() == [1, 300]
    assert default_collate([np.int8(1), 0.5]).dtype == np.float32
    assert default_collate([(0, {"a": 1}), (0.5, {"a": 0.5})])[1]["a"].dtype == np.float32


def test_every_generator_is_drawn_from():
    assert len(set(every_generator())) == 3
