"""HTTP requests to URLs from discovery documents, which are not trusted: size and time are limited, URLs are checked.

A URL must be https, or http to this machine if the MCP server itself runs there. Its host must be public unless the
MCP server is in a private network. A redirect must stay within its origin.
"""

import asyncio
import ipaddress
import socket
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from urllib.parse import urljoin, urlsplit
from urllib.request import getproxies, proxy_bypass

import httpx2
import msgspec
from msgspec import Struct

from mcpchat.errors import ServerError, SignInNeeded
from mcpchat.util.connection_problems import explain_connection_error
from mcpchat.util.network_settings import check_network_variables
from mcpchat.util.urls import embedded_ipv4, is_loopback
from mcpchat.version import __version__

MAX_BYTES = 262_144  # of a response body
TIMEOUT = 15.0  # seconds for a request with its response
_MAX_REDIRECTS = 3
_REFUSED_ADDRESS = "an address in a private network: a public server must not refer to it"


class JsonResponse(Struct, frozen=True, kw_only=True):
    """A response. ``body`` is its JSON object, empty if the body is not a JSON object."""

    status: int
    body: dict[str, object] = {}


class GuardedHttpClient:
    """Sends requests on behalf of the MCP server at ``url``. ``timeout`` is in seconds per request.

    Each request raises SignInNeeded if the URL is not allowed, and ServerError if the host does not answer in time or
    its response cannot be read.
    """

    def __init__(self, url: str, *, timeout: float = TIMEOUT) -> None:
        check_network_variables()
        self._timeout = timeout
        self._host = urlsplit(url).hostname or ""
        self._is_local = is_loopback(self._host)
        self._is_private: bool | None = True if self._is_local else None

    async def get(self, url: str, headers: Mapping[str, str] | None = None) -> JsonResponse:
        return await self._request("GET", url, headers=headers or {})

    async def post(self, url: str, form: Mapping[str, str], headers: Mapping[str, str] | None = None) -> JsonResponse:
        return await self._request("POST", url, headers=headers or {}, data=dict(form))

    async def post_json(self, url: str, body: Mapping[str, object]) -> JsonResponse:
        return await self._request("POST", url, headers={}, json=dict(body))

    async def check_url(self, url: str) -> list[str]:
        """Returns the addresses to connect to; none if a proxy or the operating system resolves the host.

        Raises SignInNeeded if the URL is not allowed, and ServerError if its host cannot be resolved.
        """
        try:
            parts = urlsplit(url)
            host, port = parts.hostname or "", parts.port
        except ValueError as error:
            raise SignInNeeded(f"not a valid URL: {url[:200]!r}") from error
        if not host or parts.username is not None:
            raise SignInNeeded(f"not a URL for requests: {url[:200]!r}")
        if parts.scheme != "https" and not (parts.scheme == "http" and self._is_local and is_loopback(host)):
            raise SignInNeeded(f"{parts.scheme}://{host} is not allowed: a sign-in requires https")
        if self._is_private is None and host != self._host:
            # One private DNS record among public ones must not make a public server count as private.
            self._is_private = _are_all_private(await _resolve_addresses(self._host, None))
        if self._is_private or host == self._host:
            return []
        addresses = await _resolve_addresses(host, port)
        if not all(map(_is_global, addresses)):
            raise SignInNeeded(f"{host} is {_REFUSED_ADDRESS}")
        return [] if getproxies() else addresses  # a proxy is chosen, or not, by the host's name

    async def _request(self, method: str, url: str, headers: Mapping[str, str], **content: object) -> JsonResponse:
        try:
            async with asyncio.timeout(self._timeout):
                return await self._follow_redirects(method, url, headers, content)
        except TimeoutError as error:
            raise ServerError(f"{urlsplit(url).hostname} did not answer within {self._timeout:g} s") from error
        except (httpx2.HTTPError, httpx2.InvalidURL) as error:
            problem = explain_connection_error(error, url)
            raise ServerError(
                f"{urlsplit(url).hostname} cannot be reached: {problem.cause}", hint=problem.hint
            ) from error

    async def _follow_redirects(
        self, method: str, url: str, headers: Mapping[str, str], content: Mapping[str, object]
    ) -> JsonResponse:
        default_headers = {
            "Accept": "application/json",
            "Accept-Encoding": "identity",
            "User-Agent": f"mcpchat/{__version__}",
        }
        async with httpx2.AsyncClient(headers={**default_headers, **headers}, timeout=self._timeout) as client:
            for _ in range(_MAX_REDIRECTS + 1):
                addresses = await self.check_url(url)
                request = client.build_request(method, url, **content)  # type: ignore[arg-type]
                async with _send(client, request, addresses) as response:
                    target = response.headers.get("location") if response.has_redirect_location else None
                    if target is None or method != "GET" or origin(urljoin(url, target)) != origin(url):
                        return JsonResponse(status=response.status_code, body=await _read_body(response))
                    url = urljoin(url, target)
        raise ServerError(f"{urlsplit(url).hostname} redirects too many times")


