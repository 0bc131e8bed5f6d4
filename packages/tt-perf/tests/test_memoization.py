"""Module 17: a cache gives back what went in, follows its rows, and makes each token cost the same."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest

import tt_core
from tt_core.layers import Layer
from tt_language import GPT, GPTConfig, generate
from tt_learn.autograd import GradientError
from tt_perf import Profiler
from tt_perf.memoization import KVCache


def some(positions: int, rows: int = 2, first: float = 0.0) -> tt_core.Tensor:
    """(rows, 3 heads, positions, 4), each number another one."""
    count = rows * 3 * positions * 4
    return tt_core.tensor(first + np.arange(count, dtype=np.float32).reshape(rows, 3, positions, 4))


WATCHED = """
from tt_language import GPT, GPTConfig, generate

class Watched(GPT):
    def forward(self, ids, **options):
        print(ids.shape[1])
        return super().forward(ids, **options)

generate(Watched(GPTConfig(vocab_size=9, block_size=8, n_layer=1, n_head=1, n_embd=4)), [[1, 2, 3]], 3, seed=0)
"""


@pytest.mark.parametrize(("plugins", "read"), [("kv-cache", ["3", "1", "1"]), ("", ["3", "4", "5"])])
def test_the_variable_plugs_it_in_before_the_first_token(plugins: str, read: list[str]) -> None:
    environment = {**os.environ, "TT_PLUGINS": plugins}
    done = subprocess.run([sys.executable, "-c", WATCHED], env=environment, stdout=subprocess.PIPE, text=True)
    assert done.stdout.split() == read


def test_gives_back_all_that_went_in_oldest_first() -> None:
    cache, layer = KVCache(rows=2, length=8), Layer()
    parts = [some(3), some(1, first=100), some(2, first=200)]
    for part in parts:
        k, v = cache.extend(layer, part, part + 0.5)
    expected = np.concatenate([part.numpy() for part in parts], axis=2)
    np.testing.assert_array_equal(k.numpy(), expected)
    np.testing.assert_array_equal(v.numpy(), expected + 0.5)
    assert cache.length == 6


def test_each_layer_has_its_own() -> None:
    cache, one, two = KVCache(rows=2, length=4), Layer(), Layer()
    cache.extend(one, some(2), some(2))
    k, _ = cache.extend(two, some(2, first=50), some(2))
    np.testing.assert_array_equal(k.numpy(), some(2, first=50).numpy())
    assert cache.length == 2


def test_keeps_a_copy_of_what_it_is_given() -> None:
    cache, layer, k = KVCache(rows=2, length=4), Layer(), some(1)
    cache.extend(layer, k, k)
    k.data[:] = -1
    kept, _ = cache.extend(layer, some(1), some(1))
    np.testing.assert_array_equal(kept.numpy()[:, :, :1], some(1).numpy())


def test_grows_when_there_is_no_room_and_forgets_nothing() -> None:
    cache, layer = KVCache(rows=2, length=2), Layer()
    for position in range(9):
        k, v = cache.extend(layer, some(1, first=position), some(1, first=-position))
    assert k.shape == v.shape == (2, 3, 9, 4)
    np.testing.assert_array_equal(k.numpy()[0, 0, :, 0], np.arange(9))
    np.testing.assert_array_equal(v.numpy()[0, 0, :, 0], -np.arange(9))


def test_allocates_once_where_the_room_suffices() -> None:
    cache, layer = KVCache(rows=2, length=16), Layer()
    cache.extend(layer, some(3), some(3))
    bytes_at_first = cache.nbytes
    assert bytes_at_first == 2 * (2 * 3 * 16 * 4) * 4  # keys and values: rows, heads, room, size, float32
    for _ in range(13):
        cache.extend(layer, some(1), some(1))
    assert cache.nbytes == bytes_at_first


def test_another_batch_is_an_error() -> None:
    cache, layer = KVCache(rows=2, length=4), Layer()
    cache.extend(layer, some(2), some(2))
    with pytest.raises(tt_core.TinyTorchError, match="2 texts are remembered, got 1"):
        cache.extend(layer, some(1, rows=1), some(1, rows=1))


@pytest.mark.parametrize("rows", [[1, 0], [1, 1], [0], [1], [0, 1, 0], [1, 0, 1, 1, 0]], ids=str)
def test_rows_follow_a_selection(rows: list[int]) -> None:
    cache, layer = KVCache(rows=2, length=8), Layer()
    cache.extend(layer, some(2), some(2))
    cache.select(rows)
    new = some(1, rows=len(rows), first=500)
    k, v = cache.extend(layer, new, new)
    assert cache.rows == len(rows)
    for result in (k, v):
        np.testing.assert_array_equal(result.numpy()[:, :, :2], some(2).numpy()[rows])
        np.testing.assert_array_equal(result.numpy()[:, :, 2:], new.numpy())


def test_a_long_context_costs_nothing_until_it_is_used() -> None:
    cache, layer = KVCache(rows=4, length=1 << 40), Layer()
    cache.extend(layer, some(3, rows=1), some(3, rows=1))
    cache.select([0, 0, 0, 0])
    assert cache.nbytes < 1 << 20
    k, _ = cache.extend(layer, some(1, rows=4), some(1, rows=4))
    np.testing.assert_array_equal(k.numpy()[:, :, :3], np.repeat(some(3, rows=1).numpy(), 4, axis=0))


def test_rows_that_stay_are_not_copied_and_rows_that_end_give_memory_back() -> None:
    cache, layer = KVCache(rows=8, length=64), Layer()
    before, _ = cache.extend(layer, some(2, rows=8), some(2, rows=8))
    cache.select([0, 1, 2, 3, 4])
    after, _ = cache.extend(layer, some(1, rows=5), some(1, rows=5))
    assert np.shares_memory(before.data, after.data)
    allocated = cache.nbytes
    cache.select([4, 2])
    assert cache.nbytes == allocated / 4
    kept, _ = cache.extend(layer, some(1, rows=2), some(1, rows=2))
    np.testing.assert_array_equal(kept.numpy()[:, :, :2], some(2, rows=8).numpy()[[4, 2]])


def test_another_batch_may_follow_where_nothing_is_remembered() -> None:
    cache, layer = KVCache(rows=1, length=4), Layer()
    cache.extend(layer, some(2, rows=1), some(2, rows=1))
    cache.clear()
    k, _ = cache.extend(layer, some(2, rows=3), some(2, rows=3))
    np.testing.assert_array_equal(k.numpy(), some(2, rows=3).numpy())


def test_clear_forgets_and_keeps_the_memory() -> None:
    cache, layer = KVCache(rows=2, length=8), Layer()
    cache.extend(layer, some(5), some(5))
    allocated = cache.nbytes
    cache.clear()
    assert (cache.length, cache.nbytes) == (0, allocated)
    k, _ = cache.extend(layer, some(1, first=9), some(1))
    np.testing.assert_array_equal(k.numpy(), some(1, first=9).numpy())


# --- in generation


CONFIG = GPTConfig(vocab_size=50, block_size=64, n_layer=2, n_head=2, n_embd=16)


@pytest.fixture(scope="module")
def model() -> GPT:
    tt_core.manual_seed(0)
    model = GPT(CONFIG).eval()
    for parameter in model.parameters():  # as far apart as a trained model's, or all logits would be nearly equal
        parameter.data *= 8
    return model


def test_a_gradient_that_would_end_in_the_cache_is_an_error(model: GPT) -> None:
    with pytest.raises(GradientError, match="no_grad"):
        model(tt_core.tensor([[1, 2]]), past=KVCache(rows=1, length=4))


def flops_per_token(model: GPT, prompt: int) -> float:
    """FLOPs in linear layers and products for each token after the first, which reads the prompt."""

    def total(tokens: int) -> int:
        with Profiler() as profiler:
            generate(model, [1] * prompt, tokens, temperature=0)
        return sum(entry.flops for entry in profiler.entries() if entry.name in ("linear", "matmul"))

    return (total(5) - total(1)) / 4


def test_with_the_cache_a_token_costs_the_same_at_any_length(model: GPT) -> None:
    weights = sum(
        p.numel() for name, p in model.named_parameters() if p.ndim == 2 and name not in ("wte.weight", "wpe.weight")
    )
    with tt_core.use("kv-cache"):
        costs = [flops_per_token(model, prompt) for prompt in (2, 20, 50)]
    assert costs[0] == costs[1] == costs[2] >= 2 * weights  # one multiply-add a weight, for one row


def test_without_it_the_cost_grows_with_the_text(model: GPT) -> None:
    short, long = flops_per_token(model, 2), flops_per_token(model, 50)
    assert long > 5 * short


@pytest.mark.parametrize("options", [{"temperature": 0}, {"seed": 4}, {"num_beams": 3}, {"stop": [3, 7], "seed": 1}],
                         ids=str)  # fmt: skip
def test_the_same_tokens_for_a_batch_of_unequal_prompts(model: GPT, options: dict[str, object]) -> None:
    prompts = [[1, 2, 3], [4], list(range(40))]
    plain = generate(model, prompts, 40, **options)  # past the end of the context
    with tt_core.use("kv-cache"):
        assert generate(model, prompts, 40, **options) == plain
    assert len({token for new in plain for token in new}) > 3


SCALINGS = {
    "dynamic": {"rope_type": "dynamic", "factor": 4.0, "original_max_position_embeddings": 12},
    "longrope": {"rope_type": "longrope", "short_factor": [1.0] * 4, "long_factor": [2.0, 3.0, 4.0, 5.0],
                 "factor": 4.0, "original_max_position_embeddings": 12},
}  # fmt: skip


@pytest.mark.parametrize("kind", SCALINGS)
def test_keys_rotated_by_other_frequencies_are_not_remembered(kind: str) -> None:
    tt_core.manual_seed(0)
    model = GPT(GPTConfig(50, 48, 2, 2, 16, position="rotary", rope_scaling=SCALINGS[kind])).eval()
    for parameter in model.parameters():
        parameter.data *= 8
    plain = generate(model, [[1, 2, 3], [4]], 30, temperature=0)
    with tt_core.use("kv-cache"):
        assert generate(model, [[1, 2, 3], [4]], 30, temperature=0) == plain


def test_plugging_out_leaves_generation_without_a_past(model: GPT) -> None:
    from tt_core.engine.plugins import manager

    with tt_core.use("kv-cache"):
        assert isinstance(manager.ask("tt_past", model=model, rows=1, length=4, prompts=[[1]]), KVCache)
    assert manager.ask("tt_past", model=model, rows=1, length=4, prompts=[[1]]) is None
