"""One MCP connection, owned by one task that opens it, holds it and closes it.

The SDK requires this: its cancel scopes must be left by the task that entered them.
"""

import asyncio
import contextlib
import logging
import re
import time
from collections.abc import Coroutine, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, contextmanager
from contextvars import ContextVar
from typing import Any, TypeVar

import anyio
import httpx2
from mcp import Client, MCPError, types
from mcp.client.client import ConnectMode
from mcp.client.subscriptions import SubscriptionLost
from pydantic import ValidationError

from mcpchat.core.catalog import Prompt, ResourceTemplate, ServerInfo
from mcpchat.core.events import Emit, ToolProgress
from mcpchat.core.form_answers import FormAnswers, current_answers
from mcpchat.core.messages import Content, Message, Text, ToolResult, error_result, result_text
from mcpchat.core.tools import ToolSpec
from mcpchat.errors import McpChatError, ServerError, SignInNeeded, ToolFailed
from mcpchat.mcp import decode, listing
from mcpchat.mcp.callbacks import ServerCallbacks
from mcpchat.mcp.catalog_cache import ProtocolMode
from mcpchat.mcp.message_filter import MessageFilter
from mcpchat.mcp.process import GRACE
from mcpchat.mcp.protocols import (
    STATELESS_REVISION,
    CatalogListing,
    ConnectionLost,
    HandshakeFailed,
    ProtocolChanged,
    ServerSpec,
    TokenRejected,
)
from mcpchat.mcp.task_requests import TaskClient, TasksExtension, call_as_task, parse_created_task
from mcpchat.mcp.tasks import TaskState
from mcpchat.mcp.telling_line import find_telling_line
from mcpchat.mcp.timeouts import RequestTimeout
from mcpchat.mcp.transports.base import (
    HTTP_STATUS,
    MESSAGE_TOO_LARGE,
    NOT_MCP,
    NOT_SENT,
    SESSION_DOUBTED,
    SESSION_LOST,
    STANDARD_ERRORS,
    Transport,
)
from mcpchat.util import json_schema
from mcpchat.util.connection_problems import explain_connection_error
from mcpchat.util.errors import innermost_error
from mcpchat.util.sanitize import one_line
from mcpchat.version import __version__

_own_answers: ContextVar[FormAnswers] = ContextVar("own answers")  # of the request in progress
_T = TypeVar("_T")
_RESUBSCRIBE_DELAYS = (1.0, 5.0, 30.0, 120.0)  # seconds, after a subscription was lost
_URL_ELICITATION_REQUIRED, _CONNECTION_CLOSED = -32042, -32000
_OVER_LIMIT_SUFFIXES = (" byte limit.", "limits.max_message")  # endings of the SDK's message and of ours
_PROBE_TIMEOUT = 10.0  # seconds that the SDK waits for the answer to server/discover
_UNKNOWN_VERSION = re.compile(r"Unsupported protocol version from the server: (.+)")  # the SDK's words
_AUTH_META_KEY = "mcpchat/auth"  # a server sets it to "expired" if its provider rejects the token
_log = logging.getLogger(__name__)


async def connect(
    spec: ServerSpec, transport: Transport, *, mode: ProtocolMode, info: ServerInfo | None = None
) -> "McpConnection":
    """Open the connection within ``spec.timeout`` seconds.

    ``mode`` is the protocol to start with: "auto" detects it. With "modern", ``info`` is what the server last
    reported about itself. Raises ServerError or SignInNeeded; the server's process is stopped then.
    """
    connection = McpConnection(spec, transport, mode=mode, info=info)
    try:
        await connection.open()
    except BaseException:  # a cancellation too: nothing else knows the process
        if transport.process is not None:
            await transport.process.stop()
        raise
    return connection


