"""A generated English-French task for the milestone of 2017: small, but not word-by-word substitution.

French articles and adjectives agree with the gender of the noun, and colours follow the noun, so a model has to attend
to other words. Of the 117,600 sentences, those with a number divisible by 7 are the test set.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tt_core.engine.dispatch import Array

PAD, START, END = 0, 1, 2
_SPECIAL = ("<pad>", "<start>", "<end>")
_ARTICLES = {"the": ("le", "la"), "a": ("un", "une")}
_BEFORE = {"small": ("petit", "petite"), "big": ("grand", "grande"), "pretty": ("joli", "jolie")}
_AFTER = {"black": ("noir", "noire"), "green": ("vert", "verte"), "white": ("blanc", "blanche")}
_NOUNS = {
    "cat": ("chat", 0), "dog": ("chien", 0), "boy": ("garçon", 0), "bird": ("merle", 0), "book": ("livre", 0),
    "girl": ("fille", 1), "mouse": ("souris", 1), "house": ("maison", 1), "table": ("table", 1), "cow": ("vache", 1),
}  # fmt: skip
_VERBS = {"sees": "voit", "finds": "trouve", "loves": "aime", "hides": "cache", "draws": "dessine", "follows": "suit"}

Words = tuple[str, ...]
_PHRASES: list[tuple[Words, Words]] = []


def _phrase(article: str, adjective: str, noun: str) -> tuple[Words, Words]:
    """Article, adjective ("" for none) and noun, in both languages."""
    french, gender = _NOUNS[noun]
    before = (_BEFORE[adjective][gender],) if adjective in _BEFORE else ()
    after = (_AFTER[adjective][gender],) if adjective in _AFTER else ()
    english = (article, adjective, noun) if adjective else (article, noun)
    return english, (_ARTICLES[article][gender], *before, french, *after)


_PHRASES += [_phrase(*parts) for parts in itertools.product(_ARTICLES, ("", *_BEFORE, *_AFTER), _NOUNS)]


def sentence(number: int) -> tuple[Words, Words]:
    """Sentence `number` in English and in French.

    >>> " ".join(sentence(3000)[0]), " ".join(sentence(3000)[1])
    ('the bird hides the white cat', 'le merle cache le chat blanc')
    """
    rest, last = divmod(number, len(_PHRASES))
    first, verb = divmod(rest, len(_VERBS))
    english_verb = list(_VERBS)[verb]
    (subject, sujet), (thing, objet) = _PHRASES[first], _PHRASES[last]
    return (*subject, english_verb, *thing), (*sujet, _VERBS[english_verb], *objet)


COUNT = len(_PHRASES) ** 2 * len(_VERBS)


@dataclass(frozen=True)
class Vocabulary:
    """The words of one language; ids 0 to 2 are padding, start and end."""

    words: Words

    @classmethod
    def of(cls, language: int) -> Vocabulary:
        """English (0) or French (1)."""
        phrases = {word for pair in _PHRASES for word in pair[language]}
        verbs = _VERBS.values() if language else _VERBS
        return cls((*_SPECIAL, *sorted(phrases | set(verbs))))

    def encode(self, words: Sequence[str]) -> list[int]:
        """Ids of words."""
        return [self.words.index(word) for word in words]

    def decode(self, ids: Sequence[int]) -> str:
        """The words before the end token, joined by spaces."""
        text = itertools.takewhile(lambda i: i != END, ids)
        return " ".join(self.words[i] for i in text if i >= len(_SPECIAL))


def draw(count: int, random: np.random.Generator, test: bool = False) -> list[tuple[Words, Words]]:
    """Random sentences of the training set, or of the test set, which are disjoint."""
    numbers = random.integers(0, COUNT // 7, count) * 7
    return [sentence(int(n) + (0 if test else int(shift))) for n, shift in zip(numbers, random.integers(1, 7, count))]


def padded(texts: Sequence[Sequence[int]]) -> Array:
    """Ids of several texts as one array (texts, longest), padded at the end."""
    wide = max(map(len, texts))
    return np.array([[*text, *[PAD] * (wide - len(text))] for text in texts])
