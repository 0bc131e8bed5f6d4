"""Module 08: order, batches, samplers, seeds and resume, the same for every way of preparing batches."""

from __future__ import annotations

import json
from itertools import chain, cycle, islice

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from loader_cases import Chancy, Listed, Named, Numbers, Stream, collate_sum

import tt_core
import tt_data
from tt_core.engine.errors import ArgumentError, DTypeError, OutOfRangeError, ShapeError, TinyTorchError
from tt_data import ConcatDataset, DataLoader, Dataset, Subset, TensorDataset, random_split
from tt_data.dataloader import samplers as S
from tt_data.dataloader.seeding import generator
from tt_data.transforms import Compose, RandomAffine, RandomCrop
from tt_learn.autograd import GradientError

WAYS = [{}, {"prefetch": 3}, {"num_workers": 2}, {"num_workers": 4}]


def labels(loader) -> list[list[int]]:
    return [y.tolist() for _, y in loader]


def joined(batches) -> list[int]:
    return list(chain.from_iterable(batches))


# --- batches ---


def test_batches_are_tensors_of_stacked_samples():
    x, y = next(iter(DataLoader(Numbers(10), batch_size=4)))
    assert isinstance(x, tt_core.Tensor)
    assert x.shape == (4, 3, 4)
    assert x.numpy().dtype == np.float32
    assert y.numpy().dtype == np.int64
    assert y.tolist() == [0, -1, -2, -3]


