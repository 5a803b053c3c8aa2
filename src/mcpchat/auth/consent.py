"""The user's consent in a browser: shows the URL, opens a browser, and reads the callback or a pasted URL."""

import asyncio
import secrets
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NoReturn
from urllib.parse import urlsplit

from mcpchat.auth.loopback import CallbackListener, CallbackResult, ExpectedCallback, parse_callback
from mcpchat.auth.sign_in_page import not_signed_in, signed_in
from mcpchat.core.accounts import format_duration, list_scopes
from mcpchat.core.protocols import SignInDialog
from mcpchat.errors import SignInNeeded
from mcpchat.util.sanitize import one_line
from mcpchat.util.urls import InvalidUrl, parse_web_url

SIGN_IN_TIMEOUT = 300.0  # seconds for the user to finish a sign-in


@dataclass(frozen=True, kw_only=True)
class AuthorizationPrompt:
    """How the user is asked to sign in.

    ``open_page`` starts a browser and returns whether it started; None means no browser. ``port`` is the callback's
    port, 0 for any free one. ``timeout`` is in seconds.
    """

    screen: SignInDialog
    open_page: Callable[[str], bool] | None
    port: int = 0
    timeout: float = SIGN_IN_TIMEOUT


def generate_state() -> str:
    return secrets.token_urlsafe(32)


async def authorize(
    prompt: AuthorizationPrompt, listener: CallbackListener, url: str, expected: ExpectedCallback, *, provider_name: str
) -> CallbackResult:
    """Shows ``url`` to the user and returns the callback with its code.

    Raises SignInNeeded if the URL is not trusted, access is denied, or the time is over.
    """
    try:
        address = parse_web_url(url)
    except InvalidUrl as error:
        raise SignInNeeded(f"the sign-in URL of {provider_name} is not trusted: {error}") from error
    async with prompt.screen.exclusive():
        prompt.screen.show_url(
            address.url, provider_name=provider_name, warning=address.warning, timeout=prompt.timeout
        )
        if prompt.open_page is not None:
            prompt.screen.report_browser(prompt.open_page(listener.redirect_to(address.url)))
        result = await _wait_for_callback(prompt, listener, expected)
    if result.error:
        reason = "Access was denied." if result.error == "access_denied" else "The sign-in was refused."
        listener.report(not_signed_in(provider_name, reason))
        _raise_refused(result, provider_name)
    return result


@contextmanager
def report_exchange(listener: CallbackListener, name: str) -> Iterator[Callable[[str, Sequence[str]], None]]:
    """While inside, the code is exchanged. The block calls what it gets with the account and the granted scopes.

    The page in the browser shows these, or that the sign-in failed.
    """
    try:
        yield lambda account, scopes: listener.report(signed_in(name, account, list_scopes(scopes)))
    finally:
        listener.report(not_signed_in(name, "The sign-in could not be completed."))  # unless it was reported


async def _wait_for_callback(
    prompt: AuthorizationPrompt, listener: CallbackListener, expected: ExpectedCallback
) -> CallbackResult:
    """Returns the first valid callback, received or pasted. Raises SignInNeeded if there is none in time."""
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
            f"no sign-in within {format_duration(prompt.timeout)}",
            hint="an error on the page says why (such as an unknown client_id); --timeout sets more seconds",
        ) from error
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _read_pasted(screen: SignInDialog, listener: CallbackListener, expected: ExpectedCallback) -> CallbackResult:
    """Reads the URL at which the browser ended, or its query alone, until the user pastes a valid one."""
    while True:
        text = (await screen.read_pasted_url()).strip()
        if not text:
            continue
        try:
            return parse_callback(urlsplit(text).query if "?" in text else text, expected)
        except ValueError as error:
            screen.show_error(
                f"not a valid callback: {error}; paste the whole URL, which begins with {listener.redirect_uri}"
            )


def _raise_refused(result: CallbackResult, provider_name: str) -> NoReturn:
    if result.issuer_mismatch:
        raise SignInNeeded(
            f"the sign-in at {provider_name} was stopped: {result.description}", hint="nothing was saved"
        )
    if result.error == "access_denied":
        message = f"{provider_name} denied access"
    else:
        message = f"{provider_name} refused: {one_line(result.error, 80)}"
    raise SignInNeeded(message + (f": {one_line(result.description, 300)}" if result.description else ""))
