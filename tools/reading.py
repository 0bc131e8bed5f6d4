"""Counts what there is to read: code lines of the twenty modules, of the wings beside them, and lengths of functions.

`python tools/reading.py` prints the table, `--write` puts it into README.md. A code line is one that holds code: no
docstring, comment, blank line or import. The lesson of a module is the files that hold its exercises. The six packages
must be installed, because the course is asked where its exercises are.
"""

from __future__ import annotations

import argparse
import ast
import importlib
import io
import statistics
import sys
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
BEGIN, END = "<!-- tools/reading.py -->", "<!-- end -->"
ACTS = {
    "tt-core": ("01 tensor", "02 activations", "03 layers", "04 losses"),
    "tt-learn": ("05 autograd", "06 optimizers", "07 training"),
    "tt-data": ("08 dataloader", "09 spatial"),
    "tt-language": ("10 tokenization", "11 embeddings", "12 attention", "13 transformers"),
    "tt-perf": (
        "14 profiling",
        "15 quantization",
        "16 compression",
        "17 memoization",
        "18 acceleration",
        "19 benchmarking",
    ),
    "tinygpt": ("20 capstone",),
}
BELOW = ("kernels", "storage", "workers")
"""Folders inside a module that hold its tricks: counted apart."""
SILENT = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}


@dataclass
class Count:
    """What was counted in some files."""

    code: int = 0
    comments: int = 0
    lines: int = 0
    longest: int = 0
    """Code lines of the longest file."""

    def add(self, other: Count) -> None:
        """Counts what was counted elsewhere as well."""
        self.code += other.code
        self.comments += other.comments
        self.lines += other.lines
        self.longest = max(self.longest, other.longest)


def unread(tree: ast.Module) -> Iterator[int]:
    """The numbers of the lines that hold docstrings and imports."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom) or (
            isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        ):
            yield from range(node.lineno, (node.end_lineno or node.lineno) + 1)


def code_lines(source: str) -> set[int]:
    """The numbers of the lines that hold code."""
    lines: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type not in SILENT:
            lines.update(range(token.start[0], token.end[0] + 1))
    return lines - set(unread(ast.parse(source)))


def comment_lines(source: str) -> int:
    """How many lines hold a comment."""
    return sum(token.type == tokenize.COMMENT for token in tokenize.generate_tokens(io.StringIO(source).readline))


def counted(files: list[Path]) -> Count:
    """Counts the given files together."""
    total = Count()
    for file in files:
        source = file.read_text(encoding="utf-8")
        code = len(code_lines(source))
        total.add(Count(code, comment_lines(source), source.count("\n"), code))
    return total


def module_files(package: Path, name: str) -> list[Path]:
    """The files of one module: its file, or those of its folder without the folders of tricks below it."""
    if (package / f"{name}.py").is_file():
        return [package / f"{name}.py"]
    files = sorted((package / name).rglob("*.py"))
    return [file for file in files if not set(file.relative_to(package / name).parts[:-1]) & set(BELOW)]


def source_folder(act: str) -> Path:
    """The folder that holds a package's sources."""
    return ROOT / "packages" / act / "src" / act.replace("-", "_")


def lesson_files(package: Path, name: str) -> list[Path]:
    """The files of one module that hold its exercises: what a learner reads first, and writes."""
    exercises = importlib.import_module(f"{package.name}.exercises.{name}").EXERCISES
    dotted = sorted({exercise.file.replace(".", "/") for exercise in exercises})
    return [package.parent / f"{name}.py" for name in dotted]


def all_lessons() -> Count:
    """Counts the lessons of all twenty modules together."""
    total = Count()
    for act, names in ACTS.items():
        for name in names:
            total.add(counted(lesson_files(source_folder(act), name.split()[1])))
    return total


def body_lengths(files: list[Path]) -> list[int]:
    """Code lines in the body of each function, without its signature and docstring."""
    lengths = []
    for file in files:
        source = file.read_text(encoding="utf-8")
        code = code_lines(source)
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                first, last = node.body[0].lineno, node.end_lineno or node.lineno
                lengths.append(len(code & set(range(first, last + 1))))
    return lengths


def table() -> str:
    """The table as Markdown."""
    rows = ["| act | module | the lesson | the whole module | longest file |", "|---|---|---|---|---|"]
    modules, lessons, everything = Count(), all_lessons(), []
    for act, names in ACTS.items():
        package = source_folder(act)
        everything += sorted(package.rglob("*.py"))
        for name in names:
            count = counted(module_files(package, name.split()[1]))
            lesson = counted(lesson_files(package, name.split()[1]))
            modules.add(count)
            rows.append(f"| {act} | {name} | {lesson.code:,} | {count.code:,} | {count.longest:,} |")
    whole = counted(everything)
    lengths = body_lengths(everything)
    tenth = statistics.quantiles(lengths, n=10)[-1]
    rows += [
        f"| | all twenty modules | {lessons.code:,} | {modules.code:,} | {modules.longest:,} |",
        f"| | everything, with kernels, engine and commands | | {whole.code:,} | {whole.longest:,} |",
        "",
        f"A function's body has {statistics.median(lengths):.0f} code lines in the median, nine in ten at most "
        f"{tenth:.0f}. Comments are {lessons.comments / lessons.lines:.1%} of the lessons' lines and "
        f"{whole.comments / whole.lines:.1%} of all lines.",
    ]
    return "\n".join(rows)


def with_table(text: str) -> str:
    """README's text with the table as it is now between its two marks."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{table()}\n{END}{after}"


def main() -> int:
    """Prints the table, or writes it into README.md."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--write", action="store_true", help="put the table into README.md")
    if parser.parse_args().write:
        README.write_text(with_table(README.read_text(encoding="utf-8")), encoding="utf-8")
    else:
        print(table())
    return 0


if __name__ == "__main__":
    sys.exit(main())
