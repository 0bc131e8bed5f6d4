"""Generation: sampling against its definitions, windows, batches, beams, and that remembering changes no token."""

from __future__ import annotations

import dataclasses
import itertools
import json
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest

import tt_core
from tt_core.engine.errors import ArgumentError, OutOfRangeError, ShapeError
from tt_core.engine.plugins import hookimpl, manager
from tt_core.layers import Layer
from tt_core.tensor.shapes import cat
from tt_language import GPT, ByteTokenizer, ConfigError, GPTConfig, Sampling, generate, stream
from tt_language.transformers import window_start
from tt_learn import no_grad

LLAMA = {"position": "rotary", "norm": "rms", "mlp": "swiglu", "bias": False, "n_kv_head": 2}
PROMPTS = [[1, 2, 3], [4], [5, 6, 7, 8, 9]]


def model_of(family: str = "gpt2", seed: int = 0, **sizes: Any) -> GPT:
    tt_core.manual_seed(seed)
    shape = {"vocab_size": 23, "block_size": 12, "n_layer": 2, "n_head": 4, "n_embd": 16, **sizes}
    model = GPT(GPTConfig(**shape, **(LLAMA if family == "llama" else {})))
    for parameter in model.parameters():
        parameter.data *= np.float32(5)  # opinions strong enough to differ from token to token
    return model


@pytest.fixture(params=["gpt2", "llama"])
def model(request: pytest.FixtureRequest) -> GPT:
    return model_of(request.param)


class ListPast:
    """The simplest thing that remembers."""

    def __init__(self) -> None:
        self.kept: dict[Any, tuple[Any, Any]] = {}
        self.reads = 0

    @property
    def length(self) -> int:
        return next((k.shape[2] for k, _ in self.kept.values()), 0)

    def extend(self, layer: Any, k: Any, v: Any) -> tuple[Any, Any]:
        self.reads += k.shape[2]
        if layer in self.kept:
            before_k, before_v = self.kept[layer]
            k, v = cat([before_k, k], 2), cat([before_v, v], 2)
        self.kept[layer] = (k, v)
        return k, v

    def select(self, rows: Sequence[int]) -> None:
        self.kept = {layer: (k[list(rows)], v[list(rows)]) for layer, (k, v) in self.kept.items()}

    def clear(self) -> None:
        self.kept.clear()


class Remembering:
    def __init__(self) -> None:
        self.made: list[ListPast] = []

    @hookimpl
    def tt_past(self, model: Any, rows: int, length: int) -> ListPast:
        self.made.append(ListPast())
        return self.made[-1]


@contextmanager
def remembering() -> Iterator[Remembering]:
    plugin = Remembering()
    manager.register(plugin)
    try:
        yield plugin
    finally:
        manager.unregister(plugin)


def slowly(model: GPT, text: list[int], count: int) -> list[int]:
    """Greedy decoding, spelt out."""
    new: list[int] = []
    for _ in range(count):
        whole = text + new
        with no_grad():
            logits = model(tt_core.tensor([whole[window_start(len(whole), model.config.block_size) :]]))
        new.append(int(logits.numpy()[0, -1].argmax()))
    return new


def test_tt_past_is_told_the_prompts(model: GPT) -> None:
    told = []

    class Telling:
        @hookimpl
        def tt_past(self, prompts: list[list[int]], rows: int) -> None:
            told.append((rows, prompts))

    with tt_core.use(Telling()):
        generate(model, [[1, 2], [3]], 1)
        generate(model, [[1, 2], [3]], 1, num_beams=2)
        list(stream(model, [4], 1))
    assert told == [(2, [[1, 2], [3]]), (2, [[1, 2]]), (2, [[3]]), (1, [[4]])]


# --- whole texts


def test_greedy_decoding_far_past_the_context(model: GPT) -> None:
    expected = [slowly(model, text, 40) for text in PROMPTS]
    assert len({tuple(text) for text in expected}) == 3
    assert [generate(model, text, 40, temperature=0)[0] for text in PROMPTS] == expected
    assert generate(model, PROMPTS, 40, temperature=0) == expected  # side by side, with padding


