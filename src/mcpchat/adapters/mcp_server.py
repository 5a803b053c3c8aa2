"""One MCP connection, owned by one task that opens it, keeps it and closes it."""

import asyncio
import base64
import logging
from collections.abc import AsyncIterator, Coroutine
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import Any, TypeVar

import anyio
import httpx2
from mcp import Client, MCPError, types
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.message import SessionMessage
from pydantic import ValidationError

from mcpchat import __version__
from mcpchat.adapters.schema_cache import Era
from mcpchat.adapters.server_process import GRACE, LONGEST_LINE, ServerProcess
from mcpchat.core.errors import McpChatError, ServerError, SignInNeeded
from mcpchat.core.events import Emit, ToolProgress
from mcpchat.core.messages import Audio, Image, Link, Text, ToolResult
from mcpchat.core.tools import Annotations, ToolSpec

_T = TypeVar("_T")
_CONNECTION_CLOSED = -32000
_MOST_PAGES = 1000
_SET_HEADERS = "set its headers in the config"
_log = logging.getLogger(__name__)


class Connection:
    """A live session with one server. Made by ``connect_stdio`` and ``connect_http``; single use."""

    def __init__(self, name: str, *, era: Era, process: ServerProcess | None = None) -> None:
        self.name = name
        self.era = era
        self._process = process
        self._statuses: list[int] = []
        self._client: Client | None = None
        self._cut = False
        self._failure: BaseException | None = None
        self._ready = asyncio.Event()
        self._stopping = asyncio.Event()
        self._owner: asyncio.Task[None] | None = None

    @property
    def alive(self) -> bool:
        gone = self._cut or (self._process is not None and self._process.exit_code is not None)
        return self._client is not None and not gone

    async def open(self, transport: AbstractAsyncContextManager[Any], *, timeout: float) -> None:
        """Shake hands within ``timeout`` seconds. Raises ServerError or SignInNeeded, with nothing left behind."""
        self._owner = asyncio.create_task(self._own(transport, timeout), name=f"mcp {self.name}")
        try:
            await self._ready.wait()
        except asyncio.CancelledError:
            await self.close()
            raise
        if self._client is None:
            await asyncio.wait({self._owner})
            raise await self._failed(timeout)

    async def _own(self, transport: AbstractAsyncContextManager[Any], timeout: float) -> None:
        try:
            async with AsyncExitStack() as stack:
                async with asyncio.timeout(timeout):
                    client = await stack.enter_async_context(
                        Client(
                            transport,
                            mode=self.era,
                            client_info=types.Implementation(name="mcpchat", version=__version__),
                            cache=None,
                        )
                    )
                _accept_any_structure(client)
                self._client = client
                self.era = "legacy" if client.session.discover_result is None else "auto"
                self._ready.set()
                await self._stopping.wait()
        except asyncio.CancelledError as error:
            self._failure = error
            raise
        except Exception as error:  # noqa: BLE001 - whatever the SDK lets out is reported by _failed, to whoever waits
            self._failure = _innermost(error)
        finally:
            self._client = None
            self._ready.set()

    async def _failed(self, timeout: float) -> McpChatError:
        """Why the connection could not be opened, in words."""
        log = await self._process.last_words() if self._process else ()
        if {401, 403} & set(self._statuses):
            return SignInNeeded(f"{self.name} wants a sign-in", hint=_SET_HEADERS)
        if self._process is not None and self._process.exit_code is not None:
            return ServerError(f"it left at once, with exit code {self._process.exit_code}", log=log)
        match self._failure:
            case McpChatError() as error:
                return error
            case TimeoutError():
                return ServerError(f"it did not answer within {timeout:g} s", hint="raise timeouts.start", log=log)
            case httpx2.ConnectError() as error:
                return ServerError(f"cannot be reached: {error}", hint="check url in the config")
            case MCPError() as error if self._statuses and self._statuses[-1] >= 400:
                return ServerError(f"it answered HTTP {self._statuses[-1]}: {error.message}", log=log)
            case MCPError() as error:
                return ServerError(f"the handshake failed: {error.message}", log=log)
            case error:
                return ServerError(f"the handshake failed: {type(error).__name__}: {error}", log=log)

    async def list_tools(self, *, timeout: float) -> tuple[tuple[ToolSpec, ...], float | None]:
        """All pages of the server's tools, and for how many seconds they hold (None where it does not say).

        Raises ServerError, also when this takes more than ``timeout`` seconds.
        """
        try:
            return await self._ask(self._list_tools(), timeout)
        except MCPError as error:
            raise ServerError(f"it did not list its tools: {error.message} (code {error.code})") from error

    async def _list_tools(self) -> tuple[tuple[ToolSpec, ...], float | None]:
        client = self._live()
        if client.server_capabilities.tools is None:
            return (), None
        found: list[types.Tool] = []
        cursor, ttl = None, None
        for _ in range(_MOST_PAGES):
            page = await client.list_tools(cursor=cursor)
            found += page.tools
            if page.ttl_ms:  # zero is what a server says that was told nothing
                ttl = page.ttl_ms / 1000
            if page.next_cursor is None or page.next_cursor == cursor:
                break
            cursor = page.next_cursor
        return tuple(_to_spec(self.name, tool) for tool in found), ttl

    async def call(
        self, spec: ToolSpec, call_id: str, arguments: dict[str, Any], emit: Emit, *, timeout: float
    ) -> ToolResult:
        """Run the tool, for at most ``timeout`` seconds. Raises ServerError when the server cannot answer."""

        async def on_progress(progress: float, total: float | None, message: str | None) -> None:
            emit(ToolProgress(call_id=call_id, done=progress, total=total, note=message or ""))

        try:
            work = self._live().call_tool(spec.name, arguments, progress_callback=on_progress)
            result = await self._ask(work, timeout)
        except MCPError as error:
            text = Text(text=f"the server refused the call: {error.message} (code {error.code})")
            return ToolResult(call_id=call_id, parts=(text,), is_error=True)
        return _to_result(call_id, result)

    async def _ask(self, work: Coroutine[Any, Any, _T], timeout: float) -> _T:
        """Do this for at most ``timeout`` seconds. An error that the server sent stays MCPError; all else is ours."""
        self._statuses.clear()
        try:
            async with asyncio.timeout(timeout):
                return await self._while_alive(work)
        except TimeoutError as error:
            raise ServerError(
                f"{self.name} did not answer within {timeout:g} s", hint="raise its timeouts in the config"
            ) from error
        except MCPError as error:
            if error.code == _CONNECTION_CLOSED and error.message == "Connection closed":  # servers use the code too
                raise await self._died() from error
            if {401, 403} & set(self._statuses):
                raise SignInNeeded(f"{self.name} wants a sign-in", hint=_SET_HEADERS) from error
            if refused := [status for status in self._statuses if status >= 400]:
                raise ServerError(f"{self.name} answered HTTP {refused[-1]}: {error.message}") from error
            raise
        except ValidationError as error:
            raise ServerError(f"{self.name} answered in a form that the protocol does not know") from error
        except (anyio.ClosedResourceError, anyio.BrokenResourceError, httpx2.HTTPError, OSError) as error:
            raise await self._died() from error

    async def close(self) -> None:
        """End the session and the process. Safe to call twice."""
        self._stopping.set()
        try:
            if self._owner is not None:
                await self._end(self._owner)
        finally:
            if self._process is not None:
                await self._process.stop()

    async def _end(self, owner: "asyncio.Task[None]") -> None:
        if not self._ready.is_set():
            owner.cancel()
        done, _ = await asyncio.wait({owner}, timeout=GRACE)
        if not done:  # a remote server that does not even answer a goodbye
            owner.cancel()
            await asyncio.wait({owner}, timeout=GRACE)

    def _live(self) -> Client:
        if self._client is None:
            raise ServerError(f"{self.name} is not connected")
        return self._client

    async def _while_alive(self, work: Coroutine[Any, Any, _T]) -> _T:
        """The result of the work, or an error as soon as the owner ends: a dead server fails at once."""
        assert self._owner is not None
        task = asyncio.create_task(work)
        try:
            await asyncio.wait({task, self._owner}, return_when=asyncio.FIRST_COMPLETED)
            if not task.done():
                raise await self._died()
            return task.result()
        finally:
            if not task.done():
                task.cancel()  # the SDK tells the server
                await asyncio.wait({task})

    async def _died(self) -> ServerError:
        self._cut = True
        log = await self._process.last_words() if self._process else ()
        code = self._process.exit_code if self._process else None
        ended = f" with exit code {code}" if code is not None else ""
        why = f": {self._failure}" if self._failure is not None and self._process is None else ""
        return ServerError(f"{self.name} went away{ended} before it answered{why}", log=log)


