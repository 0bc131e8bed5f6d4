"""Module 16: what each way of compressing promises, as checks that sabotaged versions of the module must fail."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tt_core
import tt_learn
from tt_core import Layer, Linear, ReLU, Sequential
from tt_core.engine.errors import DTypeError
from tt_core.engine.plugins import manager
from tt_core.layers import StateDictError
from tt_core.nn import PReLU
from tt_data import BatchNorm2d, Conv2d, ConvTranspose2d, Flatten, GroupNorm, MaxPool2d
from tt_data.command.milestones import Residual
from tt_language import GPT, GPTConfig, MultiHeadAttention, Seq2SeqTransformer, generate
from tt_learn.training.checkpoints import load_tensors, save_tensors
from tt_perf import compression
from tt_perf.compression import (
    CompressionError,
    dependencies,
    distillation,
    factoring,
    input_norms,
    low_rank,
    masks,
    pruning,
    refitting,
    reports,
    shrinking,
)
from tt_perf.memoization import plugin as kv_cache
from tt_perf.quantization import Int8WeightOnly, quantize_

MHA = GPTConfig(vocab_size=31, block_size=24, n_layer=2, n_head=4, n_embd=32)
GQA = GPTConfig(
    vocab_size=31, block_size=24, n_layer=2, n_head=8, n_kv_head=4, n_embd=32, position="rotary", norm="rms",
    mlp="swiglu", tie_weights=False,
)  # fmt: skip
IDS = tt_core.tensor([[3, 1, 4, 1, 5, 9, 2, 6]])


@pytest.fixture(autouse=True)
def _seed() -> Iterator[None]:
    tt_core.manual_seed(0)
    yield
    if manager.is_registered(masks.keeper):
        manager.unregister(masks.keeper)


def mlp() -> Sequential:
    return Sequential(Linear(8, 16), ReLU(), Linear(16, 16), ReLU(), Linear(16, 3))


def cnn() -> Sequential:
    """Convolutions, norms, a residual and a flatten; the norms have seen something."""
    model = Sequential(
        Conv2d(3, 8, 3, padding=1), BatchNorm2d(8), ReLU(), MaxPool2d(2),
        Residual(Conv2d(8, 8, 3, padding=1, bias=False), BatchNorm2d(8), ReLU()),
        Conv2d(8, 8, 3, padding=1, groups=8), Flatten(), Linear(8 * 4 * 4, 5),
    )  # fmt: skip
    for _ in range(3):
        model(tt_core.randn(4, 3, 8, 8) + 1)
    return model


IMAGES = tt_core.tensor(np.random.default_rng(1).standard_normal((2, 3, 8, 8), np.float32))


def zero_share(*tensors: Any) -> float:
    return float(np.concatenate([tensor.numpy().reshape(-1) == 0 for tensor in tensors]).mean())


def weights_of(model: Layer) -> list[Any]:
    return [w.tensor for w in masks.prunable(model)]


def train(model: Layer, optimizer: Any, steps: int, x: Any = None, y: Any = None) -> None:
    x = tt_core.randn(16, 8) if x is None else x
    y = tt_core.tensor(np.arange(16) % 3) if y is None else y
    for _ in range(steps):
        optimizer.zero_grad()
        tt_core.cross_entropy(model(x), y).backward()
        optimizer.step()


# --- the checks: what pruning promises


def check_the_smallest_weights_are_zero() -> None:
    """Exactly the share that was asked for, and no weight that is kept is smaller than one that is not."""
    model = mlp()
    before = [w.numpy().copy() for w in weights_of(model)]
    report = compression.prune_(model, 0.5)
    flat, kept = np.abs(np.concatenate([w.reshape(-1) for w in before])), zero_share(*weights_of(model))
    zero = np.concatenate([w.numpy().reshape(-1) == 0 for w in weights_of(model)])
    assert kept == 0.5
    assert flat[zero].max() <= flat[~zero].min()
    assert report.bytes_ratio == 1.0
    assert "unchanged" in report.notes[0]


def check_each_layer_has_its_share() -> None:
    model = mlp()
    for i, w in enumerate(weights_of(model)):
        w.data *= 10.0**i  # a global threshold would empty the first layer
    compression.prune_(model, 0.25, scope="layer")
    assert [zero_share(w) for w in weights_of(model)] == [0.25] * 3


def check_masks_survive_training() -> None:
    """Adam with weight decay and momentum, in the model and in a copy of it."""
    model = mlp()
    compression.prune_(model, 0.5, method="random", scope="layer")
    for each in (model, copy.deepcopy(model)):
        before = [w.numpy().copy() for w in weights_of(each)]
        train(each, tt_learn.AdamW(each.parameters(), lr=1e-2, weight_decay=0.1), 50)
        assert [zero_share(w) for w in weights_of(each)] == [0.5] * 3
        assert all((w.numpy() != b).any() for w, b in zip(weights_of(each), before))


def check_a_schedule_is_of_the_original() -> None:
    """Six steps to 30 % leave 70 %, not 0.7^6."""
    model, batches = mlp(), [(tt_core.randn(4, 8), tt_core.tensor([0, 1, 2, 0]))]
    schedule = compression.GradualPruning(model, 0.3, end=6, method="random", scope="layer")
    trainer = tt_learn.Trainer(
        model, tt_learn.SGD(model.parameters(), lr=0.1), tt_core.cross_entropy, callbacks=[schedule]
    )
    trainer.fit(batches, steps=10)
    for w in weights_of(model):
        assert abs(zero_share(w) - 0.3) <= 0.5 / w.numel()


def check_wanda_weighs_by_inputs() -> None:
    """A small weight on a large input stays, a larger one on a tiny input goes."""
    model = Sequential(Linear(4, 2, bias=False))
    model[0].weight.data[:] = [[1, 2, 3, 4], [4, 3, 2, 1]]
    inputs = tt_core.tensor([[10.0, 10, 0.1, 0.1], [10, 10, 0.1, 0.1]])
    compression.prune_(model, 0.5, method="wanda", calibration=[inputs])
    assert model[0].weight.tolist() == [[1, 2, 0, 0], [4, 3, 0, 0]]


def check_a_pattern_holds_along_inputs() -> None:
    model = mlp()
    compression.prune_(model, pattern=(2, 4))
    for w in weights_of(model):
        assert ((w.numpy().reshape(-1, 4) != 0).sum(1) == 2).all()


# --- what shrinking promises


def zeroed(model: Layer, units: Any) -> None:
    """The same model with units that have no effect: what reads them is zero."""
    for parameter, axis, entries in units:
        parameter.data[(slice(None),) * axis + (entries,)] = 0


def check_shrunk_equals_zeroed() -> None:
    """Removing what nobody reads changes no output: for neurons, heads and channels, in all these models."""
    # neurons 1, 4 of the first layer and heads (groups) 0 of each block have no effect, so they are the least important
    model = mlp()
    zeroed(model, [(model[0].weight, 0, [1, 4, 5]), (model[0].bias, 0, [1, 4, 5]), (model[2].weight, 1, [1, 4, 5])])
    x = tt_core.randn(5, 8)
    expected = model(x).numpy()
    compression.shrink_(model, 3, x, filter_fn=lambda layer, path: path == "0")
    np.testing.assert_allclose(model(x).numpy(), expected, atol=1e-5)
    assert model[0].weight.shape == (13, 8)
    assert model[2].weight.shape == (16, 13)
    for config in (MHA, GQA):
        gpt = GPT(config).eval()
        size, group = config.head_size, config.n_head // (config.n_kv_head or config.n_head)
        for block in gpt.blocks:
            attention = block.attention
            shared = attention.num_kv_heads
            q, k, v = np.split(np.arange(attention.in_proj.weight.shape[0]), np.cumsum([config.n_head, shared]) * size)
            rows = [*q[size * group : 2 * size * group], *k[size : 2 * size], *v[size : 2 * size]]
            zeroed(gpt, [(attention.in_proj.weight, 0, rows)])
            zeroed(gpt, [(attention.out_proj.weight, 1, q[size * group : 2 * size * group])])
        expected = gpt(IDS).numpy()
        compression.shrink_(gpt, {"heads": group}, IDS)
        np.testing.assert_allclose(gpt(IDS).numpy(), expected, atol=1e-5)
        assert gpt.config.n_head == gpt.blocks[0].attention.num_heads == config.n_head - group
    images = cnn().eval()
    gone, places = [2, 7], [channel * 16 + place for channel in (2, 7) for place in range(16)]
    matrices = [(images[0].weight, 0), (images[4].inside[0].weight, 0), (images[4].inside[0].weight, 1)]
    zeroed(images, [(w, axis, gone) for w, axis in matrices] + [(images[5].weight, 0, gone)])
    zeroed(images, [(images[7].weight, 1, places)])
    expected = images(IMAGES).numpy()
    compression.shrink_(images, 0.25, IMAGES)
    np.testing.assert_allclose(images(IMAGES).numpy(), expected, atol=1e-5)
    assert images[4].inside[1].num_features == images[5].groups == 6
    assert images[7].in_features == 96


def check_the_least_important_go() -> None:
    model = mlp()
    model[0].weight.data[::2] *= 10
    model[2].weight.data[:, ::2] *= 10
    large = model[0].weight.numpy()[::2].copy()
    compression.shrink_(model, 0.5, tt_core.ones(1, 8), filter_fn=lambda layer, path: path == "0")
    np.testing.assert_array_equal(model[0].weight.numpy(), large)


def check_bytes_and_flops_go_down() -> None:
    gpt = GPT(MHA)
    report = compression.shrink_(gpt, 0.5, IDS)
    blocks = sum(p.numel() for p in GPT(MHA).blocks.parameters())
    assert report.before.parameters - report.after.parameters > 0.45 * blocks
    assert report.before.bytes == 4 * report.before.parameters
    assert report.after.bytes == 4 * report.after.parameters
    assert report.after.flops < 0.75 * report.before.flops


def check_a_shrunk_gpt_comes_back() -> None:
    """P1: its config and state dict make the same model."""
    for config in (MHA, GQA):
        gpt = GPT(config).eval()
        compression.shrink_(gpt, 0.5, IDS)
        fresh = GPT(GPTConfig.from_dict(json.loads(json.dumps(gpt.config.to_dict())))).eval()
        fresh.load_state_dict(gpt.state_dict())
        np.testing.assert_array_equal(fresh(IDS).numpy(), gpt(IDS).numpy())


def check_a_shrunk_gpt_generates_with_the_cache() -> None:
    """P3: under multi-head attention and grouped queries."""
    for config in (MHA, GQA):
        gpt = GPT(config).eval()
        compression.shrink_(gpt, 0.5, IDS)
        plain = generate(gpt, IDS, 12, temperature=0.0)
        with_cache = manager.register(kv_cache)
        try:
            assert generate(gpt, IDS, 12, temperature=0.0) == plain, with_cache
        finally:
            manager.unregister(kv_cache)
        assert gpt.blocks[0].attention.num_heads == config.n_head // 2


def check_the_optimizer_goes_on() -> None:
    """P2: the state of what is kept is cut alike, each parameter moves, what was frozen stays frozen."""
    model = mlp()
    model[4].bias.requires_grad_(False)
    optimizer = tt_learn.Adam([p for p in model.parameters() if p.requires_grad], lr=1e-2)
    train(model, optimizer, 3)
    kept = model[0].weight.numpy().copy()
    moments = optimizer.state_dict()["state"][0]["exp_avg"].numpy().copy()
    compression.shrink_(model, 0.5, tt_core.ones(1, 8), optimizer=optimizer)
    rows = [int(np.flatnonzero((kept == row).all(1))[0]) for row in model[0].weight.numpy()]
    state = optimizer.state_dict()["state"]
    np.testing.assert_array_equal(state[0]["exp_avg"].numpy(), moments[rows])
    assert all(entry["step"] == 3 for entry in state.values())
    before = [p.numpy().copy() for p in model.parameters()]
    train(model, optimizer, 1)
    moved = [bool((p.numpy() != b).any()) for p, b in zip(model.parameters(), before)]
    assert moved == [True] * 5 + [False]


def check_masks_are_cut_too() -> None:
    model = mlp()
    compression.prune_(model, 0.5)
    compression.shrink_(model, 0.5, tt_core.ones(1, 8))
    for layer in (model[0], model[2], model[4]):
        assert layer.weight_mask.shape == layer.weight.shape
        assert not layer.weight.numpy()[~layer.weight_mask.numpy()].any()
    train(model, tt_learn.Adam(model.parameters()), 2)
    assert not model[0].weight.numpy()[~model[0].weight_mask.numpy()].any()


def check_refitting_lets_what_is_kept_take_over() -> None:
    """Any 9 of 16 neurons or channels that are linear in 8 inputs say what all of them say."""
    tt_core.manual_seed(4)
    models = [
        Sequential(Linear(8, 16), Linear(16, 3)),
        Sequential(Conv2d(8, 16, 1), Conv2d(16, 3, 3, padding="same")),
        Sequential(Conv2d(8, 16, 1, bias=False), Conv2d(16, 3, 3, stride=2, padding=1, dilation=2, bias=False)),
    ]
    for model in models:
        shape = (64, 8) if isinstance(model[0], Linear) else (16, 8, 9, 9)
        batches = [tt_core.randn(*shape) for _ in range(4)]
        expected, errors = model(batches[0]).numpy(), []
        for calibration in (None, iter(batches)):
            small = copy.deepcopy(model)
            compression.shrink_(small, 7, batches[0][:1], calibration=calibration)
            errors.append(np.square(small(batches[0]).numpy() - expected).mean() / expected.var())
        assert errors[1] < 0.03 < 0.1 < errors[0]
    gpt, errors = GPT(MHA).eval(), []
    for parameter in gpt.parameters():
        parameter.data *= 2
    for calibration in (None, [IDS]):
        small = copy.deepcopy(gpt)
        report = compression.shrink_(small, 0.5, IDS, calibration=calibration)
        errors.append(np.square(small(IDS).numpy() - gpt(IDS).numpy()).mean())
    assert errors[1] < 0.5 * errors[0]
    assert report.notes == ("4 layers were refitted on 1 batches of calibration inputs",)


def test_refitting_leaves_masks_and_other_layers_alone() -> None:
    model, x = mlp(), tt_core.randn(16, 8)
    compression.prune_(model, 0.5, filter_fn=lambda layer, path: path == "2")
    plain = copy.deepcopy(model)
    compression.shrink_(model, 0.5, x, calibration=[x])
    compression.shrink_(plain, 0.5, x)
    np.testing.assert_array_equal(model[2].weight.numpy(), plain[2].weight.numpy())
    assert (model[4].weight.numpy() != plain[4].weight.numpy()).any()
    assert model[4].weight.dtype == plain[4].weight.dtype
    np.testing.assert_array_equal(model[0].weight.numpy(), plain[0].weight.numpy())


# --- what low rank and distillation promise


def check_the_best_approximation() -> None:
    """The error of rank r is that of the singular values left out, and no more than was asked for."""
    layer = Linear(24, 16)
    model, x = Sequential(layer), tt_core.randn(4, 24)
    singular = np.linalg.svd(layer.weight.numpy(), compute_uv=False)
    weight, bias = layer.weight.numpy().copy(), layer.bias.numpy().copy()
    compression.low_rank_(model, rank=5)
    left = np.linalg.norm(model[0].weight.detach().numpy() - weight)
    np.testing.assert_allclose(left, np.sqrt((singular[5:] ** 2).sum()), rtol=1e-4)
    np.testing.assert_allclose(model(x).numpy(), x.numpy() @ model[0].weight.detach().numpy().T + bias, atol=1e-5)
    for error in (0.9, 0.7):
        model = Sequential(Linear(24, 16))
        weight = model[0].weight.numpy().copy()
        compression.low_rank_(model, error=error)
        found = np.linalg.norm(model[0].weight.detach().numpy() - weight) / np.linalg.norm(weight)
        assert type(model[0]) is compression.LowRankLinear
        assert 0.6 * error < found <= error


def logits(*shape: int, seed: int = 0) -> Any:
    return tt_learn.Tensor(np.random.default_rng(seed).normal(size=shape), requires_grad=True)


def by_definition(student: Any, teacher: Any, temperature: float) -> float:
    """T^2 KL in float64, from the definition."""
    p, q = (np.exp(x / temperature) / np.exp(x / temperature).sum(-1, keepdims=True) for x in (teacher, student))
    return float(temperature**2 * (p * np.log(p / q)).sum(-1).mean())


def check_the_loss_is_the_formula() -> None:
    """P5: T squared, sums over classes, means over examples, in this direction, and its gradient."""
    for temperature in (1.0, 2.0, 5.0):
        student, teacher = logits(6, 7), logits(6, 7, seed=1)
        found = compression.distillation_loss(student, teacher, temperature=temperature)
        np.testing.assert_allclose(found.item(), by_definition(student.data, teacher.data, temperature), rtol=1e-9)
        assert compression.distillation_loss(student, student, temperature=temperature).item() == 0
    labels = tt_core.tensor([0, 1, 2, 3, 4, -100])

    def loss(student: Any) -> Any:
        return compression.distillation_loss(student, logits(6, 7, seed=1), labels, temperature=3.0, alpha=0.7)

    tt_learn.gradcheck(loss, [logits(6, 7)])


def test_labels_may_be_smoothed() -> None:
    student, teacher, labels = logits(6, 7), logits(6, 7, seed=1), tt_core.tensor([0, 1, 2, 3, 4, 5])
    smoothed = tt_core.cross_entropy(student, labels, label_smoothing=0.1).item()
    expected = 0.7 * by_definition(student.data, teacher.data, 3.0) + 0.3 * smoothed
    options: dict[str, Any] = {"temperature": 3.0, "alpha": 0.7, "label_smoothing": 0.1}
    found = compression.distillation_loss(student, teacher, labels, **options)
    np.testing.assert_allclose(found.item(), expected, rtol=1e-9)
    same = Linear(7, 7)
    loss = compression.Distillation(same, **options)(same, (student, labels))
    wanted = 0.3 * tt_core.cross_entropy(same(student), labels, label_smoothing=0.1).item()
    np.testing.assert_allclose(loss.item(), wanted, rtol=1e-6)


def check_the_loss_does_not_depend_on_shape_or_padding() -> None:
    student, teacher, labels = logits(2, 3, 7), logits(2, 3, 7, seed=1), tt_core.tensor([[0, 1, 2], [3, -100, 6]])
    whole = compression.distillation_loss(student, teacher, labels)
    flat = compression.distillation_loss(student.reshape(6, 7), teacher.reshape(6, 7), labels.reshape(6))
    np.testing.assert_allclose(flat.item(), whole.item(), rtol=1e-12)
    for padding in (-np.inf, -1e4):
        columns: dict[str, Any] = {"pad_width": [(0, 0), (0, 0), (0, 2)], "constant_values": padding}
        wide = [tt_learn.Tensor(np.pad(x.data, **columns)) for x in (student, teacher)]
        wide[0].requires_grad_()
        found = compression.distillation_loss(*wide, labels)
        found.backward()
        np.testing.assert_allclose(found.item(), whole.item(), rtol=1e-9)
        assert np.isfinite(wide[0].grad.numpy()).all()
        assert not wide[0].grad.numpy()[..., 7:].any()


def check_the_teacher_is_left_alone() -> None:
    """In evaluation while it teaches, without gradients, each layer in its own mode afterwards."""
    teacher = Sequential(Linear(4, 32), tt_core.Dropout(0.5), Linear(32, 3))
    teacher[2].eval()
    student, x, y = Linear(4, 3), tt_core.randn(8, 4), tt_core.tensor([0, 1, 2, 0, 1, 2, 0, 1])
    before = copy.deepcopy(teacher.state_dict())
    task = compression.Distillation(teacher)
    losses = {task(student, (x, y)).item() for _ in range(4)}
    task(student, (x, y)).backward()
    assert len(losses) == 1, "dropout was on"
    assert all(p.grad is None for p in teacher.parameters())
    assert student.weight.grad is not None
    assert [layer.training for layer in teacher.layers()] == [True, True, True, False]
    for name, entry in teacher.state_dict().items():
        np.testing.assert_array_equal(entry.numpy(), before[name].numpy())


CHECKS = [value for name, value in list(globals().items()) if name.startswith("check_")]


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__[6:])
def test_the_module_keeps_its_promises(check: Callable[[], None]) -> None:
    check()


# --- sabotage: each must turn its check red


def _of_the_rest(amount: Any, weights: Any) -> int:
    total = sum(w.tensor.numel() for w in weights)
    earlier = sum(int((~w.mask).sum()) for w in weights if w.mask is not None)
    return earlier + round(amount * (total - earlier))


def _first_entries(array: Any, kept: Any) -> Any:
    return array[tuple(slice(len(entries)) for entries in kept)].copy()


def _state_of_the_first(optimizer: Any, kept: Any) -> Any:
    if optimizer is None:
        return None
    state, parameters = optimizer.state_dict(), [p for group in optimizer.param_groups for p in group["params"]]
    for i, entry in state["state"].items():
        for name, value in entry.items():
            if np.ndim(value) and id(parameters[i]) in kept:
                entry[name] = tt_core.tensor(_first_entries(np.asarray(value), kept[id(parameters[i])]))
    return state


def _loss(direction: int = 1, squared: bool = True, classes: bool = False) -> Callable[..., Any]:
    def soft_loss(student: Any, teacher: Any, temperature: float) -> Any:
        pair = [tt_core.log_softmax(x / temperature, dim=-1) for x in (student, teacher)][::direction]
        loss = tt_core.kl_div(*pair, reduction="mean" if classes else "batchmean", log_target=True)
        return loss * (temperature**2 if squared else 1)

    return soft_loss


def _without_evaluation(self: Any, x: Any) -> Any:
    return self.teacher(x).detach()


def _without_restoring(self: Any, x: Any) -> Any:
    self.teacher.eval()
    return self.teacher(x).detach()


def _smallest_factors(weight: Any, rank: int) -> Any:
    u, s, vt = np.linalg.svd(weight, full_matrices=False)
    return u[:, -rank:] * s[-rank:], vt[-rank:]


def _across(scores: Any, n: int, m: int) -> Any:
    return np.ascontiguousarray(GROUPS(np.ascontiguousarray(scores.T), n, m).T)


GROUPS = pruning.keep_best_of_groups
KEEP = pruning.keep_best
SCORE = shrinking._importance
SABOTAGE: list[tuple[str, Any, str, Any, Callable[[], None]]] = [
    ("a pruner that does nothing", masks, "apply_mask", lambda p: None, check_the_smallest_weights_are_zero),
    ("the largest are pruned", pruning, "magnitude", lambda w: -np.abs(w), check_the_smallest_weights_are_zero),
    ("a wrong share", pruning, "keep_best", lambda s, n: KEEP(s, n // 2), check_the_smallest_weights_are_zero),
    ("one threshold for all", pruning, "keep_best", lambda s, n: np.abs(s) > 0.5, check_each_layer_has_its_share),
    ("a share of the rest", pruning, "grown", _of_the_rest, check_a_schedule_is_of_the_original),
    ("no mask after a step", masks.MaskKeeper, "after_step", lambda *_: None, check_masks_survive_training),
    ("Wanda without inputs", pruning, "wanda", lambda w, norms: np.abs(w), check_wanda_weighs_by_inputs),
    ("a pattern across", pruning, "keep_best_of_groups", _across, check_a_pattern_holds_along_inputs),
    ("a shrinker that does nothing", shrinking, "_cut", lambda *_: None, check_bytes_and_flops_go_down),
    ("the first entries are kept", shrinking, "taken", _first_entries, check_shrunk_equals_zeroed),
    ("the most important go", shrinking, "_importance", lambda *a: -SCORE(*a), check_the_least_important_go),
    ("heads not updated", shrinking, "_resize_attention", lambda _: None, check_a_shrunk_gpt_generates_with_the_cache),
    ("config not updated", shrinking, "_resize_gpt", lambda model: None, check_a_shrunk_gpt_comes_back),
    ("state not cut by kept", shrinking, "_cut_state", _state_of_the_first, check_the_optimizer_goes_on),
    ("state not cut", shrinking, "_cut_state", lambda *_: None, check_the_optimizer_goes_on),
    ("masks not cut", shrinking, "MASK", "_other", check_masks_are_cut_too),
    ("not refitted", refitting, "fit", lambda _, w, stays: w[:, stays], check_refitting_lets_what_is_kept_take_over),
    ("residuals not followed", dependencies, "_elementwise", dependencies._same, check_shrunk_equals_zeroed),
    ("the smallest singular values", low_rank, "factors", _smallest_factors, check_the_best_approximation),
    ("a rank too low", factoring, "rank_of", lambda s, **_: 2, check_the_best_approximation),
    ("T squared missing", distillation, "soft_loss", _loss(squared=False), check_the_loss_is_the_formula),
    ("mean over classes", distillation, "soft_loss", _loss(classes=True), check_the_loss_is_the_formula),
    ("KL the other way round", distillation, "soft_loss", _loss(-1), check_the_loss_is_the_formula),
    ("padding not left out", distillation, "soft_loss", _loss(), check_the_loss_does_not_depend_on_shape_or_padding),
    ("teacher not in eval", compression.Distillation, "taught", _without_evaluation, check_the_teacher_is_left_alone),
    ("mode not restored", compression.Distillation, "taught", _without_restoring, check_the_teacher_is_left_alone),
]  # fmt: skip


@pytest.mark.parametrize(("what", "place", "name", "broken", "check"), SABOTAGE, ids=[what for what, *_ in SABOTAGE])
def test_sabotage_turns_a_check_red(
    what: str, place: Any, name: str, broken: Any, check: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    for table in (shrinking.RESIZE, dependencies.RULES):
        for key, value in list(table.items()):
            if value is getattr(place, name):
                monkeypatch.setitem(table, key, broken)
    monkeypatch.setattr(place, name, staticmethod(broken) if name == "after_step" else broken)
    manager.rebind()
    with pytest.raises((AssertionError, tt_core.TinyTorchError, RuntimeWarning)):
        check()


# --- saved, loaded, resumed

FRESH_GPT = """
import json, sys
from pathlib import Path
import numpy as np, tt_core
from tt_language import GPT, GPTConfig, MultiHeadAttention, Seq2SeqTransformer, generate
from tt_learn.training.checkpoints import load_tensors
folder = Path(sys.argv[1])
model = GPT(GPTConfig.from_dict(json.loads((folder / "config.json").read_text(encoding="utf-8")))).eval()
model.load_state_dict(load_tensors(folder / "model.safetensors")[0])
np.save(folder / "found.npy", model(tt_core.tensor(np.load(folder / "ids.npy"))).numpy())
"""


def test_a_shrunk_gpt_gives_the_same_logits_in_a_fresh_process(tmp_path: Path) -> None:
    gpt = GPT(GQA).eval()
    compression.shrink_(gpt, 0.5, IDS)
    (tmp_path / "config.json").write_text(json.dumps(gpt.config.to_dict()), encoding="utf-8")
    save_tensors(tmp_path / "model.safetensors", gpt.state_dict())
    np.save(tmp_path / "ids.npy", IDS.numpy())
    subprocess.run([sys.executable, "-c", FRESH_GPT, str(tmp_path)], check=True)
    np.testing.assert_allclose(np.load(tmp_path / "found.npy"), gpt(IDS).numpy(), atol=1e-6)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_low_rank_keeps_the_dtype_and_what_is_frozen(dtype: str) -> None:
    def model() -> Any:
        tt_core.manual_seed(0)
        return Sequential(Linear(24, 16), Linear(16, 8)).to(getattr(tt_core, dtype)).eval()

    thin, fresh = model(), model()
    compression.low_rank_(thin, rank=3)
    x = tt_core.randn(4, 24).to(getattr(tt_core, dtype))
    fresh[0].requires_grad_(False)
    compression.load_compressed(fresh, thin.state_dict())
    np.testing.assert_array_equal(fresh(x).numpy(), thin(x).numpy())
    assert {p.dtype.name for p in fresh.parameters()} == {dtype}
    assert not fresh[0].down.weight.requires_grad
    assert not fresh[0].training


def test_all_forms_come_back_from_a_file(tmp_path: Path) -> None:
    """Shrunk, then of low rank in one layer, then pruned; what is loaded trains on under its masks."""
    model = cnn().eval()
    compression.shrink_(model, 0.5, IMAGES)
    compression.low_rank_(model, rank=2, filter_fn=lambda layer, path: path == "7")
    compression.prune_(model, 0.5, filter_fn=lambda layer, path: path in ("0", "7.down"))
    save_tensors(tmp_path / "model.safetensors", model.state_dict())
    fresh = cnn().eval()
    compression.load_compressed(fresh, load_tensors(tmp_path / "model.safetensors")[0])
    np.testing.assert_allclose(fresh(IMAGES).numpy(), model(IMAGES).numpy(), atol=1e-6)
    assert repr(fresh) == repr(model)
    fresh.train()
    train(fresh, tt_learn.AdamW(fresh.parameters()), 2, tt_core.randn(8, 3, 8, 8), tt_core.tensor(np.arange(8) % 5))
    assert zero_share(fresh[0].weight, fresh[7].down.weight) == 0.5


def test_a_pruned_model_does_not_load_as_a_dense_one() -> None:
    model, fresh = mlp(), mlp()
    compression.prune_(model, 0.5)
    with pytest.raises(StateDictError, match=r"unexpected 0\.weight_mask"):
        fresh.load_state_dict(model.state_dict())


@pytest.mark.parametrize("stop", [2, 4, 8])
def test_a_schedule_is_resumed_with_the_same_bits(tmp_path: Path, stop: int) -> None:
    x, y = tt_core.randn(4, 8), tt_core.tensor([0, 1, 2, 0])

    def batches(step: int) -> Any:
        return x + step, y

    def trainer() -> Any:
        tt_core.manual_seed(3)
        model = mlp()
        schedule = compression.GradualPruning(model, 0.6, end=6, every=2)
        optimizer = tt_learn.AdamW(model.parameters(), lr=1e-2)
        return tt_learn.Trainer(model, optimizer, tt_core.cross_entropy, callbacks=[schedule])

    whole, first, second = trainer(), trainer(), trainer()
    whole.fit(batches, steps=10)
    first.fit(batches, steps=stop)
    first.save(tmp_path / "run.safetensors")
    second.resume(tmp_path / "run.safetensors")
    second.fit(batches, steps=10)
    for name, entry in second.model.state_dict().items():
        np.testing.assert_array_equal(entry.numpy(), whole.model.state_dict()[name].numpy())
    assert abs(zero_share(*weights_of(second.model)) - 0.6) < 0.01


def test_lbfgs_keeps_masks_too() -> None:
    model, x = Sequential(Linear(4, 2)), tt_core.randn(8, 4)
    compression.prune_(model, 0.5)
    optimizer = tt_learn.LBFGS(model.parameters(), max_iter=3)

    def loss() -> Any:
        optimizer.zero_grad()
        value = (model(x) ** 2).mean()
        value.backward()
        return value

    optimizer.step(loss)
    assert zero_share(model[0].weight) == 0.5


# --- training goes on, and students learn


def test_a_shrunk_model_trains_on() -> None:
    gpt = GPT(MHA)
    compression.shrink_(gpt, 0.5, IDS)
    optimizer = tt_learn.AdamW(gpt.parameters(), lr=1e-2)
    losses = []
    for _ in range(30):
        optimizer.zero_grad()
        loss = tt_core.cross_entropy(gpt(IDS[:, :-1]).reshape(-1, 31), IDS[:, 1:].reshape(-1))
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.2 * losses[0]


def test_a_student_learns_more_from_a_teacher_than_from_labels() -> None:
    """Few labelled points of a smooth function: the teacher's probabilities tell more than one label each."""
    draw = np.random.default_rng(0)
    directions = draw.standard_normal((8, 3)).astype(np.float32)
    x, new = (draw.standard_normal((n, 8)).astype(np.float32) for n in (24, 2000))
    teacher = Linear(8, 3, bias=False)
    teacher.weight.data[:] = directions.T
    noisy = (x @ directions + 2 * draw.standard_normal((24, 3))).argmax(1)

    def agreement(seed: int, alpha: float) -> float:
        tt_core.manual_seed(seed)
        student = Sequential(Linear(8, 16), ReLU(), Linear(16, 3))
        optimizer = tt_learn.Adam(student.parameters(), lr=1e-2)
        trainer = compression.DistillationTrainer(student, optimizer, teacher, alpha=alpha)
        trainer.fit([(tt_core.tensor(x), tt_core.tensor(noisy))], steps=150)
        return float((student(tt_core.tensor(new)).numpy().argmax(1) == (new @ directions).argmax(1)).mean())

    for seed in range(3):
        assert agreement(seed, alpha=1.0) > agreement(seed, alpha=0.0) + 0.05


