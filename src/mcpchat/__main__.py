"""The way in: answers --version and --help from stored texts, and leaves without a long goodbye."""

import sys


def main() -> None:
    """Run the command line and end the process with its exit code."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed by whoever started us
            nowhere = "/dev/null" if sys.platform != "win32" else "nul"
            setattr(sys, name, open(nowhere, "w", encoding="utf-8"))  # noqa: PTH123, SIM115 - until the process ends
    try:
        code = run(sys.argv[1:])
    except KeyboardInterrupt:  # while we were still loading
        code = 130
    except BrokenPipeError:  # whoever read us has seen enough
        code = 0
    except OSError:  # of a Tab
        code = 1
    # The interpreter's own teardown of the SDKs takes a third of a second; everything of ours is closed by now.
    leave(code)


def run(words: list[str]) -> int:
    """Answer from what is stored, or else by the whole command line."""
    if words == ["--version"]:
        from mcpchat.version import __version__

        sys.stdout.write(f"mcpchat {__version__}\n")
        return 0
    if words and words[0] == "__complete":  # a shell's Tab
        from mcpchat.cli import completion

        return completion.main(words[1:])
    if words and words[-1] in ("--help", "-h"):
        from mcpchat.cli import help_texts

        stored = help_texts.TEXTS.get(" ".join(words[:-1]))
        if stored is not None:
            sys.stdout.write(stored)
            return 0
    prepare()
    from mcpchat.cli import main as cli

    return cli.run(words)


def prepare() -> None:
    """Let no character break the output, and make the import of the SDKs cheaper by about a third."""
    import gc
    import io
    import os
    from contextlib import suppress

    class Forgiving(io.TextIOWrapper):
        """A log that is full, or that nobody reads, is no reason to lose the answer."""

        def write(self, text: str) -> int:
            with suppress(OSError):
                super().write(text)
            return len(text)

        def flush(self) -> None:
            with suppress(OSError):
                super().flush()

    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # where the terminal's or the pipe's encoding lacks one
    if isinstance(sys.stderr, io.TextIOWrapper):
        sys.stderr = Forgiving(sys.stderr.buffer, sys.stderr.encoding, "replace", line_buffering=True)

    # They create hundreds of thousands of objects that live for ever: do not look through them again and again. The
    # app switches collection on once an SDK is loaded.
    gc.disable()
    # pydantic reads the metadata of every installed package in search of plugins, of which this program uses none.
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "1")


def leave(code: int) -> None:
    """End the process now, with what was written flushed; a reader that has gone is no error."""
    import os

    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except BrokenPipeError:
            continue
        except (OSError, ValueError):  # a full disk: what was promised is not there
            code = code or 1
    os._exit(code)


if __name__ == "__main__":
    main()
