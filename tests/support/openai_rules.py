"""The rules of both OpenAI APIs for a request's history, as strict as the strictest known server."""

import json
import re
from typing import Any

_NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")


def check_request(path: str, body: dict[str, Any]) -> None:
    """Raise AssertionError if the API would reject the request."""
    (check_chat if path.endswith("/chat/completions") else check_responses)(body)


def check_chat(body: dict[str, Any]) -> None:
    messages = body["messages"]
    roles = [message["role"] for message in messages]
    assert "system" not in roles[1:], f"a system message after the first position: {roles}"
    assert roles[-1] in {"user", "tool"}, f"the last message is not from the user or a tool: {roles}"
    seen: set[str] = set()
    pending: list[str] = []
    for message in messages:
        if message["role"] == "tool":
            assert pending, f"a result without a call: {message}"
            assert message["tool_call_id"] == pending.pop(0), f"results out of order: {message}"
            assert isinstance(message["content"], str)
            assert message["content"], "an empty result"
            continue
        assert not pending, f"calls {pending} have no result before {message['role']}"
        if message["role"] == "assistant":
            calls = message.get("tool_calls", [])
            assert message["content"] or calls, "an empty assistant message"
            for call in calls:
                assert call["id"], "an empty id"
                assert call["id"] not in seen, "a duplicate id"
                seen.add(call["id"])
                _check_call(call["function"])
            pending = [call["id"] for call in calls]
        else:
            assert message["content"], f"an empty {message['role']} message"
    assert not pending, f"calls {pending} have no result"


def check_responses(body: dict[str, Any]) -> None:
    assert body["store"] is False
    assert body["input"], "no input"
    seen: set[str] = set()
    pending: set[str] = set()
    previous = ""
    for item in body["input"]:
        item_type = item["type"]
        if previous == "reasoning":
            is_assistant_output = item_type in {"function_call", "reasoning"} or (
                item_type == "message" and item["role"] == "assistant"
            )
            assert is_assistant_output, f"a reasoning item without its output, before {item_type}"
        if item_type == "function_call":
            assert item["call_id"], "an empty id"
            assert item["call_id"] not in seen, "a duplicate id"
            seen.add(item["call_id"])
            pending.add(item["call_id"])
            _check_call(item)
        elif item_type == "function_call_output":
            assert item["call_id"] in pending, "a result without a call"
            pending.discard(item["call_id"])
            assert item["output"], "an empty result"
        elif item_type == "message":
            assert not pending or item["role"] == "assistant", f"calls {pending} have no result before {item}"
            assert item["content"], "an empty message"
        previous = item_type
    assert not pending, f"calls {pending} have no result"
    last = body["input"][-1]
    assert last["type"] == "function_call_output" or last.get("role") == "user", (
        "the last item is not from the user or a tool"
    )


def _check_call(call: dict[str, Any]) -> None:
    assert _NAME.fullmatch(call["name"]), f"an invalid tool name: {call['name']!r}"
    assert isinstance(json.loads(call["arguments"], parse_constant=_reject_constant), dict), (
        "the arguments are not an object"
    )


def _reject_constant(name: str) -> Any:
    raise AssertionError(f"{name} is not JSON")
