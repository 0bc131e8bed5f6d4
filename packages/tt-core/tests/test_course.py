"""The course: blanks, the finder, the judge and the workspace's commands."""

from __future__ import annotations

import csv
import errno
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from tt_core.command.cli import cli, load_acts
from tt_core.command.journey import Module
from tt_core.course import finder, wire
from tt_core.course.blanks import blank, definitions
from tt_core.course.commands import module_called
from tt_core.course.compare import difference
from tt_core.course.exercises import exercises_of
from tt_core.course.folder import Workspace, reference_text
from tt_core.course.judge import Verdict, judge
from tt_core.course.process import environment
from tt_core.engine import files
from tt_core.engine.errors import TinyTorchError

ACTIVATIONS = Module(2, "activations", 1, "add nonlinearity", "tt_core.activations")


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace.create(tmp_path / "journey")


def written(workspace: Workspace, **bodies: str) -> None:
    """Write module 02 with these bodies, and the framework's own text where none is given."""
    workspace.start(ACTIVATIONS)
    text = blank(reference_text("tt_core.activations"), bodies)
    for name, body in bodies.items():
        text = text.replace(f'raise NotImplementedError("{name}")  # your code here', body)
    workspace.paths(ACTIVATIONS)[0].write_text(text, encoding="utf-8")


def verdicts(workspace: Workspace, *names: str, limit: float = 10) -> dict[str, Verdict]:
    return {verdict.name: verdict for verdict in judge(ACTIVATIONS, workspace.files(ACTIVATIONS), names or None, limit)}


def run(*arguments: str) -> Result:
    load_acts()
    return CliRunner().invoke(cli, arguments)


# --- blanks


def test_bodies_go_and_everything_else_stays() -> None:
    source = '''import math  # kept


@decorated
def area(r: float) -> float:
    """pi r squared."""
    # the answer
    return math.pi * r * r  # the answer


class Circle:
    def area(self) -> float:
        return area(self.r)

    def _squared(self) -> float:
        return 1.0
'''
    left = blank(source, ["area", "Circle.area"], ["Circle._squared"])
    assert "answer" not in left
    assert "_squared" not in left
    assert (
        '@decorated\ndef area(r: float) -> float:\n    """pi r squared."""\n    raise NotImplementedError("area")'
        in left
    )
    assert [name for name, _ in definitions(compile_tree(left))] == ["area", "Circle", "Circle.area"]


def compile_tree(source: str) -> Any:
    import ast

    return ast.parse(source)


def test_a_name_that_is_gone_is_an_error() -> None:
    with pytest.raises(KeyError, match="gone"):
        blank("def here(): ...", ["gone"])


def test_every_exercise_of_every_module_is_in_its_file() -> None:
    for exercise in exercises_of(ACTIVATIONS):
        names = dict(definitions(compile_tree(reference_text(exercise.file))))
        assert {exercise.name, *exercise.helpers} <= names.keys()
        assert len(exercise.hints) == 3
        assert exercise.points > 0
        assert all(check.__doc__ for check in exercise.checks)


# --- the judge


def test_the_frameworks_own_text_passes(workspace: Workspace) -> None:
    written(workspace)
    assert {name: verdict.lines for name, verdict in verdicts(workspace).items() if not verdict.passed} == {}


@pytest.mark.parametrize("body", ['raise NotImplementedError("x")', "return None", "pass", "..."])
def test_what_is_not_written_fails_by_name(workspace: Workspace, body: str) -> None:
    names = [exercise.name for exercise in exercises_of(ACTIVATIONS)]
    written(workspace, **dict.fromkeys(names, body))
    found = verdicts(workspace)
    assert list(found) == names
    assert not any(verdict.passed for verdict in found.values())


