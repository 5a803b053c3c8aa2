"""Threads as people read them: text for a terminal, Markdown, a page of HTML that stands alone."""

import base64
import html
import json
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

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
from mcpchat.core.threads import CallRecord, Node, Thread, branch, interrupted, leaves
from mcpchat.ui.render import stats
from mcpchat.util.sanitize import clean, one_line

_LINK = re.compile(r"(?:https?|mailto):|#", re.IGNORECASE)
_WHO = {"user": "You", "assistant": "Assistant", "tool": "Tools", "system": "Note"}
_BRANCHES = 200  # that are listed
_LONG = 1200  # characters of a result that a terminal shows
_NO_MARKUP = re.compile(r"([\\`*_\[\]<>#|])")


@dataclass(frozen=True)
class Piece:
    """A part of a message, ready to be shown. ``kind`` says as what; ``head`` stands over ``body``."""

    kind: str  # text, reasoning, call, result, failed, note, picture, file
    body: str
    head: str = ""
    data: bytes = b""
    media_type: str = ""


@dataclass(frozen=True)
class Shown:
    """A message, ready to be shown."""

    number: int
    who: str
    about: str
    pieces: tuple[Piece, ...]


def when(seconds: float) -> str:
    """The local date and time; empty where it is not known."""
    if not seconds:
        return ""
    try:
        return time.strftime("%Y-%m-%d %H:%M", time.localtime(seconds))
    except (ValueError, OverflowError, OSError):
        return ""


def shown(nodes: Sequence[Node]) -> Iterator[Shown]:
    """The messages of a branch; calls that were running when mcpchat ended are told as such."""
    calls: dict[str, ToolCall] = {}
    for node in nodes:
        for call in node.message.calls:
            calls[call.id] = call
        known = {record.call_id: record for record in node.record.calls}
        pieces = tuple(piece for part in node.message.parts for piece in _pieces(part, calls, known))
        if not node.message.parts:
            pieces = (Piece("note", "this message cannot be read: the database was damaged"),)
        if node.message.cut:
            pieces += (Piece("note", f"the answer ends early: {node.message.cut}"),)
        yield Shown(node.number, _WHO[node.message.role], _about(node), pieces)
    if (results := interrupted([node.message for node in nodes])) is not None:
        told = tuple(_result(result, calls, {}) for result in results.results)
        yield Shown(0, "Tools", "", told)


def calls(history: Sequence[Message]) -> Iterator[list[str]]:
    """Each call of a conversation that was answered: the lines of what it was given and what it gave back, whole."""
    made: dict[str, ToolCall] = {}
    for message in history:
        made |= {call.id: call for call in message.calls}
        for result in message.results:
            call = made.get(result.call_id)
            name, given = (call.name.replace("__", "."), _spread(call.arguments)) if call else (result.call_id, "")
            state = "failed" if result.is_error else "gave back"
            yield [name, *_indented(given), f"  {state}:", *_indented(_spread(result_text(result))), ""]


def _spread(text: str) -> str:
    """JSON on many lines; other text as it is."""
    try:
        return json.dumps(json.loads(text), ensure_ascii=False, indent=2)
    except (ValueError, RecursionError):
        return text


def _indented(text: str) -> Iterator[str]:
    return (f"    {line}" for line in text.splitlines())


def _about(node: Node) -> str:
    record = node.record
    said = [when(record.at)]
    if node.message.role == "assistant":
        said += [record.agent and f"agent {record.agent}", record.model]
        if record.usage is not None:
            said.append(stats.tokens(record.usage))
            said.append(stats.money(record.cost) if record.cost is not None else "")
        said.append(f"{record.seconds:.1f} s" if record.seconds is not None else "")
    return " · ".join(filter(None, said))


def _pieces(part: Part, calls: Mapping[str, ToolCall], known: Mapping[str, CallRecord]) -> Iterator[Piece]:
    match part:
        case Text(text=text):
            yield Piece("text", text)
        case Reasoning(text=text):
            yield Piece("reasoning", text, head="reasoning")
        case ToolCall(name=name, arguments=arguments):
            yield Piece("call", arguments, head=name.replace("__", "."))
        case ToolResult():
            yield _result(part, calls, known)
        case Image(media_type=media_type, data=data):
            yield Piece("picture", f"[{media_type}, {len(data):,} bytes]", data=data, media_type=media_type)
        case Audio(media_type=media_type, data=data):
            yield Piece("file", f"[{media_type}, {len(data):,} bytes]")
        case File(media_type=media_type, data=data, name=name):
            yield Piece("file", f"[{name or 'file'}: {media_type}, {len(data):,} bytes]")
        case Link(uri=uri, title=title):
            yield Piece("file", f"{title} {uri}".strip())
        case Compaction(summary=summary):
            told = "Summed up for the model, to make room. Everything before stays in the thread."
            yield Piece("note", summary, head=told if summary else "Earlier results were shortened for the model.")
        case AgentSwitch(agent=agent, model=model):
            yield Piece("note", "", head=f"From here on with the agent {agent or '(none)'}, on {model}.")


