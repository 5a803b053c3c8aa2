"""The OpenAI SDK's client: one streamed request at a time, its errors as ours."""

import json
import math
import re
import time
from collections.abc import AsyncGenerator, Iterator, Mapping
from contextlib import aclosing, contextmanager
from email.utils import parsedate_to_datetime
from typing import Any, BinaryIO

import httpx2
import openai

from mcpchat.errors import ModelError, ModelErrorKind
from mcpchat.models.openai.compatibility import is_openai
from mcpchat.models.openai.sse import iter_event_data, skip_leading_blanks

MAX_RETRY_DELAY = 120.0  # seconds; a server that asks for more gets an error instead of a silent terminal
TRANSIENT_ERRORS: frozenset[str] = frozenset({"rate", "overloaded", "network", "server", "broken_stream"})
_CONTEXT_EXCEEDED = re.compile(
    r"context[ _](length|window|size)|contextwindow|maximum context|too many tok|exceed_context|prompt is too long|"
    r"input is too long|reduce the length"
)
_WINDOW_SIZE = re.compile(
    r"(?:context length|context window|context size|max_model_len)[a-z ]*[^\d]{0,12}([\d,]{3,})|"
    r"n_ctx\W{1,4}(\d+)|available context size \(?(\d+)"
)

Chunk = dict[str, Any]


NO_REDIRECTS: Any = {
    "follow_redirects": False
}  # a key and a conversation go to no other address than they were meant for
END_OF_STREAM: Chunk = {}  # the server's own mark that the stream is complete


