"""Module 20, capstone: TinyGPT, a language model with its tokenizer, built on all six acts.

It adds no technique. It loads a folder, turns a text or a conversation into ids, ids into a continuation, and that back
into text as it comes.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from tinygpt.capstone.loading import advice, new_model, saved_tokenizer
from tinygpt.chat import encode_chat, end_of_turn
from tinygpt.runs import RunFolder
from tt_core import init, prepare_model
from tt_core.engine.arguments import checked
from tt_core.engine.errors import FileError, TinyTorchError
from tt_core.engine.files import make_folder
from tt_language import GPT, StreamDecoder, Tokenizer, load_tokenizer, stream
from tt_language.errors import TokenizerError
from tt_language.tokenization import save_settings
from tt_learn import load_tensors, save_tensors
from tt_learn.training import completed_state, stored_state
from tt_perf.lora import PeftModel, load_adapter, read_adapter_config
from tt_perf.quantization.files import KEY as QUANTIZATION
from tt_perf.quantization.files import description_of, restore_
from tt_perf.quantization.layers import is_quantized


class TinyGPT:
    """A GPT and the tokenizer it was trained with.

    >>> from tt_language import ByteTokenizer, GPTConfig
    >>> model = GPT(GPTConfig(vocab_size=256, block_size=16, n_layer=1, n_head=2, n_embd=16))
    >>> gpt = TinyGPT(model, ByteTokenizer())
    >>> "".join(gpt.generate("Hi", max_new_tokens=4, seed=0)) == "".join(gpt.generate("Hi", max_new_tokens=4, seed=0))
    True
    """

    @checked
    def __init__(self, model: GPT, tokenizer: Tokenizer) -> None:
        self.model, self.tokenizer = model, tokenizer
        self.adapter: PeftModel | None = None
        """The LoRA adapter of the model, if it was loaded with one."""

    @classmethod
    @checked
    def load(cls, path: str | Path | None = None) -> TinyGPT:
        """The model of a run folder or of a folder in Hugging Face's format; the newest run with a model by default.

        Raises `FileError` for a missing model and what the readers raise for damaged files.
        """
        gpt = cls.read(RunFolder.open(None if path is None else Path(path), with_model=True))
        gpt.model = cast(GPT, prepare_model(gpt.model, in_place=True))  # what plugins make of it
        return gpt

    @classmethod
    def read(cls, folder: RunFolder) -> TinyGPT:
        """The model of a folder as it is stored, before plugins prepare it to generate; raises what `load` raises."""
        if folder.adapter.exists() and not folder.model.exists():
            return read_adapted(folder)
        config = folder.read_config()
        if "model_type" in config:  # Hugging Face's way to say what it is
            return cls(GPT.from_pretrained(folder.path), load_tokenizer(folder.path))
        if not folder.model.exists():
            raise FileError(f"{folder.path} holds no model.safetensors; {advice(folder)}")
        weights = load_tensors(folder.model)[0]
        quantized = config.get(QUANTIZATION)
        numbers = sum(array.size for array in weights.values()) * (1 if quantized is None else 2)  # int4: two a byte
        with init.skipped():  # the numbers come from the file
            model = new_model(folder, config, numbers)
        if quantized is None:
            model.load_state_dict(completed_state(model, weights))
        else:
            restore_(model, quantized, weights, str(folder.path))
        return cls(model.eval(), saved_tokenizer(folder, model, padded="finetuning" in config))

    @classmethod
    @checked
    def from_pretrained(cls, folder: str | Path) -> TinyGPT:
        """The model of a folder in Hugging Face's format (GPT-2's or Llama's family), or of a run folder.

        Raises what `load` raises.
        """
        return cls.load(folder)

    @checked
    def save_pretrained(self, folder: str | os.PathLike[str]) -> None:
        """Write a folder in Hugging Face's format, which `transformers` loads: model, tokenizer, chat template.

        Raises `ConfigError` for a model whose shape is neither GPT-2's nor Llama's, and `FileError`.
        """
        self.model.save_pretrained(folder)
        self.tokenizer.save(Path(folder) / "tokenizer.json")
        length = self.model.config.block_size
        save_settings(self.tokenizer, folder, tokenizer_class="PreTrainedTokenizerFast", model_max_length=length)

    def merge(self) -> dict[str, float]:
        """Put the adapter's updates into the weights, in float64; returns what rounding changed, by layer.

        Raises `TinyTorchError` for a model without an adapter, and `LoraError` where weights would not be finite.
        """
        if self.adapter is None:
            raise TinyTorchError("the model has no adapter to merge")
        # W + B A is computed once, after which the adapter costs nothing
        rounding = self.adapter.merge_adapter(safe_merge=True)
        self.model, self.adapter = self.adapter.merge_and_unload(), None
        return rounding

    @checked
    def stop_at(self, ids: Sequence[int]) -> None:
        """Let generation end at these ids too."""
        known = self.model.config.end_ids
        if not set(ids) <= set(known):
            self.model.config = dataclasses.replace(
                self.model.config, eos_token_id=tuple(dict.fromkeys([*ids, *known]))
            )

    @checked
    def save(self, folder: RunFolder | str | os.PathLike[str]) -> None:
        """Write tokenizer and weights, each file whole or not at all; of a quantized model, config.json too.

        A model that was quantized (`tt_perf.quantize_`) is stored as integers, and config.json says how. Raises
        `TinyTorchError` for a model with an adapter, whose file is PEFT's (`tt_perf.save_adapter`), and `FileError`.
        """
        if self.adapter is not None:
            raise TinyTorchError("the model has an adapter; merge() it first, or write the adapter with save_adapter")
        folder = folder if isinstance(folder, RunFolder) else RunFolder(make_folder(folder))
        self.tokenizer.save(folder.tokenizer)
        if self.tokenizer.eos_token is not None or self.tokenizer.chat_template is not None:
            save_settings(self.tokenizer, folder.path)
        described = folder.read_config() if folder.config.exists() else None
        if is_quantized(self.model):
            save_tensors(folder.model, stored_state(self.model))
            described = {"model": self.model.config.to_dict(), **(described or {})}
            folder.write_config({**described, QUANTIZATION: description_of(self.model)})
            return
        save_tensors(folder.model, stored_state(self.model))
        if described is None:
            folder.write_config({"model": self.model.config.to_dict()})
        elif described.pop(QUANTIZATION, None) is not None:  # the floats are no longer what it describes
            folder.write_config(described)

    @checked
    def generate(
        self, prompt: str = "\n", max_new_tokens: int = 200, *, stop: Sequence[str] = (), **sampling: Any
    ) -> Iterator[str]:
        """Continue `prompt`; yields the text as it comes, never half a character, without special tokens.

        `sampling` is what `tt_language.stream` takes: temperature, top_k, top_p, min_p, repetition_penalty,
        no_repeat_ngram_size, min_new_tokens, ignore_eos, seed. Raises `TokenizerError` for a character that the
        tokenizer never saw, when called: before the first text.
        """
        ids = self.opening() if prompt in ("", "\n") else self.tokenizer.encode(prompt)
        return self.continued(ids, max_new_tokens, stop=stop, **sampling)

    @checked
    def chat(
        self,
        messages: Sequence[Mapping[str, Any]],
        max_new_tokens: int = 200,
        *,
        stop: Sequence[str] = (),
        **sampling: Any,
    ) -> Iterator[str]:
        """Answer a conversation by the model's chat template; yields the text as it comes, as `generate` does.

        `messages` are objects with a `role` (system, user, assistant) and a `content`. Raises `ChatError` for other
        messages and for a model without a chat template.
        """
        # the template's own token for the end of a turn stops the answer
        ids, ends = encode_chat(messages, self.tokenizer), end_of_turn(self.tokenizer)
        stops: list[Any] = [*stop, ends] if ends else [*stop]
        return self.continued(ids, max_new_tokens, stop=stops, **sampling)

    def continued(self, ids: Sequence[int], max_new_tokens: int = 200, **sampling: Any) -> Iterator[str]:
        """The text that follows `ids`, as it comes, without special tokens."""
        return self._texts(stream(self.model, ids, max_new_tokens, tokenizer=self.tokenizer, **sampling))

    def opening(self) -> list[int]:
        """The ids of an empty prompt: a line break, or the tokenizer's first entry where it never saw one."""
        try:
            return self.tokenizer.encode("\n")
        except TokenizerError:
            return [0]

    def _texts(self, tokens: Iterator[int]) -> Iterator[str]:
        """The text of each token as it comes, never half a character."""
        # a token may end inside a character, whose bytes wait for the next one
        decoder = StreamDecoder(self.tokenizer, skip_special_tokens=True)
        for token in tokens:
            yield decoder.feed(token)
        yield decoder.finish()


def read_adapted(folder: RunFolder) -> TinyGPT:
    """The model that the adapter in a folder is for, with the adapter; the tokenizer is the adapter's, if it has one.

    Raises `FileError` where that model is not on this machine: nothing is downloaded.
    """
    base = read_adapter_config(folder.path)[1]
    if base is None:
        raise FileError(f"{folder.path}/adapter_config.json does not name the model that the adapter is for")
    beside = [path for path in (Path(base), folder.path / base) if os.path.isdir(path)]
    if not beside:
        raise FileError(
            f"{folder.path} is an adapter for {base}, which is no folder here; "
            "put the folder in base_model_name_or_path of its adapter_config.json"
        )
    source = RunFolder.open(beside[0], with_model=True)
    if source.adapter.exists() and not source.model.exists():
        raise FileError(f"{folder.path} is an adapter for {base}, which is an adapter too; merge that one first")
    gpt = TinyGPT.read(source)
    gpt.adapter = load_adapter(gpt.model, folder.path)
    if folder.tokenizer.exists():
        gpt.tokenizer = saved_tokenizer(folder, gpt.model, padded=True)
    gpt.stop_at(end_of_turn(gpt.tokenizer))
    gpt.model.eval()
    return gpt
