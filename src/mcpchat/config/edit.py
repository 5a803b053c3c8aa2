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
from mcpchat.config.load import read_text, starter_config
from mcpchat.errors import ConfigError, UsageError
from mcpchat.util.text import suggest

_HEADER = re.compile(r"\s*\[\s*([^\[\]]+?)\s*\]\s*(?:#.*)?$")


def add_server(text: str, name: str, settings: Mapping[str, Any]) -> str:
    """The file's text with one more server. Raises UsageError when the name is taken."""
    _, servers = _parse_servers(text)
    if name in servers:
        raise UsageError(f"there is a server named {name!r} already", hint=f"mcpchat servers remove {name}")
    # A file without servers means the calculator; one that names a server means that one alone.
    new_servers = {name: settings} if servers else {"calculator": {"builtin": "calculator"}, name: settings}
    tables = tomlkit.table(is_super_table=True)
    for key, value in new_servers.items():
        tables[key] = _table(value)
    # At the end, where no comment can come between a table and what is said above it.
    return f"{text.rstrip()}\n\n{tomlkit.dumps({'servers': tables})}".lstrip()


def add_agent(text: str, name: str, settings: Mapping[str, Any]) -> str:
    """The file's text with one more agent. Raises UsageError when the name is taken."""
    document, _ = _parse_servers(text)
    if name in document.get("agents", {}):
        raise UsageError(f"there is an agent named {name!r} already", hint=f"mcpchat agents show {name}")
    tables = tomlkit.table(is_super_table=True)
    tables[name] = _table(settings)
    return f"{text.rstrip()}\n\n{tomlkit.dumps({'agents': tables})}".lstrip()


def remove_server(text: str, name: str) -> str:
    """The file's text without this server. Raises UsageError when there is none."""
    document, servers = _parse_servers(text)
    _require(servers, name)
    shortened = _without_table(text, name)
    del servers[name]
    expected = tomlkit.dumps(document)
    # tomlkit would take the comments under the table with it, which often speak of what comes next.
    return shortened if _same_content(shortened, expected) else expected


def _without_table(text: str, name: str) -> str:
    """The text without the lines of ``[servers.NAME]`` and its sub-tables; comments that follow them stay."""
    lines: list[str] = []
    pending: list[str] = []
    inside = False
    for line in text.splitlines(keepends=True):
        if header := _HEADER.match(line):
            path = tuple(tomlkit.key(part.strip()).key.strip("\"'") for part in header[1].split("."))
            inside = path[:2] == ("servers", name)
            if inside:
                pending = []  # between two of its own tables
                continue
            lines, pending = lines + pending, []
        if not inside:
            lines.append(line)
        elif not line.strip() or line.lstrip().startswith("#"):
            pending.append(line)
        else:
            pending = []
    return "".join(lines + pending)


def _same_content(first: str, second: str) -> bool:
    """Whether both texts say the same, an empty table of servers being none."""
    try:
        tables = [tomllib.loads(text) for text in (first, second)]
    except tomllib.TOMLDecodeError:
        return False
    return {**tables[0], "servers": tables[0].get("servers", {})} == {
        **tables[1],
        "servers": tables[1].get("servers", {}),
    }


def enable_server(text: str, name: str, enabled: bool) -> str:
    """The file's text with this server switched on or off."""
    document, servers = _parse_servers(text)
    _require(servers, name)
    servers[name]["enabled"] = enabled
    return tomlkit.dumps(document)


def update(path: Path, change: Callable[[str], str]) -> None:
    """Write the changed text of the config file, which is made from the starter if need be.

    Raises ConfigError, and what ``change`` raises, with nothing changed.
    """
    write(path, change(read_text(path) if path.exists() else starter_config()))


def write(path: Path, text: str) -> None:
    """Check the text as a config, then put it in the file's place at once. Raises ConfigError, with nothing changed."""
    schema.parse(text, str(path))
    target = path.resolve()  # a link to a file kept elsewhere stays one
    try:
        _ensure_directory(target.parent)
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


def create(path: Path, text: str, schema_text: str) -> None:
    """Write a first config file, and the schema for editors beside it, for their owner alone.

    Raises ConfigError; also where there is a file already.
    """
    try:
        _ensure_directory(path.parent)
        with os.fdopen(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise ConfigError(f"cannot write {path}: {error.strerror}", hint="name another place with --config") from error
    schema_path = path.with_name("mcpchat.schema.json")
    try:
        schema_path.unlink(missing_ok=True)  # perhaps an older one
        with os.fdopen(
            os.open(schema_path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w", encoding="utf-8"
        ) as file:
            file.write(schema_text)
    except OSError as error:
        raise ConfigError(f"cannot write {schema_path}: {error.strerror}") from error


def _ensure_directory(folder: Path) -> None:
    """The folder, and those above it that are missing, closed to others. Raises OSError."""
    for missing in reversed([directory for directory in (folder, *folder.parents) if not directory.exists()]):
        missing.mkdir(exist_ok=True, mode=0o700)


def _parse_servers(text: str) -> tuple[tomlkit.TOMLDocument, Table]:
    try:
        document = tomlkit.parse(text)
    except TOMLKitError as error:
        raise ConfigError(f"the config is not valid TOML: {error}", hint="mcpchat config validate") from error
    servers = document.setdefault("servers", tomlkit.table(is_super_table=True))
    if not isinstance(servers, Mapping):
        raise ConfigError("servers: expected a table", hint="mcpchat config validate")
    return document, servers  # type: ignore[return-value]  # tomlkit has several kinds of table, alike in use


def _require(servers: Mapping[str, Any], name: str) -> None:
    if name not in servers:
        raise UsageError(f"the config has no server named {name!r}; {suggest(name, servers)}")


def _table(settings: Mapping[str, Any]) -> Table:
    table = tomlkit.table()
    for key, value in settings.items():
        if isinstance(value, Mapping):
            inline = tomlkit.inline_table()
            inline.update(value)
            table[key] = inline
        else:
            table[key] = value
    return table