WRONG = {
    "relu": ["return np.where(x < 0, x, 0)", "return np.abs(x)", "x[x < 0] = 0; return x", "return x * (x > 0)"],
    "leaky_relu": ["return np.maximum(x, negative_slope * x)", "return np.where(x > 0, x, 0.01 * x)"],
    "sigmoid": ["return np.exp(x) / (1 + np.exp(x))", "return 1 / (1 + np.exp(x))", "return np.tanh(x)"],
    "tanh": ["return (np.exp(x) - np.exp(-x)) / (np.exp(x) + np.exp(-x))", "return 1 / (1 + np.exp(-2 * x))"],
    "gelu": ["return x * (1 + erf.kernel(x)) / 2", "return x / (1 + np.exp(-1.702 * x))"],
    "softmax": [
        "e = np.exp(x); return e / e.sum(dim, keepdims=True)",
        "e = np.exp(x - x.max()); return e / e.sum(dim, keepdims=True)",
        "e = np.exp(x - x.max(dim, keepdims=True)); return e / e.sum()",
        "e = np.exp(x - x.max(-1, keepdims=True)); return e / e.sum(-1, keepdims=True)",
    ],
    "log_softmax": [
        "return np.log(np.exp(x) / np.exp(x).sum(dim, keepdims=True))",
        "return x - np.log(np.exp(x).sum(dim, keepdims=True))",
    ],
}


def test_plausible_wrong_solutions_are_caught(workspace: Workspace) -> None:
    for round_ in range(max(map(len, WRONG.values()))):
        bodies = {name: wrong[round_] for name, wrong in WRONG.items() if round_ < len(wrong)}
        written(workspace, **bodies)
        for name, verdict in verdicts(workspace, *bodies).items():
            assert not verdict.passed, f"{name}: {bodies[name]}"
            assert verdict.lines


def test_a_failure_is_told_in_terms_of_the_exercise(workspace: Workspace) -> None:
    written(workspace, softmax="e = np.exp(x); return e / e.sum(dim, keepdims=True)")
    lines = verdicts(workspace, "softmax")["softmax"].lines
    assert lines == [
        "Large numbers do not overflow.",
        "called    softmax([1000., 1000.])",
        "expected  [0.5, 0.5] (float32, shape (2,))",
        "got       [nan, nan] (float32, shape (2,))",
        "look at   exp(1000) is infinite; subtract the row's largest number first",
    ]


def test_a_function_that_is_needed_and_not_written_is_named(workspace: Workspace) -> None:
    written(
        workspace, softmax='raise NotImplementedError("softmax")', log_softmax="return np.log(softmax.formula(x, dim))"
    )
    found = verdicts(workspace, "log_softmax")["log_softmax"]
    assert found.lines == ["The logarithm of softmax.", "it needs softmax, which is not written yet"]
    assert not found.unwritten


def test_a_program_that_reaches_an_unwritten_function_says_so_in_one_line(workspace: Workspace) -> None:
    written(workspace, relu='raise NotImplementedError("relu")')
    lines = output_of(workspace, "import tt_core as tt; tt.relu(tt.ones(1))").strip().splitlines()
    assert len(lines) == 1
    assert "relu is not written yet" in lines[0]
    assert lines[0].endswith("or use the framework's: tt use reference 02")