@pytest.mark.parametrize("drop_last", [False, True])
@pytest.mark.parametrize("count", [0, 1, 4, 9, 12])
def test_length_is_the_number_of_batches(count, drop_last):
    loader = DataLoader(Numbers(count), batch_size=4, drop_last=drop_last)
    batches = labels(loader)
    assert len(loader) == len(batches) == (count // 4 if drop_last else -(-count // 4))


def test_nested_samples_keep_their_structure():
    batch = next(iter(DataLoader(Named(4), batch_size=2)))
    assert batch["pair"].name == ["sample 0", "sample 1"]
    assert batch["pair"].image.tolist() == [[0, 0], [1, 1]]
    assert batch["list"][0].tolist() == [0, 1]
    assert batch["list"][1].numpy().dtype == np.float32  # Python floats


def test_collate_fn_gets_the_list_of_samples():
    out = list(DataLoader(Numbers(4), batch_size=2, collate_fn=collate_sum))
    assert [b.numpy()[0, 0] for b in out] == [1, 5]


@pytest.mark.parametrize(
    "load",
    [
        lambda h: TensorDataset(h),
        lambda h: tt_data.default_collate(list(h)),
        lambda h: list(DataLoader(h, 2)),
        lambda h: list(DataLoader([1, 2], collate_fn=lambda _: (h, 1))),
        lambda h: list(DataLoader([1, 2], prefetch=1, transform=lambda _: h)),
    ],
    ids=["TensorDataset", "collate", "samples", "collate_fn", "transform"],
)
def test_a_tensor_with_history_does_not_lose_it_on_the_way_to_a_batch(load):
    history = tt_core.ones(4, 2).requires_grad_() * 2
    with pytest.raises(GradientError, match="would lose its history"):
        load(history)
    load(history.detach())


def test_a_list_of_strings_is_one_field_for_a_transform():
    def shout(batch):
        return [text.upper() for text in batch]

    assert list(DataLoader(["ab", "cd"], 2, transform=shout)) == [["AB", "CD"]]


def test_a_dataset_that_fetches_batches_is_asked_once_a_batch():
    class Many(Numbers):
        calls = 0

        def __getitems__(self, indices):
            self.calls += 1
            return indices * 2

    data = Many(10)
    assert [b.tolist() for b in DataLoader(data, batch_size=5)] == [[0, 2, 4, 6, 8], [10, 12, 14, 16, 18]]
    assert data.calls == 2


def test_a_batch_shares_no_memory_with_the_dataset():
    data = TensorDataset(np.zeros(4))
    (x,) = next(iter(DataLoader(data, batch_size=4)))
    x.numpy()[:] = 1
    assert data.arrays[0].sum() == 0


@pytest.mark.parametrize(
    ("samples", "error"),
    [
        ([np.zeros((3, 32, 32)), np.zeros((3, 28, 28))], r"sample 1 .* \(3, 28, 28\), sample 0 .* \(3, 32, 32\)"),
        ([(1, 2), (1,)], "sample 1 .* tuple of 1, sample 0 .* tuple of 2"),
        ([{"a": 1}, {"b": 1}], r"sample 1 .* dict of \['b'\]"),
        ([1, "x"], "every sample needs the same fields"),
        ([None, None], "cannot batch NoneType"),
        ([], "no samples"),
    ],
)
def test_samples_that_do_not_fit_are_one_line(samples, error):
    with pytest.raises((ArgumentError, DTypeError, ShapeError), match=error) as caught:
        tt_data.default_collate(samples)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("way", WAYS[:3])
def test_mixed_image_sizes_are_never_delivered(way):
    sizes = [np.zeros((1, 4, 4)), np.zeros((1, 5, 4))]
    with DataLoader(Listed(sizes), batch_size=2, **way) as loader, pytest.raises(Exception, match=r"\(1, 5, 4\)"):
        next(iter(loader))


# --- order ---


def test_every_sample_comes_once_in_a_new_order_each_epoch():
    loader = DataLoader(Numbers(50), batch_size=8, shuffle=True)
    first, second = joined(labels(loader)), joined(labels(loader))
    assert sorted(first) == sorted(second) == sorted(-i for i in range(50))
    assert first != second


@pytest.mark.parametrize("way", WAYS[1:], ids=str)
@pytest.mark.parametrize("data", [Numbers(53), Chancy(53)], ids=["numbers", "chance in the dataset"])
def test_any_way_of_loading_gives_the_same_batches(way, data):
    def two_epochs(**way):
        tt_core.manual_seed(7)
        with DataLoader(data, batch_size=8, shuffle=True, **way) as loader:
            return [(x.numpy().tobytes(), y.tolist()) for _ in range(2) for x, y in loader]

    assert two_epochs(**way) == two_epochs()


@pytest.mark.parametrize("way", WAYS[1:], ids=str)
def test_augmentation_does_not_depend_on_who_does_it(way):
    images = TensorDataset(np.random.default_rng(0).random((40, 1, 8, 8), np.float32), np.arange(40))
    transform = Compose([RandomCrop(6, padding=1), RandomAffine(20, shear=5)])

    def epoch(**way):
        tt_core.manual_seed(7)
        with DataLoader(images, batch_size=8, shuffle=True, transform=transform, **way) as loader:
            return [x.numpy().tobytes() for x, _ in loader]

    assert epoch(**way) == epoch()


def test_loading_draws_one_number_an_epoch_from_the_one_generator():
    def after_epoch(**way):
        tt_core.manual_seed(1)
        with DataLoader(Chancy(20), batch_size=4, shuffle=True, **way) as loader:
            list(loader)
        return tt_core.get_rng_state()

    assert after_epoch() == after_epoch(prefetch=2) == after_epoch(num_workers=2)
    drawn = after_epoch()
    tt_core.manual_seed(1).integers(0, 2**63 - 1)
    assert tt_core.get_rng_state() == drawn


def test_own_generator_leaves_the_framework_alone():
    before = tt_core.get_rng_state()
    list(DataLoader(Numbers(9), 3, shuffle=True, generator=np.random.default_rng(0)))
    assert tt_core.get_rng_state() == before


def test_generators_of_the_framework_order_and_split():
    def made() -> tt_core.Generator:
        return tt_core.Generator().manual_seed(3)

    orders = [joined(labels(list(DataLoader(Numbers(9), 3, shuffle=True, generator=made())))) for _ in range(2)]
    assert orders[0] == orders[1] != list(range(9))
    parts = [[list(part.indices) for part in random_split(Numbers(9), [4, 5], made())] for _ in range(2)]
    assert parts[0] == parts[1]
    assert tt_core.utils.data.DataLoader is DataLoader


@pytest.mark.parametrize("way", WAYS, ids=str)
@pytest.mark.parametrize("chance", [False, True])
def test_streams_keep_their_order(way, chance):
    tt_core.manual_seed(2)
    with DataLoader(Stream(23, chance), batch_size=4, **way) as loader:
        batches = list(loader)
    assert joined(labels(batches)) == list(range(23))
    tt_core.manual_seed(2)
    plain = list(DataLoader(Stream(23, chance), batch_size=4))
    assert [x.tolist() for x, _ in batches] == [x.tolist() for x, _ in plain]


def test_a_stream_drops_its_short_end():
    assert len(list(DataLoader(Stream(23), batch_size=4, drop_last=True))) == 5


def test_loaders_can_be_read_side_by_side():
    with DataLoader(Numbers(6), batch_size=2, num_workers=1) as loader:
        pairs = [(a.tolist(), b.tolist()) for (_, a), (_, b) in zip(loader, loader)]
    assert pairs == [([0, -1], [0, -1]), ([-2, -3], [-2, -3]), ([-4, -5], [-4, -5])]


@pytest.mark.parametrize("way", WAYS, ids=str)
def test_an_epoch_left_early_does_not_spill_into_the_next(way):
    with DataLoader(Numbers(30), batch_size=3, **way) as loader:
        for _ in range(3):
            next(iter(loader))
        assert labels(loader) == [[-i, -i - 1, -i - 2] for i in range(0, 30, 3)]


@pytest.mark.parametrize("way", WAYS[:3], ids=str)
def test_an_epoch_that_is_still_read_keeps_its_batches_when_another_is_resumed(way):
    with DataLoader(Numbers(8), batch_size=2, **way) as loader:
        batches = iter(loader)
        next(batches)
        loader.load_state_dict(loader.state_dict())
        pairs = [(a.tolist(), b.tolist()) for (_, a), (_, b) in zip(loader, batches)]
    assert pairs == [([-i, -i - 1],) * 2 for i in (2, 4, 6)]


# --- resume ---


@settings(deadline=None)
@given(stop=st.integers(0, 7), shuffle=st.booleans(), prefetch=st.sampled_from([0, 3]))
def test_a_resumed_epoch_is_the_same_epoch(stop, shuffle, prefetch):
    tt_core.manual_seed(5)
    loader = DataLoader(Chancy(50), batch_size=8, shuffle=shuffle, prefetch=prefetch)
    batches = iter(loader)
    for _ in range(stop):
        next(batches)
    state, rng = json.loads(json.dumps(loader.state_dict())), tt_core.get_rng_state()
    rest = [(x.tolist(), y.tolist()) for x, y in batches]
    after = [(x.tolist(), y.tolist()) for x, y in loader]

    tt_core.manual_seed(99)
    fresh = DataLoader(Chancy(50), batch_size=8, shuffle=shuffle)
    fresh.load_state_dict(state)
    tt_core.set_rng_state(rng)
    assert [(x.tolist(), y.tolist()) for x, y in fresh] == rest
    assert [(x.tolist(), y.tolist()) for x, y in fresh] == after


def test_position_counts_what_was_handed_out_not_what_was_prepared():
    with DataLoader(Numbers(64), batch_size=4, num_workers=2, prefetch=8) as loader:
        batches = iter(loader)
        next(batches)
        assert loader.state_dict()["position"] == 1


def test_resume_with_workers_and_streams():
    with DataLoader(Stream(40, chance=True), batch_size=4, num_workers=2) as loader:
        batches = iter(loader)
        head = [next(batches)[1].tolist() for _ in range(3)]
        state = loader.state_dict()
        rest = [y.tolist() for _, y in batches]
        loader.load_state_dict(state)
        assert [y.tolist() for _, y in loader] == rest
    assert joined(head + rest) == list(range(40))


def test_a_finished_epoch_leaves_a_state_for_the_next():
    loader = DataLoader(Numbers(8), batch_size=4, shuffle=True)
    list(loader)
    state, rng = loader.state_dict(), tt_core.get_rng_state()
    expected = labels(loader)
    other = DataLoader(Numbers(8), batch_size=4, shuffle=True)
    other.load_state_dict(state)
    tt_core.set_rng_state(rng)
    assert labels(other) == expected
    assert other.state_dict()["epoch"] == 2


@pytest.mark.parametrize(("count", "batch_size", "what"), [(9, 4, "samples"), (8, 2, "batch_size")])
def test_a_state_of_other_data_is_refused(count, batch_size, what):
    state = DataLoader(Numbers(8), batch_size=4).state_dict()
    with pytest.raises(ArgumentError, match=what):
        DataLoader(Numbers(count), batch_size=batch_size).load_state_dict(state)


@pytest.mark.parametrize("state", [{}, {"position": -1}, {"position": 99}, {"seed": "x"}, {"epoch": None}])
def test_a_damaged_state_is_refused(state):
    loader = DataLoader(Numbers(8), batch_size=4)
    with pytest.raises(ArgumentError, match="state"):
        loader.load_state_dict({**loader.state_dict(), **state} if state else {})


# --- datasets and samplers ---


def test_subset_and_concat_agree_with_indexing():
    a, b = TensorDataset(np.arange(5)), TensorDataset(np.arange(100, 103))
    both = a + b
    assert [int(both[i][0]) for i in range(8)] == [0, 1, 2, 3, 4, 100, 101, 102]
    assert int(both[-1][0]) == 102
    assert [int(x) for (x,) in both.__getitems__(np.array([-1, 0, -4]))] == [102, 0, 4]
    with pytest.raises(OutOfRangeError, match="index 8 is outside a dataset of 8"):
        both.__getitems__(np.array([0, 8]))
    picked = Subset(both, [7, 0, -2])
    (x,) = next(iter(DataLoader(picked, batch_size=3)))
    assert x.tolist() == [102, 0, 101]
    (x,) = next(iter(DataLoader(Subset(both, [6, 5]), batch_size=2)))
    assert x.tolist() == [101, 100]


@settings(deadline=None)
@given(st.integers(1, 60), st.lists(st.floats(0.01, 1), min_size=1, max_size=4))
def test_random_split_is_a_partition(count, weights):
    fractions = [w / sum(weights) for w in weights]
    parts = random_split(TensorDataset(np.arange(count)), fractions)
    assert sorted(int(i) for part in parts for i in part.indices) == list(range(count))


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.uint64])
def test_indices_may_be_of_any_integer_type(dtype):
    data = TensorDataset(np.arange(1000))
    last = -1 if dtype == np.int8 else 99
    assert [x.item() for (x,) in Subset(data, np.array([3, last], dtype))] == [3, 999 if last < 0 else 99]
    assert [x.tolist() for (x,) in DataLoader(data, sampler=np.array([7], dtype))] == [[7]]


