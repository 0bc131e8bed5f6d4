"""The certificate at the end of the journey: a page as SVG that says what a learner's own code does."""

from __future__ import annotations

import html
from collections.abc import Sequence
from pathlib import Path

import click

from tt_core.command.common import PathOption, examples
from tt_core.command.journey import Milestone, Module
from tt_core.course.commands import installed, milestones
from tt_core.course.exercises import count_of
from tt_core.course.folder import Workspace, key
from tt_core.engine.files import write_atomic


@click.command(epilog=examples("tt certificate", "tt certificate --name 'Ada Lovelace' --out ada.svg"))
@click.option("--name", default="", help="your name, as it shall stand on the page")
@click.option("--out", type=PathOption(), default=Path("certificate.svg"), show_default=True)
def certificate(name: str, out: Path) -> None:
    """Write a page (SVG) with what you have reached.

    It lists the modules that pass on your code, and the milestones that ran on it.
    """
    workspace = Workspace.find()
    write_atomic(out, page(name, workspace, installed(), milestones()).encode())
    click.echo(f"wrote {out}")


def page(name: str, workspace: Workspace, modules: Sequence[Module], moments: Sequence[Milestone]) -> str:
    """The page: passed modules in black, the others pale."""
    rows, y = [], 190
    for module in modules:
        total, passed = count_of(module), len(workspace.passed(module))
        done = bool(total) and passed == total
        told = f"{passed} of {total} exercises" if total else ""
        rows.append(_line(y, done, f"{key(module)}  {module.name}", f"I can {module.capability}", told))
        y += 26
    y += 20
    reached = workspace.progress.get("milestones", {})
    for milestone in moments:
        rows.append(_line(y, milestone.name in reached, str(milestone.year), milestone.title[:60], ""))
        y += 26
    heading = html.escape(name) or "A learner"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 800 {y + 50}" font-family="Georgia, serif">'
        f'<rect width="100%" height="100%" fill="#fffdf7"/>'
        f'<rect x="16" y="16" width="768" height="{y + 18}" fill="none" stroke="#b08d57" stroke-width="3"/>'
        f'<text x="400" y="80" font-size="34" text-anchor="middle">{heading}</text>'
        f'<text x="400" y="120" font-size="18" text-anchor="middle" fill="#555">'
        f"built a deep-learning framework, module by module</text>{''.join(rows)}</svg>\n"
    )


def _line(y: int, done: bool, first: str, second: str, third: str) -> str:
    color = "#1a1a1a" if done else "#b5b0a5"
    cells = ((100, first), (270, second), (620, third))
    texts = "".join(f'<tspan x="{x}">{html.escape(text)}</tspan>' for x, text in cells)
    mark = f'<path d="M70 {y - 5} l5 5 l9 -11" fill="none" stroke="#3a7d44" stroke-width="2.5"/>' if done else ""
    return f'{mark}<text y="{y}" font-size="15" fill="{color}">{texts}</text>'
