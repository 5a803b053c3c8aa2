"""A Model over either of OpenAI's APIs: one answer, whatever it takes of retries and of lessons in manners."""

import asyncio
import random
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Mapping
from contextlib import aclosing
from typing import Any, Protocol

from mcpchat.core.events import Notice, ReasoningDelta, TextDelta
from mcpchat.core.protocols import ModelEvent, ModelRequest, ResponseDone, Retrying
from mcpchat.errors import ModelError
from mcpchat.models.openai import wire
from mcpchat.models.openai.client import END_OF_STREAM, Chunk, OpenAIClient, error_from_body, retry_delay
from mcpchat.models.openai.compatibility import Compatibility, adapt_to_error

MAX_ADAPTATIONS = 8  # for one answer


class ResponseAccumulator(Protocol):
    """Chunks in, one message out, whatever order and shape a server chose."""

    def feed(self, chunk: Chunk) -> Iterator[ModelEvent]: ...

    def finish(self, origin: Mapping[str, str]) -> ResponseDone:
        """The whole message. Raises ModelError where it broke off."""
        ...


class WireApi(Protocol):
    """One of the two: where requests go, what they look like, how answers are read."""

    name: str
    path: str

    def default_compatibility(self, *, is_openai: bool) -> Compatibility:
        """What to begin with."""
        ...

    def build_body(
        self, request: ModelRequest, compatibility: Compatibility, origin: Mapping[str, str]
    ) -> dict[str, Any]:
        """The request, in an order that changes late: tools, instructions, then the messages, that only grow."""
        ...

    def create_accumulator(self, used_ids: set[str], limit: int | None) -> ResponseAccumulator:
        """What reads the answer; ``limit`` is the most tokens that it was allowed."""
        ...


class OpenAIModel:
    """A Model over one API of one address.

    What fails in passing is tried again, at most ``retries`` times; ``pause`` waits between, in seconds.
    """

    def __init__(
        self,
        client: OpenAIClient,
        api: WireApi,
        *,
        retries: int = 4,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.client = client
        self._sleep = sleep
        self._retries = retries
        self._api = api
        self.api_name = api.name
        self._compatibility: dict[str, Compatibility] = {}  # by model

    async def stream(self, request: ModelRequest) -> AsyncGenerator[ModelEvent, None]:
        """As the port's. While nothing was shown, refusals are learnt from and passing failures are waited out."""
        attempts = adaptations = 0
        compatibility = self._compatibility.get(request.model) or self._api.default_compatibility(
            is_openai=self.client.is_openai
        )
        while True:
            has_output = False
            origin = wire.build_origin(self._api.name, self.client.base_url, request.model)
            body = self._api.build_body(request, compatibility, origin)
            try:
                async with aclosing(self._attempt(request, body, origin)) as events:
                    async for event in events:
                        has_output = has_output or isinstance(event, TextDelta | ReasoningDelta)
                        yield event
                return
            except ModelError as error:
                self.client.add_hint(error)
                adaptation = (
                    None if has_output or adaptations >= MAX_ADAPTATIONS else adapt_to_error(compatibility, error, body)
                )
                if adaptation is not None and self._api.build_body(request, adaptation.compatibility, origin) == body:
                    adaptation = None  # it is nothing that this API could do otherwise
                delay = None if has_output or attempts >= self._retries else retry_delay(error, attempts)
                if adaptation is None and delay is None:
                    raise
                reason = error.message
            if adaptation is not None:
                adaptations += 1
                compatibility = self._compatibility[request.model] = adaptation.compatibility
                if adaptation.notice:
                    yield Notice(level="warning", text=adaptation.notice)
            elif delay is not None:
                attempts += 1
                yield Retrying(seconds=delay, reason=reason)
                # Many clients told to wait the same time would come back at once: spread them a little.
                await self._sleep(delay * (1 + random.random() / 10))  # noqa: S311 - jitter, not a secret

    def build_batch_request(self, request: ModelRequest) -> tuple[str, dict[str, Any]]:
        """The path and the body of the request, for a file of requests that are answered some other time."""
        compatibility = self._compatibility.get(request.model) or self._api.default_compatibility(
            is_openai=self.client.is_openai
        )
        body = self._api.build_body(
            request, compatibility, wire.build_origin(self._api.name, self.client.base_url, request.model)
        )
        return self._api.path, {key: value for key, value in body.items() if key not in {"stream", "stream_options"}}

    def parse_batch_response(self, model: str, body: Chunk, limit: int | None) -> ResponseDone:
        """The answer to such a request. Raises ModelError."""
        accumulator = self._api.create_accumulator(set(), limit)
        if (error := body.get("error")) and body.get("object") != "response":
            raise self.client.add_hint(error_from_body(error))
        for chunk in (body, END_OF_STREAM):
            for _ in accumulator.feed(chunk):
                pass
        return accumulator.finish(wire.build_origin(self._api.name, self.client.base_url, model))

    async def _attempt(
        self, request: ModelRequest, body: Mapping[str, Any], origin: Mapping[str, str]
    ) -> AsyncGenerator[ModelEvent, None]:
        used_ids = {call.id for message in request.messages for call in message.calls}
        accumulator = self._api.create_accumulator(used_ids, request.options.max_output_tokens)
        async with aclosing(self.client.stream(self._api.path, body)) as chunks:
            async for chunk in chunks:
                for event in accumulator.feed(chunk):
                    yield event
        yield accumulator.finish(origin)
