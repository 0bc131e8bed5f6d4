"""Part of module 20, capstone: going on with a training from its last checkpoint."""

from __future__ import annotations

import contextlib
import dataclasses
from pathlib import Path

import tt_core
from tinygpt.capstone.callbacks import Say, introduce
from tinygpt.capstone.capstone import TinyGPT
from tinygpt.capstone.corpus import split_tokens
from tinygpt.capstone.loading import new_model, saved_tokenizer
from tinygpt.capstone.recorded import (
    same_corpus,
    saved_weights,
    train_config,
)
from tinygpt.capstone.showcase import sample
from tinygpt.capstone.train import loss_of, run
from tinygpt.distributed import world
from tinygpt.needs import check_memory
from tinygpt.runs import RunFolder
from tt_core.engine.errors import FileError


def resume(path: Path, steps: int | None = None, say: Say = print) -> RunFolder:
    """Go on with a run from its last checkpoint, to the same bits as if it had never stopped.

    `steps` changes how many are to be done in all. Raises `FileError` without a run or a checkpoint there, and where
    another training is writing to the run.
    """
    say = world().only_first(say)
    folder = RunFolder.open(path)
    with folder.writing() if world().first else contextlib.nullcontext():
        described = folder.read_config()
        if "finetuning" in described:
            raise FileError(f"{folder.path} is a fine-tuning; continue with: tinygpt finetune --resume {folder.path}")
        config = train_config(folder, described)
        config = dataclasses.replace(config, steps=config.steps if steps is None else steps)
        weights = saved_weights(folder, config.steps)
        corpus = same_corpus(folder, described)
        say(f"corpus: {corpus.source}, {len(corpus.text):,} characters")
        tt_core.manual_seed(config.seed)
        model = new_model(folder, described, weights)
        tokenizer = saved_tokenizer(folder, model)
        tokens = split_tokens(corpus, tokenizer, config.block_size, config.val_fraction)
        needed = check_memory(config, tokenizer.vocab_size)
        gpt = TinyGPT(model, tokenizer)
        if world().first:
            folder.write_config({**described, "training": dataclasses.asdict(config)})
        introduce(gpt, tokens, needed, folder, say)
        run(gpt, tokens, config, folder, folder.last_checkpoint, loss_of(described), say)
        if world().first:
            say(str(sample(gpt, corpus.text)))
        return folder
