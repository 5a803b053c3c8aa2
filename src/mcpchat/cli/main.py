"""The command line: parses, calls the app, turns errors into a message and an exit code."""

import re
import sys
from collections.abc import Sequence
from contextlib import suppress
from itertools import pairwise, takewhile

from typer.exceptions import Abort, TyperException

from mcpchat.cli import options
from mcpchat.cli.commands_root import app
from mcpchat.core.events import VERSION
from mcpchat.core.report import Fault, fault
from mcpchat.errors import McpChatError, ServerError

INTERRUPTED = 130
_JSON = re.compile(r"(-[a-zA-Z]*o|--output|--format)[ =]?jsonl?")


def run(words: Sequence[str]) -> int:
    """Run one command line; returns the exit code. Nothing but its message reaches the user, except with --debug.

    Where stdout was promised to be JSON, an error is an object there too, once.
    """
    options.debug_wanted = "--debug" in takewhile(lambda word: word != "--", words)
    try:
        code = app(list(words), prog_name="mcpchat", standalone_mode=False)
        if code == INTERRUPTED:  # by typer, of a signal that came before we looked after it
            return _stopped(INTERRUPTED, words)
        return code if isinstance(code, int) else 0
    except options.Terminated as end:
        return _stopped(end.code, words)
    except SystemExit as end:
        # typer's answer to a closed pipe is to exit with 1: whoever read us has seen enough.
        return 0 if isinstance(end.__context__, BrokenPipeError) else int(end.code or 0)
    except TyperException as error:
        error.show()  # type: ignore[attr-defined]  # all that typer raises here have it
        _tell_json(Fault(kind="usage", code=error.exit_code, message=_message(error)), words)
        return error.exit_code
    except (KeyboardInterrupt, Abort):
        return _stopped(INTERRUPTED, words)
    except Exception as error:  # noqa: BLE001 - the one catch-all: a traceback is for --debug
        return _failed(_innermost(error), words)


def _failed(error: BaseException, words: Sequence[str]) -> int:
    if isinstance(error, BrokenPipeError):
        return 0  # whoever read us has seen enough
    if isinstance(error, OSError):
        error = McpChatError(f"cannot write or read: {error.strerror or error} {error.filename or ''}".rstrip())
    if isinstance(error, McpChatError):
        _report(error, words)
        return error.exit_code
    _report_bug(error, words)
    return 1


def _stopped(code: int, words: Sequence[str]) -> int:
    message = "interrupted" if code == INTERRUPTED else "terminated"
    _tell_json(Fault(kind="interrupted", code=code, message=message), words)
    return code


def _message(error: TyperException) -> str:
    """What typer would print, on a line."""
    format_message = getattr(error, "format_message", lambda: str(error))
    return " ".join(str(format_message()).split())


def _report(error: McpChatError, words: Sequence[str]) -> None:
    if options.debug_wanted:
        _traceback()
    from mcpchat.util.sanitize import clean

    error.message, error.hint = options.secrets.redact(error.message), options.secrets.redact(error.hint)
    lines = [f"error: {clean(error.message)}"]
    if isinstance(error, ServerError):
        lines += [f"    {clean(options.secrets.redact(line))}" for line in error.log[-5:]]
    if error.hint:
        lines.append(f"  {clean(error.hint)}")
    with suppress(OSError):  # a reader that has gone changes no exit code
        sys.stderr.write("\n".join(lines) + "\n")
    if not error.answered:
        _tell_json(fault(error), words)


def _tell_json(told: Fault, words: Sequence[str]) -> None:
    if _wants_json(words):
        import msgspec

        with suppress(OSError):
            sys.stdout.write(options.as_json({"v": VERSION, **msgspec.to_builtins(told)}) + "\n")


def _wants_json(words: Sequence[str]) -> bool:
    """Whether stdout was promised to be JSON, by any spelling of the option."""
    meant = [*takewhile(lambda word: word != "--", words), ""]
    return any(_JSON.fullmatch(word) or _JSON.fullmatch(f"{word} {following}") for word, following in pairwise(meant))


def _innermost(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _report_bug(error: BaseException, words: Sequence[str]) -> None:
    if options.debug_wanted:
        _traceback()
    from mcpchat.util.sanitize import clean

    message = f"internal error: {type(error).__name__}: {clean(options.secrets.redact_log(str(error)))}"
    hint = "run it again with --debug, and report what it shows"
    with suppress(OSError):
        sys.stderr.write(f"error: {message}\n  {hint}\n")
    _tell_json(Fault(kind="internal", code=1, message=message, hint=hint), words)


def _traceback() -> None:
    import traceback

    from mcpchat.util.sanitize import clean

    sys.stderr.write(clean(options.secrets.redact_log(traceback.format_exc())))
