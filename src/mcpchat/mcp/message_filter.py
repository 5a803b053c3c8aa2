"""Filters the messages of one connection, both ways: repairs server errors and limits the rate of notifications.

The SDK validates every result strictly and drops all of it for one malformed tool or one unknown content type. So the
SDK gets a minimal result that always validates, with a ticket in its ``_meta``. ``take_result`` exchanges the ticket
for the result as the server sent it.
"""

import itertools
import json
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any

from mcp import types

from mcpchat.mcp.protocols import ChangeKind

RESULT_TICKET = "mcpchat/ticket"
MAX_LIST_ITEMS = 10_000  # entries of one list
_MAX_PENDING = 256  # results that wait for take_result; older ones are discarded
_PROTOCOL_VERSION_KEY = "io.modelcontextprotocol/protocolVersion"
_BURST, _RATE = 50.0, 20.0  # notifications allowed at once, and per second after that
LIST_FIELDS = {
    "tools/list": "tools",
    "prompts/list": "prompts",
    "resources/list": "resources",
    "resources/templates/list": "resourceTemplates",
}
# The field that identifies an entry; "name" for the other lists.
ID_FIELDS = {"resources/list": "uri", "resources/templates/list": "uriTemplate"}
_EMPTY_RESULTS: dict[str, dict[str, Any]] = {
    "tools/call": {"content": []},
    "prompts/get": {"messages": []},
    "resources/read": {"contents": []},
    "completion/complete": {"completion": {"values": []}},
    "tasks/get": {},
    "tasks/result": {},
    "tasks/update": {},
    "tasks/cancel": {},
    "prompts/list": {"prompts": []},
    "resources/list": {"resources": []},
    "resources/templates/list": {"resourceTemplates": []},
}
_ASKING_METHODS = {"tools/call", "prompts/get", "resources/read"}  # whose results may ask for input first
_CAPABILITIES = ("experimental", "logging", "prompts", "resources", "tools", "completions", "extensions")
_CHANGE_KINDS: dict[str, ChangeKind] = {
    "notifications/tools/list_changed": "tools",
    "notifications/prompts/list_changed": "prompts",
    "notifications/resources/list_changed": "resources",
    "notifications/resources/updated": "updated",
}


