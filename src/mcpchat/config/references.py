"""The references to secrets in config values: which there are, and those that name an environment variable."""

from collections.abc import Iterable, Mapping

from mcpchat.config.validation import REFERENCE
from mcpchat.util.urls import iter_parameters


def find_references(texts: Iterable[str]) -> tuple[str, ...]:
    """The references to secrets in config values and in the parameters of URLs, each once and sorted."""
    values = [
        value for text in texts for value in (text.removeprefix("Bearer "), *dict(iter_parameters(text)).values())
    ]
    return tuple(sorted({match[0] for match in map(REFERENCE.fullmatch, values) if match}))


def read_variable(reference: str, environ: Mapping[str, str]) -> str:
    """The value of a reference to an environment variable; "" if it is not set, and for other references."""
    kind, _, name = reference.partition(":")
    return environ.get(name, "") if kind == "env" else ""