def _result(result: ToolResult, calls: Mapping[str, ToolCall], known: Mapping[str, CallRecord]) -> Piece:
    call, record = calls.get(result.call_id), known.get(result.call_id)
    said = [record.tool if record else (call.name.replace("__", ".") if call else "a tool")]
    if record is not None and record.decision is not None:
        decision = record.decision
        reason = f" ({decision.reason})" if decision.reason else ""
        said.append(f"{'allowed' if decision.allowed else 'denied'} by {decision.by}{reason}")
    if record is not None and record.seconds:
        said.append(f"{record.seconds:.1f} s")
    return Piece("failed" if result.is_error else "result", result_text(result), head=" · ".join(said))


def heading(thread: Thread) -> str:
    """The thread on a line: id, times, agent, model."""
    said = [thread.short_id, when(thread.created), thread.agent and f"agent {thread.agent}", thread.model]
    said.append(f"fork of {thread.forked_from[:8]}" if thread.forked_from else "")
    return " · ".join(filter(None, said))


def text(thread: Thread, nodes: Sequence[Node]) -> str:
    """The current branch for a terminal; long results are cut."""
    lines = [one_line(thread.title, 200) or "(untitled)", one_line(heading(thread), 300)]
    for one in shown(branch(nodes, thread.head)):
        lines += ["", f"{one.number or '-'}  {one.who}  {one_line(one.about, 200)}".rstrip()]
        for piece in one.pieces:
            body = piece.body
            if piece.kind in {"result", "failed"} and len(body) > _LONG:
                body = f"{body[:_LONG]}\n… {len(body) - _LONG:,} more characters"
            mark = {"call": "→ ", "result": "✓ ", "failed": "✗ "}.get(piece.kind, "")
            if piece.kind == "call":
                lines.append(f"    {mark}{one_line(f'{piece.head} {body}', 300)}")
                continue
            lines += [f"    {mark}{one_line(piece.head, 300)}"] if piece.head else []
            indent = "      " if piece.head else "    "
            lines += [f"{indent}{line}".rstrip() for line in clean(body).splitlines()]
    others = len(leaves(nodes)) - 1
    if others > 0:
        lines += ["", f"{others} more branch{'es' if others > 1 else ''}: --tree shows them"]
    return "\n".join(lines) + "\n"


def tree(thread: Thread, nodes: Sequence[Node]) -> list[str]:
    """The branches, a line each, the newest first: the number to go to, when, where it leaves the current one, its end.

    The current one is marked, also where it ends in the middle of another.
    """
    known = {node.number: node for node in nodes}
    here = {node.number for node in branch(nodes, thread.head)}
    depth, left, said = {0: 0}, {0: 0}, {0: ""}  # of each message: how deep it is, where it left, the last words
    for node in nodes:  # a message comes after the one that it answers
        shared = node.number in here
        depth[node.number] = depth.get(node.parent, 0) + 1
        left[node.number] = node.number if shared else left.get(node.parent, 0)
        said[node.number] = node.message.text or said.get(node.parent, "")
    ends = [leaf.number for leaf in leaves(nodes)]
    lines = []
    for number in [thread.head, *(end for end in ends if end != thread.head)][: _BRANCHES + 1]:
        if number not in known:
            continue
        at = left[number]
        if number == thread.head:
            where = "here"
        elif at == thread.head:
            where = "goes on from here"
        else:
            where = f"leaves it after {at}" if at else "begins anew"
        about = f"{depth[number]} messages · {when(known[number].record.at)} · {where}"
        mark = "*" if number == thread.head else " "
        lines.append(f"{mark} {number:>4}  {about}  {one_line(said[number], 60)}".rstrip())
    if len(ends) > _BRANCHES:
        lines.append(f"  and {len(ends) - _BRANCHES:,} older ones")
    return lines


