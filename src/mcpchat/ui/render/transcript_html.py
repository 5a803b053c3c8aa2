"""Threads as an HTML page without external resources."""

import base64
import html
import re
from collections.abc import Iterator, Sequence
from typing import Any

from mcpchat.core.threads import Thread, ThreadMessage, branch
from mcpchat.ui.render.thread_tree import find_turns
from mcpchat.ui.render.timeline import build_timeline
from mcpchat.ui.render.transcripts import RenderedMessage, RenderedPart, format_heading, render_messages
from mcpchat.util.page_style import html_page
from mcpchat.util.sanitize import sanitize

_MAX_TURNS = 400  # that the tree of branches and the timeline show
_RESULT_KINDS = {"result", "failed"}
_SAFE_LINK = re.compile(r"(?:https?|mailto):|#", re.IGNORECASE)


def to_html(thread: Thread, nodes: Sequence[ThreadMessage]) -> str:
    """The current branch as a self-contained HTML page that loads nothing."""
    from markdown_it import MarkdownIt

    from mcpchat.ui.markdown.nesting import keep_deep_text

    parser = MarkdownIt("commonmark", {"html": False}).enable(["table", "strikethrough"])
    keep_deep_text(parser)
    parser.validateLink = lambda url: _SAFE_LINK.match(url.strip()) is not None  # type: ignore[method-assign]
    parser.add_render_rule("image", lambda self, tokens, index, options, env: _describe_image(tokens[index]))
    render = parser.render
    sections = []
    messages = list(render_messages(branch(nodes, thread.head)))
    for index, message in enumerate(messages):
        results = [part for part in message.parts if part.kind in _RESULT_KINDS]
        calls = [part for part in message.parts if part.kind == "call"]
        previous = messages[index - 1] if index else None
        if results and len(results) == len(message.parts) and previous is not None and _has_calls(previous):
            continue  # they are in the boxes of their calls
        following = messages[index + 1] if index + 1 < len(messages) else None
        results = [part for part in following.parts if part.kind in _RESULT_KINDS] if calls and following else []
        number = f' id="m{message.number}"' if message.number else ""
        details = f" <small>{_escape_html(message.details)}</small>" if message.details else ""
        sections.append(f'<section class="{message.author.lower()}"{number}><h2>{message.author}{details}</h2>')
        for part in message.parts:
            if part.kind == "call":
                sections.append(_call_to_html(part, results.pop(0) if results else None))
            else:
                sections.append(_part_to_html(part, render(sanitize(part.body)) if part.kind == "text" else ""))
        sections.append("</section>")
    title = _escape_html(thread.title or "Conversation")
    about = _escape_html(format_heading(thread))
    body = "\n".join([*_branches_to_html(thread, nodes), *_timeline_to_html(branch(nodes, thread.head)), *sections])
    return html_page(title=title, about=about, body=body, style=_STYLE, images=True)


def _branches_to_html(thread: Thread, nodes: Sequence[ThreadMessage]) -> Iterator[str]:
    """The questions of all branches as a tree that folds, if there is more than one branch.

    Those of the current branch are links to their messages.
    """
    turns = find_turns(nodes, thread.head)
    children: dict[int, list[int]] = {}
    for number, turn in turns.items():
        children.setdefault(turn.parent, []).append(number)
    if all(len(numbers) == 1 for numbers in children.values()):
        return
    current = {node.number for node in branch(nodes, thread.head)}

    def line(number: int) -> str:
        turn = turns[number]
        text = _escape_html(turn.question or "(no question)")
        link = f'<a href="#m{turn.asked}">{text}</a>' if turn.asked in current else text
        return f"{link} <small>{_escape_html(turn.time)}{' · here' * (number == thread.head)}</small>"

    def follow(number: int) -> list[str | tuple[int, bool]]:
        """What comes after a question, to be taken from the end: the next one, or the branches."""
        after = children.get(number, [])
        return [(item, len(after) > 1) for item in reversed(after)]

    yield '<section class="branches"><details><summary>Branches</summary><ul>'
    pending, shown = follow(0), 0
    while pending:
        item = pending.pop()
        if isinstance(item, str):
            yield item
            continue
        number, begins_branch = item
        shown += 1
        if shown > _MAX_TURNS:
            continue
        after = children.get(number, [])
        if len(after) > 1 or (begins_branch and after):
            yield f"<li><details{' open' if number in current else ''}><summary>{line(number)}</summary><ul>"
            pending += ["</ul></details></li>", *follow(number)]
        else:
            yield f"<li>{line(number)}</li>"
            pending += follow(number)
    yield f"</ul>{'<p>and more</p>' * (shown > _MAX_TURNS)}</details></section>"


