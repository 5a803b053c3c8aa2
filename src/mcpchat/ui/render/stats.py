"""Formats the usage of a turn or a conversation: tokens, cost, time."""

from msgspec import UnsetType

from mcpchat.core.events import TurnFinished
from mcpchat.core.messages import Usage
from mcpchat.core.usage import REQUESTS, ToolUsage
from mcpchat.util.sanitize import one_line


def format_turn(event: TurnFinished) -> list[str]:
    """What a turn took, and what its input was: ``1,204 in (980 cached) · 310 out · $0.0041 · 6.1 s``."""
    return [
        f"{format_tokens(event.usage)} · {format_cost(event.cost)} · {event.seconds:.1f} s",
        *format_input(event.usage),
    ]


def format_input(usage: Usage) -> list[str]:
    """A line of what the input was, if that is known: ``in: about 310 instructions, 2,104 tool definitions``."""
    if isinstance(split := usage.input_split, UnsetType):
        return []
    shares = {"instructions": split.instructions, "tool definitions": split.tools, "messages": split.history}
    shares |= {f"results of {one_line(server, 40) or 'tools'}": tokens for server, tokens in split.results.items()}
    return ["in: about " + ", ".join(f"{tokens:,} {what}" for what, tokens in shares.items() if tokens)]


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


def format_tool_usage(usage: ToolUsage) -> list[str]:
    """What the tools take of each request to the model, and of money."""
    tokens = f"{usage.tokens:,} tokens, counted by its server" if usage.counted else f"about {usage.tokens:,} tokens"
    share = f", {usage.tokens / usage.window:.1%} of its window of {usage.window:,}" if usage.window else ""
    searched = "; it searches the others" if usage.searched else ""
    lines = [f"each request to {one_line(usage.model, 80)}: {usage.tools} tools{searched}, {tokens}{share}"]
    if usage.cost:
        is_cheaper = usage.cached_cost is not None and usage.cached_cost < usage.cost
        cached = f", or {format_cost(usage.cached_cost)} if the provider's cache has them" if is_cheaper else ""
        lines.append(f"{REQUESTS} requests: {format_cost(usage.cost)}{cached}")
    return lines
