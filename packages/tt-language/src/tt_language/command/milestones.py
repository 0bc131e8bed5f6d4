"""The milestone of Act IV: 2017, the Transformer, on sequences, a translation task and Shakespeare.

Each part prints its result on data that it was not trained on, and raises `Shortfall` for less than it claims. Heat
maps of the attention weights are written to a folder.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import tt_core
from tt_core.command.journey import Shortfall, TryIt, in_data_dir, require
from tt_core.engine.dispatch import Array
from tt_core.engine.errors import ArgumentError, FileError
from tt_core.engine.files import make_folder
from tt_core.tensor.creation import tensor
from tt_language.attention import heat_map, record_attention
from tt_language.command.toy_translation import END, PAD, START, Vocabulary, draw, padded
from tt_language.tokenization import CharTokenizer, read_text
from tt_language.transformers import GPT, GPTConfig, Seq2SeqTransformer, generate, next_token_loss
from tt_learn import AdamW, CosineWarmupLR, Trainer, no_grad

Batch = tuple[tuple[Any, Any], Any]
"""((source, target so far), target)."""


def transformer(data_dir: Path | None = None, out: Path | None = None) -> TryIt:
    """Copies and reverses sequences, translates, and learns Shakespeare (Vaswani et al. 2017).

    Raises `Shortfall` for too many wrong sequences or sentences, or too high a loss, and `FileError` where pictures
    cannot be written to `out`.
    """
    out = make_folder("milestones" if out is None else out)
    sequences("copied", lambda x: x, out)
    sequences("reversed", lambda x: x[:, ::-1], out)
    tried = translation(out)
    text = in_data_dir(data_dir, "tinyshakespeare", "input.txt")
    if text is None:
        print("transformer: no tinyshakespeare/input.txt in --data-dir or TT_DATA_HOME, so no Shakespeare")
    else:
        shakespeare(text)
    return tried


# --- sequences

_FIRST, _SYMBOLS, _LENGTH = 3, 10, 12
"""Ids of the symbols start after padding, start and end."""


def sequences(name: str, task: Callable[[Array], Array], out: Path) -> None:
    """Learns `task` on sequences of 12 symbols; at least 99 % of 1,000 new ones must be right."""
    tt_core.manual_seed(2017)
    model = _small_transformer(_FIRST + _SYMBOLS, _FIRST + _SYMBOLS)

    def batch(_: int) -> Batch:
        x = _symbols(64, tt_core.generator())
        return _teacher_forced(x, _framed(task(x)))

    seconds = _train(model, batch, steps=400)
    x = _symbols(1000, np.random.default_rng(1))
    found = model.translate(tensor(x), START, END, _LENGTH + 1)
    right = float(np.mean([a == b for a, b in zip(found, task(x).tolist())]))
    print(f"transformer: 1,000 new sequences {name}, {right:.1%} without a mistake ({seconds:.0f} s of training)")
    labels = [str(i - _FIRST) for i in x[0]]
    _picture(model, x[:1], _framed(task(x[:1])), out / f"{name}.svg", labels, [str(i - _FIRST) for i in task(x)[0]])
    require("transformer", f"share of sequences {name} right", right, 0.99)


def _symbols(rows: int, random: np.random.Generator) -> Array:
    return random.integers(_FIRST, _FIRST + _SYMBOLS, (rows, _LENGTH))


def _framed(target: Array) -> Array:
    """The start token before each row, and the end token after it."""
    rows = len(target)
    return np.concatenate([np.full((rows, 1), START), target, np.full((rows, 1), END)], axis=1)


# --- translation


def translation(out: Path) -> TryIt:
    """Translates English to French with the right articles, adjectives and word order: 99 % of 1,000 new sentences."""
    tt_core.manual_seed(2017)
    english, french = Vocabulary.of(0), Vocabulary.of(1)
    model = _small_transformer(len(english.words), len(french.words))

    def encoded(pairs: Sequence[tuple[Any, Any]]) -> tuple[Array, Array]:
        return (
            padded([english.encode(source) for source, _ in pairs]),
            padded([[START, *french.encode(target), END] for _, target in pairs]),
        )

    seconds = _train(model, lambda _: _teacher_forced(*encoded(draw(64, tt_core.generator()))), steps=400)
    pairs = draw(1000, np.random.default_rng(1), test=True)
    found = [french.decode(ids) for ids in model.translate(tensor(encoded(pairs)[0]), START, END, 12)]
    right = float(np.mean([text == " ".join(target) for text, (_, target) in zip(found, pairs)]))
    print(f"transformer: 1,000 new sentences translated, {right:.1%} without a mistake ({seconds:.0f} s of training)")
    for text, (source, _) in list(zip(found, pairs))[:3]:
        print(f"  {' '.join(source)} -> {text}")
    _picture(model, *encoded(pairs[:1]), out / "translation.svg", *pairs[0])
    require("transformer", "share of sentences translated right", right, 0.99)

    def translated(text: str) -> str:
        words = text.lower().split()
        unknown = sorted({word for word in words if word not in english.words})
        if unknown:
            raise ArgumentError(f"it has not seen {', '.join(unknown)}; it knows {' '.join(english.words[3:])}")
        return french.decode(model.translate(tensor(padded([english.encode(words)])), START, END, 12)[0])

    return TryIt(f"an English sentence, such as {' '.join(pairs[0][0])}", translated)


# --- the model of 2017, small


def _small_transformer(source_vocab: int, target_vocab: int) -> Seq2SeqTransformer:
    return Seq2SeqTransformer(source_vocab, target_vocab, 64, num_heads=4, num_layers=1, dropout=0.0, padding_idx=PAD)


def _teacher_forced(source: Array, target: Array) -> Batch:
    """A batch in which each token of the target is predicted from those before it."""
    return (tensor(source), tensor(target[:, :-1])), tensor(target[:, 1:])


def _loss(model: Any, batch: Batch) -> Any:
    inputs, targets = batch
    return next_token_loss(model(*inputs), targets, ignore_index=PAD)


def _train(model: Any, batch: Callable[[int], Any], steps: int, lr: float = 3e-3, loss: Any = _loss) -> float:
    """Train with AdamW, warm-up and cosine decay; leaves the model in evaluation mode. Returns the seconds taken."""
    optimizer = AdamW(model.parameters(), lr=lr, betas=(0.9, 0.99))
    schedule = CosineWarmupLR(optimizer, min(50, steps // 4), steps, lr / 10)
    started = time.perf_counter()
    Trainer(model, optimizer, compute_loss=loss, scheduler=schedule, clip_grad_norm=1.0).fit(batch, steps=steps)
    model.eval()
    return time.perf_counter() - started


def _picture(
    model: Seq2SeqTransformer, source: Array, target: Array, path: Path, words: Sequence[str], translated: Sequence[str]
) -> None:
    """A heat map of which source tokens the decoder attends to for each target token."""
    with no_grad(), record_attention() as maps:
        model(tensor(source), tensor(target[:, :-1]))
    title = f"{path.stem}: attention of each written token (row) to the source (columns)"
    heat_map(maps[-1][0][:, : len(translated), : len(words)], path, translated, words, title)
    print(f"transformer: its attention weights are drawn in {path}")


# --- Shakespeare


LOSS = 1.88
"""The largest loss per character of unseen text: nanoGPT's published figure for this model and training."""


