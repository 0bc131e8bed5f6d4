"""`tinygpt story` writes one page whose numbers are those of the run and of its forms."""

from __future__ import annotations

import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import pytest

from tinygpt.cli import main
from tinygpt.runs import RunFolder

VOID = {"meta", "br", "link", "img", "hr"}


class Balanced(HTMLParser):
    """Collects tags that are closed in another order than they were opened."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.wrong: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """A tag without content."""

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.wrong.append(tag)


def test_one_page_tells_a_run(trained: Path, tmp_path: Path) -> None:
    page = tmp_path / "story.html"
    assert main(["story", str(trained), "--out", str(page)]) == 0
    text = page.read_text(encoding="utf-8")
    parser = Balanced()
    parser.feed(text)
    assert (parser.open, parser.wrong) == ([], [])
    assert "<script" not in text
    assert not re.findall(r"(?:src|href)=.https?:", text)  # nothing is fetched
    for sample in RunFolder(trained).read_samples():
        assert f"<td>{sample['step']:,}</td>" in text
    forms = re.findall(r"<tr(?: class=front)?><td>([^<]+)</td><td>[^<]+</td><td>([\d.]+)</td><td>([\d.]+)</td>", text)
    assert forms[0][0] == "as trained"
    shares = {name.split(",")[0]: float(share) for name, share, _ in forms}
    assert shares["as trained"] == 1
    assert shares["int4"] < shares["int8"] < 0.6
    assert shares["half of the neurons removed"] < 1
    bits = [float(found) for _, _, found in forms]
    assert bits[0] == bits[1]  # plugins change the time alone
    assert all(0 < found < 8 for found in bits)


def test_a_run_and_options_of_a_training_exclude_each_other(trained: Path, refused: Callable[..., str]) -> None:
    assert "a run is trained already" in refused("story", trained, "--preset", "tiny")


def test_a_new_model_is_trained_first(corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    options = ["--preset", "tiny", "--n-embd", "32", "--block-size", "16", "--steps", "10", "--tokenizer", "char"]
    assert main(["story", *options, "--corpus", str(corpus)]) == 0
    assert (tmp_path / "story.html").exists()
    assert RunFolder.open(None, with_model=True).model.exists()
