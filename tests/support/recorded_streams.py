"""Models over recorded streams: the SDK's client with a transport that plays responses and records requests."""

import asyncio
import json
from typing import Any

import httpx2

from mcpchat.core.messages import user_message
from mcpchat.core.protocols import ModelEvent, ModelRequest, ResponseDone
from mcpchat.models.openai.chat_completions import ChatCompletions
from mcpchat.models.openai.client import OpenAIClient
from mcpchat.models.openai.model import OpenAIModel
from mcpchat.models.openai.responses import Responses
from tests.support.fakes import make_tool

SSE_HEADERS = {"content-type": "text/event-stream"}
REQUEST = ModelRequest(model="m", messages=(user_message("hi"),), tools=(make_tool(),))
LOCAL_URL = "http://127.0.0.1:1/v1"


class RecordedTransport:
    """Plays one response for each request and records paths, bodies and retry delays."""

    def __init__(self, *responses: httpx2.Response | Exception) -> None:
        self.responses = list(responses)
        self.bodies: list[dict[str, Any]] = []
        self.raw_bodies: list[bytes] = []
        self.paths: list[str] = []
        self.delays: list[float] = []

    def __call__(self, request: httpx2.Request) -> httpx2.Response:
        self.paths.append(request.url.path)
        self.raw_bodies.append(request.content)
        self.bodies.append(json.loads(request.content))
        response = self.responses.pop(0)
        if isinstance(response, Exception):
            raise response
        return response

    def client(self, base_url: str = LOCAL_URL) -> OpenAIClient:
        http = httpx2.AsyncClient(transport=httpx2.MockTransport(self))
        return OpenAIClient(base_url=base_url, api_key="k", http_client=http)

    def chat_model(self, base_url: str = LOCAL_URL, retries: int = 4) -> OpenAIModel:
        return OpenAIModel(lambda: self.client(base_url), ChatCompletions(), retries=retries, sleep=self._record_delay)

    def responses_model(self, base_url: str = LOCAL_URL, retries: int = 4) -> OpenAIModel:
        return OpenAIModel(lambda: self.client(base_url), Responses(), retries=retries, sleep=self._record_delay)

    async def _record_delay(self, seconds: float) -> None:
        """Record a retry delay instead of waiting."""
        self.delays.append(seconds)
        await asyncio.sleep(0)


def stream(*chunks: bytes) -> httpx2.Response:
    return httpx2.Response(200, headers=SSE_HEADERS, content=b"".join(chunks))


def error_response(status: int, message: str = "no", code: str | None = None, **headers: str) -> httpx2.Response:
    return httpx2.Response(status, json={"error": {"message": message, "code": code}}, headers=headers)


async def collect_events(model: OpenAIModel, request: ModelRequest = REQUEST) -> list[ModelEvent]:
    return [event async for event in model.stream(request)]


async def final_event(model: OpenAIModel, request: ModelRequest = REQUEST) -> ResponseDone:
    done = (await collect_events(model, request))[-1]
    assert isinstance(done, ResponseDone)
    return done
