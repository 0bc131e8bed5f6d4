"""The plugin manager: who is plugged in, by what name, and in which order their answers nest.

pluggy works here, at the edge, and never inside a computation: hooks are asked when a plugin comes or goes, and
whoever binds their answers (the ops, the layers) registers a function with `manager.rebinders` to be called then.
Nothing is loaded by itself: names come from `use(...)`, from `--plugin`, or from the variable TT_PLUGINS.
"""

from __future__ import annotations

import atexit
import multiprocessing
import os
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import EntryPoint, entry_points
from typing import Any

import pluggy

from tt_core import hookspecs
from tt_core.arguments import checked
from tt_core.errors import PluginError, did_you_mean
from tt_core.hookspecs import hookimpl as hookimpl
from tt_core.hookspecs import hookspec as hookspec

GROUP = "tinytorch"
ACTS_GROUP = "tinytorch.acts"


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
        self.rebinders: list[Callable[[], None]] = []
        self.pending: list[str] = []
        self.reported = False  # whether a command has printed what plugins measured
        self.add_hookspecs(hookspecs)

    def register(self, plugin: object, name: str | None = None) -> str | None:
        """Plug `plugin` in and rebind, and return its name.

        Raises `PluginError` for a plugin that is active already, that excludes an active one or is excluded by it (an
        attribute `excludes` names plugins), or whose hooks are misspelt or fail to bind; it leaves no trace.
        """
        who = name or str(getattr(plugin, "__name__", type(plugin).__name__))
        if self.is_registered(plugin) or (name is not None and self.has_plugin(name)):
            raise PluginError(f"plugin {who} is active already; unregister it first")
        self._check_excluded(plugin, who)
        self._check_hooks(plugin, who)
        try:
            registered = super().register(plugin, name)
            self.rebind()
        except pluggy.PluginValidationError as error:
            if self.is_registered(plugin):  # so it is with pluggy before 1.7
                self.unregister(plugin)
            raise PluginError(f"plugin {who}: {str(error).splitlines()[-1]}") from None
        except PluginError:  # the plugin says itself what it lacks
            self.unregister(plugin)
            raise
        except Exception as error:  # whatever its hooks raise
            self.unregister(plugin)
            raise PluginError(f"plugin {who} fails when asked: {type(error).__name__}: {error}") from error
        return registered

    def unregister(self, plugin: object | None = None, name: str | None = None) -> Any:
        """Unplug by object or by name and rebind: every chain is again what it was before."""
        removed = super().unregister(plugin, name)
        self.rebind()
        return removed

    def rebind(self) -> None:
        """Have every op and layer ask its hooks again."""
        for rebind in self.rebinders:
            rebind()

    def chained(self, hook: str, value: Any, /, *, into: str, **arguments: Any) -> Any:
        """Hand `value` through every answer to `hook`, innermost first; None leaves it as it is.

        `into` names the hook's parameter that receives the value.
        """
        for implementation in getattr(self.hook, hook).get_hookimpls():  # the last one is pluggy's first
            given = {**arguments, into: value}
            answer = implementation.function(*(given[name] for name in implementation.argnames))
            value = value if answer is None else answer
        return value

    def ask(self, hook: str, /, **arguments: Any) -> Any:
        """What plugins answer to `hook`, for who asks outside of an op or layer: those of TT_PLUGINS are asked too."""
        if self.pending:
            self.load_pending()
        return getattr(self.hook, hook)(**arguments)

    def load_pending(self) -> None:
        """Plug in what TT_PLUGINS asked for; what does not load is named in a warning and skipped."""
        names, self.pending = self.pending, []
        if names:
            atexit.register(_report_at_exit)
        for name in names:
            try:
                activate(name)
            except PluginError as error:
                warnings.warn(f"TT_PLUGINS: {error}; skipped", stacklevel=4)
        self.rebind()

    def _check_excluded(self, plugin: object, who: str) -> None:
        for other, active in self.list_name_plugin():
            if active is not None and (
                other in getattr(plugin, "excludes", ()) or who in getattr(active, "excludes", ())
            ):
                raise PluginError(f"plugin {who} and plugin {other} exclude each other; use one of them")

    def _check_hooks(self, plugin: object, who: str) -> None:
        known = [hook for hook in vars(self.hook) if hook.startswith("tt_")]
        for attribute in dir(plugin):
            options = self.parse_hookimpl_opts(plugin, attribute)
            if options is None:
                continue
            hook = options.get("specname") or attribute
            if hook not in known:
                raise PluginError(f"plugin {who} answers {hook}, which is no hook; {did_you_mean(hook, known)}")
            if options["wrapper"] or options["hookwrapper"]:
                raise PluginError(f"plugin {who}: {hook} takes a plain function, not a wrapper of pluggy's")


