"""The ids of our requests: shifts them, so that no request of a session has the id of an earlier command's."""

from collections.abc import Mapping
from typing import Any, TypeVar

from mcp import types

_T = TypeVar("_T", types.JSONRPCRequest, types.JSONRPCNotification)


def shift_ids(message: types.JSONRPCMessage, offset: int, *, incoming: bool) -> types.JSONRPCMessage:
    """The message with ``offset`` added to each id and progress token of our requests. The server's own ids stay.

    An incoming message names our requests in responses and in progress; an outgoing one in requests and cancellations.
    """
    if not offset:
        return message
    params: Mapping[str, Any] = getattr(message, "params", None) or {}
    match message:
        case types.JSONRPCResponse() | types.JSONRPCError() if incoming:
            return message.model_copy(update={"id": _shift(message.id, offset)})
        case types.JSONRPCNotification(method="notifications/progress") if incoming:
            return _with_params(message, {**params, "progressToken": _shift(params.get("progressToken"), offset)})
        case types.JSONRPCNotification(method="notifications/cancelled") if not incoming:
            return _with_params(message, {**params, "requestId": _shift(params.get("requestId"), offset)})
        case types.JSONRPCRequest() if not incoming:
            meta = params.get("_meta")
            if isinstance(meta, dict) and "progressToken" in meta:
                params = {**params, "_meta": {**meta, "progressToken": _shift(meta["progressToken"], offset)}}
            shifted = message.model_copy(update={"id": _shift(message.id, offset)})
            return _with_params(shifted, params) if message.params is not None else shifted
    return message


def _with_params(message: _T, params: Mapping[str, Any]) -> _T:
    return message.model_copy(update={"params": dict(params)})


def _shift(value: Any, offset: int) -> Any:
    """The id plus the offset. Some servers return a number as a string."""
    if isinstance(value, str) and value.isdecimal():
        value = int(value)
    return value + offset if isinstance(value, int) and not isinstance(value, bool) else value
