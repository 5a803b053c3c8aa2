"""How a run shows itself: the renderer, and the dialogs that go with it."""

import sys
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from typing import TYPE_CHECKING

from mcpchat.auth.browser import browse
from mcpchat.cli.options import DisplayOptions
from mcpchat.cli.output import is_terminal
from mcpchat.cli.runtime import current_run
from mcpchat.config.run import RunContext
from mcpchat.core.events import Emit, Event, MessageAdded, Notice, ReasoningDelta, TextDelta
from mcpchat.core.protocols import SignInDialog, UserDialog
from mcpchat.ui.prompts.sign_in import PlainSignIn, TerminalSignIn
from mcpchat.ui.render.plain import JsonLines, JsonSummary, NonInteractiveDialog, TextRenderer, VerboseEmitter, print_to

if TYPE_CHECKING:
    from rich.console import Console


def is_dumb_terminal(environ: Mapping[str, str]) -> bool:
    """Whether the terminal can only print."""
    return environ.get("TERM") in {"dumb", "unknown"}


def choose_renderer(
    output: str, display: DisplayOptions, context: RunContext, *, answers: bool, may_call: bool = True
) -> tuple[Emit, UserDialog, SignInDialog]:
    """Choose the renderer for this output format and terminal, and the dialogs.

    Without ``answers`` the renderer leaves the answer itself out: the caller writes it. ``may_call`` tells whether
    tools are on offer.
    """
    asker: UserDialog = NonInteractiveDialog()
    screen: SignInDialog = PlainSignIn(sys.stderr)
    if output == "json":
        return JsonSummary(sys.stdout, sys.stderr), asker, screen
    if output == "jsonl":
        lines = JsonLines(sys.stdout)
        return lines if display.stream else without_deltas(lines), asker, screen
    text = TextRenderer(
        sys.stdout,
        sys.stderr,
        quiet=display.quiet,
        show_stats=display.stats,
        write_answers=answers,
        stream=display.stream,
        may_call=may_call,
    )
    if not is_terminal(sys.stderr):
        return text, asker, screen
    from mcpchat.ui.prompts.dialog import TerminalDialog
    from mcpchat.ui.render.activity_line import ActivityLine
    from mcpchat.ui.render.console import ConsoleRenderer
    from mcpchat.ui.terminal.screen import LiveScreen, rewraps_on_resize

    environ, fold = context.environ, context.config.chat.reasoning == "fold"
    out, err = _consoles(display.no_color)
    console: ConsoleRenderer | ActivityLine | None = None
    if answers and output == "text" and is_terminal(sys.stdout) and not is_dumb_terminal(environ):
        region = LiveScreen(out, err, rewraps=rewraps_on_resize(environ))
        console = ConsoleRenderer(
            region, quiet=display.quiet, show_stats=display.stats, fold=fold, show_activity=True, environ=environ
        )
    elif not (display.quiet or current_run().debug or is_dumb_terminal(environ) or err.legacy_windows):
        console = ActivityLine(text, sys.stderr)
    stream = console.stream if isinstance(console, ActivityLine) else sys.stderr
    screen = PlainSignIn(stream)
    if is_terminal(sys.stdin):
        asker = TerminalDialog(
            err, exclusive=console.exclusive if console is not None else nullcontext, open_page=browse
        )
        screen = TerminalSignIn(stream, notice_emitter(console or text), asker.exclusive)
    if isinstance(console, ConsoleRenderer) and not display.stream:
        return whole_messages(console), asker, screen
    return console or text, asker, screen


def without_deltas(emit: Emit) -> Emit:
    """The emitter without the parts of messages: only whole messages are passed on."""
    return lambda event: None if isinstance(event, TextDelta | ReasoningDelta) else emit(event)


def whole_messages(emit: Emit) -> Emit:
    """The emitter with each message of the model as one part, once it is complete."""

    def pass_on(event: Event) -> None:
        if isinstance(event, TextDelta):
            return
        if isinstance(event, MessageAdded) and event.message.role == "assistant" and event.message.text:
            emit(TextDelta(text=event.message.text))
        emit(event)

    return pass_on


def close_renderer(renderer: Emit) -> None:
    """Remove what a renderer still shows at the end of a run, however it ends."""
    close = getattr(renderer, "close", None)
    if callable(close):
        close()


def _consoles(no_color: bool) -> "tuple[Console, Console]":
    from rich.console import Console

    from mcpchat.ui.markdown.render import THEME

    plain = True if no_color else None  # None lets rich look at NO_COLOR
    out = Console(no_color=plain, highlight=False, theme=THEME)
    return out, Console(no_color=plain, highlight=False, theme=THEME, stderr=True)


def add_explanations(emit: Emit, output: str) -> Emit:
    """The emitter with explanations of what happens: as notices, or on stderr if stdout is JSON."""
    return VerboseEmitter(emit, print_to(sys.stderr) if output in {"json", "jsonl"} else notice_emitter(emit))


def notice_emitter(emit: Emit) -> Callable[[str], None]:
    """A function that emits its text as a notice."""
    return lambda text: emit(Notice(level="info", text=text))
