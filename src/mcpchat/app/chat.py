"""A chat: a session with its model, agent, tools and thread, all of which can be switched while it is open."""

import asyncio
import shlex
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field, replace

import msgspec

from mcpchat.app import template_files
from mcpchat.app.agents import apply_agent_options, render_instructions, template_variables
from mcpchat.app.build_session import MAX_CHAT_STEPS, MAX_STEPS, build_session, tool_search_settings, turn_limits
from mcpchat.app.call_recorder import record_calls
from mcpchat.app.config_changes import ConfigFiles, describe_changes
from mcpchat.app.mcp import build_auth_service, build_request_handler, open_hub, tool_filter, tool_index
from mcpchat.app.server_entries import check_program, find_registry_name, parse_entries
from mcpchat.app.server_tasks import late_result
from mcpchat.auth.service import AuthService
from mcpchat.config import edit
from mcpchat.config.project_file import NO_PROJECT_FILE, find_project, is_trusted
from mcpchat.config.run import RunContext, RunOptions, get_agent, resolve_agent_name
from mcpchat.config.schema import AgentConfig, Config
from mcpchat.config.validation import find_literal_secrets, unmatched_pattern
from mcpchat.core.call_record import Origin
from mcpchat.core.events import Emit, Notice
from mcpchat.core.messages import Message, result_text
from mcpchat.core.patterns import glob_matches
from mcpchat.core.protocols import SelectedModel, SignInDialog, ThreadStore, Toolbox, UserDialog
from mcpchat.core.server_task import ServerTask, TaskEnded
from mcpchat.core.threads import Thread, ThreadFilter, ThreadMessage
from mcpchat.core.tools import ToolSpec
from mcpchat.engine.session import ActiveAgent, Session
from mcpchat.engine.tool_search import MAX_RESULTS
from mcpchat.errors import McpChatError, StoreError, UsageError
from mcpchat.mcp.hub import McpHub
from mcpchat.models.selection import ModelSelector
from mcpchat.permissions.factory import approval_store, build_approval_gate, pinned_on, pinned_toolbox
from mcpchat.permissions.pinned_toolbox import PinnedToolbox
from mcpchat.threads import resume
from mcpchat.threads.resume import ResumePoint

_MAX_RECENT_THREADS = 2000  # threads offered in the picker


