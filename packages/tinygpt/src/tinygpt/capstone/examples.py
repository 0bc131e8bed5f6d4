"""Module 20, capstone: what a model is fine-tuned on, as ids and as the tokens whose prediction is trained.

    text file       windows of one long text; every token is trained
    JSONL           an object a line: {"prompt": ..., "completion": ...} or {"messages": [{"role", "content"}, ...]}

Tokens of a prompt, and of messages not by the assistant, have no loss. Each answer ends with the tokenizer's end
token, which is trained like any other: a model that never sees the end of an answer in its loss never stops.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from tinygpt.capstone.corpus import Tokens, split_tokens
from tinygpt.capstone.reading import CorpusError, read_corpus
from tinygpt.chat import ChatError, check_messages, encode_chat, end_of_turn
from tt_core.engine.errors import FileError
from tt_language import BPETokenizer, Tokenizer, read_text
from tt_language.errors import TokenizerError

IGNORED = -100
"""The target of a token that is not trained."""
Batch = tuple[np.ndarray, np.ndarray]


class Data(Protocol):
    """Batches (x, y) of ids and targets, by the number of the step, so that a run can be resumed."""

    def batch(self, step: int) -> Batch:
        """The batch of a step."""

    def validation(self) -> list[Batch]:
        """All of the held-out data."""

    @property
    def tokens(self) -> float:
        """Tokens of a batch, on average."""

    @property
    def prompt(self) -> list[int]:
        """A held-out prompt, of which samples are shown; empty where there are none."""


@dataclass(frozen=True)
class Windows:
    """A long text, of which each step reads some windows."""

    parts: Tokens
    batch_size: int
    block_size: int
    first: float

    def batch(self, step: int) -> Batch:
        return self.parts.batch(step, self.batch_size, self.block_size, self.first)

    def validation(self) -> list[Batch]:
        return self.parts.validation(self.batch_size, self.block_size, 64)

    @property
    def tokens(self) -> float:
        return self.batch_size * self.block_size

    @property
    def prompt(self) -> list[int]:
        return []


@dataclass(frozen=True)
class Example:
    """A text as ids, and for each id whether its prediction is trained."""

    ids: list[int]
    trained: list[bool]

    def cut(self, length: int) -> Example:
        """The last `length` ids: the answer is at the end."""
        return Example(self.ids[-length:], self.trained[-length:])


@dataclass(frozen=True)
class Examples:
    """Prompts and answers, each batch as wide as its longest."""

    train: list[Example]
    val: list[Example]
    batch_size: int
    seed: int

    def batch(self, step: int) -> Batch:
        """The next examples; the order is shuffled in each epoch."""
        places = range(step * self.batch_size, (step + 1) * self.batch_size)
        return padded([self.train[self._order(place // len(self.train))[place % len(self.train)]] for place in places])

    def _order(self, epoch: int) -> np.ndarray:
        return np.random.default_rng([self.seed, epoch]).permutation(len(self.train))

    def validation(self) -> list[Batch]:
        size = self.batch_size
        return [padded(self.val[i : i + size]) for i in range(0, len(self.val), size)]

    @property
    def tokens(self) -> float:
        return self.batch_size * sum(len(example.ids) for example in self.train) / len(self.train)

    @property
    def prompt(self) -> list[int]:
        first = self.val[0]
        return first.ids[: first.trained.index(True)]


def padded(examples: list[Example]) -> Batch:
    """Ids (B, T) and targets (B, T) of the next tokens; targets of padding and of untrained tokens are `IGNORED`.

    Attention is causal, so padding at the end needs no mask. The padding id is 0, and never a target.

    >>> padded([Example([5, 6, 7], [False, False, True]), Example([8, 9], [False, True])])[1].tolist()
    [[-100, 7], [9, -100]]
    """
    width = max(len(example.ids) for example in examples) - 1
    x, y = np.zeros((len(examples), width), np.int64), np.full((len(examples), width), IGNORED)
    for row, example in enumerate(examples):
        ids, trained = np.array(example.ids), np.array(example.trained)
        x[row, : len(ids) - 1] = ids[:-1]
        y[row, : len(ids) - 1] = np.where(trained[1:], ids[1:], IGNORED)
    return x, y


# --- reading


def is_jsonl(path: Path) -> bool:
    """Whether a file holds examples, by its name."""
    return path.suffix.lower() in (".jsonl", ".ndjson")


def read_windows(path: Path, tokenizer: Tokenizer, batch_size: int, block_size: int, val: float, seed: int) -> Windows:
    """The windows of a text file or folder; raises what `read_corpus` and `split_tokens` raise."""
    parts = split_tokens(read_corpus(path), tokenizer, block_size, val)
    return Windows(parts, batch_size, block_size, float(np.random.default_rng(seed).random()))


def read_records(path: Path, least: int = 2) -> list[dict[str, Any]]:
    """The objects of a JSONL file, each checked; raises `CorpusError` that names the line, or for too few."""
    try:
        lines = read_text(path).removeprefix("\ufeff").split("\n")  # splitlines would cut at U+2028 too
    except TokenizerError as error:
        raise CorpusError(str(error)) from None
    records = []
    for number, line in enumerate(lines, 1):
        if line.strip():
            try:
                records.append(_record(line))
            except (CorpusError, ChatError) as error:
                raise CorpusError(f"{path} line {number}: {error}") from None
    if len(records) < least:
        why = ", and one is held out to validate on" if least > 1 else ""
        raise CorpusError(f"{path} has {len(records)} examples{why}; give {least} or more")
    return records


def _record(line: str) -> dict[str, Any]:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise CorpusError(f"not JSON ({error})") from None
    if not isinstance(record, dict):
        raise CorpusError(f"a JSON {type(record).__name__}, expected an object")
    if "messages" in record:
        messages = check_messages(record["messages"])
        answers = [i for i, m in enumerate(messages) if m["role"] == "assistant" and m["content"].strip()]
        if not answers:
            raise CorpusError("no message of the assistant, so there is nothing to train")
        return {"messages": messages[: answers[-1] + 1]}
    for name in ("prompt", "completion"):
        if not isinstance(record.get(name), str):
            names = ", ".join(map(str, record))[:60] or "nothing"
            raise CorpusError(f"needs texts prompt and completion, or messages; it has {names}")
    if not record["completion"]:
        raise CorpusError("an empty completion, so there is nothing to train")
    return record


def made_examples(
    records: list[dict[str, Any]], tokenizer: Tokenizer, batch_size: int, block_size: int, val: float, seed: int
) -> tuple[Examples, int]:
    """Examples to train on and to validate on, and how many were cut to `block_size` + 1 tokens.

    Raises `TokenizerError` for characters that the tokenizer does not know, `ChatError` for what its template refuses.
    """
    whole = [example_of(record, tokenizer) for record in records]
    cut = [example.cut(block_size + 1) for example in whole]
    order = np.random.default_rng(seed).permutation(len(cut))
    held = max(1, min(len(cut) - 1, round(val * len(cut))))
    train, held_out = ([cut[i] for i in some] for some in (order[held:], order[:held]))
    return Examples(train, held_out, batch_size, seed), sum(len(example.ids) > block_size + 1 for example in whole)


def example_of(record: dict[str, Any], tokenizer: Tokenizer) -> Example:
    """One line of a JSONL file as ids, with the tokens that are trained.

    >>> from tt_language import ByteTokenizer
    >>> example_of({"prompt": "a", "completion": "b"}, ByteTokenizer())
    Example(ids=[97, 98], trained=[False, True])
    """
    if "messages" in record:
        return _conversation(record["messages"], tokenizer)
    prompt = tokenizer.encode(record["prompt"]) or _beginning(tokenizer)
    answer = [*_plain(record["completion"], tokenizer), *end_of_turn(tokenizer)]
    return Example(prompt + answer, [False] * len(prompt) + [True] * len(answer))


def _beginning(tokenizer: Tokenizer) -> list[int]:
    """The beginning of a text without a prompt: the token that ends the text before it."""
    return end_of_turn(tokenizer) or tokenizer.encode("\n")


def _plain(text: str, tokenizer: Tokenizer) -> list[int]:
    """The ids of a text that goes on from another: without the tokens that begin one."""
    if isinstance(tokenizer, BPETokenizer):
        return tokenizer.encode(text, add_special_tokens=False)
    return tokenizer.encode(text)


def _conversation(messages: list[dict[str, Any]], tokenizer: Tokenizer) -> Example:
    """All turns in one text. What follows the opening of an answer, up to its end token, is trained."""
    ids = encode_chat(messages, tokenizer, add_generation_prompt=False)
    trained = [False] * len(ids)
    for start, stop in _answers(messages, tokenizer):
        trained[start:stop] = [True] * (stop - start)
    return Example(ids, trained)


def _answers(messages: list[dict[str, Any]], tokenizer: Tokenizer) -> Iterator[tuple[int, int]]:
    """The places of the assistant's answers among the ids of a conversation."""
    whole = encode_chat(messages, tokenizer, add_generation_prompt=False)
    ends = end_of_turn(tokenizer)
    for number, message in enumerate(messages):
        if message["role"] != "assistant":
            continue
        before = encode_chat(messages[:number], tokenizer) if number else []
        upto = encode_chat(messages[: number + 1], tokenizer, add_generation_prompt=False)
        if whole[: len(upto)] != upto or upto[: len(before)] != before:
            raise ChatError("the chat template writes earlier messages differently once others follow; use two turns")
        answer = upto[len(before) :]
        if ends and ends[0] in answer:  # what follows the end, such as a line break, is the template's
            answer = answer[: len(answer) - answer[::-1].index(ends[0])]
        yield len(before), len(before) + len(answer)


def digest(path: Path) -> str:
    """The digest by which a resumed run recognizes its data."""
    try:
        return hashlib.sha256(path.read_bytes() if path.is_file() else read_corpus(path).text.encode()).hexdigest()
    except FileError:
        raise
    except OSError as error:
        raise FileError(f"cannot read {path}: {error.strerror or error}") from None
