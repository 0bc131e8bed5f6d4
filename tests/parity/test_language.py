"""Act IV beside PyTorch and `transformers`: values and gradients within 1e-5 in float32, logits within 1e-4."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tt_core as tt
import tt_language
from tt_language import (
    GPT,
    Embedding,
    MultiHeadAttention,
    RMSNorm,
    TransformerBlock,
    generate,
    scaled_dot_product_attention,
)
from tt_language.kernels import attention as blocks

torch = pytest.importorskip("torch", reason="parity needs PyTorch: pip install torch")
F = torch.nn.functional


def draw(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def agree(ours: Any, theirs: Any, tolerance: float = 1e-5) -> None:
    expected = theirs.detach().numpy()
    assert ours.shape == expected.shape
    assert ours.dtype == expected.dtype
    scale = max(1.0, float(np.abs(expected).max(initial=0)))
    np.testing.assert_allclose(ours.numpy(), expected, rtol=tolerance, atol=tolerance * scale)


def compare(ours: Callable[..., Any], theirs: Callable[..., Any], arrays: Sequence[np.ndarray]) -> None:
    """Result, and gradients of the inputs for a random gradient of the result."""
    mine = [tt.tensor(x).requires_grad_() for x in arrays]
    yours = [torch.tensor(x, requires_grad=True) for x in arrays]
    a, b = ours(*mine), theirs(*yours)
    agree(a, b)
    g = draw(*a.shape, seed=99)
    a.backward(tt.tensor(g))
    b.backward(torch.tensor(g))
    for x, y in zip(mine, yours):
        agree(x.grad, y.grad)


# --- attention

MASKS: dict[str, Callable[[int, int], Any]] = {
    "none": lambda t, s: None,
    "boolean": lambda t, s: np.random.default_rng(3).random((t, s)) > 0.3,
    "added": lambda t, s: draw(t, s, seed=4),
    "added, a row each": lambda t, s: draw(2, 1, t, s, seed=4),
}


@pytest.mark.parametrize("lengths", [(7, 7), (5, 9), (9, 5), (1, 8), (150, 150), (150, 190)])
@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("options", [{}, {"scale": 0.3}, {"enable_gqa": True}])
def test_attention(lengths: tuple[int, int], mask: str, options: dict[str, Any]) -> None:
    attention_agrees(lengths, mask, options)


@pytest.mark.parametrize("lengths", [(7, 7), (5, 9), (9, 5), (1, 8), (150, 150), (150, 190)])
@pytest.mark.parametrize("options", [{}, {"enable_gqa": True, "scale": 0.3}])
def test_causal_attention(lengths: tuple[int, int], options: dict[str, Any]) -> None:
    attention_agrees(lengths, "none", {"is_causal": True, **options})


def attention_agrees(lengths: tuple[int, int], mask: str, options: dict[str, Any]) -> None:
    queries, keys = lengths
    shared = 2 if options.get("enable_gqa") else 4
    visible = MASKS[mask](queries, keys)
    if visible is not None and visible.dtype == bool:
        visible[:, 0] = True
    ours, theirs = (None, None) if visible is None else (tt.tensor(visible), torch.tensor(visible))
    compare(
        lambda q, k, v: scaled_dot_product_attention(q, k, v, ours, **options),
        lambda q, k, v: F.scaled_dot_product_attention(q, k, v, theirs, **options),
        [draw(2, 4, queries, 16), draw(2, shared, keys, 16, seed=1), draw(2, shared, keys, 12, seed=2)],
    )


@pytest.mark.parametrize("whole", [True, False])
def test_gradient_of_an_added_mask(whole: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not whole:
        monkeypatch.setattr(blocks, "KEPT", 0)
    compare(
        scaled_dot_product_attention,
        F.scaled_dot_product_attention,
        [draw(2, 4, 30, 8), draw(2, 4, 30, 8, seed=1), draw(2, 4, 30, 8, seed=2), draw(4, 30, 30, seed=3)],
    )


def test_a_query_that_sees_nothing() -> None:
    visible = np.array([[True, True], [False, False]])
    compare(
        lambda q, k, v: scaled_dot_product_attention(q, k, v, tt.tensor(visible)),
        lambda q, k, v: F.scaled_dot_product_attention(q, k, v, torch.tensor(visible)),
        [draw(1, 1, 2, 4), draw(1, 1, 2, 4, seed=1), draw(1, 1, 2, 4, seed=2)],
    )


def same_attention(heads: int, bias: bool) -> tuple[Any, Any]:
    theirs = torch.nn.MultiheadAttention(12, heads, bias=bias, batch_first=True)
    ours = MultiHeadAttention(12, heads, bias=bias)
    state = {name.replace("in_proj_", "in_proj."): x.detach().numpy() for name, x in theirs.state_dict().items()}
    if bias:
        state |= {name: draw(*x.shape, seed=7) for name, x in state.items() if name.endswith("bias")}
        theirs.in_proj_bias.data = torch.tensor(state["in_proj.bias"])
        theirs.out_proj.bias.data = torch.tensor(state["out_proj.bias"])
    ours.load_state_dict(state)
    return ours, theirs


@pytest.mark.parametrize("bias", [True, False])
def test_multi_head_attention(bias: bool) -> None:
    ours, theirs = same_attention(3, bias)
    visible = np.tri(5, dtype=bool)
    compare(ours, lambda x: theirs(x, x, x, need_weights=False)[0], [draw(2, 5, 12)])
    compare(
        lambda x: ours(x, None, tt.tensor(visible)),
        lambda x: theirs(x, x, x, attn_mask=torch.tensor(~visible), need_weights=False)[0],
        [draw(2, 5, 12)],
    )
    compare(ours, lambda x, m: theirs(x, m, m, need_weights=False)[0], [draw(2, 5, 12), draw(2, 7, 12, seed=1)])
    _, weights = ours(tt.tensor(draw(2, 5, 12)), need_weights=True)
    x = torch.tensor(draw(2, 5, 12))
    agree(weights, theirs(x, x, x, need_weights=True, average_attn_weights=False)[1])


# --- PyTorch's own names


def same_layer(name: str, *arguments: Any, **options: Any) -> tuple[Any, Any]:
    """PyTorch's layer with fresh weights, and ours of the same name."""
    torch.manual_seed(0)
    theirs = getattr(torch.nn, name)(*arguments, **options)
    for p in theirs.parameters():
        p.data = torch.randn_like(p) * 0.3
    ours = getattr(tt_language, name)(*arguments, **options)
    assert set(ours.state_dict()) == set(theirs.state_dict())
    ours.load_state_dict({key: x.numpy() for key, x in theirs.state_dict().items()})
    return ours, theirs


