"""The composition root: from the config and the environment to a running session; the one place that picks adapters."""

import asyncio
import gc
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from mcpchat.adapters import schema_check
from mcpchat.adapters.mcp_hub import McpHub
from mcpchat.adapters.mcp_link import Connector
from mcpchat.adapters.result_store import ResultFiles
from mcpchat.adapters.schema_cache import SchemaCache
from mcpchat.core import config as configuration
from mcpchat.core.approvals import Policy, rules
from mcpchat.core.bounded import BoundedToolbox
from mcpchat.core.config import AgentConfig, Config
from mcpchat.core.errors import ConfigError, ModelError, NoModel, UsageError
from mcpchat.core.events import Emit
from mcpchat.core.gate import Gate
from mcpchat.core.host import AskingHost
from mcpchat.core.ports import Asker, Host, ModelChoice
from mcpchat.core.session import Session
from mcpchat.core.tools import ToolSpec, matches, nearest

DEFAULT_MODEL = "gpt-5.5"
OPENAI = "https://api.openai.com/v1"


@dataclass(frozen=True)
class Paths:
    """Where things are kept: the config file, and folders for what can be rebuilt and for what cannot."""

    config: Path
    cache: Path
    state: Path


@dataclass(frozen=True, kw_only=True)
class Wishes:
    """What one run asks for, over the config."""

    model: str | None = None
    agent: str | None = None
    allow: tuple[str, ...] = ()
    deny: tuple[str, ...] = ()
    yes: bool = False
    refresh: bool = False


@dataclass(frozen=True, kw_only=True)
class Setup:
    """What every command starts from."""

    config: Config
    environ: Mapping[str, str]
    paths: Paths


def default_paths(environ: Mapping[str, str]) -> Paths:
    """The platform's folders; MCPCHAT_CONFIG names another config file."""
    import platformdirs

    folders = platformdirs.PlatformDirs("mcpchat", appauthor=False)
    named = environ.get("MCPCHAT_CONFIG")
    return Paths(
        config=Path(named).expanduser() if named else folders.user_config_path / "config.toml",
        cache=folders.user_cache_path,
        state=folders.user_state_path,
    )


def starter() -> str:
    """The commented config file to start from."""
    from importlib.resources import files

    return files("mcpchat").joinpath("starter.toml").read_text(encoding="utf-8")


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
    return configuration.parse(_read(path), str(path))


@contextmanager
def _importing() -> Iterator[None]:
    """No garbage collection while an SDK is imported; what is there afterwards stays, and is never looked at again."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def load_sdk() -> Connector:
    """The adapter that imports the mcp SDK."""
    with _importing():
        from mcpchat.adapters import mcp_server

    return mcp_server


def choose_agent(config: Config, name: str | None) -> AgentConfig:
    """The agent by name; without one, the agent named "default", or none at all. Raises UsageError."""
    if name is None:
        return config.agents.get("default", AgentConfig())
    if name not in config.agents:
        close = nearest(name, config.agents)
        known = f"did you mean {close[0]!r}?" if close else f"known: {', '.join(config.agents) or 'none'}"
        raise UsageError(f"no agent is named {name!r}; {known}", hint="agents are tables in the config: [agents.NAME]")
    return config.agents[name]


@asynccontextmanager
async def open_hub(
    setup: Setup,
    emit: Emit,
    host: Host,
    *,
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

    hub = McpHub(
        servers,
        environ=setup.environ,
        timeouts=setup.config.timeouts,
        cache=SchemaCache(setup.paths.cache / "servers"),
        logs=setup.paths.state / "logs",
        host=host,
        load_sdk=load_sdk,
        emit=emit,
        most_bytes=setup.config.limits.max_message,
        visible=visible,
        refresh=refresh,
        watch=watch,
    )
    try:
        await hub.spawn_unknown()
        yield hub
    finally:
        # Shielded: a second Ctrl-C must not leave servers behind.
        await asyncio.shield(hub.aclose())


def read_log(setup: Setup, server: str) -> str:
    """The text of a server's log file, empty where there is none."""
    from mcpchat.adapters.server_log import ServerLog

    return ServerLog(setup.paths.state / "logs" / f"{server}.log").text()


def make_policy(config: Config, wishes: Wishes) -> Policy:
    """The config's rules and the run's. Raises UsageError for a glob that can match nothing."""
    approvals = config.approvals
    for glob in (*wishes.allow, *wishes.deny):
        if problem := configuration.idle_glob(glob, config.servers):
            raise UsageError(problem, hint="mcpchat tools lists the names")
    written = (
        *rules("deny", approvals.deny),
        *rules("deny", wishes.deny, "--deny"),
        *rules("ask", approvals.ask),
        *rules("allow", approvals.allow),
    )
    policy = Policy(rules=written, default=approvals.default).granting(*wishes.allow, source="--allow")
    return policy.granting("*", source="--yes") if wishes.yes else policy


