"""Part of `capture`: when a step is recorded, when its tape is run, and when neither."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Iterator
from typing import Any

from tt_core.engine.dispatch import Array
from tt_core.engine.errors import ArgumentError, shown
from tt_core.engine.plugins import manager
from tt_learn.autograd import Tensor, is_grad_enabled, rule_of
from tt_learn.autograd import plugin as autograd
from tt_learn.autograd.rules import has_rule
from tt_perf.acceleration.capture.fuse import fused
from tt_perf.acceleration.capture.hooks import LOOKS_ON, RecordingHooks, plugins
from tt_perf.acceleration.capture.plan import live
from tt_perf.acceleration.capture.record import one_at_a_time, record
from tt_perf.acceleration.capture.replay import Replay, Stale
from tt_perf.acceleration.capture.tape import Call, Tape
from tt_perf.acceleration.capture.traced import Traced, recording
from tt_perf.acceleration.capture.watch import Transparent, Unwatchable, Watch, has_more, is_framework

_PLANS = 4  # of one signature: two modes of a model, for example
_TRIES = 6  # recordings without a replay in between


class CaptureWarning(UserWarning):
    """A captured step runs as usual, for the reason that the warning gives."""


def onlooker() -> str | None:
    """The name of an active plugin that wants to see each call, and would not see those of a replay.

    A plugin whose attribute `captured_through` names a hook does not mind.
    """
    for hook in LOOKS_ON:
        for implementation in getattr(manager.hook, hook).get_hookimpls():
            plugin = implementation.plugin
            ours = plugin is autograd or isinstance(plugin, RecordingHooks)
            if not ours and hook not in getattr(plugin, "captured_through", ()):
                return str(implementation.plugin_name)
    return None


class Captured(Transparent):
    """What `capture` returns: `step`, recorded when it is called first and replayed afterwards.

    `recorded` and `replayed` count calls; `reason` is why the last one was neither.
    """

    def __init__(self, step: Callable[..., Any], watched: tuple[Any, ...] | None = None) -> None:
        if not callable(step):
            raise ArgumentError(f"capture: takes a function, got {shown(step)}")
        functools.update_wrapper(self, step, updated=())
        self.step = step
        self.recorded = self.replayed = 0
        self.reason: str | None = None
        self._roots = (step,) if watched is None else watched
        self._plans: dict[Any, list[_Plan]] = {}
        self._first: dict[Any, Tape] = {}  # tapes that wait for a second one
        self._rests: dict[Any, _Rest] = {}  # signatures that were refused
        self._fruitless = 0
        self._change: str | None = None  # why the last plan did not hold
        self._said: set[str] = set()

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        if recording.here() is not None:  # inside of another step that is being recorded
            return self.step(*arguments, **options)
        tensors: list[Any] = []
        try:
            signature = (is_grad_enabled(), _signature(arguments, tensors), _signature(options, tensors))
        except TypeError as error:
            return self._eagerly(f"an argument {error}", arguments, options)
        for plan in self._plans.get(signature, ()):
            if plan.holds():
                try:
                    result = plan.replay.run([x.data for x in tensors])
                except Stale:
                    return self.step(*arguments, **options)
                self.replayed += 1
                self._fruitless, self._change = 0, None
                return result
            self._change = self._change or plan.changed()
        if self._fruitless > _TRIES or (signature in self._rests and self._rests[signature].goes_on()):
            return self.step(*arguments, **options)
        if not one_at_a_time.acquire(blocking=False):
            return self.step(*arguments, **options)
        try:
            return self._record(signature, tensors, arguments, options)
        finally:
            one_at_a_time.release()

    def _record(self, signature: Any, tensors: list[Any], arguments: tuple[Any, ...], options: dict[str, Any]) -> Any:
        manager.load_pending()
        reason = _objection(tensors)
        try:
            watch = Watch(self._roots) if reason is None else None
        except Unwatchable as error:
            reason, watch = f"it {error}", None
        if watch is None:
            self._rest(signature, reason or "")
            return self.step(*arguments, **options)
        before, changes = [*_parts((arguments, options))], plugins.changes
        result, tape = record(self.step, arguments, options, tensors, watch)
        if any(map(has_more, tensors)) or not _are_all(before, [*_parts((arguments, options))]):
            tape = "it changes an argument"
        self.recorded += 1
        self._fruitless += 1
        if isinstance(tape, str):
            self._first.pop(signature, None)
            self._fruitless -= 1
            self._rest(signature, tape)
        else:
            try:
                self._keep(signature, tape, [watch, Watch(_rules_of_users(tape))], changes)
            except Unwatchable as error:
                self._rest(signature, f"a gradient rule {error}")
        return result

    def _keep(self, signature: Any, tape: Tape, watches: list[Watch], changes: int) -> None:
        """Makes a plan of a tape, once a second one has confirmed it; `changes` were those of plugins before it."""
        changed, first = watches[0].changed(), self._first.get(signature)
        difference = None if first is None else first.difference(tape)
        if changed is None and difference is None and first is not None and _is_confirmed(first, tape):
            del self._first[signature]
            plans = self._plans.setdefault(signature, [])
            plans.insert(0, _Plan(tape, watches, changes))
            del plans[_PLANS:]
            return
        self._first[signature] = tape
        if self._fruitless > _TRIES:
            same = "it makes constants, and every batch is the same, so that it cannot tell what they depend on"
            between = self._change and f"{self._change} changes between its calls"
            self._say(f"it changes {changed}" if changed else difference or between or same)

    def _rest(self, signature: Any, reason: str) -> None:
        """Stops recording for a while, because the next call will be refused too."""
        self._rests[signature] = _Rest(self._rests.get(signature))
        self._say(reason)

    def _eagerly(self, reason: str, arguments: tuple[Any, ...], options: dict[str, Any]) -> Any:
        self._say(reason)
        return self.step(*arguments, **options)

    def _say(self, reason: str) -> None:
        """Gives each reason once."""
        self.reason = reason
        if reason not in self._said:
            self._said.add(reason)
            name = getattr(self.step, "__name__", type(self.step).__name__)
            warnings.warn(f"capture: {name} runs as usual: {reason}", CaptureWarning, stacklevel=5)

    def __repr__(self) -> str:
        name = getattr(self.step, "__name__", type(self.step).__name__)
        return f"<captured {name}: recorded {self.recorded} times, replayed {self.replayed} times>"


class _Rest:
    """A number of calls that are not recorded, each time twice as many; it ends when plugins change."""

    def __init__(self, before: _Rest | None) -> None:
        self._length: int = 100 if before is None else 2 * before._length
        self._left = self._length
        self._plugins = plugins.changes

    def goes_on(self) -> bool:
        self._left -= 1
        return self._left > 0 and self._plugins == plugins.changes


class _Plan:
    """A tape that can be run, and all that must still hold for it."""

    def __init__(self, tape: Tape, watches: list[Watch], changes: int) -> None:
        self.tape = live(fused(live(tape)))
        self.replay = Replay(self.tape)
        self.watches = [watch for watch in watches if watch]
        self._plugins = changes

    def holds(self) -> bool:
        return self._plugins == plugins.changes and all(watch.holds() for watch in self.watches)

    def changed(self) -> str | None:
        """The name of the first thing that is not as it was."""
        return next(filter(None, (watch.changed() for watch in self.watches)), None)


def capture(step: Callable[..., Any]) -> Captured:
    """Records what a function computes, and then runs the kernels alone: no tensors, no graph, no dispatch.

    `step` takes tensors, numbers and containers of these. It is a whole training step (the model, the loss,
    `backward`, clipping, `optimizer.step` and `zero_grad`), or a forward pass under `no_grad`. The first two calls run
    as usual and are recorded. If both recorded the same, later calls replay it, with the same bits and the same random
    numbers. What it returns has no history. Another shape, dtype, mode, plugin, hook, parameter or attribute is
    recorded again. A step that reads values in Python (`item()`, `if loss < 1`), adds gradients up, or draws random
    numbers outside of ops runs as usual, and a `CaptureWarning` says why, once. Side effects outside of ops, such as
    printing, are not replayed. Raises `ArgumentError` for anything but a function.

    >>> import tt_core
    >>> from tt_learn import SGD
    >>> layer = tt_core.Linear(2, 1)
    >>> optimizer = SGD(layer.parameters(), lr=0.1)
    >>> def step(x, y):
    ...     optimizer.zero_grad()
    ...     loss = ((layer(x) - y) ** 2).mean()
    ...     loss.backward()
    ...     optimizer.step()
    ...     return loss
    >>> step = capture(step)
    >>> losses = [step(tt_core.ones(3, 2), tt_core.ones(3, 1)).item() for _ in range(10)]
    >>> losses[-1] < losses[0], step
    (True, <captured step: recorded 2 times, replayed 8 times>)
    """
    return Captured(step)


def _rules_of_users(tape: Tape) -> list[Any]:
    """The gradient rules on a tape that are not the framework's: they may read what the step does not reach."""
    ops = {id(each.op): each.op for each in tape.instructions if isinstance(each, Call)}.values()
    found = (rule_of(op) for op in ops if has_rule(op))
    return [rule for rule in found if rule is not None and not is_framework(rule)]