WAYS: list[dict[str, Any]] = [
    {"temperature": 0}, {"seed": 1}, {"seed": 2, "top_k": 5, "repetition_penalty": 1.3}, {"num_beams": 3},
]  # fmt: skip


@pytest.mark.parametrize("options", WAYS)
def test_remembering_changes_no_token(model: GPT, options: dict[str, Any]) -> None:
    plain = generate(model, PROMPTS, 40, **options)
    with remembering() as plugin:
        assert generate(model, PROMPTS, 40, **options) == plain
    read = sum(past.reads for past in plugin.made) / model.config.n_layer
    rows = len(PROMPTS) * options.get("num_beams", 1)
    assert read < 40 * rows * 6  # without remembering it is near 40 * rows * 9


class Reading(Remembering):
    """Notes the shape of what the model reads in each call, and begins with what `known` holds."""

    def __init__(self, beyond: str = "crop", known: ListPast | None = None) -> None:
        super().__init__()
        self.beyond, self.known = beyond, known
        self.read: list[tuple[int, int]] = []

    @hookimpl
    def tt_past(self) -> ListPast:
        past = self.known or ListPast()
        past.beyond, past.begin = self.beyond, self.begin
        return past

    def begin(self, ids: Any, positions: Any, attn_mask: Any) -> Any:
        self.read.append(ids.shape)
        return attn_mask


def test_a_row_that_ends_does_not_make_the_others_be_read_again(model: GPT) -> None:
    prompts = [[1, 2, 3, 4], [5], [6, 7]]
    plain = generate(model, prompts, 5, temperature=0)
    with tt_core.use(reading := Reading()):
        stopped = generate(model, prompts, 5, temperature=0, stop=plain[0][0])
    assert stopped[0] == plain[0][:1]
    expected = [new[: new.index(plain[0][0]) + 1] if plain[0][0] in new else new for new in plain]
    assert stopped == expected
    assert reading.read[0] == (3, 4)
    assert {length for _, length in reading.read[1:]} == {1}


def test_equal_prompts_are_read_once(model: GPT) -> None:
    prompts = [[1, 2], [3], [1, 2], [1, 2]]
    plain = generate(model, prompts, 4, seed=1)
    with tt_core.use(reading := Reading()):
        assert generate(model, prompts, 4, seed=1) == plain
    assert reading.read == [(2, 2), (4, 1), (4, 1), (4, 1)]


def test_a_past_that_is_not_empty_is_the_beginning_of_all_prompts(model: GPT) -> None:
    prompts = [[1, 2, 3, 4, 5], [1, 2, 3, 6], [1, 2, 3, 7, 8, 9]]
    plain = generate(model, prompts, 2, temperature=0)
    past = ListPast()
    with no_grad():
        model(tt_core.tensor([[1, 2, 3]]), past=past)
    with tt_core.use(reading := Reading(known=past)):
        assert generate(model, prompts, 2, temperature=0) == plain
    assert reading.read == [(3, 3), (3, 1)]


def test_a_past_may_refuse_texts_beyond_the_context(model: GPT) -> None:
    prompt = [1] * model.config.block_size
    with tt_core.use(Reading("error")):
        assert len(generate(model, prompt, 1)[0]) == 1
        for given, count in ((prompt, 2), ([2, *prompt], 1)):
            with pytest.raises(tt_core.TinyTorchError, match="it ends here"):
                generate(model, given, count)
            with pytest.raises(tt_core.TinyTorchError, match="it ends here"):
                list(stream(model, given, count))


def test_a_past_may_let_positions_go_on() -> None:
    model = model_of("llama")
    prompt = [1] * (model.config.block_size + 2)
    with tt_core.use(reading := Reading("window")):
        assert len(generate(model, prompt, 4)[0]) == 4  # and no warning that something was not read
    assert reading.read == [(1, len(prompt)), (1, 1), (1, 1), (1, 1)]
    with tt_core.use(Reading("window")), pytest.raises(tt_core.TinyTorchError):
        generate(model_of("gpt2"), [1] * (model.config.block_size + 2), 1)


