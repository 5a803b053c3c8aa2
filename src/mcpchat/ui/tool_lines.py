"""One calm line for a tool call, the same in every renderer."""

import json
from contextlib import suppress
from typing import Any

from mcpchat.core.events import ServerChanged, ToolFinished, ToolStarted
from mcpchat.core.messages import ToolCall, ToolResult, result_text
from mcpchat.core.sanitize import one_line

_ARGUMENT = 40  # characters of one argument
_BRIEF = 16  # characters of a result, however narrow the terminal
_LONGEST_ERROR = 300  # characters: the reason matters more than the one line


def started(event: ToolStarted) -> str:
    return f"{one_line(event.tool, 100)}  {arguments(event.call)}".rstrip()


def finished(event: ToolFinished, width: int = 200) -> str:
    """The call, what came back, and how long it took; the result is cut to fit ``width`` characters."""
    call, took = started(ToolStarted(call=event.call, tool=event.tool)), f"{event.seconds:.1f} s"
    limit = _LONGEST_ERROR if event.result.is_error else max(_BRIEF, width - len(call) - len(took) - 4)
    return f"{call}  {brief(event.result, limit)}  {took}"


def arguments(call: ToolCall) -> str:
    """``key=value`` pairs, long values cut."""
    return "  ".join(
        f"{one_line(key, _ARGUMENT)}={one_line(_shown(value), _ARGUMENT)}" for key, value in values(call).items()
    )


def values(call: ToolCall) -> dict[str, Any]:
    """The call's arguments; as one text where they are no object any more, without a secret that was in them."""
    try:
        found = json.loads(call.arguments)
    except (ValueError, RecursionError):
        found = None
    return found if isinstance(found, dict) else {"arguments": call.arguments}


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
