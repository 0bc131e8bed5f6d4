"""The sessions of this repository: `nox --list` names them, `nox` alone tests all six acts.

An act is tested as a user has it: the wheels of acts 1..N, and nothing else of this repository, are installed in an
environment of their own. Environments are kept between runs; `nox --reuse-venv=no` creates them again.

A session that passes prints little, and a table of results comes at the end; one that fails prints all its output.
"""

from __future__ import annotations

import atexit
import functools
import hashlib
import json
import os
import re
import sys
import time
from pathlib import Path

import nox

nox.needs_version = ">=2024.10.9"
nox.options.reuse_venv = "yes"
nox.options.default_venv_backend = "uv|virtualenv"
nox.options.error_on_external_run = True

ROOT = Path(__file__).parent.resolve()
CONFIG = ROOT / "pyproject.toml"
SWEEPS = ROOT / "tests" / "sweeps"
ACTS = ("tt-core", "tt-learn", "tt-data", "tt-language", "tt-perf", "tinygpt")
nox.options.sessions = [*(f"act{number}" for number in range(1, len(ACTS) + 1)), "sweeps"]

TORCH = "torch==2.13.0"
TORCH_CPU = f"pip install {TORCH} --index-url https://download.pytorch.org/whl/cpu"


def tools(group: str) -> tuple[str, ...]:
    """The requirements of one dependency group of the root pyproject.toml."""
    return nox.project.dependency_groups(nox.project.load_toml(CONFIG), group)


def package(act: str) -> Path:
    return ROOT / "packages" / act


