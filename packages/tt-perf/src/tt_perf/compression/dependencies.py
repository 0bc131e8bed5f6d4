"""Part of module 16: which numbers form one unit, so that a neuron, channel or head can be removed as a whole.

To remove neuron i of a layer is to remove row i of its weight, entry i of its bias and of the norm after it, and column
i of the layer that reads it. A residual connection ties the neuron to the one it is added to; a flatten ties a channel
to several columns. `Walk` finds these dependencies by one run of the model on an example. Each entry of each axis of a
parameter starts as a separate unit. A plugin observes the ops and assigns each element of each result to a unit, by a
rule for the op:

    linear       the columns are the units of the input, the rows are the units of the result
    x + y        the units of x and y at the same place become one                     (union-find, Tarjan 1975)
    reshape      labels are reshaped like the numbers: the op's own kernel runs on them
    attention    a query head and the key and value heads that it reads are one unit

An op without a rule pins its units, so they are not removed. (Dependency graphs: Fang et al. 2023, arXiv:2301.12900.)
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np

from tt_core.engine.dispatch import Array, Op
from tt_core.engine.hookspecs import hookimpl
from tt_core.engine.plugins import manager
from tt_core.layers import Layer
from tt_core.tensor import Tensor
from tt_learn.training import evaluating
from tt_perf.compression.reports import MASK, CompressionError, arguments

Labels = Array
"""The unit of each element of a tensor, in the tensor's shape; 0 for elements of inputs and constants."""
Traced = tuple[Labels, ...]
"""An activation has one array of labels; a matrix or a convolution's weight has two, for its rows and its columns."""


class Units:
    """Disjoint sets of labels: the labels of a set are one unit. Pinned units are never removed.

    `reasons` holds the reason of each pinned unit; "" for inputs and outputs.
    """

    def __init__(self) -> None:
        self.parent = np.zeros(1, np.int64)
        self.reasons: dict[int, str] = {}

    def new(self, count: int) -> Labels:
        """The labels of `count` new units, (count,)."""
        first = len(self.parent)
        self.parent = np.concatenate([self.parent, np.arange(first, first + count)])
        return self.parent[first:].copy()

    def roots(self, labels: Labels) -> Labels:
        """The label that represents the unit of each label, in the same shape."""
        while not np.array_equal(above := self.parent[labels], labels):
            labels = above
        return labels

    def join(self, a: Labels, b: Labels) -> None:
        """Joins the units of `a` and `b` at each place; labels of 0 are ignored."""
        a, b = np.broadcast_arrays(self.roots(a), self.roots(b))
        apart = (a != b) & (a > 0) & (b > 0)
        for one, other in np.unique(np.stack([a[apart], b[apart]]), axis=1).T:
            one, other = (int(self.roots(np.asarray(x))) for x in (one, other))
            if one != other:
                self.parent[other] = one
                reason = self.reasons.pop(other, None)
                if reason is not None:
                    self.reasons[one] = self.reasons.get(one) or reason

    def pin(self, labels: Labels, reason: str = "") -> None:
        """Pins these units: they cannot be removed."""
        for root in np.unique(self.roots(labels)).tolist():
            if root:
                self.reasons[root] = self.reasons.get(root) or reason

    def varies(self, labels: Labels, axis: int) -> bool:
        """Whether the removal of a unit could change the size of this axis."""
        found = self.roots(labels)
        return bool((found != found.take([0], axis)).any()) if labels.shape[axis] > 1 else False


class Running:
    """Runs a model in evaluation mode; a plugin that tracks which layer runs, or ran when an error was raised."""

    def __init__(self, model: Layer) -> None:
        self.model = model
        self.paths = {id(layer): path or type(layer).__name__ for path, layer in model.named_modules()}
        self.stack: list[str] = []

    @property
    def innermost(self) -> str:
        """The dotted name of the running layer; the name of its type for the model itself."""
        return self.stack[-1] if self.stack else type(self.model).__name__

    def run(self, inputs: tuple[Any, ...]) -> Any:
        """The model's output."""
        manager.register(self)
        try:
            with evaluating(self.model):
                return self.model(*inputs)
        finally:
            manager.unregister(self)

    @hookimpl
    def tt_wrap_layer(self, layer_type: type[Layer], call: Callable[..., Any]) -> Callable[..., Any]:
        def named(layer: Layer, *inputs: Any, **options: Any) -> Any:
            self.stack.append(self.paths.get(id(layer), type(layer).__name__))
            result = call(layer, *inputs, **options)
            self.stack.pop()  # not after an error, whose message names the innermost layer
            return result

        return named


