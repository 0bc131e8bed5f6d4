"""Part of module 16: shrinking. Whole neurons, channels and heads are removed, so bytes and time go down.

`dependencies.py` finds which rows, columns and entries belong to one unit. What is left to do here:

    importance   of a unit: sum over its rows and columns of w^2 / mean(w^2)      (group norm, Fang et al. 2023)
    W <- W[kept rows][:, kept columns]        the same for biases, norms, running statistics, masks, optimizer's state
    attributes   out_features, num_heads, the GPT's config ... are read from the new shapes (`RESIZE`)

The same share is removed from each layer, since a config holds one size for all blocks. On the example, the smaller
model must answer as the large one does while what reads the removed units is zero; where not, the model is as it was.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from tt_core.engine.arguments import checked, explained
from tt_core.engine.dispatch import Array
from tt_core.engine.errors import TinyTorchError
from tt_core.engine.heap import aligned
from tt_core.layers import Layer, LayerNorm, Linear
from tt_core.nn import PReLU
from tt_core.tensor import Tensor
from tt_data.spatial import Conv2d, Convolution, Normalization
from tt_data.torch_names import Conv1d
from tt_language.attention import MultiHeadAttention
from tt_language.embeddings import Embedding
from tt_language.transformers import GPT, RMSNorm
from tt_learn.optimizers import Optimizer
from tt_perf.compression.amounts import count_of
from tt_perf.compression.dependencies import Labels, Running, Walk, held, is_removable, tensors_of
from tt_perf.compression.low_rank import LowRankLinear
from tt_perf.compression.masks import Filter, has_quantized
from tt_perf.compression.refitting import Refit
from tt_perf.compression.reports import MASK, CompressionError, Report, arguments, cost

KINDS = ("neurons", "channels", "heads")


@dataclass(frozen=True)
class Choice:
    """What may be removed together: units of one kind, the layers that make them, and queries a head of keys."""

    paths: tuple[str, ...]
    kind: str
    units: Labels
    group: int = 1


# --- what a layer knows about its shape


def _resize_linear(layer: Any) -> None:
    layer.out_features, layer.in_features = layer.weight.shape


def _resize_convolution(layer: Any) -> None:
    if layer.groups == layer.in_channels == layer.out_channels > 1:  # depthwise; other groups are never cut
        layer.groups = layer.weight.shape[0]
    layer.out_channels, layer.in_channels = layer.weight.shape[0], layer.weight.shape[1] * layer.groups


def _resize_low_rank(layer: Any) -> None:
    layer.rank, layer.in_features = layer.down.weight.shape
    layer.out_features = layer.up.weight.shape[0]


def _resize_normalization(layer: Any) -> None:
    vector = layer.weight if layer.weight is not None else layer.running_mean
    layer.num_features = layer.num_features if vector is None else len(vector.data)


def _resize_layer_norm(layer: Any) -> None:
    layer.normalized_shape = layer.normalized_shape if layer.weight is None else layer.weight.shape


def _resize_attention(layer: Any) -> None:
    layer.num_heads = layer.out_proj.weight.shape[1] // layer.head_dim
    layer.num_kv_heads = (layer.in_proj.weight.shape[0] // layer.head_dim - layer.num_heads) // 2
    layer.embed_dim = layer.in_proj.weight.shape[1]


def _resize_embedding(layer: Any) -> None:
    layer.embedding_dim = layer.weight.shape[1]


def _resize_gpt(model: Any) -> None:
    """The config that makes blocks of these sizes; one that fits keeps what it leaves to defaults."""
    old, sizes = model.config, {_sizes_of(block) for block in model.blocks}
    if len(sizes) > 1:
        raise CompressionError(
            "shrink_: blocks would have different sizes, but a GPTConfig holds one for all; treat all blocks alike"
        )
    ((heads, shared, size, hidden),) = sizes
    usual = 8 * old.n_embd // 3 if old.mlp == "swiglu" else 4 * old.n_embd
    told = (old.n_head, old.n_kv_head or old.n_head, old.head_size, old.intermediate_size or usual)
    if told != (heads, shared, size, hidden):
        new = {"n_head": heads, "n_kv_head": old.n_kv_head and shared, "head_dim": size, "intermediate_size": hidden}
        model.config = dataclasses.replace(old, **new)


def _sizes_of(block: Any) -> tuple[int, int, int, int]:
    attention = block.attention
    return attention.num_heads, attention.num_kv_heads, attention.head_dim, block.mlp.up.weight.shape[0]


RESIZE: dict[type[Layer], Callable[[Any], None]] = {
    Linear: _resize_linear,
    LowRankLinear: _resize_low_rank,
    Conv1d: _resize_convolution,
    Conv2d: _resize_convolution,
    Normalization: _resize_normalization,
    LayerNorm: _resize_layer_norm,
    RMSNorm: _resize_layer_norm,
    MultiHeadAttention: _resize_attention,
    Embedding: _resize_embedding,
    GPT: _resize_gpt,
    PReLU: lambda _: None,  # it reads the size from its weight
}
"""How a layer's attributes follow from the shapes of its parameters; add an entry for a layer of your own."""