@functools.cache  # one answer a run, so that editing during a run cannot mix two states
def tree_hash(act: str) -> str:
    """A name for the state of everything that goes into the act's wheel."""
    digest = hashlib.sha256()
    sources = (path for path in package(act).rglob("*") if path.is_file())
    for path in sorted(sources):
        inside = path.relative_to(package(act))
        if "__pycache__" not in inside.parts and inside.parts[0] not in ("tests", "dist"):
            digest.update(f"{inside.as_posix()}\0{path.stat().st_size}\0".encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def wheel_folder(act: str) -> Path:
    return ROOT / ".nox" / ".wheels" / f"{act}-{tree_hash(act)}"


@nox.session
def wheels(session: nox.Session) -> None:
    """Build the wheels of the six acts, each once per state of its sources; the other sessions ask for it."""
    missing = [act for act in ACTS if not any(wheel_folder(act).glob("*.whl"))]
    if not missing:
        return session.log("all six wheels are up to date")
    session.install(*tools("wheels"), log=False)
    for act in missing:
        os.chdir(package(act))  # unlike session.chdir, this prints nothing
        quietly(session, "hatchling", "build", "-t", "wheel", "-d", str(wheel_folder(act)))


def quietly(session: nox.Session, *command: str) -> str:
    """Run a command and return its output, which is printed only when the command fails."""
    return str(session.run(*command, silent=True, log=False))


def install(session: nox.Session, number: int, *requirements: str, optional: tuple[str, ...] = ()) -> None:
    """Install the wheels of acts 1..number and `requirements`, unless just these were installed before.

    `optional` requirements are left out where they cannot be installed.
    """
    built = [str(next(wheel_folder(act).glob("*.whl"))) for act in ACTS[:number]]
    stamp = Path(session.virtualenv.location) / "installed.json"
    wanted = json.dumps([*built, *requirements, *optional])
    if stamp.exists() and stamp.read_text(encoding="utf-8") == wanted:
        return
    stamp.unlink(missing_ok=True)
    session.install("--force-reinstall", "--no-deps", *built, log=False)  # pip keeps an equal version otherwise
    session.install(*built, *requirements, log=False)
    for requirement in optional:  # each by itself: one that cannot be installed must not keep the others out
        session.install(requirement, log=False, silent=True, success_codes=[0, 1, 2])
    stamp.write_text(wanted, encoding="utf-8")


def pytest(session: nox.Session, *arguments: str) -> None:
    """Run pytest from an empty folder, so that only what is installed can be imported.

    With arguments after `--`, its output is shown as it comes; otherwise only when a test fails.
    """
    os.chdir(session.create_tmp())
    command = ("pytest", "-c", str(CONFIG), *arguments, *session.posargs)
    if session.posargs:
        session.run(*command)
    else:
        note_result(session.name, quietly(session, *command))


results: dict[str, tuple[str, float]] = {}
"""What pytest counted in each session that passed, such as "120 passed, 1 skipped", and its seconds."""


def note_result(name: str, output: str) -> None:
    """Keep the counts of pytest's last line for the table that is printed when nox ends."""
    found = re.search(r"(\d+ \w+(?:, \d+ \w+)*) in ([\d.]+)s", output.rstrip().rpartition("\n")[2])
    if not found:
        return
    if not results:
        atexit.register(print_results)
    earlier, seconds = results.get(name, ("", 0.0))
    results[name] = (f"{earlier} + {found[1]}" if earlier else found[1], seconds + float(found[2]))


def print_results() -> None:
    packages = {f"act{number}": act for number, act in enumerate(ACTS, start=1)}
    print()
    for name, (counts, seconds) in results.items():
        print(f"{name:<8}{packages.get(name, ''):<13}{counts:<44}{seconds:>6.0f} s")


def extras(act: str, *names: str) -> tuple[str, ...]:
    """What a package can use but does not need, such as Numba: all extras, or those of these names."""
    table = nox.project.load_toml(package(act) / "pyproject.toml")["project"].get("optional-dependencies", {})
    return tuple(requirement for name in names or table for requirement in table[name])


def add_act(number: int, act: str) -> None:
    def run(session: nox.Session) -> None:
        install(session, number, *tools("test"), optional=extras(act))
        quietly(session, "python", "-I", str(ROOT / "tools" / "isolation.py"), str(number))
        examples = ("--doctest-modules", "--doctest-ignore-import-errors")  # of extras that cannot be installed here
        pytest(session, str(package(act) / "tests"), *examples, "--pyargs", act.replace("-", "_"))

    run.__doc__ = f"Test {act} and its docstrings' examples with nothing but acts 1..{number} installed."
    nox.session(run, name=f"act{number}", requires=["wheels"])


for _number, _act in enumerate(ACTS, start=1):
    add_act(_number, _act)


def all_tests(session: nox.Session, marker: str) -> None:
    install(session, len(ACTS), *tools("test"))
    pytest(session, "-m", marker, *(str(package(act) / "tests") for act in ACTS), str(SWEEPS))


@nox.session(requires=["wheels"])
def sweeps(session: nox.Session) -> None:
    """Run the tests that sweep over everything public in all six packages."""
    install(session, len(ACTS), *tools("test"))
    pytest(session, str(SWEEPS))


@nox.session(requires=["wheels"])
def fuzz(session: nox.Session) -> None:
    """Run the long random tests of all six packages."""
    all_tests(session, "fuzz")


@nox.session(requires=["wheels"])
def crash(session: nox.Session) -> None:
    """Run the tests of all six packages that kill processes and look at what is left on disk."""
    all_tests(session, "crash")


@nox.session(requires=["wheels"])
def serve(session: nox.Session) -> None:
    """Ask `tinygpt serve` thousands of things, with OpenAI's client, schemathesis and a browser where they are."""
    install(session, len(ACTS), *tools("test"), *extras("tinygpt", "serve"), optional=tools("serve"))
    server = package("tinygpt") / "tests" / "server"
    pytest(session, "-m", "serve or not serve", str(server))


@nox.session(requires=["wheels"])
def knockouts(session: nox.Session) -> None:
    """Spoil every exercise of the course by a rule, and see that its check and the milestones notice it."""
    install(session, len(ACTS), *tools("test"), *tools("parallel"))
    pytest(session, "-n", "auto", "-m", "knockouts", *(str(package(act) / "tests") for act in ACTS))


@nox.session(requires=["wheels"])
def jit(session: nox.Session) -> None:
    """Run the tests of Acts I to IV with the plugin jit; skipped where Numba cannot be installed.

    The plugin's own tests are part of act5.
    """
    install(session, 5, *tools("test"), optional=extras("tt-perf"))
    search = "from importlib.util import find_spec; print(find_spec('numba') is not None)"
    if quietly(session, "python", "-c", search).strip() != "True":
        session.skip("Numba cannot be installed here")
    session.env["TT_PLUGINS"] = "jit"
    pytest(session, *(str(package(act) / "tests") for act in ACTS[:4]))


@nox.session(requires=["wheels"])
def mpi(session: nox.Session) -> None:
    """Train on several processes, and kill one 51 times; MPI comes as a wheel (not on Windows)."""
    install(session, len(ACTS), *tools("test"), optional=("mpi4py", "mpich"))
    library = Path(session.virtualenv.location) / "lib"
    session.env["LD_LIBRARY_PATH"] = str(library)
    pytest(session, "-m", "crash or not crash", str(package("tinygpt") / "tests" / "test_distributed.py"))


@nox.session(requires=["wheels"])
def layers(session: nox.Session) -> None:
    """Check that no act imports a later one, and that packages, pins, licences and changelogs agree."""
    install(session, len(ACTS), *tools("house"))
    session.run("python", str(ROOT / "tools" / "layers.py"))
    pytest(session, *(str(path) for path in sorted((ROOT / "tests").glob("test_*.py"))))


@nox.session
def lint(session: nox.Session) -> None:
    """Run ruff: rules and format."""
    session.install(*tools("lint"))
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")


@nox.session(requires=["wheels"])
def types(session: nox.Session) -> None:
    """Run mypy over the sources of all six packages, then over a user's files, against the installed packages."""
    install(session, len(ACTS), *tools("types"), *extras("tinygpt", "serve"))
    session.run("mypy", *session.posargs)
    pytest(session, str(ROOT / "tests" / "typing"))


@nox.session(requires=["wheels"])
def tinygpt(session: nox.Session) -> None:
    """The main job: train a TinyGPT and let it write. Arguments after `--` go to `tinygpt train`."""
    install(session, len(ACTS))
    started = time.strftime("run-%Y%m%d-%H%M%S")  # so that an earlier run is never overwritten
    run = Path(session.create_tmp()).resolve() / started
    session.run("tinygpt", "train", "--out", str(run), *session.posargs)
    session.run("tinygpt", "generate", str(run), "--prompt", "This method", "--temperature", "0.8", "--min-p", "0.15")
    session.log(f"the run is in {run}")


@nox.session(requires=["wheels"])
def docs(session: nox.Session) -> None:
    """Build the site into site/: lessons, with their numbers measured now, and the pages of the API."""
    install(session, len(ACTS), *tools("docs"))
    session.env["NO_MKDOCS_2_WARNING"] = "1"
    os.chdir(ROOT)
    quietly(session, "mkdocs", "build", "--quiet")
    session.log(f"open {ROOT / 'site' / 'index.html'}")


def outside_plugins(arguments: list[str]) -> tuple[dict[str, str], list[str]]:
    """The plugins that `--plugin NAME` or `--plugin NAME=REQUIREMENT` ask for, and the other arguments."""
    found: dict[str, str] = {}
    others = list(arguments)
    while "--plugin" in others:
        at = others.index("--plugin")
        name, _, requirement = "".join(others[at + 1 : at + 2]).partition("=")
        found[name] = str(Path(requirement).resolve()) if requirement and Path(requirement).exists() else requirement
        del others[at : at + 2]
    return found, others


@nox.session(requires=["wheels"])
def bench(session: nox.Session) -> None:
    """Run asv: each benchmark once on the working tree, or what stands after `--` (run HEAD^!, publish).

    `--plugin NAME=FOLDER` installs a plugin from outside and gives it a curve beside the others.
    """
    session.install(*tools("bench"))
    outside, arguments = outside_plugins(session.posargs)
    requirements = [requirement for requirement in outside.values() if requirement]
    session.env["TT_BENCH_PLUGINS"] = ",".join(outside)
    session.env["TT_BENCH_INSTALL"] = os.pathsep.join(requirements)  # benchmarks/asv_wheels.py installs them
    if not (Path.home() / ".asv-machine.json").exists():
        session.run("asv", "machine", "--yes")
    if arguments and arguments[0] in ("run", "continuous", "publish", "preview", "compare", "show", "profile", "find"):
        return session.run("asv", *arguments)
    install(session, len(ACTS), *tools("bench"), optional=extras("tt-perf"))
    if requirements:
        session.install(*requirements)
    python = session.run("python", "-c", "import sys; print(sys.executable)", silent=True).strip()
    session.run("asv", "run", "--quick", "--show-stderr", "-E", f"existing:{python}", *arguments)


@nox.session(requires=["wheels"])
def speedups(session: nox.Session) -> None:
    """Print and draw the speed-ups that asv saved, for the last 20 commits or as many as stand after `--`."""
    install(session, 2)
    session.run("python", str(ROOT / "benchmarks" / "speedups.py"), *session.posargs)


@nox.session
def build(session: nox.Session) -> None:
    """Build sdist and wheel of all packages, or of those named after `--`, into dist/; each wheel from its sdist."""
    if unknown := set(session.posargs) - set(ACTS):
        session.error(f"{', '.join(sorted(unknown))} is no package; say some of {', '.join(ACTS)}")
    session.install(*tools("build"))
    for act in session.posargs or ACTS:
        session.run("python", "-m", "build", "--no-isolation", "--outdir", str(ROOT / "dist"), str(package(act)))


@nox.session(venv_backend="none")
def release(session: nox.Session) -> None:
    """Commit and tag the release of one package: `nox -s release -- tt-perf minor`."""
    session.run(sys.executable, str(ROOT / "tools" / "release.py"), *session.posargs, external=True)


@nox.session(requires=["wheels"], venv_backend="virtualenv")
def parity(session: nox.Session) -> None:
    """Compare with PyTorch, tokenizers and transformers; skipped where PyTorch would bring in CUDA."""
    resolve = ("python", "-m", "pip", "install", "--dry-run", "--quiet", "--report", "-", TORCH)
    report = session.run(*resolve, silent=True, stderr=None, success_codes=[0, 1])
    if not report.strip():
        session.skip(f"{TORCH} cannot be installed here")
    names = {item["metadata"]["name"].lower() for item in json.loads(report)["install"]}
    cuda = sorted(name for name in names if name.startswith(("nvidia", "cuda")) or name == "triton")
    if cuda:
        python = Path(session.bin) / "python"
        session.skip(f"{TORCH} brings {len(cuda)} CUDA packages here; the CPU build: {python} -m {TORCH_CPU}")
    install(session, len(ACTS), *tools("test"), *tools("parity"), TORCH)
    pytest(session, str(ROOT / "tests" / "parity"))
