"""The Python API: sessions, tool calls and batches over the servers of a config.

``from mcpchat import ...`` exports the names of this module. ``ask --input-format jsonl`` uses the same sessions.
"""

import asyncio
import io
import os
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
from msgspec import UNSET

from mcpchat import errors as errors
from mcpchat.app.attachments import read_attachments
from mcpchat.app.chat import ChatRuntime, open_chat
from mcpchat.app.mcp import build_auth_service, build_request_handler, open_hub
from mcpchat.app.run_turn import TurnOutcome, run_turn
from mcpchat.app.tool_call import ToolCaller
from mcpchat.batch.processing import open_processor
from mcpchat.batch.runner import BatchRunner
from mcpchat.batch.types import BatchResult, PreparedRequest, parse_request, request_id
from mcpchat.config import project_file
from mcpchat.config.load import load_config
from mcpchat.config.run import RunContext, RunOptions, default_paths
from mcpchat.core import events
from mcpchat.core.call_record import Origin
from mcpchat.core.elicitation import ElicitationResult, Form, UrlRequest
from mcpchat.core.events import Emit, Event, Notice
from mcpchat.core.messages import Audio, File, Image, Link, Message, Part, Text, ToolCall, ToolResult, Usage
from mcpchat.core.policy import ApprovalRequest, Decision
from mcpchat.core.protocols import SignInDialog, UserDialog
from mcpchat.core.report import CallReport, ErrorReport, Report, ReportBuilder, error_report
from mcpchat.core.tools import ToolSpec
from mcpchat.engine.event_redaction import RedactingEmitter
from mcpchat.engine.mentions import attach_resources
from mcpchat.engine.message_codec import encode_json
from mcpchat.errors import McpChatError, UsageError
from mcpchat.permissions.factory import build_approval_gate
from mcpchat.ui.prompts.sign_in import PlainSignIn
from mcpchat.ui.render.plain import NonInteractiveDialog
from mcpchat.util.json_schema import find_schema_error
from mcpchat.util.text import suggest

__all__ = [
    "ApprovalRequest",
    "Audio",
    "BatchResult",
    "CallReport",
    "ChatSession",
    "Decision",
    "ElicitationResult",
    "ErrorReport",
    "Event",
    "File",
    "Form",
    "Image",
    "Link",
    "McpChatError",
    "Message",
    "Report",
    "Text",
    "ToolCall",
    "ToolResult",
    "UrlRequest",
    "Usage",
    "UserDialog",
    "call_tool",
    "errors",
    "events",
    "open_session",
    "run_batch",
]  # fmt: skip


