"""Servers in the config files of other MCP clients: JSON, also with comments, TOML and YAML."""

import json
import os
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePath
from typing import Any

from msgspec import Struct

from mcpchat.errors import UsageError
from mcpchat.util.text_files import read_text

# The tables of servers in the files of other clients.
_TABLES = ("mcpServers", "servers", "mcp_servers", "mcp", "context_servers", "extensions")
_URL_KEYS = ("httpUrl", "serverUrl", "url", "uri")
_KEY = re.compile(rf"""["'\s]({"|".join((*_TABLES, "command", "cmd", *_URL_KEYS))})["']?\s*:""")
_VARIABLE = re.compile(r"\$\{(?:env:)?(?P<name>\w+)(?P<default>:-[^}]*)?\}")
_WHOLE_VARIABLE = re.compile(r"\$\{(?:env:)?(\w+)\}|\$([A-Za-z_]\w*)")
_INPUT = re.compile(r"\$\{input:([^}]+)\}")
_FILE = re.compile(r"\{file:[^}]+\}")
_OPENCODE_VARIABLE = re.compile(r"(?<!\$)\{env:(\w+)\}")
_FOLDER_VARIABLE = re.compile(r"\$\{(workspaceFolder|workspaceRoot|userHome|pathSeparator|/)\}")
_LONE_SURROGATE = re.compile(r"\\ud[89a-f]")  # as repr writes it
_NO_NAME = re.compile(r"[^A-Za-z0-9_.-]+")
MAX_BYTES = 10_000_000
_HINT = 'an entry looks like {"command": "npx", "args": ["-y", "PACKAGE"]} or {"url": "https://..."}'
_UNKNOWN_TYPES = frozenset({"ws", "websocket", "tcp", "inline_python"})
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


@dataclass(frozen=True)
class Surroundings:
    """What the variables in an entry stand for.

    ``folder`` is the project of the file, if it belongs to one, and ``environ`` the environment whose values command
    lines and addresses get; without it such variables are refused.
    """

    environ: Mapping[str, str] | None = None
    folder: Path | None = None
    inputs: Mapping[str, str] = field(default_factory=dict)


def read_client_file(path: Path, surroundings: Surroundings) -> list[ClientServer]:
    """Every server in the file at ``path``. Raises UsageError if it cannot be read or has none."""
    servers = read_client_servers(read_text(path, max_bytes=MAX_BYTES, error=UsageError), surroundings)
    if not servers:
        raise UsageError('the file has no servers: expected a table "mcpServers" of entries by name', hint=_HINT)
    return servers


def read_client_servers(text: str, surroundings: Surroundings = Surroundings()) -> list[ClientServer]:
    """Every server in a client's file, also those that cannot be used. Raises UsageError if it cannot be read."""
    if text.lstrip().startswith(("{", "/")) and not _KEY.search(text):
        return []  # the client's other settings: with comments they may be long, and slow to read
    value = parse_client_file(text)
    described = replace(surroundings, inputs=_find_inputs(value))
    return [
        _read_entry(name, entry, described)
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
        settings, secrets = _Conversion(name, surroundings).convert(entry)
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
            raise UsageError(f"the JSON has the servers {', '.join(entries) or 'none'}: name one of them", hint=_HINT)
        value = entries.get(name) or next(iter(entries.values()))
    settings, secrets = _Conversion(name, Surroundings()).convert(value)
    if secrets:
        raise UsageError(
            f"{', '.join(secrets)}: what a client asks for is not known here", hint="write env:NAME or keyring:NAME"
        )
    return settings


def parse_client_file(text: str) -> Any:
    """The value of the text: JSON, JSON with comments and trailing commas, TOML or YAML. Raises UsageError."""
    try:
        return json.loads(text.removeprefix("\ufeff"))
    except json.JSONDecodeError as error:
        problem = UsageError(f"the JSON is not valid from character {error.pos + 1} on", hint=_HINT)
    except RecursionError as error:
        raise UsageError("the JSON is nested too deeply", hint=_HINT) from error
    if not text.lstrip().startswith(("{", "/")):
        value = _parse_toml(text)
        value = _parse_yaml(text) if value is None else value
        if isinstance(value, dict):
            return value
        raise problem
    import json5  # slow, and needed for comments and trailing commas only

    try:
        return json5.loads(text)
    except (ValueError, RecursionError):
        raise problem from None


def _parse_toml(text: str) -> Any:
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError):
        return None


