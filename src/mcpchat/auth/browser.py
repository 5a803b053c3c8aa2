"""Opens a page in the user's browser: with a checked URL, without a shell, and without its output on our streams.

The standard library's webbrowser passes URLs to programs in ways that were exploited, waits for some of the programs,
and lets them write to stdout, which is reserved for the answer.
"""

import os
import shlex
import shutil
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence

from mcpchat.util.urls import InvalidUrl, parse_web_url

_OPENERS = (("xdg-open",), ("gio", "open"), ("wslview",), ("sensible-browser",), ("x-www-browser",))


def can_open(environ: Mapping[str, str]) -> bool:
    """Whether a browser can be started on a display that the user sees, wherever the user is."""
    return bool(_opener_commands("https://example.com/", environ)) or sys.platform == "win32"


def open_page(url: str, environ: Mapping[str, str]) -> bool:
    """Starts a browser and does not wait for it. Returns False if the URL is not allowed or no browser starts."""
    try:
        address = parse_web_url(url).url
    except InvalidUrl:
        return False
    if sys.platform == "win32" and not environ.get("BROWSER"):
        try:
            os.startfile(address)  # noqa: S606 - a checked URL, not a program
        except OSError:
            return False
        return True
    return any(_start(command, environ) for command in _opener_commands(address, environ))


def browse(url: str) -> bool:
    """Starts the user's browser with the URL. Returns whether it was started."""
    return open_page(url, os.environ)


def _opener_commands(url: str, environ: Mapping[str, str]) -> list[Sequence[str]]:
    """The commands to try, best first: from BROWSER, as other programs read it, or else from the system."""
    if browser := environ.get("BROWSER"):
        return [command for setting in browser.split(os.pathsep) if (command := _parse_browser_setting(setting, url))]
    if sys.platform == "darwin":
        return [] if environ.get("SSH_CONNECTION") else [("/usr/bin/open", url)]
    if not (environ.get("DISPLAY") or environ.get("WAYLAND_DISPLAY") or environ.get("WSL_DISTRO_NAME")):
        return []
    path = environ.get("PATH")
    return [(executable, *rest, url) for program, *rest in _OPENERS if (executable := shutil.which(program, path=path))]


def _parse_browser_setting(setting: str, url: str) -> list[str]:
    try:
        args = shlex.split(setting.rstrip("& "))
    except ValueError:
        return []
    if not any("%s" in arg for arg in args):
        args = [*args, "%s"] if args else []
    return [arg.replace("%s", url) for arg in args]


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
    threading.Thread(target=process.wait, daemon=True, name="browser").start()  # avoids a zombie process
    return True
