"""A chat: a session with its model, its tools and its thread, all of which can change while it lasts."""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

from mcpchat.app import template_files
from mcpchat.app.agents import instructions, known_values, with_options
from mcpchat.app.build_session import MAX_STEPS, MAX_STEPS_IN_CHAT, build_session, turn_limits
from mcpchat.app.mcp import make_host, make_logins, offered_to, open_hub
from mcpchat.auth.service import Logins
from mcpchat.config.run import RunContext, RunOptions, get_agent, resolve_agent_name
from mcpchat.config.schema import AgentConfig
from mcpchat.core.events import Emit, Notice
from mcpchat.core.protocols import Asker, SignInScreen, ThreadStore, Toolbox
from mcpchat.core.threads import Node, Thread, Wanted
from mcpchat.engine.event_redaction import Discreet
from mcpchat.engine.session import Role, Session
from mcpchat.errors import McpChatError, StoreError, UsageError
from mcpchat.mcp.hub import McpHub
from mcpchat.models.selection import Models
from mcpchat.permissions.factory import make_gate, pinned
from mcpchat.threads import resume
from mcpchat.threads.resume import Begun

_RECENT = 2000  # threads that are offered to choose from


@dataclass(kw_only=True)
class Chat:
    """A session and what belongs to it. ``resumed``: it goes on with a thread that was kept."""

    session: Session
    hub: McpHub
    toolbox: Toolbox
    context: RunContext
    options: RunOptions
    models: Models
    logins: Logins
    asker: Asker
    emit: Emit
    store: ThreadStore | None
    agent: AgentConfig
    resumed: bool = False
    named: tuple[str | None, str | None] = (None, None)  # the agent and the model that the run names

    @property
    def tables(self) -> Sequence[str]:
        """The models that the config names."""
        return tuple(self.context.config.model.entries)

    async def switch(self, name: str) -> None:
        """Go on with another model. Raises NoModel, ConfigError."""
        self.session.switch(with_options(await self.models.choose(name), self.agent))

    async def login(self, name: str) -> None:
        """Have the person sign in, and the servers that wait for it start anew. Raises what can go wrong."""
        await self.logins.login(name)
        name = self.logins.resolve(name)
        here = {status.name for status in self.hub.status()}  # an agent may leave some out
        for server in self.logins.servers_of(name):
            if server in here:
                await self.hub.restart(server)

    def login_names(self) -> Sequence[str]:
        """What can be signed in to."""
        return self.logins.names()

    async def offered(self) -> Sequence[str]:
        """What the server in use lists as its models. Raises ModelError, NoModel, ConfigError."""
        return await self.models.offered()

    # Agents.

    @property
    def agents(self) -> dict[str, str]:
        """The agents of the config, each with what it is for."""
        return {name: agent.description for name, agent in self.context.config.agents.items()}

    async def switch_agent(self, name: str | None) -> None:
        """Go on with another agent: its model, its servers, its rules. Raises UsageError, ConfigError, NoModel."""
        self.named = name, self.named[1]
        await self._talk_to(name)

    async def _talk_to(self, name: str | None) -> None:
        agent = get_agent(self.context.config, name)
        role = make_role(self.context, replace(self.options, agent=name), self.asker, self.toolbox, self.emit)
        usual = self.session.model.chosen
        if agent.model is None and self.agent.model is not None and usual == self.agent.model:
            usual = ""  # that was the other agent's
        model = with_options(await self.models.choose(agent.model or usual or self.options.model), agent)
        await self.hub.choose(agent.servers, offered_to(agent))
        self.agent = agent
        self.session.switch_agent(role, model)

    # Threads.

    def recent(self) -> Sequence[Thread]:
        """The threads to choose from, the latest first. Raises StoreError, UsageError where nothing is kept."""
        return self._kept().recent(Wanted(), _RECENT)

    async def resume(self, name: str) -> None:
        """Go on with a thread, by its id or title, with the agent and the model that it had. Raises UsageError."""
        store = self._kept()
        self.session.transcript.keep()
        await self._go_on(resume.opened(store, *resume.found(store, name)))

    async def _go_on(self, begun: Begun) -> None:
        """With its own agent and model, unless the run names others; where they are no more, with the usual ones."""
        self.session.resume(begun.thread, begun.nodes, begun.head)
        agent, model = self.named
        wanted = begun.agent if agent is None else agent
        try:
            if wanted is not None and wanted != self.session.role.name:
                await self._talk_to(wanted or None)
            if (
                model is None
                and begun.model not in {"", self.session.model.chosen}
                and not (agent and self.agent.model)
            ):
                await self.switch(begun.model)
        except McpChatError as error:
            if self.session.role.name != resolve_agent_name(self.context.config, agent):
                await self._talk_to(agent)
            self._note(f"{error.message}; it goes on with {self._whom()}")

    def _whom(self) -> str:
        role = self.session.role.name
        return f"the agent {role}, on {self.session.model.name}" if role else self.session.model.name

    def nodes(self) -> Sequence[Node]:
        """All messages of the thread, of whatever branch. Raises UsageError, StoreError."""
        return self._kept().nodes(self.session.transcript.thread)

    def go_to(self, number: int) -> None:
        """Go on after this message of the thread, whatever branch it is on. Raises UsageError, StoreError."""
        transcript = self.session.transcript
        transcript.keep()
        begun = resume.opened(self._kept(), transcript.thread, number)
        self.session.resume(begun.thread, begun.nodes, begun.head)
        transcript.stay()

    def fork(self, title: str = "") -> Thread:
        """Go on in a new thread that begins as this one. Raises UsageError, StoreError."""
        store, transcript = self._kept(), self.session.transcript
        transcript.keep()
        if not transcript.numbers or transcript.unsaved:
            raise UsageError("what was said is not saved yet" if transcript.unsaved else "nothing was said yet")
        made = resume.fork(store, transcript.thread, transcript.numbers[-1], title)
        self.session.resume(made, store.nodes(made))
        return made

    def rename(self, title: str) -> None:
        """Give the thread another title. Raises UsageError, StoreError."""
        self._kept()
        self.session.transcript.rename(title)

    def _kept(self) -> ThreadStore:
        if self.store is None:
            raise UsageError("threads are not saved here", hint="without --no-save, and with [threads] save, they are")
        return self.store

    # Templates.

    def templates(self) -> Sequence[str]:
        """The names of the person's templates."""
        return tuple(template_files.names(self.context))

    def template(self, name: str) -> str:
        """The text of a template. Raises UsageError."""
        return template_files.read(self.context, name)

    def values(self) -> dict[str, str]:
        """What templates can name without being told."""
        return known_values(self.context, agent=self.session.role.name)

    async def name_thread(self) -> None:
        """Have the model name the thread, where the config wants that and nobody has."""
        if self.context.config.threads.titles == "model" and self.store is not None:
            await self.session.name_thread()

    def _note(self, text: str) -> None:
        self.emit(Notice(level="warning", text=text))


