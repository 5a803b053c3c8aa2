"""Reads server entries in the config files of other MCP clients: JSON, also with comments, and TOML."""

import json
import re
import tomllib
from collections.abc import Mapping
from typing import Any

from mcpchat.errors import UsageError

# The tables of servers in the files of other clients.
_TABLES = ("mcpServers", "servers", "mcp_servers", "mcp", "context_servers", "extensions")
_VARIABLE = re.compile(r"\$\{(?:env:)?(\w+)\}|\$(\w+)")
_WITH_DEFAULT = re.compile(r"\$\{(?:env:)?(?P<name>\w+)(?P<default>:-[^}]*)?\}")
_LONE_SURROGATE = re.compile(r"\\ud[89a-f]")  # as repr writes it
_HINT = 'an entry looks like {"command": "npx", "args": ["-y", "PACKAGE"]} or {"url": "https://..."}'


def read_foreign_entry(text: str, name: str) -> dict[str, Any]:
    """The settings of the server in a client's JSON: an entry, or a table of entries with one or one of this name.

    Raises UsageError if it is no such JSON.
    """
    value = find_entries(parse_foreign(text if text.lstrip().startswith("{") else f"{{{text}}}"))
    if isinstance(value, dict) and not _is_entry(value):
        entries = {key: entry for key, entry in value.items() if isinstance(entry, dict)}
        if name not in entries and len(entries) != 1:
            raise UsageError(f"the JSON has the servers {', '.join(entries) or 'none'}: name one of them", hint=_HINT)
        value = entries.get(name) or next(iter(entries.values()))
    return convert_entry(value)


def read_foreign_entries(text: str, environ: Mapping[str, str] | None) -> dict[str, dict[str, Any]]:
    """The settings of every server in a client's file, by name.

    Variables in command lines and addresses are those of ``environ``; without it they are refused.

    Raises UsageError if the text is no such file, or an entry cannot be used.
    """
    value = find_entries(parse_foreign(text))
    if not isinstance(value, dict) or _is_entry(value) or not all(isinstance(item, dict) for item in value.values()):
        raise UsageError('the file has no servers: expected a table "mcpServers" of entries by name', hint=_HINT)
    entries: dict[str, dict[str, Any]] = {}
    for name, entry in value.items():
        try:
            entries[name] = convert_entry(entry if environ is None else _expand(entry, environ))
        except UsageError as error:
            raise UsageError(f"{name}: {error.message}", hint=error.hint) from error
    return entries


def parse_foreign(text: str) -> Any:
    """The value of the text, which is JSON, JSON with comments and trailing commas, or TOML. Raises UsageError."""
    try:
        return json.loads(text.removeprefix("\ufeff"))
    except json.JSONDecodeError as error:
        problem = UsageError(f"the JSON is not valid from character {error.pos + 1} on", hint=_HINT)
    except RecursionError as error:
        raise UsageError("the JSON is nested too deeply", hint=_HINT) from error
    if not text.lstrip().startswith(("{", "/")):
        try:
            return tomllib.loads(text)
        except (ValueError, RecursionError):
            raise problem from None
    import json5  # slow, and needed for comments and trailing commas only

    try:
        return json5.loads(text)
    except (ValueError, RecursionError):
        raise problem from None


def find_entries(value: Any) -> Any:
    """The table of servers in a client's file; the value itself if it has none."""
    for _ in range(2):  # VS Code's settings have "mcp": {"servers": {...}}
        tables = (value[table] for table in _TABLES if isinstance(value, dict) and isinstance(value.get(table), dict))
        value = next(tables, value)
    return value


def _is_entry(value: Mapping[str, Any]) -> bool:
    return any(isinstance(value.get(key), str | list) for key in ("command", "cmd", "url", "serverUrl", "httpUrl"))


