"""Checks of the machine: folders and disk, keyring, stored threads, network settings, clock, terminal."""

import asyncio
import os
import platform
import secrets
import shutil
import ssl
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.request import getproxies_environment

from mcpchat.config.run import RunContext
from mcpchat.config.schema import Config, to_plain
from mcpchat.config.secret_refs import KEYRING_SERVICE, use_keyring
from mcpchat.config.stored_secrets import find_keyring_references
from mcpchat.doctor.check import Check, Subject
from mcpchat.errors import ConfigError, McpChatError
from mcpchat.threads import resume
from mcpchat.util.network_settings import check_network_variables
from mcpchat.util.urls import redact_url
from mcpchat.version import __version__

_LOW_SPACE, _NO_SPACE = 200_000_000, 5_000_000  # bytes
_PROBE = "doctor-check"  # begins the name of the entry that is written to the keyring, read and deleted
MAX_CLOCK_ERROR = 60.0  # seconds; sign-ins fail from a few minutes on
_MIN_COLUMNS = 60


def check_program() -> Check:
    """The versions of mcpchat, Python and the system."""
    system = f"{platform.system()} {platform.release()}"
    return Subject("mcpchat").ok("version", f"{__version__}, Python {platform.python_version()}, {system}")


def check_folders(context: RunContext) -> Iterator[Check]:
    """Whether mcpchat's folders can be written to, and whether the disk has space. Creates nothing."""
    subject, paths = Subject("machine"), context.paths
    free = None
    for name, folder in (("config", paths.config.absolute().parent), ("state", paths.state), ("threads", paths.data)):
        existing = next((one for one in (folder, *folder.parents) if one.exists()), Path("/"))
        if not os.access(existing, os.W_OK | os.X_OK):
            fix = f"chmod u+rwx {existing}, or set XDG_{name.upper()}_HOME and the like"
            yield subject.wrong("folders", f"the folder for {name} cannot be written: {folder}", fix)
        elif name == "state":
            free = shutil.disk_usage(existing).free
    if free is None:
        return
    detail = f"{free / 1e9:,.1f} GB free"
    if free < _NO_SPACE:
        yield subject.wrong("disk", detail, "free some space: nothing can be stored")
    elif free < _LOW_SPACE:
        yield subject.warning("disk", detail, "free some space")
    else:
        yield subject.ok("disk", detail)


async def check_keyring(context: RunContext) -> Check:
    """Write a random text to the keyring, read it, and delete it."""
    subject, probe = Subject("machine"), secrets.token_hex(8)
    name = f"{_PROBE}-{secrets.token_hex(8)}"  # no secret of the user

    def work(keyring: Any) -> bool:
        keyring.set_password(KEYRING_SERVICE, name, probe)
        try:
            return bool(keyring.get_password(KEYRING_SERVICE, name) == probe)
        finally:
            keyring.delete_password(KEYRING_SERVICE, name)

    try:
        if await use_keyring(work):
            return subject.ok("keyring", "can be written and read")
        return subject.wrong("keyring", "what was written cannot be read back", "unlock it, then try again")
    except ConfigError as error:
        if _needs_keyring(context.config):
            return subject.wrong("keyring", error.message, error.hint, error.exit_code)
        return subject.warning("keyring", f"{error.message}; sign-ins and secrets need it", error.hint)


def _needs_keyring(config: Config) -> bool:
    return any(find_keyring_references(to_plain(config)))


async def check_threads(context: RunContext) -> Check:
    """Open the database of the stored threads and count them."""
    subject, warnings = Subject("machine"), list[str]()
    try:
        if context.config.threads.url is None and not (path := resume.local_database_path(context)).exists():
            return subject.ok("threads", f"none yet; they will be in {path}")
        store = await resume.open_store(context, warnings.append)
        try:
            count = len(await asyncio.to_thread(store.ids))
        finally:
            await asyncio.to_thread(store.close)
    except McpChatError as error:
        return subject.error("threads", error)
    if warnings:
        return subject.warning("threads", "; ".join(warnings))
    return subject.ok("threads", f"{count:,} stored")


def check_network(environ: Mapping[str, str] = os.environ) -> Iterator[Check]:
    """The proxies and certificates that the environment names."""
    subject = Subject("machine")
    try:
        check_network_variables(dict(environ))
    except ConfigError as error:
        yield subject.error("network", error)
        return
    proxies = [f"{kind}: {redact_url(url)}" for kind, url in sorted(getproxies_environment().items()) if kind != "no"]
    yield subject.ok("proxy", ", ".join(proxies) or "none")
    own = [f"{name}={environ[name]}" for name in ("SSL_CERT_FILE", "SSL_CERT_DIR") if environ.get(name)]
    paths = ssl.get_default_verify_paths()
    usual = [path for path in (paths.cafile, paths.capath) if path]
    if own or usual or sys.platform in ("darwin", "win32"):
        yield subject.ok("certificates", ", ".join(own) or (usual[0] if usual else "those of the system"))
    else:
        fix = "install the package ca-certificates, or set SSL_CERT_FILE"
        yield subject.warning("certificates", "the system has none", fix)


def check_clock(server_time: float | None, now: float | None = None) -> Iterator[Check]:
    """Compare this machine's clock with the time of a server, in seconds since 1970; None if there is none."""
    subject = Subject("machine")
    if server_time is None:
        return
    difference = (time.time() if now is None else now) - server_time
    if abs(difference) <= MAX_CLOCK_ERROR:
        yield subject.ok("clock", "right within a minute")
        return
    direction = "ahead" if difference > 0 else "behind"
    yield subject.warning(
        "clock",
        f"{abs(difference) / 60:,.0f} minutes {direction}: sign-ins and certificates fail",
        "set it by network time",
    )


def check_terminal(environ: Mapping[str, str] = os.environ) -> Iterator[Check]:
    """What the terminal can show."""
    subject = Subject("machine")
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        yield subject.ok("terminal", "none: mcpchat does not ask, and writes no colours")
        return
    columns, lines = shutil.get_terminal_size()
    encoding = (sys.stderr.encoding or "").lower()
    term = environ.get("TERM", "")
    if "utf" not in encoding:
        yield subject.warning("terminal", f"its encoding is {encoding or 'not known'}", "export LANG=C.UTF-8")
    elif term in ("", "dumb", "unknown"):
        yield subject.warning(
            "terminal", "it cannot move the cursor: the chat is line by line", "export TERM=xterm-256color"
        )
    elif columns < _MIN_COLUMNS:
        yield subject.warning("terminal", f"{columns} columns are few", "make the window wider")
    else:
        colours = "no colours (NO_COLOR)" if environ.get("NO_COLOR") else environ.get("COLORTERM") or "colours"
        yield subject.ok("terminal", f"{term}, {columns}×{lines}, {colours}, {encoding}")
