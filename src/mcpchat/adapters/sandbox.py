"""A server's program inside bubblewrap: a private /tmp, no home folder, no network, but for what it is given."""

import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from mcpchat.core.config import SandboxConfig
from mcpchat.core.errors import ServerError

# Hidden in any case: homes, the system's sockets (the session bus, the SSH agent), and scratch folders that all share.
_SCRATCH = "/tmp"  # noqa: S108 - the sandbox has one of its own there
_HIDDEN = (_SCRATCH, "/var/tmp", "/run", "/home", "/root", "/mnt", "/media", "/srv")  # noqa: S108 - named to be hidden
_NEEDED = ("/run/systemd/resolve", "/run/NetworkManager/resolv.conf", "/run/resolvconf")  # where names are looked up


def confined(
    argv: Sequence[str],
    sandbox: SandboxConfig,
    *,
    env: Mapping[str, str],
    cwd: str | None,
    own: Sequence[Path] = (),
) -> list[str]:
    """The command that runs ``argv`` in the sandbox; ``own`` are folders that the program itself lies in.

    Raises ServerError that says what is missing, or what of the program the sandbox would hide.
    """
    bwrap = _bubblewrap()
    home = Path(env.get("HOME") or Path.home()).resolve()
    hidden = [Path(place) for place in _HIDDEN if Path(place).is_dir() and not Path(place).is_symlink()]
    if not any(home.is_relative_to(place) for place in hidden) and home != Path("/"):
        hidden.append(home)
    read = [*own, *_folders(sandbox.read, home)]
    write = _folders(sandbox.write, home)
    words = [bwrap, "--unshare-all", "--die-with-parent", "--new-session", "--ro-bind", "/", "/"]
    words += ["--dev", "/dev", "--proc", "/proc"]
    for place in hidden:
        words += ["--tmpfs", str(place)]
    words += ["--dir", str(home)]
    if sandbox.network:
        words.append("--share-net")
        for needed in _NEEDED:
            words += ["--ro-bind-try", needed, needed]
    # The wide ones first: a folder to write in may lie in one to read.
    for place, option in sorted([(p, "--ro-bind") for p in read] + [(p, "--bind") for p in write]):
        words += [option, str(place), str(place)]
    shown = [*read, *write]
    program = shutil.which(argv[0], path=env.get("PATH")) if os.sep not in argv[0] else argv[0]
    if program is None:
        raise ServerError(f"no program named {argv[0]!r} on PATH", hint="check command in the config")
    for path in (Path(cwd or ".", program).absolute(), Path(cwd or ".", program).resolve()):
        if _is_hidden(path, hidden, shown):
            raise ServerError(
                f"the sandbox hides its program, {path}",
                hint="name the folder that it lies in under read, in the server's sandbox table",
            )
    folder = Path(cwd or ".").absolute()
    if _is_hidden(folder, hidden, shown):
        if cwd is not None:
            raise ServerError(
                f"the sandbox hides its folder, {folder}", hint="name it under read or write, in the sandbox table"
            )
        folder = Path("/")
    return [*words, "--setenv", "TMPDIR", _SCRATCH, "--chdir", str(folder), "--", program, *argv[1:]]


def _bubblewrap() -> str:
    if not sys.platform.startswith("linux"):
        raise ServerError("a sandbox needs Linux", hint="take sandbox out of the server's table")
    found = shutil.which("bwrap")
    if found is None:
        raise ServerError(
            "its sandbox needs bubblewrap, and no bwrap is on PATH",
            hint="install it (apt install bubblewrap), or take sandbox out of the server's table",
        )
    return found


def _folders(names: Sequence[str], home: Path) -> list[Path]:
    folders = []
    for name in names:
        path = (home / name[1:].lstrip("/") if name.startswith("~") else Path(name)).resolve()
        if not path.exists():
            raise ServerError(f"a folder of its sandbox does not exist: {name}", hint="check the sandbox table")
        if path == Path("/"):
            raise ServerError("a folder of its sandbox is the whole machine", hint="name a smaller one")
        folders.append(path)
    return folders


def _is_hidden(path: Path, hidden: Sequence[Path], shown: Sequence[Path]) -> bool:
    return any(path.is_relative_to(place) for place in hidden) and not any(
        path.is_relative_to(place) for place in shown
    )


def interpreter_folders() -> list[Path]:
    """Where this Python and what it imports lie: a bundled server runs on it."""
    folders = {Path(sys.prefix), Path(sys.base_prefix), Path(sys.executable).resolve().parent.parent}
    folders |= {Path(entry) for entry in sys.path if entry and Path(entry).is_dir()}
    return [folder.resolve() for folder in folders]
