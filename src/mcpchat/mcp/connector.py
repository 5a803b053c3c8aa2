"""Connects to a server: starts its process or prepares its HTTP headers, adds credentials, negotiates the protocol."""

import asyncio
import dataclasses
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from msgspec.structs import replace

from mcpchat.config.builtin_servers import BUILTIN_SERVERS
from mcpchat.config.known_secrets import is_harmless
from mcpchat.config.schema import SandboxConfig, ServerConfig
from mcpchat.config.secret_refs import check_encrypted, resolve_headers, resolve_secrets, resolve_url
from mcpchat.config.validation import REFERENCE, SECRET_NAME, has_literal_secret
from mcpchat.core.catalog import ServerInfo
from mcpchat.core.protocols import ServerRequests
from mcpchat.errors import ServerError, SignInNeeded
from mcpchat.mcp import kept_servers
from mcpchat.mcp.catalog_cache import ProtocolMode, program_files
from mcpchat.mcp.kept_sessions import SessionFile
from mcpchat.mcp.limits import MAX_CONTAINERS
from mcpchat.mcp.process import (
    RunningServer,
    ServerProcess,
    build_environment,
    find_program,
    find_withheld_proxies,
)
from mcpchat.mcp.protocols import (
    STATELESS_REVISION,
    Connection,
    HandshakeFailed,
    ServerAuth,
    ServerSpec,
)
from mcpchat.mcp.reaper import ProcessReaper
from mcpchat.mcp.sandbox import bubblewrap_command, interpreter_folders
from mcpchat.util.network_settings import check_network_variables
from mcpchat.util.redaction import SecretRegistry

if TYPE_CHECKING:
    from mcpchat.mcp.transports.base import Transport
    from mcpchat.mcp.transports.http import HttpTransport

_OLDER_TIMEOUT = 5.0  # seconds for the attempt over the older transport
_OLD_SSE_STATUSES = frozenset({400, 404, 405})  # with which servers of the older transport refuse a POST


def _is_secret(name: str, value: str, config_value: str) -> bool:
    """Whether a variable's value must be redacted: by its name, or because the config has a reference for it.

    Paths, URLs and numbers are not secret: redacting them would remove them from ordinary output.
    """
    if SECRET_NAME.search(name):
        return True
    return REFERENCE.fullmatch(config_value.removeprefix("Bearer ")) is not None and not is_harmless(value)


class SdkModule(Protocol):
    """The module ``mcp.connection``. It imports the MCP SDK, which takes a second, so it is loaded when needed."""

    async def connect(
        self, spec: ServerSpec, transport: "Transport", *, mode: ProtocolMode, info: ServerInfo | None
    ) -> Connection: ...


