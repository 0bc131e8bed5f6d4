"""Module 20, capstone: the command `tinygpt train`."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import click

from tinygpt.capstone.presets import PRESETS, TrainConfig, preset, read_options
from tinygpt.commands.options import NamesOptions, examples, field_options, path_option, say
from tinygpt.distributed import world
from tt_core.command.common import output_may_end, plugin_option, reported, threads_option
from tt_core.engine.errors import TinyTorchError
from tt_core.engine.plugins import use


def meaning(field: dataclasses.Field[Any]) -> str:
    """The meaning of an option, if its name does not show it, and its values in the presets."""
    values = {name: getattr(config, field.name) for name, config in PRESETS.items()}
    same = len(set(values.values())) == 1
    known = f"default: {field.default}" if same else ", ".join(f"{name}: {value}" for name, value in values.items())
    return f"{field.metadata.get('meaning', '')} [{known}]".lstrip()


train_options = field_options(TrainConfig, meaning)
"""One option for each field of TrainConfig, so that a preset can be changed at any point."""


@click.command(
    "train",
    cls=NamesOptions,
    epilog=examples(
        "tinygpt train --depth 4 --out runs/four", "tinygpt train --preset nanogpt-cpu --corpus input.txt --plugin jit"
    ),
)
@click.option("--preset", "name", metavar="NAME", help=", ".join(PRESETS) + " [default: docs]")
@click.option("--depth", type=int, help="layers; width, heads, learning rate and steps follow from it")
@click.option("--config", "file", type=path_option, metavar="FILE.toml", help="options by name; those given here win")
@click.option("--corpus", type=path_option, help="a text file or a folder of them [default: Python's documentation]")
@click.option("--out", type=path_option, help="the run's folder [default: a dated one under runs/]")
@click.option("--resume", type=path_option, metavar="RUN", help="continue this run")
@plugin_option
@threads_option
@train_options
def command(
    name: str | None,
    depth: int | None,
    file: Path | None,
    corpus: Path | None,
    out: Path | None,
    resume: Path | None,
    plugins: tuple[str, ...],
    **changes: Any,
) -> None:
    """Train on a text and write a run folder."""
    with use(*plugins, report=False), output_may_end(), reported(), world().ending_together():
        from tinygpt.capstone import resuming
        from tinygpt.capstone import train as job

        if resume is None:
            written = {} if file is None else read_options(file)
            given = {"preset": name, "depth": depth, "corpus": corpus, **changes}
            options = written | {key: value for key, value in given.items() if value is not None}
            text = options.pop("corpus", None)
            folder = job.start(preset(options.pop("preset", "docs"), **options), text and Path(text), out, say)
        else:
            changed = [key for key, value in changes.items() if value is not None and key != "steps"]
            if changed or name or depth or file or corpus or out:
                raise TinyTorchError(
                    "--resume takes the run's own options; only --steps, --plugin and --threads can be given with it"
                )
            folder = resuming.resume(resume, changes["steps"], say)
        world().only_first(say)(f"let it write: tinygpt generate {folder.path}")
