"""Part of module 13, transformers: the prompts and stops of generation, checked and brought to one form."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from tt_core.engine.dispatch import Array
from tt_core.engine.errors import ShapeError, is_integer
from tt_core.tensor import Tensor
from tt_language.embeddings import check_ids
from tt_language.errors import ConfigError, short

Stop = int | str | Sequence[int]
Prompts = Tensor | Array | Iterable[int] | Iterable[Iterable[int]] | Iterable[Tensor]
"""Ids of one text, or of several."""


class Decoder(Protocol):
    """What stop strings need of a tokenizer: ids to text."""

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids."""


# --- prompts


def texts_of(model: Any, prompts: Prompts) -> list[list[int]]:
    """Ids of one text, or of several, as lists; raises for anything else."""
    texts = _as_texts(prompts)
    size, vocab = (getattr(getattr(model, "config", None), name, None) for name in ("block_size", "vocab_size"))
    if size is None or vocab is None:
        raise ConfigError(f"generate: the model needs a config with block_size and vocab_size, got {short(model)}")
    for i, text in enumerate(texts):
        _check_ids(i, text, vocab)
    return texts


def _as_texts(prompts: Any) -> list[list[int]]:
    given = _plain(prompts)
    if not _is_list(given):
        raise ShapeError(f"generate: a prompt is a list of ids, got {short(given)}")
    parts = [_plain(part) for part in given]
    several = [_is_list(part) for part in parts]
    if any(several) and not all(several):
        one = parts[several.index(False)]
        raise ShapeError(f"generate: prompts are either ids or lists of ids, got lists and {short(one)}")
    texts = [list(part) for part in parts] if any(several) else [parts]
    for i, text in enumerate(texts):
        if not text:
            raise ShapeError(f"generate: prompt {i} is empty; start it with a token, such as that for end of text")
    return texts


def _check_ids(i: int, text: list[int], vocab: int) -> None:
    try:
        ids = np.asarray(text)
    except ValueError:  # lists of different depth
        raise ShapeError(f"generate: prompt {i} is {short(text)}, expected a list of ids") from None
    if ids.dtype.kind not in "iu" or ids.ndim > 1:
        lists = "lists of " * (ids.ndim > 1)
        raise ShapeError(f"generate: prompt {i} holds {lists}{ids.dtype} values, expected integer ids")
    check_ids(ids, vocab)


def _plain(x: Any) -> Any:
    """Converts arrays and tensors to numbers and lists; other values are returned unchanged."""
    return x.tolist() if hasattr(x, "tolist") else x


def _is_list(x: object) -> bool:
    return isinstance(x, Iterable) and not isinstance(x, (str, bytes, Mapping))


def allowed_ids(model: Any, tokenizer: Decoder | None) -> Array | None:
    """(vocab,), False for ids that the tokenizer does not know; None where it knows all."""
    known_ids = getattr(tokenizer, "known_ids", None)
    if known_ids is None:  # no tokenizer, or not one of ours
        return None
    allowed: Array = known_ids(model.config.vocab_size)
    return None if allowed.all() else allowed


# --- stops


def stopping(
    model: Any, stop: Stop | Sequence[Stop] | None, tokenizer: Decoder | None, ignore_eos: bool
) -> Callable[[list[int]], bool]:
    """A function that says whether new tokens end a text."""
    stops = [*_stops(stop), *([i] for i in (() if ignore_eos else getattr(model.config, "end_ids", ())))]
    strings = [s for s in stops if isinstance(s, str)]
    sequences = [s for s in stops if not isinstance(s, str)]
    if strings and tokenizer is None:
        raise ConfigError("generate: stop strings need tokenizer=, which decodes the tokens")
    if not all(stops):
        raise ConfigError("generate: a stop is empty, which would end every text at once")
    longest = max((len(s.encode("utf-8", "surrogatepass")) for s in strings), default=0)

    def ended(new: list[int]) -> bool:
        if any(new[-len(s) :] == s for s in sequences):
            return True
        # each token has a byte or more, so a string that the last one completes begins within the last `longest`
        return bool(strings) and any(s in tokenizer.decode(new[-longest - 4 :]) for s in strings)  # type: ignore[union-attr]

    return ended


def _stops(stop: Stop | Sequence[Stop] | None) -> list[str | list[int]]:
    """Each stop as a string or a list of ids."""
    given = _plain(stop)
    parts = [] if given is None else list(given) if _is_list(given) else [given]
    stops: list[str | list[int]] = []
    for part in map(_plain, parts):
        ids = list(part) if _is_list(part) else [part]
        if not isinstance(part, str) and not all(is_integer(i, 0) for i in ids):
            raise ConfigError(f"generate: stop holds {short(part)}, expected ids, lists of ids or strings")
        stops.append(part if isinstance(part, str) else [int(i) for i in ids])
    return stops