def resizer(layer: Layer) -> Callable[[Any], None] | None:
    """The entry of `RESIZE` for this layer or a class that it extends."""
    return next((RESIZE[kind] for kind in type(layer).__mro__ if kind in RESIZE), None)


def resize_attributes(model: Layer) -> None:
    """Read sizes of all layers from their parameters."""
    model.apply(lambda layer: (resizer(layer) or (lambda _: None))(layer))


# --- what to remove


@explained
@checked
def shrink_(
    model: Layer,
    amount: float | int | Mapping[str, float | int],
    example: Any,
    *,
    filter_fn: Filter | None = None,
    optimizer: Optimizer | None = None,
    calibration: Iterable[Any] | None = None,
) -> Report:
    """Remove the least important units of each layer, and all that belongs to them; parameters stay the same objects.

    amount: the share of each layer's units (a float below 1) or their number; or by kind, such as
        {"heads": 0.5}: "neurons" of Linear layers, "channels" of convolutions, "heads" of attention. Query heads that
        share keys and values go together. Features that embeddings make, inputs and outputs of the model stay.
    example: an input, or a tuple of them: the model runs on it, to see what depends on what, and to be measured.
    filter_fn: which layers may lose outputs, by `(layer, path)`; all Linear and convolution layers by default.
    optimizer: goes on with the state of what is kept. Others that hold these parameters must be made again.
    calibration: batches of inputs (an input, or a tuple of them). Linear and Conv2d layers that read removed units are
        then fitted to their old outputs by least squares (`refitting.py`); without it, what they read is just gone.

    Raises `CompressionError`, with nothing changed, for an amount that would empty a layer or does not divide into
    groups of heads, and for a layer whose outputs cannot be followed or whose sizes are unknown (`RESIZE`).

    >>> import tt_core
    >>> model = tt_core.Sequential(tt_core.Linear(4, 8), tt_core.ReLU(), tt_core.Linear(8, 2))
    >>> shrink_(model, 0.5, tt_core.ones(1, 4)).layers
    ('0: 8 -> 4 neurons',)
    >>> model[0].weight.shape, model[2].weight.shape, model[2].in_features
    ((4, 4), (2, 4), 4)
    """
    amounts = dict(amount) if isinstance(amount, Mapping) else dict.fromkeys(KINDS, amount)
    if not amounts or not amounts.keys() <= set(KINDS):
        raise CompressionError(f"shrink_: amount is for {list(amounts)}, expected some of {', '.join(KINDS)}")
    walk = Walk(model, example)
    choices = [choice for choice in _choices(model, walk, filter_fn) if choice.kind in amounts]
    if not choices:
        why = "; it is quantized: shrink first, or dequantize_" if has_quantized(model) else ""
        what = " or ".join(amounts)
        raise CompressionError(f"shrink_: {type(model).__name__} has no {what} that could be removed{why}")
    score = _importance(model, walk)
    gone, rows = [np.zeros(0, np.int64)], []
    for choice in choices:
        count = _count(choice, amounts[choice.kind])
        gone.append(choice.units[np.argsort(score[choice.units], kind="stable")[:count]])
        total = len(choice.units) * choice.group
        rows.append(f"{', '.join(choice.paths)}: {total} -> {total - count * choice.group} {choice.kind}")
    before = cost(model, example)
    notes = _remove(model, walk, np.concatenate(gone), example, optimizer, calibration)
    return Report("shrink_", before, cost(model, example), tuple(rows), notes + _unreached(model, walk))


