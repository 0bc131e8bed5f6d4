"""Copies go on like the original: of every public layer, loss, optimizer, schedule, dataset, loader, tokenizer, model.

Each case is copied by `copy.copy`, `copy.deepcopy` and pickle, sent to another process, and used in two threads. What
is shared inside stays shared, what is apart stays apart, and both give the same numbers from there on.
"""

from __future__ import annotations

import copy
import functools
import inspect
import pickle
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tt_core
import tt_data
import tt_language
import tt_learn
from tinygpt.capstone import TinyGPT
from tt_core import Layer
from tt_data import transforms

PACKAGES = (tt_core, tt_learn, tt_data, tt_language)
Make = Callable[[], Any]


def pickled(value: Any) -> Any:
    return pickle.loads(pickle.dumps(value))


DEEP = {"deepcopy": copy.deepcopy, "pickle": pickled}
every_deep_copy = pytest.mark.parametrize("copied", DEEP.values(), ids=DEEP.keys())


def public(base: type) -> set[str]:
    """The public classes of all packages that derive from `base` and can be made."""
    found = [(name, thing) for package in PACKAGES for name, thing in vars(package).items() if not name.startswith("_")]
    return {
        name
        for name, thing in found
        if inspect.isclass(thing) and issubclass(thing, base) and thing is not base and not inspect.isabstract(thing)
    }


def randn(*shape: int) -> Any:
    return tt_core.tensor(np.random.default_rng(1).standard_normal(shape).astype("float32"))


def ids(*shape: int) -> Any:
    return tt_core.tensor(np.random.default_rng(1).integers(0, 7, shape))


# --- layers and losses: how each is made, and what it is called with

IMAGE = functools.partial(randn, 2, 4, 6, 6)
ROWS = functools.partial(randn, 3, 4)
SEQUENCE = functools.partial(randn, 2, 5, 8)
SIGNAL = functools.partial(randn, 2, 4, 9)
TWO_SEQUENCES = functools.partial(lambda: (randn(2, 5, 8), randn(2, 5, 8) * 2))
CLASSES = functools.partial(lambda: (randn(3, 7), ids(3)))
CONFIG = tt_language.GPTConfig(vocab_size=7, block_size=8, n_layer=2, n_head=2, n_embd=8, dropout=0.1)


def tied() -> Layer:
    """Layers and parameters that stand in several places."""
    net = tt_core.Sequential(tt_core.Linear(4, 4), tt_core.ReLU(), tt_core.Linear(4, 4))
    net.append(net[0])
    net[2].weight = net[0].weight
    return net


def batch_normed() -> Layer:
    net = tt_core.Sequential(tt_data.Conv2d(4, 4, 3), tt_data.BatchNorm2d(4), tt_core.Dropout(0.5))
    net(IMAGE())
    return net


