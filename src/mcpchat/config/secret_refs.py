"""Resolve references to secrets: ``env:NAME`` from the environment, ``keyring:NAME`` from the OS keyring, and
``cmd:COMMAND`` from the output of a program.
"""

import asyncio
import os
import re
import shlex
import signal
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from typing import Any, TypeVar
from urllib.parse import quote, urlsplit

from mcpchat.config.validation import REFERENCE, has_literal_secret, is_secret_header
from mcpchat.errors import ConfigError
from mcpchat.util.blocking import run_in_daemon_thread
from mcpchat.util.connection_problems import find_proxy
from mcpchat.util.keyring_problems import describe_keyring_error
from mcpchat.util.network_settings import check_network_variables
from mcpchat.util.sanitize import one_line
from mcpchat.util.urls import is_unencrypted, iter_parameters, set_parameter

KEYRING_SERVICE = "mcpchat"  # the service name of all entries in the OS keyring
KEYRING_TIMEOUT = 10.0  # seconds; a locked keyring would block forever
COMMAND_TIMEOUT = 60.0  # seconds; the user may have to unlock a password manager
_COMMAND_LIFETIME = 3600.0  # seconds for which the output of a command is used
_FAILURE_LIFETIME = 30.0  # seconds for which a command that failed is not run again
_POLL_INTERVAL, _PIPE_GRACE = 0.01, 0.2  # seconds
_MAX_OUTPUT = 100_000  # bytes of a command

OnSecret = Callable[[str], None]
_T = TypeVar("_T")


def _ignore(value: str) -> None:
    """For callers that redact the value themselves."""


async def resolve_secret(
    text: str, environ: Mapping[str, str], *, config_key: str, on_secret: OnSecret = _ignore
) -> str:
    """Resolve a config value: the secret that it refers to, or the value itself if it is not a reference.

    ``config_key`` is used in error messages. ``on_secret`` is called with each resolved secret.

    Raises ConfigError if the secret does not exist or the keyring cannot be used.
    """
    scheme, space, rest = text.partition(" ")
    if space and scheme == "Bearer" and REFERENCE.fullmatch(rest):
        return f"Bearer {await resolve_secret(rest, environ, config_key=config_key, on_secret=on_secret)}"
    reference = REFERENCE.fullmatch(text)
    if reference is None:
        return text
    kind, name = reference.groups()
    if kind == "cmd":
        secret = await _read_command(name, environ, config_key)
        on_secret(secret)
        return secret
    if kind == "env":
        if not environ.get(name):
            raise ConfigError(f"{config_key}: the environment variable {name} is not set", hint=f"export {name}=...")
        on_secret(environ[name])
        return environ[name]
    stored: str | None = await use_keyring(lambda keyring: keyring.get_password(KEYRING_SERVICE, name), config_key)
    if stored is None:
        raise ConfigError(
            f"{config_key}: the keyring has no entry {KEYRING_SERVICE}/{name}",
            hint=f"mcpchat secret set {shlex.quote(name)}",
        )
    on_secret(stored)
    return stored


async def resolve_header(
    text: str, environ: Mapping[str, str], *, config_key: str, on_secret: OnSecret = _ignore
) -> str:
    """Resolve the value of an HTTP header as ``resolve_secret`` does, and strip blanks and line ends around it.

    Also raises ConfigError if a header cannot carry the value. The message does not contain the value; the error of the
    HTTP library would.
    """
    value = (await resolve_secret(text, environ, config_key=config_key, on_secret=on_secret)).strip()
    if not (value.isascii() and value.isprintable()):
        raise ConfigError(
            f"{config_key}: the value has characters that an HTTP header cannot carry",
            hint="copy it again, on one line",
        )
    return value


