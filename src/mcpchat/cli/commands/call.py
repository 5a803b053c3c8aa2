"""call, read and prompt: a server's tools, resources and prompts without a model."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from mcpchat.cli.mcp_session import (
    check_up,
    ignore,
    known_server,
    nearest_known,
    notices,
    only,
    opened,
    person,
    print_table,
    tell,
)
from mcpchat.cli.options import is_terminal, within, write_json
from mcpchat.cli.tool_arguments import tool_arguments
from mcpchat.config.run import Setup, Wishes
from mcpchat.core.catalog import Prompt, prompt_arguments
from mcpchat.core.events import VERSION, Event
from mcpchat.core.messages import Audio, Content, File, Image, Text, ToolCall, ToolResult, result_text
from mcpchat.core.protocols import Servers
from mcpchat.core.report import fault
from mcpchat.core.tools import (
    ToolSpec,
    explain_arguments,
    parse_arguments,
)
from mcpchat.errors import Denied, ToolFailed, UsageError
from mcpchat.permissions.factory import make_gate, pinned
from mcpchat.permissions.pinned_toolbox import PinnedToolbox
from mcpchat.util.private_files import write_file
from mcpchat.util.sanitize import clean

FORMATS = ("text", "json", "raw")
Binary = Image | Audio | File


async def call(
    setup: Setup,
    wishes: Wishes,
    tool: str,
    pairs: Sequence[str],
    arguments: str | None,
    output: str,
    *,
    file: Path | None = None,
    timeout: float | None = None,
) -> int:
    """Run one tool under the same policy as chat; the result goes to ``file``, where there is one.

    Raises Denied, ToolFailed, ServerError, LimitReached.
    """
    server, _, name = tool.partition(".")
    if not name:
        raise UsageError(f"{tool!r} does not name a tool", hint="write SERVER.TOOL; mcpchat tools lists them")
    known_server(setup, server)
    here = person()
    async with opened(only(setup, server), notices, yes=wishes.yes, at=here) as hub:
        agreed = pinned(setup, hub, here[0], tell)  # without a word on first uses: the result is what is wanted
        spec = await _find(agreed, hub, tool)
        given = tool_arguments(spec, pairs, arguments)
        if fault := hub.check(spec, given):
            raise UsageError(fault, hint=f"{spec.label}: {explain_arguments(spec)}")
        made = ToolCall(id="call", name=spec.exposed, arguments=json.dumps(given, ensure_ascii=False))
        decision = await make_gate(setup, wishes, here[0], hub, notices).decide(spec, made)
        if not decision.allowed:
            raise Denied(f"{spec.label} was not run: {decision.reason or 'you said no'}")
        given = parse_arguments(decision.arguments or made.arguments)  # what was decided on is what is sent
        async with within(timeout):
            result = await hub.call(spec, made.id, given, _progress)
        _show_result(spec, result, output, None if result.is_error else file)
    if result.is_error:
        failed = _failed(spec)
        failed.answered = output == "json"
        raise failed
    return 0


async def read(
    setup: Setup, what: str | None, output: str, *, file: Path | None = None, timeout: float | None = None
) -> int:
    """Read a resource; without one, or with only a server's name, list them. Raises ToolFailed, ServerError."""
    if what is None or what in setup.config.servers:
        return await _list(setup, what, output, resources=True)
    server, _, uri = what.partition(":")
    if server in setup.config.servers:
        known_server(setup, server)
        setup = only(setup, server)
    async with opened(setup, ignore) as hub:
        if server not in setup.config.servers:
            server, uri = await _listing(hub, what), what
        async with within(timeout):
            parts = await hub.read(server, uri)
        _show_parts(parts, output, file)
    return 0


async def _listing(hub: Any, uri: str) -> str:
    """The server that lists the address."""
    await hub.tools()
    having = [name for name, kept in hub.catalogs().items() if uri in {r.uri for r in kept.resources}]
    if len(having) != 1:
        raise UsageError(
            f"{'several servers list' if having else 'no server lists'} {uri}",
            hint="write SERVER:URI; mcpchat read lists them",
        )
    return str(having[0])


def _show_parts(parts: Sequence[Content], output: str, file: Path | None) -> None:
    if file is not None and file != Path("-"):
        _save(parts, file)
    elif file is not None:
        _write_raw(parts)
    elif output == "json":
        write_json(parts)
    elif output == "raw" or (len(parts) == 1 and isinstance(parts[0], Binary) and not is_terminal(sys.stdout)):
        _write_raw(parts)
    else:
        _write(ToolResult(call_id="", parts=tuple(parts)))
    sys.stdout.flush()


