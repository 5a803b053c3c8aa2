"""The user's terminal, for programs that need it, such as an editor, and for us, if it is another process's."""

import subprocess
from collections.abc import Mapping, Sequence
from typing import Protocol


class Terminal(Protocol):
    """A terminal of which another process is in the session."""

    def run_program(self, argv: Sequence[str], env: Mapping[str, str], stdin: int | None) -> int: ...

    def wait(self) -> None: ...


_front: Terminal | None = None


def use_front(terminal: Terminal) -> None:
    """Use the terminal by way of another process from now on."""
    global _front
    _front = terminal


def run_program(argv: Sequence[str], env: Mapping[str, str], *, stdin: int | None = None) -> int:
    """Run the program with our stdout and stderr, and our stdin unless another is given. Returns its exit code.

    Raises OSError if it cannot be started.
    """
    if _front is not None:
        return _front.run_program(argv, env, stdin)
    return subprocess.run(argv, env=dict(env), stdin=stdin, check=False).returncode


def wait_for_terminal() -> None:
    """Wait until the job is in the foreground; the system itself stops a process of the terminal's session.

    Raises OSError if that cannot be.
    """
    if _front is not None:
        _front.wait()
