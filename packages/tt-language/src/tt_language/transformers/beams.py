"""Part of module 13, transformers: beam search, which keeps the most likely continuations of a text at each step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from tt_core.engine.dispatch import Array
from tt_language.transformers.checks import check_largest
from tt_language.transformers.window import Reader
from tt_learn.training import evaluating


@dataclass(frozen=True)
class _Beam:
    new: list[int]
    score: float
    """Sum of log probabilities."""

    def rank(self, length_penalty: float) -> float:
        return self.score / len(self.new) ** length_penalty


def beam_search(
    reader: Reader,
    max_new_tokens: int,
    ended: Callable[[list[int]], bool],
    num_beams: int,
    length_penalty: float,
) -> list[int]:
    """The new tokens of the best beam: of those that stopped and those left at the end, by score / length^penalty."""
    (text,) = reader.prompts
    beams, done = [_Beam([], 0.0)], []
    for _ in range(max_new_tokens):
        with evaluating(reader.model):
            logits = reader.logits([text + beam.new for beam in beams])  # (beams, vocab)
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
    """The best continuations by one token: (row of the parent, beam), best first."""
    wide = logits.astype(np.float64)  # (beams, vocab); sums of many log probabilities need the precision
    peak = wide.max(-1, keepdims=True)
    check_largest(peak.max())
    scores = wide - peak - np.log(np.exp(wide - peak).sum(-1, keepdims=True))  # (beams, vocab), log softmax
    # the best `most` of all beams together, so that one beam may have several successors and another none
    scores += np.array([beam.score for beam in beams])[:, None]
    best = np.argsort(-scores, axis=None, kind="stable")[:most]
    rows, tokens = np.unravel_index(best, scores.shape)
    return [
        (int(row), _Beam([*beams[row].new, int(token)], float(scores[row, token])))
        for row, token in zip(rows, tokens)
        if scores[row, token] > -np.inf  # fewer tokens may be allowed than asked for
    ]


def _settled(done: Sequence[_Beam], going: Sequence[_Beam], num_beams: int, length_penalty: float) -> bool:
    """Whether enough beams have stopped, and the best other one ranks below the worst of the best stopped."""
    if len(done) < num_beams:
        return False
    ranks = sorted((beam.rank(length_penalty) for beam in done), reverse=True)
    return max(beam.rank(length_penalty) for beam in going) <= ranks[num_beams - 1]
