"""A model saved in Hugging Face's format is the same model when it is read again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

import tt_core
from tt_core import Linear, init, tensor
from tt_core.engine.errors import FileError
from tt_language import GPT, ConfigError, GPTConfig

SIZES: dict[str, Any] = {"vocab_size": 23, "block_size": 9, "n_layer": 2, "n_head": 4, "n_embd": 16}
LLAMA: dict[str, Any] = {**SIZES, "position": "rotary", "norm": "rms", "mlp": "swiglu", "bias": False}
SHAPES: dict[str, dict[str, Any]] = {
    "gpt2": SIZES,
    "gpt2 without biases": {**SIZES, "bias": False, "eos_token_id": 3},
    "gpt2, head of its own": {**SIZES, "tie_weights": False, "mlp": "relu", "intermediate_size": 10},
    "llama": {**LLAMA, "n_kv_head": 2, "tie_weights": False, "intermediate_size": 24, "eos_token_id": (3, 4)},
    "llama, tied, biases": {**LLAMA, "attention_bias": True, "mlp_bias": True, "head_dim": 6, "rope_theta": 5e5},
    "llama, scaled": {**LLAMA, "rope_scaling": {"rope_type": "linear", "factor": 2.0}},
}
IDS = tensor([[1, 5, 2, 22, 7]])


def made(shape: dict[str, Any]) -> GPT:
    tt_core.manual_seed(0)
    model = GPT(GPTConfig(**shape)).eval()
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            init.normal_(parameter)
    return model


@pytest.mark.parametrize("name", SHAPES)
def test_the_saved_model_has_the_same_logits(name: str, tmp_path: Path) -> None:
    model = made(SHAPES[name])
    model.save_pretrained(tmp_path / "out")
    again = GPT.from_pretrained(tmp_path / "out")
    np.testing.assert_array_equal(again(IDS).numpy(), model(IDS).numpy())
    assert again.config.end_ids == model.config.end_ids
    again.save_pretrained(tmp_path / "twice")
    once, twice = (load_file(tmp_path / folder / "model.safetensors") for folder in ("out", "twice"))
    assert once.keys() == twice.keys()
    assert all(np.array_equal(once[key], twice[key]) for key in once)


def test_a_tied_head_is_stored_once(tmp_path: Path) -> None:
    for tied in (True, False):
        made({**SIZES, "tie_weights": tied}).save_pretrained(tmp_path)
        assert ("lm_head.weight" in load_file(tmp_path / "model.safetensors")) is not tied
        assert json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))["tie_word_embeddings"] is tied


@pytest.mark.parametrize(
    "changes", [{"position": "none"}, {"mlp": "swiglu"}, {"norm": "rms"}, {"n_kv_head": 2}, {"parallel": True}], ids=str
)
def test_a_shape_of_neither_family_is_refused(changes: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="neither GPT-2's shape"):
        GPT(GPTConfig(**{**SIZES, **changes})).save_pretrained(tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_layers_that_the_format_lacks_are_refused(tmp_path: Path) -> None:
    model = made(SIZES)
    model.blocks[0].mlp.extra = Linear(2, 2)
    with pytest.raises(ConfigError, match=r"holds 'blocks\.0\.mlp\.extra\.bias', .*, which the format lacks"):
        model.save_pretrained(tmp_path / "out")
    del model.blocks[0].mlp.extra
    model.blocks[0].mlp.up = Linear(16, 32)
    with pytest.raises(ConfigError, match=r"up\.weight is \(32, 16\), its config says \(64, 16\)"):
        model.save_pretrained(tmp_path / "out")


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(FileError):
        made(SIZES).save_pretrained(tmp_path / "file")


def test_a_loaded_model_is_changed_in_memory_alone(tmp_path: Path) -> None:
    made(SIZES).save_pretrained(tmp_path)
    before = (tmp_path / "model.safetensors").read_bytes()
    model = GPT.from_pretrained(tmp_path)
    init.ones_(model.wte.weight)
    model.blocks[0].mlp.up.weight.data *= 2
    model.save_pretrained(tmp_path / "changed")
    assert (tmp_path / "model.safetensors").read_bytes() == before
    assert GPT.from_pretrained(tmp_path / "changed").wte.weight.data.max() == 1


def test_loading_draws_no_random_numbers(tmp_path: Path) -> None:
    made(SIZES).save_pretrained(tmp_path)
    before = tt_core.random.get_rng_state()
    GPT.from_pretrained(tmp_path)
    assert tt_core.random.get_rng_state() == before
