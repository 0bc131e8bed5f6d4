"""Answers in OpenAI's form, whole or in parts."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Sequence
from typing import Any

from tinygpt.server.continuation import Token
from tinygpt.server.requests import Request
from tt_language import Tokenizer


def to_json(value: object) -> bytes:
    """JSON in ASCII, so no client has to guess an encoding, and none reads U+2028 or U+0085 as a line break."""
    return json.dumps(value, ensure_ascii=True, separators=(",", ":")).encode("ascii")


def error_body(
    message: str, kind: str = "invalid_request_error", param: str | None = None, code: str | None = None
) -> dict[str, Any]:
    """An error in OpenAI's form."""
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


class Writer:
    """Makes the answers to one request: `chunk` for a part of a stream, `whole` for all of it."""

    def __init__(self, request: Request, model: str, tokenizer: Tokenizer) -> None:
        self.request, self.tokenizer = request, tokenizer
        kind = "chat.completion" if request.chat else "text_completion"
        self._head = {
            "id": f"{'chatcmpl' if request.chat else 'cmpl'}-{secrets.token_hex(12)}",
            "object": f"{kind}.chunk" if request.chat and request.stream else kind,
            "created": int(time.time()),
            "model": model,
        }
        self._usage_too = {"usage": None} if request.include_usage else {}

    def chunk(self, index: int, text: str, tokens: Sequence[Token], offset: int = 0) -> bytes:
        """The next chunk of answer `index`; `offset` is added to the positions of its tokens in the text."""
        logprobs = self._logprobs(tokens, offset) if self.request.logprobs else None
        content = {"delta": {"content": text}} if self.request.chat else {"text": text}
        return self._event([{"index": index, **content, "logprobs": logprobs, "finish_reason": None}])

    def opening(self, index: int) -> bytes:
        """The first chunk of a chat answer, which names the role."""
        delta = {"role": "assistant", "content": ""}
        return self._event([{"index": index, "delta": delta, "logprobs": None, "finish_reason": None}])

    def ending(self, index: int, reason: str) -> bytes:
        """The last chunk of an answer."""
        content: dict[str, Any] = {"delta": {}} if self.request.chat else {"text": ""}
        return self._event([{"index": index, **content, "logprobs": None, "finish_reason": reason}])

    def usage(self, generated: int) -> bytes:
        """The token counts, as a chunk without choices."""
        return event({**self._head, "choices": [], "usage": self._usage(generated)})

    def whole(self, answers: Sequence[tuple[str, list[Token], str]], generated: int) -> bytes:
        """The response with all answers; each is its text, its tokens and its finish reason."""
        choices = []
        for index, (text, tokens, reason) in enumerate(answers):
            message = {"role": "assistant", "content": text, "refusal": None}
            content = {"message": message} if self.request.chat else {"text": text}
            logprobs = self._logprobs(tokens, 0) if self.request.logprobs else None
            choices.append({"index": index, **content, "logprobs": logprobs, "finish_reason": reason})
        return to_json({**self._head, "choices": choices, "usage": self._usage(generated)})

    def _event(self, choices: list[dict[str, Any]]) -> bytes:
        return event({**self._head, "choices": choices, **self._usage_too})

    def _usage(self, generated: int) -> dict[str, int]:
        read = sum(map(len, self.request.prompts))
        return {"prompt_tokens": read, "completion_tokens": generated, "total_tokens": read + generated}

    def _logprobs(self, tokens: Sequence[Token], offset: int) -> dict[str, Any]:
        if self.request.chat:
            return {"content": [self._chat_token(token) for token in tokens], "refusal": None}
        return {
            "tokens": [token.text for token in tokens],
            "token_logprobs": [token.logprob for token in tokens],
            "top_logprobs": [None if token.logprob is None else self._tops(token) for token in tokens],
            "text_offset": [token.start + offset for token in tokens],
        }

    def _tops(self, token: Token) -> dict[str, float | None]:
        """Log probabilities of the alternatives and of the token, by text; of equal texts, the more likely one."""
        found: dict[str, float | None] = {}
        for id, logprob in token.top:
            found.setdefault(name_of(id, self.tokenizer), logprob)
        found.setdefault(name_of(token.id, self.tokenizer), token.logprob)
        return found

    def _chat_token(self, token: Token) -> dict[str, Any]:
        tops = [self._named(id, logprob) for id, logprob in token.top]
        return {**self._named(token.id, token.logprob), "top_logprobs": tops}

    def _named(self, id: int, logprob: float | None) -> dict[str, Any]:
        raw = self.tokenizer.token_bytes(id)
        return {"token": name_of(id, self.tokenizer), "logprob": logprob, "bytes": list(raw)}


def name_of(id: int, tokenizer: Tokenizer) -> str:
    """The text of a token; a token that is a part of a character gives its bytes as OpenAI writes them.

    >>> from tt_language import ByteTokenizer
    >>> name_of(65, ByteTokenizer()), name_of(240, ByteTokenizer())
    ('A', 'bytes:\\\\xf0')
    """
    raw = tokenizer.token_bytes(id)
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in raw)


def event(value: object) -> bytes:
    """A server-sent event."""
    return b"data: " + to_json(value) + b"\n\n"


DONE = b"data: [DONE]\n\n"
"""Ends every stream, including one that failed."""