async def resolve_headers(
    headers: Mapping[str, str],
    environ: Mapping[str, str],
    *,
    url: str,
    allow_http: bool,
    config_key: str,
    on_secret: OnSecret = _ignore,
) -> dict[str, str]:
    """Resolve the HTTP headers for requests to the URL. ``config_key`` is the key of the table.

    Raises ConfigError as ``resolve_header`` does, and if a secret would be sent without encryption.
    """
    for name, value in headers.items():
        if is_secret_header(name, value):
            check_encrypted(url, allow_http=allow_http, config_key=f"{config_key}.{name}")
    return {
        name: await resolve_header(value, environ, config_key=f"{config_key}.{name}", on_secret=on_secret)
        for name, value in headers.items()
    }


async def resolve_url(
    url: str, environ: Mapping[str, str], *, allow_http: bool, config_key: str, on_secret: OnSecret = _ignore
) -> str:
    """Replace the references to secrets among the parameters of a URL. Raises ConfigError as ``resolve_headers``."""
    if has_literal_secret(url):
        check_encrypted(url, allow_http=allow_http, config_key=config_key)
    for name, value in iter_parameters(url):
        if REFERENCE.fullmatch(value):
            check_encrypted(url, allow_http=allow_http, config_key=config_key)
            secret = await resolve_secret(value, environ, config_key=f"{config_key}, {name}", on_secret=on_secret)
            url = set_parameter(url, name, quote(secret, safe=""))
    return url


def check_encrypted(url: str, *, allow_http: bool, config_key: str) -> None:
    """Raise ConfigError if what the config key names would be sent without encryption to another machine.

    A proxy is another machine too.
    """
    if allow_http or not url.lower().startswith("http:"):
        return
    if is_unencrypted(url):
        table = re.sub(r"\.(?:headers\..*|api_key|url)$", "", config_key)
        raise ConfigError(
            f"{config_key} would be sent without encryption to {urlsplit(url).hostname}",
            hint=f"use https, or set allow_http = true under [{table}]",
        )
    check_network_variables()
    if variable := find_proxy(url)[1]:
        raise ConfigError(
            f"{config_key} would be sent without encryption to the proxy of {variable}",
            hint=f"name {urlsplit(url).hostname} in NO_PROXY",
        )


async def resolve_secrets(
    values: Mapping[str, str], environ: Mapping[str, str], *, config_key: str, on_secret: OnSecret = _ignore
) -> dict[str, str]:
    """Resolve each value as ``resolve_secret`` does. ``config_key`` is the key of the table. Raises ConfigError."""
    return {
        key: await resolve_secret(value, environ, config_key=f"{config_key}.{key}", on_secret=on_secret)
        for key, value in values.items()
    }


async def read_references(references: Iterable[str], environ: Mapping[str, str]) -> dict[str, str]:
    """The secret behind each reference; "" for one that cannot be read."""
    values: dict[str, str] = {}
    for reference in references:
        try:
            values[reference] = await resolve_secret(reference, environ, config_key="")
        except ConfigError:
            values[reference] = ""
    return values


_outputs: dict[tuple[str, str, str], tuple[float, str | ConfigError]] = {}  # when each command gave what
_running: dict[tuple[str, str, str], asyncio.Task[str | ConfigError]] = {}


async def _read_command(command: str, environ: Mapping[str, str], config_key: str) -> str:
    """What the command writes to stdout, without the line end. It runs without a shell, once in an hour.

    Several that want the same wait for one run. A failure is kept for half a minute.
    """
    key = command, environ.get("HOME", ""), environ.get("PATH", "")
    read_at, known = _outputs.get(key, (float("-inf"), ""))
    lifetime = _COMMAND_LIFETIME if isinstance(known, str) else _FAILURE_LIFETIME
    if time.monotonic() - read_at >= lifetime:
        known = await _run_once(key, environ)
        _outputs[key] = time.monotonic(), known
    if isinstance(known, str):
        return known
    raise ConfigError(f"{config_key}: {known.message}", hint=known.hint)


