"""Gives a fork of this process what a new process has: streams, environment, signals. Imports everything before."""

import contextlib
import fcntl
import gc
import importlib
import io
import os
import pkgutil
import signal
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mcpchat.errors import McpChatError
from mcpchat.warm.request import MAX_NUMBER

# Imported by functions of mcpchat when they are needed.
LIBRARIES = (
    "anyio._backends._asyncio", "concurrent.futures.thread", "encodings.utf_8_sig", "genai_prices.data",
    "genai_prices.data_units", "google.oauth2.credentials", "google_auth_oauthlib.flow", "httpcore2",
    "jsonschema", "keyring.backends.SecretService", "keyring.backends.fail", "mcp.client.auth", "mcp.client.stdio",
    "mcp.client.streamable_http", "openai", "openai.resources.chat", "openai.resources.responses", "platformdirs.unix",
    "prompt_toolkit.shortcuts", "pygments.lexers.python", "rich.markdown", "rich.syntax", "rich.table", "truststore",
    "typer._adapters", "typer._click.decorators",
)  # fmt: skip
_FIRST_FREE = MAX_NUMBER  # descriptors from here on are free while those that were handed over are put in their places
_MAX_DESCRIPTOR = 4096
_STREAMS = [(name, getattr(sys, name).encoding, getattr(sys, name).errors) for name in ("stdin", "stdout", "stderr")]
_IGNORED = {getattr(signal, name) for name in ("SIGPIPE", "SIGXFSZ", "SIGXFZ") if hasattr(signal, name)}  # by Python
_DEFAULTS: dict[int, Any] = {signal.SIGINT: signal.default_int_handler, **dict.fromkeys(_IGNORED, signal.SIG_IGN)}


def import_all(libraries: Iterable[str] = LIBRARIES) -> None:
    """Import all modules of mcpchat and the libraries that it loads late."""
    gc.disable()
    for module in pkgutil.walk_packages([str(Path(__file__).parents[1])], "mcpchat."):
        with contextlib.suppress(ImportError, McpChatError):  # it needs an extra that is not installed
            importlib.import_module(module.name)
    for library in libraries:
        with contextlib.suppress(ImportError):  # another version of a library may have other modules
            importlib.import_module(library)
    gc.enable()


def freeze_objects() -> None:
    """Let the collector leave alone what exists now, so that the forks share its memory."""
    gc.collect()
    gc.freeze()


def take_files(files: Sequence[int], numbers: Sequence[int], keep: Sequence[int] = ()) -> list[int]:
    """Put the files in the places of these numbers, and close all others but ``keep``. Returns the new ``keep``."""
    moved = [fcntl.fcntl(file, fcntl.F_DUPFD, _FIRST_FREE) for file in files]
    kept = [fcntl.fcntl(file, fcntl.F_DUPFD_CLOEXEC, _FIRST_FREE) for file in keep]
    os.closerange(0, _FIRST_FREE)
    for file, number in zip(moved, numbers, strict=True):
        os.dup2(file, number)
    first = min(kept, default=_MAX_DESCRIPTOR)
    os.closerange(_FIRST_FREE, first)
    os.closerange(max(kept, default=first) + 1, _MAX_DESCRIPTOR)
    return kept


def take_environment(environ: Mapping[bytes, bytes]) -> None:
    """Make this the environment, the time zone included."""
    os.environb.clear()
    os.environb.update(environ)
    time.tzset()


def reset_signals(ignored: Iterable[int] = ()) -> None:
    """Set the handlers that a new interpreter has; ``ignored`` are the signals that its parent ignores."""
    ignored = set(ignored)
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        handler = signal.SIG_IGN if number in ignored else _DEFAULTS.get(number, signal.SIG_DFL)
        try:
            signal.signal(number, handler)
        except OSError:  # reserved by the system's library
            continue
    signal.pthread_sigmask(signal.SIG_SETMASK, [])


def open_streams() -> None:
    """Open stdin, stdout and stderr as the interpreter does when it starts."""
    for number, (name, encoding, errors) in enumerate(_STREAMS):
        raw = open(number, "wb" if number else "rb", closefd=False)  # noqa: SIM115 - until the process ends
        interactive = number == 2 or os.isatty(number)
        through = bool(number and os.environ.get("PYTHONUNBUFFERED"))
        buffered = bool(number) and interactive
        stream = io.TextIOWrapper(
            raw, encoding, errors, newline=os.linesep, line_buffering=buffered, write_through=through
        )
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)