def parameters_agree(ours: Any, theirs: Any, tolerance: float = 1e-5) -> None:
    gradients = {name: p.grad for name, p in ours.named_parameters()}
    for name, p in theirs.named_parameters():
        agree(gradients[name], p.grad, tolerance)


def both(mask: Any) -> tuple[Any, Any]:
    return (None, None) if mask is None else (tt.tensor(mask), torch.tensor(mask))


HIDDEN: dict[str, Callable[[int, int], Any]] = {
    "none": lambda t, s: None,
    "boolean": lambda t, s: ~np.tri(t, s, s - t + 1, dtype=bool),
    "added": lambda t, s: draw(t, s, seed=4),
    "each head": lambda t, s: draw(2 * 3, t, s, seed=4),
}


@pytest.mark.parametrize("need_weights", [True, False])
@pytest.mark.parametrize("average", [True, False])
@pytest.mark.parametrize("padding", [None, "boolean", "added"])
@pytest.mark.parametrize("mask", HIDDEN)
@pytest.mark.parametrize("options", [{}, {"batch_first": True, "bias": False}, {"kdim": 10, "vdim": 7}], ids=str)
def test_multihead_attention(
    options: dict[str, Any], mask: str, padding: str | None, average: bool, need_weights: bool
) -> None:
    ours, theirs = same_layer("MultiheadAttention", 12, 3, **options)
    q, k, v = draw(5, 2, 12), draw(6, 2, options.get("kdim", 12), seed=1), draw(6, 2, options.get("vdim", 12), seed=2)
    if options.get("batch_first"):
        q, k, v = (np.ascontiguousarray(x.swapaxes(0, 1)) for x in (q, k, v))
    hidden = np.arange(6) >= np.array([[6], [4]])
    if padding == "added":
        hidden = np.where(hidden, -1, 0.5).astype(np.float32)
    (our_mask, their_mask), (our_padding, their_padding) = both(HIDDEN[mask](5, 6)), both(hidden if padding else None)
    if mask == "boolean" and padding == "added":  # PyTorch warns of kinds that differ
        their_mask = torch.zeros(their_mask.shape).masked_fill_(their_mask, -torch.inf)
    if mask in ("added", "each head") and padding == "boolean":
        their_padding = torch.zeros(their_padding.shape).masked_fill_(their_padding, -torch.inf)
    calls = {"need_weights": need_weights, "average_attn_weights": average}
    compare(
        lambda q, k, v: ours(q, k, v, our_padding, attn_mask=our_mask, **calls)[0],
        lambda q, k, v: theirs(q, k, v, their_padding, attn_mask=their_mask, **calls)[0],
        [q, k, v],
    )
    parameters_agree(ours, theirs)
    mine = ours(*map(tt.tensor, (q, k, v)), our_padding, attn_mask=our_mask, **calls)[1]
    yours = theirs(*map(torch.tensor, (q, k, v)), their_padding, attn_mask=their_mask, **calls)[1]
    if need_weights:
        agree(mine, yours)
    else:
        assert mine is yours is None


