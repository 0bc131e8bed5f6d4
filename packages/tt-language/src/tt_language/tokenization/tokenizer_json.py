"""Tokenizer files of module 10 (tokenization, Act IV): Hugging Face's tokenizer.json and GPT-2's two files.

Reads the byte-level BPE family (GPT-2, Llama 3, Qwen, DeepSeek, and what `tokenizers` trains that way) and the
character tokenizers written here. Does not read WordPiece, Unigram, SentencePiece-style BPE, or normalizers other
than Unicode forms. Each of these, and every setting not known here, is an error that names it, because ignoring one
would silently give wrong ids.

Files come from strangers. Every field is checked before use, a file's splitting pattern is bounded before it
is compiled, and everything wrong raises `TokenizerError`.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypedDict

import regex  # type: ignore[import-untyped, unused-ignore]

from tt_core.engine.arguments import checked
from tt_core.engine.errors import FileError
from tt_core.engine.files import write_atomic
from tt_language.errors import TokenizerError, short
from tt_language.tokenization.added_tokens import NORMALIZERS, AddedToken

PATTERNS = {
    # openai/gpt-2, src/encoder.py: contractions, then runs of letters, digits or others with at most one
    # space before.
    "gpt2": r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
    # meta-llama/llama3: contractions in any case, at most three digits, line breaks kept together.
    "llama3": r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+",
}

_EVERY_CHARACTER = {
    "type": "Split",
    "pattern": {"Regex": "[\\s\\S]"},
    "behavior": "Isolated",
    "invert": False,
}
_BYTE_ORDER_MARK = "\ufeff"  # some editors put it at the start of a file
_SURROGATE = re.compile("[\ud800-\udfff]")
_MOST_IDS = 1 << 32
_MAX_PATTERN = 4096  # characters; the longest published one has about 300
_MAX_REPEATS = 1000  # `regex` unrolls a{n}, so nested repeats in a hostile file would fill the memory


class BPEFields(TypedDict):
    """What a tokenizer.json says about a byte-level BPE tokenizer: the arguments of `BPETokenizer`."""

    vocab: dict[str, int]
    merges: list[tuple[str, str]]
    pattern: str | list[str] | None
    special_tokens: list[AddedToken]
    added_tokens: list[AddedToken]
    ignore_merges: bool
    prefix_tokens: list[str]
    suffix_tokens: list[str]
    normalizer: str | None
    add_prefix_space: bool


def byte_alphabet() -> list[str]:
    """GPT-2's printable stand-in for each byte: itself, or the next free character from U+0100.

    >>> byte_alphabet()[ord("A")], byte_alphabet()[ord(" ")]
    ('A', 'Ġ')
    """
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = (chr(0x100 + n) for n in range(256))
    return [chr(byte) if byte in printable else next(others) for byte in range(256)]


@checked
def read_text(path: str | os.PathLike[str]) -> str:
    """The text of a UTF-8 file, line ends untouched; raises `TokenizerError` that names the first bad byte.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "a.txt"
    >>> _ = path.write_bytes(b"caf\\xe9")
    >>> read_text(path)
    Traceback (most recent call last):
    ...
    tt_language.errors.TokenizerError: ...a.txt is not UTF-8: byte 0xe9 at offset 3; convert the file to
    UTF-8 first
    """
    try:
        data = Path(path).read_bytes()
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        where = f"byte 0x{data[error.start]:02x} at offset {error.start}"
        raise TokenizerError(f"{path} is not UTF-8: {where}; convert the file to UTF-8 first") from None
    except (OSError, ValueError) as error:  # ValueError: a path with a null byte
        reason = getattr(error, "strerror", None) or error
        raise FileError(f"cannot read {path}: {reason}") from None


def read_json(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The JSON object in a file; raises `TokenizerError` when the file holds anything else."""
    text = read_text(path).removeprefix(_BYTE_ORDER_MARK)
    try:
        data = json.loads(text)
    except json.JSONDecodeError as error:
        raise TokenizerError(f"{path} is not JSON: {error.msg} in line {error.lineno}") from None
    except (ValueError, RecursionError):  # a number of thousands of digits, thousands of open brackets
        raise TokenizerError(f"{path} is not JSON that can be read: a number too long or nesting too deep") from None
    if "\\ud" in text.lower() and _SURROGATE.search(json.dumps(data, ensure_ascii=False)):
        raise TokenizerError(f"{path} escapes half of a surrogate pair, which is no character")
    if not isinstance(data, dict):
        raise TokenizerError(f"{path} holds a JSON {type(data).__name__}, expected an object")
    return data


