"""Edit the config file; what an edit is not about stays, byte by byte."""

import codecs
import difflib
import json
import os
import re
import tempfile
import tomllib
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import tomlkit
from tomlkit.exceptions import TOMLKitError
from tomlkit.items import InlineTable, Table

from mcpchat.config import schema
from mcpchat.config.load import read_raw_config, require_own_config, starter_config
from mcpchat.errors import ConfigError, UsageError
from mcpchat.util.text import suggest

_HEADER = re.compile(r"\s*\[\s*([^\[\]]+?)\s*\]\s*(?:#.*)?$")


def replace_server(text: str, name: str, settings: Mapping[str, Any]) -> str:
    """Replace a server in the text of the file, or add it. Raises ConfigError if the text is not TOML."""
    if not has_server(text, name):
        return add_server(text, name, settings)
    return add_server(remove_server(text, name), name, settings, with_default=False)


def add_server(text: str, name: str, settings: Mapping[str, Any], *, with_default: bool = True) -> str:
    """Add a server to the text of the file; the first one ``with_default`` together with the calculator.

    Raises UsageError if the name exists, ConfigError if the text is not TOML.
    """
    _, servers = _parse_servers(text)
    if name in servers:
        raise UsageError(f"there is a server named {name!r} already", hint=f"mcpchat servers remove {name}")
    # A file without servers has the calculator by default; a file with a server has no default.
    default = {} if servers or not with_default else {"calculator": {"builtin": "calculator"}}
    new_servers = {**default, name: settings}
    tables = tomlkit.table(is_super_table=True)
    for key, value in new_servers.items():
        tables[key] = _table(value)
    return _append(text, {"servers": tables})


def merge_server(text: str, name: str, settings: Mapping[str, Any], replaced_keys: Collection[str]) -> str:
    """Give a server of the text other ``settings``; of its own, only the ``replaced_keys`` go.

    Comments stay if each value is in a line of its own.

    Raises UsageError if the server does not exist, ConfigError if the text is not TOML.
    """
    _require(_parse_servers(text)[1], name)
    expected = tomllib.loads(text)
    own = expected["servers"][name]
    merged = {**{key: value for key, value in own.items() if key not in replaced_keys}, **settings}
    expected["servers"][name] = merged
    edited = _merge_lines(text, name, settings, {*replaced_keys, *settings})
    if _has_content(edited, expected):
        return edited
    # A value of several lines, an inline table, or a text that looks like the table.
    return add_server(remove_server(text, name), name, merged, with_default=False)


def _has_content(text: str, expected: Mapping[str, Any]) -> bool:
    try:
        return tomllib.loads(text) == expected
    except tomllib.TOMLDecodeError:
        return False


def _merge_lines(text: str, name: str, settings: Mapping[str, Any], removed: Collection[str]) -> str:
    """Replace the lines of a server's table that set the ``removed`` keys, and their sub-tables."""
    lines: list[str] = []
    path: tuple[str, ...] = ()
    for line in text.splitlines(keepends=True):
        path = _table_path(line) or path
        is_own = path[:2] == ("servers", name)
        if is_own and ((path[2:3] and path[2] in removed) or (path[2:] == () and _assigned_key(line) in removed)):
            continue
        lines.append(line if line.endswith("\n") else f"{line}\n")
        if _table_path(line) == ("servers", name):
            lines += tomlkit.dumps(_table(settings)).splitlines(keepends=True)
    return "".join(lines)


def has_server(text: str, name: str) -> bool:
    """Whether the text has a server of this name. Raises ConfigError if it is not TOML."""
    return name in _parse_servers(text)[1]


