"""Every option of every command of `tt` and `tinygpt`, called with wrong values: one line, and exit code 1 or 2.

The commands are found by walking click's tree, so a new option is tested from its first day. Some of the values are
right for some options (`ODD`): then the command succeeds. It never shows a traceback, and leaves nothing half done.
"""

from __future__ import annotations

import contextlib
import io
import os
import random
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import click
import pytest

import tinygpt.capstone.capstone as capstone
import tinygpt.cli
import tt_core.command.cli
from tt_core.command.common import run
from tt_learn import Trainer
from tt_perf import Measurement
from tt_perf.benchmarking import comparing, jobs, olympic_task, olympics
from tt_perf.benchmarking.results import Entry, Result

pytestmark = pytest.mark.filterwarnings("default")  # a command prints a warning as a line

TEXT = "the cat sat on the mat. a dog ran to the cat. " * 20

tt_core.command.cli.load_acts()
ROOTS: dict[str, click.Group] = {"tt": tt_core.command.cli.cli, "tinygpt": tinygpt.cli.cli}


def commands(group: click.Group, *path: str) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Each command below `group`, with the words that call it."""
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from commands(command, *path, name)
        else:
            yield (*path, name), command


COMMANDS = {words: command for root, group in ROOTS.items() for words, command in commands(group, root)}


def examples_of(command: click.Command) -> list[list[str]]:
    return [shlex.split(line) for line in (command.epilog or "").splitlines() if line.startswith("  ")]


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_help_ends_with_examples_that_the_command_takes(words: tuple[str, ...]) -> None:
    found = examples_of(COMMANDS[words])
    assert len(found) >= (2 if COMMANDS[words].params else 1)
    for line in found:
        line = line[line.index(words[0]) :]  # after `echo 'Hello!' |`
        assert tuple(line[: len(words)]) == words
        COMMANDS[words].make_context(" ".join(words), line[len(words) :])


@pytest.mark.parametrize("root", ROOTS)
def test_no_summary_is_cut_at_80_columns(root: str) -> None:
    context = click.Context(ROOTS[root], info_name=root, terminal_width=80)
    assert not re.search(r"\w\.\.\.", ROOTS[root].get_help(context))


NEEDED: dict[tuple[str, ...], dict[str, str]] = {
    ("tt", "milestone"): {"name": "perceptron", "--out": "pictures"},
    ("tt", "data", "shard"): {"source": "text.txt", "--out": "shards"},
    ("tt", "profile"): {"command": "job.py", "--out": "pictures"},
    ("tt", "compare"): {"job": "mlp-step", "--plugin": "profiler", "--rounds": "5", "--out": "pictures"},
    ("tt", "kernels"): {
        "ops": "relu_backward", "--plugin": "naive", "--size": "16", "--rounds": "1", "--json": "kernels.json",
    },
    ("tt", "olympics", "run"): {"--rounds": "5", "--out": "pictures"},
    ("tt", "olympics", "verify"): {"file": "result.json", "--rounds": "5"},
    ("tt", "olympics", "board"): {"folder": "games"},
    ("tinygpt", "train"): {
        "--corpus": "text.txt", "--out": "new", "--preset": "tiny", "--tokenizer": "char", "--n-layer": "1",
        "--n-embd": "16", "--block-size": "8", "--steps": "2", "--eval-interval": "1", "--eval-windows": "2",
    },
    ("tinygpt", "generate"): {"run_folder": "run", "--max-new-tokens": "3"},
    ("tinygpt", "finetune"): {
        "run_folder": "run", "--data": "text.txt", "--out": "new", "--steps": "2", "--batch-size": "2",
    },
    ("tinygpt", "merge"): {"adapter": "run", "--out": "new"},
    ("tinygpt", "chat"): {"run_folder": "run", "--max-new-tokens": "3"},
    ("tinygpt", "eval"): {"run_folder": "run", "--data": "text.txt"},
    ("tinygpt", "export"): {"run_folder": "run", "--format": "hf", "--out": "new"},
    ("tinygpt", "info"): {"run_folder": "run"},
    ("tinygpt", "quantize"): {"run_folder": "run", "--out": "new"},
    ("tinygpt", "shrink"): {"run_folder": "run", "--out": "new"},
    ("tinygpt", "prune"): {"run_folder": "run", "--out": "new"},
    ("tinygpt", "distill"): {
        "run_folder": "run", "--out": "new", "--preset": "tiny", "--n-layer": "1", "--n-embd": "16",
        "--block-size": "8", "--steps": "2", "--eval-interval": "1", "--eval-windows": "2",
    },
    ("tinygpt", "bench"): {"run_folder": "run", "--prompt-tokens": "3", "--new-tokens": "2", "--rounds": "5"},
    ("tinygpt", "story"): {"run_folder": "run", "--out": "new.html"},
    ("tinygpt", "serve"): {"run_folder": "run", "--port": "0"},
}  # fmt: skip
"""What a command is called with beside the value in question, so that it gets as far as to look at it."""

WRONG = {
    "number": ("", "x", "nan", "1,5", "0x10", "½"),
    "path": ("",),
}
"""What no option of this kind takes."""
ODD = {
    "number": ("0", "-1", "-0.0", "1.5", "inf", "-inf", "1e400", "1" + "0" * 30, "9" * 5000, "١"),
    "path": ("missing", "missing/too", "text.txt", "text.txt/inside", "other", "damaged", "locked", "empty",
             "l\udcff", "x" * 300, "/dev/null", "loop", "-", "."),
    "text": ("", " ", "x", "\udcff", "\n", "-1", "9" * 300, "../..", "日本"),
}  # fmt: skip
"""What most of them do not take."""


def kind_of(parameter: click.Parameter) -> str:
    if isinstance(parameter.type, click.Path):
        return "path"
    return "number" if isinstance(parameter.type, (click.types.IntParamType, click.types.FloatParamType)) else "text"


def name_of(parameter: click.Parameter) -> str:
    """`--steps`, or the name of an argument."""
    return max(parameter.opts, key=len) if isinstance(parameter, click.Option) else str(parameter.name)


def takes_value(parameter: click.Parameter) -> bool:
    return not (isinstance(parameter, click.Option) and parameter.is_flag)


def of_training(words: tuple[str, ...], parameter: click.Parameter) -> bool:
    """Whether an option of another command is one of `tinygpt train`, where it is tested."""
    known = {name_of(other) for other in COMMANDS["tinygpt", "train"].params} - {"--out"}
    return words in {("tinygpt", "story"), ("tinygpt", "distill")} and name_of(parameter) in known


CASES = [
    pytest.param(words, name_of(parameter), kind_of(parameter), id=" ".join([*words, name_of(parameter)]))
    for words, command in COMMANDS.items()
    for parameter in command.params
    if takes_value(parameter) and not of_training(words, parameter)
]


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a text, a run, and what is in the way of both; commands run in it, none changes what is there."""
    folder = tmp_path_factory.mktemp("stage")
    (folder / "text.txt").write_text(TEXT, encoding="utf-8")
    (folder / "job.py").write_text("import tt_core; tt_core.ones(2) + 1", encoding="utf-8")
    for name in ("other", "damaged", "locked", "empty"):
        (folder / name).mkdir()
    (folder / "other" / "picture.png").write_bytes(b"\x89PNG\r\n")
    for name in ("config.json", "tokenizer.json", "model.safetensors", "metrics.jsonl", "a.npy", "data_batch_1"):
        (folder / "damaged" / name).write_bytes(b"\xff\x00" * 50)
    (folder / "damaged" / "mnist").mkdir()
    (folder / "damaged" / "mnist" / "train-images-idx3-ubyte.gz").write_bytes(b"\xff\x00" * 50)
    (folder / "damaged" / "tinyshakespeare").mkdir()
    (folder / "damaged" / "tinyshakespeare" / "input.txt").write_bytes(b"\xff\x00" * 50)
    (folder / "games").mkdir()
    measured = Measurement(1, [0.1] * 5, "none")
    result = Result((Entry((), 0.99, measured, 1000),), measured, 0.1, "", "", {})
    for path in (folder / "result.json", folder / "games" / "result.json"):
        result.save(path)
    (folder / "locked").chmod(0)  # root looks inside all the same
    if hasattr(os, "symlink") and os.name != "nt":
        (folder / "loop").symlink_to("loop")
    before = Path.cwd()
    os.chdir(folder)
    try:
        code, _, said = call(("tinygpt", "train"), {**NEEDED["tinygpt", "train"], "--out": "run"})
    finally:
        os.chdir(before)
    assert code == 0, said
    return folder


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Training takes two steps at most, a text three tokens; both after all that is checked was checked."""
    fit, stream = Trainer.fit, capstone.stream

    def short_fit(self: Trainer, batches: Any, steps: int | None = None, *rest: Any, **options: Any) -> None:
        fit(self, batches, None if steps is None else min(steps, self.step + 2), *rest, **options)

    monkeypatch.setattr(Trainer, "fit", short_fit)
    monkeypatch.setattr(capstone, "stream", lambda *args, **options: islice(stream(*args, **options), 3))
    monkeypatch.delenv("TT_DATA_HOME", raising=False)
    quick = {"rounds": 5, "min_block_time": 1e-6}
    for module in (jobs, olympics):
        monkeypatch.setattr(module, "compare", lambda *timers, rounds: comparing.compare(*timers, **quick))
    monkeypatch.setattr(comparing, "warm_up", lambda timer: [timer.seconds(1)])
    monkeypatch.setattr(olympic_task, "train", lambda model: olympic_task.Training(0.1, 1))
    monkeypatch.setattr(olympic_task, "QUESTIONS", 3)
    with contextlib.suppress(ImportError):  # a server ends as soon as it listens
        monkeypatch.setattr("uvicorn.Server.run", lambda server, sockets: None)


def call(words: tuple[str, ...], given: dict[str, str]) -> tuple[int, str, str]:
    """Run a command in this process. Gives its exit code, standard output and standard error."""
    arguments = [*words[1:], *(f"{name}={value}" for name, value in given.items() if name.startswith("--"))]
    arguments += ["--", *(value for name, value in given.items() if not name.startswith("--"))]
    before = sys.stdin, sys.stdout, sys.stderr
    out, err = (io.TextIOWrapper(io.BytesIO(), "utf-8", errors) for errors in ("strict", "backslashreplace"))
    sys.stdin, sys.stdout, sys.stderr = io.StringIO("hello\n"), out, err
    try:
        code = run(ROOTS[words[0]], words[0], arguments)
    finally:
        sys.stdin, sys.stdout, sys.stderr = before
    return code, *(stream.buffer.getvalue().decode() for stream in (out, err))  # type: ignore[attr-defined]


def check(words: tuple[str, ...], given: dict[str, str], codes: tuple[int, ...]) -> None:
    before = contents()
    code, out, err = call(words, given)
    told = f"{' '.join(words)} {given} -> {code}\n{out[-500:]}\n{err[-500:]}"
    assert code in codes, told
    lines = [line for line in err.splitlines() if not line.startswith("warning: ")]
    assert "Traceback" not in out + err, told
    if code:
        assert len(lines) == 1, told
        assert lines[0].startswith("error: "), told
        assert len(lines[0]) < 1000, told
        assert not half_made(contents() - before), told
    remove_new(before)


def half_made(new: set[str]) -> set[str]:
    """What a command that failed may not leave: all but a run that can be resumed, and a milestone's pictures."""
    saved = {name.partition("/")[0] for name in new if name.endswith("model.safetensors")}
    return {name for name in new if name.partition("/")[0] not in saved | {"pictures"}}