class Walk:
    """One run of a model on an example, and the units that it found.

    axes: labels of the first two axes of each parameter and buffer, by its `id`
    produced, consumed: labels of the rows and of the columns of matrix products and convolutions
    heads: labels of attention heads, with the number of query heads that share one
    features: labels of the features of embeddings
    seen: the `id` of each parameter that an op read
    statistics: labels of axes that layer norms average over; their mean changes when a unit is removed
    """

    def __init__(self, model: Layer, example: object) -> None:
        self.units = Units()
        self.running = Running(model)
        self.axes: dict[int, tuple[Labels, ...]] = {}
        self.produced: list[Labels] = []
        self.consumed: list[Labels] = []
        self.heads: list[tuple[Labels, int]] = []
        self.features: list[Labels] = []
        self.statistics: list[Labels] = []
        self.seen: set[int] = set()
        self._traced: dict[int, Traced] = {}
        self._alive: list[Any] = []  # keeps arrays alive, so that no id is used twice
        for tensor in held(model):
            self._start(tensor)
        self._run(example)

    def _start(self, tensor: Tensor) -> None:
        shape = tensor.shape
        self.axes[id(tensor)] = axes = tuple(self.units.new(n) for n in shape[:2])
        if not shape:  # a single number belongs to no unit
            return
        along = (labels.reshape(-1, *(1,) * (len(shape) - 1 - i)) for i, labels in enumerate(axes))
        self._set(tensor, tuple(np.broadcast_to(labels, shape) for labels in along))

    def _run(self, example: Any) -> None:
        inputs = tuple(_first_row(x) for x in arguments(example))
        if any(np.size(getattr(x, "data", x)) == 0 for x in inputs):
            raise CompressionError("shrink_: the example is empty; give at least one input")
        manager.register(self)
        try:
            output = self.running.run(inputs)
        finally:
            manager.unregister(self)
        for tensor in tensors_of(output):
            for labels in self.of(tensor):
                self.units.pin(labels)

    # --- the plugin

    @hookimpl
    def tt_observe_op(self, op: Op) -> Callable[..., None]:
        return self._observe

    def _observe(self, op: Op, inputs: tuple[Any, ...], attributes: dict[str, Any], output: Any) -> None:
        given = [self.of(x) for x in inputs]
        self.seen.update(id(x) for x in inputs)
        outputs = output if isinstance(output, tuple) else (output,)
        if not any(labels.any() for traced in given for labels in traced):
            return
        rule: Rule = RULES.get(op.name, _pin_all)
        results = rule(self, op, given, attributes, outputs)
        for tensor, traced in zip(outputs, results):
            self._set(tensor, traced)

    # --- what rules need

    def of(self, x: Tensor) -> Traced:
        """Labels of a tensor; zeros for a number, and for a tensor that no observed op made."""
        data = getattr(x, "data", x)
        found = self._traced.get(id(data)) if isinstance(data, np.ndarray) else None
        return found if found is not None else (np.zeros(np.shape(data), np.int64),)

    def _set(self, tensor: Any, traced: Traced) -> None:
        self._alive.append(tensor.data)
        self._traced[id(tensor.data)] = traced

    def pin(self, given: Iterable[Traced], op: Op) -> None:
        """Pins the units of tensors that no rule can follow."""
        for traced in given:
            for labels in traced:
                self.units.pin(labels, f"op {op.name} in {self.running.innermost}")

    def along(self, labels: Labels, axis: int, op: Op) -> Labels:
        """The unit of each entry of an axis; if it is not the same along all other axes, the units are pinned."""
        rows = np.moveaxis(self.units.roots(labels), axis, -1).reshape(-1, labels.shape[axis])  # (all else, entries)
        if (rows != rows[:1]).any():
            self.pin([(labels,)], op)
            return np.zeros(labels.shape[axis], np.int64)
        return rows[0]

    def match(self, a: Labels, b: Labels, op: Op) -> None:
        """Joins entries at the same place; units that meet a constant or an input are pinned."""
        self.units.join(a, b)
        self.units.pin(np.where(b == 0, a, 0))
        self.units.pin(np.where(a == 0, b, 0))


def held(model: Layer) -> Iterator[Tensor]:
    """The parameters of a model, and its buffers except masks."""
    yield from model.parameters()
    yield from (buffer for name, buffer in model.named_buffers() if not name.endswith(MASK))


