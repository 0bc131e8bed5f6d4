"""The milestone of Act V: 2024, systems. A trained model is measured, made small, and made fast, without getting worse.

A language model goes through profile, quantize, shrink, cache and compile; the network of 1998 through profile,
calibrate and shrink. Each form is measured on the spot: bytes, quality, time. Requirements, each of which ends the
milestone with a `Shortfall` where it is missed:

    4 times smaller than the original, at a quality that is nearly the original's
    less than 100 ms for a token
    tokens unchanged: cache and compiled kernels write what the model writes without them

The language model is a run of `tinygpt train`: DATA/tinygpt, or the newest one under runs/. Where there is none, a
small one is trained on the documentation of Python. Its quality is measured on texts that the original wrote: how much
of the mean probability `exp(-loss)` that the original gives a token is left. So any model can be measured, whatever it
was trained on.
"""

from __future__ import annotations

import copy
import importlib.util
import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

import tt_core
from tt_core import Layer, Tensor, tensor, use
from tt_core.command.journey import Shortfall, TryIt, in_data_dir
from tt_core.engine.dispatch import Array
from tt_core.engine.errors import FileError
from tt_core.engine.files import make_folder
from tt_data import CIFAR10, DataLoader, DownloadError, GeneratedShapes, Subset, transforms
from tt_data.command.milestones import small_cnn
from tt_language import GPT, BPETokenizer, GPTConfig, Tokenizer, generate, load_tokenizer, next_token_loss
from tt_learn import AdamW, CosineWarmupLR, OneCycleLR, Trainer, evaluating, load_tensors
from tt_learn.training import completed_state
from tt_perf.benchmarking.timer import duration
from tt_perf.command.variants import Variant, draw, profiled, shipped, table, timed, variant
from tt_perf.compression import DistillationTrainer, shrink_
from tt_perf.quantization import Int4WeightOnly, Int8Static, Int8WeightOnly, calibrating, quantize_
from tt_perf.quantization.convert import Config

WORSE = 0.05
"""The share of the original's mean probability of a token that may be lost."""
POINTS = 0.02
"""The accuracy that the network of pictures may lose."""
KNOWS = 0.3
"""The accuracy from which on the network knows something; chance is 10 %."""
TOKEN_SECONDS = 0.1
TIE = 1e-3
"""Two logits nearer than this may change places by rounding."""


def systems(data_dir: Path | None = None, out: Path | None = None) -> TryIt:
    """Make a language model and a network of pictures 4 times smaller and measure what that costs.

    Raises `Shortfall` for a requirement that is missed, `FileError` where pictures cannot be written to `out`.
    """
    out = make_folder("milestones" if out is None else out)
    answer = language(data_dir, out)
    images(data_dir, out)
    return answer


# --- the language model


@dataclass(frozen=True)
class Text:
    """A language model with its tokenizer, and where it is from."""

    model: Any
    tokenizer: Tokenizer
    source: str