def _parse_yaml(text: str) -> Any:
    import yaml

    try:
        return yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError):
        return None


def find_entries(value: Any) -> Any:
    """The table of servers in a client's file; the value itself if it has none."""
    for _ in range(2):  # VS Code's settings have "mcp": {"servers": {...}}
        tables = (value[table] for table in _TABLES if isinstance(value, dict) and isinstance(value.get(table), dict))
        value = next(tables, value)
    return value


def _is_entry(value: Any) -> bool:
    keys = ("command", "cmd", *_URL_KEYS)
    return isinstance(value, dict) and any(isinstance(value.get(key), str | list) for key in keys)


class _Conversion:
    """Converts one entry. Its methods raise UsageError for what mcpchat cannot do."""

    def __init__(self, name: str, surroundings: Surroundings) -> None:
        self._name = name
        self._surroundings = surroundings
        self._secrets: dict[str, str] = {}

    def convert(self, entry: Any) -> tuple[dict[str, Any], dict[str, str]]:
        """Our settings for the entry, and the secrets that they refer to and the client asks for or keeps."""
        if not isinstance(entry, dict):
            raise UsageError("the JSON is no server entry", hint=_HINT)
        entry = _without_bridge(entry)
        if "headersHelper" in entry:
            raise UsageError("its headers come from a program", hint='write "cmd:PROGRAM ARGS" as the header')
        if "envFile" in entry:
            raise UsageError(f"its variables are in a file, {entry['envFile']}", hint="write them into env")
        settings = self._convert_transport(entry)
        for key, value in (
            ("env", self._convert_env(entry)),
            ("headers", self._convert_headers(entry)),
            ("env_pass", [str(name) for name in _list_of_texts(entry.get("env_vars"))]),
            ("cwd", self._fill(entry["cwd"], "cwd") if isinstance(entry.get("cwd"), str) else ""),
            ("client_id", _find_client_id(entry)),
            ("tools", _list_of_texts(entry.get("includeTools") or entry.get("enabled_tools") or _tools(entry))),
            (
                "exclude",
                _list_of_texts(entry.get("excludeTools") or entry.get("disabled_tools") or entry.get("disabledTools")),
            ),
            ("timeouts", _convert_timeouts(entry)),
        ):
            if value:
                settings[key] = value
        if entry.get("disabled") is True or entry.get("enabled") is False:
            settings["enabled"] = False
        if _LONE_SURROGATE.search(repr(settings)):
            raise UsageError("the entry has characters that are no text")
        return settings, self._secrets

    def _convert_transport(self, entry: Mapping[str, Any]) -> dict[str, Any]:
        if str(entry.get("type")) in _UNKNOWN_TYPES or entry.get("tcp"):
            raise UsageError(f"mcpchat has no transport {entry.get('type') or 'tcp'}")
        command = entry.get("command") or entry.get("cmd")
        url = next((entry[key] for key in _URL_KEYS if isinstance(entry.get(key), str)), None)
        args = _list_of_texts(entry.get("args"))
        if isinstance(command, dict):  # Zed: the path, its arguments and variables within
            args, command = _list_of_texts(command.get("args")), command.get("path")
        if isinstance(command, list) and command:  # some clients have the whole command line there
            command, args = str(command[0]), [str(word) for word in command[1:]]
        if isinstance(command, str):
            command, *args = (self._fill(word, "a command line") for word in (command, *args))
            folder = self._surroundings.folder
            if folder is not None and command.startswith(("./", "../")) and "cwd" not in entry:
                command = os.path.normpath(folder / command)
            return {"command": command, **({"args": args} if args else {}), **_find_cwd(folder, args)}
        if url is None:
            if entry.get("source") == "extension" or "settings" in entry:
                raise UsageError("it is an extension of that client")
            raise UsageError("the JSON has neither command nor url", hint=_HINT)
        kind = entry.get("type") or entry.get("transport")
        is_sse = kind == "sse" or (kind is None and "httpUrl" not in entry and url.rstrip("/").endswith("/sse"))
        return {"url": self._fill(url, "an address"), **({"transport": "sse"} if is_sse else {})}

    def _convert_env(self, entry: Mapping[str, Any]) -> dict[str, str]:
        command = entry.get("command")
        inner = command.get("env") if isinstance(command, dict) else None
        env = self._convert_values("env", inner, entry.get("env"), entry.get("environment"), entry.get("envs"))
        for key in _list_of_texts(entry.get("env_keys")):  # goose keeps these itself
            env[key] = self._add_secret(key, f"{key}, which goose keeps itself")
        return env

    def _convert_headers(self, entry: Mapping[str, Any]) -> dict[str, str]:
        headers = self._convert_values("headers", entry.get("headers"), entry.get("http_headers"))
        variables = entry.get("env_http_headers")
        for name, value in variables.items() if isinstance(variables, dict) else ():
            headers[str(name)] = f"env:{value}"
        if isinstance(token := entry.get("bearer_token_env_var"), str):
            headers["Authorization"] = f"Bearer env:{token}"
        return headers

    def _convert_values(self, table: str, *tables: Any) -> dict[str, str]:
        found: dict[str, str] = {}
        for values in tables:
            for name, value in values.items() if isinstance(values, dict) else ():
                if value is not None:
                    text = str(value).lower() if isinstance(value, bool) else str(value)
                    found[str(name)] = self._convert_value(text, f"{table}.{name}")
        return found

    def _convert_value(self, value: str, key: str) -> str:
        """The value with our references: ``${X}``, ``${env:X}``, ``$X`` are ``env:X``, an input is ``keyring:NAME``."""
        value = self._fill_folders(_OPENCODE_VARIABLE.sub(r"${env:\1}", value))
        if unknown := _FOLDER_VARIABLE.search(value):
            raise UsageError(f"{key}: {unknown[0]} has no meaning here", hint="write the folder itself")
        prefix, rest = ("Bearer ", value[7:]) if value.startswith("Bearer ") else ("", value)
        if rest.startswith(("keyring:", "cmd:")):  # a text for that client, which would be a reference for us
            raise UsageError(f"{key}: another client's entry cannot use your keyring or run commands")
        if whole := _WHOLE_VARIABLE.fullmatch(rest):
            return f"{prefix}env:{whole[1] or whole[2]}"
        if asked := _INPUT.fullmatch(rest):
            return prefix + self._add_secret(asked[1], self._surroundings.inputs.get(asked[1], asked[1]))
        environ = self._surroundings.environ or {}
        if (variable := _VARIABLE.fullmatch(rest)) and variable["default"] is not None:
            is_set = bool(environ.get(variable["name"]))
            return prefix + (f"env:{variable['name']}" if is_set else variable["default"][2:])
        if _VARIABLE.search(rest) or _INPUT.search(rest):
            raise UsageError(
                f'{key}: expected a variable alone, or "Bearer" and a variable', hint="write env:NAME or keyring:NAME"
            )
        if _FILE.search(rest):
            raise UsageError(f"{key}: its value is in a file", hint='write "cmd:cat FILE"')
        return value

    def _add_secret(self, text: str, description: str) -> str:
        name = _NO_NAME.sub("-", text).strip("-").lower() or "secret"
        self._secrets[name] = description
        return f"keyring:{name}"

    def _fill_folders(self, text: str) -> str:
        values = {"userHome": str(Path.home()), "pathSeparator": "/", "/": "/"}
        if self._surroundings.folder is not None:
            values |= dict.fromkeys(("workspaceFolder", "workspaceRoot"), str(self._surroundings.folder))
        return _FOLDER_VARIABLE.sub(lambda match: values.get(match[1], match[0]), text)

    def _fill(self, text: str, what: str) -> str:
        """Replace the variables of a text that takes no references: a part of a command line, or an address."""
        environ = self._surroundings.environ

        def fill(match: re.Match[str]) -> str:
            default = match["default"]
            if environ is None and default is None:
                raise UsageError(f"{text}: {what} takes no variables", hint="write the value itself")
            if environ is not None and match["name"] not in environ and default is None:
                name = match["name"]
                raise UsageError(f"the environment variable {name} is not set", hint=f"export {name}=...")
            return (environ or {}).get(match["name"]) or (default or ":-")[2:]

        if _INPUT.search(text):
            raise UsageError(f"{text}: {what} takes no question to the user", hint="write the value itself")
        return _VARIABLE.sub(fill, self._fill_folders(_OPENCODE_VARIABLE.sub(r"${env:\1}", text)))


