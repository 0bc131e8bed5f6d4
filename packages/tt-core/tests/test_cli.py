"""The command `tt`, run as a user runs it: a process of its own, and what it says and exits with."""

from __future__ import annotations

import errno
import io
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import click
import pytest

import tt_core
from tt_core.command.cli import cli
from tt_core.command.common import output_may_end, run, threads_option
from tt_core.engine import threads

PLUGIN = """
from tt_core import tensor
from tt_core.engine.plugins import hookimpl
from tt_core.engine.errors import TinyTorchError
from tt_core.command.journey import Milestone, Module


class Act:
    @hookimpl
    def tt_modules(self):
        return [Module(77, "testing", 6, "be sure", "foreign.testing")]

    @hookimpl
    def tt_milestones(self):
        return [
            Milestone("falling-short", 1999, "A claim not reached", 6, self.run),
            Milestone("one-op", 2000, "A claim reached", 6, lambda data_dir, out: print((tensor([1.0]) + 1).item())),
        ]

    @hookimpl
    def tt_commands(self, cli):
        cli.command("greet")(lambda: print("hello from a plugin"))

    def run(self, data_dir, out):
        raise TinyTorchError(f"falling-short: reached nothing with {data_dir}")


class Plugin:
    calls = 0

    @hookimpl
    def tt_wrap_op(self, op, call):
        def counted(*inputs, **attributes):
            self.calls += 1
            return call(*inputs, **attributes)

        return counted

    @hookimpl
    def tt_report(self):
        return f"{self.calls} calls"


act, plugin = Act(), Plugin()
"""
ENTRIES = """\
[tinytorch]
foreign = foreign:plugin
broken = foreign_broken:plugin

[tinytorch.acts]
foreign = foreign:act
broken = foreign_broken:act
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as pip leaves it behind: a distribution with a plugin that works and one that raises on import."""
    site = tmp_path_factory.mktemp("site")
    (site / "foreign.py").write_text(PLUGIN, encoding="utf-8")
    (site / "foreign_broken.py").write_text("raise RuntimeError('broken on purpose')\n", encoding="utf-8")
    info = site / "tt_foreign-3.2.1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: tt-foreign\nVersion: 3.2.1\n", encoding="utf-8")
    (info / "entry_points.txt").write_text(ENTRIES, encoding="utf-8")
    return site


def tt(
    *arguments: str, site: Path | None = None, cwd: Path | None = None, **variables: str
) -> subprocess.CompletedProcess[str]:
    path = [str(site), *filter(None, [os.environ.get("PYTHONPATH")])] if site else []
    environment = {**os.environ, "COLUMNS": "160", "PYTHONIOENCODING": "utf-8", **variables}
    environment |= {"PYTHONPATH": os.pathsep.join(path)} if path else {}
    return subprocess.run(
        [sys.executable, "-c", "import sys; from tt_core.command.cli import main; sys.exit(main())", *arguments],
        capture_output=True, text=True, encoding="utf-8", env=environment, cwd=cwd, timeout=60, check=False,
    )  # fmt: skip


def test_help_lists_the_commands() -> None:
    done = tt("--help")
    assert done.returncode == 0
    assert all(name in done.stdout for name in ("journey", "milestone", "plugins"))


def test_journey_lists_this_acts_modules_and_milestone() -> None:
    done = tt("journey")
    assert done.returncode == 0
    for name in ("tensor", "activations", "layers", "losses", "perceptron"):
        assert name in done.stdout
    assert done.stdout.index("tensor") < done.stdout.index("losses")
    assert "read it in" not in done.stdout
    assert "read it in: tt_core.losses" in tt("journey", "--act", "1").stdout
    assert "01 Can I manipulate tensors?" in tt("journey", "--checkpoints").stdout
    assert [row["number"] for row in json.loads(tt("journey", "--json").stdout)["modules"]][:4] == [1, 2, 3, 4]


def test_doctor_finds_this_computer_able() -> None:
    done = tt("doctor")
    assert (done.returncode, done.stderr) == (0, "")
    assert "NumPy" in done.stdout


def test_plugins_names_distribution_version_hooks_and_state(installed: Path) -> None:
    done = tt("plugins", site=installed)
    assert done.returncode == 0
    row = next(line for line in done.stdout.splitlines() if line.split()[:1] == ["foreign"])
    assert row.split() == ["foreign", "tt-foreign", "3.2.1", "tt_report", "tt_wrap_op", "available"]