LAYERS: dict[str, tuple[Make, Callable[[], Any]]] = {
    **{name: (getattr(tt_core, name), ROWS) for name in ("GELU", "Identity", "LeakyReLU", "LogSoftmax", "ReLU")},
    **{name: (getattr(tt_core, name), ROWS) for name in ("SiLU", "Sigmoid", "Softmax", "Softplus", "Tanh", "Dropout")},
    "LayerNorm": (lambda: tt_core.LayerNorm(4), ROWS),
    "Linear": (lambda: tt_core.Linear(4, 3), ROWS),
    "Sequential": (tied, ROWS),
    "LayerList": (lambda: tt_core.LayerList([tt_core.Linear(4, 3)])[0], ROWS),
    "LayerDict": (lambda: tt_core.LayerDict({"a": tt_core.Linear(4, 3)})["a"], ROWS),
    **{name: (getattr(tt_core, name), lambda: (ROWS(), ROWS() * 2)) for name in ("L1Loss", "MSELoss", "SmoothL1Loss")},
    "BCELoss": (
        lambda: tt_core.BCELoss(weight=tt_core.ones(3, 4)),
        lambda: (tt_core.sigmoid(ROWS()), tt_core.ones(3, 4)),
    ),
    "BCEWithLogitsLoss": (
        lambda: tt_core.BCEWithLogitsLoss(pos_weight=tt_core.ones(4)),
        lambda: (ROWS(), tt_core.ones(3, 4)),
    ),
    "CrossEntropyLoss": (lambda: tt_core.CrossEntropyLoss(weight=tt_core.ones(7)), CLASSES),
    "NLLLoss": (lambda: tt_core.NLLLoss(weight=tt_core.ones(7)), CLASSES),
    "KLDivLoss": (tt_core.KLDivLoss, lambda: (ROWS(), tt_core.softmax(ROWS()))),
    "ContrastiveLoss": (tt_core.ContrastiveLoss, lambda: (ROWS(), ROWS() * 2, tt_core.tensor([0, 1, 0]))),
    "InfoNCELoss": (tt_core.InfoNCELoss, lambda: (ROWS(), ROWS() * 2)),
    "AdaptiveAvgPool2d": (lambda: tt_data.AdaptiveAvgPool2d(2), IMAGE),
    "AvgPool2d": (lambda: tt_data.AvgPool2d(2), IMAGE),
    "MaxPool2d": (lambda: tt_data.MaxPool2d(2), IMAGE),
    "BatchNorm1d": (lambda: tt_data.BatchNorm1d(4), ROWS),
    "BatchNorm2d": (batch_normed, IMAGE),
    "Conv2d": (lambda: tt_data.Conv2d(4, 2, 3), IMAGE),
    "Dropout2d": (tt_data.Dropout2d, IMAGE),
    "Flatten": (tt_data.Flatten, IMAGE),
    "Upsample": (lambda: tt_data.Upsample(scale_factor=2), IMAGE),
    "AdaptiveAvgPool1d": (lambda: tt_data.AdaptiveAvgPool1d(2), SIGNAL),
    "AdaptiveMaxPool1d": (lambda: tt_data.AdaptiveMaxPool1d(2), SIGNAL),
    "AdaptiveMaxPool2d": (lambda: tt_data.AdaptiveMaxPool2d(2), IMAGE),
    "AvgPool1d": (lambda: tt_data.AvgPool1d(2), SIGNAL),
    "MaxPool1d": (lambda: tt_data.MaxPool1d(2), SIGNAL),
    "MaxUnpool2d": (
        lambda: tt_data.MaxUnpool2d(2),
        lambda: tt_data.MaxPool2d(2, return_indices=True)(IMAGE()),
    ),
    "CircularPad2d": (lambda: tt_data.CircularPad2d(1), IMAGE),
    "ConstantPad2d": (lambda: tt_data.ConstantPad2d(1, 0.5), IMAGE),
    "ReflectionPad2d": (lambda: tt_data.ReflectionPad2d(1), IMAGE),
    "ReplicationPad2d": (lambda: tt_data.ReplicationPad2d(1), IMAGE),
    "ZeroPad2d": (lambda: tt_data.ZeroPad2d(1), IMAGE),
    "Conv1d": (lambda: tt_data.Conv1d(4, 2, 3), SIGNAL),
    "ConvTranspose1d": (lambda: tt_data.ConvTranspose1d(4, 2, 3), SIGNAL),
    "ConvTranspose2d": (lambda: tt_data.ConvTranspose2d(4, 2, 3), IMAGE),
    "Unfold": (lambda: tt_data.Unfold(3), IMAGE),
    "Fold": (lambda: tt_data.Fold(6, 3), lambda: randn(2, 36, 16)),
    "GroupNorm": (lambda: tt_data.GroupNorm(2, 4), IMAGE),
    "InstanceNorm1d": (lambda: tt_data.InstanceNorm1d(4, affine=True, track_running_stats=True), SIGNAL),
    "InstanceNorm2d": (lambda: tt_data.InstanceNorm2d(4, affine=True, track_running_stats=True), IMAGE),
    "PixelShuffle": (lambda: tt_data.PixelShuffle(2), IMAGE),
    "PixelUnshuffle": (lambda: tt_data.PixelUnshuffle(2), IMAGE),
    "Unflatten": (lambda: tt_data.Unflatten(1, (2, 2)), IMAGE),
    "Embedding": (lambda: tt_language.Embedding(7, 8, padding_idx=0), lambda: ids(2, 5)),
    "PositionalEmbedding": (lambda: tt_language.PositionalEmbedding(8, 8), lambda: ids(2, 5)),
    "SinusoidalEmbedding": (lambda: tt_language.SinusoidalEmbedding(8, 8), lambda: ids(2, 5)),
    "RotaryEmbedding": (lambda: tt_language.RotaryEmbedding(8, 6), lambda: (randn(2, 2, 5, 8), tt_core.arange(5))),
    "MultiHeadAttention": (lambda: tt_language.MultiHeadAttention(8, 2, dropout=0.1), SEQUENCE),
    "RMSNorm": (lambda: tt_language.RMSNorm(8), SEQUENCE),
    "FeedForward": (lambda: tt_language.FeedForward(8), SEQUENCE),
    "SwiGLU": (lambda: tt_language.SwiGLU(8), SEQUENCE),
    "TransformerBlock": (lambda: tt_language.TransformerBlock(8, 2, dropout=0.1), SEQUENCE),
    "EncoderStack": (lambda: tt_language.EncoderStack(2, 8, 2), SEQUENCE),
    "DecoderStack": (lambda: tt_language.DecoderStack(2, 8, 2), lambda: (SEQUENCE(), {"memory": SEQUENCE() * 2})),
    "Seq2SeqTransformer": (
        lambda: tt_language.Seq2SeqTransformer(7, 7, embed_dim=8, num_heads=2, num_layers=1),
        lambda: (ids(2, 5), ids(2, 4)),
    ),
    "MultiheadAttention": (
        lambda: tt_language.MultiheadAttention(8, 2, dropout=0.1),
        lambda: (SEQUENCE(), SEQUENCE(), SEQUENCE()),
    ),
    "TransformerEncoderLayer": (lambda: tt_language.TransformerEncoderLayer(8, 2, 16), SEQUENCE),
    "TransformerDecoderLayer": (lambda: tt_language.TransformerDecoderLayer(8, 2, 16), TWO_SEQUENCES),
    "TransformerEncoder": (
        lambda: tt_language.TransformerEncoder(tt_language.TransformerEncoderLayer(8, 2, 16), 2),
        SEQUENCE,
    ),
    "TransformerDecoder": (
        lambda: tt_language.TransformerDecoder(tt_language.TransformerDecoderLayer(8, 2, 16), 2),
        TWO_SEQUENCES,
    ),
    "Transformer": (lambda: tt_language.Transformer(8, 2, 1, 1, 16), TWO_SEQUENCES),
    "GPT": (lambda: tt_language.GPT(CONFIG), lambda: ids(2, 5)),
}
every_layer = pytest.mark.parametrize("name", LAYERS)


