"""Module 20, capstone: the command `tinygpt chat`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from tinygpt.commands.options import NamesOptions, examples, run_argument, sampling_options
from tt_core.command.common import plugin_option, reported, threads_option
from tt_core.engine.plugins import use


@click.command(
    "chat",
    cls=NamesOptions,
    epilog=examples("tinygpt chat runs/talks --plugin kv-cache", "echo 'Hello!' | tinygpt chat runs/talks --seed 1"),
)
@run_argument
@click.option("--system", help="instructions to the model before the conversation")
@sampling_options
@plugin_option
@threads_option
def command(run_folder: Path | None, system: str | None, plugins: tuple[str, ...], **options: Any) -> None:
    """Talk with a model that was trained on conversations.

    Each line is a message. /reset begins a new conversation, /exit or the end of the input ends the program, Ctrl-C
    ends an answer. In a pipe, each line of the input is answered by a line of output or more.

    RUN is a run folder, or a folder in Hugging Face's format; by default the newest run with a model.
    """
    with use(*plugins, report=False), reported():
        from tinygpt.capstone.capstone import TinyGPT
        from tinygpt.capstone.talk import talk

        talk(TinyGPT.load(run_folder), system, options)
