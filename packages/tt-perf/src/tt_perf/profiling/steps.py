"""Part of module 14: PyTorch's names: `profile(schedule=...)` with `step()`, and `record_function`.

A schedule says for each step of a loop whether it is skipped, run once to warm up, or recorded:

    skip_first   then again and again:   wait   warmup   active   wait   warmup   active   ...

First steps allocate, compile and fill caches, so a measurement that includes them describes no later step.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from enum import Enum
from typing import Any, TypeVar, cast

from tt_core.engine.arguments import checked
from tt_core.engine.errors import DTypeError, shown
from tt_core.engine.hookspecs import hookimpl
from tt_core.engine.plugins import manager
from tt_perf.profiling.profiler import Profiler
from tt_perf.profiling.tree import MOST_EVENTS, Frame, Key, Recording
from tt_perf.profiling.watching import ProfilerError, active

F = TypeVar("F", bound=Callable[..., Any])


class ProfilerAction(Enum):
    """What a profile does during a step."""

    NONE = 0
    WARMUP = 1
    RECORD = 2
    RECORD_AND_SAVE = 3


class ProfilerActivity(Enum):
    """What can be measured: the processor."""

    CPU = 0


Schedule = Callable[[int], ProfilerAction]


@checked
def schedule(*, wait: int, warmup: int, active: int, repeat: int = 0, skip_first: int = 0) -> Schedule:
    """What to do in each step: skip `skip_first`, then in turn wait, warm up and record; `repeat` times, or for ever.

    Raises `DTypeError` for values that are not integers, `ProfilerError` for negative ones and for no active step.

    >>> plan = schedule(wait=1, warmup=1, active=2, repeat=1)
    >>> [plan(step).name for step in range(5)]
    ['NONE', 'WARMUP', 'RECORD', 'RECORD_AND_SAVE', 'NONE']
    """
    counts = {"wait": wait, "warmup": warmup, "active": active, "repeat": repeat, "skip_first": skip_first}
    for name, value in counts.items():
        least = 1 if name == "active" else 0
        if value < least:
            raise ProfilerError(f"schedule: {name} is {value}, expected at least {least}")

    def action(step: int) -> ProfilerAction:
        if step < 0:
            raise ProfilerError(f"schedule: step is {step}, expected 0 or more")
        step -= skip_first
        cycle, place = divmod(step, wait + warmup + active)
        if step < 0 or (repeat and cycle >= repeat) or place < wait:
            return ProfilerAction.NONE
        if place < wait + warmup:
            return ProfilerAction.WARMUP
        last = place == wait + warmup + active - 1
        return ProfilerAction.RECORD_AND_SAVE if last else ProfilerAction.RECORD

    return action


def _always(step: int) -> ProfilerAction:
    return ProfilerAction.RECORD


class profile(Profiler):
    """PyTorch's profiler: a block in which the steps that `schedule` chooses are recorded.

    Without `schedule`, everything is. `on_trace_ready(profile)` is called after the last active step of each cycle,
    and at the end of the block if something was recorded since; each cycle starts a new recording. The other options
    are those of `Profiler`. Raises `ProfilerError` for options it cannot use.

    >>> import tt_core
    >>> x, seen = tt_core.ones(2), []
    >>> with profile(
    ...     schedule=schedule(wait=1, warmup=1, active=2), on_trace_ready=lambda p: seen.append(p.entries()[-1].calls)
    ... ) as p:
    ...     for _ in range(8):
    ...         _ = x + 1
    ...         p.step()
    >>> seen
    [2, 2]
    """

    @checked
    def __init__(
        self,
        *,
        activities: Iterable[ProfilerActivity] | None = None,
        schedule: Schedule | None = None,
        on_trace_ready: Callable[[profile], Any] | None = None,
        record_shapes: bool = False,
        profile_memory: bool = False,
        with_stack: bool = False,
        with_flops: bool = False,
        most_events: int = MOST_EVENTS,
    ) -> None:
        super().__init__(
            record_shapes=record_shapes,
            profile_memory=profile_memory,
            with_stack=with_stack,
            with_flops=with_flops,
            most_events=most_events,
        )
        wanted = [ProfilerActivity.CPU] if activities is None else list(activities)
        if not wanted or any(activity is not ProfilerActivity.CPU for activity in wanted):
            raise ProfilerError(f"profile: activities is {shown(activities)}, expected [ProfilerActivity.CPU]")
        self.schedule, self.on_trace_ready = schedule or _always, on_trace_ready
        self._with_steps = schedule is not None
        self.step_num = 0
        self.current_action = ProfilerAction.NONE
        self._step: tuple[Recording, Frame] | None = None
        self._unread = self._in_block = False

    # --- a block with steps

    def __exit__(self, *_: object) -> None:
        self._in_block = True
        try:
            super().__exit__()
        finally:
            self._in_block = False
        if self._unread and not self._blocks:
            self._ready()  # here, where an error of the user's function is the user's own

    @hookimpl
    def tt_unplugged(self) -> None:
        super().tt_unplugged()
        if self._unread and not self._in_block:  # `use(profile(...))` has no end of a block of ours
            self._ready()

    def _begin(self) -> None:
        """Begin with step 0."""
        self.step_num, self.current_action = 0, ProfilerAction.NONE
        self.recording = self.memory = None
        self._go_to(self._action())

    def _end(self) -> None:
        """End the last step and hand over its recording."""
        self._unread = self.current_action.value >= ProfilerAction.RECORD.value and self._live is not None
        self._end_step()
        super()._end()
        self.current_action = ProfilerAction.NONE

    def step(self) -> None:
        """Mark the end of a step of your loop. Raises `ProfilerError` outside the block."""
        if not manager.is_registered(self):
            raise ProfilerError("profile.step: call it inside of the block")
        self._end_step()
        if self.current_action is ProfilerAction.RECORD_AND_SAVE:
            super()._end()
            self.current_action = ProfilerAction.NONE
            self._ready()
        self.step_num += 1
        self._go_to(self._action())

    def _action(self) -> ProfilerAction:
        action = self.schedule(self.step_num)
        if not isinstance(action, ProfilerAction):
            raise ProfilerError(f"profile: schedule({self.step_num}) gives {shown(action)}, expected a ProfilerAction")
        return action

    def _go_to(self, action: ProfilerAction) -> None:
        before, self.current_action = self.current_action, action
        if action is ProfilerAction.NONE:
            super()._end()
        elif action is ProfilerAction.WARMUP or before.value < ProfilerAction.RECORD.value:
            super()._begin()  # what warming up recorded is forgotten
        if self._with_steps and self._live is not None and action is not ProfilerAction.WARMUP:
            self._step = self._live, self._live.enter(Key("step", "ProfilerStep*"), f"ProfilerStep#{self.step_num}")

    def _end_step(self) -> None:
        step, self._step = self._step, None
        if step is not None:
            step[0].leave(step[1])

    def _ready(self) -> None:
        self._unread = False
        if self.on_trace_ready is not None:
            self.on_trace_ready(self)


class record_function:
    """Names a block or a decorated function in profiles.

    Raises `DTypeError` for a name that is not a str, `ProfilerError` for an empty one.

    >>> with Profiler() as profiler:
    ...     with record_function("prepare"):
    ...         pass
    >>> [(entry.kind, entry.name, entry.calls) for entry in profiler.entries()]
    [('range', 'prepare', 1)]
    """

    @checked
    def __init__(self, name: str, args: str | None = None) -> None:
        if not name:
            raise ProfilerError("record_function: the name is empty, expected what to show")
        self.name, self.args = name, args
        self._frames: list[list[tuple[Recording, Frame]]] = []

    def __enter__(self) -> record_function:
        key = Key("range", self.name)
        live = [profiler._live for profiler in active]
        self._frames.append([(recording, recording.enter(key)) for recording in live if recording is not None])
        return self

    def __exit__(self, *_: object) -> None:
        for recording, frame in reversed(self._frames.pop()):
            recording.leave(frame)

    def __call__(self, function: F) -> F:
        """Decorate a function: each call of it is such a block. Raises `DTypeError` for what cannot be called."""
        if not callable(function):
            raise DTypeError(f"record_function: decorates a function, got {shown(function)}")

        @functools.wraps(function)
        def recorded(*inputs: Any, **options: Any) -> Any:
            with record_function(self.name, self.args):
                return function(*inputs, **options)

        return cast(F, recorded)
