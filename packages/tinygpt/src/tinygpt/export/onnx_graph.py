"""Module 20, capstone: a GPT as a graph of ONNX's operators.

    inputs      input_ids (batch, sequence), past_key_values.0.key (batch, kv_heads, past, head_size), ...
    outputs     logits (batch, sequence, vocab), present.0.key (batch, kv_heads, past + sequence, head_size), ...

All three lengths are dynamic; without a past, give keys and values of length 0. Names are those of Hugging Face's
exporters. A weight that layers share is one initializer: a head that is the token table multiplies by it transposed.
"""

from __future__ import annotations

import math
from typing import Any, BinaryIO

import numpy as np

from tt_core.engine.dispatch import Array
from tt_core.engine.errors import TinyTorchError
from tt_core.layers import Layer, LayerNorm, Linear
from tt_language import GPT, RMSNorm, SwiGLU

OPSET, IR_VERSION = 17, 8
"""Of 2022, which all runtimes of today understand; LayerNormalization came with it."""
_PAGE = 4096


class ExportError(TinyTorchError, ValueError):
    """A model that a format cannot hold, or a package that is missing."""


def onnx_model(model: GPT, data: BinaryIO | None = None, location: str = "") -> Any:
    """The `onnx.ModelProto` of a model; its weights are written to `data`, if that is given, a file called `location`.

    Raises `ExportError` for layers and rotary scalings that have no form there.
    """
    if model.rotary is not None and model.rotary.scaling.kind in ("dynamic", "longrope"):
        raise ExportError(
            f"rotary scaling {model.rotary.scaling.kind} depends on the text's length, which a graph cannot"
        )
    return _Graph(model, data, location).built()


