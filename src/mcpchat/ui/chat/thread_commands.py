"""Slash commands on threads and branches: /threads, /undo, /edit."""

import os
from collections.abc import Awaitable, Callable, Mapping, Sequence

from mcpchat.core.messages import Compaction
from mcpchat.core.threads import Thread, interrupted_results
from mcpchat.errors import UsageError
from mcpchat.ui.chat.context import CommandContext
from mcpchat.ui.chat.thread_picker import match_threads, pick_thread
from mcpchat.ui.render import tables, transcripts
from mcpchat.ui.render.thread_tree import format_tree
from mcpchat.ui.render.transcript_html import to_html
from mcpchat.ui.terminal import external
from mcpchat.util.output_files import write_file
from mcpchat.util.paths import expand_user
from mcpchat.util.sanitize import one_line

_MAX_DIGITS = 9  # digits of a typed number
_MAX_LISTED = 20  # threads, in line mode
_MAX_ANSWER_LINES = 12  # lines of the latest answer, shown when a thread is resumed


async def switch_thread(context: CommandContext, argument: str) -> None:
    """Resume another thread, or run an action on the current one (branch, fork, rename)."""
    action, _, rest = argument.partition(" ")
    if action in _THREAD_ACTION_HANDLERS:
        await _THREAD_ACTION_HANDLERS[action](context, rest.strip())
        return
    recent = context.chat.recent_threads()
    if not recent:
        context.print("no conversation is saved yet")
        return
    if argument:
        await _resume_by_name(context, argument, recent)
    elif context.plain:
        context.console.print(tables.thread_table(recent[:_MAX_LISTED]))
        context.print("  /threads ID resumes one")
        return
    else:
        current_id = context.session.transcript.thread.id
        context.print("  type letters of its title, or Down and Enter; Esc cancels", "dim")
        async with context.exclusive_terminal():
            thread_id = await pick_thread([thread for thread in recent if thread.id != current_id])
        if thread_id is None:
            context.print("  the current conversation continues", "dim")
            return
        await context.chat.resume_thread(thread_id)
    context.reset_pending()
    show_position(context)


async def _resume_by_name(context: CommandContext, argument: str, recent: Sequence[Thread]) -> None:
    try:
        await context.chat.resume_thread(argument)
    except UsageError:
        matches = match_threads(argument, recent)
        if len(matches) != 1:
            raise
        await context.chat.resume_thread(matches[0].id)


def show_position(context: CommandContext) -> None:
    """Print the title of the current thread, its agent and model, and the latest message and answer."""
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
        context.print("  the model sees a summary of the earlier part; /threads branch can go back before it", "dim")
    if interrupted_results(transcript.messages) is not None:
        context.print("  mcpchat ended here while tools were running; they may or may not have taken effect", "yellow")


async def undo(context: CommandContext, argument: str) -> None:
    """Take back the latest user message and everything after it; ``argument`` is how many messages."""
    if argument and not (argument.isdecimal() and 0 < len(argument) < _MAX_DIGITS and int(argument)):
        raise UsageError(f"/undo {argument}: expected the number of messages to take back")
    for number in range(int(argument or 1)):
        try:
            text = await context.session.undo()
        except UsageError:
            if not number:
                raise
            context.print("  there are no more messages", "dim")
            break
        context.print(f"  taken back: {one_line(text, 200)}")
    if context.session.transcript.is_persistent:
        context.print("  /threads branch goes back to it", "dim")


async def edit(context: CommandContext, argument: str) -> None:
    """Edit the latest user message, in $VISUAL or $EDITOR or else at the prompt, and send it again."""
    index = context.session.last_user_index()
    text = context.session.history[index].user_text
    command = external.find_editor()
    if not command:
        if os.environ.get("VISUAL") or os.environ.get("EDITOR"):
            context.print("  the program in $VISUAL or $EDITOR does not exist", "yellow")
        context.draft, context.editing_index = text, index
        context.print("  change it and press Enter; an empty line changes nothing", "dim")
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
    """Show the branches of the current thread, or go to the message with this number."""
    if not argument:
        lines = format_tree(context.session.transcript.current_thread, context.chat.thread_messages())
        context.print("\n".join(lines) or "no messages yet")
        context.print("  /threads branch NUMBER goes to any message by its number", "dim")
        return
    if not argument.isdecimal() or len(argument) > _MAX_DIGITS:
        raise UsageError(f"/threads branch {argument}: expected a message's number", hint="/threads branch lists them")
    context.chat.checkout(int(argument))
    show_position(context)


async def export(context: CommandContext, argument: str) -> None:
    """Write the conversation to a file, as HTML or as Markdown by its name. Raises UsageError if it exists."""
    thread, nodes = context.session.transcript.current_thread, context.chat.thread_messages()
    path = expand_user(argument or f"mcpchat-{thread.short_id}.md")
    text = to_html(thread, nodes) if path.suffix in {".html", ".htm"} else transcripts.to_markdown(thread, nodes)
    try:
        exists = path.exists()
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror}") from error
    if exists:
        raise UsageError(f"cannot write {path}: it exists already", hint="/export FILE writes to another file")
    write_file(path, [context.redact(text)])
    context.print(f"  written to {path}")


async def fork(context: CommandContext, argument: str) -> None:
    """Continue in a copy of the current thread; ``argument`` is its title."""
    thread = context.chat.fork_thread(one_line(argument, 200))
    context.print(f"  this is now {thread.short_id}, a fork of {thread.forked_from[:8]}")


async def rename(context: CommandContext, argument: str) -> None:
    """Change the title of the current thread."""
    if not argument:
        raise UsageError("usage: /threads rename TITLE")
    context.chat.rename_thread(one_line(argument, 200))
    context.print(f'  renamed to "{one_line(argument, 200)}"')


# Actions of /threads on the current thread. A thread with such a title is resumed by its id.
_THREAD_ACTION_HANDLERS: Mapping[str, Callable[[CommandContext, str], Awaitable[None]]] = {
    "branch": branch,
    "fork": fork,
    "rename": rename,
}
THREAD_ACTIONS = {
    "branch": "show the branches of this thread, or go to a message",
    "fork": "continue in a copy of this thread",
    "rename": "change the title of this thread",
}
