"""A sign-in as a person sees it: the address, what happens, and a line to paste the answer into."""

import asyncio
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TYPE_CHECKING, TextIO

from mcpchat.core.accounts import span
from mcpchat.util.sanitize import clean, one_line

if TYPE_CHECKING:
    from prompt_toolkit.key_binding import KeyPressEvent

_CANCELLED = "\0cancelled"  # which nobody can type


@asynccontextmanager
async def _free() -> AsyncIterator[None]:
    yield


class PlainScreen:
    """For where nobody can paste: the address is told, and the callback waited for. ``tell`` is for all else."""

    interactive = False

    def __init__(self, err: TextIO, tell: Callable[[str], None] | None = None) -> None:
        self._err = err
        self._tell = tell

    def holding(self) -> AbstractAsyncContextManager[None]:
        return _free()

    def show(self, url: str, *, whom: str, warning: str, patience: float) -> None:
        limit = span(patience)
        self._say(f"Open this address to sign in at {one_line(whom, 100)} (waiting {limit}, Ctrl-C stops):")
        self._say(f"  {url}")
        if warning:
            self._say(f"  {clean(warning)}")

    def opened(self, started: bool) -> None:
        self._say("  (a browser was started)" if started else "  (no browser could be started: open it by hand)")

    def wrong(self, text: str) -> None:
        self._say(f"  {clean(text)}")

    def tell(self, text: str) -> None:
        if self._tell is not None:
            self._tell(text)
        else:
            self._say(text)

    async def pasted(self) -> str:
        await asyncio.Event().wait()
        raise AssertionError("nobody sets it")

    def _say(self, text: str) -> None:
        self._err.write(f"{clean(text)}\n")
        self._err.flush()


class TerminalScreen(PlainScreen):
    """With a line for what is pasted; ``hold`` keeps everything else off the terminal meanwhile."""

    interactive = True

    def __init__(
        self,
        err: TextIO,
        tell: Callable[[str], None] | None = None,
        hold: Callable[[], AbstractAsyncContextManager[None]] = _free,
    ) -> None:
        super().__init__(err, tell)
        self._hold = hold

    def holding(self) -> AbstractAsyncContextManager[None]:
        return self._hold()

    async def pasted(self) -> str:
        from prompt_toolkit import PromptSession
        from prompt_toolkit.key_binding import KeyBindings
        from prompt_toolkit.output import create_output

        bindings = KeyBindings()

        @bindings.add("c-c")
        def cancel(event: "KeyPressEvent") -> None:
            event.app.exit(result=_CANCELLED)

        @bindings.add("c-d")
        def nothing(event: "KeyPressEvent") -> None:
            """The callback is still waited for."""

        # Not the session of the chat: what is pasted here stands in no history.
        session: PromptSession[str] = PromptSession(key_bindings=bindings, output=create_output(stdout=self._err))
        typed = await session.prompt_async("Or paste the address at which your browser ended: ", handle_sigint=False)
        if typed == _CANCELLED:
            signal.raise_signal(signal.SIGINT)
            await asyncio.Event().wait()  # here the cancellation arrives
        return typed
