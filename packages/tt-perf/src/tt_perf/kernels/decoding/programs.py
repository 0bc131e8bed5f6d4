"""Beside module 18, decoding: the program of a model, a table with a row for each step of a token.

A step knows its weights and its input and output by their addresses, so one compiled function (`machine.py`) runs any
mixture of layers: LayerNorm or RMSNorm, GELU or SwiGLU, learned or rotary positions, float32, int8 or int4. Nothing is
copied or packed, so a weight that changes in place is seen by the next token. What replaces an array or a layer makes
`Program.holds` false.
"""

from __future__ import annotations

import operator
from typing import Any

import numpy as np

from tt_core.engine.dispatch import Array
from tt_core.layers import Dropout, Layer, LayerList, LayerNorm, Linear
from tt_language import GPT
from tt_language.attention import MultiHeadAttention
from tt_language.embeddings import Embedding, RotaryEmbedding
from tt_language.transformers.blocks import TransformerBlock
from tt_language.transformers.feed_forward import FeedForward, SwiGLU
from tt_language.transformers.normalization import RMSNorm, eps_of
from tt_perf.kernels.decoding import columns as C
from tt_perf.quantization.layers import QuantizedEmbedding, QuantizedLinear

_CHUNK = 32 << 10
"""Bytes of a weight that a thread takes at a time, at least."""
_SHARES = 8
"""Chunks of a weight, at least, so that threads which begin or run at different times end together."""
_ACTIVATIONS = {"gelu_tanh": C.GELU_TANH, "gelu": C.GELU, "relu": C.RELU}
_ROUNDINGS = {None: C.EXACT, "dynamic": C.DYNAMIC, "static": C.STATIC}


class Uncovered(Exception):
    """A model or a call that is computed op by op; the message says why."""


