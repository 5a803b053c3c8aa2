"""HTTP part of the fake Google APIs: tokens, scopes, planned faults, partial responses, Google's error formats."""

import contextlib
import http.server
import json
import re
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from tests.support.google import discovery
from tests.support.http_server import HttpServer

AUTH = "https://www.googleapis.com/auth/"
DEFAULT_SCOPES = (
    "calendar.calendarlist.readonly", "calendar.events", "calendar.freebusy", "drive", "gmail.modify", "spreadsheets",
)  # fmt: skip
TOKEN = "ya29.the-token-of-the-tests-0123456789"


class ApiError(Exception):
    """An error response: with ``reason`` in Google's older format, otherwise (or with ``details``) in the newer one."""

    def __init__(self, status: int, message: str, *, reason: str = "", headers: dict[str, str] | None = None,
                 details: list[Any] | None = None) -> None:  # fmt: skip
        self.status, self.reason, self.headers = status, reason, headers or {}
        names = {400: "INVALID_ARGUMENT", 401: "UNAUTHENTICATED", 403: "PERMISSION_DENIED", 404: "NOT_FOUND",
                 409: "ALREADY_EXISTS", 429: "RESOURCE_EXHAUSTED", 500: "INTERNAL", 503: "UNAVAILABLE"}  # fmt: skip
        error: dict[str, Any] = {"code": status, "message": message}
        if reason:
            error["errors"] = [{"message": message, "domain": "global", "reason": reason}]
        if details or not reason:
            error["status"] = names.get(status, "UNKNOWN")
        if details:
            error["details"] = details
        self.body = {"error": error}


@dataclass
class Request:
    method: str
    path: str
    query: dict[str, list[str]]
    headers: Any
    body: bytes

    @property
    def request_line(self) -> str:
        return f"{self.method} {self.path}" + (" alt=media" if self.param("alt") == "media" else "")

    def param(self, name: str, default: str = "") -> str:
        return self.query.get(name, [default])[-1]

    def bool_param(self, name: str) -> bool:
        return self.param(name) == "true"

    def int_param(self, name: str, default: int, maximum: int) -> int:
        value = int(self.param(name, str(default)))
        if not 0 < value <= maximum:
            raise ApiError(
                400, f"Invalid value '{value}'. Values must be within the range: [1, {maximum}]", reason="invalid"
            )
        return value

    def json(self) -> dict[str, Any]:
        try:
            return json.loads(self.body or b"{}")
        except ValueError:
            raise ApiError(400, "Parse Error", reason="parseError") from None


@dataclass
class Response:
    body: Any = None
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)


@dataclass
class Fault:
    """A fault for requests that match ``METHOD /path``: a status, or "drop", "half", "slow", "junk", "limit"."""

    match: str
    kind: int | str
    times: int = 1
    after: bool = False  # whether the request takes effect before the fault
    skip: int = 0  # matching requests that succeed before the fault


class FakeService:
    """The fake service. ``journal`` has each request as (method, path, query)."""

    def __init__(self) -> None:
        self.tokens: dict[str, set[str]] = {TOKEN: {f"{AUTH}{scope}" for scope in DEFAULT_SCOPES}}
        self.faults: list[Fault] = []
        self.journal: list[tuple[str, str, dict[str, list[str]]]] = []
        self.lock = threading.RLock()
        self.next_tokens: list[str] = []  # the tokens that the token endpoint returns
        self.authorized_requests: list[
            tuple[str, set[str]]
        ] = []  # each request with a valid token, and the token's scopes
        self.url = ""
        self.delay = 2.0
        self.mismatches: list[str] = []  # what Google's discovery documents say against requests and answers
        self.disabled_services: set[str] = set()

    def handle(self, request: Request) -> Response:
        raise NotImplementedError

    def request_lines(self, *prefixes: str) -> list[str]:
        """Return the requests so far as ``METHOD /path``, filtered by prefixes."""
        lines = [f"{method} {path}" for method, path, _ in self.journal]
        return [line for line in lines if not prefixes or line.startswith(prefixes)]

    def take_fault(self, request: Request, *, after: bool) -> Fault | None:
        with self.lock:
            for fault in self.faults:
                if not (fault.times and fault.after == after and re.search(fault.match, request.request_line)):
                    continue
                if fault.skip:
                    fault.skip -= 1
                    continue
                fault.times -= 1
                return fault
        return None

    def token_scopes(self, token: str) -> set[str] | None:
        """Return the scopes of a token, or None if it is invalid."""
        return self.tokens.get(token)

    def authorize(self, request: Request, *scopes: str) -> None:
        kind, _, token = request.headers.get("Authorization", "").partition(" ")
        granted = self.token_scopes(token) if kind == "Bearer" else None
        if granted is None:
            raise ApiError(
                401,
                "Request had invalid authentication credentials. Expected OAuth 2 access token, login cookie or other "
                "valid authentication credential.",
                reason="authError",
                headers={"WWW-Authenticate": 'Bearer realm="https://accounts.google.com/", error="invalid_token"'},
            )
        self.authorized_requests.append((request.request_line, granted))
        if not granted & {AUTH + scope for scope in scopes}:
            required = " ".join(AUTH + scope for scope in scopes)
            raise ApiError(
                403,
                "Request had insufficient authentication scopes.",
                reason="insufficientPermissions",
                headers={
                    "WWW-Authenticate": f'Bearer realm="https://accounts.google.com/", error="insufficient_scope", scope="{required}"'
                },
                details=[
                    {
                        "@type": "type.googleapis.com/google.rpc.ErrorInfo",
                        "reason": "ACCESS_TOKEN_SCOPE_INSUFFICIENT",
                        "domain": "googleapis.com",
                        "metadata": {"service": "the.googleapis.com"},
                    }
                ],
            )

    def require_enabled(self, service: str) -> None:
        if service in self.disabled_services:
            raise ApiError(
                403,
                f"The API has not been used in project 123 before or it is disabled. Enable it by visiting ... {service}",
                reason="accessNotConfigured",
                details=[
                    {
                        "@type": "type.googleapis.com/google.rpc.ErrorInfo",
                        "reason": "SERVICE_DISABLED",
                        "domain": "googleapis.com",
                        "metadata": {"service": service, "consumer": "projects/123"},
                    }
                ],
            )