manager = PluginManager()


def available(group: str = GROUP) -> dict[str, EntryPoint]:
    """The installed plugins by name; nothing is imported."""
    return {entry.name: entry for entry in sorted(entry_points(group=group), key=lambda entry: entry.name)}


def load(entry: EntryPoint) -> object:
    """Import the plugin behind an entry point; raises `PluginError` that names it and its error."""
    try:
        return entry.load()
    except Exception as error:  # whatever a foreign package raises on import
        raise PluginError(f"plugin {entry.name} does not load: {type(error).__name__}: {error}") from error


def activate(name: str) -> bool:
    """Plug in the installed plugin `name`; returns whether it was not active before.

    Raises `PluginError` for a name that no installed plugin has, and for a plugin that does not load.
    """
    if manager.has_plugin(name):
        return False
    installed = available()
    if name not in installed:
        raise PluginError(f"no plugin is called {name}; {did_you_mean(name, installed)}")
    plugin = load(installed[name])
    if manager.has_plugin(name):  # importing it plugged it in, as `import tt_learn` does
        return False
    manager.register(plugin, name)
    return True


_users: dict[str, int] = {}
"""How many blocks of `use` hold each plugin that such a block has plugged in."""
_using = threading.RLock()


@contextmanager
@checked
def use(*names: str, report: bool = True) -> Iterator[Any]:
    """Run a block with the named plugins active; on leaving, those that were not active before are unplugged.

    Gives the plugin (`with use("profiler") as profiler:`), or a tuple of them for several names. Plugins are
    process-wide: a block in one thread is seen by all, and where blocks overlap, a plugin stays until the last one of
    them ends. Then what the plugin measured is printed on standard error, unless `report` is False. Raises
    `PluginError` for an unknown name or one that does not load.

    >>> import tt_core
    >>> with tt_core.use():
    ...     tt_core.tensor([1.0]) + 1
    tensor([2.])
    """
    if manager.pending:  # so that a plugin that TT_PLUGINS names outlives the block
        manager.load_pending()
    held: list[str] = []
    try:
        for name in names:
            if _hold(name):
                held.append(name)  # noqa: PERF401 - known at once, in case the next one fails
        plugins = tuple(manager.get_plugin(name) for name in names)
        yield plugins[0] if len(plugins) == 1 else plugins or None
    finally:
        for name in reversed(held):
            _release(name, report)


def _hold(name: str) -> bool:
    """Plug `name` in, or note one more user of it; False for a plugin that is active for good."""
    with _using:
        if name not in _users and not activate(name):
            return False
        _users[name] = _users.get(name, 0) + 1
        return True


def _release(name: str, report: bool) -> None:
    with _using:
        _users[name] -= 1
        if _users[name]:
            return
        del _users[name]
        plugin = manager.get_plugin(name)
        if plugin is None:  # somebody has unplugged it by hand
            return
        manager.unregister(plugin)
    measured = plugin.tt_report() if report and hasattr(plugin, "tt_report") else None
    if measured is not None:
        _print_report(measured)


def _report_at_exit() -> None:
    """Print what the plugins of TT_PLUGINS measured, unless a command has done so, or this is a worker process."""
    if not manager.reported and multiprocessing.parent_process() is None:
        for measured in manager.hook.tt_report():
            _print_report(measured)


def _print_report(text: str) -> None:
    if sys.stderr is not None:
        print(text, file=sys.stderr)


def names_from_environment() -> list[str]:
    """The names in TT_PLUGINS, separated by commas; none where it is not set."""
    return [name.strip() for name in os.environ.get("TT_PLUGINS", "").split(",") if name.strip()]