def _pin_address(request: httpx2.Request, host: str, address: str) -> httpx2.Request:
    """Make the request connect to the checked ``address``: a second look-up of the name could give another one."""
    if address:
        request.extensions = {**request.extensions, "sni_hostname": host}
        request.url = request.url.copy_with(host=address)  # the Host header keeps the name
    return request


@asynccontextmanager
async def _send(
    client: httpx2.AsyncClient, request: httpx2.Request, addresses: Sequence[str]
) -> AsyncIterator[httpx2.Response]:
    """Send the request to the first of the addresses that answers; to the host's own if there are none."""
    host = request.url.host
    for position, address in enumerate(addresses or [""], 1):
        try:
            response = await client.send(_pin_address(request, host, address), stream=True)
            break
        except (httpx2.ConnectError, httpx2.ConnectTimeout):
            if position >= len(addresses):
                raise
    try:
        yield response
    finally:
        await response.aclose()


async def _read_body(response: httpx2.Response) -> dict[str, object]:
    if response.headers.get("content-encoding", "identity").lower() != "identity":
        raise ServerError(f"{response.url.host} sent a compressed response that was not requested")
    data = b""
    async for chunk in response.aiter_raw():
        data += chunk
        if len(data) > MAX_BYTES:
            raise ServerError(f"{response.url.host} sent more than {MAX_BYTES:,} bytes")
    try:
        body = msgspec.json.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return {}
    return body if isinstance(body, dict) else {}


def origin(url: str) -> tuple[str, str, int]:
    """Returns scheme, host and port. For an invalid URL, the result differs from every valid origin."""
    try:
        parts = urlsplit(url)
        port = parts.port or {"https": 443, "http": 80}.get(parts.scheme, 0)
        return parts.scheme, parts.hostname or "", port
    except ValueError:
        return url, "", 0


async def _resolve_addresses(host: str, port: int | None) -> list[str]:
    """Returns the IP addresses of a host, or [] if requests go through a proxy, because only the proxy resolves them.

    Raises ServerError if the host cannot be resolved.
    """
    try:
        return [str(ipaddress.ip_address(host))]
    except ValueError:
        pass
    if is_loopback(host):
        return ["127.0.0.1"]
    if getproxies().get("https") and not proxy_bypass(host):
        return []
    try:
        results = await asyncio.get_running_loop().getaddrinfo(host, port or 443, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise ServerError(f"cannot resolve host {host[:100]}") from error
    return [str(address[0]).partition("%")[0] for *_, address in results]


def _are_all_private(addresses: list[str]) -> bool:
    return bool(addresses) and not any(map(_is_global, addresses))


def _is_global(address: str) -> bool:
    """Whether an address is public. An IPv6 address that contains an IPv4 address counts as the latter."""
    parsed = ipaddress.ip_address(address)
    if (inner := embedded_ipv4(parsed)) is not None:
        return _is_global(str(inner))
    return parsed.is_global and not parsed.is_multicast
