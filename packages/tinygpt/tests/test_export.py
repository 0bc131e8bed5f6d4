"""`tinygpt export`: what is written, and what is refused. That others compute the same is tests/parity's to show."""

from __future__ import annotations

import builtins
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tinygpt.export.job
import tt_core
from tinygpt.capstone import TinyGPT
from tinygpt.cli import main
from tinygpt.export.gguf_file import interleaved
from tinygpt.export.onnx_graph import ExportError, onnx_model
from tt_core import init, tensor
from tt_language import GPT, BPETokenizer, ByteTokenizer, CharTokenizer, GPTConfig, Tokenizer
from tt_language.tokenization import BYTE_ALPHABET
from tt_perf import Int8WeightOnly, LoraConfig, get_peft_model, quantize_, save_adapter

Refused = Callable[..., str]
SIZES: dict[str, Any] = {"vocab_size": 257, "block_size": 12, "n_layer": 1, "n_head": 2, "n_embd": 16}
LLAMA: dict[str, Any] = {**SIZES, "position": "rotary", "norm": "rms", "mlp": "swiglu", "bias": False}


def gpt(**shape: Any) -> TinyGPT:
    tt_core.manual_seed(0)
    tokenizer = BPETokenizer.train("", 257, special_tokens=["<|end|>"])
    tokenizer.eos_token = "<|end|>"
    return TinyGPT(GPT(GPTConfig(**{**SIZES, **shape})).eval(), tokenizer)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    gpt().save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def test_hugging_faces_format_from_a_run(trained: Path, tmp_path: Path) -> None:
    assert main(["export", str(trained), "--format", "hf", "--out", str(tmp_path / "hf")]) == 0
    ids = tensor([[1, 2, 3]])
    run, exported = TinyGPT.load(trained), TinyGPT.load(tmp_path / "hf")
    np.testing.assert_array_equal(exported.model(ids).numpy(), run.model(ids).numpy())
    assert list(exported.generate("the ", 9, seed=1)) == list(run.generate("the ", 9, seed=1))


