"""Part of module 17: the plugin `memoize`, which keeps results of the ops and layers that you name.

No result is kept of a call that a gradient passes through, of a random op, a view, a layer in training, or a layer that
draws from the generator. For a layer, the key is the layer with its version (`tt_perf.versions`), so that its weights
are not hashed at each call. Observers of ops do not see calls that are answered from memory.
"""

from __future__ import annotations

import os
import weakref
from collections import Counter
from collections.abc import Callable, Hashable
from typing import Any, cast

from tt_core.engine import mutation
from tt_core.engine.arguments import checked
from tt_core.engine.dispatch import Op, registry
from tt_core.engine.errors import shown
from tt_core.engine.hookspecs import hookimpl
from tt_core.engine.phases import phase
from tt_core.engine.plugins import manager, snapshot
from tt_core.layers import Layer
from tt_core.random import generator
from tt_learn.autograd import is_grad_enabled
from tt_perf.memoization import results
from tt_perf.memoization.checks import CacheError
from tt_perf.versions import Version

Call = Callable[..., Any]


VARIABLE = "TT_MEMOIZE"


_HOOKS = {"tt_wrap_op", "tt_wrap_layer"}


class _Owner:
    """Stands in keys for a layer as it was at one version."""

    def __init__(self, layer: Layer) -> None:
        self.version = Version(layer)


class MemoizePlugin:
    """What `use("memoize")` activates: results of the ops and layers that `memoize` names, of at most `max_bytes`.

    A target is an op or its name, a layer, or a class of layers. Raises `CacheError` for an op that is not pure or
    whose result is a view, and for anything else.

    >>> import tt_core
    >>> x = tt_core.ones(2, 2)
    >>> with tt_core.use(MemoizePlugin("exp"), report=False) as plugin:
    ...     first, second = tt_core.exp(x), tt_core.exp(x)
    >>> plugin.hits, plugin.misses, first is second
    (1, 1, False)
    """

    @checked
    def __init__(self, *targets: object, max_bytes: int = 64 << 20, variable: str = "") -> None:
        if max_bytes < 1:
            raise CacheError(f"memoize: max_bytes is {max_bytes}, expected a number of bytes, 1 or more")
        self.results = results.Results(max_bytes)
        self.counts: Counter[tuple[str, str]] = Counter()
        """How often which target was a "hit", a "miss" or "passed" on, because nothing may be kept of such a call."""
        self._variable = variable
        self._ops: set[str] = set()
        self._classes: set[type[Layer]] = set()
        self._layers: weakref.WeakSet[Layer] = weakref.WeakSet()
        self._owners: weakref.WeakKeyDictionary[Layer, _Owner] = weakref.WeakKeyDictionary()
        for target in targets:
            self._add(target)

    @property
    def hits(self) -> int:
        """How many calls were answered with a kept result."""
        return sum(count for (_, what), count in self.counts.items() if what == "hit")

    @property
    def misses(self) -> int:
        """How many calls were computed, and their results kept."""
        return sum(count for (_, what), count in self.counts.items() if what == "miss")

    def memoize(self, *targets: object) -> None:
        """Keep results of these too, from now on."""
        for target in targets:
            self._add(target)
        manager.rebind(_HOOKS)

    def _add(self, target: Any) -> None:
        if isinstance(target, Layer):
            self._layers.add(target)
        elif isinstance(target, type) and issubclass(target, Layer):
            self._classes.add(target)
        elif isinstance(target, str) and target in registry:
            self._ops.add(_checked_op(registry[target]).name)
        elif getattr(target, "name", None) in registry and registry[target.name] is target:
            self._ops.add(_checked_op(target).name)
        else:
            raise CacheError(f"memoize: expected an op, its name, a layer or a class of layers, got {shown(target)}")

    def _named(self) -> set[str]:
        """Ops and classes of layers that the variable names."""
        words = os.environ.get(self._variable, "").split(",") if self._variable else []
        return {word.strip() for word in words}

    @hookimpl(trylast=True)
    def tt_wrap_op(self, op: Op, call: Call) -> Call | None:
        if op.name in self._named():
            self._ops.add(_checked_op(op).name)
        if op.name not in self._ops:
            return None

        def memoized(*inputs: Any, **attributes: Any) -> Any:
            if phase() != "forward" or _needs_gradient((inputs, attributes)):
                self.counts[op.name, "passed"] += 1
                return call(*inputs, **attributes)
            return self._answer(op.name, (op.name, call), call, inputs, attributes)

        return memoized

    @hookimpl(trylast=True)
    def tt_wrap_layer(self, layer_type: type[Layer], call: Call) -> Call | None:
        every = layer_type in self._classes or layer_type.__name__ in self._named()
        if not every and not any(type(layer) is layer_type for layer in snapshot(self._layers)):
            return None

        def memoized(layer: Layer, *inputs: Any, **options: Any) -> Any:
            if not every and layer not in self._layers:
                return call(layer, *inputs, **options)
            name = layer_type.__name__
            if phase() != "forward" or not _is_still(layer, (inputs, options)):
                self.counts[name, "passed"] += 1
                return call(layer, *inputs, **options)
            owner = self._owner_of(layer)

            def run(*inputs: Any, **options: Any) -> Any:
                return call(layer, *inputs, **options)

            return self._answer(name, (owner, call), run, inputs, options, lambda: owner.version.holds(layer))

        return memoized

    def _answer(
        self,
        name: str,
        what: tuple[Hashable, Call],
        call: Call,
        inputs: tuple[Any, ...],
        options: dict[str, Any],
        unchanged: Callable[[], bool] | None = None,
    ) -> Any:
        """The stored result of a call, or the computed one. `unchanged`: whether the call did not change its layer."""
        try:
            key = (*what, results.key_of(inputs), results.key_of(options))
        except results.Unkeyed:
            self.counts[name, "passed"] += 1
            return call(*inputs, **options)
        found = self.results.get(key)
        if found is not None:
            self.counts[name, "hit"] += 1
            return found
        moment, drawn = mutation.now(), None if unchanged is None else generator().bit_generator.state
        result = call(*inputs, **options)
        # the call may write into its input
        same = mutation.now() == moment or key[2:] == (results.key_of(inputs), results.key_of(options))
        if unchanged is not None:
            same = same and unchanged() and generator().bit_generator.state == drawn
        self.counts[name, "miss" if same else "passed"] += 1
        if same:
            self.results.put(key, result)
        return result

    def _owner_of(self, layer: Layer) -> _Owner:
        owner = self._owners.get(layer)
        if owner is not None and owner.version.holds(layer):
            return owner
        if owner is not None:
            self.results.forget(lambda key: cast(Any, key)[0] is owner)
        self._owners[layer] = owner = _Owner(layer)
        return owner

    @hookimpl
    def tt_report(self) -> str | None:
        if not self.counts:
            return None if self._ops or self._classes or self._layers else f"memoize: nothing is named; set {VARIABLE}"
        names = sorted({name for name, _ in self.counts})
        told = [
            f"{name} {self.counts[name, 'hit']} hits, {self.counts[name, 'miss']} misses, "
            f"{self.counts[name, 'passed']} passed on"
            for name in names
        ]
        kept = self.results
        size = f"{len(kept)} results of {kept.nbytes:,} of {kept.max_bytes:,} bytes, {kept.evicted} evicted"
        return f"memoize: {'; '.join(told)}; {size}"


