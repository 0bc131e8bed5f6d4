"""Checks a module each time its file is saved. Needs `watchfiles` (`pip install watchfiles`)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from tt_core.command.journey import Module
from tt_core.course.folder import Workspace
from tt_core.engine.errors import TinyTorchError


def watch(workspace: Workspace, module: Module, check: Callable[..., Any]) -> None:
    """Check now and after each change, until Ctrl-C."""
    try:
        from watchfiles import watch as changes
    except ImportError:
        raise TinyTorchError("tt watch needs the package watchfiles: pip install watchfiles") from None
    if not workspace.state(module):
        raise TinyTorchError(f"module {module.number:02} is not in the workspace yet: tt start {module.number:02}")
    _once(workspace, module, check)
    for _ in changes(workspace.folder(module), debounce=300, step=50, raise_interrupt=True):
        click.clear()
        _once(workspace, module, check)


def _once(workspace: Workspace, module: Module, check: Callable[..., Any]) -> None:
    try:
        check(workspace, module, stop=True)
    except TinyTorchError as error:
        click.echo(f"FAIL  {error}")
    click.echo("waiting for a change; Ctrl-C ends")