def _first_row(x: Any) -> Any:
    """The first example of a batch, which shows as much as all of them."""
    return x[:1] if np.ndim(getattr(x, "data", x)) >= 2 else x


def tensors_of(output: object) -> Iterator[Any]:
    """The tensors of an output: itself, or those of a tuple, list or dictionary."""
    if isinstance(output, dict):
        output = tuple(output.values())
    if isinstance(output, (tuple, list)):
        for part in output:
            yield from tensors_of(part)
    elif isinstance(output, Tensor):
        yield output


# --- rules: (walk, op, labels of inputs, attributes, outputs) -> labels of each output

Rule = Callable[[Walk, Op, list[Traced], dict[str, Any], tuple[Any, ...]], list[Traced]]
RULES: dict[str, Rule] = {}
"""The rule of each op, by its name; add an entry for an op of your own."""


def _rule(*names: str) -> Callable[[Rule], Rule]:
    def add(rule: Rule) -> Rule:
        RULES.update(dict.fromkeys(names, rule))
        return rule

    return add


def _pin_all(walk: Walk, op: Op, given: list[Traced], attributes: dict[str, Any], outputs: Any) -> list[Traced]:
    walk.pin(given, op)
    return [(np.zeros(out.shape, np.int64),) for out in outputs]


@_rule(
    *("relu", "leaky_relu", "gelu", "silu", "sigmoid", "tanh", "softplus", "neg", "abs", "sign", "exp", "log", "sqrt"),
    *("clip", "sin", "cos", "erf", "dropout", "dropout2d", "cast", "contiguous", "clone"),
)
def _same(walk: Walk, op: Op, given: list[Traced], attributes: dict[str, Any], outputs: Any) -> list[Traced]:
    return [given[0]]


@_rule(
    *("add", "sub", "mul", "div", "maximum", "minimum", "pow", "where", "masked_fill"),
    *("eq", "ne", "lt", "le", "gt", "ge"),
)
def _elementwise(walk: Walk, op: Op, given: list[Traced], attributes: dict[str, Any], outputs: Any) -> list[Traced]:
    if any(len(traced) > 1 for traced in given):
        return _pin_all(walk, op, given, attributes, outputs)
    shape = outputs[0].shape
    total = np.zeros(shape, np.int64)
    spread = [_is_spread(walk, i, given, shape) for i in range(len(given))]
    if sum(spread) > 1:  # an outer product
        return _pin_all(walk, op, given, attributes, outputs)
    for (labels,), one_for_many in sorted(zip(given, spread), key=lambda pair: pair[1]):
        here = np.broadcast_to(labels, shape)
        if one_for_many:  # such as a gate of one channel: it stays, and ties nothing together
            walk.units.pin(labels)
        else:
            walk.units.join(total, here)
        total = np.where(total > 0, total, here)
    for (labels,) in given:  # a constant with a number for each unit cannot shrink with them
        lead = len(shape) - labels.ndim
        if any(n > 1 and walk.units.varies(total, lead + axis) for axis, n in enumerate(labels.shape)):
            walk.pin([(np.where(np.broadcast_to(labels, shape) == 0, total, 0),)], op)
    return [(total,)]


def _is_spread(walk: Walk, which: int, given: list[Traced], shape: tuple[int, ...]) -> bool:
    """Whether an operand has one unit where another has several."""
    (mine,), lead = given[which], len(shape) - given[which][0].ndim
    axes = [i for i, n in enumerate(shape) if n > 1 and (i < lead or mine.shape[i - lead] == 1)]
    others = [np.broadcast_to(labels, shape) for i, (labels,) in enumerate(given) if i != which]
    return bool(mine.any()) and any(walk.units.varies(labels, axis) for labels in others for axis in axes)


@_rule(
    *("permute", "transpose", "squeeze", "unsqueeze", "expand", "flip", "roll", "cat", "stack", "repeat_interleave"),
    "join_heads",
)
def _arranged(walk: Walk, op: Op, given: list[Traced], attributes: dict[str, Any], outputs: Any) -> list[Traced]:
    """Labels move with their elements: the op's own kernel moves them."""
    if len({len(traced) for traced in given}) > 1:
        return _pin_all(walk, op, given, attributes, outputs)
    move: Callable[..., Any] = op.kernel
    return [tuple(move(*parts, **attributes) for parts in zip(*given))]


