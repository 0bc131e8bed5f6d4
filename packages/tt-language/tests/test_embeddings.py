"""Module 11: tables, positions, rotations, and what is shown of a trained table."""

from __future__ import annotations

import math
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tt_core
from tt_core.engine.errors import ArgumentError, DTypeError, OutOfRangeError, ShapeError
from tt_language import (
    GPT,
    ConfigError,
    Embedding,
    GPTConfig,
    PositionalEmbedding,
    RotaryEmbedding,
    SinusoidalEmbedding,
    embedding,
    memory_footprint,
    nearest,
    picture,
    rotary,
)
from tt_language.embeddings import embedding_backward
from tt_learn import Tensor, grad, gradcheck, gradgradcheck


def leaf(*shape: int, seed: int = 0) -> Tensor:
    return Tensor(np.random.default_rng(seed).standard_normal(shape), requires_grad=True)


# --- tables


def test_looks_rows_up() -> None:
    table = Embedding(5, 3)
    ids = tt_core.tensor([[4, 0], [2, 2]])
    assert np.array_equal(table(ids).numpy(), table.weight.numpy()[ids.numpy()])


@pytest.mark.parametrize("padding_idx", [None, 2])
def test_gradients_of_both_orders(padding_idx: int | None) -> None:
    ids = tt_core.tensor([[1, 2, 1], [0, 2, 4]])

    def look_up(weight: Tensor) -> Tensor:
        out = embedding(ids, weight * weight, padding_idx=padding_idx)
        if padding_idx is None:
            return out
        return out * tt_core.tensor((ids.numpy() != padding_idx)[..., None].astype(float))  # its row is held still

    assert gradcheck(look_up, [leaf(5, 3)])
    assert gradgradcheck(look_up, [leaf(5, 3)])


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 6), max_size=40), st.sampled_from([1, 3, 255, 256, 300]))
def test_backward_adds_repeated_rows_up(ids: list[int], dim: int) -> None:
    g = np.random.default_rng(len(ids)).standard_normal((len(ids), dim)).astype(np.float32)
    expected = np.zeros((7, dim), np.float32)
    np.add.at(expected, np.array(ids, dtype=int), g)
    found = embedding_backward.kernel(g, np.array(ids, dtype=int), size=7)
    assert np.array_equal(found, expected)  # in the same order, so to the bit


def test_the_padding_row_starts_at_zero_and_stays() -> None:
    table = Embedding(5, 3, padding_idx=-1)
    assert table.padding_idx == 4
    table(tt_core.tensor([4, 4, 1])).sum().backward()
    assert not table.weight.numpy()[4].any()
    assert not table.weight.grad.numpy()[4].any()
    assert table.weight.grad.numpy()[1].all()


@pytest.mark.parametrize("wrong", [5, -1, 1 << 40])
def test_an_id_outside_is_named_with_the_size(wrong: int) -> None:
    with pytest.raises(OutOfRangeError, match=rf"id {wrong} is outside the vocabulary, which has 5 entries"):
        Embedding(5, 3)(tt_core.tensor([0, wrong]))


def test_ids_are_whole_numbers() -> None:
    with pytest.raises(DTypeError, match="ids must be integers, got float32"):
        Embedding(5, 3)(tt_core.tensor([0.0]))


def test_a_padding_row_outside_the_table_is_an_error() -> None:
    with pytest.raises(OutOfRangeError, match="padding_idx 5"):
        Embedding(5, 3, padding_idx=5)


# --- positions


def test_sine_waves_are_those_of_the_paper() -> None:
    found = SinusoidalEmbedding(8, 6)(tt_core.arange(8)).numpy()
    for position in range(8):
        for i in range(3):
            angle = position / 10000 ** (2 * i / 6)
            assert found[position, 2 * i] == pytest.approx(math.sin(angle), abs=1e-6)
            assert found[position, 2 * i + 1] == pytest.approx(math.cos(angle), abs=1e-6)
    assert not SinusoidalEmbedding(8, 6).state_dict()


def test_learnt_positions_are_parameters() -> None:
    layer = PositionalEmbedding(16, 4)
    assert list(layer.state_dict()) == ["weight"]
    assert layer(tt_core.arange(3)).shape == (3, 4)


def test_odd_sizes_are_refused() -> None:
    with pytest.raises(ShapeError, match="odd"):
        SinusoidalEmbedding(8, 5)
    with pytest.raises(ShapeError, match="odd"):
        RotaryEmbedding(5)


# --- rotations


