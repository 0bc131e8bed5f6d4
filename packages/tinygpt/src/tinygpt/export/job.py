"""Module 20, capstone: the job of `tinygpt export`: a model in another program's format, checked where that can be."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tinygpt.capstone.capstone import TinyGPT
from tinygpt.export.gguf_file import write_gguf
from tinygpt.export.onnx_check import largest_difference
from tinygpt.export.onnx_graph import ExportError, onnx_model
from tinygpt.memory import size
from tinygpt.runs import RunFolder
from tt_core.engine.errors import FileError
from tt_core.engine.files import make_folder, write_atomic
from tt_language.errors import ConfigError
from tt_language.transformers import family_of
from tt_perf.quantization.layers import is_quantized

Say = Callable[[str], None]
_NAMES = {"onnx": "model.onnx", "hf": "model.safetensors", "gguf": "model.gguf"}
_MOST = (1 << 31) - (1 << 24)
"""Bytes of weights that are written into model.onnx itself: an ONNX file is one protobuf message, of 2 GB at most."""
TOLERANCE = 1e-4
"""The largest difference of logits that is taken for rounding."""


def export(run: Path | None, form: str, out: Path | None, dtype: str, say: Say = print) -> Path:
    """Write the model of a folder in another format into a folder; returns the folder.

    Raises `ExportError` for a model that the format cannot hold, for a package that is missing, and where onnxruntime
    computes other logits; and `FileError`.
    """
    source = RunFolder.open(run, with_model=True)
    out = source.path.with_name(f"{source.path.name}-{form}") if out is None else out
    file = out / _NAMES[form]
    if file.exists() or RunFolder(out).has_model():
        raise FileError(f"{out} holds a model already; name another --out")
    if form != "gguf" and dtype != "float32":
        raise ExportError(f"--dtype {dtype} is for --format gguf; {form} is written in float32")
    gpt = TinyGPT.read(source)
    if is_quantized(gpt.model):
        raise ExportError(f"{source.path} is quantized; export the run that it was made from")
    if form != "onnx":
        _check_family(gpt)
    if gpt.adapter is not None:
        gpt.merge()
        say("the adapter is merged into the weights")
    {"onnx": _onnx, "hf": _hf, "gguf": _gguf}[form](gpt, out, dtype, say)
    written = [path for path in (file, file.with_name(f"{file.name}_data")) if path.exists()]
    say(f"wrote {' and '.join(map(str, written))}, {size(sum(path.stat().st_size for path in written))}")
    return out


def _check_family(gpt: TinyGPT) -> None:
    """Raise `ExportError` for a model whose architecture other programs have no name for."""
    try:
        family_of(gpt.model.config)
    except ConfigError as error:
        raise ExportError(f"{error}; use --format onnx, which takes any") from None


def _hf(gpt: TinyGPT, out: Path, dtype: str, say: Say) -> None:
    gpt.save_pretrained(out)
    say("transformers loads it: AutoModelForCausalLM.from_pretrained, AutoTokenizer.from_pretrained")


def _gguf(gpt: TinyGPT, out: Path, dtype: str, say: Say) -> None:
    write_gguf(gpt, out / _NAMES["gguf"], dtype)


def _onnx(gpt: TinyGPT, out: Path, dtype: str, say: Say) -> None:
    path = make_folder(out) / _NAMES["onnx"]
    data = path.with_name(f"{path.name}_data")
    write_atomic(path, _serialized(gpt, data))
    gpt.tokenizer.save(out / "tokenizer.json")
    different = largest_difference(path, gpt.model)
    if different is None:
        say("not checked: onnxruntime is not installed (pip install onnxruntime)")
    elif different > TOLERANCE:
        path.unlink()
        data.unlink(missing_ok=True)
        raise ExportError(f"onnxruntime's logits differ by {different:.1e}, more than rounding; nothing is written")
    else:
        say(f"checked: onnxruntime's logits differ by {different:.1e} at most (batches of 1 and 3, with past)")


def _serialized(gpt: TinyGPT, data: Path) -> bytes:
    """The bytes of model.onnx; the weights of a model that is too large for one file are written to `data`."""
    if gpt.model.num_parameters() * 4 <= _MOST:
        return bytes(onnx_model(gpt.model).SerializeToString())
    made: list[bytes] = []
    write_atomic(data, lambda file: made.append(onnx_model(gpt.model, file, data.name).SerializeToString()))
    return made[0]
