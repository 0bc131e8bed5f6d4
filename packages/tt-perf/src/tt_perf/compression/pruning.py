"""Part of module 16: pruning by masks. Weights of little effect become zero and stay zero.

    score     |W| (Han et al. 2015), random, or |W_ij| ||x_j|| of calibration inputs (Wanda, Sun et al. 2023)
    mask      1 for the best scores of the whole model, each layer or each row, or for N of each M neighbours in a row
    W <- W * mask, once now and again after each step of an optimizer

**A mask saves neither bytes nor time**: zeros in a dense array are numbers like any others, and `prune_` says so. It
shows how little of a network is needed; removing it is what `shrinking.py` does. Amounts are always shares of the
original weights, so a schedule that ends at 30 % leaves 70 % of them. A mask is the buffer `weight_mask` beside its
parameter, so it is saved, loaded and copied with the model.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from tt_core.engine import mutation
from tt_core.engine.arguments import checked, explained
from tt_core.engine.dispatch import Array
from tt_core.engine.errors import is_integer, is_number
from tt_core.engine.hookspecs import hookimpl
from tt_core.engine.plugins import manager
from tt_core.layers import Layer, Linear
from tt_core.random import generator
from tt_core.tensor import Tensor
from tt_data.spatial.convolution import Convolution
from tt_data.torch_names import ConvTranspose2d
from tt_learn.optimizers import Optimizer
from tt_learn.training import Callback, Trainer, evaluating
from tt_perf.compression.reports import MASK, CompressionError, Report, arguments, cost

Filter = Callable[[Layer, str], bool]
DENSE = "bytes and time unchanged: zeros in a dense array"


@dataclass(frozen=True)
class Weight:
    """A parameter that may be pruned: the layer that holds it, its name there and its dotted name in the model."""

    layer: Layer
    name: str
    path: str

    @property
    def tensor(self) -> Tensor:
        """The parameter."""
        return self.layer._parameters[self.name]

    @property
    def mask(self) -> Array | None:
        """Its mask, None before the first pruning."""
        held = self.layer._buffers.get(self.name + MASK)
        return None if held is None else held.data


# --- scores: what is least is pruned first


def magnitude(weight: Array) -> Array:
    """The absolute values (Han et al. 2015, arXiv:1506.02626).

    >>> magnitude(np.array([-2.0, 1.0]))
    array([2., 1.])
    """
    return np.abs(weight)


def wanda(weight: Array, norms: Array) -> Array:
    """|W_ij| * ||x_j||: a weight matters as much as what it is multiplied by (Sun et al. 2023, arXiv:2306.11695).

    `norms` broadcasts to `weight`: (1, in) for a weight (out, in).

    >>> wanda(np.array([[3.0, 1.0]]), np.array([[1.0, 10.0]]))
    array([[ 3., 10.]])
    """
    return np.abs(weight) * norms


# --- masks


def keep_best(scores: Array, pruned: int) -> Array:
    """True but for exactly `pruned` elements, those of the lowest scores.

    >>> keep_best(np.array([3.0, 1.0, 2.0]), 1)
    array([ True, False,  True])
    """
    keep = np.ones(scores.size, bool)
    if pruned:
        keep[np.argpartition(scores.reshape(-1), pruned - 1)[:pruned]] = False
    return keep.reshape(scores.shape)


def keep_best_of_rows(scores: Array, pruned: int) -> Array:
    """True but for `pruned` elements of each row, (out, ...), those of the lowest scores.

    >>> keep_best_of_rows(np.array([[3.0, 1.0, 2.0], [7.0, 8.0, 9.0]]), 1)
    array([[ True, False,  True],
           [False,  True,  True]])
    """
    return np.stack([keep_best(row, pruned) for row in scores])


def keep_best_of_groups(scores: Array, n: int, m: int) -> Array:
    """The best `n` of each `m` neighbours along the inputs, (out, in) (2:4 in Mishra et al. 2021, arXiv:2104.08378).

    >>> keep_best_of_groups(np.array([[4.0, 1.0, 2.0, 3.0]]), 2, 4)
    array([[ True, False, False,  True]])
    """
    groups = scores.reshape(-1, m)
    keep = np.zeros(groups.shape, bool)
    np.put_along_axis(keep, np.argsort(-groups, axis=1, kind="stable")[:, :n], True, axis=1)
    return keep.reshape(scores.shape)


# --- the pruner


@explained
@checked
def prune_(
    model: Layer,
    amount: float | int | None = None,
    *,
    method: str = "magnitude",
    scope: str | None = None,
    pattern: tuple[int, int] | None = None,
    calibration: Iterable[Any] | None = None,
    filter_fn: Filter | None = None,
    example: Any = None,
) -> Report:
    """Set weights of `model` to zero, keep them zero while it is trained on, and report what that changed.

    amount: share of the original weights (a float below 1), or their number (an integer), pruned earlier ones included.
    method: "magnitude", "random" or "wanda", which needs `calibration`, an iterable of the model's inputs.
    scope: "global" compares all weights with each other, "layer" prunes the same share of each layer, "row" of each
        row, that is output. By default "row" for Wanda, whose scores are made for that, and "global" otherwise.
    pattern: (n, m) in place of an amount: the best n of each m neighbours in a row are kept, such as (2, 4).
    filter_fn: which layers, by `(layer, path)`; all Linear and convolution layers by default. A weight that other
        layers share is left alone.
    example: an input, or a tuple of them, on which FLOPs and time are measured.

    Raises `CompressionError` where a layer would be emptied, and where a mask would have to give weights back.

    >>> import tt_core
    >>> model = tt_core.Linear(4, 2, bias=False)
    >>> report = prune_(model, 0.5)
    >>> report.sparsity, report.bytes_ratio, report.notes[0]
    (0.5, 1.0, 'bytes and time unchanged: zeros in a dense array')
    """
    before = cost(model, example)
    masks = _prune(model, amount, method, scope, pattern, calibration, filter_fn)
    after = cost(model, example)
    rows = tuple(f"{path}: {np.mean(~mask):.1%} of {mask.size:,} are zero" for path, mask in masks.items())
    return Report(f"prune_: {method}", before, after, rows, (DENSE, f"masks take {after.mask_bytes:,} bytes more"))


def _prune(
    model: Layer,
    amount: Any = None,
    method: str = "magnitude",
    scope: str | None = None,
    pattern: tuple[int, int] | None = None,
    calibration: Any = None,
    filter_fn: Filter | None = None,
) -> dict[str, Array]:
    """Score, choose and apply: the new masks by the names of their weights."""
    weights = prunable(model, filter_fn)
    scope = scope if scope is not None else "row" if method == "wanda" else "global"
    _check_options(amount, method, scope, pattern, calibration)
    scores = [_with_earlier(w, s) for w, s in zip(weights, _scores(model, weights, method, calibration))]
    if pattern is not None:
        masks = [_pattern_mask(w, s, *pattern) for w, s in zip(weights, scores)]
    else:
        masks = _amount_masks(weights, scores, amount, scope)
    for weight, mask in zip(weights, masks):
        if not mask.any():
            raise CompressionError(
                f"prune_: {weight.path} would be left empty; prune less, or leave it out by filter_fn"
            )
    for weight, mask in zip(weights, masks):
        set_mask(weight.layer, weight.name, mask)
    return {weight.path: mask for weight, mask in zip(weights, masks)}


def prunable(model: Layer, filter_fn: Filter | None = None) -> list[Weight]:
    """The weights that `prune_` works on; raises `CompressionError` where there are none."""
    holders: dict[int, int] = {}
    for layer in model.modules():
        for parameter in layer._parameters.values():
            holders[id(parameter)] = holders.get(id(parameter), 0) + 1
    found = [
        Weight(layer, "weight", f"{path}.weight" if path else "weight")
        for path, layer in model.named_modules()
        if isinstance(layer, (Linear, Convolution))
        and holders[id(layer.weight)] == 1
        and (filter_fn is None or filter_fn(layer, path))
    ]
    if not found:
        raise CompressionError(f"prune_: {type(model).__name__} has no weights to prune; see filter_fn")
    return found


def _check_options(amount: Any, method: Any, scope: Any, pattern: Any, calibration: Any) -> None:
    if (amount is None) == (pattern is None):
        raise CompressionError("prune_: give one of amount and pattern")
    if method not in ("magnitude", "random", "wanda"):
        raise CompressionError(f"prune_: method is {method!r}, expected magnitude, random or wanda")
    if scope not in ("global", "layer", "row"):
        raise CompressionError(f"prune_: scope is {scope!r}, expected global, layer or row")
    if (method == "wanda") != (calibration is not None):
        raise CompressionError("prune_: calibration inputs and method='wanda' need each other")
    if pattern is not None:
        fine = isinstance(pattern, tuple) and len(pattern) == 2 and all(is_integer(n, 1) for n in pattern)
        if not fine or pattern[0] >= pattern[1]:
            raise CompressionError(f"prune_: pattern is {pattern!r}, expected (n, m) with 0 < n < m such as (2, 4)")


def count_of(amount: Any, total: int, what: str) -> int:
    """How many of `total` an amount means: a float is a share, an integer a count; raises `CompressionError`.

    >>> count_of(0.25, 8, "prune_"), count_of(3, 8, "prune_")
    (2, 3)
    """
    if isinstance(amount, bool) or not is_number(amount):
        raise CompressionError(f"{what}: amount is {amount!r}, expected a share below 1 or a whole number")
    if is_integer(amount, 0):
        count = int(amount)
    elif 0 <= amount < 1:
        count = round(amount * total)
    else:
        raise CompressionError(f"{what}: amount is {amount!r}, expected a share of at least 0 and below 1, or a count")
    if count >= total > 0:
        raise CompressionError(f"{what}: amount {amount!r} would leave none of {total:,}; give less")
    return count


def _scores(model: Layer, weights: list[Weight], method: str, calibration: Any) -> list[Array]:
    if method == "random":
        return [generator().random(w.tensor.shape) for w in weights]
    if method == "magnitude":
        return [magnitude(w.tensor.data) for w in weights]
    norms = input_norms(model, weights, calibration)
    return [wanda(w.tensor.data, _for_weight(w.layer, norms[id(w.layer)])) for w in weights]


def _for_weight(layer: Any, norms: Array) -> Array:
    """Norms of the inputs in the places of the weights that they are multiplied by."""
    ones = (1,) * (layer.weight.ndim - 2)
    if isinstance(layer, Linear):
        return norms.reshape(1, -1)
    if isinstance(layer, ConvTranspose2d):  # (in, out / groups, ...)
        return norms.reshape(-1, 1, *ones)
    grouped = norms.reshape(layer.groups, -1, *ones)  # each group of filters reads channels of its own
    return grouped.repeat(layer.out_channels // layer.groups, axis=0)


def _with_earlier(weight: Weight, scores: Array) -> Array:
    """What was pruned before goes first again, so that amounts are shares of the original."""
    return scores if weight.mask is None else np.where(weight.mask, scores, -np.inf)


def _amount_masks(weights: list[Weight], scores: list[Array], amount: Any, scope: str) -> list[Array]:
    if scope == "row":
        return [_row_mask(w, s, amount) for w, s in zip(weights, scores)]
    if scope == "layer":
        return [keep_best(s, _grown(amount, [w])) for w, s in zip(weights, scores)]
    together = np.concatenate([s.reshape(-1) for s in scores])
    keep, ends = keep_best(together, _grown(amount, weights)), np.cumsum([s.size for s in scores])
    return [part.reshape(s.shape) for part, s in zip(np.split(keep, ends[:-1]), scores)]


def _row_mask(weight: Weight, scores: Array, amount: Any) -> Array:
    keep = keep_best_of_rows(scores, count_of(amount, scores[0].size, f"prune_: a row of {weight.path}"))
    _check_grows(weight, keep)
    return keep


def _check_grows(weight: Weight, keep: Array) -> None:
    if weight.mask is not None and (keep & ~weight.mask).any():
        raise CompressionError(
            f"prune_: {weight.path} has a mask that leaves less in some row, and masks only grow; remove_masks_ first"
        )


def _grown(amount: Any, weights: list[Weight]) -> int:
    """How many of these are pruned; a mask only grows."""
    where = weights[0].path if len(weights) == 1 else "the model"
    count = count_of(amount, sum(w.tensor.numel() for w in weights), f"prune_: {where}")
    earlier = sum(int((~w.mask).sum()) for w in weights if w.mask is not None)
    if count < earlier:
        raise CompressionError(
            f"prune_: {where} has {earlier:,} pruned weights, and amount {amount!r} means {count:,}, which would give "
            f"some back; amounts are of the original: give more, or remove_masks_ first"
        )
    return count


def _pattern_mask(weight: Weight, scores: Array, n: int, m: int) -> Array:
    if scores[0].size % m:
        raise CompressionError(f"prune_: {weight.path} has rows of {scores[0].size}, which {m} does not divide")
    keep = keep_best_of_groups(scores, n, m)
    _check_grows(weight, keep)
    return keep


def input_norms(model: Layer, weights: list[Weight], calibration: Iterable[Any]) -> dict[int, Array]:
    """||x_j|| of each input feature (or channel) of each layer over all calibration inputs, by the layer's `id`.

    Raises `CompressionError` for a layer that no input reaches.
    """
    watcher = _Inputs({id(w.layer) for w in weights})
    manager.register(watcher)
    try:
        with evaluating(model):
            for batch in calibration:
                model(*arguments(batch))
    finally:
        manager.unregister(watcher)
    for w in weights:
        if not np.isfinite(watcher.squares.get(id(w.layer), np.nan)).all():
            raise CompressionError(f"prune_: {w.path} saw no finite calibration input; leave it out by filter_fn")
    return {which: np.sqrt(squares) for which, squares in watcher.squares.items()}


class _Inputs:
    """A plugin for one calibration: sums up the squares of what goes into the layers it is told."""

    def __init__(self, wanted: set[int]) -> None:
        self.wanted = wanted
        self.squares: dict[int, Array] = {}

    @hookimpl
    def tt_wrap_layer(self, layer_type: type[Layer], call: Callable[..., Any]) -> Callable[..., Any] | None:
        if not issubclass(layer_type, (Linear, Convolution)):
            return None

        def watched(layer: Layer, x: Any, *rest: Any, **options: Any) -> Any:
            if id(layer) in self.wanted:
                axis = x.ndim - 1 if isinstance(layer, Linear) else x.ndim - layer._parameters["weight"].ndim + 1
                others = tuple(i for i in range(x.ndim) if i != axis)
                squares = np.square(x.data, dtype=np.float64).sum(others)
                self.squares[id(layer)] = self.squares.get(id(layer), 0) + squares
            return call(layer, x, *rest, **options)

        return watched


# --- masks of a model


def set_mask(layer: Layer, name: str, mask: Array) -> None:
    """Give the parameter `name` of `layer` a mask, (its shape) and True for what is kept, and apply it from now on.

    Raises `CompressionError` for a mask of another shape.

    >>> import tt_core
    >>> layer = tt_core.Linear(2, 1, bias=False)
    >>> set_mask(layer, "weight", np.array([[True, False]]))
    >>> layer.weight.detach()[0, 1].item(), sorted(layer.state_dict())
    (0.0, ['weight', 'weight_mask'])
    """
    parameter = layer._parameters[name]
    if mask.shape != parameter.shape:
        raise CompressionError(f"set_mask: the mask is {mask.shape}, {name} is {parameter.shape}")
    held = Tensor(np.array(mask, bool))
    layer.register_buffer(name + MASK, held)
    parameter.pruning_mask = held  # type: ignore[attr-defined]  # found here after a step, and copied with it
    apply_mask(parameter)
    if not manager.is_registered(keeper):
        manager.register(keeper, "pruning-masks")


def apply_mask(parameter: Any) -> None:
    """W <- W * mask, in place; nothing for a parameter without a mask."""
    held = getattr(parameter, "pruning_mask", None) if "pruning_mask" in parameter.__dict__ else None
    if held is not None:
        np.copyto(parameter.data, 0, where=~held.data)  # a product would keep nan, and make -0
        mutation.record(parameter.data)


class MaskKeeper:
    """The plugin behind `prune_`: masks hold again after each step, which weight decay and momentum have moved."""

    @hookimpl
    def tt_observe_step(self, optimizer: type[Optimizer]) -> Callable[[Optimizer], None]:
        return self.after_step

    @staticmethod
    def after_step(optimizer: Optimizer) -> None:
        """Apply the masks of the optimizer's parameters."""
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                apply_mask(parameter)


