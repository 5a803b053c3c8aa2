"""The OAuth callback: a listener on 127.0.0.1 that accepts one valid callback and rejects everything else.

It also redirects the browser to the sign-in. So the sign-in's URL, which has the state, is in no program's arguments,
where other users could read it.
"""

import asyncio
import os
import secrets
import string
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn
from urllib.parse import parse_qsl, quote, urlsplit

from mcpchat.auth import sign_in_page
from mcpchat.auth.sign_in_page import SignInOutcome
from mcpchat.errors import UsageError

HOST = "127.0.0.1"
_MAX_HEAD_SIZE = 16_384  # bytes of the request line and headers
_CONNECTION_TIMEOUT = 5.0  # seconds for one connection
_MAX_REDIRECTS = 3  # of the start page, if it is not known which user asks for it
_NOBODY = -1
_HTTP_PORT = 80  # which a browser leaves out
_MAX_CONNECTIONS = 64  # at the same time; if one more is opened, the oldest is closed
_REASON_PHRASES = {
    200: "OK", 302: "Found", 400: "Bad Request", 404: "Not Found", 405: "Method Not Allowed", 408: "Request Timeout",
    409: "Conflict", 421: "Misdirected Request", 431: "Request Header Fields Too Large",
}  # fmt: skip
_PAGES = {200: sign_in_page.UNKNOWN, 409: sign_in_page.ANSWERED}
_OUTCOME_TIMEOUT = 60.0  # seconds that the page waits for the exchange of the code


@dataclass(frozen=True, kw_only=True)
class ExpectedCallback:
    """What a valid callback contains.

    If ``issuer`` is set, the callback's ``iss`` must be equal to it; with ``issuer_required``, it must not be missing.
    """

    state: str
    issuer: str | None = None
    issuer_required: bool = False


@dataclass(frozen=True, kw_only=True)
class CallbackResult:
    """A callback with the right state: a code, or an error."""

    code: str = ""
    error: str = ""
    description: str = ""
    issuer_mismatch: bool = False


class PortInUse(UsageError):
    """Another program listens on the port, or the port cannot be used."""


class IgnoredCallback(ValueError):
    """A request that is not the callback. The listener keeps waiting."""


def parse_callback(query: str, expected: ExpectedCallback) -> CallbackResult:
    """Parses a callback's query. Raises IgnoredCallback if a parameter occurs twice or the state is wrong.

    A callback from another issuer returns an error result without that issuer's texts: this may be a mix-up attack.
    """
    try:
        pairs = parse_qsl(query, keep_blank_values=True, strict_parsing=True, max_num_fields=50)
    except ValueError as error:
        raise IgnoredCallback("the parameters cannot be read") from error
    parameters = dict(pairs)
    if len(parameters) != len(pairs):
        raise IgnoredCallback("a parameter occurs twice")
    state = parameters.get("state", "")
    if not secrets.compare_digest(state.encode(errors="replace"), expected.state.encode()):
        raise IgnoredCallback("the state does not match this sign-in" if state else "the state is missing")
    if ("code" in parameters) == ("error" in parameters) or not (parameters.get("code") or parameters.get("error")):
        raise IgnoredCallback("it must contain either a code or an error")
    issuer = parameters.get("iss")
    if expected.issuer is not None and issuer != expected.issuer and (issuer is not None or expected.issuer_required):
        problem = (
            "comes from another authorization server" if issuer is not None else "has no issuer, but must have one"
        )
        return CallbackResult(error="mix-up", issuer_mismatch=True, description=f"the answer {problem}")
    return CallbackResult(
        code=parameters.get("code", ""),
        error=parameters.get("error", ""),
        description=parameters.get("error_description", ""),
    )


