"""Google API client: authenticates requests, retries the safe ones, limits response sizes, resumes transfers."""

import asyncio
import json
import random
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, BinaryIO
from urllib.parse import urljoin, urlsplit

import httpx2
from mcp.server.mcpserver.exceptions import ToolError
from pydantic import BaseModel

from mcpchat_servers.google.credentials import TokenExpired, TokenSource
from mcpchat_servers.google.errors import RATE_LIMIT_REASONS, ApiError, error_from_response, parse_error

MAX_ATTEMPTS = 5
INITIAL_BACKOFF = 0.5  # seconds; doubled each time
MAX_RETRY_AFTER = 30.0  # seconds; if Google asks for a longer wait, the request fails at once
MAX_JSON_BYTES = 32 * 2**20  # of one response
MAX_ERROR_BYTES = 2**20  # of an error response
CHUNK_SIZE = 8 * 2**20  # bytes per upload request; Google requires a multiple of 256 KiB
MAX_REDIRECTS = 5
CONNECTION_LIMITS = httpx2.Limits(max_connections=8, max_keepalive_connections=8)
TIMEOUT = httpx2.Timeout(60.0, connect=15.0)
_EXPORT_HOST, _CONTENT_DOMAIN = "docs.google.com", ".googleusercontent.com"
_TRANSIENT_STATUSES = frozenset({408, 500, 502, 503, 504})
_REDIRECTIONS = frozenset({301, 302, 303, 307, 308})
_RESUME_INCOMPLETE = 308  # resumable uploads: Google expects more bytes

Params = Mapping[str, Any]  # query parameters: str, int or bool; a sequence repeats the name
ProgressCallback = Callable[[float, float | None], Awaitable[None]]


class TooLarge(ToolError):
    """The response is larger than the caller's limit."""


class ApiResponse(BaseModel):
    """A complete response: status, headers (lower-case names), body bytes."""

    status: int
    headers: dict[str, str]
    data: bytes

    def parse_object(self, what: str) -> dict[str, Any]:
        """Return the body as a JSON object, or {} if it is empty. Raises ToolError if it is anything else."""
        if not self.data:
            return {}
        try:
            value = json.loads(self.data)
        except ValueError:
            value = None
        if not isinstance(value, dict):
            raise ToolError(f"{what}: the response is not from Google. Is a proxy in between?")
        return value


@dataclass(frozen=True)
class _Request:
    """One HTTP request. At most one of ``body`` (JSON) and ``content`` (bytes) is set."""

    method: str
    url: str
    params: Params | None = None
    body: object = None
    content: bytes | None = None
    headers: Mapping[str, str] | None = None
    redirects: bool = False  # whether a redirection is an answer, and no error
    with_token: bool = True


