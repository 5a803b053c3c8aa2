"""Reads server entries in the JSON of other MCP clients."""

import json
import re
from typing import Any

from mcpchat.errors import UsageError

_TABLES = ("mcpServers", "servers", "mcp", "context_servers")  # the keys that other clients use
_VARIABLE = re.compile(r"\$\{(?:env:)?(\w+)\}")
_HINT = 'an entry looks like {"command": "npx", "args": ["-y", "PACKAGE"]} or {"url": "https://..."}'


def read_foreign_entry(text: str, name: str) -> dict[str, Any]:
    """The settings of the server in a client's JSON: an entry, or a table of entries with one or one of this name.

    Raises UsageError if it is no such JSON.
    """
    try:
        value = json.loads(text if text.lstrip().startswith("{") else f"{{{text}}}")
    except json.JSONDecodeError as error:
        raise UsageError(f"the JSON is not valid from character {error.pos + 1} on", hint=_HINT) from error
    except RecursionError as error:
        raise UsageError("the JSON is nested too deeply", hint=_HINT) from error
    for table in _TABLES:
        if isinstance(value, dict) and isinstance(value.get(table), dict):
            value = value[table]
            break
    if isinstance(value, dict) and not {"command", "url", "serverUrl", "httpUrl"} & value.keys():
        entries = {key: entry for key, entry in value.items() if isinstance(entry, dict)}
        if name not in entries and len(entries) != 1:
            raise UsageError(f"the JSON has the servers {', '.join(entries) or 'none'}: name one of them", hint=_HINT)
        value = entries.get(name) or next(iter(entries.values()))
    return _convert(value)


def _convert(entry: Any) -> dict[str, Any]:
    if not isinstance(entry, dict):
        raise UsageError("the JSON is no server entry", hint=_HINT)
    settings: dict[str, Any] = {}
    command, url = entry.get("command"), entry.get("url") or entry.get("serverUrl") or entry.get("httpUrl")
    if isinstance(command, list) and command:  # some clients have the whole command line there
        settings |= {"command": str(command[0]), "args": [str(word) for word in command[1:]]}
    elif isinstance(command, str):
        settings["command"] = command
        if isinstance(entry.get("args"), list) and entry["args"]:
            settings["args"] = [str(word) for word in entry["args"]]
    elif isinstance(url, str):
        settings["url"] = url
        if entry.get("type") == "sse" or entry.get("transport") == "sse":
            settings["transport"] = "sse"
    else:
        raise UsageError("the JSON has neither command nor url", hint=_HINT)
    for key, target in (("env", "env"), ("environment", "env"), ("headers", "headers")):
        if isinstance(entry.get(key), dict) and entry[key]:
            settings[target] = {str(name): _VARIABLE.sub(r"env:\1", str(value)) for name, value in entry[key].items()}
    if isinstance(entry.get("cwd"), str):
        settings["cwd"] = entry["cwd"]
    return settings
