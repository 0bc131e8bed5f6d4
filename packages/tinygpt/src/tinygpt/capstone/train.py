"""Module 20, capstone: the main job, from a text to a trained model in a run folder.

Read from top to bottom, it is the way of the data: text -> tokenizer -> ids -> windows -> model -> loss.
"""

from __future__ import annotations

import dataclasses
import itertools
import platform
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

import tt_core
from tinygpt.__about__ import __version__
from tinygpt.capstone.capstone import TinyGPT, new_model, saved_tokenizer
from tinygpt.capstone.corpus import Corpus, CorpusError, Tokens, read_corpus, split_tokens
from tinygpt.capstone.presets import TrainConfig
from tinygpt.needs import Needs, available_memory, check_memory, size
from tinygpt.runs import RunFolder
from tt_core import from_numpy
from tt_core.engine.errors import FileError, TinyTorchError
from tt_language import (
    GPT,
    BPETokenizer,
    ByteTokenizer,
    CharTokenizer,
    GPTConfig,
    Tokenizer,
    next_token_loss,
)
from tt_learn import AdamW, Checkpoints, CosineWarmupLR, JSONLog, LossCurve, ProgressBar, Trainer, evaluating
from tt_learn.training import Callback
from tt_learn.training.checkpoints import read_checkpoint
from tt_perf.profiling.roofline import measure_machine

Say = Callable[[str], None]


def start(config: TrainConfig, corpus_path: Path | None, out: Path | None, say: Say = print) -> RunFolder:
    """Train a new model on a text. Returns the run folder; raises `TinyTorchError` for what cannot be trained.

    Everything that can be refused is refused before the folder is made, most of it before the text is read.
    """
    RunFolder.check_new(out)
    gpt_config(config, vocab_size=256)
    check_memory(config, vocab_size=256)
    tt_core.manual_seed(config.seed)
    corpus = read_corpus(corpus_path)
    say(f"corpus: {corpus.source}, {len(corpus.text):,} characters")
    tokenizer = learn_tokenizer(config, corpus)
    tokens = split_tokens(corpus, tokenizer, config.block_size, config.val_fraction)
    needed = check_memory(config, tokenizer.vocab_size)
    model = GPT(gpt_config(config, tokenizer.vocab_size))
    gpt = TinyGPT(model, tokenizer)
    with RunFolder.begun(out) as folder:
        folder.write_config(_described(config, model.config, corpus, corpus_path))
        tokenizer.save(folder.tokenizer)
        _introduce(gpt, tokens, needed, folder, say)
        return _run(gpt, tokens, config, folder, None, say)


def resume(path: Path, steps: int | None = None, say: Say = print) -> RunFolder:
    """Go on with a run from its last checkpoint, to the same bits as if it had never stopped.

    `steps` changes how many are to be done in all. Raises `FileError` without a run or a checkpoint there, and where
    another training is writing to the run.
    """
    folder = RunFolder.open(path)
    with folder.writing():
        described = folder.read_config()
        config = _train_config(folder, described)
        config = dataclasses.replace(config, steps=config.steps if steps is None else steps)
        weights = _saved_weights(folder, config.steps)
        corpus = _same_corpus(folder, described)
        say(f"corpus: {corpus.source}, {len(corpus.text):,} characters")
        tt_core.manual_seed(config.seed)
        model = new_model(folder, described, weights)
        tokenizer = saved_tokenizer(folder, model)
        tokens = split_tokens(corpus, tokenizer, config.block_size, config.val_fraction)
        needed = check_memory(config, tokenizer.vocab_size)
        gpt = TinyGPT(model, tokenizer)
        folder.write_config({**described, "training": dataclasses.asdict(config)})
        _introduce(gpt, tokens, needed, folder, say)
        return _run(gpt, tokens, config, folder, folder.last_checkpoint, say)


def learn_tokenizer(config: TrainConfig, corpus: Corpus) -> Tokenizer:
    """The tokenizer that `config` names, learnt from the text where there is something to learn."""
    if config.tokenizer == "char":
        return CharTokenizer(corpus.text)
    if config.tokenizer == "byte":
        return ByteTokenizer()
    if config.tokenizer == "bpe":
        return BPETokenizer.train(corpus.text, config.vocab_size)
    raise TinyTorchError(f"tokenizer is {config.tokenizer!r}, expected char, byte or bpe")


def gpt_config(config: TrainConfig, vocab_size: int) -> GPTConfig:
    """The model's part of the training options."""
    return GPTConfig(
        vocab_size=vocab_size,
        block_size=config.block_size,
        n_layer=config.n_layer,
        n_head=config.n_head,
        n_embd=config.n_embd,
        dropout=config.dropout,
        bias=config.bias,
        mlp=config.mlp,
    )


