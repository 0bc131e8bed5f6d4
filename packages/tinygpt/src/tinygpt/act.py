"""What Act VI adds to the command `tt`: the row of its module. Imports nothing heavy."""

from __future__ import annotations

from tt_core.hookspecs import hookimpl
from tt_core.journey import Module


class ActPlugin:
    """Answers the hooks that list the journey."""

    @hookimpl
    def tt_modules(self) -> list[Module]:
        return [Module(20, "capstone", 6, "build a complete system", "tinygpt.capstone")]


plugin = ActPlugin()
