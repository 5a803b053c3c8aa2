"""What may come next on the line: a pure function from the text and the known names to suggestions."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple


class Suggestion(NamedTuple):
    """``text`` replaces the last ``replaces`` characters before the cursor."""

    text: str
    replaces: int
    help: str = ""


def suggest(line: str, commands: Mapping[str, str], arguments: Mapping[str, Sequence[str]]) -> list[Suggestion]:
    """Suggestions for the line up to the cursor.

    ``commands`` maps "/name" to its help; ``arguments`` maps "/name" to the values that it takes.
    """
    if not line.startswith("/"):
        return []
    command, space, typed = line.partition(" ")
    if not space:
        return [Suggestion(name, len(line), text) for name, text in commands.items() if name.startswith(command)]
    return [Suggestion(name, len(typed)) for name in arguments.get(command, ()) if name.startswith(typed)]
