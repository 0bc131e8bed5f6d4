"""`tinygpt serve` as a process of its own: it says where it answers, answers, and ends at a signal."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from tinygpt.cli import main

PROGRAM = "import sys; from tinygpt.cli import main; sys.exit(main())"


@pytest.mark.skipif(os.name == "nt", reason="no signal ends a process there as Ctrl-C does")
@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM])
def test_the_command(trained: Path, ending: signal.Signals) -> None:
    pytest.importorskip("uvicorn")
    command = [sys.executable, "-c", PROGRAM, "serve", str(trained), "--port", "0", "--name", "mine"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "encoding": "utf-8"}
    with subprocess.Popen(command, **pipes) as process:  # type: ignore[call-overload]
        try:
            line = process.stdout.readline()
            address = re.search(r"mine answers at (http://127\.0\.0\.1:\d+) \(a page\)", line)
            assert address is not None, line
            with urllib.request.urlopen(f"{address[1]}/v1/models", timeout=300) as answer:
                assert b'"mine"' in answer.read()
            with urllib.request.urlopen(address[1], timeout=300) as answer:
                assert b"<title>TinyGPT</title>" in answer.read()
        finally:
            process.send_signal(ending)
        assert process.wait(300) in (0, 130, 143, -2, -15)
        assert process.stderr.read().strip() == ""  # click ends the line behind ^C


def test_wrong_options(trained: Path, refused: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("uvicorn")
    assert "cannot listen on 'no.such.host.invalid'" in refused("serve", trained, "--host", "no.such.host.invalid")
    assert "--api-key is empty" in refused("serve", trained, "--api-key", " ")
    assert "no run folder" in refused("serve", trained / "nowhere")


def test_a_port_that_is_taken(trained: Path, refused: Any) -> None:
    pytest.importorskip("uvicorn")
    from tinygpt.server.run import listening

    with listening("127.0.0.1", 0) as taken:
        assert "choose another" in refused("serve", trained, "--port", taken.getsockname()[1])


def test_without_the_extra(trained: Path, refused: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    assert "pip install 'tinygpt[serve]'" in refused("serve", trained)


def test_the_help_needs_no_server(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("uvicorn", "starlette", "h11"):
        monkeypatch.setitem(sys.modules, name, None)
    assert main(["serve", "--help"]) == 0
    assert "tinygpt serve runs/my-run --port 8080" in capsys.readouterr().out
