"""Part of module 13, transformers: from logits to a token."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tt_core.engine.arguments import checked
from tt_core.engine.dispatch import Array, quietly
from tt_language.transformers.checks import check_largest, check_sampling


@dataclass(frozen=True)
class Sampling:
    """How a token is drawn from logits; the filters are applied in the order of the fields.

    repetition_penalty: above 1, makes the tokens of the text so far less likely (Keskar et al. 2019, arXiv:1909.05858).
    temperature: divides the logits; 0 takes the most likely token.
    top_k: keeps the k most likely tokens.
    top_p: keeps the most likely tokens that together have this probability (Holtzman et al. 2019, arXiv:1904.09751).
    min_p: keeps tokens with at least this share of the largest probability (Nguyen et al. 2024, arXiv:2407.01082).
    no_repeat_ngram_size: never completes a sequence of this many tokens that the text already has, applied after the
    penalty. 0 allows repetition. Where it would leave no token, it is ignored.

    Raises `ConfigError` for values out of range.

    >>> Sampling(temperature=0).choose(np.array([0.1, 2.0, 0.3]), [], np.random.default_rng(0))
    1
    """

    repetition_penalty: float = 1.0
    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    no_repeat_ngram_size: int = 0

    def __post_init__(self) -> None:
        check_sampling(self)

    def choose(self, logits: Array, text: Sequence[int], random: np.random.Generator) -> int:
        """A token for logits (vocab,) after `text`, by all of the options.

        Raises `ConfigError` where the largest logit is not finite.
        """
        # the penalty and the n-grams look at the text, the filters of `probabilities` at the logits alone
        logits = self.without_repeats(self.penalized(logits, text), text)
        likeliest = int(logits.argmax())  # the first nan, if there is one
        check_largest(logits[likeliest])
        if self.temperature == 0:
            return likeliest
        below = self.probabilities(logits).cumsum()  # its last entry; a separate sum may be larger
        return int(np.searchsorted(below, random.random() * below[-1], side="right"))

    @checked
    def penalized(self, logits: Array, text: Sequence[int]) -> Array:
        """Logits (vocab,) with those of tokens in `text` divided by the penalty if positive, else multiplied by it."""
        if self.repetition_penalty == 1 or not len(text):
            return logits
        logits, seen = logits.copy(), np.unique(np.asarray(text))
        old = logits[seen]
        penalty = logits.dtype.type(min(self.repetition_penalty, float(np.finfo(logits.dtype).max)))
        logits[seen] = quietly(lambda: np.where(old > 0, old / penalty, old * penalty))
        return logits

    @checked
    def without_repeats(self, logits: Array, text: Sequence[int]) -> Array:
        """Logits (vocab,) with -inf for each token that would repeat an n-gram of `text`."""
        n = self.no_repeat_ngram_size
        if n == 0 or len(text) < n:
            return logits
        # windows whose first n - 1 tokens are the last n - 1 of the text: what followed them would repeat an n-gram
        before = list(text[len(text) - n + 1 :])
        ids = np.asarray(text)
        windows = np.lib.stride_tricks.sliding_window_view(ids, n)  # (len(text) - n + 1, n)
        followers = windows[(windows[:, :-1] == before).all(1), -1]
        blocked = logits.copy()
        blocked[followers] = -np.inf
        return logits if np.isneginf(blocked).all() else blocked

    @checked
    def probabilities(self, logits: Array) -> Array:
        """Probabilities (vocab,) of the tokens that pass the filters, 0 for the others; not normalized."""
        with np.errstate(over="ignore"):
            scaled = (logits.astype(np.float64) - logits.max()) / self.temperature  # the largest is 0
        if self.top_k is not None and self.top_k < len(scaled):
            scaled = np.where(scaled >= np.partition(scaled, -self.top_k)[-self.top_k], scaled, -np.inf)
        p = np.exp(scaled)
        if self.top_p is not None and self.top_p < 1:
            p = _nucleus(p, self.top_p)
        if self.min_p is not None:
            p = np.where(p >= self.min_p * p.max(), p, 0)
        return p


def _nucleus(p: Array, top_p: float) -> Array:
    """The most likely tokens, up to the one with which they reach `top_p` of the sum; 0 for the others."""
    order = np.argsort(-p, kind="stable")
    before = np.cumsum(p[order]) - p[order]
    kept = order[before < top_p * p.sum()]
    result = np.zeros_like(p)
    result[kept] = p[kept]
    return result