def add_allowed(text: str, patterns: Sequence[str]) -> str:
    """Add patterns to ``approvals.allow``. Raises ConfigError if the text is not TOML."""
    document, _ = _parse_servers(text)
    table = document.get("approvals", {})
    if not isinstance(table, dict) or not isinstance(table.get("allow", []), list):
        raise ConfigError("approvals.allow is no list of patterns", hint="mcpchat config validate")
    new = [pattern for pattern in patterns if pattern not in table.get("allow", [])]
    if not new:
        return text
    if "approvals" not in document:
        return _append(text, {"approvals": _table({"allow": new})})
    if "allow" in table:
        table["allow"].extend(new)
        return tomlkit.dumps(document)
    lines = text.splitlines(keepends=True)
    header = next((number for number, line in enumerate(lines) if _table_path(line) == ("approvals",)), None)
    if header is None or not lines[header].endswith("\n"):
        table["allow"] = new
        return tomlkit.dumps(document)
    # tomlkit would write a new key below the comments of the next table.
    end = "\r\n" if lines[header].endswith("\r\n") else "\n"
    lines.insert(header + 1, f"allow = {json.dumps(new, ensure_ascii=False)}{end}")
    edited = "".join(lines)
    table["allow"] = new
    expected = tomlkit.dumps(document)
    return edited if _same_content(edited, expected) else expected


def set_server_value(text: str, name: str, key: str, value: str) -> str:
    """Set a text of a server, by its key: ``url``, or ``env.NAME`` in a table. Raises UsageError and ConfigError."""
    _require(_parse_servers(text)[1], name)
    document: Any = tomlkit.parse(text)
    table, _, inner = key.partition(".")
    if inner:
        document["servers"][name][table][inner] = value
    else:
        document["servers"][name][table] = value
    return tomlkit.dumps(document)


def set_values(text: str, table: str, values: Mapping[str, str | None]) -> str:
    """Set keys of a top-level table to texts; None removes one. What is not about them stays as it is.

    Raises ConfigError if the text is not TOML.
    """
    _parse_servers(text)  # raises
    given = {key: value for key, value in values.items() if value is not None}
    expected = tomllib.loads(text)
    own = {key: value for key, value in expected.get(table, {}).items() if key not in values}
    if table not in expected:
        return _append(text, {table: _table(given)})
    expected[table] = own | given
    edited = _with_lines(text, table, values)
    if _has_content(edited, expected):
        return edited
    document: Any = tomlkit.parse(text)  # an inline table, one with sub-tables alone, or a text that looks like it
    for key, value in values.items():
        document[table].pop(key, None)
        if value is not None:
            document[table][key] = value
    return tomlkit.dumps(document)


def _with_lines(text: str, table: str, values: Mapping[str, str | None]) -> str:
    """Set the keys in lines below the table's header, in place of the lines that set them."""
    lines = text.splitlines(keepends=True)
    header = next((number for number, line in enumerate(lines) if _table_path(line) == (table,)), None)
    if header is None:
        return text
    end = next((n for n in range(header + 1, len(lines)) if _table_path(lines[n])), len(lines))
    kept = [line for line in lines[header + 1 : end] if _assigned_key(line) not in values]
    new = [f"{key} = {json.dumps(value, ensure_ascii=False)}\n" for key, value in values.items() if value is not None]
    first = lines[header] if lines[header].endswith("\n") else f"{lines[header]}\n"
    return "".join([*lines[:header], first, *new, *kept, *lines[end:]])


def _assigned_key(line: str) -> str:
    """The key that a line sets; empty for any other line."""
    match = re.match(r"\s*([\w-]+)\s*=", line)
    return match[1] if match else ""


def add_agent(text: str, name: str, settings: Mapping[str, Any]) -> str:
    """Add an agent to the text of the file. Raises UsageError if the name exists, ConfigError if it is not TOML."""
    document, _ = _parse_servers(text)
    if name in document.get("agents", {}):
        raise UsageError(f"there is an agent named {name!r} already", hint=f"mcpchat agents show {name}")
    tables = tomlkit.table(is_super_table=True)
    tables[name] = _table(settings)
    return _append(text, {"agents": tables})


