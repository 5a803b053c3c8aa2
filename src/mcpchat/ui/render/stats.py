"""Formats the usage of a turn or a conversation: tokens, cost, time."""

from mcpchat.core.events import TurnFinished
from mcpchat.core.messages import Usage


def format_turn(event: TurnFinished) -> str:
    """``1,204 in (980 cached) · 310 out (64 reasoning) · $0.0041 · 6.1 s``."""
    return f"{format_tokens(event.usage)} · {format_cost(event.cost)} · {event.seconds:.1f} s"


def format_summary(event: TurnFinished, calls: int) -> str:
    """``3 tools · 4.2 s · 1,204 tokens · $0.01``: what a turn took, without what is 0 or unknown."""
    facts = [
        f"{calls} tool{'s' * (calls != 1)}" if calls else "",
        f"{event.seconds:.1f} s",
        f"{'~' * event.usage.estimated}{event.usage.total:,} tokens",
        format_cost(event.cost) if event.cost else "",
    ]
    return " · ".join(filter(None, facts))


def format_tokens(usage: Usage) -> str:
    prefix = "about " if usage.estimated else ""
    cached = f" ({usage.cached:,} cached)" if usage.cached else ""
    reasoning = f" ({usage.reasoning:,} reasoning)" if usage.reasoning else ""
    return f"{prefix}{usage.input:,} in{cached} · {usage.output:,} out{reasoning}"


def format_cost(dollars: float | None) -> str:
    """A cost in US dollars; an unknown cost is not shown as 0."""
    if dollars is None:
        return "cost unknown"
    if 0 < dollars < 0.0001:
        return "<$0.0001"
    return f"${dollars:.2f}" if dollars >= 1 else f"${dollars:.4f}"


def format_window(used: int, window: int | None) -> str:
    """How full the model's context window is, in tokens."""
    if window is None:
        return f"about {used:,} tokens in the conversation; the model's context window is unknown"
    return f"about {used:,} of {window:,} tokens in the conversation ({used / window:.0%})"