def make_role(context: RunContext, options: RunOptions, asker: Asker, toolbox: Toolbox, emit: Emit) -> Role:
    """The agent that a run talks to. Raises UsageError, ConfigError."""
    return Role(
        name=resolve_agent_name(context.config, options.agent),
        instructions=instructions(context, options.agent),
        gate=make_gate(context, options, asker, toolbox, emit),
    )


@asynccontextmanager
async def open_chat(
    context: RunContext, options: RunOptions, *, emit: Emit, asker: Asker, screen: SignInScreen, watch: bool = False
) -> AsyncIterator[Chat]:
    """A session, ready to send; all that it started is stopped at the end. ``watch`` is for one that lasts.

    The order is for speed: servers whose tools are unknown are started first and boot while the model's SDK is
    imported here.
    """
    emit = Discreet(emit, context.secrets)

    def warn(text: str) -> None:
        emit(Notice(level="warning", text=text))

    store, begun = await _thread(context, options, warn)
    named = options.agent, options.model
    try:
        if begun is not None:
            options = _as_before(context, options, begun, warn)
        async with _opened(context, options, store, emit=emit, asker=asker, screen=screen, watch=watch) as chat:
            chat.named = named
            if begun is not None:
                chat.session.resume(begun.thread, begun.nodes, begun.head)
                chat.resumed = True
                if options.title:
                    chat.session.transcript.rename(options.title)
            yield chat
            chat.session.transcript.keep()
            if left := chat.session.transcript.unsaved:
                warn(f"{left} messages of this conversation could not be saved")
    finally:
        if store is not None:
            store.close()


