"""The choices of a question: a key, a label and what it means."""

from collections.abc import Sequence
from typing import NamedTuple

from rich.cells import cell_len

from mcpchat.util.sanitize import one_line


class Choice(NamedTuple):
    """An answer to a question. ``label`` has the ``key`` in brackets; ``meaning`` says what the answer does."""

    key: str
    label: str
    meaning: str


def format_labels(choices: Sequence[Choice], width: int) -> str:
    """The labels on lines of ``width`` cells; no label is split."""
    lines = [""]
    for choice in choices:
        if cell_len(lines[-1]) + len(choice.label) + 4 > width and lines[-1]:
            lines.append("")
        lines[-1] += f"  {choice.label}"
    return "\n".join(lines) + " "


def format_menu(choices: Sequence[Choice], selected: int | None, width: int, pointer: str) -> list[tuple[str, str]]:
    """The choices as text with styles, one a line of at most ``width`` cells; ``pointer`` marks the selected one."""
    label_width = max(len(choice.label) for choice in choices)
    parts = []
    for number, choice in enumerate(choices):
        is_selected = number == selected
        parts.append(("bold" if is_selected else "", f"  {pointer if is_selected else ' '} {choice.label}"))
        meaning = one_line(choice.meaning, max(1, width - label_width - 8)) if width > label_width + 12 else ""
        padding = " " * (label_width - len(choice.label) + 2)
        parts.append(("" if is_selected else "class:dim", f"{padding}{meaning}" if meaning else ""))
        parts.append(("", "\n"))
    return parts[:-1]
