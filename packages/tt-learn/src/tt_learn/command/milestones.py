"""The milestones of Act II: 1969, XOR, and 1986, the multi-layer perceptron.

Both print what they measured and raise `Shortfall` when it is less than they claim. They use gradients and
optimizers as a user would; the loops stand here in full, a `Trainer` would hide them.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import numpy as np

import tt_core
from tt_core.command.journey import TryIt, in_data_dir, numbers_in, require
from tt_core.engine.dispatch import Array
from tt_core.engine.errors import ShapeError
from tt_core.engine.plugins import manager
from tt_learn.autograd import no_grad
from tt_learn.command.digits import draw_digits
from tt_learn.command.idx import read_idx
from tt_learn.optimizers.optimizers import Adam, AdamW
from tt_learn.training.metrics import accuracy

Digits = tuple[Array, Array, Array, Array]  # images and labels to learn from, then those to test on


# --- 1969


def xor(data_dir: Path | None = None, out: Path | None = None) -> TryIt:
    """One layer cannot compute XOR, two can (Minsky and Papert 1969).

    The best of ten trainings is shown for each, at the best of their steps. Raises `Shortfall` when one layer gets
    more than three of the four cases right, which no line can, or two layers fewer than all.
    """
    tt_core.manual_seed(1969)
    one = max(_train_on_xor(tt_core.Linear(2, 1)) for _ in range(10))
    print(f"xor: one layer gets {one:.0%} of the four cases right (a line separates three of them at most)")
    trained = [(_train_on_xor(model), model) for model in (_two_layers() for _ in range(10))]
    two, best = max(trained, key=lambda pair: pair[0])
    print(f"xor: two layers get {two:.0%} right")
    require("xor", "accuracy of two layers", two, 1.0)
    require("xor", "share that one layer gets wrong", 1 - one, 0.25)

    def answer(text: str) -> str:
        with no_grad():
            return f"{best(tt_core.tensor([numbers_in(text, 2)])).sigmoid().item():.1%} for 1"

    return TryIt("two numbers, such as 0 1", answer)


def _two_layers() -> tt_core.Layer:
    return tt_core.Sequential(tt_core.Linear(2, 8), tt_core.Tanh(), tt_core.Linear(8, 1))


def _train_on_xor(model: tt_core.Layer, steps: int = 300) -> float:
    """The largest share of the four cases that `model` gets right at any step of its training.

    At its end a single layer answers 0 to all four, so that rounding alone would decide which of them are right.
    """
    x = tt_core.tensor([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
    t = tt_core.tensor([[0.0], [1.0], [1.0], [0.0]])
    optimizer = Adam(model.parameters(), lr=0.05)
    best = 0.0
    for _ in range(steps):
        optimizer.zero_grad()
        answers = model(x)
        best = max(best, float(np.mean((answers.data > 0) == (t.data > 0))))
        tt_core.binary_cross_entropy_with_logits(answers, t).backward()
        optimizer.step()
    return best


# --- 1986

EPOCHS, BATCH, RATE = 6, 128, 2e-3


def mlp(data_dir: Path | None = None, out: Path | None = None) -> TryIt:
    """A multi-layer perceptron learns to read digits by backpropagation (Rumelhart, Hinton and Williams 1986).

    With MNIST (see `find_digits`) it must read 98 % of the test images, 95 % after one pass; on the drawn digits
    that stand in for it, too. Raises `Shortfall` otherwise.
    """
    train_x, train_y, test_x, test_y = find_digits(data_dir)
    tt_core.manual_seed(1986)
    model = tt_core.Sequential(tt_core.Linear(784, 256), tt_core.ReLU(), tt_core.Linear(256, 10))
    steps = EPOCHS * -(-len(train_x) // BATCH)
    optimizer = AdamW(model.parameters(), lr=RATE, weight_decay=0.01)
    started, first = time.perf_counter(), 0.0
    for epoch in range(1, EPOCHS + 1):
        _train_one_epoch(model, optimizer, train_x, train_y, (epoch - 1) / EPOCHS, 1 / steps)
        read = _share_read(model, test_x, test_y)
        first = first or read
        print(f"  epoch {epoch}: {read:.2%} of {len(test_x):,} test images, {time.perf_counter() - started:.1f} s")
    require("mlp", "accuracy after the first epoch", first, 0.95)
    require("mlp", "accuracy", read, 0.98)

    def reading(text: str) -> str:
        number = int(numbers_in(text, 1)[0]) % len(test_x)
        with no_grad():
            scores = model(_as_input(test_x[number : number + 1])).softmax(-1).data[0]
        found = int(scores.argmax())
        return f"{as_text(test_x[number])}\nread as {found} ({scores[found]:.1%}); it is a {test_y[number]}"

    return TryIt(f"the number of a test image, 0 to {len(test_x) - 1}", reading)


def as_text(image: Array) -> str:
    """A picture of bytes (H, W) as lines of characters, darker ones for larger numbers.

    >>> print(as_text(np.array([[0, 255], [128, 0], [0, 0]], np.uint8)))
     @
    =
    """
    shades = np.array(list(" .:-=+*#%@"))
    rows = ("".join(shades[row.astype(int) * 9 // 255]).rstrip() for row in image)
    return "\n".join(rows).rstrip()


def _train_one_epoch(
    model: tt_core.Layer, optimizer: AdamW, images: Array, labels: Array, progress: float, per_step: float
) -> None:
    """One pass in random order, each batch moved by up to a pixel, which is worth 0.6 % of the test images.

    The learning rate falls to 0 with the square of the remaining share of the training.
    """
    order = tt_core.generator().permutation(len(images))
    for start in range(0, len(order), BATCH):
        batch = order[start : start + BATCH]
        optimizer.param_groups[0]["lr"] = RATE * (1 - progress) ** 2
        optimizer.zero_grad()
        moved = np.roll(images[batch], tt_core.generator().integers(-1, 2, 2), axis=(1, 2))
        tt_core.cross_entropy(model(_as_input(moved)), tt_core.tensor(labels[batch])).backward()
        optimizer.step()
        progress += per_step


def _share_read(model: tt_core.Layer, images: Array, labels: Array) -> float:
    with no_grad():
        return accuracy(model(_as_input(images)), tt_core.tensor(labels))


def _as_input(images: Array) -> Any:
    """Bytes (N, 28, 28) as (N, 784) with about the mean 0 and the deviation 1 of MNIST."""
    pixels = images.reshape(len(images), -1).astype(np.float32)
    return tt_core.from_numpy((pixels - np.float32(33.3)) / np.float32(78.6))


def find_digits(data_dir: Path | None) -> Digits:
    """MNIST from a plugin that knows it (Act III does, and can download it), else from `mnist/` in `data_dir` or in
    the folder that TT_DATA_HOME names, else digits drawn by a generator; says which.
    """
    found = manager.ask("tt_dataset", name="mnist", data_dir=data_dir) or _read_mnist(data_dir)
    if found is not None:
        print(f"mlp: MNIST, {len(found[0]):,} images to learn from, {len(found[2]):,} to test on")
        return found
    print("mlp: no MNIST here (--data-dir DIR or TT_DATA_HOME, with DIR/mnist/train-images-idx3-ubyte.gz, ...).")
    print("mlp: these are DRAWN digits instead, which a generator makes and which are easier than handwriting")
    rng = np.random.default_rng(1986)
    return *draw_digits(12_000, rng), *draw_digits(2_000, rng)


def _read_mnist(data_dir: Path | None) -> Digits | None:
    home = os.environ.get("TT_DATA_HOME")
    folder = in_data_dir(data_dir or (Path(home) if home else None), "mnist")
    if folder is None:
        return None
    train = _read_pair(folder, "train")
    return *train, *_read_pair(folder, "t10k")


def _read_pair(folder: Path, part: str) -> tuple[Array, Array]:
    images = read_idx(folder / f"{part}-images-idx3-ubyte.gz")
    labels = read_idx(folder / f"{part}-labels-idx1-ubyte.gz")
    if images.shape[1:] != (28, 28) or images.shape[:1] != labels.shape:
        raise ShapeError(f"{folder}: {part} has images {images.shape} and labels {labels.shape}; MNIST's are expected")
    return images, labels.astype(np.int64)