class CallbackListener:
    """Waits for the callback at ``redirect_uri``."""

    def __init__(self, port: int, path: str) -> None:
        self.port = port
        self.path = path
        self._expected: ExpectedCallback | None = None
        self._start_path = ""
        self._sign_in_url = ""
        self._redirects_left = _MAX_REDIRECTS
        self._result: asyncio.Future[CallbackResult] = asyncio.get_running_loop().create_future()
        self._outcome: asyncio.Future[SignInOutcome] = asyncio.get_running_loop().create_future()
        self._connections: dict[asyncio.Task[None], asyncio.StreamWriter] = {}

    @property
    def redirect_uri(self) -> str:
        return f"http://{HOST}:{self.port}{self.path}"

    def redirect_to(self, url: str) -> str:
        """Returns the URL of a page that redirects this user's browser to ``url``."""
        self._start_path = f"/start/{secrets.token_urlsafe(16)}"
        self._sign_in_url = quote(url, safe=string.punctuation)
        return f"http://{HOST}:{self.port}{self._start_path}"

    async def wait_for_callback(self, expected: ExpectedCallback) -> CallbackResult:
        """Returns the first valid callback."""
        self._expected = expected
        return await asyncio.shield(self._result)

    def report(self, outcome: SignInOutcome) -> None:
        """Let the page that waits in the browser say how the sign-in went."""
        if not self._outcome.done():
            self._outcome.set_result(outcome)

    def handle_connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while len(self._connections) >= _MAX_CONNECTIONS:  # another user's go first, then the oldest
            foreign = (task for task, other in self._connections.items() if self._is_of_another_user(other))
            task = next(foreign, next(iter(self._connections)))
            self._connections.pop(task).transport.abort()
            task.cancel()
        task = asyncio.create_task(self._serve(reader, writer))
        self._connections[task] = writer
        task.add_done_callback(lambda done: self._connections.pop(done, None))

    def _is_of_another_user(self, writer: asyncio.StreamWriter) -> bool:
        peer = writer.get_extra_info("peername")
        user = _find_socket_owner(peer, self.port) if peer is not None else None
        return user is not None and user not in {os.geteuid(), 0}

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            try:
                async with asyncio.timeout(_CONNECTION_TIMEOUT):
                    head = await reader.readuntil(b"\r\n\r\n")
                    status = self._handle(head, writer.get_extra_info("peername"))
            except TimeoutError:
                status = 408
            except asyncio.LimitOverrunError:
                status = 431
            except (asyncio.IncompleteReadError, ConnectionError):
                return
            page = _PAGES.get(status, sign_in_page.IGNORED)
            if status == 200:
                with suppress(TimeoutError):
                    async with asyncio.timeout(_OUTCOME_TIMEOUT):
                        page = await asyncio.shield(self._outcome)
            async with asyncio.timeout(_CONNECTION_TIMEOUT):
                writer.write(_build_response(status, page, location=self._sign_in_url if status == 302 else ""))
                await writer.drain()
                if writer.can_write_eof():
                    writer.write_eof()
        except (OSError, TimeoutError):
            pass
        finally:
            writer.close()

    def _handle(self, head: bytes, peer: tuple[str, int] | None) -> int:
        """Returns the HTTP status for a request, and stores a valid callback."""
        try:
            request_line, *header_lines = head.decode("ascii").split("\r\n")
            method, target, version = request_line.split(" ")
            parts = urlsplit(target)
        except ValueError:
            return 400
        if version not in {"HTTP/1.1", "HTTP/1.0"}:
            return 400
        if method != "GET":
            return 405
        hosts = [line.partition(":")[2].strip() for line in header_lines if line.lower().startswith("host:")]
        if len(hosts) != 1:
            return 400
        if hosts[0] not in {f"{HOST}:{self.port}", *([HOST] if self.port == _HTTP_PORT else [])}:
            return 421
        if parts.scheme or parts.netloc:
            return 404
        if self._start_path and secrets.compare_digest(parts.path.encode(), self._start_path.encode()):
            return 302 if self._may_start(peer) else 404
        if parts.path != self.path:
            return 404
        if self._expected is None:
            return 400
        try:
            result = parse_callback(parts.query, self._expected)
        except IgnoredCallback:
            return 400
        if self._result.done():
            return 409
        self._result.set_result(result)
        return 200

    def _may_start(self, peer: tuple[str, int] | None) -> bool:
        """Whether the browser is this user's. If that is not known, the first few requests are answered."""
        user = _find_socket_owner(peer, self.port) if peer is not None else None
        if user is not None:
            return user in {os.geteuid(), 0}
        self._redirects_left -= 1
        return self._redirects_left >= 0

    async def close(self) -> None:
        """Waits up to 0.2 s for open responses to be sent, then closes all connections."""
        self.report(sign_in_page.UNKNOWN)
        if self._connections:
            await asyncio.wait(set(self._connections), timeout=0.2)
        for task in list(self._connections):
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)


@asynccontextmanager
async def listening(path: str, port: int = 0) -> AsyncIterator[CallbackListener]:
    """Opens a listener at ``path`` and closes it at the end. ``port`` 0 is any free one. Raises PortInUse."""
    holder: list[CallbackListener] = []
    try:
        server = await asyncio.start_server(
            lambda reader, writer: holder[0].handle_connection(reader, writer),
            HOST,
            port,
            limit=_MAX_HEAD_SIZE,
            backlog=_MAX_CONNECTIONS,
            start_serving=False,
        )
    except OSError as error:
        _raise_port_in_use(port, error)
    listener = CallbackListener(server.sockets[0].getsockname()[1], path)
    holder.append(listener)
    try:
        await server.start_serving()
        yield listener
    finally:
        server.close()
        await listener.close()


def _find_socket_owner(peer: tuple[str, int], port: int) -> int | None:
    """Returns the id of the user whose program connects from ``peer`` to ``port`` if Linux tells.

    Returns -1 if no program of this machine does.
    """
    host = int.from_bytes(bytes([127, 0, 0, 1]), sys.byteorder)
    client_end, own_end = (f"{host:08X}:{number:04X}" for number in (peer[1], port))
    is_known = False
    for table_name in ("/proc/net/tcp", "/proc/net/tcp6"):  # the latter for ::ffff:127.0.0.1
        try:
            with Path(table_name).open() as table:
                for line in table:
                    fields = line.split()
                    if fields[1].endswith(client_end) and fields[2].endswith(own_end):
                        return int(fields[7])
            is_known = True
        except (OSError, ValueError, IndexError):
            pass
    return _NOBODY if is_known else None


def _raise_port_in_use(port: int, error: OSError) -> NoReturn:
    problem = f"cannot listen on port {port} of {HOST}" if port else f"cannot listen on any port of {HOST}"
    reason = os.strerror(error.errno) if error.errno else str(error)
    raise PortInUse(f"{problem}: {reason}", hint="choose another port with --port, or omit it") from error


def _build_response(status: int, page: SignInOutcome, *, location: str = "") -> bytes:
    """Builds a complete HTTP response. It contains nothing from the request."""
    body = sign_in_page.render_page(page).encode()
    headers: Mapping[str, str] = {
        "Content-Type": "text/html; charset=utf-8",
        "Content-Length": str(len(body)),
        "Connection": "close",
        "Cache-Control": "no-store",
        "Referrer-Policy": "no-referrer",
        "X-Content-Type-Options": "nosniff",
        "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'",
        **({"Allow": "GET"} if status == 405 else {}),
        **({"Location": location} if location else {}),
    }
    lines = [
        f"HTTP/1.1 {status} {_REASON_PHRASES[status]}",
        *(f"{name}: {value}" for name, value in headers.items()),
        "",
        "",
    ]
    return "\r\n".join(lines).encode() + body