async def prompt(setup: Setup, what: str | None, pairs: Sequence[str], output: str) -> int:
    """Show the messages that a server makes of a prompt; without one, list them. Raises ToolFailed, ServerError."""
    if what is None or what in setup.config.servers:
        return await _list(setup, what, output, resources=False)
    server, colon, name = what.partition(":")
    if not colon:
        raise UsageError(f"{what!r} does not name a prompt", hint="write SERVER:NAME; mcpchat prompt lists them")
    known_server(setup, server)
    async with opened(only(setup, server), ignore) as hub:
        await hub.tools()
        check_up(hub)
        found = _find_prompt(hub, what)
        messages = await hub.prompt(server, name, prompt_arguments(found, pairs))
        if output == "json":
            write_json(messages)
        else:
            for message in messages:
                sys.stdout.write(f"{message.role}: ")
                _write(ToolResult(call_id="", parts=tuple(p for p in message.parts if isinstance(p, Content))))
        sys.stdout.flush()
    return 0


def _find_prompt(servers: Servers, label: str) -> Prompt:
    prompts = {prompt.label: prompt for kept in servers.catalogs().values() for prompt in kept.prompts}
    if label not in prompts:
        raise UsageError(f"no prompt {label}; {nearest_known(label, prompts)}")
    return prompts[label]


async def _list(setup: Setup, server: str | None, output: str, *, resources: bool) -> int:
    from mcpchat.ui.render import tables

    if server is not None:
        known_server(setup, server)
        setup = only(setup, server)
    told = tell if server is None else ignore
    async with opened(setup, told) as hub:
        await hub.tools()
        if server is not None:
            check_up(hub)
        kept = hub.catalogs().values()
        found: Sequence[Any] = (
            [one for catalog in kept for one in (*catalog.resources, *catalog.templates)]
            if resources
            else [one for catalog in kept for one in catalog.prompts]
        )
        if output == "json":
            write_json(found)
        elif found:
            print_table(tables.resources(found) if resources else tables.prompts(found))
        else:
            sys.stderr.write("no resources\n" if resources else "no prompts\n")
        sys.stdout.flush()
    return 0


def _failed(spec: ToolSpec) -> ToolFailed:
    return ToolFailed(f"{spec.label} reported an error")


def _show_result(spec: ToolSpec, result: ToolResult, output: str, file: Path | None) -> None:
    parts = result.parts or (Text(text=result_text(result)),)
    if file is not None and file != Path("-"):
        _save(parts, file)
    elif file is not None:
        _write_raw(parts)
    elif output == "json":
        told = {"error": msgspec.to_builtins(fault(_failed(spec)))} if result.is_error else {}
        write_json({"v": VERSION, **msgspec.to_builtins(result), **told})
    elif output == "raw" and not result.is_error:
        _write_raw(parts)
    else:
        _write(result, sys.stderr if result.is_error else sys.stdout)
    sys.stdout.flush()


def _write_raw(parts: Sequence[Content]) -> None:
    """The bytes as they came, one part after the other."""
    if is_terminal(sys.stdout) and any(isinstance(part, Binary) for part in parts):
        raise UsageError("the result is binary, and not for a terminal", hint="-f FILE, or | some-program")
    for part in parts:
        data = part.data if isinstance(part, Binary) else result_text(ToolResult(call_id="", parts=(part,))).encode()
        sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()


def _save(parts: Sequence[Content], file: Path) -> None:
    """What is binary goes to the file, or to FILE-2 and on where there is more; else the text does. Nothing is lost:
    texts beside what is binary go to stdout.
    """
    binary = [part for part in parts if isinstance(part, Binary)]
    texts = [part for part in parts if not isinstance(part, Binary)]
    if not binary:
        write_file(file, [result_text(ToolResult(call_id="", parts=tuple(texts)))])
        return
    for number, part in enumerate(binary, 1):
        path = file if number == 1 else file.with_stem(f"{file.stem}-{number}")
        write_file(path, [part.data])
        sys.stderr.write(f"{path}: {part.media_type}, {len(part.data):,} bytes\n")
    if texts:
        _write(ToolResult(call_id="", parts=tuple(texts)))


def _write(result: ToolResult, stream: Any = None) -> None:
    stream = stream or sys.stdout
    text = clean(result_text(result)) if is_terminal(stream) else result_text(result)
    stream.write(text.rstrip("\n") + "\n")


def _progress(event: Event) -> None:
    """Progress of a call by hand is not shown: its result is what is wanted."""


async def _find(toolbox: PinnedToolbox, servers: Servers, label: str) -> ToolSpec:
    """The tool by its name; a name that the kept list does not know is asked of the server itself."""
    by_label = {spec.label: spec for spec in await toolbox.tools()}
    check_up(servers)
    if label not in by_label and servers.status()[0].state == "idle":
        await servers.refresh()
        by_label = {spec.label: spec for spec in await toolbox.tools()}
        check_up(servers)
    if label in by_label:
        return by_label[label]
    if (refusal := toolbox.refusal(label)) is not None:
        raise refusal
    raise UsageError(f"no tool {label}; {nearest_known(label, by_label)}")
