"""Module 15 on trained models: what int8 and int4 cost in perplexity and accuracy, and what they save in bytes.

    python benchmarks/figures/quantization.py --run RUN --corpus input.txt --data-dir DATA [--network cifar.safetensors]

RUN is a run of `tinygpt train` on the corpus (`networks.py` names the command), DATA holds CIFAR-10.
"""

from __future__ import annotations

import sys
from pathlib import Path

from figures import Figures
from networks import AUGMENT, Language, accuracy, cifar_network, model_parser

from tt_core import use
from tt_data import CIFAR10, DataLoader, Subset
from tt_language import GPT, GPTConfig
from tt_perf import Int4WeightOnly, Int8DynamicActivation, Int8Static, Int8WeightOnly, calibrating, quantize_
from tt_perf.command.milestones import quantized
from tt_perf.quantization.report import nbytes


def perplexity(figures: Figures, language: Language) -> None:
    before = language.perplexity(language.model)
    print(f"        perplexity of the run on the held-out text {before:.4f}")
    for name, config, limit in (
        ("int8", Int8WeightOnly(), 1.01),
        ("int8, dynamic activations", Int8DynamicActivation(), 1.01),
        ("int4, groups of 64", Int4WeightOnly(64), 1.04),
        ("int4, groups of 32", Int4WeightOnly(32), 1.04),
    ):
        after = language.perplexity(quantized(language.model, config))
        figures.at_most(f"perplexity over that of float32: {name}", after / before, limit, ".4f")


def size(figures: Figures) -> None:
    """Bytes of a model of GPT-2's shape, 124 million parameters, tied head; each array is counted once."""
    model = GPT(GPTConfig(vocab_size=50257, block_size=1024, n_layer=12, n_head=12, n_embd=768)).eval()
    before = nbytes(model)
    for name, config, limit in (("int8", Int8WeightOnly(), 0.27), ("int4, groups of 64", Int4WeightOnly(64), 0.16)):
        figures.at_most(f"bytes of GPT-2's shape: {name}", nbytes(quantized(model, config)) / before, limit)


def images(figures: Figures, data_dir: Path, network: Path) -> None:
    model = cifar_network(data_dir, network)
    before = accuracy(model, data_dir)
    print(f"        accuracy of the network on CIFAR-10 {before:.2%}")
    with calibrating(model) as calibration:
        for pictures, _ in DataLoader(Subset(CIFAR10(data_dir), range(512)), 64, transform=AUGMENT):
            model(pictures)
    quantize_(model, Int8Static(calibration), verbose=False)
    figures.at_most("points of accuracy lost: int8, static", 100 * (before - accuracy(model, data_dir)), 1, ".2f")


def main() -> int:
    options = model_parser(__doc__).parse_args()
    figures = Figures()
    size(figures)
    if options.run and options.corpus:
        perplexity(figures, Language(options.run, options.corpus))
    if options.data_dir:
        with use("jit", report=False):
            images(figures, options.data_dir, options.network)
    return figures.exit_code()


if __name__ == "__main__":
    sys.exit(main())
