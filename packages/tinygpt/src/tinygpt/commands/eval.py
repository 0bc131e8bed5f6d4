"""Module 20, capstone: the command `tinygpt eval`."""

from __future__ import annotations

from pathlib import Path

import click

from tinygpt.commands.options import NamesOptions, examples, path_option, print_json, run_argument
from tt_core.command.common import plugin_option, reported, threads_option
from tt_core.engine.errors import TinyTorchError
from tt_core.engine.plugins import use


@click.command(
    "eval",
    cls=NamesOptions,
    epilog=examples("tinygpt eval runs/my-run --data book.txt", "tinygpt eval gpt2/ --data talks.jsonl --json"),
)
@run_argument
@click.option("--data", type=path_option, help="a text or a folder of texts; of .jsonl, the answers are scored")
@click.option("--stride", type=int, help="from one window to the next; smaller gives more context [default: all of it]")
@click.option("--batch-size", default=8, show_default=True, type=click.IntRange(1, 4096))
@click.option("--json", "as_json", is_flag=True, help="one object: loss, perplexity, bits_per_byte, tokens, bytes")
@plugin_option
@threads_option
def command(
    run_folder: Path | None,
    data: Path | None,
    stride: int | None,
    batch_size: int,
    as_json: bool,
    plugins: tuple[str, ...],
) -> None:
    """Say how well a model predicts a text: loss, perplexity, bits per byte.

    Loss and perplexity are per token; bits per byte compare models of different tokenizers. RUN
    is a run folder, or a folder in Hugging Face's format; by default the newest run with a model.
    """
    with use(*plugins, report=False), reported():
        from tinygpt.capstone.capstone import TinyGPT
        from tinygpt.capstone.evaluate import evaluate
        from tinygpt.runs import RunFolder

        if data is None:
            raise TinyTorchError("give what to predict: --data FILE, a text or .jsonl")
        folder = RunFolder.open(run_folder, with_model=True)
        score = evaluate(TinyGPT.load(folder.path), data, stride, batch_size)
        if as_json:
            print_json(score.to_dict())
            return
        click.echo(f"model: {folder.path}")
        click.echo(f"loss {score.loss:.4f} nats a token over {score.tokens:,} tokens ({score.bytes:,} bytes)")
        click.echo(f"perplexity {score.perplexity:,.4g}, {score.bits_per_byte:.4f} bits per byte")
