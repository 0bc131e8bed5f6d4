"""The milestone of Act III: 1998, convolutional networks. LeNet-5 reads MNIST, a small network classifies CIFAR-10.

Both print their measurements and raise `Shortfall` for a result below the claim. Each writes a picture of its filters,
feature maps and confusion matrix. Without the data, they train on generated digits and shapes, and the output says so.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import tt_core
from tt_core import Layer, Linear, ReLU, Sequential, Tensor
from tt_core.command.journey import TryIt, numbers_in, require
from tt_core.engine.dispatch import Array
from tt_core.engine.errors import FileError
from tt_core.engine.files import make_folder, write_atomic
from tt_data import transforms
from tt_data.command import pictures
from tt_data.dataloader import DataLoader
from tt_data.datasets import CIFAR10, MNIST, DownloadError, GeneratedDigits, GeneratedShapes
from tt_data.spatial import BatchNorm2d, Conv2d, Flatten, MaxPool2d
from tt_learn import evaluating, no_grad
from tt_learn.command.milestones import as_text
from tt_learn.optim.schedules import OneCycleLR
from tt_learn.optimizers import SGD
from tt_learn.training import Callback, Trainer
from tt_learn.training.metrics import confusion_matrix


@dataclass(frozen=True)
class Recipe:
    """The training of a network: `epochs` passes in batches, with SGD and one cycle of the learning rate."""

    epochs: int
    max_lr: float
    batch_size: int = 128
    weight_decay: float = 5e-4
    label_smoothing: float = 0.0


# --- the networks


def lenet5(classes: int = 10) -> Layer:
    """LeNet-5 (LeCun, Bottou, Bengio and Haffner 1998) on (N, 1, 28, 28): 61,706 parameters.

    ReLU and max pooling replace the scaled tanh and the trained subsampling of 1998.
    """
    return Sequential(
        Conv2d(1, 6, 5, padding=2), ReLU(), MaxPool2d(2),  # (6, 14, 14)
        Conv2d(6, 16, 5), ReLU(), MaxPool2d(2),  # (16, 5, 5)
        Flatten(), Linear(400, 120), ReLU(), Linear(120, 84), ReLU(), Linear(84, classes),
    )  # fmt: skip


class Residual(Layer):
    """`x + inside(x)`: the inner layers learn a correction (He, Zhang, Ren and Sun 2015, arXiv:1512.03385)."""

    def __init__(self, *inside: Layer) -> None:
        super().__init__()
        self.inside = Sequential(*inside)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.inside(x)


def small_cnn(classes: int = 10) -> Layer:
    """Four 3x3 convolutions with batch normalization on (N, 3, 32, 32), the last around a residual."""
    return Sequential(
        *_stage(3, 32), MaxPool2d(2),  # (32, 16, 16)
        *_stage(32, 64), MaxPool2d(2),  # (64, 8, 8)
        *_stage(64, 128), MaxPool2d(2),  # (128, 4, 4)
        Residual(*_stage(128, 128)),
        Flatten(), Linear(128 * 4 * 4, classes),
    )  # fmt: skip


def _stage(channels: int, out: int) -> tuple[Layer, ...]:
    return Conv2d(channels, out, 3, padding=1, bias=False), BatchNorm2d(out), ReLU()


# --- the milestone


def cnn(data_dir: Path | None = None, out: Path | None = None) -> TryIt:
    """LeNet-5 must classify 99 % of the test images of MNIST, the small network 75 % of those of CIFAR-10.

    On generated digits and shapes, which replace missing data, both must reach 95 %. Raises `Shortfall` otherwise.
    """
    reader = digits(data_dir, out)
    things(data_dir, out)
    return reader


def digits(data_dir: Path | None = None, out: Path | None = None, seed: int = 0) -> TryIt:
    """Train LeNet-5 on MNIST; returns a way to let it read test images."""
    found = _find("cnn: digits", MNIST, data_dir, lambda count, seed: GeneratedDigits(count, seed))
    augment = transforms.Compose([transforms.RandomCrop(28, padding=2), transforms.Normalize(0.13, 0.31)])
    recipe, normalize, built = Recipe(epochs=8, max_lr=0.1), transforms.Normalize(0.13, 0.31), list[Layer]()

    def build(classes: int) -> Layer:
        built.append(lenet5(classes))
        return built[0]

    reached = _train("LeNet-5", build, found, recipe, augment, normalize, out, seed)
    require("cnn", f"accuracy of LeNet-5 on {found.name}", reached, 0.99 if found.real else 0.95)
    return _reading(built[0], found.test, normalize)


def _reading(model: Layer, images: Any, normalize: Callable[[Array], Array]) -> TryIt:
    """Lets a user choose a test image (1, H, W), and shows it, what the network reads, and what it is."""

    def read(text: str) -> str:
        image, label = images[int(numbers_in(text, 1)[0]) % len(images)]
        with no_grad(), evaluating(model):
            scores = model(tt_core.tensor(normalize(image[None]))).softmax(-1).numpy()[0]
        found, shades = int(scores.argmax()), image[0] / max(float(image.max()), 1e-9)
        drawn = as_text((shades * 255).astype(np.uint8))
        return f"{drawn}\nread as {found} ({scores[found]:.1%}); it is a {int(label)}"

    return TryIt(f"the number of a test image, 0 to {len(images) - 1}", read)


def things(data_dir: Path | None = None, out: Path | None = None, seed: int = 0) -> float:
    """Train the small network on CIFAR-10; returns its accuracy on the test images."""
    found = _find("cnn: things", CIFAR10, data_dir, lambda count, seed: GeneratedShapes(count, seed, size=32))
    normalize = transforms.Normalize((0.4914, 0.4822, 0.4465), (0.247, 0.2435, 0.2616))  # of the training images
    augment = transforms.Compose(
        [transforms.RandomHorizontalFlip(), transforms.RandomCrop(32, padding=4, padding_mode="reflect"), normalize]
    )
    # most of a drawn picture is one colour, so its 2,048 features are nearly those of all others: larger steps diverge
    recipe = Recipe(epochs=8, max_lr=0.2 if found.real else 0.01, label_smoothing=0.1)
    reached = _train("small CNN", small_cnn, found, recipe, augment, normalize, out, seed)
    require("cnn", f"accuracy of the small network on {found.name}", reached, 0.75 if found.real else 0.95)
    return reached


@dataclass(frozen=True)
class _Found:
    name: str
    real: bool
    train: Any
    test: Any
    classes: Sequence[str]


def _find(what: str, dataset: Any, data_dir: Path | None, drawn: Callable[[int, int], Any]) -> _Found:
    """The dataset from `data_dir`, the cache or the network, or else a generated one; prints which."""
    name = dataset.__name__
    try:
        train, test = dataset(data_dir, train=True), dataset(data_dir, train=False)
    except (DownloadError, FileError) as error:
        if data_dir is not None and (data_dir / dataset.folder).exists():
            raise  # the user's files are damaged
        print(f"{what}: {name} is missing ({error})")
        print(f"{what}: trains on DRAWN pictures instead, which are easier than {name}")
        return _Found("drawn pictures", False, drawn(6_000, 0), drawn(1_000, 1), drawn(1, 0).classes)
    print(f"{what}: {name}, {len(train):,} images for training, {len(test):,} for testing")
    return _Found(name, True, train, test, dataset.classes)


def _train(
    name: str,
    build: Callable[[int], Layer],
    found: _Found,
    recipe: Recipe,
    augment: Callable[[Array], Array],
    normalize: Callable[[Array], Array],
    out: Path | None,
    seed: int,
) -> float:
    """Train a new network by the recipe, print its progress and write its picture; returns its test accuracy."""
    tt_core.manual_seed(seed)
    model = build(len(found.classes))
    print(f"  {name}: {model.num_parameters():,} parameters, seed {seed}")
    batches = DataLoader(found.train, recipe.batch_size, shuffle=True, transform=augment, drop_last=True)
    test = DataLoader(found.test, 500, transform=normalize)
    optimizer = SGD(model.parameters(), recipe.max_lr, momentum=0.9, nesterov=True, weight_decay=recipe.weight_decay)
    cycle = OneCycleLR(
        optimizer, recipe.max_lr, epochs=recipe.epochs, steps_per_epoch=len(batches), pct_start=0.25,
        cycle_momentum=False,
    )  # fmt: skip

    def loss(scores: Any, labels: Any) -> Any:
        return tt_core.cross_entropy(scores, labels, label_smoothing=recipe.label_smoothing)

    started = time.perf_counter()
    trainer = Trainer(model, optimizer, loss, scheduler=cycle, callbacks=[_Progress(test, started)])
    trainer.fit(batches, epochs=recipe.epochs)
    minutes = (time.perf_counter() - started) / 60
    scores, labels = predict(model, test)
    confusion = confusion_matrix(scores, labels)
    reached = float(np.trace(confusion) / confusion.sum())
    print(f"  {name}: {reached:.2%} of the test set in {minutes:.1f} minutes")
    if out is not None:
        _draw(name, model, found, normalize, confusion, reached, out)
    return reached


class _Progress(Callback):
    """Prints a line for each epoch: loss, accuracy on the test set, time."""

    def __init__(self, test: DataLoader, started: float) -> None:
        self.test, self.started, self.epoch = test, started, 0

    def on_epoch_end(self, trainer: Trainer) -> None:
        scores, labels = predict(trainer.model, self.test)
        share = float((scores.argmax(1) == labels).mean())
        minutes = (time.perf_counter() - self.started) / 60
        print(f"  epoch {trainer.epoch}: loss {trainer.loss:.3f}, {share:.2%} of the test set, {minutes:.1f} minutes")


def predict(model: Layer, batches: DataLoader) -> tuple[Array, Array]:
    """Scores (N, classes) and labels (N,) of a whole dataset; the mode of the model does not change."""
    with evaluating(model):
        pairs = [(model(images).numpy(), labels.numpy()) for images, labels in batches]
    scores, labels = (np.concatenate(column) for column in zip(*pairs))
    return scores, labels


def _draw(
    name: str,
    model: Layer,
    found: _Found,
    normalize: Callable[[Array], Array],
    confusion: Array,
    reached: float,
    out: Path,
) -> None:
    first = next(layer for layer in model.modules() if isinstance(layer, Conv2d))
    image, _ = found.test[0]
    with no_grad():
        maps = tt_core.relu(first(tt_core.tensor(normalize(image[None])))).numpy()[0]
    title = f"{name} on {found.name}: {reached:.2%} of the test set"
    svg = pictures.network_picture(title, first.weight.numpy(), image, maps, confusion, found.classes)
    path = make_folder(out) / f"{name.lower().replace(' ', '-')}.svg"
    write_atomic(path, svg.encode())
    print(f"  {name}: filters, feature maps and confusion matrix in {path}")


# --- for other acts


def dataset_arrays(name: str, data_dir: Path | None) -> tuple[Array, Array, Array, Array] | None:
    """The answer to `tt_dataset`: MNIST as bytes, from a folder, the cache or the network, or None."""
    if name != "mnist":
        return None
    try:
        train, test = MNIST(data_dir, train=True), MNIST(data_dir, train=False)
    except (DownloadError, FileError) as error:
        if data_dir is not None and (data_dir / MNIST.folder).exists():
            raise  # the user's files are damaged
        print(f"mnist: {error}")
        return None
    return train.images[:, 0], train.targets, test.images[:, 0], test.targets
