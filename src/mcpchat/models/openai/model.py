"""A Model over one of OpenAI's two APIs: streams one response, with retries and adaptations to the server."""

import asyncio
import random
import sys
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import aclosing
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol

from mcpchat.config.run import sdk_import
from mcpchat.core.events import Notice, ReasoningDelta, TextDelta
from mcpchat.core.protocols import ModelEvent, ModelRequest, ResponseDone, Retrying
from mcpchat.core.tools import OWN_SERVER
from mcpchat.errors import ModelError
from mcpchat.models.context_sizes import ModelInfo, context_size, read_token_count
from mcpchat.models.openai import wire
from mcpchat.models.openai.compatibility import Adaptation, Compatibility, adapt_to_error
from mcpchat.models.openai.errors import error_from_body, is_loading_model, retry_delay
from mcpchat.models.openai.learned_limits import LimitFiles
from mcpchat.models.openai.responses import Responses
from mcpchat.models.openai.tool_limits import find_tool_at_fault
from mcpchat.models.openai.wire import END_OF_STREAM, Chunk

if TYPE_CHECKING:
    from mcpchat.models.openai.client import OpenAIClient

MAX_ADAPTATIONS = 8  # per response
_MAX_NUMBER = 1e30  # of a vector
COUNT_TIMEOUT = 10.0  # seconds
LOADING_PAUSE = 1.0  # seconds between requests to a server that loads its model
_CLIENT_MODULE = "mcpchat.models.openai.client"  # imports the SDK


class ResponseAccumulator(Protocol):
    """Collects the chunks of one response into a message, whatever order and shape the server chose."""

    def feed(self, chunk: Chunk) -> Iterator[ModelEvent]: ...

    def finish(self, origin: Mapping[str, str]) -> ResponseDone:
        """The whole message. Raises ModelError if the response is incomplete or failed."""
        ...


class WireApi(Protocol):
    """One of the two APIs: its path, the format of its requests, and how its responses are read."""

    name: str
    path: str

    def default_compatibility(self, *, is_openai: bool) -> Compatibility:
        """The settings for the first request to a server."""
        ...

    def build_body(
        self, request: ModelRequest, compatibility: Compatibility, origin: Mapping[str, str]
    ) -> dict[str, Any]:
        """The JSON body. What rarely changes comes first (tools, instructions, then messages), for prompt caching."""
        ...

    def create_accumulator(self, used_ids: set[str], limit: int | None) -> ResponseAccumulator:
        """The reader of one response. ``used_ids`` are call ids already in use; ``limit`` is its maximum of tokens."""
        ...


def import_client() -> "type[OpenAIClient]":
    """Import the client class, and with it the SDK, which is slow."""
    with sdk_import():
        from mcpchat.models.openai.client import OpenAIClient

    return OpenAIClient