@dataclass(kw_only=True)
class ServerConnector:
    """Starts server processes and opens connections.

    ``load_sdk`` imports the module with the MCP SDK. ``protected_paths`` are mcpchat's own folders and files, hidden
    from every sandbox; ``hidden_directories`` are hidden unless they are granted. ``max_message_bytes`` limits one
    message from a server. ``check_program`` raises ServerError before a start if the program may not run.
    ``keeper_folder`` has the sockets of kept servers, ``session_folder`` the files of kept sessions.
    """

    environ: Mapping[str, str]
    request_handler: ServerRequests
    load_sdk: Callable[[], SdkModule]
    max_message_bytes: int
    secrets: SecretRegistry
    protected_paths: Sequence[Path] = ()
    hidden_directories: Sequence[Path] = ()
    check_program: Callable[[ServerConfig], None] = lambda config: None
    keeper_folder: Path = Path("kept")
    session_folder: Path = Path("sessions")
    reaper: ProcessReaper = field(default_factory=ProcessReaper)
    withheld_proxies: dict[str, list[str]] = field(default_factory=dict)  # variables, by server

    async def connect(
        self,
        spec: ServerSpec,
        auth: ServerAuth,
        *,
        mode: ProtocolMode,
        info: ServerInfo | None,
        process: RunningServer | None,
        key: str,
    ) -> Connection:
        """Open a connection. ``mode`` is the protocol to start with; ``process`` is the server's, if it runs already.

        ``info`` is what the server last reported about itself. ``key`` stands for its settings and login. Raises
        ServerError, SignInNeeded, and ConfigError or StoreError for the server's secrets.
        """
        try:
            session_file = self._session_file(spec, key, spec.config.keep_seconds)
            if session_file is not None and session_file.load() is not None:
                mode = "legacy"  # the protocol that has sessions
            return await self._negotiate(spec, auth, session_file, mode=mode, info=info, process=process)
        except SignInNeeded:
            if auth.error is not None:
                raise auth.error from None
            raise
        except ServerError as error:
            if not error.hint and (names := self.withheld_proxies.get(spec.name)):
                quoted = ", ".join(f'"{name}"' for name in names)
                error.hint = (
                    f"if it needs the network: env_pass = [{quoted}] in its table passes your proxy, "
                    "whose address has a user or a password"
                )
            raise

    async def _negotiate(
        self,
        spec: ServerSpec,
        auth: ServerAuth,
        kept: SessionFile | None,
        *,
        mode: ProtocolMode,
        info: ServerInfo | None,
        process: RunningServer | None,
    ) -> Connection:
        sdk = await asyncio.to_thread(self.load_sdk)
        protocol = spec.config.protocol
        try:
            connection = await self._connect_once(sdk, spec, auth, mode, info, process, kept)
        except HandshakeFailed as error:
            # Strict servers of the handshake revisions exit if the first message is not "initialize". Also, the
            # remembered protocol may no longer hold.
            if protocol == "auto" and (mode != "auto" or error.exited):
                other_mode: ProtocolMode = "legacy" if mode == "auto" else "auto"
                try:
                    connection = await self._connect_once(sdk, spec, auth, other_mode, info, None, kept)
                except HandshakeFailed as second_error:
                    connection = await self._connect_older(sdk, spec, auth, second_error)
            else:
                connection = await self._connect_older(sdk, spec, auth, error)
        if protocol == STATELESS_REVISION and connection.mode != "modern":
            await connection.close()
            raise ServerError(f"it does not support {protocol}, only the older {connection.info.revision}")
        return connection

    async def _connect_older(
        self, sdk: SdkModule, spec: ServerSpec, auth: ServerAuth, error: HandshakeFailed
    ) -> Connection:
        """Connect over the older HTTP transport, if the ``error`` may be that the server has only that.

        This is the protocol's backward compatibility. Raises the ``error`` otherwise.
        """
        config = spec.config
        if (
            error.status not in _OLD_SSE_STATUSES
            or config.effective_transport != "http"
            or config.protocol == STATELESS_REVISION
        ):
            raise error
        older = dataclasses.replace(
            spec, config=replace(config, transport="sse"), timeout=min(spec.timeout, _OLDER_TIMEOUT)
        )
        try:
            return await self._connect_once(sdk, older, auth, "legacy", None, None)
        except (ServerError, SignInNeeded):
            raise error from None

    async def _connect_once(
        self,
        sdk: SdkModule,
        spec: ServerSpec,
        auth: ServerAuth,
        mode: ProtocolMode,
        info: ServerInfo | None,
        process: RunningServer | None,
        kept: SessionFile | None = None,
    ) -> Connection:
        transport = await self._build_transport(spec, auth, process, kept)
        try:
            return await sdk.connect(spec, transport, mode=mode, info=info if mode == "modern" else None)
        except BaseException:
            if isinstance(transport.process, kept_servers.KeptProcess):
                await transport.process.discard()
            raise

    async def end_session(self, spec: ServerSpec, auth: ServerAuth, key: str) -> None:
        """End the kept session with a remote server. Raises ConfigError or StoreError for the server's secrets."""
        if (session_file := self._session_file(spec, key, math.inf)) is not None:
            await (await self._build_http_transport(spec, auth, session_file)).end_session()

    def _session_file(self, spec: ServerSpec, key: str, idle: float | None) -> SessionFile | None:
        """Where the session with a remote server is kept; None if it ends with the connection."""
        if idle is None or spec.config.effective_transport != "http":
            return None
        return SessionFile(folder=self.session_folder, name=spec.name, key=key, idle=idle)

    async def _build_transport(
        self, spec: ServerSpec, auth: ServerAuth, process: RunningServer | None, kept: SessionFile | None
    ) -> "Transport":
        """The transport that the server's config asks for; the only place that chooses one."""
        config = spec.config
        match config.effective_transport:
            case "stdio":
                from mcpchat.mcp.transports.stdio import StdioTransport

                return StdioTransport(process or await self.spawn(spec, auth), max_bytes=self.max_message_bytes)
            case "http" | "sse":
                return await self._build_http_transport(spec, auth, kept)

    async def _build_http_transport(
        self, spec: ServerSpec, auth: ServerAuth, kept: SessionFile | None
    ) -> "HttpTransport":
        from mcpchat.mcp.transports.http import HttpTransport

        config = spec.config
        check_network_variables()
        assert config.url is not None
        url = config.url
        if config.is_own:  # an address of anybody else must not refer to the user's secrets
            url = await resolve_url(
                url,
                self.environ,
                allow_http=config.allow_http,
                config_key=f"servers.{spec.name}.url",
                on_secret=self.secrets.add,
            )
        elif has_literal_secret(url):
            check_encrypted(url, allow_http=config.allow_http, config_key=f"servers.{spec.name}.url")
        return HttpTransport(
            url,
            await resolve_headers(
                config.headers,
                self.environ,
                url=config.url,
                allow_http=config.allow_http,
                config_key=f"servers.{spec.name}.headers",
                on_secret=self.secrets.add,
            ),
            sse=config.effective_transport == "sse",
            timeout=spec.timeout,
            max_bytes=self.max_message_bytes,
            http_auth=auth.http_auth,
            kept=kept,
        )

    async def spawn(self, spec: ServerSpec, auth: ServerAuth) -> RunningServer:
        """Start the server's process with its token in the environment.

        Raises ServerError if it cannot be started, ConfigError or StoreError for its secrets.
        """
        config = spec.config
        self.check_program(config)
        variables = await resolve_secrets(config.env, self.environ, config_key=f"servers.{spec.name}.env")
        self.secrets.add(
            *(value for name, value in variables.items() if _is_secret(name, value, config.env.get(name, "")))
        )
        if config.builtin:
            variables["PYDANTIC_DISABLE_PLUGINS"] = "1"  # skips a search through all installed packages
        variables |= auth.environment
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
                protected=self.protected_paths,
                hidden_directories=self.hidden_directories,
            )
        self.withheld_proxies[spec.name] = find_withheld_proxies(self.environ, env)
        if (idle := config.keep_seconds) is not None and kept_servers.IS_SUPPORTED:
            order = kept_servers.KeepOrder(
                name=spec.name,
                program=find_program(argv, env, config.cwd),
                argv=argv,
                env=env,
                cwd=config.cwd,
                idle=idle,
                max_bytes=self.max_message_bytes,
                max_containers=MAX_CONTAINERS,
                files=program_files(config, env),
            )
            return await kept_servers.open_kept(
                order, self.keeper_folder, on_log=spec.on_log, redact=self.secrets.redact_log
            )
        return await ServerProcess.spawn(
            argv, env=env, cwd=config.cwd, on_log=spec.on_log, redact=self.secrets.redact_log, reaper=self.reaper
        )


def builtin_command(config: ServerConfig) -> list[str]:
    """The command line of a bundled server. -P keeps files in the working directory from shadowing the package."""
    options = ["--read-only"] if config.read_only else []
    for folder in config.folders:
        options += ["--folder", folder]
    return [sys.executable, "-P", "-m", f"mcpchat_servers.{config.builtin}", *options]
