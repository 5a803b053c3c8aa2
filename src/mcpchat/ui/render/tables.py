"""Tables of servers, tools, models, accounts, threads and agents for the terminal."""

import time
from collections.abc import Collection, Mapping, Sequence

from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.table import Table
from rich.text import Text

from mcpchat.config.schema import AgentConfig
from mcpchat.core.accounts import AccountStatus, format_duration, format_scopes
from mcpchat.core.call_record import CallRecord
from mcpchat.core.catalog import Catalog, Prompt, Resource, ResourceTemplate, describe_offers
from mcpchat.core.protocols import ServerStatus
from mcpchat.core.server_task import ServerTask
from mcpchat.core.threads import Thread
from mcpchat.core.tools import ToolSpec
from mcpchat.ui.render import transcripts
from mcpchat.ui.terminal.screen import HangingIndent
from mcpchat.util.sanitize import one_line, sanitize

_MIN_TABLE_WIDTH = 120  # columns from which on resources and prompts are a table
_STYLES = {"ready": "green", "failed": "red", "login": "yellow"}


def server_table(statuses: Sequence[ServerStatus]) -> Table:
    table = _new_table("server", "state", "transport", "tools", "auth", "")
    for status in statuses:
        reason = status.detail.splitlines() or [""]
        hint = reason[-1] if status.state == "login" else ""  # else the reason names the cause
        duration = f"{status.seconds:.1f} s" if status.seconds is not None else ""
        table.add_row(
            status.name,
            Text(status.state, style=_STYLES.get(status.state, "")),
            status.transport,
            "-" if status.tools is None else str(status.tools),
            status.auth,
            Text(
                one_line(duration if not reason[0] else " · ".join(dict.fromkeys((reason[0], hint))).rstrip(" ·"), 300)
            ),
        )
    return table


def tool_table(specs: Sequence[ToolSpec]) -> Table:
    table = _new_table("tool", "description")
    for spec in specs:
        flags = "  (destructive)" if spec.annotations.destructive else ""
        # Text, not str: rich would read brackets as markup.
        table.add_row(
            Text(one_line(spec.qualified_name, 80)), Text(one_line(spec.description or spec.title, 200) + flags)
        )
    return table


def tool_cost_table(
    tools: Sequence[tuple[str, int]], servers: Mapping[str, int], sent: Mapping[str, int], deferred: Collection[str]
) -> Table:
    """The tokens of each tool, then of each server and of all of them: as ``sent``, and with the ``deferred`` ones."""
    table = _new_table("tool", "tokens (about)", *(["sent"] if deferred else []))

    def add_row(name: Text, tokens: int, sent_tokens: int) -> None:
        last = f"{sent_tokens:,}" if sent_tokens else "if searched for"
        table.add_row(name, f"{tokens:,}", *([last] if deferred else []))

    for name, tokens in tools:
        add_row(Text(one_line(name, 80)), tokens, tokens if name not in deferred else 0)
    for server, tokens in servers.items():
        add_row(Text(f"all of {one_line(server, 60)}", style="bold"), tokens, sent[server])
    if len(servers) != 1:
        add_row(Text("all", style="bold"), sum(servers.values()), sum(sent.values()))
    return table


class _AdaptiveTable:
    """A table; on a narrow screen a list instead: the first cells (``heads``) on a line, then the others, indented."""

    def __init__(self, *headings: str, heads: int = 1) -> None:
        self._heads = heads
        self._table = _new_table(*headings)
        self._rows: list[tuple[str, ...]] = []

    def add_row(self, *cells: str) -> None:
        self._rows.append(cells)
        self._table.add_row(*map(Text, cells))

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        if options.max_width >= _MIN_TABLE_WIDTH:
            yield self._table
            return
        for row in self._rows:
            yield HangingIndent(Text("  ".join(row[: self._heads])))
            for cell in filter(None, row[self._heads :]):
                yield HangingIndent(Text(f"    {cell}", style="dim"))


def resource_table(items: Sequence[Resource | ResourceTemplate]) -> RenderableType:
    table = _AdaptiveTable("resource", "type", "description")
    for resource in items:
        name = resource.label if isinstance(resource, Resource) else f"{resource.server}:{resource.uri}"
        description = " · ".join(text for text in (resource.name, resource.description) if text)
        table.add_row(one_line(name, 200), one_line(resource.media_type, 40), one_line(description, 200))
    return table


def prompt_table(items: Sequence[Prompt]) -> RenderableType:
    table = _AdaptiveTable("prompt", "arguments", "description")
    for prompt in items:
        arguments = " ".join(f"{a.name}=" if a.required else f"[{a.name}=]" for a in prompt.arguments)
        description = prompt.description or prompt.title
        table.add_row(one_line(prompt.label, 100), one_line(arguments, 100), one_line(description, 200))
    return table


