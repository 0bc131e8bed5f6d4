"""The hooks of tt_learn: how an optimizer changes a parameter, what follows each step, and what wraps a backward pass.

The specifications are added to the plugin manager when `tt_learn` is imported. Answers are looked up once per class of
optimizer, and again when a plugin is plugged in or out.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from tt_core.engine.hookspecs import hookspec

if TYPE_CHECKING:
    from tt_learn.autograd.backward import Backward, Roots
    from tt_learn.optimizers import Optimizer
    from tt_learn.training import Trainer


@hookspec(firstresult=True)
def tt_update(optimizer: type[Optimizer]) -> Callable[..., Any] | None:
    """Another `update` for this class of optimizer, or None: a function `(optimizer, p, g, state, step, group)`.

    It changes `p` and `state` in place as `optimizer.update` does, and may use the two arrays `state.work` as scratch
    memory. The first answer wins.

    The function may have an attribute `together`, a function `(optimizer, group, blocks, due)` that updates many blocks
    in one call: `due` lists those of `blocks` (`tt_learn.optimizers.blocks`) that have gradients. It counts their
    steps, and returns the blocks that it leaves to the update itself.
    """


@hookspec
def tt_observe_step(optimizer: type[Optimizer]) -> Callable[[Optimizer], None] | None:
    """A function `(optimizer)` called after each step of an optimizer of this class, or None. Collected.

    It restores what must hold for parameters after every update, such as a pruning mask.
    """


@hookspec
def tt_wrap_step(optimizer: type[Optimizer], call: Callable[..., Any]) -> Callable[..., Any] | None:
    """`call(optimizer, closure)`, a step of an optimizer of this class, wrapped; or None. Chained."""


@hookspec
def tt_wrap_train_step(call: Callable[[Trainer, list[Any]], float]) -> Callable[[Trainer, list[Any]], float] | None:
    """`call(trainer, batches)`, a step of a `Trainer` that returns the loss, wrapped; or None. Chained."""


@hookspec
def tt_wrap_backward(call: Callable[[Backward, Roots], None]) -> Callable[[Backward, Roots], None] | None:
    """`call(walk, roots)`, one whole backward pass, wrapped; or None. Chained.

    The walk calls `walk.visit(node, gradients)` for each recorded call; setting that attribute watches each visit. A
    node is the `grad_fn` of what its op returned (see docs/plugins.md, "Layers and phases").
    """