def write_json(path: str | os.PathLike[str], data: Mapping[str, Any]) -> None:
    """Write a JSON object whole or not at all."""
    write_atomic(path, (json.dumps(data, ensure_ascii=False, indent=2) + "\n").encode("utf-8"))


# --- byte-level BPE -----------------------------------------------------------------------------------------


def bpe_to_json(fields: BPEFields) -> dict[str, Any]:
    """The tokenizer.json object of a byte-level BPE tokenizer; `tokenizers` reads it to the same ids."""
    vocab = fields["vocab"]
    added = [_added_token(token, vocab[token.content], True) for token in fields["special_tokens"]]
    added += [_added_token(token, vocab[token.content], False) for token in fields["added_tokens"]]
    return _tokenizer_json(
        added_tokens=sorted(added, key=lambda entry: entry["id"]),
        normalizer=None if fields["normalizer"] is None else {"type": fields["normalizer"]},
        pre_tokenizer=_pattern_to_json(fields["pattern"], fields["add_prefix_space"]),
        post_processor=_template_to_json(fields["prefix_tokens"], fields["suffix_tokens"], vocab),
        decoder=_byte_level(use_regex=True),
        model={
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": fields["ignore_merges"],
            "vocab": vocab,
            "merges": [f"{a} {b}" for a, b in fields["merges"]],
        },
    )


def bpe_from_json(data: Mapping[str, Any]) -> BPEFields:
    """The arguments of `BPETokenizer`; raises `TokenizerError` for a setting that would be ignored."""
    _refuse_others(data, _PARTS, "")
    model = _model_of(data, "BPE")
    for option in ("dropout", "continuing_subword_prefix", "end_of_word_suffix", "byte_fallback"):
        if model.get(option):
            raise TokenizerError(f"model.{option} is {short(model[option])}; only byte-level BPE without it is read")
    _refuse_others(model, _MODEL_PARTS, "model.")
    for option in ("truncation", "padding"):
        if data.get(option) is not None:
            raise TokenizerError(f"{option} is {short(data[option])}, which changes the ids; only null is read")
    if not isinstance(model.get("ignore_merges"), (bool, type(None))):
        raise TokenizerError(f"model.ignore_merges is {short(model['ignore_merges'])}, expected true or false")
    decoders = _steps(data.get("decoder"), "decoders", "decoder")
    if any(_type_of(step) != "ByteLevel" for step in decoders):
        raise TokenizerError(f"decoder {' + '.join(map(_type_of, decoders))} is not byte-level BPE's (ByteLevel)")
    pattern, add_prefix_space = _pattern_from_json(data.get("pre_tokenizer"))
    vocab = _vocab_of(model)
    special, added = _added_tokens_of(data, vocab)
    prefix, suffix = _template_from_json(data.get("post_processor"), vocab)
    return {
        "vocab": vocab,
        "merges": _merges_of(model),
        "pattern": pattern,
        "special_tokens": special,
        "added_tokens": added,
        "ignore_merges": model.get("ignore_merges") is True,
        "prefix_tokens": prefix,
        "suffix_tokens": suffix,
        "normalizer": _normalizer_from_json(data.get("normalizer")),
        "add_prefix_space": add_prefix_space,
    }


_PARTS = ("version", "truncation", "padding", "added_tokens", "normalizer", "pre_tokenizer", "post_processor",
          "decoder", "model")  # fmt: skip
# An unk_token stands for characters that the vocabulary lacks; here every byte must be in it. fuse_unk joins those.
_MODEL_PARTS = ("type", "vocab", "merges", "unk_token", "fuse_unk", "cache_capacity", "ignore_merges", "dropout",
                "continuing_subword_prefix", "end_of_word_suffix", "byte_fallback")  # fmt: skip


def _refuse_others(part: Mapping[str, Any], known: Sequence[str], where: str) -> None:
    """Raise for an entry that is not known here, unless it is null or false."""
    for name, value in part.items():
        if name not in known and value is not None and value is not False:
            raise TokenizerError(f"{where}{short(name)} is {short(value)}, a setting that is not known here")


