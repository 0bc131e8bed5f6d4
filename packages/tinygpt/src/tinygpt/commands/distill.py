"""Module 20, capstone: the command `tinygpt distill`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from tinygpt.capstone.presets import PRESETS, preset
from tinygpt.commands.options import NamesOptions, examples, path_option, run_argument, say
from tinygpt.commands.train import train_options
from tinygpt.distributed import world
from tt_core.command.common import output_may_end, plugin_option, reported, threads_option
from tt_core.engine.plugins import use


@click.command(
    "distill",
    cls=NamesOptions,
    epilog=examples(
        "tinygpt distill runs/teacher --n-layer 2 --n-embd 96 --n-head 2",
        "tinygpt distill runs/teacher --preset tiny --temperature 3 --steps 600",
    ),
)
@run_argument
@click.option("--preset", "name", metavar="NAME", help="the student: " + ", ".join(PRESETS) + " [default: tiny]")
@click.option("--temperature", type=float, default=2.0, show_default=True, help="above 1 shows how the teacher ranks")
@click.option("--alpha", type=float, default=0.5, show_default=True, help="the teacher's share of the loss")
@click.option("--corpus", type=path_option, help="a text file or a folder of them [default: the teacher's text]")
@click.option("--out", type=path_option, help="the student's folder [default: a dated one under runs/]")
@plugin_option
@threads_option
@train_options
def command(
    run_folder: Path | None,
    name: str | None,
    temperature: float,
    alpha: float,
    corpus: Path | None,
    out: Path | None,
    plugins: tuple[str, ...],
    **changes: Any,
) -> None:
    """Train a smaller model on what a larger one finds likely.

    RUN is the teacher: the student has its tokenizer, and learns from the text that it was trained on, or from
    --corpus. By default it is the newest run with a model; a folder in Hugging Face's format needs --corpus.
    """
    with use(*plugins, report=False), output_may_end(), reported(), world().ending_together():
        from tinygpt.capstone.compress import distill as job

        config = preset(name or "tiny", **changes)
        folder = job(run_folder, config, temperature, alpha, out, say, corpus)
        world().only_first(say)(f"let it write: tinygpt generate {folder.path}")
