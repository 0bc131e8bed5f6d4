"""Module 15, quantization: whole models. `quantize_` replaces layers by quantized ones, `dequantize_` undoes it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from tt_core.engine.arguments import checked
from tt_core.engine.dispatch import Array
from tt_core.layers import Layer, replace_layers
from tt_language.embeddings import Embedding
from tt_perf.quantization.affine import QuantizationError
from tt_perf.quantization.calibration import Calibration
from tt_perf.quantization.layers import QuantizedLayer, StoredWeight, form_of, is_quantized, stored
from tt_perf.quantization.packed import Packed, pack_int4, pack_int8
from tt_perf.quantization.report import Report, Row, digest_of, inputs_of, measured_row, nbytes, usual_input

Filter = Callable[[Layer, str], object]


# --- what to make of a weight, and of a layer's input


@dataclass(frozen=True)
class Int8WeightOnly:
    """Weights as int8 with one scale per output channel or table row; inputs stay floats. A quarter of the bytes."""

    bits: ClassVar[int] = 8
    activations: ClassVar[str | None] = None


@dataclass(frozen=True)
class Int8DynamicActivation:
    """int8 weights, and each row of the input rounded to int8 by its own range: products of integers."""

    bits: ClassVar[int] = 8
    activations: ClassVar[str | None] = "dynamic"


@dataclass(frozen=True)
class Int4WeightOnly:
    """Weights as 4 bits, two to a byte, with a scale and a zero point for each `group_size` inputs (32, 64 or 128)."""

    group_size: int = 64
    bits: ClassVar[int] = 4
    activations: ClassVar[str | None] = None

    def __post_init__(self) -> None:
        if type(self.group_size) is not int or self.group_size not in (32, 64, 128):
            raise QuantizationError(f"Int4WeightOnly: group_size is {self.group_size!r}, expected 32, 64 or 128")


@dataclass(frozen=True)
class Int8Static:
    """int8 weights, and inputs rounded in the one range that calibration found; see `calibrating`."""

    calibration: Calibration
    bits: ClassVar[int] = 8
    activations: ClassVar[str | None] = "static"

    def __post_init__(self) -> None:
        if not isinstance(self.calibration, Calibration):
            raise QuantizationError(
                "Int8Static: takes what `with calibrating(model) as calibration:` gave, "
                f"got {type(self.calibration).__name__}"
            )


Config = Int8WeightOnly | Int8DynamicActivation | Int4WeightOnly | Int8Static


# --- the conversion


@checked
def quantize_(
    model: Layer,
    config: Config,
    filter_fn: Filter | None = None,
    *,
    example: Any = None,
    verbose: bool = True,
) -> Report:
    """Replace layers of `model` by quantized ones, in place; returns a report, and prints it if `verbose`.

    `config`: `Int8WeightOnly()`, `Int8DynamicActivation()`, `Int8Static(calibration)` or `Int4WeightOnly(group_size)`.
    `filter_fn(layer, name)` chooses among Linear, Conv2d and Embedding; all by default. A weight that layers share
    stays shared where all of them are chosen, and is kept once in floats and once as integers where some are not.
    `example` (one input or a tuple of them) says at which shapes layers are timed; without it, a Linear is timed on one
    row, an Embedding on one id, a Conv2d not at all. Raises `QuantizationError` for a model that is quantized already,
    for one in which nothing is chosen, for weights that are not finite, and for a model that is one such layer itself.

    >>> from tt_core import Linear, Sequential
    >>> model = Sequential(Linear(64, 64))
    >>> report = quantize_(model, Int8WeightOnly(), verbose=False)
    >>> report.bytes_before, report.bytes_after, model[0].codes.dtype
    (16640, 4608, dtype('int8'))
    """
    chosen = _chosen(model, filter_fn)
    before, digest = nbytes(model), digest_of(model)
    inputs = {} if example is None else inputs_of(model, example, chosen)
    notes, rows = _untied(model, chosen), list[Row]()
    convert(
        model,
        chosen,
        config,
        lambda layer, new, shared: rows.append(
            measured_row(chosen[layer], layer, new, shared, inputs.get(layer, usual_input(layer)))
        ),
    )
    if getattr(model, "quantized_from", None) is None:
        model.quantized_from = digest
    after = nbytes(model)
    notes += ["this saves no bytes"] * (after >= before)
    report = Report(tuple(rows), before, after, tuple(notes))
    if verbose:
        print(report)
    return report


def _chosen(model: Layer, filter_fn: Filter | None) -> dict[Layer, str]:
    """The layers to be exchanged, with their names."""
    chosen: dict[Layer, str] = {}
    for name, layer in model.named_modules():
        if isinstance(layer, QuantizedLayer) and (filter_fn is None or filter_fn(layer, name)):
            raise QuantizationError(f"quantize_: {name or 'the model'} is quantized already; dequantize_() it first")
        if form_of(layer) and (filter_fn is None or filter_fn(layer, name)):
            chosen[layer] = name
    if not chosen:
        which = "filter_fn chooses none" if filter_fn else "the model holds none"
        raise QuantizationError(f"quantize_: Linear, Conv2d and Embedding can be quantized, {which}")
    if model in chosen:
        kind = type(model).__name__
        raise QuantizationError(f"quantize_: the model is a {kind} itself; exchange it inside Sequential(layer)")
    return chosen


Made = Callable[[Layer, QuantizedLayer, tuple[bool, bool]], object]


def convert(model: Layer, chosen: Mapping[Layer, str], config: Config, made: Made = lambda *_: None) -> None:
    """Exchange the `chosen` layers (with their names); layers that share a weight share its integers.

    `made` receives each layer, its new form, and whether another layer shares its weight: the floats, and the integers.
    """
    kept = {id(weight_of(x)) for x in model.modules() if form_of(x) and x not in chosen}
    weights: dict[int, StoredWeight] = {}

    def make(layer: Any) -> Layer:
        weight = layer.weight
        spec = spec_of(config, layer)
        again = id(weight) in weights
        if not again:
            try:
                weights[id(weight)] = stored(pack(weight.data, spec["bits"], spec["group_size"]))
            except QuantizationError as error:
                raise QuantizationError(f"quantize_: weight of {chosen[layer]}: {error}") from None
        new: QuantizedLayer = form_of(layer)(layer, weights[id(weight)], spec)
        if isinstance(config, Int8Static) and spec["activations"] == "static":
            new.set_range(config.calibration.range_of(layer, chosen[layer]))
        made(layer, new, (again or id(weight) in kept, again))
        return new

    replace_layers(model, lambda layer, name: layer in chosen, make)


def weight_of(layer: Any) -> Any:
    """The weight of a layer that has a quantized form."""
    return layer.weight


def spec_of(config: Config, layer: Layer) -> dict[str, Any]:
    """How a layer is quantized, as stored in files: bits, group size, and the rounding of its input."""
    rounded = None if isinstance(layer, Embedding) else config.activations
    return {"bits": config.bits, "group_size": getattr(config, "group_size", None), "activations": rounded}


def pack(weight: Array, bits: int, group_size: int | None) -> Packed:
    """A weight (out, ...) as integers of `bits` bits."""
    if bits == 8 or group_size is None:
        return pack_int8(weight)
    return pack_int4(weight.reshape(len(weight), math.prod(weight.shape[1:])), group_size)


def _untied(model: Layer, chosen: Mapping[Layer, str]) -> list[str]:
    """A sentence for each weight that some of its layers keep as floats."""
    holders: dict[int, list[tuple[str, Layer]]] = {}
    for name, layer in model.named_modules():
        if form_of(layer):
            holders.setdefault(id(weight_of(layer)), []).append((name, layer))
    notes = []
    for layers in holders.values():
        inside = [name for name, layer in layers if layer in chosen]
        outside = [name for name, layer in layers if layer not in chosen]
        if inside and outside:
            notes.append(
                f"untied: {', '.join(inside)} shared its weight with {', '.join(outside)}, which keeps it in floats; "
                "the weight is now held twice"
            )
    return notes


# --- back to floats, and into shape for a file


@checked
def dequantize_(model: Layer) -> Layer:
    """Replace quantized layers by float ones with the rounded weights, in place; returns the model.

    The weights are parameters again and can be trained; they keep the rounding. Raises
    `QuantizationError` for a model without quantized layers.

    >>> from tt_core import Linear, Sequential
    >>> model = Sequential(Linear(2, 2))
    >>> _ = quantize_(model, Int8WeightOnly(), verbose=False)
    >>> dequantize_(model)
    Sequential(
      (0): Linear(2, 2)  # 6
    )  # 6 parameters
    """
    if not is_quantized(model):
        raise QuantizationError("dequantize_: the model holds no quantized layer")
    weights: dict[int, Any] = {}

    def make(layer: Any) -> Layer:
        if id(layer.codes) not in weights:
            weights[id(layer.codes)] = layer.weight.as_parameter()
        return layer.to_float(weights[id(layer.codes)])

    model = replace_layers(model, lambda layer, name: isinstance(layer, QuantizedLayer), make)
    model.__dict__.pop("quantized_from", None)
    return model
