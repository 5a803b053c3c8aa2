"""The way in: answers --version and --help from stored texts, and leaves without a long goodbye."""

import sys


def main() -> None:
    """Run the command line and end the process with its exit code."""
    words = sys.argv[1:]
    if words == ["--version"]:
        from mcpchat import __version__

        sys.stdout.write(f"mcpchat {__version__}\n")
        return
    if words and words[-1] in ("--help", "-h"):
        from mcpchat import help_texts

        stored = help_texts.TEXTS.get(" ".join(words[:-1]))
        if stored is not None:
            sys.stdout.write(stored)
            return
    import gc

    # Our SDKs create a hundred thousand objects that live for ever: collecting while they load costs a quarter of it.
    gc.set_threshold(100_000, 20, 20)
    from mcpchat import cli

    code = cli.run(words)
    # The interpreter's own teardown of the SDKs takes a third of a second; everything of ours is closed by now.
    leave(code)


def leave(code: int) -> None:
    """End the process now, with what was written flushed; a reader that has gone is no error."""
    import os

    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            continue
    os._exit(code)


if __name__ == "__main__":
    main()
