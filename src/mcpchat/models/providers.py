"""Providers of models: who builds the Model for an endpoint.

To add a provider, write a module with a class like ``Provider`` and register it in ``PROVIDERS``. If it has its own
``api`` value, add that to ``ModelEntry.api`` in config/schema.py too.
"""

from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from typing import Any, BinaryIO, Protocol, runtime_checkable

from mcpchat.core.protocols import Model, ModelRequest, ResponseDone
from mcpchat.models.context_sizes import ModelInfo
from mcpchat.models.endpoint import EndpointDefaults, ModelEndpoint


class ProviderModel(Model, Protocol):
    """The Model at one endpoint, which answers for every model name that its server knows."""

    @property
    def api_name(self) -> str:
        """The API that it uses, to show to the user."""
        ...

    @property
    def notice(self) -> str:
        """What the user should know about it, shown once before its first response; empty if nothing."""
        ...

    async def preload(self) -> None:
        """Import what the first request needs. Requests do it themselves otherwise."""
        ...

    async def list_models(self) -> Sequence[ModelInfo]:
        """The models that the server lists, by name. Raises ModelError."""
        ...

    def max_tools(self, model: str) -> int | None:
        """How many tools the server takes for this model; None if it has not refused any number yet."""
        ...

    async def count_tokens(self, request: ModelRequest) -> int | None:
        """The input tokens of the request, counted by the server without an answer; None if it cannot."""
        ...

    async def aclose(self) -> None:
        """Close its connections."""
        ...


class BatchClient(Protocol):
    """The HTTP client of a batch API. Every method raises ModelError."""

    base_url: str

    async def upload(self, file: BinaryIO, *, purpose: str) -> dict[str, Any]:
        """Upload a file and return the server's description of it."""
        ...

    async def request_json(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Send a GET or POST and return the JSON object of the response."""
        ...

    def stream_lines(self, path: str) -> AsyncGenerator[bytes, None]:
        """The lines of a file on the server, without their line feeds."""
        ...


@runtime_checkable
class BatchModel(Protocol):
    """A ProviderModel whose provider also runs files of requests, in the format of OpenAI's Batch API."""

    @property
    def client(self) -> BatchClient: ...

    def build_batch_request(self, request: ModelRequest) -> tuple[str, dict[str, Any]]:
        """The path and the JSON body of the request, for a batch file."""
        ...

    def parse_batch_response(self, model: str, body: dict[str, Any], limit: int | None) -> ResponseDone:
        """The response to a request of a batch file; ``limit`` is its maximum of tokens. Raises ModelError."""
        ...


@runtime_checkable
class EmbeddingModel(Protocol):
    """A ProviderModel whose provider also turns texts into vectors."""

    async def embed(self, model: str, texts: Sequence[str]) -> Sequence[Sequence[float]]:
        """The vector of each text, in their order, all of one length. Raises ModelError."""
        ...


class Provider(Protocol):
    """Builds the models of one kind of API. Stateless: one instance serves every endpoint."""

    @property
    def defaults(self) -> EndpointDefaults:
        """The address, key and model that are used if the config names none."""
        ...

    def is_own_service(self, base_url: str) -> bool:
        """Whether the provider itself runs this address.

        Its default model can be used there, and context windows come from known data instead of its list of models.
        """
        ...

    def build(self, endpoint: ModelEndpoint, *, api_key: str | None, headers: Mapping[str, str]) -> ProviderModel:
        """The model at the endpoint, which supports batches if it is a BatchModel. Must not import an SDK yet."""
        ...


def _openai() -> Provider:
    from mcpchat.models.openai.provider import OpenAIProvider

    return OpenAIProvider()


def _demo() -> Provider:
    from mcpchat.models.demo import DemoProvider

    return DemoProvider()


# By the ``api`` of the config. Each is a function, so that only the provider in use is imported.
PROVIDERS: dict[str, Callable[[], Provider]] = {
    "auto": _openai,
    "responses": _openai,
    "chat": _openai,
    "demo": _demo,
}


def find_provider(api: str) -> Provider:
    """The provider for an ``api`` value, which the config schema has checked."""
    return PROVIDERS[api]()
