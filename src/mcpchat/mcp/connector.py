"""How one server is reached: its process or address, its environment or headers, and the login it is given."""

import asyncio
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from msgspec.structs import replace

from mcpchat.config.builtin_servers import BUILTIN_SERVERS
from mcpchat.config.schema import SandboxConfig, ServerConfig
from mcpchat.config.secret_refs import resolve_header, resolve_secrets
from mcpchat.config.validation import REFERENCE, SECRET_NAME
from mcpchat.core.catalog import ServerInfo
from mcpchat.core.protocols import ServerRequests
from mcpchat.errors import ServerError, SignInNeeded
from mcpchat.mcp.catalog_cache import ProtocolMode
from mcpchat.mcp.process import ServerProcess, build_environment
from mcpchat.mcp.protocols import (
    STATELESS_REVISION,
    ChangeKind,
    Connection,
    ConnectionParams,
    Credentials,
    HandshakeFailed,
    SdkModule,
)
from mcpchat.mcp.reaper import ProcessReaper
from mcpchat.mcp.sandbox import bubblewrap_command, interpreter_folders
from mcpchat.util.redaction import SecretRegistry

_NOT_SECRET = re.compile(r"https?://[^@\s]*|[\d.]+|true|false", re.IGNORECASE)


def _is_secret(name: str, value: str, config_value: str) -> bool:
    """Whether a variable holds what must not be shown: by its name, or because it came by a reference.

    A path, an address or a number is none: blotted out, it would be missing where it is meant.
    """
    if SECRET_NAME.search(name):
        return True
    is_reference = REFERENCE.fullmatch(config_value.removeprefix("Bearer ")) is not None
    return is_reference and not _NOT_SECRET.fullmatch(value) and not (len(value) < 4096 and Path(value).exists())


@dataclass(frozen=True, kw_only=True)
class ServerSpec:
    """What is needed to reach one server, beyond what its last connection told."""

    name: str
    config: ServerConfig
    timeout: float
    on_log: Callable[[str], None]
    on_change: Callable[[ChangeKind, str], None]


@dataclass(kw_only=True)
class ServerConnector:
    """Starts processes and opens connections. ``load_sdk`` imports what speaks the protocol."""

    environ: Mapping[str, str]
    request_handler: ServerRequests
    load_sdk: Callable[[], SdkModule]
    max_message_bytes: int
    credentials: Credentials
    secrets: SecretRegistry
    protected_directories: Sequence[Path] = ()  # of mcpchat itself, which no sandbox shows
    reaper: ProcessReaper = field(default_factory=ProcessReaper)

    async def connect(
        self, spec: ServerSpec, *, mode: ProtocolMode, info: ServerInfo | None, process: ServerProcess | None
    ) -> Connection:
        """A connection. ``era`` is what to greet the server with; ``process`` runs already.

        Raises ServerError or SignInNeeded.
        """
        try:
            return await self._negotiate(spec, mode=mode, info=info, process=process)
        except SignInNeeded:
            if (auth_error := self.credentials.last_error(spec.name)) is not None:
                raise auth_error from None
            raise

    async def _negotiate(
        self, spec: ServerSpec, *, mode: ProtocolMode, info: ServerInfo | None, process: ServerProcess | None
    ) -> Connection:
        sdk = await asyncio.to_thread(self.load_sdk)
        protocol = spec.config.protocol
        try:
            connection = await self._connect_once(sdk, spec, mode, info, process)
        except HandshakeFailed as error:
            # Strict servers of the handshake era leave on the first message that is no "initialize"; and what was
            # remembered of a server may no longer hold.
            if protocol != "auto" or (mode == "auto" and not error.exited):
                raise
            connection = await self._connect_once(sdk, spec, "legacy" if mode == "auto" else "auto", info, None)
        if protocol == STATELESS_REVISION and connection.mode != "modern":
            await connection.close()
            raise ServerError(f"it does not speak {protocol}, only the older {connection.info.revision}")
        return connection

    async def _connect_once(
        self,
        sdk: SdkModule,
        spec: ServerSpec,
        mode: ProtocolMode,
        info: ServerInfo | None,
        process: ServerProcess | None,
    ) -> Connection:
        config = spec.config
        headers: dict[str, str] = {}
        http_auth = None
        if config.url:
            location = f"servers.{spec.name}.headers"
            headers = {
                name: await resolve_header(
                    text, self.environ, config_key=f"{location}.{name}", on_secret=self.secrets.add
                )
                for name, text in config.headers.items()
            }
            http_auth = self.credentials.http_auth(spec.name)
        else:
            process = process or await self.spawn(spec)
        params = ConnectionParams(
            name=spec.name,
            mode=mode,
            revision="" if config.protocol == "auto" else config.protocol,
            timeout=spec.timeout,
            max_message_bytes=self.max_message_bytes,
            request_handler=self.request_handler,
            on_log=spec.on_log,
            on_change=spec.on_change,
            process=process,
            url=config.url,
            sse=config.effective_transport == "sse",
            headers=headers,
            http_auth=http_auth,
            sign_in_hint=lambda: self.credentials.sign_in_hint(spec.name),
            elicitation=config.elicitation,
            sampling=config.sampling,
            roots=config.roots,
            info=info if mode == "modern" else None,
        )
        return await sdk.connect(params)

    async def spawn(self, spec: ServerSpec) -> ServerProcess:
        """Start the server's program, with its login in its environment. Raises as ``connect`` does."""
        config = spec.config
        variables = await resolve_secrets(config.env, self.environ, config_key=f"servers.{spec.name}.env")
        self.secrets.add(
            *(value for name, value in variables.items() if _is_secret(name, value, config.env.get(name, "")))
        )
        if config.builtin:
            variables["PYDANTIC_DISABLE_PLUGINS"] = "1"  # a search through all installed packages, for nothing
        variables |= await self.credentials.token_environment(spec.name)
        env = build_environment(self.environ, passthrough=config.env_pass, overrides=variables)
        argv = builtin_command(config) if config.builtin else [config.command or "", *config.args]
        if config.sandbox:
            sandbox = config.sandbox if isinstance(config.sandbox, SandboxConfig) else SandboxConfig()
            if config.builtin:
                network = sandbox.network or bool(BUILTIN_SERVERS[config.builtin].provider)
                sandbox = replace(sandbox, network=network, write=(*sandbox.write, *config.folders))
            program_directories = interpreter_folders() if config.builtin else []
            argv = bubblewrap_command(
                argv,
                sandbox,
                env=env,
                cwd=config.cwd,
                program_directories=program_directories,
                protected=self.protected_directories,
            )
        return await ServerProcess.spawn(
            argv, env=env, cwd=config.cwd, on_log=spec.on_log, redact=self.secrets.redact_log, reaper=self.reaper
        )


def builtin_command(config: ServerConfig) -> list[str]:
    """How a bundled server is started. -P: a folder's own files never stand in for the package."""
    options = ["--read-only"] if config.read_only else []
    for folder in config.folders:
        options += ["--folder", folder]
    return [sys.executable, "-P", "-m", f"mcpchat_servers.{config.builtin}", *options]
