"""Greedy decoding beside PyTorch's, each with its own cache of keys and values: tokens after a prompt of 8.

    python benchmarks/peers/decode.py [--size medium|gpt2|gpt2-int8] [--rounds 5] [--plugin kv-cache --plugin jit ...]

medium is the GPT of `gpt.py --size medium` and 64 tokens; gpt2 has GPT-2's shape (124 million parameters) and random
weights, and 16 tokens; with gpt2-int8, the linear layers of PyTorch's side are int8 with dynamic activations. PyTorch's
side runs its modules in inference mode, with keys and values in arrays that were allocated before. TinyTorch remembers
them with the plugin `kv-cache` alone: the row without a plugin shows what reading the whole text for each token costs.
`--plugin kv-cache --plugin jit` computes a token in one compiled call; `--plugin int8` and `--plugin int4` quantize.
A row's milliseconds are those of all tokens.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from gpt import SIZES, torch_model
from side_by_side import main

PROMPT = 8
TOKENS = {"medium": 64, "gpt2": 16, "gpt2-int8": 16}
SIZES |= dict.fromkeys(("gpt2", "gpt2-int8"), (50257, 1024, 12, 12, 768, 1))


def prompt(size: str) -> np.ndarray:
    return np.random.default_rng(0).integers(SIZES[size][0], size=(1, PROMPT))


def tinytorch_step(size: str) -> tuple[Callable[[], object], str]:
    import tt_language
    from tt_language import GPT, GPTConfig, generate

    vocab, context, layers, heads, features, _ = SIZES[size]
    model = GPT(GPTConfig(vocab, context, layers, heads, features, bias=False)).eval()
    texts = prompt(size).tolist()

    def step() -> object:
        return generate(model, texts, TOKENS[size], temperature=0)

    return step, f"tinytorch {tt_language.__version__}, numpy {np.__version__}"


def torch_step(size: str) -> tuple[Callable[[], object], str]:
    import torch
    from torch import nn
    from torch.nn import functional as F

    _, context, layers, heads, features, _ = SIZES[size]
    model, start = torch_model(size).eval(), torch.tensor(prompt(size))
    if size == "gpt2-int8":
        model = torch.ao.quantization.quantize_dynamic(model, {nn.Linear}, torch.qint8)
    shape = (2, layers, 1, heads, context, features // heads)
    keys, values = torch.zeros(shape)

    def attend(block: Any, x: Any, layer: int, first: int) -> Any:
        length = x.shape[1]
        q, k, v = (part.view(1, length, heads, -1).transpose(1, 2) for part in block.qkv(x).chunk(3, -1))
        end = first + length
        keys[layer][:, :, first:end], values[layer][:, :, first:end] = k, v
        seen = (keys[layer][:, :, :end], values[layer][:, :, :end])
        out = F.scaled_dot_product_attention(q, *seen, is_causal=length > 1)
        return block.out(out.transpose(1, 2).reshape(1, length, features))

    def logits(ids: Any, first: int) -> Any:
        x = model.wte(ids) + model.wpe(torch.arange(first, first + ids.shape[1]))
        for layer, block in enumerate(model.blocks):
            x = x + attend(block, block.norm1(x), layer, first)
            x = x + block.down(F.gelu(block.up(block.norm2(x)), approximate="tanh"))
        return model.head(model.norm(x[:, -1:]))

    @torch.inference_mode()
    def step() -> object:
        ids, read, found = start, 0, []
        for _ in range(TOKENS[size]):
            new = logits(ids, read).argmax(-1)
            read += ids.shape[1]
            found.append(new.item())
            ids = new
        return found

    return step, f"torch {torch.__version__} eager, {torch.get_num_threads()} threads"


if __name__ == "__main__":
    main(__file__, __doc__, tinytorch_step, torch_step, {"medium": 5, "gpt2": 3, "gpt2-int8": 3})