def shakespeare(path: Path, steps: int = 2000, needed: float = LOSS) -> None:
    """Trains a GPT in nanoGPT's CPU configuration to a loss of at most `needed` on unseen text; prints a sample."""
    tt_core.manual_seed(2017)
    text = read_text(path)
    tokenizer = CharTokenizer(text)
    ids = np.array(tokenizer.encode(text))
    seen, unseen = ids[: len(ids) * 9 // 10], ids[len(ids) * 9 // 10 :]
    if len(unseen) < 65:
        raise FileError(f"{path}: has {len(ids)} characters, too few to learn from")
    model = GPT(GPTConfig(tokenizer.vocab_size, block_size=64, n_layer=4, n_head=4, n_embd=128, bias=False))

    def batch(_: int) -> tuple[Any, Any]:
        return _windows(seen, tt_core.generator(), 12)

    def loss(model: Any, batch: Any) -> Any:
        return next_token_loss(model(batch[0]), batch[1])

    seconds = _train(model, batch, steps, lr=1e-3, loss=loss)
    with no_grad():
        reached = loss(model, _windows(unseen, np.random.default_rng(1), 100)).item()
    print(f"transformer: loss {reached:.3f} a character of unseen Shakespeare ({seconds:.0f} s of training)")
    new = generate(model, [int(unseen[0])], 300, temperature=0.8, seed=2017)[0]
    print("  " + tokenizer.decode(new).strip().replace("\n", "\n  "))
    if not reached <= needed:
        raise Shortfall(f"transformer: loss is {reached:.3f} a character, {needed} was to be reached")


def _windows(ids: Array, random: np.random.Generator, rows: int, length: int = 64) -> tuple[Any, Any]:
    """Random windows of the text (rows, length), and the same moved on by one token."""
    starts = random.integers(0, len(ids) - length, rows)
    windows = ids[starts[:, None] + np.arange(length + 1)]
    return tensor(windows[:, :-1]), tensor(windows[:, 1:])
