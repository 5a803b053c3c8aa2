"""``mcpchat`` run within the test's process: as fast as a function call, with streams, environment and folder of its own.

It is for tests that look at what was written and at the exit code. A test of signals, terminals, memory, start-up or a
real process id starts the installed command.
"""

import contextlib
import io
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mcpchat.__main__ import answer_quickly
from mcpchat.cli.main import run


def run_mcpchat(
    *args: str,
    stdin: bytes | str = b"",
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    text: bool = False,
) -> subprocess.CompletedProcess[Any]:
    """Run the command line; ``env`` is the whole environment. Output is bytes, or with ``text`` str."""
    data = stdin.encode() if isinstance(stdin, str) else stdin
    with _streams(data) as (out, err), _environment(env), _folder(cwd):
        code = answer_quickly(list(args))
        if code is None:
            code = run(list(args))
        sys.stdout.flush()
        sys.stderr.flush()
        written: list[Any] = [out.getvalue(), err.getvalue()]
    if text:
        written = [part.decode().replace("\r\n", "\n") for part in written]
    return subprocess.CompletedProcess(["mcpchat", *args], code, *written)


@contextlib.contextmanager
def _streams(data: bytes) -> Iterator[tuple[io.BytesIO, io.BytesIO]]:
    out, err = io.BytesIO(), io.BytesIO()
    before = sys.stdin, sys.stdout, sys.stderr
    sys.stdin = io.TextIOWrapper(io.BytesIO(data), "utf-8")
    sys.stdout = io.TextIOWrapper(out, "utf-8", "replace", write_through=True)
    sys.stderr = io.TextIOWrapper(err, "utf-8", "replace", write_through=True)
    try:
        yield out, err
    finally:
        sys.stdin, sys.stdout, sys.stderr = before


@contextlib.contextmanager
def _environment(env: Mapping[str, str] | None) -> Iterator[None]:
    if env is None:
        yield
        return
    before = dict(os.environ)
    os.environ.clear()
    os.environ.update(env)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


@contextlib.contextmanager
def _folder(cwd: Path | None) -> Iterator[None]:
    with contextlib.chdir(cwd) if cwd is not None else contextlib.nullcontext():
        yield
