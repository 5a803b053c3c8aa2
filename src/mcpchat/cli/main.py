"""The command line: parses, runs the command, turns an error into a message and an exit code."""

import copy
import errno
import functools
import re
import sys
from contextlib import suppress
from itertools import pairwise, takewhile
from typing import Annotated, Any, ClassVar

import msgspec
import typer
import typer.main
from typer.exceptions import Abort, TyperException

from mcpchat.cli.lazy_group import LazyGroup
from mcpchat.cli.options import DisplayOptions, chat_display, config_and_servers, conversation_options, with_options
from mcpchat.cli.output import format_json
from mcpchat.cli.runtime import INTERRUPTED, RunState, TerminatedBySignal, start_run
from mcpchat.cli.usage_errors import describe_usage_error
from mcpchat.config import schema
from mcpchat.config.run import ConfigChoice, RunOptions
from mcpchat.core.events import VERSION
from mcpchat.core.report import ErrorReport, error_report
from mcpchat.errors import McpChatError, ServerError
from mcpchat.util.errors import innermost_error
from mcpchat.util.pipe_reader import is_reader_gone
from mcpchat.util.sanitize import sanitize, sanitize_message
from mcpchat.version import __version__

_JSON = re.compile(r"(-[a-zA-Z]*o|--output|--format)[ =]?jsonl?")
_SECTIONS = {
    "Ask": ("chat", "ask", "batch"),
    "Without a model": ("tools", "call", "read", "prompt"),
    "Servers, sign-in, trust": ("servers", "import", "auth", "secret", "trust", "approvals"),
    "Threads, agents, settings": (
        "init",
        "threads",
        "calls",
        "tasks",
        "usage",
        "agents",
        "models",
        "config",
        "warm",
        "doctor",
        "schema",
        "completion",
    ),
}


class Commands(LazyGroup):
    """All commands; without one, the chat."""

    sections: ClassVar = _SECTIONS
    modules: ClassVar = {
        name: f"mcpchat.cli.commands.{'import_servers' if name == 'import' else name}"
        for names in _SECTIONS.values()
        for name in names
    }
    other_names: ClassVar = {
        "login": "auth login", "logout": "auth logout", "add": "servers add", "remove": "servers remove",
        "mcp": "servers", "list": "tools", "status": "servers", "history": "threads", "sessions": "threads",
        "resume": "--continue", "search": "threads search", "export": "threads export",
        "exec": "ask", "run": "ask", "query": "ask", "settings": "config show",
        "secrets": "secret", "check": "doctor", "diagnose": "doctor", "setup": "init", "permissions": "approvals",
    }  # fmt: skip
    default = "chat"


app = typer.Typer(
    name="mcpchat",
    cls=Commands,
    rich_markup_mode=None,
    add_completion=False,
    context_settings={"help_option_names": ["--help", "-h"]},
    epilog="Exit codes: 0 ok, 1 failed, 2 usage or config, 3 sign-in needed, 4 server down, 5 tool failed, "
    "6 denied, 7 limit reached, 8 model failed, 130 interrupted.",
)


def _print_version(wanted: bool) -> None:
    if wanted:
        sys.stdout.write(f"mcpchat {__version__}\n")
        raise typer.Exit


@app.callback(invoke_without_command=True)
@with_options(options=conversation_options, display=chat_display, config=config_and_servers)
def root(
    options: RunOptions,
    display: DisplayOptions,
    config: ConfigChoice,
    version: Annotated[
        bool, typer.Option("--version", help="Show the version.", is_eager=True, callback=_print_version)
    ] = False,
) -> None:
    """Talk to your MCP servers from the terminal and from scripts. Without a command: chat.

    \b
      mcpchat ask --model demo "What is 1234 * 5678?"
      mcpchat tools
      mcpchat call calculator.calculate expression="2 ** 10"
    """


@functools.cache
def _build_root() -> Any:
    return typer.main.get_command(app)


def build_commands() -> None:
    """Build every command, the types of its options and those of the config, for the runs that this process forks."""
    schema.parse("", "")
    groups = [_build_root()]
    while groups:
        group = groups.pop()
        for command in (group, *(group.get_command(None, name) for name in group.list_commands(None))):
            for parameter in command.params:
                parameter.get_runtime_param()
            if command is not group and hasattr(command, "list_commands"):
                groups.append(command)


