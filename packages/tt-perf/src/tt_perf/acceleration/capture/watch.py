"""Part of `capture`: the Python state that a step may read, and whether it is still what it was.

A recorded step runs no Python, so everything that its Python code read must have the same value as when it was
recorded: the attributes of layers, the variables of closures, the globals of a function, the arrays of parameters.
`Watch` walks from the step to everything it can reach and keeps the identity of each object. The code of the framework,
NumPy and the standard library is taken as fixed. A replay calls the optimizers, so their state is watched only if the
step reads it, such as `param_groups`. Clocks, files and new generators cannot be watched (`naming.py`).
"""

from __future__ import annotations

import builtins
import collections
import contextvars
import enum
import functools
import itertools
import operator
import random
import sys
import types
import weakref
from collections.abc import Callable, Mapping, MutableSequence, MutableSet, Sequence
from typing import Any

import numpy as np

import tt_core
from tt_core.engine.dispatch import Array
from tt_core.layers import Layer
from tt_learn.autograd import Tensor
from tt_learn.optimizers import Optimizer
from tt_perf.acceleration.capture.naming import globals_in, names_in, names_of_getter, outside
from tt_perf.acceleration.capture.traced import Traced

_FIXED = ("tt_core", "tt_learn", "tt_data", "tt_language", "tt_perf", "tinygpt", "numpy", "numba", "builtins")
_PLAIN = (type(None), bool, int, float, complex, str, bytes, np.dtype, np.generic, type(Ellipsis), slice, range)
_MOST = 20_000  # things that are watched
_READ_ALL = {"__dict__", "vars", "getattr", "asdict", "astuple", "fields", "deepcopy"}
_SILENT = ("logging", "typing", "abc", "enum", "warnings")  # modules whose methods decide nothing that ops see
_AT_CREATION = {"__init__", "__new__", "__init_subclass__", "__del__", "__repr__", "__str__"}
_END = object()  # stands after the entries of each container, so that none can move to the next one
_CONTAINERS = (dict, list, tuple, set, frozenset, collections.deque)
_SMALL = 65_536  # bytes up to which an array is watched, by comparing its contents


class Transparent:
    """What holds nothing that a step reads but the function `step`."""

    step: Callable[..., Any]


class Unwatchable(Exception):
    """Says what a step reads that cannot be watched."""