def _append(text: str, tables: Mapping[str, Any]) -> str:
    """The text with tables at its end, so that none is inserted between another table and the comments above it."""
    gap = "" if not text.strip() or text.endswith("\n\n") else "\n" if text.endswith("\n") else "\n\n"
    appended = f"{text}{gap}{tomlkit.dumps(tables)}"
    try:
        tomllib.loads(appended)
    except tomllib.TOMLDecodeError:  # the table is an inline one, which cannot be extended below
        document = tomlkit.parse(text)
        for kind, entries in tables.items():
            for name, entry in entries.items():
                table = document[kind]
                table[name] = _inline(entry) if isinstance(table, InlineTable) else entry
        return tomlkit.dumps(document)
    return appended


def _inline(table: Mapping[str, Any]) -> InlineTable:
    inline = tomlkit.inline_table()
    for key, value in table.items():
        inline[key] = _inline(value) if isinstance(value, Mapping) else value
    return inline


def remove_server(text: str, name: str) -> str:
    """Remove a server from the text of the file.

    Raises UsageError if the server does not exist, ConfigError if the TOML is invalid.
    """
    document, servers = _parse_servers(text)
    _require(servers, name)
    shortened = _without_table(text, name)
    del servers[name]
    expected = tomlkit.dumps(document)
    # tomlkit would also remove the comments below the table, which often belong to the next table.
    return shortened if _same_content(shortened, expected) else expected


def _table_path(line: str) -> tuple[str, ...]:
    """The keys of a table's header; empty for any other line."""
    header = _HEADER.match(line)
    return tuple(part.strip().strip("\"'") for part in header[1].split(".")) if header else ()


def _without_table(text: str, name: str) -> str:
    """Remove the lines of ``[servers.NAME]`` and its sub-tables; comments that follow them stay."""
    lines: list[str] = []
    pending: list[str] = []
    inside = False
    for line in text.splitlines(keepends=True):
        if path := _table_path(line):
            inside = path[:2] == ("servers", name)
            if inside:
                pending = []  # comments between two tables of this server
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
    """Whether both texts have the same content; an empty table of servers equals a missing one."""
    try:
        tables = [tomllib.loads(text) for text in (first, second)]
    except tomllib.TOMLDecodeError:
        return False
    return {**tables[0], "servers": tables[0].get("servers", {})} == {
        **tables[1],
        "servers": tables[1].get("servers", {}),
    }


def enable_server(text: str, name: str, enabled: bool) -> str:
    """Enable or disable a server. Raises UsageError if it does not exist, ConfigError if the TOML is invalid."""
    document, servers = _parse_servers(text)
    _require(servers, name)
    edited = _with_value(text, ("servers", name), "enabled", "true" if enabled else "false")
    servers[name]["enabled"] = enabled
    expected = tomlkit.dumps(document)
    # tomlkit would write a new key below the comments of the next table.
    return edited if _same_content(edited, expected) else expected


def _with_value(text: str, table: tuple[str, ...], key: str, value: str) -> str:
    """Set a key of a table to a boolean or a number: in its line, or in a new one below the header."""
    assignment = re.compile(rf"(\s*{re.escape(key)}\s*=\s*)[\w.]+")
    lines = text.splitlines(keepends=True)
    header = next((number for number, line in enumerate(lines) if _table_path(line) == table), None)
    if header is None:
        return text
    for number in range(header + 1, len(lines)):
        if _table_path(lines[number]):
            break
        if match := assignment.match(lines[number]):
            lines[number] = f"{match[1]}{value}{lines[number][match.end() :]}"
            return "".join(lines)
    if not lines[header].endswith("\n"):
        lines[header] += "\n"
    indent = lines[header][: len(lines[header]) - len(lines[header].lstrip())]
    lines.insert(header + 1, f"{indent}{key} = {value}\n")
    return "".join(lines)


def current_text(path: Path) -> str:
    """The text that ``update`` starts from. Raises ConfigError if the file cannot be read."""
    return read_raw_config(path).replace("\r\n", "\n") if path.exists() else starter_config()