class OpenAIModel:
    """The Model at one address over one API.

    ``create_client`` is called at first use, because it imports the SDK. A request that fails with a transient error is
    retried at most ``retries`` times; while the server loads the model, for ``load_timeout`` seconds. ``sleep`` waits
    between the attempts, in seconds. ``limits`` keeps what the server refuses in tools for the next runs.
    """

    def __init__(
        self,
        create_client: "Callable[[], OpenAIClient]",
        api: WireApi,
        *,
        limits: LimitFiles | None = None,
        retries: int = 4,
        load_timeout: float = 600.0,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._create_client = create_client
        self._sleep = sleep
        self._retries = retries
        self._load_timeout = load_timeout
        self._api = api
        self._counting_api = api if isinstance(api, Responses) else Responses()
        self._limits = limits
        self.api_name = api.name
        self.notice = ""
        self._compatibility: dict[str, Compatibility] = {}  # by model

    @cached_property
    def client(self) -> "OpenAIClient":
        return self._create_client()

    async def preload(self) -> None:
        """Create the client, if the first request has not done it; the SDK is imported in a thread."""
        if _CLIENT_MODULE not in sys.modules:
            await asyncio.to_thread(import_client)
        _ = self.client

    async def aclose(self) -> None:
        """Close the client, if there is one."""
        if "client" in self.__dict__:
            await self.client.aclose()

    async def list_models(self) -> Sequence[ModelInfo]:
        """The models that the server lists, by name. Raises ModelError."""
        await self.preload()
        models = await self.client.list_models()
        return [ModelInfo(name=str(model["id"]), window=context_size(model)) for model in models]

    async def stream(self, request: ModelRequest) -> AsyncGenerator[ModelEvent, None]:
        """The events of one response, ending in one ResponseDone.

        Until text or reasoning was yielded, the request is adapted to what the server refuses, and retried after
        transient errors. Raises ModelError; its kind is ``tool_limit`` if the server takes fewer tools than the request
        has: later requests have no more than ``max_tools``, so the caller can choose which.
        """
        await self.preload()
        attempts = adaptations = 0
        loading = 0.0  # seconds waited for the server to load the model
        compatibility = self._get_compatibility(request.model)
        used_ids = {call.id for message in request.messages for call in message.calls}
        while True:
            has_output = False
            started = time.monotonic()
            origin = wire.build_origin(self._api.name, self.client.base_url, request.model)
            body = self._api.build_body(request, compatibility, origin)
            accumulator = self._api.create_accumulator(set(used_ids), request.options.max_output_tokens)
            try:
                async with aclosing(self.client.stream(self._api.path, body)) as chunks:
                    async for chunk in chunks:
                        for event in accumulator.feed(chunk):
                            has_output = has_output or isinstance(event, TextDelta | ReasoningDelta)
                            yield event
                yield accumulator.finish(origin)
                return
            except ModelError as error:
                self.client.add_hint(error)
                adaptation = (
                    None if has_output or adaptations >= MAX_ADAPTATIONS else adapt_to_error(compatibility, error, body)
                )
                if adaptation is not None and self._api.build_body(request, adaptation.compatibility, origin) == body:
                    adaptation = None  # it makes no difference to a request of this API
                is_loading = not has_output and is_loading_model(error) and loading < self._load_timeout
                # An error within a response that names no kind is perhaps not temporary: once more, and no longer.
                retries = min(1, self._retries) if error.kind == "server" and error.status is None else self._retries
                delay = None if has_output or attempts >= retries else retry_delay(error, attempts)
                if adaptation is None and delay is None and not is_loading:
                    _name_tool_at_fault(error, body, request)
                    raise
                reason = error.message
            if adaptation is not None:
                adaptations += 1
                compatibility = self._learn(request.model, compatibility, adaptation)
                if adaptation.notice:
                    yield Notice(level="warning", text=adaptation.notice)
            elif is_loading:
                if not loading:
                    text = f"the model's server is loading the model; waiting up to {self._load_timeout:.0f} s"
                    yield Notice(level="info", text=text)
                loading += LOADING_PAUSE + time.monotonic() - started
                await self._sleep(LOADING_PAUSE)
            elif delay is not None:
                attempts += 1
                yield Retrying(seconds=delay, reason=reason)
                # Many clients that wait the same time would all come back at once: spread them a little.
                await self._sleep(delay * (1 + random.random() / 10))  # noqa: S311 - jitter, not a secret

    def _learn(self, model: str, before: Compatibility, adaptation: Adaptation) -> Compatibility:
        """Keep the settings for the model's later requests. Raises ModelError if it takes fewer tools."""
        learnt = self._compatibility[model] = adaptation.compatibility
        if self._limits is not None:
            self._limits.save(model, before, learnt)
        if learnt.max_tools != before.max_tools:
            raise ModelError(f"{model} takes at most {learnt.max_tools} tools", kind="tool_limit")
        return learnt

    def max_tools(self, model: str) -> int | None:
        """How many tools the server takes for this model; None if it has not refused any number yet."""
        return self._get_compatibility(model).max_tools

    async def count_tokens(self, request: ModelRequest) -> int | None:
        """The input tokens of the request, counted by the server's ``/responses/input_tokens``; None without it."""
        await self.preload()
        origin = wire.build_origin(self._counting_api.name, self.client.base_url, request.model)
        body = self._counting_api.build_body(request, self._get_compatibility(request.model), origin)
        counted = {key: value for key, value in body.items() if key in {"model", "instructions", "tools", "input"}}
        try:
            async with asyncio.timeout(COUNT_TIMEOUT):
                answer = await self.client.request_json("POST", "/responses/input_tokens", counted)
        except (ModelError, TimeoutError):
            return None
        return read_token_count(answer, "input_tokens") or None

    async def embed(self, model: str, texts: Sequence[str]) -> Sequence[Sequence[float]]:
        """The vector of each text by ``/embeddings``, in their order, all of one length. Raises ModelError."""
        await self.preload()
        body = {"model": model, "input": list(texts), "encoding_format": "float"}
        answer = await self.client.request_json("POST", "/embeddings", body)
        items = wire.filter_dicts(answer.get("data"))
        vectors: list[Any] = [item.get("embedding") for item in sorted(items, key=_embedding_index)]
        if len(vectors) != len(texts) or not all(map(_is_vector, vectors)) or len(set(map(len, vectors))) > 1:
            raise ModelError(f"{self.client.base_url} did not answer with one vector per text", kind="broken_stream")
        return vectors

    def build_batch_request(self, request: ModelRequest) -> tuple[str, dict[str, Any]]:
        """The path and the JSON body of the request, for a batch file."""
        origin = wire.build_origin(self._api.name, self.client.base_url, request.model)
        body = self._api.build_body(request, self._get_compatibility(request.model), origin)
        return self._api.path, {key: value for key, value in body.items() if key not in {"stream", "stream_options"}}

    def parse_batch_response(self, model: str, body: Chunk, limit: int | None) -> ResponseDone:
        """The response to a request of a batch file. Raises ModelError if it reports an error or is incomplete."""
        accumulator = self._api.create_accumulator(set(), limit)
        if (error := body.get("error")) and body.get("object") != "response":
            raise self.client.add_hint(error_from_body(error))
        for chunk in (body, END_OF_STREAM):
            for _ in accumulator.feed(chunk):
                pass
        return accumulator.finish(wire.build_origin(self._api.name, self.client.base_url, model))

    def _get_compatibility(self, model: str) -> Compatibility:
        if model not in self._compatibility:
            default = self._api.default_compatibility(is_openai=self.client.is_openai)
            self._compatibility[model] = self._limits.apply(model, default) if self._limits is not None else default
        return self._compatibility[model]


def _embedding_index(item: Mapping[str, Any]) -> int:
    index = item.get("index")
    return index if isinstance(index, int) else 0


def _is_vector(value: object) -> bool:
    """Whether it is a list of finite numbers."""
    return isinstance(value, list) and bool(value) and all(map(_is_number, value))


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and abs(value) < _MAX_NUMBER


def _name_tool_at_fault(error: ModelError, body: Mapping[str, Any], request: ModelRequest) -> None:
    """Add to a refusal which tool of which server it is about, and how to leave it out."""
    if error.kind != "bad_request":
        return
    tool = find_tool_at_fault(f"{error.message} {error.server_text}", body.get("tools") or (), request.tools)
    if tool is not None and tool.server != OWN_SERVER:
        way = f'leave it out: exclude = ["{tool.name}"] under [servers.{tool.server}]'
        error.hint = f"the model's server does not take the tool {tool.qualified_name}; {way}"
