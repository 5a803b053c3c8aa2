"""How one server is reached: its process or address, its environment or headers, and the login it is given."""

import asyncio
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from msgspec.structs import replace

from mcpchat.config.builtin_servers import BUNDLED
from mcpchat.config.schema import SandboxConfig, ServerConfig
from mcpchat.config.secret_refs import header_value, look_up_all
from mcpchat.config.validation import REFERENCE, SECRET_NAME
from mcpchat.core.catalog import ServerInfo
from mcpchat.core.protocols import Host
from mcpchat.errors import ServerError, SignInNeeded
from mcpchat.mcp.catalog_cache import Era
from mcpchat.mcp.process import ServerProcess, child_environment
from mcpchat.mcp.protocols import MODERN, Change, Connection, Connector, Credentials, Dial, HandshakeFailed
from mcpchat.mcp.reaper import Orphans
from mcpchat.mcp.sandbox import confined, interpreter_folders
from mcpchat.util.redaction import Secrets

_NO_SECRET = re.compile(r"https?://[^@\s]*|[\d.]+|true|false", re.IGNORECASE)


def _is_secret(name: str, value: str, written: str) -> bool:
    """Whether a variable holds what must not be shown: by its name, or because it came by a reference.

    A path, an address or a number is none: blotted out, it would be missing where it is meant.
    """
    if SECRET_NAME.search(name):
        return True
    referred = REFERENCE.fullmatch(written.removeprefix("Bearer ")) is not None
    return referred and not _NO_SECRET.fullmatch(value) and not (len(value) < 4096 and Path(value).exists())


@dataclass(frozen=True, kw_only=True)
class Line:
    """What is needed to reach one server, beyond what its last connection told."""

    name: str
    config: ServerConfig
    timeout: float
    log: Callable[[str], None]
    on_change: Callable[[Change, str], None]


@dataclass(kw_only=True)
class Dialler:
    """Starts processes and opens connections. ``load_sdk`` imports what speaks the protocol."""

    environ: Mapping[str, str]
    host: Host
    load_sdk: Callable[[], Connector]
    most_bytes: int
    credentials: Credentials
    secrets: Secrets
    own_folders: Sequence[Path] = ()  # of mcpchat itself, which no sandbox shows
    orphans: Orphans = field(default_factory=Orphans)

    async def connect(
        self, line: Line, *, era: Era, info: ServerInfo | None, process: ServerProcess | None
    ) -> Connection:
        """A connection. ``era`` is what to greet the server with; ``process`` runs already.

        Raises ServerError or SignInNeeded.
        """
        try:
            return await self._greet(line, era=era, info=info, process=process)
        except SignInNeeded:
            if (trouble := self.credentials.trouble(line.name)) is not None:
                raise trouble from None
            raise

    async def _greet(
        self, line: Line, *, era: Era, info: ServerInfo | None, process: ServerProcess | None
    ) -> Connection:
        sdk = await asyncio.to_thread(self.load_sdk)
        wanted = line.config.protocol
        try:
            connection = await self._dial(sdk, line, era, info, process)
        except HandshakeFailed as error:
            # Strict servers of the handshake era leave on the first message that is no "initialize"; and what was
            # remembered of a server may no longer hold.
            if wanted != "auto" or (era == "auto" and not error.left):
                raise
            connection = await self._dial(sdk, line, "legacy" if era == "auto" else "auto", info, None)
        if wanted == MODERN and connection.era != "modern":
            await connection.close()
            raise ServerError(f"it does not speak {wanted}, only the older {connection.info.revision}")
        return connection

    async def _dial(
        self, sdk: Connector, line: Line, era: Era, info: ServerInfo | None, process: ServerProcess | None
    ) -> Connection:
        config = line.config
        headers: dict[str, str] = {}
        signer = None
        if config.url:
            where = f"servers.{line.name}.headers"
            headers = {
                name: await header_value(text, self.environ, where=f"{where}.{name}", keep=self.secrets.add)
                for name, text in config.headers.items()
            }
            signer = self.credentials.signer(line.name)
        else:
            process = process or await self.spawn(line)
        dial = Dial(
            name=line.name,
            era=era,
            revision="" if config.protocol == "auto" else config.protocol,
            timeout=line.timeout,
            most_bytes=self.most_bytes,
            host=self.host,
            log=line.log,
            on_change=line.on_change,
            process=process,
            url=config.url,
            sse=config.reached_by == "sse",
            headers=headers,
            signer=signer,
            sign_in_hint=lambda: self.credentials.hint(line.name),
            elicitation=config.elicitation,
            sampling=config.sampling,
            roots=config.roots,
            info=info if era == "modern" else None,
        )
        return await sdk.connect(dial)

    async def spawn(self, line: Line) -> ServerProcess:
        """Start the server's program, with its login in its environment. Raises as ``connect`` does."""
        config = line.config
        own = await look_up_all(config.env, self.environ, where=f"servers.{line.name}.env")
        self.secrets.add(*(value for name, value in own.items() if _is_secret(name, value, config.env.get(name, ""))))
        if config.builtin:
            own["PYDANTIC_DISABLE_PLUGINS"] = "1"  # a search through all installed packages, for nothing
        own |= await self.credentials.variables(line.name)
        env = child_environment(self.environ, passed=config.env_pass, own=own)
        argv = bundled_command(config) if config.builtin else [config.command or "", *config.args]
        if config.sandbox:
            wanted = config.sandbox if isinstance(config.sandbox, SandboxConfig) else SandboxConfig()
            if config.builtin:
                online = wanted.network or bool(BUNDLED[config.builtin].provider)
                wanted = replace(wanted, network=online, write=(*wanted.write, *config.folders))
            own_folders = interpreter_folders() if config.builtin else []
            argv = confined(argv, wanted, env=env, cwd=config.cwd, own=own_folders, secret=self.own_folders)
        return await ServerProcess.spawn(
            argv, env=env, cwd=config.cwd, tell=line.log, redact=self.secrets.redact_log, orphans=self.orphans
        )


def bundled_command(config: ServerConfig) -> list[str]:
    """How a bundled server is started. -P: a folder's own files never stand in for the package."""
    options = ["--read-only"] if config.read_only else []
    for folder in config.folders:
        options += ["--folder", folder]
    return [sys.executable, "-P", "-m", f"mcpchat_servers.{config.builtin}", *options]
