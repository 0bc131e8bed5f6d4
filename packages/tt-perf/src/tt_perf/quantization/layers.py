"""Module 15, quantization: layers whose weights are integers. They take and return floats, as the layers they replace.

    weight only   the weight becomes floats block by block, inside the product
    dynamic       each row of the input is rounded to int8 as it comes, and integers are multiplied
    static        the same with one range for all inputs, which calibration found

Rounded weights are buffers: nothing here is trained. A bias stays a float parameter.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from tt_core.engine.dispatch import Array, op
from tt_core.layers import Layer, Linear
from tt_core.tensor import Tensor
from tt_core.tensor.creation import from_numpy
from tt_data.spatial import Conv2d, IntOrPair, check_conv2d, conv2d
from tt_data.spatial.padding import pad
from tt_language.embeddings import Embedding
from tt_learn.autograd import gradient
from tt_perf.quantization.affine import choose_qparams, quantize_affine, refusing
from tt_perf.quantization.packed import (
    Packed,
    check_integers,
    exact_length,
    integer_product,
    largest,
    quantized_embedding,
    quantized_linear,
    sum_dtype,
    unpack_int4,
    unpack_int8,
)

Range = tuple[Array, Array]
"""Scale and zero point of a layer's input."""


class QuantizedLayer(Layer):
    """Base of the quantized layers: the stored weight as buffers, and the float layer they came from.

    Buffers: `codes` (int8, or int4 packed in uint8), `scale`, `zero_point` for int4, and with a static range
    `input_scale` and `input_zero_point`. `weight` gives the weight in floats, computed at each access.
    """

    codes: Tensor
    scale: Tensor
    zero_point: Tensor | None
    input_scale: Tensor | None
    input_zero_point: Tensor | None

    def __init__(self, shape: tuple[int, ...], weight: StoredWeight, spec: dict[str, Any]) -> None:
        super().__init__()
        self.shape, self.spec = shape, dict(spec)
        for name, part in weight.items():
            self.register_buffer(name, part)
        self.register_buffer("input_scale", None)
        self.register_buffer("input_zero_point", None)

    @property
    def weight(self) -> Tensor:
        """The weight as float32, of the shape that the float layer's had."""
        parts = (self.codes.data, self.scale.data)
        if self.zero_point is None:
            return from_numpy(unpack_int8(*parts))
        rows = unpack_int4(*parts, self.zero_point.data, math.prod(self.shape[1:]))
        return from_numpy(np.ascontiguousarray(rows).reshape(self.shape))

    def set_range(self, input_range: Range) -> None:
        """Give the input the one range that all inputs are rounded in."""
        scale, zero_point = input_range
        self.input_scale = from_numpy(np.asarray(scale, np.float32))
        self.input_zero_point = from_numpy(np.asarray(zero_point, np.int32))

    def to_float(self, weight: Tensor) -> Layer:
        """The float layer with this weight, a parameter."""
        raise NotImplementedError

    def _stored(self) -> tuple[Tensor, Tensor, Tensor | None]:
        return self.codes, self.scale, self.zero_point

    def _kind(self) -> str:
        return f"bits={self.spec['bits']}" + "".join(
            f", {name}={value}" for name, value in self.spec.items() if name in ("group_size", "activations") and value
        )


StoredWeight = dict[str, Any]
"""The buffers of a stored weight by name; layers that share a weight share these tensors."""


def stored(packed: Packed) -> StoredWeight:
    """The buffers for a packed weight."""
    names = zip(("codes", "scale", "zero_point"), packed)
    return {name: None if part is None else from_numpy(part) for name, part in names}


class QuantizedLinear(QuantizedLayer):
    """`Linear` with an int8 or int4 weight: takes (..., in_features), returns (..., out_features).

    Made by `quantize_`. Gradients pass to the input with integers as weights only; where the input is rounded too,
    backward raises `GradientError`.
    """

    bias: Tensor | None

    def __init__(self, layer: Linear, weight: StoredWeight, spec: dict[str, Any]) -> None:
        super().__init__((layer.out_features, layer.in_features), weight, spec)
        self.in_features, self.out_features = layer.in_features, layer.out_features
        self.bias = layer.bias

    def forward(self, x: Tensor) -> Any:
        how = self.spec["activations"]
        if how is None:
            return quantized_linear(x, *self._stored(), self.bias)
        if how == "dynamic":
            return int8_linear_dynamic(x, self.codes, self.scale, self.bias)
        return int8_linear_static(x, self.codes, self.scale, self.input_scale, self.input_zero_point, self.bias)

    def to_float(self, weight: Tensor) -> Layer:
        layer = object.__new__(Linear)
        Layer.__init__(layer)
        layer.in_features, layer.out_features = self.in_features, self.out_features
        layer.weight, layer.bias = weight, self.bias
        return layer

    def extra_repr(self) -> str:
        return f"{self.in_features}, {self.out_features}, {self._kind()}" + ", bias=False" * (self.bias is None)


