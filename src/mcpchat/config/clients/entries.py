"""Servers in the config files of other MCP clients: JSON, also with comments, TOML and YAML."""

import json
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from msgspec import Struct

from mcpchat.config.clients.conversion import HINT, URL_KEYS, Conversion, Surroundings
from mcpchat.errors import UsageError
from mcpchat.util.text_files import read_text

# The tables of servers in the files of other clients.
_TABLES = ("mcpServers", "servers", "mcp_servers", "mcp", "context_servers", "extensions")
MAX_BYTES = 10_000_000
_MAX_SERVERS = 500
_APPROVALS = ("alwaysAllow", "autoApprove", "trust")  # the user decided this for that client, not for mcpchat
_OWN_PARTS = frozenset({"builtin", "platform", "frontend"})  # of goose: parts of the client itself


class ClientServer(Struct, frozen=True, kw_only=True):
    """A server as a client's file has it: our ``settings`` for it, or the ``problem`` why there are none.

    ``secrets`` has the names of the secrets that the settings refer to and the client asks for or keeps itself, each
    with what the client says of it. ``omitted`` has keys of the entry that mcpchat leaves out.
    """

    name: str
    settings: dict[str, Any] = {}
    problem: str = ""
    hint: str = ""
    secrets: dict[str, str] = {}
    omitted: tuple[str, ...] = ()


def read_client_file(path: Path, surroundings: Surroundings) -> list[ClientServer]:
    """Every server in the file at ``path``. Raises UsageError if it cannot be read or has none."""
    text = read_text(path, max_bytes=MAX_BYTES, error=UsageError)
    servers = read_client_servers(text, surroundings, path.suffix)
    if not servers:
        raise UsageError('the file has no servers: expected a table "mcpServers" of entries by name', hint=HINT)
    return servers


def read_client_servers(text: str, surroundings: Surroundings, suffix: str = ".json") -> list[ClientServer]:
    """Every server in a client's file, also those that cannot be used. ``suffix`` is that of the file.

    Raises UsageError if it cannot be read.
    """
    value = parse_client_file(text, suffix)
    if len(_find_table(value)) > _MAX_SERVERS:
        raise UsageError(f"the file has more than {_MAX_SERVERS} servers")
    described = replace(surroundings, inputs=_find_inputs(value))
    return [
        _read_entry(str(name), entry, described)
        for name, entry in (*_find_table(value).items(), *_folder_entries(value, surroundings.folder))
        if isinstance(entry, dict) and not _is_own_part(entry)
    ]


def _is_own_part(entry: Mapping[str, Any]) -> bool:
    return str(entry.get("type")) in _OWN_PARTS or ("bundled" in entry and not _is_entry(entry))


def _find_table(value: Any) -> dict[str, Any]:
    """The table of servers in the value of a client's file; empty if it has none."""
    entries = find_entries(value)
    if not isinstance(entries, dict) or _is_entry(entries):
        return {}
    return entries if entries is not value or any(map(_is_entry, entries.values())) else {}


def _folder_entries(value: Any, folder: Path | None) -> Iterator[tuple[str, dict[str, Any]]]:
    """The servers that Claude Code has for one folder only."""
    projects = value.get("projects") if isinstance(value, dict) else None
    project = projects.get(str(folder)) if isinstance(projects, dict) else None
    entries = project.get("mcpServers") if isinstance(project, dict) else None
    for name, entry in entries.items() if isinstance(entries, dict) else ():
        if isinstance(entry, dict):
            yield name, entry


def _find_inputs(value: Any) -> dict[str, str]:
    """What VS Code asks for: the text of each question by its id."""
    tables = (value, value.get("mcp")) if isinstance(value, dict) else ()
    lists = [table.get("inputs") for table in tables if isinstance(table, dict)]
    return {
        str(item["id"]): str(item.get("description") or item["id"])
        for items in lists
        for item in (items if isinstance(items, list) else ())
        if isinstance(item, dict) and "id" in item
    }


def _read_entry(name: str, entry: dict[str, Any], surroundings: Surroundings) -> ClientServer:
    try:
        settings, secrets = Conversion(surroundings).convert(entry)
    except UsageError as error:
        return ClientServer(name=name, problem=error.message, hint=error.hint)
    omitted = tuple(key for key in _APPROVALS if entry.get(key))
    return ClientServer(name=name, settings=settings, secrets=secrets, omitted=omitted)


def read_client_entry(text: str, name: str) -> dict[str, Any]:
    """The settings of the server in a client's JSON: an entry, or a table of entries with one or one of this name.

    Raises UsageError if it is no such JSON.
    """
    value = find_entries(parse_client_file(text if text.lstrip().startswith("{") else f"{{{text}}}"))
    if isinstance(value, dict) and not _is_entry(value):
        entries = {key: entry for key, entry in value.items() if isinstance(entry, dict)}
        if name not in entries and len(entries) != 1:
            raise UsageError(f"the JSON has the servers {', '.join(entries) or 'none'}: name one of them", hint=HINT)
        value = entries.get(name) or next(iter(entries.values()))
    settings, secrets = Conversion(Surroundings()).convert(value)
    if secrets:
        raise UsageError(
            f"{', '.join(secrets)}: what a client asks for is not known here", hint="write env:NAME or keyring:NAME"
        )
    return settings


def parse_client_file(text: str, suffix: str = ".json") -> Any:
    """The value of the text: TOML or YAML by the file's suffix, else JSON, also with comments. Raises UsageError."""
    if suffix == ".toml":
        return _parse_toml(text)
    if suffix in (".yaml", ".yml"):
        return _parse_yaml(text)
    return _parse_json(text)


def _parse_json(text: str) -> Any:
    import pyjson5  # fast; it knows comments, trailing commas and single quotes

    try:
        return json.loads(text.removeprefix("\ufeff"))
    except RecursionError as error:
        raise UsageError("the JSON is nested too deeply", hint=HINT) from error
    except json.JSONDecodeError as error:
        problem = UsageError(f"the JSON is not valid from character {error.pos + 1} on", hint=HINT)
    except ValueError as error:
        raise UsageError("the JSON has a number that is too long", hint=HINT) from error
    try:
        return pyjson5.decode(text)
    except (pyjson5.Json5Exception, ValueError):
        raise problem from None


def _parse_toml(text: str) -> Any:
    try:
        return tomllib.loads(text.removeprefix("\ufeff"))
    except (ValueError, RecursionError) as error:
        raise UsageError(f"the TOML is not valid: {error}") from error


def _parse_yaml(text: str) -> Any:
    import yaml

    try:
        return yaml.safe_load(text)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark is not None else 1
        raise UsageError(f"the YAML is not valid in line {line}") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise UsageError("the YAML is not valid") from error


def find_entries(value: Any) -> Any:
    """The table of servers in a client's file; the value itself if it has none."""
    if not isinstance(value, dict):
        return value
    name = next((name for name in _TABLES if isinstance(value.get(name), dict) and not _is_entry(value[name])), None)
    if name is None:
        return value
    inner = value[name].get("servers") if name == "mcp" else None  # VS Code's settings have "mcp": {"servers": {...}}
    return inner if isinstance(inner, dict) and not _is_entry(inner) else value[name]


def _is_entry(value: Any) -> bool:
    keys = ("command", "cmd", *URL_KEYS)
    return isinstance(value, dict) and any(isinstance(value.get(key), str | list) for key in keys)