class McpConnection:
    """A live session with one server; single use."""

    def __init__(
        self, spec: ServerSpec, transport: Transport, *, mode: ProtocolMode, info: ServerInfo | None = None
    ) -> None:
        self.info = info or ServerInfo()
        self.mode: ProtocolMode = mode
        self._spec = spec
        self._transport = transport
        self._first_mode = mode
        protocol = spec.config.protocol
        revision = "" if protocol == "auto" else protocol
        self._filter = MessageFilter(
            on_log=spec.on_log, on_change=spec.on_change, on_partial=self._touch_timeouts, revision=revision
        )
        self._client: Client | None = None
        self._unconfirmed = mode == "modern"  # the protocol is only remembered until an answer confirms it
        self._broken = False
        self._protocol_changed = False
        self._failure: BaseException | None = None
        self._ready = asyncio.Event()
        self._stopping = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._subscription: asyncio.Task[None] | None = None
        self._active_timeouts: set[RequestTimeout] = set()
        self._active_answers: list[FormAnswers] = []  # of the open requests
        self._subscribed_uris: set[str] = set()
        self.tasks = TaskClient(
            spec.name,
            session=lambda: self._require_client().session,
            is_legacy=lambda: self.mode == "legacy",
            send=self._request_raw,
            own_answers=self._with_own_answers,
            parse_result=_parse_result,
        )

    @property
    def is_alive(self) -> bool:
        process = self._transport.process
        is_gone = self._broken or self._filter.closed or (process is not None and process.exit_code is not None)
        return self._client is not None and not is_gone

    async def open(self) -> None:
        self._task = asyncio.create_task(self._run(), name=f"mcp {self._spec.name}")
        try:
            async with asyncio.timeout(self._spec.timeout + GRACE):
                await self._ready.wait()
        except asyncio.CancelledError:
            await self.close()
            raise
        except TimeoutError as error:  # the task does not react to its own timeout
            self._failure = error
            await self._stop_task(self._task)
        if self._client is None:
            await asyncio.wait({self._task}, timeout=GRACE)
            raise await self._startup_error()

    async def _run(self) -> None:
        config = self._spec.config
        callbacks = ServerCallbacks(self._spec, self._pause_timeouts, self._find_answers)
        mode: ConnectMode = STATELESS_REVISION if self.mode == "modern" else self.mode
        try:
            async with AsyncExitStack() as stack:
                async with asyncio.timeout(self._spec.timeout):
                    client = await stack.enter_async_context(
                        Client(
                            self._transport.open(self._filter),
                            mode=mode,
                            client_info=types.Implementation(name="mcpchat", version=__version__),
                            elicitation_callback=callbacks.elicit if config.elicitation else None,
                            sampling_callback=callbacks.sample if config.sampling else None,
                            list_roots_callback=callbacks.list_roots if config.roots else None,
                            log_level="info",
                            cache=None,
                            extensions=[TasksExtension()],
                        )
                    )
                self._read_handshake(client)
                self._client = client
                self._ready.set()
                await self._stopping.wait()
        except asyncio.CancelledError as error:
            self._failure = self._failure or error
            raise
        except Exception as error:  # noqa: BLE001 - _startup_error and _connection_lost report it
            self._failure = innermost_error(error)
        finally:
            self._client = None
            self._ready.set()

    def _read_handshake(self, client: Client) -> None:
        """Read the server's description and protocol from its answer to the handshake."""
        session = client.session
        # We check results ourselves, in bounded time, and without losing the text of a result that does not match.
        session.validate_tool_result = _skip_validation  # type: ignore[method-assign]  # the SDK has no setting for it
        if self._unconfirmed:
            return
        handshake = session.discover_result or session.initialize_result
        assert handshake is not None
        self.mode = "modern" if session.discover_result is not None else "legacy"
        capabilities = handshake.capabilities.model_dump(exclude_none=True)
        greeting = self._filter.take_result(handshake.meta)
        self.info = decode.parse_server_info(greeting, client.protocol_version, capabilities)
        if self.mode == "legacy":
            self._transport.record_greeting(greeting)

    async def _startup_error(self) -> McpChatError:
        """The error that says why the connection could not be opened."""
        process = self._transport.process
        log = await process.final_log() if process else ()
        if process is not None and process.exit_code is not None:
            cause = find_telling_line(log)
            message = f"it exited at once with exit code {process.exit_code}" + (f": {cause}" if cause else "")
            return HandshakeFailed(message, exited=True, log=log if len(log) > 1 else ())
        if isinstance(self._failure, McpChatError):
            return self._failure
        if isinstance(self._failure, TimeoutError):
            message = f"it did not answer within {self._spec.timeout:g} s"
            if process is not None and process.stray_output:
                words = one_line(process.stray_output, 200)
                message += f"; it wrote {words!r} to stdout, which is no message of MCP"
            if self._first_mode == "auto" and self._spec.timeout <= _PROBE_TIMEOUT:
                return HandshakeFailed(message, exited=True, log=log)  # perhaps it only ignores server/discover
            return ServerError(message, hint="raise timeouts.start", log=log)
        if self._transport.sign_in_required:
            return self._sign_in_needed(401)  # whatever error the SDK's later attempts led to
        return self._handshake_error(self._failure, log)

    def _handshake_error(self, failure: BaseException | None, log: tuple[str, ...]) -> McpChatError:
        """The error for a failed handshake."""
        match failure:
            case MCPError() as error if _error_data(error, NOT_MCP):
                return ServerError(error.message, hint="check its url; the address often ends in /mcp")
            case MCPError() as error if error.code == types.UNSUPPORTED_PROTOCOL_VERSION:
                supported = error.data.get("supported") if isinstance(error.data, dict) else None
                named = (
                    ", ".join(str(version) for version in supported) if isinstance(supported, list) else "none of ours"
                )
                message = f"it does not speak our protocol versions; it speaks {one_line(named, 100)}"
                return HandshakeFailed(message, exited=False, log=log)
            case MCPError() as error if _error_data(error, NOT_SENT) is not None:
                return ServerError(error.message, hint="check its url")
            case MCPError() as error:
                status, reason = _error_data(error, HTTP_STATUS), error.message
            case httpx2.HTTPStatusError() as error:
                status, reason = error.response.status_code, error.response.reason_phrase
            case httpx2.TransportError() as error:
                problem = explain_connection_error(error, self._spec.config.url or "")
                return ServerError(f"cannot be reached: {problem.cause}", hint=problem.hint or "check its url")
            case error:
                status, reason = None, describe_failure(error)
        if status in {401, 403}:
            return self._sign_in_needed(status)
        is_bare = status and reason.startswith(f"HTTP {status}")
        answered = f"it answered {reason}" if is_bare else f"it answered HTTP {status}: {reason}"
        if status and status >= 500:
            return ServerError(answered, log=log)
        message = answered if status else f"the handshake failed: {reason}"
        return HandshakeFailed(message, exited=False, status=status, log=log)

    def _sign_in_needed(self, status: int) -> SignInNeeded:
        reason = "wants a sign-in" if status == 401 else "does not permit this with the present login"
        return SignInNeeded(f"{self._spec.name} {reason}", hint=self._spec.sign_in_hint())

    async def list_all(self, part: listing.Part = "all") -> CatalogListing:
        """List everything, or a part of it, all pages. Raises ServerError, SignInNeeded."""
        return await listing.list_all(
            self._spec.name,
            self.info,
            self._require_client(),
            self._filter,
            self._request,
            part=part,
            idle=self._spec.timeout,
        )

    async def call(
        self, spec: ToolSpec, call_id: str, arguments: dict[str, Any], emit: Emit, timeout: RequestTimeout
    ) -> ToolResult | TaskState:
        """Run the tool. An error that the server answers with is an error result; it may also run the tool as a task.

        Raises ServerError if the server cannot answer, TokenRejected, SignInNeeded.
        """

        async def on_progress(progress: float, total: float | None, message: str | None) -> None:
            timeout.touch()
            emit(ToolProgress(call_id=call_id, done=progress, total=total, note=message or ""))

        try:
            client = self._require_client()
            as_task = bool(spec.task_support) and decode.TASK_CALLS in self.info.capabilities
            if as_task:
                work = call_as_task(client.session, spec.name, arguments)
            else:
                work = client.call_tool(spec.name, arguments, progress_callback=on_progress)
            response = await self._request(work, timeout)
        except MCPError as error:
            return error_result(call_id, await self._describe_error(error, "call"))
        raw = self._filter.take_result(response.meta)
        if raw.get("resultType") == "task" or (as_task and isinstance(raw.get("task"), dict)):
            if (state := parse_created_task(raw)) is None:
                raise ServerError(f"{self._spec.name} sent an answer that is not valid MCP")
            return state
        result = decode.parse_tool_result(call_id, raw)
        meta = raw.get("_meta")
        has_login = self._spec.config.auth is not None  # only then a new token can help
        if result.is_error and has_login and isinstance(meta, dict) and meta.get(_AUTH_META_KEY) == "expired":
            raise TokenRejected(f"the login of {self._spec.name} is no longer accepted", result)
        return _check_structured_result(spec, result)

    async def _describe_error(self, error: MCPError, action: str) -> str:
        """The text for an error that the server answered with."""
        if error.code == MESSAGE_TOO_LARGE:
            return error.message
        if error.message.endswith(_OVER_LIMIT_SUFFIXES):
            return "the answer is larger than limits.max_message and was discarded"
        elicitations = error.data.get("elicitations") if isinstance(error.data, dict) else None
        if error.code == _URL_ELICITATION_REQUIRED and isinstance(elicitations, list):
            return await self._open_requested_urls(
                [elicitation for elicitation in elicitations if isinstance(elicitation, dict)]
            )
        return f"the server refused the {action}: {error.message} (code {error.code})"

    async def _open_requested_urls(self, elicitations: Sequence[Mapping[str, Any]]) -> str:
        """Ask the user to open the URLs that the server requires before the call: the older form of elicitation.

        Returns the text for the model.
        """
        for elicitation in elicitations:
            request = decode.parse_url_request(self._spec.name, elicitation)
            if (
                not self._spec.config.elicitation
                or (await self._spec.request_handler.elicit(request)).action != "accept"
            ):
                return "the server requires a URL to be opened first, and the user declined"
        return "the server requires a step at a URL first, which the user has opened; call again once it is done"

    async def read_resource(self, uri: str, timeout: RequestTimeout) -> Sequence[Content]:
        try:
            response = await self._request(self._require_client().read_resource(uri), timeout)
        except MCPError as error:
            raise ToolFailed(f"{self._spec.name} did not read {uri}: {error.message} (code {error.code})") from error
        contents = self._filter.take_result(response.meta).get("contents")
        return (
            [decode.parse_resource_contents(content) for content in contents if isinstance(content, dict)]
            if isinstance(contents, list)
            else []
        )

    async def get_prompt(self, name: str, arguments: Mapping[str, str], timeout: RequestTimeout) -> Sequence[Message]:
        try:
            response = await self._request(self._require_client().get_prompt(name, dict(arguments)), timeout)
        except MCPError as error:
            raise ToolFailed(f"{self._spec.name} refused its prompt {name}: {error.message}") from error
        return decode.parse_prompt_messages(self._filter.take_result(response.meta))

    async def complete(
        self,
        target: Prompt | ResourceTemplate,
        argument: str,
        value: str,
        context: Mapping[str, str],
        timeout: RequestTimeout,
    ) -> Sequence[str]:
        if "completions" not in self.info.capabilities:
            return ()
        reference: types.PromptReference | types.ResourceTemplateReference = (
            types.PromptReference(name=target.name)
            if isinstance(target, Prompt)
            else types.ResourceTemplateReference(uri=target.uri)
        )
        work = self._require_client().complete(reference, {"name": argument, "value": value}, dict(context) or None)
        try:
            return decode.parse_completions(self._filter.take_result((await self._request(work, timeout)).meta))
        except MCPError:
            return ()

    async def subscribe(self, uris: Sequence[str] = ()) -> None:
        """Ask the server to report changes of its lists and of these resources."""
        client = self._require_client()
        if self.mode == "modern":
            if self._subscription is not None:
                self._subscription.cancel()
            self._subscription = asyncio.create_task(self._listen_for_changes(client, tuple(uris)))
            return
        if "resources.subscribe" not in self.info.capabilities:
            return  # older servers report changes of their lists without a subscription
        for uri in uris:
            if uri not in self._subscribed_uris:
                self._subscribed_uris.add(uri)
                request = types.SubscribeRequest(params=types.SubscribeRequestParams(uri=uri))
                with contextlib.suppress(MCPError, ServerError):
                    work = client.session.send_request(request, types.EmptyResult)
                    await self._request(work, RequestTimeout(idle=_PROBE_TIMEOUT, total=_PROBE_TIMEOUT))

    async def _listen_for_changes(self, client: Client, uris: Sequence[str]) -> None:
        losses = 0
        while losses < len(_RESUBSCRIBE_DELAYS):
            started = time.monotonic()
            try:
                async with client.listen(
                    tools_list_changed=True,
                    prompts_list_changed=True,
                    resources_list_changed=True,
                    resource_subscriptions=uris,
                ) as changes:
                    async for _ in changes:
                        pass  # the message filter has called on_change already
            except SubscriptionLost:
                pass
            except (MCPError, ValidationError, RuntimeError, TimeoutError):
                return  # the server does not support subscriptions
            if self._stopping.is_set():
                return
            losses = 1 if time.monotonic() - started > _RESUBSCRIBE_DELAYS[-1] else losses + 1
            await asyncio.sleep(_RESUBSCRIBE_DELAYS[losses - 1])
            for change in ("tools", "prompts", "resources"):  # missed notifications are not repeated
                self._spec.on_change(change, "")

    async def _request(self, work: Coroutine[Any, Any, _T], timeout: RequestTimeout) -> _T:
        """Send the request and wait for its result, within ``timeout``.

        Raises MCPError for an error that the server answered with; ServerError, its subclasses ConnectionLost and
        ProtocolChanged, or SignInNeeded for everything else.
        """
        name = self._spec.name
        self._active_timeouts.add(timeout)
        answers = current_answers()
        self._active_answers.append(answers)
        token = _own_answers.set(answers)
        try:
            async with timeout:
                result = await self._run_while_alive(work)
            self._unconfirmed = False
            return result
        except TimeoutError as error:
            if self._unconfirmed:  # perhaps it speaks another protocol now and did not understand the request
                self._broken = True
                raise ConnectionLost(f"{name} {timeout.reason}", may_have_run=True, never_answered=True) from error
            raise ServerError(f"{name} {timeout.reason}", hint=f"raise servers.{name}.timeouts") from error
        except MCPError as error:
            await self._raise_transport_error(error)
            raise
        except (ValidationError, anyio.ClosedResourceError, anyio.BrokenResourceError, RuntimeError) as error:
            if not self.is_alive:
                raise await self._connection_lost() from error
            raise ServerError(f"{name} sent an answer that is not valid MCP") from error
        except (httpx2.HTTPError, OSError) as error:
            raise await self._connection_lost() from error
        finally:
            self._active_timeouts.discard(timeout)
            self._active_answers.remove(answers)
            _own_answers.reset(token)

    async def _request_raw(self, work: Coroutine[Any, Any, types.Result], timeout: RequestTimeout) -> dict[str, Any]:
        """Send the request; its result as the server sent it."""
        return self._filter.take_result((await self._request(work, timeout)).meta)

    @contextmanager
    def _with_own_answers(self) -> Iterator[None]:
        """During the block, questions of the server get the answers that hold for the work in progress."""
        token = _own_answers.set(current_answers())
        try:
            yield
        finally:
            _own_answers.reset(token)

    def _touch_timeouts(self) -> None:
        """Restart the idle limit of all open requests: an answer is arriving."""
        for timeout in self._active_timeouts:
            timeout.touch()

    def _find_answers(self) -> FormAnswers:
        """The answers for a form that the server sends now: of the request that it belongs to, as far as that is known.

        In the handshake revisions it is not: then all open requests must have the same answers.
        """
        own = _own_answers.get(None)
        if own is not None:
            return own
        first, *others = self._active_answers or [FormAnswers()]
        return first if all(answers == first for answers in others) else FormAnswers()

    async def _raise_transport_error(self, error: MCPError) -> None:
        """Raise our error for an MCPError that the transport made. Returns if the server itself answered with it."""
        name = self._spec.name
        if error.code == _CONNECTION_CLOSED and error.message == "Connection closed":  # servers use the code too
            raise await self._connection_lost() from error
        if _error_data(error, SESSION_LOST):
            self._broken = True
            self._transport.forget_session()
            raise ConnectionLost(f"{name} has ended the session", may_have_run=False, session_lost=True) from error
        if _error_data(error, SESSION_DOUBTED) and not await self._knows_session():
            self._broken = True
            self._transport.forget_session()
            # A server that fails for the moment may have passed the request on before.
            may_have_run = (_error_data(error, HTTP_STATUS) or 0) >= 500
            message = f"{name} has ended the session: {error.message}"
            raise ConnectionLost(message, may_have_run=may_have_run, session_lost=True) from error
        if _error_data(error, NOT_MCP):
            raise ServerError(f"{name} sent an answer that is not valid MCP") from error
        if (not_sent := _error_data(error, NOT_SENT)) is not None:  # only this request failed
            raise ConnectionLost(f"{name} {error.message}", may_have_run=not not_sent) from error
        if (
            error.code == _CONNECTION_CLOSED
            and error.message.startswith("SSE stream")
            and not error.message.endswith(_OVER_LIMIT_SUFFIXES)
        ):
            raise ConnectionLost(f"{name} broke off its answer", may_have_run=True) from error
        status = _error_data(error, HTTP_STATUS)
        if status in {401, 403}:
            raise self._sign_in_needed(status) from error
        if self._unconfirmed and not await self._still_stateless():
            self._broken = self._protocol_changed = True
            raise ProtocolChanged(f"{name} speaks another protocol than before: {error.message}") from error
        if status and error.code == types.INTERNAL_ERROR:
            raise ServerError(f"{name} answered HTTP {status}: {error.message}") from error

    @contextmanager
    def _pause_timeouts(self) -> Iterator[None]:
        """Stop the timeouts of this server's requests while the user answers a question."""
        timeouts = list(self._active_timeouts)
        for timeout in timeouts:
            timeout.pause()
        try:
            yield
        finally:
            for timeout in timeouts:
                timeout.resume()

    async def _knows_session(self) -> bool:
        """Whether the server still knows the session in which it answered a request with an HTTP error."""
        try:
            async with asyncio.timeout(_PROBE_TIMEOUT):
                await self._run_while_alive(self._require_client().session.send_ping())
        except MCPError as error:
            if error.code in STANDARD_ERRORS:
                return True  # it has no ping
            return _error_data(error, HTTP_STATUS) is None and not _error_data(error, SESSION_LOST)
        except (TimeoutError, ServerError, ValidationError, anyio.ClosedResourceError):
            return False
        return True

    async def _still_stateless(self) -> bool:
        """Whether a server that answered the first request with an error still speaks the stateless protocol."""
        try:
            async with asyncio.timeout(_PROBE_TIMEOUT):
                await self._run_while_alive(self._require_client().session.send_discover(STATELESS_REVISION))
        except (MCPError, TimeoutError, ServerError, ValidationError, anyio.ClosedResourceError):
            return False
        self._unconfirmed = False
        return True

    async def close(self) -> None:
        """End the session and stop the process. Safe to call twice."""
        self._stopping.set()
        try:
            if self._subscription is not None:
                self._subscription.cancel()
                await asyncio.wait({self._subscription})
            if self._task is not None:
                await self._stop_task(self._task)
        finally:
            if self._transport.process is not None:
                await self._transport.process.stop()

    async def _stop_task(self, task: "asyncio.Task[None]") -> None:
        if not self._ready.is_set():
            task.cancel()
        done, _ = await asyncio.wait({task}, timeout=GRACE)
        if not done:  # a remote server does not answer the request that ends the session
            task.cancel()
            await asyncio.wait({task}, timeout=GRACE)

    def _require_client(self) -> Client:
        if self._client is None:
            raise ConnectionLost(f"{self._spec.name} is not connected", may_have_run=False)
        return self._client

    async def _run_while_alive(self, work: Coroutine[Any, Any, _T]) -> _T:
        """The result of ``work``. Raises ConnectionLost as soon as the owner task ends: a dead server fails at once."""
        assert self._task is not None
        task = asyncio.create_task(work)
        try:
            await asyncio.wait({task, self._task}, return_when=asyncio.FIRST_COMPLETED)
            if not task.done():
                raise await self._connection_lost()
            return task.result()
        except ExceptionGroup as group:
            raise innermost_error(group) from group
        finally:
            if not task.done():
                task.cancel()  # the SDK tells the server
                await asyncio.wait({task})

    async def _connection_lost(self) -> ServerError:
        self._broken = True
        if self._protocol_changed:
            return ProtocolChanged(f"{self._spec.name} speaks another protocol than before")
        process = self._transport.process
        log = await process.final_log() if process else ()
        code = process.exit_code if process else None
        event = f"exited with exit code {code}" if code is not None else "disconnected"
        cause = find_telling_line(log)
        if self._failure is not None and process is None:
            cause = describe_failure(self._failure)
        reason = f": {cause}" if cause else ""
        return ConnectionLost(
            f"{self._spec.name} {event} before it answered{reason}",
            may_have_run=True,
            never_answered=self._unconfirmed,
            log=log if len(log) > 1 else (),  # the cause is the only line
        )


