"""The slash commands that leave the straight line: other threads, other branches, other words."""

import os
from collections.abc import Awaitable, Callable, Mapping, Sequence

from mcpchat.core.messages import Compaction
from mcpchat.core.threads import Thread, interrupted
from mcpchat.errors import UsageError
from mcpchat.ui.chat.context import Room
from mcpchat.ui.chat.thread_picker import fuzzy, pick
from mcpchat.ui.render import tables, transcripts
from mcpchat.ui.terminal import external
from mcpchat.util.sanitize import one_line

_DIGITS = 9  # of a number that somebody types
_LISTED = 20  # conversations, where none can be picked
_LINES = 12  # of the answer that is shown of a conversation that is gone on with


async def threads(room: Room, argument: str) -> None:
    """Go on with another thread."""
    word, _, rest = argument.partition(" ")
    if word in _OF_THIS:
        await _OF_THIS[word](room, rest.strip())
        return
    known = room.threads.recent()
    if not known:
        room.say("no conversation is kept yet")
        return
    if argument:
        await _resume(room, argument, known)
    elif room.plain:
        room.console.print(tables.threads(known[:_LISTED]))
        room.say("  /threads ID goes on with one")
        return
    else:
        here = room.session.transcript.thread.id
        room.say("  letters of its title, or Down and Enter; Esc: none", "dim")
        async with room.alone():
            name = await pick([thread for thread in known if thread.id != here])
        if name is None:
            room.say("  this one goes on", "dim")
            return
        await room.threads.resume(name)
    room.let_go()
    recall(room)


async def _resume(room: Room, argument: str, known: Sequence[Thread]) -> None:
    try:
        await room.threads.resume(argument)
    except UsageError:
        close = fuzzy(argument, known)
        if len(close) != 1:
            raise
        await room.threads.resume(close[0].id)


def recall(room: Room) -> None:
    """Show where the conversation stands."""
    transcript = room.session.transcript
    thread = transcript.thread
    room.say(f'"{one_line(thread.title, 100)}" · {len(transcript.messages)} messages · {thread.short_id}', "bold")
    whom = f"agent {room.session.role.name} · " if room.session.role.name else ""
    room.say(f"{whom}{one_line(room.session.model.name, 100)}", "dim")
    said = next((message for message in reversed(transcript.messages) if message.role == "user"), None)
    last = next((message for message in reversed(transcript.messages) if message.role != "system"), None)
    if said is not None:
        room.say(f"> {one_line(said.words, 300)}", "dim")
    if last is not None and last.role == "assistant" and last.text:
        lines = last.text.strip().splitlines()
        room.say("\n".join(lines[:_LINES]))
        if len(lines) > _LINES:
            room.say(f"  … {len(lines) - _LINES} more lines: mcpchat threads show {thread.short_id}", "dim")
    if any(isinstance(part, Compaction) and part.summary for message in transcript.messages for part in message.parts):
        room.say("  the model is shown a summary of its earlier part; /threads branch goes back before it", "dim")
    if interrupted(transcript.messages) is not None:
        room.say("  mcpchat ended here while tools ran; whether they took effect is not known", "yellow")


async def undo(room: Room, argument: str) -> None:
    """Take back the latest message and all that followed."""
    if argument and not (argument.isdecimal() and 0 < len(argument) < _DIGITS and int(argument)):
        raise UsageError(f"/undo {argument}: expected how many to take back")
    for number in range(int(argument or 1)):
        try:
            words = await room.session.undo()
        except UsageError:
            if not number:
                raise
            room.say("  that was all there was", "dim")
            break
        room.say(f"  taken back: {one_line(words, 200)}")
    if room.session.transcript.kept:
        room.say("  /threads branch goes back to it", "dim")


async def edit(room: Room, argument: str) -> None:
    """Say the latest message in other words: in the person's editor, or at the prompt."""
    place = room.session.last_said()
    text = room.session.history[place].words
    command = external.editor()
    if not command:
        if os.environ.get("VISUAL") or os.environ.get("EDITOR"):
            room.say("  $VISUAL or $EDITOR names no program that is there", "yellow")
        room.draft, room.editing = text, place
        room.say("  change it and press Enter; an empty line leaves all as it is", "dim")
        return
    async with room.alone():
        edited = await external.edited(text, command, suffix=".md")
    if edited is None:
        room.say("  the editor failed: nothing was changed", "yellow")
        return
    if not edited.strip() or edited.strip() == text.strip():
        room.say("  nothing was changed", "dim")
        return
    room.editing = place
    await room.talk(edited.rstrip("\n"))


async def branch(room: Room, argument: str) -> None:
    """Show the branches of this thread, or go to one."""
    if not argument:
        lines = transcripts.tree(room.session.transcript.current, room.threads.nodes())
        room.say("\n".join(lines) or "nothing was said yet")
        room.say("  /threads branch NUMBER goes to one; any message's number does", "dim")
        return
    if not argument.isdecimal() or len(argument) > _DIGITS:
        raise UsageError(f"/threads branch {argument}: expected a message's number", hint="/threads branch lists them")
    room.threads.go_to(int(argument))
    recall(room)


async def fork(room: Room, argument: str) -> None:
    """Go on in a copy of this thread."""
    made = room.threads.fork(one_line(argument, 200))
    room.say(f"  this is {made.short_id} now, a fork of {made.forked_from[:8]}")


async def rename(room: Room, argument: str) -> None:
    """Give this thread another title."""
    if not argument:
        raise UsageError("usage: /threads rename TITLE")
    room.threads.rename(one_line(argument, 200))
    room.say(f'  this is "{one_line(argument, 200)}" now')


# What /threads does with the conversation at hand; another one that is called so is named by its id.
_OF_THIS: Mapping[str, Callable[[Room, str], Awaitable[None]]] = {"branch": branch, "fork": fork, "rename": rename}
OF_THIS = {
    "branch": "what was said on other branches of this one, or go to a message of it",
    "fork": "go on in a copy of this one",
    "rename": "give this one another title",
}