def test_single_exercises_can_be_checked(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    written(workspace, tanh="return x")
    monkeypatch.chdir(workspace.root)
    monkeypatch.delenv(finder.WORKSPACE, raising=False)
    done = run("check", "02", "relu", "softmax")
    assert (done.exit_code, done.output.count("pass")) == (0, 2)
    assert "I can" not in done.output  # the module is not passed
    assert run("check", "02", "tanh", "relu").exit_code == 1
    assert "no exercise is called nothing" in str(run("check", "02", "nothing").exception)


ATTACKS = {
    "ends the process": "import os; os._exit(0)",
    "prints what a grader might look for": "print('PASSED'); return x",
    "equals everything": "return type('Equal', (), {'__eq__': lambda s, o: True, 'data': x, 'shape': x.shape})()",
    "patches numpy": "np.testing.assert_allclose = np.isclose = np.array_equal = lambda *a, **k: True; return x",
    "never ends": "while True: pass",
    "takes all memory": "return np.ones((1 << 34,))",
    "forges messages": "import os; [os.write(fd, bytes(40)) for fd in range(3, 9) if fd_is_open(fd)]; return x",
    "raises what nobody catches": "raise SystemExit(0)",
    "reads the solution": "import tt_core.losses as L, os; open(PATH).read(); return np.maximum(x, 0)",
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_forged_results_earn_nothing_and_hang_nothing(workspace: Workspace, attack: str) -> None:
    body = ATTACKS[attack].replace("PATH", repr(str(Path(reference_path()))))
    body = body.replace("if fd_is_open(fd)", "if os.path.exists(f'/proc/self/fd/{fd}')")
    written(workspace, relu=body)
    found = verdicts(workspace, "relu", "tanh", limit=2)
    assert not found["relu"].passed
    assert found["relu"].lines
    assert found["tanh"].passed  # what comes after still counts


def reference_path() -> str:
    import tt_core.activations

    return str(tt_core.activations.__file__)


def test_a_file_that_lacks_a_function_earns_nothing_for_it(workspace: Workspace) -> None:
    workspace.start(ACTIVATIONS)
    mine = workspace.root / "mine.py"
    head = "import numpy as np\nfrom tt_core.engine.dispatch import op\n\n\n"
    text = f"{head}@op\ndef relu(x, /):\n    return np.maximum(x, 0)\n"
    mine.write_text(text, encoding="utf-8")
    workspace.adopt(ACTIVATIONS, mine)
    workspace.save()
    found = verdicts(workspace)
    assert [name for name, verdict in found.items() if verdict.passed] == ["relu"]


def test_values_are_compared_with_their_kind_shape_and_dtype() -> None:
    x = np.zeros((2, 3), np.float32)
    assert difference(x, x.copy(), 1e-5, 1e-6) is None
    assert difference(x, x.T, 1e-5, 1e-6) == "in shape"
    assert difference(x, x.astype(np.float64), 1e-5, 1e-6) == "in dtype"
    assert difference(x, 0.0, 1e-5, 1e-6) == "in kind: an array or a tensor is expected"
    assert difference(np.asarray(0.5), 0.5, 1e-5, 1e-6) is None  # np.float64 is a float, as NumPy gives it
    assert difference(np.asarray(0.5), 0.6, 1e-5, 1e-6) == ""
    assert difference(np.float32(0.5), 0.5, 1e-5, 1e-6) == "in kind: an array or a tensor is expected"
    assert difference(x, x + 1, 1e-5, 1e-6) == ""
    assert difference(True, 1, 0, 0) == ""
    assert difference(1.0, float("nan"), 0, 0) == ""
    assert difference([x, 1], [x], 0, 0) == "in the number of results"


# --- a class


def submission(root: Path, name: str, change: Callable[[str], str]) -> Path:
    """A learner's folder whose file of module 02 is the framework's text, changed."""
    path = root / name / "02_activations" / "activations.py"
    path.parent.mkdir(parents=True)
    path.write_text(change(reference_text("tt_core.activations")), encoding="utf-8")
    return path


def with_relu(body: str) -> Callable[[str], str]:
    return lambda text: text.replace("return np.maximum(x, 0)", body)


THREADS = "import threading, time\n    while True: threading.Thread(target=time.sleep, args=(9,)).start()"
OUTSIDE = "import os, pathlib; pathlib.Path(OUT).write_text('x'); return np.maximum(x, 0)"
CLASS: dict[str, tuple[Callable[[str], str], int]] = {
    "good": (str, 25),
    "wrong": (with_relu("return x"), 23),
    "loops": (with_relu("while True: pass"), 23),
    "forks": (with_relu("import os\n    while True: os.fork()"), 23),
    "starts-threads": (with_relu(THREADS), 23),
    "takes-memory": (with_relu("return [bytes(1 << 30) for _ in range(99)]"), 23),
    "prints-forever": (with_relu("while True: print('x' * 10**6)"), 23),
    "writes-outside": (with_relu(OUTSIDE), 23),
    "writes-by-os": (with_relu("import os; os.open(OUT, os.O_CREAT | os.O_WRONLY); return np.maximum(x, 0)"), 23),
    "removes": (with_relu("import shutil; shutil.rmtree(ROOT); return np.maximum(x, 0)"), 23),
    "starts-a-program": (with_relu("import subprocess; subprocess.run(['touch', OUT]); return np.maximum(x, 0)"), 23),
    "exits": (with_relu("import os; os._exit(0)"), 23),
    "writes-when-imported": (lambda text: text + "\nopen(OUT, 'w').write('x')\n", 0),
    "loops-when-imported": (lambda text: text + "\nwhile True: pass\n", 0),
    "exits-when-imported": (lambda text: text + "\nraise SystemExit(0)\n", 0),
    "syntax": (lambda text: text + "\nx = (\n", 0),
    "empty": (lambda text: "", 0),
    "lacks-relu": (lambda text: text.replace("def relu(", "def relus("), 23),
    "no-utf-8": (lambda text: text + "\n# \udcff\n", 0),
}


def grade_class(tmp_path: Path, names: Sequence[str], limit: str) -> dict[str, int]:
    """Grade a class in which each of `names` is handed in; the totals by folder."""
    outside = tmp_path / "outside.txt"
    root = tmp_path / "class"
    for number, name in enumerate(names):
        change = CLASS[name][0]
        path = submission(root, f"{name}-{number}", lambda text: "")
        text = change(reference_text("tt_core.activations")).replace("OUT", repr(str(outside)))
        path.write_bytes(text.replace("ROOT", repr(str(root))).encode("utf-8", "surrogateescape"))
    out = tmp_path / "results.csv"
    result = run("grade", str(root), "--out", str(out), "--modules", "02", "--limit", limit)
    assert result.exit_code == 0, result.output
    assert not outside.exists()
    assert len(list(root.iterdir())) == len(names)
    assert "<h1>Grades</h1>" in out.with_suffix(".html").read_text(encoding="utf-8")
    rows = list(csv.DictReader(out.read_text(encoding="utf-8").splitlines()))
    for row in rows:
        details = json.loads((out.with_suffix("") / f"{row['name']}.json").read_text(encoding="utf-8"))
        assert details["score"] == int(row["total"]) == sum(test["score"] for test in details["tests"])
    return {row["name"].rpartition("-")[0]: int(row["total"]) for row in rows}


def test_a_class_is_graded_whatever_is_handed_in(tmp_path: Path) -> None:
    quick = [name for name in CLASS if name != "loops-when-imported"]  # which takes the time limit of a start
    assert grade_class(tmp_path, quick, "1.5") == {name: CLASS[name][1] for name in quick}


@pytest.mark.fuzz
def test_a_class_of_a_hundred_is_graded(tmp_path: Path) -> None:
    names = [*CLASS, *(name for name in CLASS for _ in range(5) if name != "loops-when-imported")][:100]
    assert grade_class(tmp_path, names, "2") == {name: CLASS[name][1] for name in set(names)}


def test_a_link_out_of_the_folder_is_not_followed(tmp_path: Path) -> None:
    submission(tmp_path / "class", "honest", str)
    linked = tmp_path / "class" / "linked" / "02_activations"
    linked.mkdir(parents=True)
    try:
        (linked / "activations.py").symlink_to(reference_path())
    except OSError:
        pytest.skip("no links on this system")
    out = tmp_path / "r.csv"
    assert run("grade", str(tmp_path / "class"), "--out", str(out), "--modules", "2").exit_code == 0
    rows = {row["name"]: row for row in csv.DictReader(out.read_text(encoding="utf-8").splitlines())}
    assert (rows["honest"]["total"], rows["linked"]["total"]) == ("25", "0")
    assert "leads out of the workspace" in rows["linked"]["flags"]


def test_grades_name_what_a_teacher_should_look_at(tmp_path: Path) -> None:
    root = tmp_path / "class"
    submission(root / "unpacked", "my-journey", str)
    (root / "unpacked" / "my-journey" / "journey.toml").write_text("", encoding="utf-8")
    submission(root, "broken", lambda text: text + "\nx = (\n")
    submission(root, "latin", str).write_bytes("# \u00fc".encode("latin-1"))
    (root / "empty").mkdir()
    out = tmp_path / "r.csv"
    assert run("grade", str(root), "--out", str(out), "--modules", "2").exit_code == 0
    lines = out.read_text(encoding="utf-8").splitlines()
    rows = {row["name"]: (row["total"], row["flags"]) for row in csv.DictReader(lines)}
    assert rows["unpacked"] == ("25", "graded the workspace in the folder my-journey/")
    assert rows["empty"] == ("0", "has no file of these modules")
    assert rows["latin"] == ("0", "activations.py is not UTF-8")
    assert rows["broken"][0] == "0"
    assert re.match(r"activations\.py, line \d+: '\(' was never closed$", rows["broken"][1])


# --- messages


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x04\x00\x00\x00null",
        b"\xff\xff\xff\xff{}",
        b"\x02\x00\x00\x00{}x",
        json.dumps({"dict": {"a": {"array": "object", "shape": [1]}}}).encode(),
        (40).to_bytes(4, "little") + b'{"dict":{"a":{"array":"int8","shape":[9]' + b"}}}",
        (41).to_bytes(4, "little") + b'{"dict":{"a":{"array":"int8","shape":[-1]}',
    ],
)
def test_bytes_that_are_no_message_are_refused(data: bytes) -> None:
    with pytest.raises(wire.BadMessage):
        wire.receive(data)