def test_products_of_rotated_vectors_depend_on_distance_alone() -> None:
    turn = RotaryEmbedding(8, max_length=64)
    q, k = tt_core.randn(1, 1, 1, 8), tt_core.randn(1, 1, 1, 8)

    def product(i: int, j: int) -> float:
        return float((turn(q, tt_core.tensor([i])) * turn(k, tt_core.tensor([j]))).sum().item())

    assert product(7, 3) == pytest.approx(product(60, 56), abs=1e-4)
    assert product(7, 3) != pytest.approx(product(7, 4), abs=1e-4)


def test_rotation_is_checked_against_finite_differences() -> None:
    cos, sin = RotaryEmbedding(4).angles(tt_core.arange(3))
    cos, sin = cos.double(), sin.double()
    assert gradcheck(lambda x: rotary(x, cos, sin), [leaf(2, 2, 3, 4)])
    assert gradgradcheck(lambda x: rotary(x * x, cos, sin), [leaf(2, 2, 3, 4)])
    angles = [leaf(2, 2, 3, 4), leaf(3, 2, seed=1), leaf(2, 1, 3, 2, seed=2)]  # learned ones, of two shapes
    assert gradcheck(rotary, angles)
    assert gradgradcheck(rotary, angles)


def test_each_row_of_a_batch_may_have_positions_of_its_own() -> None:
    turn, x = RotaryEmbedding(4), tt_core.randn(2, 3, 2, 4)
    both = turn(x, tt_core.tensor([[0, 1], [5, 6]])).numpy()
    alone = turn(x[1:], tt_core.tensor([5, 6])).numpy()[0]
    np.testing.assert_allclose(both[1], alone, rtol=0, atol=5e-7)  # a compiled loop may round once, not twice


def test_scaled_frequencies() -> None:
    plain = RotaryEmbedding(8).frequency
    assert np.allclose(RotaryEmbedding(8, scaling={"type": "linear", "factor": 4.0}).frequency, plain / 4)
    llama3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
              "original_max_position_embeddings": 64}  # fmt: skip
    found = RotaryEmbedding(8, scaling=llama3).frequency
    assert found[0] == plain[0]  # 10 turns in 64 positions: kept
    assert found[-1] == pytest.approx(plain[-1] / 8)  # 0.01 turns: stretched


def test_yarn_keeps_fast_waves_and_stretches_slow_ones() -> None:
    plain = RotaryEmbedding(16).frequency
    yarn = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 4096}
    rope = RotaryEmbedding(16, scaling=yarn)
    found = rope.frequency
    assert np.array_equal(found[:3], plain[:3])  # 65 turns and more; the ramp begins at 32, rounded down to a pair
    assert np.allclose(found[-2:], plain[-2:] / 4)
    cos, sin = rope.angles(np.arange(3))
    length = np.hypot(cos.numpy(), sin.numpy())
    assert np.allclose(length, 0.1 * np.log(4) + 1)  # section 3.4 of the paper


def test_longrope_has_a_list_for_short_texts_and_one_for_long_ones() -> None:
    scaling = {"rope_type": "longrope", "short_factor": [1.0, 2.0], "long_factor": [1.0, 8.0], "factor": 4.0,
               "original_max_position_embeddings": 4}  # fmt: skip
    rope, plain = RotaryEmbedding(4, 16, scaling=scaling), RotaryEmbedding(4, 16).frequency
    magnitude = np.sqrt(1 + np.log(4) / np.log(4))
    for length, divisor in ((4, 2), (5, 8)):
        sines = rope.angles(np.arange(length))[1].numpy()
        assert np.allclose(sines[-1, 1], magnitude * np.sin((length - 1) * plain[1] / divisor), atol=1e-6)
    assert [rope.changes_at(n) for n in (4, 5, 6)] == [False, True, False]


def test_dynamic_frequencies_follow_each_text_of_a_batch() -> None:
    scaling = {"rope_type": "dynamic", "factor": 2.0, "original_max_position_embeddings": 4}
    rope, plain = RotaryEmbedding(8, 16, scaling=scaling), RotaryEmbedding(8, 16)
    for ours, expected in zip(rope.angles(np.arange(4)), plain.angles(np.arange(4))):
        assert np.array_equal(ours.numpy(), expected.numpy())
    stretched = RotaryEmbedding(8, 16, theta=10000.0 * 2 ** (8 / 6))  # at 6 positions: 2 * 6 / 4 - (2 - 1) = 2
    both = rope.angles(np.array([[0, 1, 2, 3, 4, 5], [0, 0, 0, 1, 2, 3]]))
    assert np.allclose(both[0].numpy()[0, 0], stretched.angles(np.arange(6))[0].numpy(), atol=1e-6)
    assert np.allclose(both[0].numpy()[1, 0, 2:], plain.angles(np.arange(4))[0].numpy(), atol=1e-6)
    assert [rope.changes_at(n) for n in (4, 5, 6)] == [False, True, True]


