"""Sends requests through the OpenAI SDK's client and raises its errors as ModelError.

The SDK is slow to import: import this module only through ``model.import_client``.
"""

import json
import math
from collections.abc import AsyncGenerator, Iterator, Mapping
from contextlib import aclosing, contextmanager
from typing import Any, BinaryIO

import httpx2
import openai

from mcpchat.errors import ModelError
from mcpchat.models.openai.compatibility import is_openai
from mcpchat.models.openai.errors import HINTS, error_from_body, error_from_status
from mcpchat.models.openai.sse import iter_events, skip_leading_blanks
from mcpchat.models.openai.wire import END_OF_STREAM, Chunk
from mcpchat.util.connection_problems import explain_connection_error, find_proxy
from mcpchat.util.network_settings import check_network_variables
from mcpchat.util.tls import tls_context

# The key and the conversation are sent to the configured address only.
NO_REDIRECTS: Any = {"follow_redirects": False}
_MIN_SECRET_LENGTH = 6  # characters: a shorter secret could be an ordinary word


class OpenAIClient:
    """The connection to one OpenAI-compatible address, with its key.

    Requests go through the SDK's generic ``post``, and the response is read here. So a server's quirks reach our own
    accumulators, and the SDK's many model types are not loaded. ``config_table`` is the table of the config, for
    hints; ``timeout`` is the longest time without data, in seconds; ``http_client`` replaces the HTTP transport.
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
        check_network_variables()
        # The SDK takes an empty base_url literally and refuses an empty key, but local servers need no key.
        self._sdk = openai.AsyncOpenAI(
            base_url=base_url or None,
            api_key=api_key or "none",
            max_retries=0,
            default_headers=headers,
            timeout=httpx2.Timeout(timeout, connect=10.0),
            http_client=http_client or openai.DefaultAsyncHttpxClient(verify=tls_context(base_url or "")),
        )
        self._config_table = config_table
        self._secrets = [
            value for value in (api_key, *(headers or {}).values()) if value and len(value) >= _MIN_SECRET_LENGTH
        ]
        self.base_url = str(self._sdk.base_url)
        self.is_openai = is_openai(self.base_url)
        if not self.is_openai:
            # The SDK reads an organization, a project and headers from the environment; they are for OpenAI only.
            self._sdk.organization = self._sdk.project = None
            self._sdk._custom_headers = dict(headers or {})

    async def aclose(self) -> None:
        """Close the connections."""
        await self._sdk.close()

    async def stream(self, path: str, body: Mapping[str, Any]) -> AsyncGenerator[Chunk, None]:
        """The objects of one streamed response, then END_OF_STREAM if the server marks the end.

        If a server ignores ``stream``, its one JSON body is the only object. Raises ModelError.
        """
        # Encoded here and not by the SDK: a lone surrogate in some server's text must not fail the request.
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
                # The first byte decides the format: the content type is often wrong, with and without streaming.
                first = (await anext(chunks, b"")).lstrip()
                if first.startswith(b"<"):
                    raise ModelError(
                        f"{self.base_url} answers with a web page; it is not a model API",
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
                async with aclosing(iter_events(chunks, first)) as events:
                    async for data, name in events:
                        if data.startswith(b"[DONE]"):
                            yield END_OF_STREAM
                            return
                        if name == b"error":
                            raise error_from_body(_decode_error(data))
                        yield self._decode_object(data)

    def _decode_object(self, data: bytes) -> Chunk:
        """Decode a JSON object, or the first object of a list; {} for anything else.

        Raises ModelError if it is an error that the server reports with a success status, ValueError if it is not JSON.
        """
        value = json.loads(data)
        if isinstance(value, list):
            value = next((item for item in value if isinstance(item, dict)), {})
        if not isinstance(value, dict):
            return {}
        if (error := value.get("error")) and value.get("object") != "response":
            raise error_from_body(error)
        return value

    async def request_json(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Chunk:
        """Send a GET or POST and return the JSON object of the response. Raises ModelError."""
        with self.translate_errors():
            if method == "GET":
                response = await self._sdk.get(path, cast_to=object, options=NO_REDIRECTS)
            else:
                response = await self._sdk.post(path, body=body, cast_to=object, options=NO_REDIRECTS)
        return response if isinstance(response, dict) else {}

    async def upload(self, file: BinaryIO, *, purpose: str) -> Chunk:
        """Upload a file and return the server's description of it. Raises ModelError."""
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
        """The lines of a file on the server, without their line feeds, while it downloads. Raises ModelError."""
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
        """The models that the server lists, as objects that each have an ``id``, sorted by it. Raises ModelError."""
        with self.translate_errors():
            response = await self._sdk.get("/models", cast_to=object, options=NO_REDIRECTS)
        items = response.get("data") if isinstance(response, dict) else response
        models = (
            [item for item in items if isinstance(item, dict) and item.get("id")] if isinstance(items, list) else []
        )
        return sorted(models, key=lambda model: str(model["id"]))

    def add_hint(self, error: ModelError) -> ModelError:
        """Add the hint for this address to the error, and remove our secrets: some servers repeat them."""
        hint = (error.hint or HINTS.get(error.kind, "")).replace("{where}", self._config_table)
        error.hint = hint.replace("{or}", " (or OPENAI_API_KEY)" if self._config_table == "[model]" else "")
        for secret in self._secrets:
            error.message, error.server_text = (
                text.replace(secret, "…") for text in (error.message, error.server_text)
            )
        error.args = (error.message,)
        return error

    @contextmanager
    def translate_errors(self) -> Iterator[None]:
        """Raise every error of the SDK, of HTTP and of decoding as a ModelError with a hint."""
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
            body: object = error.body
            if body is None or isinstance(body, str):
                body = str(body or error.response.text)
            raise error_from_status(self.base_url, error.status_code, error.response.headers, body) from error
        except openai.APITimeoutError as error:
            _, proxy_variable = find_proxy(self.base_url)
            raise ModelError(
                f"the model's server at {self.base_url} did not answer in time"
                + (f", through the proxy of {proxy_variable}" if proxy_variable else ""),
                kind="network",
                hint="check the address (base_url under {where}), http or https, and that the server runs",
            ) from error
        except openai.APIConnectionError as error:
            problem = explain_connection_error(error.__cause__ or error, self.base_url)
            raise ModelError(
                f"cannot reach the model's server at {self.base_url}: {problem.cause}",
                kind="network",
                hint=problem.hint
                or "check the address (base_url under {where}), the network, and that the server runs",
                retry_after=math.inf if problem.is_final else None,
            ) from error
        except openai.APIError as error:  # a header, a key or a body that the SDK rejects
            raise ModelError(f"the model's server at {self.base_url} cannot be used: {error}", kind="server") from error
        except openai.OpenAIError as error:
            raise ModelError(f"{self.base_url} cannot be used: {error}", kind="bad_request") from error
        except httpx2.InvalidURL as error:
            raise ModelError(f"{self.base_url} is not a valid URL: {error}", kind="bad_request") from error
        except ValueError as error:  # invalid JSON, or an event that is too long
            raise ModelError(
                f"the model's server at {self.base_url} sent broken data: {error}", kind="broken_stream"
            ) from error
        except RecursionError as error:
            raise ModelError(f"{self.base_url} sent JSON that is nested too deeply", kind="broken_stream") from error
        except httpx2.TimeoutException as error:
            raise ModelError(f"connection lost: {self.base_url} stopped sending data", kind="network") from error
        except httpx2.HTTPError as error:
            problem = explain_connection_error(error, self.base_url)
            raise ModelError(f"connection lost to {self.base_url}: {problem.cause}", kind="network") from error


def _decode_error(data: bytes) -> object:
    """The error of an event that is named so: its ``error``, or all of it, as JSON or as text.

    Raises ValueError for broken JSON.
    """
    if not data.startswith((b"{", b"[", b'"')):
        return data.decode(errors="replace")
    value = json.loads(data)
    return value.get("error") or value if isinstance(value, dict) else value
