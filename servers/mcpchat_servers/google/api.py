"""Requests to Google's APIs: the token, retries of what is safe to repeat, bounded answers, resumed transfers."""

import asyncio
import json
import random
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, BinaryIO
from urllib.parse import urlsplit

import httpx2
from mcp.server.mcpserver.exceptions import ToolError
from pydantic import BaseModel

from mcpchat_servers.google.credentials import TokenEnded, Tokens
from mcpchat_servers.google.refusals import LIMITS, Refused, reasons, refusal

TRIES = 5
FIRST_WAIT = 0.5  # seconds; doubled each time
LONGEST_WAIT = 30.0  # seconds; who asks for more is not waited for
MOST_JSON = 32 * 2**20  # bytes of an answer
MOST_REFUSAL = 2**20
CHUNK = 8 * 2**20  # bytes of an upload's request; a multiple of 256 kB, as Google wants it
CONNECTIONS = httpx2.Limits(max_connections=8, max_keepalive_connections=8)
TIMEOUT = httpx2.Timeout(60.0, connect=15.0)
_TRANSIENT = frozenset({408, 500, 502, 503, 504})
_RESUME = 308  # "go on", in Google's resumable uploads

Params = Mapping[str, Any]  # of a query: str, int, bool; a sequence is a repeated name
Progress = Callable[[float, float | None], Awaitable[None]]


class TooLarge(ToolError):
    """More bytes than were asked for."""


class Answer(BaseModel):
    """A whole answer: its status, its headers in lower case, its bytes."""

    status: int
    headers: dict[str, str]
    data: bytes

    def json_object(self, what: str) -> dict[str, Any]:
        if not self.data:
            return {}
        try:
            found = json.loads(self.data)
        except ValueError:
            found = None
        if not isinstance(found, dict):
            raise ToolError(f"{what}: what came back is not Google's. Is there a proxy in between?")
        return found


@dataclass(frozen=True)
class _Call:
    """One request: at most one of a JSON body and of bytes."""

    method: str
    url: str
    params: Params | None = None
    body: object = None
    content: bytes | None = None
    headers: Mapping[str, str] | None = None