class _ConnectionDropped(Exception):
    """The connection is closed without a response."""


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    service: FakeService

    def _serve(self) -> None:
        parts = urlsplit(self.path)
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        request = Request(
            self.command, unquote(parts.path), parse_qs(parts.query, keep_blank_values=True), self.headers, body
        )
        self.service.journal.append((request.method, request.path, request.query))
        is_content = request.path.startswith("/upload") and request.param("upload_id")
        method = None if is_content else discovery.find_method(request.method, parts.path)
        if isinstance(method, str):
            self.service.mismatches.append(method)
            method = None
        elif method is not None:
            found = [f"{method.id}: {problem}" for problem in method.check_request(self.path, body)]
            self.service.mismatches += found
        truncate = False
        try:
            fault = self.service.take_fault(request, after=False)
            if fault is not None:
                truncate = self._fail(fault)
            with self.service.lock:
                answer = self.service.handle(request)
            if method is not None:
                self._check_answer(request, answer, method)
            if (fault := self.service.take_fault(request, after=True)) is not None:
                truncate = self._fail(fault)
        except ApiError as error:
            answer = Response(error.body, error.status, error.headers)
        except _ConnectionDropped:
            self.close_connection = True
            return
        data = answer.body
        headers = dict(answer.headers)
        if isinstance(data, bytes):
            headers.setdefault("Content-Type", "application/octet-stream")
        else:
            mask = request.param("fields") if answer.status < 300 else ""
            data = b"" if data is None else json.dumps(apply_field_mask(data, mask) if mask else data).encode()
            headers.setdefault("Content-Type", "application/json; charset=UTF-8")
        self.send_response(204 if answer.status == 200 and not data and answer.body is None else answer.status)
        for name, value in headers.items():
            self.send_header(name, value)
        if answer.body is not None or answer.status >= 300:
            self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if truncate:
            self.wfile.write(data[: len(data) // 2])
            self.close_connection = True
            return
        with contextlib.suppress(ConnectionError):
            self.wfile.write(data)

    def _check_answer(self, request: Request, answer: Response, method: discovery.Method) -> None:
        """Note what is wrong with an answer: fields that the API does not have, a token without the method's scopes."""
        granted = self.service.authorized_requests[-1][1] if self.service.authorized_requests else set()
        problems = [] if granted & method.scopes else [f"no scope of {sorted(granted)} allows it"]
        if answer.status < 300 and not isinstance(answer.body, bytes) and not request.path.startswith("/upload"):
            problems += method.check_answer(answer.body)
        self.service.mismatches += [f"{method.id}: {problem}" for problem in problems]

    def _fail(self, fault: Fault) -> bool:
        match fault.kind:
            case int(status):
                raise ApiError(status, "The service is currently unavailable.", reason="backendError")
            case "limit":
                raise ApiError(429, "Quota exceeded for quota metric 'Queries'.", reason="rateLimitExceeded",
                            headers={"Retry-After": "0"})  # fmt: skip
            case "user limit":
                raise ApiError(403, "User Rate Limit Exceeded", reason="userRateLimitExceeded")
            case "long limit":
                raise ApiError(429, "Too many concurrent requests for user.", headers={"Retry-After": "3600"})
            case "junk":
                raise _junk_error()
            case "drop":
                raise _ConnectionDropped
            case "slow":
                time.sleep(self.service.delay)
            case "half":
                return True
            case reason:
                raise ApiError(403, f"Google says {reason}.", reason=str(reason))
        return False

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _serve  # noqa: N815 - http.server's names

    def log_message(self, *args: object) -> None:
        pass


def _junk_error() -> Exception:
    error = ApiError(200, "")
    error.body = "<html>Please log in to the hotel's network</html>"  # type: ignore[assignment]
    return error


def apply_field_mask(value: Any, mask: str) -> Any:
    """Return a partial response with the fields of a mask such as ``a,b(c,d),e/f``."""
    return _select(value, discovery.parse_mask(mask))


def _select(value: Any, tree: dict[str, Any]) -> Any:
    if not tree or "*" in tree:
        return value
    if isinstance(value, list):
        return [_select(item, tree) for item in value]
    if isinstance(value, dict):
        return {name: _select(value[name], inner) for name, inner in tree.items() if name in value}
    return value


@contextlib.contextmanager
def serve(service: FakeService) -> Iterator[FakeService]:
    handler = type("Handler", (_Handler,), {"service": service})
    server = HttpServer(handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    service.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield service
    finally:
        server.shutdown()
        server.server_close()