@pytest.mark.parametrize("seed", range(4))
def test_remembering_changes_no_token_of_other_models(seed: int) -> None:
    model = model_of("llama" if seed % 2 else "gpt2", seed=seed, block_size=40, n_embd=32)
    plain = generate(model, [[seed]], 100, seed=seed)
    with remembering():
        assert generate(model, [[seed]], 100, seed=seed) == plain


def test_rows_of_a_batch_do_not_depend_on_each_other(model: GPT) -> None:
    together = generate(model, PROMPTS, 30, seed=7)
    assert generate(model, PROMPTS[:1], 30, seed=7) == together[:1]
    assert generate(model, PROMPTS[:2], 30, seed=7) == together[:2]


def test_seeds(model: GPT) -> None:
    assert generate(model, [1], 20, seed=1) == generate(model, [1], 20, seed=1)
    assert generate(model, [1], 20, seed=1) != generate(model, [1], 20, seed=2)
    tt_core.manual_seed(5)
    first = generate(model, [1], 20)
    assert generate(model, [1], 20) != first
    tt_core.manual_seed(5)
    assert generate(model, [1], 20) == first


def test_streaming_gives_each_token_when_it_is_chosen(model: GPT) -> None:
    tokens = stream(model, [1, 2], 10, seed=3)
    assert next(tokens) == generate(model, [1, 2], 1, seed=3)[0][0]
    assert list(tokens) == generate(model, [1, 2], 10, seed=3)[0][1:]


def test_the_model_is_left_in_the_mode_it_was_in() -> None:
    model = model_of(dropout=0.5)
    assert generate(model, [1], 8, temperature=0) == generate(model, [1], 8, temperature=0)
    assert all(layer.training for layer in model.layers())
    model.blocks[0].eval()
    generate(model, [1], 2)
    assert not model.blocks[0].training
    assert model.blocks[1].training


def test_prompts_may_be_tensors_arrays_or_lists(model: GPT) -> None:
    expected = generate(model, [[1, 2], [3, 4]], 3, seed=0)
    assert generate(model, tt_core.tensor([[1, 2], [3, 4]]), 3, seed=0) == expected
    assert generate(model, np.array([[1, 2], [3, 4]]), 3, seed=0) == expected
    assert generate(model, [tt_core.tensor([1, 2]), np.array([3, 4])], 3, seed=0) == expected
    assert generate(model, tt_core.tensor([1, 2]), 3, seed=0) == expected[:1]
    assert generate(model, [1], 0) == [[]]


# --- stops


def test_stops_end_one_row_and_not_the_others(model: GPT) -> None:
    plain = generate(model, PROMPTS, 20, seed=4)
    stop = plain[1][2]
    cut = [row[: row.index(stop) + 1] if stop in row else row for row in plain]
    assert generate(model, PROMPTS, 20, seed=4, stop=[stop]) == cut
    with remembering():
        assert generate(model, PROMPTS, 20, seed=4, stop=[stop]) == cut


def test_the_longest_text_may_leave_first(model: GPT) -> None:
    """What was remembered has the padding it was read with; the others must not look at it afterwards."""
    plain = generate(model, PROMPTS, 20, temperature=0)
    stop = plain[2][1]
    cut = [row[: row.index(stop) + 1] if stop in row else row for row in plain]
    with remembering():
        assert generate(model, PROMPTS, 20, temperature=0, stop=[stop]) == cut


