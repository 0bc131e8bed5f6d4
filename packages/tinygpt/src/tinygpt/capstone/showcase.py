"""Module 20, capstone: a sample text that shows what the model learned, and the share of real words in it."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np

from tinygpt.capstone.capstone import TinyGPT

_WORD = re.compile(r"[^\W\d_]+(?:['\u2019-][^\W\d_]+)*")
_SMALLEST = 8
"""Paragraphs that must begin with the same words before these are called usual."""

SHOWN: dict[str, Any] = {"temperature": 0.8, "min_p": 0.15}
"""How tokens are chosen for the sample; `min_p` leaves out the unlikely tokens that misspell words."""


def usual_opening(text: str) -> str:
    """The two words that most paragraphs begin with; a line break where none are usual.

    >>> usual_opening(chr(10).join(["Return the sum.", "", "Return the mean.", "", "A list."] * 8))
    'Return the'
    """
    paragraphs = re.split(r"\n\s*\n", text)
    openings = Counter(" ".join(words) for p in paragraphs if len(words := p.split(None, 2)[:2]) == 2)
    best, count = max(openings.items(), key=lambda item: item[1], default=("", 0))
    return best if count >= _SMALLEST else "\n"


@dataclass(frozen=True)
class Sample:
    """A continuation of a prompt, and the share of its words that occur in the training text."""

    text: str
    words: int
    known: int

    def __str__(self) -> str:
        share = f"{self.known} of its {self.words} words occur in the text ({self.known / max(self.words, 1):.0%})"
        return f"{self.text}\n[{share}]"


def sample(gpt: TinyGPT, corpus: str, tokens: int = 100, seed: int = 0) -> Sample:
    """A continuation of the corpus's usual opening, of likely tokens; cut at its last whole word.

    >>> from tt_language import GPT, ByteTokenizer, GPTConfig
    >>> model = GPT(GPTConfig(vocab_size=256, block_size=16, n_layer=1, n_head=2, n_embd=16))
    >>> shown = sample(TinyGPT(model, ByteTokenizer()), "A word.", tokens=5)
    >>> shown.known <= shown.words
    True
    """
    prompt = usual_opening(corpus)
    try:
        gpt.tokenizer.encode(prompt)
    except ValueError:
        prompt = "\n"
    text = prompt.lstrip("\n") + "".join(gpt.generate(prompt, tokens, seed=seed, **SHOWN))
    whole = text[: max((found.end() for found in re.finditer(r"\s", text)), default=len(text))].rstrip()
    known = {word.lower() for word in _WORD.findall(corpus)}
    found = [word.lower() in known for word in _WORD.findall(whole)]
    return Sample(whole, len(found), int(np.sum(found)))