@dataclass(kw_only=True)
class ChatRuntime:
    """A session with its servers, model selection and thread store. ``is_resumed`` is set for a resumed thread."""

    session: Session
    hub: McpHub
    toolbox: PinnedToolbox
    context: RunContext
    options: RunOptions
    models: ModelSelector
    auth: AuthService
    asker: UserDialog
    emit: Emit
    store: ThreadStore | None
    agent: AgentConfig
    config_files: ConfigFiles
    ended_tasks: asyncio.Queue[TaskEnded]  # of those that were put aside
    load_config: Callable[[], Config] | None = None  # loads the config again; None if it cannot change
    is_resumed: bool = False
    explicit_choice: tuple[str | None, str | None] = (None, None)  # the explicitly chosen agent and model
    waiting_results: list[TaskEnded] = field(default_factory=list)  # of tasks of other conversations

    @property
    def configured_models(self) -> Sequence[str]:
        """The labels of the models in the config."""
        return tuple(self.context.config.model.entries)

    async def switch_model(self, name: str) -> None:
        """Switch to another model. Raises NoModelConfigured, ConfigError or UsageError if it cannot be used."""
        self.session.switch_model(apply_agent_options(await self.models.select(name), self.agent))

    async def login(self, name: str) -> None:
        """Sign in to an account or server, then restart the servers that use it.

        Raises UsageError for an unknown name, SignInNeeded if the sign-in fails, ServerError if a server does not
        restart.
        """
        await self.auth.login(name)
        name = self.auth.resolve_name(name)
        active_servers = {status.name for status in self.hub.status()}  # an agent may leave some out
        for server in self.auth.servers_using(name):
            if server in active_servers:
                await self.hub.restart(server)

    def login_names(self) -> Sequence[str]:
        """The names that ``login`` takes."""
        return self.auth.list_names()

    async def list_models(self) -> Sequence[str]:
        """List the models of the current model server. Raises ModelError, NoModelConfigured, ConfigError."""
        return await self.models.list_server_models()

    # Tasks.

    async def next_ended_task(self) -> TaskEnded:
        """Wait for the next task that was put aside to end."""
        return await self.ended_tasks.get()

    def take_late_result(self, ended: TaskEnded) -> Message | None:
        """The message with the result of a task that was put aside.

        None if its call is not in this conversation: another thread may be open, or the call was taken back. The result
        then waits until it is.
        """
        if not self._is_about_this_conversation(ended):
            self.waiting_results.append(ended)
            return None
        return late_result(ended, self.context.config.limits.max_result)

    def take_waiting_result(self) -> TaskEnded | None:
        """A result that has waited for the conversation that is open now, if there is one."""
        for ended in self.waiting_results:
            if self._is_about_this_conversation(ended):
                self.waiting_results.remove(ended)
                return ended
        return None

    def _is_about_this_conversation(self, ended: TaskEnded) -> bool:
        # Ids of calls are unique in a conversation only. Ids of tasks are ours, and in the result of such a call.
        return any(
            result.call_id == ended.result.call_id and ended.task.id in result_text(result)
            for message in self.session.history
            for result in message.results
        )

    def describe_open_tasks(self) -> Sequence[str]:
        """A line about each task that goes on when the chat ends, and each result that is still waiting."""
        waiting = [
            f"the result of task {ended.task.id} of {ended.task.name} was not used" for ended in self.waiting_results
        ]
        running = [
            f"task {task.id} of {task.name} "
            + ("ends with its server" if ends_with_us else self._describe_lasting_task(task))
            for task, ends_with_us in self.hub.background_tasks()
        ]
        return waiting + running

    def _describe_lasting_task(self, task: ServerTask) -> str:
        if not resume.saves_threads(self.context, self.options):
            return "goes on at its server, and is not remembered"
        return f"goes on: mcpchat tasks {task.id} --wait"

    # Agents.

    @property
    def agents(self) -> dict[str, str]:
        """The names of the configured agents with their descriptions."""
        return {name: agent.description for name, agent in self.context.config.agents.items()}

    async def switch_agent(self, name: str | None) -> None:
        """Switch to another agent, with its model, servers and rules.

        Raises UsageError if it is unknown, ConfigError if its instructions cannot be read, NoModelConfigured.
        """
        self.explicit_choice = name, self.explicit_choice[1]
        await self._apply_agent(name)

    async def _apply_agent(self, name: str | None) -> None:
        agent = get_agent(self.context.config, name)
        active_agent = build_agent(self.context, replace(self.options, agent=name), self.asker, self.toolbox, self.emit)
        selector = self.session.model.selector
        if agent.model is None and self.agent.model is not None and selector == self.agent.model:
            selector = ""  # the model came from the previous agent
        model = apply_agent_options(await self.models.select(agent.model or selector or self.options.model), agent)
        await self.hub.select_servers(agent.servers, tool_filter(agent))
        self.agent = agent
        self.session.switch_agent(active_agent, model)

    # The config.

    async def use_changed_config(self) -> None:
        """If a file of the config has changed, use its servers, agents and rules from now on, and say so in one line.

        A config that cannot be used changes nothing; a warning says where it is wrong.
        """
        if self.load_config is None or not self.config_files.have_changed():
            return
        old = self.context.config
        try:
            new = self._keep_agent(self.load_config())
            self.context.use_config(new)
            agent, active_agent = self._rebuild_agent()
        except McpChatError as error:
            self.context.use_config(old)
            self._warn(f"{error.message}; the config from before stays in use")
            return
        if not (changes := describe_changes(old, new)):
            return
        await self.hub.update_servers(new.servers)
        await self.hub.select_servers(agent.servers, tool_filter(agent))
        replaced = {name for name in old.servers if new.servers.get(name) != old.servers[name]}
        self.toolbox.forget(replaced)
        self.session.agent.gate.revoke_session_grants(lambda tool: tool.partition(".")[0] in replaced)
        self.agent = agent
        self.session.switch_agent(active_agent, await self._model_of_changed_config(old))
        limits = turn_limits(new, self.options, MAX_CHAT_STEPS)
        self.session.use_settings(limits, tool_search_settings(new))
        self.emit(Notice(level="info", text=f"{self.context.paths.config.name} changed: {changes}"))

    async def _model_of_changed_config(self, old: Config) -> SelectedModel:
        """The model of the new config if it names another one, unless the user or the agent chose the model."""
        current = self.session.model
        chosen = self.agent.model or self.explicit_choice[1] or (old.model.name or current.name) != current.name
        if chosen or self.context.config.model == old.model:
            return current
        try:
            return apply_agent_options(await self.models.select(None), self.agent)
        except McpChatError as error:
            self._warn(f"{error.message}; the model from before stays in use")
            return current

    def _keep_agent(self, config: Config) -> Config:
        """The config; if it lacks the agent of this chat, with that agent as it was: its rules must not go with it."""
        name = self.session.agent.name
        if not name or name in config.agents or name not in self.context.config.agents:
            return config
        self._warn(f"the agent {name} is no longer in the config; this chat goes on with it as it was")
        return msgspec.structs.replace(config, agents={**config.agents, name: self.context.config.agents[name]})

    def _rebuild_agent(self) -> tuple[AgentConfig, ActiveAgent]:
        """The current agent by the config as it is now, with the answers that the user gave for this session.

        Rules of the command line about servers that are gone do not count.
        """
        name, servers = self.session.agent.name or None, self.context.config.servers
        allow, deny = (
            tuple(pattern for pattern in patterns if not unmatched_pattern(pattern, servers))
            for patterns in (self.options.allow, self.options.deny)
        )
        options = replace(self.options, agent=name, allow=allow, deny=deny)
        active_agent = build_agent(self.context, options, self.asker, self.toolbox, self.emit)
        gate = self.session.agent.gate
        gate.policy = active_agent.gate.policy
        return get_agent(self.context.config, name), replace(active_agent, gate=gate)

    async def add_server(self, words: Sequence[str]) -> Sequence[str]:
        """Add the servers that the words name to the config file, and use them. Returns their names.

        Raises UsageError if the words name none that can be added, ConfigError if the file cannot be written.
        """
        name, *target = words
        if find_registry_name(name, target, None):
            raise UsageError(
                "a server of the registry asks questions", hint=f"in a shell: mcpchat servers add {' '.join(words)}"
            )
        entries, notices = parse_entries(name, target, None)
        for notice in notices:
            self._warn(notice)
        for entry in entries.values():
            check_program(entry, None, hint="in a shell, mcpchat servers add --no-check adds it anyway")
        if secrets := find_literal_secrets(entries):
            words_typed = shlex.join(["mcpchat", "servers", "add", *words])
            hint = f"in a shell, {words_typed} offers to move it into the keyring"
            raise UsageError(f"{', '.join(secrets)}: a secret in plain text", hint=hint)

        def add(text: str) -> str:
            for name, entry in entries.items():
                text = edit.add_server(text, name, entry)
            return text

        await self._edit_config(add)
        return list(entries)

    async def remove_server(self, name: str) -> None:
        """Remove a server from the config file, and stop it. Raises UsageError, ConfigError."""
        await self._edit_config(lambda text: edit.remove_server(text, name))

    async def _edit_config(self, change: Callable[[str], str]) -> None:
        if self.load_config is None:
            raise UsageError("the config of this chat comes from no file that can be changed")
        edit.update(self.context.paths.config, change)
        await self.use_changed_config()

    # Threads.

    def recent_threads(self) -> Sequence[Thread]:
        """The threads to choose from, latest first. Raises StoreError, or UsageError if threads are not saved."""
        return self._require_store().recent(ThreadFilter(), _MAX_RECENT_THREADS)

    async def resume_thread(self, name: str) -> None:
        """Resume a thread by its id or title, with its last agent and model.

        Raises UsageError if it is not found, StoreError if it cannot be read.
        """
        store = self._require_store()
        self.session.transcript.flush()
        await self._continue_thread(resume.load_thread(store, *resume.find_thread(store, name)))

    async def _continue_thread(self, resume_point: ResumePoint) -> None:
        """Resume with the thread's agent and model, unless others were chosen explicitly.

        If they are no longer available, warns and continues with the default ones.
        """
        self.session.resume(resume_point.thread, resume_point.nodes, resume_point.head)
        agent, model = self.explicit_choice
        target_agent = resume_point.agent if agent is None else agent
        try:
            if target_agent is not None and target_agent != self.session.agent.name:
                await self._apply_agent(target_agent or None)
            if (
                model is None
                and resume_point.model not in {"", self.session.model.selector}
                and not (agent and self.agent.model)
            ):
                await self.switch_model(resume_point.model)
        except McpChatError as error:
            if self.session.agent.name != resolve_agent_name(self.context.config, agent):
                await self._apply_agent(agent)
            self._warn(f"{error.message}; continuing with {self._describe_agent()}")

    def _describe_agent(self) -> str:
        agent = self.session.agent.name
        return f"agent {agent}, model {self.session.model.name}" if agent else self.session.model.name

    def thread_messages(self) -> Sequence[ThreadMessage]:
        """All messages of the thread, on all branches. Raises StoreError, or UsageError if threads are not saved."""
        return self._require_store().nodes(self.session.transcript.thread)

    def checkout(self, number: int) -> None:
        """Continue after this message, on any branch of the thread.

        Raises UsageError if there is no such message or threads are not saved, StoreError.
        """
        transcript = self.session.transcript
        transcript.flush()
        resume_point = resume.load_thread(self._require_store(), transcript.thread, number)
        self.session.resume(resume_point.thread, resume_point.nodes, resume_point.head)
        transcript.make_current()

    def fork_thread(self, title: str = "") -> Thread:
        """Continue in a new thread that begins with the messages of this one.

        Raises UsageError if there are no saved messages yet, StoreError.
        """
        store, transcript = self._require_store(), self.session.transcript
        transcript.flush()
        if not transcript.numbers or transcript.unsaved_count:
            raise UsageError(
                "the conversation is not saved yet"
                if transcript.unsaved_count
                else "the conversation has no messages yet"
            )
        thread = resume.fork(store, transcript.thread, transcript.numbers[-1], title)
        self.session.resume(thread, store.nodes(thread))
        return thread

    def rename_thread(self, title: str) -> None:
        """Change the title of the thread. Raises StoreError, or UsageError if threads are not saved."""
        self._require_store()
        self.session.transcript.rename(title)

    def _require_store(self) -> ThreadStore:
        if self.store is None:
            raise UsageError("threads are not saved", hint="leave out --no-save, and set save = true in [threads]")
        return self.store

    # Templates.

    def template_names(self) -> Sequence[str]:
        """The names of the user's prompt templates."""
        return tuple(template_files.find_templates(self.context))

    def read_template(self, name: str) -> str:
        """The text of a template. Raises UsageError if it does not exist or cannot be read."""
        return template_files.read_template(self.context, name)

    def template_variables(self) -> dict[str, str]:
        """The built-in variables of templates."""
        return template_variables(self.context, agent=self.session.agent.name)

    async def name_thread(self) -> None:
        """Let the model title the thread, if the config says so and the user has not."""
        if self.context.config.threads.titles == "model" and self.store is not None:
            await self.session.name_thread()

    # Approvals and trust.

    def list_approvals(self) -> Sequence[tuple[str, str]]:
        """The tools that the user allowed for this session or always, each with since when. Raises StoreError."""
        saved = approval_store(self.context).read_all()
        session = [(name, "for this session") for name in self.session.agent.gate.session_grants]
        return [*session, *((approval.tool, f"always, since {approval.date}") for approval in saved)]

    def revoke_approvals(self, glob: str) -> Sequence[str]:
        """Ask again about the tools that match the glob. Returns their names. Raises StoreError."""
        store = approval_store(self.context)
        saved = {approval for approval in store.read_all() if glob_matches(glob, approval.tool)}
        if saved:
            store.revoke(saved)
        session = self.session.agent.gate.revoke_session_grants(lambda name: glob_matches(glob, name))
        return sorted({*session, *(approval.tool for approval in saved)})

    def pinned_on(self, spec: ToolSpec) -> str:
        """Since when the tool's definition is pinned, YYYY-MM-DD; empty if it is not, or not known."""
        return pinned_on(self.context, spec)

    async def search_tools(self, words: str) -> Sequence[ToolSpec]:
        """The tools on offer that the words are about, the best first."""
        tools, index = await self.toolbox.list_tools(), tool_index(self.context, self.emit)
        return await index.search([words], tools, self.toolbox.instructions(), MAX_RESULTS)

    def describe_trust(self) -> str:
        """Whether there is a project file for this folder, and whether it is in use."""
        project = find_project(exclude=self.context.paths.config)
        if project is None:
            return NO_PROJECT_FILE
        if is_trusted(project, self.context.paths):
            return f"{project.label} is trusted and in use; mcpchat trust revoke ends that"
        return f"{project.label} is not trusted, so nothing of it is used; mcpchat trust shows it and asks"

    def _warn(self, text: str) -> None:
        self.emit(Notice(level="warning", text=text))


