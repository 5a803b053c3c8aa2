"""One run of the command line: its state, the context built from config and environment, async work under signals."""

import asyncio
import logging
import os
import signal
import sys
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from itertools import takewhile
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from mcpchat.config.load import load_config
from mcpchat.config.named_servers import add_named_servers
from mcpchat.config.project_file import ProjectFile, merge_project_file
from mcpchat.config.run import ConfigChoice, Paths, RunContext, default_paths
from mcpchat.config.schema import Config
from mcpchat.config.validation import find_literal_secrets
from mcpchat.errors import McpChatError
from mcpchat.util.redaction import SecretRegistry
from mcpchat.util.sanitize import one_line, sanitize
from mcpchat.util.signals import CaughtSignals, catch_signals
from mcpchat.warm import control as warm

# These loggers write authorization codes, verifiers and whole tokens.
_SECRET_LOGGERS = (
    "google_auth_oauthlib", "requests_oauthlib", "oauthlib", "google", "urllib3", "keyring", "mcp.client.auth",
)  # fmt: skip
INTERRUPTED = 130  # the exit code
_SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP")


class TerminatedBySignal(McpChatError):
    """A signal ended the run. ``code`` is the exit code, 128 and the signal's number."""

    kind = "interrupted"

    def __init__(self, number: int) -> None:
        super().__init__("")
        self.code = 128 + number


@dataclass
class RunState:
    """The state of one run: each run of the command line has its own.

    ``error_written`` is set once the error is part of the JSON on stdout. ``warm`` is for how many seconds a process
    shall wait for the next command, once this one has ended.
    """

    args: Sequence[str] = ()
    secrets: SecretRegistry = field(default_factory=SecretRegistry)
    error_written: bool = False
    warm: float = 0.0

    @property
    def debug(self) -> bool:
        """Whether --debug is given. Read from the arguments themselves, so that errors of parsing have it too."""
        return "--debug" in takewhile(lambda arg: arg != "--", self.args)


_T = TypeVar("_T")
_current: ContextVar[RunState] = ContextVar("run")


def current_run() -> RunState:
    """The state of the run in progress; outside of one, a new state."""
    return _current.get(RunState())


@contextmanager
def start_run(args: Sequence[str]) -> Iterator[RunState]:
    """Make a new state the current one while inside, and start a warm process at the end if one is wanted."""
    state = RunState(args)
    token = _current.set(state)
    try:
        yield state
    finally:
        _current.reset(token)
        if state.warm and not os.environ.get(warm.NO_WARM):
            with suppress(McpChatError):
                warm.start(os.environ, state.warm)


def load_user_config(config: Path | None) -> Config:
    """Load the user's config, without any project file. Raises ConfigError."""
    path = config or default_paths(os.environ).config
    return load_config(path, must_exist=config is not None or bool(os.environ.get("MCPCHAT_CONFIG")))


def build_context(
    config: Path | ConfigChoice | None,
    *,
    quiet: bool = False,
    ask_trust: Callable[[ProjectFile, Path], bool] | None = None,
) -> RunContext:
    """Build the context of the run: the config, a trusted project file, the environment, the platform's folders.

    ``ask_trust`` decides on a project file that is not trusted yet. Without it such a file is left out, and a line on
    stderr says so unless ``quiet``. Raises ConfigError, and UsageError for a server that --mcp does not name rightly.
    """
    choice = config if isinstance(config, ConfigChoice) else ConfigChoice(config)
    paths = default_paths(os.environ)
    if choice.path is not None and str(choice.path) != "-":
        paths = replace(paths, config=choice.path)
    settings, notices = load_settings(choice, paths, ask_trust=ask_trust)
    for line in notices if not quiet else ():
        sys.stderr.write(f"{line}\n")
    with suppress(McpChatError):
        current_run().warm = warm.choose_idle(paths.state, settings.start.warm_seconds)
    return RunContext(config=settings, environ=dict(os.environ), paths=paths, secrets=current_run().secrets)


