"""The context of a run: the config, the environment, the platform's folders, and the options of the run."""

import gc
import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from mcpchat.config.known_secrets import find_known_secrets
from mcpchat.config.same_server import find_aliases
from mcpchat.config.schema import AgentConfig, Config
from mcpchat.errors import ConfigError, StoreError, UsageError
from mcpchat.util.paths import expand_user
from mcpchat.util.private_files import open_to_append
from mcpchat.util.redaction import SecretRegistry
from mcpchat.util.text import suggest

_IMPORT_LOCK = threading.RLock()


def working_directory() -> Path:
    """The current working folder; the root folder if it was deleted."""
    try:
        return Path.cwd()
    except OSError:
        return Path("/")


@dataclass(frozen=True)
class Paths:
    """The config file, and the folders for the cache (can be rebuilt), for state (cannot), and for data (threads)."""

    config: Path
    cache: Path
    state: Path
    data: Path


class ConfigChoice(NamedTuple):
    """What the command line says of the config: the file, servers to add, how long to keep servers."""

    path: Path | None
    servers: tuple[str, ...] = ()
    keep: str | None = None


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """The options of one run; they override the config.

    ``track_cost`` looks up prices. ``thread`` is the thread to continue (its id or title, optionally with @NUMBER),
    ``continue_latest`` continues the latest thread; ``title`` names a new one. Without ``save`` nothing is stored, and
    without ``with_tools`` the model gets no tools.
    """

    model: str | None = None
    agent: str | None = None
    allow: tuple[str, ...] = ()
    deny: tuple[str, ...] = ()
    yes: bool = False
    refresh: bool = False
    max_steps: int | None = None
    max_tokens: int | None = None
    max_cost: float | None = None
    schema: Mapping[str, Any] | None = None
    track_cost: bool = False
    thread: str | None = None
    continue_latest: bool = False
    title: str = ""
    save: bool = True
    with_tools: bool = True


@dataclass(kw_only=True)
class RunContext:
    """The context that every command receives. Only a chat changes it, with ``use_config``.

    ``secrets`` collects each secret that the run reads or receives; those of the config that need no question are known
    from the start, also of servers that the run does not start. ``working_directory`` is the folder in which the
    run was started. ``server_aliases`` has the user's own names of each server of a project file, by its name; they are
    found in the first config of the run, and stay if the context is restricted to one server.
    """

    config: Config
    environ: Mapping[str, str]
    paths: Paths
    secrets: SecretRegistry = field(default_factory=SecretRegistry)
    working_directory: Path = field(default_factory=working_directory)
    server_aliases: Mapping[str, tuple[str, ...]] | None = None

    def __post_init__(self) -> None:
        self.secrets.add(*find_known_secrets(self.config, self.environ))
        if self.server_aliases is None:
            self.server_aliases = find_aliases(self.config.servers)

    def use_config(self, config: Config) -> None:
        """Go on with another config: the file was changed. All who have this context use it from now on."""
        self.config, self.server_aliases = config, find_aliases(config.servers)
        self.secrets.add(*find_known_secrets(config, self.environ))


def default_paths(environ: Mapping[str, str]) -> Paths:
    """The default paths of the platform. MCPCHAT_CONFIG overrides the path of the config file."""
    import platformdirs

    folders = platformdirs.PlatformDirs("mcpchat", appauthor=False)
    config_override = environ.get("MCPCHAT_CONFIG")
    try:
        _ = folders.user_config_path, folders.user_cache_path, folders.user_state_path, folders.user_data_path
    except RuntimeError as error:
        raise ConfigError("your user has no home folder", hint="set HOME, or XDG_CONFIG_HOME and the like") from error
    return Paths(
        config=expand_user(config_override) if config_override else folders.user_config_path / "config.toml",
        cache=folders.user_cache_path,
        state=folders.user_state_path,
        data=folders.user_data_path,
    )


def history_file(context: RunContext) -> Path | None:
    """The file for the input history, created if it is missing; None if it cannot be written."""
    path = context.paths.state / "history"
    try:
        os.close(open_to_append(path))
    except StoreError:
        return None
    return path


@contextmanager
def sdk_import() -> Iterator[None]:
    """Disable garbage collection while an SDK is imported, and freeze the imported objects afterwards (gc.freeze).

    Only one import at a time: if two threads import the same packages, one may see partially initialized modules.
    """
    with _IMPORT_LOCK:
        gc.disable()
        try:
            yield
        finally:
            gc.freeze()
            gc.enable()


def resolve_agent_name(config: Config, name: str | None) -> str:
    """The name of the agent to use: ``name``, else "default" if the config has that agent, else empty."""
    return name if name is not None else "default" if "default" in config.agents else ""


def get_agent(config: Config, name: str | None) -> AgentConfig:
    """The agent with this name; without a name, the agent "default", or an agent with default settings.

    Raises UsageError if no agent has the name.
    """
    if name is None:
        return config.agents.get("default", AgentConfig())
    if name not in config.agents:
        suggestion = suggest(name, config.agents)
        raise UsageError(
            f"no agent is named {name!r}; {suggestion}", hint="agents are tables in the config: [agents.NAME]"
        )
    return config.agents[name]
