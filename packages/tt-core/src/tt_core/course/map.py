"""The command `tt journey`: acts, modules and milestones of what is installed, with the learner's progress."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

import click

from tt_core.command.common import examples
from tt_core.command.journey import ACTS, TIERS, Milestone, Module
from tt_core.course.commands import installed
from tt_core.course.commands import milestones as installed_milestones
from tt_core.course.exercises import count_of
from tt_core.course.folder import Workspace
from tt_core.engine.errors import TinyTorchError

CHECKPOINT_0 = "set up my environment"
"""The capability of checkpoint 00, which `tt doctor` answers."""


@click.command(epilog=examples("tt journey", "tt journey --act 2"))
@click.option("--act", type=click.IntRange(1, 6), help="show one act")
@click.option("--tier", type=click.Choice([tier.lower() for tier in TIERS], case_sensitive=False), help="show one tier")
@click.option("--milestones", is_flag=True, help="show the milestones alone")
@click.option("--checkpoints", is_flag=True, help="show the capabilities as questions, with your answers")
@click.option("--json", "as_json", is_flag=True, help="print everything as JSON")
def journey(act: int | None, tier: str | None, milestones: bool, checkpoints: bool, as_json: bool) -> None:
    """Show the acts and modules, and your progress.

    Lists what is installed, with the milestones, and the next act.
    """
    modules = [m for m in installed() if (act or m.act) == m.act and (tier or m.tier).lower() == m.tier.lower()]
    moments = [m for m in installed_milestones() if (act or m.act) == m.act]
    progress = Progress()
    if as_json:
        click.echo(json.dumps(as_data(modules, moments, progress), indent=1))
    elif checkpoints:
        show_checkpoints(modules, progress)
    elif milestones:
        show_milestones(moments, progress)
    else:
        show_modules(modules, progress, details=act is not None or tier is not None)
        if tier is None:
            show_milestones(moments, progress)
        if act is None and tier is None:
            show_next_act()


class Progress:
    """What the workspace around the current folder knows; without one, nothing has passed."""

    def __init__(self) -> None:
        try:
            self.workspace: Workspace | None = Workspace.find()
        except TinyTorchError:
            self.workspace = None

    def passed(self, module: Module) -> int:
        """How many exercises of a module passed with the learner's code."""
        return len(self.workspace.passed(module)) if self.workspace else 0

    def reached(self, milestone: Milestone) -> bool:
        """Whether the milestone was reached on the learner's code."""
        return bool(self.workspace and self.workspace.progress.get("milestones", {}).get(milestone.name))


def show_modules(modules: list[Module], progress: Progress, details: bool) -> None:
    """The modules of each act, with its hours and what changes with it."""
    for act in ACTS:
        rows = [module for module in modules if module.act == act.number]
        if not rows:
            continue
        click.echo(click.style(f"Act {act.name}", bold=True) + f"  {act.hours} hours: {act.shift}")
        for module in rows:
            total = count_of(module) if progress.workspace else 0
            done = f"{progress.passed(module)}/{total}" if total else ""
            click.echo(f"  {module.number:02} {module.name:<13} {done:>5}  {module.builds}")
            if details:
                click.echo(f"{'':25}why now: {module.why}")
                click.echo(f"{'':25}it leaves: {module.insight}")
                click.echo(f"{'':25}read it in: {module.path}")
        click.echo()


def show_milestones(milestones: list[Milestone], progress: Progress) -> None:
    """A line for each milestone."""
    if milestones:
        click.echo(click.style("Milestones", bold=True) + "  run them with: tt milestone NAME")
    for milestone in milestones:
        mark = "reached" if progress.reached(milestone) else ""
        click.echo(f"  {milestone.year} {milestone.name:<12} {mark:>8}  {milestone.title}")
    click.echo()


def show_checkpoints(modules: list[Module], progress: Progress) -> None:
    """A question for each module, answered by its checks."""
    click.echo(f"00 Can I {CHECKPOINT_0}?  measured by: tt doctor")
    for module in modules:
        total, passed = count_of(module), progress.passed(module)
        answer = "yes" if total and passed == total else f"{passed} of {total} exercises" if total else "no exercises"
        click.echo(f"{module.number:02} Can I {module.capability}?  {answer}")


def show_next_act() -> None:
    """Name the first act that is not installed."""
    last = max((module.act for module in installed()), default=0)
    if last < len(ACTS):
        following = ACTS[last]
        click.echo(f"next: Act {following.name}, {following.shift}: pip install {following.package}")


def as_data(modules: list[Module], milestones: list[Milestone], progress: Progress) -> dict[str, Any]:
    """The journey as plain data."""
    return {
        "acts": [asdict(act) for act in ACTS],
        "modules": [
            asdict(module) | {"tier": module.tier, "passed": progress.passed(module), "exercises": count_of(module)}
            for module in modules
        ],
        "milestones": [
            {"name": m.name, "year": m.year, "title": m.title, "act": m.act, "reached": progress.reached(m)}
            for m in milestones
        ],
    }