@pytest.mark.parametrize("batch_first", [True, False])
def test_multihead_attention_of_one_text(batch_first: bool) -> None:
    ours, theirs = same_layer("MultiheadAttention", 12, 3, batch_first=batch_first)
    hidden = np.array([False, False, False, True, True])
    compare(
        lambda x: ours(x, x, x, tt.tensor(hidden))[0], lambda x: theirs(x, x, x, torch.tensor(hidden))[0], [draw(5, 12)]
    )
    x = draw(5, 12)
    mine, yours = ours(*[tt.tensor(x)] * 3)[1], theirs(*[torch.tensor(x)] * 3)[1]
    agree(mine, yours)


LAYER_OPTIONS = [
    {},
    {"batch_first": True, "norm_first": True, "activation": "gelu"},
    {"bias": False, "layer_norm_eps": 1e-2},
]


@pytest.mark.parametrize("options", LAYER_OPTIONS, ids=str)
def test_encoder_and_decoder_layers(options: dict[str, Any]) -> None:
    options = {"dim_feedforward": 20, "dropout": 0.0, **options}
    mask, hidden = ~np.tri(5, dtype=bool), np.arange(5) >= np.array([[5], [3]])
    (our_mask, their_mask), (our_padding, their_padding) = both(mask), both(hidden)
    source, target = draw(5, 2, 12), draw(5, 2, 12, seed=1)
    if options.get("batch_first"):
        source, target = (np.ascontiguousarray(x.swapaxes(0, 1)) for x in (source, target))
    ours, theirs = same_layer("TransformerEncoderLayer", 12, 3, **options)
    compare(
        lambda x: ours(x, our_mask, our_padding),
        lambda x: theirs(x, their_mask, their_padding),
        [source],
    )
    parameters_agree(ours, theirs)
    ours, theirs = same_layer("TransformerDecoderLayer", 12, 3, **options)
    compare(
        lambda x, m: ours(x, m, our_mask, None, None, our_padding),
        lambda x, m: theirs(x, m, their_mask, None, None, their_padding),
        [target, source],
    )
    parameters_agree(ours, theirs)


@pytest.mark.parametrize("options", LAYER_OPTIONS, ids=str)
@pytest.mark.filterwarnings("ignore:enable_nested_tensor")
def test_transformer(options: dict[str, Any]) -> None:
    ours, theirs = same_layer("Transformer", 12, 3, 2, 2, 20, 0.0, **options)
    mask = np.triu(np.full((5, 5), -np.inf, np.float32), 1)
    assert np.array_equal(tt_language.Transformer.generate_square_subsequent_mask(5).numpy(), mask)
    assert np.array_equal(theirs.generate_square_subsequent_mask(5).numpy(), mask)
    (our_mask, their_mask), (our_padding, their_padding) = both(mask), both(np.arange(6) >= np.array([[6], [4]]))
    source, target = draw(6, 2, 12), draw(5, 2, 12, seed=1)
    if options.get("batch_first"):
        source, target = (np.ascontiguousarray(x.swapaxes(0, 1)) for x in (source, target))
    options = {"tgt_is_causal": True}
    compare(
        lambda s, t: ours(s, t, None, our_mask, None, our_padding, None, our_padding, **options),
        lambda s, t: theirs(s, t, None, their_mask, None, their_padding, None, their_padding, **options),
        [source, target],
    )
    parameters_agree(ours, theirs, 1e-4)


