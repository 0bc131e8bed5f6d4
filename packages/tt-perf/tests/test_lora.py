"""LoRA: what is adapted, trained, merged, removed and stored. That PEFT computes the same is tests/parity's to show."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import tt_core
from tt_core import init, tensor
from tt_core.engine.errors import TinyTorchError
from tt_language import GPT, GPTConfig, generate, next_token_loss
from tt_learn import AdamW
from tt_perf import Int8WeightOnly, LoraConfig, get_peft_model, load_adapter, quantize_, save_adapter
from tt_perf.lora import LoraError, LoraLinear, PeftModel, targets_of
from tt_perf.versions import Version

SIZES: dict[str, Any] = {"vocab_size": 20, "block_size": 12, "n_layer": 2, "n_head": 2, "n_embd": 16}
LLAMA: dict[str, Any] = {**SIZES, "position": "rotary", "norm": "rms", "mlp": "swiglu", "bias": False, "n_kv_head": 1}
SHAPES = {"gpt2": SIZES, "llama": LLAMA, "neither": {**SIZES, "position": "none"}}
IDS = tensor([[1, 5, 2, 4, 7]])


def made(name: str = "gpt2", **changes: Any) -> GPT:
    tt_core.manual_seed(1)
    return GPT(GPTConfig(**{**SHAPES[name], **changes})).eval()


def adapted(model: GPT, **options: Any) -> PeftModel:
    """With an update that is not 0."""
    result = get_peft_model(model, LoraConfig(**options)).eval()
    for entry in result.trained().values():
        init.normal_(entry, std=0.3)
    return result


def logits(model: Any) -> np.ndarray:
    return np.array(model(IDS).detach().numpy())


@pytest.mark.parametrize("name", SHAPES)
def test_a_new_adapter_changes_nothing(name: str) -> None:
    model = made(name)
    before = logits(model)
    new = get_peft_model(model, LoraConfig())
    np.testing.assert_array_equal(logits(new), before)
    assert all(layer.base.weight.requires_grad is False for layer in new.adapted().values())


@pytest.mark.parametrize("targets", [None, "all-linear", ["out_proj", "lm_head"], r"blocks\.1\..*"], ids=str)
@pytest.mark.parametrize("name", SHAPES)
def test_merged_unmerged_and_merged_twice_agree(name: str, targets: Any) -> None:
    model = made(name)
    plain = logits(model)
    peft = adapted(model, target_modules=targets, r=3, lora_alpha=5)
    with_adapter = logits(model)
    assert np.abs(with_adapter - plain).max() > 0.01
    for _ in range(2):
        rounding = peft.merge_adapter()
        assert max(rounding.values()) < 1e-6
        np.testing.assert_allclose(logits(model), with_adapter, atol=1e-4)
    peft.unmerge_adapter()
    np.testing.assert_array_equal(logits(model), with_adapter)
    with peft.disable_adapter():
        np.testing.assert_array_equal(logits(model), plain)
    peft.merge_adapter(safe_merge=True)
    with peft.disable_adapter():
        np.testing.assert_array_equal(logits(model), plain)
    merged = peft.merge_and_unload()
    assert merged is model
    assert not any(isinstance(layer, LoraLinear) for layer in model.modules())
    np.testing.assert_allclose(logits(model), with_adapter, atol=1e-4)


def test_unloading_gives_the_model_back_to_the_bit() -> None:
    model = made()
    before, state = logits(model), {name: np.array(x.data) for name, x in model.state_dict().items()}
    peft = adapted(model, bias="all", modules_to_save=["wte", "ln_f"], target_modules=["c_attn", "lm_head"])
    peft.merge_adapter()
    assert peft.unload() is model
    np.testing.assert_array_equal(logits(model), before)
    assert all(np.array_equal(x.data, state[name]) for name, x in model.state_dict().items())
    assert model.lm_head.weight is model.wte.weight
    assert model.config.tie_weights
    assert all(parameter.requires_grad for parameter in model.parameters())


@pytest.mark.parametrize("options", [{"target_modules": ["lm_head"]}, {"modules_to_save": ["lm_head"]},
                                     {"modules_to_save": ["wte"]}], ids=str)  # fmt: skip
def test_merging_a_tied_head_leaves_the_token_table(options: dict[str, Any], tmp_path: Path) -> None:
    model = made()
    table = np.array(model.wte.weight.data)
    peft = adapted(model, **options)
    expected = logits(model)
    peft.merge_and_unload()
    assert not model.config.tie_weights
    assert np.array_equal(model.wte.weight.data, table) is ("wte" not in options.get("modules_to_save", []))
    model.save_pretrained(tmp_path)
    np.testing.assert_allclose(logits(GPT.from_pretrained(tmp_path)), expected, atol=1e-4)


def test_a_float16_base_is_rounded_once() -> None:
    model = made()
    model.half()
    peft = adapted(model, target_modules="all-linear")
    exact = {path: layer.merged_weight() for path, layer in peft.adapted().items()}
    rounding = peft.merge_adapter()
    for path, layer in peft.adapted().items():
        np.testing.assert_array_equal(layer.base.weight.data, exact[path].astype(np.float16))
        assert rounding[path] == np.abs(layer.base.weight.data - exact[path]).max()
    assert peft.merge_adapter() == rounding


def test_training_moves_the_adapter_alone() -> None:
    model = made()
    peft = get_peft_model(model, LoraConfig(r=4, lora_dropout=0.1)).train()
    frozen = {name: np.array(x.data) for name, x in model.named_parameters() if not x.requires_grad}
    optimizer = AdamW(list(peft.trained().values()), lr=0.02)
    first = None
    for _ in range(30):
        loss = next_token_loss(peft(IDS), tensor([[5, 2, 4, 7, 9]]))
        first = loss.item() if first is None else first
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < first / 2
    now = dict(model.named_parameters())
    assert all(np.array_equal(now[name].data, values) for name, values in frozen.items())
    assert peft.trainable_parameters()[0] == 2 * 4 * (16 + 48)


def test_caches_notice_the_switch() -> None:
    peft = adapted(made())
    version = Version(peft.model)
    assert version.holds(peft.model)
    with peft.disable_adapter():
        assert not version.holds(peft.model)
    version = Version(peft.model)
    peft.merge_adapter()
    assert not version.holds(peft.model)


def test_adapted_models_generate_with_a_cache_and_are_quantized() -> None:
    model = made("llama")
    adapted(model)
    plain = generate(model, [1, 2], 20, temperature=0)
    with tt_core.use("kv-cache"):
        assert generate(model, [1, 2], 20, temperature=0) == plain
    before = logits(model)
    quantize_(model, Int8WeightOnly(), verbose=False)
    assert np.abs(logits(model) - before).max() < 0.1


def test_a_state_dict_is_the_adapters() -> None:
    peft, other = adapted(made()), get_peft_model(made(), LoraConfig()).eval()
    other.load_state_dict({name: np.array(x.data) for name, x in peft.state_dict().items()})
    np.testing.assert_array_equal(logits(other), logits(peft))
    with pytest.raises(LoraError, match="in one of adapter and state dict only"):
        other.load_state_dict({})
    with pytest.raises(LoraError, match=r"is \(1,\), the adapter has"):
        other.load_state_dict({name: np.ones(1) for name in peft.state_dict()})


@pytest.mark.parametrize(
    ("options", "said"),
    [({"r": 0}, "r is '0'"), ({"lora_alpha": float("nan")}, "lora_alpha is 'nan'"), ({"lora_dropout": 1}, "dropout is"),
     ({"bias": "some"}, "bias is 'some'"), ({"target_modules": [1]}, "target_modules is"),
     ({"target_modules": []}, "is empty"), ({"target_modules": ["q_proj"]}, "no linear layer is called 'q_proj'"),
     ({"target_modules": "q.*"}, "no linear layer fits"), ({"target_modules": "("}, "no usable regular expression"),
     ({"modules_to_save": ["head"]}, "no layer is called 'head'; it has")],
    ids=str,
)  # fmt: skip
def test_settings_that_do_not_fit(options: dict[str, Any], said: str) -> None:
    model = made()
    before = logits(model)
    with pytest.raises(LoraError, match=said):
        get_peft_model(model, LoraConfig(**options))
    np.testing.assert_array_equal(logits(model), before)
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_one_adapter_at_a_time() -> None:
    model = made()
    adapted(model)
    with pytest.raises(LoraError, match="the model has an adapter"):
        get_peft_model(model, LoraConfig())


def test_a_merge_that_is_not_finite_changes_nothing() -> None:
    peft = adapted(made())
    list(peft.adapted().values())[1].updates["c_attn"].lora_B.weight.data[0, 0] = np.inf
    with pytest.raises(LoraError, match=r"not finite.*layer blocks\.1\.attention\.in_proj"):
        peft.merge_adapter(safe_merge=True)
    assert not any(layer.merged for layer in peft.adapted().values())


@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_each_linear_layer_is_a_target(name: str) -> None:
    parts = [target.part for target in targets_of(made(name))]
    assert len(parts) == len(set(parts)) == {"gpt2": 2 * 4 + 1, "llama": 2 * 7 + 1}[name]


# --- files


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_adapter(adapted(made(), bias="lora_only"), tmp_path, base="gpt2")
    return tmp_path


def test_files_hold_the_adapter(folder: Path) -> None:
    peft = load_adapter(made(), folder).eval()
    np.testing.assert_array_equal(logits(peft), logits(adapted(made(), bias="lora_only")))


def change(name: str, value: Any) -> Callable[[Path], None]:
    def act(folder: Path) -> None:
        path = folder / "adapter_config.json"
        values = json.loads(path.read_text(encoding="utf-8"))
        path.write_text(json.dumps({**values, name: value}), encoding="utf-8")

    return act


def retensor(act: Callable[[dict[str, np.ndarray]], Any]) -> Callable[[Path], None]:
    def run(folder: Path) -> None:
        arrays = load_file(folder / "adapter_model.safetensors")
        act(arrays)
        save_file(arrays, folder / "adapter_model.safetensors")

    return run


KEY = "base_model.model.transformer.h.0.attn.c_attn.lora_A.weight"


@pytest.mark.parametrize(
    ("damage", "said"),
    [(change("peft_type", "LOHA"), "only LORA is read"), (change("use_dora", True), "use_dora is 'True'"),
     (change("rank_pattern", {"c_attn": 4}), "rank_pattern is"), (change("r", "8"), "r is '8'"),
     (change("target_modules", ["q_proj"]), "no linear layer is called"),
     (change("target_modules", {"a": 1}), "target_modules is"), (change("r", 4), "the model needs"),
     (change("base_model_name_or_path", 3), "base_model_name_or_path is '3'"),
     (lambda folder: (folder / "adapter_config.json").write_text("{", encoding="utf-8"), "is not JSON"),
     (lambda folder: (folder / "adapter_config.json").unlink(), "cannot be read"),
     (lambda folder: (folder / "adapter_model.safetensors").unlink(), "has no adapter_model.safetensors"),
     (lambda folder: (folder / "adapter_model.safetensors").write_bytes(b"x"), "is not a safetensors file"),
     (retensor(lambda arrays: arrays.pop(KEY)), "lora_A.weight is missing"),
     (retensor(lambda arrays: arrays.update(odd=np.ones(1))), "odd belongs to no adapted layer"),
     (retensor(lambda arrays: arrays.update({KEY: arrays[KEY].astype(np.int32)})), "is int32, expected floats")],
)  # fmt: skip
def test_damaged_files_leave_the_model_as_it_was(damage: Callable[[Path], None], said: str, folder: Path) -> None:
    model = made()
    before = logits(model)
    damage(folder)
    with pytest.raises(TinyTorchError, match=said):
        load_adapter(model, folder)
    np.testing.assert_array_equal(logits(model), before)
    assert not any(isinstance(layer, LoraLinear) for layer in model.modules())
    assert all(parameter.requires_grad for parameter in model.parameters())


@pytest.mark.parametrize("options", [{}, {"target_modules": "all-linear"}, {"modules_to_save": ["norm1"]}], ids=str)
def test_the_adapter_of_a_model_of_neither_family_has_the_names_of_its_layers(
    options: dict[str, Any], tmp_path: Path
) -> None:
    model = adapted(made("neither"), **options)
    save_adapter(model, tmp_path)
    assert "base_model.model.blocks.0.attention.in_proj.lora_A.weight" in load_file(
        tmp_path / "adapter_model.safetensors"
    )
    again = load_adapter(made("neither"), tmp_path)
    np.testing.assert_array_equal(logits(again), logits(model))
