"""The slash commands: one table, from which /help and completion are made too."""

import shlex
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from rich.text import Text

from mcpchat.core.catalog import Resource, Template, prompt_arguments
from mcpchat.core.messages import user
from mcpchat.core.templates import composed
from mcpchat.core.tools import ToolSpec, explain_arguments
from mcpchat.errors import McpChatError, UsageError
from mcpchat.ui.chat import thread_commands
from mcpchat.ui.chat.context import Room
from mcpchat.ui.markdown.render import code_blocks
from mcpchat.ui.prompts.approval_view import claims
from mcpchat.ui.render import stats, tables, transcripts
from mcpchat.ui.terminal import external
from mcpchat.util.sanitize import one_line
from mcpchat.util.text import did_you_mean

_LOG_LINES = 40
_MOST_MODELS = 40
_ROOMY = 100  # columns, in which a command's twin has its place too
_DIGITS = 9  # of a number that somebody types


@dataclass(frozen=True)
class Command:
    name: str
    argument: str
    help: str
    run: Callable[[Room, str], Awaitable[None]]
    aliases: tuple[str, ...] = ()
    twin: str = ""  # what does it outside of the chat


async def _help(room: Room, argument: str) -> None:
    width = max(len(f"{command.name} {command.argument}") for command in COMMANDS)
    for command in COMMANDS:
        shown = Text(f"  {f'{command.name} {command.argument}':<{width}}  {command.help}")
        roomy = room.console.width >= _ROOMY
        room.console.print(shown.append(f"  {command.twin}" if command.twin and roomy else "", style="dim"))
    for line in KEYS if not room.plain else PLAIN_KEYS:
        room.say(f"  {line}", "dim")


async def _tools(room: Room, argument: str) -> None:
    server, dot, _ = argument.partition(".")
    names = [status.name for status in room.servers.status()]
    if server and server not in names:
        raise UsageError(f"no server {server}", hint=f"/tools NAME, one of {', '.join(names) or 'none'}")
    specs = [spec for spec in await room.toolbox.tools() if not server or spec.server == server]
    if dot:
        await _tool(room, argument, specs)
    elif specs:
        room.console.print(tables.tools(specs))
    else:
        room.say(f"no tools of {argument}: /servers shows why" if argument else "no tools: /servers shows why")


async def _tool(room: Room, label: str, specs: Sequence[ToolSpec]) -> None:
    spec = next((spec for spec in specs if spec.label == label), None)
    if spec is None:
        known = did_you_mean(label, [spec.label for spec in specs])
        raise UsageError(f"no tool {label}{known}", hint="/tools lists them")
    room.say(spec.label, "bold")
    room.say("\n".join(f"  {line}" for line in (spec.description or spec.title).strip().splitlines()))
    room.say(f"  {explain_arguments(spec)}", "dim")
    room.say(f"  says of itself: {claims(spec.annotations)}", "dim")


async def _servers(room: Room, argument: str) -> None:
    if argument == "refresh":
        room.say(f"{len(await room.servers.refresh())} tools on offer", "dim")
        return
    known = {status.name: status for status in room.servers.status()}
    if not argument:
        room.console.print(tables.servers(list(known.values())))
        return
    if argument not in known:
        raise UsageError(f"no server {argument}", hint=f"/servers NAME, one of {', '.join(known) or 'none'}")
    await room.toolbox.tools()  # what nothing is known of yet is asked first
    kept = room.servers.catalogs().get(argument)
    room.console.print(tables.servers([status for status in room.servers.status() if status.name == argument]))
    found: list[Resource | Template] = [*kept.resources, *kept.templates] if kept is not None else []
    if found:
        room.console.print(tables.resources(found))
        room.say("  @server:uri in a message puts one into it", "dim")
    if kept is not None and kept.prompts:
        room.console.print(tables.prompts(kept.prompts))
        room.say("  /server:name key=value sends one", "dim")
    if kept is not None and not (kept.resources or kept.templates or kept.prompts):
        room.say("  no resources, no prompts", "dim")


async def _logs(room: Room, argument: str) -> None:
    names = [status.name for status in room.servers.status()]
    if argument not in names:
        room.say(f"usage: /logs SERVER, one of {', '.join(names) or 'none'}", "yellow")
        return
    lines = room.servers.log(argument).splitlines()[-_LOG_LINES:]
    room.say("\n".join(lines) or f"{argument} has logged nothing")


async def _login(room: Room, argument: str) -> None:
    names = room.logins.login_names()
    if not argument and len(names) != 1:
        told = f"usage: /login NAME, one of {', '.join(names)}" if names else "nothing here takes a sign-in"
        room.say(told, "yellow")
        return
    await room.logins.login(argument or names[0])
    await room.toolbox.tools()


