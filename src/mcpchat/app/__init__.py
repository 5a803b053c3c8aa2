"""The composition root: from the config and the environment to a running session; the one place that picks adapters."""

import asyncio
import json
import os
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mcpchat.adapters import schema_check
from mcpchat.adapters.browser import open_page
from mcpchat.adapters.mcp_dial import Dialler
from mcpchat.adapters.mcp_hub import McpHub
from mcpchat.adapters.mcp_link import Connector
from mcpchat.adapters.private_files import open_to_append, open_to_others
from mcpchat.adapters.result_store import ResultFiles
from mcpchat.adapters.schema_cache import SchemaCache
from mcpchat.app.logins import Logins
from mcpchat.app.models import Models
from mcpchat.app.permission import make_gate, pinned
from mcpchat.app.setup import Paths, Setup, Wishes, choose_agent, default_paths, importing
from mcpchat.core import config as configuration
from mcpchat.core.bounded import BoundedToolbox
from mcpchat.core.budgets import Budget
from mcpchat.core.config import AgentConfig, Config
from mcpchat.core.discretion import Discreet
from mcpchat.core.errors import ConfigError, StoreError, UsageError
from mcpchat.core.events import Emit
from mcpchat.core.host import AskingHost
from mcpchat.core.messages import Part, Usage
from mcpchat.core.patterns import matches
from mcpchat.core.ports import Asker, Host, ModelChoice, SignInScreen, Toolbox
from mcpchat.core.session import Session
from mcpchat.core.structured import AnswerSchema
from mcpchat.core.tools import ToolSpec
from mcpchat.core.turn import Limits

__all__ = ["Logins", "McpHub", "Models", "Paths", "Setup", "Wishes", "default_paths"]  # and what is defined here

STEPS, STEPS_IN_CHAT = 25, 50  # rounds of tool calls, unless the config or the run says otherwise


def starter() -> str:
    """The commented config file to start from."""
    from importlib.resources import files

    return files("mcpchat").joinpath("starter.toml").read_text(encoding="utf-8")


def begin_config(path: Path, text: str, schema: str) -> None:
    """Write a first config file and its schema. Raises ConfigError."""
    from mcpchat.adapters import registry

    registry.begin(path, text, schema)


def history_file(setup: Setup) -> Path | None:
    """Where what was typed is kept, ready to be written to; None where it cannot be."""
    path = setup.paths.state / "history"
    try:
        os.close(open_to_append(path))
    except StoreError:
        return None
    return path


def add_server(path: Path, name: str, entry: Mapping[str, object]) -> None:
    """Write one more server into the config file, which is made if need be. Raises UsageError, ConfigError."""
    from mcpchat.adapters import registry

    registry.write(path, registry.add_server(_text_of(path), name, entry))


def remove_server(path: Path, name: str) -> None:
    from mcpchat.adapters import registry

    registry.write(path, registry.remove_server(_text_of(path), name))


def enable_server(path: Path, name: str, enabled: bool) -> None:
    from mcpchat.adapters import registry

    registry.write(path, registry.enable_server(_text_of(path), name, enabled))


def _text_of(path: Path) -> str:
    """The config file's text; of one that is not there yet, the starter's."""
    return _read(path) if path.exists() else starter()


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise ConfigError(f"cannot read {path}: {reason}") from error


def load_config(path: Path, *, must_exist: bool) -> Config:
    """Read the config file; a file that need not exist and does not is an empty one. Raises ConfigError."""
    if not path.exists():
        if must_exist:
            raise ConfigError(f"no such config file: {path}", hint="mcpchat config init writes one")
        return Config()
    try:
        others, hint = open_to_others(path)
    except OSError:
        others, hint = "", ""  # reading it will say what is wrong
    if others:
        raise ConfigError(f"{path} is not read: {others}, and what stands in it is run", hint=hint)
    return configuration.parse(_read(path), str(path))


