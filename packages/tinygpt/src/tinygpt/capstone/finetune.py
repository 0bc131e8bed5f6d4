"""Module 20, capstone: fine-tuning, from a model and examples to a run folder.

Read from top to bottom, it is the way of the data: model -> tokenizer with an end -> examples -> batches -> loss.
A run holds the whole model, or with `lora` an adapter in PEFT's format and the name of its base.
"""

from __future__ import annotations

import dataclasses
import platform
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

import tt_core
from tinygpt.__about__ import __version__
from tinygpt.capstone.callbacks import Sample, SaveModel, Say, TimeLeft
from tinygpt.capstone.capstone import TinyGPT
from tinygpt.capstone.ending import with_end
from tinygpt.capstone.examples import (
    Data,
    digest,
    is_jsonl,
    made_examples,
    read_records,
    read_windows,
)
from tinygpt.capstone.reading import CorpusError
from tinygpt.capstone.recorded import saved_weights
from tinygpt.capstone.scoring import summed_loss
from tinygpt.capstone.tuning import TuneConfig
from tinygpt.chat import OWN_TEMPLATE
from tinygpt.memory import size_and_free
from tinygpt.needs import checked, tuning_needs
from tinygpt.runs import RunFolder
from tt_core import from_numpy
from tt_core.engine.errors import FileError, TinyTorchError
from tt_core.engine.heap import aligned
from tt_core.layers import Layer
from tt_language import next_token_loss
from tt_language.tokenization import save_settings
from tt_learn import AdamW, Checkpoints, CosineWarmupLR, JSONLog, LossCurve, ProgressBar, Trainer
from tt_learn.training import Callback
from tt_perf.lora import LoraConfig, get_peft_model, save_adapter
from tt_perf.quantization.layers import is_quantized


def start(model: Path | None, data: Path, config: TuneConfig, out: Path | None, say: Say = print) -> RunFolder:
    """Fine-tune the model of a folder on a file. Returns the run folder.

    All checks come before the folder is made. Raises `TinyTorchError` for a model or data that cannot be used.
    """
    source = RunFolder.open(model, with_model=True)
    out = source.path.with_name(f"{source.path.name}-tuned") if out is None else out
    RunFolder.check_new(out)
    known = digest(data)
    gpt, records = _opened(source, data, config)
    config, batches = _data(gpt, data, records, config, say)
    with RunFolder.begun(out) as folder:
        described = {
            "model": gpt.model.config.to_dict(),
            "finetuning": dataclasses.asdict(config),
            "base": str(source.path.resolve()),
            "data": {"path": str(data.resolve()), "sha256": known},
            "versions": {"tinygpt": __version__, "python": platform.python_version()},
        }
        folder.write_config(described)
        return _run(_Tuned(gpt, config, folder, str(source.path.resolve())), batches, config, None, say)


def resume(path: Path, steps: int | None = None, say: Say = print) -> RunFolder:
    """Go on with a fine-tuning from its last checkpoint, to the same bits as if it had never stopped.

    Raises `FileError` where there is none, and for data that are no longer those of the run.
    """
    folder = RunFolder.open(path)
    with folder.writing():
        described = folder.read_config()
        config, base, data = _recorded(folder, described)
        config = dataclasses.replace(config, steps=config.steps if steps is None else steps)
        saved_weights(folder, config.steps)
        if digest(data) != described["data"].get("sha256"):
            raise CorpusError(f"{data} is not what {folder.path} was fine-tuned on; put it back as it was")
        gpt, records = _opened(RunFolder.open(base, with_model=True), data, config)
        _, batches = _data(gpt, data, records, config, say)
        folder.write_config({**described, "finetuning": dataclasses.asdict(config)})
        return _run(_Tuned(gpt, config, folder, str(base)), batches, config, folder.last_checkpoint, say)