def language(data_dir: Path | None, out: Path) -> TryIt:
    """Profile, quantize, shrink, cache and compile a GPT; returns the result to be tried."""
    given = trained(data_dir)
    model, size = given.model, min(given.model.config.block_size, 64)
    print(f"systems: {given.source}, {model.num_parameters():,} parameters")
    texts = written(model, rows=96, length=size)
    seen, unseen = texts[32:], texts[:32]
    prompts, length = unseen[:8, : size // 4], size // 2
    needs_knowledge(math.exp(-loss_on(model, unseen)), model.config.vocab_size)

    def work(form: Any) -> None:
        generate(form, prompts[0].tolist(), length, temperature=0.0, ignore_eos=True)

    print(f"systems: what the time of {length} tokens goes into")
    profiled(lambda: work(model))
    forms = timed(smaller(model, seen, unseen), work, length)
    chosen = shipped("systems", forms, 1 - WORSE)
    forms += faster(forms[0], chosen, work, length)
    print("\n".join(table(forms, "a token", "likelihood")))
    draw(forms, out / "systems-language.svg", "A language model in several forms")
    for form in forms:
        if form.plugins:
            tokens_unchanged(form.model, form.plugins, prompts, length)
    _report_token(forms[0], forms[-1])
    return TryIt("the beginning of a text", lambda text: continued(given, forms[-1], text))


def _report_token(first: Variant, last: Variant) -> None:
    """Prints what the last form gains over the first; raises `Shortfall` if its token takes too long."""
    if not last.seconds < TOKEN_SECONDS:
        raise Shortfall(f"systems: a token takes {duration(last.seconds)}, less than 100 ms was to be reached")
    print(
        f"systems: {last.name} is {first.bytes / last.bytes:.1f} times smaller, takes {duration(last.seconds)} a token "
        f"({first.seconds / last.seconds:.1f} times as fast), and writes the same tokens as without plugins"
    )


def smaller(model: GPT, seen: Array, unseen: Array) -> list[Variant]:
    """The model, and its quantized and shrunk forms; quality is the remaining share of a token's mean probability."""
    loss = loss_on(model, unseen)

    def quality(form: Any) -> float:
        return math.exp(loss - loss_on(form, unseen))

    small = copy.deepcopy(model)
    shrink_(small, {"neurons": 0.25}, tensor(unseen[:1, :-1]))
    distil(small, model, seen)
    return [
        variant("float32", model, quality),
        variant("int8", quantized(model, Int8WeightOnly()), quality),
        variant("int4", quantized(model, Int4WeightOnly(64)), quality),
        variant("shrunk", small, quality),
        variant("shrunk, int8", quantized(small, Int8WeightOnly()), quality),
        variant("shrunk, int4", quantized(small, Int4WeightOnly(64)), quality),
    ]


def faster(first: Variant, chosen: Variant, work: Callable[[Any], None], length: int) -> list[Variant]:
    """The chosen form with a cache, and with compiled kernels too where Numba is installed."""
    sets = [("kv-cache",), ("kv-cache", "jit")] if importlib.util.find_spec("numba") else [("kv-cache",)]
    forms = [replace(chosen, name=f"{chosen.name} + {'+'.join(names)}", plugins=names) for names in sets]
    again, *found = timed([first, *forms], work, length)
    # the ratio to the original was measured in turn; the machine may be busier now than before
    return [replace(form, seconds=form.seconds * first.seconds / again.seconds) for form in found]


def trained(data_dir: Path | None) -> Text:
    """DATA/tinygpt, the newest run under runs/ whose weights are floats, or a new small model."""
    given = in_data_dir(data_dir, "tinygpt")
    runs = [path.parent for path in Path("runs").glob("*/model.safetensors") if _holds_floats(path.parent)]
    newest = max(runs, key=lambda run: (run / "model.safetensors").stat().st_mtime, default=None)
    folder = given or newest
    return _trained_now() if folder is None else loaded(folder)


def _holds_floats(run: Path) -> bool:
    config = run / "config.json"
    return config.exists() and '"quantization"' not in config.read_text(encoding="utf-8", errors="replace")


def loaded(folder: Path) -> Text:
    """The model of a run folder of `tinygpt train`; raises `FileError` for one that is quantized or damaged."""
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        shape = config["model"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise FileError(f"{folder}: config.json is missing or damaged ({error}); name a run of tinygpt train") from None
    if "quantization" in config:
        raise FileError(f"{folder}: the model is quantized already; name the run that it was made from")
    model = GPT(GPTConfig.from_dict(shape))
    model.load_state_dict(completed_state(model, load_tensors(folder / "model.safetensors")[0]))
    return Text(model.eval(), load_tokenizer(folder), f"the model in {folder}")


def _trained_now(steps: int = 500) -> Text:
    """The shape of TinyGPT's preset `tiny`, 2 layers of 64 dimensions, trained on the documentation of Python."""
    text = documentation()
    tt_core.manual_seed(2024)
    tokenizer = BPETokenizer.train(text, 512)
    ids = np.array(tokenizer.encode(text))
    model = GPT(GPTConfig(tokenizer.vocab_size, block_size=64, n_layer=2, n_head=2, n_embd=64, bias=False))

    def batch(_: int) -> Array:
        starts = tt_core.generator().integers(0, len(ids) - 65, 12)
        return ids[starts[:, None] + np.arange(65)]

    print(f"systems: no run of tinygpt in --data-dir or under runs/; trains a small model, {steps} steps")
    started = time.perf_counter()
    optimizer = AdamW(model.parameters(), lr=3e-3, betas=(0.9, 0.99), weight_decay=0.1)
    schedule = CosineWarmupLR(optimizer, max(1, steps // 10), steps, 3e-4)
    Trainer(model, optimizer, compute_loss=_next_token, scheduler=schedule, clip_grad_norm=1.0).fit(batch, steps=steps)
    seconds = time.perf_counter() - started
    return Text(model.eval(), tokenizer, f"a small model, trained for {seconds:.0f} s")


def documentation() -> str:
    """The documentation that Python carries for `help()`: English, and nothing to download."""
    try:
        from pydoc_data.topics import topics
    except ImportError:
        raise FileError("this Python was installed without its documentation; put a run into DATA/tinygpt") from None
    return "\n\n".join(topics[name].strip() for name in sorted(topics))


def _next_token(model: GPT, ids: Array) -> Any:
    return next_token_loss(model(tensor(ids[:, :-1])), tensor(ids[:, 1:]))


def written(model: GPT, rows: int, length: int) -> Array:
    """Texts (rows, length) that the model writes, each token drawn with the probability that the model gives it."""
    first = np.random.default_rng(0).integers(0, model.config.vocab_size, rows)
    with use("kv-cache", report=False):
        found = generate(model, first[:, None].tolist(), length - 1, ignore_eos=True, seed=2024)
    return np.concatenate([first[:, None], np.array(found)], axis=1)


def loss_on(model: GPT, texts: Array) -> float:
    """Cross entropy of each token of the texts after the first, in nats."""
    with evaluating(model):
        loss: float = _next_token(model, texts).item()
    return loss


def needs_knowledge(quality: float, vocabulary: int) -> None:
    """Raise `Shortfall` for a model that guesses: made smaller, it would be as good as before."""
    if not quality > 2 / vocabulary:
        raise Shortfall(f"systems: the model knows nothing, a token has a mean probability of {quality:.3%}; train it")


def quantized(model: GPT, config: Config) -> GPT:
    """A copy of the model with weights as integers."""
    made = copy.deepcopy(model)
    quantize_(made, config, verbose=False)
    return made


def distil(student: GPT, teacher: GPT, texts: Array, steps: int = 60) -> None:
    """Let a shrunk model learn what the original finds likely, on texts that the original wrote."""
    tt_core.manual_seed(2024)

    def batch(_: int) -> tuple[Any, Any]:
        ids = texts[tt_core.generator().integers(0, len(texts), 8)]
        return tensor(ids[:, :-1]), tensor(ids[:, 1:])

    optimizer = AdamW(student.parameters(), lr=5e-4, weight_decay=0.0)
    DistillationTrainer(student, optimizer, teacher, temperature=1.0, alpha=1.0, clip_grad_norm=1.0).fit(
        batch, steps=steps
    )
    student.eval()


def tokens_unchanged(model: GPT, plugins: Sequence[str], prompts: Array, length: int) -> None:
    """Raise `Shortfall` unless the model writes the same with these plugins; two equally likely tokens may swap."""
    wanted = generate(model, prompts.tolist(), length, temperature=0.0, ignore_eos=True)
    with use(*plugins, report=False):
        found = generate(model, prompts.tolist(), length, temperature=0.0, ignore_eos=True)
    for prompt, a, b in zip(prompts.tolist(), wanted, found, strict=True):
        at = next((i for i, (x, y) in enumerate(zip(a, b)) if x != y), None)
        if at is None and len(a) == len(b):
            continue
        if at is None or _apart(model, [*prompt, *a[:at]], a[at], b[at]) > TIE:
            raise Shortfall(f"systems: with {'+'.join(plugins)} the model writes other tokens, from {at} on")


def _apart(model: Any, ids: Sequence[int], x: int, y: int) -> float:
    """How far apart the model finds two tokens after `ids`."""
    with evaluating(model):
        logits = model(tensor([ids[-model.config.block_size :]])).numpy()[0, -1]
    return abs(float(logits[x]) - float(logits[y]))


def continued(given: Text, form: Variant, text: str) -> str:
    """The text, continued by the shipped model."""
    with use(*form.plugins, report=False):
        new = generate(form.model, given.tokenizer.encode(text), 60, temperature=0.8)[0]
    return text + given.tokenizer.decode(new)


# --- the network of pictures

_NORMALIZE = transforms.Normalize((0.4914, 0.4822, 0.4465), (0.247, 0.2435, 0.2616))


def images(data_dir: Path | None, out: Path, count: int = 6000, epochs: int = 3) -> None:
    """Profile, quantize and shrink the network of Act III, trained for some epochs on a part of CIFAR-10."""
    train, test, name = _pictures(data_dir, count)
    tt_core.manual_seed(2024)
    model = small_cnn(10)
    started = time.perf_counter()
    _fit(model, train, epochs, 3e-3)
    print(
        f"systems: a network of {model.num_parameters():,} parameters on {len(train):,} images of {name}, "
        f"trained for {time.perf_counter() - started:.0f} s"
    )
    batch = tensor(np.stack([_NORMALIZE(test[i][0][None])[0] for i in range(16)]))

    def quality(model: Any) -> float:
        return accuracy(model, test)

    def work(model: Any) -> None:
        with evaluating(model):
            model(batch)

    plain = variant("float32", model, quality)
    if not plain.quality >= KNOWS:
        raise Shortfall(f"systems: the network gets {plain.quality:.1%} right, {KNOWS:.0%} was to be reached")
    print("systems: the time of 16 images, by op")
    profiled(lambda: work(model))
    forms = timed(_smaller_networks(plain, train, batch, quality), work, 16)
    print("\n".join(table(forms, "an image", "accuracy")))
    draw(forms, out / "systems-images.svg", "A network of pictures in several forms")
    chosen = shipped("systems", forms, forms[0].quality - POINTS)
    print(f"systems: {chosen.name} is {forms[0].bytes / chosen.bytes:.1f} times smaller at {chosen.quality:.1%} right")


def _smaller_networks(plain: Variant, train: Any, batch: Tensor, quality: Callable[[Any], float]) -> list[Variant]:
    """The network in float32, in int8, with half of its channels, and both."""
    model: Any = plain.model
    with calibrating(model) as calibration:
        for pictures, _ in DataLoader(Subset(train, range(256)), 64, transform=_NORMALIZE):
            model(pictures)
    calibrated = copy.deepcopy(model)
    quantize_(model, Int8Static(calibration), verbose=False)
    small = copy.deepcopy(calibrated)
    shrink_(small, {"channels": 0.5}, batch)
    _fit(small, train, 2, 2e-3)
    return [
        replace(plain, model=calibrated),
        variant("int8, static", model, quality),
        variant("shrunk", small, quality),
        variant("shrunk, int8", quantized(small, Int8WeightOnly()), quality),
    ]


def _pictures(data_dir: Path | None, count: int) -> tuple[Any, Any, str]:
    """Images to learn from and 1,000 others: CIFAR-10, or drawn ones where it is missing."""
    try:
        train, test = CIFAR10(data_dir, train=True), CIFAR10(data_dir, train=False)
    except (DownloadError, FileError) as error:
        if data_dir is not None and (data_dir / CIFAR10.folder).exists():
            raise  # the user's files are damaged
        print(f"systems: CIFAR-10 is missing ({error}); learns from DRAWN pictures, which are easier")
        return GeneratedShapes(count, 0, size=32), GeneratedShapes(1000, 1, size=32), "drawn pictures"
    return Subset(train, range(count)), Subset(test, range(1000)), "CIFAR-10"


def _fit(model: Layer, train: Any, epochs: int, rate: float) -> None:
    batches = DataLoader(train, 128, shuffle=True, transform=_NORMALIZE, drop_last=True)
    optimizer = AdamW(model.parameters(), rate, weight_decay=0.01)
    cycle = OneCycleLR(optimizer, rate, epochs=epochs, steps_per_epoch=len(batches), cycle_momentum=False)
    Trainer(model, optimizer, tt_core.cross_entropy, scheduler=cycle).fit(batches, epochs=epochs)
    model.eval()


def accuracy(model: Layer, test: Any) -> float:
    """The share of images whose class has the highest score."""
    right: list[bool] = []
    with evaluating(model):
        for pictures, labels in DataLoader(test, 250, transform=_NORMALIZE):
            right.extend(model(pictures).numpy().argmax(1) == labels.numpy())
    return float(np.mean(right))
