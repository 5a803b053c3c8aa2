"""The text of an approval prompt: the server, the tool, the rule, all arguments and their changes."""

import difflib
import json
import textwrap
from collections.abc import Iterator, Mapping
from typing import Any

from rich.cells import chop_cells
from rich.text import Text

from mcpchat.core.policy import ApprovalRequest, Decision
from mcpchat.core.tools import Annotations, InvalidArguments, ToolSpec, parse_pairs, schema_types
from mcpchat.ui.prompts.choices import Choice
from mcpchat.util.lookalikes import excerpt, find_lookalikes
from mcpchat.util.sanitize import one_line, sanitize, show_invisible

_LONG_VALUE = 300  # characters; longer arguments are shown before the short ones
_MAX_INLINE_JSON = 60  # characters of JSON on one line; longer values are indented
_MAX_NAME_LENGTH = 60  # characters of an argument's name
_MIN_LINES = 3  # lines of an argument that are always shown
_MAX_WAITING = 8  # other calls that are listed
_MAX_WAITING_LENGTH = 200  # characters of the arguments of such a call
_MAX_LOOKALIKES = 5  # words that are named
_DIFF_CONTEXT = 1  # lines around a changed line
_VALUE_INDENT = "      │ "  # before each line of a value except the first, so that no line looks like another argument


def server_label(spec: ToolSpec) -> str:
    """The server's name in the config, with the account that it uses: ``gmail(work)``."""
    return one_line(spec.server, 40) + (f"({one_line(spec.account, 40)})" if spec.account else "")


def format_request(request: ApprovalRequest, *, width: int, lines: int) -> tuple[Text, bool]:
    """The prompt's text, and whether any argument was cut. The arguments take about ``lines`` lines of ``width``."""
    spec = request.tool
    text = Text("  ").append(server_label(spec), style="bold").append(" wants to run ")
    text.append(one_line(spec.name, 80), style="bold").append(f"   ({one_line(request.rule, 120)})", style="dim")
    titles = [f'"{one_line(title, 60)}"' for title in (spec.server_title, spec.title) if title.strip()]
    facts = ", ".join((*titles, f"annotations: {describe_annotations(spec.annotations)}"))
    text.append(f"\n    {facts}{'' if spec.trusted else ' (not trusted)'}", style="dim")
    arguments, truncated = _format_arguments(request, width, lines)
    text.append(arguments)
    text.append(_format_waiting(request)[0])
    calls = [_format_values(call) for call in (request.arguments, *(other.arguments for other in request.others))]
    if lookalikes := find_lookalikes("\n".join(part for call in calls for pair in call.items() for part in pair)):
        shown = [one_line(show_invisible(excerpt(word)), 80) for word in lookalikes[:_MAX_LOOKALIKES]]
        more = f" and {len(lookalikes) - len(shown)} more" if len(lookalikes) > len(shown) else ""
        text.append(f"\n    letters that may imitate others: {', '.join(shown)}{more}", style="yellow")
    if request.error:
        text.append(f"\n  rejected: {sanitize(request.error)}", style="yellow")
    return text, truncated


def describe_annotations(annotations: Annotations) -> str:
    """The server's annotations of the tool, in words."""
    statements = {
        "changes nothing": annotations.read_only,
        "may destroy or send": annotations.destructive if not annotations.read_only else None,
        "idempotent": annotations.idempotent if not annotations.read_only else None,
        "reaches external systems": annotations.open_world,
    }
    negations = {"changes nothing": "changes things", "may destroy or send": "destroys nothing"}
    phrases = [
        phrase if claim else negations.get(phrase, "") for phrase, claim in statements.items() if claim is not None
    ]
    return ", ".join(filter(None, phrases)) or "none"


def full_arguments(request: ApprovalRequest) -> str:
    """All arguments, not cut, as plain text."""
    calls = [(request.tool, request.arguments), *((other.tool, other.arguments) for other in request.others)]
    return "\n".join(
        f"{tool.qualified_name}\n"
        + "".join(
            f"\n{show_invisible(name)}\n{textwrap.indent(show_invisible(value), '    ', lambda line: True)}\n"
            for name, value in _format_values(arguments).items()
        )
        for tool, arguments in calls
    )


def decision_choices(request: ApprovalRequest, *, truncated: bool) -> list[Choice]:
    """The answers that the prompt offers."""
    count = len(request.others) + 1
    choices = [
        Choice("y", "[y]es", "run it once"),
        Choice("A", f"[A]ll {count}", f"run these {count} calls once"),
        Choice("s", "this [s]ession", "yes, and do not ask about this tool again until mcpchat ends"),
        Choice("a", "[a]lways this tool", "yes, and never ask about it again; mcpchat approvals takes it back"),
        Choice("e", "[e]dit", "change the arguments, then decide"),
        Choice("n", "[n]o", "do not run it"),
        Choice("r", "no and [r]eason", "do not run it, and tell the model why"),
        Choice("v", "[v]iew all", "show every argument in full"),
    ]
    unavailable = "yas" if request.error else {"always": "", "session": "a", "once": "as"}[request.max_scope]
    # What is not shown in full is not allowed together with others.
    may_allow_all = bool(request.others) and not truncated and not _format_waiting(request)[1]
    unavailable += ("" if truncated else "v") + ("" if may_allow_all else "A")
    return [choice for choice in choices if choice.key not in unavailable]


