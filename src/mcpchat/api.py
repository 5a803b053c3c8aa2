"""mcpchat as a library: a session from a config, whose ``send`` yields events.

What is here is what ``from mcpchat import ...`` gives. ``ask --input-format jsonl`` is made of the same.
"""

import asyncio
import io
import os
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from pathlib import Path

from mcpchat import errors as errors
from mcpchat.app.attachments import read_attachments
from mcpchat.app.chat import Chat, open_chat
from mcpchat.config import project_file
from mcpchat.config.load import load_config
from mcpchat.config.run import Setup, Wishes, default_paths
from mcpchat.core import events
from mcpchat.core.elicitation import Answer, Form, Visit
from mcpchat.core.events import Emit, Event, Notice, TurnFinished
from mcpchat.core.messages import Audio, File, Image, Link, Message, Part, Text, ToolCall, ToolResult, Usage
from mcpchat.core.policy import Decision, Question
from mcpchat.core.protocols import Asker, SignInScreen
from mcpchat.core.report import CallReport, Collector, Fault, Report, fault
from mcpchat.engine import outcomes
from mcpchat.errors import McpChatError, UsageError
from mcpchat.ui.prompts.sign_in import PlainScreen
from mcpchat.ui.render.plain import NobodyToAsk

__all__ = [
    "Answer", "Asker", "Audio", "CallReport", "ChatSession", "Decision", "Event", "Fault", "File", "Form", "Image",
    "Link", "McpChatError", "Message", "Question", "Report", "Text", "ToolCall", "ToolResult", "Usage", "Visit",
    "errors", "events", "open_session",
]  # fmt: skip


class ChatSession:
    """One conversation with a model and its tools. Made by ``open_session``.

    One turn runs at a time: a ``send`` waits for the one before.
    """

    def __init__(self, chat: Chat, sink: "_Sink") -> None:
        self.chat = chat
        self._sink = sink
        self._one_turn = asyncio.Lock()
        self._turn: asyncio.Task[TurnFinished] | None = None

    @property
    def history(self) -> Sequence[Message]:
        """The messages so far."""
        return self.chat.session.history

    @property
    def model(self) -> str:
        return self.chat.session.model.name

    @property
    def agent(self) -> str:
        """The agent's name, empty where there is none in particular."""
        return self.chat.session.role.name

    @property
    def thread_id(self) -> str:
        return self.chat.session.transcript.thread.id

    async def send(self, said: str | Message, *, attach: Sequence[str | Path] = ()) -> AsyncGenerator[Event, None]:
        """Say this, with the files; yields the events of the turn, of which the last is turn.finished or turn.failed.

        Closing the generator (``aclosing`` does) cancels the turn, and what it still has to say goes to the listener
        of the session; the history stays valid. Raises ModelError after turn.failed, and UsageError for what cannot be
        attached.
        """
        message = said_with(said, read_attachments([str(name) for name in attach]))
        async with self._one_turn:
            if self._sink.closed:
                raise UsageError("the session is closed", hint="send within the block of open_session")
            heard: asyncio.Queue[Event | None] = asyncio.Queue()
            turn = self._turn = asyncio.create_task(self.chat.session.send(message))
            turn.add_done_callback(lambda done: heard.put_nowait(None))
            with self._sink.lent(heard.put_nowait):
                try:
                    while (event := await heard.get()) is not None:
                        yield event
                    if not turn.cancelled():
                        turn.result()
                finally:
                    turn.cancel()
                    await asyncio.wait({turn})
                    while not heard.empty():
                        if (event := heard.get_nowait()) is not None:
                            self._sink.listener(event)

    def cancel(self) -> None:
        """End the turn that runs, if one does: its ``send`` yields how it ends."""
        if self._turn is not None:
            asyncio.get_running_loop().call_soon(self._turn.cancel)  # after its first step, which it tells of

    async def ask(self, said: str | Message, *, attach: Sequence[str | Path] = ()) -> Report:
        """Say this and wait for the answer. Where that did not end well, the report has an ``error``.

        Raises UsageError for what cannot be attached.
        """
        collector, trouble = Collector(), None
        heard = outcomes.Denials(collector)
        try:
            async with aclosing(self.send(said, attach=attach)) as turn:
                async for event in turn:
                    heard(event)
                    if isinstance(event, TurnFinished):
                        trouble = outcomes.verdict(event, heard.denied, self.chat.session.run_total)
        except UsageError:
            raise
        except McpChatError as error:
            trouble = error
        if trouble is not None:
            secrets = self.chat.setup.secrets
            trouble.message, trouble.hint = secrets.redact(trouble.message), secrets.redact(trouble.hint)
            collector.report.error = fault(trouble)
        return collector.report

    async def switch_model(self, name: str) -> None:
        """Go on with another model. Raises NoModel, ConfigError, UsageError."""
        await self.chat.switch(name)

    async def switch_agent(self, name: str) -> None:
        """Go on with another agent. Raises UsageError, ConfigError, NoModel."""
        await self.chat.switch_agent(name)