class MessageFilter:
    """The filter for one connection. ``on_log`` receives the server's log messages, ``on_change`` its changes.

    Transports call ``on_partial`` when a part of a message has arrived.
    ``revision`` is the protocol revision that the handshake requests; empty for the SDK's own.
    """

    def __init__(
        self,
        *,
        on_log: Callable[[str], None],
        on_change: Callable[[ChangeKind, str], None],
        on_partial: Callable[[], None],
        revision: str = "",
    ) -> None:
        self.on_partial = on_partial
        self._on_log = on_log
        self._on_change = on_change
        self._revision = revision
        self._open_requests: dict[str | int, tuple[str, bool]] = {}
        self._results: OrderedDict[int, dict[str, Any]] = OrderedDict()
        self._is_stateless = False  # whether our latest request was of a stateless revision
        self._tickets = itertools.count(1)
        self._buckets: dict[str, tuple[float, float]] = {}
        self.closed = False  # whether the server's messages have ended

    @property
    def open_requests(self) -> list[str | int]:
        """The ids of our requests that have no answer yet."""
        return list(self._open_requests)

    def take_result(self, meta: Mapping[str, Any] | None) -> dict[str, Any]:
        """The result as the server sent it, by the ticket in ``meta``. Empty if there is none; each works once."""
        ticket = (meta or {}).get(RESULT_TICKET)
        return self._results.pop(ticket, {}) if isinstance(ticket, int) else {}

    def record_outgoing(self, message: types.JSONRPCMessage) -> None:
        """Remember a request before it is sent, and set the revision in the handshake."""
        if isinstance(message, types.JSONRPCRequest):
            params = message.params or {}
            if message.method == "initialize" and self._revision:
                params["protocolVersion"] = self._revision
            self._is_stateless = _PROTOCOL_VERSION_KEY in (params.get("_meta") or {})
            self._open_requests[message.id] = message.method, self._is_stateless
        elif isinstance(message, types.JSONRPCNotification) and message.method == "notifications/cancelled":
            self._open_requests.pop((message.params or {}).get("requestId", ""), None)

    def filter_incoming(self, message: types.JSONRPCMessage) -> types.JSONRPCMessage | None:
        """The message for the SDK; None if it needs no further handling or exceeds the rate limit."""
        match message:
            case types.JSONRPCNotification():
                return self._filter_notification(message)
            case types.JSONRPCError():
                if message.id is not None:
                    message.id = self._match_request_id(message.id)
                    self._open_requests.pop(message.id, None)
                return message
            case types.JSONRPCResponse():
                message.id = self._match_request_id(message.id)
                method, stateless = self._open_requests.pop(message.id, ("", False))
                return self._filter_response(message, method, stateless)
            case types.JSONRPCRequest():
                # A server of the stateless revisions sends no requests, and must get no answer. Requests over the rate
                # limit are not answered either.
                return None if self._is_stateless or not self._within_rate("request") else message

    def _match_request_id(self, response_id: str | int) -> str | int:
        """The id of our request: some servers return a number as a string."""
        if response_id not in self._open_requests and isinstance(response_id, str) and response_id.isdecimal():
            return int(response_id)
        return response_id

    def _filter_notification(self, message: types.JSONRPCNotification) -> types.JSONRPCNotification | None:
        params = message.params or {}
        if message.method == "notifications/message":
            if self._within_rate("log"):
                self._on_log(_format_log_message(params))
            return None
        if message.method == "notifications/progress":
            return message if self._within_rate(f"progress {params.get('progressToken')!r:.40}") else None
        if change := _CHANGE_KINDS.get(message.method):
            if not self._within_rate(change):
                return None
            self._on_change(change, str(params.get("uri", "")))
        return message if self._within_rate("other") else None

    def _within_rate(self, kind: str) -> bool:
        """Whether one more message of this kind is within the rate limit: a burst, then a steady rate."""
        now = time.monotonic()
        if len(self._buckets) > _MAX_PENDING:
            self._buckets.clear()
        tokens, updated_at = self._buckets.get(kind, (_BURST, now))
        tokens = min(_BURST, tokens + (now - updated_at) * _RATE)
        self._buckets[kind] = (tokens - 1 if tokens >= 1 else tokens), now
        return tokens >= 1

    def _filter_response(self, message: types.JSONRPCResponse, method: str, stateless: bool) -> types.JSONRPCMessage:
        result = message.result
        if stateless:
            kind = result.get("resultType", "complete")  # older servers leave it out
            if kind == "input_required" and method in _ASKING_METHODS:
                return _without_ticket(message)
            if kind == "task" and method == "tools/call":
                message.result = {"resultType": kind, "_meta": {RESULT_TICKET: self._keep(result)}}
                return message
            if kind != "complete":
                return error_response(
                    message.id, f"the server answered with a result of type {kind!r}, which was not requested"
                )
        minimal = self._minimal_result(method, result)
        if minimal is None:
            message.result = {**result, "resultType": "complete"} if stateless else result
            return _without_ticket(message)
        minimal["_meta"] = {**_server_info_meta(result), RESULT_TICKET: self._keep(result)}
        if stateless:
            minimal |= {"resultType": "complete", "ttlMs": 0, "cacheScope": "private"}
        if method in LIST_FIELDS and isinstance(cursor := result.get("nextCursor"), str):
            minimal["nextCursor"] = cursor
        message.result = minimal
        return message

    def _keep(self, result: dict[str, Any]) -> int:
        """Keep a result for ``take_result``; return its ticket."""
        ticket = next(self._tickets)
        self._results[ticket] = result
        if len(self._results) > _MAX_PENDING:
            self._results.popitem(last=False)
        return ticket

    def _minimal_result(self, method: str, result: dict[str, Any]) -> dict[str, Any] | None:
        """The minimal result of this method for the SDK; None if the SDK gets the whole result."""
        match method:
            case "tools/list":
                return {"tools": [_minimal_tool(tool) for tool in valid_entries(result, method)]}
            case "initialize":
                value = result.get("serverInfo")
                info = value if isinstance(value, dict) else {}
                return {
                    "protocolVersion": result.get("protocolVersion"),
                    "capabilities": _minimal_capabilities(result),
                    "serverInfo": {"name": str(info.get("name", "")), "version": str(info.get("version", ""))},
                }
            case "server/discover":
                return {
                    "supportedVersions": result.get("supportedVersions"),
                    "capabilities": _minimal_capabilities(result),
                }
            case _:
                return dict(_EMPTY_RESULTS[method]) if method in _EMPTY_RESULTS else None


def _without_ticket(message: types.JSONRPCResponse) -> types.JSONRPCResponse:
    """The message without a ticket of the server's own: tickets are ours."""
    meta = message.result.get("_meta")
    if isinstance(meta, dict) and RESULT_TICKET in meta:
        meta = {key: value for key, value in meta.items() if key != RESULT_TICKET}
        message.result = {**message.result, "_meta": meta}
    return message