def _find_cwd(folder: Path | None, args: Sequence[str]) -> dict[str, str]:
    """The working folder of a program: its project's, if an argument names a file there."""
    named = [word for word in args if not PurePath(word).is_absolute() and (PurePath(word).suffix or "/" in word)]
    return {"cwd": str(folder)} if folder is not None and any(_exists(folder / word) for word in named) else {}


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):
        return False


def _list_of_texts(value: Any) -> list[str]:
    return [str(item) for item in value] if isinstance(value, list) else []


def _tools(entry: Mapping[str, Any]) -> Any:
    """Copilot's list of tools; it lists all as "*"."""
    tools = entry.get("tools")
    return tools if isinstance(tools, list) and "*" not in tools else None


def _find_client_id(entry: Mapping[str, Any]) -> str:
    for table in (entry.get("oauth"), entry.get("auth")):
        for key in ("clientId", "client_id", "CLIENT_ID"):
            if isinstance(table, dict) and isinstance(table.get(key), str):
                return str(table[key])
    return ""


def _convert_timeouts(entry: Mapping[str, Any]) -> dict[str, float]:
    """Codex's limits, in seconds. Those of others are left out: their units differ."""
    limits = {"start": entry.get("startup_timeout_sec"), "call": entry.get("tool_timeout_sec")}
    return {
        key: value
        for key, value in limits.items()
        if isinstance(value, int | float) and value > 0 and value is not True
    }