def test_plugins_shows_those_of_the_variable_as_active(installed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TT_PLUGINS", "foreign,nobody")
    done = tt("plugins", site=installed)
    row = next(line for line in done.stdout.splitlines() if line.split()[:1] == ["foreign"])
    assert row.split()[-1] == "active"
    assert "warning: TT_PLUGINS: no plugin is called nobody" in done.stderr


def test_a_plugin_that_does_not_load_is_named_and_hides_no_other(installed: Path) -> None:
    done = tt("plugins", site=installed)
    assert done.returncode == 0
    assert "broken does not load: RuntimeError: broken on purpose" in " ".join(done.stdout.split())
    assert "Traceback" not in done.stdout + done.stderr


def test_an_act_that_does_not_load_is_named_and_hides_no_other(installed: Path) -> None:
    done = tt("journey", "--json", site=installed)
    assert done.returncode == 0
    warned = [line for line in done.stderr.splitlines() if line.startswith("warning: plugin broken")]
    assert len(warned) == 1
    assert "RuntimeError: broken on purpose" in warned[0]
    assert "foreign.testing" in done.stdout
    assert "tensor" in done.stdout


def test_an_act_brings_commands(installed: Path) -> None:
    done = tt("greet", site=installed)
    assert (done.returncode, done.stdout.strip()) == (0, "hello from a plugin")


def test_a_milestone_says_at_once_what_it_does_and_how_long_it_takes(tmp_path: Path) -> None:
    lines = tt("milestone", "perceptron", cwd=tmp_path).stdout.splitlines()
    assert lines[0].startswith("1957: ")
    assert lines[1] == "  separates 100 points by a line, then judges 1,000 new ones: one second"


def test_a_data_folder_that_does_not_exist_is_an_error_where_it_was_typed(tmp_path: Path) -> None:
    done = tt("milestone", "perceptron", "--data-dir", "nowhere", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (1, "error: --data-dir nowhere: no such folder\n")
    assert not done.stdout
    assert tt("milestone", "perceptron", cwd=tmp_path, TT_DATA_HOME="nowhere").returncode == 0  # a download makes it


def test_an_unknown_milestone_comes_with_the_near_ones(tmp_path: Path) -> None:
    done = tt("milestone", "perceptrn", cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == "error: no milestone is called perceptrn; did you mean perceptron?"
    assert list(tmp_path.iterdir()) == []


def test_what_a_user_can_act_on_is_one_line(installed: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    done = tt("milestone", "falling-short", "--data-dir", "mine", site=installed, cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == "error: falling-short: reached nothing with mine"
    assert "Traceback" not in done.stderr


def test_a_milestone_ends_with_what_plugins_measured(
    installed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TT_PLUGINS", "foreign")
    done = tt("milestone", "one-op", site=installed, cwd=tmp_path)
    assert done.stdout.splitlines() == ["2000: A claim reached", "2.0"]
    assert done.stderr.splitlines()[-1] == "1 calls"


def test_a_milestone_takes_plugins(installed: Path, tmp_path: Path) -> None:
    done = tt("milestone", "one-op", "--plugin", "foreign", site=installed, cwd=tmp_path)
    assert (done.returncode, done.stderr.splitlines()[-1]) == (0, "1 calls")
    done = tt("milestone", "one-op", "--plugin", "foreing", site=installed, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.splitlines()[-1] == "error: no plugin is called foreing; did you mean foreign?"


@pytest.mark.parametrize("arguments", [("--data-dir", "nowhere"), ("--data-dir", "file"), ("--out", "file/pictures")])
def test_a_milestone_refuses_folders_that_are_none_before_it_starts(arguments: tuple[str, str], tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    done = tt("milestone", "perceptron", *arguments, cwd=tmp_path)
    assert done.returncode in (1, 2)
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert arguments[1].partition("/")[0] in done.stderr


def test_a_command_that_does_not_exist_is_wrong_usage() -> None:
    done = tt("jurney")
    assert done.returncode == 2
    assert "jurney" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_command_exits_with_the_number_of_its_signal(number: signal.Signals) -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt(number)

    assert run(click.Command("wait", callback=interrupted), "wait", []) == 128 + number


@pytest.mark.parametrize("message", ["first\nsecond\x1b[31m", "x" * 5000])
def test_an_error_is_one_line_whatever_was_given(message: str, capsys: pytest.CaptureFixture[str]) -> None:
    def failing() -> None:
        raise tt_core.TinyTorchError(message)

    assert run(click.Command("fail", callback=failing), "fail", []) == 1
    line = capsys.readouterr().err
    assert line.endswith("\n")
    assert line[:-1].isprintable()
    assert len(line) < 700


@pytest.mark.parametrize("code", [errno.EPIPE, errno.ENOSPC, errno.EIO])
def test_an_output_that_fails_does_not_end_the_work(
    code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Failing(io.StringIO):
        def write(self, text: str) -> int:
            raise OSError(code, os.strerror(code))

    monkeypatch.setattr(sys, "stdout", failing := Failing())
    done = []
    with output_may_end():
        for step in range(3):
            print("step", step)
            done.append(step)
    assert done == [0, 1, 2]
    assert sys.stdout is failing
    warned = capsys.readouterr().err
    assert warned == f"warning: the output cannot be written ({os.strerror(code)}); the work continues without it\n"


@pytest.mark.skipif(not Path("/dev/full").is_char_device(), reason="this system has no disk that is always full")
@pytest.mark.parametrize("lines", [1, 10_000])  # fewer and more than wait in memory to be written
def test_output_that_does_not_fit_on_the_disk_is_one_line(lines: int) -> None:
    program = f"""
import sys, click
from tt_core.command.common import run
sys.exit(run(click.Command("much", callback=lambda: click.echo("line\\n" * {lines})), "much", []))
"""
    with open("/dev/full", "w", encoding="utf-8") as full:
        done = subprocess.run(
            [sys.executable, "-c", program], stdout=full, stderr=subprocess.PIPE, text=True, encoding="utf-8"
        )
    assert done.stderr == "error: the output does not fit on the disk; free some space, or write elsewhere\n"
    assert done.returncode == 1


def test_a_pipe_is_wider_than_a_small_terminal(tmp_path: Path) -> None:
    program = "import sys; from rich.table import Table; from tt_core.command.cli import _show; t = Table(box=None); "
    program += "t.add_column('x'); t.add_row('word ' * 22); _show(t)"
    environment = {name: value for name, value in os.environ.items() if name != "COLUMNS"}
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, encoding="utf-8", env=environment
    )
    assert ("word " * 22).strip() in done.stdout
    narrow = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, encoding="utf-8",
        env=environment | {"COLUMNS": "30"},
    )  # fmt: skip
    assert max(map(len, narrow.stdout.splitlines())) <= 30


def test_what_the_outputs_encoding_lacks_is_replaced() -> None:
    program = "import click; from tt_core.command.common import run; "
    program += "run(click.Command('say', callback=lambda: click.echo('\\u65e5 \\udcff')), 'say', [])"
    for encoding, said in (("latin-1", "? ?"), ("utf-8", "\u65e5 ?")):
        environment = {**os.environ, "PYTHONIOENCODING": f"{encoding}:strict"}
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, env=environment)
        assert (done.stdout.decode(encoding).strip(), done.stderr) == (said, b"")


@pytest.mark.skipif(os.name == "nt", reason="no shell that closes the output")
def test_an_output_that_was_closed_from_the_start_is_no_error() -> None:
    for arguments, code in ((["journey"], 0), (["milestone", "nobody"], 1)):
        program = f"import sys; from tt_core.command.cli import main; sys.exit(main({arguments}))"
        shell = ["sh", "-c", f'"{sys.executable}" -c "{program}" >&-']
        done = subprocess.run(shell, stderr=subprocess.PIPE, text=True, encoding="utf-8")
        assert "Traceback" not in done.stderr
        assert done.returncode == code


@pytest.mark.skipif(os.name == "nt", reason="pipes close otherwise there")
def test_a_reader_that_has_gone_is_no_error_to_speak_of() -> None:
    program = "import sys; from tt_core.command.cli import main; sys.exit(main(['journey']))"
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait() == 1


# --- threads


def test_the_option_threads_sets_their_number(monkeypatch, capsys):
    monkeypatch.setattr(threads._chosen, "number", 2)

    @click.command()
    @threads_option
    def job():
        click.echo(tt_core.get_num_threads())

    assert [run(job, "job", given) for given in ([], ["--threads", "3"], ["--threads", "0"])] == [0, 0, 2]
    told = capsys.readouterr()
    assert told.out == "2\n3\n"
    assert "error: Invalid value for '--threads'" in told.err


def test_commands_that_compute_take_threads():
    for command in cli.commands.values():
        options = {option for parameter in command.params for option in parameter.opts}
        assert ("--plugin" in options) <= ("--threads" in options), command.name