def _steps(part: object, several: str, name: str) -> list[Any]:
    """The steps of a Sequence, or the single one; those of Sequences within it in their order."""
    if part is None:
        return []
    if _type_of(part) != "Sequence" or not isinstance(part, dict):
        return [part]
    inner = part.get(several)
    if not isinstance(inner, list):
        raise TokenizerError(f"{name} Sequence has no list of {several}")
    return [step for each in inner for step in _steps(each, several, name)]


def _normalizer_from_json(normalizer: object) -> str | None:
    """The name of a Unicode form; None for no normalizer, or a Sequence of none."""
    names = [_type_of(step) for step in _steps(normalizer, "normalizers", "normalizer")]
    if len(names) > 1 or any(name not in NORMALIZERS for name in names):
        known = ", ".join(NORMALIZERS)
        raise TokenizerError(f"normalizer {' + '.join(names)} changes the text; only null and one of {known} are read")
    return names[0] if names else None


def _vocab_of(model: Mapping[str, Any]) -> dict[str, int]:
    vocab = model.get("vocab")
    if not isinstance(vocab, dict):
        raise TokenizerError("model.vocab must be an object from token to id")
    for token, i in vocab.items():
        if type(i) is not int:
            raise TokenizerError(f"model.vocab gives token {short(token)} the id {short(i)}, expected an integer")
    return dict(vocab)


