"""Part of module 14: what ran inside what, how often and for how long: a tree of calls for each thread.

    with profiler:
        f(x)            thread               count  time  time inside
        g(x)              f                      1     5            3
                            h                    2     3            0
                          g                      1     2            0

Entering a call goes down to a child, which is made when it comes for the first time; leaving it adds its time to the
child, and to the time that the parent spent inside of others. *Self* time is what remains, so the self times of all
calls add up to the time of the root. Tables, flame graphs and collapsed stacks are read off this tree. Its size
depends on the program, not on how long it runs; single events are kept in a ring of fixed length.

A thread changes its own tree alone, so nothing is locked and nothing is lost.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from time import perf_counter_ns
from typing import Any, NamedTuple

MOST_EVENTS = 50_000
"""Events that are kept for traces; the oldest go first."""
MOST_CALLS = 20_000
"""The most nodes of the trees; beyond, calls in new places count as "(others)"."""
MOST_THREADS = 256
"""The most threads with separate trees; beyond, the trees of ended threads become one."""


class Key(NamedTuple):
    """Distinguishes the calls that were made in the same place."""

    kind: str
    """op, layer, backward, optimizer, range, step or thread"""
    name: str
    phase: str = "forward"
    site: str = ""
    """The source line that made the call, where that is recorded."""
    shapes: tuple[tuple[int, ...], ...] = ()
    """The shapes of the inputs, where they are recorded."""

    @property
    def title(self) -> str:
        """The name in tables that list forward and backward separately.

        >>> Key("op", "mul").title, Key("op", "mul", "backward").title, Key("backward", "gelu", "backward").title
        ('mul', 'mul in backward', 'backward of gelu')
        """
        if self.kind == "backward":
            return self.name if self.name == "backward" else f"backward of {self.name}"
        if self.phase == "forward" or self.name.endswith("_backward"):
            return self.name
        return f"{self.name} in {self.phase}"


class Call:
    """A node of the tree: what all calls with one key, made inside the same calls, add up to. Times in nanoseconds."""

    __slots__ = ("allocated", "children", "count", "flops", "freed", "inside", "key", "ns", "output", "read", "written")

    def __init__(self, key: Key) -> None:
        self.key = key
        self.children: dict[Key, Call] = {}
        # `inside` is summed while calls end, so that self time needs no walk over the children
        self.count = self.ns = self.inside = 0
        self.flops = self.read = self.written = self.output = self.allocated = self.freed = 0

    @property
    def self_ns(self) -> int:
        """Time in this call without the calls inside it."""
        return self.ns - self.inside

    def add(self, other: Call) -> None:
        """Add what `other`, and all below it, measured."""
        for name in self.__slots__:
            if name not in ("children", "key"):
                setattr(self, name, getattr(self, name) + getattr(other, name))
        for key, child in list(other.children.items()):
            self.children.setdefault(key, Call(key)).add(child)

    def walk(self, above: tuple[Key, ...] = ()) -> Iterator[tuple[Call, tuple[Key, ...]]]:
        """This node and all below it, each with the keys of the calls around it, outermost first."""
        stack = [(self, above)]  # not recursion: a program may nest deeper than Python's limit
        while stack:
            call, around = stack.pop()
            yield call, around
            inner = (*around, call.key)
            stack += [(child, inner) for child in reversed(list(call.children.values()))]


class Event(NamedTuple):
    """One call that was made, for traces. Times in nanoseconds of `time.perf_counter_ns`."""

    key: Key
    start: int
    end: int
    thread: int
    label: str
    """The displayed name, if it differs from the key: "ProfilerStep#3"."""
    node: int
    """The number of the node in the graph of gradients that this call made, or that it visited; -1 for none."""

    @property
    def name(self) -> str:
        """What traces call it."""
        return self.label or self.key.title

    @property
    def cpu_time_total(self) -> float:
        """Microseconds, as in PyTorch."""
        return (self.end - self.start) / 1000


class Frame:
    """A call that is running."""

    __slots__ = ("call", "inside", "label", "node", "start")

    def __init__(self, call: Call, label: str = "") -> None:
        self.call, self.label = call, label
        self.inside, self.node = 0, -1
        # the last thing before the call runs, so that making the frame does not count as the call's time
        self.start = perf_counter_ns()


class Thread:
    """What one thread is doing: its tree, and the calls that are running, innermost last."""

    __slots__ = ("name", "root", "stack")

    def __init__(self, name: str) -> None:
        self.name = name
        self.root = Call(Key("thread", name))
        self.stack = [Frame(self.root)]


class Recording:
    """Everything that was measured between two moments.

    >>> recording = Recording()
    >>> frame = recording.enter(Key("range", "work"))
    >>> recording.leave(frame) > 0
    True
    >>> recording.stop()
    >>> [(call.key.name, call.count) for call, _ in recording.calls()]
    [('MainThread', 1), ('work', 1)]
    """

    def __init__(self, most_events: int = MOST_EVENTS) -> None:
        # the tree is complete however long the program runs; only single events are forgotten
        self.events: deque[Event] = deque(maxlen=most_events)
        self.ended: Call | None = None  # what threads that have ended measured
        self.nodes = 0
        self.threads: dict[int, Thread] = {}
        self.home = threading.get_ident()
        self.here().root.count = 1
        self.start, self.end = perf_counter_ns(), 0
        self.first = 0
        """When the first call began; 0 if none has."""

    def here(self) -> Thread:
        """The state of the calling thread."""
        ident = threading.get_ident()
        try:  # every call of a thread but its first
            return self.threads[ident]
        except KeyError:
            if len(self.threads) >= MOST_THREADS:
                self._forget_ended()
            thread = self.threads[ident] = Thread(threading.current_thread().name)
            return thread

    def enter(self, key: Key, label: str = "") -> Frame:
        """Begin a call inside the one that is running in this thread."""
        stack = self.here().stack
        children = stack[-1].call.children
        call = children.get(key)
        if call is None:
            call = self._new(children, key)
        frame = Frame(call, label)
        stack.append(frame)
        return frame

    def leave(self, frame: Frame) -> int:
        """End a call and those inside it that are still running; returns its nanoseconds.

        A call that has already ended stays as it is, and gives 0: a generator's block may end after the call around it.
        """
        end, ident = perf_counter_ns(), threading.get_ident()
        thread = self.threads.get(ident)
        stack = thread.stack if thread is not None else []
        if not stack or (stack[-1] is not frame and frame not in stack):
            return 0
        while True:  # calls inside that an exception left open end with this one
            last = stack.pop()
            ns = end - last.start
            call, around = last.call, stack[-1]
            call.count += 1
            call.ns += ns
            call.inside += last.inside
            around.inside += ns
            self.events.append(Event(call.key, last.start, end, ident, last.label, last.node))
            if last is frame:
                return ns

    def stop(self) -> None:
        """End the recording; calls that are still running in this thread end now."""
        stack = self.threads[self.home].stack
        if len(stack) > 1 and threading.get_ident() == self.home:
            self.leave(stack[1])
        self.end = perf_counter_ns()

    @property
    def ns(self) -> int:
        """Nanoseconds that the recording took, or has taken so far."""
        return (self.end or perf_counter_ns()) - self.start

    @property
    def dropped(self) -> int:
        """How many events were dropped from the full ring."""
        return max(0, sum(call.count for call, around in self.calls() if around) - len(self.events))

    def roots(self) -> list[Call]:
        """A copy of the tree of each thread, to which calls that are still running add their time so far.

        The root of the starting thread lasts from begin to end; the root of another thread, for the time of its calls.
        """
        found = []
        now = self.end or perf_counter_ns()
        for ident, thread in list(self.threads.items()):
            root = _copy_with_running(thread, now)
            root.count, root.ns = 1, max(now - self.start, root.inside) if ident == self.home else root.inside
            found.append(root)
        return found if self.ended is None else [*found, self.ended]

    def calls(self) -> Iterator[tuple[Call, tuple[Key, ...]]]:
        """Each node of each tree, with the keys around it."""
        for root in self.roots():
            yield from root.walk()

    @property
    def ns_before(self) -> int:
        """How long it took until the first call began: what a program reads, prepares or compiles before any op."""
        return self.first - self.start if self.first else 0

    def _new(self, children: dict[Key, Call], key: Key) -> Call:
        self.first = self.first or perf_counter_ns()
        # a program that calls from ever new places must not fill the memory
        if self.nodes >= MOST_CALLS:
            key = key._replace(site="", shapes=())
            if key not in children:
                key = Key(key.kind, "(others)", key.phase)
        self.nodes += 1
        return children.setdefault(key, Call(key))

    def _forget_ended(self) -> None:
        """Merge the trees of threads that have ended into one."""
        alive = {self.home, *(thread.ident for thread in threading.enumerate())}
        for ident in [ident for ident in list(self.threads) if ident not in alive]:
            if self.ended is None:
                self.ended = Call(Key("thread", "threads that have ended"))
            self.ended.add(self.threads.pop(ident).root)


def _copy_with_running(thread: Thread, now: int) -> Call:
    """The tree of a thread, with the time that its running calls have taken."""
    call = root = Call(thread.root.key)
    root.add(thread.root)
    stack = list(thread.stack)
    for frame, inner in zip(stack, [*stack[1:], None]):
        call.inside += frame.inside
        if inner is not None:
            call.inside += max(0, now - inner.start)
            call = call.children.setdefault(inner.call.key, Call(inner.call.key))
            call.ns += max(0, now - inner.start)
    return root


Grouping = Callable[[Key], Any]


def outermost(calls: Iterator[tuple[Call, tuple[Key, ...]]], group: Grouping) -> Iterator[tuple[Any, Call, bool]]:
    """Each node with its group, and whether it is outermost: only there does its whole time count for the group."""
    for call, around in calls:
        mine = group(call.key)
        yield mine, call, all(group(key) != mine for key in around)
