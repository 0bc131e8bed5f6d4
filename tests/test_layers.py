"""The layers contracts catch what they are there for: imports of a later act or module, however written."""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ACTS = ("tt_core", "tt_learn", "tt_data", "tt_language", "tt_perf", "tinygpt")


@pytest.fixture
def sources(tmp_path: Path) -> Path:
    """A folder with a copy of the six packages, to plant imports in."""
    for package in (ROOT / "packages").glob("*/src/*"):
        shutil.copytree(package, tmp_path / package.name, ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


def lint_imports(sources: Path) -> subprocess.CompletedProcess[str]:
    command = Path(sys.executable).parent / "lint-imports"
    return subprocess.run(
        [command, "--config", ROOT / "pyproject.toml", "--no-cache"],
        cwd=sources,
        env={**os.environ, "PYTHONPATH": str(sources), "PYTHONIOENCODING": "utf-8"},
        capture_output=True,
        encoding="utf-8",
    )


def test_the_packages_as_they_are_keep_both_contracts(sources: Path) -> None:
    result = lint_imports(sources)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "2 kept, 0 broken" in result.stdout


@pytest.mark.parametrize(
    "statement",
    [
        "import {later}",
        "from {later} import anything",
        "def late():\n    import {later}",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import {later}",
    ],
    ids=["import", "from", "inside a function", "for types only"],
)
def test_a_forward_import_breaks_the_contract(sources: Path, statement: str) -> None:
    (sources / "tt_learn" / "planted.py").write_text(statement.format(later="tt_data"), encoding="utf-8")
    result = lint_imports(sources)
    assert result.returncode == 1, result.stdout + result.stderr
    assert "tt_learn.planted -> tt_data" in result.stdout


@pytest.mark.parametrize("number", range(len(ACTS) - 1))
def test_each_act_is_held_back_from_the_next(sources: Path, number: int) -> None:
    act, later = ACTS[number : number + 2]
    (sources / act / "planted.py").write_text(f"import {later}\n", encoding="utf-8")
    result = lint_imports(sources)
    assert result.returncode == 1, result.stdout + result.stderr
    assert f"{act}.planted -> {later}" in result.stdout


def test_a_module_is_held_back_from_the_next_one_of_its_act(sources: Path) -> None:
    tensor = sources / "tt_core" / "tensor" / "tensor.py"
    tensor.write_text(tensor.read_text(encoding="utf-8") + "\nimport tt_core.layers\n", encoding="utf-8")
    result = lint_imports(sources)
    assert result.returncode == 1, result.stdout + result.stderr
    assert "tt_core.tensor.tensor -> tt_core.layers" in result.stdout


def test_an_import_of_an_earlier_act_is_fine(sources: Path) -> None:
    (sources / "tinygpt" / "planted.py").write_text("import tt_core\n", encoding="utf-8")
    assert lint_imports(sources).returncode == 0


# --- what others need of a module: a learner who replaces it must define these names


def dotted(sources: Path) -> dict[str, Path]:
    """The files of the six packages by the dotted names of their modules."""
    names = {path: path.relative_to(sources).with_suffix("").parts for path in sources.rglob("*.py")}
    return {".".join(parts[:-1] if parts[-1] == "__init__" else parts): path for path, parts in names.items()}


def modules_of_the_journey() -> list[str]:
    """The dotted names of the journey's modules, as the contract in pyproject.toml lists them."""
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    return re.findall(r'^  "\(?(tt_\w+\.\w+)\)?",$', text, re.MULTILINE)


MODULES = modules_of_the_journey()


def module_of(name: str) -> str | None:
    """The journey's module that a dotted name belongs to."""
    return next((module for module in MODULES if name == module or name.startswith(f"{module}.")), None)


class Names(ast.NodeVisitor):
    """What a file defines, what it imports from where, and which attributes of imported modules it uses."""

    def __init__(self, files: dict[str, Path], path: Path) -> None:
        self.files = files
        self.defined: set[str] = set()
        self.imported: dict[str, tuple[str, str]] = {}
        self.uses: set[tuple[str, str]] = set()
        self.visit(ast.parse(path.read_text(encoding="utf-8")))

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        for alias in node.names:
            self.imported[alias.asname or alias.name] = (node.module or "", alias.name)
            self.uses.add((node.module or "", alias.name))

    def visit_Import(self, node: ast.Import) -> None:
        self.imported.update({alias.asname: (alias.name, "") for alias in node.names if alias.asname})

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        self.defined.add(node.name)
        self.generic_visit(node)

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        self.defined.add(node.name)
        self.generic_visit(node)

    def visit_Name(self, node: ast.Name) -> None:
        if isinstance(node.ctx, ast.Store):
            self.defined.add(node.id)

    def visit_Attribute(self, node: ast.Attribute) -> None:
        if isinstance(node.value, ast.Name) and node.value.id in self.imported:
            package, name = self.imported[node.value.id]
            whole = f"{package}.{name}".rstrip(".")
            if whole in self.files:  # an imported module, and no function of the same name
                self.uses.add((whole, node.attr))
        self.generic_visit(node)


def needs(sources: Path) -> tuple[dict[str, Names], set[tuple[str, str]]]:
    """The names in each file, and the pairs (file, name) that files outside of a module take from it.

    Exercises are left out: their checks look into the files of their own module, and replace nothing.
    """
    files = {name: path for name, path in dotted(sources).items() if ".exercises" not in name}
    found = {name: Names(files, path) for name, path in files.items()}
    return found, {
        (owner, name)
        for user, names in found.items()
        for owner, name in names.uses
        if module_of(owner) not in (None, module_of(user)) and f"{owner}.{name}" not in MODULES
        if ".exercises." not in user  # they check what a learner wrote, in whichever file it is
    }


def owner_of(found: dict[str, Names], module: str, name: str) -> str | None:
    """The file that defines what `module` calls `name`."""
    if module not in found:
        return None
    if name in found[module].defined:
        return module
    if found[module].imported.get(name, (module, name)) != (module, name):  # a package may import its own file
        return owner_of(found, *found[module].imported[name])
    return f"{module}.{name}" if f"{module}.{name}" in found else None


PENDING = {"tt_data.spatial.layers", "tt_data.dataloader.seeding"}
"""Files whose outside names are still to be moved to where they belong."""


def test_what_others_need_of_a_module_is_public_and_its_own(sources: Path) -> None:
    found, needed = needs(sources)
    assert len(needed) > 300
    private = [
        f"{user} imports {owner}.{name}"
        for user, names in found.items()
        for owner, name in names.uses
        if re.match("_[^_]", name)
        and owner in found
        and (module_of(owner) is None or module_of(owner) != module_of(user))
    ]
    assert private == [], "a learner's file would have to define these private names"
    foreign = [
        f"{owner}.{name}"
        for owner, name in sorted(needed)
        if module_of(owner_of(found, owner, name) or "") != module_of(owner) and owner not in PENDING
    ]
    assert foreign == [], "import these from where they are defined"


NINE = {"gelu", "leaky_relu", "log_softmax", "relu", "sigmoid", "silu", "softmax", "softplus", "tanh"}
STEP = """
import tt_core as tt, tt_learn, tt_data, tt_language, tt_perf, tinygpt
model = tt.nn.Sequential(tt.Linear(3, 4), tt.nn.GELU(), tt.Linear(4, 2), tt.nn.Softplus())
tt.cross_entropy(model(tt.ones(2, 3)), tt.tensor([0, 1])).backward()
print("gradient", model[0].weight.grad.shape, tt.relu.kernel.__module__)
"""


def run(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    variables = {**os.environ, "PYTHONIOENCODING": "utf-8", **environment}
    return subprocess.run([sys.executable, "-c", code], env=variables, capture_output=True, encoding="utf-8")


def needed_names(sources: Path, module: str) -> set[str]:
    """The names that others take from a module, all of them from the module itself and not from a file in it."""
    _, needed = needs(sources)
    assert {owner for owner, _ in needed if module_of(owner) == module} == {module}
    return {name for owner, name in needed if owner == module}


def test_a_learners_activations_need_nine_names(sources: Path, tmp_path: Path) -> None:
    assert needed_names(sources, "tt_core.activations") == NINE
    mine = tmp_path / "activations.py"
    mine.write_text(
        """
import math
import numpy as np
from tt_core.engine.dispatch import op

@op
def relu(x, /): return np.maximum(x, 0)
@op
def leaky_relu(x, /, negative_slope=0.01): return np.where(x > 0, x, negative_slope * x)
@op
def softplus(x, /, beta=1.0, threshold=20.0): return np.log1p(np.exp(beta * x)) / beta
@op
def sigmoid(x, /): return 1 / (1 + np.exp(-x))
@op
def tanh(x, /): return np.tanh(x)
@op
def silu(x, /): return x / (1 + np.exp(-x))
@op
def gelu(x, /, approximate="none"): return x / (1 + np.exp(-1.702 * x))
@op
def softmax(x, /, dim=-1): return np.exp(x) / np.exp(x).sum(dim, keepdims=True)
@op
def log_softmax(x, /, dim=-1): return x - np.log(np.exp(x).sum(dim, keepdims=True))
""",
        encoding="utf-8",
    )
    files = json.dumps({"tt_core.activations": str(mine)})
    done = run(STEP, TT_WORKSPACE=str(tmp_path), TT_WORKSPACE_FILES=files)
    assert (done.returncode, done.stderr) == (0, "")  # no notice that a name is missing
    assert done.stdout == "gradient (4, 3) tt_core.activations\n"


@pytest.mark.parametrize("module", ["tt_core.layers", "tt_core.losses"])
def test_a_folder_can_be_replaced_by_a_file_with_the_names_that_others_need(sources: Path, module: str) -> None:
    names = needed_names(sources, module)
    assert 15 <= len(names) <= 30
    package, name = module.split(".")
    folder, moved = sources / package / name, sources / package / f"own_{name}"
    folder.rename(moved)
    for path in moved.glob("*.py"):
        text = path.read_text(encoding="utf-8").replace(f"{module}.", f"{package}.own_{name}.")
        path.write_text(text, encoding="utf-8")
    mine = f"from {package}.own_{name} import {', '.join(sorted(names))}\n"
    folder.with_suffix(".py").write_text(mine, encoding="utf-8")
    done = run(STEP, PYTHONPATH=str(sources))
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("gradient (4, 3)")
