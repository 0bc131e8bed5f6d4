"""The milestone of 2017: its tasks are what they claim, and falling short is an error."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest

from tt_core.command.journey import Shortfall
from tt_core.engine.errors import FileError
from tt_language import record_attention
from tt_language.command import milestones, toy_translation
from tt_language.command.cli import plugin
from tt_language.command.toy_translation import COUNT, Vocabulary, draw, padded, sentence


def test_translation_needs_agreement_and_word_order() -> None:
    english = {" ".join(sentence(n)[0]): " ".join(sentence(n)[1]) for n in range(0, COUNT, 11)}
    assert len(english) == len(range(0, COUNT, 11))  # no sentence twice
    for source, target in english.items():
        words, found = source.split(), target.split()
        assert len(words) == len(found)
        if "green house" in source:
            assert "maison verte" in target
        if source.startswith("a green cat"):
            assert target.startswith("un chat vert")


def test_the_test_part_is_never_learnt_from() -> None:
    learned = {pair[0] for pair in draw(3000, np.random.default_rng(0))}
    kept = {pair[0] for pair in draw(3000, np.random.default_rng(0), test=True)}
    assert not learned & kept
    assert len(learned) > 2500


def test_words_go_to_ids_and_back() -> None:
    french = Vocabulary.of(1)
    ids = [toy_translation.START, *french.encode(["le", "chat"]), toy_translation.END, 5]
    assert french.decode(ids) == "le chat"
    assert padded([[1], [2, 3]]).tolist() == [[1, 0], [2, 3]]


def test_sequences_are_learnt_and_drawn(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    milestones.sequences("reversed", lambda x: x[:, ::-1], tmp_path)
    assert "without a mistake" in capsys.readouterr().out
    cells = [e for e in ET.parse(tmp_path / "reversed.svg").getroot().iter() if e.tag.endswith("rect")]
    assert len(cells) == 1 + 4 * 12 * 12


def test_falling_short_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train = milestones._train
    monkeypatch.setattr(milestones, "_train", lambda model, batch, steps, **options: train(model, batch, 3, **options))
    with pytest.raises(Shortfall, match=r"share of sequences copied right is .*99% was to be reached"):
        milestones.sequences("copied", lambda x: x, tmp_path)
    with pytest.raises(Shortfall, match="share of sentences translated right"):
        milestones.translation(tmp_path)


def test_shakespeare_from_any_text(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = tmp_path / "input.txt"
    text.write_text("to be or not to be, " * 400, encoding="utf-8")
    milestones.shakespeare(text, steps=60, needed=1.0)
    assert "to be" in capsys.readouterr().out
    with pytest.raises(Shortfall, match=r"loss is .* a character"):
        milestones.shakespeare(text, steps=1, needed=1.0)
    text.write_text("to be", encoding="utf-8")
    with pytest.raises(FileError, match="too few to learn from"):
        milestones.shakespeare(text)


def test_the_act_tells_its_rows_without_heavy_imports() -> None:
    assert [module.number for module in plugin.tt_modules()] == [10, 11, 12, 13]
    assert [(m.name, m.year) for m in plugin.tt_milestones()] == [("transformer", 2017)]


def test_recording_stops_with_its_block() -> None:
    from tt_core import ones
    from tt_core.engine.plugins import manager
    from tt_language import MultiHeadAttention

    before, layer = MultiHeadAttention._chain, MultiHeadAttention(4, 2)
    with record_attention() as maps:
        _, weights = layer(ones(1, 3, 4), need_weights=True)
        layer(ones(1, 3, 4))
    layer(ones(1, 3, 4))
    assert len(maps) == 2
    assert np.array_equal(maps[0], weights.numpy())
    assert MultiHeadAttention._chain is before
    assert not any("Recorder" in type(p).__name__ for p in manager.get_plugins())


def test_pictures_need_a_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(FileError, match="cannot create folder"):
        milestones.transformer(out=tmp_path / "file")
