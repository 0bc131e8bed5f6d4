"""Checkpoints in Hugging Face's format, made here: what is read, and one line for each way it can be wrong.

That logits equal those of the `transformers` library is tests/parity's to show.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given, settings
from hypothesis import strategies as st

import tt_core
from tt_core.engine.errors import TinyTorchError
from tt_language import GPT, CheckpointError, ConfigError
from tt_language.transformers import Checkpoint, read_config

Arrays = dict[str, np.ndarray]
GPT2 = {"model_type": "gpt2", "vocab_size": 13, "n_positions": 6, "n_embd": 8, "n_layer": 2, "n_head": 2}
LLAMA = {"model_type": "llama", "vocab_size": 13, "max_position_embeddings": 6, "hidden_size": 8,
         "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
         "intermediate_size": 12}  # fmt: skip


def numbers(**shapes: tuple[int, ...]) -> Arrays:
    random = np.random.default_rng(0)
    return {name: random.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}


def gpt2_arrays(prefix: str = "transformer.") -> Arrays:
    shapes = {"wte.weight": (13, 8), "wpe.weight": (6, 8), "ln_f.weight": (8,), "ln_f.bias": (8,)}
    for i in range(2):
        for name, size in {"ln_1": (8,), "ln_2": (8,), "attn.c_attn": (8, 24), "attn.c_proj": (8, 8),
                           "mlp.c_fc": (8, 32), "mlp.c_proj": (32, 8)}.items():  # fmt: skip
            shapes |= {f"h.{i}.{name}.weight": size, f"h.{i}.{name}.bias": size[-1:]}
    return numbers(**{prefix + name: shape for name, shape in shapes.items()})


def llama_arrays() -> Arrays:
    shapes: dict[str, tuple[int, ...]] = {"embed_tokens.weight": (13, 8), "norm.weight": (8,)}
    for i in range(2):
        sizes = {"input_layernorm": (8,), "post_attention_layernorm": (8,), "self_attn.q_proj": (8, 8),
                 "self_attn.k_proj": (4, 8), "self_attn.v_proj": (4, 8), "self_attn.o_proj": (8, 8),
                 "mlp.gate_proj": (12, 8), "mlp.up_proj": (12, 8), "mlp.down_proj": (8, 12)}  # fmt: skip
        shapes |= {f"layers.{i}.{name}.weight": size for name, size in sizes.items()}
    return numbers(**{f"model.{name}": shape for name, shape in shapes.items()}, **{"lm_head.weight": (13, 8)})


def write(folder: Path, config: dict[str, Any], *shards: Arrays) -> Path:
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    if len(shards) == 1:
        safetensors.numpy.save_file(shards[0], folder / "model.safetensors")
        return folder
    names = [f"model-{i}.safetensors" for i in range(len(shards))]
    for name, shard in zip(names, shards):
        safetensors.numpy.save_file(shard, folder / name)
    weight_map = {tensor: name for name, shard in zip(names, shards) for tensor in shard}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}), encoding="utf-8")
    return folder


# --- what is read


@pytest.mark.parametrize("prefix", ["transformer.", ""])
def test_gpt2_projections_are_transposed(tmp_path: Path, prefix: str) -> None:
    arrays = gpt2_arrays(prefix)
    model = GPT.from_pretrained(write(tmp_path, GPT2, arrays))
    state = {name: tensor.numpy() for name, tensor in model.state_dict().items()}
    assert np.array_equal(state["blocks.1.attention.in_proj.weight"], arrays[f"{prefix}h.1.attn.c_attn.weight"].T)
    assert np.array_equal(state["blocks.1.attention.in_proj.bias"], arrays[f"{prefix}h.1.attn.c_attn.bias"])
    assert np.array_equal(state["lm_head.weight"], arrays[f"{prefix}wte.weight"])
    assert not model.training
    assert model.config.mlp == "gelu_tanh"


def test_llama_projections_are_put_below_each_other(tmp_path: Path) -> None:
    arrays = llama_arrays()
    model = GPT.from_pretrained(write(tmp_path, LLAMA, arrays))
    parts = [arrays[f"model.layers.1.self_attn.{part}_proj.weight"] for part in "qkv"]
    assert np.array_equal(model.blocks[1].attention.in_proj.weight.numpy(), np.concatenate(parts))
    assert np.array_equal(model.lm_head.weight.numpy(), arrays["lm_head.weight"])


def test_shards(tmp_path: Path) -> None:
    arrays = llama_arrays()
    names = sorted(arrays)
    shards = [{name: arrays[name] for name in names[i::3]} for i in range(3)]
    one, many = tmp_path / "one", tmp_path / "many"
    one.mkdir(), many.mkdir()
    ids = tt_core.tensor([[1, 2, 3]])
    a, b = GPT.from_pretrained(write(one, LLAMA, arrays)), GPT.from_pretrained(write(many, LLAMA, *shards))
    assert np.array_equal(a(ids).numpy(), b(ids).numpy())


def test_narrow_floats_become_float32(tmp_path: Path) -> None:
    wide = np.array([1.0, -2.5, 3.140625, 1e30, 0.0], np.float32)
    safetensors.numpy.save_file({"half": wide[:3].astype(np.float16)}, tmp_path / "model.safetensors")
    half = Checkpoint(tmp_path).read("half")
    assert half.dtype == np.float32
    assert np.array_equal(half, wide[:3])
    body = (wide.view(np.uint32) >> 16).astype("<u2").tobytes()
    header = json.dumps({"x": {"dtype": "BF16", "shape": [5], "data_offsets": [0, len(body)]}}).encode()
    (tmp_path / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + body)
    found = Checkpoint(tmp_path).read("x")
    assert found.dtype == np.float32
    assert np.allclose(found, wide, rtol=1 / 128)


def test_floats_of_eight_bits_are_named(tmp_path: Path) -> None:
    write(tmp_path, GPT2, gpt2_arrays())
    entries, body = {}, b""
    for name, array in gpt2_arrays().items():
        entries[name] = {"dtype": "F8_E4M3", "shape": array.shape, "data_offsets": [len(body), len(body) + array.size]}
        body += bytes(array.size)
    header = json.dumps(entries).encode()
    (tmp_path / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + body)
    with pytest.raises(CheckpointError, match="has type F8_E4M3, expected one of F64, F32, F16, BF16"):
        GPT.from_pretrained(tmp_path)


def test_masks_and_frequencies_are_not_weights(tmp_path: Path) -> None:
    arrays = gpt2_arrays() | numbers(**{"transformer.h.0.attn.bias": (1, 1, 6, 6)})
    arrays["lm_head.weight"] = arrays["transformer.wte.weight"].copy()
    GPT.from_pretrained(write(tmp_path, GPT2, arrays))


def test_a_head_that_is_not_the_table_it_is_said_to_be(tmp_path: Path) -> None:
    """`transformers` 5 uses such a head; one that is silently not used would give other logits."""
    arrays = gpt2_arrays() | numbers(**{"lm_head.weight": (13, 8)})
    arrays["lm_head.weight"] += 1
    with pytest.raises(CheckpointError) as error:
        GPT.from_pretrained(write(tmp_path, GPT2, arrays))
    one_line(error, "lm_head.weight differs from the token table", "set its tie_word_embeddings to false")
    write(tmp_path, {**GPT2, "tie_word_embeddings": False}, arrays)
    assert np.array_equal(GPT.from_pretrained(tmp_path).lm_head.weight.numpy(), arrays["lm_head.weight"])


@pytest.mark.parametrize(
    ("changes", "field", "value"),
    [
        ({"activation_function": "relu"}, "mlp", "relu"),
        ({"n_inner": 20}, "intermediate_size", 20),
        ({"layer_norm_epsilon": 1e-3}, "norm_eps", 1e-3),
        ({"tie_word_embeddings": False}, "tie_weights", False),
    ],
)
def test_gpt2_configurations(tmp_path: Path, changes: dict[str, Any], field: str, value: Any) -> None:
    (tmp_path / "config.json").write_text(json.dumps({**GPT2, **changes}), encoding="utf-8")
    assert getattr(read_config(tmp_path / "config.json"), field) == value


@pytest.mark.parametrize(
    ("changes", "field", "value"),
    [
        ({"rope_theta": 5e5}, "rope_theta", 5e5),
        ({"rope_parameters": {"rope_theta": 7.0, "rope_type": "default"}}, "rope_theta", 7.0),
        ({"rope_scaling": {"type": "linear", "factor": 2.0}}, "rope_scaling", {"rope_type": "linear", "factor": 2.0}),
        ({"attention_bias": True}, "attention_bias", True),
        ({"attention_bias": True}, "mlp_bias", False),
        ({"mlp_bias": True}, "mlp_bias", True),
        ({"model_type": "mistral", "max_position_embeddings": 9000}, "block_size", 4096),
        ({"eos_token_id": 3}, "eos_token_id", (3,)),
        ({"eos_token_id": [3, 4]}, "eos_token_id", (3, 4)),
        ({"eos_token_id": 128001}, "eos_token_id", None),
        ({"head_dim": 6, "rope_scaling": {"type": "dynamic", "factor": 4.0}}, "block_size", 24),
        ({"model_type": "mistral", "sliding_window": 4}, "block_size", 4),
        ({"model_type": "mistral", "sliding_window": None}, "block_size", 6),
        ({"head_dim": 6}, "head_size", 6),
    ],
)
def test_llama_configurations(tmp_path: Path, changes: dict[str, Any], field: str, value: Any) -> None:
    (tmp_path / "config.json").write_text(json.dumps({**LLAMA, **changes}), encoding="utf-8")
    assert getattr(read_config(tmp_path / "config.json"), field) == value


def test_a_scaling_beside_rope_parameters_is_not_dropped(tmp_path: Path) -> None:
    rope = {"rope_parameters": {"rope_theta": 7.0, "rope_type": "default"},
            "rope_scaling": {"type": "linear", "factor": 4.0}}  # fmt: skip
    (tmp_path / "config.json").write_text(json.dumps({**LLAMA, **rope}), encoding="utf-8")
    config = read_config(tmp_path / "config.json")
    assert config.rope_scaling == {"rope_type": "linear", "factor": 4.0}
    assert config.rope_theta == 7.0


def test_the_end_of_a_text_stands_in_either_file(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({**LLAMA, "eos_token_id": 2}), encoding="utf-8")
    assert read_config(tmp_path / "config.json").eos_token_id == (2,)
    (tmp_path / "generation_config.json").write_text(json.dumps({"eos_token_id": [5, 6]}), encoding="utf-8")
    assert read_config(tmp_path / "config.json").eos_token_id == (5, 6)
    (tmp_path / "generation_config.json").write_text(json.dumps({"temperature": 0.6}), encoding="utf-8")
    assert read_config(tmp_path / "config.json").eos_token_id == (2,)


def test_names_that_nobody_knows_are_named(tmp_path: Path) -> None:
    harmless = {"torch_dtype": "bfloat16", "use_cache": True, "bos_token_id": 1, "sliding_window": None}
    (tmp_path / "config.json").write_text(json.dumps({**LLAMA, **harmless, "new_trick": 2}), encoding="utf-8")
    with pytest.warns(UserWarning, match="does not use 'new_trick'; check"):
        read_config(tmp_path / "config.json")


def test_biases_of_attention_alone(tmp_path: Path) -> None:
    arrays = llama_arrays()
    for i in range(2):
        for part, size in {"q": 8, "k": 4, "v": 4, "o": 8}.items():
            arrays[f"model.layers.{i}.self_attn.{part}_proj.bias"] = np.full(size, i + 1, np.float32)
    model = GPT.from_pretrained(write(tmp_path, {**LLAMA, "attention_bias": True}, arrays))
    assert np.array_equal(model.blocks[1].attention.in_proj.bias.numpy(), np.full(16, 2))
    assert model.blocks[1].mlp.up.bias is None


# --- one line each


def one_line(error: pytest.ExceptionInfo[Exception], *parts: str) -> None:
    text = str(error.value)
    assert "\n" not in text
    assert len(text) < 600
    for part in parts:
        assert part in text


def test_tensors_that_do_not_fit_are_listed(tmp_path: Path) -> None:
    arrays = gpt2_arrays()
    del arrays["transformer.ln_f.bias"]
    arrays["transformer.h.0.attn.c_attn.weight"] = np.zeros((8, 16), np.float32)
    with pytest.raises(CheckpointError) as error:
        GPT.from_pretrained(write(tmp_path, GPT2, arrays))
    one_line(error, "transformer.ln_f.bias is missing", "c_attn.weight is (8, 16), expected (8, 24)")


def test_only_the_first_few_are_listed(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError) as error:
        GPT.from_pretrained(write(tmp_path, {**GPT2, "n_embd": 10}, gpt2_arrays()))
    one_line(error, "wte.weight is (13, 8), expected (13, 10)", "and more")


def test_weights_that_nobody_would_use_are_an_error(tmp_path: Path) -> None:
    arrays = llama_arrays() | numbers(**{"model.layers.0.self_attn.q_norm.weight": (4,)})
    with pytest.raises(CheckpointError) as error:
        GPT.from_pretrained(write(tmp_path, LLAMA, arrays))
    one_line(error, "q_norm.weight' in the files but not in the model")


@pytest.mark.parametrize("field", ["n_layer", "vocab_size", "n_embd", "n_positions"])
def test_huge_sizes_are_refused_before_anything_is_allocated(tmp_path: Path, field: str) -> None:
    with pytest.raises(TinyTorchError) as error:
        GPT.from_pretrained(write(tmp_path, {**GPT2, field: 2 * 10**10}, gpt2_arrays()))
    one_line(error)


def test_missing_shards_are_named(tmp_path: Path) -> None:
    arrays = gpt2_arrays()
    names = sorted(arrays)
    write(tmp_path, GPT2, *[{name: arrays[name] for name in names[i::6]} for i in range(6)])
    for i in (1, 4):
        (tmp_path / f"model-{i}.safetensors").unlink()
    with pytest.raises(CheckpointError) as error:
        GPT.from_pretrained(tmp_path)
    one_line(error, "2 of 6 shards are missing: 'model-1.safetensors', 'model-4.safetensors'")


@pytest.mark.parametrize(
    "name", ["../secret", "/etc/passwd", "a/b", "..", "a\\b", "x\ny", "a" * 300, ".hidden", "a\0b", "C:x"]
)
def test_an_index_may_not_point_elsewhere(tmp_path: Path, name: str) -> None:
    write(tmp_path, GPT2, {}, {})
    index = {"weight_map": {"x": name}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
    with pytest.raises(CheckpointError) as error:
        GPT.from_pretrained(tmp_path)
    one_line(error, "which is not a file of this folder")


def test_folders_without_a_model(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no such folder"):
        GPT.from_pretrained(tmp_path / "nothing")
    with pytest.raises(CheckpointError, match=r"config\.json: cannot be read"):
        GPT.from_pretrained(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(GPT2), encoding="utf-8")
    with pytest.raises(CheckpointError, match=r"has no model\.safetensors"):
        GPT.from_pretrained(tmp_path)
    (tmp_path / "pytorch_model.bin").write_bytes(b"")
    with pytest.raises(CheckpointError, match="holds pickles, which are not read"):
        GPT.from_pretrained(tmp_path)


@pytest.mark.parametrize("keep", [0, 4, 8, 100, -1])
def test_damaged_files(tmp_path: Path, keep: int) -> None:
    file = write(tmp_path, GPT2, gpt2_arrays()) / "model.safetensors"
    file.write_bytes(file.read_bytes()[:keep])
    with pytest.raises(CheckpointError) as error:
        GPT.from_pretrained(tmp_path)
    one_line(error, "damaged or not a safetensors file")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is not JSON"),
        ("[1]", "holds a JSON list"),
        ("[" * 100_000, "is not JSON"),
        ("{}", "model_type is 'None', expected gpt2, llama, mistral"),
        (json.dumps({**GPT2, "model_type": "bert"}), "model_type is 'bert'"),
        (json.dumps({**GPT2, "n_head": 3}), "n_embd 8 does not divide"),
        (json.dumps({**GPT2, "n_head": "2"}), "n_head is '2', expected a positive integer"),
        (json.dumps({**GPT2, "activation_function": "tanh"}), "activation_function is 'tanh', which is not supported"),
        (json.dumps({**GPT2, "scale_attn_by_inverse_layer_idx": True}), "scale_attn_by_inverse_layer_idx is True"),
        (json.dumps({**LLAMA, "hidden_act": "gelu"}), "hidden_act is 'gelu'"),
        (json.dumps({**LLAMA, "model_type": "mistral", "mlp_bias": True}), "mlp_bias is True"),
        (json.dumps({**LLAMA, "rope_scaling": {"type": "su"}}), "rope_type is 'su'"),
        (json.dumps({**LLAMA, "rope_scaling": {"type": "linear", "factor": 2.0, "beta_fast": 3}}), "take 'beta_fast'"),
        (json.dumps({**LLAMA, "rope_parameters": {"mrope_section": [1, 1]}}), "does not take 'mrope_section'"),
        (json.dumps({**LLAMA, "rope_scaling": [1]}), "rope_scaling is '[1]', expected a object"),
        (json.dumps({**LLAMA, "rope_parameters": {"partial_rotary_factor": 0.5}}), "partial_rotary_factor is 0.5"),
        (json.dumps({**LLAMA, "partial_rotary_factor": 0.5}), "partial_rotary_factor is 0.5"),
        (json.dumps({**LLAMA, "final_logit_softcapping": 30.0}), "final_logit_softcapping is 30.0"),
        (json.dumps({**LLAMA, "quantization_config": {"bits": 4}}), "quantization_config is {'bits': 4}"),
        (json.dumps({**LLAMA, "sliding_window": 3}), "sliding_window is 3"),
        (json.dumps({**GPT2, "eos_token_id": "end"}), "eos_token_id is 'end', expected an id"),
        (
            json.dumps(
                {**LLAMA, "rope_parameters": {"rope_type": "linear", "factor": 2.0}, "rope_scaling": {"type": "yarn"}}
            ),
            "rope_scaling is yarn, but rope_parameters are linear",
        ),
        (
            json.dumps({**LLAMA, "rope_scaling": {"type": "linear"}}),
            "rope_type linear needs a positive factor",
        ),
        (json.dumps({k: v for k, v in GPT2.items() if k != "vocab_size"}), "has no vocab_size"),
    ],
)
def test_configurations_that_cannot_be_read(tmp_path: Path, text: str, message: str) -> None:
    write(tmp_path, GPT2, gpt2_arrays())
    (tmp_path / "config.json").write_text(text, encoding="utf-8")
    with pytest.raises((CheckpointError, ConfigError)) as error:
        GPT.from_pretrained(tmp_path)
    one_line(error, "config.json", message)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
    max_leaves=5,
)
KEYS = [*GPT2, *LLAMA, "rope_scaling", "rope_parameters", "rope_theta", "n_inner", "layer_norm_epsilon",
        "tie_word_embeddings", "sliding_window", "head_dim", "hidden_act", "rms_norm_eps"]  # fmt: skip


@pytest.mark.filterwarnings("ignore:.*does not use")  # names of the other family
@settings(max_examples=300, deadline=None)
@given(st.sampled_from([GPT2, LLAMA]), st.dictionaries(st.sampled_from(KEYS), json_values, max_size=4))
def test_any_configuration_is_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, base: dict[str, Any], changes: dict[str, Any]
) -> None:
    path = tmp_path_factory.getbasetemp() / "fuzzed.json"
    path.write_text(json.dumps({**base, **changes}), encoding="utf-8")
    try:
        read = read_config(path).to_dict()
    except TinyTorchError as error:
        read = {"error": str(error)}
    assert "\n" not in read.get("error", "")
    assert read.get("n_embd", 1) >= 1


# --- what a second look found


def test_one_file_goes_before_shards_that_were_left_behind(tmp_path: Path) -> None:
    """As in `transformers`."""
    arrays = llama_arrays()
    write(tmp_path, LLAMA, {name: np.zeros_like(x) for name, x in arrays.items()}, {})
    write(tmp_path, LLAMA, arrays)
    assert np.array_equal(GPT.from_pretrained(tmp_path).norm.weight.numpy(), arrays["model.norm.weight"])


def test_a_tensor_in_two_shards_is_an_error(tmp_path: Path) -> None:
    arrays = llama_arrays()
    with pytest.raises(CheckpointError) as error:
        GPT.from_pretrained(write(tmp_path, LLAMA, arrays, {"model.norm.weight": np.ones(8, np.float32)}))
    one_line(error, "'model.norm.weight' is in model-0.safetensors too")


def test_names_out_of_a_file_do_not_write_to_the_terminal(tmp_path: Path) -> None:
    arrays = llama_arrays() | {"a\n\x1b[31m" + "b" * 10_000: np.ones(1, np.float32)}
    with pytest.raises(CheckpointError) as error:
        GPT.from_pretrained(write(tmp_path, LLAMA, arrays))
    one_line(error, r"a\n\x1b[31mb")
