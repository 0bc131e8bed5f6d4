"""ONNX's node tests through our ops: each case is a small graph with inputs and outputs, run by the table below.

A case passes where values, shapes and dtypes agree. What our ops lack, or refuse, is not counted; the number of cases
that pass must not fall. Operators that ONNX spells out in others ("expanded") run as these.
"""

from __future__ import annotations

import functools
import math
import warnings
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import tt_core as tt
import tt_data
import tt_language

onnx = pytest.importorskip("onnx")

FLOOR = 760
"""Cases that pass at least; with onnx 1.23, 1,009 of 1,884 do."""

T = tt.Tensor
Attributes = dict[str, Any]
Handler = Callable[..., Any]  # inputs, attributes, opset version


class UnsupportedError(Exception):
    """What the table does not cover."""


def ints(x: Any) -> tuple[int, ...]:
    return tuple(int(n) for n in np.ravel(x.data if isinstance(x, T) else x))


def axes_of(x: list[Any], a: Attributes, at: int = 1) -> Any:
    """Axes from an input, or from an attribute in old versions; None for all."""
    given = x[at] if len(x) > at and x[at] is not None else a.get("axes")
    return None if given is None or not len(ints(given)) else ints(given)


def reduce_by(function: Callable[..., Any]) -> Handler:
    def reduced(x: list[Any], a: Attributes, v: int) -> Any:
        dim = axes_of(x, a)
        if dim is None and a.get("noop_with_empty_axes"):
            return function(x[0], (), True) if function in (l1, square_sum, l2, log_sum) else x[0]
        return like(function(x[0], dim, bool(a.get("keepdims", 1))), x[0])

    return reduced


def like(x: Any, other: Any) -> Any:
    return x if x.dtype == other.dtype else x.to(other.dtype)


def l1(x: Any, dim: Any, keep: bool) -> Any:
    return x.abs().sum(dim, keep)


def square_sum(x: Any, dim: Any, keep: bool) -> Any:
    return (x * x).sum(dim, keep)


def l2(x: Any, dim: Any, keep: bool) -> Any:
    return square_sum(x, dim, keep).sqrt()


def log_sum(x: Any, dim: Any, keep: bool) -> Any:
    return x.sum(dim, keep).log()


def product(x: Any, dim: Any, keep: bool) -> Any:
    dims = sorted((d % x.ndim for d in (range(x.ndim) if dim is None else dim)), reverse=True)
    for d in dims:
        x = x.prod(d, keepdim=keep)
    return x


def extreme(name: str, fill: float) -> Callable[..., Any]:
    def function(x: Any, dim: Any, keep: bool) -> Any:
        whole = x.int() if x.dtype == np.bool_ else x
        if 0 in x.shape:
            least = (-np.inf if fill < 0 else np.inf) if x.is_floating_point() else None
            if least is None:
                raise UnsupportedError("of nothing")
            return tt.full(np.sum(x.data, axis=dim, keepdims=keep).shape, least, dtype=x.dtype)
        return getattr(whole, name)(dim, keep)

    return function


def each(function: Callable[[Any], Any]) -> Handler:
    return lambda x, a, v: like(function(x[0]), x[0])


def pair(function: Callable[[Any, Any], Any]) -> Handler:
    return lambda x, a, v: function(x[0], x[1])


def fold(function: Callable[[Any, Any], Any]) -> Handler:
    return lambda x, a, v: functools.reduce(function, x)


def named(name: str) -> Handler:
    """An op of that name, where we have one."""

    def call(x: list[Any], a: Attributes, v: int) -> Any:
        function = getattr(tt, name, None) or getattr(T, name, None)
        if function is None:
            raise UnsupportedError(name)
        return like(function(x[0]), x[0])

    return call


def divide(a: Any, b: Any) -> Any:
    if a.is_floating_point():
        return a / b
    quotient = a.abs() // b.abs() if a.dtype.kind == "i" else a // b
    return like(quotient * (a.sign() * b.sign()) if a.dtype.kind == "i" else quotient, a)


