"""What TinyGPT writes, read by the libraries that others use: transformers, peft, onnxruntime and gguf."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
import transformers

import tt_core
from tinygpt import TinyGPT
from tinygpt.chat import OWN_TEMPLATE, encode_chat
from tinygpt.cli import main
from tinygpt.export.gguf_file import write_gguf
from tinygpt.export.onnx_check import largest_difference, logits_in_two
from tinygpt.export.onnx_graph import onnx_model
from tt_core import init, tensor
from tt_language import GPT, BPETokenizer, ByteTokenizer, CharTokenizer, GPTConfig, generate

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


def test_sampling_filters_are_those_of_transformers(tmp_path: Path) -> None:
    model = made("gpt2", eos_token_id=7)
    model.save_pretrained(tmp_path)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path).eval()
    for options in ({"no_repeat_ngram_size": 2}, {"no_repeat_ngram_size": 1}, {"repetition_penalty": 1.7},
                    {"min_new_tokens": 12, "no_repeat_ngram_size": 3}):  # fmt: skip
        with torch.no_grad():
            written = theirs.generate(
                torch.tensor([[5, 9, 5, 9]]), max_new_tokens=20, do_sample=False, pad_token_id=0, **options
            )
        assert generate(model, [5, 9, 5, 9], 20, temperature=0, **options)[0] == written[0, 4:].tolist()


class TestTinyGPT:
    """A whole folder: model, tokenizer, chat template."""

    @pytest.fixture
    def gpt(self) -> TinyGPT:
        text = "The cat sat on the mat, and the dog sat beside it. " * 20
        tokenizer = BPETokenizer.train(text, 290, special_tokens=["<|end|>"])
        tokenizer.eos_token, tokenizer.chat_template = "<|end|>", OWN_TEMPLATE
        return TinyGPT(made("llama", vocab_size=tokenizer.vocab_size, block_size=64, eos_token_id=0), tokenizer)

    def test_transformers_writes_the_same_text(self, gpt: TinyGPT, tmp_path: Path) -> None:
        gpt.save_pretrained(tmp_path)
        tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path)
        model = transformers.AutoModelForCausalLM.from_pretrained(tmp_path).eval()
        given = tokenizer("The cat sat", return_tensors="pt")
        with torch.no_grad():
            written = model.generate(**given, max_new_tokens=12, do_sample=False, pad_token_id=0)
        theirs = tokenizer.decode(written[0, given["input_ids"].shape[1] :], skip_special_tokens=True)
        assert "".join(gpt.generate("The cat sat", 12, temperature=0)) == theirs
        again = TinyGPT.from_pretrained(tmp_path)
        assert "".join(again.generate("The cat sat", 12, temperature=0)) == theirs

    def test_transformers_makes_the_same_conversation(self, gpt: TinyGPT, tmp_path: Path) -> None:
        gpt.save_pretrained(tmp_path)
        tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path)
        talk = [{"role": "user", "content": " Where is the cat? "}, {"role": "assistant", "content": "On the mat."},
                {"role": "user", "content": "And the dog?"}]  # fmt: skip
        theirs = tokenizer.apply_chat_template(talk, add_generation_prompt=True, return_dict=False)
        assert encode_chat(talk, gpt.tokenizer) == theirs
        assert TinyGPT.from_pretrained(tmp_path).tokenizer.chat_template == OWN_TEMPLATE

    @pytest.mark.parametrize("kind", ["bytes", "characters"])
    def test_other_tokenizers(self, kind: str, tmp_path: Path) -> None:
        tokenizer = ByteTokenizer() if kind == "bytes" else CharTokenizer("the cat sat on mat")
        TinyGPT(made("gpt2", vocab_size=tokenizer.vocab_size), tokenizer).save_pretrained(tmp_path)
        theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
        assert theirs("the cat")["input_ids"] == tokenizer.encode("the cat")
        assert theirs.decode(tokenizer.encode("the cat")) == "the cat"


# --- runs of the command, trained with Muon


@pytest.mark.parametrize(
    "options", [[], ["--tokenizer", "bpe", "--vocab-size", "300", "--bias"]], ids=["preset", "bpe"]
)
def test_transformers_writes_the_text_of_a_run_of_the_preset_shakespeare(options: list[str], tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_text("The cat sat on the mat, and the dog sat beside it. " * 60, encoding="utf-8")
    small = ["--n-layer", "2", "--n-embd", "48", "--n-head", "2", "--block-size", "32", "--steps", "20"]
    run = ["train", "--preset", "shakespeare", "--corpus", str(text), "--out", str(tmp_path / "run"), *small, *options]
    assert main([*run, "--warmup-steps", "5"]) == 0
    assert main(["export", str(tmp_path / "run"), "--format", "hf"]) == 0
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "run-hf").eval()
    assert isinstance(theirs, transformers.LlamaForCausalLM)
    gpt = TinyGPT.load(tmp_path / "run")
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "run-hf")
    given = tokenizer("The cat", return_tensors="pt")
    ids = given["input_ids"]
    assert ids[0].tolist() == gpt.tokenizer.encode("The cat")
    with torch.no_grad():
        np.testing.assert_allclose(gpt.model(tensor(ids.tolist())).numpy(), theirs(ids).logits.numpy(), atol=1e-4)
        written = theirs.generate(**given, max_new_tokens=20, do_sample=False, pad_token_id=0)[0, ids.shape[1] :]
    assert "".join(gpt.generate("The cat", 20, temperature=0)) == tokenizer.decode(written)


# --- ONNX

ONNX_SHAPES: dict[str, dict[str, Any]] = {
    **SHAPES,
    "erf": {**SIZES, "mlp": "gelu", "tie_weights": False},
    "relu, parallel": {**SIZES, "mlp": "relu", "parallel": True, "bias": False},
    "no positions": {**SIZES, "position": "none", "norm": "rms"},
    "yarn": {**LLAMA, "rope_scaling": {"rope_type": "yarn", "factor": 2.0}},
}


@pytest.mark.parametrize("name", ONNX_SHAPES)
def test_onnxruntime_computes_the_same(name: str, tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    SHAPES.setdefault(name, ONNX_SHAPES[name])
    model = made(name)
    proto = onnx_model(model)
    onnx.checker.check_model(proto, full_check=True)
    path = tmp_path / "model.onnx"
    path.write_bytes(proto.SerializeToString())
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    random = np.random.default_rng(0)
    for batch in (1, 3):
        for length in (1, 7, 32):
            ids = random.integers(300, size=(batch, length))
            expected = model(tensor(ids)).numpy()
            for cut in sorted({0, 1, length - 1} & set(range(length))):
                np.testing.assert_allclose(logits_in_two(session, model, ids, cut), expected, atol=1e-4, rtol=1e-4)
    found = largest_difference(path, model)
    assert found is not None
    assert found < 1e-4


def test_an_onnx_file_is_as_large_as_the_weights(tmp_path: Path) -> None:
    model = made("gpt2", n_embd=192, n_layer=4, vocab_size=2000)
    model.save_pretrained(tmp_path)
    size = onnx_model(model).ByteSize()
    assert size <= 1.02 * (tmp_path / "model.safetensors").stat().st_size


# --- GGUF, read by the package gguf and by transformers, which puts the rows back in their order


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("name", ["gpt2", "gpt2-untied", "llama", "llama-tied", "llama3-rope"])
def test_gguf_is_read_back(name: str, dtype: str, tmp_path: Path) -> None:
    gguf = pytest.importorskip("gguf")
    SHAPES.setdefault("gpt2-untied", {**SIZES, "tie_weights": False})
    text = "The cat sat on the mat, and the dog sat beside it. " * 20
    tokenizer = BPETokenizer.train(text, 290, special_tokens=["<|end|>"])
    tokenizer.eos_token, tokenizer.chat_template = "<|end|>", OWN_TEMPLATE
    changes: dict[str, Any] = {"head_dim": None, "attention_bias": False} if name == "llama-tied" else {}
    if name.startswith("gpt2"):  # transformers takes 1024 for the context of any GPT-2 in this format
        changes["block_size"] = 1024
    gpt = TinyGPT(made(name, vocab_size=300, eos_token_id=0, **changes), tokenizer)
    write_gguf(gpt, tmp_path / "model.gguf", dtype)

    reader = gguf.GGUFReader(tmp_path / "model.gguf")
    fields = {key: field.contents() for key, field in reader.fields.items()}
    family = "gpt2" if name.startswith("gpt2") else "llama"
    assert fields["general.architecture"] == family
    assert fields[f"{family}.context_length"] == gpt.model.config.block_size
    assert fields["tokenizer.ggml.eos_token_id"] == 0
    assert fields["tokenizer.chat_template"] == OWN_TEMPLATE
    assert fields["tokenizer.ggml.tokens"][: tokenizer.vocab_size] == sorted(
        tokenizer.vocab, key=tokenizer.vocab.__getitem__
    )
    assert len(fields["tokenizer.ggml.tokens"]) == 300
    known = {gguf.TENSOR_NAMES[kind] for kind in gguf.MODEL_TENSORS[getattr(gguf.MODEL_ARCH, family.upper())]}
    for stored in reader.tensors:
        pattern = re.sub(r"^blk\.\d+\.", "blk.{bid}.", stored.name.rpartition(".")[0])
        assert pattern in known, stored.name
        narrow = len(stored.shape) == 2 and dtype == "float16" and not stored.name.startswith("position")
        assert stored.tensor_type == (gguf.GGMLQuantizationType.F16 if narrow else gguf.GGMLQuantizationType.F32)
    table = next(stored for stored in reader.tensors if stored.name == "token_embd.weight")
    np.testing.assert_allclose(table.data, gpt.model.wte.weight.data, rtol=1e-3, atol=1e-4)

    if name != "llama3-rope":  # transformers does not read the frequencies' factors
        theirs = transformers.AutoModelForCausalLM.from_pretrained(
            tmp_path, gguf_file="model.gguf", dtype=torch.float32
        ).eval()
        ids = [[5, 7, 250, 9, 13]]
        with torch.no_grad():
            logits = theirs(torch.tensor(ids)).logits.numpy()
        loose = 1e-4 if dtype == "float32" else 0.1
        np.testing.assert_allclose(gpt.model(tensor(ids)).numpy(), logits, rtol=loose, atol=loose)


# --- GGUF, run by llama.cpp itself: pip install llama-cpp-python, which compiles it (10 minutes on two cores)


def llama_cpp(path: Path) -> Any:
    """llama.cpp's model of a file, which keeps keys and values in float32."""
    return pytest.importorskip("llama_cpp").Llama(
        str(path), n_ctx=64, logits_all=True, verbose=False, type_k=0, type_v=0, n_threads=1
    )


