"""Runs a server inside bubblewrap: a private /tmp, no home directory, no network, except what the config allows."""

import os
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from mcpchat.config.schema import SandboxConfig
from mcpchat.errors import ServerError
from mcpchat.mcp.mounts import find_places, read_mounts

# Always hidden: home directories, sockets (the session bus, the SSH agent) and shared scratch directories.
_SCRATCH = "/tmp"  # noqa: S108 - the sandbox mounts its own there
_HIDDEN_DIRECTORIES = (_SCRATCH, "/var/tmp", "/run", "/home", "/root", "/mnt", "/media", "/srv")  # noqa: S108 - listed to be hidden
_KERNEL_INTERFACES = ("/proc/sys", "/proc/sysrq-trigger", "/proc/irq", "/proc/bus", "/proc/fs")  # made read-only
_NOBODY = "65534"
_MAX_PATH_LENGTH = 4096  # characters
_RESOLVER_PATHS = (
    "/run/systemd/resolve",
    "/run/NetworkManager/resolv.conf",
    "/run/resolvconf",
)  # for DNS


def bubblewrap_command(
    argv: Sequence[str],
    sandbox: SandboxConfig,
    *,
    env: Mapping[str, str],
    cwd: str | None,
    program_directories: Sequence[Path] = (),
    protected: Sequence[Path] = (),
    hidden_directories: Sequence[Path] = (),
) -> list[str]:
    """The command that runs ``argv`` in the sandbox.

    ``program_directories`` contain the program itself and are readable. ``protected`` are directories and files that
    are hidden like home directories, also below a directory of the sandbox table, unless the table names them;
    ``hidden_directories`` are hidden unless a directory of the table contains them.
    Raises ServerError if bubblewrap, the program or a mount is missing, or the sandbox would hide the program.
    """
    bwrap = _find_bubblewrap()
    home = Path(env.get("HOME") or Path.home())
    hidden = _hidden_paths([home, *hidden_directories, *(path for path in protected if path.is_dir())])
    writable = _resolve_mounts(sandbox.write, home)
    read_only = {target: path for target, path in _resolve_mounts(sandbox.read, home).items() if target not in writable}
    read_only |= {directory: directory for directory in program_directories}
    command = [bwrap, "--unshare-all", "--die-with-parent", "--new-session", "--cap-drop", "ALL"]
    command += _unprivileged_user()
    command += ["--ro-bind", "/", "/", "--dev", "/dev", "--proc", "/proc"]
    for interface in _KERNEL_INTERFACES:
        command += ["--ro-bind-try", interface, interface]
    for target in hidden:
        command += ["--tmpfs", str(target)]
    if home.is_dir():
        command += ["--dir", str(home.resolve())]
    if sandbox.network:
        command.append("--share-net")
        for resolver_path in (*_RESOLVER_PATHS, str(Path("/etc/resolv.conf").resolve())):
            command += ["--ro-bind-try", resolver_path, resolver_path]
    # Mount outer directories first: a writable one may lie inside a readable one.
    mounts = [(target, path, "--ro-bind") for target, path in read_only.items()]
    mounts += [(target, path, "--bind") for target, path in writable.items()]
    for target, path, option in sorted(mounts):
        command += [option, str(path), str(target)]
    visible = [*read_only, *read_only.values(), *writable, *writable.values()]
    command += _cover(protected, {**read_only, **writable}, hidden, visible)
    program = shutil.which(argv[0], path=env.get("PATH")) if os.sep not in argv[0] else argv[0]
    if program is None:
        raise ServerError(f"no program named {argv[0]!r} on PATH", hint="check its command")
    _require_visible(program, argv[1:], Path(cwd or "."), lambda path: _is_hidden(path, hidden, visible))
    directory = Path(cwd or ".").absolute()
    if _is_hidden(directory, hidden, visible):
        if cwd is not None:
            raise ServerError(
                f"the sandbox hides its directory, {directory}",
                hint="add it to read or write in the server's sandbox table",
            )
        directory = Path("/")
    return [*command, "--setenv", "TMPDIR", _SCRATCH, "--chdir", str(directory), "--", program, *argv[1:]]


def _unprivileged_user() -> list[str]:
    """Options that make the server a user without privileges, if mcpchat runs as root and the kernel can."""
    if os.geteuid() != 0:
        return []
    try:
        namespaces = int(Path("/proc/sys/user/max_user_namespaces").read_text())
    except (OSError, ValueError):
        return []
    return ["--unshare-user", "--uid", _NOBODY, "--gid", _NOBODY] if namespaces else []


