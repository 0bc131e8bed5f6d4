"""Part of module 19: the task of the Torch Olympics, writing a row of digits backwards.

A small GPT reads 12 digits and a separator and continues with the digits in reverse order. New digits are drawn for
each batch, so the model cannot memorize them and has to use attention. Training takes seconds, and an untrained model
gets every tenth digit right. The answer is generated token by token, so caches, compiled kernels and quantized weights
all affect its time, and their errors its quality.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

import tt_core
from tt_core import tensor, use
from tt_core.engine.dispatch import Array
from tt_language import GPT, GPTConfig, generate, next_token_loss
from tt_learn import AdamW, clip_grad_norm_, evaluating, load_tensors, save_tensors
from tt_perf.benchmarking.jobs import prepared
from tt_perf.benchmarking.timer import BenchmarkError

LENGTH, DIGITS = 12, 10
SEPARATOR = DIGITS
CHANCE = 1 / DIGITS
GATE = 0.98
"""The share of digits that must be right; faster and smaller count only from there on."""
QUESTIONS = 50
"""Questions of the examination: 600 digits, so chance is 10 % with a standard deviation of 1.2 %."""
CONFIG = GPTConfig(vocab_size=DIGITS + 1, block_size=2 * LENGTH, n_layer=2, n_head=4, n_embd=64)
_BATCH, _EVERY, _MOST_STEPS = 32, 10, 1000


def draw(rows: int, random: np.random.Generator) -> Array:
    """Questions with their answers: (rows, 25) ids, which are 12 digits, the separator, 12 digits backwards.

    >>> draw(1, np.random.default_rng(0)).shape
    (1, 25)
    """
    digits = random.integers(0, DIGITS, (rows, LENGTH))
    return np.concatenate([digits, np.full((rows, 1), SEPARATOR), digits[:, ::-1]], axis=1)


def new_model(config: GPTConfig = CONFIG) -> GPT:
    """A model with random weights, always the same ones; the framework's generator is left as it was."""
    before = tt_core.get_rng_state()
    try:
        tt_core.manual_seed(2024)
        return GPT(config)
    finally:
        tt_core.set_rng_state(before)


def answers(model: GPT, questions: Array) -> list[list[int]]:
    """What the model writes after the separator: 12 tokens for each row of `draw`."""
    found: list[list[int]] = generate(model, questions[:, : LENGTH + 1].tolist(), LENGTH, temperature=0.0)
    return found


def quality(model: GPT, questions: Array | None = None) -> float:
    """The share of digits that the model gets right, 0 to 1; without `questions`, in the examination."""
    asked = draw(QUESTIONS, np.random.default_rng(2025)) if questions is None else questions
    return float(np.mean(np.array(answers(model, asked)) == asked[:, LENGTH + 1 :]))


def random_quality(config: GPTConfig = CONFIG) -> float:
    """The quality of random weights. Raises `BenchmarkError` if it is above chance: then the task leaks the answers."""
    found = quality(new_model(config).eval())
    if found > CHANCE + 0.05:
        raise BenchmarkError(f"random weights get {found:.0%} right, chance is {CHANCE:.0%}: the measuring is wrong")
    return found


@dataclasses.dataclass(frozen=True)
class Training:
    """How long training took to reach the gate; the quality that was asked for from time to time is not counted."""

    seconds: float
    steps: int


def train(model: Any, most_steps: int = _MOST_STEPS) -> Training:
    """Train until the gate is reached on digits that are not in the examination; leaves it in evaluation mode.

    Raises `BenchmarkError` when `most_steps` do not suffice.
    """
    random, optimizer = np.random.default_rng(1), AdamW(model.parameters(), lr=3e-3, betas=(0.9, 0.99))
    trial, seconds = draw(QUESTIONS // 2, np.random.default_rng(2)), 0.0
    model.train()
    for step in range(1, most_steps + 1):
        started = time.perf_counter()
        ids = draw(_BATCH, random)
        targets = ids[:, 1:].copy()
        targets[:, :LENGTH] = -100  # the question itself cannot be foretold
        optimizer.zero_grad()
        next_token_loss(model(tensor(ids[:, :-1])), tensor(targets)).backward()
        clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        seconds += time.perf_counter() - started
        if step % _EVERY == 0:
            with evaluating(model):
                reached = quality(model, trial)
            if reached > (1 + GATE) / 2:  # with a margin, since the examination asks other questions
                model.eval()
                return Training(seconds, step)
    raise BenchmarkError(f"training did not reach a quality of {GATE:.0%} in {most_steps} steps")


def train_with(plugins: Sequence[str]) -> tuple[GPT, Training]:
    """A model trained with these plugins active, and how long it took; compiling is done before, on another model."""
    with use(*plugins, report=False):
        spare = new_model()
        next_token_loss(spare(tensor([[1, 2]])), tensor([[2, 3]])).backward()
        model = new_model()
        return model, train(model)


def for_use(model: GPT) -> Any:
    """A copy of the model as the active plugins want it for inference; `model` itself stays as it is."""
    copy = new_model(model.config)
    copy.load_state_dict(model.state_dict())
    return prepared(copy.eval())


# --- files


def digest(model: GPT) -> str:
    """SHA-256 over the configuration and the weights.

    >>> digest(new_model()) == digest(new_model())
    True
    """
    found = hashlib.sha256(json.dumps(dataclasses.asdict(model.config), sort_keys=True).encode())
    for name, weight in sorted(model.state_dict().items()):
        array = np.ascontiguousarray(weight.data)
        found.update(f"{name}\0{array.dtype.str}\0{array.shape}\0".encode())
        found.update(array.tobytes())
    return found.hexdigest()


def save_model(model: GPT, path: str | os.PathLike[str]) -> None:
    """Write a model of your own for the Olympics: weights and configuration in one `.safetensors` file."""
    config = json.dumps(dataclasses.asdict(model.config))
    save_tensors(path, {name: weight.data for name, weight in model.state_dict().items()}, {"config": config})


def load_model(path: str | os.PathLike[str]) -> GPT:
    """The model that `save_model` wrote.

    Raises `CheckpointError` for a file that is damaged or no safetensors file, and `BenchmarkError` for one that holds
    no GPT for this task.
    """
    arrays, metadata = load_tensors(path)
    try:
        config = GPTConfig(**json.loads(metadata["config"]))
    except (KeyError, TypeError, ValueError) as error:
        raise BenchmarkError(f"{Path(path)}: holds no model's configuration; write it with save_model") from error
    if config.vocab_size <= SEPARATOR or config.block_size < 2 * LENGTH:
        raise BenchmarkError(
            f"{Path(path)}: vocab_size {config.vocab_size} and block_size {config.block_size}; the task needs "
            f"{SEPARATOR + 1} and {2 * LENGTH} or more"
        )
    model = GPT(config)
    model.load_state_dict({name: tensor(array) for name, array in arrays.items()})
    return model.eval()
