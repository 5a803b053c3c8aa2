"""Cache of server catalogs on disk, so that a known server's tools can be listed without starting it."""

import hashlib
import shutil
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Literal

import msgspec
from msgspec import Struct

from mcpchat.config.schema import ServerConfig
from mcpchat.config.secret_refs import find_references, read_variable
from mcpchat.core.catalog import Catalog
from mcpchat.errors import StoreError
from mcpchat.util.private_files import read_private, write_private
from mcpchat.version import __version__

FORMAT = 3
DEFAULT_TTL = 24 * 3600.0  # seconds
_MAX_TTL = 7 * 24 * 3600.0
ProtocolMode = Literal["auto", "legacy", "modern"]


class CachedCatalog(Struct, frozen=True, kw_only=True):
    """A cached catalog. ``era`` is the protocol mode that the server speaks; ``expires`` is in epoch seconds."""

    format: int = FORMAT
    expires: float
    era: ProtocolMode
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
    references = find_references((*config.env.values(), *config.headers.values(), *identity))
    values += [read_variable(reference, environ) for reference in references]
    inputs = {
        "mcpchat": __version__,
        "command": [_resolve_program(config, environ), *config.args],
        "cwd": str(Path(config.cwd or ".").absolute()) if config.command else "",
        "allowed": [config.elicitation, config.sampling, config.roots],
        "files": _argument_files(config, environ),
        "url": [config.url, config.transport, config.protocol],
        "builtin": [config.builtin, config.read_only, config.folders],
        "login": [login_version, config.auth, config.account, *config.scopes, *identity],
        "settings": sorted({**config.env, **config.headers}.items()),
        "values": values,
        "secrets": sorted((secrets or {}).items()),
    }
    return hashlib.sha256(msgspec.json.encode(inputs)).hexdigest()


def _resolve_program(config: ServerConfig, environ: Mapping[str, str]) -> str:
    """The path of the command's program, or the command itself if it is not on PATH; empty without a command."""
    path = config.env.get("PATH", environ.get("PATH"))
    return (shutil.which(config.command, path=path) or config.command) if config.command else ""


def _argument_files(config: ServerConfig, environ: Mapping[str, str]) -> list[tuple[str, int]]:
    """The files that the command line names, with their modification times: a script may change, and a relative path
    names another file in another directory."""
    args = (_resolve_program(config, environ), *config.args)
    paths = [Path(config.cwd or ".", arg).absolute() for arg in args if arg]
    return [(str(path), path.stat().st_mtime_ns) for path in paths if path.is_file()]


class CatalogCache:
    """One file for each cache key. An unreadable file counts as missing; write errors are ignored."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def load(self, key: str) -> CachedCatalog | None:
        """The cached catalog; None if it is missing, damaged, of another format or expired."""
        try:
            data = read_private(self._folder / f"{key}.json")
            cached = msgspec.json.decode(data, type=CachedCatalog) if data is not None else None
        except (StoreError, msgspec.MsgspecError, UnicodeDecodeError):
            return None
        return cached if cached is not None and cached.format == FORMAT and cached.expires > time.time() else None

    def forget(self, key: str) -> None:
        """Delete the cached catalog."""
        with suppress(OSError):
            (self._folder / f"{key}.json").unlink(missing_ok=True)

    def save(self, key: str, *, mode: ProtocolMode, catalog: Catalog, ttl: float | None = None) -> None:
        """Save the catalog for ``ttl`` seconds, at most a week; by default for a day."""
        expires = time.time() + (DEFAULT_TTL if ttl is None else min(ttl, _MAX_TTL))
        # Ignore a full or read-only disk, and text that cannot be encoded: the cache only saves time.
        with suppress(StoreError, ValueError):
            data = msgspec.json.encode(CachedCatalog(expires=expires, era=mode, catalog=catalog))
            write_private(self._folder / f"{key}.json", data, durable=False)
