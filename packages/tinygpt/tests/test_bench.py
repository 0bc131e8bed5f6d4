"""`tinygpt bench` measures what it says: time for a token read and a token written, with and without plugins."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from tinygpt.capstone import TinyGPT
from tinygpt.capstone.bench import bench
from tinygpt.cli import main
from tt_core.engine import plugins
from tt_core.engine.hookspecs import hookimpl


def test_prints_rates_and_the_machine(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--prompt-tokens", "8", "--new-tokens", "4", "--rounds", "5"]
    assert main(["bench", str(trained), *options, "--plugin", "kv-cache"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("model: ")
    assert lines[2].startswith("no plugin: reads ")
    assert lines[3].startswith("kv-cache: reads ")
    assert "time to read" in lines[3]
    assert main(["bench", str(trained), *options, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["no plugin"]
    assert 0 < found["read_seconds"] < 1
    assert 0 < found["write_seconds"] < 1


def test_a_plugin_that_waits_is_measured(trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A plugin that makes each call of the model 20 ms longer: reading 8 tokens, and writing each one."""

    class Slow:
        @hookimpl
        def tt_wrap_layer(self, layer_type: type, call: Callable[..., object]) -> object:
            def slower(*inputs: object, **options: object) -> object:
                time.sleep(0.02)
                return call(*inputs, **options)

            return slower if layer_type.__name__ == "GPT" else call

    monkeypatch.setitem(plugins._entries, "slow", SimpleNamespace(name="slow", load=Slow))  # type: ignore[arg-type]
    _, slow = bench(trained, ["slow"], prompt=8, new=4, rounds=5, say=lambda line: None)
    assert slow.write >= 0.02
    assert 8 * slow.read >= 0.02
    assert slow.read < slow.write  # all of a prompt in one call
    assert slow.ratios is not None
    assert slow.ratios[1].ratio > 1


def test_a_small_context_is_shared_out(trained: Path) -> None:
    (speed,) = bench(trained, rounds=5, say=lambda line: None)  # 8 tokens to read and 4 to write of 16
    assert 0 < speed.write < 1


def test_more_tokens_than_the_context_are_refused(trained: Path, refused: Callable[..., str]) -> None:
    assert "more than the model's context of 16" in refused("bench", trained, "--prompt-tokens", 15, "--new-tokens", 2)


def test_info_tells_what_a_model_takes(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", str(trained), "--layers"]) == 0
    told = capsys.readouterr().out
    assert f"{TinyGPT.load(trained).model.num_parameters():,} parameters in " in told
    assert "256 bytes of cache" in told
    assert "attention: MultiHeadAttention" in told
