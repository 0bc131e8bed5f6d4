"""Trainings as processes of their own: signals, outputs that end, and what is left on disk."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import pytest

from tinygpt.capstone import TinyGPT
from tinygpt.cli import main

PROGRAM = "import sys; from tinygpt.cli import main; sys.exit(main())"
OPTIONS = ["--preset", "tiny", "--tokenizer", "char", "--n-layer", "1", "--n-embd", "32", "--block-size", "16"]
MANY = ["--steps", "1000000", "--eval-interval", "1000000"]
posix = pytest.mark.skipif(os.name == "nt", reason="Windows has neither these signals nor these devices")
HERE = {**os.environ, "TT_NUM_THREADS": "1", "PYTHONIOENCODING": "utf-8"}
pytestmark = pytest.mark.filterwarnings("default:resume. last bits may differ")  # this process has its own threads


@contextmanager
def training(corpus: Path, out: Path, *more: str, **streams: Any) -> Iterator[subprocess.Popen[str]]:
    """A training in a process of its own, which ends with the block at the latest."""
    command = [sys.executable, "-c", PROGRAM, "train", "--corpus", str(corpus), "--out", str(out), *OPTIONS, *more]
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **streams}
    with subprocess.Popen(command, text=True, encoding="utf-8", env=HERE, **streams) as process:
        try:
            yield process
        finally:
            process.kill()


def wait_for(stream: IO[str] | None, text: str) -> None:
    assert stream is not None
    for line in stream:
        if text in line:
            return
    pytest.fail(f"the training ended before it said {text!r}")


def steps_done(run: Path) -> int:
    return int(json.loads((run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()[-1])["step"])


@posix
@pytest.mark.parametrize(
    "name",
    ["SIGTERM", pytest.param("SIGHUP", marks=pytest.mark.crash), pytest.param("SIGINT", marks=pytest.mark.crash)],
)
def test_a_signal_saves_and_the_run_goes_on(
    name: str, corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    number = signal.Signals[name]
    heard = {"preexec_fn": lambda: signal.signal(number, signal.SIG_DFL)}  # also where these tests run under nohup
    with training(corpus, tmp_path / "run", *MANY, **heard) as process:
        wait_for(process.stdout, "step 10/")
        process.send_signal(number)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert err.strip() == ""
    assert f"continue with: tinygpt train --resume {tmp_path / 'run'}" in out
    done = int(out.split("stopped after step ")[1].split(",")[0])
    assert main(["train", "--resume", str(tmp_path / "run"), "--steps", str(done + 10)]) == 0
    assert steps_done(tmp_path / "run") == done + 10


@posix
def test_nohup_outlives_its_terminal(corpus: Path, tmp_path: Path) -> None:
    ignored = {"preexec_fn": lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN)}
    with training(corpus, tmp_path / "run", "--steps", "300", **ignored) as process:
        wait_for(process.stdout, "step 10/")
        process.send_signal(signal.SIGHUP)
        process.communicate(timeout=60)
    assert process.returncode == 0
    assert steps_done(tmp_path / "run") == 300


@posix
@pytest.mark.crash
def test_a_terminal_that_is_closed_saves(corpus: Path, tmp_path: Path) -> None:
    import pty

    terminal, inner = pty.openpty()
    own = {"stdin": inner, "stdout": inner, "stderr": inner, "start_new_session": True}
    with training(corpus, tmp_path / "run", *MANY, preexec_fn=lambda: take_terminal(inner), **own) as process:
        os.close(inner)
        while (
            not (tmp_path / "run" / "metrics.jsonl").exists()
            or b"step" not in (tmp_path / "run" / "metrics.jsonl").read_bytes()
        ):
            os.read(terminal, 1 << 16)
        os.close(terminal)
        assert process.wait(timeout=60) == 128 + signal.SIGHUP
    assert TinyGPT.load(tmp_path / "run").model.num_parameters() > 0
    assert (tmp_path / "run" / "checkpoint" / "last.safetensors").exists()


def take_terminal(descriptor: int) -> None:
    """Make it the terminal of this session, which gets SIGHUP when it is closed."""
    import fcntl
    import termios

    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    fcntl.ioctl(descriptor, termios.TIOCSCTTY, 0)


def test_a_reader_that_has_gone_does_not_end_a_training(corpus: Path, tmp_path: Path) -> None:
    with training(corpus, tmp_path / "run", "--steps", "30") as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()  # as `head -1` does
        warned = process.stderr.read()
        assert process.wait(timeout=60) == 0
    assert warned.startswith("warning: the output cannot be written")
    assert warned.count("\n") == 1
    assert steps_done(tmp_path / "run") == 30


@pytest.mark.skipif(not Path("/dev/full").is_char_device(), reason="this system has no disk that is always full")
@pytest.mark.parametrize("both", [False, True], ids=["stdout", "both"])
def test_a_full_disk_behind_the_output_does_not_end_a_training(both: bool, corpus: Path, tmp_path: Path) -> None:
    with open("/dev/full", "w", encoding="utf-8") as full:
        errors = full if both else subprocess.PIPE
        with training(corpus, tmp_path / "run", "--steps", "30", stdout=full, stderr=errors) as process:
            warned = process.communicate(timeout=60)[1]
    assert process.returncode == 0
    assert both or (warned.startswith("warning: the output cannot be written") and warned.count("\n") == 1)
    assert steps_done(tmp_path / "run") == 30


@posix
@pytest.mark.crash
def test_a_killed_training_leaves_no_lock(corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "run"
    with training(corpus, run, "--steps", "1000000", "--eval-interval", "50") as process:
        wait_for(process.stdout, "val loss")
        wait_for(process.stdout, "step 60/")  # the checkpoint of step 50 is written
        assert main(["train", "--resume", str(run)]) == 1
        assert main(["train", "--corpus", str(corpus), "--out", str(run), *OPTIONS]) == 1
        assert "another training is writing" in capsys.readouterr().err
        assert main(["generate", str(run), "--max-new-tokens", "3"]) == main(["info", str(run)]) == 0
        process.kill()
        process.wait()
    done = json.loads((run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()[-1])["step"]
    assert main(["train", "--resume", str(run), "--steps", str(done + 50)]) == 0
    assert not list(run.glob(".*"))


@posix
@pytest.mark.crash
@pytest.mark.parametrize("delay", [0.0, 0.1, 0.2, 0.4, 0.8])
def test_killed_at_any_moment_a_run_is_whole_or_can_be_begun_again(
    delay: float, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    run = tmp_path / "runs" / "killed"
    with training(corpus, run, "--steps", "1000000", "--eval-interval", "20") as process:
        while process.poll() is None and not (run / "config.json").exists():
            time.sleep(0.001)
        time.sleep(delay)
        process.kill()
        process.wait()
    if (run / "checkpoint" / "last.safetensors").exists():
        done = steps_done(run) // 20 * 20 + 20
        assert main(["train", "--resume", str(run), "--steps", str(done)]) == 0
    else:  # a model is written after the first checkpoint
        assert main(["generate"]) == 1  # it is not the newest run
        assert main(["train", "--corpus", str(corpus), "--out", str(run), *OPTIONS, "--steps", "2"]) == 0
    assert main(["generate", "--max-new-tokens", "3"]) == 0