def _checked_op(op: Op) -> Op:
    """`op`, or a `CacheError` where its results cannot be kept."""
    if not op.pure:
        raise CacheError(f"memoize: {op.name} draws random numbers, so its results differ; only pure ops are kept")
    if op.view:
        raise CacheError(f"memoize: the result of {op.name} is a view of its input, so there is nothing to keep")
    return op


def _needs_gradient(value: Any) -> bool:
    """Whether this thread records, and a tensor among the arguments requires gradients."""
    return is_grad_enabled() and _requires(value)


def _requires(value: Any) -> bool:
    if isinstance(value, (tuple, list)):
        return any(_requires(part) for part in value)
    if isinstance(value, dict):
        return any(_requires(part) for part in value.values())
    return bool(getattr(value, "requires_grad", False))


def _is_still(layer: Layer, arguments: Any) -> bool:
    """Whether no part of a layer trains, and no gradient passes through the call."""
    if any(part.training for part in layer.modules()):
        return False
    return not (is_grad_enabled() and (_requires(arguments) or _requires(list(layer.parameters()))))


memo = MemoizePlugin(variable=VARIABLE)


def memoize(*targets: object) -> None:
    """Name ops and layers whose results the plugin `memoize` keeps, while it is in use.

    A target is an op or its name, a layer, or a class of layers. Raises `CacheError` for an op that is not pure or
    whose result is a view, and for anything else.

    >>> import tt_core
    >>> features = tt_core.Linear(4, 2).eval()
    >>> memoize(features)
    """
    memo.memoize(*targets)
