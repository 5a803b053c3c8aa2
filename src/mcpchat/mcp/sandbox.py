"""A server's program inside bubblewrap: a private /tmp, no home folder, no network, but for what it is given."""

import os
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from mcpchat.config.schema import SandboxConfig
from mcpchat.errors import ServerError

# Hidden in any case: homes, the system's sockets (the session bus, the SSH agent), and scratch folders that all share.
_SCRATCH = "/tmp"  # noqa: S108 - the sandbox has one of its own there
_HIDDEN = (_SCRATCH, "/var/tmp", "/run", "/home", "/root", "/mnt", "/media", "/srv")  # noqa: S108 - named to be hidden
_LONGEST = 4096  # characters of a path
_NEEDED = ("/run/systemd/resolve", "/run/NetworkManager/resolv.conf", "/run/resolvconf")  # where names are looked up


def confined(
    argv: Sequence[str],
    sandbox: SandboxConfig,
    *,
    env: Mapping[str, str],
    cwd: str | None,
    own: Sequence[Path] = (),
    secret: Sequence[Path] = (),
) -> list[str]:
    """The command that runs ``argv`` in the sandbox.

    ``own`` are folders that the program itself lies in; ``secret`` are hidden like the homes.

    Raises ServerError that says what is missing, or what of the program the sandbox would hide.
    """
    bwrap = _bubblewrap()
    home = Path(env.get("HOME") or Path.home())
    hidden = _hidden([home, *secret])
    write = _folders(sandbox.write, home)
    read = {place: path for place, path in _folders(sandbox.read, home).items() if place not in write}
    read |= {folder: folder for folder in own}
    words = [bwrap, "--unshare-all", "--die-with-parent", "--new-session", "--cap-drop", "ALL"]
    words += ["--ro-bind", "/", "/", "--dev", "/dev", "--proc", "/proc"]
    for place in hidden:
        words += ["--tmpfs", str(place)]
    if home.is_dir():
        words += ["--dir", str(home.resolve())]
    if sandbox.network:
        words.append("--share-net")
        for needed in (*_NEEDED, str(Path("/etc/resolv.conf").resolve())):
            words += ["--ro-bind-try", needed, needed]
    # The wide ones first: a folder to write in may lie in one to read.
    bound = [(place, path, "--ro-bind") for place, path in read.items()]
    bound += [(place, path, "--bind") for place, path in write.items()]
    for place, path, option in sorted(bound):
        words += [option, str(path), str(place)]
    shown = [*read, *read.values(), *write, *write.values()]
    program = shutil.which(argv[0], path=env.get("PATH")) if os.sep not in argv[0] else argv[0]
    if program is None:
        raise ServerError(f"no program named {argv[0]!r} on PATH", hint="check command in the config")
    _see(program, argv[1:], Path(cwd or "."), lambda path: _is_hidden(path, hidden, shown))
    folder = Path(cwd or ".").absolute()
    if _is_hidden(folder, hidden, shown):
        if cwd is not None:
            raise ServerError(
                f"the sandbox hides its folder, {folder}", hint="name it under read or write, in the sandbox table"
            )
        folder = Path("/")
    return [*words, "--setenv", "TMPDIR", _SCRATCH, "--chdir", str(folder), "--", program, *argv[1:]]


def _hidden(homes: Sequence[Path]) -> list[Path]:
    """What is not there in a sandbox: the widest folders only."""
    found = [Path(place) for place in _HIDDEN if Path(place).is_dir() and not Path(place).is_symlink()]
    for home in (*homes, Path.home(), *_passwd_home()):
        place = home.resolve()
        if place.is_dir() and place != Path("/") and not any(place.is_relative_to(wide) for wide in found):
            found.append(place)
    return found


def _passwd_home() -> list[Path]:
    import pwd

    try:
        return [Path(pwd.getpwuid(os.geteuid()).pw_dir)]
    except KeyError:
        return []


def _see(program: str, arguments: Sequence[str], cwd: Path, is_hidden: Callable[[Path], bool]) -> None:
    """Raise ServerError where the program, or a file that its arguments name, would not be there."""
    for path in (Path(cwd, program).absolute(), Path(cwd, program).resolve(), *_interpreter(Path(cwd, program))):
        if is_hidden(path):
            raise ServerError(
                f"the sandbox hides its program, {path}",
                hint="name the folder that it lies in under read, in the server's sandbox table",
            )
    for word in arguments:
        named = Path(cwd, word).absolute() if word and len(word) < _LONGEST else None
        if named is not None and _exists(named) and is_hidden(named):
            raise ServerError(
                f"the sandbox hides {named}, which its arguments name",
                hint="name it, or its folder, under read or write in the server's sandbox table",
            )


def _interpreter(program: Path) -> list[Path]:
    """What the first line of a script names."""
    try:
        with program.open("rb") as file:
            first = file.readline(_LONGEST)
    except OSError:
        return []
    words = first[2:].split()
    return [Path(os.fsdecode(words[0]))] if first.startswith(b"#!") and words else []


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


def _folders(names: Sequence[str], home: Path) -> dict[Path, Path]:
    """Where each is to be seen, under the name that it was given and its own, and what is there."""
    folders: dict[Path, Path] = {}
    for name in names:
        named = (home / name[1:].lstrip("/") if name.startswith("~") else Path(name)).absolute()
        path = named.resolve()
        if not path.exists():
            raise ServerError(f"a folder of its sandbox does not exist: {name}", hint="check the sandbox table")
        if path == Path("/"):
            raise ServerError("a folder of its sandbox is the whole machine", hint="name a smaller one")
        folders |= {named: path, path: path}
    return folders


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):
        return False  # an argument that can be no path


def _is_hidden(path: Path, hidden: Sequence[Path], shown: Sequence[Path]) -> bool:
    return any(path.is_relative_to(place) for place in hidden) and not any(
        path.is_relative_to(place) for place in shown
    )


def interpreter_folders() -> list[Path]:
    """Where this Python and what it imports lie: a bundled server runs on it."""
    folders = {Path(sys.prefix), Path(sys.base_prefix), Path(sys.executable).resolve().parent.parent}
    folders |= {Path(entry) for entry in sys.path if entry and Path(entry).is_dir()}
    return [folder.resolve() for folder in folders]
