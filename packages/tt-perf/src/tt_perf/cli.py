"""What Act V adds to the command `tt`: the rows of its modules. Imports nothing heavy."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tt_core.hookspecs import hookimpl
from tt_core.journey import Module

if TYPE_CHECKING:
    from tt_core.samples import Samples


class ActPlugin:
    """Answers the hooks that list the journey."""

    @hookimpl
    def tt_modules(self) -> list[Module]:
        return [
            Module(14, "profiling", 5, "find where time and memory go", "tt_perf.profiling"),
            Module(15, "quantization", 5, "store weights as small integers", "tt_perf.quantization"),
            Module(16, "compression", 5, "remove what a model does not need", "tt_perf.compression"),
            Module(17, "memoization", 5, "cache what was computed", "tt_perf.memoization"),
            Module(18, "acceleration", 5, "compile loops to vector instructions", "tt_perf.acceleration"),
        ]

    @hookimpl
    def tt_samples(self) -> dict[str, Samples]:
        from tt_perf.samples import SAMPLES

        return SAMPLES


plugin = ActPlugin()