def load_settings(
    choice: ConfigChoice, paths: Paths, *, ask_trust: Callable[[ProjectFile, Path], bool] | None = None
) -> tuple[Config, list[str]]:
    """The user's config with a trusted project file and the servers of the command line, and notices for the user.

    Raises as ``build_context``.
    """
    user_config = load_user_config(choice.path)
    settings, notices = merge_project_file(user_config, choice.path or paths.config, paths, confirm_trust=ask_trust)
    settings, _, problems = add_named_servers(settings, choice.servers, os.environ)
    if choice.keep is not None:
        kept = {name: msgspec.structs.replace(server, keep=choice.keep) for name, server in settings.servers.items()}
        settings = msgspec.structs.replace(settings, servers=kept)
    return settings, [*notices, *problems, *literal_secret_warnings(user_config)]


def build_context_at(config: ConfigChoice, address: str) -> tuple[RunContext, str]:
    """The context with the server at an address added, and its name in the config. Raises as ``build_context``."""
    context = build_context(config._replace(servers=(*config.servers, address)))
    return context, next(name for name, server in context.config.servers.items() if server.url == address)


def literal_secret_warnings(config: Config, *, complete: bool = False) -> list[str]:
    """A warning if the config has secrets as plain text. It names the first ones, or all if ``complete``."""
    keys = find_literal_secrets(msgspec.to_builtins(config.servers))
    if not keys:
        return []
    names = ", ".join(one_line(key, 80) for key in (keys if complete else keys[:3]))
    more = f" and {len(keys) - 3} more" if len(keys) > 3 and not complete else ""
    what = "is a secret in plain text; mcpchat secret set NAME stores it"
    if len(keys) > 1:
        what = "are secrets in plain text; mcpchat secret set NAME stores one"
    return [f'warning: {names}{more} {what}, and "keyring:NAME" or "env:NAME" refers to it']


def run_async(work: Coroutine[Any, Any, int]) -> int:
    """Run the coroutine to its end and return its exit code.

    SIGINT, SIGTERM and SIGHUP cancel it, so that everything is closed in order. Raises TerminatedBySignal then.
    """
    numbers = [getattr(signal, name) for name in _SIGNALS if hasattr(signal, name)]
    with _logging(current_run()), catch_signals(numbers) as caught, asyncio.Runner() as runner:
        return runner.run(_cancel_on_signals(work, caught))


def run_for_value(work: Coroutine[Any, Any, _T]) -> _T:
    """Run the coroutine to its end and return its value, between questions that are asked outside of it.

    While a coroutine runs, Ctrl-C cancels it, and would not end a question. Raises as ``run_async``.
    """
    values: list[_T] = []

    async def keep() -> int:
        values.append(await work)
        return 0

    run_async(keep())
    return values[0]


async def _cancel_on_signals(work: Coroutine[Any, Any, int], caught: CaughtSignals) -> int:
    task = asyncio.create_task(work)
    caught.cancel(task)
    try:
        return await task
    except asyncio.CancelledError:
        if caught.numbers:
            raise TerminatedBySignal(caught.numbers[0]) from None
        raise
    finally:
        caught.release()


@contextmanager
def _logging(state: RunState) -> Iterator[None]:
    """Log to stderr with --debug, and nowhere without: Python would print the SDKs' tracebacks."""
    root = logging.getLogger()
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_RedactingFormatter(state.secrets))
    level, levels = root.level, {name: logging.getLogger(name).level for name in _SECRET_LOGGERS}
    root.addHandler(handler)
    root.setLevel(logging.DEBUG if state.debug else logging.CRITICAL + 1)
    for name in _SECRET_LOGGERS if state.debug else ():
        logging.getLogger(name).setLevel(logging.WARNING)
    try:
        yield
    finally:
        root.removeHandler(handler)
        root.setLevel(level)
        for name, before in levels.items():
            logging.getLogger(name).setLevel(before)


class _RedactingFormatter(logging.Formatter):
    """Formats records, tracebacks included, without secrets and safe for a terminal."""

    def __init__(self, secrets: SecretRegistry) -> None:
        super().__init__(logging.BASIC_FORMAT)
        self._secrets = secrets

    def format(self, record: logging.LogRecord) -> str:
        return sanitize(self._secrets.redact_log(super().format(record)))