def _expand(value: Any, environ: Mapping[str, str]) -> Any:
    """The entry with its variables replaced in what cannot be a reference: command, arguments, address."""
    if not isinstance(value, dict):
        return value

    def fill(match: re.Match[str]) -> str:
        default = match["default"]
        if match["name"] not in environ and default is None:
            raise UsageError(f"the environment variable {match['name']} is not set", hint=f"export {match['name']}=...")
        return environ.get(match["name"]) or (default or ":-")[2:]

    def fill_all(item: Any) -> Any:
        if isinstance(item, list):
            return [fill_all(inner) for inner in item]
        return _WITH_DEFAULT.sub(fill, item) if isinstance(item, str) else item

    return {key: item if isinstance(item, dict) else fill_all(item) for key, item in value.items()}


def convert_entry(entry: Any) -> dict[str, Any]:
    """Our settings for an entry of another client. Raises UsageError for what mcpchat cannot do."""
    if not isinstance(entry, dict):
        raise UsageError("the JSON is no server entry", hint=_HINT)
    settings = _convert_transport(entry)
    for key, target in (
        ("env", "env"),
        ("environment", "env"),
        ("envs", "env"),
        ("headers", "headers"),
        ("http_headers", "headers"),
    ):
        if isinstance(entry.get(key), dict) and entry[key]:
            values = {str(name): convert_variables(str(value), f"{key}.{name}") for name, value in entry[key].items()}
            settings[target] = settings.get(target, {}) | values
    variables = entry.get("env_http_headers")
    named = {str(name): f"env:{value}" for name, value in variables.items()} if isinstance(variables, dict) else {}
    if isinstance(token := entry.get("bearer_token_env_var"), str):
        named["Authorization"] = f"Bearer env:{token}"
    if named:
        settings["headers"] = settings.get("headers", {}) | named
    if isinstance(entry.get("cwd"), str):
        settings["cwd"] = entry["cwd"]
    if entry.get("disabled") is True or entry.get("enabled") is False:
        settings["enabled"] = False
    if _LONE_SURROGATE.search(repr(settings)):
        raise UsageError("the entry has characters that are no text")
    return settings


def _convert_transport(entry: Mapping[str, Any]) -> dict[str, Any]:
    command = entry.get("command") or entry.get("cmd")
    url = next((entry[key] for key in ("httpUrl", "serverUrl", "url", "uri") if isinstance(entry.get(key), str)), None)
    args = [str(word) for word in entry["args"]] if isinstance(entry.get("args"), list) else []
    if isinstance(command, dict):  # Zed: the path, its arguments and variables within
        inner = command.get("args")
        args, command = [str(word) for word in inner] if isinstance(inner, list) else [], command.get("path")
    if isinstance(command, list) and command:  # some clients have the whole command line there
        command, args = str(command[0]), [str(word) for word in command[1:]]
    if isinstance(command, str):
        for word in (command, *args):
            if _WITH_DEFAULT.search(word):
                raise UsageError(f"{word}: a command line takes no variables", hint="write the value itself")
        return {"command": command, **({"args": args} if args else {})}
    if url is None:
        raise UsageError("the JSON has neither command nor url", hint=_HINT)
    if _WITH_DEFAULT.search(url):
        raise UsageError(f"{url}: an address takes no variables", hint="write the value itself")
    is_sse = "sse" in {entry.get("type"), entry.get("transport")}
    return {"url": url, **({"transport": "sse"} if is_sse else {})}


def convert_variables(value: str, key: str) -> str:
    """A value with our references in place of variables: ``${X}``, ``${env:X}`` and ``$X`` become ``env:X``.

    Raises UsageError if a variable is only a part of the value.
    """
    prefix, rest = ("Bearer ", value[7:]) if value.startswith("Bearer ") else ("", value)
    if rest.startswith(("keyring:", "cmd:")):  # a text for that client, which would be a reference for us
        raise UsageError(f"{key}: another client's entry cannot use your keyring or run commands")
    if whole := _VARIABLE.fullmatch(rest):
        return f"{prefix}env:{whole[1] or whole[2]}"
    if _WITH_DEFAULT.search(rest) or "${input:" in rest:
        raise UsageError(
            f'{key}: expected a variable alone, or "Bearer" and a variable', hint="write env:NAME or keyring:NAME"
        )
    return value
