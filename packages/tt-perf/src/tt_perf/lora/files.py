"""LoRA: reads and writes PEFT's files, adapter_config.json and adapter_model.safetensors.

Names in the files are those of the checkpoint: `base_model.model.transformer.h.0.attn.c_attn.lora_A.weight`. Settings
that change results and are not supported here, such as DoRA, are errors.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tt_core.engine.arguments import checked
from tt_core.engine.dispatch import Array
from tt_core.engine.errors import TinyTorchError
from tt_core.engine.files import make_folder, write_json
from tt_core.tensor import Tensor
from tt_language import GPT, CheckpointError
from tt_language.transformers import read_json_object, sources_of
from tt_learn import load_tensors, save_tensors
from tt_perf.lora.layers import LoraConfig, LoraError
from tt_perf.lora.model import PeftModel, Target, family_or_other, get_peft_model, names_of, targets_of

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
_PREFIX = "base_model.model."
_READ = ("r", "lora_alpha", "target_modules", "lora_dropout", "bias", "fan_in_fan_out", "modules_to_save", "use_rslora")
_NEUTRAL: dict[str, tuple[Any, ...]] = {
    **dict.fromkeys(("use_dora", "lora_bias", "use_qalora", "use_bdlora", "ensure_weight_tying"), (False, None)),
    **dict.fromkeys(
        (
            "rank_pattern", "alpha_pattern", "layers_to_transform", "layers_pattern", "exclude_modules",
            "layer_replication", "target_parameters", "trainable_token_indices", "alora_invocation_tokens",
            "arrow_config", "megatron_config", "corda_config",
        ),
        (None, {}, []),
    ),
}  # fmt: skip
"""Settings that can change results, with the values that do not change them."""


@checked
def save_adapter(adapted: PeftModel, folder: str | os.PathLike[str], base: str | None = None) -> None:
    """Write the adapter as PEFT does; `base` is the folder or name of the model that it is for.

    For a model that has neither GPT-2's nor Llama's shape, the names in the file are those of its own layers. PEFT
    knows no such model, but `load_adapter` reads the file. Raises `LoraError` for a bias of a packed projection, and
    `FileError`.
    """
    family, config = family_or_other(adapted.model), adapted.config
    path = make_folder(folder)
    values = {
        "peft_type": "LORA", "task_type": "CAUSAL_LM", "base_model_name_or_path": base, "inference_mode": True,
        "r": config.r, "lora_alpha": config.lora_alpha, "lora_dropout": config.lora_dropout, "bias": config.bias,
        "target_modules": _words(adapted.targets, targets_of(adapted.model)),
        "fan_in_fan_out": family == "gpt2", "use_rslora": config.use_rslora,
        "modules_to_save": None if config.modules_to_save is None else _saved_words(adapted),
        "init_lora_weights": True,
    }  # fmt: skip
    turned = _turned(adapted)
    arrays = {name: entry.data.T if name in turned else entry.data for name, entry in _entries(adapted).items()}
    save_tensors(path / WEIGHTS, arrays, {"format": "pt"})
    write_json(path / CONFIG, values)


def read_adapter_config(folder: str | os.PathLike[str]) -> tuple[LoraConfig, str | None]:
    """The settings of an adapter, and the name of its base model.

    Raises `LoraError` for another kind of adapter and for settings that are not supported, `CheckpointError` for a
    damaged file.
    """
    path = Path(folder) / CONFIG
    values = read_json_object(path)
    if values.get("peft_type") != "LORA":
        raise LoraError(f"{path}: peft_type is {str(values.get('peft_type'))[:40]!r}, only LORA is read")
    for name, neutral in _NEUTRAL.items():
        if values.get(name) not in neutral:
            raise LoraError(f"{path}: {name} is {str(values[name])[:60]!r}, which is not supported")
    base = values.get("base_model_name_or_path")
    if base is not None and not isinstance(base, str):
        raise LoraError(f"{path}: base_model_name_or_path is {str(base)[:60]!r}, expected a text")
    try:
        return LoraConfig(**{name: values[name] for name in _READ if name in values}), base
    except (LoraError, TypeError) as error:
        raise LoraError(f"{path}: {error}") from None


@checked
def load_adapter(model: GPT, folder: str | os.PathLike[str]) -> PeftModel:
    """Load an adapter from its files into a model, in place.

    Raises `LoraError` for an adapter that does not fit, and `CheckpointError` for damaged files; the model is then
    unchanged.
    """
    config, path = read_adapter_config(folder)[0], Path(folder) / WEIGHTS
    if not path.is_file():
        other = "; adapter_model.bin is a pickle, which is not read" if path.with_suffix(".bin").exists() else ""
        raise CheckpointError(f"{folder}: has no {WEIGHTS}{other}")
    required = {id(parameter): parameter.requires_grad for parameter in model.parameters()}
    adapted = get_peft_model(model, config)
    try:
        turned = _turned(adapted)
        arrays = {name: array.T if name in turned else array for name, array in load_tensors(path)[0].items()}
        _fill(_entries(adapted), arrays, path)
    except TinyTorchError:
        for parameter in adapted.unload().parameters():
            parameter.requires_grad_(required[id(parameter)])
        raise
    return adapted


def _fill(entries: Mapping[str, Tensor], arrays: Mapping[str, Array], path: Path) -> None:
    missing = [name for name in entries if name not in arrays]
    left = sorted(set(arrays) - set(entries))
    if missing or left:
        problem = f"{missing[0]} is missing" if missing else f"{left[0][:120]} belongs to no adapted layer"
        raise LoraError(f"{path}: does not fit the model: {problem}")
    for name, entry in entries.items():
        if arrays[name].shape != entry.shape:
            raise LoraError(f"{path}: {name} is {arrays[name].shape}, the model needs {entry.shape}")
        if arrays[name].dtype.kind != "f":
            raise LoraError(f"{path}: {name} is {arrays[name].dtype}, expected floats")
    for name, entry in entries.items():
        np.copyto(entry.data, arrays[name], casting="same_kind")


def _entries(adapted: PeftModel) -> dict[str, Tensor]:
    """The tensors of the adapter by their names in the file."""
    layers = adapted.adapted()
    found: dict[str, Tensor] = {}
    for target in adapted.targets:
        update = layers[target.layer].updates[target.part.rpartition(".")[2]]
        for side in ("lora_A", "lora_B"):
            found[f"{_PREFIX}{target.part}.{side}.weight"] = getattr(update, side).weight
    names = names_of(adapted.model)
    for name, entry in adapted.trained().items():
        path, _, attribute = name.rpartition(".")
        if ".updates." in name:
            continue
        held = path.removesuffix(".base")
        if held not in names:
            raise LoraError(f"save_adapter: {name} is part of a packed projection, which PEFT's files cannot hold")
        middle = ".base_layer" if held in layers else ""
        found[f"{_PREFIX}{names[held]}{middle}.{attribute}"] = entry
    return found


def _turned(adapted: PeftModel) -> set[str]:
    """Tensors that the file stores as (in, out), as GPT-2's checkpoints do; matrices of updates are not among them."""
    if family_or_other(adapted.model) != "gpt2":
        return set()
    projections = [name for source in sources_of(adapted.model.config) if source.transposed for name in source.tensors]
    return {_PREFIX + name for name in projections}


def _words(chosen: list[Target], available: list[Target]) -> list[str]:
    """The shortest names that match these targets and no others."""
    parts = {target.part for target in chosen}
    words: dict[str, None] = {}
    for target in chosen:
        pieces = target.part.split(".")
        for count in (1, 2, len(pieces)):
            word = ".".join(pieces[-count:])
            if all(other.part in parts for other in available if other.is_called(word)):
                break
        words[word] = None
    return sorted(words)


def _saved_words(adapted: PeftModel) -> list[str]:
    """`modules_to_save` by the checkpoint's names."""
    names = names_of(adapted.model)
    return [names[word].rpartition(".")[2] if word in names else word for word in adapted.config.modules_to_save or ()]
