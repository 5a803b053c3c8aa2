"""The config file, edited as a person would: comments, order and blank lines stay."""

import os
import re
import tempfile
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import tomlkit
from tomlkit.exceptions import TOMLKitError
from tomlkit.items import Table

from mcpchat.config import schema
from mcpchat.config.load import read_text, starter
from mcpchat.errors import ConfigError, UsageError
from mcpchat.util.text import suggest

_HEADER = re.compile(r"\s*\[\s*([^\[\]]+?)\s*\]\s*(?:#.*)?$")


def add_server(text: str, name: str, entry: Mapping[str, Any]) -> str:
    """The file's text with one more server. Raises UsageError when the name is taken."""
    _, servers = _servers(text)
    if name in servers:
        raise UsageError(f"there is a server named {name!r} already", hint=f"mcpchat servers remove {name}")
    # A file without servers means the calculator; one that names a server means that one alone.
    added = {name: entry} if servers else {"calculator": {"builtin": "calculator"}, name: entry}
    tables = tomlkit.table(is_super_table=True)
    for key, value in added.items():
        tables[key] = _table(value)
    # At the end, where no comment can come between a table and what is said above it.
    return f"{text.rstrip()}\n\n{tomlkit.dumps({'servers': tables})}".lstrip()


def add_agent(text: str, name: str, entry: Mapping[str, Any]) -> str:
    """The file's text with one more agent. Raises UsageError when the name is taken."""
    document, _ = _servers(text)
    if name in document.get("agents", {}):
        raise UsageError(f"there is an agent named {name!r} already", hint=f"mcpchat agents show {name}")
    tables = tomlkit.table(is_super_table=True)
    tables[name] = _table(entry)
    return f"{text.rstrip()}\n\n{tomlkit.dumps({'agents': tables})}".lstrip()


def remove_server(text: str, name: str) -> str:
    """The file's text without this server. Raises UsageError when there is none."""
    document, servers = _servers(text)
    _known(servers, name)
    shorter = _without_table(text, name)
    del servers[name]
    expected = tomlkit.dumps(document)
    # tomlkit would take the comments under the table with it, which often speak of what comes next.
    return shorter if _same(shorter, expected) else expected


def _without_table(text: str, name: str) -> str:
    """The text without the lines of ``[servers.NAME]`` and its sub-tables; comments that follow them stay."""
    kept: list[str] = []
    pending: list[str] = []
    inside = False
    for line in text.splitlines(keepends=True):
        if header := _HEADER.match(line):
            path = tuple(tomlkit.key(piece.strip()).key.strip("\"'") for piece in header[1].split("."))
            inside = path[:2] == ("servers", name)
            if inside:
                pending = []  # between two of its own tables
                continue
            kept, pending = kept + pending, []
        if not inside:
            kept.append(line)
        elif not line.strip() or line.lstrip().startswith("#"):
            pending.append(line)
        else:
            pending = []
    return "".join(kept + pending)


def _same(one: str, other: str) -> bool:
    """Whether both texts say the same, an empty table of servers being none."""
    try:
        read = [tomllib.loads(text) for text in (one, other)]
    except tomllib.TOMLDecodeError:
        return False
    return {**read[0], "servers": read[0].get("servers", {})} == {**read[1], "servers": read[1].get("servers", {})}


def enable_server(text: str, name: str, enabled: bool) -> str:
    """The file's text with this server switched on or off."""
    document, servers = _servers(text)
    _known(servers, name)
    servers[name]["enabled"] = enabled
    return tomlkit.dumps(document)


def update(path: Path, change: Callable[[str], str]) -> None:
    """Write the changed text of the config file, which is made from the starter if need be.

    Raises ConfigError, and what ``change`` raises, with nothing changed.
    """
    write(path, change(read_text(path) if path.exists() else starter()))


def write(path: Path, text: str) -> None:
    """Check the text as a config, then put it in the file's place at once. Raises ConfigError, with nothing changed."""
    schema.parse(text, str(path))
    target = path.resolve()  # a link to a file kept elsewhere stays one
    try:
        _make(target.parent)
        mode = target.stat().st_mode & 0o777 if target.exists() else 0o600
        descriptor, name = tempfile.mkstemp(dir=target.parent, prefix=".config-")
        temporary = Path(name)
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                file.write(text)
            temporary.chmod(mode)
            temporary.replace(target)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise ConfigError(f"cannot write {path}: {error.strerror}") from error


def begin(path: Path, text: str, schema: str) -> None:
    """Write a first config file, and the schema for editors beside it, for their owner alone.

    Raises ConfigError; also where there is a file already.
    """
    try:
        _make(path.parent)
        with os.fdopen(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise ConfigError(f"cannot write {path}: {error.strerror}", hint="name another place with --config") from error
    beside = path.with_name("mcpchat.schema.json")
    try:
        beside.unlink(missing_ok=True)  # perhaps an older one
        with os.fdopen(os.open(beside, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w", encoding="utf-8") as file:
            file.write(schema)
    except OSError as error:
        raise ConfigError(f"cannot write {beside}: {error.strerror}") from error


def _make(folder: Path) -> None:
    """The folder, and those above it that are missing, closed to others. Raises OSError."""
    for missing in reversed([place for place in (folder, *folder.parents) if not place.exists()]):
        missing.mkdir(exist_ok=True, mode=0o700)


def _servers(text: str) -> tuple[tomlkit.TOMLDocument, Table]:
    try:
        document = tomlkit.parse(text)
    except TOMLKitError as error:
        raise ConfigError(f"the config is not valid TOML: {error}", hint="mcpchat config validate") from error
    servers = document.setdefault("servers", tomlkit.table(is_super_table=True))
    if not isinstance(servers, Mapping):
        raise ConfigError("servers: expected a table", hint="mcpchat config validate")
    return document, servers  # type: ignore[return-value]  # tomlkit has several kinds of table, alike in use


def _known(servers: Mapping[str, Any], name: str) -> None:
    if name not in servers:
        raise UsageError(f"the config has no server named {name!r}; {suggest(name, servers)}")


def _table(entry: Mapping[str, Any]) -> Table:
    table = tomlkit.table()
    for key, value in entry.items():
        if isinstance(value, Mapping):
            inline = tomlkit.inline_table()
            inline.update(value)
            table[key] = inline
        else:
            table[key] = value
    return table
