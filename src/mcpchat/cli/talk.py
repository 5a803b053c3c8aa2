"""ask and chat: a session with the renderer and the asker that suit where they run."""

import json
import os
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mcpchat import __version__
from mcpchat.app import Setup, Wishes, browse, history_file, open_chat, read_attachments
from mcpchat.cli.common import as_json, is_terminal
from mcpchat.core import outcomes
from mcpchat.core.approvals import Decision
from mcpchat.core.attach import with_resources
from mcpchat.core.errors import Denied, LimitReached, McpChatError, ModelError, UsageError
from mcpchat.core.events import Emit, Event, Notice, ToolDecided, TurnFinished
from mcpchat.core.messages import Message, Part, Text, user
from mcpchat.core.ports import Asker, Servers, SignInScreen
from mcpchat.core.sanitize import one_line, visible
from mcpchat.core.spending import Spending
from mcpchat.core.templates import composed

if TYPE_CHECKING:
    from rich.console import Console

FORMATS = ("text", "markdown", "json", "jsonl")
LONGEST_INPUT = 10_000_000  # characters of standard input
_PATIENCE = 2.0  # seconds of waiting for standard input before saying so


@dataclass(frozen=True, kw_only=True)
class Look:
    """How much is shown, and how."""

    quiet: bool = False
    no_color: bool = False
    stats: bool = False


def question(
    words: Sequence[str], setup: Setup, *, template: str | None = None, read_input: bool = True
) -> tuple[str, str]:
    """The words, and what is piped in; what a template makes of both counts as words.

    Raises UsageError when there is neither.
    """
    piped = "" if not read_input or sys.stdin is None or sys.stdin.isatty() else _read_input()
    asked = " ".join(words).strip(), piped.strip("\n")
    if template is not None:
        from mcpchat.app import templates

        text = templates.read(setup, template)
        said = composed(template, text, words, visible(asked[1]), templates.known_values(setup))
        asked = ("", said) if asked[1] else (said, "")  # what is piped in may be anybody's: no mention in it counts
    if not "".join(asked).strip():
        raise UsageError("there is no question", hint='mcpchat ask "What is 1234 * 5678?", or pipe one in')
    words_said, piped = (piece.encode(errors="replace").decode() for piece in asked)  # no request could hold the rest
    return words_said, visible(piped)


async def _composed(said: tuple[str, str], attached: Sequence[Part], servers: Servers) -> Message:
    """The question as a message. Only the words' mentions count: what is piped in may be anybody's text."""
    words, piped = said
    message = await with_resources(words, servers) if words else user("")
    whole = "\n\n".join(text for text in (words, piped) if text.strip())
    return Message(role="user", parts=(Text(text=whole), *message.parts[1:], *attached))


def _read_input() -> str:
    waiting = threading.Timer(
        _PATIENCE, lambda: sys.stderr.write("reading standard input to its end (give it </dev/null to skip)\n")
    )
    waiting.daemon = True
    waiting.start()
    try:
        text = sys.stdin.read(LONGEST_INPUT + 1)
    except UnicodeDecodeError as error:
        raise UsageError("standard input is not text", hint="pipe text in, as UTF-8") from error
    except OSError:
        return ""  # closed from the start
    finally:
        waiting.cancel()
    if len(text) > LONGEST_INPUT or "\0" in text:
        what = "is not text" if "\0" in text else f"holds more than {LONGEST_INPUT:,} characters"
        raise UsageError(f"standard input {what}")
    return text


class _Denials:
    """Passes events on, and remembers the decisions that the policy took against a call."""

    def __init__(self, emit: Emit) -> None:
        self._emit = emit
        self.denied: list[tuple[str, Decision]] = []

    def __call__(self, event: Event) -> None:
        if isinstance(event, ToolDecided) and not event.decision.allowed and event.decision.by == "policy":
            self.denied.append((event.tool, event.decision))
        self._emit(event)


def _consoles(no_color: bool) -> "tuple[Console, Console]":
    from rich.console import Console

    plain = True if no_color else None  # None lets rich look at NO_COLOR
    return Console(no_color=plain, highlight=False), Console(no_color=plain, highlight=False, stderr=True)


def _dumb() -> bool:
    return os.environ.get("TERM") in {"dumb", "unknown"}