class OpenAIClient:
    """An OpenAI-compatible address and the key for it.

    Requests go through the SDK's generic ``post``, and what comes back is read here: so a server's quirks reach our own
    accumulators, and the SDK's many model types need not be loaded. ``where`` is the table of the config, for hints;
    ``timeout`` is the longest silence, in seconds; ``http_client`` is for other transports.
    """

    def __init__(
        self,
        *,
        base_url: str | None,
        api_key: str | None,
        headers: Mapping[str, str] | None = None,
        config_table: str = "[model]",
        timeout: float = 600.0,
        http_client: httpx2.AsyncClient | None = None,
    ) -> None:
        # An empty base_url is taken literally by the SDK, and an empty key refused: local servers want neither.
        self._sdk = openai.AsyncOpenAI(
            base_url=base_url or None,
            api_key=api_key or "none",
            max_retries=0,
            default_headers=headers,
            timeout=httpx2.Timeout(timeout, connect=10.0),
            http_client=http_client,
        )
        self._config_table = config_table
        self._secrets = [
            value for value in (api_key, *(headers or {}).values()) if value and len(value) >= _MIN_SECRET_LENGTH
        ]
        self.base_url = str(self._sdk.base_url)
        self.is_openai = is_openai(self.base_url)
        if not self.is_openai:
            # What the SDK finds in the environment (an organization, a project, headers) is meant for OpenAI.
            self._sdk.organization = self._sdk.project = None
            self._sdk._custom_headers = dict(headers or {})

    async def stream(self, path: str, body: Mapping[str, Any]) -> AsyncGenerator[Chunk, None]:
        """The objects of one streamed answer, then END where the server marks it.

        A server that ignores ``stream`` yields its one JSON body.
        """
        # Of our own making, since half characters of some server's text must not fail the request.
        content = json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode(errors="replace")
        with self.translate_errors():
            response = await self._sdk.post(
                path,
                content=content,
                cast_to=object,
                stream=True,
                stream_cls=openai.AsyncStream[object],
                options=NO_REDIRECTS,
            )
            async with response, aclosing(skip_leading_blanks(response.response.aiter_bytes())) as chunks:
                # Told by its first byte: servers that do not stream, or do, often call it something else.
                first = (await anext(chunks, b"")).lstrip()
                if first.startswith(b"<"):
                    raise ModelError(
                        f"{self.base_url} answers with a web page, not as a model's API does",
                        kind="bad_request",
                        hint="check the address (base_url under {where}); most end in /v1",
                    )
                if first.startswith((b"{", b"[")):
                    value = self._decode_object(first + b"".join([chunk async for chunk in chunks]))
                    if not value:
                        raise ModelError(f"{self.base_url} sent JSON that is no answer", kind="broken_stream")
                    yield value
                    yield END_OF_STREAM
                    return
                async with aclosing(iter_event_data(chunks, first)) as events:
                    async for data in events:
                        if data.startswith(b"[DONE]"):
                            yield END_OF_STREAM
                            return
                        yield self._decode_object(data)

    def _decode_object(self, data: bytes) -> Chunk:
        """The object in the data. Raises what a server reports with a status of success, in an object or a list."""
        value = json.loads(data)
        if isinstance(value, list):
            value = next((item for item in value if isinstance(item, dict)), {})
        if not isinstance(value, dict):
            return {}
        if (error := value.get("error")) and value.get("object") != "response":
            raise error_from_body(error)
        return value

    async def request_json(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Chunk:
        """The object that a plain request brings. Raises ModelError."""
        with self.translate_errors():
            if method == "GET":
                response = await self._sdk.get(path, cast_to=object, options=NO_REDIRECTS)
            else:
                response = await self._sdk.post(path, body=body, cast_to=object, options=NO_REDIRECTS)
        return response if isinstance(response, dict) else {}

    async def upload(self, file: BinaryIO, *, purpose: str) -> Chunk:
        """What the server says of a file that it was sent. Raises ModelError."""
        with self.translate_errors():
            options: Any = {**NO_REDIRECTS, "headers": {"Content-Type": "multipart/form-data"}}
            response = await self._sdk.post(
                "/files",
                body={"purpose": purpose},
                files=[("file", ("requests.jsonl", file, "application/jsonl"))],
                cast_to=object,
                options=options,
            )
        return response if isinstance(response, dict) else {}

    async def stream_lines(self, path: str) -> AsyncGenerator[bytes, None]:
        """The lines of a file that the server has, as they come. Raises ModelError."""
        partial = b""
        with self.translate_errors():
            response = await self._sdk.get(
                path, cast_to=object, stream=True, stream_cls=openai.AsyncStream[object], options=NO_REDIRECTS
            )
            async with response, aclosing(skip_leading_blanks(response.response.aiter_bytes())) as chunks:
                async for chunk in chunks:
                    *complete, partial = (partial + chunk).split(b"\n")
                    for line in complete:
                        yield line
        if partial:
            yield partial

    async def list_models(self) -> list[Chunk]:
        """What the server lists as its models, an object each with its ``id``, by name."""
        with self.translate_errors():
            response = await self._sdk.get("/models", cast_to=object, options=NO_REDIRECTS)
        items = response.get("data") if isinstance(response, dict) else response
        models = (
            [item for item in items if isinstance(item, dict) and item.get("id")] if isinstance(items, list) else []
        )
        return sorted(models, key=lambda model: str(model["id"]))

    def add_hint(self, error: ModelError) -> ModelError:
        """The error with its hint for this address, and without our secrets, which some servers repeat."""
        hint = (error.hint or _HINTS.get(error.kind, "")).replace("{where}", self._config_table)
        error.hint = hint.replace("{or}", " (or OPENAI_API_KEY)" if self._config_table == "[model]" else "")
        for secret in self._secrets:
            error.message, error.server_text = (
                text.replace(secret, "…") for text in (error.message, error.server_text)
            )
        error.args = (error.message,)
        return error

    @contextmanager
    def translate_errors(self) -> Iterator[None]:
        """Turn whatever the SDK raises into ModelError."""
        try:
            with self._translate():
                yield
        except ModelError as error:
            self.add_hint(error)
            raise

    @contextmanager
    def _translate(self) -> Iterator[None]:
        try:
            yield
        except openai.APIStatusError as error:
            raise self._error_from_status(error) from error
        except openai.APITimeoutError as error:
            raise ModelError(
                f"the model's server at {self.base_url} did not answer in time",
                kind="network",
                hint="check the address (base_url under {where}), http or https, and that the server runs",
            ) from error
        except openai.APIConnectionError as error:
            cause = str(error.__cause__ or error)
            raise ModelError(
                f"cannot reach the model's server at {self.base_url}: {cause}",
                kind="network",
                hint="check the address (base_url under {where}), the network, and that the server runs",
            ) from error
        except openai.APIError as error:  # a header, a key or a body that the SDK cannot make sense of
            raise ModelError(f"the model's server at {self.base_url} cannot be used: {error}", kind="server") from error
        except openai.OpenAIError as error:
            raise ModelError(f"{self.base_url} cannot be used: {error}", kind="bad_request") from error
        except httpx2.InvalidURL as error:
            raise ModelError(f"{self.base_url} is no address: {error}", kind="bad_request") from error
        except ValueError as error:  # broken JSON, or an event without an end
            raise ModelError(
                f"the model's server at {self.base_url} sent broken data: {error}", kind="broken_stream"
            ) from error
        except RecursionError as error:
            raise ModelError(f"{self.base_url} sent JSON that is nested too deeply", kind="broken_stream") from error
        except httpx2.TimeoutException as error:
            raise ModelError(f"connection lost: {self.base_url} fell silent", kind="network") from error
        except httpx2.HTTPError as error:
            message = f"connection lost to {self.base_url}: {str(error) or type(error).__name__}"
            raise ModelError(message, kind="network") from error

    def _error_from_status(self, error: openai.APIStatusError) -> ModelError:
        status, headers = error.status_code, error.response.headers
        if 300 <= status < 400:
            return ModelError(
                f"{self.base_url} redirects to {headers.get('location', 'nowhere')}, where the key is not sent",
                kind="bad_request",
                hint="if that is the right address, make it the base_url",
            )
        body: object = error.body
        if body is None or isinstance(body, str):
            text = str(body or error.response.text)
            body = "a web page" if text.lstrip().startswith("<") else text
        message, code, server_text = extract_error(body)
        kind = _classify_status(status, code, server_text)
        retry_after = math.inf if headers.get("x-should-retry") == "false" else _parse_retry_after(headers)
        return ModelError(
            f"the model's server answered {status}: {message or 'nothing more'}",
            kind=kind,
            hint=_NOT_FOUND_HINT if status == 404 else "",
            retry_after=retry_after,
            window=_parse_window(server_text),
            requested_tokens=_parse_requested_tokens(server_text),
            server_text=server_text,
        )


def error_from_body(error: object) -> ModelError:
    """The error that a server reports within its answer, as ours: an object with message and code, or a text."""
    message, code, server_text = extract_error(error)
    kind = (
        _classify_status(int(code), code, server_text)
        if code.isdecimal() and len(code) == 3
        else _classify_text(code, server_text)
    )
    return ModelError(
        f"the model's server reported: {message or 'an error without words'}",
        kind=kind or "server",
        window=_parse_window(server_text),
        requested_tokens=_parse_requested_tokens(server_text),
        server_text=server_text,
    )


_HINTS: dict[str, str] = {
    "auth": "check the key: api_key under {where} in the config{or}",
    "quota": "the account has nothing left to spend: see the provider's billing page",
    "rate": "the provider's limit is reached: wait, or use another model",
    "context": "ask with less, or a model of a larger window; in the chat, /new begins a new conversation",
    "bad_request": "check the model's name and options: --model, or {where} in the config",
    "server": "look at the server's own log, or ask again later",
    "broken_stream": "ask again",
}
_NOT_FOUND_HINT = "check the model's name, the address (most end in /v1) and the api under {where} in the config"
_MIN_SECRET_LENGTH = 6  # characters: a shorter one could be a word of any sentence
_MAX_ERROR_TEXT = 500  # characters
_QUOTA_CODES = frozenset(
    {"insufficient_quota", "billing_hard_limit_reached", "billing_not_active", "insufficient_balance"}
)
_OVERLOADED_CODES = frozenset(
    {"overloaded", "overloaded_error", "server_overloaded", "engine_overloaded_error", "service_unavailable"}
)
_RATE_LIMIT_CODES = frozenset({"rate_limit_exceeded", "rate_limit_error", "too_many_requests", "resource_exhausted"})
_KNOWN_CODES = (
    _QUOTA_CODES | _OVERLOADED_CODES | _RATE_LIMIT_CODES | {"context_length_exceeded", "exceed_context_size_error"}
)


def _classify_status(status: int, code: str, server_text: str) -> ModelErrorKind:
    kind = _classify_text(code, server_text)
    match status:
        case 403 if kind == "quota":
            return "quota"
        case 401 | 403:
            return "auth"
        case 402:
            return "quota"
        case 429:
            return "quota" if kind == "quota" else "rate"
        case 503 | 529:
            return "overloaded"
        case 408 | 409:
            return "network"
        case 413:
            return "context"
        case _ if status >= 500:
            return "context" if kind == "context" else "server"
        case _:
            return kind or "bad_request"


def _classify_text(code: str, server_text: str) -> ModelErrorKind | None:
    """The kind by the words alone, None where they tell nothing."""
    if code in _QUOTA_CODES:
        return "quota"
    if code in _OVERLOADED_CODES:
        return "overloaded"
    if code in _RATE_LIMIT_CODES:
        return "rate"
    return "context" if _CONTEXT_EXCEEDED.search(f"{code} {server_text}".lower()) else None


def extract_error(body: object) -> tuple[str, str, str]:
    """The server's own words and its code, wherever in the body it put them; and all else that it says of the fault."""
    fields: dict[str, str] = {}
    details: list[str] = []
    for _ in range(5):
        if isinstance(body, list):
            details += [_format_validation_error(item) for item in body[:20]]
            body = body[0] if body else None
        if isinstance(body, str):
            fields.setdefault("message", body)
        if not isinstance(body, dict):
            break
        for key in ("code", "type", "status", "param", "n_ctx"):
            if isinstance(value := body.get(key), str | int) and not isinstance(value, bool) and value != "":
                fields.setdefault(key, str(value))
        for key in ("message", "msg"):
            if isinstance(value := body.get(key), str):
                fields.setdefault("message", value)
        body = body.get("error") or body.get("detail")
    message = fields.get("message", "")[:_MAX_ERROR_TEXT]
    codes = [fields[key].lower() for key in ("code", "type", "status") if key in fields]
    code = next((candidate for candidate in codes if candidate in _KNOWN_CODES), codes[0] if codes else "")
    window = f"n_ctx: {fields['n_ctx']}" if "n_ctx" in fields else ""
    param = f"'{fields['param']}'" if "param" in fields else ""
    return message, code, " ".join(text for text in (message, param, window, *details) if text)[:_MAX_ERROR_TEXT]


def _format_validation_error(item: object) -> str:
    """One of pydantic's faults: where, and what."""
    if not isinstance(item, dict):
        return ""
    location = item.get("loc")
    path = "'" + ".".join(str(step) for step in location) + "'" if isinstance(location, list) else ""
    return f"{path} {item.get('msg', '')}".strip()


def _parse_requested_tokens(server_text: str) -> int | None:
    """How many tokens the request had, where an error tells it."""
    match = re.search(r"(?:request|resulted in|requested) \(?(\d+) tokens", server_text.lower())
    return int(match[1]) if match else None


def _parse_window(server_text: str) -> int | None:
    """The size of the window in tokens, where an error tells it."""
    match = _WINDOW_SIZE.search(server_text.lower())
    digits = next((group for group in match.groups() if group), "") if match else ""
    return int(digits.replace(",", "")) if digits else None


def _parse_retry_after(headers: Mapping[str, str]) -> float | None:
    for name, unit in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        value = headers.get(name, "")
        try:
            return float(value) * unit if math.isfinite(float(value)) else None
        except ValueError:
            pass
        try:
            return float(parsedate_to_datetime(value).timestamp() - time.time())
        except ValueError:
            continue
    return None


def retry_delay(error: ModelError, attempt: int) -> float | None:
    """How many seconds to wait before the request is made again, None where that would not help."""
    delay = max(error.retry_after or 0.0, min(0.5 * 2.0**attempt, 8.0))
    if error.kind not in TRANSIENT_ERRORS or delay > MAX_RETRY_DELAY:
        return None
    return delay
