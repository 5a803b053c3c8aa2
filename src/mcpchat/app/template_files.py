"""The person's prompt templates: text files in one folder beside the config."""

from pathlib import Path

from mcpchat.app.agents import known_values
from mcpchat.config.run import RunContext
from mcpchat.errors import UsageError
from mcpchat.util.text import suggest

__all__ = ["folder", "known_values", "names", "read"]

_ENDINGS = (".md", ".txt")
_LARGEST = 1_000_000  # bytes


def folder(context: RunContext) -> Path:
    return context.paths.config.parent / "templates"


def names(context: RunContext) -> dict[str, Path]:
    """The templates by their names: their paths within the folder, without the ending. Of two alike the .md counts."""
    place = folder(context)
    found: dict[str, Path] = {}
    for path in sorted(place.rglob("*")) if place.is_dir() else ():
        hidden = any(part.startswith(".") for part in path.relative_to(place).parts)
        if path.suffix in _ENDINGS and not hidden and path.is_file():
            found.setdefault(path.relative_to(place).with_suffix("").as_posix(), path)
    return found


def read(context: RunContext, name: str) -> str:
    """The template's text. Raises UsageError for one that is not there, or cannot be read."""
    known = names(context)
    if name not in known:
        raise UsageError(
            f"no template is named {name!r}; {suggest(name, known)}", hint=f"they are text files in {folder(context)}"
        )
    try:
        with known[name].open("rb") as file:
            data = file.read(_LARGEST + 1)
        if len(data) > _LARGEST:
            raise UsageError(f"the template {known[name]} is longer than {_LARGEST:,} bytes")
        return data.decode()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise UsageError(f"the template {known[name]} cannot be read: {reason}") from error
