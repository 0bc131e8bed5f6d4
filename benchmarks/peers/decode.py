"""Greedy decoding beside PyTorch's: 64 tokens after a prompt of 64, the GPT of `gpt.py --size medium`.

    python benchmarks/peers/decode.py [--rounds 5] [--plugin kv-cache ...]

Neither side remembers keys and values: each token reads the whole text again, and only the last position goes through
the head. It is the base line for the plugins of Act V; `--plugin kv-cache` adds a row that shows what remembering buys.
A row's milliseconds are those of all 64 tokens.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from gpt import SIZES, batch, torch_model
from side_by_side import main

PROMPT, TOKENS = 64, 64


def prompt(size: str) -> np.ndarray:
    return batch(size)[0][:1, :PROMPT]


def tinytorch_step(size: str) -> tuple[Callable[[], object], str]:
    import tt_language
    from tt_language import GPT, GPTConfig, generate

    vocab, context, layers, heads, features, _ = SIZES[size]
    model = GPT(GPTConfig(vocab, context, layers, heads, features, bias=False)).eval()
    texts = prompt(size).tolist()

    def step() -> object:
        return generate(model, texts, TOKENS, temperature=0)

    return step, f"tinytorch {tt_language.__version__}, numpy {np.__version__}"


def torch_step(size: str) -> tuple[Callable[[], object], str]:
    import torch

    model, start = torch_model(size).eval(), torch.tensor(prompt(size))

    @torch.inference_mode()
    def step() -> object:
        ids = start
        for _ in range(TOKENS):
            ids = torch.cat([ids, model(ids, last=1)[:, -1:].argmax(-1)], dim=1)
        return ids

    return step, f"torch {torch.__version__} eager, {torch.get_num_threads()} threads"


if __name__ == "__main__":
    main(__file__, __doc__, tinytorch_step, torch_step, {"medium": 5})