class GoogleApi:
    """Client of the Google API at ``base_url``. ``service`` and ``scopes`` are named in error messages.

    ``optional_scopes`` are scopes that its requests need and that logins do not ask for unless the config says so.
    """

    def __init__(
        self,
        *,
        token_source: TokenSource,
        base_url: str,
        service: str,
        scopes: Sequence[str],
        optional_scopes: Sequence[str] = (),
    ) -> None:
        self._client: httpx2.AsyncClient | None = None
        self._token_source = token_source
        self._base_url = base_url
        self._service = service
        self._scopes = scopes
        self._optional_scopes = optional_scopes

    @property
    def _http_client(self) -> httpx2.AsyncClient:
        """The HTTP client, created at the first request: loading the certificates takes a tenth of the start time."""
        if self._client is None:
            self._client = httpx2.AsyncClient(timeout=TIMEOUT, limits=CONNECTION_LIMITS, follow_redirects=False)
        return self._client

    async def close(self) -> None:
        if self._client is not None:
            await self._client.aclose()

    async def get(
        self, path: str, params: Params | None = None, *, what: str, max_bytes: int = MAX_JSON_BYTES
    ) -> dict[str, Any]:
        """GET the JSON object at a path. ``what`` starts the error messages.

        Raises ToolError if the request fails, TooLarge if the response has more than ``max_bytes``.
        """
        response = await self._request(
            _Request("GET", self._build_url(path), params), what=what, retryable=True, max_bytes=max_bytes
        )
        return response.parse_object(what)

    async def change(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        what: str,
        retryable: bool,
        params: Params | None = None,
        etag: str = "",
    ) -> dict[str, Any]:
        """Send a change and return the JSON response. Raises ToolError if it fails.

        If it is unknown whether Google made the change, the request is repeated only if it is ``retryable``. With
        ``etag``, Google makes it only if the item is still the one of that version.
        """
        headers = {"If-Match": etag} if etag else None
        request = _Request(method, self._build_url(path), params, body=body, headers=headers)
        response = await self._request(request, what=what, retryable=retryable)
        try:
            return response.parse_object(what)
        except ToolError as error:
            raise ToolError(f"{error} It is not known whether it was done: look before you do it again.") from error

    async def get_content(self, path: str, params: Params, *, what: str, max_bytes: int) -> ApiResponse:
        """Return the bytes of a file or an export. Raises ToolError; TooLarge beyond ``max_bytes``."""
        return await self._request(
            _Request("GET", self._build_url(path), params), what=what, retryable=True, max_bytes=max_bytes
        )

    async def get_export(self, url: str, *, what: str, max_bytes: int) -> ApiResponse:
        """Return the bytes at a URL that Google gave for an export. Raises ToolError; TooLarge beyond ``max_bytes``."""
        problem = f"{what}: Google returned no address to read it at"
        with_token = True
        for _ in range(MAX_REDIRECTS):
            self._check_google_url(url, problem, exports=True, contents=not with_token)
            request = _Request("GET", url, redirects=True, with_token=with_token)
            response = await self._request(request, what=what, retryable=True, max_bytes=max_bytes)
            if response.status < 300:
                return response
            url = urljoin(url, response.headers.get("location", ""))
            with_token = not (urlsplit(url).hostname or "").endswith(_CONTENT_DOMAIN)
        raise ToolError(problem)

    async def download(
        self,
        path: str,
        params: Params,
        file: BinaryIO,
        *,
        what: str,
        max_bytes: int,
        size: int | None,
        progress: ProgressCallback,
    ) -> int:
        """Write the bytes of a remote file into ``file`` and return their number. A broken transfer is resumed.

        Raises ToolError if the transfer fails, TooLarge beyond ``max_bytes``.
        """
        failures = 0
        while True:
            offset = file.tell()
            if offset and offset == size:
                return offset  # all bytes arrived; only the end of the response was lost
            try:
                await self._download_rest(
                    path, params, file, what=what, max_bytes=max_bytes, size=size, progress=progress
                )
            except (httpx2.RequestError, _TransientError) as error:
                failures = failures + 1 if file.tell() == offset else 1
                if failures == MAX_ATTEMPTS:
                    raise _connection_error(what, error, retryable=True) from error
                await _back_off(failures, None)
            else:
                return file.tell()

    async def _download_rest(
        self,
        path: str,
        params: Params,
        file: BinaryIO,
        *,
        what: str,
        max_bytes: int,
        size: int | None,
        progress: ProgressCallback,
    ) -> None:
        start = file.tell()
        headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={start}-"} if start else {})
        async with await self._send(_Request("GET", self._build_url(path), params, headers=headers)) as response:
            if response.status_code >= 300:
                error_response = await _read_response(response, MAX_ERROR_BYTES, what)
                if error_response.status in _TRANSIENT_STATUSES or _is_rate_limited(error_response):
                    raise _TransientError(str(error_response.status))
                raise self._error_from(error_response, what)
            if response.status_code != 206:
                file.seek(0)
                file.truncate()
            async for chunk in response.aiter_bytes():
                if file.tell() + len(chunk) > max_bytes:
                    raise TooLarge(f"{what}: larger than {max_bytes:,} bytes, the download limit")
                file.write(chunk)
                await progress(file.tell(), size)

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
        progress: ProgressCallback,
    ) -> dict[str, Any]:
        """Create a file or replace its content in a resumable upload session. Returns Google's JSON response.

        If a response is lost, the session is queried for what arrived, so nothing is created twice. Raises ToolError if
        the upload fails.
        """
        start = _Request(
            method,
            self._build_url(path),
            {**params, "uploadType": "resumable"},
            body=metadata,
            headers={"X-Upload-Content-Type": media_type, "X-Upload-Content-Length": str(size)},
        )
        started = await self._request(start, what=what, retryable=True)
        session_url = started.headers.get("location", "")
        self._check_google_url(session_url, f"{what}: Google returned no upload URL")
        offset, failures, querying = 0, 0, False
        last_error: Exception = _TransientError("no more bytes were accepted")
        while True:
            source.seek(offset)
            chunk = b"" if querying else source.read(min(CHUNK_SIZE, size - offset))
            content_range = f"bytes {offset}-{offset + len(chunk) - 1}/{size}" if chunk else f"bytes */{size}"
            try:
                request = _Request("PUT", session_url, content=chunk, headers={"Content-Range": content_range})
                response = await self._send_once(request, what=what)
            except httpx2.RequestError as error:
                last_error = error
            except TokenExpired as error:
                if querying:  # the upload may be complete already: it must not be restarted automatically
                    raise _connection_error(what, last_error, retryable=False) from error
                raise
            else:
                if response.status < 300:
                    await progress(size, size)
                    return response.parse_object(what)
                if response.status == _RESUME_INCOMPLETE:
                    received = min(_parse_received(response.headers), size)
                    await progress(received, size)
                    if received > offset or querying:
                        failures = 0 if received > offset else failures
                        offset, querying = received, False
                        continue
                else:
                    last_error = self._upload_error(response, what, last_error if querying else None)
            failures += 1
            if failures == MAX_ATTEMPTS:
                raise _connection_error(what, last_error, retryable=False)
            querying = True  # only the session knows how many bytes arrived
            await _back_off(failures, None)

    def _upload_error(self, response: ApiResponse, what: str, previous: Exception | None) -> Exception:
        """Return the transient error that interrupts an upload. Raises ToolError if the upload has failed for good.

        ``previous`` is set if an earlier request of the session failed: then it is unknown what has arrived.
        """
        if response.status in _TRANSIENT_STATUSES or _is_rate_limited(response):
            return _TransientError(str(response.status))
        if response.status not in {404, 410}:
            raise self._error_from(response, what)
        if previous is not None:
            raise _connection_error(what, previous, retryable=False)
        raise ToolError(f"{what}: Google no longer knows this upload session; nothing was created. Try again.")

    # One request.

    async def _request(
        self, request: _Request, *, what: str, retryable: bool, max_bytes: int = MAX_JSON_BYTES
    ) -> ApiResponse:
        """Send a request, with retries, and return the successful response. Raises ToolError if all attempts fail.

        A request that certainly had no effect (no connection, rate limit) is always repeated; one that may have had an
        effect is repeated only if it is ``retryable``.
        """
        attempt = 0
        while True:
            attempt += 1
            retry_after = None
            try:
                response = await self._send_once(request, what=what, max_bytes=max_bytes)
            except (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout) as error:
                retry, failure = True, _connection_error(what, error, retryable=True)
            except httpx2.RequestError as error:
                retry, failure = retryable, _connection_error(what, error, retryable=retryable)
            else:
                if response.status < 300 or (request.redirects and response.status in _REDIRECTIONS):
                    return response
                if response.status in {404, 410} and request.method == "DELETE" and attempt > 1:
                    return ApiResponse(status=204, headers={}, data=b"")  # an earlier attempt has deleted it
                retry_after = _parse_retry_after(response.headers)
                retry = _is_rate_limited(response) or (response.status in _TRANSIENT_STATUSES and retryable)
                failure = self._error_from(response, what)
                if response.status in _TRANSIENT_STATUSES and not retryable:
                    failure = _connection_error(what, _TransientError(str(response.status)), retryable=False)
            if not retry or attempt == MAX_ATTEMPTS or (retry_after or 0) > MAX_RETRY_AFTER:
                raise failure
            await _back_off(attempt, retry_after)

    async def _send_once(self, request: _Request, *, what: str, max_bytes: int = MAX_JSON_BYTES) -> ApiResponse:
        async with await self._send(request) as response:
            return await _read_response(response, max_bytes if response.status_code < 300 else MAX_ERROR_BYTES, what)

    async def _send(self, request: _Request) -> "AbstractAsyncContextManager[httpx2.Response]":
        """Return the open response. If Google rejects the token, try once more with a renewed one.

        Raises TokenExpired if no other token is available.
        """
        token = await self._token_source.get_token()
        for is_last in (False, True):
            authorization = {"Authorization": f"Bearer {token}"} if request.with_token else {}
            http_request = self._http_client.build_request(
                request.method,
                request.url,
                params=_encode_params(request.params),
                json=request.body,
                content=request.content,
                headers={**(request.headers or {}), **authorization},
            )
            response = await self._http_client.send(http_request, stream=True)
            if response.status_code != 401:
                break
            await response.aclose()
            new_token = None if is_last else await self._token_source.renew_token(token)
            if new_token is None:
                raise TokenExpired("Google no longer accepts the access token of this account")
            token = new_token
        return _ClosingResponse(response)

    def _build_url(self, path: str) -> str:
        return f"{self._base_url}/{path}"

    def _check_google_url(self, url: str, problem: str, *, exports: bool = False, contents: bool = False) -> None:
        """Raise ToolError unless the URL is that of an API of Google's or below the base URL.

        The token is sent nowhere else, but to the host of ``exports``. Without it, ``contents`` may be read.
        """
        try:
            parts = urlsplit(url)
            host = parts.hostname or ""
            is_google = parts.scheme == "https" and (
                host.endswith(".googleapis.com")
                or (exports and host == _EXPORT_HOST)
                or (contents and host.endswith(_CONTENT_DOMAIN))
            )
        except ValueError:
            is_google = False
        if not is_google and not url.startswith(f"{self._base_url}/"):
            raise ToolError(problem)

    def _error_from(self, response: ApiResponse, what: str) -> ApiError:
        return error_from_response(
            response.status,
            response.headers,
            response.data,
            what=what,
            scopes=self._scopes,
            optional_scopes=self._optional_scopes,
            service=self._service,
        )


