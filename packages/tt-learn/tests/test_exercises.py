"""The exercises of Act II: the framework's text passes, and what is wrong in a plausible way does not."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from tt_core.command.cli import cli, load_acts
from tt_core.command.journey import Module
from tt_core.course import finder
from tt_core.course.commands import module_called
from tt_core.course.exercises import Exercise, exercises_of
from tt_core.course.folder import Workspace
from tt_core.course.process import environment
from tt_core.course.sabotage import sabotages
from tt_core.course.testing import CourseTests, KnockoutTests, new_workspace, written
from tt_learn.command.cli import Act

MODULES = {module.name: module for module in Act().tt_modules()}

WRONG: dict[str, dict[str, list[str]]] = {
    "autograd": {
        "mul_rule": ["return lambda g: g * a, lambda g: g * b", "return lambda g: b, lambda g: a"],
        "div_rule": ["return lambda g: g / b, lambda g: g * out / b", "return lambda g: g / b, lambda g: -g * a / b"],
        "exp_rule": ["return (lambda g: out,)"],
        "sum_to": [
            "return x.sum(0).reshape(shape) if x.ndim > len(shape) else x.reshape(shape)",
            "return x.mean(repeated_dims(x.shape, shape)).reshape(shape)",
        ],
        "edges_of": ["return [(x.grad_fn or x, 0) if getattr(x, '_requires_grad', False) else None for x in inputs]"],
        "Node.attach": ["for i, x in enumerate(outputs):\n    x._requires_grad, x.grad_fn, x._output = True, self, i"],
        "GradMode.__exit__": ["recording.on = True", "recording.on = self._before.pop()\nreturn True"],
        "Backward.add": [
            # a gradient that replaces the one before
            "at, output = edge\nif not isinstance(at, Node):\n    self.leaves[id(at)] = (at, g)\n    return\n"
            "self.waiting.append(-at.number)\nself.arrived[at.number] = (at, [g])",
            # a list in place of a heap
            "at, output = edge\nif not isinstance(at, Node):\n    before = self.leaves.get(id(at))\n"
            "    self.leaves[id(at)] = (at, g if before is None else before[1] + g)\n    return\n"
            "if at.number not in self.arrived:\n    self.waiting.append(-at.number)\n"
            "    self.arrived[at.number] = (at, [None] * len(at.outputs))\n"
            "gs = self.arrived[at.number][1]\ngs[output] = g if gs[output] is None else gs[output] + g",
        ],
        "Backward.visit": [
            "for edge, g in node.propagate(gradients):\n    if edge is not None and g is not None:\n"
            "        self.add(edge, g)\nif not self.retain_graph:\n    node.functions = None",
        ],
        "Backward.walk": [
            # the oldest call first
            "with GradMode(self.create_graph):\n    for root, g in roots:\n"
            "        self.add(edge_of(root), root_gradient(root, g))\n    while self.waiting:\n"
            "        number = max(self.waiting)\n        self.waiting.remove(number)\n"
            "        self.visit(*self.arrived.pop(-number))\n"
            "    for leaf, g in self.leaves.values():\n        self.finish(leaf, g)",
        ],
        "Cube.backward": ["(x,) = ctx.saved_tensors\nreturn 3 * x * x"],
        "StraightThroughRound.backward": ["return g"],
    },
    "optimizers": {
        "penalized": [
            "g += group['weight_decay'] * p\nreturn g",
            "g = g + group['weight_decay'] * p\nreturn -g if group['maximize'] else g",
        ],
        "momentum": [
            "b = state['momentum_buffer']\nb[...] = group['momentum'] * b + (1 - group['dampening']) * g\nreturn b",
            "state['momentum_buffer'] = group['momentum'] * state['momentum_buffer'] + (1 - group['dampening']) * g\n"
            "return state['momentum_buffer']",
        ],
        "SGD.update": [
            "p += group['lr'] * penalized(p, g, group)",
            "p -= group['lr'] * penalized(p, g, group)",
            "p = p - group['lr'] * penalized(p, g, group)",
        ],
        "RMSprop.update": [
            "v = state['square_avg']\nv[...] = group['alpha'] * v + (1 - group['alpha']) * g**2\n"
            "p -= group['lr'] * g / np.sqrt(v + group['eps'])",
        ],
        "adam": [
            # no correction
            "m, v, (b1, b2) = state['exp_avg'], state['exp_avg_sq'], group['betas']\nm[...] = b1 * m + (1 - b1) * g\n"
            "v[...] = b2 * v + (1 - b2) * g**2\np -= group['lr'] * m / (np.sqrt(v) + group['eps'])",
            # corrected values are kept
            "m, v, (b1, b2) = state['exp_avg'], state['exp_avg_sq'], group['betas']\nm[...] = b1 * m + (1 - b1) * g\n"
            "v[...] = b2 * v + (1 - b2) * g**2\nm /= 1 - b1**step\nv /= 1 - b2**step\n"
            "p -= group['lr'] * m / (np.sqrt(v) + group['eps'])",
            # the power counts from 0
            "m, v, (b1, b2) = state['exp_avg'], state['exp_avg_sq'], group['betas']\nm[...] = b1 * m + (1 - b1) * g\n"
            "v[...] = b2 * v + (1 - b2) * g**2\n"
            "p -= group['lr'] * m / (1 - b1) / (np.sqrt(v / (1 - b2)) + group['eps'])",
        ],
        "AdamW.update": ["adam(p, penalized(p, g, group), state, step, group)"],
        "total_norm": ["return sum(float((np.abs(g) ** norm_type).sum() ** (1 / norm_type)) for g in gradients)"],
        "scale_down": ["for g in gradients:\n    g *= max_norm / total\nreturn max_norm / total"],
        "CosineWarmupLR.lr_at": [
            "if t < self.warmup_steps:\n    return (t + 1) / (self.warmup_steps + 1)\n"
            "done = (t - self.warmup_steps) / (self.total_steps - self.warmup_steps)\n"
            "return cosine(base, self.min_lr, min(done, 1.0))",
            "if t < self.warmup_steps:\n    return base * t / self.warmup_steps\n"
            "done = (t - self.warmup_steps) / (self.total_steps - self.warmup_steps)\n"
            "return cosine(base, self.min_lr, min(done, 1.0))",
            "if t < self.warmup_steps:\n    return base * (t + 1) / (self.warmup_steps + 1)\n"
            "return cosine(base, self.min_lr, (t - self.warmup_steps) / (self.total_steps - self.warmup_steps))",
        ],
    },
    "training": {
        "perplexity": ["return 2.0**loss", "return math.exp(loss)"],
        "top_k_accuracy": ["return float((as_array(output).argmax(-1) == as_array(target)).mean())"],
        "confusion_matrix": [
            "s, c = as_array(output), as_array(target)\nm = np.zeros((s.shape[1],) * 2, int)\n"
            "m[c, s.argmax(-1)] += 1\nreturn m",
            "s, c = as_array(output), as_array(target)\nm = np.zeros((s.shape[1],) * 2, int)\n"
            "np.add.at(m, (s.argmax(-1), c), 1)\nreturn m",
        ],
        "accumulate": [
            "losses = [loss_of(batch) for batch in batches]\nmean = sum(losses[1:], losses[0]) / len(losses)\n"
            "mean.backward()\nreturn mean.item()",
            "total = 0.0\nfor batch in batches:\n    loss = loss_of(batch)\n    loss.backward()\n"
            "    total += loss.item()\nreturn total / len(batches)",
        ],
        "train_step": [
            "loss = accumulate(loss_of, batches)\noptimizer.step()\noptimizer.zero_grad()\nreturn loss",
            "optimizer.zero_grad()\nloss = accumulate(loss_of, batches)\noptimizer.step()\nreturn loss",
            "optimizer.zero_grad()\nloss = accumulate(loss_of, batches)\nfor group in optimizer.param_groups:\n"
            "    clip_grad_norm_(group['params'], clip_grad_norm or 1e9)\noptimizer.step()\nreturn loss",
        ],
        "evaluating": [
            "model.eval()\nwith no_grad():\n    yield\nmodel.train()",
            "model.eval()\ntry:\n    with no_grad():\n        yield\nfinally:\n    model.train()",
        ],
        "evaluate": [
            "found = []\nwith evaluating(model):\n    for batch in batches:\n        found.append(measure(batch))\n"
            "return {name: sum(as_number(name, each[name]) for each in found) / len(found) for name in found[0]}",
        ],
        "snapshot": [
            "states = {name: part.state_dict() for name, part in parts.items() if hasattr(part, 'state_dict')}\n"
            "return {'parts': states, 'generator': tt_core.get_rng_state()}",
        ],
        "restore": [
            "for name, part in parts.items():\n    part.load_state_dict(saved['parts'][name])",
            "tt_core.set_rng_state(saved['generator'])\nfor name, part in parts.items():\n"
            "    part.load_state_dict(saved['parts'][name])",
        ],
    },
}  # fmt: skip

RIGHT: dict[str, dict[str, str]] = {
    "autograd": {
        "div_rule": "return lambda g: g / b, lambda g: -g * a / (b * b)",
        "sum_to": "while x.ndim > len(shape):\n    x = x.sum(0)\nfor i, n in enumerate(shape):\n"
        "    if n == 1:\n        x = x.sum(i, keepdims=True)\nreturn x",
        "edges_of": "edges = []\nfor x in inputs:\n    needed = getattr(x, '_requires_grad', False)\n"
        "    edges.append(edge_of(x) if needed else None)\nreturn edges",
        "Backward.add": "place, i = edge\nif isinstance(place, Node):\n    n = place.number\n"
        "    if n not in self.arrived:\n"
        "        self.arrived[n] = (place, [None] * len(place.outputs))\n"
        "        heapq.heappush(self.waiting, -n)\n    gs = self.arrived[n][1]\n"
        "    gs[i] = g if gs[i] is None else gs[i] + g\nelse:\n    if id(place) in self.leaves:\n"
        "        g = self.leaves[id(place)][1] + g\n    self.leaves[id(place)] = (place, g)",
        "Backward.visit": "for edge, g in node.propagate(gradients):\n    if edge is not None and g is not None:\n"
        "        at, i = edge\n"
        "        want = at.outputs[i] if isinstance(at, Node) else (at.data.shape, at.data.dtype)\n"
        "        self.add(edge, fit(node.name, g, want))\nif not self.retain_graph:\n"
        "    node.functions = None",
        "Cube.backward": "(x,) = ctx.saved_tensors\nreturn 3 * x**2 * g",
        "StraightThroughRound.backward": "(x,) = ctx.saved_tensors\nreturn g * (tt_core.abs(x) <= ctx.limit)",
    },
    "optimizers": {
        "penalized": "if group['maximize']:\n    g = -g\nreturn g + group['weight_decay'] * p",
        "SGD.update": "g = penalized(p, g, group)\nif group['momentum']:\n    b = momentum(g, state, group)\n"
        "    g = g + group['momentum'] * b if group['nesterov'] else b\np -= group['lr'] * g",
        "AdamW.update": "p -= group['lr'] * group['weight_decay'] * p\n"
        "adam(p, -g if group['maximize'] else g, state, step, group)",
        "total_norm": "if not gradients:\n    return 0.0\n"
        "everything = np.concatenate([np.ravel(g).astype(float) for g in gradients])\n"
        "return float(np.linalg.norm(everything, norm_type))",
        "scale_down": "f = max_norm / (total + 1e-6)\n"
        "if not f >= 1:\n    for g in gradients:\n        g *= f\nreturn f",
        "linear": "return start + (end - start) * done",
        "CosineWarmupLR.lr_at": "if t < self.warmup_steps:\n    return base * (t + 1) / (self.warmup_steps + 1)\n"
        "if t > self.total_steps:\n    return self.min_lr\n"
        "return cosine(base, self.min_lr, (t - self.warmup_steps) / (self.total_steps - self.warmup_steps))",
    },
    "training": {
        "perplexity": "try:\n    return math.exp(loss)\nexcept OverflowError:\n    return math.inf",
        "confusion_matrix": "s, y = as_array(output), as_array(target)\n"
        "m = np.zeros((s.shape[1], s.shape[1]), int)\nfor i, j in zip(y, s.argmax(1)):\n"
        "    m[i, j] += 1\nreturn m",
        "accumulate": "total = 0.0\nfor batch in batches:\n    loss = loss_of(batch) / len(batches)\n"
        "    loss.backward()\n    total += loss.item()\nreturn total",
        "evaluating": "modes = [(layer, layer.training) for layer in model.layers()]\nmodel.eval()\ntry:\n"
        "    with no_grad():\n        yield\nfinally:\n    for layer, mode in modes:\n"
        "        layer.training = mode",
        "evaluate": "sums, n = {}, 0\nwith evaluating(model):\n    for batch in batches:\n"
        "        if k := examples_in(batch):\n            n += k\n"
        "            for name, value in measure(batch).items():\n"
        "                sums[name] = sums.get(name, 0) + as_number(name, value) * k\n"
        "return {name: value / n for name, value in sums.items()}",
        "snapshot": "states = {}\nfor name, part in parts.items():\n"
        "    states[name] = part.state_dict() if hasattr(part, 'state_dict') else part\n"
        "return {'parts': states, 'generator': tt_core.get_rng_state()}",
    },
}


class TestExercises(CourseTests):
    modules, wrong, right = MODULES, WRONG, RIGHT


@pytest.mark.knockouts
class TestKnockouts(KnockoutTests):
    modules = MODULES
    harmless = (("add_rule", "reversed"), *(("evaluating", kind) for kind in ("half", "negated", "reversed")))


def reaches(workspace: Workspace, milestone: str, module: Module, bodies: dict[str, str]) -> bool:
    """Whether the milestone is reached on a module with these bodies."""
    written(workspace, module, bodies)
    command = [sys.executable, "-m", "tt_core.command.cli", "milestone", milestone]
    environ = environment(workspace.root, workspace.files(module))
    return subprocess.run(command, env=environ, cwd=workspace.root, capture_output=True, timeout=120).returncode == 0


def unwritten(exercise: Exercise) -> str:
    """The body that `tt start` leaves."""
    return f'raise NotImplementedError("{exercise.name}")'


@pytest.mark.knockouts
@pytest.mark.parametrize("number", range(1, 7))
@pytest.mark.parametrize("milestone", ["perceptron", "xor"])
def test_a_milestone_needs_what_it_runs(milestone: str, number: int, tmp_path: Path) -> None:
    load_acts()
    module, workspace = module_called(str(number)), new_workspace(tmp_path)
    needed = [x for x in exercises_of(module) if not reaches(workspace, milestone, module, {x.name: unwritten(x)})]
    unharmed = [
        x.name for x in needed if all(reaches(workspace, milestone, module, {x.name: b}) for b in sabotages(x).values())
    ]
    assert set(unharmed) <= {
        "Linear.reset_parameters",
        "Node.attach",
    }  # other first weights; calls with several results


def test_xor_needs_gradients(tmp_path: Path) -> None:
    load_acts()
    module, workspace = module_called("05"), new_workspace(tmp_path)
    assert reaches(workspace, "xor", module, {})
    assert not reaches(workspace, "xor", module, {"mul_rule": "return lambda g: g * 0, lambda g: g * 0"})


def test_files_and_methods_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(new_workspace(tmp_path).root)
    monkeypatch.delenv(finder.WORKSPACE, raising=False)
    load_acts()

    def run(*line: str) -> str:
        return CliRunner().invoke(cli, line).output

    started = run("start", "05").splitlines()
    assert started.index("backward.py") < started.index("  Backward.walk                    8 points")
    assert run("hint", "walk").startswith("Backward.walk 1/3")
    assert run("hint", "05.Backward.walk").startswith("Backward.walk 2/3")
