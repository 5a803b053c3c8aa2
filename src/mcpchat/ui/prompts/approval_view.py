"""A call as it is put before the person: who wants what, all arguments, and what would change them."""

import difflib
import json
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.cells import cell_len, chop_cells
from rich.text import Text

from mcpchat.core.policy import Question
from mcpchat.core.tools import Annotations, BadArguments, ToolSpec, schema_types, typed_arguments
from mcpchat.util.sanitize import clean, one_line, revealed

_LONG = 300  # characters of an argument that is shown before the short ones
_WIDE = 60  # characters of a structure that is shown on one line
_NAME = 60  # characters of an argument's name
_LEAST = 3  # lines of an argument that are shown in any case
_CONTEXT = 1  # lines around one that was changed
_BAR = "      │ "  # before every line of a value but its first: none can be taken for another argument


def whose(spec: ToolSpec) -> str:
    """The server as the config calls it, with the account whose login it has: ``gmail(work)``."""
    return one_line(spec.server, 40) + (f"({one_line(spec.account, 40)})" if spec.account else "")


def asked(question: Question, *, width: int, lines: int) -> tuple[Text, bool]:
    """The question on a screen of this width, its arguments on about so many lines; and whether any were cut."""
    spec = question.tool
    text = Text("  ").append(whose(spec), style="bold").append(" wants to run ")
    text.append(one_line(spec.name, 80), style="bold").append(f"   ({one_line(question.rule, 120)})", style="dim")
    titles = [f'"{one_line(title, 60)}"' for title in (spec.server_title, spec.title) if title.strip()]
    said = ", ".join((*titles, f"says of itself: {claims(spec.annotations)}"))
    text.append(f"\n    {said}{'' if spec.trusted else ' (not trusted)'}", style="dim")
    if question.waiting:
        text.append(f"\n    {question.waiting} more to ask about after this one", style="dim")
    shown, cut = _arguments(question, width, lines)
    text.append(shown)
    if question.problem:
        text.append(f"\n  that will not do: {clean(question.problem)}", style="yellow")
    return text, cut


def claims(annotations: Annotations) -> str:
    """What the server says of the tool, in words."""
    said = {
        "changes nothing": annotations.read_only,
        "may destroy or send": annotations.destructive if not annotations.read_only else None,
        "the same twice is as once": annotations.idempotent if not annotations.read_only else None,
        "reaches beyond its server": annotations.open_world,
    }
    denied = {"changes nothing": "changes things", "may destroy or send": "destroys nothing"}
    words = [word if claim else denied.get(word, "") for word, claim in said.items() if claim is not None]
    return ", ".join(filter(None, words)) or "nothing"


def whole(question: Question) -> str:
    """All of the arguments, uncut, as plain text."""
    heading = f"{question.tool.label}\n"
    return heading + "".join(
        f"\n{revealed(name)}\n{textwrap.indent(revealed(value), '    ', lambda line: True)}\n"
        for name, value in _values(question.arguments).items()
    )


def keys(question: Question, *, cut: bool) -> dict[str, str]:
    """The keys that answer the question, each as it is shown."""
    shown = {"y": "[y]es", "n": "[n]o", "a": "[a]lways this tool", "s": "this [s]ession", "e": "[e]dit"}
    shown |= {"r": "no and [r]eason", "v": "[v]iew all"}
    idle = "yas" if question.problem else {"always": "", "session": "a", "once": "as"}[question.lasting]
    return {key: label for key, label in shown.items() if key not in idle and (cut or key != "v")}


def key_line(keys: Sequence[str], width: int) -> str:
    """The keys, on as many lines as they take: none is broken in two."""
    lines = [""]
    for key in keys:
        if cell_len(lines[-1]) + len(key) + 4 > width and lines[-1]:
            lines.append("")
        lines[-1] += f"  {key}"
    return "\n".join(lines) + " "


def read(question: Question, name: str, typed: str) -> Any:
    """What was typed for an argument, as the schema has it; what does not fit is text, and will be complained of."""
    schema = question.tool.schema
    properties = schema.get("properties")
    silent = not isinstance(properties, dict) or not schema_types(properties.get(name))
    if silent and isinstance((question.before or question.arguments).get(name), str):
        return typed
    try:
        return typed_arguments([(name, typed)], schema)[name]
    except BadArguments:
        return typed


def _values(arguments: Mapping[str, Any]) -> dict[str, str]:
    return {name: _value(value) for name, value in arguments.items()}


def _value(value: Any) -> str:
    """A text as it is, in quotes where it could be taken for something else; a structure spread out where it is big."""
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False) if value != value.strip() or _is_json(value) else value
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _WIDE else json.dumps(value, ensure_ascii=False, indent=2)


def _is_json(text: str) -> bool:
    if not text:
        return True
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def _arguments(question: Question, width: int, lines: int) -> tuple[Text, bool]:
    """The arguments; of changed ones both what was and what is."""
    values = _values(question.arguments)
    before = _values(question.before) if question.before is not None else values
    if not {**before, **values}:
        return Text("\n    (no arguments)", style="dim"), False
    # The long ones first: a person decides with the short ones, such as recipients, right above the keys.
    names = sorted({**before, **values}, key=lambda name: len(values.get(name, "")) <= _LONG)
    left_out = max(0, len(names) - lines)
    share = max(_LEAST, lines // len(names))
    text, cut = Text(), bool(left_out)
    if left_out:
        text.append(f"\n    … {left_out} more arguments ([v] shows all)", style="yellow")
    for name in names[left_out:]:
        for mark, style, value in _versions(before.get(name), values.get(name)):
            shown, whole = _fitting(revealed(value), width - len(_BAR) - 2, share)
            cut = cut or not whole or len(name) > _NAME
            text.append(f"\n  {mark} {one_line(revealed(name), _NAME)}  ", style=style or "dim")
            text.append(f"\n{_BAR}".join(shown), style=style)
    return text, cut


def _versions(before: str | None, now: str | None) -> Iterator[tuple[str, str, str]]:
    """What is shown of one argument: a mark, a style, the text; of a long one that was changed, where it was."""
    if before == now:
        yield " ", "", now or ""
    elif before is not None and now is not None and "\n" in before and "\n" in now:
        lines = difflib.unified_diff(before.split("\n"), now.split("\n"), n=_CONTEXT, lineterm="")
        yield "~", "yellow", "\n".join(line for line in lines if not line.startswith(("---", "+++")))
    else:
        if before is not None:
            yield "-", "red", before
        if now is not None:
            yield "+", "green", now


def _fitting(value: str, width: int, most: int) -> tuple[list[str], bool]:
    """The value on lines of this width, at most so many: its beginning and its end; and whether that is all of it."""
    width = max(10, width)
    if len(value) <= width * most and len(lines := _chopped(value, width)) <= most:
        return lines, True
    tail = max(1, most // 4)
    head = _chopped(value[: width * most], width)[: most - tail - 1]
    last = _chopped(value[-width * tail :], width)[-tail:]
    left = len(value) - sum(map(len, head)) - sum(map(len, last))
    return [*head, f"… some {left:,} characters ([v] shows all) …", *last], False


def _chopped(text: str, width: int) -> list[str]:
    return [piece for line in text.split("\n") for piece in chop_cells(line, width) or [""]]