def _is_confirmed(first: Tape, second: Tape) -> bool:
    """Whether constants that could depend on the arguments were the same for other arguments."""
    if not second.doubtful:
        return True
    return all(a != b for a, b in zip(first.inputs, second.inputs)) and bool(first.inputs)


def _objection(tensors: list[Any]) -> str | None:
    seen = onlooker()
    if seen is not None:
        return f"the plugin {seen} looks at each call"
    if any(x._requires_grad for x in tensors):
        return "an argument requires a gradient"
    return None


def _signature(value: Any, tensors: list[Any]) -> Any:
    """What of the arguments decides which kernels run, and in `tensors` the tensors among them."""
    kind = type(value)
    if kind is Tensor or kind is Traced:  # which another thread may record
        tensors.append(value)
        if has_more(value):
            raise TypeError("has attributes of its own")
        array: Array = value.data
        return array.shape, array.dtype.num, array.strides
    if kind is tuple or kind is list:
        return kind, tuple([_signature(part, tensors) for part in value])
    if kind is dict:
        return kind, tuple([(key, _signature(part, tensors)) for key, part in value.items()])
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return kind, tuple([_signature(part, tensors) for part in value])
    if value is None or kind in (bool, int, str):
        return kind, value
    if kind is float:
        return kind, value.hex()
    raise TypeError("is not a tensor, a number or a container of these")


def _parts(value: Any) -> Iterator[Any]:
    """Everything that nested containers hold, the containers included."""
    yield value
    parts = value.items() if isinstance(value, dict) else value if isinstance(value, (list, tuple)) else ()
    for part in parts:
        yield from _parts(part)


def _are_all(found: list[Any], parts: list[Any]) -> bool:
    return len(found) == len(parts) and all(a is b for a, b in zip(found, parts) if type(a) is not tuple)
