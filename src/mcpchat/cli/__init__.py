"""The command line: parses, calls the app, turns errors into a message and an exit code."""

import sys
from collections.abc import Sequence
from contextlib import suppress
from itertools import pairwise, takewhile

from typer.exceptions import Abort, TyperException

from mcpchat.cli import common
from mcpchat.cli.commands import app
from mcpchat.core.errors import McpChatError, ServerError

INTERRUPTED = 130


def run(words: Sequence[str]) -> int:
    """Run one command line; returns the exit code. Nothing but its message reaches the user, except with --debug."""
    common.debug_wanted = "--debug" in takewhile(lambda word: word != "--", words)
    try:
        code = app(list(words), prog_name="mcpchat", standalone_mode=False)
        return code if isinstance(code, int) else 0
    except common.Terminated as end:
        return end.code
    except SystemExit as end:
        # typer's answer to a closed pipe is to exit with 1: whoever read us has seen enough.
        return 0 if isinstance(end.__context__, BrokenPipeError) else int(end.code or 0)
    except TyperException as error:
        error.show()  # type: ignore[attr-defined]  # all that typer raises here have it
        return error.exit_code
    except (KeyboardInterrupt, Abort):
        return INTERRUPTED
    except BrokenPipeError:
        return 0  # whoever read us has seen enough
    except McpChatError as error:
        _report(error, words)
        return error.exit_code
    except OSError as error:
        _report(McpChatError(f"cannot write or read: {error.strerror or error} {error.filename or ''}".rstrip()), words)
        return 1
    except Exception as error:  # noqa: BLE001 - the one catch-all: a traceback is for --debug
        inner = _innermost(error)
        if isinstance(inner, BrokenPipeError):
            return 0
        _report_bug(inner)
        return 1


def _report(error: McpChatError, words: Sequence[str]) -> None:
    if common.debug_wanted:
        _traceback()
    from mcpchat.core.sanitize import clean

    error.message, error.hint = common.secrets.redact(error.message), common.secrets.redact(error.hint)
    lines = [f"error: {clean(error.message)}"]
    if isinstance(error, ServerError):
        lines += [f"    {clean(common.secrets.redact(line))}" for line in error.log[-5:]]
    if error.hint:
        lines.append(f"  {clean(error.hint)}")
    with suppress(OSError):  # a reader that has gone changes no exit code
        sys.stderr.write("\n".join(lines) + "\n")
    if _wants_json(words) and not error.answered:
        told = {"v": 1, "type": "error", **error.told()}
        with suppress(OSError):
            sys.stdout.write(common.as_json(told) + "\n")


def _wants_json(words: Sequence[str]) -> bool:
    """Whether stdout was promised to be JSON, by any spelling of the option."""
    formats, options = ("json", "jsonl"), ("-o", "--output", "--format")
    spelled = {f"{option}{join}{form}" for option in options for join in (" ", "=", "") for form in formats}
    return any(word in spelled or f"{word} {following}" in spelled for word, following in pairwise([*words, ""]))


def _innermost(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _report_bug(error: BaseException) -> None:
    if common.debug_wanted:
        _traceback()
    from mcpchat.core.sanitize import clean

    sys.stderr.write(
        f"error: mcpchat failed in a way it should not: {type(error).__name__}: "
        f"{clean(common.secrets.redact_log(str(error)))}\n"
        "  run it again with --debug, and report what it shows\n"
    )


def _traceback() -> None:
    import traceback

    from mcpchat.core.sanitize import clean

    sys.stderr.write(clean(common.secrets.redact_log(traceback.format_exc())))
