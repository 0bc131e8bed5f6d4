"""Part of `capture`: neighbours on a tape that are cheaper together, by a table.

A step sees one op at a time; a tape can be read as a whole. Each entry of `TABLE` finds calls that belong together and
puts others in their place, with the same bits:

    relu, max pooling           pooled first: a quarter of the elements go through relu, and back
    cross entropy, its backward one pass over the logits, whose exponentials both need

A plugin brings more through the hook `tt_fused`: one kernel for two ops of which the second reads what the first
computed, such as a product with its bias and GELU, or a residual and the norm after it. Longer rows of ops are replaced
by a plugin itself, through the hook `tt_rewrite`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, cast

import numpy as np

from tt_core import activations, losses
from tt_core.engine.dispatch import Array, Op
from tt_core.engine.plugins import manager
from tt_core.kernels.losses import class_rows, counted_labels, reduced_rows, row_blocks
from tt_data import spatial
from tt_learn.kernels.losses import row_scale
from tt_learn.rules import activations as backward_of
from tt_learn.rules import losses as backward_of_losses
from tt_perf import hookspecs
from tt_perf.acceleration.capture.plan import reads, slots_in
from tt_perf.acceleration.capture.tape import Arrays, Call, Instruction, Job, Tape

Kernel = Callable[..., Any]

if not hasattr(manager.hook, "tt_fused"):
    manager.add_hookspecs(hookspecs)


class Uses:
    """Who computes and who reads each slot of a tape."""

    def __init__(self, tape: Tape) -> None:
        self.tape = tape
        self.readers: dict[int, list[Instruction]] = {}
        for each in tape.instructions:
            for slot in dict.fromkeys(reads(each)):
                self.readers.setdefault(slot, []).append(each)
        self._returned = set(slots_in(tape.result))

    def calls(self, op: Any) -> list[Call]:
        """The calls of an op."""
        return [each for each in self.tape.instructions if isinstance(each, Call) and each.op is op]

    def only(self, slot: int, *ops: Any) -> list[Call] | None:
        """The calls that read a slot, one of each of `ops` in this order; None if others read it too."""
        readers = self.readers.get(slot, [])
        if slot in self._returned or len(readers) != len(ops):
            return None
        calls = [each for op in ops for each in readers if isinstance(each, Call) and each.op is op]
        return calls if len(calls) == len(ops) else None

    def position(self, call: Call) -> int:
        """Where a call is on the tape."""
        return next(i for i, each in enumerate(self.tape.instructions) if each is call)

    def known_at(self, slot: int, call: Call) -> bool:
        """Whether a slot has been filled when a call runs."""
        if slot in self.tape.constants or slot in self.tape.arguments:
            return True
        before = self.tape.instructions[: self.position(call)]
        return any(isinstance(each, Call) and slot in each.results for each in before)

    def replace(self, old: dict[int, list[Call]]) -> None:
        """Puts other calls in the place of calls, which are named by `id`."""
        self.tape.instructions = [new for each in self.tape.instructions for new in old.get(id(each), [each])]


def fused(tape: Tape) -> Tape:
    """The tape with what `TABLE` and plugins put in the place of neighbours."""
    for rewrite in TABLE:
        rewrite(tape)
    return tape


def rewrites_of_plugins(tape: Tape) -> None:
    """Calls of several ops as one kernel of a plugin, which looks for them itself."""
    manager.hook.tt_rewrite(tape=tape)


# --- relu and max pooling


def pool_before_relu(tape: Tape) -> None:
    """The largest of some numbers, or 0 if all are negative: relu of the largest is the largest relu.

    Backward, the gradient of the pooled numbers goes through relu first, and then to their places. Where relu cut a
    number, its gradient is 0 in either order.
    """
    for relu in Uses(tape).calls(activations.relu):
        uses = Uses(tape)
        forward = uses.only(relu.results[0], spatial.max_pool2d)
        trained = uses.only(relu.results[0], spatial.max_pool2d, backward_of.relu_backward)
        pools = forward or trained
        if pools is None or len(pools[0].results) != 2:
            continue
        pool = pools[0]
        if forward and not uses.readers.get(pool.results[1]):
            uses.replace({id(relu): [], id(pool): _pooled(tape, relu, pool)})
        elif trained and (back := _backward_of(uses, relu, *trained)):
            uses.replace({id(relu): [], id(pool): _pooled(tape, relu, pool), **back})


def _backward_of(uses: Uses, relu: Call, pool: Call, relu_back: Call) -> dict[int, list[Call]]:
    """Backward in the new order, for `Uses.replace`; empty unless it goes from the pool to relu alone."""
    pool_back = uses.only(pool.results[1], spatial.max_pool2d_backward)
    if pool_back is None or uses.only(pool_back[0].results[0], backward_of.relu_backward) != [relu_back]:
        return {}
    if relu_back.inputs != (pool_back[0].results[0], relu.results[0]):
        return {}
    g, between = pool_back[0].inputs[0], _new_slot(uses.tape)
    first = replace(relu_back, inputs=(g, pool.results[0]), results=(between,), shapes=pool.shapes[:1], views=(None,))
    second = replace(pool_back[0], inputs=(between, *pool_back[0].inputs[1:]), results=relu_back.results)
    return {id(pool_back[0]): [], id(relu_back): [first, second]}


def _pooled(tape: Tape, relu: Call, pool: Call) -> list[Call]:
    raw = _new_slot(tape)
    return [
        replace(pool, inputs=relu.inputs, results=(raw, *pool.results[1:])),
        replace(relu, inputs=(raw,), results=pool.results[:1], shapes=pool.shapes[:1], views=(None,)),
    ]


# --- cross entropy and its gradient


def loss_with_gradient(tape: Tape) -> None:
    """The loss and its gradient share the exponentials, where the gradient of the loss itself is known before."""
    uses = Uses(tape)
    for loss in uses.calls(losses.cross_entropy):
        back = _gradient_of_loss(uses, loss)
        if back is not None and uses.known_at(back.inputs[0], loss):
            both = replace(
                loss,
                kernel=cross_entropy_with_gradient,
                inputs=(*loss.inputs[:2], back.inputs[0]),
                attributes={name: loss.attributes[name] for name in ("ignore_index", "reduction")},
                results=(loss.results[0], *back.results),
                shapes=(loss.shapes[0], *back.shapes),
                views=(None, None),
            )
            uses.replace({id(loss): [both], id(back): []})


def _gradient_of_loss(uses: Uses, loss: Call) -> Call | None:
    """The backward of a cross entropy, if both run on the framework's kernels, without weights and smoothing."""
    sums = loss.results[1:]
    found = [uses.only(slot, backward_of_losses.cross_entropy_backward) for slot in sums]
    if len(found) != 2 or found[0] is None or found[0] != found[1]:
        return None
    back, ours = found[0][0], (losses.cross_entropy.kernel, backward_of_losses.cross_entropy_backward.kernel)
    same = back.inputs[1:5] == (*loss.inputs[:2], *sums) and back.attributes == loss.attributes
    plain = not loss.attributes["label_smoothing"] and loss.attributes["reduction"] != "none"
    unweighted = all(uses.tape.constants.get(call.inputs[-1], ...) is None for call in (loss, back))
    return back if (loss.kernel, back.kernel) == ours and same and plain and unweighted else None