class _TransientError(Exception):
    """An error response that only means: try again later."""


class _ClosingResponse:
    """An open response as a context manager that closes it."""

    def __init__(self, response: httpx2.Response) -> None:
        self._response = response

    async def __aenter__(self) -> httpx2.Response:
        return self._response

    async def __aexit__(self, *failure: object) -> None:
        await self._response.aclose()


async def _read_response(response: httpx2.Response, max_bytes: int, what: str) -> ApiResponse:
    data = bytearray()
    async for chunk in response.aiter_bytes():
        data += chunk
        if len(data) > max_bytes:
            raise TooLarge(f"{what}: larger than {max_bytes:,} bytes")
    return ApiResponse(status=response.status_code, headers=dict(response.headers), data=bytes(data))


def _is_rate_limited(response: ApiResponse) -> bool:
    """Whether Google refused the request because of a rate limit. The request had no effect then."""
    return response.status == 429 or (
        response.status == 403 and bool(parse_error(response.data)[0] & RATE_LIMIT_REASONS)
    )


def _connection_error(what: str, error: Exception, *, retryable: bool) -> ToolError:
    reason = "did not respond in time" if isinstance(error, httpx2.TimeoutException) else "could not be reached"
    if isinstance(error, _TransientError):
        reason = f"failed ({error})"
    if retryable:
        return ToolError(f"{what}: Google {reason}, several times: try again later")
    return ToolError(f"{what}: Google {reason}, and it is not known whether it was done: look before you do it again")