def parse_messages(value: object) -> list[types.JSONRPCMessage]:
    """The messages in a JSON value: one, or a batch from an old server. Anything else is left out."""
    if isinstance(value, list):
        return [message for item in value if not isinstance(item, list) for message in parse_messages(item)]
    if not isinstance(value, dict):
        return []
    request_id, method = value.get("id"), value.get("method")
    has_id = isinstance(request_id, str | int) and not isinstance(request_id, bool)
    params = value.get("params")
    if isinstance(method, str):
        params = params if isinstance(params, dict) else None
        if has_id:
            return [types.JSONRPCRequest.model_construct(jsonrpc="2.0", id=request_id, method=method, params=params)]
        return [types.JSONRPCNotification.model_construct(jsonrpc="2.0", method=method, params=params)]
    if not has_id:
        return []
    assert isinstance(request_id, str | int)
    if "error" in value:
        error = value["error"] if isinstance(value["error"], dict) else {"message": str(value["error"])}
        code = error.get("code")
        return [
            error_response(
                request_id,
                str(error.get("message", "")),
                code=code if isinstance(code, int) else types.INTERNAL_ERROR,
                data=error.get("data"),
            )
        ]
    if isinstance(value.get("result"), dict):
        return [types.JSONRPCResponse.model_construct(jsonrpc="2.0", id=request_id, result=value["result"])]
    return [error_response(request_id, "the server answered without a result")] if "result" in value else []


def error_response(
    request_id: str | int, message: str, *, code: int = types.INTERNAL_ERROR, data: object = None
) -> types.JSONRPCError:
    """An error response to our request with this id."""
    return types.JSONRPCError(
        jsonrpc="2.0", id=request_id, error=types.ErrorData(code=code, message=message, data=data)
    )


def valid_entries(result: Mapping[str, Any], method: str) -> list[dict[str, Any]]:
    """The usable entries of a list result, at most MAX_LIST_ITEMS."""
    return [entry for entry in _entries(result, method)[:MAX_LIST_ITEMS] if not _find_problem(entry, method)]


def describe_invalid_entries(result: Mapping[str, Any], method: str) -> list[str]:
    """The name and the reason of each entry that cannot be used."""
    entries = _entries(result, method)
    key = ID_FIELDS.get(method, "name")
    descriptions = []
    for number, entry in enumerate(entries):
        if problem := "too many" if number >= MAX_LIST_ITEMS else _find_problem(entry, method):
            name = entry.get(key) if isinstance(entry, dict) else None
            descriptions.append(f"{name if isinstance(name, str) and name else f'number {number + 1}'} ({problem})")
    return descriptions


def _entries(result: Mapping[str, Any], method: str) -> list[Any]:
    entries = result.get(LIST_FIELDS[method])
    return entries if isinstance(entries, list) else []


def _find_problem(entry: object, method: str) -> str:
    """Why an entry of a list cannot be used; empty if it can."""
    key = ID_FIELDS.get(method, "name")
    if not isinstance(entry, dict):
        return "no object"
    if not isinstance(entry.get(key), str) or not entry[key]:
        return f"no {key}"
    if method == "tools/list" and not isinstance(entry.get("inputSchema", {}), dict | bool):
        return "its inputSchema is no schema"
    return ""


def _minimal_tool(tool: Mapping[str, Any]) -> dict[str, Any]:
    """The name, and the schema if it says which arguments are mirrored in headers."""
    schema = tool.get("inputSchema")
    minimal_schema = schema if isinstance(schema, dict) and "x-mcp-header" in json.dumps(schema) else {}
    return {"name": tool["name"], "inputSchema": {**minimal_schema, "type": "object"}}


def _minimal_capabilities(result: Mapping[str, Any]) -> dict[str, Any]:
    capabilities = result.get("capabilities")
    return {
        name: {}
        for name in _CAPABILITIES
        if isinstance(capabilities, dict) and isinstance(capabilities.get(name), dict)
    }


def _server_info_meta(result: Mapping[str, Any]) -> dict[str, Any]:
    """The server's description, the only other value that the SDK reads from a result's ``_meta``."""
    key = "io.modelcontextprotocol/serverInfo"
    meta = result.get("_meta")
    return {key: meta[key]} if isinstance(meta, dict) and isinstance(meta.get(key), dict) else {}


def _format_log_message(params: Mapping[str, Any]) -> str:
    data = params.get("data")
    text = data if isinstance(data, str) else json.dumps(data, ensure_ascii=False)
    logger = params.get("logger")
    return f"[{params.get('level', 'info')}] {f'{logger}: ' if isinstance(logger, str) else ''}{text}"[:10_000]
