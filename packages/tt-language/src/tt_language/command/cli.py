"""The part of Act IV in the command `tt`: its rows of the journey and its milestone. Imports stay light."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from tt_core.command.journey import Milestone, Module, deferred
from tt_core.engine.plugins import hookimpl

if TYPE_CHECKING:
    from tt_core.samples import Samples


class Act:
    """Act IV's answers to the hooks."""

    @hookimpl
    def tt_modules(self) -> Iterable[Module]:
        return (
            Module(
                10,
                "tokenization",
                4,
                "process text",
                "tt_language.tokenization",
                "characters, byte-pair encoding",
                "the size of the vocabulary trades the length of texts against the size of the model",
                "a model computes with numbers, and text is not made of numbers",
            ),
            Module(
                11,
                "embeddings",
                4,
                "create embeddings",
                "tt_language.embeddings",
                "vectors of tokens, and positions",
                "the table of embeddings is often the largest part of a language model",
                "an id says nothing about what a token has in common with others",
            ),
            Module(
                12,
                "attention",
                4,
                "pay attention",
                "tt_language.attention",
                "scaled dot-product attention, several heads, causal masks",
                "the cost grows with the square of the length: why contexts are limited",
                "each token needs to see the others, near and far alike",
            ),
            Module(
                13,
                "transformers",
                4,
                "build transformers",
                "tt_language.transformers",
                "blocks with residuals and normalization, GPT, generation",
                "all positions are computed at once in training, and one by one in generation",
                "attention alone is one layer; depth makes it a model",
            ),
        )

    @hookimpl
    def tt_samples(self) -> dict[str, Samples]:
        from tt_language.samples import SAMPLES

        return SAMPLES

    @hookimpl
    def tt_milestones(self) -> Iterable[Milestone]:
        run = deferred("tt_language.command.milestones:transformer")
        takes = "learns to copy, reverse and translate, then writes Shakespeare if it is there: 2 minutes on two cores"
        return (Milestone("transformer", 2017, "Attention is all you need", 4, run, takes),)


plugin = Act()
