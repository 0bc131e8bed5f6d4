"""Module 20, capstone: the main job, from a text to a trained model in a run folder.

Read from top to bottom, it is the way of the data: text -> tokenizer -> ids -> windows -> model -> loss.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import tt_core
from tinygpt.capstone.callbacks import Say, Together, introduce, writers
from tinygpt.capstone.capstone import TinyGPT
from tinygpt.capstone.corpus import Tokens, split_tokens
from tinygpt.capstone.muon import muon_for
from tinygpt.capstone.presets import TrainConfig, gpt_config
from tinygpt.capstone.reading import Corpus, read_corpus
from tinygpt.capstone.recorded import (
    described_corpus,
    described_run,
    distillation,
)
from tinygpt.capstone.showcase import sample
from tinygpt.distributed import world
from tinygpt.needs import check_memory
from tinygpt.runs import RunFolder
from tt_core import Layer, from_numpy
from tt_core.engine.errors import TinyTorchError
from tt_language import (
    GPT,
    BPETokenizer,
    ByteTokenizer,
    CharTokenizer,
    Tokenizer,
    next_token_loss,
)
from tt_learn import AdamW, Callback, CosineWarmupLR, Optimizer, Trainer, evaluating


def start(config: TrainConfig, corpus_path: Path | None, out: Path | None, say: Say = print) -> RunFolder:
    """Train a new model on a text. Returns the run folder; raises `TinyTorchError` for what cannot be trained.

    All checks come before the folder is made, most of them before the text is read.
    """
    say = world().only_first(say)
    if world().first:
        RunFolder.check_new(out)
    world().check_share(config.batch_size)
    gpt_config(config, vocab_size=256)  # the real vocabulary is not known yet, but most mistakes show with any
    check_memory(config, vocab_size=256)
    tt_core.manual_seed(config.seed)
    corpus = read_corpus(corpus_path)
    say(f"corpus: {corpus.source}, {len(corpus.text):,} characters")
    tokenizer = learn_tokenizer(config, corpus)
    return train_new(config, corpus, tokenizer, out, say, {"corpus": described_corpus(corpus, corpus_path)})


def train_new(
    config: TrainConfig,
    corpus: Corpus,
    tokenizer: Tokenizer,
    out: Path | None,
    say: Say,
    described: Mapping[str, Any],
) -> RunFolder:
    """Train a new model on a text whose tokenizer is known; `described` is added to config.json."""
    tokens = split_tokens(corpus, tokenizer, config.block_size, config.val_fraction)
    needed = check_memory(config, tokenizer.vocab_size)
    model = GPT(gpt_config(config, tokenizer.vocab_size))
    gpt = TinyGPT(model, tokenizer)
    if not world().first:  # another process writes
        folder = RunFolder(Path())
        run(gpt, tokens, config, folder, None, loss_of(described), say)
        return folder
    with RunFolder.begun(out) as folder:
        folder.write_config(described_run(config, model.config) | dict(described))
        tokenizer.save(folder.tokenizer)
        introduce(gpt, tokens, needed, folder, say)
        run(gpt, tokens, config, folder, None, loss_of(described), say)
        say(str(sample(gpt, corpus.text)))
        return folder


def learn_tokenizer(config: TrainConfig, corpus: Corpus) -> Tokenizer:
    """The tokenizer that `config` names, learned from the text where there is something to learn."""
    if config.tokenizer == "char":
        return CharTokenizer(corpus.text)
    if config.tokenizer == "byte":
        return ByteTokenizer()
    if config.tokenizer == "bpe":
        return BPETokenizer.train(corpus.text, config.vocab_size)
    raise TinyTorchError(f"tokenizer is {config.tokenizer!r}, expected char, byte or bpe")


def loss_of(described: Mapping[str, Any]) -> Callable[[Layer, Any], Any]:
    """The loss of a model on a batch of windows: of the next tokens, or of them and a teacher (`tinygpt distill`)."""
    if "teacher" in described:
        return distillation(described)
    return lambda model, batch: next_token_loss(model(batch[0]), batch[1])


def run(
    gpt: TinyGPT,
    tokens: Tokens,
    config: TrainConfig,
    folder: RunFolder,
    checkpoint: Path | None,
    loss: Callable[[Layer, Any], Any],
    say: Say,
) -> None:
    """Trains to the end, from a checkpoint if one is given; prints the loss on the whole held-out text."""
    writes = writers(gpt, tokens, config, folder, say) if world().first else []  # other processes write nothing
    trainer = new_trainer(gpt.model, config, loss, [Together(world(), config.seed), *writes])
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


def new_trainer(
    model: GPT, config: TrainConfig, loss: Callable[[Layer, Any], Any], callbacks: Sequence[Callback]
) -> Trainer:
    """The trainer of a run, with its optimizer and its schedule."""
    optimizer = new_optimizer(model, config)
    return Trainer(
        model,
        optimizer,
        compute_loss=world().weighted(loss, config.batch_size),
        scheduler=CosineWarmupLR(optimizer, min(config.warmup_steps, config.steps - 1), config.steps, config.min_lr),
        clip_grad_norm=config.grad_clip or None,
        accumulate=config.accumulate,
        tokens_per_step=config.tokens_per_step,
        callbacks=callbacks,
    )


def reader(tokens: Tokens, config: TrainConfig) -> Callable[[int], tuple[Any, Any]]:
    """A function that gives the trainer the next of the `accumulate` batches of a step at each call."""
    first = np.random.default_rng(config.seed).random()
    calls, mine = itertools.count(), world().share(config.batch_size)

    def batch(step: int) -> tuple[Any, Any]:
        # a batch of a step is a function of its number alone, so that a resumed run reads the same text
        number = step * config.accumulate + next(calls) % config.accumulate
        # (batch, block) each, of which every process takes its own rows
        x, y = tokens.batch(number, config.batch_size, config.block_size, first)
        return from_numpy(x[mine]), from_numpy(y[mine])

    return batch


def new_optimizer(model: GPT, config: TrainConfig) -> Optimizer:
    """The optimizer that `config` names."""
    return muon_for(model, config) if config.optimizer == "muon" else optimizer_for(model, config)


def optimizer_for(model: GPT, config: TrainConfig) -> AdamW:
    """AdamW that decays matrices alone: biases and norms are left out, as in nanoGPT."""
    # decay keeps the products of weights and features small; a bias or the scale of a norm has no product to limit
    parameters = list(model.parameters())
    groups = [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": config.weight_decay},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]
    return AdamW([group for group in groups if group["params"]], config.learning_rate, (config.beta1, config.beta2))


def validate(model: GPT, tokens: Tokens, config: TrainConfig, windows: int | None) -> float:
    """Mean loss over `windows` windows of the validation text, always the same ones, or over all of it."""
    total = count = 0.0
    batches = tokens.validation(2 * config.batch_size, config.block_size, windows)
    with evaluating(model):
        for x, y in batches[world().rank :: world().size]:
            total += next_token_loss(model(from_numpy(x)), from_numpy(y)).item() * x.size
            count += x.size
    total, count = world().sum([total, count])
    return total / count