# --- a learner's files in the framework's place


def output_of(workspace: Workspace, program: str, tuned: bool = False) -> str:
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=environment(workspace.root, tuned=tuned),
        capture_output=True,
        encoding="utf-8",
    )
    return done.stdout + done.stderr


def test_everything_downstream_runs_on_the_learners_file(workspace: Workspace) -> None:
    written(workspace, relu="return np.maximum(x, 0) * 7")
    program = "import tt_core as tt; print(tt.ReLU()(tt.tensor([1.0, -1.0])).tolist())"
    assert output_of(workspace, program).strip() == "[7.0, 0.0]"
    workspace.state(ACTIVATIONS)["use"] = "reference"
    workspace.save()
    assert output_of(workspace, program).strip() == "[1.0, 0.0]"


def test_an_error_names_the_file_that_has_it(workspace: Workspace) -> None:
    load_acts()
    tensor = module_called("01")
    workspace.start(tensor)
    workspace.files(tensor)["tt_core.tensor.indexing"].write_text("x = (\n", encoding="utf-8")  # shapes.py imports it
    told = output_of(workspace, "import tt_core")
    assert told.startswith("error: ")
    assert told.count(".py") == 1
    assert "indexing.py: line 1: '(' was never closed" in told


def test_tuned_kernels_step_aside(workspace: Workspace) -> None:
    written(workspace, gelu="return x * 3")
    program = "import tt_core as tt; print(tt.gelu(tt.tensor([1.0])).tolist(), tt.silu.kernel is tt.silu.formula)"
    assert output_of(workspace, program).strip() == "[3.0] True"
    assert output_of(workspace, program, tuned=True).strip() != "[3.0] True"


