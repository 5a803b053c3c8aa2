"""One consent of a person: the address shown, a browser opened, and the answer taken from the callback or a paste."""

import asyncio
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import NoReturn
from urllib.parse import urlsplit

from mcpchat.auth.loopback import CallbackListener, CallbackResult, ExpectedCallback, parse_callback
from mcpchat.core.accounts import format_duration
from mcpchat.core.protocols import SignInDialog
from mcpchat.errors import SignInNeeded
from mcpchat.util.sanitize import one_line
from mcpchat.util.urls import InvalidUrl, parse_web_url

SIGN_IN_TIMEOUT = 300.0  # seconds for a person to answer


@dataclass(frozen=True, kw_only=True)
class AuthorizationPrompt:
    """How a person is asked. ``open_page`` starts a browser, and says whether it could; ``port`` 0 is any free one."""

    screen: SignInDialog
    open_page: Callable[[str], bool] | None
    port: int = 0
    timeout: float = SIGN_IN_TIMEOUT


def generate_state() -> str:
    return secrets.token_urlsafe(32)


async def authorize(
    prompt: AuthorizationPrompt, listener: CallbackListener, url: str, expected: ExpectedCallback, *, provider_name: str
) -> CallbackResult:
    """The answer with a code. Raises SignInNeeded where there is none: refused, or not in time."""
    try:
        address = parse_web_url(url)
    except InvalidUrl as error:
        raise SignInNeeded(f"{provider_name} sends people to an address that cannot be trusted: {error}") from error
    async with prompt.screen.exclusive():
        prompt.screen.show_url(
            address.url, provider_name=provider_name, warning=address.warning, timeout=prompt.timeout
        )
        if prompt.open_page is not None:
            prompt.screen.report_browser(prompt.open_page(address.url))
        result = await _wait_for_callback(prompt, listener, expected)
    if result.error:
        _raise_refused(result, provider_name)
    return result


async def _wait_for_callback(
    prompt: AuthorizationPrompt, listener: CallbackListener, expected: ExpectedCallback
) -> CallbackResult:
    """The first right answer, from wherever it comes. Raises SignInNeeded when there is none in time."""
    tasks = {
        asyncio.create_task(listener.wait_for_callback(expected)),
        asyncio.create_task(_read_pasted(prompt.screen, listener, expected)),
    }
    try:
        async with asyncio.timeout(prompt.timeout):
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        return done.pop().result()
    except TimeoutError as error:
        raise SignInNeeded(
            f"nobody signed in within {format_duration(prompt.timeout)}",
            hint="an error on the page says why (an unknown client_id, perhaps); --timeout gives more seconds",
        ) from error
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _read_pasted(screen: SignInDialog, listener: CallbackListener, expected: ExpectedCallback) -> CallbackResult:
    """What a person pastes: the address at which the browser ended, or what follows its question mark."""
    while True:
        text = (await screen.read_pasted_url()).strip()
        if not text:
            continue
        try:
            return parse_callback(urlsplit(text).query if "?" in text else text, expected)
        except ValueError as error:
            screen.show_error(
                f"that is not the answer: {error}; paste the whole address, beginning {listener.redirect_uri}"
            )


def _raise_refused(result: CallbackResult, provider_name: str) -> NoReturn:
    if result.issuer_mismatch:
        raise SignInNeeded(f"the sign-in at {provider_name} was stopped: {result.description}", hint="nothing was kept")
    if result.error == "access_denied":
        message = f"{provider_name} says that access was refused"
    else:
        message = f"{provider_name} refused: {one_line(result.error, 80)}"
    raise SignInNeeded(message + (f": {one_line(result.description, 300)}" if result.description else ""))
