"""Module 20, capstone: a model's whole story on one page: trained, profiled, made smaller and compared, all measured.

Every number of the page is measured while it is made, on the machine that makes it. The page is one file of HTML with
its pictures inside, without scripts.
"""

from __future__ import annotations

import contextlib
import platform
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from html import escape
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

import tt_core
from tinygpt.capstone.bench import ONE_CALL, writing_timer
from tinygpt.capstone.callbacks import Say
from tinygpt.capstone.capstone import TinyGPT
from tinygpt.capstone.corpus import Tokens, split_tokens
from tinygpt.capstone.presets import TrainConfig
from tinygpt.capstone.recorded import names_text, same_corpus, train_config
from tinygpt.capstone.scoring import scored
from tinygpt.capstone.train import loss_of, new_optimizer, reader, start
from tinygpt.memory import size
from tinygpt.runs import RunFolder
from tt_core.engine.errors import FileError, TinyTorchError
from tt_core.engine.files import check_folder, write_atomic
from tt_language import next_token_loss
from tt_learn import Trainer
from tt_perf import Int4WeightOnly, Int8WeightOnly, Profiler, compare, quantize_, shrink_
from tt_perf.benchmarking.charts import pareto_chart, pareto_front
from tt_perf.benchmarking.environment import environment
from tt_perf.benchmarking.timer import duration
from tt_perf.quantization.layers import is_quantized
from tt_perf.quantization.report import nbytes

_NEW, _ROUNDS = 32, 5
_WINDOWS = 64
"""Pieces of the held-out text on which each form of the model is judged."""


@dataclass(frozen=True)
class Form:
    """One form of the model with its measurements."""

    name: str
    bytes: int
    bits_per_byte: float
    accuracy: float
    """Share of the held-out tokens that the model finds likeliest."""
    seconds: float
    """A token written, after a prompt of a quarter of the context."""
    text: str


def story(run: Path | None, config: TrainConfig | None, corpus: Path | None, out: Path, say: Say = print) -> Path:
    """Write the page `out` about a run, or with `config` about a new one, which is trained first on `corpus`.

    Raises `FileError` where the run's text is not known any more, and what training raises.
    """
    check_folder(out.parent)
    if out.is_dir():
        raise FileError(f"{out} is a folder; name a file for the page, such as {out / 'story.html'}")
    folder = RunFolder.open(run, with_model=True) if config is None else start(config, corpus, run, say)
    described = folder.read_config()
    if not names_text(described):
        raise FileError(f"{folder.path} names no text that it was trained on; take a run that tinygpt train wrote")
    trained = train_config(folder, described)
    gpt = TinyGPT.load(folder.path)
    if is_quantized(gpt.model):
        raise TinyTorchError(f"{folder.path} is quantized; the story quantizes it, so name the run it was made from")
    tokens = split_tokens(same_corpus(folder, described), gpt.tokenizer, trained.block_size, trained.val_fraction)
    say("profile: one step of training")
    profiler = _profiled(gpt, tokens, trained)
    forms = _forms(folder, gpt, tokens, trained, say)
    write_atomic(out, _page(folder, gpt, profiler, forms).encode())
    say(f"the story: {out}")
    return out


def _profiled(gpt: TinyGPT, tokens: Tokens, config: TrainConfig) -> Profiler:
    """One step of training, after one that is not measured."""
    model, batch = gpt.model, reader(tokens, config)
    model.train()
    profiler = Profiler()
    for watch in (contextlib.nullcontext(), profiler):
        x, y = batch(0)
        with watch:
            next_token_loss(model(x), y).backward()
        model.zero_grad()
    model.eval()
    return profiler


# --- the forms of the model


