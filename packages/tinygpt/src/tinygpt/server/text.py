"""Text that may be shown: from tokens to characters, up to the first stop string.

A token may end within a character, and a text may end with the beginning of a stop string. Exactly these parts are
held back. Shown text is never taken back: however a text is cut into tokens, the shown parts together are the text up
to the stop string that is completed first.
"""

from __future__ import annotations

from collections.abc import Sequence

from tt_language import StreamDecoder, Tokenizer


class StopFinder:
    """Finds the first of some strings in a text that arrives in parts.

    Of several stops, the one that is completed first counts; of those that end at the same character, the longest. The
    automaton of Knuth, Morris and Pratt (1977) follows each stop: its state is how much of the stop the text ends with.

    >>> finder = StopFinder(["end", "nd!"])
    >>> [finder.feed(part) for part in ("the e", "nter", " end of")]
    ['the ', 'enter', ' ']
    >>> finder.found
    True
    """

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = [(stop, _failures(stop)) for stop in stops]
        self._matched = [0] * len(self._stops)
        self._held = ""
        self.found = False

    def feed(self, text: str) -> str:
        """The text that cannot be part of a stop; "" after a stop was found."""
        if not self._stops or self.found:
            return "" if self.found else text
        self._held += text
        for at, character in enumerate(text, len(self._held) - len(text)):
            for i, (stop, failures) in enumerate(self._stops):
                self._matched[i] = _advanced(self._matched[i], character, stop, failures)
            complete = [len(stop) for (stop, _), n in zip(self._stops, self._matched) if n == len(stop)]
            if complete:
                self.found = True
                return self._release(at + 1 - max(complete), drop=True)
        return self._release(len(self._held) - max(self._matched))

    def finish(self) -> str:
        """The text that is still held back, when the text ends."""
        return self._release(len(self._held))

    def _release(self, end: int, drop: bool = False) -> str:
        shown, self._held = self._held[:end], "" if drop else self._held[end:]
        return shown


def _failures(stop: str) -> list[int]:
    """For each prefix of `stop`, the length of its longest proper prefix that is also a suffix."""
    failures = [0]
    for character in stop[1:]:
        failures.append(_advanced(failures[-1], character, stop, failures))
    return failures


def _advanced(matched: int, character: str, stop: str, failures: list[int]) -> int:
    while matched and (matched == len(stop) or stop[matched] != character):
        matched = failures[matched - 1]
    return matched + (stop[matched] == character)


class TextStream:
    """The text of one continuation, token by token.

    >>> from tt_language import ByteTokenizer
    >>> stream = TextStream(ByteTokenizer(), ["."])
    >>> [stream.feed(token) for token in "€2.".encode()]
    ['', '', '€', '2', '']
    >>> stream.stopped, stream.finish()
    (True, '')
    """

    def __init__(self, tokenizer: Tokenizer, stops: Sequence[str] = (), skip_special_tokens: bool = True) -> None:
        self._decoder = StreamDecoder(tokenizer, skip_special_tokens)
        self._finder = StopFinder(stops)
        self.last = ""
        """The text that the last token completed."""
        self.decoded = 0
        """The number of decoded characters, shown or not."""
        self.shown = 0

    @property
    def stopped(self) -> bool:
        """Whether a stop string was found."""
        return self._finder.found

    def feed(self, token: int) -> str:
        """The text that may be shown after this token."""
        return self._shown(self._decoder.feed(token))

    def finish(self) -> str:
        """The text that was held back, when the text ends without a stop; U+FFFD for an incomplete character."""
        rest = "" if self.stopped else self._shown(self._decoder.finish())
        held = self._finder.finish()  # "" after a stop string
        self.shown += len(held)
        return rest + held

    def _shown(self, text: str) -> str:
        self.last = text
        self.decoded += len(text)
        shown = self._finder.feed(text)
        self.shown += len(shown)
        return shown