def describe_failure(error: BaseException | None) -> str:
    """Why a connection failed, in our own words or in the operating system's; never in those of a library."""
    match error:
        case McpChatError() | MCPError():
            return error.message
        case httpx2.HTTPError():
            return "the network connection broke off"
        case OSError():
            return error.strerror or "the network connection broke off"
        case RuntimeError() if match := _UNKNOWN_VERSION.search(str(error)):
            return f"it speaks protocol version {one_line(match[1], 40)}, which mcpchat does not know"
        case ValidationError() | ValueError() | TypeError() | RuntimeError():
            return "its answer is not valid MCP"
        case _:
            return "the connection ended"


async def _skip_validation(name: str, result: types.CallToolResult) -> None:
    """Accept everything; ``_check_structured_result`` checks it later."""


def _parse_result(spec: ToolSpec | None, call_id: str, raw: Mapping[str, Any]) -> ToolResult:
    """The result of a task. It has run: no new token could make it run again."""
    result = decode.parse_tool_result(call_id, raw)
    return _check_structured_result(spec, result) if spec is not None else result


def _check_structured_result(spec: ToolSpec, result: ToolResult) -> ToolResult:
    """The result. A structured result that does not match the tool's output schema is replaced by a note."""
    if result.structured is None or spec.output_schema is None or result.is_error:
        return result
    problem = json_schema.find_error(spec.output_schema, result.structured)
    if not problem:
        return result
    note = Text(text=f"[the structured result does not match the tool's output schema: {problem}]")
    parts = result.parts or (Text(text=result_text(result)),)
    return ToolResult(call_id=result.call_id, parts=(*parts, note))


def _error_data(error: MCPError, key: str) -> Any:
    """A value that the transport put into an error's data; None if it is missing."""
    return error.data.get(key) if isinstance(error.data, dict) else None