def _run(
    gpt: TinyGPT, tokens: Tokens, config: TrainConfig, folder: RunFolder, checkpoint: Path | None, say: Say
) -> RunFolder:
    optimizer = optimizer_for(gpt.model, config)
    trainer = Trainer(
        gpt.model,
        optimizer,
        next_token_loss,
        scheduler=CosineWarmupLR(optimizer, min(config.warmup_steps, config.steps - 1), config.steps, config.min_lr),
        clip_grad_norm=config.grad_clip or None,
        accumulate=config.accumulate,
        tokens_per_step=config.tokens_per_step,
        callbacks=[
            ProgressBar(),
            JSONLog(folder.metrics),
            LossCurve(folder.loss_curve, f"TinyGPT, {gpt.model.num_parameters():,} parameters"),
            SaveModel(gpt, folder),
            Estimate(gpt.model, config, tokens, say),
            Sample(gpt, say),
            Checkpoints(
                folder.checkpoint,
                every=config.eval_interval,
                resume_hint=f"go on with: tinygpt train --resume {folder.path}",
            ),
        ],
    )
    if checkpoint is not None:
        trainer.resume(checkpoint)

    def measured(windows: int | None) -> dict[str, float]:
        loss = validate(gpt.model, tokens, config, windows)
        return {"val_loss": loss, "val_bpb": tokens.bits_per_byte(loss)}

    trainer.fit(
        reader(tokens, config),
        steps=config.steps,
        val=lambda: measured(config.eval_windows),
        val_every=config.eval_interval,
    )
    whole = measured(None)
    say(
        f"validation loss over all of the held-out text: {whole['val_loss']:.4f}, {whole['val_bpb']:.4f} bits per byte "
        f"({trainer.seconds:.0f} s of training)"
    )
    return folder


def reader(tokens: Tokens, config: TrainConfig) -> Callable[[int], tuple[Any, Any]]:
    """What the trainer asks for batches: the next of the `accumulate` batches of a step, each time it is called."""
    first = np.random.default_rng(config.seed).random()
    calls = itertools.count()

    def batch(step: int) -> tuple[Any, Any]:
        number = step * config.accumulate + next(calls) % config.accumulate
        x, y = tokens.batch(number, config.batch_size, config.block_size, first)
        return from_numpy(x), from_numpy(y)

    return batch


