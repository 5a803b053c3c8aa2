"""The text of the input line, in which an emoji, a flag or a letter with its marks is edited as one."""

from typing import Any

from prompt_toolkit.buffer import Buffer
from prompt_toolkit.cache import FastDictCache
from prompt_toolkit.document import Document
from wcwidth import grapheme_boundary_before, iter_graphemes

_MAX_CLUSTER = 1000  # characters


class ClusterDocument(Document):
    """A document whose positions to the left and right are counted in what a person sees as one character."""

    def get_cursor_left_position(self, count: int = 1) -> int:
        if count < 0:
            return self.get_cursor_right_position(-count)
        position = start = self.cursor_position
        while count and position > start - self.cursor_position_col:
            position, count = find_cluster(self.text, position - 1)[0], count - 1
        return position - start

    def get_cursor_right_position(self, count: int = 1) -> int:
        if count < 0:
            return self.get_cursor_left_position(-count)
        position = start = self.cursor_position
        end = start + len(self.current_line_after_cursor)
        while count and position < end:
            position, count = find_cluster(self.text, position + 1)[1], count - 1
        return position - start


class InputBuffer(Buffer):
    """A buffer whose cursor never stands inside of what a person sees as one character (a grapheme cluster)."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._document_cache = FastDictCache(ClusterDocument, size=10)

    @property
    def cursor_position(self) -> int:
        return int(super().cursor_position)

    @cursor_position.setter
    def cursor_position(self, value: int) -> None:
        start, end = find_cluster(self.text, value)
        position = start if value < self.cursor_position else end
        Buffer.cursor_position.fset(self, position)  # type: ignore[attr-defined]

    def delete_before_cursor(self, count: int = 1) -> str:
        start = find_cluster(self.text, max(0, self.cursor_position - count))[0]
        return super().delete_before_cursor(self.cursor_position - start)

    def delete(self, count: int = 1) -> str:
        end = find_cluster(self.text, min(len(self.text), self.cursor_position + count))[1]
        return super().delete(end - self.cursor_position)

    def insert_text(self, data: str, overwrite: bool = False, *args: Any, **options: Any) -> None:
        if overwrite and len(data) == 1:  # the new character takes the place of the whole cluster
            end = find_cluster(self.text, self.cursor_position + 1)[1]
            if end > self.cursor_position + 1:
                self.delete(end - self.cursor_position)
                overwrite = False
        super().insert_text(data, overwrite, *args, **options)


def find_cluster(text: str, position: int) -> tuple[int, int]:
    """The start and the end of the grapheme cluster that has the position inside; else twice the position."""
    if not 0 < position < len(text) or text.isascii():
        return position, position
    start = grapheme_boundary_before(text, position)
    end = start + len(next(iter_graphemes(text[start : start + _MAX_CLUSTER])))
    return (start, end) if end > position else (position, position)