async def _model(room: Room, argument: str) -> None:
    if argument:
        await room.models.switch(argument)
    model = room.session.model
    room.say(f"model: {model.name}" + (f"  ({model.at})" if model.at else ""))
    if argument:
        return
    try:
        room.known_models = await room.models.offered()
    except McpChatError as error:
        room.say(f"  its server does not say what else it has: {error.message}", "dim")
    names = [*room.models.tables, *(name for name in room.known_models if name not in room.models.tables)]
    more = f"\n  and {len(names) - _MOST_MODELS} more: mcpchat models" if len(names) > _MOST_MODELS else ""
    if names:
        room.say("  " + "\n  ".join(names[:_MOST_MODELS]) + more, "dim")


async def _agent(room: Room, argument: str) -> None:
    if argument:
        await room.agents.switch_agent(argument if argument != "-" else None)
        room.say(f"agent: {room.session.role.name or 'none in particular'}, on {room.session.model.name}")
        return
    here, known = room.session.role.name, room.agents.agents
    room.say(f"agent: {here or 'none in particular'}")
    for name, about in known.items():
        room.say(f"{'*' if name == here else ' '} {name}  {one_line(about, 100)}".rstrip(), "dim")
    room.say("  /agent - is none in particular" if known else "  mcpchat agents new NAME makes one", "dim")


def _words(argument: str) -> list[str]:
    try:
        return shlex.split(argument)
    except ValueError as error:
        raise UsageError(f"the arguments end within quotes: {argument}", hint='key="a value"') from error


async def _retry(room: Room, argument: str) -> None:
    room.tell(await room.session.retry())


async def _compact(room: Room, argument: str) -> None:
    if not await room.session.compact():
        room.say("there is nothing to sum up yet", "dim")


async def _usage(room: Room, argument: str) -> None:
    spent = room.session.spent
    dollars = (
        stats.money(spent.cost) if not (spent.unpriced and spent.dollars) else f"{stats.money(spent.dollars)} and more"
    )
    room.say(f"{stats.tokens(spent.usage)} · {dollars}")
    room.say(stats.filled(*await room.session.filled()), "dim")


async def _attach(room: Room, argument: str) -> None:
    if not argument:
        room.attached.clear()
        room.say("nothing is attached; /attach FILE attaches one to the next message", "dim")
        return
    bare = argument[1:-1] if len(argument) > 1 and argument[0] == argument[-1] == '"' else argument
    room.attached += room.read_file(bare)
    room.say(f"{argument} goes with the next message", "dim")


async def _new(room: Room, argument: str) -> None:
    room.session.clear()
    room.let_go()
    room.say("a new conversation", "dim")


async def _last(room: Room, argument: str) -> None:
    """What the latest calls were given and gave back, whole; ``argument`` is which of them, counted from the end."""
    if argument and not (argument.isdecimal() and 0 < len(argument) < _DIGITS):
        raise UsageError(f"/last {argument}: expected a number, 1 for the latest call")
    made = list(transcripts.calls(room.session.history))
    if not made:
        thoughts = room.thoughts()
        await room.page(thoughts) if thoughts else room.say("no tool was called yet")
        return
    chosen = made[-int(argument) :][:1] if argument else made
    if not chosen or int(argument or 1) > len(made):
        raise UsageError(f"there were only {len(made)} calls")
    told = ["The model's latest reasoning:", room.thoughts(), ""] if room.thoughts() and not argument else []
    await room.page("\n".join([*told, *(line for call in reversed(chosen) for line in call)]))


async def _copy(room: Room, argument: str) -> None:
    if argument not in {"", "code"}:
        raise UsageError(f"/copy {argument}: expected nothing, or code")
    answer = next((m.text for m in reversed(room.session.history) if m.role == "assistant" and m.text.strip()), "")
    found = code_blocks(answer) if argument else [answer.strip()]
    if not answer or not found:
        room.say("there is no code in the latest answer" if answer else "there is no answer yet")
        return
    through = await external.copy(found[-1], room.raw)
    room.say(f"  copied {len(found[-1]):,} characters, through {through}", "dim")


async def _exit(room: Room, argument: str) -> None:
    room.leaving = True


