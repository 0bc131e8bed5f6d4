"""Module 13: normalization, feed-forward layers, blocks, stacks, and GPT's shape and start."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

import tt_core
from tt_core.engine.dispatch import registry
from tt_core.engine.errors import ArgumentError, DTypeError, ShapeError
from tt_language import (
    GPT,
    ConfigError,
    DecoderStack,
    EncoderStack,
    FeedForward,
    GPTConfig,
    RMSNorm,
    Seq2SeqTransformer,
    SwiGLU,
    TransformerBlock,
    next_token_loss,
    rms_norm,
)
from tt_learn import AdamW, Tensor, gradcheck, gradgradcheck, no_grad
from tt_learn.autograd import rule_of

SMALL = {"vocab_size": 11, "block_size": 8, "n_layer": 2, "n_head": 2, "n_embd": 8}
GROUPED = {"n_kv_head": 1, "tie_weights": False, "bias": False}
FAMILIES: dict[str, dict[str, Any]] = {
    "gpt2": {"position": "learned", "norm": "layer", "mlp": "gelu_tanh"},
    "llama": {"position": "rotary", "norm": "rms", "mlp": "swiglu", **GROUPED},
    "parallel": {"position": "rotary", "parallel": True},
    "plain": {"position": "none", "mlp": "relu"},
}
families = pytest.mark.parametrize("family", FAMILIES)


def leaf(*shape: int, seed: int = 0) -> Tensor:
    return Tensor(np.random.default_rng(seed).standard_normal(shape), requires_grad=True)


def double(layer: Any) -> Any:
    for parameter in layer.parameters():
        parameter.data = parameter.data.astype(np.float64)
    return layer


def small(family: str, **changes: Any) -> GPT:
    tt_core.manual_seed(1)
    return GPT(GPTConfig(**{**SMALL, **FAMILIES[family], **changes}))


def test_every_op_of_this_act_has_a_rule() -> None:
    own = [op for op in registry.values() if op.kernel.__module__.startswith("tt_language")]
    assert len(own) >= 8
    for op in own:
        rule_of(op)


# --- parts


def test_rms_norm() -> None:
    x = leaf(2, 3, 4)
    expected = x.numpy() / np.sqrt((x.numpy() ** 2).mean(-1, keepdims=True) + 0.1)
    assert np.allclose(rms_norm(x, eps=0.1).numpy(), expected)
    assert gradcheck(lambda x: rms_norm(x, eps=0.1), [x])
    assert gradcheck(lambda x, w: rms_norm(x, w, eps=0.1), [x, leaf(4, seed=1)])
    assert gradgradcheck(lambda x, w: rms_norm(x, w, eps=0.1), [x, leaf(4, seed=1)])
    assert gradgradcheck(lambda x: rms_norm(x, eps=0.1), [x])
    with pytest.raises(ShapeError, match="does not end in"):
        RMSNorm(3)(x)


def test_rms_norm_of_halves_sums_in_float32() -> None:
    rng = np.random.default_rng(0)
    x, g = 300 * rng.standard_normal((4, 1000)), 50 * rng.standard_normal((4, 1000))  # squares end at 65504
    results = []
    for dtype in (np.float16, np.float32):
        weight = Tensor(np.ones(1000, dtype), requires_grad=True)
        rows = Tensor(x.astype(np.float16).astype(dtype), requires_grad=True)
        y = rms_norm(rows, weight)
        y.backward(Tensor(g.astype(np.float16).astype(dtype)))
        results.append([y.detach().numpy(), rows.grad.numpy(), weight.grad.numpy()])
        assert {each.dtype for each in results[-1]} == {np.dtype(dtype)}
    for half, single in zip(*results):
        np.testing.assert_allclose(half, single, rtol=2e-3, atol=2e-3)


@pytest.mark.parametrize("activation", ["gelu", "gelu_tanh", "relu"])
def test_feed_forward(activation: str) -> None:
    layer = double(FeedForward(3, 5, activation))
    assert layer(leaf(2, 4, 3)).shape == (2, 4, 3)
    assert gradcheck(layer, [leaf(2, 4, 3)])


def test_swiglu() -> None:
    layer, x = double(SwiGLU(3, 5)), leaf(2, 3)
    gate, up, down = (part.weight.numpy() for part in (layer.gate, layer.up, layer.down))
    h = x.numpy() @ gate.T
    assert np.allclose(layer(x).numpy(), (h / (1 + np.exp(-h)) * (x.numpy() @ up.T)) @ down.T)
    assert gradcheck(layer, [x])


BLOCKS: list[dict[str, Any]] = [
    {}, {"norm_first": False}, {"parallel": True}, {"norm": "rms", "mlp": "swiglu"}, {"causal": True},
]  # fmt: skip


@pytest.mark.parametrize("options", BLOCKS)
def test_blocks_have_right_gradients(options: dict[str, Any]) -> None:
    assert gradcheck(double(TransformerBlock(4, 2, **options)), [leaf(1, 3, 4)], atol=1e-6)


def test_a_parallel_block_has_no_other_order() -> None:
    with pytest.raises(ConfigError, match="parallel"):
        TransformerBlock(4, 2, parallel=True, norm_first=False)


def test_encoder_and_decoder() -> None:
    encoder, decoder = double(EncoderStack(2, 4, 2)), double(DecoderStack(1, 4, 2, norm_first=False))
    memory = encoder(leaf(2, 5, 4))
    assert encoder.norm is not None
    assert decoder.norm is None
    assert gradcheck(lambda x, m: decoder(x, memory=m), [leaf(2, 3, 4), memory.detach().requires_grad_()], atol=1e-6)


def test_a_decoder_without_memory_does_not_look_at_itself_instead() -> None:
    with pytest.raises(ConfigError, match="got none"):
        DecoderStack(1, 8, num_heads=2)(leaf(1, 3, 8).float())
    with pytest.raises(ConfigError, match="cross=True"):
        EncoderStack(1, 8, num_heads=2)(leaf(1, 3, 8).float(), memory=leaf(1, 3, 8).float())


def test_names_that_no_block_knows() -> None:
    with pytest.raises(ConfigError, match="'rsm', expected layer or rms"):
        TransformerBlock(8, num_heads=2, norm="rsm")
    with pytest.raises(ConfigError, match="'tanh', expected gelu"):
        FeedForward(8, activation="tanh")


def test_the_model_of_2017_does_not_look_at_padding_or_ahead() -> None:
    tt_core.manual_seed(0)
    model = Seq2SeqTransformer(9, 7, embed_dim=8, num_heads=2, num_layers=1, padding_idx=0).eval()
    source, target = tt_core.tensor([[3, 4, 0, 0]]), tt_core.tensor([[1, 2, 3]])
    logits = model(source, target).numpy()
    assert np.allclose(logits, model(tt_core.tensor([[3, 4]]), target).numpy(), atol=1e-6)
    assert np.allclose(logits[:, :2], model(source, tt_core.tensor([[1, 2, 6]])).numpy()[:, :2], atol=1e-6)
    assert not np.allclose(logits[:, 2], model(source, tt_core.tensor([[1, 2, 6]])).numpy()[:, 2])
    with pytest.raises(ShapeError, match="at most max_length = 512"):
        model(tt_core.zeros(1, 513, dtype=np.int64), target)


# --- GPT


@families
def test_every_parameter_gets_a_gradient(family: str) -> None:
    model = small(family)
    next_token_loss(model(tt_core.tensor([[1, 2, 3], [4, 5, 6]])), tt_core.tensor([[2, 3, 4], [5, 6, 7]])).backward()
    assert all(p.grad is not None and np.isfinite(p.grad.numpy()).all() for p in model.parameters())


@families
def test_gradients_of_the_whole_model(family: str) -> None:
    model = double(small(family, n_layer=1))
    ids, targets = tt_core.tensor([[1, 2, 3]]), tt_core.tensor([[2, 3, 4]])
    chosen = [model.wte.weight, model.blocks[0].attention.in_proj.weight, model.norm.weight]

    def loss(*_: Any) -> Any:
        return next_token_loss(model(ids), targets)

    assert gradcheck(loss, chosen, atol=1e-6)


@families
def test_a_token_does_not_see_what_is_later(family: str) -> None:
    model = small(family).eval()
    a, b = tt_core.tensor([[1, 2, 3, 4]]), tt_core.tensor([[1, 2, 9, 9]])
    assert np.allclose(model(a).numpy()[:, :2], model(b).numpy()[:, :2], atol=1e-6)
    assert np.allclose(model(a, logits_to_keep=1).numpy(), model(a).numpy()[:, -1:], atol=1e-6)


@families
def test_learns_a_sequence_by_heart(family: str) -> None:
    model = small(family)
    optimizer = AdamW(model.parameters(), lr=1e-2)
    ids = tt_core.tensor([[1, 5, 2, 8, 3, 9, 4, 7]])
    for _ in range(60):
        optimizer.zero_grad()
        loss = next_token_loss(model(ids[:, :-1]), ids[:, 1:])
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.1


def test_starts_near_even_odds_with_a_deviation_that_fits_its_width() -> None:
    tt_core.manual_seed(0)
    std = np.sqrt(2 / 5 / 64)
    model = GPT(GPTConfig(vocab_size=500, block_size=64, n_layer=8, n_head=4, n_embd=64))
    state = model.state_dict()
    assert state["wte.weight"].numpy().std() == pytest.approx(std, rel=0.02)
    assert state["blocks.3.mlp.up.weight"].numpy().std() == pytest.approx(std, rel=0.05)
    assert state["blocks.3.mlp.down.weight"].numpy().std() == pytest.approx(std / 4, rel=0.05)
    assert state["blocks.3.attention.out_proj.weight"].numpy().std() == pytest.approx(std / 4, rel=0.05)
    assert not state["blocks.3.mlp.up.bias"].numpy().any()
    ids = tt_core.tensor(np.random.default_rng(0).integers(0, 500, (2, 33)))
    assert next_token_loss(model(ids[:, :-1]), ids[:, 1:]).item() == pytest.approx(np.log(500), abs=0.4)


def test_a_tied_head_shares_memory_and_counts_once() -> None:
    tied, free = small("gpt2"), small("gpt2", tie_weights=False)
    assert tied.lm_head.weight is tied.wte.weight
    assert free.num_parameters() - tied.num_parameters() == 11 * 8
    assert tied.num_parameters() == 11 * 8 + 8 * 8 + 2 * (12 * 64 + 13 * 8) + 2 * 8


def test_gpt2s_number_of_parameters() -> None:
    """124,439,808, from the sizes alone."""
    width = 768
    block = 12 * width**2 + 13 * width
    config = GPTConfig()
    assert 12 * block + 2 * width + (config.vocab_size + config.block_size) * width == 124_439_808
    tiny = GPT(GPTConfig(vocab_size=7, block_size=5, n_layer=3, n_head=2, n_embd=16))
    assert tiny.num_parameters() == 3 * (12 * 16**2 + 13 * 16) + 2 * 16 + (7 + 5) * 16


@families
def test_state_dicts_go_back_and_forth(family: str) -> None:
    a, b = small(family), small(family)
    for parameter in a.parameters():
        parameter.data += 1
    b.load_state_dict(a.state_dict())
    ids = tt_core.tensor([[1, 2, 3]])
    assert np.array_equal(a(ids).numpy(), b(ids).numpy())


def test_positions_and_masks_may_be_given() -> None:
    model = small("gpt2").eval()
    padded, real = tt_core.tensor([[0, 0, 3, 4]]), tt_core.tensor([[3, 4]])
    with no_grad():
        found = model(
            padded,
            positions=tt_core.tensor([[0, 0, 0, 1]]),
            attn_mask=tt_core.tensor(np.array([[[[False, False, True, True]]]])),
        )
        assert np.allclose(found.numpy()[:, 2:], model(real).numpy(), atol=1e-6)


def test_a_text_longer_than_the_context() -> None:
    with pytest.raises(ShapeError, match=r"9 tokens, but the context \(block_size\) has 8; keep the last 8"):
        small("gpt2")(tt_core.zeros(1, 9, dtype=np.int64))


# --- configuration


def test_configurations_go_through_json() -> None:
    config = GPTConfig(**{**SMALL, **FAMILIES["llama"], "rope_scaling": {"rope_type": "linear", "factor": 2.0}})
    assert GPTConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config
    with pytest.raises(ConfigError, match="unknown n_heads"):
        GPTConfig.from_dict({"n_heads": 3})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"n_embd": 9}, "n_embd 9 does not divide into n_head 2"),
        ({"n_head": 0}, "n_head is a positive integer, got 0"),
        ({"vocab_size": "11"}, "vocab_size is a positive integer, got '11'"),
        ({"n_kv_head": 3}, "cannot share n_kv_head 3"),
        ({"position": "sine"}, "position is one of learned, rotary, none, got 'sine'"),
        ({"position": "rotary", "head_dim": 3}, "features per head, got 3"),
        ({"dropout": 1.0}, "dropout is a probability below 1, got 1.0"),
        ({"norm_eps": -1.0}, "norm_eps is a positive number"),
        ({"rope_theta": "x"}, "rope_theta is a positive number, got 'x'"),
        ({"dropout": float("nan")}, "dropout"),
        ({"bias": 1}, "bias is true or false, got 1"),
        ({"rope_scaling": [1]}, "rope_scaling is a mapping"),
    ],
)
def test_impossible_configurations(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        GPTConfig(**{**SMALL, **changes})


def test_a_translation_drops_nothing_out_and_puts_each_layers_mode_back() -> None:
    model = Seq2SeqTransformer(12, 12, embed_dim=16, num_heads=2, num_layers=1, dropout=0.5)
    model.head.eval()
    source = np.arange(1, 9).reshape(2, 4)
    first, *others = [model.translate(source, start=1, end=2, max_length=8) for _ in range(5)]
    assert all(other == first for other in others)
    assert model.training
    assert not model.head.training


# --- what a second look found


def test_targets_of_another_shape_are_an_error() -> None:
    """(3, 2) has as many numbers as (2, 3), each for another token."""
    with pytest.raises(ShapeError, match=r"targets \(3, 2\) do not fit logits \(2, 3, 5\)"):
        next_token_loss(tt_core.zeros(2, 3, 5), tt_core.zeros(3, 2, dtype=np.int64))


def test_a_padding_id_that_no_source_holds_is_an_error() -> None:
    for wrong in (-1, 5):
        with pytest.raises(ConfigError, match=f"padding_idx {wrong} is outside the source vocabulary"):
            Seq2SeqTransformer(5, 5, 8, num_heads=2, num_layers=1, padding_idx=wrong)


def test_translations_end_with_the_positions() -> None:
    model = Seq2SeqTransformer(5, 5, 8, num_heads=2, num_layers=1, max_length=6)
    assert [len(row) for row in model.translate(tt_core.tensor([[1, 2], [3, 4]]), start=0, end=-1)] == [6, 6]


def test_logits_to_keep_are_counted_from_the_end() -> None:
    model = GPT(GPTConfig(**SMALL))
    with pytest.raises(ArgumentError, match="logits_to_keep is -1"):
        model(tt_core.tensor([[1, 2, 3]]), logits_to_keep=-1)


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_a_model_starts_anew_in_all_its_parameters(family: str) -> None:
    model, fresh = (GPT(GPTConfig(**SMALL, **FAMILIES[family])) for _ in range(2))
    for parameter in model.parameters():
        parameter.data[...] = 5
    tt_core.manual_seed(1)
    model.reset_parameters()
    tt_core.manual_seed(1)
    fresh.reset_parameters()
    for ours, theirs in zip(model.parameters(), fresh.parameters()):
        assert np.array_equal(ours.numpy(), theirs.numpy())


@pytest.mark.parametrize("scaling", [{"rope_type": "yarn"}, {"rope_type": ["linear"]}, {"type": "linear", "factor": 0}])
def test_a_config_checks_its_scaling(scaling: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"GPTConfig: rope_type"):
        GPTConfig(position="rotary", rope_scaling=scaling)


def test_whole_numbers_are_not_normalized() -> None:
    """Their eps would be 0."""
    with pytest.raises(DTypeError, match="rms_norm: needs a floating dtype, got int64"):
        rms_norm(tt_core.tensor([0, 0]), eps=1e-5)


def test_numbers_of_numpy_make_a_config() -> None:
    config = GPTConfig(vocab_size=np.array([3, 10]).max() + 1, dropout=np.float64(0.5))
    assert json.loads(json.dumps(config.to_dict())) == GPTConfig(vocab_size=11, dropout=0.5).to_dict()


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_positions_take_the_dtype_of_the_model(dtype: type) -> None:
    model = Seq2SeqTransformer(5, 6, 8, num_heads=2, num_layers=1).to(dtype)
    assert model(tt_core.tensor([[1, 2]]), tt_core.tensor([[3]])).dtype == dtype