@pytest.mark.parametrize(
    ("scaling", "message"),
    [
        ({"rope_type": "su"}, "rope_type is 'su', expected one of default, linear, dynamic, llama3, yarn, longrope"),
        ({"rope_type": "linear"}, "linear needs a positive factor, got None"),
        ({"rope_type": "yarn"}, "yarn needs a positive factor, got None"),
        ({"factor": 2.0}, "rope_type default does not take 'factor'; it takes none"),
        ({"rope_type": "linear", "factor": 2.0, "beta_fast": 3.0}, "linear does not take 'beta_fast'"),
        ({"rope_type": "yarn", "factor": 2.0, "truncate": 1}, "yarn needs true or false as truncate"),
        (
            {"rope_type": "longrope", "factor": 2.0, "short_factor": [1.0] * 4, "long_factor": [1.0]},
            r"longrope needs a positive number for each pair of features as long_factor, got \[1.0\]",
        ),
        (
            {"rope_type": "llama3", "factor": 2.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
             "original_max_position_embeddings": 8.5},
            "llama3 needs an integer above 1 as original_max_position_embeddings, got 8.5",
        ),
    ],
)  # fmt: skip
def test_scalings_that_cannot_be_read(scaling: dict[str, Any], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        RotaryEmbedding(8, scaling=scaling)


@pytest.mark.parametrize("wrong", [-1, 16])
def test_a_position_outside_is_named(wrong: int) -> None:
    with pytest.raises(OutOfRangeError, match=f"position {wrong} is outside its 16 positions"):
        RotaryEmbedding(4, max_length=16).angles(tt_core.tensor([0, wrong]))


# --- looking at a table


def test_nearest_finds_what_points_the_same_way() -> None:
    table = np.array([[1.0, 0.0], [2.0, 0.2], [0.0, 1.0], [-1.0, 0.0], [0.0, 0.0]])
    assert [i for i, _ in nearest(table, 0, k=2)] == [1, 2]
    assert nearest(table, np.array([0.0, 3.0]), k=1) == [(2, 1.0)]
    assert dict(nearest(table, 4))[0] == 0  # a vector of zeros is near nothing
    with pytest.raises(ShapeError, match="vector has shape"):
        nearest(table, np.zeros(3))
    with pytest.raises(IndexError, match="id 5"):
        nearest(table, 5)


def test_the_picture_is_svg_with_a_point_a_token(tmp_path: Path) -> None:
    picture(Embedding(9, 5), [0, 3, 8], tmp_path / "table.svg", labels=["<a>", "\n", "é"])
    root = ET.parse(tmp_path / "table.svg").getroot()
    names = [element.text for element in root.iter() if element.tag.endswith("text")]
    assert names == ["<a>", "\\n", "é"]


def test_pictures_need_two_ids_and_their_labels(tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match="2 ids or more"):
        picture(Embedding(9, 5), [0], tmp_path / "table.svg")
    with pytest.raises(ArgumentError, match="label for each"):
        picture(Embedding(9, 5), [0, 1], tmp_path / "table.svg", labels=["a"])


def test_points_in_a_plane_keep_their_distances(tmp_path: Path) -> None:
    corners = np.array([[0.0, 0, 0], [4, 0, 0], [4, 1, 0], [0, 1, 0]]) + 7
    picture(corners, range(4), tmp_path / "square.svg")
    circles = [e for e in ET.parse(tmp_path / "square.svg").getroot().iter() if e.tag.endswith("circle")]
    at = np.array([[float(c.get("cx", 0)), float(c.get("cy", 0))] for c in circles])
    wide = np.ptp(at[:, 0])
    assert wide == pytest.approx(720 - 72, abs=0.2)  # the long side lies along the width
    assert np.linalg.norm(at[0] - at[1]) == pytest.approx(wide, rel=0.01)


def test_memory_footprint_counts_a_shared_table_once() -> None:
    model = GPT(GPTConfig(vocab_size=100, block_size=8, n_layer=1, n_head=2, n_embd=16))
    found = memory_footprint(model)
    assert found.embeddings == {"wte.weight": 100 * 16 * 4, "wpe.weight": 8 * 16 * 4}
    assert found.total == 4 * model.num_parameters()
    assert "everything else" in str(found)


# --- what a second look found


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.int16, np.uint64])
@pytest.mark.parametrize("dim", [2, 100, 256])
def test_narrow_ids_have_the_gradients_of_wide_ones(dtype: type, dim: int) -> None:
    ids = np.array([1, 100, 120, 3, 3])
    wide, narrow = leaf(127, dim), leaf(127, dim)
    weights = np.arange(5.0 * dim).reshape(5, dim)
    (embedding(ids, wide) * weights).sum().backward()
    (embedding(ids.astype(dtype), narrow) * weights).sum().backward()
    assert np.array_equal(narrow.grad.numpy(), wide.grad.numpy())


