"""Request timeout with an idle limit and a total limit; both pause while the user is being asked."""

import asyncio
from types import TracebackType


class RequestTimeout:
    """A context manager that raises TimeoutError after ``idle`` seconds without progress, or after ``total`` seconds.

    Single use. Afterwards ``reason`` says which limit was exceeded.
    """

    def __init__(self, *, idle: float, total: float) -> None:
        self._idle = idle
        self._total = total
        self._pause_count = 0
        self._paused_at = 0.0
        self._total_deadline = 0.0
        self._last_activity = 0.0
        self._scope: asyncio.Timeout | None = None

    async def __aenter__(self) -> "RequestTimeout":
        self._last_activity = _now()
        self._total_deadline = self._last_activity + self._total
        self._scope = asyncio.timeout_at(self._next_deadline())
        await self._scope.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._scope is not None
        scope, self._scope = self._scope, None
        await scope.__aexit__(kind, error, trace)

    @property
    def reason(self) -> str:
        """Which limit was exceeded, as the predicate of a sentence."""
        if self._last_activity + self._idle >= self._total_deadline:
            return f"did not answer within {self._total:g} s"
        return f"was silent for {self._idle:g} s"

    def touch(self) -> None:
        """Restart the idle limit, because the server has sent something."""
        self._last_activity = _now()
        self._reschedule()

    def pause(self) -> None:
        """Stop both clocks. Pauses nest."""
        self._pause_count += 1
        if self._pause_count == 1:
            self._paused_at = _now()
            self._reschedule()

    def resume(self) -> None:
        """End one pause. The last one starts both clocks again, the idle limit from zero."""
        self._pause_count -= 1
        if self._pause_count == 0:
            self._total_deadline += _now() - self._paused_at
            self.touch()

    def _reschedule(self) -> None:
        if self._scope is not None and not self._scope.expired():
            self._scope.reschedule(None if self._pause_count else self._next_deadline())

    def _next_deadline(self) -> float:
        return min(self._last_activity + self._idle, self._total_deadline)


def _now() -> float:
    return asyncio.get_running_loop().time()
