"""What the site's pages are filled with when they are built: measured numbers, pictures, and code as it stands.

MkDocs calls the functions `on_...` (see `hooks` in mkdocs.yml). A page writes

    {{ number NAME }}          a number of docs/measured/*.py, which must lie between its two bounds
    {{ picture NAME }}         a picture that a function of these files draws, as SVG
    {{ code tt_core.activations softmax }}    the text of a function, without its docstring
    {{ table modules }}        a table of this file
    {{ api tt_core }}          the docstrings of a package's modules

No output is committed. The build fails when a number leaves its bounds, or when a name is gone.
"""

from __future__ import annotations

import ast
import functools
import importlib.util
import os
import re
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.utils import get_relative_url

os.environ.setdefault("TT_NUM_THREADS", "1")  # times then depend less on what else runs

ROOT = Path(__file__).parents[1]
PLACEHOLDER = re.compile(r"\{\{ (\w+) ([^}]+?) \}\}")
SOURCE_LINK = re.compile(r"\[(`[^`]+`)\]\(\.\./packages/[^)]+\)")
"""A link to a file of the repository, which the site does not hold."""
pictures: dict[str, str] = {}
"""The pictures of this build by their names, as SVG."""


@functools.cache
def measured() -> dict[str, Any]:
    """The functions of docs/measured by their names: those that measure, and those that draw."""
    sys.path.insert(0, str(ROOT / "docs"))
    found: dict[str, Any] = {}
    for path in sorted((ROOT / "docs" / "measured").glob("[!_]*.py")):
        module = importlib.import_module(f"measured.{path.stem}")
        found |= {name: value for name, value in vars(module).items() if callable(value) and hasattr(value, "kind")}
    return found


def called(name: str, kind: str) -> Callable[[], Any]:
    """The function of a name and kind; an error of the build for another."""
    function = measured().get(name)
    if function is None or function.kind != kind:
        raise PluginError(f"docs/measured has no {kind} called {name}")
    return function  # type: ignore[no-any-return]


@functools.cache
def number(name: str) -> str:
    """A measured number as text; an error of the build where it lies outside of its bounds."""
    function: Any = called(name, "number")
    value = function()
    if not function.low <= value <= function.high:
        bounds = f"{function.low:g} to {function.high:g}"
        raise PluginError(f"{name} is {value:g}, expected {bounds}: change the page or the code")
    return format(value, function.format)


def picture(name: str) -> str:
    """The Markdown of a picture, which is added to the site."""
    function: Any = called(name, "picture")
    pictures[name] = function()
    return f"![{function.__doc__.strip().splitlines()[0]}](/pictures/{name}.svg)"


def code(words: str) -> str:
    """The text of a function or class as a block of code, without its docstring; folded where it is an exercise."""
    module, name = words.split()
    spec = importlib.util.find_spec(module)
    source = Path(spec.origin).read_text(encoding="utf-8") if spec and spec.origin else ""
    node: Any = ast.parse(source)
    for part in name.split("."):
        node = next((child for child in node.body if getattr(child, "name", "") == part), None)
        if node is None:
            raise PluginError(f"{module} has no {name}")
    lines = source.splitlines()
    first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)]) - 1
    kept = lines[first : node.end_lineno]
    if ast.get_docstring(node) is not None:
        string = node.body[0]
        kept = lines[first : string.lineno - 1] + lines[string.end_lineno : node.end_lineno]
    block = f"```python\n{textwrap.dedent(chr(10).join(kept))}\n```\n"
    if (module, name) not in written_by_learners():
        return block
    return f'??? example "{name}: an exercise; write yours before you open this"\n\n{textwrap.indent(block, "    ")}'


@functools.cache
def written_by_learners() -> set[tuple[str, str]]:
    """Each exercise as the dotted name of its file and its own name."""
    from tt_core.course.commands import installed
    from tt_core.course.exercises import exercises_of

    return {(exercise.file, exercise.name) for module in installed() for exercise in exercises_of(module)}


def table(name: str) -> str:
    """A table made from the journey's rows: `acts`, `modules`, `milestones`, or `exercises NN`."""
    from tt_core.command.journey import ACTS
    from tt_core.course.commands import installed, module_called
    from tt_core.course.exercises import exercises_of

    if name == "acts":
        rows = [f"| {act.name} | `{act.package}` | {act.hours} | {act.shift} |" for act in ACTS]
        return "\n".join(["| act | package | hours | what changes |", "|---|---|---|---|", *rows])
    if name == "modules":
        rows = [f"| {m.number:02} | {m.name} | {m.builds} | {m.why} | {m.insight} |" for m in installed()]
        return "\n".join(["| | module | what you build | why now | what it leaves |", "|---|---|---|---|---|", *rows])
    if name.startswith("exercises "):
        exercises = exercises_of(module_called(name.split()[1]))
        rows = [f"| `{x.name}` | {x.points} | {' '.join((x.checks[0].__doc__ or '').split())} |" for x in exercises]
        return "\n".join(["| exercise | points | the first check |", "|---|---|---|", *rows])
    raise PluginError(f"there is no table {name}")


def api(package: str) -> str:
    """The pages of a package: its modules of the journey, each with all its files."""
    from tt_core.course.commands import installed

    modules = [module for module in installed() if module.path.startswith(f"{package}.")]
    blocks = [
        f"## {m.number:02} {m.name}\n\n::: {m.path}\n    options:\n      show_submodules: true\n" for m in modules
    ]
    return "\n".join(blocks)


KINDS: dict[str, Callable[[str], str]] = {
    "number": number,
    "picture": picture,
    "code": code,
    "table": table,
    "api": api,
}


def on_config(config: MkDocsConfig) -> None:
    """Plug in the acts, so that the tables know every installed module."""
    from tt_core.command.cli import load_acts

    load_acts()


def on_page_markdown(markdown: str, page: Any, config: MkDocsConfig, files: Files) -> str:
    """Fill a page's placeholders, and add its pictures to the site."""

    def filled(match: re.Match[str]) -> str:
        if match[1] not in KINDS:
            raise PluginError(f"{page.file.src_uri}: {match[0]} is none of {', '.join(KINDS)}")
        text = KINDS[match[1]](match[2])
        if match[1] == "picture":
            uri = f"pictures/{match[2]}.svg"
            if files.get_file_from_path(uri) is None:
                files.append(File.generated(config, uri, content=pictures[match[2]]))
            depth = page.file.src_uri.count("/")
            text = text.replace("(/pictures", "(" + "../" * depth + "pictures")
        return text

    return SOURCE_LINK.sub(r"\1", PLACEHOLDER.sub(filled, markdown))


SHIM = "https://unpkg.com/iframe-worker/shim"
"""What the theme loads from the network, so that the search works on pages that are opened from disk."""
FETCHED = re.compile(r"<(?:script|img|link rel=.stylesheet.)[^>]* (?:src|href)=.https?:[^ >]*")


def on_post_page(output: str, page: Any, config: MkDocsConfig) -> str:
    """Let the search of a page use the site's own script in place of `SHIM`; a page loads nothing from the network."""
    output = output.replace(SHIM, get_relative_url("javascripts/worker.js", page.url))
    if found := FETCHED.search(output):
        raise PluginError(f"{page.file.src_uri}: {found[0]} is loaded from the network")
    return output


def on_post_template(output_content: str, template_name: str, config: MkDocsConfig) -> str:
    """The same for pages that are made from templates alone, such as 404.html."""
    return output_content.replace(SHIM, "/javascripts/worker.js")
