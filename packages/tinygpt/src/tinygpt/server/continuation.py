"""One continuation of a prompt: its options, its tokens so far, and which part of its text may be shown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tinygpt.server.text import TextStream
from tt_core.engine.dispatch import Array
from tt_language import Tokenizer
from tt_language.transformers.sampling import Sampling


@dataclass(frozen=True)
class Options:
    """How the tokens of a continuation are chosen, and when it ends.

    ends: ids that end a text, in addition to those of the model's config.
    logit_bias: numbers added to the logits of tokens.
    presence_penalty: subtracted once from the logit of each token that has been generated.
    frequency_penalty: subtracted from the logit of a token each time that it has been generated.
    logprobs: the number of alternatives to report for each token; None reports nothing.
    prompt_logprobs: whether the tokens of the prompt are reported, too.
    """

    max_tokens: int = 16
    sampling: Sampling = field(default_factory=Sampling)
    stop: tuple[str, ...] = ()
    ends: frozenset[int] = frozenset()
    seed: int | None = None
    logit_bias: Mapping[int, float] = field(default_factory=dict)
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    logprobs: int | None = None
    prompt_logprobs: bool = False
    ignore_eos: bool = False


@dataclass
class Token:
    """A token of an answer. Its text begins at position `start` of the shown text.

    The first token of a prompt has no log probability. A token that ends within a character has the text ""; the token
    that completes the character has all of it.
    """

    id: int
    text: str
    start: int
    logprob: float | None = None
    top: list[tuple[int, float]] = field(default_factory=list)
    """The most likely tokens with their log probabilities, most likely first."""


@dataclass
class Piece:
    """The next text of a continuation that may be shown, and its tokens if they are reported."""

    index: int
    text: str
    tokens: list[Token]


@dataclass
class Ended:
    """The last event of a continuation. `reason` is "stop" or "length"."""

    index: int
    reason: str
    generated: int
    logprob: float
    """The sum of the log probabilities of its tokens, if they are reported."""


class Continuation:
    """One continuation of `prompt`, number `index` of its request.

    It draws the random numbers that `tt_language.generate` draws for text `index` with the same seed. So its text does
    not depend on the other requests.
    """

    def __init__(
        self, index: int, prompt: Sequence[int], options: Options, tokenizer: Tokenizer, ends: frozenset[int], seed: int
    ) -> None:
        self.index, self.options = index, options
        self.text = list(prompt)
        """Prompt and generated tokens."""
        self.prompt_length = len(self.text)
        self.start = 0
        """Where the window begins if the text is longer than the context."""
        self.ended = False
        self.last_token_at: float | None = None
        self._random = np.random.default_rng([seed, index])
        self._ends = options.ends | (frozenset() if options.ignore_eos else ends)
        self._stream = TextStream(tokenizer, options.stop)
        self._pending: list[Token] = []
        self.reports: list[Report] = []
        """Reports on the tokens of the prompt, if they are asked for."""
        self._counts: dict[int, int] = {}
        self._logprob = 0.0

    @property
    def generated(self) -> int:
        """The number of generated tokens."""
        return len(self.text) - self.prompt_length

    def choose(self, logits: Array) -> list[Piece | Ended]:
        """Choose the next token by logits (vocab,); returns the text that may be shown now, and `Ended` at the end.

        Raises `ConfigError` for logits that are not finite.
        """
        token = self.options.sampling.choose(self._adjusted(logits), self.text, self._random)
        self.text.append(token)
        self._counts[token] = self._counts.get(token, 0) + 1
        if token in self._ends:
            return self.end("stop")
        before = self._stream.decoded
        shown = self._stream.feed(token)
        if self.options.logprobs is not None:
            self._report(token, logits, before)
        if self._stream.stopped:
            return self.end("stop", shown)
        if self.generated >= self.options.max_tokens:
            return self.end("length", shown)
        tokens = self._released()
        return [Piece(self.index, shown, tokens)] if shown or tokens else []

    def end(self, reason: str, shown: str = "") -> list[Piece | Ended]:
        """The last text and `Ended`. Held-back text is shown unless it is part of a stop string."""
        before = self._stream.decoded
        shown += self._stream.finish()
        reason = "stop" if self._stream.stopped else reason
        if self._pending and self._stream.decoded > before:  # an incomplete character, shown as U+FFFD
            self._pending[-1].text += "\ufffd"
        end, tokens = self._stream.shown, []
        for token in self._pending:
            token.text = token.text[: max(0, end - token.start)]
            if token.start < end or (token.start == end and not token.text and not self._stream.stopped):
                tokens.append(token)
        pieces: list[Piece | Ended] = [Piece(self.index, shown, tokens)] if shown or tokens else []
        return [*pieces, Ended(self.index, reason, self.generated, self._logprob)]

    def _adjusted(self, logits: Array) -> Array:
        options = self.options
        penalized = self._counts if options.presence_penalty or options.frequency_penalty else {}
        if not penalized and not options.logit_bias:
            return logits
        logits = logits.copy()
        for token, count in penalized.items():
            logits[token] -= options.presence_penalty + options.frequency_penalty * count
        for token, bias in options.logit_bias.items():
            logits[token] += bias
        return logits

    def _report(self, token: int, logits: Array, start: int) -> None:
        """Record a token with the model's own log probabilities: before temperature, penalties and filters."""
        logprob, top = report(token, log_softmax(logits), self.options.logprobs)
        self._pending.append(Token(token, self._stream.last, start, logprob, top))
        self._logprob += logprob

    def _released(self) -> list[Token]:
        """The reported tokens whose text has been shown; tokens within a character wait until it is complete."""
        whole = [i for i, token in enumerate(self._pending)
                 if token.text and token.start + len(token.text) <= self._stream.shown]  # fmt: skip
        count = whole[-1] + 1 if whole else 0
        released, self._pending = self._pending[:count], self._pending[count:]
        return released


