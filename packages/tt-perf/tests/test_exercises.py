"""The exercises of Act V: the framework's text passes, and what is wrong in a plausible way does not."""

from __future__ import annotations

from pathlib import Path

import pytest

from tt_core.command.journey import Module
from tt_core.course.exercises import exercises_of
from tt_core.course.testing import described_badly, failures, missed, new_workspace, verdicts, written
from tt_perf.cli import plugin

MODULES = {module.name: module for module in plugin.tt_modules() if exercises_of(module)}
every_module = pytest.mark.parametrize("module", MODULES.values(), ids=MODULES.keys())


@every_module
def test_every_exercise_is_in_its_file_with_hints_points_and_checks(module: Module) -> None:
    assert 4 <= len(exercises_of(module)) <= 12
    assert described_badly(module) == []


@every_module
def test_the_frameworks_own_text_passes(module: Module, tmp_path: Path) -> None:
    workspace = new_workspace(tmp_path)
    written(workspace, module, {})
    assert failures(workspace, module) == {}


@every_module
@pytest.mark.parametrize("body", [None, "pass", "return None"])
def test_what_is_not_written_fails_by_name(module: Module, body: str | None, tmp_path: Path) -> None:
    workspace = new_workspace(tmp_path)
    names = [exercise.name for exercise in exercises_of(module)]
    if body is None:
        workspace.start(module)
    else:
        written(workspace, module, dict.fromkeys(names, body))
    found = verdicts(workspace, module)
    assert list(found) == names
    assert [name for name, verdict in found.items() if verdict.passed or not verdict.lines] == []


WRONG: dict[str, dict[str, list[str]]] = {
    "profiling": {
        "Machine.ridge": ["return self.bytes_per_second / self.flops_per_second"],
        "product_flops": [
            "return size(output) * int(inputs[0].shape[-1])",
            "return 2 * size(inputs[0]) * int(inputs[1].shape[-1])",
        ],
        "convolution_flops": ["return 2 * size(result) * int(prod(weight.shape))"],
        "attention_flops": [
            "return 4 * size(output) * int(inputs[0].shape[-2])",
            "return 4 * size(output) * int(inputs[1].shape[-2])",
            "key, value = inputs[1:3]\nreturn 2 * size(key) // int(key.shape[-1]) * int(inputs[0].shape[-2]) "
            "* int(key.shape[-1] + value.shape[-1])",
        ],
        "stored_bytes": [
            "return int(array.nbytes)",
            "return int(max(array.strides, default=array.itemsize) * array.shape[0])",
        ],
        "Call.self_ns": ["return self.ns", "return self.ns - sum(child.self_ns for child in self.children.values())"],
        "Call.walk": [
            "yield self, above\nfor child in self.children.values():\n    yield from child.walk(above)",
            "for child in self.children.values():\n    yield from child.walk((*above, self.key))\nyield self, above",
            "yield self, above\nyield from ((child, (*above, self.key)) for child in self.children.values())",
        ],
        "Call.add": [
            "for name in self.__slots__:\n    if name not in ('children', 'key'):\n"
            "        setattr(self, name, getattr(self, name) + getattr(other, name))",
            "for name in self.__slots__:\n    if name not in ('children', 'key'):\n"
            "        setattr(self, name, getattr(self, name) + getattr(other, name))\n"
            "for key, child in other.children.items():\n    if key in self.children:\n"
            "        self.children[key].add(child)\n    else:\n        self.children[key] = child",
        ],
        "outermost": [
            "for call, around in calls:\n    mine = group(call.key)\n    yield mine, call, not around",
            "for call, around in calls:\n    mine = group(call.key)\n"
            "    yield mine, call, not around or group(around[-1]) != mine",
        ],
        "Recording.leave": [
            "end = perf_counter_ns()\nstack = self.here().stack\nif frame not in stack:\n    return 0\nstack.pop()\n"
            "ns = end - frame.start\nframe.call.count += 1\nframe.call.ns += ns\nframe.call.inside += frame.inside\n"
            "stack[-1].inside += ns\n"
            "self.events.append(Event(frame.call.key, frame.start, end, self.home, '', -1))\nreturn ns",
            "end = perf_counter_ns()\nstack = self.here().stack\nif frame not in stack:\n    return 0\n"
            "while True:\n    last = stack.pop()\n    ns = end - last.start\n    last.call.count += 1\n"
            "    last.call.ns += ns - last.inside\n    last.call.inside += last.inside\n    stack[-1].inside += ns\n"
            "    self.events.append(Event(last.call.key, last.start, end, self.home, '', -1))\n"
            "    if last is frame:\n        return ns",
        ],
        "verdict": [
            "needed = {'memory': bytes_moved / machine.bytes_per_second, 'compute': flops / machine.flops_per_second}\n"
            "bound = max(needed, key=needed.__getitem__)\n"
            "return Verdict(name, calls, seconds, flops, bytes_moved, bound, needed[bound] / seconds, machine)",
            "needed = {'overhead': machine.seconds_per_call, 'memory': bytes_moved / machine.bytes_per_second, "
            "'compute': flops / machine.flops_per_second}\nbound = max(needed, key=needed.__getitem__)\n"
            "return Verdict(name, calls, seconds, flops, bytes_moved, bound, needed[bound] / seconds, machine)",
            "needed = {'overhead': calls * machine.seconds_per_call, "
            "'memory': bytes_moved / machine.bytes_per_second, 'compute': flops / machine.flops_per_second}\n"
            "bound = max(needed, key=needed.__getitem__)\n"
            "return Verdict(name, calls, seconds, flops, bytes_moved, bound, seconds / needed[bound], machine)",
        ],
    },
}


@every_module
def test_plausible_wrong_solutions_are_caught(module: Module, tmp_path: Path) -> None:
    wrong = WRONG[module.name]
    assert sum(map(len, wrong.values())) >= 6
    assert missed(new_workspace(tmp_path), module, wrong) == []