class _Sink:
    """Where events go: to the listener of the session, and while a turn runs to whoever sent it."""

    def __init__(self, listener: Emit) -> None:
        self.listener = listener
        self.closed = False
        self._target = listener

    def __call__(self, event: Event) -> None:
        self._target(event)

    def lent(self, to: Emit) -> "_Lent":
        return _Lent(self, to)


class _Lent:
    def __init__(self, sink: _Sink, to: Emit) -> None:
        self._sink, self._to, self._before = sink, to, sink._target

    def __enter__(self) -> None:
        self._sink._target = self._to

    def __exit__(self, *exc: object) -> None:
        self._sink._target = self._before


def said_with(said: str | Message, files: Sequence[Part]) -> Message:
    """The message, with the files after its words."""
    message = Message(role="user", parts=(Text(text=said),)) if isinstance(said, str) else said
    return Message(role=message.role, parts=(*message.parts, *files))


@asynccontextmanager
async def session_of(
    setup: Setup, wishes: Wishes, *, on_event: Emit, asker: Asker, screen: SignInScreen
) -> AsyncIterator[ChatSession]:
    """A session of a setup that is made already: the command line's way in."""
    sink = _Sink(on_event)
    async with open_chat(setup, wishes, emit=sink, asker=asker, screen=screen) as chat:
        try:
            yield ChatSession(chat, sink)
        finally:
            sink.closed = True


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
    thread: str | None = None,
    save: bool = False,
    asker: Asker | None = None,
    on_event: Callable[[Event], None] = lambda event: None,
    environ: Mapping[str, str] | None = None,
) -> AsyncIterator[ChatSession]:
    """A conversation over the servers of the config, with the same rules as on the command line.

    Without ``config`` the user's own is read, with the folder's file where that is trusted. ``allow``, ``deny`` and
    ``yes`` are as the options of ``mcpchat ask``; what still asks is put to ``asker``, and denied where there is none.
    ``thread`` goes on with one (an id or a title); with ``save`` the conversation is kept. ``on_event`` hears what
    happens outside of turns, such as a server that is down. Everything that was started is stopped at the end.

    Raises ConfigError, UsageError, NoModel, StoreError.
    """
    environ = dict(os.environ if environ is None else environ)
    paths = default_paths(environ)
    named = Path(config) if config is not None else paths.config
    user = load_config(named, must_exist=config is not None or bool(environ.get("MCPCHAT_CONFIG")))
    settings, told = project_file.with_project(user, named, paths)
    for line in told:
        on_event(Notice(level="warning", text=line))
    setup = Setup(config=settings, environ=environ, paths=paths)
    wishes = Wishes(
        model=model,
        agent=agent,
        allow=tuple(allow),
        deny=tuple(deny),
        yes=yes,
        max_steps=max_steps,
        max_tokens=max_tokens,
        max_cost=max_cost,
        thread=thread,
        save=save,
    )
    screen = PlainScreen(io.StringIO(), lambda text: on_event(Notice(level="info", text=text)))
    async with session_of(setup, wishes, on_event=on_event, asker=asker or NobodyToAsk(), screen=screen) as session:
        yield session
