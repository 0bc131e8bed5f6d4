"""Module 13, transformers: text from a model, one token after the other.

`generate` continues a batch of prompts, `stream` yields the tokens of one prompt as they come. How a token is drawn is
in `sampling.py`, how texts longer than the context are read in `window.py`, and beam search in `beams.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from tt_core.engine.errors import ArgumentError
from tt_core.layers import Layer, prepare_model
from tt_core.random import generator
from tt_language.transformers.beams import beam_search
from tt_language.transformers.checks import check_beams, check_numbers
from tt_language.transformers.prompts import Decoder, Prompts, Stop, allowed_ids, stopping, texts_of
from tt_language.transformers.sampling import Sampling
from tt_language.transformers.window import Reader
from tt_learn.training import evaluating


def generate(
    model: Layer,
    prompts: Prompts,
    max_new_tokens: int,
    *,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    min_p: float | None = None,
    repetition_penalty: float = 1.0,
    no_repeat_ngram_size: int = 0,
    min_new_tokens: int = 0,
    stop: Stop | Sequence[Stop] | None = None,
    ignore_eos: bool = False,
    tokenizer: Decoder | None = None,
    seed: int | None = None,
    num_beams: int = 1,
    length_penalty: float = 1.0,
) -> list[list[int]]:
    """Continue each of `prompts` by up to `max_new_tokens` tokens; returns the new tokens of each.

    prompts: ids of one text, or of several of any lengths. Of a prompt longer than the context, only the last
    `block_size` tokens are read, with a warning.
    temperature, top_k, top_p, min_p, repetition_penalty, no_repeat_ngram_size: see `Sampling`.
    min_new_tokens: the `eos_token_id` of the model's config is not chosen before a text has this many new tokens.
    stop: ids, lists of ids or strings. A text ends as soon as its new tokens end with one of the ids, or their text
    contains one of the strings, which `tokenizer` decodes. The result includes what stopped it.
    ignore_eos: continues after the `eos_token_id` of the model's config, which otherwise stops a text.
    tokenizer: ids that it does not know are never chosen. Many models have a vocabulary padded beyond the tokenizer's.
    seed: makes the result independent of earlier draws, and of the other prompts.
    num_beams: above 1, searches for the most likely continuation instead of drawing one; it is ranked by
    log probability / length ** `length_penalty`.

    Raises `ShapeError` for an empty prompt, `OutOfRangeError` for ids outside the vocabulary, `ConfigError` for options
    out of range or that exclude each other, and for logits that are not finite.

    >>> from tt_language.transformers import GPT, GPTConfig
    >>> model = GPT(GPTConfig(vocab_size=10, block_size=8, n_layer=1, n_head=2, n_embd=8))
    >>> [len(new) for new in generate(model, [[1, 2, 3], [4]], max_new_tokens=5, seed=0)]
    [5, 5]
    """
    check_numbers(max_new_tokens, min_new_tokens, seed, num_beams)
    sampling = Sampling(repetition_penalty, temperature, top_k, top_p, min_p, no_repeat_ngram_size)
    check_beams(num_beams, length_penalty, min_new_tokens, sampling not in (Sampling(), Sampling(temperature=0)))
    texts, allowed = texts_of(model, prompts), allowed_ids(model, tokenizer)
    model = _prepared(model)
    ended = stopping(model, stop, tokenizer, ignore_eos)
    if num_beams > 1:  # each text by itself, since its beams are the rows of the batch
        found = []
        for i, text in enumerate(texts):
            reader = Reader(model, [text], num_beams, max_new_tokens, allowed, first=i)
            found.append(beam_search(reader, max_new_tokens, ended, num_beams, length_penalty))
        return found
    reader = Reader(model, texts, len(texts), max_new_tokens, allowed)
    new: list[list[int]] = [[] for _ in texts]  # the prompts are not repeated in the result
    for row, token in _steps(reader, max_new_tokens, sampling, ended, seed, min_new_tokens):
        new[row].append(token)
    return new


def stream(
    model: Layer,
    prompt: Prompts,
    max_new_tokens: int,
    *,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    min_p: float | None = None,
    repetition_penalty: float = 1.0,
    no_repeat_ngram_size: int = 0,
    min_new_tokens: int = 0,
    stop: Stop | Sequence[Stop] | None = None,
    ignore_eos: bool = False,
    tokenizer: Decoder | None = None,
    seed: int | None = None,
) -> Iterator[int]:
    """The tokens that `generate` returns for one prompt, each as soon as it is chosen.

    Raises what `generate` raises, before the first token, and `ArgumentError` for several prompts.

    >>> from tt_language.transformers import GPT, GPTConfig
    >>> model = GPT(GPTConfig(vocab_size=10, block_size=8, n_layer=1, n_head=2, n_embd=8))
    >>> list(stream(model, [1], 4, seed=0)) == generate(model, [1], 4, seed=0)[0]
    True
    """
    check_numbers(max_new_tokens, min_new_tokens, seed)
    sampling = Sampling(repetition_penalty, temperature, top_k, top_p, min_p, no_repeat_ngram_size)
    texts, allowed = texts_of(model, prompt), allowed_ids(model, tokenizer)
    model = _prepared(model)
    ended = stopping(model, stop, tokenizer, ignore_eos)
    if len(texts) > 1:
        raise ArgumentError(f"stream: one prompt at a time, got {len(texts)}; use generate()")
    reader = Reader(model, texts, 1, max_new_tokens, allowed)
    # the checks above run now; a generator function would raise at the first token only
    return (token for _, token in _steps(reader, max_new_tokens, sampling, ended, seed, min_new_tokens))


def _prepared(model: Any) -> Any:
    """The model that plugins prepare for generation."""
    # a plugin may return a smaller or faster copy, such as an int8 model; the caller's model stays as it is
    return prepare_model(model) if isinstance(model, Layer) else model


def _steps(
    reader: Reader,
    max_new_tokens: int,
    sampling: Sampling,
    ended: Callable[[list[int]], bool],
    seed: int | None,
    min_new_tokens: int = 0,
) -> Iterator[tuple[int, int]]:
    """(row, new token) for each row of each step; rows that have ended leave the batch.

    The model is in evaluation mode meanwhile. `ended` receives the new tokens of a row; the reader is told by `select`
    which rows of the batch go on. In the first `min_new_tokens` steps, the ids that end a text, `end_ids` of the
    model's config, are not chosen. Each row draws from a generator of its own, which
    `seed` (of `generator()` where it is None) and the number of the row decide.
    """
    texts = reader.prompts
    base = int(generator().integers(1 << 62)) if seed is None else seed
    random = [np.random.default_rng([base, row]) for row in range(len(texts))]
    alive = list(range(len(texts)))
    new: list[list[int]] = [[] for _ in texts]
    ends = list(getattr(reader.model.config, "end_ids", ()))
    for step in range(max_new_tokens):
        with evaluating(reader.model):
            logits = reader.logits([texts[row] + new[row] for row in alive])  # (alive, vocab)
        if step < min_new_tokens and ends:
            logits = logits.copy()
            logits[:, ends] = -np.inf
        for row, its_logits in zip(alive, logits):
            token = sampling.choose(its_logits, texts[row] + new[row], random[row])
            new[row].append(token)
            yield row, token
        going = [i for i, row in enumerate(alive) if not ended(new[row])]
        if not going:
            return
        if len(going) < len(alive):
            reader.select(going)
            alive = [alive[i] for i in going]