@_rule("getitem")
def _taken(walk: Walk, op: Op, given: list[Traced], attributes: dict[str, Any], outputs: Any) -> list[Traced]:
    """A part of an axis pins the units if the axis could shrink, since the index would then mean another part."""
    taken = tuple(op.kernel(labels, **attributes) for labels in given[0])
    for labels, part in zip(given[0], taken):
        if not np.array_equal(np.unique(walk.units.roots(labels)), np.unique(walk.units.roots(part))):
            walk.pin(given, op)
    return [taken]


@_rule("reshape", "view")
def _reshaped(walk: Walk, op: Op, given: list[Traced], attributes: dict[str, Any], outputs: Any) -> list[Traced]:
    """Axes may be joined; an axis that could shrink cannot be split into several."""
    for labels in given[0]:
        for axes, parts in _regrouped(labels.shape, outputs[0].shape):
            cut = sum(n > 1 for n in parts) > 1
            if cut and any(walk.units.varies(labels, axis) for axis in axes):
                walk.pin(given, op)
    return [tuple(labels.reshape(outputs[0].shape) for labels in given[0])]


def _regrouped(old: tuple[int, ...], new: tuple[int, ...]) -> Iterator[tuple[list[int], list[int]]]:
    """Groups of old axes with the new sizes of the same elements; each group is as small as possible."""
    i = j = 0
    while i < len(old):
        axes, parts, before, after = [i], [], old[i], 1
        i += 1
        while before != after or (j < len(new) and new[j] == 1):
            if after < before or before == after:
                parts.append(new[j])
                after *= new[j]
                j += 1
            else:
                axes.append(i)
                before *= old[i]
                i += 1
        yield axes, parts


@_rule("sum", "mean", "var", "std", "norm", "prod", "amax", "amin", "argmax", "argmin", "logsumexp", "all", "any")
def _reduced(walk: Walk, op: Op, given: list[Traced], attributes: dict[str, Any], outputs: Any) -> list[Traced]:
    ((labels,), *_), dim = given, attributes.get("dim")
    dims = range(labels.ndim) if dim is None else (dim,) if isinstance(dim, int) else dim
    if len(given[0]) > 1 or any(walk.units.varies(labels, axis) for axis in dims):
        return _pin_all(walk, op, given, attributes, outputs)
    for axis in dims:
        labels = labels.take([0], axis)
    return [(labels.reshape(outputs[0].shape),)]


@_rule("softmax", "log_softmax", "cumsum")
def _within(walk: Walk, op: Op, given: list[Traced], attributes: dict[str, Any], outputs: Any) -> list[Traced]:
    if len(given[0]) > 1 or walk.units.varies(given[0][0], attributes["dim"]):
        return _pin_all(walk, op, given, attributes, outputs)
    return [given[0]]


@_rule("linear")
def _linear(walk: Walk, op: Op, given: list[Traced], attributes: dict[str, Any], outputs: Any) -> list[Traced]:
    return _product(walk, op, given, outputs, axis=-1)


@_rule("conv2d")
def _conv(walk: Walk, op: Op, given: list[Traced], attributes: dict[str, Any], outputs: Any) -> list[Traced]:
    groups, channels = attributes["groups"], given[0][0].ndim - 3
    if groups == 1:
        return _product(walk, op, given, outputs, axis=channels)
    if not given[0][0].shape[channels] == groups == given[1][0].shape[0]:
        return _pin_all(walk, op, given, attributes, outputs)
    rows = walk.along(given[1][0], 0, op)  # depthwise: input channel i gives output channel i
    walk.match(walk.along(given[0][0], channels, op), rows, op)
    walk.match(given[2][0] if given[2][0].ndim else rows, rows, op)
    return [(_spread(rows, outputs[0].shape, channels),)]


def _product(walk: Walk, op: Op, given: list[Traced], outputs: Any, axis: int) -> list[Traced]:
    x, weight, bias = given
    if len(x) > 1 or len(weight) != 2:
        return _pin_all(walk, op, given, {}, outputs)
    rows, columns = (walk.along(labels, i, op) for i, labels in enumerate(weight))
    walk.match(walk.along(x[0], axis, op), columns, op)
    walk.produced.append(rows)
    walk.consumed.append(columns)
    if bias[0].ndim:  # a bias is given
        walk.match(bias[0], rows, op)
    return [(_spread(rows, outputs[0].shape, axis),)]


def _spread(units: Labels, shape: tuple[int, ...], axis: int) -> Labels:
    """The labels of one axis, broadcast to a tensor of `shape`."""
    ones = [1] * len(shape)
    ones[axis] = len(units)
    return np.broadcast_to(units.reshape(ones), shape)