def cross_entropy_with_gradient(
    x: Array, target: Array, g: Array, /, ignore_index: int, reduction: str
) -> tuple[Array, Array]:
    """Cross entropy of x (rows, classes) with labels (rows,), and its gradient for x where that of the loss is `g`.

    0.84 of the time of the two kernels on (64, 10), 0.7 on (1024, 1024).
    """
    if x.dtype not in (np.float32, np.float64) or x.ndim != 2 or target.dtype.kind == "f":
        return _one_by_one(x, target, g, ignore_index, reduction)
    labels, kept, weights = counted_labels(x, target, None, ignore_index)
    rows, at = class_rows(x), np.arange(len(x))
    scale = row_scale(g, len(rows), kept, weights, reduction)
    result, right = np.empty(rows.shape, rows.dtype), rows[at, labels]
    loss = np.empty(len(rows), rows.dtype)
    for block in row_blocks(rows):
        peak, total = _softmax_parts(rows[block], result[block])
        share = (scale if len(scale) == 1 else scale[block]) / total
        result[block] *= share[:, None]
        np.log(total, out=total)
        total -= np.subtract(right[block], peak, out=peak)
        loss[block] = total
    result[at, labels] -= scale
    if kept is not None:
        loss = np.where(kept, weights * loss, 0)
    return reduced_rows(loss, weights, reduction, target.shape), result