def optimizer_for(model: GPT, config: TrainConfig) -> AdamW:
    """AdamW that decays matrices alone: biases and norms are left out, as in nanoGPT."""
    parameters = list(model.parameters())
    groups = [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": config.weight_decay},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]
    return AdamW([group for group in groups if group["params"]], config.learning_rate, (config.beta1, config.beta2))


def validate(model: GPT, tokens: Tokens, config: TrainConfig, windows: int | None) -> float:
    """Mean loss over windows of the validation text, always the same ones; all of it without `windows`."""
    total = count = 0.0
    with evaluating(model):
        for x, y in tokens.validation(2 * config.batch_size, config.block_size, windows):
            total += next_token_loss(model(from_numpy(x)), from_numpy(y)).item() * x.size
            count += x.size
    return total / count


class SaveModel(Callback):
    """Writes model.safetensors after each validation and at the end, whole at any moment."""

    def __init__(self, gpt: TinyGPT, folder: RunFolder) -> None:
        self.gpt, self.folder = gpt, folder

    def on_validation(self, trainer: Trainer, metrics: Mapping[str, float]) -> None:
        self.gpt.save(self.folder)

    def on_train_end(self, trainer: Trainer) -> None:
        self.gpt.save(self.folder)


class Sample(Callback):
    """Shows a line of the model's text after each validation, with a random generator of its own.

    Training has the same bits without it. It costs up to 64 small forward passes: the time of 0.3 to 2 steps.
    """

    def __init__(self, gpt: TinyGPT, say: Say) -> None:
        self.gpt, self.say = gpt, say

    def on_log(self, trainer: Trainer, record: Mapping[str, Any]) -> None:
        if record["val_loss"] is not None:
            width = min(shutil.get_terminal_size().columns, 100) - 3
            self.say(f"  {self._line(width)}")

    def _line(self, width: int) -> str:
        """Up to `width` printable characters; line breaks are spaces."""
        text = ""
        for piece in self.gpt.generate(
            max_new_tokens=min(64, self.gpt.model.config.block_size), temperature=0.8, seed=0
        ):
            text += piece
            if len(text) > width:
                break
        shown = "".join(x if x.isprintable() and x != "\ufffd" else " " for x in text)  # bytes that are no character
        return " ".join(shown.split())[:width]


def flops_per_token(model: GPT) -> int:
    """FLOPs of a token in training: six a weight that it is multiplied by, and attention (PaLM, appendix B).

    >>> flops_per_token(GPT(GPTConfig(vocab_size=100, block_size=64, n_layer=2, n_head=2, n_embd=32, bias=False)))
    215808
    """
    config = model.config
    layers = sum(p.numel() for p in model.parameters() if p.ndim == 2) - _looked_up(config)
    return 6 * layers + 12 * config.n_layer * config.n_embd * config.block_size


def _looked_up(config: GPTConfig) -> int:
    """Weights that are looked up and multiplied by nothing: positions, and tokens where the head has its own."""
    tokens = 0 if config.tie_weights else config.vocab_size
    positions = config.block_size if config.position == "learned" else 0
    return (tokens + positions) * config.n_embd


_LONG = 20
"""Seconds of training from which on it pays to measure the machine, which takes about one."""


class Estimate(Callback):
    """Says how long training will take, once some steps have been measured, and of a long one how well it runs."""

    def __init__(self, model: GPT, config: TrainConfig, tokens: Tokens, say: Say) -> None:
        self.model, self.config, self.tokens, self.say = model, config, tokens, say
        self._first: tuple[int, float] | None = None
        self._said = False

    def on_step_end(self, trainer: Trainer) -> None:
        if self._said:
            return
        if self._first is None:  # the first step also allocates: it takes longer than those that follow
            self._first = trainer.step, trainer.seconds
            return
        done, seconds = trainer.step - self._first[0], trainer.seconds - self._first[1]
        if seconds > 1 or done >= 5:
            self._said = True
            step = seconds / done
            total = step * (self.config.steps - trainer.step) + step * self._validations(trainer.step)
            self.say(f"time: about {duration(total)}, at {step * 1000:,.3g} ms a step; Ctrl-C saves, --resume goes on")
            if total > _LONG:
                rate = self.config.tokens_per_step * flops_per_token(self.model) / step
                peak = measure_machine().flops_per_second
                self.say(f"speed: {rate / 1e9:.3g} GFLOP/s, {rate / peak:.0%} of what this machine's products reach")

    def _validations(self, done: int) -> float:
        """What the validations to come cost, in steps: they run forward alone, which is a quarter of a step."""
        windows = len(self.tokens.val) // self.config.block_size
        times = self.config.steps // self.config.eval_interval - done // self.config.eval_interval
        return (times * min(windows, self.config.eval_windows) + windows) / self.config.batch_size / 4


def duration(seconds: float) -> str:
    """A time for people.

    >>> duration(4.2), duration(100), duration(5000), duration(1e6), duration(1e12)
    ('4 s', '1 min 40 s', '1 h 23 min', '11.6 days', '32,000 years')
    """
    if seconds < 59.5:
        return f"{max(1, round(seconds))} s"
    if seconds < 3600:
        return f"{round(seconds) // 60} min {round(seconds) % 60} s"
    if seconds < 100 * 3600:
        return f"{round(seconds) // 3600} h {round(seconds) // 60 % 60} min"
    days = seconds / 86400
    return f"{days:.1f} days" if days < 1000 else f"{float(f'{days / 365.25:.2g}'):,.0f} years"


def _introduce(gpt: TinyGPT, tokens: Tokens, needed: Needs, folder: RunFolder, say: Say) -> None:
    say(
        f"tokens: {len(tokens.train):,} to train on, {len(tokens.val):,} to validate on, "
        f"vocabulary {gpt.tokenizer.vocab_size:,}"
    )
    free = available_memory()
    there = "" if free is None else f" ({size(free)} are free)"
    say(f"model: {gpt.model.num_parameters():,} parameters; to train it takes about {size(needed.total)}{there}")
    say(f"run: {folder.path}")


def _described(config: TrainConfig, model: GPTConfig, corpus: Corpus, path: Path | None) -> dict[str, Any]:
    """What config.json holds."""
    return {
        "model": model.to_dict(),
        "training": dataclasses.asdict(config),
        "corpus": {
            "source": corpus.source,
            "path": None if path is None else str(path.resolve()),
            "characters": len(corpus.text),
            "sha256": corpus.sha256,
        },
        "versions": {"tinygpt": __version__, "python": platform.python_version()},
    }


def _train_config(folder: RunFolder, described: Mapping[str, Any]) -> TrainConfig:
    if "training" not in described:
        raise FileError(f"{folder.config} holds no training options, so there is no training to go on with")
    try:
        return TrainConfig(**described["training"])
    except (TypeError, TinyTorchError) as error:
        raise FileError(f"{folder.config} is damaged: training options do not fit ({error})") from None


def _saved_weights(folder: RunFolder, steps: int) -> int:
    """How many weights the last checkpoint holds, once it is known to be whole and not beyond `steps`."""
    path = folder.last_checkpoint
    if not path.exists():
        raise FileError(f"{folder.path} holds no checkpoint/{path.name} to go on from; train anew with another --out")
    saved = read_checkpoint(path)[1]
    try:
        done, weights = saved["trainer"]["step"], sum(array.size for array in saved["model"].values())
    except (KeyError, TypeError, AttributeError):
        raise FileError(f"{path} is no checkpoint of a training run; train anew with another --out") from None
    if steps < done:
        raise TinyTorchError(f"{folder.path} has done {done} steps already, --steps {steps} is fewer")
    return weights


def _same_corpus(folder: RunFolder, described: Mapping[str, Any]) -> Corpus:
    """The text that a run was begun with; another one, such as another Python's documentation, is refused."""
    known = described.get("corpus")
    path = known.get("path", 0) if isinstance(known, dict) else 0
    if not isinstance(known, dict) or not (path is None or isinstance(path, str)):
        raise FileError(f"{folder.config} is damaged: it does not say what corpus was trained on")
    corpus = read_corpus(None if path is None else Path(path))
    if corpus.sha256 != known.get("sha256"):
        raise CorpusError(f"{corpus.source} is not the text that {folder.path} was trained on; put it back as it was")
    return corpus
