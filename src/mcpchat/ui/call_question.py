"""A call as it is put before the person: who wants what, all arguments, and what would change them."""

import json
import textwrap
from collections.abc import Iterator, Mapping
from typing import Any

from rich.cells import cell_len
from rich.text import Text

from mcpchat.core.approvals import Question
from mcpchat.core.sanitize import clean, one_line
from mcpchat.core.tools import Annotations, BadArguments, ToolSpec, schema_types, typed_arguments

_LONG = 300  # characters of an argument that is shown before the short ones
_LEAST = 3  # lines of an argument that are shown in any case


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
        f"\n{clean(name)}\n{textwrap.indent(clean(value), '    ', lambda line: True)}\n"
        for name, value in _values(question.arguments).items()
    )


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
    return {
        name: value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        for name, value in arguments.items()
    }


def _arguments(question: Question, width: int, lines: int) -> tuple[Text, bool]:
    """The arguments; of changed ones both what was and what is."""
    values = _values(question.arguments)
    before = _values(question.before) if question.before is not None else values
    # The long ones first: a person decides with the short ones, such as recipients, right above the keys.
    names = sorted({**before, **values}, key=lambda name: len(values.get(name, "")) <= _LONG)
    share = max(_LEAST, lines // max(1, len(names)))
    text, cut = Text(), False
    for name in names:
        for mark, style, value in _versions(before.get(name), values.get(name)):
            shown, left = _fitting(clean(value), width - 8, share)
            cut = cut or bool(left)
            text.append(f"\n  {mark} {one_line(name, 40)}  ", style=style or "dim")
            text.append("\n      ".join(shown), style=style)
            if left:
                text.append(f"\n      … {left} ([v] shows all)", style="yellow")
    return text, cut


def _versions(before: str | None, now: str | None) -> Iterator[tuple[str, str, str]]:
    if before == now:
        yield " ", "", now or ""
        return
    if before is not None:
        yield "-", "red", before
    if now is not None:
        yield "+", "green", now


def _fitting(value: str, width: int, most: int) -> tuple[list[str], str]:
    """The lines that fit, and in words what does not; a line of the value may take several of the screen."""
    kept: list[str] = []
    used = 0
    lines = value.split("\n")
    for number, line in enumerate(lines):
        takes = 1 + max(0, cell_len(line) - 1) // max(10, width)
        if used + takes > most and used:
            rest = len(lines) - number
            return kept, f"{rest:,} more line{'s' * (rest != 1)}"
        if takes > most:
            cut = line[: most * max(10, width)]
            left = len(value) - len(cut)
            return [*kept, cut], f"{left:,} more characters"
        kept.append(line)
        used += takes
    return kept, ""