@pytest.mark.parametrize("options", [{"max_norm": 1.0}, {"max_norm": 0.5, "norm_type": 1.0, "padding_idx": 2}], ids=str)
def test_embedding_of_a_given_table(options: dict[str, Any]) -> None:
    table, ids = draw(9, 5), np.random.default_rng(0).integers(0, 7, (4, 3))
    ours = Embedding.from_pretrained(tt.tensor(table.copy()), freeze=False, **options)
    theirs = torch.nn.Embedding.from_pretrained(torch.tensor(table.copy()), freeze=False, **options)
    a, b = ours(tt.tensor(ids)), theirs(torch.tensor(ids))
    agree(a, b)
    agree(ours.weight.detach(), theirs.weight)
    a.backward(tt.tensor(draw(4, 3, 5)))
    b.backward(torch.tensor(draw(4, 3, 5)))
    agree(ours.weight.grad, theirs.weight.grad)


# --- layers


@pytest.mark.parametrize("padding_idx", [None, 3])
@pytest.mark.parametrize("dim", [5, 300])
def test_embedding(padding_idx: int | None, dim: int) -> None:
    ours, theirs = Embedding(9, dim, padding_idx), torch.nn.Embedding(9, dim, padding_idx)
    theirs.weight.data = torch.tensor(ours.weight.numpy())
    ids = np.random.default_rng(0).integers(0, 9, (4, 11))
    a, b = ours(tt.tensor(ids)), theirs(torch.tensor(ids))
    agree(a, b)
    a.backward(tt.tensor(draw(4, 11, dim)))
    b.backward(torch.tensor(draw(4, 11, dim)))
    agree(ours.weight.grad, theirs.weight.grad)


@pytest.mark.parametrize("shape", [(8,), (3, 8), (2, 5, 8)])
def test_layer_norm(shape: tuple[int, ...]) -> None:
    weight, bias = draw(8, seed=1), draw(8, seed=2)
    compare(tt.layer_norm, lambda x, w, b: F.layer_norm(x, (8,), w, b), [draw(*shape), weight, bias])


@pytest.mark.parametrize("eps", [None, 1e-3])
def test_rms_norm(eps: float | None) -> None:
    ours, theirs = RMSNorm(8, eps), torch.nn.RMSNorm(8, eps)
    compare(ours, theirs, [draw(2, 5, 8)])
    agree(ours.weight.grad, theirs.weight.grad)


@pytest.mark.parametrize("norm_first", [True, False])
@pytest.mark.parametrize("activation", ["relu", "gelu"])
def test_transformer_encoder_layer(norm_first: bool, activation: str) -> None:
    theirs = torch.nn.TransformerEncoderLayer(
        12, 3, 20, dropout=0.0, activation=activation, batch_first=True, norm_first=norm_first
    )
    ours = TransformerBlock(12, 3, hidden_dim=20, mlp=activation, norm_first=norm_first)
    ours.load_state_dict({our_name(name): x.numpy() for name, x in theirs.state_dict().items()})
    compare(ours, theirs, [draw(2, 5, 12)])
    gradients = {name: p.grad for name, p in ours.named_parameters()}
    for name, p in theirs.named_parameters():
        agree(gradients[our_name(name)], p.grad)


def our_name(name: str) -> str:
    """The name that a parameter of PyTorch's TransformerEncoderLayer has in a TransformerBlock."""
    names = {"self_attn": "attention", "in_proj_": "in_proj.", "linear1": "mlp.up", "linear2": "mlp.down"}
    for old, new in names.items():
        name = name.replace(old, new)
    return name


# --- whole models from Hugging Face's files


