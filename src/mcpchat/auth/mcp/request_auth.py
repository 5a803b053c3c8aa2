"""The login of one remote server on its requests: added, renewed in time or when refused, and never sent elsewhere."""

from collections.abc import AsyncGenerator, Awaitable, Callable

import httpx2

from mcpchat.auth.mcp.discovery import Challenge, challenge, wants_more
from mcpchat.auth.mcp.guarded_http import origin

GetToken = Callable[[str | None, bool], Awaitable[str | None]]


class RemoteLogin(httpx2.Auth):
    """Adds the token to requests to the server's own origin.

    ``token`` gives it, or None while nobody is signed in. It is told the token that was just refused ("" where none
    was sent), and whether the server wants one that allows more. ``challenge`` is the server's latest refusal.
    """

    def __init__(self, url: str, token: GetToken) -> None:
        self.challenge: Challenge | None = None
        self._origin = origin(url)
        self._token = token

    async def async_auth_flow(self, request: httpx2.Request) -> AsyncGenerator[httpx2.Request, httpx2.Response]:
        if origin(str(request.url)) != self._origin:
            yield request
            return
        token = await self._token(None, False)
        _sign(request, token)
        response = yield request
        more = wants_more(response)
        if response.status_code != 401 and not more:
            return
        self.challenge = challenge(response)
        renewed = await self._token(token or "", more)
        if renewed is None or renewed == token:
            return
        _sign(request, renewed)
        response = yield request
        refused = response.status_code == 401 or wants_more(response)
        self.challenge = challenge(response) if refused else None


def _sign(request: httpx2.Request, token: str | None) -> None:
    if token is not None:
        request.headers["Authorization"] = f"Bearer {token}"
