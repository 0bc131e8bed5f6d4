"""The command `tinygpt`: train, generate, info, quantize, shrink. Heavy imports wait until a command needs them."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import click

from tinygpt.capstone.presets import PRESETS, TrainConfig, preset
from tt_core.command.common import PathOption, output_may_end, plugin_option, reported, run
from tt_core.engine.errors import TinyTorchError
from tt_core.engine.plugins import use

Command = Callable[..., Any]


def train_options(command: Command) -> Command:
    """One option for each field of TrainConfig, so that a preset can be changed at any point."""
    for field in reversed(dataclasses.fields(TrainConfig)):
        kind = {"str": str, "int": int, "float": float, "bool": bool}[str(field.type)]
        name = "--" + field.name.replace("_", "-")
        declared = f"{name}/--no-{name[2:]}" if kind is bool else name
        command = click.option(declared, field.name, type=kind, default=None, help=meaning(field))(command)
    return command


def meaning(field: dataclasses.Field[Any]) -> str:
    """What an option takes, where its name does not say so, and what it is in the presets."""
    values = {name: getattr(config, field.name) for name, config in PRESETS.items()}
    same = len(set(values.values())) == 1
    known = f"default: {field.default}" if same else ", ".join(f"{name}: {value}" for name, value in values.items())
    return f"{field.metadata.get('meaning', '')} [{known}]".lstrip()


path_option = PathOption()

OTHER_NAMES = {
    "--batch": "--batch-size", "--context": "--block-size", "--ctx": "--block-size", "--data": "--corpus",
    "--data-dir": "--corpus", "--dataset": "--corpus", "--dim": "--n-embd", "--embd": "--n-embd",
    "--epochs": "--steps", "--eval-every": "--eval-interval", "--heads": "--n-head", "--input": "--corpus",
    "--iters": "--steps", "--layers": "--n-layer", "--length": "--max-new-tokens", "--lr": "--learning-rate",
    "--max-iters": "--steps", "--max-seq-len": "--block-size", "--max-steps": "--steps",
    "--max-tokens": "--max-new-tokens", "--min-learning-rate": "--min-lr", "--num-layers": "--n-layer",
    "--out-dir": "--out", "--output": "--out", "--seq-len": "--block-size", "--temp": "--temperature",
    "--prompt-cache-file": "--prompt-cache", "--text": "--prompt", "--tokens": "--max-new-tokens",
    "--wd": "--weight-decay",
}  # fmt: skip
"""What other programs call an option of ours."""


class NamesOptions(click.Command):
    """A command that answers another program's name of an option with its own."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """As click does, which knows near spellings alone."""
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            meant = OTHER_NAMES.get(error.option_name)
            if meant is not None and any(meant in parameter.opts for parameter in self.params):
                raise click.UsageError(f"No such option {error.option_name}; here it is {meant}", ctx) from None
            raise


def say(line: str) -> None:
    """Print a line at once; unlike `click.echo`, above the progress bar, which takes what is printed meanwhile."""
    print(line, flush=True)


def with_hyphens(name: str) -> str:
    """nanoGPT's `--batch_size` is `--batch-size` too."""
    return name.replace("_", "-")


@click.group(context_settings={"help_option_names": ["-h", "--help"], "token_normalize_func": with_hyphens})
@click.version_option(package_name="tinygpt")
def cli() -> None:
    """Train a small GPT and let it write, on the CPU, in minutes."""


@cli.command(cls=NamesOptions)
@click.option("--preset", "name", metavar="NAME", help=", ".join(PRESETS) + " [default: docs]")
@click.option("--corpus", type=path_option, help="a text file or a folder of them [default: Python's documentation]")
@click.option("--out", type=path_option, help="the run's folder [default: a dated one under runs/]")
@click.option("--resume", type=path_option, metavar="RUN", help="go on with this run")
@plugin_option
@train_options
def train(
    name: str | None,
    corpus: Path | None,
    out: Path | None,
    resume: Path | None,
    plugins: tuple[str, ...],
    **changes: Any,
) -> None:
    """Train on a text and write a run folder."""
    config = preset(name or "docs", **changes)
    with use(*plugins, report=False), output_may_end(), reported():
        from tinygpt.capstone import train as job

        if resume is None:
            folder = job.start(config, corpus, out, say)
        else:
            given = [key for key, value in changes.items() if value is not None and key != "steps"]
            if given or name or corpus or out:
                raise TinyTorchError(
                    "--resume takes the run's own options; only --steps and --plugin can be given with it"
                )
            folder = job.resume(resume, changes["steps"], say)
        say(f"let it write: tinygpt generate {folder.path}")