def _cover(
    protected: Sequence[Path], mounts: Mapping[Path, Path], hidden: Sequence[Path], visible: Sequence[Path]
) -> list[str]:
    """Options that hide protected paths at every place where they would be seen.

    ``mounts`` are the granted directories, target to source. A grant of a protected path itself shows it on purpose.
    """
    options: list[str] = []
    granted = set(mounts.values())
    mounted = read_mounts()
    seen = {
        place for path in protected if path.resolve() not in granted for place in find_places(path.resolve(), mounted)
    }
    for path in sorted(seen - granted):
        if not path.exists():
            continue
        places = [target / path.relative_to(source) for target, source in mounts.items() if path.is_relative_to(source)]
        if not places and not _is_hidden(path, hidden, visible):
            places = [path]
        for place in places:
            options += ["--tmpfs", str(place)] if path.is_dir() else ["--ro-bind", "/dev/null", str(place)]
    return options


def _hidden_paths(homes: Sequence[Path]) -> list[Path]:
    """The directories that the sandbox hides, without those inside another."""
    hidden = [Path(path) for path in _HIDDEN_DIRECTORIES if Path(path).is_dir() and not Path(path).is_symlink()]
    for home in (*homes, Path.home(), *_passwd_home()):
        path = home.resolve()
        if path.is_dir() and path != Path("/") and not any(path.is_relative_to(parent) for parent in hidden):
            hidden.append(path)
    return hidden


def _passwd_home() -> list[Path]:
    import pwd

    try:
        return [Path(pwd.getpwuid(os.geteuid()).pw_dir)]
    except KeyError:
        return []


def _require_visible(program: str, arguments: Sequence[str], cwd: Path, is_hidden: Callable[[Path], bool]) -> None:
    """Raise ServerError if the sandbox hides the program, or a file that its arguments name."""
    for path in (
        Path(cwd, program).absolute(),
        Path(cwd, program).resolve(),
        *_shebang_interpreter(Path(cwd, program)),
    ):
        if is_hidden(path):
            raise ServerError(
                f"the sandbox hides its program, {path}",
                hint="add its directory to read in the server's sandbox table",
            )
    for argument in arguments:
        argument_path = Path(cwd, argument).absolute() if argument and len(argument) < _MAX_PATH_LENGTH else None
        if argument_path is not None and _exists(argument_path) and is_hidden(argument_path):
            raise ServerError(
                f"the sandbox hides {argument_path}, which its arguments name",
                hint="add it, or its directory, to read or write in the server's sandbox table",
            )


def _shebang_interpreter(program: Path) -> list[Path]:
    """The interpreter that the first line of a script names."""
    try:
        with program.open("rb") as file:
            first_line = file.readline(_MAX_PATH_LENGTH)
    except OSError:
        return []
    parts = first_line[2:].split()
    return [Path(os.fsdecode(parts[0]))] if first_line.startswith(b"#!") and parts else []


def _find_bubblewrap() -> str:
    if not sys.platform.startswith("linux"):
        raise ServerError("a sandbox needs Linux", hint="remove sandbox from the server's table")
    program = shutil.which("bwrap")
    if program is None:
        raise ServerError(
            "its sandbox needs bubblewrap, and no bwrap is on PATH",
            hint="install it (apt install bubblewrap), or remove sandbox from the server's table",
        )
    return program


def _resolve_mounts(names: Sequence[str], home: Path) -> dict[Path, Path]:
    """The mounts for these directories, target to source: each at its configured path and at its resolved path."""
    mounts: dict[Path, Path] = {}
    for name in names:
        target = (home / name[1:].lstrip("/") if name.startswith("~") else Path(name)).absolute()
        source = target.resolve()
        if not source.exists():
            raise ServerError(f"a directory of its sandbox does not exist: {name}", hint="check the sandbox table")
        if source == Path("/"):
            raise ServerError("a directory of its sandbox is /, the whole file system", hint="use a smaller directory")
        mounts |= {target: source, source: source}
    return mounts


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):
        return False  # not a valid path


def _is_hidden(path: Path, hidden: Sequence[Path], visible: Sequence[Path]) -> bool:
    return any(path.is_relative_to(directory) for directory in hidden) and not any(
        path.is_relative_to(directory) for directory in visible
    )


def interpreter_folders() -> list[Path]:
    """The directories of this Python and its packages, which a bundled server runs on."""
    folders = {Path(sys.prefix), Path(sys.base_prefix), Path(sys.executable).resolve().parent.parent}
    folders |= {Path(entry) for entry in sys.path if entry and Path(entry).is_dir()}
    return [folder.resolve() for folder in folders]
