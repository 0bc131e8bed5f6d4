"""Scripts in the manner of public teaching code run under PyTorch and, with only their imports changed, under ours.

Each defines `make_model()` and `train(model)`, which returns losses. Both start from the same weights, so that the
losses agree.
"""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import tt_core as tt

torch = pytest.importorskip("torch", reason="parity needs PyTorch: pip install torch")

SCRIPTS = sorted((Path(__file__).parent / "scripts").glob("*.py"))
IMPORTS = (
    (r"^import torch$", "import tt_core as torch\nimport tt_learn"),
    (r"^from torch\.optim\.lr_scheduler import", "from tt_learn.optim.lr_scheduler import"),
    (r"^import torch\.optim as", "import tt_learn.optim as"),
    (r"^(import|from) torch\.(nn|distributions)", r"\1 tt_core.\2"),
    (r"^from torch import nn$", "from tt_core import nn"),
)
"""What somebody who moves a script to this framework changes."""


def load(path: Path, source: str, folder: Path) -> ModuleType:
    copy = folder / path.name
    copy.write_text(source, encoding="utf-8")
    spec = importlib.util.spec_from_file_location(path.stem, copy)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def ported(source: str) -> str:
    for pattern, replacement in IMPORTS:
        source = re.sub(pattern, replacement, source, flags=re.MULTILINE)
    assert not re.search(r"^(import|from) torch", source, re.MULTILINE)
    return source


def same_start(model: Any, theirs: Any) -> Any:
    """Our model, or list of tensors, with the values of PyTorch's."""
    if isinstance(theirs, torch.nn.Module):
        model.load_state_dict({name: value.numpy() for name, value in theirs.state_dict().items()})
        return model
    if isinstance(theirs, list):
        return [same_start(*pair) for pair in zip(model, theirs)]
    if theirs is None:
        return None
    assert model.shape == tuple(theirs.shape)
    return tt.tensor(theirs.numpy())


def test_there_are_at_least_ten() -> None:
    assert len(SCRIPTS) >= 10


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_a_script_trains_as_under_pytorch(path: Path, tmp_path: Path) -> None:
    source = path.read_text(encoding="utf-8")
    for name in ("ours", "theirs"):
        (tmp_path / name).mkdir()
    ours, theirs = load(path, ported(source), tmp_path / "ours"), load(path, source, tmp_path / "theirs")
    model, reference = ours.make_model(), theirs.make_model()
    model = same_start(model, reference)
    losses, expected = ours.train(model), theirs.train(reference)
    assert len(losses) == len(expected) >= 40
    np.testing.assert_allclose(losses, expected, rtol=2e-3, atol=2e-4)
