"""The page on views and copies says what the code does, and so do the docstrings."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest

from tt_core import Tensor
from tt_core.tensor import memory_table

PAGE = Path(__file__).parents[3] / "docs" / "views.md"
SHARED = {row.code: memory_table.shares_memory(row) for row in memory_table.ROWS}


def test_both_kinds_are_found() -> None:
    assert SHARED["x.view(6, 4)"]
    assert not SHARED["x.clone()"]


def test_the_page_is_what_the_code_does() -> None:
    if not PAGE.exists():
        pytest.skip("the page is part of the repository, not of the package")
    assert PAGE.read_text(encoding="utf-8") == memory_table.table(), (
        "run python -m tt_core.tensor.memory_table > docs/views.md"
    )


@pytest.mark.parametrize(
    "name",
    [name for name, member in vars(Tensor).items() if re.search(r"\bviews?\.", inspect.getdoc(member) or "")],
)
def test_what_is_documented_as_a_view_is_one(name: str) -> None:
    rows = [shared for code, shared in SHARED.items() if code.split("(")[0].endswith(f".{name}") or f".{name}(" in code]
    assert rows, f"{name} is missing from the table"
    assert all(rows)
