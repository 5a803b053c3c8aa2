"""Adds the token of one remote server to its requests. A rejected token is renewed, and no other origin gets it."""

from collections.abc import AsyncGenerator, Awaitable, Callable

import httpx2

from mcpchat.auth.mcp.discovery import Challenge, needs_more_scopes, parse_challenge
from mcpchat.auth.mcp.guarded_http import origin

GetToken = Callable[[str | None, bool], Awaitable[str | None]]


class BearerTokenAuth(httpx2.Auth):
    """Adds the token to requests to the server's own origin.

    ``get_token`` returns the token, or None if the user is not signed in. Its arguments are the token that the server
    has just rejected ("" if none was sent, None before a request) and whether the server requires more scopes.
    ``challenge`` is the latest challenge of the server, or None after a successful request.
    """

    def __init__(self, url: str, get_token: GetToken) -> None:
        self.challenge: Challenge | None = None
        self._origin = origin(url)
        self._get_token = get_token

    async def async_auth_flow(self, request: httpx2.Request) -> AsyncGenerator[httpx2.Request, httpx2.Response]:
        if origin(str(request.url)) != self._origin:
            yield request
            return
        token = await self._get_token(None, False)
        _add_bearer_token(request, token)
        response = yield request
        more_scopes = needs_more_scopes(response)
        if response.status_code != 401 and not more_scopes:
            return
        self.challenge = parse_challenge(response)
        renewed = await self._get_token(token or "", more_scopes)
        if renewed is None or renewed == token:
            return
        _add_bearer_token(request, renewed)
        response = yield request
        rejected = response.status_code == 401 or needs_more_scopes(response)
        self.challenge = parse_challenge(response) if rejected else None


def _add_bearer_token(request: httpx2.Request, token: str | None) -> None:
    if token is not None:
        request.headers["Authorization"] = f"Bearer {token}"