def markdown(thread: Thread, nodes: Sequence[Node]) -> str:
    """The current branch as a Markdown document."""
    lines = [f"# {_plain(thread.title) or 'Conversation'}", "", f"*{_plain(heading(thread))}*"]
    for one in shown(branch(nodes, thread.head)):
        lines += ["", f"## {one.who}" + (f" · {_plain(one.about)}" if one.about else "")]
        for piece in one.pieces:
            lines.append("")
            match piece.kind:
                case "text":
                    lines.append(clean(piece.body).strip("\n"))
                case "call":
                    lines += [f"→ **{_plain(piece.head)}**", "", *_fenced(piece.body, "json")]
                case "result" | "failed":
                    mark = "✗" if piece.kind == "failed" else "✓"
                    lines += [f"{mark} **{_plain(piece.head)}**", "", *_fenced(piece.body)]
                case _:
                    lines += [f"*{_plain(piece.head)}*", ""] if piece.head else []
                    lines += [f"> {line}".rstrip() for line in clean(piece.body).splitlines()]
    return "\n".join(lines).rstrip() + "\n"


def _plain(text: str) -> str:
    return _NO_MARKUP.sub(r"\\\1", one_line(text, 300))


def _fenced(body: str, language: str = "") -> list[str]:
    fence = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", body)), default=0))
    return [f"{fence}{language}", clean(body).rstrip("\n"), fence]


def page(thread: Thread, nodes: Sequence[Node]) -> str:
    """The current branch as a page of HTML that needs nothing else and fetches nothing."""
    from markdown_it import MarkdownIt

    reader = MarkdownIt("commonmark", {"html": False}).enable(["table", "strikethrough"])
    reader.validateLink = lambda url: _LINK.match(url.strip()) is not None  # type: ignore[method-assign]
    reader.add_render_rule("image", lambda self, tokens, place, options, env: _named_picture(tokens[place]))
    render = reader.render
    parts = []
    for one in shown(branch(nodes, thread.head)):
        number = f' id="m{one.number}"' if one.number else ""
        about = f" <small>{_escaped(one.about)}</small>" if one.about else ""
        parts.append(f'<section class="{one.who.lower()}"{number}><h2>{one.who}{about}</h2>')
        parts += [_piece_html(piece, render(clean(piece.body)) if piece.kind == "text" else "") for piece in one.pieces]
        parts.append("</section>")
    title = _escaped(thread.title or "Conversation")
    return _PAGE.format(title=title, about=_escaped(heading(thread)), body="\n".join(parts))


def _named_picture(token: Any) -> str:
    """In the place of a picture that somebody else would be asked for: what it is, and where."""
    return _escaped(f"[picture: {token.content or ''} {token.attrs.get('src', '')}]")


def _piece_html(piece: Piece, rendered: str) -> str:
    match piece.kind:
        case "text":
            return rendered
        case "picture" if piece.media_type in {"image/png", "image/jpeg", "image/gif", "image/webp"}:
            data = base64.b64encode(piece.data).decode()
            return f'<p><img src="data:{piece.media_type};base64,{data}" alt="{_escaped(piece.body)}"></p>'
        case "call":
            return f"<details><summary>→ {_escaped(piece.head)}</summary><pre>{_escaped(piece.body)}</pre></details>"
        case "result" | "failed":
            mark = "✗" if piece.kind == "failed" else "✓"
            summary = f'<summary class="{piece.kind}">{mark} {_escaped(piece.head)}</summary>'
            return f"<details>{summary}<pre>{_escaped(piece.body)}</pre></details>"
        case _:
            head = f"<em>{_escaped(piece.head)}</em><br>" if piece.head else ""
            return f'<p class="note">{head}{_escaped(piece.body)}</p>'


def _escaped(text: str) -> str:
    return html.escape(clean(text))


_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="referrer" content="no-referrer">
<title>{title}</title>
<style>
:root {{ color-scheme: light dark; }}
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 48rem; margin: 2rem auto; padding: 0 1rem; }}
h1 {{ font-size: 1.4rem; }}
h2 {{ font-size: 1rem; margin: 0 0 .3rem; }}
small, header p {{ color: gray; font-weight: normal; }}
section {{ margin: 1rem 0; padding: .6rem 1rem; border-radius: .5rem; border: 1px solid #8884; }}
section {{ overflow-wrap: anywhere; }}
section.you {{ background: #8881; }}
section.note, .note {{ color: gray; white-space: pre-wrap; }}
pre {{ overflow-x: auto; white-space: pre-wrap; background: #8881; padding: .5rem; }}
summary {{ cursor: pointer; }} summary.failed {{ color: #c33; }}
img {{ max-width: 100%; }} table {{ border-collapse: collapse; }}
td, th {{ border: 1px solid #8888; padding: .2rem .5rem; }}
</style>
</head>
<body>
<header><h1>{title}</h1><p>{about}</p></header>
{body}
</body>
</html>
"""
