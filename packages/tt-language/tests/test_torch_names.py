"""Layers under PyTorch's names: values that follow from their definition (tests/parity compares with PyTorch)."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest

import tt_core
from tt_core.engine.errors import DTypeError, ShapeError, TinyTorchError
from tt_language import (
    GPT,
    BPETokenizer,
    CharTokenizer,
    ConfigError,
    EncoderStack,
    GPTConfig,
    MultiHeadAttention,
    MultiheadAttention,
    RotaryEmbedding,
    Seq2SeqTransformer,
    SinusoidalEmbedding,
    Transformer,
    TransformerDecoder,
    TransformerDecoderLayer,
    TransformerEncoder,
    TransformerEncoderLayer,
    generate,
)


def draw(*shape: int, seed: int = 0) -> Any:
    return tt_core.tensor(np.random.default_rng(seed).standard_normal(shape).astype(np.float32))


def test_it_is_the_lesson_in_other_clothes() -> None:
    theirs, ours, x = MultiheadAttention(8, 2, batch_first=True), MultiHeadAttention(8, 2), draw(3, 5, 8)
    ours.load_state_dict({name.replace("in_proj_", "in_proj."): p for name, p in theirs.state_dict().items()})
    expected, weights = ours(x, need_weights=True)
    out, averaged = theirs(x, x, x)
    np.testing.assert_allclose(out.detach().numpy(), expected.detach().numpy(), atol=1e-6)
    np.testing.assert_allclose(averaged.detach().numpy(), weights.detach().numpy().mean(1), atol=1e-6)
    out, none = theirs(x, x, x, need_weights=False)
    np.testing.assert_allclose(out.detach().numpy(), expected.detach().numpy(), atol=1e-6)
    assert none is None


@pytest.mark.parametrize("need_weights", [True, False])
def test_a_boolean_mask_is_true_where_nothing_may_be_seen(need_weights: bool) -> None:
    layer, x = MultiheadAttention(8, 2), draw(4, 2, 8)
    hidden = tt_core.tensor(np.array([[False, False, True, True], [False] * 4]))
    out, _ = layer(x, x, x, hidden, need_weights)
    other = x.numpy().copy()
    other[2:, 0] = 9
    changed, _ = layer(x, tt_core.tensor(other), tt_core.tensor(other), hidden, need_weights)
    np.testing.assert_allclose(changed.detach().numpy(), out.detach().numpy(), atol=1e-6)
    unmasked, _ = layer(x, tt_core.tensor(other), tt_core.tensor(other), None, need_weights)
    assert not np.allclose(unmasked.detach().numpy()[:, 0], out.detach().numpy()[:, 0])


def test_boolean_and_added_masks_go_together() -> None:
    layer, x = MultiheadAttention(8, 2), draw(3, 2, 8)
    padding = np.array([[False, False, True], [False, True, False]])
    added = np.where(np.tri(3, dtype=bool), 0, -np.inf).astype(np.float32)
    both = layer(x, x, x, tt_core.tensor(padding), True, tt_core.tensor(added))[1].detach().numpy()
    visible = np.tri(3, dtype=bool) & ~padding[:, None]
    assert np.array_equal(both > 0, visible)
    same = layer(x, x, x, tt_core.tensor(padding), True, tt_core.tensor(~np.tri(3, dtype=bool)))[1].detach().numpy()
    np.testing.assert_allclose(both, same, atol=1e-6)
    numbers = np.where(padding, -np.inf, 0).astype(np.float32)
    same = layer(x, x, x, tt_core.tensor(numbers), True, tt_core.tensor(added))[1].detach().numpy()
    np.testing.assert_allclose(both, same, atol=1e-6)


def test_what_is_refused() -> None:
    for options in ({"add_bias_kv": True}, {"add_zero_attn": True}):
        with pytest.raises(ConfigError, match="not supported"):
            MultiheadAttention(8, 2, **options)  # type: ignore[arg-type]
    with pytest.raises(ShapeError, match="embed_dim 8 does not divide into 3 heads"):
        MultiheadAttention(8, 3)
    layer, x = MultiheadAttention(8, 2), draw(3, 2, 8)
    with pytest.raises(ConfigError, match="pass the mask too"):
        layer(x, x, x, is_causal=True)
    with pytest.raises(ShapeError, match=r"attn_mask is \(3, 3\) or \(4, 3, 3\), got \(2, 3\)"):
        layer(x, x, x, attn_mask=tt_core.zeros(2, 3))
    with pytest.raises(ShapeError, match=r"key_padding_mask is \(2, 3\), got \(3, 2\)"):
        layer(x, x, x, tt_core.zeros(3, 2))
    with pytest.raises(DTypeError, match="attn_mask must be boolean"):
        layer(x, x, x, attn_mask=tt_core.tensor(np.tri(3, dtype=int)))
    with pytest.raises(ShapeError, match="as are the others"):
        layer(x, draw(2, 8), draw(2, 8))
    with pytest.raises(ShapeError, match="do not fit"):
        layer(x, draw(4, 2, 8), draw(3, 2, 8))
    for kind in (TransformerEncoderLayer, TransformerDecoderLayer):
        with pytest.raises(ConfigError, match="activation is 'tanh', expected relu, gelu or a function"):
            kind(8, 2, activation="tanh")
    with pytest.raises(ConfigError, match="expected a layer to copy 6 times, got 512"):
        TransformerEncoder(512, 6)  # type: ignore[arg-type]


def test_copies_start_equal_and_learn_apart() -> None:
    encoder = TransformerEncoder(TransformerEncoderLayer(8, 2, 16, dropout=0.0), 2)
    names = [name for name, _ in encoder.named_parameters()]
    assert names[0] == "layers.0.self_attn.in_proj_weight"
    assert len(names) == 2 * 12
    first, second = (dict(encoder.named_parameters())[f"layers.{i}.linear1.weight"] for i in range(2))
    assert np.array_equal(first.numpy(), second.numpy())
    (encoder(draw(3, 2, 8)) * draw(3, 2, 8, seed=1)).sum().backward()
    assert not np.array_equal(first.grad.numpy(), second.grad.numpy())
    assert not encoder.eval().training
    assert len([*copy.deepcopy(encoder).parameters()]) == len(names)


def test_a_decoder_with_a_causal_mask_does_not_see_what_is_later() -> None:
    model = Transformer(8, 2, 1, 2, 16, dropout=0.0, batch_first=True)
    source, target = draw(1, 4, 8), draw(1, 5, 8, seed=1)
    mask = Transformer.generate_square_subsequent_mask(5)
    out = model(source, target, tgt_mask=mask, tgt_is_causal=True).detach().numpy()
    other = target.numpy().copy()
    other[:, 3:] = 7
    changed = model(source, tt_core.tensor(other), tgt_mask=mask).detach().numpy()
    np.testing.assert_allclose(changed[:, :3], out[:, :3], atol=1e-6)
    assert not np.allclose(changed[:, 3:], out[:, 3:])
    decoder = TransformerDecoder(TransformerDecoderLayer(8, 2, 16, batch_first=True), 1)
    assert decoder(target, source).shape == (1, 5, 8)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: MultiheadAttention("8", 2), "embed_dim is '8', expected an integer, 1 or more"),  # type: ignore[arg-type]
        (lambda: MultiheadAttention(8, 0), "num_heads is 0"),
        (lambda: MultiheadAttention(8, 2, None), "dropout is a probability, got None"),  # type: ignore[arg-type]
        (lambda: MultiHeadAttention(8, 2.0), "num_heads is 2.0"),  # type: ignore[arg-type]
        (lambda: MultiHeadAttention(8, 2, num_kv_heads=0), "num_kv_heads is 0"),
        (lambda: MultiHeadAttention(8, 2, "a"), "dropout is a probability, got 'a'"),  # type: ignore[arg-type]
        (lambda: Transformer(8, 2, None), "num_layers is None, expected an integer, 0 or more"),  # type: ignore[arg-type]
        (lambda: EncoderStack("1", 8, 2), "EncoderStack: num_layers is '1'"),  # type: ignore[arg-type]
        (lambda: Seq2SeqTransformer(5, 5, None), "embed_dim is None"),  # type: ignore[arg-type]
        (lambda: SinusoidalEmbedding(4, None), "dim is None"),  # type: ignore[arg-type]
        (lambda: RotaryEmbedding(4, theta="a"), "theta is 'a', expected a number above 0"),  # type: ignore[arg-type]
        (lambda: RotaryEmbedding(4, scaling="a"), "is a mapping, got 'a'"),  # type: ignore[arg-type]
        (lambda: GPT({}), "expected a GPTConfig, got {}"),  # type: ignore[arg-type]
        (lambda: GPTConfig.from_dict(None), "expected values by name, got 'None'"),  # type: ignore[arg-type]
        (lambda: generate(None, [1], 2), "the model needs a config with block_size and vocab_size, got None"),
        (lambda: BPETokenizer(None, []), "maps tokens to ids, got None"),  # type: ignore[arg-type]
        (lambda: BPETokenizer({}, [], special_tokens=None), "come in a list, got None"),  # type: ignore[arg-type]
        (lambda: CharTokenizer(None), "a text or a list of characters, got None"),  # type: ignore[arg-type]
    ],
)
def test_what_a_first_attempt_gets_wrong_is_said_in_one_line(make: Any, message: str) -> None:
    with pytest.raises(TinyTorchError, match=message):
        make()