def run(args: list[str]) -> int:
    """Run one command line and return its exit code. Only --debug shows a traceback.

    If stdout is promised to be JSON, an error is a JSON object there too, once.
    """
    with start_run(args) as state:
        try:
            code = copy.copy(_build_root()).main(list(args), prog_name="mcpchat", standalone_mode=False)
            if code == INTERRUPTED:  # from Typer, for a signal that came before our handlers were set
                return _report_interrupt(INTERRUPTED, state)
            return code if isinstance(code, int) else 0
        except TerminatedBySignal as end:
            return _report_interrupt(end.code, state)
        except SystemExit as end:
            if isinstance(end.__context__, BrokenPipeError):  # to which Typer answers with exit code 1
                return _report_error(end.__context__, state)
            return int(end.code or 0)
        except TyperException as error:
            message = describe_usage_error(error)
            command = getattr(getattr(error, "ctx", None), "command_path", "mcpchat")
            hint = f"{command} --help shows how"
            if args[:2] == ["servers", "add"] and "--" not in args and "no such option" in message:
                hint = "before a command write --: mcpchat servers add NAME -- COMMAND..."
            sys.stderr.write(f"error: {sanitize_message(message)}\n  {sanitize_message(hint)}\n")
            _write_json_error(ErrorReport(kind="usage", code=error.exit_code, message=message), state)
            return error.exit_code
        except (KeyboardInterrupt, Abort):
            return _report_interrupt(INTERRUPTED, state)
        except Exception as error:  # noqa: BLE001 - the one catch-all
            return _report_error(innermost_error(error), state)


def _report_error(error: BaseException, state: RunState) -> int:
    if isinstance(error, BrokenPipeError) and is_reader_gone(sys.stdout) is not False:
        return 0  # the reader has seen enough
    if isinstance(error, OSError):
        error = _explain_system_error(error)
    if state.debug:
        _print_traceback(state)
    if not isinstance(error, McpChatError):
        error = McpChatError(
            f"internal error: {type(error).__name__}: {state.secrets.redact_log(str(error))}",
            hint="run it again with --debug, and report what it shows",
        )
        error.kind = "internal"
    redact = state.secrets.redact
    error.message, error.hint = redact(error.message), redact(error.hint)
    lines = [f"error: {sanitize_message(error.message)}"]
    if isinstance(error, ServerError):
        lines += [f"    {sanitize(redact(line))}" for line in error.log[-5:]]
    if error.hint:
        lines.append(f"  {sanitize_message(error.hint)}")
    with suppress(OSError):  # a closed stderr changes no exit code
        sys.stderr.write("\n".join(lines) + "\n")
    if not state.error_written:
        _write_json_error(error_report(error), state)
    return error.exit_code


def _explain_system_error(error: OSError) -> McpChatError:
    """The error for a file, a folder or an output that cannot be used."""
    reason = (error.strerror or str(error)).lower()
    if error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO} and not error.filename:
        return McpChatError(f"the output could not be written: {reason}")
    return McpChatError(f"cannot write or read {error.filename or ''}".rstrip() + f": {reason}")


def _report_interrupt(code: int, state: RunState) -> int:
    message = "interrupted" if code == INTERRUPTED else "terminated"
    _write_json_error(ErrorReport(kind="interrupted", code=code, message=message), state)
    return code


def _write_json_error(error: ErrorReport, state: RunState) -> None:
    if _wants_json(state):
        with suppress(OSError):
            sys.stdout.write(format_json({"v": VERSION, **msgspec.to_builtins(error)}) + "\n")


def _wants_json(state: RunState) -> bool:
    """Whether stdout is promised to be JSON, by any spelling of the option."""
    args = [*takewhile(lambda arg: arg != "--", state.args), ""]
    return any(_JSON.fullmatch(arg) or _JSON.fullmatch(f"{arg} {following}") for arg, following in pairwise(args))


def _print_traceback(state: RunState) -> None:
    import traceback

    sys.stderr.write(sanitize(state.secrets.redact_log(traceback.format_exc())))