def server_details(status: ServerStatus, catalog: Catalog, *, endpoint: str, tool_globs: str, log: str) -> Table:
    """The details of one server, one fact per row."""
    info = catalog.info
    facts = (
        ("state", f"{status.state}" + (f", after {status.seconds:.1f} s" if status.seconds is not None else "")),
        ("transport", f"{status.transport}: {endpoint}"),
        ("name", " ".join(text for text in (info.title or info.name, info.version) if text)),
        ("protocol", info.revision),
        ("capabilities", ", ".join(info.capabilities)),
        ("lists", describe_offers(catalog) or "nothing"),
        ("offered", f"{status.tools} tools: {tool_globs}" if tool_globs else ""),
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
            table.add_row(Text(name, style="dim"), Text(sanitize(fact)))
    return table


def model_table(rows: Sequence[tuple[str, str, int | None, str]]) -> Table:
    """Each row is (name to type, endpoint, context window in tokens, note)."""
    table = _new_table("model", "window", "at", "")
    for model, endpoint, window, note in rows:
        size = f"{window:,}" if window else "-"
        table.add_row(Text(one_line(model, 120)), size, Text(one_line(endpoint, 100)), Text(one_line(note, 80)))
    return table


def account_table(rows: Sequence[AccountStatus]) -> Table:
    """The logins, one per row."""
    table = _new_table("login", "account", "state", "scopes", "stored in", "servers", "")
    for row in rows:
        account = f"{row.alias} ({row.account})" if row.alias and row.account else row.alias or row.account
        account += ", default" if row.default else ""
        permissions = format_scopes(row.scopes)
        if row.missing:
            permissions += f"; NOT granted: {format_scopes(row.missing)}"
        note = row.detail if not row.hint else f"{row.detail}: {row.hint}" if row.detail else row.hint
        cells = (row.name, account, _format_account_state(row), permissions, row.kept_in, ", ".join(row.servers), note)
        table.add_row(*(Text(one_line(cell, 400)) for cell in cells))
    return table


def _format_account_state(row: AccountStatus) -> str:
    if row.state != "signed in" or row.expires is None:
        return row.state
    remaining = row.expires - time.time()
    if row.renews:
        return f"token for {format_duration(remaining)}, renews itself" if remaining > 0 else "renews itself"
    return f"expires in {format_duration(remaining)}" if remaining > 0 else "expired"


def _new_table(*headings: str) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for number, heading in enumerate(headings):
        table.add_column(heading, no_wrap=number == 0, overflow="fold" if number == 0 else "ellipsis")
    return table


def thread_table(items: Sequence[Thread]) -> Table:
    table = _new_table("id", "changed", "title", "messages", "agent", "model")
    for thread in items:
        table.add_row(
            thread.short_id,
            transcripts.format_time(thread.updated),
            Text(one_line(thread.title, 80) or "(untitled)"),
            str(thread.messages),
            Text(one_line(thread.agent, 40)),
            Text(one_line(thread.model, 40)),
        )
    return table


def call_table(records: Sequence[CallRecord]) -> RenderableType:
    table = _AdaptiveTable("when", "tool", "arguments", "allowed", "result", heads=2)
    for record in records:
        table.add_row(
            transcripts.format_time(record.at),
            one_line(record.tool, 60),
            one_line(record.arguments, 80),
            one_line(_describe_decision(record), 60),
            f"{record.seconds:.1f} s · {one_line(_describe_result(record), 100)}",
        )
    return table


def task_table(tasks: Sequence[ServerTask]) -> RenderableType:
    table = _AdaptiveTable("id", "tool", "status", "", "begun", "until", heads=3)
    for task in tasks:
        table.add_row(
            task.id,
            one_line(task.name, 60),
            task.status.replace("_", " "),
            one_line(task.message, 100),
            transcripts.format_time(task.created),
            transcripts.format_time(task.deadline or 0),
        )
    return table


def format_call(record: CallRecord) -> str:
    """One call as one line."""
    parts = (
        transcripts.format_time(record.at), record.tool, record.arguments, _describe_decision(record),
        f"{record.seconds:.1f} s", _describe_result(record),
    )  # fmt: skip
    return "  ".join(one_line(part, 120) for part in parts if part)


def _describe_decision(record: CallRecord) -> str:
    if not record.by:
        return "not asked"
    verdict = "yes" if record.allowed else "no"
    return f"{verdict}: {record.reason or ('you' if record.by == 'user' else 'a rule')}"


def _describe_result(record: CallRecord) -> str:
    if not record.allowed:
        return "did not run"
    return record.error or f"~{record.tokens:,} tokens"


def agent_table(items: Mapping[str, AgentConfig]) -> Table:
    table = _new_table("agent", "for", "model", "servers")
    for name, agent in items.items():
        servers = "all" if agent.servers is None else ", ".join(agent.servers) or "none"
        description = agent.description or agent.instructions
        table.add_row(
            Text(one_line(name, 60)),
            Text(one_line(description, 100)),
            Text(one_line(agent.model or "", 40)),
            Text(servers),
        )
    return table
