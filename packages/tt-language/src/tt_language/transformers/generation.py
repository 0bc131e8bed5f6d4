"""Text from a model (module 13, transformers, Act IV): the next token, again and again.

`generate` runs a batch of prompts to the end, `stream` yields the tokens of one prompt as they come. Whoever answers
the hook `tt_past` remembers keys and values between tokens, and the tokens are the same without; nothing here knows
how.

A text longer than the context moves through it in jumps: when the window is full, its older half is dropped and the
model reads the rest anew. So a window holds between half the context and all of it, and remembering stays possible.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from tt_core.engine.arguments import checked
from tt_core.engine.dispatch import Array, quietly
from tt_core.engine.errors import ArgumentError, ShapeError, is_integer
from tt_core.engine.plugins import manager
from tt_core.layers import Layer, prepare_model
from tt_core.random import generator
from tt_core.tensor.creation import tensor
from tt_language.embeddings.embeddings import check_ids
from tt_language.errors import ConfigError, short
from tt_learn.training import evaluating

Stop = int | str | Sequence[int]


class Decoder(Protocol):
    """What stop strings need: ids to text."""

    def decode(self, ids: Sequence[int]) -> str:
        """The text that ids stand for."""


# --- from logits to a token


@dataclass(frozen=True)
class Sampling:
    """How a token is chosen from logits: filters are applied in the order of the fields.

    `temperature` 0 takes the most likely token. `top_k` keeps the k most likely, `top_p` the fewest that have this
    probability together (Holtzman et al. 2019, arXiv:1904.09751), `min_p` those with at least this part of the
    likeliest one's (Nguyen et al. 2024, arXiv:2407.01082). `repetition_penalty` above 1 makes tokens rarer that the
    text holds already (Keskar et al. 2019, arXiv:1909.05858). Raises `ConfigError` for values out of range.

    >>> Sampling(temperature=0).choose(np.array([0.1, 2.0, 0.3]), [], np.random.default_rng(0))
    1
    """

    repetition_penalty: float = 1.0
    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None

    def __post_init__(self) -> None:
        _need("repetition_penalty", self.repetition_penalty, lambda x: 0 < x < np.inf, "above 0 and finite")
        _need("temperature", self.temperature, lambda x: 0 <= x < np.inf, "0 (the likeliest) or more")
        if self.top_k is not None:
            _need("top_k", self.top_k, lambda x: is_integer(x, 1), "a whole number, 1 or more")
        if self.top_p is not None:
            _need("top_p", self.top_p, lambda x: 0 < x <= 1, "above 0 and at most 1")
        if self.min_p is not None:
            _need("min_p", self.min_p, lambda x: 0 <= x <= 1, "between 0 and 1")

    def choose(self, logits: Array, text: Sequence[int], random: np.random.Generator) -> int:
        """A token for logits (vocab,) after `text`. Raises `ConfigError` for logits that are no numbers."""
        logits = self.penalized(logits, text)
        likeliest = int(logits.argmax())  # the first nan, if there is one
        _check_largest(logits[likeliest])
        if self.temperature == 0:
            return likeliest
        below = self.probabilities(logits).cumsum()  # its last, not a sum of its own, which may be larger
        return int(np.searchsorted(below, random.random() * below[-1], side="right"))

    @checked
    def penalized(self, logits: Array, text: Sequence[int]) -> Array:
        """Logits of tokens in `text` moved down: divided by the penalty where positive, multiplied where negative."""
        if self.repetition_penalty == 1 or not len(text):
            return logits
        logits, seen = logits.copy(), np.unique(np.asarray(text))
        old = logits[seen]
        penalty = logits.dtype.type(min(self.repetition_penalty, float(np.finfo(logits.dtype).max)))
        logits[seen] = quietly(lambda: np.where(old > 0, old / penalty, old * penalty))
        return logits

    @checked
    def probabilities(self, logits: Array) -> Array:
        """Probabilities (vocab,), not normalized, of the tokens that the filters leave."""
        with np.errstate(over="ignore"):
            scaled = (logits.astype(np.float64) - logits.max()) / self.temperature  # the likeliest is 0 at any of them
        if self.top_k is not None and self.top_k < len(scaled):
            scaled = np.where(scaled >= np.partition(scaled, -self.top_k)[-self.top_k], scaled, -np.inf)
        p = np.exp(scaled)
        if self.top_p is not None and self.top_p < 1:
            p = _nucleus(p, self.top_p)
        if self.min_p is not None:
            p = np.where(p >= self.min_p * p.max(), p, 0)
        return p


def _need(name: str, value: Any, fine: Callable[[Any], bool], expected: str) -> None:
    """Raise `ConfigError` unless an option is a number and `fine`."""
    number = isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool)
    if not number or not fine(value):
        raise ConfigError(f"generate: {name} is {value if number else short(value)}, expected {expected}")


def _check_largest(logit: Any) -> None:
    """Raise unless the largest logit after a text is a number; nan counts as the largest."""
    if not np.isfinite(logit):
        raise ConfigError(f"generate: the model gives a logit of {logit}; its weights are of no use")


def _nucleus(p: Array, top_p: float) -> Array:
    """The likeliest tokens, up to the one with which they reach `top_p` of the whole."""
    order = np.argsort(-p, kind="stable")
    before = np.cumsum(p[order]) - p[order]
    kept = order[before < top_p * p.sum()]
    result = np.zeros_like(p)
    result[kept] = p[kept]
    return result


# --- from texts to logits


def window_start(length: int, block_size: int) -> int:
    """How many tokens of a text of `length` the window has left behind: 0, or a multiple of half the context.

    >>> [window_start(n, 8) for n in (8, 9, 12, 13)]
    [0, 4, 4, 8]
    """
    half = max(1, block_size // 2)
    return -(-max(0, length - block_size) // half) * half


class _Reader:
    """Feeds texts, which grow by one token at a time, to a model and gives the logits after each.

    Of prompts longer than the context, the end is read. Tokens that are not `allowed` get the logit -inf.
    """

    def __init__(
        self, model: Any, prompts: list[list[int]], rows: int, max_new_tokens: int, allowed: Array | None = None
    ) -> None:
        self.model, self.block_size, self.allowed = model, model.config.block_size, allowed
        length = min(max(map(len, prompts)) + max_new_tokens, self.block_size)
        self.past = manager.ask("tt_past", model=model, rows=rows, length=length, prompts=prompts)
        self.beyond = getattr(self.past, "beyond", "crop")
        self.prompts = [p[-self.block_size :] for p in prompts] if self.beyond == "crop" else prompts
        self.unread = True
        self.shared = 0 if self.past is None else self.past.length  # columns in front of the padding
        self.starts: list[int] = []

    def logits(self, texts: Sequence[Sequence[int]]) -> Array:
        """(rows, vocab) for the token after each text."""
        if self.past is None or not self.unread:
            return self._read(texts)
        self.unread = False
        different = {tuple(text): None for text in texts}  # a prompt that occurs several times is read once
        places = {text: i for i, text in enumerate(different)}
        if self.shared:
            self.past.select([0] * len(places))
        self.starts = [0] * len(places)
        logits, rows = self._read(list(places)), [places[tuple(text)] for text in texts]
        if len(places) == len(texts):
            return logits
        self.select(rows)
        return logits[rows]

    def _read(self, texts: Sequence[Sequence[int]]) -> Array:
        starts = [self._start(len(text)) for text in texts]
        windows = [list(text[start:]) for text, start in zip(texts, starts)]
        known = 0 if self.past is None else self.past.length
        if known and (starts != self.starts or self._must_read_again(known, windows)):
            self.past.clear()
            known = self.shared = 0
        self.starts = starts
        # rows of different length are padded on the left, behind what all share; what was read keeps its padding
        wide, shared = max(*map(len, windows), known + 1), self.shared
        pads = [wide - len(window) for window in windows]
        columns = np.arange(known, wide)
        ids = np.array([(w[:shared] + [0] * pad + w[shared:])[known:] for w, pad in zip(windows, pads)])  # (rows, new)
        options: dict[str, Any] = {"past": self.past, "logits_to_keep": 1}
        if any(pads):
            shift, every = np.array(pads)[:, None], np.arange(wide)
            positions = np.where(columns < shared, columns, np.maximum(columns - shift, 0))  # (rows, new)
            visible = (every < shared) | (every >= shared + shift)  # (rows, wide)
            options |= {"positions": tensor(positions), "attn_mask": tensor(visible[:, None, None])}
        logits = self.model(tensor(ids), **options).data[:, -1]
        return logits if self.allowed is None else np.where(self.allowed, logits, logits.dtype.type(-np.inf))

    def _start(self, length: int) -> int:
        """Where the window of a text begins."""
        if self.beyond == "error" and length > self.block_size:
            raise ConfigError(f"generate: the text has {length} tokens, the context {self.block_size}; it ends here")
        return 0 if self.beyond == "window" else window_start(length, self.block_size)

    def _must_read_again(self, known: int, windows: Sequence[Sequence[int]]) -> bool:
        """Whether there is no room for one more column, or remembered keys were rotated by other frequencies."""
        if known >= self.block_size and self.beyond != "window":
            return True
        rotary = getattr(self.model, "rotary", None)
        return rotary is not None and any(rotary.changes_at(len(window)) for window in windows)

    def select(self, rows: Sequence[int]) -> None:
        """Follow the texts: row i is now what row `rows[i]` was."""
        self.starts = [self.starts[row] for row in rows]
        if self.past is not None:
            self.past.select(rows)


# --- generation


def generate(
    model: Any,
    prompts: Any,
    max_new_tokens: int,
    *,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    min_p: float | None = None,
    repetition_penalty: float = 1.0,
    stop: Stop | Sequence[Stop] | None = None,
    ignore_eos: bool = False,
    tokenizer: Decoder | None = None,
    seed: int | None = None,
    num_beams: int = 1,
    length_penalty: float = 1.0,
) -> list[list[int]]:
    """Continue each of `prompts` by up to `max_new_tokens` tokens; returns the new tokens of each.

    `prompts`: ids of one text, or of several of any lengths. `temperature` to `repetition_penalty` as for `Sampling`.
    `stop` ends a text as soon as its new tokens end with one of these ids or sequences of ids, or their text holds one
    of these strings (for which `tokenizer` decodes); what stopped it is part of the result. The model's
    `config.eos_token_id` stops it too, unless `ignore_eos`. With `tokenizer`, ids for which it has no token are never
    chosen: the vocabulary of many models is padded to a rounder size than that of their tokenizer. `seed` makes the
    result independent of what was drawn before, and of the other prompts. `num_beams` above 1 searches for the
    likeliest continuation instead, scored by log probability / length ** length_penalty; it draws and filters nothing.
    Of a prompt longer than the context, its last `block_size` tokens are read, and a warning says so.
    Raises `ShapeError` for an empty prompt, `OutOfRangeError` for ids outside the vocabulary, `ConfigError` for options
    out of range or that do not go together, and for logits that are no numbers.

    >>> from tt_language.transformers import GPT, GPTConfig
    >>> model = GPT(GPTConfig(vocab_size=10, block_size=8, n_layer=1, n_head=2, n_embd=8))
    >>> [len(new) for new in generate(model, [[1, 2, 3], [4]], max_new_tokens=5, seed=0)]
    [5, 5]
    """
    _check_numbers(max_new_tokens, seed, num_beams)
    _need("length_penalty", length_penalty, np.isfinite, "a finite number")
    if num_beams == 1 and length_penalty != 1:
        raise ConfigError("generate: length_penalty ranks beams; it needs num_beams above 1")
    sampling = Sampling(repetition_penalty, temperature, top_k, top_p, min_p)
    texts, allowed = _checked_texts(model, _as_texts(prompts)), _allowed(model, tokenizer)
    model = _prepared(model)
    ended = _stopping(stop, tokenizer, () if ignore_eos else _end_ids(model))
    if num_beams > 1 and sampling not in (Sampling(), Sampling(temperature=0)):
        raise ConfigError("generate: beams take the likeliest; leave out temperature, top_k, top_p, min_p and penalty")
    if num_beams > 1:
        found = []
        for i, text in enumerate(texts):
            reader = _reader(model, [text], num_beams, max_new_tokens, allowed, first=i)
            found.append(_beam_search(reader, max_new_tokens, ended, num_beams, length_penalty))
        return found
    new: list[list[int]] = [[] for _ in texts]
    reader = _reader(model, texts, len(texts), max_new_tokens, allowed)
    for row, token in _steps(reader, max_new_tokens, sampling, ended, seed):
        new[row].append(token)
    return new


def stream(
    model: Any,
    prompt: Any,
    max_new_tokens: int,
    *,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    min_p: float | None = None,
    repetition_penalty: float = 1.0,
    stop: Stop | Sequence[Stop] | None = None,
    ignore_eos: bool = False,
    tokenizer: Decoder | None = None,
    seed: int | None = None,
) -> Iterator[int]:
    """The tokens that `generate` would return for one prompt, each as soon as it is chosen.

    >>> from tt_language.transformers import GPT, GPTConfig
    >>> model = GPT(GPTConfig(vocab_size=10, block_size=8, n_layer=1, n_head=2, n_embd=8))
    >>> list(stream(model, [1], 4, seed=0)) == generate(model, [1], 4, seed=0)[0]
    True
    """
    _check_numbers(max_new_tokens, seed)
    sampling = Sampling(repetition_penalty, temperature, top_k, top_p, min_p)
    texts, allowed = _checked_texts(model, _as_texts(prompt)), _allowed(model, tokenizer)
    model = _prepared(model)
    ended = _stopping(stop, tokenizer, () if ignore_eos else _end_ids(model))
    if len(texts) > 1:
        raise ArgumentError(f"stream: one prompt at a time, got {len(texts)}; use generate()")
    reader = _reader(model, texts, 1, max_new_tokens, allowed)
    return (token for _, token in _steps(reader, max_new_tokens, sampling, ended, seed))


def _reader(
    model: Any, prompts: list[list[int]], rows: int, max_new_tokens: int, allowed: Array | None, first: int = 0
) -> _Reader:
    """A reader of prompts, numbered from `first`; warns of those that it crops."""
    reader = _Reader(model, prompts, rows, max_new_tokens, allowed)
    for i, (given, read) in enumerate(zip(prompts, reader.prompts), first):
        if len(read) < len(given):
            warnings.warn(
                f"generate: prompt {i} has {len(given)} tokens, the context {reader.block_size}; "
                f"its first {len(given) - len(read)} are not read",
                stacklevel=3,
            )
    return reader


def _prepared(model: Any) -> Any:
    """What plugins make of a model that generates."""
    return prepare_model(model) if isinstance(model, Layer) else model


def _check_numbers(max_new_tokens: int, seed: int | None, num_beams: int = 1) -> None:
    seed = 0 if seed is None else seed
    for name, value, least in (("max_new_tokens", max_new_tokens, 0), ("seed", seed, 0), ("num_beams", num_beams, 1)):
        if not is_integer(value, least):
            raise ConfigError(f"generate: {name} is {short(value)}, expected a whole number, {least} or more")


def _steps(
    reader: _Reader, max_new_tokens: int, sampling: Sampling, ended: Callable[[list[int]], bool], seed: int | None
) -> Iterator[tuple[int, int]]:
    """(row, new token) for each row of each step; rows that have ended leave the batch."""
    texts = reader.prompts
    base = int(generator().integers(1 << 62)) if seed is None else seed
    random = [np.random.default_rng([base, row]) for row in range(len(texts))]
    alive = list(range(len(texts)))
    new: list[list[int]] = [[] for _ in texts]
    for _ in range(max_new_tokens):
        with evaluating(reader.model):
            logits = reader.logits([texts[row] + new[row] for row in alive])
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


# --- beams


@dataclass(frozen=True)
class _Beam:
    new: list[int]
    score: float
    """Sum of log probabilities."""

    def rank(self, length_penalty: float) -> float:
        return self.score / len(self.new) ** length_penalty


def _beam_search(
    reader: _Reader,
    max_new_tokens: int,
    ended: Callable[[list[int]], bool],
    num_beams: int,
    length_penalty: float,
) -> list[int]:
    """The best of what stopped and of what is left at the end."""
    (text,) = reader.prompts
    beams, done = [_Beam([], 0.0)], []
    for _ in range(max_new_tokens):
        with evaluating(reader.model):
            logits = reader.logits([text + beam.new for beam in beams])
        candidates = _extended(beams, logits, 2 * num_beams)  # twice as many, since some may stop
        done += [beam for _, beam in candidates[:num_beams] if ended(beam.new)]
        going = [(parent, beam) for parent, beam in candidates if not ended(beam.new)][:num_beams]
        if not going or _settled(done, [beam for _, beam in going], num_beams, length_penalty):
            beams = []
            break
        reader.select([parent for parent, _ in going])
        beams = [beam for _, beam in going]
    finished = [*done, *(beam for beam in beams if beam.new)]
    return max(finished, key=lambda beam: beam.rank(length_penalty)).new if finished else []


def _extended(beams: Sequence[_Beam], logits: Array, most: int) -> list[tuple[int, _Beam]]:
    """The best continuations by one token: (row it came from, beam), best first."""
    wide = logits.astype(np.float64)
    peak = wide.max(-1, keepdims=True)
    _check_largest(peak.max())
    scores = wide - peak - np.log(np.exp(wide - peak).sum(-1, keepdims=True))
    scores += np.array([beam.score for beam in beams])[:, None]
    best = np.argsort(-scores, axis=None, kind="stable")[:most]
    rows, tokens = np.unravel_index(best, scores.shape)
    return [
        (int(row), _Beam([*beams[row].new, int(token)], float(scores[row, token])))
        for row, token in zip(rows, tokens)
        if scores[row, token] > -np.inf  # where fewer tokens than asked for are possible
    ]


def _settled(done: Sequence[_Beam], going: Sequence[_Beam], num_beams: int, length_penalty: float) -> bool:
    """Whether enough beams have stopped, and the best one going ranks below the worst of the best stopped."""
    if len(done) < num_beams:
        return False
    ranks = sorted((beam.rank(length_penalty) for beam in done), reverse=True)
    return max(beam.rank(length_penalty) for beam in going) <= ranks[num_beams - 1]


# --- prompts and stops


def _plain(x: Any) -> Any:
    """Numbers and lists out of arrays and tensors; other things as they are."""
    return x.tolist() if hasattr(x, "tolist") else x


def _as_texts(prompts: Any) -> list[list[int]]:
    """Ids of one text, or of several, as lists."""
    plain = _plain(prompts)
    if not _is_list(plain):
        raise ShapeError(f"generate: a prompt is a list of ids, got {short(plain)}")
    parts = [_plain(part) for part in plain]
    several = [_is_list(part) for part in parts]
    if any(several) and not all(several):
        one = parts[several.index(False)]
        raise ShapeError(f"generate: prompts are lists of ids, all of them or none; got lists and {short(one)}")
    texts = [list(part) for part in parts] if any(several) else [parts]
    for i, text in enumerate(texts):
        if not text:
            raise ShapeError(f"generate: prompt {i} is empty; give it a token, such as the one for end of text")
    return texts


def _is_list(x: object) -> bool:
    return isinstance(x, Iterable) and not isinstance(x, (str, bytes, Mapping))


def _checked_texts(model: Any, texts: list[list[int]]) -> list[list[int]]:
    size, vocab = (getattr(getattr(model, "config", None), name, None) for name in ("block_size", "vocab_size"))
    if size is None or vocab is None:
        raise ConfigError(f"generate: the model has a config with block_size and vocab_size, got {short(model)}")
    for i, text in enumerate(texts):
        try:
            ids = np.asarray(text)
        except ValueError:  # lists of different depth
            raise ShapeError(f"generate: prompt {i} is {short(text)}, expected a list of ids") from None
        if ids.dtype.kind not in "iu" or ids.ndim > 1:
            lists = "lists of " * (ids.ndim > 1)
            raise ShapeError(f"generate: prompt {i} holds {lists}{ids.dtype} values, ids are whole numbers")
        check_ids(ids, vocab)
    return texts


def _end_ids(model: Any) -> Sequence[int]:
    return getattr(model.config, "end_ids", ())


def _allowed(model: Any, tokenizer: Decoder | None) -> Array | None:
    """(vocab,), false for the ids of the model that stand for no token; None where the tokenizer knows all."""
    known_ids = getattr(tokenizer, "known_ids", None)
    if known_ids is None:  # no tokenizer, or a decoder of another make
        return None
    allowed: Array = known_ids(model.config.vocab_size)
    return None if allowed.all() else allowed


def _stopping(
    stop: Stop | Sequence[Stop] | None, tokenizer: Decoder | None, end_ids: Sequence[int]
) -> Callable[[list[int]], bool]:
    """Whether new tokens end a text."""
    stops = [*_stops(stop), *([i] for i in end_ids)]
    strings = [s for s in stops if isinstance(s, str)]
    sequences = [s for s in stops if not isinstance(s, str)]
    if strings and tokenizer is None:
        raise ConfigError("generate: stop strings need tokenizer=, which decodes the tokens")
    if not all(stops):
        raise ConfigError("generate: a stop is empty, which would end every text at once")
    longest = max((len(s.encode("utf-8", "surrogatepass")) for s in strings), default=0)  # no text holds a surrogate

    def ended(new: list[int]) -> bool:
        if any(new[-len(s) :] == s for s in sequences):
            return True
        # every token is at least one byte, so what the last one completes lies within the last `longest` and itself
        return bool(strings) and any(s in tokenizer.decode(new[-longest - 4 :]) for s in strings)  # type: ignore[union-attr]

    return ended


def _stops(stop: Stop | Sequence[Stop] | None) -> list[str | list[int]]:
    """Each stop as a string or a list of ids."""
    plain = _plain(stop)
    parts = [] if plain is None else list(plain) if _is_list(plain) else [plain]
    stops: list[str | list[int]] = []
    for part in map(_plain, parts):
        ids = list(part) if _is_list(part) else [part]
        if not isinstance(part, str) and not all(is_integer(i, 0) for i in ids):
            raise ConfigError(f"generate: stop holds {short(part)}, expected ids, lists of ids or strings")
        stops.append(part if isinstance(part, str) else [int(i) for i in ids])
    return stops
