"""What everything starts from: the config, the environment, the platform's folders, what one run asks for."""

import gc
import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mcpchat.config.schema import AgentConfig, Config
from mcpchat.errors import StoreError, UsageError
from mcpchat.util.private_files import open_to_append
from mcpchat.util.redaction import SecretRegistry
from mcpchat.util.text import suggest

_IMPORT_LOCK = threading.RLock()


def working_directory() -> Path:
    """The folder that the program was started in; the root where that is gone."""
    try:
        return Path.cwd()
    except OSError:
        return Path("/")


@dataclass(frozen=True)
class Paths:
    """Where things are kept: the config file, and folders for what can be rebuilt, for what cannot, and for threads."""

    config: Path
    cache: Path
    state: Path
    data: Path


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """What one run asks for, over the config.

    ``priced``: what it costs is to be known. ``thread`` is one to go on with (its id or title, or that and @NUMBER),
    ``go_on`` wants the latest; ``title`` names a new one; without ``save`` nothing is kept, and without ``tools`` none
    are offered.
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


@dataclass(frozen=True, kw_only=True)
class RunContext:
    """What every command starts from.

    ``secrets`` learns each secret that the run comes to hold; ``folder`` is where it was started.
    """

    config: Config
    environ: Mapping[str, str]
    paths: Paths
    secrets: SecretRegistry = field(default_factory=SecretRegistry)
    working_directory: Path = field(default_factory=working_directory)


def default_paths(environ: Mapping[str, str]) -> Paths:
    """The platform's folders; MCPCHAT_CONFIG names another config file."""
    import platformdirs

    folders = platformdirs.PlatformDirs("mcpchat", appauthor=False)
    config_override = environ.get("MCPCHAT_CONFIG")
    return Paths(
        config=Path(config_override).expanduser() if config_override else folders.user_config_path / "config.toml",
        cache=folders.user_cache_path,
        state=folders.user_state_path,
        data=folders.user_data_path,
    )


def history_file(context: RunContext) -> Path | None:
    """Where what was typed is kept, ready to be written to; None where it cannot be."""
    path = context.paths.state / "history"
    try:
        os.close(open_to_append(path))
    except StoreError:
        return None
    return path


@contextmanager
def sdk_import() -> Iterator[None]:
    """No garbage collection while an SDK is imported; what is there afterwards stays, and is never looked at again.

    One import at a time: of two threads that import the same packages, one may find the other's half made.
    """
    with _IMPORT_LOCK:
        gc.disable()
        try:
            yield
        finally:
            gc.freeze()
            gc.enable()


def resolve_agent_name(config: Config, name: str | None) -> str:
    """The name of the agent that is meant; empty where there is none in particular."""
    return name if name is not None else "default" if "default" in config.agents else ""


def get_agent(config: Config, name: str | None) -> AgentConfig:
    """The agent by name; without one, the agent named "default", or none at all. Raises UsageError."""
    if name is None:
        return config.agents.get("default", AgentConfig())
    if name not in config.agents:
        suggestion = suggest(name, config.agents)
        raise UsageError(
            f"no agent is named {name!r}; {suggestion}", hint="agents are tables in the config: [agents.NAME]"
        )
    return config.agents[name]