def _forms(folder: RunFolder, gpt: TinyGPT, tokens: Tokens, config: TrainConfig, say: Say) -> list[Form]:
    """The model as it is, with plugins, and made smaller; times are measured in turn."""
    plugins = ("kv-cache", *(["jit"] if find_spec("numba") else []))
    with_plugins = " + ".join(plugins)
    made: list[tuple[str, TinyGPT, tuple[str, ...]]] = [("as trained", gpt, ()), (with_plugins, gpt, plugins)]
    for name, change in _changes(tokens, config):
        say(f"form: {name}")
        smaller = TinyGPT.load(folder.path)
        change(smaller)
        made.append((f"{name}, {with_plugins}", smaller, plugins))
    ids = tokens.val[: max(1, config.block_size // 4)].tolist()
    new = max(1, min(_NEW, config.block_size - len(ids) - 1))
    say("measuring: time, quality and bytes of each")
    timers = [writing_timer(each.model, ids, new, used, name) for name, each, used in made]
    times = compare(*timers, rounds=_ROUNDS, min_block_time=ONE_CALL).measurements
    return [
        Form(name, nbytes(each.model), *_quality(each, tokens, config), t.median / new, _text(each))
        for (name, each, _), t in zip(made, times)
    ]


def _changes(tokens: Tokens, config: TrainConfig) -> Iterator[tuple[str, Callable[[TinyGPT], Any]]]:
    yield "int8", lambda gpt: quantize_(gpt.model, Int8WeightOnly(), verbose=False)
    if config.n_embd % 32 == 0:
        yield "int4", lambda gpt: quantize_(gpt.model, Int4WeightOnly(32), verbose=False)
    yield "half of the neurons removed, trained on", lambda gpt: _shrunk(gpt, tokens, config)


def _shrunk(gpt: TinyGPT, tokens: Tokens, config: TrainConfig) -> None:
    """Remove half of the neurons, and train on for a tenth of the steps."""
    example = tt_core.tensor([tokens.train[: config.block_size].tolist()])
    shrink_(gpt.model, {"neurons": 0.5}, example)
    optimizer = new_optimizer(gpt.model, config)
    for group in optimizer.param_groups:
        group["lr"] /= 3
    trainer = Trainer(gpt.model, optimizer, compute_loss=loss_of({}), clip_grad_norm=config.grad_clip or None)
    trainer.fit(reader(tokens, config), steps=max(1, config.steps // 10))
    gpt.model.eval()


def _quality(gpt: TinyGPT, tokens: Tokens, config: TrainConfig) -> tuple[float, float]:
    """Bits per byte and accuracy on windows of the held-out text."""
    loss = right = total = 0.0
    for mean, logits, y in scored(gpt.model, tokens.validation(2 * config.batch_size, config.block_size, _WINDOWS)):
        loss += mean * y.size
        right += int((np.argmax(logits, axis=-1) == y).sum())
        total += y.size
    return tokens.bits_per_byte(loss / total), right / total


def _text(gpt: TinyGPT) -> str:
    return "".join(gpt.generate("\n", 60, temperature=0.7, seed=1)).strip()


# --- the page

_STYLE = """
:root { color-scheme: light dark; }
body { font: 16px/1.55 system-ui, sans-serif; margin: 2rem auto; max-width: 52rem; padding: 0 1rem; }
h1 { margin-bottom: 0; } .about { color: #777; margin-top: .3rem; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { border-bottom: 1px solid #8884; padding: .3rem .5rem; text-align: right; vertical-align: top; }
th:first-child, td:first-child, td.text, th.text { text-align: left; }
.front td:first-child { font-weight: 600; }
.wide { overflow-x: auto; } svg { max-width: 100%; height: auto; border-radius: 6px; }
blockquote { margin: .3rem 0; padding-left: .8rem; border-left: 3px solid #8886; white-space: pre-wrap; }
code, pre { background: #8882; border-radius: 4px; padding: .1rem .3rem; } pre { padding: .7rem; overflow-x: auto; }
"""


def _page(folder: RunFolder, gpt: TinyGPT, profiler: Profiler, forms: Sequence[Form]) -> str:
    described = folder.read_config()
    parts = [
        ("1. It learns", _training(folder, described)),
        ("2. What it wrote during training", _samples(folder)),
        ("3. Where a step's time goes", _profile(profiler)),
        ("4. The same model, smaller and faster", _comparison(forms)),
        ("5. Do it yourself", _commands(folder)),
        ("The machine", _machine()),
    ]
    body = "\n".join(f"<section><h2>{escape(title)}</h2>\n{text}</section>" for title, text in parts)
    about = f"{gpt.model.num_parameters():,} parameters, {described['corpus']['source']}, {time.strftime('%Y-%m-%d')}"
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>The story of {escape(folder.path.name)}</title><style>{_STYLE}</style></head>\n"
        f'<body><h1>The story of a TinyGPT</h1><p class="about">{escape(about)}</p>\n{body}\n</body></html>\n'
    )


def _training(folder: RunFolder, described: dict[str, Any]) -> str:
    last = folder.last_figures()
    config = described["training"]
    read = config["steps"] * config["batch_size"] * config["block_size"] * config.get("accumulate", 1)
    told = f"In {config['steps']:,} steps it read {read:,} tokens"
    if last:
        told += f", in {duration(last['seconds'])}: the loss on text that it never read is {last['val_loss']:.3f}"
    picture = folder.loss_curve.read_text(encoding="utf-8") if folder.loss_curve.exists() else ""
    return f'<p>{escape(told)}.</p><div class="wide">{picture}</div>'


def _samples(folder: RunFolder) -> str:
    rows = [f"<tr><td>{s['step']:,}</td><td class='text'>{escape(s['text'])}</td></tr>" for s in folder.read_samples()]
    return f"<table><tr><th>step</th><th class='text'>text</th></tr>{''.join(rows)}</table>"


def _profile(profiler: Profiler) -> str:
    verdicts = profiler.verdicts()
    whole = sum(each.seconds for each in verdicts)
    lines = "\n".join(f"{each.seconds / whole:4.0%}  {each}" for each in verdicts[:8])
    return f'<pre>{escape(lines)}</pre><div class="wide">{profiler.flame_graph()}</div>'


def _comparison(forms: Sequence[Form]) -> str:
    first = forms[0]
    points = {form.name: (form.seconds, float(form.bytes), form.accuracy) for form in forms}
    front = pareto_front(points)
    rows = "".join(
        f"<tr{' class=front' if form.name in front else ''}><td>{escape(form.name)}</td><td>{size(form.bytes)}</td>"
        f"<td>{form.bytes / first.bytes:.2f}</td><td>{form.bits_per_byte:.3f}</td><td>{form.accuracy:.1%}</td>"
        f"<td>{duration(form.seconds)}</td><td>{form.seconds / first.seconds:.2f}</td></tr>"
        for form in forms
    )
    heads = "".join(
        f"<th>{head}</th>" for head in ("form", "size", "share", "bits per byte", "accuracy", "time a token", "share")
    )
    texts = "".join(f"<p>{escape(form.name)}</p><blockquote>{escape(form.text)}</blockquote>" for form in forms)
    told = (
        "<p>All forms are measured in turn. <i>Share</i> compares with the first row. <i>Accuracy</i> is the share of "
        "held-out tokens to which the model gives the highest probability. No other form is better than one in bold in "
        "time, size and accuracy at once.</p>"
    )
    table = f'<div class="wide"><table><tr>{heads}</tr>{rows}</table></div>'
    return f'{table}{told}<div class="wide">{pareto_chart(points)}</div>{texts}'


def _commands(folder: RunFolder) -> str:
    run = folder.path
    lines = [
        f"tinygpt generate {run} --plugin kv-cache",
        f"tt profile -- tinygpt generate {run}",
        f"tinygpt quantize {run} --int8",
        f"tinygpt shrink {run} --neurons 0.5",
        f"tinygpt bench {run} --plugin kv-cache --plugin jit",
    ]
    return f"<pre>{escape(chr(10).join(lines))}</pre>"


def _machine() -> str:
    known = environment()
    told = {
        "processor": known["processor"],
        "cores": known["cores"],
        "system": known["system"],
        "Python": platform.python_version(),
        "packages": ", ".join(f"{name} {version}" for name, version in known["packages"].items()),
        "load before, in programs per core": known["load"],
    }
    rows = "".join(
        f"<tr><td>{escape(name)}</td><td class='text'>{escape(str(value))}</td></tr>" for name, value in told.items()
    )
    return f"<table>{rows}</table>"