def test_a_milestone_on_tuned_kernels_is_not_the_learners(workspace: Workspace) -> None:
    written(workspace)
    environ = {name: value for name, value in os.environ.items() if name != finder.WORKSPACE}

    def reach(*options: str) -> str:
        command = [sys.executable, "-m", "tt_core.command.cli", "milestone", "perceptron", *options]
        done = subprocess.run(command, env=environ, cwd=workspace.root, capture_output=True, encoding="utf-8")
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert "not noted as run on your code" in reach("--tuned")
    assert "milestones" not in Workspace(workspace.root).progress
    assert "not noted" not in reach()
    assert Workspace(workspace.root).progress["milestones"] == {"perceptron": ["tt_core.activations"]}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("x = (\n", "line 1: '(' was never closed"),
        ("x = 1 / 0\n", "line 1: ZeroDivisionError: division by zero"),
        ("import nothing_of_this_name\n", "line 1: ModuleNotFoundError: No module named 'nothing_of_this_name'"),
    ],
)
def test_a_file_that_does_not_import_is_one_line(workspace: Workspace, text: str, told: str) -> None:
    written(workspace)
    workspace.paths(ACTIVATIONS)[0].write_text(text, encoding="utf-8")
    lines = output_of(workspace, "import tt_core").strip().splitlines()
    assert len(lines) == 1
    assert lines[0].endswith(told)
    assert not any(verdict.passed for verdict in verdicts(workspace).values())


