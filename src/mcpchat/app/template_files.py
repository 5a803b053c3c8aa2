"""The person's prompt templates: text files in one folder beside the config."""

from pathlib import Path

from mcpchat.app.agents import template_variables
from mcpchat.config.run import RunContext
from mcpchat.errors import UsageError
from mcpchat.util.text import suggest

__all__ = ["find_templates", "read_template", "template_directory", "template_variables"]

_SUFFIXES = (".md", ".txt")
_MAX_TEMPLATE_BYTES = 1_000_000  # bytes


def template_directory(context: RunContext) -> Path:
    return context.paths.config.parent / "templates"


def find_templates(context: RunContext) -> dict[str, Path]:
    """The templates by their names: their paths within the folder, without the ending. Of two alike the .md counts."""
    directory = template_directory(context)
    templates: dict[str, Path] = {}
    for path in sorted(directory.rglob("*")) if directory.is_dir() else ():
        hidden = any(part.startswith(".") for part in path.relative_to(directory).parts)
        if path.suffix in _SUFFIXES and not hidden and path.is_file():
            templates.setdefault(path.relative_to(directory).with_suffix("").as_posix(), path)
    return templates


def read_template(context: RunContext, name: str) -> str:
    """The template's text. Raises UsageError for one that is not there, or cannot be read."""
    templates = find_templates(context)
    if name not in templates:
        raise UsageError(
            f"no template is named {name!r}; {suggest(name, templates)}",
            hint=f"they are text files in {template_directory(context)}",
        )
    try:
        with templates[name].open("rb") as file:
            data = file.read(_MAX_TEMPLATE_BYTES + 1)
        if len(data) > _MAX_TEMPLATE_BYTES:
            raise UsageError(f"the template {templates[name]} is longer than {_MAX_TEMPLATE_BYTES:,} bytes")
        return data.decode()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise UsageError(f"the template {templates[name]} cannot be read: {reason}") from error
