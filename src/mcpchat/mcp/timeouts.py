"""How long one request may take: silence has a limit, the whole has another, and questions stop both clocks."""

import asyncio
from types import TracebackType


class Patience:
    """A context that ends in TimeoutError after ``idle`` seconds without a sign of life, or ``total`` seconds in all.

    Single use. ``spent`` says afterwards which limit it was.
    """

    def __init__(self, *, idle: float, total: float) -> None:
        self._idle = idle
        self._total = total
        self._pauses = 0
        self._paused_at = 0.0
        self._end = 0.0
        self._heard = 0.0
        self._scope: asyncio.Timeout | None = None

    async def __aenter__(self) -> "Patience":
        self._heard = _now()
        self._end = self._heard + self._total
        self._scope = asyncio.timeout_at(self._deadline())
        await self._scope.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._scope is not None
        scope, self._scope = self._scope, None
        await scope.__aexit__(kind, error, trace)

    @property
    def spent(self) -> str:
        """What was waited for in vain, in words."""
        if self._heard + self._idle >= self._end:
            return f"did not answer within {self._total:g} s"
        return f"was silent for {self._idle:g} s"

    def sign(self) -> None:
        """The other side lives: the silence begins anew."""
        self._heard = _now()
        self._arm()

    def pause(self) -> None:
        """Somebody else is waited for. Pauses nest."""
        self._pauses += 1
        if self._pauses == 1:
            self._paused_at = _now()
            self._arm()

    def resume(self) -> None:
        self._pauses -= 1
        if self._pauses == 0:
            self._end += _now() - self._paused_at
            self.sign()

    def _arm(self) -> None:
        if self._scope is not None and not self._scope.expired():
            self._scope.reschedule(None if self._pauses else self._deadline())

    def _deadline(self) -> float:
        return min(self._heard + self._idle, self._end)


def _now() -> float:
    return asyncio.get_running_loop().time()