def _recorded(folder: RunFolder, described: Mapping[str, Any]) -> tuple[TuneConfig, Path, Path]:
    """Options, base and data of a run."""
    if "finetuning" not in described:
        raise FileError(f"{folder.config} holds no fine-tuning; continue a training with: tinygpt train --resume")
    try:
        return TuneConfig(**described["finetuning"]), Path(described["base"]), Path(described["data"]["path"])
    except (TypeError, KeyError, TinyTorchError) as error:
        raise FileError(f"{folder.config} is damaged: its fine-tuning does not fit ({error})") from None


def _opened(source: RunFolder, data: Path, config: TuneConfig) -> tuple[TinyGPT, list[dict[str, Any]] | None]:
    """The model with what the data need, an end of answers and a chat template, and the records of a JSONL file."""
    gpt = TinyGPT.read(source)
    if gpt.adapter is not None:
        raise TinyTorchError(f"{source.path} is an adapter; merge it first with: tinygpt merge {source.path}")
    if is_quantized(gpt.model):
        raise TinyTorchError(f"{source.path} is quantized, and integers are not trained; name the run it was made from")
    if not is_jsonl(data):
        return gpt, None
    records = read_records(data)
    gpt = with_end(gpt, extend=not config.lora)
    if any("messages" in record for record in records) and gpt.tokenizer.chat_template is None:
        gpt.tokenizer.chat_template = OWN_TEMPLATE
    return gpt, records


