"""Part of module 13, transformers: options of generation and inputs of models, checked."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from tt_core.engine.errors import ArgumentError, ShapeError, is_integer, is_number
from tt_core.tensor import Tensor
from tt_language.errors import ConfigError, short

if TYPE_CHECKING:
    from tt_language.transformers.sampling import Sampling


def check_option(name: str, value: object, fine: Callable[[Any], bool], expected: str) -> None:
    """Raise `ConfigError` unless an option is a number and `fine`."""
    number = is_number(value)
    if not number or not fine(value):
        raise ConfigError(f"generate: {name} is {value if number else short(value)}, expected {expected}")


def check_largest(logit: float) -> None:
    """Raise `ConfigError` unless the largest logit is finite; nan counts as the largest."""
    if not np.isfinite(logit):
        raise ConfigError(f"generate: the model returned a logit of {logit}; its weights are not usable")


def check_numbers(max_new_tokens: int, min_new_tokens: int, seed: int | None, num_beams: int = 1) -> None:
    """Raise `ConfigError` for a number of tokens, a seed or a number of beams that is not an integer in its range."""
    wholes = (("max_new_tokens", max_new_tokens, 0), ("min_new_tokens", min_new_tokens, 0),
              ("seed", 0 if seed is None else seed, 0), ("num_beams", num_beams, 1))  # fmt: skip
    for name, value, least in wholes:
        if not is_integer(value, least):
            raise ConfigError(f"generate: {name} is {short(value)}, expected an integer, {least} or more")


def check_sampling(sampling: Sampling) -> None:
    """Raise `ConfigError` for a field of `Sampling` that is out of range."""
    s = sampling
    check_option("repetition_penalty", s.repetition_penalty, lambda x: 0 < x < np.inf, "above 0 and finite")
    check_option("temperature", s.temperature, lambda x: 0 <= x < np.inf, "0 (the most likely) or more")
    if s.top_k is not None:
        check_option("top_k", s.top_k, lambda x: is_integer(x, 1), "an integer, 1 or more")
    if s.top_p is not None:
        check_option("top_p", s.top_p, lambda x: 0 < x <= 1, "above 0 and at most 1")
    if s.min_p is not None:
        check_option("min_p", s.min_p, lambda x: 0 <= x <= 1, "between 0 and 1")
    check_option("no_repeat_ngram_size", s.no_repeat_ngram_size, lambda x: is_integer(x, 0), "an integer, 0 or more")


def check_beams(num_beams: int, length_penalty: float, min_new_tokens: int, samples: bool) -> None:
    """Raise `ConfigError` for options of beam search that are out of range, or that exclude each other."""
    check_option("length_penalty", length_penalty, np.isfinite, "a finite number")
    if num_beams == 1 and length_penalty != 1:
        raise ConfigError("generate: length_penalty ranks beams; it needs num_beams above 1")
    if num_beams > 1 and (min_new_tokens or samples):
        raise ConfigError(
            "generate: beam search does not sample; leave out all options of sampling, and min_new_tokens"
        )


def check_call(ids: Tensor, before: int, block_size: int, endless: bool, logits_to_keep: int) -> None:
    """Raise `ShapeError` or `ArgumentError` for what `GPT` cannot be called with after `before` tokens."""
    if not is_integer(logits_to_keep, 0):
        raise ArgumentError(f"GPT: logits_to_keep is {logits_to_keep}, expected 0 (all of them) or more")
    if not ids.ndim:
        raise ShapeError("GPT: expected ids (batch, length), got one without dimensions")
    length = before + ids.shape[-1]
    if length > block_size and not endless:
        raise ShapeError(
            f"GPT: {length} tokens, but the context (block_size) has {block_size}; keep the last {block_size}"
        )