COMMANDS: Sequence[Command] = (
    Command("/help", "", "what can be typed here", _help, ("/?",), "mcpchat --help"),
    Command("/tools", "[SERVER[.TOOL]]", "the tools on offer, or all about one", _tools, twin="mcpchat tools"),
    Command("/servers", "[SERVER|refresh]", "how each is; resources, prompts", _servers, twin="mcpchat servers"),
    Command("/login", "[NAME]", "sign in to a provider or a server", _login, twin="mcpchat auth login"),
    Command("/logs", "SERVER", "what a server has logged", _logs, twin="mcpchat servers logs"),
    Command("/agent", "[NAME]", "the agents, or go on with another", _agent, twin="mcpchat agents"),
    Command("/model", "[NAME]", "the models, or go on with another", _model, twin="mcpchat models"),
    Command(
        "/threads",
        "[ID|TITLE|...]",
        "go on with another; fork, rename, branch",
        thread_commands.threads,
        ("/resume",),
        "mcpchat threads",
    ),
    Command("/new", "", "begin a new conversation", _new, ("/clear",), "mcpchat"),
    Command(
        "/undo", "[COUNT]", "take back what you said last", thread_commands.undo, twin="mcpchat --thread ID@NUMBER"
    ),
    Command("/edit", "", "say what you said last in other words", thread_commands.edit),
    Command("/retry", "", "ask the model again", _retry),
    Command("/compact", "", "sum up what was said, to make room", _compact),
    Command("/usage", "", "tokens, money, how full the window is", _usage, twin="mcpchat ask --stats"),
    Command("/attach", "[FILE]", "send a file with the next message", _attach, twin="mcpchat ask --attach"),
    Command("/last", "[NUMBER]", "the latest calls and their results, whole", _last, twin="mcpchat threads show"),
    Command("/copy", "[code]", "the latest answer, or its code, to the clipboard", _copy),
    Command("/exit", "", "leave", _exit, ("/quit",)),
)
KEYS = (
    "Enter sends; Ctrl-J, Alt-Enter, or \\ at the end: new line; Ctrl-X Ctrl-E: editor",
    "Up, Ctrl-R: what was typed before; Tab completes; Right takes the suggestion",
    "@ names a file or a resource; /server:prompt, /template:name; a blank before / is text",
    "Ctrl-C cancels an answer; Ctrl-T folds reasoning; Ctrl-D leaves",
)
PLAIN_KEYS = (
    "Enter sends; a backslash at the end goes on with the next line",
    "@ names a file or a resource; /server:prompt and /template:name send one",
    "Ctrl-C cancels an answer; Ctrl-D leaves",
)
TEMPLATES = "template"  # /template:NAME is one of the person's own
_BY_NAME = {name: command for command in COMMANDS for name in (command.name, *command.aliases)}


def help_by_name() -> dict[str, str]:
    return {command.name: command.help for command in COMMANDS}


async def run(room: Room, line: str) -> None:
    """Run a line that begins with a slash. An unknown command says what is near."""
    name, _, argument = line.strip().partition(" ")
    argument = argument.strip()
    command = _BY_NAME.get(name)
    if command is None and ":" in name:
        await _run_prompt(room, name[1:], argument)
        return
    if command is None:
        room.say(f"no command {name}" + (did_you_mean(name, _BY_NAME) or "; /help lists them"), "yellow")
        return
    if argument and not command.argument:
        raise UsageError(f"{name} takes nothing after it")
    await command.run(room, argument)


async def _run_prompt(room: Room, label: str, argument: str) -> None:
    """Send the messages that a server makes of its prompt, or what a template of the person's makes."""
    await room.toolbox.tools()
    prompts = {prompt.label: prompt for kept in room.servers.catalogs().values() for prompt in kept.prompts}
    prompt = prompts.get(label)
    space, _, name = label.partition(":")
    if prompt is None and space == TEMPLATES:
        await _run_template(room, name, argument)
        return
    if prompt is None:
        known = did_you_mean(f"/{label}", [f"/{name}" for name in prompts]) or f"; /servers {space} lists its prompts"
        room.say(f"no prompt /{label}{known}", "yellow")
        return
    given = prompt_arguments(prompt, _words(argument))
    messages = await room.servers.prompt(prompt.server, prompt.name, given)
    if not messages:
        room.say(f"/{label} came back empty", "yellow")
        return
    for message in messages:
        room.say(f"  {message.role}: {one_line(message.text, 300)}", "dim")
    if messages[-1].role == "assistant":  # the beginning of an answer, which no API takes as the last word
        messages = [*messages, user("Go on.")]
    await room.send(*messages)


async def _run_template(room: Room, name: str, argument: str) -> None:
    try:
        words = shlex.split(argument)
    except ValueError:  # an apostrophe
        words = argument.split()
    said = composed(name, room.templates.template(name), words, "", room.templates.values())
    if not said:
        raise UsageError(f"the template {name} makes nothing of it")
    await room.talk(said, files=False)
