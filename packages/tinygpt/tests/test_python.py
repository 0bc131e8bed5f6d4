"""TinyGPT from Python: folders in both formats, and conversations."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import tt_core
from tinygpt import TinyGPT
from tinygpt.chat import OWN_TEMPLATE, ChatError, encode_chat
from tt_core import init, tensor
from tt_core.engine.errors import FileError
from tt_language import GPT, BPETokenizer, ConfigError, GPTConfig, generate
from tt_learn import load_tensors, save_tensors

TALK = [{"role": "user", "content": "the cat"}]


@pytest.fixture
def gpt() -> TinyGPT:
    tt_core.manual_seed(3)
    tokenizer = BPETokenizer.train("the cat sat on the mat. " * 20, 270, special_tokens=["<|end|>"])
    tokenizer.eos_token, tokenizer.chat_template = "<|end|>", OWN_TEMPLATE
    model = GPT(GPTConfig(vocab_size=tokenizer.vocab_size, block_size=48, n_layer=1, n_head=2, n_embd=16)).eval()
    for parameter in model.parameters():
        parameter.data *= 4
    return TinyGPT(model, tokenizer)


def test_a_shared_head_is_stored_once(gpt: TinyGPT, tmp_path: Path) -> None:
    gpt.save(tmp_path / "run")
    gpt.save_pretrained(tmp_path / "hf")
    sizes = [(tmp_path / name / "model.safetensors").stat().st_size for name in ("run", "hf")]
    assert sizes[0] <= 1.02 * sizes[1]
    weights = load_tensors(tmp_path / "run" / "model.safetensors")[0]
    assert "lm_head.weight" not in weights
    again, ids = TinyGPT.load(tmp_path / "run").model, tensor([[1, 2, 3]])
    assert again.lm_head.weight is again.wte.weight
    np.testing.assert_array_equal(again(ids).numpy(), gpt.model(ids).numpy())
    save_tensors(tmp_path / "run" / "model.safetensors", {**weights, "lm_head.weight": weights["wte.weight"]})
    older = TinyGPT.load(tmp_path / "run").model  # as runs were stored before
    np.testing.assert_array_equal(older(ids).numpy(), gpt.model(ids).numpy())


def test_a_saved_folder_is_the_same_model(gpt: TinyGPT, tmp_path: Path) -> None:
    gpt.save_pretrained(tmp_path / "out")
    again = TinyGPT.from_pretrained(tmp_path / "out")
    assert (again.tokenizer.eos_token, again.tokenizer.chat_template) == ("<|end|>", OWN_TEMPLATE)
    ids = tensor([[1, 2, 3]])
    np.testing.assert_array_equal(again.model(ids).numpy(), gpt.model(ids).numpy())
    files = {path.name for path in (tmp_path / "out").iterdir()}
    assert files == {
        "config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json",
    }  # fmt: skip


def test_a_run_keeps_its_chat_template(gpt: TinyGPT, tmp_path: Path) -> None:
    gpt.save(tmp_path / "run")
    assert TinyGPT.from_pretrained(tmp_path / "run").tokenizer.chat_template == OWN_TEMPLATE


def test_chat_continues_the_rendered_conversation(gpt: TinyGPT) -> None:
    answer = "".join(gpt.chat(TALK, 9, temperature=0))
    ids = encode_chat(TALK, gpt.tokenizer)
    assert answer == gpt.tokenizer.decode(generate(gpt.model, ids, 9, temperature=0, stop=[[0]])[0], True)


def test_chat_ends_at_the_end_of_the_turn(gpt: TinyGPT) -> None:
    init.zeros_(gpt.model.norm.weight)
    gpt.model.norm.bias.data[:] = gpt.model.wte.weight.data[0] * 100  # the likeliest token is always <|end|>
    assert "".join(gpt.chat(TALK, 9, temperature=0)) == ""


def test_chat_without_a_template_says_what_to_do(gpt: TinyGPT, trained: Path) -> None:
    with pytest.raises(ChatError, match="no chat template; train it on conversations"):
        TinyGPT.load(trained).chat(TALK)
    with pytest.raises(ChatError, match="empty list"):
        gpt.chat([])


def test_what_cannot_be_saved_or_loaded(gpt: TinyGPT, tmp_path: Path) -> None:
    odd = GPT(GPTConfig(vocab_size=270, block_size=8, n_layer=1, n_head=2, n_embd=16, position="none"))
    with pytest.raises(ConfigError, match="neither GPT-2's shape"):
        TinyGPT(odd, gpt.tokenizer).save_pretrained(tmp_path / "out")
    with pytest.raises(FileError, match="no run folder"):
        TinyGPT.from_pretrained(tmp_path / "none")
    gpt.save_pretrained(tmp_path / "out")
    config = tmp_path / "out" / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text(encoding="utf-8")), "n_embd": 32}), encoding="utf-8")
    with pytest.raises(tt_core.TinyTorchError, match="does not fit its config"):
        TinyGPT.from_pretrained(tmp_path / "out")
