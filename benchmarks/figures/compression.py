"""Module 16 on trained models: what shrinking half of a model saves and costs, and what a student gains by its teacher.

    python benchmarks/figures/compression.py --run RUN --corpus input.txt --data-dir DATA [--network cifar.safetensors]

RUN is a run of `tinygpt train` on the corpus (`networks.py` names the command), DATA holds CIFAR-10. Times are ratios
of two models that run in turn, on one thread.
"""

from __future__ import annotations

import copy
import itertools
import sys
from pathlib import Path
from typing import Any

import numpy as np
from figures import Figures, time_ratio
from networks import MIRROR, NORMALIZE, Language, accuracy, cifar_network, model_parser

import tt_core
from tt_core import tensor, use
from tt_data import CIFAR10, DataLoader
from tt_language import GPT, GPTConfig, generate, next_token_loss
from tt_learn import AdamW, CosineWarmupLR, LambdaLR, Muon, Trainer, evaluating
from tt_perf import DistillationTrainer, shrink_
from tt_perf.quantization.report import nbytes

SHAPE = GPTConfig(vocab_size=65, block_size=256, n_layer=6, n_head=6, n_embd=384, dropout=0.0, bias=False)


def shrunk_gpt(figures: Figures, *plugins: str) -> None:
    """A training step on 4 x 256 tokens, and 64 tokens after a prompt of 16 with `kv-cache`, at half of the units."""
    tt_core.manual_seed(16)
    large = GPT(SHAPE)
    small, ids = copy.deepcopy(large), np.random.default_rng(16).integers(0, 65, (4, 257))
    shrink_(small, {"neurons": 0.5, "heads": 0.5}, tensor(ids[:1, :16]))
    label = f" ({'+'.join(plugins)})" if plugins else ""
    with use(*plugins, report=False):
        ratio = time_ratio(training_step(small, ids), training_step(large, ids))
    figures.at_most(f"GPT 6/6/384 at half: time of a training step{label}", ratio, 0.65)
    with use("kv-cache", *plugins, report=False):
        ratio = time_ratio(writing(small), writing(large))
    figures.at_most(f"GPT 6/6/384 at half: time of 64 tokens{label}", ratio, 0.65)
    if not plugins:
        figures.at_most("GPT 6/6/384 at half: bytes", nbytes(small) / nbytes(large), 0.6)


def training_step(model: Any, ids: np.ndarray) -> Any:
    optimizer, x, y = AdamW(model.parameters(), 1e-3), tensor(ids[:, :-1]), tensor(ids[:, 1:])

    def step() -> None:
        model.train()
        optimizer.zero_grad()
        next_token_loss(model(x), y).backward()
        optimizer.step()

    return step


def writing(model: Any) -> Any:
    def write() -> None:
        model.eval()
        generate(model, list(range(16)), 64, temperature=0.0)

    return write


def shrunk_images(figures: Figures, data_dir: Path, network: Path) -> None:
    """The network of pictures at half of its channels, after one epoch of fine-tuning."""
    large = cifar_network(data_dir, network)
    before, small = accuracy(large, data_dir), copy.deepcopy(large)
    test = CIFAR10(data_dir, train=False)
    images = tensor(NORMALIZE(np.stack([test[i][0] for i in range(64)])))
    plain = copy.deepcopy(large)
    shrink_(plain, {"channels": 0.5}, images[:1])
    seen = (batch for batch, _ in DataLoader(CIFAR10(data_dir), 100, shuffle=True, transform=NORMALIZE))
    shrink_(small, {"channels": 0.5}, images[:1], calibration=itertools.islice(seen, 100))
    cut = accuracy(small, data_dir)
    print(f"        accuracy on CIFAR-10: {before:.2%}, shrunk {accuracy(plain, data_dir):.2%}, refitted {cut:.2%}")
    for seed in (1, 2, 3):
        tuned = copy.deepcopy(small)
        tt_core.manual_seed(seed)
        fine_tune(tuned, large, data_dir)
        after = accuracy(tuned, data_dir)
        print(f"        accuracy on CIFAR-10: {before:.2%}, after one epoch of fine-tuning {after:.2%}", flush=True)
        lost = round(100 * (before - after), 2)  # both are counts of 10,000 images
        figures.at_most(f"points of accuracy lost: half the channels, seed {seed}", lost, 2, ".2f")
    figures.at_most("bytes: half the channels", nbytes(small) / nbytes(large), 0.5)
    with evaluating(large), evaluating(small):
        ratio = time_ratio(lambda: small(images), lambda: large(images))
    figures.at_most("time of 64 images: half the channels", ratio, 0.5)