def _without_bridge(entry: dict[str, Any]) -> dict[str, Any]:
    """An entry that reaches a remote server through the program mcp-remote, as one of the server itself."""
    args = [arg for arg in _list_of_texts(entry.get("args")) if arg not in ("-y", "--yes")]
    if entry.get("command") != "npx" or len(args) < 2 or not re.fullmatch(r"mcp-remote(@[\w.^~-]+)?", args[0]):
        return entry
    url, *rest = args[1:]
    values = entry["env"] if isinstance(entry.get("env"), dict) else {}
    headers: dict[str, str] = {}
    kind = {}
    while rest:
        option, *rest = rest
        if option == "--header" and rest and (header := re.fullmatch(r"([\w-]+):\s*(.+)", rest[0])):
            headers[header[1]] = _VARIABLE.sub(lambda match: str(values.get(match["name"], match[0])), header[2])
            rest = rest[1:]
        elif option == "--transport" and rest and rest[0] in ("http-only", "http-first", "sse-only", "sse-first"):
            kind = {"type": rest[0].partition("-")[0]}
            rest = rest[1:]
        else:
            return entry  # mcpchat has no such option
    if not url.startswith(("https://", "http://")):
        return entry
    kept = {key: value for key, value in entry.items() if key not in ("type", "command", "args", "env", "cwd")}
    return {**kept, "url": url, **kind, "headers": headers}