def test_wanda_sees_channels_groups_and_transposed_convolutions() -> None:
    """Scores are |w| times the norm of the input channel that each weight multiplies."""
    x = np.ones((1, 4, 5, 5), np.float32) * np.array([1, 2, 3, 4], np.float32)[:, None, None]
    for layer, channels in (
        (Conv2d(4, 2, 3), [[1, 2, 3, 4]] * 2),
        (Conv2d(4, 4, 3, groups=2), [[1, 2], [1, 2], [3, 4], [3, 4]]),
        (ConvTranspose2d(4, 2, 3), [[1, 1], [2, 2], [3, 3], [4, 4]]),
    ):
        weights = masks.prunable(layer)
        ((norms),) = input_norms.input_norms(layer, weights, [tt_core.tensor(x)]).values()
        found = input_norms.for_weight(layer, norms)
        expected = 5 * np.array(channels, np.float64)[:, :, None, None]
        np.testing.assert_allclose(np.broadcast_to(found, layer.weight.shape), expected.repeat(3, 2).repeat(3, 3))


# --- what is refused, in one line, with nothing changed


class Cumulative(Layer):
    """Sums up its input along the features, which no rule covers in a way that units could be removed."""

    def forward(self, x: Any) -> Any:
        return x.cumsum(-1)