class Api:
    """One of Google's APIs, at ``base``. ``service`` and ``scopes`` are for what errors tell."""

    def __init__(self, *, tokens: Tokens, base: str, service: str, scopes: Sequence[str]) -> None:
        self._client: httpx2.AsyncClient | None = None
        self._tokens = tokens
        self._base = base
        self._service = service
        self._scopes = scopes

    @property
    def _http(self) -> httpx2.AsyncClient:
        """Made at the first request: reading the system's certificates is a tenth of a server's start."""
        if self._client is None:
            self._client = httpx2.AsyncClient(timeout=TIMEOUT, limits=CONNECTIONS, follow_redirects=False)
        return self._client

    async def close(self) -> None:
        if self._client is not None:
            await self._client.aclose()

    async def get(self, path: str, params: Params | None = None, *, what: str, most: int = MOST_JSON) -> dict[str, Any]:
        """The JSON at a path. ``what`` begins the texts of errors. Raises ToolError; TooLarge beyond ``most`` bytes."""
        answer = await self._request(_Call("GET", self._url(path), params), what=what, repeatable=True, most=most)
        return answer.json_object(what)

    async def change(
        self, method: str, path: str, body: object = None, *, what: str, repeatable: bool, params: Params | None = None
    ) -> dict[str, Any]:
        """The JSON that answers a change. Only what is ``repeatable`` is sent again when its fate is not known."""
        call = _Call(method, self._url(path), params, body=body)
        answer = await self._request(call, what=what, repeatable=repeatable)
        try:
            return answer.json_object(what)
        except ToolError as error:
            raise ToolError(f"{error} It is not known whether it was done: look before you do it again.") from error

    async def content(self, path: str, params: Params, *, what: str, most: int) -> Answer:
        """The bytes of a file or an export. Raises TooLarge beyond ``most``."""
        return await self._request(_Call("GET", self._url(path), params), what=what, repeatable=True, most=most)

    async def save(
        self, path: str, params: Params, into: BinaryIO, *, what: str, most: int, size: int | None, progress: Progress
    ) -> int:
        """Write the bytes of a file into an open one, and go on where a broken transfer ended. Returns their number."""
        failures = 0
        while True:
            reached = into.tell()
            if reached and reached == size:
                return reached  # only the end of the answer was lost
            try:
                await self._save_rest(path, params, into, what=what, most=most, size=size, progress=progress)
            except (httpx2.RequestError, _Transient) as error:
                failures = failures + 1 if into.tell() == reached else 1
                if failures == TRIES:
                    raise _lost(what, error, repeatable=True) from error
                await _wait(failures, None)
            else:
                return into.tell()

    async def _save_rest(
        self, path: str, params: Params, into: BinaryIO, *, what: str, most: int, size: int | None, progress: Progress
    ) -> None:
        start = into.tell()
        headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={start}-"} if start else {})
        async with await self._sent(_Call("GET", self._url(path), params, headers=headers)) as response:
            if response.status_code >= 300:
                answer = await _whole(response, MOST_REFUSAL, what)
                if answer.status in _TRANSIENT or _limited(answer):
                    raise _Transient(str(answer.status))
                raise self._refusal(answer, what)
            if response.status_code != 206:
                into.seek(0)
                into.truncate()
            async for piece in response.aiter_bytes():
                if into.tell() + len(piece) > most:
                    raise TooLarge(f"{what}: larger than {most:,} bytes, which is the most that is downloaded")
                into.write(piece)
                await progress(into.tell(), size)

    async def upload(
        self,
        method: str,
        path: str,
        metadata: Mapping[str, object],
        source: BinaryIO,
        *,
        size: int,
        media_type: str,
        params: Params,
        what: str,
        progress: Progress,
    ) -> dict[str, Any]:
        """Create or replace a file's content in a resumable session: a lost answer is asked for, nothing is doubled."""
        begin = _Call(
            method,
            self._url(path),
            {**params, "uploadType": "resumable"},
            body=metadata,
            headers={"X-Upload-Content-Type": media_type, "X-Upload-Content-Length": str(size)},
        )
        opened = await self._request(begin, what=what, repeatable=True)
        session = opened.headers.get("location", "")
        self._own(session, what)
        sent, failures, asking = 0, 0, False
        trouble: Exception = _Transient("no more was taken")
        while True:
            source.seek(sent)
            piece = b"" if asking else source.read(min(CHUNK, size - sent))
            place = f"bytes {sent}-{sent + len(piece) - 1}/{size}" if piece else f"bytes */{size}"
            try:
                call = _Call("PUT", session, content=piece, headers={"Content-Range": place})
                answer = await self._once(call, what=what)
            except httpx2.RequestError as error:
                trouble = error
            except TokenEnded as error:
                if asking:  # all may be there already: this must not be begun anew by itself
                    raise _lost(what, trouble, repeatable=False) from error
                raise
            else:
                if answer.status < 300:
                    await progress(size, size)
                    return answer.json_object(what)
                if answer.status == _RESUME:
                    received = min(_received(answer.headers), size)
                    await progress(received, size)
                    if received > sent or asking:
                        failures = 0 if received > sent else failures
                        sent, asking = received, False
                        continue
                else:
                    trouble = self._stopped(answer, what, trouble if asking else None)
            failures += 1
            if failures == TRIES:
                raise _lost(what, trouble, repeatable=False)
            asking = True  # what arrived, and whether all did, only the session knows
            await _wait(failures, None)

    def _stopped(self, answer: Answer, what: str, before: Exception | None) -> Exception:
        """Why an upload does not go on for now. Raises ToolError where it has ended; ``before`` is what was the matter
        already, so that nobody knows what has arrived."""
        if answer.status in _TRANSIENT or _limited(answer):
            return _Transient(str(answer.status))
        if answer.status not in {404, 410}:
            raise self._refusal(answer, what)
        if before is not None:
            raise _lost(what, before, repeatable=False)
        raise ToolError(f"{what}: Google has forgotten this upload; nothing was made. Begin anew.")

    # One request.

    async def _request(self, call: _Call, *, what: str, repeatable: bool, most: int = MOST_JSON) -> Answer:
        """An answer that is a success. What was certainly not done (no connection, too many requests) is sent again
        always, what may have been done only where it is repeatable."""
        tries = 0
        while True:
            tries += 1
            wish = None
            try:
                answer = await self._once(call, what=what, most=most)
            except (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout) as error:
                again, failure = True, _lost(what, error, repeatable=True)
            except httpx2.RequestError as error:
                again, failure = repeatable, _lost(what, error, repeatable=repeatable)
            else:
                if answer.status < 300:
                    return answer
                if answer.status == 404 and call.method == "DELETE" and tries > 1:
                    return Answer(status=204, headers={}, data=b"")  # one of those before has done it
                wish = _retry_after(answer.headers)
                again = _limited(answer) or (answer.status in _TRANSIENT and repeatable)
                failure = self._refusal(answer, what)
                if answer.status in _TRANSIENT and not repeatable:
                    failure = _lost(what, _Transient(str(answer.status)), repeatable=False)
            if not again or tries == TRIES or (wish or 0) > LONGEST_WAIT:
                raise failure
            await _wait(tries, wish)

    async def _once(self, call: _Call, *, what: str, most: int = MOST_JSON) -> Answer:
        async with await self._sent(call) as response:
            return await _whole(response, most if response.status_code < 300 else MOST_REFUSAL, what)

    async def _sent(self, call: _Call) -> "AbstractAsyncContextManager[httpx2.Response]":
        """The open answer, with another token where Google did not take the first and another is to be had."""
        token = await self._tokens.current()
        for last in (False, True):
            request = self._http.build_request(
                call.method,
                call.url,
                params=_spelt(call.params),
                json=call.body,
                content=call.content,
                headers={**(call.headers or {}), "Authorization": f"Bearer {token}"},
            )
            response = await self._http.send(request, stream=True)
            if response.status_code != 401:
                break
            await response.aclose()
            renewed = None if last else await self._tokens.renewed(token)
            if renewed is None:
                raise TokenEnded("Google does not take the access token of this account any more")
            token = renewed
        return _Closing(response)

    def _url(self, path: str) -> str:
        return f"{self._base}/{path}"

    def _own(self, url: str, what: str) -> None:
        """The token goes to Google alone, or to the base that the user named."""
        try:
            parts = urlsplit(url)
            google = parts.scheme == "https" and (parts.hostname or "").endswith(".googleapis.com")
        except ValueError:
            google = False
        if not google and not url.startswith(f"{self._base}/"):
            raise ToolError(f"{what}: Google named no address to upload to")

    def _refusal(self, answer: Answer, what: str) -> Refused:
        return refusal(
            answer.status, answer.headers, answer.data, what=what, scopes=self._scopes, service=self._service
        )


