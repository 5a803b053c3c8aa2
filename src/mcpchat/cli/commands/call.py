"""mcpchat call: one tool, without a model."""

import base64
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from mcpchat.app.tool_call import ToolCaller, tool_failure
from mcpchat.cli.content import print_tool_result
from mcpchat.cli.mcp_session import (
    open_servers,
    print_notices,
    print_warnings,
    require_server,
    restrict_to,
    terminal_user,
)
from mcpchat.cli.options import (
    FileOption,
    NoStdinOption,
    TextJsonOrRaw,
    TimeoutOption,
    config_and_servers,
    form_answers,
    permission_options,
    with_options,
)
from mcpchat.cli.output import print_table, write_json
from mcpchat.cli.pairs import parse_json, split_pair
from mcpchat.cli.runtime import build_context, build_context_at, current_run, run_async
from mcpchat.config.named_servers import find_named_server, is_address
from mcpchat.config.run import ConfigChoice, RunContext, RunOptions
from mcpchat.core.events import VERSION
from mcpchat.core.form_answers import FormAnswers, use_answers
from mcpchat.core.server_task import ServerTask
from mcpchat.core.tools import (
    InvalidArguments,
    ToolSpec,
    describe_arguments,
    describe_missing_arguments,
    parse_arguments,
    parse_pairs,
)
from mcpchat.errors import UsageError
from mcpchat.permissions.factory import build_approval_gate, build_policy, pinned_on
from mcpchat.ui.render.progress import CallProgress
from mcpchat.ui.render.tool_page import format_tool_page
from mcpchat.util.blocking import run_in_daemon_thread
from mcpchat.util.paths import expand_user
from mcpchat.util.stdin import peek_pipe, read_bytes, read_piped
from mcpchat.util.time_limit import time_limit

app = typer.Typer(add_completion=False, rich_markup_mode=None)
_MAX_BYTES = 20_000_000  # of one argument
# A schema without any of these has no parameters.
_PARAMETER_KEYS = (
    "properties",
    "required",
    "additionalProperties",
    "patternProperties",
    "allOf",
    "anyOf",
    "oneOf",
    "$ref",
)
_TWICE = "the arguments are given twice: as one JSON object, and in another way"
_TYPES_HINT = "the tool's schema decides the type of KEY=VALUE"


class MissingArguments(UsageError):
    """The call lacks an argument that the tool requires."""


@app.command()
@with_options(options=permission_options, config=config_and_servers, answers=form_answers)
def call(
    options: RunOptions,
    config: ConfigChoice,
    answers: FormAnswers,
    tool: Annotated[str, typer.Argument(metavar="SERVER.TOOL", help="The tool; or a URL, and then its name.")],
    pairs: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY=VALUE]... | OBJECT", help="Its arguments, or all as JSON.")
    ] = None,
    arguments: Annotated[
        str | None, typer.Option("--json", metavar="OBJECT", help="The arguments as one JSON object; also @FILE or -.")
    ] = None,
    no_stdin: NoStdinOption = False,
    output: TextJsonOrRaw = "text",
    file: FileOption = None,
    timeout: TimeoutOption = None,
    detach: Annotated[
        bool, typer.Option("--detach", help="Do not wait for a task of the server: print its ID, for mcpchat tasks.")
    ] = False,
) -> int:
    """Call one tool, without a model. The tool's schema decides the type of each value; KEY:=VALUE is JSON.

    KEY=@FILE and KEY:=@FILE read the value from a file, - and @- from standard input; write @@ for a value that
    begins with @. Without arguments, they are the JSON object that is piped in.

    \b
      mcpchat call calculator.calculate expression="2 ** 10"
      mcpchat call calculator.statistics values=1,2,3.5
      mcpchat call files.write path=notes.md content=@draft.md
      mcpchat call camera.shot -f shot.png
      echo '{"expression": "6 * 7"}' | mcpchat call calculator.calculate
      mcpchat call https://mcp.example.com/mcp search query=milk
    """
    pairs = pairs or []
    if is_address(tool):
        context, server = build_context_at(config, tool)
        tool, pairs = f"{server}.{pairs[0] if pairs else ''}", pairs[1:]
    else:
        context = build_context(config)
        server = find_named_server(context.config, config.servers, tool.partition(".")[0])
        tool = ".".join((server, *tool.partition(".")[2:])) if "." in tool else tool
    if not tool.partition(".")[2]:
        hint = "write SERVER.TOOL, or URL TOOL; mcpchat tools lists them"
        raise UsageError(f"{tool.rstrip('.')!r} does not name a tool", hint=hint)
    require_server(context, server)
    if detach:
        _require_lasting_task(context, server)
    if (text := next((word for word in pairs if word.startswith("{")), None)) is not None:
        if len(pairs) > 1 or arguments is not None:
            raise UsageError(_TWICE)
        arguments, pairs = text, []
    given = GivenArguments(pairs, arguments, read_stdin=not no_stdin)
    with use_answers(answers):
        return run_async(
            _call_tool(restrict_to(context, server), options, tool, given, output, file, timeout, detach=detach)
        )


def _require_lasting_task(context: RunContext, server: str) -> None:
    """Raise UsageError if a task could not be found again after this command."""
    config = context.config.servers[server]
    if config.effective_transport == "stdio" and config.keep_seconds is None:
        raise UsageError(
            f"--detach: {server} ends with this command, and its tasks with it",
            hint="--keep 10m, or keep in the config",
        )
    if not context.config.threads.save:
        raise UsageError("--detach: tasks are remembered with the threads, which are not saved (threads.save)")


