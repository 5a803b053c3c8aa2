"""mcpchat chat: the REPL, for a terminal that can draw and for one that only prints."""

import asyncio
import dataclasses
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TextIO, cast

import msgspec
import typer
from rich.console import Console

from mcpchat.app.attachments import read_attachments
from mcpchat.app.chat import ChatRuntime, open_chat
from mcpchat.auth.browser import browse
from mcpchat.cli.display import is_dumb_terminal, notice_emitter
from mcpchat.cli.options import DisplayOptions, chat_display, config_file, conversation_options, with_options
from mcpchat.cli.output import is_terminal
from mcpchat.cli.project_trust import ask_trust
from mcpchat.cli.runtime import build_context, run_async
from mcpchat.config.run import RunContext, RunOptions, get_agent, history_file
from mcpchat.core.protocols import SignInDialog, UserDialog
from mcpchat.errors import McpChatError, NoModelConfigured, UsageError
from mcpchat.models.onboarding import onboarding
from mcpchat.models.selection import ModelSelector
from mcpchat.ui.chat import status_bar
from mcpchat.ui.chat.context import CommandContext
from mcpchat.ui.chat.repl import Prompt, repl
from mcpchat.ui.chat.thread_commands import show_position
from mcpchat.ui.markdown.render import THEME
from mcpchat.util.sanitize import one_line
from mcpchat.version import __version__

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command()
@with_options(options=conversation_options, display=chat_display, config=config_file)
def chat(options: RunOptions, display: DisplayOptions, config: Path | None) -> int:
    """Chat at the terminal; mcpchat alone does the same."""
    in_terminal = is_terminal(sys.stdin, sys.stdout, sys.stderr)
    context = build_context(config, ask_trust=ask_trust if in_terminal else None)
    if not is_terminal(sys.stdin, sys.stdout):
        raise UsageError("chat needs a terminal", hint='in scripts: mcpchat ask "..."')
    return run_async(_chat(context, dataclasses.replace(options, track_cost=True), display))


async def _chat(context: RunContext, options: RunOptions, display: DisplayOptions) -> int:
    """Run the chat. Without a model, the demo model answers, and a greeting says how to set one up."""
    greeting = ""
    if options.model is None:
        try:
            await ModelSelector(context, lazy=True).select(get_agent(context.config, options.agent).model)
        except NoModelConfigured:
            greeting, local = await onboarding()
            model = context.config.model
            found = msgspec.structs.replace(model, entries={**local, **model.entries})
            context = dataclasses.replace(context, config=msgspec.structs.replace(context.config, model=found))
            options = dataclasses.replace(options, model="demo")
    return await ChatApp(context, options, display).run(greeting)