def update(path: Path, change: Callable[[str], str]) -> None:
    """Apply ``change`` to the text of the config file, or to the starter config if the file does not exist.

    A byte order mark and the ends of the lines stay. Raises ConfigError if the file cannot be read or written or the
    new text is invalid, and any error of ``change``. On an error the file is unchanged.
    """
    if not path.exists():
        write(path, change(starter_config()))
        return
    original = read_raw_config(path)
    text = _keep_line_ends(original, change(original.replace("\r\n", "\n")))
    write(path, text, mark=_has_byte_order_mark(path))


def _has_byte_order_mark(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(len(codecs.BOM_UTF8)) == codecs.BOM_UTF8


def _keep_line_ends(original: str, edited: str) -> str:
    """The edited text with the line ends of the original; new lines get the end that most lines have."""
    if "\r\n" not in original:
        return edited
    old, new = original.splitlines(keepends=True), edited.splitlines(keepends=True)
    crlf = sum(line.endswith("\r\n") for line in old)
    end = "\r\n" if 2 * crlf >= len(old) else "\n"
    plain = [line.replace("\r\n", "\n") for line in old]
    # An edit is in one place: what is equal before and after it needs no comparison of all lines with all.
    first = next((n for n, (a, b) in enumerate(zip(plain, new, strict=False)) if a != b), min(len(plain), len(new)))
    rest = min(len(plain), len(new)) - first
    last = next((n for n in range(rest) if plain[-1 - n] != new[-1 - n]), rest)
    middle_old, middle_new = slice(first, len(old) - last), slice(first, len(new) - last)
    lines = old[:first]
    matcher = difflib.SequenceMatcher(None, plain[middle_old], new[middle_new], autojunk=False)
    for tag, i1, i2, j1, j2 in matcher.get_opcodes():
        equal, changed = old[middle_old][i1:i2], new[middle_new][j1:j2]
        lines += equal if tag == "equal" else [line.replace("\n", end) for line in changed]
    return "".join([*lines, *old[len(old) - last :]])


def write(path: Path, text: str, *, mark: bool = False) -> None:
    """Validate the text and replace the file atomically, with a byte order ``mark`` if it had one.

    Raises ConfigError if either fails, or if other users can change the file; the file is unchanged.
    """
    require_own_config(path)
    schema.parse(text.replace("\r\n", "\n"), str(path))
    target = path.resolve()  # a symbolic link stays a link
    try:
        _ensure_directory(target.parent)
        mode = target.stat().st_mode & 0o777 if target.exists() else 0o600
        descriptor, name = tempfile.mkstemp(dir=target.parent, prefix=".config-")
        temporary = Path(name)
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8-sig" if mark else "utf-8", newline="") as file:
                file.write(text)
            temporary.chmod(mode)
            temporary.replace(target)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise ConfigError(f"cannot write {path}: {error.strerror}") from error


def create(path: Path, text: str, schema_text: str) -> None:
    """Create the config file, and next to it the JSON Schema for editors. Only their owner can read them.

    Raises ConfigError if the config file exists or a file cannot be written, or if other users could change it.
    """
    require_own_config(path)
    try:
        _ensure_directory(path.parent)
        with os.fdopen(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise ConfigError(f"cannot write {path}: {error.strerror}", hint="choose another path with --config") from error
    schema_path = path.with_name("mcpchat.schema.json")
    try:
        schema_path.unlink(missing_ok=True)  # from an older version
        with os.fdopen(
            os.open(schema_path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w", encoding="utf-8"
        ) as file:
            file.write(schema_text)
    except OSError as error:
        raise ConfigError(f"cannot write {schema_path}: {error.strerror}") from error


def _ensure_directory(folder: Path) -> None:
    """Create the folder and its missing parents, closed to other users. Raises OSError if that fails."""
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
    return document, servers  # type: ignore[return-value]  # tomlkit has several table types with the same interface


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
