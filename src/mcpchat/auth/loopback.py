"""The callback of a login: a listener on 127.0.0.1 that takes one right answer, and refuses everything else."""

import asyncio
import os
import secrets
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import NoReturn
from urllib.parse import parse_qsl, urlsplit

from mcpchat.errors import UsageError

HOST = "127.0.0.1"
_HEAD = 16_384  # bytes of a request's head
_PATIENCE = 5.0  # seconds for one connection
_MOST = 64  # connections at once: when one more comes, the oldest goes
_REASONS = {
    200: "OK", 400: "Bad Request", 404: "Not Found", 405: "Method Not Allowed", 408: "Request Timeout",
    409: "Conflict", 421: "Misdirected Request", 431: "Request Header Fields Too Large",
}  # fmt: skip
_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>mcpchat</title></head>
<body><h1>{title}</h1><p>{text}</p></body></html>
"""
_TEXTS = {
    200: ("Answer received", "Close this page and go back to the terminal: mcpchat tells there how the sign-in went."),
    409: ("Answered already", "This sign-in has had its answer. The terminal tells how it went."),
}
_REFUSED = ("Not what mcpchat waits for", "Nothing was changed. mcpchat still waits for the sign-in's answer.")


@dataclass(frozen=True, kw_only=True)
class Expected:
    """What the right answer has. ``issuer`` is compared where the answer names one, and missed where it must."""

    state: str
    issuer: str | None = None
    issuer_required: bool = False


@dataclass(frozen=True, kw_only=True)
class Reply:
    """An answer with the right state: a code, or why there is none."""

    code: str = ""
    error: str = ""
    description: str = ""
    mixed_up: bool = False


class PortTaken(UsageError):
    """Somebody else listens there."""


class NotTheAnswer(ValueError):
    """Somebody sent something; the wait goes on."""


def read_reply(query: str, expected: Expected) -> Reply:
    """The answer in an address's query. Raises NotTheAnswer unless each parameter is there once and the state is right.

    An answer from another issuer is a reply of its own, without that issuer's words: somebody mixes servers up.
    """
    try:
        pairs = parse_qsl(query, keep_blank_values=True, strict_parsing=True, max_num_fields=50)
    except ValueError as error:
        raise NotTheAnswer("the parameters cannot be read") from error
    said = dict(pairs)
    if len(said) != len(pairs):
        raise NotTheAnswer("a parameter is there twice")
    state = said.get("state", "")
    if not secrets.compare_digest(state.encode(errors="replace"), expected.state.encode()):
        raise NotTheAnswer("the state is not this sign-in's" if state else "the state is missing")
    if ("code" in said) == ("error" in said) or not (said.get("code") or said.get("error")):
        raise NotTheAnswer("neither a code nor an error")
    issuer = said.get("iss")
    if expected.issuer is not None and issuer != expected.issuer and (issuer is not None or expected.issuer_required):
        named = "another authorization server" if issuer is not None else "none, though this server names itself"
        return Reply(error="mix-up", mixed_up=True, description=f"the answer comes from {named}")
    return Reply(code=said.get("code", ""), error=said.get("error", ""), description=said.get("error_description", ""))


class Listener:
    """Waits at ``redirect_uri``, from when it is opened."""

    def __init__(self, port: int, path: str) -> None:
        self.port = port
        self.path = path
        self._expected: Expected | None = None
        self._reply: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self._open: dict[asyncio.Task[None], asyncio.StreamWriter] = {}

    @property
    def redirect_uri(self) -> str:
        return f"http://{HOST}:{self.port}{self.path}"

    async def reply(self, expected: Expected) -> Reply:
        """The first right answer."""
        self._expected = expected
        return await asyncio.shield(self._reply)

    def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while len(self._open) >= _MOST:
            oldest = next(iter(self._open))
            self._open.pop(oldest).transport.abort()
            oldest.cancel()
        task = asyncio.create_task(self._serve(reader, writer))
        self._open[task] = writer
        task.add_done_callback(lambda done: self._open.pop(done, None))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            try:
                async with asyncio.timeout(_PATIENCE):
                    head = await reader.readuntil(b"\r\n\r\n")
                    status = self._judge(head)
            except TimeoutError:
                status = 408
            except asyncio.LimitOverrunError:
                status = 431
            except (asyncio.IncompleteReadError, ConnectionError):
                return
            async with asyncio.timeout(_PATIENCE):
                writer.write(_page(status))
                await writer.drain()
                if writer.can_write_eof():
                    writer.write_eof()
        except (OSError, TimeoutError):
            pass
        finally:
            writer.close()

    def _judge(self, head: bytes) -> int:
        """The status of the answer to this request; a right one is taken."""
        try:
            first, *lines = head.decode("ascii").split("\r\n")
            method, target, version = first.split(" ")
            parts = urlsplit(target)
        except ValueError:
            return 400
        if version not in {"HTTP/1.1", "HTTP/1.0"}:
            return 400
        if method != "GET":
            return 405
        hosts = [line.partition(":")[2].strip() for line in lines if line.lower().startswith("host:")]
        if len(hosts) != 1:
            return 400
        if hosts[0] != f"{HOST}:{self.port}":
            return 421
        if parts.scheme or parts.netloc or parts.path != self.path:
            return 404
        if self._expected is None:
            return 400
        try:
            reply = read_reply(parts.query, self._expected)
        except NotTheAnswer:
            return 400
        if self._reply.done():
            return 409
        self._reply.set_result(reply)
        return 200

    async def finish(self) -> None:
        """Let the page that is being written arrive, and end all else."""
        if self._open:
            await asyncio.wait(set(self._open), timeout=0.2)
        for task in list(self._open):
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)


@asynccontextmanager
async def listening(path: str, port: int = 0) -> AsyncIterator[Listener]:
    """A listener at this path, on a free port or the given one; gone at the end. Raises PortTaken."""
    holder: list[Listener] = []
    try:
        server = await asyncio.start_server(
            lambda reader, writer: holder[0].connected(reader, writer),
            HOST,
            port,
            limit=_HEAD,
            backlog=_MOST,
            start_serving=False,
        )
    except OSError as error:
        _cannot_listen(port, error)
    listener = Listener(server.sockets[0].getsockname()[1], path)
    holder.append(listener)
    try:
        await server.start_serving()
        yield listener
    finally:
        server.close()
        await listener.finish()


def _cannot_listen(port: int, error: OSError) -> NoReturn:
    what = f"port {port} of {HOST} cannot be listened on" if port else f"no port of {HOST} can be listened on"
    why = os.strerror(error.errno) if error.errno else str(error)
    raise PortTaken(f"{what}: {why}", hint="choose another with --port, or none") from error


def _page(status: int) -> bytes:
    """A whole answer. Nothing that was sent is in it."""
    title, text = _TEXTS.get(status, _REFUSED)
    body = _PAGE.format(title=title, text=text).encode()
    headers: Mapping[str, str] = {
        "Content-Type": "text/html; charset=utf-8",
        "Content-Length": str(len(body)),
        "Connection": "close",
        "Cache-Control": "no-store",
        "Referrer-Policy": "no-referrer",
        "X-Content-Type-Options": "nosniff",
        "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
        **({"Allow": "GET"} if status == 405 else {}),
    }
    lines = [f"HTTP/1.1 {status} {_REASONS[status]}", *(f"{name}: {value}" for name, value in headers.items()), "", ""]
    return "\r\n".join(lines).encode() + body