def contents() -> set[str]:
    return {path.as_posix() for path in Path().rglob("*")}


def remove_new(before: set[str]) -> None:
    for name in sorted(contents() - before, reverse=True):
        path = Path(name)
        path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()


@pytest.mark.parametrize(("words", "name", "kind"), CASES)
def test_an_option_with_a_value_that_nobody_means(
    words: tuple[str, ...], name: str, kind: str, stage: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(stage)
    for value in WRONG.get(kind, ()):
        check(words, {**NEEDED.get(words, {}), name: value}, (1, 2))
    for value in ODD[kind]:
        check(words, {**NEEDED.get(words, {}), name: value}, (0, 1, 2))


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_what_a_command_does_not_take(words: tuple[str, ...], stage: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(stage)
    any_number = any(parameter.nargs == -1 for parameter in COMMANDS[words].params)  # of arguments, as a command has
    too_many = {} if any_number else {"a": "1", "b": "2", "c": "3"}
    for unknown in ({"--nonsense": "1"}, {"--": "1"}, too_many or {"--": "1"}, {"--\udcff": "x"}):
        check(words, {**NEEDED.get(words, {}), **unknown}, (1, 2))
    for parameter in COMMANDS[words].params:
        if not takes_value(parameter):
            check(words, {**NEEDED.get(words, {}), name_of(parameter): "3"}, (1, 2))


@pytest.mark.parametrize("words", [("tt", "milestone"), ("tt", "data", "shard")], ids=" ".join)
def test_a_folder_of_another_format(words: tuple[str, ...], stage: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(stage)
    if words == ("tt", "milestone"):
        for name in ("mlp", "transformer"):
            check(words, {"name": name, "--data-dir": "damaged", "--out": "pictures"}, (1, 2))
    else:
        for source in ("damaged", "other", "empty", "damaged/a.npy", "damaged/data_batch_1"):
            check(words, {"source": source, "--out": "shards"}, (1, 2))


def _first_value(text: bytes, value: str) -> bytes:
    """The first value of a JSON object (or of the first line of several) replaced."""
    return re.sub(rb"(\":\s*)(\"[^\"]*\"|[-\d.eE]+|true|false|null)", rb"\1" + value.encode(), text, count=1)


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda data: b"",
    "a half": lambda data: data[: len(data) // 2],
    "all but its end": lambda data: data[:-3],
    "longer": lambda data: data + b"\x00" * 9,
    "bytes": lambda data: bytes(range(256)),
    "another format": lambda data: b"\x89PNG\r\n" * 4,
    "flipped": lambda data: bytes([*data[:12], *[byte ^ 0xFF for byte in data[12:20]], *data[20:]]),
    "a list": lambda data: b"[1, 2]",
    "a number": lambda data: b"7",
    "an empty object": lambda data: b"{}",
    "nested": lambda data: b"[" * 100_000,
    "a huge number": lambda data: _first_value(data, "1" + "0" * 400),
    "a negative number": lambda data: _first_value(data, "-3"),
    "nan": lambda data: _first_value(data, "NaN"),
    "null": lambda data: _first_value(data, "null"),
    "a text": lambda data: _first_value(data, '"x"'),
    "an object": lambda data: _first_value(data, "{}"),
}
RUN_FILES = ("config.json", "tokenizer.json", "model.safetensors", "metrics.jsonl", "checkpoint/*")


@pytest.mark.parametrize("damage", [*DAMAGES, "missing", "a folder"])
@pytest.mark.parametrize("file", RUN_FILES)
def test_a_damaged_file_of_a_run(file: str, damage: str, stage: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(stage)
    sources = sorted(path for path in Path("run").glob(file) if path.is_file())
    assert sources
    for source in sources:
        for words, given in (
            (("tinygpt", "info"), {"run_folder": "hurt"}),
            (("tinygpt", "generate"), {"run_folder": "hurt", "--max-new-tokens": "3"}),
            (("tinygpt", "train"), {"--resume": "hurt", "--steps": "3"}),
        ):
            shutil.copytree("run", "hurt")
            place = Path("hurt") / source.relative_to("run")
            if damage in DAMAGES:
                place.write_bytes(DAMAGES[damage](place.read_bytes()))
            else:
                place.unlink()
                if damage == "a folder":
                    place.mkdir()
            try:
                code, out, err = call(words, given)
            finally:
                shutil.rmtree("hurt")
            told = f"{' '.join(words)}: {source.name} is {damage} -> {code}\n{out[-500:]}\n{err[-800:]}"
            lines = [line for line in err.splitlines() if not line.startswith("warning: ")]
            assert "Traceback" not in out + err, told
            assert code in (0, 1, 2), told
            assert not code or (len(lines) == 1 and lines[0].startswith("error: ") and len(lines[0]) < 1000), told


QUICK = ["tt journey", "tt plugins", "tt data list", "tt milestone perceptron", "tinygpt info run",
         "tinygpt generate run", "tt --help", "tinygpt train --help"]  # fmt: skip


def program(line: str) -> list[str]:
    """A command line as a process of its own, by whatever folder its script lies in."""
    name, *arguments = line.split()
    module = {"tt": "tt_core.command.cli", "tinygpt": "tinygpt.cli"}[name]
    return [sys.executable, "-c", f"import sys; from {module} import main; sys.exit(main())", *arguments]


@pytest.mark.parametrize("line", QUICK)
def test_a_reader_that_has_gone_is_nothing_to_speak_of(line: str, stage: Path) -> None:
    pipe = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(program(line), cwd=stage, **pipe) as process:  # type: ignore[call-overload]
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait() in (0, 1)  # 0 where all was written before the reader went


@pytest.mark.skipif(not Path("/dev/full").is_char_device(), reason="this system has no disk that is always full")
@pytest.mark.parametrize("line", QUICK)
def test_a_full_disk_behind_the_output_is_one_line(line: str, stage: Path) -> None:
    with open("/dev/full", "wb") as full:
        done = subprocess.run(program(line), cwd=stage, stdout=full, stderr=subprocess.PIPE, check=False)
        assert done.stderr.count(b"\n") == 1
        assert done.stderr.startswith(b"error: the output does not fit on the disk")
        assert done.returncode == 1
        both = subprocess.run(program(line), cwd=stage, stdout=full, stderr=full, check=False)
        assert both.returncode == 1


@pytest.mark.fuzz
@pytest.mark.parametrize("seed", range(40))
@pytest.mark.parametrize("words", [words for words, command in COMMANDS.items() if command.params], ids=" ".join)
def test_several_such_values_at_once(
    words: tuple[str, ...], seed: int, stage: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(stage)
    drawn = random.Random(f"{words} {seed}")
    parameters = [parameter for parameter in COMMANDS[words].params if takes_value(parameter)]
    for _ in range(10):
        given = dict(NEEDED.get(words, {}))
        for parameter in drawn.sample(parameters, min(len(parameters), drawn.randint(2, 4))):
            kind = kind_of(parameter)
            given[name_of(parameter)] = drawn.choice([*WRONG.get(kind, ()), *ODD[kind]])
        check(words, given, (0, 1, 2))
