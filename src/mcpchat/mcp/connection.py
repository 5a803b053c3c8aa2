"""One MCP connection, owned by one task that opens it, keeps it and closes it."""

import asyncio
import contextlib
import logging
import time
from collections.abc import Coroutine, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, contextmanager
from typing import Any, TypeVar

import anyio
import httpx2
from mcp import Client, MCPError, types
from mcp.client.client import ConnectMode
from mcp.client.subscriptions import SubscriptionLost
from pydantic import ValidationError

from mcpchat.core.catalog import Prompt, ServerInfo, Template
from mcpchat.core.events import Emit, ToolProgress
from mcpchat.core.messages import Content, Message, Text, ToolResult, error_result, result_text
from mcpchat.core.tools import ToolSpec
from mcpchat.errors import McpChatError, ServerError, SignInNeeded, ToolFailed
from mcpchat.mcp import decode, listing
from mcpchat.mcp.callbacks import Asked
from mcpchat.mcp.catalog_cache import Era
from mcpchat.mcp.message_filter import Wire
from mcpchat.mcp.process import GRACE
from mcpchat.mcp.protocols import MODERN, ConnectionLost, Dial, HandshakeFailed, Listing, StaleDiscovery, TokenRefused
from mcpchat.mcp.timeouts import Patience
from mcpchat.mcp.transports.http import HTTP_STATUS, NOT_SENT, SESSION_LOST, over_http
from mcpchat.mcp.transports.stdio import TOO_LARGE, over_pipes
from mcpchat.util import json_schema
from mcpchat.version import __version__

_T = TypeVar("_T")
_LISTEN_AGAIN = (1.0, 5.0, 30.0, 120.0)  # seconds, after a subscription was lost
_URL_NEEDED, _CONNECTION_CLOSED = -32042, -32000
_OVER_LIMIT = (" byte limit.", "limits.max_message")  # how the SDK's words for it end, and ours
_PROBE = 10.0  # seconds that the SDK gives a server to say whether it is a modern one
_LOGIN = "mcpchat/auth"  # under which a server says "expired" of its provider's token
_log = logging.getLogger(__name__)


async def connect(dial: Dial) -> "Connection":
    """Open the connection within ``dial.timeout`` seconds. Raises ServerError or SignInNeeded, with nothing left."""
    connection = Connection(dial)
    try:
        await connection.open()
    except BaseException:  # a cancellation too: nobody else knows of the process
        if dial.process is not None:
            await dial.process.stop()
        raise
    return connection