keeper = MaskKeeper()


def named_masks(model: Layer) -> Iterator[tuple[str, Array]]:
    """The masks of a model by the dotted names of their parameters."""
    for path, buffer in model.named_buffers():
        if path.endswith(MASK):
            yield path.removesuffix(MASK), buffer.data


@checked
def remove_masks_(model: Layer) -> None:
    """Forget all masks; the weights are as they are, and training may change each of them again.

    >>> import tt_core
    >>> model = tt_core.Linear(4, 2)
    >>> _ = prune_(model, 0.5)
    >>> remove_masks_(model)
    >>> sorted(model.state_dict())
    ['bias', 'weight']
    """
    for layer in model.modules():
        for name in [name for name in layer._buffers if name.endswith(MASK)]:
            parameter = layer._parameters[name.removesuffix(MASK)]
            del parameter.pruning_mask  # type: ignore[attr-defined]
            delattr(layer, name)


# --- schedules


def gradual_amount(step: int, begin: int, end: int, final: float, initial: float = 0.0) -> float:
    """Share of the original that is pruned at a step: fast at first, when much is redundant, then slowly.

    final + (initial - final) (1 - (step - begin) / (end - begin))^3 (Zhu and Gupta 2017, arXiv:1710.01878).

    >>> [round(gradual_amount(step, 0, 4, 0.8), 3) for step in range(6)]
    [0.0, 0.463, 0.7, 0.788, 0.8, 0.8]
    """
    progress = min(max((step - begin) / (end - begin), 0.0), 1.0)
    return final + (initial - final) * (1 - progress) ** 3


