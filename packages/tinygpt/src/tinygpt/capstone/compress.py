"""Module 20, capstone: a run made smaller, as a run of its own. The work is done by modules 15 and 16."""

from __future__ import annotations

import contextlib
import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from tinygpt.capstone.bench import ONE_CALL, writing_timer
from tinygpt.capstone.callbacks import weight_shapes
from tinygpt.capstone.capstone import TinyGPT
from tinygpt.capstone.corpus import split_tokens
from tinygpt.capstone.presets import TrainConfig
from tinygpt.capstone.reading import Corpus, read_corpus
from tinygpt.capstone.recorded import described_corpus, names_text, same_corpus, train_config
from tinygpt.capstone.train import loss_of, train_new, validate
from tinygpt.runs import RunFolder
from tt_core import Tensor, from_numpy, manual_seed, tensor
from tt_core.engine.errors import FileError, TinyTorchError
from tt_perf import Int4WeightOnly, Int8WeightOnly, compare, prune_, quantize_, shrink_
from tt_perf.benchmarking.timer import duration
from tt_perf.compression import remove_masks_
from tt_perf.compression.pruning import DENSE
from tt_perf.quantization.layers import is_quantized

Say = Callable[[str], None]
Told = Callable[[], str]
_TOKENS = 16


def quantize(run: Path | None, bits: int, group_size: int | None, out: Path | None, say: Say = print) -> RunFolder:
    """Store the weights of a run as integers of 8 or 4 bits in a new folder, and report the effect.

    Raises `FileError` for a folder without a run and if `out` exists, `QuantizationError` for another group size.
    """
    if bits == 8 and group_size is not None:
        raise TinyTorchError("--group-size is for --int4; int8 has one scale for each output channel")
    config = Int8WeightOnly() if bits == 8 else Int4WeightOnly(64 if group_size is None else group_size)
    with _smaller(run, out, f"int{bits}", say) as (gpt, original, folder):
        say(str(quantize_(gpt.model, config, verbose=False)))
        say(_times(original, gpt))
        gpt.save(folder)
    return folder


def shrink(run: Path | None, amounts: Mapping[str, float], out: Path | None, say: Say = print) -> RunFolder:
    """Remove neurons and heads of a run's model in a new folder, and report the effect; it is not trained afterwards.

    `amounts`: the share of "neurons" and of "heads". Raises `CompressionError` for one that would empty a layer.
    """
    with _smaller(run, out, "shrunk", say) as (gpt, original, folder):
        say(str(shrink_(gpt.model, amounts, _example(gpt))))
        say(_times(original, gpt))
        say("the model was not trained after that; its texts are worse until it is")
        described = folder.read_config() if folder.config.exists() else {}
        folder.write_config({**described, "model": gpt.model.config.to_dict()})
        gpt.save(folder)
    return folder


def prune(run: Path | None, amount: float, method: str, out: Path | None, say: Say = print) -> RunFolder:
    """Set a share of a run's weights to zero in a new folder, and report the effect; it is not trained afterwards.

    The zeros are stored as numbers like any others, without masks. "wanda" reads the text that the run was trained on.
    Raises `CompressionError` for an amount that would empty a layer, `TinyTorchError` where wanda has no text.
    """
    source = RunFolder.open(run, with_model=True)
    described = source.read_config()
    if method == "wanda" and not names_text(described):
        raise TinyTorchError(f"{source.path} names no text that it was trained on, which wanda reads; take magnitude")
    text = (train_config(source, described), same_corpus(source, described)) if names_text(described) else None
    with _smaller(source.path, out, "pruned", say) as (gpt, original, folder):
        seen, losses = _tried(original, gpt, *text) if text else (None, lambda: "validation loss not measured")
        report = prune_(
            gpt.model, amount, method=method, calibration=seen if method == "wanda" else None, example=_example(gpt)
        )
        remove_masks_(gpt.model)
        say(str(dataclasses.replace(report, notes=(DENSE,))))  # without what masks take
        say(f"{losses()}; the model was not trained after that")
        gpt.save(folder)
    return folder


