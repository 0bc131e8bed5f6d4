"""Part of module 10, tokenization: the steps around the model in a tokenizer.json file.

These are the normalizer, the pre-tokenizer that splits the text, and the post-processor that adds special tokens.
Everything that is not read here is an error that names it, since ignoring a setting would give wrong ids.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import regex  # type: ignore[import-untyped, unused-ignore]

from tt_language.errors import TokenizerError, short
from tt_language.tokenization.added_tokens import NORMALIZERS
from tt_language.tokenization.patterns import PATTERNS

_MAX_PATTERN = 4096  # characters; the longest published one has about 300
_MAX_REPEATS = 1000  # `regex` unrolls a{n}, so nested repeats in a hostile file would fill the memory


def type_of(part: object) -> str:
    """The type that a part of the file names, or "nothing"."""
    name = part.get("type") if isinstance(part, dict) else None
    return name[:40] if isinstance(name, str) and name.isidentifier() else "nothing"


def refuse_others(part: Mapping[str, Any], known: Sequence[str], where: str) -> None:
    """Raise `TokenizerError` for an unknown entry, unless it is null or false."""
    for name, value in part.items():
        if name not in known and value is not None and value is not False:
            raise TokenizerError(f"{where}{short(name)} is {short(value)}, an unknown setting")


def steps_of(part: object, several: str, name: str) -> list[Any]:
    """The steps of a Sequence and of the Sequences in it, in order; or the single step."""
    if part is None:
        return []
    if type_of(part) != "Sequence" or not isinstance(part, dict):
        return [part]
    inner = part.get(several)
    if not isinstance(inner, list):
        raise TokenizerError(f"{name} Sequence has no list of {several}")
    return [step for each in inner for step in steps_of(each, several, name)]


def normalizer_from_json(normalizer: object) -> str | None:
    """The name of a Unicode form; None without a normalizer."""
    names = [type_of(step) for step in steps_of(normalizer, "normalizers", "normalizer")]
    if len(names) > 1 or any(name not in NORMALIZERS for name in names):
        known = ", ".join(NORMALIZERS)
        raise TokenizerError(f"normalizer {' + '.join(names)} changes the text; only null and one of {known} are read")
    return names[0] if names else None


# --- pre-tokenizer


def byte_level_step(use_regex: bool, add_prefix_space: bool = False) -> dict[str, Any]:
    """A ByteLevel step, which is a pre-tokenizer and a decoder."""
    return {"type": "ByteLevel", "add_prefix_space": add_prefix_space, "trim_offsets": True, "use_regex": use_regex}


def pattern_to_json(pattern: str | list[str] | None, add_prefix_space: bool) -> dict[str, Any]:
    """The pre-tokenizer that splits text by these patterns."""
    patterns = [pattern] if isinstance(pattern, str) else list(pattern or [])
    own = bool(patterns) and patterns[-1] == PATTERNS["gpt2"]  # ByteLevel's own pattern is GPT-2's
    byte_level = byte_level_step(own, add_prefix_space)
    splits = [_split(each) for each in (patterns[:-1] if own else patterns)]
    return {"type": "Sequence", "pretokenizers": [*splits, byte_level]} if splits else byte_level


def _split(pattern: str) -> dict[str, Any]:
    return {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}


def pattern_from_json(pre: object) -> tuple[str | list[str] | None, bool]:
    """The patterns that split a text, ByteLevel's own being GPT-2's, and whether ByteLevel puts a space before it."""
    steps = steps_of(pre, "pretokenizers", "pre_tokenizer")
    names = [type_of(step) for step in steps]
    if names[-1:] != ["ByteLevel"] or any(name not in ("Split", "Digits") for name in names[:-1]):
        raise TokenizerError(
            f"pre_tokenizer {' + '.join(names) or 'nothing'} is not byte-level BPE's"
            " (ByteLevel, or Splits and Digits before ByteLevel)"
        )
    byte_level = steps[-1]
    refuse_others(byte_level, ("type", "add_prefix_space", "trim_offsets", "use_regex"), "pre_tokenizer ByteLevel ")
    add_prefix_space, use_regex = byte_level.get("add_prefix_space", True), byte_level.get("use_regex", True)
    if not isinstance(add_prefix_space, bool) or not isinstance(use_regex, bool):
        raise TokenizerError("pre_tokenizer ByteLevel has add_prefix_space or use_regex that is not a boolean")
    if add_prefix_space and len(steps) > 1:
        raise TokenizerError("pre_tokenizer ByteLevel sets add_prefix_space after a Split, which is not supported")
    patterns = [_split_pattern(step) for step in steps[:-1]] + [PATTERNS["gpt2"]] * use_regex
    return (patterns if len(patterns) > 1 else patterns[0] if patterns else None), add_prefix_space


def _split_pattern(split: Mapping[str, Any]) -> str:
    """The regular expression of a Split or Digits step; raises for one that is too large to compile safely."""
    if type_of(split) == "Digits":
        refuse_others(split, ("type", "individual_digits"), "pre_tokenizer Digits ")
        return r"\p{N}" if split.get("individual_digits") else r"\p{N}+"
    refuse_others(split, ("type", "pattern", "behavior", "invert"), "pre_tokenizer Split ")
    pattern = split.get("pattern")
    expression = pattern.get("Regex") if isinstance(pattern, dict) else None
    if isinstance(pattern, dict) and isinstance(pattern.get("String"), str):
        expression = regex.escape(pattern["String"])
    # Isolated makes pieces of the matches and of the texts between; `invert`, which exchanges them, changes nothing
    if not isinstance(expression, str) or split.get("behavior") != "Isolated":
        raise TokenizerError("pre_tokenizer Split needs a Regex or String pattern and behavior Isolated")
    repeats = 1
    for number in re.findall(r"\{\s*(?:\d*\s*,)?\s*(\d+)\s*\}|\{\s*(\d+)\s*,\s*\}", expression):
        repeats *= max(1, int("".join(number)[:9]))
    if len(expression) > _MAX_PATTERN or repeats > _MAX_REPEATS:
        raise TokenizerError(
            f"pre_tokenizer Split's pattern is too large: {len(expression)} characters (at most"
            f" {_MAX_PATTERN}), repeats that multiply to {repeats} (at most {_MAX_REPEATS})"
        )
    if _has_nested_sets(expression):
        raise TokenizerError(f"pre_tokenizer Split's pattern {short(expression)} has sets within sets; write them out")
    return expression


def _has_nested_sets(expression: str) -> bool:
    """Whether a set contains a set or `&&`, which `regex` would take for characters."""
    sets = re.findall(r"\\.|\[\^?(\]?(?:\[:\^?\w+:\]|\\.|[^\]\\])*)\]", expression, re.DOTALL)
    return any(re.search(r"\[(?!:)|&&", re.sub(r"\\.", "", part, flags=re.DOTALL)) for part in sets)


# --- post-processor


def template_to_json(prefix: list[str], suffix: list[str], vocab: Mapping[str, int]) -> dict[str, Any] | None:
    """A TemplateProcessing step that puts tokens around a text, and around both texts of a pair."""
    if not prefix and not suffix:
        return None

    def around(sequence: str, type_id: int) -> list[dict[str, Any]]:
        specials = [[{"SpecialToken": {"id": t, "type_id": type_id}} for t in part] for part in (prefix, suffix)]
        return [*specials[0], {"Sequence": {"id": sequence, "type_id": type_id}}, *specials[1]]

    return {
        "type": "TemplateProcessing",
        "single": around("A", 0),
        "pair": around("A", 0) + around("B", 1),
        "special_tokens": {t: {"id": t, "ids": [vocab[t]], "tokens": [t]} for t in [*prefix, *suffix]},
    }


def template_from_json(post: object, vocab: Mapping[str, int]) -> tuple[list[str], list[str]]:
    """The special tokens before and after a text. ByteLevel as a post-processor only moves offsets."""
    steps = post.get("processors") if type_of(post) == "Sequence" and isinstance(post, dict) else [post]
    if not isinstance(steps, list):
        raise TokenizerError("post_processor Sequence has no list of processors")
    templates = [step for step in steps if step is not None and type_of(step) != "ByteLevel"]
    if not templates:
        return [], []
    if len(templates) > 1 or type_of(templates[0]) != "TemplateProcessing":
        names = " + ".join(type_of(step) for step in templates)
        raise TokenizerError(f"post_processor {names} is not read, only one TemplateProcessing and ByteLevel")
    prefix, suffix = _read_template(templates[0].get("single"))
    given = templates[0].get("special_tokens")
    for token in [*prefix, *suffix]:
        entry = given.get(token) if isinstance(given, dict) else None
        if not isinstance(entry, dict) or entry.get("ids") != [vocab.get(token)]:
            raise TokenizerError(f"post_processor gives {short(token)} different ids from the vocabulary")
    return prefix, suffix


def _read_template(single: object) -> tuple[list[str], list[str]]:
    """The special tokens before and after: [{"SpecialToken": {"id": "<s>"}}, {"Sequence": ...}] gives ["<s>"], []."""
    parts: tuple[list[str], list[str]] = ([], [])
    seen = 0
    for item in single if isinstance(single, list) else []:
        special = item.get("SpecialToken") if isinstance(item, dict) else None
        if isinstance(special, dict) and isinstance(special.get("id"), str):
            parts[min(seen, 1)].append(special["id"])
        elif isinstance(item, dict) and "Sequence" in item:
            seen += 1
    if seen != 1:
        raise TokenizerError(f"post_processor's template {short(single)} must contain the text exactly once")
    return parts
