"""Our settings for one server entry of another MCP client."""

import os
import re
import shlex
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import Any

from mcpchat.errors import UsageError

URL_KEYS = ("httpUrl", "serverUrl", "url", "uri")
HINT = 'an entry looks like {"command": "npx", "args": ["-y", "PACKAGE"]} or {"url": "https://..."}'
_VARIABLE = re.compile(r"\$\{(?:env:)?(?P<name>[A-Za-z_]\w*)(?P<default>:-[^{}]{0,2000})?\}")
_BARE_VARIABLE = re.compile(r"\$([A-Z_][A-Z0-9_]*)")
_ANY_VARIABLE = re.compile(r"\$\{[^{}]{0,200}\}")
_INPUT = re.compile(r"\$\{input:([^{}]{1,200})\}")
_FILE = re.compile(r"\{file:[^{}]{1,500}\}")
_MAX_TEXT = 32_768  # characters of one value
_OPENCODE_VARIABLE = re.compile(r"(?<!\$)\{env:(\w+)\}")
_FOLDER_VARIABLE = re.compile(r"\$\{(workspaceFolder|workspaceRoot|userHome|pathSeparator|/)\}")
_LONE_SURROGATE = re.compile(r"\\ud[89a-f]")  # as repr writes it
_NO_NAME = re.compile(r"[^A-Za-z0-9_.-]+")
_UNKNOWN_TYPES = frozenset({"ws", "websocket", "tcp", "inline_python"})


@dataclass(frozen=True)
class Surroundings:
    """What the variables in an entry stand for.

    ``folder`` is the project of the file, if it belongs to one, and ``environ`` the environment whose values command
    lines and addresses get; without it such variables are refused. ``is_set`` tells whether a variable with a default
    is set, and so is referred to.
    """

    environ: Mapping[str, str] | None = None
    folder: Path | None = None
    inputs: Mapping[str, str] = field(default_factory=dict)
    is_set: Callable[[str], bool] = lambda name: False


