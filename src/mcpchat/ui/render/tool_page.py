"""All about one tool, for a person: what it takes, what it returns, what decides about it, and a call to copy."""

from collections.abc import Iterator, Sequence

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from mcpchat.core.policy import PolicyResult
from mcpchat.core.signatures import Parameter, describe_output, example_call, format_signature, list_parameters
from mcpchat.core.tools import ToolSpec
from mcpchat.ui.prompts.approval_view import describe_annotations
from mcpchat.util.sanitize import one_line, sanitize

_MAX_TYPE_LENGTH, _MAX_SIGNATURE = 300, 2000  # characters


def format_tool_page(spec: ToolSpec, decision: PolicyResult, pinned: str) -> RenderableType:
    """The page of a tool. ``decision`` is what the policy says about a call, ``pinned`` a date or empty."""
    return Group(*_page_parts(spec, decision, pinned))


def format_signatures(specs: Sequence[ToolSpec]) -> RenderableType:
    """The tools as functions, one a line."""
    lines = [Text(one_line(format_signature(spec), _MAX_SIGNATURE)) for spec in specs]
    for line, spec in zip(lines, specs, strict=True):
        line.stylize("bold", 0, len(spec.name))
    return Group(*lines)


def _page_parts(spec: ToolSpec, decision: PolicyResult, pinned: str) -> Iterator[RenderableType]:
    title = f"  {one_line(spec.title, 100)}" if spec.title.strip() else ""
    yield Text(one_line(spec.qualified_name, 200), style="bold").append(title, style="dim not bold")
    if description := sanitize(spec.description).strip():
        yield Padding(Text(description), (0, 0, 0, 2))
    parameters = list_parameters(spec)
    yield Text()
    yield _parameter_table(parameters) if parameters else Text("  no parameters", style="dim")
    yield Text()
    account = f" (account {one_line(spec.account, 60)})" if spec.account else ""
    facts = {
        "returns": one_line(describe_output(spec), 600),
        "server": one_line(spec.server, 60) + account,
        "annotations": describe_annotations(spec.annotations) + ("" if spec.trusted else " (not trusted)"),
        "pinned": f"since {pinned}" if pinned else "",
        "a call": f"{_ACTIONS[decision.action]} ({one_line(decision.rule, 200)})",
        "to call it": one_line(example_call(spec), 1000),
    }
    table = _grid()
    for name, fact in facts.items():
        if fact:
            table.add_row(Text(f"  {name}", style="dim"), Text(fact))
    yield table


_ACTIONS = {"allow": "runs", "ask": "asks you", "deny": "is denied"}


def _parameter_table(parameters: list[Parameter]) -> Table:
    table = _grid()
    for parameter in parameters:
        kind = Text(one_line(parameter.type, _MAX_TYPE_LENGTH))
        extra = [
            "required" if parameter.required else "",
            f"default {one_line(parameter.default, 100)}" if parameter.default else "",
            one_line(parameter.notes, 200),
        ]
        kind.append("".join(f", {text}" for text in extra if text), style="dim")
        text = kind.append(f"\n{sanitize(parameter.description).strip()}" if parameter.description.strip() else "")
        table.add_row(Text(f"  {one_line(parameter.name, 60)}", style="bold"), text)
    return table


def _grid() -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    return table
