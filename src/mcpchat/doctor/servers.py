"""Checks of the servers: starts each one and asks it for its lists."""

import asyncio
import os
import re
import shutil
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, suppress
from pathlib import PurePath

from mcpchat.config.schema import ServerConfig
from mcpchat.config.validation import REFERENCE
from mcpchat.core.catalog import Catalog, describe_offers
from mcpchat.core.protocols import ServerStatus
from mcpchat.doctor.check import Check, Subject
from mcpchat.errors import McpChatError, ServerError, SignInNeeded
from mcpchat.mcp.hub import McpHub
from mcpchat.util.paths import expand_user
from mcpchat.util.sanitize import one_line
from mcpchat.util.urls import redact_url

OpenServer = Callable[[str], AbstractAsyncContextManager[McpHub]]
_PARALLEL = 4  # servers that are checked at the same time
_VERSION_TIMEOUT = 5.0  # seconds
_LOG_LINES = 5  # of a server that failed
_STATELESS_SINCE = "2026-07-28"
# Programs that run others, and answer --version.
_RUNNERS = re.compile(
    r"(npx|npm|node|uvx|uv|python[\d.]*|pipx|docker|podman|deno|bun|bunx|java|dotnet|go|cargo|ruby|php)"
)


async def check_servers(servers: Mapping[str, ServerConfig], open_server: OpenServer) -> AsyncIterator[Check]:
    """Check the servers, several at a time; their checks come in the order of the servers.

    ``open_server`` opens a hub with only the server of that name.
    """
    slots = asyncio.Semaphore(_PARALLEL)

    async def check(name: str, server: ServerConfig) -> list[Check]:
        async with slots:
            return [check async for check in check_server(name, server, open_server)]

    tasks = [asyncio.create_task(check(name, server)) for name, server in servers.items()]
    try:
        for task in tasks:
            for result in await task:
                yield result
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def check_server(name: str, server: ServerConfig, open_server: OpenServer) -> AsyncIterator[Check]:
    """Check one server: its program, its start, what it lists, its sign-in, its sandbox."""
    subject = Subject(f"server {name}")
    if not server.enabled:
        yield subject.ok("config", "disabled: it is not started")
        return
    if server.command is not None:
        program = await _check_program(subject, server)
        yield program
        if program.status == "wrong":
            return
    async with open_server(name) as hub:
        with suppress(ServerError, SignInNeeded):  # told by its status
            await hub.start_all()
        began = time.monotonic()
        await hub.wait_for_lists()
        seconds = time.monotonic() - began
        status, catalog, error = hub.status()[0], hub.catalogs().get(name), hub.last_error(name)
    if error is not None or catalog is None:
        yield _describe_failure(subject, name, error or ServerError("it does not answer"))
        return
    for check in _check_running(subject, name, server, status, catalog, seconds):
        yield check


async def _check_program(subject: Subject, server: ServerConfig) -> Check:
    """Whether the program exists; of the known ones, which version."""
    command = server.command or ""
    folder = expand_user(server.cwd) if server.cwd else None
    if folder is not None and not folder.is_dir():
        return subject.wrong("program", f"its folder does not exist: {folder}", "correct cwd in the config", 4)
    if os.sep in command:
        path = (folder or expand_user(".")) / expand_user(command)
        if not path.exists():
            return subject.wrong("program", f"there is no program {path}", "correct command in the config", 4)
        if not os.access(path, os.X_OK):
            return subject.wrong("program", f"{path} is not executable", f"chmod +x {path}", 4)
        return subject.ok("program", str(path))
    folders = server.env.get("PATH")
    if folders is not None and REFERENCE.fullmatch(folders):
        folders = os.environ.get(folders[4:]) if folders.startswith("env:") else ""
    if folders == "":
        return subject.ok("program", f"{command}, on the PATH of its variables")
    found = shutil.which(command, path=folders)
    if found is None:
        return subject.wrong("program", f"there is no program {command!r} on PATH", _installation(command), 4)
    version = await _read_version(found) if _RUNNERS.fullmatch(PurePath(command).stem) else ""
    return subject.ok("program", f"{found}{f', {version}' if version else ''}")


def _installation(command: str) -> str:
    """How to install a program that many servers need."""
    sources = {
        ("npx", "npm", "node"): "install Node.js: https://nodejs.org",
        ("uvx", "uv"): "install uv: https://docs.astral.sh/uv",
        ("docker",): "install Docker: https://docs.docker.com/get-docker",
        ("bunx", "bun"): "install Bun: https://bun.sh",
    }
    return next((text for names, text in sources.items() if command in names), "install it, or correct command")


async def _read_version(program: str) -> str:
    """The first line that the program prints with --version; empty if it prints none in time."""
    try:
        process = await asyncio.create_subprocess_exec(
            program,
            "--version",
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )
    except OSError:
        return ""
    try:
        async with asyncio.timeout(_VERSION_TIMEOUT):
            out, _ = await process.communicate()
    except TimeoutError:
        process.kill()
        await process.wait()
        return ""
    lines = out.decode(errors="replace").splitlines()
    return one_line(lines[0], 60) if lines else ""


def _describe_failure(subject: Subject, name: str, error: McpChatError) -> Check:
    """Why a server could not be started, with the end of what it wrote to stderr."""
    if isinstance(error, SignInNeeded):
        return subject.wrong("sign-in", error.message, error.hint or f"mcpchat auth login {name}", error.exit_code)
    log = error.log if isinstance(error, ServerError) else ()
    message = error.message.removeprefix(f"{name}: ")
    tail = [one_line(line, 200) for line in log[-_LOG_LINES:]]
    if tail and message.rstrip().endswith(tail[-1]):
        tail.pop()  # the message ends in it
    lines = [message, *(f"  {line}" for line in tail)]
    return subject.wrong("start", "\n".join(lines), error.hint or f"mcpchat servers logs {name}", error.exit_code)


def _check_running(
    subject: Subject, name: str, server: ServerConfig, status: ServerStatus, catalog: Catalog, seconds: float
) -> Iterator[Check]:
    info = catalog.info
    title = " ".join(text for text in (info.title or info.name, info.version) if text)
    started = f"ready after {status.seconds:.1f} s" if status.seconds is not None else "ready"
    place = f", at {redact_url(server.url)}" if server.url else ""
    yield subject.ok("start", f"{one_line(title, 80)}: {started}{place}" if title else f"{started}{place}")
    era = "stateless" if info.revision >= _STATELESS_SINCE else "with a handshake"
    yield subject.ok("protocol", f"{info.revision}, {era}, {status.transport}")
    if status.auth != "none":
        yield subject.ok("sign-in", status.auth)
    yield from _check_lists(subject, name, catalog, seconds)
    yield from _check_sandbox(subject, server)


def _check_lists(subject: Subject, name: str, catalog: Catalog, seconds: float) -> Iterator[Check]:
    offers = describe_offers(catalog)
    if not offers:
        yield subject.warning("lists", "it offers nothing", f"mcpchat servers logs {name}")
    else:
        yield subject.ok("lists", f"{offers}, {seconds:.1f} s")
    for notice in catalog.notices:
        yield subject.warning("lists", notice)


def _check_sandbox(subject: Subject, server: ServerConfig) -> Iterator[Check]:
    if server.url is None:
        yield subject.ok("sandbox", "bubblewrap" if server.sandbox else "none")
