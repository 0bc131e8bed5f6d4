"""Module 15, quantization: calibration, in which observers watch what reaches each layer of a model."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

from tt_core.engine.arguments import checked
from tt_core.engine.dispatch import Array
from tt_core.engine.errors import did_you_mean
from tt_core.engine.hookspecs import hookimpl
from tt_core.engine.plugins import manager
from tt_core.layers import Layer
from tt_language.embeddings import Embedding
from tt_learn.training import evaluating
from tt_perf.quantization.affine import QuantizationError
from tt_perf.quantization.counting import OBSERVERS
from tt_perf.quantization.layers import form_of
from tt_perf.quantization.observers import Observer


class Calibration:
    """An observer of the input of each layer that can be quantized."""

    def __init__(self, observers: dict[Layer, tuple[str, Observer]]) -> None:
        self._observers = observers

    @hookimpl
    def tt_wrap_layer(self, layer_type: type[Layer], call: Callable[..., Any]) -> Callable[..., Any] | None:
        if not any(type(layer) is layer_type for layer in self._observers):
            return None

        def observed(layer: Layer, x: Any, *inputs: Any, **options: Any) -> Any:
            if layer in self._observers:
                name, observer = self._observers[layer]
                try:
                    observer.observe(x)
                except QuantizationError as error:
                    raise QuantizationError(f"calibrating: input of {name}: {error}") from None
            return call(layer, x, *inputs, **options)

        return observed

    @property
    def seen(self) -> int:
        """How many layers saw an input."""
        return sum(observer.count > 0 for _, observer in self._observers.values())

    def range_of(self, layer: Layer, name: str) -> tuple[Array, Array]:
        """Scale and zero point for a layer's input; raises `QuantizationError` for a layer that saw none."""
        if layer not in self._observers or not self._observers[layer][1].count:
            raise QuantizationError(
                f"Int8Static: {name} saw no input while calibrating; run the model on data that reaches it, "
                "or leave it out with filter_fn"
            )
        return self._observers[layer][1].calculate_qparams()


@contextlib.contextmanager
@checked
def calibrating(model: Layer, observer: str | Callable[[], Observer] = "minmax") -> Iterator[Calibration]:
    """A block in which observers watch the inputs of `model`'s layers; the model is in evaluation, without gradients.

    `observer`: "minmax", "moving-average", "percentile", "mse", "histogram", or a function that makes one. Raises
    `QuantizationError` where an input is empty or not finite, and at the end where the model was not called.

    >>> from tt_core import Linear, Sequential, randn
    >>> from tt_perf import Int8Static, quantize_
    >>> model = Sequential(Linear(4, 2))
    >>> with calibrating(model, "mse") as calibration:
    ...     for _ in range(3):  # batches of a loader
    ...         _ = model(randn(8, 4))
    >>> quantize_(model, Int8Static(calibration), verbose=False).bytes_after  # 8 codes, scales, biases, a range
    32
    """
    if isinstance(observer, str):
        if observer not in OBSERVERS:
            known = did_you_mean(observer, OBSERVERS)
            raise QuantizationError(f"calibrating: no observer is called {observer}; {known}")
        make: Callable[[], Any] = OBSERVERS[observer]
    else:
        make = observer
    layers = [(name, x) for name, x in model.named_modules() if form_of(x) and not isinstance(x, Embedding)]
    observers = {layer: (name or type(layer).__name__, make()) for name, layer in layers}
    if any(not isinstance(each, Observer) or each.axis is not None for _, each in observers.values()):
        raise QuantizationError("calibrating: an input has one range; observer must make observers with axis=None")
    calibration = Calibration(observers)
    manager.register(calibration)
    try:
        with evaluating(model):
            yield calibration
    finally:
        manager.unregister(calibration)
    if not calibration.seen:
        raise QuantizationError("calibrating: no layer saw an input; call the model on some batches inside the block")
