"""Module 20, capstone: the command `tinygpt finetune`."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import click

from tinygpt.commands.options import NamesOptions, examples, field_options, path_option, run_argument, say
from tt_core.command.common import output_may_end, plugin_option, reported, threads_option
from tt_core.engine.errors import TinyTorchError
from tt_core.engine.plugins import use


def _options(command: Any) -> Any:
    from tinygpt.capstone.tuning import TuneConfig

    def meaning(field: dataclasses.Field[Any]) -> str:
        return f"{field.metadata.get('meaning', '')} [default: {field.default}]".lstrip()

    return field_options(TuneConfig, meaning)(command)


@click.command(
    "finetune",
    cls=NamesOptions,
    epilog=examples(
        "tinygpt finetune runs/my-run --data talks.jsonl --out runs/talks",
        "tinygpt finetune gpt2/ --data talks.jsonl --lora --lora-targets c_attn",
    ),
)
@run_argument
@click.option("--data", type=path_option, help="a text, or .jsonl: a prompt and a completion, or messages, a line")
@click.option("--out", type=path_option, help="the new folder [default: RUN-tuned]")
@click.option("--resume", type=path_option, metavar="TUNED", help="continue this fine-tuning")
@plugin_option
@threads_option
@_options
def command(
    run_folder: Path | None,
    data: Path | None,
    out: Path | None,
    resume: Path | None,
    plugins: tuple[str, ...],
    **changes: Any,
) -> None:
    """Train a model further on a text, on prompts with answers, or on conversations.

    RUN is a run folder, or a folder in Hugging Face's format (GPT-2's or Llama's family). Prompts are not trained,
    nor what anyone but the assistant says. The tokenizer keeps the chat template.
    """
    with use(*plugins, report=False), output_may_end(), reported():
        from tinygpt.capstone import finetune as job
        from tinygpt.capstone.tuning import TuneConfig
        from tt_language import load_tokenizer

        given = {name: value for name, value in changes.items() if value is not None}
        if resume is not None:
            if run_folder or data or out or set(given) - {"steps"}:
                raise TinyTorchError(
                    "--resume takes the run's own options; only --steps and --plugin can be given with it"
                )
            folder = job.resume(resume, given.get("steps"), say)
        elif data is None:
            raise TinyTorchError("give what to train on: --data FILE, a text or .jsonl")
        else:
            folder = job.start(run_folder, data, TuneConfig(**given), out, say)
        talks = load_tokenizer(folder.path).chat_template is not None
        say(f"{'talk with it: tinygpt chat' if talks else 'let it write: tinygpt generate'} {folder.path}")