def _parse_retry_after(headers: Mapping[str, str]) -> float | None:
    value = headers.get("retry-after", "")
    return float(value) if re.fullmatch(r"\d{1,9}(\.\d+)?", value) else None


async def _back_off(attempt: int, retry_after: float | None) -> None:
    max_delay = INITIAL_BACKOFF * 2 ** (attempt - 1)
    await asyncio.sleep(retry_after if retry_after is not None else max_delay * random.uniform(0.5, 1.0))  # noqa: S311 - no secret


def _parse_received(headers: Mapping[str, str]) -> int:
    """Return how many bytes an upload session has received, from "bytes=0-1234"; 0 if the header is missing."""
    last = headers.get("range", "").rpartition("-")[2]
    return int(last) + 1 if last.isdecimal() else 0


def _encode_params(params: Params | None) -> dict[str, str | int | list[str]] | None:
    """Encode query parameters for Google: true and false in lower case, sequences as repeated names.

    Returns None, not an empty dict, if there are none: httpx2 would remove the URL's existing query.
    """
    if not params:
        return None
    encoded: dict[str, str | int | list[str]] = {}
    for name, value in params.items():
        if isinstance(value, bool):
            encoded[name] = "true" if value else "false"
        else:
            encoded[name] = value if isinstance(value, str | int) else list(value)
    return encoded


def check_base_url(url: str) -> str:
    """Return the base URL without trailing slashes.

    Raises ValueError if the token must not be sent there: only https, or http on this machine, is allowed.
    """
    parts = urlsplit(url)
    is_local = parts.hostname in {"127.0.0.1", "::1", "localhost"}
    if not parts.hostname or parts.scheme not in {"https", "http"} or (parts.scheme == "http" and not is_local):
        raise ValueError("expected an https URL, or http on this machine")
    if parts.query or parts.fragment or parts.username:
        raise ValueError("expected a URL without user, ? and #")
    return url.rstrip("/")
