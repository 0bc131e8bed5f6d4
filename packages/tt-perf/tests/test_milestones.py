"""The milestone systems: it reaches what it claims with honest parts, and falls short with sabotaged ones."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tt_core as tt
from tt_core.command.journey import Shortfall
from tt_core.engine.dispatch import Op
from tt_core.engine.errors import FileError
from tt_core.engine.plugins import hookimpl, manager
from tt_language import GPT, ByteTokenizer, GPTConfig
from tt_learn import AdamW, no_grad, save_tensors
from tt_learn.training import stored_state
from tt_perf.command import milestones, variants
from tt_perf.command.cli import plugin as act
from tt_perf.command.variants import Variant, shipped


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run of `tinygpt train`: a model that knows a rhyme."""
    text = np.frombuffer(b"one two three four five, once I caught a fish alive. " * 3, np.uint8).astype(np.int64)
    tt.manual_seed(0)
    model = GPT(GPTConfig(256, block_size=32, n_layer=2, n_head=2, n_embd=64, bias=False))
    optimizer = AdamW(model.parameters(), lr=3e-3)
    for _ in range(60):
        starts = tt.generator().integers(0, len(text) - 33, 8)
        optimizer.zero_grad()
        milestones._next_token(model, text[starts[:, None] + np.arange(33)]).backward()
        optimizer.step()
    found = tmp_path_factory.mktemp("data")
    folder = found / "tinygpt"
    folder.mkdir()
    save_tensors(folder / "model.safetensors", stored_state(model))  # tied weights once, as tinygpt writes them
    ByteTokenizer().save(folder / "tokenizer.json")
    (folder / "config.json").write_text(json.dumps({"model": model.config.to_dict()}), encoding="utf-8")
    return found


@pytest.fixture(scope="module")
def model(data_dir: Path) -> Any:
    return milestones.trained(data_dir).model


def language(data_dir: Path, out: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The part with the language model, with fewer rounds."""
    monkeypatch.setattr(variants, "compare", lambda *timers, **options: variants_compare(*timers, rounds=5))
    return milestones.language(data_dir, out)


variants_compare = variants.compare


def test_the_milestone_is_listed() -> None:
    assert [(m.name, m.year, m.act) for m in act.tt_milestones()] == [("systems", 2024, 5)]


def test_a_run_becomes_small_and_fast(
    data_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = language(data_dir, tmp_path, monkeypatch)
    printed = capsys.readouterr().out
    assert f"the model in {data_dir / 'tinygpt'}" in printed
    for name in ("float32", "int8", "int4", "shrunk", "kv-cache"):
        assert f"  {name}" in printed or f"+ {name}" in printed
    assert "writes the same tokens as without plugins" in printed
    assert (tmp_path / "systems-language.svg").read_text(encoding="utf-8").startswith("<svg")
    assert tried.answer("one ").startswith("one ")


def _no_shrinking(model: Any, *options: Any) -> None:
    """A shrinker that leaves the model as it is."""


def _no_quantizing(model: Any, *options: Any, **more: Any) -> None:
    """A quantizer that leaves the model as it is."""


def test_a_quantizer_that_does_nothing_falls_short(
    data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(milestones, "quantize_", _no_quantizing)
    monkeypatch.setattr(milestones, "distil", lambda *_: None)
    with pytest.raises(Shortfall, match=r"is \w+, 1\.\d\d times smaller; 4 times was to be reached"):
        language(data_dir, tmp_path, monkeypatch)


def test_weights_of_zeros_fall_short(data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = milestones.trained(data_dir)
    with no_grad():
        for p in given.model.parameters():
            p.zero_()
    monkeypatch.setattr(milestones, "trained", lambda data_dir: given)
    with pytest.raises(Shortfall, match="the model knows nothing"):
        language(data_dir, tmp_path, monkeypatch)


def test_a_token_that_takes_long_falls_short(data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(milestones, "TOKEN_SECONDS", 1e-9)
    with pytest.raises(Shortfall, match=r"a token takes .*, less than 100 ms was to be reached"):
        language(data_dir, tmp_path, monkeypatch)


class Rounding:
    """A plugin whose attention is off by a little, or by much."""

    def __init__(self, error: float) -> None:
        self.error = error

    @hookimpl
    def tt_wrap_op(self, op: Op, call: Callable[..., Any]) -> Callable[..., Any] | None:
        if op.name != "gelu":
            return None
        return lambda *inputs, **options: call(*inputs, **options) * (1 + self.error)


def unchanged(model: Any, plugin: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    manager.register(plugin, "rounding")
    try:
        with monkeypatch.context() as patch:
            original = milestones.generate
            calls = []

            def without_first(*arguments: Any, **options: Any) -> Any:
                """The first call runs without the plugin."""
                calls.append(1)
                if len(calls) == 1:
                    manager.unregister(name="rounding")
                    try:
                        return original(*arguments, **options)
                    finally:
                        manager.register(plugin, "rounding")
                return original(*arguments, **options)

            patch.setattr(milestones, "generate", without_first)
            milestones.tokens_unchanged(model, [], np.array([[111, 110], [32, 116]]), 16)
    finally:
        manager.unregister(name="rounding")


def test_tokens_that_change_fall_short(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    unchanged(model, Rounding(1e-7), monkeypatch)
    with pytest.raises(Shortfall, match="the model writes other tokens"):
        unchanged(model, Rounding(-3.0), monkeypatch)


def test_equally_likely_tokens_may_swap(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = iter([[[1, 2]], [[1, 3]]])
    monkeypatch.setattr(milestones, "generate", lambda *_, **__: next(answers))
    monkeypatch.setattr(milestones, "_apart", lambda *_: 1e-4)
    milestones.tokens_unchanged(model, ["kv-cache"], np.array([[111]]), 2)


def test_the_smallest_form_that_is_good_enough_is_shipped() -> None:
    forms = [Variant("float", None, 100, 0.9), Variant("int8", None, 24, 0.9), Variant("int4", None, 14, 0.5)]
    assert shipped("systems", forms, 0.85).name == "int8"
    with pytest.raises(Shortfall, match=r"is int4, 7.14|is float, 1.00 times smaller"):
        shipped("systems", forms, 0.95)
    with pytest.raises(Shortfall, match=r"float, 1.00 times smaller"):
        shipped("systems", [forms[0], Variant("nan", None, 1, float("nan"))], 0.5)


def test_quality_is_what_is_left_of_the_likelihood(model: Any) -> None:
    texts = milestones.written(model, 8, 16)
    worse = copy.deepcopy(model)
    with no_grad():
        for p in worse.parameters():
            p.mul_(0.5)
    assert milestones.loss_on(worse, texts) > milestones.loss_on(model, texts) + 0.05


def test_damaged_and_quantized_runs_are_one_line(tmp_path: Path) -> None:
    folder = tmp_path / "tinygpt"
    folder.mkdir()
    for content, message in (("{", "missing or damaged"), ("[]", "missing or damaged"),
                             ('{"model": {}, "quantization": {}}', "is quantized already")):  # fmt: skip
        (folder / "config.json").write_text(content, encoding="utf-8")
        with pytest.raises(FileError, match=message):
            milestones.trained(tmp_path)


def test_accuracy_counts_the_highest_score() -> None:
    images = milestones.GeneratedShapes(30, 0, size=8)
    labels = [label for _, label in images]

    class Constant(tt.Layer):
        def forward(self, x: Any) -> Any:
            return tt.tensor(np.tile(np.eye(10, dtype=np.float32)[2], (len(x), 1)))

    assert milestones.accuracy(Constant(), images) == pytest.approx(np.mean(np.array(labels) == 2))