def _renderer(output: str, look: Look, *, answers: bool) -> tuple[Emit, Asker, SignInScreen]:
    """How a run shows itself, whom it asks, where they sign in; without ``answers`` somebody else writes them."""
    from mcpchat.ui import plain
    from mcpchat.ui.sign_in import PlainScreen, TerminalScreen

    asker: Asker = plain.NobodyToAsk()
    screen: SignInScreen = PlainScreen(sys.stderr)
    if output in {"json", "jsonl"}:
        json_shown = plain.JsonSummary(sys.stdout, sys.stderr) if output == "json" else plain.JsonLines(sys.stdout)
        return json_shown, asker, screen
    simple = plain.TextRenderer(sys.stdout, sys.stderr, quiet=look.quiet, stats=look.stats, answers=answers)
    if not is_terminal(sys.stderr):
        return simple, asker, screen
    from mcpchat.ui.console import ConsoleRenderer, TerminalAsker

    out, err = _consoles(look.no_color)
    rendered = answers and output == "text" and is_terminal(sys.stdout) and not _dumb()
    console = ConsoleRenderer(out, err, quiet=look.quiet, stats=look.stats) if rendered else None
    if is_terminal(sys.stdin):
        asker = TerminalAsker(err, console, browse)
        screen = TerminalScreen(sys.stderr, _teller(console or simple), asker.holding)
    return console or simple, asker, screen


def _teller(emit: Emit) -> Callable[[str], None]:
    return lambda text: emit(Notice(level="info", text=text))


async def ask(
    setup: Setup, wishes: Wishes, said: tuple[str, str], attached: Sequence[Part], output: str, look: Look
) -> int:
    """One turn about the words and what was piped in. Raises LimitReached and Denied after the answer was given."""
    from mcpchat.ui import plain

    shown, asker, screen = _renderer(output, look, answers=wishes.schema is None)
    emit = _Denials(shown)
    value = ""
    try:
        async with open_chat(setup, wishes, emit=emit, asker=asker, screen=screen) as chat:
            message = await _composed(said, attached, chat.hub)
            if wishes.schema is None:
                finished = await chat.session.send(message)
            else:
                finished, value = await chat.session.answer(message)
            await chat.name_thread()
    except ModelError as error:
        if isinstance(shown, plain.JsonSummary) and shown.partial:
            error.message, error.hint = setup.secrets.redact(error.message), setup.secrets.redact(error.hint)
            shown.write(error)  # what was there before it broke off
        raise
    value = as_json(setup.secrets.redact_value(json.loads(value))) if value else ""
    verdict = _verdict(finished, emit.denied, chat.session.run_total)
    if isinstance(shown, plain.JsonSummary):
        shown.write(verdict, **({"answer": value, "value": json.loads(value)} if value else {}))
    elif value and output != "jsonl":
        sys.stdout.write(f"{value}\n")
    if verdict is not None:
        raise verdict
    return 0


def _verdict(finished: TurnFinished, denied: Sequence[tuple[str, Decision]], spent: Spending) -> McpChatError | None:
    """What the exit code has to tell of a turn that gave an answer; ``spent`` is all of the run."""
    if denied:
        tool, decision = denied[0]
        return Denied(f"{tool} was not run: {decision.reason}")
    told = outcomes.told(finished.stop, spent)
    if not told:
        return None
    hint = outcomes.HINTS[finished.stop]
    if finished.stop in {"filter", "refusal"}:
        return ModelError(told, kind="refused", hint=hint)
    return LimitReached(told, hint=hint)


async def chat(setup: Setup, wishes: Wishes, look: Look) -> int:
    """The REPL."""
    if not is_terminal(sys.stdin, sys.stdout):
        raise UsageError("chat needs a terminal", hint='in scripts: mcpchat ask "..."')
    from rich.text import Text

    from mcpchat.ui import keyboard
    from mcpchat.ui.branching import recall
    from mcpchat.ui.console import ConsoleRenderer, TerminalAsker
    from mcpchat.ui.repl import repl
    from mcpchat.ui.room import Room
    from mcpchat.ui.sign_in import TerminalScreen

    out, _ = _consoles(look.no_color)
    renderer = ConsoleRenderer(out, out, stats=look.stats)
    asker = TerminalAsker(out, renderer, browse)
    screen = TerminalScreen(sys.stdout, _teller(renderer), asker.holding)
    with keyboard.held():
        async with open_chat(setup, wishes, emit=renderer, asker=asker, screen=screen, watch=True) as opened:
            names = [status.name for status in opened.hub.status()]
            role = opened.session.role.name
            whom = f"{one_line(role)} · " * bool(role) + one_line(opened.session.model.name)
            what = f"{whom} · {', '.join(names) or 'no servers'}"
            out.print(Text(f"mcpchat {__version__} · {what} · /help", style="bold"))
            room = Room(
                session=opened.session,
                toolbox=opened.toolbox,
                servers=opened.hub,
                models=opened,
                logins=opened,
                agents=opened,
                threads=opened,
                templates=opened,
                read_file=lambda name: read_attachments([name]),
                console=out,
                redact=setup.secrets.redact,
            )
            if opened.resumed:
                recall(room)
            opened.hub.start_behind()
            await repl(room, history_file=history_file(setup), typed_ahead=asker.take_typed_ahead)
    return 0
