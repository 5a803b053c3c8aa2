"""The page that the browser shows at the end of a sign-in: self-contained, light and dark, without scripts."""

import html
from collections.abc import Sequence
from dataclasses import dataclass

from mcpchat.util.page_style import PAGE_STYLE
from mcpchat.util.sanitize import one_line

_MAX_PERMISSIONS = 30


@dataclass(frozen=True, kw_only=True)
class SignInOutcome:
    """How a sign-in went. ``lines`` are paragraphs, ``permissions`` a list below them."""

    title: str
    lines: Sequence[str]
    permissions: Sequence[str] = ()
    is_success: bool = False


UNKNOWN = SignInOutcome(
    title="Back to the terminal", lines=("mcpchat has the answer. The terminal shows how the sign-in goes on.",)
)
ANSWERED = SignInOutcome(
    title="Already answered", lines=("This sign-in was already answered. The terminal shows how.",)
)
IGNORED = SignInOutcome(
    title="Request ignored", lines=("Nothing was changed. mcpchat is still waiting for the answer to its sign-in.",)
)


def signed_in(target: str, account: str, permissions: Sequence[str]) -> SignInOutcome:
    """``target`` is what the user signed in to, ``account`` as whom, if known, and ``permissions`` what was granted."""
    user = f" as {one_line(account, 100)}" if account else ""
    statement = f"{one_line(target, 100)} accepted the sign-in{user}."
    return SignInOutcome(
        title="Signed in",
        lines=(
            statement,
            "You can close this page: the terminal shows that it is saved.",
        ),
        permissions=permissions,
        is_success=True,
    )


def not_signed_in(target: str, reason: str) -> SignInOutcome:
    """``reason`` is a sentence of ours: no text of the provider or of the request."""
    return SignInOutcome(
        title="You are not signed in",
        lines=(f"{reason} Nothing was saved for {one_line(target, 100)}.", "The terminal shows what to do next."),
    )


def render_page(outcome: SignInOutcome) -> str:
    """The page as HTML."""
    mark = "&#10003;" if outcome.is_success else "&#8250;"
    paragraphs = "".join(f"<p>{html.escape(line)}</p>" for line in outcome.lines)
    items = [f"<li>{html.escape(one_line(name, 120))}</li>" for name in outcome.permissions[:_MAX_PERMISSIONS]]
    if len(outcome.permissions) > _MAX_PERMISSIONS:
        items.append(f"<li>and {len(outcome.permissions) - _MAX_PERMISSIONS} more</li>")
    granted = f"<h2>It may use</h2><ul>{''.join(items)}</ul>" if items else ""
    kind = "done" if outcome.is_success else "other"
    title = html.escape(outcome.title)
    return _PAGE.format(kind=kind, mark=mark, title=title, body=paragraphs + granted, style=PAGE_STYLE)


_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="referrer" content="no-referrer">
<title>{title} - mcpchat</title>
<style>{style}
main {{ max-width: 34rem; margin: 8vh auto 0; padding: 2rem; background: var(--card); border: 1px solid var(--line);
  border-radius: 12px; }}
.mark {{ display: inline-block; width: 2.25rem; height: 2.25rem; line-height: 2.2rem; border-radius: 50%;
  border: 2px solid currentColor; text-align: center; font-size: 1.25rem; margin-bottom: 1rem; color: var(--faint); }}
.done .mark {{ color: var(--done); }}
ul {{ margin: .25rem 0; padding-left: 1.25rem; }}
footer {{ margin-top: 1.5rem; color: var(--faint); font-size: .85rem; }}
</style>
</head>
<body>
<main class="{kind}"><div class="mark" aria-hidden="true">{mark}</div>
<h1>{title}</h1>
{body}
<footer>mcpchat, on this computer</footer>
</main>
</body>
</html>
"""
