"""The chat at the terminal: for a terminal that can draw, and for one that only prints."""

import asyncio
import dataclasses
import shutil
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, TextIO, cast

import msgspec
from prompt_toolkit.history import FileHistory, InMemoryHistory
from rich.console import Console

from mcpchat.app.attachments import read_attachments
from mcpchat.app.chat import ChatRuntime, open_chat
from mcpchat.auth.browser import browse
from mcpchat.cli.display import is_dumb_terminal, notice_emitter
from mcpchat.cli.options import DisplayOptions
from mcpchat.cli.output import is_terminal
from mcpchat.cli.project_trust import ask_trust
from mcpchat.cli.runtime import build_context, load_settings, run_async
from mcpchat.config.clients.files import CLIENTS, find_client_files
from mcpchat.config.clients.plan import plan_import
from mcpchat.config.run import ConfigChoice, RunContext, RunOptions, get_agent, history_file
from mcpchat.config.schema import Config, ModelEntry
from mcpchat.core.protocols import SignInDialog, UserDialog
from mcpchat.engine.mentions import unmark_pasted
from mcpchat.engine.session import Session
from mcpchat.errors import ConfigError, McpChatError, NoModelConfigured, UsageError
from mcpchat.models.onboarding import onboarding
from mcpchat.models.selection import ModelSelector
from mcpchat.ui.chat import status_bar
from mcpchat.ui.chat.completer import ChatCompleter
from mcpchat.ui.chat.context import CommandContext
from mcpchat.ui.chat.repl import Prompt, repl
from mcpchat.ui.chat.thread_commands import show_position
from mcpchat.ui.markdown.render import THEME
from mcpchat.ui.prompts.dialog import TerminalDialog, raise_interrupt
from mcpchat.ui.prompts.sign_in import PlainSignIn, TerminalSignIn
from mcpchat.ui.render.accessible import LineKeyInput, LinePrompt, LineRenderer, PrefixedLines, StdinLines
from mcpchat.ui.render.console import ConsoleRenderer
from mcpchat.ui.render.stats import format_cost, format_tokens
from mcpchat.ui.terminal import tty
from mcpchat.ui.terminal.background import initial_background
from mcpchat.ui.terminal.line_history import LineHistory
from mcpchat.ui.terminal.prompt_screen import PromptScreen
from mcpchat.ui.terminal.screen import rewraps_on_resize
from mcpchat.util.paths import expand_user
from mcpchat.util.sanitize import one_line
from mcpchat.version import __version__

LoadConfig = Callable[[], Config]
_MIN_LINE_WIDTH = 20  # columns


def start_chat(options: RunOptions, display: DisplayOptions, config: ConfigChoice) -> int:
    """Chat until the user leaves. Raises UsageError without a terminal, ConfigError."""
    in_terminal = is_terminal(sys.stdin, sys.stdout, sys.stderr)
    context = build_context(config, ask_trust=ask_trust if in_terminal else None)
    if not is_terminal(sys.stdin, sys.stdout):
        raise UsageError("chat needs a terminal", hint='in scripts: mcpchat ask "..."')
    had_file = context.paths.config.exists()

    def load_config() -> Config:
        if had_file and not context.paths.config.exists():
            raise ConfigError(f"{context.paths.config} is gone")  # without it, its rules would not hold
        return load_settings(config, context.paths)[0]

    return run_async(
        _chat(
            context,
            dataclasses.replace(options, track_cost=True),
            display,
            load_config if str(config.path) != "-" else None,
        )
    )


async def _chat(
    context: RunContext, options: RunOptions, display: DisplayOptions, load_config: LoadConfig | None
) -> int:
    """Run the chat. Without a model, the demo model answers, and a greeting says how to set one up."""
    greeting, local = "", dict[str, ModelEntry]()

    def add_local_models(config: Config) -> Config:
        model = msgspec.structs.replace(config.model, entries={**local, **config.model.entries})
        return msgspec.structs.replace(config, model=model)

    if options.model is None:
        try:
            await ModelSelector(context, lazy=True).select(get_agent(context.config, options.agent).model)
        except NoModelConfigured:
            greeting, local = await onboarding(_clients_with_servers(context))
            context = dataclasses.replace(context, config=add_local_models(context.config))
            options = dataclasses.replace(options, model="demo")
    load = (lambda: add_local_models(load_config())) if load_config is not None else None
    return await ChatApp(context, options, display, load).run(greeting)


def _clients_with_servers(context: RunContext) -> list[str]:
    """The titles of the other clients on this machine that have new servers."""
    folder = context.working_directory
    plans = {
        client.title: plan_import(
            find_client_files((client,), folder, context.environ), context.config, context.environ
        )
        for client in CLIENTS
    }
    return [
        title
        for title, files in plans.items()
        if any(server.state == "new" for file in files for server in file.servers)
    ]