def fine_tune(small: Any, large: Any, data_dir: Path) -> None:
    """One epoch of distillation from the network as it was: Muon, a linear decay, mirrored images, but no crops.

    The network sees each image once, so it cannot learn them by heart, and test images are not cropped either. With
    SGD, crops and little weight on the labels, it lost 2.5 to 3 points.
    """
    batches = DataLoader(CIFAR10(data_dir), 64, shuffle=True, transform=MIRROR, drop_last=True)
    kernels = [p for p in small.parameters() if p.ndim == 4]
    others = [p for p in small.parameters() if p.ndim < 4]
    adamw = {"params": others, "lr": 1.2e-3, "use_muon": False, "betas": (0.9, 0.99)}
    optimizer = Muon([{"params": kernels}, adamw], lr=0.012, weight_decay=0.0)
    steps, warmup = len(batches), len(batches) // 10
    rate = LambdaLR(optimizer, lambda step: min((step + 1) / warmup, (steps - step) / (steps - warmup)))
    options = {"temperature": 4.0, "alpha": 0.5, "label_smoothing": 0.1}
    DistillationTrainer(small, optimizer, large, scheduler=rate, **options).fit(batches, epochs=1)
    small.eval()


def distilled(figures: Figures, language: Language, steps: int) -> None:
    """A student of 2 layers and 64 features, with the trained run as its teacher and without, from the same start."""
    for seed in (1, 2, 3):
        losses = [learn(language, seed, steps, teacher) for teacher in (language.model, None)]
        print(f"        seed {seed}: perplexity {losses[0]:.4f} with the teacher, {losses[1]:.4f} without", flush=True)
        figures.at_most(f"student's perplexity over that from scratch, seed {seed}", losses[0] / losses[1], 1, ".4f")


def learn(language: Language, seed: int, steps: int, teacher: Any) -> float:
    tt_core.manual_seed(seed)
    config = language.model.config
    student = GPT(GPTConfig(config.vocab_size, config.block_size, n_layer=2, n_head=2, n_embd=64, bias=False))
    optimizer = AdamW(student.parameters(), 3e-3, betas=(0.9, 0.99), weight_decay=0.1)
    options = {"scheduler": CosineWarmupLR(optimizer, steps // 10, steps, 3e-4), "clip_grad_norm": 1.0}
    random = np.random.default_rng(seed)
    if teacher is None:
        trainer = Trainer(
            student, optimizer, compute_loss=lambda model, b: next_token_loss(model(b[0]), b[1]), **options
        )
    else:
        trainer = DistillationTrainer(student, optimizer, teacher, temperature=1.0, alpha=0.7, **options)
    trainer.fit(lambda _: language.batch(12, random), steps=steps)
    return language.perplexity(student)


def main() -> int:
    parser = model_parser(__doc__)
    parser.add_argument("--steps", type=int, default=600, help="of each student's training")
    options = parser.parse_args()
    figures = Figures()
    shrunk_gpt(figures)
    shrunk_gpt(figures, "jit")
    with use("jit", report=False):
        if options.run and options.corpus:
            distilled(figures, Language(options.run, options.corpus), options.steps)
        if options.data_dir:
            shrunk_images(figures, options.data_dir, options.network)
    return figures.exit_code()


if __name__ == "__main__":
    sys.exit(main())