def test_every_public_layer_has_a_case() -> None:
    assert public(Layer) - set(LAYERS) == set()


def made(name: str) -> tuple[Layer, tuple[Any, ...]]:
    tt_core.manual_seed(0)
    layer, inputs = LAYERS[name][0](), LAYERS[name][1]()
    return layer, inputs if isinstance(inputs, tuple) else (inputs,)


def called(layer: Layer, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    """The layer's outputs; a dictionary among the inputs holds keyword arguments."""
    options = inputs[-1] if isinstance(inputs[-1], dict) else {}
    output = layer(*inputs[: len(inputs) - bool(options)], **options)
    return output if isinstance(output, tuple) else (output,)


def results(layer: Layer, inputs: tuple[Any, ...], seed: int = 3) -> list[np.ndarray]:
    """The output, every gradient and every buffer of one call, drawn from one seed."""
    tt_core.manual_seed(seed)
    layer.zero_grad()
    parts = called(layer, inputs)
    if any(part.requires_grad for part in parts):
        sum((part * part).sum() for part in parts if part.requires_grad).backward()
    gradients = [p.grad.data for p in layer.parameters() if p.grad is not None]
    return [*(part.data for part in parts), *gradients, *(buffer.data.copy() for buffer in layer.buffers())]


def assert_same(first: list[np.ndarray], second: list[np.ndarray]) -> None:
    assert len(first) == len(second)
    for a, b in zip(first, second):
        np.testing.assert_array_equal(a, b)


def structure(root: Layer) -> list[list[str]]:
    """Names that stand for one and the same tensor or layer, below `root`."""
    found: dict[int, list[str]] = {}
    for prefix, layer in root.named_layers():
        for registry in ("_parameters", "_buffers", "_transient", "_children"):
            for name, entry in getattr(layer, registry).items():
                if entry is not None:
                    assert vars(layer).get(name, entry) is entry, f"{prefix}.{name}"
                    found.setdefault(id(entry), []).append(f"{prefix}.{name}")
    return list(found.values())


@every_layer
@every_deep_copy
@pytest.mark.parametrize("used", [False, True])
def test_a_deep_copy_of_a_layer_is_apart_and_goes_on_alike(name: str, copied: Callable[[Any], Any], used: bool) -> None:
    layer, inputs = made(name)
    if used:
        results(layer, inputs, seed=2)
    other = copied(layer)
    assert structure(other) == structure(layer)
    for mine, its in zip((*layer.parameters(), *layer.buffers()), (*other.parameters(), *other.buffers())):
        assert mine is not its
        assert not np.shares_memory(mine.data, its.data) or not mine.data.size
        assert mine.requires_grad == its.requires_grad
        assert mine.is_parameter == its.is_parameter
        assert_same(arrays([mine.grad] * (mine.grad is not None)), arrays([its.grad] * (its.grad is not None)))
    for seed in (3, 4):
        assert_same(results(layer, inputs, seed), results(other, inputs, seed))
    assert_same(results(layer.eval(), inputs), results(other.eval(), inputs))


@every_layer
def test_a_shallow_copy_of_a_layer_shares_and_goes_on_alike(name: str) -> None:
    layer, inputs = made(name)
    layer.eval()  # in training, a layer's buffers move with each call
    other = copy.copy(layer)
    assert structure(other) == structure(layer)
    assert all(mine is its for mine, its in zip(layer.parameters(), other.parameters()))
    expected = results(layer, inputs)
    assert_same(expected, results(other, inputs))
    other.extra = tt_core.Linear(1, 1)
    assert not hasattr(layer, "extra")


@every_layer
def test_two_threads_call_one_layer(name: str) -> None:
    layer, inputs = made(name)
    layer.eval()
    with tt_learn.no_grad():
        expected = results(layer, inputs)
    found: list[list[np.ndarray]] = []

    def work() -> None:
        with tt_learn.no_grad():
            found.extend([part.data for part in called(layer, inputs)] for _ in range(3))

    in_threads(work, work)
    assert len(found) == 6
    for each in found:
        assert_same(expected[: len(each)], each)


def in_threads(*work: Callable[[], None]) -> None:
    threads = [threading.Thread(target=each) for each in work]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


# --- optimizers and schedules

OPTIMIZERS: dict[str, Callable[[Any], Any]] = {
    **{
        name: functools.partial(getattr(tt_learn, name), lr=0.01)
        for name in sorted(public(tt_learn.Optimizer) - {"Muon", "SGD", "LBFGS"})
    },
    "SGD": functools.partial(tt_learn.SGD, lr=0.01, momentum=0.9, dampening=0.5),
    "Muon": lambda ps: tt_learn.Muon(
        [{"params": [p for p in ps if p.ndim == 2]}, {"params": [p for p in ps if p.ndim != 2], "use_muon": False}]
    ),
}
decay = functools.partial(pow, 0.9)  # a function that pickle knows by name
SCHEDULES: dict[str, Callable[[Any], Any]] = {
    "StepLR": lambda o: tt_learn.StepLR(o, 2),
    "MultiStepLR": lambda o: tt_learn.MultiStepLR(o, [1, 3]),
    "ExponentialLR": lambda o: tt_learn.ExponentialLR(o, 0.9),
    "CosineAnnealingLR": lambda o: tt_learn.CosineAnnealingLR(o, 5),
    "CosineWarmupLR": lambda o: tt_learn.CosineWarmupLR(o, 2, 9),
    "LambdaLR": lambda o: tt_learn.LambdaLR(o, decay),
    "ConstantLR": lambda o: tt_learn.ConstantLR(o, 0.5, 3),
    "LinearLR": lambda o: tt_learn.LinearLR(o, 0.5, total_iters=3),
    "PolynomialLR": lambda o: tt_learn.PolynomialLR(o, 9),
    "CosineAnnealingWarmRestarts": lambda o: tt_learn.CosineAnnealingWarmRestarts(o, 2),
    "CyclicLR": lambda o: tt_learn.CyclicLR(o, 0.01, 0.1, 2, cycle_momentum=False),
    "SequentialLR": lambda o: tt_learn.SequentialLR(o, [tt_learn.LinearLR(o), tt_learn.StepLR(o, 1)], [1]),
    "OneCycleLR": lambda o: tt_learn.OneCycleLR(o, 0.1, total_steps=9),
}


class Run:
    """A model of small and large parameters, two of which are one, with its optimizer and schedule."""

    def __init__(self, optimizer: str, schedule: str) -> None:
        tt_core.manual_seed(0)
        self.model = tt_core.Sequential(
            tt_core.Linear(6, 900), tt_core.ReLU(), tt_core.Linear(900, 6), tt_core.Linear(6, 6), tt_core.LayerNorm(6)
        )
        self.model[3].bias = self.model[2].bias
        self.optimizer = OPTIMIZERS[optimizer](list(self.model.parameters()))
        self.schedule = SCHEDULES[schedule](self.optimizer)

    def go_on(self, steps: int) -> None:
        x = randn(5, 6)
        for _ in range(steps):
            self.optimizer.zero_grad()
            ((self.model(x) - x) ** 2).mean().backward()
            self.optimizer.step()
            self.schedule.step()

    @property
    def parts(self) -> tuple[Any, ...]:
        return self.model, self.optimizer, self.schedule

    @classmethod
    def of(cls, parts: tuple[Any, ...]) -> Run:
        run = cls.__new__(cls)
        run.model, run.optimizer, run.schedule = parts
        return run

    def numbers(self) -> list[np.ndarray]:
        state = self.optimizer.state_dict()
        kept = [np.asarray(value) for entry in state["state"].values() for value in entry.values()]
        rates = [np.asarray(group["lr"]) for group in state["param_groups"]]
        return [*(p.data.copy() for p in self.model.parameters()), *(k.copy() for k in kept), *rates]


def schedule_of(optimizer: str) -> str:
    """Another schedule for each optimizer, so that both are covered; OneCycleLR needs a momentum."""
    usable = [name for name in SCHEDULES if name != "OneCycleLR"]
    return "OneCycleLR" if optimizer == "AdamW" else usable[sorted(OPTIMIZERS).index(optimizer) % len(usable)]


def test_every_public_optimizer_and_schedule_has_a_case() -> None:
    assert public(tt_learn.Optimizer) - {"LBFGS"} == set(OPTIMIZERS)
    assert public(tt_learn.Scheduler) - set(SCHEDULES) == set()


PAIRS = [*((name, schedule_of(name)) for name in OPTIMIZERS), *(("AdamW", name) for name in SCHEDULES)]


@pytest.mark.parametrize(("name", "schedule"), PAIRS)
@every_deep_copy
@pytest.mark.parametrize("steps", [0, 2])
def test_a_deep_copy_of_a_run_is_apart_and_goes_on_alike(
    name: str, schedule: str, copied: Callable[[Any], Any], steps: int
) -> None:
    run = Run(name, schedule)
    run.go_on(steps)
    before, other = run.numbers(), Run.of(copied(run.parts))
    assert other.schedule.optimizer is other.optimizer
    assert other.model[3].bias is other.model[2].bias
    learned = {id(p) for group in other.optimizer.param_groups for p in group["params"]}
    assert learned == {id(p) for p in other.model.parameters()}
    other.go_on(3)
    assert_same(before, run.numbers())
    run.go_on(3)
    assert_same(run.numbers(), other.numbers())
    assert not np.array_equal(before[0], run.numbers()[0])


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_shallow_copy_of_an_optimizer_moves_the_same_parameters_and_state(name: str) -> None:
    run, straight = Run(name, "LambdaLR"), Run(name, "LambdaLR")
    run.go_on(2)
    run.optimizer = run.schedule.optimizer = copy.copy(run.optimizer)
    run.go_on(2)
    straight.go_on(4)
    assert_same(straight.numbers(), run.numbers())


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_two_threads_train_a_copy_each(name: str) -> None:
    run = Run(name, "LambdaLR")
    run.go_on(1)
    others = [Run.of(copy.deepcopy(run.parts)) for _ in range(2)]
    in_threads(*(functools.partial(other.go_on, 3) for other in others))
    run.go_on(3)
    for other in others:
        assert_same(run.numbers(), other.numbers())


# --- datasets, loaders, samplers, transforms, tokenizers, models


def arrays(value: Any) -> list[np.ndarray]:
    """All numbers in nested data, in order."""
    if isinstance(value, dict):
        return arrays(list(value.values()))
    if isinstance(value, (list, tuple)):
        return [array for part in value for array in arrays(part)]
    return [np.asarray(value.data if isinstance(value, tt_core.Tensor) else value)]


def memory_mapped(folder: Path) -> Any:
    np.save(folder / "x.npy", np.arange(12.0).reshape(6, 2))
    np.save(folder / "y.npy", np.arange(6))
    return tt_data.MemmapDataset(folder / "x.npy", folder / "y.npy")


def sharded(folder: Path) -> Any:
    tt_data.write_shards(folder / "shards", tt_data.DataLoader(pairs(), 4))
    return tt_data.ShardedDataset(folder / "shards")


def text(folder: Path) -> Any:
    (folder / "text.txt").write_text("hello world, hello tokens", encoding="utf-8")
    return tt_data.Text(folder / "text.txt", block_size=4)


def pairs() -> Any:
    return tt_data.TensorDataset(np.arange(24.0, dtype="float32").reshape(12, 2), np.arange(12))


def pictures() -> Any:
    return tt_data.ImageDataset(np.zeros((4, 1, 3, 3), "uint8"), np.arange(4))


DATASETS: dict[str, Callable[[Path], Any]] = {
    "TensorDataset": lambda folder: pairs(),
    "Subset": lambda folder: tt_data.Subset(pairs(), [3, 1, 2]),
    "ConcatDataset": lambda folder: tt_data.ConcatDataset([pairs(), pairs()]),
    "ImageDataset": lambda folder: pictures(),
    "MemmapDataset": memory_mapped,
    "ShardedDataset": sharded,
    "Text": text,
    "GeneratedDigits": lambda folder: tt_data.GeneratedDigits(4),
    "GeneratedShapes": lambda folder: tt_data.GeneratedShapes(4),
}
DOWNLOADED = {"MNIST", "FashionMNIST", "CIFAR10"}  # ImageDataset with files
ALL_COPIES = {"copy": copy.copy, **DEEP}
every_copy = pytest.mark.parametrize("copied", ALL_COPIES.values(), ids=ALL_COPIES.keys())


def test_every_public_dataset_has_a_case() -> None:
    assert public(tt_data.Dataset) - DOWNLOADED == set(DATASETS)


@pytest.mark.parametrize("name", DATASETS)
@every_copy
def test_a_copy_of_a_dataset_holds_the_same(name: str, copied: Callable[[Any], Any], tmp_path: Path) -> None:
    dataset = DATASETS[name](tmp_path)
    dataset[0]
    other = copied(dataset)
    assert len(other) == len(dataset)
    assert_same(arrays([dataset[i] for i in range(len(dataset))]), arrays([other[i] for i in range(len(other))]))


LOADERS: dict[str, Make] = {
    "in order": lambda: tt_data.DataLoader(pairs(), batch_size=5),
    "shuffled": lambda: tt_data.DataLoader(pairs(), batch_size=5, shuffle=True),
    "weighted": lambda: tt_data.DataLoader(
        pairs(), batch_size=4, sampler=tt_data.WeightedRandomSampler([1.0, 2.0, 3.0] * 4, 8)
    ),
    "blocks": lambda: tt_data.DataLoader(pairs(), batch_size=4, sampler=tt_data.BlockShuffleSampler(pairs(), 2)),
    "batches": lambda: tt_data.DataLoader(
        pairs(), batch_sampler=tt_data.BatchSampler(tt_data.RandomSampler(pairs()), 4, False)
    ),
    "fetched ahead": lambda: tt_data.DataLoader(pairs(), batch_size=4, shuffle=True, prefetch=2),
    "workers": lambda: tt_data.DataLoader(pairs(), batch_size=4, shuffle=True, num_workers=1),
}


@pytest.mark.parametrize("name", LOADERS)
@pytest.mark.parametrize("epochs", [0, 1])
@every_copy
def test_a_copy_of_a_loader_goes_on_alike(name: str, epochs: int, copied: Callable[[Any], Any]) -> None:
    tt_core.manual_seed(0)
    loader = LOADERS[name]()
    for _ in range(epochs):
        list(loader)
    other = copied(loader)
    state = tt_core.get_rng_state()
    mine = arrays([list(loader) for _ in range(2)])
    tt_core.set_rng_state(state)
    assert_same(mine, arrays([list(other) for _ in range(2)]))
    loader.close()
    other.close()


@pytest.mark.parametrize("name", LOADERS)
@every_deep_copy
def test_a_copy_of_a_loader_in_the_middle_of_an_epoch_goes_on_there(name: str, copied: Callable[[Any], Any]) -> None:
    tt_core.manual_seed(0)
    loader = LOADERS[name]()
    batches = iter(loader)
    next(batches)
    saved = copy.deepcopy(loader.state_dict())
    other = copied(loader)
    other.load_state_dict(saved)
    rest = arrays(list(batches))
    assert_same(rest, arrays(list(other)))
    loader.close()
    other.close()


TEXT = "the cat sat on the mat; the dog sat on the log"
TOKENIZERS: dict[str, Make] = {
    "ByteTokenizer": tt_language.ByteTokenizer,
    "CharTokenizer": lambda: tt_language.CharTokenizer(TEXT),
    "BPETokenizer": lambda: tt_language.BPETokenizer.train([TEXT], 270),
}


def test_every_public_tokenizer_has_a_case() -> None:
    assert public(tt_language.Tokenizer) == set(TOKENIZERS)


@pytest.mark.parametrize("name", TOKENIZERS)
@every_copy
def test_a_copy_of_a_tokenizer_reads_and_writes_alike(name: str, copied: Callable[[Any], Any]) -> None:
    tokenizer = TOKENIZERS[name]()
    ids = tokenizer.encode(TEXT)
    other = copied(tokenizer)
    assert other.encode(TEXT) == ids
    assert other.decode(ids) == TEXT
    assert other.vocab_size == tokenizer.vocab_size
    found: list[Any] = []
    in_threads(*[lambda: found.append(other.encode(TEXT))] * 2)
    assert [list(each) for each in found] == [list(ids)] * 2


@every_copy
def test_a_copy_of_a_gpt_writes_alike(copied: Callable[[Any], Any]) -> None:
    tokenizer = tt_language.CharTokenizer(TEXT)
    tt_core.manual_seed(0)
    config = tt_language.GPTConfig(tokenizer.vocab_size, block_size=8, n_layer=1, n_head=2, n_embd=8)
    gpt = TinyGPT(tt_language.GPT(config), tokenizer)
    written = ["".join(each.generate("the", 8, seed=1)) for each in (gpt, copied(gpt))]
    assert written[0] == written[1]


@pytest.mark.parametrize("name", [name for name, thing in vars(transforms).items() if inspect.isclass(thing)])
def test_transforms_are_sent_to_workers(name: str) -> None:
    thing = getattr(transforms, name)
    given: dict[str, Any] = {
        "Compose": ([],),
        "Normalize": ([0.5], [0.5]),
        "RandomCrop": (4,),
        "CenterCrop": (4,),
        "Resize": (4,),
        "Pad": (1,),
    }
    try:
        transform = thing(*given.get(name, ()))
    except TypeError:
        pytest.skip("needs arguments of its own")
    for copied in ALL_COPIES.values():
        assert type(copied(transform)) is thing


# --- another process

CHILD = """
import pickle, sys
import numpy as np
import tt_core, tt_learn, tt_data, tt_language
from pathlib import Path

layers, runs, x = pickle.loads(Path(sys.argv[1]).read_bytes())
found = {}
for name, (layer, inputs) in layers.items():
    tt_core.manual_seed(3)
    options = inputs[-1] if isinstance(inputs[-1], dict) else {}
    output = layer(*inputs[: len(inputs) - bool(options)], **options)
    found[name] = [part.data for part in (output if isinstance(output, tuple) else (output,))]
for name, (model, optimizer, schedule) in runs.items():
    for _ in range(3):
        optimizer.zero_grad()
        ((model(x) - x) ** 2).mean().backward()
        optimizer.step()
        schedule.step()
    found[name] = [p.data for p in model.parameters()]
Path(sys.argv[2]).write_bytes(pickle.dumps(found))
"""


def test_another_process_goes_on_alike(tmp_path: Path) -> None:
    cases = {name: made(name) for name in LAYERS}
    runs = {name: Run(name, schedule_of(name)) for name in OPTIMIZERS}
    for run in runs.values():
        run.go_on(2)
    sent, back = tmp_path / "sent", tmp_path / "back"
    sent.write_bytes(pickle.dumps((cases, {name: run.parts for name, run in runs.items()}, randn(5, 6))))
    subprocess.run([sys.executable, "-c", CHILD, sent, back], check=True)
    found = pickle.loads(back.read_bytes())
    for name, (layer, inputs) in cases.items():
        tt_core.manual_seed(3)
        assert_same([part.data for part in called(layer, inputs)], found[name])
    for name, run in runs.items():
        run.go_on(3)
        assert_same([p.data for p in run.model.parameters()], found[name])