class ChatApp:
    """One chat, from the first line to the last."""

    def __init__(self, context: RunContext, options: RunOptions, look: DisplayOptions) -> None:
        self._context = context
        self._options = options
        self._look = look
        self._config = context.config.chat
        self._filled: tuple[int, int | None] | None = None
        self._dollars: float | None = None
        self._behind: set[asyncio.Task[Any]] = set()

    async def run(self, greeting: str) -> int:
        """Talk until the person leaves; ``greeting`` stands first."""
        if self._look.plain or self._config.plain or is_dumb_terminal(self._context.environ):
            await self._spoken(greeting)
        else:
            await self._drawn(greeting)
        return 0

    def _console(self, file: Any = None) -> Console:
        return Console(
            file=file,
            no_color=True if self._look.no_color else None,
            highlight=False,
            theme=THEME,
            force_terminal=True if file is not None else None,
        )

    def _room(self, opened: ChatRuntime, console: Console, **more: Any) -> CommandContext:
        return CommandContext(
            session=opened.session,
            toolbox=opened.toolbox,
            servers=opened.hub,
            chat=opened,
            read_file=lambda name: read_attachments([str(Path(name).expanduser())]),
            is_file=lambda name: _is_file(name),
            console=console,
            redact=self._context.secrets.redact,
            **more,
        )

    @asynccontextmanager
    async def _opened(self, emit: Any, asker: UserDialog, screen: SignInDialog) -> AsyncIterator[ChatRuntime]:
        async with open_chat(self._context, self._options, emit=emit, asker=asker, screen=screen, watch=True) as opened:
            try:
                yield opened
            finally:
                for task in self._behind:
                    task.cancel()
                await asyncio.gather(*self._behind, return_exceptions=True)

    def _greet(self, opened: ChatRuntime, room: CommandContext, greeting: str) -> None:
        """Print the greeting: version, model, servers, the thread."""
        if greeting:
            room.print(greeting)
            return
        role = opened.session.agent.name
        names = [one_line(one.name, 40) for one in opened.hub.status()]
        whom = f"{one_line(role)} · " * bool(role) + one_line(opened.session.model.name)
        title = f'· "{one_line(opened.session.transcript.thread.title, 60)}" ' if opened.is_resumed else ""
        room.print(f"mcpchat {__version__} · {whom} · {', '.join(names) or 'no servers'} {title}· /help", "bold")
        if opened.is_resumed:
            show_position(room)

    async def _talk(
        self, opened: ChatRuntime, room: CommandContext, prompt: Prompt, done: Callable[[float], None]
    ) -> None:
        opened.hub.refresh_in_background()
        self._do_behind(opened.models.preload())

        async def after(seconds: float) -> None:
            done(seconds)
            self._do_behind(self._count(opened))

        await repl(room, prompt, on_done=after)

    def _do_behind(self, work: Awaitable[object]) -> None:
        task = asyncio.ensure_future(work)
        self._behind.add(cast("asyncio.Task[Any]", task))
        task.add_done_callback(self._behind.discard)
        task.add_done_callback(lambda ended: ended.cancelled() or ended.exception())

    async def _count(self, opened: ChatRuntime) -> None:
        """Update the cost and the window usage in the status bar: this is slow, so it runs in the background."""
        session = opened.session
        self._dollars = await asyncio.to_thread(lambda: session.thread_usage.cost)
        try:
            self._filled = await session.window_usage()
        except McpChatError:
            self._filled = None

    # With a line at the bottom.

    async def _drawn(self, greeting: str) -> None:

        from prompt_toolkit.history import FileHistory, InMemoryHistory

        from mcpchat.ui.chat.completer import ChatCompleter
        from mcpchat.ui.prompts.dialog import TerminalDialog, raise_interrupt
        from mcpchat.ui.prompts.sign_in import TerminalSignIn
        from mcpchat.ui.render.console import ConsoleRenderer
        from mcpchat.ui.terminal import tty
        from mcpchat.ui.terminal.prompt_screen import PromptScreen
        from mcpchat.ui.terminal.screen import rewraps_on_resize

        history = history_file(self._context)
        rooms: list[CommandContext] = []  # the one to come
        bottom = PromptScreen(
            self._console,
            history=FileHistory(str(history)) if history is not None else InMemoryHistory(),
            completer=ChatCompleter(lambda: rooms[0] if rooms else None),
            vi=self._config.keys == "vi",
            status=lambda width: self._status(rooms[0], width) if rooms else "starting",
            interrupt=lambda: signal.raise_signal(signal.SIGINT),
            rewraps=rewraps_on_resize(self._context.environ),
        )
        renderer = ConsoleRenderer(
            bottom,
            show_stats=self._look.stats,
            fold=self._config.reasoning == "fold",
            environ=self._context.environ,
        )
        bottom.set_activity(renderer.activity, renderer.reasoning.toggle)
        direct = self._console()

        def interrupt() -> bool:
            return bottom.busy and raise_interrupt()

        asker = TerminalDialog(
            direct,
            exclusive=renderer.exclusive,
            open_page=browse,
            restore_typed=bottom.restore_typed,
            interrupt=interrupt,
        )
        screen = TerminalSignIn(sys.stdout, notice_emitter(renderer), asker.exclusive)
        with tty.restore_terminal():
            async with bottom.running(), self._opened(renderer, asker, screen) as opened:
                room = self._room(
                    opened,
                    bottom.console,
                    exclusive_terminal=renderer.exclusive,
                    write_raw=bottom.write_raw,
                    latest_reasoning=lambda: renderer.reasoning.latest,
                    pastes=bottom.pastes,
                )
                rooms.append(room)
                self._greet(opened, room, greeting)
                await self._talk(
                    opened,
                    room,
                    bottom,
                    lambda seconds: self._ring(bottom.write_raw, seconds, unseen=bottom.idle_seconds >= seconds),
                )
                await bottom.stop()  # before the servers are closed, which may take them a moment

    def _status(self, room: CommandContext, width: int) -> str:
        session = room.session
        return status_bar.format_status(
            width,
            model=session.model.name,
            agent=session.agent.name,
            usage=session.thread_usage.usage,
            cost=self._dollars,
            window_usage=self._filled,
            servers=room.servers.status(),
        )

    def _ring(self, write: Callable[[str], None], seconds: float, *, unseen: bool) -> None:
        """Notify a user who has looked away that a long turn has ended."""
        if self._config.notify == "off" or seconds < self._config.notify_after or not unseen:
            return
        write("\a" if self._config.notify == "bell" else "\x1b]9;mcpchat: the answer is there\x07")

    # Line by line.

    async def _spoken(self, greeting: str) -> None:
        from mcpchat.ui.prompts.dialog import TerminalDialog
        from mcpchat.ui.prompts.sign_in import PlainSignIn
        from mcpchat.ui.render.accessible import LineKeyInput, LinePrompt, LineRenderer, StdinLines

        out: TextIO = sys.stdout
        lines = StdinLines(out)

        def write(text: str) -> None:
            out.write(text)
            out.flush()

        prompt = LinePrompt(lines, out)
        renderer = LineRenderer(
            lines.print_line, show_stats=self._look.stats, show_reasoning=self._config.reasoning == "show"
        )
        console = Console(file=out, no_color=True, highlight=False, color_system=None, force_terminal=False)
        asker = TerminalDialog(console, LineKeyInput(lines, out), restore_typed=prompt.restore_typed)
        screen = PlainSignIn(sys.stderr, notice_emitter(renderer))
        async with self._opened(renderer, asker, screen) as opened:
            room = self._room(opened, console, write_raw=write, plain=True)
            self._greet(opened, room, greeting)
            await self._talk(opened, room, prompt, lambda seconds: self._ring(write, seconds, unseen=True))


def _is_file(name: str) -> bool:
    try:
        return Path(name).expanduser().is_file()
    except (OSError, ValueError, RuntimeError):
        return False
