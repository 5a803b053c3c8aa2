"""The status line of the chat: model, agent, servers, tokens, cost, and how full the context window is."""

from collections.abc import Sequence

from rich.cells import cell_len, set_cell_size

from mcpchat.core.messages import Usage
from mcpchat.core.protocols import ServerStatus
from mcpchat.ui.render import stats
from mcpchat.util.sanitize import one_line

_MAX_NAME_LENGTH = 40


def format_status(
    width: int,
    *,
    model: str,
    agent: str,
    usage: Usage,
    cost: float | None,
    window_usage: tuple[int, int | None] | None,
    servers: Sequence[ServerStatus],
) -> str:
    """The status on at most ``width`` cells; the least important parts are left out first.

    ``cost`` is in US dollars; ``window_usage`` is the tokens in use and the size of the window, None if unknown.
    """
    model_name, agent_name = one_line(model, _MAX_NAME_LENGTH), one_line(agent, _MAX_NAME_LENGTH)
    usage_text = _format_usage(usage, cost) if usage.total else ""
    fill = f"{window_usage[0] / window_usage[1]:.0%} full" if window_usage is not None and window_usage[1] else ""
    long, short = _format_servers(servers)
    for parts in (
        (model_name, agent_name, long, usage_text, fill),
        (model_name, agent_name, short, usage_text, fill),
        (model_name, short, usage_text, fill),
        (model_name, usage_text, fill),
        (model_name, fill),
    ):
        text = " · ".join(filter(None, parts))
        if cell_len(text) <= width:
            return text
    return (
        model_name
        if cell_len(model_name) <= width
        else set_cell_size(model_name, max(0, width - 1)).rstrip() + "…" * (width > 0)
    )


def _format_usage(usage: Usage, cost: float | None) -> str:
    prefix = "~" if usage.estimated else ""
    tokens = f"{prefix}{_format_count(usage.total)} tokens"
    return tokens if cost is None else f"{tokens} · {stats.format_cost(cost)}"


def _format_count(count: int) -> str:
    return f"{count / 1000:.1f}k" if count >= 1000 else str(count)


def _format_servers(statuses: Sequence[ServerStatus]) -> tuple[str, str]:
    """The number of servers and their problems: a long and a short text."""
    if not statuses:
        return "no servers", "no servers"
    total = f"{len(statuses)} server{'s' * (len(statuses) != 1)}"
    problems = [
        f"{one_line(status.name, _MAX_NAME_LENGTH)} {'wants a sign-in' if status.state == 'login' else 'is down'}"
        for status in statuses
        if status.state in {"failed", "login"}
    ]
    starting = sum(status.state == "starting" for status in statuses)
    if problems:
        more = f" and {len(problems) - 1} more" if len(problems) > 1 else ""
        return f"{total}, {problems[0]}{more}", f"{len(problems)} of {total} down"
    return (f"{total}, {starting} starting", total) if starting else (total, total)
