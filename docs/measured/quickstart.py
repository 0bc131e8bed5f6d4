"""Numbers of the quick start."""

from __future__ import annotations

import re
from pathlib import Path

from measured import number


def program() -> str:
    """The program of the page, as it stands there."""
    page = (Path(__file__).parents[1] / "quickstart.md").read_text(encoding="utf-8")
    return re.findall(r"```python\n(import .*?)```", page, re.DOTALL)[0]


@number(0, 0.01, ".1g")
def quickstart_loss() -> float:
    """The loss at the end of the page's program, which is run."""
    names: dict[str, object] = {}
    exec(compile(program(), "xor.py", "exec"), names)  # noqa: S102 - the page's own program
    return float(names["loss"].item())  # type: ignore[attr-defined]


@number(4, 12, ".0f")
def exercises_of_02() -> float:
    """How many exercises module 02 has."""
    from tt_core.exercises.activations import EXERCISES

    return len(EXERCISES)