def modulo(x: list[Any], a: Attributes, v: int) -> Any:
    left, right = x
    if not a.get("fmod"):
        return left % right
    return like((left.abs() % right.abs()) * left.sign(), left)


def softmax_of(function: Any) -> Handler:
    def apply(x: list[Any], a: Attributes, v: int) -> Any:
        if v >= 13:
            return function(x[0], dim=a.get("axis", -1))
        axis = a.get("axis", 1) % x[0].ndim
        rows = x[0].reshape(math.prod(x[0].shape[:axis]), -1)
        return function(rows, dim=-1).reshape(x[0].shape)

    return apply


def argument(name: str) -> Handler:
    def apply(x: list[Any], a: Attributes, v: int) -> Any:
        dim, keep = a.get("axis", 0), bool(a.get("keepdims", 1))
        if not a.get("select_last_index"):
            return getattr(x[0], name)(dim, keep)
        return x[0].shape[dim] - 1 - getattr(x[0].flip(dim), name)(dim, keep)

    return apply


def reshape(x: list[Any], a: Attributes, v: int) -> Any:
    sizes = ints(x[1])
    if not a.get("allowzero"):
        sizes = tuple(x[0].shape[i] if n == 0 else n for i, n in enumerate(sizes))
    return x[0].reshape(sizes)


def unsqueeze(x: list[Any], a: Attributes, v: int) -> Any:
    dims = axes_of(x, a)
    result = x[0]
    for d in sorted(d % (x[0].ndim + len(dims)) for d in dims):
        result = result.unsqueeze(d)
    return result


def slice_(x: list[Any], a: Attributes, v: int) -> Any:
    starts, ends = (ints(x[1]), ints(x[2])) if len(x) > 1 else (a["starts"], a["ends"])
    dims = ints(x[3]) if len(x) > 3 and x[3] is not None else a.get("axes", range(len(starts)))
    steps = ints(x[4]) if len(x) > 4 else (1,) * len(starts)
    result = x[0]
    for start, end, d, step in zip(starts, ends, dims, steps):
        size = x[0].shape[d]
        if step < 0:
            chosen = range(*slice(start, None if end < -size else end, step).indices(size))
            result = result.index_select(d % x[0].ndim, tt.tensor(list(chosen), dtype="int64"))
        else:
            result = result[(slice(None),) * (d % x[0].ndim) + (slice(start, end, step),)]
    return result


def split(x: list[Any], a: Attributes, v: int) -> Any:
    dim = a.get("axis", 0)
    if len(x) > 1 and x[1] is not None:
        return x[0].split(list(ints(x[1])), dim)
    if "split" in a:
        return x[0].split(list(a["split"]), dim)
    return x[0].split(math.ceil(x[0].shape[dim] / a["outputs"]), dim)


def wrap_index(index: Any, size: int) -> Any:
    return tt.where(index < 0, index + size, index).long()


def gather(x: list[Any], a: Attributes, v: int) -> Any:
    dim = a.get("axis", 0) % x[0].ndim
    return x[0][(slice(None),) * dim + (wrap_index(x[1], x[0].shape[dim]),)]


def gather_elements(x: list[Any], a: Attributes, v: int) -> Any:
    dim = a.get("axis", 0)
    return x[0].gather(dim, wrap_index(x[1], x[0].shape[dim]))


def gather_nd(x: list[Any], a: Attributes, v: int) -> Any:
    if a.get("batch_dims"):
        raise UnsupportedError("batch_dims")
    return x[0][tuple(part for part in x[1].unbind(-1))]


def scatter_elements(x: list[Any], a: Attributes, v: int) -> Any:
    if a.get("reduction", b"none") not in (b"none", "none"):
        raise UnsupportedError("reduction")
    dim, result = a.get("axis", 0), x[0].clone()
    grid = list(np.ogrid[tuple(slice(n) for n in x[1].shape)])
    grid[dim] = wrap_index(x[1], x[0].shape[dim])
    result[tuple(grid)] = x[2]
    return result