def build_agent(
    context: RunContext, options: RunOptions, asker: UserDialog, toolbox: Toolbox, emit: Emit
) -> ActiveAgent:
    """Build the run's agent: its name, instructions and approval gate.

    Raises UsageError if the agent or a rule of the run is not valid, ConfigError if its instructions cannot be read.
    """
    return ActiveAgent(
        name=resolve_agent_name(context.config, options.agent),
        instructions=render_instructions(context, options.agent),
        gate=build_approval_gate(context, options, asker, toolbox, emit),
        always=get_agent(context.config, options.agent).always,
    )


@asynccontextmanager
async def open_chat(
    context: RunContext,
    options: RunOptions,
    *,
    emit: Emit,
    asker: UserDialog,
    screen: SignInDialog,
    watch: bool = False,
    origin: Origin = "ask",
    load_config: Callable[[], Config] | None = None,
) -> AsyncIterator[ChatRuntime]:
    """Open a chat that is ready to send; everything that it started is stopped at the end.

    ``watch`` is for an interactive chat. ``origin`` is what the log of calls says. ``load_config`` loads the config
    again if a file has changed. The order is for speed: servers whose tools are unknown are started first and boot
    while the model's SDK is imported.

    Raises UsageError, ConfigError or NoModelConfigured if the options or the config are not valid, and StoreError if
    the thread to resume cannot be read.
    """
    emit = record_calls(context, emit, origin, save=options.save)

    def warn(text: str) -> None:
        emit(Notice(level="warning", text=text))

    store, resume_point = await _open_thread(context, options, warn)
    explicit_choice = options.agent, options.model
    try:
        if resume_point is not None:
            options = _inherit_thread_choices(context, options, resume_point, warn)
        async with _assemble(context, options, store, emit=emit, asker=asker, screen=screen, watch=watch) as chat:
            chat.explicit_choice, chat.load_config = explicit_choice, load_config
            if resume_point is not None:
                chat.session.resume(resume_point.thread, resume_point.nodes, resume_point.head)
                chat.is_resumed = True
                if options.title:
                    chat.session.transcript.rename(options.title)
            yield chat
            chat.session.transcript.flush()
            if unsaved_count := chat.session.transcript.unsaved_count:
                warn(f"{unsaved_count} messages of this conversation could not be saved")
    finally:
        if store is not None:
            store.close()


