"""What servers list, on disk, so that a known server need not be started to be listed."""

import hashlib
import shutil
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Literal

import msgspec
from msgspec import Struct

from mcpchat.config.schema import ServerConfig
from mcpchat.config.validation import REFERENCE
from mcpchat.core.catalog import Catalog
from mcpchat.errors import StoreError
from mcpchat.util.private_files import read_private, write_private
from mcpchat.version import __version__

FORMAT = 3
DEFAULT_TTL = 24 * 3600.0  # seconds
_LONGEST_TTL = 7 * 24 * 3600.0
Era = Literal["auto", "legacy", "modern"]


class Kept(Struct, frozen=True, kw_only=True):
    """What a server said of itself. ``era`` is what it speaks; ``expires`` is in epoch seconds."""

    format: int = FORMAT
    expires: float
    era: Era
    catalog: Catalog


def identity(config: ServerConfig, environ: Mapping[str, str], *, login: float = 0.0) -> str:
    """A digest of all that may change what the server offers: the program or address, its environment, its login.

    ``login`` is when that was made: what is listed to one user is never shown to another.
    """
    values = [f"{name}={environ.get(name, '')}" for name in config.env_pass]
    settings = (*config.env.values(), *config.headers.values())
    references = [REFERENCE.fullmatch(text.removeprefix("Bearer ")) for text in settings]
    values += [environ.get(found[2], "") for found in references if found and found[1] == "env"]
    said = {
        "mcpchat": __version__,
        "command": [_resolved(config, environ), *config.args],
        "cwd": str(Path(config.cwd or ".").absolute()) if config.command else "",
        "allowed": [config.elicitation, config.sampling, config.roots],
        "files": _files(config, environ),
        "url": [config.url, config.transport, config.protocol],
        "builtin": [config.builtin, config.read_only, config.folders],
        "login": [login, config.auth, config.account, *config.scopes],
        "settings": sorted({**config.env, **config.headers}.items()),
        "values": values,
    }
    return hashlib.sha256(msgspec.json.encode(said)).hexdigest()


def _resolved(config: ServerConfig, environ: Mapping[str, str]) -> str:
    """The program that the command stands for here."""
    path = config.env.get("PATH", environ.get("PATH"))
    return (shutil.which(config.command, path=path) or config.command) if config.command else ""


def _files(config: ServerConfig, environ: Mapping[str, str]) -> list[tuple[str, int]]:
    """The files that the command line names, with their times: a script of one's own changes, and is another one
    in another folder."""
    words = (_resolved(config, environ), *config.args)
    paths = [Path(config.cwd or ".", word).absolute() for word in words if word]
    return [(str(path), path.stat().st_mtime_ns) for path in paths if path.is_file()]


class SchemaCache:
    """One file for each server's identity. What cannot be read counts as absent; what cannot be written is let go."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def load(self, key: str) -> Kept | None:
        """What is kept under the key, unless it is missing, damaged, of another format or expired."""
        try:
            data = read_private(self._folder / f"{key}.json")
            kept = msgspec.json.decode(data, type=Kept) if data is not None else None
        except (StoreError, msgspec.MsgspecError, UnicodeDecodeError):
            return None
        return kept if kept is not None and kept.format == FORMAT and kept.expires > time.time() else None

    def forget(self, key: str) -> None:
        with suppress(OSError):
            (self._folder / f"{key}.json").unlink(missing_ok=True)

    def save(self, key: str, *, era: Era, catalog: Catalog, ttl: float | None = None) -> None:
        """Keep it for ``ttl`` seconds, by default a day."""
        expires = time.time() + (DEFAULT_TTL if ttl is None else min(ttl, _LONGEST_TTL))
        # A full or read-only disk costs speed, not the answer; so does text that no file can hold.
        with suppress(StoreError, ValueError):
            data = msgspec.json.encode(Kept(expires=expires, era=era, catalog=catalog))
            write_private(self._folder / f"{key}.json", data, durable=False)