async def choose_model(setup: Setup, name: str | None) -> ModelChoice:
    """The model by its name, else the configured one, else the one the environment names.

    Raises NoModel where nothing says which, with the ways on as its hint; ConfigError for a key that leads nowhere.
    """
    wanted = setup.config.model
    environ = setup.environ
    name = name or wanted.name or environ.get("MCPCHAT_MODEL") or environ.get("OPENAI_MODEL")
    if name == "demo":
        from mcpchat.adapters.demo_model import NOTICE, DemoModel

        return ModelChoice(name=name, adapter=DemoModel(), notice=NOTICE)
    base_url = wanted.base_url or environ.get("OPENAI_BASE_URL") or OPENAI
    if not configuration.is_http(base_url):
        raise ConfigError(f"the model's address is {base_url!r}: expected http:// or https://", hint="OPENAI_BASE_URL")
    key = await _model_key(setup)
    if not key and urlsplit(base_url).hostname == urlsplit(OPENAI).hostname:
        raise NoModel(await ways_to_a_model(name))
    with _importing():
        from mcpchat.adapters.openai_chat import OpenAIChat
        from mcpchat.adapters.openai_client import OpenAIClient

    client = OpenAIClient(base_url=base_url, api_key=key)
    if name is None and not client.is_openai:
        raise NoModel(await _which_model(client.base_url, client))
    options = {
        option: value
        for option, value in (("temperature", wanted.temperature), ("max_output_tokens", wanted.max_output_tokens))
        if value is not None
    }
    return ModelChoice(name=name or DEFAULT_MODEL, adapter=OpenAIChat(client), options=options)


async def _model_key(setup: Setup) -> str | None:
    from mcpchat.adapters.secrets import header_value

    if setup.config.model.api_key:
        return await header_value(setup.config.model.api_key, setup.environ, where="model.api_key")
    if not setup.environ.get("OPENAI_API_KEY"):
        return None
    return await header_value("env:OPENAI_API_KEY", setup.environ, where="OPENAI_API_KEY")


async def _which_model(base_url: str, client: Any) -> str:
    try:
        offered = await client.models()
    except ModelError as error:
        return f"no model is named, and {base_url} does not say what it has: {error.message}\nName one: --model NAME"
    return f"no model is named; {base_url} has: {', '.join(offered) or 'none'}\nName one: --model NAME"


async def ways_to_a_model(name: str | None) -> str:
    """The screen for someone without a key: what to do next, the local servers that answer included."""
    from mcpchat.adapters import local_models

    found = await local_models.find()
    if found:
        local = "\n".join(
            f"       OPENAI_BASE_URL={server.base_url} mcpchat --model {(server.models or ('NAME',))[0]}\n"
            f"       ({server.name} is running here{', with ' + ', '.join(server.models[:5]) if server.models else ''})"
            for server in found
        )
    else:
        local = (
            "       OPENAI_BASE_URL=http://127.0.0.1:11434/v1 mcpchat --model NAME\n"
            "       (none is running here now: looked for Ollama, LM Studio and llama.cpp on their usual ports)"
        )
    asked = f" for {name}" if name else ""
    return (
        f"there is no model to talk to{asked}: OPENAI_API_KEY is not set. Three ways on:\n"
        "\n"
        "  1. Set a key of OpenAI, or of any compatible service (then OPENAI_BASE_URL too):\n"
        "       export OPENAI_API_KEY=...\n"
        "  2. Point at a model server on this machine:\n"
        f"{local}\n"
        "  3. Try the demo, which needs neither key nor network:\n"
        '       mcpchat ask --model demo "What is 1234 * 5678?"\n'
        "\n"
        "The first two can be kept in the config file, under [model]: mcpchat config init"
    )


@dataclass(frozen=True, kw_only=True)
class Chat:
    """A session and what belongs to it."""

    session: Session
    hub: McpHub
    setup: Setup

    async def switch_model(self, name: str) -> None:
        """Go on with another model. Raises NoModel, ConfigError."""
        self.session.model = await choose_model(self.setup, name)


def make_host(
    asker: Asker, emit: Emit, *, yes: bool = False, model: Callable[[], ModelChoice | None] = lambda: None
) -> Host:
    """Who answers what servers ask: the asker, and the model where there is one."""
    return AskingHost(asker, emit=emit, check=schema_check.problem, model=model, yes=yes)


@asynccontextmanager
async def open_chat(
    setup: Setup, wishes: Wishes, *, emit: Emit, asker: Asker, watch: bool = False
) -> AsyncIterator[Chat]:
    """A session, ready to send; all that it started is stopped at the end. ``watch`` is for one that lasts.

    The order is for speed: servers whose tools are unknown are started first and boot while the model's SDK is
    imported here.
    """
    agent = choose_agent(setup.config, wishes.agent)
    sessions: list[Session] = []  # the one to come: a server may ask for its model
    host = make_host(asker, emit, yes=wishes.yes, model=lambda: sessions[0].model if sessions else None)
    async with open_hub(setup, emit, host, agent=agent, refresh=wishes.refresh, watch=watch) as hub:
        model = await choose_model(setup, wishes.model or agent.model)
        session = Session(
            model=model,
            toolbox=BoundedToolbox(
                hub, limit=setup.config.limits.max_result, store=ResultFiles(setup.paths.state / "results")
            ),
            gate=Gate(make_policy(setup.config, wishes), asker),
            emit=emit,
            instructions=agent.instructions,
            max_steps=setup.config.limits.max_steps,
        )
        sessions.append(session)
        yield Chat(session=session, hub=hub, setup=setup)