ROPES: dict[str, dict[str, Any]] = {
    "llama3": {"factor": 4.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 16},
    "linear": {"factor": 4.0},
    "dynamic": {"factor": 4.0},
    "yarn": {"factor": 4.0, "original_max_position_embeddings": 16},
    "yarn-options": {"factor": 4.0, "original_max_position_embeddings": 16, "beta_fast": 20.0, "beta_slow": 2.0,
                     "mscale": 0.7, "mscale_all_dim": 0.4, "truncate": False},
    "yarn-attention": {"factor": 4.0, "original_max_position_embeddings": 16, "attention_factor": 1.3},
    "longrope": {"short_factor": [1.0, 1.1, 1.2, 1.3], "long_factor": [1.0, 2.0, 3.0, 4.0],
                 "original_max_position_embeddings": 16},
}  # fmt: skip


def configured(family: str) -> Any:
    transformers = pytest.importorskip("transformers", reason="parity needs transformers: pip install transformers")
    if family.startswith("gpt2"):
        changes = {"activation_function": "relu", "n_inner": 40} if family == "gpt2-relu" else {}
        config = transformers.GPT2Config(
            vocab_size=97, n_positions=48, n_embd=32, n_layer=3, n_head=4, bos_token_id=0, eos_token_id=0, **changes
        )
        return transformers.GPT2LMHeadModel(config)
    rope = {"rope_type": "default", "rope_theta": 5e5}
    if family in ROPES:
        rope |= {"rope_type": family.split("-")[0], **ROPES[family]}
    if family == "mistral":
        config = transformers.MistralConfig(
            vocab_size=97, hidden_size=32, intermediate_size=56, num_hidden_layers=3, num_attention_heads=8,
            max_position_embeddings=64, sliding_window=48, rope_parameters=rope,
        )  # fmt: skip
        return transformers.MistralForCausalLM(config)
    config = transformers.LlamaConfig(
        vocab_size=97, hidden_size=32, intermediate_size=56, num_hidden_layers=3, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=16 if family == "dynamic" else 48, rope_parameters=rope,
        tie_word_embeddings=family == "llama3", attention_bias=family in ("llama-bias", "llama-attention-bias"),
        mlp_bias=family in ("llama-bias", "llama-mlp-bias"),
    )  # fmt: skip
    return transformers.LlamaForCausalLM(config)


@pytest.mark.parametrize("shards", [1, 4])
@pytest.mark.parametrize(
    "family",
    ["gpt2", "gpt2-relu", "llama", "llama-bias", "llama-attention-bias", "llama-mlp-bias", "mistral", *ROPES],
)
def test_logits_of_a_checkpoint(family: str, shards: int, tmp_path: Path) -> None:
    torch.manual_seed(0)
    theirs = configured(family).eval()
    for p in theirs.parameters():  # away from the start, where all logits are near 0 and all biases are 0
        p.data += 0.1 * torch.randn_like(p)
    size = sum(p.numel() * 4 for p in theirs.parameters())
    theirs.save_pretrained(tmp_path, max_shard_size=size // shards if shards > 1 else "1GB")
    assert (tmp_path / "model.safetensors.index.json").exists() == (shards > 1)
    ours = GPT.from_pretrained(tmp_path)
    ids = np.random.default_rng(0).integers(0, 97, (3, 48))
    with torch.no_grad():
        expected = theirs(torch.tensor(ids)).logits
    agree(ours(tt.tensor(ids)), expected, tolerance=1e-4)
    short = ids[:, :12]  # within the original context, after a text beyond it
    with torch.no_grad():
        expected = theirs(torch.tensor(short)).logits
    agree(ours(tt.tensor(short)), expected, tolerance=1e-4)


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_greedy_tokens_of_a_checkpoint(family: str, tmp_path: Path) -> None:
    torch.manual_seed(1)
    theirs = configured(family).eval()
    for p in theirs.parameters():
        p.data += 0.1 * torch.randn_like(p)
    theirs.save_pretrained(tmp_path)
    prompt = [5, 6, 7]
    expected = theirs.generate(
        torch.tensor([prompt]), max_new_tokens=40, do_sample=False, eos_token_id=None, pad_token_id=0
    )[0].tolist()
    assert generate(GPT.from_pretrained(tmp_path), prompt, 40, temperature=0)[0] == expected[3:]
