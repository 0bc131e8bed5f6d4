"""What Act IV brings to the command `tt`: its rows of the journey and its milestone. Imports nothing heavy."""

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
            Module(10, "tokenization", 4, "process text", "tt_language.tokenization"),
            Module(11, "embeddings", 4, "create embeddings", "tt_language.embeddings"),
            Module(12, "attention", 4, "pay attention", "tt_language.attention"),
            Module(13, "transformers", 4, "build transformers", "tt_language.transformers"),
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
