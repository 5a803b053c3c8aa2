"""A Model over either of OpenAI's APIs: one answer, whatever it takes of retries and of lessons in manners."""

import asyncio
import random
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Mapping
from contextlib import aclosing
from typing import Any, Protocol

from mcpchat.core.events import Notice, ReasoningDelta, TextDelta
from mcpchat.core.protocols import Done, ModelEvent, ModelRequest, Retrying
from mcpchat.errors import ModelError
from mcpchat.models.openai import wire
from mcpchat.models.openai.client import END, Chunk, OpenAIClient, may_pass, reported
from mcpchat.models.openai.compatibility import Manners, learn

_MOST_LESSONS = 8  # for one answer


class Answer(Protocol):
    """Chunks in, one message out, whatever order and shape a server chose."""

    def feed(self, chunk: Chunk) -> Iterator[ModelEvent]: ...

    def done(self, here: Mapping[str, str]) -> Done:
        """The whole message. Raises ModelError where it broke off."""
        ...


class Api(Protocol):
    """One of the two: where requests go, what they look like, how answers are read."""

    name: str
    path: str

    def manners(self, *, is_openai: bool) -> Manners:
        """What to begin with."""
        ...

    def body(self, request: ModelRequest, manners: Manners, here: Mapping[str, str]) -> dict[str, Any]:
        """The request, in an order that changes late: tools, instructions, then the messages, that only grow."""
        ...

    def answer(self, used_ids: set[str], limit: int | None) -> Answer:
        """What reads the answer; ``limit`` is the most tokens that it was allowed."""
        ...


class OpenAIModel:
    """A Model over one API of one address.

    What fails in passing is tried again, at most ``retries`` times; ``pause`` waits between, in seconds.
    """

    def __init__(
        self,
        client: OpenAIClient,
        api: Api,
        *,
        retries: int = 4,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.client = client
        self._pause = pause
        self._retries = retries
        self._api = api
        self.api_name = api.name
        self._manners: dict[str, Manners] = {}  # by model

    async def stream(self, request: ModelRequest) -> AsyncGenerator[ModelEvent, None]:
        """As the port's. While nothing was shown, refusals are learnt from and passing failures are waited out."""
        tried = lessons = 0
        manners = self._manners.get(request.model) or self._api.manners(is_openai=self.client.is_openai)
        while True:
            shown = False
            here = wire.origin(self._api.name, self.client.base_url, request.model)
            body = self._api.body(request, manners, here)
            try:
                async with aclosing(self._attempt(request, body, here)) as events:
                    async for event in events:
                        shown = shown or isinstance(event, TextDelta | ReasoningDelta)
                        yield event
                return
            except ModelError as error:
                self.client.finished(error)
                lesson = None if shown or lessons >= _MOST_LESSONS else learn(manners, error, body)
                if lesson is not None and self._api.body(request, lesson.manners, here) == body:
                    lesson = None  # it is nothing that this API could do otherwise
                wait = None if shown or tried >= self._retries else may_pass(error, tried)
                if lesson is None and wait is None:
                    raise
                why = error.message
            if lesson is not None:
                lessons += 1
                manners = self._manners[request.model] = lesson.manners
                if lesson.notice:
                    yield Notice(level="warning", text=lesson.notice)
            elif wait is not None:
                tried += 1
                yield Retrying(seconds=wait, why=why)
                # Many clients told to wait the same time would come back at once: spread them a little.
                await self._pause(wait * (1 + random.random() / 10))  # noqa: S311 - jitter, not a secret

    def offline(self, request: ModelRequest) -> tuple[str, dict[str, Any]]:
        """The path and the body of the request, for a file of requests that are answered some other time."""
        manners = self._manners.get(request.model) or self._api.manners(is_openai=self.client.is_openai)
        body = self._api.body(request, manners, wire.origin(self._api.name, self.client.base_url, request.model))
        return self._api.path, {key: value for key, value in body.items() if key not in {"stream", "stream_options"}}

    def read_offline(self, model: str, body: Chunk, limit: int | None) -> Done:
        """The answer to such a request. Raises ModelError."""
        answer = self._api.answer(set(), limit)
        if (error := body.get("error")) and body.get("object") != "response":
            raise self.client.finished(reported(error))
        for chunk in (body, END):
            for _ in answer.feed(chunk):
                pass
        return answer.done(wire.origin(self._api.name, self.client.base_url, model))

    async def _attempt(
        self, request: ModelRequest, body: Mapping[str, Any], here: Mapping[str, str]
    ) -> AsyncGenerator[ModelEvent, None]:
        used_ids = {call.id for message in request.messages for call in message.calls}
        answer = self._api.answer(used_ids, request.options.max_output_tokens)
        async with aclosing(self.client.stream(self._api.path, body)) as received:
            async for chunk in received:
                for event in answer.feed(chunk):
                    yield event
        yield answer.done(here)
