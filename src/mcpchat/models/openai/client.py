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
from mcpchat.models.openai.sse import begun, event_data

LONGEST_WAIT = 120.0  # seconds; a server that asks for more gets an error instead of a silent terminal
_RETRYABLE: frozenset[str] = frozenset({"rate", "overloaded", "network", "server", "broken_stream"})
_CONTEXT_WORDS = re.compile(
    r"context[ _](length|window|size)|contextwindow|maximum context|too many tok|exceed_context|prompt is too long|"
    r"input is too long|reduce the length"
)
_WINDOW = re.compile(
    r"(?:context length|context window|context size|max_model_len)[a-z ]*[^\d]{0,12}([\d,]{3,})|"
    r"n_ctx\W{1,4}(\d+)|available context size \(?(\d+)"
)

Chunk = dict[str, Any]


_STAY: Any = {"follow_redirects": False}  # a key and a conversation go to no other address than they were meant for
END: Chunk = {}  # the server's own mark that the stream is complete


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
        where: str = "[model]",
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
        self._where = where
        self._secrets = [one for one in (api_key, *(headers or {}).values()) if one and len(one) >= _SHORTEST_SECRET]
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
        with self.translated():
            answer = await self._sdk.post(
                path,
                content=content,
                cast_to=object,
                stream=True,
                stream_cls=openai.AsyncStream[object],
                options=_STAY,
            )
            async with answer, aclosing(begun(answer.response.aiter_bytes())) as pieces:
                # Told by its first byte: servers that do not stream, or do, often call it something else.
                first = (await anext(pieces, b"")).lstrip()
                if first.startswith(b"<"):
                    raise ModelError(
                        f"{self.base_url} answers with a web page, not as a model's API does",
                        kind="bad_request",
                        hint="check the address (base_url under {where}); most end in /v1",
                    )
                if first.startswith((b"{", b"[")):
                    whole = self._object(first + b"".join([piece async for piece in pieces]))
                    if not whole:
                        raise ModelError(f"{self.base_url} sent JSON that is no answer", kind="broken_stream")
                    yield whole
                    yield END
                    return
                async with aclosing(event_data(pieces, first)) as events:
                    async for data in events:
                        if data.startswith(b"[DONE]"):
                            yield END
                            return
                        yield self._object(data)

    def _object(self, data: bytes) -> Chunk:
        """The object in the data. Raises what a server reports with a status of success, in an object or a list."""
        value = json.loads(data)
        if isinstance(value, list):
            value = next((one for one in value if isinstance(one, dict)), {})
        if not isinstance(value, dict):
            return {}
        if (error := value.get("error")) and value.get("object") != "response":
            raise reported(error)
        return value

    async def ask(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Chunk:
        """The object that a plain request brings. Raises ModelError."""
        with self.translated():
            if method == "GET":
                answer = await self._sdk.get(path, cast_to=object, options=_STAY)
            else:
                answer = await self._sdk.post(path, body=body, cast_to=object, options=_STAY)
        return answer if isinstance(answer, dict) else {}

    async def upload(self, file: BinaryIO, *, purpose: str) -> Chunk:
        """What the server says of a file that it was sent. Raises ModelError."""
        with self.translated():
            options: Any = {**_STAY, "headers": {"Content-Type": "multipart/form-data"}}
            answer = await self._sdk.post(
                "/files",
                body={"purpose": purpose},
                files=[("file", ("requests.jsonl", file, "application/jsonl"))],
                cast_to=object,
                options=options,
            )
        return answer if isinstance(answer, dict) else {}

    async def lines(self, path: str) -> AsyncGenerator[bytes, None]:
        """The lines of a file that the server has, as they come. Raises ModelError."""
        rest = b""
        with self.translated():
            answer = await self._sdk.get(
                path, cast_to=object, stream=True, stream_cls=openai.AsyncStream[object], options=_STAY
            )
            async with answer, aclosing(begun(answer.response.aiter_bytes())) as pieces:
                async for piece in pieces:
                    *whole, rest = (rest + piece).split(b"\n")
                    for line in whole:
                        yield line
        if rest:
            yield rest

    async def models(self) -> list[Chunk]:
        """What the server lists as its models, an object each with its ``id``, by name."""
        with self.translated():
            answer = await self._sdk.get("/models", cast_to=object, options=_STAY)
        listed = answer.get("data") if isinstance(answer, dict) else answer
        found = [m for m in listed if isinstance(m, dict) and m.get("id")] if isinstance(listed, list) else []
        return sorted(found, key=lambda model: str(model["id"]))

    def finished(self, error: ModelError) -> ModelError:
        """The error with its hint for this address, and without our secrets, which some servers repeat."""
        hint = (error.hint or _HINTS.get(error.kind, "")).replace("{where}", self._where)
        error.hint = hint.replace("{or}", " (or OPENAI_API_KEY)" if self._where == "[model]" else "")
        for secret in self._secrets:
            error.message, error.said = (text.replace(secret, "…") for text in (error.message, error.said))
        error.args = (error.message,)
        return error

    @contextmanager
    def translated(self) -> Iterator[None]:
        """Turn whatever the SDK raises into ModelError."""
        try:
            with self._as_ours():
                yield
        except ModelError as error:
            self.finished(error)
            raise

    @contextmanager
    def _as_ours(self) -> Iterator[None]:
        try:
            yield
        except openai.APIStatusError as error:
            raise self._status_error(error) from error
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
            told = f"connection lost to {self.base_url}: {str(error) or type(error).__name__}"
            raise ModelError(told, kind="network") from error

    def _status_error(self, error: openai.APIStatusError) -> ModelError:
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
        message, code, said = _told(body)
        kind = _kind_of_status(status, code, said)
        retry_after = math.inf if headers.get("x-should-retry") == "false" else _retry_after(headers)
        return ModelError(
            f"the model's server answered {status}: {message or 'nothing more'}",
            kind=kind,
            hint=_NOT_THERE if status == 404 else "",
            retry_after=retry_after,
            window=_window(said),
            needed=_needed(said),
            said=said,
        )


def reported(error: object) -> ModelError:
    """The error that a server reports within its answer, as ours: an object with message and code, or a text."""
    message, code, said = _told(error)
    kind = _kind_of_status(int(code), code, said) if code.isdecimal() and len(code) == 3 else _kind_of_text(code, said)
    return ModelError(
        f"the model's server reported: {message or 'an error without words'}",
        kind=kind or "server",
        window=_window(said),
        needed=_needed(said),
        said=said,
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
_NOT_THERE = "check the model's name, the address (most end in /v1) and the api under {where} in the config"
_SHORTEST_SECRET = 6  # characters: a shorter one could be a word of any sentence
_MOST_SAID = 500  # characters
_QUOTA = frozenset({"insufficient_quota", "billing_hard_limit_reached", "billing_not_active", "insufficient_balance"})
_BUSY = frozenset(
    {"overloaded", "overloaded_error", "server_overloaded", "engine_overloaded_error", "service_unavailable"}
)
_LIMITED = frozenset({"rate_limit_exceeded", "rate_limit_error", "too_many_requests", "resource_exhausted"})
_CODES = _QUOTA | _BUSY | _LIMITED | {"context_length_exceeded", "exceed_context_size_error"}


def _kind_of_status(status: int, code: str, said: str) -> ModelErrorKind:
    kind = _kind_of_text(code, said)
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


def _kind_of_text(code: str, said: str) -> ModelErrorKind | None:
    """The kind by the words alone, None where they tell nothing."""
    if code in _QUOTA:
        return "quota"
    if code in _BUSY:
        return "overloaded"
    if code in _LIMITED:
        return "rate"
    return "context" if _CONTEXT_WORDS.search(f"{code} {said}".lower()) else None


def _told(body: object) -> tuple[str, str, str]:
    """The server's own words and its code, wherever in the body it put them; and all else that it says of the fault."""
    found: dict[str, str] = {}
    details: list[str] = []
    for _ in range(5):
        if isinstance(body, list):
            details += [_detail(one) for one in body[:20]]
            body = body[0] if body else None
        if isinstance(body, str):
            found.setdefault("message", body)
        if not isinstance(body, dict):
            break
        for key in ("code", "type", "status", "param", "n_ctx"):
            if isinstance(value := body.get(key), str | int) and not isinstance(value, bool) and value != "":
                found.setdefault(key, str(value))
        for key in ("message", "msg"):
            if isinstance(value := body.get(key), str):
                found.setdefault("message", value)
        body = body.get("error") or body.get("detail")
    message = found.get("message", "")[:_MOST_SAID]
    codes = [found[key].lower() for key in ("code", "type", "status") if key in found]
    code = next((one for one in codes if one in _CODES), codes[0] if codes else "")
    window = f"n_ctx: {found['n_ctx']}" if "n_ctx" in found else ""
    param = f"'{found['param']}'" if "param" in found else ""
    return message, code, " ".join(one for one in (message, param, window, *details) if one)[:_MOST_SAID]


def _detail(item: object) -> str:
    """One of pydantic's faults: where, and what."""
    if not isinstance(item, dict):
        return ""
    where = item.get("loc")
    path = "'" + ".".join(str(step) for step in where) + "'" if isinstance(where, list) else ""
    return f"{path} {item.get('msg', '')}".strip()


def _needed(said: str) -> int | None:
    """How many tokens the request had, where an error tells it."""
    found = re.search(r"(?:request|resulted in|requested) \(?(\d+) tokens", said.lower())
    return int(found[1]) if found else None


def _window(said: str) -> int | None:
    """The size of the window in tokens, where an error tells it."""
    found = _WINDOW.search(said.lower())
    digits = next((group for group in found.groups() if group), "") if found else ""
    return int(digits.replace(",", "")) if digits else None


def _retry_after(headers: Mapping[str, str]) -> float | None:
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


def may_pass(error: ModelError, tried: int) -> float | None:
    """How many seconds to wait before the request is made again, None where that would not help."""
    wait = max(error.retry_after or 0.0, min(0.5 * 2.0**tried, 8.0))
    if error.kind not in _RETRYABLE or wait > LONGEST_WAIT:
        return None
    return wait
