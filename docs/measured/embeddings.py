"""Numbers and pictures of lesson 11, embeddings."""

from __future__ import annotations

import functools

import numpy as np

import tt_core as tt
from measured import fastest, number, picture
from tt_language import GPT, GPTConfig, RotaryEmbedding, SinusoidalEmbedding, TransformerBlock
from tt_language.embeddings import embedding, embedding_backward, memory_footprint
from tt_learn.svg import line_chart

IDS = np.random.default_rng(0).integers(0, 8192, 256)
TABLE = np.random.default_rng(1).standard_normal((8192, 128)).astype(np.float32)


@functools.cache
def gpt2() -> tuple[int, int]:
    """The parameters of GPT-2's two tables, and of all of it: 12 blocks, and a last normalization."""
    c = GPTConfig()
    tables = (c.vocab_size + c.block_size) * c.n_embd
    block = TransformerBlock(c.n_embd, c.n_head).num_parameters()
    return tables, tables + c.n_layer * block + 2 * c.n_embd


@number(124e6, 125e6, ",.0f")
def gpt2_parameters() -> float:
    """The parameters of GPT-2."""
    return gpt2()[1]


@number(0.31, 0.32, ".0%")
def gpt2_embedding_share() -> float:
    """The share of the embeddings in the parameters of GPT-2."""
    return gpt2()[0] / gpt2()[1]


@number(0.7, 0.95, ".0%")
def small_embedding_share() -> float:
    """The share of the embeddings in a model of four blocks 128 wide with GPT-2's vocabulary."""
    found = memory_footprint(GPT(GPTConfig(n_layer=4, n_head=4, n_embd=128, block_size=128)))
    return sum(found.embeddings.values()) / found.total


@number(10, 20000, ",.0f")
def one_hot_times_lookup() -> float:
    """How many times as long a product with one-hot vectors takes as a look-up."""
    one_hot = np.zeros((len(IDS), len(TABLE)), np.float32)
    one_hot[np.arange(len(IDS)), IDS] = 1
    product, lookup = fastest(lambda: one_hot @ TABLE, lambda: embedding.kernel(IDS, TABLE), rounds=7)
    return product / lookup


@number(3, 3, ".0f")
def repeated_id_gradient() -> float:
    """The gradient of a row that was looked up three times, each time with the gradient 1."""
    g = embedding_backward.kernel(np.ones((3, 1), np.float32), np.array([5, 5, 5]), size=8)
    return float(g[5, 0])


@number(1, 1, ".0f")
def lost_gradient() -> float:
    """What `total[ids] += g` makes of it."""
    total = np.zeros((8, 1), np.float32)
    total[np.array([5, 5, 5])] += 1
    return float(total[5, 0])


@picture
def sine_positions() -> str:
    """Four of the 64 features of sinusoidal positions: each pair of features has a frequency of its own."""
    table = SinusoidalEmbedding(100, 64).table.data
    return line_chart({f"feature {i}": list(enumerate(table[:, i].tolist())) for i in (0, 8, 16, 32)}, "", "position")


@picture
def rotary_distances() -> str:
    """Products of a rotated query and a rotated key by their distance; the query stands at 0 and at 40."""
    layer = RotaryEmbedding(64, max_length=256)
    ones = tt.ones(1, 1, 1, 64)

    def product(query: int, key: int) -> float:
        q, k = (layer(ones, tt.tensor([place])).data for place in (query, key))
        return float((q * k).sum())

    series = {f"query at {q}": [(float(d), product(q, q + d)) for d in range(101)] for q in (0, 40)}
    return line_chart(series, "", "distance", "product")


@number(0, 1e-3, ".0e")
def rotary_difference() -> float:
    """The largest difference between the products at one distance for two places of the query."""
    layer, ones = RotaryEmbedding(64, max_length=256), tt.ones(1, 1, 1, 64)
    q0, q40, k7, k47 = (layer(ones, tt.tensor([place])).data for place in (0, 40, 7, 47))
    return abs(float((q0 * k7).sum() - (q40 * k47).sum()) / float((q0 * k7).sum()))
