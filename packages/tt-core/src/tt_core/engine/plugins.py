"""The plugin manager: which plugins are active, under which names, and in which order their answers nest.

pluggy is used here only, never inside a computation. Hooks are asked when a plugin is added or removed. Code that binds
their answers (the ops, the layers) registers a function in `manager.rebinders`, which is called then. No plugin is
loaded automatically: names come from `use(...)`, from `--plugin`, or from the variable TT_PLUGINS, which is read at the
first op or at the first question to plugins.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import inspect
import multiprocessing
import os
import re
import sys
import threading
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Generic, TypeVar, cast

import pluggy

from tt_core.engine import hookspecs
from tt_core.engine.arguments import checked
from tt_core.engine.blame import described, remember
from tt_core.engine.errors import PluginError, TinyTorchError, did_you_mean, shown
from tt_core.engine.hookspecs import hookimpl as hookimpl
from tt_core.engine.hookspecs import hookspec as hookspec
from tt_core.engine.redefinition import redefined

GROUP = "tinytorch"
ACTS_GROUP = "tinytorch.acts"

C = TypeVar("C")
K = TypeVar("K")
T = TypeVar("T")


class PluginManager(pluggy.PluginManager):
    """pluggy's manager, with checked hook names, chained hooks, and rebinding at each change; it raises `PluginError`.

    >>> class Quiet:
    ...     @hookimpl
    ...     def tt_report(self):
    ...         return None
    >>> manager.register(Quiet(), "quiet"), manager.has_plugin("quiet")
    ('quiet', True)
    >>> _ = manager.unregister(name="quiet")
    """

    def __init__(self) -> None:
        super().__init__(GROUP)
        self.rebinders: list[tuple[Callable[[], None], Set[str]]] = []
        """Functions that ask hooks and keep the answers, each with the names of these hooks."""
        self.pending = True  # whether the plugins of TT_PLUGINS have yet to be loaded
        self.environment: list[str] = []  # the names that were read there
        self.reported = False  # whether a command has printed what plugins measured
        self.changes = 0
        """How often a plugin came or went; code that asks hooks without a lock sees by it whether to ask again."""
        self._reading, self._loading = threading.RLock(), False
        self._changing = threading.RLock()  # held for no import and no hook, so that no other lock waits inside of it
        self.add_hookspecs(hookspecs)

    def register(self, plugin: object, name: str | None = None) -> str | None:
        """Adds `plugin`, rebinds everything that its hooks concern, and returns its name.

        A plugin whose class is defined again in `__main__`, as by a notebook cell that runs twice, replaces the old
        plugin of that name. Raises `PluginError` for a plugin that is already active, that an active plugin excludes or
        that excludes one (the attribute `excludes` lists names), that answers no hook, or whose hooks are misspelt or
        fail when asked. After an error, nothing has changed.
        """
        who = name or _name_of(plugin)
        hooks = self._check_hooks(plugin, who)
        old = self.get_plugin(name) if name is not None else None
        replaces = old is not None and redefined(f"plugin {who}", old, plugin)
        if replaces:
            hooks |= self._hooks_of(old)
        may_come = False
        try:
            with self._changing:
                self._check_free(plugin, name, who, replaces)
                may_come = True
                if replaces:
                    super().unregister(old)
                registered = super().register(plugin, name)
                self.changes += 1
            self.rebind(hooks)
            _ask_one(self, plugin, "tt_plugged")
        except BaseException as error:  # a Ctrl-C too: compiling a plugin's kernels takes seconds
            if may_come:
                self._undo(plugin, old, name, hooks)
            if isinstance(error, pluggy.PluginValidationError):
                raise PluginError(f"plugin {who}: {self._misplaced(plugin) or str(error).splitlines()[-1]}") from None
            raise
        return registered

    def _check_free(self, plugin: object, name: str | None, who: str, replaces: bool) -> None:
        taken = self.is_registered(plugin) or (name is not None and self.has_plugin(name))
        if taken and not replaces:
            raise PluginError(f"plugin {who} is active already; unregister it first")
        self._check_excluded(plugin, who)

    def _undo(self, plugin: object, old: object, name: str | None, hooks: set[str]) -> None:
        """Takes a plugin out that failed to come in, and puts the one back that it replaced."""
        with self._changing:
            if self.is_registered(plugin):  # always so with pluggy before 1.7
                super().unregister(plugin)
            if old is not None:
                super().register(old, name)
            self.changes += 1
        self.rebind(hooks)

    def unregister(self, plugin: object | None = None, name: str | None = None) -> Any:
        """Removes a plugin, given as an object or by name, and rebinds: every chain is what it was before."""
        try:
            _ask_one(self, self.get_plugin(name) if name is not None else plugin, "tt_unplugged")
        finally:
            with self._changing:
                removed = super().unregister(plugin, name)
                self.changes += 1
            self.rebind(self._hooks_of(removed))
        return removed

    def rebind(self, hooks: Set[str] | None = None) -> None:
        """Calls every rebinder that asks one of `hooks`, or every one for None; an interruption comes afterwards."""

        def rebind_all() -> None:
            for rebind, asked in list(self.rebinders):
                if hooks is None or not asked.isdisjoint(hooks):
                    rebind()

        try:
            self.settle(rebind_all)
        except KeyboardInterrupt:
            self.settle(rebind_all)
            raise

    def settle(self, bind: Callable[[], None]) -> None:
        """Calls `bind`, which asks hooks and keeps the answers, until no plugin has come or gone meanwhile.

        Another thread may plug in after `bind` has asked and before it keeps what it was told. There is no lock: a hook
        may import a module, which may define ops, and these are bound, so two threads could wait for each other.
        """
        seen = -1
        while seen != self.changes:
            seen = self.changes
            bind()

    def chained(self, hook: str, value: object, /, *, into: str, of: type = object, **arguments: Any) -> Any:
        """Passes `value` through the answers to `hook`, innermost first; an answer of None leaves it unchanged.

        `into` names the hook's parameter that receives the value. Raises `PluginError`, which names the plugin, for an
        answer that is not of the type `of`.
        """
        for implementation in getattr(self.hook, hook).get_hookimpls():  # the last one is pluggy's first
            answer = _answer(implementation, hook, {**arguments, into: value})
            if answer is not None and not isinstance(answer, of):
                who = _name_of(implementation.plugin, implementation.plugin_name)
                wanted = f"return a {of.__name__.lower()} or None"
                raise PluginError(f"plugin {who} answers {hook} with {shown(answer)}; {wanted}")
            value = value if answer is None else answer
        return value

    def ask(self, hook: str, /, **arguments: Any) -> Any:
        """The answers to `hook` for code outside of ops and layers; reads TT_PLUGINS first."""
        self.load_pending()
        return self.answers(hook, **arguments)

    def answers(self, hook: str, /, **arguments: Any) -> Any:
        """The first answer to a hook that takes one, else None, or a list of all answers; same as pluggy, but faster.

        An error that is not for users becomes a `PluginError` that names the hook and the plugin.
        """
        caller = getattr(self.hook, hook)
        found = []
        for implementation in reversed(caller.get_hookimpls()):
            answer = _answer(implementation, hook, arguments)
            if answer is not None:
                if caller.spec.opts["firstresult"]:
                    return answer
                found.append(answer)
        return None if caller.spec.opts["firstresult"] else found

    def first_answer(self, hook: str, /, **arguments: Any) -> tuple[Any, Any]:
        """The plugin that gives the first answer, and this answer; two None if no plugin answers."""
        given = reversed(getattr(self.hook, hook).get_hookimpls())
        answers = ((each.plugin, _answer(each, hook, arguments)) for each in given)
        return next((pair for pair in answers if pair[1] is not None), (None, None))

    def who_answers(self, hook: str, /, **arguments: Any) -> str:
        """The name of the plugin that gives the first answer, or an empty text."""
        plugin, _ = self.first_answer(hook, **arguments)
        return "" if plugin is None else _name_of(plugin, self.get_name(plugin) or "")

    def load_pending(self) -> None:
        """Activates the plugins of TT_PLUGINS at the first call; later calls warn if the variable has changed.

        Other threads wait until they are loaded. A plugin that does not load is skipped with a warning.
        """
        with self._reading:
            names = names_from_environment()
            if self._loading:  # a plugin runs an op while it is imported
                return
            if self.pending:
                self._loading, self.environment = True, names
                try:
                    self._load(names)
                finally:
                    with self._changing:
                        self.pending = self._loading = False
                        self.changes += 1
                    self.rebind()
            elif names != self.environment:
                self.environment = names
                fact = "TT_PLUGINS has changed since it was read, at the first op; this has no effect"
                warnings.warn(f"{fact}: call use({', '.join(map(repr, names))})", stacklevel=4)

    def once_loaded(self, call: C, again: Callable[..., Any]) -> C | Callable[..., Any]:
        """Returns `call`; before TT_PLUGINS has been read, a function that reads it and then calls `again`."""
        if not self.pending:
            return call

        def load_first(*inputs: Any, **options: Any) -> Any:
            self.load_pending()
            loaded = cast(Callable[..., Any], call) if self.pending else again
            return loaded(*inputs, **options)

        return load_first

    def _load(self, names: Iterable[str]) -> None:
        for name in names:
            try:
                activate(name)
            except PluginError as error:
                warnings.warn(f"TT_PLUGINS: {error}; skipped", stacklevel=5)
            else:
                _report_at_exit(name)

    def _check_excluded(self, plugin: object, who: str) -> None:
        for other, active in self.list_name_plugin():
            if active is not None and (
                other in getattr(plugin, "excludes", ()) or who in getattr(active, "excludes", ())
            ):
                raise PluginError(f"plugin {who} and plugin {other} exclude each other; use one of them")

    def _misplaced(self, plugin: object) -> str:
        """Which method of a plugin takes an argument that its hook does not give, and what the hook gives."""
        for attribute in dir(plugin):
            options = self.parse_hookimpl_opts(plugin, attribute)
            if options is not None:
                hook = options.get("specname") or attribute
                given = getattr(self.hook, hook).spec.argnames
                unknown = [
                    name for name in inspect.signature(getattr(plugin, attribute)).parameters if name not in given
                ]
                if unknown:
                    return f"{hook} takes {', '.join(given) or 'no argument'}, not {', '.join(unknown)}"
        return ""

    def _hooks_of(self, plugin: object) -> set[str]:
        """The names of the hooks that a plugin answers."""
        options = {name: self.parse_hookimpl_opts(plugin, name) for name in dir(plugin)}
        return {found.get("specname") or name for name, found in options.items() if found is not None}

    def _check_hooks(self, plugin: object, who: str) -> set[str]:
        """The names of the hooks that a plugin answers; raises `PluginError` for a mistake in them."""
        known = [hook for hook in vars(self.hook) if hook.startswith("tt_")]
        found = set()
        for attribute in dir(plugin):
            options = self.parse_hookimpl_opts(plugin, attribute)
            if options is not None:
                found |= self._checked_hook(options.get("specname") or attribute, options, who, known)
            elif attribute in known and callable(getattr(plugin, attribute)):
                raise PluginError(f"plugin {who}: {attribute} is not marked; write @hookimpl above it")
        if isinstance(plugin, type):
            raise PluginError(f"plugin {who} is a class; pass an instance, {plugin.__name__}()")
        if not found:
            raise PluginError(
                f"plugin {who} answers no hook; mark its methods with @hookimpl (see tt_core.engine.hookspecs)"
            )
        return found

    @staticmethod
    def _checked_hook(hook: str, options: Mapping[str, Any], who: str, known: Sequence[str]) -> set[str]:
        """The hook, or nothing if it belongs to a later act that is not imported."""
        if hook not in known and options["optionalhook"]:
            return set()
        if hook not in known:
            raise PluginError(f"plugin {who} answers {hook}, which is no hook; {did_you_mean(hook, known)}")
        if options["wrapper"] or options["hookwrapper"]:
            raise PluginError(f"plugin {who}: {hook} takes a plain function, not a wrapper of pluggy's")
        return {hook}


def _ask_one(asking: PluginManager, plugin: object, hook: str) -> list[Any]:
    """What one plugin answers to a hook without arguments."""
    own = [each for each in getattr(asking.hook, hook).get_hookimpls() if each.plugin is plugin]
    return [answer for each in own if (answer := _answer(each, hook, {})) is not None]


_ROLES = {"tt_kernel": "kernel", "tt_wrap_op": "wrap", "tt_wrap_layer": "wrap", "tt_observe_op": "observer"}
"""Hooks whose answers are functions that are called with each op or layer."""


def _answer(implementation: pluggy.HookImpl, hook: str, given: dict[str, Any]) -> Any:
    """The answer of one plugin; an error that is not for users becomes one that names the hook and the plugin."""
    try:
        answer = implementation.function(*[given[name] for name in implementation.argnames])
    except TinyTorchError:  # the plugin says itself what it lacks
        raise
    except Exception as error:  # whatever it raises
        who = _name_of(implementation.plugin, implementation.plugin_name)
        raise PluginError(f"plugin {who} fails when asked {hook}{_about(given)}: {described(error)}") from error
    if hook in _ROLES and answer is not None and answer is not given.get("call"):
        who = f"plugin {_name_of(implementation.plugin, implementation.plugin_name)}"
        if not callable(answer):
            raise PluginError(f"{who} answers {hook}{_about(given)} with {shown(answer)}; return a function or None")
        if hook != "tt_kernel" and remember(answer, f"{who}: its {_ROLES[hook]}") and hook == "tt_observe_op":
            _check_observer(who, answer)
    return answer


def _check_observer(who: str, observer: Any) -> None:
    """Raises `PluginError` for an observer that does not take what it is called with."""
    try:
        inspect.signature(observer).bind(*[None] * 4)
    except TypeError as error:
        fact = "called with (op, inputs, attributes, output)"
        raise PluginError(f"{who}: its observer is {fact}, and does not take that: {error}") from None
    except ValueError:  # a function without a signature
        return


def _about(given: dict[str, Any]) -> str:
    """The op or class that a question is about, for messages."""
    first = next(iter(given.values()), None)
    name = getattr(first, "name", getattr(first, "__name__", None))
    return f" for {name}" if isinstance(name, str) else ""


def _name_of(plugin: object, name: str = "") -> str:
    """The name of a plugin for messages: its registered name, or that of its class (pluggy numbers unnamed plugins)."""
    if name and not name.isdigit():
        return name
    return str(getattr(plugin, "__name__", type(plugin).__name__))


def snapshot(collection: Iterable[T]) -> list[T]:
    """A list of a weak set or dictionary, which another thread may change meanwhile.

    >>> snapshot({1, 2})
    [1, 2]
    """
    while True:
        try:
            return list(collection)
        except RuntimeError:  # it changed during the iteration
            continue


def names_from_environment() -> list[str]:
    """The names in TT_PLUGINS, which commas separate."""
    return [name.strip() for name in os.environ.get("TT_PLUGINS", "").split(",") if name.strip()]


manager = PluginManager()


class Answers(Generic[K, T]):
    """What `ask` answers for each key, kept until plugins that concern `hooks` come or go.

    >>> import tt_core
    >>> answers = Answers(lambda key: key * 2, {"tt_kernel"})
    >>> answers(2)
    4
    """

    def __init__(self, ask: Callable[[K], T], hooks: Set[str]) -> None:
        self._ask = ask
        self._known: dict[K, T] = {}
        manager.rebinders.append((self._forget, hooks))

    def __call__(self, key: K) -> T:
        known = self._known
        try:
            return known[key]
        except KeyError:
            answer = self._ask(key)
            known[key] = answer  # in the dictionary of before, which another thread that plugs in meanwhile drops
            return answer

    def _forget(self) -> None:
        self._known = {}


_entries: dict[str, EntryPoint] = {}
"""Entry points found so far, because searching all installed packages takes 10 ms."""


def available(group: str = GROUP) -> dict[str, EntryPoint]:
    """The installed plugins by name; imports nothing."""
    return {entry.name: entry for entry in sorted(entry_points(group=group), key=lambda entry: entry.name)}


def load(entry: EntryPoint) -> object:
    """Imports the plugin of an entry point; raises `PluginError` that names it and its error."""
    try:
        return entry.load()
    except Exception as error:  # whatever a foreign package raises on import
        raise PluginError(f"plugin {entry.name} does not load: {type(error).__name__}: {error}") from error


def activate(name: str) -> bool:
    """Activates the installed plugin `name`; returns False if it was active already.

    Raises `PluginError` for an unknown name and for a plugin that does not load.
    """
    if manager.has_plugin(name):
        return False
    if name not in _entries:
        installed = available()
        if name not in installed:
            if re.search(r"[,;+ ]", name):
                raise PluginError(
                    f"no plugin is called {name}; name several one by one: use('a', 'b'), --plugin a --plugin b, "
                    f"TT_PLUGINS=a,b"
                )
            from tt_core.engine.later import absent_thing  # here, because its imports take time

            raise PluginError(f"no plugin is called {name}; {absent_thing('plugin', name, installed)}")
        _entries[name] = installed[name]
    plugin = load(_entries[name])
    if manager.has_plugin(name):  # its import activated it, as `import tt_learn` does
        return False
    manager.register(plugin, name)
    return True


F = TypeVar("F", bound=Callable[..., Any])

_users: dict[str, list[Use]] = {}
"""The users of each plugin that `use` has activated."""
_using = threading.RLock()


@checked
def use(*plugins: object, report: bool = True) -> Use:
    """Activates plugins, given by name or as objects, until the returned handle is disabled, or for a block.

    On its own line, `use("jit")` keeps the plugin active until `disable("jit")` or `handle.disable()`. As a block
    (`with use("profiler") as profiler:`), it yields the plugin, or a tuple of several, and at the end deactivates those
    that were not active before. It also decorates a function. Plugins apply to the whole process, all threads included,
    and a plugin stays active until its last user is gone. Then its report is printed on standard error, unless `report`
    is False; the report of a plugin that stays is printed when the process ends. Raises `PluginError` for a name that
    is unknown or does not load, and for an object that is not a plugin.

    >>> import tt_core
    >>> class Twice:
    ...     @hookimpl
    ...     def tt_kernel(self, op):
    ...         return (lambda x: 2 * x) if op is tt_core.relu else None
    >>> with use(Twice()):
    ...     tt_core.relu(tt_core.tensor([-1.0]))
    tensor([-2.])
    """
    return Use(plugins, report)


def disable(*plugins: object) -> None:
    """Deactivates plugins, given by name or as objects, even if they are in use elsewhere, and prints their reports.

    Raises `PluginError` for a plugin that is not active.

    >>> class Quiet:
    ...     @hookimpl
    ...     def tt_report(self):
    ...         return None
    >>> handle = use(Quiet())
    >>> manager.has_plugin("Quiet"), disable("Quiet"), manager.has_plugin("Quiet")
    (True, None, False)
    """
    manager.load_pending()
    for plugin in plugins:
        name = plugin if isinstance(plugin, str) else manager.get_name(plugin)
        if name is None or not manager.has_plugin(name):
            active = [known for known, _ in manager.list_name_plugin() if not known.isdigit()]
            who = plugin if isinstance(plugin, str) else _name_of(plugin)
            raise PluginError(f"disable: no plugin called {who} is active; {did_you_mean(who, active)}")
        with _using:
            users = _users.pop(name, [])
            measured = _unplug(name)
        if any(user.report for user in users) or name in manager.environment:
            _print_report(measured)


class Use:
    """The handle that `use` returns; `disable()` ends it, and so does the end of its block."""

    def __init__(self, plugins: tuple[object, ...], report: bool = True) -> None:
        self.report = report
        self._asked = plugins
        self._held: list[str] = []  # names, of those that are not active for good
        self._blocks = 0  # how many `with` blocks it is in
        self.plugins = self._hold()

    def __enter__(self) -> Any:
        with _using:
            if not self._held:  # it was disabled since
                self.plugins = self._hold()
            self._blocks += 1
        return self.plugins[0] if len(self.plugins) == 1 else self.plugins or None

    def __exit__(self, *_: object) -> None:
        with _using:
            self._blocks -= 1
        if not self._blocks:
            self.disable()

    def __call__(self, function: F) -> F:
        """Decorates `function`: the plugins are active while it runs."""
        self.disable()

        @functools.wraps(function)
        def run(*inputs: Any, **options: Any) -> Any:
            with Use(self._asked, self.report):
                return function(*inputs, **options)

        return cast(F, run)

    def __repr__(self) -> str:
        names = [x if isinstance(x, str) else f"{type(x).__name__}()" for x in self._asked]
        return f"<use {', '.join(names)}: {'in use' if self._held else 'not held by this handle'}>"

    def disable(self) -> None:
        """Releases the plugins; those without another user that were not active before are deactivated."""
        held, self._held = self._held, []
        with contextlib.ExitStack() as releases:  # all of them, also after a report that raises
            for name in held:
                releases.callback(_release, name, self)

    def _hold(self) -> tuple[Any, ...]:
        manager.load_pending()  # so that a plugin that TT_PLUGINS names outlives the block
        try:
            names = [_hold(plugin, self, self._held) for plugin in self._asked]
        except BaseException:
            self.disable()
            raise
        return tuple([manager.get_plugin(name) for name in names])


def _hold(plugin: object, user: Use, held: list[str]) -> str:
    """Activates a plugin, or adds a user, and adds its name to `held`, unless the plugin is active permanently."""
    if isinstance(plugin, (list, tuple, set)) or hasattr(plugin, "dtype"):  # whose `==` gives no truth value
        raise PluginError(f"use: takes a plugin's name or a plugin, got {shown(plugin)}")
    with _using:
        name = plugin if isinstance(plugin, str) else manager.get_name(plugin) or _name_for(plugin, user)
        if name not in _users or not manager.has_plugin(name):
            if isinstance(plugin, str):
                added = activate(plugin)
            else:
                added = not manager.is_registered(plugin) and bool(manager.register(plugin, name))
            if not added:
                return name
            _users[name] = []
        _users[name].append(user)
        held.append(name)
        if user.report:
            _report_at_exit(name)
        return name


def _name_for(plugin: object, user: Use) -> str:
    """The name of a plugin's class, with a number if it is taken.

    If a notebook cell runs again, its permanent plugin from before is removed, and the new one gets its name. Two
    plugins of one call of `use` stay side by side.
    """
    base = name = _name_of(plugin)
    number = 1
    while manager.has_plugin(name):
        old = manager.get_plugin(name)
        users = _users.get(name, [user])
        for_good = all(not other._blocks for other in users)
        again = user not in users and (for_good or type(old) is not type(plugin))
        if again and redefined(f"plugin {name}", old, plugin):
            del _users[name]
            manager.unregister(old)
            return name
        number += 1
        name = f"{base}-{number}"
    return name


def _release(name: str, user: Use) -> None:
    with _using:
        users = _users.get(name, [])
        if user not in users:  # somebody has disabled it by name
            return
        users.remove(user)
        if users:
            return
        del _users[name]
        measured = _unplug(name) if manager.has_plugin(name) else []  # or somebody has unplugged it by hand
    if user.report:
        _print_report(measured)


def _unplug(name: str) -> list[str]:
    """Deactivates a plugin by name, and returns its reports."""
    try:
        return _measured(name)
    finally:
        manager.unregister(name=name)


def _measured(name: str) -> list[str]:
    return _ask_one(manager, manager.get_plugin(name), "tt_report")


_to_report: dict[str, None] = {}
"""Names of permanent plugins in order: those of TT_PLUGINS, and those that `use` has activated."""


def _report_at_exit(name: str) -> None:
    if not _to_report:
        atexit.register(_report_all)
    _to_report[name] = None


def _report_all() -> None:
    """Prints the reports of permanent plugins, unless a command has done so or this is a worker process."""
    if not manager.reported and multiprocessing.parent_process() is None:
        for name in list(_to_report):
            if manager.has_plugin(name) and (name in manager.environment or name in _users):
                _print_report(_measured(name))


def _print_report(texts: Iterable[str]) -> None:
    for text in texts:
        if sys.stderr is not None:
            print(text, file=sys.stderr)
