"""``mcpchat`` run within the test's process: as fast as a function call, with streams, environment and folder of its own.

It is for tests that look at what was written and at the exit code. A test of signals, terminals, memory, start-up or a
real process id starts the installed command.
"""

import contextlib
import functools
import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jsonschema

from mcpchat.__main__ import answer_quickly
from mcpchat.cli.commands.schema import SCHEMAS
from mcpchat.cli.main import run
from tests.support.fake_openai import FakeOpenAI


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
    check_output(args, written[0].decode(errors="replace"))
    if text:
        written = [part.decode().replace("\r\n", "\n") for part in written]
    return subprocess.CompletedProcess(["mcpchat", *args], code, *written)


def check_output(args: Sequence[str], stdout: str) -> None:
    """Check what a command wrote against the schema that ``mcpchat schema`` publishes for it."""
    formats = [args[index + 1] for index, word in enumerate(args[:-1]) if word in {"-o", "--output"}]
    if "batch" in args[:1] and "--provider-batch" not in args:
        name = "result"
    elif "ask" in args[:1] and formats in (["json"], ["jsonl"]):
        name = {"json": "answer", "jsonl": "events"}[formats[0]]
    else:
        return
    for line in stdout.splitlines():
        if line.startswith("{"):
            schema_validator(name).validate(json.loads(line))


@functools.cache
def schema_validator(name: str) -> Any:
    """The validator of a published schema."""
    return jsonschema.Draft202012Validator(SCHEMAS[name]())


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


class CommandLine:
    """Runs mcpchat in the test's process, in ``folder``, with a config file there.

    ``model`` is the fake API that its model is at. ``base_config`` begins each config.
    """

    def __init__(
        self, folder: Path, model: FakeOpenAI | None = None, *, base_config: str = "", text: bool = True
    ) -> None:
        self._folder = folder
        self._text = text
        self._config = ""
        self._written = ""
        self.base_config = base_config
        self.environ = {"OPENAI_BASE_URL": model.base_url, "MCPCHAT_MODEL": "m"} if model else {}

    def __call__(
        self, *args: str, stdin: bytes | str = b"", config: str | None = None, **environ: str
    ) -> subprocess.CompletedProcess[Any]:
        """Run a command; ``config`` replaces the config, also for later runs. It must end without a traceback."""
        if config is not None:
            self._config = config
        content = self.base_config + self._config
        if content != self._written:  # otherwise the file may have changes of the command's own
            (self._folder / "c.toml").write_text(content)
            self.environ["MCPCHAT_CONFIG"] = str(self._folder / "c.toml")
            self._written = content
        env = {**os.environ, **self.environ, **environ}
        result = run_mcpchat(*args, stdin=stdin, env=env, cwd=self._folder, text=self._text)
        stderr = result.stderr if self._text else result.stderr.decode()
        assert "Traceback" not in stderr, stderr
        return result


def unpack(result: subprocess.CompletedProcess[Any]) -> tuple[int, str, str]:
    """Return the exit code, stdout and stderr, as text."""
    out, err = (part if isinstance(part, str) else part.decode() for part in (result.stdout, result.stderr))
    assert "Traceback" not in err, err
    return result.returncode, out, err
