"""One line for a tool call, the same in every renderer."""

import json
import unicodedata
from contextlib import suppress

from mcpchat.core.events import ServerChanged, ToolFinished, ToolProgress, ToolStarted, ToolTask
from mcpchat.core.messages import ToolCall, ToolResult, decode_arguments, result_text
from mcpchat.util.sanitize import one_line

_MAX_ARGUMENT_LENGTH = 40  # characters of one argument
_MIN_RESULT_WIDTH = 12  # cells of a result, however narrow the terminal
_MAX_TITLE_LENGTH = 40
_MAX_NOTE = 40  # characters of a note on the progress
_MAX_ERROR_LENGTH = 300  # characters; an error may take more than one line
_DEFAULT_WIDTH = 200  # cells, without a screen


def format_running(event: ToolStarted | ToolFinished, width: int = _DEFAULT_WIDTH) -> str:
    """The tool, its account, its title and its arguments, on at most ``width`` cells.

    The title is left out first, then the arguments are cut.
    """
    name = _format_name(event)
    arguments = format_arguments(event.call)
    title = one_line(event.title, _MAX_TITLE_LENGTH)
    if title and not _is_same_name(title, event.tool):
        with_title = f"{name} · {title}"
        if _cell_width(with_title) + 2 + _cell_width(arguments) <= width:
            name = with_title
    return _truncate(f"{name}  {arguments}".rstrip(), width)


def format_finished(event: ToolFinished, width: int = _DEFAULT_WIDTH) -> str:
    """The call, its result and its duration on at most ``width`` cells; an error message may take more."""
    duration = f"{event.seconds:.1f} s"
    available = width - len(duration) - 4
    if event.result.is_error:
        return f"{format_running(event, available)}  {summarize_result(event.result, _MAX_ERROR_LENGTH)}  {duration}"
    result = summarize_result(event.result, _DEFAULT_WIDTH)
    # The arguments get the space that the result does not need, and the other way round.
    call = format_running(event, available - min(_cell_width(result), max(_MIN_RESULT_WIDTH, available // 3)))
    return f"{call}  {_truncate(result, max(1, available - _cell_width(call)))}  {duration}"


def _format_name(event: ToolStarted | ToolFinished) -> str:
    server, dot, name = one_line(event.tool, 100).partition(".")
    account = f"({one_line(event.account, _MAX_TITLE_LENGTH)})" if event.account and dot else ""
    return f"{server}{account}{dot}{name}"


def _is_same_name(title: str, tool: str) -> bool:
    def normalize(text: str) -> str:
        return "".join(filter(str.isalnum, text)).casefold()

    return normalize(title) == normalize(tool.partition(".")[2])


def _truncate(text: str, width: int) -> str:
    if _cell_width(text) <= width:
        return text
    head, remaining = "", max(0, width - 1)
    for char in text:
        remaining -= _cell_width(char)
        if remaining < 0:
            break
        head += char
    return head.rstrip() + "…"


def _cell_width(text: str) -> int:
    """The width of the text in terminal cells. rich is more exact, but slow to import."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.category(char) in {"Mn", "Me", "Cf"} else 1 + (unicodedata.east_asian_width(char) in "WF")
        for char in text
    )


def format_arguments(call: ToolCall) -> str:
    """``key=value`` pairs; long values are cut."""
    return "  ".join(
        f"{one_line(key, _MAX_ARGUMENT_LENGTH)}={one_line(_to_json(value), _MAX_ARGUMENT_LENGTH)}"
        for key, value in decode_arguments(call).items()
    )


def _to_json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


def summarize_result(result: ToolResult, limit: int) -> str:
    """The result on one line of at most ``limit`` characters, or its number of items or lines."""
    text = result_text(result)
    with suppress(ValueError, RecursionError):
        value = json.loads(text)
        text = json.dumps(value, ensure_ascii=False)  # one line of JSON instead of an indented block
        if len(text) > limit and (count := _count_items(value)):
            return count
    lines = text.strip().count("\n") + 1
    if lines > 3 and not result.is_error:
        return f"{lines} lines"
    return one_line(text.strip(), limit) or "(nothing)"


def _count_items(value: object) -> str:
    """``3 files`` for an object with one list; empty for any other value."""
    lists = [(key, item) for key, item in value.items() if isinstance(item, list)] if isinstance(value, dict) else []
    return f"{len(lists[0][1])} {one_line(lists[0][0], 30)}" if len(lists) == 1 else ""


def format_server_down(event: ServerChanged) -> str:
    """The reason why a server is down, and the last lines of its log."""
    reason, *log = event.detail.splitlines()
    tail = "".join(f"\n    {one_line(line, 160)}" for line in log[-5:])
    if event.state == "login":
        return one_line(": ".join((reason, *log)), 300)
    return f"server {event.server} is down: {one_line(reason, 300)}{tail}"


def format_progress(event: ToolProgress) -> str:
    """How far a call is: ``· 3 of 10 note``."""
    amount = f"{event.done:g} of {event.total:g}" if event.total else f"{event.done:g}"
    note = one_line(event.note, _MAX_NOTE)
    return f"  · {note}" if note and not event.done and not event.total else f"  · {amount} {note}".rstrip()


def format_task(event: ToolTask) -> str:
    """The status of a call that its server runs as a task: ``task 3fa21c of box.count: working: 3 of 9``."""
    status = event.status.replace("_", " ")
    return f"task {event.task} of {event.tool}: " + one_line(": ".join(filter(None, (status, event.message))), 200)
