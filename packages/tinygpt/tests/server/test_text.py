"""Stop strings and half characters: what is shown, joined, is the text cut at the first stop, and shown at once."""

from __future__ import annotations

import random

import pytest

from tinygpt.server.text import StopFinder, TextStream
from tt_language import ByteTokenizer


def cut(text: str, stops: list[str]) -> str:
    """The text before the stop that is complete first, the longest of those that end together."""
    places = [(text.find(stop) + len(stop), text.find(stop)) for stop in stops if stop in text]
    return text[: min(places)[1]] if places else text


def must_wait(text: str, stops: list[str]) -> int:
    """How many characters at the end may still become a stop."""
    return max((n for stop in stops for n in range(1, len(stop)) if text.endswith(stop[:n])), default=0)


def pieces(text: str, draw: random.Random) -> list[str]:
    found = []
    while text:
        size = draw.randint(1, 4)
        found.append(text[:size])
        text = text[size:]
    return found


def test_ten_thousand_texts_are_cut_at_the_first_stop() -> None:
    draw = random.Random(0)
    stopped = held = 0
    for _ in range(10_000):
        alphabet = draw.choice(["ab", "abc", "a\n#", "é€😀"])
        text = "".join(draw.choices(alphabet, k=draw.randint(0, 30)))
        stops = ["".join(draw.choices(alphabet, k=draw.randint(1, 5))) for _ in range(draw.randint(1, 4))]
        finder, shown, fed = StopFinder(stops), "", ""
        for piece in pieces(text, draw):
            shown += finder.feed(piece)
            fed += piece
            wanted = cut(fed, stops)
            if finder.found:
                break
            assert shown == wanted[: len(wanted) - must_wait(wanted, stops)]  # exactly that is held back
            held += shown != fed
        shown += "" if finder.found else finder.finish()
        assert shown == cut(text, stops)
        stopped += finder.found
    assert stopped > 2000
    assert held > 5000


@pytest.mark.parametrize("text", ["😀", "a😀b", "€€", "naïve", "\U0001f469‍\U0001f4bb"])
def test_characters_come_whole(text: str) -> None:
    stream = TextStream(ByteTokenizer())
    parts = [stream.feed(token) for token in text.encode()]
    assert [part for part in parts if part] == list(text)
    assert stream.finish() == ""


def test_invalid_bytes_are_shown() -> None:
    stream = TextStream(ByteTokenizer())
    assert "".join(stream.feed(token) for token in b"a\xff\xe2\x82b\xf0\x9f") == "a��b"
    assert stream.finish() == "�"


def test_what_is_held_back_is_shown_at_the_end() -> None:
    stream = TextStream(ByteTokenizer(), ["\n\nUser:"])
    shown = "".join(stream.feed(token) for token in b"Hi\n\nUse")
    assert (shown, stream.finish()) == ("Hi", "\n\nUse")


def test_a_stop_that_a_replaced_byte_completes() -> None:
    stream = TextStream(ByteTokenizer(), ["a�"])
    assert "".join(stream.feed(token) for token in b"xa\xf0") == "x"
    assert (stream.finish(), stream.stopped) == ("", True)
