"""A quantized TinyGPT is saved, loaded and lets write; the plugins quantize what is loaded."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tt_core
from tinygpt.capstone import TinyGPT
from tinygpt.cli import main
from tt_core import TinyTorchError
from tt_learn import load_tensors
from tt_perf import Int4WeightOnly, Int8DynamicActivation, Int8WeightOnly, dequantize_, quantize_

CONFIGS = [Int8WeightOnly(), Int8DynamicActivation(), Int4WeightOnly(32)]


def quantized(run: Path, folder: Path, config: Any = CONFIGS[0], **options: Any) -> TinyGPT:
    gpt = TinyGPT.load(run)
    quantize_(gpt.model, config, verbose=False, **options)
    gpt.save(folder)
    return gpt


@pytest.mark.parametrize("config", CONFIGS, ids=str)
@pytest.mark.parametrize("chosen", [None, ("wte",), ("lm_head",)], ids=str)
def test_what_is_saved_is_what_is_loaded(config: Any, chosen: Any, trained: Path, tmp_path: Path) -> None:
    filter_fn = None if chosen is None else lambda layer, name: name in chosen
    gpt = quantized(trained, tmp_path / "small", config, filter_fn=filter_fn)
    loaded = TinyGPT.load(tmp_path / "small")
    ids = tt_core.tensor([gpt.tokenizer.encode("the cat")])
    assert np.array_equal(loaded.model(ids).numpy(), gpt.model(ids).numpy())
    assert "".join(loaded.generate("the ", 30, seed=0)) == "".join(gpt.generate("the ", 30, seed=0))
    described = json.loads((tmp_path / "small" / "config.json").read_text(encoding="utf-8"))["quantization"]
    assert described["bits"] == config.bits
    assert len(described["parent_sha256"]) == 64
    if chosen is None:  # shared tensors stand there once
        assert "lm_head.codes" not in load_tensors(tmp_path / "small" / "model.safetensors")[0]


def test_the_command_generates_from_a_quantized_folder(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    quantized(trained, tmp_path / "small")
    assert main(["generate", str(tmp_path / "small"), "--prompt", "the ", "--seed", "0", "--plugin", "kv-cache"]) == 0
    assert capsys.readouterr().out.startswith("the ")
    assert main(["info", str(tmp_path / "small")]) == 0
    sizes = [(folder / "model.safetensors").stat().st_size for folder in (trained, tmp_path / "small")]
    assert sizes[1] < sizes[0] / 2


def test_saving_floats_again_takes_the_description_out(trained: Path, tmp_path: Path) -> None:
    gpt = quantized(trained, tmp_path / "small")
    dequantize_(gpt.model)
    gpt.save(tmp_path / "small")
    assert "quantization" not in json.loads((tmp_path / "small" / "config.json").read_text(encoding="utf-8"))
    loaded = TinyGPT.load(tmp_path / "small")
    assert np.array_equal(loaded.model.wte.weight.numpy(), gpt.model.wte.weight.numpy())


def test_a_damaged_quantized_folder_is_one_line(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "small"
    quantized(trained, folder)
    config, weights = (folder / "config.json").read_text(encoding="utf-8"), (folder / "model.safetensors").read_bytes()
    described = json.loads(config)
    damages: list[tuple[Any, bytes, str]] = [
        ({**described, "quantization": "int8"}, weights, "its entry 'quantization' is damaged"),
        ({**described, "quantization": {**described["quantization"], "bits": 5}}, weights, "do not go together"),
        ({**described, "quantization": {**described["quantization"], "sha256": "0"}}, weights, "not those that were"),
        ({k: v for k, v in described.items() if k != "quantization"}, weights, "state dict does not fit"),
        (described, weights[:-8], "damaged"),
        (described, weights[:-8] + b"\1\2\3\4\5\6\7\0", "the tensors are not those that were described"),
        (described, (trained / "model.safetensors").read_bytes(), "the tensors are not those that were described"),
    ]
    for changed, content, expected in damages:
        (folder / "config.json").write_text(json.dumps(changed), encoding="utf-8")
        (folder / "model.safetensors").write_bytes(content)
        assert main(["generate", str(folder)]) == 1
        error = capsys.readouterr().err
        assert error.startswith("error: ")
        assert error.count("\n") == 1
        assert expected in error


@pytest.mark.parametrize("name", ["int8", "int4"])
def test_the_plugin_on_the_command_line(name: str, trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["generate", str(trained), "--prompt", "the ", "--seed", "0", "--temperature", "0"]
    assert main([*options, "--plugin", name, "--plugin", "kv-cache"]) == 0
    printed = capsys.readouterr()
    assert f"{name}: the model has" in printed.err
    expected = TinyGPT.load(trained)
    quantize_(expected.model, {"int8": Int8WeightOnly(), "int4": Int4WeightOnly(64)}[name], verbose=False)
    assert printed.out == "the " + "".join(expected.generate("the ", 200, temperature=0)) + "\n"


def test_plugins_that_exclude_each_other_on_the_command_line(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["generate", str(trained), "--plugin", "int8", "--plugin", "int4"]) == 1
    assert capsys.readouterr().err == "error: plugin int4 and plugin int8 exclude each other; use one of them\n"


def test_a_model_is_loaded_into_the_plugin_once(trained: Path) -> None:
    with tt_core.use("int8", report=False):
        gpt = TinyGPT.load(trained)
        with pytest.raises(TinyTorchError, match="is quantized already"):
            quantize_(gpt.model, Int8WeightOnly(), verbose=False)
