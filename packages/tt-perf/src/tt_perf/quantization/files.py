"""Module 15, quantization: quantized models on disk, as safetensors and a description in JSON.

The tensors are the model's state dict, each that layers share stored once. The description says what they mean:

    format         1
    bits, group_size, activations      what most layers have
    layers         {name of a quantized layer: its differences from these, {} for none}
    sha256         over names, dtypes, shapes and bytes of the tensors
    parent_sha256  the same of the float model they were made from

`save_quantized` keeps the description in the file's metadata under "quantization"; a run folder of TinyGPT in its
config.json. Nothing in it is executed, and every entry is checked before the model is touched.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from tt_core.engine.arguments import checked
from tt_core.engine.dispatch import Array
from tt_core.engine.errors import TinyTorchError
from tt_core.layers import Layer, replace_layers
from tt_learn.training import completed_state, load_tensors, save_tensors, stored_state
from tt_perf.quantization.affine import QuantizationError
from tt_perf.quantization.convert import pack
from tt_perf.quantization.layers import QuantizedLayer, StoredWeight, form_of, stored
from tt_perf.quantization.report import digest_of_arrays

FORMAT = 1
KEY = "quantization"
_SPECS = ("bits", "group_size", "activations")


@checked
def save_quantized(path: str | os.PathLike[str], model: Layer) -> None:
    """Write a quantized model to a `.safetensors` file, with its description in the metadata.

    Raises `QuantizationError` for a model without quantized layers, `FileError` where the file cannot be written.

    >>> import tempfile
    >>> from pathlib import Path
    >>> from tt_core import Linear, Sequential
    >>> from tt_perf import Int8WeightOnly, quantize_
    >>> model, path = Sequential(Linear(4, 2)), Path(tempfile.mkdtemp()) / "model.safetensors"
    >>> _ = quantize_(model, Int8WeightOnly(), verbose=False)
    >>> save_quantized(path, model)
    >>> load_quantized(path, Sequential(Linear(4, 2)))
    Sequential(
      (0): QuantizedLinear(4, 2, bits=8)  # 2
    )  # 2 parameters
    """
    save_tensors(path, stored_state(model), {KEY: json.dumps(description_of(model))})


@checked
def load_quantized(path: str | os.PathLike[str], model: Layer) -> Layer:
    """Make `model`, a float model of the same shape, the quantized one that was saved, in place; returns it.

    Raises `CheckpointError` for a damaged file and `QuantizationError` for one that is not a quantized model or does
    not fit; the model is then as it was.
    """
    arrays, metadata = load_tensors(path)
    if KEY not in metadata:
        raise QuantizationError(f"{path}: holds tensors, but no quantized model; load it with load_tensors")
    try:
        description = json.loads(metadata[KEY])
    except (ValueError, RecursionError):
        raise QuantizationError(f"{path}: its description is damaged; save the model again") from None
    return restore_(model, description, arrays, str(path))


def description_of(model: Layer) -> dict[str, Any]:
    """The entry `quantization` that says what the tensors of `stored_state` mean."""
    specs = {name: layer.spec for name, layer in model.named_modules() if isinstance(layer, QuantizedLayer)}
    if not specs:
        raise QuantizationError("save_quantized: the model holds no quantized layer; quantize_() it first")
    usual = {key: Counter(spec[key] for spec in specs.values()).most_common(1)[0][0] for key in _SPECS}
    different = {name: {k: v for k, v in spec.items() if v != usual[k]} for name, spec in specs.items()}
    arrays = {name: entry.data for name, entry in stored_state(model).items()}
    return {
        "format": FORMAT,
        **usual,
        "layers": different,
        "sha256": digest_of_arrays(arrays),
        "parent_sha256": getattr(model, "quantized_from", None),
    }


def restore_(model: Layer, description: Any, arrays: Mapping[str, Array], where: str) -> Layer:
    """Make the float `model` the one that `description` and `arrays` hold, in place; `where` is named in errors.

    Raises `QuantizationError` for a description that is damaged, tensors that are not those it was written with, and a
    model of another shape.
    """
    specs = _checked(description, where)
    if digest_of_arrays(arrays) != description.get("sha256"):
        raise QuantizationError(f"{where}: the tensors are not those that were described; the model is damaged")
    names = _layers_of(model, specs, where)
    weights: dict[int, StoredWeight] = {}
    made: dict[Layer, Layer] = {}  # the float layer for each new one

    def make(layer: Any) -> Layer:
        weight, spec = layer.weight, specs[names[layer]]
        if id(weight) not in weights:
            empty = np.zeros(weight.shape, np.float32)
            weights[id(weight)] = stored(pack(empty, spec["bits"], spec["group_size"]))
        new: QuantizedLayer = form_of(layer)(layer, weights[id(weight)], spec)
        made[new] = layer
        if f"{names[layer]}.input_scale" in arrays:
            new.set_range((np.ones((), np.float32), np.zeros((), np.int32)))
        return new

    replaced = replace_layers(model, lambda layer, name: layer in names, make)
    try:
        _load(replaced, arrays, where)
    except TinyTorchError:
        replace_layers(replaced, lambda layer, name: layer in made, lambda layer: made[layer])
        raise
    replaced.quantized_from = description.get("parent_sha256")
    return replaced


def _layers_of(model: Layer, names: Iterable[str], where: str) -> dict[Layer, str]:
    """The layers of these names, with their names; raises `QuantizationError` for one without a quantized form."""
    layers = dict(model.named_modules())
    for name in names:
        if name not in layers or form_of(layers[name]) is None:
            raise QuantizationError(f"{where}: layer {name[:60]!r} is quantized there, the model has no such layer")
    return {layers[name]: name for name in names}


def _load(model: Layer, arrays: Mapping[str, Array], where: str) -> None:
    """Copy tensors into a model of their structure, or raise with nothing changed."""
    _check_dtypes(model.state_dict(), arrays, where)
    model.load_state_dict(completed_state(model, arrays))


def _check_dtypes(own: Mapping[str, Any], arrays: Mapping[str, Array], where: str) -> None:
    for name, array in arrays.items():
        if name not in own:
            raise QuantizationError(f"{where}: holds {name[:60]!r}, which the model lacks")
        expected = own[name].data
        if array.shape != expected.shape or array.dtype.kind != expected.dtype.kind:
            raise QuantizationError(
                f"{where}: {name} is {array.dtype} {array.shape}, expected {expected.dtype} {expected.shape}"
            )


def _checked(description: Any, where: str) -> dict[str, dict[str, Any]]:
    """The specification of each quantized layer, once every entry is known to be one."""
    damaged = f"{where}: its entry 'quantization' is damaged"
    if not isinstance(description, dict) or not isinstance(description.get("layers"), dict):
        raise QuantizationError(f"{damaged}: expected an object with 'layers'")
    if description.get("format") != FORMAT:
        found = str(description.get("format"))[:20]
        raise QuantizationError(f"{where}: is a quantized model of format {found}, this version reads {FORMAT}")
    specs = {}
    for name, different in description["layers"].items():
        if not isinstance(different, dict) or not set(different) <= set(_SPECS):
            raise QuantizationError(
                f"{damaged}: layer {name[:60]!r} may say {', '.join(_SPECS)}, got {str(different)[:60]}"
            )
        spec = {key: different.get(key, description.get(key)) for key in _SPECS}
        if (spec["bits"], spec["group_size"], spec["activations"]) not in _KNOWN:
            raise QuantizationError(f"{damaged}: layer {name[:60]!r} has {str(spec)[:100]}, which do not go together")
        specs[name] = spec
    return specs


_KNOWN = [
    *((8, None, activations) for activations in (None, "dynamic", "static")),
    *((4, group_size, None) for group_size in (32, 64, 128)),
]
"""Bits, group size and rounding of the input that go together."""