def load_sdk() -> Connector:
    """The adapter that imports the mcp SDK."""
    with importing():
        from mcpchat.adapters import mcp_server

    return mcp_server


@asynccontextmanager
async def open_hub(
    setup: Setup,
    emit: Emit,
    host: Host,
    *,
    logins: Logins,
    agent: AgentConfig | None = None,
    refresh: bool = False,
    watch: bool = False,
) -> AsyncIterator[McpHub]:
    """The configured servers, of which an agent may choose some; those that nothing is known of are starting.

    ``watch`` has them tell of their changes.
    """
    agent = agent or AgentConfig()
    servers = setup.config.servers
    if agent.servers is not None:
        servers = {name: server for name, server in servers.items() if name in agent.servers}
    globs = agent.tools

    def visible(spec: ToolSpec) -> bool:
        return any(matches(glob, spec.label) for glob in globs)

    dialler = Dialler(
        environ=setup.environ,
        host=host,
        load_sdk=load_sdk,
        most_bytes=setup.config.limits.max_message,
        credentials=logins,
        secrets=setup.secrets,
        own_folders=(setup.paths.config.parent, setup.paths.state, setup.paths.cache),
    )
    hub = McpHub(
        servers,
        dialler=dialler,
        credentials=logins,
        secrets=setup.secrets,
        timeouts=setup.config.timeouts,
        budget=Budget(
            tools=setup.config.limits.max_tools,
            description=setup.config.limits.max_description,
            schema=setup.config.limits.max_schema,
        ),
        cache=SchemaCache(setup.paths.cache / "servers"),
        logs=setup.paths.state / "logs",
        emit=emit,
        visible=visible,
        refresh=refresh,
        watch=watch,
    )
    try:
        await hub.spawn_unknown()
        yield hub
    finally:
        # To the end: a second Ctrl-C must not leave servers behind, nor lose a token that is on its way.
        closing = asyncio.create_task(hub.aclose())
        while not closing.done():
            with suppress(asyncio.CancelledError):
                await asyncio.wait({closing})
        await logins.settle()
        closing.result()


def read_log(setup: Setup, server: str) -> str:
    """The text of a server's log file, empty where there is none."""
    from mcpchat.adapters.server_log import ServerLog

    return ServerLog(setup.paths.state / "logs" / f"{server}.log").text()


@dataclass(frozen=True, kw_only=True)
class Chat:
    """A session and what belongs to it."""

    session: Session
    hub: McpHub
    toolbox: Toolbox
    setup: Setup
    models: Models
    logins: Logins

    @property
    def tables(self) -> Sequence[str]:
        """The models that the config names."""
        return tuple(self.setup.config.model.entries)

    async def switch(self, name: str) -> None:
        """Go on with another model. Raises NoModel, ConfigError."""
        self.session.switch(await self.models.choose(name))

    async def login(self, name: str) -> None:
        """Have the person sign in, and the servers that wait for it start anew. Raises what can go wrong."""
        await self.logins.login(name)
        name = self.logins.resolve(name)
        here = {status.name for status in self.hub.status()}  # an agent may leave some out
        for server in self.logins.servers_of(name):
            if server in here:
                await self.hub.restart(server)

    def login_names(self) -> Sequence[str]:
        """What can be signed in to."""
        return self.logins.names()

    async def offered(self) -> Sequence[str]:
        """What the server in use lists as its models. Raises ModelError, NoModel, ConfigError."""
        return await self.models.offered()


def make_logins(setup: Setup, asker: Asker, screen: SignInScreen, *, in_chat: bool = False) -> Logins:
    """The logins of a run; whoever answers questions is asked before a server has anybody sign in."""
    return Logins(setup, screen, agree=asker.confirm, in_chat=in_chat)


def browse(url: str) -> bool:
    """Start the user's browser at an address: whether one was started."""
    return open_page(url, os.environ)


