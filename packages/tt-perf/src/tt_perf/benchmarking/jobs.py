"""Part of module 19: the built-in jobs of `tt compare`, each a small piece of real work of one act.

A job builds its model with plugins active, so that what a plugin does to a model (`tt_prepare_model`) is part of it,
and always from the same seed: contestants compute the same.
"""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

import tt_core
from tt_core import tensor, use
from tt_core.engine.errors import did_you_mean
from tt_core.engine.plugins import manager
from tt_data import Conv2d
from tt_language import GPT, GPTConfig, generate, next_token_loss
from tt_learn import AdamW, no_grad
from tt_perf.acceleration import capture
from tt_perf.benchmarking.comparing import Comparison, compare
from tt_perf.benchmarking.timer import BenchmarkError, Timer

Call = Callable[[], Any]


@dataclass(frozen=True)
class Job:
    """A piece of work: `build()` makes a function without arguments that does it once."""

    name: str
    what: str
    build: Callable[[], Call]


def _mlp_step() -> Call:
    model = tt_core.Sequential(tt_core.Linear(784, 128), tt_core.ReLU(), tt_core.Linear(128, 10))
    images, labels = tensor(_normal(64, 784)), tensor(_integers(10, 64))
    return _training_step(model, lambda: tt_core.cross_entropy(model(images), labels))


def _conv_step() -> Call:
    layer, images = Conv2d(8, 16, 3, padding=1), tensor(_normal(16, 8, 16, 16))
    return _training_step(layer, lambda: layer(images).sum())


def _gpt_step() -> Call:
    model, tokens = _gpt(), _integers(65, 12, 65)
    inputs, targets = tensor(tokens[:, :-1]), tensor(tokens[:, 1:])
    return _training_step(model, lambda: next_token_loss(model(inputs), targets))


def _gpt_text() -> Call:
    model = prepared(_gpt().eval())
    return lambda: generate(model, list(range(16)), 32, temperature=0.0)


def _gpt() -> GPT:
    return GPT(GPTConfig(vocab_size=65, block_size=64, n_layer=4, n_head=4, n_embd=128))


def _training_step(model: Any, loss: Callable[[], Any]) -> Call:
    optimizer = AdamW(model.parameters(), lr=1e-3)

    def step() -> None:
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()

    return capture(step) if manager.has_plugin("capture") else step


def prepared(model: Any) -> Any:
    """The model as the active plugins want it for inference."""
    return manager.chained("tt_prepare_model", model, into="model", options={})


JOBS = {
    job.name: job
    for job in (
        Job("mlp-step", "training step of the MLP of 1986: 784-128-10, batch of 64", _mlp_step),
        Job("conv-step", "forward and backward of a 3x3 convolution, 8 to 16 channels, 16 images of 16x16", _conv_step),
        Job("gpt-step", "training step of a GPT: 4 layers, 128 dimensions, context 64, batch of 12", _gpt_step),
        Job("gpt-text", "32 tokens after a prompt of 16, from the same GPT", _gpt_text),
    )
}


def timer_of(job: Job, plugins: Sequence[str]) -> Timer:
    """The job with these plugins active while it is built and while it runs; labelled by their names.

    >>> timer_of(JOBS["mlp-step"], []).label
    'none'
    """
    before = tt_core.get_rng_state()
    try:
        with use(*plugins, report=False):
            tt_core.manual_seed(19)
            work = job.build()
    finally:
        tt_core.set_rng_state(before)
    return Timer(work, label=label_of(plugins), plugins=plugins)


def label_of(plugins: Sequence[str]) -> str:
    """The names joined by +, or none."""
    return "+".join(plugins) or "none"


def compare_plugins(name: str, plugins: Sequence[Sequence[str]], **options: Any) -> Comparison:
    """A built-in job without plugins, and with each of these sets of plugins; `options` as for `compare`.

    Raises `BenchmarkError` for an unknown job, and for no set of plugins.
    """
    if name not in JOBS:
        raise BenchmarkError(f"no job is called {name}; {did_you_mean(name, JOBS)}")
    if not plugins:
        raise BenchmarkError("nothing to compare with: name a plugin (see: tt plugins)")
    return compare(*[timer_of(JOBS[name], names) for names in ([], *plugins)], **options)


def peak_bytes(build: Callable[[], Call]) -> int:
    """The peak of additional memory in bytes while the job of `build()` runs, its own memory included.

    What making it needs for a while, such as the floats that become integers, is not counted.

    >>> 1_000_000 <= peak_bytes(lambda: lambda: np.ones(1_000_000, "int8")) < 1_100_000
    True
    """
    traced = tracemalloc.is_tracing()
    if not traced:
        tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        work = build()
        gc.collect()
        tracemalloc.reset_peak()
        with no_grad():
            work()
        return tracemalloc.get_traced_memory()[1] - before
    finally:
        if not traced:
            tracemalloc.stop()


def _normal(*shape: int) -> Any:
    return np.random.default_rng(0).standard_normal(shape, dtype=np.float32)


def _integers(high: int, *shape: int) -> Any:
    return np.random.default_rng(0).integers(high, size=shape)