class Conversion:
    """Converts one entry. Its methods raise UsageError for what mcpchat cannot do."""

    def __init__(self, surroundings: Surroundings) -> None:
        self._surroundings = surroundings
        self._secrets: dict[str, str] = {}

    def convert(self, entry: Any) -> tuple[dict[str, Any], dict[str, str]]:
        """Our settings for the entry, and the secrets that they refer to and the client asks for or keeps."""
        if not isinstance(entry, dict):
            raise UsageError("the JSON is no server entry", hint=HINT)
        entry = _without_bridge(entry)
        if "headersHelper" in entry:
            raise UsageError("its headers come from a program", hint='write "cmd:PROGRAM ARGS" as the header')
        if "envFile" in entry:
            raise UsageError(f"its variables are in a file, {entry['envFile']}", hint="write them into env")
        settings = self._convert_transport(entry)
        for key, value in (
            ("env", self._convert_env(entry)),
            ("headers", self._convert_headers(entry)),
            ("env_pass", _passed_variables(entry)),
            ("cwd", self._fill(entry["cwd"], "cwd") if isinstance(entry.get("cwd"), str) else ""),
            *self._convert_client(entry).items(),
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

    def _convert_client(self, entry: Mapping[str, Any]) -> dict[str, str]:
        """The client's id and secret at the authorization server of a remote server."""
        tables = [table for table in (entry.get("oauth"), entry.get("auth")) if isinstance(table, dict)]
        values = {key.lower().replace("_", ""): value for table in tables for key, value in table.items()}
        client_id, secret = values.get("clientid"), values.get("clientsecret")
        if not isinstance(client_id, str):
            return {}
        _check_reference(client_id, "client_id")
        if _ANY_VARIABLE.search(client_id) or _OPENCODE_VARIABLE.search(client_id):
            raise UsageError("client_id takes no variables", hint="write the value itself")
        if not secret:
            return {"client_id": client_id}
        return {"client_id": client_id, "client_secret": self._add_secret("client-secret", "the client's secret")}

    def _convert_transport(self, entry: Mapping[str, Any]) -> dict[str, Any]:
        if str(entry.get("type")) in _UNKNOWN_TYPES or entry.get("tcp"):
            raise UsageError(f"mcpchat has no transport {entry.get('type') or 'tcp'}")
        command = entry.get("command") or entry.get("cmd")
        url = next((entry[key] for key in URL_KEYS if isinstance(entry.get(key), str)), None)
        args = _list_of_texts(entry.get("args"))
        if isinstance(command, dict):  # Zed: the path, its arguments and variables within
            args, command = _list_of_texts(command.get("args")), command.get("path")
        if isinstance(command, list) and command:  # some clients have the whole command line there
            command, args = str(command[0]), [str(word) for word in command[1:]]
        if isinstance(command, str):
            if not args and " " in command and not _is_program(command):  # the whole command line in one text
                command, *args = _split(command)
            command, *args = (self._fill(word, "a command line") for word in (command, *args))
            folder = self._surroundings.folder
            if folder is not None and command.startswith(("./", "../")) and "cwd" not in entry:
                command = os.path.normpath(folder / command)
            return {"command": command, **({"args": args} if args else {}), **_find_cwd(folder, args)}
        if url is None:
            if entry.get("source") == "extension" or "settings" in entry:
                raise UsageError("it is an extension of that client")
            raise UsageError("the JSON has neither command nor url", hint=HINT)
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
                if value is None:
                    continue
                if not isinstance(value, str | int | float):
                    raise UsageError(f"{table}.{name}: expected a text")
                text = str(value).lower() if isinstance(value, bool) else str(value)
                if converted := self._convert_value(text, f"{table}.{name}"):
                    found[str(name)] = converted
        return found

    def _convert_value(self, value: str, key: str) -> str:
        """The value with our references: ``${X}``, ``${env:X}``, ``$X`` are ``env:X``, an input is ``keyring:NAME``."""
        _check_length(value, key)
        value = self._fill_folders(_OPENCODE_VARIABLE.sub(r"${env:\1}", value))
        if unknown := _FOLDER_VARIABLE.search(value):
            raise UsageError(f"{key}: {unknown[0]} has no meaning here", hint="write the folder itself")
        prefix, rest = ("Bearer ", value[7:]) if value.startswith("Bearer ") else ("", value)
        if bare := _BARE_VARIABLE.fullmatch(rest):
            return f"{prefix}env:{bare[1]}"
        if asked := _INPUT.fullmatch(rest):
            return prefix + self._add_secret(asked[1], self._surroundings.inputs.get(asked[1], asked[1]))
        if variable := _VARIABLE.fullmatch(rest):
            if variable["default"] is None or self._is_set(variable["name"]):
                return f"{prefix}env:{variable['name']}"
            rest = variable["default"][2:]
            value = f"{prefix}{rest}" if rest else ""
            _check_reference(value, key)
        _check_reference(rest, key)
        if _VARIABLE.search(rest) or _INPUT.search(rest):
            raise UsageError(
                f'{key}: expected a variable alone, or "Bearer" and a variable', hint="write env:NAME or keyring:NAME"
            )
        if unknown := _ANY_VARIABLE.search(rest):
            raise UsageError(f"{key}: {unknown[0]} has no meaning here", hint="write the value itself")
        if _FILE.search(rest):
            raise UsageError(f"{key}: its value is in a file", hint='write "cmd:cat FILE"')
        return value

    def _is_set(self, variable: str) -> bool:
        return bool((self._surroundings.environ or {}).get(variable)) or self._surroundings.is_set(variable)

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
        _check_length(text, what)
        environ = self._surroundings.environ

        def fill(match: re.Match[str]) -> str:
            name, default = match["name"], match["default"]
            if environ is None and default is None:
                raise UsageError(f"{match[0]}: {what} takes no variables", hint="write the value itself")
            if environ is not None and name not in environ and default is None:
                raise UsageError(f"the environment variable {name} is not set", hint=f"export {name}=...")
            return (environ or {}).get(name) or (default or ":-")[2:]

        if asked := _INPUT.search(text):
            raise UsageError(f"{asked[0]}: {what} takes no question to the user", hint="write the value itself")
        filled = _VARIABLE.sub(fill, self._fill_folders(_OPENCODE_VARIABLE.sub(r"${env:\1}", text)))
        if unknown := _ANY_VARIABLE.search(filled):
            raise UsageError(f"{unknown[0]}: {what} takes no variables", hint="write the value itself")
        return filled


def _check_length(text: str, what: str) -> None:
    if len(text) > _MAX_TEXT:
        raise UsageError(f"{what}: longer than {_MAX_TEXT:,} characters")


def _check_reference(text: str, key: str) -> None:
    """Raise UsageError for a text of that client that would be a reference for us."""
    while text.startswith("Bearer "):
        text = text[7:]
    if text.startswith(("keyring:", "cmd:")):
        raise UsageError(f"{key}: another client's entry cannot use your keyring or run commands")


def _passed_variables(entry: Mapping[str, Any]) -> list[str]:
    """Codex's names of variables to pass on; some are tables with a ``name``."""
    items = entry.get("env_vars")
    names = [item.get("name") if isinstance(item, dict) else item for item in items] if isinstance(items, list) else []
    return [name for name in names if isinstance(name, str)]


def _is_program(command: str) -> bool:
    return shutil.which(command) is not None or _exists(Path(command))


def _split(text: str) -> list[str]:
    try:
        return shlex.split(text) or [text]
    except ValueError:
        return [text]


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
        elif option.isdigit() or option in ("--debug", "--silent", "--allow-http"):
            continue  # how that program itself runs
        elif option == "--host" and rest:
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
