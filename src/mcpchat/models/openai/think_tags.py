"""Separates reasoning that a server leaves in the answer's text: a leading ``<think>`` block."""

import re
from collections.abc import Iterator
from typing import Literal, NamedTuple

# The blanks around them are removed by other means: a search for "\s*<" takes quadratic time in many blanks.
_OPENING = re.compile(r"<(think|thinking|thought|reasoning)>\s*", re.IGNORECASE)
_CLOSING = re.compile(r"</(think|thinking|thought|reasoning)>\s*", re.IGNORECASE)
_OPENINGS = ("<think>", "<thinking>", "<thought>", "<reasoning>")
_LONGEST_TAG = len("</reasoning>")


class Piece(NamedTuple):
    text: str
    is_reasoning: bool


class ThinkTags:
    """Splits a streamed text into reasoning and answer.

    Each character is looked at a few times, however long the text is and however small its parts are.
    """

    def __init__(self) -> None:
        self._blanks: list[str] = []  # before ``_pending``: they belong to what follows, or to nothing
        self._pending = ""  # the beginning of a tag, perhaps
        self._is_first = True  # whether no reasoning has come yet
        self._state: Literal["start", "reasoning", "gap", "answer"] = "start"

    def feed(self, text: str) -> Iterator[Piece]:
        """Yield what is decided now; the rest waits for the next call."""
        if self._state == "start":
            text = self._find_beginning(text)
        if self._state == "reasoning":
            reasoning, text = self._read_reasoning(text)
            if reasoning:
                yield Piece(reasoning, is_reasoning=True)
        if self._state == "gap":  # blanks after the block belong to neither
            text = text.lstrip()
            self._state = "answer" if text else "gap"
        if self._state == "answer" and text:
            yield Piece(text, is_reasoning=False)

    def _find_beginning(self, text: str) -> str:
        """Decide whether the text begins with a block. Returns what belongs to the next state."""
        if not self._pending:
            text = self._hold_blanks(text)
        text = self._pending + text
        self._pending = ""
        if match := _OPENING.match(text):
            self._state, self._blanks = "reasoning", []
            return text[match.end() :]
        if any(opening.startswith(text[: len(opening)].lower()) for opening in _OPENINGS):
            self._pending = text
            return ""
        self._state = "answer"
        return self._take_blanks() + text

    def _read_reasoning(self, text: str) -> tuple[str, str]:
        """The reasoning that is decided, and what follows the block."""
        if self._is_first and not self._pending:  # blanks after the tag belong to nothing
            text = text.lstrip()
        self._is_first = self._is_first and not text
        text = self._pending + text
        self._pending = ""
        if match := _CLOSING.search(text):
            self._state = "gap"
            blanks, reasoning = self._take_blanks(), text[: match.start()].rstrip()
            return blanks + reasoning if reasoning else "", text[match.end() :]
        tail = text[-_LONGEST_TAG:]
        opened = tail.rfind("<")
        if opened >= 0:
            text, self._pending = text[: len(text) - len(tail) + opened], tail[opened:]
        reasoning = text.rstrip()
        decided = self._take_blanks() + reasoning if reasoning else ""
        self._blanks.append(text[len(reasoning) :])
        return decided, ""

    def _hold_blanks(self, text: str) -> str:
        """Keep the blanks at the beginning; returns the rest."""
        rest = text.lstrip()
        self._blanks.append(text[: len(text) - len(rest)])
        return rest

    def _take_blanks(self) -> str:
        blanks, self._blanks = "".join(self._blanks), []
        return blanks

    def flush(self) -> Iterator[Piece]:
        """Yield the rest at the end of the text."""
        text, self._pending = self._take_blanks() + self._pending, ""
        if text:
            yield Piece(text, is_reasoning=self._state == "reasoning")


def split_unopened(text: str) -> tuple[str, str]:
    """Split a text whose opening tag is in the prompt: the reasoning ("" without a closing tag) and the answer."""
    match = _CLOSING.search(text)
    if match is None or _OPENING.search(text[: match.start()]):
        return "", text
    return text[: match.start()].strip(), text[match.end() :]
