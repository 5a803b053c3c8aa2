"""One calm line for a tool call, the same in every renderer."""

import json
import unicodedata
from contextlib import suppress

from mcpchat.core.events import ServerChanged, ToolFinished, ToolStarted
from mcpchat.core.messages import ToolCall, ToolResult, arguments_of, result_text
from mcpchat.util.sanitize import one_line

_ARGUMENT = 40  # characters of one argument
_BRIEF = 12  # cells of a result, however narrow the terminal
_TITLE = 40
_LONGEST_ERROR = 300  # characters: the reason matters more than the one line
_WIDE = 200  # cells, where no screen says how many there are


def started(event: ToolStarted | ToolFinished, width: int = _WIDE) -> str:
    """The tool, whose account it has, what it is called, and its arguments: on ``width`` cells, the last cut first."""
    whose = _whose(event)
    given = arguments(event.call)
    title = one_line(event.title, _TITLE)
    if title and not _says_the_same(title, event.tool):
        titled = f"{whose} · {title}"
        if _cells(titled) + 2 + _cells(given) <= width:
            whose = titled
    return _fitting(f"{whose}  {given}".rstrip(), width)


def finished(event: ToolFinished, width: int = _WIDE) -> str:
    """The call, what came back, and how long it took, on ``width`` cells; an error's reason may take more."""
    took = f"{event.seconds:.1f} s"
    left = width - len(took) - 4
    if event.result.is_error:
        return f"{started(event, left)}  {brief(event.result, _LONGEST_ERROR)}  {took}"
    came = brief(event.result, _WIDE)
    # The arguments may take what the result leaves, and the result what the arguments leave.
    call = started(event, left - min(_cells(came), max(_BRIEF, left // 3)))
    return f"{call}  {_fitting(came, max(1, left - _cells(call)))}  {took}"


def _whose(event: ToolStarted | ToolFinished) -> str:
    server, dot, name = one_line(event.tool, 100).partition(".")
    account = f"({one_line(event.account, _TITLE)})" if event.account and dot else ""
    return f"{server}{account}{dot}{name}"


def _says_the_same(title: str, tool: str) -> bool:
    def bare(text: str) -> str:
        return "".join(filter(str.isalnum, text)).casefold()

    return bare(title) == bare(tool.partition(".")[2])


def _fitting(text: str, width: int) -> str:
    if _cells(text) <= width:
        return text
    kept, left = "", max(0, width - 1)
    for letter in text:
        left -= _cells(letter)
        if left < 0:
            break
        kept += letter
    return kept.rstrip() + "…"


def _cells(text: str) -> int:
    """How wide the text is on a terminal. (rich knows better, and takes its time to be imported.)"""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.category(letter) in {"Mn", "Me", "Cf"} else 1 + (unicodedata.east_asian_width(letter) in "WF")
        for letter in text
    )


def arguments(call: ToolCall) -> str:
    """``key=value`` pairs, long values cut."""
    return "  ".join(
        f"{one_line(key, _ARGUMENT)}={one_line(_shown(value), _ARGUMENT)}" for key, value in arguments_of(call).items()
    )


def _shown(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


def brief(result: ToolResult, limit: int) -> str:
    """What came back, on one line of at most ``limit`` characters."""
    text = result_text(result)
    with suppress(ValueError, RecursionError):
        text = json.dumps(json.loads(text), ensure_ascii=False)  # one line of JSON instead of an indented block
    lines = text.strip().count("\n") + 1
    if lines > 3 and not result.is_error:
        return f"{lines} lines"
    return one_line(text.strip(), limit) or "(nothing)"


def down(event: ServerChanged) -> str:
    """Why a server is not there: its reason, and the last of what it said."""
    reason, *log = event.detail.splitlines()
    tail = "".join(f"\n    {one_line(line, 160)}" for line in log[-5:])
    if event.state == "login":
        return one_line(": ".join((reason, *log)), 300)
    return f"server {event.server} is down: {one_line(reason, 300)}{tail}"
