"""Threads as text for the terminal and as Markdown."""

import json
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from mcpchat.core.messages import (
    AgentSwitch,
    Audio,
    Compaction,
    File,
    Image,
    Link,
    Message,
    Part,
    Reasoning,
    Text,
    ToolCall,
    ToolResult,
    result_text,
)
from mcpchat.core.search_tools import describe_call
from mcpchat.core.threads import CallMetadata, Thread, ThreadMessage, branch, branch_tips, interrupted_results
from mcpchat.ui.render import stats
from mcpchat.util.sanitize import one_line, sanitize

_AUTHORS = {"user": "You", "assistant": "Assistant", "tool": "Tools", "system": "Note"}
_MAX_TEXT_LENGTH, _MAX_TEXT_LINES = 1200, 30  # of a tool result or a question in to_text
_MARKDOWN_SPECIAL = re.compile(r"([\\`*_\[\]<>#|])")


@dataclass(frozen=True)
class RenderedPart:
    """A part of a message, ready to be shown; ``head`` is shown above ``body``."""

    kind: str  # text, reasoning, call, result, failed, note, picture, file
    body: str
    head: str = ""
    data: bytes = b""
    media_type: str = ""


@dataclass(frozen=True)
class RenderedMessage:
    """A message, ready to be shown. ``number`` is 0 for a message that is not saved."""

    number: int
    author: str
    details: str
    parts: tuple[RenderedPart, ...]


def format_time(timestamp: float) -> str:
    """The local date and time of a timestamp in seconds; empty if it is 0 or invalid."""
    if not timestamp:
        return ""
    try:
        return time.strftime("%Y-%m-%d %H:%M", time.localtime(timestamp))
    except (ValueError, OverflowError, OSError):
        return ""


def render_messages(nodes: Sequence[ThreadMessage]) -> Iterator[RenderedMessage]:
    """The messages of a branch. Calls that were running when mcpchat ended get a result that says so."""
    calls: dict[str, ToolCall] = {}
    for node in nodes:
        for call in node.message.calls:
            calls[call.id] = call
        records = {record.call_id: record for record in node.record.calls}
        parts = tuple(rendered for part in node.message.parts for rendered in _render_part(part, calls, records))
        if not node.message.parts:
            parts = (RenderedPart("note", "this message cannot be read: the database was damaged"),)
        if node.message.cut:
            parts += (RenderedPart("note", f"the answer ends early: {node.message.cut}"),)
        yield RenderedMessage(node.number, _AUTHORS[node.message.role], _describe_node(node), parts)
    if (results := interrupted_results([node.message for node in nodes])) is not None:
        result_parts = tuple(_render_result(result, calls, {}) for result in results.results)
        yield RenderedMessage(0, "Tools", "", result_parts)


def format_calls(history: Sequence[Message]) -> Iterator[list[str]]:
    """The lines of each finished call of a conversation: its name, arguments and result, not cut."""
    calls_by_id: dict[str, ToolCall] = {}
    for message in history:
        calls_by_id |= {call.id: call for call in message.calls}
        for result in message.results:
            call = calls_by_id.get(result.call_id)
            name, arguments = describe_call(call) if call else (result.call_id, "")
            state = "failed" if result.is_error else "result"
            yield [
                name,
                *_indent_lines(_pretty_json(arguments)),
                f"  {state}:",
                *_indent_lines(_pretty_json(result_text(result))),
                "",
            ]


def _pretty_json(text: str) -> str:
    """Indented JSON; other text unchanged."""
    try:
        return json.dumps(json.loads(text), ensure_ascii=False, indent=2)
    except (ValueError, RecursionError):
        return text


def _indent_lines(text: str) -> Iterator[str]:
    return (f"    {line}" for line in text.splitlines())


def _describe_node(node: ThreadMessage) -> str:
    record = node.record
    facts = [format_time(record.at)]
    if node.message.role == "assistant":
        facts += [record.agent and f"agent {record.agent}", record.model]
        if record.usage is not None:
            facts.append(stats.format_tokens(record.usage))
            facts.append(stats.format_cost(record.cost) if record.cost is not None else "")
        facts.append(f"{record.seconds:.1f} s" if record.seconds is not None else "")
    return " · ".join(filter(None, facts))


def _render_part(
    part: Part, calls: Mapping[str, ToolCall], records: Mapping[str, CallMetadata]
) -> Iterator[RenderedPart]:
    match part:
        case Text(text=text):
            yield RenderedPart("text", text)
        case Reasoning(text=text):
            yield RenderedPart("reasoning", text, head="reasoning")
        case ToolCall():
            name, arguments = describe_call(part)
            yield RenderedPart("call", arguments, head=name)
        case ToolResult():
            yield _render_result(part, calls, records)
        case Image(media_type=media_type, data=data):
            yield RenderedPart("picture", f"[{media_type}, {len(data):,} bytes]", data=data, media_type=media_type)
        case Audio(media_type=media_type, data=data):
            yield RenderedPart("file", f"[{media_type}, {len(data):,} bytes]")
        case File(media_type=media_type, data=data, name=name):
            yield RenderedPart("file", f"[{name or 'file'}: {media_type}, {len(data):,} bytes]")
        case Link(uri=uri, title=title):
            yield RenderedPart("file", f"{title} {uri}".strip())
        case Compaction(omits=omits) if omits:
            yield RenderedPart("note", "", head="The model no longer gets a part that its server refused.")
        case Compaction(summary=summary):
            note = "Summarized for the model to free space. All earlier messages stay in the thread."
            yield RenderedPart(
                "note", summary, head=note if summary else "Earlier results were shortened for the model."
            )
        case AgentSwitch(agent=agent, model=model):
            yield RenderedPart("note", "", head=f"From here on with the agent {agent or '(none)'}, on {model}.")


