"""What commands print: JSON and tables."""

import json
import sys
from typing import TYPE_CHECKING, Any

import msgspec

from mcpchat.core.tools import ToolSpec
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


def print_table(table: "RenderableType") -> None:
    """Print a table, or several, to stdout: fitted to a terminal, one line a row elsewhere."""
    from rich.console import Console

    if is_terminal(sys.stdout):
        Console(highlight=False).print(table)
        return
    console = Console(width=10_000, highlight=False)
    with console.capture() as captured:
        console.print(table)
    sys.stdout.write("".join(f"{line.rstrip()}\n" for line in captured.get().splitlines()))


def tool_to_json(spec: ToolSpec) -> dict[str, Any]:
    """The tool as ``tools -o json`` and ``servers show -o json`` write it."""
    plain = msgspec.to_builtins(spec)
    del plain["origin"]
    return {"tool": spec.qualified_name, "exposed": spec.model_name, **plain}