def _softmax_parts(rows: Array, out: Array) -> tuple[Array, Array]:
    """The exponentials of a block in `out`, the largest element of each row and their sum, as the kernel has them."""
    if rows.shape[1] > 64:
        peak = np.maximum.reduce(rows, axis=1)
        np.exp(np.subtract(rows, peak[:, None], out=out), out=out)
        return peak, np.einsum("nc->n", out)
    columns = np.array(rows.T, order="C")
    peak = np.maximum.reduce(columns, axis=0)
    columns -= peak
    np.exp(columns, out=columns)
    out[...] = columns.T
    return peak, np.add.reduce(columns, axis=0)


def _one_by_one(x: Array, target: Array, g: Array, ignore_index: int, reduction: str) -> tuple[Array, Array]:
    options = (ignore_index, reduction)
    loss, peak, total = losses.cross_entropy.kernel(x, target, None, *options)
    return loss, backward_of_losses.cross_entropy_backward.kernel(g, x, target, peak, total, None, *options)


cross_entropy_with_gradient.checks = True  # type: ignore[attr-defined]


# --- what plugins fuse


def pairs_of_plugins(tape: Tape) -> None:
    """Calls of two ops, the second of which reads the result of the first, as one kernel of a plugin."""
    answered: dict[Any, Kernel | None] = {}
    for first in [each for each in tape.instructions if isinstance(each, Call)]:
        uses = Uses(tape)
        for second in _seconds(uses, first):
            ops = first.op, second.op
            if ops not in answered:
                answered[ops] = _kernel_for(*ops)
            kernel = answered[ops]
            others = second.inputs[1:]
            if kernel is None or first.results[0] in others or not all(uses.known_at(slot, first) for slot in others):
                continue
            uses.replace({id(first): [_both(kernel, first, second)], id(second): []})
            break


def _both(kernel: Kernel, first: Call, second: Call) -> Call:
    """One call in the place of two, by the plugin's kernel."""
    return Call(
        first.op,
        _joined(kernel, first, second),
        (*first.inputs, *second.inputs[1:]),
        {},
        (*first.results, *second.results),
        (*first.shapes, *second.shapes),
        (*first.views, *[None] * len(second.results)),
    )


def _kernel_for(first: Op, second: Op) -> Kernel | None:
    """The first answer to `tt_fused`; None where a plugin that came later has its own kernel for one of the ops."""
    fuser, kernel = manager.first_answer("tt_fused", first=first, second=second)
    if kernel is None:
        return None
    plugged = [plugin for _, plugin in manager.list_name_plugin()]
    others = [manager.first_answer("tt_kernel", op=op)[0] for op in (first, second)]
    came_later = any(other is not None and plugged.index(other) > plugged.index(fuser) for other in others)
    return None if came_later else cast(Kernel, kernel)


def _seconds(uses: Uses, first: Call) -> Iterator[Call]:
    if not first.op.random:
        for each in uses.readers.get(first.results[0], []):
            if isinstance(each, Call) and not each.op.random and each.inputs[0] == first.results[0]:
                yield each


def _joined(kernel: Kernel, first: Call, second: Call) -> Kernel:
    """The plugin's kernel, or the two kernels where it returns None; the checks of both run."""
    count = len(first.inputs)

    def joined(*inputs: Any) -> Any:
        check(first, *inputs[:count])
        returned = kernel(inputs[:count], first.attributes, inputs[count:], second.attributes)
        if returned is None:
            results = _as_tuple(first.kernel(*inputs[:count], **first.attributes))
            return *results, *_as_tuple(second.kernel(results[0], *inputs[count:], **second.attributes))
        check(second, returned[0], *inputs[count:])
        return returned

    def as_job(inputs: Arrays, results: Arrays, attributes: Any, failed: Array) -> Job | None:
        made: Job | None = kernel.as_job(  # type: ignore[attr-defined]
            inputs[:count], first.attributes, inputs[count:], second.attributes, results, failed
        )
        return made

    joined.checks = True  # type: ignore[attr-defined]
    if hasattr(kernel, "as_job"):
        joined.as_job = as_job  # type: ignore[attr-defined]
    return joined


def check(call: Call, *inputs: Any) -> None:
    """Runs the check of a call's op, unless its kernel does."""
    if call.op.check is not None and not getattr(call.kernel, "checks", False):
        call.op.check(*inputs, **call.attributes)


def _as_tuple(returned: Any) -> tuple[Any, ...]:
    return returned if type(returned) is tuple else (returned,)


def _new_slot(tape: Tape) -> int:
    tape.slots += 1
    return tape.slots - 1


TABLE: list[Callable[[Tape], None]] = [pool_before_relu, loss_with_gradient, rewrites_of_plugins, pairs_of_plugins]
