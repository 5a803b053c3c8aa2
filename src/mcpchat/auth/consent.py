"""One consent of a person: the address shown, a browser opened, and the answer taken from the callback or a paste."""

import asyncio
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import NoReturn
from urllib.parse import urlsplit

from mcpchat.auth.loopback import Expected, Listener, Reply, read_reply
from mcpchat.core.accounts import span
from mcpchat.core.protocols import SignInScreen
from mcpchat.errors import SignInNeeded
from mcpchat.util.sanitize import one_line
from mcpchat.util.urls import BadAddress, web_address

PATIENCE = 300.0  # seconds for a person to answer


@dataclass(frozen=True, kw_only=True)
class Consent:
    """How a person is asked. ``open_page`` starts a browser, and says whether it could; ``port`` 0 is any free one."""

    screen: SignInScreen
    open_page: Callable[[str], bool] | None
    port: int = 0
    patience: float = PATIENCE


def new_state() -> str:
    return secrets.token_urlsafe(32)


async def ask(consent: Consent, listener: Listener, url: str, expected: Expected, *, whom: str) -> Reply:
    """The answer with a code. Raises SignInNeeded where there is none: refused, or not in time."""
    try:
        address = web_address(url)
    except BadAddress as error:
        raise SignInNeeded(f"{whom} sends people to an address that cannot be trusted: {error}") from error
    async with consent.screen.holding():
        consent.screen.show(address.url, whom=whom, warning=address.warning, patience=consent.patience)
        if consent.open_page is not None:
            consent.screen.opened(consent.open_page(address.url))
        reply = await _first(consent, listener, expected)
    if reply.error:
        _refused(reply, whom)
    return reply


async def _first(consent: Consent, listener: Listener, expected: Expected) -> Reply:
    """The first right answer, from wherever it comes. Raises SignInNeeded when there is none in time."""
    answers = {
        asyncio.create_task(listener.reply(expected)),
        asyncio.create_task(_pasted(consent.screen, listener, expected)),
    }
    try:
        async with asyncio.timeout(consent.patience):
            done, _ = await asyncio.wait(answers, return_when=asyncio.FIRST_COMPLETED)
        return done.pop().result()
    except TimeoutError as error:
        raise SignInNeeded(
            f"nobody signed in within {span(consent.patience)}",
            hint="an error on the page says why (an unknown client_id, perhaps); --timeout gives more seconds",
        ) from error
    finally:
        for task in answers:
            task.cancel()
        await asyncio.gather(*answers, return_exceptions=True)


async def _pasted(screen: SignInScreen, listener: Listener, expected: Expected) -> Reply:
    """What a person pastes: the address at which the browser ended, or what follows its question mark."""
    while True:
        text = (await screen.pasted()).strip()
        if not text:
            continue
        try:
            return read_reply(urlsplit(text).query if "?" in text else text, expected)
        except ValueError as error:
            screen.wrong(f"that is not the answer: {error}; paste the whole address, beginning {listener.redirect_uri}")


def _refused(reply: Reply, whom: str) -> NoReturn:
    if reply.mixed_up:
        raise SignInNeeded(f"the sign-in at {whom} was stopped: {reply.description}", hint="nothing was kept")
    if reply.error == "access_denied":
        told = f"{whom} says that access was refused"
    else:
        told = f"{whom} refused: {one_line(reply.error, 80)}"
    raise SignInNeeded(told + (f": {one_line(reply.description, 300)}" if reply.description else ""))