async def _run_once(key: tuple[str, str, str], environ: Mapping[str, str]) -> str | ConfigError:
    """Run the command and return its output, or the error. A run in progress is shared."""
    task = _running.get(key)
    if task is None or task.done() or task.get_loop() is not asyncio.get_running_loop():
        task = _running[key] = asyncio.create_task(_try(key[0], environ))
    return await asyncio.shield(task)  # others may wait for it too


async def _try(command: str, environ: Mapping[str, str]) -> str | ConfigError:
    try:
        return await _run(command, environ)
    except ConfigError as error:
        return error


async def _run(command: str, environ: Mapping[str, str]) -> str:
    """Run the command in its own process group. The group is killed after a minute, or on cancellation."""
    words = _split_command(command)
    pipe, nothing = asyncio.subprocess.PIPE, asyncio.subprocess.DEVNULL
    try:
        process = await asyncio.create_subprocess_exec(
            *words, stdin=nothing, stdout=pipe, stderr=pipe, env=environ, start_new_session=True
        )
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it has a null character"
        raise ConfigError(f"cannot run {words[0]}: {reason}") from error
    output, problems = bytearray(), bytearray()
    readers = [
        asyncio.create_task(_read_into(stream, kept))
        for stream, kept in ((process.stdout, output), (process.stderr, problems))
    ]
    try:
        async with asyncio.timeout(COMMAND_TIMEOUT):
            # Not wait(): it waits for the pipes, which a program left in the background may keep open.
            while process.returncode is None and len(output) <= _MAX_OUTPUT:  # noqa: ASYNC110 - no event tells it
                await asyncio.sleep(_POLL_INTERVAL)
            await asyncio.wait(readers, timeout=_PIPE_GRACE)
    except TimeoutError as error:
        raise ConfigError(f"{words[0]} did not end within {COMMAND_TIMEOUT:.0f} s") from error
    finally:
        for reader in readers:
            reader.cancel()
        if process.returncode is None:
            _kill_group(process)
        process._transport.close()  # type: ignore[attr-defined]  # the pipes, which have no other way to be closed
    secret = output.decode(errors="replace").strip("\r\n")
    if process.returncode or not secret or len(output) > _MAX_OUTPUT or "\ufffd" in secret:
        last = one_line((problems.decode(errors="replace").strip().splitlines() or [""])[-1], 200)
        wrong = f"ended with {process.returncode}" if process.returncode else "wrote no secret"
        raise ConfigError(f"{words[0]} {wrong}{f': {last}' if last else ''}", hint="run it yourself")
    return secret


def _split_command(command: str) -> list[str]:
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise ConfigError(f"cmd:{command}: the quotes do not match") from error
    if not words:
        raise ConfigError("no command follows cmd:", hint="write cmd:PROGRAM ARGS")
    return words


def _kill_group(process: asyncio.subprocess.Process) -> None:
    with suppress(ProcessLookupError, PermissionError):
        if hasattr(os, "killpg"):
            os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()


async def _read_into(stream: asyncio.StreamReader | None, kept: bytearray) -> None:
    """Keep what a program writes; of more than a secret can have, only the beginning."""
    while stream is not None and len(kept) <= _MAX_OUTPUT and (part := await stream.read(_MAX_OUTPUT)):
        kept += part


async def use_keyring(work: Callable[[Any], _T], config_key: str = "") -> _T:
    """Do the work with the module ``keyring``, in a thread. Raises ConfigError if the keyring cannot be used."""

    def run() -> _T:
        import keyring  # takes 0.25 s, and is needed only for keyring references

        return work(keyring)

    prefix = f"{config_key}: " if config_key else ""
    try:
        return await run_in_daemon_thread(run, timeout=KEYRING_TIMEOUT)
    except TimeoutError as error:
        raise ConfigError(
            f"{prefix}the keyring did not answer within {KEYRING_TIMEOUT:.0f} s", hint="unlock it, then try again"
        ) from error
    except Exception as error:
        problem = describe_keyring_error(error)
        raise ConfigError(
            f"{prefix}{problem.message}", hint=f"{problem.hint}, or use an environment variable: env:NAME"
        ) from error
