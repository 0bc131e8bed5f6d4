"""Part of module 19: the Torch Olympics. Quality first, then time and bytes; and every result can be measured again.

All entries run the same weights. `run` examines each with its plugins active, refuses to measure at all when random
weights do better than chance, and lets the entries take turns as `compare` does.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tt_core import use
from tt_language import GPT
from tt_perf.benchmarking import olympic_task as task
from tt_perf.benchmarking.comparing import Ratio, compare
from tt_perf.benchmarking.jobs import label_of, peak_bytes
from tt_perf.benchmarking.results import Entry, Result, read_result
from tt_perf.benchmarking.timer import BenchmarkError, Timer

Say = Callable[[str], Any]
RATIO_TOLERANCE = 1.25
"""Factor by which the intervals of a ratio of times may miss each other when it is measured again."""
STEPS_TOLERANCE = 1.5
QUALITY_TOLERANCE, BYTES_TOLERANCE, SECONDS_TOLERANCE = 0.01, 0.1, 5.0


def run(
    plugins: Sequence[Sequence[str]] = (),
    model_file: str | os.PathLike[str] | None = None,
    rounds: int = 15,
    say: Say = print,
) -> Result:
    """Measure one entry without plugins and one for each set of plugins; all use the same model.

    The model is trained first, or read from `model_file` (see `olympic_task.save_model`). Raises `BenchmarkError` if
    random weights score above chance, and what `load_model` and `use` raise.
    """
    sets = [(), *dict.fromkeys(tuple(names) for names in plugins if names)]
    for names in sets:
        with use(*names, report=False):  # an unknown name ends the run here, and not after the training
            pass
    trained: task.Training | None = None
    if model_file is None:
        say(f"training a GPT to {task.GATE:.0%} ...")
        model, trained = task.train_with(())
        say(f"  {trained.seconds:.1f} s, {trained.steps} steps")
    else:
        model = task.load_model(model_file)
    random = task.random_quality(model.config)
    say(f"random weights get {random:.1%} right, chance is {task.CHANCE:.0%}")
    qualities = [examine(model, names) for names in sets]
    sizes = [size(model, names) for names in sets]
    trainings = [trained, *(None if trained is None else task.train_with(names)[1] for names in sets[1:])]
    times = compare(*[timer(model, names) for names in (sets if len(sets) > 1 else [(), ()])], rounds=rounds)
    say(str(times))
    entries = [Entry(*parts) for parts in zip(sets, qualities, times.measurements, sizes, trainings)]
    name = "" if model_file is None else Path(model_file).name
    return Result(tuple(entries), times.control, random, task.digest(model), name, times.environment)


def examine(model: GPT, plugins: Sequence[str]) -> float:
    """The quality of the model with these plugins active."""
    with use(*plugins, report=False):
        return task.quality(task.for_use(model))


def size(model: GPT, plugins: Sequence[str]) -> int:
    """The most bytes in use while the model, made ready before, answers a question; the model is included."""
    question = task.draw(1, np.random.default_rng(3))
    with use(*plugins, report=False):
        task.answers(task.for_use(model), question)  # what a plugin compiles is not the model's memory

        def build() -> Callable[[], Any]:
            made = task.for_use(model)
            return lambda: task.answers(made, question)

        return peak_bytes(build)


def timer(model: GPT, plugins: Sequence[str]) -> Timer:
    """One question, answered with these plugins active."""
    question = task.draw(1, np.random.default_rng(3))
    with use(*plugins, report=False):
        made = task.for_use(model)
    return Timer(lambda: task.answers(made, question), label=label_of(plugins), plugins=plugins)


# --- verifying


def verify(
    path: str | os.PathLike[str],
    model_file: str | os.PathLike[str] | None = None,
    rounds: int = 15,
    say: Say = print,
) -> list[str]:
    """Measure a result file again; the differences in words, none for a result that holds.

    Raises `BenchmarkError` for a file that was edited, and for another model than the one it names.
    """
    claimed = read_result(path)
    if claimed.model_file and model_file is None:
        raise BenchmarkError(f"{Path(path)} is about a model of your own, {claimed.model_file}; name it by --model")
    if not claimed.model_file and model_file is not None:
        raise BenchmarkError(f"{Path(path)} is about the built-in model; leave out --model")
    if model_file is not None and task.digest(task.load_model(model_file)) != claimed.model:
        raise BenchmarkError(f"{Path(model_file)}: is another model than the one that {Path(path)} is about")
    return differences(claimed, run([entry.plugins for entry in claimed.entries[1:]], model_file, rounds, say))


def differences(claimed: Result, found: Result) -> list[str]:
    """What a second measurement contradicts. Ratios hold on other machines too; times are compared on the same one."""
    said = []
    if len(claimed.entries) != len(found.entries):
        return [f"{len(claimed.entries)} entries claimed, {len(found.entries)} measured: a set of plugins stands twice"]
    same_machine = claimed.environment.get("processor") == found.environment.get("processor")
    first, second = claimed.entries[0].measured.median, found.entries[0].measured.median
    if same_machine and not _within(first, second, SECONDS_TOLERANCE):
        said.append(f"none: {first:.2e} s claimed, {second:.2e} s measured on the same processor")
    for old, new in zip(claimed.entries, found.entries):
        if abs(old.quality - new.quality) > QUALITY_TOLERANCE:
            said.append(f"{old.name}: quality {old.quality:.1%} claimed, {new.quality:.1%} measured")
        if not _within(old.peak_bytes, new.peak_bytes, 1 + BYTES_TOLERANCE):
            said.append(f"{old.name}: {old.peak_bytes:,} bytes claimed, {new.peak_bytes:,} measured")
        if old.training and new.training and not _within(old.training.steps, new.training.steps, STEPS_TOLERANCE):
            said.append(f"{old.name}: {old.training.steps} training steps claimed, {new.training.steps} measured")
        if same_machine and old.training and new.training:
            a, b = old.training.seconds, new.training.seconds
            if not _within(a, b, SECONDS_TOLERANCE):
                said.append(f"{old.name}: trained in {a:.2g} s by its claim, in {b:.2g} s now")
    if len(claimed.entries) > 1:
        said += filter(None, map(_other_ratio, claimed.comparison.ratios, found.comparison.ratios))
    return said


def _other_ratio(old: Ratio, new: Ratio) -> str:
    """How two ratios contradict each other; "" where their intervals meet, which are wide on a busy machine."""
    if old.low <= new.high * RATIO_TOLERANCE and new.low <= old.high * RATIO_TOLERANCE:
        return ""
    return f"{old.label}: {old.ratio:.2f} of the time without plugins claimed, {new.ratio:.2f} measured"


def _within(a: float, b: float, factor: float) -> bool:
    return a <= b * factor and b <= a * factor
