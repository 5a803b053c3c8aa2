"""The slash commands that leave the straight line: other threads, other branches, other words."""

import os
from collections.abc import Awaitable, Callable, Mapping, Sequence

from mcpchat.core.messages import Compaction
from mcpchat.core.threads import Thread, interrupted_results
from mcpchat.errors import UsageError
from mcpchat.ui.chat.context import CommandContext
from mcpchat.ui.chat.thread_picker import match_threads, pick_thread
from mcpchat.ui.render import tables, transcripts
from mcpchat.ui.terminal import external
from mcpchat.util.sanitize import one_line

_MAX_DIGITS = 9  # of a number that somebody types
_MAX_LISTED = 20  # conversations, where none can be picked
_MAX_ANSWER_LINES = 12  # of the answer that is shown of a conversation that is gone on with


async def switch_thread(context: CommandContext, argument: str) -> None:
    """Go on with another thread."""
    action, _, rest = argument.partition(" ")
    if action in _THREAD_ACTION_HANDLERS:
        await _THREAD_ACTION_HANDLERS[action](context, rest.strip())
        return
    recent = context.threads.recent_threads()
    if not recent:
        context.print("no conversation is kept yet")
        return
    if argument:
        await _resume_by_name(context, argument, recent)
    elif context.plain:
        context.console.print(tables.thread_table(recent[:_MAX_LISTED]))
        context.print("  /threads ID goes on with one")
        return
    else:
        current_id = context.session.transcript.thread.id
        context.print("  letters of its title, or Down and Enter; Esc: none", "dim")
        async with context.exclusive_terminal():
            thread_id = await pick_thread([thread for thread in recent if thread.id != current_id])
        if thread_id is None:
            context.print("  this one goes on", "dim")
            return
        await context.threads.resume_thread(thread_id)
    context.reset_pending()
    show_position(context)


async def _resume_by_name(context: CommandContext, argument: str, recent: Sequence[Thread]) -> None:
    try:
        await context.threads.resume_thread(argument)
    except UsageError:
        matches = match_threads(argument, recent)
        if len(matches) != 1:
            raise
        await context.threads.resume_thread(matches[0].id)


def show_position(context: CommandContext) -> None:
    """Show where the conversation stands."""
    transcript = context.session.transcript
    thread = transcript.thread
    context.print(f'"{one_line(thread.title, 100)}" · {len(transcript.messages)} messages · {thread.short_id}', "bold")
    agent = f"agent {context.session.agent.name} · " if context.session.agent.name else ""
    context.print(f"{agent}{one_line(context.session.model.name, 100)}", "dim")
    last_user_message = next((message for message in reversed(transcript.messages) if message.role == "user"), None)
    last_message = next((message for message in reversed(transcript.messages) if message.role != "system"), None)
    if last_user_message is not None:
        context.print(f"> {one_line(last_user_message.user_text, 300)}", "dim")
    if last_message is not None and last_message.role == "assistant" and last_message.text:
        lines = last_message.text.strip().splitlines()
        context.print("\n".join(lines[:_MAX_ANSWER_LINES]))
        if len(lines) > _MAX_ANSWER_LINES:
            context.print(
                f"  … {len(lines) - _MAX_ANSWER_LINES} more lines: mcpchat threads show {thread.short_id}", "dim"
            )
    if any(isinstance(part, Compaction) and part.summary for message in transcript.messages for part in message.parts):
        context.print("  the model is shown a summary of its earlier part; /threads branch goes back before it", "dim")
    if interrupted_results(transcript.messages) is not None:
        context.print("  mcpchat ended here while tools ran; whether they took effect is not known", "yellow")


async def undo(context: CommandContext, argument: str) -> None:
    """Take back the latest message and all that followed."""
    if argument and not (argument.isdecimal() and 0 < len(argument) < _MAX_DIGITS and int(argument)):
        raise UsageError(f"/undo {argument}: expected how many to take back")
    for number in range(int(argument or 1)):
        try:
            text = await context.session.undo()
        except UsageError:
            if not number:
                raise
            context.print("  that was all there was", "dim")
            break
        context.print(f"  taken back: {one_line(text, 200)}")
    if context.session.transcript.is_persistent:
        context.print("  /threads branch goes back to it", "dim")


async def edit(context: CommandContext, argument: str) -> None:
    """Say the latest message in other words: in the person's editor, or at the prompt."""
    index = context.session.last_user_index()
    text = context.session.history[index].user_text
    command = external.find_editor()
    if not command:
        if os.environ.get("VISUAL") or os.environ.get("EDITOR"):
            context.print("  $VISUAL or $EDITOR names no program that is there", "yellow")
        context.draft, context.editing_index = text, index
        context.print("  change it and press Enter; an empty line leaves all as it is", "dim")
        return
    async with context.exclusive_terminal():
        new_text = await external.edit_text(text, command, suffix=".md")
    if new_text is None:
        context.print("  the editor failed: nothing was changed", "yellow")
        return
    if not new_text.strip() or new_text.strip() == text.strip():
        context.print("  nothing was changed", "dim")
        return
    context.editing_index = index
    await context.send_text(new_text.rstrip("\n"))


async def branch(context: CommandContext, argument: str) -> None:
    """Show the branches of this thread, or go to one."""
    if not argument:
        lines = transcripts.format_tree(context.session.transcript.current_thread, context.threads.thread_messages())
        context.print("\n".join(lines) or "nothing was said yet")
        context.print("  /threads branch NUMBER goes to one; any message's number does", "dim")
        return
    if not argument.isdecimal() or len(argument) > _MAX_DIGITS:
        raise UsageError(f"/threads branch {argument}: expected a message's number", hint="/threads branch lists them")
    context.threads.checkout(int(argument))
    show_position(context)


async def fork(context: CommandContext, argument: str) -> None:
    """Go on in a copy of this thread."""
    thread = context.threads.fork_thread(one_line(argument, 200))
    context.print(f"  this is {thread.short_id} now, a fork of {thread.forked_from[:8]}")


async def rename(context: CommandContext, argument: str) -> None:
    """Give this thread another title."""
    if not argument:
        raise UsageError("usage: /threads rename TITLE")
    context.threads.rename_thread(one_line(argument, 200))
    context.print(f'  this is "{one_line(argument, 200)}" now')


# What /threads does with the conversation at hand; another one that is called so is named by its id.
_THREAD_ACTION_HANDLERS: Mapping[str, Callable[[CommandContext, str], Awaitable[None]]] = {
    "branch": branch,
    "fork": fork,
    "rename": rename,
}
THREAD_ACTIONS = {
    "branch": "what was said on other branches of this one, or go to a message of it",
    "fork": "go on in a copy of this one",
    "rename": "give this one another title",
}
