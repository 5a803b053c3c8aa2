"""Separates reasoning that a server leaves in the answer's text: a leading ``<think>`` block."""

import re
from collections.abc import Iterator
from typing import Literal, NamedTuple

_OPENING = re.compile(r"\s*<(think|thinking|thought|reasoning)>\s*", re.IGNORECASE)
_CLOSING = re.compile(r"\s*</(think|thinking|thought|reasoning)>\s*", re.IGNORECASE)
_OPENINGS = ("<think>", "<thinking>", "<thought>", "<reasoning>")
_LONGEST_TAG = len("</reasoning>")


class Piece(NamedTuple):
    text: str
    is_reasoning: bool


class ThinkTags:
    """Splits a streamed text into reasoning and answer."""

    def __init__(self) -> None:
        self._pending = ""
        self._state: Literal["start", "reasoning", "gap", "answer"] = "start"

    def feed(self, text: str) -> Iterator[Piece]:
        """Yield what is decided now; the rest waits for the next call."""
        if self._state == "gap":  # blanks after the block belong to neither
            text = text.lstrip()
            self._state = "answer" if text else "gap"
        if self._state in {"gap", "answer"}:
            if text:
                yield Piece(text, is_reasoning=False)
            return
        self._pending += text
        if self._state == "start":
            if match := _OPENING.match(self._pending):
                self._state, self._pending = "reasoning", self._pending[match.end() :]
            elif not any(opening.startswith(self._pending.lstrip().lower()) for opening in _OPENINGS):
                self._state = "answer"
                yield Piece(self._take(), is_reasoning=False)
                return
            else:
                return
        if match := _CLOSING.search(self._pending):
            before, after = self._pending[: match.start()], self._pending[match.end() :]
            self._state, self._pending = "answer" if after else "gap", ""
            yield from (piece for piece in (Piece(before, True), Piece(after, False)) if piece.text)
            return
        held = len(self._pending) - self._undecided_length()
        decided, self._pending = self._pending[:held], self._pending[held:]
        if decided:
            yield Piece(decided, is_reasoning=True)

    def _undecided_length(self) -> int:
        """How much of the end may belong to the closing tag and the blanks before it."""
        tail = self._pending[-_LONGEST_TAG:]
        opened = tail.rfind("<")
        end = len(self._pending) - (len(tail) - opened if opened >= 0 else 0)
        return len(self._pending) - len(self._pending[:end].rstrip())

    def _take(self) -> str:
        text, self._pending = self._pending, ""
        return text

    def flush(self) -> Iterator[Piece]:
        """Yield the rest at the end of the text."""
        if text := self._take():
            yield Piece(text, is_reasoning=self._state == "reasoning")


def split_unopened(text: str) -> tuple[str, str]:
    """Split a text whose opening tag is in the prompt: the reasoning ("" without a closing tag) and the answer."""
    match = _CLOSING.search(text)
    if match is None or _OPENING.search(text[: match.start()]):
        return "", text
    return text[: match.start()].strip(), text[match.end() :]
