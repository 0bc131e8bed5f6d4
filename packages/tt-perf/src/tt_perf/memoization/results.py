"""Part of module 17: results by their inputs. The plugin `memoize`, for ops and layers that you name.

A call whose inputs have the same bytes as those of an earlier one gets a copy of that result:

    key = op, kernel, attributes, and dtype, shape, strides and SHA-256 of each input

Bytes tell -0.0 from 0.0 and find nan again; strides decide in which order products are added up. Results are copied
when they are kept and when they are given, so nobody can change them from outside, and a changed input has another key.
For a layer, the key is the layer with its version (`tt_perf.versions`), so its weights are not hashed at each call.

A call that a gradient passes through is never kept nor answered, and neither are random ops, views, layers in training
and layers that draw from the generator. Hashing reads each input once, at about 1 GB/s: what is cheaper than that gains
nothing. Observers of ops do not see calls that are answered.
"""

from __future__ import annotations

import hashlib
import os
import struct
import threading
import weakref
from collections import Counter, OrderedDict
from collections.abc import Callable, Hashable, Iterable
from typing import Any, cast

import numpy as np

from tt_core.engine import mutation
from tt_core.engine.arguments import checked
from tt_core.engine.dispatch import Array, HasArray, Op, registry, wrap
from tt_core.engine.errors import shown
from tt_core.engine.hookspecs import hookimpl
from tt_core.engine.phases import phase
from tt_core.engine.plugins import manager
from tt_core.layers import Layer
from tt_core.random import generator
from tt_learn.autograd import is_grad_enabled
from tt_perf.memoization.dynamic import CacheError
from tt_perf.versions import Version

Call = Callable[..., Any]
VARIABLE = "TT_MEMOIZE"
_HOOKS = {"tt_wrap_op", "tt_wrap_layer"}


class Unkeyed(Exception):
    """An argument that has no key, such as a function or a cache."""


def key_of(value: Any) -> Hashable:
    """What tells `value` from every other argument of a call; raises `Unkeyed` for what has no such thing.

    >>> key_of(0.0) == key_of(-0.0), key_of(float("nan")) == key_of(float("nan")), key_of(1) == key_of(True)
    (False, True, False)
    """
    if isinstance(value, HasArray):
        return key_of(value.data)
    if isinstance(value, np.ndarray):
        digest = hashlib.sha256(np.ascontiguousarray(value).reshape(-1).view(np.uint8).data).digest()
        return value.dtype.str, value.shape, value.strides, digest
    if value is None or isinstance(value, (bool, int, str)):
        return type(value), value
    if isinstance(value, float):
        return float, struct.pack("<d", value)
    if isinstance(value, np.generic):
        return key_of(np.asarray(value))
    if isinstance(value, (tuple, list)):
        return type(value), tuple([key_of(part) for part in value])
    if isinstance(value, dict):
        return dict, tuple([(key_of(name), key_of(part)) for name, part in value.items()])
    if isinstance(value, slice):
        return slice, key_of((value.start, value.stop, value.step))
    if isinstance(value, (np.dtype, type)):
        return "type", value
    raise Unkeyed(type(value).__name__)


class Results:
    """Arrays by key, at most `max_bytes` of them; the least recently used go first. Safe to use from threads."""

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.nbytes = self.evicted = 0
        self._kept: OrderedDict[Hashable, Any] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._kept)

    def get(self, key: Hashable) -> Any:
        """A copy of the result that was kept, as tensors; None where there is none."""
        with self._lock:
            if key not in self._kept:
                return None
            self._kept.move_to_end(key)
            kept = self._kept[key]
        return wrap(_copied(kept))

    def put(self, key: Hashable, result: Any) -> None:
        """Keep a copy of a tensor, or of a tuple of tensors; anything else is left out."""
        arrays = _arrays(result)
        if arrays is None or _size(arrays) > self.max_bytes:
            return
        copied = _copied(arrays)
        with self._lock:
            self._drop([key])
            self._kept[key] = copied
            self.nbytes += _size(copied)
            while self.nbytes > self.max_bytes:
                self._drop([next(iter(self._kept))])
                self.evicted += 1

    def forget(self, belongs: Callable[[Hashable], bool]) -> None:
        """Drop every result whose key `belongs` to what has changed."""
        with self._lock:
            self._drop([key for key in self._kept if belongs(key)])

    def _drop(self, keys: Iterable[Hashable]) -> None:
        for key in keys:
            self.nbytes -= _size(self._kept.pop(key, ()))


def _arrays(result: Any) -> Any:
    """A tensor as its array, a tuple of tensors as a tuple of arrays; None for anything else."""
    if isinstance(result, HasArray):
        return result.data
    if type(result) is tuple and all(isinstance(part, HasArray) for part in result):
        return tuple([part.data for part in result])
    return None


def _copied(arrays: Any) -> Any:
    return tuple([part.copy("K") for part in arrays]) if type(arrays) is tuple else arrays.copy("K")


def _size(arrays: Array | tuple[Array, ...]) -> int:
    return sum(part.nbytes for part in arrays) if isinstance(arrays, tuple) else arrays.nbytes


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
    def __init__(self, *targets: Any, max_bytes: int = 64 << 20, variable: str = "") -> None:
        if max_bytes < 1:
            raise CacheError(f"memoize: max_bytes is {max_bytes}, expected a number of bytes, 1 or more")
        self.results = Results(max_bytes)
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

    def memoize(self, *targets: Any) -> None:
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
        if not every and not any(type(layer) is layer_type for layer in self._layers):
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
        """The kept result of a call, or its own. `unchanged` says that a layer did not change itself meanwhile."""
        try:
            key = (*what, key_of(inputs), key_of(options))
        except Unkeyed:
            self.counts[name, "passed"] += 1
            return call(*inputs, **options)
        found = self.results.get(key)
        if found is not None:
            self.counts[name, "hit"] += 1
            return found
        moment, drawn = mutation.now(), None if unchanged is None else generator().bit_generator.state
        result = call(*inputs, **options)
        same = mutation.now() == moment or key[2:] == (key_of(inputs), key_of(options))  # it may write into its input
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


def memoize(*targets: Any) -> None:
    """Name ops and layers whose results the plugin `memoize` keeps, while it is in use.

    A target is an op or its name, a layer, or a class of layers. Raises `CacheError` for an op that is not pure or
    whose result is a view, and for anything else.

    >>> import tt_core
    >>> features = tt_core.Linear(4, 2).eval()
    >>> memoize(features)
    """
    memo.memoize(*targets)