class QuantizedEmbedding(QuantizedLayer):
    """`Embedding` with an int8 or int4 table: takes ids (...), returns float32 (..., embedding_dim).

    Made by `quantize_`. Only the rows that are looked up are converted to floats.
    """

    def __init__(self, layer: Embedding, weight: StoredWeight, spec: dict[str, Any]) -> None:
        super().__init__((layer.num_embeddings, layer.embedding_dim), weight, spec)
        self.num_embeddings, self.embedding_dim = self.shape
        self.padding_idx = layer.padding_idx

    def forward(self, ids: Tensor | Array) -> Any:
        return quantized_embedding(ids, *self._stored(), dim=self.embedding_dim)

    def to_float(self, weight: Tensor) -> Layer:
        layer = Embedding.from_pretrained(weight, freeze=False, padding_idx=self.padding_idx)
        layer.weight = weight
        return layer

    def extra_repr(self) -> str:
        return f"{self.num_embeddings}, {self.embedding_dim}, {self._kind()}"


_CONVOLUTION = ("in_channels", "out_channels", "kernel_size", "stride", "padding", "dilation", "groups", "padding_mode")


class QuantizedConv2d(QuantizedLayer):
    """`Conv2d` with an int8 weight and one scale per output channel; takes and returns what `Conv2d` does.

    Made by `quantize_`. With a static or dynamic range the images are rounded too, and integers convolved.
    """

    bias: Tensor | None

    def __init__(self, layer: Conv2d, weight: StoredWeight, spec: dict[str, Any]) -> None:
        super().__init__(tuple(layer.weight.shape), weight, spec)
        self.options = {name: getattr(layer, name) for name in _CONVOLUTION}
        self._sides = layer._sides
        self.bias = layer.bias

    def forward(self, x: Tensor) -> Any:
        how = {name: self.options[name] for name in ("stride", "padding", "dilation", "groups")}
        if self.options["padding_mode"] != "zeros":
            x, how = pad(x, self._sides, self.options["padding_mode"]), how | {"padding": 0}
        if self.spec["activations"] is None:
            return conv2d(x, self.weight, self.bias, **how)
        ranges = (self.input_scale, self.input_zero_point)
        return int8_conv2d(x, self.codes, self.scale, *ranges, self.bias, **how)

    def to_float(self, weight: Tensor) -> Layer:
        layer = Conv2d(**self.options, bias=self.bias is not None)
        layer.weight, layer.bias = weight, self.bias
        return layer

    def extra_repr(self) -> str:
        o = self.options
        return f"{o['in_channels']}, {o['out_channels']}, kernel_size={o['kernel_size']}, {self._kind()}"


# --- what they compute, as ops


@op
def int8_linear_dynamic(x: Array, codes: Array, scale: Array, bias: Array | None = None, /) -> Array:
    """`x @ weight.T + bias` with each row of `x` rounded to int8 by its own largest number; sums are exact integers.

    x (..., in), codes (out, in) int8, scale (out,), bias (out,) give (..., out). Rows do not depend on each other.

    >>> int8_linear_dynamic(np.ones((1, 2), np.float32), np.array([[127, 0]], np.int8), np.ones(1, np.float32))
    tensor([[127.]])
    """
    return dynamic_linear(x, codes, scale, bias)


def dynamic_linear(
    x: Array, codes: Array, scale: Array, bias: Array | None, product: Callable[..., Array] = integer_product.kernel
) -> Array:
    """`int8_linear_dynamic` with another `product` of integers."""
    rows = _rows(x, codes)
    largest_of = np.abs(rows).max(1, initial=0)
    steps, zero = choose_qparams(-largest_of, largest_of, -127, 127, symmetric=True)
    q = quantize_affine.kernel(rows, steps[:, None], zero[:, None], quant_min=-127, quant_max=127)
    return _rescaled(product(q, codes), steps[:, None] * scale, bias, x)


@op
def int8_linear_static(
    x: Array,
    codes: Array,
    scale: Array,
    input_scale: Array,
    input_zero_point: Array,
    bias: Array | None = None,
    /,
) -> Array:
    """The same with one range for all inputs; what lies outside saturates."""
    return static_linear(x, codes, scale, input_scale, input_zero_point, bias)


