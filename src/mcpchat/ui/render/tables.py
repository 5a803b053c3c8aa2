"""Lists of servers and tools, as a person reads them."""

import time
from collections.abc import Mapping, Sequence

from rich.table import Table
from rich.text import Text

from mcpchat.config.schema import AgentConfig
from mcpchat.core.accounts import LoginState, scope_titles, span
from mcpchat.core.catalog import Catalog, Prompt, Resource, Template
from mcpchat.core.protocols import ServerStatus
from mcpchat.core.threads import Thread
from mcpchat.core.tools import ToolSpec
from mcpchat.ui.render import transcripts
from mcpchat.util.sanitize import clean, one_line

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
            Text(one_line(took if not reason[0] else " · ".join(dict.fromkeys((reason[0], reason[-1]))), 160)),
        )
    return table


def tools(specs: Sequence[ToolSpec]) -> Table:
    table = _table("tool", "does")
    for spec in specs:
        flags = "  (changes things)" if spec.annotations.destructive else ""
        # Text, not str: rich would take what stands in brackets for markup.
        table.add_row(Text(one_line(spec.label, 80)), Text(one_line(spec.description or spec.title, 200) + flags))
    return table


def resources(found: Sequence[Resource | Template]) -> Table:
    table = _table("resource", "type", "is")
    for one in found:
        name = one.label if isinstance(one, Resource) else f"{one.server}:{one.uri}"
        about = " · ".join(text for text in (one.name, one.description) if text)
        table.add_row(Text(one_line(name, 200)), Text(one_line(one.media_type, 40)), Text(one_line(about, 200)))
    return table


def prompts(found: Sequence[Prompt]) -> Table:
    table = _table("prompt", "takes", "does")
    for one in found:
        takes = " ".join(f"{a.name}=" if a.required else f"[{a.name}=]" for a in one.arguments)
        about = one.description or one.title
        table.add_row(Text(one_line(one.label, 100)), Text(one_line(takes, 100)), Text(one_line(about, 200)))
    return table


def server(status: ServerStatus, catalog: Catalog, *, reach: str, globs: str, log: str) -> Table:
    """All about one server, a fact a line."""
    info = catalog.info
    counts = [
        f"{len(found)} {what}"
        for what, found in (
            ("tools", catalog.tools),
            ("resources", catalog.resources),
            ("resource templates", catalog.templates),
            ("prompts", catalog.prompts),
        )
        if found
    ]
    facts = (
        ("state", f"{status.state}" + (f", after {status.seconds:.1f} s" if status.seconds is not None else "")),
        ("reached by", f"{status.transport}: {reach}"),
        ("calls itself", " ".join(text for text in (info.title or info.name, info.version) if text)),
        ("protocol", info.revision),
        ("capabilities", ", ".join(info.capabilities)),
        ("lists", ", ".join(counts) or "nothing"),
        ("offered", f"{status.tools} tools: {globs}" if globs else ""),
        ("sign-in", status.auth),
        ("notices", "; ".join(catalog.notices)),
        ("log", log),
        ("instructions", info.instructions.strip()),
    )
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    table.add_row(Text(status.name, style="bold"))
    for name, fact in facts:
        if fact:
            table.add_row(Text(name, style="dim"), Text(clean(fact)))
    return table


def models(rows: Sequence[tuple[str, str, int | None, str]]) -> Table:
    """``(what to type, where it is, window, note)`` a row."""
    table = _table("model", "window", "at", "")
    for model, at, window, note in rows:
        size = f"{window:,}" if window else "-"
        table.add_row(Text(one_line(model, 120)), size, Text(one_line(at, 100)), Text(one_line(note, 80)))
    return table


def logins(rows: Sequence[LoginState]) -> Table:
    """The logins, a row each."""
    table = _table("login", "account", "state", "allows", "kept in", "servers", "")
    for row in rows:
        account = f"{row.alias} ({row.account})" if row.alias and row.account else row.alias or row.account
        account += ", default" if row.default else ""
        allows = scope_titles(row.scopes)
        if row.missing:
            allows += f"; NOT granted: {scope_titles(row.missing)}"
        told = row.detail if not row.hint else f"{row.detail}: {row.hint}" if row.detail else row.hint
        cells = (row.name, account, _login_state(row), allows, row.kept_in, ", ".join(row.servers), told)
        table.add_row(*(Text(one_line(cell, 400)) for cell in cells))
    return table


def _login_state(row: LoginState) -> str:
    if row.state != "signed in" or row.expires is None:
        return row.state
    left = row.expires - time.time()
    if row.renews:
        return f"token for {span(left)}, renews itself" if left > 0 else "renews itself"
    return f"expires in {span(left)}" if left > 0 else "expired"


def _table(*headings: str) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for number, heading in enumerate(headings):
        table.add_column(heading, no_wrap=number == 0, overflow="fold" if number == 0 else "ellipsis")
    return table


def threads(found: Sequence[Thread]) -> Table:
    table = _table("id", "changed", "title", "messages", "agent", "model")
    for thread in found:
        table.add_row(
            thread.short_id,
            transcripts.when(thread.updated),
            Text(one_line(thread.title, 80) or "(untitled)"),
            str(thread.messages),
            Text(one_line(thread.agent, 40)),
            Text(one_line(thread.model, 40)),
        )
    return table


def agents(found: Mapping[str, AgentConfig]) -> Table:
    table = _table("agent", "for", "model", "servers")
    for name, agent in found.items():
        servers = "all" if agent.servers is None else ", ".join(agent.servers) or "none"
        about = agent.description or agent.instructions
        table.add_row(
            Text(one_line(name, 60)), Text(one_line(about, 100)), Text(one_line(agent.model or "", 40)), Text(servers)
        )
    return table
