"""Numbers of the quick start."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from measured import number


def run_page(name: str) -> dict[str, object]:
    """Run the first program of a page; its names."""
    page = (Path(__file__).parents[1] / name).read_text(encoding="utf-8")
    source = re.findall(r"```python\n(import .*?)```", page, re.DOTALL)[0]
    names: dict[str, object] = {"__name__": name}
    exec(compile(source, name, "exec"), names)  # noqa: S102 - the page's own program
    return names


@number(0, 0.01, ".1g")
def quickstart_loss() -> float:
    """The loss at the end of the page's program, which is run."""
    loss: Any = run_page("quickstart.md")["loss"]
    return float(loss.item())


@number(4, 12, ".0f")
def exercises_of_02() -> float:
    """How many exercises module 02 has."""
    from tt_core.exercises.activations import EXERCISES

    return len(EXERCISES)


@number(131, 131, ".0f")
def from_pytorch_parameters() -> float:
    """The parameters of the page's model: (4 + 1) * 16 + (16 + 1) * 3."""
    model: Any = run_page("from-pytorch.md")["model"]
    return float(model.num_parameters())


@number(7, 400, ".0f")
def exercises_in_all() -> float:
    """How many exercises the installed acts have."""
    from tt_core.course.commands import installed
    from tt_core.course.exercises import exercises_of

    return sum(len(exercises_of(module)) for module in installed())
