"""Models over recorded streams: the SDK's own client on a transport that plays responses and keeps the requests."""

import asyncio
import json
from typing import Any

import httpx2

from mcpchat.core.messages import user
from mcpchat.core.protocols import Done, ModelEvent, ModelRequest
from mcpchat.models.openai.chat_completions import ChatCompletions
from mcpchat.models.openai.client import OpenAIClient
from mcpchat.models.openai.model import OpenAIModel
from mcpchat.models.openai.responses import Responses
from tests.fakes import tool

SSE = {"content-type": "text/event-stream"}
REQUEST = ModelRequest(model="m", messages=(user("hi"),), tools=(tool(),))
LOCAL = "http://127.0.0.1:1/v1"


class Wire:
    """Plays one response for each request, and keeps the requests' paths and bodies."""

    def __init__(self, *responses: httpx2.Response | Exception) -> None:
        self.responses = list(responses)
        self.bodies: list[dict[str, Any]] = []
        self.raw: list[bytes] = []
        self.paths: list[str] = []
        self.pauses: list[float] = []

    def __call__(self, request: httpx2.Request) -> httpx2.Response:
        self.paths.append(request.url.path)
        self.raw.append(request.content)
        self.bodies.append(json.loads(request.content))
        answer = self.responses.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def client(self, base_url: str = LOCAL) -> OpenAIClient:
        http = httpx2.AsyncClient(transport=httpx2.MockTransport(self))
        return OpenAIClient(base_url=base_url, api_key="k", http_client=http)

    def chat(self, base_url: str = LOCAL, retries: int = 4) -> OpenAIModel:
        return OpenAIModel(self.client(base_url), ChatCompletions(), retries=retries, pause=self._pause)

    def responses_model(self, base_url: str = LOCAL, retries: int = 4) -> OpenAIModel:
        return OpenAIModel(self.client(base_url), Responses(), retries=retries, pause=self._pause)

    async def _pause(self, seconds: float) -> None:
        """Waits between tries take no time here; they are counted."""
        self.pauses.append(seconds)
        await asyncio.sleep(0)


def stream(*pieces: bytes) -> httpx2.Response:
    return httpx2.Response(200, headers=SSE, content=b"".join(pieces))


def refused(status: int, message: str = "no", code: str | None = None, **headers: str) -> httpx2.Response:
    return httpx2.Response(status, json={"error": {"message": message, "code": code}}, headers=headers)


async def events_of(model: OpenAIModel, request: ModelRequest = REQUEST) -> list[ModelEvent]:
    return [event async for event in model.stream(request)]


async def done_of(model: OpenAIModel, request: ModelRequest = REQUEST) -> Done:
    done = (await events_of(model, request))[-1]
    assert isinstance(done, Done)
    return done
