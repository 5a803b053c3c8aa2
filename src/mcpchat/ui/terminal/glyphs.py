"""Signs on the screen, in characters that the terminal's encoding has."""

from typing import NamedTuple


class Glyphs(NamedTuple):
    """``spinner`` are the frames of the spinner, ``bar`` is one cell of a bar."""

    done: str
    failed: str
    pointer: str
    spinner: str
    bar: str


_UNICODE = Glyphs("✓", "✗", "›", "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏", "█")
_ASCII = Glyphs("ok", "x", ">", "-\\|/", "#")


def select_glyphs(encoding: str | None) -> Glyphs:
    """The signs for a stream with this encoding."""
    return _UNICODE if (encoding or "").lower().startswith("utf") else _ASCII
