from __future__ import annotations

import sys
from pathlib import Path

import pytest

import tt_core

# Worker processes import the datasets that tests define: by name, from a folder on sys.path, which spawn passes on.
sys.path.append(str(Path(__file__).parent / "cases"))


@pytest.fixture(autouse=True)
def _seeded():
    tt_core.manual_seed(0)


@pytest.fixture(autouse=True)
def _own_data_home(tmp_path, monkeypatch):
    """No test reads or writes the user's own datasets."""
    monkeypatch.setenv("TT_DATA_HOME", str(tmp_path / "data-home"))
