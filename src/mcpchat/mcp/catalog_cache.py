"""Cache of server catalogs on disk, so that a known server's tools can be listed without starting it."""

import gc
import hashlib
import json
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Literal

import msgspec
from msgspec import Struct

from mcpchat.config.project_programs import INTERPRETER, SCRIPT_NAME
from mcpchat.config.references import find_references, read_variable
from mcpchat.config.schema import ServerConfig
from mcpchat.core.catalog import Catalog
from mcpchat.errors import StoreError
from mcpchat.mcp.limits import ToolLimits
from mcpchat.util.private_files import read_private, write_private
from mcpchat.version import __version__

FORMAT = 4
DEFAULT_TTL = 24 * 3600.0  # seconds
_MAX_TTL = 7 * 24 * 3600.0
ProtocolMode = Literal["auto", "legacy", "modern"]


class CachedCatalog(Struct, frozen=True, kw_only=True):
    """A cached catalog. ``era`` is the protocol mode that the server speaks; ``expires`` is in epoch seconds.

    Under these ``limits``, no tool has to be changed or left out; None if one has to be, or if that is not known.
    """

    format: int = FORMAT
    expires: float
    era: ProtocolMode
    limits: ToolLimits | None = None
    catalog: Catalog


def cache_key(
    config: ServerConfig,
    environ: Mapping[str, str],
    *,
    login_version: float = 0.0,
    identity: Sequence[str] = (),
    secrets: Mapping[str, str] | None = None,
) -> str:
    """A digest of everything that may change what the server lists: its program or URL, environment and login.

    ``login_version`` is when the user signed in, ``identity`` the settings of the login, and ``secrets`` the
    values behind references to the keyring, so that one user's catalog is never shown to another.
    """
    values = [f"{name}={environ.get(name, '')}" for name in config.env_pass]
    references = find_references((*config.env.values(), *config.headers.values(), config.url or "", *identity))
    values += [read_variable(reference, environ) for reference in references]
    inputs = {
        "mcpchat": __version__,
        "command": [_resolve_program(config, environ), *config.args],
        "cwd": str(Path(config.cwd or ".").absolute()) if config.command else "",
        "allowed": [config.elicitation, config.sampling, config.roots],
        "files": program_files(config, environ),
        "url": [config.url, config.transport, config.protocol],
        "builtin": [config.builtin, config.read_only, config.folders],
        "login": [login_version, config.auth, config.account, *config.scopes, *identity],
        "settings": sorted({**config.env, **config.headers}.items()),
        "values": values,
        "secrets": sorted((secrets or {}).items()),
    }
    try:
        text = msgspec.json.encode(inputs)
    except UnicodeEncodeError:  # bytes of a path or a variable that are no UTF-8
        text = json.dumps(inputs).encode()
    return hashlib.sha256(text).hexdigest()


def _resolve_program(config: ServerConfig, environ: Mapping[str, str]) -> str:
    """The path of the command's program, or the command itself if it is not on PATH; empty without a command."""
    path = config.env.get("PATH", environ.get("PATH"))
    return (shutil.which(config.command, path=path) or config.command) if config.command else ""


def program_files(config: ServerConfig, environ: Mapping[str, str]) -> list[tuple[str, int]]:
    """The program, and the scripts that the command line names, with their modification times: they may change.

    Data does not count: a database or a log changes at every run.
    """
    folder = Path(config.cwd or ".").absolute()
    program = _resolve_program(config, environ)
    scripts = [
        folder / name
        for previous, arg in zip(("", *config.args), config.args, strict=False)
        for name in (_module_files(arg) if previous == "-m" else (arg,))
        if arg and _is_program(folder / name)
    ]
    first = next((arg for arg in config.args if not arg.startswith("-")), "")
    if first and INTERPRETER.fullmatch(Path(program).name):
        scripts.append(folder / first)  # also without a suffix
    paths = dict.fromkeys((folder / program, *scripts) if program else ())
    return [(str(path), path.stat().st_mtime_ns) for path in paths if path.is_file()]


def _module_files(module: str) -> tuple[str, ...]:
    path = module.replace(".", "/")
    return f"{path}.py", f"{path}/__main__.py"


def _is_program(path: Path) -> bool:
    """Whether the file is a script: by its suffix, or because it names its interpreter."""
    try:
        if SCRIPT_NAME.fullmatch(path.name):
            return path.is_file()
        with path.open("rb") as file:
            return file.read(2) == b"#!"
    except (OSError, ValueError):
        return False


@contextmanager
def _collector_paused() -> Iterator[None]:
    """Collect no garbage while thousands of objects are made that stay."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


class CatalogCache:
    """One file for each cache key. An unreadable file counts as missing; write errors are ignored."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def load(self, key: str) -> CachedCatalog | None:
        """The cached catalog; None if it is missing, damaged, of another format or expired."""
        try:
            data = read_private(self._folder / f"{key}.json")
            with _collector_paused():
                cached = msgspec.json.decode(data, type=CachedCatalog) if data is not None else None
        except (StoreError, msgspec.MsgspecError, UnicodeDecodeError):
            return None
        return cached if cached is not None and cached.format == FORMAT and cached.expires > time.time() else None

    def forget(self, key: str) -> None:
        """Delete the cached catalog."""
        with suppress(OSError):
            (self._folder / f"{key}.json").unlink(missing_ok=True)

    def save(
        self,
        key: str,
        *,
        mode: ProtocolMode,
        catalog: Catalog,
        limits: ToolLimits | None = None,
        ttl: float | None = None,
    ) -> None:
        """Save the catalog for ``ttl`` seconds, at most a week; by default for a day.

        ``limits`` are those of CachedCatalog.
        """
        expires = time.time() + (DEFAULT_TTL if ttl is None else min(ttl, _MAX_TTL))
        # Ignore a full or read-only disk, and text that cannot be encoded: the cache only saves time.
        with suppress(StoreError, ValueError):
            data = msgspec.json.encode(CachedCatalog(expires=expires, era=mode, limits=limits, catalog=catalog))
            write_private(self._folder / f"{key}.json", data, durable=False)