class Watch:
    """Everything that `roots` reach, as it is now.

    >>> alpha = [1, 2]
    >>> watch = Watch([lambda x: x * alpha[0]])
    >>> watch.holds()
    True
    >>> alpha[0] = 3
    >>> watch.holds(), watch.changed()
    (False, 'alpha')
    """

    def __init__(self, roots: Sequence[Any]) -> None:
        self.tensors: dict[int, Any] = {}  # by id
        self.arrays: dict[int, Array] = {}  # by id, those that are reached without a tensor
        self._states: list[tuple[Any, Array, bool, int, str]] = []  # a tensor and what `_is_as_it_was` compares
        self._containers: list[tuple[Any, str]] = []  # lists, sets, and the keys and values of dicts
        self._cells: list[tuple[Any, str]] = []
        self._reads: list[tuple[Callable[[], list[Any]], list[Any], str]] = []  # objects to read, and what they were
        self._values: list[tuple[Callable[[], Any], Any, str]] = []  # a value to read, and what it was
        self._held: list[Any] = []  # so that no id is used again
        self._seen: set[int] = set()
        self._classes: set[int] = set()
        self._kinds: set[int] = set()  # of layers, the framework's among them
        self._objects: list[tuple[Any, str]] = []  # of which attributes that some function names are watched
        self._libraries: list[tuple[types.ModuleType, str]] = []
        self._names: set[str] = set()
        self._outside = outside()
        self._roots = roots
        for root in roots:
            self._visit(root, getattr(root, "__name__", type(root).__name__))
        self._visit_named_attributes()
        self._freeze()

    def __bool__(self) -> bool:
        return bool(self._held or self._containers or self._reads or self._values)

    def _freeze(self) -> None:
        """Lays everything out so that comparing it takes a few calls."""
        self._empty = [container for container, _ in self._containers if not container]
        self._containers = [(container, name) for container, name in self._containers if container]
        self._all = [part for container, _ in self._containers for part in (container, (_END,))]
        self._sizes = [len(container) for container, _ in self._containers]
        self._entries = [*itertools.chain.from_iterable(self._all)]
        self._variables = [cell for cell, _ in self._cells]
        self._contents = [cell.cell_contents for cell in self._variables]

    def holds(self) -> bool:
        """Whether everything is as it was."""
        try:
            variables = [cell.cell_contents for cell in self._variables]
        except ValueError:  # one was deleted
            return False
        for x, array, requires_grad, size, _ in self._states:
            if x.data is not array or x._requires_grad is not requires_grad or x._hooks or len(x.__dict__) != size:
                return False
        for read, found, _ in self._reads:
            if not _are(read(), found):
                return False
        for read, value, _ in self._values:
            if read() != value:
                return False
        return (
            all(map(operator.is_, itertools.chain.from_iterable(self._all), self._entries))
            and not any(self._empty)
            and all(map(operator.is_, variables, self._contents))
        )

    def changed(self) -> str | None:
        """The name of the first thing that is not as it was."""
        for x, array, requires_grad, size, name in self._states:
            if x.data is not array or x._requires_grad is not requires_grad or x._hooks or len(x.__dict__) != size:
                return name
        if any(self._empty):
            return "an empty container"
        entries = iter(self._entries)
        for (container, name), size in zip(self._containers, self._sizes):
            if not _are([*container, _END], [*itertools.islice(entries, size + 1)]):
                return name
        for (cell, name), content in zip(self._cells, self._contents):
            if not _is_filled(cell) or cell.cell_contents is not content:
                return name
        found = (name for read, objects, name in self._reads if not _are(read(), objects))
        return next(found, next((name for read, value, name in self._values if read() != value), None))

    # --- the walk

    def _visit(self, value: Any, name: str) -> None:
        if id(value) in self._seen or (isinstance(value, _PLAIN) and not hasattr(value, "__dict__")):
            return
        if id(value) in self._outside:
            raise Unwatchable(f"reads {name}, which cannot be watched")
        self._seen.add(id(value))
        self._held.append(value)
        if len(self._held) > _MOST:
            raise Unwatchable(f"reaches more than {_MOST:,} objects")
        for kinds, visit in _VISITS:
            if isinstance(value, kinds):
                visit(self, value, name)
                return self._more_attributes(value, name)
        if hasattr(type(value), "__next__"):
            raise Unwatchable(f"reads {name}, an iterator")
        if hasattr(value, "__wrapped__"):  # such as a cached function
            self._visit(value.__wrapped__, name)
        if _is_buffer(value):
            self._equal(memoryview(value).tobytes, name)
        if not type(value).__module__.startswith(("numpy", "numba", "builtins")):
            self._object(value, name)

    def _more_attributes(self, value: Any, name: str) -> None:
        """What a container, a tensor or a function of the user's has beside its contents."""
        kept = getattr(value, "__dict__", None)
        if isinstance(value, tt_core.Tensor):
            kept = has_more(value)
        elif not isinstance(value, (*_CONTAINERS, types.FunctionType)):
            return
        if kept or not _is_fixed(type(value).__module__):
            self._objects.append((value, name))
            self._class(type(value), type(value).__name__)

    def _tensor(self, x: Any, name: str) -> None:
        if type(x) not in (Tensor, Traced):  # another thread may record a step that has it too
            raise Unwatchable(f"reads {name}, a tensor of the class {type(x).__name__}")
        if x.grad_fn is not None:
            raise Unwatchable(f"reads {name}, a tensor with history from outside")
        if x._hooks:
            raise Unwatchable(f"{name} has hooks")
        self.tensors[id(x)] = x
        self._states.append((x, x.data, x._requires_grad, len(x.__dict__), name))

    def _array(self, array: Array, name: str) -> None:
        if array.nbytes > _SMALL:
            raise Unwatchable(f"reads {name}, an array of {array.nbytes:,} bytes; make a tensor of it")
        self.arrays[id(array)] = array
        self._equal(lambda: (array.shape, array.dtype, array.tobytes()), name)

    def _layer(self, layer: Layer, name: str) -> None:
        if layer._hooks is not None:
            raise Unwatchable(f"{name} has hooks")
        self._attributes(layer.__dict__, name)
        kind = type(layer)
        if id(kind) not in self._kinds:
            self._kinds.add(id(kind))
            self._check(lambda: [kind.forward], kind.__name__)
        self._class(kind, kind.__name__)

    def _optimizer(self, optimizer: Optimizer, name: str) -> None:
        """Its parameters are watched; a replay calls it, so everything else counts only where the step names it."""
        for i, p in enumerate(optimizer._parameters()):
            self._visit(p, f"{name}.{i}")
        self._objects.append((optimizer, name))

    def _object(self, value: Any, name: str) -> None:
        """Attributes: those that the user's functions name, or all where the framework's functions may read them."""
        slots = [slot for kind in type(value).__mro__ for slot in _slots_of(kind)]
        if slots:
            self._check(lambda: [getattr(value, slot, None) for slot in slots], name)
            self._several(tuple([getattr(value, slot, None) for slot in slots]), name)
        if _is_read_by_others(value) and hasattr(value, "__dict__"):
            self._attributes(value.__dict__, name)
        else:
            self._objects.append((value, name))
        self._class(type(value), type(value).__name__)

    def _class(self, kind: type, name: str) -> None:
        """The methods and class variables of a user's class and of its bases, Python's own among them."""
        for base in kind.__mro__:
            top = base.__module__.partition(".")[0]
            if top not in (*_FIXED, *_SILENT) and id(base) not in self._classes:
                self._classes.add(id(base))
                self._objects.append((base, name))
        if issubclass(kind, enum.Enum) and not _is_fixed(kind.__module__):
            self._several(tuple(kind), name)

    def _named_class(self, kind: type, name: str) -> None:
        """A class that the step names, and may call."""
        self._class(kind, name)
        self._class(type(kind), name)
        if not _is_fixed(kind.__module__) and name != "__class__":  # the variable that `super()` reads
            for key in _AT_CREATION & vars(kind).keys():
                self._visit(vars(kind)[key], f"{name}.{key}")

    def _function(self, function: types.FunctionType, name: str) -> None:
        fixed = _is_fixed(function.__module__ or "") and all(function is not root for root in self._roots)
        for variable, cell in zip(function.__code__.co_freevars, function.__closure__ or ()):
            if _is_filled(cell):
                self._cells.append((cell, variable))
                self._visit(cell.cell_contents, variable)
            else:
                self._equal(functools.partial(_is_filled, cell), variable)
        self._visit(function.__defaults__, name)
        self._visit(function.__kwdefaults__, name)
        if not fixed:
            self._check(lambda: [function.__code__, function.__defaults__, function.__kwdefaults__], name)
            self._globals(function)
        elif not _is_framework(function.__module__ or ""):
            self._names |= {*names_in(function.__code__)}  # of objects that a method of Python's own reads

    def _globals(self, function: types.FunctionType) -> None:
        names, modules = globals_in(function.__code__)
        for doubtful in names - function.__globals__.keys() & vars(builtins).keys():
            if id(vars(builtins)[doubtful]) in self._outside:
                self._visit(vars(builtins)[doubtful], doubtful)
        for module in modules & sys.modules.keys():
            self._visit(sys.modules[module], module)
        self._names |= {*names_in(function.__code__)}
        known = tuple(sorted(names & function.__globals__.keys()))
        self._check(functools.partial(_values_of, function.__globals__, known), " or ".join(known))
        for key in known:
            self._visit(function.__globals__[key], key)

    def _module(self, module: types.ModuleType, name: str) -> None:
        (self._libraries if _is_fixed(module.__name__) else self._objects).append((module, name))

    def _visit_library(self, module: types.ModuleType, name: str) -> None:
        """A module of a library: its parts are fixed, unless somebody puts others in their place."""
        for key in sorted(self._names & vars(module).keys()):
            part = vars(module)[key]
            if isinstance(part, (types.ModuleType, type)) or id(part) in self._outside:
                self._visit(part, f"{name}.{key}")

    def _dict(self, values: Mapping[Any, Any], name: str) -> None:
        self._containers.append((values.keys(), name))
        self._attributes(values, name)

    def _attributes(self, values: Mapping[Any, Any], name: str) -> None:
        """The values of all attributes, in the order in which they were set."""
        self._containers.append((values.values(), name))
        for key, value in tuple(values.items()):
            self._visit(value, f"{name}.{key}")

    def _several(self, values: Any, name: str) -> None:
        if not isinstance(values, (tuple, frozenset)):
            self._containers.append((values, name))
        for value in tuple(values):
            self._visit(value, name)

    def _visit_named_attributes(self) -> None:
        """Watches attributes of objects, classes and modules; what these reach may name more attributes."""
        before = (-1, -1, -1)
        while before != (len(self._names), len(self._objects), len(self._libraries)):
            before = len(self._names), len(self._objects), len(self._libraries)
            for library, name in tuple(self._libraries):
                self._visit_library(library, name)
            for value, name in tuple(self._objects):
                for key in self._named(value):
                    self._visit(value.__dict__[key], f"{name}.{key}")
        for value, name in self._objects:
            if hasattr(value, "__dict__"):
                names = tuple(sorted({*self._named(value), *self._names}))
                self._check(functools.partial(_values_of, value.__dict__, names), name)
        for library, name in self._libraries:
            names = tuple(sorted(self._names & vars(library).keys()))
            self._check(functools.partial(_values_of, vars(library), names), name)

    def _named(self, value: Any) -> list[str]:
        """The attributes of `value` that functions name, or that Python calls by itself."""
        attributes = getattr(value, "__dict__", {})
        if self._names & _READ_ALL and not isinstance(value, (tt_core.Tensor, Optimizer, types.ModuleType)):
            return sorted(name for name in attributes if not _is_automatic(name))
        named = self._names & attributes.keys()
        if isinstance(value, type):
            named |= {name for name in attributes if name == "forward" or name.startswith("__")} - _AT_CREATION
        return sorted(name for name in named if not _is_automatic(name))

    def _referent(self, read: Callable[[], Any], name: str) -> None:
        """What a reference or a variable of a context leads to."""
        self._check(lambda: [read()], name)
        self._visit(read(), name)

    def _check(self, read: Callable[[], list[Any]], name: str) -> None:
        """Watches the identity of what `read` returns."""
        self._reads.append((read, read(), name))

    def _equal(self, read: Callable[[], Any], name: str) -> None:
        """Watches the value that `read` returns."""
        self._values.append((read, read(), name))