def test_an_adapter_is_merged(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    adapted = get_peft_model(TinyGPT.load(folder).model, LoraConfig())
    for entry in adapted.trained().values():
        init.normal_(entry)
    save_adapter(adapted, tmp_path / "adapter", str(folder))
    assert main(["export", str(tmp_path / "adapter"), "--format", "hf", "--out", str(tmp_path / "whole")]) == 0
    assert "merged" in capsys.readouterr().out
    ids = tensor([[1, 2, 3]])
    expected = TinyGPT.load(tmp_path / "adapter").model(ids).detach().numpy()
    np.testing.assert_allclose(TinyGPT.load(tmp_path / "whole").model(ids).detach().numpy(), expected, atol=1e-4)


@pytest.mark.parametrize("shape", [SIZES, LLAMA, {**SIZES, "tie_weights": False}], ids=["gpt2", "llama", "untied"])
def test_a_shared_weight_is_stored_once(shape: dict[str, Any]) -> None:
    pytest.importorskip("onnx")
    model = GPT(GPTConfig(**shape))
    graph = onnx_model(model).graph
    stored = {weight.name: weight for weight in graph.initializer}
    tables = [name for name, weight in stored.items() if list(weight.dims) == [257, 16]]
    assert tables == (["wte.weight"] if model.config.tie_weights else ["wte.weight", "lm_head.weight"])
    lengths = [dim.dim_param for dim in graph.input[1].type.tensor_type.shape.dim if dim.dim_param]
    assert lengths == ["batch", "past"]


def test_a_pair_is_put_side_by_side() -> None:
    rows = np.arange(16).reshape(8, 2)
    assert interleaved(rows, 2)[:, 0].tolist() == [0, 4, 2, 6, 8, 12, 10, 14]


# --- what is refused


def test_what_is_in_the_way(folder: Path, refused: Refused, tmp_path: Path) -> None:
    assert "holds a model already" in refused("export", folder, "--format", "hf", "--out", folder)
    (tmp_path / "file").write_bytes(b"")
    line = refused("export", folder, "--format", "hf", "--out", tmp_path / "file")
    assert "file" in line
    assert "--dtype float16 is for --format gguf" in refused("export", folder, "--format", "hf", "--dtype", "float16")
    assert "no run folder" in refused("export", tmp_path / "none")


def test_formats_and_dtypes_that_are_none(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for option, value in (("--format", "torch"), ("--dtype", "int8")):
        assert main(["export", str(folder), option, value]) == 2
        line = capsys.readouterr().err
        assert value in line
        assert line.count("\n") == 1


def test_a_quantized_model(folder: Path, refused: Refused, tmp_path: Path) -> None:
    small = TinyGPT.load(folder)
    quantize_(small.model, Int8WeightOnly(), verbose=False)
    small.save(tmp_path / "int8")
    for form in ("onnx", "hf", "gguf"):
        assert "is quantized; export the run" in refused("export", tmp_path / "int8", "--format", form)


@pytest.mark.parametrize(("form", "package"), [("onnx", "onnx"), ("gguf", "gguf")])
def test_a_package_that_is_missing(
    form: str, package: str, folder: Path, refused: Refused, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = builtins.__import__

    def missing(name: str, *args: Any, **options: Any) -> Any:
        if name == package:
            raise ImportError(name)
        return real(name, *args, **options)

    monkeypatch.setattr(builtins, "__import__", missing)
    assert "pip install 'tinygpt[export]'" in refused("export", folder, "--format", form, "--out", tmp_path / "out")
    assert not (tmp_path / "out" / f"model.{form}").exists()


def test_scalings_that_a_graph_cannot_hold() -> None:
    scaling = {"rope_type": "dynamic", "factor": 2.0, "original_max_position_embeddings": 6}
    with pytest.raises(ExportError, match="depends on"):
        onnx_model(GPT(GPTConfig(**LLAMA, rope_scaling=scaling)))


def test_what_gguf_lacks(refused: Refused, tmp_path: Path) -> None:
    pytest.importorskip("gguf")
    out = ("--format", "gguf", "--out", tmp_path / "out")
    gpt(mlp="relu").save(tmp_path / "relu")
    assert "llama.cpp's GPT-2 has mlp=gelu_tanh, the model relu; use --format hf or onnx" in refused(
        "export", tmp_path / "relu", *out
    )
    gpt(**{**LLAMA, "rope_scaling": {"rope_type": "yarn", "factor": 2.0}}).save(tmp_path / "yarn")
    assert "rotary scaling yarn is not written to GGUF" in refused("export", tmp_path / "yarn", *out)
    gpt(position="none").save(tmp_path / "none")
    assert "neither GPT-2's shape" in refused("export", tmp_path / "none", *out)
    assert not (tmp_path / "out").exists()


TOKENIZERS: dict[str, tuple[Callable[[], Tokenizer], str]] = {
    "characters": (lambda: CharTokenizer("aé€z"), "has 'é', '€', and only characters of ASCII are known to llama.cpp"),
    "pattern": (lambda: BPETokenizer.train("a b", 257, pattern=r"\S+|\s+"), "splits texts by a pattern of its own"),
    "no pattern": (lambda: BPETokenizer.train("a b", 257, pattern=None), "splits texts by a pattern of its own"),
    "normalizer": (lambda: bpe(normalizer="NFC"), "has normalizer='NFC', which is not known to llama.cpp"),
    "merges": (lambda: bpe(ignore_merges=True), "has ignore_merges=True, which is not known"),
    "space": (lambda: bpe(add_prefix_space=True), "has add_prefix_space=True, which is not known"),
    "suffix": (lambda: bpe(special_tokens=["<|end|>"], suffix_tokens=["<|end|>"]), "has suffix_tokens=['<|end|>'],"),
}


def bpe(**options: Any) -> BPETokenizer:
    trained = BPETokenizer.train("ab ab ab", 258, special_tokens=["<|end|>"])
    return BPETokenizer(trained.vocab, trained.merges, **options)


@pytest.mark.parametrize("name", TOKENIZERS)
def test_a_tokenizer_that_gives_other_ids_in_llama_cpp(name: str, refused: Refused, tmp_path: Path) -> None:
    pytest.importorskip("gguf")
    made, said = TOKENIZERS[name]
    TinyGPT(gpt(vocab_size=made().vocab_size).model, made()).save(tmp_path / "model")
    line = refused("export", tmp_path / "model", "--format", "gguf", "--out", tmp_path / "out")
    assert f"the tokenizer {said}" in line
    assert "use --format hf or onnx" in line
    assert not (tmp_path / "out").exists()


# --- models of the command's options

PLAIN = ["--position", "learned", "--norm", "layer", "--mlp", "gelu_tanh", "--optimizer", "adamw"]
OPTIONS: dict[str, tuple[list[str], str]] = {
    "the preset's": ([], ""),
    "with biases": (["--bias"], ""),
    "GPT-2's": (PLAIN, ""),
    "rotary, layer norm": (
        ["--norm", "layer"],
        "its position is rotary, its mlp is swiglu) nor Llama's (its norm is layer); use --format onnx",
    ),
    "learned, RMSNorm": (["--position", "learned"], "its norm is rms, its mlp is swiglu) nor Llama's (its position"),
    "rotary, GELU": (["--mlp", "gelu"], "nor Llama's (its mlp is gelu); use --format onnx, which takes any"),
    "no positions": (["--position", "none"], "nor Llama's (its position is none)"),
}


@pytest.mark.parametrize("name", OPTIONS)
def test_what_train_makes_is_exported_or_refused(
    name: str, corpus: Path, refused: Refused, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Models of the preset shakespeare, smaller, and with other options: ONNX takes all of them."""
    options, said = OPTIONS[name]
    run = tmp_path / "run"
    small = ["--n-layer", "1", "--n-embd", "32", "--n-head", "2", "--block-size", "16", "--steps", "3"]
    given = ["train", "--preset", "shakespeare", "--corpus", str(corpus), "--out", str(run), *small, *options]
    assert main(given) == 0
    for form in ("onnx", "hf", "gguf"):
        if form != "hf" and not find_spec(form):
            continue
        arguments = ["export", str(run), "--format", form, "--out", str(tmp_path / form)]
        if said and form != "onnx":
            assert said in refused(*arguments)
            assert not (tmp_path / form).exists()
        else:
            capsys.readouterr()
            assert main(arguments) == 0
            checked = "checked: onnxruntime's logits differ by" in capsys.readouterr().out
            assert checked == bool(form == "onnx" and find_spec("onnxruntime"))
    if not said:
        ids = tensor([[1, 2, 3]])
        np.testing.assert_array_equal(TinyGPT.load(tmp_path / "hf").model(ids).data, TinyGPT.load(run).model(ids).data)


def test_a_graph_that_computes_something_else_is_not_kept(
    folder: Path, refused: Refused, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("onnx")
    monkeypatch.setattr(tinygpt.export.job, "largest_difference", lambda *_: 0.5)
    assert "logits differ by 5.0e-01" in refused("export", folder, "--out", tmp_path / "out")
    assert not (tmp_path / "out" / "model.onnx").exists()


def test_weights_of_a_large_model_are_in_a_file_of_their_own(
    folder: Path, refused: Refused, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As of a model over 2 GB. Where onnxruntime is installed, it computes the same from both files."""
    onnx = pytest.importorskip("onnx")
    monkeypatch.setattr(tinygpt.export.job, "_MOST", 1000)
    out = tmp_path / "out"
    assert main(["export", str(folder), "--out", str(out)]) == 0
    assert f"{out / 'model.onnx'} and {out / 'model.onnx_data'}" in capsys.readouterr().out
    table = next(x for x in onnx.load(out / "model.onnx").graph.initializer if x.name == "wte.weight")
    np.testing.assert_array_equal(onnx.numpy_helper.to_array(table), TinyGPT.load(folder).model.wte.weight.numpy())
    monkeypatch.setattr(tinygpt.export.job, "largest_difference", lambda *_: 0.5)
    refused("export", folder, "--out", tmp_path / "again")
    assert not list((tmp_path / "again").glob("model.*"))


def test_without_onnxruntime_nothing_is_checked(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("onnx")
    monkeypatch.setattr(tinygpt.export.job, "largest_difference", lambda *_: None)
    assert main(["export", str(folder), "--out", str(tmp_path / "out")]) == 0
    assert "not checked: onnxruntime is not installed" in capsys.readouterr().out
    assert (tmp_path / "out" / "model.onnx").exists()


def test_bytes_and_characters_as_a_vocabulary(tmp_path: Path) -> None:
    """llama.cpp refuses a vocabulary without merges, so there is one that no text has."""
    gguf = pytest.importorskip("gguf")
    tokenizers: list[Tokenizer] = [ByteTokenizer(), CharTokenizer("a\n z")]
    for tokenizer, names in zip(tokenizers, (list(BYTE_ALPHABET), ["Ċ", "Ġ", "a", "z"])):
        folder = tmp_path / type(tokenizer).__name__
        TinyGPT(gpt(vocab_size=tokenizer.vocab_size).model, tokenizer).save(folder)
        assert main(["export", str(folder), "--format", "gguf"]) == 0
        fields = gguf.GGUFReader(f"{folder}-gguf/model.gguf").fields
        assert fields["tokenizer.ggml.tokens"].contents() == names
        assert fields["tokenizer.ggml.merges"].contents() == ["␀ ␀"]