def _timeline_to_html(nodes: Sequence[ThreadMessage]) -> Iterator[str]:
    """When each turn's requests and calls ran, as bars on the time of the turn."""
    turns = build_timeline(nodes)
    if not turns:
        return
    yield '<section class="timeline"><details><summary>Timeline</summary>'
    for turn in turns[:_MAX_TURNS]:
        link = f'<a href="#m{turn.number}">{_escape_html(turn.question or "(no question)")}</a>'
        yield f"<h3>{link} <small>{_escape_html(turn.summary)}</small></h3><table>"
        scale = 100 / turn.seconds if turn.seconds else 0.0
        for step in turn.steps:
            left, width = min(step.start * scale, 99.0), max(step.seconds * scale, 1.0)
            facts = [f"{step.seconds:.1f} s", *([f"{step.usage.total:,} tokens"] if step.usage is not None else [])]
            kind = "tool" if step.is_call else "model"
            bar = f'<div class="{kind}" style="margin-left:{left:.1f}%;width:{min(width, 100 - left):.1f}%"></div>'
            words = _escape_html(" · ".join(facts))
            cells = f'<td>{_escape_html(step.label)}</td><td class="bar">{bar}</td><td class="number">{words}</td>'
            yield f"<tr>{cells}</tr>"
        yield "</table>"
    yield f"{'<p>and more</p>' * (len(turns) > _MAX_TURNS)}</details></section>"


def _has_calls(message: RenderedMessage) -> bool:
    return any(part.kind == "call" for part in message.parts)


def _call_to_html(call: RenderedPart, result: RenderedPart | None) -> str:
    """One box that opens: the call with its arguments, and its result."""
    kind = result.kind if result is not None else "call"
    mark = {"result": "✓", "failed": "✗"}.get(kind, "→")
    head = result.head if result is not None else call.head
    parts = [f"<pre>{_escape_html(call.body)}</pre>"]
    if result is not None and result.body:
        parts.append(f"<pre>{_escape_html(result.body)}</pre>")
    return f'<details><summary class="{kind}">{mark} {_escape_html(head)}</summary>{"".join(parts)}</details>'


def _describe_image(token: Any) -> str:
    """A description instead of an external image, which would be loaded from its server."""
    return _escape_html(f"[picture: {token.content or ''} {token.attrs.get('src', '')}]")


def _part_to_html(part: RenderedPart, rendered: str) -> str:
    match part.kind:
        case "text":
            return rendered
        case "picture" if part.media_type in {"image/png", "image/jpeg", "image/gif", "image/webp"}:
            data = base64.b64encode(part.data).decode()
            return f'<p><img src="data:{part.media_type};base64,{data}" alt="{_escape_html(part.body)}"></p>'
        case "result" | "failed":
            mark = "✗" if part.kind == "failed" else "✓"
            summary = f'<summary class="{part.kind}">{mark} {_escape_html(part.head)}</summary>'
            return f"<details>{summary}<pre>{_escape_html(part.body)}</pre></details>"
        case _:
            head = f"<em>{_escape_html(part.head)}</em><br>" if part.head else ""
            return f'<p class="note">{head}{_escape_html(part.body)}</p>'


def _escape_html(text: str) -> str:
    return html.escape(sanitize(text))


_STYLE = """
body { max-width: 48rem; margin: 0 auto; }
small, header p { color: var(--faint); font-weight: normal; font-size: .85rem; }
section { margin: 1rem 0; padding: .75rem 1.1rem 1rem; background: var(--card); border: 1px solid var(--line);
  border-radius: 12px; }
section.you { background: none; border-style: dashed; }
section.note, .note { color: var(--faint); white-space: pre-wrap; }
section h2 { margin: 0 0 .4rem; }
pre, code { font: 13.5px/1.5 ui-monospace, "SF Mono", Menlo, Consolas, monospace; background: var(--code); }
pre { overflow-x: auto; white-space: pre-wrap; padding: .6rem .8rem; border-radius: 8px; margin: .5rem 0; }
code { padding: .1em .3em; border-radius: 4px; } pre code { padding: 0; }
details { border: 1px solid var(--line); border-radius: 8px; padding: .35rem .8rem; margin: .4rem 0; }
summary { cursor: pointer; color: var(--done); } summary.failed { color: var(--fail); }
summary.call { color: var(--faint); }
img { max-width: 100%; } table { border-collapse: collapse; display: block; overflow-x: auto; }
td, th { border: 1px solid var(--line); padding: .25rem .6rem; }
section > details { border: 0; padding: 0; margin: 0; }
.branches summary, .timeline summary { color: var(--text); } .branches ul { margin: .2rem 0; padding-left: 1.3rem; }
.branches li details { border: 0; padding: 0; margin: 0; } .branches a, .timeline a { color: inherit; }
.timeline h3 { font-size: .95rem; margin: 1rem 0 .25rem; } .timeline table { display: table; width: 100%; }
.timeline td { border: 0; padding: .15rem 0; font-size: .85rem; } .timeline td:first-child { width: 27%; }
.timeline td.bar { width: 50%; padding: .15rem .8rem; }
.timeline td.number { color: var(--faint); text-align: right; }
.bar div { height: .65rem; border-radius: 4px; min-width: 3px; background: #2f6fde; }
.bar div.tool { background: var(--done); }
"""