class ChatSession:
    """One conversation with a model and its tools, opened by ``open_session``.

    One turn runs at a time: ``send`` waits for the previous turn.
    """

    def __init__(self, chat: ChatRuntime, switch: "_EventSwitch") -> None:
        self.chat = chat
        self._switch = switch
        self._turn_lock = asyncio.Lock()
        self._turn: asyncio.Task[TurnOutcome] | None = None
        self._outcome: TurnOutcome | None = None

    @property
    def history(self) -> Sequence[Message]:
        """The messages so far."""
        return self.chat.session.history

    @property
    def model(self) -> str:
        """The name of the model."""
        return self.chat.session.model.name

    @property
    def agent(self) -> str:
        """The name of the agent, empty if none was chosen."""
        return self.chat.session.agent.name

    @property
    def thread_id(self) -> str:
        """The id of the thread."""
        return self.chat.session.transcript.thread.id

    @property
    def last_error(self) -> McpChatError | None:
        """The error of the latest finished turn, such as a denied call or a reached limit; None if there is none."""
        return self._outcome.error if self._outcome is not None else None

    def _require_open(self) -> None:
        if self._switch.closed:
            raise UsageError("the session is closed", hint="use it within the block of open_session")

    async def send(
        self,
        message: str | Message,
        *,
        attach: Sequence[str | Path] = (),
        mentions: bool = False,
        timeout: float | None = None,
    ) -> AsyncGenerator[Event, None]:
        """Send a message with files; yields the turn's events, of which the last is turn.finished or turn.failed.

        ``mentions`` reads each resource that the text names as ``@server:uri`` and sends it along; leave it off for
        text that is not the user's own. ``timeout`` is in seconds. If the session has a schema and the answer does not
        fit, the events of a second turn follow.

        Closing the generator (``aclosing`` does) cancels the turn; its remaining events go to the listener of the
        session, and the history stays valid. Raises ModelError after turn.failed, LimitReached when the time is up,
        and UsageError for a file that cannot be attached.
        """
        files = read_attachments([str(name) for name in attach])
        async with self._turn_lock:
            self._require_open()
            if mentions and isinstance(message, str):
                message = await attach_resources(message, self.chat.hub)
            self._outcome = None
            events: asyncio.Queue[Event | None] = asyncio.Queue()
            turn = self._turn = asyncio.create_task(
                run_turn(
                    self.chat.session,
                    message_with_files(message, files),
                    secrets=self.chat.context.secrets,
                    timeout=timeout,
                )
            )
            turn.add_done_callback(lambda done: events.put_nowait(None))
            with self._switch.redirect(events.put_nowait):
                try:
                    while (event := await events.get()) is not None:
                        yield event
                    if not turn.cancelled():
                        self._outcome = turn.result()
                finally:
                    turn.cancel()
                    await asyncio.wait({turn})
                    while not events.empty():
                        if (event := events.get_nowait()) is not None:
                            self._switch.listener(event)

    def cancel(self) -> None:
        """Cancel the running turn, if any. Its ``send`` then yields the remaining events."""
        if self._turn is not None:
            asyncio.get_running_loop().call_soon(self._turn.cancel)  # after the turn's first step

    async def ask(
        self,
        message: str | Message,
        *,
        attach: Sequence[str | Path] = (),
        mentions: bool = False,
        timeout: float | None = None,
    ) -> Report:
        """Send a message and wait for the answer; the parameters are those of ``send``.

        With a schema the report's ``value`` is the answer as a JSON value. If the turn did not end well, the report
        has an ``error``. Raises UsageError for a file that cannot be attached.
        """
        builder, error = ReportBuilder(), None
        try:
            events = self.send(message, attach=attach, mentions=mentions, timeout=timeout)
            async with aclosing(events) as turn:
                async for event in turn:
                    builder(event)
            error = self.last_error
            if self._outcome is not None and self._outcome.value is not UNSET:
                builder.set_value(self._outcome.value)
        except UsageError:
            raise
        except McpChatError as failure:
            error = failure
        if error is not None:
            secrets = self.chat.context.secrets
            error.message, error.hint = secrets.redact(error.message), secrets.redact(error.hint)
            builder.report.error = error_report(error)
        return builder.report

    async def call_tool(
        self, name: str, arguments: Mapping[str, Any] | None = None, *, timeout: float | None = None
    ) -> ToolResult:
        """Call the tool ``server.tool`` without the model, under the session's rules.

        A result with ``is_error`` is the tool's own failure. Raises UsageError, Denied, ServerError, SignInNeeded,
        LimitReached.
        """
        self._require_open()
        chat = self.chat
        emit = RedactingEmitter(self._switch.listener, chat.context.secrets)
        gate = chat.session.agent.gate
        caller = ToolCaller(context=chat.context, hub=chat.hub, gate=gate, asker=chat.asker, warn=emit)
        _, result = await caller.call(name, _fixed(arguments), timeout=timeout)
        return result

    async def switch_model(self, name: str) -> None:
        """Switch to another model. Raises NoModelConfigured, ConfigError or UsageError if it cannot be used."""
        self._require_open()
        await self.chat.switch_model(name)

    async def switch_agent(self, name: str) -> None:
        """Switch to another agent, with its model, servers and rules.

        Raises UsageError if it is unknown, ConfigError if its instructions cannot be read, NoModelConfigured.
        """
        self._require_open()
        await self.chat.switch_agent(name)


class _EventSwitch:
    """Sends events to the listener of the session, and during a turn to the caller of ``send``."""

    def __init__(self, listener: Emit) -> None:
        self.listener = listener
        self.closed = False
        self._target = listener

    def __call__(self, event: Event) -> None:
        self._target(event)

    def redirect(self, target: Emit) -> "_Redirection":
        """Return a context manager in which events go to ``target``."""
        return _Redirection(self, target)


class _Redirection:
    def __init__(self, switch: _EventSwitch, target: Emit) -> None:
        self._switch, self._redirected_to, self._previous = switch, target, switch._target

    def __enter__(self) -> None:
        self._switch._target = self._redirected_to

    def __exit__(self, *exc: object) -> None:
        self._switch._target = self._previous


def message_with_files(content: str | Message, files: Sequence[Part]) -> Message:
    """Return the message with the files appended to its text."""
    message = Message(role="user", parts=(Text(text=content),)) if isinstance(content, str) else content
    return Message(role=message.role, parts=(*message.parts, *files))


