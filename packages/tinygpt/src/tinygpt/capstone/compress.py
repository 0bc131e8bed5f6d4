"""Module 20, capstone: a run made smaller, as a run of its own. The work is done by modules 15 and 16."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from tinygpt.capstone.capstone import TinyGPT
from tinygpt.runs import RunFolder
from tt_core import tensor
from tt_core.engine.errors import TinyTorchError
from tt_language import generate
from tt_perf import Int4WeightOnly, Int8WeightOnly, Timer, compare, quantize_, shrink_
from tt_perf.benchmarking.timer import duration
from tt_perf.quantization.layers import is_quantized

Say = Callable[[str], None]
_TOKENS = 16


def quantize(run: Path | None, bits: int, group_size: int | None, out: Path | None, say: Say = print) -> RunFolder:
    """Store the weights of a run as integers of 8 or 4 bits in a new folder, and say what that brought.

    Raises `FileError` where no run is, or one stands in the way, and `QuantizationError` for another group size.
    """
    if bits == 8 and group_size is not None:
        raise TinyTorchError("--group-size is for --int4; int8 has one scale for each output channel")
    config = Int8WeightOnly() if bits == 8 else Int4WeightOnly(64 if group_size is None else group_size)
    with _smaller(run, out, f"int{bits}") as (gpt, original, folder):
        say(str(quantize_(gpt.model, config, verbose=False)))
        say(_times(original, gpt))
        gpt.save(folder)
    return folder


def shrink(run: Path | None, amounts: Mapping[str, float], out: Path | None, say: Say = print) -> RunFolder:
    """Remove neurons and heads of a run's model in a new folder, and say what that brought; it is not trained after.

    `amounts`: the share of "neurons" and of "heads". Raises `CompressionError` for one that would empty a layer.
    """
    with _smaller(run, out, "shrunk") as (gpt, original, folder):
        example = tensor([[0] * min(16, gpt.model.config.block_size)])
        say(str(shrink_(gpt.model, amounts, example)))
        say(_times(original, gpt))
        say("the model was not trained after that; its texts are worse until it is")
        described = folder.read_config() if folder.config.exists() else {}
        folder.write_config({**described, "model": gpt.model.config.to_dict()})
        gpt.save(folder)
    return folder


@contextlib.contextmanager
def _smaller(run: Path | None, out: Path | None, suffix: str) -> Iterator[tuple[TinyGPT, TinyGPT, RunFolder]]:
    """A run's model to be changed, the same as it was, and a new folder that has the run's description."""
    source = RunFolder.open(run, with_model=True)
    gpt, original = TinyGPT.load(source.path), TinyGPT.load(source.path)
    if is_quantized(gpt.model):
        raise TinyTorchError(f"{source.path} is quantized already; name the run that it was made from")
    out = source.path.with_name(f"{source.path.name}-{suffix}") if out is None else out
    RunFolder.check_new(out)
    with RunFolder.begun(out) as folder:
        config = source.read_config()
        if "model_type" not in config:  # Hugging Face's format describes a model of its own
            folder.write_config(config)
        yield gpt, original, folder


def _times(before: TinyGPT, after: TinyGPT) -> str:
    """What a token takes in both, measured in turn."""

    def write(gpt: TinyGPT) -> Callable[[], Any]:
        return lambda: generate(gpt.model, [0], _TOKENS, temperature=0.0, ignore_eos=True)

    found = compare(Timer(write(before)), Timer(write(after)), rounds=5, min_block_time=1e-3)
    first, second = (duration(measured.median / _TOKENS) for measured in found.measurements)
    return f"a token takes {first} before, {second} after"