class Connection:
    """A live session with one server; single use."""

    def __init__(self, dial: Dial) -> None:
        self.info = dial.info or ServerInfo()
        self.era: Era = dial.era
        self._dial = dial
        self._wire = Wire(log=dial.log, on_change=dial.on_change, revision=dial.revision)
        self._client: Client | None = None
        self._remembered = dial.era == "modern"  # its protocol is taken on trust until an answer confirms it
        self._cut = False
        self._stale = False
        self._failure: BaseException | None = None
        self._ready = asyncio.Event()
        self._stopping = asyncio.Event()
        self._owner: asyncio.Task[None] | None = None
        self._listening: asyncio.Task[None] | None = None
        self._waiting: set[Patience] = set()
        self._subscribed: set[str] = set()

    @property
    def alive(self) -> bool:
        process = self._dial.process
        gone = self._cut or self._wire.closed or (process is not None and process.exit_code is not None)
        return self._client is not None and not gone

    async def open(self) -> None:
        if self._dial.signer is not None:
            self._dial.signer.challenge = None  # what it hears from now on is about this connection
        self._owner = asyncio.create_task(self._own(), name=f"mcp {self._dial.name}")
        try:
            async with asyncio.timeout(self._dial.timeout + GRACE):
                await self._ready.wait()
        except asyncio.CancelledError:
            await self.close()
            raise
        except TimeoutError as error:  # it does not even let itself be given up
            self._failure = error
            await self._end(self._owner)
        if self._client is None:
            await asyncio.wait({self._owner}, timeout=GRACE)
            raise await self._failed()

    def _transport(self) -> AbstractAsyncContextManager[Any]:
        dial = self._dial
        if dial.process is not None:
            return over_pipes(dial.process, self._wire, most_bytes=dial.most_bytes)
        assert dial.url is not None
        return over_http(
            dial.url,
            dial.headers,
            self._wire,
            sse=dial.sse,
            timeout=dial.timeout,
            most_bytes=dial.most_bytes,
            signer=dial.signer,
        )

    async def _own(self) -> None:
        dial = self._dial
        asked = Asked(dial, self._asking)
        mode: ConnectMode = MODERN if dial.era == "modern" else dial.era
        try:
            async with AsyncExitStack() as stack:
                async with asyncio.timeout(dial.timeout):
                    client = await stack.enter_async_context(
                        Client(
                            self._transport(),
                            mode=mode,
                            client_info=types.Implementation(name="mcpchat", version=__version__),
                            elicitation_callback=asked.elicit if dial.elicitation else None,
                            sampling_callback=asked.sample if dial.sampling else None,
                            list_roots_callback=asked.roots if dial.roots else None,
                            log_level="info",
                            cache=None,
                        )
                    )
                self._met(client)
                self._client = client
                self._ready.set()
                await self._stopping.wait()
        except asyncio.CancelledError as error:
            self._failure = self._failure or error
            raise
        except Exception as error:  # noqa: BLE001 - whatever the SDK lets out is reported by _failed, to whoever waits
            self._failure = _innermost(error)
        finally:
            self._client = None
            self._ready.set()

    def _met(self, client: Client) -> None:
        """Note who the server is, and what it speaks."""
        session = client.session
        # What it would check is checked here, in bounded time, and without losing the text of what does not fit.
        session.validate_tool_result = _accept  # type: ignore[method-assign]  # the SDK has no setting for it
        if self._remembered:
            return
        said = session.discover_result or session.initialize_result
        assert said is not None
        self.era = "modern" if session.discover_result is not None else "legacy"
        capabilities = said.capabilities.model_dump(exclude_none=True)
        self.info = decode.server_info(self._wire.take(said.meta), client.protocol_version, capabilities)

    async def _failed(self) -> McpChatError:
        """Why the connection could not be opened, in words."""
        process = self._dial.process
        log = await process.last_words() if process else ()
        if process is not None and process.exit_code is not None:
            return HandshakeFailed(f"it left at once, with exit code {process.exit_code}", left=True, log=log)
        if isinstance(self._failure, McpChatError):
            return self._failure
        if isinstance(self._failure, TimeoutError):
            told = f"it did not answer within {self._dial.timeout:g} s"
            if self._dial.era == "auto" and self._dial.timeout <= _PROBE:
                return HandshakeFailed(told, left=True, log=log)  # perhaps it only ignores the first question
            return ServerError(told, hint="raise timeouts.start", log=log)
        if self._dial.signer is not None and self._dial.signer.challenge is not None:
            return self._sign_in_needed(401)  # whatever was made of the SDK's next greeting
        return self._refused(self._failure, log)

    def _refused(self, failure: BaseException | None, log: tuple[str, ...]) -> McpChatError:
        """What an answer that is no handshake means."""
        match failure:
            case MCPError() as error if _said(error, NOT_SENT) is not None:
                return ServerError(error.message, hint="check url in the config")
            case MCPError() as error:
                status, told = _said(error, HTTP_STATUS), error.message
            case httpx2.HTTPStatusError() as error:
                status, told = error.response.status_code, error.response.reason_phrase
            case httpx2.TransportError() as error:
                return ServerError(f"cannot be reached: {error}", hint="check url in the config")
            case ValidationError():
                status, told = None, "its answer is not the protocol's"
            case error:
                status, told = None, str(error)
        if status in {401, 403}:
            return self._sign_in_needed(status)
        if status and status >= 500:
            return ServerError(f"it answered HTTP {status}: {told}", log=log)
        words = f"it answered HTTP {status}: {told}" if status else f"the handshake failed: {told}"
        return HandshakeFailed(words, left=False, log=log)

    def _sign_in_needed(self, status: int) -> SignInNeeded:
        wish = "wants a sign-in" if status == 401 else "does not allow that to this login"
        return SignInNeeded(f"{self._dial.name} {wish}", hint=self._dial.sign_in_hint())

    async def list_all(self, patience: Patience, *, tools_only: bool = False) -> Listing:
        """All pages of all that the server lists, or of its tools. Raises ServerError."""

        async def ask(work: Coroutine[Any, Any, _T]) -> _T:
            return await self._ask(work, patience)

        return await listing.list_all(self._dial.name, self.info, self._live(), self._wire, ask, tools_only=tools_only)

    async def call(
        self, spec: ToolSpec, call_id: str, arguments: dict[str, Any], emit: Emit, patience: Patience
    ) -> ToolResult:
        """Run the tool. Raises ServerError when the server cannot answer."""

        async def on_progress(progress: float, total: float | None, message: str | None) -> None:
            patience.sign()
            emit(ToolProgress(call_id=call_id, done=progress, total=total, note=message or ""))

        try:
            work = self._live().call_tool(spec.name, arguments, progress_callback=on_progress)
            answer = await self._ask(work, patience)
        except MCPError as error:
            return error_result(call_id, await self._told_error(error, "call"))
        said = self._wire.take(answer.meta)
        result = decode.tool_result(call_id, said)
        meta = said.get("_meta")
        if result.is_error and isinstance(meta, dict) and meta.get(_LOGIN) == "expired":
            raise TokenRefused(f"the login of {self._dial.name} is no longer taken", result)
        return _checked(spec, result)

    async def _told_error(self, error: MCPError, what: str) -> str:
        """What to say of an error that the server answered with."""
        if error.code == TOO_LARGE:
            return error.message
        if error.message.endswith(_OVER_LIMIT):
            return "the answer is larger than limits.max_message and was thrown away"
        found = error.data.get("elicitations") if isinstance(error.data, dict) else None
        if error.code == _URL_NEEDED and isinstance(found, list):
            return await self._visits([one for one in found if isinstance(one, dict)])
        return f"the server refused the {what}: {error.message} (code {error.code})"

    async def _visits(self, wanted: Sequence[Mapping[str, Any]]) -> str:
        """A server that wants addresses opened before the call: the old way of asking."""
        for one in wanted:
            visit = decode.visit(self._dial.name, one)
            if not self._dial.elicitation or (await self._dial.host.elicit(visit)).action != "accept":
                return "the server first wants an address opened, and the user did not agree"
        return "the server first wants something done at an address, which the user opened; call again once it is done"

    async def read(self, uri: str, patience: Patience) -> Sequence[Content]:
        try:
            answer = await self._ask(self._live().read_resource(uri), patience)
        except MCPError as error:
            raise ToolFailed(f"{self._dial.name} did not read {uri}: {error.message} (code {error.code})") from error
        found = self._wire.take(answer.meta).get("contents")
        return [decode.contents(one) for one in found if isinstance(one, dict)] if isinstance(found, list) else []

    async def prompt(self, name: str, arguments: Mapping[str, str], patience: Patience) -> Sequence[Message]:
        try:
            answer = await self._ask(self._live().get_prompt(name, dict(arguments)), patience)
        except MCPError as error:
            raise ToolFailed(f"{self._dial.name} refused its prompt {name}: {error.message}") from error
        return decode.prompt_messages(self._wire.take(answer.meta))

    async def complete(
        self, of: Prompt | Template, argument: str, typed: str, given: Mapping[str, str], patience: Patience
    ) -> Sequence[str]:
        if "completions" not in self.info.capabilities:
            return ()
        reference: types.PromptReference | types.ResourceTemplateReference = (
            types.PromptReference(name=of.name)
            if isinstance(of, Prompt)
            else types.ResourceTemplateReference(uri=of.uri)
        )
        work = self._live().complete(reference, {"name": argument, "value": typed}, dict(given) or None)
        try:
            return decode.completions(self._wire.take((await self._ask(work, patience)).meta))
        except MCPError:
            return ()

    async def watch(self, uris: Sequence[str] = ()) -> None:
        """Have the server tell of changes of its lists, and of these resources."""
        client = self._live()
        if self.era == "modern":
            if self._listening is not None:
                self._listening.cancel()
            self._listening = asyncio.create_task(self._listen(client, tuple(uris)))
            return
        if "resources.subscribe" not in self.info.capabilities:
            return  # of its lists an older server tells unasked
        for uri in uris:
            if uri not in self._subscribed:
                self._subscribed.add(uri)
                subscribe = types.SubscribeRequest(params=types.SubscribeRequestParams(uri=uri))
                with contextlib.suppress(MCPError, ServerError):
                    work = client.session.send_request(subscribe, types.EmptyResult)
                    await self._ask(work, Patience(idle=_PROBE, total=_PROBE))

    async def _listen(self, client: Client, uris: Sequence[str]) -> None:
        losses = 0
        while losses < len(_LISTEN_AGAIN):
            began = time.monotonic()
            try:
                async with client.listen(
                    tools_list_changed=True,
                    prompts_list_changed=True,
                    resources_list_changed=True,
                    resource_subscriptions=uris,
                ) as changes:
                    async for _ in changes:
                        pass  # the wire has told already
            except SubscriptionLost:
                pass
            except (MCPError, ValidationError, RuntimeError, TimeoutError):
                return  # it does not offer this
            if self._stopping.is_set():
                return
            losses = 1 if time.monotonic() - began > _LISTEN_AGAIN[-1] else losses + 1
            await asyncio.sleep(_LISTEN_AGAIN[losses - 1])
            for change in ("tools", "prompts", "resources"):  # nothing is said twice: what was missed must be asked
                self._dial.on_change(change, "")

    async def _ask(self, work: Coroutine[Any, Any, _T], patience: Patience) -> _T:
        """Do this, as long as patience lasts. An error that the server sent stays MCPError; all else is ours."""
        name = self._dial.name
        self._waiting.add(patience)
        try:
            async with patience:
                answer = await self._while_alive(work)
            self._remembered = False
            return answer
        except TimeoutError as error:
            if self._remembered:  # perhaps it speaks another protocol now, and does not know what it was asked
                self._cut = True
                raise ConnectionLost(f"{name} {patience.spent}", may_have_run=True, unheard=True) from error
            raise ServerError(f"{name} {patience.spent}", hint=f"raise servers.{name}.timeouts") from error
        except MCPError as error:
            await self._look_into(error)
            raise
        except (ValidationError, anyio.ClosedResourceError, anyio.BrokenResourceError, RuntimeError) as error:
            if not self.alive:
                raise await self._died() from error
            raise ServerError(f"{name} answered in a form that the protocol does not know") from error
        except (httpx2.HTTPError, OSError) as error:
            raise await self._died() from error
        finally:
            self._waiting.discard(patience)

    async def _look_into(self, error: MCPError) -> None:
        """Raise what an error means where it is not the server's answer to the request."""
        name = self._dial.name
        if error.code == _CONNECTION_CLOSED and error.message == "Connection closed":  # servers use the code too
            raise await self._died() from error
        if _said(error, SESSION_LOST):
            self._cut = True
            raise ConnectionLost(f"{name} has ended the session", may_have_run=False) from error
        if (unsent := _said(error, NOT_SENT)) is not None:  # this request alone: others may be on their way
            raise ConnectionLost(f"{name} {error.message}", may_have_run=not unsent) from error
        if (
            error.code == _CONNECTION_CLOSED
            and error.message.startswith("SSE stream")
            and not error.message.endswith(_OVER_LIMIT)
        ):
            raise ConnectionLost(f"{name} broke its answer off", may_have_run=True) from error
        status = _said(error, HTTP_STATUS)
        if status in {401, 403}:
            raise self._sign_in_needed(status) from error
        if self._remembered and not await self._speaks_modern():
            self._cut = self._stale = True
            raise StaleDiscovery(f"{name} speaks another protocol than before: {error.message}") from error
        if status and error.code == types.INTERNAL_ERROR:
            raise ServerError(f"{name} answered HTTP {status}: {error.message}") from error

    @contextmanager
    def _asking(self) -> Iterator[None]:
        """While somebody answers, no request of this server grows old."""
        waiting = list(self._waiting)
        for patience in waiting:
            patience.pause()
        try:
            yield
        finally:
            for patience in waiting:
                patience.resume()

    async def _speaks_modern(self) -> bool:
        """Whether the server, which answered the first request with an error, still speaks what it spoke before."""
        try:
            async with asyncio.timeout(_PROBE):
                await self._while_alive(self._live().session.send_discover(MODERN))
        except (MCPError, TimeoutError, ServerError, ValidationError, anyio.ClosedResourceError):
            return False
        self._remembered = False
        return True

    async def close(self) -> None:
        """End the session and the process. Safe to call twice."""
        self._stopping.set()
        try:
            if self._listening is not None:
                self._listening.cancel()
                await asyncio.wait({self._listening})
            if self._owner is not None:
                await self._end(self._owner)
        finally:
            if self._dial.process is not None:
                await self._dial.process.stop()

    async def _end(self, owner: "asyncio.Task[None]") -> None:
        if not self._ready.is_set():
            owner.cancel()
        done, _ = await asyncio.wait({owner}, timeout=GRACE)
        if not done:  # a remote server that does not even answer a goodbye
            owner.cancel()
            await asyncio.wait({owner}, timeout=GRACE)

    def _live(self) -> Client:
        if self._client is None:
            raise ConnectionLost(f"{self._dial.name} is not connected", may_have_run=False)
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
        except ExceptionGroup as group:
            raise _innermost(group) from group
        finally:
            if not task.done():
                task.cancel()  # the SDK tells the server
                await asyncio.wait({task})

    async def _died(self) -> ServerError:
        self._cut = True
        if self._stale:
            return StaleDiscovery(f"{self._dial.name} speaks another protocol than before")
        process = self._dial.process
        log = await process.last_words() if process else ()
        code = process.exit_code if process else None
        ended = f" with exit code {code}" if code is not None else ""
        why = f": {self._failure}" if self._failure is not None and process is None else ""
        return ConnectionLost(
            f"{self._dial.name} went away{ended} before it answered{why}",
            may_have_run=True,
            unheard=self._remembered,
            log=log,
        )


async def _accept(name: str, result: types.CallToolResult) -> None:
    """Any structure passes here; ``_checked`` judges it."""


def _checked(spec: ToolSpec, result: ToolResult) -> ToolResult:
    """The result; where its structure breaks the tool's own schema, a note of that stands in the structure's place."""
    if result.structured is None or spec.output_schema is None or result.is_error:
        return result
    fault = json_schema.problem(spec.output_schema, result.structured)
    if not fault:
        return result
    note = Text(text=f"[the structured form of this result breaks the tool's own schema: {fault}]")
    parts = result.parts or (Text(text=result_text(result)),)
    return ToolResult(call_id=result.call_id, parts=(*parts, note))


def _said(error: MCPError, key: str) -> Any:
    """What the transport noted in an error's data."""
    return error.data.get(key) if isinstance(error.data, dict) else None


def _innermost(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