def test_stops_may_be_sequences_and_strings() -> None:
    model = model_of(vocab_size=256)
    plain = generate(model, [65], 30, seed=0)[0]
    assert generate(model, [65], 30, seed=0, stop=[plain[4:7]])[0] == plain[:7]
    tokenizer = ByteTokenizer()
    readable = next(i for i in range(3, 28) if plain[i] < 128 and plain[i + 1] < 128)
    wanted = tokenizer.decode(plain[readable : readable + 2])
    found = generate(model, [65], 30, seed=0, stop=[wanted], tokenizer=tokenizer)[0]
    assert found == plain[: len(found)]
    assert tokenizer.decode(found[-2:]) == wanted
    assert wanted not in tokenizer.decode(found[:-1])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"stop": ["."]}, "need tokenizer="),
        ({"stop": [[]]}, "a stop is empty"),
        ({"stop": [""], "tokenizer": ByteTokenizer()}, "a stop is empty"),
        ({"temperature": -1.0}, "temperature is -1.0, expected 0"),
        ({"temperature": float("nan")}, "temperature is nan"),
        ({"top_k": 0}, "top_k is 0, expected an integer, 1 or more"),
        ({"top_p": 0.0}, "top_p is 0.0"),
        ({"min_p": 1.5}, "min_p is 1.5"),
        ({"repetition_penalty": 0.0}, "repetition_penalty is 0.0"),
        ({"no_repeat_ngram_size": -1}, "no_repeat_ngram_size is -1, expected an integer"),
        ({"no_repeat_ngram_size": 1.5}, "no_repeat_ngram_size is 1.5"),
        ({"min_new_tokens": -1}, "min_new_tokens is -1, expected an integer"),
        ({"num_beams": 2, "min_new_tokens": 2}, "beam search does not sample"),
        ({"temperature": None}, "temperature is None, expected 0"),
        ({"temperature": "1"}, "temperature is '1', expected 0"),
        ({"top_p": "high"}, "top_p is 'high'"),
        ({"repetition_penalty": None}, "repetition_penalty is None"),
        ({"top_k": "5"}, "top_k is '5'"),
        ({"num_beams": 2, "length_penalty": "1"}, "length_penalty is '1', expected a finite number"),
        ({"length_penalty": 2.0}, "length_penalty ranks beams; it needs num_beams above 1"),
        ({"num_beams": "2"}, "num_beams is '2', expected an integer"),
        ({"stop": 1.5}, "stop holds 1.5, expected ids, lists of ids or strings"),
        ({"stop": [None]}, "stop holds None"),
        ({"stop": [[1, "a"]]}, r"stop holds \[1, 'a'\]"),
    ],
)
def test_options_out_of_range(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        generate(model_of(), [1], 3, **options)


# --- prompts


def test_a_long_prompt_is_cropped_and_said_to_be(model: GPT) -> None:
    text = [i % 23 for i in range(17)]
    with pytest.warns(UserWarning, match="prompt 0 has 17 tokens, the context 12; its first 5 are not read"):
        found = generate(model, text, 5, temperature=0)
    assert found == generate(model, text[-12:], 5, temperature=0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        generate(model, text[-12:], 1)


def test_prompts_that_cannot_be_read(model: GPT) -> None:
    with pytest.raises(ShapeError, match="prompt 1 is empty"):
        generate(model, [[1], []], 3)
    with pytest.raises(ShapeError, match="prompt 0 is empty"):
        generate(model, [], 3)
    with pytest.raises(OutOfRangeError, match="id 23 is outside the vocabulary, which has 23 entries"):
        generate(model, [1, 23], 3)
    with pytest.raises(ShapeError, match="integer ids"):
        generate(model, [[1.5]], 3)
    with pytest.raises(ArgumentError, match="one prompt at a time"):
        stream(model, [[1], [2]], 3)


def test_windows_move_by_half_a_context() -> None:
    for length in range(1, 60):
        start = window_start(length, 12)
        assert length - start <= 12
        assert length - start > 6 or start == 0
        assert window_start(length + 1, 12) >= start
    assert [window_start(n, 1) for n in (1, 2, 3)] == [0, 1, 2]


# --- sampling


def drawn(sampling: Sampling, logits: np.ndarray, text: Sequence[int] = (), n: int = 4000) -> np.ndarray:
    random = np.random.default_rng(0)
    return np.bincount([sampling.choose(logits, text, random) for _ in range(n)], minlength=len(logits)) / n


LOGITS = np.log(np.array([0.5, 0.25, 0.15, 0.06, 0.04], np.float32))


@pytest.mark.parametrize(
    ("sampling", "expected"),
    [
        (Sampling(), [0.5, 0.25, 0.15, 0.06, 0.04]),
        (Sampling(temperature=0.5), [0.7246, 0.1811, 0.0652, 0.0104, 0.0046]),
        (Sampling(top_k=2), [2 / 3, 1 / 3, 0, 0, 0]),
        (Sampling(top_k=99), [0.5, 0.25, 0.15, 0.06, 0.04]),
        (Sampling(top_p=0.6), [2 / 3, 1 / 3, 0, 0, 0]),
        (Sampling(top_p=0.4), [1, 0, 0, 0, 0]),
        (Sampling(top_p=1.0), [0.5, 0.25, 0.15, 0.06, 0.04]),
        (Sampling(min_p=0.4), [2 / 3, 1 / 3, 0, 0, 0]),
        (Sampling(top_k=3, top_p=0.8), [2 / 3, 1 / 3, 0, 0, 0]),  # of 0.9: 0.56 + 0.28 reach 0.8
    ],
)
def test_draws_follow_the_probabilities(sampling: Sampling, expected: list[float]) -> None:
    assert np.allclose(drawn(sampling, LOGITS), expected, atol=0.03)


def test_repetition_penalty_moves_seen_tokens_down() -> None:
    sampling = Sampling(repetition_penalty=2.0)
    logits = np.array([2.0, -2.0, 1.0], np.float32)
    assert np.array_equal(sampling.penalized(logits, [0, 1, 1]), [1.0, -4.0, 1.0])
    assert np.array_equal(logits, [2.0, -2.0, 1.0])


def test_an_ngram_of_the_text_is_not_repeated() -> None:
    logits = np.array([3.0, 2.0, 1.0], np.float32)
    text = [0, 1, 0, 2, 0]
    for size, expected in ((0, [0, 1, 2]), (2, [0]), (3, [0, 1, 2]), (6, [0, 1, 2])):
        kept = Sampling(no_repeat_ngram_size=size).without_repeats(logits, text)
        assert np.flatnonzero(np.isfinite(kept)).tolist() == expected
    assert np.array_equal(Sampling(no_repeat_ngram_size=1).without_repeats(logits, text), logits)  # or none was left
    assert Sampling(no_repeat_ngram_size=1, temperature=0).choose(logits, [0], np.random.default_rng(0)) == 1


@pytest.mark.parametrize("size", [1, 2, 3])
def test_no_ngram_occurs_twice(model: GPT, size: int) -> None:
    text = [1, 2, *generate(model, [1, 2], 8, temperature=0, no_repeat_ngram_size=size)[0]]
    ngrams = [tuple(text[i : i + size]) for i in range(len(text) - size + 1)]
    assert len(set(ngrams)) == len(ngrams)


def test_the_end_is_not_chosen_before_min_new_tokens() -> None:
    first = generate(model_of(), [1], 1, temperature=0)[0][0]
    model = model_of(eos_token_id=first)
    assert generate(model, [1], 9, temperature=0) == [[first]]
    found = generate(model, [[1], [1, 2]], 9, temperature=0, min_new_tokens=4)
    assert all(first not in new[:4] and len(new) >= 4 for new in found)


def test_extreme_logits() -> None:
    assert Sampling().choose(np.array([-np.inf, 1e30, 3e38], np.float32), [], np.random.default_rng(0)) == 2
    assert set(np.flatnonzero(drawn(Sampling(), np.array([0, 0, -np.inf], np.float32), n=200))) == {0, 1}
    for temperature in (1e-300, 1e-320):
        assert (
            Sampling(temperature=temperature).choose(np.array([1, 3, 2], np.float32), [], np.random.default_rng(0)) == 1
        )


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("logit", [np.nan, np.inf])
def test_logits_that_are_no_numbers_give_no_token(temperature: float, logit: float) -> None:
    with pytest.raises(ConfigError, match=f"a logit of {logit}"):
        Sampling(temperature=temperature).choose(np.array([1, logit, 2], np.float32), [], np.random.default_rng(0))


# --- beams


def log_probability(model: GPT, text: list[int], new: Sequence[int]) -> float:
    with no_grad():
        logits = model(tt_core.tensor([text + list(new)])).numpy().astype(np.float64)[0]
    total = 0.0
    for i, token in enumerate(new):
        row = logits[len(text) + i - 1]
        total += row[token] - row.max() - np.log(np.exp(row - row.max()).sum())
    return total


def test_beams_wide_enough_find_the_likeliest_text() -> None:
    model = model_of(vocab_size=4)
    best = max(itertools.product(range(4), repeat=3), key=lambda new: log_probability(model, [1], new))
    assert generate(model, [1], 3, num_beams=64)[0] == list(best)


def test_beams_are_no_worse_than_greedy(model: GPT) -> None:
    greedy = generate(model, [3], 6, temperature=0)[0]
    beams = generate(model, [3], 6, num_beams=4)[0]
    assert log_probability(model, [3], beams) >= log_probability(model, [3], greedy) - 1e-4


def test_a_beam_that_stops_competes_by_its_length() -> None:
    model = model_of(vocab_size=4)
    short, long = (generate(model, [1], 6, num_beams=16, stop=[2], length_penalty=p)[0] for p in (-5.0, 5.0))
    assert len(short) <= len(long)
    for new in (short, long):
        assert 2 not in new[:-1]


# --- what a second look found


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"seed": -1}, "seed is -1, expected an integer"),
        ({"seed": 1.5}, "seed is 1.5"),
        ({"top_k": 2.5}, "top_k is 2.5"),
        ({"max_new_tokens": 2.5}, "max_new_tokens is 2.5"),
        ({"max_new_tokens": -1}, "max_new_tokens is -1"),
    ],
)
def test_numbers_that_are_not_whole(options: dict[str, Any], message: str) -> None:
    options = {"max_new_tokens": 2, **options}
    for function in (generate, stream):
        with pytest.raises(ConfigError, match=message):
            function(model_of(), [1], **options)


