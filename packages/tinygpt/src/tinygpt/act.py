"""What Act VI adds to the command `tt`: the row of its module. Imports nothing heavy."""

from __future__ import annotations

from tt_core.command.journey import Module
from tt_core.engine.hookspecs import hookimpl


class ActPlugin:
    """Answers the hooks that list the journey."""

    @hookimpl
    def tt_modules(self) -> list[Module]:
        return [
            Module(
                20,
                "capstone",
                6,
                "build a complete system",
                "tinygpt.capstone",
                "TinyGPT: tokenize, train, quantize, prune, generate, serve",
                "simple parts interact in ways that surprise",
                "everything is there; now it becomes one system",
            )
        ]


plugin = ActPlugin()
