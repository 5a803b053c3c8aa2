"""Conversations that other clients export, as threads: ChatGPT, Claude, llm, and lists of messages of the APIs."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from mcpchat.core.messages import Message, Part, Text, ToolCall, ToolResult, result_text
from mcpchat.core.threads import Node, Record, Thread, title_of
from mcpchat.errors import UsageError
from mcpchat.util.structures import DEEPEST_RESULT, too_deep

_ROLES = {"human": "user", "user": "user", "assistant": "assistant", "model": "assistant", "tool": "tool"}


def threads(value: object) -> Iterator[tuple[Thread, list[Node]]]:
    """Each conversation of the decoded export. One that is empty is left out. Raises UsageError for what is none."""
    if too_deep(value, DEEPEST_RESULT):
        raise UsageError("this is nested too deeply to be an export of conversations", hint=_KNOWN)
    try:
        yield from _threads(value)
    except (TypeError, ValueError, AttributeError, KeyError, IndexError, OverflowError, RecursionError) as error:
        raise UsageError(f"a conversation cannot be read: {error}", hint=_KNOWN) from error


def _threads(value: object) -> Iterator[tuple[Thread, list[Node]]]:
    if isinstance(value, Mapping) and isinstance(value.get("messages"), list):
        yield from _some(_of_messages(value["messages"], str(value.get("title") or "")))
    elif isinstance(value, Mapping):
        yield from _some(_conversation(value))
    elif isinstance(value, list) and value and all(isinstance(one, Mapping) for one in value):
        if "role" in value[0] and "content" in value[0]:
            yield from _some(_of_messages(value, ""))
        elif "response" in value[0] and "prompt" in value[0]:
            yield from _of_llm(value)
        else:
            for one in value:
                yield from _some(_conversation(one))
    else:
        raise UsageError("this is no export of conversations that mcpchat knows", hint=_KNOWN)


_KNOWN = (
    "it reads its own (threads export -o json), conversations.json of ChatGPT and of Claude, llm logs --json, "
    "and lists of {role, content}"
)


def _some(made: tuple[Thread, list[Node]]) -> Iterator[tuple[Thread, list[Node]]]:
    if made[1]:
        yield made


def _conversation(value: Mapping[str, Any]) -> tuple[Thread, list[Node]]:
    if isinstance(value.get("mapping"), Mapping):
        return _of_chatgpt(value)
    if isinstance(value.get("chat_messages"), list):
        return _of_claude(value)
    raise UsageError("this is no export of conversations that mcpchat knows", hint=_KNOWN)


def _of_chatgpt(value: Mapping[str, Any]) -> tuple[Thread, list[Node]]:
    """A tree of nodes by their ids, some of which hold no message; ``current_node`` ends the branch in use."""
    mapping: Mapping[str, Any] = value["mapping"]
    numbers: dict[str, int] = {}
    nodes: list[Node] = []
    waiting = [key for key, one in mapping.items() if isinstance(one, Mapping) and one.get("parent") not in mapping]
    seen: set[str] = set()
    while waiting:
        key = waiting.pop(0)
        one = mapping.get(key)
        if key in seen or not isinstance(one, Mapping):
            continue
        seen.add(key)
        parent = numbers.get(str(one.get("parent")), 0)
        numbers[key] = parent
        said = one.get("message")
        message = _chatgpt_message(said) if isinstance(said, Mapping) else None
        if message is not None and isinstance(said, Mapping):
            numbers[key] = len(nodes) + 1
            about = said.get("metadata")
            model = str(about.get("model_slug") or "") if isinstance(about, Mapping) else ""
            record = Record(at=_seconds(said.get("create_time")), model=model)
            nodes.append(Node(number=numbers[key], parent=parent, message=message, record=record))
        waiting += [str(child) for child in one.get("children") or ()]
    head = numbers.get(str(value.get("current_node"))) or len(nodes)
    return _thread(value, value.get("conversation_id") or value.get("id"), nodes, head), nodes


def _chatgpt_message(said: Mapping[str, Any]) -> Message | None:
    author = said.get("author")
    role = _ROLES.get(str(author.get("role") if isinstance(author, Mapping) else ""))
    content = said.get("content")
    if role not in {"user", "assistant"} or not isinstance(content, Mapping):
        return None
    pieces = [_text_of(part) for part in content.get("parts") or ()] or [str(content.get("text") or "")]
    return _message(role, "\n".join(piece for piece in pieces if piece))


def _of_claude(value: Mapping[str, Any]) -> tuple[Thread, list[Node]]:
    nodes: list[Node] = []
    for said in value["chat_messages"]:
        if not isinstance(said, Mapping):
            continue
        pieces = [_text_of(part) for part in said.get("content") or () if isinstance(part, Mapping)]
        text = "\n".join(piece for piece in pieces if piece) or str(said.get("text") or "")
        for attached in said.get("attachments") or ():
            if isinstance(attached, Mapping) and attached.get("extracted_content"):
                text += f"\n\n[{attached.get('file_name') or 'attachment'}]\n{attached['extracted_content']}"
        message = _message(_ROLES.get(str(said.get("sender")), ""), text)
        if message is not None:
            nodes.append(_next(nodes, message, at=_seconds(said.get("created_at"))))
    return _thread(value, value.get("uuid"), nodes, len(nodes)), nodes


def _of_llm(rows: Sequence[Mapping[str, Any]]) -> Iterator[tuple[Thread, list[Node]]]:
    """Rows of one prompt and its response each, which belong together by their conversation."""
    together: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        together.setdefault(str(row.get("conversation_id") or row.get("id") or ""), []).append(row)
    for key, several in together.items():
        nodes: list[Node] = []
        for row in sorted(several, key=lambda row: str(row.get("datetime_utc") or "")):
            at, model = _seconds(row.get("datetime_utc")), str(row.get("model") or "")
            for role, text in (("user", row.get("prompt")), ("assistant", row.get("response"))):
                if (message := _message(role, str(text or ""))) is not None:
                    nodes.append(_next(nodes, message, at=at, model=model))
        about = {"title": next((row.get("conversation_name") for row in several if row.get("conversation_name")), "")}
        yield from _some((_thread(about, key, nodes, len(nodes)), nodes))


def _of_messages(messages: Sequence[Any], title: str) -> tuple[Thread, list[Node]]:
    """Messages as the chat APIs have them, calls of tools and their results included."""
    nodes: list[Node] = []
    for said in messages:
        if not isinstance(said, Mapping):
            raise UsageError("this is no list of messages", hint=_KNOWN)
        message = _api_message(said)
        if message is not None:
            nodes.append(_next(nodes, message))
    return _thread({"title": title}, None, nodes, len(nodes)), nodes


def _api_message(said: Mapping[str, Any]) -> Message | None:
    role, content = _ROLES.get(str(said.get("role")), ""), said.get("content")
    pieces = [content] if isinstance(content, str) else [_text_of(part) for part in content or ()]
    text = "\n".join(piece for piece in pieces if piece)
    if role == "tool":
        parts = (Text(text=text),) if text else ()
        return Message(role="tool", parts=(ToolResult(call_id=str(said.get("tool_call_id") or ""), parts=parts),))
    calls = tuple(_call(one) for one in said.get("tool_calls") or () if isinstance(one, Mapping))
    if role == "assistant" and calls:
        said_parts: tuple[Part, ...] = (Text(text=text),) if text else ()
        return Message(role="assistant", parts=(*said_parts, *calls))
    return _message(role, text)


def _call(one: Mapping[str, Any]) -> ToolCall:
    function = one.get("function")
    named = function if isinstance(function, Mapping) else {}
    arguments = named.get("arguments")
    text = arguments if isinstance(arguments, str) else json.dumps(arguments or {})
    try:
        valid = isinstance(json.loads(text), dict)
    except ValueError:
        valid = False
    return ToolCall(id=str(one.get("id") or ""), name=str(named.get("name") or ""), arguments=text if valid else "{}")


def _message(role: str, text: str) -> Message | None:
    if role not in {"user", "assistant"} or not text.strip():
        return None
    return Message(role="user" if role == "user" else "assistant", parts=(Text(text=text),))


def _text_of(part: object) -> str:
    if isinstance(part, str):
        return part
    if not isinstance(part, Mapping):
        return ""
    text = part.get("text")
    if isinstance(text, str):
        return text
    kind = str(part.get("content_type") or part.get("type") or "")
    return f"[{kind}]" if kind and kind not in {"thinking", "thoughts", "token_budget"} else ""


def _next(nodes: Sequence[Node], message: Message, *, at: float = 0.0, model: str = "") -> Node:
    return Node(number=len(nodes) + 1, parent=len(nodes), message=message, record=Record(at=at, model=model))


def _thread(about: Mapping[str, Any], key: object, nodes: Sequence[Node], head: int) -> Thread:
    """The thread of these nodes. Its id comes from theirs, so that what was imported once is known again."""
    of = str(key) if key else "\0".join(f"{node.message.role} {_said(node.message)}" for node in nodes)
    title = str(about.get("title") or about.get("name") or "")
    first = next((node.message.text for node in nodes if node.message.role == "user"), "")
    times = [node.record.at for node in nodes if node.record.at]
    return Thread(
        id=hashlib.sha256(f"imported {of}".encode(errors="replace")).hexdigest()[:32],
        title=title_of(title or first),
        named=bool(title),
        model=next((node.record.model for node in reversed(nodes) if node.record.model), ""),
        created=_seconds(about.get("create_time") or about.get("created_at")) or min(times, default=0.0),
        updated=_seconds(about.get("update_time") or about.get("updated_at")) or max(times, default=0.0),
        head=head,
        messages=len(nodes),
    )


def _said(message: Message) -> str:
    return message.text or "".join(result_text(result) for result in message.results)


def _seconds(value: object) -> float:
    """Seconds since 1970, of a number or a date as ISO 8601 has it; 0 for what is neither."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    try:
        return datetime.fromisoformat(str(value)).timestamp()
    except (ValueError, OverflowError, OSError):
        return 0.0