class Program:
    """The steps of one token of `model` for a batch of `rows` texts.

    Raises `Uncovered` for layers that it has no steps for.
    """

    def __init__(self, model: GPT, rows: int) -> None:
        self.rows, self.config = rows, model.config
        self.attention: list[MultiHeadAttention] = []
        self.widest = 0
        """The most numbers that a step reads for each text."""
        self.nbytes = 0
        """Bytes of all weights that a token reads."""
        self._steps: list[dict[int, int]] = []
        self._numbers: list[list[float]] = []
        self._phases = [0]
        self._kept: list[Array] = []
        self._widths: dict[int, int] = {}  # of buffers, by address
        self._layers = list(model.modules())
        _check_layers(self._layers)
        self._structure = _structure(self._layers)
        self._arrays = _arrays(self._layers)
        self._add_model(model)
        self.table = np.zeros((len(self._steps), C.COLUMNS), np.int64)
        for row, step in zip(self.table, self._steps):
            for column, value in step.items():
                row[column] = value
        self.numbers = np.array(self._numbers, np.float32)
        self.phases = np.array(self._phases, np.int64)
        kinds = self.table[:, C.KIND]
        self.attending: Array = np.flatnonzero(kinds == C.ATTENTION)

    def holds(self) -> bool:
        """Whether the model has the same layers and arrays, and is in evaluation mode, without hooks or patches."""
        for layer in self._layers:
            if layer.training or (layer._hooks is not None and any(layer._hooks)) or "forward" in layer.__dict__:
                return False
        for registry, known in self._structure:
            if len(registry) != len(known) or not all(map(operator.is_, registry.values(), known)):
                return False
        return all(tensor.data is array for tensor, array in self._arrays)

    # --- the steps of a model

    def _add_model(self, model: GPT) -> None:
        c = model.config
        x, y, z = (self._buffer(c.n_embd) for _ in range(3))
        self._embedding(model.wte, x, by_position=0)
        if model.wpe is not None:
            self._embedding(model.wpe, x, by_position=1)
        block: Any
        for block in model.blocks.children():
            _need(block.mlp, FeedForward, SwiGLU)
            hidden = block.mlp.down.in_features
            up, gate = self._buffer(hidden), self._buffer(hidden)
            attention, norm1, norm2 = block.attention, block.norm1, block.norm2
            qkv, seen = self._buffer(attention.in_proj.out_features), self._buffer(attention.out_proj.in_features)
            self._product(attention.in_proj, x, qkv, norm1)
            if block.parallel:
                self._up(block.mlp, x, up, gate, norm1)
            self._next_phase()
            self._attention(attention, qkv, seen)
            self._next_phase()
            self._product(attention.out_proj, seen, y, residual=x)
            self._next_phase()
            if not block.parallel:
                self._up(block.mlp, y, up, gate, norm2)
                self._next_phase()
            self._down(block.mlp, up, gate, z, residual=y)
            self._next_phase()
            x, y, z = z, x, y
        self._product(model.lm_head, x, 0, model.norm)
        self._next_phase()

    def _up(self, mlp: Any, source: int, up: int, gate: int, norm: Layer) -> None:
        if isinstance(mlp, SwiGLU):
            self._product(mlp.gate, source, gate, norm)
            self._product(mlp.up, source, up, norm)
        else:
            self._product(mlp.up, source, up, norm, activation=_ACTIVATIONS[mlp.activation])

    def _down(self, mlp: Any, up: int, gate: int, target: int, residual: int) -> None:
        if isinstance(mlp, SwiGLU):
            self._product(mlp.down, gate, target, residual=residual, gated=up)
        else:
            self._product(mlp.down, up, target, residual=residual)

    def _embedding(self, layer: Any, target: int, by_position: int) -> None:
        _need(layer, Embedding, QuantizedEmbedding)
        step = self._weight(layer)
        step |= {C.KIND: C.EMBEDDING, C.CHUNKS: self.rows, C.TARGET: target, C.OUTPUTS: step[C.INPUTS]}
        self._check_widths(step)
        self._add(step | {C.BY_POSITION: by_position, C.ADD: by_position})
        self._next_phase()

    def _product(
        self, layer: Any, source: int, target: int, norm: Any = None, residual: int = 0, gated: int = 0,
        activation: int = 0,
    ) -> None:  # fmt: skip
        _need(layer, Linear, QuantizedLinear)
        step = self._weight(layer)
        nbytes, outputs = step[C.OUTPUTS] * step[C.STRIDE], step[C.OUTPUTS]
        chunk = max(_CHUNK, min(nbytes // _SHARES, 4 * _CHUNK)) // step[C.STRIDE] // C.WIDEST * C.WIDEST
        chunk = max(C.WIDEST, min(chunk, -(-outputs // C.WIDEST) * C.WIDEST))
        step |= {C.KIND: C.PRODUCT, C.CHUNK: chunk, C.CHUNKS: -(-outputs // chunk), C.SOURCE: source}
        bias = self._address(layer.bias, np.float32, outputs)
        step |= {C.TARGET: target, C.RESIDUAL: residual, C.BIAS: bias, C.ACTIVATION: activation}
        step |= {C.SOURCE_2: gated, C.PREPARE: C.SWIGLU if gated else C.NOTHING}
        eps = 0.0
        if norm is not None:
            _need(norm, LayerNorm, RMSNorm)
            size = step[C.INPUTS]
            weight, shift = (self._address(x, np.float32, size) for x in (norm.weight, getattr(norm, "bias", None)))
            kind = C.RMS_NORM if isinstance(norm, RMSNorm) else C.LAYER_NORM
            step |= {C.PREPARE: kind, C.NORM_WEIGHT: weight, C.NORM_BIAS: shift}
            eps = eps_of(np.empty(0, np.float32), norm.eps)
        scale = 0.0
        if isinstance(layer, QuantizedLinear):
            step[C.ROUND] = _ROUNDINGS[layer.spec["activations"]]
            if step[C.ROUND] == C.STATIC:
                scale, step[C.INPUT_ZERO] = _range_of(layer)
        self._check_widths(step)
        self._add(step, eps, scale)
        self.nbytes += nbytes
        self.widest = max(self.widest, step[C.INPUTS], step[C.STRIDE])

    def _attention(self, layer: MultiHeadAttention, source: int, target: int) -> None:
        step = {C.KIND: C.ATTENTION, C.CHUNKS: self.rows * layer.num_kv_heads, C.SOURCE: source, C.TARGET: target}
        step |= {C.HEADS: layer.num_heads, C.KV_HEADS: layer.num_kv_heads, C.SIZE: layer.head_dim}
        step |= {C.INPUTS: (layer.num_heads + 2 * layer.num_kv_heads) * layer.head_dim}
        step |= {C.OUTPUTS: layer.num_heads * layer.head_dim}
        self._check_widths(step)
        self._add(step, layer.head_dim**-0.5)
        self.attention.append(layer)
        self.widest = max(self.widest, layer.head_dim)

    # --- tables of numbers

    def _weight(self, layer: Any) -> dict[int, int]:
        """The columns that describe a weight or an embedding table."""
        if isinstance(layer, (Linear, Embedding)):
            outputs, inputs = layer.weight.shape
            weight = self._address(layer.weight, np.float32, outputs, inputs)
            return {C.WEIGHT: weight, C.BITS: 32, C.STRIDE: 4 * inputs, C.INPUTS: inputs, C.OUTPUTS: outputs}
        (outputs, inputs), stride = layer.shape, layer.codes.shape[1]
        bits = 8 if layer.zero_point is None else 4
        groups = 1 if bits == 8 else layer.scale.shape[1]
        step = {C.BITS: bits, C.STRIDE: stride, C.GROUPS: groups, C.INPUTS: inputs, C.OUTPUTS: outputs}
        step[C.WEIGHT] = self._address(layer.codes, np.int8 if bits == 8 else np.uint8, outputs, stride)
        step[C.SCALE] = self._address(layer.scale, np.float32, *(outputs, groups)[: layer.scale.ndim])
        step[C.ZERO] = self._address(layer.zero_point, np.uint8, outputs, groups)
        if inputs > stride * (8 // bits) or stride % groups:
            raise Uncovered("rows of a stored weight that do not fit their groups")
        return step

    def _address(self, tensor: Any, dtype: Any, *shape: int) -> int:
        """Where the numbers of a tensor of this dtype and shape begin; 0 for None."""
        if tensor is None:
            return 0
        array = tensor.data
        if array.dtype != dtype or array.shape != shape or not array.flags.c_contiguous:
            raise Uncovered(f"a weight of {array.dtype} {array.shape}, expected {np.dtype(dtype)} {shape} in order")
        return int(array.ctypes.data)

    def _buffer(self, columns: int) -> int:
        """The address of new numbers, `columns` for each text."""
        self._kept.append(np.zeros((self.rows, columns), np.float32))
        address = int(self._kept[-1].ctypes.data)
        self._widths[address] = columns
        return address

    def _check_widths(self, step: dict[int, int]) -> None:
        """Raise `Uncovered` where a step would read or write outside of a buffer."""
        ends = (C.SOURCE, C.INPUTS), (C.SOURCE_2, C.INPUTS), (C.TARGET, C.OUTPUTS), (C.RESIDUAL, C.OUTPUTS)
        if any(step[size] != self._widths[step[end]] for end, size in ends if step.get(end)):
            raise Uncovered("layers whose sizes do not fit each other")

    def _add(self, step: dict[int, int], eps: float = 0.0, scale: float = 0.0) -> None:
        self._steps.append(step)
        self._numbers.append([eps, scale])

    def _next_phase(self) -> None:
        self._phases.append(len(self._steps))


def _range_of(layer: QuantizedLinear) -> tuple[float, int]:
    if layer.input_scale is None or layer.input_zero_point is None or layer.input_scale.numel() != 1:
        raise Uncovered("an input range that is not one number")
    return float(layer.input_scale.data.reshape(())), int(layer.input_zero_point.data.reshape(()))


_COVERED = (
    GPT, TransformerBlock, MultiHeadAttention, FeedForward, SwiGLU, RotaryEmbedding, Dropout, LayerList,
    Linear, LayerNorm, RMSNorm, Embedding, QuantizedLinear, QuantizedEmbedding,
)  # fmt: skip


def _check_layers(layers: list[Layer]) -> None:
    """Raise `Uncovered` for a layer that computes something else than the steps do."""
    for layer in layers:
        if type(layer) not in _COVERED or "forward" in vars(layer):
            raise Uncovered(f"a layer {type(layer).__name__}")
        if isinstance(layer, TransformerBlock) and not (layer.norm_first and layer.cross_attention is None):
            raise Uncovered("a block that is not one of GPT's")
        if isinstance(layer, MultiHeadAttention) and not layer.causal:
            raise Uncovered("attention that is not causal")
        if isinstance(layer, Embedding) and layer.max_norm is not None:
            raise Uncovered("an embedding with max_norm")


def _need(layer: Any, *kinds: type[Layer]) -> None:
    if not isinstance(layer, kinds):
        raise Uncovered(f"a layer {type(layer).__name__} in the place of a {kinds[0].__name__}")


def _structure(layers: list[Layer]) -> list[tuple[dict[str, Any], tuple[Any, ...]]]:
    """The registries of all layers that hold something, and what they hold."""
    registries = [each for layer in layers for each in (layer._children, layer._parameters, layer._buffers)]
    return [(registry, tuple(registry.values())) for registry in registries if registry]


def _arrays(layers: list[Layer]) -> list[tuple[Any, Array]]:
    entries = [x for layer in layers for x in (*layer._parameters.values(), *layer._buffers.values())]
    return [(x, x.data) for x in entries if x is not None]