def _render_result(
    result: ToolResult, calls: Mapping[str, ToolCall], records: Mapping[str, CallMetadata]
) -> RenderedPart:
    call, record = calls.get(result.call_id), records.get(result.call_id)
    facts = [record.tool if record else (describe_call(call)[0] if call else "a tool")]
    if record is not None and record.decision is not None:
        decision = record.decision
        reason = f" ({decision.reason})" if decision.reason else ""
        facts.append(f"{'allowed' if decision.allowed else 'denied'} by {decision.by}{reason}")
    if record is not None and record.seconds:
        facts.append(f"{record.seconds:.1f} s")
    return RenderedPart("failed" if result.is_error else "result", result_text(result), head=" · ".join(facts))


def format_heading(thread: Thread) -> str:
    """The thread on one line: id, time, agent, model, and the thread that it is a fork of."""
    facts = [thread.short_id, format_time(thread.created), thread.agent and f"agent {thread.agent}", thread.model]
    facts.append(f"fork of {thread.forked_from[:8]}" if thread.forked_from else "")
    return " · ".join(filter(None, facts))


def to_text(thread: Thread, nodes: Sequence[ThreadMessage]) -> str:
    """The current branch as text for the terminal; long results are cut."""
    lines = [one_line(thread.title, 200) or "(untitled)", one_line(format_heading(thread), 300)]
    for message in render_messages(branch(nodes, thread.head)):
        lines += ["", f"{message.number or '-'}  {message.author}  {one_line(message.details, 200)}".rstrip()]
        for part in message.parts:
            body = part.body
            if part.kind in {"result", "failed"} or (part.kind == "text" and message.author == _AUTHORS["user"]):
                body = _shorten(body)
            mark = {"call": "→ ", "result": "✓ ", "failed": "✗ "}.get(part.kind, "")
            if part.kind == "call":
                lines.append(f"    {mark}{one_line(f'{part.head} {body}', 300)}")
                continue
            lines += [f"    {mark}{one_line(part.head, 300)}"] if part.head else []
            indent = "      " if part.head else "    "
            lines += [f"{indent}{line}".rstrip() for line in sanitize(body).splitlines()]
    other_branches = len(branch_tips(nodes)) - 1
    if other_branches > 0:
        lines += ["", f"{other_branches} more branch{'es' if other_branches > 1 else ''}: --tree shows them"]
    return "\n".join(lines) + "\n"


def _shorten(text: str) -> str:
    """A text that is too long to be shown: its beginning, and how much is left out."""
    shown = "\n".join(text[:_MAX_TEXT_LENGTH].split("\n")[:_MAX_TEXT_LINES])
    rest = text[len(shown) :]
    if not rest.strip():
        return text
    return f"{shown}\n… {len(rest):,} more characters, {rest.count(chr(10)):,} more lines; -o markdown shows them"


def to_markdown(thread: Thread, nodes: Sequence[ThreadMessage]) -> str:
    """The current branch as a Markdown document."""
    lines = [
        f"# {_escape_markdown(thread.title) or 'Conversation'}",
        "",
        f"*{_escape_markdown(format_heading(thread))}*",
    ]
    for message in render_messages(branch(nodes, thread.head)):
        lines += ["", f"## {message.author}" + (f" · {_escape_markdown(message.details)}" if message.details else "")]
        for part in message.parts:
            lines.append("")
            match part.kind:
                case "text":
                    lines.append(sanitize(part.body).strip("\n"))
                case "call":
                    lines += [f"→ **{_escape_markdown(part.head)}**", "", *_fence_code(part.body, "json")]
                case "result" | "failed":
                    mark = "✗" if part.kind == "failed" else "✓"
                    lines += [f"{mark} **{_escape_markdown(part.head)}**", "", *_fence_code(part.body)]
                case _:
                    lines += [f"*{_escape_markdown(part.head)}*", ""] if part.head else []
                    lines += [f"> {line}".rstrip() for line in sanitize(part.body).splitlines()]
    return "\n".join(lines).rstrip() + "\n"


def _escape_markdown(text: str) -> str:
    return _MARKDOWN_SPECIAL.sub(r"\\\1", one_line(text, 300))


def _fence_code(body: str, language: str = "") -> list[str]:
    fence = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", body)), default=0))
    return [f"{fence}{language}", sanitize(body).rstrip("\n"), fence]