async def connect_stdio(name: str, process: ServerProcess, *, era: Era, timeout: float) -> Connection:
    """Talk to a started process. The connection ends the process, here too when the handshake fails."""
    connection = Connection(name, era=era, process=process)
    try:
        await connection.open(_over_pipes(process), timeout=timeout)
    except BaseException:  # a cancellation too: nobody else knows of the process
        await process.stop()
        raise
    return connection


async def connect_http(name: str, url: str, headers: dict[str, str], *, era: Era, timeout: float) -> Connection:
    """Talk to a remote server over streamable HTTP."""
    connection = Connection(name, era=era)
    await connection.open(_over_http(url, headers, connection._statuses), timeout=timeout)
    return connection


@asynccontextmanager
async def _over_pipes(process: ServerProcess) -> AsyncIterator[Any]:
    """A transport over the process's pipes, a message a line; unlike the SDK's it is linear in a line's length."""
    to_session, incoming = anyio.create_memory_object_stream[SessionMessage | Exception](0)
    outgoing, from_session = anyio.create_memory_object_stream[SessionMessage](0)

    async def read() -> None:
        async with to_session:
            try:
                while line := await process.stdout.readline():
                    try:
                        message = types.jsonrpc_message_adapter.validate_json(line, by_name=False)
                    except ValueError:
                        if line.strip():
                            _log.debug("not a message: %r", line[:200])
                        continue
                    await to_session.send(SessionMessage(message))
            except ValueError:
                _log.warning("a message of more than %d bytes: the connection is closed", LONGEST_LINE)
            except (anyio.ClosedResourceError, anyio.BrokenResourceError, ConnectionError):
                pass  # one side has gone, which the session sees as the stream's end

    async def write() -> None:
        async with from_session:
            try:
                async for message in from_session:
                    text = message.message.model_dump_json(by_alias=True, exclude_unset=True)
                    process.stdin.write(text.encode() + b"\n")
                    await process.stdin.drain()
            except (anyio.ClosedResourceError, ConnectionError):
                await to_session.aclose()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(read)
        tasks.start_soon(write)
        try:
            yield incoming, outgoing
        finally:
            tasks.cancel_scope.cancel()