@_rule("max_pool2d", "avg_pool2d", "adaptive_avg_pool2d")
def _pooled(walk: Walk, op: Op, given: list[Traced], attributes: dict[str, Any], outputs: Any) -> list[Traced]:
    channels = given[0][0].ndim - 3
    return [(_spread(walk.along(given[0][0], channels, op), outputs[0].shape, channels),)]


@_rule("batch_norm_inference", "batch_norm_training")
def _batch_norm(walk: Walk, op: Op, given: list[Traced], attributes: dict[str, Any], outputs: Any) -> list[Traced]:
    return _normalized(walk, op, given, outputs, axis=1)


@_rule("layer_norm", "rms_norm")
def _layer_norm(walk: Walk, op: Op, given: list[Traced], attributes: dict[str, Any], outputs: Any) -> list[Traced]:
    if attributes.get("dims", 1) != 1:
        return _pin_all(walk, op, given, attributes, outputs)
    walk.statistics.append(walk.along(given[0][0], -1, op))
    return _normalized(walk, op, given, outputs, axis=-1)


def _normalized(walk: Walk, op: Op, given: list[Traced], outputs: Any, axis: int) -> list[Traced]:
    """Statistics, scale and shift have one number for each unit of one axis."""
    units = walk.along(given[0][0], axis, op)
    for vector, *_ in given[1:]:
        if vector.ndim:
            walk.match(vector, units, op)
    return [(_spread(units, outputs[0].shape, axis),)]


@_rule("embedding")
def _embedding(walk: Walk, op: Op, given: list[Traced], attributes: dict[str, Any], outputs: Any) -> list[Traced]:
    weight = given[1]
    if len(weight) != 2:
        return _pin_all(walk, op, given, attributes, outputs)
    walk.units.pin(walk.along(weight[0], 0, op))  # an id is the number of a row
    features = walk.along(weight[1], 1, op)
    walk.features.append(features)
    return [(_spread(features, outputs[0].shape, -1),)]


# --- heads


@_rule("split_heads")
def _split(walk: Walk, op: Op, given: list[Traced], attributes: dict[str, Any], outputs: Any) -> list[Traced]:
    heads = walk.along(given[0][0], -1, op).reshape(sum(attributes["heads"]), -1)  # (heads, head size)
    walk.units.join(heads, heads[:, :1])
    walk.heads.append((heads[:, 0], 1))
    parts = op.kernel(walk.units.roots(given[0][0]), **attributes)
    return [(part,) for part in (parts if isinstance(parts, tuple) else (parts,))]


@_rule("scaled_dot_product_attention")
def _attention(walk: Walk, op: Op, given: list[Traced], attributes: dict[str, Any], outputs: Any) -> list[Traced]:
    (query,), (key,), (value,), (mask,) = given
    if query.ndim < 3 or any(walk.units.varies(x, axis) for x in (query, key, value) for axis in (-1, -2)):
        return _pin_all(walk, op, given, attributes, outputs)
    q, k, v = (walk.along(x, -3, op) for x in (query, key, value))
    if mask.ndim >= 3 and mask.shape[-3] > 1:  # the mask differs between heads
        walk.pin([(q,)], op)
    group = len(q) // len(k)
    walk.match(q, np.repeat(k, group), op)
    walk.match(q, np.repeat(v, group), op)
    walk.heads.append((q, group))
    return [(_spread(q, outputs[0].shape, -3),)]


@_rule("rotary")
def _rotary(walk: Walk, op: Op, given: list[Traced], attributes: dict[str, Any], outputs: Any) -> list[Traced]:
    if any(walk.units.varies(given[0][0], axis) for axis in (-1, -2)):
        return _pin_all(walk, op, given, attributes, outputs)
    return [given[0]]


def is_removable(walk: Walk, units: Labels, path: str) -> bool:
    """Whether these units may be removed; raises `CompressionError` if the walk could not follow them."""
    reasons = [walk.units.reasons[root] for root in units.tolist() if root in walk.units.reasons]
    lost = next((reason for reason in reasons if reason), None)
    if lost is None and not reasons:
        read = np.unique(walk.units.roots(np.concatenate(walk.consumed)))
        if not np.isin(units, read).all():
            lost = "an op or NumPy call that the walk does not see"
    if lost is not None:
        raise CompressionError(
            f"shrink_: the outputs of {path} cannot be followed through {lost}; leave {path} out by filter_fn"
        )
    return not reasons