def test_one_line_is_enough_for_a_script(workspace: Workspace) -> None:
    written(workspace, relu="return np.maximum(x, 0) * 7")
    program = "import tt_core.workspace; import tt_core as tt; print(tt.relu(tt.tensor([1.0])).tolist())"
    hidden = {name: value for name, value in os.environ.items() if name not in (finder.WORKSPACE, "TT_PLUGINS")}
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=workspace.root, env=hidden, capture_output=True, encoding="utf-8"
    )
    assert (done.stdout.strip(), done.stderr) == ("[7.0]", "")


# --- the workspace


def test_progress_survives_a_damaged_file(workspace: Workspace) -> None:
    written(workspace)
    workspace.note(ACTIVATIONS, {"relu": True})
    workspace.note(ACTIVATIONS, {"tanh": True})
    path = workspace.root / finder.PROGRESS
    path.write_text(path.read_text(encoding="utf-8")[:40], encoding="utf-8")
    assert Workspace.find(workspace.root).passed(ACTIVATIONS) == ["relu"]  # the copy from before the last step


def test_a_workspace_of_a_newer_version_is_refused(workspace: Workspace) -> None:
    workspace.progress["format"] = 99
    workspace.save()
    with pytest.raises(TinyTorchError, match="newer version of tt-core"):
        Workspace.find(workspace.root)


def test_a_walk_from_init_to_a_passed_exercise(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(finder.WORKSPACE, raising=False)
    assert "no workspace" in str(run("check", "02").exception)
    assert run("init", "journey").exit_code == 0
    monkeypatch.chdir(tmp_path / "journey")
    assert "not in the workspace yet: tt start 02" in str(run("check", "02").exception)
    assert "relu" in run("start", "activations").output
    failed = run("check", "02")
    assert failed.exit_code == 1
    assert "not written yet" in failed.output
    assert run("hint", "relu").output.startswith("relu 1/3")
    assert run("hint", "02.relu").output.startswith("relu 2/3")
    assert run("next").output == f"write relu in {Path('02_activations', 'activations.py')}, then: tt check 02\n"
    assert "np.maximum(x, 0)" in run("solution", "relu", "--yes").output
    path = tmp_path / "journey" / "02_activations" / "activations.py"
    text = path.read_text(encoding="utf-8")
    mark = 'raise NotImplementedError("relu")  # your code here'
    path.write_text(text.replace(mark, "return np.maximum(x, 0)"), encoding="utf-8")
    found = {row["name"]: row["passed"] for row in json.loads(run("check", "2", "--json").output)}
    assert found["relu"] is True
    assert found["softmax"] is False
    state = Workspace.find().state(ACTIVATIONS)
    assert (state["solutions"], state["passed"]["relu"], state["hints"]) == (["relu"], True, {"relu": 2})
    assert run("reset", "02", "--yes").exit_code == 0
    assert [p.suffix for p in (path.parent / "backup").iterdir()] == [".py"]
    assert mark in path.read_text(encoding="utf-8")


def test_a_course_is_exported_as_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "course"
    assert run("export-course", str(out), "--modules", "02").exit_code == 0
    handout = (out / "handouts" / "02_activations" / "activations.py").read_text(encoding="utf-8")
    assert 'raise NotImplementedError("softmax")' in handout
    copy = (out / "instructor" / "02_activations" / "activations.py").read_text(encoding="utf-8")
    assert copy == reference_text("tt_core.activations")
    page = (out / "instructor" / "02_activations" / "README.md").read_text(encoding="utf-8")
    assert "## softmax (6 points)" in page
    assert "return e / e.sum(dim, keepdims=True)" in page
    assert (out / "checks" / "02_activations.py").is_file()
    monkeypatch.chdir(out / "handouts")
    monkeypatch.delenv(finder.WORKSPACE, raising=False)
    assert "not written yet" in run("check", "02").output
    assert "is not empty" in str(run("export-course", str(out)).exception)


def test_a_certificate_tells_what_passed(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(workspace.root)
    monkeypatch.delenv(finder.WORKSPACE, raising=False)
    written(workspace)
    assert run("check", "02").exit_code == 0
    assert run("certificate", "--name", "A <b> C").exit_code == 0
    picture = (workspace.root / "certificate.svg").read_text(encoding="utf-8")
    assert "A &lt;b&gt; C" in picture
    assert "7 of 7 exercises" in picture


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("import tt_learn", "imports tt_learn in line 1, which belongs to Act II"),
        ("from tt_core.layers import Linear", "belongs to module 03 layers"),
        ("from tt_core.kernels.activations import relu", "kernels hold the framework's solutions"),
        ("x = (", "line 1: '(' was never closed"),
    ],
)
def test_what_a_file_must_not_import_is_named(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, line: str, told: str
) -> None:
    monkeypatch.chdir(workspace.root)
    monkeypatch.delenv(finder.WORKSPACE, raising=False)
    workspace.start(ACTIVATIONS)
    workspace.paths(ACTIVATIONS)[0].write_text(f"{line}\n", encoding="utf-8")
    assert told in str(run("check", "02").exception)


