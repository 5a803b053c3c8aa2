"""What commands print: JSON and tables."""

import dataclasses
import json
import sys
from typing import TYPE_CHECKING, Any, TextIO

import msgspec

from mcpchat.core.policy import PolicyResult
from mcpchat.core.signatures import describe_output, example_call, format_signature, list_parameters
from mcpchat.core.tools import ToolSpec
from mcpchat.errors import UsageError
from mcpchat.util.sanitize import escape_unsafe_json

if TYPE_CHECKING:
    from rich.console import RenderableType


def is_terminal(*streams: Any) -> bool:
    """Whether each of the streams is a terminal; a closed one is not."""
    return all(stream is not None and stream.isatty() for stream in streams)


def format_json(value: object, *, indent: int | None = None) -> str:
    """The value as JSON. At a terminal, control and invisible characters become escapes, which is the same JSON."""
    text = json.dumps(value, indent=indent, ensure_ascii=False)
    return escape_unsafe_json(text) if is_terminal(sys.stdout) else text


def write_json(value: object) -> None:
    """Write the value to stdout as indented JSON."""
    sys.stdout.write(format_json(msgspec.to_builtins(value), indent=2) + "\n")


def print_table(table: "RenderableType", stream: TextIO | None = None) -> None:
    """Print a table, or several, to stdout or another stream: fitted to a terminal, one line a row elsewhere."""
    from rich.console import Console

    stream = stream or sys.stdout
    if is_terminal(stream):
        Console(file=stream, highlight=False).print(table)
        return
    console = Console(width=10_000, highlight=False)
    with console.capture() as captured:
        console.print(table)
    stream.write("".join(f"{line.rstrip()}\n" for line in captured.get().splitlines()))


def tool_to_json(spec: ToolSpec) -> dict[str, Any]:
    """The tool as ``tools -o json`` and ``servers show -o json`` write it."""
    plain = msgspec.to_builtins(spec)
    del plain["origin"]
    return {"tool": spec.qualified_name, "exposed": spec.model_name, **plain, "signature": format_signature(spec)}


def tool_page_to_json(spec: ToolSpec, decision: PolicyResult, pinned: str) -> dict[str, Any]:
    """All of a tool's page, as ``tools SERVER.TOOL -o json`` writes it."""
    return {
        **tool_to_json(spec),
        "parameters": [dataclasses.asdict(parameter) for parameter in list_parameters(spec)],
        "returns": describe_output(spec),
        "decision": decision.action,
        "rule": decision.rule,
        "pinned": pinned,
        "call": example_call(spec),
    }


def require_confirmation(question: str, *, yes: bool) -> None:
    """Ask the user, unless ``yes``. Raises UsageError for a no, and without a terminal."""
    if yes:
        return
    if not is_terminal(sys.stdin, sys.stderr):
        raise UsageError("there is no terminal to confirm at", hint="--yes deletes without asking")
    sys.stderr.write(f"{question} [y/N] ")
    sys.stderr.flush()
    if sys.stdin.readline().strip().lower() not in {"y", "yes"}:
        raise UsageError("nothing was deleted")