@cli.command(cls=NamesOptions)
@click.argument("run_folder", metavar="[RUN]", required=False, type=path_option)
@click.option("--prompt", default="\n", help="text to continue")
@click.option("--max-new-tokens", default=200, show_default=True, type=click.IntRange(min=1))
@click.option("--temperature", default=0.8, show_default=True, type=float, help="0 takes the likeliest token")
@click.option("--top-k", type=int, help="choose among the k likeliest tokens")
@click.option("--top-p", type=float, help="choose among the likeliest tokens of this total probability")
@click.option("--repetition-penalty", default=1.0, show_default=True, type=float)
@click.option("--stop", multiple=True, help="end at this text")
@click.option("--seed", type=click.IntRange(min=0), help="write the same again")
@click.option(
    "--prompt-cache", type=path_option, metavar="FILE", help="keep what was read here, to go on from it later"
)
@plugin_option
def generate(
    run_folder: Path | None, prompt: str, plugins: tuple[str, ...], prompt_cache: Path | None, **options: Any
) -> None:
    """Continue a prompt with a trained model (RUN: a run folder, the newest one with a model by default)."""
    with use(*plugins, report=False), reported():
        from tinygpt.capstone.capstone import TinyGPT
        from tt_perf.memoization import prompt_cached

        gpt = TinyGPT.load(run_folder)
        with nullcontext() if prompt_cache is None else prompt_cached(prompt_cache, gpt.model):
            pieces = gpt.generate(prompt, **options)
            click.echo(prompt.lstrip("\n"), nl=False)
            for text in pieces:
                click.echo(text, nl=False)  # which flushes: the text appears as it comes
            click.echo()


@cli.command()
@click.argument("run_folder", metavar="[RUN]", required=False, type=path_option)
def info(run_folder: Path | None) -> None:
    """Say what a run holds: model, options, last figures."""
    from tinygpt.runs import RunFolder

    folder = RunFolder.open(run_folder)
    config = folder.read_config()
    parts = {"model": config} if "model_type" in config else config  # in Hugging Face's format, all is of the model
    click.echo(f"run: {folder.path}")
    for part in ("model", "training", "corpus", "versions"):
        entries = parts.get(part, {})
        if not isinstance(entries, dict):
            raise TinyTorchError(f"{folder.config} is damaged: {part} is no object")
        told = ", ".join(f"{name}={value}" for name, value in entries.items() if value is not None)
        click.echo(f"{part}: {told or 'unknown'}")
    click.echo(f"last figures: {folder.last_figures() or 'none'}")


@cli.command(cls=NamesOptions)
@click.argument("run_folder", metavar="[RUN]", required=False, type=path_option)
@click.option("--int8", "bits", flag_value=8, type=int, default=8, help="8 bits, a quarter of the bytes [default]")
@click.option("--int4", "bits", flag_value=4, type=int, help="4 bits, a seventh of the bytes")
@click.option("--group-size", type=int, help="weights that share a scale, for --int4: 32, 64 or 128 [default: 64]")
@click.option("--out", type=path_option, help="the new folder [default: RUN-int8 or RUN-int4]")
@plugin_option
def quantize(
    run_folder: Path | None, bits: int, group_size: int | None, out: Path | None, plugins: tuple[str, ...]
) -> None:
    """Store a model's weights as small integers in a new folder; prints bytes, error and time."""
    with use(*plugins, report=False), reported():
        from tinygpt.capstone.compress import quantize as job

        say(f"let it write: tinygpt generate {job(run_folder, bits, group_size, out, say).path}")


share = click.FloatRange(0, 1, max_open=True)


@cli.command(cls=NamesOptions)
@click.argument("run_folder", metavar="[RUN]", required=False, type=path_option)
@click.option("--neurons", type=share, default=0.5, show_default=True, help="share of the MLPs' neurons to remove")
@click.option("--heads", type=share, default=0.0, show_default=True, help="share of the attention heads to remove")
@click.option("--out", type=path_option, help="the new folder [default: RUN-shrunk]")
@plugin_option
def shrink(run_folder: Path | None, neurons: float, heads: float, out: Path | None, plugins: tuple[str, ...]) -> None:
    """Remove a model's least important neurons and heads in a new folder; prints bytes and time."""
    amounts = {kind: amount for kind, amount in (("neurons", neurons), ("heads", heads)) if amount}
    if not amounts:
        raise TinyTorchError("nothing to remove: give --neurons or --heads a share above 0")
    with use(*plugins, report=False), reported():
        from tinygpt.capstone.compress import shrink as job

        say(f"let it write: tinygpt generate {job(run_folder, amounts, out, say).path}")


def main(arguments: list[str] | None = None) -> int:
    """The command `tinygpt`."""
    return run(cli, "tinygpt", arguments)


if __name__ == "__main__":
    sys.exit(main())
