"""ask and chat: a session with the renderer and the asker that suit where they run."""

import dataclasses
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING

from msgspec.structs import replace

from mcpchat.app.chat import open_chat
from mcpchat.auth.browser import browse
from mcpchat.cli.options import as_json, is_terminal, within
from mcpchat.config.run import Setup, Wishes, choose_agent
from mcpchat.core.events import Emit, Notice
from mcpchat.core.messages import Message, Part, Text, user
from mcpchat.core.protocols import Asker, Servers, SignInScreen
from mcpchat.core.templates import composed
from mcpchat.engine import outcomes
from mcpchat.engine.mentions import with_resources
from mcpchat.errors import LimitReached, ModelError, NoModel, UsageError
from mcpchat.models.selection import Models, first_screen
from mcpchat.util import stdin
from mcpchat.util.sanitize import visible

if TYPE_CHECKING:
    from rich.console import Console

FORMATS = ("text", "markdown", "json", "jsonl")
INPUT_FORMATS = ("text", "jsonl")


@dataclass(frozen=True, kw_only=True)
class Look:
    """How much is shown, and how."""

    quiet: bool = False
    verbose: bool = False
    no_color: bool = False
    stats: bool = False
    plain: bool = False


def question(
    words: Sequence[str], setup: Setup, *, template: str | None = None, read_input: bool = True
) -> tuple[str, str]:
    """The words, and what is piped in; what a template makes of both counts as words.

    Raises UsageError when there is neither.
    """
    piped = "" if not read_input or sys.stdin is None or sys.stdin.isatty() else stdin.read_question()
    asked = " ".join(words).strip(), piped.strip("\n")
    if template is not None:
        from mcpchat.app import template_files

        text = template_files.read(setup, template)
        said = composed(template, text, words, visible(asked[1]), template_files.known_values(setup))
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


def _consoles(no_color: bool) -> "tuple[Console, Console]":
    from rich.console import Console

    from mcpchat.ui.markdown.render import THEME

    plain = True if no_color else None  # None lets rich look at NO_COLOR
    out = Console(no_color=plain, highlight=False, theme=THEME)
    return out, Console(no_color=plain, highlight=False, theme=THEME, stderr=True)


def is_dumb(environ: Mapping[str, str]) -> bool:
    """Whether the terminal can do no more than print."""
    return environ.get("TERM") in {"dumb", "unknown"}


def _renderer(output: str, look: Look, setup: Setup, *, answers: bool) -> tuple[Emit, Asker, SignInScreen]:
    """How a run shows itself, whom it asks, where they sign in; without ``answers`` somebody else writes them."""
    from mcpchat.ui.prompts.sign_in import PlainScreen, TerminalScreen
    from mcpchat.ui.render import plain

    asker: Asker = plain.NobodyToAsk()
    screen: SignInScreen = PlainScreen(sys.stderr)
    if output in {"json", "jsonl"}:
        json_shown = plain.JsonSummary(sys.stdout, sys.stderr) if output == "json" else plain.JsonLines(sys.stdout)
        return json_shown, asker, screen
    environ, fold = setup.environ, setup.config.chat.reasoning == "fold"
    simple = plain.TextRenderer(sys.stdout, sys.stderr, quiet=look.quiet, stats=look.stats, answers=answers)
    if not is_terminal(sys.stderr):
        return simple, asker, screen
    from mcpchat.ui.prompts.dialog import TerminalAsker
    from mcpchat.ui.render.console import ConsoleRenderer
    from mcpchat.ui.terminal.screen import LiveRegion, reflows

    out, err = _consoles(look.no_color)
    rendered = answers and output == "text" and is_terminal(sys.stdout) and not is_dumb(environ)
    region = LiveRegion(out, err, reflows=reflows(environ))
    console = (
        ConsoleRenderer(region, quiet=look.quiet, stats=look.stats, fold=fold, environ=environ) if rendered else None
    )
    if is_terminal(sys.stdin):
        asker = TerminalAsker(err, alone=console.alone if console is not None else nullcontext, open_page=browse)
        screen = TerminalScreen(sys.stderr, teller(console or simple), asker.holding)
    return console or simple, asker, screen


def explaining(emit: Emit, output: str) -> Emit:
    """The same, with words on what goes on: among the notices, or beside the JSON."""
    from mcpchat.ui.render.plain import Explaining, say_to

    return Explaining(emit, say_to(sys.stderr) if output in {"json", "jsonl"} else teller(emit))


def teller(emit: Emit) -> Callable[[str], None]:
    return lambda text: emit(Notice(level="info", text=text))


async def ask(
    setup: Setup,
    wishes: Wishes,
    said: tuple[str, str],
    attached: Sequence[Part],
    output: str,
    look: Look,
    *,
    timeout: float | None = None,
) -> int:
    """One turn about the words and what was piped in. Raises LimitReached and Denied after the answer was given."""
    from mcpchat.ui.render import plain

    shown, asker, screen = _renderer(output, look, setup, answers=wishes.schema is None)
    emit = outcomes.Denials(explaining(shown, output) if look.verbose else shown)
    value = ""
    try:
        async with open_chat(setup, wishes, emit=emit, asker=asker, screen=screen) as chat:
            async with within(timeout):
                message = await _composed(said, attached, chat.hub)
                if wishes.schema is None:
                    finished = await chat.session.send(message)
                else:
                    finished, value = await chat.session.answer(message)
            await chat.name_thread()
    except (ModelError, LimitReached) as error:
        if isinstance(shown, plain.JsonSummary) and shown.partial:
            error.message, error.hint = setup.secrets.redact(error.message), setup.secrets.redact(error.hint)
            shown.write(error)  # what was there before it broke off
        raise
    value = as_json(setup.secrets.redact_value(json.loads(value))) if value else ""
    trouble = outcomes.verdict(finished, emit.denied, chat.session.run_total)
    if isinstance(shown, plain.JsonSummary):
        shown.write(trouble, **({"answer": value, "value": json.loads(value)} if value else {}))
    elif value and output != "jsonl":
        sys.stdout.write(f"{value}\n")
    if trouble is not None:
        raise trouble
    return 0


async def chat(setup: Setup, wishes: Wishes, look: Look) -> int:
    """The REPL. Where no model is set up, the demo answers, and it is said how to go on from there."""
    if not is_terminal(sys.stdin, sys.stdout):
        raise UsageError("chat needs a terminal", hint='in scripts: mcpchat ask "..."')
    from mcpchat.cli.commands.chat import Chatting

    greeting = ""
    if wishes.model is None:
        try:
            await Models(setup, at_ease=True).choose(choose_agent(setup.config, wishes.agent).model)
        except NoModel:
            greeting, local = await first_screen()
            model = setup.config.model
            known = replace(model, entries={**local, **model.entries})
            setup = dataclasses.replace(setup, config=replace(setup.config, model=known))
            wishes = dataclasses.replace(wishes, model="demo")
    return await Chatting(setup, wishes, look).run(greeting)