def test_random_split_takes_an_array_of_lengths():
    assert [len(part) for part in random_split(TensorDataset(np.arange(7)), np.array([3, 4]))] == [3, 4]


@pytest.mark.parametrize("lengths", [[3, 3], [], [-1, 8], [0.5, 0.6], [3.5, 3.5]])
def test_random_split_refuses_what_does_not_sum(lengths):
    with pytest.raises(ArgumentError, match="random_split"):
        random_split(TensorDataset(np.arange(7)), lengths)


def test_weighted_sampler_follows_its_weights():
    drawn = list(S.WeightedRandomSampler([1, 0, 3], num_samples=4000))
    counts = np.bincount(drawn, minlength=3) / 4000
    np.testing.assert_allclose(counts, [0.25, 0, 0.75], atol=0.04)


def test_random_sampler_with_replacement_and_more_draws_than_samples():
    assert len(list(S.RandomSampler(range(5), replacement=True, num_samples=12))) == 12
    twelve = list(S.RandomSampler(range(5), num_samples=12))
    assert sorted(twelve[:5]) == sorted(twelve[5:10]) == list(range(5))


def test_block_shuffle_stays_within_its_window():
    order = list(S.BlockShuffleSampler(range(1000), block=10, window=2))
    assert sorted(order) == list(range(1000))
    assert order != sorted(order)
    for i in range(0, 1000, 20):
        assert len({index // 10 for index in order[i : i + 20]}) <= 2


def test_own_samplers_may_be_any_iterable():
    assert labels(DataLoader(Numbers(9), batch_size=2, sampler=[8, 1, 1])) == [[-8, -1], [-1]]
    assert labels(DataLoader(Numbers(9), batch_sampler=[[0, 1, 2], [5]])) == [[0, -1, -2], [-5]]


class Endless(S.Sampler):
    """0, 1, 2, 0, 1, ... as the class allows: `__iter__` alone, no length."""

    def __iter__(self):
        return cycle(range(3))


@pytest.mark.parametrize("way", WAYS[:3], ids=str)
def test_an_endless_order_needs_no_length_and_can_be_resumed(way):
    with DataLoader(Numbers(3), batch_size=2, sampler=Endless(), **way) as loader:
        assert labels(islice(loader, 3)) == [[0, -1], [-2, 0], [-1, -2]]
        loader.load_state_dict({**loader.state_dict(), "position": 1})
        assert labels(islice(loader, 2)) == [[-2, 0], [-1, -2]]


@pytest.mark.parametrize("way", WAYS[:3], ids=str)
def test_an_empty_batch_does_not_end_the_epoch(way):
    data = TensorDataset(np.arange(5))
    with DataLoader(data, batch_sampler=[[1, 2], [], [4]], **way) as loader:
        assert [x.tolist() for (x,) in loader] == [[1, 2], [], [4]]


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"batch_size": 0}, "batch_size"),
        ({"batch_size": 2.5}, "batch_size"),
        ({"num_workers": -1}, "num_workers"),
        ({"prefetch": -1}, "prefetch"),
        ({"timeout": -1}, "timeout must be seconds >= 0"),
        ({"multiprocessing_context": "threads"}, "multiprocessing_context is one of .*spawn.*, got 'threads'"),
        ({"shuffle": True, "sampler": [1]}, "sampler"),
        ({"batch_size": 2, "batch_sampler": [[1]]}, "batch_sampler"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(arguments, error):
    with pytest.raises(TinyTorchError, match=error):
        DataLoader(Numbers(4), **arguments)


def test_other_bad_input():
    with pytest.raises(ArgumentError, match="IterableDataset"):
        DataLoader(Stream(4), shuffle=True)
    with pytest.raises(DTypeError, match="int is not a dataset"):
        DataLoader(3)
    with pytest.raises(DTypeError, match="no length"):
        len(DataLoader(Stream(4)))
    with pytest.raises(OutOfRangeError, match=r"index 9 .* 4 samples"):
        list(DataLoader(Numbers(4), sampler=[9]))
    with pytest.raises(DTypeError, match="integers"):
        list(DataLoader(Numbers(4), sampler=[0.5]))
    with pytest.raises(DTypeError, match=r"generator is a np\.random\.Generator, got 3"):
        DataLoader(Numbers(4), generator=3)
    with pytest.raises(DTypeError, match="random_split: generator"):
        random_split(Numbers(4), [2, 2], generator=42)
    for wrong in ([0.5], [[1, 2]], np.array([True, False])):
        with pytest.raises(DTypeError, match=r"SubsetRandomSampler: indices .*integers"):
            S.SubsetRandomSampler(wrong)
    with pytest.raises(ShapeError, match=r"\(3,\), \(2,\)"):
        TensorDataset(np.arange(3), np.arange(2))
    with pytest.raises(OutOfRangeError, match="Subset: index 7"):
        Subset(Numbers(4), [7])


def test_an_error_in_the_dataset_arrives_as_it_is_and_ends_the_epoch():
    class Cursed(Numbers):
        def __getitem__(self, index):
            raise KeyError("cursed")

    for prefetch in (0, 2):
        batches = iter(DataLoader(Cursed(9), batch_size=2, prefetch=prefetch))
        with pytest.raises(KeyError, match="cursed"):
            next(batches)
        assert list(batches) == []


@pytest.mark.parametrize("way", WAYS[:2], ids=str)
def test_a_stop_iteration_in_the_dataset_does_not_end_the_epoch_unseen(way):
    class Drained(Numbers):
        def __getitem__(self, index):
            return next(iter(()))

    with pytest.raises(RuntimeError, match="StopIteration while preparing batch 0"):
        list(DataLoader(Drained(9), batch_size=2, **way))


def test_the_generator_is_the_frameworks_outside_a_loader():
    assert generator() is tt_core.generator()


def test_pytorch_s_other_arguments():
    data = TensorDataset(np.arange(6))
    with pytest.warns(UserWarning, match="pin_memory does nothing"):
        assert len(list(DataLoader(data, 2, False, None, None, 0, None, True))) == 3
    assert len(DataLoader(data, 4, False, None, None, 0, None, False, True)) == 1  # the ninth is drop_last
    assert DataLoader(data, num_workers=3, prefetch_factor=4).prefetch == 12
    for bad in ({"prefetch_factor": 2}, {"prefetch": 1, "prefetch_factor": 2, "num_workers": 1}):
        with pytest.raises(ArgumentError, match="prefetch_factor"):
            DataLoader(data, **bad)


def test_workers_that_are_not_persistent_end_with_the_epoch():
    loader = DataLoader(TensorDataset(np.arange(4)), 2, num_workers=1, persistent_workers=False)
    assert [x.tolist() for (x,) in loader] == [[0, 1], [2, 3]] == [x.tolist() for (x,) in loader]
    assert loader.worker_pids == []


def test_loaders_and_datasets_say_what_they_are():
    data = TensorDataset(np.zeros((1200, 3), np.float32), np.arange(1200))
    assert repr(data) == "TensorDataset(1,200 samples: float32 (3,), int64 ())"
    assert repr(Subset(data, [1, 2])) == f"Subset(2 samples of {data!r})"
    assert repr(ConcatDataset([data, data])) == f"ConcatDataset(2,400 samples: {data!r} + {data!r})"
    assert repr(Dataset()) == "Dataset()"
    loader = DataLoader(data, 64, shuffle=True)
    assert repr(loader) == (
        f"DataLoader(dataset={data!r}, batches=19, batch_size=64, order='shuffled', drop_last=False, num_workers=0, "
        "prefetch=0)"
    )
    assert "<th>batches</th><td>19</td>" in loader._repr_html_()
    assert "batches=None" in repr(DataLoader(Stream(3)))


@pytest.mark.parametrize(
    "data",
    [
        tt_data.GeneratedDigits(3),
        tt_data.GeneratedShapes(3),
        tt_data.ImageDataset(np.zeros((3, 2, 4, 4), np.uint8), np.array([0, 1, 2])),
    ],
    ids=lambda data: type(data).__name__,
)
def test_datasets_of_pictures_show_some_of_them(data):
    page = data._repr_html_()
    assert page.count("<img") == 3
    assert repr(data) in page