class RandomState:
    """Python's and NumPy's global generators, which a step must not draw from: a replay would not.

    >>> before = RandomState()
    >>> _ = random.random()
    >>> before == RandomState()
    False
    """

    def __init__(self) -> None:
        self._states = random.getstate(), str(np.random.get_state())  # noqa: NPY002

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RandomState) and self._states == other._states

    __hash__ = None  # type: ignore[assignment]


_VISITS: tuple[tuple[Any, Callable[[Watch, Any, str], None]], ...] = (
    (Transparent, lambda watch, each, name: watch._visit(each.step, name)),
    (tt_core.Tensor, Watch._tensor),
    (np.ndarray, Watch._array),
    (Layer, Watch._layer),
    (Optimizer, Watch._optimizer),
    (types.FunctionType, Watch._function),
    (types.MethodType, lambda watch, method, name: watch._several((method.__self__, method.__func__), name)),
    (functools.partial, lambda watch, f, name: watch._several((f.func, f.args, f.keywords), name)),
    ((staticmethod, classmethod), lambda watch, f, name: watch._visit(f.__func__, name)),
    (property, lambda watch, f, name: watch._several((f.fget, f.fset), name)),
    (type, Watch._named_class),
    (types.ModuleType, Watch._module),
    ((dict, types.MappingProxyType), Watch._dict),
    ((list, tuple, set, frozenset, collections.deque), Watch._several),
    (contextvars.ContextVar, lambda watch, variable, name: watch._referent(lambda: variable.get(None), name)),
    (weakref.ref, lambda watch, reference, name: watch._referent(reference, name)),
    (
        (operator.attrgetter, operator.methodcaller),
        lambda watch, getter, name: watch._names.update(names_of_getter(getter)),
    ),
    (
        (np.random.Generator, random.Random),
        lambda watch, rng, name: watch._equal(lambda: str(_generator_state(rng)), name),
    ),
)