def _merges_of(model: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Merges are written "a b" before version 0.20 of `tokenizers` and ["a", "b"] after it."""
    merges = model.get("merges")
    if not isinstance(merges, list):
        raise TokenizerError("model.merges must be a list")
    return [parse_merge(merge, f"merge {n}") for n, merge in enumerate(merges)]


def parse_merge(merge: object, where: str) -> tuple[str, str]:
    """The two halves of one merge, "a b" or ["a", "b"]."""
    parts = merge.split(" ") if isinstance(merge, str) else merge
    if not (isinstance(parts, list) and len(parts) == 2 and all(isinstance(p, str) and p for p in parts)):
        raise TokenizerError(f"{where} is {short(merge)}, expected two tokens")
    return parts[0], parts[1]


def _added_tokens_of(data: Mapping[str, Any], vocab: dict[str, int]) -> tuple[list[AddedToken], list[AddedToken]]:
    """The special and the other added tokens; their ids are entered into `vocab`."""
    entries = [] if data.get("added_tokens") is None else data["added_tokens"]
    if not isinstance(entries, list):
        raise TokenizerError("added_tokens must be a list")
    special: list[AddedToken] = []
    added: list[AddedToken] = []
    for entry in entries:
        token, i = _added_token_of(entry)
        if vocab.setdefault(token.content, i) != i:
            raise TokenizerError(
                f"added token {short(token.content)} has id {short(i)}, but model.vocab gives it {vocab[token.content]}"
            )
        (special if entry.get("special") is True else added).append(token)
    return special, added


_FLAGS = ("single_word", "lstrip", "rstrip", "normalized")


def _added_token_of(entry: object) -> tuple[AddedToken, int]:
    if not isinstance(entry, dict) or type(entry.get("id")) is not int or not isinstance(entry.get("content"), str):
        raise TokenizerError(f"added token {short(entry)} has no integer id and text content")
    flags = {flag: entry.get(flag, False) for flag in _FLAGS}
    for flag, value in flags.items():
        if not isinstance(value, bool):
            raise TokenizerError(f"added token {short(entry['content'])} has {flag} {short(value)}, expected a boolean")
    return AddedToken(entry["content"], **flags), entry["id"]


def _added_token(token: AddedToken, i: int, special: bool) -> dict[str, Any]:
    return {"id": i, "content": token.content, **{flag: getattr(token, flag) for flag in _FLAGS}, "special": special}


def _byte_level(use_regex: bool, add_prefix_space: bool = False) -> dict[str, Any]:
    return {"type": "ByteLevel", "add_prefix_space": add_prefix_space, "trim_offsets": True, "use_regex": use_regex}


def _pattern_to_json(pattern: str | list[str] | None, add_prefix_space: bool) -> dict[str, Any]:
    patterns = [pattern] if isinstance(pattern, str) else list(pattern or [])
    own = bool(patterns) and patterns[-1] == PATTERNS["gpt2"]  # ByteLevel's own pattern is GPT-2's
    byte_level = _byte_level(own, add_prefix_space)
    splits = [_split(each) for each in (patterns[:-1] if own else patterns)]
    return {"type": "Sequence", "pretokenizers": [*splits, byte_level]} if splits else byte_level


def _split(pattern: str) -> dict[str, Any]:
    return {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}


def _pattern_from_json(pre: object) -> tuple[str | list[str] | None, bool]:
    """The splitting patterns before ByteLevel and its own one, GPT-2's; and whether it puts a space in front."""
    steps = _steps(pre, "pretokenizers", "pre_tokenizer")
    names = [_type_of(step) for step in steps]
    if names[-1:] != ["ByteLevel"] or any(name not in ("Split", "Digits") for name in names[:-1]):
        raise TokenizerError(
            f"pre_tokenizer {' + '.join(names) or 'nothing'} is not byte-level BPE's"
            " (ByteLevel, or Splits and Digits before ByteLevel)"
        )
    byte_level = steps[-1]
    _refuse_others(byte_level, ("type", "add_prefix_space", "trim_offsets", "use_regex"), "pre_tokenizer ByteLevel ")
    add_prefix_space, use_regex = byte_level.get("add_prefix_space", True), byte_level.get("use_regex", True)
    if not isinstance(add_prefix_space, bool) or not isinstance(use_regex, bool):
        raise TokenizerError("pre_tokenizer ByteLevel has add_prefix_space or use_regex that is no boolean")
    if add_prefix_space and len(steps) > 1:
        raise TokenizerError("pre_tokenizer ByteLevel sets add_prefix_space after a Split, which is not supported")
    patterns = [_split_pattern(step) for step in steps[:-1]] + [PATTERNS["gpt2"]] * use_regex
    return (patterns if len(patterns) > 1 else patterns[0] if patterns else None), add_prefix_space


def _split_pattern(split: Mapping[str, Any]) -> str:
    """The regular expression of a Split or Digits step, small enough to be compiled safely."""
    if _type_of(split) == "Digits":
        _refuse_others(split, ("type", "individual_digits"), "pre_tokenizer Digits ")
        return r"\p{N}" if split.get("individual_digits") else r"\p{N}+"
    _refuse_others(split, ("type", "pattern", "behavior", "invert"), "pre_tokenizer Split ")
    pattern = split.get("pattern")
    expression = pattern.get("Regex") if isinstance(pattern, dict) else None
    if isinstance(pattern, dict) and isinstance(pattern.get("String"), str):
        expression = regex.escape(pattern["String"])
    # Isolated makes a piece of each match and of what lies between; invert, which exchanges the two, changes nothing
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
    """Whether a set holds another, or `&&`: the pattern's author meant both, `regex` takes them for characters."""
    sets = re.findall(r"\\.|\[\^?(\]?(?:\[:\^?\w+:\]|\\.|[^\]\\])*)\]", expression, re.DOTALL)
    return any(re.search(r"\[(?!:)|&&", re.sub(r"\\.", "", part, flags=re.DOTALL)) for part in sets)


def _template_to_json(prefix: list[str], suffix: list[str], vocab: Mapping[str, int]) -> dict[str, Any] | None:
    """A TemplateProcessing step that puts tokens around one text, and around each of a pair."""
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


def _template_from_json(post: object, vocab: Mapping[str, int]) -> tuple[list[str], list[str]]:
    """The special tokens before and after a text; ByteLevel as a post-processor only moves offsets."""
    steps = post.get("processors") if _type_of(post) == "Sequence" and isinstance(post, dict) else [post]
    if not isinstance(steps, list):
        raise TokenizerError("post_processor Sequence has no list of processors")
    templates = [step for step in steps if step is not None and _type_of(step) != "ByteLevel"]
    if not templates:
        return [], []
    if len(templates) > 1 or _type_of(templates[0]) != "TemplateProcessing":
        names = " + ".join(_type_of(step) for step in templates)
        raise TokenizerError(f"post_processor {names} is not read, only one TemplateProcessing and ByteLevel")
    prefix, suffix = _read_template(templates[0].get("single"))
    given = templates[0].get("special_tokens")
    for token in [*prefix, *suffix]:
        entry = given.get(token) if isinstance(given, dict) else None
        if not isinstance(entry, dict) or entry.get("ids") != [vocab.get(token)]:
            raise TokenizerError(f"post_processor gives {short(token)} other ids than the vocabulary")
    return prefix, suffix


def _read_template(single: object) -> tuple[list[str], list[str]]:
    """[{"SpecialToken": {"id": "<s>"}}, {"Sequence": {"id": "A"}}] is (["<s>"], [])."""
    parts: tuple[list[str], list[str]] = ([], [])
    seen = 0
    for item in single if isinstance(single, list) else []:
        special = item.get("SpecialToken") if isinstance(item, dict) else None
        if isinstance(special, dict) and isinstance(special.get("id"), str):
            parts[min(seen, 1)].append(special["id"])
        elif isinstance(item, dict) and "Sequence" in item:
            seen += 1
    if seen != 1:
        raise TokenizerError(f"post_processor's template {short(single)} does not hold the text once")
    return parts


# --- GPT-2's own two files ----------------------------------------------------------------------------------


def read_gpt2(
    encoder_json: str | os.PathLike[str], vocab_bpe: str | os.PathLike[str]
) -> tuple[dict[str, int], list[tuple[str, str]]]:
    """Vocabulary and merges of GPT-2's encoder.json and vocab.bpe (or vocab.json and merges.txt)."""
    lines = read_text(vocab_bpe).removeprefix(_BYTE_ORDER_MARK).split("\n")
    merges = [
        parse_merge(line.rstrip("\r"), f"{vocab_bpe} line {n}")
        for n, line in enumerate(lines, 1)
        if line.strip() and not line.startswith("#version")
    ]
    return _vocab_of({"vocab": read_json(encoder_json)}), merges


# --- characters ---------------------------------------------------------------------------------------------


def characters_to_json(characters: Sequence[str]) -> dict[str, Any]:
    """The tokenizer.json object of a character tokenizer: WordLevel, each word one character."""
    return _tokenizer_json(
        added_tokens=[],
        pre_tokenizer=_EVERY_CHARACTER,
        post_processor=None,
        decoder={"type": "Fuse"},
        # WordLevel demands an unk_token; one that no character can equal makes unknown text an error there
        # too.
        model={"type": "WordLevel", "vocab": {c: i for i, c in enumerate(characters)}, "unk_token": "<unk>"},
    )


def characters_from_json(data: Mapping[str, Any]) -> list[str]:
    """The characters, in order of their ids, of a tokenizer.json that `characters_to_json` made."""
    vocab = _vocab_of(_model_of(data, "WordLevel"))
    others = ("truncation", "padding", "normalizer", "added_tokens", "post_processor")
    if data.get("pre_tokenizer") != _EVERY_CHARACTER or any(data.get(name) for name in others):
        raise TokenizerError("a WordLevel tokenizer that does not split text into single characters is not read")
    check_ids(vocab)
    if max(vocab.values(), default=0) >= len(vocab):
        raise TokenizerError(f"the {len(vocab)} characters have ids with gaps")
    return sorted(vocab, key=vocab.__getitem__)


# --- shared -------------------------------------------------------------------------------------------------


def check_ids(vocab: Mapping[str, int]) -> None:
    """Raise `TokenizerError` unless each token has an id of its own, from 0 on; there may be gaps."""
    by_id: dict[int, str] = {}
    for token, i in vocab.items():
        if type(i) is not int or not 0 <= i < _MOST_IDS:
            raise TokenizerError(f"token {short(token)} has id {short(i)}, expected 0 to {_MOST_IDS - 1}")
        if by_id.setdefault(i, token) != token:
            raise TokenizerError(f"tokens {short(by_id[i])} and {short(token)} share the id {i}")


def model_type(data: Mapping[str, Any]) -> str:
    """The kind of model in a tokenizer.json object; raises `TokenizerError` when there is none."""
    name = _type_of(data.get("model"))
    if name == "nothing":
        raise TokenizerError("has no model with a type: not a tokenizer.json")
    return name


def _model_of(data: Mapping[str, Any], expected: str) -> Mapping[str, Any]:
    if (name := model_type(data)) != expected:
        raise TokenizerError(f"holds a {name} model, expected {expected}")
    return data["model"]


def _tokenizer_json(**parts: Any) -> dict[str, Any]:
    return {"version": "1.0", "truncation": None, "padding": None, "added_tokens": [], "normalizer": None, **parts}


def _type_of(part: object) -> str:
    name = part.get("type") if isinstance(part, dict) else None
    return name[:40] if isinstance(name, str) and name.isidentifier() else "nothing"