class Behind(Layer):
    """Computes with NumPy, where no walk can see."""

    def forward(self, x: Any) -> Any:
        return tt_core.tensor(np.maximum(x.detach().numpy(), 0))


class Halves(Layer):
    def forward(self, x: Any) -> Any:
        return x[..., :4] * x[..., 4:]


class HardCoded(Layer):
    def forward(self, x: Any) -> Any:
        return x.reshape(x.shape[0], 4, 2).flatten(1)


class Scale(Layer):
    def __init__(self) -> None:
        super().__init__()
        self.factor = tt_core.ones(8).as_parameter()

    def forward(self, x: Any) -> Any:
        return x * self.factor


def around(middle: Layer, features: int = 8) -> Sequential:
    return Sequential(Linear(4, 8), middle, Linear(features, 3))


class Outer(Layer):
    def __init__(self) -> None:
        super().__init__()
        self.left, self.right, self.head = Linear(4, 8), Linear(4, 8), Linear(64, 3)

    def forward(self, x: Any) -> Any:
        return self.head((self.left(x).unsqueeze(2) * self.right(x).unsqueeze(1)).reshape(-1, 64))


def quantized() -> Layer:
    model = mlp()
    quantize_(model, Int8WeightOnly(), verbose=False)
    return model


def emptied() -> Sequential:
    model = around(ReLU())
    model[2].weight.data.fill(0)
    return model


