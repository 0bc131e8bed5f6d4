"""A workspace that holds the framework's own text of all twenty modules is the framework."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tt_core.command.cli import load_acts
from tt_core.course.commands import installed
from tt_core.course.exercises import files_of
from tt_core.course.folder import Workspace
from tt_core.course.process import environment
from tt_core.course.testing import new_workspace, written

IMPORTS = "import tt_perf, tt_perf.acceleration, tinygpt.capstone, tinygpt.needs"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    load_acts()
    workspace = new_workspace(tmp_path_factory.mktemp("whole"))
    for module in installed():
        written(workspace, module, {})
    return workspace


def test_it_trains_to_the_same_bits(whole: Workspace, train: Callable[..., int], tmp_path: Path, corpus: Path) -> None:
    short = ["--steps", "6", "--eval-interval", "3", "--warmup-steps", "2", "--tokenizer", "bpe", "--vocab-size", "280"]
    assert train(tmp_path / "installed", *short) == 0
    options = ["--corpus", str(corpus), "--preset", "tiny", "--n-layer", "1", "--n-embd", "32", "--block-size", "16"]
    command = [
        "-m",
        "tinygpt.cli",
        "train",
        *options,
        "--learning-rate",
        "0.01",
        *short,
        "--out",
        str(tmp_path / "own"),
    ]
    done = subprocess.run([sys.executable, *command], env=environment(whole.root, tuned=True), capture_output=True)
    assert done.returncode == 0, done.stderr.decode()
    assert b"framework's are used" not in done.stderr
    for name in ("model.safetensors", "tokenizer.json"):
        assert (tmp_path / "own" / name).read_bytes() == (tmp_path / "installed" / name).read_bytes()


def test_every_file_of_it_runs(whole: Workspace) -> None:
    assert len({module.number for module in installed() if files_of(module)}) == 20
    look = "import sys; from tt_core.course.finder import active; print(sum(f in sys.modules for f in active.files))"
    done = subprocess.run(
        [sys.executable, "-c", f"{IMPORTS}\n{look}"], env=environment(whole.root), capture_output=True, check=True
    )
    assert int(done.stdout) == sum(len(files_of(module)) for module in installed())


@pytest.mark.skipif(sys.platform == "win32", reason="there is no processor time of child processes")
def test_the_finder_adds_little_to_the_start(whole: Workspace) -> None:
    import resource

    def processor_time(environ: dict[str, str]) -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, "-c", IMPORTS], env=environ, check=True, capture_output=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    own = environment(whole.root)
    own.pop("PYTHONDONTWRITEBYTECODE")  # as `tt run` does, so that the files are compiled once
    without = environment(whole.root, {})
    processor_time(own)
    added = sorted(processor_time(own) - processor_time(without) for _ in range(5))[2]
    assert added < 0.1  # 0.02 s were measured on a quiet machine
