"""`tt plugins check` reaches the backward ops, whatever the plugin imports."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

PLUGIN = """
import tt_core


class Mine:
    @tt_core.hookimpl
    def tt_kernel(self, op):
        return {"sigmoid_backward": lambda g, out, /: g * out * (1 - out)}.get(op.name)


plugin = Mine()
"""
CHECK = """
import sys
from importlib.metadata import EntryPoint

from tt_core.command import cli
from tt_core.engine import plugins

plugins._entries["mine"] = EntryPoint("mine", "mine:plugin", "tinytorch")
sys.exit(cli.main(["plugins", "check", "mine"]))
"""


def test_a_kernel_of_a_backward_op_is_compared(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(PLUGIN, encoding="utf-8")
    env = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", CHECK], env=env, capture_output=True, encoding="utf-8")
    (row,) = done.stdout.splitlines()
    assert row.startswith("sigmoid_backward "), done.stderr
    assert " calls " in row or "DIFFERS" in row
