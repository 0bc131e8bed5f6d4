"""OpenAI's interface: what is answered, in whole and as a stream, and which requests are refused."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest

import tt_core
from tinygpt.capstone import TinyGPT
from tt_language import GPT, BPETokenizer, ByteTokenizer, GPTConfig, generate
from tt_learn.autograd import no_grad

COMPLETIONS, CHAT = "/v1/completions", "/v1/chat/completions"
HELLO = [{"role": "user", "content": "Hello"}]


def joined(events: list[Any], index: int = 0) -> tuple[str, str | None]:
    """The text and the last finish_reason of one answer of a stream."""
    choices = [choice for event in events for choice in event["choices"] if choice["index"] == index]
    text = "".join(choice.get("text", "") or choice.get("delta", {}).get("content", "") for choice in choices)
    return text, choices[-1]["finish_reason"]


def test_models(serving: Any) -> None:
    listed = serving.ask("/v1/models")[1]
    assert [one["id"] for one in listed["data"]] == ["tiny"]
    assert serving.ask("/v1/models/tiny")[1] == listed["data"][0]
    status, found, _ = serving.ask("/v1/models/other")
    assert (status, found["error"]["code"]) == (404, "model_not_found")


def test_a_completion_is_what_generate_returns(serving: Any) -> None:
    found = serving.good(COMPLETIONS, prompt="Hello", max_tokens=20, seed=3, model="tiny")
    new = generate(serving.app.gpt.model, list(b"Hello"), 20, seed=3)[0]
    assert found["choices"][0]["text"] == ByteTokenizer().decode(new)
    assert found["choices"][0]["finish_reason"] == "length"
    assert found["object"] == "text_completion"
    assert found["usage"] == {"prompt_tokens": 5, "completion_tokens": 20, "total_tokens": 25}


def close(a: Any, b: Any) -> bool:
    """Whether two values of JSON are equal up to rounding: a batch of another size is multiplied otherwise."""
    if isinstance(a, float) and isinstance(b, float):
        return math.isclose(a, b, abs_tol=1e-4)
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(close(a[name], b[name]) for name in a)
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(close, a, b))
    return bool(a == b)


@pytest.mark.parametrize(
    "body",
    [
        {"prompt": "Hello", "max_tokens": 40, "seed": 1},
        {"prompt": [72, 105], "n": 3, "max_tokens": 10, "seed": 2},
        {"prompt": ["a", "bc"], "n": 2, "max_tokens": 10, "seed": 2, "logprobs": 2},
        {"prompt": "Bär", "echo": True, "max_tokens": 10, "seed": 4, "logprobs": 0},
        {"prompt": "Bär", "echo": True, "max_tokens": 10, "seed": 4},
        {"prompt": "x", "stop": ["a", "€"], "seed": 5, "max_tokens": 300, "temperature": 2},
    ],
    ids=str,
)
def test_a_stream_joined_is_the_whole_answer(serving: Any, body: dict[str, Any]) -> None:
    whole = serving.good(COMPLETIONS, **body)
    events = serving.events(COMPLETIONS, stream_options={"include_usage": True}, **body)
    for choice in whole["choices"]:
        assert joined(events, choice["index"]) == (choice["text"], choice["finish_reason"])
        parts = [c["logprobs"] for e in events for c in e["choices"] if c["index"] == choice["index"] and c["logprobs"]]
        for name, values in (choice["logprobs"] or {}).items():
            assert close([value for part in parts for value in part[name]], values)
    assert events[-1]["choices"] == []
    assert events[-1]["usage"] == whole["usage"]
    assert all(event["usage"] is None for event in events[:-1])


def logprobs_of(model: GPT, ids: list[int]) -> np.ndarray:
    with no_grad():
        logits = model(tt_core.tensor([ids])).data[0].astype(np.float64)
    return np.asarray(logits - np.log(np.exp(logits).sum(-1, keepdims=True)))


@pytest.mark.parametrize("text", ["Hello", "naïve 😀", "x"])
def test_echo_with_logprobs_of_the_prompt(serving: Any, text: str) -> None:
    """As lm-eval asks: the log probability of each token of the prompt, and whether it is the most likely one."""
    body = {"prompt": text, "echo": True, "max_tokens": 1, "logprobs": 1, "temperature": 0}
    choice = serving.good(COMPLETIONS, **body)["choices"][0]
    told, ids = choice["logprobs"], list(text.encode())
    wanted = logprobs_of(serving.app.gpt.model, ids)
    assert told["token_logprobs"][0] is None
    assert told["top_logprobs"][0] is None
    assert len(told["tokens"]) == len(ids) + 1
    for i, token in enumerate(ids[1:], 1):
        assert told["token_logprobs"][i] == pytest.approx(wanted[i - 1, token], abs=1e-4)
        assert max(told["top_logprobs"][i].values()) == pytest.approx(wanted[i - 1].max(), abs=1e-4)
    assert choice["text"].startswith(text)
    for token, offset in zip(told["tokens"], told["text_offset"]):
        assert choice["text"][offset : offset + len(token)] == token
    assert "".join(told["tokens"]) == choice["text"]


def test_an_answer_of_a_chat(serving: Any) -> None:
    body = {"messages": HELLO, "max_tokens": 12, "seed": 1, "logprobs": True, "top_logprobs": 3, "n": 2}
    found = serving.good(CHAT, **body)
    assert found["object"] == "chat.completion"
    message, told = found["choices"][0]["message"], found["choices"][0]["logprobs"]["content"]
    assert message["role"] == "assistant"
    assert b"".join(bytes(token["bytes"]) for token in told).decode("utf-8", "replace") == message["content"]
    for token in told:
        assert token["logprob"] <= token["top_logprobs"][0]["logprob"] + 1e-9
        assert len(token["top_logprobs"]) == 3
    events = serving.events(CHAT, **body)
    assert events[0]["object"] == "chat.completion.chunk"
    assert events[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    for choice in found["choices"]:
        assert joined(events, choice["index"]) == (choice["message"]["content"], choice["finish_reason"])


def test_a_chat_without_a_template_is_a_plain_dialogue(serving: Any) -> None:
    plain = "Be kind.\nUser: Hi\nAssistant: Yes?\nUser: a b\nAssistant:"
    messages = [
        {"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Yes?"},
        {"role": "user", "content": [{"type": "text", "text": "a "}, {"type": "text", "text": "b"}]},
    ]  # fmt: skip
    found = serving.good(CHAT, messages=messages, max_tokens=9, seed=1)["choices"][0]["message"]["content"]
    assert found == serving.good(COMPLETIONS, prompt=plain, max_tokens=9, seed=1)["choices"][0]["text"]


def test_a_chat_template_and_its_end_of_turn(served: Any) -> None:
    from tinygpt.chat import OWN_TEMPLATE

    tokenizer = BPETokenizer.train("Hello there", 260, special_tokens=["<|end|>"])
    tokenizer.chat_template, tokenizer.eos_token = OWN_TEMPLATE, "<|end|>"
    end = tokenizer.encode("<|end|>")[0]
    model = GPT(GPTConfig(vocab_size=tokenizer.vocab_size, block_size=64, n_layer=1, n_head=2, n_embd=16)).eval()
    with served(TinyGPT(model, tokenizer)) as serving:
        body = {"messages": [{"role": "user", "content": "<|end|>"}], "max_tokens": 20}
        found = serving.good(CHAT, **body, logit_bias={str(end): 100})
        assert found["choices"][0]["message"]["content"] == ""
        assert found["choices"][0]["finish_reason"] == "stop"
        assert found["usage"]["completion_tokens"] == 1
        assert serving.good(CHAT, **body, logit_bias={str(end): -100})["choices"][0]["finish_reason"] == "length"


def test_best_of_returns_the_most_likely(serving: Any) -> None:
    body = {"prompt": "x", "max_tokens": 8, "seed": 0, "logprobs": 0, "temperature": 2}
    all_of_them = serving.good(COMPLETIONS, n=6, **body)["choices"]
    means = [sum(one["logprobs"]["token_logprobs"]) for one in all_of_them]
    (best,) = serving.good(COMPLETIONS, best_of=6, **body)["choices"]
    assert best["text"] == all_of_them[int(np.argmax(means))]["text"]
    del body["logprobs"]
    assert serving.good(COMPLETIONS, best_of=6, **body)["choices"][0] == {**best, "logprobs": None}


def test_emoji_over_tokens_and_chunks(served: Any, tiny_model: Any) -> None:
    """S1: bytes of characters are tokens; streams are ASCII, so no reader has to guess."""
    text = "a😀\u0085\u2028é"
    forced = [*text.encode(), 0xF0, 0x9F]

    class Forced(GPT):
        def forward(self, ids: Any, **options: Any) -> Any:
            logits = super().forward(ids, **options)
            positions = options["positions"].data[:, -1]
            for row, position in enumerate(positions):
                logits.data[row, -1, forced[min(int(position), len(forced) - 1)]] += 1000
            return logits

    tt_core.manual_seed(0)
    model = Forced(tiny_model().config).eval()
    with served(TinyGPT(model, ByteTokenizer())) as serving:
        body = {"prompt": "x", "max_tokens": len(forced)}
        whole = serving.good(COMPLETIONS, **body)["choices"][0]["text"]
        assert whole == text + "\ufffd"
        answer = serving.raw(post({**body, "stream": True}))
        assert answer.isascii()
        assert b"content-type: text/event-stream; charset=utf-8" in answer
        payloads = [part[6:] for part in answer.decode().split("\n") if part.startswith("data: {")]
        assert "".join(json.loads(part.strip())["choices"][0]["text"] for part in payloads) == whole
        for chunks in (1, 2, 3):  # the request's body in chunks that cut its characters
            found = serving.raw(chunked({"prompt": text, "max_tokens": 1, "echo": True}, chunks))
            assert json.dumps(text)[1:-1].encode() in found


def post(body: Any) -> bytes:
    """The bytes of a request."""
    sent = json.dumps(body).encode()
    return b"%scontent-length: %d\r\n\r\n%s" % (HEAD, len(sent), sent)


def chunked(body: Any, size: int) -> bytes:
    """The same, in chunks of so many bytes."""
    sent = json.dumps(body, ensure_ascii=False).encode()
    parts = [sent[i : i + size] for i in range(0, len(sent), size)]
    return b"".join([HEAD, b"transfer-encoding: chunked\r\n\r\n",
                     *(b"%x\r\n%s\r\n" % (len(part), part) for part in parts), b"0\r\n\r\n"])  # fmt: skip


HEAD = b"POST /v1/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\nconnection: close\r\n"


WRONG: list[tuple[str, Any, str]] = [
    (COMPLETIONS, b"", "not JSON"),
    (COMPLETIONS, b"[1", "not JSON"),
    (COMPLETIONS, b'{"prompt": "\xff"}', "not UTF-8"),
    (COMPLETIONS, b'{"prompt": NaN}', "NaN is not a number"),
    (COMPLETIONS, b'{"prompt": "x", "temperature": 1e999}', "too large"),
    (COMPLETIONS, b"[" * 100_000, "not JSON"),
    (COMPLETIONS, b'{"prompt": "x", "seed": ' + b"9" * 5000 + b"}", "JSON"),
    (COMPLETIONS, [], "the body is a list"),
    (COMPLETIONS, {}, "lacks prompt"),
    (COMPLETIONS, {"prompt": None}, "prompt is null"),
    (COMPLETIONS, {"prompt": []}, "prompt is a list of 0"),
    (COMPLETIONS, {"prompt": [[]]}, "prompt is a list"),
    (COMPLETIONS, {"prompt": [1, "a"]}, "prompt is a list"),
    (COMPLETIONS, {"prompt": [True]}, "prompt is a list"),
    (COMPLETIONS, {"prompt": [256]}, "token id 256 is not in the vocabulary of 256"),
    (COMPLETIONS, {"prompt": "x" * 129}, "129 tokens, the model's context is 128"),
    (COMPLETIONS, {"prompt": "\ud800"}, "surrogate"),
    (COMPLETIONS, {"prompt": "x", "n": 0}, "n is 0, expected 1 or more"),
    (COMPLETIONS, {"prompt": "x", "n": 10**9}, "expected 128 or less"),
    (COMPLETIONS, {"prompt": ["x"] * 100, "n": 2}, "more than 128 texts"),
    (COMPLETIONS, {"prompt": "x", "max_tokens": -1}, "max_tokens is -1"),
    (COMPLETIONS, {"prompt": "x", "max_tokens": 0}, "is for echo only"),
    (COMPLETIONS, {"prompt": "x", "max_tokens": 1.5}, "expected an integer or null"),
    (COMPLETIONS, {"prompt": "x", "temperature": "hot"}, "expected a number or null"),
    (COMPLETIONS, {"prompt": "x", "temperature": True}, "temperature is true"),
    (COMPLETIONS, {"prompt": "x", "top_p": 1.1}, "expected 1 or less"),
    (COMPLETIONS, {"prompt": "x", "stop": ""}, "stop is"),
    (COMPLETIONS, {"prompt": "x", "stop": ["a"] * 17}, "stop is a list of 17"),
    (COMPLETIONS, {"prompt": "x", "logprobs": 21}, "expected 20 or less"),
    (COMPLETIONS, {"prompt": "x", "logit_bias": {"256": 1}}, "token ids below 256"),
    (COMPLETIONS, {"prompt": "x", "logit_bias": {"-1": 1}}, "token ids below 256"),
    (COMPLETIONS, {"prompt": "x", "logit_bias": {"1": 101}}, "logit_bias.1 is 101"),
    (COMPLETIONS, {"prompt": "x", "logit_bias": [1]}, "expected an object"),
    (COMPLETIONS, {"prompt": "x", "best_of": 1, "n": 2}, "expected n (2) or more"),
    (COMPLETIONS, {"prompt": "x", "best_of": 2, "stream": True}, "cannot be streamed"),
    (COMPLETIONS, {"prompt": "x", "suffix": "y"}, "suffix is"),
    (COMPLETIONS, {"prompt": "x", "stream_options": {"include_usage": True}}, "is for stream only"),
    (COMPLETIONS, {"prompt": "x", "max_token": 1}, "did you mean max_tokens?"),
    (CHAT, {"messages": []}, "messages is a list of 0 entries"),
    (CHAT, {"messages": "Hi"}, "expected a list"),
    (CHAT, {"messages": [{"role": "user"}]}, "messages[0] lacks content"),
    (CHAT, {"messages": [{"role": "pirate", "content": "Hi"}]}, "messages[0].role is"),
    (CHAT, {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "parts of type text"),
    (CHAT, {"messages": HELLO, "tools": [{}]}, "tools is a list"),
    (CHAT, {"messages": HELLO, "top_logprobs": 2}, "needs logprobs"),
    (CHAT, {"messages": [{"role": "user", "content": "x" * 500}]}, "messages has 517 tokens"),
    ("/api/attention", {"text": ""}, "text is"),
    ("/api/attention", {"text": "x", "layer": 2}, "layers 0 to 1"),
]


@pytest.mark.parametrize(("path", "body", "message"), WRONG, ids=[str(entry[1:])[:60] for entry in WRONG])
def test_wrong_requests(serving: Any, path: str, body: Any, message: str) -> None:
    status, found, _ = serving.ask(path, body)
    assert status == 400
    assert message in found["error"]["message"]
    assert "\n" not in found["error"]["message"]
    assert len(found["error"]["message"]) < 400
    assert set(found["error"]) == {"message", "type", "param", "code"}


def test_other_statuses(serving: Any) -> None:
    for path, body, method, status in (
        ("/nowhere", None, "GET", 404),
        ("/v1/completions", None, "GET", 405),
        ("/v1/models", {}, "POST", 405),
        ("/v1/models/", None, "GET", 404),
    ):
        found = serving.ask(path, body, method)
        assert found[0] == status
        assert found[1]["error"]["message"]
    assert serving.ask(COMPLETIONS, {"prompt": "x"}, content_type="text/plain")[0] == 415
    assert serving.ask(COMPLETIONS, {"prompt": "x", "model": "gpt-4"})[0] == 404
    assert serving.ask(COMPLETIONS, b"x" * (2 << 20))[0] == 413


@pytest.mark.parametrize("size", [500_000, 20_000])
@pytest.mark.parametrize("unit", ["a", "<|endoftext|>", "\u0000", "😀"])
def test_hostile_prompts(serving: Any, size: int, unit: str) -> None:
    text = (unit * size)[: size // len(unit.encode())]
    status, found, _ = serving.ask(COMPLETIONS, {"prompt": text})
    assert (status, found["error"]["code"]) in ((400, "context_length_exceeded"), (413, None))
    assert serving.ask(CHAT, {"messages": [{"role": "user", "content": text}]})[0] in (400, 413)
    assert serving.good(COMPLETIONS, prompt=unit, max_tokens=1)


def test_what_changes_nothing_is_taken(serving: Any) -> None:
    neutral = {
        "user": "me", "suffix": None, "temperature": None, "top_p": 0, "top_k": -1, "n": None, "stop": None,
        "logit_bias": None, "stream": False, "stream_options": None, "metadata": {"a": "b"}, "max_tokens": 3.0,
        "presence_penalty": 0, "seed": -1,
    }  # fmt: skip
    assert serving.good(COMPLETIONS, prompt="x", **neutral)["usage"]["completion_tokens"] == 3
    assert serving.good(COMPLETIONS, prompt="")["usage"]["prompt_tokens"] == 1
    assert serving.good(CHAT, messages=HELLO, tools=[], response_format={"type": "text"}, max_completion_tokens=2)


def test_a_text_may_be_longer_than_the_context(serving: Any) -> None:
    found = serving.good(COMPLETIONS, prompt="x", max_tokens=300, seed=1)
    assert found["choices"][0]["text"] == ByteTokenizer().decode(
        generate(serving.app.gpt.model, list(b"x"), 300, seed=1)[0]
    )


def test_metrics_count_and_measure(served: Any) -> None:
    with served() as serving:
        for _ in range(3):
            serving.good(COMPLETIONS, prompt="x", max_tokens=5)
        serving.ask(COMPLETIONS, {})
        text, headers = serving.ask("/metrics")[1:]
    assert headers["content-type"].startswith("text/plain; version=0.0.4")
    values: dict[str, float] = {}
    for line in text.splitlines():
        assert line.startswith("#") or len(line.split(" ")) == 2
        if not line.startswith("#"):
            values[line.split(" ")[0]] = float(line.split(" ")[1])
    assert values['tinygpt_requests_total{outcome="answered"}'] == 3
    assert values['tinygpt_requests_total{outcome="refused"}'] == 1
    assert values["tinygpt_generated_tokens_total"] == 15
    assert values["tinygpt_first_token_seconds_count"] == 3
    assert values["tinygpt_time_per_token_seconds_count"] == 12
    assert values["tinygpt_active_rows"] == 0
    assert 0 < values['tinygpt_time_per_token_seconds_quantile{quantile="0.5"}'] < 60
    buckets = [value for name, value in values.items() if name.startswith("tinygpt_first_token_seconds_bucket")]
    assert buckets == sorted(buckets)
    assert math.isclose(buckets[-1], 3)


def test_attention(serving: Any) -> None:
    found = serving.good("/api/attention", text="Hello", layer=1)
    weights = np.array(found["weights"])
    assert weights.shape == (2, 5, 5)
    np.testing.assert_allclose(weights.sum(-1), 1, atol=0.01)
    assert (np.triu(weights[0], 1) == 0).all()
    assert "".join(found["tokens"]) == "Hello"