class _Graph:
    """Nodes and initializers in the making. A value of the graph is its name."""

    def __init__(self, model: GPT, data: BinaryIO | None = None, location: str = "") -> None:
        try:
            import onnx
        except ImportError:
            raise ExportError(
                "ONNX files need the package onnx; install it with: pip install 'tinygpt[export]'"
            ) from None
        self.onnx, self.model, self.data, self.location = onnx, model, data, location
        self.nodes: list[Any] = []
        self.initializers: dict[str, Any] = {}
        self._names: dict[int, str] = {}  # of weights by id, so that a shared one is stored once
        self._kept: list[Array] = []  # alive, so that their ids stay theirs

    # --- values

    def op(self, kind: str, *inputs: str, outputs: int = 1, **attributes: Any) -> Any:
        """A node; returns the name of its output, or a list of several."""
        names = [f"{kind}_{len(self.nodes)}" + (f"_{i}" if outputs > 1 else "") for i in range(outputs)]
        self.nodes.append(self.onnx.helper.make_node(kind, list(inputs), names, **attributes))
        return names if outputs > 1 else names[0]

    def constant(self, value: Any, dtype: Any = np.float32) -> str:
        """A small number or list, stored once."""
        array = np.asarray(value, dtype)
        name = f"{array.dtype}_{'_'.join(map(str, array.ravel().tolist()))}_{array.ndim}"
        if name not in self.initializers:
            self.initializers[name] = self.onnx.numpy_helper.from_array(array, name)
        return name

    def whole(self, *values: int) -> str:
        """Integers as a list."""
        return self.constant(values, np.int64)

    def weight(self, name: str, array: Array) -> str:
        """A weight of the model, stored once however many layers share it."""
        known = self._names.get(id(array))
        if known is None:
            self._names[id(array)] = known = name
            self._kept.append(array)
            stored = np.ascontiguousarray(array, "<f4")
            inside = self.data is None or stored.nbytes < _PAGE
            make = self.onnx.numpy_helper.from_array if inside else self.outside
            self.initializers[name] = make(stored, name)
        return known

    def outside(self, array: Array, name: str) -> Any:
        """A weight in the other file, at the start of a page, so that it can be mapped into memory."""
        data: Any = self.data
        data.write(bytes(-data.tell() % _PAGE))
        tensor = self.onnx.TensorProto(
            name=name, data_type=self.onnx.TensorProto.FLOAT, dims=array.shape,
            data_location=self.onnx.TensorProto.EXTERNAL,
        )  # fmt: skip
        for key, value in (("location", self.location), ("offset", data.tell()), ("length", array.nbytes)):
            tensor.external_data.add(key=key, value=str(value))
        data.write(array.data)
        return tensor

    # --- layers

    def linear(self, x: str, layer: Layer | None, path: str) -> str:
        """Rows (n, in) to (n, out)."""
        if type(layer) is not Linear:
            raise ExportError(
                f"{path} is {type(layer).__name__}, expected Linear; export the model before it is changed"
            )
        parts = [self.weight(f"{path}.weight", layer.weight.data)]
        if layer.bias is not None:
            parts.append(self.weight(f"{path}.bias", layer.bias.data))
        return str(self.op("Gemm", x, *parts, transB=1))

    def norm(self, x: str, layer: Any, path: str) -> str:
        if isinstance(layer, LayerNorm) and layer.weight is not None:
            bias = np.zeros(layer.weight.shape, np.float32) if layer.bias is None else layer.bias.data
            parts = [self.weight(f"{path}.weight", layer.weight.data), self.weight(f"{path}.bias", bias)]
            return str(self.op("LayerNormalization", x, *parts, axis=-1, epsilon=layer.eps))
        if not isinstance(layer, RMSNorm):
            raise ExportError(f"{path} is {type(layer).__name__}, expected LayerNorm or RMSNorm")
        weight = np.ones(layer.normalized_shape, np.float32) if layer.weight is None else layer.weight.data
        mean = self.op("ReduceMean", self.op("Mul", x, x), axes=[-1], keepdims=1)
        root = self.op("Sqrt", self.op("Add", mean, self.constant(layer.eps)))
        return str(self.op("Mul", self.op("Div", x, root), self.weight(f"{path}.weight", weight)))

    def activation(self, x: str, kind: str) -> str:
        half, one = self.constant(0.5), self.constant(1.0)
        if kind == "relu":
            return str(self.op("Relu", x))
        if kind == "gelu":
            inner = self.op("Erf", self.op("Mul", x, self.constant(math.sqrt(0.5))))
        else:  # 0.5 x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3)))
            cube = self.op("Mul", self.op("Mul", self.op("Mul", x, x), x), self.constant(0.044715))
            inner = self.op("Tanh", self.op("Mul", self.op("Add", x, cube), self.constant(math.sqrt(2 / math.pi))))
        return str(self.op("Mul", self.op("Mul", x, half), self.op("Add", inner, one)))

    def feed_forward(self, x: str, layer: Any, path: str) -> str:
        up = self.linear(x, layer.up, f"{path}.up")
        if isinstance(layer, SwiGLU):
            gate = self.linear(x, layer.gate, f"{path}.gate")
            hidden = self.op("Mul", self.op("Mul", gate, self.op("Sigmoid", gate)), up)
        else:
            hidden = self.activation(up, layer.activation)
        return self.linear(hidden, layer.down, f"{path}.down")

    def attention(self, x: str, layer: Any, index: int) -> str:
        """Rows (n, width) to the same; keys and values continue the past of block `index`.

        Query heads that share a key-value head are a dimension of their own, so that keys are not repeated.
        """
        path, size, shared = f"blocks.{index}.attention", layer.head_dim, layer.num_kv_heads
        group = layer.num_heads // shared
        rows = [layer.num_heads * size, shared * size, shared * size]
        packed = self.linear(x, layer.in_proj, f"{path}.in_proj")
        q, k, v = self.op("Split", packed, self.whole(*rows), outputs=3, axis=-1)
        q, k, v = self.heads(q, layer.num_heads, size), self.heads(k, shared, size), self.heads(v, shared, size)
        if self.model.rotary is not None:
            q, k = self.rotated(q), self.rotated(k)
        k = self.op("Concat", f"past_key_values.{index}.key", k, axis=2)
        v = self.op("Concat", f"past_key_values.{index}.value", v, axis=2)
        for name, value in (("key", k), ("value", v)):
            self.nodes.append(self.onnx.helper.make_node("Identity", [value], [f"present.{index}.{name}"]))
        q = self.op("Reshape", q, self.shape(shared, group, -1, size))  # (batch, kv_heads, group, T, size)
        k, v = (self.op("Unsqueeze", part, self.whole(2)) for part in (k, v))  # (batch, kv_heads, 1, S, size)
        scores = self.op("MatMul", q, self.op("Transpose", k, perm=[0, 1, 2, 4, 3]))
        scores = self.op("Mul", scores, self.constant(1 / math.sqrt(size)))
        weights = self.op("Softmax", self.op("Where", self.visible, scores, self.constant(-np.inf)), axis=-1)
        out = self.op("Reshape", self.op("MatMul", weights, v), self.shape(layer.num_heads, -1, size))
        out = self.op("Transpose", out, perm=[0, 2, 1, 3])  # (batch, T, heads, size)
        out = self.op("Reshape", out, self.whole(-1, layer.num_heads * size))
        return self.linear(out, layer.out_proj, f"{path}.out_proj")

    def heads(self, x: str, count: int, size: int) -> str:
        """Rows (n, count * size) as (batch, count, T, size)."""
        return str(self.op("Transpose", self.op("Reshape", x, self.shape(-1, count, size)), perm=[0, 2, 1, 3]))

    def rotated(self, x: str) -> str:
        a, b = self.op("Split", x, outputs=2, axis=-1)
        first = self.op("Sub", self.op("Mul", a, self.cos), self.op("Mul", b, self.sin))
        second = self.op("Add", self.op("Mul", b, self.cos), self.op("Mul", a, self.sin))
        return str(self.op("Concat", first, second, axis=-1))

    def block(self, x: str, layer: Any, index: int) -> str:
        path = f"blocks.{index}"
        h = self.norm(x, layer.norm1, f"{path}.norm1")
        if layer.parallel:
            both = self.op(
                "Add", self.attention(h, layer.attention, index), self.feed_forward(h, layer.mlp, f"{path}.mlp")
            )
            return str(self.op("Add", x, both))
        x = self.op("Add", x, self.attention(h, layer.attention, index))
        h = self.norm(x, layer.norm2, f"{path}.norm2")
        return str(self.op("Add", x, self.feed_forward(h, layer.mlp, f"{path}.mlp")))

    # --- the whole

    def shape(self, *sizes: int) -> str:
        """The shape (batch, *sizes) as a value."""
        return str(self.op("Concat", self.batch, self.whole(*sizes), axis=0))

    def built(self) -> Any:
        model = self.model
        shape = self.op("Shape", "input_ids")
        self.batch, length = self.op("Split", shape, outputs=2, axis=0)  # (1,) each
        past = self.op("Gather", self.op("Shape", "past_key_values.0.key"), self.whole(2))
        positions = self._positions(length, past)
        x = self.op("Gather", self.weight("wte.weight", _table(model.wte)), "input_ids")
        if model.wpe is not None:
            x = self.op("Add", x, self.op("Gather", self.weight("wpe.weight", _table(model.wpe)), positions))
        x = self.op("Reshape", x, self.whole(-1, model.config.n_embd))  # rows, (batch * T, width)
        for index, layer in enumerate(model.blocks):
            x = self.block(x, layer, index)
        rows = self.linear(self.norm(x, model.norm, "norm"), model.lm_head, "lm_head")
        last = self.op("Reshape", rows, self.shape(-1, model.config.vocab_size))
        self.nodes.append(self.onnx.helper.make_node("Identity", [last], ["logits"]))
        return self._proto()

    def _positions(self, length: str, past: str) -> str:
        """Positions (T,) of the new tokens; also what they may see, and the angles that rotate them."""
        zero, one, none = (self.constant(n, np.int64) for n in (0, 1, ()))
        start, count = self.op("Reshape", past, none), self.op("Reshape", length, none)  # numbers
        end = self.op("Add", start, count)
        positions = self.op("Range", start, end, one)
        keys = self.op("Range", zero, end, one)
        self.visible = self.op("LessOrEqual", keys, self.op("Unsqueeze", positions, self.whole(1)))  # (T, S)
        rotary = self.model.rotary
        if rotary is not None:
            angle = self.op("Unsqueeze", self.op("Cast", positions, to=self.onnx.TensorProto.FLOAT), self.whole(1))
            angle = self.op("Mul", angle, self.weight("rotary.frequency", np.asarray(rotary.frequency, np.float32)))
            scale = self.constant(rotary.magnitude)
            self.cos, self.sin = (
                self.op("Mul", self.op(kind, angle), scale) for kind in ("Cos", "Sin")
            )  # (T, size / 2)
        return str(positions)

    def _proto(self) -> Any:
        helper, c = self.onnx.helper, self.model.config
        floats, ints = self.onnx.TensorProto.FLOAT, self.onnx.TensorProto.INT64
        inputs = [helper.make_tensor_value_info("input_ids", ints, ["batch", "sequence"])]
        outputs = [helper.make_tensor_value_info("logits", floats, ["batch", "sequence", c.vocab_size])]
        for index, block in enumerate(self.model.blocks):
            layer: Any = block
            heads, size = layer.attention.num_kv_heads, layer.attention.head_dim
            for name in ("key", "value"):
                before, after = ["batch", heads, "past", size], ["batch", heads, "past + sequence", size]
                inputs.append(helper.make_tensor_value_info(f"past_key_values.{index}.{name}", floats, before))
                outputs.append(helper.make_tensor_value_info(f"present.{index}.{name}", floats, after))
        graph = helper.make_graph(self.nodes, "gpt", inputs, outputs, list(self.initializers.values()))
        opset = helper.make_opsetid("", OPSET)
        return helper.make_model(graph, producer_name="tinygpt", opset_imports=[opset], ir_version=IR_VERSION)


def _table(layer: Any) -> Array:
    """The table of an embedding; raises `ExportError` for a quantized one."""
    if not hasattr(layer, "num_embeddings") or layer.weight.data.dtype.kind != "f" or not layer._parameters:
        raise ExportError("the model is quantized; export the run that it was made from")
    table: Array = layer.weight.data
    return table