def _data(
    gpt: TinyGPT, path: Path, records: list[dict[str, Any]] | None, config: TuneConfig, say: Say
) -> tuple[TuneConfig, Data]:
    """Batches of the file, and the options with values in place of the zeros."""
    context = gpt.model.config.block_size
    length = min(config.block_size or 512, context)
    if config.block_size > context:
        raise TinyTorchError(f"block_size is {config.block_size}, the model's context has {context}")
    sizes = (gpt.tokenizer, config.batch_size, length, config.val_fraction, config.seed)
    if records is None:
        windows = read_windows(path, *sizes)
        say(f"data: {path}, {len(windows.parts.train):,} tokens to train on, {len(windows.parts.val):,} to validate on")
        return config.completed(len(windows.parts.train) // length, context), windows
    examples, cut = made_examples(records, *sizes)
    trained = sum(sum(example.trained) for example in examples.train)
    say(
        f"data: {path}, {len(examples.train):,} examples to train on ({trained:,} tokens of answers), "
        f"{len(examples.val):,} to validate on"
    )
    if cut:
        say(f"{cut:,} examples are longer than {length} tokens; of these, the end is used")
    return config.completed(len(examples.train), context), examples


class _Tuned:
    """A model in training, whole or by an adapter, and its folder."""

    def __init__(self, gpt: TinyGPT, config: TuneConfig, folder: RunFolder, base: str) -> None:
        self.gpt, self.folder, self.base = gpt, folder, base
        tt_core.manual_seed(config.seed)
        self.trained: Layer = gpt.model
        if config.lora:
            options = LoraConfig(config.lora_r, config.lora_alpha, config.targets, config.lora_dropout)
            gpt.adapter = get_peft_model(gpt.model, options)
            self.trained = gpt.adapter
        self.parameters = [entry for entry in gpt.model.parameters() if entry.requires_grad]
        # a parameter mapped from a file, perhaps transposed, is trained in contiguous memory of its own
        for entry in self.parameters:
            own = aligned(entry.shape, entry.dtype)
            np.copyto(own, entry.data)
            entry.data = own

    def save(self) -> None:
        """Write what `TinyGPT.load` reads: the whole model, or the adapter with its base's name, and the tokenizer."""
        if self.gpt.adapter is None:
            self.gpt.save(self.folder)
            return
        save_adapter(self.gpt.adapter, self.folder.path, self.base)
        self.gpt.tokenizer.save(self.folder.tokenizer)
        save_settings(self.gpt.tokenizer, self.folder.path)


def _run(tuned: _Tuned, data: Data, config: TuneConfig, checkpoint: Path | None, say: Say) -> RunFolder:
    gpt, folder = tuned.gpt, tuned.folder
    counts = (gpt.model.num_parameters(), sum(entry.data.size for entry in tuned.parameters))
    _introduce(tuned, counts, config, say)
    optimizer = _optimizer(tuned, config)
    trainer = Trainer(
        tuned.trained,
        optimizer,
        compute_loss=lambda model, batch: next_token_loss(model(from_numpy(batch[0])), from_numpy(batch[1])),
        scheduler=CosineWarmupLR(optimizer, min(config.steps // 10, 100), config.steps, config.learning_rate / 10),
        clip_grad_norm=config.grad_clip or None,
        tokens_per_step=max(1, round(data.tokens)),
        callbacks=_callbacks(tuned, counts, data, config, say),
    )
    if checkpoint is not None:
        trainer.resume(checkpoint)
    trainer.fit(
        data.batch,
        steps=config.steps,
        val=lambda: validate(gpt.model, data),
        val_every=config.eval_interval,
    )
    say(f"validation loss: {validate(gpt.model, data):.4f} ({trainer.seconds:.0f} s of training)")
    return folder


def _callbacks(tuned: _Tuned, counts: tuple[int, int], data: Data, config: TuneConfig, say: Say) -> list[Callback]:
    """The callbacks that write the run's folder and report on it, in the order in which they run."""
    return [
        ProgressBar(),
        JSONLog(tuned.folder.metrics),
        LossCurve(tuned.folder.loss_curve, f"TinyGPT, fine-tuned, {counts[1]:,} of {counts[0]:,} parameters"),
        TimeLeft(config.steps, _validations(data, config), say),
        Answer(tuned.gpt, tuned.folder, data.prompt, say),
        Checkpoints(
            tuned.folder.checkpoint,
            every=config.eval_interval,
            resume_hint=f"continue with: tinygpt finetune --resume {tuned.folder.path}",
        ),
        SaveModel(tuned.save),
    ]


def _optimizer(tuned: _Tuned, config: TuneConfig) -> AdamW:
    """AdamW that decays matrices alone."""
    groups = [
        {"params": [p for p in tuned.parameters if p.ndim >= 2], "weight_decay": config.weight_decay},
        {"params": [p for p in tuned.parameters if p.ndim < 2], "weight_decay": 0.0},
    ]
    return AdamW([group for group in groups if group["params"]], config.learning_rate, (0.9, 0.99))


def validate(model: Layer, data: Data) -> float:
    """Mean loss over the trained tokens of the held-out data."""
    total, count = summed_loss(model, data.validation())
    return total / count


def _validations(data: Data, config: TuneConfig) -> Callable[[int], float]:
    """The cost of the remaining validations in steps: a forward pass is a quarter of a step."""
    each = len(data.validation()) / 4
    return lambda done: ((config.steps - done) // config.eval_interval + 1) * each


def _introduce(tuned: _Tuned, counts: tuple[int, int], config: TuneConfig, say: Say) -> None:
    needed = tuning_needs(tuned.gpt.model.config, *counts, config.batch_size, config.block_size)
    checked(needed, config.batch_size, "a smaller --block-size, or --lora")
    say(f"model: {counts[0]:,} parameters, {counts[1]:,} are trained; it takes about {size_and_free(needed.total)}")
    say(f"run: {tuned.folder.path}, {config.steps:,} steps of {config.batch_size}")


class Answer(Sample):
    """Shows the answer to a held-out prompt after each validation; of plain text, a line as `tinygpt train` does."""

    def __init__(self, gpt: TinyGPT, folder: RunFolder, prompt: list[int], say: Say) -> None:
        super().__init__(gpt, folder, say)
        self.prompt = prompt

    def _pieces(self, most: int) -> Iterator[str]:
        if not self.prompt:
            yield from super()._pieces(most)
            return
        yield self.gpt.tokenizer.decode(self.prompt, skip_special_tokens=True)
        yield " -> "
        yield from self.gpt.continued(self.prompt, most, temperature=0)
