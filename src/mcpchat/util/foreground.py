"""Programs that need the user's terminal, such as an editor or a pager."""

import subprocess
from collections.abc import Callable, Mapping, Sequence

RunProgram = Callable[[Sequence[str], Mapping[str, str], int | None], int]


def _run(argv: Sequence[str], env: Mapping[str, str], stdin: int | None) -> int:
    return subprocess.run(argv, env=dict(env), stdin=stdin, check=False).returncode


_runner: RunProgram = _run


def run_programs_with(runner: RunProgram) -> None:
    """Let another process run the programs, if this one does not belong to the terminal's session."""
    global _runner
    _runner = runner


def run_program(argv: Sequence[str], env: Mapping[str, str], *, stdin: int | None = None) -> int:
    """Run the program with our stdout and stderr, and our stdin unless another is given. Returns its exit code.

    Raises OSError if it cannot be started.
    """
    return _runner(argv, env, stdin)
