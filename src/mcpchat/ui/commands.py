"""The slash commands: one table, from which /help and completion are made too."""

import shlex
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from mcpchat.core.catalog import Resource, Template
from mcpchat.core.errors import McpChatError, UsageError
from mcpchat.core.messages import user
from mcpchat.core.prompts import prompt_arguments
from mcpchat.core.sanitize import one_line
from mcpchat.core.session import GO_ON
from mcpchat.core.templates import composed
from mcpchat.core.tools import nearest
from mcpchat.ui import branching, stats, tables
from mcpchat.ui.room import Room

_LOG_LINES = 40
_MOST_MODELS = 40


@dataclass(frozen=True)
class Command:
    name: str
    argument: str
    help: str
    run: Callable[[Room, str], Awaitable[None]]
    aliases: tuple[str, ...] = ()


async def _help(room: Room, argument: str) -> None:
    width = max(len(f"{command.name} {command.argument}") for command in COMMANDS)
    for command in COMMANDS:
        room.say(f"  {f'{command.name} {command.argument}':<{width}}  {command.help}")
    room.say("  Enter sends, Alt-Enter makes a new line, Ctrl-C cancels an answer, Ctrl-D leaves.", "dim")


async def _tools(room: Room, argument: str) -> None:
    specs = [spec for spec in await room.toolbox.tools() if not argument or spec.server == argument]
    if specs:
        room.console.print(tables.tools(specs))
    else:
        room.say(f"no tools of {argument}: /servers shows why" if argument else "no tools: /servers shows why")


async def _servers(room: Room, argument: str) -> None:
    room.console.print(tables.servers(room.servers.status()))


async def _resources(room: Room, argument: str) -> None:
    await room.toolbox.tools()  # what nothing is known of yet is asked first
    found: list[Resource | Template] = []
    for name, kept in room.servers.catalogs().items():
        if not argument or name == argument:
            found += (*kept.resources, *kept.templates)
    if found:
        room.console.print(tables.resources(found))
        room.say("  @server:uri in a message puts one into it", "dim")
    else:
        room.say("no resources")


async def _prompts(room: Room, argument: str) -> None:
    await room.toolbox.tools()
    found = [
        one
        for name, kept in room.servers.catalogs().items()
        if not argument or name == argument
        for one in kept.prompts
    ]
    if found:
        room.console.print(tables.prompts(found))
        room.say("  /server:name key=value sends one", "dim")
    else:
        room.say("no prompts")


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


async def _refresh(room: Room, argument: str) -> None:
    room.say(f"{len(await room.servers.refresh())} tools on offer", "dim")


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


async def _template(room: Room, argument: str) -> None:
    try:
        words = shlex.split(argument)
    except ValueError:  # an apostrophe
        words = argument.split()
    if not words:
        known = room.templates.templates()
        room.say("templates: " + ", ".join(known) if known else "there are no templates: mcpchat ask -t says where")
        return
    name, *rest = words
    said = composed(name, room.templates.template(name), rest, "", room.templates.values())
    if not said:
        raise UsageError(f"the template {name} makes nothing of it")
    await room.talk(said)


def _words(argument: str) -> list[str]:
    try:
        return shlex.split(argument)
    except ValueError as error:
        raise UsageError(f"the arguments end within quotes: {argument}", hint='key="a value"') from error


async def _retry(room: Room, argument: str) -> None:
    room.tell(await room.session.retry())


async def _continue(room: Room, argument: str) -> None:
    answers = [message for message in room.session.history if message.role == "assistant"]
    if not answers or not answers[-1].cut:
        raise UsageError("the latest answer was not cut")
    await room.send(user(GO_ON))


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
    room.attached += room.read_file(argument)
    room.say(f"{argument} goes with the next message", "dim")


async def _clear(room: Room, argument: str) -> None:
    room.session.clear()
    room.console.clear()
    room.let_go()
    room.say("a new conversation", "dim")


async def _exit(room: Room, argument: str) -> None:
    room.leaving = True


COMMANDS: Sequence[Command] = (
    Command("/help", "", "what can be typed here", _help, ("/?",)),
    Command("/tools", "[SERVER]", "the tools on offer", _tools),
    Command("/servers", "", "each server and how it is", _servers),
    Command("/resources", "[SERVER]", "what can be read: @server:uri in a message", _resources),
    Command("/prompts", "[SERVER]", "what servers can write: /server:name key=value", _prompts),
    Command("/login", "[NAME]", "sign in to a provider or a remote server", _login),
    Command("/logs", "SERVER", "what a server has logged", _logs),
    Command("/refresh", "", "ask every server anew, those that failed too", _refresh),
    Command("/agent", "[NAME]", "the agents, or go on with another", _agent),
    Command("/model", "[NAME]", "show the model and what there is, or go on with another", _model),
    Command(
        "/threads", "[ID|TITLE]", "go on with another conversation: choose, or name it", branching.threads, ("/resume",)
    ),
    Command("/undo", "[COUNT]", "take back what you said last, and its answer", branching.undo),
    Command("/edit", "", "say what you said last in other words", branching.edit),
    Command("/retry", "", "ask the model again for its latest answer", _retry),
    Command("/branch", "[NUMBER]", "what was said on other branches, or go to one", branching.branch),
    Command("/fork", "[TITLE]", "go on in a copy of this conversation", branching.fork),
    Command("/rename", "TITLE", "give this conversation another title", branching.rename),
    Command("/continue", "", "have it go on with an answer that was cut", _continue),
    Command("/template", "[NAME] [KEY=VALUE]", "say what a template makes of it", _template),
    Command("/attach", "[FILE]", "send a text, an image or a PDF with the next message", _attach),
    Command("/compact", "", "sum up what was said, to make room", _compact),
    Command("/usage", "", "tokens, money, and how full the window is", _usage),
    Command("/clear", "", "begin a new conversation", _clear, ("/new",)),
    Command("/exit", "", "leave", _exit, ("/quit",)),
)
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
        close = nearest(name, _BY_NAME, count=1)
        room.say(f"no command {name}" + (f"; did you mean {close[0]}?" if close else "; /help lists them"), "yellow")
        return
    await command.run(room, argument)


async def _run_prompt(room: Room, label: str, argument: str) -> None:
    """Send the messages that a server makes of its prompt."""
    await room.toolbox.tools()
    prompts = {prompt.label: prompt for kept in room.servers.catalogs().values() for prompt in kept.prompts}
    prompt = prompts.get(label)
    if prompt is None:
        close = nearest(label, prompts, count=1)
        room.say(
            f"no prompt /{label}" + (f"; did you mean /{close[0]}?" if close else "; /prompts lists them"), "yellow"
        )
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
