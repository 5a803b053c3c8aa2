"""The OpenAI SDK's client: one streamed request at a time, its errors as ours, retries that can be seen."""

import asyncio
import json
import random
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import aclosing, contextmanager
from typing import Any, cast

import httpx2
import openai

from mcpchat.core.errors import ModelError, ModelErrorKind
from mcpchat.core.ports import ModelEvent, Retrying

MAX_RETRIES = 4
LONGEST_WAIT = 120.0  # seconds; a server that asks for more gets an error instead of a silent terminal
_RETRYABLE: frozenset[str] = frozenset({"rate", "overloaded", "network", "server"})
_CONTEXT_WORDS = (
    "context length",
    "context window",
    "context_length",
    "context size",
    "maximum context",
    "too many tok",
)

Chunk = dict[str, Any]


class OpenAIClient:
    """An OpenAI-compatible address and the key for it.

    Requests go through the SDK's generic ``post``: chunks arrive as plain dicts, so that a server's quirks reach our
    own accumulator, and the SDK's many model types need not be loaded. ``http_client`` is for other transports.
    """

    def __init__(
        self, *, base_url: str | None, api_key: str | None, http_client: httpx2.AsyncClient | None = None
    ) -> None:
        # An empty base_url is taken literally by the SDK, and an empty key refused: local servers want neither.
        self._sdk = openai.AsyncOpenAI(
            base_url=base_url or None, api_key=api_key or "none", max_retries=0, http_client=http_client
        )
        self.base_url = str(self._sdk.base_url)
        self.is_openai = httpx2.URL(self.base_url).host == "api.openai.com"

    async def stream(self, path: str, body: Mapping[str, Any]) -> AsyncIterator[Chunk]:
        """The chunks of one streamed answer. A server that ignores ``stream`` yields its one JSON body."""
        with self.translated():
            answer = await self._sdk.post(
                path, body=dict(body), cast_to=object, stream=True, stream_cls=openai.AsyncStream[object]
            )
            async with answer:
                kind = answer.response.headers.get("content-type", "").lower()
                if "json" in kind:
                    yield self._whole(json.loads(await answer.response.aread()))
                    return
                if "html" in kind:
                    raise ModelError(
                        f"{self.base_url} answers with a web page, not as a model's API does",
                        kind="bad_request",
                        hint="check the address ([model] base_url, OPENAI_BASE_URL); most end in /v1",
                    )
                async for chunk in answer:
                    if isinstance(chunk, dict):
                        yield cast("Chunk", chunk)

    def _whole(self, body: object) -> Chunk:
        """The body of a server that does not stream, or the error that it sent with a status of success."""
        if not isinstance(body, dict):
            raise ModelError(f"{self.base_url} sent JSON that is no answer", kind="broken_stream")
        if error := body.get("error"):
            told = error.get("message") if isinstance(error, dict) else error
            raise ModelError(f"the model's server reported: {told}", kind="server")
        return body

    async def models(self) -> list[str]:
        """The names that the server lists."""
        with self.translated():
            answer = await self._sdk.get("/models", cast_to=object)
        listed = answer.get("data") if isinstance(answer, dict) else None
        return sorted(str(m["id"]) for m in listed or () if isinstance(m, dict) and "id" in m)

    @contextmanager
    def translated(self) -> Iterator[None]:
        """Turn whatever the SDK raises into ModelError."""
        try:
            yield
        except openai.APIStatusError as error:
            raise self._status_error(error) from error
        except openai.APITimeoutError as error:
            raise ModelError(f"the model's server at {self.base_url} did not answer in time", kind="network") from error
        except openai.APIConnectionError as error:
            cause = str(error.__cause__ or error)
            raise ModelError(
                f"cannot reach the model's server at {self.base_url}: {cause}",
                kind="network",
                hint="check the address ([model] base_url, OPENAI_BASE_URL), the network, and that the server runs",
            ) from error
        except openai.APIError as error:  # an error object in the middle of a stream
            raise ModelError(
                f"the model's server reported: {_message_of(error)}", kind=_kind_of_text(error, default="server")
            ) from error
        except httpx2.InvalidURL as error:
            raise ModelError(f"{self.base_url} is no address: {error}", kind="bad_request") from error
        except ValueError as error:  # the SDK lets json.JSONDecodeError through
            raise ModelError(
                f"the model's server at {self.base_url} sent broken data: {error}", kind="broken_stream"
            ) from error
        except httpx2.HTTPError as error:
            raise ModelError(f"the connection to {self.base_url} broke: {error}", kind="network") from error

    def _status_error(self, error: openai.APIStatusError) -> ModelError:
        status = error.status_code
        kind = _kind_of_status(status, error)
        return ModelError(
            f"the model's server answered {status}: {_message_of(error)}",
            kind=kind,
            hint=_HINTS.get(kind, ""),
            retry_after=_retry_after(error.response.headers),
        )


_HINTS: dict[str, str] = {
    "auth": "check the key: OPENAI_API_KEY, or api_key under [model] in the config",
    "quota": "the account has nothing left to spend: see the provider's billing page",
    "context": "the conversation is too long for this model: /clear begins a new one",
    "bad_request": "check the model's name and options: --model, or [model] in the config",
}


def _kind_of_status(status: int, error: openai.APIStatusError) -> ModelErrorKind:
    match status:
        case 401 | 403:
            return "auth"
        case 402:
            return "quota"
        case 429:
            return "quota" if error.code == "insufficient_quota" else "rate"
        case 503 | 529:
            return "overloaded"
        case 408 | 409:
            return "network"
        case _ if status >= 500:
            return "server"
        case _:
            return _kind_of_text(error, default="bad_request")


def _kind_of_text(error: openai.APIError, *, default: ModelErrorKind) -> ModelErrorKind:
    if error.code == "insufficient_quota":
        return "quota"
    text = f"{error.code} {error.type} {_message_of(error)}".lower()
    return "context" if any(words in text for words in _CONTEXT_WORDS) else default


def _message_of(error: openai.APIError) -> str:
    """The server's own words, wherever in the body it put them."""
    body: object = error.body
    if isinstance(body, list) and body:
        body = body[0]
    while isinstance(body, dict):
        if isinstance(message := body.get("message"), str):
            return message
        if isinstance(nested := body.get("error"), str):
            return nested
        body = nested
    return error.message


def _retry_after(headers: Mapping[str, str]) -> float | None:
    for name, unit in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        try:
            return float(headers[name]) * unit
        except (KeyError, ValueError):
            continue
    return None


async def with_retries(attempt: Callable[[], AsyncIterator[ModelEvent]]) -> AsyncIterator[ModelEvent]:
    """The events of an attempt; while none came yet, passing failures are waited out and tried again."""
    for tried in range(MAX_RETRIES + 1):
        shown = False
        try:
            async with aclosing(cast("Any", attempt())) as events:
                async for event in events:
                    shown = True
                    yield event
            return
        except ModelError as error:
            wait = error.retry_after if error.retry_after is not None else min(0.5 * 2**tried, 8.0)
            if shown or tried == MAX_RETRIES or error.kind not in _RETRYABLE or wait > LONGEST_WAIT:
                raise
            why = error.message
        yield Retrying(seconds=wait, why=why)
        # Many clients told to wait the same time would come back at once: spread them a little.
        await asyncio.sleep(wait * (1 + random.random() / 10))  # noqa: S311 - jitter, not a secret
