"""The user's prompt templates: text files in the folder ``templates`` beside the config file."""

from pathlib import Path

from mcpchat.app.agents import template_variables
from mcpchat.config.run import RunContext
from mcpchat.errors import UsageError
from mcpchat.util.text import suggest
from mcpchat.util.text_files import read_text

__all__ = ["find_templates", "read_template", "template_directory", "template_variables"]

_SUFFIXES = (".md", ".txt")
_MAX_TEMPLATE_BYTES = 1_000_000


def template_directory(context: RunContext) -> Path:
    return context.paths.config.parent / "templates"


def find_templates(context: RunContext) -> dict[str, Path]:
    """Return the template files by name: the path within the folder, without the suffix.

    If two files have the same name, the .md file is used. Hidden files are left out.
    """
    directory = template_directory(context)
    templates: dict[str, Path] = {}
    for path in sorted(directory.rglob("*")) if directory.is_dir() else ():
        hidden = any(part.startswith(".") for part in path.relative_to(directory).parts)
        if path.suffix in _SUFFIXES and not hidden and path.is_file():
            templates.setdefault(path.relative_to(directory).with_suffix("").as_posix(), path)
    return templates


def read_template(context: RunContext, name: str) -> str:
    """Return the text of a template. Raises UsageError if it does not exist, is too long, or cannot be read."""
    templates = find_templates(context)
    if name not in templates:
        raise UsageError(
            f"no template is named {name!r}; {suggest(name, templates)}",
            hint=f"templates are text files in {template_directory(context)}",
        )
    return read_text(templates[name], max_bytes=_MAX_TEMPLATE_BYTES, error=UsageError, source=f"template {name}")