def _tried(before: TinyGPT, after: TinyGPT, config: TrainConfig, corpus: Corpus) -> tuple[list[Tensor], Told]:
    """Windows of the held-out text, and what tells the loss of both models on it."""
    tokens = split_tokens(corpus, before.tokenizer, config.block_size, config.val_fraction)
    seen = [from_numpy(x) for x, _ in tokens.validation(config.batch_size, config.block_size, 32)]

    def losses() -> str:
        first, second = (validate(each.model, tokens, config, config.eval_windows) for each in (before, after))
        return f"validation loss {first:.4f} before, {second:.4f} after"

    return seen, losses


def distill(
    teacher: Path | None,
    config: TrainConfig,
    temperature: float = 2.0,
    alpha: float = 0.5,
    out: Path | None = None,
    say: Say = print,
    corpus_path: Path | None = None,
) -> RunFolder:
    """Train a student of the shape that `config` says on what a run's model finds likely, and on a text.

    The student has the teacher's tokenizer. The text is the teacher's, or that of `corpus_path`. Raises `FileError` for
    a teacher that names no text, and `CompressionError` for a temperature or `alpha` that makes no sense.
    """
    RunFolder.check_new(out)
    source = RunFolder.open(teacher, with_model=True)
    described, gpt = source.read_config(), TinyGPT.load(source.path)
    settings = {"path": str(source.path.resolve()), "temperature": temperature, "alpha": alpha}
    if corpus_path is None and not names_text(described):
        raise FileError(f"{source.path} names no text that it was trained on; give one with --corpus FILE")
    corpus = same_corpus(source, described) if corpus_path is None else read_corpus(corpus_path)
    text = described["corpus"] if corpus_path is None else described_corpus(corpus, corpus_path)
    limit = gpt.model.config.block_size
    if config.block_size > limit:
        raise TinyTorchError(f"block_size is {config.block_size}, the teacher reads {limit}; give --block-size {limit}")
    say(f"corpus: {corpus.source}, {len(corpus.text):,} characters")
    say(f"teacher: {source.path}, {sum(map(math.prod, weight_shapes(gpt.model))):,} parameters")
    manual_seed(config.seed)
    known = {"teacher": settings, "corpus": text}
    loss_of(known)  # refuses settings before a folder is made
    return train_new(config, corpus, gpt.tokenizer, out, say, known)


@contextlib.contextmanager
def _smaller(run: Path | None, out: Path | None, suffix: str, say: Say) -> Iterator[tuple[TinyGPT, TinyGPT, RunFolder]]:
    """A run's model to be changed, the same as it was, and a new folder that has the run's description.

    An adapter is merged in both, since the new folder holds one model.
    """
    source = RunFolder.open(run, with_model=True)
    gpt, original = TinyGPT.load(source.path), TinyGPT.load(source.path)
    if is_quantized(gpt.model):
        raise TinyTorchError(f"{source.path} is quantized already; name the run that it was made from")
    out = source.path.with_name(f"{source.path.name}-{suffix}") if out is None else out
    RunFolder.check_new(out, resumable=False)
    if gpt.adapter is not None and original.adapter is not None:
        for each in (gpt, original):
            each.merge()
        say("the adapter is merged into the weights")
    with RunFolder.begun(out) as folder:
        config = source.read_config()
        if "model_type" not in config:  # Hugging Face's format describes a model of its own
            folder.write_config({**config, "model": gpt.model.config.to_dict()})
        yield gpt, original, folder


def _example(gpt: TinyGPT) -> Tensor:
    """A text on which FLOPs and seconds are measured."""
    return tensor([[0] * min(_TOKENS, gpt.model.config.block_size)])


def _times(before: TinyGPT, after: TinyGPT) -> str:
    """The time per token of both models, measured in turn."""
    timers = [writing_timer(gpt.model, [0], _TOKENS, ()) for gpt in (before, after)]
    found = compare(*timers, rounds=5, min_block_time=ONE_CALL)
    first, second = (duration(measured.median / _TOKENS) for measured in found.measurements)
    return f"a token takes {first} before, {second} after"