X4, X8 = tt_core.ones(2, 4), tt_core.ones(1, 8)
REFUSED: dict[str, tuple[Callable[[], Layer], Callable[[Any], Any], str]] = {
    "all": (mlp, lambda m: compression.prune_(m, 1.0), "amount is 1.0"),
    "negative": (mlp, lambda m: compression.prune_(m, -0.5), "amount is -0.5"),
    "a flag": (mlp, lambda m: compression.prune_(m, True), "amount is a number"),
    "more than there is": (mlp, lambda m: compression.prune_(m, 10**6), "would leave none of 432"),
    "nothing and a pattern": (mlp, lambda m: compression.prune_(m), "one of amount and pattern"),
    "a pattern of all": (mlp, lambda m: compression.prune_(m, pattern=(4, 4)), "0 < n < m"),
    "a pattern that does not fit": (lambda: Linear(6, 2), lambda m: compression.prune_(m, pattern=(2, 4)), "rows of 6"),
    "a method": (mlp, lambda m: compression.prune_(m, 0.5, method="lottery"), "'lottery'"),
    "a scope": (mlp, lambda m: compression.prune_(m, 0.5, scope="world"), "'world'"),
    "no calibration": (mlp, lambda m: compression.prune_(m, 0.5, method="wanda"), "calibration"),
    "empty calibration": (mlp, lambda m: compression.prune_(m, 0.5, method="wanda", calibration=[]), "0.weight saw no"),
    "nothing to prune": (ReLU, lambda m: compression.prune_(m, 0.5), "ReLU has no weights"),
    "an emptied layer": (emptied, lambda m: compression.prune_(m, 0.6), "2.weight would be left empty"),
    "shrink to nothing": (
        mlp,
        lambda m: compression.shrink_(m, 16, X8),
        "0: amount 16 would leave none",
    ),
    "no kinds": (mlp, lambda m: compression.shrink_(m, {}, X8), "expected some of neurons"),
    "an empty example": (mlp, lambda m: compression.shrink_(m, 0.5, tt_core.ones(0, 8)), "the example is empty"),
    "an outer product": (lambda: Outer(), lambda m: compression.shrink_(m, 0.5, X4), "op mul in Outer"),
    "a quantized model": (quantized, lambda m: compression.shrink_(m, 0.5, X8), "shrink first, or dequantize_"),
    "pruning a quantized model": (quantized, lambda m: compression.prune_(m, 0.5), "compress first, or dequantize_"),
    "low rank of a quantized model": (quantized, lambda m: compression.low_rank_(m, rank=2), "low_rank_: .* quantized"),
    "no batches to refit on": (mlp, lambda m: compression.shrink_(m, 0.5, X8, calibration=[]), "2 saw no .* 0 batches"),
    "nan to refit on": (mlp, lambda m: compression.shrink_(m, 0.5, X8, calibration=[X8 * np.nan]), "2 saw no finite"),
    "half a group": (lambda: GPT(GQA), lambda m: compression.shrink_(m, {"heads": 1}, IDS), "remove a multiple of 2"),
    "an unknown kind": (
        mlp,
        lambda m: compression.shrink_(m, {"layers": 0.5}, X8),
        "neurons, channels",
    ),
    "only inputs and outputs": (
        lambda: Linear(8, 3),
        lambda m: compression.shrink_(m, 0.5, X8),
        "Linear has no neurons",
    ),
    "an op without a rule": (lambda: around(Cumulative()), lambda m: compression.shrink_(m, 0.5, X4), "op cumsum in 1"),
    "NumPy": (lambda: around(Behind()), lambda m: compression.shrink_(m, 0.5, X4), "outputs of 0 .* does not see"),
    "a part": (lambda: around(Halves(), 4), lambda m: compression.shrink_(m, 0.5, X4), "op getitem in 1"),
    "an axis cut": (lambda: around(HardCoded()), lambda m: compression.shrink_(m, 0.5, X4), "op reshape in 1"),
    "an unknown layer": (lambda: around(Scale()), lambda m: compression.shrink_(m, 0.5, X4), r"1 \(Scale\)"),
    "group norm": (
        lambda: Sequential(Conv2d(3, 8, 3), GroupNorm(2, 8), Conv2d(8, 2, 3)),
        lambda m: compression.shrink_(m, 0.5, IMAGES),
        "op reshape in 1",
    ),
    "one block alone": (
        lambda: GPT(MHA),
        lambda m: compression.shrink_(m, 0.5, IDS, filter_fn=lambda layer, path: "blocks.0" in path),
        "blocks would have different sizes",
    ),
    "two goals": (mlp, lambda m: compression.low_rank_(m, rank=2, error=0.1), "one of rank, energy and error"),
    "rank 0": (mlp, lambda m: compression.low_rank_(m, rank=0), "rank is 0"),
    "error 2": (mlp, lambda m: compression.low_rank_(m, error=2.0), "error is 2.0"),
    "low rank of the model": (lambda: Linear(8, 8), lambda m: compression.low_rank_(m, rank=2), "below the model"),
    "temperature 0": (mlp, lambda m: compression.Distillation(m, temperature=0), "temperature is 0"),
    "alpha 2": (mlp, lambda m: compression.Distillation(m, alpha=2), "alpha is 2"),
    "no teacher": (mlp, lambda m: compression.Distillation(None), "the teacher is a NoneType, expected a layer"),  # type: ignore[arg-type]
    "other classes": (mlp, lambda m: compression.distillation_loss(logits(2, 3), logits(2, 4)), r"\(2, 3\).*\(2, 4\)"),
    "a schedule to nothing": (mlp, lambda m: compression.GradualPruning(m, 1.0, end=5), "final is 1.0"),
    "a schedule backwards": (mlp, lambda m: compression.GradualPruning(m, 0.5, end=5, begin=5), "begin=5"),
    "a larger state": (mlp, lambda m: compression.load_compressed(m, {"0.weight": np.ones((32, 8))}), "0.weight is"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_is_refused_in_one_line_and_changes_nothing(what: str) -> None:
    make, attempt, message = REFUSED[what]
    model = make()
    before, text = {name: entry.numpy().copy() for name, entry in model.state_dict().items()}, repr(model)
    with pytest.raises((CompressionError, DTypeError), match=message) as raised:
        attempt(model)
    assert "\n" not in str(raised.value)
    assert len(str(raised.value)) < 250
    assert repr(model) == text
    assert model.state_dict().keys() == before.keys()
    for name, entry in model.state_dict().items():
        np.testing.assert_array_equal(entry.numpy(), before[name])


def test_masks_only_grow() -> None:
    model = mlp()
    compression.prune_(model, 0.5)
    zero = [w.numpy() == 0 for w in weights_of(model)]
    for conflict in (lambda: compression.prune_(model, 0.25), lambda: compression.prune_(model, pattern=(3, 4))):
        with pytest.raises(CompressionError, match="remove_masks_"):
            conflict()
    compression.prune_(model, 0.75, method="random")
    assert zero_share(*weights_of(model)) == 0.75
    assert all((w.numpy()[z] == 0).all() for w, z in zip(weights_of(model), zero))
    compression.remove_masks_(model)
    train(model, tt_learn.Adam(model.parameters()), 1)
    assert zero_share(*weights_of(model)) < 0.75


def test_an_optimizer_whose_state_cannot_be_cut_is_refused() -> None:
    model, x = mlp(), tt_core.randn(4, 8)
    optimizer = tt_learn.LBFGS(model.parameters(), max_iter=2)

    def loss() -> Any:
        optimizer.zero_grad()
        value = (model(x) ** 2).mean()
        value.backward()
        return value

    optimizer.step(loss)
    with pytest.raises(CompressionError, match="make a new optimizer"):
        compression.shrink_(model, 0.5, x, optimizer=optimizer)
    optimizer.step(loss)
    assert model[0].weight.shape == (16, 8)


def test_the_reports_measure() -> None:
    """Time on an example, nothing without one, and the sentence that a low rank does not pay."""
    model, x = mlp(), tt_core.ones(4, 8)
    dense = compression.prune_(model, 0.5, example=x)
    assert dense.time_ratio is not None
    products, relus = 2 * 4 * (8 * 16 + 16 * 16 + 16 * 3), 2 * 4 * 16
    assert dense.before.flops == dense.after.flops == products + relus
    assert compression.prune_(model, 0.6).time_ratio is None
    assert "not measured" in str(compression.prune_(model, 0.7))
    assert "masks take 432 bytes" in str(dense)
    compression.remove_masks_(model)
    assert all("does not pay" in line for line in compression.low_rank_(model, energy=0.9999).layers)
    assert reports.cost(model, x).seconds > 0


# --- models of other shapes


class Branches(Layer):
    """What a learner may write: a concatenation, a gate, a norm over hidden features, a mean over places."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = Conv2d(3, 6, 3), Conv2d(3, 4, 3)
        self.gate, self.mix = Conv2d(10, 10, 1), Linear(10, 12)
        self.norm, self.head = tt_core.LayerNorm(12), Linear(12, 3)

    def forward(self, x: Any) -> Any:
        both = tt_core.cat([self.left(x).relu(), self.right(x).relu()], dim=1)
        gated = both * self.gate(both).sigmoid()
        return self.head(self.norm(self.mix(gated.mean((2, 3)))))


def test_a_learners_own_layers_are_followed() -> None:
    model = Branches()
    report = compression.shrink_(model, 0.5, IMAGES)
    assert report.layers == ("left, right, gate: 10 -> 5 channels", "mix: 12 -> 6 neurons")
    assert model.left.out_channels + model.right.out_channels == model.mix.in_features == 5
    assert model.norm.normalized_shape == (6,)


class Twice(Layer):
    """One layer in two places, a number for all features, and a head for training."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.middle, self.head, self.aside = Linear(8, 16), Linear(16, 16), Linear(16, 3), Linear(16, 2)
        self.scale = tt_core.tensor(0.5).as_parameter()

    def forward(self, x: Any) -> Any:
        hidden = self.middle(self.middle(self.first(x).relu()).relu()) * self.scale
        return (self.head(hidden), self.aside(hidden)) if self.training else self.head(hidden)


class Gated(Layer):
    """Channels times a map of places, a projection around them, two layers with one weight."""

    def __init__(self) -> None:
        super().__init__()
        self.inside, self.around, self.gate = Conv2d(3, 8, 3, padding=1), Conv2d(3, 8, 1), Conv2d(3, 1, 1)
        self.left, self.right, self.head = Linear(8, 6), Linear(8, 6), Linear(6, 3)
        self.right.weight = self.left.weight

    def forward(self, x: Any) -> Any:
        features = (self.inside(x).relu() * self.gate(x).sigmoid() + self.around(x)).mean((2, 3))
        return self.head(self.left(features).relu() + self.right(features).tanh())


def grouped() -> Sequential:
    wide, groups, narrow = Conv2d(3, 8, 3), Conv2d(8, 8, 3, groups=2), Conv2d(8, 6, 1)
    return Sequential(wide, groups, narrow, ReLU(), Conv2d(6, 3, 1)).eval()


def low_rank_mlp() -> Sequential:
    model = Sequential(Linear(16, 16), ReLU(), Linear(16, 3))
    compression.low_rank_(model, rank=4, filter_fn=lambda layer, path: path == "0")
    return model


UNUSUAL: dict[str, tuple[Callable[[], Layer], Any, Callable[[Layer, str], bool] | None, tuple[str, ...]]] = {
    "used twice": (Twice, tt_core.ones(2, 8), None, ("first, middle: 16 -> 8 neurons",)),
    "gated": (
        Gated,
        tt_core.ones(2, 3, 8, 8),
        None,
        ("inside, around: 8 -> 4 channels", "left, right: 6 -> 3 neurons"),
    ),
    "groups": (grouped, tt_core.ones(1, 3, 8, 8), lambda layer, path: path == "2", ("2: 6 -> 3 channels",)),
    "one slope": (
        lambda: Sequential(Linear(8, 16), PReLU(), Linear(16, 3)),
        tt_core.ones(2, 8),
        None,
        ("0: 16 -> 8 neurons",),
    ),
    "a slope for each": (
        lambda: Sequential(Linear(8, 16), PReLU(16), Linear(16, 3)),
        tt_core.ones(2, 8),
        None,
        ("0: 16 -> 8 neurons",),
    ),
    "low rank": (low_rank_mlp, tt_core.ones(2, 16), None, ("0.down: 4 -> 2 neurons", "0.up: 16 -> 8 neurons")),
}


@pytest.mark.parametrize("what", UNUSUAL)
def test_unusual_models_shrink_and_come_back(what: str) -> None:
    make, x, filter_fn, rows = UNUSUAL[what]
    model, fresh = make().eval(), make().eval()
    assert compression.shrink_(model, 0.5, x, filter_fn=filter_fn).layers == rows
    compression.load_compressed(fresh, model.state_dict())
    np.testing.assert_array_equal(fresh(x).numpy(), model(x).numpy())
    assert repr(fresh) == repr(model)


def test_layers_that_did_not_run_are_named() -> None:
    notes = compression.shrink_(Twice(), 0.5, tt_core.ones(2, 8)).notes
    assert notes == ("aside did not run on the example: its inputs are as before, whatever was removed",)
    assert compression.shrink_(cnn(), 0.5, IMAGES).notes == ()


def test_low_rank_layers_know_their_new_sizes() -> None:
    model: Any = low_rank_mlp()
    compression.shrink_(model, 0.5, tt_core.ones(2, 16))
    assert (model[0].in_features, model[0].out_features, model[0].rank) == (16, 8, 2)


def test_a_pruned_grouped_convolution_comes_back() -> None:
    model: Any = grouped()
    compression.prune_(model, 0.5)
    fresh: Any = grouped()
    compression.load_compressed(fresh, model.state_dict())
    assert fresh[1].groups == model[1].groups == 2
    np.testing.assert_array_equal(fresh(IMAGES).numpy(), model(IMAGES).numpy())


def test_refitting_keeps_shared_weights_and_sums_float16_in_float32() -> None:
    tied, plain, x = Gated().eval(), Gated().eval(), tt_core.randn(8, 3, 8, 8)
    plain.load_state_dict(tied.state_dict())
    report = compression.shrink_(tied, 0.5, x, calibration=[x])
    compression.shrink_(plain, 0.5, x)
    assert report.notes == ("1 layers were refitted on 1 batches of calibration inputs",)
    np.testing.assert_array_equal(tied.left.weight.numpy(), plain.left.weight.numpy())
    half, wide = (mlp() for _ in range(2))
    half.load_state_dict(wide.state_dict())
    rows = 100 * tt_core.randn(2_000, 8)  # sums of squares above float16's 65504
    compression.shrink_(half.to("float16"), 0.5, rows.to("float16"), calibration=[rows.to("float16")])
    compression.shrink_(wide, 0.5, rows, calibration=[rows])
    np.testing.assert_allclose(half[2].weight.numpy(), wide[2].weight.numpy(), atol=0.02)


def test_encoder_and_decoder_shrink_but_for_their_cross_attention() -> None:
    model = Seq2SeqTransformer(11, 12, embed_dim=16, num_heads=4, num_layers=1).eval()
    example = (tt_core.tensor([[1, 2, 3]]), tt_core.tensor([[4, 5]]))
    with pytest.raises(CompressionError, match=r"cross_attention\.in_proj cannot be followed through op getitem"):
        compression.shrink_(model, 0.5, example)
    compression.shrink_(model, 0.5, example, filter_fn=lambda layer, path: "cross" not in path)
    assert [layer.num_heads for layer in model.layers() if isinstance(layer, MultiHeadAttention)] == [2, 2, 4]
    assert model(*example).shape == (1, 2, 12)


def test_a_config_with_an_end_token_and_the_generator_are_left_as_they_are() -> None:
    model = GPT(GPTConfig(vocab_size=31, block_size=24, n_layer=1, n_head=4, n_embd=32, eos_token_id=30))
    before = tt_core.get_rng_state()
    compression.shrink_(model, {"neurons": 0.5}, IDS)
    assert tt_core.get_rng_state() == before
    assert (model.config.n_head, model.config.intermediate_size, model.config.eos_token_id) == (4, 64, 30)
    fresh = GPT(GPTConfig(vocab_size=31, block_size=24, n_layer=1, n_head=4, n_embd=32, eos_token_id=30))
    compression.load_compressed(fresh, model.state_dict())
    assert fresh.config == model.config