@asynccontextmanager
async def session_from_context(
    context: RunContext,
    options: RunOptions,
    *,
    on_event: Emit,
    asker: UserDialog,
    screen: SignInDialog,
    origin: Origin = "ask",
) -> AsyncIterator[ChatSession]:
    """Open a session in an existing context; used by the command line. Raises as ``open_session`` does."""
    switch = _EventSwitch(on_event)
    async with open_chat(context, options, emit=switch, asker=asker, screen=screen, origin=origin) as chat:
        try:
            yield ChatSession(chat, switch)
        finally:
            switch.closed = True


def _load_context(
    config: str | Path | None, environ: Mapping[str, str] | None, on_event: Callable[[Event], None]
) -> RunContext:
    environ = dict(os.environ if environ is None else environ)
    paths = default_paths(environ)
    path = Path(config) if config is not None else paths.config
    if str(path) != "-":
        paths = replace(paths, config=path)
    user_config = load_config(path, must_exist=config is not None or bool(environ.get("MCPCHAT_CONFIG")))
    merged_config, notices = project_file.merge_project_file(user_config, path, paths)
    for notice in notices:
        on_event(Notice(level="warning", text=notice))
    return RunContext(config=merged_config, environ=environ, paths=paths)


def _sign_in_screen(on_event: Callable[[Event], None]) -> SignInDialog:
    return PlainSignIn(io.StringIO(), lambda text: on_event(Notice(level="info", text=text)))


@asynccontextmanager
async def open_session(
    *,
    config: str | Path | None = None,
    model: str | None = None,
    agent: str | None = None,
    allow: Sequence[str] = (),
    deny: Sequence[str] = (),
    yes: bool = False,
    max_steps: int | None = None,
    max_tokens: int | None = None,
    max_cost: float | None = None,
    schema: Mapping[str, Any] | None = None,
    thread: str | None = None,
    save: bool = False,
    asker: UserDialog | None = None,
    on_event: Callable[[Event], None] = lambda event: None,
    environ: Mapping[str, str] | None = None,
) -> AsyncIterator[ChatSession]:
    """Open a conversation over the servers of the config, with the same rules as on the command line.

    Without ``config``, the user's config is read, and the folder's project file if it is trusted. ``allow``,
    ``deny``, ``yes``, ``max_steps``, ``max_tokens`` and ``max_cost`` (US dollars) are as the options of ``mcpchat
    ask``. If no rule decides on a call, ``asker`` is asked; without an ``asker`` the call is denied. ``schema`` is a
    JSON Schema that each answer must fit. ``thread`` continues a thread (an id or a title); with ``save`` the
    conversation is saved. ``on_event`` receives events outside of turns, such as a server that is down. At the end
    everything that was started is stopped.

    Raises ConfigError, UsageError, NoModelConfigured, StoreError.
    """
    context = _load_context(config, environ, on_event)
    options = RunOptions(
        model=model,
        agent=agent,
        allow=tuple(allow),
        deny=tuple(deny),
        yes=yes,
        max_steps=max_steps,
        max_tokens=max_tokens,
        max_cost=max_cost,
        schema=_validate_schema(schema),
        thread=thread,
        save=save,
    )
    screen = _sign_in_screen(on_event)
    async with session_from_context(
        context, options, on_event=on_event, asker=asker or NonInteractiveDialog(), screen=screen, origin="api"
    ) as session:
        yield session


def _validate_schema(schema: Mapping[str, Any] | None) -> dict[str, Any] | None:
    if schema is None:
        return None
    if problem := find_schema_error(dict(schema)):
        raise UsageError(f"schema: {problem}")
    return dict(schema)


