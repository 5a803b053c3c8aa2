"""Contents of results and resources, printed or saved."""

import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TextIO

import msgspec

from mcpchat.app.tool_call import tool_failure
from mcpchat.cli.output import is_terminal, write_json
from mcpchat.core.events import VERSION
from mcpchat.core.messages import Audio, Content, File, Image, Text, ToolResult, result_text
from mcpchat.core.report import error_report
from mcpchat.errors import UsageError
from mcpchat.util.output_files import write_file
from mcpchat.util.sanitize import sanitize

Binary = Image | Audio | File


def print_parts(parts: Sequence[Content], output: str, file: Path | None) -> None:
    """Print the parts in the format of ``output``, or save them to ``file``. Raises UsageError."""
    if file is not None and file != Path("-"):
        save_parts(parts, file)
    elif file is not None:
        write_raw(parts)
    elif output == "json":
        write_json(parts)
    elif output == "raw" or (len(parts) == 1 and isinstance(parts[0], Binary) and not is_terminal(sys.stdout)):
        write_raw(parts)
    else:
        print_result(_result_of(parts), sys.stdout)
    sys.stdout.flush()


def print_tool_result(name: str, result: ToolResult, output: str, file: Path | None) -> None:
    """Print the result of the tool ``server.tool`` in the format of ``output``, or save it to ``file``.

    What a tool reports as an error goes to stderr. Raises UsageError.
    """
    parts = result.parts or (Text(text=result_text(result)),)
    if file is not None and file != Path("-"):
        save_parts(parts, file)
    elif file is not None:
        write_raw(parts)
    elif output == "json":
        error = {"error": msgspec.to_builtins(error_report(tool_failure(name)))} if result.is_error else {}
        write_json({"v": VERSION, **msgspec.to_builtins(result), **error})
    elif output == "raw" and not result.is_error:
        write_raw(parts)
    else:
        print_result(result, sys.stderr if result.is_error else sys.stdout)
    sys.stdout.flush()


def print_result(result: ToolResult, stream: TextIO) -> None:
    """Print the result's text, made safe for a terminal. There, an error is indented: it is no message of ours."""
    text = result_text(result).rstrip("\n")
    if is_terminal(stream):
        text = textwrap.indent(sanitize(text), "  ") if result.is_error else sanitize(text)
    stream.write(text + "\n")


def write_raw(parts: Sequence[Content]) -> None:
    """Write the parts' bytes to stdout, one after the other; texts made safe if stdout is a terminal.

    Raises UsageError for binary parts at a terminal.
    """
    at_terminal = is_terminal(sys.stdout)
    if at_terminal and any(isinstance(part, Binary) for part in parts):
        raise UsageError("the result is binary: it is not written to a terminal", hint="-f FILE, or | some-program")
    for part in parts:
        text = "" if isinstance(part, Binary) else result_text(_result_of((part,)))
        sys.stdout.buffer.write(
            part.data if isinstance(part, Binary) else (sanitize(text) if at_terminal else text).encode()
        )
    sys.stdout.buffer.flush()


def save_parts(parts: Sequence[Content], file: Path) -> None:
    """Save binary parts to ``file``, ``file-2`` and so on, and print the texts; without binary parts save the texts.

    Raises UsageError.
    """
    binary = [part for part in parts if isinstance(part, Binary)]
    texts = [part for part in parts if not isinstance(part, Binary)]
    if not binary:
        write_file(file, [result_text(_result_of(texts))])
        return
    for number, part in enumerate(binary, 1):
        path = file if number == 1 else file.with_stem(f"{file.stem}-{number}")
        write_file(path, [part.data])
        sys.stderr.write(f"{path}: {part.media_type}, {len(part.data):,} bytes\n")
    if texts:
        print_result(_result_of(texts), sys.stdout)


def _result_of(parts: Sequence[Content]) -> ToolResult:
    return ToolResult(call_id="", parts=tuple(parts))