def _is_fixed(module: str) -> bool:
    top = module.partition(".")[0]
    return top in _FIXED or (top in sys.stdlib_module_names and top != "__main__")


def _is_framework(module: str) -> bool:
    return module.partition(".")[0] in _FIXED


def _is_buffer(value: Any) -> bool:
    """Whether an object shows its bytes, as a `bytearray`, an `array.array` or a number of ctypes does."""
    try:
        return bool(memoryview(value).nbytes >= 0)
    except (TypeError, BufferError):
        return False


_OF_TENSORS = {"data", "is_parameter", "_requires_grad", "_grad", "grad_fn", "_output", "_retains", "_hooks"}


def has_more(tensor: Any) -> bool:
    """Whether somebody has given a tensor an attribute.

    >>> x = Tensor([1.0])
    >>> x.scale = 2
    >>> has_more(x), has_more(Tensor([1.0]))
    (True, False)
    """
    return len(tensor.__dict__) > 1 and not tensor.__dict__.keys() <= _OF_TENSORS


def is_framework(function: object) -> bool:
    """Whether a function is the framework's and holds none of the user's."""
    return _is_fixed(getattr(function, "__module__", "") or "") and not getattr(function, "__closure__", None)


def _is_read_by_others(value: Any) -> bool:
    """Whether methods that are not the user's may read any attribute: objects of the framework, and containers."""
    ours = any(base.__module__.startswith("tt_") for base in type(value).__mro__)
    return ours or isinstance(value, (Mapping, MutableSequence, MutableSet))


def _slots_of(kind: type) -> list[str]:
    slots = vars(kind).get("__slots__", ())
    names = [slots] if isinstance(slots, str) else [slot for slot in slots if slot not in ("__dict__", "__weakref__")]
    owner = kind.__name__.lstrip("_")
    return [f"_{owner}{name}" if name.startswith("__") and not name.endswith("__") else name for name in names]


def _is_automatic(name: str) -> bool:
    """Whether Python sets this member of a class by itself, and may change it."""
    return name in ("__dict__", "__weakref__", "__doc__", "__module__", "__annotations__", "_chain") or (
        name.startswith(("_abc_", "__annotat", "__static_attr", "__firstlineno"))
    )


def _values_of(values: Mapping[str, Any], names: tuple[str, ...]) -> list[Any]:
    return [*map(values.get, names)]


def _is_filled(cell: Any) -> bool:
    try:
        return cell.cell_contents is cell.cell_contents
    except ValueError:
        return False


def _are(found: list[Any], objects: list[Any]) -> bool:
    return len(found) == len(objects) and all(map(operator.is_, found, objects))


def _generator_state(rng: Any) -> Any:
    return rng.getstate() if isinstance(rng, random.Random) else rng.bit_generator.state