def scatter_nd(x: list[Any], a: Attributes, v: int) -> Any:
    if a.get("reduction", b"none") not in (b"none", "none"):
        raise UnsupportedError("reduction")
    result = x[0].clone()
    result[tuple(part for part in x[1].unbind(-1))] = x[2]
    return result


def pad(x: list[Any], a: Attributes, v: int) -> Any:
    widths = ints(x[1]) if len(x) > 1 else a["pads"]
    mode = text(a.get("mode", "constant"))
    mode = {"edge": "replicate", "wrap": "circular"}.get(mode, mode)
    dims = [d % x[0].ndim for d in ints(x[3])] if len(x) > 3 else range(len(widths) // 2)
    pairs = [(0, 0)] * x[0].ndim
    for i, d in enumerate(dims):
        pairs[d] = (widths[i], widths[i + len(widths) // 2])
    value = x[2].item() if len(x) > 2 and x[2] is not None else a.get("value", 0)
    return tt.pad(x[0], [n for both in pairs[::-1] for n in both], mode, value)


def text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def window(x: list[Any], a: Attributes) -> tuple[Any, Attributes]:
    """The input padded as asked, and kernel, stride and dilation, of two dimensions."""
    size = a.get("kernel_shape", x[1].shape[2:] if len(x) > 1 else None)
    n = len(size)
    if n > 2 or text(a.get("auto_pad", "NOTSET")) not in ("NOTSET", "VALID"):
        raise UnsupportedError("three dimensions, or auto_pad")
    pads = list(a.get("pads", (0,) * 2 * n))
    stride, dilation = a.get("strides", (1,) * n), a.get("dilations", (1,) * n)
    image = x[0]
    if n == 1:
        image, size, pads = image.unsqueeze(2), (1, *size), [0, pads[0], 0, pads[1]]
        stride, dilation = (1, *stride), (1, *dilation)
    return image, {"size": tuple(size), "pads": pads, "stride": tuple(stride), "dilation": tuple(dilation), "n": n}


def back(y: Any, n: int) -> Any:
    return y.squeeze(2) if n == 1 else y


def conv(x: list[Any], a: Attributes, v: int) -> Any:
    image, w = window(x, a)
    top, left, bottom, right = w["pads"]
    weight = x[1].unsqueeze(2) if w["n"] == 1 else x[1]
    image = tt.pad(image, (left, right, top, bottom))
    return back(tt_data.conv2d(image, weight, x[2] if len(x) > 2 else None, stride=w["stride"], dilation=w["dilation"],
                               groups=a.get("group", 1)), w["n"])  # fmt: skip


def pool(x: list[Any], a: Attributes, v: int, largest: bool) -> Any:
    if a.get("outputs", 1) > 1:
        raise UnsupportedError("places of the largest")
    image, w = window(x, a)
    top, left, bottom, right = w["pads"]
    if (top, left) != (bottom, right) and (not largest or not image.is_floating_point()):
        raise UnsupportedError("uneven padding")
    options = {"kernel_size": w["size"], "stride": w["stride"], "ceil_mode": bool(a.get("ceil_mode"))}
    if largest:
        if (top, left) != (bottom, right):
            image, top, left = tt.pad(image, (left, right, top, bottom), value=-np.inf), 0, 0
        return back(tt_data.max_pool2d(image, padding=(top, left), dilation=w["dilation"], **options), w["n"])
    if set(w["dilation"]) != {1}:
        raise UnsupportedError("dilation")
    counted = bool(a.get("count_include_pad"))
    return back(tt_data.avg_pool2d(image, padding=(top, left), count_include_pad=counted, **options), w["n"])


def gemm(x: list[Any], a: Attributes, v: int) -> Any:
    left, right = (x[0].T if a.get("transA") else x[0]), (x[1].T if a.get("transB") else x[1])
    result = (left @ right) * a.get("alpha", 1.0)
    return result + x[2] * a.get("beta", 1.0) if len(x) > 2 and x[2] is not None else result


def layer_norm(x: list[Any], a: Attributes, v: int) -> Any:
    dims = x[0].ndim - a.get("axis", -1) % x[0].ndim
    shape = x[0].shape[x[0].ndim - dims :]
    weights, eps = [w if w is None or w.shape == shape else w.expand(shape) for w in x[1:]], a.get("epsilon", 1e-5)
    if a.get("outputs", 1) > 1:
        last = tuple(range(-dims, 0))
        mean, var = x[0].mean(last, keepdim=True), x[0].var(last, correction=0, keepdim=True)
        return tt.layer_norm(x[0], *weights, dims=dims, eps=eps), mean, (var + eps).rsqrt()
    return tt.layer_norm(x[0], *weights, dims=dims, eps=eps)


def rms_norm(x: list[Any], a: Attributes, v: int) -> Any:
    dims = x[0].ndim - a.get("axis", -1) % x[0].ndim
    flat = x[0].flatten(x[0].ndim - dims)
    return tt_language.rms_norm(flat, eps=a.get("epsilon", 1e-5)).reshape(x[0].shape) * x[1]


def normalized(x: Any, dims: tuple[int, ...], eps: float) -> Any:
    return (x - x.mean(dims, keepdim=True)) * (x.var(dims, correction=0, keepdim=True) + eps).rsqrt()


def along_channels(weight: Any, x: Any) -> Any:
    return weight.reshape(-1, *(1,) * (x.ndim - 2))


def instance_norm(x: list[Any], a: Attributes, v: int) -> Any:
    y = normalized(x[0], tuple(range(2, x[0].ndim)), a.get("epsilon", 1e-5))
    return y * along_channels(x[1], y) + along_channels(x[2], y)


def group_norm(x: list[Any], a: Attributes, v: int) -> Any:
    groups = a["num_groups"]
    apart = x[0].reshape(x[0].shape[0], groups, -1)
    y = normalized(apart, (2,), a.get("epsilon", 1e-5)).reshape(x[0].shape)
    return y * along_channels(x[1], y) + along_channels(x[2], y)


def batch_norm(x: list[Any], a: Attributes, v: int) -> Any:
    if a.get("training_mode"):
        raise UnsupportedError("training")
    image, weight, bias, mean, var = x
    scale = weight / (var + a.get("epsilon", 1e-5)).sqrt()
    return (image - along_channels(mean, image)) * along_channels(scale, image) + along_channels(bias, image)


def clip(x: list[Any], a: Attributes, v: int) -> Any:
    low = x[1] if len(x) > 1 else a.get("min")
    high = x[2] if len(x) > 2 else a.get("max")
    return x[0] if low is None and high is None else like(x[0].clip(low, high), x[0])


def cumsum(x: list[Any], a: Attributes, v: int) -> Any:
    dim = int(x[1].item())
    flipped = x[0].flip(dim) if a.get("reverse") else x[0]
    total = flipped.cumsum(dim)
    total = total - flipped if a.get("exclusive") else total
    return like(total.flip(dim) if a.get("reverse") else total, x[0])


def top_k(x: list[Any], a: Attributes, v: int) -> Any:
    k = int(x[1].item()) if len(x) > 1 else a["k"]
    found = x[0].sort(a.get("axis", -1), descending=bool(a.get("largest", 1)), stable=True)
    return tuple(part.narrow(a.get("axis", -1), 0, k) for part in found)


def one_hot(x: list[Any], a: Attributes, v: int) -> Any:
    depth, axis = int(x[1].item()), a.get("axis", -1)
    labels = x[0].long()
    labels = tt.where(labels < 0, labels + depth, labels).unsqueeze(axis)
    shape = [1] * labels.ndim
    shape[axis] = depth
    off, on = x[2].unbind(0)
    return tt.where(labels == tt.arange(depth).reshape(shape), on, off)


def trilu(x: list[Any], a: Attributes, v: int) -> Any:
    diagonal = int(x[1].item()) if len(x) > 1 and x[1] is not None else 0
    return x[0].triu(diagonal) if a.get("upper", 1) else x[0].tril(diagonal)


def cross_entropy(x: list[Any], a: Attributes, v: int) -> Any:
    options = {"reduction": text(a.get("reduction", "mean")), "ignore_index": a.get("ignore_index", -100)}
    weight = x[2] if len(x) > 2 else None
    loss = tt.cross_entropy(x[0], x[1].long(), weight, **options)
    return (loss, tt.log_softmax(x[0], dim=1)) if a.get("outputs", 1) > 1 else loss


def nll(x: list[Any], a: Attributes, v: int) -> Any:
    options = {"reduction": text(a.get("reduction", "mean")), "ignore_index": a.get("ignore_index", -100)}
    return tt.nll_loss(x[0], x[1].long(), x[2] if len(x) > 2 else None, **options)


def cast(x: list[Any], a: Attributes, v: int) -> Any:
    dtype = onnx.helper.tensor_dtype_to_np_dtype(a["to"])
    if dtype.kind not in "fiub" or not isinstance(dtype.type(0), (np.number, np.bool_)):
        raise UnsupportedError(str(dtype))
    return x[0].to(dtype)


def constant(x: list[Any], a: Attributes, v: int) -> Any:
    for key in ("value_float", "value_int", "value_floats", "value_ints"):
        if key in a:
            return tt.tensor(a[key])
    return tt.tensor(onnx.numpy_helper.to_array(a["value"]))


def constant_of_shape(x: list[Any], a: Attributes, v: int) -> Any:
    value = tt.tensor(onnx.numpy_helper.to_array(a["value"])) if "value" in a else tt.zeros(1)
    return tt.full(ints(x[0]), value.item(), dtype=value.dtype)


def shape(x: list[Any], a: Attributes, v: int) -> Any:
    return tt.tensor(list(x[0].shape)[slice(a.get("start", 0), a.get("end"))], dtype="int64")


def expand(x: list[Any], a: Attributes, v: int) -> Any:
    return x[0].expand(np.broadcast_shapes(x[0].shape, ints(x[1])))


def depth_to_space(x: list[Any], a: Attributes, v: int) -> Any:
    n, c, h, w = x[0].shape
    s = a["blocksize"]
    if text(a.get("mode", "DCR")) == "DCR":
        return x[0].reshape(n, s, s, c // s**2, h, w).permute(0, 3, 4, 1, 5, 2).reshape(n, c // s**2, h * s, w * s)
    return x[0].reshape(n, c // s**2, s, s, h, w).permute(0, 1, 4, 2, 5, 3).reshape(n, c // s**2, h * s, w * s)


def space_to_depth(x: list[Any], a: Attributes, v: int) -> Any:
    n, c, h, w = x[0].shape
    s = a["blocksize"]
    if text(a.get("mode", "DCR")) != "DCR":
        return x[0].reshape(n, c, h // s, s, w // s, s).permute(0, 1, 3, 5, 2, 4).reshape(n, c * s * s, h // s, w // s)
    return x[0].reshape(n, c, h // s, s, w // s, s).permute(0, 3, 5, 1, 2, 4).reshape(n, c * s * s, h // s, w // s)


def hardmax(x: list[Any], a: Attributes, v: int) -> Any:
    dim = a.get("axis", -1)
    places = tt.arange(x[0].shape[dim]).reshape([-1 if d == dim % x[0].ndim else 1 for d in range(x[0].ndim)])
    return like((places == x[0].argmax(dim, True)), x[0])


def lp_norm(x: list[Any], a: Attributes, v: int) -> Any:
    length = x[0].norm(a.get("p", 2), a.get("axis", -1), True)
    return x[0] / tt.where(length == 0, 1.0, length)


def prelu(x: list[Any], a: Attributes, v: int) -> Any:
    return tt.where(x[0] < 0, x[0] * x[1], x[0])


def xor(a: Any, b: Any) -> Any:
    return a != b


def selu(x: list[Any], a: Attributes, v: int) -> Any:
    alpha, gamma = a.get("alpha", 1.67326319217681884765625), a.get("gamma", 1.05070102214813232421875)
    return tt.where(x[0] > 0, x[0], x[0].expm1() * alpha) * gamma


def elu(x: list[Any], a: Attributes, v: int) -> Any:
    return tt.where(x[0] > 0, x[0], x[0].expm1() * a.get("alpha", 1.0))


def celu(x: list[Any], a: Attributes, v: int) -> Any:
    alpha = a.get("alpha", 1.0)
    return tt.where(x[0] > 0, x[0], (x[0] / alpha).expm1() * alpha)


def hard_sigmoid(x: Any, alpha: float = 0.2, beta: float = 0.5) -> Any:
    return (x * alpha + beta).clip(0.0, 1.0)


def shrink(x: list[Any], a: Attributes, v: int) -> Any:
    bias, bound = a.get("bias", 0.0), a.get("lambd", 0.5)
    return like(tt.where(x[0] < -bound, x[0] + bias, tt.where(x[0] > bound, x[0] - bias, 0)), x[0])


def is_inf(x: list[Any], a: Attributes, v: int) -> Any:
    above, below = a.get("detect_positive", 1), a.get("detect_negative", 1)
    return ((x[0] == math.inf) & bool(above)) | ((x[0] == -math.inf) & bool(below))


def range_(x: list[Any], a: Attributes, v: int) -> Any:
    start, limit, delta = (part.item() for part in x)
    return tt.arange(start, limit, delta, dtype=x[0].dtype)


def attention(x: list[Any], a: Attributes, v: int) -> Any:
    q, k, value, mask, *rest = [*x, *[None] * (6 - len(x))]
    if any(part is not None for part in rest) or a.get("softcap") or a["outputs"] > 1 or "window" in str(a.keys()):
        raise UnsupportedError("past keys, softcap")
    flat = q.ndim == 3
    if flat:
        heads, shared = a["q_num_heads"], a["kv_num_heads"]
        q = q.reshape(*q.shape[:2], heads, -1).transpose(1, 2)
        k, value = (part.reshape(*part.shape[:2], shared, -1).transpose(1, 2) for part in (k, value))
    if mask is not None and mask.shape[-1] < k.shape[-2]:
        raise UnsupportedError("short masks")
    options = {"is_causal": bool(a.get("is_causal")), "scale": a.get("scale"), "enable_gqa": q.shape[1] != k.shape[1]}
    out = tt_language.scaled_dot_product_attention(q, k, value, mask, **options)
    return out.transpose(1, 2).flatten(2) if flat else out


def softplus(x: Any) -> Any:
    return tt.softplus(x, threshold=math.inf)


HANDLERS: dict[str, Handler] = {
    "Abs": each(T.abs), "Neg": each(T.neg), "Exp": each(T.exp), "Log": each(T.log), "Sqrt": each(T.sqrt),
    "Sin": each(T.sin), "Cos": each(T.cos), "Erf": each(T.erf), "Sign": each(T.sign), "Floor": each(T.floor),
    "Ceil": each(T.ceil), "Round": each(T.round), "Reciprocal": each(T.reciprocal), "Relu": each(tt.relu),
    "Sigmoid": each(tt.sigmoid), "Tanh": each(tt.tanh), "Softplus": each(softplus), "Identity": each(T.clone),
    "Not": each(T.logical_not), "IsNaN": lambda x, a, v: x[0].isnan(), "IsInf": is_inf,
    "Softsign": each(lambda x: x / (x.abs() + 1)), "Mish": each(lambda x: x * tt.tanh(softplus(x))),
    "HardSwish": each(lambda x: x * hard_sigmoid(x, 1 / 6)),
    "Swish": lambda x, a, v: x[0] * tt.sigmoid(x[0] * a.get("alpha", 1.0)),
    "HardSigmoid": lambda x, a, v: hard_sigmoid(x[0], a.get("alpha", 0.2), a.get("beta", 0.5)),
    "Elu": elu, "Celu": celu, "Selu": selu, "Shrink": shrink, "PRelu": prelu,
    "LeakyRelu": lambda x, a, v: tt.leaky_relu(x[0], a.get("alpha", 0.01)),
    "ThresholdedRelu": lambda x, a, v: tt.where(x[0] > a.get("alpha", 1.0), x[0], 0.0),
    "Gelu": lambda x, a, v: tt.gelu(x[0], text(a.get("approximate", "none"))),
    **{name: named(name.lower()) for name in
       ("Tan", "Asin", "Acos", "Atan", "Sinh", "Cosh", "Asinh", "Acosh", "Atanh", "Det")},
    "BitwiseNot": named("bitwise_not"),
    "Add": pair(T.add), "Sub": pair(T.sub), "Mul": pair(T.mul), "Div": pair(divide), "Mod": modulo,
    "Pow": lambda x, a, v: like(x[0] ** x[1], x[0]),
    "Equal": pair(T.eq), "Greater": pair(T.gt), "GreaterOrEqual": pair(T.ge), "Less": pair(T.lt),
    "LessOrEqual": pair(T.le), "And": pair(T.logical_and), "Or": pair(T.logical_or), "Xor": pair(xor),
    "Max": fold(T.maximum), "Min": fold(T.minimum), "Sum": fold(T.add),
    "Mean": lambda x, a, v: functools.reduce(T.add, x) / len(x),
    "MatMul": pair(T.matmul), "Gemm": gemm, "Where": lambda x, a, v: tt.where(*x), "Clip": clip,
    "Einsum": lambda x, a, v: tt.einsum(text(a["equation"]), *x),
    "ReduceSum": reduce_by(T.sum), "ReduceMean": reduce_by(T.mean), "ReduceProd": reduce_by(product),
    "ReduceMax": reduce_by(extreme("amax", -1)), "ReduceMin": reduce_by(extreme("amin", 1)),
    "ReduceL1": reduce_by(l1), "ReduceL2": reduce_by(l2), "ReduceSumSquare": reduce_by(square_sum),
    "ReduceLogSum": reduce_by(log_sum), "ReduceLogSumExp": reduce_by(T.logsumexp),
    "ArgMax": argument("argmax"), "ArgMin": argument("argmin"), "CumSum": cumsum, "TopK": top_k,
    "Softmax": softmax_of(tt.softmax), "LogSoftmax": softmax_of(tt.log_softmax), "Hardmax": hardmax,
    "LpNormalization": lp_norm,
    "Reshape": reshape, "Flatten": lambda x, a, v: x[0].reshape(math.prod(x[0].shape[: a.get("axis", 1)]), -1),
    "Transpose": lambda x, a, v: x[0].permute(a.get("perm", tuple(range(x[0].ndim))[::-1])),
    "Squeeze": lambda x, a, v: x[0].squeeze(axes_of(x, a)), "Unsqueeze": unsqueeze, "Expand": expand,
    "Tile": lambda x, a, v: x[0].repeat(*ints(x[1])), "Slice": slice_, "Split": split, "Pad": pad, "Trilu": trilu,
    "Concat": lambda x, a, v: tt.cat(x, dim=a["axis"]), "Shape": shape,
    "Size": lambda x, a, v: tt.tensor(x[0].numel(), dtype="int64"),
    "Gather": gather, "GatherElements": gather_elements, "GatherND": gather_nd,
    "ScatterElements": scatter_elements, "Scatter": scatter_elements, "ScatterND": scatter_nd, "OneHot": one_hot,
    "Compress": lambda x, a, v: (x[0] if "axis" in a else x[0].flatten()).index_select(
        a.get("axis", 0), tt.tensor(np.flatnonzero(x[1].data))),
    "NonZero": lambda x, a, v: tt.tensor(np.stack(np.nonzero(x[0].data))),
    "DepthToSpace": depth_to_space, "SpaceToDepth": space_to_depth,
    "Constant": constant, "ConstantOfShape": constant_of_shape, "Cast": cast, "Range": range_,
    "CastLike": lambda x, a, v: cast([x[0]], {"to": onnx.helper.np_dtype_to_tensor_dtype(x[1].dtype)}, v),
    "EyeLike": lambda x, a, v: trilu_eye(x[0], a),
    "Conv": conv, "MaxPool": functools.partial(pool, largest=True),
    "AveragePool": functools.partial(pool, largest=False),
    "GlobalAveragePool": lambda x, a, v: x[0].mean(tuple(range(2, x[0].ndim)), keepdim=True),
    "GlobalMaxPool": lambda x, a, v: x[0].amax(tuple(range(2, x[0].ndim)), keepdim=True),
    "LayerNormalization": layer_norm, "RMSNormalization": rms_norm, "InstanceNormalization": instance_norm,
    "GroupNormalization": group_norm, "BatchNormalization": batch_norm,
    "MeanVarianceNormalization": lambda x, a, v: normalized(x[0], tuple(a.get("axes", (0, 2, 3))), 1e-9),
    "SoftmaxCrossEntropyLoss": cross_entropy, "NegativeLogLikelihoodLoss": nll, "Attention": attention,
    "Dropout": lambda x, a, v: dropout(x, a),
}  # fmt: skip


def trilu_eye(x: Any, a: Attributes) -> Any:
    dtype = onnx.helper.tensor_dtype_to_np_dtype(a["dtype"]) if "dtype" in a else x.dtype
    ones = tt.ones(*x.shape, dtype=dtype)
    return ones.triu(a.get("k", 0)).tril(a.get("k", 0))


def dropout(x: list[Any], a: Attributes) -> Any:
    ratio = x[1].item() if len(x) > 1 and x[1] is not None else a.get("ratio", 0.5)
    if len(x) > 2 and x[2].item() and ratio:
        raise UnsupportedError("is random")
    return x[0].clone(), tt.ones(*x[0].shape, dtype="bool")


# --- graphs


def run_graph(graph: Any, inputs: list[Any], opset: int) -> list[Any]:
    values = {x.name: tt.tensor(onnx.numpy_helper.to_array(x)) for x in graph.initializer}
    values |= {x.name: given for x, given in zip(graph.input, inputs)}
    for node in graph.node:
        if node.op_type not in HANDLERS or node.domain not in ("", "ai.onnx"):
            raise UnsupportedError(node.op_type)
        attributes = {x.name: onnx.helper.get_attribute_value(x) for x in node.attribute}
        attributes["outputs"] = len(node.output)
        given = [values[name] if name else None for name in node.input]
        results = HANDLERS[node.op_type](given, attributes, opset)
        results = results if isinstance(results, tuple) else (results,)
        values |= dict(zip(node.output, results))
    return [values[x.name] for x in graph.output]


def agrees(case: Any) -> str:
    opset = max((x.version for x in case.model.opset_import if x.domain in ("", "ai.onnx")), default=1)
    for inputs, outputs in case.data_sets:
        if not all(isinstance(x, np.ndarray) and x.dtype.kind in "fiub" for x in (*inputs, *outputs)):
            raise UnsupportedError("sequences, text, foreign dtypes")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = run_graph(case.model.graph, [tt.tensor(x) for x in inputs], opset)
        for x, wanted in zip(found, outputs, strict=True):
            if x.dtype != wanted.dtype or x.shape != wanted.shape:
                return f"{x.dtype}{x.shape}, expected {wanted.dtype}{wanted.shape}"
            rtol = max(case.rtol, 2e-3) if x.dtype == np.float16 else case.rtol
            a, b = x.data.astype(float), wanted.astype(float)
            if not np.allclose(a, b, rtol=rtol, atol=max(case.atol, 1e-6), equal_nan=True):
                return "values"
    return ""


def survey() -> tuple[Counter[str], list[str]]:
    from onnx.backend.test.loader import load_model_tests

    counts: Counter[str] = Counter()
    differing = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the cases are computed as they are loaded
        cases = load_model_tests(kind="node")
    for case in cases:
        try:
            difference = agrees(case)
        except (UnsupportedError, tt.TinyTorchError):
            counts["unsupported"] += 1
            continue
        except Exception as error:
            difference = repr(error)
        counts["differing" if difference else "passed"] += 1
        if difference:
            differing.append(f"{case.name}: {difference}")
    return counts, differing


def test_node_cases_pass() -> None:
    counts, differing = survey()
    print(dict(counts))
    assert not differing, "\n".join(differing)
    assert counts["passed"] >= FLOOR