@dataclass(frozen=True)
class GivenArguments:
    """The arguments as they are typed: pairs, and the text of a JSON object.

    If there is neither, a JSON object is read from a pipe with ``read_stdin``.
    """

    pairs: Sequence[str]
    text: str | None
    read_stdin: bool

    @property
    def _takes_stdin(self) -> bool:
        """Whether a typed argument is read from standard input."""
        return any(text in {"-", "@-"} for text in (self.text, *(pair.partition("=")[2] for pair in self.pairs)))

    def parse(self, spec: ToolSpec) -> Mapping[str, Any]:
        """Parse the arguments of the tool. Raises UsageError, also if they are piped in beside those that are typed."""
        text = self.text
        if (text is not None or self.pairs) and self.read_stdin and not self._takes_stdin and peek_pipe() == b"{":
            raise UsageError(_TWICE, hint="they are piped in too; -n does not read standard input")
        if text is None and not self.pairs and self.read_stdin and any(spec.schema.get(key) for key in _PARAMETER_KEYS):
            piped = read_piped("the arguments")
            if piped.strip() and not piped.lstrip().startswith("{"):
                hint = "pipe in a JSON object; -n does not read standard input"
                raise UsageError("standard input is no JSON object with the arguments", hint=hint)
            return parse_tool_arguments(spec, (), piped)
        return parse_tool_arguments(spec, self.pairs, text)


async def _call_tool(
    context: RunContext,
    options: RunOptions,
    tool: str,
    given: GivenArguments,
    output: str,
    file: Path | None,
    timeout: float | None,
    *,
    detach: bool = False,
) -> int:
    """Raises Denied, ToolFailed, ServerError, LimitReached."""
    user = terminal_user()

    async def read_arguments(spec: ToolSpec) -> Mapping[str, Any]:
        # In a thread: a file can be a pipe into which nothing is written.
        try:
            return await run_in_daemon_thread(lambda: given.parse(spec))
        except MissingArguments:
            decision = build_policy(context, options).evaluate(spec, {})
            print_table(format_tool_page(spec, decision, pinned_on(context, spec)), sys.stderr)
            raise

    async with (
        time_limit(timeout) as lift_limit,
        open_servers(context, print_notices, yes=options.yes, user=user) as hub,
    ):
        gate = build_approval_gate(context, options, user[0], hub, print_notices)
        progress = CallProgress(sys.stderr)
        caller = ToolCaller(context=context, hub=hub, gate=gate, asker=user[0], warn=print_warnings, emit=progress)
        try:
            spec, result = await (caller.start if detach else caller.call)(tool, read_arguments)
        finally:
            progress.clear()
        lift_limit()
        if isinstance(result, ServerTask):
            _print_detached(result, output)
            return 0
        if detach:
            sys.stderr.write(f"{spec.qualified_name} answered at once, not with a task\n")
        print_tool_result(spec.qualified_name, result, output, None if result.is_error else file)
    if result.is_error:
        current_run().error_written = output == "json"
        raise tool_failure(spec.qualified_name)
    return 0


def _print_detached(task: ServerTask, output: str) -> None:
    if output == "json":
        write_json({"v": VERSION, **msgspec.to_builtins(task)})
    else:
        sys.stdout.write(f"{task.id}\n")
        sys.stdout.flush()


def parse_tool_arguments(spec: ToolSpec, pairs: Sequence[str], json_text: str | None) -> Mapping[str, Any]:
    """Parse the arguments as they are typed.

    ``key=value`` is typed by the schema, ``key:=json`` is JSON, and after either ``@FILE`` names a file, ``-`` and
    ``@-`` standard input; ``@@`` begins a value with @. Raises UsageError.
    """
    if sum(text in {"-", "@-"} for text in (json_text, *(pair.partition("=")[2] for pair in pairs))) > 1:
        raise UsageError("only one argument can be read from standard input")
    typed: list[tuple[str, str]] = []
    from_json: dict[str, Any] = {}
    for pair in pairs:
        parts = split_pair(pair)
        if parts is None:
            raise UsageError(f"{pair!r} is not KEY=VALUE", hint=f"{spec.qualified_name}: {describe_arguments(spec)}")
        key, operator, text = parts
        if operator == ":=":
            from_json[key] = parse_json(pair, _read_value(pair, text, {}), hint=_TYPES_HINT)
        else:
            properties = spec.schema.get("properties")
            schema = properties.get(key) if isinstance(properties, dict) else None
            typed.append((key, _read_value(pair, text, schema)))
    try:
        base = parse_arguments(_read_value("--json", json_text, None) if json_text else "")
        arguments = base | parse_pairs(typed, spec.schema) | from_json
    except InvalidArguments as error:
        raise UsageError(str(error), hint=f"{spec.qualified_name}: {describe_arguments(spec)}") from error
    if missing := describe_missing_arguments(spec, arguments):
        raise MissingArguments(missing, hint=f"{spec.qualified_name}: {describe_arguments(spec)}")
    return arguments


def _read_value(pair: str, text: str, schema: object) -> str:
    """The text itself, or that of the file that @ names."""
    if text.startswith("@@"):
        return text[1:]
    if text != "-" and not text.startswith("@"):
        return text
    name = text[1:] if text.startswith("@") else text
    try:
        if name == "-":
            data = read_bytes(pair)
        else:
            with expand_user(name).open("rb") as file:
                data = file.read(_MAX_BYTES + 1)
    except (OSError, ValueError, RuntimeError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise UsageError(
            f"{pair}: cannot read {name}: {reason}", hint="write @@ for a value that begins with @"
        ) from error
    if len(data) > _MAX_BYTES:
        raise UsageError(f"{pair}: more than {_MAX_BYTES:,} bytes")
    if isinstance(schema, dict) and schema.get("contentEncoding") == "base64":
        return base64.b64encode(data).decode()
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UsageError(f"{pair}: not text (UTF-8)", hint="only an argument in base64 takes other files") from error