class ChatApp:
    """One chat, from the greeting to the end."""

    def __init__(
        self, context: RunContext, options: RunOptions, display: DisplayOptions, load_config: LoadConfig | None = None
    ) -> None:
        self._load_config = load_config
        self._context = context
        self._options = options
        self._display = display
        self._config = context.config.chat
        self._window_usage: tuple[int, int | None] | None = None
        self._cost: float | None = None
        self._background_tasks: set[asyncio.Task[Any]] = set()

    async def run(self, greeting: str) -> int:
        """Run the chat until the user leaves. ``greeting`` replaces the usual first line."""
        if self._display.plain or self._config.plain or is_dumb_terminal(self._context.environ):
            await self._run_line_mode(greeting)
        else:
            await self._run_interactive(greeting)
        return 0

    def _console(self, file: Any = None) -> Console:
        return Console(
            file=file,
            no_color=True if self._display.no_color else None,
            highlight=False,
            theme=THEME,
            force_terminal=True if file is not None else None,
        )

    def _command_context(self, chat: ChatRuntime, console: Console, **options: Any) -> CommandContext:
        return CommandContext(
            session=chat.session,
            toolbox=chat.toolbox,
            servers=chat.hub,
            chat=chat,
            read_file=lambda name: read_attachments([str(expand_user(name))]),
            is_file=lambda name: _is_file(name),
            console=console,
            redact=self._context.secrets.redact,
            **options,
        )

    @asynccontextmanager
    async def _open_chat(self, emit: Any, asker: UserDialog, screen: SignInDialog) -> AsyncIterator[ChatRuntime]:
        async with open_chat(
            self._context,
            self._options,
            emit=emit,
            asker=asker,
            screen=screen,
            watch=True,
            origin="chat",
            load_config=self._load_config,
        ) as chat:
            try:
                yield chat
            finally:
                for task in self._background_tasks:
                    task.cancel()
                await asyncio.gather(*self._background_tasks, return_exceptions=True)

    def _print_greeting(self, chat: ChatRuntime, command_context: CommandContext, greeting: str) -> None:
        """Print the greeting: version, model, servers, the thread."""
        if greeting:
            command_context.print(greeting)
            return
        role = chat.session.agent.name
        names = [one_line(server.name, 40) for server in chat.hub.status()]
        label = f"{one_line(role)} · " * bool(role) + one_line(chat.session.model.name)
        title = f'· "{one_line(chat.session.transcript.thread.title, 60)}" ' if chat.is_resumed else ""
        command_context.print(
            f"mcpchat {__version__} · {label} · {', '.join(names) or 'no servers'} {title}· /help", "bold"
        )
        if chat.is_resumed:
            show_position(command_context)

    async def _run_repl(
        self, chat: ChatRuntime, command_context: CommandContext, prompt: Prompt, done: Callable[[float], None]
    ) -> None:
        chat.hub.refresh_in_background()
        self._run_in_background(chat.models.preload())

        async def after(seconds: float) -> None:
            done(seconds)
            self._run_in_background(self._refresh_status(chat))

        await repl(command_context, prompt, on_done=after)
        if farewell := format_farewell(chat.session):
            command_context.print(farewell, "dim")

    def _run_in_background(self, work: Awaitable[object]) -> None:
        task = asyncio.ensure_future(work)
        self._background_tasks.add(cast("asyncio.Task[Any]", task))
        task.add_done_callback(self._background_tasks.discard)
        task.add_done_callback(lambda ended: ended.cancelled() or ended.exception())

    async def _refresh_status(self, chat: ChatRuntime) -> None:
        """Update the cost and the window usage in the status bar: this is slow, so it runs in the background."""
        session = chat.session
        self._cost = await asyncio.to_thread(lambda: session.thread_usage.cost)
        try:
            self._window_usage = await session.window_usage()
        except McpChatError:
            self._window_usage = None

    # With an input line at the bottom of the terminal.

    async def _run_interactive(self, greeting: str) -> None:

        path = history_file(self._context)
        history = LineHistory(
            FileHistory(str(path)) if path is not None else InMemoryHistory(),
            # What was pasted must not become something that the user typed, once it is sent again.
            prepare=lambda line: self._context.secrets.redact(unmark_pasted(line, prompt_screen.pastes)),
        )
        contexts: list[CommandContext] = []  # filled below: the prompt is created first
        prompt_screen = PromptScreen(
            self._console,
            history=history,
            completer=ChatCompleter(lambda: contexts[0] if contexts else None),
            vi=self._config.keys == "vi",
            status=lambda width: self._status(contexts[0], width) if contexts else "starting",
            interrupt=raise_interrupt,
            rewraps=rewraps_on_resize(self._context.environ),
            background=initial_background(self._config.background, self._context.environ),
        )
        renderer = ConsoleRenderer(
            prompt_screen,
            show_stats=self._display.stats,
            fold=self._config.reasoning == "fold",
            show_summary=True,
            environ=self._context.environ,
        )
        prompt_screen.set_activity(renderer.activity, renderer.reasoning.toggle)
        console = self._console()
        asker = TerminalDialog(
            console,
            exclusive=renderer.exclusive,
            open_page=browse,
            restore_typed=prompt_screen.restore_typed,
            interrupt=prompt_screen.interrupt,
        )
        screen = TerminalSignIn(sys.stdout, notice_emitter(renderer), asker.exclusive)
        with tty.restore_terminal():
            async with prompt_screen.running(), self._open_chat(renderer, asker, screen) as chat:
                command_context = self._command_context(
                    chat,
                    prompt_screen.console,
                    exclusive_terminal=renderer.exclusive,
                    ask_yes_no=asker.ask_yes_no,
                    write_raw=prompt_screen.write_raw,
                    latest_reasoning=lambda: renderer.reasoning.latest,
                    pastes=prompt_screen.pastes,
                    shell_lines=prompt_screen.shell_lines,
                )
                contexts.append(command_context)
                prompt_screen.set_tasks(lambda: chat.hub.followed_tasks, chat.hub.put_tasks_aside)
                self._print_greeting(chat, command_context, greeting)
                await self._run_repl(
                    chat,
                    command_context,
                    prompt_screen,
                    lambda seconds: self._notify_done(
                        prompt_screen.write_raw, seconds, unseen=prompt_screen.idle_seconds >= seconds
                    ),
                )
                await prompt_screen.stop()  # before the servers are stopped, which may take a moment

    def _status(self, command_context: CommandContext, width: int) -> str:
        session = command_context.session
        return status_bar.format_status(
            width,
            model=session.model.name,
            agent=session.agent.name,
            usage=session.thread_usage.usage,
            cost=self._cost,
            window_usage=self._window_usage,
            servers=command_context.servers.status(),
        )

    def _notify_done(self, write: Callable[[str], None], seconds: float, *, unseen: bool) -> None:
        """Notify a user who has looked away that a long turn has ended."""
        if self._config.notify == "off" or seconds < self._config.notify_after or not unseen:
            return
        write("\a" if self._config.notify == "bell" else "\x1b]9;mcpchat: the answer is there\x07")

    # Line by line, for screen readers and simple terminals.

    async def _run_line_mode(self, greeting: str) -> None:

        out: TextIO = sys.stdout
        lines = StdinLines(out)

        def write(text: str) -> None:
            out.write(text)
            out.flush()

        prompt = LinePrompt(lines, out)
        renderer = LineRenderer(
            lines.print_line, show_stats=self._display.stats, show_reasoning=self._config.reasoning == "show"
        )
        console, question_console = (
            Console(
                file=cast(TextIO, PrefixedLines(lines.print_line, prefix)),
                width=max(_MIN_LINE_WIDTH, shutil.get_terminal_size().columns - len(prefix)),
                no_color=True,
                highlight=False,
                color_system=None,
                force_terminal=False,
            )
            for prefix in ("info: ", "question: ")
        )
        asker = TerminalDialog(question_console, LineKeyInput(lines, out), restore_typed=prompt.restore_typed)
        screen = PlainSignIn(sys.stderr, notice_emitter(renderer))
        async with self._open_chat(renderer, asker, screen) as chat:
            command_context = self._command_context(chat, console, write_raw=write, plain=True)
            self._print_greeting(chat, command_context, greeting)
            await self._run_repl(
                chat, command_context, prompt, lambda seconds: self._notify_done(write, seconds, unseen=True)
            )


def format_farewell(session: Session) -> str:
    """The thread's name, how to come back to it, and what the session cost; empty if nothing was saved."""
    thread, usage = session.transcript.thread, session.run_usage
    if not session.transcript.is_persistent or not session.history:
        return ""
    name = f'"{one_line(thread.title, 60)}"' if thread.title else f"thread {thread.id[:8]}"
    spent = [format_tokens(usage.usage), format_cost(usage.cost)] if usage.usage.total else []
    return " · ".join((f"  {name}", "mcpchat -c continues it", *spent))


def _is_file(name: str) -> bool:
    try:
        return expand_user(name).is_file()
    except (OSError, ValueError, RuntimeError):
        return False
