"""The composition root: from the config and the environment to a running session; the one place that picks adapters."""

import json
import os
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mcpchat.adapters import schema_check
from mcpchat.adapters.browser import open_page
from mcpchat.adapters.mcp_hub import McpHub
from mcpchat.adapters.private_files import open_to_append, open_to_others
from mcpchat.app.chat import Chat, open_chat
from mcpchat.app.hub import make_host, make_logins, open_hub
from mcpchat.app.logins import Logins
from mcpchat.app.models import Models
from mcpchat.app.setup import Paths, Setup, Wishes, default_paths
from mcpchat.core import config as configuration
from mcpchat.core.config import Config
from mcpchat.core.errors import ConfigError, StoreError, UsageError
from mcpchat.core.messages import Part

if TYPE_CHECKING:
    from mcpchat.adapters.result_lines import ResultLines

__all__ = [  # and what is defined here
    "Chat", "Logins", "McpHub", "Models", "Paths", "Setup", "Wishes", "default_paths", "make_host", "make_logins",
    "open_chat", "open_hub",
]  # fmt: skip


_MOST_PIPED = 20_000_000  # bytes


def starter() -> str:
    """The commented config file to start from."""
    from importlib.resources import files

    return files("mcpchat").joinpath("starter.toml").read_text(encoding="utf-8")


def begin_config(path: Path, text: str, schema: str) -> None:
    """Write a first config file and its schema. Raises ConfigError."""
    from mcpchat.adapters import registry

    registry.begin(path, text, schema)


def history_file(setup: Setup) -> Path | None:
    """Where what was typed is kept, ready to be written to; None where it cannot be."""
    path = setup.paths.state / "history"
    try:
        os.close(open_to_append(path))
    except StoreError:
        return None
    return path


def add_server(path: Path, name: str, entry: Mapping[str, object]) -> None:
    """Write one more server into the config file, which is made if need be. Raises UsageError, ConfigError."""
    from mcpchat.adapters import registry

    registry.write(path, registry.add_server(_text_of(path), name, entry))


def add_agent(path: Path, name: str, entry: Mapping[str, object]) -> None:
    """Write one more agent into the config file, which is made if need be. Raises UsageError, ConfigError."""
    from mcpchat.adapters import registry

    registry.write(path, registry.add_agent(_text_of(path), name, entry))


def remove_server(path: Path, name: str) -> None:
    from mcpchat.adapters import registry

    registry.write(path, registry.remove_server(_text_of(path), name))


def enable_server(path: Path, name: str, enabled: bool) -> None:
    from mcpchat.adapters import registry

    registry.write(path, registry.enable_server(_text_of(path), name, enabled))


def _text_of(path: Path) -> str:
    """The config file's text; of one that is not there yet, the starter's."""
    return _read(path) if path.exists() else starter()


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise ConfigError(f"cannot read {path}: {reason}") from error


def load_config(path: Path, *, must_exist: bool) -> Config:
    """Read the config file; a file that need not exist and does not is an empty one. Raises ConfigError."""
    if str(path) == "-":
        return configuration.parse(piped("--config -"), "standard input")
    if not path.exists():
        if must_exist:
            raise ConfigError(f"no such config file: {path}", hint="mcpchat config init writes one")
        return Config()
    try:
        others, hint = open_to_others(path)
    except OSError:
        others, hint = "", ""  # reading it will say what is wrong
    if others:
        raise ConfigError(f"{path} is not read: {others}, and what stands in it is run", hint=hint)
    return configuration.parse(_read(path), str(path))


def read_log(setup: Setup, server: str) -> str:
    """The text of a server's log file, empty where there is none."""
    from mcpchat.adapters.server_log import ServerLog

    return ServerLog(setup.paths.state / "logs" / f"{server}.log").text()


def browse(url: str) -> bool:
    """Start the user's browser at an address: whether one was started."""
    return open_page(url, os.environ)


def write_file(path: Path, pieces: Iterable[str | bytes]) -> None:
    """Write the pieces into a file that only its owner can read; in its place at once, or not at all.

    Raises UsageError.
    """
    target = path.expanduser()
    try:
        if target.exists() and not target.is_file():  # a pipe, a terminal
            with target.open("wb") as file:
                file.writelines(_bytes(pieces))
            return
        descriptor, name = tempfile.mkstemp(dir=target.parent, prefix=".mcpchat-")
        temporary = Path(name)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.writelines(_bytes(pieces))
            temporary.replace(target)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror}") from error


def _bytes(pieces: Iterable[str | bytes]) -> Iterator[bytes]:
    return (piece if isinstance(piece, bytes) else piece.encode(errors="replace") for piece in pieces)


def read_schema(text: str) -> dict[str, Any]:
    """The JSON Schema in this text, or in the file that it names. Raises UsageError for what is none."""
    source = "--schema"
    if not text.strip():
        raise UsageError("--schema is empty", hint="a file, or the schema itself")
    if text.strip() in {"true", "false"} or text.lstrip().startswith("["):
        raise UsageError("--schema: a JSON Schema is an object here", hint='{"type": "object", ...}')
    if not text.lstrip().startswith("{"):
        source = f"--schema {text}"
        try:
            text = piped("--schema -") if text == "-" else Path(text).expanduser().read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError, ValueError, RuntimeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
            raise UsageError(f"{source}: cannot be read: {reason}", hint="a file, or the schema itself") from error
    try:
        schema = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{source}: not JSON: {error}") from error
    if not isinstance(schema, dict):
        raise UsageError(f"{source}: a JSON Schema is an object")
    if problem := schema_check.unusable(schema):
        raise UsageError(f"{source}: {problem}")
    return schema


def piped(what: str, most: int = _MOST_PIPED) -> str:
    """What is piped in, as text, of at most so many bytes. Raises UsageError."""
    from mcpchat.adapters import standard_input

    return standard_input.text(what, most)


def piped_bytes(what: str) -> bytes:
    """What is piped in. Raises UsageError."""
    from mcpchat.adapters import standard_input

    return standard_input.data(what, _MOST_PIPED)


def read_attachments(names: Sequence[str]) -> tuple[Part, ...]:
    """The files, as parts of a message. Raises UsageError."""
    from mcpchat.adapters import attachments

    return tuple(part for name in names for part in attachments.read(name))


@contextmanager
def results_to(target: Path | None, *, ordered: bool, resume: bool, again: bool) -> "Iterator[ResultLines]":
    """Where a batch's results go: a file, or stdout; as ``result_lines`` has it. Raises UsageError."""
    from mcpchat.adapters import result_lines
    from mcpchat.core.batches import read_key

    if target is None:
        with result_lines.to_stream(sys.stdout.buffer, ordered=ordered) as lines:
            yield lines
    else:
        path = target.expanduser()
        with result_lines.to_file(path, read_key, ordered=ordered, resume=resume, again=again) as lines:
            yield lines
