"""The sign-in dialog: shows the address and the progress, and reads a pasted redirect address."""

import asyncio
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TYPE_CHECKING, TextIO

from mcpchat.core.accounts import format_duration
from mcpchat.errors import SignInNeeded
from mcpchat.util.sanitize import one_line, sanitize

if TYPE_CHECKING:
    from prompt_toolkit.key_binding import KeyPressEvent

_CANCELLED, _SKIPPED = "\0cancelled", "\0skipped"  # cannot be typed


@asynccontextmanager
async def _no_lock() -> AsyncIterator[None]:
    yield


class PlainSignIn:
    """Sign-in without a line to paste into: prints the address and waits for the callback.

    ``notify`` prints other messages; without it, they go to ``err``.
    """

    interactive = False
    _keys = "Ctrl-C stops"

    def __init__(self, err: TextIO, notify: Callable[[str], None] | None = None) -> None:
        self._err = err
        self._notify = notify

    def exclusive(self) -> AbstractAsyncContextManager[None]:
        return _no_lock()

    def show_url(self, url: str, *, provider_name: str, warning: str, timeout: float) -> None:
        limit = format_duration(timeout)
        self._print_line(
            f"Open this address to sign in at {one_line(provider_name, 100)} (waiting {limit}, {self._keys}):"
        )
        self._print_line(f"  {url}")
        if warning:
            self._print_line(f"  {sanitize(warning)}")

    def report_browser(self, started: bool) -> None:
        self._print_line("  (a browser was started)" if started else "  (no browser started; open it yourself)")

    def show_error(self, text: str) -> None:
        self._print_line(f"  {sanitize(text)}")

    def notify(self, text: str) -> None:
        if self._notify is not None:
            self._notify(text)
        else:
            self._print_line(text)

    async def read_pasted_url(self) -> str:
        await asyncio.Event().wait()
        raise AssertionError("the event is never set")

    def _print_line(self, text: str) -> None:
        self._err.write(f"{sanitize(text)}\n")
        self._err.flush()


class TerminalSignIn(PlainSignIn):
    """Sign-in with a line to paste the address into; ``exclusive`` holds the terminal meanwhile."""

    interactive = True
    _keys = "Ctrl-D skips it, Ctrl-C stops"

    def __init__(
        self,
        err: TextIO,
        notify: Callable[[str], None] | None = None,
        exclusive: Callable[[], AbstractAsyncContextManager[None]] = _no_lock,
    ) -> None:
        super().__init__(err, notify)
        self._exclusive = exclusive

    def exclusive(self) -> AbstractAsyncContextManager[None]:
        return self._exclusive()

    async def read_pasted_url(self) -> str:
        from prompt_toolkit import PromptSession
        from prompt_toolkit.key_binding import KeyBindings
        from prompt_toolkit.output import create_output

        bindings = KeyBindings()

        @bindings.add("c-c")
        def cancel(event: "KeyPressEvent") -> None:
            event.app.exit(result=_CANCELLED)

        @bindings.add("c-d")
        def skip(event: "KeyPressEvent") -> None:
            event.app.exit(result=_SKIPPED)

        # Not the chat's own session: the pasted address must not get into its history.
        session: PromptSession[str] = PromptSession(key_bindings=bindings, output=create_output(stdout=self._err))
        typed = await session.prompt_async("Or paste the address that your browser ended at: ", handle_sigint=False)
        if typed == _CANCELLED:
            signal.raise_signal(signal.SIGINT)
            await asyncio.Event().wait()  # until the cancellation arrives
        if typed == _SKIPPED:
            raise SignInNeeded("the sign-in was skipped")
        return typed
