"""Clients that people use, unmodified: OpenAI's own, and what schemathesis makes of the server's description."""

from __future__ import annotations

import json
import random
import string
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings

import tt_core
from tinygpt.capstone import TinyGPT
from tinygpt.server import requests
from tt_language import ByteTokenizer
from tt_learn.autograd import no_grad

HELLO = [{"role": "user", "content": "Hello"}]


@pytest.fixture
def client(serving: Any) -> Any:
    openai = pytest.importorskip("openai")
    with openai.OpenAI(base_url=f"http://127.0.0.1:{serving.port}/v1", api_key="none", max_retries=0) as made:
        yield made


def test_openais_client_completes(client: Any) -> None:
    assert [model.id for model in client.models.list()] == ["tiny"]
    assert client.models.retrieve("tiny").owned_by == "tinygpt"
    body: dict[str, Any] = {"model": "tiny", "prompt": "Hello", "max_tokens": 12, "seed": 1, "logprobs": 2, "n": 2}
    whole = client.completions.create(**body, echo=True, stop=["\n\n"], presence_penalty=0.5, logit_bias={"65": 1})
    assert whole.choices[1].text.startswith("Hello")
    assert len(whole.choices[0].logprobs.tokens) == len(whole.choices[0].logprobs.text_offset)
    stream = list(client.completions.create(**body, stream=True, stream_options={"include_usage": True}))
    assert stream[-1].usage.completion_tokens == 24
    text = "".join(part.choices[0].text for part in stream if part.choices and part.choices[0].index == 0)
    assert text == client.completions.create(**body).choices[0].text


def test_openais_client_chats(client: Any) -> None:
    body: dict[str, Any] = {"model": "tiny", "messages": HELLO, "max_completion_tokens": 12, "seed": 1}
    whole = client.chat.completions.create(**body, logprobs=True, top_logprobs=2)
    assert whole.choices[0].message.role == "assistant"
    assert len(whole.choices[0].logprobs.content) == whole.usage.completion_tokens
    parts = [part.choices[0] for part in client.chat.completions.create(**body, stream=True)]
    assert parts[0].delta.role == "assistant"
    assert parts[-1].finish_reason == whole.choices[0].finish_reason
    assert "".join(part.delta.content or "" for part in parts) == whole.choices[0].message.content


def test_openais_client_understands_the_errors(client: Any) -> None:
    openai = pytest.importorskip("openai")
    with pytest.raises(openai.BadRequestError, match="temperature is 3"):
        client.completions.create(model="tiny", prompt="x", temperature=3)
    with pytest.raises(openai.NotFoundError, match="no model 'other'") as error:
        client.chat.completions.create(model="other", messages=HELLO)
    assert error.value.code == "model_not_found"


@pytest.mark.filterwarnings("ignore")
def test_schemathesis_finds_nothing(served: Any, tiny_model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Requests made from the description, right and wrong ones: all are answered as it says."""
    schemathesis = pytest.importorskip("schemathesis")
    from schemathesis.specs.openapi.checks import positive_data_acceptance, unsupported_method

    for schema in (requests.COMPLETION, requests.CHAT):  # smaller, so that all are answered soon
        for name, most in (("max_tokens", 20), ("max_completion_tokens", 20), ("n", 3), ("best_of", 3)):
            if name in schema["properties"]:
                monkeypatch.setitem(schema["properties"][name], "maximum", most)
    tried = []
    with served(TinyGPT(tiny_model(block_size=64), ByteTokenizer())) as serving:
        base = f"http://127.0.0.1:{serving.port}"
        schema = schemathesis.openapi.from_url(f"{base}/openapi.json")
        excluded = [positive_data_acceptance, unsupported_method]  # such as a prompt that is too long; all of OPTIONS

        def check(case: Any) -> None:
            tried.append(case.call_and_validate(base_url=base, excluded_checks=excluded, timeout=60).status_code)

        for found in schema.get_all_operations():
            for mode in schemathesis.GenerationMode:
                if mode is schemathesis.GenerationMode.NEGATIVE and found.ok().method.upper() == "GET":
                    continue  # it takes nothing that could be wrong
                options = settings(
                    max_examples=10, deadline=None, derandomize=True, database=None, phases=[Phase.generate],
                    suppress_health_check=list(HealthCheck),
                )  # fmt: skip
                options(given(found.ok().as_strategy(generation_mode=mode))(check))()
        serving.settled()
    assert len(tried) > 60
    assert {200, 400} <= set(tried)


TASK = """
task: tiny
dataset_path: json
dataset_kwargs: {data_files: {test: DATA}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{question}}"
doc_to_choice: "{{choices}}"
doc_to_target: "{{answer}}"
target_delimiter: ""
metric_list: [{metric: acc, aggregation: mean, higher_is_better: true}]
"""


@pytest.mark.serve
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("tokenized", [False, True])
def test_lm_eval_judges_as_the_model_does(
    serving: Any, tmp_path: Path, tokenized: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Questions whose answer is what the model finds more likely, by our own log-softmax: lm-eval must find all."""
    lm_eval = pytest.importorskip("lm_eval")
    pytest.importorskip("transformers")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    gpt, draw = serving.app.gpt, random.Random(0)
    gpt.tokenizer.save(tmp_path / "tokenizer.json")
    (tmp_path / "tokenizer_config.json").write_text('{"tokenizer_class": "PreTrainedTokenizerFast"}', encoding="utf-8")
    lines = []
    for _ in range(12):
        question, *choices = ("".join(draw.choices(string.ascii_lowercase, k=8)) for _ in range(3))
        choices = [f" {choice}" for choice in choices]
        scores = [likelihood(gpt.model, question.encode(), choice.encode()) for choice in choices]
        lines.append(json.dumps({"question": question, "choices": choices, "answer": scores.index(max(scores))}))
    (tmp_path / "data.jsonl").write_text("\n".join(lines), encoding="utf-8")
    task = TASK.replace("DATA", json.dumps(str(tmp_path / "data.jsonl")))
    (tmp_path / "tiny.yaml").write_text(task, encoding="utf-8")
    found = lm_eval.simple_evaluate(
        model="local-completions",
        model_args={
            "model": "tiny", "base_url": f"http://127.0.0.1:{serving.port}/v1/completions", "max_length": 128,
            "tokenizer_backend": "huggingface", "tokenizer": str(tmp_path), "tokenized_requests": tokenized,
        },
        tasks=["tiny"],
        task_manager=lm_eval.tasks.TaskManager(include_path=str(tmp_path)),
    )  # fmt: skip
    assert found["results"]["tiny"]["acc,none"] == 1


def likelihood(model: Any, text: bytes, ending: bytes) -> float:
    """The log probability of an ending of a text."""
    ids = [*text, *ending]
    with no_grad():
        logits = model(tt_core.tensor([ids])).data[0].astype(np.float64)
    logprobs = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    return float(sum(logprobs[i - 1, ids[i]] for i in range(len(text), len(ids))))
