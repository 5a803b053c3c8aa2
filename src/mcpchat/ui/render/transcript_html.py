"""Threads as an HTML page without external resources."""

import base64
import html
import re
from collections.abc import Sequence
from typing import Any

from mcpchat.core.threads import Thread, ThreadMessage, branch
from mcpchat.ui.render.transcripts import RenderedPart, format_heading, render_messages
from mcpchat.util.sanitize import sanitize

_SAFE_LINK = re.compile(r"(?:https?|mailto):|#", re.IGNORECASE)


def to_html(thread: Thread, nodes: Sequence[ThreadMessage]) -> str:
    """The current branch as a self-contained HTML page that loads nothing."""
    from markdown_it import MarkdownIt

    parser = MarkdownIt("commonmark", {"html": False}).enable(["table", "strikethrough"])
    parser.validateLink = lambda url: _SAFE_LINK.match(url.strip()) is not None  # type: ignore[method-assign]
    parser.add_render_rule("image", lambda self, tokens, index, options, env: _describe_image(tokens[index]))
    render = parser.render
    sections = []
    for message in render_messages(branch(nodes, thread.head)):
        number = f' id="m{message.number}"' if message.number else ""
        details = f" <small>{_escape_html(message.details)}</small>" if message.details else ""
        sections.append(f'<section class="{message.author.lower()}"{number}><h2>{message.author}{details}</h2>')
        sections += [
            _part_to_html(part, render(sanitize(part.body)) if part.kind == "text" else "") for part in message.parts
        ]
        sections.append("</section>")
    title = _escape_html(thread.title or "Conversation")
    return _HTML_PAGE.format(title=title, about=_escape_html(format_heading(thread)), body="\n".join(sections))


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
        case "call":
            return (
                f"<details><summary>→ {_escape_html(part.head)}</summary><pre>{_escape_html(part.body)}</pre></details>"
            )
        case "result" | "failed":
            mark = "✗" if part.kind == "failed" else "✓"
            summary = f'<summary class="{part.kind}">{mark} {_escape_html(part.head)}</summary>'
            return f"<details>{summary}<pre>{_escape_html(part.body)}</pre></details>"
        case _:
            head = f"<em>{_escape_html(part.head)}</em><br>" if part.head else ""
            return f'<p class="note">{head}{_escape_html(part.body)}</p>'


def _escape_html(text: str) -> str:
    return html.escape(sanitize(text))


_HTML_PAGE = """<!doctype html>
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
