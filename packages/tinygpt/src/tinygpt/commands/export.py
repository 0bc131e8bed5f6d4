"""Module 20, capstone: the command `tinygpt export`."""

from __future__ import annotations

from pathlib import Path

import click

from tinygpt.commands.options import NamesOptions, examples, path_option, run_argument, say
from tt_core.command.common import plugin_option, reported, threads_option
from tt_core.engine.plugins import use


@click.command(
    "export",
    cls=NamesOptions,
    epilog=examples(
        "tinygpt export runs/my-run --format onnx",
        "tinygpt export runs/my-run --format gguf --dtype float16 --out gguf/",
    ),
)
@run_argument
@click.option("--format", "form", type=click.Choice(["onnx", "hf", "gguf"]), default="onnx", show_default=True)
@click.option(
    "--dtype", type=click.Choice(["float32", "float16"]), default="float32", show_default=True, help="of gguf"
)
@click.option("--out", type=path_option, help="the new folder [default: RUN-onnx, RUN-hf or RUN-gguf]")
@plugin_option
@threads_option
def command(run_folder: Path | None, form: str, dtype: str, out: Path | None, plugins: tuple[str, ...]) -> None:
    """Write a model in another program's format: ONNX, Hugging Face's, GGUF.

    ONNX has dynamic batch, length and past, and is checked with onnxruntime if that is installed. A folder in Hugging
    Face's format is loaded by transformers, a GGUF file by llama.cpp. An adapter is merged first. ONNX and GGUF need:
    pip install 'tinygpt[export]'
    """
    with use(*plugins, report=False), reported():
        from tinygpt.export.job import export as job

        job(run_folder, form, out, dtype, say)
