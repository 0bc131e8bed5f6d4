"""The trained models that the figures are measured on: the network of the milestone 1998, and a run of `tinygpt train`.

tinygpt train --preset nanogpt-cpu --corpus input.txt --plugin jit --plugin capture --out RUN
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import Any

import numpy as np

import tt_core
from tinygpt import TinyGPT
from tt_core import tensor
from tt_data import CIFAR10, DataLoader, transforms
from tt_data.command.milestones import small_cnn
from tt_language import next_token_loss
from tt_learn import SGD, OneCycleLR, Trainer, evaluating, load_tensors, save_tensors

NORMALIZE = transforms.Normalize((0.4914, 0.4822, 0.4465), (0.247, 0.2435, 0.2616))
MIRROR = transforms.Compose([transforms.RandomHorizontalFlip(), NORMALIZE])
AUGMENT = transforms.Compose(
    [transforms.RandomHorizontalFlip(), transforms.RandomCrop(32, padding=4, padding_mode="reflect"), NORMALIZE]
)


def cifar_network(data_dir: Path, file: Path, epochs: int = 8) -> Any:
    """The network of `tt milestone cnn`, from `file`; trained on CIFAR-10 and written there where it does not exist."""
    tt_core.manual_seed(0)
    model = small_cnn(10)
    if not file.exists():
        print(f"trains the network for {epochs} epochs; it will be in {file}", flush=True)
        fit_images(model, data_dir, epochs, 0.2)
        file.parent.mkdir(parents=True, exist_ok=True)
        save_tensors(file, model.state_dict())
    model.load_state_dict(load_tensors(file)[0])
    return model.eval()


def fit_images(model: Any, data_dir: Path, epochs: int, rate: float) -> None:
    """Train on CIFAR-10 by the milestone's recipe: SGD, one cycle of the learning rate, crops and mirrored images."""
    batches = DataLoader(CIFAR10(data_dir), 128, shuffle=True, transform=AUGMENT, drop_last=True)
    optimizer = SGD(model.parameters(), rate, momentum=0.9, nesterov=True, weight_decay=5e-4)
    schedule = OneCycleLR(
        optimizer, rate, epochs=epochs, steps_per_epoch=len(batches), pct_start=0.25, cycle_momentum=False
    )
    loss = tt_core.CrossEntropyLoss(label_smoothing=0.1)
    Trainer(model, optimizer, loss, scheduler=schedule).fit(batches, epochs=epochs)
    model.eval()


def accuracy(model: Any, data_dir: Path) -> float:
    """The share of CIFAR-10's 10,000 test images that the network gets right."""
    right = 0
    with evaluating(model):
        for images, labels in DataLoader(CIFAR10(data_dir, train=False), 250, transform=NORMALIZE):
            right += int((model(images).numpy().argmax(1) == labels.numpy()).sum())
    return right / 10_000


def model_parser(description: str | None, images: bool = True) -> argparse.ArgumentParser:
    """Options that name the trained models: a run and its corpus, and with `images` CIFAR-10 and its network."""
    parser = argparse.ArgumentParser(description=(description or "").splitlines()[0])
    parser.add_argument("--run", type=Path)
    parser.add_argument("--corpus", type=Path)
    if images:
        parser.add_argument("--data-dir", type=Path)
        parser.add_argument("--network", type=Path, default=Path("runs/cifar.safetensors"))
    return parser


class Language:
    """A run of `tinygpt train` and the text that it was trained on, of which the last tenth was held out."""

    def __init__(self, run: Path, corpus: Path) -> None:
        gpt = TinyGPT.load(run)
        self.model, self.context = gpt.model.eval(), gpt.model.config.block_size
        ids = np.array(gpt.tokenizer.encode(corpus.read_text("utf-8")))
        split = len(ids) - len(ids) // 10
        self.seen, self.held_out = ids[:split], ids[split:]

    def batch(self, rows: int, random: np.random.Generator) -> tuple[Any, Any]:
        """Windows of the text to train on, and the tokens that follow each."""
        starts = random.integers(0, len(self.seen) - self.context - 1, rows)
        ids = self.seen[starts[:, None] + np.arange(self.context + 1)]
        return tensor(ids[:, :-1]), tensor(ids[:, 1:])

    def perplexity(self, model: Any) -> float:
        """exp of the mean loss on the whole held-out text, read in windows of the context that follow each other."""
        count = (len(self.held_out) - 1) // self.context
        x = self.held_out[: count * self.context].reshape(count, -1)
        y = self.held_out[1 : count * self.context + 1].reshape(count, -1)
        total = 0.0
        with evaluating(model):
            for at in range(0, count, 64):
                some = slice(at, at + 64)
                total += next_token_loss(model(tensor(x[some])), tensor(y[some])).item() * len(x[some])
        return math.exp(total / count)
