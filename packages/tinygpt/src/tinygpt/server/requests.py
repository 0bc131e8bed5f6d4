"""Requests in OpenAI's form: their schemas, and their translation for the engine.

`COMPLETION` and `CHAT` are schemas; they are served as part of `/openapi.json`. Beyond OpenAI's arguments, both take
top_k, min_p, repetition_penalty and ignore_eos. What OpenAI's server does and this one cannot do, such as tools, is an
error unless it is switched off; what changes no answer, such as `user`, is ignored.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tinygpt.capstone.capstone import TinyGPT
from tinygpt.server.continuation import Options
from tinygpt.server.conversation import conversation
from tinygpt.server.schema import BadRequest, Schema, check
from tt_core.engine.errors import TinyTorchError
from tt_language.transformers.sampling import Sampling

MOST_TOKENS = 4096
"""Largest `max_tokens`."""
MOST_TEXTS = 128
"""Most prompts times `n` in a request."""

# --- schemas


def _number(low: float, high: float, meaning: str, kind: str = "number") -> dict[str, Any]:
    return {"type": [kind, "null"], "minimum": low, "maximum": high, "description": meaning}


def _flag(meaning: str) -> dict[str, Any]:
    return {"type": ["boolean", "null"], "description": meaning}


def _only(*values: Any) -> dict[str, Any]:
    return {"enum": list(values), "description": "Not supported; other values are refused."}


_ID = {"type": "integer", "minimum": 0, "maximum": 2**31 - 1}
_STOP = {"type": "string", "minLength": 1, "maxLength": 256}
_IGNORED = {"description": "Ignored, since it changes no answer."}
_SHARED: dict[str, Any] = {
    "model": {"type": ["string", "null"], "description": "The served model's id, which /v1/models lists."},
    "temperature": _number(0, 2, "0 takes the most likely token; 1 by default."),
    "top_p": _number(0, 1, "Keeps the most likely tokens with this total probability."),
    "top_k": _number(-1, 2**31 - 1, "Keeps the k most likely tokens; 0 and -1 keep all.", "integer"),
    "min_p": _number(0, 1, "Keeps tokens with at least this share of the largest probability."),
    "repetition_penalty": _number(0.01, 100, "Above 1, makes tokens of the text so far less likely."),
    "presence_penalty": _number(-2, 2, "Subtracted once from the logits of tokens that were generated."),
    "frequency_penalty": _number(-2, 2, "Subtracted from the logit of a token each time that it was generated."),
    "logit_bias": {
        "type": ["object", "null"],
        "propertyNames": {"pattern": "^[0-9]{1,10}$"},
        "additionalProperties": {"type": "number", "minimum": -100, "maximum": 100},
        "maxProperties": 1024,
        "description": "Added to the logits of token ids.",
    },
    "n": _number(1, MOST_TEXTS, "How many answers.", "integer"),
    "seed": _number(-(2**63), 2**64 - 1, "The same seed gives the same answer.", "integer"),
    "stop": {
        "anyOf": [_STOP, {"type": "array", "items": _STOP, "maxItems": 16}, {"type": "null"}],
        "description": "a string of 1 to 256 characters, or a list of up to 16 of them",
    },
    "stream": _flag("Sends the answer as it comes, as server-sent events."),
    "stream_options": {
        "type": ["object", "null"],
        "properties": {"include_usage": _flag("Sends the usage in a last chunk."), "include_obfuscation": _IGNORED},
        "additionalProperties": False,
    },
    "ignore_eos": _flag("Goes on after the token that ends a text."),
    **dict.fromkeys(("user", "metadata", "store", "service_tier", "safety_identifier", "prompt_cache_key"), _IGNORED),
}
COMPLETION: Schema = {
    "type": "object",
    "additionalProperties": False,
    "required": ["prompt"],
    "properties": {
        "prompt": {
            "anyOf": [
                {"type": "string"},
                {"type": "array", "items": {"type": "string"}, "minItems": 1, "maxItems": MOST_TEXTS},
                {"type": "array", "items": _ID, "minItems": 1},
                {"type": "array", "items": {"type": "array", "items": _ID, "minItems": 1}, "minItems": 1,
                 "maxItems": MOST_TEXTS},
            ],
            "description": "a string, a list of token ids, or a list of 1 to 128 of either",
        },
        **_SHARED,
        "max_tokens": _number(0, MOST_TOKENS, "Most tokens to generate; 16 by default.", "integer"),
        "logprobs": _number(0, 20, "Reports each token with this number of alternatives.", "integer"),
        "echo": _flag("The answer begins with the prompt."),
        "best_of": _number(1, MOST_TEXTS, "Generates this number of answers and returns the n most likely.", "integer"),
        "suffix": _only(None, ""),
    },
}  # fmt: skip
_PART = {
    "type": "object",
    "properties": {"type": {"enum": ["text"]}, "text": {"type": "string"}},
    "required": ["type", "text"],
}
CHAT: Schema = {
    "type": "object",
    "additionalProperties": False,
    "required": ["messages"],
    "properties": {
        "messages": {
            "type": "array",
            "minItems": 1,
            "items": {
                "type": "object",
                "required": ["role", "content"],
                "properties": {
                    "role": {"enum": ["system", "developer", "user", "assistant"]},
                    "content": {
                        "anyOf": [{"type": "string"}, {"type": "array", "items": _PART, "minItems": 1}],
                        "description": "a text, or a list of parts of type text",
                    },
                },
            },
        },
        **_SHARED,
        "max_tokens": _number(1, MOST_TOKENS, "The most tokens to generate; by default, the rest of the context.",
                              "integer"),
        "max_completion_tokens": _number(1, MOST_TOKENS, "Another name of max_tokens.", "integer"),
        "logprobs": _flag("Reports on each token."),
        "top_logprobs": _number(0, 20, "The number of alternatives of each token; needs logprobs.", "integer"),
        "tools": _only(None, []),
        "tool_choice": _only(None, "none", "auto"),
        "functions": _only(None, []),
        "parallel_tool_calls": _IGNORED,
        "reasoning_effort": _IGNORED,
        "response_format": _only(None, {"type": "text"}),
        "modalities": _only(None, ["text"]),
    },
}  # fmt: skip


# --- for the engine


@dataclass(frozen=True)
class Request:
    """A checked request: the ids of each prompt, the options of its continuations, and the form of the answer."""

    prompts: list[list[int]]
    options: Options
    chat: bool = False
    n: int = 1
    """Answers to each prompt; `best_of` are generated."""
    best_of: int = 1
    echo: bool = False
    logprobs: bool = False
    stream: bool = False
    include_usage: bool = False


def completion(body: Any, gpt: TinyGPT, name: str) -> Request:
    """Read a body of `/v1/completions`; raises `BadRequest`."""
    check(body, COMPLETION)
    _check_model(body, name)
    n, echo = _integer(body, "n", 1), bool(body.get("echo"))
    best_of = _integer(body, "best_of", n)
    if best_of < n:
        raise BadRequest(f"best_of is {best_of}, expected n ({n}) or more", "best_of")
    if best_of > n and body.get("stream"):
        raise BadRequest("best_of cannot be streamed, since the best answer is known only at the end", "best_of")
    max_tokens, logprobs = _integer(body, "max_tokens", 16), _integer(body, "logprobs", None)
    if not max_tokens and not echo:
        raise BadRequest("max_tokens is 0, which is for echo only", "max_tokens")
    prompts = _prompts(body["prompt"], gpt)
    _check_lengths(prompts, gpt, "prompt")
    if len(prompts) * best_of > MOST_TEXTS:
        raise BadRequest(f"{len(prompts)} prompts of {best_of} answers are more than {MOST_TEXTS} texts", "n")
    told = echo and logprobs is not None
    ranked = 0 if best_of > n and logprobs is None else logprobs  # the best answers are known by their logprobs
    options = _options(body, gpt, max_tokens=max_tokens, logprobs=ranked, prompt_logprobs=told)
    return Request(prompts, options, False, n, best_of, echo, logprobs is not None, *_streaming(body))


def chat(body: Any, gpt: TinyGPT, name: str) -> Request:
    """Read a body of `/v1/chat/completions`; raises `BadRequest`."""
    check(body, CHAT)
    _check_model(body, name)
    try:
        prompt, stops, ends = conversation(body["messages"], gpt.tokenizer)
    except TinyTorchError as error:
        raise BadRequest(str(error), "messages") from None
    _check_lengths([prompt], gpt, "messages")
    most = _integer(body, "max_completion_tokens", _integer(body, "max_tokens", None))
    left = max(1, gpt.model.config.block_size - len(prompt))
    logprobs = _integer(body, "top_logprobs", 0) if body.get("logprobs") else None
    if body.get("top_logprobs") and logprobs is None:
        raise BadRequest("top_logprobs needs logprobs to be true", "top_logprobs")
    n = _integer(body, "n", 1)
    options = _options(body, gpt, max_tokens=most or left, logprobs=logprobs, stops=stops, ends=ends)
    return Request([prompt], options, True, n, n, False, logprobs is not None, *_streaming(body))


def _streaming(body: Mapping[str, Any]) -> tuple[bool, bool]:
    stream, options = bool(body.get("stream")), body.get("stream_options")
    if options is not None and not stream:
        raise BadRequest("stream_options is for stream only", "stream_options")
    return stream, bool((options or {}).get("include_usage"))


def _check_model(body: Mapping[str, Any], name: str) -> None:
    asked = body.get("model")
    if asked is not None and asked != name:
        raise BadRequest(
            f"there is no model {asked[:100]!r}; this server has {name!r}", "model", "model_not_found", 404
        )


def _prompts(prompt: Any, gpt: TinyGPT) -> list[list[int]]:
    texts = prompt if isinstance(prompt, list) and isinstance(prompt[0], (str, list)) else [prompt]
    return [_ids(text, gpt) for text in texts]


def _ids(text: str | list[int], gpt: TinyGPT) -> list[int]:
    if isinstance(text, list):
        ids = [int(i) for i in text]
        known = gpt.tokenizer.known_ids(gpt.model.config.vocab_size)
        unknown = next((i for i in ids if i >= len(known) or not known[i]), None)
        if unknown is not None:
            raise BadRequest(f"token id {unknown} is not in the vocabulary of {len(known)}", "prompt")
        return ids
    try:
        ids = gpt.tokenizer.encode(text) if text else gpt.opening()
    except TinyTorchError as error:
        raise BadRequest(str(error), "prompt") from None
    return ids or gpt.opening()


def _check_lengths(prompts: list[list[int]], gpt: TinyGPT, param: str) -> None:
    context, longest = gpt.model.config.block_size, max(map(len, prompts))
    if longest > context:
        raise BadRequest(f"{param} has {longest:,} tokens, the model's context is {context:,}; shorten it", param,
                         "context_length_exceeded")  # fmt: skip


def _options(
    body: Mapping[str, Any], gpt: TinyGPT, stops: tuple[str, ...] = (), ends: frozenset[int] = frozenset(), **given: Any
) -> Options:
    stop, top_k, seed = body.get("stop") or (), _integer(body, "top_k", 0), _integer(body, "seed", None)
    sampling = Sampling(
        _or(body, "repetition_penalty", 1.0), _or(body, "temperature", 1.0), top_k if top_k > 0 else None,
        max(_or(body, "top_p", 1.0), 1e-9), body.get("min_p"),
    )  # fmt: skip
    return Options(
        sampling=sampling, stop=(*((stop,) if isinstance(stop, str) else stop), *stops), ends=ends,
        seed=None if seed is None else seed % 2**64, logit_bias=_bias(body.get("logit_bias") or {}, gpt),
        presence_penalty=_or(body, "presence_penalty", 0.0), frequency_penalty=_or(body, "frequency_penalty", 0.0),
        ignore_eos=bool(body.get("ignore_eos")), **given,
    )  # fmt: skip


def _bias(given: Mapping[str, float], gpt: TinyGPT) -> dict[int, float]:
    vocabulary, found = gpt.model.config.vocab_size, {}
    for name, bias in given.items():
        if not name.isascii() or not name.isdecimal() or len(name) > 10 or int(name) >= vocabulary:
            raise BadRequest(f"logit_bias has {name[:40]!r}, expected token ids below {vocabulary}", "logit_bias")
        check(bias, _SHARED["logit_bias"]["additionalProperties"], f"logit_bias.{name}")
        found[int(name)] = float(bias)
    return found


def _or(body: Mapping[str, Any], name: str, default: float) -> float:
    value = body.get(name)
    return default if value is None else float(value)


def _integer(body: Mapping[str, Any], name: str, default: Any) -> Any:
    value = body.get(name)
    return default if value is None else int(value)