def make_host(
    setup: Setup,
    asker: Asker,
    emit: Emit,
    *,
    yes: bool = False,
    model: Callable[[], ModelChoice | None] = lambda: None,
    charge: Callable[[Usage], None] = lambda usage: None,
) -> Host:
    """Who answers what servers ask: the asker, and the model where there is one."""
    return AskingHost(
        asker,
        emit=emit,
        check=schema_check.problem,
        model=model,
        charge=charge,
        yes=yes,
        clean=setup.secrets.redact_value,
    )


@asynccontextmanager
async def open_chat(
    setup: Setup, wishes: Wishes, *, emit: Emit, asker: Asker, screen: SignInScreen, watch: bool = False
) -> AsyncIterator[Chat]:
    """A session, ready to send; all that it started is stopped at the end. ``watch`` is for one that lasts.

    The order is for speed: servers whose tools are unknown are started first and boot while the model's SDK is
    imported here.
    """
    agent = choose_agent(setup.config, wishes.agent)
    emit = Discreet(emit, setup.secrets)
    sessions: list[Session] = []  # the one to come: a server may ask for its model
    host = make_host(
        setup,
        asker,
        emit,
        yes=wishes.yes,
        model=lambda: sessions[0].model if sessions else None,
        charge=lambda usage: sessions[0].charge(usage),
    )
    logins = make_logins(setup, asker, screen, in_chat=watch)
    async with open_hub(setup, emit, host, logins=logins, agent=agent, refresh=wishes.refresh, watch=watch) as hub:
        limits = _limits(setup.config, wishes, steps=STEPS_IN_CHAT if watch else STEPS)
        models = Models(setup, priced=wishes.priced, must_be_priced=limits.max_dollars is not None)
        model = await models.choose(wishes.model or agent.model)
        agreed = pinned(setup, hub, asker, emit)
        session = Session(
            model=model,
            toolbox=BoundedToolbox(
                agreed, limit=setup.config.limits.max_result, store=ResultFiles(setup.paths.state / "results")
            ),
            gate=make_gate(setup, wishes, asker, agreed, emit),
            emit=emit,
            instructions=agent.instructions,
            limits=limits,
            schema=AnswerSchema(dict(wishes.schema), schema_check.problem) if wishes.schema is not None else None,
        )
        sessions.append(session)
        yield Chat(session=session, hub=hub, toolbox=agreed, setup=setup, models=models, logins=logins)


def _limits(config: Config, wishes: Wishes, steps: int = STEPS) -> Limits:
    return Limits(
        max_steps=wishes.max_steps or config.limits.max_steps or steps,
        max_calls=config.limits.max_calls,
        max_tokens=wishes.max_tokens or config.limits.max_tokens,
        max_dollars=config.limits.max_cost if wishes.max_cost is None else wishes.max_cost,
    )


def read_schema(text: str) -> dict[str, Any]:
    """The JSON Schema in this text, or in the file that it names. Raises UsageError for what is none."""
    source = "--schema"
    if not text.strip():
        raise UsageError("--schema is empty", hint="a file, or the schema itself")
    if text.strip() in {"true", "false"} or text.lstrip().startswith("["):
        raise UsageError("--schema: a JSON Schema is an object here", hint='{"type": "object", ...}')
    if not text.lstrip().startswith("{"):
        source = f"--schema {text}"
        try:
            text = Path(text).expanduser().read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError, ValueError, RuntimeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
            raise UsageError(f"{source}: cannot be read: {reason}", hint="a file, or the schema itself") from error
    try:
        schema = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{source}: not JSON: {error}") from error
    if not isinstance(schema, dict):
        raise UsageError(f"{source}: a JSON Schema is an object")
    if problem := schema_check.unusable(schema):
        raise UsageError(f"{source}: {problem}")
    return schema


def read_attachments(names: Sequence[str]) -> tuple[Part, ...]:
    """The files, as parts of a message. Raises UsageError."""
    from mcpchat.adapters import attachments

    return tuple(part for name in names for part in attachments.read(name))