class GradualPruning(Callback):
    """Prunes a model while a `Trainer` trains it, from nothing at step `begin` to the share `final` at step `end`.

    Masks of ones are there from the start, so that a checkpoint of any step fits the model that resumes it. `options`
    are those of `prune_`, but for `example` and `pattern`. Raises `CompressionError` as `prune_` does, and for a first
    step that does not come before the last.

    >>> import tt_core, tt_learn
    >>> model = tt_core.Linear(10, 1, bias=False)
    >>> batches = [(tt_core.ones(2, 10), tt_core.ones(2, 1))]
    >>> pruning = GradualPruning(model, 0.3, end=6)
    >>> trainer = tt_learn.Trainer(model, tt_learn.SGD(model.parameters()), tt_core.mse_loss, callbacks=[pruning])
    >>> _ = trainer.fit(batches, steps=6)
    >>> sum(weight == 0 for weight in model.weight.flatten().tolist())
    3
    """

    @checked
    def __init__(self, model: Layer, final: float, *, end: int, begin: int = 0, every: int = 1, **options: Any) -> None:
        if not (is_number(final) and 0 < final < 1):
            raise CompressionError(f"GradualPruning: final is {final!r}, expected a share between 0 and 1")
        if not (is_integer(begin, 0) and is_integer(end, begin + 1) and is_integer(every, 1)):
            raise CompressionError(f"GradualPruning: needs steps 0 <= begin < end, got begin={begin!r}, end={end!r}")
        self.final, self.begin, self.end, self.every, self.options = final, begin, end, every, options
        for weight in prunable(model, options.get("filter_fn")):
            if weight.mask is None:
                set_mask(weight.layer, weight.name, np.ones(weight.tensor.shape, bool))

    def on_step_end(self, trainer: Trainer) -> None:
        due = (trainer.step - self.begin) % self.every == 0 and trainer.step < self.end
        if self.begin < trainer.step and (due or trainer.step == self.end):
            _prune(trainer.model, gradual_amount(trainer.step, self.begin, self.end, self.final), **self.options)
