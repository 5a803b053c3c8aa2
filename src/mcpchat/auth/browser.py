"""Opening a page in the user's browser: the address checked, no shell, nothing of it on our streams.

The standard library's webbrowser hands addresses to programs in ways that were exploited, waits for some of them, and
lets them write to stdout, which is the answer's.
"""

import os
import shlex
import shutil
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence

from mcpchat.util.urls import BadAddress, web_address

_OPENERS = (("xdg-open",), ("gio", "open"), ("wslview",), ("sensible-browser",), ("x-www-browser",))


def can_open(environ: Mapping[str, str]) -> bool:
    """Whether there is a browser that this user, wherever they sit, would see."""
    return bool(_commands("https://example.com/", environ)) or sys.platform == "win32"


def open_page(url: str, environ: Mapping[str, str]) -> bool:
    """Start a browser there, and do not wait for it. False where the address is not to be trusted, or none starts."""
    try:
        address = web_address(url).url
    except BadAddress:
        return False
    if sys.platform == "win32" and not environ.get("BROWSER"):
        try:
            os.startfile(address)  # noqa: S606 - a checked address, no program
        except OSError:
            return False
        return True
    return any(_start(command, environ) for command in _commands(address, environ))


def browse(url: str) -> bool:
    """Start the user's browser at an address: whether one was started."""
    return open_page(url, os.environ)


def _commands(url: str, environ: Mapping[str, str]) -> list[Sequence[str]]:
    """What can be tried, best first: what BROWSER names, as other programs read it, else what the system has."""
    if chosen := environ.get("BROWSER"):
        return [command for entry in chosen.split(os.pathsep) if (command := _from_setting(entry, url))]
    if sys.platform == "darwin":
        return [] if environ.get("SSH_CONNECTION") else [("/usr/bin/open", url)]
    if not (environ.get("DISPLAY") or environ.get("WAYLAND_DISPLAY") or environ.get("WSL_DISTRO_NAME")):
        return []
    path = environ.get("PATH")
    return [(found, *rest, url) for program, *rest in _OPENERS if (found := shutil.which(program, path=path))]


def _from_setting(entry: str, url: str) -> list[str]:
    try:
        words = shlex.split(entry.rstrip("& "))
    except ValueError:
        return []
    if not any("%s" in word for word in words):
        words = [*words, "%s"] if words else []
    return [word.replace("%s", url) for word in words]


def _start(command: Sequence[str], environ: Mapping[str, str]) -> bool:
    try:
        process = subprocess.Popen(
            command,
            env=dict(environ),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
    except OSError:
        return False
    threading.Thread(target=process.wait, daemon=True, name="browser").start()  # so that it leaves no zombie
    return True