class _Transient(Exception):
    """An answer that says nothing but to try again."""


class _Closing:
    """An open response as a context manager."""

    def __init__(self, response: httpx2.Response) -> None:
        self._response = response

    async def __aenter__(self) -> httpx2.Response:
        return self._response

    async def __aexit__(self, *failure: object) -> None:
        await self._response.aclose()


async def _whole(response: httpx2.Response, most: int, what: str) -> Answer:
    data = bytearray()
    async for piece in response.aiter_bytes():
        data += piece
        if len(data) > most:
            raise TooLarge(f"{what}: larger than {most:,} bytes")
    return Answer(status=response.status_code, headers=dict(response.headers), data=bytes(data))


def _limited(answer: Answer) -> bool:
    """Whether Google refused for the number of requests: nothing was done."""
    return answer.status == 429 or (answer.status == 403 and bool(reasons(answer.data)[0] & LIMITS))


def _lost(what: str, error: Exception, *, repeatable: bool) -> ToolError:
    kind = "did not answer in time" if isinstance(error, httpx2.TimeoutException) else "could not be reached"
    if isinstance(error, _Transient):
        kind = f"failed ({error})"
    if repeatable:
        return ToolError(f"{what}: Google {kind}, several times: try again later")
    return ToolError(f"{what}: Google {kind}, and it is not known whether it was done: look before you do it again")


def _retry_after(headers: Mapping[str, str]) -> float | None:
    said = headers.get("retry-after", "")
    return float(said) if re.fullmatch(r"\d{1,9}(\.\d+)?", said) else None


async def _wait(tries: int, wish: float | None) -> None:
    longest = FIRST_WAIT * 2 ** (tries - 1)
    await asyncio.sleep(wish if wish is not None else longest * random.uniform(0.5, 1.0))  # noqa: S311 - no secret


def _received(headers: Mapping[str, str]) -> int:
    """How many bytes a session has, from "bytes=0-1234"; none where it does not say."""
    last = headers.get("range", "").rpartition("-")[2]
    return int(last) + 1 if last.isdecimal() else 0


def _spelt(params: Params | None) -> dict[str, str | int | list[str]] | None:
    """As Google spells them: true and false in small letters; lists as repeated names.

    None, not an empty table, where there are none: that would take an address's own query away.
    """
    if not params:
        return None
    spelt: dict[str, str | int | list[str]] = {}
    for name, value in params.items():
        if isinstance(value, bool):
            spelt[name] = "true" if value else "false"
        else:
            spelt[name] = value if isinstance(value, str | int) else list(value)
    return spelt


def checked_base(url: str) -> str:
    """A base address that a token may be sent to: https, or this machine. Raises ValueError with what is wrong."""
    parts = urlsplit(url)
    here = parts.hostname in {"127.0.0.1", "::1", "localhost"}
    if not parts.hostname or parts.scheme not in {"https", "http"} or (parts.scheme == "http" and not here):
        raise ValueError("expected an https address, or http on this machine")
    if parts.query or parts.fragment or parts.username:
        raise ValueError("expected an address without user, ? and #")
    return url.rstrip("/")