def _choices(model: Layer, walk: Walk, filter_fn: Filter | None) -> list[Choice]:
    """Units that layers make, those that share some joined into one choice; a layer left out keeps its units."""
    found: list[Choice] = []
    kept: list[Labels] = []
    produced = np.unique(walk.units.roots(np.concatenate([np.zeros(1, np.int64), *walk.produced])))
    for path, layer in model.named_modules():
        if not isinstance(layer, (Linear, Convolution)):
            continue
        units = np.unique(walk.units.roots(walk.axes[id(layer.weight)][0]))
        if not np.isin(units, produced).all():  # it did not run
            continue
        if filter_fn is not None and not filter_fn(layer, path):
            kept.append(units)
            continue
        choice = Choice((path or type(layer).__name__,), _kind(layer, walk, units), units, _group(walk, units))
        if choice.kind in KINDS and is_removable(walk, units, choice.paths[0]):
            found = _joined(found, choice)
    return [choice for choice in found if not any(np.isin(choice.units, units).any() for units in kept)]


def _unreached(model: Layer, walk: Walk) -> tuple[str, ...]:
    """A note for each layer that the example does not reach, such as a head for training alone."""
    return tuple(
        f"{path} did not run on the example: its inputs are as before, whatever was removed"
        for path, layer in model.named_modules()
        if isinstance(layer, (Linear, Convolution)) and id(layer.weight) not in walk.seen
    )


def _joined(found: list[Choice], new: Choice) -> list[Choice]:
    apart = [choice for choice in found if not np.isin(choice.units, new.units).any()]
    same = [choice for choice in found if choice not in apart]
    paths = tuple(path for choice in same for path in choice.paths) + new.paths
    units = np.unique(np.concatenate([new.units, *(choice.units for choice in same)]))
    return [*apart, Choice(paths, new.kind, units, new.group)]


def _kind(layer: Layer, walk: Walk, units: Labels) -> str:
    def among(labels: list[Labels]) -> bool:
        return bool(labels) and bool(np.isin(walk.units.roots(np.concatenate(labels)), units).any())

    if among(walk.features):
        return "features"
    if among([labels for labels, _ in walk.heads]):
        return "heads"
    return "channels" if isinstance(layer, Convolution) else "neurons"


def _group(walk: Walk, units: Labels) -> int:
    return max((size for labels, size in walk.heads if np.isin(walk.units.roots(labels), units).any()), default=1)


def _count(choice: Choice, amount: Any) -> int:
    """How many units to remove; a unit of heads is a group of queries with its keys and values."""
    where = f"shrink_: {choice.paths[0]}"
    heads = count_of(amount, len(choice.units) * choice.group, where)
    if heads % choice.group:
        raise CompressionError(
            f"{where}: amount {amount!r} means {heads} of {len(choice.units) * choice.group} heads, but {choice.group} "
            f"of queries share one of keys; remove a multiple of {choice.group}"
        )
    return heads // choice.group


def _importance(model: Layer, walk: Walk) -> Array:
    """Of each unit, by its root: w^2 over its rows and columns of all matrices, each in units of its mean."""
    score = np.zeros(len(walk.units.parent))
    for parameter in model.parameters():
        if parameter.ndim < 2:
            continue
        square = np.square(parameter.data, dtype=np.float64)
        scale = square.mean() or 1.0
        for axis, labels in enumerate(walk.axes[id(parameter)]):
            others = tuple(i for i in range(square.ndim) if i != axis)
            np.add.at(score, walk.units.roots(labels), square.sum(others) / scale)
    return score


# --- removing it


def _remove(
    model: Layer,
    walk: Walk,
    gone: Labels,
    example: Any,
    optimizer: Optimizer | None,
    calibration: Iterable[Any] | None,
) -> tuple[str, ...]:
    kept = _kept(model, walk, gone)
    _check_resizable(model, kept)
    state = _cut_state(optimizer, kept)
    refit = None if calibration is None else Refit(model, kept, calibration)
    undo = Undo(model)
    expected = _ignoring(model, walk, gone, example)
    same = not np.isin(walk.units.roots(np.concatenate([gone[:0], *walk.statistics])), gone).any()
    try:
        _cut(model, kept)
        resize_attributes(model)
        _check_runs(model, example, expected, same)
        if refit is not None:
            refit(kept)
        if optimizer is not None:
            optimizer.rebuild(state)
    except BaseException:
        undo()
        raise
    return () if refit is None else (refit.note,)


def _kept(model: Layer, walk: Walk, gone: Labels) -> dict[int, tuple[Array, ...]]:
    """Of each tensor that is cut, by its id: the indices that stay along its first axes."""
    kept = {}
    for tensor in held(model):
        stays = tuple(np.flatnonzero(~np.isin(walk.units.roots(labels), gone)) for labels in walk.axes[id(tensor)])
        if tuple(map(len, stays)) != tensor.shape[: len(stays)]:
            kept[id(tensor)] = stays
    return kept