async def call_tool(
    name: str,
    arguments: Mapping[str, Any] | None = None,
    *,
    config: str | Path | None = None,
    agent: str | None = None,
    allow: Sequence[str] = (),
    deny: Sequence[str] = (),
    yes: bool = False,
    timeout: float | None = None,
    asker: UserDialog | None = None,
    on_event: Callable[[Event], None] = lambda event: None,
    environ: Mapping[str, str] | None = None,
) -> ToolResult:
    """Call the tool ``server.tool`` of the config's servers once, without a model; no other server is started.

    The parameters are those of ``open_session``; ``timeout`` is in seconds. A result with ``is_error`` is the tool's
    own failure. Raises UsageError, ConfigError, Denied, ServerError, SignInNeeded, LimitReached.
    """
    context = _load_context(config, environ, on_event)
    options = RunOptions(agent=agent, allow=tuple(allow), deny=tuple(deny), yes=yes)
    server = name.partition(".")[0]
    if server not in context.config.servers:
        raise UsageError(f"no server is named {server!r}; {suggest(server, context.config.servers)}")
    server_config = msgspec.structs.replace(context.config, servers={server: context.config.servers[server]})
    context = replace(context, config=server_config)
    asker = asker or NonInteractiveDialog()
    emit = RedactingEmitter(on_event, context.secrets)
    host = build_request_handler(context, asker, emit, yes=yes)
    auth = build_auth_service(context, asker, _sign_in_screen(on_event))
    async with open_hub(context, emit, host, auth=auth) as hub:
        gate = build_approval_gate(context, options, asker, hub, emit)
        caller = ToolCaller(context=context, hub=hub, gate=gate, asker=asker, warn=emit, origin="api")
        _, result = await caller.call(name, _fixed(arguments), timeout=timeout)
    return result


async def run_batch(
    requests: Iterable[Mapping[str, Any]],
    *,
    config: str | Path | None = None,
    model: str | None = None,
    agent: str | None = None,
    allow: Sequence[str] = (),
    deny: Sequence[str] = (),
    yes: bool = False,
    max_steps: int | None = None,
    max_tokens: int | None = None,
    max_cost: float | None = None,
    schema: Mapping[str, Any] | None = None,
    concurrency: int | None = None,
    workers: str | None = None,
    retries: int = 2,
    timeout: float | None = None,
    on_event: Callable[[Event], None] = lambda event: None,
    environ: Mapping[str, str] | None = None,
) -> AsyncGenerator[BatchResult, None]:
    """Run many requests over one set of servers; yields each result as it finishes.

    A request has the fields of a line of ``mcpchat batch``: ``prompt`` or ``messages``, and ``id``, ``agent``,
    ``model``, ``schema``, ``attach``. ``concurrency`` is how many run at a time: 8 by default. With ``workers``, the
    address of a Dask scheduler, they run on its workers, as many at a time as these take. ``retries`` is how often a
    transient failure is retried, ``timeout`` the seconds for one request; ``max_tokens`` and ``max_cost`` (US dollars)
    are for all together. A request that is not valid gives a result with an ``error``. If every request would fail, as
    with a wrong key or a used-up budget, the rest is not run, and the error is raised after the results.

    Raises ConfigError, UsageError, NoModelConfigured, ModelError, LimitReached, ServerError, SignInNeeded.
    """
    context = _load_context(config, environ, on_event)
    options = RunOptions(
        model=model,
        agent=agent,
        allow=tuple(allow),
        deny=tuple(deny),
        yes=yes,
        max_steps=max_steps,
        max_tokens=max_tokens,
        max_cost=max_cost,
        schema=_validate_schema(schema),
        track_cost=True,
        save=False,
    )
    results: asyncio.Queue[BatchResult | None] = asyncio.Queue()

    async def read() -> AsyncGenerator[PreparedRequest | BatchResult, None]:
        for number, request in enumerate(requests, 1):
            data = b""
            try:
                data = encode_json(request)
                yield parse_request(number, data)
            except UsageError as error:
                yield BatchResult(id=request_id(number, data), line=number, error=error_report(error))
            except (TypeError, ValueError, RecursionError) as error:
                problem = UsageError(f"the request is not JSON: {error}")
                yield BatchResult(id=request_id(number, data), line=number, error=error_report(problem))

    async with open_processor(
        context,
        options,
        workers=workers,
        retries=retries,
        timeout=timeout,
        emit=on_event,
        asker=NonInteractiveDialog(),
        screen=_sign_in_screen(on_event),
    ) as processor:
        batch = BatchRunner(processor, results.put_nowait, concurrency=concurrency)
        task = asyncio.create_task(batch.run(read()))
        task.add_done_callback(lambda done: results.put_nowait(None))
        try:
            while (result := await results.get()) is not None:
                yield result
            task.result()
        finally:
            task.cancel()
            await asyncio.wait({task})
    if batch.stop_reason is not None:
        raise batch.stop_reason


def _fixed(arguments: Mapping[str, Any] | None) -> Callable[[ToolSpec], Awaitable[Mapping[str, Any]]]:
    """A function that returns these arguments for any tool."""

    async def read_arguments(spec: ToolSpec) -> Mapping[str, Any]:
        return dict(arguments or {})

    return read_arguments