async def _open_thread(
    context: RunContext, options: RunOptions, warn: Callable[[str], None]
) -> tuple[ThreadStore | None, ResumePoint | None]:
    """Open the store and find the thread to resume; None for each that is not used.

    Raises UsageError if the thread is not found, ConfigError if the store's address is not valid. StoreError is raised
    only if a thread has to be resumed; else it becomes a warning, and the conversation is not saved.
    """
    must_continue = options.thread is not None or options.continue_latest
    if options.thread is not None and options.continue_latest:
        raise UsageError("use either --continue (the latest thread) or --thread, not both")
    if not resume.saves_threads(context, options) and not must_continue:
        return None, None
    try:
        store = await resume.open_store(context, warn)
        try:
            return store, resume.find_resume_point(store, options)
        except BaseException:
            store.close()
            raise
    except StoreError as error:
        if must_continue:
            raise
        warn(f"this conversation is not being saved: {error.message}" + (f"; {error.hint}" if error.hint else ""))
        return None, None


def _inherit_thread_choices(
    context: RunContext, options: RunOptions, resume_point: ResumePoint, warn: Callable[[str], None]
) -> RunOptions:
    """Return the options, with the thread's agent and model where the run does not choose them."""
    has_explicit_agent = options.agent is not None
    if not has_explicit_agent and resume_point.agent:
        if resume_point.agent in context.config.agents:
            options = replace(options, agent=resume_point.agent)
        else:
            warn(f"the agent {resume_point.agent!r} of this thread is no longer in the config")
    agent_model = get_agent(context.config, options.agent).model
    if (
        options.model is None
        and resume_point.model not in {"", agent_model}
        and not (has_explicit_agent and agent_model)
    ):
        options = replace(options, model=resume_point.model)
    return options