@pytest.mark.parametrize("options", [{"temperature": 0.7}, {"top_k": 3}, {"top_p": 0.9}, {"repetition_penalty": 1.3}])
def test_beams_do_not_pass_over_options_in_silence(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="beam search does not sample; leave out"):
        generate(model_of(), [1], 3, num_beams=2, **options)
    assert generate(model_of(), [1], 3, num_beams=2, temperature=0) == generate(model_of(), [1], 3, num_beams=2)


@pytest.mark.parametrize("beams", [1, 3])
def test_weights_that_are_nan_are_an_error_with_beams_too(beams: int) -> None:
    model = model_of()
    model.wte.weight.data[...] = np.nan
    with pytest.raises(ConfigError, match="a logit of nan"):
        generate(model, [1], 3, num_beams=beams)


def test_a_filtered_token_is_not_drawn_by_rounding() -> None:
    """The largest draw below 1 times a sum that is rounded up stands behind all that is left."""

    class Highest:
        def random(self) -> float:
            return 1 - 2**-53

    random = np.random.default_rng(0)
    for _ in range(300):
        logits = random.standard_normal(40)
        logits[-1] = -9
        assert Sampling(top_k=39).choose(logits, [], Highest()) < 39  # type: ignore[arg-type]


def test_stops_out_of_arrays_and_tensors() -> None:
    model = model_of()
    free = generate(model, [1], 8, seed=0)[0]
    first, second, third = free[:3]
    assert generate(model, [1], 8, seed=0, stop=np.int64(first))[0] == free[:1]
    assert generate(model, [1], 8, seed=0, stop=tt_core.tensor([first]))[0] == free[:1]
    assert generate(model, [1], 8, seed=0, stop=[np.array([second, third])])[0] == free[:3]


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        (3, "got 3"),
        ("abc", "got 'abc'"),
        (tt_core.tensor(3), "got 3"),
        ([[[1]]], "lists of int64 values"),
        (None, "a prompt is a list of ids, got None"),
        ([[1], 2], "either ids or lists of ids, got lists and 2"),
        ([2, [1]], "either ids or lists of ids, got lists and 2"),
        ([[1, [2]]], r"prompt 0 is \[1, \[2\]\], expected a list of ids"),
        ([None], "holds object values"),
        ({1: 2}, "got {1: 2}"),
    ],
)
def test_prompts_that_are_no_lists_of_ids(prompt: Any, message: str) -> None:
    with pytest.raises(ShapeError, match=message):
        generate(model_of(), prompt, 2)


