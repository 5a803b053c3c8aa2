"""Asks a registry for servers."""

from collections.abc import Mapping
from typing import TypeVar
from urllib.parse import quote

import httpx2
import msgspec

from mcpchat.errors import ServerError, UsageError
from mcpchat.registry.documents import ServerList, ServerResponse
from mcpchat.util.connection_problems import explain_connection_error
from mcpchat.util.sanitize import one_line
from mcpchat.util.urls import redact_url

_T = TypeVar("_T")
_TIMEOUT = 15.0  # seconds
_MAX_BYTES = 10_000_000
_PAGE, _MAX_PAGES = 100, 5
_MAX_REDIRECTS = 5


class RegistryClient:
    """A registry at an address, with the headers of each request."""

    def __init__(self, url: str, headers: Mapping[str, str]) -> None:
        self.url = redact_url(url.rstrip("/"))  # as it is shown
        self._url = url.rstrip("/")
        self._headers = headers

    async def search(self, words: str, limit: int) -> list[ServerResponse]:
        """The newest versions of the servers that all words are about, at most ``limit``; deleted ones are left out.

        The registry looks for one word in the name alone. Raises ServerError.
        """
        terms = sorted(set(words.lower().split()), key=len, reverse=True)
        for term in terms or [""]:
            if found := await self._search(term, [other for other in terms if other != term], limit):
                return found
        return []

    async def _search(self, term: str, others: list[str], limit: int) -> list[ServerResponse]:
        """The servers whose name has the term, and whose name, title or description has the other words."""
        found: dict[str, ServerResponse] = {}
        cursor: str | None = None
        for _ in range(_MAX_PAGES):
            query = {"search": term, "version": "latest", "limit": str(_PAGE)} | ({"cursor": cursor} if cursor else {})
            page = _decode(await self._get("/v0.1/servers", query), ServerList, self.url)
            for raw in page.servers or ():
                try:
                    response = msgspec.json.decode(raw, type=ServerResponse)
                except msgspec.MsgspecError:
                    continue  # an entry with a fault
                if response.status != "deleted" and response.is_latest and _has_words(response, others):
                    found[response.server.name] = response
            cursor = page.metadata.next_cursor
            if not cursor or len(found) >= limit:
                break
        return list(found.values())[:limit]

    async def get(self, name: str, version: str = "latest") -> ServerResponse:
        """One version of a server. Raises UsageError if there is none, ServerError."""
        path = f"/v0.1/servers/{quote(name, safe='')}/versions/{quote(version, safe='')}"
        return _decode(
            await self._get(path, {}, what=name if version == "latest" else f"{name} {version}"),
            ServerResponse,
            self.url,
        )

    async def _get(self, path: str, query: Mapping[str, str], *, what: str = "") -> bytes:
        """The body of the answer. Raises ServerError; UsageError if ``what`` does not exist."""
        try:
            async with httpx2.AsyncClient(timeout=_TIMEOUT, headers=dict(self._headers)) as client:
                response, body = await self._request(client, httpx2.URL(f"{self._url}{path}", params=dict(query)))
        except (httpx2.HTTPError, httpx2.InvalidURL, OSError) as error:
            problem = explain_connection_error(error, self._url)
            raise ServerError(
                f"cannot reach the registry {self.url}: {problem.cause}", hint=problem.hint or "check the network"
            ) from error
        if response.status_code == httpx2.codes.NOT_FOUND and what:
            hint = "mcpchat servers search WORDS finds servers"
            raise UsageError(f"the registry {self.url} has no {one_line(what, 150)}", hint=hint)
        if not response.is_success:
            raise ServerError(
                f"the registry {self.url} answered with HTTP status {response.status_code}", hint="check registry.url"
            )
        return body

    async def _request(self, client: httpx2.AsyncClient, url: httpx2.URL) -> tuple[httpx2.Response, bytes]:
        """Follow redirects within the registry's own origin: its headers may be secrets. Raises ServerError."""
        origin = (url.scheme, url.host, url.port)
        for _ in range(_MAX_REDIRECTS):
            async with client.stream("GET", url) as response:
                body = b""
                async for chunk in response.aiter_bytes():
                    body += chunk
                    if len(body) > _MAX_BYTES:
                        raise ServerError(f"the registry {self.url} sent more than {_MAX_BYTES / 1e6:.0f} MB")
            if not response.has_redirect_location:
                return response, body
            url = url.join(response.headers["location"])
            if (url.scheme, url.host, url.port) != origin:
                place = redact_url(str(url))
                raise ServerError(f"the registry {self.url} sends to another address: {place}", hint="set registry.url")
        raise ServerError(f"the registry {self.url} redirects without end")


def _has_words(response: ServerResponse, words: list[str]) -> bool:
    server = response.server
    text = f"{server.name} {server.title} {server.description}".lower()
    return all(word in text for word in words)


def _decode(body: bytes, kind: type[_T], url: str) -> _T:
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise ServerError(
            f"{url} did not answer as a registry does", hint="registry.url is the address before /v0.1"
        ) from error
