"""The slash commands: one table, from which /help and completion are made too."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.text import Text

from mcpchat.core.ports import Servers, Toolbox
from mcpchat.core.sanitize import clean
from mcpchat.core.session import Session
from mcpchat.core.tools import nearest
from mcpchat.ui import tables


@dataclass
class Room:
    """What a command can work on. ``leaving`` ends the chat."""

    session: Session
    toolbox: Toolbox
    servers: Servers
    switch_model: Callable[[str], Awaitable[None]]
    console: Console
    leaving: bool = False

    def say(self, text: str, style: str = "") -> None:
        self.console.print(Text(clean(text), style=style))


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


async def _model(room: Room, argument: str) -> None:
    if argument:
        await room.switch_model(argument)
    room.say(f"model: {room.session.model.name}")


async def _clear(room: Room, argument: str) -> None:
    room.session.clear()
    room.console.clear()
    room.say("a new conversation", "dim")


async def _exit(room: Room, argument: str) -> None:
    room.leaving = True


COMMANDS: Sequence[Command] = (
    Command("/help", "", "what can be typed here", _help, ("/?",)),
    Command("/tools", "[SERVER]", "the tools on offer", _tools),
    Command("/servers", "", "each server and how it is", _servers),
    Command("/model", "[NAME]", "show the model, or go on with another", _model),
    Command("/clear", "", "begin a new conversation", _clear, ("/new",)),
    Command("/exit", "", "leave", _exit, ("/quit",)),
)
_BY_NAME = {name: command for command in COMMANDS for name in (command.name, *command.aliases)}


def help_by_name() -> dict[str, str]:
    return {command.name: command.help for command in COMMANDS}


async def run(room: Room, line: str) -> None:
    """Run a line that begins with a slash. An unknown command says what is near."""
    name, _, argument = line.strip().partition(" ")
    command = _BY_NAME.get(name)
    if command is None:
        close = nearest(name, _BY_NAME, count=1)
        room.say(f"no command {name}" + (f"; did you mean {close[0]}?" if close else "; /help lists them"), "yellow")
        return
    await command.run(room, argument.strip())