def test_a_workspace_of_an_older_version_goes_on(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(workspace.root)
    monkeypatch.delenv(finder.WORKSPACE, raising=False)
    written(workspace)
    old = {"modules": {"02": {"passed": {"relu": True, "gone": True}, "use": "mine"}}}  # no format, hints or files
    (workspace.root / "progress.json").write_text(json.dumps(old), encoding="utf-8")
    assert run("hint", "softmax").output.startswith("softmax 1/3")
    assert run("check", "02").exit_code == 0
    assert "gone" not in Workspace(workspace.root).passed(ACTIVATIONS)
    (workspace.root / "progress.json").write_text('{"format": 9, "modules": {}}', encoding="utf-8")
    assert "made by a newer version" in str(run("next").exception)


def test_a_workspace_may_be_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(finder.WORKSPACE, raising=False)
    (tmp_path / "other.txt").write_text("", encoding="utf-8")
    assert "not empty" in str(run("init").exception)
    (tmp_path / "other.txt").unlink()
    assert "begin with: tt start 01" in run("init").output
    assert run("start", "01").exit_code == 0
    failed = run("check").output
    assert f"in       {Path('01_tensor', 'elementwise.py')}, line " in failed
    assert "a hint: tt hint add" in failed
    assert run("hint").output.startswith("add 1/3")


def test_what_comes_next_for_someone_who_begins_in_the_middle(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(workspace.root)
    monkeypatch.delenv(finder.WORKSPACE, raising=False)
    assert run("next").output == "begin module 01 tensor: tt start 01\n"
    modules = [module_called(str(number)) for number in range(1, 5)]

    def passes(module: Module) -> None:
        now = Workspace(workspace.root)
        now.start(module)
        now.note(module, {exercise.name: True for exercise in exercises_of(module)})

    passes(modules[2])
    assert run("next").output == "begin module 04 losses: tt start 04\n"
    Workspace(workspace.root).start(modules[0])
    assert "write add in 01_tensor" in run("next").output
    for module in (modules[0], modules[3]):
        passes(module)
    assert run("next").output == "begin module 02 activations: tt start 02\n"
    passes(modules[1])
    assert run("next").output == "act 1 is done; run its milestone on your code: tt milestone perceptron\n"


WRITING = (
    "init new", "start 03", "check 02 relu", "hint relu", "solution relu --yes", "reset 02 --yes", "use reference 02",
    "watch 02", "certificate", "export-course out --modules 02",
)  # fmt: skip


@pytest.mark.parametrize("line", WRITING)
def test_a_folder_that_cannot_be_written_to_is_told_in_a_sentence(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, line: str
) -> None:
    if line.startswith("watch"):
        pytest.importorskip("watchfiles")
    written(workspace)
    monkeypatch.chdir(workspace.root)
    monkeypatch.delenv(finder.WORKSPACE, raising=False)

    def refuse(path: Any, *_: Any, **__: Any) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    opened = os.open

    def readable(path: Any, flags: int, *rest: Any, **options: Any) -> int:
        if flags & os.O_CREAT and workspace.root in Path(str(path)).parents:
            refuse(path)
        return opened(path, flags, *rest, **options)

    monkeypatch.setattr(files, "_write_synced", refuse)
    monkeypatch.setattr(Path, "mkdir", refuse)
    monkeypatch.setattr(os, "open", readable)
    error = run(*line.split()).exception
    assert isinstance(error, TinyTorchError)
    assert "Permission denied" in str(error)
    assert "\n" not in str(error)