@asynccontextmanager
async def _assemble(
    context: RunContext,
    options: RunOptions,
    store: ThreadStore | None,
    *,
    emit: Emit,
    asker: UserDialog,
    screen: SignInDialog,
    watch: bool,
) -> AsyncIterator[ChatRuntime]:
    agent = get_agent(context.config, options.agent)
    active_store = store if resume.saves_threads(context, options) else None
    sessions: list[Session] = []  # filled below: a server may request sampling before the session exists
    host = build_request_handler(
        context,
        asker,
        emit,
        yes=options.yes,
        model=lambda: sessions[0].model if sessions else None,
        add_usage=lambda usage: sessions[0].add_usage(usage),
    )
    auth = build_auth_service(context, asker, screen, in_chat=watch)
    limits = turn_limits(context.config, options, MAX_CHAT_STEPS if watch else MAX_STEPS)
    selector = ModelSelector(
        context,
        track_cost=options.track_cost or context.config.telemetry.traces,
        require_price=limits.max_dollars is not None,
        lazy=watch,
    )
    ended_tasks: asyncio.Queue[TaskEnded] = asyncio.Queue()
    async with (
        open_hub(
            context,
            emit,
            host,
            auth=auth,
            agent=agent,
            refresh=options.refresh,
            watch=watch,
            save=options.save,
            on_task_ended=ended_tasks.put_nowait if watch else None,
        ) as hub,
        aclosing(selector) as models,
    ):
        model = apply_agent_options(await models.select(options.model or agent.model), agent)
        toolbox = pinned_toolbox(context, hub, asker, emit)
        session = build_session(
            context,
            model=model,
            toolbox=toolbox,
            agent=build_agent(context, options, asker, toolbox, emit),
            emit=emit,
            limits=limits,
            schema=dict(options.schema) if options.schema is not None else None,
            title=options.title,
            store=store,
            save=active_store is not None,
        )
        sessions.append(session)
        yield ChatRuntime(
            session=session,
            hub=hub,
            toolbox=toolbox,
            context=context,
            options=options,
            models=models,
            auth=auth,
            asker=asker,
            emit=emit,
            store=active_store,
            agent=agent,
            config_files=ConfigFiles(context.paths),
            ended_tasks=ended_tasks,
        )
