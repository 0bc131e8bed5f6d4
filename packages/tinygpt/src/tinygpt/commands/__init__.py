"""Module 20, capstone: the commands of `tinygpt`, a file each, which is imported when its command is called.

To add a command, write `commands/NAME.py` with a click command called `command`, and add its name here with the first
line of its help. `tinygpt --help` prints these lines without importing anything, so it stays quick.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator, MutableMapping

import click

SUMMARIES = {
    "train": "Train on a text and write a run folder.",
    "finetune": "Train a model further on a text, on prompts with answers, or on conversations.",
    "merge": "Put a LoRA adapter into the weights of its model.",
    "generate": "Continue a prompt with a trained model.",
    "chat": "Talk with a model that was trained on conversations.",
    "eval": "Say how well a model predicts a text: loss, perplexity, bits per byte.",
    "export": "Write a model in another program's format: ONNX, Hugging Face's, GGUF.",
    "serve": "Answer requests in OpenAI's form, and show a page.",
    "info": "Say what a run holds: model, options, size, last figures.",
    "quantize": "Store a model's weights as small integers in a new folder.",
    "shrink": "Remove a model's least important neurons and heads.",
    "prune": "Set a model's least important weights to zero.",
    "distill": "Train a smaller model on what a larger one finds likely.",
    "bench": "Measure how fast a model reads and writes.",
    "story": "Train, profile, shrink and compare a model; write the report as a page.",
}
"""What each command does, in the order of `tinygpt --help`."""


class _Commands(MutableMapping[str, click.Command]):
    """Commands by name, imported when they are looked up."""

    def __init__(self) -> None:
        self._given: dict[str, click.Command] = {}

    def __getitem__(self, name: str) -> click.Command:
        if name not in self._given:
            if name not in SUMMARIES:
                raise KeyError(name)
            self._given[name] = importlib.import_module(f"tinygpt.commands.{name}").command
        return self._given[name]

    def __setitem__(self, name: str, command: click.Command) -> None:
        self._given[name] = command

    def __delitem__(self, name: str) -> None:
        del self._given[name]

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys([*SUMMARIES, *self._given]))

    def __len__(self) -> int:
        return len(list(iter(self)))


class CommandGroup(click.Group):
    """The group of all commands; its help lists them without importing them."""

    def __init__(self, *args: object, **options: object) -> None:
        super().__init__(*args, **options)  # type: ignore[arg-type]
        self.commands = _Commands()

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names, in the order in which they are listed here."""
        return list(self.commands)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list of commands in the help of the group."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, SUMMARIES[name]) for name in self.commands if name in SUMMARIES])
