"""Module 15, quantization: the plugins `int8` and `int4`, which quantize a model where it begins to generate.

They answer `tt_prepare_model`. A model without other users (`TinyGPT.load`) is quantized in place; of another one a
quantized copy is kept, which shares what stays floats, until a weight changes.
"""

from __future__ import annotations

import copy
import weakref
from typing import Any, NamedTuple

from tt_core.engine.hookspecs import hookimpl
from tt_core.layers import Layer
from tt_perf.quantization.convert import Config, Int4WeightOnly, Int8WeightOnly, convert
from tt_perf.quantization.layers import form_of, is_quantized
from tt_perf.quantization.report import digest_of, nbytes
from tt_perf.versions import Version


class _Copy(NamedTuple):
    model: Layer
    version: Version
    """The model that it was made from."""


class QuantizePlugin:
    """What `use("int8")` and `use("int4")` activate: every Linear, Conv2d and Embedding by one config."""

    def __init__(self, name: str, config: Config, excludes: tuple[str, ...]) -> None:
        self.name, self.config, self.excludes = name, config, excludes
        self._copies: weakref.WeakKeyDictionary[Layer, _Copy] = weakref.WeakKeyDictionary()
        self._bytes: tuple[int, int] | None = None

    @hookimpl
    def tt_prepare_model(self, model: Layer, options: dict[str, Any]) -> Layer | None:
        if is_quantized(model) or not any(form_of(layer) for layer in list(model.modules())[1:]):
            return None
        if options.get("in_place"):
            digest = digest_of(model)
            self._convert(model)
            model.quantized_from = digest
            return model
        known = self._copies.get(model)
        if known is None or not known.version.holds(model):
            version = Version(model)
            shared = {id(x): x for x in (*model.parameters(), *model.buffers())}
            quantized = copy.deepcopy(model, dict(shared))
            self._convert(quantized)
            known = self._copies[model] = _Copy(quantized, version)
        return known.model.train(model.training)

    def _convert(self, model: Layer) -> None:
        before = nbytes(model)
        convert(model, {layer: name for name, layer in model.named_modules() if form_of(layer)}, self.config)
        self._bytes = before, nbytes(model)

    @hookimpl
    def tt_report(self) -> str | None:
        if self._bytes is None:
            return None
        before, after = self._bytes
        saved = f"{after / max(1, before):.3f} of {before:,} bytes" if after < before else "it saves no bytes"
        return f"{self.name}: the model has {after:,} bytes, {saved}; time was not measured"


int8 = QuantizePlugin("int8", Int8WeightOnly(), excludes=("int4",))
int4 = QuantizePlugin("int4", Int4WeightOnly(64), excludes=("int8",))
