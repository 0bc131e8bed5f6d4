"""Module 20, capstone: how fast a model reads a prompt and writes, measured by module 19."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tinygpt.capstone.callbacks import Say, weight_shapes
from tinygpt.capstone.capstone import TinyGPT
from tinygpt.memory import size
from tinygpt.runs import RunFolder
from tt_core.engine.errors import TinyTorchError
from tt_language import GPT, stream
from tt_perf import Timer, compare
from tt_perf.benchmarking.comparing import Ratio
from tt_perf.benchmarking.timer import Measurement, duration
from tt_perf.profiling.roofline import measure_machine
from tt_perf.quantization.report import nbytes


@dataclass(frozen=True)
class Speed:
    """Seconds per token read and per token written; with plugins, also as a share of the time without them."""

    name: str
    read: float
    write: float
    ratios: tuple[Ratio, Ratio] | None = None

    def __str__(self) -> str:
        rates = f"reads {1 / self.read:,.0f} tokens/s, writes {1 / self.write:,.0f} ({duration(self.write)} each)"
        line = f"{self.name}: {rates}"
        if self.ratios is None:
            return line
        shares = (f"{r.ratio:.2f} ({r.low:.2f} to {r.high:.2f}; {r.verdict})" for r in self.ratios)
        return f"{line}; time to read {', to write '.join(shares)}"


def bench(
    run: Path | None,
    plugins: Sequence[str] = (),
    prompt: int | None = None,
    new: int | None = None,
    rounds: int = 9,
    say: Say = print,
) -> list[Speed]:
    """Measure a run's model without plugins and with `plugins`, in turn, on a prompt of random tokens.

    `prompt` tokens are read (64, or half of the context), after which `new` tokens are written greedily (32, or a
    quarter of the context). Raises `TinyTorchError` for more tokens than the model's context, and `BenchmarkError` for
    fewer than 5 rounds.
    """
    folder = RunFolder.open(run, with_model=True)
    model = TinyGPT.load(folder.path).model
    context = model.config.block_size
    prompt = max(1, min(64, context // 2)) if prompt is None else prompt
    new = max(1, min(32, context // 4)) if new is None else new
    if prompt + new > context:
        raise TinyTorchError(
            f"{prompt} tokens to read and {new} to write are more than the model's context of {context}; give "
            f"--prompt-tokens and --new-tokens that fit"
        )
    weights, machine = nbytes(model), measure_machine()
    count = sum(map(math.prod, weight_shapes(model)))
    say(f"model: {folder.path}, {count:,} parameters, {size(weights)}; this machine: {machine}")
    least = weights / machine.bytes_per_second
    say(f"a token written reads all weights once: {duration(least)} or more where they come from memory")
    ids = np.random.default_rng(0).integers(model.config.vocab_size, size=prompt).tolist()
    used = dict.fromkeys([(), tuple(plugins)])
    reading = _measured([_reading(model, ids, names) for names in used], rounds)
    writing = _measured([writing_timer(model, ids, new, names) for names in used], rounds)
    found = []
    for (read, first), (write, second) in zip(reading, writing):
        ratios = None if first is None or second is None else (first, second)
        found.append(Speed(read.label, read.median / prompt, write.median / new, ratios))
        say(str(found[-1]))
    return found


def _reading(model: GPT, ids: list[int], plugins: tuple[str, ...]) -> Timer:
    return Timer(lambda: next(stream(model, ids, 1, temperature=0.0)), label=_name(plugins), plugins=plugins)


def writing_timer(model: GPT, ids: list[int], new: int, plugins: tuple[str, ...], label: str = "") -> Timer:
    """A timer of the `new` tokens after the first: the prompt is read outside the clock."""
    texts: deque[Iterator[int]] = deque(maxlen=1)

    def read() -> None:
        texts.append(stream(model, ids, new + 1, temperature=0.0, ignore_eos=True))
        next(texts[0])

    return Timer(lambda: deque(texts[0], maxlen=0), read, label=label or _name(plugins), plugins=plugins)


def _name(plugins: tuple[str, ...]) -> str:
    return " + ".join(plugins) or "no plugin"


def _measured(timers: list[Timer], rounds: int) -> list[tuple[Measurement, Ratio | None]]:
    """The times of each, in turn, and the ratio to the first; the first has none."""
    if len(timers) == 1:
        timers = [*timers, timers[0]]  # the comparison needs two
        return [(compare(*timers, rounds=rounds, min_block_time=ONE_CALL).measurements[0], None)]
    found = compare(*timers, rounds=rounds, min_block_time=ONE_CALL)
    return list(zip(found.measurements, (None, *found.ratios)))


ONE_CALL = 1e-9
"""The least seconds of a block: so few that one call is enough, since a text is written once."""
