"""Module 20, capstone: what a training writes and says while it runs."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from tinygpt.capstone.capstone import TinyGPT
from tinygpt.capstone.corpus import Tokens
from tinygpt.capstone.presets import TrainConfig
from tinygpt.distributed import World
from tinygpt.memory import size_and_free
from tinygpt.needs import Needs
from tinygpt.runs import RunFolder
from tt_core import manual_seed
from tt_language import GPT, GPTConfig
from tt_learn import Checkpoints, JSONLog, LossCurve, ProgressBar, Trainer
from tt_learn.training import Callback
from tt_perf.profiling.roofline import measure_machine
from tt_perf.quantization.layers import QuantizedLayer

Say = Callable[[str], None]


class Together(Callback):
    """Keeps the processes of one training alike: they log one loss, stop at one step, and draw different dropout.

    With one process it does nothing.
    """

    def __init__(self, processes: World, seed: int) -> None:
        self.processes, self.seed = processes, seed

    def on_fit_start(self, trainer: Trainer) -> None:
        self.processes.copy_weights(trainer.model)
        self._draw_apart(trainer.step)

    def on_step_end(self, trainer: Trainer) -> None:
        if self.processes.size > 1:
            self._draw_apart(trainer.step)
            if self.processes.sum([float(trainer.interrupted)])[0]:
                trainer.stop()

    def on_log(self, trainer: Trainer, record: dict[str, Any]) -> None:
        record["train_loss"] = self.processes.sum([record["train_loss"]])[0] / self.processes.size

    def _draw_apart(self, step: int) -> None:
        """A generator for each process and step, so that a resumed run draws the same; the first keeps its own."""
        if not self.processes.first:
            manual_seed(int(np.random.SeedSequence([self.seed, self.processes.rank, step]).generate_state(1)[0]))


class SaveModel(Callback):
    """Calls `write` after each validation and at the end.

    Listed after `Checkpoints`, it runs after it: a process that is killed between the two leaves a run that can be
    resumed, never a model without a checkpoint.
    """

    runs_last = True

    def __init__(self, write: Callable[[], None]) -> None:
        self.write, self._due = write, False

    def on_validation(self, trainer: Trainer, metrics: Mapping[str, float]) -> None:
        self._due = True

    def on_step_end(self, trainer: Trainer) -> None:
        if self._due:
            self.write()
        self._due = False

    def on_train_end(self, trainer: Trainer) -> None:
        self.write()


class Sample(Callback):
    """Shows a line of the model's text after each validation, and keeps them all in samples.jsonl.

    It has a random generator of its own: training has the same bits without it. It costs up to 64 small forward
    passes, the time of 0.3 to 2 steps.
    """

    def __init__(self, gpt: TinyGPT, folder: RunFolder, say: Say) -> None:
        self.gpt, self.folder, self.say = gpt, folder, say
        self.lines: list[dict[str, Any]] = []

    def on_fit_start(self, trainer: Trainer) -> None:
        self.lines = [line for line in self.folder.read_samples() if line["step"] <= trainer.step]

    def on_log(self, trainer: Trainer, record: Mapping[str, Any]) -> None:
        if record["val_loss"] is not None:
            width = min(shutil.get_terminal_size().columns, 100) - 3
            text = self._line()
            self.say(f"  {text[:width]}")
            self.lines.append({"step": trainer.step, "text": text})
            self.folder.write_samples(self.lines)

    def _line(self) -> str:
        """About 64 tokens; line breaks and bytes that are not characters become spaces."""
        text = "".join(self._pieces(min(64, self.gpt.model.config.block_size)))
        return " ".join("".join(x if x.isprintable() and x != "\ufffd" else " " for x in text).split())

    def _pieces(self, most: int) -> Iterator[str]:
        return self.gpt.generate(max_new_tokens=most, temperature=0.8, seed=0)


def weight_shapes(model: GPT) -> list[tuple[int, ...]]:
    """The shapes of all weights; a quantized one has the shape of the floats that it stands for.

    >>> sorted(weight_shapes(GPT(GPTConfig(vocab_size=5, block_size=3, n_layer=1, n_head=1, n_embd=2, bias=False))))[:4]
    [(2,), (2,), (2,), (2, 2)]
    """
    quantized = {id(layer.codes.data): layer for layer in model.modules() if isinstance(layer, QuantizedLayer)}
    return [p.shape for p in model.parameters()] + [layer.shape for layer in quantized.values()]


def flops_per_token(model: GPT) -> int:
    """FLOPs per token in training: six for each weight it is multiplied by, and attention (PaLM, appendix B).

    >>> flops_per_token(GPT(GPTConfig(vocab_size=100, block_size=64, n_layer=2, n_head=2, n_embd=32, bias=False)))
    215808
    """
    config = model.config
    layers = sum(math.prod(shape) for shape in weight_shapes(model) if len(shape) == 2) - _looked_up(config)
    return 6 * layers + 12 * config.n_layer * config.n_embd * config.block_size


def _looked_up(config: GPTConfig) -> int:
    """Weights that are only looked up: positions, and tokens where the head has a table of its own."""
    tokens = 0 if config.tie_weights else config.vocab_size
    positions = config.block_size if config.position == "learned" else 0
    return (tokens + positions) * config.n_embd


_LONG = 20
"""The least seconds of training for which the machine is measured, which takes about one second."""


class TimeLeft(Callback):
    """Says how long training will take, once some steps have been measured.

    `validations(done)` is the cost in steps of the validations that follow after `done` steps.
    """

    def __init__(self, steps: int, validations: Callable[[int], float], say: Say) -> None:
        self.steps, self.validations, self.say = steps, validations, say
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
            self.tell(step, step * (self.steps - trainer.step + self.validations(trainer.step)))

    def tell(self, step: float, total: float) -> None:
        """Say what a step takes, and all that is left, in seconds."""
        self.say(f"time: about {duration(total)}, at {step * 1000:,.3g} ms a step; Ctrl-C saves, --resume goes on")


class Estimate(TimeLeft):
    """Says how long training will take, and of a long one how well it runs."""

    def __init__(self, model: GPT, config: TrainConfig, tokens: Tokens, say: Say) -> None:
        super().__init__(config.steps, self._validations, say)
        self.model, self.config, self.tokens = model, config, tokens

    def tell(self, step: float, total: float) -> None:
        super().tell(step, total)
        if total > _LONG:
            rate = self.config.tokens_per_step * flops_per_token(self.model) / step
            peak = measure_machine().flops_per_second
            self.say(f"speed: {rate / 1e9:.3g} GFLOP/s, {rate / peak:.0%} of what this machine's products reach")

    def _validations(self, done: int) -> float:
        """The cost of the remaining validations in steps: a forward pass is a quarter of a step."""
        windows = len(self.tokens.val) // self.config.block_size
        times = self.config.steps // self.config.eval_interval - done // self.config.eval_interval
        return (times * min(windows, self.config.eval_windows) + windows) / self.config.batch_size / 4


def duration(seconds: float) -> str:
    """A time with a unit.

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


def writers(gpt: TinyGPT, tokens: Tokens, config: TrainConfig, folder: RunFolder, say: Say) -> list[Callback]:
    """The callbacks that write a run's folder and report on it, in the order in which they run."""
    return [
        ProgressBar(),
        JSONLog(folder.metrics),
        LossCurve(folder.loss_curve, f"TinyGPT, {gpt.model.num_parameters():,} parameters"),
        Estimate(gpt.model, config, tokens, say),
        Sample(gpt, folder, say),
        Checkpoints(
            folder.checkpoint,
            every=config.eval_interval,
            resume_hint=f"continue with: tinygpt train --resume {folder.path}",
        ),
        SaveModel(lambda: gpt.save(folder)),
    ]


def introduce(gpt: TinyGPT, tokens: Tokens, needed: Needs, folder: RunFolder, say: Say) -> None:
    """Say how much there is to learn from, how large the model is, and where the run is written."""
    say(
        f"tokens: {len(tokens.train):,} to train on, {len(tokens.val):,} to validate on, "
        f"vocabulary {gpt.tokenizer.vocab_size:,}"
    )
    say(f"model: {gpt.model.num_parameters():,} parameters; to train it takes about {size_and_free(needed.total)}")
    say(f"run: {folder.path}")
