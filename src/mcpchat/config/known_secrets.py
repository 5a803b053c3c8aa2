"""The secrets of a config that are known before any server starts: they are redacted from the first output on."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import unquote

import msgspec

from mcpchat.config.references import find_references, read_variable
from mcpchat.config.schema import Config
from mcpchat.config.validation import SECRET_NAME, iter_literal_secrets
from mcpchat.util.urls import get_parameter

_LONGEST_PATH = 4096  # characters
_HARMLESS = re.compile(r"\d{0,9}|[\d.]+\.[\d.]+|true|false", re.IGNORECASE)
_ADDRESS = re.compile(r"https?://[^@\s?]*", re.IGNORECASE)
_LONG_NUMBERED_WORD = re.compile(r"(?=[^/]*\d)[^/]{16,}")  # in the address of a webhook it is the secret


def find_known_secrets(config: Config, environ: Mapping[str, str]) -> Iterator[str]:
    """Yield the secrets of a config that can be read without asking anybody.

    These are the environment variables that it refers to or passes on, and the secrets it has in plain text.
    """
    for reference in find_references(_iter_texts(msgspec.to_builtins(config))):
        value = read_variable(reference, environ)
        if not is_harmless(value):
            yield value
    for server in config.servers.values():
        for name in server.env_pass:
            if SECRET_NAME.search(name) and not is_harmless(value := environ.get(name, "")):
                yield value
    for name, table, key in iter_literal_secrets(msgspec.to_builtins(config.servers)):
        server = config.servers[name]
        literal = unquote(get_parameter(server.url or "", key)) if table == "url" else getattr(server, table)[key]
        yield literal.removeprefix("Bearer ")


def is_harmless(value: str) -> bool:
    """Whether a value is a path, a short number, or an address without anything secret in it.

    To redact such a value would remove it from ordinary text.
    """
    if len(value) >= _LONGEST_PATH:
        return False
    if _ADDRESS.fullmatch(value):
        _, _, *folders = value.split("/")[1:]
        return not any(map(_LONG_NUMBERED_WORD.fullmatch, folders))
    return _HARMLESS.fullmatch(value) is not None or Path(value).exists()


def _iter_texts(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for inner in value.values():
            yield from _iter_texts(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _iter_texts(inner)
