"""Module 20, capstone: the command `tinygpt story`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from tinygpt.capstone.presets import PRESETS, preset
from tinygpt.commands.options import NamesOptions, examples, path_option, run_argument, say
from tinygpt.commands.train import train_options
from tt_core.command.common import output_may_end, plugin_option, reported, threads_option
from tt_core.engine.errors import TinyTorchError
from tt_core.engine.plugins import use


@click.command(
    "story",
    cls=NamesOptions,
    epilog=examples("tinygpt story runs/my-run", "tinygpt story --preset tiny --out story.html"),
)
@run_argument
@click.option("--preset", "name", metavar="NAME", help="train a new model: " + ", ".join(PRESETS))
@click.option("--corpus", type=path_option, help="the new model's text [default: Python's documentation]")
@click.option("--out", type=path_option, default=Path("story.html"), show_default=True, help="the page")
@plugin_option
@threads_option
@train_options
def command(
    run_folder: Path | None,
    name: str | None,
    corpus: Path | None,
    out: Path,
    plugins: tuple[str, ...],
    **changes: Any,
) -> None:
    """Train, profile, shrink and compare a model; write the report as a page.

    With RUN, the story is that of a model that is trained already. The page is one file that a browser opens.
    """
    trains = name is not None or corpus is not None or any(value is not None for value in changes.values())
    if run_folder is not None and trains:
        raise TinyTorchError("a run is trained already; give either a run or options of a training")
    with use(*plugins, report=False), output_may_end(), reported():
        from tinygpt.capstone.story import story as job

        config = None if run_folder is not None else preset(name or "docs", **changes)
        job(run_folder, config, corpus, out, say)
