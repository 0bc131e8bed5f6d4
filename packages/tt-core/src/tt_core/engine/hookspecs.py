"""The hooks of tt_core: what it asks its plugins. Answers are bound when a plugin is plugged in or out.

Three words say what becomes of several answers. *The first answer wins*: the plugin that was plugged in last is asked
first. *Collected*: all answers count. *Chained*: each plugin gets what the one before it made. The nesting, from the
inside out, is

    kernel  <  observers (gradients)  <  wraps marked trylast (memo)  <  plain wraps, in order of
    registration  <  wraps marked tryfirst (profiler)

`@hookimpl(tryfirst=True)` makes a plugin the first one asked and its wrap the outermost, `trylast=True` the last one
and the innermost. Later acts add hooks of their own to the same manager with `manager.add_hookspecs`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

import pluggy

if TYPE_CHECKING:
    from pathlib import Path

    import click

    from tt_core.command.journey import Milestone, Module
    from tt_core.engine.dispatch import Op
    from tt_core.engine.effects import Effect
    from tt_core.layers import Layer
    from tt_core.samples import Draw, Samples
    from tt_core.tensor.tensor import Tensor

hookspec = pluggy.HookspecMarker("tinytorch")
hookimpl = pluggy.HookimplMarker("tinytorch")


@hookspec(firstresult=True)
def tt_kernel(op: Op) -> Callable[..., Any] | None:
    """Another kernel for `op`, a function on arrays with the same signature, or None. The first answer wins.

    It is called for all inputs; what it does not cover it passes to `op.kernel`, the framework's kernel.
    """


@hookspec
def tt_wrap_op(op: Op, call: Callable[..., Any]) -> Callable[..., Any] | None:
    """`call`, which takes and returns tensors, wrapped in something of yours; or None. Chained."""


@hookspec(firstresult=True)
def tt_tensor_type() -> type[Tensor] | None:
    """The subclass of Tensor that ops and creation functions hand back. The first answer wins."""


@hookspec
def tt_observe_op(op: Op) -> Callable[..., None] | None:
    """A function `(op, inputs, attributes, output)` called after each call of `op`, or None. Collected."""


@hookspec
def tt_wrap_layer(layer_type: type[Layer], call: Callable[..., Any]) -> Callable[..., Any] | None:
    """`call(layer, *inputs)`, the forward of every layer of this type, wrapped; or None. Chained."""


@hookspec
def tt_wrap_effect(effect: Effect, call: Callable[..., Any]) -> Callable[..., Any] | None:
    """`call`, a function beside the ops that changes tensors in place, such as clipping, wrapped; or None. Chained."""


@hookspec
def tt_modules() -> Iterable[Module]:
    """The modules of the journey that this package brings. Collected from the entry points in `tinytorch.acts`."""


@hookspec
def tt_milestones() -> Iterable[Milestone]:
    """The milestones that this package can run. Collected from the entry points in `tinytorch.acts`."""


@hookspec(firstresult=True)
def tt_dataset(name: str, data_dir: Path | None) -> Any:
    """The dataset `name` for a milestone, from `data_dir` or from where you keep yours, or None.

    "mnist": four arrays, training images (60000, 28, 28) uint8 and labels (60000,), then those of the test set.
    The first answer wins; raise only what the user should act on.
    """


@hookspec
def tt_commands(cli: click.Group) -> None:
    """Add your subcommands to the command `tt`. Asked of the entry points in the group `tinytorch.acts`."""


@hookspec
def tt_prepare_model(model: Layer, options: dict[str, Any]) -> Layer | None:
    """`model` made ready for inference (quantized, pruned, compiled), or None. Chained.

    Asked by `prepare_model` where generation begins and where a model is loaded to generate. With
    `options["in_place"]` no other code holds the model, and you may change it; otherwise return a copy. A model that
    you prepared when it was loaded is passed to you again when it generates: return None for it.
    """


@hookspec
def tt_plugged() -> None:
    """Called when your plugin has been plugged in: reset what it measures, read its options. Others are not asked."""


@hookspec
def tt_unplugged() -> None:
    """Called before your plugin is unplugged: release what it holds. Other plugins are not asked."""


@hookspec
def tt_report() -> str | None:
    """What you measured, as text that a command prints when it ends; or None. Collected."""


@hookspec
def tt_samples() -> Mapping[str, Samples]:
    """Calls to try your ops with: by an op's name, a function of a `tt_core.samples.Draw` that returns them. Collected.

    A call is a tuple of inputs and a dict of attributes. `tt plugins check` and `tt kernels` run them.
    """


@hookspec(firstresult=True)
def tt_try_op(op: Op, inputs: tuple[Any, ...], attributes: dict[str, Any], draw: Draw) -> bool | None:
    """Run `op.call` on arrays, and whatever else belongs to it, such as backward; True when you did.

    `tt plugins check` records the ops that run. The first answer wins.
    """
