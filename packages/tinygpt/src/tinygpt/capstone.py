"""Module 20, capstone: TinyGPT, a language model with its tokenizer, on everything the six acts brought.

It adds no technique. It loads a run folder (or a folder in Hugging Face's format), turns text into ids, ids into a
continuation, and that back into text as it comes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tinygpt.runs import RunFolder
from tt_core.errors import FileError
from tt_language import GPT, GPTConfig, StreamDecoder, Tokenizer, load_tokenizer, stream
from tt_learn import load_tensors, save_tensors


class TinyGPT:
    """A GPT and the tokenizer it was trained with.

    >>> from tt_language import ByteTokenizer
    >>> model = GPT(GPTConfig(vocab_size=256, block_size=16, n_layer=1, n_head=2, n_embd=16))
    >>> gpt = TinyGPT(model, ByteTokenizer())
    >>> "".join(gpt.generate("Hi", max_new_tokens=4, seed=0)) == "".join(gpt.generate("Hi", max_new_tokens=4, seed=0))
    True
    """

    def __init__(self, model: GPT, tokenizer: Tokenizer) -> None:
        self.model, self.tokenizer = model, tokenizer

    @classmethod
    def load(cls, path: str | Path | None = None) -> TinyGPT:
        """The model of a run folder (the newest under `runs/` by default), or of a Hugging Face format folder.

        Raises `FileError` for a missing model and what the readers raise for damaged files.
        """
        folder = RunFolder.open(None if path is None else Path(path))
        config = folder.read_config()
        if "model_type" in config:  # Hugging Face's way to say what it is
            return cls(GPT.from_pretrained(folder.path), load_tokenizer(folder.path))
        if not folder.model.exists():
            raise FileError(
                f"{folder.path} holds no model.safetensors yet; go on with: tinygpt train --resume {folder.path}"
            )
        model = GPT(model_config(folder, config))
        model.load_state_dict(load_tensors(folder.model)[0])
        return cls(model.eval(), load_tokenizer(folder.tokenizer))

    def save(self, folder: RunFolder) -> None:
        """Write tokenizer and weights, each file whole or not at all."""
        self.tokenizer.save(folder.tokenizer)
        save_tensors(folder.model, self.model.state_dict())

    def generate(
        self, prompt: str = "\n", max_new_tokens: int = 200, *, stop: Sequence[str] = (), **sampling: Any
    ) -> Iterator[str]:
        """Continue `prompt`; yields the text as it comes, never half a character.

        `sampling` is what `tt_language.stream` takes: temperature, top_k, top_p, min_p, repetition_penalty, seed.
        Raises `TokenizerError` for a character that the tokenizer never saw.
        """
        ids = self.tokenizer.encode(prompt) or self.tokenizer.encode("\n")
        decoder = StreamDecoder(self.tokenizer)
        for token in stream(self.model, ids, max_new_tokens, stop=stop, tokenizer=self.tokenizer, **sampling):
            yield decoder.feed(token)
        yield decoder.finish()


def model_config(folder: RunFolder, config: Mapping[str, Any]) -> GPTConfig:
    """The part of a run's config.json that shapes the model; raises `FileError` where it has none."""
    if not isinstance(config.get("model"), dict):
        raise FileError(f"{folder.config} is damaged: it has no entry 'model'")
    return GPTConfig.from_dict(config["model"])
