"""What the requests of saved threads took: tokens and money, by day, model, agent, server and thread."""

import time
from collections.abc import Iterable, Sequence
from typing import Literal

import msgspec
from msgspec import Struct, UnsetType

from mcpchat.core.messages import Usage
from mcpchat.core.threads import MessageMetadata

Dimension = Literal["day", "model", "agent", "server", "thread"]
DIMENSIONS: tuple[Dimension, ...] = ("day", "model", "agent", "server", "thread")


class UsageEntry(Struct, frozen=True, kw_only=True):
    """The record of one message, with the thread that it is in."""

    thread: str
    title: str
    record: MessageMetadata


class UsageRow(Struct, kw_only=True):
    """The sums for one day, model, agent, server or thread.

    ``input`` includes ``cached`` and ``written``, ``output`` includes ``reasoning``, all in tokens. ``cost`` is in US
    dollars, of the requests whose price is known; ``unpriced`` is the number of the others. A server has no
    requests: its ``input`` is what the results of its tools took in all requests, ``calls`` are its calls, and
    ``seconds`` their durations.
    """

    key: str
    label: str = ""
    requests: int = 0
    input: int = 0
    cached: int = 0
    written: int = 0
    output: int = 0
    reasoning: int = 0
    cost: float = 0.0
    unpriced: int = 0
    calls: int = 0
    seconds: float = 0.0

    @property
    def tokens(self) -> int:
        return self.input + self.output

    @property
    def cached_share(self) -> float:
        """The part of the input that the provider's cache had, from 0 to 1."""
        return self.cached / self.input if self.input else 0.0

    def add(self, usage: Usage, cost: float | None) -> None:
        """Add one request."""
        self.requests += 1
        self.input += usage.input
        self.cached += usage.cached
        self.written += usage.written
        self.output += usage.output
        self.reasoning += usage.reasoning
        self.cost += cost or 0.0
        self.unpriced += cost is None


class UsageReport(Struct, frozen=True, kw_only=True):
    """The sums by every dimension, and those of all requests."""

    rows: dict[Dimension, list[UsageRow]]
    total: UsageRow


def summarize(entries: Iterable[UsageEntry]) -> UsageReport:
    """Sum up the entries. A message that a fork took over counts once. Days are local, and come in their order.

    The other rows are sorted by cost, or by tokens if the price of a request is unknown, the largest first.
    """
    tables: dict[Dimension, dict[str, UsageRow]] = {dimension: {} for dimension in DIMENSIONS}
    total = UsageRow(key="total")
    seen: set[bytes] = set()

    def row(dimension: Dimension, key: str, label: str = "") -> UsageRow:
        return tables[dimension].setdefault(key, UsageRow(key=key, label=label))

    for entry in entries:
        record = entry.record
        if record.at <= 0 or (record.usage is None and not record.calls):  # an imported message may have no time
            continue
        identity = msgspec.json.encode(record)
        if identity in seen:
            continue
        seen.add(identity)
        if (usage := record.usage) is not None:
            rows = [
                row("day", time.strftime("%Y-%m-%d", time.localtime(record.at))),
                row("model", record.model),
                row("agent", record.agent),
                row("thread", entry.thread, entry.title),
                total,
            ]
            for item in rows:
                item.add(usage, record.cost)
            split = usage.input_split
            for server, tokens in {} if isinstance(split, UnsetType) else split.results.items():
                row("server", server).input += tokens
        for call in record.calls:
            item = row("server", call.tool.partition(".")[0])
            item.calls += 1
            item.seconds += call.seconds
            total.calls += 1
            total.seconds += call.seconds
    for item in (total, *(row for table in tables.values() for row in table.values())):
        item.cost, item.seconds = round(item.cost, 6), round(item.seconds, 3)
    return UsageReport(rows={name: _sort(name, table.values()) for name, table in tables.items()}, total=total)


def _sort(dimension: Dimension, rows: Iterable[UsageRow]) -> list[UsageRow]:
    if dimension == "day":
        return sorted(rows, key=lambda row: row.key)
    rows = list(rows)
    by = "tokens" if dimension == "server" else measure(rows)
    return sorted(rows, key=lambda row: (-row.cost if by == "cost" else -row.tokens, -row.tokens, row.key))


def measure(rows: Sequence[UsageRow]) -> Literal["cost", "tokens"]:
    """What the rows are best compared by: money, if every request has a price."""
    is_priced = any(row.cost for row in rows) and not any(row.unpriced for row in rows)
    return "cost" if is_priced else "tokens"
