"""Module 17: what is written with a cache of keys and values is what is written without, and what a token costs.

    python benchmarks/figures/memoization.py [--run RUN --corpus input.txt] [--prompts 200] [--tokens 128]

A token must be the same wherever the two best logits without a cache differ by more than 1e-3; logits may differ by
1e-4. Each comparison runs once more on weights of zeros, where it must fail, since all tokens are equal there.
"""

from __future__ import annotations

import argparse
import copy
import sys
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from figures import Figures
from networks import Language, model_parser

import tt_core
from tt_core import tensor, use
from tt_language import GPT, GPTConfig, generate
from tt_learn import evaluating
from tt_perf import KVCache

GAP = 1e-3
Prompts = Sequence[Sequence[int]]


def written(model: Any, prompts: Prompts, tokens: int, *plugins: str) -> list[list[int]]:
    """Greedy tokens. Raises `ValueError` where all are the same: their equality would say nothing about the plugins."""
    with use(*plugins, report=False):
        found = generate(model, prompts, tokens, temperature=0, ignore_eos=True)
    if len({token for row in found for token in row}) < 4:
        raise ValueError("all tokens are the same")
    return found


def different(model: Any, prompts: Prompts, plain: list[list[int]], found: list[list[int]]) -> int:
    """How many prompts get other tokens than plain ones where the two best logits are further apart than GAP."""
    wrong = 0
    for prompt, expected, tokens in zip(prompts, plain, found, strict=True):
        at = next((i for i, (a, b) in enumerate(zip(expected, tokens, strict=True)) if a != b), None)
        if at is not None:
            text = [*prompt, *expected[:at]][-model.config.block_size :]
            best = np.sort(logits(model, [text])[0, -1])
            wrong += bool(best[-1] - best[-2] > GAP)
    return wrong


def largest_difference(model: Any, texts: np.ndarray, *plugins: str) -> float:
    """Of logits at all positions of texts (rows, length) that are read at once, and by a cache token by token."""
    largest = 0.0
    for some in np.array_split(texts, max(1, len(texts) // 25)):
        expected, cache = logits(model, some), KVCache()
        with use(*plugins, report=False):
            found = [logits(model, part, past=cache) for part in np.split(some, range(9, some.shape[1]), axis=1)]
        largest = max(largest, float(np.abs(np.concatenate(found, axis=1) - expected).max()))
    return largest


def logits(model: Any, ids: Any, **options: Any) -> np.ndarray:
    with evaluating(model):
        return model(tensor(ids), **options).numpy()


def models(options: argparse.Namespace) -> dict[str, tuple[Any, Callable[[int], list[int]]]]:
    """Models by name, each with a function that gives a prompt of some length."""
    random = np.random.default_rng(17)
    found: dict[str, tuple[Any, Callable[[int], list[int]]]] = {}
    for name, changes in {
        "learned positions": {},
        "rotary, shared keys": {"position": "rotary", "norm": "rms", "mlp": "swiglu", "n_kv_head": 2},
    }.items():
        tt_core.manual_seed(17)
        model = GPT(GPTConfig(256, 256, 2, 4, 64, dropout=0.0, **changes)).eval()
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.data *= 3  # random weights as they begin write the same token again and again
        found[name] = model, lambda n: random.integers(0, 256, n).tolist()
    if options.run and options.corpus:
        language = Language(options.run, options.corpus)

        def held_out(n: int) -> list[int]:
            start = random.integers(0, len(language.held_out) - n)
            return language.held_out[start : start + n].tolist()

        found["the run"] = language.model, held_out
    return found


def main() -> int:
    parser = model_parser(__doc__, images=False)
    parser.add_argument("--prompts", type=int, default=200)
    parser.add_argument("--tokens", type=int, default=128)
    options = parser.parse_args()
    figures = Figures()
    for name, (model, prompt) in models(options).items():
        prompts = [prompt(1 + 7 * i % 60) for i in range(options.prompts)]
        length = min(model.config.block_size, 20 + options.tokens)
        texts = np.array([prompt(length) for _ in prompts])
        plain = written(model, prompts, options.tokens)
        for plugins in ((), ("jit",)):
            label = "+".join(("kv-cache", *plugins))
            found = written(model, prompts, options.tokens, "kv-cache", *plugins)
            wrong = different(model, prompts, plain, found)
            figures.at_most(f"{name}, {label}: prompts that get other tokens", wrong, 0, ".0f")
            largest = largest_difference(model, texts, *plugins)
            figures.at_most(f"{name}, {label}: difference of logits", largest, 1e-4, ".1e")
        zeros = copy.deepcopy(model)
        for parameter in zeros.parameters():
            parameter.data[...] = 0
        try:
            written(zeros, prompts[:4], options.tokens, "kv-cache")
            noticed = 0
        except ValueError:
            noticed = 1
        figures.at_least(f"weights of zeros are noticed: {name}", noticed, 1, ".0f")
    return figures.exit_code()


if __name__ == "__main__":
    sys.exit(main())