def test_a_padding_row_counted_from_the_end_has_no_gradient_of_any_order() -> None:
    ids, weight, g = tt_core.tensor([3, 0, 3]), leaf(4, 2), leaf(3, 2)
    (for_weight,) = grad(embedding(ids, weight, padding_idx=-1), [weight], g, create_graph=True)
    assert np.array_equal(for_weight.numpy(), [g.numpy()[1], [0, 0], [0, 0], [0, 0]])
    for_weight.sum().backward()
    assert g.grad.tolist() == [[0, 0], [1, 1], [0, 0]]


def test_tables_that_are_none() -> None:
    ids = tt_core.tensor([0, 1])
    with pytest.raises(ShapeError, match=r"weight must be \(entries, dim\), got shape \(3,\)"):
        embedding(ids, leaf(3))
    with pytest.raises(OutOfRangeError, match="padding_idx 3 is outside the table"):
        embedding(ids, leaf(3, 2), padding_idx=3)
    empty = Embedding(3, 0)
    empty(ids).sum().backward()
    assert empty.weight.grad.shape == (3, 0)


def test_one_position_for_all() -> None:
    turn, x = RotaryEmbedding(4), leaf(1, 1, 3, 4).detach()
    assert np.array_equal(turn(x, tt_core.tensor(2)).numpy(), turn(x, tt_core.tensor([2, 2, 2])).numpy())


def test_neighbours_in_a_table_of_whole_numbers() -> None:
    assert nearest(np.array([[2, 0], [0, 1], [3, 1]]), 0, k=1)[0][0] == 2
    with pytest.raises(ArgumentError, match="k is -1"):
        nearest(np.eye(3), 0, k=-1)


def test_vectors_that_are_no_numbers_are_not_drawn(tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match="must be finite"):
        picture(np.full((3, 2), np.nan), [0, 1], tmp_path / "p.svg")


def test_a_table_that_is_given(tmp_path: Path) -> None:
    given = tt_core.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
    layer = Embedding.from_pretrained(given)
    assert layer(tt_core.tensor([2])).numpy().tolist() == [[5, 6]]
    assert not layer.weight.requires_grad
    assert np.shares_memory(layer.weight.data, given.data)
    assert list(layer.state_dict()) == ["weight"]
    learning = Embedding.from_pretrained(given, freeze=False, padding_idx=-1)
    learning(tt_core.tensor([0, 2])).sum().backward()
    assert learning.weight.grad.numpy().tolist() == [[1, 1], [0, 0], [0, 0]]
    assert given.numpy()[2].tolist() == [5, 6]  # only a table that is drawn starts with zeros there
    with pytest.raises(ShapeError, match=r"a table is floats \(entries, dim\), got float32 \(3,\)"):
        Embedding.from_pretrained([1.0, 2.0, 3.0])


def test_rows_that_are_looked_up_are_scaled_down() -> None:
    layer = Embedding.from_pretrained(np.array([[3.0, 4.0], [0.3, 0.4], [6.0, 8.0]], np.float32), max_norm=1.0)
    out = layer(tt_core.tensor([[0, 1], [1, 0]])).numpy()
    assert np.allclose(out, [[[0.6, 0.8], [0.3, 0.4]], [[0.3, 0.4], [0.6, 0.8]]])
    assert layer.weight.numpy()[2].tolist() == [6, 8]  # not looked up
    with pytest.raises(ConfigError, match="max_norm is -1, expected a number above 0"):
        Embedding(3, 2, max_norm=-1)
    for option in ("sparse", "scale_grad_by_freq"):
        with pytest.raises(ConfigError, match="not supported"):
            Embedding(3, 2, **{option: True})


def test_a_table_must_fit_the_entries_and_the_dimension() -> None:
    table = tt_core.zeros(3, 2)
    assert Embedding(3, 2, _weight=table).weight.shape == (3, 2)
    for wrong in (tt_core.zeros(2, 3), tt_core.zeros(3, 2, 1), tt_core.zeros(6)):
        with pytest.raises(ShapeError, match=r"_weight has shape .*need \(3, 2\)"):
            Embedding(3, 2, max_norm=1.0, _weight=wrong)
