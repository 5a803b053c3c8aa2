"""What the requests of the saved threads took."""

import asyncio
from collections.abc import Callable, Iterable, Iterator

from msgspec.structs import replace

from mcpchat.config.run import RunContext
from mcpchat.core.usage import Price
from mcpchat.core.usage_report import UsageEntry, UsageReport, summarize
from mcpchat.models.selection import ModelSelector
from mcpchat.threads import resume


async def read_usage(context: RunContext, begin: float, end: float, *, warn: Callable[[str], None]) -> UsageReport:
    """The report for the time between ``begin`` and ``end`` (seconds since 1970), without secrets.

    A request whose cost was not looked up then gets it from today's prices. Raises StoreError, ConfigError.
    """
    store = await resume.open_store(context, warn)
    try:
        prices = _Prices(ModelSelector(context, track_cost=True))
        report = await asyncio.to_thread(lambda: summarize(prices.fill_in(store.usage(begin, end))))
    finally:
        store.close()
    return context.secrets.redact_value(report)


class _Prices:
    """The prices of models by the names that select them, looked up once."""

    def __init__(self, selector: ModelSelector) -> None:
        self._selector = selector
        self._known: dict[str, Price | None] = {}

    def fill_in(self, entries: Iterable[UsageEntry]) -> Iterator[UsageEntry]:
        """The entries, each with a cost, if its model has a known price."""
        for entry in entries:
            record = entry.record
            if record.usage is not None and record.cost is None:
                if record.model not in self._known:
                    self._known[record.model] = self._selector.find_price(record.model)
                price = self._known[record.model]
                cost = price(record.usage) if price is not None else None
                entry = replace(entry, record=replace(record, cost=cost))
            yield entry
