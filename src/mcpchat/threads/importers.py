"""Importers for other clients' exports: ChatGPT, Claude, llm, and message lists of the chat APIs."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from mcpchat.core.messages import Message, Part, Text, ToolCall, ToolResult, result_text
from mcpchat.core.threads import MessageMetadata, Thread, ThreadMessage, derive_title
from mcpchat.errors import UsageError
from mcpchat.util.structures import MAX_RESULT_DEPTH, exceeds_depth

_ROLES = {"human": "user", "user": "user", "assistant": "assistant", "model": "assistant", "tool": "tool"}


def import_conversations(value: object) -> Iterator[tuple[Thread, list[ThreadMessage]]]:
    """Yield a thread and its messages for each conversation of a decoded export; empty conversations are left out.

    Raises UsageError if the format is unknown or a conversation cannot be read.
    """
    if exceeds_depth(value, MAX_RESULT_DEPTH):
        raise UsageError("not an export of conversations: it is nested too deeply", hint=_SUPPORTED_FORMATS)
    try:
        yield from _iter_conversations(value)
    except (TypeError, ValueError, AttributeError, KeyError, IndexError, OverflowError, RecursionError) as error:
        raise UsageError(f"a conversation cannot be read: {error}", hint=_SUPPORTED_FORMATS) from error


def _iter_conversations(value: object) -> Iterator[tuple[Thread, list[ThreadMessage]]]:
    if isinstance(value, Mapping) and isinstance(value.get("messages"), list):
        yield from _skip_empty(_parse_messages(value["messages"], str(value.get("title") or "")))
    elif isinstance(value, Mapping):
        yield from _skip_empty(_parse_conversation(value))
    elif isinstance(value, list) and value and all(isinstance(item, Mapping) for item in value):
        if "role" in value[0] and "content" in value[0]:
            yield from _skip_empty(_parse_messages(value, ""))
        elif "response" in value[0] and "prompt" in value[0]:
            yield from _parse_llm(value)
        else:
            for item in value:
                yield from _skip_empty(_parse_conversation(item))
    else:
        raise UsageError("not an export of conversations that mcpchat can read", hint=_SUPPORTED_FORMATS)


_SUPPORTED_FORMATS = (
    "supported: mcpchat threads export -o json, conversations.json of ChatGPT and of Claude, llm logs --json, "
    "and lists of {role, content}"
)


def _skip_empty(conversation: tuple[Thread, list[ThreadMessage]]) -> Iterator[tuple[Thread, list[ThreadMessage]]]:
    if conversation[1]:
        yield conversation


def _parse_conversation(value: Mapping[str, Any]) -> tuple[Thread, list[ThreadMessage]]:
    if isinstance(value.get("mapping"), Mapping):
        return _parse_chatgpt(value)
    if isinstance(value.get("chat_messages"), list):
        return _parse_claude(value)
    raise UsageError("not an export of conversations that mcpchat can read", hint=_SUPPORTED_FORMATS)


def _parse_chatgpt(value: Mapping[str, Any]) -> tuple[Thread, list[ThreadMessage]]:
    """Parse a ChatGPT conversation.

    ``mapping`` is a tree of nodes by id, some of which have no message; ``current_node`` is the end of the current
    branch.
    """
    mapping: Mapping[str, Any] = value["mapping"]
    numbers: dict[str, int] = {}
    nodes: list[ThreadMessage] = []
    queue = [key for key, item in mapping.items() if isinstance(item, Mapping) and item.get("parent") not in mapping]
    seen: set[str] = set()
    while queue:
        key = queue.pop(0)
        item = mapping.get(key)
        if key in seen or not isinstance(item, Mapping):
            continue
        seen.add(key)
        parent = numbers.get(str(item.get("parent")), 0)
        numbers[key] = parent
        raw_message = item.get("message")
        message = _parse_chatgpt_message(raw_message) if isinstance(raw_message, Mapping) else None
        if message is not None and isinstance(raw_message, Mapping):
            numbers[key] = len(nodes) + 1
            raw_metadata = raw_message.get("metadata")
            model = str(raw_metadata.get("model_slug") or "") if isinstance(raw_metadata, Mapping) else ""
            metadata = MessageMetadata(at=_parse_time(raw_message.get("create_time")), model=model)
            nodes.append(ThreadMessage(number=numbers[key], parent=parent, message=message, record=metadata))
        queue += [str(child) for child in item.get("children") or ()]
    head = numbers.get(str(value.get("current_node"))) or len(nodes)
    return _build_thread(value, value.get("conversation_id") or value.get("id"), nodes, head), nodes


def _parse_chatgpt_message(raw_message: Mapping[str, Any]) -> Message | None:
    author = raw_message.get("author")
    role = _ROLES.get(str(author.get("role") if isinstance(author, Mapping) else ""))
    content = raw_message.get("content")
    if role not in {"user", "assistant"} or not isinstance(content, Mapping):
        return None
    texts = [_part_text(part) for part in content.get("parts") or ()] or [str(content.get("text") or "")]
    return _build_message(role, "\n".join(text for text in texts if text))


def _parse_claude(value: Mapping[str, Any]) -> tuple[Thread, list[ThreadMessage]]:
    nodes: list[ThreadMessage] = []
    for raw_message in value["chat_messages"]:
        if not isinstance(raw_message, Mapping):
            continue
        texts = [_part_text(part) for part in raw_message.get("content") or () if isinstance(part, Mapping)]
        text = "\n".join(part_text for part_text in texts if part_text) or str(raw_message.get("text") or "")
        for attachment in raw_message.get("attachments") or ():
            if isinstance(attachment, Mapping) and attachment.get("extracted_content"):
                text += f"\n\n[{attachment.get('file_name') or 'attachment'}]\n{attachment['extracted_content']}"
        message = _build_message(_ROLES.get(str(raw_message.get("sender")), ""), text)
        if message is not None:
            nodes.append(_next_node(nodes, message, at=_parse_time(raw_message.get("created_at"))))
    return _build_thread(value, value.get("uuid"), nodes, len(nodes)), nodes


def _parse_llm(rows: Sequence[Mapping[str, Any]]) -> Iterator[tuple[Thread, list[ThreadMessage]]]:
    """Parse the rows of ``llm logs``: each has a prompt and its response, and the id of its conversation."""
    rows_by_conversation: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        rows_by_conversation.setdefault(str(row.get("conversation_id") or row.get("id") or ""), []).append(row)
    for key, conversation_rows in rows_by_conversation.items():
        nodes: list[ThreadMessage] = []
        for row in sorted(conversation_rows, key=lambda row: str(row.get("datetime_utc") or "")):
            at, model = _parse_time(row.get("datetime_utc")), str(row.get("model") or "")
            for role, text in (("user", row.get("prompt")), ("assistant", row.get("response"))):
                if (message := _build_message(role, str(text or ""))) is not None:
                    nodes.append(_next_node(nodes, message, at=at, model=model))
        raw_metadata = {
            "title": next(
                (row.get("conversation_name") for row in conversation_rows if row.get("conversation_name")), ""
            )
        }
        yield from _skip_empty((_build_thread(raw_metadata, key, nodes, len(nodes)), nodes))


def _parse_messages(messages: Sequence[Any], title: str) -> tuple[Thread, list[ThreadMessage]]:
    """Parse messages in the format of the chat APIs, including tool calls and their results."""
    nodes: list[ThreadMessage] = []
    for raw_message in messages:
        if not isinstance(raw_message, Mapping):
            raise UsageError("not a list of messages", hint=_SUPPORTED_FORMATS)
        message = _parse_api_message(raw_message)
        if message is not None:
            nodes.append(_next_node(nodes, message))
    return _build_thread({"title": title}, None, nodes, len(nodes)), nodes


def _parse_api_message(raw_message: Mapping[str, Any]) -> Message | None:
    role, content = _ROLES.get(str(raw_message.get("role")), ""), raw_message.get("content")
    texts = [content] if isinstance(content, str) else [_part_text(part) for part in content or ()]
    text = "\n".join(part_text for part_text in texts if part_text)
    if role == "tool":
        parts = (Text(text=text),) if text else ()
        return Message(
            role="tool", parts=(ToolResult(call_id=str(raw_message.get("tool_call_id") or ""), parts=parts),)
        )
    calls = tuple(_parse_call(call) for call in raw_message.get("tool_calls") or () if isinstance(call, Mapping))
    if role == "assistant" and calls:
        text_parts: tuple[Part, ...] = (Text(text=text),) if text else ()
        return Message(role="assistant", parts=(*text_parts, *calls))
    return _build_message(role, text)


def _parse_call(raw_call: Mapping[str, Any]) -> ToolCall:
    function = raw_call.get("function")
    fields = function if isinstance(function, Mapping) else {}
    arguments = fields.get("arguments")
    text = arguments if isinstance(arguments, str) else json.dumps(arguments or {})
    try:
        valid = isinstance(json.loads(text), dict)
    except ValueError:
        valid = False
    return ToolCall(
        id=str(raw_call.get("id") or ""), name=str(fields.get("name") or ""), arguments=text if valid else "{}"
    )


def _build_message(role: str, text: str) -> Message | None:
    if role not in {"user", "assistant"} or not text.strip():
        return None
    return Message(role="user" if role == "user" else "assistant", parts=(Text(text=text),))


def _part_text(part: object) -> str:
    if isinstance(part, str):
        return part
    if not isinstance(part, Mapping):
        return ""
    text = part.get("text")
    if isinstance(text, str):
        return text
    kind = str(part.get("content_type") or part.get("type") or "")
    return f"[{kind}]" if kind and kind not in {"thinking", "thoughts", "token_budget"} else ""


def _next_node(nodes: Sequence[ThreadMessage], message: Message, *, at: float = 0.0, model: str = "") -> ThreadMessage:
    return ThreadMessage(
        number=len(nodes) + 1, parent=len(nodes), message=message, record=MessageMetadata(at=at, model=model)
    )


def _build_thread(
    raw_metadata: Mapping[str, Any], source_id: object, nodes: Sequence[ThreadMessage], head: int
) -> Thread:
    """Build the thread of these messages.

    Its id is derived from the original id, or from the texts if there is none, so that a second import is recognized.
    """
    identity = (
        str(source_id)
        if source_id
        else "\0".join(f"{node.message.role} {_message_text(node.message)}" for node in nodes)
    )
    title = str(raw_metadata.get("title") or raw_metadata.get("name") or "")
    first_question = next((node.message.text for node in nodes if node.message.role == "user"), "")
    times = [node.record.at for node in nodes if node.record.at]
    return Thread(
        id=hashlib.sha256(f"imported {identity}".encode(errors="replace")).hexdigest()[:32],
        title=derive_title(title or first_question),
        named=bool(title),
        model=next((node.record.model for node in reversed(nodes) if node.record.model), ""),
        created=_parse_time(raw_metadata.get("create_time") or raw_metadata.get("created_at"))
        or min(times, default=0.0),
        updated=_parse_time(raw_metadata.get("update_time") or raw_metadata.get("updated_at"))
        or max(times, default=0.0),
        head=head,
        messages=len(nodes),
    )


def _message_text(message: Message) -> str:
    return message.text or "".join(result_text(result) for result in message.results)


def _parse_time(value: object) -> float:
    """Return epoch seconds from a number or an ISO 8601 date; 0 for anything else."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    try:
        return datetime.fromisoformat(str(value)).timestamp()
    except (ValueError, OverflowError, OSError):
        return 0.0
