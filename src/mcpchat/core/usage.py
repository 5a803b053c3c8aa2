"""What was spent: tokens always, money where prices are known."""

from collections.abc import Callable

from mcpchat.core.messages import Usage

_UNASKED = 100  # requests
Price = Callable[[Usage], float | None]


class Spending:
    """A sum over requests. What is added here is added to the ``whole`` too, of which this is a part."""

    def __init__(self, whole: "Spending | None" = None) -> None:
        self._whole = whole
        self._entries: list[tuple[Usage, Price | None]] = []  # whose price was not asked for yet
        self._dollars = 0.0
        self.unpriced = 0  # requests whose price is not known
        self.usage = Usage()

    def add(self, usage: Usage, price: Price | None) -> None:
        """Add one request. The price is asked for when somebody wants to know the sum."""
        self._entries.append((usage, price))
        self.usage += usage
        if len(self._entries) > _UNASKED:
            self._price()
        if self._whole is not None:
            self._whole.add(usage, price)

    @property
    def dollars(self) -> float:
        """What the requests of known price cost together."""
        self._price()
        return self._dollars

    def _price(self) -> None:
        for usage, price in self._entries:
            cost = price(usage) if price is not None else None
            if cost is None:
                self.unpriced += 1
            else:
                self._dollars += cost
        self._entries.clear()

    @property
    def cost(self) -> float | None:
        """US dollars, or None where not all prices are known."""
        dollars = self.dollars
        return None if self.unpriced else dollars
