"""The text of the input line, in which an emoji, a flag or a letter with its marks is edited as one."""

from prompt_toolkit.buffer import Buffer
from wcwidth import grapheme_boundary_before, iter_graphemes

_MAX_CLUSTER = 1000  # characters


class InputBuffer(Buffer):
    """A buffer whose cursor never stands inside of what a person sees as one character (a grapheme cluster)."""

    @property
    def cursor_position(self) -> int:
        return int(super().cursor_position)

    @cursor_position.setter
    def cursor_position(self, value: int) -> None:
        start, end = find_cluster(self.text, value)
        position = start if value < self.cursor_position else end
        Buffer.cursor_position.fset(self, position)  # type: ignore[attr-defined]

    def cursor_left(self, count: int = 1) -> None:
        for _ in range(min(count, len(self.document.current_line))):
            super().cursor_left()

    def cursor_right(self, count: int = 1) -> None:
        for _ in range(min(count, len(self.document.current_line))):
            super().cursor_right()

    def delete_before_cursor(self, count: int = 1) -> str:
        start = find_cluster(self.text, max(0, self.cursor_position - count))[0]
        return super().delete_before_cursor(self.cursor_position - start)

    def delete(self, count: int = 1) -> str:
        end = find_cluster(self.text, min(len(self.text), self.cursor_position + count))[1]
        return super().delete(end - self.cursor_position)


def find_cluster(text: str, position: int) -> tuple[int, int]:
    """The start and the end of the grapheme cluster that has the position inside; else twice the position."""
    if not 0 < position < len(text) or text.isascii():
        return position, position
    start = grapheme_boundary_before(text, position)
    end = start + len(next(iter_graphemes(text[start : start + _MAX_CLUSTER])))
    return (start, end) if end > position else (position, position)
