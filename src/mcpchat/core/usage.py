"""Totals of token usage and cost."""

from collections.abc import Callable

from msgspec import Struct

from mcpchat.core.messages import Usage

REQUESTS = 100  # that the costs of a ToolUsage are for
_MAX_PENDING = 100  # requests
Price = Callable[[Usage], float | None]


class ToolUsage(Struct, frozen=True, kw_only=True):
    """What tools and the words of their servers take of each request to a model.

    ``tools`` is the number of tools that are sent, ``tokens`` all of it; ``counted`` says that the model's server
    counted them. With ``searched``, the model searches the other tools. ``window`` is the model's, in tokens; ``cost``
    is that of 100 requests in US dollars, ``cached_cost`` that with the provider's cache; None if unknown.
    """

    model: str
    tools: int
    tokens: int
    counted: bool
    searched: bool
    window: int | None
    cost: float | None
    cached_cost: float | None


class UsageTotals:
    """Totals over several requests. Each request is also added to ``parent``."""

    def __init__(self, parent: "UsageTotals | None" = None) -> None:
        self._parent = parent
        self._pending: list[tuple[Usage, Price | None]] = []  # requests that are not priced yet
        self._dollars = 0.0
        self.unpriced_requests = 0  # requests with unknown price
        self.usage = Usage()

    def add(self, usage: Usage, price: Price | None) -> None:
        """Add one request. ``price`` is called only when the cost is read, or when many requests are pending."""
        self._pending.append((usage, price))
        self.usage += usage
        if len(self._pending) > _MAX_PENDING:
            self._price_pending()
        if self._parent is not None:
            self._parent.add(usage, price)

    def raise_to(self, tokens: int, dollars: float) -> None:
        """Count what others have spent too, so that the totals are at least these."""
        missing = max(0, tokens - self.usage.total), max(0.0, dollars - self.dollars)
        if any(missing):
            self.add(Usage(input=missing[0]), lambda usage: missing[1])

    @property
    def dollars(self) -> float:
        """The cost of the requests with known prices, in US dollars."""
        self._price_pending()
        return self._dollars

    def _price_pending(self) -> None:
        for usage, price in self._pending:
            cost = price(usage) if price is not None else None
            if cost is None:
                self.unpriced_requests += 1
            else:
                self._dollars += cost
        self._pending.clear()

    @property
    def cost(self) -> float | None:
        """The total cost in US dollars; None if the price of a request is unknown."""
        dollars = self.dollars
        return None if self.unpriced_requests else dollars
