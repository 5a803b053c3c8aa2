"""Lists of servers and tools, as a person reads them."""

from collections.abc import Sequence

from rich.table import Table
from rich.text import Text

from mcpchat.core.ports import ServerStatus
from mcpchat.core.sanitize import one_line
from mcpchat.core.tools import ToolSpec

_STYLES = {"ready": "green", "failed": "red", "login": "yellow"}


def servers(statuses: Sequence[ServerStatus]) -> Table:
    table = _table("server", "state", "transport", "tools", "auth", "")
    for status in statuses:
        reason = status.detail.splitlines() or [""]
        took = f"{status.seconds:.1f} s" if status.seconds is not None else ""
        table.add_row(
            status.name,
            Text(status.state, style=_STYLES.get(status.state, "")),
            status.transport,
            "-" if status.tools is None else str(status.tools),
            status.auth,
            Text(one_line(took or (f"{reason[0]} · {reason[-1]}" if len(reason) > 1 else reason[0]), 120)),
        )
    return table


def tools(specs: Sequence[ToolSpec]) -> Table:
    table = _table("tool", "does")
    for spec in specs:
        flags = "  (changes things)" if spec.annotations.destructive else ""
        # Text, not str: rich would take what stands in brackets for markup.
        table.add_row(Text(one_line(spec.label, 80)), Text(one_line(spec.description or spec.title, 200) + flags))
    return table


def _table(*headings: str) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for number, heading in enumerate(headings):
        table.add_column(heading, no_wrap=number == 0, overflow="fold" if number == 0 else "ellipsis")
    return table
