"""A training step of a GPT beside PyTorch's: forward, cross entropy, backward, clipping to norm 1, one step of AdamW.

    python benchmarks/peers/gpt.py [--size small|medium] [--rounds 5] [--plugin jit ...]

small is 4 layers, 4 heads, 128 features, context 64, batch 12, vocabulary 65 (nanoGPT's CPU configuration); medium
6, 6, 384, context 256, batch 4, vocabulary 1024. Both sides compute the same: pre-norm blocks, GPT-2's GELU (the tanh
form), a tied head. PyTorch's side is nanoGPT's model with PyTorch's fused attention, TinyTorch's side keeps freed
memory as its programs do (`tt_core.engine.heap`). Each side runs in a process of its own, on all threads.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from side_by_side import main

SIZES = {"small": (65, 64, 4, 4, 128, 12), "medium": (1024, 256, 6, 6, 384, 4)}
"""Vocabulary, context, layers, heads, features, batch."""


def batch(size: str) -> tuple[np.ndarray, np.ndarray]:
    vocab, context, *_, rows = SIZES[size]
    ids = np.random.default_rng(0).integers(vocab, size=(rows, context + 1))
    return ids[:, :-1], ids[:, 1:]


def tinytorch_step(size: str) -> tuple[Callable[[], object], str]:
    import tt_language
    from tt_core import tensor
    from tt_language import GPT, GPTConfig, next_token_loss
    from tt_learn import AdamW, clip_grad_norm_

    vocab, context, layers, heads, features, _ = SIZES[size]
    model = GPT(GPTConfig(vocab, context, layers, heads, features, bias=False))
    optimizer = AdamW(model.parameters(), lr=1e-3)
    inputs, targets = map(tensor, batch(size))

    def step() -> Any:
        optimizer.zero_grad()
        loss = next_token_loss(model(inputs), targets)
        loss.backward()
        clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        return loss

    return step, f"tinytorch {tt_language.__version__}, numpy {np.__version__}"


def torch_step(size: str) -> tuple[Callable[[], object], str]:
    import torch
    from torch.nn import functional as F

    model, (inputs, targets) = torch_model(size), map(torch.tensor, batch(size))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)

    def step() -> Any:
        optimizer.zero_grad()
        logits = model(inputs)
        loss = F.cross_entropy(logits.flatten(0, 1), targets.flatten())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        return loss

    return step, f"torch {torch.__version__} eager, {torch.get_num_threads()} threads"


def torch_model(size: str) -> Any:
    import torch
    from torch import nn
    from torch.nn import functional as F

    vocab, context, layers, heads, features, _ = SIZES[size]

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm1, self.norm2 = nn.LayerNorm(features, bias=False), nn.LayerNorm(features, bias=False)
            self.qkv = nn.Linear(features, 3 * features, bias=False)
            self.out = nn.Linear(features, features, bias=False)
            self.up = nn.Linear(features, 4 * features, bias=False)
            self.down = nn.Linear(4 * features, features, bias=False)

        def forward(self, x: Any) -> Any:
            rows, length, _ = x.shape
            q, k, v = (
                part.view(rows, length, heads, -1).transpose(1, 2) for part in self.qkv(self.norm1(x)).chunk(3, -1)
            )
            seen = F.scaled_dot_product_attention(q, k, v, is_causal=True)
            x = x + self.out(seen.transpose(1, 2).reshape(rows, length, features))
            return x + self.down(F.gelu(self.up(self.norm2(x)), approximate="tanh"))

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.wte, self.wpe = nn.Embedding(vocab, features), nn.Embedding(context, features)
            self.blocks = nn.ModuleList(Block() for _ in range(layers))
            self.norm = nn.LayerNorm(features, bias=False)
            self.head = nn.Linear(features, vocab, bias=False)
            self.head.weight = self.wte.weight
            for name, parameter in self.named_parameters():
                if parameter.ndim == 2:
                    scale = math.sqrt(2 * layers) if name.endswith(("out.weight", "down.weight")) else 1
                    nn.init.normal_(parameter, std=0.02 / scale)

        def forward(self, ids: Any, last: int = 0) -> Any:
            x = self.wte(ids) + self.wpe(torch.arange(ids.shape[1]))
            for block in self.blocks:
                x = block(x)
            return self.head(self.norm(x[:, -last:]))

    return Model()


if __name__ == "__main__":
    main(__file__, __doc__, tinytorch_step, torch_step, {"small": 40, "medium": 12})
