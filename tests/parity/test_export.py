"""What TinyGPT writes, read by the libraries that others use: transformers, peft, onnxruntime and gguf."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

import tt_core
from tt_core import init, tensor
from tt_language import GPT, GPTConfig, generate

SIZES: dict[str, Any] = {"vocab_size": 300, "block_size": 32, "n_layer": 2, "n_head": 4, "n_embd": 32}
LLAMA: dict[str, Any] = {**SIZES, "position": "rotary", "norm": "rms", "mlp": "swiglu", "bias": False}
SHAPES: dict[str, dict[str, Any]] = {
    "gpt2": SIZES,
    "gpt2-plain": {**SIZES, "bias": False, "mlp": "gelu", "tie_weights": False},
    "llama": {**LLAMA, "n_kv_head": 2, "tie_weights": False, "rope_theta": 5e5},
    "llama-tied": {**LLAMA, "attention_bias": True, "head_dim": 10},
    "llama3-rope": {
        **LLAMA,
        "rope_scaling": {
            "rope_type": "llama3", "factor": 4.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
            "original_max_position_embeddings": 8,
        },
    },
}  # fmt: skip


def made(name: str, **changes: Any) -> GPT:
    """A model whose logits are as far apart as a trained one's."""
    tt_core.manual_seed(1)
    model = GPT(GPTConfig(**{**SHAPES[name], **changes})).eval()
    for key, parameter in model.named_parameters():
        if key.endswith("bias"):
            init.normal_(parameter, std=0.3)
        elif parameter.ndim == 2:
            parameter.data *= 3
    return model


@pytest.mark.parametrize("name", SHAPES)
def test_transformers_reproduces_logits_and_greedy_tokens(name: str, tmp_path: Path) -> None:
    model = made(name)
    model.save_pretrained(tmp_path)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path).eval()
    ids = [[5, 7, 250, 9, 13]]
    with torch.no_grad():
        logits = theirs(torch.tensor(ids)).logits.numpy()
        written = theirs.generate(torch.tensor(ids), max_new_tokens=20, do_sample=False, pad_token_id=0)
    np.testing.assert_allclose(model(tensor(ids)).numpy(), logits, rtol=1e-4, atol=1e-4)
    assert generate(model, ids, 20, temperature=0)[0] == written[0, 5:].tolist()