@asynccontextmanager
async def _over_http(url: str, headers: dict[str, str], statuses: list[int]) -> AsyncIterator[Any]:
    """A streamable HTTP transport that remembers the last statuses: the SDK's errors have lost them."""

    async def remember(response: httpx2.Response) -> None:
        if response.request.method == "POST":  # many servers refuse the GET of a stream, and may
            statuses[:] = [*statuses[-9:], response.status_code]

    timeout = httpx2.Timeout(30.0, read=300.0)
    async with (
        httpx2.AsyncClient(headers=headers, timeout=timeout, event_hooks={"response": [remember]}) as http,
        streamable_http_client(url, http_client=http, max_sse_event_size=None) as streams,
    ):
        yield streams


def _innermost(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _accept_any_structure(client: Client) -> None:
    """Keep a result whose structure breaks its own schema: the SDK would throw its text away too."""
    check = client.session.validate_tool_result

    async def lenient(name: str, result: types.CallToolResult) -> None:
        try:
            await check(name, result)
        except RuntimeError as error:
            _log.warning("%s", error)

    client.session.validate_tool_result = lenient  # type: ignore[method-assign]  # the SDK has no setting for it


def _to_spec(server: str, tool: types.Tool) -> ToolSpec:
    hints = tool.annotations
    return ToolSpec(
        server=server,
        name=tool.name,
        title=tool.title or (hints.title if hints and hints.title else ""),
        description=tool.description or "",
        schema=tool.input_schema,
        annotations=Annotations(
            read_only=hints.read_only_hint,
            destructive=hints.destructive_hint,
            idempotent=hints.idempotent_hint,
            open_world=hints.open_world_hint,
        )
        if hints
        else Annotations(),
    )


def _to_result(call_id: str, result: types.CallToolResult) -> ToolResult:
    return ToolResult(
        call_id=call_id,
        parts=tuple(_to_part(content) for content in result.content),
        structured=result.structured_content,
        is_error=bool(result.is_error),
    )


def _to_part(content: types.ContentBlock) -> Text | Image | Audio | Link:
    match content:
        case types.TextContent():
            return Text(text=content.text)
        case types.ImageContent():
            return Image(media_type=content.mime_type, data=_decoded(content.data))
        case types.AudioContent():
            return Audio(media_type=content.mime_type, data=_decoded(content.data))
        case types.ResourceLink():
            return Link(uri=content.uri, title=content.title or content.name, media_type=content.mime_type or "")
        case types.EmbeddedResource(resource=types.TextResourceContents() as resource):
            return Text(text=f"{resource.uri}:\n{resource.text}")
        case types.EmbeddedResource(resource=resource):
            media_type = resource.mime_type or "application/octet-stream"
            if media_type.startswith("image/") and isinstance(resource, types.BlobResourceContents):
                return Image(media_type=media_type, data=_decoded(resource.blob))
            return Link(uri=resource.uri, media_type=media_type)


def _decoded(data: str) -> bytes:
    try:
        return base64.b64decode(data)
    except ValueError:
        return b""
