"""The ids of requests in a session that goes on."""

from typing import Any

import pytest
from mcp import types

from mcpchat.mcp.message_filter import parse_messages
from mcpchat.mcp.request_ids import shift_ids


def parse(**message: Any) -> types.JSONRPCMessage:
    (parsed,) = parse_messages({"jsonrpc": "2.0", **message})
    return parsed


def dump(message: types.JSONRPCMessage) -> dict[str, Any]:
    return message.model_dump(exclude_none=True, exclude={"jsonrpc"})


@pytest.mark.parametrize(
    ("sent", "shifted"),
    [
        ({"id": 3, "method": "ping"}, {"id": 1003, "method": "ping"}),
        (
            {"id": 3, "method": "tools/call", "params": {"name": "go", "_meta": {"progressToken": 3, "x": 3}}},
            {"id": 1003, "method": "tools/call", "params": {"name": "go", "_meta": {"progressToken": 1003, "x": 3}}},
        ),
        (
            {"method": "notifications/cancelled", "params": {"requestId": 3, "reason": "late"}},
            {"method": "notifications/cancelled", "params": {"requestId": 1003, "reason": "late"}},
        ),
        ({"id": 3, "result": {}}, {"id": 3, "result": {}}),  # our answer to the server's request
    ],
)
def test_outgoing_messages(sent: dict[str, Any], shifted: dict[str, Any]) -> None:
    message = parse(**sent)
    assert dump(shift_ids(message, 1000, incoming=False)) == shifted
    assert dump(message) == sent


@pytest.mark.parametrize(
    ("received", "shifted"),
    [
        ({"id": 1003, "result": {"id": 1003}}, {"id": 3, "result": {"id": 1003}}),
        ({"id": "1003", "result": {}}, {"id": 3, "result": {}}),
        ({"id": 1003, "error": {"code": 1, "message": "no"}}, {"id": 3, "error": {"code": 1, "message": "no"}}),
        (
            {"method": "notifications/progress", "params": {"progressToken": 1003, "progress": 1}},
            {"method": "notifications/progress", "params": {"progressToken": 3, "progress": 1}},
        ),
        ({"id": 1003, "method": "ping"}, {"id": 1003, "method": "ping"}),  # the server's own
        (
            {"method": "notifications/cancelled", "params": {"requestId": 1003}},
            {"method": "notifications/cancelled", "params": {"requestId": 1003}},
        ),
    ],
)
def test_incoming_messages(received: dict[str, Any], shifted: dict[str, Any]) -> None:
    assert dump(shift_ids(parse(**received), -1000, incoming=True)) == shifted