def static_linear(
    x: Array,
    codes: Array,
    scale: Array,
    input_scale: Array,
    input_zero_point: Array,
    bias: Array | None,
    product: Callable[..., Array] = integer_product.kernel,
) -> Array:
    """`int8_linear_static` with another `product` of integers."""
    q = _centred(_rows(x, codes), input_scale, input_zero_point)
    return _rescaled(product(q, codes), input_scale * scale, bias, x)


def _rows(x: Array, codes: Array) -> Array:
    if x.ndim < 1 or x.shape[-1] != codes.shape[1]:
        raise ValueError(f"input has {x.shape[-1] if x.ndim else 0} features, weight expects {codes.shape[1]}")
    return x.reshape(math.prod(x.shape[:-1]), x.shape[-1])


def _centred(x: Array, scale: Array, zero_point: Array) -> Array:
    """`x` as int8, minus its zero point in int16, so that 0 is 0 again and padding needs no correction."""
    return quantize_affine.kernel(x, scale, zero_point).astype(np.int16) - np.int16(zero_point)


def _rescaled(sums: Array, scale: Array, bias: Array | None, x: Array) -> Array:
    out = sums * scale.astype(np.float32)
    if bias is not None:
        out += bias
    return out.reshape(*x.shape[:-1], sums.shape[-1]).astype(np.result_type(x, np.float32), copy=False)


@op
def int8_conv2d(
    x: Array,
    codes: Array,
    scale: Array,
    input_scale: Array | None,
    input_zero_point: Array | None,
    bias: Array | None = None,
    /,
    stride: IntOrPair = 1,
    padding: IntOrPair = 0,
    dilation: IntOrPair = 1,
    groups: int = 1,
) -> Array:
    """`conv2d` of images rounded to int8 with a stored weight; without an input range, each image has its own.

    Sums are exact integers, rescaled by the scales of input and output channel.
    """
    images = x if x.ndim == 4 else x[None]
    if input_scale is None or input_zero_point is None:
        most = np.abs(images).max((1, 2, 3), initial=0, keepdims=True)
        steps, zero = choose_qparams(-most, most, -127, 127, symmetric=True)
        q = quantize_affine.kernel(images, steps, zero, quant_min=-127, quant_max=127)
    else:
        steps, q = input_scale, _centred(images, input_scale, input_zero_point)
    out = integer_conv2d(q, codes, stride, padding, dilation, groups) * (steps * scale[:, None, None])
    if bias is not None:
        out += bias[:, None, None]
    out = out.astype(np.result_type(x, np.float32), copy=False)
    return out if x.ndim == 4 else out[0]


def integer_conv2d(
    x: Array, weight: Array, stride: IntOrPair = 1, padding: IntOrPair = 0, dilation: IntOrPair = 1, groups: int = 1
) -> Array:
    """Convolution of integers of 8 or 16 bits, exact: as many channels at a time as float32 adds up exactly.

    >>> integer_conv2d(np.full((1, 2, 1, 1), -128, np.int8), np.full((1, 2, 1, 1), 127, np.int8)).item()
    -32512
    """
    check_integers(x, weight)
    check_conv2d(x, weight, groups=groups)
    most, channels, patch = (largest(x), largest(weight)), weight.shape[1], math.prod(weight.shape[2:])
    step = exact_length(*most) // max(1, patch)
    dtype = sum_dtype(*most, channels * patch)
    how = (None, stride, padding, dilation, groups)
    if step >= channels:
        return conv2d.kernel(x.astype(np.float32), weight.astype(np.float32), *how).astype(dtype)
    if step < 1 or groups > 1:  # float64 adds up 2^53
        return conv2d.kernel(x.astype(np.float64), weight.astype(np.float64), *how).astype(dtype)
    total: Any = 0
    for start in range(0, channels, step):
        some = slice(start, start + step)
        part = conv2d.kernel(x[:, some].astype(np.float32), weight[:, some].astype(np.float32), *how)
        total = total + part.astype(dtype)
    return total


for _rounding in (int8_linear_dynamic, int8_linear_static, int8_conv2d):
    gradient(_rounding, refusing(_rounding.name))


FORMS: dict[type[Layer], Any] = {Linear: QuantizedLinear, Conv2d: QuantizedConv2d, Embedding: QuantizedEmbedding}
"""The quantized form of each kind of layer that has one."""


def form_of(layer: Layer) -> Any:
    """The quantized form of a layer; None for one without, for a subclass that computes something else, and for an
    embedding with `max_norm`, which changes its table as it is read.
    """
    for kind, form in FORMS.items():
        if isinstance(layer, kind) and type(layer).forward is kind.forward:
            return None if getattr(layer, "max_norm", None) is not None else form
    return None


def is_quantized(model: Layer) -> bool:
    """Whether any layer of `model` is quantized."""
    return any(isinstance(layer, QuantizedLayer) for layer in model.modules())