def _check_resizable(model: Layer, kept: Mapping[int, tuple[Array, ...]]) -> None:
    for path, layer in model.named_modules():
        if any(id(p) in kept for p in layer._parameters.values()) and resizer(layer) is None:
            raise CompressionError(
                f"shrink_: {path or 'the model'} ({type(layer).__name__}) holds what would be cut, and its attributes "
                f"are unknown; add it to RESIZE, or leave out what it reads by filter_fn"
            )


def _cut(model: Layer, kept: Mapping[int, tuple[Array, ...]]) -> None:
    masks = {
        id(p): layer._buffers[name + MASK]
        for layer in model.modules()
        for name, p in layer._parameters.items()
        if name + MASK in layer._buffers
    }
    for tensor in held(model):
        if id(tensor) in kept:
            for each in (tensor, masks.get(id(tensor))):
                if each is not None:
                    each.data = taken(each.data, kept[id(tensor)])
            if tensor.is_parameter:
                tensor.grad = None


def taken(array: Array, kept: tuple[Array, ...]) -> Array:
    """The kept entries of the first axes, in memory of its own.

    >>> taken(np.arange(6).reshape(2, 3), (np.array([1]), np.array([0, 2])))
    array([[3, 5]])
    """
    part = array[np.ix_(*kept)]
    result = aligned(part.shape, part.dtype)
    np.copyto(result, part)
    return result


def _ignoring(model: Layer, walk: Walk, gone: Labels, example: Any) -> list[Array]:
    """Outputs of the model while the columns that read the removed units are zero."""
    whole = [(p, p.data) for p in model.parameters() if p.ndim >= 2]
    try:
        for parameter, data in whole:
            columns = np.isin(walk.units.roots(walk.axes[id(parameter)][1]), gone)
            if columns.any():
                parameter.data = data.copy()
                parameter.data[:, columns] = 0
        return [out.data for out in tensors_of(Running(model).run(arguments(example)))]
    finally:
        for parameter, data in whole:
            parameter.data = data


def _check_runs(model: Layer, example: Any, expected: list[Array], same: bool) -> None:
    """Raise where the smaller model does not run or, but for statistics over fewer numbers, computes something else."""
    running = Running(model)
    try:
        found = [out.data for out in tensors_of(running.run(arguments(example)))]
    except (TinyTorchError, ValueError, TypeError, IndexError) as error:
        raise CompressionError(
            f"shrink_: {running.innermost} does not run with fewer units ({error}); "
            f"leave out what it reads by filter_fn"
        ) from None
    for x, y in zip(found, expected):
        if x.shape != y.shape or (same and np.abs(x - y).max(initial=0) > 1e-2 * np.abs(y).max(initial=0)):
            raise CompressionError(
                f"shrink_: {type(model).__name__} would compute something else than without the removed units; "
                f"a layer holds a size that RESIZE does not know: leave it out by filter_fn"
            )


def _cut_state(optimizer: Optimizer | None, kept: Mapping[int, tuple[Array, ...]]) -> Any:
    """The optimizer's state dict, cut as its parameters will be."""
    if optimizer is None:
        return None
    state = optimizer.state_dict()
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    for i, entry in state["state"].items():
        cut = kept.get(id(parameters[i]))
        for name, value in entry.items():
            if isinstance(value, list) or (np.ndim(value) and np.shape(value) != parameters[i].shape):
                raise CompressionError(
                    f"shrink_: {name} of {optimizer.name} is not a number for each weight; make a new optimizer"
                )
            if cut is not None and np.ndim(value):
                entry[name] = Tensor(np.asarray(value)[np.ix_(*cut)])
    return state


class Undo:
    """Everything that shrinking changes in a model, to put it back."""

    def __init__(self, model: Layer) -> None:
        self.arrays = [(t, t.data, t.grad if t.is_parameter else None) for t in (*model.parameters(), *model.buffers())]
        self.attributes = [
            (layer, name, value)
            for layer in model.modules()
            for name, value in vars(layer).items()
            if isinstance(value, (int, tuple)) or name == "config"
        ]

    def __call__(self) -> None:
        for tensor, data, grad in self.arrays:
            tensor.data = data
            if tensor.is_parameter:
                tensor.grad = grad
        for layer, name, value in self.attributes:
            setattr(layer, name, value)