def describe_decision(request: ApprovalRequest, decision: Decision) -> str:
    """The answer to the prompt in words, as it stays on the screen."""
    edited = ", edited" if request.original_arguments is not None else ""
    if not decision.allowed:
        return f"denied: {one_line(decision.reason, 200)}" if decision.reason else "denied"
    count = len(request.others)
    extent = {
        "": "once",
        "step": f"once, with {count} other call{'s' * (count != 1)}",
        "session": "for this session",
        "always": "always",
    }[decision.remember]
    return f"allowed {extent}{edited}"


def parse_value(request: ApprovalRequest, name: str, typed: str) -> Any:
    """Convert a typed argument to the type in the tool's schema.

    A value that does not fit stays a string, which the validation of the call rejects.
    """
    schema = request.tool.schema
    properties = schema.get("properties")
    untyped = not isinstance(properties, dict) or not schema_types(properties.get(name))
    if untyped and isinstance((request.original_arguments or request.arguments).get(name), str):
        return typed
    try:
        return parse_pairs([(name, typed)], schema)[name]
    except InvalidArguments:
        return typed


def _format_values(arguments: Mapping[str, Any]) -> dict[str, str]:
    return {name: _format_value(value) for name, value in arguments.items()}


def _format_value(value: Any) -> str:
    """A string as it is, or in quotes if it is ambiguous; other values as JSON, indented if long."""
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False) if value != value.strip() or _is_json(value) else value
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _MAX_INLINE_JSON else json.dumps(value, ensure_ascii=False, indent=2)


def _is_json(text: str) -> bool:
    if not text:
        return True
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def _format_arguments(request: ApprovalRequest, width: int, lines: int) -> tuple[Text, bool]:
    """The arguments on about ``lines`` lines, changed ones with the old and the new value; and whether any was cut."""
    values = _format_values(request.arguments)
    original = _format_values(request.original_arguments) if request.original_arguments is not None else values
    if not {**original, **values}:
        return Text("\n    (no arguments)", style="dim"), False
    # Long arguments first: the short ones, such as recipients, matter most, so they are right above the keys.
    names = sorted({**original, **values}, key=lambda name: len(values.get(name, "")) <= _LONG_VALUE)
    omitted = max(0, len(names) - lines)
    max_lines = max(_MIN_LINES, lines // len(names))
    text, truncated = Text(), bool(omitted)
    if omitted:
        text.append(f"\n    … {omitted} more arguments ([v] shows all)", style="yellow")
    for name in names[omitted:]:
        for mark, style, value in _old_and_new(original.get(name), values.get(name)):
            value_lines, complete = _fit_lines(show_invisible(value), width - len(_VALUE_INDENT) - 2, max_lines)
            truncated = truncated or not complete or len(name) > _MAX_NAME_LENGTH
            text.append(f"\n  {mark} {one_line(show_invisible(name), _MAX_NAME_LENGTH)}  ", style=style or "dim")
            text.append(f"\n{_VALUE_INDENT}".join(value_lines), style=style)
    return text, truncated


def _format_waiting(request: ApprovalRequest) -> tuple[Text, bool]:
    """The other calls that wait for an answer, one a line, and whether any of them was cut."""
    text, truncated = Text(), len(request.others) > _MAX_WAITING
    for other in request.others[:_MAX_WAITING]:
        # Short values first: recipients and the like must be on the line. JSON, so that no value looks like another.
        values = sorted(other.arguments.items(), key=lambda item: len(_to_json(item[1])))
        arguments = " ".join(show_invisible(f"{name}={_to_json(value)}") for name, value in values)
        truncated = truncated or len(arguments) > _MAX_WAITING_LENGTH
        trust = "" if other.tool.trusted else " (not trusted)"
        text.append(f"\n    also: {server_label(other.tool)} {one_line(other.tool.name, 80)}{trust}  ", style="dim")
        text.append(one_line(arguments, _MAX_WAITING_LENGTH))
    if count := request.pending - min(len(request.others), _MAX_WAITING):
        text.append(f"\n    {count} more to approve after this one", style="dim")
    return text, truncated


def _to_json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _old_and_new(old: str | None, new: str | None) -> Iterator[tuple[str, str, str]]:
    """The lines of an argument: mark, style and text. A changed text of several lines is shown as a diff."""
    if old == new:
        yield " ", "", new or ""
    elif old is not None and new is not None and "\n" in old and "\n" in new:
        _, _, *lines = difflib.unified_diff(old.split("\n"), new.split("\n"), n=_DIFF_CONTEXT, lineterm="")
        yield "~", "yellow", "\n".join(lines)
    else:
        if old is not None:
            yield "-", "red", old
        if new is not None:
            yield "+", "green", new


def _fit_lines(value: str, width: int, max_lines: int) -> tuple[list[str], bool]:
    """The value on at most ``max_lines`` lines, cut in the middle if needed; and whether it is complete."""
    width = max(10, width)
    if len(value) <= width * max_lines and len(lines := _wrap(value, width)) <= max_lines:
        return lines, True
    tail_count = max(1, max_lines // 4)
    head_lines = _wrap(value[: width * max_lines], width)[: max_lines - tail_count - 1]
    tail_lines = _wrap(value[-width * tail_count :], width)[-tail_count:]
    omitted = len(value) - sum(map(len, head_lines)) - sum(map(len, tail_lines))
    return [*head_lines, f"… about {omitted:,} characters ([v] shows all) …", *tail_lines], False


def _wrap(text: str, width: int) -> list[str]:
    return [chunk for line in text.split("\n") for chunk in chop_cells(line, width) or [""]]