TEXT = "The cat sat on the mat, and the dog sat beside it. It's 12345 \n\n  years.   "
TOKENIZERS: dict[str, Any] = {
    "bpe": lambda: BPETokenizer.train(f"{TEXT}naïve €" * 20, 330, special_tokens=["<|end|>"]),
    "bytes": ByteTokenizer,
    "characters": lambda: CharTokenizer(TEXT),
}


@pytest.mark.parametrize("kind", TOKENIZERS)
@pytest.mark.parametrize("name", ["gpt2", "gpt2-untied", "llama", "llama-tied", "llama3-rope"])
def test_llama_cpp_computes_the_same(name: str, kind: str, tmp_path: Path) -> None:
    tokenizer = TOKENIZERS[kind]()
    SHAPES.setdefault("gpt2-untied", {**SIZES, "tie_weights": False})
    changes = {"head_dim": None, "attention_bias": False} if name == "llama-tied" else {}
    model = made(name, vocab_size=tokenizer.vocab_size, block_size=64, **changes)
    write_gguf(TinyGPT(model, tokenizer), tmp_path / "model.gguf")
    theirs = llama_cpp(tmp_path / "model.gguf")
    text = TEXT[:45] if kind == "characters" else "The naïve cat, it's 12 €\n\n  sat. "
    ids = tokenizer.encode(text)
    assert theirs.tokenize(text.encode(), add_bos=True, special=False) == ids
    assert theirs.detokenize(ids) == text.encode()
    theirs.eval(ids)
    # its GELU is a table in float16, so GPT-2's logits differ by some thousandths
    found = np.array(theirs.scores[: len(ids)])
    np.testing.assert_allclose(found, model(tensor([ids])).numpy()[0], atol=1e-4 if name.startswith("llama") else 2e-2)
    written: list[int] = []
    for _ in range(12):
        written.append(int(np.argmax(theirs.scores[theirs.n_tokens - 1])))
        theirs.eval(written[-1:])
    assert generate(model, ids, 12, temperature=0)[0] == written
