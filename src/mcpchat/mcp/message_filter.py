"""What goes over one connection, both ways: put right where servers err, and counted where they flood.

The SDK holds every answer against strict models, and drops the whole of it for one bad tool or one new kind of content.
So it is given a skeleton of each result, which cannot fail, with a ticket in its ``_meta``; the ticket gets the result
as the server sent it.
"""

import itertools
import json
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any

from mcp import types

from mcpchat.mcp.protocols import Change

TICKET = "mcpchat/ticket"
MOST_ITEMS = 10_000  # of one list
MOST_NESTED = 1_000_000  # objects and arrays in one message: a small text can stand for a large heap
_MOST_WAITING = 256  # results that nobody came for are thrown away at last
_PROTOCOL = "io.modelcontextprotocol/protocolVersion"
_BURST, _RATE = 50.0, 20.0  # notifications let through at once, and each second
LISTS = {
    "tools/list": "tools",
    "prompts/list": "prompts",
    "resources/list": "resources",
    "resources/templates/list": "resourceTemplates",
}
KEYS = {"resources/list": "uri", "resources/templates/list": "uriTemplate"}  # what names an entry; else its name
_EMPTY: dict[str, dict[str, Any]] = {
    "tools/call": {"content": []},
    "prompts/get": {"messages": []},
    "resources/read": {"contents": []},
    "completion/complete": {"completion": {"values": []}},
    "prompts/list": {"prompts": []},
    "resources/list": {"resources": []},
    "resources/templates/list": {"resourceTemplates": []},
}
_CAPABILITIES = ("experimental", "logging", "prompts", "resources", "tools", "completions", "extensions")
_CHANGES: dict[str, Change] = {
    "notifications/tools/list_changed": "tools",
    "notifications/prompts/list_changed": "prompts",
    "notifications/resources/list_changed": "resources",
    "notifications/resources/updated": "updated",
}


class Wire:
    """The messages of one connection. ``log`` gets the server's log messages, ``on_change`` its changes.

    ``revision``, where given, is the one that the handshake asks for.
    """

    def __init__(
        self, *, log: Callable[[str], None], on_change: Callable[[Change, str], None], revision: str = ""
    ) -> None:
        self._log = log
        self._on_change = on_change
        self._revision = revision
        self._asked: dict[str | int, tuple[str, bool]] = {}
        self._waiting: OrderedDict[int, dict[str, Any]] = OrderedDict()
        self._tickets = itertools.count(1)
        self._flow: dict[str, tuple[float, float]] = {}
        self.closed = False  # whether nothing more will come

    @property
    def open_requests(self) -> list[str | int]:
        """The ids of requests that have had no answer."""
        return list(self._asked)

    def take(self, meta: Mapping[str, Any] | None) -> dict[str, Any]:
        """The result that the ticket in ``meta`` stands for, as the server sent it."""
        return self._waiting.pop((meta or {}).get(TICKET, 0), {})

    def outgoing(self, message: types.JSONRPCMessage) -> None:
        """Note what is asked, before it is sent."""
        if isinstance(message, types.JSONRPCRequest):
            params = message.params or {}
            if message.method == "initialize" and self._revision:
                params["protocolVersion"] = self._revision
            self._asked[message.id] = message.method, _PROTOCOL in (params.get("_meta") or {})
        elif isinstance(message, types.JSONRPCNotification) and message.method == "notifications/cancelled":
            self._asked.pop((message.params or {}).get("requestId", ""), None)

    def incoming(self, message: types.JSONRPCMessage) -> types.JSONRPCMessage | None:
        """The message as the SDK may have it; None where it is dealt with, or one too many."""
        match message:
            case types.JSONRPCNotification():
                return self._notification(message)
            case types.JSONRPCError():
                if message.id is not None:
                    message.id = self._own_id(message.id)
                    self._asked.pop(message.id, None)
                return message
            case types.JSONRPCResponse():
                message.id = self._own_id(message.id)
                method, modern = self._asked.pop(message.id, ("", False))
                return self._response(message, method, modern)
            case types.JSONRPCRequest():
                # What is asked faster than anybody could answer stays unanswered.
                return message if self._flows("request") else None

    def _own_id(self, answered: str | int) -> str | int:
        """Our id that is meant: some servers give a number back as a text."""
        if answered not in self._asked and isinstance(answered, str) and answered.isdecimal():
            return int(answered)
        return answered

    def _notification(self, message: types.JSONRPCNotification) -> types.JSONRPCNotification | None:
        params = message.params or {}
        if message.method == "notifications/message":
            if self._flows("log"):
                self._log(_logged(params))
            return None
        if message.method == "notifications/progress":
            return message if self._flows(f"progress {params.get('progressToken')!r:.40}") else None
        if change := _CHANGES.get(message.method):
            if not self._flows(change):
                return None
            self._on_change(change, str(params.get("uri", "")))
        return message if self._flows("other") else None

    def _flows(self, kind: str) -> bool:
        """Whether one more notification of this kind is let through: a burst, then a steady few."""
        now = time.monotonic()
        if len(self._flow) > _MOST_WAITING:
            self._flow.clear()
        room, since = self._flow.get(kind, (_BURST, now))
        room = min(_BURST, room + (now - since) * _RATE)
        self._flow[kind] = (room - 1 if room >= 1 else room), now
        return room >= 1

    def _response(self, message: types.JSONRPCResponse, method: str, modern: bool) -> types.JSONRPCMessage:
        result = message.result
        if modern:
            kind = result.get("resultType", "complete")  # earlier servers do not say it
            if kind == "input_required":
                return message
            if kind != "complete":
                return refusal(
                    message.id, f"the server answered with a result of type {kind!r}, which nobody asked for"
                )
        skeleton = self._skeleton(method, result)
        if skeleton is None:
            message.result = {**result, "resultType": "complete"} if modern else result
            return message
        ticket = next(self._tickets)
        self._waiting[ticket] = result
        if len(self._waiting) > _MOST_WAITING:
            self._waiting.popitem(last=False)
        skeleton["_meta"] = {**_server_info(result), TICKET: ticket}
        if modern:
            skeleton |= {"resultType": "complete", "ttlMs": 0, "cacheScope": "private"}
        if method in LISTS and isinstance(cursor := result.get("nextCursor"), str):
            skeleton["nextCursor"] = cursor
        message.result = skeleton
        return message

    def _skeleton(self, method: str, result: dict[str, Any]) -> dict[str, Any] | None:
        """The least that the SDK must see of a result of this method; None where it sees all."""
        match method:
            case "tools/list":
                return {"tools": [_tool_skeleton(tool) for tool in usable(result, method)]}
            case "initialize":
                said = result.get("serverInfo")
                info = said if isinstance(said, dict) else {}
                return {
                    "protocolVersion": result.get("protocolVersion"),
                    "capabilities": _capabilities(result),
                    "serverInfo": {"name": str(info.get("name", "")), "version": str(info.get("version", ""))},
                }
            case "server/discover":
                return {
                    "supportedVersions": result.get("supportedVersions"),
                    "capabilities": _capabilities(result),
                }
            case _:
                return dict(_EMPTY[method]) if method in _EMPTY else None


