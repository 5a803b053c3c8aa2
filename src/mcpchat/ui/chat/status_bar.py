"""How the chat stands, on one line: model, agent, tokens and money, how full the window is, the servers."""

from collections.abc import Sequence

from rich.cells import cell_len, set_cell_size

from mcpchat.core.messages import Usage
from mcpchat.core.protocols import ServerStatus
from mcpchat.ui.render import stats
from mcpchat.util.sanitize import one_line

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
    name, whom = one_line(model, _NAME), one_line(agent, _NAME)
    spent = _spent(usage, dollars) if usage.total else ""
    full = f"{filled[0] / filled[1]:.0%} full" if filled is not None and filled[1] else ""
    long, short = _servers(servers)
    for said in (
        (name, whom, long, spent, full),
        (name, whom, short, spent, full),
        (name, short, spent, full),
        (name, spent, full),
        (name, full),
    ):
        shown = " · ".join(filter(None, said))
        if cell_len(shown) <= width:
            return shown
    return name if cell_len(name) <= width else set_cell_size(name, max(0, width - 1)).rstrip() + "…" * (width > 0)


def _spent(usage: Usage, dollars: float | None) -> str:
    about = "~" if usage.estimated else ""
    tokens = f"{about}{_short(usage.total)} tokens"
    return tokens if dollars is None else f"{tokens} · {stats.money(dollars)}"


def _short(count: int) -> str:
    return f"{count / 1000:.1f}k" if count >= 1000 else str(count)


def _servers(found: Sequence[ServerStatus]) -> tuple[str, str]:
    """How many there are, and which are not as they should be; and the same in few words."""
    if not found:
        return "no servers", "no servers"
    told = f"{len(found)} server{'s' * (len(found) != 1)}"
    wrong = [
        f"{one_line(status.name, _NAME)} {'wants a sign-in' if status.state == 'login' else 'is down'}"
        for status in found
        if status.state in {"failed", "login"}
    ]
    starting = sum(status.state == "starting" for status in found)
    if wrong:
        more = f" and {len(wrong) - 1} more" if len(wrong) > 1 else ""
        return f"{told}, {wrong[0]}{more}", f"{len(wrong)} of {told} down"
    return (f"{told}, {starting} starting", told) if starting else (told, told)
