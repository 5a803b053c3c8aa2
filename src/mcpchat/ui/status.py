"""How the chat stands, on one line: model, agent, tokens and money, how full the window is, the servers."""

from collections.abc import Sequence

from rich.cells import cell_len, set_cell_size

from mcpchat.core.messages import Usage
from mcpchat.core.ports import ServerStatus
from mcpchat.core.sanitize import one_line
from mcpchat.ui import stats

_NAME = 40


def line(
    width: int,
    *,
    model: str,
    agent: str,
    usage: Usage,
    dollars: float | None,
    filled: tuple[int, int | None] | None,
    servers: Sequence[ServerStatus],
) -> str:
    """All that fits: what matters least is left out first."""
    said = [one_line(model, _NAME)]
    if agent:
        said.append(one_line(agent, _NAME))
    said.append(_servers(servers))
    if usage.total:
        said.append(_spent(usage, dollars))
    if filled is not None and filled[1]:
        said.append(f"{filled[0] / filled[1]:.0%} full")
    while len(said) > 1 and cell_len(" · ".join(said)) > width:
        said.pop()
    shown = " · ".join(said)
    return shown if cell_len(shown) <= width else set_cell_size(shown, max(0, width - 1)).rstrip() + "…" * (width > 0)


def _spent(usage: Usage, dollars: float | None) -> str:
    about = "~" if usage.estimated else ""
    tokens = f"{about}{_short(usage.total)} tokens"
    return tokens if dollars is None else f"{tokens} · {stats.money(dollars)}"


def _short(count: int) -> str:
    return f"{count / 1000:.1f}k" if count >= 1000 else str(count)


def _servers(found: Sequence[ServerStatus]) -> str:
    """ "3 servers", and those that are not as they should be."""
    if not found:
        return "no servers"
    told = f"{len(found)} server{'s' * (len(found) != 1)}"
    wrong = [
        f"{one_line(status.name, _NAME)} {'wants a sign-in' if status.state == 'login' else 'is down'}"
        for status in found
        if status.state in {"failed", "login"}
    ]
    starting = sum(status.state == "starting" for status in found)
    if wrong:
        return f"{told}, {wrong[0]}" + (f" and {len(wrong) - 1} more" if len(wrong) > 1 else "")
    return f"{told}, {starting} starting" if starting else told