def parsed(value: object) -> list[types.JSONRPCMessage]:
    """The messages in a JSON value: one, or a batch as old servers send; what is none is left out."""
    if isinstance(value, list):
        return [message for one in value if not isinstance(one, list) for message in parsed(one)]
    if not isinstance(value, dict):
        return []
    number, method = value.get("id"), value.get("method")
    known = isinstance(number, str | int) and not isinstance(number, bool)
    params = value.get("params")
    if isinstance(method, str):
        params = params if isinstance(params, dict) else None
        if known:
            return [types.JSONRPCRequest.model_construct(jsonrpc="2.0", id=number, method=method, params=params)]
        return [types.JSONRPCNotification.model_construct(jsonrpc="2.0", method=method, params=params)]
    if not known:
        return []
    assert isinstance(number, str | int)
    if "error" in value:
        error = value["error"] if isinstance(value["error"], dict) else {"message": str(value["error"])}
        code = error.get("code")
        return [
            refusal(
                number,
                str(error.get("message", "")),
                code=code if isinstance(code, int) else types.INTERNAL_ERROR,
                data=error.get("data"),
            )
        ]
    if isinstance(value.get("result"), dict):
        return [types.JSONRPCResponse.model_construct(jsonrpc="2.0", id=number, result=value["result"])]
    return [refusal(number, "the server answered without a result")] if "result" in value else []


def refusal(
    number: str | int, message: str, *, code: int = types.INTERNAL_ERROR, data: object = None
) -> types.JSONRPCError:
    """An error as the answer to our request of this id."""
    return types.JSONRPCError(jsonrpc="2.0", id=number, error=types.ErrorData(code=code, message=message, data=data))


def usable(result: Mapping[str, Any], method: str) -> list[dict[str, Any]]:
    """The entries of a list result that can be worked with, at most as many as anybody can want."""
    found = result.get(LISTS[method])
    if not isinstance(found, list):
        return []
    key = KEYS.get(method, "name")
    return [
        entry
        for entry in found[:MOST_ITEMS]
        if isinstance(entry, dict)
        and isinstance(entry.get(key), str)
        and entry[key]
        and (method != "tools/list" or isinstance(entry.get("inputSchema", {}), dict | bool))
    ]


def length(result: Mapping[str, Any], method: str) -> int:
    """How many entries the server listed, usable or not."""
    found = result.get(LISTS[method])
    return len(found) if isinstance(found, list) else 0


def _tool_skeleton(tool: Mapping[str, Any]) -> dict[str, Any]:
    """The name, and the schema where it says which arguments are mirrored in headers."""
    schema = tool.get("inputSchema")
    seen = schema if isinstance(schema, dict) and "x-mcp-header" in json.dumps(schema) else {}
    return {"name": tool["name"], "inputSchema": {**seen, "type": "object"}}


def _capabilities(result: Mapping[str, Any]) -> dict[str, Any]:
    said = result.get("capabilities")
    return {name: {} for name in _CAPABILITIES if isinstance(said, dict) and isinstance(said.get(name), dict)}


def _server_info(result: Mapping[str, Any]) -> dict[str, Any]:
    """The only other thing that the SDK reads from a result's ``_meta``."""
    key = "io.modelcontextprotocol/serverInfo"
    meta = result.get("_meta")
    return {key: meta[key]} if isinstance(meta, dict) and isinstance(meta.get(key), dict) else {}


def _logged(params: Mapping[str, Any]) -> str:
    data = params.get("data")
    text = data if isinstance(data, str) else json.dumps(data, ensure_ascii=False)
    logger = params.get("logger")
    return f"[{params.get('level', 'info')}] {f'{logger}: ' if isinstance(logger, str) else ''}{text}"[:10_000]
