"""Part of module 16: the Linear layers of a model replaced by products of two thin ones, where that pays."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tt_core.engine.arguments import checked, explained
from tt_core.engine.errors import is_integer, is_number
from tt_core.layers import Layer, Linear, replace_layers
from tt_perf.compression.low_rank import LowRankLinear, decomposable, rank_of
from tt_perf.compression.masks import prunable
from tt_perf.compression.reports import CompressionError, Report, cost


@explained
@checked
def low_rank_(
    model: Layer,
    *,
    rank: int | None = None,
    energy: float | None = None,
    error: float | None = None,
    filter_fn: Callable[[Layer, str], bool] | None = None,
    example: Any = None,
) -> Report:
    """Replace each Linear layer below `model` whose low-rank product has fewer numbers, and report all of them.

    Give one of `rank`, `energy` (share of the squared singular values to keep) and `error` (largest relative error of
    a weight). `filter_fn`: which layers, by `(layer, path)`; a weight that other layers share is left alone. `example`:
    an input, or a tuple of them, on which FLOPs and time are measured. Parameters are new: make the optimizer
    afterwards. Raises `CompressionError` for other options, and for a layer that is masked or is the model itself.

    >>> import tt_core
    >>> model = tt_core.Sequential(tt_core.Linear(64, 64), tt_core.ReLU(), tt_core.Linear(64, 2))
    >>> print("\\n".join(low_rank_(model, rank=8).layers))
    0: rank 8 of 64, relative error ...
    2: rank 2 of 2 does not pay: 132 numbers, dense has 128
    """
    _check_options(rank, energy, error)
    chosen = [w for w in prunable(model, filter_fn, "low_rank_") if type(w.layer) is Linear]
    paths = {id(layer): path for path, layer in model.named_modules()}
    if any(w.mask is not None or not paths[id(w.layer)] for w in chosen) or not chosen:
        raise CompressionError(
            "low_rank_: needs Linear layers below the model, and without masks, which a product would not keep; "
            "choose by filter_fn, or remove_masks_ first"
        )
    before, rows, ranks = cost(model, example), [], dict[Layer, int]()
    for w in chosen:
        dense: Any = w.layer
        singular = np.linalg.svd(decomposable(dense.weight.data), compute_uv=False)
        r = min(rank, len(singular)) if rank is not None else rank_of(singular, energy=energy, error=error)
        path, size = paths[id(dense)], r * (dense.in_features + dense.out_features)
        if size >= dense.weight.numel():
            what = f"does not pay: {size:,} numbers, dense has {dense.weight.numel():,}"
            rows.append(f"{path}: rank {r} of {len(singular)} {what}")
            continue
        ranks[dense] = r
        left_out = np.sqrt(np.square(singular[r:]).sum() / max(np.square(singular).sum(), np.finfo(np.float32).tiny))
        rows.append(f"{path}: rank {r} of {len(singular)}, relative error {left_out:.4f}")
    replace_layers(model, lambda layer, path: layer in ranks, lambda layer: LowRankLinear.of(layer, ranks[layer]))
    after = cost(model, example)
    return Report("low_rank_", before, after, tuple(rows), _slower(before.seconds, after.seconds))


def _slower(before: float | None, after: float | None) -> tuple[str, ...]:
    """What to say where fewer numbers take more time: two calls of BLAS on thin matrices in place of one."""
    if before is None or after is None or after < before:
        return ()
    return (f"does not pay in time on this example: {after / before:.2f}x",)


def _check_options(rank: Any, energy: Any, error: Any) -> None:
    if sum(given is not None for given in (rank, energy, error)) != 1:
        raise CompressionError("low_rank_: give one of rank, energy and error")
    if rank is not None and not is_integer(rank, 1):
        raise CompressionError(f"low_rank_: rank is {rank!r}, expected a whole number of at least 1")
    for name, share in (("energy", energy), ("error", error)):
        if share is not None and not (is_number(share) and 0 < share <= 1):
            raise CompressionError(f"low_rank_: {name} is {share!r}, expected a share above 0 and up to 1")
