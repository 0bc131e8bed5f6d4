"""Adapters: PEFT reads what is written here, and the other way around; both compute the same."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

import tt_core
from tt_core import init, tensor
from tt_language import GPT, GPTConfig
from tt_perf.lora import LoraConfig, get_peft_model, load_adapter, save_adapter

peft = pytest.importorskip("peft")
pytestmark = pytest.mark.filterwarnings("default")  # PEFT warns of what it decides itself

SIZES: dict[str, Any] = {"vocab_size": 50, "block_size": 16, "n_layer": 2, "n_head": 4, "n_embd": 16}
LLAMA: dict[str, Any] = {**SIZES, "position": "rotary", "norm": "rms", "mlp": "swiglu", "bias": False, "n_kv_head": 2}
SHAPES = {"gpt2": SIZES, "gpt2-untied": {**SIZES, "tie_weights": False}, "llama": {**LLAMA, "tie_weights": False},
          "llama-tied": LLAMA}  # fmt: skip
IDS = [[1, 5, 2, 44, 7, 9]]
CONFIGS: dict[str, tuple[str, dict[str, Any]]] = {
    "defaults": ("gpt2", {}),
    "all of gpt2": ("gpt2", {"target_modules": ["c_attn", "c_proj", "c_fc"], "r": 3, "lora_alpha": 7}),
    "one c_proj": ("gpt2", {"target_modules": ["mlp.c_proj"], "use_rslora": True}),
    "untied head": ("gpt2-untied", {"target_modules": ["c_attn", "lm_head"]}),
    "tied head": ("gpt2", {"target_modules": ["c_attn", "lm_head"]}),
    "saved head": ("gpt2-untied", {"target_modules": ["c_attn"], "modules_to_save": ["lm_head", "ln_f"]}),
    "saved projection": ("gpt2", {"target_modules": ["c_attn"], "modules_to_save": ["c_fc"]}),
    "all biases": ("gpt2", {"target_modules": ["c_attn"], "bias": "all"}),
    "adapted biases": ("gpt2", {"target_modules": ["c_attn"], "bias": "lora_only"}),
    "llama defaults": ("llama", {}),
    "llama k and mlp": ("llama", {"target_modules": ["k_proj", "gate_proj", "down_proj", "o_proj"], "r": 2}),
    "llama all": ("llama-tied", {"target_modules": "all-linear"}),
    "llama one layer": ("llama", {"target_modules": r"model\.layers\.1\..*(q|up)_proj"}),
}


def made(name: str) -> GPT:
    tt_core.manual_seed(1)
    model = GPT(GPTConfig(**SHAPES[name])).eval()
    for key, parameter in model.named_parameters():
        if key.endswith("bias"):
            init.normal_(parameter, std=0.3)
        elif parameter.ndim == 2:
            parameter.data *= 3
    return model


def logits(model: Any) -> np.ndarray:
    with torch.no_grad():
        return np.asarray(model(torch.tensor(IDS)).logits.float().numpy())


@pytest.mark.parametrize("name", CONFIGS)
def test_peft_reads_ours(name: str, tmp_path: Path) -> None:
    shape, options = CONFIGS[name]
    model = made(shape)
    model.save_pretrained(tmp_path / "base")
    adapted = get_peft_model(model, LoraConfig(**options)).eval()
    for entry in adapted.trained().values():
        init.normal_(entry, std=0.4)
    save_adapter(adapted, tmp_path / "adapter", base=str(tmp_path / "base"))
    base = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "base")
    theirs = peft.PeftModel.from_pretrained(base, tmp_path / "adapter").eval()
    ours = adapted(tensor(IDS)).numpy()
    np.testing.assert_allclose(ours, logits(theirs), rtol=1e-4, atol=1e-4)
    merged = adapted.merge_and_unload()
    np.testing.assert_allclose(merged(tensor(IDS)).numpy(), ours, rtol=1e-4, atol=1e-4)
    merged.save_pretrained(tmp_path / "merged")
    whole = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "merged").eval()
    np.testing.assert_allclose(logits(whole), ours, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("half", [False, True], ids=["float32", "float16 base"])
@pytest.mark.parametrize("name", CONFIGS)
def test_we_read_pefts(name: str, half: bool, tmp_path: Path) -> None:
    shape, options = CONFIGS[name]
    made(shape).save_pretrained(tmp_path / "base")
    base = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "base")
    if half:
        base = base.half()
        base.save_pretrained(tmp_path / "base")
        base = base.float()
    torch.manual_seed(0)
    theirs = peft.get_peft_model(base, peft.LoraConfig(task_type="CAUSAL_LM", **options)).eval()
    with torch.no_grad():
        for parameter in theirs.parameters():
            if parameter.requires_grad:
                parameter.normal_(std=0.4)
    theirs.save_pretrained(tmp_path / "adapter", save_embedding_layers=False)
    adapted = load_adapter(GPT.from_pretrained(tmp_path / "base"), tmp_path / "adapter").eval()
    np.testing.assert_allclose(adapted(tensor(IDS)).numpy(), logits(theirs), rtol=2e-4, atol=2e-4)
    with adapted.disable_adapter(), theirs.disable_adapter():
        if options.get("bias", "none") == "none":  # PEFT leaves trained biases on
            np.testing.assert_allclose(adapted(tensor(IDS)).numpy(), logits(theirs), rtol=1e-4, atol=1e-4)


def test_the_config_is_pefts(tmp_path: Path) -> None:
    save_adapter(get_peft_model(made("gpt2"), LoraConfig(target_modules=["out_proj"])), tmp_path, base="gpt2")
    values = json.loads((tmp_path / "adapter_config.json").read_text(encoding="utf-8"))
    assert values["target_modules"] == ["attn.c_proj"]
    theirs = peft.LoraConfig.from_pretrained(tmp_path)
    assert (theirs.r, theirs.lora_alpha, theirs.fan_in_fan_out, theirs.base_model_name_or_path) == (8, 8, True, "gpt2")