class Bigrams(Layer):
    """The next token depends on the last one alone, with the probabilities of a table (from, to)."""

    def __init__(self, table: Any) -> None:
        super().__init__()
        self.table, self.config = np.log(np.array(table)), GPTConfig(vocab_size=len(table), block_size=8)

    def forward(self, ids: Any, **options: Any) -> Any:
        return tt_core.tensor(self.table[ids.numpy()[:, -1:]])


def test_a_beam_that_never_stopped_may_be_the_best() -> None:
    """(log 0.6) of each token of the one, less of each of those that end with 0."""
    model = Bigrams([[1 / 3] * 3, [0.3, 0.6, 0.1], [0.3, 0.6, 0.1]])
    assert generate(model, [1], 4, num_beams=2, stop=0) == [[1, 1, 1, 1]]
    assert generate(model, [1], 4, num_beams=2, stop=0, length_penalty=0) == [[0]]


# --- ends and padded vocabularies


def test_generation_ends_with_the_token_that_the_config_names() -> None:
    model = model_of()
    free = generate(model, PROMPTS, 12, seed=0)
    end = free[0][4]
    model.config = dataclasses.replace(model.config, eos_token_id=[22, end])
    for new, ended in zip(free, generate(model, PROMPTS, 12, seed=0)):
        length = next((i + 1 for i, token in enumerate(new) if token in (22, end)), 12)
        assert ended == new[:length]
    assert list(stream(model, PROMPTS[0], 12, seed=0))[-1] in (22, end)
    assert generate(model, PROMPTS, 12, seed=0, ignore_eos=True) == free
    assert generate(model, PROMPTS, 12, seed=0, stop=None, ignore_eos=True) == free


