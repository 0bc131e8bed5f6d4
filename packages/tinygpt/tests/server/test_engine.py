"""The engine: requests of any length, served together, get what they would get alone."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import tt_core
from tinygpt.server.continuation import Ended, Options, Piece
from tinygpt.server.engine import Engine, Failed, Job, Limits, Prompt, QueueFull
from tt_language import GPT, ByteTokenizer, GPTConfig, generate
from tt_language.transformers.sampling import Sampling
from tt_learn.autograd import no_grad

SIZES: dict[str, Any] = {"vocab_size": 256, "block_size": 96, "n_layer": 2, "n_embd": 16}
SHAPES = {
    "learned": GPTConfig(**SIZES, n_head=2),
    "rotary": GPTConfig(**SIZES, n_head=4, n_kv_head=2, position="rotary", norm="rms", mlp="swiglu"),
}


def made(shape: str = "learned") -> GPT:
    tt_core.manual_seed(3)
    model = GPT(SHAPES[shape]).eval()
    for parameter in model.parameters():
        parameter.data *= 4
    return model


@pytest.fixture(params=SHAPES)
def model(request: pytest.FixtureRequest) -> GPT:
    return made(request.param)


def events_of(job: Job) -> Iterator[Any]:
    """All events of a request until it has ended."""
    ended = 0
    while ended < len(job.continuations):
        event = job.events.get(timeout=60)  # type: ignore[attr-defined]
        yield event
        if isinstance(event, Failed):
            return
        ended += isinstance(event, Ended)


def ids_of(job: Job) -> list[list[int]]:
    for event in events_of(job):
        assert not isinstance(event, Failed), event
    return [one.text[one.prompt_length :] for one in job.continuations]


def submit(engine: Engine, *prompts: list[int], n: int = 1, **options: Any) -> Job:
    return engine.submit(prompts, Options(**options), queue.SimpleQueue(), n)  # type: ignore[arg-type]


def test_served_together_as_generated_alone(model: GPT) -> None:
    random = np.random.default_rng(0)
    tasks = []
    for i in range(24):
        prompt = random.integers(0, 256, int(random.choice([1, 3, 40, 90]))).tolist()
        sampling = {"temperature": float(random.choice([0, 0.7, 1])), "top_k": [None, 20][i % 2]}
        tasks.append((prompt, int(random.integers(1, 150)), sampling, i))  # beyond the context, which is 96
    with Engine(model, ByteTokenizer(), Limits(rows=5)) as engine:
        jobs = [
            submit(engine, prompt, max_tokens=length, sampling=Sampling(**sampling), seed=seed)
            for prompt, length, sampling, seed in tasks
        ]
        found = [ids_of(job)[0] for job in jobs]
        assert (engine.active, engine.waiting) == (0, 0)
    for (prompt, length, sampling, seed), new in zip(tasks, found):
        assert new == generate(model, [prompt], length, seed=seed, **sampling)[0]
    assert len({tuple(new[:5]) for new in found}) > 12  # an all-zero model would always write the same


def test_n_and_several_prompts_are_as_a_batch(model: GPT) -> None:
    prompt = list(b"the same prompt, longer than thirty-two tokens")
    with Engine(model, ByteTokenizer(), Limits(rows=3)) as engine:
        job = submit(engine, prompt, n=7, max_tokens=9, seed=4)
        assert ids_of(job) == generate(model, [prompt] * 7, 9, seed=4)
        assert engine.metrics.reused_tokens >= 6 * (len(prompt) - 1)
        job = submit(engine, [1], [2, 3], n=2, max_tokens=5, seed=5)
        assert ids_of(job) == generate(model, [[1], [1], [2, 3], [2, 3]], 5, seed=5)


def test_prompts_that_begin_alike_are_read_once(model: GPT) -> None:
    system = list(range(60))
    with Engine(model, ByteTokenizer()) as engine:
        first = ids_of(submit(engine, [*system, 1], max_tokens=8, seed=0))[0]
        assert engine.metrics.reused_tokens == 0
        ids_of(submit(engine, [*system, 2], max_tokens=8, seed=0))
        assert engine.metrics.reused_tokens == 60
        second_turn = [*system, 1, *first, 7]
        assert ids_of(submit(engine, second_turn, max_tokens=3, seed=1)) == generate(model, second_turn, 3, seed=1)
        assert engine.metrics.reused_tokens == 60 + 61 + 7


def test_a_changed_model_reads_prompts_again(model: GPT) -> None:
    prompt = list(range(60))
    with Engine(model, ByteTokenizer()) as engine:
        ids_of(submit(engine, prompt, max_tokens=4, seed=0))
        for parameter in model.parameters():
            parameter.data[...] = parameter.data[::-1].copy()
        assert ids_of(submit(engine, prompt, max_tokens=4, seed=0)) == generate(model, [prompt], 4, seed=0)
        assert engine.metrics.reused_tokens == 0


def test_penalties_and_bias(model: GPT) -> None:
    with Engine(model, ByteTokenizer()) as engine:
        greedy: dict[str, Any] = {"sampling": Sampling(temperature=0), "max_tokens": 40}
        assert ids_of(submit(engine, [1], logit_bias={65: 1000.0}, **greedy)) == [[65] * 40]
        (plain,) = ids_of(submit(engine, [1], **greedy))
        (once,) = ids_of(submit(engine, [1], presence_penalty=1000.0, **greedy))
        assert len(set(once)) == 40 > len(set(plain))
        (bias,) = ids_of(submit(engine, [1], logit_bias={plain[0]: -1000.0}, **greedy))
        assert plain[0] not in bias


def own_logprobs(model: GPT, ids: list[int]) -> np.ndarray:
    with no_grad():
        logits = model(tt_core.tensor([ids])).data[0].astype(np.float64)
    return np.asarray(logits - np.log(np.exp(logits).sum(-1, keepdims=True)))


def test_logprobs_of_prompt_and_answer(model: GPT) -> None:
    prompt = list("Bär 😀".encode())
    with Engine(model, ByteTokenizer()) as engine:
        job = submit(engine, prompt, max_tokens=20, logprobs=3, prompt_logprobs=True, seed=1)
        events = list(events_of(job))
    told = [token for event in events if isinstance(event, (Prompt, Piece)) for token in event.tokens]
    ids = job.continuations[0].text
    assert [token.id for token in told] == ids
    assert told[0].logprob is None
    wanted = own_logprobs(model, ids)
    for i, token in enumerate(told[1:]):
        assert token.logprob == pytest.approx(wanted[i, token.id], abs=1e-3)
        best = np.argsort(-wanted[i], kind="stable")[:3]
        assert [top for top, _ in token.top] == best.tolist()
        assert [value for _, value in token.top] == pytest.approx(wanted[i][best], abs=1e-3)
    ended = events[-1]
    assert isinstance(ended, Ended)
    assert ended.logprob == pytest.approx(sum(token.logprob for token in told[len(prompt) :]))
    for tokens, text in (
        (told[: len(prompt)], "Bär 😀"),
        (told[len(prompt) :], "".join(event.text for event in events if isinstance(event, Piece))),
    ):
        assert "".join(token.text for token in tokens) == text
        assert all(text[token.start :].startswith(token.text) for token in tokens)


@pytest.mark.parametrize("stop", ["b", "cab", "zz"])
def test_tokens_end_where_the_text_stops(stop: str) -> None:
    model = made()
    options: dict[str, Any] = {"logit_bias": {97: 100.0, 98: 100.0, 99: 100.0}, "logprobs": 0, "max_tokens": 30}
    with Engine(model, ByteTokenizer()) as engine:
        for seed in range(20):
            events = list(events_of(submit(engine, [1], stop=(stop,), seed=seed, **options)))
            text = "".join(event.text for event in events if isinstance(event, Piece))
            tokens = [token for event in events if isinstance(event, Piece) for token in event.tokens]
            assert stop not in text
            assert "".join(token.text for token in tokens) == text
            assert events[-1].reason == "stop" or events[-1].generated == 30


def test_scoring_alone_generates_nothing(model: GPT) -> None:
    with Engine(model, ByteTokenizer()) as engine:
        events = list(events_of(submit(engine, list(range(96)), max_tokens=0, logprobs=1, prompt_logprobs=True)))
        assert [type(event) for event in events] == [Prompt, Ended]
        assert len(events[0].tokens) == 96
        events = list(events_of(submit(engine, [5], max_tokens=0)))
        assert [type(event) for event in events] == [Ended]


class Failing(GPT):
    """Raises when it reads a certain token."""

    def forward(self, ids: Any, **options: Any) -> Any:
        result = super().forward(ids, **options)
        if (ids.data == 66).any():
            raise RuntimeError("kaput")
        return result


def test_only_the_request_that_fails_fails(capfd: pytest.CaptureFixture[str]) -> None:
    tt_core.manual_seed(0)
    model = Failing(SHAPES["learned"]).eval()
    greedy = Sampling(temperature=0)
    with Engine(model, ByteTokenizer()) as engine:
        good = [submit(engine, [i], max_tokens=30, logit_bias={65: 100.0}, sampling=greedy) for i in range(4)]
        bad = submit(engine, [9, 66], max_tokens=30)
        late = submit(engine, [9], max_tokens=30, logit_bias={66: 100.0}, sampling=greedy)
        assert isinstance(list(events_of(bad))[-1], Failed)
        *_, piece, failed = events_of(late)
        assert isinstance(piece, Piece)
        assert isinstance(failed, Failed)
        assert all(ids_of(job) == [[65] * 30] for job in good)
        assert engine.active == 0
    assert "kaput" in capfd.readouterr().err


def test_weights_that_are_not_finite_fail_the_request() -> None:
    model = made()
    model.norm.weight.data[...] = np.nan
    with Engine(model, ByteTokenizer()) as engine:
        (failed,) = events_of(submit(engine, [1]))
        assert "not usable" in failed.message


def test_cancelled_requests_leave_their_rows(model: GPT) -> None:
    with Engine(model, ByteTokenizer(), Limits(rows=2)) as engine:
        jobs = [submit(engine, [1], max_tokens=10**6) for _ in range(5)]
        while engine.active < 2:
            time.sleep(0.001)
        assert engine.waiting == 3
        for job in jobs:
            engine.cancel(job)
        assert len(ids_of(submit(engine, [1], max_tokens=2))[0]) == 2
        assert (engine.active, engine.waiting) == (0, 0)


def test_limits(model: GPT) -> None:
    with Engine(model, ByteTokenizer(), Limits(rows=1, waiting=2, seconds=600)) as engine:
        running = submit(engine, [1], max_tokens=10**6)
        while not engine.active:
            time.sleep(0.001)
        waiting = [submit(engine, [1], max_tokens=10**6) for _ in range(2)]
        with pytest.raises(QueueFull) as full:
            submit(engine, [1])
        assert 1 <= full.value.seconds <= 60
        for job in (running, *waiting):
            job.deadline = job.started
        for job in (running, *waiting):
            *_, last = events_of(job)
            assert last == Failed("timeout", "the request took more than 600 s")


def test_closing_fails_what_is_left(model: GPT) -> None:
    engine = Engine(model, ByteTokenizer())
    engine.start()
    job = submit(engine, [1], max_tokens=10**6)
    future = engine.run(lambda: threading.current_thread().name)
    assert future.result(10) == "tinygpt-engine"
    engine.close()
    *_, last = events_of(job)
    assert last == Failed("stopped", "the server is shutting down")
    assert not engine.alive
    with pytest.raises(QueueFull):
        submit(engine, [1])
