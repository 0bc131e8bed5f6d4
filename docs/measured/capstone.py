"""Numbers and pictures of lesson 20, capstone."""

from __future__ import annotations

import copy
import functools
import math
from pathlib import Path
from typing import Any

import numpy as np

import tt_core
from measured import fastest, number, picture
from tinygpt import TinyGPT
from tinygpt.capstone import (
    GOLDEN_SECTION,
    Tokens,
    gpt_config,
    learn_tokenizer,
    optimizer_for,
    preset,
    split_tokens,
    validate,
)
from tinygpt.capstone.reading import Corpus
from tinygpt.needs import needs
from tt_core import from_numpy, use
from tt_language import GPT, generate, next_token_loss
from tt_learn.svg import circle, framed, line_chart
from tt_perf import Int4WeightOnly, Int8WeightOnly, quantize_
from tt_perf.compression import prune_

CONFIG = preset("tiny", tokenizer="byte", steps=40, batch_size=8, learning_rate=4e-3)


@functools.cache
def tokens() -> Tokens:
    """The lessons of this site as bytes."""
    pages = sorted((Path(__file__).parents[1] / "lessons").glob("*.md"))
    text = "\n".join(page.read_text(encoding="utf-8") for page in pages)
    corpus = Corpus(text, "lessons")
    return split_tokens(corpus, learn_tokenizer(CONFIG, corpus), CONFIG.block_size)


@functools.cache
def trained() -> tuple[TinyGPT, list[float]]:
    """A small model after 40 steps, and the loss of each step."""
    tt_core.manual_seed(0)
    tokenizer = learn_tokenizer(CONFIG, Corpus("", ""))
    model = GPT(gpt_config(CONFIG, tokenizer.vocab_size))
    optimizer, losses = optimizer_for(model, CONFIG), []
    for step in range(CONFIG.steps):
        x, y = (from_numpy(ids) for ids in tokens().batch(step, CONFIG.batch_size, CONFIG.block_size, 0.5))
        optimizer.zero_grad()
        loss = next_token_loss(model(x), y)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return TinyGPT(model.eval(), tokenizer), losses


def loss_of(model: GPT) -> float:
    """The loss on text that was held out."""
    return validate(model, tokens(), CONFIG, windows=16)


@picture
def losses_of_training() -> str:
    """The loss of each of 40 training steps, and that of guessing each byte with probability 1/256."""
    losses = trained()[1]
    steps = range(1, len(losses) + 1)
    curves = {"training": list(zip(steps, losses)), "guessing": [(s, math.log(256)) for s in steps]}
    return line_chart(curves, x_label="step", y_label="loss")


@number(5.4, 5.8, ".2f")
def first_loss() -> float:
    """The loss of the first step, near ln 256."""
    return trained()[1][0]


@number(2, 3.8, ".2f")
def loss_after() -> float:
    """The loss on held-out text after 40 steps."""
    return loss_of(trained()[0].model)


@number(5, 50, ".0f")
def likely_bytes() -> float:
    """exp(loss): among how many equally likely bytes the model would be undecided."""
    return math.exp(loss_after())


@number(100_000, 150_000, ",.0f")
def parameters() -> float:
    """The parameters of this model."""
    return float(trained()[0].model.num_parameters())


def nbytes(model: Any) -> int:
    """Bytes of all parameters and buffers."""
    return sum(int(x.data.nbytes) for x in model.state_dict().values())


@functools.cache
def after(how: str) -> tuple[float, float]:
    """How many times smaller the model became, and by how much its loss rose."""
    model = copy.deepcopy(trained()[0].model)
    before = nbytes(model)
    if how.startswith("int"):
        quantize_(model, Int8WeightOnly() if how == "int8" else Int4WeightOnly(32), verbose=False)
        smaller = before / nbytes(model)
    else:
        prune_(model, float(how))
        smaller = 1.0
    return smaller, loss_of(model) - loss_after()


@number(3, 4, ".1f")
def int8_smaller() -> float:
    """How many times smaller with int8 weights."""
    return after("int8")[0]


@number(-0.02, 0.05, "+.4f")
def int8_loss() -> float:
    """By how much the loss rises with int8 weights."""
    return after("int8")[1]


@number(4.5, 8, ".1f")
def int4_smaller() -> float:
    """How many times smaller with int4 weights."""
    return after("int4")[0]


@number(-0.05, 0.5, "+.4f")
def int4_loss() -> float:
    """By how much the loss rises with int4 weights."""
    return after("int4")[1]


@number(-0.05, 1, "+.4f")
def pruned_half_loss() -> float:
    """By how much the loss rises with half of the weights set to zero."""
    return after("0.5")[1]


@number(0.02, 4, "+.2f")
def pruned_nine_tenths_loss() -> float:
    """By how much the loss rises with nine tenths of the weights set to zero."""
    return after("0.9")[1]


@functools.cache
def milliseconds() -> tuple[float, float]:
    """Milliseconds for each of 48 tokens, without a cache and with one."""
    model = trained()[0].model

    def run() -> None:
        generate(model, [[1]], 48, seed=0)

    times = [float("inf")] * 2
    for _ in range(4):
        times[0] = min(times[0], *fastest(run, rounds=1))
        with use("kv-cache", report=False):
            times[1] = min(times[1], *fastest(run, rounds=1))
    return 1000 * times[0] / 48, 1000 * times[1] / 48


@number(0.1, 60, ".2f")
def token_plain() -> float:
    """Milliseconds a token without a cache."""
    return milliseconds()[0]


@number(0.05, 60, ".2f")
def token_cached() -> float:
    """Milliseconds a token with the KV cache."""
    return milliseconds()[1]


@number(0.2, 6, ".2f")
def small_cache_speedup() -> float:
    """How many times as fast generation is with the KV cache: about as fast, for so small a model."""
    return token_plain() / token_cached()


@number(0, 0, ".0f")
def differing_tokens() -> float:
    """How many of 48 tokens differ between generation with a cache and without."""
    model = trained()[0].model
    plain = generate(model, [[1]], 48, seed=0)[0]
    with use("kv-cache", report=False):
        return float(np.sum(np.array(generate(model, [[1]], 48, seed=0)[0]) != np.array(plain)))


@number(1, 2.5, ".2f")
def training_megabytes() -> float:
    """Megabytes of weights, gradients and the state of the optimizer of this model: 16 bytes a parameter."""
    return needs(CONFIG, 256).weights / 1e6


@picture
def steps_in_the_text() -> str:
    """Where the windows of the first 60 steps of a training begin, one window a step, as a share of the text."""
    golden = [(i, (0.5 + i * GOLDEN_SECTION) % 1) for i in range(60)]
    return framed(
        golden,
        lambda x_at, y_at: [circle(x_at(x), y_at(y), 4, "#3b6fb6") for x, y in golden],
        "",
        "step",
        "share of the text",
    )