def log_softmax(logits: Array) -> Array:
    """Log probabilities (..., vocab) in float64.

    >>> log_softmax(np.array([0.0, 0.0])).round(4)
    array([-0.6931, -0.6931])
    """
    wide = logits.astype(np.float64)
    wide -= wide.max(-1, keepdims=True)
    result: Any = wide - np.log(np.exp(wide).sum(-1, keepdims=True))
    return result


def top_of(logprobs: Array, count: int | None) -> list[tuple[int, float]]:
    """The `count` most likely tokens of log probabilities (vocab,), with these; ties by the smaller id.

    >>> top_of(np.array([-3.0, -1.0, -1.0, -2.0]), 3)
    [(1, -1.0), (2, -1.0), (3, -2.0)]
    """
    if not count:
        return []
    count = min(count, len(logprobs))
    least = np.partition(logprobs, -count)[-count]
    ids = np.flatnonzero(logprobs >= least)
    best = ids[np.argsort(-logprobs[ids], kind="stable")][:count]
    return [(int(i), float(logprobs[i])) for i in best if np.isfinite(logprobs[i])]


Report = tuple[float, list[tuple[int, float]]]
"""The log probability of a token, and the most likely tokens in its place."""


def report(token: int, logprobs: Array, count: int | None) -> Report:
    """The report on `token`, by the log probabilities (vocab,) that were predicted in its place."""
    return float(logprobs[token]), top_of(logprobs, count)


def prompt_tokens(prompt: Sequence[int], reports: Sequence[Report], tokenizer: Tokenizer) -> list[Token]:
    """The tokens of a prompt, whose joined texts are the prompt. `reports` is empty or has one for all but the first.

    >>> from tt_language import ByteTokenizer
    >>> [(token.text, token.logprob) for token in prompt_tokens([72, 105], [(-0.5, [])], ByteTokenizer())]
    [('H', None), ('i', -0.5)]
    """
    stream, found = TextStream(tokenizer, skip_special_tokens=False), []
    for token, (logprob, top) in zip(prompt, [(None, []), *reports] if reports else [(None, [])] * len(prompt)):
        start = stream.decoded
        found.append(Token(token, stream.feed(token), start, logprob, top))
    if found:
        found[-1].text += stream.finish()
    return found
