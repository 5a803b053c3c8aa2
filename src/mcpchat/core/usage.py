"""What was spent: tokens always, money where prices are known."""

from collections.abc import Callable

from mcpchat.core.messages import Usage

_MAX_PENDING = 100  # requests
Price = Callable[[Usage], float | None]


class UsageTotals:
    """A sum over requests. What is added here is added to the ``whole`` too, of which this is a part."""

    def __init__(self, parent: "UsageTotals | None" = None) -> None:
        self._parent = parent
        self._pending: list[tuple[Usage, Price | None]] = []  # whose price was not asked for yet
        self._dollars = 0.0
        self.unpriced_requests = 0  # requests whose price is not known
        self.usage = Usage()

    def add(self, usage: Usage, price: Price | None) -> None:
        """Add one request. The price is asked for when somebody wants to know the sum."""
        self._pending.append((usage, price))
        self.usage += usage
        if len(self._pending) > _MAX_PENDING:
            self._price_pending()
        if self._parent is not None:
            self._parent.add(usage, price)

    @property
    def dollars(self) -> float:
        """What the requests of known price cost together."""
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
        """US dollars, or None where not all prices are known."""
        dollars = self.dollars
        return None if self.unpriced_requests else dollars
