"""A limit of calls in any minute."""

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable

_MINUTE = 60.0  # seconds


class RateLimit:
    """At most ``calls`` calls begin in any minute. ``clock`` returns seconds, ``sleep`` waits for some."""

    def __init__(
        self,
        calls: int,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._starts: deque[float] = deque(maxlen=calls)
        self._clock = clock
        self._sleep = sleep
        self._queue = asyncio.Lock()  # calls that wait begin in their order

    @property
    def seconds_left(self) -> float:
        """For how long the next call has to wait."""
        if len(self._starts) < (self._starts.maxlen or 0):
            return 0.0
        return max(0.0, self._starts[0] + _MINUTE - self._clock())

    def begin(self) -> bool:
        """Begin a call if it need not wait. Returns whether it may run."""
        if self.seconds_left > 0 or self._queue.locked():
            return False
        self._starts.append(self._clock())
        return True

    async def wait(self, on_wait: Callable[[float], None]) -> None:
        """Wait until the call may begin. ``on_wait`` is told for how many seconds."""
        async with self._queue:
            while (seconds := self.seconds_left) > 0:
                on_wait(seconds)
                await self._sleep(seconds)
            self._starts.append(self._clock())