def test_a_beam_ends_with_the_token_that_the_config_names() -> None:
    model = Bigrams([[1 / 3] * 3, [0.3, 0.6, 0.1], [0.3, 0.6, 0.1]])
    model.config = dataclasses.replace(model.config, eos_token_id=0)
    assert generate(model, [1], 4, num_beams=2, length_penalty=0) == [[0]]
    assert generate(model, [1], 4, num_beams=2, length_penalty=0, ignore_eos=True) == [[1, 1, 1, 1]]


@pytest.mark.parametrize("end", [-1, 23, "a", [1, None], True, 1.0])
def test_ends_that_are_no_ids(end: Any) -> None:
    with pytest.raises(ConfigError, match="eos_token_id is None, or one or more ids below 23"):
        GPTConfig(vocab_size=23, eos_token_id=end)


def test_a_config_with_ends_goes_through_json() -> None:
    config = GPTConfig(vocab_size=23, eos_token_id=(3, 4))
    assert GPTConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config
    assert GPTConfig(vocab_size=23, eos_token_id=[]).end_ids == GPTConfig(vocab_size=23).end_ids == ()


class Letters:
    """A tokenizer with the ids 0, 1 and 3."""

    def known_ids(self, size: int) -> np.ndarray:
        return np.isin(np.arange(size), [0, 1, 3])

    def decode(self, ids: Sequence[int]) -> str:
        return "".join("ab?c"[i] for i in ids)


@pytest.mark.parametrize("options", [{"seed": 0}, {"temperature": 0}, {"num_beams": 3}, {"num_beams": 9}, {"top_k": 5}])
def test_ids_without_a_token_are_never_chosen(options: dict[str, Any]) -> None:
    """The model would nearly always choose 4, which its tokenizer does not have."""
    model = Bigrams([[0.05, 0.04, 0.1, 0.01, 0.8]] * 5)
    free = generate(model, [[1], [0]], 7, **options)
    assert {4} <= {token for new in free for token in new}
    for new in generate(model, [[1], [0]], 7, tokenizer=Letters(), **options):
        assert len(new) == 7
        assert set(new) <= {0, 1, 3}