async def _thread(
    context: RunContext, options: RunOptions, warn: Callable[[str], None]
) -> tuple[ThreadStore | None, Begun | None]:
    """The store, None where nothing is kept; and the thread that is gone on with."""
    wanted = options.thread is not None or options.continue_latest
    if options.thread is not None and options.continue_latest:
        raise UsageError("--continue is the latest thread, --thread another: one or the other")
    if not resume.keeps(context, options) and not wanted:
        return None, None
    try:
        store = await resume.open_store(context, warn)
        return store, resume.begun(store, options)
    except StoreError as error:
        if wanted:
            raise
        warn(f"this conversation is not being saved: {error.message}" + (f"; {error.hint}" if error.hint else ""))
        return None, None


def _as_before(context: RunContext, options: RunOptions, begun: Begun, warn: Callable[[str], None]) -> RunOptions:
    """What the run asks for, and where it says nothing, what the thread had."""
    named = options.agent is not None
    if not named and begun.agent:
        if begun.agent in context.config.agents:
            options = replace(options, agent=begun.agent)
        else:
            warn(f"the agent {begun.agent!r} of this thread is not in the config any more")
    usual = get_agent(context.config, options.agent).model
    if options.model is None and begun.model not in {"", usual} and not (named and usual):
        options = replace(options, model=begun.model)
    return options


@asynccontextmanager
async def _opened(
    context: RunContext,
    options: RunOptions,
    store: ThreadStore | None,
    *,
    emit: Emit,
    asker: Asker,
    screen: SignInScreen,
    watch: bool,
) -> AsyncIterator[Chat]:
    agent = get_agent(context.config, options.agent)
    kept = store if resume.keeps(context, options) else None
    sessions: list[Session] = []  # the one to come: a server may ask for its model
    host = make_host(
        context,
        asker,
        emit,
        yes=options.yes,
        model=lambda: sessions[0].model if sessions else None,
        charge=lambda usage: sessions[0].charge(usage),
    )
    logins = make_logins(context, asker, screen, in_chat=watch)
    async with open_hub(context, emit, host, logins=logins, agent=agent, refresh=options.refresh, watch=watch) as hub:
        limits = turn_limits(context.config, options, MAX_STEPS_IN_CHAT if watch else MAX_STEPS)
        models = Models(
            context, priced=options.track_cost, must_be_priced=limits.max_dollars is not None, at_ease=watch
        )
        model = with_options(await models.choose(options.model or agent.model), agent)
        agreed = pinned(context, hub, asker, emit)
        session = build_session(
            context,
            model=model,
            toolbox=agreed,
            agent=make_role(context, options, asker, agreed, emit),
            emit=emit,
            limits=limits,
            schema=dict(options.schema) if options.schema is not None else None,
            title=options.title,
            store=store,
            save=kept is not None,
        )
        sessions.append(session)
        yield Chat(
            session=session,
            hub=hub,
            toolbox=agreed,
            context=context,
            options=options,
            models=models,
            logins=logins,
            asker=asker,
            emit=emit,
            store=kept,
            agent=agent,
        )
