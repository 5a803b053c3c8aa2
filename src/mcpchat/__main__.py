"""The entry point: answers --version, --help and Tab without a parser, and ends the process quickly."""

import os
import sys

TYPE_CHECKING = False  # as typing's, whose import takes long
if TYPE_CHECKING:
    from collections.abc import Callable


def main() -> None:
    """Run the command line and end the process with its exit code."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed by the parent process
            device = "/dev/null" if sys.platform != "win32" else "nul"
            stream = open(device, "w", encoding="utf-8")  # noqa: PTH123, SIM115 - until the process ends
            setattr(sys, name, stream)
            setattr(sys, f"__{name}__", stream)  # a reference: its buffer is used on when the stream is wrapped
    args = sys.argv[1:]
    try:
        code = answer_quickly(args)
        if code is None:
            from mcpchat.warm.front import run_warm

            code = run_warm(sys.argv)
        if code is None:
            code = load_command_line()(args)
    except KeyboardInterrupt:  # while loading
        code = 130
    except BrokenPipeError:  # the reader has seen enough
        code = 0
    except (OSError, RuntimeError):  # of a Tab; RuntimeError: no home folder
        code = 1
    code = flush_output(code)
    # The interpreter's teardown of the SDKs takes a third of a second; everything of ours is closed by now.
    os._exit(code)


def answer_quickly(args: list[str]) -> int | None:
    """Answer --version, --help and __complete from stored data; None for any other command line."""
    if args == ["--version"]:
        from mcpchat.version import __version__

        sys.stdout.write(f"mcpchat {__version__}\n")
        return 0
    if args and args[0] == "__complete":  # a shell's Tab
        from mcpchat.cli import completion

        return completion.main(args[1:])
    if args and args[0] == "__warm":  # started by an earlier command
        from mcpchat.cli.main import build_commands
        from mcpchat.warm import process

        return process.main(args[1:], prepare=build_commands, run=run_in_fork)
    if args and args[-1] in ("--help", "-h"):
        text = read_help(" ".join(args[:-1]))
        if text is not None:
            sys.stdout.write(text)
            return 0
    return None


def read_help(command: str) -> str | None:
    """The stored help text of a command ("", "ask", "config init"); None if there is none."""
    import json

    path = os.path.join(os.path.dirname(__file__), "data", "help.json")  # noqa: PTH118, PTH120 - pathlib is slow to load
    with open(path, encoding="utf-8") as file:  # noqa: PTH123
        texts: dict[str, str] = json.load(file)
    return texts.get(command)


def load_command_line() -> "Callable[[list[str]], int]":
    """Prepare this process, and return the function that runs a command line."""
    prepare_runtime()
    from mcpchat.util.paths import ensure_home

    ensure_home()
    from mcpchat.cli.main import run

    return run


def prepare_runtime() -> None:
    """Make writing to stdout and stderr robust, and the import of the SDKs cheaper by about a third."""
    import gc
    import io
    from contextlib import suppress

    class BestEffortStream(io.TextIOWrapper):
        """A log that is full, or that nobody reads, loses no answer."""

        def write(self, text: str) -> int:
            with suppress(OSError):
                super().write(text)
            return len(text)

        def flush(self) -> None:
            with suppress(OSError):
                super().flush()

    if isinstance(sys.stdout, io.TextIOWrapper) and isinstance(sys.stdout.buffer, io.RawIOBase):
        # With PYTHONUNBUFFERED Python loses what does not fit into a full disk, without an error.
        buffer = io.BufferedWriter(sys.stdout.buffer)
        sys.stdout = io.TextIOWrapper(buffer, sys.stdout.encoding, sys.stdout.errors, write_through=True)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # if the encoding lacks a character
    if isinstance(sys.stderr, io.TextIOWrapper):
        sys.stderr = BestEffortStream(sys.stderr.buffer, sys.stderr.encoding, "replace", line_buffering=True)

    # The SDKs create hundreds of thousands of objects that live for ever: do not collect while they load. The
    # collector is switched on again once an SDK is loaded.
    gc.disable()
    gc.set_threshold(20_000)  # then too, it runs seldom: the lists of a thousand tools alone are 10,000 objects
    # pydantic reads the metadata of every installed package in search of plugins; this program uses none.
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "1")


def flush_output(code: int) -> int:
    """Flush what was written, and return the exit code; a reader that has gone is no error."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except BrokenPipeError:
            continue
        except (OSError, ValueError):  # a full disk: what was promised is not there
            code = code or 1
    return code


def run_in_fork(args: list[str]) -> int:
    """Run the command line in a fork of the warm process, and return its exit code."""
    try:
        code = load_command_line()(args)
    except KeyboardInterrupt:
        code = 130
    except BrokenPipeError:
        code = 0
    return flush_output(code)


if __name__ == "__main__":
    main()
