"""Act VI, Integration: a small GPT, trained and sampled from the command line on all five acts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tinygpt.__about__ import __version__ as __version__

if TYPE_CHECKING:
    from tinygpt.capstone.capstone import TinyGPT as TinyGPT


def __getattr__(name: str) -> Any:
    """`tinygpt.TinyGPT` is imported when it is asked for, so that the command's help stays quick."""
    if name == "TinyGPT":
        from tinygpt.capstone.capstone import TinyGPT

        return TinyGPT
    from tt_core.engine.later import absent

    return absent("tinygpt")(name)
